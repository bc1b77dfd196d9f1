"""Rows: one original name, one of ours, and the change of storage between them; and those that code bases share.

The original code bases (CLIP, Open-VCLIP, FROSTER, ActionCLIP, ViFi-CLIP) share OpenAI's names, each under prefixes
of its own; `FrosterModel` has the names of transformers' `CLIPModel` and adds the temporal parts. A layout's prefixes
lead to OpenAI's names; a row says which of those becomes which of ours and how its storage changes. `state_dicts.py`
applies both, in both directions.

In a row `{i}` stands for a layer number, and `{qkv}` for the three names q, k and v that one original tensor holds
stacked along its first axis.
"""

from typing import Literal, NamedTuple

Operation = Literal["same", "transpose", "split_qkv", "drop_last_axis", "drop_last_two_axes"]
"""How the original tensor becomes ours.

* `same`: unchanged.
* `transpose`: OpenAI multiplies from the right, `x @ projection` with (W, D); a Linear holds (D, W).
* `split_qkv`: (3W, ...) becomes three times (W, ...).
* `drop_last_axis`: a 2-D convolution over (frames, 1), (C, 1, 3, 1), becomes a 1-D one, (C, 1, 3).
* `drop_last_two_axes`: a 1x1 convolution, (C, W, 1, 1), becomes a Linear, (C, W).
"""

Part = Literal["model", "pooling", "teacher", "projectors"]
"""What a tensor belongs to: the towers and their temporal module, the pooling, the frozen teacher, the projectors."""


class Prefix(NamedTuple):
    """Names of a layout that begin with `original` belong to `part`; `common` replaces the prefix."""

    original: str
    part: Part
    common: str


class Row(NamedTuple):
    """One original name, our name, and the change of storage between them."""

    original: str
    ours: str
    operation: Operation = "same"


def with_bias(original: str, ours: str, operation: Operation = "same") -> tuple[Row, Row]:
    """The rows of a weight and of its bias, which changes only where it is split."""
    bias_operation: Operation = "split_qkv" if operation == "split_qkv" else "same"
    return (
        Row(f"{original}.weight", f"{ours}.weight", operation),
        Row(f"{original}.bias", f"{ours}.bias", bias_operation),
    )


def _attention(original: str, ours: str) -> tuple[Row, ...]:
    return (
        Row(f"{original}.in_proj_weight", f"{ours}.{{qkv}}_proj.weight", "split_qkv"),
        Row(f"{original}.in_proj_bias", f"{ours}.{{qkv}}_proj.bias", "split_qkv"),
        *with_bias(f"{original}.out_proj", f"{ours}.out_proj"),
    )


def block(original: str, ours: str) -> tuple[Row, ...]:
    """A pre-norm transformer block of CLIP; `mlp.gelu` holds nothing."""
    return (
        *_attention(f"{original}.attn", f"{ours}.self_attn"),
        *with_bias(f"{original}.ln_1", f"{ours}.layer_norm1"),
        *with_bias(f"{original}.mlp.c_fc", f"{ours}.mlp.fc1"),
        *with_bias(f"{original}.mlp.c_proj", f"{ours}.mlp.fc2"),
        *with_bias(f"{original}.ln_2", f"{ours}.layer_norm2"),
    )


def _bottleneck(original: str, ours: str) -> tuple[Row, ...]:
    """The adapter of AIM and AdaptFormer: Linear, GELU, Linear in an `nn.Sequential`."""
    return (
        *with_bias(f"{original}.adapter.0", f"{ours}.down_proj"),
        *with_bias(f"{original}.adapter.2", f"{ours}.up_proj"),
    )


VISION_LAYER = ("visual.transformer.resblocks.{i}", "vision_model.encoder.layers.{i}")
TEXT_LAYER = ("transformer.resblocks.{i}", "text_model.encoder.layers.{i}")

VISION_TOWER: tuple[Row, ...] = (
    Row("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    Row("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    Row("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    # transformers spells it so.
    *with_bias("visual.ln_pre", "vision_model.pre_layrnorm"),
    *block(*VISION_LAYER),
    *with_bias("visual.ln_post", "vision_model.post_layernorm"),
    Row("visual.proj", "visual_projection.weight", "transpose"),
)

TEXT_TOWER: tuple[Row, ...] = (
    Row("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    Row("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    *block(*TEXT_LAYER),
    *with_bias("ln_final", "text_model.final_layer_norm"),
    Row("text_projection", "text_projection.weight", "transpose"),
)

CLIP: tuple[Row, ...] = (*VISION_TOWER, *TEXT_TOWER, Row("logit_scale", "logit_scale"))

_V, _O = VISION_LAYER

MODULE_ROWS: dict[str, tuple[Row, ...]] = {
    "st_adapter": (
        *with_bias(f"{_V}.stadapt_down_1", f"{_O}.st_adapter.down_proj", "drop_last_two_axes"),
        *with_bias(f"{_V}.stadapt_conv3d_1", f"{_O}.st_adapter.conv", "drop_last_axis"),
        *with_bias(f"{_V}.stadapt_up_1", f"{_O}.st_adapter.up_proj", "drop_last_two_axes"),
    ),
    "aim": (
        *_bottleneck(f"{_V}.t_adapter", f"{_O}.temporal_adapter"),
        *_bottleneck(f"{_V}.s_adapter", f"{_O}.spatial_adapter"),
        *_bottleneck(f"{_V}.ffn_adapter", f"{_O}.mlp_adapter"),
    ),
    "adaptformer": _bottleneck(f"{_V}.ffn_adapter", f"{_O}.mlp_adapter"),
    "cross_frame": (
        *with_bias(f"{_V}.message_fc", f"{_O}.message_proj"),
        *with_bias(f"{_V}.message_ln", f"{_O}.message_norm"),
        *_attention(f"{_V}.message_attn", f"{_O}.message_attn"),
    ),
    "joint": (Row("visual.time_embedding", "vision_model.embeddings.time_embedding"),),
}
"""Temporal modules that have weights, each known by its first row; AIM has AdaptFormer's rows too and comes first."""

IDENTITY: tuple[Row, ...] = tuple(
    Row(name, name)
    for row in CLIP
    for name in (row.ours.replace("{qkv}", letter) for letter in "qkv"[: 3 if "{qkv}" in row.ours else 1])
)
"""CLIP under transformers' names."""
