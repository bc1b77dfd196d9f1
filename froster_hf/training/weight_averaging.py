"""The mean of the weights at the ends of epochs (SWA), kept while training.

FROSTER and Open-VCLIP test the mean of the weights after epochs 2 to the last. As a running mean it needs no
checkpoint but the newest, which carries it over a restart.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from .checkpointing import AVERAGE_NAME, CheckpointedCallback, ResumeError
from .whole_folders import written_whole

logger = logging.getLogger(__name__)

STATE_NAME = "weight_average.safetensors"


class WeightAveraging(CheckpointedCallback):
    """Averages the trained weights over the ends of epochs, in double precision on the CPU.

    Args:
        first_epoch: counted from 1; the first epoch whose final weights are part of the mean. The published one is 2.
        last_epoch: the last of them. `None` goes on to the end.

    Raises:
        ValueError: an empty range of epochs; later, parameters that FSDP or DeepSpeed split over processes.
    """

    def __init__(self, first_epoch: int = 2, *, last_epoch: int | None = None):
        if first_epoch < 1 or (last_epoch is not None and last_epoch < first_epoch):
            raise ValueError(
                f"Epochs {first_epoch} to {last_epoch or 'the last'} cannot be averaged; they are counted from 1."
            )
        self.first_epoch, self.last_epoch = first_epoch, last_epoch
        # Of the mean so far.
        self.epochs: list[int] = []
        self.mean: dict[str, torch.Tensor] = {}

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Give `model` the mean for the time of a `with` block, for example to evaluate it or save it.

        Raises:
            ValueError: no epoch of the range has ended.
        """
        if not self.epochs:
            raise ValueError(
                f"There are no weights to average: none of the epochs {self.first_epoch} to "
                f"{self.last_epoch or 'the last'} has ended."
            )
        own = {name: parameter for name, parameter in model.named_parameters() if name in self.mean}
        trained = {name: parameter.detach().clone() for name, parameter in own.items()}
        try:
            _copy_into(own, self.mean)
            yield
        finally:
            _copy_into(own, trained)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin anew, unless the run is resumed."""
        if args.fsdp or args.deepspeed:
            raise ValueError("Weights that FSDP or DeepSpeed split over processes cannot be averaged while training.")
        if state.global_step == 0:
            self.epochs, self.mean = [], {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take in the weights, where this was the last step of an epoch of the range."""
        # Not at `on_epoch_end`: a checkpoint of an epoch's last step is written before that, and a run resumed from it
        # begins with the next epoch.
        epoch = int(state.epoch or 0)
        if epoch == state.epoch and self.first_epoch <= epoch <= (self.last_epoch or epoch):
            self._add(kwargs["model"], epoch)

    def save_state(self, checkpoint: Path) -> None:
        """The mean as it is kept, so that it is restored exactly."""
        save_file(self.mean, checkpoint / STATE_NAME, metadata={"epochs": json.dumps(self.epochs)})

    def load_state(self, checkpoint: Path) -> None:
        """Go on with the mean of a checkpoint."""
        path = checkpoint / STATE_NAME
        if not path.is_file():
            raise ResumeError(
                f"{checkpoint} was written without weight averaging, so its mean would lack epochs. Resume without "
                "`WeightAveraging`, and average the weights of the checkpoints afterwards."
            )
        with safe_open(path, framework="pt") as file:
            self.epochs = json.loads(file.metadata()["epochs"])
            self.mean = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)

    @torch.no_grad()
    def _add(self, model: nn.Module, epoch: int) -> None:
        self.epochs.append(epoch)
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            weights = parameter.detach().to("cpu", torch.float64)
            if name in self.mean:
                self.mean[name] += (weights - self.mean[name]) / len(self.epochs)
            else:
                self.mean[name] = weights.clone()


def save_weight_averages(trainer: Trainer) -> None:
    """Save the mean of every `WeightAveraging` of a Trainer that has trained, as `save_model()` saves a model."""
    averages = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, WeightAveraging)]
    for average in averages if trainer.args.should_save else ():
        if not average.epochs:
            logger.warning("No epoch from %d on has ended: there are no averaged weights.", average.first_epoch)
            continue
        with (
            average.applied_to(trainer.accelerator.unwrap_model(trainer.model)),
            written_whole(Path(str(trainer.args.output_dir)) / AVERAGE_NAME) as folder,
        ):
            trainer.save_model(str(folder), _internal_call=True)


@torch.no_grad()
def _copy_into(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
