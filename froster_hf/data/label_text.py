"""Class names as the label texts of a table, and label files that carry descriptions.

Folders and official lists write classes as `ApplyEyeMakeup`, `brush_hair` or `Pushing [something] off of [something]`;
a text tower reads words (`readable_label` of the prompt templates).
"""

from collections.abc import Iterable, Sequence

from ..processing.prompt_templates_froster import readable_label
from ..processing.text_files import AnnotationError


def label_text(name: str) -> str:
    """A class name as words, template brackets gone.

    >>> label_text("ApplyEyeMakeup"), label_text("brush_hair"), label_text("Holding [something]")
    ('apply eye makeup', 'brush hair', 'Holding something')
    """
    return readable_label(name.replace("[", "").replace("]", ""))


def distinct_label_texts(names: Iterable[str], *, ignore_case: bool = False) -> list[str]:
    """`label_text` of each name, in order.

    Args:
        names: of the classes.
        ignore_case: whether names that differ in capitals or hyphens alone are spellings of one class, as in names
            that people have typed; published lists tell such classes apart.

    Raises:
        AnnotationError: a name without words, or two names that become the same words, so that nothing could tell them
            apart.
    """
    texts: list[str] = []
    name_of: dict[str, str] = {}
    for name in names:
        text = label_text(name)
        if not text:
            raise AnnotationError(f"The class name {name!r} holds no words. Rename the class.")
        spelling = " ".join(text.replace("-", " ").casefold().split()) if ignore_case else text
        if spelling in name_of:
            raise AnnotationError(
                f"The classes {name_of[spelling]!r} and {name!r} both read {spelling!r}. Rename one of them, or put "
                "their videos together."
            )
        name_of[spelling] = name
        texts.append(text)
    return texts


def refuse_spellings(names: Iterable[str], *, where: str) -> None:
    """Refuse names that people have typed in two ways for one class.

    Raises:
        AnnotationError: names that differ in capitals, underscores, hyphens or blanks alone; `where` says whose.
    """
    try:
        distinct_label_texts(names, ignore_case=True)
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from error


def split_descriptions(lines: Sequence[str]) -> tuple[list[str], list[str | None]]:
    """Parts "Label: description" lines into labels and descriptions (None where a line has no description)."""
    parts = [line.partition(": ") for line in lines]
    return [label.strip() for label, _, _ in parts], [description.strip() or None for _, _, description in parts]
