"""The loss functions by their properties, and ActionCLIP's objective against its stored value."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from froster_hf.training.losses import cross_entropy_loss, distillation_loss, symmetric_kl_loss, total_loss

KL_FILE = Path(__file__).parents[1] / "parity" / "data" / "actionclip" / "kl_loss.safetensors"


@pytest.mark.parity
def test_symmetric_kl_gives_the_value_that_actionclip_computed():
    stored = load_file(KL_FILE)
    videos, texts = F.normalize(stored["video_embeds"], dim=-1), F.normalize(stored["text_embeds"], dim=-1)
    logits = stored["logit_scale"] * videos @ texts.T
    loss = symmetric_kl_loss(logits, stored["labels"])["kl"]
    torch.testing.assert_close(loss, stored["loss"], rtol=0, atol=1e-5)


def test_symmetric_kl_is_lower_when_clips_match_their_own_texts():
    labels = torch.tensor([0, 1, 2, 1])
    right = 10.0 * (labels[:, None] == labels[None, :])
    assert symmetric_kl_loss(right, labels)["kl"] < 1e-6
    assert symmetric_kl_loss(-right, labels)["kl"] > 1


def test_symmetric_kl_does_not_change_when_video_and_text_change_places():
    logits, labels = torch.randn(5, 5), torch.tensor([0, 1, 1, 2, 0])
    torch.testing.assert_close(symmetric_kl_loss(logits, labels), symmetric_kl_loss(logits.T, labels))


def test_clips_without_a_label_do_not_change_symmetric_kl():
    labels = torch.tensor([0, -100, 1, -100, 0])
    logits = torch.randn(5, 3)
    expected = symmetric_kl_loss(logits[[0, 2, 4]], labels[[0, 2, 4]])
    torch.testing.assert_close(symmetric_kl_loss(logits, labels), expected)


def test_symmetric_kl_of_no_label_at_all_is_zero():
    logits = torch.randn(2, 1, requires_grad=True)
    loss = symmetric_kl_loss(logits, torch.tensor([-100, -100]))["kl"]
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_clips_without_a_label_do_not_change_the_cross_entropy():
    logits, labels = torch.randn(4, 3), torch.tensor([2, 0, -100, 1])
    kept = labels != -100
    expected = F.cross_entropy(logits[kept], labels[kept])
    torch.testing.assert_close(cross_entropy_loss(logits, labels)["ce"], expected)


def test_cross_entropy_of_no_label_at_all_is_zero():
    assert cross_entropy_loss(torch.randn(2, 3), torch.tensor([-100, -100]))["ce"] == 0


def test_label_smoothing_is_that_of_pytorch():
    logits, labels = torch.randn(4, 3), torch.tensor([2, 0, 1, 1])
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy_loss(logits, labels, label_smoothing=0.1)["ce"], expected)


def test_distillation_is_zero_where_student_and_teacher_point_the_same_way():
    frames, texts = torch.randn(2, 4, 8), torch.randn(3, 8)
    parts = distillation_loss(
        student_frames=3 * frames, teacher_frames=frames, student_texts=0.5 * texts, teacher_texts=texts
    )
    assert set(parts) == {"distill_video", "distill_text"}
    for part in parts.values():
        assert part.abs() < 1e-6


def test_opposite_directions_cost_two():
    frames = torch.randn(2, 4, 8)
    parts = distillation_loss(student_frames=-frames, teacher_frames=frames)
    torch.testing.assert_close(parts, {"distill_video": torch.tensor(2.0)})


def test_clips_without_a_label_are_not_distilled():
    student, teacher = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    labels = torch.tensor([1, -100, 0])
    kept = labels != -100
    torch.testing.assert_close(
        distillation_loss(student_frames=student, teacher_frames=teacher, labels=labels),
        distillation_loss(student_frames=student[kept], teacher_frames=teacher[kept]),
    )


def test_the_total_weights_the_distillation_and_nothing_else():
    parts = {"ce": torch.tensor(1.0), "distill_video": torch.tensor(0.25), "distill_text": torch.tensor(0.5)}
    torch.testing.assert_close(total_loss(parts, distillation_weight=2.0), torch.tensor(2.5))
