"""decord and torchcodec, used so that they are exact, and the rule that picks a backend for a file.

Both return wrong frames without an error when they are used as usual on ordinary files: decord when it seeks or skips
(open GOPs, B-frames in AVI), torchcodec in containers without presentation times. `EXACT_CONTAINERS` is what
`tests/processing/test_video_exactness.py` measures: containers in which, read as here, every frame was right. Every
frame is compared with the strict reader's all the same: neither tells of damage that it papers over with the frame
before. That costs the strict reader's time on top, which is why "auto" takes the strict reader.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np

from .video_reader_froster import StrictReader
from .video_types_froster import UnreadableVideoError

MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
EXACT_CONTAINERS = {
    "decord": (MP4, MATROSKA, "avi", "flv", "asf", "mpeg"),
    "torchcodec": (MP4, MATROSKA, "flv", "gif"),
}

# Mean difference of two pictures, in grey levels, beyond which they are not the same frame. Two builds of FFmpeg
# interpolate colour differently, by one or two levels on average.
SAME_FRAME_TOLERANCE = 6.0


def read_frames(
    reader: StrictReader, handle: BinaryIO, indices: Sequence[int], *, backend: str, threads: int
) -> dict[int, np.ndarray]:
    """The frames at `indices` as `backend` decodes them, uint8 (h, w, 3) by index, verified.

    Raises:
        UnreadableVideoError: where the backend cannot read the file, is not exact on its container, or returned a
            frame that is not the one asked for.
        FrameCountError: as `StrictReader.read`.
    """
    wanted = sorted(set(indices))
    if backend == "pyav" or not wanted:
        return reader.read(wanted)
    container = reader.info.container
    if container not in EXACT_CONTAINERS[backend]:
        raise UnreadableVideoError(
            f"it does not read {container!r} files frame by frame without errors; use backend 'auto' or 'pyav'"
        )
    read = {"decord": _read_with_decord, "torchcodec": _read_with_torchcodec}[backend]
    expected = reader.read(wanted)
    handle.seek(0)
    frames = _without_backend_errors(lambda: read(handle, reader, wanted, threads))
    frames = {index: reader.square(frame) for index, frame in frames.items()}
    for index, frame in frames.items():
        if frame.shape != expected[index].shape:
            raise UnreadableVideoError(f"frame {index} has shape {frame.shape}, but must have {expected[index].shape}")
        difference = np.abs(frame.astype(np.int16) - expected[index]).mean()
        if difference > SAME_FRAME_TOLERANCE:
            raise UnreadableVideoError(
                f"it returned another picture than frame {index} (mean difference {difference:.1f} grey levels); "
                "use backend 'auto' or 'pyav'"
            )
    return frames


def _without_backend_errors(read: Callable[[], dict[int, np.ndarray]]) -> dict[int, np.ndarray]:
    try:
        return read()
    except UnreadableVideoError:
        raise
    except Exception as error:
        # decord and torchcodec raise RuntimeErrors that end in a C++ stack trace.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UnreadableVideoError(lines[0][:300] if lines else type(error).__name__) from error


def _read_with_decord(
    handle: BinaryIO, reader: StrictReader, wanted: Sequence[int], threads: int
) -> dict[int, np.ndarray]:
    """In order from the first frame: `next` is exact where `seek`, `skip_frames` and `get_batch` are not."""
    # By name: transformers' loader of remote code demands whatever an import statement names, also in a function.
    decord = importlib.import_module("decord")
    # The file object's own descriptor, so that decord reads the file that was checked, whatever its path is by now.
    on_disk = hasattr(handle, "raw") and os.path.exists(f"/dev/fd/{handle.fileno()}")
    source = f"/dev/fd/{handle.fileno()}" if on_disk else handle
    video = decord.VideoReader(source, num_threads=threads)
    if len(video) != reader.info.num_frames:
        raise UnreadableVideoError(f"it counts {len(video)} frames where there are {reader.info.num_frames}")
    frames, missing = {}, set(wanted)
    for index in range(wanted[-1] + 1):
        try:
            frame = video.next()
        except StopIteration:
            raise UnreadableVideoError(f"the frames end at {index}") from None
        if index in missing:
            frames[index] = frame.asnumpy()
    return frames


def _read_with_torchcodec(
    handle: BinaryIO, reader: StrictReader, wanted: Sequence[int], threads: int
) -> dict[int, np.ndarray]:
    """Its exact mode, which scans the file first, each frame's time compared with the packet table."""
    decoders = importlib.import_module("torchcodec.decoders")
    video = decoders.VideoDecoder(handle, dimension_order="NHWC", seek_mode="exact", num_ffmpeg_threads=threads)
    if len(video) != reader.info.num_frames:
        raise UnreadableVideoError(f"it counts {len(video)} frames where there are {reader.info.num_frames}")
    batch = video.get_frames_at(list(wanted))
    start = video.metadata.begin_stream_seconds or 0.0
    for index, seconds in zip(wanted, batch.pts_seconds.tolist()):
        expected = reader.table.seconds(int(reader.table.times[index]))
        if abs(seconds - start - expected) > 1e-3:
            raise UnreadableVideoError(f"frame {index} is shown at {seconds - start:.3f} s, not at {expected:.3f} s")
    return dict(zip(wanted, batch.data.numpy()))
