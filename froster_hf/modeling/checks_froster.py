"""Wrong input, told apart before it becomes an error of some matrix product far below.

Nothing here reads a tensor's values from a GPU, so that no check makes the host wait.
"""

import torch
from transformers import CLIPTextConfig, CLIPVisionConfig

IGNORED_LABEL = -100


def check_pixels(pixels: torch.Tensor, config: CLIPVisionConfig) -> None:
    """Floating point (B, T, 3, S, S).

    Raises:
        ValueError: another shape or dtype.
    """
    expected = f"(videos, frames, {config.num_channels}, {config.image_size}, {config.image_size})"
    if pixels.ndim != 5 or pixels.shape[2] != config.num_channels:
        hint = "Use the model's video processor, which gives this shape."
        if pixels.ndim == 5 and pixels.shape[-1] == config.num_channels:
            hint = "The channels are last: `pixel_values_videos.permute(0, 1, 4, 2, 3)` puts them where they belong."
        elif pixels.ndim == 4:
            hint = "For one video, add the batch dimension with `pixel_values_videos[None]`."
        raise ValueError(f"`pixel_values_videos` has shape {tuple(pixels.shape)}; expected {expected}. {hint}")
    if not pixels.is_floating_point():
        raise ValueError(
            f"`pixel_values_videos` is {pixels.dtype}; expected a floating-point tensor of rescaled and normalized "
            "frames. Use the model's video processor."
        )


def check_input_ids(input_ids: torch.Tensor, config: CLIPTextConfig) -> None:
    """Integers (n, L), L within the text tower's positions.

    Raises:
        ValueError: another shape or dtype, or texts that are too long.
    """
    longest = config.max_position_embeddings
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ValueError(
            f"`input_ids` has shape {tuple(input_ids.shape)} and dtype {input_ids.dtype}; expected integers of shape "
            "(texts, tokens). Use the model's processor or tokenizer."
        )
    if input_ids.shape[1] > longest:
        raise ValueError(
            f"The texts have {input_ids.shape[1]} tokens, but this model's text tower takes at most {longest}. "
            "Shorten the labels, descriptions or templates, or tokenize with `truncation=True`."
        )


def check_text_embeds(text_embeds: torch.Tensor | None, width: int) -> torch.Tensor:
    """(K, D), returned.

    Raises:
        ValueError: none, or another shape.
    """
    if text_embeds is None:
        raise ValueError("There is nothing to compare with: give `input_ids` (K*P, L) or `text_embeds` (K, D).")
    if text_embeds.ndim != 2 or text_embeds.shape[1] != width:
        raise ValueError(f"`text_embeds` has shape {tuple(text_embeds.shape)}; expected (labels, {width}).")
    return text_embeds


def check_labels(labels: torch.Tensor, num_labels: int, *, multi_label: bool) -> None:
    """Indices (B,) into the label list, or -100 for clips that do not count; (B, K) floats of a multi-label problem.

    Labels on a GPU are not read back: there, the loss kernel itself stops on an index out of range.

    Args:
        labels: to be checked.
        num_labels: K, the length of the label list.
        multi_label: whether each label is a problem of its own.

    Raises:
        ValueError: another shape or dtype than the problem has, or an index out of range.
    """
    has_shape = labels.ndim == 2 and labels.shape[1] == num_labels if multi_label else labels.ndim == 1
    if not has_shape or labels.is_floating_point() != multi_label:
        told = f"`labels` has shape {tuple(labels.shape)} and dtype {labels.dtype}, but `config.problem_type` is "
        if multi_label:
            told += (
                f"'multi_label_classification': expected floats (videos, {num_labels}), 1 for every label that holds."
            )
        else:
            told += "'single_label_classification': expected integers (videos,). For several labels per video, set "
            told += "`config.problem_type` to 'multi_label_classification' and give floats (videos, labels)."
        raise ValueError(told)
    if multi_label or labels.device.type != "cpu" or torch.compiler.is_compiling() or labels.numel() == 0:
        return
    if labels.max() >= num_labels or (labels < 0).logical_and(labels != IGNORED_LABEL).any():
        raise ValueError(
            f"`labels` holds indices from {int(labels.min())} to {int(labels.max())}, but there are {num_labels} "
            f"labels: indices go from 0 to {num_labels - 1}."
        )
