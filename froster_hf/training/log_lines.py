"""What a training says while it runs: one line per log, above the progress bar on a terminal, alone elsewhere.

Logs of the Trainer are dicts, and its own callbacks print them as such.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from ..evaluation.metrics import metrics_of
from ..printing import counted

# Of an evaluation: how fast it was.
_SPEEDS = ("runtime", "samples_per_second", "steps_per_second")


class LogLines(TrainerCallback):
    """Every log as one line on standard output."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """See [`~transformers.TrainerCallback`]."""
        if state.is_world_process_zero:
            tqdm.write(describe_log(logs, state), file=sys.stdout)
            # Trainings are watched through pipes and files.
            sys.stdout.flush()


class _Bar(ProgressCallback):
    """transformers' progress bar, without the logs."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """See [`~transformers.TrainerCallback`]."""


def show_lines(trainer: Trainer) -> None:
    """Let a trainer log in lines, but in a notebook, where transformers makes a table."""
    if trainer.pop_callback(PrinterCallback) or trainer.pop_callback(ProgressCallback):
        if not trainer.args.disable_tqdm and sys.stderr.isatty():
            trainer.add_callback(_Bar())
        trainer.add_callback(LogLines())


def describe_log(logs: Mapping[str, Any], state: Any) -> str:
    """A log of the Trainer as a line: where the training is, and its loss, or what was measured.

    Args:
        logs: as `Trainer.log` is given them.
        state: of the Trainer, with the number of epochs and of steps.
    """
    if "train_runtime" in logs:
        return f"trained {counted(state.global_step, 'step')} in {logs['train_runtime']:.0f} s"
    where = f"epoch {logs['epoch']:.3g} of {state.num_train_epochs}: " if "epoch" in logs else ""
    if "loss" in logs:
        parts = {name.removeprefix("loss_"): value for name, value in logs.items() if name.startswith("loss_")}
        # Rounded: what is left of a difference of equals is shown as none.
        shown = ", ".join(f"{name} {round(value, 6) + 0.0:.4g}" for name, value in parts.items())
        return f"{where}loss {logs['loss']:.4g}" + (f" ({shown})" if parts else "")
    return where + ", ".join(_measured(logs))


def _measured(logs: Mapping[str, Any]) -> Iterator[str]:
    """Accuracies by their titles; of a log without any, all that it holds."""
    titles = metrics_of("one_label", shown_in="training")
    named = {key: name for key in logs for name in titles if key.startswith("eval_") and key.endswith(f"_{name}")}
    for key, name in named.items():
        part = key.removeprefix("eval_").removesuffix(name).rstrip("_")
        yield f"{part} {titles[name].heading}".removeprefix("all ").strip() + f" {logs[key]:.1f} %"
    if not named:
        for key, value in logs.items():
            name = key.removeprefix("eval_")
            if name != "epoch" and not name.endswith(_SPEEDS):
                yield f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
