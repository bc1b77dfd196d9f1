"""Captions in varied words, each with exactly what it claims.

A caption says some of what is true of a scene ("there is something red and a small moon moving to the left"); its
claims are the same facts as integers, so `vocabulary.matches` knows every scene of a batch for which it is true.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .scenes import Scenes
from .vocabulary import (
    ATTRIBUTES,
    COLOR,
    COLOR_NAMES,
    MOTION,
    MOTIONS,
    SHAPE,
    SHAPES,
    SIZE,
    SIZE_NAMES,
    TRAIL_MOTIONS,
    UNSAID,
    with_article,
)

TEMPLATES = (
    "{}",
    "{}.",
    "a photo of {}.",
    "a picture of {}.",
    "an image of {}.",
    "a video of {}.",
    "a clip of {}.",
    "a drawing of {}.",
    "an example of {}.",
    "a demonstration of {}.",
    "this is {}.",
    "there is {}.",
    "here we see {}.",
    "{} on a blurry background.",
    "{} in front of a grey wall.",
)

PAIR_TEMPLATES = ("{} and {}", "{} and {}", "{} together with {}", "two things: {} and {}")

# The word of the labels comes first, and is said as often as all the others together.
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "dot"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "heart": ("heart",),
    "moon": ("moon", "crescent"),
    "diamond": ("diamond", "rhombus"),
    "arrow": ("arrow",),
    "bar": ("bar", "plank"),
    "hourglass": ("hourglass",),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium-sized",),
    "large": ("large", "big", "huge"),
}
MOTION_WORDS: dict[str, tuple[str, ...]] = {
    "sliding left": ("sliding left", "moving to the left", "going left", "drifting leftwards"),
    "sliding right": ("sliding right", "moving to the right", "going right", "drifting rightwards"),
    "sliding up": ("sliding up", "moving up", "going upwards", "rising"),
    "sliding down": ("sliding down", "moving down", "going downwards", "sinking"),
    "sliding up left": ("sliding up left", "moving up and to the left", "rising to the left"),
    "sliding up right": ("sliding up right", "moving up and to the right", "rising to the right"),
    "sliding down left": ("sliding down left", "moving down and to the left", "sinking to the left"),
    "sliding down right": ("sliding down right", "moving down and to the right", "sinking to the right"),
    "circling clockwise": ("circling clockwise", "going around clockwise", "moving in a circle clockwise"),
    "circling counterclockwise": (
        "circling counterclockwise",
        "going around counterclockwise",
        "circling anticlockwise",
    ),
    "growing": ("growing", "getting bigger", "expanding"),
    "shrinking": ("shrinking", "getting smaller", "contracting"),
    "fading in": ("fading in", "appearing"),
    "fading out": ("fading out", "disappearing"),
    "spinning": ("spinning", "rotating", "turning around"),
    "bouncing": ("bouncing", "jumping up and down", "hopping"),
    "swinging": ("swinging", "swinging from side to side", "swaying"),
    "shaking": ("shaking", "trembling", "vibrating"),
    "pulsing": ("pulsing", "pulsating", "throbbing"),
    "blinking": ("blinking", "flashing on and off", "flickering"),
    "standing still": ("standing still", "not moving", "at rest"),
}
_ANY_SHAPE = ("shape", "object", "thing", "figure")
# How often a caption says a thing that is true.
_SAID = {COLOR: 0.85, SHAPE: 0.85, SIZE: 0.3, MOTION: 0.7}
_BOTH_OBJECTS_SAID = 0.6


class Captions(NamedTuple):
    """C captions: `texts`, and what they claim, `claims` (C, 2, A) with `UNSAID` where they say nothing."""

    texts: list[str]
    claims: np.ndarray


def still_attributes(scenes: Scenes) -> np.ndarray:
    """What a still of each scene shows (B, O, A): its `attributes`, with the motion only where a trail tells it."""
    attributes = scenes.attributes.copy()
    told = np.isin(attributes[..., MOTION], [MOTIONS.index(motion) for motion in TRAIL_MOTIONS])
    attributes[..., MOTION] = np.where(told & scenes.trail[:, None], attributes[..., MOTION], UNSAID)
    return attributes


def draw_captions(seed: int | np.random.Generator, attributes: np.ndarray) -> Captions:
    """Write one caption for each scene.

    Args:
        seed: an integer, or a generator to draw from.
        attributes: (B, O, A) what is true: `scenes.attributes` for clips, `still_attributes(scenes)` for stills.
    """
    rng = np.random.default_rng(seed)
    claims = _draw_claims(rng, attributes)
    return Captions([_write(rng, claim) for claim in claims], claims)


def _draw_claims(rng: np.random.Generator, attributes: np.ndarray) -> np.ndarray:
    num_scenes, num_objects, _ = attributes.shape
    said = rng.random(attributes.shape) < [_SAID[column] for column in range(len(ATTRIBUTES))]
    # Every object that is spoken of has a color or a shape.
    neither = ~(said[..., COLOR] | said[..., SHAPE])
    said[..., SHAPE] |= neither
    # Of two objects, one or both are spoken of.
    pair = attributes[:, 1, SHAPE] != UNSAID
    only = np.where(
        pair & (rng.random(num_scenes) >= _BOTH_OBJECTS_SAID), rng.integers(num_objects, size=num_scenes), -1
    )
    for index in range(num_objects):
        said[(only != -1) & (only != index), index] = False
    return np.where(said, attributes, UNSAID)


def _write(rng: np.random.Generator, claim: np.ndarray) -> str:
    phrases = [_describe(rng, said) for said in claim if (said != UNSAID).any()]
    if len(phrases) == 2:
        rng.shuffle(phrases)
        phrases = [_pick(rng, PAIR_TEMPLATES).format(*phrases)]
    return _pick(rng, TEMPLATES).format(phrases[0])


def _describe(rng: np.random.Generator, said: np.ndarray) -> str:
    """One object: 'a tiny red star going left', 'something blue'."""
    color = COLOR_NAMES[said[COLOR]] if said[COLOR] != UNSAID else ""
    size = _pick(rng, SIZE_WORDS[SIZE_NAMES[said[SIZE]]]) if said[SIZE] != UNSAID else ""
    if said[SHAPE] == UNSAID and not size and rng.random() < 0.5:
        phrase = f"something {color}"
    else:
        shape = _pick(rng, SHAPE_WORDS[SHAPES[said[SHAPE]]] if said[SHAPE] != UNSAID else _ANY_SHAPE)
        phrase = with_article(" ".join(word for word in (size, color, shape) if word))
    if said[MOTION] != UNSAID:
        phrase += " " + _pick(rng, MOTION_WORDS[MOTIONS[said[MOTION]]])
    return phrase


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 or rng.random() < 0.5 else words[1 + int(rng.integers(len(words) - 1))]
