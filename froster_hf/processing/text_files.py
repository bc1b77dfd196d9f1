"""Text files that somebody else wrote: bounded before they are read, decoded once, and named in every error.

Under the readers of label files (`label_files.py`), lists and annotation files (`froster_hf.data`).
"""

import contextlib
import csv
import itertools
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from ..printing import printable
from ..video.stores import is_address, read_beginning
from ..video.types import UnreadableVideoError

# The largest published annotation file (the training list of Something-Something v2) has about 40 MB.
MAX_FILE_BYTES = 128 * 2**20
# The longest published list (the training videos of Kinetics-700) has 0.6 million. Each takes hundreds of bytes.
MAX_LINES = 2_000_000
# Of a line of a table, such as one for each of a data set's classes; and fields of a table that are all held at once,
# of which Kinetics-700 has 3 million.
MAX_COLUMNS = 10_000
MAX_HELD_FIELDS = 10_000_000
# Characters of a file's name that stand beside each of its lines.
LONGEST_NAME = 100
# Of a JSON file, by its brackets, commas and braces; that of the same list has 8 million. Each takes up to 80 bytes,
# and an object, which a brace begins, as much as three.
MAX_JSON_MARKS = 10_000_000
MARKS = {"[": 1, ",": 1, "{": 3}

# What divides the columns of a table.
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "blanks"}

_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# As on Unix, Windows or old Macs; `str.splitlines` also ends lines at characters that labels may hold.
LINE_END = re.compile("\r\n|\n|\r")
# Of byte order, where a line or a cell begins: of files that were put together.
_INNER_MARK = re.compile('(?<=[\r\n,;\t "|])\ufeff+')


class AnnotationError(ValueError):
    """A file of annotations or labels that cannot be used as it stands; the message names file and line."""


def shown_path(path: str | os.PathLike) -> str:
    """A file's name for a message."""
    return printable(os.fspath(path))


def shown_place(name: str, number: int, *, of: str = "line") -> str:
    """Where something stands in a file, short enough to be kept for each of millions of lines.

    Args:
        name: the file's, as it is shown.
        number: of what stands there.
        of: what is counted.
    """
    short = name if len(name) <= LONGEST_NAME else f"...{name[-LONGEST_NAME:]}"
    return f"{short}, {of} {number}"


def read_text(path: str | os.PathLike, *, max_bytes: int = MAX_FILE_BYTES) -> str:
    """A UTF-8 text file's content, without the byte order marks that editors on Windows begin it with.

    Where files were put together, a line or cell may begin with one.

    Args:
        path: path of a file, or its address in a store (`s3://bucket/labels.txt`), which the caller names.
        max_bytes: a larger file is refused.

    Raises:
        AnnotationError: it is larger than `max_bytes`, no regular file, or not UTF-8; an encoding that is known by its
            mark is named.
        OSError: it cannot be opened.
    """
    if is_address(os.fspath(path)):
        data = _read_store(os.fspath(path), max_bytes + 1)
    elif os.path.exists(path) and not os.path.isfile(path):
        raise AnnotationError(f"{shown_path(path)} is not a file.")
    else:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise AnnotationError(
            f"{shown_path(path)} has more than {max_bytes} bytes, the most that is read of its kind."
        )
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), None)
    if encoding is not None:
        raise AnnotationError(f"{shown_path(path)} is {encoding} text, not UTF-8. Save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{shown_path(path)} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    if "\0" in text:
        raise AnnotationError(f"{shown_path(path)} holds NUL characters: it is binary, or UTF-16 text, not UTF-8.")
    return _INNER_MARK.sub("", text.lstrip("\ufeff"))


def _read_store(address: str, num_bytes: int) -> bytes:
    """The beginning of a file in a store."""
    try:
        return read_beginning(address, num_bytes)
    except UnreadableVideoError as error:
        raise AnnotationError(f"{shown_path(address)}: {error}.") from error


def read_lines(path: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """Non-empty lines of a text file as (line, "file, line N"); lines end as on Unix, Windows or old Macs.

    Raises:
        AnnotationError: see `read_text`; or it has more than `MAX_LINES`.
    """
    return _lines_of(read_text(path), shown_path(path))


def read_lines_of(files: Iterable[str | os.PathLike]) -> Iterator[tuple[Any, str, str]]:
    """The lines of several files of one list, such as one for each class, as (file, line, "file, line N").

    Raises:
        AnnotationError: see `read_lines`, which counts the lines of each; or all together have more than `MAX_LINES`.
    """
    count = 0
    for file in files:
        for line, where in read_lines(file):
            count += 1
            if count > MAX_LINES:
                raise AnnotationError(f"{where}: up to here are more than {MAX_LINES:,} lines. Read them in parts.")
            yield file, line, where


def read_json_lines(path: str | os.PathLike) -> Iterator[tuple[Any, str]]:
    """Non-empty lines of a JSON Lines file as (content, "file, line N"), one after another.

    Raises:
        AnnotationError: see `read_lines` and `parse_json`, which counts the values of all lines together.
    """
    name, text = shown_path(path), read_text(path)
    _refuse_many_values(text, name)
    for line, where in _lines_of(text, name):
        yield parse_json(line, source=where), where


def _lines_of(text: str, name: str) -> Iterator[tuple[str, str]]:
    if count_line_ends(text) > MAX_LINES:
        raise AnnotationError(f"{name} has more than {MAX_LINES:,} lines. Read it in parts.")
    # One after another: all lines take as much as the text once more.
    start = 0
    for number, end in enumerate(itertools.chain(LINE_END.finditer(text), [None]), start=1):
        line = text[start : len(text) if end is None else end.start()]
        start = len(text) if end is None else end.end()
        if line.strip():
            yield line, shown_place(name, number)


def count_line_ends(text: str) -> int:
    """How many lines end, without dividing the text into them."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def csv_cells(line: str, where: str, delimiter: str = ",") -> list[str]:
    """One line's fields, quoted as in CSV or not, without the blanks around them.

    Raises:
        AnnotationError: quotes that cannot be told apart, or more than `MAX_COLUMNS`; names `where`.
    """
    # Tabs at the ends of a line have empty fields beside them.
    line = line.strip(" ") if delimiter == "\t" else line.strip()
    if line.count(delimiter) >= MAX_COLUMNS:
        raise AnnotationError(f"{where}: there are more than {MAX_COLUMNS:,} fields. Leave out columns.")
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise AnnotationError(
            f"{where}: not a CSV line ({printable(str(error))}). A field in quotes ends on its line, and a quote "
            "within it is written twice."
        ) from error
    return [cell.strip() for cell in cells]


def read_header(line: str, where: str, columns: Collection[str]) -> tuple[list[str], str] | None:
    """What a table's first line calls its columns, and what divides them; `None` where it does not name these.

    Names in capitals, as people write them in spreadsheets, stand there as `columns` has them.

    Raises:
        AnnotationError: one of `columns` stands twice; names `where`.
    """
    spelling = {name.lower(): name for name in columns}
    for delimiter in DELIMITERS:
        header: list[str] = []
        with contextlib.suppress(AnnotationError):  # quotes or blanks that another delimiter makes sense of
            header = csv_cells(line, where, delimiter)
        if not set(columns) <= set(header):
            header = [spelling.get(cell.lower(), cell) for cell in header]
        if set(columns) <= set(header):
            if repeated := [name for name in columns if header.count(name) > 1]:
                raise AnnotationError(
                    f"{where}: the column {printable(repeated[0])!r} stands twice. Rename one of them."
                )
            return header, delimiter
    return None


def rows_below_header(
    lines: Iterable[tuple[str, str]], header: Sequence[str], delimiter: str
) -> Iterator[tuple[list[str], str]]:
    """The fields of each line of a table as (fields, "file, line N"), as many as the header names or empty ones more.

    Args:
        lines: those below the header, as `read_lines` gives them.
        header: what `read_header` found.
        delimiter: the same.

    Raises:
        AnnotationError: a line has other fields, such as a path with a comma that is not in quotes; names it.
    """
    for line, where in lines:
        cells = csv_cells(line, where, delimiter)
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise AnnotationError(f"{where}: {len(cells)} fields, but the header names {len(header)}.")
        yield cells, where


def read_json(
    path: str | os.PathLike, *, max_bytes: int = MAX_FILE_BYTES, max_depth: int | None = None, finite: bool = True
) -> Any:
    """A JSON file's content.

    Args:
        path: path of the file.
        max_bytes: a larger file is refused.
        max_depth: levels of lists and objects; one that is nested deeper is refused.
        finite: whether NaN and infinities, which Python writes and JSON does not have, are refused.

    Raises:
        AnnotationError: see `read_text` and `parse_json`.
    """
    content = parse_json(read_text(path, max_bytes=max_bytes), source=shown_path(path), finite=finite)
    level = [content]
    for _ in range(max_depth or 0):
        level = list(
            itertools.chain.from_iterable(
                value.values() if isinstance(value, dict) else value
                for value in level
                if isinstance(value, dict | list)
            )
        )
    if max_depth is not None and any(isinstance(value, dict | list) for value in level):
        raise AnnotationError(f"{shown_path(path)} is JSON of more than {max_depth} levels.")
    return content


def parse_json(text: str, *, source: str, finite: bool = True) -> Any:
    """JSON as its standard has it: no key twice in an object, of which Python would keep the last, and no NaN, if
    `finite`.

    Raises:
        AnnotationError: not JSON, nested deeper than Python's parser follows (about 1,000 levels), or of more values
            than `MAX_JSON_MARKS` allows, whose objects would be a hundred times as large as the text.
    """
    _refuse_many_values(text, source)
    try:
        constant = _refuse_constant if finite else float
        return json.loads(text, object_pairs_hook=_without_repeated_keys, parse_constant=constant)
    except RecursionError:
        raise AnnotationError(f"{source} is JSON that is nested too deeply to be annotations.") from None
    except ValueError as error:
        raise AnnotationError(f"{source} is not JSON ({error}).") from error


def count_json_marks(text: str) -> int:
    """What a JSON text holds at most, in the measure of `MAX_JSON_MARKS`, without making objects of it."""
    return sum(text.count(mark) * weight for mark, weight in MARKS.items())


def _refuse_many_values(text: str, source: str) -> None:
    if count_json_marks(text) > MAX_JSON_MARKS:
        raise AnnotationError(f"{source} has more values than any annotation file. Divide it.")


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {printable(repeated[:80])!r} stands twice in one object")
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")
