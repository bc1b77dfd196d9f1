"""What can be said about the moving-shapes world: colors, shapes, sizes, motions, and labels made of them.

A label such as "a red star sliding left" names one object by color, shape and motion; one such as "a red star pushing
a blue square", two objects and what one does to the other. Scenes and captions carry the same facts of single objects
as integers (a column of `ATTRIBUTES` each), so that "is this caption true of that picture?" is arithmetic.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 30, 34),
    "orange": (246, 134, 20),
    "yellow": (244, 226, 46),
    "green": (34, 150, 56),
    "cyan": (54, 216, 226),
    "blue": (32, 62, 216),
    "purple": (122, 40, 168),
    "pink": (252, 132, 192),
    "white": (248, 248, 248),
    "black": (12, 12, 12),
}

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "heart",
    "moon",
    "diamond",
    "arrow",
    "bar",
    "hourglass",
)

# Radii in half short sides of the picture. The gaps keep the words true: nothing lies between two sizes.
SIZES: dict[str, tuple[float, float]] = {"small": (0.28, 0.34), "medium": (0.38, 0.46), "large": (0.52, 0.60)}

SLIDES: dict[str, tuple[float, float]] = {
    "sliding left": (-1.0, 0.0),
    "sliding right": (1.0, 0.0),
    "sliding up": (0.0, -1.0),
    "sliding down": (0.0, 1.0),
    "sliding up left": (-0.85, -0.85),
    "sliding up right": (0.85, -0.85),
    "sliding down left": (-0.85, 0.85),
    "sliding down right": (0.85, 0.85),
}

MOTIONS = (
    *SLIDES,
    "circling clockwise",
    "circling counterclockwise",
    "growing",
    "shrinking",
    "fading in",
    "fading out",
    "spinning",
    "bouncing",
    "swinging",
    "shaking",
    "pulsing",
    "blinking",
    "standing still",
)

# Played backwards, a clip of one is a clip of the other. Every other motion is its own opposite.
OPPOSITES: dict[str, str] = {
    "sliding left": "sliding right",
    "sliding up": "sliding down",
    "sliding up left": "sliding down right",
    "sliding up right": "sliding down left",
    "circling clockwise": "circling counterclockwise",
    "growing": "shrinking",
    "fading in": "fading out",
}
OPPOSITES |= {backward: forward for forward, backward in OPPOSITES.items()}

# What one object does to another. Pushing played backwards is pulling; who follows is then followed.
INTERACTIONS = ("pushing", "pulling", "passing", "following")
_ROLES_SWAP = frozenset({"following"})
OPPOSITE_INTERACTIONS: dict[str, str] = {"pushing": "pulling", "pulling": "pushing"}

# What may stand behind a motion, and which part of its path is then covered in a clip. A single frame does not tell.
SPEEDS: dict[str, float] = {"slowly": 0.4, "quickly": 1.0}
# Motions that have no speed.
UNHURRIED = frozenset({"standing still", "fading in", "fading out", *INTERACTIONS})

# What these leave plainly to be seen in every single frame: stills are taken of them.
STILL_MOTIONS = tuple(motion for motion in MOTIONS if motion not in ("fading in", "fading out", "blinking"))

# A fading trail tells these from one another in a single frame.
TRAIL_MOTIONS = (
    *SLIDES,
    "circling clockwise",
    "circling counterclockwise",
    "spinning",
    "bouncing",
    "swinging",
    "shaking",
)

# Columns of a scene's `attributes` (B, O, A) and a caption's claims (C, O, A); UNSAID: absent, or not said.
ATTRIBUTES = ("color", "shape", "size", "motion")
COLOR, SHAPE, SIZE, MOTION = range(len(ATTRIBUTES))
UNSAID = -1

COLOR_NAMES = tuple(COLORS)
SIZE_NAMES = tuple(SIZES)
NAMES = (COLOR_NAMES, SHAPES, SIZE_NAMES, MOTIONS)

# A turned circle is the same circle.
ROUND = frozenset({"circle", "ring"})


@dataclass(frozen=True, order=True)
class MovingShape:
    """A class of the world: one object by color, shape and motion, or two by what one does to the other. `str()` of it
    is its label.

    Args:
        color: one of `COLORS`.
        shape: one of `SHAPES`.
        motion: one of `MOTIONS`, or of `INTERACTIONS`.
        speed: one of `SPEEDS`, or nothing, in worlds whose labels tell none.
        partner: color and shape of the other object of an interaction, "blue square"; of another color and shape.

    Raises:
        ValueError: a word is not of this world, the motion cannot be seen on the shape (a spinning circle), or an
            interaction without a partner, or a partner without one.
    """

    color: str
    shape: str
    motion: str
    speed: str = ""
    partner: str = ""

    def __post_init__(self):
        for kind, word, known in (
            ("color", self.color, COLOR_NAMES),
            ("shape", self.shape, SHAPES),
            ("motion", self.motion, (*MOTIONS, *INTERACTIONS)),
            ("speed", self.speed, ("", *SPEEDS)),
        ):
            if word not in known:
                raise ValueError(
                    f"Unknown {kind} {word!r}; the moving-shapes world has {', '.join(filter(None, known))}."
                )
        if not is_visible(self.shape, self.motion):
            raise ValueError(f"A {self.shape} looks the same while {self.motion}; choose another shape or motion.")
        if self.speed and self.motion in UNHURRIED:
            raise ValueError(f"{self.motion!r} has no speed; leave out {self.speed!r}.")
        if (self.motion in INTERACTIONS) != bool(self.partner):
            raise ValueError(
                f"{self.motion!r} with the partner {self.partner!r}: {', '.join(INTERACTIONS)} need one, and nothing "
                "else has one."
            )
        if self.partner:
            color, _, shape = self.partner.partition(" ")
            if color not in COLORS or shape not in SHAPES or color == self.color or shape == self.shape:
                raise ValueError(
                    f"The partner {self.partner!r} must be a color and a shape of this world, and neither that of "
                    f"{self.appearance}."
                )

    def __str__(self) -> str:
        other = with_article(self.partner) if self.partner else ""
        return " ".join(filter(None, (self.appearance, self.motion, self.speed, other)))

    @property
    def appearance(self) -> str:
        """The object without its motion: "a red star"."""
        return with_article(f"{self.color} {self.shape}")

    @property
    def opposite(self) -> "MovingShape":
        """The class of the clips of this class played backwards (the class itself when direction does not matter)."""
        if self.motion in _ROLES_SWAP:
            return self.other_role
        motion = {**OPPOSITES, **OPPOSITE_INTERACTIONS}.get(self.motion, self.motion)
        return MovingShape(self.color, self.shape, motion, self.speed, self.partner)

    @property
    def other_role(self) -> "MovingShape":
        """The class of the same interaction with the roles of its two objects exchanged.

        Raises:
            ValueError: it is the class of a single object.
        """
        if not self.partner:
            raise ValueError(f"{str(self)!r} names a single object, which has no other role.")
        color, shape = self.partner.split(" ")
        return MovingShape(color, shape, self.motion, partner=f"{self.color} {self.shape}")

    @property
    def other_speed(self) -> "MovingShape | None":
        """The class of the same object and motion at the other speed; `None` where it has none."""
        if not self.speed:
            return None
        (other,) = set(SPEEDS) - {self.speed}
        return MovingShape(self.color, self.shape, self.motion, other)

    @classmethod
    def from_label(cls, label: str) -> "MovingShape":
        """Read a label back: "a red star sliding left", "... slowly", or "a red star pushing a blue square".

        Raises:
            ValueError: the label does not have the form "a COLOR SHAPE MOTION", or that of an interaction.
        """
        words = label.split()
        if len(words) < 4 or words[0] not in ("a", "an"):
            raise ValueError(f"{label!r} is not of the form 'a COLOR SHAPE MOTION', as 'a red star sliding left' is.")
        if words[3] in INTERACTIONS and len(words) == 7 and words[4] in ("a", "an"):
            return cls(words[1], words[2], words[3], partner=" ".join(words[5:]))
        speed = words.pop() if words[-1] in SPEEDS else ""
        return cls(words[1], words[2], " ".join(words[3:]), speed)


def is_visible(shape: str, motion: str) -> bool:
    """Whether `motion` changes anything on `shape`: round shapes cannot be seen spinning."""
    return not (motion == "spinning" and shape in ROUND)


def with_article(noun: str) -> str:
    """'red star' -> 'a red star', 'orange bar' -> 'an orange bar'."""
    silent_h = noun.startswith("hour")
    return f"{'an' if silent_h or noun[0] in 'aeiou' else 'a'} {noun}"


def all_classes(
    *, colors: Iterable[str] = COLOR_NAMES, shapes: Iterable[str] = SHAPES, motions: Iterable[str] = MOTIONS
) -> list[MovingShape]:
    """Every class of the given words in a fixed order (color-major), without those that cannot be seen."""
    shapes, motions = tuple(shapes), tuple(motions)
    return [MovingShape(c, s, m) for c in colors for s in shapes for m in motions if is_visible(s, m)]


def matches(claims: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Which captions are true of which scenes: the positives of a multi-positive contrastive loss.

    A caption is true when its objects can be given to different objects of the scene so that everything said holds.

    Args:
        claims: (C, 2, A) what each caption says of up to two objects, `UNSAID` where it says nothing.
        attributes: (B, 2, A) what each scene shows, `UNSAID` where there is no object or nothing to be seen.

    Returns:
        (B, C) bool.
    """
    in_order = _holds(claims[:, 0], attributes[:, 0]) & _holds(claims[:, 1], attributes[:, 1])
    crossed = _holds(claims[:, 1], attributes[:, 0]) & _holds(claims[:, 0], attributes[:, 1])
    return in_order | crossed


def _holds(said: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Of which objects (B, A) all holds that is said of others (C, A): (B, C), one attribute after the other.

    There are as many pairs as the square of a batch: all attributes of all of them at once would fill the memory.
    """
    holds = np.ones((len(shown), len(said)), dtype=bool)
    for one_said, one_shown in zip(said.T, shown.T, strict=True):
        holds &= (one_said == UNSAID) | (one_said == one_shown[:, None])
    return holds
