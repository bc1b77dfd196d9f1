"""A world of the study: a small CLIP pre-trained for it, its base and novel videos, and their decoded clips."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from ..data.clips import EvaluationClips, collate_clips
from ..processing.processing_froster import FrosterProcessor
from ..training.pretraining import PretrainingRecipe, pretrain
from ..training.recipe_data import read_recipe_data
from ..training.recipes import Recipe, load_recipe
from .plan import StudyPlan

SIDES = ("base", "novel")


@dataclass(frozen=True)
class World:
    """Where a world's things are.

    Args:
        seed: of everything in it.
        folder: `clip/model`, `videos`, `clips` and `frozen`.
    """

    seed: int
    folder: Path

    @classmethod
    def at(cls, work: Path, seed: int) -> "World":
        """The world of a seed in a study's folder."""
        return cls(seed, work / f"world{seed}")

    @property
    def frozen(self) -> Path:
        """Folder of what was measured of the frozen CLIP."""
        return self.folder / "frozen"

    @property
    def clip(self) -> Path:
        """Folder of the pre-trained CLIP."""
        return self.folder / "clip" / "model"

    def recipe(
        self, plan: StudyPlan, overrides: list[str], *, seed: int = 0, output_dir: Path | None = None
    ) -> Recipe:
        """The plan's fine-tuning recipe, in this world."""
        own = [
            f"model.checkpoint={self.clip}",
            f"data.root={self.folder / 'videos'}",
            f"world.seed={self.seed}",
            f"training.seed={seed}",
            f"output_dir={output_dir}",
        ]
        recipe = load_recipe(plan.recipe, [*own, *overrides])
        if not isinstance(recipe, Recipe):
            raise ValueError(f"The plan fine-tunes with {plan.recipe!r}, which is no recipe of `kind: fine_tuning`.")
        return recipe


def prepare_world(plan: StudyPlan, world: World) -> None:
    """Pre-train, render and decode what is not there yet."""
    if not (world.clip / "preprocessor_config.json").exists():
        name, *overrides = plan.pretraining
        seed_and_place = [f"seed={world.seed}", f"output_dir={world.folder / 'clip'}"]
        recipe = load_recipe(name, [*overrides, *seed_and_place])
        if not isinstance(recipe, PretrainingRecipe):
            raise ValueError(f"The plan pre-trains with {name!r}, which is no recipe of `kind: pretraining`.")
        pretrain(recipe)
    tuning = world.recipe(plan, [])
    _, tables = read_recipe_data(tuning.data, tuning.world)
    processor = FrosterProcessor.from_clip(
        tuning.model.checkpoint, video_options={"num_frames": tuning.model.num_frames}
    )
    for side in SIDES:
        file = world.folder / "clips" / f"{side}.safetensors"
        if not file.exists():
            clips = EvaluationClips(
                tables[side],
                video_processor=processor.video_processor,
                video_options=tuning.training["eval_video_options"],
            )
            batches = list(DataLoader(clips, batch_size=32, collate_fn=collate_clips))
            tensors = {
                name: torch.cat([batch[name] for batch in batches]) for name in ("pixel_values_videos", "labels")
            }
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, file, metadata={"labels": json.dumps(clips.label_names)})


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
    """Those of `base` or `novel`, which `prepare_world` has stored."""
    file = world.folder / "clips" / f"{side}.safetensors"
    with safe_open(file, framework="pt") as handle:
        names = json.loads(handle.metadata()["labels"])
    return DecodedClips(label_names=names, **load_file(file))
