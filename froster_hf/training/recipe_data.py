"""From a recipe's data section to the tables that are trained and evaluated on."""

import logging
from typing import Any

from datasets import Dataset

from ..data.class_folders import read_video_folder
from ..data.label_splits import base_and_novel_labels, keep_labels, sample_shots
from ..data.official_lists import read_hmdb51, read_kinetics, read_something_something, read_ucf101
from ..data.published_counts import count_differences
from ..data.readers import read_labels
from ..data.video_lists import read_video_list
from .recipe_world import render_world
from .recipes import RecipeData, RecipeWorld

logger = logging.getLogger(__name__)


def read_recipe_data(data: RecipeData, world: RecipeWorld) -> tuple[Dataset, dict[str, Dataset]]:
    """Reads the tables of a recipe; those of `moving_shapes` are rendered.

    Returns:
        The training table, and the evaluation tables: `all`, or `base` and `novel`; empty where the recipe has none.

    Raises:
        AnnotationError: a file or line that cannot be read; names it.
        ValueError: a path is needed that the recipe does not give.
    """
    if data.format == "moving_shapes":
        if data.shots is not None:
            raise ValueError("data.shots draws from a data set; of moving shapes, render world.clips_per_class.")
        return render_world(world, root=_needed(data, "root"), label_set=data.label_set)
    train, test = _read(data, "train"), _read_evaluation(data)
    evaluation = {} if test is None else {"all": test}
    if data.label_set == "base":
        base_labels = None if data.base_labels is None else read_labels(data.base_labels)
        base, novel = base_and_novel_labels(train, base_labels=base_labels)
        train = keep_labels(train, base)
        if test is not None:
            evaluation = {"base": keep_labels(test, base), "novel": keep_labels(test, novel)}
    if data.shots is not None:
        train = sample_shots(train, data.shots, seed=data.shots_seed)
    _compare_counts(data, train)
    return train, evaluation


def _read_evaluation(data: RecipeData) -> Dataset | None:
    if data.format in ("ucf101", "hmdb51"):
        return _read(data, "test")
    if data.eval_annotations is None and (data.format != "folder" or data.eval_root is None):
        return None
    return _read(data, "test")


def _read(data: RecipeData, split: Any) -> Dataset:
    root, annotations = _needed(data, "root"), data.annotations
    if split == "test":
        root = data.eval_root or root
        annotations = data.eval_annotations or annotations
    if data.format == "folder":
        return read_video_folder(root)
    if annotations is None:
        annotations = _needed(data, "annotations")
    if data.format == "list":
        return read_video_list(annotations, root=root, labels=data.labels, missing=data.missing)
    if data.format == "kinetics":
        return read_kinetics(root, annotations=annotations, missing=data.missing)
    if data.format == "ssv2":
        labels = _needed(data, "labels")
        return read_something_something(root, annotations=annotations, labels=labels, missing=data.missing)
    read = read_ucf101 if data.format == "ucf101" else read_hmdb51
    return read(root, annotations=annotations, split=split, fold=data.fold, missing=data.missing)


def _needed(data: RecipeData, name: str) -> str:
    value = getattr(data, name)
    if value is None:
        raise ValueError(f"Data of the format {data.format!r} need data.{name}; give data.{name}=PATH.")
    return value


def _compare_counts(data: RecipeData, train: Dataset) -> None:
    if data.published is None:
        return
    part = "base_train" if data.label_set == "base" else "all"
    for what, counts in count_differences(train, name=data.published, part=part).items():
        logger.warning(
            "The training set has %d %s, the published one %d: numbers cannot be compared with the published ones.",
            counts["found"],
            what,
            counts["published"],
        )
