"""What the paper says, and what this package adds, as paired differences that a study can show or not show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .statistics import Estimate, Pair, paired_difference


@dataclass(frozen=True)
class Claim:
    """`ours` is above `theirs` in a metric.

    Args:
        text: the claim in words.
        ours, theirs: methods.
        metric: as in `jobs.summarize`.
    """

    text: str
    ours: str
    theirs: str
    metric: str = "hm"


CLAIMS = (
    Claim("Fine-tuning gains on the base classes.", "plain", "frozen", "base_top1"),
    Claim("Residual feature distillation beats plain fine-tuning (the paper's main claim).", "residual", "plain"),
    Claim("It does so on the novel classes.", "residual", "plain", "novel_top1"),
    Claim("What it keeps of the novel classes is their appearance.", "residual", "plain", "novel_appearance"),
    Claim("The residual form beats direct distillation.", "residual", "direct"),
    Claim("The residual form beats a projector without the residual.", "residual", "projector"),
    Claim("It reaches the ensemble with the frozen model, at half its cost.", "residual", "plain + ensemble"),
    Claim("The mean of the weights over the epochs is better than the last.", "residual + weight_average", "residual"),
    Claim("Half way to the initial weights is better still.", "residual + interpolation", "residual"),
    Claim("Distillation helps AIM.", "AIM residual", "AIM"),
    Claim("Distillation helps ST-Adapter.", "ST-Adapter residual", "ST-Adapter"),
    Claim("Beyond the paper: with direction, base classes gain.", "directional residual", "residual", "base_top1"),
    Claim("And so do novel ones.", "directional residual", "residual", "novel_top1"),
    Claim("It tells forward from backward, base.", "directional residual", "residual", "base_direction"),
    Claim("It tells forward from backward, novel.", "directional residual", "residual", "novel_direction"),
    Claim(
        "It loses nothing elsewhere: clips without direction, base.",
        "residual",
        "directional residual",
        "base_undirected",
    ),
)


def differences(runs: Sequence[Mapping[str, Any]]) -> list[tuple[Claim, Estimate]]:
    """Every claim whose two methods were run, with the difference that was found."""
    values = [
        (claim, by_pair(runs, claim.ours, claim.metric), by_pair(runs, claim.theirs, claim.metric)) for claim in CLAIMS
    ]
    return [(claim, paired_difference(ours, theirs)) for claim, ours, theirs in values if ours and theirs]


def by_pair(runs: Sequence[Mapping[str, Any]], method: str, metric: str) -> dict[Pair, float]:
    """One number of a method's runs by (world, seed)."""
    return {(run["world"], run["seed"]): run[metric] for run in runs if run["method"] == method}


def verdict(difference: Estimate) -> str:
    """What the interval allows to say."""
    if difference.count == 1:
        return "one run; nothing can be said"
    if not difference.excludes_zero:
        return "does not appear: the interval holds zero"
    return "appears" if difference.mean > 0 else "the opposite appears"
