"""One fine-tuning of the study and what is measured of it; a job that is done is read back.

A job is a folder: `metrics.json` (written last), the logits of both sides, and the trained model while it is needed.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..evaluation.metrics import harmonic_mean
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..processing.processing_froster import FrosterProcessor
from ..training.interpolation import interpolate
from ..training.recipe_run import build_model, build_trainer
from ..training.weight_averaging import RESULT_NAME
from .plan import GRID_FIELDS, StudyPlan, Variant
from .scoring import SideScores, score_side
from .worlds import SIDES, World, decoded_clips

Metrics = dict[str, float]
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Job:
    """One fine-tuning.

    Args:
        method: its name in the plan.
        world: seed of the world.
        seed: of the fine-tuning.
        overrides: of the recipe, hyperparameters included.
        variants: what else is measured.
    """

    method: str
    world: int
    seed: int
    overrides: tuple[str, ...]
    variants: tuple[Variant, ...] = ()

    def folder(self, work: Path) -> Path:
        """Where it is done: everything that decides its outcome is in the name."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]
        return work / "jobs" / f"world{self.world}-{self.method.replace(' ', '_')}-seed{self.seed}-{digest}"


def job_for(plan: StudyPlan, method: str, *, world: int, seed: int, choices: dict[str, float], test: bool) -> Job:
    """The job of a method with chosen hyperparameters; its variants are measured in the test only."""
    own = plan.methods[method]
    # The last word on a field counts, and the order of the fields says nothing: one job, however it was arrived at.
    fields = dict(override.split("=", 1) for override in own.overrides)
    fields |= {GRID_FIELDS[name]: str(value) for name, value in choices.items()}
    overrides = tuple(f"{name}={value}" for name, value in sorted(fields.items()))
    return Job(method, world, seed, overrides, tuple(own.variants) if test else ())


def run_job(plan: StudyPlan, job: Job, work: Path) -> dict[str, Metrics]:
    """Fine-tunes and measures.

    Returns:
        Metrics by what was measured: `job.method`, and `<job.method> + <variant>` for its variants.
    """
    folder, world = job.folder(work), World.at(work, job.world)
    shutil.rmtree(folder, ignore_errors=True)
    recipe = world.recipe(plan, list(job.overrides), seed=job.seed, output_dir=folder / "run")
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
                place = folder / "run" / RESULT_NAME
            result = _measure(FrosterForVideoClassification.from_pretrained(place), processor, world, folder / variant)
        measured[f"{job.method} + {variant}"] = result
    for name in ("run", "model", "interpolation"):
        # The weights of hundreds of runs are not kept; the logits are.
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / METRICS_FILE).write_text(json.dumps(measured, indent=2), encoding="utf-8")
    return measured


def stored_metrics(folder: Path) -> dict[str, Metrics] | None:
    """What was measured in a folder, `None` where that is not done."""
    file = folder / METRICS_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def measure_frozen(plan: StudyPlan, world: World) -> dict[str, Metrics]:
    """The world's CLIP as it is, frame by frame: metrics of `frozen`."""
    recipe = world.recipe(plan, ["model.temporal_module=none"])
    model, processor = build_model(recipe.model)
    measured = {"frozen": _measure(model, processor, world, world.frozen)}
    (world.frozen / METRICS_FILE).write_text(json.dumps(measured, indent=2), encoding="utf-8")
    return measured


def _measure(model: FrosterForVideoClassification, processor: FrosterProcessor, world: World, folder: Path) -> Metrics:
    scores = {side: score_side(model, processor, decoded_clips(world, side)) for side in SIDES}
    for side, own in scores.items():
        own.save(folder / f"{side}.npz")
    return summarize(scores)


def summarize(scores: dict[str, SideScores]) -> Metrics:
    """Metrics of both sides, `base_top1` and so on, and the harmonic mean `hm` of the two top-1."""
    metrics = {f"{side}_{name}": value for side, own in scores.items() for name, value in own.metrics().items()}
    return {**metrics, "hm": harmonic_mean(metrics["base_top1"], metrics["novel_top1"])}
