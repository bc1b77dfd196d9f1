"""`FrosterTrainer`: transformers' Trainer with labels as text, a frozen teacher, and a loss of named parts.

Where it stands in the data flow: rows {video, label} become clips in the workers (`froster_hf.data`); the prompt
sampler picks the step's templates; the student runs through `model(...)`, so that every distributed wrapper sees it;
the teacher runs without gradients on the same tensors; the parts of the loss are summed, and logged one by one.

Huang, Zhou, Yao, Han: FROSTER (ICLR 2024). Letters: B clips, T frames, K labels, D the joint embedding width.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from ..evaluation.metrics import compute_metrics
from ..modeling.layers_froster import check_labels
from ..modeling.modeling_froster import (
    PROJECTORS_PREFIX,
    FrosterForVideoClassification,
    FrosterVideoClassificationOutput,
)
from ..modeling.tables_froster import is_temporal
from ..printing import get_logger, listing, one_line
from ..processing.calibrations import forget_calibration
from ..processing.label_matching import LabelMatch, match_labels
from ..processing.processing_froster import FrosterProcessor
from ..processing.prompts_froster import read_label_list
from ..processing.same_inputs import refuse_other_inputs
from .argument_errors import check_rates, naming_arguments
from .arguments import FrosterTrainingArguments
from .batch_memory import (
    refuse_embeds_beyond_memory,
    refuse_evaluation_beyond_memory,
    refuse_training_beyond_memory,
)
from .clip_datasets import DECODE_FAILURES, PIXELS, VIDEO_NAMES, ClipTrainer, class_names
from .losses import (
    IGNORED_LABEL,
    LossPart,
    NonFiniteError,
    NonFiniteGuard,
    cross_entropy_loss,
    gather_labels,
    gather_rows,
    refuse_nonfinite_scores,
    refuse_nonfinite_weights,
    symmetric_kl_loss,
    total_loss,
)
from .preemption import Preemption
from .prompts import LabelPrompts, LabelTexts, PromptSampler
from .run_identity import RunIdentity, identity_of
from .student import (
    decay_parameter_names,
    forget_labels,
    has_lora,
    labels_stored,
    merged_state_dict,
    prepare_student,
)
from .teacher import AveragedTeacher, FrozenTeacher, TeacherAveraging
from .weights import WeightAveraging, gaussian_weighting, save_weight_averages

logger = get_logger(__name__)


class FrosterTrainer(ClipTrainer):
    """Fine-tunes a FROSTER model on labeled videos; everything else is as in [`transformers.Trainer`].

    Data sets are `datasets` tables {video, label} (`froster_hf.data`), decoded in the workers, or any data sets of
    {`pixel_values_videos` (T, 3, S, S), `labels`}. Logs carry `loss` and its parts before weighting: `loss_ce` or
    `loss_kl`, `loss_distill_video`, `loss_distill_text`. Evaluations add the teacher-student cosines of a held-out
    batch.

    Two kinds of folders are written. `checkpoint-N` holds everything that is trained, the projectors too.
    `save_model()` and `push_to_hub()` write a model for inference, in float32: low-rank updates merged, projectors
    left behind, and the labels with their embeddings stored in it, so that it works in transformers'
    `video-classification` pipeline as well as zero-shot. The model in memory holds no label list from here on, since
    its texts change while it learns: give labels with each call, or load what was saved. With
    `average_weights_from_epoch`, the mean of the weights is written so too, into `weight-average`, when the training
    has ended.

    Args:
        model: the student. Give it or `model_init`.
        args: [`FrosterTrainingArguments`].
        data_collator: the default takes both kinds of data sets.
        train_dataset: to train on.
        eval_dataset: one or a dict of several. Each is measured against the names of its own `label` column, where it
            has them, else against the training's labels.
        processing_class: a [`FrosterProcessor`]: its video processor makes the clips, its templates the prompts.
        labels: K names in any form that `read_label_list` takes, such as a mapping from name to description; the
            descriptions are saved with the processor. Where the training set has names for its labels (a `ClassLabel`
            column), both are matched by name, and the order is that of the training set; its names alone are the
            default. Without either, the labels are those that are stored in the model.
        prompts: the labels as tokens, in place of the processor's templates; matched by name as `labels` are.
        teacher: in place of the one that `args` describe.
        kwargs: further arguments of [`~transformers.Trainer`]. Without `compute_metrics`, accuracies are computed.

    Raises:
        ValueError: no labels are known, or two lists of labels do not name the same classes, or arguments that cannot
            be trained together.
    """

    # The loss is divided by all clips of the optimizer step here; the Trainer must not divide it again. Releases that
    # do not know this attribute go by `model_accepts_loss_kwargs`.
    loss_is_scaled_for_ga = True

    args: FrosterTrainingArguments

    def __init__(
        self,
        model: FrosterForVideoClassification | None = None,
        args: FrosterTrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: FrosterProcessor | None = None,
        *,
        labels: Sequence[str] | Mapping[str, str | None] | None = None,
        prompts: LabelPrompts | None = None,
        teacher: FrozenTeacher | None = None,
        **kwargs: Any,
    ):
        args = FrosterTrainingArguments(output_dir="trainer_output") if args is None else args
        _check_arguments(args, kwargs)
        self._labels, self._given_prompts, self._given_teacher = labels, prompts, teacher
        self._texts: dict[tuple[str, ...], LabelTexts] = {}
        self._part_sums: dict[str, Tensor] = {}
        self._parts_since_step = 0
        self._guard = NonFiniteGuard(self)
        kwargs = {"compute_metrics": compute_metrics, **kwargs}
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        self.model_accepts_loss_kwargs = True
        self._prepare(self.student)
        self._refuse_beyond_memory()
        self.add_callback(RunIdentity(self._identity))
        self._followers: list[TrainerCallback] = []
        self._add_followers()
        self._preemption = Preemption()
        self.add_callback(self._preemption)

    @property
    def student(self) -> FrosterForVideoClassification:
        """The model without wrappers."""
        return cast(FrosterForVideoClassification, self.accelerator.unwrap_model(self.model, keep_torch_compile=False))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """See [`~transformers.Trainer.train`]; saves the averaged weights when it has ended.

        Raises:
            PreemptedError: SIGTERM has ended it, with a checkpoint to go on from.
        """
        with self._preemption.watching():
            output = super().train(*args, **kwargs)
        save_weight_averages(self)
        return output

    def begin_training(self) -> None:
        """Begin logs and guards again, whatever an earlier training has left."""
        super().begin_training()
        _refuse_less_than_a_batch(self.train_dataset, self.args)
        self._part_sums = {}
        self._guard.begin()

    def _hp_search_setup(self, trial: Any) -> None:
        # `train()` calls this with or without a search: the last point before anything is built of model and
        # arguments, and the first at which `model_init` has made the model and a trial's values are in the arguments.
        super()._hp_search_setup(trial)
        if trial is not None:
            self.args.check_own_fields()
            self._rebuild_clips()
        self._add_followers()
        if self.model_init is not None:
            self._prepare(self.student)
        if trial is not None:
            self._refuse_beyond_memory()

    def _add_followers(self) -> None:
        """Let what follows the weights do so as the arguments say now: each trial of a search has its own values."""
        args, handler = self.args, self.callback_handler
        handler.callbacks = [callback for callback in handler.callbacks if callback not in self._followers]
        self._followers = []
        if args.average_weights_from_epoch is not None:
            center, width = args.weight_average_center, args.weight_average_width
            weighting = None if center is None or width is None else gaussian_weighting(center, width)
            self._followers.append(WeightAveraging(args.average_weights_from_epoch, weighting=weighting))
        if args.teacher_momentum is not None:
            self._followers.append(TeacherAveraging(lambda: cast(AveragedTeacher, self.teacher)))
        for callback in self._followers:
            self.add_callback(callback)

    def _identity(self) -> dict[str, Any]:
        return identity_of(
            args=self.args,
            model=self.student,
            teacher=self.teacher,
            prompts=self._prompts,
            train_dataset=self.train_dataset,
            seed=self.seed,
        )

    @property
    def teacher(self) -> FrozenTeacher | None:
        """What is learned from; `None` without distillation."""
        return self.distillation.teacher

    def _prepare(self, model: FrosterForVideoClassification) -> None:
        """Choose what is trained, build the teacher from the weights as they are now, and find the labels."""
        if self.is_deepspeed_enabled:
            # DeepSpeed 0.19 cannot broadcast a scalar, and leaves out what has this attribute. Scale and bias of the
            # logits come from the checkpoint and are the same in every process.
            for parameter in model.parameters():
                if parameter.dim() == 0:
                    parameter.ds_optim_param = True  # type: ignore[attr-defined]
        may_share = not self._splits_parameters
        self.distillation = prepare_student(model, self.args, teacher=self._given_teacher, may_share=may_share)
        processor, own = self.processing_class, None if self.teacher is None else self.teacher.processor
        if own is not None and isinstance(processor, FrosterProcessor):
            refuse_other_inputs(processor, own, names=("The student", "the teacher"))
        self._prompts = self._training_prompts(model)
        if self.teacher is not None:
            self._prompts.refuse_other_teacher(self.teacher.model.config)
        if model.config.id2label:
            forget_labels(model)
        if isinstance(processor, FrosterProcessor):
            forget_calibration(vars(processor), of="the weights that are trained")
        self._texts.clear()
        self._sampler = PromptSampler(self._prompts.templates, prompts=self.args.training_prompts, seed=self.seed)

    def _refuse_beyond_memory(self) -> None:
        """Raise where a batch of the training, or of its evaluations, does not fit into the memory of the machine."""
        args, prompts = self.args, self._prompts
        num_drawn = 0 if args.objective == "symmetric_kl" else len(self._sampler.draw(0))
        num_texts = len(prompts.labels) * num_drawn or args.train_batch_size * args.world_size
        parts = self.eval_dataset.values() if isinstance(self.eval_dataset, Mapping) else [self.eval_dataset]
        evaluated = [tuple(class_names(part) or prompts.labels) for part in parts if part is not None]
        refuse_embeds_beyond_memory(
            self._label_texts(prompts),
            args=args,
            num_labels=[len(labels) for labels in {prompts.labels, *evaluated}],
            num_drawn=num_drawn,
        )
        refuse_training_beyond_memory(
            self.train_dataset,
            model=self.student,
            teacher=self.teacher,
            args=args,
            num_texts=min(num_texts, args.text_chunk_size or num_texts),
            text_lengths=prompts.lengths,
            num_scored=len(prompts.labels) if num_drawn else num_texts,
        )
        refuse_evaluation_beyond_memory(
            self.eval_dataset, model=self.student, args=args, num_labels=len(prompts.labels)
        )

    # Labels

    def _training_prompts(self, model: FrosterForVideoClassification) -> LabelPrompts:
        """The prompts of the training's labels, in the order of its indices; all lists of them have to agree."""
        names, names_from, prompts = class_names(self.train_dataset), "the training set", self._given_prompts
        if names is None and prompts is not None:
            names, names_from = list(prompts.labels), "`prompts`"
        elif names is None:
            given = None if self._labels is None else read_label_list(self._labels, source="`labels`")
            names = _stored_labels(model) if given is None else list(given.names)
        if not names:
            raise ValueError(
                "No labels are known. Train on a data set whose `label` column is a ClassLabel, or pass `labels`."
            )
        if (stored := _stored_labels(model)) and set(stored) != set(names):
            logger.info("The model's stored labels give way to the training's: %s.", listing(names, limit=10))
        if self._labels is not None:
            self._describe(match_labels(self._labels, names, names_from=names_from))
        if prompts is None:
            return self._prompts_of(names, model)
        match = match_labels(prompts.labels, names, labels_from="`prompts`", names_from=names_from)
        return prompts.at(match.positions, match.names)

    def _describe(self, match: LabelMatch) -> None:
        """Give the processor descriptions of labels, with which it writes their prompts, here and once it is saved."""
        if match.descriptions is None or not isinstance(self.processing_class, FrosterProcessor):
            return
        described = dict(self.processing_class.label_descriptions or {}) | dict(zip(match.names, match.descriptions))
        self.processing_class.label_descriptions = {name: text for name, text in described.items() if text}

    def _prompts_of(self, names: Sequence[str], model: FrosterForVideoClassification) -> LabelPrompts:
        if not isinstance(self.processing_class, FrosterProcessor):
            raise ValueError(
                "The labels have to become prompts: pass a FrosterProcessor as `processing_class`, for example "
                "`FrosterProcessor.from_clip(...)`, or the tokens as `prompts`."
            )
        processor = self.processing_class
        input_ids = processor.encode_labels(names, config=model.config)["input_ids"]
        end_token = model.config.end_token
        return LabelPrompts.from_tokens(names, processor.prompt_templates, input_ids, end_token=end_token)

    def texts_of(self, labels: Sequence[str] | None) -> LabelTexts:
        """The texts of a label list, `None` for that of the training; labels of the training keep their prompts."""
        key = self._prompts.labels if labels is None else tuple(labels)
        if key not in self._texts:
            position_of = {label: position for position, label in enumerate(self._prompts.labels)}
            known = set(key) <= set(position_of)
            self._texts[key] = self._label_texts(
                self._prompts.at([position_of[label] for label in key], key)
                if known
                else self._prompts_of(key, self.student)
            )
        return self._texts[key]

    def _label_texts(self, prompts: LabelPrompts) -> LabelTexts:
        """Of a label list, encoded by the models as they are now."""
        return LabelTexts(
            prompts,
            student=self.student,
            teacher=self.teacher,
            chunk_size=self.args.text_chunk_size,
            encode_apart=not self._splits_parameters,
        )

    # The step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """See [`~transformers.Trainer.training_step`]; notes what could not be decoded, and what is not finite."""
        self.record_decode_failures(inputs.pop(DECODE_FAILURES, ()))
        files = list(inputs.pop(VIDEO_NAMES, ()))
        return self._guard.take(super().training_step(model, inputs, *args, **kwargs), files)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        # Called once per optimizer step with the gradient's norm, right before `optimizer.step()`. The callback at
        # that point (`on_pre_optimizer_step`) does not know the norm, and would have to compute it again.
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._guard.end_step(grad_norm)
        return grad_norm

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch, as its share of all clips of the optimizer step.

        Every part is a mean over the batch, or does not depend on it. Weighted with the batch's share of the labeled
        clips of all accumulated batches on all processes, the parts add up to those of one large batch.
        """
        clips, labels = inputs[PIXELS], inputs["labels"]
        parts, outputs = self._loss_parts(model, clips, labels)
        if num_items_in_batch is not None:
            shares = {
                of_all: self._share(labels, num_items_in_batch, of_all_processes=of_all)
                for of_all in {part.of_all_processes for part in parts.values()}
            }
            parts = {
                name: part._replace(value=shares[part.of_all_processes] * part.value) for name, part in parts.items()
            }
        loss = total_loss(parts)
        self._record_parts(parts, loss.isfinite())
        return (loss, outputs) if return_outputs else loss

    def _share(self, labels: Tensor, num_items_in_batch: Tensor | int, *, of_all_processes: bool) -> Tensor:
        """The share of this batch, or of those of all processes, in the labeled clips of the optimizer step."""
        counts_all = self.args.average_tokens_across_devices
        counted = gather_labels(labels) if of_all_processes and counts_all else labels
        # None at all, where no clip of the step has a label.
        share = (counted != IGNORED_LABEL).sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
        if counts_all and not of_all_processes:
            # Data parallelism takes the mean over processes where the sum is meant.
            share = share * self.args.world_size
        return share

    def _loss_parts(
        self, model: nn.Module, clips: Tensor, labels: Tensor
    ) -> tuple[dict[str, LossPart], FrosterVideoClassificationOutput]:
        texts, step = self.texts_of(None), self.state.global_step
        check_labels(labels, len(self._prompts.labels), multi_label=False)
        if self.args.objective == "symmetric_kl":
            all_labels = gather_labels(labels)
            step_texts = texts.for_clips(all_labels, self._sampler.draw_for_clips(step, len(all_labels)))
            outputs = model(clips, **step_texts.student_inputs)
            parts = {
                "kl": LossPart(
                    symmetric_kl_loss(gather_rows(outputs.logits.float()), all_labels), of_all_processes=True
                )
            }
        else:
            step_texts = texts.for_all_labels(self._sampler.draw(step))
            outputs = model(clips, **step_texts.student_inputs)
            smoothing = self.args.label_smoothing_factor
            parts = {"ce": LossPart(cross_entropy_loss(outputs.logits.float(), labels, label_smoothing=smoothing))}
        parts |= self.distillation.parts(
            outputs,
            clips=clips,
            labels=labels,
            teacher_texts=step_texts.teacher_embeds,
            step=step,
            seed=self.seed,
            look=lambda clips: model(clips, text_embeds=outputs.text_embeds.detach()),
        )
        return parts, outputs

    def create_optimizer(self, model: Any = None) -> Any:
        """See [`~transformers.Trainer.create_optimizer`]; `temporal_learning_rate` makes groups of their own.

        Raises:
            ValueError: there is no such optimizer, or it does not take `optim_args`.
        """
        fresh = self.optimizer is None
        with naming_arguments({name: getattr(self.args, name) for name in ("optim", "optim_args")}):
            optimizer = super().create_optimizer(model)
        if fresh and self.args.temporal_learning_rate is not None:
            names = {id(parameter): name for name, parameter in self.student.named_parameters()}
            for group in list(optimizer.param_groups):
                own = [parameter for parameter in group["params"] if is_temporal(names[id(parameter)])]
                group["params"] = [
                    parameter for parameter in group["params"] if id(parameter) not in set(map(id, own))
                ]
                if own:
                    optimizer.add_param_group(group | {"params": own, "lr": self.args.temporal_learning_rate})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """See [`~transformers.Trainer.create_scheduler`].

        Raises:
            ValueError: the schedule does not take `lr_scheduler_kwargs`, or its rates are not numbers from 0 on.
        """
        names = ("lr_scheduler_type", "lr_scheduler_kwargs")
        with naming_arguments({name: getattr(self.args, name) for name in names}):
            scheduler = super().create_scheduler(num_training_steps, optimizer)
            check_rates(scheduler, self.args, num_steps=num_training_steps)
        return scheduler

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """See [`decay_parameter_names`]."""
        return decay_parameter_names(model)

    # Evaluation

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """See [`~transformers.Trainer.evaluation_loop`]; adds the teacher-student cosines to the metrics.

        Raises:
            NonFiniteError: scores of labeled videos that were decoded are not finite.
        """
        # A data set without names of its own is measured against the training's labels.
        self._eval_texts = self.texts_of(class_names(dataloader.dataset))
        self._eval_inputs = self._eval_texts.for_evaluation()
        self._cosines: dict[str, Tensor] | None = None  # of the first batch
        self._nonfinite_scores: list[tuple[Sequence[str], Tensor]] = []
        self._losses: list[Tensor] = []
        with self._weights_kept():
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        refuse_nonfinite_scores(self._nonfinite_scores)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = cast(dict[str, float], output.metrics)
        if self._losses:
            # Of each video: the Trainer's mean takes a batch of which none could be decoded for one without any loss.
            losses = torch.cat(self._losses)
            del metrics[f"{prefix}_loss"]
            if len(losses := losses[~losses.isnan()]):
                metrics[f"{prefix}_loss"] = losses.mean().item()
        cosines: dict[str, Tensor] = self._cosines or {}
        for name, cosine in cosines.items():
            metrics[f"{prefix}_{name}"] = self.accelerator.gather(cosine.reshape(1)).mean().item()
        del self._eval_inputs
        return output

    def _evaluate(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        # In the midst of a training. The Trainer would save behind it, or not at all.
        try:
            return super()._evaluate(trial, *args, **kwargs)
        except NonFiniteError as error:
            step = self.state.global_step
            checkpoint = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
            if step == 0:
                raise
            # Beside the others, one of which may be the last whose scores were finite; a folder that is there
            # already may be an earlier run's.
            limit, self.args.save_total_limit = self.args.save_total_limit, None
            try:
                self._save_checkpoint(cast(nn.Module, self.model), trial)
            finally:
                self.args.save_total_limit = limit
            without = "`training.eval_strategy=no`"
            if self.args.load_best_model_at_end:
                without += " and `training.load_best_model_at_end=false`"
            advice = (
                "begin again from its weights"
                if self.args.save_only_model
                else f"`--resume` goes on from it, with {without} without evaluations in between"
            )
            raise NonFiniteError(f"{error} What was trained is in {checkpoint}: {advice}.") from error

    @contextmanager
    def _weights_kept(self) -> Iterator[None]:
        """The trained weights as they are, after an evaluation that casts them (`bf16_full_eval`, `fp16_full_eval`).

        The Trainer casts in place, and would train and save what that has left of them.
        """
        if self.is_in_train or not (self.args.bf16_full_eval or self.args.fp16_full_eval):
            yield
            return
        tensors = [*self.student.parameters(), *self.student.buffers()]
        kept = [tensor.data for tensor in tensors]
        try:
            yield
        finally:
            for tensor, data in zip(tensors, kept):
                tensor.data = data

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Loss, logits (B, K) and labels (B,) of one batch; logits alone of one without labels."""
        if "labels" not in inputs:
            return None, None if prediction_loss_only else self._logits_without_labels(model, inputs), None
        for failure in inputs.get(DECODE_FAILURES, ()):
            logger.warning("It counts as wrong: %s", one_line(str(failure)))
        files = inputs.get(VIDEO_NAMES, ["a clip without a name"] * len(inputs["labels"]))
        inputs = self._prepare_inputs({name: inputs[name] for name in (PIXELS, "labels")})
        clips, labels = inputs[PIXELS], inputs["labels"]
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(clips, **self._eval_inputs)
            logits = outputs.logits.float()
            if clips.shape[0] != labels.shape[0]:
                logits = mean_log_probabilities(logits, labels.shape[0])
            loss = cross_entropy_loss(logits, labels)
            losses = F.cross_entropy(logits, labels, ignore_index=IGNORED_LABEL, reduction="none")
            self._losses.append(self.gather_function(losses.where(labels != IGNORED_LABEL, torch.nan)))
            # Read when all is measured: nothing waits for a GPU here. A video that could not be decoded has no label.
            self._nonfinite_scores.append((files, (labels != IGNORED_LABEL) & ~logits.isfinite().all(dim=-1)))
            if self._cosines is None:
                templates = range(len(self._eval_texts.prompts.templates))
                teacher_texts = self._eval_texts.for_all_labels(templates).teacher_embeds
                self._cosines = self.distillation.cosines(outputs, clips=clips, teacher_texts=teacher_texts)
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)

    def _logits_without_labels(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Logits (B, K) of a batch that `predict` was given; NaN where a video cannot be decoded."""
        for failure in inputs.get(DECODE_FAILURES, ()):
            logger.warning("Its predictions are NaN: %s", one_line(str(failure)))
        num_videos = len(inputs.get(VIDEO_NAMES, inputs[PIXELS]))
        clips = self._prepare_inputs({PIXELS: inputs[PIXELS]})[PIXELS]
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(clips, **self._eval_inputs).logits.float()
        return logits if len(clips) == num_videos else mean_log_probabilities(logits, num_videos)

    # Saving

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model for inference; see [`~transformers.Trainer.save_model`].

        Raises:
            NonFiniteError: its weights are not finite.
        """
        if self._writes_checkpoint:
            return super().save_model(output_dir, _internal_call=_internal_call)
        if self._splits_parameters:
            logger.warning(
                "The parameters are split over the processes, so the labels are not stored in the saved model. "
                "Load it and call `set_labels` to use it without a processor."
            )
            return super().save_model(output_dir, _internal_call=_internal_call)
        # Before labels are embedded with them.
        refuse_nonfinite_weights(self.student)
        texts = self.texts_of(None)
        with labels_stored(self.student, texts.prompts.labels, texts.student_label_embeds()):
            return super().save_model(output_dir, _internal_call=_internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        # All ways of saving end here, FSDP's with a state dict; there is no other place to choose what is in it.
        if self._writes_checkpoint:
            return super()._save(output_dir, self.student.state_dict() if state_dict is None else state_dict)
        if state_dict is None:
            state_dict = merged_state_dict(self.student) if has_lora(self.student) else self.student.state_dict()
        kept = {name: tensor for name, tensor in state_dict.items() if PROJECTORS_PREFIX not in name}
        return super()._save(output_dir, kept)

    # The log

    def _record_parts(self, parts: dict[str, LossPart], is_finite: Tensor) -> None:
        if not self._part_sums:
            self._parts_since_step = self.state.global_step
        for name, part in parts.items():
            # A step that is not finite is skipped, and stands in the log as zero, as its loss does.
            value = torch.where(is_finite, part.value.detach(), 0.0)
            self._part_sums[name] = self._part_sums.get(name, 0.0) + value

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """See [`~transformers.Trainer.log`]; a training loss is followed by its parts."""
        if "loss" in logs and self._part_sums:
            num_steps = max(1, self.state.global_step - self._parts_since_step)
            for name, total in self._part_sums.items():
                logs[f"loss_{name}"] = self.accelerator.gather(total.reshape(1)).mean().item() / num_steps
            self._part_sums = {}
        super().log(logs, *args, **kwargs)


def mean_log_probabilities(logits: Tensor, num_videos: int) -> Tensor:
    """Logits of the clips (B*V, K) to the logarithm of their mean probabilities, one row per video (B, K)."""
    clips = logits.unflatten(0, (num_videos, -1)).log_softmax(dim=-1)
    return torch.logsumexp(clips, dim=1) - np.log(clips.shape[1])


def _stored_labels(model: FrosterForVideoClassification) -> list[str]:
    id2label = model.config.id2label
    # By index: a configuration's file need not list them in order.
    return [id2label[index] for index in sorted(id2label)]


def _refuse_less_than_a_batch(train_dataset: Any, args: FrosterTrainingArguments) -> None:
    """Refuse a training without a step, which would end as if it had trained."""
    at_once = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and hasattr(train_dataset, "__len__") and len(train_dataset) < at_once:
        raise ValueError(
            f"There are {len(train_dataset)} videos to train on, fewer than the {at_once} of a batch, and "
            "`dataloader_drop_last` leaves out batches that are not full: nothing would be trained. Take a smaller "
            "`per_device_train_batch_size`, or leave the argument out."
        )


def _check_arguments(args: FrosterTrainingArguments, kwargs: dict[str, Any]) -> None:
    if not isinstance(args, FrosterTrainingArguments):
        raise TypeError(f"`args` are {type(args).__name__}; FrosterTrainer needs FrosterTrainingArguments.")
    if kwargs.get("compute_loss_func") is not None:
        raise ValueError(
            "`compute_loss_func` is not used here: the arguments `objective` and `distillation` say the loss."
        )
    if args.batch_eval_metrics and kwargs.get("compute_metrics") is None:
        raise ValueError(
            "`batch_eval_metrics=True` needs `compute_metrics` of your own, which takes `compute_result`: the "
            "accuracies that are computed by default are those of all videos together."
        )
    if "inputs" in args.include_for_metrics and kwargs.get("compute_metrics") is None:
        raise ValueError(
            "`include_for_metrics` names 'inputs', for which the pixels of all videos would be kept until they are "
            "measured; the accuracies that are computed by default do not read them. Leave it out, or give "
            "`compute_metrics` of your own."
        )
    if args.n_gpu > 1:
        # DataParallel would deal the prompts of the labels out over the devices, as if they were clips.
        logger.warning("Only one of %d GPUs is used. Start with `accelerate launch` to use all.", args.n_gpu)
        args._n_gpu = 1
