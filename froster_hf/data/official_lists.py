"""Readers of the official annotation files of UCF-101, HMDB-51, Kinetics and Something-Something v2.

The files are the user's own; none is shipped. Labels become words (`label_text.py`); each reader gives the {video,
label} table of `video_table.py` with all classes of the data set, in the data set's own order. `missing` and
`allow_links` are as in `video_table` and `read_video_folder`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from ..printing import listing, printable
from ..processing.label_files import read_label_file
from ..processing.text_files import (
    MAX_HELD_FIELDS,
    AnnotationError,
    csv_cells,
    read_header,
    read_json,
    read_lines,
    read_lines_of,
    rows_below_header,
    shown_path,
    shown_place,
)
from ..video.files import is_hidden
from .safe_paths import LONGEST_PATH, VideoRoot
from .video_table import ListedClip, MissingFiles, distinct_label_texts, label_text, video_table

Split = Literal["train", "test", "all"]
Fold = Literal[1, 2, 3]

# Where people keep Kinetics: class folders, split folders, or one flat folder; clips named by their times or not. The
# first file that is there is taken, and `{label}` stands for each of `_FOLDER_NAMES`.
_CLIP = "{youtube_id}_{time_start:06d}_{time_end:06d}.mp4"
KINETICS_PATTERNS = (
    f"{{label}}/{_CLIP}",
    f"{{split}}/{{label}}/{_CLIP}",
    f"{{split}}/{_CLIP}",
    _CLIP,
    "{label}/{youtube_id}.mp4",
    "{split}/{label}/{youtube_id}.mp4",
    "{split}/{youtube_id}.mp4",
    "{youtube_id}.mp4",
)


def read_ucf101(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    split: Split,
    fold: Fold = 1,
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> Dataset:
    """UCF-101 by `ucfTrainTestlist`.

    `classInd.txt` names the classes; `trainlist0F.txt` holds "folder/clip.avi class" a line, `testlist0F.txt`
    "folder/clip.avi".

    Args:
        root: folder of the 101 class folders.
        annotations: the folder `ucfTrainTestlist`.
        split: `all` is train and test of the fold, that is, every clip.

    Raises:
        AnnotationError: a file or line that does not fit; names it.
    """
    folder, video_root = Path(annotations), VideoRoot(root, allow_links=allow_links)
    classes: list[str] = []
    for line, where in read_lines(folder / "classInd.txt"):
        number, _, name = line.strip().partition(" ")
        if not name or number != str(len(classes) + 1):
            raise AnnotationError(f"{where}: expected `{len(classes) + 1} ClassName`, got {printable(line[:200])!r}.")
        classes.append(name)
    index_of = {name: index for index, name in enumerate(classes)}

    def clips() -> Iterator[ListedClip]:
        for part in _parts(split):
            for line, where in read_lines(folder / f"{part}list{_checked_fold(fold):02d}.txt"):
                path, number = line.strip(), ""
                if part == "train" and " " in path:
                    path, number = path.rsplit(" ", 1)
                class_name = path.partition("/")[0]
                if class_name not in index_of:
                    raise AnnotationError(f"{where}: {printable(class_name[:200])!r} is not a class of classInd.txt.")
                expected = str(index_of[class_name] + 1)
                if number and number.lstrip("0") != expected:
                    raise AnnotationError(
                        f"{where}: the class is {printable(number[:200])!r}, but that of its folder, "
                        f"{printable(class_name[:200])!r}, is {expected} in classInd.txt."
                    )
                yield ListedClip(video_root.resolve(path, where=where), index_of[class_name], where)

    texts = distinct_label_texts(classes, where=shown_path(folder / "classInd.txt"))
    return video_table(clips(), labels=texts, missing=missing, source=f"Read from {shown_path(annotations)}.")


def read_hmdb51(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    split: Split,
    fold: Fold = 1,
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> Dataset:
    """HMDB-51 by `testTrainMulti_7030_splits`.

    A file per class, "clip.avi mark" per line; mark 1 trains, 2 tests, 0 is unused.

    Args:
        root: folder of the 51 class folders.
        annotations: the folder `testTrainMulti_7030_splits`.
        split: `all` takes every mark, that is, every clip.

    Raises:
        AnnotationError: a file or line that does not fit, or two marks of one clip; names it.
    """
    suffix = f"_test_split{_checked_fold(fold)}.txt"
    video_root = VideoRoot(root, allow_links=allow_links)
    files = sorted(file for file in Path(annotations).glob(f"*{suffix}") if not is_hidden(file.name))
    if not files:
        raise AnnotationError(f"{shown_path(annotations)} holds no file named <class>{suffix}.")
    classes = [file.name.removesuffix(suffix) for file in files]
    marks = {"train": {"1"}, "test": {"2"}, "all": {"0", "1", "2"}}[_checked_split(split)]

    def clips() -> Iterator[ListedClip]:
        index_of = {file: index for index, file in enumerate(files)}
        first: dict[str, tuple[str, str]] = {}
        for file, line, where in read_lines_of(files):
            name, _, mark = line.strip().rpartition(" ")
            if not name or mark not in ("0", "1", "2"):
                raise AnnotationError(
                    f"{where}: expected `clip.avi mark` with mark 0, 1 or 2, got {printable(line[:200])!r}."
                )
            index = index_of[file]
            path = video_root.resolve(f"{classes[index]}/{name.strip()}", where=where)
            earlier = first.setdefault(path, (mark, where))
            if earlier[0] != mark:
                raise AnnotationError(
                    f"{where}: {printable(name[:200])!r} has the mark {mark}, and {earlier[0]} in {earlier[1]}. Take "
                    "one of the two lines out."
                )
            if mark in marks:
                yield ListedClip(path, index, where)

    texts = distinct_label_texts(classes, where=shown_path(annotations))
    return video_table(clips(), labels=texts, missing=missing, source=f"Read from {shown_path(annotations)}.")


def read_kinetics(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    patterns: Sequence[str] = KINETICS_PATTERNS,
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> Dataset:
    """Kinetics (400, 600, 700) by its CSV with the columns label, youtube_id, time_start, time_end, split.

    Many listed clips have left YouTube: `missing="drop"` takes those that are there, and says how many are not.

    Args:
        root: folder of the videos.
        annotations: the CSV file. Its labels, sorted, are the classes.
        patterns: `str.format` patterns of a clip's path under `root`, over the CSV's columns. Class folders may be
            called as the label is, or with underscores or hyphens for blanks, in capitals or not.

    Raises:
        AnnotationError: a file or line that does not fit, or two clips of a video with different labels whose file
            is not named by their times; names it.
    """
    video_root = VideoRoot(root, allow_links=allow_links)
    rows = _kinetics_rows(annotations)
    classes = sorted({row["label"] for row, _ in rows})
    index_of = {name: index for index, name in enumerate(classes)}

    folder = os.fspath(video_root.path)
    is_folder = lru_cache(maxsize=65536)(lambda below: os.path.isdir(os.path.join(folder, below)))

    def clips() -> Iterator[ListedClip]:
        # One data set is kept in one way: what found the last clip is tried first.
        ways = [(pattern, spell) for pattern in patterns for spell in _spellings_in(pattern)]
        for row, where in rows:
            for way in ways:
                pattern, spell = way
                path = pattern.format_map({**row, "label": spell(row["label"])})
                if len(path) > LONGEST_PATH:
                    raise AnnotationError(f"{where}: the path of the clip would have {len(path):,} characters.")
                # Looked for before it is resolved, which takes ten times as long: most ways lead to nothing.
                if is_folder(os.path.dirname(path)) and os.path.isfile(os.path.join(folder, path)):
                    ways.remove(way)
                    ways.insert(0, way)
                    break
            else:
                path = patterns[0].format_map(row)
            yield ListedClip(video_root.resolve(path, where=where), index_of[row["label"]], where)

    texts = distinct_label_texts(classes, where=shown_path(annotations))
    return video_table(clips(), labels=texts, missing=missing, source=f"Read from {shown_path(annotations)}.")


def _kinetics_rows(annotations: str | os.PathLike) -> list[tuple[dict[str, Any], str]]:
    """The clips of a CSV file by its columns, each with its place in the file."""
    lines = list(read_lines(annotations))
    if not lines:
        raise AnnotationError(f"{shown_path(annotations)} is empty.")
    columns = ("label", "youtube_id", "time_start", "time_end", "split")
    found = read_header(*lines[0], columns)
    if found is None:
        named = listing(csv_cells(*lines[0]), limit=10)[:300]
        raise AnnotationError(f"{lines[0][1]}: the columns are {named}; needed are {list(columns)}.")
    header, delimiter = found
    if len(lines) * len(header) > MAX_HELD_FIELDS:
        raise AnnotationError(
            f"{shown_path(annotations)}: {len(lines):,} lines of {len(header):,} fields are more than "
            f"{MAX_HELD_FIELDS:,}. Leave out columns that no pattern names."
        )
    rows = []
    for cells, where in rows_below_header(lines[1:], header, delimiter):
        row: dict[str, Any] = dict(zip(header, cells))
        try:
            row["time_start"], row["time_end"] = int(float(row["time_start"])), int(float(row["time_end"]))
        except (ValueError, OverflowError) as error:
            raise AnnotationError(
                f"{where}: time_start and time_end must be seconds ({type(error).__name__})."
            ) from error
        rows.append((row, where))
    return rows


def read_something_something(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    labels: str | os.PathLike,
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> Dataset:
    """Something-Something v2 by its JSON files.

    Args:
        root: folder of `<id>.webm`.
        annotations: the train or validation file, a list of {"id", "template", ...}.
        labels: the labels file, {template without brackets: index}, or any other that `read_label_file` takes.

    Raises:
        AnnotationError: a file or entry that does not fit; names it.
    """
    video_root = VideoRoot(root, allow_links=allow_links)
    texts = distinct_label_texts(read_label_file(labels).names, where=shown_path(labels))
    index_of = {text: index for index, text in enumerate(texts)}
    entries = read_json(annotations)
    if not isinstance(entries, list):
        raise AnnotationError(f"{shown_path(annotations)}: expected a list of entries.")

    def clips() -> Iterator[ListedClip]:
        for number, entry in enumerate(entries):
            where = shown_place(shown_path(annotations), number, of="entry")
            if not isinstance(entry, dict) or not {"id", "template"} <= set(entry):
                raise AnnotationError(f"{where}: needs `id` and `template` (the test file has no labels).")
            video_id, template = entry["id"], entry["template"]
            # To Python, true is a number.
            if type(video_id) not in (str, int) or not isinstance(template, str):
                raise AnnotationError(
                    f"{where}: `id` must be a number or a text and `template` a text, not a {type(video_id).__name__} "
                    f"and a {type(template).__name__}."
                )
            text = label_text(template)
            if text not in index_of:
                raise AnnotationError(
                    f"{where}: the template {printable(template[:200])!r} is not in {shown_path(labels)}."
                )
            yield ListedClip(video_root.resolve(f"{video_id}.webm", where=where), index_of[text], where)

    return video_table(clips(), labels=texts, missing=missing, source=f"Read from {shown_path(annotations)}.")


# How class folders are called for a label such as "tying knot (not on a tie)".
_FOLDER_NAMES: tuple[Callable[[str], str], ...] = (
    lambda label: label,
    lambda label: label.replace(" ", "_"),
    lambda label: label.replace(" ", "-"),
    lambda label: label.replace(" ", "_").replace("(", "").replace(")", "").replace("'", ""),
    lambda label: "".join(word[:1].upper() + word[1:] for word in label.split()),
    lambda label: " ".join(word[:1].upper() + word[1:] for word in label.split()),
)


def _spellings_in(pattern: str) -> tuple[Callable[[str], str], ...]:
    return _FOLDER_NAMES if "{label" in pattern else _FOLDER_NAMES[:1]


def _checked_split(split: Split) -> Split:
    if split not in ("train", "test", "all"):
        raise ValueError(f"split={split!r}; choose 'train', 'test' or 'all'.")
    return split


def _checked_fold(fold: Fold) -> Fold:
    if fold not in (1, 2, 3):
        raise ValueError(f"fold={fold!r}; the official folds are 1, 2 and 3.")
    return fold


def _parts(split: Split) -> tuple[str, ...]:
    return ("train", "test") if _checked_split(split) == "all" else (split,)
