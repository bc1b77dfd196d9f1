"""Two data-parallel processes on the CPU, as `torchrun` would start them, forked from one that has all imported."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch

from froster_hf.training import FrosterTrainer
from tests.training.killable_run import Progress, start, watched_trainer


def start_ranks(target: Callable, *args) -> list:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(run_rank, rank, port, target, *args) for rank in (0, 1)]


def run_rank(rank: int, port: int, target: Callable, *args) -> None:
    multiprocessing.set_start_method("fork", force=True)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    target(*args)
    torch.distributed.destroy_process_group()


def trainer_of_rank(folder: Path, progress: Progress, **fields) -> FrosterTrainer:
    """One clip a process and step, so that a step has the two clips of one process's."""
    trainer = watched_trainer(folder, progress, per_device_train_batch_size=1, **fields)
    if trainer.args.world_size != 2:
        raise RuntimeError("The processes do not know of each other.")
    return trainer


def train(folder: Path, progress: Progress, resume: bool, fields: dict) -> None:
    trainer_of_rank(folder, progress, **fields).train(resume_from_checkpoint=resume)


def evaluate(folder: Path, progress: Progress, samples: list[dict]) -> None:
    """One clip a process and step; each rank's metrics in a file of its own."""
    trainer = trainer_of_rank(folder, progress, per_device_eval_batch_size=1)
    torch.save(trainer.evaluate(samples), folder / f"rank-{trainer.args.process_index}.pt")


def train_with_nan(folder: Path, progress: Progress, poisoned: list[int], fields: dict) -> None:
    """NaN in some clips, and afterwards each rank's weights, log and error in a file of its own."""
    trainer = trainer_of_rank(folder, progress, **fields)
    clips = trainer.train_dataset
    read = type(clips).__getitem__

    class Poisoned(type(clips)):
        def __getitem__(self, key):
            sample = read(self, key)
            if key[1] in poisoned:
                sample["pixel_values_videos"].fill_(float("nan"))
            return sample

    clips.__class__ = Poisoned
    error = ""
    try:
        trainer.train()
    except RuntimeError as caught:
        error = str(caught)
    rank = trainer.args.process_index
    result = {"weights": trainer.student.state_dict(), "log": trainer.state.log_history, "error": error}
    torch.save(result, folder / f"rank-{rank}.pt")
