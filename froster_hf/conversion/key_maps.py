"""Names of the original checkpoints beside names of `FrosterModel`, as tables.

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


Layout = Literal["froster", "openai", "actionclip", "vificlip", "transformers"]
"""Whose names a state dict has.

* `froster`: FROSTER and Open-VCLIP: `model.`; in some files also `raw_model.`, `projector_v.` and `projector_t.`.
* `openai`: OpenAI's CLIP, without a prefix.
* `actionclip`: OpenAI's names without a prefix, and the temporal head, here under `fusion_model.`.
* `vificlip`: `image_encoder.`, `text_encoder.`; without the token embedding, which that code neither trains nor saves.
* `transformers`: the names of `CLIPModel`, which are ours.
"""

Part = Literal["model", "pooling", "teacher", "projectors"]
"""What a tensor belongs to: the towers and their temporal module, the pooling, the frozen teacher, the projectors."""


class Prefix(NamedTuple):
    """Names of a layout that begin with `original` belong to `part`; `common` replaces the prefix."""

    original: str
    part: Part
    common: str


PREFIXES: dict[Layout, tuple[Prefix, ...]] = {
    "froster": (
        Prefix("model.", "model", ""),
        Prefix("raw_model.", "teacher", ""),
        Prefix("projector_", "projectors", "projector_"),
    ),
    "openai": (Prefix("", "model", ""),),
    "actionclip": (Prefix("fusion_model.", "pooling", ""), Prefix("", "model", "")),
    "vificlip": (
        Prefix("image_encoder.", "model", "visual."),
        Prefix("logit_scale", "model", "logit_scale"),
        Prefix("text_encoder.", "model", ""),
    ),
    "transformers": (Prefix("", "model", ""),),
}
"""The first prefix that fits decides, in both directions."""


class Row(NamedTuple):
    """One original name, our name, and the change of storage between them."""

    original: str
    ours: str
    operation: Operation = "same"


def _with_bias(original: str, ours: str, operation: Operation = "same") -> tuple[Row, Row]:
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
        *_with_bias(f"{original}.out_proj", f"{ours}.out_proj"),
    )


def _block(original: str, ours: str) -> tuple[Row, ...]:
    """A pre-norm transformer block of CLIP; `mlp.gelu` holds nothing."""
    return (
        *_attention(f"{original}.attn", f"{ours}.self_attn"),
        *_with_bias(f"{original}.ln_1", f"{ours}.layer_norm1"),
        *_with_bias(f"{original}.mlp.c_fc", f"{ours}.mlp.fc1"),
        *_with_bias(f"{original}.mlp.c_proj", f"{ours}.mlp.fc2"),
        *_with_bias(f"{original}.ln_2", f"{ours}.layer_norm2"),
    )


def _bottleneck(original: str, ours: str) -> tuple[Row, ...]:
    """The adapter of AIM and AdaptFormer: Linear, GELU, Linear in an `nn.Sequential`."""
    return (
        *_with_bias(f"{original}.adapter.0", f"{ours}.down_proj"),
        *_with_bias(f"{original}.adapter.2", f"{ours}.up_proj"),
    )


VISION_LAYER = ("visual.transformer.resblocks.{i}", "vision_model.encoder.layers.{i}")
TEXT_LAYER = ("transformer.resblocks.{i}", "text_model.encoder.layers.{i}")

VISION_TOWER: tuple[Row, ...] = (
    Row("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    Row("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    Row("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    # transformers spells it so.
    *_with_bias("visual.ln_pre", "vision_model.pre_layrnorm"),
    *_block(*VISION_LAYER),
    *_with_bias("visual.ln_post", "vision_model.post_layernorm"),
    Row("visual.proj", "visual_projection.weight", "transpose"),
)

TEXT_TOWER: tuple[Row, ...] = (
    Row("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    Row("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    *_block(*TEXT_LAYER),
    *_with_bias("ln_final", "text_model.final_layer_norm"),
    Row("text_projection", "text_projection.weight", "transpose"),
)

CLIP: tuple[Row, ...] = (*VISION_TOWER, *TEXT_TOWER, Row("logit_scale", "logit_scale"))

_V, _O = VISION_LAYER

TEMPORAL_MODULES: dict[str, tuple[Row, ...]] = {
    "st_adapter": (
        *_with_bias(f"{_V}.stadapt_down_1", f"{_O}.st_adapter.down_proj", "drop_last_two_axes"),
        *_with_bias(f"{_V}.stadapt_conv3d_1", f"{_O}.st_adapter.conv", "drop_last_axis"),
        *_with_bias(f"{_V}.stadapt_up_1", f"{_O}.st_adapter.up_proj", "drop_last_two_axes"),
    ),
    "aim": (
        *_bottleneck(f"{_V}.t_adapter", f"{_O}.temporal_adapter"),
        *_bottleneck(f"{_V}.s_adapter", f"{_O}.spatial_adapter"),
        *_bottleneck(f"{_V}.ffn_adapter", f"{_O}.mlp_adapter"),
    ),
    "adaptformer": _bottleneck(f"{_V}.ffn_adapter", f"{_O}.mlp_adapter"),
    "cross_frame": (
        *_with_bias(f"{_V}.message_fc", f"{_O}.message_proj"),
        *_with_bias(f"{_V}.message_ln", f"{_O}.message_norm"),
        *_attention(f"{_V}.message_attn", f"{_O}.message_attn"),
    ),
    "joint": (Row("visual.time_embedding", "vision_model.embeddings.time_embedding"),),
}
"""Temporal modules that have weights, each known by its first row; AIM has AdaptFormer's rows too and comes first."""

TEMPORAL_POOLINGS: dict[str, tuple[Row, ...]] = {
    "lstm": tuple(
        Row(f"lstm_visual.{name}_l0", f"temporal_pooling.lstm.{name}_l0")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ),
    "conv1d": (Row("shift.weight", "temporal_pooling.conv.weight"),),
    "transformer": (
        *_block("transformer.resblocks.{i}", "temporal_pooling.layers.{i}"),
        Row("frame_position_embeddings.weight", "temporal_pooling.position_embedding.weight"),
    ),
    "transformer_cls": (
        Row("transformer.cls_token", "temporal_pooling.class_token"),
        Row("transformer.pos_embed", "temporal_pooling.position_embedding"),
        *(
            Row(f"transformer.transformer_enc.{name}", f"temporal_pooling.encoder.{name}")
            for name in (
                *(
                    f"layers.{{i}}.{part}"
                    for part in (
                        "self_attn.in_proj_weight",
                        "self_attn.in_proj_bias",
                        "self_attn.out_proj.weight",
                        "self_attn.out_proj.bias",
                        "linear1.weight",
                        "linear1.bias",
                        "linear2.weight",
                        "linear2.bias",
                        "norm1.weight",
                        "norm1.bias",
                        "norm2.weight",
                        "norm2.bias",
                    )
                ),
                "norm.weight",
                "norm.bias",
            )
        ),
    ),
}
"""ActionCLIP's post-network heads, named as in its fusion model, each known by its first row."""

IDENTITY: tuple[Row, ...] = tuple(
    Row(name, name)
    for row in CLIP
    for name in (row.ours.replace("{qkv}", letter) for letter in "qkv"[: 3 if "{qkv}" in row.ours else 1])
)
"""CLIP under transformers' names."""

PROJECTORS: tuple[Row, ...] = tuple(
    Row(f"projector_{short}.{position}.weight", f"distillation_projectors.{name}.{layer}.weight")
    for short, name in (("v", "video"), ("t", "text"))
    for position, layer in ((0, "fc1"), (2, "fc2"))
)
"""FROSTER's residual projectors, used in training only."""

DROPPED: dict[str, str] = {
    r"n_averaged": "the number of checkpoints that were averaged",
    r"input_resolution|context_length|vocab_size": "a number that the shapes of the weights say already",
    r"(text_model|vision_model)\.embeddings\.position_ids": "the constant 0, 1, 2, ... of older transformers releases",
    r"fusion_model\.frame_position_embeddings\.weight": "created for every head, read by Transf only",
    r"prompt_learner\.(complete_text_embeddings|token_prefix|token_suffix)": (
        "the embedded label prompts of one data set; prompts are encoded anew"
    ),
}
"""Regular expressions of original names that carry no weight of the model, and why each may be left out."""

UNSUPPORTED: dict[str, str] = {
    r"(model\.|image_encoder\.)?(visual\.)?layer1\.0\.conv1\.weight": (
        "has a ResNet image tower; only CLIP's vision transformers can be converted"
    ),
    r"visual\.transformer\.resblocks\.\d+\.net\..*": (
        "is an ActionCLIP model with the in-network shift, which shifts the residual stream of every block; this "
        "package shifts keys and values instead (channel_shift), so the outputs could not be reproduced"
    ),
    r".*\bVPT(_shallow)?": "holds the learned prompt tokens of ViFi-CLIP's second stage, which this package lacks",
    r".*\.(experts_head|experts_tail|routing\d)\..*": "has mixture-of-experts layers, which this package lacks",
}
"""Regular expressions of names that tell an architecture which this package does not have, and what it is."""

RUN_CONFIGURATION_MODULES: dict[str | None, tuple[str, int | None]] = {
    None: ("none", None),
    "expand_temporal_view": ("local_attention", 1),
    "expand_temporal_view_step2": ("local_attention", 2),
    "expand_temporal_view_step3": ("local_attention", 3),
    "channel_shift": ("channel_shift", None),
    "cross_frame_attend": ("cross_frame", None),
    "stadapt_zeroinit": ("st_adapter", None),
    "aim": ("aim", None),
    "adapter": ("adaptformer", None),
}
"""FROSTER's `MODEL.TEMPORAL_MODELING_TYPE` to our module and radius."""

FROSTER_LICENSE = "cc-by-nc-sa-4.0"
"""The licence of the weights that FROSTER's authors released; whatever they are converted to stays under it."""

LAYOUT_TITLES: dict[Layout, str] = {
    "froster": "FROSTER or Open-VCLIP",
    "openai": "OpenAI CLIP",
    "actionclip": "ActionCLIP",
    "vificlip": "ViFi-CLIP",
    "transformers": "CLIP of transformers",
}

SECTIONS: dict[str, str] = {
    "model_state": "",
    "model_state_dict": "",
    "fusion_model_state_dict": "fusion_model.",
    "state_dict": "",
    "model": "",
}
"""Sections of a file that hold weights, and the prefix that their names get here."""

FILE_SECTIONS: dict[Layout, tuple[tuple[str, str, str], ...]] = {
    "froster": (("model_state", "", ""),),
    "openai": (),
    # The code bases load the section into a model inside DataParallel where the third entry is `module.`.
    "actionclip": (("fusion_model_state_dict", "fusion_model.", "module."), ("model_state_dict", "", "")),
    "vificlip": (("model", "", "module."),),
}
"""For files that are written: section, prefix of the names that go there and lose it, prefix that they get."""

DEFAULT_TEMPLATES: dict[Layout, Literal["froster", "actionclip", "none"]] = {
    "froster": "froster",
    "openai": "froster",
    "actionclip": "actionclip",
    "vificlip": "none",
    "transformers": "froster",
}
"""The prompts that a layout's published checkpoints were evaluated with; FROSTER's for plain CLIP."""

NOTES: dict[str, str] = {
    "froster": "FROSTER's released weights are under CC BY-NC-SA 4.0, and so is what they are converted to.",
    "froster channel_shift": (
        "FROSTER's public code scrambles the axes in channel_shift; this package shifts as published, so outputs "
        "differ from that code's."
    ),
    "actionclip conv1d": (
        "ActionCLIP's public code views (B, T, D) as (B, D, T) in Conv_1D; this package transposes, so outputs differ "
        "from that code's."
    ),
}
"""What to say of a layout, alone or with a temporal module or pooling."""
