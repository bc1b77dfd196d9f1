"""What a run was started with and a checkpoint of the Trainer does not say: its teacher, its prompts, its seed.

A run resumed with another of them would go on without a word, as another run. The teacher above all: by default it is
the student as it was at the start, so a Trainer that is built from a checkpoint's model would learn from itself.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from .checkpointing import CheckpointedCallback, ResumeError
from .prompt_sampling import LabelPrompts
from .teacher import FrozenTeacher

FILE_NAME = "run_identity.json"


class RunIdentity(CheckpointedCallback):
    """Writes the identity of the run into its checkpoints, and refuses those of another.

    Args:
        describe: the identity as it is now, by name; called once a training, since hashing a teacher takes a second.
    """

    def __init__(self, describe: Callable[[], dict[str, str]]):
        self.describe = describe
        self._identity: dict[str, str] | None = None

    @property
    def identity(self) -> dict[str, str]:
        """Of this run, by name."""
        if self._identity is None:
            self._identity = self.describe()
        return self._identity

    def save_state(self, checkpoint: Path) -> None:
        """Names and hashes as JSON."""
        (checkpoint / FILE_NAME).write_text(json.dumps(self.identity, indent=1), encoding="utf-8")

    def load_state(self, checkpoint: Path) -> None:
        """Compare, and keep this run's own."""
        path = checkpoint / FILE_NAME
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        others = [name for name in self.identity if stored.get(name) != self.identity[name]]
        if others:
            raise ResumeError(
                f"{checkpoint} belongs to a run with another {' and '.join(others)}. Build the Trainer as for the "
                "first start: from the model before the training, not from a checkpoint, and with the same labels, "
                "templates and seed."
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The next training may be of a model built anew."""
        self._identity = None


def identity_of(*, teacher: FrozenTeacher | None, prompts: LabelPrompts, seed: int) -> dict[str, str]:
    """By name, what has to be the same when a run is resumed."""
    text = json.dumps([prompts.labels, prompts.templates, prompts.input_ids.tolist()])
    return {
        "teacher": _teacher_hash(teacher),
        "list of labels or templates": hashlib.sha256(text.encode()).hexdigest(),
        "seed": str(seed),
    }


def _teacher_hash(teacher: FrozenTeacher | None) -> str:
    if teacher is None:
        return "none"
    if teacher.shared:  # its weights are the student's frozen ones, which the checkpoint holds
        return "the student"
    digest = hashlib.sha256()
    for name, tensor in teacher.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
