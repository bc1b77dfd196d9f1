"""Damage that FFmpeg's decoders see, draw something in place of and do not tell: what the packets say of it.

A packet that is not understood is left to the decoder.

Sources: H.264, 7.3 and 7.4.3; FFV1 (RFC 9043), 4.5 and 4.8.
"""

from __future__ import annotations

import contextlib
import zlib
from typing import Protocol

from .entries import H264Sequence, NotAnIndexError, read_h264_header, read_h264_sequence, read_h264_slice, unit_places
from .types import UnreadableVideoError


class DamageCheck(Protocol):
    """Looks into all packets of one stream in the order of the file.

    Args:
        header: what the container has of settings, apart from the packets.
    """

    def __init__(self, header: bytes): ...

    def look(self, packet: bytes, place: int) -> None:
        """Raises `UnreadableVideoError` where the packet of this place is damaged, or lacks others before it."""


class _MissingPictures:
    """H.264: the numbers of pictures to which others refer (frame_num) leave none out.

    FFmpeg fills a gap with copies of the picture before it. A picture that refers to none (I) may come behind a gap,
    as where a recording was cut at a key frame and joined. Unless it refreshes the decoder (IDR), there may be one
    behind it, too, where those that are shown before it were cut away; and numbers may begin again.
    """

    slices, idr, sequence_set = (1, 5), 5, 7
    # Kinds of slices that refer to nothing: I and SI, and the same where those of the whole picture are alike.
    free = (2, 4, 7, 9)

    def __init__(self, header: bytes):
        self._sequences: dict[int, H264Sequence] = {}
        # FFmpeg passes over what comes before the first picture that refers to none.
        self._has_begun = False
        # Of the last picture to which others refer; None where any may follow.
        self._last: int | None = None
        # Bytes of a unit's length; 0 where units stand behind start codes.
        self._length_size = 0
        with contextlib.suppress(NotAnIndexError):
            sets = self._units(header)
            if header[:1] == b"\1":
                self._length_size, sets = read_h264_header(header)
            self._read_sequences(sets)

    def look(self, packet: bytes, place: int) -> None:
        units = self._units(packet)
        try:
            self._read_sequences(units)
            slices = [unit for unit in units if self._kind(unit) in self.slices]
            if not all(self._follows(unit, is_first=index == 0) for index, unit in enumerate(slices)):
                raise UnreadableVideoError(f"pictures are missing before packet {place}, which may refer to them")
        except NotAnIndexError:
            self._has_begun, self._last = False, None

    def _units(self, content: bytes) -> list[bytes]:
        if not self._length_size:
            return content.split(b"\0\0\1")[1:]
        return [content[start:end] for start, end in unit_places(content, self._length_size) if end > start]

    def _kind(self, unit: bytes) -> int:
        return unit[0] & 31 if unit else 0

    def _read_sequences(self, units: list[bytes]) -> None:
        for unit in units:
            if self._kind(unit) == self.sequence_set:
                sequence = read_h264_sequence(unit)
                self._sequences[sequence.name] = sequence

    def _follows(self, unit: bytes, *, is_first: bool) -> bool:
        """Whether the picture of a slice, which may be the first of its packet, has the number that is due."""
        sequences = self._sequences.values()
        sizes = {sequence.number_size for sequence in sequences}
        if len(sizes) != 1 or any(sequence.may_have_gaps for sequence in sequences):
            raise NotAnIndexError("numbers that may be left out")
        (size,) = sizes
        head = read_h264_slice(unit, size)
        is_free, last = head.kind in self.free, self._last
        is_field = head.behind and any(sequence.may_be_field for sequence in sequences)
        # Others refer to it.
        if unit[0] & 96 and (self._has_begun or is_free):
            self._has_begun = True
            self._last = None if is_free and self._kind(unit) != self.idr else head.number
        if last is None or is_free:
            return True
        # Another slice of the picture, or another field of it, has the same.
        is_same = head.number == last and bool(is_field or head.block or not is_first)
        return is_same or head.number == (last + 1) % 2**size


class _DamagedSlices:
    """FFV1 with checksums: FFmpeg puts a part of the picture before in the place of a slice whose checksum is another.

    A slice ends with its size, a byte and its checksum, or with its size alone. Which of the two holds for the stream
    is told by its first packet, or by any one that is whole.
    """

    most_slices, size_bytes, end_bytes = 1024, 3, 8
    # The polynomial is that of zlib, which begins with the lowest bit of each byte.
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    # What is left at the end of a slice is what it began with, which depends on the version.
    remainders = tuple(int(f"{start:032b}"[::-1], 2) ^ 0xFFFFFFFF for start in (0, 0x7A8C4079))

    def __init__(self, header: bytes):
        self._has_sums = False
        self._first_other: int | None = None

    def look(self, packet: bytes, place: int) -> None:
        slices = self._slices(packet)
        is_whole = bool(slices) and any(
            all(zlib.crc32(each, start) == start for each in slices) for start in self.remainders
        )
        self._has_sums |= is_whole or (place == 0 and bool(slices))
        if not is_whole and self._first_other is None:
            self._first_other = place
        if self._has_sums and self._first_other is not None:
            raise UnreadableVideoError(f"packet {self._first_other} is damaged")

    def _slices(self, packet: bytes) -> list[memoryview]:
        """Those of a packet, each byte mirrored, if all have checksums; else none."""
        content = memoryview(packet.translate(self.mirrored))
        slices: list[memoryview] = []
        end = len(packet)
        while end > 0 and len(slices) < self.most_slices:
            size = int.from_bytes(packet[max(end - self.end_bytes, 0) :][: self.size_bytes], "big") + self.end_bytes
            if end < size:
                return []
            slices.append(content[end - size : end])
            end -= size
        return slices if end == 0 else []


# By FFmpeg's names of the codecs.
DAMAGE_CHECKS: dict[str, type[DamageCheck]] = {"h264": _MissingPictures, "ffv1": _DamagedSlices}
