"""Where two objects are while one pushes, pulls, passes or follows the other.

Both move along one line, whose direction is drawn and no part of the label; only how they move with regard to each
other tells the interactions apart, and no single frame does. Lengths are in half short sides of the picture, and time
runs from -1 to 1:

    pushing      A-->    B          A comes to B, which rests; from the touch on, both go on together
                     A-->B-->
    pulling      pushing, played backwards: both come together, A ahead, and B stays where A leaves it
    passing      A-->               A goes by B, which rests on a lane of its own
                     B
    following    A-->   B-->        both move alike from the start, A behind, never touching
"""

from collections.abc import Sequence

import numpy as np

# Of the sum of two radii: outlines seldom reach their whole radius, and what touches should be seen to.
_TOUCH = 0.92
# Room that `draw_scenes` leaves at the edges, too.
_VISIBLE = 0.85


def draw_courses(
    rng: np.random.Generator, interactions: Sequence[str], radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Courses of pairs of objects; the first of a pair is the one that acts.

    Args:
        rng: draws what the interactions leave open.
        interactions: n of `vocabulary.INTERACTIONS`.
        radius: (n, 2).

    Returns:
        The places at time 0 that objects which never rest would have, (n, 2, 2); the way per unit of time, (n, 2, 2);
        and the times from and to which an object moves, (n, 2, 2).
    """
    num_pairs = len(interactions)
    turns = rng.integers(4, size=num_pairs) * np.pi / 2 + rng.uniform(-0.2, 0.2, num_pairs)
    sideways = rng.uniform(-0.25, 0.25, num_pairs)
    shares = rng.random((num_pairs, 2))
    side = rng.choice([-1.0, 1.0], num_pairs)

    # Along and across the line, at time 0, and how fast along it.
    along, across, speed = np.zeros((3, num_pairs, 2))
    moving = np.broadcast_to([-np.inf, np.inf], (num_pairs, 2, 2)).copy()
    for index, interaction in enumerate(interactions):
        (first, second), (share, other) = radius[index], shares[index]
        end = 1 - _VISIBLE * max(first, second)
        touch = _TOUCH * (first + second)
        across[index] = sideways[index]
        if interaction in ("pushing", "pulling"):
            sign = 1 if interaction == "pushing" else -1
            # Together they end at the edge; the touch comes early enough for a long way together.
            pace = (2 * end - touch) / 2
            meeting = -0.4 + 0.3 * share
            along[index] = pace - end, pace - end + touch
            speed[index] = sign * pace
            moving[index, 1] = (meeting, np.inf) if sign > 0 else (-np.inf, -meeting)
        elif interaction == "passing":
            along[index] = 0, 0.3 * (other - 0.5)
            speed[index] = end, 0
            across[index] = 0.5 * side[index] * (touch + 0.08) * np.array([1, -1])
        else:
            behind = touch + 0.12 + 0.1 * share
            pace = (2 * end - behind) / 2
            along[index] = -0.5 * behind, 0.5 * behind
            speed[index] = pace
    ahead = np.stack([np.cos(turns), np.sin(turns)], -1)[:, None]
    aside = np.stack([-np.sin(turns), np.cos(turns)], -1)[:, None]
    return along[..., None] * ahead + across[..., None] * aside, speed[..., None] * ahead, moving
