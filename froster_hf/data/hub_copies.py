"""Public copies of data sets on the Hub: fetched, unpacked, and their videos and lists found.

The copies are other people's, in layouts of their own: the lists are known by their names, the videos by the folders
of classes that they lie in. Whether all clips are there, the readers say.
"""

import contextlib
import errno
import gzip
import io
import itertools
import lzma
import math
import os
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from ..printing import one_line, printable
from ..video.files import VIDEO_SUFFIXES, is_video_name
from ..whole_files import full_disk_named, new_folder
from .catalogue import DATASETS, FORMATS, MOST_CLIPS, DataFiles

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
# Videos are packed already; lists become a tenth of what they are.
MOST_TIMES = 20
LEAST_UNPACKED_BYTES = 2**30
# Of a name, or what else stands before a file in an archive, and of all of these before one.
MOST_HEADER_BYTES = 2**16
MOST_NOTES_BYTES = 2**20
# Of the table at the end of a zip archive, of which ZipFile makes objects before it is told how many: a million names.
MOST_TABLE_BYTES = 2**27
MOST_DEPTH = 20
# What the readers raise of archives that are damaged, encrypted, or made to be.
_DAMAGE = (
    *(ValueError, RuntimeError, ArithmeticError, EOFError),
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
)
# What the system says of names that are too long, or of which one is the folder of another.
_BAD_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL)


def fetch_hub_copy(
    dataset: str,
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    annotations: str | os.PathLike[str] | None = None,
) -> DataFiles:
    """Fetch a copy of a data set into a folder; what is there already is not fetched again.

    Args:
        dataset: a key of `DATASETS` with a copy on the Hub.
        folder: to keep the files in.
        repo_id: another data set repository than the first that the catalogue names.
        annotations: the official lists, where the copy has none.

    Returns:
        Where the videos and the lists are, as the readers and protocols take it.

    Raises:
        ValueError: no copy is known, or its videos or lists are not found; or an archive in it is damaged, or would
            become larger than archives of videos do.
    """
    entry = DATASETS[dataset]
    repo_id = repo_id or next(iter(entry.hub_copies), None)
    if repo_id is None:
        raise ValueError(f"No copy of {entry.title} on the Hub is known. Name one with `repo_id`.")
    folder = Path(folder)
    fetched = Path(snapshot_download(repo_id, repo_type="dataset", local_dir=folder / "fetched"))
    for archive in sorted(path for path in fetched.rglob("*") if path.name.endswith(ARCHIVE_ENDINGS)):
        _unpack(archive, folder / "unpacked" / archive.relative_to(fetched).as_posix().replace("/", "-"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    places = Counter(path.parent.parent for path in files if is_video_name(path.name))
    if not places:
        endings = Counter(path.suffix for path in files).most_common(5)
        raise ValueError(
            f"{printable(repo_id)} has no videos ({', '.join(sorted(VIDEO_SUFFIXES))}), also not in its archives "
            f"({', '.join(ARCHIVE_ENDINGS)}), but files of {', '.join(printable(ending) for ending, _ in endings)}. "
            "Name another copy with `repo_id`."
        )
    if annotations is None:
        pattern = FORMATS[entry.format].list_pattern
        lists = sorted({path.parent for path in folder.rglob(pattern)}) if pattern else []
        if not lists:
            raise ValueError(
                f"{printable(repo_id)} has no official lists ({pattern}). Give the folder that has them with "
                "`annotations`."
            )
        annotations = lists[0]
    return DataFiles(root=places.most_common(1)[0][0], annotations=annotations)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into a folder of its own, once; nothing of it is written outside of that.

    Links, and whatever else is neither a plain file nor a folder, are left out.

    Raises:
        ValueError: it is damaged, a name in it leads out, or it would become larger than archives of videos do.
    """
    if target.exists():
        return
    with new_folder(target) as folder:
        try:
            with full_disk_named(target):
                (_unpack_zip if archive.name.endswith(".zip") else _unpack_tar)(archive, folder)
        except _DAMAGE as error:
            raise ValueError(
                f"{printable(str(archive))} cannot be unpacked: {one_line(str(error), limit=500)}"
            ) from error
        except OSError as error:
            if error.errno not in _BAD_NAMES:
                raise
            raise ValueError(
                f"{printable(str(archive))} cannot be unpacked: no files can be written under its names "
                f"({error.strerror})"
            ) from error


def _unpack_zip(archive: Path, folder: Path) -> None:
    with _TableReader(archive) as file, zipfile.ZipFile(file) as opened:
        members = opened.infolist()
        # No more is read of a member than it says here.
        _check_sizes(archive, len(members), sum(member.file_size for member in members))
        for member in members:
            _check_name(member.filename)
            opened.extract(member, folder)


class _TableReader(io.FileIO):
    """A file for `ZipFile`, which reads the table of an archive's files in one piece, whatever size it has."""

    def read(self, size: int | None = -1) -> bytes:
        """Read as a file does.

        Raises:
            zipfile.BadZipFile: of a larger table than that of any data set.
        """
        if size is not None and size > MOST_TABLE_BYTES:
            raise zipfile.BadZipFile(f"its table of files has {size} bytes; at most {MOST_TABLE_BYTES} are read")
        return super().read(size)


def _unpack_tar(archive: Path, folder: Path) -> None:
    size = 0
    with archive.open("rb") as file, contextlib.ExitStack() as stack:
        is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: Any = stack.enter_context(gzip.GzipFile(fileobj=file)) if is_packed else file
        reader: Any = _HeaderReader(stream)
        opened: Any = stack.enter_context(tarfile.open(fileobj=reader, mode="r:"))
        for count in itertools.count(1):
            reader.left = MOST_NOTES_BYTES
            if (member := opened.next()) is None:
                break
            reader.left = math.inf
            # It keeps them all, with their notes, and those for all.
            opened.members.clear()
            opened.pax_headers.clear()
            size += member.size
            _check_sizes(archive, count, max(size, reader.num_read) if member.size >= 0 else math.inf)
            if member.isdir() or (member.isreg() and not member.issparse()):
                _check_name(member.name)
                opened.extract(member, folder, filter="data")
        # Of what is packed, the checksum stands at the end.
        while is_packed and (rest := stream.read(MOST_HEADER_BYTES)):
            size += len(rest)
            _check_sizes(archive, 0, size)


class _HeaderReader:
    """A file for `tarfile`, which reads names and other notes before a member in one piece, whatever size they claim.

    Args:
        file: open for reading; what is unpacked on the way may have no end.
    """

    def __init__(self, file: Any):
        self.file = file
        self.seek, self.tell = file.seek, file.tell
        self.num_read = 0
        # Of what stands before one member, which is read on and on where it is a map of holes; the first one is read
        # at once.
        self.left: float = MOST_NOTES_BYTES

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            tarfile.ReadError: of more than any name has.
        """
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a name or a note in it has {size} bytes; at most {MOST_HEADER_BYTES} are read")
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"the notes before a file in it have more than {MOST_NOTES_BYTES} bytes")
        content = self.file.read(size)
        self.num_read += len(content)
        return content


def _check_name(name: str) -> None:
    """Refuse a name that makes more folders than those of data sets do, none of which count as files."""
    if (depth := len(re.split(r"[/\\]", name))) > MOST_DEPTH:
        raise ValueError(f"a name in it has {depth} parts; at most {MOST_DEPTH} are unpacked")


def _check_sizes(archive: Path, count: int, size: float) -> None:
    """Refuse an archive that holds more files, or more bytes, than videos and lists do."""
    most = max(LEAST_UNPACKED_BYTES, MOST_TIMES * archive.stat().st_size)
    if count > MOST_CLIPS or size > most:
        files = f"more than {MOST_CLIPS}" if count > MOST_CLIPS else str(count)
        raise ValueError(
            f"it holds {files} files of {size} bytes or more; of an archive of this size, at most {MOST_CLIPS} files "
            f"of {most} bytes are unpacked. Is it one of videos?"
        )
