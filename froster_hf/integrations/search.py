"""Find me more like this: an index of the segments of many videos, searched by words, by a clip, or by both.

    videos --overlapping windows--> embeddings (n, D) of unit length --> one table of LanceDB, in a folder or a bucket
    words, clip --> embedding (D,) of unit length --> the segments with the highest cosine, overlapping ones once

A row of the table is a segment: the video's path and state (size and time of change), start and end, embedding, and a
small picture. All rows of a video come with one commit, so a run that is killed leaves whole videos, and the next one
goes on with the others. What the table remembers of the model: its name, a hash of its weights, and what model and
processor make of one fixed clip. Searching compares all segments, not an approximation.

Needs the extra `search`.
"""

import errno
import io
import json
import os
import re
import stat
import sys
import tempfile
import time
import weakref
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from itertools import chain, islice
from typing import Any

import torch
from PIL import Image
from torch.nn import functional
from transformers.utils.logging import tqdm

from ..checkpoint_loading import SHIPPED_CHECKPOINTS, load_pipeline
from ..extras import import_extra
from ..fingerprints import model_fingerprint
from ..pipeline.pipeline_froster import NUM_READING_THREADS, ReadingThreads, take_ahead
from ..pipeline.scoring_froster import check_finite, weights_state, whole_number
from ..pipeline.timeline_froster import MOST_WINDOW_FRAMES, WINDOW_OPTIONS, WindowStream, plan_windows
from ..printing import one_line, printable
from ..settings import read_fields
from ..video.files import UNREADABLE, search_folder
from ..video.source import source_name, split_policy
from ..video.stores import find_videos_at, is_address, is_named, open_store, reading_from, refuse_unnamed
from ..video.types import DecodingUnavailableError, UnreadableVideoError, VideoDecodeError
from ..whole_files import check_writable, one_at_a_time, refuse_links_within
from .batches import embed_clips
from .lance_places import refuse_other_places, table_bytes

TABLE = "segments"
METADATA_KEY = b"froster"
DEFAULT_WINDOW_SECONDS, DEFAULT_STRIDE_SECONDS = 4.0, 2.0
# A kill costs at most what came after the last commit; each commit is a version of the table and some files.
ROWS_PER_COMMIT = 2000
SECONDS_PER_COMMIT = 20.0
# Until then rows wait in memory, and of a long video, which has as many as it is long, beyond this on the disk.
MOST_WAITING_BYTES = 2**26
ROWS_PER_WRITE = 256
# Old versions of the table stay this long, for searches that are under way.
KEPT_VERSIONS = timedelta(hours=1)
# An open index sees within this time what another process has written.
SEEN_WITHIN = timedelta(seconds=5)
PICTURE_SIZE = (256, 144)
# Of two models that embed the fixed clip with a lower cosine than this, one is another model.
LEAST_COSINE = 0.999
# Numbers of a stranger's index that no index of this package has are refused before anything is computed.
MOST_FRAMES, MOST_DIMENSIONS = 1024, 16384
MOST_SETTINGS_BYTES = 2**20
# A cosine of rounded unit vectors.
HIGHEST_COSINE = 1.001
LATEST_SECONDS = 1e9
VIDEOS_PER_DELETION = 500
LIKE_BATCH_SIZE = 8
# Of each column's values, and of what is read at once before their sizes are known. A picture is the JPEG of 256 x 144
# pixels; a name is a path, or an address with its signature.
MOST_VALUE_BYTES = {"video": 2**13, "state": 2**10, "picture": 2**18}
ROWS_PER_READ = 64
# All names of an index are held at once.
MOST_NAME_BYTES = 2**29
# How often a video may stand in an index.
MOST_COPIES = 8
TIMES = ["start_seconds", "end_seconds"]
FOUND_COLUMNS = ["video", *TIMES, "picture"]


class SearchIndexError(ValueError):
    """An index cannot be used: there is none, it is damaged, or it is of another model or other windows."""


@dataclass(frozen=True)
class IndexSettings:
    """What all segments of an index have in common.

    Args:
        model: name of the checkpoint.
        weights: hash of its weights.
        probe: (D,), its embedding of the fixed clip.
        window_seconds: length of a segment.
        stride_seconds: from one segment's start to the next.
        num_frames: T, frames of a segment.
    """

    model: str
    weights: str
    probe: list[float]
    window_seconds: float
    stride_seconds: float
    num_frames: int


@dataclass
class IndexReport:
    """What a run of `index_videos` did.

    Attributes:
        new: videos that were not in the index before.
        changed: videos whose files had changed.
        gone: videos whose files are no longer there; they have left the index.
        unchanged: videos that were in the index already.
        errors: by video, why it could not be read.
        num_videos: videos in the index now.
        num_segments: segments in the index now.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    num_videos: int = 0
    num_segments: int = 0


@dataclass(frozen=True)
class FoundSegment:
    """A segment of a video that a search found.

    Args:
        video: path or address of the video.
        start_seconds: where it begins, on a player's clock.
        end_seconds: where it ends.
        score: cosine of its embedding and the query's, from -1 to 1; comparable within one search.
        picture: its middle frame, JPEG.
    """

    video: str
    start_seconds: float
    end_seconds: float
    score: float
    picture: bytes = field(repr=False, default=b"")


class VideoIndex:
    """An index that is there; [`open_index`] opens it.

    Args:
        path: folder or address.
        table: of LanceDB.
        settings: what its segments have in common.
    """

    def __init__(self, path: str, table: Any, settings: IndexSettings):
        self.path, self.table, self.settings = path, table, settings
        # The model that was checked last, with what its embeddings depend on.
        self._checked: tuple[weakref.ref, Any] | None = None

    def __len__(self) -> int:
        """Segments."""
        with _lance_reading(self.path):
            return self.table.count_rows()

    def states(self) -> dict[str, str]:
        """The videos of the index, each with the state of its file when it was read."""
        states: dict[str, str] = {}
        num_bytes = 0
        for row in self._read(self.table.search().select(["video", "state"]).to_batches, ROWS_PER_READ):
            if row["video"] not in states:
                self._check_name(row["video"])
                # A character may take four bytes, and does not in UTF-8.
                num_bytes += sys.getsizeof(row["video"]) + sys.getsizeof(row["state"])
                self.check_names(num_bytes)
            # Two runs at once may have read a file before and after a change: then it is neither, and is read again.
            if states.setdefault(row["video"], row["state"]) != row["state"]:
                states[row["video"]] = ""
        return states

    def check_names(self, num_bytes: int) -> None:
        """Refuse an index whose videos' names and states, or what is held of segments at once, are too many.

        Args:
            num_bytes: of all of them.

        Raises:
            SearchIndexError: more than `MOST_NAME_BYTES`.
        """
        if num_bytes > MOST_NAME_BYTES:
            raise SearchIndexError(
                f"{printable(self.path)}: the names of its videos have more than {MOST_NAME_BYTES} bytes. Make "
                "several indexes."
            )

    def _read(self, to_batches: Callable[..., Any], *arguments: Any) -> Iterator[dict[str, Any]]:
        """The rows of a query of LanceDB, which stores equal values once: a small file can hold very large ones.

        Args:
            to_batches: method of the query, called with the arguments.

        Raises:
            SearchIndexError: the index is damaged, or has values that no index has.
        """
        with _lance_reading(self.path):
            batches = iter(to_batches(*arguments))
        while True:
            with _lance_reading(self.path):
                batch = next(batches, None)
            if batch is None:
                return
            for name, most in MOST_VALUE_BYTES.items():
                if name in batch.schema.names and (found := _longest(batch[name])) > most:
                    raise SearchIndexError(
                        f"{printable(self.path)} is damaged: a segment has a {name} of {found} bytes; none has more "
                        f"than {most}. Make the index again."
                    )
            yield from batch.to_pylist()

    def _with_columns(self, rows: Sequence[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
        """Rows with more columns; without those that are no longer there."""
        more: dict[int, dict[str, Any]] = {}
        # Many rows have one name.
        known: dict[Any, Any] = {}
        num_bytes = 0
        for start in range(0, len(rows), ROWS_PER_READ):
            ids = [row["_rowid"] for row in rows[start : start + ROWS_PER_READ]]
            query = self.table.take_row_ids(ids).select(columns).with_row_id()
            for row in self._read(query.to_batches):
                num_bytes += sum(sys.getsizeof(value) for value in row.values() if value not in known)
                self.check_names(num_bytes)
                more[row["_rowid"]] = {name: known.setdefault(value, value) for name, value in row.items()}
        return [row | more[row["_rowid"]] for row in rows if row["_rowid"] in more]

    def check_model(self, classify: Any) -> None:
        """Refuse a model whose embeddings are not to be compared with those of the index.

        The model that was checked last is not checked again, unless it or its processor has been changed since.

        Raises:
            SearchIndexError: the pipeline's model has other weights, or makes something else of a clip.
        """
        state = weights_state(classify.model), classify.processor.video_processor.to_json_string()
        if self._checked is not None and (self._checked[0](), self._checked[1]) == (classify.model, state):
            return
        weights = _fingerprint(classify)
        if weights != self.settings.weights or not self._embeds_alike(classify):
            raise SearchIndexError(
                f"{printable(self.path)} was made with the model {printable(self.settings.model)} (weights "
                f"{printable(self.settings.weights[:8])}), and this is {printable(model_name(classify))} "
                f"({weights[:8]}), or one that is set up otherwise; their embeddings cannot be compared. Use the "
                "index's model, or make another index."
            )
        self._checked = weakref.ref(classify.model), state

    def _embeds_alike(self, classify: Any) -> bool:
        probe = embed_probe(classify, self.settings.num_frames)
        own = torch.tensor(self.settings.probe, dtype=probe.dtype)
        return probe.shape == own.shape and float(probe @ own) >= LEAST_COSINE

    def _open_again(self) -> None:
        """Hold what another process may have written since to what is checked of an index."""
        now = open_index(self.path)
        if now.settings != self.settings:
            raise SearchIndexError(
                f"{printable(self.path)} has been made again since it was opened. Open it again, with the model that "
                "it is of now."
            )
        self.table = now.table

    def nearest(self, query: torch.Tensor, *, top_k: int = 10) -> list[FoundSegment]:
        """The segments whose embeddings have the highest cosine with a query, best first.

        Of segments of a video that overlap, only the best is given.

        Args:
            query: (D,), of unit length.
            top_k: how many.

        Raises:
            SearchIndexError: the index is damaged, or has been made again with other settings.
            TypeError: `top_k` is not a whole number.
            ValueError: it is less than 1.
        """
        self._open_again()
        # LanceDB counts to 2**32, and no index has more than its own.
        top_k = min(whole_number("top_k", top_k, least=1), max(len(self), 1))
        # A segment overlaps as many on each side as there are strides in a window, and the last one of its video; and
        # as many again where two runs have read a video at the same time.
        number = top_k * (3 + 2 * int(self.settings.window_seconds / self.settings.stride_seconds))
        limit = MOST_COPIES * number
        while number <= limit:
            version, num_segments = self.version, len(self)
            search = self.table.search(query.numpy(), vector_column_name="embedding").distance_type("dot")
            # All are compared, also where the table has got an index of its own since it was opened.
            search = search.bypass_vector_index().select([*TIMES, "_distance"]).with_row_id(True).limit(number)
            found = list(self._read(search.to_batches, ROWS_PER_READ))
            rows = self._with_columns(found, ["video"])
            for row in rows:
                self._check_row(row)
            # Of equal ones, in an order that does not depend on how the table lies on the disk.
            rows.sort(key=lambda row: (row["_distance"], row["video"], row["start_seconds"]))
            best = self._with_columns(list(islice(_apart(rows), top_k)), ["picture"])
            if version != self.version:
                # The numbers of rows are those of one version, and another process has written one.
                continue
            if num_segments and not found:
                # LanceDB passes over embeddings that are not numbers.
                raise SearchIndexError(
                    f"{printable(self.path)} is damaged: none of its {num_segments} segments has an embedding that "
                    "can be compared. Make the index again."
                )
            if len(best) >= top_k or len(found) < number:
                return [
                    FoundSegment(score=1.0 - row["_distance"], **{name: row[name] for name in FOUND_COLUMNS})
                    for row in best
                ]
            number *= 2
        raise SearchIndexError(
            f"{printable(self.path)} is damaged: more segments of a video lie at the same time than its windows "
            "overlap. Make the index again."
        )

    @property
    def version(self) -> int:
        """The number of the table's version that is read now."""
        with _lance_reading(self.path):
            return self.table.version

    def _check_name(self, video: str) -> None:
        """Refuse a name that no file has."""
        if "\0" in video or not video:
            raise SearchIndexError(
                f"{printable(self.path)} is damaged: a segment is of the video {printable(video)!r}, which is not the "
                "name of a file. Make the index again."
            )

    def _check_row(self, row: Mapping[str, Any]) -> None:
        self._check_name(row["video"])
        times = row["start_seconds"], row["end_seconds"]
        if not (0 <= times[0] <= times[1] <= LATEST_SECONDS and abs(1 - row["_distance"]) <= HIGHEST_COSINE):
            raise SearchIndexError(
                f"{printable(self.path)} is damaged: a segment of {printable(row['video'])} is at {times[0]:g} to "
                f"{times[1]:g} seconds, with a cosine of {1 - row['_distance']:g}. Make the index again."
            )


@contextmanager
def _lance_reading(path: str) -> Iterator[None]:
    """Make whatever LanceDB raises for an index that it cannot read one line that names the index.

    Its own messages quote the index's files and name lines of its code; the machine's part of them is kept, and of a
    store all, which may tell of the network or of credentials.
    """
    try:
        yield
    except Exception as error:
        if (reason := _machine_reason(path, error)) is not None:
            raise SearchIndexError(f"{printable(path)} cannot be read: {reason}.") from error
        raise SearchIndexError(
            f"{printable(path)} is damaged, or not an index. Make the index again in another place."
        ) from error


@contextmanager
def _lance_writing(path: str) -> Iterator[None]:
    """Make whatever LanceDB raises for an index that it cannot write one line that names the index."""
    try:
        yield
    except Exception as error:
        reason = _machine_reason(path, error) or "its files are not as they were"
        raise OSError(f"{printable(path)} cannot be written: {reason}.") from error


@contextmanager
def _torn_writes_undone(index: "VideoIndex") -> Iterator[None]:
    """Go back to the table as it is now where what is written into it cannot be read.

    LanceDB commits a file that a limit of the size of files (`ulimit -f`) has cut off, and finds out when it reads.
    """
    before = index.version
    try:
        yield
    except (OSError, SearchIndexError) as error:
        try:
            index.states()
        except SearchIndexError:
            with _lance_writing(index.path):
                index.table.restore(before)
            raise OSError(
                f"{printable(index.path)} cannot be written: a file was cut off, as by a limit of the size of files. "
                "The index is as it was."
            ) from error
        raise


def _machine_reason(path: str, error: Exception) -> str | None:
    """What the system or a store has said to LanceDB; `None` where it has found fault with the files."""
    if is_address(path):
        return one_line(f"{type(error).__name__}: {error}", limit=200)
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None or int(found[1]) == errno.ENOENT:
        return None
    return os.strerror(int(found[1]))


def open_index(path: str | os.PathLike[str]) -> VideoIndex:
    """An index that [`index_videos`] has made.

    Args:
        path: folder, or address of a bucket (`s3://bucket/index`).

    Raises:
        SearchIndexError: there is none.
        ImportError: LanceDB is not installed.
    """
    index = find_index(path)
    if index is None:
        raise SearchIndexError(
            f"There is no index at {printable(os.fspath(path))}. Make one: froster index VIDEOS --output "
            f"{printable(os.fspath(path))}"
        )
    return index


def find_index(path: str | os.PathLike[str]) -> VideoIndex | None:
    """As [`open_index`]; `None` where there is no index yet.

    Raises:
        SearchIndexError: there is something else.
    """
    path = _place(path)
    lancedb = import_extra("search")
    if not is_address(path):
        if not os.path.lexists(path):
            return None
        if not os.path.isdir(path):
            raise SearchIndexError(f"{printable(path)} is a file; an index is a folder.")
        try:
            # LanceDB follows links, also when it deletes; and it waits for a pipe without end.
            refuse_links_within(path)
        except ValueError as error:
            raise SearchIndexError(str(error)) from error
        if not os.path.isdir(os.path.join(path, f"{TABLE}.lance")):
            if os.listdir(path):
                raise SearchIndexError(
                    f"{printable(path)} is a folder of something else, not an index. Give another one."
                )
            return None
    is_checked = _check_places(path)
    if not is_checked and not is_address(path):
        # Another run is about to make it, or one that a full disk or a kill has ended was.
        return None
    with _lance_reading(path):
        database = lancedb.connect(path, read_consistency_interval=SEEN_WITHIN)
        if TABLE not in database.list_tables().tables:
            return None
    if not is_checked:
        # LanceDB has other credentials, or another server, than what has looked before it.
        raise SearchIndexError(
            f"{printable(path)} has no table where fsspec looks, but one where LanceDB does, so that it cannot be "
            "checked. Set up both for the same store; for S3, AWS_ENDPOINT_URL is read by both."
        )
    with _lance_reading(path):
        table = database.open_table(TABLE)
        schema, num_rows, version = table.schema, table.count_rows(), table.version
    try:
        content = (schema.metadata or {}).get(METADATA_KEY, b"null")
        if len(content) > MOST_SETTINGS_BYTES:
            raise ValueError(f"its settings have {len(content)} bytes")
        stored = json.loads(content)
        settings = read_fields(IndexSettings, stored, where=printable(path))
        _check_settings(settings)
        if schema.remove_metadata() != _schema(len(settings.probe)):
            raise ValueError(f"its columns are {printable(str(schema.names), limit=200)}, or of other types")
        # Embeddings of videos take the room of their numbers; a table of equal ones takes none, and hours to compare.
        if num_rows * len(settings.probe) * 2 > table_bytes(path, TABLE, version):
            raise ValueError(f"it says that it has {num_rows} segments, for which its files are too small")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise SearchIndexError(
            f"{printable(path)} is damaged, or a table of something else ({one_line(str(error), limit=200)}). Make "
            "the index again in another place."
        ) from error
    return VideoIndex(path, table, settings)


def _check_places(path: str) -> bool:
    """Refuse an index that could have files in other places; see `refuse_other_places`."""
    try:
        return refuse_other_places(path, TABLE)
    except DecodingUnavailableError:
        raise
    except ValueError as error:
        raise SearchIndexError(
            f"{printable(path)} is not an index that lies in its folder alone, or is damaged: "
            f"{printable(str(error), limit=200)}. Make the index again in another place."
        ) from error
    except Exception as error:
        # Whatever a store's client raises.
        if not is_address(path):
            raise
        reason = one_line(str(error)) if isinstance(error, UnreadableVideoError) else _machine_reason(path, error)
        raise SearchIndexError(f"{printable(path)} cannot be read: {reason}.") from error


def index_videos(
    classify: Any,
    videos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str],
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    num_frames: int | None = None,
    batch_size: int = 8,
    on_video: Callable[[Mapping[str, Any]], None] | None = None,
) -> IndexReport:
    """Make an index of videos, or bring it up to date: only new and changed files are read.

    A file that is no longer there leaves the index, where it lay in one of the folders given or is given itself; the
    others that the index has stay. A video that cannot be read costs itself alone, and is tried again the next time;
    what the index has of it stays, unless its file has changed.

    Args:
        classify: zero-shot pipeline (`froster_hf.load_pipeline`); its model embeds.
        videos: paths and addresses of videos, and of folders, which are searched, or a single one; addresses of stores
            only where `allow_urls` of the video processor names them or a folder above them.
        output: the index: a folder, or the address of a bucket (`s3://bucket/index`).
        window_seconds: length of a segment; by default that of the index, or 4.
        stride_seconds: from one segment's start to the next; by default that of the index, or 2.
        num_frames: T, frames of a segment; by default those of the index, or of the checkpoint.
        batch_size: segments that go through the model together.
        on_video: called with `{"video", "change", "segments"}` for each video that is `new`, `changed` or `gone`, and
            with `{"video", "error"}` for one that cannot be read.

    Raises:
        SearchIndexError: the index is of another model or of other windows.
        ValueError: an option that cannot be.
        OSError: the index cannot be written.
        ImportError: LanceDB is not installed.
    """
    batch_size = whole_number("batch_size", batch_size, least=1)
    wanted = {"window_seconds": window_seconds, "stride_seconds": stride_seconds, "num_frames": num_frames}
    index = _find_or_create(classify, output, wanted)
    report = IndexReport()
    known = index.states()
    _, named = split_policy(classify.processor.video_processor.allow_urls)
    given = [videos] if isinstance(videos, str | os.PathLike) else videos
    listing = _find_files(given, known, named)
    index.check_names(sum(len(video) + len(state) for video, state in (known | listing.states).items()))
    writer = _Writer(index, report, on_video or (lambda record: None))
    with _torn_writes_undone(index):
        try:
            _bring_up_to_date(writer, listing, known, classify, batch_size)
        finally:
            # An interrupted run keeps what it has read.
            writer.commit()
        with _lance_writing(index.path):
            _put_files_together(index.table)
        report.num_videos, report.num_segments = len(index.states()), len(index)
    return report


def _put_files_together(table: Any) -> None:
    """Many commits become few files again; all rows are there before, too."""
    try:
        table.optimize(cleanup_older_than=KEPT_VERSIONS)
    except RuntimeError as error:
        # Another run does the same now.
        if "commit conflict" not in str(error):
            raise


def search_videos(
    index: VideoIndex | str | os.PathLike[str],
    text: str | None = None,
    *,
    like: Any = None,
    top_k: int = 10,
    classify: Any = None,
    templates: Sequence[str] | str | None = None,
    max_frames: int = MOST_WINDOW_FRAMES,
) -> list[FoundSegment]:
    """The segments of an index that show what a text says, or that are like a video.

    Args:
        index: folder or address of an index, or an opened one, which checks the model once for all searches.
        text: what to look for, such as "a person opens a door".
        like: a video in any form that `timeline` takes; its windows' embeddings are averaged. With a text, both count
            alike.
        top_k: segments; of several that overlap, only the best is given.
        classify: zero-shot pipeline of the index's model, which is loaded by its name where it is not given.
        templates: prompts for the text, a list or a named set; by default those of the checkpoint.
        max_frames: frames of all windows of `like`; a video whose windows have more is not read.

    Returns:
        Best first.

    Raises:
        SearchIndexError: there is no such index, or the model is another one.
        VideoDecodeError: `like` cannot be read.
        ValueError: neither a text nor a video is given, or an option cannot be.
        ImportError: LanceDB is not installed.
    """
    if (text is None or not text.strip()) and like is None:
        raise ValueError("There is nothing to look for: give a text, or a video with `like`.")
    if not isinstance(index, VideoIndex):
        index = open_index(index)
    if classify is None:
        classify = load_pipeline(model_of(index))
    index.check_model(classify)
    queries = []
    if text is not None and text.strip():
        with torch.no_grad():
            queries.append(classify.label_embeds([text], templates=templates, text_pooling="mean")[0].float().cpu())
    if like is not None:
        stream = _window_stream(classify, like, index.settings, max_frames=max_frames)
        embedded = _embedded(classify, stream, stream.batches(LIKE_BATCH_SIZE))
        queries.append(sum((embed.double() * count for embed, count in embedded), torch.zeros(())).float())
    query = torch.stack([functional.normalize(one, dim=0) for one in queries]).mean(0)
    check_finite(query)
    return index.nearest(functional.normalize(query, dim=0), top_k=top_k)


def model_of(index: VideoIndex) -> str:
    """The name of the checkpoint that an index is of, as its author has written it.

    Raises:
        SearchIndexError: it has no name, as where a program made the model itself.
    """
    name = index.settings.model
    if not name.strip():
        raise SearchIndexError(
            f"{printable(index.path)} does not say which checkpoint it was made with. Give it as `--model` or "
            "`classify`."
        )
    return name


def model_name(classify: Any) -> str:
    """The name under which a pipeline's model is loaded again; folders as absolute paths."""
    path = str(classify.model.config._name_or_path)
    shipped = {os.fspath(folder): name for name, folder in SHIPPED_CHECKPOINTS.items()}
    return shipped.get(path) or (os.path.abspath(path) if os.path.isdir(path) else path)


def _fingerprint(classify: Any) -> str:
    """The hash of both towers' weights in single precision, in which half precision is exact."""
    return model_fingerprint(getattr(classify.model, "froster", classify.model), dtype=torch.float32)


def embed_probe(classify: Any, num_frames: int) -> torch.Tensor:
    """What a pipeline's processor and model make of one fixed clip: (D,), of unit length.

    Raises:
        ValueError: an index has more frames in a segment than the model computes.
    """
    rows, columns, colors = torch.meshgrid(torch.arange(48), torch.arange(64), torch.arange(3), indexing="ij")
    frames = [
        (rows * (2 + time) + columns * 3 + colors * (40 + 5 * time)).remainder(256).permute(2, 0, 1)
        for time in range(classify.frames_per_window(num_frames))
    ]
    pixels = classify.processor.video_processor(
        [torch.stack(frames).to(torch.uint8)], return_tensors="pt", **WINDOW_OPTIONS
    )
    return functional.normalize(embed_clips(classify, pixels["pixel_values_videos"])[0], dim=0)


def _bring_up_to_date(
    writer: "_Writer", listing: "_Listing", known: Mapping[str, str], classify: Any, batch_size: int
) -> None:
    """Give a writer what is gone, new, changed or unreadable among the videos that were found."""
    for video in listing.gone:
        writer.remove(video)
    todo = [(video, state) for video, state in listing.states.items() if known.get(video) != state]
    writer.report.unchanged += [video for video in listing.states if known.get(video) == listing.states[video]]
    for video, reason in listing.errors.items():
        # Whether it has changed is not known, so what the index has of it stays.
        writer.refuse(video, reason, has_changed=False)
    for video, state, begun in _read_ahead(classify, todo, writer.index.settings, batch_size):
        try:
            writer.add(video, state, _segments(classify, *begun.result()), was_known=video in known)
        except VideoDecodeError as error:
            writer.refuse(video, str(error), has_changed=video in known)


def _find_or_create(classify: Any, output: str | os.PathLike[str], wanted: Mapping[str, Any]) -> VideoIndex:
    """The index of a place, which may be a new one."""
    index = find_index(output)
    if index is None:
        try:
            return _create_index(classify, output, wanted)
        except OSError:
            index = find_index(output)
            # Unless another run has made one meanwhile.
            if index is None:
                raise
    _check_same(index, wanted)
    index.check_model(classify)
    return index


def _create_index(classify: Any, output: str | os.PathLike[str], wanted: Mapping[str, Any]) -> VideoIndex:
    lancedb = import_extra("search")
    own = classify.processor.video_processor.num_frames
    defaults = (DEFAULT_WINDOW_SECONDS, DEFAULT_STRIDE_SECONDS, own)
    lengths = {name: default if wanted[name] is None else wanted[name] for name, default in zip(wanted, defaults)}
    # Refuses options that cannot be.
    stream = WindowStream(classify.processor.video_processor, None, **lengths)
    probe = embed_probe(classify, stream.num_frames)
    windows = {name: getattr(stream, name) for name in lengths}
    settings = IndexSettings(model_name(classify), _fingerprint(classify), probe.tolist(), **windows)
    _check_settings(settings)
    schema = _schema(len(probe)).with_metadata({METADATA_KEY: json.dumps(asdict(settings)).encode()})
    path = _place(output)
    if not is_address(path):
        check_writable(path)
    # Of two that make a table in the same moment, LanceDB lets the second one replace that of the first.
    with nullcontext() if is_address(path) else one_at_a_time(path), _lance_writing(path):
        database = lancedb.connect(path, read_consistency_interval=SEEN_WITHIN)
        return VideoIndex(path, database.create_table(TABLE, schema=schema), settings)


def _schema(num_dimensions: int) -> Any:
    """The columns of an index; the settings are its metadata."""
    pyarrow = import_extra("search", "pyarrow")
    return pyarrow.schema(
        [
            pyarrow.field("video", pyarrow.string(), nullable=False),
            pyarrow.field("state", pyarrow.string(), nullable=False),
            pyarrow.field("start_seconds", pyarrow.float64(), nullable=False),
            pyarrow.field("end_seconds", pyarrow.float64(), nullable=False),
            pyarrow.field("embedding", pyarrow.list_(pyarrow.float32(), num_dimensions), nullable=False),
            pyarrow.field("picture", pyarrow.binary(), nullable=False),
        ]
    )


def _check_settings(settings: IndexSettings) -> None:
    """Refuse what no index of this package has, before anything is computed.

    Raises:
        ValueError: names the setting.
    """
    if not 1 <= settings.num_frames <= MOST_FRAMES:
        raise ValueError(f"num_frames is {settings.num_frames}; 1 to {MOST_FRAMES} are read")
    plan_windows(0.0, settings.window_seconds, settings.stride_seconds)
    if not 1 <= len(settings.probe) <= MOST_DIMENSIONS or not all(abs(value) <= 1.01 for value in settings.probe):
        raise ValueError("probe is not an embedding of unit length")


def _check_same(index: VideoIndex, wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        there = getattr(index.settings, name)
        if value is not None and value != there:
            raise SearchIndexError(
                f"`{name}` is {value}, but the segments of {printable(index.path)} were made with {there}. Leave it "
                "out, or make another index."
            )


@dataclass
class _Listing:
    """The files that an index is to have.

    Args:
        named: addresses that the caller has named; no others are opened, or asked for.
        states: by video, what changes with its file.
        gone: videos of the index whose files are no longer there.
        errors: by what was given or found, why it is not read.
    """

    named: Sequence[str] = ()
    states: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


def _find_files(given: Iterable[str | os.PathLike[str]], known: Mapping[str, str], named: Sequence[str]) -> _Listing:
    """What is given, searched; and of what the index has of it, what is gone."""
    listing = _Listing(named)
    for argument in given:
        path = _absolute(argument)
        try:
            found = _search(path, listing)
        except (OSError, UnreadableVideoError) as error:
            listing.errors[path] = _reason(error)
            found = [path]
        else:
            _take(found, listing)
        if found == [path]:
            if path in known and path in listing.errors and _is_gone(path, named):
                del listing.errors[path]
                listing.gone.append(path)
            continue
        if is_address(path):
            below = [video for video in known if is_named(video, [path])]
        else:
            below = [video for video in known if video.startswith(path.rstrip(os.sep) + os.sep)]
        if not found and path in listing.errors:
            # What is in it is not seen, so that nothing of it is gone.
            continue
        if not found and below:
            raise ValueError(
                f"{printable(source_name(path))} holds no videos, and the index has {len(below)} of it. Is the disk "
                "there? If they are gone for good, make the index again in another place."
            )
        if not found:
            listing.errors[path] = "the folder holds no videos"
        listing.gone += [video for video in below if video not in listing.states and _is_gone(video, named)]
    return listing


def _search(path: str, listing: _Listing) -> list[str]:
    """The videos that a path, address or URL stands for; itself, for a file.

    Raises:
        OSError: there is nothing, or it cannot be read.
        UnreadableVideoError: a store cannot be searched, or may not be opened.
    """
    if is_address(path):
        refuse_unnamed(path, listing.named)
        return find_videos_at(path)
    if "://" in path or not stat.S_ISDIR(os.stat(path).st_mode):
        return [path]
    content = search_folder(path)
    if unreadable := content.passed_over[UNREADABLE]:
        listing.errors[path] = f"{unreadable} {UNREADABLE} below it"
    return [str(video) for video in content.videos]


def _take(found: Iterable[str], listing: _Listing) -> None:
    """Videos with their states, or why there is none."""
    for video in found:
        try:
            state = _state(video, listing.named)
            for column, value, title in (("video", video, "path"), ("state", state, "state")):
                if (size := len(value.encode())) > (most := MOST_VALUE_BYTES[column]):
                    raise UnreadableVideoError(f"its {title} has {size} bytes; at most {most} are kept")
            listing.states[video] = state
        except UnicodeEncodeError:
            listing.errors[video] = "its path is not text in UTF-8; give it another name"
        except (OSError, UnreadableVideoError) as error:
            listing.errors[video] = _reason(error)


def _state(video: str, named: Sequence[str]) -> str:
    """A text that changes with a file; a URL of the web is read once.

    Raises:
        OSError: the file is not there, or not to be seen.
        UnreadableVideoError: it is not there, in a store, or may not be opened.
    """
    if is_address(video):
        # A file in a store that is named can have the name of a chain, which leads to another one.
        refuse_unnamed(video, named)
        system, path = open_store(video)
        with reading_from(video):
            return str(system.ukey(path))
    if "://" in video:
        return ""
    found = os.stat(video)
    return f"{found.st_size} {found.st_mtime_ns}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_gone(video: str, named: Sequence[str]) -> bool:
    """Whether a file is no longer there, rather than not to be seen."""
    if is_address(video):
        if not is_named(video, named):
            return False
        system, path = open_store(video)
        try:
            return not system.exists(path)
        except Exception:
            return False
    try:
        os.lstat(video)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


Segments = Iterator[tuple[tuple[float, float], bytes, torch.Tensor]]


def _read_ahead(
    classify: Any, todo: Sequence[tuple[str, str]], settings: IndexSettings, batch_size: int
) -> Iterator[tuple[str, str, Future]]:
    """Videos in order, each with the future of its beginning; the next ones are read while the model embeds."""
    threads = ReadingThreads(NUM_READING_THREADS)
    begun = ((video, state, threads.submit(_begin, classify, video, settings, batch_size)) for video, state in todo)
    with tqdm(total=len(todo), desc="Indexing", unit="video", disable=None) as progress:
        for entry in take_ahead(begun, NUM_READING_THREADS):
            yield entry
            progress.update()


def _window_stream(classify: Any, video: Any, settings: IndexSettings, **options: Any) -> WindowStream:
    """A video's windows, as the index has them."""
    return WindowStream(
        classify.processor.video_processor,
        video,
        window_seconds=settings.window_seconds,
        stride_seconds=settings.stride_seconds,
        num_frames=settings.num_frames,
        **options,
    )


Clips = Iterator[tuple[torch.Tensor, list[int]]]


def _begin(
    classify: Any, video: Any, settings: IndexSettings, batch_size: int
) -> tuple[WindowStream, deque[bytes], Clips]:
    """A video's windows, its pictures as they come, and its clips, of which the first batches have been read."""
    pictures: deque[bytes] = deque()
    shown: torch.Tensor | None = None
    picture, num_pictures = b"", 0

    def keep_picture(seconds: float, frame: torch.Tensor) -> None:
        nonlocal shown, picture, num_pictures
        windows = stream.windows
        while num_pictures < len(windows) and seconds >= sum(windows[num_pictures]) / 2 - 1e-5:
            # Of a frame that is shown for long, one picture.
            if frame is not shown:
                shown, picture = frame, _picture(frame)
            pictures.append(picture)
            num_pictures += 1

    stream = _window_stream(classify, video, settings, on_frame=keep_picture)
    batches = stream.batches(batch_size)
    # One batch more than a short video has: its decoding process is done and can read the next one.
    first = list(islice(batches, 2))
    return stream, pictures, chain(first, batches if len(first) == 2 else ())


def _segments(classify: Any, stream: WindowStream, pictures: deque[bytes], batches: Clips) -> Segments:
    windows = iter(stream.windows)
    for embed, count in _embedded(classify, stream, batches):
        for window in islice(windows, count):
            yield window, pictures.popleft(), embed


def _embedded(classify: Any, stream: WindowStream, batches: Clips) -> Iterator[tuple[torch.Tensor, int]]:
    """Embeddings (D,) of unit length, and of how many windows in a row each is."""
    for clips, counts in take_ahead(batches, 1):
        # The model's own are means over frames, which are shorter.
        for embed, count in zip(functional.normalize(embed_clips(classify, clips), dim=-1), counts):
            if not embed.isfinite().all():
                raise VideoDecodeError(str(stream.video), "the model", "its embedding is not finite")
            yield embed, count


def _picture(frame: torch.Tensor) -> bytes:
    """A frame (3, h, w) as a small JPEG."""
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    image.thumbnail(PICTURE_SIZE)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue()


class _WaitingRows:
    """Rows of whole videos until they are committed, in Arrow's format, as many as there are.

    Args:
        index: whose rows they become; what is too much for memory lies in its folder, in a file without a name.
    """

    def __init__(self, index: VideoIndex):
        self.path, self.schema, self.num_rows = index.path, index.table.schema, 0
        folder = None if is_address(index.path) else index.path
        self._file = tempfile.SpooledTemporaryFile(MOST_WAITING_BYTES, dir=folder)  # noqa: SIM115
        self._stream = import_extra("search", "pyarrow.ipc").new_stream(self._file, self.schema)

    def add(self, video: str, state: str, segments: Segments) -> int:
        """All segments of a video; none of them, where reading it fails.

        Returns:
            How many.

        Raises:
            VideoDecodeError: reading it has failed.
            OSError: the disk is full.
        """
        begin, num_rows = self._file.tell(), 0
        try:
            while rows := list(islice(segments, ROWS_PER_WRITE)):
                self._write(video, state, rows)
                num_rows += len(rows)
        except BaseException:
            self._file.seek(begin)
            self._file.truncate(begin)
            raise
        self.num_rows += num_rows
        return num_rows

    def _write(self, video: str, state: str, rows: Sequence[tuple[tuple[float, float], bytes, torch.Tensor]]) -> None:
        pyarrow = import_extra("search", "pyarrow")
        windows, pictures, embeds = zip(*rows)
        numbers = pyarrow.array(torch.stack(embeds).flatten().numpy())
        columns = {
            "video": [video] * len(rows),
            "state": [state] * len(rows),
            **dict(zip(TIMES, zip(*windows))),
            "embedding": pyarrow.FixedSizeListArray.from_arrays(numbers, embeds[0].numel()),
            "picture": pictures,
        }
        batch = pyarrow.record_batch([pyarrow.array(columns[one.name], one.type) for one in self.schema], self.schema)
        try:
            self._stream.write_batch(batch)
        except OSError as error:
            raise OSError(f"{printable(self.path)} cannot be written: {_reason(error)}.") from error

    def commit(self, table: Any, *, changed: Sequence[str]) -> None:
        """Write them into a table of LanceDB, which reads them one part after the other.

        Args:
            table: LanceDB's.
            changed: videos of them that the table has rows of; these go with the same commit, or stay with it.
        """
        with self._file, _lance_writing(self.path):
            self._file.seek(0)
            rows = import_extra("search", "pyarrow.ipc").open_stream(self._file)
            if changed:
                merge = table.merge_insert(["video", TIMES[0]]).when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(_of_videos(changed)).execute(rows)
            else:
                table.add(rows)


class _Writer:
    """Brings changes into a table, several videos with one commit."""

    def __init__(self, index: VideoIndex, report: IndexReport, on_video: Callable[[Mapping[str, Any]], None]):
        self.index, self.report, self.on_video = index, report, on_video
        self._begin()

    def _begin(self) -> None:
        self._removed: list[str] = []
        self._changed: list[str] = []
        self._added = _WaitingRows(self.index)
        self._begun = time.monotonic()

    def add(self, video: str, state: str, segments: Segments, *, was_known: bool) -> None:
        """All segments of a video; none of them, where reading it fails."""
        num_rows = self._added.add(video, state, segments)
        if was_known:
            (self._changed if num_rows else self._removed).append(video)
        change = "changed" if was_known else "new"
        getattr(self.report, change).append(video)
        self._end_video({"video": video, "change": change, "segments": num_rows})

    def refuse(self, video: str, reason: str, *, has_changed: bool) -> None:
        """A video that cannot be read; what the index had of a changed file's former content is removed."""
        if has_changed:
            self._removed.append(video)
        self.report.errors[video] = reason
        self._end_video({"video": video, "error": reason})

    def remove(self, video: str) -> None:
        """A video whose file is gone."""
        self._removed.append(video)
        self.report.gone.append(video)
        self._end_video({"video": video, "change": "gone", "segments": 0})

    def _end_video(self, record: Mapping[str, Any]) -> None:
        if self._added.num_rows >= ROWS_PER_COMMIT or time.monotonic() - self._begun >= SECONDS_PER_COMMIT:
            self.commit()
        self.on_video(record)

    def commit(self) -> None:
        """Write what has come since the last time."""
        removed, changed, added = self._removed, self._changed, self._added
        # What an interrupted commit has written is not written again.
        self._begin()
        for start in range(0, len(removed), VIDEOS_PER_DELETION):
            with _lance_writing(self.index.path):
                self.index.table.delete(_of_videos(removed[start:][:VIDEOS_PER_DELETION]))
        if added.num_rows:
            added.commit(self.index.table, changed=changed)


def _of_videos(names: Iterable[str]) -> str:
    """Which rows are those of these videos, in SQL."""
    return "video IN (" + ", ".join("'" + name.replace("'", "''") + "'" for name in names) + ")"


def _apart(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of rows of a video that overlap, the first."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        of_video, start, end = found.setdefault(row["video"], []), row["start_seconds"], row["end_seconds"]
        # Of those that begin before it ends, which lie apart and in order, the last one ends last.
        place = bisect_left(of_video, (end,))
        if place == 0 or of_video[place - 1][1] <= start:
            insort(of_video, (start, end))
            yield row


def _longest(values: Any) -> int:
    """The bytes of the longest of an Arrow array's values."""
    compute = import_extra("search", "pyarrow.compute")
    return compute.max(compute.binary_length(values)).as_py() or 0


def _place(path: str | os.PathLike[str]) -> str:
    """Where an index lies: a folder of this machine is one however it is written."""
    text = os.fspath(path)
    return _absolute(re.sub("^file:///*", "/", text, flags=re.IGNORECASE))


def _absolute(path: str | os.PathLike[str]) -> str:
    """A path that does not depend on the current folder; addresses and URLs as they are."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)
