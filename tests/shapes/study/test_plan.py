"""Plans: the shipped ones load, and mistakes in one's own are named."""

import shlex
from contextlib import nullcontext
from dataclasses import replace

import pytest
import yaml

from froster_hf.cli import main
from froster_hf.settings import list_named
from froster_hf.shapes.study import load_plan, run_study, running, worlds
from froster_hf.shapes.study.jobs import job_for
from froster_hf.shapes.study.running import _check_jobs
from froster_hf.shapes.study.worlds import World
from froster_hf.training.recipes import load_recipe

PLAN = """
about: mine
pretraining: [small_clip]
recipe: moving_shapes_base_to_novel
validation_worlds: [9]
test_worlds: [1]
seeds: [0]
reference: plain
methods: {plain: {overrides: [training.distillation=none]}}
"""


@pytest.mark.parametrize("name", list_named("plan"))
def test_every_override_of_a_shipped_plan_is_a_field_of_its_recipe(name, tmp_path):
    plan = load_plan(name)
    assert load_recipe(plan.pretraining[0], plan.pretraining[1:]).kind == "pretraining"
    for method in plan.methods:
        job = job_for(method, world=World(plan, 1, tmp_path), seed=0, choices={"learning_rate": 1e-3}, test=True)
        assert job.recipe().training["learning_rate"] == 1e-3
    _check_jobs(plan, tmp_path)


def test_values_of_a_grid_that_the_training_does_not_take_are_refused_before_the_work(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN.replace("overrides: [training.distillation=none]", "grid: {learning_rate: [0.1, -1]}"))
    with pytest.raises(
        ValueError, match=r"The plan mine, method plain: .*learning_rate.* is -1; it must be at least 0"
    ):
        _check_jobs(load_plan(file), tmp_path)


def test_plans_are_listed(capsys):
    assert main(["study", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in list_named("plan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test_worlds: [1]", "test_worlds: [9]"), "World 9 cannot be both"),
        (("reference: plain", "reference: residual"), "reference is 'residual'"),
        (("test_worlds: [1]", "test_worlds: 1"), "test_worlds is 1"),
        (("seeds: [0]", "seeds: []"), r"seeds is \[\]"),
        (("test_worlds: [1]", "test_worlds: [1, 2, 1]"), "test_worlds has 1 more than once"),
        (("seeds: [0]", "seeds: [0, -5]"), "seeds is -5; it goes from 0 to 4294967295"),
        (("seeds: [0]", "seeds: [0, 0]"), "seeds has 0 more than once"),
        (("pretraining: [small_clip]", "pretraining: []"), r"pretraining is \[\]; give the name of a recipe"),
        (("about: mine", "about: mine\ngrid_extensions: -1"), "grid_extensions is -1; it must be at least 0"),
        (("methods: {plain: {overrides: [training.distillation=none]}}", "methods: {}"), "number of methods is 0"),
        (("seeds: [0]", f"seeds: {list(range(10_001))}"), "number of fine-tunings is 10001; it goes from 1 to 10000"),
        (("validation_worlds: [9]", "validation_worlds: []"), r"validation_worlds is \[\]"),
        (("seeds: [0]", "seed: 0"), "unknown fields seed"),
        (("overrides: [training.distillation=none]", "grid: {gamma: [1]}"), "unknown .*gamma"),
        (("overrides: [training.distillation=none]", "grid: {beta: []}"), "the grid of beta has no values"),
        (("overrides: [training.distillation=none]", "grid: {beta: [1, 2, 1.0]}"), "grid of beta has a value twice"),
        (
            ("methods: {", "methods: {a b: {}, A_b: {}, "),
            "the methods 'a b' and 'A_b' would be done in folders of one",
        ),
        (("overrides: [training.distillation=none]", "grid: {beta: [1, .nan]}"), "each of a number that is finite"),
        (("about: mine\n", ""), "the fields about are missing"),
        (("methods: {", "methods: {frozen: {}, "), r"name is 'frozen', as what is measured beside the methods"),
        (
            ("methods: {plain: {", "methods: {plain + ensemble: {}, plain: {variants: [ensemble], "),
            r"name is 'plain \+ ensemble', as what",
        ),
    ],
)
def test_mistakes_in_a_plan_are_named(tmp_path, change, message):
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN.replace(*change))
    with pytest.raises(ValueError, match=message):
        load_plan(file)


@pytest.mark.parametrize(
    "fields",
    [
        {"reference": "x" * 70_000},
        {"reference": "plain", "methods": {"plain": {}, "x" * 70_000: {}}},
        {"reference": "plain", "methods": {"plain": {"choices_of": "x" * 70_000}}},
        {"reference": "plain", "methods": {"plain": {"grid": {"x" * 70_000: [1.0]}}}},
        {"reference": "plain", "methods": {"plain": {"variants": ["x" * 70_000]}}},
        {"x" * 70_000: 1},
    ],
)
def test_what_is_wrong_in_a_plan_is_told_in_brief(tmp_path, fields):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"extends": "short", **fields}))
    with pytest.raises(ValueError, match="mine") as refused:
        load_plan(file)
    assert len(str(refused.value)) < 2500


@pytest.mark.parametrize(
    "name", ["../../x", "/tmp/x", "..", "", "a\\b", "C:x", "x\n", "\x1b[31m", "<b>", "a|b", "$x$", "x" * 101]
)
def test_a_method_under_whose_name_results_are_written_leads_nowhere_else(tmp_path, name):
    file = tmp_path / "mine.yaml"
    methods = {name: {"overrides": []}}
    file.write_text(yaml.safe_dump({"extends": "short", "methods": methods, "reference": name}))
    with pytest.raises(ValueError, match=r"The plan mine: a method's name is .*; it becomes part of paths") as refused:
        load_plan(file)
    assert str(refused.value).isprintable()


def test_a_method_whose_name_no_folder_can_have_is_refused(tmp_path):
    """File systems count bytes, of which a letter has up to four."""
    file = tmp_path / "mine.yaml"
    for letters, is_taken in ((66, True), (67, False)):
        name = "\u8dd1" * letters
        file.write_text(PLAN.replace("plain", name))
        expected = nullcontext() if is_taken else pytest.raises(ValueError, match=r"a method's name is .* 200 bytes")
        with expected:
            job = job_for(name, world=World(load_plan(file), 1, tmp_path), seed=2**32 - 1, choices={}, test=True)
            job.folder.mkdir(parents=True)


def test_a_plan_of_thousands_of_methods_is_refused_before_their_recipes_are_read(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN.replace("methods: {", "methods: {" + "".join(f"m{number}: {{}}, " for number in range(1000))))
    with pytest.raises(ValueError, match="number of methods is 1001; it goes from 1 to 1000"):
        load_plan(file)


def test_the_recipe_of_a_plan_is_read_once_for_all_methods(tmp_path, monkeypatch):
    plan = load_plan("short")
    read = []
    monkeypatch.setattr(
        worlds, "load_recipe", lambda name, *given, **own: read.append(name) or load_recipe(name, *given, **own)
    )
    _check_jobs(plan, tmp_path)
    assert read.count(plan.recipe) == len(plan.methods) + 1


def test_a_job_is_the_same_however_its_fields_were_arrived_at(tmp_path):
    world = World(load_plan("short"), 1, tmp_path)
    assert 2.0 in world.plan.methods["residual"].grid["beta"]
    first = job_for("residual", world=world, seed=0, choices={"learning_rate": 6e-4}, test=False)
    again = job_for("residual", world=world, seed=0, choices={"learning_rate": 6e-4, "beta": 2.0}, test=False)
    other = job_for("residual", world=world, seed=0, choices={"learning_rate": 6e-4, "beta": 8.0}, test=False)
    assert first.folder == again.folder != other.folder


def test_a_job_is_another_one_where_other_clips_are_left_out_and_not_where_others_read_them(tmp_path):
    world = World(load_plan("short"), 1, tmp_path)
    own, read_otherwise, left_out = (
        replace(job_for("residual", world=world, seed=0, choices={}, test=True), overrides=(f"training.{field}",))
        for field in ("logging_steps=7", "dataloader_num_workers=1", "dataloader_drop_last=true")
    )
    assert own.folder == read_otherwise.folder != left_out.folder


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("{overrides: [training.distilation=none]}", "method plain: .*distilation"),
        ("{overrides: [training.push_to_hub=true]}", r"method plain: .*training\.push_to_hub is given, which is not"),
        ("{overrides: [training]}", "method plain: 'training' is not of the form"),
        ("{overrides: [world.num_frames=4]}", "method plain: its overrides change the world"),
        ("{overrides: [data.shots=2]}", "method plain: its overrides change the world"),
        (
            "{overrides: [model.num_frames=4]}",
            "method plain: its overrides change .* the frames that a model is tested",
        ),
        (
            "{overrides: [model.sampling=dense]}",
            "method plain: its overrides change .* the frames that a model is tested",
        ),
        (
            "{overrides: ['training.eval_video_options={sampling: dense}']}",
            "method plain: its overrides change .* the frames that a model is tested",
        ),
        ("{overrides: [model.checkpoint=small]}", "method plain: its overrides change .* the checkpoint"),
        ("{variants: [weight_average]}", "average_weights_from_epoch"),
        ("{overrides: [model.temporal_module=aim], variants: [interpolation]}", "aim has weights that CLIP does not"),
    ],
)
def test_what_could_only_fail_later_is_found_at_once(tmp_path, method, message):
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN.replace("{overrides: [training.distillation=none]}", method))
    with pytest.raises(ValueError, match=message):
        run_study(load_plan(file), work=tmp_path / "work", output=tmp_path / "out")
    assert not (tmp_path / "work").exists()


def test_the_command_of_a_report_is_one_to_type_again(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(running, "run_study", lambda plan, **options: given.update(options))
    places = ["--work", str(tmp_path / "my work"), "--output", str(tmp_path / "$(report)")]
    typed = ["study", "short", "test_worlds=[7, 8]", *places, "--processes", "2"]
    assert main(typed) == 0
    assert shlex.split(given["command"]) == ["froster", *typed]


def test_a_plan_that_extends_itself_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: {file}\n")
    with pytest.raises(ValueError, match="extends itself"):
        load_plan(file)


def test_numbers_without_a_dot_are_numbers(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(PLAN.replace("{overrides: [training.distillation=none]}", "{grid: {learning_rate: [6e-4]}}"))
    assert load_plan(file).methods["plain"].grid == {"learning_rate": [6e-4]}


def test_an_unknown_plan_is_an_error_that_lists_the_shipped_ones(capsys):
    assert main(["study", "nothing"]) == 1
    assert "Shipped are clear, direction, long, second, short" in capsys.readouterr().err
