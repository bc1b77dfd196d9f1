"""A small training that another process may kill at any moment, and that says how far it is.

It has everything that a resumed run could lose: dropout, a schedule, projectors, random clips, a prompt sampler,
weight averaging, and callbacks that draw from the random states of Python and NumPy.
"""

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Video
from transformers import TrainerCallback

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.data import TrainingClips
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from tests.modeling.tiny import NUM_FRAMES, SIZE, TEXT, VISION
from tests.training.tiny import LABELS, label_prompts

NUM_CLIPS, BATCH_SIZE, NUM_EPOCHS = 6, 2, 4
NUM_STEPS = NUM_EPOCHS * NUM_CLIPS // BATCH_SIZE

# The processes are forked from one that has imported all this already.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


class NoiseProcessor:
    """Clips that are a function of the sample's seed alone, in place of decoded ones."""

    def refuse_other_pictures(self, side: int, **options) -> None:
        assert side == SIZE

    def picture_size(self, **options) -> tuple[int, int]:
        return SIZE, SIZE

    def __call__(self, video, *, seed: int, **options) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {"pixel_values_videos": torch.randn(1, NUM_FRAMES, 3, SIZE, SIZE, generator=generator)}


class DrawRandomNumbers(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        random.random()
        np.random.rand()


class Progress(SimpleNamespace):
    """Shared with the process: steps done, whether it is writing a checkpoint, and the number of steps behind which it
    waits, if any. Without locks, which a killed process would hold."""

    def __init__(self):
        super().__init__(
            step=CONTEXT.RawValue("i", 0), saving=CONTEXT.RawValue("b", 0), wait=CONTEXT.RawValue("i", -1)
        )


class WatchedTrainer(FrosterTrainer):
    progress: Progress

    def _save_checkpoint(self, *args):
        self.progress.saving.value = 1
        super()._save_checkpoint(*args)
        self.progress.saving.value = 0

    def training_step(self, *args, **kwargs):
        self.progress.step.value = self.state.global_step
        while self.progress.wait.value == self.state.global_step:
            time.sleep(0.01)
        return super().training_step(*args, **kwargs)


def training_clips(video_folder: Path | None) -> TrainingClips:
    """Of the videos `clip-0.mp4`, ... in a folder, or of noise."""
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=list(LABELS))})
    rows = {
        "video": [str(Path(video_folder or "") / f"clip-{index}.mp4") for index in range(NUM_CLIPS)],
        "label": [index % len(LABELS) for index in range(NUM_CLIPS)],
    }
    size = {"height": SIZE, "width": SIZE}
    decoder = FrosterVideoProcessor(size={"shortest_edge": SIZE}, crop_size=size, num_frames=NUM_FRAMES)
    processor = decoder if video_folder else NoiseProcessor()
    return TrainingClips(Dataset.from_dict(rows, features=features), video_processor=processor, seed=0)


def dropout_model() -> FrosterForVideoClassification:
    torch.manual_seed(0)
    return FrosterForVideoClassification(
        FrosterConfig(
            text_config={**TEXT, "attention_dropout": 0.1},
            vision_config={**VISION, "attention_dropout": 0.1},
            num_frames=NUM_FRAMES,
            projection_dim=32,
        )
    )


def watched_trainer(folder: Path, progress: Progress, *, video_folder: Path | None = None, **fields) -> WatchedTrainer:
    torch.set_num_threads(1)
    defaults = {
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": NUM_EPOCHS,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 3,
        "logging_steps": 3,
        "warmup_steps": 3,
        "learning_rate": 1e-3,
        "average_weights_from_epoch": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    trainer = WatchedTrainer(
        dropout_model(),
        FrosterTrainingArguments(output_dir=str(folder), **defaults | fields),
        train_dataset=training_clips(video_folder),
        prompts=label_prompts(),
        callbacks=[DrawRandomNumbers()],
    )
    trainer.progress = progress
    return trainer


def train(folder: Path, progress: Progress, resume: bool, fields: dict) -> None:
    # A process of the fork server hands its own way of starting on to its children; a user's script has this one.
    multiprocessing.set_start_method("fork", force=True)
    watched_trainer(folder, progress, **fields).train(resume_from_checkpoint=resume)


def start(target: Callable, *args):
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    return process
