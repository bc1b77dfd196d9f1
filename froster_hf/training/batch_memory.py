"""Whether the batches of a training fit into the memory of the machine, before the first of them is read.

The system ends a process that takes more memory than there is. What an accelerator has no room for is an error there,
so of the model, only what it computes on a CPU counts.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import TrainingArguments

from ..data.clips import EvaluationClips, TrainingClips
from ..machine_memory import (
    FLOAT_BYTES,
    forward_bytes,
    frame_tokens,
    has_one_pass,
    layer_numbers,
    refuse_beyond_memory,
    tower_bytes,
)
from ..modeling.modeling_froster import FrosterForVideoClassification
from .arguments import FrosterTrainingArguments
from .distillation import DISTILLATIONS
from .prompts import LabelTexts
from .teacher import FrozenTeacher

# Of the largest operation of a step, in multiplications for each thread of a CPU: Ctrl-C waits until it ends, and this
# one takes it a minute and a half at 50 gigaflops. A batch of 256 clips of 8 frames has 10^12 in ViT-B/16.
MOST_MULTIPLICATIONS = 2**41
_LAYER = re.compile(r"\.layers\.(\d+)\.")
# Numbers of a clip's score for a text: itself, its logarithm, which a backward pass reads, and its gradient. With the
# batch's own texts, both ways, and what it should be.
SCORE_NUMBERS, BATCH_SCORE_NUMBERS = 3, 6


def refuse_training_beyond_memory(
    clips: Any,
    *,
    model: FrosterForVideoClassification,
    teacher: FrozenTeacher | None,
    args: FrosterTrainingArguments,
    num_texts: int,
    text_lengths: torch.Tensor,
    num_scored: int,
) -> None:
    """Raise where a training takes more memory than there is: a step, or what is held from step to step.

    Or, on a CPU, where a step has an operation that takes so long that Ctrl-C would not end it.

    Args:
        clips: that are trained on; data sets that are not [`TrainingClips`] are the caller's.
        model: the student, with what is trained of it chosen.
        teacher: sees the same clips.
        args: arguments of the training.
        num_texts: that are encoded at once.
        text_lengths: tokens of each of the texts from which they are taken.
        num_scored: texts that each clip is compared with.

    Raises:
        ValueError: names the numbers, what they take at least, and what there is or what a model of this size takes.
    """
    on_cpu = args.device.type == "cpu"
    # A model that is only measured has neither gradients nor an optimizer.
    is_trained = on_cpu and (args.num_train_epochs > 0 or args.max_steps > 0)
    num_trained = sum(entry.numel() for entry in model.parameters() if entry.requires_grad) if is_trained else 0
    gradients = num_trained * FLOAT_BYTES
    # AdamW's two averages; of optimizers that may hold less, nothing is counted.
    state = 2 * gradients if args.optim in ("adamw_torch", "adamw_torch_fused") else 0
    if is_trained:
        refuse_beyond_memory(
            gradients + state,
            f"The gradients of {num_trained:,} weights, and what the optimizer holds of each,",
            advice="Train fewer of them (`trained_parameters`), or take an optimizer that holds less (`optim`).",
        )
    if not isinstance(clips, TrainingClips):
        return
    num_videos = min(args.train_batch_size, len(clips))
    num_frames = num_videos * clips.frames_per_video
    vision: Any = model.config.vision_config
    costs = model.config.costs(clips.frames_per_video)
    clips.check_for_model(model.config)
    if teacher is not None:
        clips.check_for_model(teacher.model.config)
    lengths = text_lengths.double()
    vision_layers = _kept_layers(model, "vision_model", vision, args)
    kept = costs.kept_numbers(vision_layers)
    text: Any = model.config.text_config
    text_layers = _kept_layers(model, "text_model", text, args)
    kept_of_texts = costs.kept_text_scores(text_layers, num_texts * float(lengths.square().mean()))
    for subject, number, advice in (
        (f"a clip of {clips.frames_per_video} frames", kept, "Lower `num_frames`, or set `gradient_checkpointing`"),
        (f"{num_texts} texts", kept_of_texts, "Set `text_chunk_size`, or the text tower's `attention_dropout` to 0"),
    ):
        if number > costs.most_kept:
            raise ValueError(
                f"Of {subject}, {number:.1e} numbers would be kept for the backward pass; a model of this size keeps "
                f"at most {costs.most_kept:.1e}. {advice}."
            )
    if is_trained:
        text_width = text.hidden_size
        products = {
            "clips": num_videos * costs.largest_product,
            "scores": float(num_videos) * num_scored * model.config.projection_dim,
        }
        if text_layers:
            mlp = float(lengths.mean()) * text_width * max(text_width, text.intermediate_size)
            attended = 4 * float(lengths.square().mean()) * max(text_width, 64 * text.num_attention_heads)
            products["texts"] = num_texts * max(mlp, attended)
        _refuse_endless_products(products)
    number_bytes = 2 if args.bf16 or args.fp16 else FLOAT_BYTES
    model_bytes = 0.0
    if is_trained:
        score_numbers = BATCH_SCORE_NUMBERS if args.objective == "symmetric_kl" else SCORE_NUMBERS
        if teacher is not None:
            form = DISTILLATIONS[args.distillation]
            score_numbers += form.score_numbers
            if args.distillation_target != "text":
                num_shown = 1 if form.takes_any_frames else clips.frames_per_video
                model_bytes += _teacher_bytes(teacher, num_frames=num_shown, num_videos=num_videos)
        model_bytes += num_videos * float(num_scored) * score_numbers * FLOAT_BYTES
    whole_layers = _kept_layers(model, "vision_model", vision, args, share=1)
    pools = any(entry.requires_grad for name, entry in model.named_parameters() if "temporal_pooling" in name)
    held = costs.held_numbers(whole_layers, is_trained=is_trained and (whole_layers > 0 or pools))
    model_bytes += num_videos * held * number_bytes
    model_bytes += 0.5 * kept_of_texts * number_bytes
    for tower, num_tokens, kept_layers in (
        (vision, num_frames * frame_tokens(vision), vision_layers),
        (text, num_texts * float(lengths.mean()), text_layers),
    ):
        model_bytes += tower_bytes(tower, num_tokens, kept_layers=kept_layers, number_bytes=number_bytes)
    clips.refuse_beyond_memory(
        batch_size=args.train_batch_size,
        # The Trainer reads all batches of an optimizer step before it computes the first.
        num_batches=args.gradient_accumulation_steps + num_ahead(args),
        # From the second step on, both are there.
        model_bytes=model_bytes + state if on_cpu else 0,
        advice="Lower `per_device_train_batch_size` (videos at once), `total_batch_size`, `num_frames`, "
        "`text_chunk_size` or `dataloader_prefetch_factor`.",
    )


def _refuse_endless_products(products: Mapping[str, float]) -> None:
    """Raise where a step would have an operation that does not end within a minute or two.

    Args:
        products: the multiplications of the largest one, by what is computed.

    Raises:
        ValueError: names them, and what this machine computes at once.
    """
    most = MOST_MULTIPLICATIONS * torch.get_num_threads()
    for what, product in products.items():
        if product > most:
            raise ValueError(
                f"The {what} of a step would be {product:.1e} multiplications in one operation, which Ctrl-C would "
                f"not end; at most {most:.1e} are computed by {torch.get_num_threads()} threads. Lower "
                "`per_device_train_batch_size` (videos at once), `num_frames`, `text_chunk_size` or the labels."
            )


def refuse_embeds_beyond_memory(
    texts: LabelTexts, *, args: FrosterTrainingArguments, num_labels: Sequence[int], num_drawn: int
) -> None:
    """Raise where the embeddings of labels under templates, which a training holds, fill memory.

    Args:
        texts: of the training's labels.
        args: arguments of the training.
        num_labels: of each label list, the evaluations' too.
        num_drawn: templates under which a step has all of the training's labels.

    Raises:
        ValueError: names the numbers, and what a model of this size has at most or the memory that there is.
    """
    config, num_templates = texts.student.config, len(texts.prompts.templates)
    # An evaluation, and the model that is saved, average over all templates. A step, over those that are drawn; where
    # it trains the text tower, with their gradients.
    of_step = 0 if texts.frozen_embeds is not None else 2 * num_drawn * len(texts.prompts.labels)
    at_once = max(num_templates * max(num_labels), of_step) * config.projection_dim
    numbers = at_once + num_templates * sum(num_labels) * texts.kept_width
    subject = f"The embeddings of {sum(num_labels):,} labels under {num_templates:,} templates"
    advice = "Give fewer labels or `prompt_templates`."
    if numbers > (most := config.costs(1).most_embedded):
        raise ValueError(
            f"{subject} would be {numbers:.1e} numbers in memory; those of a model of this size are at most "
            f"{most:.1e}. {advice}"
        )
    if args.device.type == "cpu":
        refuse_beyond_memory(numbers * FLOAT_BYTES, subject, advice=advice)


def refuse_evaluation_beyond_memory(
    clips: Any, *, model: FrosterForVideoClassification, args: FrosterTrainingArguments, num_labels: int
) -> None:
    """Raise where a batch of an evaluation while training, or what is kept of all, takes more memory than there is.

    Args:
        clips: that are evaluated on, or several by name; data sets that are not [`EvaluationClips`] are the caller's.
        model: the student.
        args: arguments of the training.
        num_labels: that videos without label names of their own are measured against.

    Raises:
        ValueError: names the numbers, what they take at least, and what there is or what a model of this size takes.
    """
    for part in clips.values() if isinstance(clips, Mapping) else [clips]:
        if isinstance(part, EvaluationClips):
            part.check_for_model(model.config, num_clips=part.num_clips)
            num_scored = len(part.label_names or ()) or num_labels
            refuse_beyond_memory(
                float(min(args.eval_batch_size, len(part)))
                * part.num_clips
                * num_scored
                * SCORE_NUMBERS
                * FLOAT_BYTES,
                f"The scores of {part.num_clips:,} views of {args.eval_batch_size:,} videos for {num_scored:,} labels "
                "each",
                advice="Lower `per_device_eval_batch_size`, or the views in `eval_video_options`.",
            )
            if not (args.prediction_loss_only or args.batch_eval_metrics):
                refuse_beyond_memory(
                    # The Trainer puts those of each further batch behind the others in a new tensor.
                    float(2 * len(part) - min(args.eval_batch_size, len(part))) * num_scored * FLOAT_BYTES,
                    f"The scores of {len(part):,} videos for {num_scored:,} labels each, which are kept until all are "
                    "measured,",
                    advice="Evaluate on fewer videos or labels, or set `prediction_loss_only`.",
                )
            in_half = args.bf16 or args.fp16 or args.bf16_full_eval or args.fp16_full_eval
            number_bytes = 2 if in_half else FLOAT_BYTES
            part.refuse_beyond_memory(
                batch_size=args.eval_batch_size,
                num_batches=1 + num_ahead(args),
                model_bytes=forward_bytes(
                    model.config,
                    num_frames=part.frames_per_video // part.num_clips,
                    num_clips=min(args.eval_batch_size, len(part)) * part.num_clips,
                    number_bytes=number_bytes,
                )
                if args.device.type == "cpu"
                else 0,
                advice="Lower `per_device_eval_batch_size` (videos at once), frames and views in "
                "`eval_video_options`, or `dataloader_prefetch_factor`.",
            )


def num_ahead(args: TrainingArguments) -> int:
    """Batches that the workers have ready."""
    return args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2)


def _teacher_bytes(teacher: FrozenTeacher, *, num_frames: int, num_videos: int) -> float:
    """What a teacher takes of the clips of a step, at least: of those that it computes together, and their embeddings.

    The latter stay, with what of the student's is compared with them.
    """
    number_bytes = min(teacher.dtype.itemsize, teacher.frames_dtype.itemsize)
    return max(
        forward_bytes(teacher.model.config, num_frames=num_frames, num_clips=num_videos, number_bytes=number_bytes),
        2.5 * num_videos * num_frames * teacher.embed_width * FLOAT_BYTES,
    )


def _kept_layers(
    model: FrosterForVideoClassification,
    name: str,
    tower: Any,
    args: FrosterTrainingArguments,
    *,
    share: float | None = None,
) -> float:
    """Layers of a tower whose activations are held for the backward pass, at least: none below what is trained.

    What is multiplied with weights that are not trained is not held, which is less than half; less than an eighth
    where an MLP has one pass, which holds what it reads.

    Args:
        model: with what is trained of it chosen.
        name: of the tower in it.
        tower: its configuration.
        args: arguments of the training.
        share: what is held of a layer; by default less than all, where some of the tower is not trained.
    """
    entries = [(own, entry) for own, entry in model.named_parameters() if name in own.split(".")]
    # A tower names its parts in the order in which it computes them: what stands before the layers goes through all.
    num_layers, first, is_behind = tower.num_hidden_layers, tower.num_hidden_layers, False
    for own, entry in entries:
        found = _LAYER.search(own)
        is_behind = is_behind or found is not None
        if entry.requires_grad:
            first = min(first, int(found[1]) if found else num_layers * is_behind)
    num_kept = num_layers - first
    if share is None:
        number_bytes = 2 if args.bf16 or args.fp16 else FLOAT_BYTES
        of_frozen = 0.875 if has_one_pass(tower, number_bytes) else 0.5
        share = 1 if all(entry.requires_grad for _, entry in entries) else of_frozen
    if not args.gradient_checkpointing or not num_kept:
        return num_kept * share
    keywords: Any = args.gradient_checkpointing_kwargs or {}
    num_checkpointed = math.ceil(num_kept / keywords.get("every_n_layers", 1))
    # One of them is computed again at a time; of each of the others, what it reads is held.
    held = 1 + (num_checkpointed - 1) * tower.hidden_size / layer_numbers(tower)
    return (num_kept - num_checkpointed) * share + held
