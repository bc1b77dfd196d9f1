"""What decides the weights of a run: a checkpoint goes on only where all of it is as it was.

transformers' Trainer takes up a checkpoint whatever has changed since. With another learning rate it goes on with the
one that the scheduler had stored, with a larger batch it may find that all steps are done, and a Trainer that is built
from a checkpoint's model would take that for its teacher. So the checkpoints say what the run was started with.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from ..data.video_table import pixel_options, table_fingerprint
from ..printing import printable
from ..processing.text_files import read_json
from .checkpointing import CheckpointedCallback, ResumeError
from .prompts import LabelPrompts
from .teacher import FrozenTeacher

FILE_NAME = "run_identity.json"
# Training arguments that a resumed run may have others of: where and how fast it runs, what is logged, measured, saved
# and pushed. All others decide the weights, those of later releases of transformers too.
FREE_PREFIXES = (
    *("activation_checkpointing", "dataloader_", "ddp_", "do_", "eval_", "fsdp", "gradient_checkpointing", "hub_"),
    *("include_", "log_", "logging_", "save_", "torch_", "trackio_"),
)
DECIDING_DESPITE_PREFIX = ("dataloader_drop_last", "dataloader_in_order")
# Of them, those that are compared as what they give: the length of the run, the seed of clips and prompts, the weights
# and the precision of the teacher.
COMPARED_BY_EFFECT = ("num_train_epochs", "max_steps", "data_seed", "teacher", "teacher_dtype")
FREE_ARGUMENTS = (
    *COMPARED_BY_EFFECT,
    # Compared as the clips of a step.
    *("per_device_train_batch_size", "gradient_accumulation_steps"),
    *("batch_eval_metrics", "bf16_full_eval", "debug", "deepspeed", "disable_tqdm", "enable_jit_checkpoint"),
    *("fp16_full_eval", "full_determinism", "greater_is_better", "load_best_model_at_end", "local_rank"),
    *("max_consecutive_nonfinite_steps", "max_undecodable_share", "metric_for_best_model", "output_dir"),
    *("parallelism_config", "per_device_eval_batch_size", "prediction_loss_only", "project", "push_to_hub"),
    *("report_to", "restore_callback_states_from_checkpoint", "resume_from_checkpoint", "run_name"),
    *("skip_memory_metrics", "text_chunk_size", "use_cpu"),
)
# Fields of a model's configuration that say nothing of what it computes.
FREE_FIELDS = (
    *("_name_or_path", "architectures", "auto_map", "transformers_version"),
    *("id2label", "label2id", "label_weights"),
)

Identity = Mapping[str, Any]


class RunIdentity(CheckpointedCallback):
    """Writes the identity of the run into its checkpoints, and refuses those of another.

    Args:
        describe: the identity as it is now: JSON values by name, or sections of them; called once per training, since
            hashing a teacher takes a second.
    """

    def __init__(self, describe: Callable[[], Identity]):
        self.describe = describe
        self._identity: dict[str, Any] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Of this run, by name."""
        if self._identity is None:
            # As JSON will give it back.
            self._identity = json.loads(json.dumps(self.describe(), default=str))
        return self._identity

    def save_state(self, checkpoint: Path) -> None:
        """Values and hashes as JSON."""
        (checkpoint / FILE_NAME).write_text(json.dumps(self.identity, indent=1), encoding="utf-8")

    def check_state(self, checkpoint: Path) -> None:
        """Compare with this run's own."""
        path = checkpoint / FILE_NAME
        stored = read_json(path, finite=False) if path.is_file() else {}
        missing = [name for name in self.identity if name not in stored]
        if missing:
            raise ResumeError(
                f"{checkpoint} does not say which {', '.join(missing)} its run was started with, so nobody can tell "
                "whether this run would go on with the same. Begin a new run from its weights with `from_pretrained`."
            )
        if differences := differing(stored, self.identity):
            raise ResumeError(
                f"{checkpoint} belongs to another run: {'; '.join(differences)}. Build the Trainer as for the first "
                "start, from the model before the training and not from a checkpoint, or train in another folder."
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The next training may be of a model that is built again."""
        self._identity = None


def differing(stored: Identity, current: Identity) -> list[str]:
    """What differs, each as "name was VALUE and is VALUE now".

    Of sections, only the names that both have are compared: what one side lacks is a field of another release.
    """
    found = []
    for name, now in current.items():
        was = stored[name]
        if isinstance(now, Mapping) and isinstance(was, Mapping):
            pairs = {key: (was[key], now[key]) for key in now if key in was}
        else:
            pairs = {name: (was, now)}
        found += [f"{key} was {_shown(a)} and is {_shown(b)} now" for key, (a, b) in pairs.items() if a != b]
    return found


def identity_of(
    *,
    args: TrainingArguments,
    model: PreTrainedModel,
    teacher: FrozenTeacher | None,
    prompts: LabelPrompts,
    train_dataset: Any,
    seed: int,
) -> dict[str, Any]:
    """By name, what has to be the same when a run is resumed.

    Args:
        args: arguments of the training.
        model: the student; its weights are the checkpoint's.
        teacher: if there is one.
        prompts: prompts of the training's labels.
        train_dataset: clips of a table, or any other data set, of which only its kind and length are known.
        seed: seed of clips and prompts.
    """
    text = json.dumps([prompts.labels, prompts.templates, prompts.input_ids.tolist()])
    precision = {} if teacher is None else {"teacher_dtype": _precision_of(teacher)}
    return {
        "teacher": "none" if teacher is None else teacher.fingerprint(),
        "labels or templates": hashlib.sha256(text.encode()).hexdigest(),
        "data": data_identity(train_dataset),
        "model": model_identity(model),
        "arguments": {**argument_identity(args), **precision, "data_seed": seed},
    }


def _precision_of(teacher: FrozenTeacher) -> str:
    """The precision of a teacher's passes, whether it was asked for or follows from that of the training."""
    weights, frames = (str(dtype).removeprefix("torch.") for dtype in (teacher.dtype, teacher.frames_dtype))
    return weights if frames == weights else f"{weights}, of frames {frames}"


def argument_identity(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that decide the weights, and what some of them make together."""
    fields = {name: value for name, value in args.to_dict().items() if decides(name)}
    clips_at_once = args.train_batch_size * args.world_size
    fields["clips per step"] = clips_at_once * args.gradient_accumulation_steps
    if fields.get("objective") == "symmetric_kl":
        # Clips that are accumulated are not negatives of each other.
        fields["clips at once"] = clips_at_once
    fields["length"] = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
    return fields


def decides(argument: str) -> bool:
    """Whether a training argument decides the weights by its own value; see also `COMPARED_BY_EFFECT`."""
    free = argument in FREE_ARGUMENTS or argument.startswith(FREE_PREFIXES)
    return not free or argument in DECIDING_DESPITE_PREFIX


def model_identity(model: PreTrainedModel) -> dict[str, Any]:
    """The configuration, and the precision of the weights."""
    fields = {name: value for name, value in model.config.to_dict().items() if name not in FREE_FIELDS}
    return {**fields, "dtype": str(model.dtype)}


def data_identity(dataset: Any) -> dict[str, Any]:
    """Of clips of a table, the table and what is done to its pixels; of others, what can be known."""
    length = len(dataset) if hasattr(dataset, "__len__") else None
    if not hasattr(dataset, "video_processor"):
        return {"data set": type(dataset).__name__, "data set length": length}
    processor = dataset.video_processor
    options = {**(processor.to_dict() if hasattr(processor, "to_dict") else {}), **dataset.options}
    return {"data set length": length, "data set": table_fingerprint(dataset.dataset), **pixel_options(options)}


def _shown(value: Any) -> str:
    """A value in a message; of hashes the beginning."""
    if isinstance(value, str) and len(value) == 64:
        return printable(value[:8])
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 80 else text[:80] + "...")
