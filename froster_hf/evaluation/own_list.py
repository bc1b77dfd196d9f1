"""`evaluate_videos`: how good are models on the user's own labeled videos, and where do they go wrong?

    videos, labels --read_videos--> table --predict, once per model--> view logits --> numbers, confusions, mistakes
        --> result.json, result.md, index.html, plots/, predictions/

A model is measured as it is used: with the frames, views and prompts of its processor. Letters: n videos, V views,
K labels, M models.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset

from ..data.catalogue import read_videos
from ..data.video_table import (
    VIDEO_COLUMN,
    is_multi_label,
    label_array,
    label_matrix,
    label_names,
    label_pairs,
    refuse_other_labels,
    video_name,
)
from ..pipeline.scoring_froster import Calibration, fit_platt, refuse_many_pairs
from ..printing import get_logger, printable, without_progress_bars
from ..video.columns import without_video_decoding
from ..video.source import source_name
from ..whole_files import new_folder, write_errors
from .evaluating import matched_descriptions, result_folder
from .metrics import (
    METRICS,
    MultiLabelPrecision,
    average_views,
    best_label_is_present,
    compute,
    measure,
    metrics_of,
    paired_intervals,
    true_ranks,
)
from .page import CALIBRATED_FOLDER, markdown_of_list, write_page
from .plots import can_plot, plot_class_accuracies, plot_confusion
from .predicting import Computing, predict
from .protocols import Part, PartResult, evaluate_scores
from .report import package_versions, part_report, percent, percent_interval, write_result

logger = get_logger(__name__)

# Where the prompts of a checkpoint with labels become others.
STORED_LABELS = (
    "The labels stored in the checkpoint keep the embeddings of the former prompts; store them again with "
    "`froster export --labels`."
)
# Of the labels in a report, which repeats those of each video that is wrong and what was taken for them, with escapes.
MOST_LABEL_CHARACTERS = 2**27
# Confusions that the report puts into words.
MAX_CONFUSIONS = 20


@dataclass
class ModelResult:
    """Scores and numbers of one model.

    Attributes:
        name: name of the model, as it was given.
        scores: (n, K), NaN where a video could not be decoded.
        right: (n,), 1 where the best label is one of the video's, 0 where not, NaN for a video without labels.
        numbers: by name, accuracies in percent.
        header: header of the predictions: hashes of weights, data and prompts, and settings.
        part: accuracies by class and confusions; `None` for lists of several labels per video.
    """

    name: str
    scores: np.ndarray
    right: np.ndarray
    numbers: dict[str, Any]
    header: Mapping[str, Any]
    part: PartResult | None = None
    mistakes: list[dict[str, Any]] = field(default_factory=list)


def evaluate_videos(
    videos: str | os.PathLike | Dataset,
    *,
    models: Mapping[str, Any],
    output_dir: str | os.PathLike,
    name: str | None = None,
    calibrate: bool = False,
    descriptions: Mapping[str, Any] | None = None,
    text_pooling: str | None = None,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    batch_size: int = 8,
    num_workers: int = 0,
    precision: Any = "float32",
    **reading: Any,
) -> dict[str, Any]:
    """Measures zero-shot pipelines on labeled videos; run again after an interruption, it resumes where it stopped.

    Args:
        videos: a folder of class folders, a list, or a table (`froster_hf.data`).
        models: zero-shot pipelines by the names that they have in the report. The others are compared with the first.
        output_dir: result folder: `index.html` (numbers, confusions, the videos that went wrong with their pictures),
            `result.md`, `result.json`, `plots/`, `predictions/`.
        name: name of the videos in the report; by default that of their folder or list.
        calibrate: fit the probabilities of `multi_label` to this list (Platt scaling), and save the first model with
            them, and with the descriptions that they were fitted with, into `calibrated` in the result folder.
        descriptions: a sentence by label, or several; matched by name with the labels of the videos, of which none may
            be missing. None takes those of each model's processor.
        text_pooling: how several are combined, `mean` or `max`; None takes each processor's way.
        accelerator: None makes one.
        overwrite: begin again, and replace the evaluation in `output_dir`, which stays until the new one is whole.
        batch_size: clips computed together.
        num_workers: decoding workers.
        precision: `float32`, `bfloat16` or `float16`.
        reading: `root`, `labels`, `multi_label`, `missing`, `allow_links`; see `froster_hf.data.read_videos`.

    Returns:
        What `result.json` holds: `models` by name (accuracies in percent, with intervals; that of a difference is
        `None` with fewer than six videos); `confusions`, `mistakes` and `calibration` of the first; `versions`.

    Raises:
        TypeError: the name of a model is not text.
        ValueError: no models, one label to choose from, labels that are longer than a report of so many videos can
            repeat, more pairs of video and label than are measured together, a calibration that cannot be fitted, or
            descriptions of other labels.
        AnnotationError: videos or a list that cannot be used.
        OSError: nothing can be written to `output_dir`.
        PredictionMismatchError: the folder holds another evaluation.
    """
    if not models:
        raise ValueError("No model was given to evaluate.")
    if unnamed := [name for name in models if not isinstance(name, str)]:
        raise TypeError(f"`models` has one under the name {unnamed[0]!r:.100}; a report names models by text.")
    accelerator = accelerator or Accelerator()
    computing = Computing(batch_size, num_workers, precision)
    table, own_name = named_table(videos, **reading)
    num_labels = len(label_pairs(table)[0])
    if not num_labels:
        raise ValueError("No video of the list has a label, so there is nothing to measure.")
    if calibrate or is_multi_label(table):
        refuse_many_pairs(len(table), len(label_names(table)))
    longest = max(len(json.dumps(name)) for name in label_names(table))
    if (num_labels + len(table)) * longest > MOST_LABEL_CHARACTERS:
        raise ValueError(
            f"{len(table):,} videos have {num_labels:,} labels of up to {longest:,} characters as JSON, and a report "
            f"of all that are wrong could have more than {MOST_LABEL_CHARACTERS:,}. Shorten the labels, or evaluate "
            "the list in parts."
        )
    folder = Path(output_dir)
    subject = {
        "protocol": "own_list",
        "name": name or own_name,
        "multi_label": is_multi_label(table),
    }
    described = matched_descriptions(descriptions, table)
    with result_folder(folder, subject, overwrite=overwrite) as work:
        options = {
            **vars(computing),
            "descriptions": described,
            "text_pooling": text_pooling,
            "accelerator": accelerator,
        }
        measured = [
            _measure(
                name, classify, table, work / "predictions" / f"model_{number}", calibrate and number == 0, options
            )
            for number, (name, classify) in enumerate(models.items())
        ]
        results, calibration = [result for result, _ in measured], measured[0][1] if calibrate else None
        report = _report(subject, table, results, calibration)
        if accelerator.is_main_process:
            classify = next(iter(models.values()))
            if calibration is not None:
                # The pipeline in memory has it from now on, too.
                labels = [*label_names(table), *calibration.background_labels]
                is_new = keep_descriptions(classify.processor, labels, options["descriptions"], text_pooling)
                if is_new and classify.model.config.id2label:
                    logger.warning(STORED_LABELS)
                classify.processor.calibration = calibration.to_dict()
                # First, since the report says that it is there.
                save_variant(classify, work / CALIBRATED_FOLDER)
            _write(report, results, table, classify, work)
        accelerator.wait_for_everyone()
    return report


def named_table(videos: str | os.PathLike | Dataset, **reading: Any) -> tuple[Dataset, str]:
    """Videos in any form that [`evaluate_videos`] takes, as a table, and what they are called.

    Raises:
        TypeError: they have another form.
        AnnotationError: videos or a list that cannot be used, or a table with other labels than it has names.
        ValueError: there is one label to choose from.
    """
    if not isinstance(videos, str | os.PathLike | Dataset):
        raise TypeError(
            f"`videos` is of the type {type(videos).__name__}. Give a folder of class folders, a list, or a "
            "`datasets.Dataset` as `as_video_table` makes it."
        )
    if isinstance(videos, Dataset):
        refuse_other_labels(videos)
        table, name = without_video_decoding(videos), "table"
    else:
        table, name = read_videos(videos, **reading), Path(videos).name
    if not is_multi_label(table) and len(label_names(table)) == 1:
        raise ValueError(
            f"{printable(name)} has one label to choose from, {printable(repr(label_names(table)[0]), limit=200)}, so "
            "whatever a model answers is right. Name the others: of a list by labels= (`--labels FILE`), of a folder "
            "by class folders."
        )
    return table, name


def own_views(processor: Any) -> dict[str, Any]:
    """What [`predict`] needs to see videos as the checkpoint does in use."""
    video = processor.video_processor
    return {
        "num_views": video.num_views,
        "num_crops": video.num_crops,
        "video_options": {"sampling": video.sampling},
    }


def _measure(
    name: str, classify: Any, table: Dataset, folder: Path, calibrate: bool, options: Mapping[str, Any]
) -> tuple[ModelResult, Calibration | None]:
    """One model over the table, and the calibration that holds for it, fitted here or its own."""
    labels = label_names(table)
    scoring = _scoring(classify, table, fitted=calibrate)
    logits, header = predict(
        classify.model,
        table,
        processor=classify.processor,
        output_dir=folder,
        extra_labels=scoring.background if scoring else (),
        **own_views(classify.processor),
        **options,
    )
    evidence = _evidence(scoring, logits) if scoring else None
    calibration = getattr(scoring, "calibration", None)
    if calibrate:
        calibration = _fit(evidence, label_matrix(table), scoring)
    if is_multi_label(table):
        assert evidence is not None  # needed for such tables
        return _multi_label_result(name, evidence, header, table, calibration), calibration
    return _single_label_result(name, logits[..., : len(labels)], header, table), calibration


def _scoring(classify: Any, table: Dataset, *, fitted: bool) -> Any:
    """How the model scores each label for itself; `None` where only the contest of the labels counts."""
    names = label_names(table)
    if fitted or (is_multi_label(table) and classify.processor.calibration is None):
        return classify.scoring(names, function_to_apply="evidence")
    return classify.scoring(names, multi_label=True) if is_multi_label(table) else None


def _evidence(scoring: Any, logits: np.ndarray) -> np.ndarray:
    """View logits (n, V, K + M) to the evidence for each label, (n, K): of each view, then the mean."""
    return scoring.evidence(torch.from_numpy(logits)).mean(dim=1).numpy()


def _fit(evidence: np.ndarray | None, present: np.ndarray, scoring: Any) -> Calibration:
    assert evidence is not None  # calibrations are of evidence
    decoded = np.isfinite(evidence).all(axis=1)
    return fit_platt(
        torch.from_numpy(evidence[decoded]), torch.from_numpy(present[decoded]), background_labels=scoring.background
    )


def _single_label_result(name: str, logits: np.ndarray, header: Mapping[str, Any], table: Dataset) -> ModelResult:
    labels, names = label_array(table), label_names(table)
    scores = average_views(logits)
    everything = Part("all", np.arange(len(table)), np.arange(len(names)))
    part = evaluate_scores(everything, scores, labels, names)
    right = (true_ranks(scores, labels) == 0).astype(np.float64)
    numbers = {key: value for key, value in part_report(part).items() if key != "class_accuracies"}
    return ModelResult(name, scores, right, numbers, header, part)


def _multi_label_result(
    name: str, evidence: np.ndarray, header: Mapping[str, Any], table: Dataset, calibration: Calibration | None
) -> ModelResult:
    present, names = label_matrix(table), label_names(table)
    decoded = np.isfinite(evidence).all(axis=1)
    found = compute(
        MultiLabelPrecision, predictions=evidence, references=[np.flatnonzero(row).tolist() for row in present]
    )
    measured = {metric: found[metric] for metric in metrics_of("labels")}
    if calibration is not None:
        probabilities = 1 / (1 + np.exp(-(calibration.scale * evidence + calibration.bias)))
        measured |= measure("answers", np.nan_to_num(probabilities, nan=0.0) >= calibration.threshold, present)
    numbers: dict[str, Any] = {
        **{metric: METRICS[metric].shown(value, digits=2) for metric, value in measured.items()},
        "num_clips": len(table),
        "num_undecodable": int((~decoded).sum()),
        "num_labels": len(names),
        "average_precisions": {label: percent(value) for label, value in zip(names, found["average_precisions"])},
    }
    return ModelResult(name, evidence, best_label_is_present(evidence, present), numbers, header)


def _report(
    subject: Mapping[str, Any], table: Dataset, results: Sequence[ModelResult], calibration: Calibration | None
) -> dict[str, Any]:
    right = np.stack([result.right for result in results])
    right = right[:, np.isfinite(right).all(axis=0)]
    own, differences = paired_intervals(right)
    first = results[0]
    first.mistakes = _mistakes(first, table)
    models = {}
    for number, result in enumerate(results):
        entry: dict[str, Any] = {
            **result.numbers,
            "interval": [percent(end) for end in own[number]],
            **{key: result.header[key] for key in ("model", "prompts", "descriptions", "precision", "video_options")},
        }
        if result.part is not None:
            entry["class_accuracies"] = part_report(result.part)["class_accuracies"]
        if number:
            entry["difference"] = percent(right[number].mean() - right[0].mean())
            entry["difference_interval"] = percent_interval(differences[number])
        models[result.name] = entry
    return {
        "protocol": dict(subject),
        "data": first.header["data"],
        "labels": label_names(table),
        "models": models,
        "confusions": [] if first.part is None else confusions(first.part),
        "mistakes": first.mistakes,
        "calibration": None if calibration is None else calibration.to_dict(),
        "versions": package_versions(),
    }


def confusions(part: PartResult) -> list[dict[str, Any]]:
    """The most frequent confusions: `true`, `predicted`, `count`, and `of`, the number of clips of the true label."""
    true, predicted, counts = part.confusion.row, part.confusion.col, part.confusion.data
    totals = part.confusion.sum(axis=1)
    # Of equally frequent ones, in the order of the labels.
    order = np.lexsort((predicted, true, -counts))
    return [
        {
            "true": part.labels[true[cell]],
            "predicted": part.labels[predicted[cell]],
            "count": int(counts[cell]),
            "of": int(totals[true[cell]]),
        }
        for cell in order[true[order] != predicted[order]][:MAX_CONFUSIONS]
    ]


def _mistakes(result: ModelResult, table: Dataset) -> list[dict[str, Any]]:
    """The videos whose best label is none of their own, in the order of the table; rows of the table with words."""
    names, (rows, labels) = label_names(table), label_pairs(table)
    mistakes = []
    for row in np.flatnonzero(result.right == 0):
        scores = result.scores[row]
        decoded = bool(np.isfinite(scores).all())
        own = labels[slice(*np.searchsorted(rows, [row, row + 1]))]
        # Of several with the best score, one that is wrong.
        best = np.setdiff1d(np.flatnonzero(scores == scores.max()), own)
        mistakes.append(
            {
                "row": int(row),
                "video": source_name(video_name(table[int(row)][VIDEO_COLUMN], row=int(row))),
                "true": [names[label] for label in own],
                "predicted": names[int(best[0])] if decoded else None,
                "score": round(float(scores.max()), 4) if decoded else None,
            }
        )
    return mistakes


def _write(
    report: Mapping[str, Any], results: Sequence[ModelResult], table: Dataset, classify: Any, folder: Path
) -> None:
    plots = {}
    for number, result in enumerate(results):
        if result.part is None or not can_plot():
            continue
        title = f"top-1 {100 * result.part.metrics['top1']:.1f} %"
        confusion = folder / "plots" / f"confusion_model_{number}.png"
        classes = folder / "plots" / f"classes_model_{number}.png"
        plot_confusion(result.part.confusion, result.part.labels, confusion, title=title)
        plot_class_accuracies(result.part.class_accuracies, result.part.labels, classes, title=title)
        plots[result.name] = [f"plots/{confusion.name}", f"plots/{classes.name}"]
    write_page(report, table, plots=plots, processor=classify.processor, folder=folder)
    write_result(report, markdown_of_list(report), folder)


def keep_descriptions(
    processor: Any, labels: Sequence[str], descriptions: Mapping[str, Any] | None, text_pooling: str | None
) -> bool:
    """Give a processor what a call said about the labels, with which something was found for it; whether that is new.

    What the processor has to say about other labels stays; of these, nothing that the call has left out.
    """
    before = processor.label_descriptions, processor.text_pooling
    if descriptions is not None:
        asked = set(labels)
        others = {name: texts for name, texts in (processor.label_descriptions or {}).items() if name not in asked}
        processor.label_descriptions = {**others, **descriptions} or None
    if text_pooling is not None:
        processor.text_pooling = text_pooling
    return before != (processor.label_descriptions, processor.text_pooling)


def save_variant(classify: Any, folder: Path) -> None:
    """A pipeline's checkpoint with what was found for its processor, in the place of an earlier one.

    Raises:
        OSError: it cannot be written; the earlier one is there as before.
    """
    with without_progress_bars(), new_folder(folder, replace=True) as part, write_errors(folder):
        classify.save_pretrained(part)
