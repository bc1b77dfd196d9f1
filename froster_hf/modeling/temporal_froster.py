"""The vision tower, and its temporal modules: what lets the frames of a clip see each other inside the tower.

The tower runs on (B*T, N, W): every frame is a row of the batch, as in CLIP. Each class below changes one place of the
backbone (the attention of a block, the block around it, the embeddings) and receives the number of frames as the
keyword `num_frames`, which transformers' encoder hands down unchanged. The backbone's parameters keep their names: a
class below is not a module yet, but is put on top of the backbone's own (`on_backbone`).

Letters: B videos, T frames, N tokens per frame (class token first, if there is one), W width, H heads, d = W / H.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, eager_attention_forward

from .configuration_froster import BIAS_CHANNELS, MAX_MERGED, NUM_CONTEXT_TOKENS, SEED_SHARE, FrosterConfig
from .layers_froster import split_heads, use_one_pass_mlps
from .tables_froster import TEMPORAL_MODULES, find_implementation


class BackbonePart:
    """Base of classes that become modules on top of a class of the backbone, which is their `super()`; see
    `on_backbone`."""

    def placed_at(self, layer_index: int) -> None:
        """Called once with the index of the block that it is, or is part of; from 0."""

    def __reduce__(self) -> tuple:
        part, base = type(self).__bases__
        return _empty_part, (part, base), vars(self)


@functools.cache
def on_backbone(part: Any, base: Any) -> Any:
    """The class of a part on top of a class of the backbone; one and the same for the same two."""
    return type(part.__name__, (part, base), {"__doc__": part.__doc__})


def _empty_part(part: type, base: type) -> Any:
    """Unpickles: a class that was made at run time has no name to be found by."""
    made = on_backbone(part, base)
    return made.__new__(made)


if TYPE_CHECKING:  # the backbones' classes have the same attributes and methods as CLIP's
    from transformers import CLIPVisionModel as VisionModel
    from transformers.models.clip.modeling_clip import CLIPAttention as Attention
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer as EncoderLayer
    from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings as VisionEmbeddings
else:
    Attention = EncoderLayer = VisionEmbeddings = VisionModel = BackbonePart


def temporal_windows(frames: torch.Tensor, radius: int) -> torch.Tensor:
    """The tokens of the frames t-radius ... t+radius for every t, as a view: nothing is copied but the padding.

        padded frames        0  1  2  3  0          (0: a frame of zeros)
        window of frame 1   [0  1  2]
        window of frame 2      [1  2  3]            neighboring windows share memory
        window of frame 3         [2  3  0]

    Missing neighbors at the ends are zero frames, and stay in the softmax: their scores are exactly 0, so each of
    their N keys takes exp(0) of its mass. The released weights were trained with this; masking breaks parity.

    Args:
        frames: (..., T, N, d).
        radius: frames to each side.

    Returns:
        (..., T, (2 * radius + 1) * N, d). Do not write into it.
    """
    # Not F.pad, which fills the whole of its output before it copies.
    ends = frames.new_zeros(*frames.shape[:-3], radius, *frames.shape[-2:])
    padded = torch.cat([ends, frames, ends], dim=-3)
    windows = padded.unfold(-3, 2 * radius + 1, 1)  # (..., T, N, d, 2r+1)
    return windows.movedim(-1, -3).flatten(-3, -2)


def shift_channels(tokens: torch.Tensor) -> torch.Tensor:
    """Replace a quarter of the channels by the next frame's and a quarter by the previous frame's; zeros at the ends.

    TSM (Lin et al., ICCV 2019) applied to keys and values as in X-ViT (Bulat et al., NeurIPS 2021).

    Args:
        tokens: (B, T, N, W).

    Returns:
        (B, T, N, W).
    """
    fold = tokens.shape[-1] // 4
    following, preceding, own = tokens.split([fold, fold, tokens.shape[-1] - 2 * fold], dim=-1)
    # Padded first and cut afterwards: the sizes stay those of the clip, which torch.export can prove for any length.
    following = F.pad(following, (0, 0, 0, 0, 0, 1))[:, 1:]
    preceding = F.pad(preceding, (0, 0, 0, 0, 1, 0))[:, :-1]
    return torch.cat([following, preceding, own], dim=-1)


def reads_first_tokens(forward: Callable) -> Callable:
    """Marks a `forward` that takes `num_read`: the output of the first tokens alone, from keys and values of all."""
    forward.reads_first_tokens = True  # type: ignore[attr-defined]
    return forward


def run_kernel(
    attention: CLIPAttention, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **kwargs
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Queries (X, Y, n, d) against keys and values (X, Y, m, d) by whichever kernel is configured.

    Returns:
        (X, n, Y, d), and with eager attention the weights (X, Y, n, m).
    """
    kernel: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
        attention.config._attn_implementation, eager_attention_forward
    )
    dropout = attention.dropout if attention.training else 0.0
    return kernel(attention, queries, keys, values, None, scaling=attention.scale, dropout=dropout, **kwargs)


def attend(
    attention: CLIPAttention, hidden_states: torch.Tensor, num_read: int | None = None, **kwargs
) -> torch.Tensor:
    """The output of an attention at its first `num_read` tokens, by default at all; keys and values are of all.

    Args:
        attention: CLIP's, or one whose `forward` takes `num_read`.
        hidden_states: (B*T, N, W), normalized.
        num_read: tokens that ask.
        kwargs: keywords of the attention's `forward`.

    Returns:
        (B*T, `num_read`, W).
    """
    if num_read is None:
        return attention(hidden_states, **kwargs)[0]
    if type(attention).forward is not CLIPAttention.forward:
        return attention(hidden_states, num_read=num_read, **kwargs)[0]
    output, _ = run_kernel(
        attention,
        split_heads(attention.q_proj(hidden_states[:, :num_read]), attention),
        split_heads(attention.k_proj(hidden_states), attention),
        split_heads(attention.v_proj(hidden_states), attention),
        **kwargs,
    )
    return attention.out_proj(output.flatten(2))


def run_block(
    layer: CLIPEncoderLayer, hidden_states: torch.Tensor, num_read: int | None = None, **kwargs
) -> torch.Tensor:
    """CLIP's block at its first `num_read` tokens: (B*T, N, W) to (B*T, `num_read`, W); see `attend`."""
    attended = attend(layer.self_attn, layer.layer_norm1(hidden_states), num_read, **kwargs)
    hidden_states = hidden_states[:, :num_read] + attended
    return hidden_states + layer.mlp(layer.layer_norm2(hidden_states))


def read_first_tokens(layer: Any, hidden_states: torch.Tensor, num_read: int, **kwargs) -> torch.Tensor:
    """`layer(hidden_states)[:, :num_read]`, without the queries, the output projection and the MLP of the others.

    A block or an attention that does not know how is computed in full.
    """
    block, attention = type(layer).forward, type(getattr(layer, "self_attn", layer)).forward
    if attention is CLIPAttention.forward or getattr(attention, "reads_first_tokens", False):
        if block is CLIPEncoderLayer.forward:
            return run_block(layer, hidden_states, num_read, **kwargs)
        if getattr(block, "reads_first_tokens", False):
            return layer(hidden_states, num_read=num_read, **kwargs)
    return layer(hidden_states, None, **kwargs)[:, :num_read]


class TemporalAttention(Attention):
    """The backbone's attention whose keys and values may come from other frames too; no parameters of its own."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)


class LocalAttention(TemporalAttention):
    """Every frame attends to the tokens of the frames within `radius` (FROSTER; Open-VCLIP).

    Exactly time-reversal invariant together with mean pooling: the neighbors on both sides enter alike, and attention
    does not know the order of its keys.
    """

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.radius = temporal.temporal_radius

    def context(self, hidden_states: torch.Tensor, num_frames: int) -> torch.Tensor:
        """The source of keys and values: (B*T, N, W) to (B*T, N, W)."""
        return hidden_states

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_frames: int, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W) and, with eager attention, weights (B*T, H, N, (2r+1)*N)."""

        def split(projected: torch.Tensor) -> torch.Tensor:
            """(B*T, n, W) to (B, H, T, n, d): time next to tokens, so that a window is one run of memory."""
            return projected.unflatten(0, (-1, num_frames)).unflatten(-1, (-1, self.head_dim)).permute(0, 3, 1, 2, 4)

        context = self.context(hidden_states, num_frames)
        queries = split(self.q_proj(hidden_states[:, :num_read]))
        keys = temporal_windows(split(self.k_proj(context)), self.radius)
        values = temporal_windows(split(self.v_proj(context)), self.radius)

        weights = None
        if self.config._attn_implementation in ("eager", None):
            # It copies the windows in any case; in this order the weights that it returns are those that are used, and
            # have gradients.
            by_frame = (projected.transpose(1, 2).flatten(0, 1) for projected in (queries, keys, values))
            output, weights = run_kernel(self, *by_frame, **kwargs)  # (B*T, N, H, d)
        else:
            # The attention functions take four dimensions: (B*H) stands for their batch and T for their heads.
            output, _ = run_kernel(self, queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), **kwargs)
            output = output.unflatten(0, (-1, self.num_heads)).permute(0, 3, 2, 1, 4)  # (B, T, N, H, d)
        return self.out_proj(output.reshape(hidden_states.shape[0], -1, self.embed_dim)), weights


def temporal_difference(tokens: torch.Tensor) -> torch.Tensor:
    """The next frame minus the previous one; at the ends, where one of them is missing, the frame itself in its place.

    Played backwards it changes its sign. Zero where nothing moves, and for a single frame.

    Args:
        tokens: (B, T, N, W).

    Returns:
        (B, T, N, W).
    """
    # Not padded with zeros: that a clip begins or ends is not a motion.
    padded = torch.cat([tokens[:, :1], tokens, tokens[:, -1:]], dim=1)
    return padded[:, 2:] - padded[:, :-2]


class DirectionalAttention(LocalAttention):
    """[`LocalAttention`] that also sees how every token is changing, with a sign: it tells forward from backward.

    A gate per channel, zero at the start, adds the tokens' temporal difference to what keys and values are made from.
    At the start, and for a single frame always, it is exactly local attention; reversal turns the difference's sign.
    """

    # CLIP is trained with steps that suit its small weights; a gate that took the same steps would hardly open.
    gate_scale = 100.0

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.motion_gate = nn.Parameter(torch.zeros(self.embed_dim))

    def context(self, hidden_states: torch.Tensor, num_frames: int) -> torch.Tensor:
        """(B*T, N, W) to (B*T, N, W)."""
        motion = temporal_difference(hidden_states.unflatten(0, (-1, num_frames))).flatten(0, 1)
        return torch.addcmul(hidden_states, self.gate_scale * self.motion_gate, motion)


class ChannelShiftAttention(TemporalAttention):
    """Keys and values with half of their channels shifted in time, before the split into heads (X-ViT)."""

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_frames: int, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W) and, with eager attention, weights (B*T, H, N, N)."""

        def shifted(projected: torch.Tensor) -> torch.Tensor:
            return split_heads(shift_channels(projected.unflatten(0, (-1, num_frames))).flatten(0, 1), self)

        queries = split_heads(self.q_proj(hidden_states[:, :num_read]), self)
        keys, values = shifted(self.k_proj(hidden_states)), shifted(self.v_proj(hidden_states))
        output, weights = run_kernel(self, queries, keys, values, **kwargs)
        return self.out_proj(output.flatten(2)), weights


class CrossFrameLayer(EncoderLayer):
    """A message token per frame, mixed over the frames and then read by the frame's own attention (X-CLIP)."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        self.message_proj = nn.Linear(self.embed_dim, self.embed_dim)
        self.message_norm = nn.LayerNorm(self.embed_dim, eps=config.layer_norm_eps)
        self.message_attn = type(self.self_attn)(config)
        self.has_class_token = temporal.backbone_entry.has_class_token

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_frames: int, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W)."""
        num_tokens = hidden_states.shape[1]
        frames = hidden_states[:, 0] if self.has_class_token else hidden_states.mean(dim=1)
        messages = self.message_proj(frames).unflatten(0, (-1, num_frames))  # (B, T, W)
        # `.forward`: a call would fire the hook that records attentions, and this is not the block's attention.
        messages = messages + self.message_attn.forward(self.message_norm(messages), **kwargs)[0]
        hidden_states = torch.cat([hidden_states, messages.flatten(0, 1).unsqueeze(1)], dim=1)
        # Of the whole block, the message asks too: the weights that are recorded have its row.
        attended = attend(self.self_attn, self.layer_norm1(hidden_states), num_read, **kwargs)
        num_read = num_read or num_tokens
        hidden_states = hidden_states[:, :num_read] + attended[:, :num_read]
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


def adapter_width(width: int, temporal: FrosterConfig) -> int:
    """The width of the adapters' bottleneck in a tower of this width."""
    return temporal.adapter_size or width // (temporal.temporal_entries[0].adapter_divisor or 1)


class BottleneckAdapter(nn.Module):
    """Linear, GELU, Linear through a bottleneck; the second layer starts at zero, so that CLIP is unchanged."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down_proj = nn.Linear(width, size)
        self.up_proj = nn.Linear(size, width)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., W) to (..., W)."""
        return self.up_proj(F.gelu(self.down_proj(hidden_states)))


class SpatioTemporalAdapter(nn.Module):
    """Down, depthwise convolution over three frames, up; the last layer starts at zero (ST-Adapter)."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down_proj = nn.Linear(width, size)
        self.conv = nn.Conv1d(size, size, kernel_size=3, padding=1, groups=size)
        self.up_proj = nn.Linear(size, width)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(B, T, N, W) to (B, T, N, W)."""
        batch_size = patches.shape[0]
        over_time = self.down_proj(patches).permute(0, 2, 3, 1).flatten(0, 1)  # (B*N, C, T)
        over_time = self.conv(over_time)
        return self.up_proj(over_time.unflatten(0, (batch_size, -1)).permute(0, 3, 1, 2))


def temporal_curvature(tokens: torch.Tensor) -> torch.Tensor:
    """The next and the previous frame minus twice the frame; at the ends the frame stands in for the missing one.

    The same played backwards. Zero where nothing moves, and for a single frame; for motion that goes on as it is, only
    where the motion begins and ends.

    Args:
        tokens: (B, T, N, W).

    Returns:
        (B, T, N, W).
    """
    padded = torch.cat([tokens[:, :1], tokens, tokens[:, -1:]], dim=1)
    return padded[:, 2:] + padded[:, :-2] - 2 * tokens


class MotionAdapter(nn.Module):
    """Down, the first and second difference over time, GELU, up: what changes, and nothing of what stays.

    Without biases, it adds exactly nothing to a clip in which nothing moves, however it is trained: what a frame shows
    is CLIP's own affair. The first difference has a sign, by which forward and backward differ. The last layer starts
    at zero.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down_proj = nn.Linear(width, size, bias=False)
        # How much of the first and of the second difference a channel reads.
        self.taps = nn.Parameter(torch.empty(2, size))
        self.up_proj = nn.Linear(size, width, bias=False)

    def init_own_weights(self) -> None:
        """Every channel reads a mixture of its own; called after transformers has drawn all layers."""
        init.normal_(self.taps)
        init.normal_(self.down_proj.weight, std=self.down_proj.in_features**-0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, N, W) to (B, T, N, W)."""
        low = self.down_proj(tokens)
        change = self.taps[0] * temporal_difference(low) + self.taps[1] * temporal_curvature(low)
        return self.up_proj(F.gelu(change))


class MotionAdapterLayer(EncoderLayer):
    """A block with a [`MotionAdapter`] on all tokens, before the attention."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        self.motion_adapter = MotionAdapter(self.embed_dim, adapter_width(self.embed_dim, temporal))

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_frames: int, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W)."""
        change = self.motion_adapter(hidden_states.unflatten(0, (-1, num_frames))).flatten(0, 1)
        return run_block(self, hidden_states + change, num_read, **kwargs)


class SpatioTemporalAdapterLayer(EncoderLayer):
    """A block with a [`SpatioTemporalAdapter`] on its patch tokens, before the attention (ST-Adapter)."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        self.num_prefix_tokens = int(temporal.backbone_entry.has_class_token)
        self.st_adapter = SpatioTemporalAdapter(self.embed_dim, adapter_width(self.embed_dim, temporal))

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_frames: int, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W)."""
        prefix = self.num_prefix_tokens
        class_token, patches = hidden_states[:, :prefix], hidden_states[:, prefix:]
        patches = patches + self.st_adapter(patches.unflatten(0, (-1, num_frames))).flatten(0, 1)
        return run_block(self, torch.cat([class_token, patches], dim=1), num_read, **kwargs)


class AdaptFormerLayer(EncoderLayer):
    """A block with a scaled adapter beside its MLP (AdaptFormer); the frames stay apart."""

    # s = 0.5, as in the implementation that the stored outputs come from; AdaptFormer's paper uses 0.1.
    mlp_adapter_scale = 0.5

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        self.mlp_adapter = BottleneckAdapter(self.embed_dim, adapter_width(self.embed_dim, temporal))

    def adapted_mlp(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The block's second half: (B*T, N, W) to (B*T, N, W)."""
        normed = self.layer_norm2(hidden_states)
        return hidden_states + self.mlp(normed) + self.mlp_adapter_scale * self.mlp_adapter(normed)

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W)."""
        attended = attend(self.self_attn, self.layer_norm1(hidden_states), num_read, **kwargs)
        return self.adapted_mlp(hidden_states[:, :num_read] + attended)


class AIMLayer(AdaptFormerLayer):
    """The block's frozen attention over time, then over space, then the MLP, with an adapter after each (AIM)."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        adapter_size = adapter_width(self.embed_dim, temporal)
        self.temporal_adapter = BottleneckAdapter(self.embed_dim, adapter_size)
        self.spatial_adapter = BottleneckAdapter(self.embed_dim, adapter_size)

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, num_frames: int, num_read: int | None = None, **kwargs):
        """(B*T, N, W) to (B*T, N, W)."""
        num_tokens = hidden_states.shape[1]
        over_time = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)  # (B*N, T, W)
        # `.forward`: the recorded attentions are those over space, as in every other block.
        attended = self.self_attn.forward(self.layer_norm1(over_time), **kwargs)[0]
        over_time = over_time + self.temporal_adapter(attended)
        hidden_states = over_time.unflatten(0, (-1, num_tokens)).transpose(1, 2).flatten(0, 1)

        attended = attend(self.self_attn, self.layer_norm1(hidden_states), num_read, **kwargs)
        hidden_states = hidden_states[:, :num_read] + attended + self.spatial_adapter(attended)
        return self.adapted_mlp(hidden_states)


def merge_tokens(tokens: torch.Tensor, num_tokens: int, *, max_merged: int) -> torch.Tensor:
    """Merge the most similar tokens into their means until few are left: bipartite soft matching (ToMe, ICLR 2023).

    In each step every second token looks for the most similar of the others, by cosine; the best pairs become their
    mean, weighted by how many tokens each has in it.

        tokens          0  1  2  3  4  5        even ones seek, odd ones are found
        after a step    4  1+0  3  5+2          here 0 and 2 had the best partners, and 4 is kept

    Args:
        tokens: (B, M, W).
        num_tokens: tokens to keep; with no more than these, nothing is done.
        max_merged: most pairs that are merged in one step.

    Returns:
        (B, min(M, num_tokens), W).
    """
    sizes = torch.ones_like(tokens[..., :1])
    while (excess := tokens.shape[1] - num_tokens) > 0:
        step = min(excess, max_merged, tokens.shape[1] // 2)
        (seeking, found), (seeking_sizes, found_sizes) = ((x[:, ::2], x[:, 1::2]) for x in (tokens, sizes))
        with torch.no_grad():
            similarity = F.normalize(seeking, dim=-1) @ F.normalize(found, dim=-1).transpose(1, 2)
            best, partner = similarity.max(dim=-1)
            order = best.argsort(dim=-1, descending=True)[..., None]
            merged, kept = order[:, :step], order[:, step:]
            partner = partner[..., None].gather(1, merged)

        def chosen(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            return values.gather(1, places.expand(-1, -1, values.shape[-1]))

        weighted = chosen(seeking * seeking_sizes, merged)
        sums = (found * found_sizes).scatter_add(1, partner.expand_as(weighted), weighted)
        new_sizes = found_sizes.scatter_add(1, partner, chosen(seeking_sizes, merged))
        tokens = torch.cat([chosen(seeking, kept), sums / new_sizes], dim=1)
        sizes = torch.cat([chosen(seeking_sizes, kept), new_sizes], dim=1)
    return tokens


class ContextAttention(TemporalAttention):
    """Attention to a frame's own tokens and to the context tokens of its clip, with a bias per head on each kind."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.num_prefix_tokens = int(temporal.backbone_entry.has_class_token)

    def add_biases(self) -> None:
        """For a block that gets context tokens."""
        self.local_bias = nn.Parameter(torch.zeros(self.num_heads))
        self.context_bias = nn.Parameter(torch.zeros(self.num_heads))

    def init_own_weights(self) -> None:
        """TC-CLIP's start."""
        for bias in (getattr(self, "local_bias", None), getattr(self, "context_bias", None)):
            if bias is not None:
                init.trunc_normal_(bias, std=0.02)

    @reads_first_tokens
    def forward(self, hidden_states, attention_mask=None, *, context=None, num_read: int | None = None, **kwargs):
        """A frame's tokens, and its clip's context.

        Args:
            hidden_states: (B*T, N, W), normalized.
            attention_mask: none.
            context: (B, M, W), normalized, or `None`.
            num_read: tokens that ask, the first ones; by default all.
            kwargs: keywords of the kernel.

        Returns:
            (B*T, N, W); with eager attention, the weights (B*T, H, N, N + M), the context last; and how much of its
            attention a frame pays to each of its patches (B*T, patches), without gradient.
        """
        num_tokens = hidden_states.shape[1]
        queries = split_heads(self.q_proj(hidden_states[:, :num_read]), self)
        keys, values = (split_heads(projection(hidden_states), self) for projection in (self.k_proj, self.v_proj))
        if context is not None:
            num_frames = hidden_states.shape[0] // context.shape[0]
            more_keys, more_values = (
                split_heads(projection(context), self).repeat_interleave(num_frames, dim=0)
                for projection in (self.k_proj, self.v_proj)
            )
            queries, keys = self._with_biases(queries, keys, more_keys)
            values = F.pad(torch.cat([values, more_values], dim=2), (0, BIAS_CHANNELS))
        output, weights = run_kernel(self, queries, keys, values, **kwargs)
        output = self.out_proj(output[..., : self.head_dim].flatten(2))
        return output, weights, self._paid_to_patches(queries, keys, num_tokens)

    def _with_biases(
        self, queries: torch.Tensor, keys: torch.Tensor, more_keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The biases as one more channel, 1 in the queries, which every kernel takes; a mask only some."""

        def with_bias(keys: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            channel = (bias / self.scale)[:, None, None].expand(*keys.shape[:3], 1)
            return torch.cat([keys, channel.to(keys.dtype)], dim=-1)

        keys = torch.cat([with_bias(keys, self.local_bias), with_bias(more_keys, self.context_bias)], dim=2)
        queries = F.pad(F.pad(queries, (0, 1), value=1.0), (0, BIAS_CHANNELS - 1))
        return queries, F.pad(keys, (0, BIAS_CHANNELS - 1))

    @torch.no_grad()
    def _paid_to_patches(self, queries: torch.Tensor, keys: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """By the class token, or by the mean token where there is none; mean over the heads."""
        prefix = self.num_prefix_tokens
        query = queries[:, :, :1] if prefix else queries.mean(dim=2, keepdim=True)
        shares = (self.scale * query @ keys.transpose(-1, -2)).float().softmax(dim=-1)
        return shares[:, :, 0, prefix:num_tokens].mean(dim=1)


class ContextTokensLayer(EncoderLayer):
    """A block whose frames also attend to a few tokens that sum up their clip (TC-CLIP, without its video prompts).

    The patches that the block before attended to most are the seeds; they are merged to at most 96 context tokens.
    These are made again for every block, so that what a block would make of its own has no effect, and is left out.

    Kim, Han, Yoo: Leveraging Temporal Contextualization for Video Action Recognition (ECCV 2024).
    """

    seed_share = SEED_SHARE
    num_context_tokens = NUM_CONTEXT_TOKENS
    max_merged = MAX_MERGED

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        self.num_prefix_tokens = int(temporal.backbone_entry.has_class_token)
        attention: Any = type(self.self_attn)
        self.self_attn = on_backbone(ContextAttention, attention)(config, temporal)

    def placed_at(self, layer_index: int) -> None:
        """Whether there is a block before it."""
        self.layer_index = layer_index
        if layer_index:
            attention: Any = self.self_attn
            attention.add_biases()

    @reads_first_tokens
    def forward(
        self,
        hidden_states,
        attention_mask=None,
        *,
        num_frames: int,
        handed_on: dict[int, torch.Tensor],
        num_read: int | None = None,
        **kwargs,
    ):
        """(B*T, N, W) to (B*T, N, W); `handed_on` holds the places of the seeds (B, seeds) by block."""
        context = None
        if self.layer_index:
            # Read under the index of a block: where a block is computed again in the backward pass, later ones have
            # written theirs.
            seeds = handed_on[self.layer_index - 1][..., None].expand(-1, -1, hidden_states.shape[-1])
            clips = hidden_states.unflatten(0, (-1, num_frames)).flatten(1, 2)
            context = merge_tokens(clips.gather(1, seeds), self.num_context_tokens, max_merged=self.max_merged)
            context = self.layer_norm1(context)
        normed = self.layer_norm1(hidden_states)
        attended, _, paid = self.self_attn(normed, context=context, num_read=num_read, **kwargs)
        handed_on[self.layer_index] = self._choose_seeds(paid.unflatten(0, (-1, num_frames)))
        hidden_states = hidden_states[:, :num_read] + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def _choose_seeds(self, paid: torch.Tensor) -> torch.Tensor:
        """(B, T, patches) to places (B, seeds) among all tokens of the clip, most attended first.

        In this order, and not by frame, so that the merging does not depend on the order of the frames.
        """
        num_frames, num_patches = paid.shape[1:]
        shares, patches = paid.topk(max(1, int(self.seed_share * num_patches)), dim=-1)
        starts = torch.arange(num_frames, device=paid.device)[:, None] * (self.num_prefix_tokens + num_patches)
        places = (starts + self.num_prefix_tokens + patches).flatten(1)
        return places.gather(1, shares.flatten(1).argsort(dim=-1, descending=True))


class JointEmbeddings(VisionEmbeddings):
    """The class token, if there is one, and the patches of all frames, with learned times: space and time in one
    sequence (ActionCLIP).

    The times start at zero (ActionCLIP draws them), so that a clip of one frame gives exactly the image's embedding.
    """

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        self.num_prefix_tokens = int(temporal.backbone_entry.has_class_token)
        self.time_embedding = nn.Parameter(torch.zeros(temporal.num_frames, self.embed_dim))

    def forward(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False) -> torch.Tensor:
        """(B, T, 3, S, S) to (B, 1 + T * (N - 1), W); (B, T * N, W) without a class token."""
        num_frames = pixel_values.shape[1]
        if num_frames != self.time_embedding.shape[0]:
            raise ValueError(
                f"The clip has {num_frames} frames, but this model's `joint` time embeddings are for "
                f"{self.time_embedding.shape[0]}. Sample {self.time_embedding.shape[0]} frames, or build the model "
                f"with `num_frames={num_frames}`."
            )
        frames = super().forward(pixel_values.flatten(0, 1), interpolate_pos_encoding)
        frames = frames.unflatten(0, (-1, num_frames))  # (B, T, N, W)
        prefix = self.num_prefix_tokens
        patches = frames[:, :, prefix:] + self.time_embedding[:, None]
        return torch.cat([frames[:, 0, :prefix], patches.flatten(1, 2)], dim=1)


def insert_temporal_module(vision_model: "FrosterVisionModel", config: FrosterConfig) -> None:
    """Replace the parts of a freshly built vision tower that `config.temporal_module` changes.

    Args:
        vision_model: changed in place.
        config: whose `temporal_module` and its fields are read.
    """
    entry = config.temporal_entries[0]
    part = find_implementation(entry.implementation, globals())
    if part is None:
        return

    def build(replaced: Any, layer_index: int = 0) -> Any:
        base: Any = type(replaced)
        built = on_backbone(part, base)(vision_model.config, config)
        built.placed_at(layer_index)
        return built

    if entry.place == "attention":
        for index, layer in enumerate(vision_model.encoder.layers):
            layer.self_attn = build(layer.self_attn, index)
    elif entry.place == "block":
        vision_model.encoder.layers = nn.ModuleList(
            build(layer, index) for index, layer in enumerate(vision_model.encoder.layers)
        )
    else:
        vision_model.embeddings = build(vision_model.embeddings)


class GuardedInitialization:
    """Draws all weights by transformers' guarded initializers, as its own models do, and says so to transformers.

    For other "custom code" it skips the modules that have no parameter of their own, since their loaded weights might
    be overwritten, and with them the zero layers of the adapters and CLIP's scales.
    """

    @classmethod
    def is_custom_code(cls) -> bool:
        """See the class."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)  # type: ignore[misc]
        # The starting values of modules that transformers does not know.
        start = getattr(module, "init_own_weights", None)
        if start is not None:
            start()


class FrosterVisionModel(GuardedInitialization, VisionModel):
    """The backbone's vision tower with a temporal module; `num_frames` goes down to the layers as a keyword."""

    _zero_start: tuple[str, ...] = ()

    def __init__(self, config: CLIPVisionConfig, *, temporal: FrosterConfig):
        super().__init__(config)
        self._zero_start = temporal.temporal_entries[0].zero_start
        insert_temporal_module(self, temporal)
        use_one_pass_mlps(self)
        # What must not be split over devices: the tower's blocks and embeddings, whichever they are now.
        self._no_split_modules = [type(part).__name__ for part in (self.embeddings, *self.encoder.layers[:1])]
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        for name in self._zero_start:
            part = getattr(module, name, None)
            for parameter in part.parameters() if isinstance(part, nn.Module) else [part]:
                if parameter is not None:
                    init.zeros_(parameter)

    def embed(self, pixel_values: torch.Tensor, *, interpolate_pos_encoding: bool = False, **kwargs) -> torch.Tensor:
        """The `pooler_output` of this model alone: the last block is evaluated at the class token.

        Exact: no other token's output is read, while its keys and values are.

        Args:
            pixel_values: (B*T, 3, S, S), or (B, T, 3, S, S) for a temporal module in place of the embeddings.
            interpolate_pos_encoding: take other sizes than the tower's.
            kwargs: keywords of the blocks, such as `num_frames`.

        Returns:
            (B*T, W), or (B, W) where a clip is one sequence.
        """
        hidden_states = self.embeddings(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        hidden_states = self.pre_layrnorm(hidden_states)
        *layers, last = self.encoder.layers
        for layer in layers:
            hidden_states = layer(hidden_states, None, **kwargs)
        return self.post_layernorm(read_first_tokens(last, hidden_states, 1, **kwargs)[:, 0])


def reads_class_token(tower: nn.Module) -> bool:
    """Whether a vision tower is CLIP's around its blocks, whose class token is all that is read of the last one."""
    return isinstance(tower, FrosterVisionModel) and isinstance(tower, CLIPVisionModel)


def build_vision_model(config: FrosterConfig) -> FrosterVisionModel:
    """The vision tower of `config.backbone` with `config.temporal_module`, with freshly drawn weights."""
    base = find_implementation(config.backbone_entry.vision_model, transformers)
    return on_backbone(FrosterVisionModel, base)._from_config(config.vision_config, temporal=config)


for _entry in TEMPORAL_MODULES.values():
    find_implementation(_entry.implementation, globals())
