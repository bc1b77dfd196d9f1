"""What happens when in a long video: overlapping windows of frames, read once and in order; smoothing; segments.

The zero-shot pipeline's `timeline` scores the windows. Only the frames of the windows under way are held, so that
hours need no more memory than seconds.

    start                                                             end
    |--- window ---|
          |--- window ---|                 one every stride; the last one ends with the video
                |--- window ---|
    |  segment of label a |  none  |  segment of label b ...     borders half-way between the windows' centres

All seconds that leave this module are those of a player's clock, which counts from the start of the file; where the
sound begins before the picture, the first window starts later than 0 s.

Letters: n windows, T frames, S pixels, K labels.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice, pairwise
from typing import Any

import torch

SMOOTHED_TOGETHER = 256


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
        return {**self.outline(), "windows": list(self.window_scores())}

    def outline(self) -> dict[str, Any]:
        """What `to_dict` has beside the windows, whose number times K may be large."""
        return {
            "start_seconds": self.start_seconds,
            "duration_seconds": self.duration_seconds,
            "labels": self.labels,
            "segments": [asdict(segment) for segment in self.segments],
        }

    def window_scores(self) -> Iterator[dict[str, Any]]:
        """The windows of `to_dict`, one after the other."""
        for (start, end), scores in zip(self.windows, self.scores):
            yield {"start_seconds": start, "end_seconds": end, "scores": scores.tolist()}


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
    smoothed = torch.empty_like(scores)
    # A few labels at a time: the sums of all would need five times the memory of the scores.
    for given, result in zip(scores.split(SMOOTHED_TOGETHER, dim=1), smoothed.split(SMOOTHED_TOGETHER, dim=1)):
        sums = torch.cat([torch.zeros(1, given.shape[1], dtype=torch.float64), given.double().cumsum(0)])
        result.copy_((sums[behind_last] - sums[first]) / (behind_last - first)[:, None])
    return smoothed


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
    runs = _merge_short_runs(picks, borders, scores, min_segment_seconds)
    return [
        TimelineSegment(borders[start], borders[end], label, float(scores[start:end, picks[start]].mean()))
        for start, end in runs
        if (label := names[picks[start]]) is not None
    ]


def _merge_short_runs(
    picks: list[int], borders: Sequence[float], scores: torch.Tensor, min_seconds: float
) -> list[tuple[int, int]]:
    """Give the shortest run to the neighbour that scores higher in it, until none is shorter than `min_seconds`.

    A run goes to one that is at least as long, so that no window changes hands more often than its run can double:
    the time grows with n log n.

    Args:
        picks: the label of each of n windows, changed in place; K or more stands for none, which wins from no label.
        borders: n + 1 times in seconds.
        scores: (n, K).
        min_seconds: shorter runs are merged, the shortest first, and of several the earliest.

    Returns:
        Start and end of each run, in order.
    """
    ends = dict(_runs(picks))
    starts = {end: start for start, end in ends.items()}
    queue = [(borders[end] - borders[start], start, end) for start, end in ends.items()]
    heapq.heapify(queue)
    while len(ends) > 1:
        seconds, start, end = heapq.heappop(queue)
        if ends.get(start) != end:
            continue  # has become part of another run since
        if seconds >= min_seconds:
            break
        del ends[start], starts[end]
        neighbours = [picks[at] for at in (start - 1, end) if 0 <= at < len(picks)]
        means = {pick: float(scores[start:end, pick].mean()) for pick in neighbours if pick < scores.shape[1]}
        heir = max(neighbours, key=lambda pick: means.get(pick, -math.inf))
        picks[start:end] = [heir] * (end - start)
        first, last = start, end
        if start > 0 and picks[start - 1] == heir:
            first = starts.pop(start)
        if end < len(picks) and picks[end] == heir:
            last = ends.pop(end)
        ends[first], starts[last] = last, first
        heapq.heappush(queue, (borders[last] - borders[first], first, last))
    return sorted(ends.items())


def _runs(picks: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each stretch of equal picks."""
    starts = [i for i, pick in enumerate(picks) if i == 0 or pick != picks[i - 1]]
    return list(zip(starts, [*starts[1:], len(picks)]))


def window_times(window: tuple[float, float], num_frames: int) -> list[float]:
    """Times of a window's T frames in seconds: the centres of T equal segments."""
    start, end = window
    return [round(start + (i + 0.5) * (end - start) / num_frames, 6) for i in range(num_frames)]


def iterate_windows(
    frames: Iterator[tuple[float, torch.Tensor]],
    times_by_window: Sequence[Sequence[float]],
    prepare: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[torch.Tensor]:
    """The clips of overlapping windows from a stream of frames, each frame prepared once and held while it is needed.

    Args:
        frames: pairs of a wanted time and the frame (3, h, w) that is shown then, in the order of time.
        times_by_window: T times for each of n windows; the windows in order.
        prepare: raw frames (m, 3, h, w) to pixels (m, 3, S, S).

    Yields:
        Pixels (T, 3, S, S), n times.
    """
    ready: dict[float, torch.Tensor] = {}
    raw: dict[float, torch.Tensor] = {}
    for times in times_by_window:
        for time in [time for time in ready if time < times[0]]:
            del ready[time]
        while times[-1] not in ready and times[-1] not in raw:
            time, frame = next(frames)
            raw[time] = frame
        if raw:
            ready.update(zip(raw, prepare(torch.stack(list(raw.values())))))
            raw.clear()
        yield torch.stack([ready[time] for time in times])


class WindowStream:
    """The windows of one video as batches of clips, from one pass over the file.

    `windows`, `start_seconds`, `duration_seconds` and `thumbnails` are known once the first batch has been read. Their
    times are those of a player's clock, while the decoder counts from the start of the stream.

    Args:
        video_processor: a `FrosterVideoProcessor`.
        video: what it can stream.
        window_seconds: length of a window.
        stride_seconds: from one window's start to the next.
        num_frames: T, frames a window.
        num_thumbnails: small frames to keep, evenly spread.
    """

    def __init__(
        self,
        video_processor: Any,
        video: Any,
        *,
        window_seconds: float,
        stride_seconds: float,
        num_frames: int,
        num_thumbnails: int = 0,
    ):
        plan_windows(0.0, window_seconds, stride_seconds)
        if num_frames < 1:
            raise ValueError(f"`num_frames` is {num_frames}; a window needs at least 1.")
        self.video_processor, self.video = video_processor, video
        self.window_seconds, self.stride_seconds = window_seconds, stride_seconds
        self.num_frames, self.num_thumbnails = num_frames, num_thumbnails
        self.windows: list[tuple[float, float]] = []
        self.start_seconds = self.duration_seconds = 0.0
        self.thumbnails: list[tuple[float, torch.Tensor]] = []
        self._times_by_window: list[list[float]] = []
        self._times: list[float] = []

    def batches(self, batch_size: int) -> Iterator[torch.Tensor]:
        """Clips (b, T, 3, S, S) with b at most `batch_size`.

        Raises:
            VideoDecodeError: the video cannot be read.
            ValueError: `batch_size` is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        stream = self._frames()
        # The plan is made when the decoder says how long the video is, which is before its first frame.
        first = next(stream)
        clips = iterate_windows(chain([first], stream), self._times_by_window, self._prepare)
        while batch := list(islice(clips, batch_size)):
            yield torch.stack(batch)

    def _plan(self, info: Any) -> list[float]:
        self.start_seconds, self.duration_seconds = info.start_seconds, info.duration_seconds
        windows = plan_windows(info.duration_seconds, self.window_seconds, self.stride_seconds)
        self.windows = [(start + info.start_seconds, end + info.start_seconds) for start, end in windows]
        self._times_by_window = [window_times(window, self.num_frames) for window in windows]
        self._times = sorted({time for times in self._times_by_window for time in times})
        return self._times

    def _frames(self) -> Iterator[tuple[float, torch.Tensor]]:
        """Wanted times with the frames shown then."""
        for position, shown in enumerate(self.video_processor.stream_frames(self.video, self._plan)):
            time = self._times[position]
            if len(self.thumbnails) * self.duration_seconds <= time * self.num_thumbnails:
                self.thumbnails.append((self.start_seconds + time, _thumbnail(shown.frame)))
            yield time, shown.frame

    def _prepare(self, frames: torch.Tensor) -> torch.Tensor:
        options = {"do_sample_frames": False, "num_crops": 1, "cropping": "center"}
        return self.video_processor([frames], return_tensors="pt", **options)["pixel_values_videos"][0]


def _thumbnail(frame: torch.Tensor) -> torch.Tensor:
    """(3, h, w) to at most 96 pixels of height, by leaving out pixels."""
    step = max(1, math.ceil(frame.shape[1] / 96))
    return frame[:, ::step, ::step].clone()
