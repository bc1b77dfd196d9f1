"""The parent's end of the decoding process: started when needed, kept warm, killed when late, replaced when dead.

A plain subprocess with pipes rather than `multiprocessing`: the workers of a `DataLoader` are daemons and may have no
multiprocessing children, and nothing that comes out of a process that reads hostile files should be unpickled.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from .video_types_froster import UnreadableVideoError, VideoBackend
from .video_watchdog_froster import Watchdog
from .video_worker_froster import read_message, serve, write_message

# The folder becomes a package of its own, so that neither this package nor transformers is imported there.
_START = (
    "import importlib, sys, types; folder = sys.argv[1]; sys.path[:] = sys.argv[2:]; "
    "package = types.ModuleType('froster_video'); package.__path__ = [folder]; "
    "sys.modules['froster_video'] = package; "
    "importlib.import_module('froster_video.' + {module!r}).serve()"
)
# Room for a clip of small frames, so that neither side waits for the other in between; ignored where it is not Linux.
PIPE_BYTES = 2**20
_START_TIMEOUT_SECONDS = 120.0

_idle: list[DecodingProcess] = []
_lock = threading.Lock()


class DecodingProcess:
    """One decoding process. Every method raises `UnreadableVideoError` where it dies or is late."""

    def __init__(self):
        if not sys.executable:
            raise RuntimeError("Decoding runs in a Python process of its own, but sys.executable is empty.")
        worker = Path(inspect.getfile(serve))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START.format(module=worker.stem), str(worker.parent), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=PIPE_BYTES,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._is_late = False
        self._watchdog = Watchdog(self._end_late)
        self._loaded: set[str] = set()
        # "asking": it waits for the caller to choose frames.
        self._state: Literal["idle", "working", "asking"] = "idle"

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def load(self, backend: VideoBackend) -> None:
        """Import a backend there, once.

        Raises:
            ImportError: where it is not installed or does not start.
        """
        if backend in self._loaded:
            return
        with self._in_time(_START_TIMEOUT_SECONDS):
            self._send({"load": backend})
            missing = self._receive()["missing"]
        if missing is not None:
            raise ImportError(f"The video backend {backend!r} cannot be used here: {missing}")
        self._loaded.add(backend)

    def end_conversation(self) -> bool:
        """Break off what is under way, and say whether the process can take the next request."""
        if self._state == "asking" and self.is_alive:
            with contextlib.suppress(OSError):
                self._send({"cancel": True})
                self._state = "idle"
        return self._state == "idle" and self.is_alive

    def send(self, message: dict[str, Any], *payload: Any, timeout_seconds: float) -> None:
        """Send a message and the bytes that follow it."""
        with self._in_time(timeout_seconds):
            self._send(message, *payload)

    def receive(self, *, timeout_seconds: float) -> dict[str, Any]:
        """The next message; an error that it reports is raised."""
        with self._in_time(timeout_seconds):
            return self._receive()

    def receive_bytes(self, size: int, *, timeout_seconds: float) -> bytearray:
        """The bytes that follow a message."""
        data = bytearray(size)
        view, filled = memoryview(data), 0
        with self._in_time(timeout_seconds):
            while filled < size:
                count = self._process.stdout.readinto(view[filled:])  # type: ignore[union-attr]
                if not count:
                    raise EOFError
                filled += count
        return data

    def _send(self, message: dict[str, Any], *payload: Any) -> None:
        self._state = "working"
        write_message(self._process.stdin, message, *payload)  # type: ignore[arg-type]

    def _receive(self) -> dict[str, Any]:
        message = read_message(self._process.stdout)  # type: ignore[arg-type]
        if message is None:
            raise EOFError
        if "error" in message:
            self._state = "idle"
            raise UnreadableVideoError(message["error"])
        self._state = message["state"]
        return message

    @contextlib.contextmanager
    def _in_time(self, timeout_seconds: float) -> Iterator[None]:
        try:
            with self._watchdog.limit(timeout_seconds):
                yield
        except (EOFError, OSError):
            self.kill()
            if self._is_late:
                reason = f"it took longer than {timeout_seconds:g} seconds (VideoLimits.timeout_seconds)"
            else:
                reason = f"the decoding process ended ({_exit_reason(self._process.returncode)})"
            raise UnreadableVideoError(reason) from None

    def _end_late(self) -> None:
        self._is_late = True
        self._process.kill()

    def kill(self) -> None:
        """End it at once and free its pipes."""
        self._process.kill()
        self._process.wait()
        self._watchdog.stop()
        self.forget()

    def forget(self) -> None:
        """Close this process's ends of the pipes; the decoding process ends by itself when all are closed."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


@contextlib.contextmanager
def decoding_process(backend: VideoBackend) -> Iterator[DecodingProcess]:
    """A warm decoding process with `backend` loaded, for one conversation; threads get one each.

    A conversation that is broken off while the process works (an abandoned stream, an interrupt) ends the process: its
    next reply would be the answer to an old question.
    """
    process = _take()
    try:
        process.load(backend)
        yield process
    finally:
        if process.end_conversation():
            with _lock:
                _idle.append(process)
        else:
            process.kill()


def _take() -> DecodingProcess:
    while True:
        with _lock:
            if not _idle:
                break
            process = _idle.pop()
        if process.is_alive:
            return process
        process.kill()
    return DecodingProcess()


def _forget_all() -> None:
    """In a forked child: these processes talk with the parent."""
    global _lock
    _lock = threading.Lock()
    for process in _idle:
        process.forget()
    _idle.clear()


def _kill_all() -> None:
    while _idle:
        _idle.pop().kill()


atexit.register(_kill_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
