"""The one form in which every reader hands its videos on: a `datasets.Dataset` of {video, label}.

`video` is `datasets.Video(decode=False)`: a row holds {"path": ..., "bytes": ...} and nothing is decoded until a
worker of the DataLoader asks (`clips.py`). `label` is `datasets.ClassLabel`, whose names are the label texts. Where a
video may show several actions or none, a list of `ClassLabel`, `labels`, stands in its place; such tables serve
evaluations, not trainings.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Video

from ..printing import get_logger, listing, printable
from ..processing.prompts_froster import checked_label_list, composed, readable_label
from ..processing.sampling_froster import CALLERS_OPTIONS
from ..processing.text_files import AnnotationError
from ..video.columns import without_video_decoding
from ..video.files import is_hidden
from ..video.images import IMAGE_FORMATS

logger = get_logger(__name__)


VIDEO_COLUMN, LABEL_COLUMN, LABELS_COLUMN = "video", "label", "labels"
# What `ClassLabel` calls a row without one.
NO_LABEL = -1
MissingFiles = Literal["error", "drop", "keep"]
# In a description of a table.
MAX_CLASSES_LISTED = 40


@dataclass(frozen=True, slots=True)
class ListedClip:
    """One clip of a list: its absolute path, its label's index (or those of all its labels), and the file and line
    that named it."""

    path: str
    label: int | tuple[int, ...]
    where: str


def video_features(labels: Sequence[str], *, multi_label: bool = False) -> Features:
    """The columns of every data set of this package, for these label texts."""
    label = ClassLabel(names=list(labels))
    return Features(
        {VIDEO_COLUMN: Video(decode=False), **({LABELS_COLUMN: List(label)} if multi_label else {LABEL_COLUMN: label})}
    )


def video_table(
    clips: Iterable[ListedClip],
    *,
    labels: Sequence[str],
    missing: MissingFiles,
    source: str = "",
    multi_label: bool = False,
) -> Dataset:
    """Builds the data set from listed clips.

    Args:
        clips: in the list's order, which is kept. Without `multi_label`, a video that several have counts once.
        labels: label texts; `clip.label` indexes them.
        missing: what to do with listed files that are not there. `error` names them; `drop` leaves them out and logs
            how many; `keep` leaves them to the decoding policy of training and evaluation. A folder of image files is
            a video as well.
        source: where the clips come from and what was passed over, for `describe_table`.
        multi_label: whether each clip has a list of labels.

    Raises:
        AnnotationError: files are missing under `missing="error"`, no clip is left, or, without `multi_label`, a video
            has two labels.
    """
    if missing not in ("error", "drop", "keep"):
        raise ValueError(f"missing={missing!r} is not a policy. Choose 'error', 'drop' or 'keep'.")
    clips = list(clips)
    if not multi_label:
        listed, clips = len(clips), _one_per_video(clips, labels)
        if again := listed - len(clips):
            said = f"{again} of {listed} name a video again, with the same label; each video counts once."
            logger.warning("%s %s", source, said)
            source = f"{source} {said}".strip()
    if missing != "keep":
        absent = [clip for clip in clips if not is_video_path(clip.path)]
        if absent:
            named = "; ".join(f"{printable(clip.path[:150])} ({clip.where})" for clip in absent[:5])
            message = f"{len(absent)} of {len(clips)} listed videos are not there, such as {named}."
            if missing == "error":
                raise AnnotationError(f"{message} Pass missing='drop' (`--missing drop`) to go on without them.")
            logger.warning("%s They are left out.", message)
            source = f"{source} {len(absent)} listed videos were not there.".strip()
            gone = {id(clip) for clip in absent}
            clips = [clip for clip in clips if id(clip) not in gone]
    if not clips:
        raise AnnotationError(f"No video is left. {source} Check the data root and the list.")
    label_column = LABELS_COLUMN if multi_label else LABEL_COLUMN
    columns = {VIDEO_COLUMN: [clip.path for clip in clips], label_column: [clip.label for clip in clips]}
    table = Dataset.from_dict(columns, features=video_features(labels, multi_label=multi_label))
    table.info.description = source
    return table


def _one_per_video(clips: Sequence[ListedClip], labels: Sequence[str]) -> list[ListedClip]:
    """The first clip of every video, which could be held out and trained on at once if it had several.

    Raises:
        AnnotationError: lines give a video different labels, of which no answer has both.
    """
    first: dict[str, ListedClip] = {}
    for clip in clips:
        earlier = first.setdefault(clip.path, clip)
        if earlier.label != clip.label:
            own, other = (printable(repr(labels[each.label]), limit=100) for each in (clip, earlier))  # type: ignore[index]
            raise AnnotationError(
                f"{clip.where}: {printable(clip.path, limit=200)} has the label {own}, and {other} in "
                f"{earlier.where}. Give each video one label, and clips of one video files of their own (in Kinetics "
                "`ID_000005_000015.mp4`); to measure on a list of videos with several, pass multi_label=True "
                "(`--multi-label`)."
            )
    return list(first.values())


def is_video_path(path: str) -> bool:
    """Whether there is a file, or a folder of image files, which is read as the frames of one video.

    Of a folder that may not be read, as of a file, its reader says so.
    """
    if not os.path.isdir(path):
        return os.path.isfile(path)
    try:
        return any(True for _ in _frame_names(path))
    except OSError:
        return True


def _frame_names(folder: str) -> Iterator[str]:
    """Names of a folder's image files, in no order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in IMAGE_FORMATS and not is_hidden(entry.name):
                yield entry.name


def describe_table(table: Dataset) -> str:
    """How many videos each class has, and what was passed over when the table was read; to be shown before training.

    Of more than `MAX_CLASSES_LISTED`, the first ones are listed; those without a video are always counted.

    Args:
        table: {video, label}.
    """
    names, (rows, labels) = label_names(table), label_pairs(table)
    counts = np.bincount(labels, minlength=len(names))
    shown = [printable(name) for name in names[:MAX_CLASSES_LISTED]]
    width = max((len(name) for name in shown), default=0)
    lines = [f"{len(table)} videos of {len(names)} classes:"]
    lines += [f"  {index:>5}  {name:<{width}}  {counts[index]:>7}" for index, name in enumerate(shown)]
    if len(names) > MAX_CLASSES_LISTED:
        rest = counts[MAX_CLASSES_LISTED:]
        lines.append(f"  and {len(rest)} more classes with {rest.min()} to {rest.max()} videos each")
    if empty := [name for name, count in zip(names, counts) if count == 0]:
        lines.append(f"Classes without a video: {listing(empty, limit=10)}.")
    if unlabeled := len(table) - len(np.unique(rows)):
        lines.append(f"Videos without a label: {unlabeled}.")
    if table.info.description:
        lines.append(printable(table.info.description[:500]))
    return "\n".join(lines)


def label_names(dataset: Dataset) -> list[str]:
    """Label texts of a data set, in the order of their indices.

    Raises:
        ValueError: `dataset` has no `ClassLabel` column named `label`, nor a list of them named `labels`.
    """
    feature = getattr(dataset.features.get(LABELS_COLUMN), "feature", None) or dataset.features.get(LABEL_COLUMN)
    if not isinstance(feature, ClassLabel):
        raise ValueError(
            f"The data set's columns are {dict(dataset.features)}; a ClassLabel column named {LABEL_COLUMN!r} is "
            "needed. "
            "`as_video_table` makes one."
        )
    return list(feature.names)


def label_array(dataset: Dataset) -> np.ndarray:
    """Labels of all rows, (num_rows,) int64, without touching the videos; `NO_LABEL` of a row that is null.

    Raises:
        ValueError: there is not one label per row.
    """
    label_names(dataset)
    if is_multi_label(dataset):
        raise ValueError("The table has a list of labels per video; one label per video is needed here.")
    labels = np.asarray(checked_column(dataset, LABEL_COLUMN).with_format("numpy")[LABEL_COLUMN][:])
    if labels.dtype.kind == "f":
        # What is null becomes NaN, and NaN whatever number the machine makes of it.
        labels = np.where(np.isnan(labels), NO_LABEL, labels)
    return labels.astype(np.int64)


def checked_column(dataset: Dataset, name: str) -> Dataset:
    """A table of one column, whose values lie within it, and whose files are not decoded: Arrow would follow values
    that do not, and end the process.

    Raises:
        ValueError: the column is damaged.
    """
    return without_video_decoding(dataset.select_columns([name]))


def is_multi_label(dataset: Dataset) -> bool:
    """Whether a row has a list of labels."""
    return LABELS_COLUMN in dataset.features


def refuse_other_labels(dataset: Dataset) -> None:
    """Refuse a row with a label that is none of the column's names.

    Raises:
        AnnotationError: names the row.
    """
    # `datasets` compares them with the names where it writes them, and not where it reads a file.
    is_multi, num_names = is_multi_label(dataset), len(label_names(dataset))
    column = LABELS_COLUMN if is_multi else LABEL_COLUMN
    for row, entry in enumerate(checked_column(dataset.with_format(None), column)[column]):
        for label in entry if is_multi and entry is not None else [entry]:
            if label is None or not 0 <= label < num_names:
                raise AnnotationError(
                    f"Row {row} of the data set has the label {label}, of {num_names} names. Take rows "
                    "without a label out with `filter`."
                )


def label_pairs(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Every label that a video has, once: rows and label indices, (m,) each, by row; without touching the videos."""
    if is_multi_label(dataset):
        lists = [sorted(set(labels)) for labels in checked_column(dataset, LABELS_COLUMN)[LABELS_COLUMN]]
        rows = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
        labels = np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int64, count=len(rows))
    else:
        rows, labels = np.arange(len(dataset)), label_array(dataset)
    return rows[labels >= 0], labels[labels >= 0]


def label_matrix(dataset: Dataset) -> np.ndarray:
    """Which of the K labels are in which of the n videos, (n, K) bool, without touching the videos."""
    present = np.zeros((len(dataset), len(label_names(dataset))), dtype=bool)
    present[label_pairs(dataset)] = True
    return present


def with_labels(dataset: Dataset, labels: np.ndarray, names: Sequence[str]) -> Dataset:
    """The same rows with other labels; the video column is not copied.

    Args:
        labels: (num_rows,) indices into `names`.
    """
    table = dataset.remove_columns(LABEL_COLUMN) if LABEL_COLUMN in dataset.column_names else dataset
    return table.add_column(LABEL_COLUMN, labels.astype(np.int64), feature=ClassLabel(names=list(names)))


def video_name(video: Any, *, row: int | None = None) -> str:
    """Name of a row's video for logs and reports; bytes without a path have none and read `<bytes>`, and what is not a
    video reads `<row 7>`, where the row is known."""
    path, content = _path_and_bytes(video)
    if path is not None:
        return path
    return "<bytes>" if content is not None or row is None else f"<row {row}>"


def _path_and_bytes(video: Any) -> tuple[str | None, bytes | None]:
    """What a row of a video column names; None of what is null, empty or of another type, as a stranger may write."""
    named = video if isinstance(video, Mapping) else {"bytes" if isinstance(video, bytes) else "path": video}
    path, content = named.get("path"), named.get("bytes")
    return path if isinstance(path, str) and path else None, content if isinstance(content, bytes) else None


NOT_PIXEL_OPTIONS = (*CALLERS_OPTIONS, "auto_map", "processor_class", "return_metadata", "video_processor_type")


def table_fingerprint(dataset: Dataset) -> str:
    """SHA-256 over label texts and, per row, label, size and name of the video (its content where it is embedded).

    Names are taken relative to the videos' common folder, so that the hash is the same on another machine. The content
    of files is not read: that would cost as much as decoding them. Of a folder of frames the names count, and
    the sizes of three; of an address the name alone: each store would be asked for each video. Of a row that is not a
    video, what it is counts.
    """
    digest = hashlib.sha256("\n".join(label_names(dataset)).encode())
    videos = checked_column(dataset, VIDEO_COLUMN)
    # Some may be written from the root on, others from the current folder.
    folders = {
        os.path.dirname(os.path.abspath(path))
        for batch in videos.iter(batch_size=32)
        for path, content in map(_path_and_bytes, batch[VIDEO_COLUMN])
        if content is None and path is not None
    }
    common = os.path.commonpath(folders) if folders else ""
    labels = checked_column(dataset, LABELS_COLUMN)[LABELS_COLUMN] if is_multi_label(dataset) else label_array(dataset)
    start = 0
    for batch in videos.iter(batch_size=32):
        rows = batch[VIDEO_COLUMN]
        for label, row in zip(labels[start : start + len(rows)], rows):
            path, content = _path_and_bytes(row)
            if content is not None:
                name, state = hashlib.sha256(content).hexdigest(), str(len(content))
            elif path is not None:
                name = os.path.relpath(path, common).replace(os.sep, "/")
                state = _state_of(path)
            else:
                name, state = hashlib.sha256(repr(row).encode(errors="replace")).hexdigest(), "-1"
            digest.update(f"\n{label} {state} {name}".encode())
        start += len(rows)
    return digest.hexdigest()


def _state_of(path: str) -> str:
    """What tells a file, or a folder of frames, from another one in its place; "-1" for what is not there."""
    try:
        names = sorted(_frame_names(path)) if os.path.isdir(path) else []
    except OSError:
        names = []
    if not names:
        return str(_file_size(path))
    sizes = [_file_size(os.path.join(path, names[place])) for place in (0, len(names) // 2, -1)]
    return hashlib.sha256("\n".join([*map(str, sizes), *names]).encode(errors="surrogateescape")).hexdigest()


def _file_size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else -1


def pixel_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a video processor that decide what the model sees; the others differ from one to the next."""
    return {name: value for name, value in sorted(options.items()) if name not in NOT_PIXEL_OPTIONS}


def label_text(name: str) -> str:
    """A class name as words, template brackets gone.

    >>> label_text("ApplyEyeMakeup"), label_text("brush_hair"), label_text("Holding [something]")
    ('apply eye makeup', 'brush hair', 'Holding something')
    """
    return readable_label(name.replace("[", "").replace("]", ""))


def written_name(name: str, *, where: str) -> str:
    """The name of a class as people have written it, without blanks around it and as it looks; see `composed`.

    Args:
        where: the file that holds it, for the error message.

    Raises:
        AnnotationError: no writing has so many marks in a row.
    """
    try:
        return composed(name, source=where).strip()
    except ValueError as error:
        raise AnnotationError(str(error)) from error


def distinct_label_texts(names: Iterable[str], *, where: str, ignore_case: bool = False) -> list[str]:
    """`label_text` of each name, in order.

    Args:
        names: names of the classes.
        where: the file or folder that names them, for the error message.
        ignore_case: whether names that differ in capitals or hyphens alone are spellings of one class, as in names
            that people have typed; published lists tell such classes apart.

    Raises:
        AnnotationError: a name without words or that is not text, or two names that become the same words, so that
            nothing could tell them apart.
    """
    texts: list[str] = []
    name_of: dict[str, str] = {}
    for name in names:
        text = label_text(name)
        if not text:
            raise AnnotationError(
                f"{where}: the class name {printable(name[:80])!r} holds no words. Rename the class."
            )
        spelling = " ".join(text.replace("-", " ").casefold().split()) if ignore_case else text
        spelling = written_name(spelling, where=where)
        if spelling in name_of:
            raise AnnotationError(
                f"{where}: the classes {printable(name_of[spelling][:80])!r} and {printable(name[:80])!r} both read "
                f"{printable(spelling[:80])!r}. Rename one of them, or put their videos together."
            )
        name_of[spelling] = name
        texts.append(text)
    try:
        return list(checked_label_list(texts, source=where).names) if texts else []
    except ValueError as error:
        raise AnnotationError(str(error)) from error
