"""One fine-tuning of the study and what is measured of it; a job that is done is read back.

A job is a folder: `metrics.json` (written last), the logits of both sides, and the trained model while it is needed.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.metrics import harmonic_mean
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..processing.processing_froster import FrosterProcessor
from ..training.checkpointing import AVERAGE_NAME
from ..training.recipe_run import build_model, build_trainer
from ..training.recipes import Recipe
from ..training.weights import interpolate
from ..whole_files import write_text_whole
from .plan import GRID_FIELDS, Variant
from .scoring import SideScores, score_side
from .worlds import SIDES, World, decoded_clips, fingerprint, prepare_world, what_decides

Metrics = dict[str, float]
METRICS_FILE = "metrics.json"
FROZEN = "frozen"


@dataclass(frozen=True)
class Job:
    """One fine-tuning.

    Args:
        method: its name in the plan.
        world: that it happens in.
        seed: of the fine-tuning.
        overrides: of the recipe, hyperparameters included.
        variants: what else is measured.
    """

    method: str
    world: World
    seed: int
    overrides: tuple[str, ...]
    variants: tuple[Variant, ...] = ()

    @property
    def title(self) -> str:
        """For people."""
        return f"world {self.world.seed}, seed {self.seed}, {self.method} ({', '.join(self.overrides)})"

    @property
    def folder(self) -> Path:
        """Where it is done: everything that decides its outcome is in the name."""
        decides = [what_decides(self.recipe()), self.variants, self.world.folder.name]
        name = f"{self.method.replace(' ', '_')}-seed{self.seed}-{fingerprint(decides)}"
        return self.world.folder / "jobs" / name

    def recipe(self) -> Recipe:
        """What is trained."""
        return self.world.recipe(self.overrides, seed=self.seed)


def job_for(method: str, *, world: World, seed: int, choices: Mapping[str, float], test: bool) -> Job:
    """The job of a method with chosen hyperparameters; its variants are measured in the test only."""
    own = world.plan.methods[method]
    chosen = {GRID_FIELDS[name]: value for name, value in choices.items()}
    kept = [override for override in own.overrides if override.partition("=")[0] not in chosen]
    overrides = (*kept, *(f"{name}={value}" for name, value in chosen.items()))
    return Job(method, world, seed, overrides, tuple(own.variants) if test else ())


def run_job(job: Job) -> dict[str, Metrics]:
    """Fine-tunes and measures.

    Returns:
        Metrics by what was measured: `job.method`, and `<job.method> + <variant>` for its variants.
    """
    folder, world = job.folder, job.world
    shutil.rmtree(folder, ignore_errors=True)
    recipe = world.placed(job.recipe(), output_dir=folder / "run")
    trainer = build_trainer(recipe)
    trainer.train()
    processor: Any = trainer.processing_class
    model: Any = trainer.model
    measured = {job.method: _measure(model, processor, world, folder)}
    for variant in job.variants:
        if variant == "ensemble":
            frozen = {side: SideScores.load(world.frozen / f"{side}.npz") for side in SIDES}
            own = {side: SideScores.load(folder / f"{side}.npz") for side in SIDES}
            result = summarize({side: own[side].averaged_with(frozen[side]) for side in SIDES})
        else:
            if variant == "interpolation":
                trainer.save_model(str(folder / "model"))
                place = interpolate(world.clip, folder / "model", 0.5, output_dir=folder / "interpolation")
            else:
                place = folder / "run" / AVERAGE_NAME
            result = _measure(FrosterForVideoClassification.from_pretrained(place), processor, world, folder / variant)
        measured[f"{job.method} + {variant}"] = result
    for name in ("run", "model", "interpolation"):
        # The weights of hundreds of runs are not kept; the logits are.
        shutil.rmtree(folder / name, ignore_errors=True)
    _store(measured, folder)
    return measured


def stored_metrics(folder: Path) -> dict[str, Metrics] | None:
    """What was measured in a folder, `None` where that is not done."""
    file = folder / METRICS_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def prepare_and_measure(world: World) -> dict[str, Metrics]:
    """Prepares a world, and measures its CLIP as it is, frame by frame: metrics of `frozen`."""
    prepare_world(world)
    model, processor = build_model(world.placed(world.recipe(["model.temporal_module=none"])).model)
    measured = {FROZEN: _measure(model, processor, world, world.frozen)}
    _store(measured, world.frozen)
    return measured


def _store(measured: dict[str, Metrics], folder: Path) -> None:
    write_text_whole(folder / METRICS_FILE, json.dumps(measured, indent=2) + "\n")


def _measure(model: FrosterForVideoClassification, processor: FrosterProcessor, world: World, folder: Path) -> Metrics:
    scores = {side: score_side(model, processor, decoded_clips(world, side)) for side in SIDES}
    for side, own in scores.items():
        own.save(folder / f"{side}.npz")
    return summarize(scores)


def summarize(scores: dict[str, SideScores]) -> Metrics:
    """Metrics of both sides, `base_top1` and so on, and the harmonic mean `hm` of the two top-1."""
    metrics = {f"{side}_{name}": value for side, own in scores.items() for name, value in own.metrics().items()}
    return {**metrics, "hm": harmonic_mean(metrics["base_top1"], metrics["novel_top1"])}
