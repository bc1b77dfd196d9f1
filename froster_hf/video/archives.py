"""Archives that nobody has vouched for, read in this process: looking for a file in one takes bounded memory.

Python's readers take what an archive claims: names of any length, maps of holes without an end, whole tables, and of
bzip2 and LZMA all that some bytes unpack to.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any

from .types import UnreadableVideoError

# Of a name, or what else stands before a file in an archive, and of all of these before one.
MOST_HEADER_BYTES = 2**16
MOST_NOTES_BYTES = 2**20
# Before one file: a note for all, names too long for a header, and one for the file. `tarfile` keeps a copy for each.
MOST_NOTES = 16
# In a row, in a name or note. `tarfile` looks for a pattern that begins with digits at each of them.
MOST_DIGITS = 100
# Of the table at the end of a zip archive, of which ZipFile makes objects before it is told how many.
MOST_TABLE_BYTES = 2**27
MOST_MEMBERS = 1_000_000
# Videos are packed already. Pictures without compression that hardly change are packed further, to very little where
# they are few.
MOST_UNPACKED = 100
UNPACKED_BYTES = 2**26

# What a name in that table begins with.
_ZIP_ENTRY = b"PK\1\2"
_MANY_DIGITS = re.compile(rb"\d{%d}" % (MOST_DIGITS + 1))
# Of tar, the types of notes (pax), and what begins a record in one.
_NOTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_RECORD = re.compile(rb"([1-9][0-9]{0,9}) (?=[^=\n])")
_UNPACKED_IN_PARTS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class TableReader:
    """A file for `ZipFile`, which reads the table of an archive's files in one piece, whatever size it has.

    Args:
        file: open for reading.
    """

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            zipfile.BadZipFile: of a larger table than that of any data set, or one of more names.
        """
        if size > MOST_TABLE_BYTES:
            raise zipfile.BadZipFile(f"its table of files has {size} bytes; at most {MOST_TABLE_BYTES} are read")
        content = self._file.read(size)
        # What the archive says of their number is not what `ZipFile` makes objects of.
        if content.count(_ZIP_ENTRY) > MOST_MEMBERS:
            raise zipfile.BadZipFile(f"its table names more than {MOST_MEMBERS} files: unpack it first")
        return content


def check_packing(member: zipfile.ZipInfo) -> None:
    """Refuse what `ZipFile` unpacks in one piece: some hundred bytes of bzip2 or LZMA become gigabytes.

    Raises:
        zipfile.BadZipFile: it is neither stored as it is nor deflated.
    """
    if member.compress_type not in _UNPACKED_IN_PARTS:
        raise zipfile.BadZipFile(
            f"a file in it is packed by method {member.compress_type}; those that are stored or deflated are read: "
            "unpack it with another program, if you trust it"
        )


class TarReader:
    """The members of a tar archive, one by one, none of which is kept; also of one that is packed with gzip.

    Args:
        file: open for reading, at its beginning.

    Raises:
        tarfile.TarError: it is none, or damaged.
    """

    def __init__(self, file: Any):
        self.is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.stream: Any = gzip.GzipFile(fileobj=file) if self.is_packed else file
        self._headers: Any = _HeaderReader(self.stream)
        self._tar: Any = tarfile.TarFile(fileobj=self._headers)  # type: ignore[arg-type]
        self.extractfile = self._tar.extractfile

    @property
    def num_read(self) -> int:
        """Bytes that were read, beside those that were passed over."""
        return self._headers.num_read

    @property
    def num_noted(self) -> int:
        """Those of them that are names and other notes."""
        return self._headers.num_noted

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while True:
            self._headers.left, self._headers.num_notes = MOST_NOTES_BYTES, 0
            member = self._tar.next()
            # What is read until the next one, or behind the last, are members themselves.
            self._headers.left = math.inf
            if member is None:
                # Where an archive is cut or a header damaged, `tarfile` ends as well.
                if self._headers.last != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(
                        "it is cut off, or a header in it is damaged: zeros are missing at its end"
                    )
                return
            # The size of a member with holes is not the one in its header, by which the next one is found.
            if self._tar.offset < member.offset_data:
                raise tarfile.ReadError("a file in it has a size below 0, which leads back to those before")
            # It keeps them all, with their notes, and those for all.
            self._tar.members.clear()
            self._tar.pax_headers.clear()
            yield member


class _HeaderReader:
    """A file for `tarfile`, which reads names and other notes before a member in one piece, whatever size they claim.

    Args:
        file: open for reading; what is unpacked on the way may have no end.
    """

    def __init__(self, file: Any):
        self.file = file
        self.seek, self.tell = file.seek, file.tell
        self.num_read = self.num_noted = 0
        # What was read last: of an archive that is read to its end, the block of zeros there.
        self.last = b""
        # Of what stands before one member, which is read on and on where it is a map of holes; the first one is read
        # at once. Infinite while a member itself is read.
        self.left: float = MOST_NOTES_BYTES
        self.num_notes = 0

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            tarfile.ReadError: of more than any name has.
        """
        if math.isfinite(self.left) and not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a name or a note in it has {size} bytes; at most {MOST_HEADER_BYTES} are read")
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"the notes before a file in it have more than {MOST_NOTES_BYTES} bytes")
        content = self.file.read(size)
        if math.isfinite(self.left):
            self.num_noted += len(content)
            if _MANY_DIGITS.search(content):
                raise tarfile.ReadError(f"a name or a note in it has more than {MOST_DIGITS} digits in a row")
            if _is_note(self.last):
                self._check_note(content)
        self.num_read += len(content)
        self.last = content
        return content

    def _check_note(self, content: bytes) -> None:
        """Hold a note to the form of POSIX.1-2008 (pax): records that say their lengths, one behind the other.

        Before Python 3.13, `tarfile` takes what reaches into the next ones, and makes gigabytes of some kilobytes.

        Raises:
            tarfile.ReadError: it has another one, or is one of too many.
        """
        self.num_notes += 1
        if self.num_notes > MOST_NOTES:
            raise tarfile.ReadError(f"a file in it has more than {MOST_NOTES} notes before it")
        position = 0
        while content[position : position + 1].strip(b"\0"):
            stated = _RECORD.match(content, position)
            end = position + int(stated[1]) if stated else 0
            if stated is None or content[end - 1 : end] != b"\n" or b"=" not in content[stated.end() : end]:
                raise tarfile.ReadError("a note before a file in it is damaged")
            position = end


def _is_note(header: bytes) -> bool:
    """Whether a block is the header of a note, and not a part of a name that looks like one."""
    if len(header) != tarfile.BLOCKSIZE or header[156:157] not in _NOTES:
        return False
    with contextlib.suppress(tarfile.HeaderError):
        return tarfile.nti(header[148:156]) in tarfile.calc_chksums(header)  # type: ignore[attr-defined]
    return False


class _ZipSearch(zipfile.ZipFile):
    """A zip archive in which one file is looked for: of the others in its table, nothing is kept.

    Args:
        file: open for reading.
        name: of the file; of several of that name, the last one counts.
        end_time: a time of `time.monotonic`, at which reading the table ends.
    """

    def __init__(self, file: IO[bytes], name: str, end_time: float):
        self._name, self._end_time = name, end_time
        self.found: zipfile.ZipInfo | None = None
        super().__init__(TableReader(file))

    def __setitem__(self, name: str, member: zipfile.ZipInfo) -> None:
        _check_time(self._end_time)
        self.filelist.clear()
        if name == self._name:
            self.found = member

    @property
    def NameToInfo(self) -> Any:
        """Where `ZipFile` notes down each name that it reads."""
        return self

    @NameToInfo.setter
    def NameToInfo(self, names: Any) -> None:
        pass


@contextlib.contextmanager
def _open_in_zip(archive: IO[bytes], name: str, end_time: float) -> Iterator[tuple[IO[bytes], int]]:
    size = archive.seek(0, 2)
    searched: Any = _SearchedFile(archive, end_time)
    with _ZipSearch(searched, name, end_time) as opened:
        if (member := opened.found) is None:
            raise _missing(name)
        check_packing(member)
        # No more is read of a member than it says here; but its packed size may be more than the archive holds.
        _check_size(member.file_size, packed=min(member.compress_size, size - member.header_offset))
        with opened.open(member) as file:
            yield file, member.file_size


class _SearchedFile:
    """An archive that is read as long as there is time: what is packed may go on for long before anything comes out.

    Args:
        file: open for reading.
        end_time: a time of `time.monotonic`, at which reading ends.
    """

    def __init__(self, file: IO[bytes], end_time: float):
        self.file, self.end_time = file, end_time
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read as a file does, if there is time."""
        _check_time(self.end_time)
        return self.file.read(size)


@contextlib.contextmanager
def _open_in_tar(archive: IO[bytes], name: str, end_time: float) -> Iterator[tuple[IO[bytes], int]]:
    size = archive.seek(0, 2)
    archive.seek(0)
    reader, found = TarReader(_SearchedFile(archive, end_time)), None
    for count, member in enumerate(reader, 1):
        _check_time(end_time)
        if count > MOST_MEMBERS:
            raise UnreadableVideoError(f"the archive holds more than {MOST_MEMBERS} files: unpack it first")
        _check_size(member.offset_data + member.size if member.size >= 0 else math.inf, packed=size)
        # Of those of one name, the last one counts, as where they are unpacked.
        found = member if member.name.lstrip("/") == name else found
    # Of what is packed, the checksum stands at the end.
    while reader.is_packed and reader.stream.read(MOST_HEADER_BYTES):
        _check_size(reader.stream.tell(), packed=size)
    if found is None or not found.isreg() or found.issparse():
        raise _missing(name)
    with reader.extractfile(found) as file:  # type: ignore[union-attr]
        yield file, found.size


# Scheme of an address -> opens the file of a name in an archive that is open for reading, by a time of the clock; with
# its size.
ARCHIVES: dict[str, Callable[[IO[bytes], str, float], AbstractContextManager[tuple[IO[bytes], int]]]] = {
    "zip": _open_in_zip,
    "tar": _open_in_tar,
}


def _missing(name: str) -> UnreadableVideoError:
    return UnreadableVideoError(f"the archive holds no file {name[:200]!r}")


def _check_time(end_time: float) -> None:
    """Refuse an archive in which a file is looked for, or read, until the end of the time, of `time.monotonic`."""
    if time.monotonic() > end_time:
        raise UnreadableVideoError(
            "finding and reading it in the archive took longer than the time limit (VideoLimits.timeout_seconds): "
            "unpack it first"
        )


def _check_size(size: float, *, packed: int) -> None:
    """Refuse what unpacks to more than videos do."""
    most = max(UNPACKED_BYTES, MOST_UNPACKED * packed)
    if size > most:
        raise UnreadableVideoError(
            f"{packed} bytes of the archive become {size} or more; at most {most} are unpacked. Unpack it first, if "
            "you trust it"
        )
