"""From a protocol and the user's data to one table and the parts of it that the protocol tests."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from ..data.catalogue import DATASETS, FORMATS, DataFiles, read_split
from ..data.label_splits import base_and_novel_labels, keep_labels
from ..data.official_lists import Split
from ..data.published_counts import count_differences, published_counts
from ..data.readers import read_labels
from ..data.video_table import VIDEO_COLUMN, label_array, label_names
from ..processing.label_matching import label_words
from .parts import Part, part_of_labels
from .protocols import EvaluationData, EvaluationProtocol


@dataclass(frozen=True)
class EvaluationPlan:
    """A protocol with its data read.

    Args:
        table: every clip that some part tests, with every label that some part has.
        parts: `base` and `novel`, or `full` (not for K-600 and moving shapes) and `split i`.
        count_differences: by part, what differs from the published counts.
        notes: what else a reader of the numbers must know.
    """

    table: Dataset
    parts: dict[str, Part]
    count_differences: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def plan_evaluation(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    """Reads the table that a protocol needs and cuts it into the protocol's parts.

    Raises:
        AnnotationError: an annotation file or a path in it cannot be used; names file and line.
        ValueError: a path is needed that `data` does not give.
    """
    return PLANS[DATASETS[protocol.dataset].plans[protocol.protocol]](protocol, data)


def _plan_halves(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    table = _read(protocol, data, split="test")
    if data.base_labels is not None:
        base, novel = base_and_novel_labels(table, base_labels=read_labels(data.base_labels))
    else:
        base, novel = base_and_novel_labels(_read(protocol, data, split="train"))
    labels, texts = label_array(table), label_names(table)
    parts = {name: part_of_labels(name, labels, texts, chosen) for name, chosen in (("base", base), ("novel", novel))}
    differences = {
        name: _differences(keep_labels(table, chosen), protocol, published)
        for name, chosen, published in (("base", base, "base_test"), ("novel", novel, "novel_test"))
    }
    return EvaluationPlan(table, parts, {name: found for name, found in differences.items() if found})


def _plan_folds(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    table = _read(protocol, data, split="all")
    row_of = {row["path"]: index for index, row in enumerate(table[VIDEO_COLUMN])}
    columns = np.arange(len(label_names(table)))
    parts = {"full": Part("full", np.arange(len(table)), columns)}
    differences = {"full": _differences(table, protocol, "all")}
    for fold in protocol.folds:
        tested = _read(protocol, data, split="test", fold=fold)
        name = f"split {fold}"
        parts[name] = Part(name, np.array([row_of[row["path"]] for row in tested[VIDEO_COLUMN]]), columns)
        if fold == 1:
            differences[name] = _differences(tested, protocol, "test_split")
    return EvaluationPlan(table, parts, {name: found for name, found in differences.items() if found})


def _plan_new_labels(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    table = _read(protocol, data, split="test")
    known_file = _needed(data, "known_labels", protocol)
    known = {label_words(label) for label in read_labels(known_file)}
    new = [text for text in label_names(table) if label_words(text) not in known]
    if not new or len(new) == len(label_names(table)):
        raise ValueError(
            f"{'All' if not new else 'None'} of the {len(label_names(table))} tested labels are in {known_file}, so "
            "there is nothing to tell new labels by. Give the labels of the data set that the model was trained on."
        )
    notes = []
    if data.label_splits:
        splits = [read_labels(file) for file in data.label_splits]
    else:
        size = min(protocol.labels_per_split, len(new))
        draws = [
            np.random.default_rng(split).permutation(len(new))[:size] for split in range(protocol.num_label_splits)
        ]
        splits = [[new[index] for index in np.sort(draw)] for draw in draws]
        notes.append(
            f"The {len(splits)} splits are seeded draws of {size} of the {len(new)} new labels, not the published "
            "lists: compare with care."
        )
    table = keep_labels(table, sorted(set(new).union(*splits)))
    labels, texts = label_array(table), label_names(table)
    parts = {
        f"split {number}": part_of_labels(f"split {number}", labels, texts, chosen)
        for number, chosen in enumerate(splits, start=1)
    }
    differences = {name: _differences(table.select(part.rows), protocol, "novel_test") for name, part in parts.items()}
    return EvaluationPlan(table, parts, {name: found for name, found in differences.items() if found}, notes)


def _plan_worlds(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    renders = FORMATS[DATASETS[protocol.dataset].format].renders
    assert renders is not None  # the catalogue gives this plan to data sets that are rendered
    table, parts, notes = importlib.import_module(renders).random_label_splits(protocol, root=data.root)
    return EvaluationPlan(table, parts, {}, notes)


# How the parts of a data set are made, by what its entry of the catalogue says of the protocol.
PLANS: dict[str, Callable[[EvaluationProtocol, EvaluationData], EvaluationPlan]] = {
    "halves": _plan_halves,
    "folds": _plan_folds,
    "new_labels": _plan_new_labels,
    "worlds": _plan_worlds,
}


def _read(protocol: EvaluationProtocol, data: EvaluationData, *, split: Split, fold: int | None = None) -> Dataset:
    """The tested clips, or, for `split="train"`, the training list alone: its videos need not be there."""
    name = DATASETS[protocol.dataset].format
    known = FORMATS[name]
    own_list = "train_annotations" if split == "train" and not known.has_folds else "annotations"
    needed = {field: _needed(data, own_list if field == "annotations" else field, protocol) for field in known.needs}
    missing = "keep" if split == "train" else data.missing
    files = DataFiles(data.root, **needed, missing=missing, allow_links=data.allow_links)
    return read_split(name, files, split=split, fold=protocol.folds[0] if fold is None else fold)


def _differences(table: Dataset, protocol: EvaluationProtocol, part: str) -> dict[str, Any]:
    """What differs from the published counts, where there are any."""
    if part not in published_counts().get(protocol.dataset, {}):
        return {}
    return count_differences(table, name=protocol.dataset, part=part)


def _needed(data: EvaluationData, name: str, protocol: EvaluationProtocol) -> str:
    value = getattr(data, name)
    if value is None:
        raise ValueError(f"Protocol {protocol.name} needs {name}=; see EvaluationData.")
    return value
