"""Tells the sampler of training clips which epoch it is."""

from transformers import TrainerCallback

from ..data.epoch_sampler import EpochSampler


class EpochCallback(TrainerCallback):
    """Sets the epoch of an `EpochSampler` before each epoch, resumed ones too.

    Accelerate forwards `set_epoch` through two wrappers of a DataLoader, but a resumed loader of several processes has
    three, and would go through epoch 0 again.
    """

    def __init__(self) -> None:
        self.sampler: EpochSampler | None = None

    def on_epoch_begin(self, args, state, control, **kwargs):
        """`state.epoch` counts epochs done, exactly at their ends."""
        if self.sampler is not None:
            self.sampler.set_epoch(int(state.epoch or 0))
