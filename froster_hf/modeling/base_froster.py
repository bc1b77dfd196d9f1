"""Base classes shared by the models: CLIP's vision tower with a temporal module, loading from CLIP, saving."""

import os

import torch
from torch import nn
from transformers import CLIPConfig, CLIPVisionConfig, CLIPVisionModel, PreTrainedModel

from .configuration_froster import ARCHITECTURE_FIELDS, FrosterConfig, read_clip_config
from .tables_froster import TEMPORAL_MODULES, TemporalModule
from .temporal_froster import insert_temporal_module, zero_what_starts_at_zero

PROJECTORS_PREFIX = "distillation_projectors."
HUB_KWARGS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
AUTO_MAP = {
    "AutoModel": "modeling_froster.FrosterModel",
    "AutoModelForVideoClassification": "modeling_froster.FrosterForVideoClassification",
}


class GuardedInitialization:
    """Says to transformers that weights are drawn by its own guarded initializers, as in its own models.

    For other "custom code" it skips the modules that have no parameter of their own, since their loaded weights might
    be overwritten, and with them the zero layers of the adapters and CLIP's scales.
    """

    @classmethod
    def is_custom_code(cls) -> bool:
        """See the class."""
        return False


class FrosterVisionModel(GuardedInitialization, CLIPVisionModel):
    """CLIP's vision tower with a temporal module; `num_frames` goes down to the layers as a keyword."""

    _zero_start: tuple[str, ...] = ()

    def __init__(self, config: CLIPVisionConfig, *, temporal: FrosterConfig):
        super().__init__(config)
        self._zero_start = TEMPORAL_MODULES[temporal.temporal_module].zero_start
        insert_temporal_module(self, temporal)
        # What must not be split over devices: the tower's blocks and embeddings, whichever they are now.
        self._no_split_modules = [type(part).__name__ for part in (self.embeddings, *self.encoder.layers[:1])]
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        zero_what_starts_at_zero(module, self._zero_start)


class FrosterPreTrainedModel(GuardedInitialization, PreTrainedModel):
    """Loading, saving and initialization shared by the models below."""

    config: FrosterConfig
    config_class = FrosterConfig
    base_model_prefix = "froster"
    main_input_name = "pixel_values_videos"
    input_modalities = ["video", "text"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # A training checkpoint carries the projectors, a classifier its label bank: FrosterModel leaves both behind.
    _keys_to_ignore_on_load_unexpected = [r"distillation_projectors\.", r"^label_embeds$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        # The starting values of what is not CLIP's.
        start = getattr(module, "init_own_weights", None)
        if start is not None:
            start()

    @classmethod
    def from_clip(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        temporal_module: TemporalModule = "local_attention",
        **kwargs,
    ):
        """A FROSTER model with the weights of any CLIP checkpoint of transformers; no conversion step.

        Args:
            pretrained_model_name_or_path: a CLIP repository of the Hub or a folder.
            temporal_module: see [`FrosterConfig`].
            kwargs: further fields of [`FrosterConfig`] (`num_frames`, `temporal_radius`, `temporal_pooling`, ...), and
                whatever `from_pretrained` takes (`dtype`, `device_map`, `revision`, `attn_implementation`, ...).

        Raises:
            ValueError: the checkpoint is not CLIP's, or its configuration is refused as [`FrosterConfig`]'s would be.
        """
        architecture = {field: kwargs.pop(field) for field in ARCHITECTURE_FIELDS if field in kwargs}
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        clip_dict, _ = CLIPConfig.get_config_dict(pretrained_model_name_or_path, **hub_kwargs)
        if clip_dict.get("model_type") != "clip":
            raise ValueError(
                f"{str(pretrained_model_name_or_path)!r} is a checkpoint of type {clip_dict.get('model_type')!r}, not "
                "'clip'. Give a CLIP checkpoint of transformers, or load a FROSTER checkpoint with `from_pretrained`."
            )
        config = FrosterConfig.from_clip_config(
            read_clip_config(clip_dict), temporal_module=temporal_module, **architecture
        )
        return cls.from_pretrained(pretrained_model_name_or_path, config=config, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike, *, state_dict: dict | None = None, **kwargs
    ):
        """As in transformers, but without the distillation projectors unless `state_dict` is given and has them."""
        if state_dict is None:
            state_dict = {key: value for key, value in self.state_dict().items() if PROJECTORS_PREFIX not in key}
        if self._auto_class is not None:
            # One folder serves both classes as remote code, whichever of them was saved.
            self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **AUTO_MAP}
        return super().save_pretrained(save_directory, state_dict=state_dict, **kwargs)
