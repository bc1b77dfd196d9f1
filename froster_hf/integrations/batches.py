"""`EmbedVideos` and `ClassifyVideos`: a dict of columns in, a dict of columns out.

What `datasets.map(batched=True)`, Ray Data's `map_batches` and Daft's batch functions call. A video that fails gives a
row of nulls and its reason; what the machine lacks (`DecodingUnavailableError`) stops the work, as it is not a video's
fault. Where there is no error, its text is empty rather than null: tools that derive a column's type from the first
batch would otherwise end at the first damaged video.

Letters: B videos, V views, T frames, S pixels, K labels, D the joint embedding width.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers.utils import ADAPTER_CONFIG_NAME

from ..checkpoint_files import MAX_CONFIG_BYTES
from ..checkpoint_loading import checkpoint_path, load_installed
from ..pipeline.pipeline_froster import map_tensors
from ..pipeline.scoring_froster import whole_number

Columns = dict[str, Any]


class VideoBatches:
    """What both kinds share: the checkpoint, loaded at the first batch and left behind when the object is copied to
    another process, and the column of videos.

    Args:
        checkpoint: a FROSTER or CLIP checkpoint, a folder or a name on the Hub.
        video_column: name of the column of videos, each in any form that the pipeline takes: a path, bytes, or a row
            of an undecoded video column of `datasets`.
        device: such as `cuda:0`; by default the first accelerator.
        dtype: type of the weights; `auto` is the checkpoint's.
        batch_size: videos that go through the model together, however many a batch has.
        options: how videos are read, as the pipeline takes it: `num_views`, `num_crops`, `num_frames`, `timeout`.
    """

    answer_columns: tuple[str, ...]

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        *,
        video_column: str = "video",
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 8,
        **options: Any,
    ):
        self.checkpoint = os.fspath(checkpoint)
        self.video_column = video_column
        self.device = device
        self.dtype = dtype
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        self.options = options
        self._pipeline: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Options, and which files they are about: `datasets` keeps results under a hash of this."""
        return {**vars(self), "_pipeline": None, "_version": _version(self.checkpoint)}

    @property
    def pipeline(self) -> Any:
        """The zero-shot pipeline of the checkpoint."""
        if self._pipeline is None:
            import froster_hf  # noqa: F401  (registers the pipeline in a worker that has not imported the package)

            self._pipeline = load_installed(self.checkpoint, device=self.device, dtype=self.dtype)
        return self._pipeline

    def features(self, table: Any) -> Any:
        """The features of a `datasets` table with the columns of the answers, for `features=` of its `map`.

        Needed only where a first batch may hold no readable video at all, or single precision is to be stored as such.
        """
        from datasets import Features, List, Value

        numbers, texts = List(Value("float32")), List(Value("string"))
        types = {"embedding": numbers, "labels": texts, "scores": numbers, "error": Value("string")}
        return Features({**table.features, **{name: types[name] for name in self.answer_columns}})

    def videos(self, columns: Mapping[str, Any]) -> list[Any]:
        """The videos of a batch.

        Raises:
            KeyError: there is no such column.
            ValueError: there are columns of the answers' names already, which may be the truth that they are compared
                with. That of errors belongs to both kinds, so that one can follow the other.
        """
        if taken := [name for name in self.answer_columns if name in columns and name != "error"]:
            raise ValueError(
                f"A batch has the columns {', '.join(map(repr, taken))} already, in whose place the answers would "
                "come. Rename or remove them first."
            )
        if self.video_column not in columns:
            raise KeyError(
                f"A batch has no column {self.video_column!r} of videos, but {', '.join(map(repr, columns))}. Name "
                "it with `video_column`."
            )
        return list(columns[self.video_column])


class EmbedVideos(VideoBatches):
    """Adds the columns `embedding`, D numbers, null where the video failed, and `error`, empty where it did not.

    The embedding is `get_video_features(...).pooler_output`, the mean over the views where there are several.

    Example:

    ```python
    >>> table.map(EmbedVideos("visual-ai/froster-b16"), batched=True, batch_size=32)  # doctest: +SKIP
    >>> rows.map_batches(  # doctest: +SKIP
    ...     EmbedVideos, fn_constructor_args=["visual-ai/froster-b16"], concurrency=2, batch_size=32
    ... )
    ```"""

    answer_columns = ("embedding", "error")

    def __call__(self, columns: Mapping[str, Any]) -> Columns:
        """All columns of the batch, and the two of the answers."""
        read = self.pipeline.preprocess
        videos = self.videos(columns)
        embeddings: list[list[float] | None] = []
        errors: list[str] = []
        for start in range(0, len(videos), self.batch_size):
            batch = videos[start : start + self.batch_size]
            entries = [read(video, on_error="return", **self.options)["entries"] for video in batch]
            for _, answer in map_tensors(entries, self._embed):
                if isinstance(answer, torch.Tensor) and not answer.isfinite().all():
                    answer = ValueError("The model gives an embedding that is not finite.")
                failed = isinstance(answer, Exception)
                embeddings.append(None if failed else answer.tolist())
                errors.append(str(answer) if failed else "")
        return {**columns, "embedding": embeddings, "error": errors}

    def _embed(self, clips: torch.Tensor) -> torch.Tensor:
        """Pixels (B, V, T, 3, S, S) to embeddings (B, D)."""
        return embed_clips(self.pipeline, clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(dim=1)


class ClassifyVideos(VideoBatches):
    """Adds the columns `labels` and `scores`, best first, null where the video failed, and `error`, empty where it did
    not.

    Args:
        checkpoint: see [`VideoBatches`].
        candidate_labels: the labels to choose from, in any form that the pipeline takes; may be left out for a
            checkpoint that has stored labels.
        top_k: labels per video.
        background_labels: see the pipeline, as the others.
        options: options of the pipeline and of [`VideoBatches`].
    """

    answer_columns = ("labels", "scores", "error")

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        candidate_labels: Any = None,
        *,
        top_k: int = 5,
        **options: Any,
    ):
        names = ("video_column", "device", "dtype", "batch_size")
        super().__init__(checkpoint, **{name: options.pop(name) for name in names if name in options})
        if "on_error" in options:
            raise ValueError("`on_error` is not an option here: a video that fails gives nulls and its reason.")
        self.options = {**options, "top_k": top_k}
        if candidate_labels is not None:
            # An iterator can be read only once, and every batch needs the labels.
            self.options["candidate_labels"] = (
                list(candidate_labels) if isinstance(candidate_labels, Iterator) else candidate_labels
            )

    def __call__(self, columns: Mapping[str, Any]) -> Columns:
        """All columns of the batch, and the three of the answers."""
        videos = self.videos(columns)
        # In a list of their own, so that a batch of frames is never one video.
        answers = list(self.pipeline(iter(videos), on_error="return", batch_size=self.batch_size, **self.options))
        failed = [isinstance(answer, Exception) for answer in answers]
        return {
            **columns,
            "labels": [None if bad else [a["label"] for a in answer] for bad, answer in zip(failed, answers)],
            "scores": [None if bad else [a["score"] for a in answer] for bad, answer in zip(failed, answers)],
            "error": [str(answer) if bad else "" for bad, answer in zip(failed, answers)],
        }


@torch.no_grad()
def embed_clips(classify: Any, clips: torch.Tensor) -> torch.Tensor:
    """`pooler_output` (B, D) of clips (B, T, 3, S, S), by the model of a zero-shot pipeline, in float32."""
    model = getattr(classify.model, "froster", classify.model)
    clips = clips.to(classify.device, model.dtype)
    return model.get_video_features(clips, only_embeds=True, return_dict=True).pooler_output.float().cpu()


def _version(checkpoint: str) -> list[Any]:
    """What changes with a checkpoint, and of an adapter, with the one that it is for."""
    checkpoint = checkpoint_path(checkpoint)
    file = _stored_file(checkpoint, ADAPTER_CONFIG_NAME, None)
    if file is None:
        return _files_version(checkpoint, "config.json", None)
    content: Any = None
    # What is wrong with it is said where it is loaded.
    with contextlib.suppress(OSError, ValueError, RecursionError), open(file, "rb") as stream:
        content = json.loads(stream.read(MAX_CONFIG_BYTES))
    content = content if isinstance(content, dict) else {}
    base, revision = content.get("base_model_name_or_path"), content.get("revision")
    own = _files_version(checkpoint, ADAPTER_CONFIG_NAME, None)
    if not isinstance(base, str):
        return own
    revision = revision if isinstance(revision, str) else None
    return [own, _files_version(checkpoint_path(base), "config.json", revision)]


def _files_version(checkpoint: str, name: str, revision: str | None) -> list[Any]:
    """Sizes and times of a folder's files, or where a file of a repository is in the cache, which names its commit."""
    if os.path.isdir(checkpoint):
        files = sorted(path for path in Path(checkpoint).iterdir() if path.is_file())
        return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [_stored_file(checkpoint, name, revision)]


def _stored_file(checkpoint: str, name: str, revision: str | None) -> str | None:
    """The path of a checkpoint's file, in its folder or in the cache of the Hub; `None` where neither has it."""
    if os.path.isdir(checkpoint):
        path = os.path.join(checkpoint, name)
        return path if os.path.isfile(path) else None
    try:
        found = try_to_load_from_cache(checkpoint, name, revision=revision)
    except HFValidationError:  # not a name that it could have; loading says so
        return None
    # Of a file that the repository lacks, it is a mark that differs between processes.
    return found if isinstance(found, str) else None
