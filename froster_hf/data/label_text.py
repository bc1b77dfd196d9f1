"""Class names as the label texts of a table.

Folders and official lists write classes as `ApplyEyeMakeup`, `brush_hair` or `Pushing [something] off of [something]`;
a text tower reads words (`readable_label` of the prompt templates).
"""

from collections.abc import Iterable

from ..printing import printable
from ..processing.prompts_froster import checked_label_list, readable_label
from ..processing.text_files import AnnotationError


def label_text(name: str) -> str:
    """A class name as words, template brackets gone.

    >>> label_text("ApplyEyeMakeup"), label_text("brush_hair"), label_text("Holding [something]")
    ('apply eye makeup', 'brush hair', 'Holding something')
    """
    return readable_label(name.replace("[", "").replace("]", ""))


def distinct_label_texts(names: Iterable[str], *, where: str, ignore_case: bool = False) -> list[str]:
    """`label_text` of each name, in order.

    Args:
        names: of the classes.
        where: the file or folder that names them, for the error message.
        ignore_case: whether names that differ in capitals or hyphens alone are spellings of one class, as in names
            that people have typed; published lists tell such classes apart.

    Raises:
        AnnotationError: a name without words or that is no text, or two names that become the same words, so that
            nothing could tell them apart.
    """
    texts: list[str] = []
    name_of: dict[str, str] = {}
    for name in names:
        text = label_text(name)
        if not text:
            raise AnnotationError(
                f"{where}: the class name {printable(name[:80])!r} holds no words. Rename the class."
            )
        spelling = " ".join(text.replace("-", " ").casefold().split()) if ignore_case else text
        if spelling in name_of:
            raise AnnotationError(
                f"{where}: the classes {printable(name_of[spelling][:80])!r} and {printable(name[:80])!r} both read "
                f"{printable(spelling[:80])!r}. Rename one of them, or put their videos together."
            )
        name_of[spelling] = name
        texts.append(text)
    try:
        return list(checked_label_list(texts, source=where).names) if texts else []
    except ValueError as error:
        raise AnnotationError(str(error)) from error
