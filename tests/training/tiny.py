"""A tiny student, its labels as tokens, and arrays to train on."""

from collections.abc import Collection

import torch
from torch.utils.data import Dataset

from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from froster_hf.training.prompts import LabelPrompts
from tests.modeling.tiny import END, NUM_FRAMES, SIZE, tiny_model, tiny_texts

LABELS = ("juggling", "kneading dough", "playing the cello")
TEMPLATES = ("a video of {}.", "a photo of {}.", "an example of {}.", "{}")


class Arrays(Dataset):
    """Random clips with labels, for every index the same; some without a label."""

    def __init__(self, num_clips: int = 8, unlabeled: Collection[int] = ()):
        self.unlabeled = unlabeled
        generator = torch.Generator().manual_seed(3)
        self.clips = torch.randn(num_clips, NUM_FRAMES, 3, SIZE, SIZE, generator=generator)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        label = -100 if index in self.unlabeled else index % len(LABELS)
        return {"pixel_values_videos": self.clips[index], "label": label}


def label_prompts() -> LabelPrompts:
    texts = tiny_texts(len(LABELS) * len(TEMPLATES))
    return LabelPrompts.from_tokens(LABELS, TEMPLATES, texts, end_token=END)


def tiny_trainer(tmp_path, *, model=None, model_fields=None, train_dataset=None, eval_dataset=None, **fields):
    """A Trainer of a student that is moved off its starting point, so that no term is zero."""
    trainer_fields = {
        name: fields.pop(name) for name in ("teacher", "callbacks", "compute_metrics", "labels") if name in fields
    }
    if "teacher_checkpoint" in fields:
        fields["teacher"] = fields.pop("teacher_checkpoint")
    defaults = {
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "learning_rate": 1e-3,
        "use_cpu": True,
    }
    args = FrosterTrainingArguments(output_dir=str(tmp_path), **defaults | fields)
    return FrosterTrainer(
        tiny_model(**(model_fields or {})) if model is None else model,
        args,
        train_dataset=Arrays() if train_dataset is None else train_dataset,
        eval_dataset=eval_dataset,
        prompts=label_prompts(),
        **trainer_fields,
    )
