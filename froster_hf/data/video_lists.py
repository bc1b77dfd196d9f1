"""Lists of videos and their labels, as people write them: JSON Lines, CSV, and `path label` per line.

What a list is (delimiter, header, quotes, frames counted or not) is decided once for the file and holds for every
line; a line that does not fit is an error that names it, so no header ever becomes a class and no column a path.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..printing import get_logger, listing, printable
from ..processing.prompts_froster import composed, index_of
from ..processing.text_files import (
    DELIMITERS,
    AnnotationError,
    csv_cells,
    read_header,
    read_json,
    read_json_lines,
    read_lines,
    rows_below_header,
    shown_path,
    shown_place,
)
from ..video.files import is_video_name
from .readers import read_labels
from .safe_paths import VideoRoot
from .video_table import ListedClip, MissingFiles, distinct_label_texts, video_table, written_name

logger = get_logger(__name__)

# A delimiter is believed where it fits the paths of so many lines.
LINES_LOOKED_AT = 50

# `['a', 'b']`, as pandas writes lists into a table.
_WRITTEN_LIST = re.compile(r"\[\s*(['\"].*['\"]\s*)?\]", re.DOTALL)

# What first lines call the column of the paths.
PATH_COLUMNS = frozenset(
    ["clip", "file", "file_name", "filename", "filepath", "id", "name", "path", "video", "video_id", "video_path"]
)

# Of all lines together, where one may have several.
MOST_LABELS = 5_000_000


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a list: the path as written, the label as written, and the file and line."""

    video: str
    label: str | int | tuple[str | int, ...]
    where: str


def read_video_list(
    list_file: str | os.PathLike,
    *,
    root: str | os.PathLike,
    labels: Any = None,
    video_field: str = "video",
    label_field: str = "label",
    multi_label: bool = False,
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> Dataset:
    """Reads a list of videos.

    Four layouts, told apart by the file itself: JSON Lines (`.jsonl`, an object per line), JSON (`.json`, a list of
    such objects), a table whose first line names `video_field` and `label_field`, and the original `path label` per
    line, where the path may hold the delimiter. Columns are divided by commas, tabs, semicolons or blanks, and may be
    quoted as in CSV. In lists of frame folders the number of frames may stand between path and label.

    Args:
        list_file: the list, in UTF-8; a path, or the address of a file in a store. A video that it names again with
            the same label counts once, as is said.
        root: folder that holds every listed video; a folder of image files is a video, too.
        labels: label names, in any form that `read_labels` takes. Needed where the list holds indices; where it holds
            names, it fixes their order (default: sorted).
        video_field: column of the paths.
        label_field: column of the labels, names or indices. Where names consist of digits, labels that are all names
            are names, and others that are all digits are indices.
        multi_label: whether a video may show several actions, or none. Its labels are a list in JSON, stand in one
            field with `|` between them, or in several lines of the same video.
        missing: see `video_table`.
        allow_links: see `read_video_folder`.

    Raises:
        AnnotationError: a line that cannot be read, a label that `labels` does not have, or, without `multi_label`,
            two labels of one video; names file and line.
        UnsafePathError: a path that leaves `root`.
    """
    list_file = os.fspath(list_file)
    video_root = VideoRoot(root, allow_links=allow_links)
    names = None if labels is None else read_labels(labels)
    columns = (video_field, label_field)
    suffix = Path(list_file).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        written = _json_rows(read_json_lines(list_file), columns, multi_label)
    elif suffix == ".json":
        written = _json_rows(_json_entries(list_file), columns, multi_label)
    else:
        written = _table_rows(list_file, video_root, columns)
    if multi_label:
        _refuse_many_labels(written)
    rows = [_Row(video, _read_label(label, where, multi_label), where) for video, label, where in written]
    del written  # of millions of lines, half a gigabyte
    if not rows:
        raise AnnotationError(f"No video is left: {shown_path(list_file)} lists none.")
    if names is None:
        names = _names_in(rows, list_file)
    indices = _indices_in(rows, names)
    clips = [
        ListedClip(video_root.resolve(row.video, where=row.where), _label_index(row, indices), row.where)
        for row in rows
    ]
    source = f"Read from {shown_path(list_file)}."
    if multi_label:
        clips = _labels_together(clips)
    return video_table(clips, labels=names, missing=missing, source=source, multi_label=multi_label)


def _refuse_many_labels(written: Sequence[tuple[str, Any, str]]) -> None:
    """Before fields are divided into them."""
    count = 0
    for _, label, where in written:
        count += label.count("|") + 1 if isinstance(label, str) else len(label) if isinstance(label, list) else 1
        if count > MOST_LABELS:
            raise AnnotationError(f"{where}: up to here are more than {MOST_LABELS:,} labels. Read the list in parts.")


def _labels_together(clips: Sequence[ListedClip]) -> list[ListedClip]:
    """Clips with all the labels that any line gives their video."""
    labels: dict[str, set[int]] = {}
    first: dict[str, ListedClip] = {}
    for clip in clips:
        first.setdefault(clip.path, clip)
        labels.setdefault(clip.path, set()).update(clip.label)  # type: ignore[arg-type]
    return [ListedClip(path, tuple(sorted(labels[path])), clip.where) for path, clip in first.items()]


def _labels_of(row: _Row) -> tuple[str | int, ...]:
    return row.label if isinstance(row.label, tuple) else (row.label,)


def _names_in(rows: Sequence[_Row], list_file: str) -> list[str]:
    written = sorted({str(label) for row in rows for label in _labels_of(row)})
    if not written:
        raise AnnotationError(
            f"{shown_path(list_file)} gives no video a label. Pass labels= (`--labels FILE`), the names to look for."
        )
    number = next((row for row in rows if any(isinstance(label, int) for label in _labels_of(row))), None)
    text = next((row for row in rows if any(isinstance(label, str) for label in _labels_of(row))), None)
    if number is not None and text is not None:
        # A number would be taken for the place of a name in their order.
        raise AnnotationError(
            f"{number.where}: the label is a number, and that of {text.where} is text. Write all names in quotes."
        )
    if all(index_of(label.lstrip("-")) is not None for label in written):
        raise AnnotationError(
            f"{shown_path(list_file)} holds label indices and no label names. Pass labels= (`--labels FILE`), the "
            "list of names or a file of them."
        )
    if isinstance(rows[0].label, tuple):
        _refuse_joined_names(written, list_file)
    # Only checked: a list's names are taken as they are written.
    distinct_label_texts(written, where=shown_path(list_file), ignore_case=True)
    return written


def _refuse_joined_names(names: Sequence[str], list_file: str) -> None:
    """Refuse a label that is several others with commas or semicolons between them, and not `|`."""
    known = set(names)
    for name in names:
        parts = [part.strip() for part in name.replace(";", ",").split(",")]
        if len(parts) > 1 and known.issuperset(parts):
            raise AnnotationError(
                f"{shown_path(list_file)}: the label {name!r:.200} is made of other labels. Write `|` between the "
                "labels of a video; or pass labels= (`--labels FILE`), if it is one label."
            )


def _indices_in(rows: Sequence[_Row], names: Sequence[str]) -> dict[str | int, int]:
    """From each label of a list to its index; what names of digits mean is decided once for the list."""
    places: dict[str | int, str] = {}
    for row in rows:
        for label in _labels_of(row):
            places.setdefault(label, row.where)
    index_of_name = {composed(name, source="labels"): index for index, name in enumerate(names)}
    texts = [label for label in places if isinstance(label, str)]
    stray = next((label for label in texts if label not in index_of_name), None)
    # Where not all are names and all could be indices, all are.
    has_names = stray is None or any(index_of(label) is None for label in texts)
    indices: dict[str | int, int] = {}
    for label, where in places.items():
        index = index_of(label)
        if index is not None and index >= len(names):
            index = None
        if isinstance(label, str) and has_names and label in index_of_name:
            if stray is not None and index not in (None, index_of_name[label]):
                raise AnnotationError(
                    f"{where}: the label {label!r:.200} is one of the label names, and the index of another; "
                    f"{stray!r:.200} ({places[stray]}) can only be an index. Write names only, or indices only."
                )
            index = index_of_name[label]
        if index is None:
            raise AnnotationError(
                f"{where}: the label {label!r:.200} is neither one of the {len(names)} label names nor an index "
                f"from 0 to {len(names) - 1}."
            )
        indices[label] = index
    return indices


def _label_index(row: _Row, indices: Mapping[str | int, int]) -> int | tuple[int, ...]:
    return tuple(indices[label] for label in row.label) if isinstance(row.label, tuple) else indices[row.label]


def _json_entries(path: str) -> list[tuple[Any, str]]:
    entries, name = read_json(path), shown_path(path)
    if not isinstance(entries, list):
        raise AnnotationError(f"{name}: expected a list of objects, one per video.")
    return [(entry, shown_place(name, number, of="entry")) for number, entry in enumerate(entries)]


def _json_rows(
    entries: Iterable[tuple[Any, str]], columns: tuple[str, str], multi_label: bool
) -> list[tuple[str, Any, str]]:
    """(path, label, where) of every object."""
    rows: list[tuple[str, Any, str]] = []
    for entry, where in entries:
        if not isinstance(entry, dict) or not set(columns) <= set(entry):
            has = f"one with {sorted(entry)}" if isinstance(entry, dict) else f"a {type(entry).__name__}"
            raise AnnotationError(
                f"{where}: expected a JSON object with {columns[0]!r} and {columns[1]!r}, got {has:.200}. Other "
                "names can be given as video_field= and label_field=."
            )
        video, label = (entry[name] for name in columns)
        labels = label if multi_label and isinstance(label, list) else [label]
        if not isinstance(video, str) or any(isinstance(x, bool) or not isinstance(x, (str, int)) for x in labels):
            raise AnnotationError(
                f"{where}: the video must be a path and the label a text or an index, not a {type(video).__name__} "
                f"and a {type(label).__name__}."
            )
        if not rows:
            _say_unread(entry, columns, where)
        rows.append((video.strip(), label, where))
    return rows


def _say_unread(names: Iterable[str], columns: tuple[str, str], where: str) -> None:
    """Say what a list holds beside videos and labels: times of segments, or parts, that somebody counts on."""
    if others := [name for name in names if name.strip() and name not in columns]:
        logger.warning("%s: not read: %s. Every row counts, with its whole video.", where, listing(others, limit=10))


def _read_label(label: Any, where: str, multi_label: bool) -> Any:
    """A label as its name or index is known; with `multi_label`, all that the field holds, as a tuple."""
    if multi_label:
        if isinstance(label, str):
            label = label.split("|") if label.strip() else []
        return tuple(_read_label(part, where, False) for part in (label if isinstance(label, list) else [label]))
    if isinstance(label, int):
        return label
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise AnnotationError(f"{where}: the label holds half of a character (a lone surrogate).") from error
    if not label.strip():
        raise AnnotationError(f"{where}: the label is empty.")
    if _WRITTEN_LIST.fullmatch(label.strip()):
        raise AnnotationError(
            f"{where}: the label {label!r:.200} is a list as programs write it. Write the label alone; of several "
            "(`--multi-label`), with `|` between them."
        )
    return written_name(label, where=where)


def _table_rows(path: str, root: VideoRoot, columns: tuple[str, str]) -> list[tuple[str, str, str]]:
    """(path, label, where) of every line of a text file with columns."""
    lines = list(read_lines(path))
    if not lines:
        return []
    if (found := read_header(*lines[0], columns)) is not None:
        return _rows_below_header(lines, *found, columns)
    lines = [(line.strip(), where) for line, where in lines]
    # One at a time, since each has all lines; Python's `max` takes the first of equals.
    delimiter = max(DELIMITERS, key=lambda delimiter: _Layout(delimiter, lines).fit(root))
    layout = _Layout(delimiter, lines)
    if layout.misfit is not None:
        raise layout.misfit
    layout.refuse_header(root, columns)
    return layout.without_counts(root)


def _rows_below_header(
    lines: Sequence[tuple[str, str]], header: list[str], delimiter: str, columns: tuple[str, str]
) -> list[tuple[str, str, str]]:
    _say_unread(header, columns, lines[0][1])
    rows = []
    for cells, where in rows_below_header(lines[1:], header, delimiter):
        video, label = (cells[header.index(name)] for name in columns)
        rows.append((video, label, where))
    return rows


class _Layout:
    """A list without a known header, read with one delimiter: the last field is the label, the rest the path.

    Attributes:
        rows: (path, label, where) of every line that fits.
        misfit: the first line that does not.
    """

    def __init__(self, delimiter: str, lines: Sequence[tuple[str, str]]):
        self.delimiter = delimiter
        self.is_quoted = any(line.startswith('"') or line.endswith('"') for line, _ in lines)
        self.rows: list[tuple[str, str, str]] = []
        self.misfit: AnnotationError | None = None
        for line, where in lines:
            try:
                self.rows.append((*self._split(line, where), where))
            except AnnotationError as error:
                self.misfit = self.misfit or error

    def _split(self, line: str, where: str) -> tuple[str, str]:
        if self.is_quoted:
            *paths, label = csv_cells(line, where, self.delimiter)
            path = self.delimiter.join(paths)
        else:
            path, _, label = line.rpartition(self.delimiter)
        if not path.strip():
            raise AnnotationError(f"{where}: expected `path,label`; every line needs both, divided in one way.")
        return path.strip(), label.strip()

    def fit(self, root: VideoRoot) -> tuple[int, bool]:
        """How many of the first lines have a path that is a video's, and whether all lines fit."""
        first = self.without_counts(root)[:LINES_LOOKED_AT]
        return sum(_looks_like_video(video, root) for video, _, _ in first), self.misfit is None

    def without_counts(self, root: VideoRoot) -> list[tuple[str, str, str]]:
        """The rows; where every line has a number of frames between path and label, without it."""
        parts = [video.rpartition(self.delimiter) for video, _, _ in self.rows]
        counted = all(path.strip() and index_of(count) is not None for path, _, count in parts)
        if not counted or any(_looks_like_video(video, root) for video, _, _ in self.rows[:LINES_LOOKED_AT]):
            return self.rows
        return [(path.strip(), label, where) for (path, _, _), (_, label, where) in zip(parts, self.rows)]

    def refuse_header(self, root: VideoRoot, columns: tuple[str, str]) -> None:
        """A first line that no other line is like names columns.

        Raises:
            AnnotationError: the first line is a header with other names.
        """
        (video, label, where), *others = self.rows
        if _looks_like_video(video, root) or not re.search(r"[^\W\d]", video + label):
            return
        is_word = not re.search(r"[/\\.\d]", video)
        path_differs = any(_looks_like_video(other, root) for other, _, _ in others[:LINES_LOOKED_AT])
        label_differs = index_of(label) is None and all(index_of(other) is not None for _, other, _ in others)
        is_header = is_word and (path_differs or label_differs or video.lower() in PATH_COLUMNS)
        if is_header or (path_differs and label_differs):
            raise AnnotationError(
                f"{where} looks like a header, with the columns {printable(video)[:80]!r} and "
                f"{printable(label)[:80]!r} divided by {DELIMITERS[self.delimiter]}, and not with both "
                f"{columns[0]!r} and {columns[1]!r}. Call them so, or say in Python which are meant by "
                "video_field= and label_field=."
            )


def _looks_like_video(path: str, root: VideoRoot) -> bool:
    return is_video_name(path) or (bool(path) and os.path.exists(root.path / path))
