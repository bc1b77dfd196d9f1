"""A loss or gradient that is not finite costs one step and nothing else, and is reported with its files."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainerState

from froster_hf.training.checkpointing import list_checkpoints
from froster_hf.training.losses import SKIPPED_STEPS, NonFiniteError, num_skipped_steps
from froster_hf.training.whole_folders import check_sound
from tests.training.tiny import LABELS, Arrays, tiny_trainer


class PoisonedClips(Arrays):
    """Clips of which some are NaN."""

    def __init__(self, poisoned: set[int], num_clips: int = 8):
        super().__init__(num_clips)
        for index in poisoned:
            self.clips[index] = float("nan")

    def __getitem__(self, index: int) -> dict:
        return {
            "pixel_values_videos": self.clips[index][None],
            "labels": -100 if index in self.unlabeled else index % len(LABELS),
            "video_names": f"clip-{index}.mp4",
            "decode_failures": [],
        }


class States(TrainerCallback):
    """Copies of everything that a step changes, after every step."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, *, model, optimizer, lr_scheduler, **kwargs):
        states = (model.state_dict(), optimizer.state_dict(), lr_scheduler.state_dict())
        self.seen.append(copy.deepcopy(states))


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def trainer_over(tmp_path, dataset, **fields):
    trainer = tiny_trainer(
        tmp_path, train_dataset=dataset, **{"per_device_train_batch_size": 2, "max_steps": 4, **fields}
    )
    trainer._get_train_sampler = lambda *args: range(len(dataset))
    return trainer


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0], ids=["with clipping", "without clipping"])
def test_a_nan_clip_leaves_weights_optimizer_and_schedule_as_they_were(tmp_path, caplog, max_grad_norm):
    states = States()
    trainer = trainer_over(tmp_path, PoisonedClips({4}), callbacks=[states], max_grad_norm=max_grad_norm)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    first, second, third, fourth = states.seen
    assert equal(second, third)
    assert not equal(first, second)
    assert not equal(third, fourth)
    assert all(tensor.isfinite().all() for tensor in fourth[0].values())
    report = next(text for text in caplog.messages if "not finite" in text)
    assert "The loss of step 3" in report
    assert "clip-4.mp4, clip-5.mp4" in report
    assert "clip-3" not in report


def test_only_the_bad_batch_of_an_accumulated_step_is_named(tmp_path, caplog):
    trainer = trainer_over(tmp_path, PoisonedClips({2}), gradient_accumulation_steps=4, max_steps=1)
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(NonFiniteError, match="no weight has changed"):
        trainer.train()
    assert equal(trainer.model.state_dict(), before)
    report = next(text for text in caplog.messages if "not finite" in text)
    assert "clip-2.mp4, clip-3.mp4." in report
    assert "clip-0" not in report


def test_a_gradient_that_is_not_finite_behind_a_finite_loss_skips_the_step_too(tmp_path, caplog):
    trainer = trainer_over(tmp_path, PoisonedClips(set()), max_steps=2)
    calls = []

    def poison(gradient):
        calls.append(None)
        return gradient * float("inf") if len(calls) == 2 else gradient

    states = States()
    trainer.add_callback(states)
    trainer.model.froster.visual_projection.weight.register_hook(poison)
    trainer.train()
    assert equal(states.seen[0], states.seen[1])
    report = next(text for text in caplog.messages if "not finite" in text)
    assert "The gradient of step 2" in report
    assert "clip-2.mp4, clip-3.mp4." in report


def test_the_run_stops_after_so_many_in_a_row_and_not_before(tmp_path):
    trainer = trainer_over(
        tmp_path, PoisonedClips({0, 2, 6, 8, 10, 12}, 16), max_steps=8, max_consecutive_nonfinite_steps=4
    )
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(NonFiniteError, match=r"step 7 .*clip-12\.mp4, clip-13\.mp4.*4\. such step in a row"):
        trainer.train()
    assert [log["step"] for log in trainer.state.log_history if SKIPPED_STEPS in log] == [0, 1, 3, 4, 5, 6]
    assert not equal(trainer.model.state_dict(), before)


def test_a_run_of_which_every_step_was_skipped_is_an_error(tmp_path):
    trainer = trainer_over(tmp_path, PoisonedClips({0, 2, 4, 6}))
    with pytest.raises(NonFiniteError, match=r"not finite in every step \(4\): no weight has changed"):
        trainer.train()
    assert num_skipped_steps(trainer.state) == trainer.state.global_step == 4


def test_a_skipped_step_counts_once():
    """However often the log of a run that was gone on with holds it."""
    entries = [{"step": step, SKIPPED_STEPS: 1} for step in (1, 1, 1, 3)]
    assert num_skipped_steps(TrainerState(log_history=[*entries, {"step": 4, "loss": 1.0}])) == 2


def test_a_resumed_run_goes_on_counting(tmp_path):
    fields = {"max_consecutive_nonfinite_steps": 3, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    with pytest.raises(NonFiniteError, match="step 3"):
        trainer_over(tmp_path, PoisonedClips({0, 2, 4}), **fields).train()
    with pytest.raises(NonFiniteError, match=r"step 3 .*3\. such step in a row"):
        trainer_over(tmp_path, PoisonedClips({0, 2, 4}), **fields).train(resume_from_checkpoint=True)


def test_the_log_says_how_many_steps_were_skipped_and_its_losses_are_finite(tmp_path):
    trainer = trainer_over(tmp_path, PoisonedClips({2, 6}))
    trainer.train()
    assert [log[SKIPPED_STEPS] for log in trainer.state.log_history if SKIPPED_STEPS in log] == [1, 2]
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(losses) == 4
    assert torch.tensor(losses).isfinite().all()


def test_a_run_without_bad_clips_is_not_changed(tmp_path):
    guarded = trainer_over(tmp_path, PoisonedClips(set()))
    guarded.train()
    assert not any(SKIPPED_STEPS in log for log in guarded.state.log_history)
    plain = trainer_over(tmp_path, PoisonedClips(set()))
    plain._guard._skip_if_not_finite = lambda *args: None
    plain.train()
    assert equal(guarded.model.state_dict(), plain.model.state_dict())


def test_the_host_waits_once_a_step_however_many_batches_are_accumulated(tmp_path, monkeypatch):
    """`tolist` and `item` are what makes the host wait for a GPU."""
    trainer = trainer_over(
        tmp_path, PoisonedClips(set()), gradient_accumulation_steps=4, max_steps=2, logging_strategy="no"
    )
    waits = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *args, original=original, name=name):
            waits.append((name, trainer.state.global_step))
            return original(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    step = trainer._guard._skip_if_not_finite
    inside = []

    def skip_if_not_finite(*args):
        before = len(waits)
        step(*args)
        inside.append(len(waits) - before)

    trainer._guard._skip_if_not_finite = skip_if_not_finite
    trainer.train()
    assert inside == [1, 1]
    # transformers' own filter looks at the loss of every batch.
    assert not trainer.args.logging_nan_inf_filter


def test_optimizers_pass_over_parameters_without_gradients():
    """The step is skipped by taking the gradients away; this is what makes that right."""
    for optimizer_class in (torch.optim.AdamW, torch.optim.SGD, torch.optim.Adafactor):
        for options in ({}, {"foreach": True}):
            layer = nn.Linear(3, 3)
            optimizer = optimizer_class(layer.parameters(), lr=0.1, weight_decay=0.1, **options)
            layer(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            before = copy.deepcopy((layer.state_dict(), optimizer.state_dict()))
            optimizer.zero_grad()
            optimizer.step()
            assert equal((layer.state_dict(), optimizer.state_dict()), before)


@pytest.mark.parametrize("part", ["vision", "text"])
def test_a_model_whose_weights_are_not_finite_is_not_saved(tmp_path, part):
    """The last step can have made them so, which no loss shows any more."""
    trainer = trainer_over(tmp_path, Arrays())
    trainer.train()
    trainer.save_model_whole(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    name, weight = next((name, tensor) for name, tensor in trainer.model.named_parameters() if part in name)
    with torch.no_grad():
        weight.view(-1)[0] = torch.inf
    for save in (lambda: trainer.save_model_whole(tmp_path / "model"), lambda: trainer.save_model(tmp_path / "other")):
        with pytest.raises(NonFiniteError, match=rf"1 weights .*{name}.*not saved.* lower learning rate"):
            save()
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_scores_that_are_not_finite_are_an_error_of_the_evaluation(tmp_path):
    poisoned = PoisonedClips({2, 5})
    trainer = trainer_over(tmp_path, Arrays(), eval_dataset=poisoned, per_device_eval_batch_size=4)
    with pytest.raises(NonFiniteError, match=r"scores are not finite for clip-2\.mp4, clip-5\.mp4, so nothing"):
        trainer.evaluate()
    poisoned.unlabeled = {2, 5}
    assert trainer.evaluate()["eval_top1"] <= 75  # as of videos that could not be decoded, which are wrong


class HalfACheckpoint(TrainerCallback):
    """In the second one's place, as a run that was ended may leave it to the one that goes on with it."""

    def on_train_begin(self, args, state, control, **kwargs):
        Path(args.output_dir, "checkpoint-2").mkdir()


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_an_evaluation_that_fails_loses_nothing_of_the_training(tmp_path, strategy):
    """The Trainer evaluates before it saves."""
    fields = {"save_strategy": strategy, "save_steps": 1, "eval_steps": 2, "max_steps": 3, "save_total_limit": 1}
    trainer = trainer_over(tmp_path, Arrays(), eval_dataset=PoisonedClips({1}), eval_strategy="steps", **fields)
    trainer.add_callback(HalfACheckpoint)
    with pytest.raises(
        NonFiniteError, match=r"clip-1\.mp4.* What was trained is in .*checkpoint-2: `--resume` goes on"
    ):
        trainer.train()
    assert trainer.args.save_total_limit == 1
    check_sound(tmp_path / "checkpoint-2")
    # The one before it, too, which may have been the last with finite scores.
    assert list(list_checkpoints(tmp_path)) == ([2, 1] if strategy == "steps" else [2])
    resumed = trainer_over(tmp_path, Arrays(), **fields)
    resumed.train(resume_from_checkpoint=True)
    whole = trainer_over(tmp_path / "whole", Arrays(), **fields)
    whole.train()
    assert equal(resumed.model.state_dict(), whole.model.state_dict())
