"""The published protocols as functions of stored logits.

A model scores every clip of a table against all of the table's labels once. A protocol then takes rows and columns:
its clips, and only its own labels. That equals running the model on a shorter label list, since a label's embedding
does not depend on the others.

Letters: n clips, V views (times crops), K labels of the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metric_modules import BaseToNovel, MeanAndStd, accuracies, compute
from .metrics import average_views, class_accuracies, confusion_matrix


@dataclass(frozen=True)
class Part:
    """Some clips of a table, tested over some of its labels.

    Args:
        name: such as `base`, `novel`, `full`, `split 1`.
        rows: (m,) rows of the table.
        columns: (k,) label indices, the only ones to choose from; every row's label is among them.
    """

    name: str
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class PartResult:
    """One part's numbers.

    Args:
        name: of the part.
        metrics: by name in `METRICS`; accuracies are shares in [0, 1].
        num_clips: tested clips, those that could not be decoded included: they count as wrong.
        num_undecodable: of them.
        labels: k label texts.
        class_accuracies: (k,).
        confusion: (k, k), row = true class.
    """

    name: str
    metrics: dict[str, float]
    num_clips: int
    num_undecodable: int
    labels: list[str]
    class_accuracies: np.ndarray
    confusion: np.ndarray


def part_of_labels(name: str, labels: np.ndarray, texts: Sequence[str], chosen: Sequence[str]) -> Part:
    """The clips of the chosen labels, tested over the chosen labels.

    Args:
        labels: (n,) of the whole table.
        texts: K label texts.
        chosen: k of them.

    Raises:
        ValueError: a chosen text is no label, or no clip has one of them.
    """
    if unknown := sorted(set(chosen) - set(texts)):
        raise ValueError(f"Part {name!r}: {len(unknown)} texts are not labels of the table, such as {unknown[:5]}.")
    index_of = {text: index for index, text in enumerate(texts)}
    columns = np.array([index_of[text] for text in chosen])
    rows = np.flatnonzero(np.isin(labels, columns))
    if len(rows) == 0:
        raise ValueError(f"Part {name!r}: the table has no clip of these {len(columns)} labels.")
    return Part(name, rows, columns)


def evaluate_scores(part: Part, scores: np.ndarray, labels: np.ndarray, texts: Sequence[str]) -> PartResult:
    """The numbers of a part from scores that are averaged over views already.

    Args:
        part: of m rows and k columns.
        scores: (m, k), NaN where a clip could not be decoded.
        labels: (n,), of the whole table.
        texts: K label texts.

    Raises:
        ValueError: a clip of the part has none of the part's labels.
    """
    position = np.full(len(texts), -1)
    position[part.columns] = np.arange(len(part.columns))
    own = position[labels[part.rows]]
    if (own < 0).any():
        raise ValueError(f"Part {part.name!r} holds clips whose label is not among its own labels.")
    return PartResult(
        name=part.name,
        metrics=accuracies(scores, own),
        num_clips=len(own),
        num_undecodable=int((~np.isfinite(scores).all(axis=1)).sum()),
        labels=[texts[column] for column in part.columns],
        class_accuracies=class_accuracies(scores, own),
        confusion=confusion_matrix(scores, own),
    )


def base_to_novel(base: Sequence[PartResult], novel: Sequence[PartResult]) -> dict[str, Any]:
    """Base, novel and harmonic mean; one result a few-shot sample, whose means enter the harmonic mean.

    Returns:
        `base`, `novel`, `harmonic_mean`, `base_std`, `novel_std` of top-1, and `num_samples`.

    Raises:
        ValueError: different numbers of base and novel results.
    """
    if len(base) != len(novel):
        raise ValueError(f"{len(base)} base and {len(novel)} novel results; each sample needs both.")
    accuracy = {"base": [result.metrics["top1"] for result in base], "novel": [r.metrics["top1"] for r in novel]}
    return {**compute(BaseToNovel, **accuracy), "num_samples": len(base)}


def cross_dataset(full: PartResult | None, splits: Sequence[PartResult]) -> dict[str, Any]:
    """Top-1 on the full set, and mean and standard deviation over the splits.

    Returns:
        `full` (None where the protocol has none), `splits_mean`, `splits_std`, `splits`.
    """
    values = [result.metrics["top1"] for result in splits]
    stats = compute(MeanAndStd, values=values)
    return {
        "full": None if full is None else full.metrics["top1"],
        "splits_mean": stats["mean"],
        "splits_std": stats["std"],
        "splits": values,
    }


def ensemble_scores(
    first: np.ndarray, second: np.ndarray, *, columns: np.ndarray, weight: float = 0.5, average: str = "probabilities"
) -> np.ndarray:
    """Scores of two models together, as the fine-tuned and the frozen one: FROSTER's upper baseline at double cost.

    Args:
        first: view logits (m, V, K).
        second: view logits of the other model on the same clips, (m, V', K).
        columns: (k,) labels to choose from.
        weight: of the second model.
        average: `probabilities` (after softmax and views) or `logits` (before; needs V = V').

    Returns:
        (m, k) probabilities.

    Raises:
        ValueError: another `average`, or shapes that do not fit.
    """
    first, second = first[:, :, columns], second[:, :, columns]
    if first.shape[0] != second.shape[0]:
        raise ValueError(f"The models scored {first.shape[0]} and {second.shape[0]} clips; both must score the same.")
    if average == "probabilities":
        return (1 - weight) * average_views(first) + weight * average_views(second)
    if average == "logits":
        if first.shape != second.shape:
            raise ValueError(
                f"View logits of shapes {first.shape} and {second.shape} cannot be averaged view by view."
            )
        return average_views((1 - weight) * first + weight * second)
    raise ValueError(f"average={average!r}; choose 'probabilities' or 'logits'.")
