"""A folder of own videos, trained on by one command: what is held out, what is chosen and why, and what is said."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import TrainingArguments

from froster_hf.assets import SMALL_CLIP
from froster_hf.cli import main
from froster_hf.cli.verbs.train import _certainty
from froster_hf.data import read_video_folder
from froster_hf.data.label_splits import hold_out
from froster_hf.data.video_table import VIDEO_COLUMN, label_array, label_names
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from froster_hf.training import plan_training, recipe_run, train_on_videos
from froster_hf.training.checkpointing import RunExistsError
from froster_hf.training.recipe_run import build_trainer, read_recipe_data, training_arguments
from froster_hf.training.recipes import output_folder
from froster_hf.whole_files import ResultExistsError, worked_in_alone

CLASSES = [MovingShape("red", "star", "sliding left"), MovingShape("blue", "square", "pulsing")]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two class folders of five rendered videos."""
    folder = tmp_path_factory.mktemp("own")
    for number, row in enumerate(write_moving_shapes(folder / "rendered", CLASSES, clips_per_class=5, seed=2)):
        target = folder / "my_videos" / str(CLASSES[row["label"]])
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(row["video"], target / f"{number}.mp4")
    return folder / "my_videos"


def names(table):
    return {row["path"].rpartition("/")[2] for row in table[VIDEO_COLUMN]}


def test_a_run_is_in_one_place_where_its_folder_begins_with_the_home_folder(monkeypatch, tmp_path):
    """As a shell hands on `--output-dir=~/run`; transformers takes it for the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = output_folder(SimpleNamespace(output_dir="~/run", name="a"))
    assert folder == tmp_path / "run" == Path(TrainingArguments(output_dir="~/run").output_dir)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_an_output_folder_that_no_file_could_tell_is_refused_before_the_training(videos, tmp_path):
    with pytest.raises(ValueError, match=r"run\\udcff has a name that is not UTF-8.*Give another `output_dir`"):
        train_on_videos(videos, model="small", output_dir=tmp_path / os.fsdecode(b"run\xff"))
    assert not list(tmp_path.iterdir())


def test_a_fifth_of_every_class_is_held_out_wherever_the_folder_lies(videos, tmp_path):
    train, held_out = hold_out(read_video_folder(videos), 0.2)
    assert np.bincount(label_array(held_out)).tolist() == [1, 1]
    assert np.bincount(label_array(train)).tolist() == [4, 4]
    assert not names(train) & names(held_out)
    shutil.copytree(videos, tmp_path / "elsewhere")
    again = hold_out(read_video_folder(tmp_path / "elsewhere"), 0.2)
    assert names(again[1]) == names(held_out)


def test_no_class_is_held_out_whole(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "few")
    for path in sorted(next((tmp_path / "few").iterdir()).iterdir())[1:]:
        path.unlink()
    train, held_out = hold_out(read_video_folder(tmp_path / "few"), 0.9)
    assert set(label_array(train).tolist()) == {0, 1}
    assert set(label_array(held_out).tolist()) < {0, 1}
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        hold_out(read_video_folder(videos), 1.0)


def test_the_plan_says_classes_settings_and_directions(videos):
    plan = plan_training(videos, model=SMALL_CLIP)
    assert plan == plan_training(videos, model=str(SMALL_CLIP))
    said = str(plan)
    assert "10 videos of 2 classes" in said
    assert "learning rate 0.0005: a toy model" in said
    assert "The temporal module local_attention cannot tell a clip from the same clip played backwards" in said
    assert "model.temporal_module=directional_attention" in said
    assert plan.recipe.training["train_video_options"]["flip_probability"] == 0.0
    assert plan.recipe.data.held_out == 0.2
    given = plan_training(videos, model=str(SMALL_CLIP), overrides=["model.temporal_module=directional_attention"])
    assert "directional_attention sees them" in str(given)
    seeing = plan_training(videos, model="small", overrides=["training.num_train_epochs=1"])
    assert seeing.recipe.training["num_train_epochs"] == 1
    assert "training.num_train_epochs=1, as given" in str(seeing)
    assert "directional_attention sees them" in str(seeing)


def test_a_run_is_called_after_its_videos_wherever_they_are_named_from(videos, tmp_path, monkeypatch):
    shutil.copytree(videos, tmp_path / "day 1.5")
    monkeypatch.chdir(tmp_path / "day 1.5")
    plan = plan_training(".", model="small")
    assert (plan.recipe.name, plan.recipe.output_dir) == ("day 1.5", os.path.join("runs", "day 1.5"))


def number(pattern: str, said: str) -> float:
    (found,) = re.findall(pattern, said)
    return float(found)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.num_train_epochs=3", "training.learning_rate=1e-4", "total_batch_size=3", "data.held_out=0.4"],
        ["training.max_steps=5", "training.per_device_train_batch_size=4", "warmup_epochs=2"],
        ["training.warmup_steps=0", "training.distillation=none", "data.held_out=null", "total_batch_size=2"],
    ],
    ids=["the rule", "epochs and batches", "steps", "nothing held out"],
)
def test_the_plan_says_what_is_run(videos, overrides):
    if "total_batch_size=3" in overrides:
        overrides = [*overrides, "training.per_device_train_batch_size=1"]
    plan = plan_training(videos, model="small", overrides=overrides)
    trainer, said = build_trainer(plan.recipe), str(plan)
    args, loader = trainer.args, trainer.get_train_dataloader()
    per_epoch = -(-len(loader) // args.gradient_accumulation_steps)
    steps = args.max_steps if args.max_steps > 0 else int(args.num_train_epochs * per_epoch)
    assert number(r"epochs? of (\d+) videos?", said) == len(trainer.train_dataset)
    assert number(r"([\d.]+) epochs? of", said) == pytest.approx(steps / per_epoch, rel=0.01)
    assert number(r", (\d+) per step", said) == args.train_batch_size * args.gradient_accumulation_steps
    assert number(r"per step: (\d+) steps?", said) == steps
    assert number(r"(\d+) videos? at a time", said) == args.train_batch_size
    assert number(r"(\d+) decoding process", said) == args.dataloader_num_workers
    assert number(r"learning rate ([\d.e-]+):", said) == args.learning_rate
    rising = args.get_warmup_steps(steps)
    rises = re.findall(r"the learning rate rises over .*?(\d+) of \d+", said)
    assert rises == [str(rising)] * bool(rising)
    assert ("no distillation" in said) == (args.distillation == "none")
    if trainer.eval_dataset:
        assert number(r"(\d+) videos? held out", said) == sum(map(len, trainer.eval_dataset.values()))
        assert number(r"held out to measure on: ([\d.]+)%", said) == 100 * plan.recipe.data.held_out
    else:
        assert "nothing to measure on" in said


def test_the_learning_rate_rises_over_a_share_of_whatever_is_trained(videos):
    plan = plan_training(videos, model="small", overrides=["training.max_steps=40"])
    assert plan.recipe.warmup_epochs == 0
    assert training_arguments(plan.recipe, num_clips=8).get_warmup_steps(40) == 4
    assert "over the first 10% of the steps" in str(plan)
    own = plan_training(videos, model="small", overrides=["warmup_epochs=3"])
    assert training_arguments(own.recipe, num_clips=16).get_warmup_steps(40) == 6


def test_classes_without_directions_are_mirrored(videos, tmp_path):
    for source, name in zip(sorted(videos.iterdir()), ("a dog running", "a cat sleeping")):
        shutil.copytree(source, tmp_path / "animals" / name)
    plan = plan_training(tmp_path / "animals", model=str(SMALL_CLIP))
    assert "flip_probability" not in plan.recipe.training["train_video_options"]
    assert not any("direction" in line for line in plan.warnings)


def test_videos_to_measure_on_may_be_given(videos):
    plan = plan_training(videos, model="small", eval_videos=videos)
    assert plan.recipe.data.held_out is None
    assert plan.recipe.data.eval_root == str(videos)
    assert "10 others to measure on" in str(plan)
    with pytest.raises(ValueError, match="The videos to measure on, nowhere, are not there"):
        plan_training(videos, model="small", eval_videos="nowhere")


def test_videos_to_measure_on_are_told_from_all_classes_of_the_training(videos, tmp_path):
    """Among the classes that they happen to have, whatever the model answers could be right."""
    sliding, pulsing = sorted(videos.iterdir(), key=lambda folder: "sliding" not in folder.name)
    shutil.copytree(sliding, tmp_path / "others" / sliding.name.replace(" ", "_").upper())
    plan = plan_training(
        videos,
        model="small",
        eval_videos=tmp_path / "others",
        output_dir=tmp_path / "run",
        overrides=["training.num_train_epochs=0"],
    )
    assert f"Note: 1 of 2 classes have no video to measure on: {pulsing.name}." in str(plan)
    assert train_on_videos(plan)["num_held_out"] == 5
    assert "5 videos, 2 labels (1 of them of no video)" in (tmp_path / "run/evaluation/result.md").read_text()
    _, measured = read_recipe_data(plan.recipe.data, plan.recipe.world)
    assert label_names(measured["all"]) == label_names(read_video_folder(videos))
    assert {label_names(measured["all"])[label] for label in label_array(measured["all"])} == {sliding.name}


def test_classes_to_measure_that_are_not_trained_on_are_said(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "others")
    shutil.copytree(next(videos.iterdir()), tmp_path / "others" / "a dog running")
    plan = plan_training(videos, model="small", eval_videos=tmp_path / "others")
    assert "Note: 1 of 3 classes have no video to train on: a dog running." in str(plan)
    train, measured = read_recipe_data(plan.recipe.data, plan.recipe.world)
    assert label_names(measured["all"]) == [*label_names(train), "a dog running"]
    assert np.bincount(label_array(measured["all"])).tolist() == [5, 5, 5]


def test_one_command_trains_and_measures_before_and_after(videos, tmp_path, capsys):
    command = ["train", str(videos), "training.num_train_epochs=1", "--model", "small"]
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "Held-out top-1: " in said
    assert "1 epoch of 8 videos, 8 per step: 1 step" in said
    assert (tmp_path / "run" / "checkpoint-1").is_dir()
    assert re.findall(
        r"^epoch 1 of 1: loss [\d.]+ \(ce [\d.]+, distill_video [\d.]+, distill_text [\d.]+\)$", said, re.M
    )
    assert re.findall(r"^epoch 1 of 1: top-1 [\d.]+ %", said, re.M)
    assert not re.findall(r"^\{", said, re.M), "a log of the Trainer as it is"
    assert "; 2 videos are too few to say whether it is chance)" in said
    assert f"froster predict VIDEO --model {tmp_path / 'run' / 'model'}" in said
    assert (tmp_path / "run" / "evaluation" / "index.html").is_file()
    # The recipe that was run can be run again.
    assert main(["train", str(tmp_path / "run" / "recipe.yaml"), "--show"]) == 0
    assert "held_out: 0.2" in capsys.readouterr().out
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_what_is_said_of_a_difference_is_what_its_interval_allows():
    assert _certainty([4.5, 30.0], 40) == "; 95 % interval +4.5 to +30.0).\n"
    assert "these 12 videos do not tell the two apart" in _certainty([-19.8, 19.8], 12)
    assert "3 videos are too few to say" in _certainty(None, 3)


def test_a_link_in_the_place_of_the_evaluation_is_refused_before_the_training(videos, tmp_path, capsys):
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evaluation").symlink_to(tmp_path / "victim")
    assert main(["train", str(videos), "--model", "small", "--output-dir", str(tmp_path / "run")]) == 1
    assert f"{tmp_path / 'run' / 'evaluation'} is a link, which is not followed" in capsys.readouterr().err
    assert os.listdir(tmp_path / "run") == ["evaluation"]
    assert os.listdir(tmp_path / "victim") == []


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "eval_results.json", "run_record.json", "evaluation/predictions/notes.csv"]
)
def test_files_that_no_run_has_left_are_not_replaced(videos, tmp_path, name):
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("my own")
    with pytest.raises(ResultExistsError, match=f"{name.partition('/')[0]} exists already"):
        train_on_videos(videos, model="small", output_dir=tmp_path / "run")
    assert file.read_text() == "my own"


@pytest.mark.parametrize("options", [{}, {"overwrite": True}], ids=str)
def test_two_runs_do_not_train_in_one_folder(videos, tmp_path, options):
    with worked_in_alone(tmp_path), pytest.raises(ValueError, match="Another run is at work in "):
        train_on_videos(videos, model="small", output_dir=tmp_path, **options)


def test_the_model_of_a_run_that_ends_while_another_one_begins_stays(videos, tmp_path, monkeypatch):
    def build_meanwhile(*arguments):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text("its own")
        return build_trainer(*arguments)

    monkeypatch.setattr(recipe_run, "build_trainer", build_meanwhile)
    with pytest.raises(RunExistsError, match=r"holds a run already \(model\)"):
        train_on_videos(videos, model="small", output_dir=tmp_path)
    assert (tmp_path / "model" / "config.json").read_text() == "its own"


def test_what_cannot_be_trained_on_is_said_before_anything_is_loaded(videos, tmp_path, capsys):
    (tmp_path / "one").mkdir()
    shutil.copytree(next(videos.iterdir()), tmp_path / "one" / "juggling")
    with pytest.raises(ValueError, match="has one class"):
        train_on_videos(tmp_path / "one", model="small")
    assert main(["train", "nowhere/videos", "--model", "small"]) == 1
    assert "nowhere/videos is not there" in capsys.readouterr().err
    assert main(["train", "froster_k400", "--model", "small"]) == 1
    assert "--model: only of own videos" in capsys.readouterr().err
    assert main(["train", str(videos)]) == 1
    errors = capsys.readouterr().err
    assert "The default model, visual-ai/froster-b16, cannot be had" in errors
    assert "--model small" in errors
    assert errors.count("\n") == 4, "one line, and three that say how to get a model"


def test_processes_that_would_each_train_alone_are_refused(videos, monkeypatch):
    # As torchrun starts them on a machine without a GPU.
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"each would work alone.*training\.use_cpu=true"):
        plan_training(videos, model="small")
