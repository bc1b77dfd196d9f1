"""Text that nobody has vouched for, made fit to be shown: names of files, labels and tensors, words of servers."""

from collections.abc import Iterable


def printable(text: str) -> str:
    """The text itself where it shows as it is; with control characters, line breaks or lone surrogates, escaped."""
    return text if text.isprintable() else ascii(text)


def listing(names: Iterable[str], *, limit: int = 100) -> str:
    """Names for an error message; a damaged file can have millions of them."""
    names = list(names)
    rest = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(printable(name) for name in names[:limit]) + rest
