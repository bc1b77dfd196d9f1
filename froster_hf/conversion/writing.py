"""What writing weights can run into."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..printing import one_line


@contextmanager
def write_errors(target: str | os.PathLike[str]) -> Iterator[None]:
    """Make an `OSError` of what safetensors, torch and tokenizers raise where a file cannot be written.

    On a full disk each of them has an error of its own kind. For blocks that only write.
    """
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        reason = one_line(str(error), limit=300)
        raise OSError(f"{target} cannot be written ({reason}). Is the disk full? Nothing of it was left.") from error
