"""From converted weights to a `FrosterConfig`, with the origin of every field.

Widths, layers, heads, patches and the modules that have weights are read off the weights. What no weight shows (a
parameter-free module, its radius, the number of frames) comes from the caller, else from the run configuration that
FROSTER's own training files carry, else from the published recipe; the report says which.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from torch import Tensor
from transformers import CLIPConfig

from froster_hf.conversion.key_maps import RUN_CONFIGURATION_MODULES, Layout
from froster_hf.conversion.state_dicts import ConvertedStateDict
from froster_hf.modeling.configuration_froster import FrosterConfig
from froster_hf.modeling.tables_froster import (
    TEMPORAL_MODULES,
    TEMPORAL_POOLINGS,
    TemporalModule,
    TemporalPooling,
    find_entry,
)

Origin = Literal["weights", "config.json", "option", "run configuration", "published default"]

HEAD_WIDTH = 64
"""Every published CLIP vision transformer has heads of this width."""


@dataclass(frozen=True)
class Setting:
    """One field of the configuration and where its value comes from."""

    name: str
    value: object
    origin: Origin


def infer_config(
    converted: ConvertedStateDict,
    *,
    temporal_module: TemporalModule | None = None,
    temporal_radius: int | None = None,
    num_frames: int | None = None,
    temporal_pooling: TemporalPooling | None = None,
    texts: Mapping[str, str] | None = None,
    clip_config: Mapping[str, Any] | None = None,
) -> tuple[FrosterConfig, list[Setting]]:
    """The configuration of converted weights.

    Args:
        converted: complete weights, the token embedding included.
        temporal_module: of a source whose weights show none; the published default follows the layout.
        temporal_radius: of `local_attention`.
        num_frames: frames a clip that the model was trained with.
        temporal_pooling: of a source whose weights show none.
        texts: texts of the source file, searched for FROSTER's run configuration.
        clip_config: the `config.json` of a `transformers` source.

    Returns:
        The configuration, and each field with its origin.

    Raises:
        ValueError: a shape fits no CLIP vision transformer, or an option contradicts the weights.
    """
    weights = converted.model
    run = read_run_configuration((texts or {}).get("cfg"))
    module = _choose(
        "temporal_module", converted.temporal_module, temporal_module, run, DEFAULT_MODULES[converted.layout]
    )
    entry = find_entry("temporal_module", module.value, TEMPORAL_MODULES)
    if entry.own_parameters and converted.temporal_module is None:
        raise ValueError(
            f"`temporal_module` is {module.value!r} ({module.origin}), but the checkpoint has no weights of it."
        )
    pooling = _choose(
        "temporal_pooling", converted.temporal_pooling, temporal_pooling, {}, DEFAULT_POOLINGS[converted.layout]
    )
    pooling_entry = find_entry("temporal_pooling", pooling.value, TEMPORAL_POOLINGS)
    if pooling_entry.has_parameters and converted.temporal_pooling is None:
        raise ValueError(
            f"`temporal_pooling` is {pooling.value!r}, but the checkpoint has no weights of that pooling."
        )
    frames = _choose("num_frames", _tied_frame_count(weights), num_frames, run, 8)
    settings = [module, pooling, frames]
    if entry.has_radius:
        settings.append(_choose("temporal_radius", None, temporal_radius, run, 1))
    elif temporal_radius is not None:
        raise ValueError(f"`temporal_radius` is given, but the temporal module is {module.value!r}, which has none.")
    adapter = weights.get("vision_model.encoder.layers.0.mlp_adapter.down_proj.bias")
    adapter = weights.get("vision_model.encoder.layers.0.st_adapter.down_proj.bias", adapter)
    if adapter is not None:
        settings.append(Setting("adapter_size", adapter.shape[0], "weights"))
    if pooling_entry.layers is not None:
        count = _count_layers(weights, f"temporal_pooling.{pooling_entry.layers}.")
        settings.append(Setting("pooling_num_layers", count, "weights"))

    fields: dict[str, Any] = {setting.name: setting.value for setting in settings}
    if clip_config is not None:
        config = FrosterConfig.from_clip_config(CLIPConfig(**clip_config), **fields)
        towers_from: Origin = "config.json"
    else:
        config = FrosterConfig(**_towers(weights), **fields)
        towers_from = "weights"
    return config, [*_describe_towers(config, towers_from), *settings]


DEFAULT_MODULES: dict[Layout, TemporalModule] = {
    "froster": "local_attention",
    "openai": "none",
    "actionclip": "none",
    "vificlip": "none",
    "transformers": "none",
}
"""What the published checkpoints of a layout have where their weights show no module."""

DEFAULT_POOLINGS: dict[Layout, TemporalPooling] = {
    "froster": "mean",
    "openai": "mean",
    # Both pool the frame embeddings as projected, and normalise afterwards.
    "actionclip": "mean_unnormalized",
    "vificlip": "mean_unnormalized",
    "transformers": "mean",
}


def read_run_configuration(text: str | None) -> dict[str, object]:
    """The fields that FROSTER's training files state in their `cfg` text; empty where there is none.

    Args:
        text: YAML; anything else is passed over, since the text is no part of the model.
    """
    try:
        run = yaml.safe_load(text or "")
        model, data = run["MODEL"], run["DATA"]
        kind, frames = model["TEMPORAL_MODELING_TYPE"], data["NUM_FRAMES"]
    except (yaml.YAMLError, RecursionError, LookupError, TypeError, ValueError):
        return {}
    known = RUN_CONFIGURATION_MODULES.get(kind) if kind is None or isinstance(kind, str) else None
    stated: dict[str, object] = {}
    if known is not None:
        stated["temporal_module"], radius = known
        if radius is not None:
            stated["temporal_radius"] = radius
    if type(frames) is int and frames > 0:
        stated["num_frames"] = frames
    return stated


def _choose(name: str, shown: Any, option: Any, run: Mapping[str, object], default: Any) -> Setting:
    """The value of a field by descending authority: weights, option, run configuration, published default."""
    if shown is not None:
        if option is not None and option != shown:
            raise ValueError(f"`{name}` is given as {option!r}, but the weights are those of {shown!r}.")
        return Setting(name, shown, "weights")
    if option is not None:
        return Setting(name, option, "option")
    if name in run:
        return Setting(name, run[name], "run configuration")
    return Setting(name, default, "published default")


def _tied_frame_count(weights: Mapping[str, Tensor]) -> int | None:
    """The frame count that `joint` and `transformer_cls` are built for."""
    time = weights.get("vision_model.embeddings.time_embedding")
    if time is not None:
        return time.shape[0]
    if "temporal_pooling.class_token" in weights:
        return weights["temporal_pooling.position_embedding"].shape[1] - 1
    return None


def _towers(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Both towers' fields from shapes alone."""
    width, _, _, patch = _axes(weights, "vision_model.embeddings.patch_embedding.weight", 4)
    positions, _ = _axes(weights, "vision_model.embeddings.position_embedding.weight", 2)
    grid = math.isqrt(max(positions - 1, 0))
    if grid < 1 or grid * grid + 1 != positions:
        raise ValueError(
            f"The vision tower has {positions} positions, which is no class token and a square of patches."
        )
    vocabulary, text_width = _axes(weights, "text_model.embeddings.token_embedding.weight", 2)
    contexts, _ = _axes(weights, "text_model.embeddings.position_embedding.weight", 2)
    dim, _ = _axes(weights, "visual_projection.weight", 2)
    vision = {**_tower(weights, "vision_model", width), "patch_size": patch, "image_size": patch * grid}
    text = {
        **_tower(weights, "text_model", text_width),
        "vocab_size": vocabulary,
        "max_position_embeddings": contexts,
        # CLIP's vocabularies end with the two special tokens.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    for tower in (vision, text):
        tower["projection_dim"] = dim
    return {"vision_config": vision, "text_config": text, "projection_dim": dim}


def _tower(weights: Mapping[str, Tensor], tower: str, width: int) -> dict[str, int]:
    if width % HEAD_WIDTH:
        raise ValueError(f"{tower} has width {width}; CLIP's towers have widths that are multiples of {HEAD_WIDTH}.")
    inner, _ = _axes(weights, f"{tower}.encoder.layers.0.mlp.fc1.weight", 2)
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": _count_layers(weights, f"{tower}.encoder.layers."),
        "num_attention_heads": width // HEAD_WIDTH,
    }


def _axes(weights: Mapping[str, Tensor], name: str, count: int) -> tuple[int, ...]:
    shape = tuple(weights[name].shape)
    if len(shape) != count:
        raise ValueError(f"The tensor that becomes {name} has shape {shape}; expected {count} axes.")
    return shape


def _count_layers(weights: Mapping[str, Tensor], stack: str) -> int:
    return len({name.removeprefix(stack).partition(".")[0] for name in weights if name.startswith(stack)})


def _describe_towers(config: FrosterConfig, origin: Origin) -> list[Setting]:
    vision, text = config.vision_config, config.text_config
    return [
        Setting(
            "vision tower", _describe(vision, f"{vision.image_size} px, patches of {vision.patch_size} px"), origin
        ),
        Setting(
            "text tower",
            _describe(text, f"{text.vocab_size} tokens, contexts of {text.max_position_embeddings}"),
            origin,
        ),
        Setting("projection_dim", config.projection_dim, origin),
    ]


def _describe(tower: Any, rest: str) -> str:
    return (
        f"{tower.num_hidden_layers} layers, width {tower.hidden_size}, {tower.num_attention_heads} heads, "
        f"MLP {tower.intermediate_size}, {rest}"
    )
