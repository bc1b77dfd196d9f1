"""Files that appear when they are whole: a kill, a full disk, or another process at the same file, leaves an old or a
new one."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(file: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside `file` to write to, which becomes `file` at the end of a `with` block that succeeds.

    It has the same name, since writers go by a file's ending, and lies in a folder of its own that no one else can
    guess or enter. A link at `file` is replaced, not followed.
    """
    file = Path(file)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent, ignore_cleanup_errors=True) as folder:
        part = Path(folder) / file.name
        yield part
        part.replace(file)


def write_text_whole(file: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, with the line ends that `text` has."""
    with written_whole(file) as part:
        part.write_text(text, encoding="utf-8", newline="")
