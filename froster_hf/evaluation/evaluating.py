"""`evaluate_recipe`: a recipe, one or more checkpoints and the user's data to a result folder."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn

from ..data.video_table import label_array, label_names
from ..processing.processing_froster import FrosterProcessor
from . import protocols
from .plans import EvaluationPlan, plan_evaluation
from .predicting import Precision, predict
from .protocols import Part, PartResult
from .recipes import EvaluationData, EvaluationRecipe, checked, load_recipe
from .report import package_versions, part_report, percent, write_report

logger = logging.getLogger(__name__)

Score = Callable[[Part], np.ndarray]


def evaluate_recipe(
    recipe: str | os.PathLike | EvaluationRecipe,
    *,
    models: nn.Module | Iterable[nn.Module],
    processor: FrosterProcessor,
    data: EvaluationData | Mapping[str, Any],
    output_dir: str | os.PathLike,
    method: str = "this checkpoint",
    frozen_model: nn.Module | None = None,
    frozen_weight: float = 0.5,
    descriptions: Mapping[str, str] | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    precision: Precision = "float32",
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Evaluates checkpoints by a recipe; run again after a kill, it goes on where it was, to the same result.

    Args:
        recipe: name of a shipped recipe, a YAML file, or the recipe itself.
        models: one model, or one a few-shot sample (an iterable may load them one by one).
        processor: pixels and prompts.
        data: where the videos and annotation files are.
        output_dir: result folder: `result.json`, `result.md`, `plots/`, `predictions/`.
        method: name of our row.
        frozen_model: the CLIP that the checkpoints started from; adds its own row and that of the ensembles with it.
        frozen_weight: its weight in the ensembles.
        descriptions: sentences by label; None takes the processor's.
        batch_size: clips computed together.
        num_workers: decoding workers.
        precision: of the vision tower's computation.
        accelerator: None makes one.

    Returns:
        What `result.json` holds: `results` by row (accuracies in percent), `checkpoints` and `data` hashes,
        `versions`, `recipe`, `count_differences`, `undecodable`, `notes`.

    Raises:
        ValueError: an unknown recipe, field or value.
        AnnotationError: an annotation file that cannot be used.
        PredictionMismatchError: the folder holds predictions of other weights, data, labels or settings.
        PromptLeakError: a prompt holds something of a file's path.
    """
    recipe = recipe if isinstance(recipe, EvaluationRecipe) else load_recipe(recipe)
    data = data if isinstance(data, EvaluationData) else checked(EvaluationData, data, source="data")
    accelerator = accelerator or Accelerator()
    plan = plan_evaluation(recipe, data)
    for name, found in plan.count_differences.items():
        logger.warning("%s differs from the published counts: %s", name, found)

    def logits_of(model: nn.Module, folder: str) -> tuple[np.ndarray, dict[str, Any]]:
        return predict(
            model,
            plan.table,
            processor=processor,
            output_dir=Path(output_dir) / "predictions" / folder,
            descriptions=descriptions,
            num_views=recipe.num_views,
            num_crops=recipe.num_crops,
            video_options=recipe.video_options,
            batch_size=batch_size,
            num_workers=num_workers,
            precision=precision,
            accelerator=accelerator,
        )

    models = [models] if isinstance(models, nn.Module) else models
    samples = [logits_of(model, f"sample_{number}") for number, model in enumerate(models)]
    frozen = None if frozen_model is None else logits_of(frozen_model, "frozen")
    rows = _score_rows(method, [logits for logits, _ in samples], None if frozen is None else frozen[0], frozen_weight)
    tested = {name: [_test_parts(plan, score) for score in scores] for name, scores in rows.items()}
    report = {
        "recipe": dataclasses.asdict(recipe),
        "results": {name: _row_result(recipe, results) for name, results in tested.items()},
        "checkpoints": [header["model"] for _, header in samples],
        "frozen_checkpoint": None if frozen is None else frozen[1]["model"],
        "data": samples[0][1]["data"],
        "prompts": samples[0][1]["prompts"],
        "precision": precision,
        "video_options": samples[0][1]["video_options"],
        "count_differences": plan.count_differences,
        "notes": _notes(recipe, plan, len(samples)),
        "versions": package_versions(),
    }
    if accelerator.is_main_process:
        first = tested[method]
        write_report(report, {name: [sample[name] for sample in first] for name in plan.parts}, output_dir)
    accelerator.wait_for_everyone()
    return report


def _score_rows(
    method: str, samples: Sequence[np.ndarray], frozen: np.ndarray | None, weight: float
) -> dict[str, list[Score]]:
    """How each row of the report scores a part, one function a sample."""

    def alone(logits: np.ndarray) -> Score:
        return lambda part: protocols.average_views(logits[part.rows][:, :, part.columns])

    def together(logits: np.ndarray, other: np.ndarray, average: str) -> Score:
        return lambda part: protocols.ensemble_scores(
            logits[part.rows], other[part.rows], columns=part.columns, weight=weight, average=average
        )

    if not samples:
        raise ValueError("No model was given to evaluate.")
    rows = {method: [alone(logits) for logits in samples]}
    if frozen is not None:
        rows["frozen model"] = [alone(frozen)]
        for average in ("probabilities", "logits"):
            rows[f"{method} + frozen ({average})"] = [together(logits, frozen, average) for logits in samples]
    return rows


def _test_parts(plan: EvaluationPlan, score: Score) -> dict[str, PartResult]:
    labels, texts = label_array(plan.table), label_names(plan.table)
    return {name: protocols.evaluate_scores(part, score(part), labels, texts) for name, part in plan.parts.items()}


def _row_result(recipe: EvaluationRecipe, samples: Sequence[dict[str, PartResult]]) -> dict[str, Any]:
    if recipe.protocol == "base_to_novel":
        numbers = protocols.base_to_novel([s["base"] for s in samples], [s["novel"] for s in samples])
        shares = ("base", "novel", "harmonic_mean", "base_std", "novel_std")
        numbers = {key: percent(value) if key in shares else value for key, value in numbers.items()}
    else:
        first = samples[0]
        numbers = protocols.cross_dataset(
            first.get("full"), [result for name, result in first.items() if name.startswith("split")]
        )
        numbers = {
            key: [percent(entry) for entry in value] if isinstance(value, list) else percent(value)
            for key, value in numbers.items()
        }
    return {**numbers, "parts": [{name: part_report(result) for name, result in s.items()} for s in samples]}


def _notes(recipe: EvaluationRecipe, plan: EvaluationPlan, num_samples: int) -> list[str]:
    notes = list(plan.notes)
    if recipe.protocol == "base_to_novel" and num_samples != recipe.num_samples:
        notes.append(f"{num_samples} few-shot samples; the published number averages {recipe.num_samples}.")
    if recipe.protocol == "cross_dataset" and num_samples > 1:
        notes.append(f"{num_samples} checkpoints were given; cross-dataset numbers are of the first.")
    return notes
