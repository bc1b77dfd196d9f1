"""What the workers of a `DataLoader` hand on, batches and queues of them, in the memory that processes share."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.resource_sharer
import os
import tempfile
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch.utils.data import get_worker_info

from .types import DecodingUnavailableError

Batch = TypeVar("Batch", bound=Mapping[str, Any])


def share_batch(batch: Batch) -> Batch:
    """A batch whose tensors are in shared memory, where a worker has made it; as it is, elsewhere.

    Left to itself, a worker moves them there in a thread that drops what there is no room for, or what it finds no
    way to hand on, and the program waits for that batch for ever.

    Raises:
        DecodingUnavailableError: there is not enough of it, or the program cannot ask for it.
    """
    if get_worker_info() is None:
        return batch
    tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except (OSError, RuntimeError) as error:
        size = math.ceil(sum(tensor.nbytes for tensor in tensors) / 2**20)
        raise _no_shared_memory(f"{size:,} MB of frames", error) from error
    if torch.multiprocessing.get_sharing_strategy() == "file_descriptor":
        _hand_over_nothing()
    return batch


def _hand_over_nothing() -> None:
    """Do as with the memory of a batch, which the program asks for at a socket in the temporary folder of the worker.

    Raises:
        DecodingUnavailableError: there is no such socket, thread behind it, or further open file.
    """
    try:
        with open(os.devnull, "rb") as nothing:
            os.close(multiprocessing.resource_sharer.DupFd(nothing.fileno()).detach())
    except (EOFError, OSError, RuntimeError) as error:
        raise DecodingUnavailableError(
            f"A worker cannot hand on its batches: {error}. They are asked for at a socket in the temporary folder, "
            f"{tempfile.gettempdir()}: set TMPDIR to one that is there and has a short path, raise the limits of open "
            "files and processes (ulimit -n, ulimit -u), or use no workers (num_workers, dataloader_num_workers)."
        ) from error


def check_queues_of_workers(num_workers: int) -> None:
    """Refuse workers whose queues find no shared memory, which are made before any batch is.

    Called before a `DataLoader` is asked for its iterator: that would end in an error without a word of it, and print
    a traceback of the iterator that is not whole.

    Raises:
        DecodingUnavailableError: there is not enough of it.
    """
    if num_workers == 0:
        return
    try:
        # As the iterator holds them: for results and for each worker's clips, and what says that all is done.
        queues: list[Any] = [multiprocessing.Queue() for _ in range(1 + num_workers)]
        multiprocessing.Event()
    except OSError as error:
        raise _no_shared_memory("the queue of its batches", error) from error
    for queue in queues:
        queue.close()


def _no_shared_memory(what: str, error: Exception) -> DecodingUnavailableError:
    return DecodingUnavailableError(
        f"A worker has no shared memory for {what}: {error}. Use fewer workers (num_workers, "
        "dataloader_num_workers) or smaller batches, or give the container more shared memory (docker run "
        "--shm-size=8g)."
    )
