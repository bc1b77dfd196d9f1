"""`evaluate_detection`: which action from when to when in long videos, by checkpoints and a protocol.

videos --pipeline.timeline, once per model--> window scores --segments at each threshold--> candidates
    --match_segments--> mean average precision --> result.json, result.md
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data.segment_lists import SegmentTable
from ..fingerprints import architecture_of, model_fingerprint
from ..pipeline.many_videos import settings_of
from ..pipeline.timeline_froster import TimelineSegment
from ..printing import LONGEST_MESSAGE, json_text, one_line, printable
from ..processes import refuse_several_processes
from ..processing.text_files import MAX_FILE_BYTES, read_json
from ..settings import read_fields
from ..video.decoding import VideoDecodeError
from ..whole_files import make_folder, write_text_whole
from .evaluating import result_folder
from .metrics import METRICS, Metric, measure_segments, metrics_of
from .predicting import PredictionMismatchError, check_checksum, prompts_fingerprint, refuse_mismatch, with_checksum
from .protocols import DetectionProtocol, EvaluationData, find_protocol, plan_evaluation
from .report import cell, markdown_table, one_decimal, package_versions, percent, write_result
from .segments import DetectedSegment, FoundSegments, suppress_overlapping

PathLike = str | os.PathLike[str]
# Segments in one video of one label, each of which is compared with those before it, and of all labels.
MOST_CANDIDATES = 20_000
MOST_CANDIDATES_OF_ALL = 200_000
# Kept scores of a video's windows, each of which is compared with each threshold: about a minute. A day of
# ActivityNet's labels at its settings has a tenth.
MOST_COMPARED = 2**29
# Segments that are kept of all videos, until they are compared with the true ones: a share for each video, and of many
# videos at least so many.
MOST_KEPT, LEAST_KEPT_OF_A_VIDEO = 2**24, 2000
# Characters of the reason why a video could not be read; those of all videos are kept, and reported.
_LONGEST_ERROR = 2 * LONGEST_MESSAGE
# The most of a stored video beside its segments, and of a segment beside its label.
_OTHER_BYTES, _SEGMENT_BYTES = 2**17, 256
# Classes times thresholds of IoU, each of which a report has.
MOST_PRECISIONS = 2_000_000
REPLACE = "replace the evaluation: `--overwrite`, `overwrite=True`."


def evaluate_detection(
    protocol: PathLike | DetectionProtocol,
    *,
    models: Mapping[str, Any],
    data: EvaluationData | Mapping[str, Any],
    output_dir: PathLike,
    background_labels: Any = None,
    overwrite: bool = False,
    batch_size: int = 8,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Find the actions in long videos and measure them; run again after an interruption, it resumes where it stopped.

    A video's windows are scored once per model, each label for itself; its segments are those at each of the
    protocol's thresholds, ranked by their contrast or score, without those that overlap a better one.

    Args:
        protocol: name of a shipped protocol of the kind `temporal_detection`, a YAML file, or the protocol itself.
        models: zero-shot pipelines by the names that they have in the report.
        data: where the videos and annotations are.
        output_dir: result folder: `result.json`, `result.md`, and `predictions/` with a file per model and video.
        background_labels: what each label is compared with, as in a call of a pipeline; None takes each checkpoint's.
        overwrite: begin again, and replace the evaluation in `output_dir`, which stays until the new one is whole.
        batch_size: windows that go through the model together.
        on_video: called with the number of videos that are done, and of all, those of every model counted.

    Returns:
        What `result.json` holds: `videos` (paths below the root), `results` by model (mAP in percent at each threshold
        and on average, average precisions by class, and `unreadable`, the videos that could not be read, in which
        nothing was found), and `checkpoints` (hashes of the weights) with their `architectures`. As with clips, a
        video that could not be read is not tried again; delete its file in `predictions/` for that.

    Raises:
        ValueError: no model, a protocol of another kind, several processes, more average precisions than a report
            has, or labels without a background; see the pipeline.
        AnnotationError: an annotation file that cannot be used.
        PredictionMismatchError: the folder holds another evaluation.
    """
    protocol = find_protocol(protocol, DetectionProtocol)
    refuse_several_processes("Temporal detection")
    if not models:
        raise ValueError("No model was given to evaluate.")
    data = data if isinstance(data, EvaluationData) else read_fields(EvaluationData, data, where="data")
    table: SegmentTable = plan_evaluation(protocol, data)
    if (count := len(table.labels) * len(protocol.iou_thresholds)) > MOST_PRECISIONS:
        raise ValueError(
            f"{len(table.labels):,} classes at {len(protocol.iou_thresholds)} `iou_thresholds` have {count:,} average "
            f"precisions; a report has at most {MOST_PRECISIONS:,}. Take fewer thresholds."
        )
    # Before any video is read: a model that cannot score each label for itself costs no other one's work.
    names = _video_names(table, data.root)
    fingerprint = _fingerprint(table, names)
    scoring = {} if background_labels is None else {"background_labels": background_labels}
    headers = {
        name: _header(protocol, table, fingerprint, name, classify, scoring) for name, classify in models.items()
    }
    folder = Path(output_dir)
    with result_folder(folder, protocol.to_dict(), overwrite=overwrite, subfolders=("predictions",)) as work:
        report: dict[str, Any] = {
            "protocol": protocol.to_dict(),
            "results": {},
            "checkpoints": [],
            "architectures": [],
            "labels": table.labels,
            "videos": names,
            "notes": [table.source],
            "versions": package_versions(),
        }
        ends: dict[str, float] = {}
        num_done, num_all = 0, len(models) * len(table.videos)
        for number, (name, classify) in enumerate(models.items()):
            found, unreadable = FoundSegments(), {}
            predictions = _predictions(
                classify,
                protocol,
                table,
                names,
                headers[name],
                work / "predictions" / f"model_{number}",
                batch_size=batch_size,
                **scoring,
            )
            for video, prediction in zip(table.videos, predictions):
                for segment in prediction.get("segments", []):
                    found.add(DetectedSegment(video, **segment))
                ends[video] = prediction.get("duration_seconds", math.inf)
                if "error" in prediction:
                    unreadable[prediction["video"]] = prediction["error"]
                num_done += 1
                if on_video is not None:
                    on_video(num_done, num_all)
            report["results"][name] = {
                **_measured(protocol, table, found),
                "num_videos": len(table.videos),
                "num_segments": len(table.segments),
                "num_found": len(found),
                "compared_with": headers[name]["compared_with"],
                "unreadable": unreadable,
            }
            report["checkpoints"].append(headers[name]["model"])
            report["architectures"].append(headers[name]["architecture"])
        if late := sum(segment.start_seconds >= ends[segment.video] for segment in table.segments):
            report["notes"].append(
                f"{late} of {len(table.segments)} segments begin behind the end of their videos, where none is found: "
                "times are to be in seconds."
            )
        write_result(report, detection_markdown(report), work)
    return report


def _measured(protocol: DetectionProtocol, table: SegmentTable, found: FoundSegments) -> dict[str, Any]:
    """The metrics of what was found, in the report's units."""
    thresholds = protocol.iou_thresholds
    measured = measure_segments(found, table.segments, iou_thresholds=thresholds)
    numbers: dict[str, Any] = {}
    for name, metric in metrics_of("segments", shown_in="report").items():
        numbers[name] = {f"{iou:g}": metric.shown(value, digits=2) for iou, value in zip(thresholds, measured[name])}
        numbers[f"average_{name}"] = metric.shown(measured[f"average_{name}"], digits=2)
    precisions = {label: [percent(value) for value in row] for label, row in measured["average_precisions"].items()}
    return {**numbers, "average_precisions": precisions}


def _video_names(table: SegmentTable, root: str) -> list[str]:
    """The videos as paths below the folder that holds them; two folders may hold files of the same name."""
    folder = Path(root).resolve()
    return [os.path.relpath(video, folder).replace(os.sep, "/") for video in table.videos]


def _fingerprint(table: SegmentTable, names: Sequence[str]) -> str:
    """SHA-256 over the labels, and names and sizes of the videos."""
    sizes = [os.path.getsize(video) if os.path.isfile(video) else None for video in table.videos]
    return hashlib.sha256(json.dumps([table.labels, list(zip(names, sizes))]).encode()).hexdigest()


def _header(
    protocol: DetectionProtocol,
    table: SegmentTable,
    fingerprint: str,
    name: str,
    classify: Any,
    scoring: dict[str, Any],
) -> dict[str, Any]:
    """Everything that the predictions of a model depend on, as JSON values."""
    try:
        compared_with = classify.scoring(table.labels, multi_label=True, **scoring).description
    except ValueError as error:
        raise ValueError(f"{printable(name)}: {error}") from error
    processor = classify.processor
    said, pooling = processor.label_descriptions, processor.text_pooling
    header = {
        "model": model_fingerprint(classify.model),
        "architecture": architecture_of(classify.model),
        "prompts": prompts_fingerprint(processor, table.labels, said, text_pooling=pooling),
        "settings": settings_of(classify, scoring),
        "data": fingerprint,
        "compared_with": compared_with,
        "protocol": protocol.to_dict(),
    }
    return json.loads(json.dumps(header))  # tuples are lists there


def _predictions(
    classify: Any,
    protocol: DetectionProtocol,
    table: SegmentTable,
    names: Sequence[str],
    header: Mapping[str, Any],
    folder: Path,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """The segments of each video, or its error: read from the folder, or found now and written to it."""
    labels = frozenset(table.labels)
    most = max(MOST_KEPT // len(table.videos), LEAST_KEPT_OF_A_VIDEO)
    most_bytes = _most_bytes(labels, most)
    # Beside each prediction: another evaluation may replace this one while it runs.
    evaluation = hashlib.sha256(json_text(header).encode()).hexdigest()
    file = make_folder(folder) / "header.json"
    if file.exists():
        refuse_mismatch(file, _object(file), header)
    else:
        write_text_whole(file, json_text(header) + "\n")
    for number, (video, name) in enumerate(zip(table.videos, names)):
        file = folder / f"{number:06d}.json"
        if not file.exists():
            found = _detect(classify, video, table.labels, protocol, most, options)
            write_text_whole(file, json_text(with_checksum({"video": name, "evaluation": evaluation, **found})) + "\n")
        yield _stored_detection(file, name, labels, evaluation, most, most_bytes)


def _most_bytes(labels: Collection[str], most: int) -> int:
    """Of a stored video with so many segments."""
    # A character takes at most twelve bytes of JSON.
    longest = max(map(len, labels), default=0)
    return min(_OTHER_BYTES + most * (_SEGMENT_BYTES + 12 * longest), MAX_FILE_BYTES)


def _object(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise PredictionMismatchError(f"{file} is not a stored prediction; {REPLACE}")
    return content


def _stored_detection(
    file: Path, video: str, labels: Collection[str], evaluation: str, most: int, most_bytes: int
) -> dict[str, Any]:
    """What `_detect` has found, from its file.

    Raises:
        PredictionMismatchError: it was altered or damaged, or is another video's or evaluation's; names the file.
    """
    try:
        entry = read_json(file, max_bytes=most_bytes)
        if not isinstance(entry, dict):
            raise ValueError("it is not an object")
        check_checksum(entry)
        if entry["video"] != video:
            raise ValueError(f"it is of {printable(repr(entry['video']), limit=100)}, not of {printable(video)}")
        if entry["evaluation"] != evaluation:
            raise ValueError("it is of an evaluation of another model, or with other settings")
        if not isinstance(entry.get("error", ""), str) or len(entry.get("error", "")) > _LONGEST_ERROR:
            raise ValueError(f"`error` must be text of at most {_LONGEST_ERROR:,} characters")
        segments = [] if "error" in entry else entry["segments"]
        if len(segments) > most:
            raise ValueError(f"{len(segments):,} segments are more than {most:,}, the most that are kept of a video")
        for segment in segments:
            read = read_fields(DetectedSegment, {"video": "", **segment}, where="a segment")
            if read.label not in labels or not read.start_seconds <= read.end_seconds:
                raise ValueError("a segment is of another label, or ends before it starts")
    except (ValueError, TypeError, LookupError) as error:
        reason = f"{type(error).__name__}: {one_line(str(error), limit=300)}"
        raise PredictionMismatchError(
            f"{file} is not a stored prediction ({reason}). Delete it, and its video is predicted again; or {REPLACE}"
        ) from error
    return entry


def _detect(
    classify: Any,
    video: str,
    labels: Sequence[str],
    protocol: DetectionProtocol,
    most: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The segments of one video, or why it could not be read."""
    candidates: list[DetectedSegment] = []
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
            on_segment=_counting(),
            **options,
        )
        if (compared := timeline.scores.values.numel() * len(protocol.thresholds)) > MOST_COMPARED:
            raise _TooManyCandidatesError(
                f"{len(timeline.windows):,} windows of {timeline.scores.values.shape[1]:,} labels and "
                f"{len(protocol.thresholds)} thresholds are {compared:,} comparisons, more than {MOST_COMPARED:,}. "
                "Take fewer thresholds, or a longer stride_seconds."
            )
        count = _counting()
        for threshold in protocol.thresholds:
            for segment in timeline.segments_at(threshold, on_segment=count):
                # A segment that fills the video has nothing outside: its score alone ranks it.
                score = segment.score if protocol.ranking == "score" or segment.contrast is None else segment.contrast
                candidates.append(
                    DetectedSegment(video, segment.label, segment.start_seconds, segment.end_seconds, score)
                )
    except (VideoDecodeError, _TooManyCandidatesError) as error:
        return {"error": one_line(str(error))[:_LONGEST_ERROR]}
    kept = suppress_overlapping(candidates, max_iou=protocol.max_overlap)
    if len(kept) > most:
        return {
            "error": f"{len(kept):,} segments were found in it; of so many videos, at most {most:,} of each are kept. "
            "Take fewer thresholds, or a longer stride_seconds or smoothing_seconds."
        }
    return {"duration_seconds": timeline.duration_seconds, "segments": [_without_video(segment) for segment in kept]}


class _TooManyCandidatesError(Exception):
    """A video has more segments, or scores, than are compared."""


def _counting() -> Callable[[TimelineSegment], None]:
    """Count segments as they are found, and raise where they are too many."""
    counts: Counter[str] = Counter()
    cost = 0

    def count(segment: TimelineSegment) -> None:
        nonlocal cost
        counts[segment.label] += 1
        cost += segment.cost
        for whose, number, most in (
            (repr(segment.label), counts[segment.label], MOST_CANDIDATES),
            ("all labels, of which a long one counts as several,", cost, MOST_CANDIDATES_OF_ALL),
        ):
            if number > most:
                raise _TooManyCandidatesError(
                    f"more than {most:,} segments of {whose} are candidates, each of which is compared with others. "
                    "Take fewer thresholds, or a longer stride_seconds or smoothing_seconds."
                )

    return count


def _without_video(segment: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(segment).items() if name != "video"}


def detection_markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown: a table per metric, with a row per model."""
    results = report["results"]
    first = next(iter(results.values()))
    lines = [f"# {cell(report['protocol']['name'])}", ""]
    for name in metrics_of("segments", shown_in="report"):
        lines += _metric_table(name, METRICS[name], results)
    lines += [
        f"Measured on {first['num_videos']} videos with {first['num_segments']} segments. {_unreadable_told(results)}",
        "",
    ]
    for compared_with in dict.fromkeys(row["compared_with"] for row in results.values()):
        lines += [f"Labels: {cell(str(compared_with), limit=LONGEST_MESSAGE)}.", ""]
    checkpoints = ", ".join(f"`{name[:12]}`" for name in report["checkpoints"])
    lines += [f"Checkpoints: {checkpoints} (SHA-256 of the weights).", ""]
    return "\n".join([*lines, *(f"- {cell(note, limit=LONGEST_MESSAGE)}" for note in report["notes"]), ""])


def _unreadable_told(results: Mapping[str, Any]) -> str:
    """How many videos could not be read, of each model where they differ."""
    counts = {name: len(row["unreadable"]) for name, row in results.items()}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} videos could not be read."
    return f"Videos that could not be read: {', '.join(f'{cell(name)} {n}' for name, n in counts.items())}."


def _metric_table(name: str, metric: Metric, results: Mapping[str, Any]) -> list[str]:
    thresholds = list(next(iter(results.values()))[name])
    rows = [
        [cell(model), *(one_decimal(row[name][iou]) for iou in thresholds), one_decimal(row[f"average_{name}"])]
        for model, row in results.items()
    ]
    unit = "percent" if metric.unit == "%" else metric.unit
    title = f"{metric.title[0].upper()}{metric.title[1:]} in {unit} at thresholds of IoU:"
    return [title, "", *markdown_table(["model", *thresholds, "average"], rows), ""]
