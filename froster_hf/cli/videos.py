"""From what is written on the command line to videos: files, folders, patterns, URLs."""

import glob
import os
import sys
from collections.abc import Sequence

from ..printing import printable
from ..video.files import UNREADABLE, search_folder
from ..video.stores import find_videos as find_videos_at
from ..video.stores import is_address
from ..video.types import UnreadableVideoError


def find_videos(arguments: Sequence[str]) -> list[str]:
    """The videos that the arguments stand for, in their order, each once.

    A folder stands for the videos in it and below it, hidden ones left out, or, where it holds none, for one video of
    frames. A pattern (`*`, `?`, `**`) that the shell has left stands for the files that match. Both may lie in a store
    (`s3://bucket/videos/`). Everything else stands for itself; whether it can be read shows when it is read.

    Raises:
        ValueError: a store cannot be searched; names it.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        found.update(dict.fromkeys(_expand(argument)))
    return list(found)


def _expand(argument: str) -> list[str]:
    if is_address(argument):
        try:
            return find_videos_at(argument)
        except UnreadableVideoError as error:
            raise ValueError(f"{printable(argument)}: {error}") from error
    if os.path.isdir(argument):
        content = search_folder(argument)
        if unreadable := content.passed_over[UNREADABLE]:
            print(f"froster: {printable(argument)}: passed over {unreadable} {UNREADABLE}", file=sys.stderr)
        if content.videos:
            return [str(path) for path in content.videos]
        # A folder of frames, or an empty one, of which the reader says so.
        return [argument]
    if not os.path.exists(argument) and glob.has_magic(argument) and "://" not in argument:
        return sorted(glob.glob(argument, recursive=True)) or [argument]
    return [argument]
