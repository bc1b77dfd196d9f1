"""The checkpoints that ship: small, without code of their own, and as good as their card says they are."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoProcessor, CLIPModel, CLIPProcessor, pipeline

from froster_hf import FrosterForVideoClassification
from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.shapes import draw_classes, draw_scenes, render_clips, write_mp4
from tests.fixtures.pages import ROOT, runs

CARDS = ROOT / "model_cards"


def test_together_they_are_at_most_8_mb():
    files = [file for folder in (SMALL_CLIP, SMALL_FROSTER) for file in folder.rglob("*")]
    assert sum(file.stat().st_size for file in files) <= 8e6


@pytest.mark.parametrize("folder", [SMALL_CLIP, SMALL_FROSTER], ids=lambda folder: folder.name)
def test_they_hold_weights_settings_and_a_card_only(folder):
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors", ".md"}
    assert [file.name for file in folder.glob("*.md")] == ["README.md"]
    assert "auto_map" not in (folder / "config.json").read_text()
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_they_load_in_single_precision():
    assert CLIPModel.from_pretrained(SMALL_CLIP).dtype == torch.float32
    assert CLIPProcessor.from_pretrained(SMALL_CLIP).tokenizer is not None
    student = FrosterForVideoClassification.from_clip(SMALL_CLIP)
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    model = AutoModel.from_pretrained(SMALL_FROSTER)
    assert model.dtype == torch.float32
    assert model.config.temporal_module == "directional_attention"
    assert json.loads((SMALL_FROSTER / "config.json").read_text())["id2label"] == {}
    assert AutoProcessor.from_pretrained(SMALL_FROSTER).prompt_templates[0] == "{}"


def test_most_labels_drawn_at_random_are_found_on_fresh_files(tmp_path):
    classes = draw_classes(2024, 20)
    clips = render_clips(draw_scenes(2024, classes=classes), num_frames=16, resolution=192)
    files = [str(write_mp4(clip, tmp_path / f"{index}.mp4")) for index, clip in enumerate(clips)]
    classify = pipeline("zero-shot-video-classification", model=str(SMALL_FROSTER))
    answers = classify(files, candidate_labels=[str(c) for c in classes], top_k=1)
    right = sum(answer[0]["label"] == str(c) for answer, c in zip(answers, classes))
    assert right >= 17


def test_words_of_another_world_do_not_break_it(tmp_path):
    clip = render_clips(draw_scenes(0, 1), num_frames=16, resolution=64)[0]
    classify = pipeline("zero-shot-video-classification", model=str(SMALL_FROSTER))
    labels = ["naïve 自転車 🚲", "!!!", "a red star"]
    answers = classify(str(write_mp4(clip, tmp_path / "clip.mp4")), candidate_labels=labels)
    assert {answer["label"] for answer in answers} == set(labels)


@runs("model_cards/README.md")
def test_the_card_is_what_the_export_of_its_page_writes(page, tmp_path, monkeypatch):
    for part in ("model_cards", "froster_hf/assets/small_froster", "froster_hf/training/recipes"):
        shutil.copytree(ROOT / part, tmp_path / part)
    monkeypatch.chdir(tmp_path)
    page.run()
    assert (tmp_path / "OUT" / "README.md").read_text() == (CARDS / "small-froster.md").read_text()
    results = [CARDS / "results" / f"small_froster_{part}.json" for part in ("appearance", "actions", "motions")]
    means = [json.loads(file.read_text())["results"]["this checkpoint"]["splits_mean"] for file in results]
    assert means[0] >= 95
    assert means[1] >= 85
