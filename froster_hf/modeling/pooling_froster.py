"""Temporal poolings: from the frame embeddings of a clip to one video embedding.

All but `mean` are ActionCLIP's post-network prompts (Wang et al., 2021): they work on the frame embeddings as
projected, not normalised. Letters: B videos, T frames, D the joint embedding width.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from .configuration_froster import FrosterConfig


class MeanPooling(nn.Module):
    """The mean over the frames."""

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        return frame_embeds.mean(dim=1)


class LSTMPooling(nn.Module):
    """An LSTM over the frames, added to its input, then the mean."""

    def __init__(self, config: FrosterConfig):
        super().__init__()
        self.lstm = nn.LSTM(config.projection_dim, config.projection_dim, batch_first=True)

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        return (self.lstm(frame_embeds)[0] + frame_embeds).mean(dim=1)


class Conv1dPooling(nn.Module):
    """A depthwise convolution over three frames, added to its input, then the mean.

    It starts as a shift: a quarter of the channels from the previous frame, a quarter from the next one. The public
    code of ActionCLIP *views* (B, T, D) as (B, D, T), which mixes channels and frames; here it is transposed.
    """

    def __init__(self, config: FrosterConfig):
        super().__init__()
        width = config.projection_dim
        self.conv = nn.Conv1d(width, width, kernel_size=3, padding=1, groups=width, bias=False)

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        return (self.conv(frame_embeds.transpose(1, 2)).transpose(1, 2) + frame_embeds).mean(dim=1)


class TransformerPooling(nn.Module):
    """Pre-norm transformer layers over the frames with learned positions, added to the input, then the mean."""

    def __init__(self, config: FrosterConfig):
        super().__init__()
        layer_config: CLIPTextConfig = copy.deepcopy(config.text_config)
        layer_config.hidden_size = config.projection_dim
        layer_config.intermediate_size = 4 * config.projection_dim
        layer_config.num_attention_heads = config.pooling_num_heads or config.text_config.num_attention_heads
        layer_config.hidden_act = "quick_gelu"
        layer_config.layer_norm_eps = 1e-12
        # A handful of frames: nothing to gain from another attention, and one less thing that differs between them.
        layer_config._attn_implementation = "eager"
        self.position_embedding = nn.Embedding(config.text_config.max_position_embeddings, config.projection_dim)
        self.layers = nn.ModuleList(CLIPEncoderLayer(layer_config) for _ in range(config.pooling_num_layers))

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        num_frames, num_positions = frame_embeds.shape[1], self.position_embedding.num_embeddings
        if num_frames > num_positions:
            raise ValueError(
                f"The clip has {num_frames} frames, but this model's `transformer` pooling has positions for "
                f"{num_positions}. Sample at most {num_positions} frames."
            )
        hidden_states = frame_embeds + self.position_embedding(torch.arange(num_frames, device=frame_embeds.device))
        for layer in self.layers:
            hidden_states = layer(hidden_states, None)
        return (hidden_states + frame_embeds).mean(dim=1)


class TransformerClassTokenPooling(nn.Module):
    """Post-norm transformer layers over a class token and the frames; the class token is the video."""

    def __init__(self, config: FrosterConfig):
        super().__init__()
        width = config.projection_dim
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.num_frames + 1, width))
        layer = nn.TransformerEncoderLayer(width, config.pooling_num_heads or 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(
            layer, config.pooling_num_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        num_frames, expected = frame_embeds.shape[1], self.position_embedding.shape[1] - 1
        if num_frames != expected:
            raise ValueError(
                f"The clip has {num_frames} frames, but this model's `transformer_cls` pooling has positions for "
                f"{expected}. Sample {expected} frames, or build the model with `num_frames={num_frames}`."
            )
        tokens = torch.cat([self.class_token.expand(frame_embeds.shape[0], -1, -1), frame_embeds], dim=1)
        return self.encoder(tokens + self.position_embedding)[:, 0]


POOLINGS: dict[str, type[nn.Module]] = {
    "lstm": LSTMPooling,
    "conv1d": Conv1dPooling,
    "transformer": TransformerPooling,
    "transformer_cls": TransformerClassTokenPooling,
}


def build_temporal_pooling(config: FrosterConfig) -> nn.Module:
    """The module of `config.temporal_pooling`."""
    if config.temporal_pooling in ("mean", "mean_unnormalized"):
        return MeanPooling()
    return POOLINGS[config.temporal_pooling](config)


def pool_frames(pooling: nn.Module, frame_embeds: torch.Tensor, *, normalize_first: bool) -> torch.Tensor:
    """The video embedding, normalised before or after the pooling.

    Args:
        pooling: (B, T, D) to (B, D).
        frame_embeds: (B, T, D), as projected.
        normalize_first: FROSTER's order: the mean of unit vectors, which is itself shorter than a unit vector, so that
            the logits are the mean of the frames' logits. Otherwise ActionCLIP's: pool, then normalise.

    Returns:
        (B, D).
    """
    if normalize_first:
        return pooling(F.normalize(frame_embeds, dim=-1))
    return F.normalize(pooling(frame_embeds), dim=-1)


def init_pooling_weights(module: nn.Module) -> None:
    """ActionCLIP's starting values; called after transformers has drawn all linear layers and embeddings."""
    if isinstance(module, Conv1dPooling):
        weight = torch.zeros(module.conv.weight.shape)
        quarter = weight.shape[0] // 4
        weight[:quarter, 0, 0] = 1.0
        weight[quarter:-quarter, 0, 1] = 1.0
        weight[-quarter:, 0, 2] = 1.0
        init.copy_(module.conv.weight, weight)
    elif isinstance(module, TransformerClassTokenPooling):
        init.trunc_normal_(module.class_token, std=0.02)
        init.trunc_normal_(module.position_embedding, std=0.02)
    elif isinstance(module, nn.MultiheadAttention):
        init.xavier_uniform_(module.in_proj_weight)
        init.zeros_(module.in_proj_bias)
