"""Muon in single precision: torch's own updates, without the rounding of bfloat16."""

import pytest
import torch
from torch.optim import Muon

from froster_hf.shapes.pretraining.trainer import SinglePrecisionMuon, orthogonalize

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("shape", [(8, 8), (6, 24), (24, 6)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix, coefficients=COEFFICIENTS, steps=5)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ result @ right.T
    assert torch.allclose(values, values.diagonal().diag(), atol=1e-4)
    assert 0.5 < values.diagonal().min() < values.diagonal().max() < 1.3


@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_torch_up_to_its_bfloat16(nesterov):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(12, 20, generator=generator)
    gradients = torch.randn(4, 12, 20, generator=generator)
    moved = []
    for kind, extra in ((SinglePrecisionMuon, {}), (Muon, {"adjust_lr_fn": "match_rms_adamw"})):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = kind([parameter], lr=0.01, weight_decay=0.1, nesterov=nesterov, **extra)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        moved.append(parameter.detach() - start)
    assert (moved[0] - moved[1]).norm() < 0.02 * moved[1].norm()
    assert moved[0].norm() > 0.01
