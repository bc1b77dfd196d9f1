"""Numbers that were measured on these very weights, from the `result.json` of `froster evaluate`.

A result names the SHA-256 of the weights it was measured on, and the architecture, which they do not show. Where these
are not the exported checkpoint's, the card must not show it, so it is refused rather than left out.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry

from ..data.catalogue import DATASETS
from ..evaluation.metrics import METRICS, metrics_of
from ..fingerprints import other_fields
from ..printing import LONGEST_MESSAGE, listing, one_line, printable
from ..processing.text_files import read_json
from .card_facts import CardFacts

MAX_RESULT_BYTES = 16 << 20
# Numbers of a result, each of which stands several times in a card: those of a protocol with a thousand splits.
MOST_RESULTS = 4000
# What they say, all together: a text of the file, such as its data set, stands with each of its numbers.
MOST_CHARACTERS = 2**21
# Of numbers over several parts; those of a part are in `METRICS`.
SUMMARY_TITLES = {
    "harmonic_mean": "harmonic mean of top-1",
    "splits_mean": "top-1 accuracy, mean over the splits",
    "splits_std": "top-1, deviation of the splits",
}


@dataclass(frozen=True)
class MeasuredResult:
    """One number.

    Args:
        dataset: its key in the protocol, such as `ucf101`, or the name of the user's own.
        part: such as `base`, `novel`, `full`, `split 1`, `IoU 0.5`, or `all`.
        metric: a key of `METRICS` or `SUMMARY_TITLES`.
        value: in the metric's unit.
        protocol_name: the name of the evaluation protocol.
        protocol: its kind, such as `base_to_novel` or `temporal_detection`; of a run's own evaluation, `held_out` or
            `training_evaluation`.
        num_clips: clips or long videos tested; `None` for a number over several parts.
        num_labels: labels to choose from; `None` for a number over several parts.
        remarks: what stands between it and the published numbers.
    """

    dataset: str
    part: str
    metric: str
    value: float
    protocol_name: str
    protocol: str
    num_clips: int | None = None
    num_labels: int | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = (self.dataset, self.part, self.metric, self.protocol_name, self.protocol)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"names must be text, got {[type(text).__name__ for text in texts]}")
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        # Not `math.isfinite`, which whole numbers of hundreds of digits end with an error of their own.
        if not is_number or not abs(self.value) <= sys.float_info.max:
            raise ValueError(f"{self.metric} must be a number, got {self.value!r:.100}")
        if not all(count is None or type(count) is int for count in (self.num_clips, self.num_labels)):
            raise TypeError(f"counts must be whole numbers, got {self.num_clips!r:.100}, {self.num_labels!r:.100}")
        if self.num_characters > LONGEST_MESSAGE:
            raise ValueError(
                f"names and remarks of {printable(self.key, limit=60)} have {self.num_characters:,} characters; a "
                f"card shows at most {LONGEST_MESSAGE:,} with a number"
            )

    @property
    def num_characters(self) -> int:
        """Characters of all that it says."""
        names = (self.dataset, self.part, self.metric, self.protocol_name, self.protocol)
        return sum(len(str(text)) for text in (*names, self.value, self.num_clips, self.num_labels, *self.remarks))

    @property
    def key(self) -> str:
        """Its name in `CardFacts.benchmarks`."""
        return f"{self.dataset}/{self.part}/{self.metric}"

    @property
    def dataset_title(self) -> str:
        """The data set's name as people write it."""
        return DATASETS[self.dataset].title if self.dataset in DATASETS else self.dataset

    @property
    def metric_title(self) -> str:
        """The metric's name as people write it."""
        return METRICS[self.metric].title if self.metric in METRICS else SUMMARY_TITLES[self.metric]

    @property
    def metric_unit(self) -> str:
        """What stands behind the number."""
        return METRICS[self.metric].unit if self.metric in METRICS else "%"

    @property
    def metric_type(self) -> str:
        """The metric's type in the card's metadata."""
        return METRICS[self.metric].card_type if self.metric in METRICS else "accuracy"

    def to_eval_result(self) -> EvalResult:
        """As an entry of the card's `model-index`."""
        return EvalResult(
            task_type="video-classification",
            task_name="Zero-shot video classification",
            dataset_type=self.dataset,
            dataset_name=f"{self.dataset_title} ({self.protocol.replace('_', '-')}, {self.part})",
            dataset_config=self.protocol_name,
            dataset_split=self.part,
            metric_type=self.metric_type,
            metric_name=f"{self.metric_title} ({self.metric_unit})",
            metric_value=self.value,
        )


def read_measured_results(
    path: str | os.PathLike[str], *, fingerprints: set[str], architecture: Mapping[str, Any] | None = None
) -> list[MeasuredResult]:
    """The numbers of one checkpoint in a `result.json`.

    Rows of other models (frozen CLIP, ensembles) and of other few-shot samples are not this checkpoint's and are left
    out.

    Args:
        path: the file, or the result folder that holds it.
        fingerprints: `model_fingerprint` of the exported weights, in every dtype that counts as the same.
        architecture: `architecture_of` the exported model; `None` does not compare it.

    Raises:
        ValueError: not such a file, or measured on other weights, or with another architecture.
        OSError: the file cannot be read.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    try:
        report = read_json(path, max_bytes=MAX_RESULT_BYTES)
        measured = [printable(name[:12]) for name in report["checkpoints"][:5]]
        own = [index for index, name in enumerate(report["checkpoints"]) if name in fingerprints]
        # Reports that were stored before do not say with which.
        others = {
            index: other_fields(report["architectures"][index], architecture)
            for index in own
            if architecture is not None and "architectures" in report
        }
        own.sort(key=lambda index: bool(others.get(index)))
        results = list(islice(_results(report, own[0]), MOST_RESULTS + 1)) if own else []
        if len(results) > MOST_RESULTS:
            raise ValueError(f"it has more than {MOST_RESULTS:,} numbers; a card shows no more")
        if (size := sum(result.num_characters for result in results)) > MOST_CHARACTERS:
            raise ValueError(
                f"its {len(results):,} numbers have {size:,} characters with their names and remarks; a card shows at "
                f"most {MOST_CHARACTERS:,}"
            )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a result of `froster evaluate` by a protocol: {type(error).__name__} "
            f"{one_line(str(error), limit=300)}."
        ) from error
    if not own:
        raise ValueError(
            f"{path} was measured on the weights {listing(measured) or 'of none'}, but the exported checkpoint is "
            f"{listing(sorted(name[:12] for name in fingerprints))} (SHA-256). Evaluate this checkpoint, or leave the "
            "result out."
        )
    if differing := others.get(own[0]):
        raise ValueError(
            f"{path} was measured with another architecture of the same weights: {listing(differing, limit=5)}. "
            "Evaluate this checkpoint, or leave the result out."
        )
    return results


def _results(report: Mapping[str, Any], sample: int) -> Iterator[MeasuredResult]:
    """The numbers of the `sample`-th checkpoint of a report."""
    protocol = report["protocol"]
    shared = {
        "dataset": protocol["dataset"],
        "protocol_name": protocol["name"],
        "protocol": protocol["protocol"],
    }
    results = _segment_results if protocol["protocol"] == "temporal_detection" else _clip_results
    return results(report, sample, shared)


def _clip_results(report: Mapping[str, Any], sample: int, shared: Mapping[str, Any]) -> Iterator[MeasuredResult]:
    row, *_others = report["results"].values()
    differences = report["count_differences"]
    # Of reports that were stored before, it is not known.
    said = (str(report["descriptions"]),) if report.get("descriptions") else ()
    for part, numbers in row["parts"][sample].items():
        remarks = (
            *said,
            *(
                f"{found['found']} {what}, published {found['published']}"
                for what, found in differences.get(part, {}).items()
            ),
        )
        if numbers["num_undecodable"]:
            remarks += (f"{numbers['num_undecodable']} clips undecodable, counted as wrong",)
        counts = {"num_clips": numbers["num_clips"], "num_labels": numbers["num_labels"]}
        for metric in metrics_of("one_label", shown_in="card"):
            if numbers.get(metric) is not None:
                yield MeasuredResult(
                    part=part, metric=metric, value=numbers[metric], remarks=remarks, **shared, **counts
                )
    # Numbers over all parts are those of one checkpoint only where there is one, or are taken from the first.
    summaries: tuple[str, ...] = ("harmonic_mean",) if len(row["parts"]) == 1 else ()
    if shared["protocol"] != "base_to_novel":
        summaries = ("splits_mean", "splits_std") if sample == 0 else ()
    for metric in summaries:
        if row.get(metric) is not None:
            yield MeasuredResult(part="all", metric=metric, value=row[metric], remarks=said, **shared)


def _segment_results(report: Mapping[str, Any], sample: int, shared: Mapping[str, Any]) -> Iterator[MeasuredResult]:
    row = list(report["results"].values())[sample]
    unreadable = len(row["unreadable"])
    remarks = (f"{unreadable} videos unreadable, nothing found in them",) if unreadable else ()
    counts = {"num_clips": row["num_videos"], "num_labels": len(report["labels"])}
    for metric in metrics_of("segments", shown_in="card"):
        for iou, value in row[metric].items():
            if value is not None:
                yield MeasuredResult(
                    part=f"IoU {iou}", metric=metric, value=value, remarks=remarks, **shared, **counts
                )
        if row[f"average_{metric}"] is not None:
            over = f"mean over IoU {', '.join(row[metric])}"
            yield MeasuredResult(
                part="all", metric=metric, value=row[f"average_{metric}"], remarks=(over, *remarks), **shared, **counts
            )


def benchmark_entries(results: list[MeasuredResult], facts: CardFacts) -> list[EvalResultEntry]:
    """Entries of `.eval_results/*.yaml`, for the results that belong to a benchmark on the Hub.

    Raises:
        ValueError: the facts name a result that was not measured.
    """
    by_key = {result.key: result for result in results}
    if unknown := sorted(set(facts.benchmarks) - set(by_key)):
        raise ValueError(f"`benchmarks` names {listing(unknown)}, but measured are {listing(sorted(by_key))}.")
    return [
        EvalResultEntry(
            **benchmark, value=by_key[key].value, notes="; ".join([by_key[key].protocol_name, *by_key[key].remarks])
        )
        for key, benchmark in facts.benchmarks.items()
    ]
