"""FrosterTrainer on arrays: it trains what it should, logs every part, and its losses do not depend on the split."""

import pytest
import torch

from tests.training.tiny import Arrays, tiny_trainer

OBJECTIVES = [
    ({"distillation": "none"}, {"loss_ce"}),
    ({"distillation": "direct"}, {"loss_ce", "loss_distill_video", "loss_distill_text"}),
    ({"distillation": "projector"}, {"loss_ce", "loss_distill_video", "loss_distill_text"}),
    ({"distillation": "residual"}, {"loss_ce", "loss_distill_video", "loss_distill_text"}),
    ({"distillation_target": "video"}, {"loss_ce", "loss_distill_video"}),
    ({"distillation_target": "text"}, {"loss_ce", "loss_distill_text"}),
    (
        {"objective": "symmetric_kl", "training_prompts": "random"},
        {"loss_kl", "loss_distill_video", "loss_distill_text"},
    ),
]


@pytest.mark.parametrize(("fields", "parts"), OBJECTIVES)
def test_every_part_of_the_loss_is_logged_and_they_add_up(tmp_path, fields, parts):
    trainer = tiny_trainer(tmp_path, **fields)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(log) == 2
    for entry in log:
        assert {name for name in entry if name.startswith("loss_")} == parts
        weights = {name: 2.0 if "distill" in name else 1.0 for name in parts}
        total = sum(weights[name] * entry[name] for name in parts)
        assert entry["loss"] == pytest.approx(total, abs=1e-5)


def test_training_lowers_the_loss(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=12, learning_rate=3e-3, lr_scheduler_type="constant")
    trainer.train()
    losses = [entry["loss_ce"] for entry in trainer.state.log_history if "loss_ce" in entry]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_evaluation_reports_accuracies_and_the_distance_to_the_teacher(tmp_path):
    trainer = tiny_trainer(tmp_path, eval_dataset=Arrays(6))
    metrics = trainer.evaluate()
    assert 0 <= metrics["eval_top1"] <= metrics["eval_top5"] <= 100
    assert 0.9 < metrics["eval_teacher_cosine_video"] < 1
    assert metrics["eval_teacher_cosine_text"] == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    moved = trainer.evaluate()
    assert moved["eval_teacher_cosine_text"] < 0.9999
