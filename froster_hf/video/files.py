"""Which files of a folder are videos: one list of suffixes, and one rule for what is passed over.

Used by everything that searches folders, the readers of data sets and the command line alike.
"""

import contextlib
import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
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
# In the place of folders; what they lead to is searched where it is named.
LINKS = "links to folders"

_NOT_THERE = "not there"

_SEPARATORS = os.sep + (os.altsep or "")
# In a pattern, once or several times in a row.
_FOLDERS_BELOW = re.compile(r"(?<![^{0}])\*\*(?:[{0}]+\*\*)*(?![^{0}])".format(re.escape(_SEPARATORS)))

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
    """What tells a file from another one in its place: its size and time; of a folder of frames, a hash of those of
    each, and of their names."""
    try:
        if os.path.isdir(path):
            with os.scandir(os.fsdecode(path)) as entries:
                files = sorted(
                    f"{entry.name}\0{_size_and_time(entry.path)}\0"
                    for entry in entries
                    if not is_hidden(entry.name) and not os.path.isdir(entry.path)
                )
            digest = blake2b("".join(files).encode(errors="surrogatepass"), digest_size=16).hexdigest()
            return f"{len(files)} files, {digest}"
        return _size_and_time(path)
    except (OSError, TypeError):
        return _NOT_THERE


def _size_and_time(path: Any) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError, TypeError):
        return _NOT_THERE
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
    # Where the folder itself is not there, or is none, that is an error.
    with contextlib.suppress(PermissionError), os.scandir(os.fspath(folder)):
        pass
    for _, files in _walk([os.fspath(folder)], content.passed_over, is_hidden):
        for entry in files:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in VIDEO_SUFFIXES:
                content.videos.append(Path(entry.path))
            else:
                content.passed_over[suffix or "without a suffix"] += 1
    content.videos.sort()
    return content


def match_pattern(pattern: str, passed_over: Counter[str]) -> list[str]:
    """The files and folders that match a pattern as in `glob`, sorted, each once.

    Unlike there, folders may lie within each other at any depth, and `**` follows no links to them, which may lead in
    a circle or anywhere, as in shells. A link that a name or `*` stands for is followed.

    Args:
        pattern: of `*`, `?`, `[...]` and `**`, which stand for names without a leading dot.
        passed_over: counts what `**` passes over, as `FolderContent` does.
    """
    start, *parts = _FOLDERS_BELOW.split(pattern)
    if not parts:
        return sorted(glob.glob(pattern))
    found = set(glob.glob(start)) if start else {""}
    for part in parts:
        # What comes before another `**` ends in a separator, as does what `glob` then finds, folders only. At the end
        # of a pattern, `**` stands for all that is below, and for the folder itself.
        names = part.lstrip(_SEPARATORS) if part else "*"
        matches = set() if part else set(found)
        passed_over_here: Counter[str] = Counter()
        for folder, _ in _walk(map(os.path.dirname, found), passed_over_here, _has_leading_dot):
            below = glob.glob(names, root_dir=folder) if names else [""]
            matches.update(os.path.join(folder, name) for name in below)
        # A later `**` searches folders that an earlier one has searched.
        passed_over |= passed_over_here
        found = matches
    return sorted(found - {""})


def _has_leading_dot(name: str) -> bool:
    return name.startswith(".")


def _walk(
    folders: Iterable[str], passed_over: Counter[str], is_left_out: Callable[[str], bool]
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each of the folders, and each one below them, once, with the files in it; a loop, for folders of any depth."""
    pending, seen = list(folders), set()
    while pending:
        if (folder := pending.pop()) in seen:
            continue
        seen.add(folder)
        try:
            with os.scandir(folder or os.curdir) as found:
                entries = list(found)
        except OSError:  # also a path that is too long for the system
            passed_over[UNREADABLE] += 1
            continue
        files = []
        for entry in entries:
            if is_left_out(entry.name):
                passed_over["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                pending.append(os.path.join(folder, entry.name))
            # Unlike `entry.is_dir()`, false for links in a circle or into a folder without permission.
            elif entry.is_symlink() and os.path.isdir(entry.path):
                passed_over[LINKS] += 1
            else:
                files.append(entry)
        yield folder, files
