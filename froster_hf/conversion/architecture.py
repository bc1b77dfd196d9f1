"""From converted weights to a `FrosterConfig`, with the origin of every field.

Widths, layers, patches and the modules that have weights are read off the weights. What no weight shows (`UNSHOWN`)
comes from the caller, else from what this package's own exports state beside the weights, else from the run
configuration that FROSTER's training files carry, else from the published recipe; the report says which.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import yaml
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.processing_utils import Unpack

from ..modeling.configuration_froster import FrosterConfig, check_epsilon, read_dual_encoder_config
from ..modeling.tables_froster import (
    TEMPORAL_MODULES,
    TEMPORAL_POOLINGS,
    TemporalModule,
    TemporalPooling,
    find_entry,
)
from ..printing import one_line, printable
from .layouts import find_layout
from .layouts.froster import RUN_CONFIGURATION_MODULES
from .pickle_worker import STATEMENT
from .state_dicts import ConvertedStateDict

Origin = Literal["weights", "config.json", "option", "stated in the file", "run configuration", "published default"]

HEAD_WIDTH = 64
"""The width of the heads of every CLIP that OpenAI published."""

FOREIGN_CONFIGURATION = (
    StrictDataclassError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
)
"""What transformers raises, beside ValueError, for a `config.json` of other types or sizes than it expects."""

LONGEST_LICENSE = 100
"""Characters of a license's identifier."""


class UnshownOptions(TypedDict, total=False):
    """What no weight shows, as the caller knows it; `None` is the same as not given.

    * `temporal_module`: where the weights show none. Default: what the source's run configuration says, else
      `local_attention` for FROSTER and Open-VCLIP, and `none` for the others.
    * `temporal_radius`: of `local_attention`. Default: the run configuration, else 1.
    * `num_frames`: frames per clip in training. Default: the run configuration, else 8.
    * `temporal_pooling`: where the weights show none. Default: `mean`, and `mean_unnormalized` for ActionCLIP and
      ViFi-CLIP.
    * `pooling_heads`: attention heads of the poolings `transformer` and `transformer_cls`. Default: the published
      number.
    * `hidden_act`: the activation of both towers, as transformers names it. Default: `quick_gelu`.
    * `layer_norm_eps`: of both towers. Default: 1e-5.
    * `vision_heads`, `text_heads`: attention heads of a tower. Default: heads of width 64.
    """

    temporal_module: TemporalModule | None
    temporal_radius: int | None
    num_frames: int | None
    temporal_pooling: TemporalPooling | None
    pooling_heads: int | None
    hidden_act: str | None
    layer_norm_eps: float | None
    vision_heads: int | None
    text_heads: int | None


UNSHOWN: dict[str, tuple[str, ...]] = {
    "temporal_module": ("temporal_module",),
    "temporal_radius": ("temporal_radius",),
    "num_frames": ("num_frames",),
    "temporal_pooling": ("temporal_pooling",),
    "pooling_heads": ("pooling_num_heads",),
    "hidden_act": ("vision_config.hidden_act", "text_config.hidden_act"),
    "layer_norm_eps": ("vision_config.layer_norm_eps", "text_config.layer_norm_eps"),
    "vision_heads": ("vision_config.num_attention_heads",),
    "text_heads": ("text_config.num_attention_heads",),
}
"""Each of `UnshownOptions` to the fields of the configuration that hold it."""


@dataclass(frozen=True)
class Setting:
    """One field of the configuration and where its value comes from."""

    name: str
    value: object
    origin: Origin


def infer_config(
    converted: ConvertedStateDict,
    *,
    texts: Mapping[str, str] | None = None,
    stated: str | None = None,
    clip_config: Mapping[str, Any] | None = None,
    **options: Unpack[UnshownOptions],
) -> tuple[FrosterConfig, list[Setting]]:
    """The configuration of converted weights.

    Args:
        converted: complete weights, the token embedding included.
        texts: texts of the source file, searched for FROSTER's run configuration.
        stated: what this package's export says beside the weights; see [`state_unshown`].
        clip_config: the `config.json` of a `transformers` source.
        options: see [`UnshownOptions`].

    Returns:
        The configuration, and each field with its origin.

    Raises:
        ValueError: a shape fits no CLIP vision transformer, or an option contradicts the weights or `clip_config`, or
            the file says of a field without an option what is not known here.
    """
    known = _Known(options, stated, (texts or {}).get("cfg"))
    settings = _temporal_settings(converted, known)
    fields: dict[str, Any] = {setting.name: setting.value for setting in settings}
    towers = _towers(converted.model)
    try:
        clip = None if clip_config is None else read_dual_encoder_config(clip_config)
        if clip is not None:
            _check_sizes(towers, clip)
        of_towers = _tower_settings(towers, known, clip)
        if clip is not None:
            config = FrosterConfig.from_dual_encoder_config(clip, **fields)
        else:
            for (tower, name), setting in of_towers.items():
                towers[tower][name] = setting.value
            config = FrosterConfig(**towers, **fields)
    except FOREIGN_CONFIGURATION as error:
        described = "the options" if clip_config is None else "config.json"
        raise ValueError(f"No CLIP has what {described} says: {one_line(str(error), limit=500)}") from error
    towers_from: Origin = "weights" if clip is None else "config.json"
    return config, [*_describe_towers(config, towers_from), *_merged(of_towers), *settings]


def _temporal_settings(converted: ConvertedStateDict, known: "_Known") -> list[Setting]:
    """The temporal module and the pooling, under the names of `FrosterConfig`."""
    weights, layout = converted.model, find_layout(converted.layout)
    module = known.choose("temporal_module", layout.temporal_module, shown=converted.temporal_module)
    entry = find_entry("temporal_module", module.value, TEMPORAL_MODULES)
    if entry.own_parameters and converted.temporal_module is None:
        raise ValueError(
            f"`temporal_module` is {module.value!r} ({module.origin}), but the checkpoint has no weights of it."
        )
    pooling = known.choose("temporal_pooling", layout.temporal_pooling, shown=converted.temporal_pooling)
    pooling_entry = find_entry("temporal_pooling", pooling.value, TEMPORAL_POOLINGS)
    if pooling_entry.has_parameters and converted.temporal_pooling is None:
        raise ValueError(
            f"`temporal_pooling` is {pooling.value!r}, but the checkpoint has no weights of that pooling."
        )
    settings = [module, pooling, known.choose("num_frames", 8, shown=_tied_frame_count(weights))]
    if entry.has_radius:
        settings.append(known.choose("temporal_radius", 1))
    elif known.options.get("temporal_radius") is not None:
        raise ValueError(f"`temporal_radius` is given, but the temporal module is {module.value!r}, which has none.")
    if entry.adapter_divisor:
        adapter = f"vision_model.encoder.layers.0.{entry.own_parameters[0]}.down_proj.weight"
        settings.append(Setting("adapter_size", _axes(weights, adapter, 2)[0], "weights"))
    if pooling_entry.layers is not None:
        count = _count_layers(weights, f"temporal_pooling.{pooling_entry.layers}.")
        settings.append(Setting("pooling_num_layers", count, "weights"))
    if "pooling_num_heads" in pooling_entry.fields:
        heads = known.choose("pooling_num_heads", None)
        width, _ = _axes(weights, "visual_projection.weight", 2)
        if heads.value is not None:
            _check_heads("pooling_heads", heads.value, width)
        settings.append(heads)
    elif known.options.get("pooling_heads") is not None:
        raise ValueError(f"`pooling_heads` is given, but the pooling is {pooling.value!r}, which has none.")
    return settings


@dataclass(frozen=True)
class Unread:
    """What a file says of a field in a way that is not known: the default is not taken in its place."""

    told: str


class _WithoutMerges(yaml.SafeLoader):
    """YAML without `<<`, by which a small text can ask for any number of copies; it is an unknown tag here."""

    def flatten_mapping(self, node: Any) -> None:
        """Leave merge keys where they are."""


def read_run_configuration(text: str | None) -> dict[str, object]:
    """The fields that FROSTER's training files state in their `cfg` text, `Unread` where it says them in a way that is
    not known; empty where it names none.

    Args:
        text: YAML; of anything else, it is found out only which fields it names.
    """
    text = text or ""
    try:
        run = yaml.load(text, _WithoutMerges)
    except Exception:  # Whatever a text that is none provokes: each tag of YAML has errors of its own.
        run = None
    found: dict[str, Any] = {}
    for section, field in (("MODEL", "TEMPORAL_MODELING_TYPE"), ("DATA", "NUM_FRAMES")):
        part = run.get(section) if isinstance(run, Mapping) else None
        if isinstance(part, Mapping) and field in part:
            found[field] = part[field]
        elif field in text:
            found[field] = Unread(f"`cfg` of the file names {field}, but not as YAML with the section {section}")
    stated: dict[str, object] = {}
    if "TEMPORAL_MODELING_TYPE" in found:
        kind = found["TEMPORAL_MODELING_TYPE"]
        if kind is None or (isinstance(kind, str) and kind in RUN_CONFIGURATION_MODULES):
            stated["temporal_module"], radius = RUN_CONFIGURATION_MODULES[kind]
            if radius is not None:
                stated["temporal_radius"] = radius
        else:
            # Such a name can stand for a radius as well.
            stated |= dict.fromkeys(
                ("temporal_module", "temporal_radius"), _unread("MODEL.TEMPORAL_MODELING_TYPE", kind)
            )
    if (frames := found.get("NUM_FRAMES")) is not None:
        is_count = type(frames) is int and 0 < frames < 2**31
        stated["num_frames"] = frames if is_count else _unread("DATA.NUM_FRAMES", frames)
    return stated


def _unread(field: str, value: Any) -> Unread:
    if isinstance(value, Unread):
        return value
    # Aliases multiply out what is in a list, and Python does not write a number of thousands of digits.
    is_plain = isinstance(value, str | float | bool) or (isinstance(value, int) and value.bit_length() <= 128)
    shown = (
        printable(repr(value), limit=100)
        if is_plain
        else f"a value ({type(value).__name__}) that none of its runs has"
    )
    return Unread(f"`cfg` of the file gives {field} as {shown}, which is not known here")


def state_unshown(config: FrosterConfig) -> dict[str, object]:
    """What the weights of a configuration do not show, by the names of `UNSHOWN`'s fields."""
    return {field: _field(config, field) for fields in UNSHOWN.values() for field in fields}


def read_statement(text: str | None) -> dict[str, object]:
    """The fields that `state_unshown` wrote, `Unread` where they are named but have no such value.

    Args:
        text: JSON; of anything else, it is found out only which fields it names.
    """
    found = _statement(text)
    stated: dict[str, object] = {}
    for name in (field for fields in UNSHOWN.values() for field in fields):
        if isinstance(value := found.get(name), str | int | float):
            stated[name] = value
        elif f'"{name}"' in (text or "") and not (name in found and value is None):
            stated[name] = Unread(f"`{STATEMENT}` in the file names {name}, but gives no value that it can have")
    return stated


def read_license(text: str | None) -> str | None:
    """The license in such a statement, if there is one."""
    license = _statement(text).get("license")
    return license if isinstance(license, str) and len(license) <= LONGEST_LICENSE else None


def _statement(text: str | None) -> dict[str, Any]:
    try:
        stated = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _field(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


class _Known:
    """All that is said about fields that no weight shows.

    Args:
        options: options of the caller.
        stated: the text that this package's export leaves beside the weights.
        run: FROSTER's run configuration.
    """

    def __init__(self, options: Mapping[str, Any], stated: str | None, run: str | None):
        if unknown := set(options) - set(UNSHOWN):
            raise TypeError(f"Unknown options {sorted(unknown)}; known are {sorted(UNSHOWN)}.")
        self.options = options
        self.sources: list[tuple[Origin, Mapping[str, object]]] = [
            ("stated in the file", read_statement(stated)),
            ("run configuration", read_run_configuration(run)),
        ]

    def choose(self, name: str, default: Any, *, shown: Any = None, shown_by: Origin = "weights") -> Setting:
        """The value of a field by descending authority: weights, option, statement, run configuration, default.

        Args:
            name: the field's, such as `vision_config.hidden_act`.
            default: the published one.
            shown: what the weights or a configuration say, or `None`.
            shown_by: which of the two.

        Raises:
            ValueError: the option contradicts what is shown; or, without one, the file says something that is not
                known here.
        """
        option = next(option for option, fields in UNSHOWN.items() if name in fields)
        given = self.options.get(option)
        if shown is not None:
            if given is not None and given != shown:
                says = f"the weights are those of {shown!r}" if shown_by == "weights" else f"{shown_by} says {shown!r}"
                raise ValueError(f"`{option}` is given as {given!r}, but {says}.")
            return Setting(name, shown, shown_by)
        if given is not None:
            return Setting(name, given, "option")
        for origin, source in self.sources:
            if name in source:
                if isinstance(value := source[name], Unread):
                    raise ValueError(
                        f"{value.told}. State what the model was trained with: `--{option.replace('_', '-')}` "
                        f"(`{option}` in Python)."
                    )
                return Setting(name, value, origin)
        return Setting(name, default, "published default")


def _tied_frame_count(weights: Mapping[str, Tensor]) -> int | None:
    """The frame count that `joint` and `transformer_cls` are built for."""
    if (joint := "vision_model.embeddings.time_embedding") in weights:
        return _axes(weights, joint, 2)[0]
    if "temporal_pooling.class_token" in weights:
        return _axes(weights, "temporal_pooling.position_embedding", 3)[1] - 1
    return None


def _towers(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Both towers' fields as far as shapes show them."""
    width, _, _, patch = _axes(weights, "vision_model.embeddings.patch_embedding.weight", 4)
    positions, _ = _axes(weights, "vision_model.embeddings.position_embedding.weight", 2)
    grid = math.isqrt(max(positions - 1, 0))
    if grid < 1 or grid * grid + 1 != positions:
        raise ValueError(
            f"The vision tower has {positions} positions, which are not a class token and a square of patches."
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


def _tower(weights: Mapping[str, Tensor], tower: str, width: int) -> dict[str, Any]:
    inner, _ = _axes(weights, f"{tower}.encoder.layers.0.mlp.fc1.weight", 2)
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": _count_layers(weights, f"{tower}.encoder.layers."),
    }


def _axes(weights: Mapping[str, Tensor], name: str, count: int) -> tuple[int, ...]:
    shape = tuple(weights[name].shape)
    if len(shape) != count or 0 in shape:
        raise ValueError(f"The tensor that becomes {name} has shape {shape}; expected {count} axes, none of them 0.")
    return shape


def _count_layers(weights: Mapping[str, Tensor], stack: str) -> int:
    return len({name.removeprefix(stack).partition(".")[0] for name in weights if name.startswith(stack)})


def _check_sizes(towers: Mapping[str, Any], clip: PreTrainedConfig) -> None:
    """Refuse a `config.json` that describes other weights, before a model of its sizes is built.

    Raises:
        ValueError: names the first size that differs.
    """
    shown = {"projection_dim": towers["projection_dim"]}
    for tower, sizes in (("vision_config", towers["vision_config"]), ("text_config", towers["text_config"])):
        # Each tower's own `projection_dim` and special tokens are not read by CLIP, or not shown by weights.
        names = set(sizes) - {"projection_dim", "bos_token_id", "eos_token_id", "image_size"}
        shown |= {f"{tower}.{name}": sizes[name] for name in sorted(names)}
    for name, size in shown.items():
        if _field(clip, name) != size:
            raise ValueError(f"config.json says {name} {_field(clip, name)!r}, but the weights are those of {size}.")


def _tower_settings(
    towers: Mapping[str, Any], known: _Known, clip: PreTrainedConfig | None
) -> dict[tuple[str, str], Setting]:
    """Activation, epsilon and heads by tower and field."""
    settings = {}
    for tower, heads_option in (("vision_config", "vision_heads"), ("text_config", "text_heads")):
        width = towers[tower]["hidden_size"]
        defaults = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_attention_heads": width // HEAD_WIDTH}
        for name, default in defaults.items():
            shown = None if clip is None else getattr(getattr(clip, tower), name)
            setting = known.choose(f"{tower}.{name}", default, shown=shown, shown_by="config.json")
            if name == "hidden_act" and setting.value not in ACT2FN:
                raise ValueError(f"`hidden_act` is {setting.value!r}; transformers knows {', '.join(sorted(ACT2FN))}.")
            if name == "layer_norm_eps":
                check_epsilon(setting.value, name)
            if name == "num_attention_heads":
                if setting.origin == "published default" and width % HEAD_WIDTH:
                    raise ValueError(
                        f"The {tower[:-7]} tower has width {width}; the published ones have widths that are multiples "
                        f"of {HEAD_WIDTH}, the width of their heads. Give `{heads_option}`, the number of heads."
                    )
                _check_heads(heads_option, setting.value, width)
            settings[tower, name] = setting
    return settings


def _check_heads(option: str, heads: Any, width: int) -> None:
    if type(heads) is not int or heads < 1 or width % heads:
        raise ValueError(f"`{option}` is {heads!r}; it must divide the width, {width}.")


def _merged(settings: Mapping[tuple[str, str], Setting]) -> list[Setting]:
    """The towers' settings under the names of the options; one line where both towers have the same."""
    merged = []
    for option, fields in UNSHOWN.items():
        found = [settings[tower, name] for tower, _, name in (field.partition(".") for field in fields) if name]
        if len({(setting.value, setting.origin) for setting in found}) == 1:
            merged.append(Setting(option, found[0].value, found[0].origin))
        else:
            merged += [Setting(setting.name, setting.value, setting.origin) for setting in found]
    return merged


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
    return f"{tower.num_hidden_layers} layers, width {tower.hidden_size}, MLP {tower.intermediate_size}, {rest}"
