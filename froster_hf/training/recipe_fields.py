"""Dataclasses from the fields of a YAML file; unknown fields and values that are not allowed are errors."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml


def read_fields(kind: type, fields: Any, *, where: str) -> Any:
    """A dataclass of the given fields; fields that are dataclasses themselves are sections, and read in the same way.

    Args:
        kind: the dataclass.
        fields: values by name.
        where: what the fields are of, for messages.

    Raises:
        ValueError: an unknown field, one that is missing, or a value that is none of the allowed ones.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"{where}: expected `field: value` lines, got {fields!r}.")
    hints = get_type_hints(kind)
    refuse_unknown(fields, set(hints), where=where)
    values = dict(fields)
    for name, value in fields.items():
        if dataclasses.is_dataclass(hints[name]):
            values[name] = read_fields(hints[name], value, where=f"{where}, {name}")
            continue
        choices = _choices(hints[name])
        if choices and value not in choices:
            allowed = ", ".join(map(str, choices))
            raise ValueError(f"{where}: {name} is {value!r}; it must be one of {allowed}.")
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


def refuse_unknown(fields: Mapping[str, Any], known: set[str], *, where: str) -> None:
    """Raise a `ValueError` that names the unknown fields and the known ones."""
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"{where}: unknown fields {', '.join(unknown)}. Known are {', '.join(sorted(known))}.")


def list_named(folder: Path) -> list[str]:
    """Names of the shipped YAML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_named(
    name: str | os.PathLike,
    *,
    folder: Path,
    what: str,
    merge: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
    seen: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The fields of a shipped YAML file by name, or of one by path, over those of the file that it `extends`.

    Args:
        name: of the file in `folder` without its ending, or a path that ends in .yaml or .yml.
        folder: of the shipped files.
        what: they are, for messages.
        merge: how a file's fields come over those that it extends.
        seen: the files that led here.

    Raises:
        ValueError: no such file, no YAML, no fields, or a file that extends itself.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(
            f"There is no {what} {os.fspath(name)!r}. Shipped are {', '.join(list_named(folder))}; or give a .yaml "
            "file."
        )
    fields = read_yaml(path.read_text(encoding="utf-8"), where=str(path))
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds no `field: value` lines.")
    base = fields.pop("extends", None)
    if base is None:
        return fields
    if base in seen:
        raise ValueError(f"{path} extends itself: {' -> '.join([*seen, str(base)])}.")
    return merge(read_named(base, folder=folder, what=what, merge=merge, seen=(*seen, str(base))), fields)


def merge_sections(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes over fields; of sections in both, only the fields that the changes name."""
    merged = dict(fields)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge_sections(merged[name], value) if both else value
    return merged


def read_yaml(text: str, *, where: str) -> Any:
    """The value of a YAML text; `ValueError` names where it stood."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    return _number(value)


def _number(value: Any) -> Any:
    """YAML 1.1 takes `1e-5`, without a dot, for text."""
    if isinstance(value, dict):
        return {key: _number(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_number(part) for part in value]
    if isinstance(value, str) and value[:1].isdigit():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _choices(hint: Any) -> tuple[Any, ...]:
    """What a `Literal`, or one or nothing, allows; empty for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    parts = get_args(hint)
    literals = [part for part in parts if get_origin(part) is Literal]
    return (*get_args(literals[0]), None) if literals and type(None) in parts else ()
