"""Files and folders that appear when they are whole: a kill, a full disk, or another process at the same place, leaves
an old or a new one."""

import contextlib
import errno
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .printing import one_line, printable

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".at_work"
# Of what is waited for; it takes a moment.
LONGEST_TURN_SECONDS = 60.0
# Of a full disk, a user's share of it that is used up, and a file that is larger than the process may write.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def written_whole(file: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """A place beside `file` to write to, which becomes `file` at the end of a `with` block that succeeds.

    It has the same name, since writers go by a file's ending, and lies in a folder of its own that no one else can
    guess or enter. A link at `file` is replaced, not followed.

    Args:
        file: that is written.
        overwrite: whether what is there by then is replaced, as a writer's own earlier file is.

    Raises:
        ResultExistsError: something is there by then, and stays; names where the file is instead.
        OSError: it cannot be written, or not be given its name; then names where it is instead.
    """
    file = Path(file)
    with (
        full_disk_named(file),
        tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent, ignore_cleanup_errors=True) as folder,
    ):
        part = Path(folder) / file.name
        yield part
        try:
            if overwrite:
                part.replace(file)
            else:
                _take_free_place(part, file)
        except OSError as error:  # as where somebody else's file has come to a folder like /tmp
            if error.errno in NO_ROOM or not part.exists():
                raise
            try:
                shown, kept = printable(os.fspath(file)), printable(_keep_beside(part, file))
            except OSError:
                raise error from None
            raise type(error)(
                error.errno,
                f"{shown} cannot be written ({error.strerror}). What would have been written there is in {kept}",
            ) from error


def _take_free_place(part: Path, file: Path) -> None:
    """Give a finished file its name where nothing has it, or another one: other work may have ended there first.

    Raises:
        ResultExistsError: it has another one.
    """
    with contextlib.suppress(OSError):  # something is there, or the disk has no hard links
        os.link(part, file)
        return
    is_empty_file = os.path.isfile(file) and not os.path.islink(file) and not _has_content(file)
    if is_empty_file or not os.path.lexists(file):
        part.replace(file)
        return
    raise ResultExistsError(
        f"{printable(os.fspath(file))} was written by something else meanwhile, and is left as that. What would have "
        f"been written there is in {printable(_keep_beside(part, file))}."
    )


def _keep_beside(part: Path, file: Path) -> str:
    """Give a finished file a free name beside its own, which it cannot have; returns that."""
    handle, kept = tempfile.mkstemp(prefix=f"{file.stem[:50]}-", suffix=file.suffix, dir=file.parent)
    os.close(handle)
    part.replace(kept)
    return kept


@contextlib.contextmanager
def full_disk_named(file: str | os.PathLike[str]) -> Iterator[None]:
    """Make the error of a disk without room, which names no file or a part of one, that of the file."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        reason = os.strerror(error.errno)
        raise type(error)(error.errno, f"{printable(os.fspath(file))} cannot be written ({reason})") from error


class ResultExistsError(ValueError):
    """There is a result already where one would be written."""


def refuse_results(*results: str | os.PathLike[str], overwrite: bool, resumable: bool = False) -> None:
    """The rule for what is written at the end of some work: what is there is replaced only where this is asked for.

    Files and folders without content do not count, since nothing is lost with them.

    Args:
        results: files and folders that would be written.
        overwrite: whether they may be replaced.
        resumable: whether the work can go on with them, as the message then says.

    Raises:
        ResultExistsError: names the first that is there.
    """
    for result in () if overwrite else results:
        if os.path.islink(result) or _has_content(result):
            resume = "go on with it (`--resume`, `resume=True`), " if resumable else ""
            raise ResultExistsError(
                f"{printable(os.fspath(result))} exists already. Write elsewhere, {resume}or replace it "
                "(`--overwrite`, `overwrite=True`)."
            )


def _has_content(path: str | os.PathLike[str]) -> bool:
    return bool(os.listdir(path)) if os.path.isdir(path) else os.path.isfile(path) and os.path.getsize(path) > 0


def prepare_file(
    file: str | os.PathLike[str], *, overwrite: bool, resumable: bool = False, resume: bool = False
) -> None:
    """Make the folder of a file that is written at the end of some work, and find out before it whether it can be.

    Args:
        file: that will be written.
        overwrite: see `refuse_results`.
        resumable: see `refuse_results`.
        resume: whether what is there is written on in place, and not replaced.

    Raises:
        ResultExistsError: see `refuse_results`.
        ValueError: there is a pipe or a device in the file's place, which could be waited for without end.
        OSError: the folder cannot be made or written to, there is a folder in the file's place, or a file that only
            another user may replace.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    refuse_irregular(file)
    refuse_results(file, overwrite=overwrite or resume, resumable=resumable)
    if not resume:
        refuse_irreplaceable(file)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=file.parent):
        pass


def refuse_irreplaceable(path: Path) -> None:
    """Raise where nothing else may take the name of what is there: in folders like /tmp (sticky), its owner decides.

    Raises:
        PermissionError: it is another user's, and so is its folder.
    """
    if not hasattr(os, "geteuid") or os.geteuid() == 0 or not os.path.lexists(path):
        return
    folder = path.parent.stat()
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (folder.st_uid, path.lstat().st_uid):
        raise PermissionError(
            errno.EPERM,
            f"{printable(os.fspath(path))} is another user's, and cannot be replaced in its folder. Give another name",
        )


def refuse_irregular(file: str | os.PathLike[str]) -> None:
    """Raise where a file that will be opened is a pipe or a device, which could be waited for without end.

    Raises:
        ValueError: it is one, or a folder.
    """
    if os.path.exists(file) and not os.path.isfile(file):
        raise ValueError(f"{printable(os.fspath(file))} is not a regular file. Give the name of one.")


def refuse_other_names(file: str | os.PathLike[str]) -> None:
    """Raise where a file that will be written in place has other names, under which it would change as well.

    A name that `written_whole` has left, killed right after it gave the file its own, is taken away.

    Raises:
        ValueError: it is a link, or has hard links.
    """
    shown = printable(os.fspath(file))
    if os.path.islink(file):
        raise ValueError(f"{shown} is a link, which is not followed. Remove it, or give the file that it leads to.")
    if os.path.isfile(file) and os.stat(file).st_nlink > 1:
        for folder in Path(file).parent.glob(".unfinished-*"):
            with contextlib.suppress(OSError):  # it has no file of this name
                if not folder.is_symlink() and os.path.samestat(os.lstat(folder / Path(file).name), os.stat(file)):
                    (folder / Path(file).name).unlink()
                    folder.rmdir()
    if os.path.isfile(file) and os.stat(file).st_nlink > 1:
        raise ValueError(
            f"{shown} has a second name (a hard link), whose file would be changed as well. Remove it, or give "
            "another name."
        )


def write_text_whole(file: str | os.PathLike[str], text: str, *, overwrite: bool = True) -> None:
    """Write a text file in UTF-8, with the line ends that `text` has; see `written_whole`."""
    with written_whole(file, overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8", newline="")


def make_folder(folder: str | os.PathLike[str], *, mode: int = 0o777) -> Path:
    """Make a folder that files are written to, with its parents, unless it is there.

    Args:
        folder: that is made.
        mode: of a new one, of which the process's mask is taken off.

    Raises:
        ValueError: there is a link in its place, behind which files of somebody else could be replaced.
        OSError: it cannot be made.
    """
    folder = Path(folder)
    refuse_link(folder)
    folder.mkdir(mode, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def folder_for_results(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """`check_writable`, before the work whose results go there; taken away again where the work fails without any.

    Raises:
        ValueError: there is a link in its place.
        OSError: nothing can be written to it; names it.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    check_writable(folder)
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):  # something is in it
            for path in missing:
                path.rmdir()
        raise


def refuse_link(folder: str | os.PathLike[str]) -> None:
    """Raise where there is a link in the place of a folder that will be written.

    Raises:
        ValueError: there is one.
    """
    if os.path.islink(folder):
        raise ValueError(f"{folder} is a link, which is not followed. Give the folder that it leads to.")


def refuse_links_within(folder: str | os.PathLike[str]) -> None:
    """Raise where a folder that is gone on with holds a link, behind which would be written and deleted, or a pipe.

    Raises:
        ValueError: something in it, at any depth, is neither a folder nor a file.
    """
    folders = [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    raise ValueError(
                        f"{printable(entry.path)} is a link or a special file, and only folders and files of its own "
                        "are gone on with. Take it away, or begin again in another place."
                    )


@contextlib.contextmanager
def worked_in_alone(place: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder in which two runs at once would delete each other's files, or a file to which both would append,
    until the block or the process ends.

    Where a system or a disk has no such locks, nothing is held.

    Raises:
        ValueError: another run holds it, or what would be locked is a link or a special file.
    """
    is_folder = os.path.isdir(place)
    # Some disks lock what is open for writing only.
    mode = "ab" if is_folder else "r+b" if os.access(place, os.W_OK) else "rb"
    with open(Path(place) / LOCK_FILE if is_folder else place, mode, opener=_open_regular) as lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _at_work(place) from error
        except OSError:
            pass
        yield


def _at_work(place: str | os.PathLike[str]) -> ValueError:
    kind = "folder" if os.path.isdir(place) else "file"
    return ValueError(
        f"Another run is at work in {printable(os.fspath(place))}. Wait until it ends, or give another {kind}."
    )


@contextlib.contextmanager
def one_at_a_time(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Wait until nobody else is in such a block for a folder; not where a system or a disk has no such locks.

    Raises:
        ValueError: somebody is for longer than `LONGEST_TURN_SECONDS`; whoever may read a folder may lock it.
    """
    if fcntl is None:
        yield
        return
    end_time = time.monotonic() + LONGEST_TURN_SECONDS
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            while not _is_locked(descriptor):
                if time.monotonic() > end_time:
                    raise _at_work(folder)
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Whether it could be locked; somebody else has it locked otherwise."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_regular(file: str, flags: int) -> int:
    """Open a regular file, or a new one; a link is not followed, and a pipe not waited for.

    Raises:
        ValueError: something else is there.
    """
    if os.path.lexists(file) and not stat.S_ISREG(os.lstat(file).st_mode):
        raise ValueError(
            f"{printable(os.fspath(file))} is a link or a special file, which is not opened. Take it away, or give "
            "another place."
        )
    return os.open(file, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder, and raise before any work where nothing can be written to it.

    Raises:
        ValueError: there is a link in its place.
        OSError: names the folder; it is another user's, on a read-only disk, or no folder.
    """
    try:
        with tempfile.TemporaryFile(dir=make_folder(folder)):
            pass
    except OSError as error:
        raise type(error)(
            error.errno,
            f"Nothing can be written to {os.fspath(folder)} ({error.strerror}). Give another output folder",
        ) from error


@contextlib.contextmanager
def new_folder(target: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """A folder to write to, which becomes `target` at the end of a `with` block that succeeds; its parents are made.

    Its files get the permissions that new files have, whatever wrote them.

    Args:
        target: where the folder will be.
        replace: whether what is there gives way at the end: a folder with all in it, or a link and nothing behind it.

    Raises:
        ValueError: `target` is a link, or exists and is not an empty folder, and is not to be replaced.
        ResultExistsError: something else has written there meanwhile, which stays.
        OSError: nothing can be written there; raised before the block is entered.
    """
    target = Path(target)
    if not replace:
        refuse_link(target)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(f"{target} exists and is not an empty folder. Give another folder, or remove it.")
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent, ignore_cleanup_errors=True)
            unfinished = Path(stack.enter_context(scratch))
            if target.exists() and not replace:
                # An empty folder of somebody else may refuse to be replaced: better now than after the work.
                target.rename(unfinished / "before")
                stack.callback(_put_back, unfinished / "before", target)
            folder = unfinished / "new"
            folder.mkdir()
            probe = unfinished / "probe"
            probe.touch()
        except OSError as error:
            raise type(error)(
                f"{target} cannot be written: {error.strerror}. Give a folder in which this user may write."
            ) from error
        yield folder
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(probe.stat().st_mode & 0o777)
        if replace:
            with contextlib.suppress(FileNotFoundError):
                target.rename(unfinished / "before")
                stack.callback(_put_back, unfinished / "before", target)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise ResultExistsError(
                f"{printable(str(target))} was written by something else meanwhile, and is left as that. Write to "
                "another folder."
            ) from error


def _put_back(before: Path, target: Path) -> None:
    """Give what was there its name again, unless something has it now."""
    if not os.path.lexists(target):
        before.rename(target)


@contextlib.contextmanager
def write_errors(target: str | os.PathLike[str]) -> Iterator[None]:
    """Make an `OSError` that names the target of what writers raise, such as safetensors, torch and tokenizers.

    On a full disk each of them has an error of its own kind. For blocks that only write.
    """
    try:
        yield
    except ValueError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        reason = os.strerror(error.errno)
        raise type(error)(error.errno, f"{target} cannot be written ({reason}). Nothing of it was left") from error
    except Exception as error:
        reason = one_line(str(error), limit=300)
        raise OSError(f"{target} cannot be written ({reason}). Is the disk full? Nothing of it was left.") from error


def bounded_lines(path: str | os.PathLike, most_bytes: int, *, start: int = 0) -> Iterator[bytes]:
    """The lines of a file that lines are appended to, with their ends; of one that is longer, its beginning and rest.

    Args:
        path: the file.
        most_bytes: of a line, its end not counted; no more is in memory at once.
        start: the byte that the first one begins with.
    """
    with open(path, "rb") as file:
        file.seek(start)
        while line := file.readline(most_bytes + 1):
            yield line


def may_be_torn(line: bytes, begin: bytes) -> bool:
    """Whether a last line without an end may be one of ours that a kill cut short.

    Args:
        line: the line; with line ends that are not ours, all of a file can look like one.
        begin: how ours begin.
    """
    return line.startswith(begin[: len(line)]) and b"\r" not in line


def begins_with_json(line: bytes) -> bool:
    """Whether a line begins with a whole value of JSON; one of ours that a kill cut short does not."""
    try:
        # Numbers of any length are passed over, and so are letters of another encoding.
        json.JSONDecoder(parse_int=float).raw_decode(line.decode(errors="replace"))
    except RecursionError:  # none of ours is nested so
        return True
    except ValueError:
        return False
    return True
