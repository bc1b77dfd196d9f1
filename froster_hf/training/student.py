"""The student made ready for a training: its precision, what of it is trained, and its teacher."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..modeling.modeling_froster import FrosterForVideoClassification
from .arguments import FrosterTrainingArguments
from .distillation import (
    NO_DISTILLATION,
    FeatureDistillation,
    NoDistillation,
    begin_distillation,
    refuse_projectors,
)
from .lora import add_lora, has_lora, refuse_other_adapters
from .parameter_groups import choose_trained_parameters, is_projector, is_temporal
from .teacher import FrozenTeacher

logger = logging.getLogger(__name__)


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
        ValueError: adapters that could not be saved, or a form of distillation that these two models cannot have.
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
    train_in_single_precision(model)
    if args.trained_parameters == "lora" and not has_lora(model):
        add_lora(model, rank=args.lora_rank, alpha=args.lora_alpha, dropout=args.lora_dropout)
    choose_trained_parameters(model, args.trained_parameters)
    if args.distillation == NO_DISTILLATION:
        refuse_projectors(model, args.distillation)
        return NoDistillation()
    if teacher is None:
        teacher = _teacher_of(model, args, may_share=may_share)
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


def _teacher_of(
    model: FrosterForVideoClassification, args: FrosterTrainingArguments, *, may_share: bool
) -> FrozenTeacher:
    if args.teacher is None:
        shared = may_share and clip_is_frozen(model)
        return FrozenTeacher.from_student(model, dtype=args.teacher_dtype, shared=shared)
    teacher = FrozenTeacher.from_clip(args.teacher, dtype=args.teacher_dtype)
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
