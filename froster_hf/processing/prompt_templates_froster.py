"""From a class name to the sentences that the text tower reads.

The second input of the model: K labels become K * P prompts, whose embeddings are averaged per label. The
published template sets are kept here as data; any other list of templates with one `{}` each will do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .label_lists_froster import checked_label_list, read_label_list


@dataclass(frozen=True, kw_only=True)
class TemplateSet:
    """A named set of prompt templates.

    Args:
        templates: sentences, each with one `{}` for the label.
        about: what they are, in a line for the documentation.
        source: where they were published.
    """

    templates: tuple[str, ...]
    about: str
    source: str


_MEDIA = ("photo", "video", "example", "demonstration")
_PHRASES = (
    "of {}",
    "of a person {}",
    "of a person using {}",
    "of a person doing {}",
    "of a person during {}",
    "of a person performing {}",
    "of a person practicing {}",
)

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

TEMPLATE_SETS: dict[str, TemplateSet] = {
    "froster": TemplateSet(
        templates=(*(f"a {medium} {phrase}." for phrase in _PHRASES for medium in _MEDIA), "{}"),
        about='28 sentences ("a video of a person doing {}.", ...) and the bare label; the default',
        source="FROSTER, arXiv 2402.03241",
    ),
    # The label comes after, before or within the words.
    "actionclip": TemplateSet(
        templates=(
            "a photo of action {}",
            "a picture of action {}",
            "Human action of {}",
            "{}, an action",
            "{} this is an action",
            "{}, a video of action",
            "Playing action of {}",
            "{}",
            "Playing a kind of action, {}",
            "Doing a kind of action, {}",
            "Look, the human is {}",
            "Can you recognize the action of {}?",
            "Video classification of {}",
            "A video of {}",
            "The man is {}",
            "The woman is {}",
        ),
        about="ActionCLIP's 16",
        source="ActionCLIP, arXiv 2109.08472",
    ),
    "single": TemplateSet(
        templates=("a video of a person {}.",), about='"a video of a person {}."', source="this package"
    ),
    "none": TemplateSet(templates=("{}",), about="the bare label", source="this package"),
}


# Every one is a pass of each label through the text tower; the largest published set has fewer than a hundred.
MAX_TEMPLATES = 1000


def resolve_templates(templates: str | Sequence[str]) -> list[str]:
    """The templates of a named set, of one template, or of a list of them.

    Raises:
        ValueError: an empty list, one of more than `MAX_TEMPLATES`, or a template without exactly one `{}`.
    """
    if isinstance(templates, str):
        templates = TEMPLATE_SETS[templates].templates if templates in TEMPLATE_SETS else (templates,)
    if len(templates) > MAX_TEMPLATES:
        raise ValueError(f"There are {len(templates)} prompt templates; at most {MAX_TEMPLATES} are taken.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                f"The prompt template {template!r} must hold exactly one '{{}}', where the label goes. "
                f"Named sets are {', '.join(map(repr, TEMPLATE_SETS))}."
            )
    if not templates:
        raise ValueError("The list of prompt templates is empty; give at least one, '{}' for the bare label.")
    return list(templates)


def fill_templates(templates: Sequence[str], label: str, description: str | None = None) -> list[str]:
    """The P prompts of one label.

    With a description, as FROSTER writes them: the template filled with the label, a space, and "Label: description";
    for the bare template `{}` that line alone.

    >>> fill_templates(["a video of {}.", "{}"], "juggling", "balls in the air")
    ['a video of juggling. juggling: balls in the air', 'juggling: balls in the air']
    """
    if not description:
        return [template.replace("{}", label) for template in templates]
    line = f"{label}: {description}"
    return [line if template == "{}" else f"{template.replace('{}', label)} {line}" for template in templates]


def pair_with_descriptions(
    labels: Any,
    descriptions: Mapping[str, str] | Sequence[str | None] | None = None,
) -> list[tuple[str, str | None]]:
    """Labels with their descriptions, from the forms that users write them in.

    Args:
        labels: any form that `read_label_list` takes.
        descriptions: a mapping from class name to description, in which labels may be missing, or one per label.

    Raises:
        ValueError: no label, an empty or a repeated one, or descriptions that do not belong to the labels.
    """
    known = read_label_list(labels)
    if descriptions is None:
        return known.pairs
    if known.descriptions is not None:
        raise ValueError("Descriptions were given twice: in the mapping of labels and as `descriptions`.")
    if isinstance(descriptions, Mapping):
        texts = [descriptions.get(name) for name in known.names]
    else:
        texts = list(descriptions)
        if len(texts) != len(known.names):
            raise ValueError(
                f"There are {len(known.names)} labels and {len(texts)} descriptions; give one description per label."
            )
    return checked_label_list(known.names, texts, source="Descriptions").pairs


def readable_label(name: str) -> str:
    """A class name as words: `brushHair`, `brush_hair` and `ApplyEyeMakeup` become what a person would write.

    Words are lower-cased where a capital only marks the start of a word; acronyms and other words stay.

    >>> readable_label("ApplyEyeMakeup"), readable_label("brush_hair"), readable_label("playing TV games")
    ('apply eye makeup', 'brush hair', 'playing TV games')
    """
    words = name.replace("_", " ").split()
    if len(words) == 1:
        words = _WORD_START.sub(" ", words[0]).split()
        words = [word.lower() if word[1:].islower() else word for word in words]
    return " ".join(words)
