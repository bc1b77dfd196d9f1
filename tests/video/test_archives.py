"""Files in archives, by their addresses: found in bounded memory, whatever the archive claims."""

import gzip
import io
import itertools
import json
import math
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial

import fsspec
import pytest

from froster_hf.video import archives
from froster_hf.video.decoding import VideoDecodeError, VideoLimits, probe_video
from froster_hf.video.types import UnreadableVideoError

NAMES = ("other.mp4", "a folder/clip.mp4", "last.mp4")


def pack(kind: str, contents: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=out, mode="w:" + kind[4:]) as archive:
            for name, content in contents.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def probe(path, name: str):
    address = f"{path.name.split('.')[1]}://{name}::{path.as_uri()}"
    return probe_video(address, allow_urls=address)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_file_in_an_archive_is_read_by_its_address(tmp_path, video_file, kind):
    # A box without content makes it larger than any name or note may be.
    clip = video_file("h264_mp4").read_bytes() + (2**21).to_bytes(4, "big") + b"free".ljust(2**21 - 4, b"\0")
    archive = tmp_path / f"a.{kind}"
    archive.write_bytes(pack(kind, {name: clip if name == NAMES[1] else b"noise" for name in NAMES}))
    assert probe(archive, NAMES[1]) == probe_video(clip)
    with pytest.raises(VideoDecodeError, match=r"the archive holds no file 'clip\.mp4'"):
        probe(archive, "clip.mp4")
    store = fsspec.filesystem("memory")
    store.pipe_file("/archives/a", archive.read_bytes())
    address = f"{kind[:3]}://{NAMES[1]}::memory://archives/a"
    assert probe_video(address, allow_urls=address) == probe_video(clip)
    store.rm_file("/archives/a")


def test_of_files_of_one_name_in_an_archive_the_last_one_counts(tmp_path, video_file):
    clip = video_file("h264_mp4").read_bytes()
    archive = tmp_path / "a.tar"
    archive.write_bytes(pack("tar", {"1.mp4": b"noise"}))
    with tarfile.open(archive, "a") as opened:
        opened.add(video_file("h264_mp4"), "1.mp4")
    assert probe(archive, "1.mp4") == probe_video(clip)


def test_a_packed_archive_is_held_against_its_checksum(tmp_path, video_file):
    clip = video_file("h264_mp4").read_bytes()
    unpacked = pack("tar", {"1.mp4": clip, "2.mp4": b"noise"})
    # Stored as it is, as videos are, which are packed already; in two parts, and filled up as on tape.
    packed = gzip.compress(unpacked[:9000], 0) + gzip.compress(unpacked[9000:], 0) + bytes(512)
    (tmp_path / "a.tar.gz").write_bytes(packed)
    assert probe(tmp_path / "a.tar.gz", "1.mp4") == probe_video(clip)
    place = packed.index(b"noise")
    (tmp_path / "a.tar.gz").write_bytes(packed[:place] + b"other" + packed[place + 5 :])
    with pytest.raises(VideoDecodeError, match="reading it failed: BadGzipFile 'CRC check failed"):
        probe(tmp_path / "a.tar.gz", "1.mp4")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(unpacked)[:-8])
    with pytest.raises(VideoDecodeError, match="reading it failed: EOFError"):
        probe(tmp_path / "a.tar.gz", "1.mp4")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_and_notes_as_they_are_written_are_read(tmp_path, video_file, form):
    clip = video_file("h264_mp4").read_bytes()
    # What lies where a header has its type is that of a note; and values hold what records are divided by.
    names = ["é" * 90 + ".mp4", "x" * 300 + ".mp4", "g" * 508 + ".mp4", "1.mp4"]
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=form, pax_headers={"comment": "of all\n9 a=b\n"}) as opened:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(clip), 1.5
            entry.pax_headers = {"SCHILY.xattr.user.note": "12 =\n\n= 3", "empty": ""}
            opened.addfile(entry, io.BytesIO(clip))
    for name in names:
        assert probe(archive, name) == probe_video(clip)


def long_note() -> bytes:
    note = tarfile.TarInfo("././@PaxHeader")
    note.type, note.size = tarfile.XHDTYPE, 2**32
    return gzip.compress(note.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20))


def with_notes(*notes: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Of pax, before a file."""
    parts = []
    for note in notes:
        entry = tarfile.TarInfo("././@PaxHeader")
        entry.type, entry.size = kind, len(note)
        parts += [entry.tobuf(tarfile.USTAR_FORMAT), note.ljust(-(-len(note) // 512) * 512, b"\0")]
    return gzip.compress(b"".join(parts) + pack("tar", {"1.mp4": b"noise"}))


def packed_in_one_piece() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("1.mp4", bytes(2**20))
    return out.getvalue()


def link() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("1.mp4")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return out.getvalue()


def noise() -> bytes:
    return b"noise" * 1000


def of_a_packed_size_beyond_its_end() -> bytes:
    """Those of the table and of the member itself."""
    archive = bytearray(bursting("zip")())
    for place in (18, archive.index(b"PK\1\2") + 20):
        struct.pack_into("<I", archive, place, 2**21)
    return bytes(archive)


def bursting_behind_its_end() -> bytes:
    return pack("tar.gz", {"1.mp4": b""}) + gzip.compress(bytes(2**21))


def bursting(kind: str) -> Callable[[], bytes]:
    return partial(pack, kind, {"1.mp4": bytes(2**21)})


# Written in the test: archives hold the time, and the processes of a run have to find the same tests.
@pytest.mark.parametrize(
    ("kind", "write", "reason"),
    [
        ("tar.gz", long_note, "a name or a note in it has 4294967296 bytes; at most 65536 are read"),
        ("tar.gz", partial(with_notes, b"2 " * 32767 + b"=\n"), "a note before a file in it is damaged"),
        ("tar.gz", partial(with_notes, b"9 path=a\n", b"10 a=bc\n"), "a note before a file in it is damaged"),
        ("tar.gz", partial(with_notes, *[b"9 path=a\n"] * 17), "a file in it has more than 16 notes before it"),
        (
            "tar.gz",
            partial(with_notes, b"2 " * 32767 + b"=\n", kind=tarfile.XGLTYPE),
            "a note before a file in it is damaged",
        ),
        ("zip", packed_in_one_piece, "a file in it is packed by method 12; those that are stored or deflated"),
        ("zip", bursting("zip"), "bytes of the archive become 2097152 or more; at most 1048576"),
        ("zip", of_a_packed_size_beyond_its_end, "bytes of the archive become 2097152 or more; at most 1048576"),
        ("tar.gz", bursting("tar.gz"), "bytes of the archive become 2097664 or more"),
        ("tar.gz", bursting_behind_its_end, "bytes of the archive become 10"),
        ("tar", partial(pack, "tar", dict.fromkeys("12345", b"")), "the archive holds more than 4 files"),
        ("zip", partial(pack, "zip", dict.fromkeys("12345678", b"")), "its table of files has 376 bytes; at most 300"),
        (
            "zip",
            partial(pack, "zip", dict.fromkeys("12345", b"")),
            "its table names more than 4 files: unpack it first",
        ),
        ("tar", link, "the archive holds no file '1.mp4'"),
        ("tar", noise, "reading it failed: ReadError"),
        ("zip", noise, "reading it failed: BadZipFile"),
    ],
)
def test_an_archive_that_takes_more_than_archives_of_videos_do_is_one_error(
    tmp_path, monkeypatch, kind, write, reason
):
    for name, bound in (("UNPACKED_BYTES", 2**20), ("MOST_MEMBERS", 4), ("MOST_TABLE_BYTES", 300)):
        monkeypatch.setattr(archives, name, bound)
    archive = tmp_path / f"a.{kind}"
    archive.write_bytes(write())
    with pytest.raises(VideoDecodeError, match=reason):
        probe(archive, "1.mp4")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_a_small_archive_becomes_is_bounded_by_its_size(tmp_path, kind):
    archive = tmp_path / f"a.{kind}"
    archive.write_bytes(pack(kind, {"1.mp4": bytes(80 * 2**20)}))
    with pytest.raises(VideoDecodeError, match=r"become 838\d+ or more; at most 67108864"):
        probe(archive, "1.mp4")
    archive.write_bytes(pack(kind, {"1.mp4": bytes(2**25)}))
    with pytest.raises(VideoDecodeError, match="not a readable video"):
        probe(archive, "1.mp4")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_file_is_looked_for_no_longer_than_the_time_limit(tmp_path, kind):
    (tmp_path / f"a.{kind}").write_bytes(pack(kind, dict.fromkeys("12345", b"")))
    address = f"{kind[:3]}://5::{(tmp_path / f'a.{kind}').as_uri()}"
    with pytest.raises(
        VideoDecodeError, match="finding and reading it in the archive took longer than the time limit"
    ):
        probe_video(address, allow_urls=address, limits=VideoLimits(timeout_seconds=1e-9))


def test_a_packed_archive_of_nothing_is_read_no_longer_than_the_time_limit(monkeypatch):
    """Parts that hold nothing are passed over within one read."""
    monkeypatch.setattr(archives.time, "monotonic", itertools.count().__next__)
    nothing = io.BytesIO(gzip.compress(b"") * 100_000)
    with (
        pytest.raises(UnreadableVideoError, match="longer than the time limit"),
        archives._open_in_tar(nothing, "a", 9),
    ):
        pass
    assert nothing.tell() < 500_000


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_file_that_was_found_is_read_no_longer_than_the_time_limit(monkeypatch, kind):
    now = [0]
    monkeypatch.setattr(archives.time, "monotonic", lambda: now[0])
    packed = io.BytesIO(pack(kind, {"a": os.urandom(50_000)}))
    with archives.ARCHIVES[kind[:3]](packed, "a", 9) as (file, _):
        assert len(file.read(100)) == 100
        now[0] = 10
        with pytest.raises(UnreadableVideoError, match="longer than the time limit"):
            file.read()


def test_a_file_of_blocks_of_nothing_is_read_no_longer_than_the_time_limit(monkeypatch):
    """Such blocks are unpacked on and on within one read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"\0\0\0\xff\xff" * 200_000)
        # As the table says; the file is stored as it is.
        archive.filelist[0].compress_type, archive.filelist[0].file_size = zipfile.ZIP_DEFLATED, 1
    monkeypatch.setattr(archives.time, "monotonic", itertools.count().__next__)
    with (
        archives._open_in_zip(out, "a", 20) as (file, _),
        pytest.raises(UnreadableVideoError, match="longer than the time limit"),
    ):
        file.read(1)
    assert out.tell() < 100_000


def test_of_a_zip_archives_table_one_name_is_kept_and_the_time_is_looked_at_for_each(monkeypatch):
    packed = pack("zip", dict.fromkeys("12345", b""))
    with archives._ZipSearch(io.BytesIO(packed), "3", math.inf) as opened:
        assert opened.found.filename == "3"
        assert opened.filelist == []
    ticks = itertools.count()
    monkeypatch.setattr(archives.time, "monotonic", lambda: next(ticks))
    with pytest.raises(UnreadableVideoError, match="took longer than the time limit"):
        archives._ZipSearch(io.BytesIO(packed), "5", 2.5)
    assert next(ticks) == 4


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_pipe_in_the_place_of_an_archive_is_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / f"a.{kind}")
    with pytest.raises(VideoDecodeError, match="it is not a regular file"):
        probe(tmp_path / f"a.{kind}", "1.mp4")


@pytest.mark.parametrize("kind", ["reference", "libarchive", "simplecache", "dir"])
def test_no_other_chain_is_opened(tmp_path, video_file, kind):
    """A `reference` is a table in which somebody names other files, of this machine too."""
    (tmp_path / "a.json").write_text(json.dumps({"1.mp4": [video_file("h264_mp4").as_uri()]}))
    address = f"{kind}://1.mp4::{(tmp_path / 'a.json').as_uri()}"
    with pytest.raises(VideoDecodeError, match=r"those of archives are opened: zip://name::address, tar://name::"):
        probe_video(address, allow_urls=address)


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1:9/a.zip", "HTTPS://host/a.zip", "zip://a.zip::https://host/b.zip"]
)
def test_an_archive_on_the_web_is_not_asked_for(place, monkeypatch):
    monkeypatch.setattr("fsspec.core.url_to_fs", None)
    address = f"zip://1.mp4::{place}"
    with pytest.raises(VideoDecodeError, match="it lies in an archive on the web"):
        probe_video(address, allow_urls=["https", address])
