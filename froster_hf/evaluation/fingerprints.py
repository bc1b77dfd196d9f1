"""Hashes that say whether stored predictions belong to the same weights, data and prompts."""

import hashlib
import os
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from ..data.video_table import VIDEO_COLUMN, label_array, label_names

# Stored next to the weights, but not what a prediction over given labels depends on.
_NOT_WEIGHTS = ("label_embeds", "distillation_projectors.")


def model_fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of the weights; the same for a model in memory and on disk."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not any(part in name for part in _NOT_WEIGHTS):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def table_fingerprint(dataset: Dataset) -> str:
    """SHA-256 over label texts and, a row, label, size and name of the video (its content where the table embeds it).

    Names are taken relative to the videos' common folder, so that the hash is the same on another machine. The content
    of files is not read: that would cost as much as the evaluation.
    """
    digest = hashlib.sha256("\n".join(label_names(dataset)).encode())
    videos = dataset.select_columns([VIDEO_COLUMN])
    paths = [
        row["path"] for batch in videos.iter(batch_size=32) for row in batch[VIDEO_COLUMN] if row["bytes"] is None
    ]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    labels = label_array(dataset)
    start = 0
    for batch in videos.iter(batch_size=32):
        for label, row in zip(labels[start:], batch[VIDEO_COLUMN]):
            if row["bytes"] is not None:
                name, size = hashlib.sha256(row["bytes"]).hexdigest(), len(row["bytes"])
            else:
                name = os.path.relpath(row["path"], common).replace(os.sep, "/")
                size = os.path.getsize(row["path"]) if os.path.isfile(row["path"]) else -1
            digest.update(f"\n{label} {size} {name}".encode())
        start += len(batch[VIDEO_COLUMN])
    return digest.hexdigest()


def prompts_fingerprint(label_texts: list[str], encoded: Any) -> str:
    """SHA-256 over the label texts and the token ids of their prompts.

    Args:
        label_texts: K labels.
        encoded: result of `FrosterProcessor.encode_labels`, `input_ids` (K*P, L).
    """
    digest = hashlib.sha256("\n".join(label_texts).encode())
    digest.update(str(int(encoded["num_prompts"])).encode())
    digest.update(memoryview(encoded["input_ids"].to(torch.int64).contiguous().numpy().tobytes()))
    return digest.hexdigest()
