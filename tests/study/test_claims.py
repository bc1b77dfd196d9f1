"""Verdicts follow the interval, in the direction of the claim."""

import math

import pytest

from froster_hf.study.claims import CLAIMS, Claim, by_pair, differences
from froster_hf.study.statistics import Estimate

METRICS = {claim.metric for claim in CLAIMS}


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.01, 0.05, 0.0, "appears"),
        (-0.01, 0.05, 0.0, "does not appear: the interval contains zero"),
        (-0.05, -0.01, 0.0, "the opposite appears"),
        (-0.01, 0.05, 0.02, "appears"),
        (-0.03, 0.05, 0.02, "cannot be said"),
        (-0.05, -0.03, 0.02, "the opposite appears"),
    ],
)
def test_a_verdict_is_what_the_whole_interval_says(low, high, margin, verdict):
    claim = Claim("text", "a", "b", margin=margin)
    assert claim.verdict(Estimate((low + high) / 2, low, high, 4, "world")) == verdict


@pytest.mark.parametrize("estimate", [Estimate(1.0, math.nan, math.nan, 1, "run"), Estimate(1.0, 0.9, 1.1, 4, "run")])
def test_runs_in_fewer_than_three_worlds_say_nothing_of_others(estimate):
    for claim in CLAIMS:
        assert claim.verdict(estimate) == "fewer than 3 worlds; nothing can be said of others"


def test_two_worlds_of_many_runs_are_two_worlds():
    runs = [
        {"method": method, "world": world, "seed": seed, **dict.fromkeys(METRICS, value)}
        for method, value in (("plain", 0.5), ("residual", 0.9))
        for world in (1, 2)
        for seed in range(9)
    ]
    found = differences(runs)
    assert found
    assert not [claim for claim, difference in found if "appears" in claim.verdict(difference)]


def test_the_frozen_model_stands_beside_every_seed_and_missing_numbers_beside_none():
    def run(method, world, seed, value):
        return {"method": method, "world": world, "seed": seed, **{claim.metric: value for claim in CLAIMS}}

    runs = [
        run("frozen", 1, None, 0.5),
        run("plain", 1, 0, 0.7),
        run("plain", 1, 1, 0.9),
        run("plain", 2, 0, math.nan),
    ]
    assert by_pair(runs, "plain", "base_top1") == {(1, 0): 0.7, (1, 1): 0.9}
    ((claim, difference),) = differences(runs)
    assert (claim.ours, claim.theirs) == ("plain", "frozen")
    assert (difference.mean, difference.count) == (pytest.approx(0.3), 2)
