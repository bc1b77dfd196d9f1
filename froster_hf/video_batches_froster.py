"""Several videos on their way through the zero-shot pipeline, where one that cannot be read costs only itself.

transformers' pipelines run three steps (`preprocess`, `forward`, `postprocess`) over a dataset, the first in worker
processes, the second on batches. Here an *entry* passes from step to step: a pair of the video's position in the call
and what is known of it, that is, pixels, then logits, or the error that stands in their place from then on.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

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

    def __init__(self, videos: Sequence[Any]):
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


def split_videos(videos: Sequence[Any], list_videos: Callable[[Any], list[Any]]) -> list[Any]:
    """The single videos of a list in which there may also be batches, and things that are no videos.

    Args:
        videos: a list that is not itself one video.
        list_videos: the video processor's; raises for what is no video, which is then kept, to be refused in its turn.
    """
    single = []
    for item in videos:
        try:
            single += list_videos([item])
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
