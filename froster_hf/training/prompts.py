"""The texts of a training step: which templates stand for every label, and their tokens.

Templates are drawn by (run seed, step) alone, so that student and teacher, every process and every resumed run see the
same ones. FROSTER draws one of its 28 sentences a step and adds the bare label; testing uses all 29.

Letters: K labels, P templates, L text tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..modeling.text_froster import text_lengths
from ..processing.processing_froster import FrosterProcessor
from .arguments import TrainingPrompts

BARE_TEMPLATE = "{}"


@dataclass(frozen=True)
class LabelPrompts:
    """A label list under all templates, as tokens.

    Args:
        labels: K names.
        templates: P templates.
        input_ids: (K, P, L), padded on the right.
        lengths: (K, P), tokens of each prompt up to its end token.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    input_ids: Tensor
    lengths: Tensor

    @classmethod
    def from_tokens(
        cls, labels: Sequence[str], templates: Sequence[str], input_ids: Tensor, *, eos_token_id: int
    ) -> "LabelPrompts":
        """From tokens (K * P, L), all prompts of the first label first.

        Args:
            eos_token_id: of the text tower's configuration.

        Raises:
            ValueError: the number of texts is not K * P.
        """
        if input_ids.shape[0] != len(labels) * len(templates):
            raise ValueError(
                f"{len(labels)} labels and {len(templates)} templates make {len(labels) * len(templates)} prompts, "
                f"but `input_ids` holds {input_ids.shape[0]}."
            )
        lengths = text_lengths(input_ids, eos_token_id)
        shape = (len(labels), len(templates))
        return cls(tuple(labels), tuple(templates), input_ids.unflatten(0, shape), lengths.unflatten(0, shape))

    @classmethod
    def from_processor(
        cls,
        processor: FrosterProcessor,
        labels: Sequence[str],
        descriptions: Sequence[str | None] | None = None,
        *,
        eos_token_id: int,
    ) -> "LabelPrompts":
        """With the processor's templates and tokenizer."""
        encoded = processor.encode_labels(labels, descriptions)
        return cls.from_tokens(labels, processor.prompt_templates, encoded["input_ids"], eos_token_id=eos_token_id)

    def at(self, positions: Sequence[int], labels: Sequence[str]) -> "LabelPrompts":
        """The prompts of some labels, in another order and under other names.

        Args:
            positions: where each label stands in this list.
            labels: their names from here on.
        """
        chosen = list(positions)
        return LabelPrompts(tuple(labels), self.templates, self.input_ids[chosen], self.lengths[chosen])

    def of_all_labels(self, templates: Sequence[int]) -> Tensor:
        """The prompts of every label under some templates, all of the first label first, cut to the longest.

        Args:
            templates: indices.

        Returns:
            (K * len(templates), L' <= L).
        """
        chosen = list(templates)
        longest = int(self.lengths[:, chosen].max())
        return self.input_ids[:, chosen, :longest].flatten(0, 1)

    def of_clips(self, labels: Tensor, templates: Sequence[int]) -> Tensor:
        """One prompt a clip, cut to the longest.

        Args:
            labels: (B,), indices, on the CPU.
            templates: B indices.

        Returns:
            (B, L' <= L).
        """
        chosen = torch.as_tensor(templates)
        longest = int(self.lengths[labels, chosen].max())
        return self.input_ids[labels, chosen, :longest]


class PromptSampler:
    """Draws the templates of a step; a pure function of (seed, step).

    Args:
        templates: to draw from.
        prompts: see [`FrosterTrainingArguments`].
        seed: of the run, at least 0.
    """

    def __init__(self, templates: Sequence[str], *, prompts: TrainingPrompts = "random_and_bare", seed: int):
        self.prompts, self.seed = prompts, seed
        self.num_templates = len(templates)
        self.bare = [index for index, template in enumerate(templates) if template == BARE_TEMPLATE]
        self.sentences = [index for index in range(len(templates)) if index not in self.bare]

    def draw(self, step: int) -> tuple[int, ...]:
        """Templates, shared by all labels, of one optimizer step."""
        if self.prompts == "all":
            return tuple(range(self.num_templates))
        if self.prompts == "random":
            return (int(self._generator(step).integers(self.num_templates)),)
        if not self.sentences:
            return tuple(self.bare)
        drawn = self.sentences[int(self._generator(step).integers(len(self.sentences)))]
        return (drawn, *self.bare)

    def draw_for_clips(self, step: int, num_clips: int) -> tuple[int, ...]:
        """One template a clip (ActionCLIP)."""
        return tuple(self._generator(step).integers(self.num_templates, size=num_clips).tolist())

    def _generator(self, step: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, step))
