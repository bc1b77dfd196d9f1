"""Found segments against true ones, as pure functions: which are right, and how precise the best of them are.

The measure of ActivityNet's toolkit, which published zero-shot results on THUMOS14 and ActivityNet-1.3 use as well
(mAP at IoU 0.3 to 0.7, and 0.5 to 0.95): found segments are taken from the best score down, each is right if it
overlaps enough with a true segment of its class in its video that no better one has taken, and the average precision
of a class is the area under its interpolated curve of precision over recall.

Letters: n found segments of a class, I thresholds of IoU.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.segment_lists import AnnotatedSegment


@dataclass(frozen=True)
class DetectedSegment:
    """A segment that was found.

    Args:
        video: the video that it is in.
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


class FoundSegments:
    """Found segments of many videos in 32 bytes each, since an evaluation holds those of all its videos.

    Args:
        segments: the first of them.
    """

    def __init__(self, segments: Iterable[DetectedSegment] = ()) -> None:
        self.labels: dict[str, int] = {}
        self.videos: dict[str, int] = {}
        self._places, self._numbers = array("i"), array("d")
        for segment in segments:
            self.add(segment)

    def __len__(self) -> int:
        return len(self._places) // 2

    def add(self, segment: DetectedSegment) -> None:
        """Put one behind the others."""
        label = self.labels.setdefault(segment.label, len(self.labels))
        self._places.extend((label, self.videos.setdefault(segment.video, len(self.videos))))
        self._numbers.extend((segment.start_seconds, segment.end_seconds, segment.score))

    @property
    def places(self) -> np.ndarray:
        """(n, 2) numbers of the label in `labels` and of the video in `videos`."""
        return np.asarray(self._places).reshape(-1, 2)

    @property
    def numbers(self) -> np.ndarray:
        """(n, 3) start, end and score."""
        return np.asarray(self._numbers).reshape(-1, 3)


@dataclass(frozen=True)
class ClassMatches:
    """The found segments of one class, each right or wrong.

    Args:
        hits: (I, n) bool, whether each is right at each threshold, from the best score down.
        num_true: true segments of the class.
    """

    hits: np.ndarray
    num_true: int


def temporal_iou(segment: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a segment (2,) with others (m, 2), starts and ends in seconds: (m,)."""
    inside = np.minimum(segment[1], others[:, 1]) - np.maximum(segment[0], others[:, 0])
    inside = inside.clip(min=0)
    union = (segment[1] - segment[0]) + (others[:, 1] - others[:, 0]) - inside
    return np.divide(inside, union, out=np.zeros(len(others)), where=union > 0)


def match_segments(
    found: Iterable[DetectedSegment] | FoundSegments,
    true: Sequence[AnnotatedSegment],
    *,
    iou_thresholds: Sequence[float],
) -> dict[str, ClassMatches]:
    """Decide which found segments are right, for each class that has true segments.

    Args:
        found: in any order; of equal scores, the earlier one goes first.
        true: those of all videos that were looked at.
        iou_thresholds: I least overlaps.

    Raises:
        ValueError: a score or time that is not finite.
    """
    found = found if isinstance(found, FoundSegments) else FoundSegments(found)
    places, numbers = found.places, found.numbers
    if not np.isfinite(numbers).all():
        raise ValueError("Found segments have times or scores that are infinite or NaN.")
    spans: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for segment in true:
        spans[segment.label][segment.video].append((segment.start_seconds, segment.end_seconds))
    # Label by label, from the best score down.
    order = np.lexsort((-numbers[:, 2], places[:, 0]))
    ends = np.cumsum(np.bincount(places[:, 0], minlength=len(found.labels)))
    matches = {}
    for label, videos in spans.items():
        number = found.labels.get(label)
        ranked = order[:0] if number is None else order[ends[number - 1] if number else 0 : ends[number]]
        truths = {found.videos.get(video): np.array(segments) for video, segments in videos.items()}
        hits = _find_hits(places[ranked, 1], numbers[ranked, :2], truths, iou_thresholds)
        matches[label] = ClassMatches(hits, sum(map(len, videos.values())))
    return matches


def _find_hits(
    videos: np.ndarray, spans: np.ndarray, truths: Mapping[int | None, np.ndarray], iou_thresholds: Sequence[float]
) -> np.ndarray:
    """(I, n) bool: a segment is right where it takes the free true segment that it overlaps most, and enough.

    Args:
        videos: (n,) numbers of the found segments' videos, from the best score down.
        spans: (n, 2) their starts and ends.
        truths: by video, starts and ends of its true segments; `None` stands for those in which nothing was found.
        iou_thresholds: I least overlaps.
    """
    hits = np.zeros((len(iou_thresholds), len(videos)), dtype=bool)
    least = np.array(iou_thresholds, dtype=np.float64)[:, None]
    taken = {video: np.zeros((len(iou_thresholds), len(rows)), dtype=bool) for video, rows in truths.items()}
    for place, (video, span) in enumerate(zip(map(int, videos), spans)):
        if video not in truths:
            continue
        overlap = temporal_iou(span, truths[video])
        near = np.flatnonzero(overlap >= min(iou_thresholds, default=0))
        if not len(near):
            continue
        overlap = overlap[near]
        free = (overlap >= least) & ~taken[video][:, near]
        # Of equals the first.
        best = near[np.where(free, overlap, -1).argmax(axis=1)]
        rows = np.flatnonzero(free.any(axis=1))
        taken[video][rows, best[rows]] = hits[rows, place] = True
    return hits


def interpolated_average_precision(hits: np.ndarray, num_true: int) -> float:
    """Area under precision over recall, with the precision made to fall only.

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


def class_average_precisions(matches: Mapping[str, ClassMatches]) -> dict[str, np.ndarray]:
    """Average precision of each class at each threshold, (I,)."""
    return {
        label: np.array([interpolated_average_precision(row, match.num_true) for row in match.hits])
        for label, match in matches.items()
    }


def mean_class_average_precision(matches: Mapping[str, ClassMatches]) -> np.ndarray:
    """The mean of `class_average_precisions` over the classes, (I,)."""
    return np.mean(list(class_average_precisions(matches).values()), axis=0)


def suppress_overlapping(found: Sequence[DetectedSegment], *, max_iou: float) -> list[DetectedSegment]:
    """Keep the best of the segments of one class in one video that overlap by more than `max_iou`."""
    groups: dict[tuple[str, str], list[DetectedSegment]] = defaultdict(list)
    for detected in sorted(found, key=lambda detected: -detected.score):
        groups[detected.video, detected.label].append(detected)
    kept = []
    for group in groups.values():
        spans, count = np.empty((len(group), 2)), 0
        for detected in group:
            span = np.array([detected.start_seconds, detected.end_seconds])
            if not (temporal_iou(span, spans[:count]) > max_iou).any():
                kept.append(detected)
                spans[count] = span
                count += 1
    return kept
