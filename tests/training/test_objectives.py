"""The objectives by their properties, and ActionCLIP's against its stored value."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from froster_hf.training.losses import LossPart, cross_entropy_loss, symmetric_kl_loss, total_loss

KL_FILE = Path(__file__).parents[1] / "parity" / "data" / "actionclip" / "kl_loss.safetensors"


@pytest.mark.parity
def test_symmetric_kl_gives_the_value_that_actionclip_computed():
    stored = load_file(KL_FILE)
    videos, texts = F.normalize(stored["video_embeds"], dim=-1), F.normalize(stored["text_embeds"], dim=-1)
    logits = stored["logit_scale"] * videos @ texts.T
    loss = symmetric_kl_loss(logits, stored["labels"])
    torch.testing.assert_close(loss, stored["loss"], rtol=0, atol=1e-5)


def test_symmetric_kl_is_lower_when_clips_match_their_own_texts():
    labels = torch.tensor([0, 1, 2, 1])
    right = 10.0 * (labels[:, None] == labels[None, :])
    assert symmetric_kl_loss(right, labels) < 1e-6
    assert symmetric_kl_loss(-right, labels) > 1


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
    loss = symmetric_kl_loss(logits, torch.tensor([-100, -100]))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_clips_without_a_label_do_not_change_the_cross_entropy():
    logits, labels = torch.randn(4, 3), torch.tensor([2, 0, -100, 1])
    kept = labels != -100
    expected = F.cross_entropy(logits[kept], labels[kept])
    torch.testing.assert_close(cross_entropy_loss(logits, labels), expected)


def test_cross_entropy_of_no_label_at_all_is_zero():
    assert cross_entropy_loss(torch.randn(2, 3), torch.tensor([-100, -100])) == 0


def test_label_smoothing_is_that_of_pytorch():
    logits, labels = torch.randn(4, 3), torch.tensor([2, 0, 1, 1])
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy_loss(logits, labels, label_smoothing=0.1), expected)


def test_the_total_is_the_weighted_sum_of_the_parts():
    parts = {"ce": LossPart(torch.tensor(1.0)), "distill_video": LossPart(torch.tensor(0.25), 2.0)}
    torch.testing.assert_close(total_loss(parts), torch.tensor(1.5))
