"""Image files as the frames of a video, read in the decoding process: the five formats offered, and no others.

Pillow knows forty formats, and one of them hands PostScript to another program: whatever a file's content resembles,
it is opened in the formats below. Pillow is imported late and by name: the processes that read video files start
without it.
"""

from __future__ import annotations

import importlib
import io
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, BinaryIO

import numpy as np

from .files import is_hidden, is_video_name
from .further_pictures import further_pictures
from .geometry import check_pixels
from .types import SystemLacksError, UnreadableVideoError, VideoLimits, path_error

# Suffix -> format as Pillow names it.
IMAGE_FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
# What may be numbers, versions or dates, and a decimal number as programs write those, without zeros at its end. So
# 1.10 is the tenth of something.
_DOTTED = re.compile(r"([0-9]+(?:\.[0-9]+)*)")
_DECIMAL = re.compile(r"[0-9]+(?:\.(?:0|[0-9]*[1-9]))?")
# What may be numbers with a sign, a decimal comma or an exponent (1e-05, as Python writes small ones), and is mostly
# something else: shot 1-2, S01E02, 2024-01-05. A blank in front of all of them (video -1, video -2) makes no sign.
_EXPONENT = r"(?:(?<![0-9A-Za-z.,]){sign}[0-9]+(?:[.,][0-9]+)?[eE][-+]?[0-9]{{1,4}}(?![0-9A-Za-z]))"
_WRITTEN, _WRITTEN_APART = (
    re.compile(rf"({_EXPONENT.format(sign=sign)}|{sign}[0-9]+(?:[.,][0-9]+)*)")
    for sign in (rf"(?:(?<![^_=({blank}])[-+\u2212])?" for blank in (" ", ""))
)

# MPO files, read as JPEG, are JPEG files with further pictures behind the first.
_PLUGINS = ("Bmp", "Jpeg", "Mpo", "Png", "Tiff", "WebP")


def load() -> None:
    """Import all that is needed, as long as files can be opened freely."""
    for plugin in _PLUGINS:
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
    pillow: Any = importlib.import_module("PIL.Image")
    importlib.import_module("PIL.ImageOps")
    # `VideoLimits.max_pixels` holds in its place.
    pillow.MAX_IMAGE_PIXELS = None


def image_files(folder: str, limits: VideoLimits) -> list[str]:
    """Paths of a folder's image files, in the order of the numbers in their names: frame_2 stands before frame_10.

    Where the names are alike but for their numbers, 0.25 stands before 0.5, as of seconds.

    Passed over: hidden files, such as the "._1.png" that macOS writes beside "1.png", other suffixes, folders.

    Args:
        folder: path of the folder.
        limits: `max_frames` bounds their number.

    Raises:
        UnreadableVideoError: the folder cannot be read, holds no image file, too many, or videos, or its names may be
            read in two orders.
    """
    try:
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if not is_hidden(entry.name)]
            names = [entry.name for entry in listed if _is_image_file(entry)]
            videos = [entry.name for entry in listed if is_video_name(entry.name) and os.path.isfile(entry.path)]
    except OSError as error:
        raise path_error(error) from error
    if videos:
        # Its pictures are not frames of one video, but of something about them, such as a poster.
        raise UnreadableVideoError(f"it is a folder of videos, such as {videos[0]!r}, not of frames; give one of them")
    if not names:
        raise UnreadableVideoError("it holds no image files")
    limits.check("max_frames", len(names), f"it holds {len(names)} image files")
    return [os.path.join(folder, name) for name in _in_order(names)]


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is one by its name; so is a link whose file is not there, and no frame goes missing unseen."""
    suffix = os.path.splitext(entry.name)[1].lower()
    return suffix in IMAGE_FORMATS and (os.path.isfile(entry.path) or not os.path.exists(entry.path))


def _in_order(names: list[str]) -> list[str]:
    """The names of a folder's frames, sorted.

    Raises:
        UnreadableVideoError: a dot of theirs may be a decimal point or not, a comma too, a hyphen a sign or an "e" an
            exponent, on which their order depends.
    """
    in_order = _by_dots(names)
    as_written = _by_written_numbers(names)
    if as_written is not None and as_written != in_order:
        raise _two_orders(in_order, as_written, "signs, commas and exponents")
    return in_order


def _two_orders(names: list[str], others: list[str], marks: str) -> UnreadableVideoError:
    first, second = next(pair for pair in zip(names, others) if pair[0] != pair[1])
    return UnreadableVideoError(
        f"whether {first!r} or {second!r} comes first cannot be told from their {marks}; number the frames, as in "
        "0001.png, or set the seconds apart, as in video_0.25.png"
    )


def _by_written_numbers(names: list[str]) -> list[str] | None:
    """The names by their numbers with signs, decimal commas and exponents; `None` where theirs have none of these, or
    are alike in nothing else."""
    stems = [os.path.splitext(name)[0] for name in names]
    is_apart = all(re.search(r" [-\u2212][0-9]", stem) for stem in stems)
    parts = [(_WRITTEN_APART if is_apart else _WRITTEN).split(stem) for stem in stems]
    if len({tuple(part[::2]) for part in parts}) > 1:
        return None
    if not any(re.search(r"[^0-9.]", number) for part in parts for number in part[1::2]):
        return None
    keys: list[list[Any]] = [[] for _ in names]
    for numbers in zip(*(part[1::2] for part in parts)):
        plain = [number.replace("\u2212", "-") for number in numbers]
        are_decimals = all(len(re.findall("[.,]", number)) < 2 for number in plain)
        for key, number in zip(keys, plain):
            key.append(
                Decimal(number.replace(",", ".")) if are_decimals else tuple(map(int, re.findall("[0-9]+", number)))
            )
    return [name for _, name in sorted(zip(keys, names))]


def _by_dots(names: list[str]) -> list[str]:
    """The names by their numbers, of which those with dots may be seconds.

    Raises:
        UnreadableVideoError: a dot of theirs may be a decimal point or not, on which their order depends.
    """
    by_value = sorted(names, key=_numbers_by_value)
    parts = [_DOTTED.split(os.path.splitext(name)[0]) for name in names]
    if len({tuple(part[::2]) for part in parts}) > 1:
        return by_value
    keys: list[list[Any]] = [[] for _ in names]
    certain = True
    for numbers in zip(*(part[1::2] for part in parts)):
        pieces = [number.split(".") for number in numbers]
        seconds = [".".join(piece[-2:]) for piece in pieces]
        # What all have in front, as of a video whose name ends in a number, may be a part of a version as well.
        in_front = {tuple(piece[:-2]) for piece in pieces}
        are_decimals = len(in_front) == 1 and all(map(_DECIMAL.fullmatch, seconds))
        certain &= not are_decimals or in_front == {()}
        for key, piece, second in zip(keys, pieces, seconds):
            key.append(Decimal(second) if are_decimals else tuple(map(int, piece)))
    in_order = [name for _, name in sorted(zip(keys, names))]
    if not certain and in_order != by_value:
        raise _two_orders(in_order, by_value, "dots")
    return in_order


def _numbers_by_value(name: str) -> tuple[list[str | int], str]:
    """Sort key; the name itself decides between "1.png" and "01.png"."""
    # Every second part is a run of digits.
    parts: list[str | int] = list(re.split(r"([0-9]+)", name))
    parts[1::2] = [int(digits) for digits in parts[1::2]]
    return parts, name


def read_images(
    files: Sequence[tuple[str, Callable[[], AbstractContextManager[BinaryIO]]]], limits: VideoLimits
) -> list[np.ndarray]:
    """The pictures of image files, uint8 (h, w, 3) each, all of one size.

    Args:
        files: of each its name, and what opens it, checked, for reading.
        limits: `max_pixels` and `max_file_bytes` for each of them, `max_decoded_bytes` for all together.

    Raises:
        UnreadableVideoError: a file that cannot be read, which is named, or pictures of different sizes.
    """
    pictures: list[np.ndarray] = []
    for name, open_file in files:
        try:
            with open_file() as file:
                picture = _read_image(file, limits)
        except (SystemLacksError, MemoryError):
            raise
        except Exception as error:
            # Pillow raises whatever a damaged file makes it meet.
            raise UnreadableVideoError(f"{name!r}: {str(error)[:300] or type(error).__name__}") from error
        pictures.append(picture)
        if picture.shape != pictures[0].shape:
            sizes = " and ".join(f"{shape[1]}x{shape[0]}" for shape in (pictures[0].shape, picture.shape))
            raise UnreadableVideoError(f"{name!r}: the frames differ in size: {sizes} (width x height)")
        size = len(files) * picture.size
        limits.check("max_decoded_bytes", size, f"the frames take {size} bytes")
    return pictures


def _read_image(file: BinaryIO, limits: VideoLimits) -> np.ndarray:
    """One picture; the size that the file states is checked before its pixels are decoded."""
    pillow: Any = importlib.import_module("PIL.Image")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    for name in ("max_file_bytes", "max_memory_bytes"):
        limits.check(name, size, f"the file has {size} bytes")
    formats = sorted(set(IMAGE_FORMATS.values()))
    try:
        # From memory: the reader of TIFF files would open them again, and no descriptor is left for that.
        image = pillow.open(io.BytesIO(file.read()), formats=formats)
    except pillow.UnidentifiedImageError as error:
        raise UnreadableVideoError(f"it is not an image of one of the formats {', '.join(formats)}") from error
    with image:
        check_pixels(image.width, image.height, limits)
        if several := further_pictures(image):
            raise UnreadableVideoError(several)
        if image.mode[0] in "IF":
            # Pillow cuts such numbers off at 0 and 255: most of the picture would be black or white.
            values = np.asarray(image)
            if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
                raise UnreadableVideoError("its pixels are not numbers from 0 to 255: store 8 bits per channel")
            if image.mode == "F" and 0 < values.max() <= 1:
                raise UnreadableVideoError("its pixels are floats of at most 1, nearly black: store 0 to 255")
        # As every viewer shows it, which is how videos are turned, too.
        upright = importlib.import_module("PIL.ImageOps").exif_transpose(image)
        return np.asarray(upright.convert("RGB"))
