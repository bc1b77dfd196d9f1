"""Settings files: YAML into dataclasses, for recipes, protocols, study plans and model cards.

    text --read_yaml--> values --merge_sections, override_fields--> fields --read_fields--> dataclass
    values --yaml_text--> text that is read as these values

The YAML is what JSON could say, with comments: no aliases, no tags, no dates, no key twice, and bounded in size and
depth before anything is built from it. So a small file cannot become a large value, and a file that anybody wrote may
be read. Unknown fields, and values of another type than the field's, are errors.
"""

import copy
import dataclasses
import difflib
import functools
import math
import os
import re
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from .printing import did_you_mean, listing, one_line, printable
from .video.stores import is_address
from .whole_files import refuse_irregular

# Kind of settings files -> folder of those that ship. It stands here, and not beside what reads them, so that they can
# be listed and named without importing torch.
SHIPPED_FOLDERS = {
    kind: Path(__file__).parent / folder
    for kind, folder in {
        "recipe": "training/recipes",
        "protocol": "evaluation/protocols",
        "plan": "shapes/study/plans",
    }.items()
}
MAX_CHARACTERS = 250_000
MAX_DEPTH = 20
MAX_DIGITS = 1000
_SHOWN_CHARACTERS = 80
# Files in a row of which each extends the next.
MOST_EXTENDED = 20
LONGEST_NAME = 200
"""Of what files and folders are called after, in bytes; file systems take names of 255."""


class _Loader(yaml.SafeLoader):
    """Refuses while it reads: the depth is counted on the way down, not found out by a full stack."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One value; see [`yaml.composer.Composer`]."""
        event = self.peek_event()
        if event.anchor is not None:
            problem = "aliases and anchors (`*name`, `&name`) are not taken; write the value out, text in quotes"
            raise _refused(problem, event)
        if event.tag is not None:
            raise _refused(f"tags ({printable(event.tag[:40])}) are not taken", event)
        if self.depth >= MAX_DEPTH:
            raise _refused(f"values are nested more than {MAX_DEPTH} deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, where no key stands twice."""
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise _refused("a field stands there twice", node)
        return mapping


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: text in quotes where YAML 1.1, 1.2 or both would take it for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """See [`yaml.representer.BaseRepresenter`]."""
        return True


# What is not text, as YAML 1.2 has it (its core schema). PyYAML reads YAML 1.1, which takes `12:30` for 750, `010` for
# 8, `1_000` for 1000, `no` for false and `1e-5` for text; dates, `=` and `<<` are text as well.
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
):
    for _either in (_Loader, _Dumper):
        _either.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)


def _read_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A leading zero makes no octal number, as in YAML 1.2."""
    text = loader.construct_scalar(node)
    if len(text) > MAX_DIGITS:
        # Python writes no longer ones out, not even in a message.
        raise _refused(f"a number has more than {MAX_DIGITS} digits", node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


_Loader.add_constructor("tag:yaml.org,2002:int", _read_int)


def _refused(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def read_yaml(text: str, *, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: at most `MAX_CHARACTERS`, nested at most `MAX_DEPTH` deep, without aliases and tags.
        where: the place of the text, for messages.

    Raises:
        ValueError: it is not such a text; the message is one line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{where} has more than {MAX_CHARACTERS} characters, too many for a file of settings.")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        problem = error.problem or error.context or "it cannot be read"
        raise ValueError(f"{where} is not valid YAML: {one_line(problem)}{place}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML does not have; `0x_`, or 5,000 digits
        raise ValueError(f"{where} is not valid YAML: {one_line(str(error))}.") from error


def read_yaml_file(path: str | os.PathLike) -> Any:
    """The value of a YAML file in UTF-8; see `read_yaml`.

    Raises:
        ValueError: it is not YAML, or not UTF-8.
        OSError: it cannot be read.
    """
    refuse_irregular(path)
    with open(path, encoding="utf-8") as file:
        try:
            text = file.read(MAX_CHARACTERS + 1)
        except UnicodeDecodeError as error:
            raise ValueError(f"{os.fspath(path)} is not text in UTF-8: {error.reason}.") from error
    return copy.deepcopy(_read_once(text.removeprefix("\ufeff"), where=os.fspath(path)))


# Each method of a study reads the recipe of all, and a long one takes seconds. Of two chains of files at most.
_read_once = functools.lru_cache(maxsize=2 * MOST_EXTENDED)(read_yaml)


def yaml_text(value: Any) -> str:
    r"""YAML that `read_yaml` reads as this value; characters that would act on a terminal, or hide in it, are `\u`
    escapes."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    shows_as_it_is = all(line.isprintable() for line in text.split("\n"))
    return text if shows_as_it_is else yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def list_named(kind: str) -> list[str]:
    """Names of the shipped settings files of a kind of `SHIPPED_FOLDERS`."""
    return sorted(path.stem for path in SHIPPED_FOLDERS[kind].glob("*.yaml"))


def describe_shipped(kind: str) -> dict[str, str]:
    """The names of `list_named`, each with what its file says `about` itself."""
    return {name: read_named(name, kind=kind)["about"] for name in list_named(kind)}


def check_named(name: str | os.PathLike, overrides: Sequence[str], *, kind: str) -> None:
    """Refuse what can be refused of a settings file and its overrides before anything heavy is imported.

    Raises:
        ValueError: no such file, no YAML, no fields, or an override that is not of the form `field=value`.
    """
    override_fields(read_named(name, kind=kind), overrides)


def merge_sections(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes over fields; of sections in both, only the fields that the changes name."""
    merged = dict(fields)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge_sections(merged[name], value) if both else value
    return merged


def read_named(
    name: str | os.PathLike,
    *,
    kind: str,
    merge: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] = merge_sections,
    seen: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The fields of a shipped YAML file by name, or of one by path, over those of the file that it `extends`.

    Args:
        name: name of a shipped file without its ending, or a path that ends in .yaml or .yml.
        kind: kind of the files, a name in `SHIPPED_FOLDERS`.
        merge: how a file's fields are laid over those of the file that it extends.
        seen: names of the files that extend one another down to this one.

    Raises:
        ValueError: no such file, no YAML, no fields, a file that extends itself, or one with another `name` than its
            own.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = SHIPPED_FOLDERS[kind] / f"{name}.yaml"
    # Unlike `path.is_file()`, false for names that are too long for the file system.
    if not os.path.isfile(path):
        shipped = list_named(kind)
        guess = did_you_mean(difflib.get_close_matches(os.fspath(name), shipped, n=2))
        raise ValueError(
            f"There is no {kind} {printable(repr(os.fspath(name)))}. {guess}Shipped are {', '.join(shipped)}; or "
            "give a .yaml file."
        )
    fields = read_yaml_file(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds no `field: value` lines.")
    refuse_addresses(fields, where=os.fspath(path))
    if (own_name := fields.pop("name", path.stem)) != path.stem:
        raise ValueError(
            f"{path}: name is {_shown(own_name)}. Results are written under a file's own name, and in place of those "
            "that are there: rename the file, or take the field out."
        )
    base = fields.pop("extends", None)
    if base is None:
        return fields
    if not isinstance(base, str):
        raise ValueError(f"{path}: extends is {_shown(base)}; give the name of one {kind}.")
    if len(seen) >= MOST_EXTENDED:
        raise ValueError(
            f"{path} extends {_shown(base)}; {MOST_EXTENDED} files in a row that extend another are read."
        )
    if base in seen:
        raise ValueError(f"{path} extends itself: {' -> '.join([*seen, base])}.")
    return merge(read_named(base, kind=kind, merge=merge, seen=(*seen, base)), fields)


def refuse_addresses(value: Any, *, where: str) -> None:
    """Raise where a file names an address, which would be opened with the accounts of whoever runs it.

    Args:
        value: of the file's fields; also of those that its overrides make.
        where: the file, for messages.

    Raises:
        ValueError: names it.
    """
    if isinstance(value, str):
        # An override in a study plan is a text `field=value`.
        for text in (value, value.partition("=")[2]):
            if is_address(text):
                raise ValueError(
                    f"{where} names the address {printable(repr(text), limit=100)}. What lies in a store is for the "
                    "command to name: take it out, and give it there, as field=ADDRESS."
                )
    elif isinstance(value, dict):
        for part in value.values():
            refuse_addresses(part, where=where)
    elif isinstance(value, list):
        for part in value:
            refuse_addresses(part, where=where)


def override_fields(fields: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Fields with some of them changed.

    Args:
        fields: by name.
        overrides: `field=value`, with dots into sections: `training.learning_rate=1e-5`. Values are read as YAML.

    Raises:
        ValueError: an override of another form.
    """
    merged = dict(fields)
    for override in overrides:
        key, separator, text = override.partition("=")
        names = key.split(".")
        if not separator or not all(names) or len(names) > MAX_DEPTH:
            raise ValueError(
                f"{_shown(override)} is not of the form field=value, such as training.learning_rate=1e-5."
            )
        if re.search(r"(^|\s)#", text) and text.lstrip()[:1] not in tuple("'\"[{"):
            raise ValueError(
                f"{_shown(override)}: in YAML, a comment begins at the `#`. Put the value in quotes of its own, as in "
                "data.root='\"day #1\"'."
            )
        value = read_yaml(text, where=_shown(override))
        for name in reversed(names):
            value = {name: value}
        merged = merge_sections(merged, value)
    return merged


def with_name(fields: Mapping[str, Any], file: str | os.PathLike) -> dict[str, Any]:
    """The fields with a `name`, by default that of the file.

    Raises:
        ValueError: the name is a path; results are written under it.
    """
    named = {"name": Path(file).stem, **fields}
    name = named["name"]
    if isinstance(name, str) and (
        name in ("", ".", "..")
        or not name.isprintable()
        or len(name.encode()) > LONGEST_NAME
        or set(name) & {"/", "\\", ":"}
    ):
        raise ValueError(
            f"{one_line(os.fspath(file))}: name is {_shown(name)}; it becomes part of paths: give one word of up to "
            f"{LONGEST_NAME} bytes."
        )
    return named


@dataclasses.dataclass(frozen=True, eq=False)
class NameIn:
    """Says of a field, as `Annotated[str, NameIn(TABLE)]`, that it is a name of this table as it is when read."""

    table: Mapping[str, Any]


def read_fields(kind: type, fields: Any, *, where: str) -> Any:
    """A dataclass of the given fields; fields that are dataclasses themselves are sections, and read in the same way.

    Args:
        kind: the dataclass.
        fields: values by name; lists become tuples where the field is one.
        where: what the fields are of, for messages.

    Raises:
        ValueError: an unknown field, one that is missing, or a value of another type, or none of the allowed ones.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"{where}: expected `field: value` lines, got {_shown(fields)}.")
    hints = get_type_hints(kind, include_extras=True)
    values = check_fields(fields, {entry.name: hints[entry.name] for entry in dataclasses.fields(kind)}, where=where)
    missing = [
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
        and entry.name not in fields
    ]
    if missing:
        raise ValueError(f"{where}: the fields {', '.join(missing)} are missing.")
    return kind(**values)


def check_fields(fields: Mapping[str, Any], hints: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The fields, each as its type asks for.

    Args:
        fields: values by name.
        hints: types of the known fields by name.
        where: what the fields are of, for messages.

    Raises:
        ValueError: an unknown field, or a value of another type.
    """
    unknown = sorted(str(name) for name in fields if name not in hints)
    if unknown:
        close = [found for name in unknown[:5] for found in difflib.get_close_matches(name[:100], hints, n=1)]
        guess = did_you_mean(close)
        known = ", ".join(sorted(hints))
        raise ValueError(f"{where}: unknown fields {listing(unknown, limit=5)}. Known are {known}. {guess}".rstrip())
    return {name: _checked(hints[name], value, name, where) for name, value in fields.items()}


def check_bounds(values: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]], *, where: str = "") -> None:
    """Raise where a number, or one of several, is beyond its bounds.

    Args:
        values: by name; those that are missing or `None` are the defaults.
        bounds: least and most by name; infinite where there is no most.
        where: what the values are of, for messages; without, they are arguments of Python.

    Raises:
        ValueError: names the value, and what it may be.
    """
    for name, (least, most) in bounds.items():
        value = values.get(name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not least <= number <= most:
                named = f"{where}: {name}" if where else f"`{name}`"
                allowed = f"it goes from {least} to {most}" if most < math.inf else f"it must be at least {least}"
                raise ValueError(f"{named} is {_shown(number)}; {allowed}.")


def find_unbounded(value: Any) -> Any:
    """The first number within a section of any fields, or a list, that no field takes; `None` where there is none."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return next((found for found in map(find_unbounded, value) if found is not None), None)
    return value if isinstance(value, (int, float)) and not _fits(float, value + 0) else None


def _checked(hint: Any, value: Any, name: str, where: str) -> Any:
    """The value as the type asks for it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if _is_section(hint):
        return value if isinstance(value, hint) else read_fields(hint, value, where=f"{where}, {name}")
    if not _fits(hint, value):
        raise ValueError(f"{where}: {name} is {_shown(value)}; it must be {_described(hint)}.")
    if origin in (Union, types.UnionType):
        hint = next(part for part in arguments if _fits(part, value))
        return _checked(hint, value, name, where)
    if origin in (list, tuple):
        return origin(_checked(arguments[0], part, name, where) for part in value)
    if origin is dict:
        return {
            key: _checked(arguments[1], part, f"{name}, {printable(str(key))}", where) for key, part in value.items()
        }
    return value


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is Annotated:
        return _fits(arguments[0], value) and all(value in extra.table for extra in arguments[1:])
    if origin in (Union, types.UnionType):
        return any(_fits(part, value) for part in arguments)
    if _is_section(hint):
        return isinstance(value, (Mapping, hint))
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_fits(arguments[0], part) for part in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            _fits(arguments[0], key) and _fits(arguments[1], part) for key, part in value.items()
        )
    if hint in (int, float):
        # Whole numbers of 64 bits, and none that is infinite: others end in errors of whatever computes with them.
        is_number = isinstance(value, (int, hint)) and not isinstance(value, bool)
        return is_number and (abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value))
    # An object of a class that YAML cannot say can be given in Python only.
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


_TYPE_NAMES = {
    str: "text (numbers and true or false in quotes)",
    int: "a whole number of at most 64 bits",
    float: "a number that is finite",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "`field: value` lines",
}


def _described(hint: Any) -> str:
    """A type in the words of a settings file."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is Annotated:
        return f"one of {', '.join(arguments[1].table)}"
    if origin in (Union, types.UnionType):
        sayable = [part for part in arguments if get_origin(part) or part in _TYPE_NAMES or _is_section(part)]
        return " or ".join(_described(part) for part in sayable)
    if origin in (list, tuple):
        return f"a list, each of {_described(arguments[0])}"
    if origin is dict:
        return f"{_TYPE_NAMES[dict]}, each of {_described(arguments[1])}"
    return _TYPE_NAMES.get(origin or hint, _TYPE_NAMES[dict])


def _shown(value: Any) -> str:
    """A value in a message; it may be of any length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
