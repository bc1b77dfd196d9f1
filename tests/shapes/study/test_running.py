"""A whole study, as small as it can be: two worlds, two methods, everything real."""

import json
import math
import re
import sys

import pytest

from froster_hf.cli import main
from froster_hf.shapes.study import load_plan
from froster_hf.shapes.study.jobs import job_for
from froster_hf.shapes.study.plan import Method
from froster_hf.shapes.study.worlds import OUT_OF_CONTEXT, SIDES, World
from froster_hf.whole_files import worked_in_alone

ARCHITECTURE = "model.hidden_size=32, model.num_vision_layers=1, model.num_text_layers=1"
PLAN = """
about: as small as can be
pretraining: [small_clip, steps=2, num_eval_stills=120, {architecture},
  training.eval_strategy="no", training.save_strategy="no", training.dataloader_num_workers=0]
recipe: {recipe}
validation_worlds: [9]
test_worlds: [1]
seeds: [0, 1]
reference: residual
methods:
  plain: {{overrides: [training.distillation=none], variants: [ensemble, interpolation]}}
  residual:
    overrides: [training.average_weights_from_epoch=2, training.learning_rate=0.001]
    grid: {{learning_rate: [0.001, 0.01]}}
    variants: [weight_average]
"""
RECIPE = """
extends: moving_shapes_base_to_novel
about: as small as can be
world: {num_classes: 4, clips_per_class: 1, eval_clips_per_class: 1, num_frames: 4, resolution: 32,
  motions: [sliding left, growing], hardships: {scene_bias: 1.0, speeds: true}}
model: {num_frames: 2}
total_batch_size: 4
training: {num_train_epochs: 2, per_device_train_batch_size: 4}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "plan.yaml").write_text(PLAN.format(architecture=ARCHITECTURE, recipe=folder / "recipe.yaml"))
    arguments = ["study", str(folder / "plan.yaml"), "--work", str(folder / "work"), "--output", str(folder / "out")]
    # In pieces: the first has no time for anything, the second goes on to the end.
    assert main([*arguments, "--minutes", "0"]) == 0
    assert not (folder / "out" / "study.json").exists()
    assert main(arguments) == 0
    return folder, arguments


def test_every_method_and_variant_is_measured_in_every_world_and_seed(study):
    folder, _ = study
    result = json.loads((folder / "out" / "study.json").read_text())
    methods = ["plain", "plain + ensemble", "plain + interpolation", "residual", "residual + weight_average"]
    trained = [(run["method"], run["world"], run["seed"]) for run in result["runs"] if run["method"] != "frozen"]
    assert sorted(trained) == [(method, 1, seed) for method in methods for seed in (0, 1)]
    assert [(run["world"], run["seed"]) for run in result["runs"] if run["method"] == "frozen"] == [(1, None)]
    assert [trial["value"] for trial in result["trials"]] == [0.001, 0.01]
    best = max(result["trials"], key=lambda trial: trial["hm"])
    chosen = next(t for t in result["trials"] if t["value"] == result["choices"]["residual"]["learning_rate"])
    assert chosen["hm"] == best["hm"]
    for run in result["runs"]:
        # No clip is its own reversal here: there is nothing to say, and NaN is no JSON.
        assert run["base_direction"] == run["novel_direction"] == 0.5
        assert run["base_undirected"] is None
        assert 0 <= run["base_speed"] <= 1
        assert 0 <= run["out_of_context_top1"] <= 1
    assert result["gigaflops"]["plain + ensemble"] > 1.9 * result["gigaflops"]["frozen"]


def test_the_report_has_tables_plots_and_no_claim_without_its_interval(study):
    folder, _ = study
    text = (folder / "out" / "README.md").read_text()
    assert "| residual |" in text
    assert "froster study" in text
    claims = text.partition("## Claims")[2].partition("## ")[0]
    rows = [line for line in claims.splitlines() if line.startswith("| ") and "−" in line]
    assert len(rows) >= 5
    assert all(re.search(r"\[[+-][\d.]+, [+-][\d.]+\]", row) for row in rows)
    # Of two values, each is at an edge: the better one may lie beyond.
    assert re.search(r"learning rate 0\.0(01 \(the least|1 \(the most) tried\)", text)
    assert "nan" not in text
    assert len(list((folder / "out").glob("*.png"))) == 4
    assert "| out of context |" in text
    assert "## Cost" in text


def test_a_second_run_finds_everything_done(study, capsys):
    folder, arguments = study
    before = json.loads((folder / "out" / "study.json").read_text())
    times = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("metrics.json")}
    assert times
    assert main(arguments) == 0
    after = json.loads((folder / "out" / "study.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("metrics.json")} == times
    assert before["runs"] == after["runs"]


@pytest.mark.parametrize("change", [{"novel_appearance": math.nan}, {"base_direction": None}])
def test_a_measure_that_other_methods_have_of_the_same_clips_is_missed_by_its_files_name(study, capsys, change):
    folder, arguments = study
    file = min((folder / "work").glob("world*/jobs/residual-seed1-*/metrics.json"))
    text = file.read_text()
    measured = json.loads(text)
    for own in measured.values():
        own |= change
    known = {
        method: {key: value for key, value in own.items() if value is not None} for method, own in measured.items()
    }
    try:
        file.write_text(json.dumps(known))
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert f"Of {min(change)}, one of {file} and " in error
        assert "Delete the one that was altered" in error
    finally:
        file.write_text(text)


@pytest.mark.parametrize("name", ["world*/jobs", "world*", "log.txt"])
def test_a_link_in_a_study_that_is_gone_on_with_is_refused_and_nothing_behind_it_is_touched(
    study, tmp_path, capsys, name
):
    folder, arguments = study
    place = min((folder / "work").glob(name))
    kept = tmp_path / place.name
    place.rename(kept)
    before = sorted((path, path.stat().st_mtime_ns) for path in [kept, *kept.rglob("*")])
    try:
        place.symlink_to(kept)
        assert main([*arguments, "--overwrite"]) == 1
        assert "is a link or a special file" in capsys.readouterr().err
        assert sorted((path, path.stat().st_mtime_ns) for path in [kept, *kept.rglob("*")]) == before
    finally:
        place.unlink()
        kept.rename(place)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is held there")
def test_two_studies_do_not_run_in_one_folder(study, capsys):
    """Each would delete the jobs that the other one has begun."""
    folder, arguments = study
    with worked_in_alone(folder / "work"):
        assert main(arguments) == 1
        assert f"Another run is at work in {folder / 'work'}. Wait until it ends" in capsys.readouterr().err
    assert main(arguments) == 0


def test_trained_weights_are_not_kept(study):
    folder, _ = study
    jobs = list((folder / "work").glob("world*/jobs/*"))
    assert len(jobs) == 6
    stored = {file.stem for job in jobs for file in job.rglob("*.safetensors")}
    assert stored <= {*SIDES, OUT_OF_CONTEXT}, "nothing but scores"


def test_with_other_prompts_the_frozen_model_and_what_is_averaged_with_it_are_measured_again(study):
    folder, _ = study
    plan = load_plan(folder / "plan.yaml")
    # A method with prompts of its own is averaged with the frozen model, which has those of the plan.
    plan.methods["own"] = Method(overrides=["model.prompt_templates=none"], variants=["ensemble"])
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()

    def places():
        world = World(plan, 1, folder / "work")
        return world.folder, world.frozen, job_for("own", world=world, seed=0, choices={}, test=True).folder

    before = places()
    assert (before[1] / "metrics.json").exists()
    try:
        recipe.write_text(text.replace("{num_frames: 2}", "{num_frames: 2, prompt_templates: single}"))
        after = places()
    finally:
        recipe.write_text(text)
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] != before[2]
    assert places() == before


def test_another_recipe_is_another_job_and_other_choices_do_not_look_at_old_test_worlds(study, capsys):
    folder, arguments = study
    plan = load_plan(folder / "plan.yaml")

    def job():
        return job_for("plain", world=World(plan, 1, folder / "work"), seed=0, choices={}, test=True)

    before = job().folder
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()
    try:
        recipe.write_text(text.replace("num_train_epochs: 2", "num_train_epochs: 3"))
        assert job().folder != before
        assert job().world.folder == before.parents[1]
        recipe.write_text(text.replace("resolution: 32", "resolution: 48"))
        assert job().world.folder != before.parents[1]
        recipe.write_text(text.replace("{num_frames: 2}", "{num_frames: 2, sampling: dense}"))
        assert job().world.folder != before.parents[1]
    finally:
        recipe.write_text(text)
    choices = folder / "work" / "choices-plan.json"
    kept = choices.read_text()
    choices.write_text(kept.replace("learning_rate", "beta"))
    assert main(arguments) == 1
    assert "not drawn after these choices" in capsys.readouterr().err
    choices.write_text(kept)
