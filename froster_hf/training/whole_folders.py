"""Folders that are written whole or not at all, and that show damage when they are read.

A process can be killed at any instruction, and a disk can lose what was not flushed. So a folder is written under
`_incomplete` beside its place, flushed, described by a manifest of sizes and SHA-256 hashes, and only then renamed:

    run/_incomplete/checkpoint-8/...  ->  fsync, hash, manifest.json last  ->  run/checkpoint-8

`checkpointing.py` writes the Trainer's checkpoints this way, `weights.py` its results, which have no manifest.
"""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..fingerprints import file_fingerprint
from ..printing import one_line, printable
from ..processing.text_files import read_json

MANIFEST_NAME = "manifest.json"
# Each file takes some 150.
MAX_MANIFEST_BYTES = 4 * 2**20
# The underscore keeps it out of uploads: the Trainer pushes the run's folder without what starts with one.
INCOMPLETE_NAME = "_incomplete"


class DamagedFolderError(ValueError):
    """A folder is not what its manifest says: torn, altered, or never finished."""


@contextmanager
def replaced_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `folder` when the block ends without an error.

    For results, which others load and change: there is no manifest in it.
    """
    folder = Path(folder)
    incomplete = prepare_incomplete(folder)
    try:
        yield incomplete
        flush_folder(incomplete)
        publish(incomplete, folder)
    except BaseException:
        discard(incomplete)
        raise


def incomplete_path(folder: Path) -> Path:
    """Where `folder` is written before it is whole.

    Raises:
        ValueError: a link is in the way, behind which something else would be written over or deleted, or a file.
    """
    parent = folder.parent / INCOMPLETE_NAME
    if parent.is_symlink():
        raise ValueError(f"{parent} is a link. Folders are written there, never behind a link: remove it.")
    if parent.exists() and not parent.is_dir():
        raise ValueError(f"{parent} is not a folder. Folders are written there: move it away.")
    return parent / folder.name


def prepare_incomplete(folder: Path) -> Path:
    """An empty folder at `incomplete_path(folder)`; what is there, as of an interrupted write, is deleted."""
    incomplete = incomplete_path(folder)
    _delete(incomplete)
    incomplete.mkdir(parents=True)
    return incomplete


def seal(folder: Path) -> None:
    """Flush all files of a folder to the disk and write its manifest."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_fingerprint(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST_NAME).write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Flush all files of a folder, and what says that they are in it, to the disk."""
    paths = sorted(folder.rglob("*"), key=lambda path: path.is_dir())
    for path in (*paths, folder):
        _flush(path)


def publish(incomplete: Path, folder: Path) -> None:
    """Rename a flushed folder to its place; a folder or a link that is there already is replaced.

    A file is not one that was written here: it is kept as `_incomplete/replaced-NAME`, beside those kept before it.
    """
    names = itertools.chain([f"replaced-{folder.name}"], (f"replaced-{folder.name}-{n}" for n in itertools.count(2)))
    replaced = next(path for path in map(incomplete.with_name, names) if path.is_symlink() or not path.is_file())
    _delete(replaced)
    if os.path.lexists(folder):
        folder.rename(replaced)
    incomplete.rename(folder)
    _flush(folder.parent)
    if replaced.is_symlink() or replaced.is_dir() or not os.path.lexists(replaced):
        discard(replaced)


def remove(folder: Path) -> None:
    """Delete a folder so that an interrupted deletion leaves no half of it in its place; of a link, the link."""
    doomed = incomplete_path(folder).with_name(f"removed-{folder.name}")
    _delete(doomed)
    doomed.parent.mkdir(exist_ok=True)
    folder.rename(doomed)
    discard(doomed)


def discard(incomplete: Path) -> None:
    """Delete something below an `_incomplete` folder, and that folder when it is empty then."""
    _delete(incomplete)
    if incomplete.parent.is_dir() and not any(incomplete.parent.iterdir()):
        incomplete.parent.rmdir()


def _delete(path: Path) -> None:
    """Delete a folder and all in it, a link and nothing behind it, or whatever else is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_sound(folder: str | os.PathLike, *, hashes: bool = True) -> None:
    """Compare a folder with its manifest, which lists every file; what is hidden (`.name`) does not count.

    Args:
        folder: sealed by `seal`.
        hashes: read and hash every file. Without, only presence and sizes are compared.

    Raises:
        DamagedFolderError: names the folder and the first thing that is wrong with it.
    """
    folder = Path(folder)
    if link := next((path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()), None):
        raise DamagedFolderError(
            f"{folder} is damaged: {printable(link)} is a link, and only files of its own are read. Copy in its place "
            "what it leads to."
        )
    listed = _read_manifest(folder)
    if unlisted := sorted(_files_of(folder) - listed.keys()):
        raise DamagedFolderError(
            f"{folder} is damaged: {printable(unlisted[0])} is not in its {MANIFEST_NAME}. Remove the file if you put "
            "it there."
        )
    for name, entry in listed.items():
        path, shown = folder / name, printable(name)
        # Unlike `Path.is_file`, for names too that no file can have.
        if not os.path.isfile(path):
            raise DamagedFolderError(f"{folder} is damaged: {shown} is missing.")
        size = path.stat().st_size
        if size != entry["size"]:
            stored = printable(str(entry["size"]))
            raise DamagedFolderError(f"{folder} is damaged: {shown} has {size} bytes instead of {stored}.")
        if hashes and file_fingerprint(path) != entry["sha256"]:
            raise DamagedFolderError(f"{folder} is damaged: the content of {shown} is not what was written.")


def is_sound(folder: str | os.PathLike, *, hashes: bool = True) -> bool:
    """Whether `check_sound` finds nothing."""
    try:
        check_sound(folder, hashes=hashes)
    except DamagedFolderError:
        return False
    return True


def _files_of(folder: Path) -> set[str]:
    """What the manifest has to list."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {
        name.as_posix()
        for name in names
        if name.as_posix() != MANIFEST_NAME and not any(part.startswith(".") for part in name.parts)
    }


def _read_manifest(folder: Path) -> dict[str, dict]:
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise DamagedFolderError(f"{folder} is not a folder.")
    if not path.is_file():
        raise DamagedFolderError(
            f"{folder} has no {MANIFEST_NAME}: it was not written to its end, or not by this package."
        )
    try:
        files = read_json(path, max_bytes=MAX_MANIFEST_BYTES)["files"]
        if not files:
            raise ValueError("it lists no file")
        for name, entry in files.items():
            relative = PurePosixPath(name)
            if relative.is_absolute() or ".." in relative.parts or not {"size", "sha256"} <= entry.keys():
                raise ValueError(f"the entry {name!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFolderError(
            f"{folder} is damaged: {MANIFEST_NAME} cannot be read ({one_line(str(error))})."
        ) from error
    return files


def _flush(path: Path) -> None:
    if os.name == "nt":  # what is opened for reading, as a folder must be, cannot be flushed there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
