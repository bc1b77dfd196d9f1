"""Intervals over paired runs."""

import math

import pytest

from froster_hf.study.claims import Claim
from froster_hf.study.statistics import estimate, paired_difference


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
