"""Scenes: what a batch of clips shows, drawn by a seed, before any pixel is made.

A `Scenes` is a struct of arrays over B scenes of up to two objects. `attributes` holds what can be truly said of each
object (see `vocabulary.ATTRIBUTES`); the rest is what differs between two scenes of the same description.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..settings import check_bounds
from .interactions import draw_courses
from .motions import Draw, frame_times, poses
from .vocabulary import (
    ATTRIBUTES,
    COLOR,
    COLOR_NAMES,
    COLORS,
    MOTION,
    MOTIONS,
    SHAPE,
    SHAPES,
    SIZE,
    SIZES,
    SPEEDS,
    UNSAID,
    MovingShape,
    is_visible,
)

MAX_OBJECTS = 2
BACKDROP_GRID = 8

_SIZE_RANGES = np.array(list(SIZES.values()))
_RGB = np.array(list(COLORS.values())) / 255
_INVISIBLE = np.array([[not is_visible(shape, motion) for motion in MOTIONS] for shape in SHAPES])
_SEEN_SPINNING = np.array([i for i, shape in enumerate(SHAPES) if is_visible(shape, "spinning")])
# While the size itself changes, no word for it is true of the whole clip.
_RESIZING = np.array([motion in ("growing", "shrinking", "pulsing") for motion in MOTIONS])
_SMALL, _MEDIUM = map(tuple(SIZES).index, ("small", "medium"))
_STILL = MOTIONS.index("standing still")


# A label's own backdrop is more blotched than others, and differs a little from clip to clip.
_SCENE_BLOTCHES, _SCENE_NOISE = 0.08, 0.01


@dataclass(frozen=True)
class Hardships:
    """What makes the world harder and more telling; without any, scenes are what they always were.

    Args:
        scene_bias: share of the clips whose backdrop is that of their label: the same for all clips of "a red star
            sliding left". A model that has learned the backdrop fails where it is drawn again (out of context).
        camera_speed: how far the camera pans in half a clip at most, in half short sides; the direction is drawn.
        occlusion_rate: share of the clips in which a gray post stands in front of everything.
        max_crf: the quality of a file is drawn from x264's default, 23, to this; 51 is the worst.
        speeds: whether labels tell the speed of a motion that has one, "slowly" or "quickly".
        interactions: share of the labels that name two objects and what one does to the other ("a red star pushing a
            blue square"), in groups of eight of the same two objects: who they are tells nothing of what they do.

    Raises:
        ValueError: a value that cannot be.
    """

    scene_bias: float = 0.0
    camera_speed: float = 0.0
    occlusion_rate: float = 0.0
    max_crf: int = 23
    speeds: bool = False
    interactions: float = 0.0

    def __post_init__(self):
        shares = dict.fromkeys(("scene_bias", "camera_speed", "occlusion_rate", "interactions"), (0, 1))
        check_bounds(vars(self), shares | {"max_crf": (23, 51)}, where="hardships")

    @property
    def told(self) -> dict[str, Any]:
        """What differs from a world without hardships, as JSON would hold it."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value != getattr(NO_HARDSHIPS, name)}


NO_HARDSHIPS = Hardships()


@dataclass(frozen=True)
class Scenes:
    """B scenes of up to O = 2 objects; lengths are in half short sides of the picture, y points down.

    Indexing with a slice, an integer array or a mask gives the scenes chosen, and their pixels stay what they were.
    """

    attributes: np.ndarray  # (B, O, A) int, UNSAID where there is no such object or no true word
    motion: np.ndarray  # (B, O) int, UNSAID where there is no such object
    radius: np.ndarray  # (B, O)
    center: np.ndarray  # (B, O, 2) of the path
    reach: np.ndarray  # (B, O) the unit of the path's offsets
    angle: np.ndarray  # (B, O) radians
    pace: np.ndarray  # (B, O) in [0, 1)
    phase: np.ndarray  # (B, O) in [0, 1)
    rgb: np.ndarray  # (B, O, 3) in [0, 1]
    trail: np.ndarray  # (B,) bool: does the path stay visible behind the objects?
    moment: np.ndarray  # (B,) the time in (-1, 1) at which a still of the scene is taken
    backdrop: np.ndarray  # (B, 3, G, G) float32 in [0, 1]
    grain_origin: np.ndarray  # (B, 2) int: where the fine noise is cut from
    tempo: np.ndarray  # (B, O) the part of a motion's path that a clip covers
    camera: np.ndarray  # (B, 2) how far the camera pans in half a clip
    course: np.ndarray  # (B, O, 2) the way that an interaction takes an object in a unit of time
    moving: np.ndarray  # (B, O, 2) the times from and to which it takes it
    post: np.ndarray  # (B, 3) place across, half width and brightness of what stands in front; half width 0: nothing

    def __len__(self) -> int:
        return len(self.trail)

    def __getitem__(self, rows: slice | np.ndarray) -> "Scenes":
        return Scenes(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def places(self, slot: int, times: np.ndarray) -> np.ndarray:
        """Where the centers of the objects in `slot` are in the picture at the given times (B, S): (B, S, 2)."""
        own_times = self.tempo[:, slot, None] * times
        pose = poses(self.motion[:, slot], own_times, Draw(self.pace[:, slot, None], self.phase[:, slot, None]))
        return self.path(slot, times, pose.offset)

    def path(self, slot: int, times: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """`places`, where the offsets (B, S, 2) of the objects' own motions are known."""
        center = self.center[:, slot, None] + self.reach[:, slot, None, None] * offset
        if self.course.any():
            first, last = np.moveaxis(self.moving[:, slot, None], -1, 0)
            center = center + self.course[:, slot, None] * times.clip(first, last)[..., None]
        return center - times[..., None] * self.camera[:, None]


def draw_scenes(
    seed: int | np.random.Generator,
    num_scenes: int | None = None,
    *,
    classes: Sequence[MovingShape] | None = None,
    motions: Sequence[str] = MOTIONS,
    second_object_rate: float = 0.0,
    trail_rate: float = 0.0,
    hardships: Hardships = NO_HARDSHIPS,
) -> Scenes:
    """Draw scenes: of anything in the world, or one for each of `classes`.

    Of two objects none is large, each has its own half of the picture, and they differ in color and in shape.

    Args:
        seed: an integer, or a generator to draw from.
        num_scenes: how many, when no classes are given.
        classes: what the first object of each scene is and does, to the second where it is an interaction.
        motions: what other objects may do.
        second_object_rate: the share of scenes with two objects.
        trail_rate: the share of scenes in which objects leave a fading trail.
        hardships: what makes them harder; `scene_bias` needs classes, whose labels the backdrops go with.

    Raises:
        ValueError: both or neither of `num_scenes` and `classes` are given, or a rate is not in [0, 1].
    """
    if (num_scenes is None) == (classes is None):
        raise ValueError("Give either num_scenes (anything in the world) or classes (one scene each), not both.")
    rates = {"second_object_rate": second_object_rate, "trail_rate": trail_rate}
    check_bounds(rates, dict.fromkeys(rates, (0, 1)))
    rng = np.random.default_rng(seed)
    num_scenes = len(classes) if classes is not None else int(num_scenes or 0)

    has_second = rng.random(num_scenes) < second_object_rate
    attributes = _draw_attributes(rng, motions, has_second, classes)
    interacting = np.zeros(num_scenes, dtype=bool)
    if classes is not None:
        interacting[:] = [bool(c.partner) for c in classes]
    has_second |= interacting
    radius = _between(rng, *np.moveaxis(_SIZE_RANGES[attributes[..., SIZE]], -1, 0))
    rgb = _RGB[attributes[..., COLOR]] + rng.uniform(-0.03, 0.03, (num_scenes, MAX_OBJECTS, 3))
    motion = attributes[..., MOTION].copy()
    attributes[_RESIZING[motion], SIZE] = UNSAID
    attributes[~has_second, 1] = UNSAID
    motion[~has_second, 1] = UNSAID
    # No word for the motion of one object alone is said of it.
    attributes[interacting, :, MOTION] = UNSAID

    pace, phase = rng.random((2, num_scenes, MAX_OBJECTS))
    center, reach = _place_paths(rng, motion, radius, pace, phase, has_second)
    tempo = np.ones((num_scenes, MAX_OBJECTS))
    if classes is not None:
        tempo[:, 0] = [SPEEDS.get(c.speed, 1.0) for c in classes]
    scenes = Scenes(
        attributes=attributes,
        motion=motion,
        radius=radius,
        center=center,
        reach=reach,
        angle=rng.uniform(-0.2, 0.2, (num_scenes, MAX_OBJECTS)),
        pace=pace,
        phase=phase,
        rgb=rgb.clip(0, 1),
        trail=rng.random(num_scenes) < trail_rate,
        moment=rng.uniform(-1, 1, num_scenes),
        backdrop=_draw_backdrops(rng, num_scenes),
        grain_origin=rng.integers(0, 1 << 16, (num_scenes, 2)),
        tempo=tempo,
        camera=np.zeros((num_scenes, 2)),
        course=np.zeros((num_scenes, MAX_OBJECTS, 2)),
        moving=np.broadcast_to([-np.inf, np.inf], (num_scenes, MAX_OBJECTS, 2)),
        post=np.zeros((num_scenes, 3)),
    )
    if interacting.any():
        scenes = _interact(rng, scenes, interacting, [c.motion for c in classes or () if c.partner])
    return scenes if hardships == NO_HARDSHIPS else _harden(rng, scenes, hardships, classes)


def _partners(classes: Sequence[MovingShape]) -> np.ndarray:
    """The second objects (n, A) that interactions name, which do nothing of their own."""
    partners = np.empty((len(classes), len(ATTRIBUTES)), dtype=np.int64)
    words = [c.partner.split(" ") for c in classes]
    partners[:, COLOR] = [COLOR_NAMES.index(color) for color, _ in words]
    partners[:, SHAPE] = [SHAPES.index(shape) for _, shape in words]
    partners[:, SIZE], partners[:, MOTION] = _SMALL, _STILL
    return partners


def _interact(rng: np.random.Generator, scenes: Scenes, rows: np.ndarray, interactions: Sequence[str]) -> Scenes:
    """The scenes, with the objects of some rows (a mask) on the courses of their interactions."""
    center, course, moving = scenes.center.copy(), scenes.course.copy(), scenes.moving.copy()
    center[rows], course[rows], moving[rows] = draw_courses(rng, interactions, scenes.radius[rows])
    return dataclasses.replace(scenes, center=center, course=course, moving=moving)


def _harden(
    rng: np.random.Generator, scenes: Scenes, hardships: Hardships, classes: Sequence[MovingShape] | None
) -> Scenes:
    """The scenes with hardships, which are drawn last: all else is what it would be without them."""
    num_scenes = len(scenes)
    changed: dict[str, np.ndarray] = {}
    if hardships.scene_bias:
        if classes is None:
            raise ValueError("scene_bias lets the backdrop go with the label; give classes.")
        own = rng.random(num_scenes) < hardships.scene_bias
        labels = [str(c) for c in classes]
        of_label = {label: _draw_scene_of_label(label) for label in dict.fromkeys(labels)}
        backdrops = np.stack([of_label[label] for label in labels])
        backdrops = backdrops + rng.normal(0, _SCENE_NOISE, backdrops.shape)
        changed["backdrop"] = np.where(own[:, None, None, None], backdrops, scenes.backdrop).astype(np.float32)
    if hardships.camera_speed:
        heading = rng.uniform(0, 2 * np.pi, num_scenes)
        way = hardships.camera_speed * rng.uniform(0.5, 1, num_scenes)
        changed["camera"] = way[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    if hardships.occlusion_rate:
        there = rng.random(num_scenes) < hardships.occlusion_rate
        place, half_width = rng.uniform(-0.7, 0.7, num_scenes), rng.uniform(0.1, 0.2, num_scenes)
        changed["post"] = np.stack([place, there * half_width, rng.uniform(0.2, 0.75, num_scenes)], -1)
    return dataclasses.replace(scenes, **changed)


def _draw_scene_of_label(label: str) -> np.ndarray:
    """The backdrop (3, G, G) that goes with a label, in every world the same."""
    rng = np.random.default_rng(zlib.crc32(label.encode()))
    backdrop = _draw_backdrops(rng, 1)[0]
    return backdrop + rng.normal(0, _SCENE_BLOTCHES, backdrop.shape)


def ease(scenes: Scenes, variety: float) -> Scenes:
    """Simpler scenes to begin learning with: objects that are alone come to the middle and are large.

    A transformer learns shapes many times faster when they first appear in one place: raise `variety` from 0 to 1 over
    the first part of a training. What is no longer true of an object (its size, a motion less than half as wide)
    becomes `UNSAID`; scenes with two objects stay as they are.

    Args:
        scenes: B scenes.
        variety: 0 (all in the middle, nothing small) to 1 (the scenes as they were drawn).

    Raises:
        ValueError: `variety` is not in [0, 1].
    """
    check_bounds({"variety": variety}, {"variety": (0, 1)})
    alone = (scenes.motion != UNSAID).sum(1, keepdims=True) == 1
    part = np.where(alone, variety, 1.0)
    radius = part * scenes.radius + (1 - part) * np.maximum(scenes.radius, _SIZE_RANGES[-1, 0])
    attributes = scenes.attributes.copy()
    attributes[radius != scenes.radius, SIZE] = UNSAID
    attributes[np.broadcast_to(part < 0.5, radius.shape), MOTION] = UNSAID
    return dataclasses.replace(
        scenes,
        attributes=attributes,
        radius=radius,
        center=part[..., None] * scenes.center,
        reach=part * scenes.reach,
    )


def _draw_attributes(
    rng: np.random.Generator,
    motions: Sequence[str],
    has_second: np.ndarray,
    classes: Sequence[MovingShape] | None,
) -> np.ndarray:
    """What the objects are and do (B, O, A), the first ones as `classes` say; the second are drawn everywhere."""
    num_scenes = len(has_second)
    attributes = np.empty((num_scenes, MAX_OBJECTS, len(ATTRIBUTES)), dtype=np.int64)
    attributes[..., COLOR] = rng.integers(len(COLORS), size=(num_scenes, MAX_OBJECTS))
    attributes[..., MOTION] = rng.choice([MOTIONS.index(motion) for motion in motions], (num_scenes, MAX_OBJECTS))
    shape = rng.integers(len(SHAPES), size=(num_scenes, MAX_OBJECTS))
    other_shape = rng.choice(_SEEN_SPINNING, (num_scenes, MAX_OBJECTS))
    attributes[..., SHAPE] = np.where(_INVISIBLE[shape, attributes[..., MOTION]], other_shape, shape)
    # Two objects must leave each other room: neither is large.
    num_sizes = np.where(has_second, len(SIZES) - 1, len(SIZES))[:, None]
    attributes[..., SIZE] = rng.integers(num_sizes, size=(num_scenes, MAX_OBJECTS))
    if classes is not None:
        for column, index in (
            (COLOR, [COLOR_NAMES.index(c.color) for c in classes]),
            (SHAPE, [SHAPES.index(c.shape) for c in classes]),
            (MOTION, [MOTIONS.index(c.motion) if c.motion in MOTIONS else _STILL for c in classes]),
        ):
            attributes[:, 0, column] = index
    attributes[:, 1] = _make_distinct(rng, attributes[:, 1], attributes[:, 0])
    pairs = [row for row, c in enumerate(classes or ()) if c.partner]
    if classes is not None and pairs:
        attributes[pairs, 1] = _partners([classes[row] for row in pairs])
        attributes[pairs, 0, SIZE] = _SMALL
    attributes[_RESIZING[attributes[..., MOTION]], SIZE] = _MEDIUM
    return attributes


def _make_distinct(rng: np.random.Generator, second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The second objects (B, A), those that repeat the first's color or shape given another one."""
    second = second.copy()
    for column, words in ((COLOR, np.arange(len(COLORS))), (SHAPE, _SEEN_SPINNING)):
        other = rng.choice(words, len(second))
        # The next word of the list is another one, and (for shapes) one that can be seen spinning too.
        place = np.searchsorted(words, other)
        other = np.where(other == first[:, column], words[(place + 1) % len(words)], other)
        repeats = second[:, column] == first[:, column]
        second[repeats, column] = other[repeats]
    return second


def _place_paths(
    rng: np.random.Generator,
    motion: np.ndarray,
    radius: np.ndarray,
    pace: np.ndarray,
    phase: np.ndarray,
    has_second: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Centers (B, O, 2) and reaches (B, O) that keep most of each object in its part of the picture at all times."""
    num_scenes = len(motion)
    time = np.broadcast_to(frame_times(24), (motion.size, 24))
    pose = poses(motion.reshape(-1), time, Draw(pace.reshape(-1, 1), phase.reshape(-1, 1)))
    extent = np.abs(pose.offset).max(1).reshape(num_scenes, MAX_OBJECTS, 2)
    largest = radius * pose.scale.max(1).reshape(radius.shape)

    # The part of the picture that belongs to an object: all of it, or one half when there are two. The cut runs along
    # the first object's way, so that it has the whole length of the picture.
    middle = np.zeros((num_scenes, MAX_OBJECTS, 2))
    half = np.ones((num_scenes, MAX_OBJECTS, 2))
    scene = np.flatnonzero(has_second)
    any_axis, side = rng.integers(2, size=(2, num_scenes))
    across = np.where(extent[:, 0, 0] == extent[:, 0, 1], any_axis, extent[:, 0].argmin(-1))[scene]
    sign = 2 * side[scene] - 1
    for slot, slot_sign in ((0, sign), (1, -sign)):
        middle[scene, slot, across] = 0.5 * slot_sign
        half[scene, slot, across] = 0.5
    room = np.maximum(half - 0.85 * largest[..., None], 0.06)
    reach = np.where(extent > 0, room, 1).min(-1)
    slack = np.maximum(room - reach[..., None] * extent, 0)
    return middle + slack * rng.uniform(-1, 1, slack.shape), reach


def _draw_backdrops(rng: np.random.Generator, num_scenes: int) -> np.ndarray:
    """Muted gradients with blotches (B, 3, G, G): between black and white, and never as vivid as an object."""
    level = rng.uniform(0.34, 0.62, (num_scenes, 1, 1, 1))
    tint = rng.uniform(-0.06, 0.06, (num_scenes, 3, 1, 1))
    slope_x, slope_y = rng.uniform(-0.1, 0.1, (2, num_scenes, 1, 1, 1))
    color_slope_x, color_slope_y = rng.uniform(-0.03, 0.03, (2, num_scenes, 3, 1, 1))
    axis = np.linspace(-1, 1, BACKDROP_GRID)
    gradient = (slope_x + color_slope_x) * axis + (slope_y + color_slope_y) * axis[:, None]
    blotches = rng.normal(0, 0.03, (num_scenes, 1, BACKDROP_GRID, BACKDROP_GRID))
    return (level + tint + gradient + blotches).clip(0.15, 0.8).astype(np.float32)


def _between(rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low + (high - low) * rng.random(low.shape)
