"""Checkpoints of the Trainer that survive being killed, and a resume that takes nothing on trust.

transformers' Trainer writes into `checkpoint-N` file by file, resumes from the highest N, and goes on without
optimizer or random state where they are missing. Here a checkpoint appears under its name only when it is whole
(`whole_folders.py`), and every byte is checked before a run goes on from it.
"""

import logging
import re
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .whole_folders import (
    DamagedFolderError,
    check_sound,
    discard,
    incomplete_path,
    is_sound,
    prepare_incomplete,
    publish,
    remove,
    seal,
)

logger = logging.getLogger(__name__)


class ResumeError(ValueError):
    """A run cannot go on from the checkpoint as if it had not been interrupted."""


class CheckpointedCallback(TrainerCallback):
    """A callback with files of its own in the checkpoints; its state is the same in all processes."""

    def save_state(self, checkpoint: Path) -> None:
        """Write the state at this step into the folder of a checkpoint; called where checkpoints are written."""
        raise NotImplementedError

    def load_state(self, checkpoint: Path) -> None:
        """Take up the state of a sound checkpoint; called in all processes, before the training begins.

        Raises:
            ResumeError: the state is not there.
        """
        raise NotImplementedError


class AtomicCheckpointing(Trainer):
    """Writes checkpoints whole or not at all, and resumes from sound ones only.

    `train(resume_from_checkpoint=True)` takes the newest sound checkpoint of `output_dir` and names the damaged ones
    in warnings; `train(resume_from_checkpoint=folder)` takes that one or raises.
    """

    _incomplete_checkpoint: Path | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any):
        """See [`~transformers.Trainer.train`].

        Raises:
            ResumeError: there is no sound checkpoint, or it lacks a state without which the run would not go on as if
                it had not been interrupted.
            DamagedFolderError: the named checkpoint is damaged.
        """
        if resume_from_checkpoint:
            resume_from_checkpoint = self._choose_checkpoint(resume_from_checkpoint)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _choose_checkpoint(self, requested: str | Literal[True]) -> str:
        """The checkpoint that all processes resume from; the main one reads every byte."""
        choice: list[Any] = [None, None]
        if self.is_world_process_zero():
            try:
                if requested is True:
                    requested = newest_sound_checkpoint(str(self.args.output_dir))
                else:
                    check_sound(requested)
                choice[0] = requested
            except (ValueError, OSError) as error:
                choice[1] = error
        checkpoint, failure = broadcast_object_list(choice)
        if failure is not None:
            raise failure
        check_sound(checkpoint, hashes=False)
        self._check_resumable(Path(checkpoint))
        return str(checkpoint)

    def _check_resumable(self, checkpoint: Path) -> None:
        rank, world_size = self.args.process_index, self.args.world_size
        needed = [TRAINER_STATE_NAME, "rng_state.pth" if world_size <= 1 else f"rng_state_{rank}.pth"]
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):  # whose formats have other names
            needed += [OPTIMIZER_NAME, SCHEDULER_NAME]
            needed += [SCALER_NAME] if self.accelerator.scaler is not None else []
        missing = [name for name in needed if not (checkpoint / name).is_file()]
        if missing or (world_size > 1 and (checkpoint / f"rng_state_{world_size}.pth").is_file()):
            what = f"has no {', '.join(missing)}" if missing else "was written by more processes"
            raise ResumeError(
                f"{checkpoint} {what}, so this run of {world_size} process(es) cannot go on from it as if it had not "
                "been interrupted. Save without `save_only_model`, resume with the number of processes and the "
                "precision that wrote it, or begin a new run from its weights with `from_pretrained`."
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            for callback in self._checkpointed_callbacks():
                callback.load_state(Path(checkpoint))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        if load_result.missing_keys or load_result.unexpected_keys:
            raise ResumeError(
                "The checkpoint is not of this model. Weights that it lacks: "
                f"{_shortened(load_result.missing_keys)}; that the model lacks: "
                f"{_shortened(load_result.unexpected_keys)}. Build the model and its projectors as for the run that "
                "wrote it."
            )

    def _load_best_model(self) -> None:
        check_sound(str(self.state.best_model_checkpoint))
        super()._load_best_model()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        incomplete = incomplete_path(folder)
        if self.args.should_save:
            prepare_incomplete(folder)
        self.accelerator.wait_for_everyone()
        self._incomplete_checkpoint = incomplete
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                for callback in self._checkpointed_callbacks():
                    callback.save_state(incomplete)
            self._name_best_checkpoint(incomplete, folder)
        except BaseException:
            if self.args.should_save:
                discard(incomplete)  # a full disk needs the space
            raise
        finally:
            self._incomplete_checkpoint = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(incomplete)
            publish(incomplete, folder)
            self._rotate_checkpoints(folder)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _get_output_dir(self, trial: Any) -> str:
        # Where super()._save_checkpoint() puts its `checkpoint-N`.
        if self._incomplete_checkpoint is not None:
            return str(self._incomplete_checkpoint.parent)
        return super()._get_output_dir(trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._incomplete_checkpoint is None:
            super()._push_from_checkpoint(checkpoint_folder)

    def _name_best_checkpoint(self, incomplete: Path, folder: Path) -> None:
        """The state was written while the checkpoint had its temporary name."""
        if self.state.best_model_checkpoint == str(incomplete):
            self.state.best_model_checkpoint = str(folder)
            if self.args.should_save:
                self.state.save_to_json(str(incomplete / TRAINER_STATE_NAME))

    def _rotate_checkpoints(self, newest: Path) -> None:
        """Delete what is above `save_total_limit`: unsound checkpoints first, then the oldest."""
        limit = self.args.save_total_limit
        if limit is None or limit <= 0:
            return
        kept = {newest, Path(self.state.best_model_checkpoint or newest)}
        checkpoints = list(list_checkpoints(newest.parent).values())
        others = [folder for folder in checkpoints if folder not in kept]
        others.sort(key=lambda folder: (is_sound(folder, hashes=False), folder.stat().st_mtime_ns))
        for folder in others[: max(0, len(checkpoints) - max(limit, len(kept)))]:
            remove(folder)

    def _checkpointed_callbacks(self) -> list[CheckpointedCallback]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, CheckpointedCallback)]


def list_checkpoints(run_folder: str | Path) -> dict[int, Path]:
    """The folders named `checkpoint-N` of a run by N, the newest first; sound or not."""
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    found = {}
    for folder in Path(run_folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (match := pattern.fullmatch(folder.name)) and folder.is_dir():
            found[int(match.group(1))] = folder
    return dict(sorted(found.items(), reverse=True))


def newest_sound_checkpoint(run_folder: str | Path) -> str:
    """The checkpoint of the highest step that verifies; damaged ones above it are named in warnings.

    Raises:
        ResumeError: there is none.
    """
    damaged = []
    for folder in list_checkpoints(run_folder).values():
        try:
            check_sound(folder)
        except DamagedFolderError as error:
            logger.warning("Passing over a checkpoint: %s", error)
            damaged.append(str(error))
        else:
            return str(folder)
    found = " ".join(damaged) or "It has no checkpoint."
    raise ResumeError(
        f"There is no sound checkpoint in {run_folder} to resume from. {found} "
        "To begin anew, call `train()` without `resume_from_checkpoint`."
    )


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"
