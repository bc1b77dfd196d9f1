"""`FrosterTrainingArguments`: transformers' TrainingArguments and what FROSTER's training adds to them.

The defaults are the published recipe's (ICLR 2024, section 4.1) where it does not depend on the data set: epochs,
batch size and warm-up are the recipes' (`recipes/*.yaml`).
"""

import inspect
import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from accelerate.utils import GradientAccumulationPlugin
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, SchedulerType, TrainingArguments
from transformers.training_args import trainer_log_levels

from ..data.catalogue import MOST_CLIPS
from ..printing import listing
from ..settings import check_bounds, find_unbounded
from .argument_errors import naming_arguments
from .distillation import DISTILLATIONS, NO_DISTILLATION, DistillationTarget, distillation_names
from .teacher import TeacherDtype

Objective = Literal["cross_entropy", "symmetric_kl"]
Distillation = Literal["none", "direct", "projector", "residual", "still", "relative", "logits"]
TrainedParameters = Literal["all", "vision", "text", "adapters", "temporal", "lora"]
TrainingPrompts = Literal["random_and_bare", "random", "all"]
WeightAverage = Literal["uniform", "gaussian"]

if get_args(Distillation) != distillation_names():
    raise TypeError(
        f"The Literal of names {get_args(Distillation)} and `DISTILLATIONS` {distillation_names()} differ."
    )


MOST_EPOCHS = 1_000_000
# Least and most, also of transformers' fields: it takes most of them as they are.
_BOUNDS = {
    "num_train_epochs": (0, MOST_EPOCHS),
    "max_steps": (-1, math.inf),
    # However few videos there are, torch's sampler and transformers' evaluation allocate by the size of a batch.
    "per_device_train_batch_size": (1, MOST_CLIPS),
    "per_device_eval_batch_size": (1, MOST_CLIPS),
    "gradient_accumulation_steps": (1, MOST_CLIPS),
    "eval_accumulation_steps": (1, math.inf),
    "learning_rate": (0, math.inf),
    "warmup_steps": (0, math.inf),
    "weight_decay": (0, math.inf),
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, math.inf),
    "max_grad_norm": (0, math.inf),
    "seed": (0, 2**32 - 1),
    "data_seed": (0, 2**32 - 1),
    "distillation_weight": (0, math.inf),
    "lora_rank": (1, 4096),
    "lora_dropout": (0, 1),
    "average_weights_from_epoch": (0, math.inf),
    "label_smoothing_factor": (0, 1),
    "neftune_noise_alpha": (0, 1e6),
    # Also of all labels of an evaluation, which are encoded in such pieces.
    "text_chunk_size": (1, 4096),
    "max_undecodable_share": (0, 1),
    "max_consecutive_nonfinite_steps": (1, math.inf),
    # The loader forks all workers, and asks for all that they are to have ready, before the first batch.
    "dataloader_num_workers": (0, max(64, os.cpu_count() or 1)),
    "dataloader_prefetch_factor": (1, 64),
    # In seconds; torch takes no more.
    "ddp_timeout": (1, 2**31 - 1),
}
# Of `accelerator_config`, what the training is made for, and what another value would do.
_ACCELERATOR: dict[str, tuple[tuple[Any, ...], str]] = {
    "split_batches": ((False, None), "would divide `per_device_train_batch_size` by the number of processes"),
    "dispatch_batches": ((False, None), "would have one process read all videos, and join what is not of numbers"),
    "even_batches": ((True,), "would give processes unequal numbers of steps, at which they wait for each other"),
}
# Handed on as keywords; of the others, a text may be the path of a file.
_CHECKPOINTING = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
_KEYWORDS = ("lr_scheduler_kwargs", *_CHECKPOINTING)
_OPTIM_ARGS = re.compile(r"\s*|[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise where an argument is beyond its bounds, or has a part that is not finite or not readable.

    Args:
        arguments: of a training of any kind, by name; those that are missing or `None` are the defaults.

    Raises:
        ValueError: names the argument, and what it may be.
    """
    check_bounds(arguments, _BOUNDS)
    for name in _KEYWORDS:
        if isinstance(text := arguments.get(name), str) and not _is_json_object(text):
            raise ValueError(f"`{name}` is {text[:80]!r}; it must be a mapping of names to values, or one as JSON.")
        if name in _CHECKPOINTING and (keywords := arguments.get(name)):
            _check_checkpointing(name, json.loads(keywords) if isinstance(keywords, str) else keywords)
    if (config := arguments.get("accelerator_config")) is not None and not isinstance(config, str):
        _check_accelerator(config if isinstance(config, Mapping) else vars(config))
    for name in ("log_level", "log_level_replica"):
        # transformers looks it up in a dict, and only when the Trainer is built.
        if (level := arguments.get(name, "passive")) not in list(trainer_log_levels):
            raise ValueError(f"`{name}` is {level!r:.80}; it must be one of {', '.join(trainer_log_levels)}.")
    if not _OPTIM_ARGS.fullmatch(text := arguments.get("optim_args") or ""):
        raise ValueError(f"`optim_args` is {text[:80]!r}; it must be of the form name=value,name=value.")
    for name, value in arguments.items():
        if isinstance(value, dict) and (number := find_unbounded(value)) is not None:
            raise ValueError(
                f"`{name}` holds {str(number)[:80]}; numbers must be finite, whole ones of 64 bits at most."
            )


def _check_checkpointing(name: str, keywords: Mapping[str, Any]) -> None:
    """Refuse keywords that transformers or torch would first find fault with within a step, in words of their own."""
    enable = getattr(PreTrainedModel, "activation_checkpointing_enable", PreTrainedModel.gradient_checkpointing_enable)
    own = {"every_n_layers", "offload"} & set(inspect.signature(enable).parameters)
    parameters = inspect.signature(checkpoint).parameters.values()
    # In some releases of torch, the last is one of the keywords that are not written out.
    known = {entry.name for entry in parameters if entry.kind is entry.KEYWORD_ONLY} | {"preserve_rng_state"} | own
    if unknown := [key for key in keywords if key not in known]:
        shown = listing(map(str, unknown), limit=5)
        raise ValueError(f"`{name}` names {shown}, which activation checkpointing does not have: {sorted(known)}.")
    every, offload = keywords.get("every_n_layers", 1), keywords.get("offload", False)
    if type(every) is not int or every < 1 or type(offload) is not bool:
        raise ValueError(
            f"`{name}` is {str(keywords)[:200]}; `every_n_layers` must be a whole number of at least 1, and `offload` "
            "true or false."
        )
    handed_on = {key: value for key, value in keywords.items() if key not in own}
    # torch's advice to say `use_reentrant` comes in the training.
    with naming_arguments({name: keywords}), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint(torch.exp, torch.zeros(1, requires_grad=True), **handed_on)


def _check_accelerator(config: Mapping[str, Any]) -> None:
    """Refuse what makes a step or a batch of other clips than the arguments say, and the model's card with them, or
    what processes do not end with."""
    with naming_arguments({"accelerator_config": config}):
        num_steps = GradientAccumulationPlugin(**config.get("gradient_accumulation_kwargs") or {}).num_steps
    # Of the Trainer before, transformers itself leaves a 1.
    if num_steps is not None and (type(num_steps) is not int or num_steps != 1):
        raise ValueError(
            f"`accelerator_config` gives {str(num_steps)[:80]!r} as `num_steps` of its "
            "`gradient_accumulation_kwargs`, which would take the place of `gradient_accumulation_steps`: give that "
            "one, or `total_batch_size` in a recipe."
        )
    for name, (allowed, reason) in _ACCELERATOR.items():
        if (value := config.get(name, allowed[0])) not in allowed:
            raise ValueError(
                f"`accelerator_config` gives `{name}` as {str(value)[:80]!r}, which {reason}: take it out; allowed is "
                f"{allowed[0]}."
            )


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _distillation_help() -> str:
    forms = "; ".join(f"{name}: {form.about}" for name, form in DISTILLATIONS.items())
    return f"how the student is kept near the teacher. none: not at all; {forms}"


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def _their_option(name: str, default: Any) -> Any:
    """A field of transformers' with another default."""
    return field(default=default, metadata=TrainingArguments.__dataclass_fields__[name].metadata)


@dataclass
class FrosterTrainingArguments(TrainingArguments):
    """Arguments of [`FrosterTrainer`].

    All of [`transformers.TrainingArguments`] hold; these fields are added, or have another default. No token is ever
    stored with them: pickled arguments (`training_args.bin`) have an empty `hub_token`.

    Args:
        objective: what a clip is matched with.

            - `cross_entropy`: the texts of all labels (FROSTER, Open-VCLIP, ViFi-CLIP).
            - `symmetric_kl`: the texts of the batch, both ways (ActionCLIP). A function of the batch: the more clips a
              step and process, the more negatives. Processes share their clips, accumulated batches do not.
        distillation: how the student is kept near the teacher (FROSTER, section 3.3, and its ablation).

            - `none`: not at all.
            - `direct`: the student's embeddings are compared as they are.
            - `projector`: behind an MLP; the only form for a teacher of another width.
            - `residual`: behind the student's embedding plus `distillation_alpha` times an MLP of it.
            - `still`: single frames are compared as they are, shown to the student as clips of one frame; what it
              makes of motion is free.
            - `relative`: the scores of the labels, through random anchors (TACO). Its weight there is 0.4.
            - `logits`: the scores of the labels, at the temperature that the anchors have on average.
        distillation_weight: beta, the weight of the distillation terms against the objective.
        distillation_alpha: alpha, the weight of the MLP; `residual` only.
        distillation_target: the embeddings that are distilled: of frames (`video`), of labels (`text`), or `both`.
        teacher: a CLIP checkpoint. By default the student's own weights at the start, without its temporal module.
        teacher_dtype: precision of the teacher's weights and passes. `None`: float32, but that frames are embedded in
            the mixed precision of the training (`bf16`, `fp16`).
        teacher_momentum: the teacher follows the student: after every step, its weights are this share of themselves
            and one minus it of the student's CLIP. TACO's is 0.9998. `None`: the teacher is frozen.
        trained_parameters: what is trained, besides the distillation projectors.

            - `all`: every parameter.
            - `vision`, `text`: one tower with its projection; with `vision`, the temporal module and pooling too.
            - `adapters`: the adapters of a temporal module that has them, such as `st_adapter`.
            - `temporal`: everything that CLIP does not have: temporal module and temporal pooling.
            - `lora`: low-rank updates (PEFT) of the attention layers of both towers, and what CLIP does not have.
        temporal_learning_rate: learning rate of what CLIP does not have: temporal module and temporal pooling. `None`:
            that of all.
        lora_rank: rank of the updates; `lora` only.
        lora_alpha: their scale is `lora_alpha / lora_rank`; `lora` only.
        lora_dropout: dropout before the updates; `lora` only.
        training_prompts: the templates of a step, drawn from those of the processor.

            - `random_and_bare`: one at random, and the bare label where it is among them (FROSTER).
            - `random`: one at random; with `symmetric_kl`, one per clip (ActionCLIP).
            - `all`: all of them.
        text_chunk_size: texts encoded at a time. More texts than that are encoded in chunks, whose activations are
            recomputed in the backward pass: the same gradients, in bounded memory. `None` never splits: faster, where
            there is memory for it.
        train_video_options: options of the video processor for training clips, over the published random window,
            scale, crop and flip; for example `{"flip_probability": 0.0}` where left and right are part of the labels.
        eval_video_options: options of the video processor for evaluation, by default those that it has; the clips of
            `num_views` and `num_crops` are averaged. They are saved with the processor, so that what is measured while
            training is what the saved model does.
        max_undecodable_share: the run stops when more than this share of the training videos cannot be decoded.
        max_consecutive_nonfinite_steps: steps in a row whose loss or gradient is not finite, at which the run stops.
            Each is skipped, with the weights unchanged.
        average_weights_from_epoch: the mean of the weights at the ends of this epoch and all that follow is saved as
            `weight-average` in `output_dir`. Epochs count from 1; the published models average from 2. 0 stands for
            the weights before the training, which TACO averages too. `None`: no mean. Not with
            `trained_parameters="lora"`, whose factors have no mean of their own.
        weight_average: what an epoch counts in the mean.

            - `uniform`: as much as any other.
            - `gaussian`: exp(-((e - mu) / sigma)^2 / 2), for epoch e (Open-MeDe).
        weight_average_center: mu, in epochs; `gaussian` only.
        weight_average_width: sigma, in epochs; `gaussian` only.

    Raises:
        ValueError: a value that is none of the above, or a combination that cannot be trained.
    """

    objective: Objective = _option(
        "cross_entropy", "what a clip is matched with: the texts of all labels, or of the batch"
    )
    distillation: Distillation = _option("residual", _distillation_help())
    distillation_weight: float = _option(2.0, "beta, the weight of the distillation terms against the objective")
    distillation_alpha: float = _option(0.1, "alpha, the weight of the MLP; for 'residual' only")
    distillation_target: DistillationTarget = _option(
        "both", "the embeddings that are distilled: frames, texts, or both"
    )
    teacher: str | None = _option(None, "a CLIP checkpoint; by default the student as it is at the start")
    teacher_dtype: TeacherDtype | None = _option(
        None, "precision of the teacher; none: float32, of its passes over frames that of the training"
    )
    teacher_momentum: float | None = _option(
        None, "the teacher is a moving average of the student; none: it is frozen"
    )
    trained_parameters: TrainedParameters = _option("all", "what is trained, besides the distillation projectors")
    temporal_learning_rate: float | None = _option(
        None, "learning rate of temporal module and pooling; none: that of all"
    )
    lora_rank: int = _option(16, "rank of the low-rank updates; for 'lora' only")
    lora_alpha: int = _option(32, "scale of the updates times their rank; for 'lora' only")
    lora_dropout: float = _option(0.0, "dropout before the updates; for 'lora' only")
    training_prompts: TrainingPrompts = _option(
        "random_and_bare", "the templates of a step, drawn from the processor's"
    )
    text_chunk_size: int | None = _option(256, "texts encoded at a time, with recomputation in the backward pass")
    train_video_options: dict[str, Any] | str | None = _option(
        None, "options of the video processor for training clips, as JSON"
    )
    eval_video_options: dict[str, Any] | str | None = _option(
        None, "options of the video processor for evaluation, saved with it, as JSON"
    )
    max_undecodable_share: float = _option(0.05, "the run stops when more of the training videos cannot be decoded")
    max_consecutive_nonfinite_steps: int = _option(5, "steps in a row that are not finite, at which the run stops")
    average_weights_from_epoch: int | None = _option(
        None, "first epoch, from 1, of the averaged weights, 0: those before; none: no mean"
    )
    weight_average: WeightAverage = _option("uniform", "what an epoch counts in the averaged weights")
    weight_average_center: float | None = _option(None, "the epoch that counts most; for 'gaussian' only")
    weight_average_width: float | None = _option(None, "standard deviation in epochs; for 'gaussian' only")

    # The published recipe.
    learning_rate: float = _their_option("learning_rate", 3.33e-6)
    weight_decay: float = _their_option("weight_decay", 0.01)
    lr_scheduler_type: SchedulerType | str = _their_option("lr_scheduler_type", "cosine_warmup_with_min_lr")
    # A loss that is not finite is kept out of the log where it is found, without waiting for the device every batch.
    logging_nan_inf_filter: bool = _their_option("logging_nan_inf_filter", False)
    # The collator and the Trainer read columns that the model does not take.
    remove_unused_columns: bool = _their_option("remove_unused_columns", False)
    # Every trained parameter takes part in every step.
    ddp_find_unused_parameters: bool | None = _their_option("ddp_find_unused_parameters", False)

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "train_video_options", "eval_video_options"]

    def __post_init__(self):
        if self.lr_scheduler_type == "cosine_warmup_with_min_lr" and self.lr_scheduler_kwargs is None:
            # 3.33e-8 to 3.33e-6 and back.
            self.lr_scheduler_kwargs = {"min_lr_rate": 0.01, "warmup_lr_rate": 0.01}
        super().__post_init__()
        self.check_own_fields()

    def check_own_fields(self) -> None:
        """Check the fields of this class, as on construction; for values that were set later.

        Raises:
            ValueError: see the class.
        """
        self._check_choices()
        if self.remove_unused_columns:
            raise ValueError("`remove_unused_columns=True` would drop what the collator reads; leave it False.")
        self._check_teacher_and_averages()
        if self.objective == "symmetric_kl" and self.training_prompts != "random":
            raise ValueError(
                f"objective='symmetric_kl' takes one prompt per clip; `training_prompts` is "
                f"{self.training_prompts!r}, and has to be 'random'."
            )
        if self.objective == "symmetric_kl" and self.label_smoothing_factor:
            raise ValueError(
                f"`label_smoothing_factor` is {self.label_smoothing_factor}, which objective='symmetric_kl' does not "
                "use: its targets are soft already. Leave it 0, or train with 'cross_entropy'."
            )
        if self.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"`train_sampling_strategy` is {self.train_sampling_strategy!r}; all clips have the same number of "
                "frames, so there are no lengths to go by. Choose 'random' or 'sequential'."
            )
        check_arguments(vars(self))

    def _check_teacher_and_averages(self) -> None:
        if self.teacher_momentum is not None:
            if not 0 <= self.teacher_momentum < 1:
                raise ValueError(f"`teacher_momentum` is {self.teacher_momentum}; it goes from 0 to below 1.")
            others = {"teacher": (None,), "teacher_dtype": (None, "float32")}
            if given := [name for name, values in others.items() if getattr(self, name) not in values]:
                raise ValueError(
                    f"`teacher_momentum` makes the student's CLIP, in float32, the teacher; leave out `{given[0]}`."
                )
            if self.distillation == NO_DISTILLATION or self.trained_parameters == "lora":
                raise ValueError(
                    f"`teacher_momentum` is {self.teacher_momentum}, which has no meaning with "
                    f"distillation={self.distillation!r} and trained_parameters={self.trained_parameters!r}. Leave it "
                    "out, or distill, and train the weights themselves."
                )
        if self.average_weights_from_epoch is not None and self.trained_parameters == "lora":
            raise ValueError(
                f"`average_weights_from_epoch` is {self.average_weights_from_epoch}, which has no meaning with "
                "trained_parameters='lora': the mean of the factors of low-rank updates is not that of the updates. "
                "Set it to None (null in a recipe), or train the weights themselves; saved models, which are merged, "
                "can be averaged by `average_models`."
            )
        if self.temporal_learning_rate is not None and self.temporal_learning_rate <= 0:
            raise ValueError(f"`temporal_learning_rate` is {self.temporal_learning_rate}; it must be above 0.")
        shape = (self.weight_average_center, self.weight_average_width)
        if (self.weight_average == "gaussian") != (None not in shape) or (None in shape and shape != (None, None)):
            raise ValueError(
                f"`weight_average` is {self.weight_average!r}, with center {shape[0]} and width {shape[1]}. "
                "'gaussian' needs both, in epochs, and no other has them."
            )
        if shape[1] is not None and shape[1] <= 0:
            raise ValueError(f"`weight_average_width` is {shape[1]}; it must be above 0.")

    def _check_choices(self) -> None:
        """Refuse what is not one of a field's `Literal` values; dataclasses do not."""
        own = set(FrosterTrainingArguments.__annotations__)
        for name, hint in get_type_hints(FrosterTrainingArguments).items():
            value = getattr(self, name, None)
            named = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
            if name not in own or not named or (value is None and type(None) in get_args(hint)):
                continue
            choices = distillation_names() if name == "distillation" else get_args(named[0])
            if value not in choices:
                raise ValueError(f"`{name}` is {value!r}; it must be one of {', '.join(choices)}.")

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: everything but tokens."""
        tokens = {item.name for item in fields(self) if item.name.endswith("_token")}
        return {name: None if name in tokens else value for name, value in self.__dict__.items()}
