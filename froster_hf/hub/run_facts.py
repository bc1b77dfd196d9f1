"""What the run that trained a checkpoint tells its card: base model, data, settings, accuracies.

    run/model, run/run_record.json --read_run--> Run --fill_facts, run_results--> CardFacts, MeasuredResult

A record names the SHA-256 of the weights that it is of, and their architecture, so a card never tells of another
model's training.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..checkpoint_loading import SHIPPED_CHECKPOINTS
from ..data.catalogue import DATASETS
from ..evaluation.metrics import metrics_of
from ..fingerprints import other_fields
from ..printing import counted, one_line
from ..settings import read_fields
from ..training.recipes import Recipe
from ..training.run_record import RunRecord, read_record
from .card_facts import CardFacts
from .measured_results import MeasuredResult


@dataclass(frozen=True)
class Run:
    """A run's record and its recipe, read.

    Args:
        record: see [`RunRecord`].
        recipe: see [`Recipe`].
    """

    record: RunRecord
    recipe: Recipe

    @property
    def base(self) -> str:
        """The checkpoint that the training began from, as it was given."""
        return self.recipe.model.checkpoint

    @property
    def data_name(self) -> str:
        """The data set: a key of the catalogue, or the name of the user's folder or list."""
        data = self.recipe.data
        if data.published is not None:
            return data.published
        if data.format in DATASETS:
            return data.format
        return Path(data.annotations or data.root or data.format).stem

    @property
    def data_title(self) -> str:
        """As people write it."""
        return DATASETS[self.data_name].title if self.data_name in DATASETS else self.data_name


def read_run(
    checkpoint: str | os.PathLike[str],
    *,
    fingerprints: set[str] | None = None,
    architecture: Mapping[str, Any] | None = None,
) -> Run | None:
    """The run that a checkpoint lies in, where it is the model that this run trained.

    Args:
        checkpoint: a folder, or a name on the Hub, which lies in no run.
        fingerprints: `model_fingerprint` of the checkpoint; `None` does not compare it.
        architecture: `architecture_of` it; `None` does not compare it.

    Raises:
        ValueError: the folder above has a damaged record.
    """
    if not os.path.isdir(checkpoint):
        return None
    folder = Path(checkpoint).resolve().parent
    record = read_record(folder)
    if record is None or (fingerprints is not None and record.weights not in fingerprints):
        return None
    if architecture is not None and other_fields(record.architecture, architecture):
        return None
    return Run(record, read_fields(Recipe, record.recipe, where=f"the recipe of the run in {folder}"))


def repository(checkpoint: str) -> str | None:
    """A checkpoint's name on the Hub; `None` where it is, or looks like, a folder."""
    if checkpoint in SHIPPED_CHECKPOINTS or os.path.exists(checkpoint) or checkpoint.count("/") != 1:
        return None
    try:
        validate_repo_id(checkpoint)
    except HFValidationError:
        return None
    return checkpoint


def shown_checkpoint(checkpoint: str) -> str:
    """A checkpoint's name for others to read, without the path on somebody's disk."""
    if checkpoint in SHIPPED_CHECKPOINTS:
        return f"{checkpoint} (ships with froster-hf)"
    if repository(checkpoint) is not None:
        return checkpoint
    path = Path(checkpoint)
    # Of `runs/my_videos/model`, the last name says nothing.
    return path.parent.name if path.name == "model" and path.parent.name else path.name or checkpoint


def fill_facts(facts: CardFacts, run: Run) -> CardFacts:
    """The facts, with what the run tells where they are silent."""
    record, base = run.record, shown_checkpoint(run.base)
    clips = f"{record.num_clips} clips of {record.num_labels} labels"
    return replace(
        facts,
        summary=facts.summary or f"Open-vocabulary action recognition: {base}, fine-tuned on {run.data_title}.",
        base_model=facts.base_model or repository(run.base),
        training=facts.training or _training(run, base, clips),
        evaluation_note=facts.evaluation_note or _evaluation_note(run),
        limitations=facts.limitations or _limitations(run),
    )


def _training(run: Run, base: str, clips: str) -> str:
    arguments, record = run.recipe.training, run.record
    if record.num_steps == 0:
        return f"No step was trained: the weights are those of {base}, with {record.num_labels} labels stored."
    steps = f"{counted(record.num_steps, 'step')} of {run.recipe.total_batch_size} clips"
    if "num_train_epochs" in arguments and "max_steps" not in arguments:
        steps += f" ({counted(arguments['num_train_epochs'], 'epoch')})"
    version = record.versions.get("froster-hf", "")
    return f"Fine-tuned from {base} on {run.data_title}, {clips}: {steps}, with froster-hf {version:.60}".strip() + "."


def _evaluation_note(run: Run) -> str:
    before = [
        f"{numbers['before']} % before the training, {numbers['top1']} % after it"
        for numbers in run.record.evaluation.values()
        if "before" in numbers and "top1" in numbers
    ]
    return f"Top-1 accuracy on the same videos: {before[0]}." if before else ""


def _limitations(run: Run) -> tuple[str, ...]:
    if run.recipe.data.held_out is None or not run.record.evaluation:
        return ()
    return (
        "Measured on held-out videos of the same collection only; other cameras, places and people were not tested.",
    )


def run_results(run: Run) -> list[MeasuredResult]:
    """The accuracies on a run's evaluation videos, without top-5 for at most five labels, which is always 100 %.

    Raises:
        ValueError: a record whose numbers are none.
    """
    try:
        return list(_results(run))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`evaluation` of the run's record is not what a training writes: {type(error).__name__} "
            f"{one_line(str(error), limit=300)}"
        ) from error


def _results(run: Run) -> Iterator[MeasuredResult]:
    held_out = run.recipe.data.held_out is not None
    for part, numbers in run.record.evaluation.items():
        num_labels = numbers["num_labels"]
        for metric in metrics_of("one_label", shown_in="card"):
            if metric not in numbers or (metric == "top5" and num_labels <= 5):
                continue
            yield MeasuredResult(
                dataset=run.data_name,
                part=part,
                metric=metric,
                value=numbers[metric],
                protocol_name="held-out videos" if held_out else "evaluation videos of the training",
                protocol="held_out" if held_out else "training_evaluation",
                num_clips=numbers["num_clips"],
                num_labels=num_labels,
            )
