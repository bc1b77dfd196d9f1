"""What the student learns from labels, and how the parts of a loss become one number.

Cross-entropy over label texts (FROSTER; Open-VCLIP; ViFi-CLIP) and ActionCLIP's symmetric video-text matching: pure
functions behind the student's forward pass. What it learns from the teacher is in `distillation.py`.

A loss or gradient that is not finite costs one step, not the run (`NonFiniteGuard`). One such clip would turn every
weight into NaN, while transformers' Trainer by default leaves the loss out of its log. Here the optimizer step is left
out on all processes, the batch's files are named, and the run stops when it happens several times in a row. The
decision is taken once per optimizer step, after the gradients are accumulated and reduced.

Letters: B clips, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerState

from ..modeling.layers_froster import IGNORED_LABEL
from ..printing import get_logger, listing

logger = get_logger(__name__)


class LossPart(NamedTuple):
    """One term of the loss, which is logged under its name: a number, and its weight in the sum.

    `of_all_processes`: it is one number of the clips of all processes together, and not of each one's own.
    """

    value: Tensor
    weight: float = 1.0
    of_all_processes: bool = False


def total_loss(parts: Mapping[str, LossPart]) -> Tensor:
    """The weighted sum of the parts."""
    return torch.stack([part.weight * part.value for part in parts.values()]).sum()


def cross_entropy_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the label texts, a mean over the clips that have a label; zero when none has.

    Args:
        logits: (B, K).
        labels: (B,), indices of classes; clips labeled -100 do not count.
        label_smoothing: share of the target that is spread over all classes.
    """
    total = F.cross_entropy(
        logits, labels, reduction="sum", ignore_index=IGNORED_LABEL, label_smoothing=label_smoothing
    )
    return total / (labels != IGNORED_LABEL).sum().clamp(min=1)


def symmetric_kl_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """ActionCLIP's video-text matching (section 3.1): clips against the texts of the same clips' labels.

    The target of a row is softmax(10 * [same label]): clips of one label in a batch share the mass, and the others
    keep a little. KL divergence to it, video-to-text and text-to-video averaged; zero when no clip has a label.

    Args:
        logits: (B, N), clip i against the text of the j-th clip that has a label; N of them have one.
        labels: (B,); clips labeled -100 have no text and do not count.
    """
    labeled = labels != IGNORED_LABEL
    logits, labels = logits[labeled], labels[labeled]
    if not len(labels):
        return logits.sum()
    targets = (10.0 * (labels[:, None] == labels[None, :]).to(logits.dtype)).softmax(dim=-1)
    video_to_text = F.kl_div(logits.log_softmax(dim=-1), targets, reduction="batchmean")
    text_to_video = F.kl_div(logits.T.log_softmax(dim=-1), targets, reduction="batchmean")
    return (video_to_text + text_to_video) / 2


# Batches of all processes as one batch, for an objective that contrasts the clips of a batch.


def gather_labels(labels: Tensor) -> Tensor:
    """(B,) of every process to (processes * B,), in the order of their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return labels
    gathered = [torch.empty_like(labels) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, labels.contiguous())
    return torch.cat(gathered)


def gather_rows(rows: Tensor) -> Tensor:
    """(B, n) of every process to (processes * B, n), with the gradients of one process.

    Every process computes the same loss from the gathered rows and differentiates it by its own. Data parallelism then
    takes the mean over processes where the sum is meant, which the gradient is scaled for.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows.detach().contiguous())
    own = rows.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * len(gathered))
    gathered[dist.get_rank()] = own
    return torch.cat(gathered)


# Under this key every skipped step stands in the log, and so in `trainer_state.json`: a resumed run counts on.
SKIPPED_STEPS = "skipped_nonfinite_steps"


class NonFiniteError(RuntimeError):
    """Too many steps in a row, or all, had a loss or gradient that is not finite, or weights or scores are not; named
    in the message."""


def num_skipped_steps(state: TrainerState) -> int:
    """The steps of a run that were skipped, those before it was resumed among them."""
    return len({entry.get("step") for entry in state.log_history if SKIPPED_STEPS in entry})


def refuse_untrained(state: TrainerState) -> None:
    """Raise where a training that has ended has changed no weight.

    Raises:
        NonFiniteError: all of its steps were skipped.
    """
    if 0 < state.global_step <= num_skipped_steps(state):
        raise NonFiniteError(
            f"The loss or the gradient is not finite in every step ({state.global_step}): no weight has changed. Look "
            "at the weights of the model and of the teacher, at the videos, and at the weights of the losses, such as "
            "`distillation_weight`."
        )


def refuse_nonfinite_weights(model: nn.Module) -> None:
    """Raise where a trained model has weights with which nothing can be computed.

    Raises:
        NonFiniteError: names the first of them.
    """
    weights = model.state_dict().items()
    bad = [name for name, tensor in weights if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise NonFiniteError(
            f"{len(bad)} weights of the trained model are not finite ({listing(bad, limit=3)}), so it is not saved. "
            "Go on from an earlier checkpoint (`--resume`, once the later ones are deleted), or train again with a "
            "lower learning rate, in bfloat16 or float32."
        )


def refuse_nonfinite_scores(batches: Sequence[tuple[Sequence[str], Tensor]]) -> None:
    """Raise, in all processes or in none, where a model has no answers for what it is measured on.

    Args:
        batches: of this process: names of videos, and which of these have scores that are not finite.

    Raises:
        NonFiniteError: names the first of them.
    """
    found = gather_object([name for names, bad in batches for name, is_bad in zip(names, bad.tolist()) if is_bad])
    if found:
        raise NonFiniteError(
            f"The model's scores are not finite for {listing(found, limit=3)}, so nothing is measured. Its pixels "
            "were not finite (look at `image_std` and the like of the processor), its weights have diverged (lower "
            "the learning rate), or half precision was too narrow (take bfloat16 or float32)."
        )


class NonFiniteGuard:
    """Leaves weights, optimizer and learning rate as they are where a loss or gradient is not finite.

    So many such steps in a row as the arguments say (`max_consecutive_nonfinite_steps`) end the run. With DeepSpeed,
    which steps inside its backward pass, its own overflow handling is all there is.

    Args:
        trainer: the Trainer whose steps are guarded.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.begin()

    def begin(self) -> None:
        """Forget the micro-batches of a training that was broken off."""
        # Of an optimizer step: losses as tensors, so that nothing waits for a GPU, and files.
        self._losses: list[torch.Tensor] = []
        self._files: list[list[str]] = []

    def take(self, loss: torch.Tensor, files: list[str]) -> torch.Tensor:
        """Note the loss of a micro-batch and its files; returned for the log, as zero where it is not finite."""
        self._losses.append(loss)
        self._files.append(files)
        return torch.where(loss.isfinite(), loss, 0.0)

    def end_step(self, grad_norm: Any) -> None:
        """Skip the optimizer step that is about to be done, if a loss or the gradient is not finite.

        Raises:
            NonFiniteError: this is one too many in a row.
        """
        losses, files = torch.stack(self._losses), self._files
        self.begin()
        if not self.trainer.is_deepspeed_enabled:
            norm = grad_norm.full_tensor() if isinstance(grad_norm, DTensor) else grad_norm  # FSDP's is in parts
            self._skip_if_not_finite(losses, files, torch.as_tensor(norm, device=losses.device))

    def _skip_if_not_finite(self, losses: torch.Tensor, files: list[list[str]], grad_norm: torch.Tensor) -> None:
        accelerator, optimizer = self.trainer.accelerator, cast(AcceleratedOptimizer, self.trainer.optimizer)
        bad_losses = ~losses.isfinite()
        found = torch.stack([bad_losses.any(), ~grad_norm.isfinite()]).float()
        # The one transfer to the host; the sum over processes makes all of them decide alike.
        bad_loss, bad_gradient = (count > 0 for count in accelerator.reduce(found, "sum").tolist())
        scaler = accelerator.scaler
        if bad_gradient and not bad_loss and scaler is not None and scaler.get_scale() > 1:
            return  # float16 gradients overflow now and then: the scaler skips the step and lowers the scale
        skipped = bad_loss or bad_gradient
        if skipped:
            optimizer.zero_grad()  # to None, which every optimizer passes over
        if scaler is None:
            # What Accelerate sets when a scaler has skipped a step: the Trainer then keeps the learning rate.
            optimizer._is_overflow = skipped
        if skipped:
            self._report("loss" if bad_loss else "gradient", files, bad_losses.tolist() if bad_loss else None)

    def _report(self, what: str, files: list[list[str]], bad_losses: list[bool] | None) -> None:
        """Name the files of the micro-batches whose loss is bad, or of all where only the gradient is; maybe stop."""
        state = self.trainer.state
        limit = cast(Any, self.trainer.args).max_consecutive_nonfinite_steps
        own = [name for names, bad in zip(files, bad_losses or [True] * len(files)) if bad for name in names]
        named = ", ".join(gather_object(own)) or "(the batches do not name their files)"
        before = [entry["step"] for entry in state.log_history if SKIPPED_STEPS in entry]
        self.trainer.log({SKIPPED_STEPS: len(before) + 1})
        in_a_row = 1
        while state.global_step - in_a_row in before:
            in_a_row += 1
        message = f"The {what} of step {state.global_step + 1} is not finite; the step is skipped. Its files: {named}."
        if in_a_row >= limit:
            raise NonFiniteError(
                f"{message} This is the {in_a_row}. such step in a row, and `max_consecutive_nonfinite_steps` is "
                f"{limit}. Look at these files, lower the learning rate, or train in bfloat16 or float32."
            )
        if self.trainer.is_world_process_zero():
            logger.warning("%s", message)
