"""Which frames of a video, and which part of them; and what the video processor's options may be.

The first step after a video's length is known: integers in, integers out, no pixels. `dense` is the sampling that the
published FROSTER and Open-VCLIP numbers were measured with; `uniform` and `random_segment` are the segment sampling of
TSN (arXiv 1608.00859), which looks at the whole video.

                 0                                          F-1
    uniform      |--x--|--x--|--x--|--x--|--x--|--x--|--x--|--x--|      the center of T equal segments
    dense, v of V      |x---x---x---x---x---x---x---x|                  T frames of a window of T * stride frames

The options are checked before anything is computed. They come from two hands: those of a checkpoint say how its
model sees a video, and are as trustworthy as the checkpoint; what the machine may fetch and spend is the caller's own
affair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

REFERENCE_FPS = 30.0


@dataclass(frozen=True)
class Sampling:
    """A way of choosing frames.

    Args:
        choose: What `sample_frame_indices` is called with, checked, but for `sampling`; returns V lists of T indices.
        is_random: Whether it draws random numbers: for training. The others are for inference and evaluation.
    """

    choose: Callable[..., list[list[int]]]
    is_random: bool


def sample_frame_indices(
    num_video_frames: int,
    num_frames: int,
    *,
    sampling: str = "uniform",
    fps: float | None = None,
    frame_stride: int = 16,
    num_views: int = 1,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """The frames that a video is represented by: V lists of T indices, each list in ascending order.

    Args:
        num_video_frames: F, the frames that the video has; one is enough.
        num_frames: T, the frames of a view.
        sampling: a name in `SAMPLINGS`. `uniform` takes the center of T equal segments of the whole video (view v of V
            the point (v+1)/(V+1) of each segment). `dense` takes T frames of a window of T * `frame_stride` frames at
            30 fps; view v starts at v * floor((F - window) / (V - 1)), a single view in the middle. `random_segment`
            takes a random frame of each segment, `random_dense` puts the window at a random place: both for training.
        fps: frames per second of the video, by which the dense window is scaled (fps / 30). `None` counts as 30.
        frame_stride: frames between two frames of a dense window, at 30 fps.
        num_views: V, how many times the video is sampled.
        generator: source of the random numbers; `None` is torch's global one.

    Where the window is longer than the video, its last frame is repeated; where the video has fewer frames than
    segments, a frame stands for several segments.

    Raises:
        ValueError: a count below one, an fps that is not positive, or an unknown `sampling`.
    """
    for name, value in (
        ("num_video_frames", num_video_frames),
        ("num_frames", num_frames),
        ("frame_stride", frame_stride),
        ("num_views", num_views),
    ):
        if value < 1:
            raise ValueError(f"`{name}` is {value}; it must be at least 1.")
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps` is {fps}; it must be positive, or None where it is unknown.")

    check_sampling(sampling)
    return SAMPLINGS[sampling].choose(
        num_video_frames, num_frames, fps=fps, frame_stride=frame_stride, num_views=num_views, generator=generator
    )


def check_sampling(sampling: str, *, deterministic: bool = False) -> None:
    """Refuse a name that is not in `SAMPLINGS`, or, where it must be deterministic, one that draws random numbers.

    Raises:
        ValueError: it is one.
    """
    allowed = [name for name, entry in SAMPLINGS.items() if not (deterministic and entry.is_random)]
    if sampling not in allowed:
        raise ValueError(f"`sampling` is {sampling!r:.100}; it must be one of {', '.join(map(repr, allowed))}.")


def _uniform(num_video_frames: int, num_frames: int, *, num_views: int, **_: object) -> list[list[int]]:
    points = [[(view + 1) / (num_views + 1)] * num_frames for view in range(num_views)]
    return _in_segments(points, num_video_frames, num_frames)


def _random_segment(
    num_video_frames: int, num_frames: int, *, num_views: int, generator: torch.Generator | None, **_: object
) -> list[list[int]]:
    import torch

    points = torch.rand(num_views, num_frames, generator=generator, dtype=torch.float64).tolist()
    return _in_segments(points, num_video_frames, num_frames)


def _dense(
    num_video_frames: int, num_frames: int, *, fps: float | None, frame_stride: int, num_views: int, **_: object
) -> list[list[int]]:
    window = _window(num_frames, fps, frame_stride)
    slack = max(num_video_frames - window, 0.0)
    if num_views == 1:
        starts = [math.floor(slack / 2)]
    else:
        starts = [view * math.floor(slack / (num_views - 1)) for view in range(num_views)]
    return [_in_window(start, window, num_video_frames, num_frames) for start in starts]


def _random_dense(
    num_video_frames: int,
    num_frames: int,
    *,
    fps: float | None,
    frame_stride: int,
    num_views: int,
    generator: torch.Generator | None,
) -> list[list[int]]:
    import torch

    window = _window(num_frames, fps, frame_stride)
    slack = max(num_video_frames - window, 0.0)
    starts = (torch.rand(num_views, generator=generator, dtype=torch.float64) * slack).tolist()
    return [_in_window(start, window, num_video_frames, num_frames) for start in starts]


SAMPLINGS: dict[str, Sampling] = {
    "uniform": Sampling(_uniform, is_random=False),
    "dense": Sampling(_dense, is_random=False),
    "random_segment": Sampling(_random_segment, is_random=True),
    "random_dense": Sampling(_random_dense, is_random=True),
}


def _window(num_frames: int, fps: float | None, frame_stride: int) -> float:
    """Length of a dense window in frames of the video."""
    return max(1.0, num_frames * frame_stride * (fps or REFERENCE_FPS) / REFERENCE_FPS)


def _in_segments(points: list[list[float]], num_video_frames: int, num_frames: int) -> list[list[int]]:
    return [[_in_segment(i, u, num_video_frames, num_frames) for i, u in enumerate(view)] for view in points]


def _in_segment(segment: int, point: float, num_video_frames: int, num_frames: int) -> int:
    """Index at `point` in [0, 1) of one of `num_frames` equal segments."""
    return min(math.floor((segment + point) * num_video_frames / num_frames), num_video_frames - 1)


def _in_window(start: float, window: float, num_video_frames: int, num_frames: int) -> list[int]:
    """`num_frames` evenly spaced indices from `start` to `start + window - 1`, floored, clamped to the last frame."""
    last = num_video_frames - 1
    # Multiplied before it is divided: where the quotient is a whole number, no rounding error can floor it one too
    # low.
    return [min(math.floor(start + i * (window - 1) / max(num_frames - 1, 1)), last) for i in range(num_frames)]


def crop_offsets(height: int, width: int, crop_size: int, *, num_crops: int = 1) -> list[tuple[int, int]]:
    """Top left corners of C square crops, evenly spaced along the longer side and centered on the shorter one.

    One crop is the center crop; three are left, center and right (top, center and bottom of an upright video).

    Raises:
        ValueError: `num_crops` below one, or a side shorter than `crop_size`.
    """
    if num_crops < 1:
        raise ValueError(f"`num_crops` is {num_crops}; it must be at least 1.")
    if min(height, width) < crop_size:
        raise ValueError(
            f"A crop of {crop_size} pixels does not fit into frames of {height} x {width} (height x width). "
            "Resize to at least the crop size."
        )
    slack_top, slack_left = height - crop_size, width - crop_size
    center = (slack_top // 2, slack_left // 2)
    if num_crops == 1:
        return [center]
    if height > width:
        return [(c * slack_top // (num_crops - 1), center[1]) for c in range(num_crops)]
    return [(center[0], c * slack_left // (num_crops - 1)) for c in range(num_crops)]


# What only the caller decides; of a checkpoint's limits those count that are lower than the defaults.
CALLERS_OPTIONS = ("allow_urls", "video_backend", "video_limits")
# Of one call: where and in what form its result is wanted, and of which videos. A checkpoint's are passed over.
CALL_OPTIONS = ("device", "data_format", "input_data_format", "return_metadata", "return_tensors", "video_metadata")

# A video's clips in single precision: 2 GiB; 64 frames in 10 views and 3 crops of 224 pixels are half of it.
MAX_VALUES = 2**29
# The same of frames that are longer than so many times their width: a small file holds a line of pixels that becomes
# any number of them. They are enlarged as bytes: 256 MiB.
MAX_LONG_VALUES, MAX_ASPECT = 2**28, 16
# Frames in all clips of a video together.
MAX_FRAMES = 2**16

_COUNTS = ("num_frames", "num_views", "num_crops", "frame_stride")
_SIZES = ("size", "crop_size")


def callers_share(stored: Mapping[str, Any], limits_class: Any) -> dict[str, Any]:
    """A checkpoint's options without those that are the caller's or one call's, and with no limit above the default.

    Args:
        stored: the options that the checkpoint holds.
        limits_class: `froster_hf.video.decoding.VideoLimits`; without it, there is nothing that keeps to limits.

    Raises:
        ValueError: its `video_limits` are not limits.
    """
    kept = {name: value for name, value in stored.items() if name not in (*CALLERS_OPTIONS, *CALL_OPTIONS)}
    limits = stored.get("video_limits")
    if limits is not None and limits_class is not None:
        if not isinstance(limits, Mapping):
            raise ValueError(f"The checkpoint's `video_limits` are {limits!r}; they must be fields of VideoLimits.")
        defaults = limits_class()
        kept["video_limits"] = {name: _lower(value, getattr(defaults, name, None)) for name, value in limits.items()}
        limits_class.of(kept["video_limits"])
    return kept


def _lower(value: Any, default: Any) -> Any:
    """The lower of a stored limit and its default; what is not a number, or not a limit, is left to be refused."""
    return default if isinstance(value, int | float) and default is not None and value > default else value


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that make no clips, or more than fit into a machine.

    Raises:
        ValueError: names the option, its value and what is allowed.
    """
    counts = {name: _checked_count(name, options.get(name)) for name in _COUNTS if options.get(name) is not None}
    sides = [_checked_count(f"{name}.{key}", side) for name in _SIZES for key, side in _sides(name, options.get(name))]
    if options.get("cropping") == "random" and options.get("short_side_range"):
        sides += [_checked_count("short_side_range", side) for side in options["short_side_range"]]
    if options.get("cropping") == "random" and counts["num_crops"] > 1:
        raise ValueError(
            f"`num_crops` is {counts['num_crops']} with `cropping` 'random', which cuts one square out of a clip. "
            "Take `cropping` 'center' for several crops, or `num_crops` 1."
        )
    check_sampling(options["sampling"])
    frames = counts.get("num_frames", 1) * counts["num_views"] * counts["num_crops"]
    values = 3 * frames * max(sides, default=1) ** 2
    if frames > MAX_FRAMES or values > MAX_VALUES:
        names = [name for name in (*_COUNTS, *_SIZES, "short_side_range") if options.get(name) is not None]
        raise ValueError(
            f"{', '.join(f'`{name}` {_plain(options[name])}' for name in names)} make clips of {frames} frames and "
            f"{values} values for each video; at most {MAX_FRAMES} frames and {MAX_VALUES} values are computed. Lower "
            "what is large."
        )
    _check_statistics(options)


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` is {value!r:.100}; it must be a whole number of at least 1.")
    return value


def _plain(option: Any) -> Any:
    """A size without transformers' class around it."""
    return option if isinstance(option, int | list | tuple) else dict(option)


def _sides(name: str, size: Any) -> list[tuple[str, Any]]:
    """The sides that a size names; transformers' own kinds of size are mappings."""
    if size is None:
        return []
    if isinstance(size, int):
        return [("side", size)]
    if isinstance(size, list | tuple):
        return [("side", side) for side in size]
    try:
        return [(key, side) for key, side in dict(size).items() if side is not None]
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` is {size!r:.100}; it must be a size, such as {{'shortest_edge': 224}}.") from None


def _check_statistics(options: Mapping[str, Any]) -> None:
    # What it is divided by has no sign; a factor may have one, as transformers' own tests of processors give it.
    for name, refused in (("image_mean", None), ("image_std", "above"), ("rescale_factor", "other than")):
        value = options.get(name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"`{name}` is {value!r:.100}; it must be made of finite numbers.")
            if refused is not None and (number == 0 or (refused == "above" and number < 0)):
                raise ValueError(f"`{name}` is {value!r:.100}; every number must be {refused} zero.")
