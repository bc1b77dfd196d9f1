"""The order of a folder's frames by the numbers in their names, where these can be read in one way."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .types import UnreadableVideoError

_DIGITS = re.compile("([0-9]+)")
# What may be one number.
_MARKED = re.compile("[0-9](?:[.,]|e[-+]?)[0-9]")
# What may be numbers, versions or dates, and a decimal number as programs write those, without zeros at its end. So
# 1.10 is the tenth of something.
_DOTTED = re.compile(r"([0-9]+(?:\.[0-9]+)*)")
_DECIMAL = re.compile(r"[0-9]+(?:\.(?:0|[0-9]*[1-9]))?")
# What may be numbers with a sign, a decimal comma or an exponent (1e-05, as Python writes small ones), and is mostly
# something else: shot 1-2, S01E02, 2024-01-05.
_WRITTEN = re.compile(
    r"((?<![0-9a-z.,])[-+\u2212\u2013]?[0-9]+(?:[.,][0-9]+)?e[-+]?[0-9]{1,4}(?![0-9a-z])"
    r"|[-+\u2212\u2013]?[0-9]+(?:[.,][0-9]+)*)"
)
_SIGNS = "-+\u2212\u2013"
# What sets thousands apart somewhere in the world.
_MARK = r"[.,'\u2019_\s]"
_SEPARATED = re.compile(rf"([0-9]+(?:{_MARK}[0-9]+)*)")
_THOUSANDS = re.compile(rf"0|[1-9][0-9]{{0,2}}(?:{_MARK}[0-9]{{3}})*")
# Zeros in front of a number, but for those behind a decimal point or comma.
_ZEROS_IN_FRONT = re.compile(r"(?<![0-9])(?<![0-9][.,])0+(?=[0-9])")


def in_order(names: list[str]) -> list[str]:
    """The names of a folder's frames, sorted by their numbers.

    Certain are names that are alike but for digits, without a point, a comma or an "e" between these. Else numbers may
    be read in several ways.

    Raises:
        UnreadableVideoError: two are one frame's by their names, or two ways to read their numbers lead to different
            orders.
    """
    stems = [_plain(os.path.splitext(name)[0]) for name in names]

    def ordered(keys: Iterable[Any]) -> list[str]:
        return [name for _, name in sorted(zip(keys, names))]

    is_certain = _columns(stems, _DIGITS) is not None and not _MARKED.search(stems[0])
    is_hexadecimal = not is_certain and _are_hexadecimal(stems)
    _check_one_each(names, stems if is_hexadecimal else [_ZEROS_IN_FRONT.sub("", stem) for stem in stems])
    by_value = ordered(map(_numbers_by_value, stems))
    if is_certain:
        return by_value
    dotted = _columns(stems, _DOTTED)
    if dotted is None:
        found = ordered(stems) if is_hexadecimal else by_value
    else:
        keys, is_told = _by_dots(dotted)
        found = ordered(keys)
        if not is_told and found != by_value:
            raise _two_orders(found, by_value, "dots")
    for read, marks in ((_by_written_numbers, "signs, commas and exponents"), (_by_thousands, "marks of thousands")):
        others = read(stems)
        if others is not None and (other := ordered(others)) != found:
            raise _two_orders(found, other, marks)
    if not is_hexadecimal:
        _check_one_kind(names, stems)
    return found


def _check_one_each(names: list[str], stems: list[str]) -> None:
    """Raise where two have the same stem, but for zeros in front of its numbers."""
    seen: dict[str, str] = {}
    for name, stem in zip(names, stems):
        other = seen.setdefault(stem, name)
        if other != name:
            raise _of_one_frame(other, name)


def _check_one_kind(names: list[str], stems: list[str]) -> None:
    """Raise where sequences that differ in their texts have the same numbers, as pictures and their optical flow."""
    kinds: dict[tuple[str, ...], dict[tuple[int, ...], str]] = {}
    for name, stem in zip(names, stems):
        parts = _DIGITS.split(stem)
        kinds.setdefault(tuple(parts[::2]), {})[tuple(map(int, parts[1::2]))] = name
    seen: dict[tuple[int, ...], str] = {}
    for numbered in kinds.values():
        for numbers, name in numbered.items() if len(numbered) > 1 else ():
            if (other := seen.setdefault(numbers, name)) != name:
                raise _of_one_frame(other, name)


def _of_one_frame(name: str, other: str) -> UnreadableVideoError:
    return UnreadableVideoError(
        f"{name!r} and {other!r} are of one frame by their names, as a picture and its mask, its copy or its optical "
        "flow; give a folder with one file for each frame"
    )


def _plain(stem: str) -> str:
    """In small letters, each accent with its letter, and with the digits of any script as those of ASCII."""
    if stem.isascii():
        return stem.lower()
    composed = unicodedata.normalize("NFC", stem.lower())
    return "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in composed)


def _two_orders(names: list[str], others: list[str], marks: str) -> UnreadableVideoError:
    first, second = next(pair for pair in zip(names, others) if pair[0] != pair[1])
    return UnreadableVideoError(
        f"whether {first!r} or {second!r} comes first cannot be told from their {marks}; number the frames, as in "
        "0001.png, or set the seconds apart, as in video_0.25.png"
    )


def _columns(stems: list[str], number: re.Pattern[str]) -> list[tuple[str, ...]] | None:
    """The first numbers of all names, the second ones, and so on; `None` where they are alike in nothing else."""
    parts: list[list[str]] = []
    for stem in stems:
        parts.append(number.split(stem))
        if parts[-1][::2] != parts[0][::2]:
            return None
    return list(zip(*(part[1::2] for part in parts)))


def _by_dots(columns: list[tuple[str, ...]]) -> tuple[list[Any], bool]:
    """Sort keys by numbers of which those with dots may be seconds, and whether that is certain."""
    keys: list[list[Any]] = []
    is_certain = True
    for numbers in columns:
        pieces = [number.split(".") for number in numbers]
        seconds = [".".join(piece[-2:]) for piece in pieces]
        # What all have in front, as of a video whose name ends in a number, may be a part of a version as well.
        in_front = {tuple(piece[:-2]) for piece in pieces}
        are_decimals = len(in_front) == 1 and all(map(_DECIMAL.fullmatch, seconds))
        is_certain &= not are_decimals or in_front == {()}
        keys.append(list(map(Decimal, seconds)) if are_decimals else [tuple(map(int, piece)) for piece in pieces])
    return list(zip(*keys)), is_certain


def _by_written_numbers(stems: list[str]) -> list[Any] | None:
    """Sort keys by numbers with signs, decimal commas and exponents; `None` where there are none of these.

    What stands before the number in all of the names is not a sign.
    """
    columns = _columns(stems, _WRITTEN) or []
    for place, numbers in enumerate(columns):
        if len({number[0] if number[0] in _SIGNS else "" for number in numbers}) == 1:
            columns[place] = tuple(number.lstrip(_SIGNS) for number in numbers)
    if not any(re.search("[^0-9.]", number) for numbers in columns for number in numbers):
        return None
    keys: list[list[Any]] = []
    for numbers in columns:
        if all(len(re.findall("[.,]", number)) < 2 for number in numbers):
            plain = [re.sub("[\u2212\u2013]", "-", number).replace(",", ".") for number in numbers]
            keys.append([Decimal(number) for number in plain])
        else:
            keys.append([_integers(number) for number in numbers])
    return list(zip(*keys))


def _by_thousands(stems: list[str]) -> list[Any] | None:
    """Sort keys by numbers whose thousands are set apart by dots, spaces or such; `None` where there are none."""
    columns = _columns(stems, _SEPARATED) or []
    are_thousands = [all(map(_THOUSANDS.fullmatch, numbers)) for numbers in columns]
    if not any(re.search(_MARK, "".join(numbers)) for numbers in itertools.compress(columns, are_thousands)):
        return None
    keys = [
        [(int(re.sub(_MARK, "", number)),) if is_whole else _integers(number) for number in numbers]
        for numbers, is_whole in zip(columns, are_thousands)
    ]
    return list(zip(*keys))


def _integers(number: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall("[0-9]+", number)))


def _are_hexadecimal(stems: list[str]) -> bool:
    """Whether they are alike in length, and but for what may be hexadecimal digits."""
    if len(set(map(len, stems))) > 1:
        return False
    different = [found for found in map(set, zip(*stems)) if len(found) > 1]
    return all(found <= set("0123456789abcdef") for found in different)


def _numbers_by_value(stem: str) -> list[str | int]:
    """Sort key; "img" stands before "img (1)", as file managers number further copies."""
    # Every second part is a run of digits.
    parts: list[str | int] = list(re.split(r"([0-9]+)", stem))
    parts[1::2] = [int(digits) for digits in parts[1::2]]
    return parts
