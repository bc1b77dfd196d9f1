"""What a caller may hand over as a video, and what becomes of it: a checked regular file, or bytes. Nothing else.

FFmpeg reads a string as a URL, a playlist or a device where it can, so no string of a caller's reaches it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, BinaryIO

from .stores import copy_path, fetch_file, is_address, refuse_unnamed
from .types import LONGEST_PATH, UnreadableVideoError, VideoLimits, path_error
from .url import WEB_POLICIES, WebPolicy, fetch_url, shown_address

# Which addresses may be opened: a policy of the web, addresses that the caller names, or a list of these.
UrlPolicy = str | Sequence[str]

VideoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_READ_BYTES = 2**20
_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a FIFO"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a character device"),
    (stat.S_ISBLK, "it is a block device"),
)


@dataclass(frozen=True)
class CheckedSource:
    """A regular file on disk, named by its path and identity, or the bytes of a video.

    Args:
        path: Absolute path of the file, or None.
        identity: Device and inode, by which the decoding process recognizes the file that was checked.
        data: The video itself where there is no path.
        copy: The local copy of a remote file, which lasts as long as this.
    """

    path: str | None = None
    identity: tuple[int, int] | None = None
    data: bytes | bytearray | memoryview | None = None
    copy: IO[bytes] | None = None

    def close(self) -> None:
        """Let go of the copy of a remote file."""
        if self.copy is not None:
            self.copy.close()

    def request(self) -> tuple[dict[str, Any], tuple]:
        """The fields and the payload that describe it to the decoding process."""
        if self.path is not None:
            return {"path": self.path, "identity": self.identity}, ()
        data = memoryview(self.data or b"").cast("B")
        return {"size": data.nbytes}, (data,)


def source_name(source: VideoSource) -> str:
    """What error messages call it."""
    if isinstance(source, str | os.PathLike):
        name = str(os.fspath(source))
        name = name if len(name) <= LONGEST_PATH else f"{name[:100]}..."
        return shown_address(name) if _SCHEME.match(name) else name
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{memoryview(source).nbytes} bytes>"
    own = getattr(source, "name", None)
    return own if isinstance(own, str) else f"<{type(source).__name__}>"


def check_source(source: VideoSource, *, limits: VideoLimits, allow_urls: UrlPolicy) -> CheckedSource:
    """Check what can be checked without decoding.

    Raises:
        UnreadableVideoError: on anything but a non-empty regular file, readable object or allowed URL within limits.
        TypeError: on another type, or on a file opened as text.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _checked_bytes(source, limits)
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if len(path) > LONGEST_PATH:
            # Python takes an address apart in the square of the accents in its host.
            raise UnreadableVideoError(f"its path has {len(path):,} characters; at most {LONGEST_PATH:,} are read")
        web_policy, named = split_policy(allow_urls)
        if is_address(path):
            return _fetched(path, named, limits)
        if _SCHEME.match(path):
            return _checked_bytes(fetch_url(path, policy=web_policy, limits=limits), limits)
        return _checked_path(path, limits)
    if hasattr(source, "read"):
        return _checked_object(source, limits)
    raise TypeError(f"A video is a path, a URL, bytes or a binary file object, not {type(source).__name__}.")


def split_policy(allow_urls: UrlPolicy) -> tuple[WebPolicy, tuple[str, ...]]:
    """What may be fetched from the web, and the addresses in other places that the caller has named.

    Raises:
        ValueError: something else.
    """
    entries = (allow_urls,) if isinstance(allow_urls, str) else tuple(allow_urls)
    web = [entry for entry in entries if entry in WEB_POLICIES]
    named = tuple(entry for entry in entries if entry not in WEB_POLICIES)
    if len(web) > 1 or not all(isinstance(entry, str) and is_address(entry) for entry in named):
        raise ValueError(
            f"allow_urls is {allow_urls!r}, but must be one of {', '.join(map(repr, WEB_POLICIES))}, an address of "
            "another place, such as 's3://bucket/videos/', or a list of these."
        )
    return web[0] if web else "none", named


def _fetched(address: str, named: Sequence[str], limits: VideoLimits) -> CheckedSource:
    refuse_unnamed(address, named)
    copy = fetch_file(address, limits)
    if isinstance(copy, str):
        return _checked_path(copy, limits)
    try:
        # As it is: resolved, the path of a file without a name would lead nowhere.
        path = copy_path(copy)
        return replace(_checked_path(path, limits), path=path, copy=copy)
    except BaseException:
        copy.close()
        raise


def _checked_path(path: str, limits: VideoLimits) -> CheckedSource:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise path_error(error) from error
    for is_kind, reason in _KINDS:
        if is_kind(status.st_mode):
            raise UnreadableVideoError(f"{reason}, not a regular file")
    if status.st_size == 0:
        raise UnreadableVideoError("it is empty")
    limits.check("max_file_bytes", status.st_size, f"it has {status.st_size} bytes")
    return CheckedSource(path=os.path.realpath(path), identity=(status.st_dev, status.st_ino))


def _checked_bytes(data: bytes | bytearray | memoryview, limits: VideoLimits) -> CheckedSource:
    size = memoryview(data).nbytes
    if size == 0:
        raise UnreadableVideoError("it is empty")
    limits.check("max_memory_bytes", size, f"it has {size} bytes")
    return CheckedSource(data=data)


def _checked_object(source: BinaryIO, limits: VideoLimits) -> CheckedSource:
    """An object that is an open file on disk goes by its path, if that still leads to it; any other is read.

    One that unpacks a file (gzip) has the file's name and descriptor, and gives something else.
    """
    if isinstance(source, io.TextIOBase):
        raise TypeError("A video file must be opened in binary mode ('rb'), not as text.")
    name = getattr(source, "name", None)
    if isinstance(name, str) and isinstance(getattr(source, "raw", source), io.FileIO):
        try:
            # What has been written to it and waits.
            source.flush()
            opened, named = os.fstat(source.fileno()), os.stat(name)
        except (OSError, ValueError, TypeError, AttributeError):
            pass
        else:
            if os.path.samestat(opened, named):
                return _checked_path(name, limits)
    end_time = time.monotonic() + limits.timeout_seconds
    data = bytearray()
    try:
        if _is_seekable(source):
            source.seek(0)
        # Part by part, since a raw file may give less than it is asked for.
        part: bytes | None = b""
        while len(data) <= limits.max_memory_bytes and (part := _next_part(source)):
            data += part
            if time.monotonic() > end_time:
                raise UnreadableVideoError(
                    f"reading it took longer than {limits.timeout_seconds:g} seconds (VideoLimits.timeout_seconds)"
                )
        if part is None:
            raise UnreadableVideoError("it had nothing to read yet, since it does not wait: set it to blocking")
    except (MemoryError, UnreadableVideoError):
        raise
    except Exception as error:
        # Somebody else's object may raise anything, or give text: that is its fault, and not an error of ours.
        raise UnreadableVideoError(f"reading the file object failed: {error or type(error).__name__}") from error
    return _checked_bytes(data, limits)


def _is_seekable(source: Any) -> bool:
    """Whether a file object says that it can be read from its beginning: not where the question fails."""
    try:
        return bool(source.seekable())
    except Exception:
        # Python 3.11 has none for a member of a tar stream.
        return False


def _next_part(source: Any) -> bytes | None:
    """The next bytes of a file object; none at its end, and `None` where it does not wait for them."""
    part = b""
    if hasattr(source, "read1"):
        # What is there: `read` of a buffered one waits for all of a part. The base class has one that only raises.
        with contextlib.suppress(io.UnsupportedOperation):
            part = source.read1(_READ_BYTES)
    # Nothing is also what one gives that does not wait.
    return part or source.read(_READ_BYTES)
