"""Work that one of several processes does for all, such as to look at a folder before any of them writes to it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from .whole_files import worked_in_alone

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


@contextmanager
def worked_in_by_one_run(folder: str | os.PathLike[str]) -> Iterator[None]:
    """`worked_in_alone` for all processes of a run, of which the main one holds the folder.

    Raises:
        ValueError: another run holds it, in all processes.
    """
    with ExitStack() as holding:
        in_main_process(lambda: holding.enter_context(worked_in_alone(folder)))
        yield


def refuse_several_processes(work: str) -> None:
    """Raise where several processes were started for work that is done in one.

    Args:
        work: what it is, for the error.
    """
    num_processes = PartialState().num_processes
    if num_processes > 1:
        raise ValueError(
            f"{work} runs in one process, but {num_processes} were started, which would all write the same files. "
            "Start it without `accelerate launch`."
        )


def refuse_processes_alone(*, together: str) -> None:
    """Raise where several processes were started that do not know of each other, as torchrun does without a GPU.

    Args:
        together: setting with which they work together on the CPU.

    Raises:
        ValueError: each would do all of the work, and write over the others.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > 1 and PartialState().num_processes == 1:
        raise ValueError(
            f"{started} processes were started, but without a GPU each would work alone, and write over the others. "
            f"Give {together} to work together on the CPU, or start one process."
        )
