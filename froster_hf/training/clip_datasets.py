"""Videos into the Trainer: tables become clips in the workers, every epoch in an order of its own, and failures count.

Stands between the user's data sets and the step. Data sets that are clips already pass through.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import datasets
import torch
from transformers import TrainerCallback

from ..data.clips import EpochSampler, EvaluationClips, TrainingClips, collate_clips
from ..data.decode_failures import DecodeFailureLog
from ..data.video_table import LABEL_COLUMN, VIDEO_COLUMN, describe_table
from ..printing import get_logger, printable
from ..processing.processing_froster import FrosterProcessor
from ..processing.video_processing_froster import FrosterVideoProcessor
from ..video.columns import has_transform, without_video_decoding
from ..video.workers import check_queues_of_workers
from .arguments import FrosterTrainingArguments
from .checkpointing import AtomicCheckpointing

logger = get_logger(__name__)

PIXELS = "pixel_values_videos"
VIDEO_NAMES, DECODE_FAILURES = "video_names", "decode_failures"


class ClipTrainer(AtomicCheckpointing):
    """Takes `datasets` tables {video, label} where [`~transformers.Trainer`] takes data sets of tensors.

    `processing_class` is the processor as it will be saved: the one that was given, with `eval_video_options`.
    Evaluation clips are made by it as it stands, so that an accuracy that is measured while training is what the saved
    model and processor reach on the same videos.
    """

    args: FrosterTrainingArguments

    def __init__(
        self,
        model: Any,
        args: FrosterTrainingArguments,
        data_collator: Any,
        train_dataset: Any,
        eval_dataset: Any,
        processing_class: Any,
        **kwargs: Any,
    ):
        # What the clips are made of; the Trainer sets both again.
        self.args, self._given_processor = args, processing_class
        self.processing_class = self._processor_in_use()
        self._epoch_sampler: EpochSampler | None = None
        self._decode_log: DecodeFailureLog | None = None
        kwargs["callbacks"] = [_Beginnings(self), *(kwargs.get("callbacks") or ())]
        super().__init__(
            model,
            args,
            data_collator or collate_videos,
            self._training_clips(train_dataset),
            self._for_each(eval_dataset, self._evaluation_clips),
            self.processing_class,
            **kwargs,
        )

    @property
    def seed(self) -> int:
        """Seed of clips and prompts."""
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _processor_in_use(self) -> Any:
        options = self._options("eval_video_options")
        if not isinstance(self._given_processor, FrosterProcessor):
            return self._given_processor
        processor = copy.copy(self._given_processor)
        video_processor = processor.video_processor
        processor.video_processor = type(video_processor).from_dict(video_processor.to_dict(), **options)
        return processor

    def _options(self, name: str) -> dict[str, Any]:
        """Options of the video processor from the field of the arguments with this name."""
        # Strings only until the arguments have parsed them.
        options = dict(cast(dict[str, Any], getattr(self.args, name) or {}))
        processor = getattr(self._given_processor, "video_processor", None)
        known = processor.valid_kwargs.__annotations__ if isinstance(processor, FrosterVideoProcessor) else {}
        if unknown := [option for option in options if known and option not in known]:
            raise ValueError(
                f"`{name}` has {', '.join(map(repr, unknown))}, which the video processor does not know. Its options "
                f"are {', '.join(sorted(known))}."
            )
        return options

    def _rebuild_clips(self) -> None:
        """Make the clips again where the arguments have changed since, as in a search over hyperparameters."""
        self.processing_class = self._processor_in_use()
        if isinstance(self.train_dataset, TrainingClips):
            self.train_dataset = self._training_clips(self.train_dataset.dataset)
        self.eval_dataset = self._for_each(self.eval_dataset, self._evaluation_clips)

    @staticmethod
    def _for_each(dataset: Any, make_clips: Any) -> Any:
        if isinstance(dataset, Mapping):
            return {name: make_clips(part) for name, part in dataset.items()}
        return make_clips(dataset)

    def _training_clips(self, dataset: Any) -> Any:
        if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
            raise ValueError(f"`train_dataset` has the splits {', '.join(dataset)}; give one of them.")
        if not is_video_table(dataset):
            return without_video_decoding(dataset)
        options = self._options("train_video_options")
        if several := {"num_views", "num_crops"} & set(options):
            raise ValueError(f"`train_video_options` has {several.pop()!r}, but a training clip is one view and crop.")
        return TrainingClips(
            dataset.with_format(None),
            video_processor=self._video_processor(self._given_processor),
            seed=self.seed,
            video_options=options,
        )

    def _evaluation_clips(self, dataset: Any, *, needs_labels: bool = True) -> Any:
        if isinstance(dataset, EvaluationClips):
            dataset = dataset.dataset
        if not is_video_table(dataset, needs_labels=needs_labels):
            return without_video_decoding(dataset)
        processor = self._video_processor(self.processing_class)
        clips = EvaluationClips(
            dataset.with_format(None),
            video_processor=processor,
            num_views=processor.num_views,
            num_crops=processor.num_crops,
            video_options={"sampling": processor.sampling},
        )
        if clips.label_names is not None:
            clips.refuse_other_labels(clips.label_names)
        return clips

    @staticmethod
    def _video_processor(processing_class: Any) -> Any:
        processor = getattr(processing_class, "video_processor", None)
        if processor is None:
            raise ValueError("A table of videos needs a FrosterProcessor as `processing_class` to become clips.")
        return processor

    def get_train_dataloader(self) -> Any:
        """See [`~transformers.Trainer.get_train_dataloader`]."""
        check_queues_of_workers(self.args.dataloader_num_workers)
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """See [`~transformers.Trainer.get_eval_dataloader`]; tables of videos become clips."""
        check_queues_of_workers(self.args.dataloader_num_workers)
        return super().get_eval_dataloader(self._evaluation_clips(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """See [`~transformers.Trainer.get_test_dataloader`]; tables of videos become clips, also those without
        labels."""
        check_queues_of_workers(self.args.dataloader_num_workers)
        collator: Any = self.data_collator
        if collator is collate_videos:
            unlabeled: Any = partial(collate_videos, needs_labels=False)
            self.data_collator = unlabeled
        try:
            return super().get_test_dataloader(self._evaluation_clips(test_dataset, needs_labels=False))
        finally:
            self.data_collator = collator

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # The one place where the Trainer asks for an order; training clips are indexed by (epoch, index).
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, TrainingClips):
            return super()._get_train_sampler(train_dataset)
        shuffle = self.args.train_sampling_strategy == "random"
        self._epoch_sampler = EpochSampler(len(dataset), seed=self.seed, shuffle=shuffle)
        return self._epoch_sampler

    def begin_training(self) -> None:
        """Called when a training begins, a resumed or repeated one too."""
        if not isinstance(self.train_dataset, TrainingClips):
            self._decode_log = None
            return
        self._decode_log = DecodeFailureLog(
            str(self.args.output_dir),
            num_videos=len(self.train_dataset),
            max_share=self.args.max_undecodable_share,
            rank=self.args.process_index,
            is_current=self.train_dataset.is_current,
        )
        if self.is_world_process_zero():
            for line in f"Training on {describe_table(self.train_dataset.dataset)}".split("\n"):
                logger.info("%s", line)

    def begin_epoch(self, epoch: int) -> None:
        """Called when an epoch begins; they are counted from 0."""
        # Accelerate forwards `set_epoch` through two wrappers of a DataLoader, but a resumed loader of several
        # processes has three, and would go through epoch 0 again.
        if self._epoch_sampler is not None:
            self._epoch_sampler.set_epoch(epoch)

    def record_decode_failures(self, failures: Iterable[Any]) -> None:
        """Count the videos of a batch that could not be decoded, and stop the run where they are too many."""
        if self._decode_log is not None:
            self._decode_log.record(failures)


class _Beginnings(TrainerCallback):
    """Tells the Trainer when a training and an epoch begin, for which it has no methods to override."""

    def __init__(self, trainer: ClipTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After checkpoint, optimizer and loaders are there."""
        self.trainer.begin_training()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """`state.epoch` counts epochs done, exactly at their ends."""
        self.trainer.begin_epoch(int(state.epoch or 0))


def collate_videos(samples: Sequence[Mapping[str, Any]], *, needs_labels: bool = True) -> dict[str, Any]:
    """Stack clips and labels.

    Args:
        samples: from [`TrainingClips`] or [`EvaluationClips`], or mappings with `pixel_values_videos` (T, 3, S, S), a
            tensor or an array, and `labels` or `label`, an index.
        needs_labels: whether samples without labels are an error; otherwise the batch has none either.

    Returns:
        `pixel_values_videos` (B, T, 3, S, S), of evaluation with V clips per video (B*V, T, 3, S, S); `labels` (B,);
        and for samples of this package `video_names` and `decode_failures`.

    Raises:
        ValueError: a sample without clip or label, or a label that is not the index of one class.
    """
    if DECODE_FAILURES in samples[0]:
        return collate_clips(samples)  # type: ignore[arg-type]
    label_key = "labels" if "labels" in samples[0] else "label"
    fields = {PIXELS, label_key} if needs_labels or label_key in samples[0] else {PIXELS}
    if fields - set(samples[0]):
        raise ValueError(
            f"A sample has the fields {sorted(samples[0])}; `pixel_values_videos` (T, 3, S, S) and `labels` or "
            "`label` are needed. A `datasets` table of video files becomes clips when its videos are a "
            "`datasets.Video` column and it has no transform of its own."
        )
    batch = {PIXELS: torch.stack([torch.as_tensor(sample[PIXELS]) for sample in samples])}
    if label_key in fields:
        batch["labels"] = torch.tensor([_class_index(sample[label_key]) for sample in samples])
    return batch


def _class_index(label: Any) -> int:
    """A sample's label, as an index: of a share or of several classes, cutting would make another one."""
    try:
        index = int(label)
        if index == float(label):
            return index
    except (TypeError, ValueError, OverflowError):
        pass  # Said below, with what was given.
    raise ValueError(
        f"A sample has the label {printable(repr(label), limit=100)}; it has to be the index of one class."
    )


def is_video_table(dataset: Any, *, needs_labels: bool = True) -> bool:
    """Whether a data set has still to be decoded: a `datasets` table of videos, without a transform of the user's.

    Args:
        dataset: of any kind that the Trainer takes.
        needs_labels: whether a table without labels is an error.

    Raises:
        ValueError: it has a column of videos, but not as `froster_hf.data` names it, or is a stream of videos.
    """
    if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        return False
    # A stream need not know its columns; a transform (`set_transform`) gives samples of its own.
    features = dataset.features or {}
    if not any(isinstance(feature, datasets.Video) for feature in features.values()) or PIXELS in features:
        return False
    if isinstance(dataset, datasets.IterableDataset):
        raise ValueError(
            "A stream of videos is not decoded here: an undecodable video is replaced by another row, which a stream "
            f"cannot give. Load the table without `streaming`, or map the stream to `{PIXELS}` (T, 3, S, S) and "
            "`labels` with the processor."
        )
    if has_transform(dataset):
        return False
    needed = {VIDEO_COLUMN, LABEL_COLUMN} if needs_labels else {VIDEO_COLUMN}
    if not needed <= set(dataset.column_names):
        raise ValueError(
            f"The data set has the columns {dataset.column_names}; a table of videos needs `{VIDEO_COLUMN}` and "
            f"`{LABEL_COLUMN}`. Make one with `froster_hf.data.as_video_table(dataset, ...)`."
        )
    return True


def class_names(dataset: Any) -> list[str] | None:
    """The names behind a data set's labels: of its `ClassLabel` column, or as it calls them `label_names` itself.

    Returns:
        K names in the order of their indices; `None` where the data set does not know them.
    """
    names = getattr(dataset, "label_names", None)
    if names is None and isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        columns = [(dataset.features or {}).get(name) for name in (LABEL_COLUMN, "labels")]
        names = next((feature.names for feature in columns if isinstance(feature, datasets.ClassLabel)), None)
    return None if names is None else list(names)
