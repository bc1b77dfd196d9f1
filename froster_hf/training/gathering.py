"""Batches of all processes as one batch, for an objective that contrasts the clips of a batch."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_labels(labels: Tensor) -> Tensor:
    """(B,) of every process to (processes * B,), in the order of their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return labels
    gathered = [torch.empty_like(labels) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, labels.contiguous())
    return torch.cat(gathered)


def gather_rows(rows: Tensor) -> Tensor:
    """(B, n) of every process to (processes * B, n), with the gradients of one process.

    Every process computes the same loss from the gathered rows and differentiates it by its own. Data parallelism then
    takes the mean over processes where the sum is meant, which the gradient is scaled for.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows.detach().contiguous())
    own = rows.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * len(gathered))
    gathered[dist.get_rank()] = own
    return torch.cat(gathered)
