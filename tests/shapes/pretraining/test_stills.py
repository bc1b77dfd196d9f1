"""Batches depend on seed and step alone, and hold what they say."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import CLIPVisionConfig

from froster_hf.shapes.pretraining import HeldOutStills, RecipeStills, StillBatches, held_out_accuracy, stills
from froster_hf.shapes.pretraining.run import build_clip, image_processor
from froster_hf.shapes.pretraining.stills import normalize, single_batch
from tests.shapes.pretraining.tiny import tiny_recipe

# Pairs in the order of the accuracy: twelve shapes of the first color, then of the next.
RED_CIRCLE, ORANGE_SQUARE = 0, 13


def batches_of(tokenizer, *, seed=0, steps=6, **stills) -> StillBatches:
    return StillBatches(tokenizer, steps=steps, batch_size=8, resolution=16, seed=seed, stills=RecipeStills(**stills))


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        assert torch.equal(batch[name], other[name]), name


def test_workers_and_order_change_nothing(tokenizer):
    batches = batches_of(tokenizer)
    loader = DataLoader(batches, batch_size=1, collate_fn=single_batch, num_workers=2)
    loaded = list(loader)
    assert len(loaded) == 6
    for step in (5, 0, 3):
        assert_same(loaded[step], batches[step])


def test_steps_and_seeds_differ(tokenizer):
    batches, others = batches_of(tokenizer), batches_of(tokenizer, seed=1)
    assert not torch.equal(batches[4]["pixel_values"], batches[5]["pixel_values"])
    assert not torch.equal(batches[4]["pixel_values"], others[4]["pixel_values"])
    with pytest.raises(IndexError, match="has 6 steps; asked for step 6"):
        batches[6]


def test_every_still_has_its_own_caption(tokenizer):
    batch = batches_of(tokenizer)[5]
    assert batch["pixel_values"].shape == (8, 3, 16, 16)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["matches"].dtype == torch.bool
    assert batch["matches"].diagonal().all()
    ends = batch["input_ids"] == tokenizer.eos_token_id
    assert ends.any(1).all()
    assert not ends[:, :-1].any(1).all()  # no longer than the longest caption


def test_the_world_becomes_as_varied_as_the_recipe_says(tokenizer):
    batches = batches_of(tokenizer, steps=100, ramp=0.5)
    assert [batches.variety(step) for step in (0, 25, 50, 99)] == [0, 0.5, 1, 1]
    assert batches_of(tokenizer, ramp=0).variety(0) == 1


def test_pixels_are_those_of_the_saved_image_processor(tokenizer):
    stills = HeldOutStills.draw(0, 4, resolution=16).stills
    expected = image_processor(16)(list(stills), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(normalize(stills), expected, atol=1e-5, rtol=0)


def test_padding_behind_the_end_token_does_not_change_a_text(tokenizer, tmp_path):
    torch.manual_seed(0)
    model = build_clip(tiny_recipe(tmp_path).model, tokenizer).eval()
    alone = tokenizer("a red star", return_tensors="pt")["input_ids"]
    padded = tokenizer(["a red star", "a photo of a blue hourglass sliding left"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.text_model(alone).pooler_output[0]
        torch.testing.assert_close(model.text_model(padded["input_ids"]).pooler_output[0], expected)


def test_held_out_stills_show_every_pair_and_are_not_trained_on(tokenizer):
    held_out = HeldOutStills.draw(0, 240, resolution=16)
    assert torch.equal(held_out.labels.bincount(), torch.full((120,), 2))
    assert not torch.equal(held_out.stills, HeldOutStills.draw(1, 240, resolution=16).stills)
    trained = batches_of(tokenizer)[0]["pixel_values"]
    assert not torch.equal(normalize(held_out.stills[:8]), trained)


class Constant(torch.nn.Module):
    """Takes every still for an orange square, and "a photo of a red circle." for the one best text."""

    device = torch.device("cpu")
    config = SimpleNamespace(vision_config=CLIPVisionConfig())
    most_stills = 0

    def forward(self, input_ids, pixel_values):
        self.most_stills = max(self.most_stills, len(pixel_values))
        logits = torch.zeros(len(pixel_values), 2, 120)
        logits[:, :, ORANGE_SQUARE] = 2
        logits[:, 0, RED_CIRCLE] = 3
        return SimpleNamespace(logits_per_image=logits.flatten(1))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (ORANGE_SQUARE, (1, 1, 1)),
        (ORANGE_SQUARE + 1, (0, 1, 0)),
        (ORANGE_SQUARE + 12, (0, 0, 1)),
        (RED_CIRCLE, (0, 0, 0)),
    ],
)
def test_accuracy_is_of_pairs_colors_and_shapes_over_the_mean_of_the_templates(tokenizer, pair, expected):
    held_out = HeldOutStills.draw(0, 120, resolution=16)
    alone = HeldOutStills(held_out.stills[pair : pair + 1], held_out.labels[pair : pair + 1])
    found = held_out_accuracy(Constant(), tokenizer, alone)
    assert (found["accuracy"], found["color_accuracy"], found["shape_accuracy"]) == expected


@pytest.mark.parametrize(
    ("sizes", "most_numbers"),
    [
        ({"image_size": 16, "patch_size": 16, "intermediate_size": 16}, 3 * 16**2),
        ({"image_size": 16, "patch_size": 8, "intermediate_size": 3072}, 5 * 3072),
        ({"image_size": 16, "patch_size": 1, "num_attention_heads": 12, "intermediate_size": 16}, 12 * 257**2),
    ],
)
def test_as_many_stills_are_measured_at_once_as_memory_and_time_allow(tokenizer, monkeypatch, sizes, most_numbers):
    model = Constant()
    model.config = SimpleNamespace(vision_config=CLIPVisionConfig(**sizes))
    monkeypatch.setattr(stills, "_NUMBERS_AT_ONCE", 7 * most_numbers)
    held_out = HeldOutStills.draw(0, 120, resolution=16)
    found = held_out_accuracy(model, tokenizer, held_out)
    assert model.most_stills == 7
    assert found["accuracy"] == pytest.approx(1 / 120)
