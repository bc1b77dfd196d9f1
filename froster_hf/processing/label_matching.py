"""Two lists of labels for the same classes, brought together by name.

Training and evaluation meet labels twice: in the table whose `ClassLabel` column indexes them, and in what the caller
or a checkpoint says about them (`labels=`, stored labels, descriptions). Position proves nothing, since nobody writes
descriptions in the order of a `ClassLabel`; so names are compared, never indices.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..printing import listing
from .prompts_froster import Description, checked_label_list, composed, index_of, read_label_list, readable_label

# Names that an error lists of each side.
LISTED_NAMES = 10

# After a number, one is a unit.
_QUOTES = re.compile("(?<![0-9])[\"'\u2018\u2019\u201c\u201d]")
# Hyphens of words only: those of numbers may be signs.
_BREAKS = re.compile(r"[()\[\],]|(?<=[^\W\d_])-(?![0-9])")


@dataclass(frozen=True)
class LabelMatch:
    """A label list in the order of another one's names, of which it has K.

    Attributes:
        names: the K names that were matched against, in their order.
        given: the names as the label list spells them, in that order.
        positions: where each stands in the label list; `embeds[list(positions)]` brings its embeddings in order.
        descriptions: one per name, or `None` where the list describes none of them.
    """

    names: tuple[str, ...]
    given: tuple[str, ...]
    positions: tuple[int, ...]
    descriptions: tuple[Description, ...] | None

    @property
    def described(self) -> dict[str, Description]:
        """The descriptions by name, of those that have one."""
        return {name: text for name, text in zip(self.names, self.descriptions or ()) if text}


def match_labels(
    labels: Sequence[str] | Mapping[str, Any],
    names: Sequence[str],
    *,
    labels_from: str = "`labels`",
    names_from: str = "the data set",
    allow_more: bool = False,
) -> LabelMatch:
    """Find each of `names` in a label list, whatever the order of both.

    Names are equal when they are the same string, or, where that leaves one on each side, the same words: `BrushHair`,
    `brush_hair` and `brush hair`, `hurling (sport)` and `hurling_sport`.

    Args:
        labels: any form that `read_label_list` takes, above all a mapping from name to description.
        names: the K names of a `ClassLabel`.
        labels_from: what the label list is, for the error message.
        names_from: what has the names.
        allow_more: whether the list may have labels that are not among `names`, as when half of the classes are
            tested.

    Raises:
        ValueError: names that the list does not have, labels beyond the names, or names that stand twice; lists them.
    """
    wanted = list(read_label_list(list(names), source=names_from).names)
    if isinstance(labels, Mapping) and _describes(labels, wanted):
        pairs = checked_label_list(labels, labels.values(), source=labels_from).pairs
    else:
        pairs = read_label_list(labels, source=labels_from).pairs
    given = [name for name, _ in pairs]
    found = shared_labels(given, wanted)
    missing = [name for name in wanted if name not in found]
    matched = set(found.values())
    rest = [] if allow_more else [name for name in given if name not in matched]
    if missing or rest:
        raise ValueError(_mismatch(missing, rest, labels_from, names_from))
    position_of = {name: position for position, name in enumerate(given)}
    positions = tuple(position_of[found[name]] for name in wanted)
    descriptions = tuple(pairs[position][1] for position in positions)
    return LabelMatch(
        names=tuple(wanted),
        given=tuple(given[position] for position in positions),
        positions=positions,
        descriptions=descriptions if any(descriptions) else None,
    )


def shared_labels(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Those of `names` that are among `given`, each with how it is spelled there; equal as in `match_labels`.

    Args:
        given: names, each once.
        names: names, each once.
    """
    there = set(given)
    found = {name: name for name in names if name in there}
    by_words = _distinct_words([name for name in given if name not in found])
    for words, name in _distinct_words([name for name in names if name not in found]).items():
        if words in by_words:
            found[name] = by_words[words]
    return found


def label_words(name: str) -> str:
    """A label as words in lower case, the same for each spelling of it.

    Folders and converted lists write published names without their apostrophes, commas and brackets, with hyphens, or
    in quotes; accents as characters of their own or not.

    >>> label_words("BrushHair"), label_words("brush_hair"), label_words("Brush hair")
    ('brush hair', 'brush hair', 'brush hair')
    >>> label_words("massaging person's head"), label_words("hurling (sport)")
    ('massaging persons head', 'hurling sport')
    """
    name = composed(name, source="Labels")
    without_marks = _BREAKS.sub(" ", _QUOTES.sub("", name))
    return readable_label(without_marks.strip() or name.strip()).casefold()


def _describes(labels: Mapping, wanted: list[str]) -> bool:
    """Whether the keys are known to be names, even where classes are called by digits, and the values are texts."""
    if not set(wanted) <= set(labels) or not all(
        isinstance(text, str | list | tuple | None) for text in labels.values()
    ):
        return False
    return any(index_of(text) is None for text in labels.values())


def _distinct_words(names: Sequence[str]) -> dict[str, str]:
    """Names by their words, but for those that share them with another name."""
    by_words: dict[str, list[str]] = {}
    for name in names:
        by_words.setdefault(label_words(name), []).append(name)
    return {words: alike[0] for words, alike in by_words.items() if len(alike) == 1}


def _mismatch(missing: list[str], extra: list[str], labels_from: str, names_from: str) -> str:
    parts = []
    if missing:
        parts.append(f"without {len(missing)} of its names: {listing(missing, limit=LISTED_NAMES)}")
    if extra:
        parts.append(f"with {len(extra)} that it does not have: {listing(extra, limit=LISTED_NAMES)}")
    return (
        f"{labels_from} and {names_from} do not name the same classes: {labels_from} came "
        f"{'; and '.join(parts)}. Labels are matched by name, not by position; write each name alike in both."
    )
