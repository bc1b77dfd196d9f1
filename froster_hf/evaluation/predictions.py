"""Predictions on disk: appended clip by clip, so that an evaluation that was killed goes on where it was.

    predictions.0.jsonl   {"header": {"model": ..., "data": ..., "prompts": ..., "protocol": {...}}}
                          {"row": 0, "video": "...", "top": [["juggling", 0.91], ...], "logits": "<base64>"}
                          ...

One file a process. `logits` are (V*C, K) little-endian float32 in base64: exact, so that every protocol, ensemble and
view count is computed from the file afterwards. A clip that could not be decoded has `logits` null and an `error`.
"""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..whole_files import make_folder
from .metrics import average_views


class PredictionMismatchError(ValueError):
    """Stored predictions belong to other weights, data, labels or settings than the evaluation that would go on."""


@dataclass(frozen=True)
class ClipPrediction:
    """What a model said of one clip.

    Args:
        row: of the table.
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
        process_index: of this process; names its file.

    Raises:
        PredictionMismatchError: the folder holds predictions with another header; names what differs.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        header: Mapping[str, Any],
        label_texts: Sequence[str],
        process_index: int = 0,
    ):
        self.folder, self.label_texts = Path(folder), list(label_texts)
        # As JSON will give it back: tuples are lists there, and enumerations text.
        self.header = json.loads(json.dumps(header, default=str))
        make_folder(self.folder)
        self._file = self.folder / f"predictions.{process_index}.jsonl"
        for file in self._files():
            if (stored := _stored_header(file)) is not None:
                _refuse_mismatch(file, stored, self.header)

    def __enter__(self) -> "PredictionStore":
        if self._file.is_symlink():
            raise ValueError(f"{self._file} is a link; predictions are not written behind one. Remove it.")
        _cut_torn_line(self._file)
        self._handle = self._file.open("a", encoding="utf-8")
        if self._file.stat().st_size == 0:
            self._handle.write(json.dumps({"header": self.header}) + "\n")
            self._handle.flush()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._handle.close()

    def append(self, predictions: Sequence[ClipPrediction]) -> None:
        """Writes a batch's predictions at once."""
        self._handle.write("".join(json.dumps(self._line(prediction)) + "\n" for prediction in predictions))
        self._handle.flush()

    def read(self) -> dict[int, ClipPrediction]:
        """All complete predictions of all processes, by row."""
        predictions: dict[int, ClipPrediction] = {}
        for file in self._files():
            for line in file.read_bytes().split(b"\n"):
                try:
                    entry = json.loads(line)
                except ValueError:  # torn by a kill, or empty
                    continue
                if "row" in entry:
                    predictions[entry["row"]] = self._prediction(entry)
        return dict(sorted(predictions.items()))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("predictions.*.jsonl"))

    def _line(self, prediction: ClipPrediction) -> dict[str, Any]:
        line: dict[str, Any] = {"row": prediction.row, "video": prediction.video, "error": prediction.error}
        if prediction.view_logits is None:
            return {**line, "top": [], "logits": None}
        logits = np.ascontiguousarray(prediction.view_logits, dtype="<f4")
        scores = average_views(logits)
        best = np.argsort(-scores, kind="stable")[:5]
        line["top"] = [[self.label_texts[index], round(float(scores[index]), 4)] for index in best]
        return {**line, "logits": base64.b64encode(logits.tobytes()).decode()}

    def _prediction(self, entry: Mapping[str, Any]) -> ClipPrediction:
        logits = None
        if entry["logits"] is not None:
            flat = np.frombuffer(base64.b64decode(entry["logits"]), dtype="<f4")
            logits = flat.reshape(-1, len(self.label_texts)).astype(np.float32)
        return ClipPrediction(entry["row"], entry["video"], logits, entry["error"])


def stack_view_logits(predictions: Mapping[int, ClipPrediction], *, num_rows: int) -> np.ndarray:
    """View logits of a whole table, (num_rows, V*C, K); NaN where a video could not be decoded.

    Raises:
        ValueError: a row has no prediction, or none could be decoded.
    """
    if missing := sorted(set(range(num_rows)) - set(predictions)):
        raise ValueError(f"{len(missing)} of {num_rows} clips have no prediction yet, such as row {missing[0]}.")
    shape = next((p.view_logits.shape for p in predictions.values() if p.view_logits is not None), None)
    if shape is None:
        raise ValueError("None of the videos could be decoded; see the `error` of the predictions.")
    logits = np.full((num_rows, *shape), np.nan, dtype=np.float32)
    for row, prediction in predictions.items():
        if prediction.view_logits is not None:
            logits[row] = prediction.view_logits
    return logits


def _stored_header(file: Path) -> dict[str, Any] | None:
    """The header of a predictions file; None when a kill tore it."""
    with file.open("rb") as handle:
        first = handle.readline()
    if not first.endswith(b"\n"):
        return None
    try:
        return json.loads(first)["header"]
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionMismatchError(
            f"{file} does not begin with a header; it is not a file of predictions."
        ) from error


def _refuse_mismatch(file: Path, stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    stored, current = _flat(stored), _flat(current)
    different = sorted(key for key in {*stored, *current} if stored.get(key) != current.get(key))
    if different:
        told = "; ".join(
            f"{key}: stored {_short(stored.get(key))}, now {_short(current.get(key))}" for key in different
        )
        raise PredictionMismatchError(
            f"The predictions in {file} were made with other settings ({told}). Choose another output folder, or "
            "replace the evaluation in it: `--overwrite`, `overwrite=True`."
        )


def _short(value: Any) -> str:
    """A value for a message; of hashes the beginning."""
    return repr(value[:12]) if isinstance(value, str) and len(value) == 64 else repr(value)


def _flat(header: Mapping[str, Any]) -> dict[str, Any]:
    """A header with the fields of its inner objects beside its own, so that only what differs is told."""
    inner = [(key, value) for key, value in header.items() if isinstance(value, Mapping)]
    flat = {key: value for key, value in header.items() if not isinstance(value, Mapping)}
    return {**flat, **{f"{key}.{name}": entry for key, value in inner for name, entry in value.items()}}


def _cut_torn_line(file: Path) -> None:
    """Removes what follows the last newline: a line that a kill cut short."""
    if file.exists():
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with file.open("r+b") as handle:
                handle.truncate(whole)
