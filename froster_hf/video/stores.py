"""Files in object stores and other file systems, by addresses that the caller has named: `s3://`, `gs://`, `hf://` ...

Any scheme that fsspec knows, but for http and https, which go through `url.py`. An address in somebody's list must not
make this machine read other files with the caller's credentials: only what the caller has named is opened, and what
lies below it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import math
import multiprocessing
import os
import re
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Any

from .archives import ARCHIVES
from .files import is_hidden, is_video_name, match_pattern, search_folder
from .types import DecodingUnavailableError, UnreadableVideoError, VideoLimits
from .url import shown_address, without_secrets

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# A revision in an address of the Hub, which is not part of what the caller named.
_HUB_REVISION = re.compile(r"^(hf://(?:(?:datasets|spaces|models|buckets)/)?[^/@]+/[^/@]+)@[^/]+")
_CHUNK_BYTES = 2**20
# A temporary folder that has less, with what copies take of it, is full, whatever is copied to it. It is little, as
# copies of other processes are not seen.
LEAST_ROOM = 2**22
# From one look at the room that other workers may have left to the next.
_WAIT_SECONDS = 0.1
# What there was at most while a worker waited in vain, as long as one video may take. More is not waited for again.
_most_room = math.inf

# Of remote files, as long as they are there.
_copies: weakref.WeakSet[Any] = weakref.WeakSet()


def is_address(text: str) -> bool:
    """Whether a text is an address that fsspec opens, rather than a path, or a URL of the web."""
    match = _ADDRESS.match(text)
    return match is not None and match[1].lower() not in ("http", "https")


def is_named(address: str, named: Sequence[str]) -> bool:
    """Whether an address is one that the caller has named, or lies below one of them.

    Args:
        address: address of a file.
        named: addresses of files, folders or buckets.
    """
    if address in named:
        return True
    # A chain ("zip://a::https://b") may begin like a named address and lead elsewhere.
    if "::" in address or ".." in address.split("/"):
        return False
    plain = _HUB_REVISION.sub(r"\1", address)
    return any(plain.startswith(_HUB_REVISION.sub(r"\1", folder).rstrip("/") + "/") for folder in named)


def refuse_unnamed(address: str, named: Sequence[str]) -> None:
    """Raise where an address may not be opened, before any of its stores is asked.

    Raises:
        UnreadableVideoError: the caller has not named it; see `is_named`.
    """
    if not is_named(address, named):
        raise UnreadableVideoError(
            "it is a URL, and URLs are not fetched unless allow_urls names them or a folder above them; if you trust "
            "where it comes from, name it there"
        )


def fetch_file(address: str, limits: VideoLimits) -> IO[bytes] | str:
    """A copy of a file on the local disk, which is gone when it is closed.

    Of a file on this machine (`file://`) its path, which is to be checked and read as any path is.

    Args:
        address: address of a file, named by the caller.
        limits: `max_file_bytes` bounds its size, `timeout_seconds` the search in an archive and the copying; a store
            that does not answer is waited for as long as its own client waits.

    Raises:
        UnreadableVideoError: there is no such file, it is larger or slower than the limits allow, a member of an
            archive that bursts, or larger than the room that there is for it.
        DecodingUnavailableError: what opens such addresses is not installed, or the temporary folder is full.
    """
    end_time = time.monotonic() + limits.timeout_seconds
    system, path = open_store(address)
    if _is_local(system) and "::" not in address:
        return path
    copy = _room()
    _copies.add(copy)
    try:
        with _opened(address, system, path, end_time) as (remote, size):
            copied = 0
            _check_size(size, limits)
            _reserve(copy, size, end_time)
            while chunk := remote.read(_CHUNK_BYTES):
                copied += len(chunk)
                _check_size(copied, limits)
                _write(copy, chunk, address)
                if time.monotonic() > end_time:
                    raise UnreadableVideoError(
                        f"copying it took longer than {limits.timeout_seconds:g} seconds (VideoLimits.timeout_seconds)"
                    )
        copy.truncate()
        copy.flush()
    except BaseException:
        copy.close()
        raise
    return copy


def read_beginning(address: str, num_bytes: int) -> bytes:
    """At most so many bytes of a file that the caller names; in an archive it has to be found in a video's time.

    Raises:
        UnreadableVideoError: there is no such file.
        DecodingUnavailableError: what opens such addresses is not installed.
    """
    end_time = time.monotonic() + VideoLimits().timeout_seconds
    with _opened(address, *open_store(address), end_time) as (remote, _):
        data = b""
        while len(data) < num_bytes and (chunk := remote.read(num_bytes - len(data))):
            data += chunk
        return data


def open_store(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it; of a file in an archive (a chain), those of the archive.

    Raises:
        UnreadableVideoError: nothing is known to open such addresses, or it is one of the web.
        DecodingUnavailableError: what opens them is not installed.
    """
    place = address.rpartition("::")[2]
    if _ADDRESS.match(place) and not is_address(place):
        raise UnreadableVideoError(
            "it lies in an archive on the web, which is not looked into: what its server sends has no bound. "
            "Download the archive, and give its path in place of its URL"
        )
    if place.lower().startswith("ftp:"):
        raise UnreadableVideoError(
            "it lies on an FTP server, whose listings have no bound, and come from whoever is on the way. Download it "
            "and give its path in place of its address"
        )
    with reading_from(address, failure="it cannot be opened"):
        import fsspec

        return fsspec.core.url_to_fs(place)


@contextlib.contextmanager
def _opened(address: str, system: Any, path: str, end_time: float) -> Iterator[tuple[IO[bytes], int]]:
    """A file in a store, open for reading, or one in an archive there (`zip://name::s3://bucket/archive.zip`).

    With the size that it is said to have, 0 where nothing says it.

    The store and the path in it are those of `open_store`.
    fsspec would open any such chain: archives, whatever memory they take, and tables that name other files.
    """
    kind, _, name = address.rpartition("::")[0].partition("://")
    if "::" in address and kind not in ARCHIVES:
        raise UnreadableVideoError(
            "of addresses that lead through others, those of archives are opened: "
            f"{', '.join(f'{scheme}://name::address' for scheme in ARCHIVES)}; give the file's own address"
        )
    with reading_from(address):
        if _is_local(system) and os.path.exists(path) and not os.path.isfile(path):
            raise UnreadableVideoError("it is not a regular file")
        with system.open(path, "rb") as file:
            if kind not in ARCHIVES:
                size = getattr(file, "size", None)
                yield file, size if isinstance(size, int) else 0
                return
            with ARCHIVES[kind](file, name.lstrip("/"), end_time) as member:
                yield member


def _is_local(system: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(system, LocalFileSystem)


def find_videos_at(address: str) -> list[str]:
    """The videos that an address stands for: those in and below a folder, itself, or those that match a pattern.

    What a pattern is made of (`[`, `*`, `?`) may stand in the name of a file or folder, too, which goes first.

    Raises:
        UnreadableVideoError: the store cannot be searched.
        DecodingUnavailableError: what opens such addresses is not installed.
    """
    if "::" in address:
        return [address]
    folder = address
    system, path = open_store(address)
    with reading_from(address):
        if system.isdir(path) and _is_local(system):
            found = [os.path.join(path, video.relative_to(path)) for video in search_folder(path).videos]
        elif system.isdir(path):
            found = [name for name in system.find(path) if is_video_name(name) and not _is_hidden(name, below=path)]
        elif named_folder(address) == address or system.isfile(path):
            return [address]
        else:
            folder = named_folder(address)
            found = match_pattern(path, Counter()) if _is_local(system) else system.glob(path)
    _, folder_path = open_store(folder)
    # As the caller has written it: a store may have several names for one scheme.
    beginning = folder if folder.endswith("/") else f"{folder}/"
    return [beginning + name.removeprefix(folder_path).lstrip("/") for name in sorted(found)]


def named_folder(address: str) -> str:
    """What a caller names by an address: the address itself, or the folder in which a pattern begins."""
    plain = re.split(r"[*?\[]", address, maxsplit=1)[0]
    return address if plain == address else plain.rpartition("/")[0] + "/"


def _is_hidden(name: str, *, below: str) -> bool:
    return any(is_hidden(part) for part in name[len(below) :].split("/") if part)


@contextlib.contextmanager
def reading_from(address: str, *, failure: str = "reading it failed") -> Iterator[None]:
    """Whatever a store's client raises is the fault of the file."""
    try:
        yield
    except (UnreadableVideoError, DecodingUnavailableError, MemoryError):
        raise
    except ImportError as error:
        raise DecodingUnavailableError(
            f"{shown_address(address)!r} cannot be opened on this machine: {without_secrets(str(error), address)}"
        ) from error
    except Exception as error:
        raise UnreadableVideoError(f"{failure}: {_said(error, address)}") from error


def copy_path(copy: IO[bytes]) -> str:
    """By which the decoding process opens a copy that has a name in no folder."""
    return copy.name if isinstance(copy.name, str) else f"/proc/{os.getpid()}/fd/{copy.fileno()}"


def _room() -> IO[bytes]:
    """A file for a copy: without a name where it can be opened so, and then gone however this program ends."""
    try:
        make = tempfile.TemporaryFile if _can_open_unnamed() else tempfile.NamedTemporaryFile
        return make(prefix="froster-", suffix=".video")
    except OSError as error:
        raise DecodingUnavailableError(
            f"A copy of a remote file needs a temporary folder: {error.strerror}. Set TMPDIR to one."
        ) from error


def _can_open_unnamed() -> bool:
    """Whether another process of this user finds a file without a name by `copy_path`, as on Linux."""
    try:
        # A program that has given itself more rights than its user has is root's there, and closed to others.
        is_own = os.stat(f"/proc/{os.getpid()}").st_uid == os.geteuid()
        with tempfile.TemporaryFile() as probe:
            return is_own and os.path.samestat(os.stat(copy_path(probe)), os.fstat(probe.fileno()))
    except OSError:
        return False


@atexit.register
def _close_copies() -> None:
    """Delete what threads are still reading when the program ends, which waits for none of them."""
    for copy in list(_copies):
        copy.close()


if hasattr(os, "register_at_fork"):
    # The parent's are the parent's to delete.
    os.register_at_fork(after_in_child=_copies.clear)


def _check_size(size: int, limits: VideoLimits) -> None:
    if size > limits.max_file_bytes:
        raise UnreadableVideoError(f"it is larger than VideoLimits.max_file_bytes, {limits.max_file_bytes}")


def _reserve(copy: IO[bytes], size: int, end_time: float) -> None:
    """Take the room for a copy before it is written, so that one that is too large costs itself, and no other.

    A worker waits until the copies of the others, which it cannot see, have gone. A folder that something else has
    filled is not the fault of the file: writing to it fails.

    Raises:
        UnreadableVideoError: there is less than its size.
    """
    global _most_room
    most_free = 0
    while (room := _lacking_room(copy, size)) is not None:
        most_free = max(most_free, room.free)
        has_waited = time.monotonic() > end_time
        if has_waited:
            _most_room = most_free
        if has_waited or multiprocessing.parent_process() is None or size > min(room.total, _most_room):
            if most_free + sum(map(_taken, list(_copies))) >= LEAST_ROOM:
                # Another copy may have taken room since, or left some.
                raise _too_large(size, min(room.free, _usage().free))
            return
        time.sleep(_WAIT_SECONDS)


def _lacking_room(copy: IO[bytes], size: int) -> Any:
    """What there is of the temporary folder where that is less than so much, or what another copy has taken since."""
    usage = _usage()
    if size > usage.free:
        return usage
    try:
        if size > 0 and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(copy.fileno(), 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            copy.truncate(0)
            return usage
    return None


def _usage() -> Any:
    return shutil.disk_usage(tempfile.gettempdir())


def _too_large(size: int, free: int) -> UnreadableVideoError:
    return UnreadableVideoError(
        f"its copy takes {size} bytes, and {tempfile.gettempdir()} has room for {free}. Set TMPDIR to a folder with "
        "more"
    )


def _taken(copy: IO[bytes]) -> int:
    try:
        return os.fstat(copy.fileno()).st_size
    except ValueError:  # it has been closed by another thread
        return 0


def _write(copy: IO[bytes], chunk: bytes, address: str) -> None:
    try:
        copy.write(chunk)
    except OSError as error:
        # Its store had not said how large it is.
        if error.errno == errno.ENOSPC and (taken := _taken(copy)) >= LEAST_ROOM:
            raise _too_large(taken + len(chunk), taken) from error
        full = " Free some, or set TMPDIR to a folder with more." if error.errno == errno.ENOSPC else ""
        raise DecodingUnavailableError(
            f"{shown_address(address)!r} could not be copied to {tempfile.gettempdir()}: {error.strerror}.{full}"
        ) from error


def _said(error: Exception, address: str) -> str:
    """What a store's client says, in brief; a missing file is often told by nothing but its path."""
    text = without_secrets(str(error) or getattr(error, "strerror", None) or "", address)
    kind = "no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
    return f"{kind} {text[:200]!r}" if text else kind
