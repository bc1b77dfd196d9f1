"""The data sets that the package knows: one entry each, from which training, evaluation, cards and the docs derive.

A format is a way to write lists of videos, with the function that reads it; a data set is published in a format, has a
title, protocols and published counts. A new data set in a known format is one entry of `DATASETS`; a new format is its
reader and one entry of `FORMATS`. Published class and clip counts stand under the data set's name in
`published_counts.json`.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset

from ..printing import printable
from ..processing.text_files import AnnotationError
from .class_folders import read_video_folder
from .official_lists import Fold, Split, read_hmdb51, read_kinetics, read_something_something, read_ucf101
from .segment_lists import SegmentTable, read_activitynet, read_thumos14
from .video_lists import read_video_list
from .video_table import MissingFiles, label_array, label_names

PathLike = str | os.PathLike

# Of a rendered world, and of a batch: as many files as a folder should hold.
MOST_CLIPS = 1_000_000


@dataclass(frozen=True)
class DataFiles:
    """Where the user keeps one split of a data set.

    Attributes:
        root: folder of the videos.
        annotations: the list of the split, or the folder of lists.
        labels: file of the label names.
        missing: what to do with listed videos that are not there; see `video_table`.
        allow_links: whether links may lead out of `root`; see `read_video_folder`.
    """

    root: PathLike
    annotations: PathLike | None = None
    labels: PathLike | None = None
    missing: MissingFiles = "error"
    allow_links: bool = False

    @property
    def policy(self) -> dict[str, Any]:
        """The last two, as the readers take them."""
        return {"missing": self.missing, "allow_links": self.allow_links}


@dataclass(frozen=True)
class AnnotationFormat:
    """A way to list videos with their labels.

    Attributes:
        read: from the files, the split and the fold to a {video, label} table; `None` where videos are rendered
            or long.
        read_segments: reader of lists of long videos, from the files and the subset to the actions in them.
        renders: where videos are rendered, the module that does it, by name: nothing of the library imports a world.
        files: what the user gives, in words.
        needs: fields of [`DataFiles`] that must be given beside `root`.
        has_folds: whether `annotations` holds the lists of all splits and folds; elsewhere each split has its own.
        takes_folder: whether a folder of videos alone is a split.
        list_pattern: name of a file by which the folder of lists is known.
    """

    read: Callable[[DataFiles, Split, Fold], Dataset] | None
    files: str
    needs: tuple[str, ...] = ("annotations",)
    has_folds: bool = False
    takes_folder: bool = False
    read_segments: Callable[[DataFiles, str], SegmentTable] | None = None
    renders: str | None = None
    list_pattern: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        title: as people write it.
        format: a key of [`FORMATS`].
        plans: protocol of evaluation -> how its parts are made: `halves` (frequent and other half of the labels),
            `folds` (all clips, and each fold), `new_labels` (labels that another data set lacks), `worlds`, `segments`
            (actions in long videos) or `rendered_segments`.
        hub_copies: repositories of others on the Hub with its videos and lists.
    """

    title: str
    format: str
    plans: Mapping[str, str] = field(default_factory=dict)
    hub_copies: tuple[str, ...] = ()


def _read_ucf101(files: DataFiles, split: Split, fold: Fold) -> Dataset:
    return read_ucf101(files.root, annotations=_given(files.annotations), split=split, fold=fold, **files.policy)


def _read_hmdb51(files: DataFiles, split: Split, fold: Fold) -> Dataset:
    return read_hmdb51(files.root, annotations=_given(files.annotations), split=split, fold=fold, **files.policy)


def _read_kinetics(files: DataFiles, split: Split, fold: Fold) -> Dataset:
    return read_kinetics(files.root, annotations=_given(files.annotations), **files.policy)


def _read_ssv2(files: DataFiles, split: Split, fold: Fold) -> Dataset:
    annotations, labels = _given(files.annotations), _given(files.labels)
    return read_something_something(files.root, annotations=annotations, labels=labels, **files.policy)


def _read_list(files: DataFiles, split: Split, fold: Fold) -> Dataset:
    return read_video_list(_given(files.annotations), root=files.root, labels=files.labels, **files.policy)


def _read_folder(files: DataFiles, split: Split, fold: Fold) -> Dataset:
    if unused := [name for name in ("annotations", "labels") if getattr(files, name) is not None]:
        raise ValueError(
            f"The format 'folder' takes no {unused[0]}: the labels are the names of the folders in "
            f"{printable(str(files.root))}. Leave them out, or give the format of the list, such as 'list'."
        )
    return read_video_folder(files.root, **files.policy)


def _read_activitynet(files: DataFiles, subset: str) -> SegmentTable:
    return read_activitynet(_given(files.annotations), files.root, subset=subset, **files.policy)


def _read_thumos14(files: DataFiles, subset: str) -> SegmentTable:
    return read_thumos14(_given(files.annotations), files.root, subset=subset, **files.policy)


def _given(path: PathLike | None) -> PathLike:
    """For the type checker: `read_split` has looked at what a format needs."""
    assert path is not None
    return path


FORMATS: dict[str, AnnotationFormat] = {
    "folder": AnnotationFormat(_read_folder, "a folder of class folders", needs=(), takes_folder=True),
    "list": AnnotationFormat(_read_list, "a list, CSV or JSON Lines, of paths and labels"),
    "ucf101": AnnotationFormat(
        _read_ucf101, "the folder `ucfTrainTestlist`", has_folds=True, list_pattern="testlist01.txt"
    ),
    "hmdb51": AnnotationFormat(
        _read_hmdb51, "the folder `testTrainMulti_7030_splits`", has_folds=True, list_pattern="*_test_split1.txt"
    ),
    "kinetics": AnnotationFormat(_read_kinetics, "a CSV per split"),
    "ssv2": AnnotationFormat(
        _read_ssv2, "a JSON per split, and the JSON of the labels", needs=("annotations", "labels")
    ),
    "activitynet": AnnotationFormat(None, "the JSON with `database`", read_segments=_read_activitynet),
    "thumos14": AnnotationFormat(None, "the folder of `CLASS_test.txt` files", read_segments=_read_thumos14),
    "moving_shapes": AnnotationFormat(None, "a folder to render into", needs=(), renders="froster_hf.shapes.tables"),
}

DATASETS: dict[str, DataSet] = {
    "ucf101": DataSet(
        "UCF-101",
        "ucf101",
        plans={"base_to_novel": "halves", "cross_dataset": "folds"},
        hub_copies=("bitmind/UCF101-Videos",),
    ),
    "hmdb51": DataSet(
        "HMDB-51",
        "hmdb51",
        plans={"base_to_novel": "halves", "cross_dataset": "folds"},
        hub_copies=("MichiganNLP/hmdb",),
    ),
    "k400": DataSet("Kinetics-400", "kinetics", plans={"base_to_novel": "halves"}),
    "k600": DataSet("Kinetics-600", "kinetics", plans={"cross_dataset": "new_labels"}),
    "ssv2": DataSet(
        "Something-Something v2",
        "ssv2",
        plans={"base_to_novel": "halves"},
        hub_copies=("morpheushoc/something-something-v2",),
    ),
    "activitynet": DataSet("ActivityNet-1.3", "activitynet", plans={"temporal_detection": "segments"}),
    "thumos14": DataSet("THUMOS14", "thumos14", plans={"temporal_detection": "segments"}),
    "moving_shapes": DataSet(
        "Moving shapes (rendered)",
        "moving_shapes",
        plans={"random_labels": "worlds", "temporal_detection": "rendered_segments"},
    ),
}


def read_split(format_name: str, files: DataFiles, *, split: Split = "train", fold: int = 1) -> Dataset:
    """The {video, label} table of one split in a format of [`FORMATS`].

    Args:
        format_name: its key.
        files: where the split is.
        split: which one, where the format's annotations hold several.
        fold: which of the published splits.

    Raises:
        ValueError: no such format, or a file is needed that is not given; names it.
        AnnotationError: a file that cannot be used; names file and line.
    """
    if format_name not in FORMATS:
        raise ValueError(f"There is no format {format_name!r}; choose one of {', '.join(FORMATS)}.")
    known = FORMATS[format_name]
    if absent := [name for name in known.needs if getattr(files, name) is None]:
        raise ValueError(f"The format {format_name!r} needs {' and '.join(absent)}: {known.files}.")
    if known.read_segments is not None:
        raise ValueError(f"The format {format_name!r} lists actions in long videos, for protocols of detection alone.")
    if known.read is None:
        raise ValueError(f"Videos of the format {format_name!r} are rendered, not read.")
    return known.read(files, split, cast(Fold, fold))


def read_videos(
    videos: str | os.PathLike,
    *,
    root: str | os.PathLike | None = None,
    labels: Any = None,
    multi_label: bool = False,
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> Dataset:
    """A folder of class folders (`read_video_folder`) or a list (`read_video_list`), whichever it is.

    Args:
        videos: the folder, or the file of the list.
        root: for a list, the folder that its paths begin in; by default the one that the list lies in.
        labels: for a list, the names of its labels; see `read_video_list`.
        multi_label: for a list, whether a video may show several actions, or none.
        missing: what to do with videos that are not there, such as links that lead nowhere; see `video_table`.
        allow_links: whether links may lead out of the folder.

    Raises:
        AnnotationError: nothing is there, or it cannot be used; says why.
        ValueError: options of a list, given for a folder.
    """
    videos = Path(videos)
    if videos.is_dir():
        given = {"root": root, "labels": labels, "multi_label": multi_label or None}
        if unused := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"{printable(str(videos))} is a folder, whose class folders are the labels; `{unused[0]}` "
                f"(`--{unused[0].replace('_', '-')}`) is for lists."
            )
        return read_video_folder(videos, missing=missing, allow_links=allow_links)
    if not videos.is_file():
        raise AnnotationError(
            f"{printable(str(videos))} is neither a folder nor a file. Give a folder with one folder per class, or a "
            "list (CSV, JSON Lines) of paths and labels."
        )
    return read_video_list(
        videos,
        root=videos.parent if root is None else root,
        labels=labels,
        multi_label=multi_label,
        missing=missing,
        allow_links=allow_links,
    )


def datasets_of(protocol: str) -> list[str]:
    """Names of the data sets that a protocol of evaluation is for."""
    return [name for name, dataset in DATASETS.items() if protocol in dataset.plans]


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
