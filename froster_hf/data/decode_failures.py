"""What became of videos that could not be decoded: counted, named, and a stop when there are too many.

A failure travels with the sample that met it: worker -> sample["decode_failures"] -> `collate_clips` -> the training
loop, which hands it to a `DecodeFailureLog`. So the count at a step is the same whatever the number of workers and
however far they read ahead. Each process appends to a file of its own, and all read all files of the run's folder: a
restarted or another rank's count goes on where it was, without a lock.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)


class DecodeFailure(NamedTuple):
    """A video that could not be decoded: its row in the data set, its name, and why."""

    row: int
    video: str
    reason: str


class TooManyDecodeFailures(RuntimeError):
    """More videos than allowed could not be decoded; the message lists them."""


class DecodeFailureLog:
    """Counts distinct undecodable videos of a run and stops it above a share.

    Args:
        folder: the run's folder; files `decode_failures.*.jsonl` in it are read and written.
        num_videos: size of the data set, the share's denominator.
        max_share: largest share of the data set that may fail.
        rank: of this process; names its file.
    """

    def __init__(self, folder: str | os.PathLike, *, num_videos: int, max_share: float = 0.05, rank: int = 0):
        if not 0 <= max_share <= 1 or num_videos < 1:
            raise ValueError(f"max_share={max_share} must lie in [0, 1] and num_videos={num_videos} be at least 1.")
        self.folder, self.num_videos, self.max_share = Path(folder), num_videos, max_share
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / f"decode_failures.{rank}.jsonl"
        self.failures = read_decode_failures(self.folder)

    def __len__(self) -> int:
        """Number of distinct videos that failed, in all processes of the run as far as this one has read."""
        return len(self.failures)

    def record(self, failures: Iterable[DecodeFailure]) -> None:
        """Logs and stores failures not seen before.

        Raises:
            TooManyDecodeFailures: more than `max_share` of the videos have failed.
        """
        new = {failure.row: failure for failure in failures if failure.row not in self.failures}
        if not new:
            return
        with self._file.open("a", encoding="utf-8") as file:
            # A line of its own first: a process killed within a line must not spoil the next one's record.
            file.write("".join(f"\n{json.dumps(failure._asdict())}" for failure in new.values()) + "\n")
        for failure in new.values():
            logger.warning("Cannot decode video %d, %s: %s", *failure)
        self.failures = {**read_decode_failures(self.folder), **new}
        if len(self) > self.max_share * self.num_videos:
            listed = "\n".join(f"  {failure.video}: {failure.reason}" for failure in self.failures.values())
            raise TooManyDecodeFailures(
                f"{len(self)} of {self.num_videos} videos cannot be decoded, more than the allowed share of "
                f"{self.max_share}. "
                f"Mend or leave out these, or raise the share:\n{listed}"
            )


def read_decode_failures(folder: str | os.PathLike) -> dict[int, DecodeFailure]:
    """Distinct failures of a run by row, from every process's file; torn lines are passed over."""
    failures: dict[int, DecodeFailure] = {}
    for file in sorted(Path(folder).glob("decode_failures.*.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                failures[int(entry["row"])] = DecodeFailure(
                    int(entry["row"]), str(entry["video"]), str(entry["reason"])
                )
            except (ValueError, KeyError, TypeError):
                continue
    return dict(sorted(failures.items()))
