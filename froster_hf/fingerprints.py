"""Hashes that tell the weights of models apart, which stored predictions, records of runs, cards and indexes name; and
files."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch

# Stored next to the weights, but not what a prediction over given labels depends on.
NOT_WEIGHTS = ("label_embeds", "distillation_projectors.")


def model_fingerprint(model: "torch.nn.Module", *, dtype: "torch.dtype | None" = None) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of the weights; the same for a model in memory and on disk.

    Args:
        model: any module.
        dtype: type that the weights are hashed in, one by one, as if the model had been cast; by default their own.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if any(part in name for part in NOT_WEIGHTS):
            continue
        hashed = tensor.detach().to(dtype) if dtype is not None and tensor.is_floating_point() else tensor.detach()
        digest.update(f"{name} {tuple(hashed.shape)} {hashed.dtype}\n".encode())
        digest.update(memoryview(hashed.cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def file_fingerprint(*files: "Path") -> str:
    """SHA-256 over the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
