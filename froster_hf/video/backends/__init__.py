"""The table of decoder backends: what reads videos, and which containers each reads without a wrong frame.

A backend is a module with two functions, which run in the decoding process:

    load()                                 import what it needs, while files can still be opened
    read(handle, reader, wanted, threads)  the frames at sorted indices, uint8 (h, w, 3) by index, or
                                           `UnreadableVideoError`; verified against the strict reader, `reader`

Their FFmpeg may take a file for something else than the strict reader's does, such as for a playlist of addresses, so
they read with as many descriptors as they need (`descriptors_left`), and open nothing.

`tests/video/test_exactness.py` measures in which containers every frame is right.
"""

import contextlib
import os
from collections.abc import Iterator
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

# More than the decoding process leaves itself.
_FREE_DESCRIPTORS = 8

# What reads the files of a folder of frames, beside the table: it reads no videos.
IMAGE_READER = "pillow"
_BESIDE = {
    IMAGE_READER: Backend(".images", ("pillow",), containers=None),
    LIVE_READER: Backend(".live_reader", ("av",), containers=None),
}


@contextlib.contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Leave so many of the few descriptors that the decoding process has: whatever takes more, as a socket, fails."""
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            for _ in range(_FREE_DESCRIPTORS):
                held.append(os.dup(0))
        for _ in range(min(number, len(held))):
            os.close(held.pop())
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


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
