"""Frames of another backend than the strict reader, each compared with the strict reader's.

No other backend tells of damage that it papers over with the frame before. Verifying costs the strict reader's time on
top, which is why "auto" takes the strict reader.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from .reader import StrictReader
from .types import UnreadableVideoError, system_lack

# Mean difference of two pictures, in gray levels, beyond which they are not the same frame. Two builds of FFmpeg
# interpolate color differently, by one or two levels on average.
SAME_FRAME_TOLERANCE = 6.0


def read_frames(
    reader: StrictReader,
    handle: BinaryIO,
    indices: Sequence[int],
    *,
    module: str,
    containers: Sequence[str] | None,
    threads: int,
) -> dict[int, np.ndarray]:
    """The frames at `indices` as a backend decodes them, uint8 (h, w, 3) by index, verified.

    Args:
        reader: the strict reader of the same file.
        handle: the file.
        indices: which frames, in any order.
        module: module of the backend; its `read` returns them.
        containers: those that the backend reads exactly; `None` is the strict reader itself.
        threads: decoding threads.

    Raises:
        UnreadableVideoError: where the backend cannot read the file, is not exact on its container, or returned a
            frame that is not the one asked for.
        FrameCountError: as `StrictReader.read`.
    """
    wanted = sorted(set(indices))
    if containers is None or not wanted:
        return reader.read(wanted)
    container = reader.info.container
    if container not in containers:
        raise UnreadableVideoError(
            f"it does not read {container!r} files frame by frame without errors; use backend 'auto' or 'pyav'"
        )
    read = importlib.import_module(module, __package__).read
    expected = reader.read(wanted)
    handle.seek(0)
    try:
        decoded = read(handle, reader, wanted, threads)
    except (UnreadableVideoError, MemoryError):
        raise
    except Exception as error:
        # Backends raise RuntimeErrors that end in a C++ stack trace.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:300] if lines else type(error).__name__
        raise system_lack(error) or UnreadableVideoError(reason) from error
    frames = {index: reader.square(frame) for index, frame in decoded.items()}
    for index, frame in frames.items():
        if frame.shape != expected[index].shape:
            raise UnreadableVideoError(f"frame {index} has shape {frame.shape}, but must have {expected[index].shape}")
        difference = np.abs(frame.astype(np.int16) - expected[index]).mean()
        if difference > SAME_FRAME_TOLERANCE:
            raise UnreadableVideoError(
                f"it returned another picture than frame {index} (mean difference {difference:.1f} gray levels); "
                "use backend 'auto' or 'pyav'"
            )
    return frames
