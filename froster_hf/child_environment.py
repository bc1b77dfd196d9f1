"""The environment of processes that read hostile files: what an interpreter and its libraries need, and no tokens."""

import os

PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "SYSTEMROOT",
    "TMPDIR",
    "TEMP",
)


def child_environment() -> dict[str, str]:
    """The variables of this process's environment that are in `PASSED_ON`."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}
