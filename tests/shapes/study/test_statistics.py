"""Intervals over paired runs, and verdicts that follow the interval, in the direction of the claim."""

import math

import pytest
import scipy.stats

from froster_hf.shapes.study.statistics import (
    CLAIMS,
    Claim,
    Estimate,
    by_pair,
    differences,
    estimate,
    paired_difference,
)

METRICS = {claim.metric for claim in CLAIMS}


def test_interval_of_few_runs_is_students():
    # t(0.975, 3) = 3.182446; the standard deviation of 1, 2, 3, 4 is sqrt(5/3).
    found = estimate({(1, 0): 1.0, (1, 1): 2.0, (2, 0): 3.0, (2, 1): 4.0})
    half = 3.182446 * math.sqrt(5 / 3) / 2
    assert (found.mean, found.count, found.unit) == (2.5, 4, "run")
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)
    around_zero = estimate({(1, 0): -1.0, (1, 1): 2.0})
    assert around_zero.low < 0 < around_zero.high
    assert estimate({(1, 0): 2.0, (1, 1): 2.01}).low > 0


def test_seeds_of_a_world_are_averaged_where_there_are_worlds_enough():
    runs = {(1, 0): 0.0, (1, 1): 2.0, (2, 0): 4.0, (3, 0): 7.0}
    found = estimate(runs)
    assert (found.unit, found.count, found.mean) == ("world", 3, 4.0)


def test_one_run_has_no_interval_and_shows_nothing():
    found = estimate({(1, 0): 5.0})
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert "nothing can be said" in Claim("text", "ours", "theirs").verdict(found)


def test_differences_are_of_the_same_world_and_seed():
    ours, theirs = {(1, 0): 5.0, (2, 0): 9.0}, {(2, 0): 7.0, (1, 0): 3.0, (2, 1): 100.0}
    found = paired_difference(ours, theirs)
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="no runs"):
        paired_difference({(1, 0): 1.0}, {(2, 0): 1.0})


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_what_has_no_seed_stands_beside_every_seed(seeds):
    frozen = {(world, None): 0.1 * world for world in (4, 5)}
    tuned = {(world, seed): 0.1 * world + 0.25 for world in (4, 5) for seed in seeds}
    assert paired_difference(frozen, tuned).mean == pytest.approx(-0.25)
    assert paired_difference(tuned, frozen).mean == pytest.approx(0.25)
    assert paired_difference(frozen, tuned).count == 2 * len(seeds)
    assert paired_difference(frozen, frozen).mean == 0


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


def test_corrected_intervals_are_wider_by_the_number_of_claims():
    runs = [
        {"method": method, "world": world, "seed": 0, "hm": value + shift, "base_top1": value, "novel_top1": value}
        for method, shift in (("residual", 0.1), ("plain", 0.0), ("frozen", -0.1))
        for world, value in ((1, 0.2), (2, 0.5 + shift), (3, 0.4), (4, 0.9 - shift))
    ]
    plain, corrected = differences(runs), differences(runs, corrected=True)
    assert len(plain) == len(corrected) > 1
    for (_, narrow), (_, wide) in zip(plain, corrected):
        assert narrow.mean == wide.mean
        if narrow.half_width:
            # t at 1 - 0.05 / (2 m) over t at 0.975, three degrees of freedom.
            ratio = scipy.stats.t.ppf(1 - 0.025 / len(plain), 3) / scipy.stats.t.ppf(0.975, 3)
            assert wide.half_width / narrow.half_width == pytest.approx(ratio)
