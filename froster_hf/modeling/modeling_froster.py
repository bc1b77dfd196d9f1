"""FROSTER models: transformers' CLIP towers, a temporal module between the frames, labels given as text.

Huang, Zhou, Yao, Han: FROSTER: Frozen CLIP is a Strong Teacher for Open-Vocabulary Action Recognition (ICLR 2024).

    pixel_values_videos (B, T, 3, S, S) -> vision tower on B*T frames -> frame_embeds (B, T, D) -> video_embeds (B, D)
    input_ids (K*P, L)                  -> text tower                   -> text_embeds (K, D)
    logits (B, K) = exp(logit_scale) * video_embeds . text_embeds

Letters: B videos, T frames, S pixels, K classes, P prompts per class, L text tokens, D the joint embedding width.
"""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .base_froster import HUB_KWARGS, FrosterPreTrainedModel, FrosterVisionModel
from .checks_froster import check_input_ids, check_labels, check_pixels, check_text_embeds
from .configuration_froster import FrosterConfig
from .outputs_froster import (
    FrosterOutput,
    FrosterTextFeatures,
    FrosterVideoClassificationOutput,
    FrosterVideoFeatures,
)
from .pooling_froster import build_temporal_pooling, pool_frames
from .projectors_froster import DistillationProjectors, ProjectorKind
from .text_froster import average_prompts, trim_to_longest


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

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self:
            init.normal_(self.visual_projection.weight, std=self.visual_projection.in_features**-0.5)
            init.normal_(self.text_projection.weight, std=self.text_projection.in_features**-0.5)
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)

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
        **kwargs: Unpack[TransformersKwargs],
    ) -> FrosterVideoFeatures:
        """Embed clips.

        Args:
            pixel_values_videos: (B, T, 3, S, S), floating point, as the processor gives them.
            interpolate_pos_encoding: take other sizes than the tower's by interpolating its positions.
            kwargs: `output_hidden_states`, `output_attentions`.

        Raises:
            ValueError: another shape or dtype, or a frame count that the model is tied to otherwise.
        """
        check_pixels(pixel_values_videos, self.config.vision_config)
        temporal, pooling = self.config.temporal_entries
        whole_clips = temporal.place == "embeddings"
        if temporal.takes_num_frames:
            kwargs["num_frames"] = pixel_values_videos.shape[1]
        vision_outputs = self.vision_model(
            pixel_values=pixel_values_videos if whole_clips else pixel_values_videos.flatten(0, 1),
            interpolate_pos_encoding=interpolate_pos_encoding,
            return_dict=True,
            **kwargs,
        )
        frame_embeds = self.visual_projection(vision_outputs.pooler_output)
        batch_size = pixel_values_videos.shape[0]
        frame_embeds = frame_embeds.unflatten(0, (batch_size, -1))
        video_embeds = pool_frames(self.temporal_pooling, frame_embeds, normalize_first=pooling.normalize_first)
        frame_embeds = F.normalize(frame_embeds, dim=-1)
        projectors = self.distillation_projectors
        return FrosterVideoFeatures(
            frame_embeds=frame_embeds,
            video_embeds=video_embeds,
            projected_frame_embeds=None if projectors is None else projectors.video(frame_embeds),
            hidden_states=vision_outputs.hidden_states,
            attentions=vision_outputs.attentions,
            last_hidden_state=vision_outputs.last_hidden_state.unflatten(0, (batch_size, -1)).flatten(1, 2),
            pooler_output=video_embeds,
        )

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
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
        check_input_ids(input_ids, self.config.text_config)
        text_outputs = self.text_model(input_ids=input_ids, return_dict=True, **kwargs)
        text_embeds = F.normalize(self.text_projection(text_outputs.pooler_output), dim=-1)
        return FrosterTextFeatures(
            text_embeds=text_embeds,
            hidden_states=text_outputs.hidden_states,
            attentions=text_outputs.attentions,
            last_hidden_state=text_outputs.last_hidden_state,
            pooler_output=text_embeds,
        )

    def get_label_embeds(
        self, input_ids: torch.Tensor, *, num_prompts: int = 1, chunk_size: int | None = None
    ) -> torch.Tensor:
        """One embedding per label: every prompt normalized, the mean over the label's prompts normalized again.

        Args:
            input_ids: (K*P, L), all prompts of the first label first.
            num_prompts: P.
            chunk_size: encode this many texts at a time, sorted by length and each chunk trimmed to its longest text.
                Exact. With gradients, the chunks' activations are recomputed in the backward pass, so that memory does
                not grow with K*P. Reads the lengths on the host: leave it out where a graph is captured.

        Returns:
            (K, D).

        Raises:
            ValueError: the number of texts is not a multiple of P.
        """
        if chunk_size is None:
            prompt_embeds = self.get_text_features(input_ids, return_dict=True).text_embeds
        else:
            prompt_embeds = self._encode_in_chunks(input_ids, chunk_size)
        return average_prompts(prompt_embeds, num_prompts)

    def _encode_in_chunks(self, input_ids: torch.Tensor, chunk_size: int) -> torch.Tensor:
        """(n, L) to (n, D), a chunk at a time."""
        check_input_ids(input_ids, self.config.text_config)

        def encode(chunk: torch.Tensor) -> torch.Tensor:
            return self.get_text_features(chunk, return_dict=True).text_embeds

        order, chunks = trim_to_longest(input_ids, self.text_model.eos_token_id, chunk_size=chunk_size)
        recompute = torch.is_grad_enabled() and len(chunks) > 1
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
            text_embeds: (K, D), L2-normalized.
            num_prompts: P; 1 for texts that are no labels.
            text_chunk_size: see `chunk_size` of `get_label_embeds`.
            attention_mask: of no effect, see `get_text_features`.
            return_loss: add CLIP's contrastive loss; clip i belongs to text i.
            interpolate_pos_encoding: see `get_video_features`.
            kwargs: `output_hidden_states`, `output_attentions`; of the text tower only for one prompt per label and
                without chunks.

        Raises:
            ValueError: the texts are given twice or not at all, or have another shape.
        """
        if input_ids is not None and text_embeds is not None:
            raise ValueError("Give the texts either as `input_ids` (K*P, L) or as `text_embeds` (K, D), not as both.")
        video = self.get_video_features(
            pixel_values_videos, interpolate_pos_encoding=interpolate_pos_encoding, return_dict=True, **kwargs
        )
        text = FrosterTextFeatures()
        if input_ids is None:
            # In the precision of the weights, which the projectors multiply them with.
            text_embeds = check_text_embeds(text_embeds, self.config.projection_dim).to(video.video_embeds)
        elif num_prompts == 1 and text_chunk_size is None:
            text = self.get_text_features(input_ids, return_dict=True, **kwargs)
            text_embeds = text.text_embeds
        else:
            text_embeds = self.get_label_embeds(input_ids, num_prompts=num_prompts, chunk_size=text_chunk_size)
        logits_per_video = self.similarity(video.video_embeds, text_embeds)
        projectors = self.distillation_projectors
        return FrosterOutput(
            loss=contrastive_loss(logits_per_video) if return_loss else None,
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
        """(B, D) and (K, D) to logits (B, K): exp(logit_scale) times the scalar products."""
        text_embeds = text_embeds.to(video_embeds)
        return self.logit_scale.exp().to(video_embeds.device) * (video_embeds @ text_embeds.T)


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
        """As in transformers. Other label names than the checkpoint's are names without embeddings: what a file holds
        for an index belongs to the name that its configuration has there. To rename labels, give the stored
        embeddings to `set_labels`."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # Where adapters are loaded, the checkpoint that they are for.
        source = model.config.name_or_path
        if source and model._knows_label_embeds():
            hub_kwargs = {key: kwargs[key] for key in HUB_KWARGS if key in kwargs}
            stored, _ = cls.config_class.get_config_dict(source, **hub_kwargs)
            names = {int(index): name for index, name in (stored.get("id2label") or {}).items()}
            if names != model.config.id2label:
                model._store_label_embeds(torch.full_like(model.label_embeds, float("nan")))
                model._has_label_embeds = False
        return loaded

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
        `video-classification` pipeline.

        Args:
            labels: K names, without repetition.
            text_embeds: (K, D), one per label; or
            input_ids: (K*P, L), all prompts of the first label first.
            num_prompts: P.
            chunk_size: texts encoded at a time.

        Raises:
            ValueError: no or repeated names, another number of embeddings than names, or embeddings that are not
                finite.
        """
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
        if tuple(text_embeds.shape) != expected:
            raise ValueError(
                f"{len(labels)} labels need embeddings of shape {expected}, got {tuple(text_embeds.shape)} "
                f"with num_prompts={num_prompts}."
            )
        if not text_embeds.is_meta and not text_embeds.isfinite().all():
            raise ValueError("`text_embeds` holds values that are not finite; nothing was stored.")
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}
        self._store_label_embeds(text_embeds.detach().to(self.dtype).clone())
        self._has_label_embeds = True

    def _store_label_embeds(self, label_embeds: torch.Tensor) -> None:
        """An empty bank is not worth a key in the checkpoint."""
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
            text_embeds: (K, D).
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
            raise ValueError(
                f"The model knows {known}. Give `input_ids` or `text_embeds` for your label list (candidate labels in "
                "the zero-shot pipeline), or store one with `set_labels(labels, **processor.encode_labels(labels))`."
            )
        return self.label_embeds

    def _knows_label_embeds(self) -> bool:
        bank = self.label_embeds
        if not self._has_label_embeds and not bank.is_meta and not torch.compiler.is_compiling():
            # Looked at again where there were none: they may have come by `load_state_dict`.
            self._has_label_embeds = bank.shape[0] > 0 and bool(bank.isfinite().all())
        return self._has_label_embeds is not False and bank.shape[0] > 0

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Names without embeddings have no bank to save: no file holds the placeholder."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not self._knows_label_embeds():
            destination.pop(f"{prefix}label_embeds", None)


def classification_loss(logits: torch.Tensor, labels: torch.Tensor, *, problem_type: str | None) -> torch.Tensor:
    """Cross-entropy over the label list, or the mean of the labels' binary cross-entropies.

    Not transformers' `loss_function`: it reshapes by `config.num_labels`, which an open vocabulary does not have.

    Args:
        logits: (B, K).
        labels: (B,) indices, or (B, K) floats of a multi-label problem.
        problem_type: of the configuration; `None` is a single label per video.

    Raises:
        ValueError: a regression, or labels that are not those of the problem.
    """
    if problem_type == "regression":
        raise ValueError(
            "`config.problem_type` is 'regression', which labels that are texts do not have. Set it to "
            "'single_label_classification' or 'multi_label_classification'."
        )
    multi_label = problem_type == "multi_label_classification"
    check_labels(labels, logits.shape[1], multi_label=multi_label)
    labels = labels.to(logits.device)
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def contrastive_loss(logits: torch.Tensor) -> torch.Tensor:
    """CLIP's loss for (n, n) logits whose diagonal holds the pairs: cross-entropy over rows and over columns."""
    targets = torch.arange(logits.shape[0], device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


__all__ = ["FrosterForVideoClassification", "FrosterModel", "FrosterPreTrainedModel"]
