"""Paths from lists that somebody else wrote, confined to the data root.

The first step of the data flow: every path in an annotation file passes here before it enters a `datasets.Dataset`. A
string handed to FFmpeg may be a URL, `concat:...` or a playlist, and `../../` or a symbolic link may lead to any file
of the machine, so a path is kept only when it is a plain one that, fully resolved, lies under the data root. Downloads
of the Hub are links from one folder of a cache entry into another, which are followed.
"""

import errno
import os
import re
import stat
from functools import lru_cache
from pathlib import Path

from ..hub_cache import blobs_of_snapshot
from ..printing import printable
from ..processing.text_files import AnnotationError, shown_path
from ..video.url import shown_address

# "c:" of a Windows drive is one letter; every scheme that FFmpeg or fsspec knows has at least two.
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+:")
# Of Linux (PATH_MAX), which has the longest that are in use.
LONGEST_PATH = 4096


class UnsafePathError(AnnotationError):
    """A path in an annotation file that leaves the data root or is not a plain path."""


class VideoRoot:
    """Resolves listed paths against one data root and refuses those that leave it.

    Parents are resolved once each, so a list of 240,000 clips in 400 folders costs one `lstat` a clip.

    Args:
        root: an existing folder. Absolute paths are allowed if they lie under it.
        relative_to: folder from which relative paths are taken; `root` by default.
        allow_links: whether symbolic links under the root may lead out of it, as in a folder of links that the caller
            has made. A path that leaves the root by itself, as with `..`, is refused all the same.

    Raises:
        NotADirectoryError: `root` is not a folder.
    """

    def __init__(
        self, root: str | os.PathLike, *, relative_to: str | os.PathLike | None = None, allow_links: bool = False
    ):
        self.path = Path(root).resolve()
        self._base = self.path if relative_to is None else Path(relative_to).resolve()
        if not self.path.is_dir():
            raise NotADirectoryError(
                f"The data root {os.fspath(root)!r} is not a folder. Pass the folder of the videos."
            )
        self.allow_links = allow_links
        blobs = blobs_of_snapshot(self.path)
        self._allowed = [self.path] if blobs is None else [self.path, blobs]
        self._resolved_parent = lru_cache(maxsize=65536)(os.path.realpath)

    def resolve(self, path: str, *, where: str) -> str:
        """The absolute path of a listed file, which need not exist.

        Args:
            path: as written in the list.
            where: file and line, for the error message.

        Raises:
            UnsafePathError: the path is empty, has a NUL byte or a scheme, or resolves to a place outside the root.
        """
        shown = printable(path[:300])
        if not path or "\0" in path:
            raise UnsafePathError(
                f"{where}: {shown!r} is empty or holds a NUL byte; write a path relative to the data root."
            )
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise UnsafePathError(
                f"{where}: {shown!r} is not UTF-8, which tables of videos need. Rename the file or mend the list."
            ) from error
        # Each part of a path is looked up with all before it.
        if len(path) > LONGEST_PATH:
            raise UnsafePathError(f"{where}: {shown!r} cannot be resolved ({os.strerror(errno.ENAMETOOLONG)}).")
        if _SCHEME.match(path):
            raise UnsafePathError(
                f"{where}: {shown_address(shown)!r} begins with a scheme; only plain paths under "
                f"{shown_path(self.path)} are read."
            )
        if self.allow_links:
            return self._unresolved(self._base / path, where=where)
        # Not by pathlib, which takes three times as long: a list may name a folder of its own in every line.
        candidate = os.path.join(self._base, path)
        parent, name = os.path.split(candidate)
        try:
            resolved = os.path.join(self._resolved_parent(parent), name)
            if name in ("", ".", "..") or _is_link(resolved):
                resolved = os.path.realpath(candidate)
                # Where links lead in a circle, one is given back.
                if _is_link(resolved):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        except OSError as error:  # symbolic links in a circle; a name longer than the file system allows
            raise UnsafePathError(f"{where}: {shown!r} cannot be resolved ({_reason(error)}).") from error
        if not any(
            resolved == str(folder) or resolved.startswith(os.path.join(folder, "")) for folder in self._allowed
        ):
            is_link = Path(os.path.normpath(candidate)).is_relative_to(self.path)
            remedy = (
                "Symbolic links may lead out of the root with allow_links=True."
                if is_link
                else "Only files under the root are read; pass the folder that holds them all as the root."
            )
            raise UnsafePathError(
                f"{where}: {shown!r} leads to {printable(resolved[:300])}, outside the data root "
                f"{shown_path(self.path)}. {remedy}"
            )
        return resolved

    def _unresolved(self, candidate: Path, *, where: str) -> str:
        """The path without `..`, which says by itself that it lies under the root; what links make of it is open."""
        plain = Path(os.path.normpath(candidate))
        if not plain.is_relative_to(self.path) or plain == self.path:
            raise UnsafePathError(
                f"{where}: {printable(str(candidate)[:300])!r} lies outside the data root {shown_path(self.path)}; "
                "only links may lead out of it."
            )
        return str(plain)


def _is_link(path: str) -> bool:
    """Like `Path.is_symlink`, which since Python 3.14 says False of names that are too long."""
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _reason(error: Exception) -> str:
    """Without the path, which may be as long as the list."""
    return getattr(error, "strerror", None) or type(error).__name__
