"""Feature distillation: the distance by its properties, every form in training, and a form added at run time."""

from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from froster_hf import FrosterForVideoClassification
from froster_hf.training import FrosterTrainingArguments, FrozenTeacher
from froster_hf.training.arguments import Distillation
from froster_hf.training.distillation import (
    DISTILLATIONS,
    Direct,
    DistillationForm,
    Embeddings,
    begin_distillation,
    cosine_distance,
    distillation_names,
)
from tests.modeling.tiny import WIDTH, tiny_clips, tiny_model, tiny_texts
from tests.training.tiny import Arrays, tiny_trainer


def test_the_distance_is_zero_where_student_and_teacher_point_the_same_way():
    frames = torch.randn(2, 4, 8)
    assert cosine_distance(3 * frames, frames).abs() < 1e-6
    assert cosine_distance(0.5 * frames[0], frames[0]).abs() < 1e-6


def test_opposite_directions_cost_two():
    frames = torch.randn(2, 4, 8)
    torch.testing.assert_close(cosine_distance(-frames, frames), torch.tensor(2.0))


def test_only_what_is_counted_is_part_of_the_mean():
    student, teacher = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    counted = torch.tensor([True, False, True])
    torch.testing.assert_close(
        cosine_distance(student, teacher, counted=counted), cosine_distance(student[counted], teacher[counted])
    )
    assert cosine_distance(student, teacher, counted=torch.zeros(3, dtype=torch.bool)) == 0


def test_the_names_of_the_arguments_are_those_of_the_table():
    assert get_args(Distillation) == distillation_names()


@pytest.mark.parametrize("name", DISTILLATIONS)
@pytest.mark.parametrize("target", ["both", "video", "text"])
def test_every_form_compares_what_it_says_and_weights_it(name, target):
    student = tiny_model()
    teacher = FrozenTeacher.from_student(student)
    distillation = begin_distillation(
        student, distillation=name, teacher=teacher, target=target, alpha=0.1, weight=3.0
    )
    clips, texts = tiny_clips(), tiny_texts(3)
    outputs = student(clips, input_ids=texts)
    labels = torch.tensor([0, -100])
    parts = distillation.parts(outputs, clips=clips, labels=labels, teacher_texts=teacher.embed_texts(texts))
    targets = {"video", "text"} if target == "both" else {target}
    assert {part.removeprefix("distill_") for part in parts} == targets
    assert {part.weight for part in parts.values()} == {3.0}
    view = DISTILLATIONS[name].view(outputs)
    if "video" in targets:
        expected = cosine_distance(view.frames[:1], teacher.embed_frames(clips)[:1])
        torch.testing.assert_close(parts["distill_video"].value, expected)
        assert parts["distill_video"].value > 1e-4  # of the temporal module at least
    if "text" in targets:
        expected = cosine_distance(view.texts, teacher.embed_texts(texts))
        torch.testing.assert_close(parts["distill_text"].value, expected)
    # A projector that no part reads would be a parameter without a gradient.
    for projector in (name for name in ("video", "text") if student.distillation_projectors is not None):
        trained = {p.requires_grad for p in getattr(student.distillation_projectors, projector).parameters()}
        assert trained == {projector in targets}


def test_an_unknown_form_is_an_error_and_not_a_training_without_a_teacher(tmp_path):
    student = tiny_model()
    teacher = FrozenTeacher.from_student(student)
    with pytest.raises(ValueError, match="`distillation` is 'softer'; it must be one of none, direct, projector"):
        begin_distillation(student, distillation="softer", teacher=teacher, target="both", alpha=0.1, weight=2.0)
    with pytest.raises(ValueError, match="`distillation` is 'softer'; it must be one of none, direct, projector"):
        FrosterTrainingArguments(output_dir=str(tmp_path), distillation="softer", report_to="none", use_cpu=True)


def test_a_form_that_attaches_nothing_to_compare_with_is_an_error_and_not_a_training_without_a_teacher(
    tmp_path, monkeypatch
):
    class Forgetful(type(DISTILLATIONS["residual"])):
        def attach(self, student, *, teacher_width, alpha):
            pass

    monkeypatch.setitem(DISTILLATIONS, "toy", Forgetful("residual", about="attaches nothing", maps_widths=False))
    trainer = tiny_trainer(tmp_path, distillation="toy")
    with pytest.raises(ValueError, match="no `projected_frame_embeds`; `attach` has to give it the projectors"):
        trainer.train()


def test_a_form_without_an_implementation_cannot_be_made():
    class Unfinished(DistillationForm):
        about = "has no view"

        def attach(self, student, *, teacher_width, alpha):
            pass

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()


class Scale(nn.Module):
    """A toy projector: one trained number per component."""

    def __init__(self, alpha):
        super().__init__()
        self.weight = nn.Parameter(torch.full((WIDTH,), alpha))

    def forward(self, embeds):
        return embeds * self.weight


class Scaled(DistillationForm):
    """A toy form, as a user would write one: its own projectors, nothing else."""

    about = "every component of the embedding times a number"

    def attach(self, student, *, teacher_width, alpha):
        student.froster.distillation_projectors = nn.ModuleDict({"video": Scale(1 + alpha), "text": Scale(1 - alpha)})

    def view(self, outputs):
        return Embeddings.of(outputs, "projected_frame_embeds", "projected_text_embeds")


@pytest.mark.parametrize("form", [Scaled(), Direct()])
def test_a_form_that_is_added_at_run_time_goes_through_everything(tmp_path, monkeypatch, form):
    monkeypatch.setitem(DISTILLATIONS, "toy", form)
    fields = {"distillation": "toy", "save_strategy": "steps", "save_steps": 1, "eval_dataset": Arrays(4)}
    trainer = tiny_trainer(tmp_path, **fields)
    trainer.train()
    logged = [entry["loss_distill_video"] for entry in trainer.state.log_history if "loss_distill_video" in entry]
    assert len(logged) == 2
    assert min(logged) > 0
    assert trainer.evaluate()["eval_teacher_cosine_video"] < 1
    # Its projectors are in the checkpoints, from which the same run goes on, and not in the model that is saved.
    has_projectors = isinstance(form, Scaled)
    names = set(load_file(tmp_path / "checkpoint-1" / "model.safetensors"))
    assert any("distillation_projectors" in name for name in names) == has_projectors
    resumed = tiny_trainer(tmp_path, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    trainer.save_model(str(tmp_path / "saved"))
    saved = FrosterForVideoClassification.from_pretrained(tmp_path / "saved")
    assert saved.distillation_projectors is None
    assert saved(tiny_clips()).logits.shape == (2, 3)
