"""Every form in which a video may be handed over, reduced to one: its sampled frames as uint8 or float (n, 3, h, w).

Stands before the video processor's sampling. Encoded videos (files, bytes, open files, rows of a `datasets` Video
column) and image files go to the decoding process, and only the sampled frames are decoded; frames that are in memory
already are indexed. Nothing here resizes or normalizes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
from transformers.video_utils import VideoMetadata

from .video_backends_froster import IMAGE_READER
from .video_decoding_froster import VideoInfo, VideoLimits, decode_images, decode_video
from .video_url_froster import UrlPolicy

FrameChooser = Callable[[VideoMetadata], Sequence[int]]


def is_single_video(videos: Any) -> bool:
    """Whether what a caller passed as `videos` is a single video, rather than a batch of them.

    A 5-D array is a batch, any other one a video. A list is one video where its first element is a frame (a PIL image,
    a 2-D or 3-D array), otherwise a batch: of paths, of lists of frames, of anything, mixed.
    """
    if isinstance(videos, np.ndarray | torch.Tensor):
        return videos.ndim != 5
    return not isinstance(videos, list | tuple) or bool(videos and _is_frame(videos[0]))


def list_videos(videos: Any) -> list[Any]:
    """Split what a caller passed as `videos` into single videos: as `is_single_video` says, and batches in a list too.

    A 3-D array and a PIL image are a video of one frame; in a batch, a list is a video, whatever its frames are.

    Raises:
        ValueError: an empty batch or an array with another number of dimensions.
        TypeError: something that is not a video.
    """
    if is_single_video(videos):
        return [_video_of_frames(videos)]
    if len(videos) == 0:
        raise ValueError("No video was given: the list is empty.")
    single: list[Any] = []
    for item in videos:
        single += [_video_of_frames(item)] if isinstance(item, list | tuple) else list_videos(item)
    return single


def _video_of_frames(video: Any) -> Any:
    """A single video that has a dimension, or a list, of frames where it consists of frames."""
    if isinstance(video, np.ndarray | torch.Tensor):
        if video.ndim not in (3, 4):
            raise ValueError(
                "A video array has 4 dimensions (frames, channels and two sizes), a batch of them 5, "
                f"got shape {tuple(video.shape)}."
            )
        return video if video.ndim == 4 else video[None]
    if isinstance(video, Image.Image):
        return [video]
    if isinstance(video, list | tuple):
        if not video:
            raise ValueError("One of the videos is an empty list of frames.")
        return video
    is_encoded = isinstance(video, str | os.PathLike | bytes | Mapping)
    if is_encoded or hasattr(video, "read") or hasattr(video, "get_frames_at"):
        return video
    raise TypeError(
        f"Not a video: {type(video).__name__}. Give a path, bytes, an open binary file, a folder of frames, an array "
        "(frames, channels, height, width), or a list of PIL images."
    )


def read_video(
    video: Any,
    choose: FrameChooser | None,
    *,
    metadata: VideoMetadata | None = None,
    backend: str = "auto",
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
        DecodingUnavailableError: this machine cannot decode at the moment.
        ValueError: an array that is not a video, or frames of different sizes or with pixels that are NaN or infinite.
    """
    limits = limits or VideoLimits()
    video = encoded_source(video)
    if isinstance(video, str | os.PathLike) and os.path.isdir(video):
        return _read_folder(video, choose, metadata, limits)
    if isinstance(video, list | tuple):
        return _read_frame_list(video, choose, metadata, limits)
    if isinstance(video, np.ndarray | torch.Tensor):
        frames = _channels_first(video, input_data_format)
        indices, known = _choose(frames.shape[0], choose, metadata)
        return _to_rgb(_finite(frames[indices])), known
    if hasattr(video, "get_frames_at"):
        return _read_torchcodec(video, choose)
    return _decode(video, choose, backend=backend, limits=limits, allow_urls=allow_urls)


def _decode(
    source: Any,
    choose: FrameChooser | None,
    *,
    backend: str,
    limits: VideoLimits,
    allow_urls: UrlPolicy,
) -> tuple[torch.Tensor, VideoMetadata]:
    def indices(info: VideoInfo) -> Sequence[int]:
        return _choose(info.num_frames, choose, _metadata_of(info))[0]

    decoded = decode_video(source, indices, backend=backend, limits=limits, allow_urls=allow_urls)
    return decoded.frames, replace(_metadata_of(decoded.info), frames_indices=decoded.indices)


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
    num_frames: int, choose: FrameChooser | None, known: VideoMetadata | None
) -> tuple[list[int], VideoMetadata]:
    """The frames that are chosen of so many, and what is known of the video, with them."""
    known = replace(known or VideoMetadata(total_num_frames=num_frames), total_num_frames=num_frames)
    indices = [int(index) for index in (range(num_frames) if choose is None else choose(known))]
    return indices, replace(known, frames_indices=indices)


def _read_torchcodec(decoder: Any, choose: FrameChooser | None) -> tuple[torch.Tensor, VideoMetadata]:
    """Frames of a `torchcodec.decoders.VideoDecoder` that somebody else opened, by its own exact seek."""
    known = VideoMetadata(total_num_frames=0, fps=decoder.metadata.average_fps, video_backend="torchcodec")
    indices, known = _choose(len(decoder), choose, known)
    return _to_rgb(_channels_first(decoder.get_frames_at(indices).data, None)), known


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


def _read_folder(
    folder: str | os.PathLike[str], choose: FrameChooser | None, metadata: VideoMetadata | None, limits: VideoLimits
) -> tuple[torch.Tensor, VideoMetadata]:
    known = metadata or VideoMetadata(total_num_frames=0, video_backend=IMAGE_READER)

    def indices(num_frames: int) -> Sequence[int]:
        return _choose(num_frames, choose, known)[0]

    decoded = decode_images(folder, indices=indices, limits=limits)
    return decoded.frames, replace(known, total_num_frames=decoded.num_frames, frames_indices=decoded.indices)


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray | torch.Tensor) and item.ndim in (2, 3))


def _read_frame_list(
    frames: Sequence[Any], choose: FrameChooser | None, metadata: VideoMetadata | None, limits: VideoLimits
) -> tuple[torch.Tensor, VideoMetadata]:
    indices, known = _choose(len(frames), choose, metadata)
    chosen = sorted(set(indices))
    paths = {index: frames[index] for index in chosen if isinstance(frames[index], str | os.PathLike)}
    images = {index: _read_frame(frames[index]) for index in chosen if index not in paths}
    if paths:
        files = list(paths.values())
        images.update(zip(paths, decode_images(files=files, indices=range, limits=limits).frames))
    if len({image.shape[-2:] for image in images.values()}) > 1:
        sizes = sorted({f"{image.shape[-1]}x{image.shape[-2]}" for image in images.values()})
        raise ValueError(f"The frames of one video differ in size: {', '.join(sizes)} (width x height).")
    return torch.stack([images[index] for index in indices]), known


def _read_frame(frame: Any) -> torch.Tensor:
    """One frame that is in memory, a PIL image or an array, as (3, h, w)."""
    if isinstance(frame, Image.Image):
        if 0 in frame.size:
            raise ValueError(f"The video has no pixels: a picture of {frame.width} x {frame.height}.")
        if frame.mode == "F":
            _finite(torch.from_numpy(np.array(frame)))
        return torch.from_numpy(np.array(frame.convert("RGB"))).permute(2, 0, 1)
    if not _is_frame(frame):
        raise TypeError(
            f"Not a frame: {type(frame).__name__}. Give a PIL image, an array or the path of an image file."
        )
    frame = torch.as_tensor(frame)
    return _to_rgb(_finite(_channels_first(frame[None, None] if frame.ndim == 2 else frame[None], None)))[0]


def _channels_first(video: np.ndarray | torch.Tensor, data_format: ChannelDimension | str | None) -> torch.Tensor:
    if isinstance(video, np.ndarray):
        video = torch.from_numpy(np.ascontiguousarray(video))
    if 0 in video.shape:
        raise ValueError(f"The video has no {'pixels' if video.shape[0] else 'frames'}: shape {tuple(video.shape)}.")
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


def _finite(frames: torch.Tensor) -> torch.Tensor:
    """The same frames, none of whose pixels makes every score NaN."""
    if frames.is_floating_point() and not bool(torch.isfinite(frames).all()):
        count = int((~torch.isfinite(frames)).sum())
        raise ValueError(
            f"{count} of {frames.numel()} values of the sampled frames are NaN or infinite (beyond float32). Pixels "
            "must be finite: look at what made the frames."
        )
    return frames


def _to_rgb(frames: torch.Tensor) -> torch.Tensor:
    """Grey is repeated, the alpha channel is dropped (as PIL's conversion to RGB does)."""
    return frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]
