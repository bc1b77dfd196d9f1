"""The decoding process: FFmpeg and its kin run here, so that a file that makes them crash or hang ends only this.

A child of the process that wants the frames (`video_process_froster`), kept warm. It reads requests from its standard
input and writes replies: JSON headers and plain bytes, nothing that is ever executed. Before it decodes, it gives up
the right to open further files or sockets, to write files, and to allocate without bound.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import struct
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from .video_backends_froster import read_frames
from .video_reader_froster import FrameCountError, StrictReader
from .video_types_froster import UnreadableVideoError, VideoLimits

try:
    import resource
except ImportError:  # Windows has no such limits.
    resource = None  # type: ignore[assignment]

HEADER = struct.Struct(">I")


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next JSON message, or None at the end of the stream."""
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    (length,) = HEADER.unpack(head)
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


def write_message(stream: BinaryIO, message: dict[str, Any], *payload: Any) -> None:
    """Write a JSON message and the bytes that follow it."""
    body = json.dumps(message).encode()
    stream.write(HEADER.pack(len(body)) + body)
    for part in payload:
        stream.write(part)
    stream.flush()


def serve() -> None:
    """Answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # Libraries print to descriptors 1 and 2: neither may reach the replies or the user's terminal.
    with open(os.devnull, "r+b") as nowhere:
        for descriptor in (0, 1, 2):
            os.dup2(nowhere.fileno(), descriptor)
    while (request := read_message(requests)) is not None:
        try:
            if "load" in request:
                write_message(replies, {"missing": _load(request["load"]), "state": "idle"})
            else:
                _answer(request, requests, replies)
        except BrokenPipeError:
            return
        except UnreadableVideoError as error:
            write_message(replies, {"error": str(error)})
        except Exception as error:
            write_message(replies, {"error": f"{type(error).__name__}: {error}"[:500]})


def _load(backend: str) -> str | None:
    """Import what `backend` needs, before files can no longer be opened; returns what is wrong."""
    try:
        import av  # noqa: F401

        if backend == "decord":
            import decord  # noqa: F401
        if backend == "torchcodec":
            import torch
            import torchcodec.decoders  # noqa: F401

            torch.set_num_threads(1)
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


def _answer(request: dict[str, Any], requests: BinaryIO, replies: BinaryIO) -> None:
    """One conversation. Every reply but an error says in `state` what comes next: more, a question, or nothing."""
    limits = VideoLimits(**request["limits"])
    with (
        _open_source(request, requests) as handle,
        _confined(limits),
        StrictReader(handle, limits=limits, threads=request["threads"]) as reader,
    ):
        if request["task"] == "probe":
            reader.count()
            write_message(replies, {"info": asdict(reader.info), "state": "idle"})
        elif request["task"] == "stream":
            _answer_with_stream(reader, limits, requests, replies)
        else:
            _answer_with_frames(reader, handle, request, limits, requests, replies)


def _answer_with_frames(
    reader: StrictReader,
    handle: BinaryIO,
    request: dict[str, Any],
    limits: VideoLimits,
    requests: BinaryIO,
    replies: BinaryIO,
) -> None:
    frames = None
    while frames is None:
        choice = _ask(reader, limits, requests, replies)
        if choice is None:
            return
        # A wrong count is known only at the end of the file: the caller chooses again, by the right one.
        with contextlib.suppress(FrameCountError):
            frames = read_frames(
                reader, handle, choice["indices"], backend=request["backend"], threads=request["threads"]
            )
    shape = next(iter(frames.values())).shape if frames else (0, 0, 3)
    parts = [np.ascontiguousarray(frames[index]).data for index in sorted(frames)]
    write_message(replies, {"shape": [len(parts), *shape], "state": "idle"}, *parts)


def _answer_with_stream(reader: StrictReader, limits: VideoLimits, requests: BinaryIO, replies: BinaryIO) -> None:
    choice = _ask(reader, limits, requests, replies)
    if choice is None:
        return
    for index, seconds, frame in reader.stream(choice["times"]):
        # The reader of a stream may take its time between two frames; decoding one may not.
        _set_alarm(0)
        header = {"frame": index, "seconds": seconds, "shape": frame.shape, "state": "working"}
        write_message(replies, header, frame.data)
        _set_alarm(limits.timeout_seconds)
    write_message(replies, {"state": "idle"})


def _ask(reader: StrictReader, limits: VideoLimits, requests: BinaryIO, replies: BinaryIO) -> dict[str, Any] | None:
    """What the caller chooses, knowing the video, or None where it breaks off. Its time is its own."""
    _set_alarm(0)
    write_message(replies, {"info": asdict(reader.info), "state": "asking"})
    choice = read_message(requests)
    _set_alarm(limits.timeout_seconds)
    return None if choice is None or "cancel" in choice else choice


@contextlib.contextmanager
def _open_source(request: dict[str, Any], requests: BinaryIO) -> Iterator[BinaryIO]:
    if "size" in request:
        data = requests.read(request["size"])
        yield io.BytesIO(data)
        return
    try:
        descriptor = os.open(request["path"], os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise UnreadableVideoError(error.strerror or str(error)) from error
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or [status.st_dev, status.st_ino] != request["identity"]:
            raise UnreadableVideoError("it was replaced by another file while it was being opened")
        yield handle


@contextlib.contextmanager
def _confined(limits: VideoLimits) -> Iterator[None]:
    """Bound memory and time, and leave a single free descriptor.

    decord opens the checked file by it, and then none is left. PyAV needs it for a moment, for modules that it imports
    late; its own opening of files is refused.
    """
    if resource is None:
        yield
        return
    lowest_free = os.dup(0)
    os.close(lowest_free)
    bounds = {
        resource.RLIMIT_NOFILE: lowest_free + 1,
        resource.RLIMIT_DATA: limits.max_worker_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    before = {kind: resource.getrlimit(kind) for kind in bounds}
    for kind, bound in bounds.items():
        hard = before[kind][1]
        resource.setrlimit(kind, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))
    _set_alarm(limits.timeout_seconds)
    try:
        yield
    finally:
        _set_alarm(0)
        for kind, pair in before.items():
            resource.setrlimit(kind, pair)


def _set_alarm(timeout_seconds: float) -> None:
    """End this process by a signal some seconds after the limit: should the parent be gone, nobody else does."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds + 5 if timeout_seconds else 0)
