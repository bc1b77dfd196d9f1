"""FROSTER models: the towers of CLIP or another dual encoder, a temporal module between the frames, labels as text.

Huang, Zhou, Yao, Han: FROSTER: Frozen CLIP is a Strong Teacher for Open-Vocabulary Action Recognition (ICLR 2024).

    pixel_values_videos (B, T, 3, S, S) -> vision tower on B*T frames -> frame_embeds (B, T, D) -> video_embeds (B, D)
    input_ids (K*P, L)                  -> text tower                   -> text_embeds (K, D)
    logits (B, K) = exp(logit_scale) * video_embeds . text_embeds (+ logit_bias, for SigLIP)

Letters: B videos, T frames, N tokens per frame, S pixels, W width, H heads, K classes, P prompts per class, L text
tokens, D the joint embedding width.
"""

import hashlib
import importlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPVisionConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple, logging

from .configuration_froster import (
    ARCHITECTURE_FIELDS,
    AUTO_MAP,
    FrosterConfig,
    read_dual_encoder_config,
    refuse_many_new_parameters,
)
from .layers_froster import (
    DistillationProjectors,
    ProjectorKind,
    SharedBeginnings,
    average_prompts,
    build_temporal_pooling,
    classification_loss,
    computes_embeds_alone,
    contrastive_loss,
    embed_shared_texts,
    embed_texts,
    is_plain_text_tower,
    pairwise_sigmoid_loss,
    pool_frames,
    records_outputs,
    share_beginnings,
    sort_by_beginning,
    to_unit_length,
    use_one_pass_mlps,
)
from .tables_froster import BACKBONES, EndToken, TemporalModule, find_implementation
from .temporal_froster import GuardedInitialization, build_vision_model, reads_class_token

logger = logging.get_logger(__name__)

PROJECTORS_PREFIX = "distillation_projectors."
# Tokens of a text beyond which beginnings are not shared: what each row sees would take more than that saves. The
# longest published texts (LongCLIP) have 248.
LONGEST_SHARED = 256
# Values of each weight of a text tower that tell it from others.
FINGERPRINTED_VALUES = 2**16
HUB_KWARGS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


@dataclass
class FrosterVideoFeatures(ModelOutput):
    r"""Outputs of the vision tower for a batch of clips.

    Args:
        frame_embeds: (B, T, D), L2-normalized; (B, 1, D) for `joint`, which has one embedding per clip.
        video_embeds: (B, D); a unit vector but for `temporal_pooling="mean"`, where it is the mean of unit vectors.
        projected_frame_embeds: (B, T, D of the teacher), behind the distillation projector, if there is one.
        hidden_states: a tuple over embeddings and layers of (B*T, N, W), on request.
        attentions: a tuple over layers of (B*T, H, N, keys), on request and with eager attention.
        last_hidden_state: (B, T*N, W), of the tower's last layer; (B, 1 + T*(N-1), W) for `joint`.
        pooler_output: `video_embeds` under the name that transformers' feature extraction has.
    """

    frame_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    projected_frame_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None


@dataclass
class FrosterTextFeatures(ModelOutput):
    r"""Outputs of the text tower for a batch of texts.

    Args:
        text_embeds: (n, D), L2-normalized.
        hidden_states: a tuple over embeddings and layers of (n, L, W), on request.
        attentions: a tuple over layers of (n, H, L, L), on request and with eager attention.
        last_hidden_state: (n, L, W), of the tower's last layer, normalized.
        pooler_output: `text_embeds`, of unit length, under the name that transformers' feature extraction has. (CLIP's
            own is not normalized.)
    """

    text_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None


@dataclass
class FrosterOutput(ModelOutput):
    r"""Videos against texts.

    Args:
        loss: scalar, the backbone's contrastive loss, with `return_loss=True`.
        logits_per_video: (B, n).
        logits_per_text: (n, B).
        video_embeds: (B, D).
        text_embeds: (n, D).
        frame_embeds: (B, T, D).
        projected_frame_embeds: (B, T, D of the teacher), with distillation projectors.
        projected_text_embeds: (n, D of the teacher), with distillation projectors.
        hidden_states: hidden states of the vision tower; see [`FrosterVideoFeatures`].
        attentions: attentions of the vision tower.
        text_hidden_states: hidden states of the text tower; see [`FrosterTextFeatures`].
        text_attentions: attentions of the text tower.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    frame_embeds: torch.Tensor | None = None
    projected_frame_embeds: torch.Tensor | None = None
    projected_text_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    text_hidden_states: tuple[torch.Tensor, ...] | None = None
    text_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class FrosterVideoClassificationOutput(ModelOutput):
    r"""Videos against the labels of a list.

    Args:
        loss: scalar, where `labels` are given: cross-entropy over the label list, or binary cross-entropy of each
            label where the configuration's `problem_type` is `multi_label_classification`.
        logits: (B, K).
        video_embeds: (B, D).
        frame_embeds: (B, T, D).
        text_embeds: (K, D), one per label, where texts or embeddings were given; the stored ones are
            `stored_label_embeds()`, and no part of an output, of which every tensor belongs to the batch.
        projected_frame_embeds: (B, T, D of the teacher), with distillation projectors.
        projected_text_embeds: (K, D of the teacher), as `text_embeds`, with distillation projectors.
        hidden_states: hidden states of the vision tower; see [`FrosterVideoFeatures`].
        attentions: attentions of the vision tower.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    frame_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    projected_frame_embeds: torch.Tensor | None = None
    projected_text_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def check_clips(pixels: torch.Tensor, config: CLIPVisionConfig, *, any_size: bool = False) -> None:
    """Refuse clips that are not floating point (B, T, 3, S, S), or have no frame.

    Args:
        pixels: the clips.
        config: of the vision tower; SigLIP's does not look at the size itself.
        any_size: whether frames may have another size than the tower's.

    Raises:
        ValueError: another shape or dtype.
    """
    side = config.image_size
    expected = f"(videos, frames, {config.num_channels}, {side}, {side})"
    if pixels.ndim != 5 or pixels.shape[2] != config.num_channels:
        hint = "Use the model's video processor, which gives this shape."
        if pixels.ndim == 5 and pixels.shape[-1] == config.num_channels:
            hint = "The channels are last: `pixel_values_videos.permute(0, 1, 4, 2, 3)` puts them where they belong."
        elif pixels.ndim == 4:
            hint = "For one video, add the batch dimension with `pixel_values_videos[None]`."
        raise ValueError(f"`pixel_values_videos` has shape {tuple(pixels.shape)}; expected {expected}. {hint}")
    if not any_size and tuple(pixels.shape[3:]) != (side, side):
        raise ValueError(
            f"`pixel_values_videos` has shape {tuple(pixels.shape)}; expected {expected}. Use the model's video "
            "processor, which gives this size, or have positions interpolated with `interpolate_pos_encoding=True`."
        )
    if pixels.shape[1] == 0:
        raise ValueError(f"`pixel_values_videos` has shape {tuple(pixels.shape)}: clips without a frame.")
    if not pixels.is_floating_point():
        raise ValueError(
            f"`pixel_values_videos` is {pixels.dtype}; expected a floating-point tensor of rescaled and normalized "
            "frames. Use the model's video processor."
        )


def check_input_ids(input_ids: torch.Tensor, config: FrosterConfig) -> None:
    """Refuse texts that are not integers (n, L), with L at most the text tower's positions, or equal to them for a
    tower that reads its padding; and on the CPU, tokens that the text tower does not have.

    Raises:
        ValueError: another shape or dtype, texts that are too long or not padded as far as the tower reads, or a token
            of another vocabulary.
    """
    longest = config.text_config.max_position_embeddings
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ValueError(
            f"`input_ids` has shape {tuple(input_ids.shape)} and dtype {input_ids.dtype}; expected integers of shape "
            "(texts, tokens). Use the model's processor or tokenizer."
        )
    if input_ids.shape[1] > longest:
        raise ValueError(
            f"The texts have {input_ids.shape[1]} tokens, but this model's text tower takes at most {longest}. "
            "Shorten the labels, descriptions or templates, or tokenize with `truncation=True`."
        )
    if config.text_length is not None and input_ids.shape[1] != config.text_length:
        raise ValueError(
            f"The texts have {input_ids.shape[1]} tokens, but the text tower of `{config.backbone}` reads its "
            f"padding: pad them to {config.text_length}, as the model's processor does."
        )
    # Elsewhere, the host would wait for the device.
    is_unread = input_ids.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing()
    if is_unread or input_ids.numel() == 0:
        return
    vocabulary = config.text_config.vocab_size
    if (unknown := input_ids[(input_ids < 0) | (input_ids >= vocabulary)]).numel():
        raise ValueError(
            f"`input_ids` has the token {int(unknown[0])}, but this model has {vocabulary}, from 0 on. Load the "
            "tokenizer of this model's checkpoint."
        )


def check_text_embeds(text_embeds: torch.Tensor | None, width: int) -> torch.Tensor:
    """Return text embeddings, (K, D) or (K, S, D), after checking that there are some.

    Raises:
        ValueError: none, or another shape.
    """
    if text_embeds is None:
        raise ValueError("There is nothing to compare with: give `input_ids` (K*P, L) or `text_embeds` (K, D).")
    if text_embeds.ndim not in (2, 3) or text_embeds.shape[-1] != width:
        raise ValueError(
            f"`text_embeds` has shape {tuple(text_embeds.shape)}; expected (labels, {width}), or (labels, sentences, "
            f"{width}) where the best of a label's sentences counts."
        )
    return text_embeds


def text_lengths(input_ids: torch.Tensor, end_token: EndToken) -> torch.Tensor:
    """The number of tokens up to and including the end token, at which a causal text tower is read.

    Args:
        input_ids: (n, L).
        end_token: end token of the configuration.

    Returns:
        (n,).
    """
    if end_token is None:
        return input_ids.new_full(input_ids.shape[:1], input_ids.shape[1])
    if end_token == "highest":
        return input_ids.argmax(dim=-1) + 1
    return (input_ids == end_token).int().argmax(dim=-1) + 1


def trim_to_longest(
    input_ids: torch.Tensor, end_token: EndToken, *, chunk_size: int, multiple: int = 1
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Sort texts by length and cut them into chunks, each no longer than its longest text needs.

    Args:
        input_ids: (n, L).
        end_token: end token of the configuration.
        chunk_size: texts per chunk.
        multiple: of which the width of a chunk is one, where the texts are as long.

    Returns:
        The order (n,), and the chunks; their concatenation is `input_ids[order]` up to the padding that was cut off.
    """
    lengths = text_lengths(input_ids, end_token)
    order = lengths.argsort(stable=True)
    longest = lengths[order].split(chunk_size)
    # One transfer for all chunks.
    widths = torch.stack([chunk[-1] for chunk in longest]).tolist() if longest and lengths.numel() else []
    return order, [
        chunk[:, : math.ceil(width / multiple) * multiple]
        for chunk, width in zip(input_ids[order].split(chunk_size), widths)
    ]


def sort_and_share(
    input_ids: torch.Tensor, end_token: EndToken, *, chunk_size: int
) -> tuple[torch.Tensor, list[SharedBeginnings]]:
    """Sort texts by how they begin and cut them into chunks that compute what their texts share once; see
    `trim_to_longest`."""
    lengths = text_lengths(input_ids, end_token).cpu().numpy()
    ids = input_ids.cpu().numpy()
    order = sort_by_beginning(ids, lengths)
    chunks = [
        share_beginnings(ids[rows], lengths[rows]).to(input_ids.device)
        for rows in np.split(order, range(chunk_size, len(order), chunk_size))
    ]
    return torch.from_numpy(order).to(input_ids.device), chunks


def text_fingerprint(model: "FrosterModel") -> str | None:
    """What tells the weights of a text tower and its projection, and the same ones in half precision, from others.

    Two hashes of the values rounded to bfloat16 and to float16, as casting rounds them: a cast leaves one of them. Of
    large tensors, values at equal distances are taken, since a training moves them all, and loading should not wait.

    Returns:
        The hashes, with a blank between; `None` where the values are not at hand, are quantized, or are those of
        layers that an adapter stands around.
    """
    parts = {"text_model": model.text_model, "text_projection": model.text_projection}
    weights = {
        f"{part}.{name}": weight for part, module in parts.items() for name, weight in module.named_parameters()
    }
    hashes = {dtype: hashlib.sha256() for dtype in (torch.bfloat16, torch.float16)}
    for name, weight in sorted(weights.items()):
        is_plain = type(weight) is nn.Parameter and weight.dtype.itemsize > 1 and weight.is_floating_point()
        if not is_plain or weight.is_meta or weight.numel() == 0 or ".base_layer." in name:
            return None
        step = -(-weight.numel() // FINGERPRINTED_VALUES)
        values = weight.detach().flatten()[::step].float().cpu()
        for dtype, digest in hashes.items():
            digest.update(f"{name} {tuple(weight.shape)}\n".encode())
            digest.update(values.to(dtype).view(torch.uint8).numpy().data)
    return " ".join(digest.hexdigest()[:32] for digest in hashes.values())


def _same_weights(fingerprint: str | None, other: str | None) -> bool:
    """Whether two results of `text_fingerprint` are of the same weights, as far as they say."""
    if fingerprint is None or other is None:
        return True
    return any(map(str.__eq__, fingerprint.split(" "), other.split(" ")))


def _package_rules() -> Any:
    """The module of the package's rules for checkpoints; `None` where only a copy of this file is."""
    # By name: transformers' loader of remote code demands whatever an import statement names.
    try:
        return importlib.import_module("froster_hf.checkpoint_loading")
    except ModuleNotFoundError:
        return None


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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """As in transformers, but weights that the checkpoint should have and has not are an error, and so are those
        that the model has no place for.

        transformers draws the ones at random and leaves the others out, and an answer follows. Where the caller asks
        for another temporal module or pooling than the checkpoint's configuration says, that one's weights may be new,
        and the checkpoint's own are left out with a warning. `output_loading_info=True` gives the account and raises
        nothing.

        Raises:
            ValueError: names weights that the model's configuration describes and the files lack, or the other way
                round, a file of the folder that leads out of it, pickled weights that take more than they hold, or
                an adapter of PEFT that is not of plain settings, or larger than its file.
        """
        rules = _package_rules()
        if rules is not None and pretrained_model_name_or_path is not None:
            rules.check_before_loading(pretrained_model_name_or_path, **kwargs)
        if kwargs.pop("output_loading_info", False):
            return super().from_pretrained(
                pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
            )
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        model, report = loaded
        missing, unplaced = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
        replaced: dict[str, list[str]] = {}
        if missing or unplaced:
            stored = model._stored_config(**kwargs)
            new = [name for names in model.config.temporal_weights(missing, unlike=stored).values() for name in names]
            missing = [name for name in missing if name not in new]
            # A dual encoder's configuration says nothing of temporal weights: whose they are, nobody knows.
            replaced = {} if stored is None else stored.temporal_weights(unplaced, unlike=model.config)
            unplaced = [name for name in unplaced if not any(name in names for names in replaced.values())]
        if missing:
            shown = ", ".join(missing[:3]) + (f", and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise ValueError(
                f"{len(missing)} tensors of the model that its configuration describes are not in the files of "
                f"{str(pretrained_model_name_or_path)!r}: {shown}. Get the whole checkpoint; with "
                "`output_loading_info=True` the model is loaded all the same, and they are drawn at random."
            )
        if unplaced:
            shown = ", ".join(f"{name!r:.100}" for name in unplaced[:3])
            raise ValueError(
                f"{len(unplaced)} tensors in the files of {str(pretrained_model_name_or_path)!r} have no place in the "
                f"model that its configuration describes, such as {shown}. They may matter to its answers. Get the "
                "configuration that belongs to the weights, or merge updates into the weights where they were "
                "trained; with `output_loading_info=True` the model is loaded all the same, without them."
            )
        for field, names in replaced.items():
            if names:
                logger.warning(
                    f"{len(names)} tensors of `{field}` {getattr(stored, field)!r} in the files of "
                    f"{str(pretrained_model_name_or_path)!r} are left out, since {getattr(model.config, field)!r} "
                    "was asked for."
                )
        return model

    def load_adapter(self, peft_model_id=None, *args, **kwargs):
        """As in transformers, but an adapter is held to the rules of `from_pretrained` first.

        Raises:
            ValueError: the adapter is not of plain settings, or larger than its file.
        """
        rules = _package_rules()
        # `from_pretrained`, which has looked at it, hands on how it loads.
        if rules is not None and peft_model_id is not None and kwargs.get("load_config") is None:
            rules.check_adapter_before_loading(peft_model_id, config=self.config, **kwargs)
        return super().load_adapter(peft_model_id, *args, **kwargs)

    @staticmethod
    def _load_pretrained_model(*args, **kwargs):
        """As in transformers, whose report prints the names of tensors: those of the files come without control
        characters, which a terminal would obey."""
        loaded, offloaded = PreTrainedModel._load_pretrained_model(*args, **kwargs)
        # The others are the model's own.
        loaded.unexpected_keys = {name if name.isprintable() else ascii(name)[1:-1] for name in loaded.unexpected_keys}
        return loaded, offloaded

    def _stored_config(self, **kwargs) -> FrosterConfig | None:
        """The FROSTER configuration beside the weights; `None` where it is a dual encoder's, or there is none."""
        # Where adapters are loaded, the checkpoint that they are for; none where the weights were given.
        source = self.config.name_or_path
        if not source:
            return None
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        stored, _ = PreTrainedConfig.get_config_dict(source, **hub_kwargs)
        return self.config_class.from_dict(stored) if stored.get("model_type") == self.config.model_type else None

    @classmethod
    def from_clip(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        temporal_module: TemporalModule = "local_attention",
        **kwargs,
    ):
        """[`from_dual_encoder`] of a CLIP checkpoint.

        Raises:
            ValueError: the checkpoint is not CLIP's, or its configuration is refused as [`FrosterConfig`]'s would be.
        """
        return cls._from_dual_encoder(
            pretrained_model_name_or_path, ("clip",), temporal_module=temporal_module, **kwargs
        )

    @classmethod
    def from_dual_encoder(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        temporal_module: TemporalModule = "local_attention",
        **kwargs,
    ):
        """A FROSTER model with the weights of a dual encoder of transformers; no conversion step.

        Args:
            pretrained_model_name_or_path: a repository of the Hub or a folder, of one of `BACKBONES`: CLIP,
                MetaCLIP 2, SigLIP, or SigLIP 2 at a fixed resolution.
            temporal_module: see [`FrosterConfig`].
            kwargs: further fields of [`FrosterConfig`] (`num_frames`, `temporal_radius`, `temporal_pooling`, ...), and
                whatever `from_pretrained` takes (`dtype`, `device_map`, `revision`, `attn_implementation`, ...).

        Raises:
            ValueError: the checkpoint is not such a dual encoder's, or its configuration is refused as
                [`FrosterConfig`]'s would be.
        """
        return cls._from_dual_encoder(
            pretrained_model_name_or_path, tuple(BACKBONES), temporal_module=temporal_module, **kwargs
        )

    @classmethod
    def _from_dual_encoder(cls, source: str | os.PathLike, backbones: tuple[str, ...], **kwargs):
        """The checkpoint of one of some backbones as a model of this class."""
        architecture = {field: kwargs.pop(field) for field in ARCHITECTURE_FIELDS if field in kwargs}
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        stored, _ = cls.config_class.get_config_dict(source, **hub_kwargs)
        model_type = stored.get("model_type")
        if model_type == "froster" or model_type in [name for name in BACKBONES if name not in backbones]:
            raise ValueError(
                f"{str(source)!r} is a checkpoint of type {model_type!r}, not {' or '.join(map(repr, backbones))}. "
                "Load a FROSTER checkpoint with `from_pretrained`, another dual encoder with `from_dual_encoder`."
            )
        config = FrosterConfig.from_dual_encoder_config(read_dual_encoder_config(stored), **architecture)
        refuse_many_new_parameters(config)
        return cls.from_pretrained(source, config=config, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict | None = None,
        **kwargs,
    ):
        """As in transformers, but without the distillation projectors unless `state_dict` is given and has them.

        Raises:
            ValueError: the dual encoder below carries an adapter of PEFT, of which the files would not tell.
        """
        if any(getattr(part, "_hf_peft_config_loaded", False) for part in self.children()):
            raise ValueError(
                "The adapter of the dual encoder below cannot be saved with this model. Merge it with PEFT "
                "(`PeftModel.from_pretrained(dual_encoder, adapter).merge_and_unload()`), save that, and load it."
            )
        if state_dict is None:
            state_dict = {key: value for key, value in self.state_dict().items() if PROJECTORS_PREFIX not in key}
        if self._auto_class is not None:
            # One folder serves both classes as remote code, whichever of them was saved.
            self.config.auto_map = dict(AUTO_MAP)
        return super().save_pretrained(save_directory, is_main_process, state_dict, **kwargs)


class FrosterModel(FrosterPreTrainedModel):
    """A dual encoder with a temporal module: video and text features in one space. See [`FrosterConfig`]."""

    def __init__(self, config: FrosterConfig):
        super().__init__(config)
        backbone = config.backbone_entry
        self.text_model = find_implementation(backbone.text_model, transformers)._from_config(config.text_config)
        use_one_pass_mlps(self.text_model)
        self.vision_model = build_vision_model(config)
        self.visual_projection: nn.Module = nn.Identity()
        self.text_projection: nn.Module = nn.Identity()
        if backbone.has_projections:
            self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
            self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        # In the dual encoder's own shapes: one value each where there is a bias, a scalar otherwise.
        shape = () if backbone.logit_bias is None else (1,)
        self.logit_scale = nn.Parameter(torch.full(shape, float(config.logit_scale_init_value)))
        self.logit_bias = None if backbone.logit_bias is None else nn.Parameter(torch.full(shape, backbone.logit_bias))
        self.temporal_pooling = build_temporal_pooling(config)
        self.distillation_projectors: DistillationProjectors | None = None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self:
            for projection in (self.visual_projection, self.text_projection):
                if isinstance(projection, nn.Linear):
                    init.normal_(projection.weight, std=projection.in_features**-0.5)
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
            if self.logit_bias is not None:
                init.constant_(self.logit_bias, self.config.backbone_entry.logit_bias or 0.0)

    def get_input_embeddings(self) -> nn.Module:
        """The text tower's token embeddings."""
        return self.text_model.embeddings.token_embedding

    def set_input_embeddings(self, value: nn.Module):
        """Replace the text tower's token embeddings."""
        self.text_model.embeddings.token_embedding = value

    def add_distillation_projectors(
        self, kind: ProjectorKind = "residual", *, alpha: float = 0.1, teacher_width: int | None = None
    ) -> None:
        """Attach the projectors that stand between the student and the teacher while training (section 3.3).

        Outputs then carry `projected_frame_embeds` and `projected_text_embeds`; logits do not change. To be called
        before the model is wrapped for distributed training. See [`DistillationProjectors`] for the arguments.
        """
        self.distillation_projectors = DistillationProjectors(
            self.config.projection_dim, kind=kind, alpha=alpha, teacher_width=teacher_width
        ).to(self.logit_scale)

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        *,
        interpolate_pos_encoding: bool = False,
        only_embeds: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FrosterVideoFeatures:
        """Embed clips.

        Args:
            pixel_values_videos: (B, T, 3, S, S), floating point, as the processor gives them.
            interpolate_pos_encoding: take other sizes than the tower's by interpolating its positions.
            only_embeds: leave `last_hidden_state` out. The last block is then evaluated at the class tokens alone,
                unless hidden states or attentions are asked for, or a module of the tower has hooks.
            kwargs: `output_hidden_states`, `output_attentions`.

        Returns:
            `video_embeds` (B, D), which is `pooler_output`, too: of unit length but for `temporal_pooling="mean"`,
            FROSTER's, whose mean of unit vectors is a little shorter; and the others of `FrosterVideoFeatures`.

        Raises:
            ValueError: another shape or dtype, or a frame count that the model is tied to otherwise.
        """
        check_clips(pixel_values_videos, self.config.vision_config, any_size=interpolate_pos_encoding)
        if only_embeds and (parts := self._split_clips(pixel_values_videos, kwargs)):
            kwargs |= {"interpolate_pos_encoding": interpolate_pos_encoding, "only_embeds": True, "return_dict": True}
            outputs = [self.get_video_features(part, **kwargs) for part in parts]
            joined: dict[str, Any] = {name: torch.cat([part[name] for part in outputs]) for name in outputs[0]}
            return FrosterVideoFeatures(**joined)
        temporal, pooling = self.config.temporal_entries
        whole_clips = temporal.place == "embeddings"
        if temporal.takes_num_frames:
            kwargs["num_frames"] = pixel_values_videos.shape[1]
        if temporal.hands_on:
            kwargs["handed_on"] = {}
        pixel_values = pixel_values_videos if whole_clips else pixel_values_videos.flatten(0, 1)
        kwargs["interpolate_pos_encoding"] = interpolate_pos_encoding
        tower = self.vision_model
        if only_embeds and reads_class_token(tower) and computes_embeds_alone(tower, kwargs):
            vision_outputs: Any = BaseModelOutputWithPooling(pooler_output=tower.embed(pixel_values, **kwargs))
        else:
            vision_outputs = tower(pixel_values=pixel_values, return_dict=True, **kwargs)
        frame_embeds = self.visual_projection(vision_outputs.pooler_output)
        batch_size = pixel_values_videos.shape[0]
        frame_embeds = frame_embeds.unflatten(0, (batch_size, -1))
        video_embeds = pool_frames(self.temporal_pooling, frame_embeds, normalize_first=pooling.normalize_first)
        frame_embeds = to_unit_length(frame_embeds)
        projectors = self.distillation_projectors
        tokens = None if only_embeds else vision_outputs.last_hidden_state.unflatten(0, (batch_size, -1)).flatten(1, 2)
        return FrosterVideoFeatures(
            frame_embeds=frame_embeds,
            video_embeds=video_embeds,
            projected_frame_embeds=None if projectors is None else projectors.video(frame_embeds),
            hidden_states=vision_outputs.hidden_states,
            attentions=vision_outputs.attentions,
            last_hidden_state=tokens,
            pooler_output=video_embeds,
        )

    def _split_clips(self, pixel_values_videos: torch.Tensor, options: Mapping[str, Any]) -> Sequence[torch.Tensor]:
        """Parts of clips that take too much memory together; none where they take less, or have to be together."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_grad_enabled():
            return ()
        most = self.config.costs(pixel_values_videos.shape[1]).clips_at_once
        if pixel_values_videos.device.type != "cpu" or len(pixel_values_videos) <= most:
            return ()
        return () if records_outputs(self.vision_model, options) else pixel_values_videos.split(most)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        only_embeds: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FrosterTextFeatures:
        """Embed texts, at the length that they are given.

        Args:
            input_ids: (n, L), padded on the right; L at most the tower's positions (77 for CLIP). A causal tower is
                read at the end token: shorter padding gives the same embeddings with less work. SigLIP's tower reads
                its padding, which it was trained with: L is `config.text_length` (64).
            attention_mask: taken since tokenizers give one, and of no effect, for the same reasons.
            only_embeds: leave `last_hidden_state` out; see `get_video_features`.
            kwargs: `output_hidden_states`, `output_attentions`.

        Returns:
            `text_embeds` (n, D), which is `pooler_output`, too: of unit length; and the others of
            `FrosterTextFeatures`.

        Raises:
            ValueError: another shape or dtype, texts longer than the tower takes, or a token that it does not have.
        """
        check_input_ids(input_ids, self.config)
        tower = self.text_model
        if only_embeds and is_plain_text_tower(tower) and computes_embeds_alone(tower, kwargs):
            ends = text_lengths(input_ids, self.config.end_token) - 1
            text_outputs = BaseModelOutputWithPooling(pooler_output=embed_texts(tower, input_ids, ends))
        else:
            text_outputs = tower(input_ids=input_ids, return_dict=True, **kwargs)
        text_embeds = to_unit_length(self.text_projection(text_outputs.pooler_output))
        return FrosterTextFeatures(
            text_embeds=text_embeds,
            hidden_states=text_outputs.hidden_states,
            attentions=text_outputs.attentions,
            last_hidden_state=None if only_embeds else text_outputs.last_hidden_state,
            pooler_output=text_embeds,
        )

    def get_label_embeds(
        self, input_ids: torch.Tensor, *, num_prompts: int = 1, chunk_size: int | None = None
    ) -> torch.Tensor:
        """One embedding per label: every prompt normalized, the mean over the label's prompts normalized again.

        Args:
            input_ids: (K*P, L), all prompts of the first label first.
            num_prompts: P.
            chunk_size: encode this many texts at a time, sorted by length and each chunk trimmed to its longest text;
                on a CPU, what texts of a chunk begin with alike is computed once. Exact. With gradients, the chunks'
                activations are recomputed in the backward pass, so that memory does not grow with K*P. Reads the
                lengths on the host: leave it out where a graph is captured.

        Returns:
            (K, D).

        Raises:
            ValueError: no texts, or a number of them that is not a multiple of P.
        """
        if input_ids.shape[0] == 0:
            raise ValueError(f"`input_ids` has shape {tuple(input_ids.shape)}: no texts to embed.")
        if chunk_size is None:
            prompt_embeds = self.get_text_features(input_ids, only_embeds=True, return_dict=True).text_embeds
        else:
            prompt_embeds = self._encode_in_chunks(input_ids, chunk_size)
        return average_prompts(prompt_embeds, num_prompts)

    @torch.compiler.disable
    def _encode_in_chunks(self, input_ids: torch.Tensor, chunk_size: int) -> torch.Tensor:
        """(n, L) to (n, D), a chunk at a time."""
        check_input_ids(input_ids, self.config)
        tower = self.text_model
        # An accelerator computes what texts share faster than it waits for their layout, which is made on the host. It
        # makes attention kernels for each shape (cuDNN takes tens of milliseconds), so that there should be few.
        on_cpu = input_ids.device.type == "cpu"
        is_short = input_ids.shape[1] <= LONGEST_SHARED
        shares = on_cpu and is_short and is_plain_text_tower(tower) and computes_embeds_alone(tower, {})
        order, chunks = (sort_and_share if shares else partial(trim_to_longest, multiple=1 if on_cpu else 8))(
            input_ids, self.config.end_token, chunk_size=chunk_size
        )

        def encode(chunk: Any) -> torch.Tensor:
            if shares:
                return to_unit_length(self.text_projection(embed_shared_texts(tower, chunk)))
            return self.get_text_features(chunk, only_embeds=True, return_dict=True).text_embeds

        is_checkpointed = tower.training and tower.encoder.layers[0].gradient_checkpointing
        recompute = torch.is_grad_enabled() and (len(chunks) > 1 or is_checkpointed)
        embeds = [checkpoint(encode, chunk, use_reentrant=False) if recompute else encode(chunk) for chunk in chunks]
        return torch.cat(embeds)[order.argsort()]

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        *,
        text_embeds: torch.Tensor | None = None,
        num_prompts: int = 1,
        text_chunk_size: int | None = None,
        attention_mask: torch.Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FrosterOutput:
        """Every clip against every text or label.

        Args:
            pixel_values_videos: (B, T, 3, S, S).
            input_ids: (K*P, L), all prompts of the first label first; or
            text_embeds: (K, D), L2-normalized; or (K, S, D), S sentences per label, of which the best counts.
            num_prompts: P; 1 for texts that are not labels.
            text_chunk_size: see `chunk_size` of `get_label_embeds`.
            attention_mask: of no effect, see `get_text_features`.
            return_loss: add the backbone's contrastive loss; clip i belongs to text i.
            interpolate_pos_encoding: see `get_video_features`.
            kwargs: `output_hidden_states`, `output_attentions`; of the text tower only for one prompt per label and
                without chunks.

        Raises:
            ValueError: the texts are given twice or not at all, or have another shape.
        """
        if input_ids is not None and text_embeds is not None:
            raise ValueError("Give the texts either as `input_ids` (K*P, L) or as `text_embeds` (K, D), not as both.")
        video = self.get_video_features(
            pixel_values_videos,
            interpolate_pos_encoding=interpolate_pos_encoding,
            only_embeds=True,
            return_dict=True,
            **kwargs,
        )
        text = FrosterTextFeatures()
        if input_ids is None:
            # In the precision of the weights, which the projectors multiply them with.
            text_embeds = check_text_embeds(text_embeds, self.config.projection_dim).to(video.video_embeds)
        elif num_prompts == 1 and text_chunk_size is None:
            text = self.get_text_features(input_ids, only_embeds=True, return_dict=True, **kwargs)
            text_embeds = text.text_embeds
        else:
            text_embeds = self.get_label_embeds(input_ids, num_prompts=num_prompts, chunk_size=text_chunk_size)
        logits_per_video = self.similarity(video.video_embeds, text_embeds)
        if return_loss and logits_per_video.shape[0] != logits_per_video.shape[1]:
            raise ValueError(
                f"`return_loss=True` pairs clip i with text i, but there are {logits_per_video.shape[0]} clips and "
                f"{logits_per_video.shape[1]} texts."
            )
        pair_loss = contrastive_loss if self.logit_bias is None else pairwise_sigmoid_loss
        projectors = self.distillation_projectors
        return FrosterOutput(
            loss=pair_loss(logits_per_video) if return_loss else None,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_video.T,
            video_embeds=video.video_embeds,
            text_embeds=text_embeds,
            frame_embeds=video.frame_embeds,
            projected_frame_embeds=video.projected_frame_embeds,
            projected_text_embeds=None if projectors is None else projectors.text(text_embeds),
            hidden_states=video.hidden_states,
            attentions=video.attentions,
            text_hidden_states=text.hidden_states,
            text_attentions=text.attentions,
        )

    def similarity(self, video_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """(B, D) and (K, D) to logits (B, K): exp(logit_scale) times the scalar products, and logit_bias if any.

        Of text embeddings (K, S, D), S sentences per label, the highest logit of each label.
        """
        text_embeds = text_embeds.to(video_embeds)
        products = video_embeds @ text_embeds.flatten(0, -2).T
        if text_embeds.ndim == 3:
            products = products.unflatten(1, text_embeds.shape[:2]).amax(-1)
        logits = self.logit_scale.exp().to(video_embeds.device) * products
        return logits if self.logit_bias is None else logits + self.logit_bias.to(video_embeds.device)


class FrosterForVideoClassification(FrosterPreTrainedModel):
    """Clips against a list of labels, given as text, as embeddings, or stored in the model with `set_labels`."""

    _keys_to_ignore_on_load_missing = [r"label_embeds"]
    # The loss is a mean over the batch; transformers' Trainer scales it for gradient accumulation itself.
    accepts_loss_kwargs = False

    def __init__(self, config: FrosterConfig):
        super().__init__(config)
        self.froster = FrosterModel(config)
        self.label_embeds: torch.Tensor
        self._store_label_embeds(torch.zeros(len(config.id2label), config.projection_dim))
        # Whether the bank holds embeddings; `None` where nobody has looked, as after loading.
        self._has_label_embeds: bool | None = None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self and not getattr(self.label_embeds, "_is_hf_initialized", False):
            # Names without embeddings, as after `from_pretrained(..., id2label=...)`.
            init.constant_(self.label_embeds, float("nan"))
            self._has_label_embeds = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """As in transformers. Label names other than the checkpoint's have no embeddings: what a file holds for an
        index belongs to the name that its configuration has there. To rename labels, give the stored embeddings to
        `set_labels`. Nor have those of a text tower that was trained since, or that an adapter was merged into."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # Where adapters are loaded, the checkpoint that they are for.
        source = model.config.name_or_path
        if source and model._knows_label_embeds():
            hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
            # Not by the class, which refuses a folder without one: the caller may have given it.
            stored, _ = PreTrainedConfig.get_config_dict(source, **hub_kwargs)
            names = {int(index): name for index, name in (stored.get("id2label") or {}).items()}
            stated, own = stored.get("label_weights"), text_fingerprint(model.froster)
            if names != model.config.id2label:
                model._forget_label_embeds()
            elif not _same_weights(stated, own):
                model._forget_label_embeds()
                model._had_other_weights = True
            else:
                model.config.label_weights = own or stated
        return loaded

    def save_pretrained(self, *args, **kwargs):
        """As in transformers, but without the distillation projectors, and with the weights that label embeddings are
        of: they may have been cast since."""
        own = text_fingerprint(self.froster)
        if own and self.config.label_weights and _same_weights(self.config.label_weights, own):
            self.config.label_weights = own
        return super().save_pretrained(*args, **kwargs)

    def load_adapter(self, *args, **kwargs):
        """As in transformers. Label names have no embeddings any more: those were another text tower's."""
        report = super().load_adapter(*args, **kwargs)
        self._forget_label_embeds()
        return report

    @property
    def distillation_projectors(self) -> DistillationProjectors | None:
        """The projectors attached by `add_distillation_projectors`, if any."""
        return self.froster.distillation_projectors

    def add_distillation_projectors(self, kind: ProjectorKind = "residual", **kwargs) -> None:
        """See [`FrosterModel.add_distillation_projectors`]."""
        self.froster.add_distillation_projectors(kind, **kwargs)

    @torch.no_grad()
    def set_labels(
        self,
        labels: Sequence[str],
        *,
        text_embeds: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        num_prompts: int = 1,
        chunk_size: int = 256,
    ) -> None:
        """Store a label list in the model: names in `config.id2label`, embeddings in the buffer `label_embeds`.

        Both are saved with the checkpoint, which then classifies without a tokenizer, also in transformers' own
        `video-classification` pipeline; and with them what tells the text tower as it is now, since they hold for no
        other.

        Args:
            labels: K names, without repetition.
            text_embeds: (K, D), one per label; or
            input_ids: (K*P, L), all prompts of the first label first.
            num_prompts: P.
            chunk_size: texts encoded at a time.

        Raises:
            ValueError: no or repeated names, or ones that are not strings; another number of embeddings than names, or
                embeddings that are not finite or have no direction, as zeros.
        """
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"`labels` is {labels!r:.100}; it has to be a list of names, each a string.")
        labels = list(labels)
        repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
        if not labels or repeated:
            raise ValueError(
                f"`labels` has to be a list of different names; repeated: {repeated}, given: {len(labels)}."
            )
        if input_ids is not None and text_embeds is None:
            text_embeds = self.froster.get_label_embeds(
                # Offloaded weights are on no device; accelerate then moves the tokens to where it computes.
                input_ids if self.device.type == "meta" else input_ids.to(self.device),
                num_prompts=num_prompts,
                chunk_size=chunk_size,
            )
        elif input_ids is not None or text_embeds is None:
            raise ValueError("Give either `text_embeds` (K, D) or `input_ids` (K*P, L), and not both.")
        expected = (len(labels), self.config.projection_dim)
        if text_embeds.ndim == 3:
            raise ValueError(
                "One embedding per label is stored, and there are several, of which the best counts. Combine them by "
                "`text_pooling='mean'`, or give the labels when the model is used."
            )
        if tuple(text_embeds.shape) != expected:
            raise ValueError(
                f"{len(labels)} labels need embeddings of shape {expected}, got {tuple(text_embeds.shape)} "
                f"with num_prompts={num_prompts}."
            )
        if not text_embeds.is_meta and not to_unit_length(text_embeds).isfinite().all():
            raise ValueError("`text_embeds` holds some that are not finite or have no direction; nothing was stored.")
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}
        self._store_label_embeds(text_embeds.detach().to(self.dtype).clone())
        self._has_label_embeds = True
        self.config.label_weights = text_fingerprint(self.froster)

    def _forget_label_embeds(self) -> None:
        self._store_label_embeds(torch.full_like(self.label_embeds, float("nan")))
        self._has_label_embeds = False

    def _store_label_embeds(self, label_embeds: torch.Tensor) -> None:
        """Register the buffer (K, D); an empty one is not saved."""
        self.config.label_weights, self._had_other_weights = None, False
        self.register_buffer("label_embeds", label_embeds, persistent=label_embeds.shape[0] > 0)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        *,
        input_ids: torch.Tensor | None = None,
        num_prompts: int = 1,
        text_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        text_chunk_size: int | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FrosterVideoClassificationOutput:
        """Every clip against every label.

        The labels are those of `input_ids` or `text_embeds`, else the stored ones.

        Args:
            pixel_values_videos: (B, T, 3, S, S).
            input_ids: (K*P, L), all prompts of the first label first.
            num_prompts: P.
            text_embeds: (K, D), or (K, S, D); see [`FrosterModel`].
            labels: (B,), indices into the label list; adds the loss. Where the configuration's `problem_type` is
                `multi_label_classification`: (B, K), floating point, 1 for every label that holds.
            text_chunk_size: see `chunk_size` of [`FrosterModel.get_label_embeds`].
            interpolate_pos_encoding: see [`FrosterModel.get_video_features`].
            kwargs: `output_hidden_states`, `output_attentions`.

        Raises:
            ValueError: no labels are known, `labels` are not those of the problem, or an index is out of range
                (checked on the host).
        """
        is_stored = input_ids is None and text_embeds is None
        if is_stored:
            text_embeds = self.stored_label_embeds()
        outputs = self.froster(
            pixel_values_videos,
            input_ids,
            text_embeds=text_embeds,
            num_prompts=num_prompts,
            text_chunk_size=text_chunk_size,
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **kwargs,
        )
        logits = outputs.logits_per_video
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, problem_type=self.config.problem_type)
        return FrosterVideoClassificationOutput(
            loss=loss,
            logits=logits,
            video_embeds=outputs.video_embeds,
            frame_embeds=outputs.frame_embeds,
            text_embeds=None if is_stored else outputs.text_embeds,
            projected_frame_embeds=outputs.projected_frame_embeds,
            projected_text_embeds=None if is_stored else outputs.projected_text_embeds,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def stored_label_embeds(self) -> torch.Tensor:
        """Embeddings (K, D) of the stored labels, in the order of `config.id2label`; looked at once, then trusted.

        Raises:
            ValueError: there are no labels, or there are names without embeddings, as after
                `from_pretrained(..., id2label=...)` or `num_labels=`.
        """
        names = self.config.id2label
        if not self._knows_label_embeds() or len(names) != self.label_embeds.shape[0]:
            known = f"{len(names)} label names without embeddings" if names else "no labels"
            if names and self._had_other_weights:
                known += ": those in its files are of other weights of the text tower, such as those before a training"
            raise ValueError(
                f"The model knows {known}. Give `input_ids` or `text_embeds` for your label list (candidate labels in "
                "the zero-shot pipeline), or store one with `set_labels(labels, **processor.encode_labels(labels))`."
            )
        return self.label_embeds

    def _knows_label_embeds(self) -> bool:
        bank = self.label_embeds
        if not self._has_label_embeds and not bank.is_meta and not torch.compiler.is_compiling():
            # Looked at again where there were none: they may have come by `load_state_dict`.
            self._has_label_embeds = bank.shape[0] > 0 and bool(to_unit_length(bank).isfinite().all())
        return self._has_label_embeds is not False and bank.shape[0] > 0

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Names without embeddings have no bank to save: no file holds the placeholder."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not self._knows_label_embeds():
            destination.pop(f"{prefix}label_embeds", None)


__all__ = ["FrosterForVideoClassification", "FrosterModel", "FrosterPreTrainedModel"]
