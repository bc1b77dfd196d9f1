"""How a batch is split, over steps or over processes, changes nothing."""

import json
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.test_resume_after_kill import PATIENCE_SECONDS
from tests.training.tiny import Arrays, tiny_trainer
from tests.training.two_processes import start_ranks

OBJECTIVES = {
    "cross_entropy": {},
    "symmetric_kl": {"objective": "symmetric_kl", "training_prompts": "random"},
    # An odd number of them: in one step at least, the processes have different numbers of labels.
    "symmetric_kl_with_few_labels": {
        "objective": "symmetric_kl",
        "training_prompts": "random",
        "distillation": "none",
        "unlabeled": (1, 5, 9),
    },
}
# Plain SGD: Adam divides by the gradient's size, and so turns rounding into steps of full length.
SGD = {"optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant", "max_grad_norm": 1.0}
PARTS = ("loss", "loss_ce", "loss_kl", "loss_distill_video", "loss_distill_text")


def train(folder, *, batch_size: int, accumulation: int, unlabeled: Collection[int] = (), **fields):
    """Two optimizer steps over eight clips each; the weights and the log."""
    trainer = tiny_trainer(
        folder,
        train_dataset=Arrays(16, unlabeled),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        **SGD | fields,
    )
    trainer.train()
    return trainer.model.state_dict(), logged(trainer.state.log_history)


def logged(history: list[dict]) -> list[dict]:
    return [{part: entry[part] for part in PARTS if part in entry} for entry in history if "loss" in entry]


def assert_same(ours, expected):
    for name, tensor in expected[0].items():
        torch.testing.assert_close(ours[0][name], tensor, rtol=0, atol=1e-6, msg=lambda text, name=name: name + text)
    for step, expected_step in zip(ours[1], expected[1], strict=True):
        assert step == pytest.approx(expected_step, abs=2e-6)


@pytest.mark.parametrize("distillation", ["residual", "projector"])
def test_accumulated_batches_are_one_batch(tmp_path, distillation):
    whole = train(tmp_path, batch_size=8, accumulation=1, distillation=distillation)
    for batch_size, accumulation in ((4, 2), (1, 8)):
        split = train(tmp_path, batch_size=batch_size, accumulation=accumulation, distillation=distillation)
        assert_same(split, whole)


def test_a_last_batch_that_is_smaller_counts_by_its_clips(tmp_path):
    results = []
    for batch_size, accumulation in ((8, 1), (3, 3)):  # 8 clips, and 3 + 3 + 2
        trainer = tiny_trainer(
            tmp_path,
            train_dataset=Arrays(8),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            **SGD | {"max_steps": 1},
        )
        trainer.train()
        results.append((trainer.model.state_dict(), logged(trainer.state.log_history)))
    assert_same(results[1], results[0])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """The folder of the same training by two processes, on the CPU."""
    folder = tmp_path_factory.mktemp("two")
    processes = start_ranks(train_all, folder)
    for process in processes:
        process.join(timeout=PATIENCE_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_are_one_process(tmp_path, two_processes, objective):
    expected = train(tmp_path, batch_size=8, accumulation=1, **OBJECTIVES[objective])
    log = json.loads((two_processes / f"{objective}.json").read_text())
    assert_same((load_file(two_processes / f"{objective}.safetensors"), log), expected)


def train_all(folder: Path) -> None:
    """What one of the two processes does."""
    torch.set_num_threads(1)
    for name, fields in OBJECTIVES.items():
        weights, log = train(folder, batch_size=4, accumulation=1, **fields)
        if torch.distributed.get_world_size() != 2:
            raise RuntimeError("The processes do not know of each other.")
        if torch.distributed.get_rank() == 0:
            save_file(weights, folder / f"{name}.safetensors")
            (folder / f"{name}.json").write_text(json.dumps(log))
