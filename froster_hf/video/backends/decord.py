"""decord, used so that it is exact: in order from the first frame, and never by seeking or skipping.

As it is usually used it returns wrong frames without an error on ordinary files (open GOPs, B-frames in AVI).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from ..reader import StrictReader
from ..types import UnreadableVideoError
from . import descriptors_left


def load() -> None:
    """Import it, as long as files can be opened freely."""
    import av  # noqa: F401
    import decord  # noqa: F401


def read(handle: BinaryIO, reader: StrictReader, wanted: Sequence[int], threads: int) -> dict[int, np.ndarray]:
    """In order from the first frame: `next` is exact where `seek`, `skip_frames` and `get_batch` are not."""
    import decord

    # The file object's own descriptor, so that decord reads the file that was checked, whatever its path is by now.
    on_disk = hasattr(handle, "raw") and os.path.exists(f"/dev/fd/{handle.fileno()}")
    source = f"/dev/fd/{handle.fileno()}" if on_disk else handle
    with descriptors_left(1 if on_disk else 0):
        video = decord.VideoReader(source, num_threads=threads)
        return _frames(video, reader, wanted)


def _frames(video: Any, reader: StrictReader, wanted: Sequence[int]) -> dict[int, np.ndarray]:
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
