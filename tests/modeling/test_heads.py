import pytest
import torch
import torch.nn.functional as F

from froster_hf.modeling.layers_froster import Conv1dPooling, build_temporal_pooling, pool_frames
from froster_hf.modeling.tables_froster import TEMPORAL_POOLINGS
from tests.modeling.tiny import NUM_FRAMES, POOLINGS, WIDTH, tiny_clips, tiny_config, tiny_model


@torch.no_grad()
def test_frosters_mean_gives_the_mean_of_the_frames_logits():
    model = tiny_model(temporal_module="local_attention").froster
    video = model.get_video_features(tiny_clips())
    texts = F.normalize(torch.randn(5, WIDTH), dim=-1)
    per_frame = model.logit_scale.exp() * video.frame_embeds @ texts.T
    torch.testing.assert_close(model.similarity(video.video_embeds, texts), per_frame.mean(dim=1), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_video_embeds_have_unit_length_but_for_frosters_mean(pooling):
    norms = tiny_model(temporal_pooling=pooling).froster.get_video_features(tiny_clips()).video_embeds.norm(dim=-1)
    if pooling == "mean":
        assert (norms < 1).all()
    else:
        torch.testing.assert_close(norms, torch.ones(2))


def test_conv1d_starts_as_a_shift_of_channels_over_time():
    conv = tiny_model(perturb=False, temporal_pooling="conv1d").froster.temporal_pooling.conv
    frames = torch.randn(1, 3, WIDTH)
    shifted = conv(frames.transpose(1, 2)).transpose(1, 2)
    quarter = WIDTH // 4
    torch.testing.assert_close(shifted[:, 1, :quarter], frames[:, 0, :quarter])
    torch.testing.assert_close(shifted[:, 1, quarter:-quarter], frames[:, 1, quarter:-quarter])
    torch.testing.assert_close(shifted[:, 1, -quarter:], frames[:, 2, -quarter:])


def test_conv1d_keeps_channels_apart():
    pooling = Conv1dPooling(tiny_config())
    frames = torch.randn(2, NUM_FRAMES, WIDTH)
    other = frames.clone()
    other[..., 3] += 1
    change = (pooling(frames) - pooling(other)).abs().sum(0) > 1e-6
    assert change.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize(
    ("pooling", "num_frames", "message"),
    [("transformer_cls", 3, "3 frames.*4"), ("transformer", 21, "21 frames.*20")],
)
def test_positions_tied_to_a_frame_count_name_both_counts(pooling, num_frames, message):
    module = build_temporal_pooling(tiny_config(temporal_pooling=pooling))
    with pytest.raises(ValueError, match=message):
        module(torch.randn(1, num_frames, WIDTH))


@pytest.mark.parametrize("pooling", [name for name, entry in TEMPORAL_POOLINGS.items() if not entry.fixed_frames])
def test_other_poolings_take_any_frame_count(pooling):
    module = build_temporal_pooling(tiny_config(temporal_pooling=pooling))
    for num_frames in (1, 6):
        assert module(torch.randn(2, num_frames, WIDTH)).shape == (2, WIDTH)


def test_class_token_layers_are_pytorchs_with_the_same_parameters():
    """Against `torch.nn.TransformerEncoder`, which checkpoints were trained with: same names, same outputs."""
    ours = tiny_model(temporal_pooling="transformer_cls").froster.temporal_pooling.encoder
    layer = torch.nn.TransformerEncoderLayer(WIDTH, 8, batch_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 2, norm=torch.nn.LayerNorm(WIDTH), enable_nested_tensor=False).eval()
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(3, NUM_FRAMES + 1, WIDTH)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_lora_on_all_linear_layers_counts_with_and_without_gradients_and_merged(pooling):
    peft = pytest.importorskip("peft")
    base = tiny_model(temporal_module="none", temporal_pooling=pooling)
    plain = base(tiny_clips(), text_embeds=torch.ones(2, WIDTH)).logits
    torch.manual_seed(0)
    model = peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    ).eval()
    ask = {"pixel_values_videos": tiny_clips(), "text_embeds": torch.ones(2, WIDTH)}
    with_gradients = model(**ask).logits
    with torch.no_grad():
        without = model(**ask).logits
        merged = model.merge_and_unload()(**ask).logits
    torch.testing.assert_close(without, with_gradients, atol=1e-4, rtol=0)
    torch.testing.assert_close(merged, with_gradients, atol=1e-3, rtol=0)
    assert (plain - with_gradients).abs().max() > 1e-2


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_table_says_which_poolings_have_parameters_and_how_many_layers(pooling):
    entry = TEMPORAL_POOLINGS[pooling]
    module = build_temporal_pooling(tiny_config(temporal_pooling=pooling, pooling_num_layers=3))
    assert bool(list(module.parameters())) == entry.has_parameters
    assert (entry.layers is not None) == ("pooling_num_layers" in entry.fields)
    if entry.layers is not None:
        assert len(module.get_submodule(entry.layers)) == 3


def test_the_order_of_frames_counts_only_for_ordered_poolings():
    frames = torch.randn(2, NUM_FRAMES, WIDTH)
    changes = {}
    for kind in POOLINGS:
        torch.manual_seed(0)
        pooling = tiny_model(temporal_pooling=kind).froster.temporal_pooling.eval()
        with torch.no_grad():
            forward, backward = (pool_frames(pooling, x, normalize_first=False) for x in (frames, frames.flip(1)))
        changes[kind] = (forward - backward).abs().max().item()
    symmetric = {kind for kind, change in changes.items() if change < 1e-6}
    assert symmetric == {kind for kind, entry in TEMPORAL_POOLINGS.items() if entry.time_symmetric}
