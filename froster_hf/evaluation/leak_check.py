"""Does anything of a file's path reach a prompt?

Class folders and file names spell the answer out (`ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`). Prompts may be made
of label texts only, and the same prompts serve every clip. Looked for are a clip's file name and each folder name of
its path as written there; a name that *is* a label text (a folder called `juggling`) cannot be told from the label and
is passed over. What is found becomes a warning: the labels may well be somebody's names of folders.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePath

from datasets import Dataset

from ..data.video_table import VIDEO_COLUMN, checked_column, label_names, video_name
from ..printing import get_logger

logger = get_logger(__name__)

# Pieces of prompts that are looked up among the parts of paths: some seconds.
MOST_COMPARED = 2**23
_WORD = re.compile(r"[^\s/.,:;\"'()]+")


def find_leaks(prompts: Iterable[str], table: Dataset) -> list[tuple[str, str]]:
    """(path part, prompt) for every part of a video's path that stands verbatim in a prompt."""
    return list(_leaks(prompts, table))


def _leaks(prompts: Iterable[str], table: Dataset) -> Iterator[tuple[str, str]]:
    parts: set[str] = set()
    for batch in checked_column(table, VIDEO_COLUMN).iter(batch_size=32):
        for row in batch[VIDEO_COLUMN]:
            path = PurePath(video_name(row))
            parts.update((*path.parts, path.stem))
    label_words = {text.casefold() for text in label_names(table)}
    tell_tale = {part for part in parts if _is_name(part) and part.casefold() not in label_words}
    # Prompts and paths are many, so none is searched for in each other: where the first word of parts stands in a
    # prompt, the pieces around it that are as long as parts are looked up. {first word: {its place: lengths}}
    shapes: dict[str, dict[int, set[int]]] = {}
    for part in tell_tale:
        first = _WORD.search(part)
        assert first is not None  # see `_is_name`
        shapes.setdefault(first[0], {}).setdefault(first.start(), set()).add(len(part))
    compared = 0
    for number, prompt in enumerate(prompts, 1):
        found: dict[str, None] = {}
        for piece in _pieces_of(prompt, shapes):
            compared += 1
            if piece in tell_tale:
                found[piece] = None
            if compared > MOST_COMPARED:
                break
        yield from ((part, prompt) for part in found)
        if compared > MOST_COMPARED:
            # Paths and labels that begin alike by the thousand, as nobody writes them.
            logger.warning("Only %d prompts are searched for parts of videos' paths: both are too many.", number)
            return


def _pieces_of(prompt: str, shapes: Mapping[str, Mapping[int, Collection[int]]]) -> Iterator[str]:
    """The pieces of a prompt that may be parts; "" for each that begins or ends within a word, which costs as much."""
    end_before = 0
    for word in _WORD.finditer(prompt):
        lengths_by_place = shapes.get(word[0], {})
        # Before its first word, a part has what is in no word.
        for start in range(end_before, word.start() + 1) if lengths_by_place else ():
            if start and _continues_word(prompt[start - 1]):
                yield ""
                continue
            for length in lengths_by_place.get(word.start() - start, ()):
                end = start + length
                yield "" if _continues_word(prompt[end : end + 1]) else prompt[start:end]
        end_before = word.end()


def warn_of_leaks(prompts: Iterable[str], table: Dataset) -> None:
    """Warn when `find_leaks` finds any; names the first part and its prompt."""
    leaks = _leaks(prompts, table)
    if (first := next(leaks, None)) is not None:
        part, prompt = first
        logger.warning(
            "%d prompts hold a part of a video's path, such as %r in %r. If the labels were made of file names, write "
            "them as words: a result with prompts from file names says nothing.",
            1 + sum(1 for _ in leaks),
            part,
            prompt,
        )


def _continues_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_name(part: str) -> bool:
    """Whether a path part tells a clip or class: at least four letters or digits, and not one plain English word.

    Common folders (`videos`, `test`, `data`) may well stand in a label or template by chance.
    """
    return (
        len(re.sub(r"\W", "", part)) >= 4
        and re.search(r"[\d_]|[a-z][A-Z]", part) is not None
        and _WORD.search(part) is not None
    )
