"""Evaluation protocols: small YAML files, one per published setting, and the user's own paths beside them.

A protocol says *what* is evaluated (protocol, data set, views); `EvaluationData` says *where* the user keeps it.
`plans.py` makes the table and the protocol's parts of the two.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.catalogue import datasets_of
from ..data.video_table import MissingFiles
from ..printing import one_line, printable
from ..processing.sampling_froster import check_sampling
from ..settings import SHIPPED_FOLDERS, list_named, override_fields, read_fields, read_named

PROTOCOL_FOLDER = SHIPPED_FOLDERS["protocol"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """What is evaluated, and how.

    Args:
        name: of the protocol; a file's stem.
        protocol: `base_to_novel` (base and novel halves, harmonic mean), `cross_dataset` (full set, splits), or
            `random_labels` (label lists drawn from the moving-shapes world, whose clips are rendered).
        dataset: a key of the catalogue's `DATASETS`; `moving_shapes` is rendered.
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
        about: what the setting is.
    """

    name: str
    protocol: Literal["base_to_novel", "cross_dataset", "random_labels"]
    dataset: str
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
    about: str = ""

    def __post_init__(self):
        known = datasets_of(self.protocol)
        if self.dataset not in known:
            raise ValueError(
                f"Protocol {self.name}: dataset={printable(repr(self.dataset))}; {self.protocol} is for {known}."
            )
        try:
            check_sampling(self.sampling, deterministic=True)
        except ValueError as error:
            raise ValueError(f"Protocol {self.name}: {one_line(str(error), limit=500)}") from error
        if (self.protocol == "random_labels") != bool(self.seeds):
            raise ValueError(
                f"Protocol {self.name}: seeds={list(self.seeds)}; random_labels, and no other, needs some."
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields that decide a result; `about` does not."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "about"}

    @property
    def video_options(self) -> dict[str, Any]:
        """Options of the video processor that the protocol fixes."""
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
        allow_links: whether symbolic links may lead out of the folder of the videos.
    """

    root: str
    annotations: str | None = None
    train_annotations: str | None = None
    labels: str | None = None
    base_labels: str | None = None
    known_labels: str | None = None
    label_splits: tuple[str, ...] = ()
    missing: MissingFiles = "error"
    allow_links: bool = False


def list_protocols() -> list[str]:
    """Names of the shipped protocols."""
    return list_named(PROTOCOL_FOLDER)


def load_protocol(protocol: str | os.PathLike, overrides: Sequence[str] = ()) -> EvaluationProtocol:
    """A shipped protocol by name, or a YAML file; one that says `extends: NAME` changes the fields that it names.

    Args:
        protocol: name or path.
        overrides: `field=value`, such as `num_views=1`. Values are read as YAML.

    Raises:
        ValueError: no such protocol, no YAML, an unknown field, or a value that the field does not take.
    """
    fields = override_fields(read_named(protocol, folder=PROTOCOL_FOLDER, what="protocol"), overrides)
    name = Path(protocol).stem
    return read_fields(EvaluationProtocol, {"name": name, **fields}, where=name)
