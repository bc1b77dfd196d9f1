"""Does anything of a file's path reach a prompt?

Class folders and file names spell the answer out (`ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`). Prompts may be made
of label texts only, and the same prompts serve every clip. Looked for are a clip's file name and each folder name of
its path as written there; a name that *is* a label text (a folder called `juggling`) cannot be told from the label and
is passed over. What is found becomes a warning: the labels may well be somebody's names of folders.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import PurePath

from datasets import Dataset

from ..data.video_table import VIDEO_COLUMN, label_names, video_name
from ..printing import printable

logger = logging.getLogger(__name__)


def find_leaks(prompts: Sequence[str], table: Dataset) -> list[tuple[str, str]]:
    """(path part, prompt) for every part of a video's path that stands verbatim in a prompt."""
    parts: set[str] = set()
    for batch in table.select_columns([VIDEO_COLUMN]).iter(batch_size=32):
        for row in batch[VIDEO_COLUMN]:
            path = PurePath(video_name(row))
            parts.update((*path.parts, path.stem))
    label_words = {text.casefold() for text in label_names(table)}
    tell_tale = {part for part in parts if _is_name(part) and part.casefold() not in label_words}
    # By whole words first: prompts are few and paths are many, so a set look-up replaces a search of each in each.
    by_first_word: dict[str, list[str]] = {}
    for part in tell_tale:
        by_first_word.setdefault(_words(part)[0], []).append(part)
    leaks = []
    for prompt in prompts:
        for word in dict.fromkeys(_words(prompt)):
            leaks += [(part, prompt) for part in by_first_word.get(word, ()) if _stands_in(part, prompt)]
    return leaks


def warn_of_leaks(prompts: Sequence[str], table: Dataset) -> None:
    """Warn when `find_leaks` finds any; names the first part and its prompt."""
    if leaks := find_leaks(prompts, table):
        part, prompt = leaks[0]
        logger.warning(
            "%d prompts hold a part of a video's path, such as %r in %r. If the labels were made of file names, write "
            "them as words: a result with prompts from file names says nothing.",
            len(leaks),
            printable(part),
            printable(prompt),
        )


def _words(text: str) -> list[str]:
    return re.findall(r"[^\s/.,:;\"'()]+", text)


def _is_name(part: str) -> bool:
    """Whether a path part tells a clip or class: at least four letters or digits, and not one plain English word.

    Common folders (`videos`, `test`, `data`) may well stand in a label or template by chance.
    """
    return (
        len(re.sub(r"\W", "", part)) >= 4 and re.search(r"[\d_]|[a-z][A-Z]", part) is not None and bool(_words(part))
    )


def _stands_in(part: str, prompt: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", prompt) is not None
