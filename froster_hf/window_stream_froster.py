"""A long video as overlapping windows of frames, read once and in order.

Feeds the zero-shot pipeline's `timeline`. Only the frames of the windows under way are held, so that hours need no
more memory than seconds.

Letters: n windows, T frames, S pixels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import torch

from .timeline_froster import plan_windows


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
