"""The strict opening of a container, and the table of its packets: which frame lies where, before any is decoded.

A header may lie about the number of frames or not give it; the packets do not. Reading them costs little beside
decoding them, and their presentation times, sorted, say which frame has which index and from which key frame on it
can be decoded.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import heapq
import itertools
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np

from .damage import DAMAGE_CHECKS
from .entries import ENTRIES, Entries, NotAnIndexError
from .geometry import check_pixels
from .types import UnreadableVideoError, VideoLimits

try:
    import av
except ImportError:
    av = None  # type: ignore[assignment]

# FFmpeg knows several hundred formats; playlists, scripts, devices and image sequences among them open other files.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,asf,flv,ogg"

# Times that the bytes of a file may be read as packets, and bytes that always may: an index may name one picture for
# each frame of a day.
MOST_TIMES_READ, SHORTEST_BYTES = 16, 2**20

# Frames of up to so many pixels are decoded sooner by one thread than by several that wait for each other.
ONE_THREAD_PIXELS = 384 * 384

# Where every packet holds the one frame that is shown at its time. Not so elsewhere: AVI has no presentation times, a
# seek in MPEG streams lands where it lands, VP8 has packets that show nothing. Decoders of MPEG-4 and MJPEG keep too
# much of what they have read for any packet to be an entry.
INDEXED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Frames that the decoders of these codecs hold back at most.
MOST_REORDERED = 16

# One time may stand for several packets, of which the first bears it: the two fields of a picture, or a few pictures.
# Where it stands for many, it may not be the first one's.
MPEG_STREAMS = ("mpegts", "mpeg")
PACKETS_PER_TIME = 2.5

# Receivers and recorders join these in the middle. Decoders of MPEG-1, MPEG-2 and H.264 pass over what lies before the
# first key frame, unless that of H.264 takes it for damage, as H.265's always does. Others draw it on gray.
JOINED_CONTAINERS = (*MPEG_STREAMS, "flv")
BEGIN_AT_KEY_FRAME = ("hevc", "mpeg4", "flv1")
# Elsewhere, what does not begin at a key frame is passed over or refused by the decoders of these, by no others.
KNOW_THEIR_BEGINNING = ("mpeg1video", "mpeg2video", "h264", "hevc", "vp8", "vp9", "av1")

# FFmpeg makes their presentation times up from the order of the packets; of MPEG-4 also from the kinds of pictures.
# There it is right, and needed: a packet may say that the picture before it stays, and show nothing.
WITHOUT_PRESENTATION_TIMES = ("avi",)

# FFmpeg leaves out the times of packets that are decoded more than 15 minutes before they are shown, as at a pause.
WITH_LOST_TIMES = ("flv",)

# Of MPEG-1 and MPEG-2: what begins a sequence's header or an extension, and bytes behind it.
_SEQUENCE_PART = re.compile(rb"\x00\x00\x01([\xb3\xb5])(?=(.{,6}))", re.DOTALL)
_PICTURE_START = b"\0\0\1\0"

# A decoder ends at what it would otherwise draw something in place of.
STRICT = {"err_detect": "explode"}


def _refuse_to_open(url: str, flags: int, options: dict) -> NoReturn:
    raise PermissionError(f"the file asks for another one, {url!r}")


def open_container(handle: BinaryIO) -> av.container.InputContainer:
    """Open a checked file object: known formats only, no other file, errors are errors.

    Raises:
        UnreadableVideoError: where FFmpeg does not recognize one of `CONTAINERS` or finds it damaged.
    """
    handle.seek(0)
    try:
        return av.open(
            handle,
            mode="r",
            container_options={"format_whitelist": CONTAINERS, "err_detect": "explode"},
            metadata_errors="ignore",
            buffer_size=2**18,
            io_open=_refuse_to_open,
        )
    except (av.FFmpegError, OSError) as error:
        raise ffmpeg_failure("not a readable video", error, reason=_format_reason(handle, error)) from error


def _format_reason(handle: BinaryIO, error: Exception) -> str | None:
    """What to do about a file of a format that is not read."""
    handle.seek(0)
    head = handle.read(12)
    beginnings = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "WebP": b"RIFF" + head[4:8] + b"WEBP"}
    for name, beginning in beginnings.items():
        if head.startswith(beginning):
            return f"it is a {name} picture or animation; give pictures as a list, and save an animation as GIF or MP4"
    # FFmpeg's word for a format that it knows and may not open, and for headers that say what cannot be.
    if getattr(error, "errno", None) == errno.EINVAL:
        return (
            f"it is damaged, or of a format that is not read; convert it, for example to MP4 (read are {CONTAINERS})"
        )
    return None


def ffmpeg_failure(what: str, error: Exception, *, reason: str | None = None) -> Exception:
    """The error to raise where FFmpeg fails: a `MemoryError` where it lacks memory, else one that says what is wrong.

    Args:
        what: What it failed at.
        error: What it says.
        reason: What is said in place of that.
    """
    if getattr(error, "errno", None) == errno.ENOMEM:
        return MemoryError()
    return UnreadableVideoError(f"{what}: {reason or ffmpeg_reason(error)}")


def ffmpeg_reason(error: Exception) -> str:
    """What FFmpeg says, without the file object's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class BeginsWithinError(UnreadableVideoError):
    """Some of H.264's first pictures refer to others that were cut away (open GOP), which a strict decoder refuses."""


def open_video_stream(
    container: av.container.InputContainer,
    limits: VideoLimits,
    threads: int,
    *,
    is_strict: bool = True,
    left_out: Collection[int] = (),
    is_picture: bool = False,
):
    """The container's `main_stream`, its decoder set to be strict, or else to be `watched`.

    Args:
        container: The file.
        limits: What it may cost.
        threads: Decoding threads.
        is_strict: Whether its decoder is to be strict.
        left_out: Numbers of tracks that are parts of another one's pictures.
        is_picture: Whether its streams are items of a picture file.

    Raises:
        UnreadableVideoError: as `main_stream`, of a picture that is none of its streams, or with frames beyond
            `limits.max_pixels`.
    """
    stream = main_stream(container, left_out)
    if is_picture and not _is_main(stream):
        raise UnreadableVideoError(
            "its main picture (HEIC, AVIF) is made from another one, or missing; save it as JPEG or PNG"
        )
    context = stream.codec_context
    # Not known yet where a broadcast's sound begins long before its picture.
    check_pixels(context.width, context.height, limits)
    # The decoder keeps to the limit where a frame further on is larger. It counts whole blocks, of up to 128 pixels.
    block_pixels = (context.width + 127) * (context.height + 127)
    max_pixels = min(max(limits.max_pixels, block_pixels), 2**31 - 1)
    context.options = {"max_pixels": str(max_pixels)} | (STRICT if is_strict else {})
    context.thread_count = threads if context.width * context.height > ONE_THREAD_PIXELS else 1
    context.thread_type = "AUTO"
    if context.thread_count > 1:
        with contextlib.suppress(av.FFmpegError, MemoryError):
            context.open()
        if not context.is_open:
            # Where the system allows no further threads, one does; of anything else it says the same again, when due.
            context.thread_count = 1
    return stream


def main_stream(container: av.container.InputContainer, left_out: Collection[int] = ()):
    """The video stream that players show, its decoder set to crop pictures as the stream says.

    Args:
        container: a file or a live source.
        left_out: numbers of tracks that are parts of another one's pictures.

    Raises:
        UnreadableVideoError: without a video stream or decoder, or of a picture made of tiles.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream) and stream.id not in left_out]
    if not streams:
        raise UnreadableVideoError("no video stream (is it audio only?)")
    best = container.streams.best("video")
    # As FFmpeg ranks them: those that a file holds for its main ones, then those of most frames.
    stream = best if best in streams else max(streams, key=lambda each: (_is_main(each), each.frames))
    if any(map(_is_tile, streams)) and not _is_main(stream):
        raise UnreadableVideoError("it is a picture made of tiles, as phones store HEIC; save it as JPEG or PNG")
    if stream.codec_context is None:
        raise UnreadableVideoError("no decoder for its video stream")
    # Else a cropping at the left is rounded down to 32 or 64 columns, and columns that are to be hidden are shown.
    stream.codec_context.flags |= av.codec.context.Flags.unaligned
    return stream


def _is_main(stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def _is_cover(stream) -> bool:
    """Whether the stream is the cover picture of a music file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_tile(stream) -> bool:
    """Whether the stream is a part of a picture. Its depth map or thumbnail may be another."""
    return bool(stream.disposition & av.stream.Disposition.dependent)


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video stream.

    Args:
        times: Presentation times in order: `times[i]` is that of frame i. In units of `time_base`. Of frames that
            share one, the last one is shown.
        decode_order: The same times in the order of the file.
        contents: Hashes of what they hold, in that order: a container may lead to others that bear the same times.
        positions: Where frame i lies in that order: `decode_order[positions[i]] == times[i]`.
        key_times: Presentation times of the key frames, in order.
        end: When the last frame ends.
        time_base: Seconds per unit.
        start_seconds: When the stream starts on a player's clock, which counts from the start of the file.
        frames_bear_times: Whether decoded frames bear the times. Otherwise they can only be counted off: in a file
            without presentation times, or without any. A packet that has none has its predecessor's in the table.
        num_lost_times: How many of those were lost, so that nothing tells when their frames are shown.
        frame_duration: How long a frame is shown at the file's own rate.
        entries: What decoding may leave out, where the times are an exact index into the frames, to be verified while
            decoding; None where all is to be decoded in order.
    """

    times: np.ndarray
    decode_order: np.ndarray
    contents: np.ndarray
    positions: np.ndarray
    key_times: np.ndarray
    end: int
    time_base: Fraction
    start_seconds: float
    frames_bear_times: bool
    num_lost_times: int
    frame_duration: int
    entries: Entries | None

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end."""
        return float((self.end - int(self.times[0])) * self.time_base)

    def seconds(self, time: int) -> float:
        """`time` in seconds after the start of the stream."""
        return float((time - int(self.times[0])) * self.time_base)

    @functools.cached_property
    def seconds_of_all(self) -> np.ndarray:
        """`seconds` of all times, float64 (packets,)."""
        return (self.times - self.times[0]) * float(self.time_base)

    def following(self, time: int) -> int:
        """When a frame without a time is shown, which comes out behind one of `time`: before the next, or the end."""
        index = np.searchsorted(self.times, time, side="right")
        bound = int(self.times[index]) if index < len(self.times) else self.end
        return min(time + self.frame_duration, (time + bound) // 2)

    def num_between(self, start: float, end: float) -> int:
        """How many packets are shown after one time in seconds and before another."""
        first, last = np.searchsorted(self.seconds_of_all, [start + 1e-6, end - 1e-6])
        return int(last - first)

    def position_at(self, seconds: float) -> int:
        """Where the first packet that is shown at a time lies in the file; -1 without one."""
        index = np.searchsorted(self.seconds_of_all, seconds - 1e-6)
        is_there = index < len(self.times) and self.seconds_of_all[index] <= seconds + 1e-6
        return int(self.positions[index]) if is_there else -1

    def end_of_those_before(self, seconds: float) -> int:
        """Up to which position frames may lie that come out before one that is shown before a time; -1 without one."""
        num_before = np.searchsorted(self.seconds_of_all, seconds - 1e-6)
        return int(self.positions[:num_before].max()) + MOST_REORDERED if num_before else -1


def read_packets(
    container: av.container.InputContainer, stream, limits: VideoLimits
) -> tuple[PacketTable, av.VideoFrame]:
    """Read every packet of `stream` and decode the first frame, which alone tells size and rotation for certain.

    Raises:
        UnreadableVideoError: on a damaged packet, no frame at all, or more than the limits allow.
        BeginsWithinError: on a damaged packet before the first frame is out, which may be none: see `watched`.
    """
    packets: list[_Packet] = []
    codec = stream.codec.canonical_name
    check = DAMAGE_CHECKS[codec](bytes(stream.codec_context.extradata or b"")) if codec in DAMAGE_CHECKS else None
    entries = order = None
    with contextlib.suppress(NotAnIndexError):
        if container.format.name in INDEXED_CONTAINERS and codec in ENTRIES:
            entries = ENTRIES[codec](bytes(stream.codec_context.extradata or b""))
            order = _ShownOrder(stream, entries)
    # Made up from the order of the packets, a time is that of the next one, which lies behind a gap.
    is_made_up = container.format.name in WITHOUT_PRESENTATION_TIMES and codec != "mpeg4"
    time_name = "dts" if is_made_up else "pts"
    duration = num_bytes = 0
    most_bytes = MOST_TIMES_READ * container.size if container.size > 0 else math.inf
    head = first = None
    try:
        for packet in demuxed(container, stream):
            head = head or packet
            num_bytes += packet.size
            if num_bytes > most_bytes + SHORTEST_BYTES:
                raise UnreadableVideoError(f"its packets have more than {MOST_TIMES_READ} times the bytes of the file")
            if first is None:
                first = next(iter(packet.decode()), None)
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise UnreadableVideoError(f"packet {len(packets)} is damaged")
            if len(packets) == limits.max_frames:
                raise UnreadableVideoError(f"more than {limits.max_frames} frames, which is VideoLimits.max_frames")
            if check is not None:
                if packet.has_sidedata("new_extradata"):
                    check = DAMAGE_CHECKS[codec](bytes(packet.get_sidedata("new_extradata")))
                check.look(bytes(packet), len(packets))
            if packet.is_discard:
                # It lies outside the edit list: decoded, but not shown.
                if codec == "gif":  # whose decoder shows it
                    raise UnreadableVideoError(
                        "its edit list hides pictures of GIF; save it as GIF, or encode it again"
                    )
                entries = None
                continue
            is_entry, content = False, b""
            if entries is not None and order is not None:
                content = bytes(packet)
                try:
                    is_entry = entries.is_entry(content, has_header=packet.has_sidedata("new_extradata"))
                    order.add(is_entry=is_entry)
                except NotAnIndexError:
                    entries = None
            is_key = packet.is_keyframe and is_entry
            packets.append(_Packet(getattr(packet, time_name), packet.dts, is_key, hash(content)))
            duration = max(packet.duration or 0, 0) or duration
    except av.FFmpegError as error:
        failure = ffmpeg_failure(f"damaged after {len(packets)} packets", error)
        is_first = first is None and isinstance(error, av.InvalidDataError)
        if is_first and head is not None and _begins_within(stream, head):
            failure = BeginsWithinError(str(failure))
        raise failure from error
    if not packets or first is None or head is None:
        raise UnreadableVideoError("a video stream without frames")
    if codec not in KNOW_THEIR_BEGINNING and not _stands_alone(head, first):
        raise UnreadableVideoError(
            "its first picture refers to others that were cut away; cut it at a key frame, or encode it again"
        )
    places = None
    with contextlib.suppress(NotAnIndexError):
        places = order.places() if entries is not None and order is not None else None
    table = _table(packets, duration, stream, entries, places, first_dts=head.dts)
    # A picture that begins long after the sound makes the file no shorter.
    seconds = table.start_seconds + table.duration_seconds
    limits.check("max_duration_seconds", seconds, f"{seconds:.0f} seconds long")
    return table, first


def demuxed(container: av.container.InputContainer, stream) -> Iterator[av.Packet]:
    """The packets of `stream`, with empty ones where its decoder is to give out all that it holds back.

    Of what was joined in the middle, those from the first key frame on, where the decoder would not see to that.

    Raises:
        UnreadableVideoError: another stream begins further on; PyAV knows only those that the file's beginning
            announces. Or the codec of FLV changes, of which FFmpeg makes another stream.
    """
    if container.format.name == "flv":
        packets = _of_one_codec(container, stream)
    else:
        packets = container.demux(stream)
    if container.format.name in JOINED_CONTAINERS and stream.codec.canonical_name in BEGIN_AT_KEY_FRAME:
        packets = from_key_frame(packets)
    if stream.codec.canonical_name in ("mpeg1video", "mpeg2video"):
        packets = _by_sequence(packets, stream)
    try:
        yield from packets
    except IndexError as error:
        raise UnreadableVideoError(
            "a stream begins in the middle of the file that its beginning does not announce"
        ) from error


def _of_one_codec(container: av.container.InputContainer, stream) -> Iterator[av.Packet]:
    # Streams that differ in their number are further tracks.
    for packet in container.demux([other for other in container.streams.video if other.id == stream.id]):
        if packet.stream.index == stream.index:
            yield packet
        elif packet.size:
            raise UnreadableVideoError(
                "its video changes its codec; read the parts by themselves, or encode them again as one"
            )


def from_key_frame(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """The first key frame and what follows; of packets without one, the empty one at the end."""
    return itertools.dropwhile(lambda packet: packet.size > 0 and not packet.is_keyframe, packets)


class _Sequence(NamedTuple):
    """What FFmpeg's decoder of MPEG-1 and MPEG-2 is set up for by a sequence's header and its extension."""

    width: int = 0
    height: int = 0
    # As its extension has them; these are those of MPEG-1, which has none.
    is_progressive: bool = True
    chroma_format: int = 1
    # Whether pictures come in the order in which they are shown.
    is_in_order: bool = False

    def after(self, head: bytes) -> _Sequence:
        """What it is set up for by what stands in front of a picture."""
        sequence = self
        for part in _SEQUENCE_PART.finditer(head):
            bits = int.from_bytes(part[2].ljust(6, b"\0"), "big")
            if part[1] == b"\xb3":
                sequence = _Sequence(bits >> 36, bits >> 24 & 4095, is_in_order=sequence.is_in_order)
            elif bits >> 44 == 1:
                width, height = sequence.width | (bits >> 31 & 3) << 12, sequence.height | (bits >> 29 & 3) << 12
                # Fields need pairs of rows of blocks: where these are even, nothing changes.
                is_progressive = bool(bits >> 35 & 1) or -(-height // 16) % 2 == 0
                sequence = _Sequence(width, height, is_progressive, bits >> 33 & 3, bool(bits >> 7 & 1))
        return sequence


def _by_sequence(packets: Iterator[av.Packet], stream) -> Iterator[av.Packet]:
    """The packets of MPEG-1 or MPEG-2, with an empty one before each with which another sequence begins.

    FFmpeg's decoder is set up again there, and would drop the picture that it holds back until the next one has come.
    """
    last = _Sequence().after(bytes(stream.codec_context.extradata or b""))
    for number, packet in enumerate(packets):
        # Behind the beginning of a picture, a strict decoder takes a header for damage.
        sequence = last.after(bytes(packet).partition(_PICTURE_START)[0])
        if number and sequence != last:
            end = av.Packet()
            end.stream = stream
            yield end
            stream.codec_context.flush_buffers()
        last = sequence
        yield packet


def _stands_alone(head: av.Packet, first: av.VideoFrame) -> bool:
    """Whether a stream's first picture refers to none: by the picture, or by the container where that says nothing.

    The first frame may be of another packet, where those before it are outside of the edit list.
    """
    if head.is_discard or first.pict_type == av.video.frame.PictureType.NONE:
        return head.is_keyframe
    kinds = av.video.frame.PictureType
    return first.pict_type not in (kinds.P, kinds.B, kinds.S)


def _begins_within(stream, head: av.Packet) -> bool:
    """Whether H.264 begins at a key frame that does not refresh the decoder (IDR), or was joined in the middle."""
    if stream.codec.canonical_name != "h264":
        return False
    if not head.is_keyframe:
        return stream.container.format.name in JOINED_CONTAINERS
    try:
        return not _holds_units(head, stream, "5")
    except (av.FFmpegError, ValueError):
        return False


def _holds_units(packet: av.Packet, stream, kinds: str) -> bool:
    """Whether units of these kinds are in a packet of H.264 or H.265."""
    units = av.bitstream.BitStreamFilterContext(f"filter_units=pass_types={kinds}", stream)
    return bool(units.filter(av.Packet(bytes(packet))))


def watched(packets: Iterator[av.Packet], stream) -> Iterator[av.Packet]:
    """The packets of a stream that lacks a part of a recording, for its lenient decoder.

    Of H.265 all pictures that are shown before a key frame (RASL) may refer to others that were cut away, wherever it
    is: a lenient decoder shows none of them, a strict one calls them damaged. What comes of such a packet all the same
    has an `opaque`.

    Of H.264 the beginning was cut away; what is left of it before a key frame is passed over. A strict decoder takes
    for damage what takes back pictures that went with it, and loses the frame that is due then. So it only watches,
    from its first frame on. What is decoded until then is watched in another lenient one, which must draw nothing in
    place of damage and show the key frame first: before it go the pictures that no player shows.

    Raises:
        UnreadableVideoError: damage at the beginning.
        av.FFmpegError: damage further on.
    """
    strict, lenient = (_watching_decoder(stream, options) for options in (STRICT, {}))
    is_h265 = stream.codec.canonical_name == "hevc"
    stream.codec_context.copy_opaque = True
    has_begun, first_time = is_h265, None
    shown: list[av.VideoFrame] = []
    # Of H.265, whether the pictures before the last key frame are passed over, where one has come.
    passes: bool | None = None
    for packet in packets if is_h265 else from_key_frame(packets):
        if has_begun:
            leads = is_h265 and _holds_units(packet, stream, "8-9")
            failure = _failure(strict, packet)
            if failure and (not leads or passes is False):
                raise failure
            if leads and passes and not failure:
                raise UnreadableVideoError("some of the pictures before a key frame are damaged")
            passes = bool(failure) if leads else None
            if failure:
                # PyAV keeps them by their identity.
                packet.opaque = object()
        else:
            # Without the mark of frames that are decoded and not shown.
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            first_time = packet.pts if first_time is None else first_time
            shown += lenient.decode(copy)
            with contextlib.suppress(av.InvalidDataError):
                has_begun = bool(strict.decode(copy)) or packet.size == 0
            if has_begun:
                shown += lenient.decode(None) if packet.size else []
                if not shown or shown[0].pts != first_time or any(frame.is_corrupt for frame in shown):
                    raise UnreadableVideoError(
                        "its first pictures are damaged, or refer to others that were cut away; cut it at another key "
                        "frame, or encode it again"
                    )
        yield packet


def _failure(decoder: av.VideoCodecContext, packet: av.Packet) -> av.InvalidDataError | None:
    """What a strict decoder takes for damage in the next packet."""
    try:
        decoder.decode(packet)
    except av.InvalidDataError as error:
        return error
    return None


def _watching_decoder(stream, options: dict[str, str]) -> av.VideoCodecContext:
    context = av.CodecContext.create(stream.codec.name, "r")
    context.extradata = stream.codec_context.extradata
    context.options = options | {"max_pixels": stream.codec_context.options["max_pixels"]}
    context.thread_count = 1
    return context


class _Packet(NamedTuple):
    time: int | None
    decode_time: int | None
    is_key: bool
    content: int


def _check_rate(packets: list[_Packet], rate: Fraction, time_base: Fraction) -> None:
    """Refuse packets whose few times are not those of frames at this rate, by which all are to be counted off."""
    # Unlike those of presentation, in the order of the file.
    known = [
        (place, each.decode_time) for place, each in enumerate(packets) if None not in (each.time, each.decode_time)
    ]
    steps = np.diff(np.array(known, dtype=np.int64).reshape(-1, 2), axis=0)
    # A clock that goes back is that of another file, which was joined.
    steps = steps[steps[:, 1] > 0]
    num_packets, ticks = np.vstack([steps, steps.sum(axis=0)]).T
    # A time may stand for the packet before or behind its own; 29.97 is often called 30.
    if np.any(np.abs(ticks * float(time_base * rate) - num_packets) > 2 + num_packets / 100):
        raise UnreadableVideoError(
            "most of its pictures have no times, and the times of the others do not fit its "
            f"{float(rate):g} frames per second; encode it again, for example as MP4"
        )


def _table(
    packets: list[_Packet],
    duration: int,
    stream,
    entries: Entries | None,
    places: list[int] | None,
    *,
    first_dts: int | None,
) -> PacketTable:
    container = stream.container.format.name
    known_times = [packet.time for packet in packets if packet.time is not None]
    num_times, num_missing = len(set(known_times)), len(packets) - len(known_times)
    # A few packets may bear the time of others, as where a recorder counts in milliseconds.
    has_times = 2 * num_times > len(known_times)
    rate = Fraction(stream.average_rate or stream.base_rate or 25)
    if num_missing and container not in WITH_LOST_TIMES:
        is_shared = container in MPEG_STREAMS and len(packets) <= PACKETS_PER_TIME * len(known_times)
        if has_times and not is_shared and container in MPEG_STREAMS:
            _check_rate(packets, rate, stream.time_base)
        has_times = has_times and is_shared
    if num_times < len(packets):
        entries = None
    if has_times:
        time_base = stream.time_base
        last = known_times[0]
        read_times = [last := last if packet.time is None else packet.time for packet in packets]
        duration = duration or (int(np.median(np.diff(np.unique(known_times)))) if num_times > 1 else 1)
        # What lies behind the last one without a time is shown as long again.
        end = max(known_times)
        duration *= 1 + sum(packet.time is None and time == end for packet, time in zip(packets, read_times))
    else:
        # No usable times: frames at the declared rate, in the order in which they come out.
        time_base = 1 / rate
        duration, entries = 1, None
        read_times = list(range(len(packets)))
    decode_order = np.array(read_times, dtype=np.int64)
    keys = [packet.is_key for packet in packets]
    times = np.sort(decode_order)
    bear_times = has_times and container not in WITHOUT_PRESENTATION_TIMES
    file_start = _file_start(stream, int(times[0]) * time_base)
    start = file_start
    if has_times:
        # Times that were made up hold a decoder's delay; the first packet's place in the file does not.
        start = int(times[0]) * time_base if bear_times else (first_dts or 0) * time_base
    positions = np.argsort(decode_order, kind="stable")
    if places is None or not (
        keys[0]
        and np.array_equal(np.argsort(places), positions)
        and _can_be_given_out(places, stream.codec_context.reorder_depth)
    ):
        # Frames would have other numbers by their times than by counting, or no entry.
        entries = None
    return PacketTable(
        times=times,
        decode_order=decode_order,
        contents=np.array([packet.content for packet in packets], dtype=np.int64),
        positions=positions,
        key_times=np.sort(decode_order[keys]),
        end=int(times[-1]) + duration,
        time_base=time_base,
        start_seconds=max(0.0, float(start - file_start)),
        frames_bear_times=bear_times or (has_times and _is_mpeg4_in_its_own_packets(stream, decode_order)),
        num_lost_times=num_missing if container in WITH_LOST_TIMES else 0,
        frame_duration=round(1 / rate / time_base),
        entries=entries,
    )


def _is_mpeg4_in_its_own_packets(stream, decode_order: np.ndarray) -> bool:
    """Whether each picture of MPEG-4 lies in the packet of its time: not so where one packet holds two (DivX's)."""
    is_reordered = bool((np.diff(decode_order) < 0).any())
    return stream.codec.canonical_name == "mpeg4" and (is_reordered or stream.codec_context.reorder_depth == 0)


def _file_start(stream, first: Fraction) -> Fraction:
    """Where the clock of a player starts, in seconds of the stream: files start at any number.

    Players count from the earliest of a file's streams; of a broadcast's, each program has a clock of its own. FFmpeg
    does not know where a single picture of MPEG begins.

    Args:
        stream: Of the pictures.
        first: When the first one is shown.
    """
    container = stream.container
    if container.format.name != "mpegts":
        return first if container.start_time is None else Fraction(container.start_time, av.time_base)
    streams = [stream]
    sound = container.streams.best("audio", related=stream)
    # Where its program has none, FFmpeg gives the sound of another one, to which another picture belongs.
    if sound is not None and container.streams.best("video", related=sound).index == stream.index:
        streams.append(sound)
    return min((each.start_time * each.time_base for each in streams if each.start_time is not None), default=first)


class _ShownOrder:
    """The order in which a stream's pictures are shown by what its packets say, whatever their times.

    A decoder of H.264 or H.265 goes by numbers in the pictures (picture order counts). Those of H.264 are read by a
    filter of FFmpeg, which gives each packet the time at which its picture is shown, if one comes and one is shown per
    unit of time; with H.265 it ends the process. Decoders of the others give the pictures out as they come.

    Args:
        stream: Whose packets they are.
        entries: Of the stream.
    """

    def __init__(self, stream, entries: Entries):
        self._stream, self._entries = stream, entries
        # Of each packet how often numbers have restarted, and the number of its picture.
        self._numbers: list[tuple[int, int]] = []
        self._num_restarts = 0
        # Since the last entry.
        self._filter: av.bitstream.BitStreamFilterContext | None = None
        self._times: list[int | None] = []
        self._num_packets, self._num_sent, self._first = 0, 0, b""

    def add(self, *, is_entry: bool) -> None:
        """The next packet in the order of the file, into which the entries have looked.

        Raises:
            NotAnIndexError: its picture's number is not understood.
        """
        number = self._entries.picture_number()
        if not isinstance(number, bytes):
            self._num_restarts += number[0]
            self._numbers.append((self._num_restarts, number[1]))
            return
        # The filter numbers a few behind an entry wrongly, but for the first one.
        if is_entry:
            self._end()
        if self._num_packets == 0:
            self._first = number
        else:
            if self._num_packets == 1:
                self._pass_on(self._first)
            self._pass_on(number)
        self._num_packets += 1

    def places(self) -> list[int]:
        """Of each packet the place of its picture among all that are shown.

        Raises:
            NotAnIndexError: the packets do not tell.
        """
        self._end()
        if len(set(self._numbers)) < len(self._numbers):
            raise NotAnIndexError("pictures without an order")
        restarts, numbers = np.array(self._numbers, dtype=np.int64).T
        order = np.lexsort((numbers, restarts))
        steps, is_within = np.diff(numbers[order]), np.diff(restarts[order]) == 0
        is_gap = is_within & (steps > steps[is_within].min(initial=np.iinfo(np.int64).max))
        if self._entries.are_some_skippable and is_gap.any():
            raise NotAnIndexError("pictures that may refer to others that were cut away")
        return np.argsort(order).tolist()

    def _end(self) -> None:
        if self._filter is None:
            # A picture by itself.
            self._times = [0] * self._num_packets
        # A place is known once all pictures before it have come: the first one again, as often as that takes.
        for content in [self._first] * (MOST_REORDERED + 1) + [None]:
            if len(self._times) >= self._num_packets:
                break
            self._pass_on(content)
        times = [time for time in self._times[: self._num_packets] if time is not None]
        if len(times) < self._num_packets:
            raise NotAnIndexError("pictures without an order")
        self._numbers += [(self._num_restarts, time) for time in times]
        self._num_restarts += 1
        self._filter, self._times = None, []
        self._num_packets, self._num_sent, self._first = 0, 0, b""

    def _pass_on(self, content: bytes | None) -> None:
        packet = None
        if content is not None:
            packet = av.Packet(content)
            packet.dts, packet.duration = self._num_sent, 1
            self._num_sent += 1
        try:
            if self._filter is None:
                self._filter = av.bitstream.BitStreamFilterContext("dts2pts", self._stream)
            self._times += [filtered.pts for filtered in self._filter.filter(packet)]
        except (av.FFmpegError, ValueError) as error:
            raise NotAnIndexError("pictures whose order is not understood") from error


def _can_be_given_out(places: Sequence[int], reorder_depth: int) -> bool:
    """Whether a decoder can give pictures out in this order: one that reorders holds back a few, and others none.

    Args:
        places: of the packets in the order of the file, the place of each one's picture among all that are shown.
        reorder_depth: how many the decoder holds back from the beginning. One of H.264 that needs more finds out when
            it is too late for a picture, which it leaves out, and so at each entry another one.
    """
    last_ones = [places[0]]
    for place in places[1:]:
        if len(last_ones) <= reorder_depth:
            heapq.heappush(last_ones, place)
        elif place < last_ones[0]:
            # More than that many are shown later, and came before it.
            return False
        else:
            heapq.heapreplace(last_ones, place)
    return True
