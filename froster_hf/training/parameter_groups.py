"""Which parameters are trained, and which of them decay."""

import re
from collections.abc import Callable

from torch import nn

from .arguments import TrainedParameters

_VISION = re.compile(r"\b(vision_model|visual_projection|temporal_pooling)\.")
_TEXT = re.compile(r"\b(text_model|text_projection)\.")
_ADAPTERS = re.compile(r"\b(st_adapter|temporal_adapter|spatial_adapter|mlp_adapter)\.")
# What the temporal modules and poolings add to CLIP.
_TEMPORAL = re.compile(
    r"_adapter\.|\bmessage_(proj|norm|attn)\.|\bmotion_gate$|\btime_embedding$|\btemporal_pooling\."
)
_PROJECTORS = re.compile(r"\bdistillation_projectors\.")
_POSITIONS = re.compile(r"\b(position_embedding|time_embedding)\b")

_CHOOSERS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "vision": lambda name: _VISION.search(name) is not None,
    "text": lambda name: _TEXT.search(name) is not None,
    "adapters": lambda name: _ADAPTERS.search(name) is not None,
    "temporal": lambda name: is_temporal(name),
    "lora": lambda name: ".lora_" in name or is_temporal(name),
}


def is_temporal(name: str) -> bool:
    """Whether a parameter is one that CLIP does not have: of a temporal module or pooling."""
    return _TEMPORAL.search(name) is not None


def is_text(name: str) -> bool:
    """Whether a parameter belongs to the text tower or its projection."""
    return _TEXT.search(name) is not None


def is_projector(name: str) -> bool:
    """Whether a parameter belongs to the distillation projectors."""
    return _PROJECTORS.search(name) is not None


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
        raise ValueError(
            f"`trained_parameters` is {trained!r}, but the model has no such parameters. Adapters come with "
            "`temporal_module` 'st_adapter', 'aim' or 'adaptformer'; 'local_attention' adds no parameters to CLIP, so "
            "there 'all', 'vision', 'text' or 'lora' can be trained. What other modules add is 'temporal'."
        )


def decay_parameter_names(model: nn.Module) -> list[str]:
    """Parameters under weight decay: all but those of fewer than two axes and position embeddings."""
    return [
        name for name, parameter in model.named_parameters() if parameter.ndim >= 2 and _POSITIONS.search(name) is None
    ]
