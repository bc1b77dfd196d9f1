"""The loss against its definition, written as loops, and by its properties."""

import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from froster_hf.shapes.pretraining import caption_loss


def by_definition(logits: list[list[float]], matches: list[list[bool]]) -> float:
    """The mean of both directions, one -log of a softmax at a time."""
    directions = []
    for scores, true in ((logits, matches), (list(zip(*logits)), list(zip(*matches)))):
        rows = []
        for row, match in zip(scores, true):
            negatives = sum(math.exp(score) for score, positive in zip(row, match) if not positive)
            terms = [
                -math.log(math.exp(score) / (math.exp(score) + negatives))
                for score, positive in zip(row, match)
                if positive
            ]
            if terms:
                rows.append(sum(terms) / len(terms))
        directions.append(sum(rows) / len(rows))
    return sum(directions) / 2


def random_pairs(num_pictures: int = 6, num_captions: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_pictures, num_captions, generator=generator, dtype=torch.float64)
    return logits, torch.rand(num_pictures, num_captions, generator=generator) < 0.4


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_its_definition(seed):
    logits, matches = random_pairs(seed=seed)
    matches[0] = False  # a picture without captions
    matches[1] = True  # and one that has all
    expected = by_definition(logits.tolist(), matches.tolist())
    assert caption_loss(logits, matches).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    logits, matches = random_pairs()
    matches[0], matches[1] = False, True
    assert gradcheck(lambda x: caption_loss(x, matches), (logits.requires_grad_(),))


def test_with_one_caption_each_it_is_the_loss_of_clip():
    logits, labels = torch.randn(4, 4), torch.arange(4)
    expected = (nn.functional.cross_entropy(logits, labels) + nn.functional.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(caption_loss(logits, torch.eye(4, dtype=torch.bool)), expected)


def test_the_order_of_pictures_and_captions_does_not_matter():
    logits, matches = random_pairs()
    pictures, captions = torch.randperm(6), torch.randperm(5)
    shuffled = caption_loss(logits[pictures][:, captions], matches[pictures][:, captions])
    torch.testing.assert_close(shuffled, caption_loss(logits, matches))
    torch.testing.assert_close(caption_loss(logits.T, matches.T), caption_loss(logits, matches))


def test_positives_do_not_compete():
    """A better second caption leaves the term of the first one as it is; in SupCon it would raise it."""
    matches = torch.tensor([[True, True, False]])
    logits = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True)
    caption_loss(logits, matches).backward()
    assert logits.grad[0, 0] < 0
    assert logits.grad[0, 1] < 0
    assert logits.grad[0, 2] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("matching", [False, True])
def test_without_positives_or_negatives_there_is_no_loss_and_no_gradient(matching, dtype):
    logits = (30 * torch.randn(3, 2)).to(dtype).requires_grad_()
    loss = caption_loss(logits, torch.full((3, 2), matching))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros(3, 2, dtype=dtype))
