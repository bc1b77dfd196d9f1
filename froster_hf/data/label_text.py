"""Class names as words: what a prompt can be filled with.

Folders and official lists write classes as `ApplyEyeMakeup`, `brush_hair` or `Pushing [something] off of [something]`;
a text tower reads words. Some label files hold "Label: description" lines, which the prompts of FROSTER take apart.
"""

import re
from collections.abc import Iterable, Sequence

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def spaced_label(name: str) -> str:
    """Class name as words: underscores and CamelCase become spaces, template brackets go, the case stays.

    >>> spaced_label("ApplyEyeMakeup"), spaced_label("brush_hair"), spaced_label("Holding [something]")
    ('Apply Eye Makeup', 'brush hair', 'Holding something')
    """
    words = re.sub(r"[\[\]]", "", name).replace("_", " ")
    if " " not in words.strip():
        words = _WORD_START.sub(" ", words)
    return " ".join(words.split())


def distinct_spaced_labels(names: Iterable[str]) -> list[str]:
    """`spaced_label` of each name, in order.

    Raises:
        ValueError: a name without words, or two names that become the same words, so that nothing could tell them
            apart.
    """
    name_of: dict[str, str] = {}
    for name in names:
        label = spaced_label(name)
        if not label:
            raise ValueError(f"The class name {name!r} holds no words. Rename the class.")
        if label in name_of:
            raise ValueError(f"The classes {name_of[label]!r} and {name!r} both read {label!r}. Rename one of them.")
        name_of[label] = name
    return list(name_of)


def split_descriptions(lines: Sequence[str]) -> tuple[list[str], list[str | None]]:
    """Parts "Label: description" lines into labels and descriptions (None where a line has no description)."""
    parts = [line.partition(": ") for line in lines]
    return [label.strip() for label, _, _ in parts], [description.strip() or None for _, _, description in parts]
