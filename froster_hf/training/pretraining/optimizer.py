"""Muon for the matrices inside the layers, AdamW for everything else, as one optimizer.

Muon: Jordan et al., 2024, as in torch, with updates as large as AdamW's (Liu et al., arXiv 2502.16982). Embeddings,
projections, norms and biases are not what it is for. From random weights a small CLIP learns shapes with it within
2,400 steps, at whose end AdamW alone is still at chance.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from ..parameter_groups import decay_parameter_names


class MuonAndAdamW(Optimizer):
    """Two optimizers that the Trainer, its schedule and its checkpoints see as one.

    Args:
        muon: of some parameters.
        adamw: of the others.
    """

    def __init__(self, muon: Muon, adamw: AdamW):
        self.muon, self.adamw = muon, adamw
        # AdamW's first: the learning rate of the first group is the one that the Trainer logs.
        super().__init__([*adamw.param_groups, *muon.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Both work on the groups and the state of this one, which are what is scheduled, saved and loaded."""
        num_adamw = len(self.adamw.param_groups)
        self.adamw.param_groups, self.muon.param_groups = self.param_groups[:num_adamw], self.param_groups[num_adamw:]
        self.muon.state = self.adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See [`torch.optim.Optimizer.load_state_dict`]."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """See [`torch.optim.Optimizer.step`]."""
        loss = self.muon.step(closure)
        self.adamw.step()
        return loss


def muon_and_adamw(
    model: nn.Module,
    *,
    muon_learning_rate: float,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> MuonAndAdamW:
    """The optimizer of a CLIP model that is trained from random weights.

    Args:
        model: whose transformer layers are in modules named `layers`.
        muon_learning_rate: for the matrices of the layers.
        learning_rate: for everything else.
        weight_decay: for all but vectors and position embeddings.
        betas: of AdamW.
    """
    decays = set(decay_parameter_names(model))
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and ".layers." in name:
            matrices.append(parameter)
        else:
            (decayed if name in decays else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return MuonAndAdamW(
        Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        AdamW(groups, lr=learning_rate, betas=betas, fused=True),
    )
