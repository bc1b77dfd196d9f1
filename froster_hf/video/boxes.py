"""Boxes of MP4, MOV, HEIF and AVIF: where they lie, and what FFmpeg does not tell of them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

# Bytes of one part of a codec's settings that are compared.
MOST_SETTINGS = 2**20
# Parts of an entry that decoders take, and the codecs of which they take another entry's on the way: H.264 and H.265.
_OF_DECODERS = (b"esds", b"glbl", b"avcC", b"hvcC")
_TAKE_OTHERS = {b"avc1", b"avc3", b"hvc1", b"hev1"}


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
    return any(True for _ in _within(handle, (b"moov", b"trak")))


def auxiliary_tracks(handle: BinaryIO) -> set[int]:
    """The numbers of tracks that are parts of another one's pictures: their transparency or depth."""
    return {
        _track_number(handle, start, end)
        for start, end in _within(handle, (b"moov", b"trak"))
        if _is_auxiliary(handle, start, end)
    }


def encrypted_tracks(handle: BinaryIO) -> set[int]:
    """The numbers of tracks whose pictures are encrypted (ISO/IEC 23001-7): FFmpeg decodes what is stored."""
    return {
        _track_number(handle, start, end)
        for start, end in _within(handle, (b"moov", b"trak"))
        for table, table_end in _within(handle, (b"mdia", b"minf", b"stbl", b"stsd"), start, end)
        # Behind the version and the number of entries.
        if any(kind == b"encv" for kind, _, _ in boxes(handle, table + 8, table_end))
    }


def fragments(handle: BinaryIO, track: int) -> tuple[int, int]:
    """Where the first fragment begins, at the end of the file without one, and how many frames all have of a track."""
    size = handle.seek(0, os.SEEK_END)
    first, num_frames = size, 0
    for start, end in _within(handle, (b"moof", b"traf")):
        first, is_of_track = min(first, start), False
        for kind, place, _ in boxes(handle, start, end):
            # Which comes first in each fragment of a track.
            if kind == b"tfhd":
                is_of_track = _number(handle, place + 4) == track
            elif kind == b"trun" and is_of_track:
                num_frames += _number(handle, place + 4)
    return first, num_frames


def has_other_settings(handle: BinaryIO) -> bool:
    """Whether pictures have other codec settings than the first ones, which FFmpeg keeps: those of a track's further
    entries, unless it is of a codec that takes them, or has fragments; or of fragments behind a second index."""
    first = last = None
    has_several = False
    for kind, start, end in boxes(handle, 0, handle.seek(0, os.SEEK_END)):
        if kind == b"moov":
            last = {_track_number(handle, *track): entries for track, entries in _settings(handle, start, end)}
            first = last if first is None else first
            for entries in last.values():
                taken = {(codec, *(part for part in parts if part[0] in _OF_DECODERS)) for codec, _, *parts in entries}
                if len(taken) > 1 and not _TAKE_OTHERS.issuperset(codec for codec, *_ in taken):
                    return True
                has_several |= len(taken) > 1
        elif kind == b"moof" and (has_several or last != first):
            return True
    return False


def stated_pixels(handle: BinaryIO, track: int) -> list[tuple[Fraction | None, tuple[int, int] | None]]:
    """What each entry of a track states: the shape of its pixels, and their color matrix with its range (1: full)."""
    size = handle.seek(0, os.SEEK_END)
    stated = []
    for start, end in _within(handle, (b"moov",)):
        for place, entries in _settings(handle, start, min(end, size)):
            for _, _, *parts in entries if _track_number(handle, *place) == track else ():
                shape = colors = None
                for kind, content in parts:
                    if kind == b"pasp" and len(content) >= 8:
                        width, height = struct.unpack(">II", content[:8])
                        shape = Fraction(width, height) if width and height else None
                    elif kind == b"colr" and content[:4] in (b"nclx", b"nclc") and len(content) >= 10:
                        # Without its range, as in MOV, it is the limited one; 5 and 6 are one matrix.
                        is_full = content[:4] == b"nclx" and content[10:11] >= b"\x80"
                        colors = {5: 6}.get(content[9], content[9]), int(is_full)
                stated.append((shape, colors))
    return stated


def _settings(handle: BinaryIO, start: int, end: int) -> Iterator[tuple[tuple[int, int], list[tuple[Any, ...]]]]:
    """Each track of pictures of an index, and what its entries say to the decoder, which is not their bit rate: the
    codec, sizes, and parts by their kinds."""
    for track in _within(handle, (b"trak",), start, end):
        if not any(
            _start_of(handle, place, place + 12)[8:] in (b"vide", b"pict")
            for place, _ in _within(handle, (b"mdia", b"hdlr"), *track)
        ):
            continue
        entries = []
        for table, table_end in _within(handle, (b"mdia", b"minf", b"stbl", b"stsd"), *track):
            for kind, entry, entry_end in boxes(handle, table + 8, table_end):
                sizes = _start_of(handle, entry, entry + 78)
                parts = [
                    (part, _start_of(handle, part_start, min(part_end, table_end)))
                    for part, part_start, part_end in boxes(handle, entry + 78, min(entry_end, table_end))
                    if part != b"btrt"
                ]
                entries.append((kind, sizes, *parts))
        yield track, entries


def _start_of(handle: BinaryIO, start: int, end: int) -> bytes:
    """What lies there, of which no decoder's settings are more than the first part."""
    handle.seek(start)
    return handle.read(max(0, min(end - start, MOST_SETTINGS)))


def _within(
    handle: BinaryIO, path: Sequence[bytes], start: int = 0, end: int | None = None
) -> Iterator[tuple[int, int]]:
    """Where the content of each box of these kinds, each within the one before it, begins and ends."""
    end = handle.seek(0, os.SEEK_END) if end is None else end
    for kind, part_start, part_end in boxes(handle, start, end):
        if kind == path[0]:
            part_end = min(part_end, end)
            if len(path) == 1:
                yield part_start, part_end
            else:
                yield from _within(handle, path[1:], part_start, part_end)


def _number(handle: BinaryIO, place: int) -> int:
    return int.from_bytes(_start_of(handle, place, place + 4), "big")


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
