"""Files that appear when they are whole: a kill, or another process at the same file, leaves an old or a new one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A place beside `file` to write to, which becomes `file` at the end of a `with` block that succeeds."""
    part = file.with_name(f"{os.getpid()}.{file.name}")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def write_text_whole(file: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with written_whole(file) as part:
        part.write_text(text, encoding="utf-8")
