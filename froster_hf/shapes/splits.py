"""Classes drawn by a seed: label lists, and base-to-novel splits in which appearance is new and motion is shared.

Follows the base-to-novel protocol of FROSTER (ICLR 2024) and ViFi-CLIP (CVPR 2023): train on base classes, test on
both.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .vocabulary import COLOR_NAMES, INTERACTIONS, MOTIONS, SHAPES, SPEEDS, UNHURRIED, MovingShape, all_classes


class BaseNovelSplit(NamedTuple):
    """Two lists of classes without a color or a shape in common, and with the same motions equally often."""

    base: list[MovingShape]
    novel: list[MovingShape]


def draw_classes(
    seed: int | np.random.Generator, num_classes: int, *, motions: Sequence[str] = MOTIONS
) -> list[MovingShape]:
    """Draw different classes from the whole world.

    Raises:
        ValueError: there are not so many.
    """
    candidates = all_classes(motions=motions)
    if not 1 <= num_classes <= len(candidates):
        raise ValueError(f"{num_classes} classes wanted; with these motions there are 1 to {len(candidates)}.")
    chosen = np.random.default_rng(seed).choice(len(candidates), num_classes, replace=False)
    return [candidates[index] for index in chosen]


def split_base_novel(
    seed: int | np.random.Generator, *, classes_per_side: int = 48, motions: Sequence[str] = MOTIONS
) -> BaseNovelSplit:
    """Cut colors and shapes in halves and draw classes on each side, every motion on as many appearances as can be.

    Args:
        seed: an integer, or a generator to draw from.
        classes_per_side: how many base classes, and how many novel ones.
        motions: the motions of both sides; each is used `classes_per_side / len(motions)` times, rounded up or down.

    Raises:
        ValueError: a motion would need more appearances than a side has.
    """
    rng = np.random.default_rng(seed)
    colors = [COLOR_NAMES[index] for index in rng.permutation(len(COLOR_NAMES))]
    shapes = [SHAPES[index] for index in rng.permutation(len(SHAPES))]
    turns = [motions[index] for index in rng.permutation(len(motions))]
    wanted = [turns[index % len(turns)] for index in range(classes_per_side)]
    half_colors, half_shapes = len(colors) // 2, len(shapes) // 2
    return BaseNovelSplit(
        _draw_side(rng, colors[:half_colors], shapes[:half_shapes], wanted),
        _draw_side(rng, colors[half_colors:], shapes[half_shapes:], wanted),
    )


def _draw_side(
    rng: np.random.Generator, colors: Sequence[str], shapes: Sequence[str], wanted: Sequence[str]
) -> list[MovingShape]:
    candidates = all_classes(colors=colors, shapes=shapes, motions=dict.fromkeys(wanted))
    candidates = [candidates[index] for index in rng.permutation(len(candidates))]
    uses: Counter[tuple[str, str]] = Counter()
    side: list[MovingShape] = []
    for motion in wanted:
        free = [c for c in candidates if c.motion == motion]
        if not free:
            raise ValueError(
                f"{len(wanted)} classes a side need more appearances for {motion!r} than the "
                f"{len(colors) * len(shapes)} of half a world; ask for fewer classes or allow more motions."
            )
        chosen = min(free, key=lambda c: uses[c.color, c.shape])
        uses[chosen.color, chosen.shape] += 1
        candidates.remove(chosen)
        side.append(chosen)
    return side


def with_speeds(seed: int | np.random.Generator, classes: Sequence[MovingShape]) -> list[MovingShape]:
    """The classes with speeds, in pairs that only the speed tells apart.

    Args:
        seed: an integer, or a generator to draw from.
        classes: every second one gives way to the one before it at its other speed. Where that has none, both stay.

    Returns:
        As many classes, or fewer where two are the same.
    """
    rng = np.random.default_rng(seed)

    def hurried(one: MovingShape) -> MovingShape:
        speed = str(rng.choice(list(SPEEDS)))
        return one if one.motion in UNHURRIED else MovingShape(one.color, one.shape, one.motion, speed)

    told: list[MovingShape] = []
    for first, *second in zip(classes[::2], classes[1::2]):
        told.append(hurried(first))
        other = told[-1].other_speed
        told += [other] if other is not None else map(hurried, second)
    told += map(hurried, classes[2 * (len(classes) // 2) :])
    return list(dict.fromkeys(told))


def with_interactions(
    seed: int | np.random.Generator, classes: Sequence[MovingShape], share: float
) -> list[MovingShape]:
    """The classes, the last of them replaced by interactions of two objects of their colors and shapes.

    The same two objects do all that two can do to each other, in both roles, before others are drawn: eight labels
    that only the motion tells apart.

    Args:
        seed: an integer, or a generator to draw from.
        classes: give way to the interactions, from the last on.
        share: of the classes, from 0 to 1.

    Raises:
        ValueError: the classes have a single color or shape, or too few for so many interactions.
    """
    rng = np.random.default_rng(seed)
    wanted = round(share * len(classes))
    colors, shapes = (sorted({getattr(one, name) for one in classes}) for name in ("color", "shape"))
    objects = [(color, shape) for color in colors for shape in shapes]
    pairs = [(a, b) for a in objects for b in objects if a < b and a[0] != b[0] and a[1] != b[1]]
    per_pair = 2 * len(INTERACTIONS)
    if wanted > per_pair * len(pairs):
        raise ValueError(
            f"{wanted} interactions wanted; the colors and shapes of {len(classes)} classes make "
            f"{per_pair * len(pairs)}. Ask for a smaller share, or for more classes."
        )
    told: list[MovingShape] = []
    for index in rng.permutation(len(pairs))[: -(-wanted // per_pair)]:
        (color, shape), partner = pairs[index]
        for motion in INTERACTIONS:
            one = MovingShape(color, shape, motion, partner=" ".join(partner))
            told += [one, one.other_role]
    return [*classes[: len(classes) - wanted], *told[:wanted]]
