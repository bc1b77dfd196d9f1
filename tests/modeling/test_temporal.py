import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from froster_hf.modeling import layers_froster, temporal_froster
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS
from froster_hf.modeling.temporal_froster import (
    BackbonePart,
    ContextAttention,
    FrosterVisionModel,
    TemporalAttention,
    shift_channels,
    temporal_curvature,
    temporal_difference,
    temporal_windows,
)
from tests.modeling.tiny import MODULES, NUM_FRAMES, tiny_clip, tiny_clips, tiny_model, tiny_texts


@pytest.mark.parametrize("radius", [0, 1, 2, 3])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_windows_hold_the_neighboring_frames_and_zeros_beyond_the_ends(radius, num_frames):
    frames = torch.randn(2, 3, num_frames, 4, 5)
    windows = temporal_windows(frames, radius)
    for t in range(num_frames):
        for place, neighbor in enumerate(range(t - radius, t + radius + 1)):
            found = windows[:, :, t, place * 4 : (place + 1) * 4]
            inside = 0 <= neighbor < num_frames
            assert torch.equal(found, frames[:, :, neighbor] if inside else torch.zeros_like(found))


def test_windows_share_the_memory_of_the_padded_frames():
    frames = torch.randn(2, 3, 6, 4, 5)
    windows = temporal_windows(frames, 1)
    assert windows.untyped_storage().nbytes() == 2 * 3 * (6 + 2) * 4 * 5 * 4


def test_zero_frames_at_the_ends_keep_their_softmax_mass():
    """The first frame's window against attention written out, with and without its missing neighbor."""
    attention = tiny_model(temporal_module="local_attention").froster.vision_model.encoder.layers[0].self_attn
    tokens = torch.randn(1, 5, 32)
    query, key, value = (
        projection(tokens).unflatten(-1, (4, 8)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    zeros = torch.zeros_like(key)
    with_zeros = F.scaled_dot_product_attention(
        query, torch.cat([zeros, key, zeros], 2), torch.cat([zeros, value, zeros], 2)
    )
    masked = F.scaled_dot_product_attention(query, key, value)
    found = attention(tokens, num_frames=1)[0]
    torch.testing.assert_close(found, attention.out_proj(with_zeros.transpose(1, 2).flatten(2)), atol=1e-6, rtol=0)
    assert (found - attention.out_proj(masked.transpose(1, 2).flatten(2))).abs().max() > 1e-3


def test_channel_shift_takes_a_quarter_from_each_side():
    tokens = torch.randn(2, 5, 3, 8)
    shifted = shift_channels(tokens)
    for t in range(5):
        following = tokens[:, t + 1, :, :2] if t < 4 else torch.zeros(2, 3, 2)
        preceding = tokens[:, t - 1, :, 2:4] if t > 0 else torch.zeros(2, 3, 2)
        assert torch.equal(shifted[:, t], torch.cat([following, preceding, tokens[:, t, :, 4:]], dim=-1))


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_temporal_differences_are_the_next_frame_minus_the_previous_one(num_frames):
    tokens = torch.randn(2, num_frames, 3, 8)
    differences = temporal_difference(tokens)
    for t in range(num_frames):
        expected = tokens[:, min(t + 1, num_frames - 1)] - tokens[:, max(t - 1, 0)]
        assert torch.equal(differences[:, t], expected)
    torch.testing.assert_close(temporal_difference(tokens.flip(1)), -differences.flip(1))


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_local_attention_equals_attention_over_materialized_neighbors(radius):
    attention = (
        tiny_model(temporal_module="local_attention", temporal_radius=radius)
        .froster.vision_model.encoder.layers[0]
        .self_attn
    )
    batch_size, num_frames, num_tokens = 2, 5, 3
    tokens = torch.randn(batch_size * num_frames, num_tokens, 32)
    found = attention(tokens, num_frames=num_frames)[0].unflatten(0, (batch_size, num_frames))

    query, key, value = (
        projection(tokens).unflatten(0, (batch_size, num_frames)).unflatten(-1, (4, 8)).transpose(2, 3)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    padding = torch.zeros(batch_size, radius, 4, num_tokens, 8)
    key, value = (torch.cat([padding, x, padding], dim=1) for x in (key, value))
    for t in range(num_frames):
        keys = torch.cat([key[:, t + offset] for offset in range(2 * radius + 1)], dim=-2)
        values = torch.cat([value[:, t + offset] for offset in range(2 * radius + 1)], dim=-2)
        expected = F.scaled_dot_product_attention(query[:, t], keys, values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(found[:, t], attention.out_proj(expected), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("module", MODULES)
def test_frames_are_seen_exactly_where_the_module_says_so(module):
    """Changing the last frame changes the first frame's embedding, or does not."""
    model = tiny_model(temporal_module=module).froster
    clips = tiny_clips(num_frames=NUM_FRAMES if TEMPORAL_MODULES[module].fixed_frames else 2)
    other = clips.clone()
    other[:, -1] += 1.0
    change = (model.get_video_features(clips).frame_embeds - model.get_video_features(other).frame_embeds)[:, 0]
    if TEMPORAL_MODULES[module].mixes_frames:
        assert change.abs().max() > 1e-5
    else:
        assert not change.any()


@torch.no_grad()
@pytest.mark.parametrize("module", MODULES)
def test_clips_of_a_batch_do_not_mix(module):
    model = tiny_model(temporal_module=module).froster
    clips = tiny_clips(3)
    together = model.get_video_features(clips).frame_embeds
    for i in range(3):
        alone = model.get_video_features(clips[i : i + 1]).frame_embeds
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("radius", [1, 2])
def test_local_attention_with_mean_pooling_is_invariant_to_time_reversal(radius):
    model = tiny_model(temporal_module="local_attention", temporal_radius=radius).froster
    forward, backward = (model.get_video_features(clips) for clips in (tiny_clips(), tiny_clips().flip(1)))
    torch.testing.assert_close(forward.frame_embeds.flip(1), backward.frame_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(forward.video_embeds, backward.video_embeds, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("module", MODULES)
def test_forward_is_told_from_backward_exactly_where_the_table_says_so(module):
    model = tiny_model(temporal_module=module).froster
    forward, backward = (model.get_video_features(clips) for clips in (tiny_clips(), tiny_clips().flip(1)))
    change = (forward.video_embeds - backward.video_embeds).abs().max()
    assert change < 1e-6 if TEMPORAL_MODULES[module].time_symmetric else change > 1e-5


@pytest.mark.parametrize("module", MODULES)
def test_the_table_names_the_parameters_that_clip_lacks_and_those_that_start_at_zero(module):
    entry = TEMPORAL_MODULES[module]
    clip = {name for name, _ in tiny_clip().named_parameters()}
    own = {
        name: parameter
        for name, parameter in tiny_model(perturb=False, temporal_module=module).froster.named_parameters()
        if name not in clip
    }
    for name in own:
        assert not set(entry.own_parameters).isdisjoint(name.split(".")), name
    for part in entry.own_parameters:
        assert any(part in name.split(".") for name in own), part
    for name, parameter in own.items():
        if not set(entry.zero_start).isdisjoint(name.split(".")):
            assert not parameter.any(), name
        elif parameter.ndim >= 2:
            assert parameter.any(), name


def test_every_class_of_a_module_or_pooling_has_its_entry():
    named = {entry.implementation for entry in (*TEMPORAL_MODULES.values(), *TEMPORAL_POOLINGS.values())}
    bases = {BackbonePart, ContextAttention, FrosterVisionModel, TemporalAttention}
    for file, kinds in (
        (temporal_froster, (BackbonePart,)),
        (layers_froster, (nn.Module,)),
    ):
        for name, value in vars(file).items():
            own = isinstance(value, type) and value.__module__ == file.__name__ and issubclass(value, kinds)
            if own and value not in bases and (file is temporal_froster or name.endswith("Pooling")):
                assert name in named


@pytest.mark.parametrize("module", MODULES)
def test_only_the_fields_that_the_table_names_change_a_module(module):
    """Other frames, radius and adapters than the default give other shapes, or other outputs, or no change at all."""
    entry = TEMPORAL_MODULES[module]

    def outcome(**fields):
        model = tiny_model(temporal_module=module, **fields).froster
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        clips = tiny_clips(num_frames=fields.get("num_frames", NUM_FRAMES))
        with torch.no_grad():
            return shapes, model.get_video_features(clips).frame_embeds[:, :1]

    shapes, embeds = outcome()
    assert (outcome(num_frames=3)[0] != shapes) == ("num_frames" in entry.fields)
    assert (outcome(adapter_size=5)[0] != shapes) == ("adapter_size" in entry.fields)
    assert torch.equal(outcome(temporal_radius=2)[1], embeds) != ("temporal_radius" in entry.fields)


def local_and_directional(**fields):
    """The published module and ours, with the same weights; our gates are at their start, zero."""
    local = tiny_model(temporal_module="local_attention", **fields).froster
    directional = tiny_model(perturb=False, temporal_module="directional_attention", **fields).froster
    missing, unexpected = directional.load_state_dict(local.state_dict(), strict=False)
    assert len(missing) == 2
    assert all(name.endswith("self_attn.motion_gate") for name in missing)
    assert not unexpected
    return local, directional


def gates(model):
    return [layer.self_attn.motion_gate for layer in model.vision_model.encoder.layers]


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("num_frames", [1, NUM_FRAMES])
def test_directional_attention_starts_as_exactly_local_attention(radius, num_frames, implementation):
    pair = local_and_directional(temporal_radius=radius)
    for model in pair:
        model.set_attn_implementation(implementation)
    local, directional = (model(tiny_clips(num_frames=num_frames), tiny_texts()) for model in pair)
    assert torch.equal(local.frame_embeds, directional.frame_embeds)
    assert torch.equal(local.logits_per_video, directional.logits_per_video)


@torch.no_grad()
def test_directional_attention_is_exactly_local_attention_on_a_single_frame():
    local, directional = local_and_directional()
    for gate in gates(directional):
        gate.normal_(std=0.01)
    single, moving = (
        [m.get_video_features(tiny_clips(2, t)).frame_embeds for m in (local, directional)] for t in (1, 4)
    )
    assert torch.equal(*single)
    assert (moving[0] - moving[1]).abs().max() > 1e-3


@torch.no_grad()
def test_directional_attention_tells_direction_by_its_gates_alone():
    """Reversal with negated gates is no change: all that is not symmetric in time goes through the gates."""
    _, model = local_and_directional()
    backward = model.get_video_features(tiny_clips().flip(1)).frame_embeds.flip(1)
    torch.testing.assert_close(model.get_video_features(tiny_clips()).frame_embeds, backward, atol=1e-6, rtol=0)
    for gate in gates(model):
        gate.normal_(std=0.01)
    forward = model.get_video_features(tiny_clips()).frame_embeds
    assert (model.get_video_features(tiny_clips().flip(1)).frame_embeds.flip(1) - forward).abs().max() > 1e-3
    for gate in gates(model):
        gate.neg_()
    backward = model.get_video_features(tiny_clips().flip(1)).frame_embeds.flip(1)
    torch.testing.assert_close(backward, forward, atol=1e-6, rtol=0)


def test_the_gates_learn_from_the_first_step():
    _, model = local_and_directional()
    logits = model(tiny_clips(), tiny_texts()).logits_per_video
    F.cross_entropy(logits, torch.tensor([0, 2])).backward()
    for gate in gates(model):
        assert (gate.grad != 0).all()


@pytest.mark.parametrize(("module", "loss"), [("local_attention", math.log(2)), ("directional_attention", 0.0)])
def test_training_tells_clips_from_their_reversals(module, loss):
    """Two labels, one for clips and one for the same clips played backwards: no better than ln 2, or solved."""
    model = tiny_model(perturb=False, temporal_module=module).froster
    clips, labels = torch.cat([tiny_clips(4), tiny_clips(4).flip(1)]), torch.tensor([0, 1]).repeat_interleave(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(40):
        current = F.cross_entropy(model(clips, tiny_texts(2)).logits_per_video, labels)
        optimizer.zero_grad()
        current.backward()
        optimizer.step()
    assert current.item() == pytest.approx(loss, abs=0.05)


@torch.no_grad()
def test_a_checkpoint_with_local_attention_becomes_one_with_directional_attention(tmp_path):
    from froster_hf import FrosterForVideoClassification

    local = tiny_model(temporal_module="local_attention")
    local.save_pretrained(tmp_path)
    directional, info = FrosterForVideoClassification.from_pretrained(
        tmp_path, temporal_module="directional_attention", output_loading_info=True
    )
    assert info["missing_keys"] == {
        f"froster.vision_model.encoder.layers.{layer}.self_attn.motion_gate" for layer in range(2)
    }
    assert not info["unexpected_keys"]
    assert all(not gate.any() for gate in gates(directional.froster))
    logits = [model(tiny_clips(), input_ids=tiny_texts()).logits for model in (local, directional)]
    assert torch.equal(*logits)


def clip_frame_embeds(clip, clips):
    return F.normalize(clip.get_image_features(clips.flatten(0, 1)).pooler_output, dim=-1).unflatten(
        0, clips.shape[:2]
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("fields", "num_frames"),
    [
        ({"temporal_module": "none"}, NUM_FRAMES),
        ({"temporal_module": "local_attention", "temporal_radius": 0}, NUM_FRAMES),
        ({"temporal_module": "directional_attention", "temporal_radius": 0}, NUM_FRAMES),
        ({"temporal_module": "st_adapter"}, NUM_FRAMES),
        ({"temporal_module": "aim"}, NUM_FRAMES),
        ({"temporal_module": "adaptformer"}, NUM_FRAMES),
        ({"temporal_module": "joint", "num_frames": 1}, 1),
    ],
    ids=["none", "radius-0", "directional-radius-0", "st_adapter", "aim", "adaptformer", "joint-of-one-frame"],
)
def test_a_module_at_its_start_is_clip(tmp_path, fields, num_frames):
    """Frame embeddings, and on a still video the logits, are those of transformers' CLIP."""
    from froster_hf import FrosterModel

    clip = tiny_clip()
    clip.save_pretrained(tmp_path)
    model = FrosterModel.from_clip(tmp_path, **fields).eval()
    clips = tiny_clips(num_frames=num_frames)
    found = model.get_video_features(clips).frame_embeds
    torch.testing.assert_close(found, clip_frame_embeds(clip, clips), atol=1e-6, rtol=0)

    still = clips[:, :1].expand(-1, num_frames, -1, -1, -1)
    logits = model(still, tiny_texts()).logits_per_video
    expected = clip(input_ids=tiny_texts(), pixel_values=clips[:, 0]).logits_per_image
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("num_frames", [1, 3, 7])
def test_other_frame_counts_work_or_name_both_counts(module, num_frames):
    model = tiny_model(temporal_module=module).froster
    clips = tiny_clips(num_frames=num_frames)
    if TEMPORAL_MODULES[module].fixed_frames:
        with pytest.raises(ValueError, match=rf"{num_frames} frames.* {NUM_FRAMES}"):
            model.get_video_features(clips)
    else:
        assert model.get_video_features(clips).frame_embeds.shape == (2, num_frames, 32)


@torch.no_grad()
def test_still_clips_of_any_length_agree_where_time_does_not_matter():
    model = tiny_model(temporal_module="none").froster
    frame = tiny_clips(num_frames=1)
    embeds = [model.get_video_features(frame.expand(-1, t, -1, -1, -1)).video_embeds for t in (1, 4)]
    torch.testing.assert_close(*embeds, atol=1e-6, rtol=0)


def test_a_motion_adapter_adds_nothing_where_nothing_moves_however_it_is_trained():
    trained, plain = tiny_model(temporal_module="motion_adapter"), tiny_model(temporal_module="none")
    plain.load_state_dict(trained.state_dict(), strict=False)
    still = tiny_clips(num_frames=1).expand(-1, NUM_FRAMES, -1, -1, -1)
    moving = tiny_clips()
    with torch.no_grad():
        for clips, same in ((still, True), (tiny_clips(num_frames=1), True), (moving, False)):
            ours, theirs = (model(clips, input_ids=tiny_texts()).logits for model in (trained, plain))
            assert torch.equal(ours, theirs) == same
        backwards = trained(moving.flip(1), input_ids=tiny_texts()).logits
        assert (backwards - trained(moving, input_ids=tiny_texts()).logits).abs().max() > 1e-4


def test_curvature_is_zero_for_steady_change_but_at_the_ends_and_the_same_backwards():
    steady = torch.arange(5.0).reshape(1, 5, 1, 1).expand(1, 5, 2, 3)
    assert torch.equal(temporal_curvature(steady)[:, 1:-1], torch.zeros(1, 3, 2, 3))
    tokens = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(temporal_curvature(tokens.flip(1)).flip(1), temporal_curvature(tokens))
