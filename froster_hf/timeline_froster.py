"""What happens when in a long video: windows, smoothing and segments, as arithmetic on scores and seconds.

The zero-shot pipeline's `timeline` fills it from a stream of windows.

    start                                                             end
    |--- window ---|
          |--- window ---|                 one every stride; the last one ends with the video
                |--- window ---|
    |  segment of label a |  none  |  segment of label b ...     borders half-way between the windows' centres

All seconds that leave this module are those of a player's clock, which counts from the start of the file; where the
sound begins before the picture, the first window starts later than 0 s.

Letters: n windows, K labels.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch


@dataclass(frozen=True)
class TimelineSegment:
    """A stretch of a video with one label; its score is the mean over its windows."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float


@dataclass
class Timeline:
    """Scores of a video's windows, and the segments that they add up to.

    Args:
        labels: K names.
        duration_seconds: length of the video.
        windows: n pairs of start and end in seconds.
        scores: (n, K), smoothed.
        segments: in order; where none of the labels holds there is a gap.
        start_seconds: when the picture starts.
        thumbnails: pairs of a time in seconds and a small frame, uint8 (3, h, w).
    """

    labels: list[str]
    duration_seconds: float
    windows: list[tuple[float, float]]
    scores: torch.Tensor
    segments: list[TimelineSegment]
    start_seconds: float = 0.0
    thumbnails: list[tuple[float, torch.Tensor]] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        return {
            "start_seconds": self.start_seconds,
            "duration_seconds": self.duration_seconds,
            "labels": self.labels,
            "segments": [asdict(segment) for segment in self.segments],
            "windows": [
                {"start_seconds": start, "end_seconds": end, "scores": scores}
                for (start, end), scores in zip(self.windows, self.scores.tolist())
            ],
        }


def plan_windows(duration_seconds: float, window_seconds: float, stride_seconds: float) -> list[tuple[float, float]]:
    """Windows that cover a video: one every stride, the last one ending with the video; one alone for a short video.

    Raises:
        ValueError: a length that is not positive.
    """
    for name, value in (("window_seconds", window_seconds), ("stride_seconds", stride_seconds)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` is {value}; it must be positive.")
    last = max(duration_seconds - window_seconds, 0.0)
    # A remainder of a millionth of a stride is rounding, not another window.
    count = math.ceil(last / stride_seconds - 1e-6) + 1
    starts = [min(k * stride_seconds, last) for k in range(count)]
    return [(start, min(start + window_seconds, duration_seconds)) for start in starts]


def smooth_scores(
    scores: torch.Tensor, windows: Sequence[tuple[float, float]], smoothing_seconds: float
) -> torch.Tensor:
    """Average the scores (n, K) of the windows whose centres lie within half of `smoothing_seconds` of each other."""
    centres = torch.tensor([(start + end) / 2 for start, end in windows], dtype=torch.float64)
    first = torch.searchsorted(centres, centres - smoothing_seconds / 2 - 1e-6)
    behind_last = torch.searchsorted(centres, centres + smoothing_seconds / 2 + 1e-6)
    sums = torch.cat([torch.zeros(1, scores.shape[1], dtype=torch.float64), scores.double().cumsum(0)])
    return ((sums[behind_last] - sums[first]) / (behind_last - first)[:, None]).to(scores.dtype)


def find_segments(
    scores: torch.Tensor,
    labels: Sequence[str | None],
    windows: Sequence[tuple[float, float]],
    *,
    threshold: float | None = None,
    min_segment_seconds: float = 0.0,
) -> list[TimelineSegment]:
    """Merge neighbouring windows with the same best label.

    Args:
        scores: (n, K).
        labels: K names; `None` stands for "none of these".
        windows: n pairs of start and end in seconds; the first starts and the last ends with the video.
        threshold: a window whose best score is lower shows none of the labels.
        min_segment_seconds: shorter segments go to the neighbour whose label scores higher in them.
    """
    centres = [(start + end) / 2 for start, end in windows]
    borders = [windows[0][0], *((a + b) / 2 for a, b in pairwise(centres)), windows[-1][1]]
    best, winners = scores.max(dim=1)
    none = len(labels)
    names = [*labels, None]
    picks = [
        none if names[winner] is None or (threshold is not None and score < threshold) else winner
        for score, winner in zip(best.tolist(), winners.tolist())
    ]
    runs = _runs(picks)
    while len(runs) > 1:
        lengths = [borders[end] - borders[start] for start, end in runs]
        shortest = min(range(len(runs)), key=lengths.__getitem__)
        if lengths[shortest] >= min_segment_seconds:
            break
        start, end = runs[shortest]
        neighbours = [picks[at] for at in (start - 1, end) if 0 <= at < len(picks)]
        means = scores[start:end].mean(0)
        heir = max(neighbours, key=lambda pick: float(means[pick]) if pick != none else -math.inf)
        picks[start:end] = [heir] * (end - start)
        runs = _runs(picks)
    return [
        TimelineSegment(borders[start], borders[end], label, float(scores[start:end, picks[start]].mean()))
        for start, end in runs
        if (label := names[picks[start]]) is not None
    ]


def _runs(picks: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each stretch of equal picks."""
    starts = [i for i, pick in enumerate(picks) if i == 0 or pick != picks[i - 1]]
    return list(zip(starts, [*starts[1:], len(picks)]))
