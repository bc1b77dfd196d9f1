"""The mean of several checkpoints' weights as one model: SWA, or fine-tuned and frozen together (WiSE-FT)."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def average_models(models: Iterable[Model], *, shares: Sequence[float] | None = None) -> Model:
    """The first model, in place, with the weighted mean of all models' weights.

    Args:
        models: of one architecture; an iterable may load them one by one, since two at a time are held.
        shares: of the models, adding up to 1; None is equal shares.

    Raises:
        ValueError: no model, weights that differ in name or shape, or shares that do not fit.
    """
    if shares is not None and abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares={list(shares)} add up to {sum(shares)}, not to 1.")
    first: Model | None = None
    sums: dict[str, torch.Tensor] = {}
    count = 0
    for count, model in enumerate(models, start=1):
        if shares is not None and count > len(shares):
            raise ValueError(f"There are more models than the {len(shares)} shares.")
        share = 1.0 if shares is None else shares[count - 1]
        weights = model.state_dict()
        if first is None:
            first = model
            sums = {name: share * tensor.double() for name, tensor in weights.items() if tensor.is_floating_point()}
            continue
        _check_alike(first.state_dict(), weights, count)
        for name, total in sums.items():
            total.add_(weights[name].to(total), alpha=share)
    if first is None or (shares is not None and count != len(shares)):
        raise ValueError(
            f"{count} models and {None if shares is None else len(shares)} shares; give one share a model."
        )
    divisor = count if shares is None else 1
    for name, tensor in first.state_dict().items():
        if name in sums:
            tensor.copy_(sums[name] / divisor)
    return first


def _check_alike(first: dict[str, torch.Tensor], other: dict[str, torch.Tensor], number: int) -> None:
    if different := sorted(set(first) ^ set(other)):
        raise ValueError(f"Model {number} has other weights than the first, such as {different[:3]}.")
    for name, tensor in first.items():
        if tensor.shape != other[name].shape:
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)} in the first, {tuple(other[name].shape)} in model {number}."
            )
