"""A whole study, as small as it can be: two worlds, two methods, everything real."""

import json

import pytest

from froster_hf.cli import main

ARCHITECTURE = "model.hidden_size=32, model.num_vision_layers=1, model.num_text_layers=1"
PLAN = """
about: as small as can be
pretraining: [small_clip, steps=2, num_eval_stills=120, {architecture},
  training.eval_strategy="no", training.save_strategy="no", training.dataloader_num_workers=0]
recipe: {recipe}
validation_world: 9
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
  motions: [sliding left, growing]}
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
    assert main(arguments) == 0
    return folder, arguments


def test_every_method_and_variant_is_measured_in_every_world_and_seed(study):
    folder, _ = study
    result = json.loads((folder / "out" / "study.json").read_text())
    methods = ["frozen", "plain", "plain + ensemble", "plain + interpolation", "residual", "residual + weight_average"]
    assert sorted((run["method"], run["world"], run["seed"]) for run in result["runs"]) == [
        (method, 1, seed) for method in methods for seed in (0, 1)
    ]
    assert [trial["value"] for trial in result["trials"]] == [0.001, 0.01]
    assert result["choices"]["residual"]["learning_rate"] in (0.001, 0.01)
    for run in result["runs"]:
        assert run["base_direction"] == run["novel_direction"] == 0.5


def test_the_report_has_tables_plots_and_no_claim_without_its_interval(study):
    folder, _ = study
    text = (folder / "out" / "README.md").read_text()
    assert "| residual |" in text
    assert "froster study" in text
    claims = [line for line in text.splitlines() if line.startswith("|") and "−" in line and "hm" in line]
    assert claims
    assert all("[" in line for line in claims)
    assert len(list((folder / "out").glob("*.png"))) == 3


def test_a_second_run_finds_everything_done(study, capsys):
    folder, arguments = study
    before = json.loads((folder / "out" / "study.json").read_text())
    times = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("metrics.json")}
    assert times
    assert main(arguments) == 0
    after = json.loads((folder / "out" / "study.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("metrics.json")} == times
    assert before["runs"] == after["runs"]


def test_trained_weights_are_not_kept(study):
    folder, _ = study
    assert not list((folder / "work" / "jobs").rglob("*.safetensors"))
