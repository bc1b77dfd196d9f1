"""What became of videos that could not be decoded: counted, named, and a stop when there are too many.

A failure travels with the sample that met it: worker -> sample["decode_failures"] -> `collate_clips` -> the training
loop, which hands it to a `DecodeFailureLog`. So the count at a step is the same whatever the number of workers and
however far they read ahead. Each process appends to a file of its own, and all read all files of the run's folder: a
restarted or another rank's count goes on where it was, without a lock. What an earlier start has left counts only
where the row still names the same video and its file has not changed: mended videos and other data sets are not held
against a run.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from ..printing import get_logger, one_line, printable
from ..video.files import path_state
from ..video.source import source_name
from ..whole_files import bounded_lines, full_disk_named, make_folder, refuse_irregular, refuse_other_names

logger = get_logger(__name__)


_FILES = "decode_failures.*.jsonl"
MAX_LISTED = 20
# Of all files of a run; hundreds of thousands of failures. Each is held.
MAX_BYTES, MAX_LINES = 2**27, 2**20
MAX_LINE_BYTES = 2**20


class DecodeFailure(NamedTuple):
    """A video that could not be decoded: its row in the data set, its name as it is shown, why, and its `video_state`
    then."""

    row: int
    video: str
    reason: str
    state: str = ""

    def __str__(self) -> str:
        """Name and reason, for people: both may come from hostile files."""
        return f"{printable(self.video)}: {one_line(self.reason)}"


def video_state(video: Any) -> str:
    """What changes when a video is mended: `path_state`, or a hash of its bytes.

    Of an address that is not shown whole, a hash of all of it, which tells it from those that are shown alike.

    Args:
        video: a row of a video column, {"path", "bytes"}, or a path.
    """
    if isinstance(video, Mapping):
        if video.get("bytes") is not None:
            return blake2b(video["bytes"], digest_size=16).hexdigest()
        video = video.get("path")
    if isinstance(video, str) and source_name(video) != video:
        return blake2b(video.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return path_state(video)


class TooManyDecodeFailures(RuntimeError):
    """More videos than allowed could not be decoded; the message lists them."""


class DecodeFailureLog:
    """Counts distinct undecodable videos of a run and stops it above a share.

    Args:
        folder: the run's folder; files `decode_failures.*.jsonl` in it are read and written.
        num_videos: size of the data set, the share's denominator.
        max_share: largest share of the data set that may fail.
        rank: rank of this process; names its file.
        is_current: whether a failure that an earlier start has left still holds, such as `TrainingClips.is_current`;
            None takes all of them to hold.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        num_videos: int,
        max_share: float = 0.05,
        rank: int = 0,
        is_current: Callable[[DecodeFailure], bool] | None = None,
    ):
        if not 0 <= max_share <= 1 or num_videos < 1:
            raise ValueError(f"max_share={max_share} must lie in [0, 1] and num_videos={num_videos} be at least 1.")
        self.folder, self.num_videos, self.max_share = Path(folder), num_videos, max_share
        make_folder(self.folder)
        self._file = self.folder / f"decode_failures.{rank}.jsonl"
        refuse_irregular(self._file)
        refuse_other_names(self._file)
        holds = is_current or (lambda _: True)
        # What has been read of each file: each failure would be read again with every one that follows.
        self._places: dict[Path, _Place] = {}
        self._outdated: set[DecodeFailure] = set()
        self.failures: dict[int, DecodeFailure] = {}
        for entry in _read_entries(self.folder, self._places):
            if holds(entry):
                self.failures[entry.row] = entry
            else:
                self._outdated.add(entry)

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
        with full_disk_named(self._file), self._file.open("a", encoding="utf-8") as file:
            # A line of its own first: a process killed within a line must not spoil the next one's record.
            file.write("".join(f"\n{json.dumps(failure._asdict())}" for failure in new.values()) + "\n")
        for failure in new.values():
            logger.warning("Cannot decode video %d, %s", failure.row, failure)
        others = _read_entries(self.folder, self._places)
        self.failures.update((entry.row, entry) for entry in others if entry not in self._outdated)
        self.failures.update(new)
        if len(self) > self.max_share * self.num_videos:
            listed = "\n".join(f"  {failure}" for _, failure in sorted(self.failures.items())[:MAX_LISTED])
            raise TooManyDecodeFailures(
                f"{len(self)} of {self.num_videos} videos cannot be decoded, more than the allowed share of "
                f"{self.max_share} (max_undecodable_share). Mend or leave out these, or raise the share. All are in "
                f"{self.folder}/{_FILES}; if a disk or network failed for a while, delete these files, and the count "
                f"starts again:\n{listed}"
            )


class _Place(NamedTuple):
    """How much of a file has been read."""

    num_bytes: int = 0
    num_lines: int = 0


def read_decode_failures(folder: str | os.PathLike) -> dict[int, DecodeFailure]:
    """Distinct failures of a run by row, from every process's file; torn lines are passed over."""
    return dict(sorted((entry.row, entry) for entry in _read_entries(folder, {})))


def _read_entries(folder: str | os.PathLike, places: dict[Path, _Place]) -> Iterator[DecodeFailure]:
    """The entries behind the places, which move on behind all lines that have an end."""
    num_bytes = num_lines = 0
    for file in sorted(Path(folder).glob(_FILES)):
        refuse_irregular(file)
        begin = places.get(file, _Place())
        before = _Place(num_bytes, num_lines)
        num_bytes, num_lines = num_bytes + begin.num_bytes, num_lines + begin.num_lines
        for line in bounded_lines(file, MAX_LINE_BYTES, start=begin.num_bytes):
            num_bytes, num_lines = num_bytes + len(line), num_lines + 1
            # Another process may be about to write the rest.
            if line.endswith(b"\n") or len(line) > MAX_LINE_BYTES:
                places[file] = _Place(num_bytes - before.num_bytes, num_lines - before.num_lines)
            if num_bytes > MAX_BYTES or num_lines > MAX_LINES:
                raise ValueError(
                    f"{printable(str(file))} and the files of failures before it have more than {MAX_BYTES:,} bytes "
                    f"or {MAX_LINES:,} lines. Delete them; the count starts again."
                )
            try:
                entry = DecodeFailure(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue
            if list(map(type, entry)) == [int, str, str, str]:
                yield entry
