"""What a world keeps for its jobs is what they would compute anew, so that the same models are trained."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import froster_hf
from froster_hf.data.clips import TrainingClips
from froster_hf.shapes.pretraining.run import image_processor
from froster_hf.shapes.study import load_plan, worlds
from froster_hf.shapes.study.jobs import SIDES, _trainer, job_for, pretrain_and_measure, run_job, score_side
from froster_hf.shapes.study.worlds import RememberingTeacher, StoredTrainingClips, World, decoded_clips
from froster_hf.training.losses import NonFiniteError
from froster_hf.training.recipe_run import build_model, build_trainer, read_recipe_data
from froster_hf.training.teacher import FrozenTeacher

PLAN = """
about: one world
pretraining: [small_clip]
recipe: {recipe}
validation_worlds: [9]
test_worlds: [1]
seeds: [0]
reference: residual
methods:
  residual: {{}}
  plain: {{overrides: [training.distillation=none]}}
  ST-Adapter: {{overrides: [model.temporal_module=st_adapter, training.distillation=none]}}
"""
RECIPE = """
extends: moving_shapes_harder
about: as small as can be
world: {num_classes: 4, clips_per_class: 2, eval_clips_per_class: 1, resolution: 32,
  motions: [sliding left, growing]}
total_batch_size: 4
training: {num_train_epochs: 1, per_device_train_batch_size: 4}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "plan.yaml").write_text(PLAN.format(recipe=folder / "recipe.yaml"))
    world = World(load_plan(folder / "plan.yaml"), 1, folder / "work")
    shutil.copytree(Path(froster_hf.__file__).parent / "assets" / "small_clip", world.clip)
    image_processor(32).save_pretrained(world.clip)
    (world.clip.parent / "eval_results.json").write_text('{"eval_accuracy": 0.5, "epoch": 1.0}')
    assert worlds.pretrain_clip(world) == {"accuracy": 0.5}
    worlds.prepare_world(world)
    return world


@pytest.mark.parametrize("value", ['"hello"', "[0, 0]", "2", "NaN"])
def test_results_that_no_pretraining_has_are_refused(world, value):
    results = world.clip.parent / "eval_results.json"
    told = results.read_text()
    results.write_text(f'{{"eval_accuracy": {value}}}')
    try:
        with pytest.raises(ValueError, match=r"other results than a pre-training's|NaN"):
            pretrain_and_measure(world)
    finally:
        results.write_text(told)


def job_of(world, method):
    return job_for(method, world=world, seed=0, choices={}, test=True)


NAMES = json.dumps(["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("side", "change", "names"),
    [
        ("base", lambda tensors: tensors["labels"].fill_(99), NAMES),
        ("base", lambda tensors: tensors["labels"].fill_(-1), NAMES),
        ("base", lambda tensors: tensors.update(pixel_values_videos=tensors["pixel_values_videos"][:1]), NAMES),
        ("base", lambda tensors: tensors.pop("labels"), NAMES),
        ("base", lambda tensors: None, "[" * 100_000),
        ("base", lambda tensors: None, "[1, 2, 3, 4]"),
        ("base", lambda tensors: None, None),
        ("train", lambda tensors: tensors.update({name: tensors[name][:1] for name in tensors}), NAMES),
        ("train", lambda tensors: tensors.update(teacher_embeds=tensors["teacher_embeds"][..., :3]), NAMES),
        ("train", lambda tensors: tensors.update(teacher_embeds=tensors["teacher_embeds"][:1]), NAMES),
    ],
)
def test_altered_clips_are_an_error_that_names_their_file(world, tmp_path, side, change, names):
    file, kept = world.folder / "clips" / f"{side}.safetensors", tmp_path / "kept"
    shutil.copy(file, kept)
    tensors = load_file(kept)
    change(tensors)
    stored = {name: tensor.contiguous() for name, tensor in tensors.items()}
    place = {"of": f"{world.folder.name}/{side}"}
    save_file(stored, file, metadata={"labels": names, **place} if names else place)
    recipe = world.placed(job_of(world, "residual").recipe(), output_dir=tmp_path)
    table, _ = read_recipe_data(recipe.data, recipe.world)
    video_processor = build_model(recipe.model)[1].video_processor
    worlds._read_teacher.cache_clear()

    def read() -> None:
        decoded_clips(world, "base")
        worlds.remembering_teacher(world)
        worlds.training_clips(world, recipe, table, video_processor=video_processor)

    try:
        with pytest.raises(ValueError, match=rf"{side}\.safetensors is not what a study has stored"):
            read()
    finally:
        shutil.copy(kept, file)
        worlds._read_teacher.cache_clear()


@pytest.mark.parametrize("side", ["novel", "train"])
def test_stored_clips_of_another_side_or_world_are_refused(world, tmp_path, side):
    file, kept = world.folder / "clips" / "base.safetensors", tmp_path / "kept"
    shutil.copy(file, kept)
    try:
        shutil.copy(file.with_stem(side), file)
        with pytest.raises(ValueError, match=r"base\.safetensors is not what a study has stored") as caught:
            decoded_clips(world, "base")
        assert f"it is of '{world.folder.name}/{side}'" in str(caught.value.__cause__)
        with safe_open(kept, framework="pt") as stored:
            told = stored.metadata()
        save_file(load_file(kept), file, metadata=told | {"of": told["of"].replace("world", "world2")})
        with pytest.raises(ValueError, match=r"base\.safetensors is not what a study has stored"):
            decoded_clips(world, "base")
    finally:
        shutil.copy(kept, file)
    assert len(decoded_clips(world, "base").labels)


def test_stored_clips_are_those_that_are_decoded(world, tmp_path):
    recipe = world.placed(job_of(world, "residual").recipe(), output_dir=tmp_path)
    table, _ = read_recipe_data(recipe.data, recipe.world)
    video_processor = build_model(recipe.model)[1].video_processor
    stored = worlds.training_clips(world, recipe, table, video_processor=video_processor)
    assert isinstance(stored, StoredTrainingClips)
    options = recipe.training["train_video_options"]
    decoded = TrainingClips(table, video_processor=video_processor, seed=0, video_options=options)
    for key in ((0, 0), (0, 7), (3, 7), (1, 2)):
        one, other = stored[key], decoded[key]
        assert torch.equal(one.pop("pixel_values_videos"), other.pop("pixel_values_videos"))
        assert one == other


def test_other_clips_than_those_that_are_stored_are_decoded(world):
    recipe = world.placed(job_of(world, "residual").recipe())
    table, _ = read_recipe_data(recipe.data, recipe.world)
    video_processor = build_model(recipe.model)[1].video_processor
    options = recipe.training["train_video_options"]

    def clips(**others):
        recipe.training["train_video_options"] = {**options, **others}
        return worlds.training_clips(world, recipe, table, video_processor=video_processor)

    for others in ({"cropping": "random"}, {"do_normalize": False}, {"size": {"shortest_edge": 64}}):
        assert clips(**others) is table
    assert clips(num_frames=3)[0, 0]["pixel_values_videos"].shape[1] == 3
    assert clips(num_frames=None)[0, 0]["pixel_values_videos"].shape[1] == video_processor.num_frames


def test_a_teacher_remembers_frames_that_it_has_seen_and_looks_at_others(world, monkeypatch):
    teacher = worlds.remembering_teacher(world)
    assert isinstance(teacher, RememberingTeacher)
    assert worlds.remembering_teacher(world) is teacher
    anew = FrozenTeacher.from_dual_encoder(world.clip)
    seen = worlds.load_file(world.folder / "clips" / "train.safetensors")["pixel_values_videos"][2:4, ::3]
    others = decoded_clips(world, "novel").pixel_values_videos
    assert torch.allclose(teacher.embed_frames(others), anew.embed_frames(others))
    expected = anew.embed_frames(seen)
    monkeypatch.setattr(teacher, "model", None)
    assert torch.allclose(teacher.embed_frames(seen), expected, atol=1e-6)


def test_a_job_trains_the_model_that_its_recipe_trains(world, tmp_path):
    job = job_of(world, "residual")
    trainers = [_trainer(job), build_trainer(world.placed(job.recipe(), output_dir=tmp_path))]
    assert isinstance(trainers[0].teacher, RememberingTeacher)
    losses = []
    for trainer in trainers:
        trainer.train()
        losses.append(trainer.state.log_history[-1]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    before = FrozenTeacher.from_dual_encoder(world.clip).model.state_dict()
    first, second = (trainer.student.froster.state_dict() for trainer in trainers)
    for name, tensor in second.items():
        learned = (tensor - before[name]).float().abs().max() if name in before else tensor.float().abs().max()
        # A bias of keys changes no attention: its gradient is rounding, of which AdamW makes steps of any sign.
        allowed = 1e-4 if name.endswith("k_proj.bias") else 0.05 * learned + 1e-7
        assert (first[name] - tensor).float().abs().max() <= allowed, name
    assert _trainer(job_of(world, "plain")).teacher is None


@pytest.mark.parametrize("method", ["residual", "ST-Adapter"])
def test_a_model_that_sees_no_direction_need_not_be_shown_clips_backwards(world, method):
    torch.manual_seed(0)
    model, processor = build_model(world.placed(job_of(world, method).recipe()).model)
    clips = decoded_clips(world, "base")
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    scores = score_side(model, processor, clips)
    count = len(clips.labels)
    assert sum(seen) == (count if method == "residual" else count + len(scores.backward))
    assert len(scores.backward) == count  # both motions have a direction
    text_embeds = processor.embed_labels(scores.texts, model=model)
    with torch.inference_mode():
        backwards = model(clips.pixel_values_videos.flip(1), text_embeds=text_embeds).logits
    assert torch.allclose(torch.from_numpy(scores.backward), backwards, atol=1e-3)
    assert len(score_side(model, processor, clips, backward=False).backward) == 0


def test_a_model_without_finite_scores_has_no_metrics(world):
    """As of a learning rate at which the training diverges; `argmax` of NaN is an answer."""
    model, processor = build_model(world.placed(job_of(world, "plain").recipe()).model)
    with torch.no_grad():
        model.froster.visual_projection.weight *= 3e38
    with pytest.raises(NonFiniteError, match=r"not finite for clip 0, clip 1, .*lower the learning rate"):
        score_side(model, processor, decoded_clips(world, "base"))


def test_a_trial_is_tested_on_what_the_choice_looks_at(world):
    job = job_for("plain", world=world, seed=0, choices={}, test=False)
    assert job.is_trial
    assert job.folder != job_of(world, "plain").folder
    (measured,) = run_job(job).values()
    assert set(SIDES) == {name.partition("_")[0] for name in measured} - {"hm"}
    assert 0 <= measured["hm"] <= 1
