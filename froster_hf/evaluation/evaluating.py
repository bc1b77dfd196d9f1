"""`evaluate_protocol`: a protocol, one or more checkpoints and the user's data to a result folder."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from ..data.video_table import label_array, label_names
from ..printing import get_logger, listing, printable
from ..processes import in_main_process, refuse_processes_alone, worked_in_by_one_run
from ..processing.label_matching import match_labels
from ..processing.processing_froster import FrosterProcessor
from ..processing.prompts_froster import Description
from ..processing.text_files import read_json
from ..settings import read_fields
from ..whole_files import (
    ResultExistsError,
    check_writable,
    make_folder,
    refuse_irreplaceable,
    refuse_link,
    refuse_results,
    write_text_whole,
)
from .label_similarity import similarity_table, write_similarity_report
from .metrics import BaseToNovel, MeanAndStd, average_views, compute
from .page import CALIBRATED_FOLDER, CHOSEN_FOLDER
from .predicting import Computing, PredictionMismatchError, predict
from .protocols import (
    EvaluationData,
    EvaluationPlan,
    EvaluationProtocol,
    Part,
    PartResult,
    evaluate_scores,
    find_protocol,
    plan_evaluation,
)
from .report import package_versions, part_report, percent, write_report

logger = get_logger(__name__)


# What an evaluation leaves in its folder.
RESULT_FILES = (
    "result.json",
    "result.md",
    "index.html",
    *(f"label_similarity.{kind}" for kind in ("json", "md", "png")),
)
VARIANT_FOLDERS = (CALIBRATED_FOLDER, CHOSEN_FOLDER)
# By its predictions a folder is known as an evaluation's; they are deleted last.
RESULT_FOLDERS = ("plots", *VARIANT_FOLDERS, "predictions")
# Within a result folder: an evaluation that will replace the one that is there, and the same when it is whole.
UNFINISHED_FOLDER, WHOLE_FOLDER = ".unfinished-evaluation", ".whole-evaluation"
# In the unfinished one, from its beginning: what is evaluated, as its result will say.
SUBJECT_FILE = "evaluation.json"
FROZEN_ROW = "frozen model"
Average = Literal["probabilities", "logits"]
# From a part to the scores (m, k) of its m clips for its k labels.
Score = Callable[[Part], np.ndarray]


@dataclass(frozen=True)
class FrozenModel:
    """The CLIP that the evaluated checkpoints started from.

    Args:
        model: adds its own row, and those of the ensembles with it.
        weight: its weight in the ensembles.
        training_labels: what the checkpoints were trained on; adds `label_similarity.*`, the analysis of the paper's
            Figure 1 with a point for every part.
        processor: its own pixels and prompts; by default those of the call.
    """

    model: nn.Module
    weight: float = 0.5
    training_labels: Sequence[str] | None = None
    processor: FrosterProcessor | None = None


def evaluate_protocol(
    protocol: str | os.PathLike | EvaluationProtocol,
    *,
    models: nn.Module | Iterable[nn.Module | tuple[nn.Module, FrosterProcessor]],
    processor: FrosterProcessor,
    data: EvaluationData | Mapping[str, Any],
    output_dir: str | os.PathLike,
    method: str = "this checkpoint",
    frozen: FrozenModel | None = None,
    descriptions: Mapping[str, Any] | None = None,
    text_pooling: str | None = None,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    **computing: Any,
) -> dict[str, Any]:
    """Evaluates checkpoints by a protocol; run again after an interruption, it resumes, with the same result.

    Args:
        protocol: name of a shipped protocol, a YAML file, or the protocol itself.
        models: one model, or one per few-shot sample, each with a processor of its own where it stands in a pair with
            that (an iterable may load them one by one).
        processor: pixels and prompts of the models that come without.
        data: where the videos and annotation files are.
        output_dir: result folder: `result.json`, `result.md`, `plots/`, `predictions/`.
        method: name of our row.
        frozen: a model to compare with and to combine with.
        descriptions: a sentence by label, or several, `None` for those without one; matched by name with the labels of
            the data, of which none may be missing. None takes the processor's.
        text_pooling: how several are combined, `mean` or `max`; None takes the processor's way.
        accelerator: None makes one.
        overwrite: begin again, and replace the evaluation in `output_dir`, which stays until the new one is whole.
        computing: `batch_size`, `num_workers` and `precision`; see [`Computing`].

    Returns:
        What `result.json` holds: `results` by row (accuracies in percent), `checkpoints` and `data` hashes,
        `architectures`, `versions`, `protocol`, `count_differences`, `notes`. Clips that could not be decoded are
        named in the predictions.

    Raises:
        ValueError: an unknown protocol, field or value, descriptions of other labels, or a `method` that is called as
            the frozen model is.
        OSError: nothing can be written to `output_dir`.
        AnnotationError: an annotation file that cannot be used.
        PredictionMismatchError: the folder holds the result of another protocol, or predictions of other weights,
            data, labels or settings.
    """
    protocol = find_protocol(protocol, EvaluationProtocol)
    data = data if isinstance(data, EvaluationData) else read_fields(EvaluationData, data, where="data")
    # Refused before data are read.
    Computing(**computing)
    if frozen is not None and method == FROZEN_ROW:
        raise ValueError(f"`method` is {method!r}, the name of the row of `frozen`; give the checkpoints another one.")
    accelerator = accelerator or Accelerator()
    folder = Path(output_dir)
    with result_folder(folder, protocol.to_dict(), overwrite=overwrite) as work:
        plan = plan_evaluation(protocol, data)
        for name, found in plan.count_differences.items():
            logger.warning("%s differs from the published counts: %s", name, found)
        predict_table = partial(
            predict,
            table=plan.table,
            descriptions=matched_descriptions(descriptions, plan.table),
            text_pooling=text_pooling,
            num_views=protocol.num_views,
            num_crops=protocol.num_crops,
            video_options=protocol.video_options,
            accelerator=accelerator,
            **computing,
        )
        models = [models] if isinstance(models, nn.Module) else models
        pairs = (model if isinstance(model, tuple) else (model, processor) for model in models)
        if frozen is not None and frozen.processor is None:
            frozen = dataclasses.replace(frozen, processor=processor)
        scored = _score_table(predict_table, pairs, method=method, frozen=frozen, folder=work / "predictions")
        tested = {name: [_test_parts(plan, score) for score in scores] for name, scores in scored.rows.items()}
        report = _report(protocol, plan, tested, scored)
        if accelerator.is_main_process:
            if frozen is not None and frozen.training_labels is not None:
                points = _similarity_points(plan, tested[method], tested[FROZEN_ROW][0])
                own = frozen.processor or processor
                rows = similarity_table(frozen.model, own, training_labels=frozen.training_labels, tested=points)
                write_similarity_report(rows, work)
            write_report(report, {name: [sample[name] for sample in tested[method]] for name in plan.parts}, work)
        accelerator.wait_for_everyone()
    return report


@dataclass(frozen=True)
class _Scored:
    """The predictions of all models for the table.

    Attributes:
        rows: for each row of the report, how its samples score a part.
        headers: what the predictions of each sample depend on.
        frozen_header: the same of the frozen model, if there is one.
    """

    rows: dict[str, list[Score]]
    headers: list[dict[str, Any]]
    frozen_header: dict[str, Any] | None = None


def _score_table(
    predict_table: Callable[..., tuple[np.ndarray, dict[str, Any]]],
    models: Iterable[tuple[nn.Module, FrosterProcessor]],
    *,
    method: str,
    frozen: FrozenModel | None,
    folder: Path,
) -> _Scored:
    """Predict with every model and its processor, and say how each row of the report scores a part."""
    samples = [
        predict_table(model=model, processor=processor, output_dir=folder / f"sample_{number}")
        for number, (model, processor) in enumerate(models)
    ]
    if not samples:
        raise ValueError("No model was given to evaluate.")
    headers = [header for _, header in samples]
    rows = {method: [_alone(logits) for logits, _ in samples]}
    if frozen is None:
        return _Scored(rows, headers)
    frozen_logits, frozen_header = predict_table(
        model=frozen.model, processor=frozen.processor, output_dir=folder / "frozen"
    )
    rows[FROZEN_ROW] = [_alone(frozen_logits)]
    for average in get_args(Average):
        rows[f"{method} + frozen ({average})"] = [
            _together(logits, frozen_logits, weight=frozen.weight, average=average) for logits, _ in samples
        ]
    return _Scored(rows, headers, frozen_header)


def matched_descriptions(descriptions: Mapping[str, Any] | None, table: Dataset) -> dict[str, Description] | None:
    """The descriptions of a table's labels by name; `None`, which takes the processor's, for `None`.

    Raises:
        ValueError: a label of the table is not among them.
    """
    if descriptions is None:
        return None
    match = match_labels(
        descriptions, label_names(table), labels_from="the descriptions", names_from="the data", allow_more=True
    )
    return match.described


@contextmanager
def result_folder(folder: Path, protocol: Mapping[str, Any], **options: Any) -> Iterator[Path]:
    """What [`prepare_folder`] gives, held for this evaluation until the block ends, which puts it in its place.

    Raises:
        ValueError: another evaluation is at work in the folder; or see [`prepare_folder`].
    """
    refuse_processes_alone(together="the environment variable ACCELERATE_USE_CPU=true")
    in_main_process(partial(check_writable, folder))
    with worked_in_by_one_run(folder):
        work = prepare_folder(folder, protocol, **options)
        yield work
        put_in_place(work, folder)


def prepare_folder(
    folder: Path,
    protocol: Mapping[str, Any],
    *,
    overwrite: bool,
    subfolders: Sequence[str] = ("plots", "predictions"),
) -> Path:
    """Make a result folder ready to write to, or raise in all processes.

    Args:
        folder: the result folder.
        protocol: what is evaluated, as `result.json` will say.
        overwrite: replace the evaluation that is there; otherwise the result of another one is refused.
        subfolders: folders to make in it.

    Returns:
        The folder to write to: `folder`, or where the evaluation in it will be replaced, one within it, for
        [`put_in_place`]. One that was interrupted there is gone on with by calls for the same protocol without
        `overwrite`; to those for others, it is as if it were not there.
    """

    def prepare() -> Path:
        unfinished = folder / UNFINISHED_FOLDER
        for hidden in (unfinished, folder / WHOLE_FOLDER):
            refuse_link(hidden)
        for name in (*RESULT_FILES, *RESULT_FOLDERS) if overwrite else ():
            refuse_irreplaceable(folder / name)
        # A kill may have come while one took its place.
        _move_whole(folder)
        begun = _stored_protocol(unfinished, SUBJECT_FILE)
        goes_on = not overwrite and begun is not None and _is_of(protocol, begun)
        if not _is_of_an_evaluation(folder):
            _refuse_foreign(folder, overwrite=overwrite or goes_on)
        if overwrite or begun is None:
            _remove(unfinished)
        is_there = any(os.path.lexists(folder / name) for name in (*RESULT_FILES, *RESULT_FOLDERS))
        work = unfinished if goes_on or (overwrite and is_there) else folder
        _refuse_other_protocol(work, protocol)
        if work == unfinished and not goes_on:
            make_folder(work)
            write_text_whole(work / SUBJECT_FILE, json.dumps({"protocol": protocol}) + "\n")
        for name in subfolders:
            make_folder(work / name)
        return work

    return in_main_process(prepare)


def put_in_place(work: Path, folder: Path) -> None:
    """Let an evaluation that is whole take the place of the one that was there until now, for all processes.

    Args:
        work: what [`prepare_folder`] has given; none of the processes reads it any more.
        folder: the result folder.
    """
    if work != folder:
        in_main_process(partial(_move_whole, folder))


def _move_whole(folder: Path) -> None:
    """Replace the evaluation in a folder by the one within it that has a result, if there is one, whenever a kill has
    come before: until the new one has its other name, only the old one is deleted, and then only the new one moves."""
    unfinished, whole = folder / UNFINISHED_FOLDER, folder / WHOLE_FOLDER
    _take_out(whole, folder)
    if _stored_protocol(unfinished) is not None:
        _remove_results(folder)
        unfinished.rename(whole)
        _take_out(whole, folder)


def _take_out(whole: Path, folder: Path) -> None:
    """Move an evaluation, where there is one, from its folder into another one: its result last, as it was written."""
    if whole.is_dir():
        for name in (*RESULT_FOLDERS, *reversed(RESULT_FILES)):
            if os.path.lexists(whole / name):
                _remove(folder / name)
                (whole / name).rename(folder / name)
        shutil.rmtree(whole)


def _is_of_an_evaluation(folder: Path) -> bool:
    """Whether one has ended there, or has begun: with its predictions, or its detections."""
    predictions = folder / "predictions"
    begun = ("predictions.*.jsonl", "*/predictions.*.jsonl", "*/header.json")
    return _stored_protocol(folder) is not None or any(file for files in begun for file in predictions.glob(files))


def _stored_protocol(folder: Path, name: str = "result.json") -> dict[str, Any] | None:
    """What was evaluated, as `result.json` or the file of another name says; `None` where there is no such file."""
    result = folder / name
    stored = read_json(result) if result.is_file() else None
    found = stored.get("protocol") if isinstance(stored, dict) else None
    return found if isinstance(found, dict) else None


def _remove_results(folder: Path) -> None:
    """Delete what an evaluation has left."""
    for name in (*RESULT_FILES, *RESULT_FOLDERS):
        _remove(folder / name)


def _remove(path: Path) -> None:
    """Delete a file, or a folder with all in it; of a link, nothing behind it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_of(protocol: Mapping[str, Any], found: dict[str, Any] | None) -> bool:
    """Whether what a file says was evaluated is this, whole."""
    return found == json.loads(json.dumps(protocol))


def _refuse_other_protocol(folder: Path, protocol: Mapping[str, Any]) -> None:
    found = _stored_protocol(folder)
    if found is not None and not _is_of(protocol, found):
        raise PredictionMismatchError(
            f"{folder} holds the result of another evaluation ({printable(str(found.get('name')))}, with settings of "
            "its own). Write to another folder, or replace it: `--overwrite`, `overwrite=True`."
        )


def _refuse_foreign(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write over what no evaluation has left, and to put results into its folders, which a later
    `overwrite` would delete with all in them."""
    refuse_results(*(folder / name for name in (*RESULT_FILES, *VARIANT_FOLDERS)), overwrite=overwrite)
    for part in (folder / name for name in RESULT_FOLDERS):
        # Of a link, nothing behind it is deleted.
        if not part.is_symlink() and any(not path.is_dir() for path in part.rglob("*")):
            raise ResultExistsError(
                f"{printable(str(part))} was left by no evaluation, so it is neither written to nor deleted. Write to "
                "another folder, or move it away."
            )


def _alone(logits: np.ndarray) -> Score:
    """Scores of a part from the view logits (n, V, K) of one model."""
    return lambda part: average_views(logits[part.rows][:, :, part.columns])


def _together(logits: np.ndarray, frozen: np.ndarray, *, weight: float, average: Average) -> Score:
    """Scores of a part from the view logits (n, V, K) of a model and the frozen one."""
    return lambda part: ensemble_scores(
        logits[part.rows], frozen[part.rows], columns=part.columns, weight=weight, average=average
    )


def _test_parts(plan: EvaluationPlan, score: Score) -> dict[str, PartResult]:
    labels, texts = label_array(plan.table), label_names(plan.table)
    return {name: evaluate_scores(part, score(part), labels, texts) for name, part in plan.parts.items()}


def _report(
    protocol: EvaluationProtocol,
    plan: EvaluationPlan,
    tested: Mapping[str, Sequence[dict[str, PartResult]]],
    scored: _Scored,
) -> dict[str, Any]:
    """The content of `result.json`; nothing in it depends on when or in how many attempts it was made."""
    headers, frozen_header = scored.headers, scored.frozen_header
    return {
        "protocol": protocol.to_dict(),
        "results": {name: _row_result(protocol, results) for name, results in tested.items()},
        "checkpoints": [header["model"] for header in headers],
        "architectures": [header["architecture"] for header in headers],
        "frozen_checkpoint": None if frozen_header is None else frozen_header["model"],
        **{key: headers[0][key] for key in ("data", "prompts", "descriptions", "precision", "video_options")},
        "count_differences": plan.count_differences,
        "notes": [*_notes(protocol, plan, len(headers)), *_other_inputs(headers, frozen_header)],
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
    if alone := [name for name, part in plan.parts.items() if len(part.columns) == 1]:
        notes.append(f"One label to choose from, so that whatever a model answers is right: {listing(alone)}.")
    if protocol.protocol == "base_to_novel" and num_samples != protocol.num_samples:
        notes.append(f"{num_samples} few-shot samples; the published number averages {protocol.num_samples}.")
    if protocol.protocol != "base_to_novel" and num_samples > 1:
        notes.append(f"{num_samples} checkpoints were given; numbers over the splits are of the first.")
    return notes


def _other_inputs(headers: Sequence[dict[str, Any]], frozen_header: dict[str, Any] | None) -> Iterator[str]:
    """A note for every model with other prompts or pixels than the first, of which the report has those."""
    named = {f"checkpoint {number}": header for number, header in enumerate(headers, start=1)}
    named |= {} if frozen_header is None else {FROZEN_ROW: frozen_header}
    for name, header in named.items():
        if other := [key for key in ("prompts", "video_options") if header[key] != headers[0][key]]:
            told = " and ".join(other).replace("_", " ")
            yield f"The {name} was measured by its own processor, with other {told} than checkpoint 1."


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
    first: np.ndarray, second: np.ndarray, *, columns: np.ndarray, weight: float, average: Average = "probabilities"
) -> np.ndarray:
    """Scores of two models together, as the fine-tuned and the frozen one: FROSTER's upper baseline at double cost.

    Args:
        first: view logits (m, V, K).
        second: view logits of the other model on the same clips, (m, V', K).
        columns: (k,) labels to choose from.
        weight: weight of the second model.
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
