"""`FrosterVideoProcessor`: videos of any kind -> `pixel_values_videos` (B, T, 3, S, S), what the vision tower reads.

The first station of the data flow. Only the sampled frames are decoded; they are resized (bicubic, antialiased),
cropped and normalized as `CLIPImageProcessor` does it with an image. With V views and C crops every video becomes V *
C clips.

Encoded videos (files, bytes, open files, rows of a `datasets` Video column) and image files are read by
`froster_hf.video`: exactly, and in a process that may die. This file is also copied into Hub repositories; where the
package is not installed, files are read by transformers' own loader.
"""

import contextlib
import functools
import importlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassFieldValidationError
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
)
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import is_av_available, logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VIDEO_DECODERS, VideoMetadata

from .sampling_froster import (
    CALLERS_OPTIONS,
    MAX_ASPECT,
    MAX_LONG_VALUES,
    MAX_VALUES,
    SAMPLINGS,
    callers_share,
    check_options,
    crop_offsets,
    sample_frame_indices,
)

logger = logging.get_logger(__name__)

# The code that this package saves a processor with.
AUTO_MAP = {
    "AutoProcessor": "processing_froster.FrosterProcessor",
    "AutoVideoProcessor": "video_processing_froster.FrosterVideoProcessor",
}

# Frames of larger sides are not processed on trial.
LARGEST_TRIED_SIDE = 2048
# By so much floats may lie beyond 0 and 255, as resizing leaves them; and below so much they are nearly black.
BEYOND_PIXELS, DARK_PIXELS = 128, 16
# What pixels may become, and by which share of it black and white differ at least; CLIP's become up to 2.2 and differ
# by 3.7, and pixels that are not rescaled become up to 1,000.
LARGEST_PIXEL, LEAST_CONTRAST = 10_000, 1e-3
# Options whose whole numbers are floats, as far as those have all of them.
FLOATS = ("image_mean", "image_std", "rescale_factor", "flip_probability")
LARGEST_WHOLE = 2**53
# Of frames in memory that are repeated, since a checkpoint asks for more than there are: two gigabytes, as of a file.
MOST_REPEATED_BYTES = 2**31
# Of frames that are resized at once.
RESIZED_BYTES = 2**26
UrlPolicy = str | list[str] | tuple[str, ...]
FrameChooser = Callable[[VideoMetadata], Sequence[int]]


class FrosterVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of `FrosterVideoProcessor` beyond those of every video processor.

    Attributes:
        sampling: which frames represent a video, a name in `SAMPLINGS`; see `sample_frame_indices`.
        frame_stride: frames between two frames of a `dense` window, at 30 fps.
        num_views: V, windows of frames per video.
        num_crops: C, `center` crops per frame, spread along the longer side; `random` ones are one per clip.
        cropping: `center` for inference; `random` for training: the short side is scaled to a random length, a random
            square is cut out, and the clip may be mirrored, alike in all its frames.
        short_side_range: shortest and longest short side of `random` cropping in pixels; `None` is from the crop size
            to 8/7 of it (224 to 256).
        flip_probability: how often `random` cropping mirrors a clip. Zero where the direction of a motion is part of
            the label.
        seed: makes the random choices reproducible; one number, or one per video.
        video_backend: `auto`, or a name in `BACKENDS`. This and the two that follow are the caller's: a
            checkpoint neither sets nor stores them.
        video_limits: what a file may cost, fields of `VideoLimits`. A checkpoint may lower them.
        allow_urls: whether a video may be fetched from the network: `none`, `https`, or `http` for both; addresses
            of other places (`s3://bucket/videos/`) below which files may be opened; or a list of these.
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
    allow_urls: UrlPolicy


class FrosterVideoProcessor(BaseVideoProcessor):
    """Reads, samples, resizes, crops and normalizes videos.

    Inputs: a path, bytes, an open binary file, a row of a `datasets` Video column, a folder of image files, a list of
    PIL images or image files, a row of a `datasets` column of lists of images, a NumPy or torch array (channels first
    or last; uint8, or floats from 0 to 255), or a list of any of these, of different sizes and lengths.

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
        try:
            super().__init__(**kwargs)
        except (ValueError, LookupError) as error:  # transformers' own, which repeat a checkpoint's values as they are
            reason = _one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"No video can be processed with these options: {reason}") from error
        # transformers passes on what a checkpoint's file says beside the options.
        _check_types({name: value for name, value in kwargs.items() if name in self.valid_kwargs.__annotations__})
        self._check_options(self._options({}))

    @classmethod
    def get_video_processor_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers, if the files are the checkpoint's own and name nothing else to load."""
        if (files := package_module("processing.tokenizer_files")) is not None:
            files.check_processor_files(pretrained_model_name_or_path, **kwargs)
        return super().get_video_processor_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """The processor that a checkpoint describes, with the options of the caller, `kwargs`.

        Raises:
            ValueError: the checkpoint's options are wrong, would compute without bound, or could not be saved.
        """
        known = {*cls.valid_kwargs.__annotations__, "auto_map", "processor_class"}
        limits_class = getattr(_decoding(), "VideoLimits", None)
        stored = {
            name: value for name, value in callers_share(video_processor_dict, limits_class).items() if name in known
        }
        code = stored.get("auto_map")
        if code is not None and not isinstance(code, dict):
            raise ValueError(f"`auto_map` of the video processor is {code!r:.100}; it has to be an object. Delete it.")
        # Another's code would be saved and published with the processor.
        if own := dict(entry for entry in (stored.pop("auto_map", None) or {}).items() if entry in AUTO_MAP.items()):
            stored["auto_map"] = own
        built = super().from_dict(stored, **kwargs)
        processor = built[0] if isinstance(built, tuple) else built
        processor.try_options()
        return built

    def try_options(self) -> None:
        """Process one black frame, so that options with which no frame can be processed are not booked on a video.

        Raises:
            ValueError: it could not be processed, or black and white come out as the same numbers, or as others than a
                model computes with.
        """
        options = self._standardize_kwargs(**self._options({}))
        _refuse_fps(options["fps"])
        largest = _largest_side(options)
        side = min(largest, LARGEST_TRIED_SIDE)
        try:
            self._validate_preprocess_kwargs(**options)
            _list_generators(options["seed"], 1)
            generator = torch.Generator().manual_seed(0)
            if options["do_sample_frames"]:
                self._frame_indices(VideoMetadata(total_num_frames=64, fps=30.0), options=options, generator=generator)
            if side == largest:
                # Of another size, or it would not be resized.
                frame = torch.zeros(1, 1, 3, side + 1, side + 1, dtype=torch.uint8)
                clips = self._clips_of_video(frame, options, generator)
                if not all(clip.isfinite().all() for clip in clips):
                    raise ValueError("its pixels are not numbers")
            self._try_statistics(options)
        except Exception as error:  # whatever transformers and torch raise for options that their types allow
            reason = _one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"No video can be processed with this checkpoint's options: {reason}") from error

    def _try_statistics(self, options: dict[str, Any]) -> None:
        """Refuse statistics with which every video is answered alike, or none is."""
        black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
        black, white = self._normalized(black_and_white, options).flatten(1).float()
        if not (largest := float(torch.stack([black, white]).abs().max())) <= LARGEST_PIXEL:
            raise ValueError(f"its pixels become numbers of up to {largest:g}; those of a model have some thousand")
        contrast = float((white - black).abs().min())
        if contrast < LEAST_CONTRAST * max(largest, 1):
            raise ValueError(
                f"black and white become numbers of up to {largest:g} that differ by {contrast:g}: every video would "
                "get the same answer"
            )

    def picture_size(self, **given: Any) -> tuple[int, int] | None:
        """Height and width of all frames that are handed on with these options; `None` where they go by the video."""
        options = self._standardize_kwargs(**self._options(given))
        if _crops(options):
            size = options["crop_size"]
        elif options["do_resize"]:
            size = options["size"]
        else:
            return None
        # Of several kinds of size, transformers takes the first of these.
        goes_by_video = size.shortest_edge or (size.max_height and size.max_width)
        return None if goes_by_video or not (size.height and size.width) else (size.height, size.width)

    def refuse_other_pictures(self, side: int, **given: Any) -> None:
        """Refuse options with which frames are, of any video, no squares of the size that a model sees, and a file
        that has a clip be all frames of a video, however many these are.

        Args:
            side: pixels along each side of the model's frames.
            given: options of a call.

        Raises:
            ValueError: names both sizes, or the option.
        """
        if not self.do_sample_frames and "do_sample_frames" not in given:
            raise ValueError(
                "The processor takes all frames of each video (its `do_sample_frames` is false), and a model computes "
                "a number that is known before. Set `do_sample_frames` to true in its file."
            )
        size = self.picture_size(**given)
        if size != (side, side):
            made = "of the shape of each video" if size is None else f"of {size[0]} x {size[1]} pixels"
            raise ValueError(
                f"The processor makes frames {made}, and the model sees {side} x {side}. Load the processor of this "
                "model's checkpoint, or set its `size`, `crop_size`, `do_resize` and `do_center_crop`."
            )

    def to_dict(self) -> dict[str, Any]:
        """The options that a checkpoint stores: all but those that are the caller's."""
        return {name: value for name, value in super().to_dict().items() if name not in CALLERS_OPTIONS}

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call: those given, the others as the processor was made."""
        names = self.valid_kwargs.__annotations__
        return _with_floats({name: given.get(name, getattr(self, name, None)) for name in names})

    @staticmethod
    def _check_options(options: Mapping[str, Any]) -> None:
        """Refuse options that make no clips, that make more than fit into a machine, or that nothing here keeps to."""
        check_options(options)
        if (decoding := _decoding()) is not None:
            decoding.resolve_backend(options["video_backend"])
            decoding.split_policy(options["allow_urls"])
        elif changed := [name for name in CALLERS_OPTIONS if options[name] not in (None, "auto", "none")]:
            raise ValueError(f"`{changed[0]}` is {options[changed[0]]!r}, which takes the package. {_INSTALL}")

    def preprocess(self, videos: Any, **kwargs: Unpack[FrosterVideoProcessorKwargs]) -> BatchFeature:
        """Turn videos into clips; see the class. `kwargs` override the options that the processor was made with."""
        _check_types(kwargs)
        options = self._standardize_kwargs(**self._options(kwargs))
        self._validate_preprocess_kwargs(**options)
        self._check_options(options)
        _refuse_fps(options["fps"])

        batch = self.list_videos(videos)
        metadata = _list_metadata(options["video_metadata"], len(batch))
        generators = _list_generators(options["seed"], len(batch))
        clips: list[torch.Tensor] = []
        for position, video in enumerate(batch):
            generator = generators[position]
            choose = partial(self._frame_indices, options=options, generator=generator)
            frames, metadata[position] = read_video(
                video,
                choose if options["do_sample_frames"] else None,
                metadata=metadata[position],
                backend=options["video_backend"],
                limits=options["video_limits"],
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

    @property
    def is_random(self) -> bool:
        """Whether random numbers are drawn for every video, so that the order of videos matters."""
        return SAMPLINGS[self.sampling].is_random or self.cropping == "random"

    @staticmethod
    def is_single_video(videos: Any) -> bool:
        """Whether what a caller passed as `videos` is a single video, rather than a batch of them.

        A 5-D array is a batch, any other one a video. A list is one video where its first element is a frame (a PIL
        image, a 2-D or 3-D array), otherwise a batch: of paths, of lists of frames, of anything, mixed.
        """
        if isinstance(videos, np.ndarray | torch.Tensor):
            return videos.ndim != 5
        return not isinstance(videos, list | tuple) or bool(videos and _is_frame(videos[0]))

    @classmethod
    def list_videos(cls, videos: Any) -> list[Any]:
        """Split what a caller passed as `videos` into single videos, as `is_single_video` says.

        A 3-D array and a PIL image are a video of one frame; in a batch, each element is one video: a list is one,
        whatever its frames are, and a 5-D array is none, so that there are as many videos as elements.

        Raises:
            ValueError: an empty batch or an array with another number of dimensions.
            TypeError: something that is not a video.
        """
        if cls.is_single_video(videos):
            return [_video_of_frames(videos)]
        if len(videos) == 0:
            raise ValueError("No video was given: the list is empty.")
        return [_video_of_frames(item) for item in videos]

    @staticmethod
    def without_video_decoding(data: Any) -> Any:
        """A table or column of `datasets` whose rows are files for this processor, not decoders."""
        columns = package_module("video.columns")
        return data if columns is None else columns.without_video_decoding(data)

    @staticmethod
    def share_batch(batch: Any) -> Any:
        """What a worker of a `DataLoader` hands on; see `froster_hf.video.workers.share_batch`."""
        workers = package_module("video.workers")
        return batch if workers is None else workers.share_batch(batch)

    @staticmethod
    def check_queues_of_workers(num_workers: int) -> None:
        """Whether workers can begin; see `froster_hf.video.workers.check_queues_of_workers`."""
        if (workers := package_module("video.workers")) is not None:
            workers.check_queues_of_workers(num_workers)

    def fetch_videos(self, *arguments: Any, **options: Any) -> Any:
        """Refuse what transformers' class has here: it fetches from any host, and decodes in the caller's process."""
        raise ValueError("Videos and frames are fetched by calling the processor with them, as `allow_urls` says.")

    fetch_images = fetch_videos

    def stream_frames(self, video: Any, times_seconds: Any) -> Iterator[Any]:
        """Read a video of any length once, holding one frame; see `froster_hf.video.decoding.stream_frames`.

        Args:
            video: a path, URL, bytes, an open binary file, or a row of a `datasets` Video column.
            times_seconds: sorted times, for each of which the frame is read that is shown then; or a function that
                chooses them, knowing the video, or raises a `ValueError` that says why it cannot, which becomes the
                video's.

        Returns:
            An iterator of `VideoFrame`.

        Raises:
            VideoDecodeError: the video cannot be read.
            ValueError: `video_backend` is one that reads no streams, or an option is wrong.
            ImportError: the package is not installed.
        """
        if (decoding := _decoding()) is None:
            raise ImportError(f"Long videos are read as streams by the package. {_INSTALL}")
        if decoding.resolve_backend(self.video_backend) != decoding.AUTO_BACKEND:
            raise ValueError(
                f"`video_backend` is {self.video_backend!r}, but a stream is read by PyAV alone; set it to 'auto' or "
                "'pyav'."
            )

        def choose(info: Any) -> Any:
            try:
                return times_seconds(info) if callable(times_seconds) else times_seconds
            except ValueError as error:
                raise _unreadable(video, "the times asked for", str(error)) from error

        limits = decoding.VideoLimits.of(self.video_limits)
        return decoding.stream_frames(encoded_source(video), choose, limits=limits, allow_urls=self.allow_urls)

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
        self._check_options(options)
        seed = options["seed"]
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        return np.array(self._frame_indices(metadata, options=options, generator=generator))

    def _frame_indices(
        self, metadata: VideoMetadata, *, options: dict[str, Any], generator: torch.Generator | None
    ) -> list[int]:
        """The frames of all views, one view after the other."""
        views = sample_frame_indices(
            metadata.total_num_frames,
            options["num_frames"],
            sampling=options["sampling"],
            fps=metadata.fps,
            frame_stride=options["frame_stride"],
            num_views=options["num_views"],
            generator=generator,
        )
        return [index for view in views for index in view]

    def _clips_of_video(
        self, views: torch.Tensor, options: dict[str, Any], generator: torch.Generator | None
    ) -> list[torch.Tensor]:
        """(V, T, 3, h, w) -> V * C clips (T, 3, S, S)."""
        if options["cropping"] == "random":
            cropped = [self._random_crop(view, options, generator) for view in views]
        else:
            if options["do_resize"]:
                resized = self._resized(views.flatten(0, 1), options["size"], options)
                views = resized.unflatten(0, views.shape[:2])
            cropped = [crop for view in views for crop in self._center_crops(view, options)]
        return [self._normalized(clip, options) for clip in cropped]

    def _resized(self, frames: torch.Tensor, size: SizeDict, options: dict[str, Any]) -> torch.Tensor:
        """Large frames in parts: torchvision makes copies of what it is given, and each frame is for itself."""
        parts = frames.split(max(1, RESIZED_BYTES * len(frames) // max(1, frames.nbytes)))
        return torch.cat([self.resize(part, size=size, resample=options["resample"]) for part in parts])

    def _normalized(self, clip: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        return self.rescale_and_normalize(
            clip,
            options["do_rescale"],
            options["rescale_factor"],
            options["do_normalize"],
            options["image_mean"],
            options["image_std"],
        )

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
        view = self._resized(view, SizeDict(shortest_edge=short_side), options)
        height, width = view.shape[-2:]
        top, left = int(vertical * (height - side + 1)), int(horizontal * (width - side + 1))
        view = tvF.crop(view, top, left, side, side)
        return tvF.horizontal_flip(view) if flip < options["flip_probability"] else view


def _check_types(options: Mapping[str, Any]) -> None:
    try:
        validate_typed_dict(FrosterVideoProcessorKwargs, _with_floats(options))  # type: ignore[type-var]
    except StrictDataclassFieldValidationError as error:
        raise ValueError(_one_line(str(error))) from error


def _one_line(message: str) -> str:
    """Another library's message about a checkpoint's values, short and without what would act on a terminal."""
    line = " ".join(message.split())[:500]
    return line if line.isprintable() else ascii(line)[1:-1]


def _with_floats(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with whole numbers as the floats that their types ask for, as JSON and callers write them."""

    def as_float(value: Any) -> Any:
        return float(value) if type(value) is int and abs(value) <= LARGEST_WHOLE else value

    floats = {
        name: [as_float(number) for number in value] if isinstance(value, list | tuple) else as_float(value)
        for name, value in options.items()
        if name in FLOATS
    }
    return {**options, **floats}


def _refuse_fps(fps: float | None) -> None:
    if fps is not None:
        raise ValueError(
            f"`fps` is {fps!r}: this processor samples a fixed number of frames, not frames per second. Set "
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
        raise ValueError(f"There are {num_videos} videos and {len(seed)} seeds; give one seed, or one per video.")
    return [torch.Generator().manual_seed(number) for number in seed]


def _refuse_scaled_floats(frames: torch.Tensor, do_rescale: bool) -> None:
    if not (do_rescale and frames.is_floating_point()):
        return
    lowest, highest = (float(value) for value in frames.aminmax())
    # Bicubic resizing leaves some beyond the ends; that does not make all of them dark.
    is_beyond = lowest < -BEYOND_PIXELS or highest > 255 + BEYOND_PIXELS
    if is_beyond or (lowest < 0 and highest < DARK_PIXELS):
        raise ValueError(
            f"The frames are floats from {lowest:g} to {highest:g}, not within 0 to 255: they seem to be normalized "
            "already, or to have more than 8 bits. Pass them as uint8. Or, if they are as the model takes them, pass "
            "`do_rescale=False, do_normalize=False`."
        )
    # Frames that were dark as uint8 are whole numbers still.
    if 0 < highest <= 1 or (0 < highest < DARK_PIXELS and not frames.equal(frames.round())):
        raise ValueError(
            f"The frames are floats of at most {max(highest, 1):g}: they seem to be scaled already, and `do_rescale` "
            "would divide them by 255. Pass `do_rescale=False`. Or, if they are from 0 to 255 and this dark, pass "
            "them as uint8."
        )


def _crops(options: Mapping[str, Any]) -> bool:
    return options["do_center_crop"] or options["cropping"] == "random"


def _largest_side(options: Mapping[str, Any]) -> int:
    sides = [side for name in ("size", "crop_size") for side in dict(options[name] or {}).values() if side]
    return max([*sides, *(options["short_side_range"] or ())], default=1)


def _refuse_long_frames(video: Any, frames: torch.Tensor, options: Mapping[str, Any]) -> None:
    """Frames a pixel high and a million wide, of which the short side is enlarged; or many that a crop fills up."""
    short_side = _largest_side(options)
    height, width = frames.shape[-2:]
    # The long side becomes as long as this: of a line, nothing is left.
    longest = options["size"] and (options["size"].longest_edge or options["size"].max_height)
    if options["do_resize"] and longest and longest * min(height, width) < max(height, width):
        raise _unreadable(
            video, "the video processor", f"nothing is left of {width} x {height} pixels, resized to {longest} at most"
        )
    long_side = short_side * max(height, width) // min(height, width)
    allowed = MAX_VALUES if long_side <= MAX_ASPECT * short_side else MAX_LONG_VALUES
    if options["do_resize"]:
        made, becomes = short_side * max(short_side, long_side), f"resized to a short side of {short_side}"
    elif _crops(options):
        made, becomes = max(height, short_side) * max(width, short_side), f"filled up to {short_side}"
    else:
        return
    values = frames.shape[0] * 3 * made
    if values > max(allowed, frames.numel()):
        raise _unreadable(
            video,
            "the video processor",
            f"{frames.shape[0]} frames of {width} x {height} pixels, {becomes}, have {values} values; at most "
            f"{allowed} are computed",
        )


def _stack(clips: list[torch.Tensor]) -> torch.Tensor:
    shapes = sorted({tuple(clip.shape) for clip in clips})
    if len(shapes) > 1:
        raise ValueError(
            f"The clips have different shapes and cannot be stacked: {', '.join(map(str, shapes))}. Sample a fixed "
            "number of frames (`do_sample_frames`) and crop (`do_center_crop`), or leave out `return_tensors`."
        )
    return torch.stack(clips)


def _video_of_frames(video: Any) -> Any:
    """A single video that has a dimension, or a list, of frames where it consists of frames."""
    if isinstance(video, np.ndarray) and video.dtype == object and video.ndim == 1:
        # Frames of a table whose format is NumPy's or that of Pandas.
        video = video.tolist()
    if isinstance(video, np.ndarray | torch.Tensor):
        if video.ndim not in (3, 4):
            raise ValueError(
                f"A video array has 4 dimensions (frames, channels and two sizes), got shape {tuple(video.shape)}. A "
                "batch of 5 dimensions is given by itself, and its videos one by one in a list."
            )
        return video if video.ndim == 4 else video[None]
    if isinstance(video, Image.Image):
        return [video]
    if isinstance(video, list | tuple):
        if not video:
            raise ValueError("One of the videos is an empty list of frames.")
        return video
    is_encoded = isinstance(video, str | os.PathLike | bytes | bytearray | memoryview | Mapping)
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
    limits: Mapping[str, Any] | None = None,
    allow_urls: UrlPolicy = "none",
    input_data_format: ChannelDimension | str | None = None,
) -> tuple[torch.Tensor, VideoMetadata]:
    """Read the frames of one video at the indices that `choose` names; `None` reads all of them.

    Args:
        video: one element of what `FrosterVideoProcessor.list_videos` returns.
        choose: from the video's metadata (`total_num_frames`, `fps`) to indices, in any order, also repeated.
        metadata: what is known of frames in memory, above all their `fps`.
        backend: what reads encoded videos.
        limits: what a file may cost, fields of `VideoLimits`.
        allow_urls: whether a string may be opened as an address; see `FrosterVideoProcessorKwargs`.
        input_data_format: where the channels of an array are; guessed where `None`.

    Returns:
        Frames (n, 3, h, w), uint8 or, for a float array, float32; and the metadata with `frames_indices`.

    Raises:
        VideoDecodeError: a file that cannot be decoded; a plain ValueError where the package is not installed.
        DecodingUnavailableError: this machine cannot decode at the moment.
        ValueError: an array that is not a video, or frames of different sizes or with pixels that are NaN or infinite.
    """
    video = encoded_source(video)
    if isinstance(video, list | tuple):
        return _read_frame_list(video, choose, metadata, limits, allow_urls)
    if isinstance(video, np.ndarray | torch.Tensor):
        frames = _channels_first(video, input_data_format)
        indices, known = _choose(frames.shape[0], choose, metadata)
        _check_repeats(indices, frames[0])
        return _to_rgb(_finite(frames[indices])), known
    if hasattr(video, "get_frames_at"):
        return _read_torchcodec(video, choose)
    if (decoding := _decoding()) is None:
        return _load_with_transformers(video, choose)
    if isinstance(video, str | os.PathLike) and os.path.isdir(video):
        return _read_folder(decoding, video, choose, metadata, limits)

    def indices_of(info: Any) -> Sequence[int]:
        return _choose(info.num_frames, choose, _metadata_of(info))[0]

    decoded = decoding.decode_video(
        video, indices_of, backend=backend, limits=decoding.VideoLimits.of(limits), allow_urls=allow_urls
    )
    return decoded.frames, replace(_metadata_of(decoded.info), frames_indices=decoded.indices)


def _metadata_of(info: Any) -> VideoMetadata:
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
    with _foreign("The decoder"):
        num_frames, fps = len(decoder), decoder.metadata.average_fps
    known = VideoMetadata(total_num_frames=0, fps=fps, video_backend="torchcodec")
    indices, known = _choose(num_frames, choose, known)
    with _foreign("The decoder"):
        frames = decoder.get_frames_at(indices).data
    return _to_rgb(_channels_first(frames, None)), known


@contextlib.contextmanager
def _foreign(what: str) -> Iterator[None]:
    """Whatever Pillow or somebody else's decoder raises of damage that it meets is the fault of the video."""
    try:
        yield
    except (OSError, TypeError, ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be read: {_one_line(str(error)) or type(error).__name__}") from error


def encoded_source(video: Any) -> Any:
    """The file behind a row of a `datasets` Video column: `{"path", "bytes"}`, or the decoder that was made from it.

    datasets decodes with torchcodec and keeps the source beside the decoder; the source is read by our own exact
    reader. Pictures of a list are such rows as well. Anything else is returned as it is.
    """
    if not isinstance(video, Mapping) and not hasattr(video, "_hf_encoded"):
        return video
    encoded = video if isinstance(video, Mapping) else video._hf_encoded
    # Empty bytes are an empty file, and no reason to open what a table of somebody else names as well.
    source = encoded.get("path") if encoded.get("bytes") is None else encoded["bytes"]
    if source is None:
        raise ValueError(f"A video or frame as a mapping needs 'bytes' or 'path', got the keys {sorted(encoded)}.")
    return source


def _read_folder(
    decoding: Any,
    folder: str | os.PathLike[str],
    choose: FrameChooser | None,
    metadata: VideoMetadata | None,
    limits: Mapping[str, Any] | None,
) -> tuple[torch.Tensor, VideoMetadata]:
    known = metadata or VideoMetadata(total_num_frames=0, video_backend=decoding.IMAGE_READER)

    def indices_of(num_frames: int) -> Sequence[int]:
        return _choose(num_frames, choose, known)[0]

    decoded = decoding.decode_images(folder, indices=indices_of, limits=decoding.VideoLimits.of(limits))
    return decoded.frames, replace(known, total_num_frames=decoded.num_frames, frames_indices=decoded.indices)


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray | torch.Tensor) and item.ndim in (2, 3))


def _read_frame_list(
    frames: Sequence[Any],
    choose: FrameChooser | None,
    metadata: VideoMetadata | None,
    limits: Mapping[str, Any] | None,
    allow_urls: UrlPolicy,
) -> tuple[torch.Tensor, VideoMetadata]:
    indices, known = _choose(len(frames), choose, metadata)
    chosen = {index: encoded_source(frames[index]) for index in sorted(set(indices))}
    files = {index: frame for index, frame in chosen.items() if isinstance(frame, str | os.PathLike | bytes)}
    decoding = _decoding()
    if decoding is not None:
        # Pillow opens a file without decoding it: a few bytes may say that they are a large picture.
        pictures = [chosen[index] for index in indices if isinstance(chosen[index], Image.Image)]
        size = 3 * sum(picture.width * picture.height for picture in pictures)
        if size > (most := decoding.VideoLimits.of(limits).max_decoded_bytes):
            reason = f"the frames take {size} bytes; VideoLimits.max_decoded_bytes is {most}"
            raise _unreadable(frames, decoding.IMAGE_READER, reason)
    images = {}
    for index, frame in chosen.items():
        if index not in files:
            with _foreign(f"Frame {index}"):
                is_picture = decoding is not None and isinstance(frame, Image.Image)
                # Before its pixels are read, with which its file may go.
                several = decoding.joined_pictures(frame) if is_picture else None
                images[index] = _read_frame(frame)
                # Afterwards, since looking for further pages lets go of what Pillow has decoded.
                if is_picture and (several := several or decoding.further_pictures(frame)):
                    raise _unreadable(frames, decoding.IMAGE_READER, f"frame {index}: {several}")
    if files:
        if decoding is None:
            index, file = next(iter(files.items()))
            name = f"frame {index}" if isinstance(file, bytes) else os.fsdecode(file)
            raise ValueError(f"{name!r}: image files are read by the package. {_INSTALL}")
        read = decoding.decode_image_files(files, limits=decoding.VideoLimits.of(limits), allow_urls=allow_urls)
        images.update(zip(files, read))
    if len({image.shape[-2:] for image in images.values()}) > 1:
        sizes = sorted({f"{image.shape[-1]}x{image.shape[-2]}" for image in images.values()})
        raise ValueError(f"The frames of one video differ in size: {', '.join(sizes)} (width x height).")
    if len(dtypes := {str(image.dtype) for image in images.values()}) > 1:
        # Some may be scaled to 1, which tells by no frame where others reach 255.
        raise ValueError(f"The frames of one video differ in type: {', '.join(sorted(dtypes))}. Pass all as uint8.")
    _check_repeats(indices, images[indices[0]])
    return torch.stack([images[index] for index in indices]), known


def _check_repeats(indices: Sequence[int], frame: torch.Tensor) -> None:
    """Refuse a checkpoint that asks for so many more frames than there are in memory that they would fill it."""
    if len(indices) > len(set(indices)) and (size := len(indices) * frame.nbytes) > MOST_REPEATED_BYTES:
        raise ValueError(
            f"The frames of this video, repeated to be {len(indices)}, take {size} bytes; at most "
            f"{MOST_REPEATED_BYTES} are made of frames in memory. Ask for fewer with `num_frames`."
        )


def _read_frame(frame: Any) -> torch.Tensor:
    """One frame that is in memory, a PIL image or an array, as (3, h, w)."""
    if isinstance(frame, Image.Image):
        if 0 in frame.size:
            raise ValueError(f"The video has no pixels: a picture of {frame.width} x {frame.height}.")
        if frame.mode[0] in "IF":
            values = np.array(frame)
            if frame.mode == "F":
                _refuse_scaled_floats(_finite(torch.from_numpy(values)), do_rescale=True)
            if values.min() < 0 or values.max() > 255:
                # Pillow cuts such numbers off at 0 and 255: most of the picture would be black or white.
                raise ValueError(
                    f"A picture of the mode {frame.mode} is not within 0 to 255: give pictures of 8 bits per channel."
                )
        # As the file that it was opened from is read.
        upright = ImageOps.exif_transpose(frame)
        return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)
    if not _is_frame(frame):
        raise TypeError(
            f"Not a frame: {type(frame).__name__}. Give a PIL image, an array, or the path or bytes of an image file."
        )
    return _to_rgb(_finite(_channels_first(frame[None, None] if frame.ndim == 2 else frame[None], None)))[0]


def _channels_first(video: np.ndarray | torch.Tensor, data_format: ChannelDimension | str | None) -> torch.Tensor:
    if isinstance(video, np.ndarray):
        video = torch.from_numpy(np.ascontiguousarray(video))
    if video.layout != torch.strided or video.is_meta or video.is_nested:
        kind = "a nested one" if video.is_nested else f"{video.layout} on the device {video.device}"
        raise TypeError(f"Frames must be a dense tensor that holds its values, got {kind}.")
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
    """Gray is repeated, the alpha channel is dropped (as PIL's conversion to RGB does)."""
    return frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]


_INSTALL = "Install it: `pip install froster-hf`."


@functools.cache
def package_module(name: str) -> Any:
    """A module of `froster_hf`; `None` where the package is not installed.

    By name, since transformers' loader of remote code demands whatever an import statement names.
    """
    try:
        return importlib.import_module(f"froster_hf.{name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("froster_hf"):
            raise
        return None


def _decoding() -> Any:
    """Reads encoded videos."""
    return package_module("video.decoding")


def _unreadable(video: Any, reader: str, reason: str) -> ValueError:
    """The error of a video that cannot be read; names it."""
    if (decoding := _decoding()) is not None:
        return decoding.VideoDecodeError(decoding.source_name(video), reader, reason)
    name = os.fsdecode(video) if isinstance(video, str | os.PathLike) else f"<{type(video).__name__}>"
    return ValueError(f"Cannot decode {name!r} with {reader}: {reason}")


def _load_with_transformers(video: Any, choose: FrameChooser | None) -> tuple[torch.Tensor, VideoMetadata]:
    """The chosen frames of a file, bytes or a file object as transformers' own decoders give them."""
    backend = "pyav" if is_av_available() else "torchcodec"
    if isinstance(video, str | os.PathLike) and not os.path.isfile(video):
        reason = f"it is not a file; URLs and folders of frames are read by the package. {_INSTALL}"
        raise _unreadable(video, backend, reason)
    logger.warning_once(
        "The package froster-hf is not installed: videos are read by transformers' own loader, inside of this "
        "process, without limits, and by what their headers say. `pip install froster-hf` adds exact decoding, in a "
        "process that a broken or hostile file cannot take down."
    )
    wanted: list[int] = []

    def distinct(metadata: VideoMetadata, **_: Any) -> list[int]:
        wanted[:] = _choose(metadata.total_num_frames, choose, metadata)[0]
        return sorted(set(wanted))

    source = os.fsdecode(video) if isinstance(video, str | os.PathLike) else video
    try:
        readable: Any = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        frames, known = VIDEO_DECODERS[backend](readable, distinct)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        # Whatever a damaged file makes them meet.
        raise _unreadable(video, backend, _one_line(str(error)) or type(error).__name__) from error
    places = {index: place for place, index in enumerate(sorted(set(wanted)))}
    if len(frames) != len(places):
        raise _unreadable(video, backend, f"{len(frames)} of {len(places)} frames came out; its header counts wrong")
    frames = _to_rgb(_channels_first(frames, None))[[places[index] for index in wanted]]
    return frames, replace(known, frames_indices=wanted)


__all__ = ["FrosterVideoProcessor"]
