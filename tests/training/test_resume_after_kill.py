"""A run that is killed again and again ends with bitwise the weights, and every other state, of one that is not."""

import hashlib
import json
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from froster_hf.training.checkpointing import list_checkpoints
from froster_hf.training.whole_folders import is_sound
from tests.fixtures.videos import VIDEO_KINDS, render_video
from tests.training.killable_run import NUM_CLIPS, NUM_STEPS, Progress, start, train

# All of a checkpoint that is a function of the run; the Trainer's own state has times in it.
STATES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "weight_average.safetensors")
PATIENCE_SECONDS = 240.0


def final_hashes(folder: Path, states: Sequence[str] = STATES) -> dict[str, str]:
    """Of the last checkpoint and of the saved average."""
    files = json.loads((folder / f"checkpoint-{NUM_STEPS}" / "manifest.json").read_text())["files"]
    average = hashlib.sha256((folder / "weight-average" / "model.safetensors").read_bytes()).hexdigest()
    return {name: files[name]["sha256"] for name in states} | {"average": average}


def finish(folder: Path, progress: Progress, resume: bool, fields: dict) -> None:
    process = start(train, folder, progress, resume, fields)
    process.join(timeout=PATIENCE_SECONDS)
    assert process.exitcode == 0


def wait_until(condition, process) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if not process.is_alive():
            return False
        if time.monotonic() > deadline:
            pytest.fail("The run neither went on nor ended.")
        time.sleep(0.0005)
    return True


def kill_once(folder: Path, progress: Progress, fields: dict, *, in_save: bool, draw: random.Random) -> str:
    """Start or resume the run and kill it; returns where it was: 'save', 'step', or 'over' if it had ended."""
    resume = any(is_sound(checkpoint) for checkpoint in list_checkpoints(folder).values())
    progress.saving.value, progress.step.value = 0, -1
    process = start(train, folder, progress, resume, fields)
    alive = wait_until(lambda: progress.step.value >= 0, process)
    first_step = progress.step.value
    if alive and in_save:
        alive = wait_until(lambda: progress.saving.value, process)
        time.sleep(draw.uniform(0, 0.12))
    elif alive:
        ahead = draw.randrange(3)
        alive = wait_until(lambda: progress.step.value >= first_step + ahead, process)
        time.sleep(draw.uniform(0, 0.05))
    process.kill()
    process.join()
    if process.exitcode == 0:
        return "over"
    assert process.exitcode == -signal.SIGKILL
    return "save" if progress.saving.value else "step"


def kill_until(folder: Path, num_kills: int, num_in_save: int, fields: dict, seed: int) -> int:
    """Kill so many processes, beginning another run when one ends; returns the number of runs."""
    draw = random.Random(seed)
    progress, killed, runs = Progress(), [], 0
    while len(killed) < num_kills or killed.count("save") < num_in_save:
        in_save = killed.count("save") < num_in_save and (
            len(killed) % 2 == 0 or num_kills - len(killed) <= num_in_save - killed.count("save")
        )
        where = kill_once(folder / str(runs), progress, fields, in_save=in_save, draw=draw)
        if where == "over":
            runs += 1
        else:
            killed.append(where)
    finish(folder / str(runs), progress, any(list_checkpoints(folder / str(runs))), fields)
    return runs + 1


def check_kills(tmp_path: Path, num_kills: int, num_in_save: int, num_workers: int, **fields) -> None:
    fields["dataloader_num_workers"] = num_workers
    finish(tmp_path / "whole", Progress(), False, fields)
    expected = final_hashes(tmp_path / "whole")
    runs = kill_until(tmp_path / "killed", num_kills, num_in_save, fields, seed=num_workers)
    for run in range(runs):
        assert final_hashes(tmp_path / "killed" / str(run)) == expected
        assert not (tmp_path / "killed" / str(run) / "_incomplete").exists()


@pytest.mark.parametrize(("num_workers", "num_kills", "num_in_save"), [(0, 8, 4), (2, 4, 1)])
def test_a_killed_and_resumed_run_ends_bitwise_as_a_whole_one(tmp_path, num_workers, num_kills, num_in_save):
    check_kills(tmp_path, num_kills, num_in_save, num_workers)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("num_workers", "num_kills", "num_in_save"), [(0, 60, 20), (2, 40, 10)])
def test_a_hundred_kills_change_nothing(tmp_path, num_workers, num_kills, num_in_save):
    check_kills(tmp_path, num_kills, num_in_save, num_workers)


@pytest.mark.slow
def test_clips_decoded_in_workers_are_the_same_after_every_kill(tmp_path):
    for index in range(NUM_CLIPS):
        render_video(tmp_path / f"clip-{index}.mp4", VIDEO_KINDS["h264_mp4"], num_frames=30 + index)
    check_kills(tmp_path, 6, 2, num_workers=2, video_folder=tmp_path)
