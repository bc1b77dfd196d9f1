"""Values of arguments with which no optimizer or schedule can be made are one line that names them."""

import pytest

from tests.training.tiny import tiny_trainer


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr_scheduler_kwargs": {"evil": 3}}, r"`lr_scheduler_kwargs`, {'evil': 3}: .*unexpected keyword .*'evil'"),
        ({"lr_scheduler_kwargs": {"min_lr_rate": "a"}}, r"`lr_scheduler_kwargs`, {'min_lr_rate': 'a'}: TypeError"),
        ({"lr_scheduler_kwargs": {"min_lr_rate": 0.1, "num_cycles": [1]}}, r"`lr_scheduler_kwargs`, {.*}: TypeError"),
        # Of use until the last step.
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": -1}},
            r"'power': -1}: ZeroDivisionError",
        ),
        (
            {
                "lr_scheduler_type": "warmup_stable_decay",
                "lr_scheduler_kwargs": {"num_decay_steps": 2, "min_lr_ratio": -1},
            },
            "at step 10, the learning rate would be -1 times `learning_rate`",
        ),
        (
            {"lr_scheduler_type": "warmup_stable_decay"},
            "`lr_scheduler_type`, 'warmup_stable_decay': .*num_decay_steps",
        ),
        ({"optim": "rmsprop", "optim_args": "alpha=a"}, "`optim`, 'rmsprop' and `optim_args`, 'alpha=a': could not"),
        ({"optim": "sgd", "optim_args": "momentum=-1"}, "`optim_args`, 'momentum=-1': Invalid momentum value: -1"),
    ],
)
def test_they_are_named(tmp_path, fields, message):
    trainer = tiny_trainer(tmp_path, **fields)
    with pytest.raises(ValueError, match=f"^Nothing can be trained with .*{message}") as caught:
        trainer.create_optimizer_and_scheduler(10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2.0, "lr_end": 0.0}, "warmup_steps": 3},
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 3}},
        {"lr_scheduler_type": "inverse_sqrt"},
        {"lr_scheduler_type": "constant"},
        {"optim": "rmsprop", "optim_args": "alpha=0.9,momentum=0.5"},
    ],
    ids=str,
)
def test_those_that_fit_are_taken(tmp_path, fields):
    trainer = tiny_trainer(tmp_path, **fields)
    trainer.create_optimizer_and_scheduler(10)
    assert trainer.lr_scheduler.get_last_lr() == [group["lr"] for group in trainer.optimizer.param_groups]
