"""ActionCLIP's post-network heads on stored frame embeddings."""

import pytest
import torch
from safetensors.torch import load_file

from froster_hf import FrosterConfig
from froster_hf.conversion import convert_state_dict
from froster_hf.conversion.layouts.actionclip import ACTIONCLIP
from froster_hf.modeling.layers_froster import build_temporal_pooling
from tests.conversion.original_layouts import clip_state_dict
from tests.parity.trios import DATA

pytestmark = pytest.mark.parity

HEADS = {
    "meanP": "mean_unnormalized",
    "LSTM": "lstm",
    "Transf": "transformer",
    "Transf_cls": "transformer_cls",
    "Conv_1D": "conv1d",
}


def load_head(name):
    """Our pooling with the stored weights, and the stored input and output."""
    stored = load_file(DATA / "actionclip" / f"head_{name}.safetensors")
    state = {key.removeprefix("state."): value.float() for key, value in stored.items() if key.startswith("state.")}
    whole = clip_state_dict() | {f"fusion_model.{key}": value for key, value in state.items()}
    converted = convert_state_dict(whole, layout="actionclip")
    kind = converted.temporal_pooling or ACTIONCLIP.temporal_pooling
    num_frames, width = stored["frame_embeds"].shape[1:]
    heads = None if kind != "transformer" else state["transformer.resblocks.0.ln_1.weight"].shape[0] // 64
    config = FrosterConfig(projection_dim=width, num_frames=num_frames, temporal_pooling=kind, pooling_num_heads=heads)
    pooling = build_temporal_pooling(config).eval()
    prefix = "temporal_pooling."
    weights = {key.removeprefix(prefix): value for key, value in converted.model.items() if key.startswith(prefix)}
    pooling.load_state_dict(weights, strict=True)
    return kind, pooling, stored["frame_embeds"].float(), stored["video_embeds"].float()


@pytest.mark.parametrize("name", [name for name in HEADS if name != "Conv_1D"])
@torch.no_grad()
def test_a_head_gives_the_stored_video_embeds(name):
    kind, pooling, frame_embeds, video_embeds = load_head(name)
    assert kind == HEADS[name]
    torch.testing.assert_close(pooling(frame_embeds), video_embeds, atol=1e-5, rtol=0)


@torch.no_grad()
def test_conv1d_differs_from_the_public_code_by_its_scrambled_view_alone():
    kind, pooling, frame_embeds, video_embeds = load_head("Conv_1D")
    assert kind == "conv1d"
    scrambled = frame_embeds.reshape(frame_embeds.shape[0], frame_embeds.shape[2], frame_embeds.shape[1])
    as_published = (pooling.conv(scrambled).transpose(1, 2) + frame_embeds).mean(dim=1)
    torch.testing.assert_close(as_published, video_embeds, atol=1e-5, rtol=0)
    assert (pooling(frame_embeds) - video_embeds).abs().max() > 0.01
