"""A file is the old one or the new one: after errors, on a full disk, behind links, beside other writers."""

import contextlib
import errno
import os
import subprocess
import sys
import threading

from froster_hf.whole_files import write_text_whole, written_whole


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
        "except OSError as error:\n    sys.exit(error.errno)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == errno.EFBIG
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]
