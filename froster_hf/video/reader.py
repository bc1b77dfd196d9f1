"""The strict reader: the frames at given indices, exactly, with PyAV.

Two ways, one answer. Where the packet table is an exact index (`packets.py`), the reader enters the file at
the key frame before each wanted frame, decodes forward, and takes frames by their presentation time:

    packets, in the order of the file    I0 P4 B2 b1 b3 | I8 B6 b5 b7 P12 B10 ...
    wanted: the frame at time 10                          ^ enter here; 6, 5 and 7 are shown before I8 and need P4:
                                                            pass over them, decode up to B10, stop

Anything unexpected on that way, and every other file, is read from its first frame to its last, counting.

A frame leaves the reader as a player shows it: turned and mirrored as the file's display matrix says, with square
pixels.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from .boxes import auxiliary_tracks, encrypted_tracks, holds_tracks, stated_pixels
from .entries import NotAnIndexError
from .geometry import Projector, check_fields, check_pixels, have_one_shape, read_position, square_size
from .packets import (
    INDEXED_CONTAINERS,
    BeginsWithinError,
    demuxed,
    ffmpeg_failure,
    open_container,
    open_video_stream,
    read_packets,
    watched,
)
from .truncation import check_complete, check_samples, check_settings
from .types import UnreadableVideoError, VideoInfo, VideoLimits

try:
    import av
except ImportError:
    av = None  # type: ignore[assignment]

# By which a frame may come out too late where a video was cut, how many may, and at how many places: so many, and one
# of so many packets.
LATE_SECONDS = 0.5
MOST_LATE, PACKETS_PER_LATE = 16, 2
MOST_CUTS, PACKETS_PER_CUT = 4, 50

# A frame with its index and its time in seconds after the start of the video stream; uint8 (h, w, 3), upright.
IndexedFrame = tuple[int, float, np.ndarray]


def load() -> None:
    """Import PyAV, or say what is wrong with it."""
    importlib.import_module("av")


class FrameCountError(Exception):
    """The file decodes to `num_frames`, which is not its number of packets."""

    def __init__(self, num_frames: int):
        super().__init__(f"{num_frames} frames")
        self.num_frames = num_frames


class StrictReader:
    """Reads frames of one video file with PyAV. Use it in a `with` statement.

    Args:
        handle: A seekable file object of a checked file.
        limits: What the file may cost.
        threads: Decoding threads.

    Raises:
        UnreadableVideoError: here and from every method, where the file is damaged or beyond the limits.
    """

    def __init__(self, handle: BinaryIO, *, limits: VideoLimits, threads: int = 1):
        self._handle, self._limits, self._threads = handle, limits, threads
        self._container = open_container(handle)
        self._is_strict = True
        self._projector = Projector()
        try:
            position = handle.tell()
            check_complete(handle, self._container.format.name)
            check_settings(handle, self._container.format.name)
            has_index = self._container.format.name in INDEXED_CONTAINERS
            is_mp4 = self._container.format.name == "mov,mp4,m4a,3gp,3g2,mj2"
            self._left_out = auxiliary_tracks(handle) if is_mp4 else set()
            self._encrypted = encrypted_tracks(handle) if is_mp4 else set()
            self._is_picture = is_mp4 and not holds_tracks(handle)
            self._size = handle.seek(0, os.SEEK_END)
            handle.seek(position)
            try:
                first = self._begin()
            except BeginsWithinError:
                self._is_strict = False
                self._container.close()
                self._container = open_container(handle)
                first = self._begin()
            self._position = read_position(first)
            self._rotation = first.rotation
            self._pixel_aspect = self._stream.codec_context.sample_aspect_ratio
            self._coded_size = (first.width, first.height)
            check_pixels(*self._coded_size, limits)
            check_fields(first, self._stream.codec.canonical_name)
            position = handle.tell()
            stated = stated_pixels(handle, self._stream.id) if is_mp4 else []
            handle.seek(position)
            self._check_stated(stated)
            # One that the container states holds for all frames, whatever a decoder finds.
            self._is_shape_stated = all(shape for shape, _ in stated) if is_mp4 else has_index
            pixel_aspect = self._stream.sample_aspect_ratio or self._pixel_aspect
            self._square_size = square_size(self._coded_size, pixel_aspect, limits)
        except BaseException:
            self._container.close()
            raise
        self._is_indexed = self.table.entries is not None
        width, height = self._position.size_of(self._square_size)
        num_frames = len(self.table.times)
        self.info = VideoInfo(
            num_frames=num_frames,
            fps=num_frames / self.table.duration_seconds,
            duration_seconds=self.table.duration_seconds,
            start_seconds=self.table.start_seconds,
            height=height,
            width=width,
            rotation=self._position.quarter_turns * 90,
            is_mirrored=self._position.is_mirrored,
            container=self._container.format.name,
            codec=self._stream.codec.canonical_name,
            backend="pyav",
        )

    def _begin(self) -> av.VideoFrame:
        self._stream = self._open_stream(self._container)
        if self._stream.id in self._encrypted:
            raise UnreadableVideoError("its pictures are encrypted; decrypt it first, with its key")
        self.table, first = read_packets(self._container, self._stream, self._limits)
        position = self._handle.tell()
        check_samples(self._stream, len(self.table.times), self._handle)
        self._handle.seek(position)
        return first

    def _open_stream(self, container: av.container.InputContainer):
        return open_video_stream(
            container,
            self._limits,
            self._threads,
            is_strict=self._is_strict,
            left_out=self._left_out,
            is_picture=self._is_picture,
        )

    def __enter__(self) -> StrictReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def read(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """The frames at `indices`, by index.

        Raises:
            FrameCountError: where `info.num_frames` was wrong; it is right afterwards, so that indices can be chosen
                again.
        """
        wanted = set(indices)
        if self._is_indexed:
            try:
                return {index: frame for index, _, frame in self._by_index(sorted(wanted))}
            except (NotAnIndexError, UnreadableVideoError):
                self._is_indexed = False
        announced = self.info.num_frames
        frames = {index: self.picture(frame) for index, _, frame in self._in_order() if index in wanted}
        if self.info.num_frames != announced:
            raise FrameCountError(self.info.num_frames)
        return frames

    def count(self) -> None:
        """Make `info.num_frames` certain, by decoding the whole file where the packets do not tell it."""
        if not self._is_indexed:
            with contextlib.suppress(FrameCountError):
                self.read([])

    def stream(self, times_seconds: Sequence[float] | None) -> Iterator[IndexedFrame]:
        """One frame after the other, of which only one is held.

        Args:
            times_seconds: Sorted times after the start of the stream; for each, the frame that is shown then is
                yielded (the first one for times before it, the last one for times after the end). None yields every
                frame once.
        """
        if times_seconds is None:
            yield from self._all_frames()
            return
        # Rounding must not turn a frame's own time into one just before it.
        asked = [time + 1e-6 for time in times_seconds]
        answered = 0
        if self._is_indexed:
            shown_at = np.searchsorted(self.table.seconds_of_all, asked, side="right")
            indices = np.maximum(shown_at - 1, 0).tolist()
            repeats = [len(list(group)) for _, group in itertools.groupby(indices)]
            try:
                for frame, count in zip(self._by_index(list(dict.fromkeys(indices))), repeats):
                    for _ in range(count):
                        yield frame
                    answered += count
                return
            except (NotAnIndexError, UnreadableVideoError):
                self._is_indexed = False
        yield from self._shown_at(asked[answered:])

    def _all_frames(self) -> Iterator[IndexedFrame]:
        done = -1
        if self._is_indexed:
            try:
                for frame in self._by_index(range(self.info.num_frames)):
                    yield frame
                    done = frame[0]
                return
            except (NotAnIndexError, UnreadableVideoError):
                self._is_indexed = False
        for index, seconds, decoded in self._by_time():
            if index > done:
                yield index, seconds, self.picture(decoded)

    def _shown_at(self, asked: Sequence[float]) -> Iterator[IndexedFrame]:
        """For each of sorted times the frame that is shown then, by the times that the decoded frames bear."""
        remaining = iter(asked)
        time = next(remaining, None)
        shown: tuple[int, float, av.VideoFrame] | None = None
        # Behind a frame that is shown much later than the one before it there may be others, to be shown before it.
        # Those before the first one may also have been cut off from what they refer to; then they never come out.
        skips, has_begun, awaited = False, False, -1
        frames = self._by_time()
        for following in itertools.chain(frames, [None]):
            picture = None
            if following is not None:
                if shown is None:
                    awaited = self.table.end_of_those_before(following[1])
                else:
                    skips = skips or self.table.num_between(shown[1], following[1]) > 0
                has_begun = has_begun or self.table.position_at(following[1]) > awaited
            while shown is not None and time is not None and (following is None or time < following[1]):
                picture = self.picture(shown[2]) if picture is None else picture
                yield shown[0], shown[1], picture
                time = next(remaining, None)
            if time is None and has_begun and not skips:
                return
            shown = following

    def _by_time(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """As `_in_order`, without frames that come out a little too late, as players leave them out.

        Where videos were cut and put together, frames up to a key frame lie on both sides of a border. One that lies
        further back, and more of them at more places, would be hidden by what is shown later.
        """
        if self.table.num_lost_times:
            raise UnreadableVideoError(
                f"{self.table.num_lost_times} of its frames have no time, as where a recording pauses for more than "
                "15 minutes; frames can be read by index, or cut the video at the pause"
            )
        last, late, cuts, is_late = -math.inf, 0, 0, False
        most_late = MOST_LATE + len(self.table.times) // PACKETS_PER_LATE
        most_cuts = MOST_CUTS + len(self.table.times) // PACKETS_PER_CUT
        for index, seconds, frame in self._in_order():
            was_late, is_late = is_late, seconds < last
            if not is_late:
                last = seconds
                yield index, seconds, frame
                continue
            late += 1
            cuts += not was_late
            if late > most_late or cuts > most_cuts or seconds < last - LATE_SECONDS:
                others = f", and so do {late - 1} before it" if late > 1 else ""
                raise UnreadableVideoError(
                    f"frame {index} comes out after one that is shown later ({seconds:g} and {last:g} seconds)"
                    f"{others}, so the order of the frames is uncertain"
                )

    def _by_index(self, wanted: Sequence[int]) -> Iterator[IndexedFrame]:
        """Run by run; where decoding cannot start at a key frame, start at an earlier one."""
        key_indices = np.searchsorted(self.table.times, self.table.key_times)
        # Frames that going back decodes again: beyond the file's own number, reading in order is less work.
        more = 0
        for key, run in _runs(key_indices, wanted):
            back, done = 0, 0
            while done < len(run):
                try:
                    for frame in self._decode_run(int(key_indices[key - back]), run[done:]):
                        done += 1
                        yield frame
                except (NotAnIndexError, UnreadableVideoError):
                    # An open GOP may refer to frames before its key frame, and a file can call any frame a key frame.
                    if back == key:
                        raise
                    back = min(2 * back + 1, key)
                    more += int(key_indices[key] - key_indices[key - back])
                    if more > len(self.table.times):
                        raise NotAnIndexError("key frames that are none") from None

    def _decode_run(self, entry: int, run: list[int]) -> Iterator[IndexedFrame]:
        """Enter at the key frame of index `entry` and decode until all of `run` are out."""
        table, context = self.table, self._stream.codec_context
        assert table.entries is not None
        skip = table.entries.skipping()
        left_out: set[int | None] = set()
        positions = table.positions
        first, last = int(positions[entry]), int(positions[run].max())
        shown = _ShownFrames(
            self, context, entry, run, lambda index: positions[index] > last or table.times[index] in left_out
        )
        wanted_times = set(table.times[run].tolist())
        try:
            self._container.seek(int(table.times[entry]), stream=self._stream)
            for position, packet in self._packets_from(first):
                if position > last:
                    break
                if skip(position, position == first or packet.pts in wanted_times):
                    left_out.add(packet.pts)
                    continue
                for frame in packet.decode():
                    yield from shown.take(frame)
            # All that the wanted frames need is in the decoder: what it still holds back comes out now.
            for frame in context.decode(None):
                yield from shown.take(frame)
        except av.FFmpegError as error:
            raise ffmpeg_failure(f"damaged near frame {entry}", error) from error
        if not shown.are_complete:
            raise NotAnIndexError("a frame did not come out")

    def _packets_from(self, first: int) -> Iterator[tuple[int, av.Packet]]:
        """Packets with their position in the file, from position `first` on, each checked against the table."""
        decode_order = self.table.decode_order
        position = None
        for packet in demuxed(self._container, self._stream):
            if packet.size == 0:
                return
            if position is None:
                found = np.flatnonzero(decode_order == packet.pts)
                if len(found) != 1 or found[0] > first:
                    raise NotAnIndexError("the seek went past the key frame")
                position = int(found[0])
            if position >= len(decode_order) or decode_order[position] != packet.pts:
                raise NotAnIndexError("packets in another order")
            if self.table.contents[position] != hash(bytes(packet)):
                raise NotAnIndexError("other packets of the same times")
            if position >= first:
                yield position, packet
            position += 1

    def _in_order(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Decode the whole file from its first frame: index, seconds and frame. Afterwards `info.num_frames` is right.

        A frame's time is its own where it bears one, since some packets show nothing; otherwise the packets' times are
        counted off. One that is missing follows the previous one at the file's rate.
        """
        times = self.table.times
        count, time = 0, None
        self._check_size()
        try:
            with open_container(self._handle) as container:
                stream = self._open_stream(container)
                packets = demuxed(container, stream)
                if not self._is_strict:
                    packets = watched(packets, stream)
                for frame in itertools.chain.from_iterable(packet.decode() for packet in packets):
                    self.check(frame, count, stream.codec_context)
                    if frame.opaque:
                        raise UnreadableVideoError(f"frame {count} is damaged")
                    counted = int(times[min(count, len(times) - 1)])
                    own = frame.pts if self.table.frames_bear_times else counted
                    if own is None:
                        own = int(times[0]) if time is None else self.table.following(time)
                    time = own
                    yield count, self.table.seconds(time), frame
                    count += 1
        except av.FFmpegError as error:
            self._check_size()
            if not (self._is_strict and self._may_lack_a_piece(error)):
                raise ffmpeg_failure(f"damaged near frame {count}", error) from error
            self._is_strict = False
            yield from (each for each in self._in_order() if each[0] >= count)
            return
        self._check_size()
        if count == 0:
            raise UnreadableVideoError("no frame could be decoded")
        self.info = replace(self.info, num_frames=count, fps=count / self.info.duration_seconds)

    def _may_lack_a_piece(self, error: av.FFmpegError) -> bool:
        """Whether a strict decoder may have met pictures of H.265 that refer to others that were cut away."""
        is_uncertain = self.info.codec == "hevc" and self.table.entries is None
        return is_uncertain and isinstance(error, av.InvalidDataError)

    def _check_size(self) -> None:
        """Raise where the file is shorter than it was: to FFmpeg it is a file that ends there."""
        if self._handle.seek(0, os.SEEK_END) < self._size:
            raise UnreadableVideoError("it was cut while it was read")

    def check(self, frame: av.VideoFrame, index: int, context: av.VideoCodecContext) -> None:
        """Raise `UnreadableVideoError` where a decoder's frame is damaged, or unlike the first one in its size,
        position or pixels."""
        if frame.is_corrupt:
            raise UnreadableVideoError(f"frame {index} is damaged")
        size = (frame.width, frame.height)
        if size != self._coded_size:
            raise UnreadableVideoError(f"the frame size changes from {self._coded_size} to {size} at frame {index}")
        # Not its position: PyAV would keep it until it looks for garbage. One without a matrix is held as the first;
        # but each JPEG says for itself how it is held.
        held_alike = {self._rotation} if self.info.codec == "mjpeg" else {0, self._rotation}
        if frame.rotation not in held_alike:
            raise UnreadableVideoError(f"frame {index} is turned another way than the first; cut the video there")
        # The decoder's, which is a few frames ahead.
        pixel_aspect = context.sample_aspect_ratio
        if not self._is_shape_stated and not have_one_shape(self._pixel_aspect, pixel_aspect):
            raise UnreadableVideoError(
                f"the shape of its pixels changes from {self._pixel_aspect} to {pixel_aspect} near frame {index}; cut "
                "the video there"
            )

    def _check_stated(self, stated: Sequence[tuple[Fraction | None, tuple[int, int] | None]]) -> None:
        """Raise where entries of MP4 state other pixels than each other: to FFmpeg, the last one counts for all."""
        shapes = [shape or self._pixel_aspect for shape, _ in stated]
        changing = "the shape of its pixels" if not all(have_one_shape(shapes[0], shape) for shape in shapes) else ""
        if len({colors for _, colors in stated if colors is not None}) > 1:
            changing = "the matrix or range of its colors"
        if changing:
            raise UnreadableVideoError(
                f"{changing} changes, as its parts state it (entries of stsd); read the parts by themselves, or "
                "encode them again as one"
            )

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """The pixels as a player shows them, uint8 (h, w, 3)."""
        return self._projector.show(frame, self._position, self._square_size)

    def square(self, rgb: np.ndarray) -> np.ndarray:
        """An upright picture uint8 (h, w, 3) of the stored size, as another backend returns it, with square pixels."""
        if rgb.shape[1::-1] != self._position.size_of(self._coded_size) or self._square_size == self._coded_size:
            return rgb
        return self._projector.stretch(av.VideoFrame.from_ndarray(rgb), self._position.size_of(self._square_size))


class _ShownFrames:
    """Takes frames as they leave the decoder and verifies that they are the ones that the table announces.

    Args:
        reader: whose frames they are.
        context: their decoder.
        entry: index of the first.
        run: indices of those that are wanted.
        is_left_out: says of an index whether the decoder was not given that frame.
    """

    def __init__(
        self,
        reader: StrictReader,
        context: av.VideoCodecContext,
        entry: int,
        run: list[int],
        is_left_out: Callable[[int], bool],
    ):
        self._reader, self._context, self._is_left_out = reader, context, is_left_out
        self._entry, self._last = entry, entry - 1
        self._missing = set(run)

    @property
    def are_complete(self) -> bool:
        return not self._missing

    def take(self, frame: av.VideoFrame) -> Iterator[IndexedFrame]:
        times = self._reader.table.times
        time = frame.pts
        index = len(times) if time is None else int(np.searchsorted(times, time))
        if time is None or index == len(times) or times[index] != time:
            raise NotAnIndexError("a frame with a time that no packet has")
        if index < self._entry:
            return
        # Decoding may start only at a frame that stands for itself; a file can call any frame a key frame.
        stands_alone = frame.pict_type in (av.video.frame.PictureType.I, av.video.frame.PictureType.NONE)
        is_next = index > self._last and all(map(self._is_left_out, range(self._last + 1, index)))
        if not is_next or (index == self._entry and not stands_alone):
            raise NotAnIndexError("frames in another order")
        self._last = index
        self._reader.check(frame, index, self._context)
        if index in self._missing:
            self._missing.remove(index)
            yield index, self._reader.table.seconds(time), self._reader.picture(frame)


def _runs(key_indices: np.ndarray, wanted: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Sorted indices as runs (number of the key frame before, indices), cut where entering again saves frames."""
    runs: list[tuple[int, list[int]]] = []
    for index in wanted:
        key = int(np.searchsorted(key_indices, index, side="right")) - 1
        if key < 0:
            raise NotAnIndexError("a frame before the first key frame")
        if runs and key_indices[key] <= runs[-1][1][-1] + 1:
            runs[-1][1].append(index)
        else:
            runs.append((key, [index]))
    return runs
