"""Evaluation inside the Trainer: all templates, encoded once an evaluation, and the clips of a video averaged.

Letters: B videos, V clips a video, K labels.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput

from ..evaluation.metrics import top_k_accuracy
from .clip_datasets import ClipDatasets
from .distillation import FeatureDistillation, NoDistillation
from .label_texts import LabelTexts
from .objectives import cross_entropy_loss


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent, as `froster evaluate` counts: videos that could not be decoded (label -100)
    and scores that are not finite or equal for several labels are wrong."""
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    return {f"top{k}": 100 * top_k_accuracy(logits, labels, k=k) for k in (1, 5)}


def mean_log_probabilities(logits: Tensor, num_videos: int) -> Tensor:
    """Logits of the clips (B*V, K) to the logarithm of their mean probabilities, one row a video (B, K)."""
    clips = logits.unflatten(0, (num_videos, -1)).log_softmax(dim=-1)
    return torch.logsumexp(clips, dim=1) - np.log(clips.shape[1])


class EvaluationSteps(ClipDatasets):
    """The Trainer's evaluation loop for a model whose labels are texts.

    Every data set is measured against its own label list (`label_names`, of clips of this package) or the training's.
    """

    distillation: NoDistillation | FeatureDistillation
    _eval_texts: LabelTexts
    _eval_inputs: dict[str, Any]
    _cosines: dict[str, Tensor]

    def texts_of(self, labels: Sequence[str] | None) -> LabelTexts:
        """The texts of a label list, `None` for that of the training."""
        raise NotImplementedError

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """See [`~transformers.Trainer.evaluation_loop`]; adds the teacher-student cosines to the metrics."""
        self._eval_texts = self.texts_of(getattr(dataloader.dataset, "label_names", None))
        self._eval_inputs = self._eval_texts.for_evaluation()
        self._cosines = {}
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = cast(dict[str, float], output.metrics)
        for name, cosine in self._cosines.items():
            metrics[f"{prefix}_{name}"] = self.accelerator.gather(cosine.reshape(1)).mean().item()
        del self._eval_inputs
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Loss, logits (B, K) and labels (B,) of one batch."""
        inputs = self._prepare_inputs(self.without_metadata(inputs))
        clips, labels = inputs["pixel_values_videos"], inputs["labels"]
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(clips, **self._eval_inputs)
            logits = outputs.logits.float()
            if clips.shape[0] != labels.shape[0]:
                logits = mean_log_probabilities(logits, labels.shape[0])
            loss = cross_entropy_loss(logits, labels)
            if not self._cosines:
                templates = range(len(self._eval_texts.prompts.templates))
                teacher_texts = self._eval_texts.for_all_labels(templates).teacher_embeds
                self._cosines = self.distillation.cosines(outputs, clips=clips, teacher_texts=teacher_texts)
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)
