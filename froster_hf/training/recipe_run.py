"""A recipe, run: model, processor, data and arguments of it, a `FrosterTrainer`, and the model saved at the end."""

import copy
import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..checkpoint_loading import checked_config, checkpoint_path, hub_asked_once, is_path, naming_checkpoint
from ..data.catalogue import FORMATS, DataFiles, count_differences, read_split
from ..data.label_splits import base_and_novel_labels, hold_out, keep_labels, sample_shots
from ..data.official_lists import Split
from ..data.video_table import label_array, label_names, with_labels
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..printing import get_logger, json_text, listing, one_line, printable, without_warnings
from ..processes import refuse_processes_alone
from ..processing.label_files import read_descriptions
from ..processing.label_matching import match_labels, shared_labels
from ..processing.processing_froster import FrosterProcessor
from ..processing.prompts_froster import resolve_templates
from ..whole_files import folder_for_results, prepare_file, write_text_whole
from .argument_errors import naming_arguments
from .arguments import FrosterTrainingArguments
from .checkpointing import MODEL_NAME, RECORD_NAME, RESULTS_NAME, refuse_run, run_alone_in
from .log_lines import show_lines
from .recipes import Recipe, RecipeData, RecipeModel, RecipeWorld, output_folder
from .run_record import license_of_base, measured_parts, record_run, write_record
from .teacher import FrozenTeacher
from .trainer import FrosterTrainer

logger = get_logger(__name__)

# Fields of `RecipeModel` that build a student from CLIP: of its configuration, its video processor, its processor.
MODEL_FIELDS = ("temporal_module", "temporal_radius", "temporal_pooling", "num_frames", "adapter_size")
VIDEO_FIELDS = ("num_frames", "sampling", "frame_stride")
PROMPT_FIELDS = ("prompt_templates",)


def train_recipe(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> FrosterTrainer:
    """Trains, evaluates where the recipe has data for it, and saves the model for inference in `output_dir/model`.

    Args:
        recipe: see [`load_recipe`].
        resume: go on from the newest sound checkpoint of `output_dir`.
        overwrite: delete the run that is in `output_dir`.

    Returns:
        The Trainer, with what it logged in `trainer.state.log_history`.

    Raises:
        RunExistsError: there is a run in `output_dir`, and neither of the two was asked for.
        ResultExistsError: there are results in `output_dir`, and no run that has left them.
        ValueError: another run is at work in `output_dir`.
        OSError: nothing can be written to `output_dir`.
        NonFiniteError: the trained model has no finite scores of videos to measure on. It is saved, and nothing is
            recorded as measured.
    """
    folder = output_folder(recipe)
    with folder_for_results(folder):
        if not (resume or overwrite):
            refuse_run(folder, of_recipe=True)
        for name in (RESULTS_NAME, RECORD_NAME):  # now, and not when all steps are trained
            prepare_file(folder / name, overwrite=True)
        trainer = build_trainer(recipe)
        # Now as well: a damaged file beside the checkpoint is an error.
        base_license = license_of_base(checkpoint_path(recipe.model.checkpoint))
    with run_alone_in(folder, resume=resume, overwrite=overwrite):
        if trainer.args.num_train_epochs > 0:
            trainer.train(resume_from_checkpoint=resume or None, overwrite=overwrite)
        # Before it is measured, which may fail.
        trainer.save_model_whole(folder / MODEL_NAME)
        if trainer.is_world_process_zero():
            record = record_run(recipe, trainer, model=folder / MODEL_NAME, base_license=base_license)
            # Of a run that is gone on with: what an earlier model had.
            (folder / RESULTS_NAME).unlink(missing_ok=True)
            write_record(folder, record)
        metrics = trainer.evaluate() if trainer.eval_dataset else {}
        if metrics and trainer.is_world_process_zero():
            known = {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}
            write_text_whole(folder / RESULTS_NAME, json_text(known, indent=4))
            write_record(folder, dataclasses.replace(record, evaluation=measured_parts(trainer, metrics)))
    return trainer


def build_trainer(
    recipe: Recipe,
    *,
    make_clips: Callable[..., Any] | None = None,
    make_teacher: Callable[[FrosterTrainingArguments], FrozenTeacher | None] | None = None,
) -> FrosterTrainer:
    """The Trainer of a recipe, ready to train.

    Args:
        recipe: see [`load_recipe`].
        make_clips: makes the training set of its table and, by keyword, of the `video_processor`; by default the
            table is decoded in the workers.
        make_teacher: makes the teacher of the arguments; by default, and where it gives `None`, it is the one that
            they describe.
    """
    model, processor = build_model(recipe.model)
    train, evaluation = read_recipe_data(recipe.data, recipe.world)
    if recipe.data.descriptions is not None:
        names = list(dict.fromkeys(name for table in (train, *evaluation.values()) for name in label_names(table)))
        processor.label_descriptions = match_labels(
            read_descriptions(recipe.data.descriptions),
            names,
            labels_from=recipe.data.descriptions,
            allow_more=True,
        ).described
    for note in evaluation_notes(train, evaluation):
        logger.info("%s", note)
    arguments = training_arguments(recipe, num_clips=len(train))
    metric = arguments.metric_for_best_model
    # Looked up behind every evaluation, also where it is a schedule that goes by it.
    if metric is not None and evaluation and arguments.eval_strategy != "no":
        arguments.metric_for_best_model = _metric_of_a_part(metric, list(evaluation))
    trainer = FrosterTrainer(
        model,
        arguments,
        train_dataset=make_clips(train, video_processor=processor.video_processor) if make_clips else train,
        eval_dataset=evaluation or None,
        processing_class=processor,
        teacher=make_teacher(arguments) if make_teacher else None,
    )
    show_lines(trainer)
    return trainer


def _metric_of_a_part(metric: str, parts: Sequence[str]) -> str:
    """The metric by which a model is the best, or a schedule goes, among those that the parts of an evaluation have;
    the Trainer would first look for it behind an epoch.

    Raises:
        ValueError: it is that of none of them, or of which one is not said.
    """
    name = metric.removeprefix("eval_")
    if any(name.startswith(f"{part}_") for part in parts):
        return metric
    if name == "loss" and len(parts) == 1:
        return f"{parts[0]}_loss"
    choices = ", ".join(f"{part}_loss" for part in parts)
    raise ValueError(
        f"`metric_for_best_model` is {metric!r:.100}, which is measured of the parts of the evaluation one by one. "
        f"Give that of one of them: {choices}, or another of their metrics."
    )


def build_model(recipe: RecipeModel) -> tuple[FrosterForVideoClassification, FrosterProcessor]:
    """Model and processor from a CLIP or a FROSTER checkpoint.

    Raises:
        ValueError: the checkpoint is a path, and nothing is there, is an adapter of PEFT, or names
            a quantizer that may run code from the Hub.
    """
    recipe = dataclasses.replace(recipe, checkpoint=checkpoint_path(recipe.checkpoint))
    if is_path(recipe.checkpoint) and not Path(recipe.checkpoint).exists():
        raise ValueError(
            f"There is no checkpoint in {printable(recipe.checkpoint)}. Train or download it first, or give another "
            "one with model.checkpoint=FOLDER."
        )
    with hub_asked_once(recipe.checkpoint):
        with naming_checkpoint("model.checkpoint", recipe.checkpoint):
            config = checked_config(recipe.checkpoint)
        if config.model_type == "froster":
            return _load_froster(recipe)
        # What transformers says of tensors: those of the temporal module are new, others that are missing an error.
        with without_warnings():
            model = FrosterForVideoClassification.from_dual_encoder(recipe.checkpoint, **_given(recipe, MODEL_FIELDS))
        processor = FrosterProcessor.from_dual_encoder(
            recipe.checkpoint,
            video_options={"sampling": "dense", **_given(recipe, VIDEO_FIELDS)},
            **_given(recipe, PROMPT_FIELDS),
        )
    return model, processor


def _given(recipe: RecipeModel, names: Sequence[str]) -> dict[str, Any]:
    """The fields that a recipe does not leave to the checkpoint or to the published defaults."""
    return {name: getattr(recipe, name) for name in names if getattr(recipe, name) is not None}


def _load_froster(recipe: RecipeModel) -> tuple[FrosterForVideoClassification, FrosterProcessor]:
    """A FROSTER checkpoint, as it is.

    Raises:
        ValueError: the recipe asks for another architecture, sampling or prompts than the checkpoint has.
    """
    with without_warnings():
        model = FrosterForVideoClassification.from_pretrained(recipe.checkpoint)
    processor = FrosterProcessor.from_pretrained(recipe.checkpoint)
    own = {
        **{name: getattr(model.config, name) for name in MODEL_FIELDS},
        **{name: getattr(processor.video_processor, name) for name in VIDEO_FIELDS},
        "prompt_templates": processor.prompt_templates,
    }
    given = _given(recipe, (*MODEL_FIELDS, *VIDEO_FIELDS, *PROMPT_FIELDS))
    if "prompt_templates" in given:
        given["prompt_templates"] = resolve_templates(given["prompt_templates"])
    others = [name for name, value in given.items() if value != own[name]]
    if others:
        told = "; ".join(
            f"model.{name} is {printable(repr(getattr(recipe, name)), limit=200)}, its own is "
            f"{printable(repr(own[name]), limit=200)}"
            for name in others
        )
        raise ValueError(
            f"{printable(recipe.checkpoint)} is a FROSTER checkpoint, whose architecture, sampling and prompts stay "
            f"as they are: {told}. Leave these out (model.{others[0]}=null), or start from a CLIP checkpoint."
        )
    return model, processor


def training_arguments(recipe: Recipe, *, num_clips: int) -> FrosterTrainingArguments:
    """The arguments of a recipe on this machine: accumulation, precision and warm-up steps are worked out.

    Args:
        recipe: see [`load_recipe`].
        num_clips: clips of the training data, which make the steps of an epoch.

    Raises:
        ValueError: the total batch size is not a multiple of what the processes take at once, or several processes
            were started that do not know of each other.
    """
    # A copy, since transformers writes into what is in them, and the recipe is recorded.
    fields = {"per_device_train_batch_size": 8, **copy.deepcopy(recipe.training)}
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if recipe.precision == "bf16" or (recipe.precision == "auto" and has_bfloat16):
        fields["bf16"] = True
    elif recipe.precision == "fp16":
        fields["fp16"] = True
    if recipe.warmup_epochs:
        # A count, since the Trainer reads a number from 1 on as one, whatever it was meant to be a share of.
        steps_per_epoch = math.ceil(num_clips / recipe.total_batch_size)
        fields.setdefault("warmup_steps", math.ceil(recipe.warmup_epochs * steps_per_epoch))
    sections = {name: fields.get(name) for name in FrosterTrainingArguments._VALID_DICT_FIELDS}
    try:
        # Errors of values name their fields themselves; those of transformers repeat the values as they are.
        with naming_arguments(sections, errors=(TypeError, AttributeError, LookupError)):
            args = FrosterTrainingArguments(output_dir=str(output_folder(recipe)), **fields)
    except ValueError as error:
        raise ValueError(one_line(str(error))) from error
    refuse_processes_alone(together="training.use_cpu=true")
    at_once = args.train_batch_size * args.world_size
    if recipe.total_batch_size % at_once:
        raise ValueError(
            f"`total_batch_size` is {recipe.total_batch_size}, but {args.world_size} process(es) take {at_once} clips "
            "at once: change training.per_device_train_batch_size so that it divides, or total_batch_size."
        )
    args.gradient_accumulation_steps = recipe.total_batch_size // at_once
    return args


def read_recipe_data(data: RecipeData, world: RecipeWorld) -> tuple[Dataset, dict[str, Dataset]]:
    """Reads the tables of a recipe; those of `moving_shapes` are rendered.

    Returns:
        The training table, and the evaluation tables: `all`, which has the labels of the training and others that its
        videos have, or `base` and `novel`; empty where the recipe has none.

    Raises:
        AnnotationError: a file or line that cannot be read; names it.
        ValueError: a path is needed that the recipe does not give.
    """
    if (world_module := FORMATS[data.format].renders) is not None:
        if data.shots is not None:
            raise ValueError("data.shots draws from a data set; of moving shapes, render world.clips_per_class.")
        renderer = importlib.import_module(world_module)
        return renderer.render_world(world, root=_needed(data, "root"), label_set=data.label_set)
    train, test = _read(data, "train"), _read_evaluation(data)
    if test is not None:
        test = _among_labels_of(train, test)
    elif data.held_out is not None:
        train, test = hold_out(train, data.held_out)
    evaluation = {} if test is None else {"all": test}
    if data.label_set == "base":
        base, novel = base_and_novel_labels(train, base_labels=data.base_labels)
        train = keep_labels(train, base)
        if test is not None:
            evaluation = {"base": keep_labels(test, base), "novel": keep_labels(test, novel)}
    if data.shots is not None:
        train = sample_shots(train, data.shots, seed=data.shots_seed)
    _compare_counts(data, train)
    return train, evaluation


def _among_labels_of(train: Dataset, test: Dataset) -> Dataset:
    """The videos to measure on with all labels of the training: among fewer, the right one is easier to find."""
    names, own = label_names(train), label_names(test)
    spelled = shared_labels(names, own)
    names += [name for name in own if name not in spelled]
    if names == own:
        return test
    place = {name: index for index, name in enumerate(names)}
    labels, places = label_array(test), np.array([place[spelled.get(name, name)] for name in own])
    return with_labels(test, np.where(labels < 0, labels, places[labels]), names)


def evaluation_notes(train: Dataset, evaluation: Mapping[str, Dataset]) -> list[str]:
    """What a reader of the accuracies must know of the classes that they are measured among, a line each."""
    notes = []
    trained, counts = _class_counts(train), _class_counts(evaluation["all"]) if "all" in evaluation else {}
    if new := [name for name, count in counts.items() if count and not trained.get(name)]:
        notes.append(f"{len(new)} of {len(counts)} classes have no video to train on: {listing(new, limit=10)}.")
    if empty := [name for name, count in counts.items() if not count]:
        notes.append(f"{len(empty)} of {len(counts)} classes have no video to measure on: {listing(empty, limit=10)}.")
    for part, table in evaluation.items():
        if len(label_names(table)) < 2:
            notes.append(f"{part}: there is one class to choose from, so whatever the model answers is right.")
    return notes


def _class_counts(table: Dataset) -> dict[str, int]:
    """Videos of each class."""
    labels, names = label_array(table), label_names(table)
    return dict(zip(names, np.bincount(labels[labels >= 0], minlength=len(names)).tolist()))


def _read_evaluation(data: RecipeData) -> Dataset | None:
    known = FORMATS[data.format]
    has_own_split = data.eval_annotations is not None or (known.takes_folder and data.eval_root is not None)
    return _read(data, "test") if known.has_folds or has_own_split else None


def _read(data: RecipeData, split: Split) -> Dataset:
    root, annotations = _needed(data, "root"), data.annotations
    if split == "test":
        root = data.eval_root or root
        annotations = data.eval_annotations or annotations
    for name in FORMATS[data.format].needs:
        if name != "annotations" or annotations is None:
            _needed(data, name)
    files = DataFiles(root, annotations, data.labels, missing=data.missing, allow_links=data.allow_links)
    return read_split(data.format, files, split=split, fold=data.fold)


def _needed(data: RecipeData, name: str) -> str:
    value = getattr(data, name)
    if value is None:
        raise ValueError(f"Data of the format {data.format!r} need data.{name}; give data.{name}=PATH.")
    return value


def _compare_counts(data: RecipeData, train: Dataset) -> None:
    if data.published is None:
        return
    part = "base_train" if data.label_set == "base" else "all"
    for what, counts in count_differences(train, name=data.published, part=part).items():
        logger.warning(
            "The training set has %d %s, the published one %d: numbers cannot be compared with the published ones.",
            counts["found"],
            what,
            counts["published"],
        )
