"""Image files as the frames of a video, read in the decoding process: the five formats offered, and no others.

Pillow knows forty formats, and one of them hands PostScript to another program: whatever a file's content resembles,
it is opened in the formats below. Pillow is imported late and by name: the processes that read video files start
without it.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import numpy as np

from .files import is_hidden, is_video_name
from .frame_names import in_order
from .further_pictures import further_pictures
from .geometry import check_pixels
from .types import SystemLacksError, UnreadableVideoError, VideoLimits, path_error, system_lack

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
# Others by which a frame may be called, which would be missing: what cameras, phones, renderers and viewers write.
# Without icons, documents, and what may be something else as well (.raw, .fit).
_OTHER_PICTURES = frozenset(
    [
        *(".jfi", ".jfif", ".jif", ".jpe", ".jps", ".mpo", ".pjp", ".pjpeg"),
        *(".hdp", ".jls", ".jxl", ".jxr", ".jxs", ".wdp"),
        *(".j2c", ".j2k", ".jhc", ".jp2", ".jpc", ".jpg2", ".jpf", ".jph", ".jpm", ".jpx", ".htj2k"),
        *(".avci", ".avcs", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"),
        *(".apng", ".jng", ".bpg", ".flif", ".qoi", ".btf", ".tf8", ".dib", ".wbmp", ".pcx", ".dcx"),
        *(".pam", ".pbm", ".pfm", ".pgm", ".pnm", ".ppm", ".ras", ".sun", ".xbm", ".xpm", ".xwd"),
        *(".cin", ".dpx", ".exr", ".hdr", ".rgbe", ".pic", ".pct", ".pict", ".psb", ".psd", ".xcf", ".kra", ".svg"),
        *(".icb", ".targa", ".tga", ".vda", ".vst", ".dds", ".ktx", ".ktx2", ".bw", ".rgb", ".rgba", ".sgi"),
        *(".dcm", ".dicom", ".fits", ".fts"),
        # As cameras store them before they make pictures of them.
        *(".3fr", ".ari", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc"),
        *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
        ".x3f",
    ]
)

# Of a TIFF file: bits of each channel, what they mean (0: inverted), their order in a byte, the number of channels,
# whether these lie together or apart, the palette's colors, how many pixels share those of YCbCr (6), what channels
# beyond the colors mean, and of tiles the width, the height and the places.
_BITS, _MEANING, _BIT_ORDER, _SAMPLES, _PLANES, _COLOR_MAP, _SUBSAMPLING = 258, 262, 266, 277, 284, 320, 530
_EXTRA_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _TILE_PLACES = 338, 322, 323, 324

# MPO files, read as JPEG, are JPEG files with further pictures behind the first.
_PLUGINS = ("Bmp", "Jpeg", "Mpo", "Png", "Tiff", "WebP")


def load() -> None:
    """Import all that is needed, as long as files can be opened freely."""
    for plugin in _PLUGINS:
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
    pillow: Any = importlib.import_module("PIL.Image")
    importlib.import_module("PIL.ImageOps")
    importlib.import_module("PIL.ImagePalette")
    # `VideoLimits.max_pixels` holds in its place.
    pillow.MAX_IMAGE_PIXELS = None


def image_files(folder: str, limits: VideoLimits) -> list[str]:
    """Paths of a folder's image files, in the order of the numbers in their names: frame_2 stands before frame_10.

    Where the names are alike but for their numbers, 0.25 stands before 0.5, as of seconds.

    Passed over: hidden files, such as the "._1.png" that macOS writes beside "1.png", folders, and files that are not
    pictures by their suffix. Links, pipes and the like count, and are refused where they are read and lead to no file.

    Args:
        folder: path of the folder.
        limits: `max_frames` bounds their number.

    Raises:
        UnreadableVideoError: the folder cannot be read, holds no image file, too many, videos, pictures of other
            formats, or two for one frame, or its names may be read in two orders.
    """
    try:
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if not is_hidden(entry.name)]
            names = [entry.name for entry in listed if _is_image_file(entry, IMAGE_FORMATS)]
            others = [entry.name for entry in listed if _is_image_file(entry, _OTHER_PICTURES)]
            videos = [entry.name for entry in listed if is_video_name(entry.name) and os.path.isfile(entry.path)]
    except OSError as error:
        raise path_error(error) from error
    if videos:
        # Its pictures are not frames of one video, but of something about them, such as a poster.
        raise UnreadableVideoError(f"it is a folder of videos, such as {videos[0]!r}, not of frames; give one of them")
    if others:
        raise UnreadableVideoError(
            f"{min(others)!r} is a picture of another format than those of {', '.join(IMAGE_FORMATS)}; convert it, or "
            "take it out"
        )
    if not names:
        raise UnreadableVideoError("it holds no image files")
    limits.check("max_frames", len(names), f"it holds {len(names)} image files")
    return [os.path.join(folder, name) for name in in_order(names)]


def _is_image_file(entry: os.DirEntry[str], suffixes: Collection[str]) -> bool:
    """Whether it has one of the suffixes, and is all but a folder: where it is a pipe, or a link that leads nowhere or
    to a folder, its frame is missed, which whatever opens it says."""
    return os.path.splitext(entry.name)[1].lower() in suffixes and not entry.is_dir(follow_symlinks=False)


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
            reason = f"{name!r}: {str(error)[:300] or type(error).__name__}"
            raise system_lack(error) or UnreadableVideoError(reason) from error
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
        if image.format == "TIFF" and image.mode[0] == "P" and max(image.tag_v2[_COLOR_MAP], default=0) < 256:
            # Old writers store 8 bits in place of 16, which libtiff tells so. Pillow takes them for black.
            colors = bytes(image.tag_v2[_COLOR_MAP])
            image.palette = importlib.import_module("PIL.ImagePalette").raw("RGB;L", colors)
        if _has_other_strips(image):
            raise UnreadableVideoError("it is damaged: it names more or fewer strips or tiles than its size needs")
        if _is_laid_out_otherwise(image):
            raise UnreadableVideoError(
                "its colors are not compressed, and are subsampled (YCbCr), or lie in planes of more or fewer than 8 "
                "bits, or of inverted or reversed ones: store them together, as RGB"
            )
        if _has_nameless_plane(image):
            raise UnreadableVideoError(
                "a fourth channel lies in a plane of its own, and nothing says what it means (ExtraSamples): store "
                "the colors together, as RGB"
            )
        if image.format == "TIFF":
            _check_tiles(image)
        if image.mode[0] == "P":
            _check_palette(image)
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


def _has_other_strips(image: Any) -> bool:
    """Whether it is a TIFF file that Pillow itself reads, not libtiff, and has too few strips, or too many: what none
    covers would be black, and the others lie over the first ones."""
    if image.format != "TIFF" or image.tile[0][0] != "raw":
        return False
    num_planes = image.tag_v2.get(_SAMPLES, 1) if image.tag_v2.get(_PLANES) == 2 else 1
    covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in image.tile)
    return covered != image.width * image.height * num_planes


def _is_laid_out_otherwise(image: Any) -> bool:
    """Whether it is a TIFF file that Pillow itself reads, not libtiff, in another layout than it has: each pixel of
    YCbCr as one with colors of its own, and planes, also one alone, as plain ones of 8 bits."""
    if image.format != "TIFF" or image.tile[0][0] != "raw":
        return False
    meaning = image.tag_v2.get(_MEANING)
    if meaning == 6 and tuple(image.tag_v2.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        return True
    is_plain = meaning != 0 and image.tag_v2.get(_BIT_ORDER, 1) == 1 and set(image.tag_v2.get(_BITS, (1,))) == {8}
    return image.tag_v2.get(_PLANES) == 2 and not is_plain


def _has_nameless_plane(image: Any) -> bool:
    """Whether it is a TIFF file of RGB in planes with a fourth one that it does not explain: Pillow divides the colors
    by that, as by opacity, or skews tiles that are not compressed. Strips that are not are right."""
    if image.format != "TIFF" or image.mode != "RGBA" or image.tag_v2.get(_PLANES) != 2:
        return False
    return _EXTRA_SAMPLES not in image.tag_v2 and (image.tile[0][0] != "raw" or _TILE_PLACES in image.tag_v2)


def _check_tiles(image: Any) -> None:
    """Raise where tiles are decoded for far more pixels than the picture has, for all of which one may be stored."""
    width = image.tag_v2.get(_TILE_WIDTH) or image.width
    height = image.tag_v2.get(_TILE_HEIGHT) or image.height
    decoded = -(-image.width // width) * width * -(-image.height // height) * height
    # Small pictures may lie in one large tile.
    if decoded > 4 * image.width * image.height + 2**24:
        raise UnreadableVideoError(
            f"its tiles of {width}x{height} have {decoded} pixels, for a picture of {image.width}x{image.height}: "
            "store it in smaller ones, or in strips"
        )


def _check_palette(image: Any) -> None:
    """Raise where pixels have colors that the palette lacks, which would be black."""
    palette = image.palette
    # As stored, such as BGRX, or once pixels are decoded as RGB or RGBA.
    count = len(palette.palette) // len((palette.rawmode or palette.mode).partition(";")[0]) if palette else 0
    if (highest := image.getchannel(0).getextrema()[1]) >= count:
        raise UnreadableVideoError(
            f"it is damaged: its palette has {count} colors, and its pixels name number {highest}, counted from 0"
        )
