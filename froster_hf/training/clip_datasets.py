"""Videos into the Trainer: tables become clips in the workers, every epoch in an order of its own, and failures count.

Stands between the user's data sets and the step. Data sets that are clips already pass through.
"""

from typing import Any, cast

import datasets
from torch import Tensor, nn
from transformers import Trainer

from ..data.clips import EvaluationClips, TrainingClips
from ..data.decode_failures import DecodeFailureLog
from ..data.epoch_sampler import EpochSampler
from ..data.video_table import LABEL_COLUMN, VIDEO_COLUMN
from .arguments import FrosterTrainingArguments
from .collator import DECODE_FAILURES, collate_videos
from .epoch_callback import EpochCallback
from .nonfinite import VIDEO_NAMES


class ClipDatasets(Trainer):
    """Takes `datasets` tables {video, label} where [`~transformers.Trainer`] takes data sets of tensors."""

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
        self.args, self.processing_class = args, processing_class
        self._epoch_callback = EpochCallback()
        self._decode_log: DecodeFailureLog | None = None
        kwargs["callbacks"] = [self._epoch_callback, *(kwargs.get("callbacks") or ())]
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: self._evaluation_clips(part) for name, part in eval_dataset.items()}
        super().__init__(
            model,
            args,
            data_collator or collate_videos,
            self._training_clips(train_dataset),
            self._evaluation_clips(eval_dataset),
            processing_class,
            **kwargs,
        )

    @property
    def seed(self) -> int:
        """Of clips and prompts."""
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _rebuild_clips(self) -> None:
        """Make the clips again where the arguments have changed since, as in a search over hyperparameters."""
        if isinstance(self.train_dataset, TrainingClips):
            self.train_dataset = self._training_clips(self.train_dataset.dataset)
        if isinstance(self.eval_dataset, dict):
            self.eval_dataset = {name: self._evaluation_clips_again(part) for name, part in self.eval_dataset.items()}
        else:
            self.eval_dataset = self._evaluation_clips_again(self.eval_dataset)

    def _evaluation_clips_again(self, dataset: Any) -> Any:
        return self._evaluation_clips(dataset.dataset if isinstance(dataset, EvaluationClips) else dataset)

    def _training_clips(self, dataset: Any) -> Any:
        if not _is_video_table(dataset):
            return dataset
        # Strings only until the arguments have parsed them.
        options = cast(dict[str, Any] | None, self.args.train_video_options)
        processor = self._video_processor()
        return TrainingClips(dataset, video_processor=processor, seed=self.seed, video_options=options)

    def _evaluation_clips(self, dataset: Any) -> Any:
        if not _is_video_table(dataset):
            return dataset
        options = dict(cast(dict[str, Any], self.args.eval_video_options or {}))
        views = {name: options.pop(name) for name in ("num_views", "num_crops") if name in options}
        return EvaluationClips(dataset, video_processor=self._video_processor(), video_options=options, **views)

    def _video_processor(self) -> Any:
        processor = getattr(self.processing_class, "video_processor", None)
        if processor is None:
            raise ValueError("A table of videos needs a FrosterProcessor as `processing_class` to become clips.")
        return processor

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """See [`~transformers.Trainer.get_eval_dataloader`]; tables of videos become clips."""
        return super().get_eval_dataloader(self._evaluation_clips(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """See [`~transformers.Trainer.get_test_dataloader`]; tables of videos become clips."""
        return super().get_test_dataloader(self._evaluation_clips(test_dataset))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, TrainingClips):
            return super()._get_train_sampler(train_dataset)
        self._decode_log = DecodeFailureLog(
            str(self.args.output_dir),
            num_videos=len(dataset),
            max_share=self.args.max_undecodable_share,
            rank=self.args.process_index,
        )
        self._epoch_callback.sampler = EpochSampler(len(dataset), seed=self.seed)
        return self._epoch_callback.sampler

    def without_metadata(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch without names and decoding failures."""
        return {name: value for name, value in inputs.items() if name not in (VIDEO_NAMES, DECODE_FAILURES)}

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """See [`~transformers.Trainer.training_step`]; counts the videos that could not be decoded."""
        failures = inputs.pop(DECODE_FAILURES, ())
        if self._decode_log is not None:
            self._decode_log.record(failures)
        return super().training_step(model, inputs, *args, **kwargs)


def _is_video_table(dataset: Any) -> bool:
    """Whether a data set has still to be decoded.

    Raises:
        ValueError: it has a column of videos, but not as `froster_hf.data` names it.
    """
    if not isinstance(dataset, datasets.Dataset):
        return False
    videos = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Video)]
    if videos and not {VIDEO_COLUMN, LABEL_COLUMN} <= set(dataset.column_names):
        raise ValueError(
            f"The data set has the columns {dataset.column_names}; a table of videos needs `{VIDEO_COLUMN}` and "
            f"`{LABEL_COLUMN}`. Make one with `froster_hf.data.as_video_table(dataset, ...)`."
        )
    return bool(videos)
