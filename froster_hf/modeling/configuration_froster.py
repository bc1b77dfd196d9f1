"""FROSTER's configuration: the two CLIP towers, and what is put between the frames.

Architecture only. How a model is trained stands in `FrosterTrainingArguments`, prompts and pixels in the processor.
"""

from dataclasses import fields
from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig

from .tables_froster import (
    TEMPORAL_MODULES,
    TEMPORAL_POOLINGS,
    TemporalModule,
    TemporalModuleEntry,
    TemporalPooling,
    TemporalPoolingEntry,
    find_entry,
)


@strict
class FrosterConfig(PreTrainedConfig):
    r"""Configuration of [`FrosterModel`] and [`FrosterForVideoClassification`].

    Args:
        text_config: CLIP's text tower, as a dict or [`CLIPTextConfig`].
        vision_config: CLIP's vision tower, as a dict or [`CLIPVisionConfig`].
        projection_dim: D, the width of the joint embedding space.
        logit_scale_init_value: the logarithm of the initial inverse temperature.
        initializer_range: standard deviation of freshly drawn layers outside the CLIP towers.
        num_frames: frames a clip that the model was trained with. Other counts work at run time, except where
            parameters are tied to the count (`joint`, `transformer_cls`).
        temporal_module: how the frames of a clip see each other inside the vision tower.

            - `none`: not at all; CLIP on every frame.
            - `local_attention`: every block attends to the frames within `temporal_radius` (FROSTER, Open-VCLIP).
            - `directional_attention`: `local_attention` that also reads how each token changes from the previous frame
              to the next, through weights that start at zero; tells forward from backward (this package). A
              checkpoint with `local_attention` becomes one by `from_pretrained(..., temporal_module=...)`.
            - `channel_shift`: a quarter of the key and value channels comes from the next frame, a quarter from the
              previous one (TSM; X-ViT).
            - `cross_frame`: a message token a frame, exchanged among the frames (X-CLIP).
            - `st_adapter`: a depthwise temporal convolution in a bottleneck before the attention (ST-Adapter).
            - `aim`: the block's own attention used over time as well, with three adapters (AIM).
            - `adaptformer`: an adapter beside the MLP; no exchange among frames (AdaptFormer).
            - `joint`: all patches of all frames in one sequence (ActionCLIP's pre-network prompt).
        temporal_radius: frames seen to each side by `local_attention` and `directional_attention`. The published
            numbers use 1; `local_attention` with 0 is CLIP.
        adapter_size: width of the adapters' bottleneck. `None` is the published one: half the tower's width for
            `st_adapter`, a quarter for `aim` and `adaptformer`.
        temporal_pooling: from frame embeddings to the video embedding.

            - `mean`: the mean of the *normalised* frame embeddings, not normalised again (FROSTER).
            - `mean_unnormalized`, `lstm`, `conv1d`, `transformer`, `transformer_cls`: ActionCLIP's post-network
              prompts, on the frame embeddings as projected; the result is normalised.
        pooling_num_layers: layers of `transformer` and `transformer_cls`.
        pooling_num_heads: their attention heads. `None` is the published number: the text tower's for `transformer`,
            8 for `transformer_cls`.

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
    sub_configs = {"text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}

    if TYPE_CHECKING:  # what they are once `__post_init__` has built them
        text_config: CLIPTextConfig
        vision_config: CLIPVisionConfig
        id2label: dict[int, str]
        temporal_module: TemporalModule
        temporal_pooling: TemporalPooling
    else:
        text_config: dict | CLIPTextConfig | None = None
        vision_config: dict | CLIPVisionConfig | None = None
        # The tables' names, also of what is entered there at run time.
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

    def __post_init__(self, **kwargs):
        if not isinstance(self.text_config, CLIPTextConfig):
            self.text_config = CLIPTextConfig(**(self.text_config or {}))
        if not isinstance(self.vision_config, CLIPVisionConfig):
            self.vision_config = CLIPVisionConfig(**(self.vision_config or {}))
        if self.id2label is None and kwargs.get("num_labels") is None:
            # transformers' default of two labels named LABEL_0 and LABEL_1 is wrong for an open vocabulary:
            # there are none until `set_labels`.
            self.id2label, self.label2id = {}, {}
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """Refuse values that no model can be built from; called by the constructor."""
        find_entry("temporal_module", self.temporal_module, TEMPORAL_MODULES)
        find_entry("temporal_pooling", self.temporal_pooling, TEMPORAL_POOLINGS)
        for name, smallest in (("num_frames", 1), ("temporal_radius", 0), ("pooling_num_layers", 1)):
            value = getattr(self, name)
            if value < smallest:
                raise ValueError(f"`{name}` is {value}; it must be at least {smallest}.")
        if self.adapter_size is not None and self.adapter_size < 1:
            raise ValueError(f"`adapter_size` is {self.adapter_size}; give a positive width, or None for the default.")

    @property
    def temporal_entries(self) -> tuple[TemporalModuleEntry, TemporalPoolingEntry]:
        """What the tables say of the temporal module and of the pooling."""
        return TEMPORAL_MODULES[self.temporal_module], TEMPORAL_POOLINGS[self.temporal_pooling]

    @classmethod
    def from_clip_config(cls, clip_config: CLIPConfig, **kwargs) -> "FrosterConfig":
        """The configuration whose towers are those of `clip_config`; `kwargs` are fields of this class."""
        if getattr(clip_config, "model_type", None) != "clip":
            raise ValueError(
                f"A CLIP configuration is needed, got model type {getattr(clip_config, 'model_type', None)!r} "
                f"({type(clip_config).__name__}). Give a checkpoint whose config.json says `model_type: clip`."
            )
        shared = ("text_config", "vision_config", "projection_dim", "logit_scale_init_value")
        clip_dict = clip_config.to_dict()
        # The precision that the checkpoint is meant to be loaded in, which its files need not have.
        kwargs.setdefault("dtype", clip_config.dtype)
        return cls(**{name: clip_dict[name] for name in shared} | kwargs)


# What can be given beside a CLIP checkpoint: all that is this class's own but the towers, and what is said of labels.
ARCHITECTURE_FIELDS = (
    *({field.name for field in fields(FrosterConfig)} - {field.name for field in fields(PreTrainedConfig)}).difference(
        FrosterConfig.sub_configs
    ),
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
)

__all__ = ["FrosterConfig"]
