"""What `accelerate launch` starts: four steps of a training. With `end`, SIGTERM comes in the second; with `resume`
it goes on from there."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.training.tiny import Arrays, tiny_trainer

CLIPS_PER_STEP = 4


def four_steps(folder: Path, *, resume: bool = False, end: bool = False) -> None:
    """Train, and leave the weights, the log and the saved model in the folder."""
    torch.set_num_threads(1)
    trainer = tiny_trainer(
        folder,
        train_dataset=Arrays(16),
        per_device_train_batch_size=CLIPS_PER_STEP // int(os.environ.get("WORLD_SIZE", "1")),
        max_steps=4,
        optim="sgd",
        lr_scheduler_type="constant",
        learning_rate=1e-2,
    )
    step = trainer.training_step

    def told(*arguments, **options):
        if end and trainer.state.global_step == 1 and trainer.is_world_process_zero():
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments, **options)

    trainer.training_step = told
    trainer.train(resume_from_checkpoint=resume or None)
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.is_world_process_zero():
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history))
    trainer.save_model(str(folder / "saved"))


if __name__ == "__main__":
    four_steps(Path(sys.argv[1]), resume="resume" in sys.argv, end="end" in sys.argv)
