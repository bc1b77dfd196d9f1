"""A file is the old one or the new one: after errors, on a full disk, behind links, beside other writers."""

import contextlib
import errno
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import froster_hf
from froster_hf import whole_files
from froster_hf.cli import main
from froster_hf.data.decode_failures import DecodeFailureLog
from froster_hf.shapes import DEMO_LABELS, MovingShape, render_demo_videos, write_moving_shapes
from froster_hf.whole_files import (
    ResultExistsError,
    check_writable,
    folder_for_results,
    make_folder,
    new_folder,
    prepare_file,
    refuse_other_names,
    worked_in_alone,
    write_text_whole,
    written_whole,
)
from tests.fixtures.subprocesses import NOBODY, run_as_ordinary_user


def test_a_file_appears_when_it_is_whole(tmp_path):
    file = tmp_path / "result.json"
    with written_whole(file) as part:
        part.write_text("new")
        assert part.suffix == ".json"
        assert not file.exists()
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["result.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "result.json"
    file.write_text("old")
    with contextlib.suppress(KeyError), written_whole(file) as part:
        part.write_text("half")
        raise KeyError
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_what_is_there_is_prepared_for_only_where_it_may_be_replaced(tmp_path):
    old, link = tmp_path / "old.json", tmp_path / "link.json"
    old.write_text("old")
    link.symlink_to("nowhere")
    for file in (old, link):
        with pytest.raises(ResultExistsError, match=rf"{file.name} exists already\. Write elsewhere, or replace it"):
            prepare_file(file, overwrite=False)
        prepare_file(file, overwrite=True)
    # With an empty file, nothing would be lost.
    (tmp_path / "empty.json").touch()
    prepare_file(tmp_path / "empty.json", overwrite=False)
    prepare_file(tmp_path / "new" / "new.json", overwrite=False)
    assert old.read_text() == "old"


@pytest.mark.parametrize("links", [True, False], ids=["a disk with hard links", "a disk without them"])
def test_of_two_results_in_one_place_the_earlier_one_stays_and_the_later_one_is_kept(tmp_path, monkeypatch, links):
    def refuse_link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse_link)
    file, empty, link = tmp_path / "result.json", tmp_path / "empty.json", tmp_path / "link.json"
    for place in (file, empty):
        empty.touch()
        write_text_whole(place, "earlier", overwrite=False)
        assert place.read_text() == "earlier"
        assert place.stat().st_nlink == 1
    link.symlink_to("nowhere")
    (tmp_path / "folder.json").mkdir()
    for place in (file, link, tmp_path / "folder.json"):
        with pytest.raises(ResultExistsError, match=rf"{place.name} was written by something else") as told:
            write_text_whole(place, "later", overwrite=False)
        kept = Path(re.search(r"is in (.*)\.$", str(told.value))[1])
        assert kept.read_text() == "later"
        assert (kept.parent, kept.suffix) == (tmp_path, ".json")
        assert kept.stat().st_mode == file.stat().st_mode
        kept.unlink()
    assert file.read_text() == "earlier"
    assert os.readlink(link) == "nowhere"
    assert sorted(os.listdir(tmp_path)) == ["empty.json", "folder.json", "link.json", "result.json"]
    write_text_whole(file, "later")
    assert file.read_text() == "later"


def test_what_cannot_get_its_name_is_kept_under_another_one(tmp_path, monkeypatch):
    replace = Path.replace
    file = tmp_path / "result.json"

    def refuse(part, target):
        if Path(target) == file:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(part), None, str(target))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", refuse)
    for overwrite in (True, False):
        file.touch()
        with pytest.raises(PermissionError, match=r"result\.json cannot be written \(Operation not perm") as told:
            write_text_whole(file, "the work of hours", overwrite=overwrite)
        kept = Path(re.search(r"written there is in (\S*)$", str(told.value))[1])
        assert kept.read_text() == "the work of hours"
        assert (kept.parent, kept.suffix) == (tmp_path, ".json")
        kept.unlink()
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to other users")
def test_a_file_that_only_another_user_may_replace_is_refused_before_the_work(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name, owner in (("theirs.csv", 1000), ("full.csv", 1000), ("answers.jsonl", 1000), ("own.csv", NOBODY)):
        (shared / name).write_text("" if name in ("theirs.csv", "own.csv") else "answers")
        (shared / name).chmod(0o666)
        os.chown(shared / name, owner, owner)
    os.chown(shared, 1001, 1001)
    shared.chmod(0o1777)
    script = """
import sys
from pathlib import Path
from froster_hf.whole_files import prepare_file
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        prepare_file(file, overwrite=file.name == "full.csv", resume=file.suffix == ".jsonl")
        print(file.name, "can be written")
    except OSError as error:
        print(file.name, error)
"""
    said = run_as_ordinary_user(script, str(shared)).splitlines()
    assert [line.split()[0] for line in said if line.endswith("can be written")] == ["answers.jsonl", "own.csv"]
    refused = "is another user's, and cannot be replaced in its folder. Give another name"
    assert sum(refused in line for line in said) == len(said) - 2 == 2
    shared.chmod(0o777)  # in a folder that is not sticky, whoever may write may replace
    assert run_as_ordinary_user(script, str(shared)).count("can be written") == 4


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    write_text_whole(tmp_path / "ours", "text")
    (tmp_path / "others").write_text("text")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "others").stat().st_mode


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path):
    target, link = tmp_path / "precious", tmp_path / "result.txt"
    target.write_text("precious")
    link.symlink_to(target)
    write_text_whole(link, "new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    file = tmp_path / "result.txt"
    texts = [str(number) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_text_whole, args=(file, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() in texts
    assert os.listdir(tmp_path) == ["result.txt"]


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path):
    """A limit on the size of files fails a write as a full disk does, after a part of it."""
    file = tmp_path / "result.txt"
    file.write_text("old")
    script = (
        "import resource, sys; from froster_hf.whole_files import write_text_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"try:\n    write_text_whole({str(file)!r}, 'x' * 100_000)\n"
        "except OSError as error:\n    print(error)\n    sys.exit(error.errno)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True)
    assert ended.returncode == errno.EFBIG
    assert f"{file} cannot be written (File too large)" in ended.stdout
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in this system's folders")
def test_a_pipe_in_a_files_place_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "answers.jsonl")
    with pytest.raises(ValueError, match="not a regular file"):
        prepare_file(tmp_path / "answers.jsonl", overwrite=True)


# Folders


def test_a_folder_appears_when_it_is_whole_with_the_permissions_of_new_files(tmp_path):
    target = tmp_path / "missing" / "out"
    with new_folder(target) as folder:
        (folder / "a").write_text("a")
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("b")
        (folder / "sub" / "b").chmod(0o600)  # as safetensors does
        assert not target.exists()
    (tmp_path / "others").write_text("")
    mode = (tmp_path / "others").stat().st_mode
    assert {path.stat().st_mode for path in target.rglob("*") if path.is_file()} == {mode}
    assert target.stat().st_mode == (target / "sub").stat().st_mode
    assert os.listdir(tmp_path / "missing") == ["out"]


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_the_place_as_it_was(tmp_path, there):
    target = tmp_path / "out"
    if there:
        target.mkdir()
    with contextlib.suppress(KeyError), new_folder(target) as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert os.listdir(tmp_path) == ["out"] * there
    assert not there or not os.listdir(target)


def test_taken_places_and_links_are_refused_and_not_followed(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, message in (("link", "is a link"), ("dangling", "is a link"), ("taken", "not empty|not an empty")):
        with pytest.raises(ValueError, match=message), new_folder(tmp_path / name):
            pytest.fail("the block is not entered")
    with pytest.raises(ValueError, match="not an empty folder"), new_folder(tmp_path / "file"):
        pytest.fail("the block is not entered")
    with pytest.raises(OSError, match="cannot be written"), new_folder(tmp_path / "file" / "out"):
        pytest.fail("the block is not entered")
    assert not os.listdir(tmp_path / "victim")
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "link", "taken", "victim"]


@pytest.mark.parametrize("earlier", ["folder", "file"])
def test_of_two_that_write_one_folder_the_later_one_is_told_and_the_earlier_one_stays(tmp_path, earlier):
    target = tmp_path / "out"

    def write_both():
        with new_folder(target):
            if earlier == "file":
                target.write_text("earlier")
            else:
                with new_folder(target) as folder:
                    (folder / "weights").write_text("earlier")

    with pytest.raises(ResultExistsError, match="out was written by something else meanwhile, and is left as that"):
        write_both()
    assert (target if earlier == "file" else target / "weights").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["out"]


def test_a_second_name_that_a_kill_has_left_is_taken_away_and_others_are_not(tmp_path):
    """Killed between giving a finished file its name and taking away the hidden one."""
    file = tmp_path / "answers.jsonl"
    file.write_text("{}\n")
    for folder in (".unfinished-a1", ".unfinished-b2", "mine"):
        (tmp_path / folder).mkdir()
    os.link(file, tmp_path / ".unfinished-a1" / file.name)
    (tmp_path / ".unfinished-b2" / file.name).write_text("of another run")
    refuse_other_names(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-b2", "answers.jsonl", "mine"]
    assert (tmp_path / ".unfinished-b2" / file.name).read_text() == "of another run"
    os.link(file, tmp_path / "mine" / file.name)
    (tmp_path / ".unfinished-c3").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="has a second name"):
        refuse_other_names(file)
    assert (tmp_path / "mine" / file.name).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is held there")
def test_a_folder_is_held_as_long_as_the_process_that_works_in_it(tmp_path):
    script = (
        "import sys; from froster_hf.whole_files import worked_in_alone\n"
        f"with worked_in_alone({str(tmp_path)!r}):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"Another run is at work in {tmp_path}"), worked_in_alone(tmp_path):
            pytest.fail("the block is not entered")
        other.kill()
    with worked_in_alone(tmp_path):
        pass
    with worked_in_alone(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in this system's folders")
def test_a_lock_that_is_a_link_or_a_pipe_is_refused_by_name(tmp_path):
    folder = make_folder(tmp_path / "given")
    place = folder / ".at_work"
    for put in (lambda: place.symlink_to("../elsewhere"), lambda: os.mkfifo(place)):
        put()
        with pytest.raises(ValueError, match=r"\.at_work is a link or a special file"), worked_in_alone(folder):
            pytest.fail("the block is not entered")
        place.unlink()
    assert os.listdir(tmp_path) == ["given"]


AS_NOBODY = """
import os, sys
from froster_hf.whole_files import new_folder
os.setgid(65534)
os.setuid(65534)
try:
    with new_folder(sys.argv[1]):
        print("entered")
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("place", ["new", "empty"])
def test_a_folder_of_somebody_else_is_an_error_before_the_work(place, tmp_path):
    """A folder that nobody else may write to, and an empty one in a folder where only owners may remove (as /tmp)."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o5 != 0o5 and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o5)
    shared = tmp_path / "shared"
    shared.mkdir()
    if place == "empty":
        shared.chmod(0o1777)
        (shared / "out").mkdir()
    command = [sys.executable, "-c", AS_NOBODY, str(shared / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.stdout.startswith("PermissionError"), done
    assert "cannot be written" in done.stdout
    assert os.listdir(shared) == (["out"] if place == "empty" else [])


def test_a_folder_of_another_user_is_an_error_that_names_it(tmp_path):
    if os.geteuid() != 0:
        (tmp_path / "theirs").mkdir(mode=0o555)
    else:
        (tmp_path / "theirs").mkdir(mode=0o755)
    own = os.geteuid()
    tmp_path.chmod(0o755)
    try:
        if own == 0:  # the superuser may write everywhere
            os.seteuid(65534)
        for folder in (tmp_path / "theirs", tmp_path / "theirs" / "run"):
            with pytest.raises(PermissionError, match=rf"Nothing can be written to {folder} .*Give another"):
                check_writable(folder)
    finally:
        os.seteuid(own)


def test_a_folder_that_can_be_written_to_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []


def test_no_folder_is_made_or_written_behind_a_link(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        for make in (make_folder, check_writable):
            with pytest.raises(ValueError, match=f"{name} is a link, which is not followed"):
                make(tmp_path / name)
    assert not os.listdir(tmp_path / "victim")
    assert not (tmp_path / "nowhere").exists()
    assert make_folder(tmp_path / "link" / "below").is_dir()  # the way to a folder may lead over links


def test_a_folder_of_results_is_gone_where_there_are_none(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "a" / "b"):
        with contextlib.suppress(KeyError), folder_for_results(folder):
            assert folder.is_dir()
            raise KeyError
    assert os.listdir(tmp_path) == ["there"]
    with contextlib.suppress(KeyError), folder_for_results(tmp_path / "a" / "b") as folder:
        (folder / "result").touch()
        raise KeyError
    assert (tmp_path / "a" / "b" / "result").exists()


def test_a_video_that_cannot_be_explained_leaves_no_folder(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    output = tmp_path / "maps"
    options = ["--label", "a star", "--output", str(output), "--model", "small"]
    assert main(["explain", str(tmp_path / "a.mp4"), *options]) == 1
    assert "Cannot decode" in capsys.readouterr().err
    assert not output.exists()


def test_folders_are_made_by_this_module_only():
    """`Path.mkdir(parents=True)` makes what is missing behind a link too; `make_folder` refuses the link."""
    package = Path(froster_hf.__file__).parent
    others = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"\.mkdir\(.*parents=True|makedirs\(", file.read_text(encoding="utf-8"))
    ]
    assert sorted(others) == ["training/whole_folders.py", "whole_files.py"], "the first one looks for links itself"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: render_demo_videos(folder),
        lambda folder: write_moving_shapes(
            folder, [MovingShape.from_label(DEMO_LABELS[0])], clips_per_class=1, seed=0
        ),
        lambda folder: DecodeFailureLog(folder, num_videos=1),
        lambda folder: main(["demo", "--output", str(folder)]) and (folder / "nothing").stat(),
    ],
    ids=["demo videos", "moving shapes", "failures", "the shell's demo"],
)
def test_nothing_is_written_behind_a_link_in_the_place_of_an_output_folder(write, tmp_path, capsys):
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        write(tmp_path / "link")
    assert "is a link, which is not followed" in str(refused.value) + capsys.readouterr().err
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_folder_that_somebody_else_keeps_locked_is_not_waited_for_without_end(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(whole_files, "LONGEST_TURN_SECONDS", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    with pytest.raises(ValueError, match=r"Another run is at work in .*, or give another folder"):
        whole_files.one_at_a_time(tmp_path).__enter__()
    os.close(descriptor)
    with whole_files.one_at_a_time(tmp_path):
        pass
