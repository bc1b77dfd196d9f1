"""TC-CLIP's context tokens: how seeds are chosen and merged, and what a block sees of them."""

import pytest
import torch
import torch.nn.functional as F

from froster_hf import FrosterModel
from froster_hf.modeling.temporal_froster import ContextTokensLayer, merge_tokens
from tests.fixtures.dual_encoders import save_dual_encoder, tiny_pixels
from tests.modeling.tiny import VISION, tiny_clip, tiny_clips, tiny_config, tiny_model

PATCHES = (VISION["image_size"] // VISION["patch_size"]) ** 2


@pytest.fixture
def crowded(monkeypatch):
    """Half of the patches are seeds, and 8 of them have to be merged to 3, one or two at a time."""
    monkeypatch.setattr(ContextTokensLayer, "seed_share", 0.5)
    monkeypatch.setattr(ContextTokensLayer, "num_context_tokens", 3)
    monkeypatch.setattr(ContextTokensLayer, "max_merged", 2)


def context_model(**fields):
    return tiny_model(temporal_module="context_tokens", **fields).froster


def test_twins_are_merged_first_and_the_others_stay_as_they_are():
    tokens = torch.eye(8)[None, [0, 1, 2, 1, 3, 4]] * torch.tensor([1.0, 2, 1, 4, 1, 1])[:, None]
    tokens = tokens[:, [1, 3, 0, 2, 4, 5]]  # one of the twins seeks, the other is found
    merged = merge_tokens(tokens, 5, max_merged=100)[0]
    expected = torch.cat([tokens[0, 2:], 3 * torch.eye(8)[None, 1]])
    assert sorted(map(tuple, merged.tolist())) == sorted(map(tuple, expected.tolist()))


@pytest.mark.parametrize("max_merged", [1, 3, 100])
@pytest.mark.parametrize(("given", "left"), [(58, 12), (7, 3), (5, 1), (4, 4), (3, 9)])
def test_as_many_are_left_as_asked_for_and_their_weighted_mean_is_kept(given, left, max_merged):
    """Equal tokens become themselves; the sum over all, by sizes, does not change."""
    same = torch.ones(2, given, 4)
    assert torch.equal(merge_tokens(same, left, max_merged=max_merged), same[:, : min(given, left)])
    tokens = torch.randn(2, given, 4, generator=torch.Generator().manual_seed(0))
    merged = merge_tokens(tokens, left, max_merged=max_merged)
    assert merged.shape == (2, min(given, left), 4)
    # Every result is a mean of some of the tokens.
    assert (merged.amax(dim=1) <= tokens.amax(dim=1) + 1e-6).all()
    assert (merged.amin(dim=1) >= tokens.amin(dim=1) - 1e-6).all()
    if left == 1:
        torch.testing.assert_close(merged[:, 0], tokens.mean(dim=1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_first_block_is_clips_and_later_ones_are_without_their_context(monkeypatch):
    config = tiny_config()
    clip = tiny_clip()
    model = FrosterModel(tiny_config(temporal_module="context_tokens")).eval()
    model.load_state_dict(clip.state_dict(), strict=False)
    pixels = tiny_clips()
    expected = clip.vision_model(pixels.flatten(0, 1), output_hidden_states=True).hidden_states
    found = model.get_video_features(pixels, output_hidden_states=True).hidden_states
    assert config.vision_config.num_hidden_layers == 2
    torch.testing.assert_close(found[1], expected[1], atol=1e-6, rtol=0)
    assert (found[2] - expected[2]).abs().max() > 1e-3
    model.vision_model.encoder.layers[1].self_attn.context_bias.fill_(-1e4)
    hidden = model.get_video_features(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(hidden[2], expected[2], atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_seeds_are_the_patches_that_the_class_token_attends_to_most(crowded):
    model = context_model()
    model.set_attn_implementation("eager")
    handed_on: dict = {}
    frames = tiny_clips().flatten(0, 1)
    outputs = model.vision_model(frames, num_frames=4, handed_on=handed_on, output_attentions=True)
    paid = outputs.attentions[0].mean(dim=1)[:, 0, 1:]  # (B*T, patches)
    for clip, places in enumerate(handed_on[0]):
        assert len(places) == 4 * PATCHES // 2
        frame, token = places.div(1 + PATCHES, rounding_mode="floor"), places % (1 + PATCHES)
        assert (token > 0).all()
        for number in range(4):
            best = paid[4 * clip + number].topk(PATCHES // 2).indices + 1
            assert set(token[frame == number].tolist()) == set(best.tolist())
        shares = paid[4 * clip + frame, token - 1]
        assert torch.equal(shares, shares.sort(descending=True).values)


@torch.no_grad()
def test_merged_context_does_not_depend_on_the_order_of_the_frames(crowded):
    model = context_model()
    pixels = tiny_clips()
    order = [2, 0, 3, 1]
    embeds = model.get_video_features(pixels).frame_embeds
    shuffled = model.get_video_features(pixels[:, order]).frame_embeds
    torch.testing.assert_close(shuffled, embeds[:, order], atol=1e-6, rtol=0)


@torch.no_grad()
def test_every_kernel_gives_the_same_and_the_biases_count(crowded):
    model = context_model()
    expected = model.get_video_features(tiny_clips()).video_embeds
    model.set_attn_implementation("eager")
    features = model.get_video_features(tiny_clips(), output_attentions=True)
    torch.testing.assert_close(features.video_embeds, expected, atol=1e-6, rtol=0)
    first, second = features.attentions
    assert first.shape == (8, 4, 1 + PATCHES, 1 + PATCHES)
    assert second.shape == (8, 4, 1 + PATCHES, 1 + PATCHES + 3)
    attention = model.vision_model.encoder.layers[1].self_attn
    attention.local_bias += 3
    more = model.get_video_features(tiny_clips(), output_attentions=True).attentions[1]
    assert (more[..., -3:] < second[..., -3:]).all()
    attention.context_bias += 3
    again = model.get_video_features(tiny_clips(), output_attentions=True).attentions[1]
    torch.testing.assert_close(again, second, atol=1e-5, rtol=0)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_reach_biases_and_seeds_and_are_the_same_when_blocks_are_computed_again(crowded, recompute):
    gradients = []
    for checkpointing in (False, recompute):
        model = context_model(initializer_range=0.5).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.get_video_features(tiny_clips()).video_embeds[:, 0].sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.vision_model.named_parameters()})
    own = [name for name in gradients[0] if name.endswith(("local_bias", "context_bias"))]
    assert own == ["encoder.layers.1.self_attn.local_bias", "encoder.layers.1.self_attn.context_bias"]
    assert all(gradients[0][name].any() for name in own)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_it_starts_with_small_biases_in_all_blocks_but_the_first():
    torch.manual_seed(0)
    fresh = FrosterModel(tiny_config(temporal_module="context_tokens"))
    first, second = fresh.vision_model.encoder.layers
    assert not hasattr(first.self_attn, "local_bias")
    for bias in (second.self_attn.local_bias, second.self_attn.context_bias):
        assert 0 < bias.abs().max() < 0.1


@torch.no_grad()
def test_siglip_has_context_by_its_mean_token(crowded, tmp_path):
    save_dual_encoder("siglip", tmp_path)
    model = FrosterModel.from_dual_encoder(tmp_path, temporal_module="context_tokens").eval()
    pixels = tiny_pixels()
    embeds = model.get_video_features(pixels).frame_embeds
    pixels[:, 3] += 1
    changed = model.get_video_features(pixels).frame_embeds
    assert (changed[:, 0] - embeds[:, 0]).abs().max() > 1e-5
    torch.testing.assert_close(F.normalize(embeds, dim=-1), embeds, atol=1e-6, rtol=0)
