"""`train_on_videos`: from a folder of class folders to a trained model and what it gained, with settings by rule.

    videos --plan_training--> a recipe, with a reason for each setting --train_recipe--> model
        --evaluate_videos--> accuracy on the held-out videos, beside that of the model that the training began from

The rules are for the sizes that people have, tens to thousands of videos; any field of the recipe can be given.
"""

import dataclasses
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..checkpoint_loading import (
    DEFAULT_MODEL,
    checkpoint_path,
    hub_asked_once,
    is_path,
    load_pipeline,
    model_not_found,
    refuse_foreign_parts,
)
from ..data.catalogue import read_videos
from ..data.video_table import describe_table, label_array, label_names
from ..evaluation.own_list import evaluate_videos
from ..modeling.tables_froster import TEMPORAL_MODULES
from ..printing import counted, listing, printable
from ..settings import override_fields, read_fields, yaml_text
from ..whole_files import folder_for_results, refuse_link, refuse_results, write_text_whole
from .arguments import FrosterTrainingArguments
from .checkpointing import MODEL_NAME, parts_of_run
from .recipe_run import evaluation_notes, read_recipe_data, train_recipe, training_arguments
from .recipes import Recipe, RecipeData, as_file, output_folder
from .run_record import read_record, write_record

# A name that means a direction of motion, or one of two opposite actions: played backwards, it would be the other.
DIRECTION_WORDS = re.compile(
    r"\b(left|right|up|down|for|back|counter|anti)?(wards?|clockwise)\b|\b(left|right|up|down)\b"
    r"|\b(push|pull|open|clos|shut|enter|exit|leav|lift|lower|rais|insert|remov|(un)?fold|(un)?zip|ascend|descend|climb"
    r"|fill|empty|empti)(e|p)?(s|es|ing)?\b"
)
HELD_OUT = 0.2
EVALUATION_NAME = "evaluation"
# Optimizer steps that a training on few videos has: enough to learn them, too few to forget CLIP.
TARGET_STEPS = 300
MIN_EPOCHS, MAX_EPOCHS = 3, 20
# Of all steps, so that a training of any length reaches its learning rate.
WARMUP_SHARE = 0.1
# Widths of vision towers below it are those of toys, which learn at other rates.
SMALLEST_REAL_WIDTH = 384


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """A training on own videos, before it begins.

    Args:
        recipe: all of it.
        description: classes and their counts, in lines.
        reasons: why each setting is what it is, a line each.
        warnings: what a reader should know before it begins, a line each.
    """

    recipe: Recipe
    description: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        warned = [f"Note: {line}" for line in self.warnings]
        return "\n".join([self.description, "Settings:", *(f"  {line}" for line in self.reasons), *warned])


def plan_training(
    videos: str | os.PathLike,
    *,
    model: str | os.PathLike = DEFAULT_MODEL,
    eval_videos: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,
    output_dir: str | os.PathLike | None = None,
    overrides: Sequence[str] = (),
) -> TrainingPlan:
    """What `train_on_videos` would do.

    Args:
        videos: a folder of class folders, or a list of videos and labels.
        model: a CLIP or FROSTER checkpoint to begin from: a folder, a name on the Hub, or `small`.
        eval_videos: videos to measure on, as `videos`, among the classes of both; by default a fifth of each class is
            held out.
        root: for a list, the folder that its paths begin in.
        output_dir: where the run is written; `runs/<name of the videos>` by default.
        overrides: `field=value` of the recipe, such as `training.num_train_epochs=5`.

    Raises:
        ValueError: there are fewer than two classes, or no such checkpoint or field.
        AnnotationError: videos that cannot be read.
    """
    table = read_videos(videos, root=root)
    labels, names = label_array(table), label_names(table)
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    if np.count_nonzero(counts) < 2:
        raise ValueError(f"{printable(str(videos))} has one class; to tell actions apart, there must be two or more.")
    # `..` and `.` are called something, too.
    place = Path(os.path.abspath(videos))
    name = place.name if place.is_dir() else place.stem
    fields: dict[str, Any] = {
        "name": name,
        "about": f"Fine-tuned on {place.name}.",
        "model": {"checkpoint": os.fspath(model)},
        "data": _data_fields(videos, eval_videos, root),
        "output_dir": str(output_dir or Path("runs") / name),
    }
    # What is given decides on what the rules go by: the model, and how many videos there are to train on.
    given = read_fields(Recipe, override_fields(fields, overrides), where="the training")
    config = _read_config(given.model.checkpoint)
    train, measured = read_recipe_data(given.data, given.world)
    directed = [name for name in names if DIRECTION_WORDS.search(name.casefold())]
    chosen, why_rate = _choose_settings(len(train), config, directed=bool(directed))
    if "warmup_epochs" not in override_fields({}, overrides):
        chosen["training"]["warmup_steps"] = WARMUP_SHARE
    fields["model"] |= _student_fields(config)
    recipe = read_fields(Recipe, override_fields({**fields, **chosen}, overrides), where="the training")
    args = training_arguments(recipe, num_clips=len(train))
    reasons = [
        _measured(recipe.data, sum(map(len, measured.values()))),
        *_settings(args, chosen["training"], why_rate, len(train)),
        *(f"{printable(override)}, as given" for override in overrides),
    ]
    warnings = (
        [_about_direction(directed, recipe.model.temporal_module or config["temporal_module"])] if directed else []
    )
    if few := [name for name, count in zip(names, counts) if 0 < count < 5]:
        warnings.append(f"fewer than 5 videos each, which says little: {listing(few, limit=10)}.")
    warnings += evaluation_notes(train, measured)
    return TrainingPlan(recipe, describe_table(table), tuple(reasons), tuple(warnings))


def train_on_videos(
    videos: str | os.PathLike | TrainingPlan, *, resume: bool = False, overwrite: bool = False, **planning: Any
) -> dict[str, Any]:
    """Trains with distillation from the model that it begins from, and measures both on the held-out videos.

    Args:
        videos: a folder, a list, or the plan of a training.
        resume: go on from the newest sound checkpoint of the output folder.
        overwrite: delete the run that is in the output folder.
        planning: further options of `plan_training`.

    Returns:
        `model` (folder of the trained model), `evaluation` (folder of the page with what went wrong), and `trained`,
        `before` and `difference`: top-1 in percent on the `num_held_out` held-out videos, the last with its interval
        `difference_interval`, `None` where they are too few for one. All `None` where nothing is held out.

    Raises:
        RunExistsError: there is a run in the output folder, and neither of the two was asked for.
        ResultExistsError: there are files in the output folder that would be replaced, and no run that has left them.
        ValueError: see `plan_training`.
    """
    plan = videos if isinstance(videos, TrainingPlan) else plan_training(videos, **planning)
    folder = output_folder(plan.recipe)
    recipe_file = folder / "recipe.yaml"
    with folder_for_results(folder):
        # Found out before the training, not after it.
        refuse_link(folder / EVALUATION_NAME)
        # A run that has left them is refused below, by its name.
        if not (resume or overwrite or parts_of_run(folder, of_recipe=True)):
            refuse_results(recipe_file, folder / EVALUATION_NAME, overwrite=False)
        trainer = train_recipe(plan.recipe, resume=resume, overwrite=overwrite)
    # The recipe that was run, for `froster train` to run again.
    write_text_whole(recipe_file, yaml_text(as_file(plan.recipe)))
    result: dict[str, Any] = {"model": str(folder / MODEL_NAME), "evaluation": None}
    _, held_out = read_recipe_data(plan.recipe.data, plan.recipe.world)
    if not held_out:
        names = ("trained", "before", "difference", "difference_interval", "num_held_out")
        return {**result, **dict.fromkeys(names)}
    table: Dataset = held_out["all"]
    start = plan.recipe.model.checkpoint
    device = trainer.args.device
    report = evaluate_videos(
        table,
        name=f"{plan.recipe.name}, held out",
        models={
            "trained": load_pipeline(folder / MODEL_NAME, device=str(device)),
            f"before ({start})": load_pipeline(start, device=str(device)),
        },
        output_dir=folder / EVALUATION_NAME,
        overwrite=True,
    )
    trained, before = report["models"].values()
    interval = before["difference_interval"]
    if trainer.is_world_process_zero() and (record := read_record(folder)) is not None:
        measured = {name: trained[name] for name in ("top1", "top5", "num_clips", "num_labels") if name in trained}
        everything = {**measured, "before": before["top1"]}
        write_record(folder, dataclasses.replace(record, evaluation={"all": everything}))
    return {
        **result,
        "evaluation": str(folder / EVALUATION_NAME),
        "trained": trained["top1"],
        "before": before["top1"],
        # Of the training, not of what was before it.
        "difference": _negative(before["difference"]),
        "difference_interval": interval and [_negative(end) for end in reversed(interval)],
        "num_held_out": trained["num_clips"],
    }


def _negative(value: float) -> float:
    """Without the sign of a zero."""
    return round(0.0 - value, 2)


def _read_config(model: str) -> dict[str, Any]:
    """The configuration of the checkpoint to begin from."""
    path = checkpoint_path(model)
    if is_path(path) and not os.path.exists(path):
        raise model_not_found(model)
    try:
        with hub_asked_once(path):
            return refuse_foreign_parts(path)
    except OSError as error:
        if os.path.exists(path):
            raise ValueError(f"{printable(model)} is not a checkpoint: it has no readable config.json.") from error
        raise model_not_found(model, error) from error


def _student_fields(config: dict[str, Any]) -> dict[str, Any]:
    """What is built on a CLIP; a FROSTER checkpoint has its own."""
    if config.get("model_type") == "froster":
        return {}
    return {"temporal_module": "local_attention", "sampling": "uniform"}


def _data_fields(
    videos: str | os.PathLike, eval_videos: str | os.PathLike | None, root: str | os.PathLike | None
) -> dict[str, Any]:
    videos = Path(videos)
    fields: dict[str, Any] = {"format": "folder", "root": str(videos)}
    if not videos.is_dir():
        fields = {"format": "list", "root": str(root or videos.parent), "annotations": str(videos)}
    if eval_videos is None:
        return {**fields, "held_out": HELD_OUT}
    if not os.path.exists(eval_videos):
        raise ValueError(f"The videos to measure on, {printable(os.fspath(eval_videos))}, are not there.")
    if Path(eval_videos).is_dir() != videos.is_dir():
        raise ValueError("The videos to train and to measure on must both be folders, or both lists.")
    return {**fields, ("eval_root" if videos.is_dir() else "eval_annotations"): str(eval_videos)}


def _choose_settings(num_videos: int, config: dict[str, Any], *, directed: bool) -> tuple[dict[str, Any], str]:
    """Fields of the recipe for a number of videos to train on and a model, and why its learning rate is what it is."""
    on_gpu = torch.cuda.is_available()
    total = int(np.clip(2 ** int(np.log2(max(num_videos / 8, 1))), 8, 64))
    epochs = int(np.clip(round(TARGET_STEPS / max(1, num_videos // total)), MIN_EPOCHS, MAX_EPOCHS))
    width = config.get("vision_config", {}).get("hidden_size", 768)
    if width < SMALLEST_REAL_WIDTH:
        learning_rate, why = 5e-4, f"a toy model, with a vision tower {width} wide"
    elif num_videos >= 10_000:
        learning_rate, why = 3.33e-6, "the published one, for large data"
    else:
        learning_rate, why = 1e-5, "three times the published one, since there are few steps"
    training: dict[str, Any] = {
        "distillation": "residual",
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": 8 if on_gpu else 2,
        "dataloader_num_workers": min(4, os.cpu_count() or 1) if on_gpu else 1,
        "dataloader_pin_memory": on_gpu,
        "train_video_options": {"sampling": "random_segment", **({"flip_probability": 0.0} if directed else {})},
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_strategy": "epoch",
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
    }
    return {"total_batch_size": total, "training": training}, why


def _settings(
    args: FrosterTrainingArguments, chosen: Mapping[str, Any], why_rate: str, num_videos: int
) -> Iterator[str]:
    """What will be run, a line per setting, with its reason where it is the rule's.

    Args:
        args: of the training.
        chosen: training arguments of the rule.
        why_rate: why its learning rate is what it is.
        num_videos: that are trained on.
    """
    at_once, accumulated = args.train_batch_size * args.world_size, args.gradient_accumulation_steps
    # As the Trainer counts: a step's last batches may be missing at the end of an epoch.
    batches = num_videos / at_once
    per_epoch = math.ceil((math.floor if args.dataloader_drop_last else math.ceil)(batches) / accumulated)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * max(1, per_epoch))
    epochs = args.num_train_epochs if args.max_steps <= 0 else steps / max(1, per_epoch)
    length = f"{counted(epochs, 'epoch')} of {counted(num_videos, 'video')}"
    yield f"{length}, {at_once * accumulated} per step: {counted(steps, 'step')}"
    places = f" on each of {args.world_size} processes" if args.world_size > 1 else ""
    device = "no GPU" if args.device.type == "cpu" else "a GPU"
    precision = ", in bfloat16" if args.bf16 else ", in float16" if args.fp16 else ""
    workers = args.dataloader_num_workers
    decoding = f"{workers} decoding process{'' if workers == 1 else 'es'}"
    yield f"{counted(args.train_batch_size, 'video')} at a time{places}, {decoding}: {device} is there{precision}"
    is_chosen = args.learning_rate == chosen["learning_rate"]
    yield f"learning rate {args.learning_rate:g}: {why_rate if is_chosen else 'as given'}"
    rising = args.get_warmup_steps(steps)
    if 0 < args.warmup_steps < 1:
        yield f"the learning rate rises over the first {args.warmup_steps:.0%} of the steps ({rising} of {steps})"
    elif rising:
        yield f"the learning rate rises over the first {rising} of {counted(steps, 'step')}"
    if args.distillation == "none":
        yield "no distillation, as given: the model may forget what it knew"
    else:
        yield (
            f"distillation ({args.distillation}, weight {args.distillation_weight:g}): the model stays near the one "
            "that it begins from, and keeps its words"
        )
    if "flip_probability" in chosen["train_video_options"]:
        options = args.train_video_options
        flips = not isinstance(options, Mapping) or options.get("flip_probability") != 0
        yield "mirrored clips, as given" if flips else "no mirrored clips: class names speak of directions"


def _measured(data: RecipeData, num_videos: int) -> str:
    """On what the model is measured."""
    if not num_videos:
        return "nothing to measure on: the accuracy will not be known"
    if data.held_out is None:
        return f"{num_videos} others to measure on"
    return f"{counted(num_videos, 'video')} held out to measure on: {data.held_out:.0%} of every class, at least one"


def _about_direction(directed: Sequence[str], own: str) -> str:
    seeing = [name for name, entry in TEMPORAL_MODULES.items() if not entry.time_symmetric]
    named = listing(directed, limit=5)
    if own in seeing:
        return f"class names speak of directions ({named}); the temporal module {own} sees them."
    return (
        f"class names speak of directions ({named}). The temporal module {own} cannot tell a clip from the same clip "
        f"played backwards; {', '.join(seeing)} can: model.temporal_module=directional_attention"
    )
