"""Readers of a user's own videos: a folder of class folders, lists (CSV, JSONL, the original layout), Hub data sets.

All give the {video, label} table of `video_table.py`. The official annotation files are in `official_lists.py`.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value, Video

from ..processing.label_files import read_label_file
from ..processing.label_lists_froster import read_label_list
from ..processing.text_files import AnnotationError, read_lines
from ..processing.video_columns_froster import without_video_decoding
from .label_text import distinct_label_texts
from .safe_paths import VideoRoot
from .video_table import LABEL_COLUMN, VIDEO_COLUMN, ListedClip, MissingFiles, video_table, with_labels

VIDEO_SUFFIXES = frozenset(
    [".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"]
)
Labels = Sequence[str] | Mapping[str | int, str] | str | os.PathLike


def read_video_folder(root: str | os.PathLike) -> Dataset:
    """Reads `root/<class folder>/**/<video>`; a class folder's name as words is the label.

    Hidden files and files without a video's suffix are passed over. Classes and files are sorted, so the rows do not
    depend on the file system.

    Raises:
        AnnotationError: no class folder or no video.
        UnsafePathError: a symbolic link leads out of `root`.
    """
    video_root = VideoRoot(root)
    folders = sorted(entry for entry in video_root.path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise AnnotationError(f"{video_root.path} has no class folders. Expected root/<class>/<video>.")
    clips = [
        ListedClip(video_root.resolve(str(file), where=str(folder)), index, str(folder))
        for index, folder in enumerate(folders)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".")
    ]
    return video_table(clips, labels=distinct_label_texts(folder.name for folder in folders), missing="error")


def read_video_list(
    list_file: str | os.PathLike,
    *,
    root: str | os.PathLike,
    labels: Labels | None = None,
    video_field: str = "video",
    label_field: str = "label",
    missing: MissingFiles = "error",
) -> Dataset:
    """Reads a list of videos.

    Three layouts, told apart by the file itself: `.jsonl` (an object a line), CSV whose first line names `video_field`
    and `label_field`, and the original `path,label_index` a line (comma, tab or space; the path may hold commas).

    Args:
        root: folder that holds every listed video.
        labels: label texts, as a list, an index-to-label mapping, or a JSON file of either. Needed where the list
            holds indices; where it holds names, it fixes their order (default: sorted).
        missing: see `video_table`.

    Raises:
        AnnotationError: a line that cannot be read, or a label that `labels` does not have; names file and line.
        UnsafePathError: a path that leaves `root`.
    """
    list_file = Path(list_file)
    video_root = VideoRoot(root)
    names = None if labels is None else read_labels(labels)
    read_rows = _jsonl_rows if list_file.suffix.lower() == ".jsonl" else _csv_rows
    rows = list(read_rows(list_file, video_field, label_field))
    if names is None:
        written = sorted({str(label) for _, label, _ in rows})
        if all(label.lstrip("-").isdigit() for label in written):
            raise AnnotationError(
                f"{list_file} holds label indices and no label texts. Pass labels=, the list of texts or the JSON "
                "file that maps "
                "index to label."
            )
        names = written
    index_of = {name: index for index, name in enumerate(names)}
    clips = [
        ListedClip(video_root.resolve(path, where=where), _label_index(label, names, index_of, where), where)
        for path, label, where in rows
    ]
    return video_table(clips, labels=names, missing=missing)


def read_labels(labels: Any) -> list[str]:
    """Label names in index order.

    Args:
        labels: the path of a file (`read_label_file`), or a list or mapping (`read_label_list`).

    Raises:
        AnnotationError: a form that is not known, indices with gaps, or a name that stands twice.
    """
    if isinstance(labels, (str, os.PathLike)):
        return list(read_label_file(labels).names)
    try:
        return list(read_label_list(labels, source="labels").names)
    except ValueError as error:
        raise AnnotationError(str(error)) from error


def as_video_table(
    dataset: Dataset,
    *,
    video_column: str | None = None,
    label_column: str = LABEL_COLUMN,
    roots: Sequence[str | os.PathLike] | None = None,
) -> Dataset:
    """Any data set with a `Video` column, as the {video, label} table; nothing is decoded or copied.

    Args:
        video_column: needed only where several columns are videos.
        label_column: `ClassLabel` (kept) or strings (sorted into a `ClassLabel`).
        roots: folders under which a row's path may lie when the row brings no bytes. Default: the Hub and `datasets`
            caches, so that a downloaded table cannot point at other files of this machine.

    Raises:
        ValueError: no single video column, or a label column without names.
        UnsafePathError: a row's path leads out of `roots`.
    """
    dataset = without_video_decoding(dataset.with_format(None))
    videos = [name for name, feature in dataset.features.items() if isinstance(feature, Video)]
    if video_column is None and len(videos) == 1:
        video_column = videos[0]
    if video_column not in videos:
        raise ValueError(f"video_column={video_column!r}; the Video columns are {videos}. Name one of them.")
    if label_column not in dataset.features:
        raise ValueError(f"label_column={label_column!r}; the columns are {list(dataset.features)}.")
    table = dataset.select_columns([video_column, label_column])
    table = table.rename_columns({video_column: VIDEO_COLUMN, label_column: LABEL_COLUMN})
    feature = table.features[LABEL_COLUMN]
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        written = table[LABEL_COLUMN][:]
        names = sorted(set(written))
        index_of = {name: index for index, name in enumerate(names)}
        table = with_labels(table, np.array([index_of[name] for name in written]), names)
    elif not isinstance(feature, ClassLabel):
        raise ValueError(
            f"The label column is {feature}. It must be a ClassLabel or strings: cast it with the label texts."
        )
    _check_row_paths(table, roots)
    return table


def _check_row_paths(table: Dataset, roots: Sequence[str | os.PathLike] | None) -> None:
    if roots is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        roots = [HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE]
    video_roots = [VideoRoot(root) for root in roots if os.path.isdir(root)]
    row = 0
    for batch in table.with_format("arrow").iter(batch_size=32):
        # Field by field: rows of a table with embedded videos must not become Python bytes only to look at their
        # paths.
        for chunk in batch.column(VIDEO_COLUMN).chunks:
            for path, has_bytes in zip(chunk.field("path").to_pylist(), chunk.field("bytes").is_valid().to_pylist()):
                if not has_bytes:
                    _resolve_under_any(path, video_roots, f"row {row} of the data set")
                row += 1


def _resolve_under_any(path: str | None, roots: Sequence[VideoRoot], where: str) -> None:
    if not path:
        raise AnnotationError(f"{where} has neither a path nor bytes.")
    errors = []
    for root in roots:
        try:
            root.resolve(path, where=where)
            return
        except AnnotationError as error:
            errors.append(error)
    raise (
        errors[-1] if errors else AnnotationError(f"{where}: {path!r} lies under no folder that exists. Pass roots=.")
    )


def _label_index(label: Any, names: Sequence[str], index_of: Mapping[str, int], where: str) -> int:
    if isinstance(label, str) and label in index_of:
        return index_of[label]
    try:
        index = int(label)
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < len(names):
        raise AnnotationError(
            f"{where}: the label {label!r} is neither one of the {len(names)} label texts nor an index from 0 to "
            f"{len(names) - 1}. If this line names columns, pass their names as video_field= and label_field=."
        )
    return index


def csv_cells(line: str, where: str) -> list[str]:
    """One CSV line's fields; `AnnotationError` when they cannot be told apart."""
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise AnnotationError(f"{where}: not a CSV line ({error}).") from error


def _jsonl_rows(path: Path, video_field: str, label_field: str) -> Iterator[tuple[str, Any, str]]:
    for line, where in read_lines(path):
        try:
            row = json.loads(line)
            video, label = row[video_field], row[label_field]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise AnnotationError(
                f"{where}: expected a JSON object with {video_field!r} and {label_field!r} ({error!r})."
            ) from error
        if not isinstance(video, str) or isinstance(label, bool) or not isinstance(label, (str, int)):
            raise AnnotationError(
                f"{where}: the video must be a path and the label a text or an index, not {row!r:.200}."
            )
        yield video, label, where


def _csv_rows(path: Path, video_field: str, label_field: str) -> Iterator[tuple[str, str, str]]:
    lines = list(read_lines(path))
    header = csv_cells(*lines[0]) if lines else []
    if video_field in header and label_field in header:
        video_at, label_at = header.index(video_field), header.index(label_field)
        for line, where in lines[1:]:
            cells = csv_cells(line, where)
            if len(cells) != len(header):
                raise AnnotationError(f"{where}: {len(cells)} fields, but the header names {len(header)}.")
            yield cells[video_at], cells[label_at], where
        return
    for line, where in lines:
        separator = next((mark for mark in (",", "\t", " ") if mark in line.strip()), None)
        if separator is None:
            raise AnnotationError(f"{where}: expected `path,label`, got {line!r:.200}.")
        video, label = line.strip().rsplit(separator, 1)
        yield video, label.strip(), where
