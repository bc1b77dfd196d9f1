from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from froster_hf.evaluation import attention_rollout, gradient_map
from froster_hf.evaluation.explaining import _attended, patch_relevance
from tests.modeling.tiny import MODULES, NUM_FRAMES, SIZE, VISION, tiny_clips, tiny_config, tiny_model

PATCHES = SIZE // VISION["patch_size"]


def planted_model(weights):
    """Stands for a model with one layer of given attention."""
    attention = torch.nn.Identity()
    layer = SimpleNamespace(self_attn=attention)
    return SimpleNamespace(
        config=tiny_config(temporal_module="none", attn_implementation="sdpa"),
        set_attn_implementation=lambda implementation: None,
        froster=SimpleNamespace(
            vision_model=SimpleNamespace(encoder=SimpleNamespace(layers=[layer])),
            get_video_features=lambda pixels: attention((pixels, weights)),
        ),
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_rollout_is_a_distribution_over_the_patches_of_all_frames(module):
    model = tiny_model(temporal_module=module)
    rollout = attention_rollout(model, tiny_clips(1))
    assert rollout.shape == (NUM_FRAMES, PATCHES, PATCHES)
    assert (rollout >= 0).all()
    assert rollout.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("shape", [(2, 5, 5), (NUM_FRAMES, 4, 4), (NUM_FRAMES, 5, 10), (NUM_FRAMES, 5, 7)])
def test_attention_of_an_unknown_layout_is_refused(shape):
    with pytest.raises(ValueError, match="of no layout that the rollout knows"):
        _attended(torch.ones(NUM_FRAMES, PATCHES**2 + 1), torch.ones(shape))


def test_threads_leave_the_model_its_implementation_of_attention():
    model, clips = tiny_model(), tiny_clips(1)
    with ThreadPoolExecutor(3) as threads:
        rollouts = list(threads.map(lambda _: attention_rollout(model, clips), range(12)))
    assert all(torch.equal(rollout, rollouts[0]) for rollout in rollouts)
    assert model.config._attn_implementation == "sdpa"


def test_attention_to_a_neighboring_frame_is_followed_to_that_frame():
    tokens = PATCHES**2 + 1
    weights = torch.full((NUM_FRAMES, 1, tokens, 3 * tokens), 1e-6)
    # Every class token looks at patch 2 of the frame after its own.
    weights[:, :, 0, 2 * tokens + 1 + 2] = 1.0
    rollout = attention_rollout(planted_model(weights), tiny_clips(1))
    # The last frame has no next one: what is left of its attention is spread evenly.
    assert rollout[1:, 1, 0].sum() > 0.75 + 0.05
    assert rollout[0].sum() < 0.1, "no frame comes before the first"


def test_the_zero_frames_beyond_the_ends_take_no_part():
    tokens = PATCHES**2 + 1
    weights = torch.full((NUM_FRAMES, tokens, 3 * tokens), 1 / (3 * tokens))
    first = torch.zeros(NUM_FRAMES, tokens)
    first[0, 3] = 1.0
    attended = _attended(first, weights)
    assert torch.allclose(attended[:2], torch.full((2, tokens), 1 / (2 * tokens)))
    assert not attended[2:].any()


def test_a_layer_by_hand():
    tokens = PATCHES**2 + 1
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(NUM_FRAMES, 2, tokens, tokens, generator=generator).softmax(-1)
    rollout = attention_rollout(planted_model(weights), tiny_clips(1))
    expected = 0.5 * weights.mean(1)[:, 0, 1:] / NUM_FRAMES
    assert torch.allclose(rollout.flatten(1), expected / expected.sum(), atol=1e-6)


@pytest.fixture
def text_embeds():
    return torch.nn.functional.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(3)), dim=-1)


@pytest.mark.parametrize("module", MODULES)
def test_a_gradient_map_belongs_to_a_label(module, text_embeds):
    model = tiny_model(temporal_module=module)
    model.requires_grad_(False)
    maps = [gradient_map(model, tiny_clips(1), text_embeds=text_embeds, label_index=k) for k in range(3)]
    for found in maps:
        assert found.shape == (NUM_FRAMES, PATCHES, PATCHES)
        assert (found >= 0).all()
        assert found.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert not torch.allclose(maps[0], maps[1], atol=1e-3)
    assert not model.froster.vision_model.encoder.layers[-1].layer_norm1._forward_hooks


def test_a_gradient_map_keeps_nothing_of_the_blocks_before_the_last(text_embeds):
    model = tiny_model()
    first, last = model.froster.vision_model.encoder.layers[0], model.froster.vision_model.encoder.layers[-1]
    asks = {}
    for name, layer in (("first", first), ("last", last)):
        layer.register_forward_hook(lambda _, __, output, name=name: asks.update({name: output.requires_grad}))
    gradient_map(model, tiny_clips(1), text_embeds=text_embeds, label_index=0)
    assert asks == {"first": False, "last": True}
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_rollout_is_the_product_of_the_layers_attention():
    """Against matrices over all tokens of the clip."""
    model, tokens = tiny_model(temporal_module="none"), PATCHES**2 + 1
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model.froster.get_video_features(tiny_clips(1), output_attentions=True).attentions
    rollout = torch.eye(NUM_FRAMES * tokens)
    for weights in attentions:
        attended = torch.block_diag(*weights.mean(1))
        rollout = (0.5 * attended + 0.5 * torch.eye(len(attended))) @ rollout
    expected = rollout.view(NUM_FRAMES, tokens, NUM_FRAMES, tokens)[:, 0, :, 1:].sum(0)
    found = attention_rollout(model, tiny_clips(1)).flatten(1)
    assert torch.allclose(found, expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("module", MODULES)
def test_the_relevance_of_a_patch_is_what_the_logit_gains_when_it_grows(module, text_embeds):
    """Against finite differences, in float64, patch by patch and frame by frame."""
    model = tiny_model(temporal_module=module).double()
    clip, texts = tiny_clips(1).double(), text_embeds.double()
    norm = model.froster.vision_model.encoder.layers[-1].layer_norm1
    relevance = patch_relevance(model, clip, text_embeds=texts, label_index=1)

    def logit(frame, patch, scale):
        calls = []

        def grow(_, __, output):
            calls.append(output)
            if module in ("aim", "context_tokens") and len(calls) == 1:
                return output  # over time; of the context
            output = output.clone()
            row, token = (0, 1 + frame * PATCHES**2 + patch) if module == "joint" else (frame, 1 + patch)
            output[row, token] *= scale
            return output

        hook = norm.register_forward_hook(grow)
        with torch.no_grad():
            value = model(pixel_values_videos=clip, text_embeds=texts).logits[0, 1].item()
        hook.remove()
        return value

    for frame in range(NUM_FRAMES):
        for patch in range(PATCHES**2):
            gain = (logit(frame, patch, 1 + 1e-4) - logit(frame, patch, 1 - 1e-4)) / 2e-4
            assert relevance[frame].flatten()[patch].item() == pytest.approx(gain, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("has_predicted", [False, True])
def test_maps_of_a_compiled_model_are_those_of_the_model(text_embeds, has_predicted):
    model, clips = tiny_model(), tiny_clips(1)
    expected = attention_rollout(model, clips), patch_relevance(model, clips, text_embeds=text_embeds, label_index=1)
    model.compile(backend="eager")
    if has_predicted:
        model(pixel_values_videos=clips, text_embeds=text_embeds)
    found = attention_rollout(model, clips), patch_relevance(model, clips, text_embeds=text_embeds, label_index=1)
    for one, other in zip(found, expected):
        assert torch.allclose(one, other, atol=1e-6)


def test_one_clip_at_a_time():
    model = tiny_model()
    with pytest.raises(ValueError, match="One clip"):
        attention_rollout(model, tiny_clips(2))
    with pytest.raises(ValueError, match="label_index=3"):
        gradient_map(model, tiny_clips(1), text_embeds=torch.randn(3, 32), label_index=3)
