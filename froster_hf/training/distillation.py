"""Feature distillation: the student learns actions, and stays near the frozen CLIP that it came from.

Huang, Zhou, Yao, Han: FROSTER (ICLR 2024), section 3.3. In the order of the paper, and of this file:

1. Teacher and student embed the same frames and the same prompts. The teacher's embeddings come from `teacher.py`, the
   student's are fields of its outputs: both are `Embeddings`.
2. A form says what of the student is compared: its embeddings as they are, an MLP of them, or, the paper's choice,
   f + alpha * P(f), a small correction that leaves the student free to learn (`DISTILLATIONS`).
3. L_video and L_text are one minus a cosine (`cosine_distance`).
4. L = L_objective + beta * (L_video + L_text) (`FeatureDistillation.parts`).

A new form is a subclass of `DistillationForm` and an entry of `DISTILLATIONS`. The projectors themselves are part of
the model while it is trained (`modeling/heads_froster.py`), and are left behind when it is saved for inference.

Letters: B clips, T frames, K labels (one text each), D the teacher's embedding width.
"""

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ..modeling.heads_froster import ProjectorKind
from ..modeling.modeling_froster import FrosterForVideoClassification, FrosterVideoClassificationOutput
from .losses import IGNORED_LABEL, LossPart
from .teacher import FrozenTeacher

DistillationTarget = Literal["both", "video", "text"]


# 1. What is compared.


class Embeddings(NamedTuple):
    """Embeddings of the same clips and texts: frames (B, T, D) and texts (K, D)."""

    frames: Tensor
    texts: Tensor

    @classmethod
    def of(cls, outputs: FrosterVideoClassificationOutput, frames: str, texts: str) -> "Embeddings":
        """The fields of these names.

        Raises:
            ValueError: the outputs lack one, as those of a student without projectors.
        """
        if missing := [name for name in (frames, texts) if outputs.get(name) is None]:
            raise ValueError(f"The student's outputs have no `{missing[0]}`; `attach` has to give it the projectors.")
        return cls(outputs[frames], outputs[texts])


# 2. The forms.


class DistillationForm(ABC):
    """What of the student is compared with the teacher.

    Attributes:
        about: the form in one line.
        maps_widths: whether the teacher's embeddings may have another width than the student's.
    """

    about: str
    maps_widths: bool = False

    @abstractmethod
    def attach(self, student: FrosterForVideoClassification, *, teacher_width: int, alpha: float) -> None:
        """Give the student the projectors that it is compared behind, in place.

        Args:
            student: the model to be trained; what it brings from a checkpoint is kept.
            teacher_width: D.
            alpha: weight of a correction, where the form has one.

        Raises:
            ValueError: the student brings projectors of another form.
        """

    @abstractmethod
    def view(self, outputs: FrosterVideoClassificationOutput) -> Embeddings:
        """The student's embeddings as this form compares them."""


class Direct(DistillationForm):
    """The embeddings as they are."""

    about = "the student's embeddings are compared as they are"

    def attach(self, student: FrosterForVideoClassification, *, teacher_width: int, alpha: float) -> None:
        """Nothing to attach."""
        refuse_projectors(student, "direct")

    def view(self, outputs: FrosterVideoClassificationOutput) -> Embeddings:
        """f, w."""
        return Embeddings.of(outputs, "frame_embeds", "text_embeds")


class Projected(DistillationForm):
    """The embeddings behind projectors that the student carries: P(f), or f + alpha * P(f)."""

    def __init__(self, kind: ProjectorKind, *, about: str, maps_widths: bool):
        self.kind, self.about, self.maps_widths = kind, about, maps_widths

    def attach(self, student: FrosterForVideoClassification, *, teacher_width: int, alpha: float) -> None:
        """A projector for frames and one for texts."""
        if student.distillation_projectors is None:
            student.add_distillation_projectors(self.kind, alpha=alpha, teacher_width=teacher_width)
        brought = student.distillation_projectors.video  # type: ignore[union-attr]
        if (brought.kind, brought.alpha) != (self.kind, alpha):
            raise ValueError(
                f"The model brings {brought.kind!r} projectors with alpha {brought.alpha}, but the arguments ask for "
                f"{self.kind!r} projectors with distillation_alpha={alpha}."
            )

    def view(self, outputs: FrosterVideoClassificationOutput) -> Embeddings:
        """What the projectors make of f and w."""
        return Embeddings.of(outputs, "projected_frame_embeds", "projected_text_embeds")


DISTILLATIONS: dict[str, DistillationForm] = {
    "direct": Direct(),
    "projector": Projected(
        "mlp", about="behind an MLP; the only form for a teacher of another width", maps_widths=True
    ),
    "residual": Projected(
        "residual", about="behind the embedding plus `distillation_alpha` times an MLP of it", maps_widths=False
    ),
}
NO_DISTILLATION = "none"


def distillation_names() -> tuple[str, ...]:
    """What `distillation` of the arguments may be."""
    return (NO_DISTILLATION, *DISTILLATIONS)


def refuse_projectors(student: FrosterForVideoClassification, distillation: str) -> None:
    """Refuse a student with projectors where none are used.

    Raises:
        ValueError: it has some.
    """
    if student.distillation_projectors is not None:
        raise ValueError(
            f"The model brings distillation projectors, which distillation={distillation!r} does not use. Train it "
            "with the form that they come from ('residual' or 'projector'), or load it without them."
        )


# 3. The distance.


def cosine_distance(student: Tensor, teacher: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """One minus the cosine, from 0 (the same direction) to 2, averaged.

    Args:
        student: (B, T, D) or (K, D).
        teacher: of the same shape.
        counted: (B,) or (K,), true for what is part of the mean; by default all.

    Returns:
        A scalar; zero where nothing is counted.
    """
    distances = 1 - F.cosine_similarity(student, teacher, dim=-1)
    if counted is None:
        return distances.mean()
    weights = counted.to(distances).reshape(-1, *[1] * (distances.ndim - 1)).expand_as(distances)
    return (distances * weights).sum() / weights.sum().clamp(min=1)


# 4. The loss.


class NoDistillation:
    """A training without a teacher: no parts, nothing to measure."""

    teacher: FrozenTeacher | None = None

    def parts(self, outputs: FrosterVideoClassificationOutput, **batch: Tensor | None) -> dict[str, LossPart]:
        """See [`FeatureDistillation`]."""
        return {}

    def cosines(self, outputs: FrosterVideoClassificationOutput, **batch: Tensor | None) -> dict[str, Tensor]:
        """See [`FeatureDistillation`]."""
        return {}


@dataclass(frozen=True)
class FeatureDistillation:
    """A form between a student and its teacher.

    Args:
        form: what is compared.
        teacher: a frozen CLIP.
        targets: `video`, `text` or both.
        weight: beta.
    """

    form: DistillationForm
    teacher: FrozenTeacher
    targets: Set[str]
    weight: float

    def parts(
        self,
        outputs: FrosterVideoClassificationOutput,
        *,
        clips: Tensor,
        labels: Tensor,
        teacher_texts: Tensor,
    ) -> dict[str, LossPart]:
        """beta * (L_video + L_text), of the targets.

        Args:
            outputs: the student's, of these clips and texts.
            clips: (B, T, 3, S, S), what the student saw.
            labels: (B,); clips labelled -100 have no part in L_video.
            teacher_texts: (K, D), the teacher's embeddings of the texts that the student was given.
        """
        student, parts = self.form.view(outputs), {}
        if "video" in self.targets:
            distance = cosine_distance(
                student.frames, self.teacher.embed_frames(clips), counted=labels != IGNORED_LABEL
            )
            parts["distill_video"] = LossPart(distance, self.weight)
        if "text" in self.targets:
            parts["distill_text"] = LossPart(cosine_distance(student.texts, teacher_texts), self.weight)
        return parts

    def cosines(
        self, outputs: FrosterVideoClassificationOutput, *, clips: Tensor, teacher_texts: Tensor
    ) -> dict[str, Tensor]:
        """Mean cosines of frames and of texts.

        Of the embeddings that inference uses, or, for a teacher of another width, as the form compares them.
        """
        inference = Embeddings.of(outputs, "frame_embeds", "text_embeds")
        same_width = self.teacher.embed_width == inference.texts.shape[-1]
        ours = inference if same_width else self.form.view(outputs)
        pairs = {"video": (ours.frames, self.teacher.embed_frames(clips)), "text": (ours.texts, teacher_texts)}
        return {
            f"teacher_cosine_{name}": F.cosine_similarity(student.float(), teacher, dim=-1).mean()
            for name, (student, teacher) in pairs.items()
            # One embedding per clip (`joint`) has no frames to compare.
            if student.shape == teacher.shape
        }


def begin_distillation(
    student: FrosterForVideoClassification,
    *,
    distillation: str,
    teacher: FrozenTeacher,
    target: DistillationTarget,
    alpha: float,
    weight: float,
) -> FeatureDistillation:
    """Bring a student and a teacher together, attaching projectors to the student in place.

    Args:
        student: the model to be trained, as it will be trained.
        distillation: a name of `DISTILLATIONS`.
        teacher: a frozen CLIP that reads the same tokens.
        target: which embeddings are compared; a projector of the others is frozen.
        alpha: weight of the residual correction.
        weight: beta.

    Raises:
        ValueError: an unknown form, or one that cannot stand between these two.
    """
    if distillation not in DISTILLATIONS:
        raise ValueError(f"`distillation` is {distillation!r}; it must be one of {', '.join(distillation_names())}.")
    form = DISTILLATIONS[distillation]
    width, teacher_width = student.config.projection_dim, teacher.embed_width
    if width != teacher_width and not form.maps_widths:
        mapping = ", ".join(repr(name) for name, other in DISTILLATIONS.items() if other.maps_widths)
        raise ValueError(
            f"The student's embeddings have width {width} and the teacher's {teacher_width}, which "
            f"distillation={distillation!r} cannot compare. Use {mapping}, which maps between widths, or a teacher of "
            "the student's width."
        )
    targets = {"video", "text"} if target == "both" else {target}
    if student.config.temporal_entries[0].place == "embeddings" and "video" in targets:
        raise ValueError(
            f"`temporal_module={student.config.temporal_module!r}` has one embedding per clip, where the teacher "
            "has one per frame. Distill the texts only (`distillation_target='text'`), or set distillation='none'."
        )
    form.attach(student, teacher_width=teacher_width, alpha=alpha)
    if student.distillation_projectors is not None:
        # Every trained parameter has to take part in every step.
        student.distillation_projectors.video.requires_grad_("video" in targets)
        student.distillation_projectors.text.requires_grad_("text" in targets)
    return FeatureDistillation(form=form, teacher=teacher, targets=targets, weight=weight)
