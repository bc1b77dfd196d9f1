"""What the workers of a `DataLoader` hand on: batches, in the memory that processes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch.utils.data import get_worker_info

from .types import DecodingUnavailableError

Batch = TypeVar("Batch", bound=Mapping[str, Any])


def share_batch(batch: Batch) -> Batch:
    """A batch whose tensors are in shared memory, where a worker has made it; as it is, elsewhere.

    Left to itself, a worker moves them there in a thread that drops what there is no room for, and the program waits
    for that batch for ever.

    Raises:
        DecodingUnavailableError: there is not enough of it.
    """
    if get_worker_info() is None:
        return batch
    tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except (OSError, RuntimeError) as error:
        size = sum(tensor.nbytes for tensor in tensors) / 2**20
        raise DecodingUnavailableError(
            f"A worker has no shared memory for {size:,.0f} MB of frames: {error}. Use fewer workers (num_workers, "
            "dataloader_num_workers) or smaller batches, or give the container more shared memory (docker run "
            "--shm-size=8g)."
        ) from error
    return batch
