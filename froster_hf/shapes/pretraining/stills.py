"""Stills of the moving-shapes world with captions: what is trained on, the held-out ones, and how many are known.

Nothing is stored: a batch is rendered by whoever asks for it, and depends on the seed and the step alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPModel, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ...machine_memory import frame_tokens
from ...training.losses import NonFiniteError
from ..captions import draw_captions, still_attributes
from ..rendering import render_stills
from ..scenes import draw_scenes, ease
from ..vocabulary import COLORS, SHAPES, STILL_MOTIONS, all_classes, matches, with_article
from .recipe import RecipeStills

# Two streams of random numbers under each seed.
_TRAINING, _HELD_OUT = range(2)
_MEAN, _STD = (255 * torch.tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))

# What `held_out_accuracy` measures.
ACCURACIES = ("accuracy", "color_accuracy", "shape_accuracy")
TEMPLATES = ("a photo of {}.", "{}")
# Of the largest tensor of the held-out stills that are computed together; in single precision, 128 MB.
_NUMBERS_AT_ONCE = 2**25


class StillBatches(Dataset):
    """The batches of a training in order; item i is the whole batch of step i, rendered when it is asked for.

    Number of workers and interruptions change nothing. Each item holds B stills and B captions, each caption written
    for one of the stills and true of any number:

    - `pixel_values` (B, 3, S, S), as CLIP's image processor gives them;
    - `input_ids` (B, L), padded to the longest caption. Attention in the text tower is causal, so that what stands
      behind the end token needs no mask;
    - `matches` (B, B) bool, which captions are true of which stills.

    Args:
        tokenizer: tokenizer of the captions.
        steps: how many batches.
        batch_size: B.
        resolution: S.
        seed: seed of the stills and captions.
        stills: what is shown.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        steps: int,
        batch_size: int,
        resolution: int,
        seed: int,
        stills: RecipeStills,
    ):
        self.tokenizer = tokenizer
        self.steps, self.batch_size = steps, batch_size
        self.resolution, self.seed, self.stills = resolution, seed, stills

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if not 0 <= step < self.steps:
            raise IndexError(f"The training has {self.steps} steps; asked for step {step}.")
        rng = np.random.default_rng((self.seed, _TRAINING, step))
        variety = self.variety(step)
        scenes = draw_scenes(
            rng,
            self.batch_size,
            motions=STILL_MOTIONS,
            second_object_rate=variety * self.stills.second_object_rate,
            trail_rate=variety * self.stills.trail_rate,
        )
        scenes = ease(scenes, variety)
        shown = still_attributes(scenes)
        captions = draw_captions(rng, shown)
        return {
            "pixel_values": normalize(render_stills(scenes, resolution=self.resolution)),
            "input_ids": self.tokenizer(captions.texts, padding=True, return_tensors="pt")["input_ids"],
            "matches": torch.from_numpy(matches(captions.claims, shown)),
        }

    def variety(self, step: int) -> float:
        """From 0 at the first step to 1 at the end of the ramp; see [`~froster_hf.data.moving_shapes.ease`]."""
        ramp = self.stills.ramp * self.steps
        return min(1.0, step / ramp) if ramp else 1.0


@dataclass(frozen=True)
class HeldOutStills:
    """Stills of one object each that were not trained on: `stills` (n, 3, S, S) uint8 and `labels` (n,)."""

    stills: Tensor
    labels: Tensor

    @classmethod
    def draw(cls, seed: int, num_stills: int, *, resolution: int) -> "HeldOutStills":
        """Draw from a stream of the seed that no training draws from, every pair of color and shape equally often."""
        classes = all_classes(motions=["standing still"])
        labels = torch.arange(num_stills) % len(classes)
        rng = np.random.default_rng((seed, _HELD_OUT))
        scenes = draw_scenes(rng, classes=[classes[label] for label in labels.tolist()])
        return cls(render_stills(scenes, resolution=resolution), labels)

    def __len__(self) -> int:
        return len(self.labels)


def normalize(stills: Tensor) -> Tensor:
    """Stills (n, 3, S, S) uint8 as CLIP takes them, float32."""
    return (stills - _MEAN).div_(_STD)


def single_batch(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The collator of data sets whose items are batches: there is one, and it is kept as it is."""
    (batch,) = items
    return batch


@torch.no_grad()
def held_out_accuracy(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, held_out: HeldOutStills
) -> dict[str, float]:
    """Top-1 accuracy where each still is matched with the texts of all 120 pairs, "a red star".

    Returns:
        `accuracy` of the pair, and of each part of it, `color_accuracy` and `shape_accuracy`.

    Raises:
        NonFiniteError: scores are not finite.
    """
    pairs = [with_article(f"{color} {shape}") for color in COLORS for shape in SHAPES]
    texts = [template.format(pair) for template in TEMPLATES for pair in pairs]
    input_ids = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"].to(model.device)
    vision: Any = model.config.vision_config
    num_tokens = 1 + frame_tokens(vision)
    # Scores of attention take time, and no memory.
    widest = max(vision.intermediate_size, num_tokens * vision.num_attention_heads)
    parts = held_out.stills.split(max(1, _NUMBERS_AT_ONCE // max(held_out.stills[0].numel(), num_tokens * widest)))
    found = torch.cat([_find(model, input_ids, stills) for stills in parts])
    labels = held_out.labels
    are_right = (
        found == labels,
        found // len(SHAPES) == labels // len(SHAPES),
        found % len(SHAPES) == labels % len(SHAPES),
    )
    return dict(zip(ACCURACIES, map(_share, are_right), strict=True))


def _find(model: CLIPModel, input_ids: Tensor, stills: Tensor) -> Tensor:
    """The best pair for each still (n,), by the mean over the templates."""
    logits = model(input_ids=input_ids, pixel_values=normalize(stills).to(model.device)).logits_per_image
    # The first pair would be the best of those without a number.
    if not logits.isfinite().all():
        raise NonFiniteError(
            "The model's scores of held-out stills are not finite, so that it has no accuracy. Train again with a "
            "lower learning rate, in bfloat16 or float32."
        )
    return logits.unflatten(1, (len(TEMPLATES), -1)).mean(1).argmax(1).cpu()


def _share(right: Tensor) -> float:
    return right.float().mean().item()
