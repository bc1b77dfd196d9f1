"""The tables of the three axes of an architecture: backbones, temporal modules and temporal poolings.

One entry per member holds what the rest of the package needs to know of it: names, options of the command line,
parameter groups, what a model card says, which graphs fit one number of frames. A new member is a class and an entry;
nothing else lists them, but for the two `Literal`s that editors and type checkers need, held against the tables.

Nothing is imported here, so that `froster --help` knows the names without waiting for torch; a class is therefore
named by a text where it belongs to `temporal_froster`, to `layers_froster` or to transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Backbone = Literal["clip", "metaclip_2", "siglip"]
TemporalModule = Literal[
    "none",
    "local_attention",
    "directional_attention",
    "channel_shift",
    "cross_frame",
    "st_adapter",
    "motion_adapter",
    "aim",
    "adaptformer",
    "joint",
    "context_tokens",
]
TemporalPooling = Literal[
    "mean", "mean_unnormalized", "lstm", "conv1d", "transformer", "transformer_cls", "specialization"
]


# Where a text ends for a causal text tower: at the first of these tokens, or at the highest token. `None` is a tower
# that reads all of a text, its padding too.
EndToken = int | Literal["highest"] | None


@dataclass(frozen=True, kw_only=True)
class BackboneEntry:
    """A backbone: two towers of transformers, pre-trained together on images and texts.

    The vision tower has `embeddings` and blocks `encoder.layers`, each with `self_attn` (`q_proj`, `k_proj`, `v_proj`,
    `out_proj`), `layer_norm1`, `mlp` and `layer_norm2`, and gives one `pooler_output` per image; the text tower has
    `embeddings.token_embedding` and gives one `pooler_output` per text. transformers' model of both names its parts
    `vision_model`, `text_model`, `visual_projection`, `text_projection`, `logit_scale` and `logit_bias`, and so does
    FROSTER's: the weights load as they are.

    Args:
        description: what it is, in a line.
        source: the publications that it comes from.
        license: license of the published weights.
        checkpoints: some of them on the Hub.
        config: configuration of the dual encoder: a class, or the name of one in transformers, as all of these.
        text_config: configuration of its text tower.
        vision_config: configuration of its vision tower.
        text_model: the text tower.
        vision_model: the vision tower.
        has_class_token: whether the first token of an image is a class token, which stands for the image. Without,
            temporal modules that need one take the mean of the patches.
        has_projections: whether each tower is followed by a linear layer into the joint space. Without, the towers
            themselves end there.
        embed_width: D, from the dual encoder's configuration.
        end_token: where a text ends, from the text tower's configuration. With `None`, every text is padded to the
            tower's number of positions, and nothing is cut off.
        logit_scale: initial logarithm of the scale of the logits, where the configuration does not say it.
        pad_tokens: what its published tokenizers fill texts up with, where the tower reads its padding.
        logit_bias: initial bias of the logits, or `None` for a dual encoder without one. With one, the encoder was
            trained with a sigmoid per pair, and the sigmoid of a logit is the probability that a label holds.
    """

    description: str
    source: str
    license: str
    checkpoints: tuple[str, ...]
    config: str | type
    text_config: str | type
    vision_config: str | type
    text_model: str | type
    vision_model: str | type
    has_class_token: bool
    has_projections: bool
    embed_width: Callable[[Any], int]
    end_token: Callable[[Any], EndToken]
    logit_scale: float
    logit_bias: float | None = None
    pad_tokens: tuple[str, ...] = ()

    @property
    def has_calibrated_sigmoid(self) -> bool:
        """Whether the sigmoid of a logit is a probability: the dual encoder was trained with one, and has a bias."""
        return self.logit_bias is not None


@dataclass(frozen=True, kw_only=True)
class TemporalModuleEntry:
    """A temporal module: what lets the frames of a clip see each other inside the vision tower.

    Args:
        description: what it does, in a line.
        source: the publications that it comes from.
        implementation: a class, or the name of one in `temporal_froster`, that is put on top of the backbone's own
            class for its place (`on_backbone`) and built with the vision tower's configuration and the
            [`FrosterConfig`]; `None` leaves the backbone as it is.
        place: what of the backbone it replaces: the `attention` of every block, every `block`, or the `embeddings`,
            which then take whole clips (B, T, 3, S, S) and make one sequence of each.
        mixes_frames: whether an embedding of one frame depends on the other frames of its clip. Attention and blocks
            that do get the number of frames as the keyword `num_frames`.
        time_symmetric: whether a clip played backwards gives the same frame embeddings, in reverse order.
        fields: further fields of [`FrosterConfig`] that it reads; with `num_frames` among them, its parameters are
            tied to that number of frames.
        own_parameters: names of the parameters and sub-modules that no backbone has.
        zero_start: those of them, or of their parts, that start at zero.
        starts_as_backbone: whether a new model gives a single frame, without neighbors, the backbone's own embedding.
        position_embeddings: those of them that are learned positions, which do not decay.
        adapter_divisor: where it has adapters: the published width of their bottleneck is the tower's by this.
        adapter_tensors: tensors of that width that a block keeps of its tokens for a backward pass, at least.
        recorded: whether all that it carries between frames passes through the attention weights that a model returns.
        hands_on: whether blocks leave something for the block behind them, in a dictionary of the call's own, the
            keyword `handed_on`.
        loops_over_frames: whether an exported graph holds steps that depend on the number of frames, for one of them.
    """

    description: str
    source: str
    implementation: str | type | None
    place: Literal["attention", "block", "embeddings"]
    mixes_frames: bool
    time_symmetric: bool
    fields: tuple[str, ...] = ()
    own_parameters: tuple[str, ...] = ()
    zero_start: tuple[str, ...] = ()
    starts_as_backbone: bool = True
    position_embeddings: tuple[str, ...] = ()
    adapter_divisor: int | None = None
    adapter_tensors: int = 0
    recorded: bool = True
    hands_on: bool = False
    loops_over_frames: bool = False

    @property
    def takes_num_frames(self) -> bool:
        """Whether its blocks look across the rows of a batch, and have to know which of them are one clip."""
        return self.mixes_frames and self.place != "embeddings"

    @property
    def has_radius(self) -> bool:
        """Whether it reaches `temporal_radius` frames to each side."""
        return "temporal_radius" in self.fields

    @property
    def fixed_frames(self) -> bool:
        """Whether its parameters are tied to a number of frames."""
        return "num_frames" in self.fields


@dataclass(frozen=True, kw_only=True)
class TemporalPoolingEntry:
    """A temporal pooling: from the frame embeddings of a clip to one video embedding.

    Args:
        description: what it does, in a line.
        source: the publications that it comes from.
        implementation: a class, or the name of one in `layers_froster`, built with the [`FrosterConfig`]; takes
            (B, T, D) to (B, D).
        normalize_first: whether it gets the frame embeddings as unit vectors, and its result is left as it is;
            otherwise it gets them as projected, and the result is normalized.
        time_symmetric: whether the order of the frames has no effect.
        has_parameters: whether it has parameters; all below `temporal_pooling.`.
        fields: further fields of [`FrosterConfig`] that it reads; with `num_frames` among them, its parameters are
            tied to that number of frames.
        layers: name of its list of layers, `pooling_num_layers` long, if it has one.
        kept: what each of its layers keeps for a backward pass, at least: embeddings and further numbers of each
            frame, and scores of each pair of frames and head.
        loops_over_frames: whether an exported graph holds the loop over the frames unrolled, for one number of them.
    """

    description: str
    source: str
    implementation: str | type
    normalize_first: bool = False
    time_symmetric: bool = False
    has_parameters: bool = True
    fields: tuple[str, ...] = ()
    layers: str | None = None
    kept: tuple[int, int, int] = (0, 0, 0)
    loops_over_frames: bool = False

    @property
    def fixed_frames(self) -> bool:
        """Whether its parameters are tied to a number of frames."""
        return "num_frames" in self.fields


def historical_end_token(text_config: Any) -> EndToken:
    """The end token of CLIP: configurations from before 2023 say 2, and mean the highest token."""
    return "highest" if text_config.eos_token_id == 2 else text_config.eos_token_id


# By transformers' `model_type` of the dual encoder.
BACKBONES: dict[str, BackboneEntry] = {
    "clip": BackboneEntry(
        description="OpenAI's CLIP and all that have its shape: OpenCLIP's, LAION's, DataComp's, MetaCLIP's",
        source="CLIP (Radford et al., ICML 2021)",
        license="MIT (OpenAI, LAION, DataComp), CC BY-NC 4.0 (MetaCLIP)",
        checkpoints=("openai/clip-vit-base-patch16", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        config="CLIPConfig",
        text_config="CLIPTextConfig",
        vision_config="CLIPVisionConfig",
        text_model="CLIPTextModel",
        vision_model="CLIPVisionModel",
        has_class_token=True,
        has_projections=True,
        embed_width=lambda config: config.projection_dim,
        end_token=historical_end_token,
        logit_scale=2.6592,
    ),
    "metaclip_2": BackboneEntry(
        description="CLIP's shape, trained on texts of many languages, with a multilingual tokenizer",
        source="MetaCLIP 2 (Chuang et al., 2025)",
        license="CC BY-NC 4.0",
        checkpoints=("facebook/metaclip-2-worldwide-huge-quickgelu",),
        config="MetaClip2Config",
        text_config="MetaClip2TextConfig",
        vision_config="MetaClip2VisionConfig",
        text_model="MetaClip2TextModel",
        vision_model="MetaClip2VisionModel",
        has_class_token=True,
        has_projections=True,
        embed_width=lambda config: config.projection_dim,
        end_token=lambda text_config: text_config.eos_token_id,
        logit_scale=2.6592,
    ),
    "siglip": BackboneEntry(
        description="SigLIP and fixed-resolution SigLIP 2: a sigmoid per pair, attention pooling, texts of 64 tokens",
        source="SigLIP (Zhai et al., ICCV 2023), SigLIP 2 (Tschannen et al., 2025)",
        license="Apache 2.0",
        checkpoints=("google/siglip-base-patch16-224", "google/siglip2-base-patch16-224"),
        config="SiglipConfig",
        text_config="SiglipTextConfig",
        vision_config="SiglipVisionConfig",
        text_model="SiglipTextModel",
        vision_model="SiglipVisionModel",
        has_class_token=False,
        has_projections=False,
        embed_width=lambda config: config.vision_config.hidden_size,
        end_token=lambda text_config: None,
        logit_scale=2.3026,
        logit_bias=-10.0,
        pad_tokens=("</s>", "<pad>"),
    ),
}

TEMPORAL_MODULES: dict[str, TemporalModuleEntry] = {
    "none": TemporalModuleEntry(
        description="CLIP on every frame; the frames do not see each other",
        source="CLIP",
        implementation=None,
        place="attention",
        mixes_frames=False,
        time_symmetric=True,
    ),
    "local_attention": TemporalModuleEntry(
        description="every block attends to the frames within `temporal_radius`",
        source="FROSTER, Open-VCLIP",
        implementation="LocalAttention",
        place="attention",
        mixes_frames=True,
        time_symmetric=True,
        fields=("temporal_radius",),
    ),
    "directional_attention": TemporalModuleEntry(
        description="`local_attention` that also reads how each token changes over time; tells forward from backward",
        source="this package",
        implementation="DirectionalAttention",
        place="attention",
        mixes_frames=True,
        time_symmetric=False,
        fields=("temporal_radius",),
        own_parameters=("motion_gate",),
        zero_start=("motion_gate",),
        recorded=False,
    ),
    "channel_shift": TemporalModuleEntry(
        description="a quarter of the key and value channels comes from the next frame, another from the previous one",
        source="TSM, X-ViT",
        implementation="ChannelShiftAttention",
        place="attention",
        mixes_frames=True,
        time_symmetric=False,
        starts_as_backbone=False,
        recorded=False,
    ),
    "cross_frame": TemporalModuleEntry(
        description="one message token per frame, exchanged among the frames",
        source="X-CLIP",
        implementation="CrossFrameLayer",
        place="block",
        mixes_frames=True,
        time_symmetric=True,
        own_parameters=("message_proj", "message_norm", "message_attn"),
        starts_as_backbone=False,
        recorded=False,
    ),
    "st_adapter": TemporalModuleEntry(
        description="a depthwise temporal convolution in a bottleneck before the attention",
        source="ST-Adapter",
        implementation="SpatioTemporalAdapterLayer",
        place="block",
        mixes_frames=True,
        time_symmetric=False,
        fields=("adapter_size",),
        own_parameters=("st_adapter",),
        zero_start=("up_proj",),
        adapter_divisor=2,
        adapter_tensors=2,
        recorded=False,
    ),
    "motion_adapter": TemporalModuleEntry(
        description="first and second differences over time in a bottleneck; adds nothing where nothing moves",
        source="this package",
        implementation="MotionAdapterLayer",
        place="block",
        mixes_frames=True,
        time_symmetric=False,
        fields=("adapter_size",),
        own_parameters=("motion_adapter",),
        zero_start=("up_proj",),
        adapter_divisor=4,
        adapter_tensors=5,
        recorded=False,
    ),
    "aim": TemporalModuleEntry(
        description="the block's own attention used over time as well, with three adapters",
        source="AIM",
        implementation="AIMLayer",
        place="block",
        mixes_frames=True,
        time_symmetric=True,
        fields=("adapter_size",),
        own_parameters=("temporal_adapter", "spatial_adapter", "mlp_adapter"),
        zero_start=("up_proj",),
        adapter_divisor=4,
        adapter_tensors=6,
        recorded=False,
    ),
    "adaptformer": TemporalModuleEntry(
        description="an adapter beside the MLP; the frames do not see each other",
        source="AdaptFormer",
        implementation="AdaptFormerLayer",
        place="block",
        mixes_frames=False,
        time_symmetric=True,
        fields=("adapter_size",),
        own_parameters=("mlp_adapter",),
        zero_start=("up_proj",),
        adapter_divisor=4,
        adapter_tensors=2,
    ),
    "joint": TemporalModuleEntry(
        description="all patches of all frames in one sequence, with learned times",
        source="ActionCLIP's pre-network prompt",
        implementation="JointEmbeddings",
        place="embeddings",
        mixes_frames=True,
        time_symmetric=False,
        fields=("num_frames",),
        own_parameters=("time_embedding",),
        zero_start=("time_embedding",),
        position_embeddings=("time_embedding",),
    ),
    "context_tokens": TemporalModuleEntry(
        description="every block but the first also attends to 96 tokens that sum up the clip's most attended patches",
        source="TC-CLIP",
        implementation="ContextTokensLayer",
        place="block",
        mixes_frames=True,
        time_symmetric=True,
        own_parameters=("local_bias", "context_bias"),
        starts_as_backbone=False,
        recorded=False,
        hands_on=True,
        loops_over_frames=True,
    ),
}

TEMPORAL_POOLINGS: dict[str, TemporalPoolingEntry] = {
    "mean": TemporalPoolingEntry(
        description="the mean of the normalized frame embeddings, not normalized again",
        source="FROSTER",
        implementation="MeanPooling",
        normalize_first=True,
        time_symmetric=True,
        has_parameters=False,
    ),
    "mean_unnormalized": TemporalPoolingEntry(
        description="the mean of the frame embeddings as projected",
        source="ActionCLIP",
        implementation="MeanPooling",
        time_symmetric=True,
        has_parameters=False,
    ),
    "lstm": TemporalPoolingEntry(
        description="an LSTM over the frames, added to its input, then the mean",
        source="ActionCLIP",
        implementation="LSTMPooling",
        kept=(12, 0, 0),
        loops_over_frames=True,
    ),
    "conv1d": TemporalPoolingEntry(
        description="a depthwise convolution over three frames, added to its input, then the mean",
        source="ActionCLIP",
        implementation="Conv1dPooling",
    ),
    "transformer": TemporalPoolingEntry(
        description="transformer layers over the frames with learned positions, added to their input, then the mean",
        source="ActionCLIP",
        implementation="TransformerPooling",
        fields=("pooling_num_layers", "pooling_num_heads"),
        layers="layers",
        kept=(12, 0, 1),
    ),
    "transformer_cls": TemporalPoolingEntry(
        description="transformer layers over a class token and the frames; the class token is the video",
        source="ActionCLIP",
        implementation="TransformerClassTokenPooling",
        fields=("num_frames", "pooling_num_layers", "pooling_num_heads"),
        layers="encoder.layers",
        # Its MLPs have 2048 numbers whatever the embedding's width; dropout keeps its own.
        kept=(6, 3 * 2048, 3),
    ),
    "specialization": TemporalPoolingEntry(
        description="the mean of the normalized frame embeddings and a linear map of it, which starts at zero",
        source="TACO",
        implementation="SpecializationPooling",
        normalize_first=True,
        time_symmetric=True,
    ),
}


def is_temporal(name: str) -> bool:
    """Whether a parameter is one that no backbone has: of a temporal module or pooling."""
    modules = {part for entry in TEMPORAL_MODULES.values() for part in entry.own_parameters}
    return not ({"temporal_pooling"} | modules).isdisjoint(name.split("."))


def modules_without_parameters() -> list[str]:
    """The temporal modules that add no parameters to CLIP."""
    return [name for name, entry in TEMPORAL_MODULES.items() if not entry.own_parameters]


def find_entry(field: str, name: Any, table: Mapping[str, Any]) -> Any:
    """The entry of a name.

    Args:
        field: what the name is given for, for the message.
        name: to be found.
        table: `BACKBONES`, `TEMPORAL_MODULES` or `TEMPORAL_POOLINGS`.

    Raises:
        ValueError: the table has no such name.
    """
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"`{field}` is {name!r}; it must be one of {', '.join(table)}.")
    return table[name]


for _names, _table in (
    (Backbone, BACKBONES),
    (TemporalModule, TEMPORAL_MODULES),
    (TemporalPooling, TEMPORAL_POOLINGS),
):
    if get_args(_names) != tuple(_table):
        raise TypeError(
            f"The Literal of names {get_args(_names)} and the table of {tuple(_table)} differ; they must have the "
            "same names in the same order."
        )


def find_implementation(implementation: str | type | None, place: Any) -> Any:
    """The class of an entry.

    Args:
        implementation: the entry's `implementation`, or one of its classes.
        place: names of the file that the table's own classes are in, or the module transformers.

    Raises:
        TypeError: there is no class of this name.
    """
    if not isinstance(implementation, str):
        return implementation
    found = place.get(implementation) if isinstance(place, dict) else getattr(place, implementation, None)
    if not isinstance(found, type):
        raise TypeError(f"A table of the architecture names the class {implementation!r}, which does not exist.")
    return found
