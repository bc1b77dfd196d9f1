"""Files of labels: text, JSON or CSV, each recognized by its content or refused by name.

The one reader for every verb's `--labels-file`, for the data package's `labels=`, and for descriptions. What the file
holds goes on to `prompts_froster.py`, which tells index to name, name to index and name to description apart.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..printing import printable
from .prompts_froster import (
    MAX_LABELS,
    Description,
    LabelList,
    checked_label_list,
    in_order_of_indices,
    index_of,
    read_label_list,
)
from .text_files import (
    LINE_END,
    AnnotationError,
    count_line_ends,
    csv_cells,
    parse_json,
    read_text,
    shown_path,
    shown_place,
)

MAX_LABEL_FILE_BYTES = 16 * 2**20
# {label: one sentence}, written for this package and under its license.
DESCRIPTIONS_FOLDER = Path(__file__).parent / "descriptions"
# Data set -> the files that describe its classes. Most of Kinetics-400 is in Kinetics-600, too.
SHIPPED_DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "ucf101": ("ucf101.json",),
    "hmdb51": ("hmdb51.json",),
    "k400": ("kinetics_shared.json", "k400_only.json"),
    "k600": ("kinetics_shared.json", "k600_only.json"),
    "ssv2": ("ssv2.json",),
}

# What first lines of tables call their columns.
_HEADERS = {
    "index": {"id", "idx", "index", "number", "class_id", "classid", "class_index", "label_id", "label_index"},
    "name": {
        *("name", "label", "class", "action", "category", "class_name", "classname", "label_name", "text"),
        *("names", "labels", "classes", "actions", "categories", "class_names", "label_names"),
    },
    "description": {"description", "definition", "caption", "sentence", "prompt"},
}
# With line breaks, which a cell in quotes may hold: at one that did not match, every way to divide it would be tried.
_NUMBERED = re.compile(r"\s*[(\[#]?([0-9]{1,9})[\s,;:.)\]|_/=-]+(\S.*)", re.DOTALL)
_NUMBER_BEHIND = re.compile(r"(.*[^\s,;:=(\[#|_/-])[\s,;:=(\[#|_/-]+([0-9]{1,9})[\s)\]]*")
# Spreadsheets write a text so that holds a comma, in files of text, too.
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
# How all lines look that hold more than labels, and what this is called.
_OTHER_LINES = {
    re.compile(r"'.*'[,;]?"): "every line stands in single quotes",
    re.compile(r"[-*\u2022]\s.*"): "every line begins with a bullet",
}
# Formats with a structure of their own, whose lines would pass for labels.
_OTHER_FORMATS = {".jsonl", ".ndjson", ".yaml", ".yml", ".xml", ".toml"}
_FORMS = "one label per line, JSON, or CSV with the columns id,name"


def read_label_file(path: str | os.PathLike) -> LabelList:
    """The labels of a file.

    - Text: one label per line, after a tab its description, or an index, a tab and a label.
    - JSON (`.json`, or text that is JSON): a list of names, {index: name}, {name: index}, {name: description}, each
      description a text or a list of texts.
    - CSV (`.csv`, `.tsv`): index and name in either order, name and description under a header, or names alone.
      Delimiter, header and quoting are decided once for the file.

    Indices run from 0 to K-1. Blanks around names are dropped.

    Raises:
        AnnotationError: anything else; names the file and what was found.
        OSError: the file cannot be opened.
    """
    source = shown_path(path)
    text = read_text(path, max_bytes=MAX_LABEL_FILE_BYTES)
    suffix = Path(path).suffix.lower()
    if not text.strip():
        raise AnnotationError(f"{source}: the file holds no labels; expected {_FORMS}.")
    try:
        if suffix == ".json" or _looks_like_json(text):
            return _from_json(text, source)
        if suffix in _OTHER_FORMATS:
            raise AnnotationError(f"{source}: labels are not read from {suffix} files; expected {_FORMS}.")
        if count_line_ends(text) > MAX_LABELS:
            raise AnnotationError(f"{source}: there are more than {MAX_LABELS} labels.")
        if suffix in (".csv", ".tsv"):
            return _from_table(text, source, delimiter=_delimiter(text, suffix))
        return _from_lines(text, source)
    except AnnotationError:
        raise
    except ValueError as error:
        # From the forms that programs hold, whose errors are not errors of files.
        raise AnnotationError(str(error)) from error


def read_descriptions(path: str | os.PathLike) -> dict[str, Description]:
    """The descriptions of a file of labels by name, `None` for labels that it names without one.

    Args:
        path: a file, or a key of `SHIPPED_DESCRIPTIONS`; a file of such a name is given as `./NAME`.

    Raises:
        AnnotationError: see `read_label_file`; there is no such file, or no label has a description.
        OSError: the file cannot be opened.
    """
    if shipped := SHIPPED_DESCRIPTIONS.get(os.fspath(path)):
        files = [read_label_file(DESCRIPTIONS_FOLDER / name) for name in shipped]
        return {name: text for file in files for name, text in file.pairs}
    try:
        labels = read_label_file(path)
    except FileNotFoundError as error:
        raise AnnotationError(
            f"There is no file {shown_path(path)} of descriptions; those that ship are called "
            f"{', '.join(SHIPPED_DESCRIPTIONS)}."
        ) from error
    if labels.descriptions is None:
        raise AnnotationError(
            f"{shown_path(path)} holds no descriptions ({labels.form}); expected JSON, {{label: description}} or "
            "{label: [description, ...]}, or lines of a label, a tab and a description."
        )
    return dict(labels.pairs)


def split_labels(text: str) -> list[str]:
    """The labels of one comma-separated line; a label with a comma stands in double quotes.

    >>> split_labels('growing, "up, then down"')
    ['growing', 'up, then down']

    Raises:
        ValueError: one of them is empty, or a quote is not closed.
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"The labels {text!r:.200} cannot be told apart ({printable(str(error))}); quote a label as in CSV."
        ) from error
    labels = [label.strip() for label in rows[0]]
    if not labels or "" in labels:
        raise ValueError(f"One of the labels in {text!r:.200} is empty; labels are separated by single commas.")
    return labels


def label_lines(text: str) -> list[str]:
    """The lines of a text of one label per line, without blanks around them and without empty ones."""
    return [line.strip() for line in LINE_END.split(text) if line.strip()]


def _looks_like_json(text: str) -> bool:
    """Whether a file without the suffix begins as JSON does; labels in brackets are followed by words."""
    start = text.lstrip()
    return start[0] == "{" or (start[0] == "[" and start[1:].lstrip()[:1] in ('"', "[", "{", "]"))


def _from_json(text: str, source: str) -> LabelList:
    labels = read_label_list(parse_json(text, source=source), source=source)
    names = [name.strip() for name in labels.names]
    return checked_label_list(names, labels.descriptions, source=source, form=f"JSON, {labels.form}")


def _from_lines(text: str, source: str) -> LabelList:
    lines = label_lines(text)
    if any("\t" in line for line in lines):
        # With the tabs around them: a line that begins with one has an empty name.
        numbered = enumerate(LINE_END.split(text), start=1)
        rows = [csv_cells(line, shown_place(source, number), "\t") for number, line in numbered if line.strip()]
        return _from_rows(rows, source, kind="text")
    if all(len(line) > 1 and line[0] == line[-1] == '"' for line in lines):
        return checked_label_list(_unquoted(lines, source), source=source, form="text, one quoted label per line")
    _refuse_numbered(lines, source)
    _refuse_other_lines(lines, source)
    names = [line[1:-1].replace('""', '"').strip() if _QUOTED.fullmatch(line) else line for line in lines]
    return checked_label_list(names, source=source, form="text, one label per line")


def _refuse_numbered(lines: Sequence[str], source: str) -> None:
    """Refuse labels with their numbers; where the numbers alone tell them apart (phase 1, phase 2), they are names."""
    for pattern, number, name, place in ((_NUMBERED, 1, 2, "begins"), (_NUMBER_BEHIND, 2, 1, "ends")):
        found = [match for line in lines if (match := pattern.fullmatch(line))]
        numbers = [int(match[number]) for match in found]
        is_counted = len(lines) > 1 and sorted(numbers) in ([*range(len(lines))], [*range(1, len(lines) + 1)])
        if is_counted and len({match[name] for match in found}) == len(lines):
            raise AnnotationError(
                f"{source}: every line {place} with its number ({lines[0]!r:.80}). If the numbers are not part of the "
                "labels, leave them out, or write a .csv file with the columns id,name; if they are, write a JSON "
                "list."
            )


def _refuse_other_lines(lines: Sequence[str], source: str) -> None:
    """Refuse lines of tables, of programs and of running text, which would be labels that nobody meant."""
    found = [what for pattern, what in _OTHER_LINES.items() if all(map(pattern.fullmatch, lines))]
    if len(lines) == 1 and re.search("[,;]", lines[0]):
        found.append("the only line, which is not in double quotes, has commas or semicolons")
    if lines[0].startswith(("['", '("', "('")) and lines[-1][-1] in "])":
        found.append("the lines are a list as programs write it")
    if len(lines) > 1 and all(line[-1] in ",;" for line in lines[:-1]):
        found.append("every line ends in a comma or semicolon")
    header = lines[0].replace('"', "")
    if any(_roles(cells) for mark in ",;" if len(cells := header.split(mark, len(_HEADERS))) > 1):
        found.append("the first line names columns, as in a file that ends in .csv")
    if found:
        raise AnnotationError(
            f"{source}: {found[0]} ({lines[0]!r:.80}). Write one label per line, with nothing around it, "
            "or a JSON list, in which labels are in double quotes."
        )


def _unquoted(lines: Sequence[str], source: str) -> list[str]:
    try:
        rows = list(csv.reader(lines, strict=True))
    except csv.Error as error:
        raise AnnotationError(f"{source}: quoted lines that are not CSV ({printable(str(error))}).") from error
    if any(len(cells) != 1 for cells in rows):
        raise AnnotationError(f"{source}: several quoted labels on a line; write one per line, or a .csv file.")
    return [cells[0].strip() for cells in rows]


def _delimiter(text: str, suffix: str) -> str:
    """The delimiter of the whole table: the one that makes columns of its first line, outside of quotes."""
    if suffix == ".tsv":
        return "\t"
    first = re.sub(r'"[^"]*"?', '""', LINE_END.split(text.lstrip("\r\n"), maxsplit=1)[0])
    tables = {mark: first.split(mark, len(_HEADERS)) for mark in (",", "\t", ";") if mark in first}
    for mark, cells in tables.items():
        if _roles(cells) or index_of(cells[0]) is not None or index_of(cells[-1]) is not None:
            return mark
    return next(iter(tables), ",")


def _from_table(text: str, source: str, *, delimiter: str) -> LabelList:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = [cells for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise AnnotationError(f"{source}, line {reader.line_num}: not CSV ({printable(str(error))}).") from error
    if not rows:
        raise AnnotationError(f"{source}: the table holds no labels; expected {_FORMS}.")
    return _from_rows(rows, source, kind="CSV")


def _from_rows(rows: Sequence[Sequence[str]], source: str, *, kind: str) -> LabelList:
    """A table of one to three columns; `kind` is "CSV", or "text", whose lines need not all have a description."""
    rows = [[cell.strip() for cell in row] for row in rows]
    width = max(map(len, rows))
    if kind == "text":
        if width > len(_HEADERS):  # one long line would make all others as long
            raise AnnotationError(f"{source}: a line has {width} columns; at most {len(_HEADERS)} are read.")
        rows = [[*row, *[""] * (width - len(row))] for row in rows]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise AnnotationError(
                f"{source}, row {number}: {len(row)} columns where the first row has {len(rows[0])}; quote names "
                "that hold the delimiter."
            )
    header = _roles(rows[0])
    roles = header or _guessed_roles(rows, source, kind)
    body = rows[1:] if header else rows
    if not body:
        raise AnnotationError(f"{source}: the table holds no labels below its header; expected {_FORMS}.")
    form = f"{kind}, columns {','.join(roles)}{' below a header' if header else ''}"
    return _from_columns(dict(zip(roles, zip(*body))), source, form)


def _roles(header: Sequence[str]) -> list[str] | None:
    """What the columns are, where the first row names them all and differently."""
    words = [cell.lower().replace(" ", "_").strip("#") for cell in header]
    if not words[0]:
        words[0] = "index"  # which pandas writes without a name
    roles = [next((role for role, known in _HEADERS.items() if word in known), "") for word in words]
    return roles if "name" in roles and "" not in roles and len(set(roles)) == len(roles) else None


def _guessed_roles(rows: Sequence[Sequence[str]], source: str, kind: str) -> list[str]:
    """The columns' roles without a header, from what their cells hold."""
    if len(rows[0]) == 1:
        names = [row[0] for row in rows]
        _refuse_numbered(names, source)
        if names[0] == "0" and any(index_of(name) is None for name in names):
            raise AnnotationError(
                f"{source}: the first row is '0', as pandas heads a column without a name. Call it `name`; if it is a "
                "label, write a JSON list."
            )
        return ["name"]
    if len(rows[0]) == 2:
        first, second = (sum(index_of(row[column]) is not None for row in rows) for column in (0, 1))
        if first == second == len(rows):
            raise AnnotationError(f"{source}: both columns are numbers; there are no class names.")
        if first == len(rows):
            return ["index", "name"]
        if second == len(rows):
            return ["name", "index"]
        # A single exception would be a header that is not known, or a mistake; the numbers would be descriptions.
        if kind == "text" and max(first, second) < max(1, len(rows) - 1):
            return ["name", "description"]
    raise AnnotationError(
        f"{source}: the columns of the first row, {', '.join(rows[0])!r:.200}, are neither an index and a name nor "
        "known as a header. Name them in a first line: id,name or name,description."
    )


def _from_columns(columns: dict[str, Iterable[str]], source: str, form: str) -> LabelList:
    names, descriptions = list(columns["name"]), columns.get("description")
    described: list[Any] = [None] * len(names) if descriptions is None else list(descriptions)
    if "index" in columns:
        indices: list[Any] = [index_of(cell) for cell in columns["index"]]
        if None in indices:
            wrong = list(columns["index"])[indices.index(None)]
            raise AnnotationError(f"{source}: the index {wrong!r:.80} is not a number from 0 to {len(names) - 1}.")
        pairs = in_order_of_indices(zip(indices, zip(names, described)), source=source)
        names, described = [name for name, _ in pairs], [text for _, text in pairs]
    if any("\n" in name or "\r" in name for name in names):
        raise AnnotationError(f"{source}: a label holds a line break; a quote may not be closed.")
    return checked_label_list(names, [text or None for text in described], source=source, form=form)
