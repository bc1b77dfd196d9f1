"""Distillation projectors: between what the student computes and what is compared with the frozen teacher.

FROSTER, section 3.3. They are part of the model while it is trained, so that distributed wrappers, optimizers and
checkpoints see them as any other parameter, and are left behind when the model is saved for inference.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

ProjectorKind = Literal["residual", "mlp"]


class DistillationProjector(nn.Module):
    """Linear, GELU, Linear without biases; for `residual`, a small correction added to the input.

    `residual`: f + alpha * P(f). The second layer starts at zero, so that the student starts as the teacher.
    `mlp`: P(f), the paper's ablation. Its second layer is drawn: the cosine to a zero vector has no direction.
    """

    def __init__(self, width: int, *, kind: ProjectorKind, alpha: float, teacher_width: int):
        super().__init__()
        self.kind = kind
        self.alpha = alpha
        self.fc1 = nn.Linear(width, width, bias=False)
        self.fc2 = nn.Linear(width, teacher_width, bias=False)
        nn.init.kaiming_normal_(self.fc1.weight)
        if kind == "residual":
            nn.init.zeros_(self.fc2.weight)
        else:
            nn.init.kaiming_normal_(self.fc2.weight)

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        """(..., D) to (..., D of the teacher)."""
        projected = self.fc2(F.gelu(self.fc1(embeds)))
        return embeds + self.alpha * projected if self.kind == "residual" else projected


class DistillationProjectors(nn.Module):
    """One projector for frame embeddings and one for text embeddings.

    Args:
        width: D, the student's embedding width.
        kind: `residual` or `mlp`.
        alpha: weight of the correction; `residual` only. The paper's is 0.1.
        teacher_width: the teacher's embedding width; `residual` needs it to be the student's.
    """

    def __init__(self, width: int, *, kind: ProjectorKind, alpha: float = 0.1, teacher_width: int | None = None):
        super().__init__()
        teacher_width = width if teacher_width is None else teacher_width
        if kind not in ("residual", "mlp"):
            raise ValueError(f"`kind` is {kind!r}; a projector is 'residual' or 'mlp'.")
        if kind == "residual" and teacher_width != width:
            raise ValueError(
                f"A residual projector adds to the student's embedding, so both widths must be equal; the student's "
                f"is {width} and the teacher's {teacher_width}. Use kind='mlp', which maps between widths."
            )
        self.video = DistillationProjector(width, kind=kind, alpha=alpha, teacher_width=teacher_width)
        self.text = DistillationProjector(width, kind=kind, alpha=alpha, teacher_width=teacher_width)
