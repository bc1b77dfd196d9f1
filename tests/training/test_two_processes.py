"""Two processes save one checkpoint, resume from it in step, and skip together what one of them cannot use."""

import random
import shutil
import time

import pytest
import torch
import transformers
from packaging.version import Version

from froster_hf.data import EpochSampler
from froster_hf.training.checkpointing import ResumeError, list_checkpoints
from froster_hf.training.losses import SKIPPED_STEPS
from froster_hf.training.whole_folders import check_sound
from tests.training.killable_run import BATCH_SIZE, NUM_CLIPS, NoiseProcessor, Progress, watched_trainer
from tests.training.test_resume_after_kill import PATIENCE_SECONDS, final_hashes, wait_until
from tests.training.two_processes import evaluate, start_ranks, train, train_with_nan

STATES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth")


def join(processes) -> None:
    for process in processes:
        process.join(timeout=PATIENCE_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    join(start_ranks(train, folder, Progress(), False, {}))
    return folder


def test_a_checkpoint_holds_the_states_of_both(whole_run):
    for checkpoint in list_checkpoints(whole_run).values():
        check_sound(checkpoint)
        for name in STATES:
            assert (checkpoint / name).is_file()
    assert not (whole_run / "_incomplete").exists()


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"),
    reason="transformers 5.17 asks torch for the device cpu:0 when several processes load an optimizer on the CPU",
)
def test_both_killed_around_a_save_and_resumed_end_bitwise_as_a_whole_run(whole_run, tmp_path):
    draw = random.Random(0)
    progress = Progress()
    for _ in range(2):
        progress.saving.value = 0
        processes = start_ranks(train, tmp_path, progress, bool(list_checkpoints(tmp_path)), {})
        # The second save: there is a checkpoint to go on from, in the middle of an epoch.
        first = max(list_checkpoints(tmp_path), default=0)
        wait_until(lambda first=first: max(list_checkpoints(tmp_path), default=0) > first, processes[0])
        wait_until(lambda: progress.saving.value, processes[0])
        time.sleep(draw.uniform(0, 0.1))
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    join(start_ranks(train, tmp_path, progress, True, {}))
    expected, states = final_hashes(whole_run, states=STATES), final_hashes(tmp_path, states=STATES)
    assert states == expected


def test_one_process_does_not_silently_go_on_from_the_checkpoint_of_two(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    with pytest.raises(ResumeError, match=r"has no rng_state\.pth.*number of processes"):
        watched_trainer(tmp_path / "run", Progress()).train(resume_from_checkpoint=True)


def clips_of_step(step: int) -> list[int]:
    """The rows that both processes together have in a step, the main one's first."""
    steps_per_epoch = NUM_CLIPS // BATCH_SIZE
    sampler = EpochSampler(NUM_CLIPS, seed=42)
    sampler.set_epoch(step // steps_per_epoch)
    rows = [row for _, row in sampler]
    start = step % steps_per_epoch * BATCH_SIZE
    return rows[start : start + BATCH_SIZE]


def results(folder):
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1)]


def test_nan_on_one_process_makes_both_skip_the_step(tmp_path):
    _, of_other = clips_of_step(1)
    fields = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-2}
    join(start_ranks(train_with_nan, tmp_path, Progress(), [of_other], fields))
    for result in results(tmp_path):
        assert not result["error"]
        assert [log["step"] for log in result["log"] if SKIPPED_STEPS in log] == [1]
    before, after = (tmp_path / f"checkpoint-{step}" for step in (1, 2))
    for name in ("model.safetensors", "scheduler.pt", "optimizer.pt"):
        assert (before / name).read_bytes() == (after / name).read_bytes(), name
    first, second = (result["weights"] for result in results(tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_both_stop_together_and_name_the_other_processs_file(tmp_path):
    _, of_other = clips_of_step(0)
    fields = {"max_steps": 2, "max_consecutive_nonfinite_steps": 1, "save_strategy": "no"}
    join(start_ranks(train_with_nan, tmp_path, Progress(), [of_other], fields))
    for result in results(tmp_path):
        assert f"Its files: clip-{of_other}.mp4." in result["error"]


def test_a_clip_that_both_measure_to_fill_the_last_step_counts_once(tmp_path):
    noise = NoiseProcessor()
    samples = [
        {"pixel_values_videos": noise(None, seed=seed)["pixel_values_videos"][0], "label": 0} for seed in range(3)
    ]
    join(start_ranks(evaluate, tmp_path, Progress(), samples))
    alone = watched_trainer(tmp_path, Progress(), per_device_eval_batch_size=2).evaluate(samples)
    for metrics in results(tmp_path):
        assert metrics["eval_loss"] == pytest.approx(alone["eval_loss"], abs=1e-6)
        assert metrics["eval_top1"] == alone["eval_top1"]
