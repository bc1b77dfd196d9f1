"""The parent's end of the decoding process: started when needed, kept warm, killed when late, replaced when dead.

A plain subprocess with pipes rather than `multiprocessing`: the workers of a `DataLoader` are daemons and may have no
multiprocessing children, and nothing that comes out of a process that reads hostile files should be unpickled.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..child_environment import child_environment
from ..printing import LONGEST_MESSAGE, printable
from .backends import get_backend
from .protocol import MAX_REPLY_BYTES, State, read_message, write_message
from .types import (
    LIVE_READER,
    BackendUnavailableError,
    DecoderKilledError,
    DecodingUnavailableError,
    UnreadableVideoError,
)
from .watchdog import TimeBudget, Watchdog

try:
    import fcntl
except ImportError:  # Windows has no pipes of a chosen size.
    fcntl = None  # type: ignore[assignment]

# The folder becomes a package of its own, so that neither this package nor transformers is imported there.
_START = (
    "import importlib, sys, types; folder = sys.argv[1]; sys.path[:] = sys.argv[2:]; "
    "package = types.ModuleType('froster_video'); package.__path__ = [folder]; "
    "sys.modules['froster_video'] = package; "
    "importlib.import_module('froster_video.server').serve()"
)
# Set in the decoding process: where `sys.executable` is this very program, it must not start itself without end.
_INSIDE = "FROSTER_DECODING_PROCESS"
# Room for a clip of small frames, so that neither side waits for the other in between.
PIPE_BYTES = 2**20
_START_TIMEOUT_SECONDS = 120.0
_END_SECONDS = 2.0
# Backends and memory limits of which idle processes are kept; beyond that, the oldest make room.
_MAX_IDLE_KINDS = 4

_FEWER = "use fewer workers (num_workers, dataloader_num_workers) or end other programs"
_REMEDIES = {
    errno.EAGAIN: f"No further process may be started: {_FEWER}, or raise the limit (ulimit -u, or the container's).",
    errno.ENOMEM: f"Memory has run out: {_FEWER}.",
    errno.EMFILE: "This process has too many open files: close some, or raise the limit (ulimit -n).",
    errno.ENFILE: f"All programs together have too many open files: {_FEWER}.",
}
# No program ends so by itself.
_ENDED_BY_OTHERS = ("SIGKILL", "SIGTERM")
_SET_EXECUTABLE = "Set sys.executable to the path of a Python interpreter that has av and numpy."

_all: set[DecodingProcess] = set()
_idle: list[DecodingProcess] = []
# Taken again by a thread that has it where the garbage collector ends an abandoned stream just then.
_lock = threading.RLock()


class DecodingProcess:
    """One decoding process for one backend. Every method raises `UnreadableVideoError` where it dies or is late.

    Args:
        backend: a name in `BACKENDS`, or `IMAGE_READER`.
        max_worker_bytes: memory that the process may ever allocate; it cannot raise the limit itself.

    Raises:
        BackendUnavailableError: where the backend is not installed or does not load.
        DecodingUnavailableError: where no process can be started.
    """

    def __init__(self, backend: str, *, max_worker_bytes: int):
        if os.environ.get(_INSIDE):
            raise DecodingUnavailableError(
                f"sys.executable, {sys.executable!r}, started this program again in place of a Python interpreter. "
                + _SET_EXECUTABLE
            )
        self.kind = (backend, max_worker_bytes)
        self._state: State = "working"
        # Bytes of the last reply that are still to be read, and the state that it leads to.
        self._owed_bytes, self._promised_state = 0, self._state
        self._is_late = self._is_forgotten = False
        self._process, self._watchdog = self._launched()
        try:
            with _lock:
                _all.add(self)
            missing = self._greeted(backend, max_worker_bytes)
        except BaseException:
            self.kill()
            raise
        if missing is not None:
            self.kill()
            extra = get_backend(backend).extra
            install = f" (`pip install 'froster-hf[{extra}]'`)" if extra else ""
            raise BackendUnavailableError(
                f"The video backend {backend!r} cannot be used here: {missing} Install what it needs{install}, or use "
                "the backend 'auto'."
            )

    def _launched(self) -> tuple[subprocess.Popen[bytes], Watchdog]:
        if not sys.executable:
            raise DecodingUnavailableError(
                f"Videos are decoded in a Python process of its own, but sys.executable is empty. {_SET_EXECUTABLE}"
            )
        folder = Path(__file__).parent
        # In an interactive Python, one is the current folder, which may be a stranger's by now.
        paths = [path for path in sys.path if os.path.isabs(path)]
        command = [sys.executable, "-I", f"-Xutf8={sys.flags.utf8_mode}", "-c", _START, str(folder), *paths]
        watchdog = None
        try:
            # First, since what fails here leaves nothing behind. RuntimeError: no thread can be started.
            watchdog = Watchdog(self._end_late)
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**child_environment(), "OMP_NUM_THREADS": "1", _INSIDE: "1"},
            )
            _widen(process.stdin, process.stdout)
        except BaseException as error:
            # An interrupt, too; a process ends by itself where its pipes are closed.
            if watchdog is not None:
                watchdog.stop()
            if isinstance(error, (OSError, MemoryError, RuntimeError, ValueError)):
                raise unavailable_because(error) from error
            raise
        return process, watchdog

    def _greeted(self, backend: str, max_worker_bytes: int) -> str | None:
        """Have the backend loaded; returns why it cannot be. A program that is no Python answers otherwise, or not."""
        try:
            with self._watchdog.limit(_START_TIMEOUT_SECONDS):
                self._send(
                    {
                        "module": get_backend(backend).module,
                        "max_worker_bytes": max_worker_bytes,
                        "opens_connections": backend == LIVE_READER,
                    }
                )
                reply = self._receive()
                missing = reply["missing"]
        except (EOFError, OSError, ValueError, KeyError) as error:
            # What closes its output is about to end, and how it ends is worth knowing.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_END_SECONDS)
            ended = _exit_reason(self._process.poll() or 0)
            self._process.kill()
            code = self._process.wait()
            if ended in _ENDED_BY_OTHERS and not self._is_late:
                raise DecodingUnavailableError(
                    f"The process in which videos are decoded was ended while it started ({ended}). Where memory has "
                    f"run out, the system does so: {_FEWER}; otherwise try again."
                ) from error
            if self._is_late:
                reason = f"did not answer within {_START_TIMEOUT_SECONDS:g} seconds"
            elif isinstance(error, EOFError | OSError):
                reason = f"ended ({_exit_reason(code)}{_last_line(self._process)})"
            else:
                reason = "gave an answer that no decoding process gives"
            raise DecodingUnavailableError(
                "Videos are decoded in a Python process of its own, but sys.executable, "
                f"{sys.executable!r}, {reason}. {_SET_EXECUTABLE}"
            ) from error
        self._process.stderr.close()  # type: ignore[union-attr]
        return missing

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return not self._is_forgotten and self._process.poll() is None

    def end_conversation(self) -> bool:
        """Break off what is under way, and say whether the process can take the next request."""
        if self._state == "asking" and self.is_alive:
            with contextlib.suppress(OSError):
                self._send({"cancel": True})
                self._state = "idle"
        return self._state == "idle" and self.is_alive

    def send(self, message: dict[str, Any], *payload: Any, budget: TimeBudget) -> None:
        """Send a message and the bytes that follow it."""
        with self._in_time(budget):
            self._send(message, *payload)

    def receive(self, *, budget: TimeBudget) -> dict[str, Any]:
        """The next message; an error that it reports is raised."""
        with self._in_time(budget):
            return self._receive()

    def receive_into(self, *parts: memoryview, budget: TimeBudget) -> None:
        """Fill them, one after the other, with bytes that follow a message."""
        with self._in_time(budget):
            for part in parts:
                filled = 0
                while filled < len(part):
                    count = self._process.stdout.readinto(part[filled:])  # type: ignore[union-attr]
                    if not count:
                        raise EOFError
                    filled += count
        self._owed_bytes -= sum(map(len, parts))
        if not self._owed_bytes:
            self._state = self._promised_state

    def _send(self, message: dict[str, Any], *payload: Any) -> None:
        self._state = "working"
        write_message(self._process.stdin, message, *payload)  # type: ignore[arg-type]

    def _receive(self) -> dict[str, Any]:
        message = read_message(self._process.stdout, max_bytes=MAX_REPLY_BYTES)  # type: ignore[arg-type]
        if message is None:
            raise EOFError
        if "error" in message:
            self._state = "working" if message.get("is_last") else "idle"
            # Libraries' words about a file, from a process that the file may have taken over.
            raise UnreadableVideoError(printable(str(message["error"]), limit=LONGEST_MESSAGE))
        if "unavailable" in message:
            self._state = "idle"
            raise unavailable_because(OSError(*message["unavailable"]))
        owed_bytes = message.get("payload_bytes", 0)
        if message.get("state") not in ("idle", "working", "asking") or not isinstance(owed_bytes, int):
            raise ValueError("a message without a state, or with a size that is not a number")
        self._promised_state, self._owed_bytes = message["state"], owed_bytes
        self._state = "working" if self._owed_bytes else self._promised_state
        return message

    @contextlib.contextmanager
    def _in_time(self, budget: TimeBudget) -> Iterator[None]:
        if self._is_forgotten:
            raise UnreadableVideoError("the decoding process belongs to the process that this one was forked from")
        try:
            with budget.spend() as seconds, self._watchdog.limit(seconds):
                if not seconds:
                    self._end_late()
                    raise EOFError
                yield
        except (EOFError, OSError, ValueError) as error:
            self.kill()
            if self._is_late:
                reason = f"it took longer than {budget.seconds:g} seconds (VideoLimits.timeout_seconds)"
            elif isinstance(error, ValueError):
                reason = f"the decoding process sent {error}"
            else:
                ended = _exit_reason(self._process.returncode)
                reason = f"the decoding process ended ({ended})"
                if ended in _ENDED_BY_OTHERS:
                    # Those that wait may be about to end the same way.
                    with _lock:
                        _kill_all()
                    raise DecoderKilledError(reason) from None
            raise UnreadableVideoError(reason) from None

    def _end_late(self) -> None:
        self._is_late = True
        self._process.kill()

    def kill(self) -> None:
        """End it at once and free its pipes."""
        if self._is_forgotten:
            return
        with _lock:
            _all.discard(self)
        self._process.kill()
        self._process.wait()
        self._watchdog.stop()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def forget(self) -> None:
        """In a forked child: from now on it is not this process's to talk with, or to end."""
        self._is_forgotten = True

    def release_pipes(self, nowhere: int) -> None:
        """In a forked child: let go of the pipes, so that the process ends when the parent closes its own ends.

        They are led to the descriptor `nowhere` rather than closed: a thread that is not in the child may have held
        the lock of a pipe's buffer when the process was forked.
        """
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                os.dup2(nowhere, pipe.fileno())


def _widen(*pipes: Any) -> None:
    """Make room in pipes where the system allows it: all programs of an ordinary user share 64 MiB of it (Linux)."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            for pipe in pipes:
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def unavailable_because(error: BaseException) -> DecodingUnavailableError:
    """What is wrong with the machine, and what to do."""
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, OSError):
        number = error.errno or 0
    else:  # RuntimeError: no further thread can be started.
        number = errno.EAGAIN if isinstance(error, RuntimeError) else 0
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    remedy = _REMEDIES.get(number, f"sys.executable is {sys.executable!r}. {_SET_EXECUTABLE}")
    return DecodingUnavailableError(f"Videos cannot be decoded on this machine now: {reason}. {remedy}")


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _last_line(process: subprocess.Popen[bytes]) -> str:
    """The end of what a program that ended has said."""
    # AttributeError: on Windows, pipes cannot be read without waiting.
    with contextlib.suppress(OSError, AttributeError):
        # Its own children may hold the pipe open.
        os.set_blocking(process.stderr.fileno(), False)  # type: ignore[union-attr]
        said = os.read(process.stderr.fileno(), 2**16).decode(errors="replace").split("\n")  # type: ignore[union-attr]
        lines = [line.strip() for line in said if line.strip()]
        return f", {lines[-1][:300]!r}" if lines else ""
    return ""


@contextlib.contextmanager
def decoding_process(backend: str, *, max_worker_bytes: int) -> Iterator[DecodingProcess]:
    """A warm decoding process with `backend` loaded, for one conversation; threads get one each.

    A conversation that is broken off while the process works (an abandoned stream, an interrupt) ends the process: its
    next reply would be the answer to an old question.
    """
    process = _take((backend, max_worker_bytes))
    try:
        yield process
    finally:
        if process.end_conversation():
            with _lock:
                _idle.append(process)
        else:
            process.kill()


def _take(kind: tuple[str, int]) -> DecodingProcess:
    while True:
        with _lock:
            process = next((process for process in _idle if process.kind == kind), None)
            others = [process for process in _idle if process.kind != kind]
            if process is None and len({other.kind for other in others}) >= _MAX_IDLE_KINDS:
                process = others[0]
            if process is None:
                break
            _idle.remove(process)
        if process.kind == kind and process.is_alive:
            return process
        process.kill()
    return DecodingProcess(kind[0], max_worker_bytes=kind[1])


def _forget_all() -> None:
    """In a forked child: these processes talk with the parent, also those that another thread of it is using."""
    global _lock
    _lock = threading.RLock()
    processes = list(_all)
    _all.clear()
    _idle.clear()
    for process in processes:
        process.forget()
    if processes:
        with open(os.devnull, "r+b") as nowhere:
            for process in processes:
                process.release_pipes(nowhere.fileno())


def _kill_all() -> None:
    while _idle:
        _idle.pop().kill()


atexit.register(_kill_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
