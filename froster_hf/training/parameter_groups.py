"""Which parameters are trained, and which of them decay."""

from collections.abc import Callable

from torch import nn

from ..modeling.tables_froster import TEMPORAL_MODULES, modules_without_parameters
from .arguments import TrainedParameters

_CHOOSERS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "vision": lambda name: _is_of(name, "vision_model", "visual_projection", "temporal_pooling"),
    "text": lambda name: is_text(name),
    "adapters": lambda name: _is_of(
        name, *(part for entry in TEMPORAL_MODULES.values() if entry.adapter_divisor for part in entry.own_parameters)
    ),
    "temporal": lambda name: is_temporal(name),
    "lora": lambda name: ".lora_" in name or is_temporal(name),
}


def _is_of(name: str, *parts: str) -> bool:
    """Whether a parameter is one of these, or belongs to a module of one of these names."""
    return not set(parts).isdisjoint(name.split("."))


def is_temporal(name: str) -> bool:
    """Whether a parameter is one that CLIP does not have: of a temporal module or pooling."""
    modules = (part for entry in TEMPORAL_MODULES.values() for part in entry.own_parameters)
    return _is_of(name, "temporal_pooling", *modules)


def is_text(name: str) -> bool:
    """Whether a parameter belongs to the text tower or its projection."""
    return _is_of(name, "text_model", "text_projection")


def is_projector(name: str) -> bool:
    """Whether a parameter belongs to the distillation projectors."""
    return _is_of(name, "distillation_projectors")


def choose_trained_parameters(model: nn.Module, trained: TrainedParameters) -> None:
    """Set `requires_grad` of every parameter of the model but those of the distillation projectors.

    Raises:
        ValueError: the model has no such parameters.
    """
    chosen = _CHOOSERS[trained]
    found = False
    for name, parameter in model.named_parameters():
        if is_projector(name):
            continue
        parameter.requires_grad_(chosen(name))
        found |= parameter.requires_grad
    if not found:
        adapters = [repr(name) for name, entry in TEMPORAL_MODULES.items() if entry.adapter_divisor]
        bare = map(repr, modules_without_parameters())
        raise ValueError(
            f"`trained_parameters` is {trained!r}, but the model has no such parameters. Adapters come with "
            f"`temporal_module` {', '.join(adapters)}; {', '.join(bare)} add no parameters to CLIP, so there 'all', "
            "'vision', 'text' or 'lora' can be trained. What other modules add is 'temporal'."
        )


def decay_parameter_names(model: nn.Module) -> list[str]:
    """Parameters under weight decay: all but those of fewer than two axes and position embeddings."""
    positions = [part for entry in TEMPORAL_MODULES.values() for part in entry.position_embeddings]
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and not _is_of(name, "position_embedding", *positions)
    ]
