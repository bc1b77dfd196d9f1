"""Exact frame reading: from a video to the sampled frames as uint8 (T, 3, h, w), with nothing else decoded.

The first station of the data flow: path, URL, bytes or file object -> frames -> `FrosterVideoProcessor`. Frame i is
the i-th frame that the file shows, whatever its header says, whichever backend reads it, and however it is sampled.
Files are read in a process of their own (`video_worker_froster`), which may die or hang without harm.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from .video_process_froster import DecodingProcess, decoding_process
from .video_source_froster import VideoSource, check_source, source_name
from .video_types_froster import (
    BACKENDS,
    UnreadableVideoError,
    VideoBackend,
    VideoDecodeError,
    VideoInfo,
    VideoLimits,
)
from .video_url_froster import UrlPolicy

__all__ = [
    "VideoBackend",
    "VideoDecodeError",
    "VideoFrame",
    "VideoInfo",
    "VideoLimits",
    "VideoSource",
    "decode_frames",
    "probe_video",
    "stream_frames",
]

FrameIndices = Sequence[int] | Callable[[VideoInfo], Sequence[int]]
FrameTimes = Sequence[float] | Callable[[VideoInfo], Sequence[float]]

# The strict PyAV reader is exact on every container and, measured in benchmarks/decoding.md, the fastest of the three.
FASTEST_EXACT_BACKEND: VideoBackend = "pyav"


class VideoFrame(NamedTuple):
    """One frame of a stream: its index, its time in seconds after the stream's start, its pixels uint8 (3, h, w).

    On a player's clock the frame is shown at `VideoInfo.start_seconds` + `time_seconds`.
    """

    frame_index: int
    time_seconds: float
    frame: torch.Tensor


def probe_video(
    source: VideoSource, *, limits: VideoLimits | None = None, allow_urls: UrlPolicy = "none"
) -> VideoInfo:
    """What is known of a video, counted rather than read from its header.

    Args:
        source: Path, URL, bytes, or a file object opened for binary reading.
        limits: What the file may cost.
        allow_urls: Which URLs may be fetched: "none", "https", or "http" for both.

    Raises:
        VideoDecodeError: where the video cannot be read, or costs more than `limits`.
    """
    with _conversation(source, "probe", "pyav", limits or VideoLimits(), allow_urls) as conversation:
        return conversation.info_of(conversation.receive())


def decode_frames(
    source: VideoSource,
    indices: FrameIndices,
    *,
    backend: VideoBackend = "auto",
    limits: VideoLimits | None = None,
    allow_urls: UrlPolicy = "none",
) -> tuple[torch.Tensor, VideoInfo]:
    """Decode the frames at `indices`, exactly, and what they need, no more.

    Args:
        source: Path, URL, bytes, or a file object opened for binary reading.
        indices: Frame indices in any order, repeats allowed; or a function that chooses them, knowing the video. It is
            called again in the rare case that the file turns out to hold another number of frames.
        backend: "pyav", "decord" or "torchcodec"; "auto" is the fastest one that is exact on the file. A backend that
            is not exact on the file's container raises, rather than return other frames.
        limits: What the file may cost.
        allow_urls: Which URLs may be fetched: "none", "https", or "http" for both.

    Returns:
        The frames, uint8 (T, 3, h, w), upright, RGB, and what is known of the video. The memory layout is channels
        last, as decoders give it and as torchvision resizes fastest.

    Raises:
        VideoDecodeError: where the video cannot be read exactly, or costs more than `limits`.
        IndexError: on an index outside the video.
        ImportError: where the chosen backend is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, but must be one of {', '.join(map(repr, BACKENDS))}.")
    with _conversation(source, "read", backend, limits or VideoLimits(), allow_urls) as conversation:
        # A count that proves wrong at the file's end comes back as new info in place of the frames.
        reply = conversation.receive()
        while "info" in reply:
            info = conversation.info_of(reply)
            wanted = [int(index) for index in (indices(info) if callable(indices) else indices)]
            distinct = conversation.distinct(wanted, info)
            conversation.send({"indices": distinct})
            reply = conversation.receive()
        frames = conversation.receive_frames([len(distinct), info.height, info.width, 3], reply["shape"])
    if wanted != distinct:
        frames = frames[torch.searchsorted(torch.tensor(distinct), torch.tensor(wanted))]
    return frames.permute(0, 3, 1, 2), info


def stream_frames(
    source: VideoSource,
    times_seconds: FrameTimes | None = None,
    *,
    limits: VideoLimits | None = None,
    allow_urls: UrlPolicy = "none",
) -> Iterator[VideoFrame]:
    """Decode a video of any length frame by frame, holding one frame; parts between distant times are skipped.

    Args:
        source: Path, URL, bytes, or a file object opened for binary reading.
        times_seconds: Times after the start of the stream, sorted; for each, the frame that is shown then is yielded,
            the last one for times after the end. Or a function that chooses them, knowing the video. None yields every
            frame.
        limits: What the file may cost. `timeout_seconds` bounds each frame; `max_decoded_bytes` each frame too.
        allow_urls: Which URLs may be fetched: "none", "https", or "http" for both.

    Yields:
        `VideoFrame`: frame index, time in seconds, uint8 (3, h, w).

    Raises:
        VideoDecodeError: where the video cannot be read, or costs more than `limits`; frames before may have been
            yielded.
    """
    with _conversation(source, "stream", "pyav", limits or VideoLimits(), allow_urls) as conversation:
        info = conversation.info_of(conversation.receive())
        times = times_seconds(info) if callable(times_seconds) else times_seconds
        conversation.send({"times": _checked_times(times)})
        while "frame" in (reply := conversation.receive()):
            frame = conversation.receive_frames([info.height, info.width, 3], reply["shape"])
            yield VideoFrame(int(reply["frame"]), float(reply["seconds"]), frame.permute(2, 0, 1))


@contextlib.contextmanager
def _conversation(
    source: VideoSource, task: str, backend: VideoBackend, limits: VideoLimits, allow_urls: UrlPolicy
) -> Iterator[_Conversation]:
    """One request to a decoding process; every failure in it becomes a `VideoDecodeError` that names the source."""
    backend = FASTEST_EXACT_BACKEND if backend == "auto" else backend
    try:
        fields, payload = check_source(source, limits=limits, allow_urls=allow_urls).request()
        with decoding_process(backend) as process:
            request = {
                **fields,
                "task": task,
                "backend": backend,
                "threads": _decoding_threads(),
                "limits": asdict(limits),
            }
            conversation = _Conversation(process, backend, limits)
            conversation.send(request, *payload)
            yield conversation
    except UnreadableVideoError as error:
        raise VideoDecodeError(source_name(source), backend, str(error)) from None


@dataclass(frozen=True)
class _Conversation:
    """What goes to and fro, within the limits."""

    process: DecodingProcess
    backend: VideoBackend
    limits: VideoLimits

    def send(self, message: dict[str, Any], *payload: Any) -> None:
        self.process.send(message, *payload, timeout_seconds=self.limits.timeout_seconds)

    def receive(self) -> dict[str, Any]:
        return self.process.receive(timeout_seconds=self.limits.timeout_seconds)

    def info_of(self, reply: dict[str, Any]) -> VideoInfo:
        """The video's properties in a reply, with the backend that is asked for its frames."""
        return VideoInfo(**{**reply["info"], "backend": self.backend})

    def distinct(self, wanted: Sequence[int], info: VideoInfo) -> list[int]:
        """Sorted distinct indices, all inside the video, whose frames fit into the limits."""
        for index in wanted:
            if not 0 <= index < info.num_frames:
                raise IndexError(
                    f"Frame {index} of a video with {info.num_frames} frames; the last is num_frames - 1."
                )
        distinct = sorted(set(wanted))
        self._check_size(len(distinct) * info.height * info.width * 3)
        return distinct

    def receive_frames(self, expected: list[int], shape: list[int]) -> torch.Tensor:
        """The pixels that follow a reply, uint8 in the expected shape."""
        size: int = math.prod(expected)
        if size == 0:
            return torch.empty(expected, dtype=torch.uint8)
        if shape != expected:
            raise UnreadableVideoError(f"frames of shape {shape} came back, not {expected}")
        self._check_size(size)
        data = self.process.receive_bytes(size, timeout_seconds=self.limits.timeout_seconds)
        return torch.frombuffer(data, dtype=torch.uint8).view(expected)

    def _check_size(self, size: int) -> None:
        if size > self.limits.max_decoded_bytes:
            raise UnreadableVideoError(
                f"the frames take {size} bytes; VideoLimits.max_decoded_bytes is {self.limits.max_decoded_bytes}"
            )


def _checked_times(times: Sequence[float] | None) -> list[float] | None:
    if times is None:
        return None
    checked = [float(time) for time in times]
    if not all(map(math.isfinite, checked)) or any(a > b for a, b in zip([0.0, *checked], checked)):
        raise ValueError("times_seconds must be finite, not negative, and sorted.")
    return checked


def _decoding_threads() -> int:
    """One thread in the workers of a `DataLoader`, which are side by side already; a few otherwise."""
    if torch.utils.data.get_worker_info() is not None:
        return 1
    return min(4, os.cpu_count() or 1)
