"""A model over a table: every clip's view logits, resumable and on any number of processes.

    EvaluationClips (DataLoader workers) -> pixel_values_videos (B*V*C, T, 3, S, S) -> model -> logits ->
    PredictionStore

The table is cut into fixed batches, [0, B), [B, 2B), ...; a batch is the unit of work, of resuming and of sharing
among processes. Every clip is therefore computed in the same company whatever the number of processes and kills, and
its logits are the same to the last bit on the same hardware.

Predictions are appended clip by clip, so that an interrupted evaluation resumes where it stopped:

    predictions.0.jsonl   {"header": {"model": ..., "data": ..., "prompts": ..., "protocol": {...}}}
                          {"row": 0, "video": "...", "top": [["juggling", 0.91], ...], "logits": "<base64>",
                           "sha256": "..."}
                          ...

One file per process. `logits` are (V*C, K) little-endian float32 in base64: exact, so that every protocol, ensemble
and view count is computed from the file afterwards. A clip that could not be decoded has `logits` null and an `error`.
`sha256` is the hash of the rest of the line, by which a line that was altered or damaged is told from one that was
computed.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from transformers.utils.logging import tqdm

from ..data.clips import EvaluationClips, collate_clips
from ..data.video_table import label_names, pixel_options, table_fingerprint
from ..fingerprints import architecture_of, model_fingerprint
from ..machine_memory import forward_bytes
from ..pipeline.pipeline_froster import take_ahead
from ..pipeline.scoring_froster import whole_number
from ..printing import get_logger, one_line, printable
from ..processes import in_main_process
from ..processing.processing_froster import FrosterProcessor
from ..processing.prompts_froster import pair_with_descriptions, sentences_of
from ..processing.text_files import parse_json
from ..video.workers import check_queues_of_workers
from ..whole_files import (
    begins_with_json,
    bounded_lines,
    full_disk_named,
    make_folder,
    may_be_torn,
    refuse_irregular,
    refuse_other_names,
)
from .leak_check import warn_of_leaks
from .metrics import average_views

logger = get_logger(__name__)

# Scores of `top` have four digits; the last may be another one on another machine.
TOP_TOLERANCE = 2e-4
# The most of a header, and of a prediction's line beside its logits and labels.
_OTHER_BYTES = 2**20
# How the lines of a file begin, whole or cut short.
_HEADER_BEGIN, _PREDICTION_BEGIN = b'{"header": ', b'{"row": '
# All that are measured at once, some 14 bytes each: eighteen views of the validation videos of Kinetics-400.
MOST_SCORES = 150_000_000


class PredictionMismatchError(ValueError):
    """Stored predictions belong to other weights, data, labels or settings than the evaluation that would go on."""


@dataclass(frozen=True)
class ClipPrediction:
    """A model's scores of one clip.

    Args:
        row: row of the table.
        video: its name.
        view_logits: (V*C, K) float32; None where the video could not be decoded.
        error: why it could not.
    """

    row: int
    video: str
    view_logits: np.ndarray | None
    error: str | None = None


class PredictionStore:
    """Predictions of one evaluation in a folder; this process appends, every process reads all.

    Args:
        folder: made if it is not there.
        header: what the predictions depend on, JSON values; stored predictions must have the same.
        label_texts: K labels, for the readable `top` of a line.
        num_clips: rows of the table; predictions are of these.
        num_views: V*C, the most that a prediction may have.
        process_index: index of this process; names its file.

    Raises:
        PredictionMismatchError: the folder holds predictions with another header; names what differs.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        header: Mapping[str, Any],
        label_texts: Sequence[str],
        num_clips: int,
        num_views: int,
        process_index: int = 0,
    ):
        self.folder, self.label_texts = Path(folder), list(label_texts)
        self.num_clips, self.num_views = num_clips, num_views
        # Four bytes of a score are six of base64, and a character at most twelve of JSON.
        longest = max(map(len, self.label_texts), default=0)
        self._most_line_bytes = _OTHER_BYTES + 6 * num_views * len(self.label_texts) + 5 * 12 * longest
        # As JSON will give it back: tuples are lists there, and enumerations text.
        self.header = json.loads(json.dumps(header, default=str))
        make_folder(self.folder)
        self._file = self.folder / f"predictions.{process_index}.jsonl"
        self._refuse_others()

    def _refuse_others(self) -> None:
        for file in self._files():
            refuse_irregular(file)
            if (stored := _stored_header(file)) is not None:
                refuse_mismatch(file, stored, self.header)

    def __enter__(self) -> "PredictionStore":
        refuse_other_names(self._file)
        _cut_torn_line(self._file, self._most_line_bytes)
        self._handle = self._file.open("a", encoding="utf-8")
        try:
            if self._file.stat().st_size == 0:
                self._write(json.dumps({"header": self.header}) + "\n")
            # Of two evaluations that have begun at the same time, the one whose header came later sees the other's.
            self._refuse_others()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        # Writes what an append has not.
        with full_disk_named(self._file):
            self._handle.close()

    def append(self, predictions: Sequence[ClipPrediction]) -> None:
        """Write a batch's predictions at once.

        Raises:
            ValueError: logits that are not finite, which would later count as those of an undecodable video.
        """
        for prediction in predictions:
            if prediction.view_logits is not None and not np.isfinite(prediction.view_logits).all():
                raise ValueError(
                    f"The scores of row {prediction.row} ({printable(prediction.video)}) are not finite: the model's "
                    "weights are damaged, or the precision is too low for them. Nothing of its batch was stored."
                )
        self._write("".join(json.dumps(self._line(prediction)) + "\n" for prediction in predictions))

    def _write(self, text: str) -> None:
        with full_disk_named(self._file):
            self._handle.write(text)
            self._handle.flush()

    def read(self) -> Iterator[ClipPrediction]:
        """All complete predictions of all processes, one after the other; of two of a row, the later one holds.

        Raises:
            PredictionMismatchError: a line is not one that this class has written, or another evaluation has replaced
                this one meanwhile; names file and line, or what differs.
        """
        self._refuse_others()
        for file in self._files():
            for number, line in enumerate(bounded_lines(file, self._most_line_bytes), start=1):
                if number == 1:
                    continue  # the header
                try:
                    if not line.endswith(b"\n"):
                        if len(line) <= self._most_line_bytes:
                            break  # a line that a kill has torn
                        raise ValueError(f"it has more than {self._most_line_bytes} bytes")
                    yield self._prediction(parse_json(line.decode(), source="it"))
                except (ValueError, TypeError, LookupError, RecursionError) as error:
                    reason = f"{type(error).__name__}: {one_line(str(error), limit=300)}"
                    raise PredictionMismatchError(
                        f"{file}, line {number}, is not a prediction ({reason}). Delete the line, and its "
                        "clip is predicted again; or replace the evaluation: `--overwrite`, `overwrite=True`."
                    ) from error

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("predictions.*.jsonl"))

    def _line(self, prediction: ClipPrediction) -> dict[str, Any]:
        line: dict[str, Any] = {"row": prediction.row, "video": prediction.video, "error": prediction.error}
        if prediction.view_logits is None:
            return with_checksum({**line, "top": [], "logits": None})
        logits = np.ascontiguousarray(prediction.view_logits, dtype="<f4")
        scores = average_views(logits)
        best = np.argsort(-scores, kind="stable")[:5]
        line["top"] = [[self.label_texts[index], round(float(scores[index]), 4)] for index in best]
        return with_checksum({**line, "logits": base64.b64encode(logits.tobytes()).decode()})

    def _prediction(self, entry: Mapping[str, Any]) -> ClipPrediction:
        row, video, logits, error = (entry[name] for name in ("row", "video", "logits", "error"))
        if type(row) is not int or not 0 <= row < self.num_clips or not isinstance(video, str):
            raise ValueError(f"`row` must be a number below {self.num_clips} and `video` a name")
        check_checksum(entry)
        if logits is None and isinstance(error, str):
            return ClipPrediction(row, video, None, error)
        if error is not None:
            raise ValueError("`error` is the reason why there are no `logits`; one of the two is null")
        flat = np.frombuffer(base64.b64decode(logits, validate=True), dtype="<f4")
        view_logits = flat.reshape(-1, len(self.label_texts)).astype(np.float32)
        if not 0 < len(view_logits) <= self.num_views or not np.isfinite(view_logits).all():
            raise ValueError(
                f"`logits` must be finite numbers, one per label and view, of which there are {self.num_views}"
            )
        self._check_top(entry["top"], average_views(view_logits))
        return ClipPrediction(row, video, view_logits)

    def _check_top(self, top: Any, scores: np.ndarray) -> None:
        """Refuse a `top` that is not that of the logits; of equal scores, any may come first.

        Args:
            top: labels with scores, best first.
            scores: (K,), those of the logits.

        Raises:
            ValueError: it is of other scores.
        """
        best = np.sort(scores)[::-1][:5]
        # First how many there are: each is then looked for among all labels.
        if len(top) == len(best):
            told = [float(score) for _, score in top]
            own = [scores[[name == label for name in self.label_texts]] for label, _ in top]
            if np.allclose(told, best, atol=TOP_TOLERANCE, rtol=0) and all(
                np.isclose(one, score, atol=TOP_TOLERANCE, rtol=0).any() for one, score in zip(own, told)
            ):
                return
        raise ValueError("`top` is not that of the `logits`")


def check_checksum(line: Mapping[str, Any]) -> None:
    """Raise where a line is not as [`with_checksum`] made it.

    Raises:
        ValueError: it was altered.
    """
    if with_checksum(line) != line:
        raise ValueError("it was altered or damaged: `sha256` is not the hash of the rest")


def with_checksum(line: Mapping[str, Any]) -> dict[str, Any]:
    """An object of JSON with the SHA-256 of its other fields."""
    rest = {name: value for name, value in line.items() if name != "sha256"}
    return {**rest, "sha256": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def stack_view_logits(predictions: Iterable[ClipPrediction], *, num_rows: int) -> np.ndarray:
    """View logits of a whole table, (num_rows, V*C, K); NaN where a video could not be decoded.

    Args:
        predictions: in any order; of two of a row, the later one holds.
        num_rows: rows of the table.

    Raises:
        ValueError: the table has no rows, a row has no prediction, none could be decoded, or the predictions are of
            another table or of several numbers of views.
    """
    if num_rows == 0:
        raise ValueError("The table has no videos, so there is nothing to measure.")
    logits, first = None, 0
    left = set(range(num_rows))
    for prediction in predictions:
        if not 0 <= prediction.row < num_rows:
            raise ValueError(f"There is a prediction of row {prediction.row}, but the table has {num_rows} rows.")
        left.discard(prediction.row)
        if prediction.view_logits is not None:
            if logits is None:
                logits, first = np.full((num_rows, *prediction.view_logits.shape), np.nan, np.float32), prediction.row
            if prediction.view_logits.shape != logits.shape[1:]:
                raise ValueError(
                    f"The predictions of rows {first} and {prediction.row} have different numbers of views. Replace "
                    "the evaluation: `--overwrite`, `overwrite=True`."
                )
        if logits is not None:
            logits[prediction.row] = np.nan if prediction.view_logits is None else prediction.view_logits
    if left:
        raise ValueError(f"{len(left)} of {num_rows} clips have no prediction yet, such as row {min(left)}.")
    if logits is None:
        raise ValueError("None of the videos could be decoded; see the `error` of the predictions.")
    return logits


def refuse_many_scores(num_clips: int, num_views: int, num_labels: int, *, what: str = "labels") -> None:
    """Refuse an evaluation whose scores no memory holds, before a video is read.

    Args:
        num_clips: n videos.
        num_views: V, of each.
        num_labels: K, for each of which a view has a number.
        what: the last ones are.

    Raises:
        ValueError: more than `MOST_SCORES`.
    """
    if (count := num_clips * num_views * num_labels) > MOST_SCORES:
        raise ValueError(
            f"{num_clips:,} videos x {num_views:,} views x {num_labels:,} {what} are {count:,} numbers; at most "
            f"{MOST_SCORES:,} are measured at once. Measure parts of the videos, or take fewer labels or views."
        )


def _stored_header(file: Path) -> dict[str, Any] | None:
    """The header of a predictions file; None when a kill tore it."""
    first = next(bounded_lines(file, _OTHER_BYTES), b"")
    is_cut = not first.endswith(b"\n") and len(first) <= _OTHER_BYTES and not begins_with_json(first)
    if is_cut and may_be_torn(first, _HEADER_BEGIN):
        return None
    try:
        return dict(json.loads(first)["header"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PredictionMismatchError(
            f"{file} does not begin with a header; it is not a file of predictions."
        ) from error


def refuse_mismatch(file: Path, stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse stored predictions whose header is not the current one.

    Raises:
        PredictionMismatchError: names the file and every field that differs.
    """
    stored, current = _flat(stored), _flat(current)
    different = sorted(key for key in {*stored, *current} if stored.get(key) != current.get(key))
    if different:
        told = "; ".join(
            f"{printable(key)}: stored {_short(stored.get(key))}, now {_short(current.get(key))}" for key in different
        )
        raise PredictionMismatchError(
            f"The predictions in {file} were made with other settings ({told}). Choose another output folder, or "
            "replace the evaluation in it: `--overwrite`, `overwrite=True`."
        )


def _short(value: Any) -> str:
    """A value for a message; of hashes the beginning."""
    return repr(value[:12]) if isinstance(value, str) and len(value) == 64 else repr(value)


def _flat(header: Mapping[str, Any]) -> dict[str, Any]:
    """A header with the fields of its inner objects beside its own, so that a message names only what differs."""
    inner = [(key, value) for key, value in header.items() if isinstance(value, Mapping)]
    flat = {key: value for key, value in header.items() if not isinstance(value, Mapping)}
    return {**flat, **{f"{key}.{name}": entry for key, value in inner for name, entry in value.items()}}


def _cut_torn_line(file: Path, most_bytes: int) -> None:
    """Removes what follows the last newline: a line that a kill cut short.

    Args:
        file: the predictions.
        most_bytes: of a line.

    Raises:
        PredictionMismatchError: it is not the beginning of a line of predictions.
    """
    if file.exists():
        with file.open("r+b") as handle:
            begin = handle.seek(max(handle.seek(0, os.SEEK_END) - most_bytes, 0))
            last = handle.read()
            end = begin + last.rfind(b"\n") + 1
            if not may_be_torn(last[end - begin :], _PREDICTION_BEGIN if end else _HEADER_BEGIN):
                raise PredictionMismatchError(
                    f"{file} ends in a line that is not the beginning of a prediction; it would be lost. Choose "
                    "another output folder, or replace the evaluation in it: `--overwrite`, `overwrite=True`."
                )
            handle.truncate(end)


Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Computing:
    """How clips are computed; of no consequence for the result but the last digits.

    Args:
        batch_size: videos computed together (V * C forward passes' worth each), at most: fewer where they have more
            pixels than a model of its size takes.
        num_workers: processes that read videos; with 0, a thread reads the next batch while the model computes.
        precision: precision of the vision tower's computation (autocast); the logits are stored in float32.

    Raises:
        TypeError: a number that is not whole.
        ValueError: a value that cannot be.
    """

    batch_size: int = 8
    num_workers: int = 0
    precision: Precision = "float32"

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("num_workers", 0)):
            whole_number(name, getattr(self, name), least=least)
        if self.precision not in get_args(Precision):
            raise ValueError(f"`precision` is {self.precision!r}; it must be one of {', '.join(get_args(Precision))}.")


def predict(
    model: nn.Module,
    table: Dataset,
    *,
    processor: FrosterProcessor,
    output_dir: str | os.PathLike,
    descriptions: Mapping[str, Any] | None = None,
    text_pooling: str | None = None,
    extra_labels: Sequence[str] = (),
    num_views: int = 3,
    num_crops: int = 1,
    video_options: Mapping[str, Any] | None = None,
    accelerator: Accelerator | None = None,
    **computing: Any,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores every clip of a table against the table's own labels.

    Clips that `output_dir` already has are not computed again.

    Args:
        model: `FrosterForVideoClassification`, or another with its call and a `FrosterModel` as `froster`.
        table: {video, label}; its label texts are the K labels.
        processor: pixels and prompts.
        output_dir: folder of the predictions, shared by all processes.
        descriptions: a sentence by label, or several; None takes the processor's.
        text_pooling: how several are combined, `mean` or `max`; None takes the processor's way.
        extra_labels: scored behind the table's own, such as a background.
        num_views: V windows spread over the video.
        num_crops: C crops per frame.
        video_options: further options of the video processor.
        accelerator: None makes one, which takes the GPU or the processes that `accelerate launch` gives.
        computing: `batch_size`, `num_workers` and `precision`; see [`Computing`].

    Returns:
        View logits (n, V*C, K), NaN where a video could not be decoded, and the header of the predictions with
        `descriptions`, what was said about the labels, in words, or `None`.

    Raises:
        PredictionMismatchError: `output_dir` holds predictions of other weights, data, prompts or settings.
        ValueError: more scores than are held at once, `MOST_SCORES`.
    """
    texts = [*label_names(table), *extra_labels]
    refuse_many_scores(len(table), num_views * num_crops, len(texts))
    text_pooling = processor.text_pooling if text_pooling is None else text_pooling
    warn_of_leaks(processor.iter_prompts(texts, descriptions), table)
    given = processor.label_descriptions if descriptions is None else descriptions
    said = descriptions_in_words(label_names(table), given, text_pooling)
    logits, header = _predict(
        model,
        table,
        processor=processor,
        output_dir=output_dir,
        names=texts,
        embed_texts=partial(processor.embed_labels, texts, descriptions, text_pooling=text_pooling, model=model),
        prompts=prompts_fingerprint(processor, texts, given, text_pooling=text_pooling),
        num_views=num_views,
        num_crops=num_crops,
        video_options=video_options,
        accelerator=accelerator,
        **computing,
    )
    return logits, header | {"descriptions": said}


def embed_videos(
    model: nn.Module, table: Dataset, *, processor: FrosterProcessor, **viewing_and_computing: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """Embeds every clip of a table, so that any texts can be compared with it later.

    Args:
        model: see [`predict`].
        table: {video, label}.
        processor: reads the videos.
        viewing_and_computing: `output_dir`, `num_views`, `num_crops`, `video_options`, `accelerator` and the rest as
            in [`predict`]; clips that `output_dir` already has are not computed again.

    Returns:
        Embeddings (n, V*C, D), as the model compares them with texts, NaN where a video could not be decoded, and the
        header of what is stored.

    Raises:
        PredictionMismatchError: see [`predict`].
    """
    backbone: Any = getattr(model, "froster", model)
    width = backbone.config.projection_dim
    # The unit vectors in the place of texts: what they are scored with are the coordinates, scaled as logits are.
    logits, header = _predict(
        model,
        table,
        processor=processor,
        names=[f"coordinate {index}" for index in range(width)],
        embed_texts=partial(torch.eye, width),
        prompts="coordinates",
        **viewing_and_computing,
    )
    shift = 0.0 if backbone.logit_bias is None else float(backbone.logit_bias.detach())
    return (logits - shift) / float(backbone.logit_scale.detach().exp()), header


def _predict(
    model: nn.Module,
    table: Dataset,
    *,
    processor: FrosterProcessor,
    output_dir: str | os.PathLike,
    names: Sequence[str],
    embed_texts: Callable[[], torch.Tensor],
    prompts: str,
    num_views: int = 3,
    num_crops: int = 1,
    video_options: Mapping[str, Any] | None = None,
    accelerator: Accelerator | None = None,
    **computing: Any,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores every clip against embeddings that are computed where a clip is left to do; see [`predict`]."""
    speed, accelerator = Computing(**computing), accelerator or Accelerator()
    clips = EvaluationClips(
        table,
        video_processor=processor.video_processor,
        num_views=num_views,
        num_crops=num_crops,
        video_options=video_options,
    )
    backbone: Any = getattr(model, "froster", model)
    costs = backbone.config.costs(clips.frames_per_video // clips.num_clips)
    clips.check_for_model(backbone.config, num_clips=clips.num_clips)
    batch_size = min(speed.batch_size, costs.videos_at_once(clips.num_clips))
    number_bytes = getattr(torch, speed.precision).itemsize
    clips.refuse_beyond_memory(
        batch_size=batch_size,
        # A thread reads one batch ahead, each worker two.
        num_batches=1 + (2 * speed.num_workers or 1),
        model_bytes=forward_bytes(
            backbone.config,
            num_frames=clips.frames_per_video // clips.num_clips,
            num_clips=min(batch_size, len(table)) * clips.num_clips,
            number_bytes=number_bytes,
        )
        if accelerator.device.type == "cpu"
        else 0,
        advice="Lower the frames, views or crops, or compute fewer videos at once (`batch_size`, --batch-size).",
    )
    header = {
        "model": model_fingerprint(model),
        "architecture": architecture_of(model),
        "data": table_fingerprint(table),
        "prompts": prompts,
        "video_options": pixel_options({**processor.video_processor.to_dict(), **clips.options}),
        "batch_size": batch_size,
        "precision": speed.precision,
        "num_clips": len(table),
    }
    store = PredictionStore(
        output_dir,
        header=header,
        label_texts=names,
        num_clips=len(table),
        num_views=clips.num_clips,
        process_index=accelerator.process_index,
    )
    # One process looks at what is there and tells the others: another may have begun to write while one still reads.
    batches = in_main_process(lambda: _remaining_batches(len(table), batch_size, done={p.row for p in store.read()}))
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    if mine:
        # Ours and not `accelerator.prepare`d: that would deal the batches out once more, and pad them with
        # repetitions.
        check_queues_of_workers(speed.num_workers)
        loader = DataLoader(clips, batch_sampler=mine, collate_fn=collate_clips, num_workers=speed.num_workers)
        _predict_batches(model, loader, mine, embed_texts, store, speed.precision, accelerator)
    accelerator.wait_for_everyone()
    return stack_view_logits(store.read(), num_rows=len(table)), store.header


def _remaining_batches(num_clips: int, batch_size: int, *, done: set[int]) -> list[list[int]]:
    batches = [list(range(start, min(start + batch_size, num_clips))) for start in range(0, num_clips, batch_size)]
    return [batch for batch in batches if not done.issuperset(batch)]


def _predict_batches(
    model: nn.Module,
    loader: DataLoader,
    batches: list[list[int]],
    embed_texts: Callable[[], torch.Tensor],
    store: PredictionStore,
    precision: Precision,
    accelerator: Accelerator,
) -> None:
    device = accelerator.device
    was_training = model.training
    # Outside of inference mode: parameters that are moved in it could not be trained any more.
    model = model.to(device).eval()
    progress = tqdm(
        total=sum(map(len, batches)), unit="video", disable=None if accelerator.is_local_main_process else True
    )
    try:
        with torch.inference_mode():
            text_embeds = embed_texts().to(device)
        with torch.inference_mode(), store, progress:
            # Workers read ahead by themselves; without any, a thread does.
            for rows, batch in zip(batches, loader if loader.num_workers else take_ahead(loader, 1)):
                pixels = batch["pixel_values_videos"].to(device, non_blocking=True)
                with torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32"):
                    logits = model(pixel_values_videos=pixels, text_embeds=text_embeds).logits
                view_logits = logits.float().unflatten(0, (len(rows), -1)).cpu().numpy()
                failures = {failure.row: failure.reason for failure in batch["decode_failures"]}
                for row, reason in failures.items():
                    logger.warning("Clip %d cannot be decoded and counts as wrong: %s", row, reason)
                store.append(
                    [
                        ClipPrediction(row, name, None if row in failures else own_logits, failures.get(row))
                        for row, name, own_logits in zip(rows, batch["video_names"], view_logits)
                    ]
                )
                progress.update(len(rows))
    finally:
        model.train(was_training)


def descriptions_in_words(
    labels: Sequence[str], descriptions: Mapping[str, Any] | None, text_pooling: str
) -> str | None:
    """What is said about the labels beyond their names; `None` where nothing is.

    >>> descriptions_in_words(["golf", "yoga"], {"golf": "a ball is hit", "yoga": None}, "mean")
    'sentences about 1 of 2 labels'
    >>> descriptions_in_words(["golf"], {"golf": ["a ball is hit", "a club is swung"]}, "max")
    'sentences about 1 of 1 labels, up to 2 each, combined by max'
    """
    counts = [len(sentences_of(text)) for _, text in pair_with_descriptions(labels, descriptions) if text]
    if not counts:
        return None
    several = f", up to {max(counts)} each, combined by {text_pooling}" if max(counts) > 1 else ""
    return f"sentences about {len(counts)} of {len(labels)} labels{several}"


def prompts_fingerprint(
    processor: FrosterProcessor,
    label_texts: list[str],
    descriptions: Mapping[str, Any] | None = None,
    *,
    text_pooling: str = "mean",
) -> str:
    """SHA-256 over the label texts, the token ids of their prompts, and how several sentences are combined.

    The tokens are those of `FrosterProcessor.encode_sentences`, padded to the longest prompt of all, chunk by chunk.

    Args:
        processor: writes the prompts.
        label_texts: K labels.
        descriptions: a sentence by label, or several.
        text_pooling: of several sentences per label.
    """
    shapes = [tokens.shape for tokens in processor.iter_tokens(label_texts, descriptions)]
    length = max(shape[1] for shape in shapes)
    counts = [len(sentences_of(texts)) for _, texts in pair_with_descriptions(label_texts, descriptions)]
    digest = hashlib.sha256("\n".join(label_texts).encode())
    digest.update(str(sum(shape[0] for shape in shapes) // sum(counts)).encode())
    if len(counts) < sum(counts):
        digest.update(f"{text_pooling} of {counts}".encode())
    for tokens in processor.iter_tokens(label_texts, descriptions):
        digest.update(processor.pad_tokens(tokens, length).to(torch.int64).contiguous().numpy().tobytes())
    return digest.hexdigest()
