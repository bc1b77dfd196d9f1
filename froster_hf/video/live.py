"""Live sources: a camera, a stream's address, or a program's own frames, as frames with times and as rolling windows.

    for frame in live_frames("rtsp://camera.local/stream", interval_seconds=0.5): ...
    for window in rolling_windows(frames, window_seconds=4, stride_seconds=2, num_frames=8): ...

Nothing is held but the frames of the windows under way. A source that breaks off is joined again; windows do not reach
across the gap.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ..printing import get_logger
from .decoding import asking
from .live_reader import SCHEMES
from .types import LIVE_READER, UnreadableVideoError, VideoDecodeError, VideoLimits
from .url import shown_address

logger = get_logger(__name__)

# Seconds before a source that broke off is joined again; then twice as long each time, up to the last.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
# Of a program's own frames: three hundred years, which seconds since 1970 are within, and milliseconds are not.
FARTHEST_SECONDS = 10**10


class LiveFrame(NamedTuple):
    """A frame of a live source.

    Args:
        time_seconds: since the first frame of the source.
        frame: uint8 (3, h, w).
        follows: whether it follows the frame before it, rather than a gap.
    """

    time_seconds: float
    frame: torch.Tensor
    follows: bool = True


class LiveWindow(NamedTuple):
    """A stretch of a live source: start and end in seconds since its first frame, and T frames, uint8 (T, 3, h, w)."""

    start_seconds: float
    end_seconds: float
    frames: torch.Tensor


def live_frames(
    source: str | int | Iterable[Any],
    *,
    interval_seconds: float = 0.5,
    fps: float | None = None,
    limits: VideoLimits | None = None,
    max_reconnects: int = 10,
) -> Iterator[LiveFrame]:
    """The frames of a live source, as they come.

    An address is opened because the caller names it: RTSP, RTMP, HLS and MPEG-TS over HTTP, TCP or UDP. It is
    read in a process of its own, which opens no files, and drops frames that the caller does not take in time.

    Args:
        source: the index of a camera; the address of a stream; or an iterable of frames, each an array or tensor uint8
            (h, w, 3) or (3, h, w), a PIL image, or a pair of seconds and one of these.
        interval_seconds: for a camera or an address, seconds from frame to frame.
        fps: for an iterable without times, its frames per second.
        limits: `timeout_seconds` bounds how long nothing may come, `max_pixels` the size of a frame.
        max_reconnects: how often in a row a source that broke off is joined again.

    Raises:
        VideoDecodeError: the source cannot be opened, or not be joined again.
        ValueError: an iterable of frames without `fps` or times, or something that is not a frame.
        DecodingUnavailableError: this machine cannot decode at the moment.
    """
    if not isinstance(source, str | os.PathLike | int | np.integer):
        yield from _own_frames(source, fps)
        return
    if interval_seconds <= 0:
        raise ValueError(f"`interval_seconds` is {interval_seconds}; it must be more than 0.")
    address, limits = str(source), limits or VideoLimits()
    name = f"camera {address}" if address.isdecimal() else shown_address(address)
    if not address.isdecimal() and address.partition("://")[0] not in SCHEMES:
        raise VideoDecodeError(
            name,
            LIVE_READER,
            "it cannot be opened: a live source is the index of a camera, such as 0, or an address that begins with "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}; a file is not one",
        )
    began: float | None = None
    attempt, last, has_end = 0, 0.0, False
    while True:
        # Seconds of the source at which this connection begins.
        offset = None
        try:
            for seconds, frame, has_end in _connection(address, interval_seconds, limits, began is not None):  # noqa: B007
                now = time.monotonic()
                began = now if began is None else began
                follows = offset is not None
                if offset is None:
                    offset = max(now - began, last) - seconds
                attempt, last = 0, offset + seconds
                yield LiveFrame(last, frame, follows=follows)
            return
        except UnreadableVideoError as error:
            # A recording would be played again from its start.
            if began is None or has_end or attempt == max_reconnects:
                tries = f"; joined again {attempt} times in vain" if attempt else ""
                raise VideoDecodeError(name, LIVE_READER, f"{error}{tries}") from None
            logger.warning("%s: %s; joining it again.", name, error)
        threading.Event().wait(min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
        attempt += 1


def _connection(
    address: str, interval_seconds: float, limits: VideoLimits, is_rejoined: bool
) -> Iterator[tuple[float, torch.Tensor, bool]]:
    """The seconds and frames of one connection to a source, until it ends, and whether it is a recording."""
    request = {"address": address, "interval_seconds": interval_seconds, "is_rejoined": is_rejoined}
    with asking("live", LIVE_READER, request, limits=limits) as conversation:
        while "shape" in (reply := conversation.receive()):
            height, width, channels = (int(side) for side in reply["shape"])
            if channels != 3 or not 0 < height * width <= limits.max_pixels:
                raise UnreadableVideoError(f"a frame of shape {reply['shape']} came back")
            picture = conversation.receive_frames([height, width, 3], reply["shape"])
            conversation.budget.renew()
            if reply["num_dropped"]:
                logger.debug("%d frames were dropped: they came faster than they were taken.", reply["num_dropped"])
            yield float(reply["seconds"]), picture.permute(2, 0, 1), bool(reply["has_end"])


def _own_frames(source: Iterable[Any], fps: float | None) -> Iterator[LiveFrame]:
    for index, item in enumerate(source):
        if isinstance(item, tuple):
            seconds, picture = item
        elif fps is not None and fps > 0:
            seconds, picture = index / fps, item
        else:
            raise ValueError(
                f"`fps` is {fps}; frames without times need their number per second. Or give pairs of seconds and "
                "frame."
            )
        if not abs(float(seconds)) <= FARTHEST_SECONDS:
            raise ValueError(
                f"Frame {index}, counted from 0, has the time {seconds}; times are seconds, at most "
                f"{FARTHEST_SECONDS} before or after 0."
            )
        yield LiveFrame(float(seconds), _frame_of(picture))


def _frame_of(picture: Any) -> torch.Tensor:
    """A picture as uint8 (3, h, w), in memory of its own: programs fill one array again and again."""
    if hasattr(picture, "convert"):  # a PIL image
        if picture.mode[0] in "IF":
            raise ValueError(f"A live frame has 8 bits per channel; got a picture of the mode {picture.mode}.")
        upright = importlib.import_module("PIL.ImageOps").exif_transpose(picture)
        picture = np.array(upright.convert("RGB"))
    frame = torch.as_tensor(picture).clone()
    if frame.ndim != 3 or frame.dtype != torch.uint8 or 3 not in (frame.shape[0], frame.shape[2]):
        raise ValueError(
            f"A live frame is uint8 of shape (h, w, 3) or (3, h, w), or a PIL image; got {frame.dtype} of shape "
            f"{tuple(frame.shape)}."
        )
    return frame.permute(2, 0, 1) if frame.shape[2] == 3 else frame


def rolling_windows(
    frames: Iterable[LiveFrame],
    *,
    window_seconds: float,
    stride_seconds: float,
    num_frames: int,
    limits: VideoLimits | None = None,
) -> Iterator[LiveWindow]:
    """Overlapping windows of a live source, each as soon as its last frame has come.

    A window starts again after a gap, a jump in time of more than a window, and a change of the frames' size.

    Args:
        frames: in the order of time.
        window_seconds: length of a window.
        stride_seconds: from one window's start to the next, at most `window_seconds`.
        num_frames: T; those shown at the centers of T equal parts of the window.
        limits: `max_decoded_bytes` bounds the frames of a window.

    Raises:
        ValueError: a stride that leaves frames out, or a window that has more bytes than the limit.
    """
    most = (limits or VideoLimits()).max_decoded_bytes
    if not 0 < stride_seconds <= window_seconds or num_frames < 1:
        raise ValueError(
            f"A window of {window_seconds} seconds every {stride_seconds} seconds, of {num_frames} frames: the stride "
            "must be more than 0 and at most the window, and there must be a frame."
        )
    held: deque[LiveFrame] = deque()
    start = 0.0
    for frame in frames:
        before = held[-1] if held else None
        is_new = before is None or not frame.follows or frame.frame.shape != before.frame.shape
        if is_new or not 0 <= frame.time_seconds - before.time_seconds <= window_seconds:  # type: ignore[union-attr]
            held.clear()
            start = frame.time_seconds
            if (size := num_frames * frame.frame.nbytes) > most:
                raise ValueError(
                    f"A window of {num_frames} frames of {frame.frame.shape[2]} x {frame.frame.shape[1]} pixels has "
                    f"{size} bytes; VideoLimits.max_decoded_bytes is {most}. Ask for fewer with `num_frames`."
                )
        held.append(frame)
        while frame.time_seconds >= start + window_seconds - 1e-6:
            times = [start + (i + 0.5) * window_seconds / num_frames for i in range(num_frames)]
            yield LiveWindow(start, start + window_seconds, torch.stack(_shown_at(held, times)))
            start += stride_seconds
            # The frame that is shown when the next window begins is still needed.
            while len(held) > 1 and held[1].time_seconds <= start + 1e-6:
                held.popleft()


def _shown_at(held: Iterable[LiveFrame], times: list[float]) -> list[torch.Tensor]:
    """For each of sorted times the last frame before it."""
    shown: list[torch.Tensor] = []
    before: LiveFrame | None = None
    for frame in held:
        while before is not None and len(shown) < len(times) and times[len(shown)] < frame.time_seconds - 1e-6:
            shown.append(before.frame)
        before = frame
    if before is not None:
        shown += [before.frame] * (len(times) - len(shown))
    return shown
