"""How near two label sets are, against what fine-tuning gains: the analysis of the paper's Figure 1.

Similarity of the tested to the training labels = mean over the tested labels of the best cosine with any training
label, of the text embeddings of frozen CLIP (0.805 for UCF-101 against Kinetics-400 in the paper). Where it is low,
fine-tuned models fall below frozen CLIP.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..pipeline.scoring_froster import check_finite
from ..processing.processing_froster import FrosterProcessor
from ..whole_files import make_folder, write_text_whole
from .plots import plot_similarity_gain
from .report import cell, markdown_table, one_decimal

COSINES_AT_ONCE = 2**24


def mean_best_cosine(tested_embeds: torch.Tensor, training_embeds: torch.Tensor) -> float:
    """Mean over tested labels of the best cosine with a training label.

    Args:
        tested_embeds: (K, D), any length.
        training_embeds: (K', D).
    """
    for embeds in (tested_embeds, training_embeds):
        check_finite(embeds)
    training = F.normalize(training_embeds.float(), dim=-1).T
    # Not all pairs at once: they are the product of two lists.
    parts = F.normalize(tested_embeds.float(), dim=-1).split(max(1, COSINES_AT_ONCE // training.shape[1]))
    return torch.cat([(part @ training).amax(dim=1) for part in parts]).mean().item()


def similarity_table(
    model: nn.Module,
    processor: FrosterProcessor,
    *,
    training_labels: Sequence[str],
    tested: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One row per tested data set, by the bare labels, least similar first.

    Args:
        model: frozen CLIP.
        processor: processor of the model.
        training_labels: labels that the evaluated model was trained on.
        tested: {name: {"labels": label texts, "accuracy": fine-tuned top-1, "frozen_accuracy": frozen top-1}},
            accuracies in percent.

    Returns:
        Rows {"name", "similarity", "accuracy", "frozen_accuracy", "gain"}.
    """
    embed_labels = partial(processor.embed_labels, model=model, templates="none", text_pooling="mean")
    training = embed_labels(list(training_labels))
    rows = [
        {
            "name": name,
            "similarity": mean_best_cosine(embed_labels(list(entry["labels"])), training),
            "accuracy": entry["accuracy"],
            "frozen_accuracy": entry["frozen_accuracy"],
            "gain": entry["accuracy"] - entry["frozen_accuracy"],
        }
        for name, entry in tested.items()
    ]
    return sorted(rows, key=lambda row: row["similarity"])


def write_similarity_report(rows: Sequence[Mapping[str, Any]], folder: str | os.PathLike) -> None:
    """Writes `label_similarity.json`, `.md` and `.png`."""
    folder = make_folder(folder)
    lines = markdown_table(
        ["data set", "label similarity", "frozen CLIP", "fine-tuned", "gain"],
        [
            [
                cell(row["name"]),
                f"{row['similarity']:.3f}",
                one_decimal(row["frozen_accuracy"]),
                one_decimal(row["accuracy"]),
                f"{row['gain']:+.1f}",
            ]
            for row in rows
        ],
    )
    write_text_whole(folder / "label_similarity.md", "\n".join(lines) + "\n")
    plot_similarity_gain(rows, folder / "label_similarity.png", title="Label similarity and gain over frozen CLIP")
    write_text_whole(folder / "label_similarity.json", json.dumps(list(rows), indent=2) + "\n")
