"""K-shot samples and base/novel halves of a labeled table, as the base-to-novel protocol needs them.

The protocol (METHOD of the paper's Section 4; ViFi-CLIP): the frequent half of the classes is base, the rest novel;
training sees k clips of each base class; base and novel are tested separately, each over its own labels only.
"""

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from datasets import Dataset

from ..processing.label_matching import match_labels
from ..processing.text_files import shown_path
from .readers import read_labels
from .video_table import VIDEO_COLUMN, checked_column, label_array, label_names, video_name, with_labels


def listed_labels(names: Sequence[str], listed: Any, *, names_from: str = "the data set") -> list[str]:
    """The labels that a list gives, in its order and as the data set spells them; found by their words.

    Args:
        names: labels of the data set.
        listed: a list of some of them, or the path of a file of one.
        names_from: what has the names.

    Raises:
        ValueError: one is none of the names; names it and the file.
    """
    where = shown_path(listed) if isinstance(listed, (str, os.PathLike)) else "the list of labels"
    return list(
        match_labels(names, read_labels(listed), labels_from=names_from, names_from=where, allow_more=True).given
    )


def base_and_novel_labels(dataset: Dataset, *, base_labels: Any = None) -> tuple[list[str], list[str]]:
    """Splits the label texts in two.

    Args:
        dataset: the training clips, whose counts are the frequencies. Of classes as frequent as each other, the
            earlier ones are novel: with the official lists (fold 1) this gives the published halves of UCF-101 and
            HMDB-51.
        base_labels: the base half, a list or the path of a file; default: the ceil(K / 2) most frequent classes.

    Returns:
        Base and novel texts, each in label order.

    Raises:
        ValueError: `base_labels` names a class that the data set does not have, or all of them.
    """
    names = label_names(dataset)
    if base_labels is None:
        counts = _class_counts(dataset)
        rarest_first = np.argsort(counts, kind="stable")
        chosen = {names[index] for index in rarest_first[len(names) // 2 :]}
    else:
        chosen = set(listed_labels(names, base_labels))
    base = [name for name in names if name in chosen]
    novel = [name for name in names if name not in chosen]
    if not base or not novel:
        raise ValueError(
            f"The split leaves {len(base)} base and {len(novel)} novel labels; both halves need at least one."
        )
    return base, novel


def keep_labels(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """The rows of these labels, re-indexed to 0..len(labels)-1 in the given order; the other label texts are gone.

    Raises:
        ValueError: a text that is not a label of the data set, or stands twice.
    """
    names = label_names(dataset)
    unknown = sorted(set(labels) - set(names))
    if unknown or len(set(labels)) != len(labels):
        raise ValueError(
            f"labels must be distinct labels of the data set; unknown: {unknown[:5]}, given: {len(labels)}."
        )
    new_index = np.full(len(names), -1, dtype=np.int64)
    old_index = {name: index for index, name in enumerate(names)}
    new_index[[old_index[label] for label in labels]] = np.arange(len(labels))
    relabeled = new_index[label_array(dataset)]
    kept = np.flatnonzero(relabeled >= 0)
    # Relabel first, select second: adding a column to a selection would copy the videos that a table embeds.
    return with_labels(dataset, np.maximum(relabeled, 0), labels).select(kept)


def hold_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """A table in two: to train on, and to measure on. Rows keep their order.

    Of every class with at least two videos, `share` of them is held out, at least one and never all. Which ones is a
    matter of their names: the same videos are held out again, wherever their folder lies. Videos without a label stay.

    Args:
        dataset: {video, label}.
        share: share of each class's videos, between 0 and 1.

    Raises:
        ValueError: a share outside of 0 to 1, or no class has two videos.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share held out is {share}; it must lie between 0 and 1.")
    labels = label_array(dataset)
    names = [
        video_name(row).replace("\\", "/").split("/") for row in checked_column(dataset, VIDEO_COLUMN)[VIDEO_COLUMN]
    ]
    ranks = [blake2b("/".join(parts[-2:]).encode(errors="replace"), digest_size=8).digest() for parts in names]
    held: list[int] = []
    for own in _rows_of_labels(labels, len(label_names(dataset))):
        rows = sorted(own.tolist(), key=lambda row: ranks[row])
        if len(rows) > 1:
            held += rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]
    if not held:
        raise ValueError("No class has two videos, so none can be held out. Give videos to measure on.")
    kept = np.setdiff1d(np.arange(len(dataset)), held)
    return dataset.select(kept), dataset.select(np.sort(held))


def sample_shots(dataset: Dataset, shots: int, *, seed: int) -> Dataset:
    """`shots` clips of every class, drawn without replacement; rows keep their order.

    A class's draw depends on the seed, its text and its own clips, not on the other classes.

    Args:
        seed: the published K-400 numbers average three samples: three seeds.

    Raises:
        ValueError: `shots` is not positive, or a class has fewer clips.
    """
    if shots < 1:
        raise ValueError(f"shots={shots}; at least 1 clip a class is needed.")
    names, labels = label_names(dataset), label_array(dataset)
    counts = _class_counts(dataset)
    short = {names[index]: int(count) for index, count in enumerate(counts) if count < shots}
    if short:
        raise ValueError(
            f"{len(short)} classes have fewer than {shots} clips: {dict(list(short.items())[:5])}. Take fewer shots."
        )
    chosen = []
    for name, rows in zip(names, _rows_of_labels(labels, len(names))):
        name_seed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
        generator = np.random.default_rng((seed, name_seed))
        chosen.append(generator.permutation(rows)[:shots])
    return dataset.select(np.sort(np.concatenate(chosen)))


def _rows_of_labels(labels: np.ndarray, num_labels: int) -> list[np.ndarray]:
    """The rows of each of K labels, in order; all labels are looked at once, and not once for each."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(num_labels + 1)))[1:-1]


def _class_counts(dataset: Dataset) -> np.ndarray:
    """Rows of each label, (K,); those without one are in none."""
    labels = label_array(dataset)
    return np.bincount(labels[labels >= 0], minlength=len(label_names(dataset)))
