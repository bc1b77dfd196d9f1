"""Temporal detection: which action from when to when, measured by average precision at thresholds of overlap.

The measure of ActivityNet's toolkit, which published zero-shot results on THUMOS14 and ActivityNet-1.3 use as well
(mAP at IoU 0.3 to 0.7, and 0.5 to 0.95): found segments are taken from the best score down, each is right if it
overlaps enough with a true segment of its class in its video that no better one has taken, and the average precision
of a class is the area under its interpolated curve of precision over recall.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np

from ..data.segment_lists import AnnotatedSegment, SegmentTable
from ..printing import json_text, printable
from ..processing.text_files import read_json
from ..settings import read_fields
from ..video.decoding import VideoDecodeError
from ..whole_files import make_folder, write_text_whole
from .metrics import compute
from .predicting import PredictionMismatchError, model_fingerprint
from .protocols import DetectionProtocol, EvaluationData, load_protocol, plan_evaluation
from .report import package_versions

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class DetectedSegment:
    """A segment that was found.

    Args:
        video: of which it is.
        label: its class.
        start_seconds: where it begins.
        end_seconds: where it ends.
        score: how sure it is, compared with the others of its class.
    """

    video: str
    label: str
    start_seconds: float
    end_seconds: float
    score: float


def temporal_iou(segment: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a segment (2,) with others (n, 2), starts and ends in seconds: (n,)."""
    inside = np.minimum(segment[1], others[:, 1]) - np.maximum(segment[0], others[:, 0])
    inside = inside.clip(min=0)
    union = (segment[1] - segment[0]) + (others[:, 1] - others[:, 0]) - inside
    return np.divide(inside, union, out=np.zeros(len(others)), where=union > 0)


def interpolated_average_precision(hits: np.ndarray, num_true: int) -> float:
    """Area under precision over recall, precision made to fall only.

    Args:
        hits: (n,), whether each found segment is right, from the best score down.
        num_true: true segments.
    """
    if not num_true or not len(hits):
        return 0.0
    true_positives = np.cumsum(hits)
    recall = np.concatenate([[0.0], true_positives / num_true, [1.0]])
    precision = np.concatenate([[0.0], true_positives / np.arange(1, len(hits) + 1), [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(np.diff(recall)) + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))


def detection_average_precisions(
    found: Sequence[DetectedSegment], true: Sequence[AnnotatedSegment], *, iou_thresholds: Sequence[float]
) -> dict[str, np.ndarray]:
    """Average precision of each class that has true segments, at each threshold.

    Args:
        found: in any order; of equal scores, the earlier one goes first.
        true: of all videos that were looked at.
        iou_thresholds: least overlaps.

    Returns:
        Class to (len(iou_thresholds),).

    Raises:
        ValueError: a score or time that is not finite.
    """
    numbers = np.array([[s.start_seconds, s.end_seconds, s.score] for s in found], dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("Found segments have times or scores that are infinite or NaN.")
    spans: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for segment in true:
        spans[segment.label][segment.video].append((segment.start_seconds, segment.end_seconds))
    by_label: dict[str, list[DetectedSegment]] = defaultdict(list)
    for detected in found:
        by_label[detected.label].append(detected)
    result = {}
    for label, videos in spans.items():
        ranked = sorted(by_label[label], key=lambda detected: -detected.score)
        truths = {video: np.array(segments) for video, segments in videos.items()}
        hits = np.zeros((len(iou_thresholds), len(ranked)), dtype=bool)
        taken = {video: np.zeros((len(iou_thresholds), len(rows)), dtype=bool) for video, rows in truths.items()}
        for place, detected in enumerate(ranked):
            if detected.video not in truths:
                continue
            overlap = temporal_iou(np.array([detected.start_seconds, detected.end_seconds]), truths[detected.video])
            order = np.argsort(-overlap, kind="stable")
            for row, threshold in enumerate(iou_thresholds):
                free = [i for i in order if overlap[i] >= threshold and not taken[detected.video][row, i]]
                if free:
                    taken[detected.video][row, free[0]] = hits[row, place] = True
        num_true = sum(map(len, truths.values()))
        result[label] = np.array([interpolated_average_precision(row, num_true) for row in hits])
    return result


def suppress_overlapping(found: Sequence[DetectedSegment], *, max_iou: float) -> list[DetectedSegment]:
    """Of segments of one class in one video that overlap by more than `max_iou`, those with the best score."""
    kept: dict[tuple[str, str], list[DetectedSegment]] = defaultdict(list)
    for detected in sorted(found, key=lambda detected: -detected.score):
        better = kept[detected.video, detected.label]
        span = np.array([detected.start_seconds, detected.end_seconds])
        others = np.array([[other.start_seconds, other.end_seconds] for other in better]).reshape(-1, 2)
        if not (temporal_iou(span, others) > max_iou).any():
            better.append(detected)
    return [detected for group in kept.values() for detected in group]


class TemporalDetection(evaluate.Metric):
    """Mean average precision of found segments, at each threshold of overlap and on average.

    `compute(predictions=..., references=..., iou_thresholds=[0.3, 0.4, 0.5, 0.6, 0.7])`: for each video a list of
    segments, `{"label", "start_seconds", "end_seconds"}`, with a `score` in the predictions. Gives `map`, one number
    per threshold, `average_map`, and `average_precisions` by class.
    """

    def _info(self) -> evaluate.MetricInfo:
        segment = {
            "label": datasets.Value("string"),
            "start_seconds": datasets.Value("float64"),
            "end_seconds": datasets.Value("float64"),
        }
        text = type(self).__doc__ or ""
        return evaluate.MetricInfo(
            description=text,
            citation="",
            inputs_description=text,
            features=datasets.Features(
                {
                    "predictions": datasets.List({**segment, "score": datasets.Value("float64")}),
                    "references": datasets.List(segment),
                }
            ),
        )

    def _compute(
        self, predictions: Any, references: Any, iou_thresholds: Sequence[float] = (0.3, 0.4, 0.5, 0.6, 0.7)
    ) -> dict[str, Any]:
        found = [DetectedSegment(str(video), **row) for video, rows in enumerate(predictions) for row in rows]
        true = [AnnotatedSegment(str(video), **row) for video, rows in enumerate(references) for row in rows]
        precisions = detection_average_precisions(found, true, iou_thresholds=iou_thresholds)
        if not precisions:
            return {"map": [float("nan")] * len(iou_thresholds), "average_map": float("nan"), "average_precisions": {}}
        means = np.mean(list(precisions.values()), axis=0)
        return {
            "map": means.tolist(),
            "average_map": float(means.mean()),
            "average_precisions": {label: values.tolist() for label, values in precisions.items()},
        }


def evaluate_detection(
    protocol: PathLike | DetectionProtocol,
    *,
    classify: Any,
    data: EvaluationData | Mapping[str, Any],
    output_dir: PathLike,
    method: str = "this checkpoint",
    overwrite: bool = False,
    batch_size: int = 8,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Find the actions in long videos and measure them; run again after a kill, it goes on where it was.

    A video's windows are scored once, each label for itself; its segments are those at each of the protocol's
    thresholds, ranked by their contrast or score, without those that overlap a better one.

    Args:
        protocol: name of a shipped protocol of the kind `temporal_detection`, a YAML file, or the protocol itself.
        classify: the zero-shot pipeline of the checkpoint.
        data: where the videos and annotations are.
        output_dir: result folder: `result.json`, `result.md`, and `predictions/` with a file per video.
        method: name of our row.
        overwrite: replace the evaluation that is in `output_dir`.
        batch_size: windows that go through the model together.
        on_video: called with the number of videos that are done, and of all.

    Returns:
        What `result.json` holds: mAP in percent at each threshold and on average, average precisions by class, and
        videos that could not be read, in which nothing was found.

    Raises:
        ValueError: a protocol of another kind, or labels without a background; see the pipeline.
        AnnotationError: an annotation file that cannot be used.
        PredictionMismatchError: the folder holds another evaluation.
    """
    loaded = load_protocol(protocol) if isinstance(protocol, str | os.PathLike) else protocol
    if not isinstance(loaded, DetectionProtocol):
        raise ValueError(f"Protocol {loaded.name} scores clips; temporal detection is not what it measures.")
    protocol = loaded
    data = data if isinstance(data, EvaluationData) else read_fields(EvaluationData, data, where="data")
    table: SegmentTable = plan_evaluation(protocol, data)
    folder = make_folder(output_dir)
    header: dict[str, Any] = {
        "protocol": protocol.to_dict(),
        "model": model_fingerprint(classify.model),
        "labels": table.labels,
        "compared_with": classify.scoring(table.labels, multi_label=True).description,
        "videos": [os.path.basename(video) for video in table.videos],
    }
    header = json.loads(json.dumps(header))  # tuples are lists there
    _check_header(folder, header, overwrite=overwrite)
    make_folder(folder / "predictions")
    found: list[DetectedSegment] = []
    unreadable = {}
    for number, video in enumerate(table.videos):
        file = folder / "predictions" / f"{number:06d}.json"
        if not file.exists():
            write_text_whole(file, json_text(_detect(classify, video, table.labels, protocol, batch_size)) + "\n")
        stored = read_json(file)
        if "error" in stored:
            unreadable[os.path.basename(video)] = stored["error"]
        found += [DetectedSegment(video, **segment) for segment in stored.get("segments", [])]
        if on_video is not None:
            on_video(number + 1, len(table.videos))
    report = _report(header, protocol, table, found, unreadable, method)
    write_text_whole(folder / "result.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_text_whole(folder / "result.md", detection_markdown(report))
    return report


def _check_header(folder: Path, header: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder with predictions of something else, or empty it."""
    file = folder / "evaluation.json"
    stored = read_json(file) if file.exists() else None
    if stored is not None and stored != header:
        differing = [name for name in header if not isinstance(stored, dict) or stored.get(name) != header[name]]
        if not overwrite:
            raise PredictionMismatchError(
                f"{folder} holds another evaluation ({', '.join(differing)} differ). Write to another folder, or "
                "replace it: `--overwrite`, `overwrite=True`."
            )
    if overwrite or stored is None:
        for old in (folder / "predictions").glob("[0-9]*.json"):
            old.unlink()
    write_text_whole(file, json.dumps(header, indent=2, ensure_ascii=False) + "\n")


def _detect(
    classify: Any, video: str, labels: Sequence[str], protocol: DetectionProtocol, batch_size: int
) -> dict[str, Any]:
    """The segments of one video, or why it could not be read."""
    try:
        timeline = classify.timeline(
            video,
            labels,
            multi_label=True,
            window_seconds=protocol.window_seconds,
            stride_seconds=protocol.stride_seconds,
            smoothing_seconds=protocol.smoothing_seconds,
            num_frames=protocol.num_frames,
            num_thumbnails=0,
            batch_size=batch_size,
        )
    except VideoDecodeError as error:
        return {"error": str(error)}
    whole = timeline.duration_seconds
    segments = [
        DetectedSegment(
            video,
            segment.label,
            segment.start_seconds,
            segment.end_seconds,
            # What fills the video has nothing outside: it is told from others by its score alone.
            segment.score if protocol.ranking == "score" or segment.contrast is None else segment.contrast,
        )
        for threshold in protocol.thresholds
        for segment in timeline.segments_at(threshold)
    ]
    kept = suppress_overlapping(segments, max_iou=protocol.max_overlap)
    rows = [{name: value for name, value in asdict(segment).items() if name != "video"} for segment in kept]
    return {"duration_seconds": whole, "segments": rows}


def _report(
    header: Mapping[str, Any],
    protocol: DetectionProtocol,
    table: SegmentTable,
    found: Sequence[DetectedSegment],
    unreadable: Mapping[str, str],
    method: str,
) -> dict[str, Any]:
    number = {video: position for position, video in enumerate(table.videos)}

    def by_video(segments: Sequence[Any]) -> list[list[dict[str, Any]]]:
        rows: list[list[dict[str, Any]]] = [[] for _ in table.videos]
        for segment in segments:
            rows[number[segment.video]].append({k: v for k, v in asdict(segment).items() if k != "video"})
        return rows

    measured = compute(
        TemporalDetection,
        predictions=by_video(found),
        references=by_video(table.segments),
        iou_thresholds=protocol.iou_thresholds,
    )
    percents = {f"{iou:g}": round(100 * value, 2) for iou, value in zip(protocol.iou_thresholds, measured["map"])}
    return {
        **header,
        "method": method,
        "results": {
            "map": percents,
            "average_map": round(100 * measured["average_map"], 2),
            "average_precisions": {
                label: [round(100 * value, 2) for value in values]
                for label, values in measured["average_precisions"].items()
            },
            "num_videos": len(table.videos),
            "num_segments": len(table.segments),
            "num_found": len(found),
        },
        "unreadable": dict(unreadable),
        "notes": [table.source],
        "versions": package_versions(),
    }


def detection_markdown(report: Mapping[str, Any]) -> str:
    """The table of a report."""
    results, protocol = report["results"], report["protocol"]
    columns = list(results["map"])
    cells = [printable(report["method"]).replace("|", "\\|"), *(f"{results['map'][iou]:.1f}" for iou in columns)]
    lines = [
        f"# {protocol['name']}",
        "",
        f"Mean average precision in percent at thresholds of IoU, over {results['num_videos']} videos with "
        f"{results['num_segments']} segments; {len(report['unreadable'])} videos could not be read.",
        "",
        f"| | {' | '.join(columns)} | average |",
        f"|---|{'---|' * (len(columns) + 1)}",
        f"| {' | '.join(cells)} | {results['average_map']:.1f} |",
        "",
        f"Labels: {printable(str(report['compared_with']))}.",
        "",
        *(f"- {printable(note)}" for note in report["notes"]),
        "",
    ]
    return "\n".join(lines)
