"""Batches depend on seed and step alone, and hold what they say."""

import pytest
import torch
from torch.utils.data import DataLoader

from froster_hf.training.pretraining import HeldOutStills, RecipeStills, StillBatches
from froster_hf.training.pretraining.held_out_accuracy import held_out_accuracy
from froster_hf.training.pretraining.run import build_clip, image_processor
from froster_hf.training.pretraining.stills import normalize, single_batch
from tests.training.pretraining.tiny import tiny_recipe


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


def test_accuracy_counts_pairs_colors_and_shapes(tokenizer):
    """A model that always answers "a red circle", the first pair."""
    held_out = HeldOutStills.draw(0, 120, resolution=16)

    class Constant(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids, pixel_values):
            logits = torch.zeros(len(pixel_values), len(input_ids))
            logits[:, 0] = 1
            return type("Output", (), {"logits_per_image": logits})

    found = held_out_accuracy(Constant(), tokenizer, held_out)
    assert found == pytest.approx({"accuracy": 1 / 120, "color_accuracy": 1 / 10, "shape_accuracy": 1 / 12})
