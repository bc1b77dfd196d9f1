"""The test of direction: exactly half for a model that does not see it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from froster_hf.shapes.study.jobs import (
    MAX_METRICS_BYTES,
    SideScores,
    direction_accuracy,
    gigaflops,
    opposite_labels,
    other_speeds,
    stored_metrics,
)
from froster_hf.training.recipes import RecipeModel


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


def test_stored_scores_are_read_and_averaged_with_those_of_the_same_clips_alone(tmp_path):
    file = tmp_path / "base.safetensors"
    own = SideScores(["a", "b"], 2, np.arange(2), np.eye(2), np.zeros((0, 2)))
    own.save(file)
    stored = SideScores.load(file)
    assert (own.averaged_with(stored).forward == own.forward).all()
    others = {
        "labels": np.array([1, 0]),
        "texts": ["a", "c"],
        "num_labels": 1,
        "forward": np.ones((1, 2)),
        "backward": np.zeros((10**9, 0)),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"One model has {name} "):
            own.averaged_with(replace(stored, **{name: other}))


def test_a_file_that_is_not_of_stored_scores_is_an_error_that_names_it(tmp_path):
    file = tmp_path / "base.safetensors"
    arrays = {name: np.zeros(1) for name in ("labels", "forward", "backward")}
    told = {"texts": "[]", "num_labels": "0", "of": f"{tmp_path.name}/base"}
    cases = [
        (arrays, None),
        (arrays, told | {"texts": "[" * 10_000}),
        (arrays, told | {"num_labels": "x"}),
        ({"labels": arrays["labels"]}, told),
        (arrays | {"more": arrays["labels"]}, told),
        (arrays | {"forward": np.full(1, np.nan)}, told),
        (arrays | {"backward": np.full(1, np.inf)}, told),
        # Of another model, or of another side.
        *((arrays, told | {"of": place}) for place in ("frozen-0/base", f"{tmp_path.name}/novel")),
    ]
    for tensors, metadata in cases:
        save_file(tensors, file, metadata=metadata)
        with pytest.raises(ValueError, match=r"base\.safetensors is not what a study has stored"):
            SideScores.load(file)
    save_file(arrays, file, metadata=told)
    assert SideScores.load(file).num_labels == 0
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"base\.safetensors is not what a study has stored"):
        SideScores.load(file)


def test_speed_is_told_between_the_two_labels_of_a_motion():
    texts = ["a red star sliding left slowly", "a red star sliding left quickly", "a blue bar standing still"]
    assert other_speeds(texts) == [texts[1], texts[0], None]
    # Both clips of the star are called quick; the bar has no speed.
    forward = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    scores = SideScores(texts, 3, np.arange(3), forward, np.zeros((0, 3)))
    assert scores.metrics()["speed"] == 0.5
    still = SideScores(texts[2:], 1, np.zeros(1, dtype=int), np.ones((1, 1)), np.zeros((0, 1)))
    assert math.isnan(still.metrics()["speed"])


def test_arithmetic_is_that_of_a_large_model_and_an_ensemble_computes_two():
    none, local, motion = (
        gigaflops(RecipeModel(temporal_module=name)) for name in ("none", "local_attention", "motion_adapter")
    )
    assert none == pytest.approx(281, abs=1)
    assert none < motion < local
    # Depth times queries, keys of two further frames, width, twice for scores and values.
    assert local - none == pytest.approx(12 * 2 * 2 * 8 * 197 * 2 * 197 * 768 / 1e9, rel=0.01)


SHARES = '"base_top1": 0.5, "novel_top1": 0.5, "hm": 0.5'


@pytest.mark.parametrize(
    "content",
    [
        *("", '{"plain": {"hm": NaN}}', "[1]", '{"plain": 1}', '{"plain": {"hm": "x"}}', "[" * 100_000, "{}garbage"),
        *("{}", '{"other": {"hm": 1}}', '{"plain": {"hm": 1}, "residual": {"hm": 1}}', '{"plain": {"|<b>": 1}}'),
        *(
            f'{{"plain": {{{SHARES}, "{name}": {value}}}}}'
            for name, value in (("motion", -3), ("base_direction", 7.5))
        ),
        *(f'{{"plain": {{{SHARES}, "{name}": 0.5}}}}' for name in ("other", "base", "train_top1", "x" * 1000)),
        f'{{"plain": {{{SHARES}}}}}{" " * MAX_METRICS_BYTES}',
        '{"plain": {"base_top1": 0.01, "novel_top1": 0.01, "hm": 0.99}}',
        *('{"plain": {}}', '{"plain": {"hm": 1}}', f'{{"plain": {{{SHARES}, "novel_motion": 1{"0" * 400}}}}}'),
    ],
)
def test_altered_metrics_are_an_error_that_names_the_file(tmp_path, content):
    assert stored_metrics(tmp_path, ["plain"]) is None
    (tmp_path / "metrics.json").write_text(f'{{"plain": {{{SHARES}, "base_speed": NaN}}}}')
    assert stored_metrics(tmp_path, ["plain"])["plain"]["hm"] == 0.5
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.json"):
        stored_metrics(tmp_path, ["plain"])
