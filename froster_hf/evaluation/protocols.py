"""Evaluation protocols: small YAML files, one per published setting, and the user's own paths beside them.

A protocol says *what* is evaluated (protocol, data set, views); `EvaluationData` says *where* the user keeps it.
`plan_evaluation` makes of the two one table and its parts, and `evaluate_scores` the numbers of a part.

A model scores every clip of the table against all of its labels once. A part then takes rows and columns: its clips,
and only its own labels. That equals running the model on a shorter label list, since a label's embedding does not
depend on the others.
"""

import dataclasses
import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from datasets import Dataset

from ..data.catalogue import (
    DATASETS,
    FORMATS,
    MOST_CLIPS,
    DataFiles,
    count_differences,
    datasets_of,
    published_counts,
    read_split,
)
from ..data.label_splits import base_and_novel_labels, keep_labels, listed_labels
from ..data.official_lists import Split
from ..data.readers import read_labels
from ..data.segment_lists import SegmentTable
from ..data.video_table import VIDEO_COLUMN, MissingFiles, label_array, label_names
from ..printing import listing, one_line, printable
from ..processing.label_matching import label_words
from ..processing.sampling_froster import MAX_FRAMES, check_sampling
from ..processing.text_files import AnnotationError, shown_path
from ..settings import check_bounds, override_fields, read_fields, read_named, with_name
from .metrics import accuracies, class_accuracies, confusion_counts

# Least and most of a protocol's numbers, or of each of several. A long video is rendered in memory, a gigabyte for 50
# labels; windows are listed before they are read.
_BOUNDS: dict[str, tuple[float, float]] = {
    "folds": (1, 1000),
    "num_samples": (1, 1000),
    **dict.fromkeys(("num_views", "num_crops", "num_frames", "frame_stride"), (1, MAX_FRAMES)),
    "num_label_splits": (1, 1000),
    "labels_per_split": (1, 10_000),
    "clips_per_label": (1, MOST_CLIPS),
    "labels_per_video": (1, 50),
    "seeds": (0, 2**32 - 1),
    "iou_thresholds": (0, 1),
    "thresholds": (0, 1),
    "window_seconds": (0.01, 3600),
    "stride_seconds": (0.01, 3600),
    "smoothing_seconds": (0, 3600),
    "max_overlap": (0, 1),
}
_MOST_NUMBERS = 1000
# Each makes segments of its own, or is measured at.
_MOST_THRESHOLDS = 100
# Of label splits or folds and what each of them has: clips, labels, or characters of its report, fifty for a label
# beside its name.
MOST_SPLIT_VALUES = 2**26


class AnyProtocol:
    """What both kinds of protocols have."""

    name: str
    protocol: str
    dataset: str

    def __post_init__(self):
        where, known = f"Protocol {self.name}", datasets_of(self.protocol)
        if self.dataset not in known:
            raise ValueError(f"{where}: dataset={printable(repr(self.dataset))}; {self.protocol} is for {known}.")
        check_bounds(vars(self), _BOUNDS, where=where)
        for name, value in vars(self).items():
            # A number that stands twice would count twice.
            if isinstance(value, tuple) and (len(value) > _MOST_NUMBERS or len(set(value)) < len(value)):
                raise ValueError(f"{where}: {name} has {len(value)} numbers; give at most {_MOST_NUMBERS}, each once.")

    def to_dict(self) -> dict[str, Any]:
        """All fields that decide a result; `about` does not."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "about"}  # type: ignore


@dataclass(frozen=True)
class EvaluationProtocol(AnyProtocol):
    """How clips are scored: data set, labels and views.

    Args:
        name: name of the protocol; a file's stem.
        protocol: `base_to_novel` (base and novel halves, harmonic mean), `cross_dataset` (full set, splits), or
            `random_labels` (label lists drawn from the moving-shapes world, whose clips are rendered).
        dataset: a key of the catalogue's `DATASETS`; `moving_shapes` is rendered.
        folds: official folds; base-to-novel tests the first, cross-dataset averages over all.
        num_samples: few-shot samples, hence checkpoints, that the published number averages.
        num_views: V windows.
        num_crops: C crops.
        num_frames: T; None takes the checkpoint's.
        frame_stride: frames between two sampled ones at 30 frames per second.
        sampling: which frames, one of `SAMPLINGS` that draws no random numbers: `dense` (windows) or `uniform` (the
            whole video).
        num_label_splits: K-600 only: splits of the labels that are new.
        labels_per_split: K-600, moving shapes: labels per split.
        seeds: moving shapes only: a split is drawn and rendered from each.
        label_content: moving shapes only: `action` draws labels such as "a red star sliding left"; `appearance` has
            every color of every shape without its motion ("a red star"); `motion` has every motion of one object that
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
        super().__post_init__()
        if not self.folds:
            raise ValueError(f"Protocol {self.name}: folds is []; give at least one, such as [1].")
        # Where labels are not drawn, there are 120 appearances and 21 motions.
        num_labels = self.labels_per_split if self.label_content == "action" else 120
        if (num_clips := len(self.seeds) * num_labels * self.clips_per_label) > MOST_CLIPS:
            raise ValueError(
                f"Protocol {self.name}: {num_clips:,} clips of all seeds and labels are asked for; at most "
                f"{MOST_CLIPS:,} are rendered."
            )
        try:
            check_sampling(self.sampling, deterministic=True)
        except ValueError as error:
            raise ValueError(f"Protocol {self.name}: {one_line(str(error), limit=500)}") from error
        if (self.protocol == "random_labels") != bool(self.seeds):
            raise ValueError(
                f"Protocol {self.name}: seeds={list(self.seeds)}; random_labels, and no other, needs some."
            )

    @property
    def video_options(self) -> dict[str, Any]:
        """Options of the video processor that the protocol fixes."""
        options: dict[str, Any] = {"sampling": self.sampling, "frame_stride": self.frame_stride}
        return options if self.num_frames is None else {**options, "num_frames": self.num_frames}


@dataclass(frozen=True)
class DetectionProtocol(AnyProtocol):
    """How actions are found in long videos, and how they are measured.

    Args:
        name: name of the protocol; a file's stem.
        protocol: `temporal_detection`.
        dataset: a key of the catalogue's `DATASETS`; `moving_shapes` is rendered.
        subset: subset of the annotations: `validation` of ActivityNet, `test` of THUMOS14.
        iou_thresholds: least overlaps at which average precision is measured: 0.3 to 0.7 on THUMOS14, 0.5 to 0.95 in
            steps of 0.05 on ActivityNet.
        window_seconds: length of a window.
        stride_seconds: from one window's start to the next.
        smoothing_seconds: scores are averaged over it.
        thresholds: scores from which on a window shows a label; the segments of each are candidates.
        ranking: what orders candidates: their `score`, or their `contrast` with what is close outside.
        max_overlap: IoU above which the lower of two candidates of one class is dropped.
        num_frames: T; None takes the checkpoint's.
        seeds: moving shapes only: a video is rendered from each.
        labels_per_video: moving shapes only.
        about: what the setting is.
    """

    name: str
    protocol: Literal["temporal_detection"]
    dataset: str
    subset: str = "test"
    iou_thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    window_seconds: float = 4.0
    stride_seconds: float = 1.0
    smoothing_seconds: float = 2.0
    thresholds: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    ranking: Literal["score", "contrast"] = "score"
    max_overlap: float = 0.5
    num_frames: int | None = None
    seeds: tuple[int, ...] = ()
    labels_per_video: int = 10
    about: str = ""

    def __post_init__(self):
        super().__post_init__()
        for field_name in ("iou_thresholds", "thresholds"):
            values = getattr(self, field_name)
            if len(values) > _MOST_THRESHOLDS:
                raise ValueError(
                    f"Protocol {self.name}: {field_name} has {len(values)} numbers; give at most {_MOST_THRESHOLDS}."
                )
            if not values or not all(0 < value <= 1 for value in values):
                raise ValueError(f"Protocol {self.name}: {field_name}={list(values)}; give numbers above 0, up to 1.")
        if (self.dataset == "moving_shapes") != bool(self.seeds):
            raise ValueError(
                f"Protocol {self.name}: seeds={list(self.seeds)}; rendered videos, and no others, need some."
            )


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
        label_splits: K-600: lists of labels (JSON), one per split; without them, seeded draws are used and reported.
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


def load_protocol(
    protocol: str | os.PathLike, overrides: Sequence[str] = ()
) -> EvaluationProtocol | DetectionProtocol:
    """A shipped protocol by name, or a YAML file; one that says `extends: NAME` changes the fields that it names.

    Args:
        protocol: name or path.
        overrides: `field=value`, such as `num_views=1`. Values are read as YAML.

    Raises:
        ValueError: no such protocol, no YAML, an unknown field, or a value that the field does not take.
    """
    fields = override_fields(read_named(protocol, kind="protocol"), overrides)
    kind = DetectionProtocol if fields.get("protocol") == "temporal_detection" else EvaluationProtocol
    return read_fields(kind, with_name(fields, protocol), where=Path(protocol).stem)


Protocol = TypeVar("Protocol", EvaluationProtocol, DetectionProtocol)


def find_protocol(protocol: str | os.PathLike | AnyProtocol, kind: type[Protocol]) -> Protocol:
    """A protocol that is given as such, or as `load_protocol` takes it.

    Raises:
        ValueError: it is of another kind, which another function runs; or see `load_protocol`.
    """
    found = load_protocol(protocol) if isinstance(protocol, str | os.PathLike) else protocol
    if not isinstance(found, kind):
        other = "evaluate_detection" if isinstance(found, DetectionProtocol) else "evaluate_protocol"
        raise ValueError(f"Protocol {found.name} is of the kind {found.protocol}; `{other}` runs it.")
    return found


@dataclass(frozen=True)
class Part:
    """Some clips of a table, tested over some of its labels.

    Args:
        name: such as `base`, `novel`, `full`, `split 1`.
        rows: (m,) rows of the table.
        columns: (k,) label indices, the only ones to choose from; every row's label is among them.
    """

    name: str
    rows: np.ndarray
    columns: np.ndarray


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


def plan_evaluation(protocol: AnyProtocol, data: EvaluationData) -> Any:
    """Reads the table that a protocol needs and cuts it into the protocol's parts: an `EvaluationPlan`.

    For temporal detection it is a `SegmentTable`.

    Raises:
        AnnotationError: an annotation file or a path in it cannot be used; names file and line.
        ValueError: a path is needed that `data` does not give.
    """
    return PLANS[DATASETS[protocol.dataset].plans[protocol.protocol]](protocol, data)


def part_of_labels(name: str, labels: np.ndarray, texts: Sequence[str], chosen: Sequence[str]) -> Part:
    """The clips of the chosen labels, tested over the chosen labels.

    Args:
        labels: (n,) of the whole table.
        texts: K label texts.
        chosen: k of them.

    Raises:
        ValueError: a chosen text is not a label, or no clip has one of them.
    """
    if unknown := sorted(set(chosen) - set(texts)):
        raise ValueError(f"Part {name!r}: {len(unknown)} texts are not labels of the table, such as {unknown[:5]}.")
    index_of = {text: index for index, text in enumerate(texts)}
    columns = np.array([index_of[text] for text in chosen])
    rows = np.flatnonzero(np.isin(labels, columns))
    if len(rows) == 0:
        raise ValueError(f"Part {name!r}: the table has no clip of these {len(columns)} labels.")
    return Part(name, rows, columns)


def _plan_halves(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    table = _read(protocol, data, split="test")
    if data.base_labels is not None:
        base, novel = base_and_novel_labels(table, base_labels=data.base_labels)
    else:
        base, novel = base_and_novel_labels(_read(protocol, data, split="train"))
    labels, texts = label_array(table), label_names(table)
    parts = {name: part_of_labels(name, labels, texts, chosen) for name, chosen in (("base", base), ("novel", novel))}
    counted = {"base": (keep_labels(table, base), "base_test"), "novel": (keep_labels(table, novel), "novel_test")}
    return EvaluationPlan(table, parts, _differences(protocol, counted))


def _plan_folds(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    table = _read(protocol, data, split="all")
    row_of = {row["path"]: index for index, row in enumerate(table[VIDEO_COLUMN])}
    texts = label_names(table)
    _refuse_many_splits(protocol, len(protocol.folds), size=len(texts), texts=texts, num_clips=len(table))
    columns = np.arange(len(texts))
    parts = {"full": Part("full", np.arange(len(table)), columns)}
    counted = {"full": (table, "all")}
    for fold in protocol.folds:
        tested = _read(protocol, data, split="test", fold=fold)
        paths = [row["path"] for row in tested[VIDEO_COLUMN]]
        if stray := [path for path in paths if path not in row_of]:
            lists = shown_path(_needed(data, "annotations", protocol))
            raise AnnotationError(
                f"{lists}: the lists of fold {fold} test {len(stray)} clips that those of fold {protocol.folds[0]} do "
                f"not have: {listing(stray, limit=3)}. All folds divide the same clips; compare the lists with the "
                "published ones."
            )
        name = f"split {fold}"
        parts[name] = Part(name, np.array([row_of[path] for path in paths]), columns)
        if fold == 1:
            counted[name] = (tested, "test_split")
    return EvaluationPlan(table, parts, _differences(protocol, counted))


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
    size = len(new) if data.label_splits else min(protocol.labels_per_split, len(new))
    num_splits = len(data.label_splits) or protocol.num_label_splits
    _refuse_many_splits(protocol, num_splits, size=size, texts=new, num_clips=len(table))
    notes = []
    if data.label_splits:
        splits = [listed_labels(new, file, names_from="the data set's new labels") for file in data.label_splits]
        if len(set(map(frozenset, splits))) < len(splits):
            raise ValueError(
                f"Two of {listing(data.label_splits)} list the same labels, which would count twice. Give each split "
                "once."
            )
    else:
        draws = [
            np.random.default_rng(split).permutation(len(new))[:size] for split in range(protocol.num_label_splits)
        ]
        splits = [[new[index] for index in np.sort(draw)] for draw in draws]
        notes.append(
            f"The {len(splits)} splits are seeded draws of {size} of the {len(new)} new labels, not the published "
            "lists: compare with care."
        )
    table = keep_labels(table, sorted(new))
    labels, texts = label_array(table), label_names(table)
    parts = {
        f"split {number}": part_of_labels(f"split {number}", labels, texts, chosen)
        for number, chosen in enumerate(splits, start=1)
    }
    counted = {name: (table.select(part.rows), "novel_test") for name, part in parts.items()}
    return EvaluationPlan(table, parts, _differences(protocol, counted), notes)


def _refuse_many_splits(
    protocol: EvaluationProtocol, num_splits: int, *, size: int, texts: Sequence[str], num_clips: int
) -> None:
    """Refuse splits, each of some labels, of which each alone is allowed, and all together would fill memory."""
    longest = max(len(json.dumps(text)) for text in texts)
    if num_splits * max(num_clips, len(texts), size * (longest + 50)) > MOST_SPLIT_VALUES:
        raise ValueError(
            f"Protocol {protocol.name}: {num_splits} splits of {size:,} of {len(texts):,} labels, and {num_clips:,} "
            "clips, are more than a report has room for. Take fewer splits (`num_label_splits`, `folds`), or fewer "
            "labels in each (`labels_per_split`)."
        )


def _plan_worlds(protocol: EvaluationProtocol, data: EvaluationData) -> EvaluationPlan:
    renders = FORMATS[DATASETS[protocol.dataset].format].renders
    assert renders is not None  # the catalogue gives this plan to data sets that are rendered
    table, parts, notes = importlib.import_module(renders).random_label_splits(protocol, root=data.root)
    return EvaluationPlan(table, parts, {}, notes)


def _plan_segments(protocol: DetectionProtocol, data: EvaluationData) -> SegmentTable:
    known = FORMATS[DATASETS[protocol.dataset].format]
    assert known.read_segments is not None  # the catalogue gives this plan to lists of long videos
    files = DataFiles(
        data.root, _needed(data, "annotations", protocol), missing=data.missing, allow_links=data.allow_links
    )
    return known.read_segments(files, protocol.subset)


def _plan_rendered_segments(protocol: DetectionProtocol, data: EvaluationData) -> SegmentTable:
    renders = FORMATS[DATASETS[protocol.dataset].format].renders
    assert renders is not None  # as above
    return importlib.import_module(renders).long_videos(protocol, root=data.root)


# How the parts of a data set are made, by what its entry of the catalogue says of the protocol.
PLANS: dict[str, Callable[[Any, EvaluationData], EvaluationPlan | SegmentTable]] = {
    "halves": _plan_halves,
    "folds": _plan_folds,
    "new_labels": _plan_new_labels,
    "worlds": _plan_worlds,
    "segments": _plan_segments,
    "rendered_segments": _plan_rendered_segments,
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


def _differences(protocol: EvaluationProtocol, counted: Mapping[str, tuple[Dataset, str]]) -> dict[str, Any]:
    """Of each part, as a table and under its published name, what differs from the published counts, if anything."""
    published = published_counts().get(protocol.dataset, {})
    found = {
        name: count_differences(table, name=protocol.dataset, part=part)
        for name, (table, part) in counted.items()
        if part in published
    }
    return {name: differences for name, differences in found.items() if differences}


def _needed(data: EvaluationData, name: str, protocol: AnyProtocol) -> str:
    value = getattr(data, name)
    if value is None:
        files = f", {FORMATS[DATASETS[protocol.dataset].format].files}" if name == "annotations" else ""
        raise ValueError(f"Protocol {protocol.name} needs {name}={files}; see EvaluationData.")
    return value


@dataclass(frozen=True)
class PartResult:
    """One part's numbers.

    Args:
        name: name of the part.
        metrics: those of `METRICS` for clips with one label, by name; accuracies are shares in [0, 1].
        num_clips: tested clips, those that could not be decoded included: they count as wrong.
        num_undecodable: those of them that could not be decoded.
        labels: k label texts.
        class_accuracies: (k,).
        confusion: (k, k), row = true class; sparse, see [`confusion_counts`].
    """

    name: str
    metrics: dict[str, float]
    num_clips: int
    num_undecodable: int
    labels: list[str]
    class_accuracies: np.ndarray
    confusion: Any


def evaluate_scores(part: Part, scores: np.ndarray, labels: np.ndarray, texts: Sequence[str]) -> PartResult:
    """The numbers of a part from scores that are averaged over views already.

    Args:
        part: m rows and k columns.
        scores: (m, k), NaN where a clip could not be decoded.
        labels: (n,), of the whole table.
        texts: K label texts.

    Raises:
        ValueError: a clip of the part has none of the part's labels.
    """
    position = np.full(len(texts), -1)
    position[part.columns] = np.arange(len(part.columns))
    own = position[labels[part.rows]]
    if (own < 0).any():
        raise ValueError(f"Part {part.name!r} holds clips whose label is not among its own labels.")
    return PartResult(
        name=part.name,
        metrics=accuracies(scores, own),
        num_clips=len(own),
        num_undecodable=int((~np.isfinite(scores).all(axis=1)).sum()),
        labels=[texts[column] for column in part.columns],
        class_accuracies=class_accuracies(scores, own),
        confusion=confusion_counts(scores, own),
    )
