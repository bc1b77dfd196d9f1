from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from froster_hf.evaluation import explain_video, explaining
from froster_hf.evaluation.explaining import overlay, shown_frames
from froster_hf.modeling.configuration_froster import Costs
from tests.fixtures.tiny import tiny_model, tiny_processor

from .conftest import write_clip


@pytest.fixture
def video(tmp_path):
    return write_clip(tmp_path / "clip.avi", seed=3)


def test_a_strip_and_an_animation_of_every_frame_are_written(video, tmp_path):
    explanation = explain_video(
        tiny_model(),
        tiny_processor(),
        video,
        label="juggling",
        candidate_labels=["golf", "juggling", "yoga"],
        output_dir=tmp_path / "maps",
    )
    assert 0 < explanation.probability < 1
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "gradient.gif",
        "gradient.png",
        "rollout.gif",
        "rollout.png",
    ]
    for method in ("rollout", "gradient"):
        assert explanation.maps[method].shape == (4, 2, 2)
        with Image.open(explanation.strips[method]) as strip:
            assert strip.size == (4 * 196 - 4, 2 * 192 + 4)
        with Image.open(explanation.animations[method]) as animation:
            assert animation.n_frames == 4
            assert animation.size == (192, 192)


@pytest.mark.parametrize(
    "options", [{}, {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, {"do_normalize": False}]
)
def test_the_upper_row_shows_the_frames_that_the_model_saw(video, tmp_path, options):
    processor = tiny_processor(**options)
    explanation = explain_video(tiny_model(), processor, video, label="a", output_dir=tmp_path, methods=["rollout"])
    pixels = processor.video_processor(video, return_tensors="pt")["pixel_values_videos"][0]
    with Image.open(explanation.strips["rollout"]) as strip:
        # Enlarged six times, for people.
        first = np.asarray(strip)[:192:6, :192:6]
    assert np.array_equal(first, shown_frames(pixels, processor)[0])
    raw = processor.video_processor(video, do_normalize=False, do_rescale=False, return_tensors="pt")
    assert np.abs(raw["pixel_values_videos"][0, 0].permute(1, 2, 0).numpy() - first.astype(float)).max() <= 1


def test_what_is_looked_at_is_bright_and_the_rest_stays_pale():
    frames = np.full((2, 32, 32, 3), 100, dtype=np.uint8)
    maps = torch.zeros(2, 4, 4)
    maps[1, 3, 3] = 1.0
    shown = overlay(frames, maps)
    assert shown[1, -4:, -4:].mean() > shown[1, :8, :8].mean() + 20
    assert np.array_equal(shown[0, :8, :8], shown[1, :8, :8])


@pytest.mark.parametrize(
    ("method", "what", "other"), [("rollout", "rollout", "gradient"), ("gradient", "gradient map", "rollout")]
)
def test_a_map_of_more_numbers_than_a_model_of_its_size_holds_is_refused(
    video, tmp_path, monkeypatch, method, what, other
):
    monkeypatch.setattr(Costs, "most_mapped", 1000)
    explain = partial(explain_video, tiny_model(), tiny_processor(), video, label="a")
    with pytest.raises(
        ValueError, match=rf"The {what} of these frames would hold .* at most 1\.0e\+03.*--method {other}"
    ):
        explain(output_dir=tmp_path / "maps", methods=[method])
    assert not (tmp_path / "maps").exists()


def test_keys_and_values_that_a_rollout_writes_out_count(video, tmp_path, monkeypatch):
    """Eager attention makes copies of all frames around, for each frame."""
    monkeypatch.setattr(Costs, "window_numbers", 10**12)
    with pytest.raises(ValueError, match=r"rollout of these frames would hold 1\.0e\+12 numbers"):
        explain_video(tiny_model(), tiny_processor(), video, label="a", output_dir=tmp_path / "maps")


@pytest.mark.parametrize("method", ["rollout", "gradient"])
def test_a_map_that_is_not_finite_is_an_error_and_no_picture(video, tmp_path, monkeypatch, method):
    name = {"rollout": "attention_rollout", "gradient": "gradient_map"}[method]
    monkeypatch.setattr(explaining, name, lambda *arguments, **options: torch.full((4, 2, 2), torch.nan))
    with pytest.raises(ValueError, match=f"The {method} map has values that are infinite or NaN"):
        explain_video(tiny_model(), tiny_processor(), video, label="a", output_dir=tmp_path / "maps", methods=[method])
    assert not (tmp_path / "maps").exists()


def test_pictures_of_more_pixels_than_are_drawn_are_refused(video, tmp_path, monkeypatch):
    monkeypatch.setattr(explaining, "MOST_PIXELS", 4 * 192**2 - 1)
    with pytest.raises(ValueError, match=r"Pictures of 4 frames would have 1\.5e\+05 pixels"):
        explain_video(tiny_model(), tiny_processor(), video, label="a", output_dir=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_labels_as_one_text_are_refused(video, tmp_path):
    """They would be its letters."""
    with pytest.raises(TypeError, match="`candidate_labels` is a text, 'yoga'; give a list of labels"):
        explain_video(
            tiny_model(), tiny_processor(), video, label="golf", candidate_labels="yoga", output_dir=tmp_path
        )


def test_an_unknown_method_is_refused(video, tmp_path):
    with pytest.raises(ValueError, match="saliency"):
        explain_video(tiny_model(), tiny_processor(), video, label="a", output_dir=tmp_path, methods=["saliency"])
