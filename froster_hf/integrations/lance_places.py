"""Where a table of LanceDB says that its files are, read before LanceDB follows it.

A table's manifests (`_versions/*.manifest`, a protobuf message each) may name base paths: other folders, or buckets,
which are opened with the caller's credentials. A catalogue (`__manifest`) may name other places for whole tables. An
index of this package has neither.

    manifest:   ... | message's length, 4 bytes | message | its length's place, 8 bytes | version, 4 bytes | LANC
    data file:  ... | places of columns, their table, that of buffers, 8 bytes each | numbers of buffers and of
                columns, 4 bytes each | version, 4 bytes | LANC

    rows that were deleted: a file of Arrow with one batch: ... | footer | its length, 4 bytes | ARROW1

LanceDB counts with the numbers of all as they are: some let it search without end, or take memory until it aborts.
"""

import contextlib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from ..video.stores import is_address, open_store

# Numbers of the manifest's fields in Lance's format (table.proto) that lead nowhere; what LanceDB writes for an index
# is among them. 18 is `base_paths`, 20 the name of a branch, whose files lie elsewhere. 6 are indexes of columns: they
# say themselves which rows they cover, and could hide any.
KNOWN_FIELDS = frozenset({*range(1, 6), *range(7, 17), 19, 21})
# The same of the messages within it: of what LanceDB may write besides, rows may have numbers of their own, as many as
# are stated.
KNOWN_FRAGMENT_FIELDS = frozenset(range(1, 5))
KNOWN_FILE_FIELDS = frozenset(range(1, 7))
# Of a column: its name, number, parent, type and encoding.
KNOWN_COLUMN_FIELDS = frozenset({2, 3, 4, 5, 7})
# Types of an index's columns; LanceDB follows those within others by recursion.
COLUMN_TYPES = re.compile(rb"string|double|binary|fixed_size_list:float:[1-9][0-9]{0,8}")
# Bits of the two fields of a manifest that say what its reader and its writer have to know: deletions, the second
# format of data files, and settings of the table.
FLAGS, KNOWN_FLAGS = (9, 10), 1 | 4 | 8
CATALOGUE = "__manifest"
# LanceDB follows columns within columns by recursion; an index has six beside each other.
MOST_COLUMNS = 6
# One per commit between two times that they are put together: days of indexing have thousands.
MOST_FRAGMENTS = 100_000
MOST_FRAGMENT_ID = 2**24
# With one per column, and some of the table.
MOST_FIELDS = 200_000
# They are read as a whole, and have some kilobytes.
MOST_BYTES = 2**26
_FILE_NAME = re.compile(rb"[\w-]+\.lance")
_FOOTER_BYTES = 16
_DATA_FOOTER_BYTES = 40
# With most of the descriptions of columns before them, so that one reading of a store is enough.
_DATA_END_BYTES = 2**16
# More rows are written as bits, in another format, and a batch has no more bytes than this once it is unpacked.
MOST_DELETION_BYTES = 2**20
# Of a column or a buffer in the tables of a data file: its place and size.
_ENTRY_BYTES = 16
# The fields of a manifest, of its fragments, of its columns, of the data files of fragments and of their deletions.
COLUMN, FRAGMENT, VERSION = 1, 2, 3
FRAGMENT_ID, DATA_FILE, DELETIONS, NUM_ROWS = 1, 2, 3, 4
COLUMN_ID, COLUMN_TYPE, FILE_NAME, FILE_SIZE, NUM_DELETED = 3, 5, 1, 6, 4
# Of a data file: the numbers of its columns, and where each is in it, one byte each.
FILE_COLUMNS = (2, 3)
# Of a column in a data file: its pages; of both, the places and sizes of their buffers; of a page, what it is made of,
# within which a value that all rows have is the sixth field of the layout, and may look like a message.
PAGE, BUFFERS, PAGE_BUFFERS, LAYOUT, EQUAL_VALUE = 2, (3, 4), (1, 2), (4, 2, 1, 2), 6
# prost, which reads them, goes to 100.
_DEEPEST = 50
_FIXED_BYTES = {1: 8, 5: 4}


def refuse_other_places(folder: str, table: str) -> bool:
    """Refuse a folder of LanceDB, or one in a store, whose table could have files elsewhere, or indexes of columns.

    So are fragments and footers of data files with numbers that cannot be.

    Args:
        folder: absolute path, or address, of the database's folder.
        table: name of the table.

    Returns:
        Whether it has a table of this name.

    Raises:
        ValueError: it has a catalogue, or a manifest that names other places or indexes, or cannot be read; or numbers
            of a fragment or a data file cannot be.
        UnreadableVideoError: nothing is known to open such addresses.
        DecodingUnavailableError: what opens them is not installed.
    """
    system, path = _open_folder(folder)
    if system.exists(f"{path}/{CATALOGUE}"):
        raise ValueError(f"{CATALOGUE} may name other places for its table")
    # What a writer that was killed has left ends in another way, and is not opened.
    found = system.find(f"{path}/{table}.lance", detail=True)
    folder_of_data = f"{path}/{table}.lance/data/"
    sizes = {file.removeprefix(folder_of_data): entry["size"] for file, entry in found.items()}
    for name, content in _manifests(system, found):
        _check_manifest(content, name, sizes)
    for file, entry in found.items():
        name = file.rpartition("/")[2]
        # Another process may have taken an old file away.
        with contextlib.suppress(FileNotFoundError):
            if file.endswith(".lance"):
                _check_data_file(partial(system.cat_file, file), entry["size"], name)
            elif file.endswith(".arrow"):
                if entry["size"] > MOST_DELETION_BYTES:
                    raise ValueError(f"{name} has {entry['size']} bytes, and is not a list of deleted rows")
                _check_deletions(system.cat_file(file, start=0, end=MOST_DELETION_BYTES), name)
    return any(file.endswith("manifest") for file in found)


def table_bytes(folder: str, table: str, version: int) -> int:
    """The size of the files that a version of a table names for its rows, each once.

    Args:
        folder: see `refuse_other_places`, which has looked at it.
        table: name of the table.
        version: as LanceDB counts them.

    Raises:
        ValueError: a manifest cannot be read.
    """
    system, path = _open_folder(folder)
    found = system.find(f"{path}/{table}.lance", detail=True)
    # Others may lie beside them, as large as somebody likes.
    named = {
        bytes(value).decode("ascii", "replace")
        for name, content in _manifests(system, found)
        if (fields := list(_manifest_fields(content, name))) and (VERSION, version) in fields
        for field, fragment in fields
        if field == FRAGMENT
        for part, data_file in _message(fragment, name)
        if part == DATA_FILE
        for place, value in _message(data_file, name)
        if place == FILE_NAME and isinstance(value, bytes)
    }
    return sum(found.get(f"{path}/{table}.lance/data/{name}", {}).get("size") or 0 for name in named)


def _manifests(system: AbstractFileSystem, found: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The name and content of each manifest among the files of a table."""
    for file in sorted(found):
        if not file.endswith("manifest"):
            continue
        name = file.rpartition("/")[2]
        if (found[file].get("size") or 0) > MOST_BYTES:
            raise ValueError(f"{name} has {found[file]['size']} bytes, and is not a manifest")
        # Another process may have taken an old version away.
        with contextlib.suppress(FileNotFoundError):
            yield name, system.cat_file(file, start=0, end=MOST_BYTES)


def _open_folder(folder: str) -> tuple[AbstractFileSystem, str]:
    system, path = open_store(folder) if is_address(folder) else (LocalFileSystem(), folder)
    # Some stores remember what they have listed.
    system.invalidate_cache()
    return system, path.rstrip("/")


def _manifest_fields(content: bytes, name: str) -> Iterator[tuple[int, int | bytes]]:
    if len(content) < _FOOTER_BYTES + 4:
        raise ValueError(f"{name} is cut short")
    end = len(content) - _FOOTER_BYTES
    start = int.from_bytes(content[end : end + 8], "little") + 4
    if content[-4:] != b"LANC" or start > end or int.from_bytes(content[start - 4 : start], "little") != end - start:
        raise ValueError(f"{name} is not a manifest")
    yield from _fields(content, start, end, name)


def _check_manifest(content: bytes, name: str, sizes: Mapping[str, int]) -> None:
    ids: set[int] = set()
    num_columns = 0
    for count, (field, value) in enumerate(_manifest_fields(content, name)):
        if field not in KNOWN_FIELDS or count >= MOST_FIELDS:
            raise ValueError(f"{name} may name other places for its files, or indexes of its columns (field {field})")
        num_columns += field == COLUMN
        if num_columns > MOST_COLUMNS:
            raise ValueError(f"{name} has more columns than an index, which has {MOST_COLUMNS}")
        if field == COLUMN:
            _check_column(value, name, num_columns - 1)
        if field in FLAGS and (not isinstance(value, int) or value & ~KNOWN_FLAGS):
            raise ValueError(f"{name} asks for more than an index does of whoever reads it (field {field})")
        if field == FRAGMENT:
            fragment_id = _check_fragment(value, name, sizes)
            if fragment_id in ids:
                raise ValueError(f"{name} has two fragments of the number {fragment_id}")
            ids.add(fragment_id)
            if len(ids) > MOST_FRAGMENTS:
                raise ValueError(f"{name} has more than {MOST_FRAGMENTS} fragments")


def _check_column(column: int | bytes, name: str, number: int) -> None:
    numbers = [value for field, value in _message(column, name) if field == COLUMN_ID]
    # LanceDB looks by it for what the column holds, and finds nothing, or what another one does.
    if (numbers or [0]) != [number]:
        raise ValueError(f"{name} has a column of another number than an index, whose are 0 to {MOST_COLUMNS - 1}")
    for field, value in _message(column, name):
        if field not in KNOWN_COLUMN_FIELDS:
            raise ValueError(f"{name} has a column with more than those of an index (field {field})")
        if field == COLUMN_TYPE and not (isinstance(value, bytes) and COLUMN_TYPES.fullmatch(value)):
            raise ValueError(f"{name} has a column of another type than those of an index")


def _check_fragment(fragment: int | bytes, name: str, sizes: Mapping[str, int]) -> int:
    """Its number; a number that is left out is 0.

    Args:
        fragment: message of a manifest.
        name: of the manifest.
        sizes: of the data files that are there, by their names.
    """
    numbers = {FRAGMENT_ID: 0, NUM_ROWS: 0}
    num_deleted = 0
    for field, value in _message(fragment, name):
        if field not in KNOWN_FRAGMENT_FIELDS:
            raise ValueError(f"{name} has a fragment with more than those of an index (field {field})")
        if field in numbers:
            if not isinstance(value, int) or value >= (MOST_FRAGMENT_ID if field == FRAGMENT_ID else 2**32):
                raise ValueError(f"{name} has a fragment with a number that none has (field {field})")
            numbers[field] = value
        elif field == DATA_FILE:
            known, stated, columns = 0, [0], dict.fromkeys(FILE_COLUMNS, b"")
            for part, content in _message(value, name):
                if part not in KNOWN_FILE_FIELDS:
                    raise ValueError(f"{name} has a data file with more than those of an index (field {part})")
                if part == FILE_NAME:
                    # Another name could lead to a file that is not looked at.
                    if not (isinstance(content, bytes) and _FILE_NAME.fullmatch(content)):
                        raise ValueError(f"{name} has a fragment with a data file of another name than LanceDB gives")
                    known = sizes.get(content.decode(), 0)
                if part == FILE_SIZE and isinstance(content, int):
                    stated.append(content)
                if part in FILE_COLUMNS and isinstance(content, bytes):
                    columns[part] += content
            if any(numbers != bytes(range(MOST_COLUMNS)) for numbers in columns.values()):
                raise ValueError(f"{name} has a data file with other columns than the {MOST_COLUMNS} of an index")
            # LanceDB looks there for the footer, which would not be the file's own.
            if any(0 < size < known for size in stated):
                raise ValueError(f"{name} states another size of a data file than its {known} bytes")
        elif field == DELETIONS:
            found = [number for part, number in _message(value, name) if part == NUM_DELETED]
            num_deleted = max([num_deleted, *(number for number in found if isinstance(number, int))])
    if num_deleted > numbers[NUM_ROWS]:
        raise ValueError(f"{name} has a fragment of {numbers[NUM_ROWS]} rows, of which {num_deleted} are deleted")
    return numbers[FRAGMENT_ID]


def _check_data_file(read: Callable[..., bytes], num_bytes: int, name: str) -> None:
    """Refuse numbers that cannot be at the end of a data file, and in what it says of its columns before it.

    Args:
        read: gives the file's bytes from a place on.
        num_bytes: its size.
        name: of the file.
    """
    begin = max(num_bytes - _DATA_END_BYTES, 0)
    content = read(start=begin)
    if len(content) != num_bytes - begin or len(content) < _DATA_FOOTER_BYTES or not content.endswith(b"LANC"):
        # A file that a writer left behind, or that was cut short, is not opened by LanceDB.
        return
    columns, table, buffers, num_buffers, num_columns = struct.unpack_from("<QQQII", content[-_DATA_FOOTER_BYTES:])
    end = num_bytes - _DATA_FOOTER_BYTES
    if not columns <= table <= table + num_columns * _ENTRY_BYTES <= buffers <= end - num_buffers * _ENTRY_BYTES:
        raise ValueError(f"{name} says at its end that it has more than it has")
    if num_columns > MOST_COLUMNS or end - columns > MOST_BYTES:
        raise ValueError(f"{name} says more of its columns than an index has of {MOST_COLUMNS}")
    if columns < begin:
        begin, content = columns, read(start=columns)
    for place in range(table - begin, table - begin + num_columns * _ENTRY_BYTES, _ENTRY_BYTES):
        start, size = struct.unpack_from("<QQ", content, place)
        if not columns <= start <= start + size <= table:
            raise ValueError(f"{name} says at its end that it has more than it has")
        for field, value in _message(content[start - begin : start - begin + size], name):
            if field in BUFFERS:
                _check_buffers(value, num_bytes, name)
            elif field == PAGE:
                for part, below in _message(value, name):
                    if part in PAGE_BUFFERS:
                        _check_buffers(below, num_bytes, name)
                # None counts more than the bits of the file.
                if _largest(value, PAGE_BUFFERS) > 8 * num_bytes:
                    raise ValueError(f"{name} has a page with more values, or parts of them, than it has bits")


def _check_buffers(value: int | bytes, num_bytes: int, name: str) -> None:
    """Refuse a place or a size beyond the file among those of a column or a page, which are one after the other."""
    position = 0
    numbers = [value] if isinstance(value, int) else []
    while isinstance(value, bytes) and position < len(value):
        number, position = _varint(value, position, len(value), name)
        numbers.append(number)
    if any(number > num_bytes for number in numbers):
        raise ValueError(f"{name} has a buffer beyond its end")


def _largest(message: bytes | int, passed_over: tuple[int, ...] = (), path: tuple[int, ...] = ()) -> int:
    """The largest number in a message and in those within it; text, and bytes that are not a message, have none."""
    if isinstance(message, int):
        return message
    try:
        fields = list(_fields(message, 0, len(message), ""))
    except ValueError:
        return 0
    if len(path) > _DEEPEST:
        return 2**64
    return max(
        (
            _largest(value, path=(*path, field))
            for field, value in fields
            if field not in passed_over and not (path[:-1] == LAYOUT and field == EQUAL_VALUE)
        ),
        default=0,
    )


def _check_deletions(content: bytes, name: str) -> None:
    """Refuse a file of Arrow whose only batch lies outside of it, or is unpacked to more than any.

    LanceDB takes memory for what the file says before it reads it.
    """
    if not content.endswith(b"ARROW1"):
        return
    try:
        end = len(content) - 10
        start = end - _number(content, end)
        footer = start + _number(content, start)
        batches, num_batches = _vector(content, footer, 3)
        if num_batches != 1 or _vector(content, footer, 2)[1]:
            raise ValueError(f"{name} has {num_batches} batches of deleted rows")
        place, num_head, num_body = struct.unpack_from("<qi4xq", content, batches)
        body = place + num_head
        if min(place, num_head, num_body) < 0 or body + num_body > len(content):
            raise ValueError(f"{name} says that it has more than it has")
        message = place + (8 if content[place : place + 4] == b"\xff" * 4 else 4)
        message += _number(content, message)
        header = _field(content, message, 2)
        header += _number(content, header)
        buffers, num_buffers = _vector(content, header, 2)
        if content[_field(content, message, 1)] != 3 or num_buffers > 2:
            raise ValueError(f"{name} has another batch than of deleted rows")
        for position in range(buffers, buffers + num_buffers * _ENTRY_BYTES, _ENTRY_BYTES):
            offset, size = struct.unpack_from("<qq", content, position)
            if min(offset, size) < 0 or offset + size > num_body:
                raise ValueError(f"{name} says that it has more than it has")
            # A packed one begins with its size, or -1.
            unpacked = (
                struct.unpack_from("<q", content, body + offset)[0] if size and _field(content, header, 3) else 0
            )
            if unpacked < -1 or unpacked > MOST_DELETION_BYTES:
                raise ValueError(f"{name} is unpacked to more than a list of deleted rows")
    except (struct.error, IndexError) as error:
        raise ValueError(f"{name} is cut short") from error


def _number(content: bytes, place: int, code: str = "<i") -> int:
    return struct.unpack_from(code, content, place)[0]


def _field(content: bytes, table: int, number: int) -> int:
    """The place of a field of a table of FlatBuffers; 0 where it is left out."""
    places = table - _number(content, table)
    if 4 + 2 * number >= _number(content, places, "<H"):
        return 0
    offset = _number(content, places + 4 + 2 * number, "<H")
    return table + offset if offset else 0


def _vector(content: bytes, table: int, number: int) -> tuple[int, int]:
    """Where the entries of a field begin, and how many they are."""
    place = _field(content, table, number)
    if not place:
        return 0, 0
    place += _number(content, place)
    return place + 4, _number(content, place)


def _message(value: int | bytes, name: str) -> Iterator[tuple[int, int | bytes]]:
    if isinstance(value, int):
        raise ValueError(f"{name} is not a manifest")
    return _fields(value, 0, len(value), name)


def _fields(content: bytes, position: int, end: int, name: str) -> Iterator[tuple[int, int | bytes]]:
    """The numbers of a protobuf message's fields, each with its value: a number, or bytes."""
    while position < end:
        key, position = _varint(content, position, end, name)
        kind = key & 7
        start = position
        value: int | None = None
        if kind == 0:
            value, position = _varint(content, position, end, name)
        elif kind == 2:
            length, start = _varint(content, position, end, name)
            position = start + length
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            raise ValueError(f"{name} is not a manifest")
        yield key >> 3, content[start:position] if value is None else value
    if position != end:
        raise ValueError(f"{name} is cut short")


def _varint(content: bytes, position: int, end: int, name: str) -> tuple[int, int]:
    """A number of 7 bits per byte, lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError(f"{name} is cut short")
        byte = content[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
    raise ValueError(f"{name} is not a manifest")
