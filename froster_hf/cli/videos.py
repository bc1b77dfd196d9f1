"""From what is written on the command line to videos: files, folders, patterns, URLs."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

VIDEO_SUFFIXES = {
    *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
}


def find_videos(arguments: Sequence[str]) -> list[str]:
    """The videos that the arguments stand for, in their order, each once.

    A folder stands for the videos in it and below it, or, where it holds only image files, for one video of frames. A
    pattern (`*`, `?`, `**`) that the shell has left stands for the files that match. Everything else stands for
    itself; whether it can be read shows when it is read.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        found.update(dict.fromkeys(_expand(argument)))
    return list(found)


def _expand(argument: str) -> list[str]:
    if os.path.isdir(argument):
        files = sorted(path for path in Path(argument).rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        if files:
            return [str(path) for path in files]
        # A folder of frames, or an empty one, of which the reader says so.
        return [argument]
    if not os.path.exists(argument) and glob.has_magic(argument) and "://" not in argument:
        return sorted(glob.glob(argument, recursive=True)) or [argument]
    return [argument]
