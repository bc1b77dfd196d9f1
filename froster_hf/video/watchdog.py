"""Time limits: the seconds that one call may take in all, and a thread that acts when they are over.

A timer's thread for each message would cost more than the message: a clip takes five of them to and fro.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator


class TimeBudget:
    """The seconds that one call may take in all, spent part by part; what happens between the parts is not counted.

    Args:
        seconds: the limit.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._left = seconds

    @contextlib.contextmanager
    def spend(self) -> Iterator[float]:
        """Count what happens in the `with` block; gives the seconds that are left, which may be none."""
        started = time.monotonic()
        try:
            yield max(self._left, 0.0)
        finally:
            self._left -= time.monotonic() - started

    @property
    def is_spent(self) -> bool:
        """Whether none are left."""
        return self._left <= 0

    def renew(self) -> None:
        """Start again with all of the seconds."""
        self._left = self.seconds


class Watchdog:
    """Acts when a task takes too long; one task at a time.

    Args:
        on_late: called in the watchdog's thread, once; nothing is watched after it.
    """

    def __init__(self, on_late: Callable[[], object]):
        self._on_late = on_late
        self._changed = threading.Condition()
        # Both in seconds of `time.monotonic`.
        self._deadline = self._wakes_at = math.inf
        self._is_stopped = False
        threading.Thread(target=self._watch, name="video-watchdog", daemon=True).start()

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """What happens in the `with` block may take so long."""
        self._set_deadline(time.monotonic() + seconds)
        try:
            yield
        finally:
            self._set_deadline(math.inf)

    def stop(self) -> None:
        """End its thread."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def _set_deadline(self, deadline: float) -> None:
        with self._changed:
            self._deadline = deadline
            # It sleeps through what is done in time: a later deadline is seen when the first of them passes.
            if deadline < self._wakes_at:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_stopped:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._on_late()
                    return
                self._wakes_at = self._deadline
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
