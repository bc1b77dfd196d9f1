"""What is written where: checkpoints to go on from, and models to use.

`checkpoint-N` holds everything that is trained, the projectors too. `save_model()` and `push_to_hub()` write a model
for
inference: low-rank updates merged, projectors left behind, and the labels with their embeddings stored in it, so that
it works in transformers' `video-classification` pipeline as well as zero-shot.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from transformers import Trainer

from ..modeling.base_froster import PROJECTORS_PREFIX
from ..modeling.modeling_froster import FrosterForVideoClassification
from .label_texts import LabelTexts
from .lora import has_lora, merged_state_dict
from .student import forget_labels

logger = logging.getLogger(__name__)


class InferenceCheckpoints(Trainer):
    """Tells the two kinds of saving apart."""

    _writes_checkpoint = False

    @property
    def student(self) -> FrosterForVideoClassification:
        """The model without wrappers."""
        return cast(FrosterForVideoClassification, self.accelerator.unwrap_model(self.model, keep_torch_compile=False))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._writes_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._writes_checkpoint = False

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model for inference; see [`~transformers.Trainer.save_model`]."""
        if self._writes_checkpoint:
            return super().save_model(output_dir, _internal_call=_internal_call)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            logger.warning(
                "The parameters are split over the processes, so the labels are not stored in the saved model. "
                "Load it and call `set_labels` to use it without a processor."
            )
            return super().save_model(output_dir, _internal_call=_internal_call)
        with labels_stored(self.student, self.texts_of(None)):
            return super().save_model(output_dir, _internal_call=_internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if self._writes_checkpoint:
            super()._save(output_dir, self.student.state_dict() if state_dict is None else state_dict)
            return
        if state_dict is None:
            state_dict = merged_state_dict(self.student) if has_lora(self.student) else self.student.state_dict()
        state_dict = {name: tensor for name, tensor in state_dict.items() if PROJECTORS_PREFIX not in name}
        super()._save(output_dir, state_dict)

    def texts_of(self, labels: Any) -> LabelTexts:
        """See [`EvaluationSteps`]."""
        raise NotImplementedError


@contextmanager
def labels_stored(model: FrosterForVideoClassification, texts: LabelTexts) -> Iterator[None]:
    """The labels and their embeddings stored in the model, for as long as its weights are these."""
    model.set_labels(texts.prompts.labels, text_embeds=texts.student_label_embeds())
    try:
        yield
    finally:
        forget_labels(model)
