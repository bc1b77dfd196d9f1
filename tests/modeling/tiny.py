"""Tiny models and inputs: every temporal module and pooling in milliseconds."""

import torch
from transformers import CLIPConfig, CLIPModel

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS

NUM_FRAMES, SIZE, WIDTH = 4, 16, 32
END = 99
TEXT = {
    "vocab_size": 100,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "bos_token_id": 98,
    "eos_token_id": END,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 8,
}
MODULES = list(TEMPORAL_MODULES)
POOLINGS = list(TEMPORAL_POOLINGS)
# Every module with FROSTER's pooling, and every pooling on plain CLIP.
ARCHITECTURES = [{"temporal_module": module} for module in MODULES]
ARCHITECTURES += [{"temporal_module": "none", "temporal_pooling": pooling} for pooling in POOLINGS[1:]]


def architecture_id(fields: dict) -> str:
    return "-".join(fields.values())


def tiny_config(**fields) -> FrosterConfig:
    fields = {"num_frames": NUM_FRAMES, "projection_dim": WIDTH, "pooling_num_layers": 2} | fields
    return FrosterConfig(text_config=dict(TEXT), vision_config=dict(VISION), **fields)


def tiny_model(*, perturb: bool = True, **fields) -> FrosterForVideoClassification:
    """A model in eval mode; `perturb` moves what starts at zero, so that a test sees the temporal module at work."""
    torch.manual_seed(0)
    model = FrosterForVideoClassification(tiny_config(**fields)).eval()
    if perturb:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def tiny_clip() -> CLIPModel:
    torch.manual_seed(0)
    config = CLIPConfig(text_config=dict(TEXT), vision_config=dict(VISION), projection_dim=WIDTH)
    return CLIPModel(config).eval()


def tiny_clips(batch_size: int = 2, num_frames: int = NUM_FRAMES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch_size, num_frames, 3, SIZE, SIZE, generator=generator)


def tiny_texts(num_texts: int = 6, length: int = 12) -> torch.Tensor:
    """Texts of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 90, (num_texts, length), generator=generator)
    ids[:, 0] = TEXT["bos_token_id"]
    for row, end in enumerate(torch.randint(2, length, (num_texts,), generator=generator).tolist()):
        ids[row, end] = END
        ids[row, end + 1 :] = TEXT["pad_token_id"]
    return ids
