"""Feature distillation: the distance by its properties, every form in training, and a form added at run time."""

from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from froster_hf import FrosterForVideoClassification
from froster_hf.training import FrosterTrainingArguments, FrozenTeacher
from froster_hf.training.arguments import Distillation
from froster_hf.training.distillation import (
    DISTILLATIONS,
    Batch,
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


# Those that compare embeddings of the same frames and texts.
COSINE_FORMS = [name for name, form in DISTILLATIONS.items() if type(form).losses is DistillationForm.losses]


@pytest.mark.parametrize("name", COSINE_FORMS)
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


@pytest.mark.parametrize("name", [name for name in DISTILLATIONS if name not in COSINE_FORMS])
def test_every_other_form_trains_and_is_logged(tmp_path, name):
    trainer = tiny_trainer(tmp_path, distillation=name, max_steps=2)
    before = {key: value.clone() for key, value in trainer.student.state_dict().items()}
    trainer.train()
    losses = [value for entry in trainer.state.log_history for key, value in entry.items() if "distill" in key]
    assert max(losses) > 1e-4
    assert any(not torch.equal(before[key], value) for key, value in trainer.student.state_dict().items())


def batch_of(student, teacher, **fields) -> Batch:
    clips, texts = tiny_clips(3), tiny_texts(5)
    outputs = student(clips, input_ids=texts)
    fields = {"labels": torch.tensor([0, -100, 4]), **fields}
    return Batch(outputs, clips, teacher=teacher, teacher_texts=teacher.embed_texts(texts), **fields)


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_relative_distillation_is_the_formula_in_numpy():
    student = tiny_model(temporal_module="none", temporal_pooling="specialization")
    teacher = FrozenTeacher.from_student(tiny_model(temporal_module="none"))
    batch = batch_of(student, teacher, step=3, seed=11)
    anchors = unit(np.random.default_rng((11, 3)).standard_normal((200, WIDTH), dtype=np.float32))
    frames = teacher.embed_frames(batch.clips).numpy()
    videos = {"student": batch.outputs.video_embeds.detach().numpy(), "teacher": frames.mean(axis=1)}
    texts = {"student": batch.outputs.text_embeds.detach().numpy(), "teacher": batch.teacher_texts.numpy()}
    scale = float(teacher.model.logit_scale.exp())
    ours, theirs = (
        softmax(scale * (unit(videos[who]) @ anchors.T) @ (anchors @ unit(texts[who]).T))
        for who in ("student", "teacher")
    )
    # The second clip has no label.
    expected = (theirs * np.log(theirs / ours)).sum(axis=1)[[0, 2]].mean()
    (loss,) = DISTILLATIONS["relative"].losses(batch, {"video", "text"}).values()
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3


def test_anchors_are_new_at_every_step_and_the_same_for_every_process():
    teacher = FrozenTeacher.from_student(tiny_model(temporal_module="none"))
    student = tiny_model()
    losses = [
        DISTILLATIONS["relative"].losses(batch_of(student, teacher, step=step, seed=1), {"video", "text"})["logits"]
        for step in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_scores_through_anchors_are_on_average_scores_at_the_temperature_of_the_ablation():
    videos, texts = (torch.nn.functional.normalize(torch.randn(n, WIDTH), dim=-1) for n in (2, 3))
    teacher = FrozenTeacher.from_student(tiny_model(temporal_module="none"))
    student = tiny_model()
    through_anchors = torch.stack(
        [DISTILLATIONS["relative"].scores(videos, texts, batch_of(student, teacher, step=step)) for step in range(200)]
    ).mean(0)
    plain = DISTILLATIONS["logits"].scores(videos, texts, batch_of(student, teacher))
    assert torch.allclose(through_anchors, plain, atol=0.25)
    assert torch.allclose(plain, videos @ texts.T * 200 / WIDTH)


@pytest.mark.parametrize("name", ["relative", "logits"])
def test_scores_of_a_student_that_is_the_teacher_cost_nothing(name):
    student = tiny_model(temporal_module="none", temporal_pooling="specialization", perturb=False)
    batch = batch_of(student, FrozenTeacher.from_student(student))
    assert DISTILLATIONS[name].losses(batch, {"video", "text"})["logits"].abs() < 1e-6


def test_still_frames_are_compared_and_motion_is_free():
    student = tiny_model(temporal_module="directional_attention")
    teacher = FrozenTeacher.from_student(student)
    shown = []

    def look(clips):
        shown.append(clips)
        return student(clips, input_ids=tiny_texts(5))

    batch = batch_of(student, teacher, step=2, seed=5, look=look)
    losses = DISTILLATIONS["still"].losses(batch, {"video", "text"})
    frame = int(np.random.default_rng((5, 2)).integers(batch.clips.shape[1]))
    assert torch.equal(shown[0], batch.clips[:, frame : frame + 1])
    expected = cosine_distance(
        look(shown[0]).frame_embeds[[0, 2]], teacher.embed_frames(batch.clips)[[0, 2], frame][:, None]
    )
    torch.testing.assert_close(losses["video"], expected)
    # The gates read a difference, and one frame has none: they are not held back by anything that is distilled.
    losses["video"].backward()
    gates = [parameter for name, parameter in student.named_parameters() if name.endswith("motion_gate")]
    assert gates
    assert all(gate.grad is None or not gate.grad.any() for gate in gates)


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"temporal_pooling": "transformer_cls", "temporal_module": "none"}, {}, "tied to 4"),
        (
            {},
            {"distillation": "relative", "target": "video"},
            "`distillation_target` is 'video', and has to be 'both'",
        ),
    ],
)
def test_what_a_form_cannot_compare_is_refused(fields, options, message):
    student = tiny_model(**fields)
    arguments = {"distillation": "still", "target": "both", "alpha": 0.1, "weight": 2.0, **options}
    with pytest.raises(ValueError, match=message):
        begin_distillation(student, teacher=FrozenTeacher.from_student(tiny_model()), **arguments)


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
