"""From logits to answers: scores of labels, views and windows, and "none of these".

The last step of the zero-shot pipeline; pure functions of tensors.

Letters: V views, n windows, K labels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch

ScoreFunction = Literal["softmax", "sigmoid", "none"]
Answer = dict[str, Any]

NONE_OF_THESE = "none of these"


def score_views(logits: torch.Tensor, function_to_apply: ScoreFunction) -> torch.Tensor:
    """Logits (V, K) of the views of a video to scores (K,): the function of each view, then the mean."""
    logits = logits.float()
    if function_to_apply == "softmax":
        logits = logits.softmax(-1)
    elif function_to_apply == "sigmoid":
        logits = logits.sigmoid()
    return logits.mean(0)


def check_finite(logits: torch.Tensor) -> None:
    """Refuse logits that are no numbers: no score can be made of them.

    Raises:
        ValueError: see there.
    """
    if not bool(logits.isfinite().all()):
        raise ValueError(
            "The model gave logits that are infinite or NaN. Its weights are damaged, its pixels were not finite "
            "(look at `image_std` and the like of the processor), or half precision was too narrow: try dtype=float32."
        )


def check_threshold(threshold: float | None, function_to_apply: ScoreFunction) -> None:
    """Refuse a threshold on logits, and one that no score or every score passes.

    Raises:
        ValueError: see there.
    """
    if threshold is not None and (function_to_apply == "none" or not 0 <= threshold <= 1):
        raise ValueError(
            f"`threshold` is {threshold} with the function {function_to_apply!r}; it is one of scores from 0 to 1, "
            "which 'softmax' and 'sigmoid' give."
        )


def rank(
    scores: torch.Tensor,
    labels: Sequence[str],
    *,
    top_k: int | None = None,
    none_score: float | None = None,
    threshold: float | None = None,
) -> list[Answer]:
    """Answers, best first.

    Args:
        scores: (K,) or longer; those behind the K labels belong to the background.
        labels: K names.
        top_k: labels to report.
        none_score: score of "none of these", where there is a background.
        threshold: labels below it are left out; where none remains, the answer is "none of these", whose score is
            `None` unless there is a `none_score`: nothing was measured that it could be.
    """
    values, indices = scores[: len(labels)].topk(min(top_k or len(labels), len(labels)))
    answers: list[Answer] = [
        {"score": score, "label": labels[index]} for score, index in zip(values.tolist(), indices.tolist())
    ]
    if threshold is not None:
        answers = [answer for answer in answers if answer["score"] >= threshold]
    if none_score is not None:
        answers.append({"score": none_score, "label": NONE_OF_THESE})
        answers.sort(key=lambda answer: -answer["score"])
    return answers or [{"score": None, "label": NONE_OF_THESE}]


def score_windows(logits: torch.Tensor, num_labels: int, function_to_apply: ScoreFunction) -> torch.Tensor:
    """Logits of windows, (n, K) or longer, to scores (n, K); a background adds one column for all of it."""
    scores = torch.stack([score_views(window[None], function_to_apply) for window in logits])
    if scores.shape[1] == num_labels:
        return scores
    none = [background_score(window[num_labels:], function_to_apply) for window in scores]
    return torch.cat([scores[:, :num_labels], torch.tensor(none)[:, None]], dim=1)


def background_score(background: torch.Tensor, function_to_apply: ScoreFunction) -> float:
    """What the background won: all of its probability, or its best score where scores do not add up."""
    return float(background.sum() if function_to_apply == "softmax" else background.max())
