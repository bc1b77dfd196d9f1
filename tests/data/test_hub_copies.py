"""Archives of a copy: unpacked as a whole and nowhere else, or refused by name before a disk is filled."""

import errno
import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from froster_hf.data import hub_copies
from froster_hf.data.hub_copies import _unpack
from froster_hf.video import archives
from froster_hf.video.archives import MOST_HEADER_BYTES
from froster_hf.whole_files import worked_in_alone


def member(name: str, content: bytes = b"video", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_tar(path, *members, mode="w", **options):
    with tarfile.open(path, mode, **options) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, **contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def files_of(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w:gz")]
)
def test_tar_archives_are_unpacked_once(tmp_path, name, mode):
    archive = write_tar(tmp_path / name, member("v/walk/1.avi"), member("v/walk/" + "n" * 150 + ".avi"), mode=mode)
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"v/walk/1.avi", "v/walk/" + "n" * 150 + ".avi"}
    archive.unlink()
    _unpack(archive, tmp_path / "out")


def test_an_archive_that_was_fetched_again_is_unpacked_again(tmp_path):
    archive = write_zip(tmp_path / "v.zip", **{"1.avi": b"old", "2.avi": b"old"})
    _unpack(archive, tmp_path / "out")
    write_zip(archive, **{"1.avi": b"new", "3.avi": b"new"})
    later = (tmp_path / "out").stat().st_mtime + 1
    os.utime(archive, (later, later))
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"1.avi", "3.avi"}
    assert (tmp_path / "out" / "1.avi").read_bytes() == b"new"
    # One that is damaged leaves what was there.
    archive.write_bytes(b"damaged")
    os.utime(archive, (later + 9, later + 9))
    with pytest.raises(ValueError, match="cannot be unpacked"):
        _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"1.avi", "3.avi"}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("end", ["a record of zeros", "two blocks of zeros", "one block of zeros", "an empty archive"])
def test_tar_archives_of_any_writer_end_with_zeros(tmp_path, format, end):
    members = [] if end == "an empty archive" else [member("v/1.avi", bytes(512)), member("v/2.avi", bytes(600))]
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=format) as opened:
        for info, content in members:
            opened.addfile(info, io.BytesIO(content))
        num_bytes = opened.offset
    blocks = {"two blocks of zeros": 2, "one block of zeros": 1}.get(end)
    if blocks:
        archive.write_bytes(archive.read_bytes()[: num_bytes + 512 * blocks])
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {info.name for info, _ in members}


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut between members", "cut within a header", "a damaged header", "no zeros"])
def test_a_tar_archive_that_does_not_come_to_its_end_is_damaged(tmp_path, kind, damage):
    """Each of three files takes a header and two blocks; `tarfile` ends at what is wrong without a word."""
    whole = write_tar(tmp_path / "whole", *[member(f"v/{number}.avi", bytes(600)) for number in range(3)])
    content = bytearray(whole.read_bytes())
    whole.unlink()
    if damage == "a damaged header":
        content[2 * 1536 + 148] ^= 0xFF
    else:
        content = content[: {"cut between members": 2 * 1536, "no zeros": 3 * 1536}.get(damage, 2 * 1536 + 100)]
    archive = tmp_path / f"a.{kind}"
    archive.write_bytes(gzip.compress(content) if kind == "tar.gz" else content)
    with pytest.raises(ValueError, match="cannot be unpacked: it is cut off, or a header in it is damaged"):
        _unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == [archive.name]


def test_archives_of_similar_names_are_unpacked_side_by_side(tmp_path, monkeypatch):
    def fetch(repo_id, *, repo_type, local_dir):
        lists = local_dir / "testTrainMulti_7030_splits"
        for folder in (lists, local_dir / "x"):
            folder.mkdir(parents=True)
        (lists / "wave_test_split1.txt").write_text("a.avi 1\n")
        write_tar(local_dir / "x" / "v.tar", member("h/wave/a.avi"))
        write_tar(local_dir / "x-v.tar", member("h/run/c.avi"))
        return str(local_dir)

    monkeypatch.setattr(hub_copies, "snapshot_download", fetch)
    hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="a/b")
    assert files_of(tmp_path / "unpacked") == {"x/v.tar/h/wave/a.avi", "x-v.tar/h/run/c.avi"}


def test_only_what_was_fetched_and_unpacked_whole_is_looked_through(tmp_path, monkeypatch):
    def fetch(repo_id, *, repo_type, local_dir):
        write_zip(local_dir / "V.ZIP", **{"lists__a_test_split1.txt": b""})
        write_tar(local_dir / "w.tar", member("h/wave/a.avi"), member("__MACOSX/l/a_test_split1.txt"))
        return str(local_dir)

    (tmp_path / "fetched").mkdir()
    # What a run that was killed has left, an archive that the copy has no more, and videos of the user's own.
    for folder in ("unpacked/.unfinished-x/new/lists", "unpacked/old.tar/lists", "own/lists"):
        (tmp_path / folder / "walk").mkdir(parents=True)
        (tmp_path / folder / "a_test_split1.txt").touch()
        for name in ("1.avi", "2.avi"):
            (tmp_path / folder / "walk" / name).touch()
    monkeypatch.setattr(hub_copies, "snapshot_download", fetch)
    found = hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="a/b")
    assert found.annotations == tmp_path / "unpacked" / "V.ZIP" / "lists"
    assert found.root == tmp_path / "unpacked" / "w.tar" / "h"


def test_a_copy_is_fetched_by_one_run_at_a_time_and_not_behind_a_link(tmp_path):
    with worked_in_alone(tmp_path), pytest.raises(ValueError, match="Another run is at work in "):
        hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="a/b")
    (tmp_path / "unpacked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="a/b")


def test_two_copies_are_not_mixed_in_one_folder(tmp_path, monkeypatch):
    def fetch(repo_id, *, repo_type, local_dir):
        if repo_id == "no/body":
            raise OSError("not found")
        local_dir = local_dir.expanduser()
        lists = local_dir / "testTrainMulti_7030_splits"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "wave_test_split1.txt").write_text("a.avi 1\n")
        write_tar(local_dir / "v.tar", member("h/wave/a.avi", repo_id.encode()))
        return str(local_dir)

    monkeypatch.setattr(hub_copies, "snapshot_download", fetch)
    with pytest.raises(OSError, match="not found"):
        hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="no/body")
    found = hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="a/b")
    assert hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="a/b") == found
    with pytest.raises(ValueError, match=r"has the files of a/b, and those of c/d would be mixed"):
        hub_copies.fetch_hub_copy("hmdb51", tmp_path, repo_id="c/d")
    other = hub_copies.fetch_hub_copy("hmdb51", tmp_path / "other", repo_id="c/d")
    assert (Path(other.root) / "wave" / "a.avi").read_bytes() == b"c/d"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    named = hub_copies.fetch_hub_copy("hmdb51", "~/copy", repo_id="c/d")
    assert (tmp_path / "~" / "copy" / "fetched" / "v.tar").exists()
    assert Path(named.root).is_relative_to(tmp_path / "~")


def test_a_zip_archive_is_unpacked(tmp_path):
    archive = write_zip(tmp_path / "a.zip", **{"v__walk__1.avi": b"x" * 3000, "lists__test.txt": b"1\n" * 50_000})
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"v/walk/1.avi", "lists/test.txt"}


def test_a_zip_archive_is_read_no_more_than_once(tmp_path):
    """Thousands of names of the same packed bytes, of which little comes out, take hours."""
    for name, content in ("large", os.urandom(2000)), ("small", b"1"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("1.avi", content)
            # Some writers name a file twice.
            archive.filelist *= 2
    _unpack(tmp_path / "small.zip", tmp_path / "out")
    assert files_of(tmp_path / "out") == {"1.avi"}
    with pytest.raises(
        ValueError, match=r"its files have 4000 bytes in it, and it has 2\d+: they lie over each other"
    ):
        _unpack(tmp_path / "large.zip", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("bound", ["size", "files"])
def test_an_archive_that_would_fill_the_disk_is_refused_before_it_does(tmp_path, monkeypatch, kind, bound):
    if bound == "files":
        monkeypatch.setattr(hub_copies, "MOST_CLIPS", 3)
    else:
        monkeypatch.setattr(hub_copies, "LEAST_UNPACKED_BYTES", 10_000)
    contents = {f"{number}.avi": bytes(2_000_000 if bound == "size" else 1) for number in range(4)}
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(archive, **contents)
    else:
        write_tar(archive, *[member(name, content) for name, content in contents.items()], mode="w:" + kind[4:])
    if (kind, bound) == ("tar", "size"):
        # What is as large as it says is no bomb.
        _unpack(archive, tmp_path / "out")
        return
    with pytest.raises(ValueError, match=rf"a\.{kind} cannot be unpacked: it holds .* files of \d+ bytes") as refused:
        _unpack(archive, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == [archive.name]


@pytest.mark.parametrize("name", ["../out.avi", "v/../../out.avi", "/tmp/froster-out.avi"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_name_in_an_archive_leads_out(tmp_path, name, kind):
    inner = tmp_path / "inner"
    inner.mkdir()
    if kind == "zip":
        _unpack(write_zip(inner / "a.zip", **{name: b"video"}), inner / "data" / "out")
    else:
        archive = write_tar(inner / "a.tar", member(name))
        if ".." in name:
            with pytest.raises(ValueError, match=r"a\.tar cannot be unpacked: .*outside the destination"):
                _unpack(archive, inner / "data" / "out")
        else:
            _unpack(archive, inner / "data" / "out")
    assert not os.path.exists("/tmp/froster-out.avi")
    outside = files_of(tmp_path) - {f"inner/a.{kind}"}
    assert all(path.startswith("inner/data/out/") for path in outside)


def test_links_and_what_else_is_no_file_are_left_out(tmp_path):
    secret = tmp_path / "secret.avi"
    secret.write_bytes(b"secret")
    archive = write_tar(
        tmp_path / "a.tar",
        member("v/1.avi"),
        member("v/link.avi", b"", type=tarfile.SYMTYPE, linkname=str(secret)),
        member("v/inner", b"", type=tarfile.SYMTYPE, linkname="1.avi"),
        member("v/hard.avi", b"", type=tarfile.LNKTYPE, linkname="../secret.avi"),
        member("v/up", b"", type=tarfile.SYMTYPE, linkname="../.."),
        member("v/pipe.avi", b"", type=tarfile.FIFOTYPE),
        member("v/disk.avi", b"", type=tarfile.BLKTYPE),
        member("v/2.avi"),
    )
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"v/1.avi", "v/2.avi"}


def test_a_name_that_has_no_end_is_not_read_into_memory(tmp_path):
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, MOST_HEADER_BYTES * 8
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb") as file:
        file.write(name.tobuf(tarfile.GNU_FORMAT))
        file.write(b"n" * name.size)
    with pytest.raises(ValueError, match=rf"cannot be unpacked: a name or a note in it has {name.size} bytes"):
        _unpack(archive, tmp_path / "out")


def test_a_map_of_holes_that_has_no_end_is_not_read_into_memory(tmp_path):
    entry = tarfile.TarInfo("a.avi")
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    holes = b"2000000\n" + b"0\n" * 4_000_000
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb") as file:
        file.write(entry.tobuf(tarfile.PAX_FORMAT) + holes)
    with pytest.raises(ValueError, match="cannot be unpacked: the notes before a file in it have more than"):
        _unpack(archive, tmp_path / "out")


def test_a_file_with_holes_of_a_size_below_0_does_not_lead_back_for_ever(tmp_path):
    entry = tarfile.TarInfo("a.avi")
    entry.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    # A size in base 256, no holes, and the size with them.
    header[124:136] = b"\xff" + (-tarfile.BLOCKSIZE).to_bytes(11, "big", signed=True)
    header[386:495] = bytes(97) + b"00000000000\0"
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    archive = tmp_path / "a.tar"
    archive.write_bytes(bytes(header) + bytes(tarfile.RECORDSIZE))
    with pytest.raises(ValueError, match="cannot be unpacked: a file in it has a size below 0"):
        _unpack(archive, tmp_path / "out")


def test_a_note_of_digits_in_which_python_looks_for_long_is_refused(tmp_path):
    archive = tmp_path / "a.tar.gz"
    write_tar(archive, member("1" * 101 + ".avi"), format=tarfile.PAX_FORMAT)
    with pytest.raises(ValueError, match="cannot be unpacked: a name or a note in it has more than 100 digits"):
        _unpack(archive, tmp_path / "out")
    write_tar(archive, member("1" * 90 + ".avi"), format=tarfile.PAX_FORMAT)
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"1" * 90 + ".avi"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_of_more_folders_than_a_data_sets_is_refused(tmp_path, kind):
    archive, name = tmp_path / f"a.{kind}", "a/" * 30 + "v.avi"
    if kind == "zip":
        write_zip(archive, **{name: b""})
    else:
        write_tar(archive, member(name, b""), mode="w:")
    with pytest.raises(ValueError, match="cannot be unpacked: a name in it has 31 parts; from 1 to 20"):
        _unpack(archive, tmp_path / "out")


def test_a_table_larger_than_any_data_sets_is_not_read(tmp_path, monkeypatch):
    """`ZipFile` makes an object of each of its names before it says how many there are."""
    archive = write_zip(tmp_path / "a.zip", **{f"{number}.avi": b"" for number in range(1000)})
    monkeypatch.setattr(archives, "MOST_TABLE_BYTES", 40_000)
    with pytest.raises(ValueError, match=r"its table of files has \d+ bytes; at most 40000 are read"):
        _unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("names", [("a", "a/b"), ("d/e", "d"), ("n" * 300,)])
def test_names_under_which_no_files_can_be_written_are_an_error_that_names_the_archive(tmp_path, names, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(archive, **dict.fromkeys(names, b"x"))
    else:
        write_tar(archive, *map(member, names))
    with pytest.raises(ValueError, match=rf"a\.{kind} cannot be unpacked: no files can be written under its names"):
        _unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == [archive.name]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_unpacked_in_one_piece_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("1.avi", bytes(10_000))
    with pytest.raises(
        ValueError, match=rf"cannot be unpacked: a file in it is packed by method {method}; those that"
    ):
        _unpack(tmp_path / "a.zip", tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_folders_of_files_that_have_nothing_else_are_counted(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(hub_copies, "MOST_CLIPS", 8)
    archive, names = tmp_path / f"a.{kind}", [f"a/{number}/b/v.avi" for number in range(4)]
    if kind == "zip":
        write_zip(archive, **dict.fromkeys(names, b""))
    else:
        write_tar(archive, *[member(name, b"") for name in names], mode="w:")
    with pytest.raises(ValueError, match="cannot be unpacked: it holds more than 8 folders"):
        _unpack(archive, tmp_path / "out")
    monkeypatch.setattr(hub_copies, "MOST_CLIPS", 9)
    _unpack(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == set(names)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_without_a_name_is_damage(tmp_path, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(zipfile.ZipInfo(""), b"video")
    else:
        write_tar(archive, member(""), mode="w:")
    with pytest.raises(ValueError, match="cannot be unpacked: a name in it has 0 parts; from 1 to 20"):
        _unpack(archive, tmp_path / "out")


def test_archives_that_together_would_fill_the_disk_are_refused(tmp_path, monkeypatch):
    def fetch(repo_id, repo_type, local_dir):
        local_dir.mkdir(parents=True)
        for number in range(3):
            write_zip(local_dir / f"{number}.zip", **{"1.avi": bytes(40_000)})
        return local_dir

    monkeypatch.setattr(hub_copies, "snapshot_download", fetch)
    monkeypatch.setattr(hub_copies, "LEAST_UNPACKED_BYTES", 100_000)
    with pytest.raises(
        ValueError, match=r"2\.zip and the archives before it hold 3 files and folders of 120000 bytes; .* 100000"
    ):
        hub_copies.fetch_hub_copy("ucf101", folder=tmp_path, repo_id="someone/copy")


def test_the_error_of_a_full_disk_shows_no_control_characters(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a\x1b[2J\n.zip", **{"1.avi": b"video"})

    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(OSError, match="cannot be written") as error:
        _unpack(archive, tmp_path / "out" / archive.name)
    assert str(error.value).isprintable()


def test_notes_count_as_what_they_unpack_to(tmp_path, monkeypatch):
    """A comment of 60 kB before each empty file, which a gzip file holds in some bytes."""
    monkeypatch.setattr(hub_copies, "LEAST_UNPACKED_BYTES", 2_000_000)
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb") as file:
        for number in range(60):
            entry = tarfile.TarInfo(f"{number}.avi")
            entry.pax_headers = {"comment": "x" * 60_000}
            file.write(entry.tobuf(tarfile.PAX_FORMAT))
        file.write(bytes(1024))
    with pytest.raises(ValueError, match=r"cannot be unpacked: it holds \d+ files of \d+ bytes or more"):
        _unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut short", "altered", "not one"])
def test_a_damaged_archive_is_named_and_leaves_nothing(tmp_path, kind, damage):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(archive, **{"1.avi": os.urandom(20_000)})
    else:
        write_tar(archive, member("1.avi", os.urandom(20_000)), mode="w:" + kind[4:])
    content = bytearray(archive.read_bytes())
    if damage == "cut short":
        content = content[:10_000]
    elif damage == "altered":
        # In the header of a plain tar, elsewhere in the data.
        place = 100 if kind == "tar" else 10_000
        content[place] ^= 0xFF
    else:
        content = bytearray(b"version https://git-lfs.github.com/spec/v1\n" * 100)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.{kind} cannot be unpacked: ") as refused:
        _unpack(archive, tmp_path / "out")
    assert str(refused.value).isprintable()
    assert os.listdir(tmp_path) == [archive.name]
