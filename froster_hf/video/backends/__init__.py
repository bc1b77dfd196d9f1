"""The table of decoder backends: what reads videos, and which containers each reads without a wrong frame.

A backend is a module with two functions, which run in the decoding process:

    load()                                 import what it needs, while files can still be opened
    read(handle, reader, wanted, threads)  the frames at sorted indices, uint8 (h, w, 3) by index, or
                                           `UnreadableVideoError`; verified against the strict reader, `reader`

`tests/video/test_exactness.py` measures in which containers every frame is right.
"""

from dataclasses import dataclass

from ..types import LIVE_READER

_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"


@dataclass(frozen=True)
class Backend:
    """A decoder backend.

    Args:
        module: the module of its `load` and `read`; a leading dot means `froster_hf.video`.
        distributions: names under which the package index has it, any of them.
        containers: FFmpeg's names of the containers that it reads exactly; `None` is the strict reader, which reads
            every one, and streams.
        extra: the extra of this package that installs it; `None` is installed always.
    """

    module: str
    distributions: tuple[str, ...]
    containers: tuple[str, ...] | None
    extra: str | None = None


BACKENDS: dict[str, Backend] = {
    "pyav": Backend(".reader", ("av",), containers=None),
    "decord": Backend(
        ".backends.decord", ("decord", "decord2"), containers=(_MP4, _MATROSKA, "avi", "flv", "asf", "mpeg")
    ),
    "torchcodec": Backend(
        ".backends.torchcodec", ("torchcodec",), containers=(_MP4, _MATROSKA, "flv", "gif"), extra="torchcodec"
    ),
}

# What "auto" stands for: exact in every container and, measured in benchmarks/decoding.md, nearly always the fastest.
AUTO_BACKEND = "pyav"

# What reads the files of a folder of frames, beside the table: it reads no videos.
IMAGE_READER = "pillow"
_BESIDE = {
    IMAGE_READER: Backend(".images", ("pillow",), containers=None),
    LIVE_READER: Backend(".live_reader", ("av",), containers=None),
}


def backend_choices() -> list[str]:
    """What may be asked for: "auto" and the names in the table."""
    return ["auto", *BACKENDS]


def resolve_backend(name: str) -> str:
    """The name in the table that a choice stands for.

    Raises:
        ValueError: it is none.
    """
    if name not in backend_choices():
        raise ValueError(
            f"The video backend is {name!r}, but must be one of {', '.join(map(repr, backend_choices()))}."
        )
    return AUTO_BACKEND if name == "auto" else name


def get_backend(name: str) -> Backend:
    """The entry of a name in the table, or of the reader of images or of live sources."""
    return _BESIDE.get(name) or BACKENDS[name]
