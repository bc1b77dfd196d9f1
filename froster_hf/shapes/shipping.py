"""Puts two trained checkpoints into the package: `python -m froster_hf.shapes.shipping CLIP FROSTER`.

Weights are rounded to half precision, so that both fit into a small package, and load in single precision as trained:
the configuration says so. The training's label list is left out.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor, PreTrainedModel
from transformers.processing_utils import ProcessorMixin

from ..assets import SMALL_CLIP, SMALL_FROSTER
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..processing.processing_froster import FrosterProcessor
from ..training.student import forget_labels

# What a picture of the world may show instead of the one thing that is asked for.
BACKGROUND = (
    "a shape",
    "an object",
    "nothing",
    "something moving",
    "something standing still",
    "an empty picture",
)


def ship(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write one checkpoint; loaded again, it has the weights that half precision can hold."""
    state = {name: tensor.to(torch.float16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    _drop_code(folder)


def _drop_code(folder: Path) -> None:
    """The package is its own code: no second copy of it lies beside the weights."""
    for file in folder.glob("*.py"):
        file.unlink()
    for file in folder.glob("*config.json"):
        fields = json.loads(file.read_text(encoding="utf-8"))
        for section in (fields, *(value for value in fields.values() if isinstance(value, dict))):
            section.pop("auto_map", None)
        file.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def main(clip: str, froster: str) -> None:
    """Ship the CLIP of one folder and the FROSTER of another."""
    ship(CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip), SMALL_CLIP)
    model = FrosterForVideoClassification.from_pretrained(froster)
    forget_labels(model)
    processor = FrosterProcessor.from_pretrained(froster)
    processor.background_labels = list(BACKGROUND)
    ship(model, processor, SMALL_FROSTER)


if __name__ == "__main__":
    main(*sys.argv[1:])
