"""Hashes that say whether stored predictions belong to the same weights and prompts; `data/` has those of tables."""

import hashlib
from typing import Any

import torch
from torch import nn

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
