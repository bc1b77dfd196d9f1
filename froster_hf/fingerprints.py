"""Hashes that tell the weights of models apart, which stored predictions, records of runs, cards and indexes name; and
files."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import torch

# Stored next to the weights, but not what a prediction over given labels depends on.
NOT_WEIGHTS = ("label_embeds", "distillation_projectors.")


# Fields of a configuration that change answers and show in no weight.
ARCHITECTURE_FIELDS = (
    *("backbone", "temporal_module", "temporal_pooling", "temporal_radius", "pooling_num_heads"),
    *("num_attention_heads", "hidden_act", "layer_norm_eps", "eos_token_id"),
)


def architecture_of(model: "torch.nn.Module") -> dict[str, Any]:
    """What answers depend on beside the weights: fields of the model's configuration and of its towers', for JSON."""
    config = getattr(model, "config", None)
    parts = {"model": config, **{name: getattr(config, name, None) for name in ("text_config", "vision_config")}}
    return {
        name: {field: getattr(part, field) for field in ARCHITECTURE_FIELDS if hasattr(part, field)}
        for name, part in parts.items()
        if part is not None
    }


def other_fields(stated: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fields of which two of [`architecture_of`] have another value; what one lacks is of another release."""
    return [
        f"{part}.{field}"
        for part, fields in own.items()
        for field, value in fields.items()
        if stated.get(part, {}).get(field, value) != value
    ]


def model_fingerprint(model: "torch.nn.Module", *, dtype: "torch.dtype | None" = None) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of the weights, and the scales of adapters.

    The same for a model in memory and on disk.

    Args:
        model: any module.
        dtype: type that the weights are hashed in, one by one, as if the model had been cast; by default their own.
    """
    import torch
    from accelerate.utils.modeling import get_state_dict_offloaded_model

    from .pipeline.scoring_froster import adapter_state

    weights = model.state_dict()
    if any(tensor.is_meta for tensor in weights.values()):  # offloaded: accelerate's hooks bring them
        weights = get_state_dict_offloaded_model(model)
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if any(part in name for part in NOT_WEIGHTS):
            continue
        for part, plain in _plain_tensors(name, tensor.detach()):
            hashed = plain.to(dtype) if dtype is not None and plain.is_floating_point() else plain
            digest.update(f"{part} {tuple(hashed.shape)} {hashed.dtype}\n".encode())
            digest.update(hashed.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    if adapters := adapter_state(model):
        # How strongly the weights of PEFT's adapters count is none of them.
        digest.update(repr(adapters).encode())
    return digest.hexdigest()


def _plain_tensors(name: str, tensor: "torch.Tensor") -> Iterator[tuple[str, "torch.Tensor"]]:
    """A tensor, or those that one of another class, such as a quantized one, is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        for part in tensor.__tensor_flatten__()[0]:
            yield from _plain_tensors(f"{name}.{part}", getattr(tensor, part))
    else:
        yield name, tensor


def file_fingerprint(*files: "Path") -> str:
    """SHA-256 over the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
