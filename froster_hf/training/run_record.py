"""What a run leaves beside its model, so that the model's card can say what it was trained on and how good it is.

run/model/                the weights
run/run_record.json       SHA-256 of these weights, recipe, data, accuracies on the evaluation videos
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint_files import inside
from ..checkpoint_loading import SHIPPED_CHECKPOINTS
from ..evaluation.metrics import metrics_of
from ..evaluation.report import package_versions
from ..fingerprints import architecture_of, model_fingerprint
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..printing import printable
from ..processing.text_files import read_json
from ..settings import read_fields
from ..weights_license import FROSTER_LICENSE, IDENTIFIER, stated_license
from ..whole_files import write_text_whole
from .checkpointing import RECORD_NAME
from .clip_datasets import class_names
from .losses import num_skipped_steps
from .recipes import CHECKPOINT_FIELDS, Recipe

MAX_RECORD_BYTES = 1 << 20
# Far more than a training writes: `all`, or `base` and `novel`.
MAX_PARTS = 16
MAX_COUNT = 10**12
PERCENTAGES = {*metrics_of("one_label"), "before"}


@dataclass(frozen=True)
class RunRecord:
    """A run, as it is written beside its model.

    Args:
        weights: `model_fingerprint` of the model in the run's folder.
        recipe: all fields of the [`Recipe`].
        num_clips: clips trained on.
        num_labels: their labels.
        num_steps: optimizer steps, without those that were skipped.
        evaluation: part (`all`, `base`, `novel`) -> `top1` and `top5` in percent, `num_clips`, `num_labels`, and,
            where it was measured, `before`: top-1 of the model that the training began from.
        versions: of the packages.
        base_license: license of the weights that the training began from, where it was known then.
        architecture: `architecture_of` that model; of earlier records, it is not known.
    """

    weights: str
    recipe: dict[str, Any]
    num_clips: int
    num_labels: int
    num_steps: int
    evaluation: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    base_license: str | None = None
    architecture: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if len(self.evaluation) > MAX_PARTS:
            raise ValueError(
                f"{RECORD_NAME}: evaluation has {len(self.evaluation)} parts; at most {MAX_PARTS} are read."
            )
        if self.base_license is not None and not IDENTIFIER.fullmatch(self.base_license):
            raise ValueError(
                f"{RECORD_NAME}: base_license is {printable(repr(self.base_license), limit=60)}; it must be a license "
                "as the Hub writes it, such as apache-2.0, or null."
            )
        numbers = {"num_clips": self.num_clips, "num_labels": self.num_labels, "num_steps": self.num_steps}
        for part, own in self.evaluation.items():
            numbers |= {f"evaluation, {part}, {name}": value for name, value in own.items()}
        for name, value in numbers.items():
            most = 100 if name.rpartition(", ")[2] in PERCENTAGES else MAX_COUNT
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise ValueError(
                    f"{RECORD_NAME}: {printable(name)} is {printable(repr(value), limit=60)}; it must be a number "
                    f"from 0 to {most}."
                )


def record_run(recipe: Recipe, trainer: Any, *, model: Path, base_license: str | None) -> RunRecord:
    """The record of a run whose model was just saved, before it is measured.

    Args:
        recipe: of the run.
        trainer: a `FrosterTrainer` that has trained.
        model: folder of the saved model, whose weights may be merged or averaged from the trainer's.
        base_license: see [`RunRecord`].
    """
    saved = FrosterForVideoClassification.from_pretrained(model, dtype="auto")
    return RunRecord(
        weights=model_fingerprint(saved),
        recipe=_with_whole_paths(recipe.to_dict()),
        num_clips=len(trainer.train_dataset),
        num_labels=len(class_names(trainer.train_dataset) or ()),
        num_steps=trainer.state.global_step - num_skipped_steps(trainer.state),
        versions=package_versions(),
        base_license=base_license,
        architecture=architecture_of(saved),
    )


def _with_whole_paths(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's fields in which folders of checkpoints are none that another working directory has, and no names on
    the Hub, which look alike (`owner/name`)."""
    for field in CHECKPOINT_FIELDS:
        section, name = field.split(".")
        checkpoint = recipe[section].get(name)
        if checkpoint is not None and checkpoint not in SHIPPED_CHECKPOINTS and os.path.isdir(checkpoint):
            recipe[section] = {**recipe[section], name: os.path.abspath(checkpoint)}
    return recipe


def measured_parts(trainer: Any, metrics: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The `evaluation` of a record.

    Args:
        trainer: a `FrosterTrainer` that has data to evaluate on.
        metrics: what its `evaluate` returned.
    """
    evaluation = {}
    for part, clips in trainer.eval_dataset.items():
        found = {
            name: round(metrics[key], 2)
            for name in metrics_of("one_label")
            if (key := f"eval_{part}_{name}") in metrics
        }
        evaluation[part] = {**found, "num_clips": len(clips), "num_labels": len(class_names(clips) or ())}
    return evaluation


def license_of_base(checkpoint: str) -> str | None:
    """What a checkpoint states, or else what the run that trained it had found out about its own start.

    FROSTER's holds for all that is trained from it, whatever else is stated of that.
    """
    earlier = read_record(Path(checkpoint).resolve().parent) if os.path.isdir(checkpoint) else None
    known = [stated_license(checkpoint), None if earlier is None else earlier.base_license]
    return FROSTER_LICENSE if FROSTER_LICENSE in known else known[0] or known[1]


def write_record(folder: Path, record: RunRecord) -> None:
    """Write the record of the run in a folder."""
    text = json.dumps(dataclasses.asdict(record), indent=2, ensure_ascii=False)
    write_text_whole(folder / RECORD_NAME, text + "\n")


def read_record(folder: str | os.PathLike[str]) -> RunRecord | None:
    """The record of the run in a folder; `None` where there is none.

    Raises:
        ValueError: the file is there, but is not such a record, or a link that leads elsewhere.
    """
    path = inside(Path(folder), RECORD_NAME)
    if not path.is_file():
        return None
    return read_fields(RunRecord, read_json(path, max_bytes=MAX_RECORD_BYTES), where=str(path))
