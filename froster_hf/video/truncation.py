"""Whether a file ends before what its own container announces.

FFmpeg reads most cut files without complaint and yields what is left, so that "frame 4 of 8" would silently be another
moment. MP4, Matroska, AVI, ASF (WMV) and GIF say how long they are, and the last page of a stream in Ogg says that it
is; MPEG streams and FLV do not, and what is left of them is a whole video. Nor does FFmpeg complain of joined files
that do not match.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from .boxes import MOST_SETTINGS, boxes, fragments, has_other_settings
from .types import UnreadableVideoError

# How the first page of pictures in Ogg begins: Theora, VP8, Dirac, and whatever OGM holds.
_OGG_PICTURES = (b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video")
_OGG_FIRST, _OGG_LAST = 2, 4

# Elements of Matroska by their identifiers: those of a file; of a segment (SeekHead, Info, Tracks, Cues, Attachments,
# Chapters, Tags); and of a cluster (Timestamp, SimpleBlock, BlockGroup, Position, PrevSize, EncryptedBlock,
# SilentTracks, CRC-32).
_MATROSKA_VOID, _MATROSKA_SEGMENT, _MATROSKA_CLUSTER, _MATROSKA_TRACKS = 0xEC, 0x18538067, 0x1F43B675, 0x1654AE6B
_OF_FILES = {_MATROSKA_VOID, _MATROSKA_SEGMENT, 0x1A45DFA3}
_OF_SEGMENTS = {_MATROSKA_TRACKS, _MATROSKA_CLUSTER}
_OF_SEGMENTS |= {0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
_OF_CLUSTERS = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854, 0xBF}
# A track of Matroska, and what is compared of it: its number, its type, which is 1 for pictures, its codec,
# ContentEncodings, and Video and CodecPrivate, unless the codec's pictures say all of that themselves.
_TRACK, _TRACK_TYPE, _CODEC = 0xAE, 0x83, 0x86
_OF_PICTURES = {0xE0, 0x63A2}
_OF_TRACKS = {0xD7, _TRACK_TYPE, _CODEC, 0x6D80} | _OF_PICTURES
_CODECS_WITHOUT_SETTINGS = (b"V_VP8", b"V_VP9")

# Objects of ASF, and what the first one says of a live stream.
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_LIVE = 1

_GIF_PICTURE = b","


def check_complete(handle: BinaryIO, container: str) -> None:
    """Raise `UnreadableVideoError` where the file is shorter than it says.

    Args:
        handle: The file.
        container: FFmpeg's name of its container.
    """
    size = handle.seek(0, os.SEEK_END)
    announced = {
        "mov,mp4,m4a,3gp,3g2,mj2": _mp4_size,
        "matroska,webm": _matroska_size,
        "avi": _avi_size,
        "asf": _asf_size,
        "gif": _gif_size,
        "ogg": _ogg_size,
    }.get(container, lambda handle, size: size)(handle, size)
    _hold(size, announced)


def check_settings(handle: BinaryIO, container: str) -> None:
    """Raise `UnreadableVideoError` where files were joined that were encoded with other settings than the first one.

    FFmpeg decodes the later ones with the settings of the first one, which draws noise.

    Args:
        handle: The file.
        container: FFmpeg's name of its container.
    """
    has_others = {
        "mov,mp4,m4a,3gp,3g2,mj2": has_other_settings,
        "matroska,webm": _matroska_has_other_settings,
    }.get(container)
    if has_others is not None and has_others(handle):
        raise UnreadableVideoError(
            "it is joined from files whose video was encoded with different settings, of which only the first ones "
            "count. Read the files by themselves, or encode them again as one"
        )


def check_samples(stream: Any, num_packets: int, handle: BinaryIO) -> None:
    """Raise `UnreadableVideoError` where frames of MP4 lie behind the end of the file, whatever its boxes announce.

    Or where fragments overlap in time, or are in another order: of the frames of two, FFmpeg passes over one's; as it
    does over frames in front of them where an edit list says no length, which is that of all. Or where a GIF has
    pictures without the blocks that FFmpeg tells them apart by.

    Args:
        stream: PyAV's, of which all packets have been read: only then does it know the frames of every fragment.
        num_packets: How many there were.
        handle: The file.
    """
    if stream.container.format.name == "mov,mp4,m4a,3gp,3g2,mj2":
        entries = stream.index_entries
        size = handle.seek(0, os.SEEK_END)
        _hold(size, max((entry.pos + entry.size for entry in entries if entry.size), default=0))
        begin, in_fragments = fragments(handle, stream.id)
        num_frames = in_fragments + sum(entry.pos < begin for entry in entries)
        if in_fragments and num_packets < num_frames:
            raise UnreadableVideoError(
                "the times of its fragments overlap or are out of order, or an edit list hides what is in front of "
                f"them: of {num_frames} frames, {num_packets} come out. Write the parts to files of their own, and "
                "join those"
            )
    if stream.container.format.name == "gif":
        num_pictures = sum(kind == _GIF_PICTURE for kind in _gif_blocks(handle))
        if num_packets < num_pictures:
            raise UnreadableVideoError(
                f"of its {num_pictures} pictures, {num_packets} come out, as the others have no graphic control "
                "extension of their own. Write it again with one per picture, as Pillow does"
            )


def _hold(size: int, announced: int) -> None:
    if announced > size:
        raise UnreadableVideoError(f"it is truncated: it has {size} bytes and announces at least {announced}")


def _mp4_size(handle: BinaryIO, size: int) -> int:
    """Where the last of the boxes ends that hold the index or the frames; other bytes may stray at the end.

    An index of fragments (`sidx`) says how many bytes of them follow, all of which may be missing.
    """
    end = 0
    for kind, _, end_of_box in boxes(handle, 0, size):
        if kind in (b"moov", b"moof", b"mdat"):
            end = max(end, end_of_box)
        elif kind == b"sidx":
            end = max(end, _fragments_end(handle, end_of_box))
    return end


def _fragments_end(handle: BinaryIO, end: int) -> int:
    """Where the fragments end whose sizes an index lists; they begin behind it.

    Args:
        handle: Behind the index's length and kind.
        end: Where the index itself ends.
    """
    (version,) = _unpack(handle, ">B11x")
    first_offset, count = _unpack(handle, ">8xQ2xH" if version else ">4xI2xH")
    entries = handle.read(12 * max(0, min(count, (end - handle.tell()) // 12)))
    sizes = (int.from_bytes(entries[place : place + 4], "big") for place in range(0, len(entries), 12))
    # The first bit says whether it is an index itself.
    return end + first_offset + sum(size % 2**31 for size in sizes)


def _matroska_size(handle: BinaryIO, size: int) -> int:
    """Where the last element ends that has a size; files may be joined, and other bytes stray behind.

    Segments and clusters of an open size, as of live writers and browsers, are looked into.
    """
    end = 0
    for kind, _, end_of_element in _elements(handle, 0, known=_OF_FILES):
        end = end if kind == _MATROSKA_VOID else end_of_element
    return end


def _matroska_has_other_settings(handle: BinaryIO) -> bool:
    """Whether a later list of tracks has other ones of pictures than the first."""
    first = None
    for kind, place, place_end in _elements(handle, 0, known=_OF_FILES):
        # What is in a segment of an open size comes by itself.
        parts = _elements(handle, place, place_end) if kind == _MATROSKA_SEGMENT else [(kind, place, place_end)]
        for part, start, end in parts:
            if part == _MATROSKA_TRACKS:
                tracks = list(_picture_tracks(handle, start, end))
                first = tracks if first is None else first
                if tracks != first:
                    return True
    return False


def _picture_tracks(handle: BinaryIO, start: int, end: int) -> Iterator[dict[int, bytes]]:
    """What is said of each track of pictures that its decoder needs."""
    for kind, place, place_end in _elements(handle, start, end):
        if kind != _TRACK:
            continue
        track = {}
        for part, part_start, part_end in _elements(handle, place, place_end):
            if part in _OF_TRACKS:
                handle.seek(part_start)
                track[part] = handle.read(min(part_end - part_start, MOST_SETTINGS))
        if int.from_bytes(track.get(_TRACK_TYPE, b""), "big") != 1:
            continue
        if track.get(_CODEC, b"").rstrip(b"\0") in _CODECS_WITHOUT_SETTINGS:
            track = {part: content for part, content in track.items() if part not in _OF_PICTURES}
        yield track


def _elements(
    handle: BinaryIO, offset: int, end: int = 2**63, known: Collection[int] | None = None
) -> Iterator[tuple[int, int, int]]:
    """Each element's kind, where its content begins, and its end; one of an open size is followed by its parts.

    Args:
        known: What is none of these ends the walk; None knows all.
    """
    while offset < end:
        handle.seek(offset)
        head = handle.read(12)
        width = _ebml_width(head)
        kind, number = int.from_bytes(head[:width], "big"), head[width:]
        if (width > 4 if known is None else kind not in known) or _ebml_width(number) > 8:
            return
        length = _ebml_size(number)
        content = offset + width + _ebml_width(number)
        if length is None:
            if kind not in (_MATROSKA_SEGMENT, _MATROSKA_CLUSTER):
                return
            length, known = 0, None if known is None else _OF_FILES | _OF_SEGMENTS | _OF_CLUSTERS
        if content > end:
            return
        offset = min(content + length, end)
        yield kind, content, offset


def _ebml_width(number: bytes) -> int:
    """How many bytes a number of EBML has, as the zero bits say that it begins with; 9 where this is none."""
    return 9 - number[0].bit_length() if number else 9


def _ebml_size(number: bytes) -> int | None:
    """Without the bit that ends the zeros; all ones mean an open size."""
    width = _ebml_width(number)
    value = int.from_bytes(number[:width], "big") & (most := 2 ** (7 * width) - 1)
    return None if value == most else value


def _avi_size(handle: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends, unless the writer left its size open.

    What one cannot hold goes on in further ones (OpenDML). The first one leads to an index in each, and FFmpeg refuses
    a file that ends before one of these.
    """
    offset = end = 0
    while True:
        handle.seek(offset)
        pattern, length, kind = _unpack(handle, "<4sI4s")
        is_next = offset == 0 or (pattern, kind) == (b"RIFF", b"AVIX")
        if not is_next or length == 2**32 - 1:
            return end
        end = offset + 8 + length
        offset = end + length % 2


def _asf_size(handle: BinaryIO, size: int) -> int:
    """Where the packets end, unless they were sent live; FFmpeg trusts a size of less than 100 bytes no more."""
    handle.seek(16)
    (header_length,) = _unpack(handle, "<Q")
    offset = 30
    while offset + 24 <= min(header_length, size):
        handle.seek(offset)
        kind, length, flags = _unpack(handle, "<16sQ64xI")
        if kind == _ASF_FILE_PROPERTIES and flags & _ASF_LIVE:
            return size
        if length < 24:
            break
        offset += length
    if header_length > size:
        return header_length
    handle.seek(header_length)
    kind, length = _unpack(handle, "<16sQ")
    return header_length + length if kind == _ASF_DATA and 100 <= length < 2**63 else size


def _unpack(handle: BinaryIO, layout: str) -> tuple[Any, ...]:
    """The next numbers of a file; what lies behind its end is 0."""
    length = struct.calcsize(layout)
    return struct.unpack(layout, handle.read(length).ljust(length, b"\0"))


def _gif_size(handle: BinaryIO, size: int) -> int:
    """Where the trailer ends, behind which other bytes may stray; one byte more than there are where it is missing."""
    return next((handle.tell() for kind in _gif_blocks(handle) if kind == b";"), size + 1)


def _gif_blocks(handle: BinaryIO) -> Iterator[bytes]:
    """The kinds of a GIF's blocks, each with the file at the byte behind its kind, and the trailer's as the last."""
    handle.seek(0)
    _pass_color_table(handle, handle.read(13)[10:11])
    while kind := handle.read(1):
        if kind == b"\0":  # one that strays between blocks, which readers pass over
            continue
        yield kind
        if kind == b";":
            return
        if kind == _GIF_PICTURE:  # its place, its colors, and the width of its codes
            _pass_color_table(handle, handle.read(9)[8:])
        handle.seek(1, os.SEEK_CUR)
        while length := handle.read(1).strip(b"\0"):
            handle.seek(length[0], os.SEEK_CUR)


def _ogg_size(handle: BinaryIO, size: int) -> int:
    """The size, or one that is larger where the page is missing that is marked as the last one of the pictures."""
    offset, have_ended = 0, {}
    while offset + 27 <= size:
        handle.seek(offset)
        pattern, flags, stream, num_pieces = struct.unpack("<4sxB8x4s8xB", handle.read(27))
        if pattern != b"OggS":  # damaged, or other bytes behind the last page
            return size
        pieces = handle.read(num_pieces)
        if flags & _OGG_FIRST and handle.read(8).startswith(_OGG_PICTURES):
            have_ended[stream] = False
        if stream in have_ended:
            have_ended[stream] = bool(flags & _OGG_LAST)
        offset += 27 + num_pieces + sum(pieces)
    return size if all(have_ended.values()) and offset <= size else max(offset, size + 1)


def _pass_color_table(handle: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 128:
        handle.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
