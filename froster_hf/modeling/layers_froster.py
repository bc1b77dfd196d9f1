"""Layers: what the blocks of CLIP's towers do with less work, and the heads behind the two towers.

Less work, the same numbers but for rounding: MLPs with one pass over memory, texts that share the work of their
beginnings. The last block where it is read is `temporal_froster`'s for frames, and here for texts.

Heads: temporal poolings make one video embedding of the frame embeddings of a clip; all but `mean` are ActionCLIP's
post-network prompts (Wang et al., 2021), on the frame embeddings as projected, not normalized. The distillation
projectors are FROSTER's (section 3.3); then the losses.

Letters: B videos, T frames, W width, K classes, P prompts per class, L text tokens, D the joint embedding width.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import _has_any_global_hook as has_any_global_hook
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedModel
from transformers import initialization as init
from transformers.activations import QuickGELUActivation
from transformers.masking_utils import create_causal_mask
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention, CLIPEncoderLayer
from transformers.utils.output_capturing import capture_outputs

from .configuration_froster import CLASS_TOKEN_INNER_WIDTH, RECORDED_OUTPUTS, FrosterConfig
from .tables_froster import TEMPORAL_POOLINGS, find_implementation

# The label of clips that do not count.
IGNORED_LABEL = -100
ProjectorKind = Literal["residual", "mlp"]

QUICK_GELU_SCALE = 1.702
# As many as a product needs to be at its fastest; their inner activations are 12 MB for ViT-B.
ROWS_IN_ONE_PASS = 1024


class OnePassMLP(CLIPMLP):
    """CLIP's MLP with one pass over memory between its two products, where QuickGELU takes three.

        x sigmoid(1.702 x) = silu(1.702 x) / 1.702

    and the products multiply with both factors at no cost. Without gradients, rows go through in pieces, so that the
    wide activations of one piece are all that is held; with them, one tensor of that width is kept for the backward
    pass in place of three. Equal to CLIP's but for rounding.

    It is for single and double precision on a CPU. Elsewhere, and where the layers are others (adapters,
    quantization), have hooks, or are compiled or exported, the MLP is CLIP's own.
    """

    def __init__(self, mlp: CLIPMLP):
        # The parts of an MLP that is there already, so that no random numbers are drawn for others.
        nn.Module.__init__(self)
        self.config, self.activation_fn, self.fc1, self.fc2 = mlp.config, mlp.activation_fn, mlp.fc1, mlp.fc2

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., W) to (..., W)."""
        if not self._takes(hidden_states):
            return super().forward(hidden_states)
        rows = hidden_states.reshape(-1, hidden_states.shape[-1])
        layers = (self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (rows, *layers)):
            output, _ = ScaledSiluMLP.apply(rows, *layers)
            return output.view_as(hidden_states)
        weight1, bias1, weight2, bias2 = layers
        output = torch.empty_like(rows)
        inner = rows.new_empty(min(ROWS_IN_ONE_PASS, len(rows)), len(bias1))
        for given, result in zip(rows.split(ROWS_IN_ONE_PASS), output.split(ROWS_IN_ONE_PASS)):
            part = inner[: len(given)]
            torch.addmm(bias1, given, weight1.t(), beta=QUICK_GELU_SCALE, alpha=QUICK_GELU_SCALE, out=part)
            torch.addmm(bias2, F.silu(part, inplace=True), weight2.t(), alpha=1 / QUICK_GELU_SCALE, out=result)
        return output.view_as(hidden_states)

    def _takes(self, hidden_states: torch.Tensor) -> bool:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
            return False
        layers = (self.fc1, self.fc2)
        return (
            type(hidden_states) is torch.Tensor
            and hidden_states.device.type == "cpu"
            and hidden_states.dtype in (torch.float32, torch.float64)
            and isinstance(self.activation_fn, QuickGELUActivation)
            and all(type(layer) is nn.Linear for layer in layers)
            and all(type(tensor) is nn.Parameter for layer in layers for tensor in (layer.weight, layer.bias))
            and all(layer.weight.dtype == hidden_states.dtype for layer in layers)
            and not any(map(is_watched, (*layers, self.activation_fn)))
        )


class ScaledSiluMLP(torch.autograd.Function):
    """[`OnePassMLP`] with gradients: rows (M, W), weights and biases to (M, W), and the (M, 4W) that are kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows, weight1, bias1, weight2, bias2):
        """See [`torch.autograd.Function`]."""
        inner = torch.addmm(bias1, rows, weight1.t(), beta=QUICK_GELU_SCALE, alpha=QUICK_GELU_SCALE)
        return torch.addmm(bias2, F.silu(inner), weight2.t(), alpha=1 / QUICK_GELU_SCALE), inner

    @staticmethod
    def setup_context(ctx, inputs, output):
        """See [`torch.autograd.Function`]."""
        rows, weight1, bias1, weight2, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(rows, weight1, bias1, weight2, output[1])

    @staticmethod
    def backward(ctx, gradient, _):
        """See [`torch.autograd.Function`]."""
        rows, weight1, bias1, weight2, inner = ctx.saved_tensors
        needs_rows, needs_weight1, needs_bias1, needs_weight2, needs_bias2 = ctx.needs_input_grad
        # Of x, where `inner` is 1.702 x: the factors before and behind SiLU cancel.
        of_x = gradient @ weight2
        if torch.is_grad_enabled():
            # The gradient has a gradient: as formulas, from what `inner` was made of.
            inner = QUICK_GELU_SCALE * F.linear(rows, weight1, bias1)
            gate = inner.sigmoid()
            of_x = of_x * gate * (1 + inner * (1 - gate))
        else:
            of_x = torch.ops.aten.silu_backward(of_x, inner)
        return (
            of_x @ weight1 if needs_rows else None,
            of_x.t() @ rows if needs_weight1 else None,
            of_x.sum(0) if needs_bias1 else None,
            gradient.t() @ F.silu(inner) / QUICK_GELU_SCALE if needs_weight2 else None,
            gradient.sum(0) if needs_bias2 else None,
        )


def use_one_pass_mlps(tower: Any) -> None:
    """Replace the MLPs of a CLIP tower, which keep their parameters and names; others are left as they are."""
    for layer in tower.encoder.layers:
        if type(layer.mlp) is CLIPMLP:
            layer.mlp = OnePassMLP(layer.mlp)


def computes_embeds_alone(tower: PreTrainedModel, options: Mapping[str, Any]) -> bool:
    """Whether what a tower is read at may be computed alone, since nothing else of it is asked for.

    It may not where hidden states or attentions are asked for, by these options of its `forward` or by its
    configuration, nor where modules have hooks or a replaced `forward`, which would not see what they expect.
    """
    return not records_outputs(tower, options) and not any(map(is_watched, tower.modules()))


def records_outputs(tower: PreTrainedModel, options: Mapping[str, Any]) -> bool:
    """Whether hidden states or attentions of a tower are asked for."""
    return any(options.get(name, getattr(tower.config, name, None)) for name in RECORDED_OUTPUTS)


def is_watched(module: nn.Module) -> bool:
    """Whether a call of a module does more than its `forward`: it has hooks, or another `forward` than its class.

    The hooks by which transformers records outputs do not count: they are asleep until asked.
    """
    return (
        has_any_global_hook()
        or "forward" in vars(module)
        or bool(module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)
        or any(hook.__module__ != capture_outputs.__module__ for hook in module._forward_hooks.values())
    )


@dataclass(frozen=True)
class SharedBeginnings:
    """Texts whose tokens are computed once for all that begin alike; the text tower is causal.

        a video of juggling <end>          a  video  of  juggling  <end>
        a video of surfing <end>                         surfing   <end>       7 nodes for 10 tokens
        a video of surfing <end>                                               the same text: no node

    A *node* is a token with all that stands before it. Queries are asked by *rows*: pieces of a text's own nodes, all
    equally wide; a row sees the whole text, so a node's keys and values are laid out once for each row that sees it.

    Args:
        tokens: (M,), ids of the nodes.
        positions: (M,), in their texts.
        paths: (R, L), the nodes of each row's text, in order.
        queries: (R, S), the nodes that ask.
        sees: (R, 1, S, L), which nodes of the row's text stand before or at the asking one.
        places: (M,), where in the R * S queries a node stands.
        texts: (n, L), the nodes of each text, in order.
        ends: (n,), positions of the end tokens.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    paths: torch.Tensor
    queries: torch.Tensor
    sees: torch.Tensor
    places: torch.Tensor
    texts: torch.Tensor
    ends: torch.Tensor

    def to(self, device: torch.device) -> "SharedBeginnings":
        """On another device."""
        return SharedBeginnings(**{entry.name: getattr(self, entry.name).to(device) for entry in fields(self)})


def is_plain_text_tower(tower: Any) -> bool:
    """Whether a text tower is CLIP's in all of its blocks, as the functions below write them out."""
    return type(tower) is CLIPTextModel and all(
        type(layer) is CLIPEncoderLayer and type(layer.self_attn) is CLIPAttention for layer in tower.encoder.layers
    )


def sort_by_beginning(input_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The order (n,) in which texts (n, L) that begin alike stand together."""
    ids = np.where(np.arange(input_ids.shape[1]) < lengths[:, None], input_ids, -1)
    return np.lexsort(ids[:, : lengths.max()].T[::-1])


def share_beginnings(input_ids: np.ndarray, lengths: np.ndarray) -> SharedBeginnings:
    """Lay out texts for `embed_shared_texts`.

    Args:
        input_ids: (n, L), in the order of `sort_by_beginning`.
        lengths: (n,), tokens of each text.
    """
    num_texts, width = len(lengths), int(lengths.max())
    places = np.arange(width)
    ids = np.where(places < lengths[:, None], input_ids[:, :width], -1)
    alike = np.zeros((num_texts, width), bool)
    alike[1:] = np.logical_and.accumulate(ids[1:] == ids[:-1], axis=1)
    shared = np.minimum(alike.sum(1), lengths)
    own = lengths - shared
    first_node = np.concatenate([[0], own.cumsum()])
    # The text whose node a token is: the last one, up to this text, that did not share so much with the one before it.
    owner = np.where(shared[:, None] <= places, np.arange(num_texts)[:, None], 0)
    owner = np.maximum.accumulate(owner, axis=0)
    texts = np.where(places < lengths[:, None], first_node[owner] + places - shared[owner], 0)

    # Each row has the whole path of its text, of which a long one may not have many among short ones.
    step = max(1, int(np.median(own[own > 0])), int(own.max()) // 4)
    rows = -(-own // step)
    text_of_row = np.repeat(np.arange(num_texts), rows)
    piece = np.arange(rows.sum()) - np.repeat(rows.cumsum() - rows, rows)
    asking = (shared[text_of_row] + piece * step)[:, None] + np.arange(step)  # positions, (R, S)
    is_node = asking < lengths[text_of_row, None]
    asking = np.where(is_node, asking, 0)
    is_own = (shared[:, None] <= places) & (places < lengths[:, None])
    nodes = np.nonzero(is_own)
    return SharedBeginnings(
        tokens=torch.from_numpy(input_ids[nodes]),
        positions=torch.from_numpy(nodes[1]),
        paths=torch.from_numpy(texts[text_of_row]),
        queries=torch.from_numpy(texts[text_of_row[:, None], asking]),
        sees=torch.from_numpy(places <= asking[:, :, None])[:, None],
        places=torch.from_numpy(np.flatnonzero(is_node)),
        texts=torch.from_numpy(texts),
        ends=torch.from_numpy(lengths - 1),
    )


def embed_shared_texts(tower: CLIPTextModel, texts: SharedBeginnings) -> torch.Tensor:
    """The `pooler_output` (n, W) of a text tower for texts that share their beginnings.

    Exact: a token's output depends on what stands before it alone, and only the end token's is read, so that the last
    block is evaluated there alone.
    """
    embeddings = tower.embeddings
    nodes = embeddings.token_embedding(texts.tokens) + embeddings.position_embedding(texts.positions)
    layers: Any = tower.encoder.layers[:-1]
    for layer in layers:
        normed = layer.layer_norm1(nodes)
        queries = layer.self_attn.q_proj(normed)[texts.queries]
        attended = _attend_to_paths(layer.self_attn, queries, normed, texts.paths, texts.sees)
        nodes = nodes + layer.self_attn.out_proj(attended.flatten(0, 1)[texts.places])
        nodes = nodes + layer.mlp(layer.layer_norm2(nodes))
    return _read_ends(tower, nodes, texts.texts, texts.ends)


def embed_texts(tower: CLIPTextModel, input_ids: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """The `pooler_output` (n, W) of a text tower for ids (n, L) with end tokens at (n,); see `embed_shared_texts`."""
    hidden_states = tower.embeddings(input_ids=input_ids)
    mask = create_causal_mask(
        config=tower.config, inputs_embeds=hidden_states, attention_mask=None, past_key_values=None
    )
    for layer in tower.encoder.layers[:-1]:
        hidden_states = layer(hidden_states, mask, is_causal=True)
    texts = torch.arange(input_ids.numel(), device=input_ids.device).view_as(input_ids)
    return _read_ends(tower, hidden_states.flatten(0, 1), texts, ends)


def _read_ends(tower: CLIPTextModel, nodes: torch.Tensor, texts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """The last block and norm at the end tokens alone: nodes (M, W), the nodes of each text (n, L), ends (n,)."""
    last: Any = tower.encoder.layers[-1]
    sees = torch.arange(texts.shape[1], device=ends.device) <= ends[:, None]
    reads = texts.gather(1, ends[:, None])
    normed = last.layer_norm1(nodes)
    attended = _attend_to_paths(
        last.self_attn, last.self_attn.q_proj(normed[reads]), normed, texts, sees[:, None, None]
    )
    pooled = nodes[reads[:, 0]] + last.self_attn.out_proj(attended[:, 0])
    return tower.final_layer_norm(pooled + last.mlp(last.layer_norm2(pooled)))


def split_heads(projected: torch.Tensor, attention: CLIPAttention) -> torch.Tensor:
    """Queries, keys or values of an attention as its kernels take them: (B, n, W) to (B, H, n, d)."""
    return projected.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)


def _attend_to_paths(
    attention: CLIPAttention, queries: torch.Tensor, normed: torch.Tensor, paths: torch.Tensor, sees: torch.Tensor
) -> torch.Tensor:
    """Queries (R, S, W) against the keys and values of the nodes (M, W) along paths (R, L): (R, S, W)."""
    output = F.scaled_dot_product_attention(
        split_heads(queries, attention),
        split_heads(attention.k_proj(normed)[paths], attention),
        split_heads(attention.v_proj(normed)[paths], attention),
        attn_mask=sees,
        dropout_p=float(attention.dropout or 0.0) if attention.training else 0.0,
        scale=attention.scale,
    )
    return output.transpose(1, 2).flatten(2)


class MeanPooling(nn.Module):
    """The mean over the frames."""

    def __init__(self, config: FrosterConfig):
        super().__init__()

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        return frame_embeds.mean(dim=1)


class SpecializationPooling(nn.Module):
    """v + P(v), normalized, for the mean v of the frames: TACO's specialization projection.

    P is two linear layers without an activation between them, D to 2D to D; the second starts at zero. Added to every
    frame, as TACO writes it, P(v) has the same mean.
    """

    def __init__(self, config: FrosterConfig):
        super().__init__()
        width = config.projection_dim
        self.expand = nn.Linear(width, 2 * width)
        self.reduce = nn.Linear(2 * width, width)

    def init_own_weights(self) -> None:
        """TACO's start; called after transformers has drawn all layers."""
        init.kaiming_uniform_(self.expand.weight, a=math.sqrt(5))
        init.zeros_(self.reduce.weight)
        init.zeros_(self.reduce.bias)

    def forward(self, frame_embeds: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, D)."""
        mean = frame_embeds.mean(dim=1)
        return to_unit_length(mean + self.reduce(self.expand(mean)))


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

    def init_own_weights(self) -> None:
        """ActionCLIP's start, the shift; called after transformers has drawn all layers."""
        weight = torch.zeros(self.conv.weight.shape)
        quarter = weight.shape[0] // 4
        weight[:quarter, 0, 0] = 1.0
        weight[quarter:-quarter, 0, 1] = 1.0
        weight[-quarter:, 0, 2] = 1.0
        init.copy_(self.conv.weight, weight)

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


class PackedAttention(nn.Module):
    """`torch.nn.MultiheadAttention` of a sequence to itself, with its parameters and their names.

    PyTorch's own reads the weights of its linear layers past their modules, and so past what is put on these (LoRA).
    """

    def __init__(self, width: int, *, num_heads: int, dropout: float):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"The pooling's width {width} is not a multiple of its {num_heads} attention heads.")
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def init_own_weights(self) -> None:
        """PyTorch's start; called after transformers has drawn all layers."""
        init.xavier_uniform_(self.in_proj_weight)
        init.zeros_(self.in_proj_bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, n, D) to (B, n, D)."""
        packed = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        queries, keys, values = packed.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class PostNormLayer(nn.Module):
    """`torch.nn.TransformerEncoderLayer` with its defaults, parameters and their names; see [`PackedAttention`]."""

    def __init__(self, width: int, *, num_heads: int):
        super().__init__()
        self.self_attn = PackedAttention(width, num_heads=num_heads, dropout=0.1)
        self.linear1 = nn.Linear(width, CLASS_TOKEN_INNER_WIDTH)
        self.linear2 = nn.Linear(CLASS_TOKEN_INNER_WIDTH, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, n, D) to (B, n, D)."""
        tokens = self.norm1(tokens + self.dropout(self.self_attn(tokens)))
        inner = self.dropout(F.relu(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(inner)))


class PostNormEncoder(nn.Module):
    """A stack of [`PostNormLayer`]s and a norm behind it."""

    def __init__(self, width: int, num_layers: int, *, num_heads: int):
        super().__init__()
        self.layers = nn.ModuleList(PostNormLayer(width, num_heads=num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, n, D) to (B, n, D)."""
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


class TransformerClassTokenPooling(nn.Module):
    """Post-norm transformer layers over a class token and the frames; the class token is the video."""

    def __init__(self, config: FrosterConfig):
        super().__init__()
        width = config.projection_dim
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.num_frames + 1, width))
        self.encoder = PostNormEncoder(width, config.pooling_num_layers, num_heads=config.pooling_num_heads or 8)

    def init_own_weights(self) -> None:
        """ActionCLIP's start; called after transformers has drawn all layers."""
        init.trunc_normal_(self.class_token, std=0.02)
        init.trunc_normal_(self.position_embedding, std=0.02)

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


def build_temporal_pooling(config: FrosterConfig) -> nn.Module:
    """The module of `config.temporal_pooling`."""
    return find_implementation(TEMPORAL_POOLINGS[config.temporal_pooling].implementation, globals())(config)


def pool_frames(pooling: nn.Module, frame_embeds: torch.Tensor, *, normalize_first: bool) -> torch.Tensor:
    """The video embedding, normalized before or after the pooling.

    Args:
        pooling: (B, T, D) to (B, D).
        frame_embeds: (B, T, D), as projected.
        normalize_first: FROSTER's order: the mean of unit vectors, which is itself shorter than a unit vector, so that
            the logits are the mean of the frames' logits. Otherwise ActionCLIP's: pool, then normalize.

    Returns:
        (B, D).
    """
    if normalize_first:
        return pooling(to_unit_length(frame_embeds))
    return to_unit_length(pooling(frame_embeds))


def to_unit_length(embeds: torch.Tensor) -> torch.Tensor:
    """Embeddings (..., D) of length 1; NaN where one has no direction, as zeros and those whose length overflows.

    `F.normalize` makes zeros of these, with which all labels have the same score.
    """
    length = torch.linalg.vector_norm(embeds, dim=-1, keepdim=True)
    return embeds / length.where((length > 0) & (length < torch.inf), torch.nan)


def average_prompts(prompt_embeds: torch.Tensor, num_prompts: int) -> torch.Tensor:
    """The mean over the prompts of each label, normalized.

    Args:
        prompt_embeds: (K*P, D), L2-normalized, all prompts of the first label first.
        num_prompts: P.

    Returns:
        (K, D).

    Raises:
        ValueError: the number of texts is not a multiple of P.
    """
    if num_prompts < 1 or prompt_embeds.shape[0] % num_prompts:
        raise ValueError(
            f"{prompt_embeds.shape[0]} texts cannot be {num_prompts} prompts for each label. Give `input_ids` "
            "of shape (labels * prompts, tokens), all prompts of the first label first, and `num_prompts`."
        )
    if num_prompts == 1:
        return prompt_embeds
    return to_unit_length(prompt_embeds.unflatten(0, (-1, num_prompts)).mean(dim=1))


class DistillationProjector(nn.Module):
    """Linear, GELU, Linear without biases; for `residual`, a small correction added to the input.

    `residual`: f + alpha * P(f). The second layer starts at zero, so that the student starts as the teacher.
    `mlp`: P(f), the paper's ablation. Its second layer is drawn: the cosine to a zero vector has no direction.
    """

    def __init__(self, width: int, *, kind: ProjectorKind, alpha: float, teacher_width: int):
        super().__init__()
        self.kind = kind
        self.alpha = alpha
        self.fc1 = nn.Linear(width, width, bias=False)
        self.fc2 = nn.Linear(width, teacher_width, bias=False)
        nn.init.kaiming_normal_(self.fc1.weight)
        if kind == "residual":
            nn.init.zeros_(self.fc2.weight)
        else:
            nn.init.kaiming_normal_(self.fc2.weight)

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        """(..., D) to (..., D of the teacher)."""
        projected = self.fc2(F.gelu(self.fc1(embeds)))
        return embeds + self.alpha * projected if self.kind == "residual" else projected


class DistillationProjectors(nn.Module):
    """One projector for frame embeddings and one for text embeddings, of the student.

    They are part of the model while it is trained, so that distributed wrappers, optimizers and checkpoints see them
    as any other parameter, and are left behind when the model is saved for inference.

    Args:
        width: D, the student's embedding width.
        kind: `residual` or `mlp`.
        alpha: weight of the correction; `residual` only. The paper's is 0.1.
        teacher_width: the teacher's embedding width; `residual` needs it to be the student's.
    """

    def __init__(self, width: int, *, kind: ProjectorKind, alpha: float = 0.1, teacher_width: int | None = None):
        super().__init__()
        teacher_width = width if teacher_width is None else teacher_width
        if kind not in ("residual", "mlp"):
            raise ValueError(f"`kind` is {kind!r}; a projector is 'residual' or 'mlp'.")
        if kind == "residual" and teacher_width != width:
            raise ValueError(
                f"A residual projector adds to the student's embedding, so both widths must be equal; the student's "
                f"is {width} and the teacher's {teacher_width}. Use kind='mlp', which maps between widths."
            )
        self.video = DistillationProjector(width, kind=kind, alpha=alpha, teacher_width=teacher_width)
        self.text = DistillationProjector(width, kind=kind, alpha=alpha, teacher_width=teacher_width)


def check_labels(labels: torch.Tensor, num_labels: int, *, multi_label: bool) -> None:
    """Indices (B,) into the label list, or -100 for clips that do not count; (B, K) floats of a multi-label problem.

    Labels on a GPU are not read back: there, the loss kernel itself stops on an index out of range.

    Args:
        labels: to be checked.
        num_labels: K, the length of the label list.
        multi_label: whether each label is a problem of its own.

    Raises:
        ValueError: another shape or dtype than the problem has, or an index out of range.
    """
    has_shape = labels.ndim == 2 and labels.shape[1] == num_labels if multi_label else labels.ndim == 1
    if not has_shape or labels.is_floating_point() != multi_label or labels.dtype == torch.bool:
        told = f"`labels` has shape {tuple(labels.shape)} and dtype {labels.dtype}, but `config.problem_type` is "
        if multi_label:
            told += (
                f"'multi_label_classification': expected floats (videos, {num_labels}), 1 for every label that holds."
            )
        else:
            told += "'single_label_classification': expected integers (videos,). For several labels per video, set "
            told += "`config.problem_type` to 'multi_label_classification' and give floats (videos, labels)."
        raise ValueError(told)
    if multi_label or labels.device.type != "cpu" or torch.compiler.is_compiling() or labels.numel() == 0:
        return
    if labels.max() >= num_labels or (labels < 0).logical_and(labels != IGNORED_LABEL).any():
        raise ValueError(
            f"`labels` holds indices from {int(labels.min())} to {int(labels.max())}, but there are {num_labels} "
            f"labels: indices go from 0 to {num_labels - 1}."
        )


def classification_loss(logits: torch.Tensor, labels: torch.Tensor, *, problem_type: str | None) -> torch.Tensor:
    """Cross-entropy over the label list, or the mean of the labels' binary cross-entropies.

    Not transformers' `loss_function`: it reshapes by `config.num_labels`, which an open vocabulary does not have.

    Args:
        logits: (B, K).
        labels: (B,) indices, or (B, K) floats of a multi-label problem.
        problem_type: problem type of the configuration; `None` is a single label per video.

    Raises:
        ValueError: a regression, or labels that are not those of the problem.
    """
    if problem_type == "regression":
        raise ValueError(
            "`config.problem_type` is 'regression', which labels that are texts do not have. Set it to "
            "'single_label_classification' or 'multi_label_classification'."
        )
    multi_label = problem_type == "multi_label_classification"
    check_labels(labels, logits.shape[1], multi_label=multi_label)
    labels = labels.to(logits.device)
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels.long())


def pairwise_sigmoid_loss(logits: torch.Tensor) -> torch.Tensor:
    """SigLIP's loss for (n, n) logits whose diagonal holds the pairs: a binary cross-entropy for each of the n * n.

    Summed over the texts and averaged over the videos, as in the paper (Zhai et al., 2023, equation 1).
    """
    targets = torch.eye(logits.shape[0], device=logits.device, dtype=logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.shape[0]


def contrastive_loss(logits: torch.Tensor) -> torch.Tensor:
    """CLIP's loss for (n, n) logits whose diagonal holds the pairs: cross-entropy over rows and over columns."""
    targets = torch.arange(logits.shape[0], device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


for _entry in TEMPORAL_POOLINGS.values():
    find_implementation(_entry.implementation, globals())
