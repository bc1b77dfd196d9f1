"""Which files of a folder are videos: one list of suffixes, and one rule for what is passed over.

Used by everything that searches folders, the readers of data sets and the command line alike.
"""

import difflib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of the containers that the reader opens.
VIDEO_SUFFIXES = frozenset(
    [
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpe", ".mpeg", ".mpg", ".mts", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv"),
    ]
)

# What is said of folders that the user may not look into, and of those whose paths are too long.
UNREADABLE = "folders that cannot be read"

# What systems leave in folders beside what they name by a leading dot.
_SYSTEM_NAMES = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


@dataclass
class FolderContent:
    """What a search of a folder found.

    Attributes:
        videos: sorted.
        passed_over: how often something was passed over, by what it is: "hidden", "links to folders", or a suffix.
    """

    videos: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system, not to the user."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES | _SYSTEM_FILES


def path_state(path: Any) -> str:
    """What tells a file from another one in its place: its size and time; of a folder of frames, of the newest one."""
    try:
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                times = [entry.stat().st_mtime_ns for entry in entries]
            return f"{len(times)} files, {max(times, default=0)}"
        status = os.stat(path)
    except (OSError, ValueError, TypeError):
        return "not there"
    return f"{status.st_size} bytes, {status.st_mtime_ns}"


def is_video_name(name: str) -> bool:
    """Whether a name has a video's suffix, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def find_alike(path: str | os.PathLike, *, most: int = 2) -> list[str]:
    """Files and folders beside a path that is not there whose names are nearly its own, written as the path is."""
    folder, name = os.path.split(os.fspath(path).rstrip("/"))
    try:
        names = [entry.name for entry in os.scandir(folder or ".") if not is_hidden(entry.name)]
    except (OSError, ValueError):
        return []
    return [os.path.join(folder, found) for found in difflib.get_close_matches(name, names, n=most)]


def search_folder(folder: str | os.PathLike) -> FolderContent:
    """The videos in a folder and below it, in an order that does not depend on the file system.

    Hidden files and folders, links to folders (which may lead in a circle), folders that may not be read, and files
    without a video's suffix are passed over and counted.
    """
    content = FolderContent()
    for entry in _entries(folder, content.passed_over):
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in VIDEO_SUFFIXES:
            content.videos.append(Path(entry.path))
        else:
            content.passed_over[suffix or "without a suffix"] += 1
    content.videos.sort()
    return content


def _entries(folder: str | os.PathLike, passed_over: Counter[str]) -> Iterator[os.DirEntry[str]]:
    pending = [os.fspath(folder)]
    while pending:
        path = pending.pop()
        try:
            with os.scandir(path) as found:
                entries = list(found)
        except OSError as error:
            # Below the folder that was asked for, there may also be paths that are too long for the system.
            if not isinstance(error, PermissionError) and path == os.fspath(folder):
                raise
            passed_over[UNREADABLE] += 1
            continue
        for entry in entries:
            if is_hidden(entry.name):
                passed_over["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            # Unlike `entry.is_dir()`, false for links in a circle or into a folder without permission.
            elif os.path.isdir(entry.path):
                passed_over["links to folders"] += 1
            else:
                yield entry
