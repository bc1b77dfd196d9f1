"""How well a CLIP knows the moving-shapes world: zero-shot accuracy over all pairs of colour and shape."""

import torch
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerBase

from ...data.moving_shapes import COLORS, SHAPES
from ...data.moving_shapes.vocabulary import with_article
from .stills import HeldOutStills, normalize

TEMPLATES = ("a photo of {}.", "{}")
_STILLS_AT_ONCE = 512


@torch.no_grad()
def held_out_accuracy(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, held_out: HeldOutStills
) -> dict[str, float]:
    """Top-1 accuracy where each still is matched with the texts of all 120 pairs, "a red star".

    Returns:
        `accuracy` of the pair, and of each part of it, `color_accuracy` and `shape_accuracy`.
    """
    pairs = [with_article(f"{color} {shape}") for color in COLORS for shape in SHAPES]
    texts = [template.format(pair) for template in TEMPLATES for pair in pairs]
    input_ids = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"].to(model.device)
    found = torch.cat([_find(model, input_ids, stills) for stills in held_out.stills.split(_STILLS_AT_ONCE)])
    labels = held_out.labels
    return {
        "accuracy": _share(found == labels),
        "color_accuracy": _share(found // len(SHAPES) == labels // len(SHAPES)),
        "shape_accuracy": _share(found % len(SHAPES) == labels % len(SHAPES)),
    }


def _find(model: CLIPModel, input_ids: Tensor, stills: Tensor) -> Tensor:
    """The best pair for each still (n,), by the mean over the templates."""
    logits = model(input_ids=input_ids, pixel_values=normalize(stills).to(model.device)).logits_per_image
    return logits.unflatten(1, (len(TEMPLATES), -1)).mean(1).argmax(1).cpu()


def _share(right: Tensor) -> float:
    return right.float().mean().item()
