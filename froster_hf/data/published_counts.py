"""Checks a table's class and clip counts against the published ones (`published_counts.json`)."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from datasets import Dataset

from .video_table import label_array, label_names


class CountMismatchError(ValueError):
    """A table that does not have the published number of classes or clips."""


@cache
def published_counts() -> dict[str, dict[str, dict[str, int]]]:
    """Published counts, {data set: {part: {"classes": n, "clips": n}}}; no `clips` where none was published."""
    text = files(__package__).joinpath("published_counts.json").read_text(encoding="utf-8")
    return {name: parts for name, parts in json.loads(text).items() if not name.startswith("_")}


def count_differences(dataset: Dataset, *, name: str, part: str) -> dict[str, dict[str, Any]]:
    """What differs from the published counts; empty when all agree.

    Args:
        dataset: {video, label} table.
        name: `ucf101`, `hmdb51`, `ssv2`, `k400` or `k600`.
        part: `all`, `test_split`, `base_train`, `base_test` or `novel_test`.

    Returns:
        {"classes" or "clips": {"found": n, "published": n}}.

    Classes are counted by their clips, so a class whose videos are all missing shows.

    Raises:
        ValueError: nothing is published for this data set and part.
    """
    try:
        published = published_counts()[name][part]
    except KeyError:
        known = {known_name: sorted(parts) for known_name, parts in published_counts().items()}
        raise ValueError(f"No published counts for name={name!r}, part={part!r}. Known: {known}.") from None
    label_names(dataset)
    found = {"classes": len(np.unique(label_array(dataset))), "clips": len(dataset)}
    return {key: {"found": found[key], "published": count} for key, count in published.items() if found[key] != count}


def check_counts(dataset: Dataset, *, name: str, part: str) -> None:
    """Raises `CountMismatchError` when `count_differences` finds any."""
    if differences := count_differences(dataset, name=name, part=part):
        told = ", ".join(
            f"{count['found']} {key} (published: {count['published']})" for key, count in differences.items()
        )
        raise CountMismatchError(
            f"{name}, {part}: found {told}. Check that all videos are there and that the official lists are used; "
            "numbers from other counts cannot be compared with the published ones."
        )
