"""From a protocol and the user's data to one table and the parts of it that the protocol tests."""

from typing import Any

import numpy as np
from datasets import Dataset

from ..data.label_splits import base_and_novel_labels, keep_labels
from ..data.official_lists import read_hmdb51, read_kinetics, read_something_something, read_ucf101
from ..data.published_counts import count_differences
from ..data.readers import read_labels
from ..data.video_table import VIDEO_COLUMN, label_array, label_names
from .moving_shapes_labels import plan_random_labels
from .parts import Part, part_of_labels
from .plan import EvaluationPlan
from .protocols import EvaluationData, EvaluationProtocol


def plan_evaluation(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    """Reads the table that a protocol needs and cuts it into the protocol's parts.

    Raises:
        AnnotationError: an annotation file or a path in it cannot be used; names file and line.
        ValueError: a path is needed that `data` does not give.
    """
    if protocol.protocol == "random_labels":
        return plan_random_labels(protocol, root=data.root)
    if protocol.protocol == "base_to_novel":
        return _plan_base_to_novel(protocol, data)
    if protocol.dataset == "k600":
        return _plan_new_labels(protocol, data)
    return _plan_folds(protocol, data)


def _plan_base_to_novel(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    table = _read_tested(protocol, data)
    if data.base_labels is not None:
        base, novel = base_and_novel_labels(table, base_labels=read_labels(data.base_labels))
    else:
        base, novel = base_and_novel_labels(_read_training(protocol, data))
    labels, texts = label_array(table), label_names(table)
    parts = {name: part_of_labels(name, labels, texts, chosen) for name, chosen in (("base", base), ("novel", novel))}
    differences = {
        name: count_differences(keep_labels(table, chosen), name=protocol.dataset, part=published)
        for name, chosen, published in (("base", base, "base_test"), ("novel", novel, "novel_test"))
    }
    return EvaluationPlan(table, parts, {name: found for name, found in differences.items() if found})


def _plan_folds(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    annotations = _needed(data, "annotations", protocol)
    read = read_ucf101 if protocol.dataset == "ucf101" else read_hmdb51
    table = read(data.root, annotations=annotations, split="all", fold=1, missing=data.missing)
    row_of = {row["path"]: index for index, row in enumerate(table[VIDEO_COLUMN])}
    columns = np.arange(len(label_names(table)))
    parts = {"full": Part("full", np.arange(len(table)), columns)}
    differences = {"full": count_differences(table, name=protocol.dataset, part="all")}
    fold: Any
    for fold in protocol.folds:
        tested = read(data.root, annotations=annotations, split="test", fold=fold, missing=data.missing)
        name = f"split {fold}"
        parts[name] = Part(name, np.array([row_of[row["path"]] for row in tested[VIDEO_COLUMN]]), columns)
        if fold == 1:
            differences[name] = count_differences(tested, name=protocol.dataset, part="test_split")
    return EvaluationPlan(table, parts, {name: found for name, found in differences.items() if found})


def _plan_new_labels(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    annotations = _needed(data, "annotations", protocol)
    table = read_kinetics(data.root, annotations=annotations, missing=data.missing)
    known = set(read_labels(_needed(data, "known_labels", protocol)))
    new = [text for text in label_names(table) if text not in known]
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
            "lists: "
            "compare with care."
        )
    table = keep_labels(table, sorted(set(new).union(*splits)))
    labels, texts = label_array(table), label_names(table)
    parts = {
        f"split {number}": part_of_labels(f"split {number}", labels, texts, chosen)
        for number, chosen in enumerate(splits, start=1)
    }
    differences = {
        name: count_differences(table.select(part.rows), name="k600", part="novel_test")
        for name, part in parts.items()
    }
    return EvaluationPlan(table, parts, {name: found for name, found in differences.items() if found}, notes)


def _read_tested(protocol: EvaluationProtocol, data: EvaluationData) -> Dataset:
    annotations = _needed(data, "annotations", protocol)
    if protocol.dataset == "ssv2":
        labels = _needed(data, "labels", protocol)
        return read_something_something(data.root, annotations=annotations, labels=labels, missing=data.missing)
    if protocol.dataset == "k400":
        return read_kinetics(data.root, annotations=annotations, missing=data.missing)
    read = read_ucf101 if protocol.dataset == "ucf101" else read_hmdb51
    fold: Any = protocol.folds[0]
    return read(data.root, annotations=annotations, split="test", fold=fold, missing=data.missing)


def _read_training(protocol: EvaluationProtocol, data: EvaluationData) -> Dataset:
    """The training list for its class counts only: the videos need not be there."""
    if protocol.dataset in ("ucf101", "hmdb51"):
        read = read_ucf101 if protocol.dataset == "ucf101" else read_hmdb51
        fold: Any = protocol.folds[0]
        listed = _needed(data, "annotations", protocol)
        return read(data.root, annotations=listed, split="train", fold=fold, missing="keep")
    annotations = _needed(data, "train_annotations", protocol)
    if protocol.dataset == "k400":
        return read_kinetics(data.root, annotations=annotations, missing="keep")
    labels = _needed(data, "labels", protocol)
    return read_something_something(data.root, annotations=annotations, labels=labels, missing="keep")


def _needed(data: EvaluationData, name: str, protocol: EvaluationProtocol) -> str:
    value = getattr(data, name)
    if value is None:
        raise ValueError(f"Protocol {protocol.name} needs {name}=; see EvaluationData.")
    return value
