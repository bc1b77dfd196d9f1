"""The strict opening of a container, and the table of its packets: which frame lies where, before any is decoded.

A header may lie about the number of frames or not give it; the packets do not. Reading them costs a hundredth of
decoding them, and their presentation times, sorted, say which frame has which index and from which key frame on it
can be decoded.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, NoReturn, TypeVar

import numpy as np

from .entries import ENTRIES, Entries
from .geometry import check_pixels
from .types import UnreadableVideoError, VideoLimits

try:
    import av
except ImportError:
    av = None  # type: ignore[assignment]


Item = TypeVar("Item")

# FFmpeg knows several hundred formats; playlists, scripts, devices and image sequences among them open other files.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,asf,flv,ogg"

# Frames of up to so many pixels are decoded sooner by one thread than by several that wait for each other.
ONE_THREAD_PIXELS = 384 * 384

# Where every packet holds the one frame that is shown at its time. Not so elsewhere: AVI has no presentation times, a
# seek in MPEG streams lands where it lands, VP8 has packets that show nothing. Decoders of MPEG-4 and MJPEG keep too
# much of what they have read for any packet to be an entry.
INDEXED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Frames that the decoders of these codecs hold back at most.
MOST_REORDERED = 16

# FFmpeg makes their presentation times up from the order of the packets.
WITHOUT_PRESENTATION_TIMES = ("avi",)


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
        raise UnreadableVideoError(
            f"not a readable video: {_picture_reason(handle) or ffmpeg_reason(error)}"
        ) from error


def _picture_reason(handle: BinaryIO) -> str | None:
    """What to do about a file of a format that holds animations, too, and is not read."""
    handle.seek(0)
    head = handle.read(12)
    name = "PNG" if head.startswith(b"\x89PNG") else "WebP" if head[:4] + head[8:] == b"RIFFWEBP" else None
    return name and f"it is a {name} picture or animation; save an animation as GIF or MP4"


def ffmpeg_reason(error: Exception) -> str:
    """What FFmpeg says, without the file object's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def open_video_stream(container: av.container.InputContainer, limits: VideoLimits, threads: int):
    """The container's main video stream, its decoder set to be strict.

    Raises:
        UnreadableVideoError: without a video stream or decoder, or with frames beyond `limits.max_pixels`.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise UnreadableVideoError("no video stream (is it audio only?)")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None:
        raise UnreadableVideoError("no decoder for its video stream")
    if context.width * context.height == 0:
        raise UnreadableVideoError("the size of its frames cannot be read")
    check_pixels(context.width, context.height, limits)
    # The decoder keeps to the limit where a frame further on is larger. It counts whole blocks, of up to 128 pixels.
    block_pixels = (context.width + 127) * (context.height + 127)
    context.options = {
        "err_detect": "explode",
        "max_pixels": str(min(max(limits.max_pixels, block_pixels), 2**31 - 1)),
    }
    context.thread_count = threads if context.width * context.height > ONE_THREAD_PIXELS else 1
    context.thread_type = "AUTO"
    return stream


def _is_cover(stream) -> bool:
    """Whether the stream is the cover picture of a music file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video stream.

    Args:
        times: Presentation times in order: `times[i]` is that of frame i. In units of `time_base`.
        decode_order: The same times in the order of the file.
        positions: Where frame i lies in that order: `decode_order[positions[i]] == times[i]`.
        key_times: Presentation times of the key frames, in order.
        end: When the last frame ends.
        time_base: Seconds per unit.
        start_seconds: When the stream starts on a player's clock, which counts from the start of the file.
        frames_bear_times: Whether a decoded frame bears one of the times. Otherwise they can only be counted off: in a
            file without presentation times, or without any.
        entries: What decoding may leave out, where the times are an exact index into the frames, to be verified while
            decoding; None where all is to be decoded in order.
    """

    times: np.ndarray
    decode_order: np.ndarray
    positions: np.ndarray
    key_times: np.ndarray
    end: int
    time_base: Fraction
    start_seconds: float
    frames_bear_times: bool
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

    def num_between(self, start: float, end: float) -> int:
        """How many packets are shown after one time in seconds and before another."""
        first, last = np.searchsorted(self.seconds_of_all, [start + 1e-6, end - 1e-6])
        return int(last - first)


def read_packets(
    container: av.container.InputContainer, stream, limits: VideoLimits
) -> tuple[PacketTable, av.VideoFrame]:
    """Read every packet of `stream` and decode the first frame, which alone tells size and rotation for certain.

    Raises:
        UnreadableVideoError: on a damaged packet, no frame at all, or more than the limits allow.
    """
    packets: list[tuple[int | None, bool]] = []
    codec = stream.codec.canonical_name
    entries = None
    if container.format.name in INDEXED_CONTAINERS and codec in ENTRIES:
        entries = ENTRIES[codec](bytes(stream.codec_context.extradata or b""))
    duration = 0
    first = None
    try:
        for packet in announced(container.demux(stream)):
            if first is None:
                first = next(iter(packet.decode()), None)
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise UnreadableVideoError(f"packet {len(packets)} is damaged")
            if len(packets) == limits.max_frames:
                raise UnreadableVideoError(f"more than {limits.max_frames} frames, which is VideoLimits.max_frames")
            if packet.is_discard:
                # It lies outside the edit list: decoded, but not shown.
                entries = None
                continue
            is_entry = False
            if entries is not None:
                is_entry = entries.is_entry(bytes(packet), has_header=packet.has_sidedata("new_extradata"))
                entries = entries if entries.are_exact else None
            packets.append((packet.pts, packet.is_keyframe and is_entry))
            duration = max(packet.duration or 0, 0) or duration
    except av.FFmpegError as error:
        raise UnreadableVideoError(f"damaged after {len(packets)} packets: {ffmpeg_reason(error)}") from error
    if not packets or first is None:
        raise UnreadableVideoError("a video stream without frames")
    table = _table(packets, duration, stream, entries)
    # A picture that begins long after the sound makes the file no shorter.
    seconds = table.start_seconds + table.duration_seconds
    limits.check("max_duration_seconds", seconds, f"{seconds:.0f} seconds long")
    return table, first


def announced(items: Iterator[Item]) -> Iterator[Item]:
    """What PyAV demuxes or decodes of a container; it knows only the streams that the file's beginning announces.

    Raises:
        UnreadableVideoError: another stream begins further on.
    """
    try:
        yield from items
    except IndexError as error:
        raise UnreadableVideoError(
            "a stream begins in the middle of the file that its beginning does not announce"
        ) from error


def _table(packets: list[tuple[int | None, bool]], duration: int, stream, entries: Entries | None) -> PacketTable:
    has_times = all(time is not None for time, _ in packets) and len({time for time, _ in packets}) == len(packets)
    if not has_times:
        # No usable times: frames at the declared rate, in the order in which they come out.
        rate = stream.average_rate or stream.base_rate or Fraction(25)
        packets = [(index, is_key) for index, (_, is_key) in enumerate(packets)]
        duration, time_base, entries = 1, 1 / Fraction(rate), None
    else:
        time_base = stream.time_base
    decode_order = np.array([time for time, _ in packets], dtype=np.int64)
    keys = [is_key for _, is_key in packets]
    times = np.sort(decode_order)
    frames_bear_times = has_times and stream.container.format.name not in WITHOUT_PRESENTATION_TIMES
    # Files start at any number; players count from the earliest of their streams.
    file_start = Fraction(stream.container.start_time or 0, av.time_base)
    if entries is not None and not (
        keys[0] and _is_display_order(decode_order.tolist(), keys, stream.codec_context.reorder_depth, entries)
    ):
        entries = None
    return PacketTable(
        times=times,
        decode_order=decode_order,
        positions=np.argsort(decode_order, kind="stable"),
        key_times=np.sort(decode_order[keys]),
        end=int(times[-1]) + (duration or (int(np.median(np.diff(times))) if len(times) > 1 else 1)),
        time_base=time_base,
        start_seconds=max(0.0, float(int(times[0]) * time_base - file_start)) if frames_bear_times else 0.0,
        frames_bear_times=frames_bear_times,
        entries=entries,
    )


def _is_display_order(times: Sequence[int], keys: Sequence[bool], reorder_depth: int, entries: Entries) -> bool:
    """Whether the packets' times can be in the order in which a decoder gives their frames out.

    A decoder that reorders nothing gives them out as they come, the others hold back a few; and what comes before a
    key frame is shown before it (H.265, 8.1.3; H.264 alike), and what comes behind it, behind it, but for pictures of
    H.265 that lead it. A file may say otherwise, and frames would have other numbers by their times than by counting.

    Args:
        times: of the packets, in the order of the file.
        keys: whether each is a key frame.
        reorder_depth: what the decoder says of the stream; more than 0 may be too few.
        entries: of the stream.
    """
    depth = MOST_REORDERED if reorder_depth else 0
    latest, last_ones = times[0], [times[0]]
    earliest = times[0]
    for time, is_key in zip(times[1:], keys[1:]):
        if (is_key and time < latest) or time < earliest:
            return False
        if is_key and not entries.are_led:
            earliest = time
        latest = max(latest, time)
        if len(last_ones) <= depth:
            heapq.heappush(last_ones, time)
        elif time < last_ones[0]:
            # More than that many are shown later, and came before it.
            return False
        else:
            heapq.heapreplace(last_ones, time)
    return True
