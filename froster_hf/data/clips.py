"""Rows of a video table to `pixel_values_videos`, in the workers of the DataLoader.

A {video, label} table (`video_table.py`) comes in, the video processor does the pixels, samples for the model go out.
The Trainer plugs it in so:

    clips = TrainingClips(table, video_processor=processor.video_processor, seed=args.data_seed)
    sampler = EpochSampler(len(clips), seed=args.data_seed)           # yields (epoch, index)
    loader = DataLoader(clips, sampler=sampler, collate_fn=collate_clips, num_workers=2, persistent_workers=True, ...)
    log = DecodeFailureLog(run_folder, num_videos=len(clips), max_share=0.05, rank=rank,
                           is_current=clips.is_current)
    for epoch in range(first_epoch, last_epoch):
        sampler.set_epoch(epoch)
        for batch in loader:
            log.record(batch.pop("decode_failures"))                  # names and counts; raises above the share
            names = batch.pop("video_names")                          # for reports, such as a non-finite loss

What is random in a sample (frames, scale, crop, flip, replacement) is a function of (seed, epoch, index) alone, so
workers, their number and restarts change nothing. A video that cannot be decoded is replaced by another,
deterministically, in training; so is a row that holds none. It is tried again in every epoch, since a worker that
remembered a passing fault, as of a network disk, would draw other samples than the rest. In evaluation it never is
replaced: it stays in the batch as zeros with label -100, which the loss ignores and the metrics count as wrong. What
this machine lacks is not a video's fault: such errors (`DecodingUnavailableError`, `OSError`) stop the work.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.video_processing_utils import BaseVideoProcessor

from ..machine_memory import FLOAT_BYTES, refuse_beyond_memory
from ..processing.text_files import AnnotationError
from ..processing.video_processing_froster import FrosterVideoProcessor, encoded_source
from ..video.columns import without_video_decoding
from ..video.decoding import VideoDecodeError
from ..video.source import source_name
from ..video.workers import share_batch
from .decode_failures import MAX_LISTED, DecodeFailure, TooManyDecodeFailures, video_state
from .video_table import (
    LABEL_COLUMN,
    LABELS_COLUMN,
    NO_LABEL,
    VIDEO_COLUMN,
    is_multi_label,
    label_array,
    label_names,
    video_name,
)

# The cross-entropy of PyTorch leaves this label out.
IGNORED_LABEL = -100


class _Clips(torch.utils.data.Dataset):
    """What training and evaluation share: one row through the video processor."""

    def __init__(
        self, dataset: Dataset, video_processor: BaseVideoProcessor, options: Mapping[str, Any], *, labels: np.ndarray
    ):
        self.labels = labels
        kept = (VIDEO_COLUMN, LABEL_COLUMN)
        self.dataset = without_video_decoding(
            dataset.select_columns([name for name in kept if name in dataset.column_names])
        )
        self.video_processor = video_processor
        self.options = dict(options)

    def __len__(self) -> int:
        return len(self.dataset)

    def video_name(self, index: int) -> str:
        """Name of a row's video for logs and reports, of an address without its account and query."""
        return source_name(video_name(self.dataset[index][VIDEO_COLUMN], row=index))

    def is_current(self, failure: DecodeFailure) -> bool:
        """Whether a failure was met with the video that its row still names, as that still is on disk."""
        if not 0 <= failure.row < len(self) or self.video_name(failure.row) != failure.video:
            return False
        return video_state(self.dataset[failure.row][VIDEO_COLUMN]) == failure.state

    def refuse_other_labels(self, names: Sequence[str]) -> None:
        """Refuse a row whose label the loss would neither know nor leave out.

        Raises:
            AnnotationError: names the row.
        """
        known = (self.labels >= 0) & (self.labels < len(names)) | (self.labels == IGNORED_LABEL)
        if not known.all():
            row = int(np.argmin(known))
            label = self.labels[row]
            raise AnnotationError(
                f"Row {row} of the data set has {'no label' if label == NO_LABEL else f'the label {label}'}, of "
                f"{len(names)} names. Take rows without a label out with `filter`."
            )

    @property
    def frames_per_video(self) -> int:
        """Frames in all clips of a video together."""
        return math.prod(self._option(name) or 1 for name in ("num_frames", "num_views", "num_crops"))

    @property
    def values_per_frame(self) -> int:
        """Of all its pixels and colors."""
        processor: Any = self.video_processor
        return 3 * math.prod(processor.picture_size(**self.options) or (0, 0))

    def check_for_model(self, config: Any, *, num_clips: int = 1) -> None:
        """Refuse clips that a model does not see, or does not compute.

        Args:
            config: a [`FrosterConfig`].
            num_clips: clips that are computed per video.

        Raises:
            ValueError: its frames have another size, or clips of so many are beyond what a model of its size computes.
        """
        processor: Any = self.video_processor
        processor.refuse_other_pictures(config.vision_config.image_size, **self.options)
        config.costs(self.frames_per_video // num_clips).check(num_clips=num_clips)

    def refuse_beyond_memory(self, *, batch_size: int, num_batches: int, advice: str, model_bytes: float = 0) -> None:
        """Raise where the videos that are in memory at one time do not fit into it.

        Args:
            batch_size: videos that are computed together.
            num_batches: batches that are held, those that are read ahead among them.
            advice: what to lower.
            model_bytes: what the model takes besides, at least.

        Raises:
            ValueError: names the numbers, what they take at least, and what there is.
        """
        num_read = min(batch_size * num_batches, len(self))
        num_frames = self.frames_per_video
        refuse_beyond_memory(
            model_bytes + num_read * num_frames * self.values_per_frame * FLOAT_BYTES,
            f"{min(batch_size, len(self)):,} videos at once, {num_read:,} in memory, of {num_frames:,} frames each,",
            advice=advice,
        )

    def _option(self, name: str) -> Any:
        value = self.options.get(name)
        return getattr(self.video_processor, name, None) if value is None else value

    def _failure(self, row: int, error: VideoDecodeError) -> DecodeFailure:
        return DecodeFailure(row, self.video_name(row), str(error), video_state(self.dataset[row][VIDEO_COLUMN]))

    def _pixels(self, row: int, **options: Any) -> torch.Tensor:
        """All clips of a row's video, (V*C, T, 3, S, S)."""
        video = self.dataset[row][VIDEO_COLUMN]
        try:
            # Apart from the processor's call, whose other errors are the fault of its options, not of a row.
            for part in FrosterVideoProcessor.list_videos(video):
                encoded_source(part)
        except (TypeError, ValueError) as error:
            raise VideoDecodeError(f"row {row} of the data set", "the video processor", str(error)) from error
        batch = self.video_processor(video, return_tensors="pt", **self.options, **options)
        return batch["pixel_values_videos"]


class TrainingClips(_Clips):
    """One augmented clip a video; indexed by (epoch, index), as `EpochSampler` yields them.

    A sample is {"pixel_values_videos": (1, T, 3, S, S), "labels": int, "video_names": str, "decode_failures": list}.
    All of it, the label too, is the replacement's where a video had to be replaced.

    Args:
        dataset: {video, label} table.
        video_processor: `FrosterVideoProcessor`.
        seed: seed of the run, at least 0.
        video_options: options of the video processor for these clips, over the published recipe's random window,
            scale, crop and flip; for example `{"flip_probability": 0.0}` where left and right are labels.
        max_replacements: videos tried in place of one, before the run stops.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        video_processor: BaseVideoProcessor,
        seed: int,
        video_options: Mapping[str, Any] | None = None,
        max_replacements: int = 20,
    ):
        own = {"sampling": "random_dense", "cropping": "random", **(video_options or {})}
        # A clip is one view and crop, whatever the processor makes of a video elsewhere.
        options = {**own, "num_views": 1, "num_crops": 1}
        self.label_names = label_names(dataset)
        super().__init__(dataset, video_processor, options, labels=label_array(dataset))
        self.refuse_other_labels(self.label_names)
        self.seed, self.max_replacements = seed, max_replacements

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        if not isinstance(key, tuple):
            raise TypeError(
                f"Training clips are indexed by (epoch, index), not {key!r}: every epoch augments again. Use "
                "EpochSampler."
            )
        epoch, index = (int(part) for part in key)
        failures: list[DecodeFailure] = []
        for attempt in range(self.max_replacements + 1):
            row = _seed_of(self.seed, epoch, index, attempt, 0) % len(self) if attempt else index
            try:
                return {
                    "pixel_values_videos": self._pixels(row, seed=_seed_of(self.seed, epoch, index, attempt, 1)),
                    "labels": int(self.labels[row]),
                    "video_names": self.video_name(row),
                    "decode_failures": failures,
                }
            except VideoDecodeError as error:
                failures.append(self._failure(row, error))
        distinct = {failure.row: f"  {failure}" for failure in failures}
        listed = "\n".join(list(distinct.values())[:MAX_LISTED])
        raise TooManyDecodeFailures(
            f"{len(failures)} videos drawn in place of each other cannot be decoded, such as:\n{listed}"
        )


class EvaluationClips(_Clips):
    """Deterministic clips: V windows spread over the video, C crops along its longer side; indexed by row.

    A sample is {"pixel_values_videos": (V*C, T, 3, S, S), "labels": int, "video_names": str, "decode_failures": list};
    views are the outer, crops the inner order. A video that cannot be decoded gives zeros and the label -100. Of a
    table without labels, samples have none; there, such a video gives NaN, and so NaN for predictions.

    Args:
        dataset: {video, label} table, or one of videos alone.
        video_processor: `FrosterVideoProcessor`.
        num_views: V; the published numbers use 3.
        num_crops: C, 1 is the center.
        video_options: further options of the video processor for these clips, over the published windows.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        video_processor: BaseVideoProcessor,
        num_views: int = 1,
        num_crops: int = 1,
        video_options: Mapping[str, Any] | None = None,
    ):
        options = {"sampling": "dense", **(video_options or {}), "num_views": num_views, "num_crops": num_crops}
        self.has_labels = bool({LABEL_COLUMN, LABELS_COLUMN} & set(dataset.column_names))
        self.label_names = label_names(dataset) if self.has_labels else None
        # Several labels of a video are for whoever measures its scores; a sample carries one or none.
        has_one = self.has_labels and not is_multi_label(dataset)
        labels = label_array(dataset) if has_one else np.full(len(dataset), IGNORED_LABEL)
        super().__init__(dataset, video_processor, options, labels=labels)
        self.num_clips = num_views * num_crops

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(index)
        label, failures = int(self.labels[row]), []
        try:
            pixels = self._pixels(row)
        except VideoDecodeError as error:
            label, failures = IGNORED_LABEL, [self._failure(row, error)]
            pixels = torch.full(self._shape, 0.0 if self.has_labels else torch.nan)
        sample = {"pixel_values_videos": pixels, "video_names": self.video_name(row), "decode_failures": failures}
        return {**sample, "labels": label} if self.has_labels else sample

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Shape of a video's clips with these options."""
        # BaseVideoProcessor sets its attributes from the configuration, out of the type checker's sight.
        processor: Any = self.video_processor
        num_frames = self.options.get("num_frames") or processor.num_frames or 1
        black = torch.zeros(num_frames, 3, 32, 32, dtype=torch.uint8)
        # Nothing is drawn from a source of random numbers that others draw from.
        return self.video_processor(black, return_tensors="pt", **{**self.options, "seed": 0})[
            "pixel_values_videos"
        ].shape


def collate_clips(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples to a batch.

    Returns:
        `pixel_values_videos` (B*V*C, T, 3, S, S), in training (B, T, 3, S, S); `labels` (B,); `video_names`, B
        strings; `decode_failures`, all failures of the batch. No `labels` for samples without.

    Raises:
        DecodingUnavailableError: a worker has no shared memory for the batch.
    """
    labels = {"labels": torch.tensor([sample["labels"] for sample in samples])} if "labels" in samples[0] else {}
    batch = {
        "pixel_values_videos": torch.cat([sample["pixel_values_videos"] for sample in samples]),
        **labels,
        "video_names": [sample["video_names"] for sample in samples],
        "decode_failures": [failure for sample in samples for failure in sample["decode_failures"]],
    }
    return share_batch(batch)


def _seed_of(*key: int) -> int:
    """A hash of integers in [0, 2^63): neighboring keys give unrelated seeds."""
    digest = blake2b(" ".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) pairs: a permutation of the data set that depends on nothing but seed and epoch.

    The epoch goes to the workers inside the index, so persistent workers, read-ahead and restarts cannot mix epochs
    up, and the sampler has no state besides `epoch`. All ranks draw the same order; Accelerate's `BatchSamplerShard`
    deals its batches out.

    Before an epoch call `set_epoch` on *this* object. Accelerate forwards `DataLoader.set_epoch` only through two
    wrappers, and a resumed multi-process loader has three, which would replay epoch 0.

    Args:
        num_samples: size of the data set.
        seed: seed of the run.
        shuffle: whether to permute; without, every epoch goes through the data set in its order.
    """

    def __init__(self, num_samples: int, *, seed: int, shuffle: bool = True):
        if num_samples < 1 or seed < 0:
            raise ValueError(f"num_samples={num_samples} must be at least 1 and seed={seed} at least 0.")
        self.num_samples, self.seed, self.shuffle, self.epoch = num_samples, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, counted from 0, that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
        for index in order if self.shuffle else range(self.num_samples):
            yield epoch, int(index)
