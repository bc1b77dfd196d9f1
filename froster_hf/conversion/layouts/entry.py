"""Rows: one original name, one of ours, and the change of storage between them; and those that code bases share.

The original code bases (CLIP, Open-VCLIP, FROSTER, ActionCLIP, ViFi-CLIP) share OpenAI's names, each under prefixes
of its own; `FrosterModel` has the names of transformers' `CLIPModel` and adds the temporal parts. A layout's prefixes
lead to OpenAI's names; a row says which of those becomes which of ours and how its storage changes. `state_dicts.py`
applies both, in both directions.

In a row `{i}` stands for a layer number, and `{qkv}` for the three names q, k and v that one original tensor holds
stacked along its first axis.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from ...modeling.tables_froster import TemporalModule, TemporalPooling

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

Completion = Callable[[Mapping[str, "Tensor"], Mapping[str, "Tensor"]], tuple[dict[str, "Tensor"], list[str]]]


@dataclass(frozen=True, kw_only=True)
class LayoutEntry:
    """A code base whose checkpoints are converted.

    Args:
        title: its name for people.
        patch_embedding: the name of the vision tower's patch embedding, by which its checkpoints are recognized.
        is_it: what tells it from a layout with the same patch embedding, of the names of a state dict; where several
            say yes, the first one in the table counts.
        told_by: a section of its files, also an empty one, that tells it from such a layout.
        prefixes: prefixes of its names; the first that fits decides, in both directions.
        clip: the rows of the two towers.
        poolings: the rows of temporal poolings that have weights, each known by its first row.
        projectors: the rows of distillation projectors.
        lacks: our names that its files do not hold, and where they come from instead.
        starts_with_start_token: tensors of embedded prompts in its files, each of which begins with the start token;
            they tell whether a token embedding is the right one.
        needs_config: whether only a folder with a `config.json` is converted.
        dropped: regular expressions of names that carry no weight of the model, and why each may be left out.
        unsupported: regular expressions of names that tell an architecture of this code base that this package does
            not have, and what it is.
        sections: sections of its files that hold weights, and the prefix that their names get here. Of those without
            a prefix in one file, the first counts.
        file_sections: for files that are written: section, prefix of the names that go there and lose it, prefix that
            they get. Without any, a file holds the names alone; `None` where such files are not written.
        complete: tensors that its code wants in a file besides, and what to say of them; takes the tensors under its
            names and under ours.
        temporal_module: what its published checkpoints have where their weights show no module.
        temporal_pooling: the same for the temporal pooling.
        templates: the prompts that its published checkpoints were evaluated with.
        license: license of its authors' weights, which are recognized by projectors or a teacher.
        notes: what to say of it, by the temporal module or pooling, or the empty text for always.
    """

    title: str
    patch_embedding: str
    is_it: Callable[[Set[str]], bool] = lambda names: True
    told_by: str | None = None
    prefixes: tuple[Prefix, ...]
    clip: tuple[Row, ...] = CLIP
    poolings: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    projectors: tuple[Row, ...] = ()
    lacks: Mapping[str, str] = field(default_factory=dict)
    starts_with_start_token: tuple[str, ...] = ()
    needs_config: bool = False
    dropped: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    file_sections: tuple[tuple[str, str, str], ...] | None = ()
    complete: Completion | None = None
    temporal_module: "TemporalModule" = "none"
    temporal_pooling: "TemporalPooling" = "mean"
    templates: Literal["froster", "actionclip", "none"] = "froster"
    license: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def has(self, part: Part) -> bool:
        """Whether its files have a place for tensors of this kind."""
        return any(prefix.part == part for prefix in self.prefixes)

    def names_of(self, part: Part) -> tuple[str, ...]:
        """The beginnings of its names of this kind."""
        return tuple(prefix.original for prefix in self.prefixes if prefix.part == part)
