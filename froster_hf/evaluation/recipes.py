"""Evaluation recipes: small YAML files, one per published setting, and the user's own paths beside them.

A recipe says *what* is evaluated (protocol, data set, views); `EvaluationData` says *where* the user keeps it.
`plans.py` makes the table and the protocol's parts of the two.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ..data.video_table import MissingFiles
from ..processing.video_sampling_froster import check_sampling

RECIPE_FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class EvaluationRecipe:
    """What is evaluated, and how.

    Args:
        name: of the recipe; a file's stem.
        protocol: `base_to_novel` (base and novel halves, harmonic mean), `cross_dataset` (full set, splits), or
            `random_labels` (label lists drawn from the moving-shapes world, whose clips are rendered).
        dataset: whose official annotation files are read; `moving_shapes` has none.
        folds: official folds; base-to-novel tests the first, cross-dataset averages over all.
        num_samples: few-shot samples, hence checkpoints, that the published number averages.
        num_views: V windows.
        num_crops: C crops.
        num_frames: T; None takes the checkpoint's.
        frame_stride: frames between two sampled ones at 30 frames a second.
        sampling: which frames, one of `SAMPLINGS` that draws no random numbers: `dense` (windows) or `uniform` (the
            whole video).
        num_label_splits: K-600 only: splits of the labels that are new.
        labels_per_split: K-600, moving shapes: labels a split.
        seeds: moving shapes only: a split is drawn and rendered from each.
        label_content: moving shapes only: `action` draws labels such as "a red star sliding left"; `appearance` has
            every colour of every shape without its motion ("a red star"); `motion` has every motion of one object that
            is drawn, so that motion alone decides.
        clips_per_label: moving shapes only.
    """

    name: str
    protocol: Literal["base_to_novel", "cross_dataset", "random_labels"]
    dataset: Literal["k400", "k600", "hmdb51", "ucf101", "ssv2", "moving_shapes"]
    folds: tuple[int, ...] = (1,)
    num_samples: int = 1
    num_views: int = 3
    num_crops: int = 1
    num_frames: int | None = None
    frame_stride: int = 16
    sampling: str = "dense"
    num_label_splits: int = 3
    labels_per_split: int = 160
    seeds: tuple[int, ...] = ()
    label_content: Literal["action", "appearance", "motion"] = "action"
    clips_per_label: int = 10

    def __post_init__(self):
        pairs = {
            "base_to_novel": ("k400", "hmdb51", "ucf101", "ssv2"),
            "cross_dataset": ("ucf101", "hmdb51", "k600"),
            "random_labels": ("moving_shapes",),
        }
        if self.protocol not in pairs:
            raise ValueError(f"Recipe {self.name}: protocol={self.protocol!r}; choose one of {list(pairs)}.")
        if self.dataset not in pairs[self.protocol]:
            raise ValueError(
                f"Recipe {self.name}: dataset={self.dataset!r}; {self.protocol} is for {list(pairs[self.protocol])}."
            )
        try:
            check_sampling(self.sampling, deterministic=True)
        except ValueError as error:
            raise ValueError(f"Recipe {self.name}: {error}") from error
        object.__setattr__(self, "folds", tuple(self.folds))
        if not isinstance(self.seeds, (list, tuple)) or not all(isinstance(seed, int) for seed in self.seeds):
            raise ValueError(f"Recipe {self.name}: seeds={self.seeds!r}; give a list of whole numbers, as [7, 8, 9].")
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if self.label_content not in ("action", "appearance", "motion"):
            raise ValueError(
                f"Recipe {self.name}: label_content={self.label_content!r}; choose action, appearance or motion."
            )
        if (self.protocol == "random_labels") != bool(self.seeds):
            raise ValueError(f"Recipe {self.name}: seeds={list(self.seeds)}; random_labels, and no other, needs some.")

    @property
    def video_options(self) -> dict[str, Any]:
        """Options of the video processor that the recipe fixes."""
        options: dict[str, Any] = {"sampling": self.sampling, "frame_stride": self.frame_stride}
        return options if self.num_frames is None else {**options, "num_frames": self.num_frames}


@dataclass(frozen=True)
class EvaluationData:
    """Where the user keeps the videos and the official annotation files.

    Args:
        root: folder of the videos; those of moving shapes are rendered into it.
        annotations: UCF-101 `ucfTrainTestlist`, HMDB-51 `testTrainMulti_7030_splits`, the Kinetics CSV or the
            Something-Something JSON of the *tested* clips; moving shapes have none.
        train_annotations: Kinetics-400 and Something-Something, base-to-novel: the training list, whose class counts
            split the labels in two.
        labels: Something-Something: the labels JSON.
        base_labels: list of the base labels (JSON), instead of splitting by frequency.
        known_labels: K-600: the K-400 labels (JSON), which are left out.
        label_splits: K-600: lists of labels (JSON), one a split; without them, seeded draws are used and reported.
        missing: what to do with listed videos that are not there.
    """

    root: str
    annotations: str | None = None
    train_annotations: str | None = None
    labels: str | None = None
    base_labels: str | None = None
    known_labels: str | None = None
    label_splits: tuple[str, ...] = ()
    missing: MissingFiles = "error"


def list_recipes() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))


def load_recipe(recipe: str | os.PathLike, *, overrides: Mapping[str, Any] | None = None) -> EvaluationRecipe:
    """A shipped recipe by name, or a YAML file.

    Args:
        recipe: name or path.
        overrides: fields to replace, such as `{"num_views": 1}`.

    Raises:
        ValueError: no such recipe, no mapping, an unknown field or value; names it.
    """
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPE_FOLDER / f"{recipe}.yaml"
    if not path.is_file():
        raise ValueError(f"No recipe {os.fspath(recipe)!r}. Shipped are {list_recipes()}; or give a .yaml file.")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    return checked(
        EvaluationRecipe, {"name": path.stem, **_mapping(fields, path), **(overrides or {})}, source=path.name
    )


def checked(kind: type, fields: Mapping[str, Any], *, source: str) -> Any:
    """A dataclass from named fields; `ValueError` names unknown and missing ones."""
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"{source}: unknown fields {unknown}. Known are {sorted(known)}.")
    needed = {name for name, entry in known.items() if entry.default is dataclasses.MISSING}
    needed -= {name for name, entry in known.items() if entry.default_factory is not dataclasses.MISSING}
    if absent := sorted(needed - set(fields)):
        raise ValueError(f"{source}: the fields {absent} are missing.")
    return kind(**fields)


def _mapping(fields: Any, path: Path) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold `field: value` lines.")
    return fields
