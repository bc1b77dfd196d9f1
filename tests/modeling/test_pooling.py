import pytest
import torch
import torch.nn.functional as F

from froster_hf.modeling.pooling_froster import Conv1dPooling, build_temporal_pooling, pool_frames
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


@pytest.mark.parametrize("pooling", [pooling for pooling in POOLINGS if pooling != "transformer_cls"])
def test_other_poolings_take_any_frame_count(pooling):
    module = build_temporal_pooling(tiny_config(temporal_pooling=pooling))
    for num_frames in (1, 6):
        assert module(torch.randn(2, num_frames, WIDTH)).shape == (2, WIDTH)


def test_the_order_of_frames_counts_only_for_ordered_poolings():
    frames = torch.randn(2, NUM_FRAMES, WIDTH)
    changes = {}
    for kind in POOLINGS:
        torch.manual_seed(0)
        pooling = tiny_model(temporal_pooling=kind).froster.temporal_pooling.eval()
        with torch.no_grad():
            forward, backward = (pool_frames(pooling, x, normalize_first=False) for x in (frames, frames.flip(1)))
        changes[kind] = (forward - backward).abs().max().item()
    assert {kind for kind, change in changes.items() if change < 1e-6} == {"mean", "mean_unnormalized"}
