"""The test of direction: exactly half for a model that does not see it."""

import numpy as np
import pytest

from froster_hf.shapes.study.jobs import direction_accuracy, opposite_labels


def test_opposites_are_labels_of_the_reversed_clip():
    labels = ["a red star sliding left", "a blue bar spinning", "an orange bar growing"]
    assert opposite_labels(labels) == ["a red star sliding right", None, "an orange bar shrinking"]


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_sees_no_direction_has_exactly_one_half(seed):
    rng = np.random.default_rng(seed)
    logits, own = rng.normal(size=(17, 6)), rng.integers(0, 3, 17)
    assert direction_accuracy(logits, logits, own=own, opposite=own + 3) == 0.5


def test_a_model_that_sees_direction_has_all():
    own, opposite = np.array([0, 1]), np.array([1, 0])
    forward = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert direction_accuracy(forward, forward[::-1], own=own, opposite=opposite) == 1.0
    assert direction_accuracy(forward[::-1], forward, own=own, opposite=opposite) == 0.0
