"""Where decoding can begin, and what it may leave out: what the packets of a stream say themselves.

A container calls packets key frames, which is its word only. And a packet may bring settings (parameter sets, headers,
messages) that hold for all behind it: where those change, what a packet shows depends on packets to which no reference
leads. So every packet is looked into. A file of which something is not understood, or whose settings change, is read
from its first frame to its last.

Sources: H.264 and H.265, 7.3 and 7.4; VP9 bitstream specification, 6.2; AV1 bitstream specification, 5.3 and 5.9.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from .types import UnreadableVideoError

# What FFmpeg takes for the beginning of a unit, whatever its length says.
_START_CODE = re.compile(b"\0\0\1")

# Settings by their kinds, each in the order in which they come.
Settings = dict[int, list[bytes]]
# Tells of the packets from an entry on, one after the other, each by its place in the file, whether to leave it out
# unless it is wanted.
Skipping = Callable[[int, bool], bool]


class NotAnIndexError(Exception):
    """Packets turned out not to be an exact index into the frames."""


class Entries:
    """Tells of the packets of one stream at which of them decoding can begin.

    By itself of one whose packets depend on no others.

    Args:
        header: what the container has of settings, apart from the packets.

    Attributes:
        settings: those of the header, or of the first packet, which every decoder has read.
        are_some_skippable: whether there are packets that are shown only where decoding began before their entry.

    Raises:
        NotAnIndexError: here and from every method, where something is not understood.
        UnreadableVideoError: from `picture_number`, where a picture is damaged and no decoder says so.
    """

    def __init__(self, header: bytes):
        self.settings = self._read_header(header)
        self.are_some_skippable = False
        self._num_packets = 0

    def is_entry(self, packet: bytes, *, has_header: bool) -> bool:
        """Whether decoding can begin at the next packet in the order of the file.

        Args:
            packet: its content.
            has_header: whether the container has other settings with it.

        Raises:
            NotAnIndexError: also where it changes the settings.
        """
        is_entry, settings = self._read(packet)
        if self._num_packets == 0:
            self.settings |= settings
        if has_header or any(self.settings.get(kind) != found for kind, found in settings.items()):
            raise NotAnIndexError("settings that change")
        self._num_packets += 1
        return is_entry

    def picture_number(self) -> tuple[bool, int] | bytes:
        """Whether the last packet's picture restarts the numbers in whose order pictures are shown, and its number.

        That of its packet where a decoder gives pictures out as they come; where it is for others to tell, what they
        need of the packet.
        """
        return False, self._num_packets

    def skipping(self) -> Skipping:
        """What to leave out from an entry on: packets on which no other depends.

        It raises `NotAnIndexError` where one that was left out has changed another.
        """
        return lambda place, is_wanted: False

    def _read_header(self, header: bytes) -> Settings:
        return {}

    def _read(self, packet: bytes) -> tuple[bool, Settings]:
        """Whether it is an entry, and its settings; raises `NotAnIndexError` where it is not understood."""
        return True, {}


def unit_places(packet: bytes, length_size: int) -> Iterator[tuple[int, int]]:
    """Where units, each behind its length of so many bytes, begin and end; the last may lie beyond the packet."""
    end = 0
    while end < len(packet):
        start = end + length_size
        end = start + int.from_bytes(packet[end:start], "big")
        yield start, end


class _UnitEntries(Entries):
    """Streams of H.264 and H.265: units, each behind its length; parameter sets are units, too."""

    sets: tuple[int, ...]
    messages: tuple[int, ...]
    # Bytes of a unit's header.
    header_size: int
    slices: Collection[int]
    # First bytes of what packets hold on which no other depends.
    free: frozenset[int]
    _length_size: int

    def __init__(self, header: bytes):
        super().__init__(header)
        # Of the last packet; of every packet, whether no other depends on it.
        self._units: list[bytes] = []
        self._slices: list[bytes] = []
        self._are_free = bytearray()

    def kind(self, unit: bytes) -> int:
        """The type in a unit's header."""
        raise NotImplementedError

    def units(self, packet: bytes) -> list[bytes]:
        """Those of a packet, which is nothing but units, and none has another one in it, as FFmpeg would find it."""
        units = []
        for start, end in unit_places(packet, self._length_size):
            if end > len(packet) or _START_CODE.search(packet, start, end):
                raise NotAnIndexError("units of another form")
            if end > start:
                # Others begin with a bit that is 0; FFmpeg passes over them.
                if packet[start] & 128 or end - start <= self.header_size:
                    raise NotAnIndexError("units of another form")
                units.append(packet[start:end])
        return units

    def _read_units(self, packet: bytes) -> tuple[set[int], Settings]:
        """The kinds of a packet's units, and its settings; what else is asked of the packet is kept."""
        self._units = units = self.units(packet)
        kinds = [self.kind(unit) for unit in units]
        self._slices = [unit for unit, kind in zip(units, kinds) if kind in self.slices]
        self._are_free.append(self.free.issuperset([unit[0] for unit in units]))
        return set(kinds), self.settings_of(units) if len(self._slices) < len(units) else {}

    def check_order(self, blocks: list[int]) -> None:
        """The first blocks of a packet's slices are those of one picture, in order and each once.

        Others hide that a slice is missing, in whose place FFmpeg leaves what it decoded before, without an error.
        """
        if blocks[:1] != [0] or any(block >= following for block, following in itertools.pairwise(blocks)):
            raise NotAnIndexError("slices that are not those of one picture")

    def settings_of(self, units: list[bytes]) -> Settings:
        """The parameter sets among units, and the messages that are held to those of the first picture.

        Raises:
            NotAnIndexError: grain is added to the pictures behind, from seeds that count from the first picture.
        """
        found: Settings = {}
        for unit in units:
            kind = self.kind(unit)
            if kind in self.messages:
                messages = list(_messages(unit[self.header_size :]))
                if any(_adds_grain(*message) for message in messages):
                    raise NotAnIndexError("grain")
                # FFmpeg decodes what this encoder's versions encode as each of them did, and turns only the picture
                # that has a display orientation with it (47), though it may hold for those behind.
                if b"x264 - core" not in unit and all(number != 47 for number, _ in messages):
                    continue
            elif kind not in self.sets:
                continue
            found.setdefault(kind, []).append(unit)
        return found


def _counted(header: bytes, place: int, number: int) -> tuple[list[bytes], int]:
    """So many units of a header, each behind its length in two bytes, and where they end."""
    units = []
    for _ in range(number):
        start = place + 2
        place = start + int.from_bytes(header[place:start], "big")
        if place > len(header) or place == start:
            raise NotAnIndexError("a header that is cut off")
        units.append(header[start:place])
    return units, place


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of a unit of them (SEI), each with its type."""
    content, place = content.replace(b"\0\0\3", b"\0\0"), 0
    # The last byte ends the unit.
    while place + 2 < len(content):
        numbers = []
        for _ in range(2):
            number = 0
            while content[place : place + 1] == b"\xff":
                number, place = number + 255, place + 1
            if place == len(content):
                raise NotAnIndexError("a message that is cut off")
            numbers.append(number + content[place])
            place += 1
        kind, size = numbers
        yield kind, content[place : place + size]
        place += size


def _adds_grain(kind: int, message: bytes) -> bool:
    # 19: film grain characteristics. 4: registered by a country (here the USA) and a provider (AOM, of AV1's grain).
    return kind == 19 or (kind == 4 and message.startswith(b"\xb5\x58\x90"))


class _Bits:
    """Bits of a unit, read from its beginning, without the bytes that keep start codes out of it."""

    def __init__(self, content: bytes):
        content = content.replace(b"\0\0\3", b"\0\0")
        self._left = 8 * len(content)
        self._value = int.from_bytes(content, "big")

    def fixed(self, size: int) -> int:
        """A number of so many bits."""
        if size > self._left:
            raise NotAnIndexError("a unit that is cut off")
        self._left -= size
        number = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return number

    def counted(self) -> int:
        """A number behind as many zeros as it has bits besides the first (Exp-Golomb)."""
        zeros = self._left - self._value.bit_length()
        self.fixed(zeros)
        return self.fixed(zeros + 1) - 1


def read_h264_header(header: bytes) -> tuple[int, list[bytes]]:
    """How many bytes say a unit's length, and the parameter sets; raises `NotAnIndexError` where it has none."""
    if len(header) < 7 or header[0] != 1:
        raise NotAnIndexError("units without lengths")
    sequence_sets, place = _counted(header, 6, header[5] & 31)
    picture_sets, _ = _counted(header, place + 1, (header[place : place + 1] or b"\0")[0])
    return (header[4] & 3) + 1, sequence_sets + picture_sets


# Profiles of H.264 whose parameter sets say how color is stored.
_PROFILES_WITH_COLOR = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)


class H264Sequence(NamedTuple):
    """What a sequence's parameter set says of the numbers of its pictures (frame_num).

    Args:
        name: the number by which others call this set.
        number_size: bits of a picture's number.
        may_have_gaps: whether numbers may be left out.
        may_be_field: whether a picture may be a field, which the first bit behind its number says.
    """

    name: int
    number_size: int
    may_have_gaps: bool
    may_be_field: bool


def read_h264_sequence(unit: bytes) -> H264Sequence:
    """Raises `NotAnIndexError` where it is not understood."""
    bits = _Bits(unit[1:2048])
    profile, _, _, name = bits.fixed(8), bits.fixed(8), bits.fixed(8), bits.counted()
    if profile in _PROFILES_WITH_COLOR:
        is_444 = bits.counted() == 3
        if is_444 and bits.fixed(1):
            raise NotAnIndexError("pictures of one color each")
        # Depths, and lossless coding.
        bits.counted(), bits.counted(), bits.fixed(1)
        # Whether there are tables of quantization, and which of them.
        for number in range(bits.fixed(1) and (12 if is_444 else 8)):
            if bits.fixed(1):
                _pass_over_table(bits, 16 if number < 6 else 64)
    size = bits.counted() + 4
    order = bits.counted()
    if order == 0:
        bits.counted()
    elif order == 1:
        bits.fixed(1), bits.counted(), bits.counted()
        for _ in range(min(bits.counted(), 255)):
            bits.counted()
    # Number of references.
    bits.counted()
    may_have_gaps = bool(bits.fixed(1))
    # Width and height.
    bits.counted(), bits.counted()
    return H264Sequence(name, size, may_have_gaps, not bits.fixed(1))


def _pass_over_table(bits: _Bits, size: int) -> None:
    """A table says by how much each value differs from the last one, until one is 0, as all behind it are."""
    value = 8
    for _ in range(size):
        step = bits.counted()
        value = (value + (step + 1 >> 1 if step & 1 else -(step >> 1))) % 256
        if value == 0:
            return


class H264Slice(NamedTuple):
    """The beginning of a slice: its first block and kind, its picture's number, and the bit behind that."""

    block: int
    kind: int
    number: int
    behind: int


def read_h264_slice(unit: bytes, number_size: int) -> H264Slice:
    """Three times as fast as by `_Bits`; raises `NotAnIndexError` where it is cut off."""
    content = unit[1:32].replace(b"\0\0\3", b"\0\0")
    value, left = int.from_bytes(content, "big"), 8 * len(content)
    # First block, kind, picture parameter set: each as many zeros as there are bits behind its first one.
    counted = []
    for _ in range(3):
        left -= 2 * (left - value.bit_length()) + 1
        if left < number_size + 1:
            raise NotAnIndexError("a unit that is cut off")
        counted.append((value >> left) - 1)
        value &= (1 << left) - 1
    number = value >> (left - number_size - 1)
    return H264Slice(counted[0], counted[1], number >> 1, number & 1)


class _H264Entries(_UnitEntries):
    """H.264: entries are the pictures that refresh the decoder (IDR).

    FFmpeg takes the word of a message in the stream (recovery point) for another kind, whose followers may refer to
    what comes before it, and then shows something else without an error.
    """

    slices, idr, sequence_set = range(1, 6), 5, 7
    sets, messages, header_size = (7, 8, 13, 15), (6,), 1
    # No slice has a longer header.
    head_size = 4096
    # 1: of a picture to which none refers, not an entry. Beside its slices may stand messages, sets, and marks of
    # beginnings.
    free = frozenset({1} | {first for first in range(128) if first & 31 in (6, 7, 8, 13, 15, 9, 12)})

    def __init__(self, header: bytes):
        super().__init__(header)
        # Of a picture's number, in bits.
        self._size = 0
        # Of the bits behind the number the first, where it says that the picture is a field.
        self._may_be_field = 0
        # Of every packet.
        self._are_entries = bytearray()
        self._numbers: list[int | None] = []
        self._last_number: int | None = None

    def kind(self, unit: bytes) -> int:
        return unit[0] & 31

    def _read_header(self, header: bytes) -> Settings:
        self._length_size, sets = read_h264_header(header)
        return self.settings_of(sets)

    def _read(self, packet: bytes) -> tuple[bool, Settings]:
        # FFmpeg shows nothing of it; the length of a unit may look so where it has fewer than four bytes.
        if packet[:1] == b"\1" and packet[2:3] == b"\0" and packet[4:5] >= b"\xfc":
            raise NotAnIndexError("a packet that is taken for a header")
        kinds, settings = self._read_units(packet)
        kinds.intersection_update(self.slices)
        is_entry = kinds == {self.idr}
        self._are_entries.append(is_entry)
        return is_entry, settings

    def picture_number(self) -> bytes:
        """Not told: it stands behind fields of which there are too many, but near the beginnings of units.

        Raises:
            NotAnIndexError: a picture before this one is missing, behind which FFmpeg may show fewer.
        """
        if self._num_packets == 1:
            self._size = self._number_size()
        number = None
        if heads := [self._read_head(unit) for unit in self._slices]:
            self.check_order([block for block, _ in heads])
            number, *others = {number for _, number in heads}
            last = self._last_number
            if others or not (last is None or self._are_entries[-1] or number in (last, (last + 1) % 2**self._size)):
                raise NotAnIndexError("a picture that is missing")
            self._last_number = number
        self._numbers.append(number)
        parts = [unit[: self.head_size] for unit in self._units if self.kind(unit) not in self.messages]
        return b"".join([len(part).to_bytes(self._length_size, "big") + part for part in parts])

    def skipping(self) -> Skipping:
        """As of every stream; FFmpeg draws pictures in place of those that the numbers (frame_num) lack.

        A picture to which none refers bears the number that the next one to which others refer bears.
        """
        # Of the last picture that was decoded, and of the last one in the file.
        decoded = last = -1

        def skip(place: int, is_wanted: bool) -> bool:
            nonlocal decoded, last
            number = self._numbers[place]
            if number is None:
                return False
            is_next = number == (decoded + 1) % 2**self._size
            if self._are_free[place] and is_next and not is_wanted:
                last = number
                return True
            if decoded != last and not is_next and not self._are_entries[place]:
                raise NotAnIndexError("pictures of other numbers behind those that were left out")
            decoded = last = number
            return False

        return skip

    def _read_head(self, unit: bytes) -> tuple[int, int]:
        """A slice's first block and its picture's number."""
        head = read_h264_slice(unit, self._size)
        if head.behind & self._may_be_field:
            raise NotAnIndexError("one of two fields")
        return head.block, head.number

    def _number_size(self) -> int:
        """Bits of the pictures' numbers. Sees whether fields may come."""
        sets = set(self.settings.get(self.sequence_set, []))
        if len(sets) != 1:
            raise NotAnIndexError("several parameter sets")
        sequence = read_h264_sequence(sets.pop())
        self._may_be_field = int(sequence.may_be_field)
        return sequence.number_size


class _SliceFields(NamedTuple):
    """Bits of what the beginning of an H.265 slice says, in its order; the first may be missing.

    Args:
        dependent: whether the slice goes on with the settings of the one before it.
        block: its first block.
        extra: something else.
        number: that of its picture.
    """

    dependent: int
    block: int
    extra: int
    number: int


class _H265Entries(_UnitEntries):
    """H.265: entries are the pictures that it calls so (IRAP).

    FFmpeg refuses pictures that refer to others before them, or to such as were left out; but not behind the end of a
    sequence, after which it takes the word of a message for when what it shows is right again.
    """

    slices, entries, reserved = (*range(10), *range(16, 22)), range(16, 22), (*range(10, 16), *range(22, 32))
    sets, messages, header_size = (32, 33, 34), (39, 40), 2
    # Slices of pictures that say that none of the same layer depends on them, and of those before an entry, which are
    # not shown where decoding begins there, or which refer to none before it.
    free_slices, skipped, leading = range(0, 10, 2), (8, 9), range(6, 10)
    # Of pictures that restart the numbers, and those behind which nothing before them is shown.
    idr, restarts = (19, 20), (16, 17, 18, 19, 20)
    sequence_set, picture_set, ends = 33, 34, (36, 37)
    # Beside those of a picture may stand messages, sets, and marks of beginnings.
    free = frozenset(first for first in range(128) if first >> 1 in (*range(0, 10, 2), 32, 33, 34, 39, 40, 35, 38))

    def __init__(self, header: bytes):
        super().__init__(header)
        self._may_be_led = False
        self._fields: _SliceFields | None = None
        # Of the first picture's slices.
        self._blocks: list[int] = []
        self._last_number = 0

    def kind(self, unit: bytes) -> int:
        # One more than the number of its layer in time; FFmpeg passes over those that have none.
        if unit[1:2] and not unit[1] & 7:
            raise NotAnIndexError("units of another form")
        return unit[0] >> 1

    def _read_header(self, header: bytes) -> Settings:
        if len(header) < 23 or header[0] != 1:
            raise NotAnIndexError("units without lengths")
        self._length_size = (header[21] & 3) + 1
        units, place = [], 23
        for _ in range(header[22]):
            found, place = _counted(header, place + 3, int.from_bytes(header[place + 1 : place + 3], "big"))
            units += found
        return self.settings_of(units)

    def _read(self, packet: bytes) -> tuple[bool, Settings]:
        kinds, settings = self._read_units(packet)
        if not kinds.isdisjoint(self.ends):
            raise NotAnIndexError("the end of a sequence")
        if not kinds.isdisjoint(self.reserved):
            raise NotAnIndexError("pictures of no kind that is shown")
        slices = kinds.intersection(self.slices)
        if slices.intersection(self.skipped):
            if not self._may_be_led:
                raise NotAnIndexError("pictures that are not shown")
            self.are_some_skippable = True
        if slices.intersection(self.entries):
            self._may_be_led = self._num_packets > 0 and slices.isdisjoint(self.restarts)
        return bool(slices) and slices <= set(self.entries), settings

    def picture_number(self) -> tuple[bool, int]:
        """Of every stream, the picture order count (8.3.1); raises where it is not to be told from a few fields."""
        if self._fields is None:
            self._fields = self._read_fields()
        fields, slices = self._fields, self._slices
        if any(unit[0] & 1 or unit[1] >> 3 for unit in slices):
            raise NotAnIndexError("more or less than one picture")
        blocks = [self._first_block(unit, fields) for unit in slices]
        if any(0 < following <= block for block, following in itertools.pairwise(blocks)):
            raise UnreadableVideoError(f"packet {self._num_packets - 1} is damaged: slices of a picture come again")
        self.check_order(blocks)
        self._blocks = self._blocks or blocks
        if blocks != self._blocks:
            raise NotAnIndexError("pictures that may lack slices")
        first = slices[0]
        kind = self.kind(first)
        # The second one of an entry, that those before it that have not been shown are not shown any more.
        if kind in self.entries and any(unit[2] & 64 for unit in slices) and self._num_packets > 1:
            raise NotAnIndexError("pictures that are not shown")
        if kind in self.idr:
            number = 0
        else:
            bits = _Bits(first[2:64])
            bits.fixed(1 + (kind in self.entries))
            bits.counted()
            bits.fixed(fields.extra)
            bits.counted()
            number, before = bits.fixed(fields.number), self._last_number
            if kind not in self.restarts:
                # The nearest one that ends so.
                number += (before - number + 2 ** (fields.number - 1)) >> fields.number << fields.number
        if first[1] & 7 == 1 and kind not in self.free_slices and kind not in self.leading:
            self._last_number = number
        return kind in self.restarts, number

    def _first_block(self, unit: bytes, fields: _SliceFields) -> int:
        bits = _Bits(unit[2:32])
        # Whether a picture begins.
        if bits.fixed(1):
            return 0
        bits.fixed(int(self.kind(unit) in self.entries))
        bits.counted()
        bits.fixed(fields.dependent)
        return bits.fixed(fields.block)

    def _read_fields(self) -> _SliceFields:
        sets = [set(self.settings.get(kind, [])) for kind in (self.sequence_set, self.picture_set)]
        if [len(found) for found in sets] != [1, 1]:
            raise NotAnIndexError("several parameter sets")
        (sequence,), (picture,) = sets
        bits = _Bits(picture[2:32])
        bits.counted(), bits.counted()
        dependent = bits.fixed(1)
        if bits.fixed(1):
            raise NotAnIndexError("pictures that are not shown")
        extra = bits.fixed(3)
        bits = _Bits(sequence[2:256])
        bits.fixed(4)
        num_layers = bits.fixed(3)
        # Profile and level, of all and of each layer.
        bits.fixed(1 + 96)
        present = [(bits.fixed(1), bits.fixed(1)) for _ in range(8 if num_layers else 0)][:num_layers]
        for has_profile, has_level in present:
            bits.fixed(88 * has_profile + 8 * has_level)
        bits.counted()
        if bits.counted() == 3 and bits.fixed(1):
            raise NotAnIndexError("colors as pictures of their own")
        width, height = bits.counted(), bits.counted()
        for _ in range(4 * bits.fixed(1) + 2):
            bits.counted()
        number = bits.counted() + 4
        if number > 16:
            raise NotAnIndexError("numbers of more bits than there may be")
        # What is held back, of all layers or of each.
        for _ in range(3 * (1 + num_layers * bits.fixed(1))):
            bits.counted()
        # The smallest block's side as a power of 2, and how often the largest one's is twice as long.
        block_bits = bits.counted() + 3 + bits.counted()
        num_blocks = -(-width >> block_bits) * -(-height >> block_bits)
        return _SliceFields(dependent, (num_blocks - 1).bit_length(), extra, number)

    def skipping(self) -> Skipping:
        """As of every stream."""
        return lambda place, is_wanted: not is_wanted and bool(self._are_free[place])


class _Vp9Entries(Entries):
    """VP9: entries are key frames, which set back all that a decoder keeps, as other frames of their own do not."""

    def _read(self, packet: bytes) -> tuple[bool, Settings]:
        heads = [self._read_head(frame) for frame in self._frames(packet)]
        if [is_shown for _, is_shown in heads].count(True) != 1:
            raise NotAnIndexError("more or less than one picture")
        return heads[0][0], {}

    def _frames(self, packet: bytes) -> list[bytes]:
        """Those of a packet: one, or those whose sizes stand at its end (annex B)."""
        last = packet[-1]
        num_frames, num_bytes = (last & 7) + 1, (last >> 3 & 3) + 1
        start = len(packet) - 2 - num_frames * num_bytes
        if last >> 5 != 6 or start < 0 or packet[start] != last:
            return [packet]
        frames, place = [], 0
        for index in range(start + 1, len(packet) - 1, num_bytes):
            size = int.from_bytes(packet[index : index + num_bytes], "little")
            frames.append(packet[place : place + size])
            place += size
        if place > start or not all(frames):
            raise NotAnIndexError("frames of another form")
        return frames

    def _read_head(self, frame: bytes) -> tuple[bool, bool]:
        """Whether it is a key frame, and whether it is shown."""
        # Marker, profile, reserved in profile 3, shown again, not a key frame, shown.
        bits = _Bits(frame[:2])
        marker, low, high = bits.fixed(2), bits.fixed(1), bits.fixed(1)
        reserved = bits.fixed(1) if low and high else 0
        is_again, is_other, is_shown = bits.fixed(1), bits.fixed(1), bits.fixed(1)
        return (marker, reserved, is_again, is_other) == (2, 0, 0, 0), bool(is_again or is_shown)


class _Av1Entries(Entries):
    """AV1: entries have a header of the sequence, and begin with a key frame that is shown."""

    # 3: a frame's header alone, whose tiles follow. 7: a header again, which the decoder takes for another one.
    sequence, frames, tiles, repeated = 1, (3, 6), 4, 7

    def _read(self, packet: bytes) -> tuple[bool, Settings]:
        place, has_header, lacks_tiles = 0, False, False
        heads: list[int] = []
        while place < len(packet):
            first = packet[place]
            kind, has_extension, has_size = first >> 3 & 15, first >> 2 & 1, first >> 1 & 1
            place += 1 + has_extension
            size, shift = 0, 0
            while has_size:
                byte = (packet[place : place + 1] or b"\0")[0]
                size, shift, place, has_size = size | (byte & 127) << shift, shift + 7, place + 1, byte >> 7
                if shift > 56:
                    raise NotAnIndexError("a size that no part has")
            content = packet[place : place + 1] or b"\0"
            if kind == self.sequence:
                # The profile, and whether it is of one picture, whose head says less.
                if content[0] & 8:
                    raise NotAnIndexError("a single picture")
                has_header = has_header or not heads
            elif kind in (*self.frames, self.tiles):
                # The decoder passes over layers that its sequence does not ask for.
                if has_extension:
                    raise NotAnIndexError("pictures of a layer")
                if kind in self.frames:
                    if lacks_tiles:
                        raise NotAnIndexError("more or less than one picture")
                    # Shown again, two bits of the kind (0: key frame), shown.
                    heads.append(content[0] >> 4)
                lacks_tiles = kind == 3 and heads[-1] < 8
            elif kind == self.repeated:
                raise NotAnIndexError("more or less than one picture")
            place += size if first >> 1 & 1 else len(packet)
        if lacks_tiles or sum(head >= 8 or head & 1 for head in heads) != 1:
            raise NotAnIndexError("more or less than one picture")
        return has_header and heads[0] == 1, {}


class _ProResEntries(Entries):
    """ProRes: every packet stands for itself, unless it lacks one of two fields, in whose place anything is left."""

    def _read(self, packet: bytes) -> tuple[bool, Settings]:
        # Behind 8 bytes the header, with its size in front; behind it the first field, with its size in byte 1 to 4.
        field = 8 + int.from_bytes(packet[8:10], "big")
        end = field + int.from_bytes(packet[field + 1 : field + 5], "big")
        has_fields = (packet[20:21] or b"\0")[0] & 12
        if has_fields and end >= len(packet):
            raise NotAnIndexError("one of two fields")
        return True, {}


# By FFmpeg's names of the codecs.
ENTRIES: dict[str, type[Entries]] = {
    "h264": _H264Entries,
    "hevc": _H265Entries,
    "vp9": _Vp9Entries,
    "av1": _Av1Entries,
    "prores": _ProResEntries,
}
