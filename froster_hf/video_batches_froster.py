"""Several videos on their way through the zero-shot pipeline, where one that cannot be read costs only itself.

transformers' pipelines run three steps (`preprocess`, `forward`, `postprocess`) over a dataset, the first in worker
processes, the second on batches. Here an *entry* passes from step to step: a pair of the video's position in the call
and what is known of it, that is, pixels, then logits, or the error that stands in their place from then on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

OnError = Literal["raise", "return"]

# Position of a video among those of a call (`None` for a single one), and its tensor or its error.
Entry = tuple[int | None, Any]


class NumberedVideo(NamedTuple):
    """A video and its position among those of a call."""

    position: int
    video: Any


class VideoSequence(Dataset):
    """Videos that are read by index: those of a list, of a dataset or of a dataset's column."""

    def __init__(self, videos: Any):
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> NumberedVideo:
        return NumberedVideo(index, self.videos[index])


class VideoStream(IterableDataset):
    """Videos that can only be read from start to end: those of a generator, or of a streaming dataset."""

    def __init__(self, videos: Any):
        self.videos = videos

    def __iter__(self) -> Iterator[NumberedVideo]:
        return (NumberedVideo(position, video) for position, video in enumerate(self.videos))


def several_videos(inputs: Any, video_processor: Any) -> VideoSequence | VideoStream | None:
    """What a caller of the pipeline passed as a dataset of numbered videos; `None` for a single video.

    Args:
        inputs: a video, a list or array of them, or what is read as the answers are asked for: a generator, iterator,
            dataset, or column of a dataset.
        video_processor: knows a single video from a batch.
    """
    if isinstance(inputs, Dataset):
        return VideoSequence(inputs) if hasattr(inputs, "__len__") else VideoStream(inputs)
    if isinstance(inputs, list | tuple | np.ndarray | torch.Tensor):
        return None if video_processor.is_single_video(inputs) else VideoSequence(_listed(inputs, video_processor))
    if isinstance(inputs, str | bytes | bytearray | Mapping):
        return None
    if isinstance(inputs, Sequence):
        # A column of a `datasets` table, and anything else with a length that is read by index.
        return VideoSequence(inputs)
    # An open file and a video decoder can be iterated over, too.
    is_video = hasattr(inputs, "read") or hasattr(inputs, "get_frames_at")
    return VideoStream(inputs) if isinstance(inputs, Iterable) and not is_video else None


def _listed(videos: Iterable[Any], video_processor: Any) -> list[Any]:
    """The videos of a batch, in which there may be batches again; what is no video is kept, to be refused in turn."""
    single = []
    for item in videos:
        try:
            single += video_processor.list_videos([item])
        except (TypeError, ValueError):
            single.append(item)
    return single


def list_entries(step: dict[str, Any]) -> list[Entry]:
    """The entries in what a step was handed: transformers passes one alone as it is, those of a batch as a list."""
    entries = step["entries"]
    return entries if isinstance(entries, list) else [entries]


def map_tensors(entries: Sequence[Entry], function: Callable[[torch.Tensor], torch.Tensor]) -> list[Entry]:
    """Entries whose tensors have gone through `function` as one batch; errors stay in their places."""
    tensors = [content for _, content in entries if isinstance(content, torch.Tensor)]
    results = iter(function(torch.stack(tensors))) if tensors else iter(())
    return [
        (position, next(results) if isinstance(content, torch.Tensor) else content) for position, content in entries
    ]


def error_of(error: Exception, position: int | None) -> Exception:
    """The error of a video, saying which one of the call's videos it belongs to."""
    if position is not None and not isinstance(error, OSError):
        error.args = (
            f"Video {position} of the call, counted from 0: {error} (`on_error='return'` gives the answers of the "
            "other videos, and each error in its place.)",
        )
    return error
