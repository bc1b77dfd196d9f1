"""The labels of a training as student and teacher read them: as prompts, as tokens, as embeddings.

`LabelPrompts` is a label list under all templates. `PromptSampler` draws the templates of a step, by (run seed, step)
alone, so that student and teacher, every process and every resumed run see the same ones: FROSTER draws one of its 28
sentences and adds the bare label; testing uses all 29. `LabelTexts` gives a step's texts to both, and encodes nothing
twice that need not be.

Letters: B clips, K labels, P templates, L text tokens, D the joint embedding width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ..modeling.layers_froster import average_prompts
from ..modeling.modeling_froster import FrosterForVideoClassification, text_lengths
from ..modeling.tables_froster import EndToken
from .arguments import TrainingPrompts
from .losses import IGNORED_LABEL
from .student import is_text
from .teacher import FrozenTeacher

BARE_TEMPLATE = "{}"


@dataclass(frozen=True)
class LabelPrompts:
    """A label list under all templates, as tokens.

    Args:
        labels: K names.
        templates: P templates.
        input_ids: (K, P, L), padded on the right.
        lengths: (K, P), tokens of each prompt that count: up to its end token, for a causal text tower.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    input_ids: Tensor
    lengths: Tensor

    @classmethod
    def from_tokens(
        cls, labels: Sequence[str], templates: Sequence[str], input_ids: Tensor, *, end_token: EndToken
    ) -> "LabelPrompts":
        """From tokens (K * P, L), all prompts of the first label first.

        Args:
            end_token: end token of the model's configuration.

        Raises:
            ValueError: the number of texts is not K * P.
        """
        if input_ids.shape[0] != len(labels) * len(templates):
            raise ValueError(
                f"{len(labels)} labels and {len(templates)} templates make {len(labels) * len(templates)} prompts, "
                f"but `input_ids` holds {input_ids.shape[0]}."
            )
        lengths = text_lengths(input_ids, end_token)
        shape = (len(labels), len(templates))
        return cls(tuple(labels), tuple(templates), input_ids.unflatten(0, shape), lengths.unflatten(0, shape))

    def at(self, positions: Sequence[int], labels: Sequence[str]) -> "LabelPrompts":
        """The prompts of some labels, in another order and under other names.

        Args:
            positions: where each label stands in this list.
            labels: their names from here on.
        """
        chosen = list(positions)
        return LabelPrompts(tuple(labels), self.templates, self.input_ids[chosen], self.lengths[chosen])

    def refuse_other_teacher(self, config: Any) -> None:
        """Raise where a teacher does not read every prompt whole, as the student does.

        Args:
            config: that of the teacher.

        Raises:
            ValueError: it does not have a token, takes fewer of them, or ends texts elsewhere.
        """
        text, highest, longest = config.text_config, int(self.input_ids.max()), int(self.lengths.max())
        if highest >= text.vocab_size or longest > text.max_position_embeddings:
            raise ValueError(
                f"The labels' prompts have tokens up to {highest} and up to {longest} of them each, but the teacher "
                f"knows {text.vocab_size}, from 0 on, and takes {text.max_position_embeddings}. Give a teacher that "
                "reads what the student reads."
            )
        # Without its end token, a text would be read at its beginning, where all are alike.
        if not torch.equal(text_lengths(self.input_ids.flatten(0, 1), config.end_token), self.lengths.flatten()):
            raise ValueError(
                f"The teacher ends texts with another token than the student (its `end_token_id` is "
                f"{config.end_token_id}), and would read the labels' prompts elsewhere. Get the configuration that "
                "belongs to its weights, or give another teacher."
            )

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
        """One prompt per clip, cut to the longest.

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
        seed: seed of the run, at least 0.
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
        """One template per clip (ActionCLIP)."""
        return tuple(self._generator(step).integers(self.num_templates, size=num_clips).tolist())

    def _generator(self, step: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, step))


class StepTexts(NamedTuple):
    """The texts of one training step: keywords for the student's forward pass, and the teacher's embeddings (K, D).

    Without a teacher the latter are of no text, (0, 0).
    """

    student_inputs: dict[str, Any]
    teacher_embeds: Tensor


class PromptEmbeds:
    """Text embeddings of a label list under a frozen text tower: each template is encoded once, when first drawn.

    Args:
        prompts: the label list.
        encode: tokens (n, L) to embeddings (n, D), L2-normalized.
        changes: whether the tower is another one at the next call, so that nothing can be kept.
    """

    def __init__(self, prompts: LabelPrompts, encode: Callable[[Tensor], Tensor], *, changes: bool = False):
        self.prompts, self.changes = prompts, changes
        self._encode = encode
        self._embeds: dict[int, Tensor] = {}

    def of_all_labels(self, templates: Sequence[int]) -> Tensor:
        """One embedding per label, over some templates: (K, D)."""
        prompt_embeds = torch.stack([self._of_template(template) for template in templates], dim=1)
        return average_prompts(prompt_embeds.flatten(0, 1), len(templates))

    def of_clips(self, labels: Tensor, templates: Sequence[int]) -> Tensor:
        """One embedding per clip: label `labels[i]` (B,) under template i, (B, D)."""
        pairs = zip(labels.tolist(), templates)
        embeds = {template: self._of_template(template) for template in dict.fromkeys(templates)}
        return torch.stack([embeds[template][label] for label, template in pairs])

    def _of_template(self, template: int) -> Tensor:
        if self.changes:
            return self._encode(self.prompts.of_all_labels([template]))
        if template not in self._embeds:
            self._embeds[template] = self._encode(self.prompts.of_all_labels([template]))
        return self._embeds[template]


class LabelTexts:
    """The texts of one label list.

    A frozen teacher's embeddings are computed once per template; the student's too where its text tower is frozen, and
    not again where both towers are one.

    Args:
        prompts: the list under all templates.
        student: not wrapped.
        teacher: `None` where nothing is distilled.
        chunk_size: texts encoded at a time; see [`FrosterTrainingArguments`].
        encode_apart: whether the student's text tower may be called by itself. Not where a wrapper (FSDP, DeepSpeed)
            gathers the parameters for the model's own forward pass only.

    Raises:
        ValueError: see [`LabelPrompts.refuse_other_teacher`].
    """

    def __init__(
        self,
        prompts: LabelPrompts,
        *,
        student: FrosterForVideoClassification,
        teacher: FrozenTeacher | None,
        chunk_size: int | None,
        encode_apart: bool = True,
    ):
        self.prompts, self.student, self.teacher, self.chunk_size = prompts, student, teacher, chunk_size
        self.encode_apart = encode_apart
        self.teacher_embeds: PromptEmbeds | None = None
        if teacher is not None:
            prompts.refuse_other_teacher(teacher.model.config)
            encode = partial(self._encode, teacher.embed_texts)
            self.teacher_embeds = PromptEmbeds(prompts, encode, changes=teacher.changes)
        self.frozen_embeds: PromptEmbeds | None = None
        if encode_apart and _text_is_frozen(student):
            shared = teacher is not None and teacher.shared and teacher.dtype == torch.float32
            encode = partial(self._encode, student.froster.get_label_embeds)
            self.frozen_embeds = self.teacher_embeds if shared else PromptEmbeds(prompts, encode)

    @property
    def kept_width(self) -> int:
        """Numbers that are kept of a label under a template from when it is first drawn, of both models together."""
        widths = {}
        if self.teacher_embeds is not None and not self.teacher_embeds.changes:
            widths[id(self.teacher_embeds)] = cast(FrozenTeacher, self.teacher).embed_width
        if self.frozen_embeds is not None:
            widths[id(self.frozen_embeds)] = self.student.config.projection_dim
        return sum(widths.values())

    def for_all_labels(self, templates: Sequence[int]) -> StepTexts:
        """Every label under some templates."""
        return self._step_texts(lambda texts: texts.of_all_labels(templates), num_prompts=len(templates))

    def for_clips(self, labels: Tensor, templates: Sequence[int]) -> StepTexts:
        """The label of every clip under a template of its own.

        Args:
            labels: (B,); clips labeled -100 have none. Where no clip has one, a text that no clip is compared with
                stands in, since the text tower cannot be given nothing.
            templates: B indices.
        """
        pairs = [pair for pair in zip(labels.tolist(), templates) if pair[0] != IGNORED_LABEL] or [(0, 0)]
        labels, templates = torch.tensor([label for label, _ in pairs]), [template for _, template in pairs]
        return self._step_texts(lambda texts: texts.of_clips(labels, templates), num_prompts=1)

    def _step_texts(self, choose: Callable[[Any], Tensor], *, num_prompts: int) -> StepTexts:
        """What is chosen of the prompts, as tokens for the student, or of their embeddings where those are kept."""
        teacher_embeds = choose(self.teacher_embeds) if self.teacher_embeds else torch.empty(0, 0)
        if self.frozen_embeds is not None:
            return StepTexts({"text_embeds": choose(self.frozen_embeds)}, teacher_embeds)
        return StepTexts(self._tokens(choose(self.prompts), num_prompts), teacher_embeds)

    def for_evaluation(self) -> dict[str, Any]:
        """Keywords for the student's forward pass: every label over all templates, encoded here where it can be."""
        if self.encode_apart:
            return {"text_embeds": self.student_label_embeds()}
        num_templates = len(self.prompts.templates)
        return self._tokens(self.prompts.of_all_labels(range(num_templates)), num_templates)

    @torch.no_grad()
    def student_label_embeds(self) -> Tensor:
        """The student's embeddings of the labels over all templates, with its weights as they are now: (K, D)."""
        num_templates = len(self.prompts.templates)
        input_ids = self.prompts.of_all_labels(range(num_templates)).to(self.student.device)
        was_training = self.student.training
        self.student.eval()
        try:
            return self.student.froster.get_label_embeds(
                input_ids, num_prompts=num_templates, chunk_size=self.chunk_size or 256
            )
        finally:
            self.student.train(was_training)

    def _tokens(self, input_ids: Tensor, num_prompts: int) -> dict[str, Any]:
        # One chunk needs no recomputation. On a CPU, computing once what its texts share pays all the same (see
        # benchmarks/text_gradients.md); an accelerator would wait for their lengths on the host.
        split = self.chunk_size is not None and (
            input_ids.shape[0] > self.chunk_size or self.student.device.type == "cpu"
        )
        return {
            "input_ids": input_ids.to(self.student.device, non_blocking=True),
            "num_prompts": num_prompts,
            "text_chunk_size": self.chunk_size if split else None,
        }

    @torch.no_grad()
    def _encode(self, encode: Callable[..., Tensor], input_ids: Tensor) -> Tensor:
        return encode(input_ids.to(self.student.device), chunk_size=self.chunk_size or 256).float()


def _text_is_frozen(student: FrosterForVideoClassification) -> bool:
    """Whether a text has the same embedding at every step: nothing of the text tower is trained or dropped out."""
    if float(student.config.text_config.attention_dropout or 0) > 0:
        return False
    return not any(parameter.requires_grad for name, parameter in student.named_parameters() if is_text(name))
