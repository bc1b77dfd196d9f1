"""Text from elsewhere (labels, names, notes) inside Markdown, where it stays text.

A label may hold HTML, a table's pipes, newlines or a link: a card shows these characters and obeys none of them.
"""

import re
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined

from ..printing import markdown_text

_URL = re.compile(r"https://[A-Za-z0-9._~:/?#@!$&'*+,;=%-]+")
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")


class Safe(str):
    """Text that is Markdown already."""


def escape(text: Any) -> Safe:
    """Any text as one line of Markdown that renders as these characters, also in a table's cell."""
    if isinstance(text, Safe):
        return text
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return Safe(markdown_text(line))


def plain(text: Any) -> Safe:
    """A name or number inside code, where escapes would show.

    Raises:
        ValueError: characters that do not belong in names and numbers.
    """
    if not _PLAIN.fullmatch(str(text)):
        raise ValueError(f"{str(text)!r} cannot stand in the code of a model card: only names and numbers can.")
    return Safe(text)


def link(url: str) -> Safe:
    """A URL as a link to itself.

    Raises:
        ValueError: not https, or characters that URLs do not have.
    """
    if not _URL.fullmatch(url):
        raise ValueError(f"{url!r} is not an https URL.")
    return Safe(f"<{url}>")


def render(template: Path, **values: Any) -> str:
    """Fill a Jinja template; every value is escaped, unless it is `Safe`.

    Raises:
        jinja2.UndefinedError: the template asks for a value that is not given.
    """
    environment = Environment(
        loader=BaseLoader(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else escape(value),
    )
    environment.filters |= {"plain": plain, "link": link}
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
