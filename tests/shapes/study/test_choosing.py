"""Choosing: one field after the other, each with the best so far, and from the validation world alone."""

import dataclasses

import pytest

from froster_hf.shapes.study.plan import Method, StudyPlan
from froster_hf.shapes.study.running import choose


def plan_of(**methods):
    return StudyPlan("mine", "about", ["small_clip"], "moving_shapes_base_to_novel", [9], [1], [5], methods, "first")


def test_fields_are_chosen_in_turn_and_followers_take_them_over(tmp_path):
    plan = plan_of(
        follower=Method(choices_of="first"),
        first=Method(grid={"learning_rate": [0.1, 0.2, 0.3], "beta": [1.0, 2.0]}),
        second=Method(grid={"learning_rate": [0.1, 0.2]}),
    )
    asked = []

    def run_jobs(jobs):
        asked.append([(job.method, *job.overrides) for job in jobs])
        assert {(job.world.seed, job.seed, job.variants) for job in jobs} == {(9, 5, ())}
        # The first method does best at 0.2 and there, with beta 1; the second is the same everywhere.
        score = {"training.learning_rate=0.2": 0.5, "training.distillation_weight=1.0": 0.25}
        return [
            {job.method: {"hm": sum(score.get(o, 0) for o in job.overrides) if job.method == "first" else 0.1}}
            for job in jobs
        ]

    choices, trials = choose(plan, tmp_path, run_jobs)
    assert choices["first"] == choices["follower"] == {"learning_rate": 0.2, "beta": 1.0}
    assert choices["second"] == {"learning_rate": 0.1}
    assert len(asked) == 2
    assert [("first", "training.learning_rate=0.2", f"training.distillation_weight={b}") for b in (1.0, 2.0)] == asked[
        1
    ]
    assert len(trials) == 7


def test_nothing_to_choose_runs_nothing(tmp_path):
    def run_jobs(jobs):
        assert jobs == []
        return []

    assert choose(plan_of(first=Method()), tmp_path, run_jobs) == ({"first": {}}, [])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method(choices_of="nobody"), "choices_of is 'nobody'"),
        (Method(choices_of="chain"), "choices_of is 'chain'"),
        (Method(choices_of="first", grid={"beta": [1.0]}), "give one of the two"),
    ],
)
def test_choices_that_cannot_be_taken_over_are_refused(method, message):
    with pytest.raises(ValueError, match=message):
        plan_of(first=Method(), chain=Method(choices_of="first"), other=method)


def run_by_rate(score, seen):
    """Jobs whose HM is a function of world and learning rate."""

    def run_jobs(jobs):
        keys = [(job.world.seed, float(job.overrides[-1].partition("=")[2])) for job in jobs]
        seen.extend(keys)
        return [{job.method: {"hm": score(*key)}} for job, key in zip(jobs, keys)]

    return run_jobs


def test_worlds_choose_together_by_their_mean(tmp_path):
    plan = dataclasses.replace(plan_of(first=Method(grid={"learning_rate": [0.1, 0.2]})), validation_worlds=[8, 9])
    scores = {(8, 0.1): 0.9, (8, 0.2): 0.6, (9, 0.1): 0.1, (9, 0.2): 0.6}
    choices, trials = choose(plan, tmp_path, run_by_rate(lambda *key: scores[key], []))
    assert choices == {"first": {"learning_rate": 0.2}}
    assert [trial["hm"] for trial in trials] == [0.5, 0.6]


def test_a_grid_is_extended_where_its_best_value_is_at_an_edge(tmp_path):
    plan = dataclasses.replace(plan_of(first=Method(grid={"learning_rate": [1.0, 2.0]})), grid_extensions=3)
    seen = []
    choices, trials = choose(plan, tmp_path, run_by_rate(lambda _, rate: -abs(rate - 4.0), seen))
    assert [rate for _, rate in seen] == [1.0, 2.0, 4.0, 8.0]
    assert choices == {"first": {"learning_rate": 4.0}}
    assert [trial["value"] for trial in trials] == [1.0, 2.0, 4.0, 8.0]
    assert {str(trial["fixed"]) for trial in trials} == {"{}"}
    # Downwards too, and not without end.
    seen.clear()
    choose(plan, tmp_path, run_by_rate(lambda _, rate: -rate, seen))
    assert [rate for _, rate in seen] == [1.0, 2.0, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("values", [[0, 1], [0.0, 0.5], [1e-200, 1e200], [0, 1e-200], [3]])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_grid_whose_edge_has_no_ratio_is_not_extended(tmp_path, values, sign):
    plan = dataclasses.replace(plan_of(first=Method(grid={"beta": values})), grid_extensions=2)
    seen = []
    choices, _ = choose(plan, tmp_path, run_by_rate(lambda _, beta: sign * beta, seen))
    assert [beta for _, beta in seen] == values
    assert choices == {"first": {"beta": max(values, key=lambda value: sign * value)}}
