"""Text at its own length: CLIP's text tower is causal, so nothing behind the end token counts.

Letters: K classes, P prompts per class, L text tokens, D the joint embedding width.
"""

import torch
import torch.nn.functional as F


def text_lengths(input_ids: torch.Tensor, eos_token_id: int) -> torch.Tensor:
    """Tokens up to and including the end token.

    The end token is where CLIP's tower of transformers reads: the first `eos_token_id`, or, in configurations with the
    historical value 2, the highest id.

    Args:
        input_ids: (n, L).
        eos_token_id: of the text tower's configuration.

    Returns:
        (n,).
    """
    if eos_token_id == 2:
        return input_ids.argmax(dim=-1) + 1
    return (input_ids == eos_token_id).int().argmax(dim=-1) + 1


def trim_to_longest(
    input_ids: torch.Tensor, eos_token_id: int, *, chunk_size: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Sort texts by length and cut them into chunks, each no longer than its longest text.

    Args:
        input_ids: (n, L).
        eos_token_id: of the text tower's configuration.
        chunk_size: texts per chunk.

    Returns:
        The order (n,), and the chunks; their concatenation is `input_ids[order]` up to the padding that was cut off.
    """
    lengths = text_lengths(input_ids, eos_token_id)
    order = lengths.argsort(stable=True)
    longest = lengths[order].split(chunk_size)
    # One transfer for all chunks.
    widths = torch.stack([chunk[-1] for chunk in longest]).tolist() if longest and lengths.numel() else []
    return order, [chunk[:, :width] for chunk, width in zip(input_ids[order].split(chunk_size), widths)]


def average_prompts(prompt_embeds: torch.Tensor, num_prompts: int) -> torch.Tensor:
    """The mean over the prompts of each label, normalized.

    Args:
        prompt_embeds: (K*P, D), L2-normalized, all prompts of the first label first.
        num_prompts: P.

    Returns:
        (K, D).

    Raises:
        ValueError: the number of texts is not a multiple of P.
    """
    if num_prompts < 1 or prompt_embeds.shape[0] % num_prompts:
        raise ValueError(
            f"{prompt_embeds.shape[0]} texts cannot be {num_prompts} prompts for each label. Give `input_ids` "
            "of shape (labels * prompts, tokens), all prompts of the first label first, and `num_prompts`."
        )
    if num_prompts == 1:
        return prompt_embeds
    return F.normalize(prompt_embeds.unflatten(0, (-1, num_prompts)).mean(dim=1), dim=-1)
