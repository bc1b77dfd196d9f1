"""SIGTERM, by which clusters take a machine back: the step is finished, a whole checkpoint is written, the run ends.

transformers' own way (`JITCheckpointCallback`) may save between the forward pass and the update of a step, whose
random numbers are drawn by then, and each process decides for itself. Here all processes agree at the end of a step,
and the run goes on bitwise as if it had not been ended.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from ..printing import get_logger

logger = get_logger(__name__)


class PreemptedError(SystemExit):
    """A training was ended by SIGTERM, with a checkpoint; as the process's end, its exit code is 143."""

    def __init__(self, step: int, *, can_be_resumed: bool = True):
        super().__init__(128 + signal.SIGTERM)
        self.step = step
        self.can_be_resumed = can_be_resumed

    def __str__(self) -> str:
        advice = (
            "Go on from it with `train(resume_from_checkpoint=True)` or `--resume`."
            if self.can_be_resumed
            else "It holds the model alone (`save_only_model`), so a training begins again."
        )
        return f"Ended by SIGTERM at step {self.step}, with a checkpoint. {advice}"


class Preemption(TrainerCallback):
    """Saves at the end of the step in which the signal came, and ends the training there.

    What stands at the end of a whole training (an evaluation, the best model, the mean of the weights) is left to the
    run that goes on.
    """

    def __init__(self) -> None:
        self._asked = False
        self._ending = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """SIGTERM ends the training in order, within the block; outside of it, and in other threads, as ever."""
        self._asked = self._ending = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint, in all processes or in none."""
        self._ending = self._asked_anywhere(args)
        if self._ending:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the training once the checkpoint is whole.

        Raises:
            PreemptedError: always, where the signal has come.
        """
        if self._ending:
            ended = PreemptedError(state.global_step, can_be_resumed=not args.save_only_model)
            logger.warning("%s", ended)
            raise ended

    def _asked_anywhere(self, args: Any) -> bool:
        if args.world_size <= 1:
            return self._asked
        asked = torch.tensor([float(self._asked)], device=args.device)
        torch.distributed.all_reduce(asked)
        return asked.item() > 0
