"""`evaluate_protocol`: a protocol, one or more checkpoints and the user's data to a result folder."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from ..data.video_table import label_array, label_names
from ..printing import printable
from ..processing.label_matching import match_labels
from ..processing.processing_froster import FrosterProcessor
from ..processing.text_files import read_json
from ..settings import read_fields
from ..whole_files import check_writable, make_folder
from .label_similarity import similarity_table, write_similarity_report
from .metrics import BaseToNovel, MeanAndStd, average_views, compute
from .page import CALIBRATED_FOLDER
from .predicting import Computing, PredictionMismatchError, predict
from .protocols import (
    EvaluationData,
    EvaluationPlan,
    EvaluationProtocol,
    Part,
    PartResult,
    evaluate_scores,
    load_protocol,
    plan_evaluation,
)
from .report import package_versions, part_report, percent, write_report

logger = logging.getLogger(__name__)


FROZEN_ROW = "frozen model"
Score = Callable[[Part], np.ndarray]


@dataclass(frozen=True)
class FrozenModel:
    """The CLIP that the evaluated checkpoints started from.

    Args:
        model: adds its own row, and those of the ensembles with it.
        weight: its weight in the ensembles.
        training_labels: what the checkpoints were trained on; adds `label_similarity.*`, the analysis of the paper's
            Figure 1 with a point for every part.
    """

    model: nn.Module
    weight: float = 0.5
    training_labels: Sequence[str] | None = None


def evaluate_protocol(
    protocol: str | os.PathLike | EvaluationProtocol,
    *,
    models: nn.Module | Iterable[nn.Module],
    processor: FrosterProcessor,
    data: EvaluationData | Mapping[str, Any],
    output_dir: str | os.PathLike,
    method: str = "this checkpoint",
    frozen: FrozenModel | None = None,
    descriptions: Mapping[str, str | None] | None = None,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    **computing: Any,
) -> dict[str, Any]:
    """Evaluates checkpoints by a protocol; run again after a kill, it goes on where it was, to the same result.

    Args:
        protocol: name of a shipped protocol, a YAML file, or the protocol itself.
        models: one model, or one per few-shot sample (an iterable may load them one by one).
        processor: pixels and prompts.
        data: where the videos and annotation files are.
        output_dir: result folder: `result.json`, `result.md`, `plots/`, `predictions/`.
        method: name of our row.
        frozen: a model to compare with and to combine with.
        descriptions: sentences by label, `None` for those without one; matched by name with the labels of the data, of
            which none may be missing. None takes the processor's.
        accelerator: None makes one.
        overwrite: delete the evaluation that is in `output_dir`.
        computing: `batch_size`, `num_workers` and `precision`; see [`Computing`].

    Returns:
        What `result.json` holds: `results` by row (accuracies in percent), `checkpoints` and `data` hashes,
        `versions`, `protocol`, `count_differences`, `notes`. Clips that could not be decoded are named in the
        predictions.

    Raises:
        ValueError: an unknown protocol, field or value, or descriptions of other labels.
        OSError: nothing can be written to `output_dir`.
        AnnotationError: an annotation file that cannot be used.
        PredictionMismatchError: the folder holds the result of another protocol, or predictions of other weights,
            data, labels or settings.
    """
    loaded = load_protocol(protocol) if isinstance(protocol, str | os.PathLike) else protocol
    if not isinstance(loaded, EvaluationProtocol):
        raise ValueError(f"Protocol {loaded.name} is one of temporal detection; `evaluate_detection` runs it.")
    protocol = loaded
    data = data if isinstance(data, EvaluationData) else read_fields(EvaluationData, data, where="data")
    accelerator = accelerator or Accelerator()
    # Refused before data are read.
    Computing(**computing)
    folder = Path(output_dir)
    prepare_folder(folder, protocol.to_dict(), accelerator, overwrite=overwrite)
    plan = plan_evaluation(protocol, data)
    for name, found in plan.count_differences.items():
        logger.warning("%s differs from the published counts: %s", name, found)
    own_descriptions = _matched(descriptions, plan)

    def predict_with(model: nn.Module, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        return predict(
            model,
            plan.table,
            processor=processor,
            output_dir=folder / "predictions" / name,
            descriptions=own_descriptions,
            num_views=protocol.num_views,
            num_crops=protocol.num_crops,
            video_options=protocol.video_options,
            accelerator=accelerator,
            **computing,
        )

    models = [models] if isinstance(models, nn.Module) else models
    samples = [predict_with(model, f"sample_{number}") for number, model in enumerate(models)]
    if not samples:
        raise ValueError("No model was given to evaluate.")
    other = None if frozen is None else predict_with(frozen.model, "frozen")
    scorers = _scorers(method, [logits for logits, _ in samples], other and other[0], frozen.weight if frozen else 0.5)
    tested = {name: [_test_parts(plan, score) for score in scores] for name, scores in scorers.items()}
    report = _report(protocol, plan, tested, [header for _, header in samples], other and other[1])
    if accelerator.is_main_process:
        write_report(report, {name: [sample[name] for sample in tested[method]] for name in plan.parts}, folder)
        _write_similarity(frozen, processor, plan, tested, method, folder)
    accelerator.wait_for_everyone()
    return report


def _write_similarity(
    frozen: FrozenModel | None,
    processor: FrosterProcessor,
    plan: EvaluationPlan,
    tested: Mapping[str, Sequence[dict[str, PartResult]]],
    method: str,
    folder: Path,
) -> None:
    """The analysis of label similarity, where the labels of the training are given."""
    if frozen is None or frozen.training_labels is None:
        return
    points = _similarity_points(plan, tested[method], tested[FROZEN_ROW][0])
    rows = similarity_table(frozen.model, processor, training_labels=frozen.training_labels, tested=points)
    write_similarity_report(rows, folder)


def _matched(descriptions: Mapping[str, str | None] | None, plan: EvaluationPlan) -> dict[str, str] | None:
    """The descriptions of the plan's labels; `None` takes the processor's."""
    if descriptions is None:
        return None
    match = match_labels(
        descriptions, label_names(plan.table), labels_from="the descriptions", names_from="the data", allow_more=True
    )
    return match.described


def prepare_folder(folder: Path, protocol: Mapping[str, Any], accelerator: Accelerator, *, overwrite: bool) -> None:
    """Make a result folder ready to write to, or raise in all processes.

    Args:
        folder: of the result.
        protocol: what is evaluated, as `result.json` will say.
        accelerator: knows the processes.
        overwrite: delete the evaluation that is there; else one of something else is refused.
    """
    failure: list[Exception | None] = [None]
    if accelerator.is_main_process:
        try:
            check_writable(folder)
            if overwrite:
                _remove_results(folder)
            else:
                _refuse_other_protocol(folder, protocol)
            for name in ("plots", "predictions"):
                make_folder(folder / name)
        except (ValueError, OSError) as error:
            failure[0] = error
    (found,) = broadcast_object_list(failure)
    if found is not None:
        raise found


def _remove_results(folder: Path) -> None:
    """Delete what an evaluation has left; a link, but nothing behind it."""
    for name in (
        "result.json",
        "result.md",
        "index.html",
        "label_similarity.json",
        "label_similarity.md",
        "label_similarity.png",
    ):
        (folder / name).unlink(missing_ok=True)
    for part in (folder / "plots", folder / "predictions", folder / CALIBRATED_FOLDER):
        if part.is_symlink():
            part.unlink()
        elif part.is_dir():
            shutil.rmtree(part)


def _refuse_other_protocol(folder: Path, protocol: Mapping[str, Any]) -> None:
    result = folder / "result.json"
    if not result.is_file():
        return
    stored = read_json(result)
    found = stored.get("protocol") if isinstance(stored, dict) else None
    if found != json.loads(json.dumps(protocol)):
        name = found.get("name") if isinstance(found, dict) else None
        raise PredictionMismatchError(
            f"{folder} holds the result of another evaluation ({printable(str(name))}, with settings of its own). "
            "Write to another folder, or replace it: `--overwrite`, `overwrite=True`."
        )


def _scorers(
    method: str, samples: Sequence[np.ndarray], frozen: np.ndarray | None, weight: float
) -> dict[str, list[Score]]:
    """How each row of the report scores a part, one function a sample."""

    def alone(logits: np.ndarray) -> Score:
        return lambda part: average_views(logits[part.rows][:, :, part.columns])

    def together(logits: np.ndarray, other: np.ndarray, average: str) -> Score:
        return lambda part: ensemble_scores(
            logits[part.rows], other[part.rows], columns=part.columns, weight=weight, average=average
        )

    rows = {method: [alone(logits) for logits in samples]}
    if frozen is not None:
        rows[FROZEN_ROW] = [alone(frozen)]
        for average in ("probabilities", "logits"):
            rows[f"{method} + frozen ({average})"] = [together(logits, frozen, average) for logits in samples]
    return rows


def _test_parts(plan: EvaluationPlan, score: Score) -> dict[str, PartResult]:
    labels, texts = label_array(plan.table), label_names(plan.table)
    return {name: evaluate_scores(part, score(part), labels, texts) for name, part in plan.parts.items()}


def _report(
    protocol: EvaluationProtocol,
    plan: EvaluationPlan,
    tested: Mapping[str, Sequence[dict[str, PartResult]]],
    headers: Sequence[Mapping[str, Any]],
    frozen_header: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What `result.json` holds; nothing in it depends on when or in how many attempts it was made."""
    return {
        "protocol": protocol.to_dict(),
        "results": {name: _row_result(protocol, results) for name, results in tested.items()},
        "checkpoints": [header["model"] for header in headers],
        "frozen_checkpoint": None if frozen_header is None else frozen_header["model"],
        **{key: headers[0][key] for key in ("data", "prompts", "precision", "video_options")},
        "count_differences": plan.count_differences,
        "notes": _notes(protocol, plan, len(headers)),
        "versions": package_versions(),
    }


def _row_result(protocol: EvaluationProtocol, samples: Sequence[dict[str, PartResult]]) -> dict[str, Any]:
    if protocol.protocol == "base_to_novel":
        numbers = base_to_novel([s["base"] for s in samples], [s["novel"] for s in samples])
        shares = ("base", "novel", "harmonic_mean", "base_std", "novel_std")
        numbers = {key: percent(value) if key in shares else value for key, value in numbers.items()}
    else:
        first = samples[0]
        numbers = cross_dataset(
            first.get("full"), [result for name, result in first.items() if name.startswith("split")]
        )
        numbers = {
            key: [percent(entry) for entry in value] if isinstance(value, list) else percent(value)
            for key, value in numbers.items()
        }
    return {**numbers, "parts": [{name: part_report(result) for name, result in s.items()} for s in samples]}


def _similarity_points(
    plan: EvaluationPlan, tuned: Sequence[dict[str, PartResult]], frozen: dict[str, PartResult]
) -> dict[str, dict[str, Any]]:
    """Labels and accuracies (percent) of every part, as `similarity_table` takes them."""
    return {
        name: {
            "labels": frozen[name].labels,
            "accuracy": 100 * float(np.mean([sample[name].metrics["top1"] for sample in tuned])),
            "frozen_accuracy": 100 * frozen[name].metrics["top1"],
        }
        for name in plan.parts
    }


def _notes(protocol: EvaluationProtocol, plan: EvaluationPlan, num_samples: int) -> list[str]:
    notes = list(plan.notes)
    if protocol.protocol == "base_to_novel" and num_samples != protocol.num_samples:
        notes.append(f"{num_samples} few-shot samples; the published number averages {protocol.num_samples}.")
    if protocol.protocol != "base_to_novel" and num_samples > 1:
        notes.append(f"{num_samples} checkpoints were given; numbers over the splits are of the first.")
    return notes


# From parts to the numbers of a row, as pure functions.


def base_to_novel(base: Sequence[PartResult], novel: Sequence[PartResult]) -> dict[str, Any]:
    """Base, novel and harmonic mean; one result a few-shot sample, whose means enter the harmonic mean.

    Returns:
        `base`, `novel`, `harmonic_mean`, `base_std`, `novel_std` of top-1, and `num_samples`.

    Raises:
        ValueError: different numbers of base and novel results.
    """
    if len(base) != len(novel):
        raise ValueError(f"{len(base)} base and {len(novel)} novel results; each sample needs both.")
    accuracy = {"base": [result.metrics["top1"] for result in base], "novel": [r.metrics["top1"] for r in novel]}
    return {**compute(BaseToNovel, **accuracy), "num_samples": len(base)}


def cross_dataset(full: PartResult | None, splits: Sequence[PartResult]) -> dict[str, Any]:
    """Top-1 on the full set, and mean and standard deviation over the splits.

    Returns:
        `full` (None where the protocol has none), `splits_mean`, `splits_std`, `splits`.
    """
    values = [result.metrics["top1"] for result in splits]
    stats = compute(MeanAndStd, values=values)
    return {
        "full": None if full is None else full.metrics["top1"],
        "splits_mean": stats["mean"],
        "splits_std": stats["std"],
        "splits": values,
    }


def ensemble_scores(
    first: np.ndarray, second: np.ndarray, *, columns: np.ndarray, weight: float = 0.5, average: str = "probabilities"
) -> np.ndarray:
    """Scores of two models together, as the fine-tuned and the frozen one: FROSTER's upper baseline at double cost.

    Args:
        first: view logits (m, V, K).
        second: view logits of the other model on the same clips, (m, V', K).
        columns: (k,) labels to choose from.
        weight: of the second model.
        average: `probabilities` (after softmax and views) or `logits` (before; needs V = V').

    Returns:
        (m, k) probabilities.

    Raises:
        ValueError: another `average`, or shapes that do not fit.
    """
    first, second = first[:, :, columns], second[:, :, columns]
    if first.shape[0] != second.shape[0]:
        raise ValueError(f"The models scored {first.shape[0]} and {second.shape[0]} clips; both must score the same.")
    if average == "probabilities":
        return (1 - weight) * average_views(first) + weight * average_views(second)
    if average == "logits":
        if first.shape != second.shape:
            raise ValueError(
                f"View logits of shapes {first.shape} and {second.shape} cannot be averaged view by view."
            )
        return average_views((1 - weight) * first + weight * second)
    raise ValueError(f"average={average!r}; choose 'probabilities' or 'logits'.")
