"""Every form in which a video may be handed over, reduced to one: its sampled frames as uint8 or float (n, 3, h, w).

Stands before the video processor's sampling. Encoded videos (files, bytes, open files, rows of a `datasets` Video
column) go to the exact decoder and only the sampled frames are decoded; frames that are in memory already, and folders
of image files, are indexed. Nothing here resizes or normalises.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
from transformers.video_utils import VideoMetadata

from .video_decoding_froster import VideoBackend, VideoDecodeError, VideoInfo, VideoLimits, decode_frames
from .video_url_froster import UrlPolicy

FrameChooser = Callable[[VideoMetadata], Sequence[int]]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FrameSizesError(ValueError):
    """The frames of one video differ in size."""


def list_videos(videos: Any) -> list[Any]:
    """Split what a caller passed as `videos` into single videos.

    A 5-D array is a batch, a 4-D one a video, a 3-D one a video of one frame. A list is one video where its first
    element is a frame (a PIL image, a 2-D or 3-D array), otherwise a batch: of paths, of lists of frames, of anything,
    mixed.

    Raises:
        ValueError: an empty batch or an array with another number of dimensions.
        TypeError: something that is not a video.
    """
    if isinstance(videos, np.ndarray | torch.Tensor):
        if videos.ndim not in (3, 4, 5):
            raise ValueError(
                "A video array has 4 dimensions (frames, channels and two sizes), a batch of them 5, "
                f"got shape {tuple(videos.shape)}."
            )
        return list(videos) if videos.ndim == 5 else [videos if videos.ndim == 4 else videos[None]]
    if isinstance(videos, list | tuple):
        if not videos:
            raise ValueError("No video was given: the list is empty.")
        return [videos] if _is_frame(videos[0]) else [video for item in videos for video in _one_or_more(item)]
    return _one_or_more(videos)


def _one_or_more(item: Any) -> list[Any]:
    if isinstance(item, np.ndarray | torch.Tensor):
        return list_videos(item)
    if isinstance(item, Image.Image):
        return [[item]]
    if isinstance(item, list | tuple):
        if not item:
            raise ValueError("One of the videos is an empty list of frames.")
        return [item]
    if (
        isinstance(item, str | os.PathLike | bytes | Mapping)
        or hasattr(item, "read")
        or hasattr(item, "get_frames_at")
    ):
        return [item]
    raise TypeError(
        f"Not a video: {type(item).__name__}. Give a path, bytes, an open binary file, a folder of frames, an array "
        "(frames, channels, height, width), or a list of PIL images."
    )


def read_video(
    video: Any,
    choose: FrameChooser | None,
    *,
    metadata: VideoMetadata | None = None,
    backend: VideoBackend = "auto",
    limits: VideoLimits | None = None,
    allow_urls: UrlPolicy = "none",
    input_data_format: ChannelDimension | str | None = None,
) -> tuple[torch.Tensor, VideoMetadata]:
    """Read the frames of one video at the indices that `choose` names; `None` reads all of them.

    Args:
        video: one element of what `list_videos` returns.
        choose: from the video's metadata (`total_num_frames`, `fps`) to indices, in any order, also repeated.
        metadata: what is known of frames in memory, above all their `fps`.
        backend: what reads encoded videos.
        limits: what a file may cost.
        allow_urls: whether a string may be fetched from the network: "none", "https", or "http" for both.
        input_data_format: where the channels of an array are; guessed where `None`.

    Returns:
        Frames (n, 3, h, w), uint8 or, for a float array, float32; and the metadata with `frames_indices`.

    Raises:
        VideoDecodeError: a file that cannot be decoded.
        ValueError: an array that is not a video, or frames of different sizes.
    """
    limits = limits or VideoLimits()
    video = encoded_source(video)
    if isinstance(video, str | os.PathLike) and os.path.isdir(video):
        try:
            return _read_frame_list(_image_files(video, limits), choose, metadata, limits)
        except FrameSizesError as error:
            raise VideoDecodeError(os.fspath(video), "image folder", str(error)) from error
    if isinstance(video, list | tuple):
        return _read_frame_list(video, choose, metadata, limits)
    if isinstance(video, np.ndarray | torch.Tensor):
        frames = _channels_first(video, input_data_format)
        metadata, indices = _choose(frames.shape[0], choose, metadata)
        return _to_rgb(frames[indices]), metadata
    if hasattr(video, "get_frames_at"):
        return _read_torchcodec(video, choose)
    return _decode(video, choose, backend=backend, limits=limits, allow_urls=allow_urls)


def _decode(
    source: Any,
    choose: FrameChooser | None,
    *,
    backend: VideoBackend,
    limits: VideoLimits,
    allow_urls: UrlPolicy,
) -> tuple[torch.Tensor, VideoMetadata]:
    chosen: list[int] = []

    def indices(info: VideoInfo) -> list[int]:
        chosen[:] = _choose(info.num_frames, choose, _metadata_of(info))[1]
        return chosen

    frames, info = decode_frames(source, indices, backend=backend, limits=limits, allow_urls=allow_urls)
    metadata = _metadata_of(info)
    metadata.frames_indices = chosen
    return frames, metadata


def _metadata_of(info: VideoInfo) -> VideoMetadata:
    return VideoMetadata(
        total_num_frames=info.num_frames,
        fps=info.fps,
        width=info.width,
        height=info.height,
        duration=info.duration_seconds,
        video_backend=info.backend,
    )


def _choose(
    num_frames: int, choose: FrameChooser | None, metadata: VideoMetadata | None
) -> tuple[VideoMetadata, list[int]]:
    metadata = metadata if metadata is not None else VideoMetadata(total_num_frames=num_frames)
    metadata.total_num_frames = num_frames
    indices = list(range(num_frames)) if choose is None else [int(index) for index in choose(metadata)]
    metadata.frames_indices = indices
    return metadata, indices


def _read_torchcodec(decoder: Any, choose: FrameChooser | None) -> tuple[torch.Tensor, VideoMetadata]:
    """Frames of a `torchcodec.decoders.VideoDecoder` that somebody else opened, by its own exact seek."""
    known = VideoMetadata(total_num_frames=0, fps=decoder.metadata.average_fps, video_backend="torchcodec")
    metadata, indices = _choose(len(decoder), choose, known)
    return _to_rgb(_channels_first(decoder.get_frames_at(indices).data, None)), metadata


def encoded_source(video: Any) -> Any:
    """The file behind a row of a `datasets` Video column: `{"path", "bytes"}`, or the decoder that was made from it.

    datasets decodes with torchcodec and keeps the source beside the decoder; the source is read by our own exact
    reader. Anything else is returned as it is.
    """
    if not isinstance(video, Mapping) and not hasattr(video, "_hf_encoded"):
        return video
    encoded = video if isinstance(video, Mapping) else video._hf_encoded
    source = encoded.get("bytes") or encoded.get("path")
    if source is None:
        raise ValueError(f"A video as a mapping needs 'bytes' or 'path', got the keys {sorted(encoded)}.")
    return source


def _image_files(folder: str | os.PathLike[str], limits: VideoLimits) -> list[Path]:
    files = [path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not files:
        raise VideoDecodeError(os.fspath(folder), "image folder", "it holds no image files")
    if len(files) > limits.max_frames:
        raise _limit_error(folder, f"it holds {len(files)} image files", "max_frames", limits)
    # frame_2 stands before frame_10.
    return sorted(files, key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)])


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray | torch.Tensor) and item.ndim in (2, 3))


def _read_frame_list(
    frames: Sequence[Any], choose: FrameChooser | None, metadata: VideoMetadata | None, limits: VideoLimits
) -> tuple[torch.Tensor, VideoMetadata]:
    metadata, indices = _choose(len(frames), choose, metadata)
    images = {index: _read_frame(frames[index], limits) for index in sorted(set(indices))}
    if len({image.shape[-2:] for image in images.values()}) > 1:
        sizes = sorted({f"{image.shape[-1]}x{image.shape[-2]}" for image in images.values()})
        raise FrameSizesError(f"The frames of one video differ in size: {', '.join(sizes)} (width x height).")
    return torch.stack([images[index] for index in indices]), metadata


def _read_frame(frame: Any, limits: VideoLimits) -> torch.Tensor:
    """One frame, a PIL image, an array or the path of an image file, as (3, h, w)."""
    if isinstance(frame, str | os.PathLike):
        frame = _read_image_file(frame, limits)
    if isinstance(frame, Image.Image):
        return torch.from_numpy(np.array(frame.convert("RGB"))).permute(2, 0, 1)
    if not _is_frame(frame):
        raise TypeError(
            f"Not a frame: {type(frame).__name__}. Give a PIL image, an array or the path of an image file."
        )
    frame = torch.as_tensor(frame)
    return _to_rgb(_channels_first(frame[None, None] if frame.ndim == 2 else frame[None], None))[0]


def _read_image_file(path: str | os.PathLike[str], limits: VideoLimits) -> Image.Image:
    """An image file as RGB; its size is checked before its pixels are decoded."""
    try:
        if (size := os.path.getsize(path)) > limits.max_file_bytes:
            raise _limit_error(path, f"the file has {size} bytes", "max_file_bytes", limits)
        with Image.open(path) as image:
            if math.prod(image.size) > limits.max_pixels:
                raise _limit_error(path, f"the image has {image.width}x{image.height} pixels", "max_pixels", limits)
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise VideoDecodeError(os.fspath(path), "PIL", str(error)) from error


def _limit_error(path: str | os.PathLike[str], finding: str, limit: str, limits: VideoLimits) -> VideoDecodeError:
    return VideoDecodeError(os.fspath(path), "PIL", f"{finding}; VideoLimits.{limit} is {getattr(limits, limit)}")


def _channels_first(video: np.ndarray | torch.Tensor, data_format: ChannelDimension | str | None) -> torch.Tensor:
    if isinstance(video, np.ndarray):
        video = torch.from_numpy(np.ascontiguousarray(video))
    if video.shape[0] == 0:
        raise ValueError(f"The video has no frames: shape {tuple(video.shape)}.")
    if data_format is None:
        try:
            data_format = infer_channel_dimension_format(video, num_channels=(1, 3, 4))  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(
                "A video array needs 1, 3 or 4 channels in its second or last dimension, "
                f"got shape {tuple(video.shape)}. Say which with `input_data_format`."
            ) from error
    video = video.permute(0, 3, 1, 2) if data_format == ChannelDimension.LAST else video
    if video.dtype != torch.uint8 and not video.is_floating_point():
        raise ValueError(f"Frames must be uint8 or floating point, got {video.dtype}.")
    return video.float() if video.is_floating_point() else video


def _to_rgb(frames: torch.Tensor) -> torch.Tensor:
    """Grey is repeated, the alpha channel is dropped (as PIL's conversion to RGB does)."""
    return frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]
