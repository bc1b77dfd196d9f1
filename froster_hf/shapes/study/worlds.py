"""A world of the study: a small CLIP pre-trained for it, its base and novel videos, and their decoded clips."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from ... import __version__
from ...data.clips import EvaluationClips, TrainingClips, collate_clips
from ...machine_memory import FLOAT_BYTES, refuse_beyond_memory
from ...modeling.modeling_froster import FrosterModel
from ...printing import printable
from ...processing.sampling_froster import sample_frame_indices
from ...processing.text_files import read_json
from ...processing.video_processing_froster import FrosterVideoProcessor
from ...training.checkpointing import MODEL_NAME, RESULTS_NAME
from ...training.recipe_run import VIDEO_FIELDS, build_model, read_recipe_data
from ...training.recipes import Recipe, load_recipe
from ...training.run_identity import DECIDING_DESPITE_PREFIX
from ...training.teacher import FrozenTeacher
from ...whole_files import make_folder, refuse_irregular, written_whole
from ..pretraining import PretrainingRecipe, pretrain
from ..tables import read_hardships
from .plan import StudyPlan

# Those of every world, and what worlds have whose backdrops go with the labels.
SIDES, OUT_OF_CONTEXT = ("base", "novel"), "out_of_context"
# The base clips that are trained on: all frames of them, and what the CLIP of the world makes of each.
TRAIN, PIXELS, EMBEDS = "train", "pixel_values_videos", "teacher_embeds"
# Clips that are decoded, embedded or scored together.
BATCH_SIZE = 32
ALL_FRAMES = {"do_sample_frames": False}
# Options of training clips that are frames of those, as they are.
STORED_OPTIONS = {"sampling": "random_segment", "cropping": "center"}
# Written last by the pre-training.
PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class World:
    """A seed, and where the world that a plan makes of it lies.

    Args:
        plan: its recipes make the world.
        seed: seed of everything in it.
        work: folder of the study.
    """

    plan: StudyPlan
    seed: int
    work: Path

    @functools.cached_property
    def folder(self) -> Path:
        """With `videos`, `clips` and `jobs`; another pre-training, rendering or way to test has another folder."""
        tuning = self.recipe()
        made_of = {
            "pretraining": what_decides(self.pretraining()),
            "world": what_decides(tuning)["world"],
            "tested_clips": tested_clips(tuning),
            "version": __version__,
        }
        return self.work / f"world{self.seed}-{fingerprint(made_of)}"

    def pretraining(self) -> PretrainingRecipe:
        """The recipe of the world's CLIP."""
        name, *overrides = self.plan.pretraining
        recipe = load_recipe(name, [f"seed={self.seed}"], overrides_of_file=overrides)
        if not isinstance(recipe, PretrainingRecipe):
            raise ValueError(f"The plan pre-trains with {name!r}, which is not a recipe of `kind: pretraining`.")
        return recipe

    def recipe(self, overrides: Sequence[str] = (), *, seed: int = 0) -> Recipe:
        """The plan's fine-tuning recipe for this world, with no place yet."""
        name = self.plan.recipe
        recipe = load_recipe(name, [f"world.seed={self.seed}", f"training.seed={seed}"], overrides_of_file=overrides)
        if not isinstance(recipe, Recipe):
            raise ValueError(f"The plan fine-tunes with {name!r}, which is not a recipe of `kind: fine_tuning`.")
        if (recipe.data.format, recipe.data.label_set) != ("moving_shapes", "base"):
            raise ValueError(f"The plan fine-tunes with {name!r}; a study needs moving_shapes with `label_set: base`.")
        return recipe

    def placed(self, recipe: Recipe, *, output_dir: Path | None = None) -> Recipe:
        """A recipe with this world's CLIP and videos."""
        return replace(
            recipe,
            model=replace(recipe.model, checkpoint=str(self.clip)),
            data=replace(recipe.data, root=str(self.folder / "videos")),
            output_dir=None if output_dir is None else str(output_dir),
        )

    @functools.cached_property
    def sides(self) -> tuple[str, ...]:
        """What is tested apart."""
        return (*SIDES, OUT_OF_CONTEXT) if read_hardships(self.recipe().world).scene_bias else SIDES

    def frozen_recipe(self) -> Recipe:
        """The plan's recipe of a model that is the world's CLIP."""
        return self.recipe(["model.temporal_module=none"])

    @functools.cached_property
    def frozen(self) -> Path:
        """Folder of what was measured of the frozen CLIP; with other prompts it has another."""
        return self.folder / f"frozen-{fingerprint(what_decides(self.frozen_recipe())['model'])}"

    @property
    def clip(self) -> Path:
        """Folder of the pre-trained CLIP, which knows nothing of the world that it is for."""
        made_of = {"pretraining": what_decides(self.pretraining()), "version": __version__}
        return self.work / f"clip{self.seed}-{fingerprint(made_of)}" / MODEL_NAME


def what_decides(recipe: Recipe | PretrainingRecipe) -> dict[str, Any]:
    """What a recipe says of the outcome: not where things lie, nor who loads and watches them."""
    fields = {name: value for name, value in recipe.to_dict().items() if name not in ("name", "about", "output_dir")}
    fields["training"] = {
        name: value
        for name, value in fields["training"].items()
        if name in DECIDING_DESPITE_PREFIX
        or (not name.startswith(("dataloader_", "logging_")) and name not in ("disable_tqdm", "report_to"))
    }
    if isinstance(recipe, Recipe):
        fields["model"] = {name: value for name, value in fields["model"].items() if name != "checkpoint"}
        fields["data"] = {name: value for name, value in fields["data"].items() if name != "root"}
    return fields


def tested_clips(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of the clips that a model is tested on."""
    return {
        **{name: getattr(recipe.model, name) for name in VIDEO_FIELDS},
        "eval_video_options": recipe.training.get("eval_video_options"),
    }


def fingerprint(value: Any) -> str:
    """Ten hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def pretrain_clip(world: World) -> dict[str, float]:
    """Pre-train the CLIP of a world, if that is not done.

    Returns:
        Its accuracy on stills that were held out, by name.
    """
    folder = world.clip.parent
    if not (world.clip / PROCESSOR_FILE).exists():
        # What a pre-training that was killed has left is not gone on with.
        pretrain(replace(world.pretraining(), output_dir=str(folder)), overwrite=True)
    refuse_irregular(folder / RESULTS_NAME)
    results = read_json(folder / RESULTS_NAME)
    return {name.removeprefix("eval_"): value for name, value in results.items() if name.startswith("eval_")}


def prepare_world(world: World) -> None:
    """Pre-train, render and decode what is not there yet."""
    pretrain_clip(world)
    tuning = world.placed(world.recipe())
    train, tables = read_recipe_data(tuning.data, tuning.world)
    _, processor = build_model(tuning.model)
    for side in (TRAIN, *world.sides):
        file = _clips_file(world, side)
        if not file.exists():
            clips = EvaluationClips(
                train if side == TRAIN else tables[side],
                video_processor=processor.video_processor,
                # Which frames of a training clip are seen is drawn again in every epoch.
                video_options=ALL_FRAMES if side == TRAIN else tuning.training.get("eval_video_options"),
            )
            num_frames = tuning.world.num_frames if side == TRAIN else clips.frames_per_video
            refuse_beyond_memory(
                len(clips) * num_frames * clips.values_per_frame * FLOAT_BYTES,
                f"The {len(clips):,} videos of a world, each of {num_frames:,} frames,",
                advice="Render fewer, or shorter ones.",
            )
            batches = list(DataLoader(clips, batch_size=BATCH_SIZE, collate_fn=collate_clips))
            tensors = {name: torch.cat([batch[name] for batch in batches]) for name in (PIXELS, "labels")}
            if side == TRAIN:
                teacher = FrozenTeacher.from_dual_encoder(world.clip)
                tensors[EMBEDS] = torch.cat([teacher.embed_frames(part) for part in tensors[PIXELS].split(BATCH_SIZE)])
            make_folder(file.parent)
            with written_whole(file) as part:
                save_file(tensors, part, metadata={"labels": json.dumps(clips.label_names), "of": _place_of(file)})


def _clips_file(world: World, side: str) -> Path:
    return world.folder / "clips" / f"{side}.safetensors"


def _place_of(clips_file: Path) -> str:
    """What stored clips say that they are of: those of another world or side have its labels, which fit each other."""
    return f"{clips_file.parents[1].name}/{clips_file.stem}"


@dataclass(frozen=True)
class DecodedClips:
    """The evaluation clips of one side of a world.

    Args:
        pixel_values_videos: (n, T, 3, S, S).
        labels: (n,).
        label_names: K texts.
    """

    pixel_values_videos: torch.Tensor
    labels: torch.Tensor
    label_names: list[str]


def decoded_clips(world: World, side: str) -> DecodedClips:
    """Those of one of `world.sides`, which `prepare_world` has stored."""
    tensors, names = _read_clips(_clips_file(world, side))
    return DecodedClips(tensors[PIXELS], tensors["labels"], names)


def _read_clips(file: Path) -> tuple[dict[str, Tensor], list[str]]:
    """What `prepare_world` has stored of clips, and the names of their labels.

    Raises:
        ValueError: it is not that; names the file.
    """
    refuse_irregular(file)
    try:
        with safe_open(file, framework="pt") as handle:
            told = handle.metadata() or {}
        names, tensors = json.loads(told["labels"]), load_file(file)
        pixels, labels = tensors[PIXELS], tensors["labels"]
        are_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
        are_clips = pixels.ndim == 5 and len(pixels) > 0 and pixels.is_floating_point()
        are_labels = labels.shape == (len(pixels),) and labels.dtype == torch.int64
        if not (are_names and are_clips and are_labels and 0 <= labels.min() <= labels.max() < len(names)):
            raise ValueError("its clips or labels have other forms")
        if told["of"] != _place_of(file):
            raise ValueError(f"it is of {told['of']!r:.200}")
        embeds = tensors[EMBEDS] if file.stem == TRAIN else None
        if embeds is not None and (embeds.ndim != 3 or embeds.shape[:2] != pixels.shape[:2]):
            raise ValueError("its embeddings have another form")
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _other_clips(file) from error
    return tensors, names


def _other_clips(file: Path) -> ValueError:
    return ValueError(f"{printable(str(file))} is not what a study has stored. Delete it to have it decoded again.")


class StoredTrainingClips(TrainingClips):
    """`TrainingClips` of videos that were decoded once: the same frames of them, to the bit, without a decoder.

    Args:
        dataset: {video, label} table.
        frames: (n, F, 3, S, S), all frames of its videos, resized, cropped and normalized.
        kwargs: as for `TrainingClips`; of the options, all but the number of frames have to be `STORED_OPTIONS`.
    """

    def __init__(self, dataset: Dataset, frames: Tensor, **kwargs: Any):
        super().__init__(dataset, **kwargs)
        self.frames = frames

    def _pixels(self, row: int, **options: Any) -> Tensor:
        (indices,) = sample_frame_indices(
            self.frames.shape[1],
            self._option("num_frames"),
            sampling=self.options["sampling"],
            generator=torch.Generator().manual_seed(options["seed"]),
        )
        return self.frames[row, indices][None]


def training_clips(
    world: World, recipe: Recipe, table: Dataset, *, video_processor: FrosterVideoProcessor
) -> Dataset | TrainingClips:
    """The training set of a job of a world that `prepare_world` has prepared.

    Args:
        world: see [`World`].
        recipe: of the job, placed.
        table: of its training videos.
        video_processor: of the job.

    Returns:
        The stored clips, where the recipe cuts all its clips from the same pixels; else the table.

    Raises:
        ValueError: what is stored is not of these videos.
    """
    options: dict[str, Any] = recipe.training.get("train_video_options") or {}
    if {name: value for name, value in options.items() if name != "num_frames"} != STORED_OPTIONS:
        return table
    file = _clips_file(world, TRAIN)
    frames = _read_clips(file)[0][PIXELS]
    if len(frames) != len(table):
        raise _other_clips(file)
    return StoredTrainingClips(
        table,
        frames,
        video_processor=video_processor,
        seed=recipe.training.get("data_seed", recipe.training["seed"]),
        video_options=options,
    )


class RememberingTeacher(FrozenTeacher):
    """A frozen teacher that has seen all training frames of a world, and finds its embeddings of them again.

    Args:
        model: without a temporal module.
        frames: (n, 3, S, S).
        embeds: (n, D), what it makes of them.
    """

    def __init__(self, model: FrosterModel, *, frames: Tensor, embeds: Tensor):
        super().__init__(model)
        self.embeds, self.places = embeds, {_key(frame): place for place, frame in enumerate(frames)}

    def embed_frames(self, pixel_values_videos: Tensor) -> Tensor:
        """See [`FrozenTeacher.embed_frames`]."""
        places = [self.places.get(_key(frame)) for frame in pixel_values_videos.flatten(0, 1)]
        if None in places:
            return super().embed_frames(pixel_values_videos)
        return self.embeds[places].to(pixel_values_videos).unflatten(0, pixel_values_videos.shape[:2])


def _key(frame: Tensor) -> bytes:
    return hashlib.blake2b(frame.cpu().contiguous().numpy().data, digest_size=16).digest()


def remembering_teacher(world: World) -> RememberingTeacher:
    """That of a world that `prepare_world` has prepared; the jobs of a process share it."""
    return _read_teacher(world.clip, _clips_file(world, TRAIN))


@functools.lru_cache(maxsize=2)
def _read_teacher(clip: Path, clips: Path) -> RememberingTeacher:
    stored, _ = _read_clips(clips)
    model = FrozenTeacher.from_dual_encoder(clip).model
    if stored[EMBEDS].shape[-1] != model.config.projection_dim:
        raise _other_clips(clips)
    return RememberingTeacher(model, frames=stored[PIXELS].flatten(0, 1), embeds=stored[EMBEDS].flatten(0, 1))
