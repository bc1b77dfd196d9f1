"""Means and intervals over paired runs.

A pair is one world and one fine-tuning seed: two methods that are compared there started from the same CLIP and saw
the same clips. Runs of one world share its CLIP and its videos, so they are no independent draws: seeds are averaged
in each world first where there are enough worlds for an interval (three), else the pairs are taken as they are and
the interval speaks of these worlds only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

# (world, seed) of a run; a model that is not trained has no seed.
Pair = tuple[int, int | None]
MIN_WORLDS = 3


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% confidence interval (Student's t), in the units of the values.

    Args:
        mean: of the values.
        low, high: ends of the interval; NaN for a single value, which has none.
        count: values that it was made of.
        unit: what a value is, `world` or `run`.
    """

    mean: float
    low: float
    high: float
    count: int
    unit: str

    @property
    def half_width(self) -> float:
        """Half of the interval; NaN where there is none."""
        return (self.high - self.low) / 2


def estimate(values: Mapping[Pair, float]) -> Estimate:
    """Mean and interval of one number a run.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("The mean of no runs was asked for.")
    worlds: dict[int, list[float]] = {}
    for (world, _), value in values.items():
        worlds.setdefault(world, []).append(value)
    if len(worlds) >= MIN_WORLDS:
        sample, unit = np.array([np.mean(runs) for runs in worlds.values()]), "world"
    else:
        sample, unit = np.array(list(values.values())), "run"
    mean = float(sample.mean())
    if len(sample) == 1:
        return Estimate(mean, float("nan"), float("nan"), 1, unit)
    half = float(stats.t.ppf(0.975, len(sample) - 1)) * float(sample.std(ddof=1)) / len(sample) ** 0.5
    return Estimate(mean, mean - half, mean + half, len(sample), unit)


def paired_difference(ours: Mapping[Pair, float], theirs: Mapping[Pair, float]) -> Estimate:
    """Mean and interval of `ours - theirs` over the pairs that both have; what has no seed stands beside every seed.

    Raises:
        ValueError: they have no pair in common.
    """
    differences = {}
    for world, seed in dict.fromkeys([*ours, *theirs]):
        pairs = [[values[key] for key in ((world, seed), (world, None)) if key in values] for values in (ours, theirs)]
        if all(pairs):
            differences[world, seed] = pairs[0][0] - pairs[1][0]
    return estimate(differences)
