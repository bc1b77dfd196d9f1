"""FROSTER's configuration: the two towers of a backbone such as CLIP, and what is put between the frames.

Architecture only. How a model is trained stands in `FrosterTrainingArguments`, prompts and pixels in the processor.
"""

import contextlib
import functools
import importlib
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import transformers
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig
from transformers.activations import ACT2FN

from .tables_froster import (
    BACKBONES,
    TEMPORAL_MODULES,
    TEMPORAL_POOLINGS,
    Backbone,
    BackboneEntry,
    EndToken,
    TemporalModule,
    TemporalModuleEntry,
    TemporalPooling,
    TemporalPoolingEntry,
    find_entry,
    find_implementation,
)

# Smallest and largest value of every size, so that a file from a stranger cannot ask for endless work. All are a few
# times those of published models: EVA-CLIP-18B has 48 layers of width 5120 with 40 heads and 25,600 in MLPs, and a
# joint space of 1536; XLM-V (MetaCLIP 2) has 900,000 tokens.
MAX_LABELS = 1_000_000
# Characters of a label's name, which results repeat, as of those that are not stored.
LONGEST_LABEL = 2_000
SIZE_LIMITS = {
    # transformers writes a name for each.
    "num_labels": (0, MAX_LABELS),
    "projection_dim": (1, 4_096),
    "num_frames": (1, 10_000),
    "temporal_radius": (0, 256),
    "adapter_size": (1, 8_192),
    "pooling_num_layers": (1, 64),
    "pooling_num_heads": (1, 256),
}
TOWER_SIZE_LIMITS = {
    # Of no use to a tower; each would be copied with it.
    "num_labels": (0, 100_000),
    "hidden_size": (1, 16_384),
    "intermediate_size": (1, 65_536),
    "projection_dim": (1, 4_096),
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 256),
    "vocab_size": (1, 2_000_000),
    "max_position_embeddings": (1, 32_768),
    "num_channels": (1, 64),
    "image_size": (1, 2048),
    "patch_size": (1, 2048),
}
# What a tower's `forward` returns besides its output: the tokens, or the attention, of all its layers.
RECORDED_OUTPUTS = ("output_hidden_states", "output_attentions")
# Which kernels compute, in which processes, and what is returned, is the caller's choice, never a file's. A name such
# as "owner/name@revision" would have transformers fetch and run that repository's machine code.
CALLERS_FIELDS = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
    "fusion_config",
    "distributed_config",
    *RECORDED_OUTPUTS,
    "_output_attentions",
    "return_dict",
)
# What this package saves a model with: its code, and that of its pipeline, in the folder itself.
AUTO_MAP = {
    "AutoConfig": "configuration_froster.FrosterConfig",
    "AutoModel": "modeling_froster.FrosterModel",
    "AutoModelForVideoClassification": "modeling_froster.FrosterForVideoClassification",
}
PIPELINES = {"zero-shot-video-classification": "pipeline_froster.ZeroShotVideoClassificationPipeline"}
# What transformers' files say under the name of something that a configuration's class has and that is not a field.
NAMES_OF_FILES = {
    "custom_pipelines",
    "model_type",
    "name_or_path",
    "num_labels",
    "torch_dtype",
    *CALLERS_FIELDS,
}

# Types of weights that a file may name, as torch does.
DTYPES = ("float16", "half", "bfloat16", "float32", "float", "float64", "double")

# What a model computes, and holds in memory: sizes that are allowed one by one multiply, so what comes out is held
# against what published models have, or against the parameters, which a file has to bring along.

# Parameters; about those of the largest CLIP that was published.
MAX_PARAMETERS = 20_000_000_000
# Parameters that are new beside a dual encoder's, which no file has to bring along, or as many as that has. With
# gradients and the state of an optimizer, 2 GB; the largest pooling at a width of 1280 has 118 million.
MAX_ADDED = 2**27
# Scores of attention of a clip, over layers and heads. ViT-L/14 at 336 pixels that attends to all patches of 64 frames
# at once has 5 * 10^11, 1,500 per parameter.
MAX_SCORES, MAX_SCORES_PER_PARAMETER = 2**34, 4096
# Tokens of a clip, each of which goes through all layers, and products of such tokens and parameters; of 64 frames,
# SigLIP at 512 pixels has 66,000.
MAX_TOKENS, MAX_WORK = 2**18, 2**37
# Numbers of a tensor that is in memory as a whole; of a clip of 64 frames, ViT-L/14 at 336 pixels has 2 * 10^8 in an
# MLP. Clips that would have more together are computed one after the other.
MAX_NUMBERS, MAX_NUMBERS_PER_PARAMETER = 2**26, 2
# Pixel values of a video's clips together; of 30 clips of 64 frames, ViT-B/16 has 2 per parameter.
MAX_PIXELS, MAX_PIXELS_PER_PARAMETER = 2**26, 4
# Numbers that blocks keep of a clip for a backward pass, so many tensors each. ViT-L/14 at 336 pixels keeps 34 of
# 64 frames per parameter.
MAX_KEPT, MAX_KEPT_PER_PARAMETER, KEPT_TENSORS = 2**27, 64, 4
# Numbers that a map of what a model looks at holds of a clip at once; of these 64 frames, 4 per parameter.
MAX_MAPPED, MAX_MAPPED_PER_PARAMETER = 2**27, 16
# Numbers of the embeddings of labels under templates that a training holds together. Of 20,000 labels under FROSTER's
# 29, the student's and the teacher's have 4 per parameter of ViT-B/16.
MAX_EMBEDDED, MAX_EMBEDDED_PER_PARAMETER = 2**27, 8
# Scores of attention of one padded text; SigLIP's have 2 * 10^6.
MAX_TEXT_SCORES = 2**28
# Texts that the processor has encoded together.
TEXTS_AT_ONCE = 256
# Tensors of scores of attention that are written out with dropout, or by the attention of a pooling: the scores, their
# weights, what remains of these and where.
SCORE_TENSORS = 4
# Clips of a video beyond which each has to be smaller.
FULL_CLIPS = 8
# Of a clip's patches, those that `context_tokens` merges, the most pairs at a time, and the tokens that they become;
# TC-CLIP's. Beside a head's channels, those for its biases: kernels take multiples of 8.
SEED_SHARE, MAX_MERGED, NUM_CONTEXT_TOKENS, BIAS_CHANNELS = 0.3, 100, 96, 8
# Width of the MLPs of `transformer_cls`, whatever the embedding's; PyTorch's default, which ActionCLIP left.
CLASS_TOKEN_INNER_WIDTH = 2048

Config = TypeVar("Config", bound=type)


@contextlib.contextmanager
def value_errors() -> Iterator[None]:
    """Raise a `ValueError` of one line instead of huggingface_hub's errors of strict dataclasses and of what
    transformers meets in values of another kind: who loads a stranger's file has one kind of error to expect."""
    try:
        yield
    except (StrictDataclassError, AttributeError, LookupError) as error:
        is_told = isinstance(error, StrictDataclassError)
        reason = str(error.__cause__ or error) if is_told else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split())
        reason = reason if len(reason) <= 500 else f"{reason[:500]}..."
        # It repeats a stranger's names and values, which a terminal would obey.
        raise ValueError(reason if reason.isprintable() else ascii(reason)[1:-1]) from error


def raises_value_errors(config_class: Config) -> Config:
    """The class with a constructor that raises no other errors; see `value_errors`."""
    construct = config_class.__init__  # type: ignore[misc]

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        with value_errors():
            construct(self, *args, **kwargs)

    config_class.__init__ = __init__  # type: ignore[misc]
    return config_class


def check_sizes(sizes: Mapping[str, Any], limits: Mapping[str, tuple[int, int]], *, where: str = "") -> None:
    """Hold sizes against their limits; those that are missing or `None` are left to the default.

    Raises:
        ValueError: a size beyond its limits, or none.
    """
    for name, (smallest, largest) in limits.items():
        value = sizes.get(name)
        if value is not None and (type(value) is not int or not smallest <= value <= largest):
            raise ValueError(f"`{where}{name}` is {value!r:.100}; it must be an integer from {smallest} to {largest}.")


def check_names(names: Iterable[str], config_class: type[PreTrainedConfig], *, where: str = "") -> None:
    """Refuse a field that would take the place of what transformers' class has under its name.

    `attribute_map` gives any field another name, under which no check would find it, `transformers_weights` has the
    weights read from another file, `pretrained_cfg` makes a checkpoint one of timm for what reads images, and of
    `rope_parameters`, which no backbone has, transformers prints values as they are.

    Raises:
        ValueError: names the first of them.
    """
    own = {field.name for field in fields(config_class)} | NAMES_OF_FILES
    refused = ("self", "transformers_weights", "pretrained_cfg", "rope_parameters")
    for name in names:
        if name in refused or (name not in own and hasattr(config_class, name)):
            raise ValueError(
                f"`{where}{repr(name)[1:-1]:.100}` is not a field of a configuration: transformers has something of "
                "its own under this name. Take it out of config.json. Weights are read from model.safetensors or "
                "pytorch_model.bin."
            )


def check_dtype(fields: Mapping[str, Any], *, where: str = "") -> None:
    """Refuse a type of weights that no model is built in, which transformers looks up in torch by its name.

    Raises:
        ValueError: names it.
    """
    for name in ("dtype", "torch_dtype"):
        value = fields.get(name)
        # A configuration in memory has torch's own object.
        stated = value if isinstance(value, str) else str(value).removeprefix("torch.")
        if value is not None and stated not in DTYPES:
            raise ValueError(f"`{where}{name}` is {value!r:.100}; it must be one of {', '.join(DTYPES)}, or null.")


def check_tower(tower: Any, name: str) -> None:
    """Hold a tower's configuration, an object or the fields of one, against `TOWER_SIZE_LIMITS`, [`check_names`] and
    [`check_dtype`].

    Raises:
        ValueError: it is neither, a size, `layer_norm_eps` or `attention_dropout` is beyond its limits, or null, or a
            name or type is refused.
    """
    if tower is not None and not isinstance(tower, dict | PreTrainedConfig):
        raise ValueError(f"`{name}` is {tower!r:.100}; it must hold the fields of a tower.")
    sizes = tower if isinstance(tower, dict) else vars(tower) if tower is not None else {}
    check_names(sizes, PreTrainedConfig, where=f"{name}.")
    check_dtype(sizes, where=f"{name}.")
    check_sizes(sizes, TOWER_SIZE_LIMITS, where=f"{name}.")
    # transformers takes null for these, and fails where they are used.
    for number in ("layer_norm_eps", "attention_dropout", "initializer_factor", "initializer_range"):
        if sizes.get(number, 0) is None:
            raise ValueError(f"`{name}.{number}` is null; it must be a number. Leave it out for the default.")
    if isinstance(epsilon := sizes.get("layer_norm_eps"), int | float):
        check_epsilon(epsilon, f"{name}.layer_norm_eps")
    dropout = sizes.get("attention_dropout")
    # What is not finite, `check_finite` names; integers may be longer than any float.
    if isinstance(dropout, int | float) and (-math.inf < dropout < 0 or 1 < dropout < math.inf):
        raise ValueError(f"`{name}.attention_dropout` is {dropout!r:.100}; it must be a number from 0 to 1.")


def check_epsilon(epsilon: Any, name: str) -> None:
    """Hold the epsilon of layer norms against its bounds; beyond them, every answer would be the same number.

    Raises:
        ValueError: it is beyond them, or not a number.
    """
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise ValueError(f"`{name}` is {epsilon!r:.100}; it must be a number between 0 and 1, such as 1e-5.")


def check_finite(fields: Mapping[str, Any]) -> None:
    """Refuse numbers that are not finite, at any depth: transformers writes them as objects, which it does not load.

    Raises:
        ValueError: names the field of the first of them.
    """
    pending: list[tuple[str, Any]] = [("", fields)]
    while pending:
        name, value = pending.pop()
        # Whole numbers beyond all others are what no number of a model can be, either.
        if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
            raise ValueError(f"`{repr(name)[1:-1]:.100}` is {value!s:.100}; it must be a finite number.")
        entries = vars(value) if isinstance(value, PreTrainedConfig) else value
        if isinstance(entries, Mapping):
            pending += [(f"{name}.{field}" if name else str(field), entry) for field, entry in entries.items()]
        elif isinstance(entries, list | tuple):
            pending += [(name, entry) for entry in entries]


def without_callers_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `config.json` without what only the caller decides, in the towers too."""
    return {
        name: without_callers_fields(value) if isinstance(value, Mapping) else value
        for name, value in content.items()
        if name not in CALLERS_FIELDS
    }


def without_code(value: Any) -> Any:
    """Fields of a `config.json`, or one's value, without what names code; such a name may be a label's, too."""
    if isinstance(value, Mapping):
        return {
            name: without_code(entry)
            for name, entry in value.items()
            if name not in ("auto_map", "custom_pipelines") or isinstance(entry, int)
        }
    return [without_code(entry) for entry in value] if isinstance(value, list) else value


def with_own_code(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `config.json` that names this package's code in its folder, and no other.

    Whatever else a stranger's file names would be saved and published with the model.
    """
    stated = {name: fields.get(name) for name in ("auto_map", "custom_pipelines")}
    code, pipelines = (entries if isinstance(entries, Mapping) else {} for entries in stated.values())
    own = {
        "auto_map": {name: entry for name, entry in code.items() if (name, entry) in AUTO_MAP.items()},
        "custom_pipelines": {
            name: without_code(entry)
            for name, entry in pipelines.items()
            if isinstance(entry, Mapping) and name in PIPELINES and entry.get("impl") == PIPELINES[name]
        },
    }
    return without_code(fields) | {name: entries for name, entries in own.items() if entries}


@raises_value_errors
@strict
class FrosterConfig(PreTrainedConfig):
    r"""Configuration of [`FrosterModel`] and [`FrosterForVideoClassification`].

    Args:
        text_config: the text tower, as a dict or a configuration of transformers ([`CLIPTextConfig`] for `clip`).
        vision_config: the vision tower, as a dict or a configuration of transformers.
        backbone: the dual encoder that the towers are of, by transformers' name: `clip`, `metaclip_2`, `siglip`.
        projection_dim: D, the width of the joint embedding space.
        logit_scale_init_value: the logarithm of the initial inverse temperature.
        initializer_range: standard deviation of freshly drawn layers outside the towers.
        num_frames: frames per clip in training. Other counts work at run time, except where
            parameters are tied to the count (`joint`, `transformer_cls`).
        temporal_module: how the frames of a clip see each other inside the vision tower.

            - `none`: not at all; CLIP on every frame.
            - `local_attention`: every block attends to the frames within `temporal_radius` (FROSTER, Open-VCLIP).
            - `directional_attention`: `local_attention` that also reads how each token changes from the previous frame
              to the next, through weights that start at zero; tells forward from backward (this package). A
              checkpoint with `local_attention` becomes one by `from_pretrained(..., temporal_module=...)`.
            - `channel_shift`: a quarter of the key and value channels comes from the next frame, a quarter from the
              previous one (TSM; X-ViT).
            - `cross_frame`: a message token per frame, exchanged among the frames (X-CLIP).
            - `st_adapter`: a depthwise temporal convolution in a bottleneck before the attention (ST-Adapter).
            - `aim`: the block's own attention used over time as well, with three adapters (AIM).
            - `motion_adapter`: an adapter of what changes over time, which adds nothing where nothing moves.
            - `adaptformer`: an adapter beside the MLP; no exchange among frames (AdaptFormer).
            - `joint`: all patches of all frames in one sequence (ActionCLIP's pre-network prompt).
            - `context_tokens`: every block but the first also attends to 96 tokens that sum up the patches which the
              block before attended to most, over the whole clip (TC-CLIP, without its video prompts).
        temporal_radius: frames seen to each side by `local_attention` and `directional_attention`. The published
            numbers use 1; `local_attention` with 0 is CLIP.
        adapter_size: width of the adapters' bottleneck. `None` is the published one: half the tower's width for
            `st_adapter`, a quarter for `motion_adapter`, `aim` and `adaptformer`.
        temporal_pooling: from frame embeddings to the video embedding.

            - `mean`: the mean of the *normalized* frame embeddings, not normalized again (FROSTER).
            - `mean_unnormalized`, `lstm`, `conv1d`, `transformer`, `transformer_cls`: ActionCLIP's post-network
              prompts, on the frame embeddings as projected; the result is normalized.
            - `specialization`: the mean of the normalized frame embeddings and a linear map of it, which starts at
              zero (TACO); the result is normalized.
        pooling_num_layers: layers of `transformer` and `transformer_cls`.
        pooling_num_heads: their attention heads. `None` is the published number: the text tower's for `transformer`,
            8 for `transformer_cls`.
        label_weights: what tells the text tower that embedded the stored labels; see `set_labels` of the model.

    Raises:
        ValueError: a value of another type, an unknown name, a size beyond its limits (`SIZE_LIMITS`,
            `TOWER_SIZE_LIMITS`), a number that is not finite, more than `MAX_LABELS` labels, or more than
            `MAX_PARAMETERS` parameters in all; before anything is computed.

    Example:

    ```python
    >>> from froster_hf import FrosterConfig, FrosterModel

    >>> config = FrosterConfig(temporal_module="local_attention", temporal_radius=1)
    >>> model = FrosterModel(config)  # random weights
    ```"""

    model_type = "froster"
    # What transformers' Trainer does not gather while it evaluates: all but the logits.
    keys_to_ignore_at_inference = [
        "video_embeds",
        "frame_embeds",
        "text_embeds",
        "projected_frame_embeds",
        "projected_text_embeds",
        "hidden_states",
        "attentions",
    ]
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}

    if TYPE_CHECKING:  # what they are once `__post_init__` has built them; other backbones' have the same fields
        text_config: CLIPTextConfig
        vision_config: CLIPVisionConfig
        id2label: dict[int, str]
        backbone: Backbone
        temporal_module: TemporalModule
        temporal_pooling: TemporalPooling
    else:
        text_config: dict | PreTrainedConfig | None = None
        vision_config: dict | PreTrainedConfig | None = None
        # The tables' names, also of what is entered there at run time.
        backbone: str = "clip"
        temporal_module: str = "local_attention"
        temporal_pooling: str = "mean"
    projection_dim: int = 512
    logit_scale_init_value: float | int = 2.6592
    initializer_range: float = 0.02

    num_frames: int = 8
    temporal_radius: int = 1
    adapter_size: int | None = None
    pooling_num_layers: int = 6
    pooling_num_heads: int | None = None
    label_weights: str | None = None

    def __post_init__(self, **kwargs):
        check_names(kwargs, type(self))
        check_dtype(vars(self) | kwargs)
        check_sizes(vars(self) | kwargs, SIZE_LIMITS)
        for name in self.sub_configs:
            check_tower(getattr(self, name), name)
        check_finite(vars(self) | kwargs)
        self._check_labels()
        backbone = find_entry("backbone", self.backbone, BACKBONES)
        self.text_config = self._build_tower("text_config", backbone.text_config)
        self.vision_config = self._build_tower("vision_config", backbone.vision_config)
        if self.id2label is None and kwargs.get("num_labels") is None:
            # transformers' default of two labels named LABEL_0 and LABEL_1 is wrong for an open vocabulary:
            # there are none until `set_labels`.
            self.id2label, self.label2id = {}, {}
        super().__post_init__(**with_own_code(kwargs))

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers, if config.json is there, the checkpoint's own, and holds an object.

        Raises:
            ValueError: it is not.
            OSError: there is no such checkpoint.
        """
        # By name, as transformers' loader of remote code demands whatever an import statement names.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("froster_hf.checkpoint_files").check_configuration(
                pretrained_model_name_or_path, **kwargs
            )
        return super().get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As in transformers, but `CALLERS_FIELDS` are taken from `kwargs` only, never from a file, and
        `architectures` are this package's.

        Raises:
            ValueError: it states a quantization of which a library would call what the file names, or an `auto_map`
                with which it could not be saved, or a name that [`check_names`] refuses.
        """
        check_names(config_dict, cls)
        code = config_dict.get("auto_map")
        if code is not None and not isinstance(code, Mapping):
            raise ValueError(f"`auto_map` of config.json is {code!r:.100}; it has to be an object. Delete it.")
        _check_quantization(config_dict)
        fields = without_callers_fields(config_dict)
        # Where this package refuses a checkpoint, transformers' `pipeline` tries classes of its own by these names.
        stated, own = fields.get("architectures"), [reference.rpartition(".")[2] for reference in AUTO_MAP.values()]
        fields["architectures"] = [name for name in stated if name in own] if isinstance(stated, list) else None
        return super().from_dict(fields, **kwargs)

    def _build_tower(self, name: str, config_class: str | type) -> Any:
        """The configuration of a tower, which has to be of the backbone's."""
        tower: Any = getattr(self, name)
        wanted = find_implementation(config_class, transformers)
        stated = tower.get("model_type") if isinstance(tower, dict) else getattr(tower, "model_type", None)
        if stated not in (None, wanted.model_type):
            raise ValueError(
                f"`{name}` is of model type {stated!r:.100}, but `backbone` is {self.backbone!r}, whose tower is of "
                f"type {wanted.model_type!r}. Give the `backbone` that the towers are of."
            )
        return tower if isinstance(tower, wanted) else wanted(**without_code(tower or {}))

    def validate_architecture(self):
        """Refuse values that no model can be built from; called by the constructor."""
        find_entry("temporal_module", self.temporal_module, TEMPORAL_MODULES)
        find_entry("temporal_pooling", self.temporal_pooling, TEMPORAL_POOLINGS)
        for tower in (self.text_config, self.vision_config):
            if tower.hidden_act not in ACT2FN:
                raise ValueError(f"`hidden_act` is {tower.hidden_act!r:.100}; known are {', '.join(sorted(ACT2FN))}.")
        image_size, patch_size = self.vision_config.image_size, self.vision_config.patch_size
        if not isinstance(image_size, int) or not isinstance(patch_size, int):
            raise ValueError(
                f"`vision_config` has image_size {image_size!r:.100} and patch_size {patch_size!r:.100}; frames and "
                "patches are squares: give one integer each."
            )
        if patch_size > image_size:
            raise ValueError(f"`vision_config.patch_size` is {patch_size}, more than the image_size {image_size}.")
        # A tower that reads its padding is not causal, and has nothing to be told.
        if not self.backbone_entry.pad_tokens and not getattr(self.text_config, "is_causal", True):
            raise ValueError(
                f"`text_config.is_causal` is {self.text_config.is_causal!r:.100}, but the text tower of "
                f"`{self.backbone}` is causal; transformers reads the field by some kernels and not by others. Take "
                "it out of config.json."
            )
        if not self.backbone_entry.has_projections:
            widths = (
                self.projection_dim,
                self.vision_config.hidden_size,
                getattr(self.text_config, "projection_size", self.text_config.hidden_size),
            )
            if len(set(widths)) > 1 or not getattr(self.vision_config, "vision_use_head", True):
                raise ValueError(
                    f"The towers of `{self.backbone}` end in the joint space: `projection_dim`, "
                    "`vision_config.hidden_size` and `text_config.projection_size` must be equal and "
                    f"`vision_config.vision_use_head` true, got {', '.join(map(str, widths))} and "
                    f"{getattr(self.vision_config, 'vision_use_head', True)}."
                )
        module, pooling = self.temporal_entries
        if module.place == "embeddings" and pooling.fixed_frames and self.num_frames > 1:
            raise ValueError(
                f"`temporal_module` {self.temporal_module!r} gives one embedding per clip, and `temporal_pooling` "
                f"{self.temporal_pooling!r} has positions for one per frame. Take another pooling, such as 'mean'."
            )
        parameters = estimate_parameters(self)
        if parameters > MAX_PARAMETERS:
            raise ValueError(
                f"This configuration has about {parameters:.1e} parameters; at most {MAX_PARAMETERS:.1e} are built. "
                "Sizes of layers, widths, vocabulary, patches, frames or labels are far too large."
            )
        self.costs(self.num_frames).check()

    def costs(self, num_frames: int) -> "Costs":
        """What the model computes, and holds in memory, of a clip.

        Args:
            num_frames: T, frames of the clip.
        """
        return Costs(self, num_frames)

    def _check_labels(self) -> None:
        """Refuse label lists that are none."""
        names = {} if self.id2label is None else self.id2label
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"`id2label` is {names!r:.100}; it must be a mapping from index to name.")
        if len(names) > MAX_LABELS:
            raise ValueError(f"`id2label` has {len(names)} labels; at most {MAX_LABELS} are taken.")
        if (longest := max(map(len, names.values()), default=0)) > LONGEST_LABEL:
            raise ValueError(f"`id2label` has a label of {longest} characters; up to {LONGEST_LABEL} are taken.")
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise ValueError(
                f"`id2label` has the indices {list(names)!r:.100}; they must be 0 to {len(names) - 1}, each once."
            )
        if len(set(names.values())) < len(names):
            [(twice, _)] = Counter(names.values()).most_common(1)
            raise ValueError(f"`id2label` has {twice!r:.100} more than once; answers tell labels by their names.")

    def to_diff_dict(self) -> dict[str, Any]:
        """As in transformers, with every label list: it leaves out two labels named LABEL_0 and LABEL_1."""
        labels = {"id2label": self.id2label, "label2id": self.label2id}
        return super().to_diff_dict() | {name: value for name, value in labels.items() if value}

    @property
    def temporal_entries(self) -> tuple[TemporalModuleEntry, TemporalPoolingEntry]:
        """The tables' entries of the temporal module and of the pooling."""
        return TEMPORAL_MODULES[self.temporal_module], TEMPORAL_POOLINGS[self.temporal_pooling]

    def temporal_weights(self, names: Iterable[str], *, unlike: "FrosterConfig | None") -> dict[str, list[str]]:
        """Names of weights of the temporal module and of the pooling, each where another configuration has another.

        Args:
            names: of weights.
            unlike: the other configuration; `None` where it has neither.

        Returns:
            `temporal_module` and `temporal_pooling` to names, as far as they differ.
        """
        module, pooling = self.temporal_entries
        parts = {
            "temporal_module": module.own_parameters,
            "temporal_pooling": ("temporal_pooling",) if pooling.has_parameters else (),
        }
        return {
            field: [name for name in names if not set(own).isdisjoint(name.split("."))]
            for field, own in parts.items()
            if unlike is None or getattr(self, field) != getattr(unlike, field)
        }

    @property
    def backbone_entry(self) -> BackboneEntry:
        """The table's entry of the backbone."""
        return BACKBONES[self.backbone]

    @property
    def end_token(self) -> EndToken:
        """Where the text tower finds the end of a text; `None` where it reads all positions, padding too."""
        return self.backbone_entry.end_token(self.text_config)

    @property
    def end_token_id(self) -> int | None:
        """`end_token` by its number: the highest one is the last of the vocabulary."""
        end = self.end_token
        return self.text_config.vocab_size - 1 if isinstance(end, str) else end

    @property
    def text_length(self) -> int | None:
        """Tokens that every text has to be padded to, for a text tower that reads its padding; otherwise `None`."""
        return self.text_config.max_position_embeddings if self.end_token is None else None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> PreTrainedConfig:
        """What a `config.json` describes: this class's, or the configuration of a dual encoder.

        Of any other type nothing is built: some of transformers' configurations write lists as long as a file says.

        Args:
            fields: content of the file.

        Raises:
            ValueError: it is of another type, or a field is refused.
        """
        return (
            cls.from_dict(dict(fields))
            if fields.get("model_type") == cls.model_type
            else read_dual_encoder_config(fields)
        )

    @classmethod
    def from_dual_encoder_config(cls, dual_encoder_config: PreTrainedConfig, **kwargs) -> "FrosterConfig":
        """The configuration whose towers are those of a dual encoder of transformers.

        Args:
            dual_encoder_config: a [`CLIPConfig`], or the configuration of another of `BACKBONES`.
            kwargs: fields of this class.

        Raises:
            ValueError: no backbone is of this type, or a field is refused.
        """
        name = dual_encoder_config.model_type
        entry = find_backbone(name)
        fields = {
            "backbone": name,
            "text_config": dual_encoder_config.text_config.to_dict(),
            "vision_config": dual_encoder_config.vision_config.to_dict(),
            "projection_dim": entry.embed_width(dual_encoder_config),
            "logit_scale_init_value": getattr(dual_encoder_config, "logit_scale_init_value", entry.logit_scale),
            # The precision that the checkpoint is meant to be loaded in, which its files need not have.
            "dtype": dual_encoder_config.dtype,
        }
        return cls(**fields | kwargs)


def find_backbone(name: Any) -> BackboneEntry:
    """The backbone of a dual encoder's model type.

    Raises:
        ValueError: there is none.
    """
    hint = ""
    if name == "siglip2":
        hint = (
            " 'siglip2' is SigLIP 2 with images of any shape (NaFlex); SigLIP 2 at a fixed resolution, such as "
            "google/siglip2-base-patch16-224, says 'siglip'."
        )
    if not isinstance(name, str) or name not in BACKBONES:
        raise ValueError(
            f"The model type {name!r:.100} is not that of a backbone: {', '.join(map(repr, BACKBONES))}. Give a "
            f"checkpoint of transformers whose config.json says one of these.{hint}"
        )
    return BACKBONES[name]


def _check_quantization(fields: Mapping[str, Any]) -> None:
    """See `check_quantization`; where only a copy of this file is, its rules are not there."""
    # By name, as transformers' loader of remote code demands whatever an import statement names.
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("froster_hf.quantization_files").check_quantization(fields, where="config.json")


def read_dual_encoder_config(fields: Mapping[str, Any]) -> PreTrainedConfig:
    """A dual encoder's configuration from the fields of its `config.json`, by the rules of [`FrosterConfig`].

    Raises:
        ValueError: no backbone is of its type, a value of another type, a refused name, a number that is not finite,
            or a size beyond its limits, or a quantization of which a library would call what the file names.
    """
    entry = find_backbone(fields.get("model_type"))
    check_names(fields, PreTrainedConfig)
    check_dtype(fields)
    _check_quantization(fields)
    for name in FrosterConfig.sub_configs:
        # Old files say a tower's fields twice.
        for key in (name, f"{name}_dict"):
            check_tower(fields.get(key), key)
    check_finite(fields)
    check_sizes(fields, {name: TOWER_SIZE_LIMITS[name] for name in ("num_labels", "projection_dim")})
    if type(scale := fields.get("logit_scale_init_value")) is int:
        # Of a whole number, transformers would make a parameter of whole numbers, which torch refuses.
        fields = {**fields, "logit_scale_init_value": float(scale)}
    with value_errors():
        return find_implementation(entry.config, transformers)(**without_callers_fields(fields))


@dataclass(frozen=True)
class Costs:
    """What a clip costs, and texts.

    Args:
        config: a [`FrosterConfig`].
        num_frames: T, frames of the clip.
    """

    config: Any
    num_frames: int

    def check(self, *, num_clips: int = 1) -> None:
        """Refuse models that would compute, or hold, far more than any of their size.

        Args:
            num_clips: clips that are computed per video.

        Raises:
            ValueError: there are too many patches, layers, heads, frames or clips, or positions of a text, or a width
                is too large.
        """
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        clip = f"A clip of {self.num_frames} frames of {patches_of(vision)} patches, {num_clips} of them per video,"
        share = max(1, num_clips / FULL_CLIPS)
        most_scores = max(MAX_SCORES, MAX_SCORES_PER_PARAMETER * estimate_parameters(config))
        most_tokens = max(MAX_TOKENS, MAX_WORK // _layer_parameters(vision))
        positions, padded = text.max_position_embeddings, config.text_length or 0
        for subject, asked, what, most, sizes in (
            (
                clip,
                self.attention_scores,
                "scores of attention",
                most_scores / share,
                "`image_size / patch_size`, `num_attention_heads`, `temporal_radius`, frames or clips",
            ),
            (clip, self.num_tokens, "tokens", most_tokens / share, "`image_size / patch_size`, frames or clips"),
            (
                clip,
                max(self.largest_tensor, num_clips * self.num_frames * config.projection_dim),
                "numbers in a tensor",
                self._most_numbers,
                "`image_size / patch_size`, `hidden_size`, `intermediate_size`, `temporal_radius`, `adapter_size`, "
                "`projection_dim`, `pooling_num_heads`, frames or clips",
            ),
            (
                clip,
                num_clips * self._pixel_values,
                "pixel values",
                self._most_pixels,
                "`image_size`, `num_channels`, frames or clips",
            ),
            (
                f"A text, which is padded to {padded} tokens,",
                padded**2 * text.num_hidden_layers * text.num_attention_heads,
                "scores of attention",
                MAX_TEXT_SCORES,
                "In `text_config`, `max_position_embeddings`, layers or heads",
            ),
            (
                f"A batch of {TEXTS_AT_ONCE} texts of {positions} tokens",
                TEXTS_AT_ONCE * positions * _widest(text),
                "numbers in a tensor",
                self._most_numbers,
                "In `text_config`, `max_position_embeddings`, `hidden_size` or `intermediate_size`",
            ),
        ):
            if asked > most:
                raise ValueError(
                    f"{subject} has {asked:.1e} {what}; a model of this size has at most {most:.1e}. {sizes} are far "
                    "too large."
                )

    @property
    def num_tokens(self) -> int:
        """Tokens of the clip."""
        return self.num_frames * (patches_of(self.config.vision_config) + 1)

    @property
    def attention_scores(self) -> int:
        """Scores of attention that the vision tower computes of the clip, over layers and heads."""
        config, vision, module = self.config, self.config.vision_config, self.config.temporal_entries[0]
        # What a token is compared with: all of the clip, those of the frames around, or its own frame's.
        compared = self.num_tokens if module.place == "embeddings" else patches_of(vision) + 1
        compared *= 2 * config.temporal_radius + 1 if module.has_radius else 1
        # Or with those of the same place in all frames, which are counted wherever frames are mixed.
        compared += self.num_frames if module.mixes_frames else 0
        compared += NUM_CONTEXT_TOKENS if module.hands_on else 0
        scores = self.num_tokens * compared * vision.num_attention_heads
        if module.hands_on:
            scores += self._seed_pairs * round(self.num_tokens * SEED_SHARE / MAX_MERGED)
        return scores * vision.num_hidden_layers

    @property
    def block_numbers(self) -> int:
        """Numbers of the largest tensor that a block of the vision tower makes of the clip's tokens.

        With the frames of zeros on either side of the clip, whose keys and values are there where frames around are
        attended to; and with the tokens that sum up a clip, which are laid beside those of each frame.
        """
        vision, module = self.config.vision_config, self.config.temporal_entries[0]
        around = 4 * self.config.temporal_radius if module.has_radius else 0
        context = NUM_CONTEXT_TOKENS if module.hands_on else 0
        biases = BIAS_CHANNELS * vision.num_attention_heads if module.hands_on else 0
        return max(
            self.num_tokens * max(_widest(vision), 2 * _adapter_size(self.config)),
            (3 * self.num_frames + around) * (patches_of(vision) + 1 + context) * (vision.hidden_size + biases),
        )

    @property
    def largest_product(self) -> float:
        """Multiplications of the largest operation that a block of the vision tower, or the patches, take, forward.

        That of an MLP; the attention of a block, whose backward pass has two and a half times as many, in smaller
        pieces, and whose exponentials are what takes time where heads are narrow; or that of the patches.
        """
        vision = self.config.vision_config
        width, heads = vision.hidden_size, vision.num_attention_heads
        return max(
            self.num_tokens * width * max(width, vision.intermediate_size),
            4 * self.attention_scores / vision.num_hidden_layers * max(width / heads, 64),
            self._pixel_values * width,
        )

    @property
    def clips_at_once(self) -> int:
        """Clips that are computed together on a CPU, so that their tensors have the size that one clip's may have."""
        return max(1, self._most_numbers // self.largest_tensor)

    def kept_numbers(self, num_layers: float) -> float:
        """Numbers that blocks of the vision tower, and the pooling, keep of the clip for a backward pass.

        Args:
            num_layers: how many blocks do.
        """
        config, vision, pooling = self.config, self.config.vision_config, self.config.temporal_entries[1]
        kept = KEPT_TENSORS * num_layers * self.block_numbers + min(1, num_layers) * self.window_numbers
        if vision.attention_dropout:
            kept += SCORE_TENSORS * num_layers * self.attention_scores / vision.num_hidden_layers
        if "pooling_num_layers" in pooling.fields:
            inner = max(4 * config.projection_dim, CLASS_TOKEN_INNER_WIDTH)
            tensors = KEPT_TENSORS * (self.num_frames + 1) * inner + SCORE_TENSORS * self._pooling_scores
            kept += config.pooling_num_layers * tensors
        return kept

    def held_numbers(self, num_layers: float, *, is_trained: bool) -> float:
        """Numbers that are held of the clip at once, at least, beside those that the blocks of any CLIP hold.

        By the temporal module and the pooling, by dropout, and as embeddings.

        Args:
            num_layers: blocks of the vision tower that keep theirs for a backward pass.
            is_trained: whether these, or the pooling, do; else all that counts is what is there at one time.
        """
        config, vision = self.config, self.config.vision_config
        module, pooling = config.temporal_entries
        embeds, further, scores = pooling.kept
        pooling_layers, pooling_scores = 1, 0
        if "pooling_num_layers" in pooling.fields:
            pooling_layers, pooling_scores = config.pooling_num_layers, self._pooling_scores
        # Beside the tokens of each frame, those that sum up the clip.
        biased = vision.hidden_size + BIAS_CHANNELS * vision.num_attention_heads
        context = min(NUM_CONTEXT_TOKENS, int(self.num_frames * patches_of(vision) * SEED_SHARE))
        laid_out = module.hands_on * self.num_frames * context * biased
        if not is_trained:
            # The embeddings as projected, and of unit length.
            return max(2 * laid_out, pooling_scores, 2 * self.embed_numbers)
        adapters = 0
        if module.adapter_divisor is not None:
            adapter_size = config.adapter_size or vision.hidden_size // module.adapter_divisor
            adapters = module.adapter_tensors * self.num_tokens * adapter_size
        dropped = 2 * self.attention_scores / vision.num_hidden_layers if vision.attention_dropout else 0
        # The last block may be computed for a token of each frame alone.
        of_block = adapters + max(2 * laid_out, dropped)
        held = max(0, num_layers - 1) * of_block + min(1, num_layers) * self.window_numbers
        held += pooling_layers * (self.num_frames * further + embeds * self.embed_numbers + scores * pooling_scores)
        return held + 5 * self.embed_numbers

    @property
    def embed_numbers(self) -> int:
        """Numbers of the embeddings of the clip's frames, or of its one."""
        is_one = self.config.temporal_entries[0].place == "embeddings"
        return (1 if is_one else self.num_frames) * self.config.projection_dim

    @property
    def window_numbers(self) -> int:
        """Numbers that a block's keys and values take where they are written out: all frames around, of each frame.

        So they are in a backward pass, and by eager attention.
        """
        config, module = self.config, self.config.temporal_entries[0]
        around = 2 * config.temporal_radius + 1 if module.has_radius else 0
        return 2 * around * self.num_tokens * config.vision_config.hidden_size

    def kept_text_scores(self, num_layers: float, num_pairs: float) -> float:
        """Scores of attention that blocks of the text tower keep for a backward pass: without dropout, none.

        Args:
            num_layers: how many blocks do.
            num_pairs: pairs of tokens within the texts.
        """
        text = self.config.text_config
        return SCORE_TENSORS * num_layers * text.num_attention_heads * num_pairs if text.attention_dropout else 0

    def videos_at_once(self, num_clips: int) -> int:
        """Videos whose clips are read together, so that they have the pixel values and embeddings that one's may have.

        Args:
            num_clips: clips of a video.
        """
        return max(
            1,
            min(
                self._most_pixels // (num_clips * self._pixel_values),
                self._most_numbers // (num_clips * self.num_frames * self.config.projection_dim),
            ),
        )

    @property
    def most_kept(self) -> int:
        """Numbers that blocks may keep of the clip for a backward pass."""
        return self._most(MAX_KEPT, MAX_KEPT_PER_PARAMETER)

    @property
    def most_mapped(self) -> int:
        """Numbers that a map over the clip's patches may hold at once."""
        return self._most(MAX_MAPPED, MAX_MAPPED_PER_PARAMETER)

    @property
    def most_embedded(self) -> int:
        """Numbers that the embeddings of labels under templates may have together."""
        return self._most(MAX_EMBEDDED, MAX_EMBEDDED_PER_PARAMETER)

    @property
    def _most_pixels(self) -> int:
        """Pixel values that the clips of a video may have together."""
        return self._most(MAX_PIXELS, MAX_PIXELS_PER_PARAMETER)

    @property
    def _most_numbers(self) -> int:
        """Numbers that a tensor may have."""
        return self._most(MAX_NUMBERS, MAX_NUMBERS_PER_PARAMETER)

    def _most(self, number: int, per_parameter: int) -> int:
        """The larger of both, in single precision; in double precision, half as many take the same memory."""
        is_double = str(self.config.dtype).endswith(("float64", "double"))
        return max(number, per_parameter * estimate_parameters(self.config)) // (2 if is_double else 1)

    @property
    def _pixel_values(self) -> int:
        """Those of the clip."""
        vision = self.config.vision_config
        return self.num_frames * vision.num_channels * vision.image_size**2

    @property
    def largest_tensor(self) -> int:
        """Numbers of the largest tensor that the vision tower or the pooling has in memory of the clip."""
        config = self.config
        module, pooling = config.temporal_entries
        pairs = self._seed_pairs if module.hands_on else 0
        if "pooling_num_heads" in pooling.fields:
            pairs = max(pairs, self._pooling_scores)
        return max(pairs, self.block_numbers, 4 * self.num_frames * config.projection_dim)

    @property
    def _pooling_scores(self) -> int:
        """Scores of attention of a layer of the pooling, which has some."""
        heads = self.config.pooling_num_heads or self.config.text_config.num_attention_heads
        return heads * (self.num_frames + 1) ** 2

    @property
    def _seed_pairs(self) -> int:
        """Pairs of seeds of the clip that `context_tokens` compares: every second one with each of the others."""
        return round(self.num_tokens * SEED_SHARE / 2) ** 2


def estimate_parameters(config: Any) -> int:
    """Their number, at most a little too high: of what the configuration has, not of all that it says.

    Args:
        config: a [`FrosterConfig`].
    """
    text, vision = config.text_config, config.vision_config
    tables = [
        (patches_of(vision) + vision.num_channels * vision.patch_size**2, vision.hidden_size),
        (text.vocab_size + text.max_position_embeddings, text.hidden_size),
        (vision.hidden_size + text.hidden_size + len(config.id2label), config.projection_dim),
    ]
    layers = _layer_parameters(vision) + _layer_parameters(text)
    return sum(rows * columns for rows, columns in tables) + layers + _added_parameters(config)


def refuse_many_new_parameters(config: Any, *, num_others: int = 0) -> None:
    """Raise where far more is put into a dual encoder than any model of its size is given, before it is built.

    Args:
        config: a [`FrosterConfig`].
        num_others: new parameters besides those of the temporal module and of the pooling.

    Raises:
        ValueError: says how many they are, and how many may be.
    """
    added = _added_parameters(config)
    most = max(MAX_ADDED, estimate_parameters(config) - added)
    if added + num_others > most:
        raise ValueError(
            f"About {added + num_others:.1e} new parameters would be put into the model; into one of this size go at "
            f"most {most:.1e}. Lower `adapter_size`, `num_frames` or `lora_rank`, or take another `temporal_pooling`."
        )


def _added_parameters(config: Any) -> int:
    """Parameters of the temporal module and of the pooling; the former's where they may be more than published."""
    vision, width = config.vision_config, config.projection_dim
    times, poolings_times = (config.num_frames * entry.fixed_frames for entry in config.temporal_entries)
    adapters = vision.num_hidden_layers * 6 * vision.hidden_size * _adapter_size(config)
    pooling = 0
    if "pooling_num_layers" in config.temporal_entries[1].fields:
        pooling = config.pooling_num_layers * width * (4 * width + 2 * max(4 * width, CLASS_TOKEN_INNER_WIDTH))
    return times * vision.hidden_size + poolings_times * width + adapters + pooling


def patches_of(vision: Any) -> int:
    """Patches of a frame.

    Args:
        vision: configuration of the vision tower.
    """
    return (vision.image_size // vision.patch_size) ** 2


def _layer_parameters(tower: Any) -> int:
    """Parameters of a tower's layers."""
    return tower.num_hidden_layers * tower.hidden_size * (4 * tower.hidden_size + 2 * tower.intermediate_size)


def _widest(tower: Any) -> int:
    """Numbers of a token in the widest tensor of a block: queries, keys and values, or the inner ones of its MLP."""
    return max(3 * tower.hidden_size, tower.intermediate_size)


def _adapter_size(config: Any) -> int:
    """The width of the adapters, where there are some that may be wider than published ones."""
    return (config.adapter_size or 0) if "adapter_size" in config.temporal_entries[0].fields else 0


# What can be given beside a dual encoder's checkpoint: all that is this class's own but the backbone and its towers,
# and what is said of labels.
ARCHITECTURE_FIELDS = (
    *({field.name for field in fields(FrosterConfig)} - {field.name for field in fields(PreTrainedConfig)}).difference(
        {"backbone", "label_weights", *FrosterConfig.sub_configs}
    ),
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
)

__all__ = ["FrosterConfig"]
