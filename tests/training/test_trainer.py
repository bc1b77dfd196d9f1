"""FrosterTrainer on arrays: it trains what it should, logs every part, and its losses do not depend on the split."""

import pytest
import torch

from froster_hf.training import FrosterTrainer
from tests.fixtures.signals import end_backward
from tests.modeling.tiny import NUM_FRAMES, SIZE, TEXT, VISION
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


def test_the_trainer_is_made_of_three_classes_of_this_package():
    """Data sets, checkpoints, and the rest: a step is read in few places."""
    own = [base.__name__ for base in FrosterTrainer.__mro__ if base.__module__.startswith("froster_hf.")]
    assert own == ["FrosterTrainer", "ClipTrainer", "AtomicCheckpointing"]


def test_a_compiled_student_learns_texts_in_chunks(tmp_path):
    torch._dynamo.reset()
    losses = []
    for fields in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        trainer = tiny_trainer(tmp_path, text_chunk_size=2, max_steps=1, **fields)
        trainer.train()
        losses.append(next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("trained_parameters", ["all", "lora"])
def test_a_signal_does_not_wait_for_the_end_of_a_backward_pass(tmp_path, monkeypatch, trained_parameters):
    # Whose blocks have no function of Python in their backward pass.
    for tower in (TEXT, VISION):
        monkeypatch.setitem(tower, "hidden_act", "gelu")
    trainer = tiny_trainer(tmp_path, trained_parameters=trained_parameters)
    clips, labels = torch.randn(64, NUM_FRAMES, 3, SIZE, SIZE), torch.zeros(64, dtype=torch.long)
    loss = trainer.compute_loss(trainer.student, {"pixel_values_videos": clips, "labels": labels})
    end_backward(loss, loss)
    trained = [parameter for parameter in trainer.student.parameters() if parameter.requires_grad]
    assert any(parameter.grad is None for parameter in trained)


def test_what_a_training_left_behind_is_not_in_the_log_of_the_next(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=3, logging_steps=2)
    trainer.train()
    trainer.model.load_state_dict(tiny_trainer(tmp_path).model.state_dict())
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.train()
    first = next(log for log in trainer.state.log_history if "loss" in log)
    total = first["loss_ce"] + 2 * (first["loss_distill_video"] + first["loss_distill_text"])
    assert first["loss"] == pytest.approx(total, abs=1e-5)


def test_a_training_whose_batches_would_all_be_left_out_is_refused(tmp_path):
    fields = {"dataloader_drop_last": True, "max_steps": 1}
    with pytest.raises(ValueError, match=r"There are 8 videos to train on, fewer than the 9 of a batch"):
        tiny_trainer(tmp_path, per_device_train_batch_size=9, **fields).train()
    trainer = tiny_trainer(tmp_path, per_device_train_batch_size=8, **fields)
    trainer.train()
    assert trainer.state.global_step == 1


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


class WithoutSomeLabels(Arrays):
    """Clips 1 and 2 of four have no label, as where a video could not be decoded."""

    def __init__(self, unlabeled=(1, 2)):
        super().__init__(4)
        self.unlabeled = unlabeled

    def __getitem__(self, index):
        return super().__getitem__(index) | ({"label": -100} if index in self.unlabeled else {})


KL = {"objective": "symmetric_kl", "training_prompts": "random", "max_steps": 1, "learning_rate": 1e-2, "optim": "sgd"}
KL |= {
    "weight_decay": 0.0,
    "train_sampling_strategy": "sequential",
    "max_grad_norm": 0.0,
    "distillation_target": "video",
}


@pytest.mark.parametrize("trained_parameters", ["all", "vision"])  # texts by the student's tower, and stored ones
def test_clips_without_a_label_change_no_step_of_the_symmetric_objective(tmp_path, trained_parameters):
    fields = KL | {"trained_parameters": trained_parameters}
    trainers = [
        tiny_trainer(tmp_path, train_dataset=WithoutSomeLabels(range(kept, 4)), **fields) for kept in (2, 4, 0)
    ]
    # The labeled clips alone are the same batch; templates go by the place in it.
    alone = [trainers[0].train_dataset[0], trainers[0].train_dataset[1]]
    expected = tiny_trainer(tmp_path, train_dataset=alone, **fields)
    untouched = {name: tensor.clone() for name, tensor in trainers[2].model.state_dict().items()}
    for trainer in (*trainers, expected):
        trainer.train()
    logs = [trainer.state.log_history[0] for trainer in (*trainers, expected)]
    assert logs[0]["loss_kl"] == pytest.approx(logs[3]["loss_kl"], abs=1e-6)
    assert logs[0]["loss_kl"] != pytest.approx(logs[1]["loss_kl"], abs=1e-3)
    assert logs[2]["loss_kl"] == 0
    for name, tensor in trainers[2].model.state_dict().items():
        assert torch.equal(tensor, untouched[name]), name


def test_label_smoothing_lowers_no_target_of_the_symmetric_objective_in_silence(tmp_path):
    with pytest.raises(
        ValueError, match=r"`label_smoothing_factor` is 0.1, which objective='symmetric_kl' does not use"
    ):
        tiny_trainer(tmp_path, **KL, label_smoothing_factor=0.1)
    assert tiny_trainer(tmp_path, label_smoothing_factor=0.1).args.label_smoothing_factor == 0.1
