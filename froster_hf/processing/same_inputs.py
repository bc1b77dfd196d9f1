"""Do two processors make the same numbers of a video and a text? Where two models are given the same, they have to."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..printing import printable
from .processing_froster import EVERYDAY_BACKGROUND, FrosterProcessor, errors_of_tokenizers


def refuse_other_inputs(one: FrosterProcessor, other: FrosterProcessor, *, names: tuple[str, str]) -> None:
    """Raise where the same frame has other values by two processors, or the same text other tokens.

    Which frames and how much of them, and which prompts, each model may be asked with; so these may differ.

    Args:
        one: the processor that is used.
        other: that of the model that is given the same.
        names: of the two, for the error.

    Raises:
        ValueError: names what differs.
    """
    if differing := list(_differences(one, other)):
        first, second = (printable(name) for name in names)
        raise ValueError(
            f"{first} and {second} would be given the same pixels and tokens, but their processors differ: "
            f"{'; '.join(differing)}. Take models with the same processor."
        )


def _differences(one: FrosterProcessor, other: FrosterProcessor) -> Iterator[str]:
    pixels = [pixel_values(processor.video_processor) for processor in (one, other)]
    for name, values in pixels[0].items():
        if not all(map(math.isclose, values, pixels[1][name])):
            yield f"`{name}` is {values} and {pixels[1][name]}"
    vocabularies = [processor.tokenizer.get_vocab() for processor in (one, other)]
    if vocabularies[0] != vocabularies[1]:
        yield "their tokenizers have other vocabularies"
    elif _tokens(one) != _tokens(other):
        yield "their tokenizers make other tokens of the same text"


def pixel_values(video_processor: Any) -> dict[str, list[float]]:
    """What a pixel is multiplied by, reduced by, and then divided by, as `do_rescale` and `do_normalize` say."""
    rescales, normalizes = video_processor.do_rescale, video_processor.do_normalize
    values = {
        "rescale_factor": video_processor.rescale_factor if rescales else 1,
        "image_mean": video_processor.image_mean if normalizes else 0,
        "image_std": video_processor.image_std if normalizes else 1,
    }
    # One number stands for all three colors.
    return {name: np.broadcast_to(np.asarray(value, float), 3).tolist() for name, value in values.items()}


def _tokens(processor: FrosterProcessor) -> list[list[int]]:
    with errors_of_tokenizers(ValueError, "everyday words"):
        tokens: list[list[int]] = processor.tokenizer(list(EVERYDAY_BACKGROUND), verbose=False)["input_ids"]
    return tokens
