"""The forms in which people hand over labels, told apart and reduced to one: names, some with a description.

A list of names, {index: name}, {name: index} and {name: description} are all called "the labels". Each is recognized
by what it holds or refused; none is ever read as another. `label_files.py` brings files into these forms, and
everything that takes `labels` or `candidate_labels` calls `read_label_list`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# More is no list of actions, and would keep a text tower busy for hours.
MAX_LABELS = 1_000_000
MAX_LABEL_CHARACTERS = 100_000
# Names that an error lists.
LISTED_NAMES = 5

_INDEX = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class LabelList:
    """K labels in order.

    Attributes:
        names: K distinct names.
        descriptions: one per name, or `None` where none is described.
        form: what the labels were recognized as, such as "index to name".
    """

    names: tuple[str, ...]
    descriptions: tuple[str | None, ...] | None = None
    form: str = "list of names"

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """Each name with its description."""
        return list(zip(self.names, self.descriptions or [None] * len(self.names)))

    @property
    def labels(self) -> list[str] | dict[str, str | None]:
        """What `candidate_labels` takes: the names, or a mapping from name to description."""
        return list(self.names) if self.descriptions is None else dict(self.pairs)


def read_label_list(labels: Any, *, source: str = "Labels") -> LabelList:
    """Labels in any form that Python programs hold them in.

    - names: a list, tuple, array, series, generator, or anything else that can be iterated over;
    - {index: name}, whose keys are the numbers from 0 to K-1, as integers or strings, in any order;
    - {name: index}, whose values are these numbers;
    - {name: description}, whose values are texts or `None`.

    Args:
        labels: one of these; a `LabelList` is returned as it is.
        source: where the labels come from, for the error message.

    Raises:
        ValueError: another form, no label, an empty or repeated one, indices with gaps, or characters that cannot be
            encoded; says which.
    """
    if isinstance(labels, LabelList):
        return labels
    if isinstance(labels, str):
        raise ValueError(
            f"{source}: expected a list of class names, got the string {_shown(labels)}. "
            f"Write {labels[:80].split(',')}."
        )
    if isinstance(labels, Mapping):
        return _from_mapping(labels, source)
    if not isinstance(labels, Iterable) or isinstance(labels, bytes) or getattr(labels, "ndim", 1) != 1:
        raise ValueError(
            f"{source}: expected a list of class names, or a mapping from index to name, from name to index or from "
            f"name to description; got {_shown(labels)}."
        )
    names: list[Any] = []
    for name in labels:
        if len(names) == MAX_LABELS:
            raise ValueError(f"{source}: there are more than {MAX_LABELS} labels.")
        names.append(name)
    return checked_label_list(names, source=source)


def checked_label_list(
    names: Iterable[Any],
    descriptions: Iterable[Any] | None = None,
    *,
    source: str,
    form: str = "list of names",
) -> LabelList:
    """Names and descriptions that are known as such, checked.

    Raises:
        ValueError: see `read_label_list`.
    """
    names = list(names)
    if not names:
        raise ValueError(f"{source}: the list of labels is empty; give at least one class name.")
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{source}: labels must be non-empty strings; label {position} is {_shown(name)}.")
        _check_text(name, source)
    if len(set(names)) < len(names):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        raise ValueError(f"{source}: labels must differ from each other; repeated: {_listed(repeated)}.")
    described = None if descriptions is None else [_description(text, source) for text in descriptions]
    if described and all(index_of(text) is not None for text in described):
        raise ValueError(f"{source}: every description is a number, such as {_shown(described[0])}.")
    plain = tuple(str(name) for name in names)  # an array's strings are a class of their own
    return LabelList(plain, tuple(described) if described and any(described) else None, form)


def in_order_of_indices(pairs: Iterable[tuple[int, Any]], *, source: str) -> list[Any]:
    """The second parts in the order of the first, which are the numbers from 0 to K-1.

    Raises:
        ValueError: the numbers have gaps, begin elsewhere, or stand twice.
    """
    pairs = list(pairs)
    by_index = dict(pairs)
    last = len(pairs) - 1
    if len(by_index) < len(pairs):
        repeated = [str(index) for index, count in Counter(index for index, _ in pairs).items() if count > 1]
        raise ValueError(f"{source}: these indices stand twice: {_listed(repeated)}.")
    if any(index not in by_index for index in range(len(pairs))):
        missing = next(index for index in range(len(pairs)) if index not in by_index)
        raise ValueError(
            f"{source}: the indices must run from 0 to {last} without gaps; they run from {min(by_index)} to "
            f"{max(by_index)}, and {missing} is missing. Number the labels from 0, or give the names alone."
        )
    return [by_index[index] for index in range(len(pairs))]


def index_of(value: Any) -> int | None:
    """The index that a value writes, an integer or a string of digits; `None` for anything else."""
    if isinstance(value, str):
        return int(value) if _INDEX.fullmatch(value.strip()) else None
    # NumPy's integers are no `int`, and a Boolean is one.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    index = value.__index__()
    return index if index >= 0 else None


def _from_mapping(labels: Mapping[Any, Any], source: str) -> LabelList:
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{source}: there are {len(labels)} labels; at most {MAX_LABELS} are read.")
    keys: list[Any] = [index_of(key) for key in labels]
    values: list[Any] = [index_of(value) for value in labels.values()]
    keys_are_indices, values_are_indices = bool(keys) and None not in keys, bool(values) and None not in values
    if keys_are_indices and values_are_indices:
        # Classes may be called by digits; then what is written as a number is the index.
        keys_are_indices = not any(isinstance(key, str) for key in labels)
        values_are_indices = not any(isinstance(value, str) for value in labels.values())
        if keys_are_indices == values_are_indices:
            raise ValueError(f"{source}: keys and values are all numbers; there are no class names.")
    if keys_are_indices:
        names = in_order_of_indices(zip(keys, labels.values()), source=source)
        return checked_label_list(names, source=source, form="index to name")
    if values_are_indices:
        names = in_order_of_indices(zip(values, labels), source=source)
        return checked_label_list(names, source=source, form="name to index")
    for key, value in labels.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(
                f"{source}: expected a mapping from index to name, from name to index (0 to {len(labels) - 1}) or "
                f"from name to description; the value of {_shown(key)} is {_shown(value)}."
            )
    return checked_label_list(labels, labels.values(), source=source, form="name to description")


def _description(text: Any, source: str) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"{source}: a description must be a text or None, got {_shown(text)}.")
    _check_text(text, source)
    return str(text) if text.strip() else None


def _check_text(text: str, source: str) -> None:
    if len(text) > MAX_LABEL_CHARACTERS:
        raise ValueError(f"{source}: a label has {len(text)} characters: {_shown(text)}.")
    if "\0" in text:
        raise ValueError(f"{source}: {_shown(text)} holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{source}: {_shown(text)} holds half of a character (a lone surrogate).") from error


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(map(_shown, names[:LISTED_NAMES])) + rest


def _shown(value: Any) -> str:
    """A value for an error message, short whatever it is; a container is named by its type alone."""
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else "a very large number"
    if not isinstance(value, str):
        return f"of the type {type(value).__name__}"
    text = repr(value[:80]) if value[:80].isprintable() else ascii(value[:80])
    return f"{text}..." if len(value) > 80 else text
