"""`FrosterVideoProcessor`: videos of any kind -> `pixel_values_videos` (B, T, 3, S, S), what the vision tower reads.

The first station of the data flow. Only the sampled frames are decoded; they are resized (bicubic, antialiased),
cropped and normalised as `CLIPImageProcessor` does it with an image. With V views and C crops every video becomes V *
C clips.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from .video_backends_froster import get_backend, resolve_backend
from .video_columns_froster import without_video_decoding
from .video_decoding_froster import FrameTimes, VideoDecodeError, VideoFrame, VideoLimits, stream_frames
from .video_inputs_froster import encoded_source, is_single_video, list_videos, read_video
from .video_options_froster import CALLERS_OPTIONS, MAX_VALUES, callers_share, check_options
from .video_sampling_froster import crop_offsets, sample_frame_indices
from .video_source_froster import source_name
from .video_url_froster import UrlPolicy


class FrosterVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of `FrosterVideoProcessor` beyond those of every video processor.

    Attributes:
        sampling: which frames represent a video, a name in `SAMPLINGS`; see `sample_frame_indices`.
        frame_stride: frames between two frames of a `dense` window, at 30 fps.
        num_views: V, windows of frames a video.
        num_crops: C, `center` crops a frame, spread along the longer side.
        cropping: `center` for inference; `random` for training: the short side is scaled to a random length, a random
            square is cut out, and the clip may be mirrored, alike in all its frames.
        short_side_range: shortest and longest short side of `random` cropping in pixels; `None` is from the crop size
            to 8/7 of it (224 to 256).
        flip_probability: how often `random` cropping mirrors a clip. Zero where the direction of a motion is part of
            the label.
        seed: makes the random choices reproducible; one number, or one a video.
        video_backend: `auto`, or a name in `BACKENDS`. This and the two that follow are the caller's: a
            checkpoint neither sets nor stores them.
        video_limits: what a file may cost, fields of `VideoLimits`. A checkpoint may lower them.
        allow_urls: whether a video may be fetched from the network: `none`, `https`, or `http` for both.
    """

    sampling: str
    frame_stride: int
    num_views: int
    num_crops: int
    cropping: Literal["center", "random"]
    short_side_range: list[int] | tuple[int, int] | None
    flip_probability: float
    seed: int | list[int] | None
    video_backend: str
    video_limits: dict[str, Any] | None
    allow_urls: Literal["none", "https", "http"]


class FrosterVideoProcessor(BaseVideoProcessor):
    """Reads, samples, resizes, crops and normalises videos.

    Inputs: a path, bytes, an open binary file, a row of a `datasets` Video column, a folder of image files, a list of
    PIL images, a NumPy or torch array (channels first or last; uint8, or floats from 0 to 255), or a list of any of
    these, of different sizes and lengths.

    `processor(videos, return_tensors="pt")` gives `pixel_values_videos` (B * V * C, T, 3, S, S): the clips of one
    video follow each other, views outside, crops inside. Without `return_tensors` it is a list of B * V * C clips.

    `num_frames` and `crop_size` are what clips are made of, whatever the model was trained with; a model refuses clips
    of another size, and of another number of frames where its weights are tied to one.

    Raises:
        ValueError: an option is wrong (also at construction), or an array is.
        VideoDecodeError: a file cannot be decoded; names it.
    """

    model_input_names = ["pixel_values_videos"]
    valid_kwargs = FrosterVideoProcessorKwargs  # type: ignore[assignment]

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 224}
    crop_size = {"height": 224, "width": 224}
    default_to_square = False
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_sample_frames = True
    num_frames = 8
    sampling = "uniform"
    frame_stride = 16
    num_views = 1
    num_crops = 1
    cropping = "center"
    short_side_range = None
    flip_probability = 0.5
    seed = None
    video_backend = "auto"
    video_limits = None
    allow_urls: UrlPolicy = "none"

    def __init__(self, **kwargs: Unpack[FrosterVideoProcessorKwargs]):
        super().__init__(**kwargs)
        # transformers passes on what a checkpoint's file says beside the options.
        _check_types({name: value for name, value in kwargs.items() if name in self.valid_kwargs.__annotations__})
        check_options(self._options({}))

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """The processor that a checkpoint describes, with the options of the caller, `kwargs`.

        Raises:
            ValueError: the checkpoint's options are wrong, or would compute without bound.
        """
        known = {*cls.valid_kwargs.__annotations__, "auto_map", "processor_class"}
        stored = {name: value for name, value in callers_share(video_processor_dict).items() if name in known}
        return super().from_dict(stored, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """What belongs into a checkpoint: everything but the options that are the caller's."""
        return {name: value for name, value in super().to_dict().items() if name not in CALLERS_OPTIONS}

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call: those given, the others as the processor was made."""
        return {name: given.get(name, getattr(self, name, None)) for name in self.valid_kwargs.__annotations__}

    def preprocess(self, videos: Any, **kwargs: Unpack[FrosterVideoProcessorKwargs]) -> BatchFeature:
        """Turn videos into clips; see the class. `kwargs` override the options that the processor was made with."""
        _check_types(kwargs)
        options = self._standardize_kwargs(**self._options(kwargs))
        self._validate_preprocess_kwargs(**options)
        check_options(options)
        _refuse_fps(options["fps"])

        batch = list_videos(videos)
        metadata = _list_metadata(options["video_metadata"], len(batch))
        generators = _list_generators(options["seed"], len(batch))
        limits = VideoLimits.of(options["video_limits"])
        clips: list[torch.Tensor] = []
        for position, video in enumerate(batch):
            generator = generators[position]
            choose = partial(self._frame_indices, options=options, generator=generator)
            frames, metadata[position] = read_video(
                video,
                choose if options["do_sample_frames"] else None,
                metadata=metadata[position],
                backend=options["video_backend"],
                limits=limits,
                allow_urls=options["allow_urls"],
                input_data_format=options["input_data_format"],
            )
            _refuse_scaled_floats(frames, options["do_rescale"])
            _refuse_long_frames(video, frames, options)
            if options["device"] is not None:
                frames = frames.to(options["device"])
            num_views = options["num_views"] if options["do_sample_frames"] else 1
            clips += self._clips_of_video(frames.unflatten(0, (num_views, -1)), options, generator)

        if options["data_format"] in (ChannelDimension.LAST, "channels_last"):
            clips = [clip.permute(0, 2, 3, 1) for clip in clips]
        data: dict[str, Any] = {"pixel_values_videos": _stack(clips) if options["return_tensors"] else clips}
        if options["return_metadata"]:
            data["video_metadata"] = metadata
        return BatchFeature(
            data=data, tensor_type=options["return_tensors"], skip_tensor_conversion=["video_metadata"]
        )

    @staticmethod
    def is_single_video(videos: Any) -> bool:
        """Whether what a caller passed is one video rather than a batch; a list of frames is one."""
        return is_single_video(videos)

    @staticmethod
    def list_videos(videos: Any) -> list[Any]:
        """Split what a caller passed into single videos; a list of frames is one."""
        return list_videos(videos)

    @staticmethod
    def without_video_decoding(data: Any) -> Any:
        """A table or column of `datasets` whose rows are files for this processor; see the function."""
        return without_video_decoding(data)

    def stream_frames(self, video: Any, times_seconds: FrameTimes) -> Iterator[VideoFrame]:
        """Read a video of any length once, holding one frame: those shown at `times_seconds`, as decoded.

        Raises:
            VideoDecodeError: the video cannot be read.
            ValueError: `video_backend` is one that reads no streams, or an option is wrong.
        """
        if get_backend(resolve_backend(self.video_backend)).containers is not None:
            raise ValueError(
                f"`video_backend` is {self.video_backend!r}, but a stream is read by PyAV alone; set it to 'auto' or "
                "'pyav'."
            )
        limits = VideoLimits.of(self.video_limits)
        return stream_frames(encoded_source(video), times_seconds, limits=limits, allow_urls=self.allow_urls)

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Indices (V * T,) of the sampled frames of a video with this metadata.

        Raises:
            ValueError: an option is wrong; `fps` is not one of this processor.
        """
        _refuse_fps(fps)
        given = kwargs if num_frames is None else {**kwargs, "num_frames": num_frames}
        _check_types(given)
        options = self._options(given)
        check_options(options)
        seed = options["seed"]
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        return np.array(self._sample_views(metadata, options, generator)).reshape(-1)

    def _frame_indices(
        self, metadata: VideoMetadata, *, options: dict[str, Any], generator: torch.Generator | None
    ) -> list[int]:
        """The frames of all views, one view after the other."""
        return [index for view in self._sample_views(metadata, options, generator) for index in view]

    def _sample_views(
        self, metadata: VideoMetadata, options: dict[str, Any], generator: torch.Generator | None
    ) -> list[list[int]]:
        return sample_frame_indices(
            metadata.total_num_frames,
            options["num_frames"],
            sampling=options["sampling"],
            fps=metadata.fps,
            frame_stride=options["frame_stride"],
            num_views=options["num_views"],
            generator=generator,
        )

    def _clips_of_video(
        self, views: torch.Tensor, options: dict[str, Any], generator: torch.Generator | None
    ) -> list[torch.Tensor]:
        """(V, T, 3, h, w) -> V * C clips (T, 3, S, S)."""
        if options["cropping"] == "random":
            cropped = [self._random_crop(view, options, generator) for view in views]
        else:
            if options["do_resize"]:
                resized = self.resize(views.flatten(0, 1), size=options["size"], resample=options["resample"])
                views = resized.unflatten(0, views.shape[:2])
            cropped = [crop for view in views for crop in self._center_crops(view, options)]
        return [
            self.rescale_and_normalize(
                clip,
                options["do_rescale"],
                options["rescale_factor"],
                options["do_normalize"],
                options["image_mean"],
                options["image_std"],
            )
            for clip in cropped
        ]

    def _center_crops(self, view: torch.Tensor, options: dict[str, Any]) -> list[torch.Tensor]:
        if not options["do_center_crop"]:
            return [view]
        if options["num_crops"] == 1:
            return [self.center_crop(view, options["crop_size"])]
        side = _square_side(options["crop_size"])
        height, width = view.shape[-2:]
        offsets = crop_offsets(height, width, side, num_crops=options["num_crops"])
        return [tvF.crop(view, top, left, side, side) for top, left in offsets]

    def _random_crop(
        self, view: torch.Tensor, options: dict[str, Any], generator: torch.Generator | None
    ) -> torch.Tensor:
        """Random short side, random square, random mirroring: drawn once a clip, for all its frames alike."""
        side = _square_side(options["crop_size"])
        shortest, longest = options["short_side_range"] or (side, side * 8 // 7)
        if not side <= shortest <= longest:
            raise ValueError(
                f"`short_side_range` is {(shortest, longest)}; it must ascend and start at the crop size, {side}, "
                "or above."
            )
        scale, vertical, horizontal, flip = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        short_side = shortest + int(scale * (longest - shortest + 1))
        view = self.resize(view, size=SizeDict(shortest_edge=short_side), resample=options["resample"])
        height, width = view.shape[-2:]
        top, left = int(vertical * (height - side + 1)), int(horizontal * (width - side + 1))
        view = tvF.crop(view, top, left, side, side)
        return tvF.horizontal_flip(view) if flip < options["flip_probability"] else view


def _check_types(options: Mapping[str, Any]) -> None:
    try:
        validate_typed_dict(FrosterVideoProcessorKwargs, dict(options))  # type: ignore[type-var]
    except StrictDataclassFieldValidationError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _refuse_fps(fps: float | None) -> None:
    if fps is not None:
        raise ValueError(
            f"`fps` is {fps}: this processor samples a fixed number of frames, not frames per second. Set "
            "`num_frames`, and give the frame rate of an array in `video_metadata`."
        )


def _square_side(crop_size: SizeDict) -> int:
    if crop_size.height is None or crop_size.height != crop_size.width:
        raise ValueError(f"Several or random crops must be square, got `crop_size` {dict(crop_size)}.")
    return crop_size.height


def _list_metadata(metadata: Any, num_videos: int) -> list[VideoMetadata | None]:
    if metadata is None:
        return [None] * num_videos
    # transformers' processors nest it: a list of videos for each sample.
    entries: list[Any] = []
    for sample in metadata if isinstance(metadata, list | tuple) else [metadata]:
        entries += sample if isinstance(sample, list | tuple) else [sample]
    if len(entries) != num_videos:
        raise ValueError(
            f"There are {num_videos} videos and {len(entries)} entries of `video_metadata`; give one each."
        )
    return [
        entry if isinstance(entry, VideoMetadata | None) else VideoMetadata(**{"total_num_frames": 0, **entry})
        for entry in entries
    ]


def _list_generators(seed: int | Sequence[int] | None, num_videos: int) -> list[torch.Generator | None]:
    """A source of random numbers for each video; `None` is torch's global one. One seed serves the batch in order."""
    if seed is None:
        return [None] * num_videos
    if isinstance(seed, int):
        return [torch.Generator().manual_seed(seed)] * num_videos
    if len(seed) != num_videos:
        raise ValueError(f"There are {num_videos} videos and {len(seed)} seeds; give one seed, or one a video.")
    return [torch.Generator().manual_seed(number) for number in seed]


def _refuse_scaled_floats(frames: torch.Tensor, do_rescale: bool) -> None:
    if do_rescale and frames.is_floating_point() and 0 < frames.max() <= 1:
        raise ValueError(
            "The frames are floats of at most 1: they seem to be scaled already, and `do_rescale` would divide them "
            "by 255. Pass `do_rescale=False`, or frames from 0 to 255."
        )


def _refuse_long_frames(video: Any, frames: torch.Tensor, options: Mapping[str, Any]) -> None:
    """Frames a pixel high and a million wide, of which the short side is enlarged."""
    sides = [side for name in ("size", "crop_size") for side in dict(options[name] or {}).values() if side]
    short_side = max(sides, default=1)
    height, width = frames.shape[-2:]
    values = frames.shape[0] * 3 * short_side * max(short_side, short_side * max(height, width) // min(height, width))
    if options["do_resize"] and values > max(MAX_VALUES, frames.numel()):
        raise VideoDecodeError(
            source_name(video),
            "the video processor",
            f"{frames.shape[0]} frames of {width} x {height} pixels, resized to a short side of {short_side}, have "
            f"{values} values; at most {MAX_VALUES} are computed",
        )


def _stack(clips: list[torch.Tensor]) -> torch.Tensor:
    shapes = sorted({tuple(clip.shape) for clip in clips})
    if len(shapes) > 1:
        raise ValueError(
            f"The clips have different shapes and cannot be stacked: {', '.join(map(str, shapes))}. Sample a fixed "
            "number of frames (`do_sample_frames`) and crop (`do_center_crop`), or leave out `return_tensors`."
        )
    return torch.stack(clips)


__all__ = ["FrosterVideoProcessor"]
