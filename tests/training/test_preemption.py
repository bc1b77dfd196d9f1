"""SIGTERM ends a training in order: a whole checkpoint, an exit code that says so, and a run that goes on bitwise."""

import os
import signal
import threading

import pytest

from froster_hf.training.checkpointing import list_checkpoints
from froster_hf.training.preemption import PreemptedError
from froster_hf.training.whole_folders import check_sound
from tests.training.killable_run import NUM_STEPS, Progress, start, train
from tests.training.test_resume_after_kill import PATIENCE_SECONDS, final_hashes, finish, wait_until
from tests.training.tiny import tiny_trainer
from tests.training.two_processes import start_ranks
from tests.training.two_processes import train as train_rank

# No checkpoint of the run's own before its last step.
FIELDS = {"save_steps": 1000}
EXIT_CODE = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, Progress(), False, FIELDS)
    return folder


def test_a_run_that_is_ended_twice_ends_bitwise_as_a_whole_one(whole_run, tmp_path):
    progress = Progress()
    for resume, step in ((False, 2), (True, 7)):
        progress.step.value, progress.wait.value = -1, step
        process = start(train, tmp_path, progress, resume, FIELDS)
        assert wait_until(lambda step=step: progress.step.value >= step, process)
        os.kill(process.pid, signal.SIGTERM)
        progress.wait.value = -1
        process.join(timeout=PATIENCE_SECONDS)
        assert process.exitcode == EXIT_CODE
        newest = max(list_checkpoints(tmp_path))
        assert step < newest < NUM_STEPS
        check_sound(list_checkpoints(tmp_path)[newest])
        assert not (tmp_path / "weight-average").exists(), "the mean is that of a whole run"
    finish(tmp_path, progress, True, FIELDS)
    assert final_hashes(tmp_path) == final_hashes(whole_run)


def test_both_processes_end_at_the_same_step_when_one_of_them_is_told(tmp_path):
    progress = Progress()
    progress.wait.value = 2
    processes = start_ranks(train_rank, tmp_path, progress, False, FIELDS)
    assert wait_until(lambda: progress.step.value >= 2, processes[0])
    os.kill(processes[1].pid, signal.SIGTERM)
    progress.wait.value = -1
    for process in processes:
        process.join(timeout=PATIENCE_SECONDS)
    assert [process.exitcode for process in processes] == [EXIT_CODE, EXIT_CODE]
    [checkpoint] = list_checkpoints(tmp_path).values()
    check_sound(checkpoint)
    assert (checkpoint / "rng_state_1.pth").is_file()


def test_the_error_says_how_to_go_on_and_the_signal_is_as_before(tmp_path):
    def before(*_):
        pass

    given = signal.signal(signal.SIGTERM, before)
    try:
        trainer = tiny_trainer(tmp_path, max_steps=5)
        step = trainer.training_step

        def told(*arguments, **options):
            if trainer.state.global_step == 1:
                signal.raise_signal(signal.SIGTERM)
            return step(*arguments, **options)

        trainer.training_step = told
        with pytest.raises(PreemptedError, match="at step 2, with a checkpoint"):
            trainer.train()
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, given)
    assert list(list_checkpoints(tmp_path)) == [2]
    trainer = tiny_trainer(tmp_path, max_steps=5)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 5


def test_a_training_in_another_thread_watches_no_signals(tmp_path):
    given = signal.getsignal(signal.SIGTERM)
    trainer = tiny_trainer(tmp_path, max_steps=1)
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.state.global_step == 1
    assert signal.getsignal(signal.SIGTERM) is given


def test_a_checkpoint_of_the_model_alone_is_not_said_to_be_resumable(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=2, save_only_model=True)
    step = trainer.training_step

    def told(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return step(*arguments, **options)

    trainer.training_step = told
    with pytest.raises(PreemptedError, match=r"the model alone \(`save_only_model`\), so a training begins again\.$"):
        trainer.train()
