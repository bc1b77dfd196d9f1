"""The student made ready for a training: its precision, what of it is trained, and its teacher.

Low-rank updates (LoRA; Hu et al., ICLR 2022) of the attention layers of both towers are PEFT's layers, put *into* the
model, which stays a FROSTER model: its checkpoints hold everything that is trained, and for inference the updates are
merged into the weights, so that the saved model is an ordinary one.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import is_peft_available

from ..checkpoint_loading import naming_checkpoint, refuse_other_scale
from ..extras import import_extra
from ..modeling.configuration_froster import refuse_many_new_parameters
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..modeling.tables_froster import TEMPORAL_MODULES, is_temporal, modules_without_parameters
from ..printing import get_logger, listing, printable
from ..whole_files import new_folder, write_errors
from .arguments import FrosterTrainingArguments, TrainedParameters
from .distillation import (
    NO_DISTILLATION,
    FeatureDistillation,
    NoDistillation,
    begin_distillation,
    refuse_projectors,
)
from .teacher import AveragedTeacher, FrozenTeacher

logger = get_logger(__name__)


def prepare_student(
    model: nn.Module,
    args: FrosterTrainingArguments,
    *,
    teacher: FrozenTeacher | None = None,
    may_share: bool = True,
) -> NoDistillation | FeatureDistillation:
    """Choose what is trained, and attach what the distillation needs, in place.

    Args:
        model: the student.
        args: arguments of the training.
        teacher: to learn from. By default the checkpoint that `args` name, or else the student as it is now.
        may_share: whether a teacher may hold the student's own parameters; not where a wrapper splits them up.

    Returns:
        What the student learns from the teacher; nothing without distillation.

    Raises:
        TypeError: the model is none of this package.
        ValueError: adapters that could not be saved, a scale of the logits that is not a number above 0, a teacher of
            frames of another size, or a form of distillation that these two models cannot have.
    """
    if not isinstance(model, FrosterForVideoClassification):
        raise TypeError(
            f"The model is a {type(model).__name__}; FrosterTrainer trains FrosterForVideoClassification. Build one "
            "with `FrosterForVideoClassification.from_clip(...)`, and set `trained_parameters='lora'` for PEFT's LoRA."
        )
    if model.config.problem_type == "multi_label_classification":
        raise ValueError(
            "`config.problem_type` is 'multi_label_classification', but FrosterTrainer trains one label per clip. Set "
            "it to None, or train with transformers' own Trainer."
        )
    refuse_other_adapters(model)
    refuse_other_scale(model)
    train_in_single_precision(model)
    if args.trained_parameters == "lora" and not has_lora(model):
        add_lora(model, rank=args.lora_rank, alpha=args.lora_alpha, dropout=args.lora_dropout)
    choose_trained_parameters(model, args.trained_parameters)
    if args.device.type == "cpu":
        look_for_signals(model)
    if args.distillation == NO_DISTILLATION:
        refuse_projectors(model, args.distillation)
        return NoDistillation()
    if teacher is None:
        teacher = _teacher_of(model, args, may_share=may_share)
    _check_sides(model, teacher)
    distillation = begin_distillation(
        model,
        distillation=args.distillation,
        teacher=teacher,
        target=args.distillation_target,
        alpha=args.distillation_alpha,
        weight=args.distillation_weight,
    )
    # Not the model's own device, on which it may be placed later (full half-precision evaluation).
    teacher.to(args.device)
    return distillation


def look_for_signals(model: nn.Module) -> None:
    """Have a backward pass on a CPU end at Ctrl-C before all gradients are there.

    It is one call, in which signals wait; in Python's functions they are looked for.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _: None)


def _teacher_of(
    model: FrosterForVideoClassification, args: FrosterTrainingArguments, *, may_share: bool
) -> FrozenTeacher:
    # The Trainer's mixed precision is around the student's forward pass alone.
    mixed = "bfloat16" if args.bf16 else "float16" if args.fp16 else None
    precision: Any = {"frames_dtype": mixed} if args.teacher_dtype is None else {"dtype": args.teacher_dtype}
    if args.teacher_momentum is not None:
        if clip_is_frozen(model):
            raise ValueError(
                f"`teacher_momentum` is {args.teacher_momentum}, but nothing of CLIP is trained that a teacher could "
                f"follow (`trained_parameters={args.trained_parameters!r}`). Leave it out."
            )
        return AveragedTeacher.from_student(model, momentum=args.teacher_momentum, **precision)
    if args.teacher is None:
        shared = may_share and clip_is_frozen(model)
        return FrozenTeacher.from_student(model, shared=shared, **precision)
    with naming_checkpoint("teacher", args.teacher):
        teacher = FrozenTeacher.from_dual_encoder(args.teacher, **precision)
    _check_vocabulary(model, teacher)
    return teacher


def train_in_single_precision(model: nn.Module) -> None:
    """Cast weights in half precision to float32, in place, and say so.

    At the published learning rate most updates are smaller than what float16 or bfloat16 can add to a weight. Speed
    comes from autocast (`bf16=True`, `fp16=True`), which keeps the weights in single precision. The model is saved as
    it was trained, in float32. Quantized weights stay as they are.
    """
    halves = {parameter.dtype for parameter in model.parameters()} & {torch.float16, torch.bfloat16}
    if not halves or getattr(model, "is_quantized", False):
        return
    model.float()
    logger.warning(
        "The model's weights were %s; they are trained, and will be saved, in float32. For the speed of half "
        "precision set `bf16=True` or `fp16=True`.",
        " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in halves)),
    )


def clip_is_frozen(model: nn.Module) -> bool:
    """Whether no parameter that CLIP has is trained."""
    return not any(
        parameter.requires_grad
        for name, parameter in model.named_parameters()
        if not (is_temporal(name) or is_projector(name) or ".lora_" in name)
    )


def _check_sides(model: FrosterForVideoClassification, teacher: FrozenTeacher) -> None:
    own, others = (config.vision_config.image_size for config in (model.config, teacher.model.config))
    if own != others:
        name = teacher.model.config._name_or_path
        named = f" ({printable(str(name), limit=200)})" if name else ""
        raise ValueError(
            f"The student sees frames of {own} x {own} pixels, and the teacher{named} of {others} x {others}: they "
            "cannot be given the same. Give a teacher of the student's size, or begin from a CLIP of the teacher's."
        )


def _check_vocabulary(model: FrosterForVideoClassification, teacher: FrozenTeacher) -> None:
    sizes = [config.text_config.vocab_size for config in (model.config, teacher.model.config)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"The student's text tower knows {sizes[0]} tokens and the teacher's {sizes[1]}: they read different "
            "tokenizers, and cannot be given the same prompts."
        )


@contextmanager
def labels_stored(model: FrosterForVideoClassification, labels: Sequence[str], embeds: torch.Tensor) -> Iterator[None]:
    """A label list and its embeddings (K, D) stored in the model, for as long as its weights are these."""
    model.set_labels(labels, text_embeds=embeds)
    try:
        yield
    finally:
        forget_labels(model)


def forget_labels(model: FrosterForVideoClassification) -> None:
    """Take the label list out of the model: embeddings do not hold for other weights."""
    model.config.id2label, model.config.label2id = {}, {}
    model._store_label_embeds(torch.zeros(0, model.config.projection_dim, device=model.device))


_CHOOSERS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "vision": lambda name: _is_of(name, "vision_model", "visual_projection", "temporal_pooling"),
    "text": lambda name: is_text(name),
    "adapters": lambda name: _is_of(
        name, *(part for entry in TEMPORAL_MODULES.values() if entry.adapter_divisor for part in entry.own_parameters)
    ),
    "temporal": is_temporal,
    "lora": lambda name: ".lora_" in name or is_temporal(name),
}


def _is_of(name: str, *parts: str) -> bool:
    """Whether a parameter is one of these, or belongs to a module of one of these names."""
    return not set(parts).isdisjoint(name.split("."))


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


_TARGETS = r".*\b(text_model|vision_model)\.encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"


def add_lora(model: FrosterForVideoClassification, *, rank: int, alpha: int, dropout: float) -> None:
    """Put low-rank updates beside the attention layers, in place; they start at zero.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: they would have far more weights than the model.
    """
    peft = import_extra("lora")
    layers = [module for name, module in model.named_modules() if re.fullmatch(_TARGETS, name)]
    num_weights = rank * sum(layer.in_features + layer.out_features for layer in layers)
    refuse_many_new_parameters(model.config, num_others=num_weights)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=_TARGETS)
    peft.inject_adapter_in_model(config, model)


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
        found = ", ".join(sorted(others)) or f"adapters named {listing(getattr(model, 'peft_config', ()))}"
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


def save_adapter(model: nn.Module, folder: str | os.PathLike[str], *, base: str | os.PathLike[str]) -> None:
    """Save what `trained_parameters="lora"` trained alone, a few megabytes, as an adapter of PEFT.

    The zero-shot pipeline and the shell load the folder by its name, once the processor is saved beside it. Stored
    labels are not part of an adapter.

    Args:
        model: a trained student.
        folder: a new one.
        base: the FROSTER checkpoint that the training began with, a folder or a name on the Hub; the adapter names it.

    Raises:
        ValueError: the model has no updates of `add_lora`, or differs from `base` in more than those.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer
    from safetensors.torch import save_file

    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    if not layers:
        raise ValueError("The model has no low-rank updates to save. Train it with `trained_parameters='lora'`.")
    kept = FrosterForVideoClassification.from_pretrained(base).state_dict()
    own = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name and not is_projector(name) and name != "label_embeds"
    }
    kept.pop("label_embeds", None)
    if differing := [
        name
        for name in sorted(own.keys() | kept.keys())
        if name not in own or name not in kept or not torch.equal(own[name].cpu(), kept[name].to(own[name].dtype))
    ]:
        raise ValueError(
            f"The model differs from {os.fspath(base)} in more than low-rank updates, such as {differing[0]}, which "
            "an adapter cannot hold. Give the checkpoint that the training began with, or save the whole model."
        )
    first = next(iter(layers.values()))
    rank = first.r["default"]
    config = LoraConfig(
        r=rank,
        lora_alpha=round(first.scaling["default"] * rank),
        target_modules=sorted(layers),
        base_model_name_or_path=os.fspath(base),
        inference_mode=True,
    )
    tensors = {
        f"base_model.model.{name.replace('.default.', '.')}": tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if ".lora_" in name
    }
    with new_folder(folder) as unfinished, write_errors(folder):
        save_file(tensors, unfinished / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(str(unfinished))


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
