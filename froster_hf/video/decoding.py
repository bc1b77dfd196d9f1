"""Exact frame reading: from a video to the sampled frames as uint8 (T, 3, h, w), with little else decoded.

The first station of the data flow: path, URL, bytes or file object -> frames -> `FrosterVideoProcessor`. Frame i is
the i-th frame that the file shows, whatever its header says, whichever backend reads it, and however it is sampled.
Files are read in a process of their own (`server.py`), which may die or hang without harm.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch

from .archives import ARCHIVES
from .backends import AUTO_BACKEND, IMAGE_READER, get_backend, resolve_backend
from .client import DecodingProcess, decoding_process, unavailable_because
from .further_pictures import further_pictures, joined_pictures
from .source import UrlPolicy, VideoSource, check_source, source_name, split_policy
from .types import (
    DecoderKilledError,
    DecodingUnavailableError,
    SystemLacksError,
    UnreadableVideoError,
    VideoDecodeError,
    VideoInfo,
    VideoLimits,
)
from .watchdog import TimeBudget

__all__ = [
    "DecodingUnavailableError",
    "VideoDecodeError",
    "VideoFrame",
    "VideoInfo",
    "VideoLimits",
    "VideoSource",
    "decode_frames",
    "decode_image_files",
    "decode_images",
    "decode_video",
    "further_pictures",
    "joined_pictures",
    "probe_video",
    "split_policy",
    "stream_frames",
]

FrameIndices = Sequence[int] | Callable[[VideoInfo], Sequence[int]]
FrameTimes = Sequence[float] | Callable[[VideoInfo], Sequence[float]]
Answer = TypeVar("Answer")


class VideoFrame(NamedTuple):
    """One frame of a stream: its index, its time in seconds after the stream's start, its pixels uint8 (3, h, w).

    On a player's clock the frame is shown at `VideoInfo.start_seconds` + `time_seconds`.
    """

    frame_index: int
    time_seconds: float
    frame: torch.Tensor


class DecodedVideo(NamedTuple):
    """Chosen frames of a video, uint8 (T, 3, h, w), what is known of it, and the indices of the frames."""

    frames: torch.Tensor
    info: VideoInfo
    indices: list[int]


class DecodedImages(NamedTuple):
    """Chosen image files as frames, uint8 (T, 3, h, w), the number of all files, and the indices of the frames."""

    frames: torch.Tensor
    num_frames: int
    indices: list[int]


def probe_video(
    source: VideoSource, *, limits: VideoLimits | None = None, allow_urls: UrlPolicy = "none"
) -> VideoInfo:
    """What is known of a video, counted rather than read from its header.

    Args:
        source: Path, URL, bytes, or a file object opened for binary reading.
        limits: What the file may cost.
        allow_urls: Which URLs may be fetched, "none", "https", or "http" for both; addresses of other places
            ("s3://...") below which files may be opened; or a list of these.

    Raises:
        VideoDecodeError: where the video cannot be read, or costs more than `limits`.
        DecodingUnavailableError: where this machine cannot decode at the moment, whatever the video.
    """

    def info(conversation: Conversation) -> Iterator[VideoInfo]:
        yield conversation.info_of(conversation.receive())

    (answer,) = _answers_of(info, source, "probe", AUTO_BACKEND, limits or VideoLimits(), allow_urls)
    return answer


def decode_frames(
    source: VideoSource,
    indices: FrameIndices,
    *,
    backend: str = "auto",
    limits: VideoLimits | None = None,
    allow_urls: UrlPolicy = "none",
) -> tuple[torch.Tensor, VideoInfo]:
    """The frames and the knowledge of `decode_video`, without the indices."""
    decoded = decode_video(source, indices, backend=backend, limits=limits, allow_urls=allow_urls)
    return decoded.frames, decoded.info


def decode_video(
    source: VideoSource,
    indices: FrameIndices,
    *,
    backend: str = "auto",
    limits: VideoLimits | None = None,
    allow_urls: UrlPolicy = "none",
) -> DecodedVideo:
    """Decode the frames at `indices`, exactly, and of common files only what they need.

    Args:
        source: Path, URL, bytes, or a file object opened for binary reading.
        indices: Frame indices in any order, repeats allowed; or a function that chooses them, knowing the video. It is
            called again in the rare case that the file turns out to hold another number of frames.
        backend: A name in `BACKENDS`, or "auto" for the one that is exact in every container. A backend that is not
            exact in the file's container raises, rather than return other frames.
        limits: What the file may cost.
        allow_urls: Which URLs may be fetched, "none", "https", or "http" for both; addresses of other places
            ("s3://...") below which files may be opened; or a list of these.

    Returns:
        The frames, upright, RGB, what is known of the video, and the indices. The memory layout of the frames is
        channels last, as decoders give it and as torchvision resizes fastest.

    Raises:
        VideoDecodeError: where the video cannot be read exactly, or costs more than `limits`.
        IndexError: on an index outside the video.
        DecodingUnavailableError: where this machine cannot decode at the moment, whatever the video. It is an
            ImportError too where the chosen backend is not installed or does not load.
    """
    backend = resolve_backend(backend)
    choose = _choosing_once(indices)

    def read(conversation: Conversation) -> Iterator[DecodedVideo]:
        # A count that proves wrong at the file's end comes back as new info in place of the frames.
        reply = conversation.receive()
        while "info" in reply:
            info = conversation.info_of(reply)
            chosen = choose(info)
            conversation.check_size(len(chosen) * info.height * info.width * 3)
            wanted = [int(index) for index in chosen]
            distinct = _distinct(wanted, info.num_frames)
            conversation.send({"indices": distinct})
            reply = conversation.receive()
        frames = conversation.receive_frames([len(distinct), info.height, info.width, 3], reply["shape"], wanted)
        yield DecodedVideo(frames.permute(0, 3, 1, 2), info, wanted)

    (answer,) = _answers_of(read, source, "read", backend, limits or VideoLimits(), allow_urls)
    return answer


def decode_images(
    folder: str | os.PathLike[str],
    *,
    indices: Callable[[int], Sequence[int]],
    limits: VideoLimits | None = None,
) -> DecodedImages:
    """Decode image files as the frames of a video, in the decoding process as well.

    Args:
        folder: A folder of them, in the order of the numbers in their names, or of their seconds (0.25, 0.5); hidden
            files are passed over.
        indices: Chooses the frames, knowing their number; in any order, repeats allowed.
        limits: What each file, and all frames together, may cost.

    Returns:
        The frames, RGB, the number of files, and the indices.

    Raises:
        VideoDecodeError: where a chosen file is not an image of one of the formats offered, or costs more than
            `limits`; where the chosen images differ in size, or there are none.
        DecodingUnavailableError: where this machine cannot decode at the moment, whatever the files.
    """
    limits = limits or VideoLimits()
    name = os.fsdecode(folder)
    request = {"folder": os.path.abspath(name)}
    choose = _choosing_once(indices)

    def read(conversation: Conversation) -> Iterator[DecodedImages]:
        num_frames = int(conversation.receive()["num_frames"])
        wanted = [int(index) for index in choose(num_frames)]
        distinct = _distinct(wanted, num_frames)
        conversation.send({"indices": distinct})
        frames = conversation.receive_pictures(wanted)
        yield DecodedImages(frames.permute(0, 3, 1, 2), num_frames, wanted)

    budget = TimeBudget(limits.timeout_seconds)
    with _naming(name, IMAGE_READER):
        (answer,) = _answers(read, "folder", IMAGE_READER, request, limits=limits, budget=budget)
    return answer


def decode_image_files(
    files: Mapping[int, VideoSource], *, limits: VideoLimits | None = None, allow_urls: UrlPolicy = "none"
) -> torch.Tensor:
    """Decode image files that are named one by one, or come as bytes, in the decoding process as well.

    Args:
        files: By their indices among the frames of a video, which errors name where a file has no name.
        limits: What each file, and all together, may cost.
        allow_urls: Which URLs may be fetched; see `decode_video`.

    Returns:
        The frames in the order of the files, RGB, uint8 (T, 3, h, w).

    Raises:
        VideoDecodeError: where a file is not an image of one of the formats offered, or costs more than `limits`;
            where the images differ in size.
        DecodingUnavailableError: where this machine cannot decode at the moment, whatever the files.
    """
    limits = limits or VideoLimits()
    budget = TimeBudget(limits.timeout_seconds)
    names = {index: _image_name(index, source) for index, source in files.items()}
    name = source_name(next(iter(files.values()))) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    with _naming(name, IMAGE_READER), contextlib.ExitStack() as opened:
        requests: list[dict[str, Any]] = []
        payload: list[memoryview] = []
        size = 0
        for index, source in files.items():
            try:
                with budget.spend() as seconds:
                    if not seconds:
                        raise UnreadableVideoError
                    left = replace(limits, timeout_seconds=seconds)
                    checked = check_source(source, limits=left, allow_urls=allow_urls)
                    opened.callback(checked.close)
            except UnreadableVideoError as error:
                limit = f"{limits.timeout_seconds:g} seconds (VideoLimits.timeout_seconds)"
                reason = f"opening the files took longer than {limit}" if budget.is_spent else error
                raise UnreadableVideoError(f"{names[index]!r}: {reason}") from None
            fields, data = checked.request()
            requests.append({"name": names[index], **fields})
            payload += data
            size += sum(part.nbytes for part in data)
            limits.check("max_memory_bytes", size, f"the files have {size} bytes")
        request = {"files": requests, "size": size}

        def read(conversation: Conversation) -> Iterator[torch.Tensor]:
            yield conversation.receive_pictures(range(len(files)))

        (frames,) = _answers(read, "images", IMAGE_READER, request, *payload, limits=limits, budget=budget)
    return frames.permute(0, 3, 1, 2)


def _image_name(index: int, source: VideoSource) -> str:
    if not isinstance(source, str | os.PathLike):
        return f"frame {index}"
    # An address may bear an account, or a token in its query.
    name = source_name(source)
    return os.path.basename(name.partition("::")[0] if name.partition("://")[0] in ARCHIVES else name)


def stream_frames(
    source: VideoSource,
    times_seconds: FrameTimes | None = None,
    *,
    limits: VideoLimits | None = None,
    allow_urls: UrlPolicy = "none",
) -> Iterator[VideoFrame]:
    """Decode a video of any length frame by frame, holding one frame; parts between distant times are skipped.

    Args:
        source: Path, URL, bytes, or a file object opened for binary reading.
        times_seconds: Times after the start of the stream, sorted; for each, the frame that is shown then is yielded,
            the last one for times after the end; one that is shown at several of them is one tensor. Or a function
            that chooses them, knowing the video. None yields every frame.
        limits: What the file may cost. `timeout_seconds` bounds each frame; `max_decoded_bytes` each frame too.
        allow_urls: Which URLs may be fetched, "none", "https", or "http" for both; addresses of other places
            ("s3://...") below which files may be opened; or a list of these.

    Yields:
        `VideoFrame`: frame index, time in seconds, uint8 (3, h, w).

    Raises:
        VideoDecodeError: where the video cannot be read, or costs more than `limits`; frames before may have been
            yielded.
        DecodingUnavailableError: where this machine cannot decode at the moment, whatever the video.
    """
    choose = _choosing_once(times_seconds)

    def frames(conversation: Conversation) -> Iterator[VideoFrame]:
        info = conversation.info_of(conversation.receive())
        checked = _checked_times(choose(info))
        conversation.send({"times": checked})
        shown, number = None, 0
        while (reply := conversation.receive())["state"] == "working":
            if "frame" in reply:
                frame = conversation.receive_frames([info.height, info.width, 3], reply["shape"])
                shown = VideoFrame(int(reply["frame"]), float(reply["seconds"]), frame.permute(2, 0, 1))
            number += 1
            if shown is None or (checked is not None and number > len(checked)):
                raise UnreadableVideoError("the decoding process sent frames that nobody asked for")
            conversation.budget.renew()
            yield shown
        if checked is not None and number < len(checked):
            raise UnreadableVideoError(f"frames at {number} of {len(checked)} times came back")

    yield from _answers_of(frames, source, "stream", AUTO_BACKEND, limits or VideoLimits(), allow_urls)


def _choosing_once(choice: Any) -> Callable[[Any], Any]:
    """The choice of the caller, whose function might draw other random numbers where it is asked again for a video."""
    return functools.lru_cache(maxsize=4)(choice) if callable(choice) else lambda known: choice


def _answers_of(
    talk: Callable[[Conversation], Iterator[Answer]],
    source: VideoSource,
    task: str,
    backend: str,
    limits: VideoLimits,
    allow_urls: UrlPolicy,
) -> Iterator[Answer]:
    """What a request for an encoded video gives."""
    budget = TimeBudget(limits.timeout_seconds)
    with _naming(source_name(source), backend):
        with budget.spend():
            checked = check_source(source, limits=limits, allow_urls=allow_urls)
        with contextlib.closing(checked):
            request, payload = checked.request()
            yield from _answers(talk, task, backend, request, *payload, limits=limits, budget=budget)


def _answers(
    talk: Callable[[Conversation], Iterator[Answer]],
    task: str,
    backend: str,
    request: dict[str, Any],
    *payload: Any,
    limits: VideoLimits,
    budget: TimeBudget,
) -> Iterator[Answer]:
    """What a conversation gives, one by one.

    Where the decoding process is ended from outside, by the system or somebody, another conversation gives the rest in
    the time that is left. Where that is ended so, too, it is the fault of the video.
    """
    num_given = 0
    for is_last in (False, True):
        try:
            with asking(task, backend, request, *payload, limits=limits, budget=budget) as conversation:
                for answer in itertools.islice(talk(conversation), num_given, None):
                    num_given += 1
                    yield answer
            return
        except DecoderKilledError:
            if is_last:
                raise


@contextlib.contextmanager
def _naming(name: str, backend: str) -> Iterator[None]:
    """What is wrong with a video becomes a `VideoDecodeError` that names it."""
    try:
        yield
    except UnreadableVideoError as error:
        raise VideoDecodeError(name, backend, str(error)) from None
    except MemoryError as error:
        # Python's own says nothing.
        raise MemoryError(str(error) or f"{name!r} finds no room in memory") from error
    except SystemLacksError as error:
        raise unavailable_because(error) from error


@contextlib.contextmanager
def asking(
    task: str,
    backend: str,
    request: dict[str, Any],
    *payload: Any,
    limits: VideoLimits,
    budget: TimeBudget | None = None,
) -> Iterator[Conversation]:
    """One request to a decoding process.

    Args:
        task: what it is asked to do, as `server.py` knows it.
        backend: name of what it reads with.
        request: fields that say what is read.
        payload: bytes that follow them.
        limits: what it may cost.
        budget: time of the conversation; by default all that the limits allow.
    """
    budget = budget or TimeBudget(limits.timeout_seconds)
    with decoding_process(backend, max_worker_bytes=limits.max_worker_bytes) as process:
        conversation = Conversation(process, backend, budget, limits)
        entry = get_backend(backend)
        fields = {
            "task": task,
            "module": entry.module,
            "containers": entry.containers,
            "threads": _decoding_threads(),
            "limits": asdict(limits),
        }
        conversation.send({**request, **fields}, *payload)
        yield conversation


@dataclass(frozen=True)
class Conversation:
    """What goes to and fro, within the limits."""

    process: DecodingProcess
    backend: str
    budget: TimeBudget
    limits: VideoLimits

    def send(self, message: dict[str, Any], *payload: Any) -> None:
        """Send a message and the bytes that follow it."""
        self.process.send(message, *payload, budget=self.budget)

    def receive(self) -> dict[str, Any]:
        """The next message; an error that it reports is raised."""
        return self.process.receive(budget=self.budget)

    def info_of(self, reply: dict[str, Any]) -> VideoInfo:
        """The video's properties in a reply, with the backend that is asked for its frames.

        Raises:
            UnreadableVideoError: they are malformed, or beyond the limits to which the decoding process holds a file.
        """
        try:
            info = VideoInfo.of({**reply["info"], "backend": self.backend})
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableVideoError(
                "the decoding process answered with something else than a video's properties"
            ) from error
        self.limits.check("max_frames", info.num_frames, f"{info.num_frames} frames")
        seconds = info.start_seconds + info.duration_seconds
        self.limits.check("max_duration_seconds", seconds, f"{seconds:.0f} seconds long")
        return info

    def receive_frames(
        self, expected: list[int], shape: list[int], wanted: Sequence[int] | None = None
    ) -> torch.Tensor:
        """The pixels that follow a reply, uint8 in the expected shape, with as many frames as are wanted.

        Args:
            expected: shape of what should come.
            shape: that of what comes.
            wanted: indices of the frames, of which the distinct ones come in ascending order: each is put where it is
                wanted as it comes, as a copy of all of them might not find room. By default they stay as they come.
        """
        if math.prod(expected) == 0:
            return torch.empty(expected, dtype=torch.uint8)
        if shape != expected:
            raise UnreadableVideoError(f"frames of shape {shape} came back, not {expected}")
        num_bytes = math.prod(expected[1:])
        size = num_bytes * (expected[0] if wanted is None else len(wanted))
        self.check_size(size)
        try:
            data = bytearray(size)
        except MemoryError:
            raise MemoryError(f"{size} bytes of frames find no room in memory; ask for fewer at once") from None
        frames = torch.frombuffer(data, dtype=torch.uint8).view(-1, *expected[1:])
        if wanted is None:
            self.process.receive_into(memoryview(data), budget=self.budget)
            return frames
        first: dict[int, int] = {}
        for place, index in enumerate(wanted):
            first.setdefault(index, place)
        parts = [memoryview(data)[first[index] * num_bytes :][:num_bytes] for index in sorted(first)]
        self.process.receive_into(*parts, budget=self.budget)
        for place, index in enumerate(wanted):
            if place != first[index]:
                frames[place] = frames[first[index]]
        return frames

    def receive_pictures(self, wanted: Sequence[int]) -> torch.Tensor:
        """The pixels of image files, uint8 (T, h, w, 3), of which the distinct ones follow."""
        count = len(set(wanted))
        num_read, height, width, _ = self.receive()["shape"]
        if num_read != count or height * width > self.limits.max_pixels:
            raise UnreadableVideoError(f"{num_read} frames of {width}x{height} came back for {count}")
        return self.receive_frames([count, height, width, 3], [num_read, height, width, 3], wanted)

    def check_size(self, size: int) -> None:
        """Refuse to hold so many bytes of frames, before they are made."""
        self.limits.check("max_decoded_bytes", size, f"the frames take {size} bytes")


def _distinct(wanted: Sequence[int], num_frames: int) -> list[int]:
    """Sorted distinct indices, all inside the video."""
    for index in wanted:
        if not 0 <= index < num_frames:
            raise IndexError(f"Frame {index} of a video with {num_frames} frames; the last is num_frames - 1.")
    return sorted(set(wanted))


def _checked_times(times: Sequence[float] | None) -> list[float] | None:
    if times is None:
        return None
    checked = [float(time) for time in times]
    if not all(map(math.isfinite, checked)) or any(a > b for a, b in zip([0.0, *checked], checked)):
        raise ValueError("times_seconds must be finite, not negative, and sorted.")
    return checked


def _decoding_threads() -> int:
    """One thread in the workers of a `DataLoader`, which are side by side already; a few otherwise."""
    if torch.utils.data.get_worker_info() is not None:
        return 1
    return min(4, os.cpu_count() or 1)
