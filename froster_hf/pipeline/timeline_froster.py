"""What happens when in a long video: overlapping windows of frames, read once and in order; smoothing; segments.

The zero-shot pipeline's `timeline` scores the windows. Only the frames of the windows under way are held, and of each
window's scores the best, so that hours and ten thousand labels need no more memory than seconds and ten; a segment is
known as soon as nothing that follows can change it.

    start                                                             end
    |--- window ---|
          |--- window ---|                 one every stride; the last one ends with the video
                |--- window ---|
    |  segment of label a |  none  |  segment of label b ...     borders half-way between the windows' centers

All seconds that leave this module are those of a player's clock, which counts from the start of the file; where the
sound begins before the picture, the first window starts later than 0 s.

Letters: n windows, T frames, S pixels, K labels, k labels kept per window.
"""

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, groupby, islice
from numbers import Real
from typing import Any

import torch

from .scoring_froster import whole_number

# k: labels whose scores are kept of each window, the best of them; more where each label has segments of its own,
# which another threshold has to find again.
KEPT_LABELS = 32
KEPT_LABELS_OF_MULTI_LABEL = 256
# What is close outside of a segment: this part of its length before it, and as much behind.
OUTSIDE_SHARE = 0.25
# A file says how long its video is, and a stranger's index or protocol how its windows lie: how many overlap or are
# averaged, how many there are, and how many frames they have in all, is bounded before lists are made. A day at half a
# second is 172,800 windows; of each, the best scores are kept.
MOST_STRIDES = 1000
MOST_WINDOWS, MOST_WINDOW_FRAMES = 2**18, 2**22
# With each label for itself, windows and labels multiply.
MOST_SEGMENTS = 2**19
# Of clips that are computed together, a quarter of a gigabyte; 8 of 32 frames of 224 pixels have 4 * 10^7.
MOST_BATCH_VALUES = 2**26
# Of frames of a video's own size that are prepared together: a checkpoint says how many a window has.
MOST_RAW_BYTES = 2**28
# How the video processor takes the frames of a window, which are sampled already.
WINDOW_OPTIONS: dict[str, Any] = {"do_sample_frames": False, "num_crops": 1, "cropping": "center"}
# Start and end of a window in seconds, and its scores: (K,), or (K + 1,) where "none of these" has one.
ScoredWindow = tuple[tuple[float, float], torch.Tensor]


@dataclass(frozen=True)
class TimelineSegment:
    """A stretch of a video with one label.

    Args:
        start_seconds: where it begins.
        end_seconds: where it ends.
        label: its name.
        score: mean of the label's score over the windows inside.
        contrast: by how much that mean is above the one over the windows close outside, within a quarter of the
            segment's length on each side, as FreeZAD (2025) ranks proposals; `None` where there is nothing outside.
    """

    start_seconds: float
    end_seconds: float
    label: str
    score: float
    contrast: float | None = None

    @property
    def cost(self) -> int:
        """What it counts for where segments are bounded: results repeat its label, so a long one counts as several."""
        return 1 + len(self.label) // 100


@dataclass(frozen=True)
class WindowScores:
    """The best scores of each of n windows.

    Args:
        values: (n, k), best first.
        indices: (n, k), which labels they belong to.
    """

    values: torch.Tensor
    indices: torch.Tensor

    def of(self, index: int) -> torch.Tensor:
        """Scores (n,) of one label; the least kept score of the window where the label is not among the kept.

        That is the most that it can have had.
        """
        found = self.indices == index
        return torch.where(found.any(1), torch.where(found, self.values, 0).sum(1), self.values[:, -1])


@dataclass
class Timeline:
    """Scores of a video's windows, and the segments that they add up to.

    Args:
        labels: K names.
        duration_seconds: length of the video.
        windows: n pairs of start and end in seconds.
        scores: scores of the labels that score highest in each window, smoothed.
        segments: in order; where none of the labels holds there is a gap. With `multi_label` they may overlap.
        start_seconds: when the picture starts.
        thumbnails: pairs of a time in seconds and a small frame, uint8 (3, h, w).
        threshold: least score of a segment's windows.
        multi_label: each label has segments of its own.
        compared_with: what labels were compared with, in words, where it is not just each other.
        name: name of the video's file.
    """

    labels: list[str]
    duration_seconds: float
    windows: list[tuple[float, float]]
    scores: WindowScores
    segments: list[TimelineSegment]
    start_seconds: float = 0.0
    thumbnails: list[tuple[float, torch.Tensor]] = field(default_factory=list, repr=False)
    threshold: float | None = None
    multi_label: bool = False
    compared_with: str | None = None
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        return {**self.outline(), "windows": list(self.window_scores())}

    def segments_at(
        self, threshold: float, *, on_segment: Callable[[TimelineSegment], None] | None = None
    ) -> list[TimelineSegment]:
        """The segments that another threshold gives, with each label for itself.

        Of more labels than are kept, one that is not among the best of a window does not show in it.

        Args:
            threshold: a window in which a label scores less does not show it.
            on_segment: called with each segment as soon as it is found, before its `contrast` is known.

        Raises:
            ValueError: more than `MOST_SEGMENTS` segments.
        """
        finder = SegmentFinder(self.labels, threshold=threshold, multi_label=True)

        def find() -> Iterator[TimelineSegment]:
            for window, values, indices in zip(self.windows, self.scores.values, self.scores.indices):
                yield from finder.add(window, values, indices)
            yield from finder.finish()

        return contrast_segments(_given_out(find(), on_segment), self.labels, self.windows, self.scores)

    def outline(self) -> dict[str, Any]:
        """`to_dict` without the windows, whose number may be large."""
        return {
            "name": self.name,
            "start_seconds": self.start_seconds,
            "duration_seconds": self.duration_seconds,
            "labels": self.labels,
            "multi_label": self.multi_label,
            "compared_with": self.compared_with,
            "threshold": self.threshold,
            "segments": [asdict(segment) for segment in self.segments],
        }

    def window_scores(self) -> Iterator[dict[str, Any]]:
        """The windows of `to_dict`, one after the other, each with its best labels' scores."""
        for (start, end), values, indices in zip(self.windows, self.scores.values, self.scores.indices):
            scores = {self.labels[index]: value for index, value in zip(indices.tolist(), values.tolist())}
            yield {"start_seconds": start, "end_seconds": end, "scores": scores}


def plan_windows(
    duration_seconds: float,
    window_seconds: float,
    stride_seconds: float,
    *,
    num_frames: int = 1,
    max_frames: int = MOST_WINDOW_FRAMES,
) -> list[tuple[float, float]]:
    """Windows that cover a video: one every stride, the last one ending with the video; one alone for a short video.

    Args:
        duration_seconds: length of the video.
        window_seconds: length of a window, at most `MOST_STRIDES` strides.
        stride_seconds: from one window's start to the next.
        num_frames: T, frames per window.
        max_frames: T * n, frames of all windows.

    Raises:
        ValueError: a length that is not positive; more windows overlap, there are more (`MOST_WINDOWS`), or they have
            more frames, than is allowed.
    """
    check_seconds(window_seconds=window_seconds, stride_seconds=stride_seconds, zero=False)
    check_strides(stride_seconds, window_seconds=window_seconds)
    last = max(duration_seconds - window_seconds, 0.0)
    num_strides = last / stride_seconds
    if num_strides + 1 > MOST_WINDOWS:
        raise ValueError(
            f"in {duration_seconds:g} s there is one window every {stride_seconds:g} s (`stride_seconds`), which are "
            f"more than {MOST_WINDOWS}; take a longer stride"
        )
    if (num_strides + 1) * num_frames > max_frames:
        raise ValueError(
            f"in {duration_seconds:g} s there is one window of {num_frames} frames every {stride_seconds:g} s "
            f"(`stride_seconds`), and they have more than {max_frames} frames in all; take a longer stride"
        )
    # A remainder of a millionth of a stride is rounding, not another window.
    count = math.ceil(num_strides - 1e-6) + 1
    starts = [min(k * stride_seconds, last) for k in range(count)]
    return [(start, min(start + window_seconds, duration_seconds)) for start in starts]


def check_seconds(*, zero: bool = True, **lengths: Any) -> None:
    """Refuse by name what is not a finite number of seconds, 0 or more.

    Args:
        zero: whether they may be 0.
        lengths: name of an option -> its value.
    """
    for name, value in lengths.items():
        is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < 0 or (value == 0 and not zero):
            allowed = "0 or more" if zero else "positive"
            raise ValueError(f"`{name}` is {repr(value)[:100]}; it must be {allowed}, in seconds.")


def check_strides(stride_seconds: float, **lengths: float) -> None:
    """Refuse by name what has more strides than are held at a time: the frames of a window, the scores of an average.

    Args:
        stride_seconds: from one window's start to the next.
        lengths: `window_seconds` or `smoothing_seconds` -> its value.
    """
    for name, value in lengths.items():
        if value > MOST_STRIDES * stride_seconds:
            whole = "a window" if name == "window_seconds" else "an average"
            raise ValueError(
                f"`{name}` is {value:g} and `stride_seconds` is {stride_seconds:g}; {whole} has at most "
                f"{MOST_STRIDES} strides."
            )


def smooth_scores(scored: Iterable[ScoredWindow], smoothing_seconds: float) -> Iterator[ScoredWindow]:
    """Average the scores of the windows whose centers lie within half of `smoothing_seconds` of each other.

    Args:
        scored: windows in order, each with its scores (K,).
        smoothing_seconds: length of the average; 0 changes nothing.

    Yields:
        The same windows with their smoothed scores, each as soon as the last window of its average has come.
    """
    reach = smoothing_seconds / 2 + 1e-6
    # What averages to come need, in two parts, so that each window is added twice, however many an average has: the
    # older ones with the sum of each and of those behind it, and the newer ones with the sum of all of them.
    older: deque[tuple[float, torch.Tensor]] = deque()
    newer: deque[tuple[float, torch.Tensor]] = deque()
    newer_sum: Any = 0
    waiting: deque[tuple[float, float]] = deque()

    def average(window: tuple[float, float]) -> ScoredWindow:
        nonlocal newer_sum
        while (older or newer)[0][0] < _center(window) - reach:
            if not older:
                total: Any = 0
                while newer:
                    center, last = newer.pop()
                    total = total + last.double()
                    older.appendleft((center, total))
                newer_sum = 0
            older.popleft()
        near = newer_sum + older[0][1] if older else newer_sum
        return window, (near / (len(older) + len(newer))).to(scores.dtype)

    for window, scores in scored:
        while waiting and _center(window) > _center(waiting[0]) + reach:
            yield average(waiting.popleft())
        newer.append((_center(window), scores))
        newer_sum = newer_sum + scores.double()
        waiting.append(window)
    while waiting:
        yield average(waiting.popleft())


def keep_best(scores: torch.Tensor, *, kept: int = KEPT_LABELS) -> WindowScores:
    """The best of the scores (n, K)."""
    # Of equal scores, that of the label that was given first.
    values, indices = scores.sort(descending=True, stable=True)
    return WindowScores(values[:, :kept].clone(), indices[:, :kept].clone())


class SegmentFinder:
    """Makes segments of windows that come one after the other; each is given out as soon as it is final.

    One label at a time (`multi_label=False`): neighboring windows with the same best label are merged, and stretches
    shorter than `min_segment_seconds` go to the neighbor whose label scores higher in them. Each label for itself:
    neighboring windows in which it reaches the threshold are merged, and shorter stretches are left out.

    Args:
        labels: K names.
        threshold: a window in which a label scores less does not show it.
        min_segment_seconds: shorter segments are merged or left out.
        multi_label: each label for itself; needs a threshold.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        threshold: float | None = None,
        min_segment_seconds: float = 0.0,
        multi_label: bool = False,
    ):
        self.labels, self.threshold, self.min_segment_seconds = labels, threshold, min_segment_seconds
        self.multi_label = multi_label
        self._last: tuple[float, float] | None = None
        # Of one label at a time: the windows since the last border that nothing can move.
        self._picks: list[int] = []
        self._borders: list[float] = []
        self._values: list[torch.Tensor] = []
        self._indices: list[torch.Tensor] = []
        self._run_starts: list[int] = []
        # Of each label for itself: index -> start of the segment under way, sum of its scores, and their number.
        self._open: dict[int, tuple[float, float, int]] = {}

    def add(
        self, window: tuple[float, float], values: torch.Tensor, indices: torch.Tensor, none_score: float | None = None
    ) -> list[TimelineSegment]:
        """Take the next window.

        Args:
            window: start and end in seconds.
            values: (k,), its best scores, best first; of each label for itself in any order.
            indices: (k,), of which labels.
            none_score: score of "none of these", where there is one.

        Returns:
            The segments that are final now, in order of their ends.
        """
        border = window[0] if self._last is None else (_center(self._last) + _center(window)) / 2
        self._last = window
        if self.multi_label:
            return self._add_to_each(border, values, indices)
        best, winner = float(values[0]), int(indices[0])
        is_none = (self.threshold is not None and best < self.threshold) or (
            none_score is not None and none_score > best
        )
        pick = len(self.labels) if is_none else winner
        if not self._picks or self._picks[-1] != pick:
            self._run_starts.append(len(self._picks))
        self._picks.append(pick)
        self._borders.append(border)
        self._values.append(values)
        self._indices.append(indices)
        if len(self._run_starts) < 2:
            return []
        # A stretch that is long enough stays where it is: what lies before two of them is settled.
        before, last = self._run_starts[-2:]
        known = (self._borders[last] - self._borders[before], _center(window) - self._borders[last])
        return self._settle(last) if min(known) >= self.min_segment_seconds else []

    def add_scores(
        self, window: tuple[float, float], scores: torch.Tensor
    ) -> tuple[WindowScores, list[TimelineSegment]]:
        """Take the next window with the scores of all labels.

        Args:
            window: start and end in seconds.
            scores: (K,), or (K + 1,) where "none of these" has one.

        Returns:
            The best of the scores, (1, k), and the segments that are final now.
        """
        num_labels = len(self.labels)
        if self.multi_label:
            # Whatever is kept, every label that reaches the threshold shows.
            own = scores[:num_labels]
            best = keep_best(own[None], kept=KEPT_LABELS_OF_MULTI_LABEL)
            return best, self.add(window, own, torch.arange(num_labels, device=own.device))
        best = keep_best(scores[None, :num_labels])
        none_score = float(scores[-1]) if len(scores) > num_labels else None
        return best, self.add(window, best.values[0], best.indices[0], none_score)

    def finish(self) -> list[TimelineSegment]:
        """The segments that end with the video."""
        if self._last is None:
            return []
        end = self._last[1]
        if self.multi_label:
            return self._close(end, keep=set())
        self._borders.append(end)
        return self._settle(len(self._picks))

    def _settle(self, number: int) -> list[TimelineSegment]:
        """Segments of the first `number` windows that are held, which are let go."""
        picks, borders = self._picks[:number], self._borders[: number + 1]
        scores = WindowScores(torch.stack(self._values[:number]), torch.stack(self._indices[:number]))

        def mean(start: int, end: int, pick: int) -> float:
            part = WindowScores(scores.values[start:end], scores.indices[start:end])
            return float(part.of(pick).mean()) if pick < len(self.labels) else -math.inf

        segments = [
            TimelineSegment(borders[start], borders[end], self.labels[pick], mean(start, end, pick))
            for start, end in _merge_short_runs(picks, borders, mean, self.min_segment_seconds)
            if (pick := picks[start]) < len(self.labels)
        ]
        for kept in (self._picks, self._borders, self._values, self._indices):
            del kept[:number]
        self._run_starts = [0] if self._picks else []
        return segments

    def _add_to_each(self, border: float, values: torch.Tensor, indices: torch.Tensor) -> list[TimelineSegment]:
        if self.threshold is not None:
            reached = values >= self.threshold
            values, indices = values[reached], indices[reached]
        shown = dict(zip(indices.tolist(), values.tolist()))
        closed = self._close(border, keep=set(shown))
        for index, value in shown.items():
            start, total, count = self._open.get(index, (border, 0.0, 0))
            self._open[index] = (start, total + value, count + 1)
        return closed

    def _close(self, border: float, *, keep: set[int]) -> list[TimelineSegment]:
        segments = []
        for index in sorted(set(self._open) - keep):
            start, total, count = self._open.pop(index)
            if border - start >= self.min_segment_seconds:
                segments.append(TimelineSegment(start, border, self.labels[index], total / count))
        return segments


def collect_segments(
    scored: Iterable[ScoredWindow],
    finder: SegmentFinder,
    *,
    on_segment: Callable[[TimelineSegment], None] | None = None,
) -> tuple[WindowScores, list[TimelineSegment]]:
    """Run windows through a finder, and keep the best of their scores.

    Args:
        scored: windows in order, each with its scores (K,), or (K + 1,) where "none of these" has one.
        finder: makes segments of the K labels.
        on_segment: called with each segment as soon as it is final.

    Returns:
        The best scores of all windows, and the segments by their starts.

    Raises:
        ValueError: more than `MOST_SEGMENTS` segments.
    """
    kept: list[WindowScores] = []

    def find() -> Iterator[TimelineSegment]:
        for window, scores in scored:
            best, final = finder.add_scores(window, scores)
            kept.append(best)
            yield from final
        yield from finder.finish()

    segments = _given_out(find(), on_segment)
    segments.sort(key=lambda segment: (segment.start_seconds, segment.end_seconds))
    return WindowScores(
        *(torch.cat([getattr(best, name) for best in kept]) for name in ("values", "indices"))
    ), segments


def _given_out(
    found: Iterable[TimelineSegment], on_segment: Callable[[TimelineSegment], None] | None
) -> list[TimelineSegment]:
    """Segments, each of which was given out when it was found.

    Raises:
        ValueError: more than `MOST_SEGMENTS`.
    """
    segments, cost = [], 0
    for segment in found:
        cost += segment.cost
        if cost > MOST_SEGMENTS:
            raise ValueError(
                f"There are more than {MOST_SEGMENTS:,} segments, or as much text in fewer; raise the threshold, or "
                "take fewer or shorter labels, longer strides or more smoothing."
            )
        segments.append(segment)
        if on_segment is not None:
            on_segment(segment)
    return segments


def contrast_segments(
    segments: Sequence[TimelineSegment],
    labels: Sequence[str],
    windows: Sequence[tuple[float, float]],
    scores: WindowScores,
) -> list[TimelineSegment]:
    """Segments with their `contrast`: inside against close outside.

    Args:
        segments: segments of these labels.
        labels: K names.
        windows: n pairs of start and end in seconds.
        scores: scores of these windows.
    """
    index = {label: position for position, label in enumerate(labels)}
    centers = [_center(window) for window in windows]
    found = []
    for segment in segments:
        margin = OUTSIDE_SHARE * (segment.end_seconds - segment.start_seconds)
        first = bisect_left(centers, segment.start_seconds)
        behind = bisect_right(centers, segment.end_seconds)
        # The next window on each side always counts, however short the segment is.
        before = slice(max(min(bisect_left(centers, segment.start_seconds - margin), first - 1), 0), first)
        after = slice(behind, max(bisect_right(centers, segment.end_seconds + margin), behind + 1))
        outside = torch.cat(
            [
                WindowScores(scores.values[near], scores.indices[near]).of(index[segment.label])
                for near in (before, after)
            ]
        )
        contrast = segment.score - float(outside.mean()) if len(outside) else None
        found.append(replace(segment, contrast=contrast))
    return found


def _center(window: tuple[float, float]) -> float:
    return (window[0] + window[1]) / 2


def _merge_short_runs(
    picks: list[int], borders: Sequence[float], mean: Callable[[int, int, int], float], min_seconds: float
) -> list[tuple[int, int]]:
    """Give the shortest run to the neighbor that scores higher in it, until none is shorter than `min_seconds`.

    A run goes to one that is at least as long, so that no window changes hands more often than its run can double:
    the time grows with n log n.

    Args:
        picks: the label of each of n windows, changed in place.
        borders: n + 1 times in seconds.
        mean: gives the mean score of a label over the windows from one to another.
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
        neighbors = [picks[at] for at in (start - 1, end) if 0 <= at < len(picks)]
        means = [mean(start, end, pick) for pick in neighbors]
        heir = neighbors[means.index(max(means))]
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
    """Times of a window's T frames in seconds: the centers of T equal segments."""
    start, end = window
    return [round(start + (i + 0.5) * (end - start) / num_frames, 6) for i in range(num_frames)]


def iterate_windows(
    frames: Iterator[tuple[float, torch.Tensor]],
    times_by_window: Sequence[Sequence[float]],
    prepare: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[torch.Tensor]:
    """The clips of overlapping windows from a stream of frames, each frame prepared once and held while it is needed.

    Args:
        frames: pairs of a wanted time and the frame (3, h, w) that is shown then, in the order of time; one that is
            shown at several times in a row is the same tensor.
        times_by_window: T times for each of n windows; the windows in order.
        prepare: raw frames (m, 3, h, w) to pixels (m, 3, S, S).

    Yields:
        Pixels (T, 3, S, S), n times; windows in a row that show the same frames are one tensor.
    """
    ready: dict[float, torch.Tensor] = {}
    # Raw frames, which are large, with their times: prepared together.
    raw: list[tuple[list[float], torch.Tensor]] = []
    newest = -math.inf
    prepared_last: tuple[torch.Tensor, torch.Tensor] | None = None
    shown: list[torch.Tensor] = []

    def prepare_raw() -> tuple[torch.Tensor, torch.Tensor]:
        prepared = prepare(torch.stack([frame for _, frame in raw])).unbind()
        for (shown_at, _), pixels in zip(raw, prepared):
            ready.update(dict.fromkeys(shown_at, pixels))
        last = raw[-1][1], prepared[-1]
        raw.clear()
        return last

    for times in times_by_window:
        for time in [time for time in ready if time < times[0]]:
            del ready[time]
        while newest < times[-1]:
            newest, frame = next(frames)
            if raw and raw[-1][1] is frame:
                raw[-1][0].append(newest)
            elif prepared_last is not None and prepared_last[0] is frame:
                ready[newest] = prepared_last[1]
            else:
                if len(raw) == len(times) or len(raw) * frame.nbytes >= MOST_RAW_BYTES:
                    prepare_raw()
                raw.append(([newest], frame))
                prepared_last = None
        if raw:
            prepared_last = prepare_raw()
        before, shown = shown, [ready[time] for time in times]
        if len(before) != len(shown) or any(one is not other for one, other in zip(before, shown)):
            clip = torch.stack(shown)
        yield clip


class WindowStream:
    """The windows of one video as batches of clips, from one pass over the file.

    `windows`, `start_seconds`, `duration_seconds` and `thumbnails` are known once the first batch has been read. Their
    times are those of a player's clock, while the decoder counts from the start of the stream.

    Args:
        video_processor: a `FrosterVideoProcessor`.
        video: what it can stream.
        window_seconds: length of a window.
        stride_seconds: from one window's start to the next.
        num_frames: T, frames per window.
        num_thumbnails: small frames to keep, evenly spread.
        max_frames: frames of all windows together; of a video whose windows have more, no frame is read.
        on_frame: called with each frame that the windows need, (3, h, w), and its time on the player's clock.
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
        max_frames: int = MOST_WINDOW_FRAMES,
        on_frame: Callable[[float, torch.Tensor], None] | None = None,
    ):
        plan_windows(0.0, window_seconds, stride_seconds)
        self.video_processor, self.video, self.on_frame = video_processor, video, on_frame
        # Of NumPy's numbers, Python's, which are written as JSON.
        self.window_seconds, self.stride_seconds = float(window_seconds), float(stride_seconds)
        self.num_frames = whole_number("num_frames", num_frames, least=1)
        self.num_thumbnails = whole_number("num_thumbnails", num_thumbnails, least=0)
        self.max_frames = whole_number("max_frames", max_frames, least=1)
        self.windows: list[tuple[float, float]] = []
        self.start_seconds = self.duration_seconds = 0.0
        self.thumbnails: list[tuple[float, torch.Tensor]] = []
        self._times_by_window: list[list[float]] = []
        self._times: list[float] = []

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """Clips (b, T, 3, S, S) with b at most `batch_size`, and for each of them how many windows in a row show it.

        Of very large clips, b is less. Where a frame is shown for hours, so does one clip stand for as many windows.

        Raises:
            VideoDecodeError: the video cannot be read.
            TypeError: `batch_size` is not a whole number.
            ValueError: it is less than 1.
        """
        batch_size = whole_number("batch_size", batch_size, least=1)
        stream = self._frames()
        # The plan is made when the decoder says how long the video is, which is before its first frame.
        first = next(stream)
        clips = iterate_windows(chain([first], stream), self._times_by_window, self._prepare)
        distinct = ((next(same), 1 + sum(1 for _ in same)) for _, same in groupby(clips, key=id))
        for clip, count in distinct:
            num_clips = max(1, min(batch_size, MOST_BATCH_VALUES // clip.numel()))
            batch = [(clip, count), *islice(distinct, num_clips - 1)]
            yield torch.stack([clip for clip, _ in batch]), [count for _, count in batch]

    def _plan(self, info: Any) -> list[float]:
        self.start_seconds, self.duration_seconds = info.start_seconds, info.duration_seconds
        windows = plan_windows(
            info.duration_seconds,
            self.window_seconds,
            self.stride_seconds,
            num_frames=self.num_frames,
            max_frames=self.max_frames,
        )
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
            if self.on_frame is not None:
                self.on_frame(self.start_seconds + time, shown.frame)
            yield time, shown.frame

    def _prepare(self, frames: torch.Tensor) -> torch.Tensor:
        return self.video_processor([frames], return_tensors="pt", **WINDOW_OPTIONS)["pixel_values_videos"][0]


def _thumbnail(frame: torch.Tensor) -> torch.Tensor:
    """(3, h, w) to at most 96 pixels of height, by leaving out pixels."""
    step = max(1, math.ceil(frame.shape[1] / 96))
    return frame[:, ::step, ::step].clone()
