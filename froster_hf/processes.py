"""Work that one of several processes does for all, such as to look at a folder before any of them writes to it."""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

Found = TypeVar("Found")


def in_main_process(work: Callable[[], Found]) -> Found:
    """What the main process finds, in all processes.

    Raises:
        ValueError, OSError: as the main process did, in all processes: none waits for one that has ended.
    """
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = work()
        except (ValueError, OSError) as error:
            outcome[1] = error
    found, failure = broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    return found
