"""Every shipped recipe parses, says what was published, and trains two steps on a tiny model and real video files."""

import dataclasses
import itertools
import json
import re
import shutil

import pytest
import torch
import yaml

from froster_hf.cli import main
from froster_hf.data.video_table import label_names
from froster_hf.settings import list_named
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from froster_hf.training.recipe_run import (
    build_model,
    build_trainer,
    read_recipe_data,
    train_recipe,
    training_arguments,
)
from froster_hf.training.recipes import Recipe, RecipeData, RecipeModel, RecipeWorld, load_recipe
from tests.fixtures.tiny import save_tiny_clip, tiny_model, tiny_processor
from tests.fixtures.videos import render_classes

FINE_TUNING = [name for name in list_named("recipe") if load_recipe(name).kind == "fine_tuning"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def video_folder(tmp_path_factory):
    """Four classes; diving and juggling are the frequent half."""
    classes = {"diving": 3, "juggling": 3, "rowing": 2, "yoga": 2}
    return render_classes(tmp_path_factory.mktemp("videos"), classes)


def tiny_overrides(clip_folder, video_folder, output_dir) -> list[str]:
    """What makes a recipe small: a tiny CLIP, a folder of videos, two steps."""
    return [
        f"model.checkpoint={clip_folder}",
        "model.num_frames=4",
        "data.format=folder",
        f"data.root={video_folder}",
        f"data.eval_root={video_folder}",
        "data.published=null",
        f"output_dir={output_dir}",
        "total_batch_size=4",
        "precision=fp32",
        "training.per_device_train_batch_size=2",
        "training.max_steps=2",
        "training.logging_steps=1",
        "training.report_to=none",
        "training.disable_tqdm=true",
        "training.use_cpu=true",
        "training.dataloader_num_workers=0",
    ]


@pytest.mark.parametrize("name", FINE_TUNING)
def test_a_recipe_trains_two_steps_and_leaves_a_model(tmp_path, name, clip_folder, video_folder):
    overrides = tiny_overrides(clip_folder, video_folder, tmp_path)
    shots = load_recipe(name).data.shots
    recipe = load_recipe(name, [*overrides, f"data.shots={shots and 2}".replace("None", "null")])
    trainer = train_recipe(recipe)
    trains = recipe.training["num_train_epochs"] > 0
    assert trainer.state.global_step == (2 if trains else 0)
    assert trainer.args.gradient_accumulation_steps == 2
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == (2 if trains else 0)
    for entry in logged:
        assert any(name.startswith("loss_distill_") for name in entry) == (trainer.teacher is not None)
    labels = ["diving", "juggling"] if recipe.data.label_set == "base" else ["diving", "juggling", "rowing", "yoga"]
    saved = yaml.safe_load((tmp_path / "model" / "config.json").read_text())
    assert list(saved["id2label"].values()) == labels
    assert (tmp_path / "eval_results.json").is_file()


def test_descriptions_of_a_file_go_to_the_classes_that_they_name(tmp_path, clip_folder, video_folder):
    described = {"Yoga": "slow movements on a mat", "rowing": None, "diving": "a jump into water", "juggling": "balls"}
    (tmp_path / "described.json").write_text(json.dumps(described))
    overrides = tiny_overrides(clip_folder, video_folder, tmp_path / "run")
    recipe = load_recipe(
        "froster_k400", [*overrides, "data.shots=null", f"data.descriptions={tmp_path}/described.json"]
    )
    assert build_trainer(recipe).processing_class.label_descriptions == {
        "diving": "a jump into water",
        "juggling": "balls",
        "yoga": "slow movements on a mat",
    }
    del described["Yoga"]
    (tmp_path / "described.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"described\.json came without 1 of its names: yoga"):
        build_trainer(recipe)


@pytest.mark.parametrize("name", FINE_TUNING)
def test_a_recipe_says_what_it_is(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(recipe.about) > 20
    own_world = recipe.data.format == "moving_shapes"
    assert recipe.model.checkpoint == ("runs/small_clip/model" if own_world else "openai/clip-vit-base-patch16")
    if not own_world:
        assert (recipe.model.num_frames, recipe.model.sampling, recipe.model.frame_stride) == (None, None, None)


def test_frames_are_sampled_as_in_the_published_numbers_where_the_recipe_says_nothing(clip_folder):
    model, processor = build_model(RecipeModel(checkpoint=str(clip_folder)))
    video = processor.video_processor
    assert (video.num_frames, video.sampling, video.frame_stride) == (8, "dense", 16)
    assert (model.config.num_frames, model.config.temporal_module) == (8, "local_attention")
    assert processor.num_prompts == 29


def arguments(name, *overrides, num_clips=64_000):
    recipe = load_recipe(name, ["training.report_to=none", "precision=fp32", "training.use_cpu=true", *overrides])
    return training_arguments(recipe, num_clips=num_clips)


def test_the_published_schedules():
    froster = arguments("froster_k400")
    assert froster.num_train_epochs == 22
    assert froster.warmup_steps == 2 * 1000
    assert froster.train_batch_size * froster.gradient_accumulation_steps == 64
    assert load_recipe("froster_base_to_novel_ssv2").training["average_weights_from_epoch"] is None
    for dataset in ("k400", "ucf101", "hmdb51", "ssv2"):
        recipe = load_recipe(f"froster_base_to_novel_{dataset}")
        assert (recipe.data.shots, recipe.data.label_set, recipe.data.published) == (16, "base", dataset)
        assert recipe.training["num_train_epochs"] == 12
    for name, rate, warmup, clips in (("aim_k400", 3e-4, 2.5, 64), ("st_adapter_k400", 7.5e-4, 2, 192)):
        adapters = arguments(name, num_clips=100 * clips)
        assert (adapters.learning_rate, adapters.warmup_steps) == pytest.approx((rate, 100 * warmup))
        assert adapters.train_batch_size * adapters.gradient_accumulation_steps == clips
        assert adapters.lr_scheduler_kwargs == {"min_lr_rate": 0.0, "warmup_lr_rate": 0.0}


@pytest.mark.parametrize(
    ("overrides", "num_clips", "steps"),
    [
        (["training.num_train_epochs=2"], 640, 20),
        (["training.num_train_epochs=1"], 640, 20),
        (["training.max_steps=7"], 640, 20),
        (["warmup_epochs=0.5"], 640, 5),
        (["warmup_epochs=0.01"], 640, 1),
        (["warmup_epochs=0"], 640, 0),
        ([], 1, 2),
        (["training.warmup_steps=3"], 640, 3),
    ],
)
def test_the_warm_up_is_as_many_epochs_as_the_recipe_says_however_long_the_run_is(overrides, num_clips, steps):
    args = arguments("froster_k400", *overrides, num_clips=num_clips)
    assert args.get_warmup_steps(1_000_000) == steps


def test_the_learning_rate_rises_over_the_warm_up_epochs(tmp_path, clip_folder, video_folder):
    overrides = [*tiny_overrides(clip_folder, video_folder, tmp_path), "warmup_epochs=2", "training.max_steps=-1"]
    overrides += ["training.num_train_epochs=3", "total_batch_size=2", "training.save_strategy=no"]
    trainer = train_recipe(load_recipe("froster_k400", overrides))
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert len(rates) == 15
    assert rates.index(max(rates)) + 1 == 10, "10 videos are 5 steps per epoch"


def test_a_froster_checkpoint_keeps_its_architecture_sampling_and_prompts(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    own = {"temporal_module": model.config.temporal_module, "num_frames": model.config.num_frames}
    for fields in ({}, own):
        built, _ = build_model(RecipeModel(checkpoint=str(tmp_path), **fields))
        assert built.config.temporal_module == model.config.temporal_module
    for field, value in (("temporal_module", "aim"), ("num_frames", 32), ("frame_stride", 3), ("adapter_size", 7)):
        with pytest.raises(ValueError, match=rf"model\.{field} is .{{0,1}}{value}.*model\.{field}=null"):
            build_model(RecipeModel(checkpoint=str(tmp_path), **{field: value}))
    with pytest.raises(ValueError, match=r"model\.prompt_templates"):
        build_model(RecipeModel(checkpoint=str(tmp_path), prompt_templates=["{} once more"]))


def test_a_folder_with_a_run_is_resumed_overwritten_or_left(tmp_path, clip_folder, video_folder, capsys):
    overrides = [*tiny_overrides(clip_folder, video_folder, tmp_path), "training.save_strategy=no"]

    def train(rate, *options):
        changed = [*overrides, f"training.learning_rate={rate}"]
        return main(["train", "froster_k400", *changed, "--output-dir", str(tmp_path), *options])

    assert train("1e-3") == 0
    weights = tmp_path / "model" / "model.safetensors"
    first = weights.read_bytes()
    capsys.readouterr()
    assert train("1e-2") == 1
    message = capsys.readouterr().err
    assert "holds a run already (model" in message
    assert "--resume" in message
    assert weights.read_bytes() == first
    # The second run measures nothing, and must not seem to have.
    assert (tmp_path / "eval_results.json").is_file()
    overrides.append("data.eval_root=null")
    (tmp_path / "notes.txt").touch()
    assert train("1e-2", "--overwrite") == 0
    assert weights.read_bytes() != first
    assert (tmp_path / "notes.txt").exists()
    assert not (tmp_path / "eval_results.json").exists()
    assert not (tmp_path / "model" / "manifest.json").exists()


def test_a_model_without_finite_scores_is_saved_and_nothing_is_measured(tmp_path, video_folder, capsys):
    model = tiny_model()
    # Finite, as what is saved has to be; no embedding is.
    torch.nn.init.constant_(model.froster.visual_projection.weight, 3e38)
    model.save_pretrained(tmp_path / "start")
    tiny_processor().save_pretrained(tmp_path / "start")
    run = tmp_path / "run"
    given = [*tiny_overrides(tmp_path / "start", video_folder, run), "data.shots=null"]
    kept = [f"model.{field}=null" for field in ("num_frames", "prompt_templates")]
    # Whose every step would be skipped.
    untrained = ["training.num_train_epochs=0", "training.max_steps=-1"]
    train = ["train", "froster_k400", *given, *kept, *untrained, "--output-dir", str(run)]
    assert main(train) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("froster: error: The model's scores are not finite for ")
    assert "image_std" in message
    assert not (run / "eval_results.json").exists()
    record = json.loads((run / "run_record.json").read_text())
    assert record["evaluation"] == {}
    assert (run / "model" / "model.safetensors").is_file()
    (run / "eval_results.json").write_text("{}")  # of an earlier model of this run
    assert main([*train, "--resume"]) == 1
    assert not (run / "eval_results.json").exists()


def test_the_best_model_is_told_by_the_part_that_is_evaluated(tmp_path, clip_folder, video_folder):
    best = [
        "load_best_model_at_end=true",
        "save_strategy=steps",
        "eval_strategy=steps",
        "save_steps=1",
        "eval_steps=1",
    ]
    overrides = [*tiny_overrides(clip_folder, video_folder, tmp_path), *(f"training.{field}" for field in best)]
    trainer = train_recipe(load_recipe("froster_k400", overrides))
    losses = [entry["eval_all_loss"] for entry in trainer.state.log_history if "eval_all_loss" in entry]
    assert trainer.state.best_metric == min(losses[:2])
    with pytest.raises(
        ValueError, match=r"`metric_for_best_model` is 'loss', .* Give that of one of them: base_loss, n"
    ):
        build_trainer(load_recipe("froster_base_to_novel_k400", [*overrides, "data.shots=2"]))


def test_a_schedule_goes_by_the_loss_of_the_part_that_is_evaluated(tmp_path, clip_folder, video_folder):
    fields = ["lr_scheduler_type=reduce_lr_on_plateau", "eval_strategy=steps", "eval_steps=1"]
    overrides = [*tiny_overrides(clip_folder, video_folder, tmp_path), *(f"training.{field}" for field in fields)]
    trainer = train_recipe(load_recipe("froster_k400", overrides))
    assert trainer.state.global_step == trainer.lr_scheduler.last_epoch == 2
    with pytest.raises(
        ValueError, match=r"`metric_for_best_model` is 'loss', .* Give that of one of them: base_loss, n"
    ):
        build_trainer(load_recipe("froster_base_to_novel_k400", [*overrides, "data.shots=2"]))


def test_a_damaged_record_beside_the_checkpoint_is_found_before_the_steps(
    tmp_path, clip_folder, video_folder, capsys, monkeypatch
):
    shutil.copytree(clip_folder, tmp_path / "theirs" / "model")
    (tmp_path / "theirs" / "run_record.json").write_text("{}")
    monkeypatch.setattr(FrosterTrainer, "train", lambda *_, **__: pytest.fail("the training has begun"))
    overrides = tiny_overrides(tmp_path / "theirs" / "model", video_folder, tmp_path / "run")
    assert main(["train", "froster_k400", *overrides, "data.shots=null"]) == 1
    assert f"{tmp_path}/theirs/run_record.json: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_folder_in_the_place_of_results_is_found_before_the_steps(
    tmp_path, clip_folder, video_folder, capsys, option
):
    overrides = tiny_overrides(clip_folder, video_folder, tmp_path)
    (tmp_path / "run" / "eval_results.json").mkdir(parents=True)
    assert main(["train", "froster_k400", *overrides, "--output-dir", str(tmp_path / "run"), option]) == 1
    assert "eval_results.json" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["eval_results.json"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainig.learning_rate=1"], "froster_k400: unknown fields trainig. Known are about, data"),
        (["training.learning_rates=1"], "froster_k400, training: unknown fields learning_rates"),
        (["training.output_dir=x"], "unknown fields output_dir"),
        (["model.temporal=none"], "froster_k400, model: unknown fields temporal"),
        (["model.temporal_module=tsm"], "temporal_module is 'tsm'; it must be one of none, local_attention"),
        (["data.format=webdataset"], "format is 'webdataset'"),
        (["data.published=k700"], "published is 'k700'"),
        (["learning_rate"], "is not of the form field=value"),
        (["a=[1"], "is not valid YAML"),
        (["model=5"], "expected `field: value` lines"),
        (["kind=distilling"], "kind is 'distilling'; it must be one of fine_tuning, pretraining"),
        (["total_batch_size=0"], "froster_k400: total_batch_size is 0; it goes from 1 to 1000000"),
        (["total_batch_size=1000000000"], "total_batch_size is 1000000000; it goes from 1 to 1000000"),
        (["total_batch_size=-8"], "total_batch_size is -8"),
        (["warmup_epochs=-1"], "warmup_epochs is -1"),
        (["warmup_epochs=.inf"], "warmup_epochs is inf"),
        (["warmup_epochs=.nan"], "warmup_epochs is nan"),
        (["warmup_epochs=1e308"], "warmup_epochs is 1e+308"),
    ],
)
def test_what_is_no_field_or_value_is_refused(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_recipe("froster_k400", overrides)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("about: x\nextends: nothing\n", "There is no recipe 'nothing'. Shipped are actionclip_k400"),
        ("model: {}\n", "the fields about are missing"),
        ("- a\n", "holds no `field: value` lines"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_files_that_are_no_recipes_are_refused(tmp_path, content, message):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_recipe(file)


def test_recipes_that_extend_each_other_without_end_are_refused(tmp_path):
    files = [tmp_path / f"{number}.yaml" for number in range(30)]
    for file, base in itertools.pairwise(files):
        file.write_text(f"about: x\nextends: {base}\n")
    with pytest.raises(ValueError, match=r"yaml extends .*; 20 files in a row that extend another are read"):
        load_recipe(files[0])


def test_a_recipe_that_extends_itself_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"about: x\nextends: {file}\n")
    with pytest.raises(ValueError, match="extends itself"):
        load_recipe(file)


def test_a_file_of_ones_own_extends_a_shipped_one(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("about: mine\nextends: froster_base_to_novel_ucf101\ntraining: {learning_rate: 1e-5}\n")
    recipe = load_recipe(file, ["training.weight_decay=2e-2"])
    assert (recipe.name, recipe.data.shots, recipe.data.format) == ("mine", 16, "ucf101")
    assert (recipe.training["learning_rate"], recipe.training["weight_decay"]) == (1e-5, 2e-2)
    assert recipe.training["num_train_epochs"] == 12


def test_a_total_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"`total_batch_size` is 65, but 1 process"):
        arguments("froster_k400", "total_batch_size=65")


def test_paths_that_are_needed_are_asked_for():
    with pytest.raises(ValueError, match=r"give data.root=PATH"):
        read_recipe_data(load_recipe("froster_base_to_novel_ucf101").data, RecipeWorld())


def test_base_labels_are_trained_and_both_halves_evaluated(video_folder):
    data = RecipeData(root=str(video_folder), eval_root=str(video_folder), label_set="base", shots=1)
    train, evaluation = read_recipe_data(data, RecipeWorld())
    assert len(train) == 2
    assert train.features["label"].names == ["diving", "juggling"]
    assert evaluation["novel"].features["label"].names == ["rowing", "yoga"]


@pytest.mark.parametrize("kind", [Recipe, RecipeModel, RecipeData, RecipeWorld, FrosterTrainingArguments])
def test_every_field_is_documented(kind):
    own = set(kind.__annotations__) - {field for field in kind.__annotations__ if field.startswith("_")}
    own -= {"learning_rate", "weight_decay", "lr_scheduler_type", "remove_unused_columns"}
    own -= {
        "ddp_find_unused_parameters",
        "logging_nan_inf_filter",
    }  # transformers documents these; here they have another default
    for name in own & {field.name for field in dataclasses.fields(kind)}:
        assert re.search(rf"\b{name}\b[`\w, ]*:", kind.__doc__), name


def test_the_command_line_lists_shows_and_trains(tmp_path, capsys, clip_folder, video_folder):
    assert main(["train", "--list"]) == 0
    assert "froster_base_to_novel_ucf101" in capsys.readouterr().out
    assert main(["train", "froster_k400", "training.learning_rate=1e-5", "--show"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["training"]["learning_rate"] == 1e-5
    assert main(["train", "froster_k400", "training.lr=1"]) == 1
    assert "unknown fields lr" in capsys.readouterr().err
    assert main(["train"]) == 1
    assert "What is to be trained on?" in capsys.readouterr().err
    overrides = tiny_overrides(clip_folder, video_folder, tmp_path / "run")
    assert main(["train", "froster_k400", *overrides]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'run'}/model"
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_the_process_group_of_a_launcher_ends_with_the_verb(tmp_path, clip_folder, video_folder):
    overrides = [*tiny_overrides(clip_folder, video_folder, tmp_path / "run"), "training.num_train_epochs=0"]
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    assert main(["train", "froster_k400", *overrides, "data.eval_root=null"]) == 0
    assert not torch.distributed.is_initialized()


def test_a_world_is_rendered_once_and_split_into_base_and_novel(tmp_path):
    overrides = ["data.format=moving_shapes", f"data.root={tmp_path}", "data.label_set=base", "world.num_classes=6"]
    overrides += ["world.clips_per_class=2", "world.eval_clips_per_class=1", "world.num_frames=2"]
    overrides += ["world.resolution=32", "world.motions=[growing, bouncing]"]
    recipe = load_recipe("froster_k400", overrides)
    train, evaluation = read_recipe_data(recipe.data, recipe.world)
    assert (len(train), {name: len(table) for name, table in evaluation.items()}) == (12, {"base": 6, "novel": 6})
    assert label_names(train) == label_names(evaluation["base"])
    words = {text.split()[1] for text in label_names(train)}
    assert not words & {text.split()[1] for text in label_names(evaluation["novel"])}
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    read_recipe_data(recipe.data, recipe.world)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")} == files
    with pytest.raises(ValueError, match="other arguments"):
        read_recipe_data(recipe.data, dataclasses.replace(recipe.world, seed=1))


@pytest.mark.parametrize(
    "field",
    [
        "training: {push_to_hub: true}",
        "training: {hub_model_id: a/b}",
        "training: {hub_private_repo: false}",
        "training: {report_to: [wandb]}",
        "training: {trackio_space_id: a/b}",
        "training: {accelerator_config: /dev/zero}",
        "training: {fsdp_config: /dev/zero}",
        "training: {fsdp: full_shard}",
        "training: {ddp_backend: gloo}",
        "training: {ddp_timeout: 1000000000}",
        "training: {train_video_options: {allow_urls: http}}",
        "training: {eval_video_options: {video_limits: {max_pixels: 1}}}",
        "data: {allow_links: true}",
        "data: {root: /srv/videos}",
        "data: {root: runs/../../videos}",
        "output_dir: runs/another",
    ],
)
def test_what_is_for_the_caller_to_say_is_taken_from_no_file(tmp_path, field):
    (tmp_path / "theirs.yaml").write_text(f"extends: moving_shapes_base_to_novel\n{field}\n")
    name, value = re.fullmatch(r"((?:\w+: {)?\w+): (.*?)}?", field).groups()
    name = name.replace(": {", ".")
    message = rf"theirs: {re.escape(name)} is given, which is not for a file to say.* as {re.escape(name)}=VALUE"
    with pytest.raises(ValueError, match=message) as refused:
        load_recipe(tmp_path / "theirs.yaml")
    assert "\n" not in str(refused.value)
    override = f"{name}={value}"
    load_recipe("moving_shapes_base_to_novel", [override])
    with pytest.raises(ValueError, match="which is not for a file to say"):
        load_recipe("moving_shapes_base_to_novel", overrides_of_file=[override])


def test_what_is_reported_on_this_machine_alone_may_stand_in_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("about: a\ntraining: {report_to: tensorboard, push_to_hub: false}\n")
    assert load_recipe(tmp_path / "mine.yaml").training["report_to"] == "tensorboard"


@pytest.mark.parametrize("recipe", ["froster_k400", "small_clip"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parallelism_config={tp_size: 1000000}", "parallelism_config is {'tp_size': 1000000}; it must be null."),
        ("optim=adam", "optim is 'adam'; it must be one of adamw_torch, "),
        ("lr_scheduler_type=3", "lr_scheduler_type is 3; it must be one of linear, "),
        ("log_level=nonsense", "`log_level` is 'nonsense'; it must be one of "),
        ("log_level_replica=nonsense", "`log_level_replica` is 'nonsense'; it must be one of "),
        ("save_strategy=often", "save_strategy is 'often'; it must be one of no, steps"),
        ("lr_scheduler_kwargs=min", "`lr_scheduler_kwargs` is 'min'; it must be a mapping of names to values"),
        ("lr_scheduler_kwargs='{min'", "`lr_scheduler_kwargs` is '{min'; it must be a mapping of names to values"),
        ("gradient_checkpointing_kwargs='[1]'", "`gradient_checkpointing_kwargs` is '[1]'; it must be a mapping"),
        ("gradient_checkpointing_kwargs={evil: 1}", "`gradient_checkpointing_kwargs` names evil, which activation"),
        ("activation_checkpointing_kwargs='{\"evil\": 1}'", "`activation_checkpointing_kwargs` names evil, which"),
        (
            "gradient_checkpointing_kwargs={use_reentrant: false, determinism_check: a}",
            "Nothing can be trained with `gradient_checkpointing_kwargs`, {'use_reentrant': False, 'determinism",
        ),
        (
            "gradient_checkpointing_kwargs={use_reentrant: true, debug: true}",
            "Nothing can be trained with `gradient_checkpointing_kwargs`, {'use_reentrant': True, 'debug': True}: ",
        ),
        ("label_smoothing_factor=1e6", "`label_smoothing_factor` is 1000000.0; it goes from 0 to 1."),
        ("neftune_noise_alpha=-1", "`neftune_noise_alpha` is -1; it goes from 0 to 1000000.0."),
        ("neftune_noise_alpha=1e300", "`neftune_noise_alpha` is 1e+300; it goes from 0 to 1000000.0."),
        ("label_smoothing_factor=-0.1", "`label_smoothing_factor` is -0.1; it goes from 0 to 1."),
        (
            "accelerator_config={gradient_accumulation_kwargs: {num_steps: 1000000}}",
            "`accelerator_config` gives '1000000' as `num_steps` of its `gradient_accumulation_kwargs`, which would",
        ),
        ("accelerator_config={gradient_accumulation_kwargs: {num_steps: -1}}", "gives '-1' as `num_steps`"),
        ("accelerator_config={gradient_accumulation_kwargs: {num_steps: x}}", "gives 'x' as `num_steps`"),
        ("accelerator_config={gradient_accumulation_kwargs: x}", "Nothing can be trained with `accelerator_config`"),
        ("accelerator_config={gradient_accumulation_kwargs: {evil: 1}}", "unexpected keyword argument 'evil'"),
        ("accelerator_config={split_batches: true}", "gives `split_batches` as 'True', which would divide"),
        ("accelerator_config={dispatch_batches: true}", "gives `dispatch_batches` as 'True', which would have one"),
        ("accelerator_config={even_batches: false}", "gives `even_batches` as 'False', which would give processes"),
        ("accelerator_config={even_batches: null}", "gives `even_batches` as 'None', which would give processes"),
        ("ddp_timeout=1000000000000000000", "`ddp_timeout` is 1000000000000000000; it goes from 1 to 2147483647."),
        ("optim_args=momentum", "`optim_args` is 'momentum'; it must be of the form name=value,name=value."),
        ("optim_args='a=1,,b=2'", "`optim_args` is 'a=1,,b=2'; it must be of the form"),
    ],
)
def test_arguments_of_other_types_and_forms_are_named(recipe, override, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load_recipe(recipe, [f"training.{override}"])
    assert "\n" not in str(refused.value)


def test_arguments_of_the_right_form_are_taken():
    given = ["optim=sgd", "optim_args='momentum=0.9, nesterov=true'", "lr_scheduler_type=linear"]
    given += ["gradient_checkpointing_kwargs={use_reentrant: false, preserve_rng_state: true}"]
    given += ["lr_scheduler_kwargs='{}'", "label_smoothing_factor=0.1", "save_strategy=no"]
    recipe = load_recipe("froster_k400", [f"training.{argument}" for argument in given])
    assert recipe.training["optim_args"] == "momentum=0.9, nesterov=true"
    assert recipe.training["lr_scheduler_kwargs"] == "{}"


def test_options_that_transformers_does_not_have_are_named():
    with pytest.raises(ValueError, match=r"`accelerator_config`, {'evil': 1}.*unexpected keyword argument 'evil'"):
        arguments("froster_k400", "training.accelerator_config={evil: 1}")


def test_options_of_accumulation_that_leave_a_step_as_it_is_are_taken_and_recorded_as_given(
    tmp_path, clip_folder, video_folder
):
    given = "training.accelerator_config={even_batches: true, gradient_accumulation_kwargs: {sync_each_batch: true}}"
    recipe = load_recipe("froster_k400", [*tiny_overrides(clip_folder, video_folder, tmp_path / "run"), given])
    trainer = build_trainer(recipe)
    assert trainer.args.gradient_accumulation_steps == 2
    assert recipe.training["accelerator_config"]["gradient_accumulation_kwargs"] == {"sync_each_batch": True}
    # For another Trainer, and where arguments are set later.
    trainer.args.check_own_fields()


@pytest.mark.parametrize("checkpoint", ["/dev/zero", "a/../b/../c", "a b"])
def test_a_checkpoint_that_is_none_is_named_with_its_field(tmp_path, clip_folder, video_folder, checkpoint):
    overrides = tiny_overrides(clip_folder, video_folder, tmp_path)
    with pytest.raises(ValueError, match=f"^`teacher` is '{checkpoint}', from which no model can be loaded: "):
        build_trainer(load_recipe("froster_k400", [*overrides, "data.shots=null", f"training.teacher={checkpoint}"]))
    with pytest.raises(ValueError, match=rf"model\.checkpoint\b.*{checkpoint}|{checkpoint}.*model\.checkpoint\b"):
        build_model(RecipeModel(checkpoint=checkpoint))


def test_a_checkpoint_that_is_missing_leaves_no_folder(tmp_path):
    overrides = ["data.root=videos", "model.checkpoint=./gone", f"output_dir={tmp_path}/runs/own"]
    with pytest.raises(ValueError, match=r"There is no checkpoint in \./gone"):
        train_recipe(load_recipe("froster_k400", overrides))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("world.clips_per_class=1000000000", "world: 48,000,000,.* clips of all classes are asked for"),
        ("world.num_frames=1000000000", "pixels of a clip"),
        ("world={num_frames: 10001, resolution: 2}", "10,001 frames of a clip"),
        ("world.resolution=191", "H.264 needs an even one"),
        ("world.eval_clips_per_class=-8", "world: eval_clips_per_class is -8; it must be at least 0"),
        ("world.clips_per_class=0", "world: clips_per_class is 0; it must be at least 1"),
        ("world.num_classes=-3", "world: num_classes is -3; it must be at least 1"),
        ("world.resolution=0", "world: resolution is 0; it must be at least 1"),
        ("world.seed=-5", "world: seed is -5; it must be at least 0"),
        ("data.shots=0", "data: shots is 0; it must be at least 1"),
        ("data.shots_seed=-1", "data: shots_seed is -1; it must be at least 0"),
        ("training.resume_from_checkpoint=/runs", "unknown fields resume_from_checkpoint"),
        ("training.num_train_epochs=.inf", "num_train_epochs is inf; it must be a number"),
        (
            "training.dataloader_prefetch_factor=1000000000000",
            "`dataloader_prefetch_factor` is .*; it goes from 1 to 64",
        ),
        ("training.dataloader_num_workers=1000000", "`dataloader_num_workers` is .*; it goes from 0 to"),
        ("training.per_device_train_batch_size=0", "`per_device_train_batch_size` is 0; it goes from 1 to"),
        (
            "training.per_device_eval_batch_size=1000000000",
            "`per_device_eval_batch_size` is 1000000000; it goes from 1",
        ),
        ("training.num_train_epochs=-3", "`num_train_epochs` is -3; it goes from 0 to 1000000"),
        ("training.num_train_epochs=1e308", r"`num_train_epochs` is 1e\+308; it goes from 0 to 1000000"),
        ("training.data_seed=-5", "`data_seed` is -5; it goes from 0 to 4294967295"),
        ("training.learning_rate=-1", "`learning_rate` is -1; it must be at least 0"),
        ("training.warmup_steps=-1", "`warmup_steps` is -1; it must be at least 0"),
        ("training.seed=-1", "`seed` is -1; it goes from 0 to 4294967295"),
        ("training.save_steps=.nan", "save_steps is nan; it must be a number"),
        (
            "training.lr_scheduler_kwargs={min_lr_rate: [.nan]}",
            "`lr_scheduler_kwargs` holds nan; numbers must be finite",
        ),
        (f"training.learning_rate={10**400}", "learning_rate is 1000.*; it must be a number"),
    ],
)
def test_sizes_and_numbers_that_no_training_has_are_refused_at_once(override, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("moving_shapes_base_to_novel", [override])


def test_an_access_token_in_a_recipe_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(ValueError, match="HF_TOKEN") as caught:
        load_recipe("taco_k400", overrides=["training.hub_token=hf_secret"])
    assert "hf_secret" not in str(caught.value)
    (tmp_path / "mine.yaml").write_text("about: a\ntraining: {hub_token: hf_secret}")
    with pytest.raises(ValueError, match=r"training\.hub_token is given") as caught:
        load_recipe(tmp_path / "mine.yaml")
    assert "hf_secret" not in str(caught.value)


def test_a_teacher_with_other_pixels_than_the_students_is_refused(tmp_path, clip_folder, video_folder, caplog):
    overrides = [*tiny_overrides(clip_folder, video_folder, tmp_path / "run"), "data.shots=null"]
    teacher = save_tiny_clip(tmp_path / "teacher")
    recipe = load_recipe("froster_k400", [*overrides, f"training.teacher={teacher}"])
    assert build_trainer(recipe).teacher is not None
    options = json.loads((teacher / "preprocessor_config.json").read_text())
    (teacher / "preprocessor_config.json").write_text(json.dumps({**options, "image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(ValueError, match=r"The student and the teacher would be given the same.*`image_mean`"):
        build_trainer(recipe)
    (teacher / "preprocessor_config.json").unlink()
    assert build_trainer(recipe).teacher is not None
    assert "has no processor: whether it takes the student's pixels" in caplog.text


def test_a_calibration_does_not_outlive_the_weights_that_it_was_fitted_to(tmp_path, video_folder, caplog):
    tiny_model().save_pretrained(tmp_path / "calibrated")
    processor = tiny_processor()
    processor.calibration = {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "background_labels": ["a landscape"]}
    processor.save_pretrained(tmp_path / "calibrated")
    overrides = tiny_overrides(tmp_path / "calibrated", video_folder, tmp_path / "run")
    more = ["data.shots=null", "model.num_frames=null", "model.prompt_templates=null"]
    more += ["model.temporal_module=null", "training.average_weights_from_epoch=0"]
    train_recipe(load_recipe("froster_k400", [*overrides, *more, "training.save_strategy=epoch"]))
    assert "calibration of the checkpoint does not hold for the weights that are trained" in caplog.text
    saved = sorted((tmp_path / "run").rglob("processor_config.json"))
    assert {path.parent.name for path in saved} >= {"model", "weight-average"}
    assert {json.loads(path.read_text())["calibration"] for path in saved} == {None}
