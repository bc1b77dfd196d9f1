"""From labels in any form to the prompts that the text tower reads: label lists, template sets, filled templates.

The second input of the model: K labels become K * P prompts, whose embeddings are averaged per label. The published
template sets are kept here as data; any other list of templates with one `{}` each will do.

A list of names, {index: name}, {name: index} and {name: description} are all called "the labels". Each is recognized
by what it holds or refused; none is ever read as another. `label_files.py` brings files into these forms, and
everything that takes `labels` or `candidate_labels` calls `read_label_list`.

A description is a sentence, or several, each of which fills the templates as one alone would; `TEXT_POOLINGS` says how
the embeddings of a label's sentences are combined. Letters: K labels, P templates, S sentences of a label, N sentences
of all labels, D the joint embedding width.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the shell reads the names of templates and poolings without it
    from torch import Tensor

# More is not a list of actions, and would keep a text tower busy for hours.
MAX_LABELS = 1_000_000
# Results repeat a label; a text tower's 77 tokens are some hundred.
MAX_LABEL_CHARACTERS = 2_000
# In a row, as Unicode's stream-safe text has at most. Composing them takes the square of their number.
MAX_MARKS = 30
# Per label. The maximum keeps as many embeddings of every label as the label with the most sentences has.
MAX_SENTENCES = 100
# Of embeddings, with the repetitions that fill up labels with fewer sentences: half a gigabyte. At a width of 1,024,
# 131,072 labels have as many.
MAX_PADDED_NUMBERS = 2**27
# Names that an error lists.
LISTED_NAMES = 5

# One sentence about a label, several, or none.
Description = str | tuple[str, ...] | None

# Of Unicode's characters that are not marks themselves, those that begin with one when they are taken apart.
_MADE_OF_MARKS = "\u0f73\u0f75\u0f81"
# Characters that nobody sees, left by editors, web pages and files that were put together: marks of byte order, of
# direction, of where a line may be broken and of variants (as of emoji), and fillers. A joiner (U+200C, U+200D) is one
# behind a letter of ASCII; scripts and emoji need it.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0100-\U000e01ef]+|(?<![^\\x00-\\x7f])[\u200c\u200d]+"
)
_INDEX = re.compile(r"[0-9]{1,9}")
# A list that stands below one of these holds labels, not sentences about a label of this name.
_WORDS_FOR_LABELS = {"labels", "classes", "names", "categories", "actions"}


@dataclass(frozen=True)
class LabelList:
    """K labels in order.

    Attributes:
        names: K distinct names.
        descriptions: one per name, a sentence or a tuple of several, or `None` where none is described.
        form: what the labels were recognized as, such as "index to name".
    """

    names: tuple[str, ...]
    descriptions: tuple[Description, ...] | None = None
    form: str = "list of names"

    @property
    def pairs(self) -> list[tuple[str, Description]]:
        """Each name with its description."""
        return list(zip(self.names, self.descriptions or [None] * len(self.names)))

    @property
    def labels(self) -> list[str] | dict[str, Description]:
        """What `candidate_labels` takes: the names, or a mapping from name to description."""
        return list(self.names) if self.descriptions is None else dict(self.pairs)


def read_label_list(labels: Any, *, source: str = "Labels") -> LabelList:
    """Labels in any form that Python programs hold them in.

    - names: a list, tuple, array, series, generator, or anything else that can be iterated over;
    - {index: name}, whose keys are the numbers from 0 to K-1, as integers or strings, in any order;
    - {name: index}, whose values are these numbers;
    - {name: description}, whose values are texts, lists of texts or `None`.

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
        if not isinstance(name, str) or not without_unseen(name).strip():
            raise ValueError(f"{source}: labels must be non-empty strings; label {position} is {_shown(name)}.")
        _check_text(name, source)
    # All runs of blanks are one to tokenizers.
    counts = Counter(" ".join(composed(name, source=source).split()) for name in names)
    if len(counts) < len(names):
        repeated = [name for name, count in counts.items() if count > 1]
        raise ValueError(f"{source}: labels must differ from each other; repeated: {_listed(repeated)}.")
    described = None if descriptions is None else [_description(text, source) for text in descriptions]
    if described and all(index_of(text) is not None for text in described):
        raise ValueError(f"{source}: every description is a number, such as {_shown(described[0])}.")
    plain = tuple(str(name) for name in names)  # an array's strings are a class of their own
    return LabelList(plain, tuple(described) if described and any(described) else None, form)


def composed(name: str, *, source: str) -> str:
    """A name as it looks: with its accents composed, which systems write in two ways, and without what is not seen.

    Names are compared by it, as are labels.

    Raises:
        ValueError: it has more than `MAX_MARKS` marks in a row.
    """
    name = without_unseen(name)
    if len(name) > MAX_MARKS and not name.isascii() and _marks_in_a_row(name) > MAX_MARKS:
        raise ValueError(
            f"{source}: the name {_shown(name)} has more than {MAX_MARKS} accents or other marks in a row, which no "
            "writing has. Write it without them."
        )
    return unicodedata.normalize("NFC", name)


def without_unseen(text: str) -> str:
    """A text without the characters that nobody sees, which would make another label of it.

    >>> without_unseen("\\ufeffgo\\u00adlf\\u200b")
    'golf'
    """
    return text if text.isascii() else _UNSEEN.sub("", text)


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
        # Of what `strip` takes for a blank, `int` refuses some.
        digits = value.strip()
        return int(digits) if _INDEX.fullmatch(digits) else None
    # NumPy's integers are no `int`, and a Boolean is one.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    index = value.__index__()
    return index if index >= 0 else None


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


@dataclass(frozen=True, kw_only=True)
class TextPooling:
    """How the sentences of a label are combined.

    Args:
        pool: sentence embeddings (N, D) of unit length, all of the first label first, and K counts, to what videos are
            compared with: (K, D), or (K, S, D), of whose S scores a label has the highest.
        about: what it does, in a line for the documentation.
        source: where it was published.
    """

    pool: "Callable[[Tensor, Sequence[int]], Tensor]"
    about: str
    source: str


def _average_sentences(embeds: "Tensor", counts: Sequence[int]) -> "Tensor":
    """(N, D) to (K, D): the mean over each label's sentences, normalized; a single sentence as it is."""
    pooled = embeds[[end - count for end, count in zip(accumulate(counts), counts)]]
    for label, sentences in enumerate(embeds.split(list(counts))):
        if len(sentences) > 1:
            mean = sentences.mean(0)
            pooled[label] = mean / mean.norm().clamp_min(1e-12)
    return pooled


def _keep_sentences(embeds: "Tensor", counts: Sequence[int]) -> "Tensor":
    """(N, D) to (K, S, D), S the most sentences of a label; (K, D) where that is one.

    Labels with fewer repeat their last one, which changes no maximum.

    Raises:
        ValueError: a few labels have many sentences among many labels, so that repetitions would fill memory.
    """
    most = max(counts)
    if most == 1:
        return embeds
    padded = most * len(counts)
    if padded * embeds.shape[1] > MAX_PADDED_NUMBERS and padded > 4 * sum(counts):
        raise ValueError(
            f"The maximum over sentences keeps as many embeddings of every label as the label with the most sentences "
            f"has: {len(counts)} labels x {most} are {padded}, of {sum(counts)} sentences. Give that label fewer, or "
            "combine them by the mean."
        )
    ends = accumulate(counts)
    rows = [end - count + min(place, count - 1) for end, count in zip(ends, counts) for place in range(most)]
    return embeds[rows].unflatten(0, (len(counts), most))


TEXT_POOLINGS: dict[str, TextPooling] = {
    "mean": TextPooling(
        pool=_average_sentences,
        about="the mean of the sentences' embeddings, normalized again; the default",
        source="CuPL, arXiv 2209.03320",
    ),
    "max": TextPooling(
        pool=_keep_sentences,
        about="the highest score of a label's sentences",
        source="this package",
    ),
}


def find_text_pooling(name: str) -> TextPooling:
    """An entry of `TEXT_POOLINGS`.

    Raises:
        ValueError: there is none of this name.
    """
    if not isinstance(name, str) or name not in TEXT_POOLINGS:
        raise ValueError(f"`text_pooling` is {_shown(name)}; it must be {' or '.join(map(repr, TEXT_POOLINGS))}.")
    return TEXT_POOLINGS[name]


def sentences_of(description: Description) -> tuple[str | None, ...]:
    """The sentences of a description; `None` alone for a label without one.

    >>> sentences_of("a ball is hit"), sentences_of(("a ball is hit", "someone swings")), sentences_of(None)
    (('a ball is hit',), ('a ball is hit', 'someone swings'), (None,))
    """
    return description if isinstance(description, tuple) else (description,)


def resolve_templates(templates: str | Sequence[str]) -> list[str]:
    """The templates of a named set, of one template, or of a list of them.

    Raises:
        ValueError: neither text nor a list, an empty list, more than `MAX_TEMPLATES`, or a template without exactly
            one `{}` or that is longer than a label may be.
    """
    if isinstance(templates, str):
        templates = TEMPLATE_SETS[templates].templates if templates in TEMPLATE_SETS else (templates,)
    if not isinstance(templates, Sequence):
        raise ValueError(f"The prompt templates are {templates!r:.100}; give a list of them, or the name of a set.")
    if len(templates) > MAX_TEMPLATES:
        raise ValueError(f"There are {len(templates)} prompt templates; at most {MAX_TEMPLATES} are taken.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                f"The prompt template {_shown(template)} must hold exactly one '{{}}', where the label goes. "
                f"Named sets are {', '.join(map(repr, TEMPLATE_SETS))}."
            )
        _check_text(template, "The prompt templates")
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
    descriptions: Mapping[str, Any] | Sequence[Any] | None = None,
) -> list[tuple[str, Description]]:
    """Labels with their descriptions, from the forms that users write them in.

    Args:
        labels: any form that `read_label_list` takes.
        descriptions: a mapping from class name to description, in which labels may be missing, or one per label; each
            a text, a list of texts, or `None`.

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
    words = without_unseen(name).replace("_", " ").split()
    if len(words) == 1:
        words = _WORD_START.sub(" ", words[0]).split()
        words = [word.lower() if word[1:].islower() else word for word in words]
    return " ".join(words)


def plain_words(text: str) -> str:
    """A text without what makes no other words of it: case, blanks, and how Unicode writes a letter.

    >>> plain_words("Playing  GOLF"), plain_words("\uff27olf")
    ('playing golf', 'golf')
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


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
        is_list = isinstance(value, list | tuple)
        if is_list and str(key).lower().rpartition("_")[-1] in _WORDS_FOR_LABELS:
            raise ValueError(
                f"{source}: the value of {_shown(key)} is of the type list, as if it held the labels. If it does, "
                "write that list alone; if these are sentences about a label of this name, write one text."
            )
        if value is not None and not isinstance(value, str) and not is_list:
            raise ValueError(
                f"{source}: expected a mapping from index to name, from name to index (0 to {len(labels) - 1}) or "
                f"from name to description, a text or a list of texts; the value of {_shown(key)} is {_shown(value)}."
            )
    return checked_label_list(labels, labels.values(), source=source, form="name to description")


def _description(text: Any, source: str) -> Description:
    if text is None:
        return None
    if isinstance(text, list | tuple):
        return _sentences(text, source)
    if not isinstance(text, str):
        raise ValueError(f"{source}: a description must be a text, a list of texts or None, got {_shown(text)}.")
    _check_text(text, source)
    return str(text) if text.strip() else None


def _sentences(texts: Sequence[Any], source: str) -> Description:
    """Several sentences about a label; one alone is a description as it is without a list."""
    if not 1 <= len(texts) <= MAX_SENTENCES:
        raise ValueError(
            f"{source}: a label has a list of {len(texts)} sentences; it must have 1 to {MAX_SENTENCES}, and a label "
            "without any has None."
        )
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{source}: the sentences about a label must be non-empty texts; one is {_shown(text)}.")
        _check_text(text, source)
    return str(texts[0]) if len(texts) == 1 else tuple(str(text) for text in texts)


def _check_text(text: str, source: str) -> None:
    if len(text) > MAX_LABEL_CHARACTERS:
        raise ValueError(
            f"{source}: a text has {len(text)} characters, more than {MAX_LABEL_CHARACTERS}: {_shown(text)}."
        )
    if "\0" in text:
        raise ValueError(f"{source}: {_shown(text)} holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{source}: {_shown(text)} holds half of a character (a lone surrogate).") from error


def _marks_in_a_row(name: str) -> int:
    are_marks = (character in _MADE_OF_MARKS or unicodedata.combining(character) > 0 for character in name)
    return max(sum(row) for _, row in groupby(are_marks))


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
