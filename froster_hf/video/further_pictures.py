"""Whether a picture is the first of several, for both sides: nothing that decodes is imported here."""

import re
from typing import Any

# Whose further pictures are frames or pages of their own; those of a phone's JPEG (MPO) belong to the first.
_ANIMATIONS = ("AVIF", "FLI", "GIF", "PNG", "TIFF", "WEBP")
# Of a page of a TIFF file: it shows the first one at a lower resolution, or is a mask of it.
_SUBFILE_TYPE, _BELONGS_TO_ANOTHER = 254, 1 | 4
# Pictures below a page, as cameras store theirs below a thumbnail.
_BELOW = 330
# More than a picture has that is halved until it is a point, with a mask each.
_MOST_PAGES = 64
# Of a file of pictures one behind the other. PNG ends with one chunk, and begins with another.
_MOST_BYTES = 2**26
_PNG_END, _PNG_BEGINNING = b"IEND\xaeB`\x82", b"\x89PNG\r\n\x1a\n"
# Of JPEG: what ends its pixels, other than their bytes and restarts; what writers fill up with; the kinds of
# headers that say a size; what phones announce pictures by that belong to the first.
_JPEG_PIXELS_END, _FILLING = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]"), re.compile(rb"\0*")
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_ANNOUNCED = (b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0")


def further_pictures(image: Any) -> str | None:
    """What is wrong with a picture that Pillow has opened, if it is the first of several: others would go missing."""
    if several := joined_pictures(image):
        return several
    try:
        is_one = image.format not in _ANIMATIONS or not getattr(image, "is_animated", False)
    except ValueError:
        # A GIF file that its caller has closed, so that only this picture can be meant.
        return None
    is_thumbnail = image.format == "TIFF" and image.tag_v2.get(_SUBFILE_TYPE, 0) & 1 and _BELOW in image.tag_v2
    if not is_thumbnail and (is_one or (image.format == "TIFF" and not _has_pages(image))):
        return None
    return (
        f"it holds several pictures ({image.format}), where one frame is asked for: save an animation as GIF or MP4 "
        "and give its path, or give its frames or pages one by one"
    )


def joined_pictures(image: Any) -> str | None:
    """What is wrong where others follow behind its end, of a picture that Pillow has opened and not loaded yet."""
    if not _is_joined(image):
        return None
    return (
        f"it holds several pictures, one behind the other ({image.format}), where one frame is asked for: give them "
        "one by one, or join them as a video (ffmpeg -f image2pipe -i FILE out.mp4)"
    )


def _has_pages(image: Any) -> bool:
    """Whether a TIFF file has a further page that is a picture of its own."""
    current = image.tell()
    try:
        for page in range(1, _MOST_PAGES):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _BELONGS_TO_ANOTHER:
                return True
        return True
    except EOFError:
        return False
    finally:
        image.seek(current)


def _is_joined(image: Any) -> bool:
    """Whether a further picture of its kind begins where the first one ends, as where ffmpeg writes into a pipe."""
    file = getattr(image, "fp", None)
    # It may be gone.
    if image.format not in ("BMP", "JPEG", "PNG", "WEBP") or file is None or getattr(file, "closed", False):
        return False
    place = file.tell()
    file.seek(0)
    data = file.read(_MOST_BYTES)
    file.seek(place)
    if image.format == "JPEG":
        return _are_jpegs(data)
    if image.format == "PNG":
        end = data.find(_PNG_END) + len(_PNG_END)
        return data.startswith(_PNG_BEGINNING, end)
    # Both say their size; behind it, a BMP says that of the picture.
    end = int.from_bytes(data[2:6] if image.format == "BMP" else data[4:8], "little")
    if image.format == "BMP":
        return end > 26 and data.startswith(b"BM", end) and data[end + 14 : end + 26] == data[14:26]
    end += 8 + end % 2
    return data.startswith(b"RIFF", end) and data.startswith(b"WEBP", end + 8)


def _are_jpegs(data: bytes) -> bool:
    """Whether a file is several JPEGs of one size and nothing else, the last of which may be cut.

    What phones append is of another size, is announced, or has something else behind it.
    """
    sizes: list[bytes] = []
    place: int | None = 0
    while place is not None and place < len(data):
        size, place = _jpeg_at(data, place)
        if size is None or size != (sizes or [size])[0]:
            return False
        sizes.append(size)
    return len(sizes) > 1


def _jpeg_at(data: bytes, place: int) -> tuple[bytes | None, int | None]:
    """The size that the JPEG says that begins there, if it announces no further ones; and the place behind it."""
    size = None
    if not data.startswith(b"\xff\xd8\xff", place):
        return None, None
    place += 2
    while data.startswith(b"\xff", place) and place + 4 <= len(data):
        kind = data[place + 1]
        if kind == 0xFF:
            place += 1
            continue
        if kind == 0xD9:
            break
        if kind in (0xE1, 0xE2) and data.startswith(_JPEG_ANNOUNCED, place + 4):
            return None, None
        if kind in _JPEG_SIZES:
            size = data[place + 5 : place + 9]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == 0xDA:
            end = _JPEG_PIXELS_END.search(data, place)
            place = end.start() if end else len(data)
    filled = _FILLING.match(data, place + 2)
    return size, filled.end() if filled and data.startswith(b"\xff\xd9", place) else None
