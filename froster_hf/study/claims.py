"""What the paper says, and what this package adds, as paired differences that a study can show or not show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .statistics import MIN_WORLDS, Estimate, Pair, paired_difference


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
            # Runs that share a world are no independent draws: their interval speaks of that world only.
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
    Claim("The residual form beats direct distillation (with the choices of residual).", "residual", "direct"),
    Claim("It beats a projector without the residual (with the choices of residual).", "residual", "projector"),
    Claim(
        "It is no more than two points below the ensemble with the frozen model, at half its cost.",
        "residual",
        "plain + ensemble",
        margin=MARGIN,
    ),
    Claim("The mean of the weights over the epochs is better than the last.", "residual + weight_average", "residual"),
    Claim("Half way to the initial weights is better than the last.", "residual + interpolation", "residual"),
    Claim("Distillation helps AIM (with the choices of AIM).", "AIM residual", "AIM"),
    Claim("Distillation helps ST-Adapter (with the choices of ST-Adapter).", "ST-Adapter residual", "ST-Adapter"),
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
)


def differences(runs: Sequence[Mapping[str, Any]]) -> list[tuple[Claim, Estimate]]:
    """Every claim whose two methods were run, with the difference that was found."""
    found = []
    for claim in CLAIMS:
        ours, theirs = (by_pair(runs, method, claim.metric) for method in (claim.ours, claim.theirs))
        if ours and theirs:
            found.append((claim, paired_difference(ours, theirs)))
    return found


def by_pair(runs: Sequence[Mapping[str, Any]], method: str, metric: str) -> dict[Pair, float]:
    """One number of a method's runs by (world, seed), where there is one: a world may have no clip of a kind."""
    own = {(run["world"], run["seed"]): run[metric] for run in runs if run["method"] == method}
    return {pair: value for pair, value in own.items() if value is not None and not math.isnan(value)}
