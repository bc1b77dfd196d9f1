"""What a training says: a line per log, on a terminal and elsewhere."""

import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from froster_hf.training.log_lines import LogLines, describe_log, show_lines

STATE = SimpleNamespace(num_train_epochs=3, global_step=12)


@pytest.mark.parametrize(
    ("logs", "line"),
    [
        (
            {"loss": 1.23456, "grad_norm": 0.5, "learning_rate": 1e-5, "epoch": 2.0, "loss_ce": 1.0, "loss_kl": 0.25},
            "epoch 2 of 3: loss 1.235 (ce 1, kl 0.25)",
        ),
        ({"loss": 1.0, "epoch": 0.5}, "epoch 0.5 of 3: loss 1"),
        (
            {
                "eval_all_loss": 1.0,
                "eval_all_top1": 62.5,
                "eval_all_top5": 100.0,
                "eval_all_runtime": 3.0,
                "epoch": 3.0,
            },
            "epoch 3 of 3: top-1 62.5 %, top-5 100.0 %",
        ),
        ({"eval_novel_top1": 50.0, "epoch": 3.0}, "epoch 3 of 3: novel top-1 50.0 %"),
        ({"eval_accuracy": 0.25, "eval_runtime": 1.0, "epoch": 1.0}, "epoch 1 of 3: accuracy 0.25"),
        ({"train_runtime": 61.4, "train_loss": 1.0, "total_flos": 1e9, "epoch": 3.0}, "trained 12 steps in 61 s"),
    ],
)
def test_a_log_is_one_line(logs, line):
    assert describe_log(logs, STATE) == line


@pytest.mark.parametrize("on_terminal", [True, False])
def test_the_bar_is_on_a_terminal_and_the_lines_are_everywhere(tmp_path, monkeypatch, capsys, on_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal, raising=False)
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", disable_tqdm=not on_terminal, use_cpu=True)
    trainer = Trainer(torch.nn.Linear(1, 1), args)
    show_lines(trainer)
    kinds = {type(callback) for callback in trainer.callback_handler.callbacks}
    assert LogLines in kinds
    assert not kinds & {PrinterCallback, ProgressCallback}
    assert (
        any(isinstance(callback, ProgressCallback) for callback in trainer.callback_handler.callbacks) == on_terminal
    )
    trainer.log({"loss": 0.5, "loss_ce": 0.5})
    assert capsys.readouterr().out == "epoch 0 of 0: loss 0.5 (ce 0.5)\n"
