"""Timelines and answers as annotation tools read them: Label Studio's JSON, FiftyOne's labels.

What a model says becomes a first draft that people correct. Label Studio counts frames from 1 at the rate that its
project states, FiftyOne counts the file's own; a timeline has seconds of a player's clock.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..printing import printable

# Control characters, halves of characters, and the two numbers that stand for none, which XML does not have; and what
# turns the direction of a text or ends its line, which would show another label than there is.
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

VIDEO_NAME, LABELS_NAME = "video", "actions"


def label_studio_config(labels: Sequence[str], *, frames_per_second: float) -> str:
    """The labeling configuration of a Label Studio project for timelines.

    Args:
        labels: names of the actions, as the timelines have them.
        frames_per_second: by which Label Studio counts the frames of all videos of the project; its timeline shows
            times right where this is the videos' own rate.

    Raises:
        ValueError: a rate that is not positive, or two labels that Label Studio would not tell apart.
    """
    _check_rate(frames_per_second)
    values = [_label_value(label) for label in labels]
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"Two labels are {printable(repeated[0])!r} in Label Studio. Rename one of them.")
    view = ElementTree.Element("View")
    attributes = {"name": LABELS_NAME, "toName": VIDEO_NAME}
    control = ElementTree.SubElement(view, "TimelineLabels", attributes)
    for value in values:
        ElementTree.SubElement(control, "Label", {"value": value})
    attributes = {"name": VIDEO_NAME, "value": f"${VIDEO_NAME}", "frameRate": f"{frames_per_second:g}"}
    ElementTree.SubElement(view, "Video", attributes)
    return ElementTree.tostring(view, encoding="unicode")


def label_studio_task(
    timeline: Any, video: str, *, frames_per_second: float, model_version: str = "froster-hf"
) -> dict[str, Any]:
    """A task of Label Studio with a timeline's segments as its prediction; a list of them is a file to import.

    Args:
        timeline: what the pipeline's `timeline` gives.
        video: the address under which Label Studio loads the video.
        frames_per_second: as in [`label_studio_config`].
        model_version: name of the checkpoint, which Label Studio shows beside the prediction.

    Returns:
        `{"data": ..., "predictions": [...]}`. A segment's frames count from 1 and include the last, so that neighbors
        share none. Scores are those of the segments; they are left out where they are not between 0 and 1.

    Raises:
        ValueError: a rate that is not positive.
    """
    _check_rate(frames_per_second)
    regions = []
    for number, segment in enumerate(timeline.segments):
        first = round(segment.start_seconds * frames_per_second) + 1
        last = max(first, round(segment.end_seconds * frames_per_second))
        region = {
            "id": f"segment-{number}",
            "type": "timelinelabels",
            "from_name": LABELS_NAME,
            "to_name": VIDEO_NAME,
            "origin": "prediction",
            "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [_label_value(segment.label)]},
        }
        regions.append(region | ({"score": segment.score} if 0 <= segment.score <= 1 else {}))
    prediction: dict[str, Any] = {"model_version": model_version, "result": regions}
    scores = [region["score"] for region in regions if "score" in region]
    if regions and len(scores) == len(regions):
        prediction["score"] = sum(scores) / len(scores)
    return {"data": {VIDEO_NAME: video}, "predictions": [prediction]}


def fiftyone_detections(timeline: Any, metadata: Any) -> Any:
    """A timeline's segments as `fiftyone.TemporalDetections`. Imports `fiftyone`.

    Args:
        timeline: what the pipeline's `timeline` gives.
        metadata: the sample's `fiftyone.VideoMetadata` (`sample.compute_metadata()` fills it): FiftyOne turns seconds
            into frames by it.

    Raises:
        ValueError: the metadata is not there.
    """
    import fiftyone

    if metadata is None or not metadata.duration or not metadata.total_frame_count:
        raise ValueError(
            "The sample's metadata lacks the duration or the number of frames. Call `sample.compute_metadata()` first."
        )
    detections = [
        fiftyone.TemporalDetection.from_timestamps(
            [min(seconds, metadata.duration) for seconds in (segment.start_seconds, segment.end_seconds)],
            metadata=metadata,
            label=segment.label,
            confidence=segment.score,
        )
        for segment in timeline.segments
    ]
    return fiftyone.TemporalDetections(detections=detections)


def fiftyone_classification(answers: Sequence[Mapping[str, Any]]) -> Any:
    """The best of the pipeline's answers for one video as a `fiftyone.Classification`. Imports `fiftyone`."""
    import fiftyone

    best = answers[0]
    return fiftyone.Classification(label=best["label"], confidence=best["score"])


def _label_value(label: str) -> str:
    """A label as both the configuration and the tasks name it, in escapes what is not shown."""
    return _NOT_SHOWN.sub(lambda character: printable(character[0]), label)


def _check_rate(frames_per_second: float) -> None:
    if not 0 < frames_per_second < float("inf"):
        raise ValueError(f"`frames_per_second` is {frames_per_second}; it must be positive.")
