"""Checkpoints of the Trainer that survive being killed, and a resume that takes nothing on trust.

transformers' Trainer writes into `checkpoint-N` file by file, resumes from the highest N, and goes on without
optimizer or random state where they are missing. Here a checkpoint appears under its name only when it is whole
(`whole_folders.py`), and every byte is checked before a run goes on from it.
"""

import math
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import GradScalerKwargs
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..checkpoint_files import check_headers, check_settings, refuse_other_shards
from ..conversion.reading import weight_files
from ..printing import get_logger, listing, markdown_text, one_line, printable
from ..processes import in_main_process, worked_in_by_one_run
from ..processing.text_files import read_json
from ..whole_files import NO_ROOM, check_writable, refuse_results, write_errors
from .losses import num_skipped_steps, refuse_untrained
from .stored_states import (
    check_callbacks,
    check_form,
    check_optimizer,
    check_rates_by_metric,
    check_scaler,
    check_scheduler,
    read_random_state,
    read_state,
)
from .whole_folders import (
    DamagedFolderError,
    check_sound,
    discard,
    flush_folder,
    incomplete_path,
    is_sound,
    prepare_incomplete,
    publish,
    remove,
    seal,
)

logger = get_logger(__name__)

# Folders in a run's folder: the trained model, and the mean of its weights.
MODEL_NAME = "model"
AVERAGE_NAME = "weight-average"
# What a recipe has measured of its model, in the same folder.
RESULTS_NAME = "eval_results.json"
# How the model came about, for its card (`run_record.py`).
RECORD_NAME = "run_record.json"
# Numbers of a stored state, and the lowest that each can be.
STATE_NUMBERS = {
    **dict.fromkeys(("global_step", "max_steps", "epoch", "num_train_epochs", "num_input_tokens_seen"), 0),
    **dict.fromkeys(("total_flos", "logging_steps", "eval_steps", "save_steps", "best_global_step"), 0),
    **{"train_batch_size": 1, "best_metric": -math.inf},
}


# A history has entries with values; metrics may be tables. Each level is indented where the Trainer writes it again.
MAX_STATE_DEPTH = 8


class ResumeError(ValueError):
    """A run cannot go on from the checkpoint as if it had not been interrupted."""


class RunExistsError(ValueError):
    """A training would begin where another one has left checkpoints or results."""


class CheckpointedCallback(TrainerCallback):
    """A callback with files of its own in the checkpoints; its state is the same in all processes."""

    def save_state(self, checkpoint: Path) -> None:
        """Write the state at this step into the folder of a checkpoint; called where checkpoints are written."""

    def check_state(self, checkpoint: Path) -> None:
        """Look at a sound checkpoint before anything of it is loaded; called in all processes.

        Raises:
            ResumeError: the run cannot go on from it.
        """

    def load_state(self, checkpoint: Path, model: nn.Module) -> None:
        """Take up the state of a sound checkpoint; called in all processes, before the training begins.

        Args:
            checkpoint: its folder.
            model: the model, with the checkpoint's weights.

        Raises:
            ResumeError: the state is not there.
            ValueError: it is not one that this run can have written.
        """


class AtomicCheckpointing(Trainer):
    """Writes checkpoints whole or not at all, and resumes from sound ones only.

    `train(resume_from_checkpoint=True)` takes the newest sound checkpoint of `output_dir` and names the damaged ones
    in warnings; `train(resume_from_checkpoint=folder)` takes that one or raises. Another run that is already in
    `output_dir` is not written over, unless `overwrite=True`, which deletes it first.
    """

    _incomplete_checkpoint: Path | None = None
    # The best checkpoint so far of the run that is resumed.
    _resumed_best: str | None = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        *args: Any,
        overwrite: bool = False,
        **kwargs: Any,
    ):
        """See [`~transformers.Trainer.train`].

        Args:
            resume_from_checkpoint: `True` for the newest sound checkpoint, or the folder of one.
            trial: trial of a hyperparameter search.
            args, kwargs: see the Trainer.
            overwrite: delete the run that is in `output_dir`.

        Raises:
            RunExistsError: there is a run in `output_dir`, and neither it was asked for nor its deletion.
            OSError: nothing can be written to `output_dir`.
            ResumeError: there is no sound checkpoint, or it lacks a state without which the run would not go on as if
                it had not been interrupted.
            DamagedFolderError: the named checkpoint is damaged.
            NonFiniteError: all steps were skipped.
        """
        if resume_from_checkpoint and overwrite:
            raise ValueError("A run is either resumed or overwritten; ask for one of the two.")
        # The trials of a hyperparameter search have folders of their own, which the Trainer gives them later.
        checkpoint, self._resumed_best = resume_from_checkpoint, None
        if trial is None:
            checkpoint = in_main_process(lambda: self._prepare_folder(resume_from_checkpoint, overwrite=overwrite))
        if isinstance(checkpoint, str):
            check_sound(checkpoint, hashes=False)
            self._check_resumable(Path(checkpoint))
        output = super().train(checkpoint, trial, *args, **kwargs)
        refuse_untrained(self.state)
        return output

    def _prepare_folder(self, requested: str | bool | None, *, overwrite: bool) -> str | None:
        """Make `output_dir` ready to write to, and choose the checkpoint to go on from; every byte of it is read."""
        folder = Path(str(self.args.output_dir))
        check_writable(folder)
        incomplete_path(folder / MODEL_NAME)  # raises where a link or a file is in the way
        if requested is True:
            return newest_sound_checkpoint(folder)
        checkpoint = str(requested) if requested else None
        if checkpoint is not None:
            check_sound(checkpoint)
            if Path(checkpoint).resolve().parent == folder.resolve():
                return checkpoint
        # A new run, from the beginning or from where another one was.
        if overwrite:
            remove_run(folder)
        else:
            refuse_run(folder)
        return checkpoint

    def _check_resumable(self, checkpoint: Path) -> None:
        world_size = self.args.world_size
        needed = [TRAINER_STATE_NAME, self._random_state_name()]
        if not self._splits_parameters:
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
        if self.accelerator.scaler is None and (checkpoint / SCALER_NAME).is_file():
            raise ResumeError(
                f"{checkpoint} has a {SCALER_NAME}: it was written in half precision (`fp16=True`). Resume with the "
                "precision that wrote it."
            )

        with _refusing_to_resume(checkpoint):
            # Before the Trainer's class makes something of them.
            check_settings(checkpoint / TRAINER_STATE_NAME)
            stored = read_json(checkpoint / TRAINER_STATE_NAME, max_depth=MAX_STATE_DEPTH, finite=False)
            parts = (*self.callback_handler.callbacks, self.control)
            check_callbacks(stored, [part for part in parts if isinstance(part, ExportableState)])
            state = TrainerState(**stored)
            output = Path(str(self.args.output_dir))
            state.best_model_checkpoint = _best_of_run(state.best_model_checkpoint, checkpoint, output)
            _check_state(state, folders={checkpoint.resolve().parent, output.resolve()})
            if self.args.auto_find_batch_size:
                _check_batch(state, largest=self.args.train_batch_size)
            if (metric := self.args.metric_for_best_model) is not None:
                _check_best(state, f"eval_{metric.removeprefix('eval_')}")
        self._resumed_best = state.best_model_checkpoint
        best = Path(state.best_model_checkpoint or "")
        if self.args.load_best_model_at_end and best.name and best.is_dir() and not self._splits_parameters:
            with _refusing_the_best(best):  # now, and not when all steps are trained
                check_sound(best)
                self._read_weights(best)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        # The first thing that is loaded: what cannot be resumed is refused before it.
        with _refusing_to_resume(resume_from_checkpoint):
            for callback in self._checkpointed_callbacks():
                callback.check_state(Path(resume_from_checkpoint))
            if self._splits_parameters:  # in formats of their own
                super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
            else:
                # Not by the Trainer, which also makes a configuration of whatever stands in config.json.
                self._load_weights(Path(resume_from_checkpoint))

    @torch.no_grad()
    def _load_weights(self, checkpoint: Path) -> None:
        """Take up a checkpoint's weights, as they are checked by `_read_weights`."""
        own = cast(nn.Module, self.model).state_dict()
        for key, weight in self._read_weights(checkpoint).items():
            own[key].copy_(weight)

    def _read_weights(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        """Weights that are tensors of the model's names and shapes, in safetensors files of the folder."""
        own = cast(nn.Module, self.model).state_dict()
        names, weight_map = weight_files(checkpoint)
        if pickles := [name for name in names if not name.endswith(".safetensors")]:
            raise ValueError(f"its weights are in {printable(pickles[0])}; a training writes safetensors files")
        tensors = check_headers(checkpoint / name for name in names)
        if weight_map is not None:
            refuse_other_shards(tensors, weight_map)
        stored: set[str] = set()
        weights: dict[str, torch.Tensor] = {}
        for name in names:
            with safe_open(checkpoint / name, framework="pt") as file:
                stored |= set(file.keys())
                for key in own.keys() & set(file.keys()):
                    weights[key] = file.get_tensor(key)
                    check_form(weights[key], own[key], where=f"`{key}` of {name}")
        _refuse_missing_or_unexpected(missing=sorted(own.keys() - stored), unexpected=sorted(stored - own.keys()))
        return weights

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        begun = super()._init_training_state(max_steps, *args, **kwargs)
        # When to save, evaluate and log is for this run's arguments to say: the Trainer takes the checkpoint's.
        self.state.compute_steps(self.args, max_steps)
        self.state.best_model_checkpoint = self._resumed_best
        if self.args.load_best_model_at_end and self._resumed_best is None:
            # What is to be loaded has to be there: the best of the checkpoints to come, whatever a lost one had.
            self.state.best_metric = self.state.best_global_step = None
        # The Trainer would take a run of more steps than it has for a finished one.
        if self.state.global_step > max_steps:
            raise ResumeError(
                f"The checkpoint was written at step {self.state.global_step}, but this run has {max_steps} steps. "
                "Resume with the length and the data of the run that wrote it."
            )
        return begun

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        with _refusing_to_resume(checkpoint), tempfile.TemporaryDirectory() as folder:
            # The Trainer reads a file, and knows the devices: it gets one that holds what was checked.
            name = self._random_state_name()
            state = read_random_state(Path(checkpoint) / name)
            with write_errors(folder):
                torch.save(state, Path(folder) / name)
            super()._load_rng_state(folder)

    def _random_state_name(self) -> str:
        return "rng_state.pth" if self.args.world_size <= 1 else f"rng_state_{self.args.process_index}.pth"

    def _load_scaler(self, checkpoint: str | None) -> None:
        scaler = self.accelerator.scaler
        if checkpoint is None or scaler is None:
            return
        with _refusing_to_resume(checkpoint):
            state = read_state(Path(checkpoint) / SCALER_NAME)
            num_steps = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).global_step
            first_scale = (self.accelerator.scaler_handler or GradScalerKwargs()).init_scale
            check_scaler(state, scaler.state_dict(), first_scale=first_scale, num_steps=num_steps)
            scaler.load_state_dict(state)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        # The last thing that is loaded before the first step; callbacks have no event there.
        with _refusing_to_resume(checkpoint):
            if self._splits_parameters:  # in formats of their own
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                self._load_checked(Path(checkpoint))
            for callback in self._checkpointed_callbacks():
                callback.load_state(Path(checkpoint), cast(nn.Module, self.model))

    def _load_checked(self, checkpoint: Path) -> None:
        """Take up the states of optimizer and scheduler, where they have the form of this run's own."""
        # Without accelerate's wrappers.
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)
        scheduler: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        trainer_state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        num_steps = trainer_state.global_step
        # A larger number would leave out what is still to be trained. A copy may have any name of its own.
        named = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", checkpoint.resolve().name)
        if named is not None and int(named[1]) != num_steps:
            raise ValueError(f"`global_step` of {TRAINER_STATE_NAME} is {num_steps}, and not {named[1]}")
        num_parameters = sum(len(group["params"]) for group in optimizer.param_groups)
        scheduler_state = read_state(checkpoint / SCHEDULER_NAME)
        rates = check_scheduler(scheduler_state, scheduler, max_steps=num_steps * self.args.world_size)
        optimizer_state = read_state(checkpoint / OPTIMIZER_NAME, num_parameters=num_parameters)
        # The schedule stands still at a step that is skipped. Those that a scaler skips stand in no log.
        num_skipped = num_skipped_steps(trainer_state)
        least = 0 if self.accelerator.scaler is not None else num_steps - num_skipped
        if rates is not None and scheduler_state["last_epoch"] < least:
            raise ValueError(
                f"`last_epoch` of {SCHEDULER_NAME} is {scheduler_state['last_epoch']}, after {num_steps} steps, of "
                f"which {num_skipped} were skipped"
            )
        num_done = None if rates is None else min(scheduler_state["last_epoch"], num_steps)
        behind = check_optimizer(
            optimizer_state,
            optimizer,
            rates=rates or check_rates_by_metric(scheduler_state, scheduler),
            num_steps=num_steps,
            num_done=num_done,
            has_scaler=self.accelerator.scaler is not None,
        )
        if behind and self.is_world_process_zero():
            names = {id(parameter): name for name, parameter in cast(nn.Module, self.model).named_parameters()}
            logger.warning(
                "The %s of %s has moments of fewer steps than were done, or none, for %d of %d parameters (%s). So it "
                "is with parameters that had no gradient in some steps; of others, the run does not go on as it was.",
                OPTIMIZER_NAME,
                checkpoint,
                len(behind),
                num_parameters,
                listing([names.get(id(parameter), "one of another module") for parameter in behind], limit=3),
            )
        optimizer.load_state_dict(optimizer_state)
        scheduler.load_state_dict(scheduler_state)

    @property
    def _splits_parameters(self) -> bool:
        """Whether processes have parts of the parameters, which are stored in formats of their own."""
        return bool(self.is_deepspeed_enabled or self.is_fsdp_enabled)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # The Trainer only warns of weights that do not fit, and would train on without them.
        _refuse_missing_or_unexpected(missing=load_result.missing_keys, unexpected=load_result.unexpected_keys)

    def _load_best_model(self) -> None:
        # Read at the end of a training, when the file may have been damaged since it was written.
        best = str(self.state.best_model_checkpoint)
        with _refusing_the_best(best):
            check_sound(best)
            if not self._splits_parameters:
                self._load_weights(Path(best))
                return
        super()._load_best_model()  # in formats of their own

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # The Trainer writes into `checkpoint-N` itself; there is no event before the first and after the last file.
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self._written_whole(folder, seal) as incomplete:
            self._incomplete_checkpoint = incomplete
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._incomplete_checkpoint = None
            if self.args.should_save:
                for callback in self._checkpointed_callbacks():
                    callback.save_state(incomplete)
            self._name_best_checkpoint(incomplete, folder)
        if self.args.should_save:
            self._rotate_checkpoints(folder)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers, with what the run has logged as text: of steps before this run, a checkpoint says it."""
        logged = self.state.log_history
        self.state.log_history = [
            {markdown_text(printable(str(name))): _shown_on_a_card(value) for name, value in entry.items()}
            for entry in logged
        ]
        try:
            super().create_model_card(*args, **kwargs)
        finally:
            self.state.log_history = logged

    def save_model_whole(self, folder: Path) -> None:
        """`save_model`, so that the folder is the old one until the new one is whole; called in all processes."""
        with self._written_whole(folder, flush_folder) as incomplete:
            self.save_model(str(incomplete))

    @contextmanager
    def _written_whole(self, folder: Path, finish: Callable[[Path], None]) -> Iterator[Path]:
        """A place that all processes write to, which becomes `folder` when they have and `finish` is done with it."""
        incomplete = incomplete_path(folder)
        if self.args.should_save:
            prepare_incomplete(folder)
        self.accelerator.wait_for_everyone()
        try:
            yield incomplete
        except BaseException as error:
            if self.args.should_save:
                discard(incomplete)  # a full disk needs the space
            if _is_of_a_writer(error):
                with write_errors(folder):
                    raise
            raise
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            finish(incomplete)
            publish(incomplete, folder)
        self.accelerator.wait_for_everyone()

    @property
    def _writes_checkpoint(self) -> bool:
        return self._incomplete_checkpoint is not None

    def _get_output_dir(self, trial: Any) -> str:
        # Where super()._save_checkpoint() puts its `checkpoint-N`.
        if self._incomplete_checkpoint is not None:
            return str(self._incomplete_checkpoint.parent)
        return super()._get_output_dir(trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Not while the checkpoint has its temporary name; `_save_checkpoint` pushes it when it is whole.
        if not self._writes_checkpoint:
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


def parts_of_run(folder: str | Path, *, of_recipe: bool = False) -> list[Path]:
    """What a run has left in its folder: checkpoints, the mean of the weights; that of a recipe, its model too."""
    named = [Path(folder) / name for name in ((AVERAGE_NAME, MODEL_NAME) if of_recipe else (AVERAGE_NAME,))]
    return [*list_checkpoints(folder).values(), *(path for path in named if path.is_dir())]


def refuse_run(folder: str | Path, *, of_recipe: bool = False) -> None:
    """Raise where a run is in a folder, or a recipe's results would replace what no run has left.

    Raises:
        RunExistsError: names what the run has left.
        ResultExistsError: names the file that is there.
    """
    if parts := parts_of_run(folder, of_recipe=of_recipe):
        raise RunExistsError(
            f"{folder} holds a run already ({listing([part.name for part in parts], limit=3)}). Go on with it "
            "(`--resume`, `train(resume_from_checkpoint=True)`), begin again in its place (`--overwrite`, "
            "`train(overwrite=True)`), or write to another folder."
        )
    if of_recipe:
        refuse_results(*(Path(folder) / name for name in (RESULTS_NAME, RECORD_NAME)), overwrite=False)


def remove_run(folder: str | Path, *, of_recipe: bool = False) -> None:
    """Delete what `parts_of_run` finds, the run's list of undecodable videos, and of a recipe's what was measured."""
    for part in parts_of_run(folder, of_recipe=of_recipe):
        remove(part)
    for log in Path(folder).glob("decode_failures.*.jsonl"):
        log.unlink()
    if of_recipe:
        for name in (RESULTS_NAME, RECORD_NAME):
            (Path(folder) / name).unlink(missing_ok=True)


@contextmanager
def run_alone_in(folder: str | Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the folder of a recipe's run, from the first step until its model is saved, for all processes.

    Args:
        folder: the run's.
        resume: the run that is there is gone on with.
        overwrite: it is deleted.

    Raises:
        ValueError: another run is at work there.
        RunExistsError, ResultExistsError: see `refuse_run`; another one has come since it was first looked for.
    """
    with worked_in_by_one_run(folder):
        if overwrite:
            in_main_process(partial(remove_run, folder, of_recipe=True))
        elif not resume:
            in_main_process(partial(refuse_run, folder, of_recipe=True))
        yield


def list_checkpoints(run_folder: str | Path) -> dict[int, Path]:
    """The folders named `checkpoint-N` of a run by N, the newest first; sound or not."""
    # As the Trainer writes numbers: of `checkpoint-5` and `checkpoint-05`, only the first is one of its folders.
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(0|[1-9][0-9]*)")
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
        "Begin again in its place (`--overwrite`, `train(overwrite=True)`), or give the folder of another run."
    )


def _refuse_missing_or_unexpected(*, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    if missing or unexpected:
        raise ResumeError(
            "The checkpoint is not of this model. Weights that it lacks: "
            f"{listing(missing, limit=3) or 'none'}; that the model lacks: {listing(unexpected, limit=3) or 'none'}. "
            "Build the model and its projectors as for the run that wrote it."
        )


def _best_of_run(stored: Any, checkpoint: Path, output: Path) -> Any:
    """Where the best checkpoint lies now: of its place only the name is taken, since a run may be moved or copied.

    Args:
        stored: as the file says; what has not the name of a checkpoint is returned, for `_check_state` to refuse.
        checkpoint: that is gone on from.
        output: folder of the run, in the spelling of the paths that are made from it.

    Returns:
        Its path, or `None` where it is there no more.
    """
    if not isinstance(stored, str) or not re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", Path(stored).name):
        return stored
    beside = output if checkpoint.resolve().parent == output.resolve() else checkpoint.parent
    places = [beside / Path(stored).name, output / Path(stored).name]
    places.sort(key=lambda place: place.resolve() != Path(stored).resolve())
    found = next((str(place) for place in places if place.is_dir()), None)
    if found is None:
        logger.warning("The best checkpoint so far (%s) is in the run's folder no more; it is forgotten.", stored)
    return found


def _check_state(state: TrainerState, *, folders: set[Path]) -> None:
    """Refuse a stored state that the Trainer would stumble over in the midst of a training, or follow elsewhere.

    Args:
        state: as the file says.
        folders: in which the best checkpoint may lie: that of the run.

    Raises:
        ValueError: names the field.
    """
    for name, lowest in STATE_NUMBERS.items():
        value = getattr(state, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        # The Trainer writes null where nothing was evaluated, and counts with the others.
        if not (is_number and value >= lowest) and not (value is None and name.startswith("best_")):
            raise ValueError(f"`{name}` of {TRAINER_STATE_NAME} is {printable(repr(value), limit=100)}")
    if not isinstance(state.global_step, int) or not isinstance(state.log_history, list | None):
        raise ValueError(f"`global_step` or `log_history` of {TRAINER_STATE_NAME} is of another type")
    for entry in state.log_history or ():
        if not (isinstance(entry, dict) and isinstance(entry.get("step"), int)):
            raise ValueError(f"`log_history` of {TRAINER_STATE_NAME} has an entry without a step")
    best = state.best_model_checkpoint
    if best is not None and not (isinstance(best, str) and Path(best).resolve().parent in folders):
        raise ValueError(
            f"`best_model_checkpoint` of {TRAINER_STATE_NAME} is {printable(repr(best))}, which is not in the run's "
            "folder"
        )


def _check_batch(state: TrainerState, *, largest: int) -> None:
    """Refuse a batch that `auto_find_batch_size`, which goes on with it, cannot have found.

    Args:
        state: as the file says; its numbers have been checked.
        largest: the batch of the arguments, whose memory was looked at; what does not fit is only ever made smaller.

    Raises:
        ValueError: names the field.
    """
    batch = state.train_batch_size
    if batch is not None and not (type(batch) is int and batch <= largest):
        raise ValueError(
            f"`train_batch_size` of {TRAINER_STATE_NAME} is {printable(repr(batch), limit=100)}; with "
            f"`auto_find_batch_size`, this run has a whole number of at most {largest}"
        )


def _check_best(state: TrainerState, metric: str) -> None:
    """Refuse a best value that no evaluation has had, or another model of it: that would be the run's result.

    Args:
        state: as the file says; its numbers, history and folder of the best model have been checked.
        metric: name in the history of what the best model is chosen by.

    Raises:
        ValueError: names the field.
    """
    step, best = state.best_global_step, state.best_model_checkpoint
    if best is not None and (type(step) is not int or state.best_metric is None):
        raise ValueError(
            f"`best_model_checkpoint` of {TRAINER_STATE_NAME} is {printable(repr(best))}, and its `best_global_step` "
            f"({step}) and `best_metric` ({state.best_metric}) are not what a Trainer writes beside it"
        )
    had = [entry.get(metric) for entry in state.log_history or () if entry["step"] == step]
    if state.best_metric is not None and state.best_metric not in had:
        raise ValueError(
            f"`best_metric` of {TRAINER_STATE_NAME} is {state.best_metric}, which no evaluation at step {step} had as "
            f"its `{metric}`; `metric_for_best_model` has to be that of the run"
        )
    # Where the best step has no checkpoint, it is an earlier one.
    own = Path(best or "").parent / f"{PREFIX_CHECKPOINT_DIR}-{step}"
    if best is not None and own.is_dir() and Path(best).name != own.name:
        raise ValueError(
            f"`best_model_checkpoint` of {TRAINER_STATE_NAME} is {printable(repr(best))}, and `best_global_step` is "
            f"{step}"
        )


def _shown_on_a_card(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else markdown_text(printable(str(value)))


def _is_of_a_writer(error: BaseException) -> bool:
    """Whether an error says, in words of its own, that a file could not be written to its end."""
    if isinstance(error, RuntimeError):
        return "inline_container" in str(error) or "PytorchStreamWriter" in str(error)  # torch.save
    return isinstance(error, SafetensorError) or (isinstance(error, OSError) and error.errno in NO_ROOM)


def _refusing_to_resume(checkpoint: str | Path | None) -> AbstractContextManager[None]:
    return _refusing(checkpoint, "cannot be resumed", "Resume from another checkpoint, or begin a new run")


def _refusing_the_best(checkpoint: str | Path) -> AbstractContextManager[None]:
    return _refusing(
        checkpoint, "is the best of the run, and cannot be loaded", "Resume without `load_best_model_at_end`"
    )


@contextmanager
def _refusing(checkpoint: str | Path | None, what: str, advice: str) -> Iterator[None]:
    """Whatever its altered files make their readers raise becomes one error that names the checkpoint.

    torch's advice to open a refused pickle all the same is left out.
    """
    try:
        yield
    except (ResumeError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = one_line(str(error))
        if not isinstance(error, ValueError):
            reason = f"{type(error).__name__}: {reason}"
        if isinstance(error, pickle.UnpicklingError):
            reason = "one of its files is a damaged pickle, or holds more than tensors"
        raise ResumeError(f"{checkpoint} {what} ({reason}). {advice}.") from error
