"""Class names as the label texts of a table, and label files that carry descriptions.

Folders and official lists write classes as `ApplyEyeMakeup`, `brush_hair` or `Pushing [something] off of [something]`;
a text tower reads words (`readable_label` of the prompt templates).
"""

from collections.abc import Iterable, Sequence

from ..processing.prompt_templates_froster import readable_label


def label_text(name: str) -> str:
    """A class name as words, template brackets gone.

    >>> label_text("ApplyEyeMakeup"), label_text("brush_hair"), label_text("Holding [something]")
    ('apply eye makeup', 'brush hair', 'Holding something')
    """
    return readable_label(name.replace("[", "").replace("]", ""))


def distinct_label_texts(names: Iterable[str]) -> list[str]:
    """`label_text` of each name, in order.

    Raises:
        ValueError: a name without words, or two names that become the same words, so that nothing could tell them
            apart.
    """
    name_of: dict[str, str] = {}
    for name in names:
        text = label_text(name)
        if not text:
            raise ValueError(f"The class name {name!r} holds no words. Rename the class.")
        if text in name_of:
            raise ValueError(f"The classes {name_of[text]!r} and {name!r} both read {text!r}. Rename one of them.")
        name_of[text] = name
    return list(name_of)


def split_descriptions(lines: Sequence[str]) -> tuple[list[str], list[str | None]]:
    """Parts "Label: description" lines into labels and descriptions (None where a line has no description)."""
    parts = [line.partition(": ") for line in lines]
    return [label.strip() for label, _, _ in parts], [description.strip() or None for _, _, description in parts]
