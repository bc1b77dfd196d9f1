"""torchcodec in its exact mode, each frame's time compared with the packet table.

It returns wrong frames without an error in containers without presentation times, and needs FFmpeg's shared libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from ..reader import StrictReader
from ..types import UnreadableVideoError
from . import descriptors_left


def load() -> None:
    """Import it, as long as files can be opened freely."""
    import av  # noqa: F401
    import torch
    import torchcodec
    from torchcodec import decoders

    torch.set_num_threads(1)
    if getattr(torchcodec, "ffmpeg_major_version", True) is None:
        # It was imported without FFmpeg's libraries, and says so when it is first used.
        decoders.VideoDecoder(b"")


def read(handle: BinaryIO, reader: StrictReader, wanted: Sequence[int], threads: int) -> dict[int, np.ndarray]:
    """Its exact mode, which scans the file first, each frame's time compared with the packet table."""
    from torchcodec import decoders

    with descriptors_left(0):
        video = decoders.VideoDecoder(handle, dimension_order="NHWC", seek_mode="exact", num_ffmpeg_threads=threads)
        return _frames(video, reader, wanted)


def _frames(video: Any, reader: StrictReader, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    if len(video) != reader.info.num_frames:
        raise UnreadableVideoError(f"it counts {len(video)} frames where there are {reader.info.num_frames}")
    batch = video.get_frames_at(list(wanted))
    start = video.metadata.begin_stream_seconds or 0.0
    for index, seconds in zip(wanted, batch.pts_seconds.tolist()):
        expected = reader.table.seconds(int(reader.table.times[index]))
        if abs(seconds - start - expected) > 1e-3:
            raise UnreadableVideoError(f"frame {index} is shown at {seconds - start:.3f} s, not at {expected:.3f} s")
    return dict(zip(wanted, batch.data.numpy()))
