"""FROSTER models: transformers' CLIP towers, a temporal module between the frames, labels given as text.

Huang, Zhou, Yao, Han: FROSTER: Frozen CLIP is a Strong Teacher for Open-Vocabulary Action Recognition (ICLR 2024).

    pixel_values_videos (B, T, 3, S, S) -> vision tower on B*T frames -> frame_embeds (B, T, D) -> video_embeds (B, D)
    input_ids (K*P, L)                  -> text tower                   -> text_embeds (K, D)
    logits (B, K) = exp(logit_scale) * video_embeds . text_embeds

Letters: B videos, T frames, S pixels, K classes, P prompts a class, L text tokens, D the joint embedding width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_froster import FrosterConfig, TemporalModule
from .pooling_froster import build_temporal_pooling, init_pooling_weights, pool_frames
from .projectors_froster import DistillationProjectors, ProjectorKind
from .temporal_froster import init_temporal_weights, insert_temporal_module
from .text_froster import average_prompts, trim_to_longest

PROJECTORS_PREFIX = "distillation_projectors."
ARCHITECTURE_FIELDS = (
    "num_frames",
    "temporal_radius",
    "adapter_size",
    "temporal_pooling",
    "pooling_num_layers",
    "pooling_num_heads",
    "id2label",
    "label2id",
)
# Their blocks do not look across rows of the batch, so they are not told how many of them are one clip.
MODULES_WITHOUT_TIME = ("none", "adaptformer", "joint")
HUB_KWARGS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
AUTO_MAP = {
    "AutoModel": "modeling_froster.FrosterModel",
    "AutoModelForVideoClassification": "modeling_froster.FrosterForVideoClassification",
}


@dataclass
class FrosterVideoFeatures(ModelOutput):
    r"""What the vision tower says of a batch of clips.

    Args:
        frame_embeds: (B, T, D), L2-normalised; (B, 1, D) for `joint`, which has one embedding a clip.
        video_embeds: (B, D); a unit vector but for `temporal_pooling="mean"`, where it is the mean of unit vectors.
        projected_frame_embeds: (B, T, D of the teacher), behind the distillation projector, if there is one.
        hidden_states: a tuple over embeddings and layers of (B*T, N, W), on request.
        attentions: a tuple over layers of (B*T, H, N, keys), on request and with eager attention.
    """

    frame_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    projected_frame_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class FrosterTextFeatures(ModelOutput):
    r"""What the text tower says of a batch of texts.

    Args:
        text_embeds: (n, D), L2-normalised.
        hidden_states: a tuple over embeddings and layers of (n, L, W), on request.
        attentions: a tuple over layers of (n, H, L, L), on request and with eager attention.
    """

    text_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class FrosterOutput(ModelOutput):
    r"""Videos against texts.

    Args:
        loss: scalar, the symmetric contrastive loss of CLIP, with `return_loss=True`.
        logits_per_video: (B, n).
        logits_per_text: (n, B).
        video_embeds: (B, D).
        text_embeds: (n, D).
        frame_embeds: (B, T, D).
        hidden_states: of the vision tower; see [`FrosterVideoFeatures`].
        attentions: of the vision tower.
        text_hidden_states: of the text tower; see [`FrosterTextFeatures`].
        text_attentions: of the text tower.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    frame_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    text_hidden_states: tuple[torch.Tensor, ...] | None = None
    text_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class FrosterVideoClassificationOutput(ModelOutput):
    r"""Videos against the labels of a list.

    Args:
        loss: scalar, cross-entropy over the label list, where `labels` are given.
        logits: (B, K).
        video_embeds: (B, D).
        frame_embeds: (B, T, D).
        text_embeds: (K, D), one a label.
        projected_frame_embeds: (B, T, D of the teacher), with distillation projectors.
        projected_text_embeds: (K, D of the teacher), with distillation projectors and unless the labels' embeddings
            came from the stored label bank.
        hidden_states: of the vision tower; see [`FrosterVideoFeatures`].
        attentions: of the vision tower.
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


class GuardedInitialization:
    """Says to transformers that weights are drawn by its own guarded initialisers, as in its own models.

    For other "custom code" it skips the modules that have no parameter of their own, since their loaded weights might
    be overwritten, and with them the zero layers of the adapters and CLIP's scales.
    """

    @classmethod
    def is_custom_code(cls) -> bool:
        """See the class."""
        return False


class FrosterVisionModel(GuardedInitialization, CLIPVisionModel):
    """CLIP's vision tower with a temporal module; `num_frames` goes down to the layers as a keyword."""

    def __init__(self, config: CLIPVisionConfig, *, temporal: FrosterConfig):
        super().__init__(config)
        insert_temporal_module(self, temporal)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        init_temporal_weights(module)


class FrosterPreTrainedModel(GuardedInitialization, PreTrainedModel):
    """Loading, saving and initialisation shared by the models below."""

    config: FrosterConfig
    config_class = FrosterConfig
    base_model_prefix = "froster"
    main_input_name = "pixel_values_videos"
    input_modalities = ["video", "text"]
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "CLIPTextEmbeddings",
        "CLIPVisionEmbeddings",
        "JointEmbeddings",
        "CLIPEncoderLayer",
        "CrossFrameLayer",
        "SpatioTemporalAdapterLayer",
        "AdaptFormerLayer",
        "AIMLayer",
    ]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # A training checkpoint carries the projectors, a classifier its label bank: FrosterModel leaves both behind.
    _keys_to_ignore_on_load_unexpected = [r"distillation_projectors\.", r"^label_embeds$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        init_pooling_weights(module)
        if isinstance(module, FrosterModel):
            init.normal_(module.visual_projection.weight, std=module.visual_projection.in_features**-0.5)
            init.normal_(module.text_projection.weight, std=module.text_projection.in_features**-0.5)
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)

    @classmethod
    def from_clip(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        temporal_module: TemporalModule = "local_attention",
        **kwargs,
    ):
        r"""A FROSTER model with the weights of any CLIP checkpoint of transformers; no conversion step.

        Args:
            pretrained_model_name_or_path: a CLIP repository of the Hub or a folder.
            temporal_module: see [`FrosterConfig`].
            kwargs: further fields of [`FrosterConfig`] (`num_frames`, `temporal_radius`, `temporal_pooling`, ...), and
                whatever `from_pretrained` takes (`dtype`, `device_map`, `revision`, `attn_implementation`, ...).

        Raises:
            ValueError: the checkpoint is not CLIP's.

        Example:

        ```python
        >>> model = FrosterForVideoClassification.from_clip("openai/clip-vit-base-patch16")  # doctest: +SKIP
        ```"""
        architecture = {field: kwargs.pop(field) for field in ARCHITECTURE_FIELDS if field in kwargs}
        hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
        clip_dict, _ = CLIPConfig.get_config_dict(pretrained_model_name_or_path, **hub_kwargs)
        if clip_dict.get("model_type") != "clip":
            raise ValueError(
                f"{str(pretrained_model_name_or_path)!r} is a checkpoint of type {clip_dict.get('model_type')!r}, not "
                "'clip'. Give a CLIP checkpoint of transformers, or load a FROSTER checkpoint with `from_pretrained`."
            )
        config = FrosterConfig.from_clip_config(
            CLIPConfig(**clip_dict), temporal_module=temporal_module, **architecture
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


class FrosterModel(FrosterPreTrainedModel):
    """CLIP's towers with a temporal module: video and text features in one space. See [`FrosterConfig`]."""

    def __init__(self, config: FrosterConfig):
        super().__init__(config)
        self.text_model = CLIPTextModel._from_config(config.text_config)
        self.vision_model = FrosterVisionModel._from_config(config.vision_config, temporal=config)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.temporal_pooling = build_temporal_pooling(config)
        self.distillation_projectors: DistillationProjectors | None = None
        self.post_init()

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
        self, pixel_values_videos: torch.Tensor, *, interpolate_pos_encoding: bool = False, **kwargs
    ) -> FrosterVideoFeatures:
        """Embed clips.

        Args:
            pixel_values_videos: (B, T, 3, S, S), floating point, as the processor gives them.
            interpolate_pos_encoding: take other sizes than the tower's by interpolating its positions.
            kwargs: `output_hidden_states`, `output_attentions`.

        Raises:
            ValueError: another shape or dtype, or a frame count that the model is tied to otherwise.
        """
        self._check_pixels(pixel_values_videos)
        joint = self.config.temporal_module == "joint"
        if self.config.temporal_module not in MODULES_WITHOUT_TIME:
            kwargs["num_frames"] = pixel_values_videos.shape[1]
        vision_outputs = self.vision_model(
            pixel_values=pixel_values_videos if joint else pixel_values_videos.flatten(0, 1),
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **kwargs,
        )
        frame_embeds = self.visual_projection(vision_outputs.pooler_output)
        frame_embeds = frame_embeds.unflatten(0, (pixel_values_videos.shape[0], -1))
        video_embeds = pool_frames(
            self.temporal_pooling, frame_embeds, normalize_first=self.config.temporal_pooling == "mean"
        )
        frame_embeds = F.normalize(frame_embeds, dim=-1)
        projectors = self.distillation_projectors
        return FrosterVideoFeatures(
            frame_embeds=frame_embeds,
            video_embeds=video_embeds,
            projected_frame_embeds=None if projectors is None else projectors.video(frame_embeds),
            hidden_states=vision_outputs.hidden_states,
            attentions=vision_outputs.attentions,
        )

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.Tensor, *, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> FrosterTextFeatures:
        """Embed texts, at the length that they are given.

        Args:
            input_ids: (n, L), padded on the right; L at most the tower's positions (77 for CLIP). The tower is causal
                and read at the end token: shorter padding gives the same embeddings with less work.
            attention_mask: taken since tokenizers give one, and of no effect, for the same reason.
            kwargs: `output_hidden_states`, `output_attentions`.

        Raises:
            ValueError: another shape or dtype, or texts longer than the tower takes.
        """
        self._check_input_ids(input_ids)
        text_outputs = self.text_model(input_ids=input_ids, return_dict=True, **kwargs)
        text_embeds = F.normalize(self.text_projection(text_outputs.pooler_output), dim=-1)
        return FrosterTextFeatures(
            text_embeds=text_embeds, hidden_states=text_outputs.hidden_states, attentions=text_outputs.attentions
        )

    def get_label_embeds(
        self, input_ids: torch.Tensor, *, prompts_per_label: int = 1, chunk_size: int | None = None
    ) -> torch.Tensor:
        """One embedding a label: every prompt normalised, the mean over the label's prompts normalised again.

        Args:
            input_ids: (K*P, L), all prompts of the first label first.
            prompts_per_label: P.
            chunk_size: encode this many texts at a time, sorted by length and each chunk trimmed to its longest text.
                Exact. With gradients, the chunks' activations are recomputed in the backward pass, so that memory does
                not grow with K*P. Reads the lengths on the host: leave it out where a graph is captured.

        Returns:
            (K, D).

        Raises:
            ValueError: the number of texts is not a multiple of P.
        """
        if chunk_size is None:
            prompt_embeds = self.get_text_features(input_ids).text_embeds
        else:
            prompt_embeds = self._encode_in_chunks(input_ids, chunk_size)
        return average_prompts(prompt_embeds, prompts_per_label)

    def _encode_in_chunks(self, input_ids: torch.Tensor, chunk_size: int) -> torch.Tensor:
        """(n, L) to (n, D), a chunk at a time."""
        self._check_input_ids(input_ids)

        def encode(chunk: torch.Tensor) -> torch.Tensor:
            return self.get_text_features(chunk).text_embeds

        order, chunks = trim_to_longest(input_ids, self.text_model.eos_token_id, chunk_size=chunk_size)
        recompute = torch.is_grad_enabled() and len(chunks) > 1
        embeds = [checkpoint(encode, chunk, use_reentrant=False) if recompute else encode(chunk) for chunk in chunks]
        return torch.cat(embeds)[order.argsort()]

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> FrosterOutput:
        """Every clip against every text.

        Args:
            pixel_values_videos: (B, T, 3, S, S).
            input_ids: (n, L).
            attention_mask: (n, L); of no effect, see `get_text_features`.
            return_loss: add CLIP's contrastive loss; clip i belongs to text i.
            interpolate_pos_encoding: see `get_video_features`.
            kwargs: `output_hidden_states`, `output_attentions`.
        """
        video = self.get_video_features(
            pixel_values_videos, interpolate_pos_encoding=interpolate_pos_encoding, return_dict=True, **kwargs
        )
        text = self.get_text_features(input_ids, return_dict=True, **kwargs)
        logits_per_video = self.similarity(video.video_embeds, text.text_embeds)
        loss = None
        if return_loss:
            targets = torch.arange(logits_per_video.shape[0], device=logits_per_video.device)
            loss = (F.cross_entropy(logits_per_video, targets) + F.cross_entropy(logits_per_video.T, targets)) / 2
        return FrosterOutput(
            loss=loss,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_video.T,
            video_embeds=video.video_embeds,
            text_embeds=text.text_embeds,
            frame_embeds=video.frame_embeds,
            hidden_states=video.hidden_states,
            attentions=video.attentions,
            text_hidden_states=text.hidden_states,
            text_attentions=text.attentions,
        )

    def similarity(self, video_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """(B, D) and (K, D) to logits (B, K): exp(logit_scale) times the scalar products."""
        text_embeds = text_embeds.to(video_embeds)
        return self.logit_scale.exp().to(video_embeds.device) * (video_embeds @ text_embeds.T)

    def _check_pixels(self, pixels: torch.Tensor) -> None:
        vision = self.config.vision_config
        expected = f"(videos, frames, {vision.num_channels}, {vision.image_size}, {vision.image_size})"
        if pixels.ndim != 5 or pixels.shape[2] != vision.num_channels:
            hint = "Use the model's video processor, which gives this shape."
            if pixels.ndim == 5 and pixels.shape[-1] == vision.num_channels:
                hint = (
                    "The channels are last: `pixel_values_videos.permute(0, 1, 4, 2, 3)` puts them where they belong."
                )
            elif pixels.ndim == 4:
                hint = "For one video, add the batch dimension with `pixel_values_videos[None]`."
            raise ValueError(f"`pixel_values_videos` has shape {tuple(pixels.shape)}; expected {expected}. {hint}")
        if not pixels.is_floating_point():
            raise ValueError(
                f"`pixel_values_videos` is {pixels.dtype}; expected a floating-point tensor of rescaled and "
                "normalised frames. Use the model's video processor."
            )

    def _check_input_ids(self, input_ids: torch.Tensor) -> None:
        longest = self.config.text_config.max_position_embeddings
        if input_ids.ndim != 2 or input_ids.is_floating_point():
            raise ValueError(
                f"`input_ids` has shape {tuple(input_ids.shape)} and dtype {input_ids.dtype}; expected integers of "
                "shape (texts, tokens). Use the model's processor or tokenizer."
            )
        if input_ids.shape[1] > longest:
            raise ValueError(
                f"The texts have {input_ids.shape[1]} tokens, but this model's text tower takes at most {longest}. "
                "Shorten the labels, descriptions or templates, or tokenize with `truncation=True`."
            )


class FrosterForVideoClassification(FrosterPreTrainedModel):
    """Clips against a list of labels, given as text, as embeddings, or stored in the model with `set_labels`."""

    _keys_to_ignore_on_load_missing = [r"label_embeds"]

    def __init__(self, config: FrosterConfig):
        super().__init__(config)
        self.froster = FrosterModel(config)
        self.label_embeds: torch.Tensor
        self._store_label_embeds(torch.zeros(len(config.id2label), config.projection_dim))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self and self.label_embeds.shape[0] > 0:
            # Names without embeddings, as after `from_pretrained(..., id2label=...)`: not a silent guess.
            init.constant_(self.label_embeds, float("nan"))

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
        prompts_per_label: int = 1,
        chunk_size: int = 256,
    ) -> None:
        """Store a label list in the model: names in `config.id2label`, embeddings in the buffer `label_embeds`.

        Both are saved with the checkpoint, which then classifies without a tokenizer, also in transformers' own
        `video-classification` pipeline.

        Args:
            labels: K names, without repetition.
            text_embeds: (K, D), one a label; or
            input_ids: (K*P, L), all prompts of the first label first.
            prompts_per_label: P.
            chunk_size: texts encoded at a time.

        Raises:
            ValueError: no or repeated names, or another number of embeddings than names.
        """
        labels = list(labels)
        repeated = (
            sorted({label for label in labels if labels.count(label) > 1}) if len(set(labels)) < len(labels) else []
        )
        if not labels or repeated:
            raise ValueError(
                f"`labels` has to be a list of different names; repeated: {repeated}, given: {len(labels)}."
            )
        if input_ids is not None and text_embeds is None:
            text_embeds = self.froster.get_label_embeds(
                input_ids.to(self.device), prompts_per_label=prompts_per_label, chunk_size=chunk_size
            )
        elif input_ids is not None or text_embeds is None:
            raise ValueError("Give either `text_embeds` (K, D) or `input_ids` (K*P, L), and not both.")
        expected = (len(labels), self.config.projection_dim)
        if tuple(text_embeds.shape) != expected:
            raise ValueError(
                f"{len(labels)} labels need embeddings of shape {expected}, got {tuple(text_embeds.shape)} "
                f"with prompts_per_label={prompts_per_label}."
            )
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}
        self._store_label_embeds(text_embeds.detach().to(self.froster.logit_scale).clone())

    def _store_label_embeds(self, label_embeds: torch.Tensor) -> None:
        """An empty bank is not worth a key in the checkpoint."""
        self.register_buffer("label_embeds", label_embeds, persistent=label_embeds.shape[0] > 0)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        *,
        input_ids: torch.Tensor | None = None,
        prompts_per_label: int = 1,
        text_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        text_chunk_size: int | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> FrosterVideoClassificationOutput:
        """Every clip against every label.

        The labels are those of `input_ids` or `text_embeds`, else the stored ones.

        Args:
            pixel_values_videos: (B, T, 3, S, S).
            input_ids: (K*P, L), all prompts of the first label first.
            prompts_per_label: P.
            text_embeds: (K, D).
            labels: (B,), indices into the label list; adds the loss.
            text_chunk_size: see `chunk_size` of [`FrosterModel.get_label_embeds`].
            interpolate_pos_encoding: see [`FrosterModel.get_video_features`].
            kwargs: `output_hidden_states`, `output_attentions`.

        Raises:
            ValueError: no labels are known, or an index out of range (checked on the host).
        """
        video = self.froster.get_video_features(
            pixel_values_videos, interpolate_pos_encoding=interpolate_pos_encoding, return_dict=True, **kwargs
        )
        projectors = self.froster.distillation_projectors
        given = input_ids is not None or text_embeds is not None
        text_embeds = self._label_embeds(input_ids, prompts_per_label, text_embeds, text_chunk_size)
        logits = self.froster.similarity(video.video_embeds, text_embeds)
        loss = None
        if labels is not None:
            self._check_labels(labels, logits.shape[1])
            # Not `self.loss_function`: it reshapes by `config.num_labels`, which an open vocabulary does not have.
            loss = F.cross_entropy(logits, labels.to(logits.device))
        return FrosterVideoClassificationOutput(
            loss=loss,
            logits=logits,
            video_embeds=video.video_embeds,
            frame_embeds=video.frame_embeds,
            text_embeds=text_embeds,
            projected_frame_embeds=video.projected_frame_embeds,
            projected_text_embeds=projectors.text(text_embeds) if projectors is not None and given else None,
            hidden_states=video.hidden_states,
            attentions=video.attentions,
        )

    def _label_embeds(self, input_ids, prompts_per_label, text_embeds, chunk_size) -> torch.Tensor:
        """(K, D) from the one source that is given."""
        if input_ids is not None and text_embeds is not None:
            raise ValueError(
                "Both `input_ids` and `text_embeds` are given; the labels can come from one of them only."
            )
        if input_ids is not None:
            return self.froster.get_label_embeds(input_ids, prompts_per_label=prompts_per_label, chunk_size=chunk_size)
        if text_embeds is not None:
            if text_embeds.ndim != 2 or text_embeds.shape[1] != self.config.projection_dim:
                raise ValueError(
                    f"`text_embeds` has shape {tuple(text_embeds.shape)}; expected "
                    f"(labels, {self.config.projection_dim})."
                )
            return text_embeds
        if self.label_embeds.shape[0] == 0:
            raise ValueError(
                "The model knows no labels. Give `input_ids` or `text_embeds` for your label list, or store one with "
                "`set_labels(labels, input_ids=processor.encode_labels(labels).input_ids, ...)`."
            )
        return self.label_embeds

    def _check_labels(self, labels: torch.Tensor, num_labels: int) -> None:
        # Labels on a GPU are not read back: the loss kernel itself stops on an index out of range.
        if labels.device.type != "cpu" or torch.compiler.is_compiling() or labels.numel() == 0:
            return
        if labels.max() >= num_labels or (labels < 0).logical_and(labels != -100).any():
            raise ValueError(
                f"`labels` holds indices from {int(labels.min())} to {int(labels.max())}, but there are {num_labels} "
                f"labels: indices go from 0 to {num_labels - 1}."
            )


__all__ = ["FrosterForVideoClassification", "FrosterModel", "FrosterPreTrainedModel"]
