"""What is shown: text that nobody has vouched for, made fit for it, and what transformers says of itself, left out.

Names of files, labels and tensors and words of servers that the package prints or writes for people pass `printable`
or `one_line`: a name must not move a terminal's cursor, set its title, or begin a line of its own.
"""

import contextlib
import html
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# A name or a message that is longer is cut; a damaged file can have a tensor whose name is a megabyte long.
LONGEST_NAME = 500
LONGEST_MESSAGE = 4000
# What Markdown reads anywhere in a line, underscores not within a word, and what it reads at a line's start only.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|_(?![^\W_])|(?<![^\W_])_")
_MARKDOWN_START = re.compile(r"^([#+=-])|^(?P<number>\d+)(?=[.)](\s|$))")
_MARKDOWN_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"})
_ADDRESS = re.compile(r"(?<![^\W_])(?:(?:https?|ftp|mailto|xmpp):|www\.)", re.IGNORECASE)


def printable(text: str, *, limit: int = LONGEST_NAME) -> str:
    """The text, in which control characters, line breaks, direction marks and lone surrogates are written as escapes.

    Args:
        text: of any origin and length.
        limit: characters that are kept; the rest is counted.
    """
    kept = text if len(text) <= limit else text[:limit]
    shown = kept if kept.isprintable() else "".join(map(_shown, kept))
    return shown if len(text) <= limit else f"{shown}... ({len(text)} characters)"


def one_line(text: str, *, limit: int = LONGEST_MESSAGE) -> str:
    """A message as one line: `printable`, with every line break and run of blanks as a single blank."""
    # The rest of a cut message cannot matter; a million characters are not searched for blanks.
    start = re.sub(r"\s+", " ", text[: limit + 1]).strip()
    if len(text) <= limit:
        return printable(start, limit=limit)
    return f"{printable(start[:limit], limit=limit)}... ({len(text)} characters)"


def figure_text(text: str) -> str:
    """Text for matplotlib, which reads what stands between dollar signs as mathematics, or fails to."""
    return printable(text).replace("$", r"\$")


@contextlib.contextmanager
def without_latex() -> Iterator[None]:
    """Without LaTeX in matplotlib, whatever its settings say: it would do what a label says, such as `\\input`."""
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False}):
        yield


def write_figure(figure: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a figure of matplotlib's; see `without_latex`.

    Args:
        figure: the figure.
        path: the file.
        options: of `Figure.savefig`.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_usetex(False)
    # Further texts, of ticks, are made as it is drawn.
    with without_latex():
        figure.savefig(path, **options)


def html_text(text: str) -> str:
    """Text as HTML: fit to be shown, and nothing of it taken for markup."""
    return html.escape(printable(text))


def markdown_text(line: str) -> str:
    """One line as Markdown that shows these characters, also in a table's cell: no markup, no link, no picture."""
    line = _MARKDOWN.sub(r"\\\g<0>", line).translate(_MARKDOWN_ENTITIES)
    # Viewers make links of what looks like an address.
    line = _ADDRESS.sub(lambda start: f"{start[0][:-1]}&#{ord(start[0][-1])};", line)
    return _MARKDOWN_START.sub(_defused, line)


def printable_lines(lines: Iterable[str]) -> str:
    """A report whose lines repeat foreign text: each of them `printable`, so that none becomes two."""
    return "\n".join(printable(line, limit=LONGEST_MESSAGE) for line in lines)


def listing(names: Iterable[str], *, limit: int = 100) -> str:
    """Names for an error message; a damaged file can have millions of them."""
    names = list(names)
    rest = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(printable(name) for name in names[:limit]) + rest


def counted(number: float, noun: str) -> str:
    """A number with its noun: `1 step`, `2 steps`."""
    shown = f"{number:.2f}".rstrip("0").rstrip(".")
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def did_you_mean(names: Iterable[str]) -> str:
    """A sentence, with a blank behind it, that says what may be meant; nothing where there are no names."""
    shown = " or ".join(printable(name) for name in names)
    return f"Did you mean {shown}? " if shown else ""


def json_text(
    value: Any,
    *,
    encoding: str = "utf-8",
    indent: int | None = None,
    default: Callable[[Any], Any] | None = None,
) -> str:
    r"""JSON for an output of this encoding, in `\u` escapes where it holds characters that the output does not have or
    that would act on a terminal.

    Args:
        value: what is written.
        encoding: encoding of the output.
        indent: as in `json.dumps`.
        default: as in `json.dumps`.

    Raises:
        ValueError: a number is infinite or NaN, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=default)
    try:
        text.encode(encoding)
        shows_as_it_is = all(line.isprintable() for line in text.split("\n"))
    except UnicodeEncodeError:
        shows_as_it_is = False
    return text if shows_as_it_is else json.dumps(value, allow_nan=False, indent=indent, default=default)


class PrintableFormatter(logging.Formatter):
    """Of messages that repeat foreign text: each line of them is `printable`."""

    def format(self, record: logging.LogRecord) -> str:
        """The message as text for a terminal."""
        # Colors, too, which transformers gives its reports on a terminal.
        return printable_lines(re.sub(r"\x1b\[[\d;]*m", "", super().format(record)).split("\n"))


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, in whose messages every value is `printable`, whoever shows them.

    The values are names of files and texts in them, and errors that repeat these.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_make_values_printable)
    return logger


def _make_values_printable(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            value if isinstance(value, int | float) else printable(str(value), limit=LONGEST_MESSAGE)
            for value in record.args
        )
    return True


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Without transformers' progress bars, which show where there is no terminal, too; then they are as before."""
    from transformers.utils import logging as transformers_logging

    were_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Without transformers' messages below errors; afterwards it is as talkative as before."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _defused(start: re.Match[str]) -> str:
    """`# x` to `\\# x`, `1. x` to `1\\. x`."""
    return f"{start['number']}\\" if start["number"] else f"\\{start[0]}"


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
