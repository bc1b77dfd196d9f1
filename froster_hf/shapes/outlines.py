"""The shapes as outlines, and the table of signed distances that the renderer reads.

Each shape is one or more closed polygons about the origin (x to the right, y down, the size of the unit circle).
Their signed distances are tabulated once, so that a whole batch of different shapes is drawn by one bilinear look-up,
with edges smoothed over exactly one pixel at any resolution.
"""

from functools import cache

import numpy as np
import torch

from .vocabulary import SHAPES

# The table covers [-EXTENT, EXTENT]; beyond it every shape is empty.
EXTENT = 1.35
TABLE_SIZE = 128


@cache
def signed_distance_table() -> torch.Tensor:
    """Signed distances, negative inside: (1, 1, shapes * TABLE_SIZE, TABLE_SIZE), the shapes one below the other."""
    axis = (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE * 2 * EXTENT - EXTENT
    points = np.stack(np.meshgrid(axis, axis), -1)
    table = np.concatenate([_signed_distance(points, _outlines()[shape]) for shape in SHAPES])
    return torch.from_numpy(table.astype(np.float32))[None, None]


def _signed_distance(points: np.ndarray, outline: list[np.ndarray]) -> np.ndarray:
    """Distance of each point (..., 2) to the nearest edge, negative where an odd number of polygons contain it."""
    squared = np.full(points.shape[:-1], np.inf)
    inside = np.zeros(points.shape[:-1], dtype=bool)
    x, y = points[..., 0], points[..., 1]
    for polygon in outline:
        for start, end in zip(polygon, np.roll(polygon, -1, axis=0)):
            edge = end - start
            along = np.clip(((points - start) @ edge) / (edge @ edge), 0, 1)
            squared = np.minimum(squared, ((points - start - along[..., None] * edge) ** 2).sum(-1))
            # A ray to the right of the point crosses this edge: even-odd rule.
            spans = (start[1] > y) != (end[1] > y)
            if start[1] != end[1]:
                inside ^= spans & (x < start[0] + (y - start[1]) / (end[1] - start[1]) * edge[0])
    return np.where(inside, -1.0, 1.0) * np.sqrt(squared)


def _outlines() -> dict[str, list[np.ndarray]]:
    circle = _arc(0.0, 2 * np.pi, 48)
    # The moon: most of a circle, closed by the arc of a second circle moved to the right.
    horn = 0.93
    moon = np.concatenate([_arc(horn, 2 * np.pi - horn, 36), _arc(2 * np.pi - 1.37, 1.37, 24) * 0.82 + [0.437, 0.0]])
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    heart = np.stack(
        [
            16 * np.sin(angle) ** 3,
            -13 * np.cos(angle) + 5 * np.cos(2 * angle) + 2 * np.cos(3 * angle) + np.cos(4 * angle) - 2.5,
        ],
        -1,
    )
    arm, foot = 0.32, 0.98
    polygons = {
        "circle": [circle * 0.92],
        "square": [_polygon((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82))],
        "triangle": [_polygon((0, -1.02), (1.0, 0.72), (-1.0, 0.72))],
        "star": [_star(points=5, inner=0.44) * 1.1],
        "cross": [
            _polygon(
                *[(-arm, -foot), (arm, -foot), (arm, -arm), (foot, -arm), (foot, arm), (arm, arm)],
                *[(arm, foot), (-arm, foot), (-arm, arm), (-foot, arm), (-foot, -arm), (-arm, -arm)],
            )
        ],
        "ring": [circle, circle * 0.56],
        "heart": [heart / 15.5],
        "moon": [moon * 1.05],
        "diamond": [_polygon((0, -1.12), (0.66, 0), (0, 1.12), (-0.66, 0))],
        "arrow": [
            _polygon((1.1, 0), (0.2, -0.9), (0.2, -0.34), (-1.05, -0.34), (-1.05, 0.34), (0.2, 0.34), (0.2, 0.9))
        ],
        "bar": [_polygon((-1.12, -0.36), (1.12, -0.36), (1.12, 0.36), (-1.12, 0.36))],
        "hourglass": [_polygon((-0.86, -1.0), (0.86, -1.0), (0.12, 0), (0.86, 1.0), (-0.86, 1.0), (-0.12, 0))],
    }
    return polygons


def _polygon(*corners: tuple[float, float]) -> np.ndarray:
    return np.asarray(corners, dtype=np.float64)


def _arc(start: float, end: float, num_points: int) -> np.ndarray:
    angle = np.linspace(start, end, num_points, endpoint=abs(end - start) < 2 * np.pi)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def _star(*, points: int, inner: float) -> np.ndarray:
    corners = _arc(-np.pi / 2, 1.5 * np.pi, 2 * points)
    corners[1::2] *= inner
    return corners
