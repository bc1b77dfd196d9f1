"""The decoding process: FFmpeg and its kin run here, so that a file that makes them crash or hang ends only this.

A child of the process that wants the frames (`client.py`), kept warm, for one backend. It reads requests
from its standard input and writes replies (`protocol.py`). Before it reads the first file it gives up, for
good, the right to gain privileges, to open more than that file and one other, to write files, and to allocate without
bound.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import re
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from .geometry import know_newer_side_data
from .images import image_files, read_images
from .live_reader import read_live
from .protocol import read_message, write_message
from .reader import FrameCountError, StrictReader
from .types import UnreadableVideoError, VideoLimits, path_error, system_lack
from .verification import read_frames

try:
    import resource
except ImportError:  # Windows has no such limits.
    resource = None  # type: ignore[assignment]

_PR_SET_NO_NEW_PRIVS = 38
_DRAINED_BYTES = 2**16


def serve() -> None:
    """Answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    start = read_message(requests)
    if start is None:
        return
    _end_with_caller(requests)
    # Libraries print to descriptors 1 and 2: neither may reach the replies or, later, the user's terminal.
    with open(os.devnull, "r+b") as nowhere:
        for descriptor in (0, 1):
            os.dup2(nowhere.fileno(), descriptor)
        missing = _load(start["module"])
        know_newer_side_data()
        os.dup2(nowhere.fileno(), 2)
    write_message(replies, {"missing": missing, "state": "idle"})
    _confine(start["max_worker_bytes"], opens_connections=start["opens_connections"])
    # What is there by now stays, and need not be looked through again and again.
    gc.freeze()
    while (request := read_message(requests)) is not None:
        try:
            _answer(request, requests, replies)
        except BrokenPipeError:
            return
        except UnreadableVideoError as error:
            write_message(replies, {"error": str(error)})
        except MemoryError:
            # The next video finds none of it taken, whatever keeps hold of it.
            is_last = _has_taken(start["max_worker_bytes"] // 2)
            reason = "it needs more memory than VideoLimits.max_worker_bytes"
            write_message(replies, {"error": reason, "is_last": is_last})
            if is_last:
                return
        except Exception as error:
            if (lack := system_lack(error)) is not None:
                write_message(replies, {"unavailable": [lack.errno, lack.strerror]})
            else:
                write_message(replies, {"error": f"{type(error).__name__}: {error}"[:500]})
        # PyAV's frames and what is beside their pictures hold each other, and the collector by itself counts objects,
        # not bytes: they would stay until memory is full.
        gc.collect()


def _end_with_caller(requests: BinaryIO) -> None:
    """From now on, end this process as soon as its caller has ended, however busy it is with a video.

    A caller that is killed does not end it, nor does a worker of a `DataLoader`, nor a program whose reading thread
    still waits for it. In any case the pipe of requests closes, which nobody reads meanwhile.
    """
    if not hasattr(select, "poll"):  # Windows.
        return
    closing = select.poll()
    # Of no event but the closing, which is told in any case.
    closing.register(requests, 0)

    def wait_and_end() -> None:
        closing.poll()
        os._exit(0)

    # Where there may be no further thread, the alarm ends it.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=wait_and_end, name="caller-watch", daemon=True).start()


def _load(module: str) -> str | None:
    """Import what a backend's module needs, before files can no longer be opened; returns what is wrong."""
    try:
        importlib.import_module(module, __package__).load()
    except (ImportError, OSError, RuntimeError) as error:
        return _cause(error)
    return None


def _cause(error: BaseException) -> str:
    """The first line of an error's message, and the errors that it quotes further below."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    quoted = [line for line in dict.fromkeys(lines[1:]) if re.match(r"\w*(Error|Exception): ", line)]
    return f"{type(error).__name__}: {' '.join([lines[0], '; '.join(quoted)])}"[:600].rstrip(" .") + "."


def _confine(max_worker_bytes: int, *, opens_connections: bool) -> None:
    """Give up for good what decoding does not need: hard limits, which cannot be raised again.

    Two descriptors stay free, one for the file that is read and one more: decord opens the checked file a second time
    by it, and PyAV needs it for a moment, for modules that it imports late; its own opening of files is refused. A
    live source takes connections, whose number is not known; there, the protocols are named that may open something.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if resource is None:
        return
    free = [os.dup(0), os.dup(0)]
    for descriptor in free:
        os.close(descriptor)
    bounds = {
        resource.RLIMIT_NOFILE: 256 if opens_connections else free[-1] + 1,
        resource.RLIMIT_DATA: max_worker_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))


def _has_taken(num_bytes: int) -> bool:
    """Whether this process has ever had so much memory; a damaged file may ask for any amount at once.

    `getrusage` counts what the process had that started this one. Where the system does not tell, it is so.
    """
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            peak = re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), flags=re.MULTILINE)
    except OSError:
        peak = None
    return peak is None or 1024 * int(peak[1]) > num_bytes


def _answer(request: dict[str, Any], requests: BinaryIO, replies: BinaryIO) -> None:
    """One conversation. Every reply but an error says in `state` what comes next: more, a question, or nothing."""
    limits = VideoLimits(**request["limits"])
    caller = _Caller(requests, replies, limits.timeout_seconds)
    with _alarm_after(limits.timeout_seconds), contextlib.suppress(_BrokenOffError):
        if request["task"] == "live":
            _answer_with_live(caller, request, limits)
        elif request["task"] == "folder":
            _answer_with_folder(caller, request, limits)
        elif request["task"] == "images":
            _answer_with_images(caller, request, requests, limits)
        else:
            with (
                _open_source(request, requests) as handle,
                StrictReader(handle, limits=limits, threads=request["threads"]) as reader,
            ):
                if request["task"] == "probe":
                    reader.count()
                    caller.reply({"info": asdict(reader.info), "state": "idle"})
                elif request["task"] == "stream":
                    _answer_with_stream(caller, reader)
                else:
                    _answer_with_frames(caller, request, reader, handle)


class _BrokenOffError(Exception):
    """The caller wants no answer any more."""


@dataclass(frozen=True)
class _Caller:
    """The other end of a conversation: decoding has to be done in time, what the caller does takes its own."""

    requests: BinaryIO
    replies: BinaryIO
    timeout_seconds: float

    def reply(self, message: dict[str, Any], *payload: Any) -> None:
        write_message(self.replies, message, *payload)

    def reply_with(self, pictures: Sequence[np.ndarray]) -> None:
        """All frames of an answer."""
        shape = pictures[0].shape if pictures else (0, 0, 3)
        parts = [np.ascontiguousarray(picture).data for picture in pictures]
        self.reply({"shape": [len(parts), *shape], "state": "idle"}, *parts)

    def pass_on(self, header: dict[str, Any], picture: np.ndarray | None = None) -> None:
        """One frame of many; without a picture, where the header says it all."""
        _set_alarm(0)
        if picture is None:
            self.reply({**header, "state": "working"})
        else:
            self.reply({**header, "shape": picture.shape, "state": "working"}, np.ascontiguousarray(picture).data)
        _set_alarm(self.timeout_seconds)

    def ask(self, known: dict[str, Any]) -> dict[str, Any]:
        """What the caller chooses, knowing the video.

        Raises:
            _BrokenOffError: it breaks off.
        """
        _set_alarm(0)
        self.reply({**known, "state": "asking"})
        choice = read_message(self.requests)
        _set_alarm(self.timeout_seconds)
        if choice is None or "cancel" in choice:
            raise _BrokenOffError
        return choice


def _answer_with_frames(caller: _Caller, request: dict[str, Any], reader: StrictReader, handle: BinaryIO) -> None:
    frames = None
    while frames is None:
        choice = caller.ask({"info": asdict(reader.info)})
        # A wrong count is known only at the end of the file: the caller chooses again, by the right one.
        with contextlib.suppress(FrameCountError):
            frames = read_frames(
                reader,
                handle,
                choice["indices"],
                module=request["module"],
                containers=request["containers"],
                threads=request["threads"],
            )
    caller.reply_with([frames[index] for index in sorted(frames)])


def _answer_with_stream(caller: _Caller, reader: StrictReader) -> None:
    choice = caller.ask({"info": asdict(reader.info)})
    passed_on = None
    for index, seconds, frame in reader.stream(choice["times"]):
        # A frame that is shown at several of the times is sent once.
        if index == passed_on:
            caller.pass_on({"again": True})
        else:
            caller.pass_on({"frame": index, "seconds": seconds}, frame)
        passed_on = index
    caller.reply({"state": "idle"})


def _answer_with_live(caller: _Caller, request: dict[str, Any], limits: VideoLimits) -> None:
    options = {name: request[name] for name in ("interval_seconds", "is_rejoined")}
    for frame in read_live(request["address"], **options, limits=limits):
        header = frame._asdict()
        picture = header.pop("picture")
        caller.pass_on(header, picture)
    caller.reply({"state": "idle"})


def _answer_with_folder(caller: _Caller, request: dict[str, Any], limits: VideoLimits) -> None:
    """Image files of a folder, at the indices that the caller chooses knowing their number."""
    paths = image_files(request["folder"], limits)
    choice = caller.ask({"num_frames": len(paths)})
    chosen = [paths[index] for index in choice["indices"]]
    caller.reply_with(read_images([(os.path.basename(path), partial(_open_regular, path)) for path in chosen], limits))


def _answer_with_images(caller: _Caller, request: dict[str, Any], requests: BinaryIO, limits: VideoLimits) -> None:
    """Image files that the caller names one by one, or sends."""
    sent = io.BytesIO(_received(requests, request["size"]))
    files = [(file["name"], partial(_open_source, file, sent)) for file in request["files"]]
    caller.reply_with(read_images(files, limits))


@contextlib.contextmanager
def _open_source(request: dict[str, Any], requests: BinaryIO) -> Iterator[BinaryIO]:
    if "size" in request:
        # In place of a file's descriptor, so that the same number of them is left.
        with os.fdopen(os.dup(0), "rb"):
            yield io.BytesIO(_received(requests, request["size"]))
        return
    with _open_regular(request["path"]) as handle:
        status = os.fstat(handle.fileno())
        if [status.st_dev, status.st_ino] != request["identity"]:
            raise UnreadableVideoError("it was replaced by another file while it was being opened")
        yield handle


def _received(requests: BinaryIO, size: int) -> bytearray:
    """The bytes that follow a request."""
    try:
        data = bytearray(size)
    except MemoryError:
        # They must be out of the way of the next request.
        while size > 0 and (chunk := requests.read(min(size, _DRAINED_BYTES))):
            size -= len(chunk)
        raise
    view, filled = memoryview(data), 0
    while filled < size and (count := requests.readinto(view[filled:])):  # type: ignore[attr-defined]
        filled += count
    return data


def _open_regular(path: str) -> BinaryIO:
    """A regular file, opened to be read; nothing that opening could wait for is waited for."""
    try:
        # Asked before as well: opening a device may set it off.
        if stat.S_ISREG(os.stat(path).st_mode):
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return os.fdopen(descriptor, "rb")
            os.close(descriptor)
    except OSError as error:
        raise path_error(error) from error
    raise UnreadableVideoError("it is not a regular file")


@contextlib.contextmanager
def _alarm_after(timeout_seconds: float) -> Iterator[None]:
    _set_alarm(timeout_seconds)
    try:
        yield
    finally:
        _set_alarm(0)


def _set_alarm(timeout_seconds: float) -> None:
    """End this process by a signal some seconds after the limit: should the parent be gone, nobody else does."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds + 5 if timeout_seconds else 0)
