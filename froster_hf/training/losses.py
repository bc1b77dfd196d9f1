"""What is minimised: pure functions of logits and embeddings, each returning its named parts.

Cross-entropy over label texts (FROSTER; Open-VCLIP; ViFi-CLIP), ActionCLIP's symmetric video-text matching, and
FROSTER's feature distillation (section 3.3). They stand behind the student's and the teacher's forward pass; the
Trainer sums the parts and logs each.

Letters: B clips, T frames, K classes, D the teacher's embedding width.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED_LABEL = -100


def cross_entropy_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> dict[str, Tensor]:
    """Cross-entropy over the label texts, a mean over the clips that have a label.

    Args:
        logits: (B, K).
        labels: (B,), indices of classes; clips labelled -100 do not count.
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        `ce`, zero when no clip has a label.
    """
    total = F.cross_entropy(
        logits, labels, reduction="sum", ignore_index=IGNORED_LABEL, label_smoothing=label_smoothing
    )
    return {"ce": total / (labels != IGNORED_LABEL).sum().clamp(min=1)}


def symmetric_kl_loss(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """ActionCLIP's video-text matching (section 3.1): clips against the texts of the same clips' labels.

    The target of a row is softmax(10 * [same label]): clips of one label in a batch share the mass, and the others
    keep a little. KL divergence to it, video-to-text and text-to-video averaged.

    Args:
        logits: (B, N), clip i against the text of the j-th clip that has a label; N of them have one.
        labels: (B,); clips labelled -100 have no text and do not count.

    Returns:
        `kl`, zero when no clip has a label.
    """
    labelled = labels != IGNORED_LABEL
    logits, labels = logits[labelled], labels[labelled]
    if not len(labels):
        return {"kl": logits.sum()}
    targets = (10.0 * (labels[:, None] == labels[None, :]).to(logits.dtype)).softmax(dim=-1)
    video_to_text = F.kl_div(logits.log_softmax(dim=-1), targets, reduction="batchmean")
    text_to_video = F.kl_div(logits.T.log_softmax(dim=-1), targets, reduction="batchmean")
    return {"kl": (video_to_text + text_to_video) / 2}


def distillation_loss(
    *,
    student_frames: Tensor | None = None,
    teacher_frames: Tensor | None = None,
    student_texts: Tensor | None = None,
    teacher_texts: Tensor | None = None,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Feature distillation: one minus the cosine between the student's and the teacher's embeddings (FROSTER, eq. 5).

    Args:
        student_frames: (B, T, D), behind the projector where there is one.
        teacher_frames: (B, T, D).
        student_texts: (K, D), one a label, behind the projector where there is one.
        teacher_texts: (K, D).
        labels: (B,); clips labelled -100 do not count in the video part.

    Returns:
        `distill_video`, the mean over all frames, and `distill_text`, the mean over labels; each where its embeddings
        are given. Zero where student and teacher agree in direction.
    """
    parts = {}
    if student_frames is not None and teacher_frames is not None:
        distances = 1 - F.cosine_similarity(student_frames, teacher_frames, dim=-1)  # (B, T)
        counts = torch.ones_like(distances) if labels is None else (labels != IGNORED_LABEL).to(distances)[:, None]
        counts = counts.expand_as(distances)
        parts["distill_video"] = (distances * counts).sum() / counts.sum().clamp(min=1)
    if student_texts is not None and teacher_texts is not None:
        parts["distill_text"] = (1 - F.cosine_similarity(student_texts, teacher_texts, dim=-1)).mean()
    return parts


def total_loss(parts: Mapping[str, Tensor], *, distillation_weight: float) -> Tensor:
    """The sum of the parts, the distillation's times beta: L = CE + beta * (L_video + L_text) (FROSTER, eq. 6)."""
    weighted = [part * distillation_weight if name.startswith("distill_") else part for name, part in parts.items()]
    return torch.stack(weighted).sum()
