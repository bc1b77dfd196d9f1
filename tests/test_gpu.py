"""On a GPU the answers are those of the CPU, and a training runs as it does there: what only a card can show."""

import json
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback, pipeline

from froster_hf import FrosterForVideoClassification
from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.evaluation import explain_video
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from froster_hf.pipeline.timeline_froster import Timeline
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from tests.fixtures import tiny
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.modeling.tiny import tiny_clips, tiny_model, tiny_texts
from tests.training.tiny import Arrays, tiny_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]

TASK = "zero-shot-video-classification"
LABELS = ["riding a bike", "playing golf", "cooking"]
VIDEOS = [str(path) for path in REAL_VIDEOS.values()]
every_module = pytest.mark.parametrize("module", TEMPORAL_MODULES)


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch):
    """PyTorch's convolutions round to TF32 on a card unless told otherwise; here the arithmetic itself is compared."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(tiny.save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), ["a video of {}.", "{}"]))


def scores(answers) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in answers}


def logits_of(model, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    model.to(device, dtype)
    outputs = model(tiny_clips().to(device, dtype), input_ids=tiny_texts().to(device), num_prompts=2)
    assert outputs.logits.device.type == device
    return outputs.logits.float().cpu()


@every_module
@torch.no_grad()
def test_every_module_gives_the_logits_of_the_cpu(module):
    model = tiny_model(temporal_module=module)
    expected = logits_of(model, "cpu")
    torch.testing.assert_close(logits_of(model, "cuda"), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits_of(model, "cuda", torch.bfloat16), expected, atol=0.3, rtol=0)


@every_module
def test_every_module_gives_the_gradients_of_the_cpu(module):
    gradients = {}
    for device in ("cpu", "cuda"):
        model = tiny_model(temporal_module=module).train().to(device)
        inputs = {
            "input_ids": tiny_texts().to(device),
            "num_prompts": 2,
            "labels": torch.tensor([0, 1], device=device),
        }
        model(tiny_clips(2).to(device), **inputs).loss.backward()
        gradients[device] = {
            name: parameter.grad.cpu() for name, parameter in model.named_parameters() if parameter.grad is not None
        }
    assert gradients["cpu"].keys() == gradients["cuda"].keys()
    for name, expected in gradients["cpu"].items():
        torch.testing.assert_close(
            gradients["cuda"][name], expected, atol=1e-3, rtol=1e-3, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
@torch.no_grad()
def test_every_attention_gives_the_logits_of_the_cpu(implementation):
    model = tiny.tiny_model()  # with heads of 16 channels, the fewest that flex attention takes on a card
    clips, embeds = torch.randn(2, 4, 3, 32, 32), torch.nn.functional.normalize(torch.randn(3, 16), dim=-1)
    expected = model(clips, text_embeds=embeds).logits
    model.cuda().set_attn_implementation(implementation)
    found = model(clips.cuda(), text_embeds=embeds.cuda()).logits
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_texts_in_chunks_have_the_embeddings_of_the_cpu():
    """On a card each is encoded for itself, on the CPU what they share is computed once."""
    model, texts = tiny_model().froster, tiny_texts(12)
    expected = model.get_label_embeds(texts, num_prompts=2, chunk_size=5)
    found = model.cuda().get_label_embeds(texts.cuda(), num_prompts=2, chunk_size=5)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_compiled_model_gives_the_logits_of_the_cpu():
    model = tiny_model()
    expected = logits_of(model, "cpu")
    torch._dynamo.reset()
    compiled = torch.compile(model.cuda(), fullgraph=True)
    outputs = compiled(tiny_clips().cuda(), input_ids=tiny_texts().cuda(), num_prompts=2)
    torch.testing.assert_close(outputs.logits.cpu(), expected, atol=1e-4, rtol=0)


def test_accelerate_places_a_checkpoint(checkpoint):
    model = FrosterForVideoClassification.from_pretrained(checkpoint, device_map="cuda")
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}


@pytest.mark.parametrize("fields", [{}, {"batch_size": 2}, {"num_workers": 1}, {"num_views": 3}])
def test_the_pipeline_gives_the_scores_of_the_cpu(checkpoint, fields):
    expected, found = (
        pipeline(TASK, model=checkpoint, device=device)(VIDEOS, candidate_labels=LABELS, **fields)
        for device in ("cpu", "cuda")
    )
    for theirs, ours in zip(expected, found, strict=True):
        assert scores(ours) == pytest.approx(scores(theirs), abs=1e-4)


def test_a_pipeline_in_bfloat16_stays_near_the_scores_of_the_cpu():
    expected = pipeline(TASK, model=str(SMALL_FROSTER), device="cpu")(VIDEOS[0], candidate_labels=LABELS)
    found = pipeline(TASK, model=str(SMALL_FROSTER), device="cuda", dtype="bfloat16")(
        VIDEOS[0], candidate_labels=LABELS
    )
    assert scores(found) == pytest.approx(scores(expected), abs=0.05)


def test_what_happens_when_is_said_as_on_the_cpu(checkpoint):
    def windows_of(device: str) -> Timeline:
        return pipeline(TASK, model=checkpoint, device=device).timeline(VIDEOS[0], LABELS, window_seconds=1.0)

    expected, found = windows_of("cpu"), windows_of("cuda")
    torch.testing.assert_close(found.scores.values.cpu(), expected.scores.values, atol=1e-4, rtol=0)


def test_what_was_looked_at_is_shown_as_on_the_cpu(checkpoint, tmp_path):
    maps = {}
    for device in ("cpu", "cuda"):
        loaded = pipeline(TASK, model=checkpoint, device=device)
        explained = explain_video(
            loaded.model, loaded.processor, VIDEOS[0], label="golf", output_dir=tmp_path / device
        )
        maps[device] = explained.maps
    for method, expected in maps["cpu"].items():
        torch.testing.assert_close(maps["cuda"][method].cpu(), expected, atol=1e-3, rtol=0)


def test_the_program_gives_the_scores_of_the_cpu(checkpoint, capsys):
    lines = {}
    for device in ("cpu", "cuda"):
        arguments = ["--labels", ",".join(LABELS), "--model", checkpoint, "--device", device, "--json"]
        assert main(["predict", *VIDEOS, *arguments]) == 0
        lines[device] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for expected, found in zip(lines["cpu"], lines["cuda"], strict=True):
        assert scores(found["answers"]) == pytest.approx(scores(expected["answers"]), abs=1e-4)


TRAININGS = [
    {},
    {"distillation": "projector"},
    {"objective": "symmetric_kl", "training_prompts": "random"},
    {"trained_parameters": "vision"},
    {"text_chunk_size": 2},
    {"gradient_checkpointing": True},
]


def losses_of(tmp_path, **fields) -> list[float]:
    trainer = tiny_trainer(tmp_path, **fields)
    assert trainer.args.device.type == ("cpu" if fields["use_cpu"] else "cuda")
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("fields", TRAININGS)
def test_a_training_has_the_losses_of_the_cpu(tmp_path, fields):
    fields = {"max_steps": 3, "eval_dataset": Arrays(6), **fields}
    expected = losses_of(tmp_path / "cpu", use_cpu=True, **fields)
    assert losses_of(tmp_path / "cuda", use_cpu=False, **fields) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("fields", [{"bf16": True}, {"fp16": True}, {"torch_compile": True}])
def test_a_faster_training_stays_near_the_losses_of_the_cpu(tmp_path, fields):
    torch._dynamo.reset()
    expected = losses_of(tmp_path / "cpu", use_cpu=True)
    assert losses_of(tmp_path / "cuda", use_cpu=False, **fields) == pytest.approx(expected, rel=0.2)


class EndAfterTwoSteps(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 2


def test_a_training_goes_on_where_it_was_ended(tmp_path):
    fields = {"use_cpu": False, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = tiny_trainer(tmp_path / "whole", **fields)
    whole.train()
    tiny_trainer(tmp_path / "parts", callbacks=[EndAfterTwoSteps()], **fields).train()
    parts = tiny_trainer(tmp_path / "parts", **fields)
    parts.train(resume_from_checkpoint=True)
    assert parts.state.global_step == 4
    for name, expected in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], expected, atol=1e-5, rtol=0)


def test_one_command_trains_on_a_folder_of_videos(tmp_path, capsys):
    classes = [MovingShape("red", "star", "sliding left"), MovingShape("blue", "square", "pulsing")]
    for number, row in enumerate(write_moving_shapes(tmp_path / "rendered", classes, clips_per_class=5, seed=2)):
        target = tmp_path / "videos" / str(classes[row["label"]]) / f"{number}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(row["video"]).rename(target)
    command = ["train", str(tmp_path / "videos"), "training.num_train_epochs=1", "--model", "small"]
    assert main([*command, "--output-dir", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "a GPU" in said
    assert "Held-out top-1: " in said
