"""Plans: the shipped ones load, and mistakes in one's own are named."""

import pytest

from froster_hf.cli import main
from froster_hf.study import list_plans, load_plan
from froster_hf.study.jobs import job_for
from froster_hf.training.recipes import load_recipe

PLAN = """
about: mine
pretraining: [small_clip]
recipe: moving_shapes_base_to_novel
validation_world: 9
test_worlds: [1]
seeds: [0]
reference: plain
methods: {plain: {overrides: [training.distillation=none]}}
"""


@pytest.mark.parametrize("name", list_plans())
def test_every_override_of_a_shipped_plan_is_a_field_of_its_recipe(name):
    plan = load_plan(name)
    assert load_recipe(plan.pretraining[0], plan.pretraining[1:]).kind == "pretraining"
    for method in plan.methods:
        job = job_for(plan, method, world=1, seed=0, choices={"learning_rate": 1e-3}, test=True)
        assert load_recipe(plan.recipe, job.overrides).training["learning_rate"] == 1e-3


def test_plans_are_listed(capsys):
    assert main(["study", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in list_plans())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test_worlds: [1]", "test_worlds: [9]"), "World 9 cannot be both"),
        (("reference: plain", "reference: residual"), r"names the methods \['residual'\]"),
        (("seeds: [0]", "seed: 0"), "unknown fields seed"),
        (("overrides: [training.distillation=none]", "grid: {gamma: [1]}"), "unknown .*gamma"),
        (("about: mine\n", ""), "the fields about are missing"),
    ],
)
def test_mistakes_in_a_plan_are_named(tmp_path, change, message):
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN.replace(*change))
    with pytest.raises(ValueError, match=message):
        load_plan(file)


def test_a_job_is_the_same_however_its_fields_were_arrived_at():
    plan = load_plan("short")
    grid = plan.methods["residual"].grid
    first = job_for(plan, "residual", world=1, seed=0, choices={"learning_rate": 6e-4}, test=False)
    again = job_for(plan, "residual", world=1, seed=0, choices={"learning_rate": 6e-4, "beta": 2.0}, test=False)
    assert 2.0 in grid["beta"]
    assert first == again


def test_an_unknown_plan_is_an_error_that_lists_the_shipped_ones(capsys):
    assert main(["study", "nothing"]) == 1
    assert "Shipped are long, short" in capsys.readouterr().err
