"""Forward or backward? A test whose answer a time-reversal invariant model gets right exactly half of the time.

Every clip is shown as it is and played backwards, and the model chooses between the label and its opposite ("a red
star sliding left", "a red star sliding right"). A model that sees no direction answers the same both times, so one of
the two answers is wrong. The clips are reversed after decoding: no codec leaves a trace of the direction.
"""

from collections.abc import Sequence

import numpy as np

from ..data.moving_shapes import MovingShape


def opposite_labels(labels: Sequence[str]) -> list[str | None]:
    """The label of each label's clips played backwards, `None` where that is the same label."""
    opposites = [str(MovingShape.from_label(label).opposite) for label in labels]
    return [None if opposite == label else opposite for label, opposite in zip(labels, opposites)]


def direction_accuracy(forward: np.ndarray, backward: np.ndarray, *, own: np.ndarray, opposite: np.ndarray) -> float:
    """Share of right answers over clips and their reversals.

    Args:
        forward: (n, K) logits of the clips.
        backward: (n, K) logits of the same clips, frames in reverse.
        own: (n,) each clip's label.
        opposite: (n,) the label of its reversal.
    """
    rows = np.arange(len(own))
    right = forward[rows, own] > forward[rows, opposite]
    right_backward = backward[rows, opposite] > backward[rows, own]
    return float((right.mean() + right_backward.mean()) / 2)
