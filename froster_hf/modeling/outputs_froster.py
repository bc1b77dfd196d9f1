"""What the models return.

Letters: B videos, T frames, N tokens per frame, W width, H heads, K classes, L text tokens, D joint embedding.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class FrosterVideoFeatures(ModelOutput):
    r"""What the vision tower says of a batch of clips.

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
    r"""What the text tower says of a batch of texts.

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
        loss: scalar, the symmetric contrastive loss of CLIP, with `return_loss=True`.
        logits_per_video: (B, n).
        logits_per_text: (n, B).
        video_embeds: (B, D).
        text_embeds: (n, D).
        frame_embeds: (B, T, D).
        projected_frame_embeds: (B, T, D of the teacher), with distillation projectors.
        projected_text_embeds: (n, D of the teacher), with distillation projectors.
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
