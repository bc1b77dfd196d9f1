"""One fine-tuning of the study, and what is measured of it; a job that is done is read back.

A job is a folder: `metrics.json` (written last), the logits of both sides, and the trained model while it is needed.

Among the measures is one whose answer a time-reversal invariant model gets right exactly half of the time: every clip
is shown as it is and played backwards, and the model chooses between the label and its opposite ("a red star sliding
left", "a red star sliding right"). A model that sees no direction answers the same both times, so one of the two
answers is wrong. The clips are reversed after decoding: no codec leaves a trace of the direction.

Speed is measured likewise where labels tell it: between the label and that of the other speed.

Letters: n clips, m of them with a direction, K labels, E opposites and other speeds that are not labels of this side.
"""

import functools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig

from ...evaluation.metrics import harmonic_mean, top_k_accuracy
from ...modeling.configuration_froster import FrosterConfig
from ...modeling.modeling_froster import FrosterForVideoClassification, FrosterModel
from ...printing import listing, printable
from ...processing.processing_froster import FrosterProcessor
from ...processing.text_files import read_json
from ...training.arguments import FrosterTrainingArguments
from ...training.checkpointing import AVERAGE_NAME
from ...training.distillation import NO_DISTILLATION
from ...training.losses import refuse_nonfinite_scores
from ...training.recipe_run import build_model, build_trainer
from ...training.recipes import Recipe, RecipeModel
from ...training.teacher import FrozenTeacher
from ...training.trainer import FrosterTrainer
from ...training.weights import interpolate
from ...whole_files import make_folder, refuse_irregular, write_text_whole, written_whole
from ..pretraining.stills import ACCURACIES
from ..vocabulary import MovingShape
from .plan import FROZEN, GRID_FIELDS, Variant
from .worlds import (
    BATCH_SIZE,
    OUT_OF_CONTEXT,
    SIDES,
    DecodedClips,
    World,
    decoded_clips,
    fingerprint,
    prepare_world,
    pretrain_clip,
    remembering_teacher,
    training_clips,
    what_decides,
)

Metrics = dict[str, float]
METRICS_FILE = "metrics.json"
COMPARED, COMPARED_CLIPS = ("base_top1", "novel_top1", "hm"), ("accuracy",)
# Shares of a side's clips that are right.
MEASURES = (
    "top1",
    *("appearance", "motion"),  # the two halves of the answer
    "direction",  # between a label and its opposite over clips and their reversals
    "undirected",  # top-1 of the clips that are their own reversal
    "speed",  # between a label and that of the other speed
)
# All that is measured, of models and of the CLIP of a world.
MEASURED = {f"{side}_{name}" for side in (*SIDES, OUT_OF_CONTEXT) for name in MEASURES} | {"hm", *ACCURACIES}
# A stored one has a kilobyte for each variant of a method; those of ten thousand jobs are held together.
MAX_METRICS_BYTES = 2**16
CLIP = "clip"
_COUNTED_FRAMES, _COUNTED_SIDE = 8, 224


@dataclass(frozen=True)
class SideScores:
    """Logits of one side's clips.

    Args:
        texts: K labels, then E opposites and other speeds.
        num_labels: K.
        labels: (n,).
        forward: (n, K + E).
        backward: (m, K + E), of the clips with a direction, their frames in reverse; none where that was not asked.
    """

    texts: list[str]
    num_labels: int
    labels: np.ndarray
    forward: np.ndarray
    backward: np.ndarray

    def averaged_with(self, other: "SideScores") -> "SideScores":
        """The ensemble of two models: the mean of their logits.

        Raises:
            ValueError: they have scored other clips or texts.
        """
        for name, own in vars(self).items():
            others = getattr(other, name)
            if name == "labels":
                own, others = own.tolist(), others.tolist()
            elif isinstance(own, np.ndarray):
                own, others = (own.shape, own.dtype), (others.shape, others.dtype)
            if own != others:
                raise ValueError(f"One model has {name} {own!r:.100}, the other {others!r:.100}.")
        forward, backward = (self.forward + other.forward) / 2, (self.backward + other.backward) / 2
        return SideScores(self.texts, self.num_labels, self.labels, forward, backward)

    def metrics(self) -> dict[str, float]:
        """The shares of `MEASURES`, NaN where there are no such clips."""
        logits = self.forward[:, : self.num_labels]
        shapes = [MovingShape.from_label(text) for text in self.texts]
        pairs = [(shapes[answer], shapes[label]) for answer, label in zip(logits.argmax(1), self.labels)]
        opposite = _opposite_columns(self.texts, self.labels)
        directed = opposite >= 0
        other_speed = _columns(self.texts, self.labels, other_speeds(self.texts))
        hurried = np.flatnonzero(other_speed >= 0)
        own, other = (self.forward[hurried, columns[hurried]] for columns in (self.labels, other_speed))
        values = (
            top_k_accuracy(logits, self.labels, k=1),
            float(np.mean([(a.color, a.shape) == (b.color, b.shape) for a, b in pairs])),
            float(np.mean([a.motion == b.motion for a, b in pairs])),
            math.nan
            if not len(self.backward)
            else direction_accuracy(
                self.forward[directed], self.backward, own=self.labels[directed], opposite=opposite[directed]
            ),
            top_k_accuracy(logits[~directed], self.labels[~directed], k=1),
            float((own > other).mean()) if len(hurried) else math.nan,
        )
        return dict(zip(MEASURES, values, strict=True))

    def save(self, file: Path) -> None:
        """Write `file`, a safetensors file: one that says more than it holds cannot be read."""
        make_folder(file.parent)
        arrays = {"labels": self.labels, "forward": self.forward, "backward": self.backward}
        told = {"texts": json.dumps(self.texts), "num_labels": str(self.num_labels), "of": _place_of(file)}
        with written_whole(file) as part:
            save_file(arrays, part, metadata=told)

    @classmethod
    def load(cls, file: Path) -> "SideScores":
        """Read what `save` wrote.

        Raises:
            ValueError: it is not that; names it.
        """
        refuse_irregular(file)
        try:
            with safe_open(file, framework="np") as stored:
                told = stored.metadata() or {}
            scores = cls(json.loads(told["texts"]), int(told["num_labels"]), **load_file(file))
            if not (np.isfinite(scores.forward).all() and np.isfinite(scores.backward).all()):
                raise ValueError("it has scores that are not finite, as no model's were that was measured")
            if told["of"] != _place_of(file):
                raise ValueError(f"it is of {told['of']!r:.200}")
            return scores
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{printable(str(file))} is not what a study has stored. Delete it to have it measured again."
            ) from error


def _place_of(scores_file: Path) -> str:
    """What stored scores say that they are of: those of another model for the same clips look alike."""
    return f"{scores_file.parent.name}/{scores_file.stem}"


@torch.inference_mode()
def score_side(
    model: FrosterForVideoClassification, processor: FrosterProcessor, clips: DecodedClips, *, backward: bool = True
) -> SideScores:
    """Score the clips of one side.

    Args:
        model: to score them with.
        processor: its templates make the prompts.
        clips: n clips.
        backward: whether those with a direction are scored backwards too.

    Raises:
        NonFiniteError: the model has no finite scores of some, as after a training that has diverged.
    """
    labels = clips.labels.numpy()
    others = {*opposite_labels(clips.label_names), *other_speeds(clips.label_names)} - {None, *clips.label_names}
    extra = {text for text in others if text is not None}
    texts = [*clips.label_names, *sorted(extra)]
    model.eval()
    text_embeds = processor.embed_labels(texts, model=model)

    def logits(pixel_values_videos: torch.Tensor) -> np.ndarray:
        batches = (batch.to(model.device) for batch in pixel_values_videos.split(BATCH_SIZE))
        scores = torch.cat([model(batch, text_embeds=text_embeds).logits.float().cpu() for batch in batches])
        names = [f"clip {number}" for number in range(len(scores))]
        refuse_nonfinite_scores([(names, ~scores.isfinite().all(dim=-1))])
        return scores.numpy()

    pixels = clips.pixel_values_videos
    directed = torch.from_numpy(_opposite_columns(texts, labels) >= 0)
    forward = logits(pixels)
    if not backward or not directed.any():
        reverse = forward[:0]
    elif all(entry.time_symmetric for entry in model.config.temporal_entries):
        reverse = forward[directed.numpy()]  # what the model cannot but answer
    else:
        reverse = logits(pixels[directed].flip(1))
    return SideScores(texts, len(clips.label_names), labels, forward, reverse)


def _opposite_columns(texts: list[str], labels: np.ndarray) -> np.ndarray:
    """Each clip's opposite label as an index into `texts` (n,), -1 where its motion has no direction."""
    return _columns(texts, labels, opposite_labels(texts))


def _columns(texts: list[str], labels: np.ndarray, others: Sequence[str | None]) -> np.ndarray:
    """The index into `texts` of each clip's other label (n,), -1 where it has none."""
    place = {text: index for index, text in enumerate(texts)}
    return np.array([-1 if text is None else place.get(text, -1) for text in others])[labels]


def opposite_labels(labels: Sequence[str]) -> list[str | None]:
    """The label of each label's clips played backwards, `None` where that is the same label."""
    opposites = [str(MovingShape.from_label(label).opposite) for label in labels]
    return [None if opposite == label else opposite for label, opposite in zip(labels, opposites)]


def other_speeds(labels: Sequence[str]) -> list[str | None]:
    """The label of the same motion at the other speed, `None` where a label tells no speed."""
    others = [MovingShape.from_label(label).other_speed for label in labels]
    return [None if other is None else str(other) for other in others]


def direction_accuracy(forward: np.ndarray, backward: np.ndarray, *, own: np.ndarray, opposite: np.ndarray) -> float:
    """Share of right answers over clips and their reversals.

    Args:
        forward: (n, K) logits of the clips.
        backward: (n, K) logits of the same clips, frames in reverse.
        own: (n,) each clip's label.
        opposite: (n,) the label of its reversal.
    """
    rows = np.arange(len(own))
    right = forward[rows, own] > forward[rows, opposite]
    right_backward = backward[rows, opposite] > backward[rows, own]
    return float((right.mean() + right_backward.mean()) / 2)


@dataclass(frozen=True)
class Job:
    """One fine-tuning.

    Args:
        method: its name in the plan.
        world: that it happens in.
        seed: seed of the fine-tuning.
        overrides: overrides of the recipe, hyperparameters included.
        variants: what else is measured.
        is_trial: whether it is there to choose hyperparameters: only the top-1 of base and novel is measured.
    """

    method: str
    world: World
    seed: int
    overrides: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    is_trial: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return f"world {self.world.seed}, seed {self.seed}, {self.method} ({', '.join(self.overrides)})"

    @property
    def rows(self) -> tuple[str, ...]:
        """What is measured, by name."""
        return (self.method, *(f"{self.method} + {variant}" for variant in self.variants))

    @property
    def folder(self) -> Path:
        """Where it is done: everything that decides its outcome is in the name."""
        world = self.world
        decides = [what_decides(self.recipe()), self.variants, self.is_trial, world.folder.name, world.frozen.name]
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
    return Job(method, world, seed, overrides, tuple(own.variants) if test else (), is_trial=not test)


def run_job(job: Job) -> dict[str, Metrics]:
    """Fine-tunes and measures.

    Returns:
        Metrics by what was measured: `job.method`, and `<job.method> + <variant>` for its variants.
    """
    folder, world = job.folder, job.world
    shutil.rmtree(folder, ignore_errors=True)
    trainer = _trainer(job)
    trainer.train()
    processor: Any = trainer.processing_class
    model: Any = trainer.model
    measured = {job.method: _measure(model, processor, world, folder, is_trial=job.is_trial)}
    for variant in job.variants:
        if variant == "ensemble":
            frozen = {side: SideScores.load(world.frozen / f"{side}.safetensors") for side in world.sides}
            own = {side: SideScores.load(folder / f"{side}.safetensors") for side in world.sides}
            result = summarize({side: own[side].averaged_with(frozen[side]) for side in world.sides})
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


def _trainer(job: Job) -> FrosterTrainer:
    """That of the job's recipe, with what `prepare_world` has computed for all jobs."""
    recipe = job.world.placed(job.recipe(), output_dir=job.folder / "run")
    return build_trainer(
        recipe,
        make_clips=functools.partial(training_clips, job.world, recipe),
        make_teacher=functools.partial(_teacher, job.world),
    )


def _teacher(world: World, arguments: FrosterTrainingArguments) -> FrozenTeacher | None:
    """The world's own, where it answers as the teacher that the arguments describe."""
    is_clip = arguments.teacher is None and arguments.teacher_momentum is None
    # As the stored embeddings were made: in single precision.
    is_single = arguments.teacher_dtype in (None, "float32") and not (arguments.bf16 or arguments.fp16)
    is_used = arguments.distillation != NO_DISTILLATION
    return remembering_teacher(world) if is_clip and is_single and is_used else None


def gigaflops(model: RecipeModel) -> float:
    """Arithmetic of the vision tower of a recipe's model at the size of ViT-B/16, on one clip of 8 frames.

    Nothing is computed: torch counts on tensors without values. The small models of a study have so few tokens that
    the shares of their attention say little of a real one's.
    """
    names = ("temporal_module", "temporal_radius", "temporal_pooling", "adapter_size")
    fields = {name: getattr(model, name) for name in names if getattr(model, name) is not None}
    vision = CLIPVisionConfig(image_size=_COUNTED_SIDE, patch_size=16)
    config = FrosterConfig(vision_config=vision, num_frames=_COUNTED_FRAMES, **fields)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        FrosterModel(config).get_video_features(torch.empty(1, _COUNTED_FRAMES, 3, _COUNTED_SIDE, _COUNTED_SIDE))
    return counter.get_total_flops() / 1e9


def costs_of(job: Job) -> dict[str, float]:
    """`gigaflops` of a job's method and of its variants: an ensemble computes the frozen model too."""
    model = job.recipe().model
    own, frozen = gigaflops(model), gigaflops(replace(model, temporal_module="none", temporal_pooling=None))
    costs = (own, *(own + (frozen if variant == "ensemble" else 0) for variant in job.variants))
    return dict(zip(job.rows, costs))


def stored_metrics(
    folder: Path, names: Sequence[str], compared: Sequence[str] = COMPARED
) -> dict[str, Metrics] | None:
    """What was measured in a folder, `None` where that is not done.

    Args:
        folder: that of a job or a world.
        names: what is measured there.
        compared: metrics that each of them has.

    Raises:
        ValueError: the file is not as a study writes it; names it.
    """
    file = folder / METRICS_FILE
    refuse_irregular(file)
    if not file.exists():
        return None
    # Worlds without speeds have no accuracy of theirs.
    content = read_json(file, max_bytes=MAX_METRICS_BYTES, max_depth=3, finite=False)
    is_whole = isinstance(content, dict) and list(content) == list(names)
    if not is_whole or not all(_are_metrics(metrics, compared) for metrics in content.values()):
        raise ValueError(
            f"{printable(str(file))} is not what a study measures of {listing(names, limit=5)}. Delete it to have it "
            "measured again."
        )
    return content


def _are_metrics(metrics: Any, compared: Sequence[str]) -> bool:
    """Shares of `MEASURED`, or NaN; those by which all methods are compared are there, not NaN, and fit each other."""
    return (
        isinstance(metrics, dict)
        and metrics.keys() <= MEASURED
        and all(type(value) in (int, float) for value in metrics.values())
        and not any(value < 0 or value > 1 for value in metrics.values())
        and all(0 <= metrics.get(name, -1) <= 1 for name in compared)
        and ("hm" not in compared or math.isclose(metrics["hm"], _harmonic_mean(metrics), abs_tol=1e-9))
    )


def pretrain_and_measure(world: World) -> dict[str, Metrics]:
    """Pre-trains the CLIP of a world: metrics of `clip`, its accuracy on held-out stills."""
    measured = {CLIP: pretrain_clip(world)}
    if not _are_metrics(measured[CLIP], COMPARED_CLIPS):
        folder = printable(str(world.clip.parent))
        raise ValueError(f"{folder} has other results than a pre-training's. Delete it to have it done again.")
    _store(measured, world.clip.parent)
    return measured


def prepare_and_measure(world: World) -> dict[str, Metrics]:
    """Prepares a world, and measures its CLIP as it is, frame by frame: metrics of `frozen`."""
    prepare_world(world)
    model, processor = build_model(world.placed(world.frozen_recipe()).model)
    measured = {FROZEN: _measure(model, processor, world, world.frozen)}
    _store(measured, world.frozen)
    return measured


def _store(measured: dict[str, Metrics], folder: Path) -> None:
    write_text_whole(folder / METRICS_FILE, json.dumps(measured, indent=2) + "\n")


def _measure(
    model: FrosterForVideoClassification,
    processor: FrosterProcessor,
    world: World,
    folder: Path,
    *,
    is_trial: bool = False,
) -> Metrics:
    scores = {
        side: score_side(
            model, processor, decoded_clips(world, side), backward=not is_trial and side != OUT_OF_CONTEXT
        )
        for side in (SIDES if is_trial else world.sides)
    }
    for side, own in scores.items():
        own.save(folder / f"{side}.safetensors")
    return summarize(scores)


def summarize(scores: dict[str, SideScores]) -> Metrics:
    """Metrics of all sides, `base_top1` and so on, and the harmonic mean `hm` of the top-1 of base and novel."""
    metrics = {f"{side}_{name}": value for side, own in scores.items() for name, value in own.metrics().items()}
    return {**metrics, "hm": _harmonic_mean(metrics)}


def _harmonic_mean(metrics: Metrics) -> float:
    return harmonic_mean(metrics["base_top1"], metrics["novel_top1"])
