"""From a recipe's data section to the tables that are trained and evaluated on."""

import importlib
import logging

from datasets import Dataset

from ..data.catalogue import FORMATS, DataFiles, read_split
from ..data.label_splits import base_and_novel_labels, keep_labels, sample_shots
from ..data.official_lists import Split
from ..data.published_counts import count_differences
from ..data.readers import read_labels
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
    if (world_module := FORMATS[data.format].renders) is not None:
        if data.shots is not None:
            raise ValueError("data.shots draws from a data set; of moving shapes, render world.clips_per_class.")
        renderer = importlib.import_module(world_module)
        return renderer.render_world(world, root=_needed(data, "root"), label_set=data.label_set)
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
    known = FORMATS[data.format]
    has_own_split = data.eval_annotations is not None or (known.takes_folder and data.eval_root is not None)
    return _read(data, "test") if known.has_folds or has_own_split else None


def _read(data: RecipeData, split: Split) -> Dataset:
    root, annotations = _needed(data, "root"), data.annotations
    if split == "test":
        root = data.eval_root or root
        annotations = data.eval_annotations or annotations
    for name in FORMATS[data.format].needs:
        if name != "annotations" or annotations is None:
            _needed(data, name)
    files = DataFiles(root, annotations, data.labels, missing=data.missing, allow_links=data.allow_links)
    return read_split(data.format, files, split=split, fold=data.fold)


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
