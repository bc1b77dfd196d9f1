"""From a stored picture to the one that a player shows: turned, mirrored, with square pixels.

A phone stores what its sensor sees and says in a display matrix how to hold it; a front camera adds a mirroring; DVDs
and broadcasts store pixels that are wider or narrower than high. Players obey all three, and left and right are part
of many labels.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .types import UnreadableVideoError, VideoLimits

try:
    import av
except ImportError:
    av = None  # type: ignore[assignment]

# Pixels that are square up to the rounding of the encoder's sizes; resampling would only cost sharpness.
SQUARE_WITHIN = Fraction(1, 100)
# Pixels of one shape, as broadcasters count it: those of 16:9 are 64:45 or 16:11.
SAME_WITHIN = Fraction(1, 20)


@dataclass(frozen=True)
class Position:
    """One of the eight positions of a picture: counter-clockwise quarter turns, then mirrored left to right or not."""

    quarter_turns: int = 0
    is_mirrored: bool = False

    def turn(self, picture: np.ndarray) -> np.ndarray:
        """The stored picture (h, w, 3) in this position; a view."""
        turned = np.rot90(picture, self.quarter_turns)
        return turned[:, ::-1] if self.is_mirrored else turned

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height in this position of a stored picture of that width and height."""
        return size[::-1] if self.quarter_turns % 2 else size


def know_newer_side_data() -> None:
    """Have PyAV give out all side data of a frame where it does not know a kind, as EXIF of pictures: it gives none.

    That holds for the whole process, which must be one for decoding.
    """
    if av is None:
        return
    from av.sidedata.sidedata import Type

    def newer_kind(kinds: Any, value: int) -> Any:
        kind = object.__new__(kinds)
        kind._value_, kind._name_ = value, f"NEWER_{value}"
        return kind

    Type._missing_ = classmethod(newer_kind)  # type: ignore[assignment]


def read_position(frame: av.VideoFrame) -> Position:
    """The position that a decoded frame's display matrix asks for.

    The matrix maps a stored point (x, y), with y downwards, to the shown point (a x + c y, b x + d y), up to a shift.
    Other angles than quarter turns are rounded, as players do.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Position()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flips_x, flips_y = a < 0, d < 0
        return Position(quarter_turns=2 * flips_y, is_mirrored=flips_x != flips_y)
    # Columns become rows; counter-clockwise is that with the new rows upside down.
    flips_x, flips_y = c < 0, b < 0
    return Position(quarter_turns=1 if flips_y else 3, is_mirrored=flips_x == flips_y)


def check_fields(frame: av.VideoFrame, codec: str) -> None:
    """Raise where a picture is a field, every second row of one; FFmpeg joins those of other codecs than H.265.

    Of H.265 it calls nothing else interlaced.
    """
    if codec == "hevc" and frame.interlaced_frame:
        raise UnreadableVideoError(
            "its pictures are stored as fields, each every second row of one, which are not joined in H.265; convert "
            "it to progressive video"
        )


def square_size(size: tuple[int, int], pixel_aspect: Fraction | None, limits: VideoLimits) -> tuple[int, int]:
    """Width and height of a stored picture once its pixels are square: the side that is too short is stretched.

    Args:
        size: Stored width and height.
        pixel_aspect: Width of a pixel divided by its height; None or 0 where the file does not say.
        limits: `max_pixels` holds for the result too.

    Raises:
        UnreadableVideoError: a result beyond `limits.max_pixels`.
    """
    width, height = size
    if not pixel_aspect or pixel_aspect < 0 or abs(pixel_aspect - 1) <= SQUARE_WITHIN:
        return size
    if pixel_aspect > 1:
        width = round(width * pixel_aspect)
    else:
        height = round(height / pixel_aspect)
    check_pixels(width, height, limits)
    return width, height


class Projector:
    """Stored frames as a player shows them."""

    def __init__(self) -> None:
        # One for all frames: each would else make a converter of its own, which takes longer than a small picture.
        self._to_rgb = av.video.reformatter.VideoReformatter()

    def show(self, frame: av.VideoFrame, position: Position, size: tuple[int, int]) -> np.ndarray:
        """The pixels of a frame, uint8 (h, w, 3), turned, and before that of this `square_size`."""
        return np.ascontiguousarray(position.turn(self.stretch(frame, size)))

    def stretch(self, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """The pixels of a frame as it is stored, uint8 (h, w, 3), of this width and height.

        Raises:
            UnreadableVideoError: its colors are in a matrix that FFmpeg does not convert.
        """
        width, height = size
        interpolation = None if size == (frame.width, frame.height) else "BICUBIC"
        try:
            # One thread: more start for each size, which the system may refuse, and make no frame sooner.
            return self._to_rgb.reformat(
                frame, width, height, format="rgb24", interpolation=interpolation, threads=1
            ).to_ndarray()
        except av.FFmpegError as error:
            if error.errno != errno.ENOTSUP:
                raise
            raise UnreadableVideoError(
                f"its colors cannot be converted: {frame.format.name} by the matrix {int(frame.colorspace)} of ITU-T "
                "H.273; read are RGB and the matrices of BT.709 (1), FCC (4), BT.601 (5 and 6), SMPTE 240M (7) and "
                "BT.2020 (9); encode it again with one of them"
            ) from error


def have_one_shape(pixel_aspect: Fraction | None, other: Fraction | None) -> bool:
    """Whether pixels of two aspects look alike; those of an unknown one are taken to be square."""
    return abs((other or 1) / (pixel_aspect or Fraction(1)) - 1) <= SAME_WITHIN


def check_pixels(width: int, height: int, limits: VideoLimits) -> None:
    """Raise `UnreadableVideoError` where a frame of this size is beyond `limits.max_pixels`."""
    if width * height > limits.max_pixels:
        raise UnreadableVideoError(
            f"a frame has {width} x {height} pixels, more than VideoLimits.max_pixels allows, {limits.max_pixels}; if "
            f"you trust the file, allow {width * height}: `video_limits={{'max_pixels': {width * height}}}` for the "
            f"video processor, or --max-pixels {width * height} for the shell"
        )
