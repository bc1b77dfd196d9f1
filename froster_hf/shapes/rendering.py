"""Pixels: batches of scenes become stills and clips, uint8 with channels first.

The objects of a batch are drawn by one bilinear look-up in the table of signed distances; edges are smoothed over one
pixel, so any resolution is right. A scene's pixels depend on that scene alone: batches can be cut anywhere.
"""

import itertools
import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from .motions import Draw, frame_times, poses
from .outlines import EXTENT, TABLE_SIZE, signed_distance_table
from .scenes import Scenes
from .vocabulary import SHAPE, SHAPES, UNSAID

GRAIN = 0.02
TRAIL_OPACITY = 0.6
# The time in which a trail fades to nothing (a clip lasts 2), and the longest step between two of its images.
TRAIL_LENGTH = 1.0
TRAIL_STEP = 1 / 8

_GRAIN_TILE = 256
# Intermediate images of about 1 MiB a channel stay in the processor's cache.
_PIXELS_AT_ONCE = 1 << 18


def render_clips(scenes: Scenes, *, num_frames: int = 8, resolution: int | tuple[int, int] = 32) -> torch.Tensor:
    """Render every scene as a clip.

    Args:
        scenes: B scenes.
        num_frames: T >= 1, spread evenly over the motion.
        resolution: the side of a square picture, or (height, width); the motion stays in the middle square.

    Returns:
        (B, T, 3, H, W) uint8.
    """
    if num_frames < 1:
        raise ValueError(f"A clip has at least one frame; received num_frames={num_frames}.")
    times = np.broadcast_to(frame_times(num_frames), (len(scenes), num_frames))
    substeps = max(1, round(2 / num_frames / TRAIL_STEP))
    return _render(scenes, times, trail_step=2 / num_frames / substeps, trail_stride=substeps, resolution=resolution)


def render_stills(scenes: Scenes, *, resolution: int | tuple[int, int] = 32) -> torch.Tensor:
    """Render every scene at one moment of its own: (B, 3, H, W) uint8. Arguments as in `render_clips`."""
    times = scenes.moment[:, None]
    return _render(scenes, times, trail_step=TRAIL_STEP, trail_stride=1, resolution=resolution)[:, 0]


def _render(
    scenes: Scenes, times: np.ndarray, *, trail_step: float, trail_stride: int, resolution: int | tuple[int, int]
) -> torch.Tensor:
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    if min(height, width) < 1:
        raise ValueError(f"resolution must be a positive side or (height, width); received {resolution}.")
    clips = torch.empty((*times.shape, 3, height, width), dtype=torch.uint8)
    chunk = max(1, _PIXELS_AT_ONCE // (times.shape[1] * height * width))
    num_objects = (scenes.motion != UNSAID).sum(1)
    for alike in itertools.product(np.unique(num_objects), np.unique(scenes.trail)):
        rows = np.flatnonzero((num_objects == alike[0]) & (scenes.trail == alike[1]))
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            clips[torch.from_numpy(part)] = _render_alike(
                scenes[part], times[part], trail_step=trail_step, trail_stride=trail_stride, height=height, width=width
            ).to(torch.uint8)
    return clips


def _render_alike(
    scenes: Scenes, times: np.ndarray, *, trail_step: float, trail_stride: int, height: int, width: int
) -> torch.Tensor:
    """Scenes with the same number of objects, all with or all without trails: (n, T, 3, H, W) from 0.5 to 255.5."""
    frames = _backdrops(scenes, times, height, width)
    num_objects = int((scenes.motion[0] != UNSAID).sum())
    # The first object is the one that a label names: it is drawn last, on top.
    for slot in reversed(range(num_objects)):
        if scenes.trail[0]:
            cover = _cover_with_trail(scenes, slot, times, trail_step, trail_stride, height, width)
        else:
            cover = _cover(scenes, slot, times, height, width)
        rgb = torch.from_numpy(scenes.rgb[:, slot].astype(np.float32))
        frames = torch.lerp(frames, _to_levels(rgb)[:, None, :, None, None], cover[:, :, None])
    return _with_posts(scenes, frames) if scenes.post[:, 1].any() else frames


def _cover(scenes: Scenes, slot: int, times: np.ndarray, height: int, width: int) -> torch.Tensor:
    """How much of each pixel the object in `slot` covers at the given times (n, S): (n, S, H, W) in [0, 1]."""
    own_times = scenes.tempo[:, slot, None] * times
    pose = poses(scenes.motion[:, slot], own_times, Draw(scenes.pace[:, slot, None], scenes.phase[:, slot, None]))
    center = scenes.path(slot, times, pose.offset)
    radius = scenes.radius[:, slot, None] * pose.scale
    angle = scenes.angle[:, slot, None] + pose.angle
    shape = np.repeat(scenes.attributes[:, slot, SHAPE], times.shape[1])

    distance = _look_up(_float(center), _float(radius), _float(angle), torch.from_numpy(shape), height, width)
    # The edge is one pixel wide: half covered where the distance is zero.
    distance.mul_(_float(radius)[:, None, None] * (-min(height, width) / 2)).add_(0.5).clamp_(0, 1)
    return distance.mul_(_float(pose.opacity)[:, None, None]).reshape(*times.shape, height, width)


def _look_up(
    center: torch.Tensor, radius: torch.Tensor, angle: torch.Tensor, shape: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Signed distances (n, H, W), in radii, of every pixel to n objects: one read of the table."""
    across, down = _pixel_axis(width, height), _pixel_axis(height, width)
    x, y = across - center[:, :1], down - center[:, 1:]  # (n, W), (n, H)
    cos, sin = (
        torch.cos(angle)[:, None] / (radius[:, None] * EXTENT),
        torch.sin(angle)[:, None] / (radius[:, None] * EXTENT),
    )
    grid = torch.empty(len(center), height, width, 2)
    torch.add((cos * x)[:, None], (sin * y)[..., None], out=grid[..., 0])
    # The shapes lie one below the other: stay within the shape's own rows, then move to them.
    edge = 1 - 1 / TABLE_SIZE
    rows = ((cos * y)[..., None] - (sin * x)[:, None]).clamp_(-edge, edge)
    torch.add(rows.div_(len(SHAPES)), ((2 * shape + 1) / len(SHAPES) - 1)[:, None, None], out=grid[..., 1])
    flat = grid.reshape(1, -1, width, 2)
    distance = F.grid_sample(signed_distance_table(), flat, padding_mode="border", align_corners=False)
    return distance.reshape(-1, height, width)


def _cover_with_trail(
    scenes: Scenes, slot: int, times: np.ndarray, step: float, stride: int, height: int, width: int
) -> torch.Tensor:
    """`_cover`, with the object's past positions shining through, ever fainter."""
    num_past = math.ceil(TRAIL_LENGTH / step)
    lag = np.arange(-num_past - (times.shape[1] - 1) * stride, 1) * step
    cover = _cover(scenes, slot, times[:, -1:] + lag, height, width)
    trail = torch.zeros_like(cover[:, 0])
    covers = []
    for index in range(cover.shape[1]):
        if index >= num_past and (index - num_past) % stride == 0:
            covers.append(torch.maximum(cover[:, index], TRAIL_OPACITY * trail))
        # Fading by a constant amount, a trail ends: no frame depends on how long the clip has run.
        trail = torch.maximum(trail, cover[:, index]).sub_(step / TRAIL_LENGTH).clamp_(min=0)
    return torch.stack(covers, 1)


def _backdrops(scenes: Scenes, times: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Smooth backdrops with fine noise, 0 to 255: (n, 1, 3, H, W), or (n, T, 3, H, W) where the camera moves."""
    origin = scenes.grain_origin[:, None]
    smooth = F.interpolate(
        torch.from_numpy(scenes.backdrop), size=(height, width), mode="bilinear", align_corners=False
    )[:, None]
    if scenes.camera.any():
        # What the camera sees at each moment, in whole pixels of a wider backdrop; beyond its edges it is mirrored.
        pixels = np.rint(times[..., None] * scenes.camera[:, None] * (min(height, width) / 2)).astype(np.int64)
        origin = origin + pixels[..., ::-1]
        grid = torch.stack(
            torch.broadcast_tensors(
                _shifted_axis(width, pixels[..., 0])[:, :, None], _shifted_axis(height, pixels[..., 1])[..., None]
            ),
            -1,
        ).flatten(0, 1)
        repeated = torch.from_numpy(scenes.backdrop).repeat_interleave(times.shape[1], 0)
        smooth = F.grid_sample(repeated, grid, padding_mode="reflection", align_corners=False)
        smooth = smooth.unflatten(0, times.shape)
    y = (origin[..., :1] + np.arange(height)) % _GRAIN_TILE
    x = (origin[..., 1:] + np.arange(width)) % _GRAIN_TILE
    pixel = torch.from_numpy(y[..., :, None] * _GRAIN_TILE + x[..., None, :])
    grain = _grain_tile()[:, pixel].movedim(0, 2)
    return _to_levels(smooth.add_(grain).clamp_(0, 1))


def _shifted_axis(side: int, shift: np.ndarray) -> torch.Tensor:
    """Where the pixels of one side lie in a backdrop, -1 to 1, seen from each place (n, T): (n, T, side)."""
    return (
        torch.from_numpy(shift.astype(np.float32))[..., None] * (2 / side) + (2 * torch.arange(side) + 1 - side) / side
    )


def _with_posts(scenes: Scenes, frames: torch.Tensor) -> torch.Tensor:
    """The frames (n, T, 3, H, W) behind posts, from top to bottom."""
    height, width = frames.shape[-2:]
    place, half_width, brightness = torch.from_numpy(scenes.post.astype(np.float32)).unbind(1)
    inside = half_width[:, None] - (_pixel_axis(width, height) - place[:, None]).abs()
    cover = (inside * (min(height, width) / 2) + 0.5).clamp(0, 1) * (half_width > 0)[:, None]
    return torch.lerp(frames, _to_levels(brightness)[:, None, None, None, None], cover[:, None, None, None])


@cache
def _grain_tile() -> torch.Tensor:
    """White noise (3, tile * tile), the same for every run; each scene cuts its own window from it."""
    noise = np.random.default_rng(0).normal(0, GRAIN, (3, _GRAIN_TILE * _GRAIN_TILE))
    return torch.from_numpy(noise.astype(np.float32))


def _pixel_axis(side: int, other_side: int) -> torch.Tensor:
    """The pixels' centers along one side, -1 to 1 along the shorter of the two."""
    return (2 * torch.arange(side) + 1 - side) / min(side, other_side)


def _to_levels(intensity: torch.Tensor) -> torch.Tensor:
    """0..1 to 0.5..255.5, so that cutting off the fraction rounds."""
    return intensity.mul(255).add_(0.5)


def _float(array: np.ndarray) -> torch.Tensor:
    """Flatten (n, S, ...) to float32 (n * S, ...)."""
    return torch.from_numpy(array.astype(np.float32)).flatten(0, 1)
