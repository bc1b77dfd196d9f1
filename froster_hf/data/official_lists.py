"""Readers of the official annotation files of UCF-101, HMDB-51, Kinetics and Something-Something v2.

The files are the user's own; none is shipped. Labels become words (`label_text.py`); each reader gives the {video,
label} table of `video_table.py` with all classes of the data set, in the data set's own order.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from datasets import Dataset

from ..processing.text_files import AnnotationError, csv_cells, read_json, read_lines
from .label_text import distinct_label_texts, label_text
from .safe_paths import VideoRoot
from .video_table import ListedClip, MissingFiles, video_table

Split = Literal["train", "test", "all"]
Fold = Literal[1, 2, 3]

# Where people keep Kinetics: class folders, split folders, or one flat folder; the first file that is there is taken.
KINETICS_PATTERNS = (
    "{label}/{youtube_id}_{time_start:06d}_{time_end:06d}.mp4",
    "{split}/{label}/{youtube_id}_{time_start:06d}_{time_end:06d}.mp4",
    "{split}/{youtube_id}_{time_start:06d}_{time_end:06d}.mp4",
    "{youtube_id}_{time_start:06d}_{time_end:06d}.mp4",
)


def read_ucf101(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    split: Split,
    fold: Fold = 1,
    missing: MissingFiles = "error",
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
    folder, video_root = Path(annotations), VideoRoot(root)
    classes: list[str] = []
    for line, where in read_lines(folder / "classInd.txt"):
        number, _, name = line.strip().partition(" ")
        if not name or number != str(len(classes) + 1):
            raise AnnotationError(f"{where}: expected `{len(classes) + 1} ClassName`, got {line!r}.")
        classes.append(name)
    index_of = {name: index for index, name in enumerate(classes)}

    def clips() -> Iterator[ListedClip]:
        for part in _parts(split):
            for line, where in read_lines(folder / f"{part}list{_checked_fold(fold):02d}.txt"):
                path = line.strip().rsplit(" ", 1)[0] if part == "train" else line.strip()
                class_name = path.partition("/")[0]
                if class_name not in index_of:
                    raise AnnotationError(f"{where}: {class_name!r} is not a class of classInd.txt.")
                yield ListedClip(video_root.resolve(path, where=where), index_of[class_name], where)

    return video_table(clips(), labels=distinct_label_texts(classes), missing=missing)


def read_hmdb51(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    split: Split,
    fold: Fold = 1,
    missing: MissingFiles = "error",
) -> Dataset:
    """HMDB-51 by `testTrainMulti_7030_splits`.

    A file a class, "clip.avi mark" a line; mark 1 trains, 2 tests, 0 is unused.

    Args:
        root: folder of the 51 class folders.
        annotations: the folder `testTrainMulti_7030_splits`.
        split: `all` takes every mark, that is, every clip.

    Raises:
        AnnotationError: a file or line that does not fit; names it.
    """
    suffix = f"_test_split{_checked_fold(fold)}.txt"
    video_root = VideoRoot(root)
    files = sorted(Path(annotations).glob(f"*{suffix}"))
    if not files:
        raise AnnotationError(f"{os.fspath(annotations)} holds no file named <class>{suffix}.")
    classes = [file.name.removesuffix(suffix) for file in files]
    marks = {"train": {"1"}, "test": {"2"}, "all": {"0", "1", "2"}}[_checked_split(split)]

    def clips() -> Iterator[ListedClip]:
        for index, (file, class_name) in enumerate(zip(files, classes)):
            for line, where in read_lines(file):
                name, _, mark = line.strip().rpartition(" ")
                if not name or mark not in ("0", "1", "2"):
                    raise AnnotationError(f"{where}: expected `clip.avi mark` with mark 0, 1 or 2, got {line!r}.")
                if mark in marks:
                    path = video_root.resolve(f"{class_name}/{name.strip()}", where=where)
                    yield ListedClip(path, index, where)

    return video_table(clips(), labels=distinct_label_texts(classes), missing=missing)


def read_kinetics(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    patterns: Sequence[str] = KINETICS_PATTERNS,
    missing: MissingFiles = "error",
) -> Dataset:
    """Kinetics (400, 600, 700) by its CSV with the columns label, youtube_id, time_start, time_end, split.

    Many listed clips have left YouTube: `missing="drop"` takes those that are there, and says how many are not.

    Args:
        root: folder of the videos.
        annotations: the CSV file. Its labels, sorted, are the classes.
        patterns: `str.format` patterns of a clip's path under `root`, over the CSV's columns.

    Raises:
        AnnotationError: a file or line that does not fit; names it.
    """
    video_root = VideoRoot(root)
    lines = list(read_lines(annotations))
    if not lines:
        raise AnnotationError(f"{os.fspath(annotations)} is empty.")
    header = [name.strip() for name in csv_cells(*lines[0])]
    columns = ("label", "youtube_id", "time_start", "time_end", "split")
    if not set(columns) <= set(header):
        raise AnnotationError(f"{lines[0][1]}: the columns are {header}; needed are {list(columns)}.")
    rows = []
    for line, where in lines[1:]:
        cells = csv_cells(line, where)
        if len(cells) != len(header):
            raise AnnotationError(f"{where}: {len(cells)} fields, but the header names {len(header)}.")
        row: dict = dict(zip(header, (cell.strip() for cell in cells)))
        try:
            row["time_start"], row["time_end"] = int(float(row["time_start"])), int(float(row["time_end"]))
        except (ValueError, OverflowError) as error:
            raise AnnotationError(f"{where}: time_start and time_end must be seconds ({error}).") from error
        rows.append((row, where))
    classes = sorted({row["label"] for row, _ in rows})
    index_of = {name: index for index, name in enumerate(classes)}

    def clips() -> Iterator[ListedClip]:
        for row, where in rows:
            tried = [video_root.resolve(pattern.format_map(row), where=where) for pattern in patterns]
            yield ListedClip(next(filter(os.path.isfile, tried), tried[0]), index_of[row["label"]], where)

    return video_table(clips(), labels=distinct_label_texts(classes), missing=missing)


def read_something_something(
    root: str | os.PathLike,
    *,
    annotations: str | os.PathLike,
    labels: str | os.PathLike,
    missing: MissingFiles = "error",
) -> Dataset:
    """Something-Something v2 by its JSON files.

    Args:
        root: folder of `<id>.webm`.
        annotations: the train or validation file, a list of {"id", "template", ...}.
        labels: the labels file, {template without brackets: index}.

    Raises:
        AnnotationError: a file or entry that does not fit; names it.
    """
    video_root = VideoRoot(root)
    index_by_template = read_json(labels)
    try:
        indices = {str(template): int(index) for template, index in index_by_template.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise AnnotationError(f"{os.fspath(labels)}: expected an object of template to index ({error}).") from error
    classes = sorted(indices, key=indices.__getitem__)
    if [indices[name] for name in classes] != list(range(len(classes))):
        raise AnnotationError(f"{os.fspath(labels)}: the indices must run from 0 to {len(classes) - 1} without gaps.")
    texts = distinct_label_texts(classes)
    index_of = {text: index for index, text in enumerate(texts)}
    entries = read_json(annotations)
    if not isinstance(entries, list):
        raise AnnotationError(f"{os.fspath(annotations)}: expected a list of entries.")

    def clips() -> Iterator[ListedClip]:
        for number, entry in enumerate(entries):
            where = f"{os.fspath(annotations)}, entry {number}"
            if not isinstance(entry, dict) or not {"id", "template"} <= set(entry):
                raise AnnotationError(
                    f"{where}: needs `id` and `template` (the test file has no labels), got {entry!r:.200}."
                )
            text = label_text(str(entry["template"]))
            if text not in index_of:
                raise AnnotationError(f"{where}: the template {entry['template']!r} is not in {os.fspath(labels)}.")
            yield ListedClip(video_root.resolve(f"{entry['id']}.webm", where=where), index_of[text], where)

    return video_table(clips(), labels=texts, missing=missing)


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
