"""What the video processor's options may be, checked before anything is computed.

A processor's options come from two hands. Those of a checkpoint say how its model sees a video, and are as trustworthy
as the checkpoint; what the machine may fetch and spend is the caller's own affair.
"""

import math
from collections.abc import Mapping
from typing import Any

from .video_backends_froster import resolve_backend
from .video_decoding_froster import VideoLimits
from .video_sampling_froster import check_sampling

# What only the caller decides; of a checkpoint's limits those count that are lower than the defaults.
CALLERS_OPTIONS = ("allow_urls", "video_backend", "video_limits")

# A video's clips in single precision: 8 GiB. Evaluations of published models stay below a hundredth of it.
MAX_VALUES = 2**31
# Frames in all clips of a video together.
MAX_FRAMES = 2**16

_COUNTS = ("num_frames", "num_views", "num_crops", "frame_stride")
_SIZES = ("size", "crop_size")


def callers_share(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's options without those that are the caller's, and with no limit above the default.

    Raises:
        ValueError: its `video_limits` are not limits.
    """
    kept = {name: value for name, value in stored.items() if name not in CALLERS_OPTIONS}
    limits = stored.get("video_limits")
    if limits is not None:
        if not isinstance(limits, Mapping):
            raise ValueError(f"The checkpoint's `video_limits` are {limits!r}; they must be fields of VideoLimits.")
        defaults = VideoLimits()
        kept["video_limits"] = {name: _lower(value, getattr(defaults, name, None)) for name, value in limits.items()}
        VideoLimits.of(kept["video_limits"])
    return kept


def _lower(value: Any, default: Any) -> Any:
    """The lower of a stored limit and its default; what is no number, or no limit, is left to be refused."""
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
    check_sampling(options["sampling"])
    resolve_backend(options["video_backend"])
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
        raise ValueError(f"`{name}` is {value!r}; it must be a whole number of at least 1.")
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
        raise ValueError(f"`{name}` is {size!r}; it must be a size, such as {{'shortest_edge': 224}}.") from None


def _check_statistics(options: Mapping[str, Any]) -> None:
    # What it is divided by has no sign; a factor may have one, as transformers' own tests of processors give it.
    for name, refused in (("image_mean", None), ("image_std", "above"), ("rescale_factor", "other than")):
        value = options.get(name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"`{name}` is {value!r}; it must be made of finite numbers.")
            if refused is not None and (number == 0 or (refused == "above" and number < 0)):
                raise ValueError(f"`{name}` is {value!r}; every number must be {refused} zero.")
