"""Public copies of data sets on the Hub: fetched, unpacked, and their videos and lists found.

The copies are other people's, in layouts of their own: the lists are known by their names, the videos by the folders
of classes that they lie in. Whether all clips are there, the readers say.
"""

import errno
import gzip
import lzma
import math
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, cast

from huggingface_hub import snapshot_download

from ..printing import one_line, printable
from ..processing.text_files import read_text
from ..video.archives import MOST_HEADER_BYTES, TableReader, TarReader, check_packing
from ..video.files import VIDEO_SUFFIXES, is_video_name
from ..whole_files import (
    full_disk_named,
    make_folder,
    new_folder,
    refuse_irregular,
    refuse_link,
    worked_in_alone,
    write_text_whole,
)
from .catalogue import DATASETS, FORMATS, MOST_CLIPS, DataFiles, DataSet

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
# Videos are packed already; lists become a tenth of what they are.
MOST_TIMES = 20
LEAST_UNPACKED_BYTES = 2**30
MOST_DEPTH = 20
# In a copy's folder: whose it is.
NOTE_NAME, MOST_NOTE_BYTES = "repository.txt", 2**12
# Of bytes that stand before files, in time, beside those of the files.
NOTE_WEIGHT = 8
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
        ValueError: no copy is known, the folder has another one, another run is at work in it, or its videos or lists
            are not found; or an archive in it is damaged, or would become larger than archives of videos do, as all
            together would.
    """
    entry = DATASETS[dataset]
    repo_id = repo_id or next(iter(entry.hub_copies), None)
    if repo_id is None:
        raise ValueError(f"No copy of {entry.title} on the Hub is known. Name one with `repo_id`.")
    folder = Path(os.path.abspath(folder))  # of a relative one, the client takes `~` for the home folder
    refuse_link(folder / "unpacked")
    with worked_in_alone(make_folder(folder)):
        places = _fetch(repo_id, folder)
    return _find(repo_id, entry, places, annotations)


def _fetch(repo_id: str, folder: Path) -> list[Path]:
    """Fetch a copy and unpack its archives; gives the folders that have its files, and nothing else."""
    _refuse_other_copy(folder, repo_id)
    fetched = Path(snapshot_download(repo_id, repo_type="dataset", local_dir=folder / "fetched"))
    archives = sorted(path for path in fetched.rglob("*") if path.name.lower().endswith(ARCHIVE_ENDINGS))
    archives = [path for path in archives if path.is_file()]
    targets = [folder / "unpacked" / archive.relative_to(fetched) for archive in archives]
    most = max(LEAST_UNPACKED_BYTES, MOST_TIMES * sum(archive.stat().st_size for archive in archives))
    num_files = num_bytes = 0
    for archive, target in zip(archives, targets, strict=True):
        _unpack(archive, target)
        sizes = [path.stat().st_size if path.is_file() else 0 for path in target.rglob("*")]
        num_files, num_bytes = num_files + len(sizes), num_bytes + sum(sizes)
        # Each alone may be small and become a gigabyte.
        if num_files > MOST_CLIPS or num_bytes > most:
            raise ValueError(
                f"{printable(str(archive))} and the archives before it hold {num_files} files and folders of "
                f"{num_bytes} bytes; of such archives, at most {MOST_CLIPS} of {most} bytes are unpacked. Are they of "
                "videos?"
            )
    return [fetched, *targets]


def _find(
    repo_id: str, entry: DataSet, places: Sequence[Path], annotations: str | os.PathLike[str] | None
) -> DataFiles:
    """Where the videos and lists of a copy are, in these folders."""
    files = [path for place in places for path in place.rglob("*") if not _is_hidden(path.relative_to(place))]
    files = [path for path in files if path.is_file()]
    folders = Counter(path.parent.parent for path in files if is_video_name(path.name))
    if not folders:
        endings = Counter(path.suffix for path in files).most_common(5)
        raise ValueError(
            f"{printable(repo_id)} has no videos ({', '.join(sorted(VIDEO_SUFFIXES))}), also not in its archives "
            f"({', '.join(ARCHIVE_ENDINGS)}), but files of {', '.join(printable(ending) for ending, _ in endings)}. "
            "Name another copy with `repo_id`."
        )
    if annotations is None:
        pattern = FORMATS[entry.format].list_pattern
        lists = sorted({path.parent for path in files if path.match(pattern)}) if pattern else []
        if not lists:
            raise ValueError(
                f"{printable(repo_id)} has no official lists ({pattern}). Give the folder that has them with "
                "`annotations`."
            )
        annotations = lists[0]
    return DataFiles(root=folders.most_common(1)[0][0], annotations=annotations)


def _is_hidden(name: Path) -> bool:
    """Whether it is what the client, or macOS in an archive, keeps beside the files of a copy."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _refuse_other_copy(folder: Path, repo_id: str) -> None:
    """Note whose copy a folder has, and raise where it is another one's: their videos and lists would be mixed, and
    archives of the same names not unpacked again."""
    note = make_folder(folder) / NOTE_NAME
    refuse_irregular(note)
    # A repository that is not there has left the note alone.
    has_files = note.exists() and (folder / "fetched").exists()
    if has_files and (found := read_text(note, max_bytes=MOST_NOTE_BYTES).strip()) != repo_id:
        raise ValueError(
            f"{printable(str(folder))} has the files of {printable(found)}, and those of {printable(repo_id)} would "
            "be mixed with them. Give another folder."
        )
    write_text_whole(note, repo_id + "\n")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into a folder of its own, once, and again where a newer one was fetched; nothing of it is
    written outside of that.

    Links, and whatever else is neither a plain file nor a folder, are left out.

    Raises:
        ValueError: it is damaged, a name in it leads out, or it would become larger than archives of videos do.
    """
    if target.exists() and not (archive.exists() and archive.stat().st_mtime_ns > target.stat().st_mtime_ns):
        return
    with new_folder(target, replace=True) as folder:
        try:
            with full_disk_named(target):
                (_unpack_zip if archive.name.lower().endswith(".zip") else _unpack_tar)(archive, folder)
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
    with archive.open("rb") as file, zipfile.ZipFile(TableReader(file)) as opened:
        members, folders = opened.infolist(), set[int]()
        # No more is read of a member than it says here.
        _check_sizes(archive, len(members), sum(member.file_size for member in members))
        # A million names of the same bytes, that become none, are as many times the archive to read.
        packed, size = sum(member.compress_size for member in members), file.seek(0, os.SEEK_END)
        if packed > size:
            raise ValueError(
                f"its files have {packed} bytes in it, and it has {size}: they lie over each other. Fetch it again, "
                "or name another copy with `repo_id`"
            )
        for member in members:
            _check_name(member.filename, folders)
            check_packing(member)
            opened.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    size, folders = 0, set[int]()
    with archive.open("rb") as file:
        opened = TarReader(file)
        for count, member in enumerate(opened, 1):
            size += member.size
            read = max(size, opened.num_read, NOTE_WEIGHT * opened.num_noted)
            _check_sizes(archive, count, read if member.size >= 0 else math.inf)
            if member.isdir() or (member.isreg() and not member.issparse()):
                _check_name(member.name, folders)
                _extract(opened, member, folder)
        # Of what is packed, the checksum stands at the end.
        while opened.is_packed and (rest := opened.stream.read(MOST_HEADER_BYTES)):
            size += len(rest)
            _check_sizes(archive, 0, size)


def _extract(archive: TarReader, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a file or a folder as `tarfile` does with the filter "data", which some releases of Python do not have."""
    inside = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(inside, member.name.lstrip("/" + os.sep)))
    if os.path.commonpath([inside, place]) != inside:
        raise ValueError(f"{printable(repr(member.name))} would be outside the destination")
    make_folder(place if member.isdir() else os.path.dirname(place))
    if not member.isdir():
        with cast(IO[bytes], archive.extractfile(member)) as content, open(place, "wb") as file:
            shutil.copyfileobj(content, file)


def _check_name(name: str, folders: set[int]) -> None:
    """Refuse a name that makes more folders than those of data sets do, or none at all.

    Args:
        name: of a file or a folder in an archive.
        folders: hashes of the folders of all names before it, to which its own come.
    """
    *parents, _ = re.split(r"[/\\]", name)
    if not name or len(parents) >= MOST_DEPTH:
        raise ValueError(f"a name in it has {len(parents) + bool(name)} parts; from 1 to {MOST_DEPTH} are unpacked")
    folders.update(map(hash, accumulate(parents, "{}/{}".format)))
    if len(folders) > MOST_CLIPS:
        raise ValueError(f"it holds more than {MOST_CLIPS} folders, as no archive of videos does")


def _check_sizes(archive: Path, count: int, size: float) -> None:
    """Refuse an archive that holds more files, or more bytes, than videos and lists do."""
    most = max(LEAST_UNPACKED_BYTES, MOST_TIMES * archive.stat().st_size)
    if count > MOST_CLIPS or size > most:
        files = f"more than {MOST_CLIPS}" if count > MOST_CLIPS else str(count)
        raise ValueError(
            f"it holds {files} files of {size} bytes or more; of an archive of this size, at most {MOST_CLIPS} files "
            f"of {most} bytes are unpacked. Is it one of videos?"
        )
