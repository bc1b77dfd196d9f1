"""Means and intervals over paired runs, and the claims that they show or do not show.

A pair is one world and one fine-tuning seed: two methods that are compared there started from the same CLIP and saw
the same clips. Runs of one world share its CLIP and its videos, so they are not independent draws: seeds are averaged
in each world first where there are enough worlds for an interval (three), else the pairs are taken as they are and
the interval speaks of these worlds only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

# (world, seed) of a run; a model that is not trained has no seed.
Pair = tuple[int, int | None]
MIN_WORLDS = 3


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval (Student's t), in the units of the values.

    Args:
        mean: mean of the values.
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


def estimate(values: Mapping[Pair, float], *, confidence: float = 0.95) -> Estimate:
    """Mean and interval of one number a run, at a confidence.

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
    half = float(stats.t.ppf((1 + confidence) / 2, len(sample) - 1)) * float(sample.std(ddof=1)) / len(sample) ** 0.5
    return Estimate(mean, mean - half, mean + half, len(sample), unit)


def paired_difference(
    ours: Mapping[Pair, float], theirs: Mapping[Pair, float], *, confidence: float = 0.95
) -> Estimate:
    """Mean and interval of `ours - theirs` over the pairs that both have; what has no seed stands beside every seed.

    Raises:
        ValueError: they have no pair in common.
    """
    differences = {}
    for world, seed in dict.fromkeys([*ours, *theirs]):
        pairs = [[values[key] for key in ((world, seed), (world, None)) if key in values] for values in (ours, theirs)]
        if all(pairs):
            differences[world, seed] = pairs[0][0] - pairs[1][0]
    return estimate(differences, confidence=confidence)


@dataclass(frozen=True)
class Claim:
    """`ours` is above `theirs` in a metric, or not below it.

    Args:
        text: the claim in words.
        ours, theirs: methods.
        metric: as in `jobs.summarize`.
        margin: a share; `ours` may be as much below for the claim to hold. Zero: it has to be above.
    """

    text: str
    ours: str
    theirs: str
    metric: str = "hm"
    margin: float = 0.0

    def verdict(self, difference: Estimate) -> str:
        """What the interval of `ours - theirs` allows to say."""
        if difference.unit == "run":
            # Runs that share a world are not independent draws: their interval speaks of that world only.
            return f"fewer than {MIN_WORLDS} worlds; nothing can be said of others"
        if difference.low > -self.margin:
            return "appears"
        if difference.high < -self.margin:
            return "the opposite appears"
        return "cannot be said" if self.margin else "does not appear: the interval contains zero"


# As much is "nothing" in a claim of no loss.
MARGIN = 0.02
CLAIMS = (
    Claim("Fine-tuning gains on the base classes.", "plain", "frozen", "base_top1"),
    Claim("Residual feature distillation beats plain fine-tuning (the paper's main claim).", "residual", "plain"),
    Claim("It does so on the novel classes.", "residual", "plain", "novel_top1"),
    Claim("What it keeps of the novel classes is their appearance.", "residual", "plain", "novel_appearance"),
    Claim("The residual form beats direct distillation.", "residual", "direct"),
    Claim("It beats a projector without the residual.", "residual", "projector"),
    Claim(
        "It is no more than two points below the ensemble with the frozen model, at half its cost.",
        "residual",
        "plain + ensemble",
        margin=MARGIN,
    ),
    Claim("The mean of the weights over the epochs is better than the last.", "residual + weight_average", "residual"),
    Claim("Half way to the initial weights is better than the last.", "residual + interpolation", "residual"),
    Claim("Distillation helps AIM.", "AIM residual", "AIM"),
    Claim("Distillation helps ST-Adapter.", "ST-Adapter residual", "ST-Adapter"),
    Claim("Beyond the paper: with direction, base classes gain.", "directional residual", "residual", "base_top1"),
    Claim("And so do novel ones.", "directional residual", "residual", "novel_top1"),
    Claim("It tells forward from backward, base.", "directional residual", "residual", "base_direction"),
    Claim("It tells forward from backward, novel.", "directional residual", "residual", "novel_direction"),
    Claim(
        "On clips without direction it loses no more than two points, base.",
        "directional residual",
        "residual",
        "base_undirected",
        MARGIN,
    ),
    Claim(
        "On clips without direction it loses no more than two points, novel.",
        "directional residual",
        "residual",
        "novel_undirected",
        MARGIN,
    ),
    Claim("A motion adapter beats FROSTER's recipe (this package's claim).", "motion adapter", "residual"),
    Claim("With residual distillation it does.", "motion adapter residual", "residual"),
    Claim("It is not below ST-Adapter with distillation.", "motion adapter", "ST-Adapter residual", margin=MARGIN),
    Claim(
        "Out of context it is not below the frozen model.",
        "motion adapter",
        "frozen",
        "out_of_context_top1",
        MARGIN,
    ),
    Claim(
        "FROSTER's recipe reads the backdrop: out of context it is below the frozen model.",
        "frozen",
        "residual",
        "out_of_context_top1",
    ),
    Claim("It tells speeds apart better than FROSTER's recipe, novel.", "motion adapter", "residual", "novel_speed"),
    Claim("It tells forward from backward better, novel.", "motion adapter", "residual", "novel_direction"),
    Claim("ST-Adapter with still frames distilled beats FROSTER's recipe.", "ST-Adapter still", "residual"),
    Claim(
        "It is not below ST-Adapter with residual distillation.",
        "ST-Adapter still",
        "ST-Adapter residual",
        margin=MARGIN,
    ),
    Claim(
        "Out of context it is not below the frozen model.", "ST-Adapter still", "frozen", "out_of_context_top1", MARGIN
    ),
    Claim("Distilling still frames beats residual distillation, where all is trained.", "still", "residual"),
    Claim("So it does with directional attention.", "directional still", "directional residual"),
    Claim("TACO beats FROSTER's recipe.", "TACO + weight_average", "residual"),
    Claim("TACO's anchors beat plain logits at their temperature.", "TACO", "TACO, plain logits"),
    Claim("TACO's averaged teacher beats a frozen one.", "TACO", "TACO, frozen teacher"),
)


def differences(runs: Sequence[Mapping[str, Any]], *, corrected: bool = False) -> list[tuple[Claim, Estimate]]:
    """Every claim whose two methods were run, with the difference that was found.

    Args:
        runs: runs of a study.
        corrected: make the intervals wider, so that all of them together hold with 95% confidence (Bonferroni).
    """
    pairs = [
        (claim, by_pair(runs, claim.ours, claim.metric), by_pair(runs, claim.theirs, claim.metric)) for claim in CLAIMS
    ]
    compared = [(claim, ours, theirs) for claim, ours, theirs in pairs if ours and theirs]
    confidence = 1 - 0.05 / len(compared) if corrected and compared else 0.95
    return [(claim, paired_difference(ours, theirs, confidence=confidence)) for claim, ours, theirs in compared]


def by_pair(runs: Sequence[Mapping[str, Any]], method: str, metric: str) -> dict[Pair, float]:
    """One number of a method's runs by (world, seed), where there is one: a world may have no clip of a kind."""
    own = {(run["world"], run["seed"]): run.get(metric) for run in runs if run["method"] == method}
    return {pair: value for pair, value in own.items() if value is not None and not math.isnan(value)}
