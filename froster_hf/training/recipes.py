"""Training recipes: small YAML files, one per setting, in `recipes/`.

A recipe says which model is trained on which data, and how; the user's own paths come as overrides:

    froster train froster_base_to_novel_ucf101 data.root=/data/UCF-101 data.annotations=/data/ucfTrainTestlist

`recipe_run.py` reads the data and trains. `RECIPE_KINDS` names the other kinds of recipes, such as the
pre-training of a small CLIP in `froster_hf.shapes`.
"""

import dataclasses
import functools
import math
import operator
import os
import pkgutil
import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers import TrainingArguments

from ..data.catalogue import FORMATS, MOST_CLIPS, published_counts
from ..data.video_table import MissingFiles
from ..modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS
from ..printing import printable
from ..processing.sampling_froster import CALLERS_OPTIONS
from ..settings import (
    NameIn,
    check_bounds,
    check_fields,
    override_fields,
    read_fields,
    read_named,
    refuse_addresses,
    with_name,
)
from .arguments import MOST_EPOCHS, FrosterTrainingArguments, check_arguments

# Of a rendered clip: half a gigabyte of pictures at a time, each with a backdrop of a few hundred numbers.
MOST_PIXELS, MOST_FRAMES = 10_000_000, 10_000
# Folders, or names on the Hub.
CHECKPOINT_FIELDS = ("model.checkpoint", "training.teacher")
# Said once, elsewhere in the recipe; and what is gone on from, by `--resume`.
RESERVED_ARGUMENTS = ("output_dir", "gradient_accumulation_steps", "resume_from_checkpoint")
# Arguments that send something to other machines, by the accounts of whoever trains, or name files of settings, or say
# how processes talk, wait for each other and share the model.
CALLERS_ARGUMENTS = re.compile(
    "push_to_hub|hub_.*|report_to|project|trackio_.*|deepspeed|fsdp(_config)?|ddp_(backend|timeout)"
)
# What they may be in a file: nothing is sent.
NOTHING_IS_SENT: dict[str, list[Any]] = {
    "push_to_hub": [False],
    "report_to": ["none", "tensorboard", ["none"], ["tensorboard"]],
}


@dataclass(frozen=True)
class RecipeModel:
    """The student.

    Args:
        checkpoint: a CLIP checkpoint, or a FROSTER one to go on from; a folder or a name on the Hub.
        temporal_module: see [`FrosterConfig`]. This field and those below build a student from CLIP, `null` with the
            published value; a FROSTER checkpoint has its own, and `null` or the same is all that it takes.
        temporal_radius: frames that `local_attention` sees to each side.
        temporal_pooling: see [`FrosterConfig`].
        num_frames: T, frames per clip.
        sampling: frames that stand for a video in evaluation, and for the saved processor: `dense`, a window of the
            video as in the published numbers, or `uniform`, the whole video.
        frame_stride: frames between two of a `dense` window, at 30 frames per second.
        adapter_size: width of the adapters.
        prompt_templates: a named set (`froster`, `actionclip`, `single`, `none`) or a list of templates.
    """

    checkpoint: str = "openai/clip-vit-base-patch16"
    temporal_module: Annotated[str, NameIn(TEMPORAL_MODULES)] | None = None
    temporal_radius: int | None = None
    temporal_pooling: Annotated[str, NameIn(TEMPORAL_POOLINGS)] | None = None
    num_frames: int | None = None
    sampling: Literal["dense", "uniform"] | None = None
    frame_stride: int | None = None
    adapter_size: int | None = None
    prompt_templates: str | list[str] | None = None


@dataclass(frozen=True)
class RecipeData:
    """What is trained on, and where the user keeps it.

    Args:
        format: one of the catalogue's `FORMATS`: `folder` (class folders), `list` (CSV, JSONL, or the original
            `path,label` lines), `ucf101`, `hmdb51`, `kinetics` (a CSV per split), `ssv2` (a JSON per split), or
            `moving_shapes`, which renders its videos (see [`RecipeWorld`]).
        root: folder of the training videos; for `moving_shapes` they are rendered into it.
        annotations: the list, or the folder or file of official annotations; not for `folder`.
        eval_root: folder of the videos to evaluate on; the training's by default.
        eval_annotations: their list. UCF-101 and HMDB-51 have theirs in `annotations`. For `folder`, `eval_root` is
            enough. Without any, and without `held_out`, nothing is evaluated.
        held_out: share of each class's videos that are evaluated on in place of being trained on, where there are no
            others to evaluate on; a matter of the names of classes and files, so the same ones each time.
        labels: file of the label texts, where the format needs one (`ssv2`, lists of indices).
        descriptions: JSON file {label: sentence}, or a data set whose sentences ship (`ucf101`, `hmdb51`, `k400`,
            `k600`, `ssv2`); they are added to the prompts.
        label_set: `base` trains on the frequent half of the classes and evaluates base and novel apart; `all` does not
            split.
        base_labels: JSON list of the base half, in place of the frequent one.
        shots: clips per class that are drawn; `null` takes all.
        shots_seed: seed of the draw; the published Kinetics numbers average three.
        fold: split of UCF-101 and HMDB-51.
        published: name under which classes and clips are compared with the published counts; `null` does not compare.
        missing: what to do with listed videos that are not there: `error`, `drop` or `keep`.
        allow_links: whether symbolic links may lead out of the folders of the videos.
    """

    format: Annotated[str, NameIn(FORMATS)] = "folder"
    root: str | None = None
    annotations: str | None = None
    eval_root: str | None = None
    eval_annotations: str | None = None
    held_out: float | None = None
    labels: str | None = None
    descriptions: str | None = None
    label_set: Literal["all", "base"] = "all"
    base_labels: str | None = None
    shots: int | None = None
    shots_seed: int = 0
    fold: Literal[1, 2, 3] = 1
    published: Annotated[str, NameIn(published_counts())] | None = None
    missing: MissingFiles = "error"
    allow_links: bool = False

    def __post_init__(self):
        check_bounds(vars(self), {"shots": (1, math.inf), "shots_seed": (0, math.inf)}, where="data")


@dataclass(frozen=True)
class RecipeWorld:
    """What `format: moving_shapes` renders. With `label_set: base`, base and novel classes share no color or shape.

    Args:
        seed: decides classes, clips and evaluation clips.
        num_classes: K, classes trained on (and as many novel ones with `label_set: base`).
        clips_per_class: training files per class.
        eval_clips_per_class: evaluation files per class; 0 evaluates nothing.
        motions: what the objects may do; `null` is everything.
        trail_rate: the share of clips in which objects leave a fading trail.
        second_object_rate: the share of clips with a second, unlabeled object.
        num_frames: frames a file, at 8 a second.
        resolution: side of the pictures in pixels, even.
        hardships: what makes the world harder, by name; see [`~froster_hf.shapes.Hardships`].
    """

    seed: int = 0
    num_classes: int = 48
    clips_per_class: int = 8
    eval_clips_per_class: int = 4
    motions: list[str] | None = None
    trail_rate: float = 0.0
    second_object_rate: float = 0.0
    num_frames: int = 16
    resolution: int = 192
    hardships: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        # With one below these, a product says nothing of the other numbers in it.
        least = dict.fromkeys(("num_classes", "clips_per_class", "num_frames", "resolution"), 1)
        least |= {"seed": 0, "eval_clips_per_class": 0}
        check_bounds(vars(self), {name: (number, math.inf) for name, number in least.items()}, where="world")
        num_clips = self.num_classes * (self.clips_per_class + self.eval_clips_per_class)
        num_pixels = self.num_frames * self.resolution**2
        for name, value, most in (
            ("clips of all classes", num_clips, MOST_CLIPS),
            ("pixels of a clip (num_frames * resolution^2)", num_pixels, MOST_PIXELS),
            ("frames of a clip (num_frames)", self.num_frames, MOST_FRAMES),
        ):
            if value > most:
                raise ValueError(f"world: {value:,} {name} are asked for; at most {most:,} are rendered.")
        if self.resolution % 2:
            raise ValueError(f"world: resolution is {self.resolution:,}; H.264 needs an even one.")


@dataclass(frozen=True)
class Recipe:
    """A training, whole.

    Args:
        name: a file's stem.
        about: what the setting is, and where it was published.
        kind: tells it from the recipes of pre-training.
        model: the student; see [`RecipeModel`].
        data: see [`RecipeData`].
        world: see [`RecipeWorld`].
        training: fields of [`FrosterTrainingArguments`]; `num_train_epochs: 0` trains nothing and saves the model with
            its labels.
        total_batch_size: clips an optimizer step over all processes and accumulated batches.
        warmup_epochs: epochs over which the learning rate rises.
        precision: `auto` is bfloat16 where the GPU has it, else float32; `fp16`, `bf16` or `fp32` are themselves.
        output_dir: where the run and its model are written; `runs/<name>` by default.
    """

    name: str
    about: str
    kind: Literal["fine_tuning"] = "fine_tuning"
    model: RecipeModel = field(default_factory=RecipeModel)
    data: RecipeData = field(default_factory=RecipeData)
    world: RecipeWorld = field(default_factory=RecipeWorld)
    training: dict[str, Any] = field(default_factory=dict)
    total_batch_size: int = 64
    warmup_epochs: float = 0.0
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    output_dir: str | None = None

    def __post_init__(self):
        hints = argument_hints(FrosterTrainingArguments, reserved=RESERVED_ARGUMENTS)
        check_fields(self.training, hints, where=f"{self.name}, training")
        check_arguments(self.training)
        if tokens := [name for name, value in self.training.items() if name.endswith("_token") and value is not None]:
            # A recipe is stored beside the model, and shown.
            raise ValueError(
                f"{self.name}: training.{tokens[0]} is given; a recipe holds no access token. Log in with "
                "`hf auth login`, or set the environment variable HF_TOKEN."
            )
        bounds = {"total_batch_size": (1, MOST_CLIPS), "warmup_epochs": (0, MOST_EPOCHS)}
        check_bounds(vars(self), bounds, where=self.name)

    def to_dict(self) -> dict[str, Any]:
        """All fields, with their defaults, as YAML would hold them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class RecipeKind:
    """What a recipe may be of. Both are named as `module:name`, and imported when they are needed.

    Attributes:
        fields: dataclass that the file is read into.
        train: function that trains it, with the keywords `resume` and `overwrite`.
    """

    fields: str
    train: str


RECIPE_KINDS: dict[str, RecipeKind] = {
    "fine_tuning": RecipeKind("froster_hf.training.recipes:Recipe", "froster_hf.training.recipe_run:train_recipe"),
    "pretraining": RecipeKind(
        "froster_hf.shapes.pretraining:PretrainingRecipe", "froster_hf.shapes.pretraining:pretrain"
    ),
}


def load_recipe(
    recipe: str | os.PathLike, overrides: Sequence[str] = (), *, overrides_of_file: Sequence[str] = ()
) -> Any:
    """A shipped recipe by name, or a YAML file. Its field `kind` says what it is of, `fine_tuning` by default.

    Args:
        recipe: name or path. A file that says `extends: NAME` changes the fields that it names of another one.
        overrides: `field=value`, with dots into sections: `training.learning_rate=1e-5`. Values are read as YAML.
        overrides_of_file: further ones, before these, that a file makes, such as a study plan, and not the caller.

    Returns:
        A [`Recipe`], or the dataclass that `RECIPE_KINDS` has for another kind.

    Raises:
        ValueError: no such recipe, no YAML, an unknown field, a value that is none of the allowed ones, or, in the
            file, one that is for the caller to give; see [`refuse_callers_fields`].
    """
    name = Path(recipe).stem
    fields = override_fields(read_named(recipe, kind="recipe"), overrides_of_file)
    refuse_addresses(fields, where=name)
    refuse_callers_fields(fields, where=name)
    fields = override_fields(fields, overrides)
    kind = fields.get("kind", "fine_tuning")
    if not isinstance(kind, str) or kind not in RECIPE_KINDS:
        raise ValueError(
            f"{name}: kind is {printable(repr(kind), limit=200)}; it must be one of {', '.join(RECIPE_KINDS)}."
        )
    return read_fields(pkgutil.resolve_name(RECIPE_KINDS[kind].fields), with_name(fields, recipe), where=name)


def refuse_callers_fields(fields: Mapping[str, Any], *, where: str) -> None:
    """Raise where a file, which somebody else may have written, decides what is for whoever runs it to decide.

    Args:
        fields: of a recipe, by name.
        where: what they are of, for messages.

    Raises:
        ValueError: a field that sends something to other machines, names another file of settings to read, opens
            addresses, lets links lead out of the folder of the videos, says how processes work together, or where
            something is written, which may be over what is there; names it. Videos are rendered below the current
            folder, though.
    """
    for name in _callers_fields(fields):
        # Without its value, which can be an access token.
        raise ValueError(
            f"{where}: {name} is given, which is not for a file to say, but for whoever runs it: take it out, and "
            f"give it in your command, as {name}=VALUE."
        )


def _callers_fields(fields: Mapping[str, Any]) -> Iterator[str]:
    data, training = ({} if not isinstance(part, Mapping) else part for part in map(fields.get, ("data", "training")))
    if fields.get("output_dir") is not None:
        yield "output_dir"
    format = FORMATS.get(str(data.get("format")))
    root = Path(str(data.get("root")))
    if format is not None and format.renders and (root.is_absolute() or ".." in root.parts):
        yield "data.root"
    if data.get("allow_links"):
        yield "data.allow_links"
    for name, value in training.items():
        if value is None or value in NOTHING_IS_SENT.get(name, []):
            continue
        takes_fields = name in FrosterTrainingArguments._VALID_DICT_FIELDS
        sets_policy = isinstance(value, Mapping) and any(option in value for option in CALLERS_OPTIONS)
        if CALLERS_ARGUMENTS.fullmatch(str(name)) or (takes_fields and (isinstance(value, str) or sets_policy)):
            yield f"training.{name}"


def as_file(recipe: Any) -> dict[str, Any]:
    """What a recipe's file may say: its name is the file's, and where a run is written is for the command to say."""
    return {name: value for name, value in recipe.to_dict().items() if name not in ("name", "output_dir")}


def output_folder(recipe: Any) -> Path:
    """Where the run of a recipe of any kind and its model are written.

    Raises:
        ValueError: its name is not UTF-8 text, as the files of a run are that tell it.
    """
    # With the home folder for `~`, as the arguments of transformers take it: a run is in one place.
    folder = Path("runs") / recipe.name if recipe.output_dir is None else Path(os.path.expanduser(recipe.output_dir))
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The output folder {printable(str(folder))} has a name that is not UTF-8, and files of a run tell it. "
            "Give another `output_dir`."
        ) from error
    return folder


def argument_hints(kind: type[TrainingArguments], *, reserved: Collection[str]) -> dict[str, Any]:
    """Types of the training arguments that a recipe's `training` section may give, by name.

    Args:
        kind: kind of the arguments.
        reserved: names that the recipe says elsewhere.
    """
    hints = get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind) if entry.init and entry.name not in reserved]
    return {name: _written_hint(hints[name]) for name in names}


def _written_hint(hint: Any) -> Any:
    """The type of what a file can hold for an argument: names of an enumeration's members, and no objects."""
    parts: list[Any] = []
    for part in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else [hint]:
        if isinstance(part, type) and issubclass(part, Enum):
            return Annotated[str, NameIn({member.value: member for member in part})]
        if not dataclasses.is_dataclass(part):
            parts.append(part)
    return functools.reduce(operator.or_, parts)
