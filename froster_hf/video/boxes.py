"""Boxes of MP4, MOV, HEIF and AVIF: where they lie, and what FFmpeg does not tell of them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO


def boxes(handle: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box between two places, where its content begins, to which the handle is moved, and its end."""
    while start + 8 <= end:
        handle.seek(start)
        length, kind = struct.unpack(">I4s", handle.read(8).ljust(8, b"\0"))
        if length == 1 and start + 16 <= end:
            (length,) = struct.unpack(">Q", handle.read(8).ljust(8, b"\0"))
        content = handle.tell()
        if length == 0:
            length = end - start
        if length < 8:
            return
        start += length
        yield kind, content, start


def holds_tracks(handle: BinaryIO) -> bool:
    """Whether there is a track; otherwise the file is a picture (HEIC, AVIF), whose items FFmpeg gives as streams."""
    size = handle.seek(0, os.SEEK_END)
    return any(
        part == b"trak"
        for kind, start, end in boxes(handle, 0, size)
        if kind == b"moov"
        for part, _, _ in boxes(handle, start, min(end, size))
    )


def auxiliary_tracks(handle: BinaryIO) -> set[int]:
    """The numbers of tracks that are parts of another one's pictures: their transparency or depth."""
    tracks = set()
    size = handle.seek(0, os.SEEK_END)
    for kind, start, end in boxes(handle, 0, size):
        if kind == b"moov":
            for part, track_start, track_end in boxes(handle, start, min(end, size)):
                if part == b"trak" and _is_auxiliary(handle, track_start, min(track_end, size)):
                    tracks.add(_track_number(handle, track_start, min(track_end, size)))
    return tracks


def _is_auxiliary(handle: BinaryIO, start: int, end: int) -> bool:
    for kind, part_start, part_end in boxes(handle, start, end):
        if kind not in (b"tref", b"mdia"):
            continue
        for part, _, _ in boxes(handle, part_start, min(part_end, end)):
            if part == b"auxl" or (part == b"hdlr" and handle.read(12)[8:] == b"auxv"):
                return True
    return False


def _track_number(handle: BinaryIO, start: int, end: int) -> int:
    for kind, _, _ in boxes(handle, start, end):
        if kind == b"tkhd":
            head = handle.read(24)
            return int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16], "big")
    return 0
