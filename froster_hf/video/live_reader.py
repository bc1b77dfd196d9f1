"""Reads a live source in the decoding process: a camera, or an address that the user has named.

Unlike files, a live source is joined in the middle, has damaged packets, and does not wait: frames are decoded in a
thread as they come, and where the caller is slower, the oldest of those that wait are dropped. Of FFmpeg's protocols
and formats only those of streams are known here, so that a playlist opens no file.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .geometry import Projector, check_fields, check_pixels, have_one_shape, read_position, square_size
from .packets import (
    BEGIN_AT_KEY_FRAME,
    INDEXED_CONTAINERS,
    JOINED_CONTAINERS,
    ffmpeg_reason,
    from_key_frame,
    main_stream,
)
from .types import UnreadableVideoError, VideoLimits

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp", "rtp", "srt")
PROTOCOLS = ",".join([*SCHEMES, "tls", "crypto"])
FORMATS = "hls,rtsp,rtp,sdp,mpegts,mpjpeg,mjpeg,flv,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,h264,hevc"
# These bear no times: FFmpeg counts their frames at 25 per second, whatever the camera's rate.
FORMATS_WITHOUT_TIMES = ("mpjpeg", "mjpeg", "h264", "hevc")
# What is read of these says where the stream is.
FORMATS_OF_ADDRESSES = ("hls", "rtsp", "sdp")
# Format and name of a camera by its index, on the systems that know cameras so.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
# A jump of the stream's clock beyond this is the clock's, not time that has passed.
MAX_STEP_SECONDS = 10.0
# Frames come so late at most, as decoders hold back 16; a clock that goes back further has begun again.
MAX_LATE_SECONDS = 1.0
# What waits for the caller.
MAX_WAITING_BYTES = 64 * 2**20


class LivePicture(NamedTuple):
    """A frame of a live source.

    Args:
        seconds: since it was joined.
        picture: uint8 (h, w, 3).
        num_dropped: frames that were dropped before it.
        has_end: whether the source is a recording, whose end is known.
    """

    seconds: float
    picture: np.ndarray
    num_dropped: int
    has_end: bool


def load() -> None:
    """Import PyAV, or say what is wrong with it."""
    importlib.import_module("av")


def read_live(
    address: str, *, interval_seconds: float, limits: VideoLimits, is_rejoined: bool = False
) -> Iterator[LivePicture]:
    """The frames of a live source, one every `interval_seconds`; ends where the stream says that it has ended.

    Args:
        address: address of a stream, or the index of a camera.
        interval_seconds: from frame to frame.
        limits: `max_pixels` bounds a frame, `timeout_seconds` how long nothing may come.
        is_rejoined: whether the source broke off before. One that has an end by now is over, and not played again.

    Raises:
        UnreadableVideoError: it cannot be opened, or breaks off.
    """
    with contextlib.closing(_open(address, limits)) as container:
        has_end = _has_end(container)
        if has_end and is_rejoined:
            return
        waiting: deque[LivePicture] = deque()
        changed = threading.Condition()
        # What ended it: nothing yet, an end without an error (""), or a reason.
        outcome: list[str] = []

        def decode() -> None:
            reason, num_dropped = "", 0
            try:
                for seconds, picture in _sampled(container, interval_seconds, limits):
                    with changed:
                        waiting.append(LivePicture(seconds, picture, num_dropped, has_end))
                        num_dropped = 0
                        while len(waiting) > max(2, MAX_WAITING_BYTES // max(1, picture.nbytes)) and not has_end:
                            num_dropped += 1 + waiting.popleft().num_dropped
                        changed.notify()
                        while has_end and len(waiting) > 2 and not outcome:
                            changed.wait()
            except UnreadableVideoError as error:
                reason = str(error)
            except Exception as error:
                reason = ffmpeg_reason(error)
            with changed:
                outcome.append(reason)
                changed.notify()

        threading.Thread(target=decode, daemon=True).start()
        while True:
            with changed:
                while not waiting and not outcome:
                    changed.wait()
                if not waiting:
                    break
                frame = waiting.popleft()
                changed.notify()
            yield frame
    if outcome[0] or not has_end:
        raise UnreadableVideoError(outcome[0] or "the stream broke off")


def _open(address: str, limits: VideoLimits) -> Any:
    av: Any = importlib.import_module("av")
    options: dict[str, str] = {}
    container_format, file = None, address
    if is_camera := address.isdecimal():
        if sys.platform not in _CAMERAS:
            raise UnreadableVideoError(f"it cannot be opened: on {sys.platform}, give a stream's address")
        container_format, name = _CAMERAS[sys.platform]
        file = name.format(address)
    else:
        options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
        if address.startswith("rtsp"):
            # Datagrams that are lost leave gray pictures; some cameras have nothing else.
            options["rtsp_flags"] = "prefer_tcp"
    try:
        return av.open(file, format=container_format, options=options, timeout=limits.timeout_seconds)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = ffmpeg_reason(error)
        if is_camera and isinstance(error, FileNotFoundError):
            cameras = ", ".join(sorted(glob.glob(name.format("*"))))
            reason = f"there is no {file}; " + (f"there are {cameras}" if cameras else "this machine has no camera")
        raise UnreadableVideoError(f"it cannot be opened: {reason}") from error


def _has_end(container: Any) -> bool:
    """Whether it is a recording: its length is known, or its size, which of a playlist is not that of the stream."""
    return container.duration is not None or (container.size > 0 and container.format.name not in FORMATS_OF_ADDRESSES)


def _sampled(container: Any, interval_seconds: float, limits: VideoLimits) -> Iterator[tuple[float, np.ndarray]]:
    """Frames at least so far apart, as a player shows them, with the seconds since the first."""
    stream = main_stream(container)
    stream.codec_context.options = {"max_pixels": str(min(limits.max_pixels, 2**31 - 1))}
    projector = Projector()
    # How to hold a frame, and the shape of its pixels: as the one before says, where it says nothing else.
    position, rotation = None, 0
    aspect, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
    due = 0.0
    for seconds, frame in _timed(container, stream):
        if position is None or frame.rotation not in (0, rotation):
            position, rotation = read_position(frame), frame.rotation
        # As from program to program; files state one shape for all of their pixels.
        now = stream.codec_context.sample_aspect_ratio
        if container.format.name not in INDEXED_CONTAINERS and not have_one_shape(coded, now):
            aspect = coded = now
        if seconds + 1e-6 < due:
            continue
        due = max(due + interval_seconds, seconds)
        check_pixels(frame.width, frame.height, limits)
        check_fields(frame, stream.codec.canonical_name)
        yield seconds, projector.show(frame, position, square_size((frame.width, frame.height), aspect, limits))


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Decoded frames with the seconds since the first: by the stream's clock, or by this machine's where it has none.

    A recording has no clock then, and is counted off.
    """
    if container.format.name in FORMATS_WITHOUT_TIMES and not _has_end(container):
        began: float | None = None
        for frame in _decoded(container, stream):
            now = time.monotonic()
            began = now if began is None else began
            yield now - began, frame
        return
    seconds = last = 0.0
    # Of the last frame that had one: that of a camera's first may be unknown, and its clock begins anywhere.
    shown: float | None = None
    # Of the latest one, which came at `last`: what comes late, as behind lost packets, sets no clock back.
    latest: float | None = None
    for index, frame in enumerate(_decoded(container, stream)):
        step = 0.0 if frame.time is None or shown is None else frame.time - shown
        ahead = 0.0 if frame.time is None or latest is None else frame.time - latest
        usual = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
        if 0 < ahead <= MAX_STEP_SECONDS and last + ahead > seconds:
            seconds = last + ahead
        elif 0 < step <= MAX_STEP_SECONDS:
            seconds += step
        elif index:
            # One that comes late lies between the one before and the next.
            seconds += usual / 2 if -MAX_LATE_SECONDS <= step < 0 else usual
        if frame.time is not None:
            shown = frame.time
            if latest is None or not -MAX_LATE_SECONDS <= ahead <= 0:
                latest, last = frame.time, seconds
        yield seconds, frame


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; what is damaged is passed over, as always at the beginning."""
    av: Any = importlib.import_module("av")
    # What is damaged may look like something that no decoder knows.
    damaged = av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.NotImplementedError
    packets = container.demux(stream)
    is_joined = container.format.name in (*JOINED_CONTAINERS, *FORMATS_OF_ADDRESSES)
    if is_joined and stream.codec.canonical_name in BEGIN_AT_KEY_FRAME:
        packets = from_key_frame(packets)
    for packet in packets:
        with contextlib.suppress(*damaged):
            # Of one that is marked so, a part or all are remains of the picture before.
            yield from (frame for frame in packet.decode() if not frame.is_corrupt)
