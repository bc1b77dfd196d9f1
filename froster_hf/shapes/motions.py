"""Where an object is, how large, how turned and how opaque, at every moment of a motion.

Time runs from -1 to 1 with 0 in the middle of the clip, and of two opposite motions one is the other with the sign of
time changed. So a clip of "sliding right" *is* the reversed clip of "sliding left" with the same draw, bit for bit,
and no single frame tells the two apart: what a time-reversal-invariant model can learn of direction here is exactly
nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .vocabulary import MOTIONS, OPPOSITES, SLIDES


class Draw(NamedTuple):
    """What differs between two objects of the same motion: `pace` (N, 1) in [0, 1) and `phase` (N, 1) in [0, 1)."""

    pace: np.ndarray
    phase: np.ndarray


class Pose(NamedTuple):
    """`offset` (N, S, 2) from the center of the path in units of its reach; `scale`, `angle` (radians, clockwise) and
    `opacity` (N, S)."""

    offset: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray


Path = Callable[[np.ndarray, Draw], Pose]


def poses(motion: np.ndarray, time: np.ndarray, draw: Draw) -> Pose:
    """The poses of N objects at S moments each.

    Args:
        motion: (N,) indices into `MOTIONS`.
        time: (N, S), -1 at the start of the clip and 1 at its end; moments outside continue the motion.
        draw: the objects' own pace and phase.
    """
    pose = _rest(time)
    for index in np.unique(motion):
        rows = motion == index
        path, sign = _PATHS[MOTIONS[index]]
        for whole, part in zip(pose, path(sign * time[rows], Draw(draw.pace[rows], draw.phase[rows]))):
            whole[rows] = part
    return pose


def frame_times(num_frames: int) -> np.ndarray:
    """The moments (T,) of a clip's frames: the middles of T equal parts of [-1, 1], exactly symmetric about 0."""
    return (2 * np.arange(num_frames) + 1 - num_frames) / num_frames


def _rest(time: np.ndarray) -> Pose:
    return Pose(np.zeros((*time.shape, 2)), np.ones_like(time), np.zeros_like(time), np.ones_like(time))


def _wave(time: np.ndarray, draw: Draw, cycles: float, more_cycles: float) -> np.ndarray:
    """A sine (N, S) of `cycles` to `cycles + more_cycles` periods a clip, by pace, starting anywhere."""
    return np.sin(2 * np.pi * ((cycles + more_cycles * draw.pace) * time / 2 + draw.phase))


def _still(time: np.ndarray, draw: Draw) -> Pose:
    return _rest(time)


def _slide(direction: tuple[float, float]) -> Path:
    def path(time: np.ndarray, draw: Draw) -> Pose:
        return _rest(time)._replace(offset=((0.85 + 0.15 * draw.pace) * time)[..., None] * direction)

    return path


def _circle(time: np.ndarray, draw: Draw) -> Pose:
    angle = 2 * np.pi * ((1 + 0.25 * draw.pace) * time / 2 + draw.phase)
    return _rest(time)._replace(offset=np.stack([np.cos(angle), np.sin(angle)], -1))


def _grow(time: np.ndarray, draw: Draw) -> Pose:
    return _rest(time)._replace(scale=np.exp2((0.5 + 0.15 * draw.pace) * time))


def _fade_in(time: np.ndarray, draw: Draw) -> Pose:
    return _rest(time)._replace(opacity=np.clip(0.56 + (0.44 + 0.04 * draw.pace) * time, 0, 1))


def _spin(time: np.ndarray, draw: Draw) -> Pose:
    turn_sign = np.where(draw.phase < 0.5, 1, -1)
    return _rest(time)._replace(angle=np.pi * (4 * draw.phase + turn_sign * (0.75 + 0.25 * draw.pace) * time))


def _bounce(time: np.ndarray, draw: Draw) -> Pose:
    height = np.abs(_wave(time, draw, 1.0, 0.25))
    return _rest(time)._replace(offset=np.stack([np.zeros_like(height), 0.9 - 1.8 * height], -1))


def _swing(time: np.ndarray, draw: Draw) -> Pose:
    across = _wave(time, draw, 1.0, 0.25)
    return _rest(time)._replace(offset=np.stack([across, 0.3 - 0.6 * across**2], -1))


def _shake(time: np.ndarray, draw: Draw) -> Pose:
    across = 0.35 * _wave(time, draw, 2.75, 0.5)
    return _rest(time)._replace(offset=np.stack([across, np.zeros_like(across)], -1))


def _pulse(time: np.ndarray, draw: Draw) -> Pose:
    return _rest(time)._replace(scale=np.exp2(0.45 * _wave(time, draw, 2.0, 0.5)))


def _blink(time: np.ndarray, draw: Draw) -> Pose:
    return _rest(time)._replace(opacity=np.where(_wave(time, draw, 2.0, 0.5) > -0.2, 1.0, 0.0))


# Each path with the sign of its time.
_PATHS: dict[str, tuple[Path, int]] = {
    "circling clockwise": (_circle, 1),
    "growing": (_grow, 1),
    "fading in": (_fade_in, 1),
    "spinning": (_spin, 1),
    "bouncing": (_bounce, 1),
    "swinging": (_swing, 1),
    "shaking": (_shake, 1),
    "pulsing": (_pulse, 1),
    "blinking": (_blink, 1),
    "standing still": (_still, 1),
}
_PATHS |= {motion: (_slide(direction), 1) for motion, direction in SLIDES.items()}
_PATHS |= {
    OPPOSITES[motion]: (path, -sign)
    for motion, (path, sign) in _PATHS.items()
    if motion in OPPOSITES and OPPOSITES[motion] not in _PATHS
}
