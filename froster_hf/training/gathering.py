"""Batches of all processes as one batch, for an objective that contrasts the clips of a batch."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gather_labels(labels: Tensor) -> Tensor:
    """(B,) of every process to (processes * B,), in the order of their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return labels
    gathered = [torch.empty_like(labels) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, labels.contiguous())
    return torch.cat(gathered)


def gather_rows(rows: Tensor) -> Tensor:
    """(B, n) of every process to (processes * B, n), with gradients.

    Every process computes the same loss from it; the backward pass adds up their gradients, and the mean over
    processes that data parallelism takes makes them those of one process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    return torch.cat(all_gather(rows.contiguous()))
