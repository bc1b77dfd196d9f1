"""A pre-training learns, resumes bit for bit, leaves a CLIP repository, and refuses what it does not know."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoProcessor, AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPProcessor

from froster_hf import FrosterForVideoClassification, FrosterProcessor, machine_memory
from froster_hf.cli import main
from froster_hf.shapes.pretraining import (
    HeldOutStills,
    PretrainingRecipe,
    RecipeArchitecture,
    RecipeStills,
    build_pretrainer,
    caption_loss,
    pretrain,
)
from froster_hf.training.checkpointing import ResumeError
from froster_hf.training.losses import NonFiniteError
from froster_hf.training.recipes import load_recipe
from tests.fixtures.signals import end_backward
from tests.shapes.pretraining.tiny import TINY, tiny_recipe


def test_batches_beyond_the_memory_that_is_left_are_refused(tmp_path, monkeypatch):
    recipe = tiny_recipe(tmp_path, "batch_size=512", "training.dataloader_num_workers=4")
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 0.5e6)
    with pytest.raises(ValueError, match=r"A batch of 512 stills, \d+ such batches in memory, would take at least"):
        build_pretrainer(recipe)


@pytest.mark.parametrize(
    ("overrides", "num_bytes"),
    [
        # Of each pair of a still and a caption, 31 bytes.
        (["batch_size=16384", "num_eval_stills=1", "model.image_size=8"], 31 * 16384**2),
        (["batch_size=2", "num_eval_stills=4096", "model.image_size=256", "model.patch_size=256"], 3 * 4096 * 256**2),
        # Gradients and an average of each: of an embedding alone, 2^22 numbers.
        (["batch_size=2", "num_eval_stills=1", "model.projection_dim=16384", "model.hidden_size=128"], 4 * 2 * 2**22),
        # Captions have 24 tokens in 8 layers, which keep 16 numbers for each one of their width.
        (["batch_size=1024", "model.image_size=8", "model.num_text_layers=8"], 1024 * 24 * 8 * 16 * 32 * 4),
    ],
)
def test_all_that_a_step_and_an_evaluation_hold_counts(tmp_path, monkeypatch, overrides, num_bytes):
    recipe = tiny_recipe(tmp_path, *overrides)
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: num_bytes)
    monkeypatch.setattr(HeldOutStills, "draw", None)
    with pytest.raises(ValueError, match="would take at least"):
        build_pretrainer(recipe)


def test_a_signal_does_not_wait_for_the_end_of_a_backward_pass(tmp_path):
    trainer = build_pretrainer(tiny_recipe(tmp_path, "batch_size=64", "model.num_vision_layers=8"))
    loss = trainer.compute_loss(trainer.model, trainer.train_dataset[0])
    end_backward(loss, trainer.clip.logit_scale)
    assert any(parameter.grad is None for parameter in trainer.clip.parameters())


def test_a_model_whose_scores_are_not_finite_has_no_accuracy_and_is_not_saved(tmp_path):
    """With weights as large as these are, its scores are not numbers."""
    recipe = tiny_recipe(tmp_path, "steps=1", "training.learning_rate=1e30", "training.warmup_steps=0")
    with pytest.raises(NonFiniteError, match="scores of held-out stills are not finite"):
        pretrain(recipe)
    assert not (tmp_path / "eval_results.json").exists()
    assert not (tmp_path / "model").exists()


def test_weights_that_are_not_finite_are_refused_before_they_are_measured(tmp_path):
    recipe = tiny_recipe(tmp_path, "steps=1", "training.learning_rate=1e38", "training.warmup_steps=0")
    with pytest.raises(NonFiniteError, match="weights of the trained model are not finite"):
        pretrain(recipe)
    assert not (tmp_path / "eval_results.json").exists()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def losses(run_folder):
    """What the command line logs in a short training; it leaves its model and checkpoints in `run_folder`."""
    overrides = [*TINY, "steps=6", "training.save_steps=4", "training.eval_strategy=steps", "training.eval_steps=3"]
    assert main(["train", "small_clip", *overrides, "--output-dir", str(run_folder)]) == 0
    return json.loads((run_folder / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]


def weights_of(folder) -> dict[str, torch.Tensor]:
    return CLIPModel.from_pretrained(folder).state_dict()


def test_the_accuracy_is_logged_and_saved(run_folder, losses):
    assert [entry["step"] for entry in losses if "eval_accuracy" in entry] == [3, 6]
    assert [entry["step"] for entry in losses if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    saved = json.loads((run_folder / "eval_results.json").read_text())
    assert {"eval_accuracy", "eval_color_accuracy", "eval_shape_accuracy"} <= saved.keys()


def test_a_resumed_run_ends_with_the_same_bits(run_folder, losses):
    expected = weights_of(run_folder / "model")
    start = weights_of(run_folder / "checkpoint-4")
    assert any(not torch.equal(start[name], expected[name]) for name in expected)
    recipe = tiny_recipe(run_folder, "steps=6", "training.save_strategy='no'", "training.dataloader_num_workers=1")
    trainer = build_pretrainer(recipe)
    trainer.train(resume_from_checkpoint=str(run_folder / "checkpoint-4"))
    assert trainer.state.global_step == 6
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_step_is_that_of_transformers_clip(tmp_path):
    """Only what is read is computed: loss and gradients are those of the whole model."""
    trainer = build_pretrainer(tiny_recipe(tmp_path, "steps=4"))
    clip, batch = trainer.clip, trainer.train_dataset[2]
    trainer.compute_loss(trainer.model, batch).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in clip.named_parameters()}
    clip.zero_grad()
    logits = clip(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"]).logits_per_image
    caption_loss(logits, batch["matches"]).backward()
    for name, parameter in clip.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name, rtol=1e-3, atol=1e-6)


def test_batches_come_in_the_order_of_the_steps(tmp_path):
    """The ramp is a function of the step."""
    trainer = build_pretrainer(tiny_recipe(tmp_path, "steps=4"))
    for batch, expected in zip(trainer.get_train_dataloader(), trainer.train_dataset, strict=True):
        assert torch.equal(batch["pixel_values"], expected["pixel_values"])


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", "seed was 0 and is 1 now"),
        ("steps=7", "steps was 6 and is 7 now"),
        ("stills.trail_rate=0.1", "stills was"),
        ("muon_learning_rate=1e-3", "muon_learning_rate was"),
        ("training.learning_rate=1e-5", "learning_rate was"),
    ],
)
def test_a_run_is_not_resumed_as_another(run_folder, losses, override, changed):
    trainer = build_pretrainer(tiny_recipe(run_folder, "steps=6", override))
    with pytest.raises(ResumeError, match=changed):
        trainer.train(resume_from_checkpoint=str(run_folder / "checkpoint-4"))


def test_the_saved_folder_is_a_clip_repository(run_folder, losses):
    folder = run_folder / "model"
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    processor = CLIPProcessor.from_pretrained(folder)
    assert isinstance(AutoProcessor.from_pretrained(folder), CLIPProcessor)
    assert (
        len(AutoTokenizer.from_pretrained(folder)) == CLIPModel.from_pretrained(folder).config.text_config.vocab_size
    )
    assert CLIPImageProcessor.from_pretrained(folder).crop_size["height"] == 16
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    inputs = processor(images=picture, text=["a red star", "zebra 42?"], padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    with torch.no_grad():
        assert CLIPModel.from_pretrained(folder)(**inputs).logits_per_image.shape == (1, 2)


def test_froster_starts_from_the_saved_folder(run_folder, losses):
    folder = run_folder / "model"
    model = FrosterForVideoClassification.from_clip(folder, num_frames=2)
    processor = FrosterProcessor.from_clip(folder, prompt_templates="single", video_options={"num_frames": 2})
    clip = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    pixels = processor(videos=clip, return_tensors="pt")["pixel_values_videos"]
    texts = processor.encode_labels(["a red star", "a blue moon"])
    with torch.no_grad():
        assert model(pixels, **texts).logits.shape == (1, 2)


def test_the_loss_falls(tmp_path):
    recipe = tiny_recipe(
        tmp_path, "steps=60", "stills.ramp=0", "training.logging_steps=20", "training.save_strategy='no'"
    )
    trainer = build_pretrainer(recipe)
    trainer.train()
    first, *_, last = (entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert last < 0.9 * first


def test_both_learning_rates_follow_the_schedule(tmp_path):
    trainer = build_pretrainer(tiny_recipe(tmp_path, "steps=10", "training.learning_rate=2e-3"))
    trainer.create_optimizer_and_scheduler(10)
    groups = trainer.optimizer.param_groups
    assert [group["initial_lr"] for group in groups] == [2e-3, 2e-3, 4e-3]
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0, 0.05]
    matrices = {id(parameter) for parameter in groups[2]["params"]}
    named = {name for name, parameter in trainer.model.named_parameters() if id(parameter) in matrices}
    assert named == {
        name for name, _ in trainer.model.named_parameters() if re.search(r"layers.*(proj|fc\d)\.weight", name)
    }
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("step=5", "small_clip: unknown fields step. Known are about, batch_size"),
        ("data.root=x", "small_clip: unknown fields data"),
        ("model.checkpoint=x", "small_clip, model: unknown fields checkpoint. Known are hidden_size, image_size"),
        ("stills.trails=1", "small_clip, stills: unknown fields trails"),
        ("stills.trail_rate=1.5", "stills: trail_rate is 1.5; it goes from 0 to 1"),
        ("training.max_steps=5", "small_clip, training: unknown fields max_steps"),
        ("steps=0", "small_clip: steps is 0; it goes from 1 to"),
        ("batch_size=60000000", "small_clip: batch_size is 60000000; it goes from 2 to"),
        ("model.image_size=8000", "model: image_size is 8000; it goes from 1 to 2048"),
        ("num_eval_stills=1000000", "small_clip: num_eval_stills is 1000000; it goes from 1 to 100000"),
        ("model={image_size: 2048, patch_size: 64}", "the held-out stills have 5,033,164,800 pixels; at most"),
        ({"batch_size": 32768, "model.image_size": 96}, "a batch has 301,989,888 pixels; at most"),
        (
            "model={hidden_size: 16384, num_vision_layers: 128, num_text_layers: 128}",
            "model: its layers and embeddings have 824,658,100,224 weights; at most 268,435,456 have",
        ),
        ("model={image_size: 2048, patch_size: 1}", "weights; at most"),
        (
            "model={image_size: 256, patch_size: 1, num_vision_layers: 64}",
            "values of patches and captions; at most 1,073,741,824 are computed",
        ),
        (
            {"batch_size": 8192, "model.num_text_layers": 128},
            "values of patches and captions; at most 1,073,741,824 are computed",
        ),
        # Attention: few values, and the square of their number of scores.
        (
            {"batch_size": 64, "model": "{image_size: 180, patch_size: 1, hidden_size: 2}"},
            "multiplications in one product; at most 549,755,813,888 are computed",
        ),
        # MLPs, of stills and of captions.
        (
            {"batch_size": 256, "model": "{image_size: 256, hidden_size: 2048, num_vision_layers: 1}"},
            "multiplications in one product; at most 549,755,813,888 are computed",
        ),
        (
            {"batch_size": 1024, "model": "{image_size: 8, hidden_size: 2048, num_vision_layers: 1}"},
            "multiplications in one product; at most 549,755,813,888 are computed",
        ),
        # All pairs.
        (
            {"batch_size": 32768, "model": "{image_size: 8, projection_dim: 1024}"},
            "multiplications in one product; at most 549,755,813,888 are computed",
        ),
        ("model.num_text_layers=100000", "model: num_text_layers is 100000; it goes from 1 to 128"),
        (
            "training.dataloader_prefetch_factor=1000000",
            "`dataloader_prefetch_factor` is 1000000; it goes from 1 to 64",
        ),
        ("muon_learning_rate=1.0e+308", "small_clip: muon_learning_rate is 1e+308; it goes from 0 to 1000000"),
        ("batch_size=many", "batch_size is 'many'; it must be a whole number"),
    ],
)
def test_what_is_no_field_or_value_is_refused(override, message):
    overrides = [override] if isinstance(override, str) else [f"{name}={value}" for name, value in override.items()]
    with pytest.raises(ValueError, match=re.escape(message)):
        load_recipe("small_clip", overrides)


@pytest.mark.parametrize(
    ("image_size", "patch_size", "width", "num_layers", "batch_size"),
    [(224, 16, 768, 12, 256), (224, 16, 384, 12, 1024), (224, 32, 768, 12, 1024), (384, 16, 768, 12, 128)],
)
def test_sizes_of_published_towers_are_taken(image_size, patch_size, width, num_layers, batch_size):
    model = {"image_size": image_size, "patch_size": patch_size, "hidden_size": width, "projection_dim": 512}
    layers = {"num_attention_heads": width // 64, "num_vision_layers": num_layers, "num_text_layers": 12}
    sizes = [f"model.{name}={value}" for name, value in (model | layers).items()]
    assert load_recipe("small_clip", [*sizes, f"batch_size={batch_size}"]).batch_size == batch_size


def test_a_file_of_ones_own_extends_the_shipped_one(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("about: mine\nextends: small_clip\nseed: 3\nstills: {trail_rate: 0}\n")
    recipe, shipped = load_recipe(file, ["steps=1500"]), load_recipe("small_clip")
    assert isinstance(recipe, PretrainingRecipe)
    assert (recipe.name, recipe.seed, recipe.steps, recipe.stills.trail_rate) == ("mine", 3, 1500, 0)
    assert (recipe.model, recipe.training) == (shipped.model, shipped.training)


@pytest.mark.parametrize("kind", [PretrainingRecipe, RecipeArchitecture, RecipeStills])
def test_every_field_is_documented(kind):
    for name in kind.__annotations__:
        assert re.search(rf"\b{name}:", kind.__doc__), name


def test_the_command_line_shows_what_it_would_read_again(tmp_path, capsys):
    assert main(["train", "small_clip", "steps=9", "--show"]) == 0
    shown = capsys.readouterr().out
    file = tmp_path / "small_clip.yaml"
    file.write_text(shown)
    assert load_recipe(file) == load_recipe("small_clip", ["steps=9"])
    assert yaml.safe_load(shown)["kind"] == "pretraining"
