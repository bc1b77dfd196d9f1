"""Readers of the official annotations of long videos: which action from when to when (ActivityNet, THUMOS14).

The files are the user's own; none is shipped. Labels become words, as in the lists of clips.
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..printing import listing, printable
from ..processing.text_files import AnnotationError, read_json, read_lines_of, shown_path
from ..video.files import is_hidden
from .safe_paths import VideoRoot
from .video_table import MissingFiles, distinct_label_texts, is_video_path

VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi")
# THUMOS14's files beside those of its classes: stretches of which nobody can say whether the action is there.
AMBIGUOUS = "Ambiguous"
# Of one class in one video, with each of which whatever is found there is compared.
MOST_SEGMENTS = 2000


@dataclass(frozen=True, slots=True)
class AnnotatedSegment:
    """An action in a long video.

    Args:
        video: absolute path of the file.
        label: its class, in words.
        start_seconds: where it begins.
        end_seconds: where it ends, later than it begins.
    """

    video: str
    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class SegmentTable:
    """Long videos and the actions in them.

    Args:
        labels: K classes.
        videos: absolute paths, each once; those without any action are tested as well.
        segments: segments of these videos.
        source: where they come from, and what was passed over.
    """

    labels: list[str]
    videos: list[str]
    segments: list[AnnotatedSegment]
    source: str


def read_activitynet(
    annotations: str | os.PathLike,
    root: str | os.PathLike,
    *,
    subset: str = "validation",
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> SegmentTable:
    """ActivityNet's JSON: `database` -> video -> `subset`, `duration`, `annotations` of `label` and `segment`.

    Args:
        annotations: the file, such as `activity_net.v1-3.min.json`.
        root: folder of the videos, named `v_ID.mp4` or `ID.mp4` (or .mkv, .webm, .avi).
        subset: `training`, `validation` or `testing`, whose annotations are not published.
        missing: what to do with listed videos that are not there.
        allow_links: whether links may lead out of `root`.

    Raises:
        AnnotationError: a file that is not such a list; names what is wrong in it.
    """
    where = shown_path(annotations)
    content = read_json(annotations)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise AnnotationError(f"{where} has no object `database`: it is not a list as ActivityNet's.")
    names: dict[str, None] = {}
    listed: dict[str, list[tuple[str, float, float]]] = {}
    subsets = set()
    for video, entry in database.items():
        place = f"{where}, video {printable(video[:80])!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), list):
            raise AnnotationError(f"{place}: expected an object with `subset` and a list `annotations`.")
        found = [_activitynet_segment(item, place) for item in entry["annotations"]]
        names.update(dict.fromkeys(name for name, _, _ in found))
        subsets.add(str(entry.get("subset"))[:80])
        if entry.get("subset") == subset:
            listed[video] = found
    if not listed:
        raise AnnotationError(
            f"{where}: no video is of the subset {printable(subset[:80])!r}; there are "
            f"{printable(str(sorted(subsets)[:5]))}."
        )
    return segment_table(
        listed,
        names=sorted(names),
        root=VideoRoot(root, allow_links=allow_links),
        patterns=("v_{}", "{}"),
        missing=missing,
        where=where,
    )


def read_thumos14(
    annotations: str | os.PathLike,
    root: str | os.PathLike,
    *,
    subset: str = "test",
    missing: MissingFiles = "error",
    allow_links: bool = False,
) -> SegmentTable:
    """THUMOS14's text files: one per class, `CLASS_test.txt`, with `video start end` a line.

    Its ambiguous stretches are left out, as in published evaluations. Text files that are not named so are counted in
    what the table says of itself.

    Args:
        annotations: the folder of the files, often called `annotation`.
        root: folder of the videos, named as in the files (.mp4, .mkv, .webm, .avi).
        subset: `val` or `test`.
        missing: what to do with listed videos that are not there.
        allow_links: whether links may lead out of `root`.

    Raises:
        AnnotationError: a folder without such files, or a line that does not fit; names it.
    """
    folder = Path(annotations)
    # By name: as a pattern, what a protocol calls a subset could lead anywhere.
    ending = f"_{subset}.txt"
    texts = sorted(path for path in folder.iterdir() if _is_text(path)) if folder.is_dir() else []
    files = [path for path in texts if path.name.endswith(ending) and path.name != ending]
    listed: dict[str, list[tuple[str, float, float]]] = {}
    name_of = {file: name for file in files if (name := file.name.removesuffix(ending)) != AMBIGUOUS}
    for file, line, place in read_lines_of(name_of):
        cells = line.split()
        if len(cells) != 3:
            raise AnnotationError(f"{place}: expected `video start end`, got {printable(line[:200])!r}.")
        listed.setdefault(cells[0], []).append((name_of[file], *segment_seconds(cells[1:], place)))
    if not listed:
        raise AnnotationError(
            f"{shown_path(folder)} holds no segments in files named CLASS_{printable(subset[:80])}.txt."
        )
    table = segment_table(
        listed,
        names=list(name_of.values()),
        root=VideoRoot(root, allow_links=allow_links),
        missing=missing,
        where=shown_path(folder),
    )
    if others := sorted({path.name for path in texts} - {path.name for path in files}):
        passed = f"{len(others)} text files not named CLASS{printable(ending)} were passed over"
        table = replace(table, source=f"{table.source} {passed}: {listing(others, limit=5)}.")
    return table


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and not is_hidden(path.name)


def _activitynet_segment(item: Any, place: str) -> tuple[str, float, float]:
    if not isinstance(item, dict) or not isinstance(item.get("label"), str):
        raise AnnotationError(f"{place}: expected an annotation with `label` and `segment`.")
    segment = item.get("segment")
    if not isinstance(segment, list) or len(segment) != 2:
        raise AnnotationError(f"{place}: `segment` must be two numbers, start and end in seconds.")
    # To Python, true is a number, and so is the text of one.
    if not all(type(value) in (int, float) for value in segment):
        raise AnnotationError(f"{place}: start and end must be numbers, got {printable(str(segment)[:80])}.")
    return (item["label"], *segment_seconds(segment, place))


def segment_seconds(values: Iterable[Any], place: str) -> tuple[float, float]:
    """Start and end of a segment, from the two texts or numbers that a list has for it.

    Args:
        values: start and end, in seconds.
        place: the file and line, for errors.

    Raises:
        AnnotationError: they are not two numbers from 0 on of which the second is not smaller.
    """
    try:
        start, end = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError):  # 10^400 is an integer of JSON
        raise AnnotationError(f"{place}: start and end must be numbers, got {printable(str(values)[:80])}.") from None
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
        raise AnnotationError(f"{place}: a segment runs from {start} to {end} s; it must not end before it starts.")
    return start, end


def segment_table(
    listed: Mapping[str, Sequence[tuple[str, float, float]]],
    *,
    names: Sequence[str],
    root: VideoRoot,
    patterns: Sequence[str] = ("{}",),
    missing: MissingFiles = "error",
    where: str,
) -> SegmentTable:
    """What every reader of lists of long videos ends with: files are found, classes become words.

    Args:
        listed: video, as the list names it -> class name, start and end of each of its segments; an empty list for a
            video without any action, which is tested as well. Segments without length are left out, and counted.
        names: the classes, as the list names them, in the order of the table; each becomes words of its own.
        root: the folder of the videos; no name leads out of it.
        patterns: how the files of a video may be called, before their ending (.mp4, .mkv, .webm, .avi); the first that
            is there is taken. A name that has such an ending gets no other.
        missing: what to do with listed videos that are not there.
        where: the list, for errors and for what the table says of itself.

    Raises:
        AnnotationError: videos are missing under `missing="error"`, none is there, two names are of one file, a name
            leads out of the folder, two classes become the same words, or a video has more segments of one class than
            `MOST_SEGMENTS`.
    """
    text_of = dict(zip(names, distinct_label_texts(names, where=where)))
    videos, segments, absent, empty = [], [], [], 0
    name_of: dict[str, str] = {}
    for video, found in listed.items():
        endings = ("",) if video.lower().endswith(VIDEO_ENDINGS) else VIDEO_ENDINGS
        candidates = [pattern.format(video) + ending for pattern in patterns for ending in endings]
        # Looked for before they are resolved, which takes ten times as long: most lead to nothing.
        there = (root.resolve(name, where=where) for name in candidates if os.path.exists(root.path / name))
        path = next(filter(is_video_path, there), None)
        file = path or root.resolve(candidates[0], where=where)
        if path is None and missing != "keep":
            absent.append(video)
            continue
        if file in name_of:
            named = " and ".join(printable(repr(name), limit=100) for name in (name_of[file], video))
            raise AnnotationError(
                f"{where}: {named} are the same file, whose segments would count twice. Take one of the two out."
            )
        counts = Counter(name for name, _, _ in found)
        if any(count > MOST_SEGMENTS for count in counts.values()):
            (name, count), *_ = counts.most_common(1)
            raise AnnotationError(
                f"{where}: {printable(repr(video), limit=100)} has {count:,} segments of {printable(repr(name))}; at "
                f"most {MOST_SEGMENTS:,} of one class in a video are compared with what is found."
            )
        name_of[file] = video
        videos.append(file)
        for name, start, end in found:
            if end > start:
                segments.append(AnnotatedSegment(videos[-1], text_of[name], start, end))
            else:
                empty += 1
    if absent and missing == "error":
        named = ", ".join(printable(video[:80]) for video in absent[:5])
        raise AnnotationError(
            f"{len(absent)} of {len(listed)} listed videos are not in {printable(str(root.path))}, such as {named}. "
            "Pass missing='drop' to go on without them."
        )
    if not videos:
        raise AnnotationError(f"{where}: none of the {len(listed)} listed videos is in {printable(str(root.path))}.")
    source = f"Read from {where}: {len(videos)} videos, {len(segments)} segments."
    source += f" {len(absent)} listed videos were not there." * bool(absent)
    source += f" {empty} segments without length were left out." * bool(empty)
    if again := len(segments) - len(set(segments)):
        source += f" {again} segments stand more than once, and count as often."
    return SegmentTable(list(text_of.values()), videos, segments, source)
