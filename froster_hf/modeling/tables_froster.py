"""The tables of the two axes of an architecture: temporal modules and temporal poolings.

One entry per member holds what the rest of the package needs to know of it: names, options of the command line,
parameter groups, what a model card says, which graphs fit one number of frames. A new member is a class and an entry;
nothing else lists them, but for the two `Literal`s that editors and type checkers need, held against the tables.

Nothing is imported here, so that `froster --help` knows the names without waiting for torch; a class is therefore
named by a text where it belongs to `temporal_froster` or `heads_froster`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

TemporalModule = Literal[
    "none",
    "local_attention",
    "directional_attention",
    "channel_shift",
    "cross_frame",
    "st_adapter",
    "aim",
    "adaptformer",
    "joint",
]
TemporalPooling = Literal["mean", "mean_unnormalized", "lstm", "conv1d", "transformer", "transformer_cls"]


@dataclass(frozen=True, kw_only=True)
class TemporalModuleEntry:
    """A temporal module: what lets the frames of a clip see each other inside the vision tower.

    Args:
        description: what it does, in a line.
        source: the publications that it comes from.
        implementation: a class, or the name of one in `temporal_froster`, built with the vision tower's configuration
            and the [`FrosterConfig`]; `None` leaves CLIP as it is.
        place: what of CLIP it replaces: the `attention` of every block, every `block`, or the `embeddings`, which
            then take whole clips (B, T, 3, S, S) and make one sequence of each.
        mixes_frames: whether an embedding of one frame depends on the other frames of its clip. Attention and blocks
            that do are told the number of frames by the keyword `num_frames`.
        time_symmetric: whether a clip played backwards gives the same frame embeddings, in reverse order.
        fields: further fields of [`FrosterConfig`] that it reads; with `num_frames` among them, its parameters are
            tied to that number of frames.
        own_parameters: names of the parameters and sub-modules that CLIP does not have.
        zero_start: those of them, or of their parts, that start at zero.
        position_embeddings: those of them that are learned positions, which do not decay.
        adapter_divisor: where it has adapters: the published width of their bottleneck is the tower's by this.
        recorded: whether all that it carries between frames passes through the attention weights that a model returns.
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
    position_embeddings: tuple[str, ...] = ()
    adapter_divisor: int | None = None
    recorded: bool = True

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
        implementation: a class, or the name of one in `heads_froster`, built with the [`FrosterConfig`]; takes
            (B, T, D) to (B, D).
        normalize_first: whether it gets the frame embeddings as unit vectors, and its result is left as it is;
            otherwise it gets them as projected, and the result is normalized.
        time_symmetric: whether the order of the frames has no effect.
        has_parameters: whether it has parameters; all below `temporal_pooling.`.
        fields: further fields of [`FrosterConfig`] that it reads; with `num_frames` among them, its parameters are
            tied to that number of frames.
        layers: name of its list of layers, `pooling_num_layers` long, if it has one.
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
    loops_over_frames: bool = False

    @property
    def fixed_frames(self) -> bool:
        """Whether its parameters are tied to a number of frames."""
        return "num_frames" in self.fields


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
    ),
    "transformer_cls": TemporalPoolingEntry(
        description="transformer layers over a class token and the frames; the class token is the video",
        source="ActionCLIP",
        implementation="TransformerClassTokenPooling",
        fields=("num_frames", "pooling_num_layers", "pooling_num_heads"),
        layers="encoder.layers",
    ),
}


def modules_without_parameters() -> list[str]:
    """The temporal modules that add no parameters to CLIP."""
    return [name for name, entry in TEMPORAL_MODULES.items() if not entry.own_parameters]


def find_entry(field: str, name: Any, table: Mapping[str, Any]) -> Any:
    """The entry of a name.

    Args:
        field: what the name is given for, for the message.
        name: to be found.
        table: `TEMPORAL_MODULES` or `TEMPORAL_POOLINGS`.

    Raises:
        ValueError: the table has no such name.
    """
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"`{field}` is {name!r}; it must be one of {', '.join(table)}.")
    return table[name]


for _names, _table in ((TemporalModule, TEMPORAL_MODULES), (TemporalPooling, TEMPORAL_POOLINGS)):
    if get_args(_names) != tuple(_table):
        raise TypeError(f"The Literal of names {get_args(_names)} and the table of {tuple(_table)} differ.")


def find_implementation(implementation: str | type | None, classes: dict[str, Any]) -> Any:
    """The class of an entry.

    Args:
        implementation: of the entry.
        classes: names of the file that the table's own classes are in.

    Raises:
        TypeError: the file has no class of this name.
    """
    if isinstance(implementation, str):
        if not isinstance(classes.get(implementation), type):
            raise TypeError(f"A table of the architecture names the class {implementation!r}, which does not exist.")
        return classes[implementation]
    return implementation
