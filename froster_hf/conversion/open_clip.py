"""What open_clip states beside its weights, held against the model and the pixels that a conversion would write."""

from collections.abc import Mapping
from typing import Any

from PIL.Image import Resampling

from ..checkpoint_files import CheckpointError, inside
from ..modeling.configuration_froster import FrosterConfig
from ..printing import printable
from ..processing.same_inputs import pixel_values
from .reading import Source, read_object

CONFIG_FILE = "open_clip_config.json"

# What open_clip takes where its file says nothing; of the other fields, the weights' shapes tell.
DEFAULTS = {
    "quick_gelu": False,
    "vision_cfg.head_width": 64,
    "text_cfg.heads": 8,
    "vision_cfg.norm_kwargs.eps": 1e-5,
    "text_cfg.norm_kwargs.eps": 1e-5,
}

# What changes no embedding where the other fields are those that are written: the weights tell it, or it is of the
# training alone, or of another tower or pooling. Every further field is refused, unless it is off.
WITHOUT_EFFECT = {
    *("custom_text", "init_logit_scale", "nonscalar_logit_scale", "output_dict", "cast_dtype"),
    *(
        f"{tower}.{name}"
        for tower in ("vision_cfg", "text_cfg")
        for name in ("mlp_ratio", "output_tokens", "final_ln_after_pool", "pos_embed_type")
    ),
    *(f"vision_cfg.{name}" for name in ("patch_dropout", "attn_pooler_queries", "attn_pooler_heads")),
    *(f"vision_cfg.timm_{name}" for name in ("model_pretrained", "pool", "proj", "proj_bias", "drop", "drop_path")),
    *(f"text_cfg.{name}" for name in ("pad_id", "eos_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type")),
    "preprocess_cfg.fill_color",
}
SHOWN = 8


def check_open_clip(found: Source, config: FrosterConfig, video_processor: Any) -> None:
    """Raise where weights under OpenAI's names would be written with what open_clip's file beside them contradicts.

    The file is the only one that was written with such weights: of transformers' files beside them, and of published
    defaults, none is known to be of the same model.

    Args:
        found: the source.
        config: of the model that would be written.
        video_processor: what would be done to its pixels.

    Raises:
        CheckpointError: the file is not a JSON object, or has no object `model_cfg`.
        ValueError: names the fields, what the file says and what would be written.
    """
    folder = found.raw.path if found.raw.path.is_dir() else found.raw.path.parent
    if found.layout != "openai" or not (folder / CONFIG_FILE).exists():
        return
    file = inside(folder, CONFIG_FILE)
    content = read_object(file)
    model = content.get("model_cfg")
    if not isinstance(model, dict):
        raise CheckpointError(
            f"{printable(str(file))} has {printable(repr(model), limit=100)} as its `model_cfg`, where an object "
            "describes the model. Get the file again; or take it away, if it belongs to other weights."
        )
    # `a.b.c` is the deepest field; null says nothing.
    fields = _flat(_flat(model)) | _flat({"preprocess_cfg": content.get("preprocess_cfg")})
    stated = DEFAULTS | {name: value for name, value in fields.items() if value is not None}
    written = _written(config, video_processor)
    differences = [
        f"{name}: {printable(str(stated[name]), limit=100)} and {value}"
        for name, value in written.items()
        if name in stated and not _same(stated[name], value)
    ]
    differences += [
        f"{printable(name, limit=100)}: {printable(str(value), limit=100)}, which is not converted"
        for name, value in stated.items()
        if value and name not in written and name not in WITHOUT_EFFECT
    ]
    if differences:
        more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        shown = "; ".join(differences[:SHOWN]) + more
        raise ValueError(
            f"{file} describes another model than the one that would be written: {shown}. Give what "
            "no weight shows as options (without `quick_gelu`, `hidden_act` is gelu), and the model's pixels by "
            "`processor_from`; or take the file away, if it belongs to other weights."
        )


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`a.b` for b in a."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= (
            {f"{name}.{part}": inner for part, inner in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _written(config: FrosterConfig, video_processor: Any) -> dict[str, Any]:
    """The fields that are compared, by open_clip's names."""
    vision, text = config.vision_config, config.text_config
    activation = " and ".join(sorted({vision.hidden_act, text.hidden_act}))
    pixels = pixel_values(video_processor)
    # open_clip's are from 0 to 1.
    mean, std = (
        [value / (255 * factor) for value, factor in zip(pixels[name], pixels["rescale_factor"])]
        for name in ("image_mean", "image_std")
    )
    is_shortest = dict(video_processor.size).get("shortest_edge") is not None
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": {"quick_gelu": True, "gelu": False}.get(activation, activation),
        "vision_cfg.image_size": vision.image_size,
        "vision_cfg.patch_size": vision.patch_size,
        "vision_cfg.width": vision.hidden_size,
        "vision_cfg.layers": vision.num_hidden_layers,
        "vision_cfg.head_width": vision.hidden_size // vision.num_attention_heads,
        "text_cfg.width": text.hidden_size,
        "text_cfg.layers": text.num_hidden_layers,
        "text_cfg.heads": text.num_attention_heads,
        "text_cfg.context_length": text.max_position_embeddings,
        "text_cfg.vocab_size": text.vocab_size,
        "vision_cfg.norm_kwargs.eps": vision.layer_norm_eps,
        "text_cfg.norm_kwargs.eps": text.layer_norm_eps,
        "vision_cfg.act_kwargs.approximate": "none",
        "text_cfg.act_kwargs.approximate": "none",
        "vision_cfg.pool_type": "tok",
        "text_cfg.pool_type": "argmax",
        "text_cfg.proj_type": "linear",
        "text_cfg.text_mask": "first",
        "preprocess_cfg.size": vision.image_size,
        "preprocess_cfg.mode": "RGB",
        "preprocess_cfg.resize_mode": "shortest" if is_shortest else "squash",
        "preprocess_cfg.interpolation": Resampling(video_processor.resample).name.lower(),
        "preprocess_cfg.mean": mean,
        "preprocess_cfg.std": std,
    }


def _same(stated: Any, written: Any) -> bool:
    if isinstance(written, list):
        is_triple = isinstance(stated, list) and len(stated) == len(written)
        numbers = [*stated, *written] if is_triple else [None]
        if not all(type(number) in (int, float) for number in numbers):
            return False
        # By comparisons: a whole number may be too large to be computed with.
        return all(other - 1e-3 <= one <= other + 1e-3 for one, other in zip(stated, written))
    # A picture's two sides, where they are given as such.
    return bool(stated in (written, [written, written]))
