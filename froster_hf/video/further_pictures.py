"""Whether a picture is the first of several, for both sides: nothing that decodes is imported here."""

from typing import Any

# Whose further pictures are frames or pages of their own; those of a phone's JPEG (MPO) belong to the first.
_ANIMATIONS = ("AVIF", "FLI", "GIF", "PNG", "TIFF", "WEBP")
# Of a page of a TIFF file: it shows the first one at a lower resolution, or is a mask of it.
_SUBFILE_TYPE, _BELONGS_TO_ANOTHER = 254, 1 | 4
# Pictures below a page, as cameras store theirs below a thumbnail.
_BELOW = 330
# More than a picture has that is halved until it is a point, with a mask each.
_MOST_PAGES = 64


def further_pictures(image: Any) -> str | None:
    """What is wrong with a picture that Pillow has opened, if it is the first of several: others would go missing."""
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
