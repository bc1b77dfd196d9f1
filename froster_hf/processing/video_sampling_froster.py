"""Which frames of a video, and which part of them: the index arithmetic of the video processor, and nothing else.

The first step after a video's length is known: integers in, integers out, no pixels. `dense` is the sampling that the
published FROSTER and Open-VCLIP numbers were measured with; `uniform` and `random_segment` are the segment sampling of
TSN (arXiv 1608.00859), which looks at the whole video.

                 0                                          F-1
    uniform      |--x--|--x--|--x--|--x--|--x--|--x--|--x--|--x--|      the centre of T equal segments
    dense, v of V      |x---x---x---x---x---x---x---x|                  T frames of a window of T * stride frames
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

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
        fps: frames a second of the video, by which the dense window is scaled (fps / 30). `None` counts as 30.
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
        raise ValueError(f"`sampling` is {sampling!r}; it must be one of {', '.join(map(repr, allowed))}.")


def _uniform(num_video_frames: int, num_frames: int, *, num_views: int, **_: object) -> list[list[int]]:
    points = [[(view + 1) / (num_views + 1)] * num_frames for view in range(num_views)]
    return _in_segments(points, num_video_frames, num_frames)


def _random_segment(
    num_video_frames: int, num_frames: int, *, num_views: int, generator: torch.Generator | None, **_: object
) -> list[list[int]]:
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
    """Top left corners of C square crops, evenly spaced along the longer side and centred on the shorter one.

    One crop is the centre crop; three are left, centre and right (top, centre and bottom of an upright video).

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
    centre = (slack_top // 2, slack_left // 2)
    if num_crops == 1:
        return [centre]
    if height > width:
        return [(c * slack_top // (num_crops - 1), centre[1]) for c in range(num_crops)]
    return [(centre[0], c * slack_left // (num_crops - 1)) for c in range(num_crops)]
