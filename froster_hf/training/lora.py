"""Low-rank updates (LoRA; Hu et al., ICLR 2022) of the attention layers of both towers, by PEFT.

PEFT's layers are put *into* the model, which stays a FROSTER model: its checkpoints hold everything that is trained,
and for inference the updates are merged into the weights, so that the saved model is an ordinary one.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import is_peft_available

_TARGETS = r".*\b(text_model|vision_model)\.encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"


def add_lora(model: nn.Module, *, rank: int, alpha: int, dropout: float) -> None:
    """Put low-rank updates beside the attention layers, in place; they start at zero.

    Raises:
        ImportError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            "`trained_parameters='lora'` needs PEFT: `pip install peft`, or `pip install froster-hf[lora]`."
        ) from error
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=_TARGETS)
    inject_adapter_in_model(config, model)


def has_lora(model: nn.Module) -> bool:
    """Whether `add_lora` was called on the model."""
    return any(".lora_" in name for name, _ in model.named_parameters())


def refuse_other_adapters(model: nn.Module) -> None:
    """Refuse adapters that would not survive saving: only those of `add_lora` are merged into the weights.

    A model with `add_adapter`, or one loaded from a folder of PEFT, is saved by transformers as its adapter alone, and
    layers of PEFT other than plain LoRA have no merged form here: what was trained would be lost.

    Raises:
        ValueError: the model has such adapters.
    """
    if not is_peft_available():
        return
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    managed = getattr(model, "_hf_peft_config_loaded", False)
    others = {
        type(module).__name__
        for module in model.modules()
        if isinstance(module, AuxiliaryTrainingWrapper)
        or (isinstance(module, BaseTunerLayer) and not _is_plain_lora(module))
    }
    if managed or others:
        found = ", ".join(sorted(others)) or f"adapters named {', '.join(getattr(model, 'peft_config', ()))}"
        raise ValueError(
            f"The model carries adapters of PEFT ({found}), whose trained weights FrosterTrainer would not save. Give "
            "the model without adapters (merge them first, where they are trained already), and set "
            "`trained_parameters='lora'`."
        )


def _is_plain_lora(module: nn.Module) -> bool:
    """Whether a layer is its base layer plus B @ A, all of its trained parameters."""
    from peft.tuners.lora import LoraLayer

    return (
        isinstance(module, LoraLayer)
        and hasattr(module.get_base_layer(), "weight")  # `nn.MultiheadAttention` has several
        and not module.lora_variant
        and not any(module.lora_bias.values())
    )


def merged_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the model as it computes, under the names that it had before `add_lora`."""
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    updates: dict[str, Tensor] = {
        f"{name}.base_layer.weight": torch.stack(
            [layer.get_delta_weight(adapter) for adapter in layer.active_adapters]
        ).sum(dim=0)
        for name, layer in layers.items()
    }
    return {
        name.replace(".base_layer.", "."): tensor + updates[name].to(tensor) if name in updates else tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
