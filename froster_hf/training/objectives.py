"""What the student learns from labels, and how the parts of a loss become one number.

Cross-entropy over label texts (FROSTER; Open-VCLIP; ViFi-CLIP) and ActionCLIP's symmetric video-text matching: pure
functions behind the student's forward pass. What it learns from the teacher is in `distillation.py`.

Letters: B clips, K classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..modeling.heads_froster import IGNORED_LABEL


class LossPart(NamedTuple):
    """One term of the loss, which is logged under its name: a number, and its weight in the sum."""

    value: Tensor
    weight: float = 1.0


def total_loss(parts: Mapping[str, LossPart]) -> Tensor:
    """The weighted sum of the parts."""
    return torch.stack([part.weight * part.value for part in parts.values()]).sum()


def cross_entropy_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the label texts, a mean over the clips that have a label; zero when none has.

    Args:
        logits: (B, K).
        labels: (B,), indices of classes; clips labelled -100 do not count.
        label_smoothing: share of the target that is spread over all classes.
    """
    total = F.cross_entropy(
        logits, labels, reduction="sum", ignore_index=IGNORED_LABEL, label_smoothing=label_smoothing
    )
    return total / (labels != IGNORED_LABEL).sum().clamp(min=1)


def symmetric_kl_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """ActionCLIP's video-text matching (section 3.1): clips against the texts of the same clips' labels.

    The target of a row is softmax(10 * [same label]): clips of one label in a batch share the mass, and the others
    keep a little. KL divergence to it, video-to-text and text-to-video averaged; zero when no clip has a label.

    Args:
        logits: (B, N), clip i against the text of the j-th clip that has a label; N of them have one.
        labels: (B,); clips labelled -100 have no text and do not count.
    """
    labelled = labels != IGNORED_LABEL
    logits, labels = logits[labelled], labels[labelled]
    if not len(labels):
        return logits.sum()
    targets = (10.0 * (labels[:, None] == labels[None, :]).to(logits.dtype)).softmax(dim=-1)
    video_to_text = F.kl_div(logits.log_softmax(dim=-1), targets, reduction="batchmean")
    text_to_video = F.kl_div(logits.T.log_softmax(dim=-1), targets, reduction="batchmean")
    return (video_to_text + text_to_video) / 2


# Batches of all processes as one batch, for an objective that contrasts the clips of a batch.


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
