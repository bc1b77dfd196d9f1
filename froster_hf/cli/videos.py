"""From what is written on the command line to videos: files, folders, patterns, URLs."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..printing import listing, printable
from ..processing.text_files import (
    AnnotationError,
    read_header,
    read_json_lines,
    read_lines,
    rows_below_header,
    shown_path,
)
from ..video.files import LINKS, UNREADABLE, match_pattern, search_folder
from ..video.stores import find_videos_at, is_address
from ..video.types import LONGEST_PATH, UnreadableVideoError
from ..video.url import shown_address

STANDARD_INPUT = "-"
LISTS = (".txt", ".csv", ".jsonl")


def find_videos(arguments: Sequence[str]) -> list[str]:
    """The videos that the arguments stand for, in their order, each once.

    A folder stands for the videos in it and below it, hidden ones left out, or, where it holds none, for one video of
    frames. A pattern (`*`, `?`, `**`) that the shell has left stands for the files that match. Both may lie in a store
    (`s3://bucket/videos/`). A list stands for its videos, whose paths begin in the list's folder: a path per line
    (.txt), the column `video` (.csv), or the field `video` (.jsonl). Everything else stands for itself; whether it can
    be read shows when it is read.

    Raises:
        ValueError: a store cannot be searched, or there is nothing in the folders; names it.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        # A file of this name that a list names or a pattern finds is not the caller's standard input.
        found.update(
            (os.path.join(os.curdir, video) if video == STANDARD_INPUT != argument else video, None)
            for video in _expand(argument)
        )
    if all(map(os.path.isdir, found)):
        from ..data.video_table import is_video_path

        if not any(map(is_video_path, found)):
            named = listing(found or arguments, limit=5)
            raise ValueError(f"There is no video in {named}. Give videos, folders of them, or folders of frames.")
    return list(found)


def _expand(argument: str) -> list[str]:
    if is_address(argument):
        try:
            # Where there is none, the reader says so of the address.
            return find_videos_at(argument) or [argument]
        except UnreadableVideoError as error:
            raise ValueError(f"{printable(shown_address(argument))}: {error}") from error
    if os.path.isdir(argument):
        content = search_folder(argument)
        _say_passed_over(argument, content.passed_over, UNREADABLE)
        if content.videos:
            return [str(path) for path in content.videos]
        # A folder of frames, or an empty one, of which the reader says so.
        return [argument]
    if os.path.isfile(argument) and argument.lower().endswith(LISTS):
        return _read_list(argument)
    if not os.path.exists(argument) and glob.has_magic(argument) and "://" not in argument:
        passed_over: Counter[str] = Counter()
        found = match_pattern(argument, passed_over)
        _say_passed_over(argument, passed_over, UNREADABLE, LINKS)
        return found or [argument]
    return [argument]


def _say_passed_over(argument: str, passed_over: Counter[str], *kinds: str) -> None:
    for kind in kinds:
        if passed_over[kind]:
            advice = ", which `**` does not follow: name what is to be searched" if kind == LINKS else ""
            print(f"froster: {printable(argument)}: passed over {passed_over[kind]} {kind}{advice}", file=sys.stderr)


def _read_list(path: str) -> list[str]:
    """The paths of a list.

    Raises:
        AnnotationError: a line without one, with one that is longer than any, or with other fields than the header;
            names it.
    """
    found: Iterator[tuple[Any, str]]
    lines = read_lines(path)
    if path.lower().endswith(".jsonl"):
        entries = read_json_lines(path)
        found = ((entry.get("video") if isinstance(entry, dict) else None, where) for entry, where in entries)
    elif path.lower().endswith(".csv"):
        first = next(lines, None)
        table = None if first is None else read_header(*first, ["video"])
        if table is None:
            raise AnnotationError(f"{shown_path(path)}: the first line names no column `video`.")
        header, delimiter = table
        column = header.index("video")
        found = ((cells[column], where) for cells, where in rows_below_header(lines, header, delimiter))
    else:
        found = ((line.strip(), where) for line, where in lines)
    folder, videos = os.path.dirname(path), []
    for video, where in found:
        if not isinstance(video, str) or not video:
            raise AnnotationError(f"{where}: there is no path of a video.")
        if len(video) > LONGEST_PATH:
            raise AnnotationError(
                f"{where}: the path of the video has {len(video):,} characters; at most {LONGEST_PATH:,} are read."
            )
        videos.append(video if "://" in video else os.path.join(folder, video))
    return videos
