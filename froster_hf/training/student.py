"""The student made ready: what is trained, its teacher, and the projectors between them."""

import logging

import torch
from torch import nn

from ..modeling.modeling_froster import FrosterForVideoClassification
from ..modeling.projectors_froster import DistillationProjectors, ProjectorKind
from .arguments import FrosterTrainingArguments
from .lora import add_lora, has_lora, refuse_other_adapters
from .parameter_groups import choose_trained_parameters, is_projector, is_temporal
from .teacher import FrozenTeacher

logger = logging.getLogger(__name__)

_PROJECTOR_KINDS: dict[str, ProjectorKind] = {"projector": "mlp", "residual": "residual"}


def prepare_student(
    model: nn.Module,
    args: FrosterTrainingArguments,
    *,
    teacher: FrozenTeacher | None = None,
    may_share: bool = True,
) -> FrozenTeacher | None:
    """Choose what is trained and attach the projectors, in place.

    Args:
        model: the student, on its device.
        args: of the training.
        teacher: to learn from. By default the checkpoint that `args` name, or else the student as it is now.
        may_share: whether a teacher may hold the student's own parameters; not where a wrapper splits them up.

    Returns:
        The teacher, `None` without distillation.

    Raises:
        TypeError: the model is none of this package.
        ValueError: a form of distillation that cannot be, between these two models.
    """
    if not isinstance(model, FrosterForVideoClassification):
        raise TypeError(
            f"The model is a {type(model).__name__}; FrosterTrainer trains FrosterForVideoClassification. Build one "
            "with `FrosterForVideoClassification.from_clip(...)`, and set `trained_parameters='lora'` for PEFT's LoRA."
        )
    refuse_other_adapters(model)
    train_in_single_precision(model)
    if args.trained_parameters == "lora" and not has_lora(model):
        add_lora(model, rank=args.lora_rank, alpha=args.lora_alpha, dropout=args.lora_dropout)
    choose_trained_parameters(model, args.trained_parameters)
    if args.distillation == "none":
        _refuse_projectors(model, args)
        return None
    if teacher is None and args.teacher is not None:
        teacher = FrozenTeacher.from_clip(args.teacher, dtype=args.teacher_dtype)
        _check_vocabulary(model, teacher)
    elif teacher is None:
        shared = may_share and clip_is_frozen(model)
        teacher = FrozenTeacher.from_student(model, dtype=args.teacher_dtype, shared=shared)
    _check_pair(model, teacher, args)
    _attach_projectors(model, teacher, args)
    # Not the model's own, on which it may be placed later (full half-precision evaluation).
    return teacher.to(args.device)


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


def _check_vocabulary(model: FrosterForVideoClassification, teacher: FrozenTeacher) -> None:
    sizes = [config.text_config.vocab_size for config in (model.config, teacher.model.config)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"The student's text tower knows {sizes[0]} tokens and the teacher's {sizes[1]}: they read different "
            "tokenizers, and cannot be given the same prompts."
        )


def _check_pair(model: FrosterForVideoClassification, teacher: FrozenTeacher, args: FrosterTrainingArguments) -> None:
    width, teacher_width = model.config.projection_dim, teacher.embed_width
    if width != teacher_width and args.distillation != "projector":
        raise ValueError(
            f"The student's embeddings have width {width} and the teacher's {teacher_width}, which "
            f"distillation={args.distillation!r} cannot compare. Use distillation='projector', which maps between "
            "widths, or a teacher of the student's width."
        )
    if model.config.temporal_module == "joint" and args.distillation_target != "text":
        raise ValueError(
            "`temporal_module='joint'` has one embedding a clip, where the teacher has one a frame. Distil the texts "
            "only (`distillation_target='text'`), or set distillation='none'."
        )


def _attach_projectors(
    model: FrosterForVideoClassification, teacher: FrozenTeacher, args: FrosterTrainingArguments
) -> None:
    """Add the projectors, unless the model brings the very same ones, and freeze one that no term uses."""
    kind = _PROJECTOR_KINDS.get(args.distillation)
    if kind is None:
        return _refuse_projectors(model, args)
    if model.distillation_projectors is None:
        model.add_distillation_projectors(kind, alpha=args.distillation_alpha, teacher_width=teacher.embed_width)
    projectors: DistillationProjectors = model.distillation_projectors  # type: ignore[assignment]
    if (projectors.video.kind, projectors.video.alpha) != (kind, args.distillation_alpha):
        raise ValueError(
            f"The model brings {projectors.video.kind!r} projectors with alpha {projectors.video.alpha}, but the "
            f"arguments say distillation={args.distillation!r} and distillation_alpha={args.distillation_alpha}."
        )
    projectors.video.requires_grad_(args.distillation_target != "text")
    projectors.text.requires_grad_(args.distillation_target != "video")
    return None


def _refuse_projectors(model: FrosterForVideoClassification, args: FrosterTrainingArguments) -> None:
    if model.distillation_projectors is not None:
        raise ValueError(
            f"The model brings distillation projectors, which distillation={args.distillation!r} does not use. Set it "
            "to 'residual' or 'projector', or load the model without them."
        )
