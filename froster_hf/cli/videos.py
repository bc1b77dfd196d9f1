"""From what is written on the command line to videos: files, folders, patterns, URLs."""

import glob
import os
from collections.abc import Sequence

from ..processing.video_files import search_folder


def find_videos(arguments: Sequence[str]) -> list[str]:
    """The videos that the arguments stand for, in their order, each once.

    A folder stands for the videos in it and below it, hidden ones left out, or, where it holds none, for one video of
    frames. A
    pattern (`*`, `?`, `**`) that the shell has left stands for the files that match. Everything else stands for
    itself; whether it can be read shows when it is read.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        found.update(dict.fromkeys(_expand(argument)))
    return list(found)


def _expand(argument: str) -> list[str]:
    if os.path.isdir(argument):
        if videos := search_folder(argument).videos:
            return [str(path) for path in videos]
        # A folder of frames, or an empty one, of which the reader says so.
        return [argument]
    if not os.path.exists(argument) and glob.has_magic(argument) and "://" not in argument:
        return sorted(glob.glob(argument, recursive=True)) or [argument]
    return [argument]
