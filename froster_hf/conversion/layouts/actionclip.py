"""ActionCLIP: OpenAI's names without a prefix, and the temporal head, here under `fusion_model.`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .entry import LayoutEntry, Prefix, Row, block, with_bias

if TYPE_CHECKING:
    from torch import Tensor

HEAD = "fusion_model."
HEAD_SECTION = "fusion_model_state_dict"
POSITIONS = f"{HEAD}frame_position_embeddings.weight"
ENCODER_LAYER = ("transformer.transformer_enc.layers.{i}", "temporal_pooling.encoder.layers.{i}")

POOLING_ROWS: dict[str, tuple[Row, ...]] = {
    "lstm": tuple(
        Row(f"lstm_visual.{name}_l0", f"temporal_pooling.lstm.{name}_l0")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ),
    "conv1d": (Row("shift.weight", "temporal_pooling.conv.weight"),),
    "transformer": (
        *block("transformer.resblocks.{i}", "temporal_pooling.layers.{i}"),
        Row("frame_position_embeddings.weight", "temporal_pooling.position_embedding.weight"),
    ),
    "transformer_cls": (
        Row("transformer.cls_token", "temporal_pooling.class_token"),
        Row("transformer.pos_embed", "temporal_pooling.position_embedding"),
        *(
            Row(f"{ENCODER_LAYER[0]}.self_attn.{name}", f"{ENCODER_LAYER[1]}.self_attn.{name}")
            for name in ("in_proj_weight", "in_proj_bias")
        ),
        *(
            row
            for name in ("self_attn.out_proj", "linear1", "linear2", "norm1", "norm2")
            for row in with_bias(f"{ENCODER_LAYER[0]}.{name}", f"{ENCODER_LAYER[1]}.{name}")
        ),
        *with_bias("transformer.transformer_enc.norm", "temporal_pooling.encoder.norm"),
    ),
}
"""ActionCLIP's post-network heads, named as in its fusion model, each known by its first row."""


def unread_positions(
    original: Mapping[str, "Tensor"], weights: Mapping[str, "Tensor"]
) -> tuple[dict[str, "Tensor"], list[str]]:
    """ActionCLIP's heads all hold positions, and load strictly, but only Transf reads them: zeros for the others."""
    if POSITIONS in original or not any(key.startswith(HEAD) for key in original):
        return {}, []
    contexts = weights["text_model.embeddings.position_embedding.weight"].shape[0]
    zeros = original["text_projection"].new_zeros(contexts, original["text_projection"].shape[1])
    return {POSITIONS: zeros}, [f"{POSITIONS} is zero: ActionCLIP's code wants it and does not read it in this head."]


ACTIONCLIP = LayoutEntry(
    title="ActionCLIP",
    patch_embedding="visual.conv1.weight",
    is_it=lambda names: "visual.time_embedding" in names or any(name.startswith(HEAD) for name in names),
    # Of the head without weights, a file has the empty section alone.
    told_by=HEAD_SECTION,
    prefixes=(Prefix(HEAD, "pooling", ""), Prefix("", "model", "")),
    poolings=POOLING_ROWS,
    dropped={
        r"fusion_model\.frame_position_embeddings\.weight": "created for every head, read by Transf only",
    },
    unsupported={
        r"visual\.transformer\.resblocks\.\d+\.net\..*": (
            "is an ActionCLIP model with the in-network shift, which shifts the residual stream of every block; this "
            "package shifts keys and values instead (channel_shift), so the outputs could not be reproduced"
        ),
    },
    sections={"model_state_dict": "", HEAD_SECTION: HEAD},
    # The code base loads the head into a model inside DataParallel.
    file_sections=((HEAD_SECTION, HEAD, "module."), ("model_state_dict", "", "")),
    complete=unread_positions,
    # Frame embeddings are pooled as projected, and normalized afterwards.
    temporal_pooling="mean_unnormalized",
    templates="actionclip",
    notes={
        "conv1d": (
            "ActionCLIP's public code views (B, T, D) as (B, D, T) in Conv_1D; this package transposes, so outputs "
            "differ from that code's."
        ),
    },
)
