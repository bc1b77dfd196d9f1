"""Distillation: the student learns actions, and stays near the CLIP that it came from.

Huang, Zhou, Yao, Han: FROSTER (ICLR 2024), section 3.3. In the order of the paper, and of this file:

1. Teacher and student embed the same frames and the same prompts. The teacher's embeddings come from `teacher.py`, the
   student's are fields of its outputs: both are `Embeddings`.
2. A form says what of the student is compared: its embeddings as they are, an MLP of them, or, the paper's choice,
   f + alpha * P(f), a small correction that leaves the student free to learn (`DISTILLATIONS`).
3. L_video and L_text are one minus a cosine (`cosine_distance`).
4. L = L_objective + beta * (L_video + L_text) (`FeatureDistillation.parts`).

Other forms compare other things, and have losses of their own: the scores of the labels (`LogitDistillation`), the
same through random anchors (TACO), or what single frames show, which leaves the student free to see motion (`Still`).

A new form is a subclass of `DistillationForm` and an entry of `DISTILLATIONS`. The projectors themselves are part of
the model while it is trained (`modeling/layers_froster.py`), and are left behind when it is saved for inference.

Letters: B clips, T frames, K labels (one text each), D the teacher's embedding width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..modeling.layers_froster import ProjectorKind
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


@dataclass(frozen=True)
class Batch:
    """A training step as a form sees it.

    Args:
        outputs: the student's, of these clips and texts.
        clips: (B, T, 3, S, S), what the student saw.
        labels: (B,); clips labeled -100 have no part in what is distilled of videos.
        teacher: what is learned from.
        teacher_texts: (K, D), the teacher's embeddings of the texts that the student was given.
        step: optimizer step, from 0.
        seed: seed of the run.
        look: the student's outputs for other clips under the same texts.
    """

    outputs: FrosterVideoClassificationOutput
    clips: Tensor
    labels: Tensor
    teacher: FrozenTeacher
    teacher_texts: Tensor
    step: int = 0
    seed: int = 0
    look: Callable[[Tensor], FrosterVideoClassificationOutput] | None = None

    @cached_property
    def counted(self) -> Tensor:
        """(B,) bool: the clips that have a label."""
        return self.labels != IGNORED_LABEL

    @cached_property
    def teacher_frames(self) -> Tensor:
        """(B, T, D), the teacher's embeddings of the frames."""
        return self.teacher.embed_frames(self.clips)

    def generator(self) -> np.random.Generator:
        """Random numbers of this step: the same in every process and every resumed run."""
        return np.random.default_rng((self.seed, self.step))


# 2. The forms.


class DistillationForm(ABC):
    """What of the student is compared with the teacher.

    Attributes:
        about: the form in one line.
        maps_widths: whether the teacher's embeddings may have another width than the student's.
        targets: what `distillation_target` may be.
        takes_any_frames: whether the student has to take clips of any number of frames.
        score_numbers: numbers that it holds of each clip and label at once, at least.
    """

    about: str
    score_numbers: int = 0
    maps_widths: bool = False
    targets: tuple[DistillationTarget, ...] = ("both", "video", "text")
    takes_any_frames: bool = False

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

    def losses(self, batch: Batch, targets: Set[str]) -> dict[str, Tensor]:
        """Scalars by name: one minus the cosine of what `view` gives, of frames (`video`) and of texts (`text`)."""
        student, losses = self.view(batch.outputs), {}
        if "video" in targets:
            losses["video"] = cosine_distance(student.frames, batch.teacher_frames, counted=batch.counted)
        if "text" in targets:
            losses["text"] = cosine_distance(student.texts, batch.teacher_texts)
        return losses


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


class Still(Direct):
    """What a frame shows, and not what changes: one frame of every clip, drawn again at each step, is given to the
    student as a clip of its own, and compared as it is. Clips themselves are not compared: whatever the student makes
    of their motion is free. One forward pass of 1 / T of the frames more.
    """

    about = "single frames, shown to the student as clips of one frame; what it makes of motion is free"
    takes_any_frames = True

    def losses(self, batch: Batch, targets: Set[str]) -> dict[str, Tensor]:
        """`video` of single frames; `text` as it is."""
        losses = super().losses(batch, targets - {"video"})
        if "video" in targets:
            if batch.look is None:
                raise ValueError("distillation='still' shows the student further clips; the step gives it no way to.")
            frame = int(batch.generator().integers(batch.clips.shape[1]))
            stills = batch.clips[:, frame : frame + 1]
            student = self.view(batch.look(stills)).frames
            losses["video"] = cosine_distance(student, batch.teacher.embed_frames(stills), counted=batch.counted)
        return losses


class LogitDistillation(Direct):
    """The scores of the labels: KL(teacher || student) of their softmax, of the mean of the frames.

    The scale of both is the teacher's. Subclasses may change how the scores come from the embeddings.

    Attributes:
        num_anchors: n. The temperature is D / n, at which the expectation of the scores through n random anchors is;
            see [`RelativeDistillation`].
    """

    about = "the scores of the labels, at the temperature D / 200 (the ablation of `relative`)"
    targets = ("both",)
    # The student's and the teacher's scores, and the logarithms of both.
    score_numbers = 4
    num_anchors = 200

    def losses(self, batch: Batch, targets: Set[str]) -> dict[str, Tensor]:
        """`logits`."""
        view = self.view(batch.outputs)
        # The pooled video, which a temporal pooling may have learned, and not the frames.
        student = F.normalize(batch.outputs.video_embeds.float(), dim=-1)  # type: ignore[union-attr]
        teacher = F.normalize(batch.teacher_frames.mean(dim=1), dim=-1)
        scale = batch.teacher.logit_scale
        scores = [
            scale * self.scores(*pair, batch)
            for pair in ((student, F.normalize(view.texts.float(), dim=-1)), (teacher, batch.teacher_texts))
        ]
        divergence = F.kl_div(
            scores[0].log_softmax(dim=-1), scores[1].log_softmax(dim=-1), reduction="none", log_target=True
        ).sum(dim=-1)
        return {"logits": (divergence * batch.counted).sum() / batch.counted.sum().clamp(min=1)}

    def scores(self, videos: Tensor, texts: Tensor, batch: Batch) -> Tensor:
        """(B, D) and (K, D) to (B, K)."""
        return videos @ texts.T * (self.num_anchors / videos.shape[-1])


class RelativeDistillation(LogitDistillation):
    """Relative structure distillation (TACO): the scores of the labels through random anchors, new ones at each step.

    A (n, D) has Gaussian rows of unit length; the scores are (v A^T)(A T^T).
    """

    about = "the scores of the labels through 200 random anchors, drawn at each step (TACO)"

    def scores(self, videos: Tensor, texts: Tensor, batch: Batch) -> Tensor:
        """(B, D) and (K, D) to (B, K)."""
        drawn = batch.generator().standard_normal((self.num_anchors, videos.shape[-1]), dtype=np.float32)
        anchors = F.normalize(torch.from_numpy(drawn), dim=-1).to(videos)
        return (videos @ anchors.T) @ (anchors @ texts.T)


DISTILLATIONS: dict[str, DistillationForm] = {
    "direct": Direct(),
    "projector": Projected(
        "mlp", about="behind an MLP; the only form for a teacher of another width", maps_widths=True
    ),
    "residual": Projected(
        "residual", about="behind the embedding plus `distillation_alpha` times an MLP of it", maps_widths=False
    ),
    "still": Still(),
    "relative": RelativeDistillation(),
    "logits": LogitDistillation(),
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

    def parts(self, outputs: FrosterVideoClassificationOutput, **batch: Any) -> dict[str, LossPart]:
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
        teacher: a CLIP that is not trained.
        targets: `video`, `text` or both.
        weight: beta.
    """

    form: DistillationForm
    teacher: FrozenTeacher
    targets: Set[str]
    weight: float

    def parts(self, outputs: FrosterVideoClassificationOutput, **batch: Any) -> dict[str, LossPart]:
        """beta times each loss of the form: L_video and L_text, of the targets.

        Args:
            outputs: the student's.
            batch: further fields of [`Batch`], but for the teacher.
        """
        losses = self.form.losses(Batch(outputs, teacher=self.teacher, **batch), self.targets)
        return {f"distill_{name}": LossPart(loss, self.weight) for name, loss in losses.items()}

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
    if target not in form.targets:
        raise ValueError(
            f"distillation={distillation!r} compares videos with texts; `distillation_target` is {target!r}, and has "
            f"to be {' or '.join(map(repr, form.targets))}."
        )
    tied = [entry for entry in student.config.temporal_entries if entry.fixed_frames]
    if form.takes_any_frames and target != "text" and tied:
        raise ValueError(
            f"distillation={distillation!r} shows the student clips of one frame, but its temporal module or pooling "
            f"({tied[0].description}) is tied to {student.config.num_frames}. Choose another distillation."
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
