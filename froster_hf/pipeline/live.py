"""What happens in a live source, reported as it happens: rolling windows through the pipeline, segments as they end.

Beside the pipeline rather than in it: a checkpoint's folder holds no decoder of streams.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..video.live import LiveWindow, live_frames, rolling_windows
from ..video.types import VideoLimits
from .pipeline_froster import ClipScorer, ZeroShotVideoClassificationPipeline
from .timeline_froster import (
    WINDOW_OPTIONS,
    ScoredWindow,
    TimelineSegment,
    check_seconds,
    check_strides,
    plan_windows,
    smooth_scores,
)


@dataclass(frozen=True)
class LiveEvent:
    """A stretch of a live source with one label.

    Args:
        start_seconds: where it begins, in seconds since the first frame.
        end_seconds: where it ends.
        started_at: when it began, on this machine's clock.
        label: its name.
        score: mean of the label's score over the windows inside.
    """

    start_seconds: float
    end_seconds: float
    started_at: datetime.datetime
    label: str
    score: float


def live_timeline(
    classify: ZeroShotVideoClassificationPipeline,
    source: str | int | Iterable[Any],
    candidate_labels: Any = None,
    *,
    window_seconds: float = 4.0,
    stride_seconds: float = 2.0,
    smoothing_seconds: float = 4.0,
    min_segment_seconds: float = 0.0,
    max_segment_seconds: float = 600.0,
    num_frames: int | None = None,
    fps: float | None = None,
    limits: VideoLimits | None = None,
    max_reconnects: int = 10,
    **options: Any,
) -> Iterator[LiveEvent]:
    """The segments of a live source, each as soon as nothing that follows can change it.

    Memory does not grow with time. Where the model is slower than the source, frames are dropped; times stay right.

    Args:
        classify: the zero-shot pipeline.
        source: see `live_frames`.
        candidate_labels: as when the pipeline is called.
        window_seconds: length of a window.
        stride_seconds: from one window's start to the next, at most `window_seconds`.
        smoothing_seconds: scores are averaged over the windows whose centers lie within half of it, at most 1,000
            strides, with no gap between them.
        min_segment_seconds: shorter segments go to a neighbor.
        max_segment_seconds: a longer stretch is reported in pieces.
        num_frames: frames per window; by default the checkpoint's.
        fps: see `live_frames`.
        limits: see `live_frames` and `rolling_windows`.
        max_reconnects: see `live_frames`.
        options: `threshold`, `background_labels`, `templates`, `hypothesis_template`, `text_pooling`,
            `function_to_apply`, `multi_label`, as when the pipeline is called.

    Raises:
        VideoDecodeError: the source cannot be opened, or not be joined again.
        ValueError: labels or options are wrong, a window has more bytes than the limits, or scores are not finite.
    """
    plan_windows(0.0, window_seconds, stride_seconds)
    check_seconds(
        smoothing_seconds=smoothing_seconds,
        min_segment_seconds=min_segment_seconds,
        max_segment_seconds=max_segment_seconds,
    )
    check_strides(stride_seconds, smoothing_seconds=smoothing_seconds)
    scorer = ClipScorer(classify, candidate_labels, **options)
    num_frames = classify.frames_per_window(num_frames)
    frames = live_frames(
        source,
        interval_seconds=window_seconds / num_frames,
        fps=fps,
        limits=limits,
        max_reconnects=max_reconnects,
    )
    first = next(frames, None)
    if first is None:
        return
    began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=first.time_seconds)
    windows = rolling_windows(
        itertools.chain([first], frames),
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        num_frames=num_frames,
        limits=limits,
    )
    for stretch in _stretches(_score_windows(windows, scorer, classify.processor.video_processor)):
        smoothed = smooth_scores(stretch, smoothing_seconds)
        for segment in _segments(smoothed, scorer, min_segment_seconds, max_segment_seconds):
            start = segment.start_seconds
            started_at = began + datetime.timedelta(seconds=start)
            yield LiveEvent(start, segment.end_seconds, started_at, segment.label, segment.score)


def _stretches(scored: Iterable[ScoredWindow]) -> Iterator[Iterator[ScoredWindow]]:
    """The windows between gaps, across which nothing is averaged."""
    stretch, last_end = 0, math.inf

    def stretch_of(item: ScoredWindow) -> int:
        nonlocal stretch, last_end
        (start, end), _ = item
        stretch += start > last_end
        last_end = end
        return stretch

    return (windows for _, windows in itertools.groupby(scored, stretch_of))


def _segments(
    scored: Iterable[ScoredWindow], scorer: ClipScorer, min_segment_seconds: float, max_segment_seconds: float
) -> Iterator[TimelineSegment]:
    """The segments of windows with scores, begun again after `max_segment_seconds`."""
    finder, began = scorer.segment_finder(min_segment_seconds), None
    for (start, end), scores in scored:
        if began is not None and end - began >= max_segment_seconds:
            yield from finder.finish()
            finder, began = scorer.segment_finder(min_segment_seconds), None
        began = start if began is None else began
        _, final = finder.add_scores((start, end), scores)
        yield from final
    yield from finder.finish()


def _score_windows(windows: Iterable[LiveWindow], scorer: ClipScorer, video_processor: Any) -> Iterator[ScoredWindow]:
    """Windows with their scores (K,), or (K + 1,) where "none of these" has one."""
    for window in windows:
        clips = video_processor([window.frames], return_tensors="pt", **WINDOW_OPTIONS)["pixel_values_videos"]
        yield (window.start_seconds, window.end_seconds), scorer(clips)[0]
