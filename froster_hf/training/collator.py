"""Samples to batches, for clips of this package's readers and for any data set of arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.clips import collate_clips

DECODE_FAILURES = "decode_failures"


def collate_videos(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack clips and labels.

    Args:
        samples: of [`TrainingClips`] or [`EvaluationClips`], or mappings with `pixel_values_videos` (T, 3, S, S), a
            tensor or an array, and `labels` or `label`, an index.

    Returns:
        `pixel_values_videos` (B, T, 3, S, S), of evaluation with V clips a video (B*V, T, 3, S, S); `labels` (B,); and
        for samples of this package `video_names` and `decode_failures`.

    Raises:
        ValueError: a sample without clip or label.
    """
    if DECODE_FAILURES in samples[0]:
        return collate_clips(samples)  # type: ignore[arg-type]
    label_key = "labels" if "labels" in samples[0] else "label"
    missing = {"pixel_values_videos", label_key} - set(samples[0])
    if missing:
        raise ValueError(
            f"A sample has the fields {sorted(samples[0])}; `pixel_values_videos` (T, 3, S, S) and `labels` or "
            "`label` are needed. A `datasets` table of video files becomes clips when its videos are a "
            "`datasets.Video` column and it has no transform of its own."
        )
    return {
        "pixel_values_videos": torch.stack([_as_tensor(sample["pixel_values_videos"]) for sample in samples]),
        "labels": torch.tensor([int(sample[label_key]) for sample in samples]),
    }


def _as_tensor(clip: Any) -> Tensor:
    return clip if isinstance(clip, Tensor) else torch.as_tensor(clip)
