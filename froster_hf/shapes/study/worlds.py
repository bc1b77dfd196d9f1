"""A world of the study: a small CLIP pre-trained for it, its base and novel videos, and their decoded clips."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from ... import __version__
from ...data.clips import EvaluationClips, collate_clips
from ...processing.processing_froster import FrosterProcessor
from ...training.recipe_run import read_recipe_data
from ...training.recipes import Recipe, load_recipe
from ...whole_files import make_folder, written_whole
from ..pretraining import PretrainingRecipe, pretrain
from ..tables import read_hardships
from .plan import StudyPlan

# Those of every world, and what worlds have whose backdrops go with the labels.
SIDES, OUT_OF_CONTEXT = ("base", "novel"), "out_of_context"
# Written last by the pre-training.
PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class World:
    """A seed, and where the world that a plan makes of it lies.

    Args:
        plan: its recipes make the world.
        seed: of everything in it.
        work: folder of the study.
    """

    plan: StudyPlan
    seed: int
    work: Path

    @functools.cached_property
    def folder(self) -> Path:
        """With `clip/model`, `videos`, `clips` and `frozen`; another pre-training or rendering has another folder."""
        tuning = self.recipe()
        made_of = {
            "pretraining": what_decides(self.pretraining()),
            "world": what_decides(tuning)["world"],
            "num_frames": tuning.model.num_frames,
            "eval_video_options": tuning.training.get("eval_video_options"),
            "version": __version__,
        }
        return self.work / f"world{self.seed}-{fingerprint(made_of)}"

    def pretraining(self) -> PretrainingRecipe:
        """The recipe of the world's CLIP."""
        name, *overrides = self.plan.pretraining
        recipe = load_recipe(name, [*overrides, f"seed={self.seed}"])
        if not isinstance(recipe, PretrainingRecipe):
            raise ValueError(f"The plan pre-trains with {name!r}, which is not a recipe of `kind: pretraining`.")
        return recipe

    def recipe(self, overrides: Sequence[str] = (), *, seed: int = 0) -> Recipe:
        """The plan's fine-tuning recipe for this world, with no place yet."""
        name = self.plan.recipe
        recipe = load_recipe(name, [f"world.seed={self.seed}", f"training.seed={seed}", *overrides])
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

    @property
    def frozen(self) -> Path:
        """Folder of what was measured of the frozen CLIP."""
        return self.folder / "frozen"

    @property
    def clip(self) -> Path:
        """Folder of the pre-trained CLIP."""
        return self.folder / "clip" / "model"


def what_decides(recipe: Recipe | PretrainingRecipe) -> dict[str, Any]:
    """What a recipe says of the outcome: not where things lie, nor who loads and watches them."""
    fields = {name: value for name, value in recipe.to_dict().items() if name not in ("name", "about", "output_dir")}
    fields["training"] = {
        name: value
        for name, value in fields["training"].items()
        if not name.startswith(("dataloader_", "logging_")) and name not in ("disable_tqdm", "report_to")
    }
    if isinstance(recipe, Recipe):
        fields["model"] = {name: value for name, value in fields["model"].items() if name != "checkpoint"}
        fields["data"] = {name: value for name, value in fields["data"].items() if name != "root"}
    return fields


def fingerprint(value: Any) -> str:
    """Ten hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def prepare_world(world: World) -> None:
    """Pre-train, render and decode what is not there yet."""
    if not (world.clip / PROCESSOR_FILE).exists():
        # What a pre-training that was killed has left is not gone on with.
        pretrain(replace(world.pretraining(), output_dir=str(world.clip.parent)), overwrite=True)
    tuning = world.placed(world.recipe())
    _, tables = read_recipe_data(tuning.data, tuning.world)
    num_frames = tuning.model.num_frames
    processor = FrosterProcessor.from_clip(
        tuning.model.checkpoint, video_options={} if num_frames is None else {"num_frames": num_frames}
    )
    for side in world.sides:
        file = world.folder / "clips" / f"{side}.safetensors"
        if not file.exists():
            clips = EvaluationClips(
                tables[side],
                video_processor=processor.video_processor,
                video_options=tuning.training.get("eval_video_options"),
            )
            batches = list(DataLoader(clips, batch_size=32, collate_fn=collate_clips))
            tensors = {
                name: torch.cat([batch[name] for batch in batches]) for name in ("pixel_values_videos", "labels")
            }
            make_folder(file.parent)
            with written_whole(file) as part:
                save_file(tensors, part, metadata={"labels": json.dumps(clips.label_names)})


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
    file = world.folder / "clips" / f"{side}.safetensors"
    with safe_open(file, framework="pt") as handle:
        names = json.loads(handle.metadata()["labels"])
    return DecodedClips(label_names=names, **load_file(file))
