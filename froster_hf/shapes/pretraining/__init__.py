"""Contrastive pre-training of a small CLIP on stills of the moving-shapes world, as its recipe says.

recipe -> tokenizer, CLIP model, batches rendered in the loader -> `ClipPretrainer` -> a plain CLIP repository
"""

from .recipe import PretrainingRecipe, RecipeArchitecture, RecipeStills
from .run import build_pretrainer, pretrain
from .stills import HeldOutStills, StillBatches, held_out_accuracy
from .trainer import ClipPretrainer, caption_loss

__all__ = [
    "ClipPretrainer",
    "HeldOutStills",
    "PretrainingRecipe",
    "RecipeArchitecture",
    "RecipeStills",
    "StillBatches",
    "build_pretrainer",
    "caption_loss",
    "held_out_accuracy",
    "pretrain",
]
