"""Files in stores: opened where the caller names them, copied for as long as they are read, one error otherwise."""

import collections
import contextlib
import errno
import importlib
import io
import itertools
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import datasets
import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFile

from froster_hf.cli import main
from froster_hf.cli.videos import find_videos
from froster_hf.data import read_video_list
from froster_hf.processing.label_files import read_label_file
from froster_hf.processing.text_files import AnnotationError
from froster_hf.video import source, stores
from froster_hf.video.decoding import (
    DecodingUnavailableError,
    VideoDecodeError,
    VideoLimits,
    decode_frames,
    probe_video,
    stream_frames,
)
from froster_hf.video.stores import is_named, named_folder
from froster_hf.video.types import UnreadableVideoError
from tests.fixtures.forks import run_python
from tests.fixtures.pages import runs
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import save_tiny_checkpoint, tiny_processor
from tests.hub.loopback_hub import LoopbackHub

NAMED = "memory://videos/"
# As of `shutil.disk_usage`.
Usage = collections.namedtuple("Usage", ["total", "used", "free"])


class FullFile(io.BytesIO):
    """A file on a disk that is full."""

    def fileno(self):
        return 0

    def write(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def store():
    """fsspec's file system in memory, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder of temporary copies."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_file_is_read_as_on_disk_and_its_copy_is_gone_after(store, copies, video_file):
    path = video_file("h264_mp4")
    store.pipe_file("/videos/day one/clip.mp4", path.read_bytes())
    address = "memory://videos/day one/clip.mp4"
    frames, info = decode_frames(address, [3, 30], allow_urls=NAMED)
    expected, expected_info = decode_frames(path, [3, 30])
    assert torch.equal(frames, expected)
    assert info == expected_info == probe_video(address, allow_urls=["https", NAMED])
    assert [frame.frame_index for frame in stream_frames(address, [0.0, 1.0], allow_urls=(address,))] == [0, 25]
    assert not list(copies.iterdir())


def test_a_file_without_room_costs_itself_before_a_byte_of_it_is_written(store, copies, video_file, monkeypatch):
    clip = video_file("h264_mp4").read_bytes()
    store.pipe_file("/videos/clip.mp4", clip)
    store.pipe_file("/videos/large.mp4", clip + bytes(2**20))
    monkeypatch.setattr(stores, "LEAST_ROOM", len(clip))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, len(clip)))
    with monkeypatch.context() as patched:
        patched.setattr(stores, "_write", lambda *_: pytest.fail("it is written"))
        needs = f"its copy takes {len(clip) + 2**20} bytes, and {copies} has room for {len(clip)}. Set TMPDIR"
        with pytest.raises(VideoDecodeError, match=re.escape(needs)):
            probe_video("memory://videos/large.mp4", allow_urls=NAMED)
    assert probe_video("memory://videos/clip.mp4", allow_urls=NAMED) == probe_video(clip)
    assert not list(copies.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is taken beforehand on Linux")
def test_the_room_that_another_copy_has_taken_meanwhile_is_not_said_to_be_there(store, copies, monkeypatch):
    store.pipe_file("/videos/clip.mp4", bytes(2**20))
    rooms = iter([2**30, 1000])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, next(rooms)))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(VideoDecodeError, match=r"its copy takes 1048576 bytes, and .* has room for 1000"):
        probe_video("memory://videos/clip.mp4", allow_urls=NAMED)


def test_a_disk_that_something_else_has_filled_is_not_the_fault_of_a_file(store, copies, monkeypatch):
    store.pipe_file("/videos/clip.mp4", bytes(2**20))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 1000))

    monkeypatch.setattr(stores, "_room", FullFile)
    monkeypatch.setattr(stores, "_taken", lambda copy: 0)
    with pytest.raises(DecodingUnavailableError, match="could not be copied to"):
        probe_video("memory://videos/clip.mp4", allow_urls=NAMED)


@pytest.mark.parametrize(
    ("free", "error", "reason"),
    [
        ([1000, 1000, 2**30], None, ""),
        (
            [1000, 2**22, 1000, 1000, 1000],
            UnreadableVideoError,
            "its copy takes 5242880 bytes, and .* has room for 1000",
        ),
        ([1000] * 4, DecodingUnavailableError, "could not be copied to"),
    ],
    ids=["that comes", "that others took again", "that something else has"],
)
def test_a_worker_waits_for_the_room_of_the_copies_of_others(
    store, copies, video_file, monkeypatch, free, error, reason
):
    clip = video_file("h264_mp4").read_bytes()
    store.pipe_file("/videos/clip.mp4", clip + bytes(5 * 2**20 - len(clip)))
    rooms, now = iter(free), itertools.count()
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    monkeypatch.setattr(stores, "_most_room", math.inf)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**30, 0, next(rooms)))
    monkeypatch.setattr(stores.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stores.time, "monotonic", now.__next__)
    if reason.startswith("could"):
        monkeypatch.setattr(stores, "_room", FullFile)
    with pytest.raises(error, match=reason) if error else contextlib.nullcontext():
        stores.fetch_file("memory://videos/clip.mp4", VideoLimits(timeout_seconds=3 if error else 60)).close()


def test_a_worker_does_not_wait_for_the_same_room_again(store, copies, monkeypatch):
    """Each of a thousand videos would take as long as the time limit allows."""
    store.pipe_file("/videos/clip.mp4", bytes(2**23))
    pauses, now = [], itertools.count()
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    monkeypatch.setattr(stores, "_most_room", math.inf)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**30, 0, 2**22))
    monkeypatch.setattr(stores.time, "sleep", pauses.append)
    monkeypatch.setattr(stores.time, "monotonic", now.__next__)
    for _ in range(10):
        with pytest.raises(UnreadableVideoError, match="its copy takes 8388608 bytes"):
            stores.fetch_file("memory://videos/clip.mp4", VideoLimits(timeout_seconds=3))
    assert 1 <= len(pauses) <= 3


def test_a_file_that_fills_the_disk_costs_itself_where_its_store_does_not_know_its_size(store, copies, monkeypatch):
    store.pipe_file("/videos/clip.mp4", bytes(2**20))
    monkeypatch.setattr(MemoryFile, "size", None)
    monkeypatch.setattr(stores, "_room", FullFile)
    monkeypatch.setattr(stores, "_taken", lambda copy: stores.LEAST_ROOM)
    with pytest.raises(
        VideoDecodeError, match=r"its copy takes 5242880 bytes, and .* has room for 4194304\. Set TMPDIR"
    ):
        probe_video("memory://videos/clip.mp4", allow_urls=NAMED)


def test_a_file_that_is_shorter_than_its_store_says_is_copied_as_it_is(store, copies, video_file, monkeypatch):
    clip = video_file("h264_mp4").read_bytes()
    store.pipe_file("/videos/clip.mp4", clip)
    monkeypatch.setattr(MemoryFile, "size", 2 * len(clip))
    assert probe_video("memory://videos/clip.mp4", allow_urls=NAMED) == probe_video(clip)


@pytest.mark.parametrize(
    "allow_urls", ["none", "https", "http", "memory://videos/b", "memory://vid", ("s3://videos",)]
)
def test_an_address_that_nobody_named_is_not_opened(store, copies, allow_urls, monkeypatch):
    monkeypatch.setattr(stores, "open_store", lambda address: pytest.fail("it was opened"))
    store.pipe_file("/videos/clip.mp4", b"secret")
    with pytest.raises(VideoDecodeError, match="unless allow_urls names them"):
        decode_frames("memory://videos/clip.mp4", [0], allow_urls=allow_urls)
    assert not list(copies.iterdir())


@pytest.mark.parametrize(
    ("address", "named", "allowed"),
    [
        ("s3://bucket/videos/a.mp4", "s3://bucket/videos", True),
        ("s3://bucket/videos/a.mp4", "s3://bucket/videos/", True),
        ("s3://bucket/videos/a.mp4", "s3://bucket/videos/a.mp4", True),
        ("s3://bucket/videos/a.mp4", "s3://bucket", True),
        ("s3://bucket/videos-of-others/a.mp4", "s3://bucket/videos", False),
        ("s3://bucket/videos/../secret/a.mp4", "s3://bucket/videos", False),
        ("s3://bucket/videos/a::http://169.254.169.254/", "s3://bucket/videos", False),
        ("zip://a.mp4::s3://bucket/videos/a.zip", "s3://bucket/videos", False),
        ("zip://a.mp4::s3://bucket/videos/a.zip", "zip://a.mp4::s3://bucket/videos/a.zip", True),
        ("S3://bucket/videos/a.mp4", "s3://bucket/videos", False),
        ("hf://datasets/me/videos@0123/a.mp4", "hf://datasets/me/videos", True),
        ("hf://datasets/me/videos/a.mp4", "hf://datasets/me/videos@main", True),
        ("hf://datasets/me/other/videos@0123/a.mp4", "hf://datasets/me/videos", False),
        ("s3://bucket/videos@0123/a.mp4", "s3://bucket/videos", False),
    ],
)
def test_what_is_named_is_an_address_and_all_below_it(address, named, allowed):
    assert is_named(address, [named]) == allowed


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("nothing.mp4", {}, "reading it failed: no such file"),
        ("large.mp4", {"max_file_bytes": 2**21}, "larger than VideoLimits.max_file_bytes, 2097152"),
        ("large.mp4", {"timeout_seconds": 1e-9}, "took longer than 1e-09 seconds"),
        ("empty.mp4", {}, "it is empty"),
        ("noise.mp4", {}, "not a readable video"),
    ],
)
def test_what_cannot_be_read_is_one_error_and_leaves_nothing(store, copies, name, limits, reason):
    store.pipe_file("/videos/large.mp4", bytes(3 * 2**20))
    store.pipe_file("/videos/noise.mp4", b"noise" * 100)
    store.pipe_file("/videos/empty.mp4", b"")
    with pytest.raises(VideoDecodeError, match=reason):
        decode_frames(NAMED + name, [0], allow_urls=NAMED, limits=VideoLimits(**limits))
    assert not list(copies.iterdir())


TO_LEAVE = """
import fsspec, threading, time
from fsspec.implementations.memory import MemoryFile
from froster_hf.video.decoding import probe_video

read, is_reading = MemoryFile.read, threading.Event()

def read_slowly(file, size=-1):
    is_reading.set()
    time.sleep(0.2)
    return read(file, size)

MemoryFile.read = read_slowly
fsspec.filesystem("memory").pipe_file("/videos/clip.mp4", bytes(2**25))
options = {"allow_urls": "memory://videos/"}
threading.Thread(target=probe_video, args=("memory://videos/clip.mp4",), kwargs=options, daemon=True).start()
is_reading.wait(60)
"""


def test_a_program_that_ends_while_a_thread_is_copying_leaves_nothing(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", TO_LEAVE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name that others open")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_program_that_is_killed_while_a_thread_is_copying_leaves_nothing(tmp_path, number):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # Under `nohup`, the tests themselves ignore one of these.
    is_deadly = "" if number == signal.SIGKILL else f"import signal; signal.signal({int(number)}, signal.SIG_DFL); "
    script = TO_LEAVE + is_deadly + f"import os; os.kill(os.getpid(), {int(number)})"
    done = run_python("-c", script, env=environment)
    assert done.returncode == -number, done.stderr[-2000:]
    assert not list(tmp_path.iterdir())


def test_a_copy_has_a_name_where_no_other_process_could_open_it_without(store, copies, video_file, monkeypatch):
    monkeypatch.setattr(stores, "_can_open_unnamed", lambda: False)
    names = []
    path_of = source.copy_path
    monkeypatch.setattr(source, "copy_path", lambda copy: names.append(path_of(copy)) or names[-1])
    store.pipe_file("/videos/clip.mp4", video_file("h264_mp4").read_bytes())
    frames, _ = decode_frames("memory://videos/clip.mp4", [3], allow_urls=NAMED)
    assert torch.equal(frames, decode_frames(video_file("h264_mp4"), [3])[0])
    assert [os.path.dirname(name) for name in names] == [str(copies)]
    assert not list(copies.iterdir())


def test_files_of_this_machine_are_read_where_they_are(copies, video_file, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "clip.mp4").write_bytes(video_file("h264_mp4").read_bytes())
    named = folder.as_uri() + "/"
    assert probe_video(named + "clip.mp4", allow_urls=named) == probe_video(video_file("h264_mp4"))
    with pytest.raises(VideoDecodeError, match="it is a FIFO, not a regular file"):
        probe_video(named + "pipe.mp4", allow_urls=named)


def test_what_the_machine_lacks_is_booked_on_no_video(store, monkeypatch, tmp_path):
    known = importlib.import_module("fsspec.registry").known_implementations
    monkeypatch.setitem(known, "toy", {"class": "no_such_module.Files", "err": "Install toyfs"})
    with pytest.raises(DecodingUnavailableError, match="Install toyfs"):
        decode_frames("toy://a/clip.mp4", [0], allow_urls="toy://a")
    with pytest.raises(VideoDecodeError, match="cannot be opened"):
        decode_frames("unheard://a/clip.mp4", [0], allow_urls="unheard://a")
    store.pipe_file("/videos/clip.mp4", b"x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DecodingUnavailableError, match="temporary folder"):
        decode_frames(NAMED + "clip.mp4", [0], allow_urls=NAMED)


def test_folders_and_patterns_in_stores_are_searched(store):
    for name in ("b.mp4", "a.MP4", "deep/c.mkv", ".hidden/d.mp4", "notes.txt"):
        store.pipe_file(f"/videos/{name}", b"x")
    names = ("a.MP4", "b.mp4", "deep/c.mkv")
    for folder in ("memory://videos", "memory://videos/", "memory:///videos"):
        assert find_videos([folder]) == [f"{folder.rstrip('/')}/{name}" for name in names]
    assert find_videos(["memory:///videos/*.mp4"]) == ["memory:///videos/b.mp4"]
    assert find_videos(["memory://videos/b.mp4"]) == ["memory://videos/b.mp4"]
    assert named_folder("s3://bucket/day*/a.mp4") == "s3://bucket/"
    assert named_folder("s3://bucket/day/*.mp4") == "s3://bucket/day/"
    assert named_folder("s3://bucket/day") == "s3://bucket/day"


@pytest.mark.parametrize("name", ["clip[1].mp4", "day [1]/clip.mp4", "what?.mp4", "a*.mp4"])
def test_a_name_of_what_patterns_are_made_of_is_that_file(store, name, tmp_path):
    # What it would stand for as a pattern.
    for other in ("clip1.mp4", "day 1/clip.mp4", "whatX.mp4", "ab.mp4", name):
        store.pipe_file(f"/videos/{other}", b"x")
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    for address in (NAMED + name, f"file://{tmp_path}/{name}"):
        assert find_videos([address]) == [address]
        folder = address.rpartition("/")[0]
        assert address in find_videos([folder])
        assert is_named(address, [named_folder(address)])


def test_a_pattern_or_folder_of_nothing_among_others_is_not_passed_over(store):
    store.pipe_file("/videos/b.mp4", b"x")
    store.pipe_file("/texts/notes.txt", b"x")
    addresses = ["memory://videos/a*.mp4", "memory://videos/b.mp4", "memory://texts"]
    assert find_videos(addresses) == addresses
    for address in (addresses[0], addresses[2]):
        with pytest.raises(VideoDecodeError, match="reading it failed: no such file"):
            probe_video(address, allow_urls=[named_folder(address)])


def test_videos_are_found_from_the_root_of_a_store(store):
    store.pipe_file("/b/v.mp4", b"x")
    for address in ("memory://", "memory://*/v.mp4", "memory://**/*.mp4"):
        assert find_videos([address]) == ["memory://b/v.mp4"]


def test_the_shell_reads_videos_and_labels_from_a_store(store, tmp_path, capsys):
    save_tiny_checkpoint(tmp_path)
    store.pipe_file("/videos/bikes.mp4", REAL_VIDEOS["bikes"].read_bytes())
    store.pipe_file("/labels.txt", b"riding a bike\ngolf\n")
    command = ["--labels-file", "memory://labels.txt", "--model", str(tmp_path), "--json"]
    for named in ("memory://videos", "memory:///videos/*.mp4", "memory://videos/bikes.mp4"):
        assert main(["predict", named, *command]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["video"].endswith("/videos/bikes.mp4")
        assert {entry["label"] for entry in answer["answers"]} == {"riding a bike", "golf"}


def test_lists_in_stores_are_read_and_errors_name_them(store, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    store.pipe_file("/lists/train.csv", b"video,label\na.mp4,golf\n")
    table = read_video_list("memory://lists/train.csv", root=tmp_path)
    assert table.features["label"].names == ["golf"]
    with pytest.raises(AnnotationError, match=r"memory://lists/nothing\.txt: reading it failed: no such file"):
        read_label_file("memory://lists/nothing.txt")


def test_rows_of_a_streamed_column_are_opened_where_their_store_is_named(store, video_file):
    store.pipe_file("/videos/clip.mp4", video_file("h264_mp4").read_bytes())
    rows = datasets.Dataset.from_dict({"video": ["memory://videos/clip.mp4"]}).to_iterable_dataset()
    rows = rows.cast_column("video", datasets.Video())
    processor = tiny_processor().video_processor
    (row,) = processor.without_video_decoding(rows)
    with pytest.raises(VideoDecodeError, match="allow_urls"):
        processor(row["video"], return_tensors="pt")
    processor.allow_urls = NAMED
    assert processor(row["video"], return_tensors="pt")["pixel_values_videos"].shape[0] == 1
    assert "allow_urls" not in processor.to_dict()


def test_a_wrong_policy_is_refused_before_anything_is_read():
    for wrong in ("s3", ["https", "http"], ["https://videos.test/"], [3]):
        with pytest.raises(
            ValueError, match=r"allow_urls is .* but must be one of 'none', 'https', 'http', an address"
        ):
            decode_frames("nothing.mp4", [0], allow_urls=wrong)


FROM_THE_HUB = """
import sys
from froster_hf.video.decoding import decode_frames
frames, info = decode_frames("hf://someone/videos/clips/a.mp4", [3], allow_urls="hf://someone/videos")
print(int(frames.long().sum()), info.num_frames)
"""


def test_a_file_on_the_hub_is_read(video_file):
    hub = LoopbackHub("someone/videos")
    try:
        hub.files["clips/a.mp4"] = video_file("h264_mp4").read_bytes()
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        done = run_python("-c", FROM_THE_HUB, env=environment)
    finally:
        hub.close()
    assert done.returncode == 0, done.stderr[-2000:]
    frames, info = decode_frames(video_file("h264_mp4"), [3])
    assert done.stdout.split() == [str(int(frames.long().sum())), str(info.num_frames)]


@runs("docs/guides/files_elsewhere.md")
def test_the_guide_runs(page, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = page.run()
    answers = namespace["classify"]("memory://bucket/clips/a.mp4", candidate_labels=["a", "b"])
    assert len(answers) == 2


def test_what_cannot_open_an_address_does_not_show_its_account_or_query(monkeypatch):
    known = importlib.import_module("fsspec.registry").known_implementations
    monkeypatch.setitem(known, "toy", {"class": "no_such_module.Files", "err": "Install toyfs"})
    with pytest.raises(DecodingUnavailableError, match=r"^'toy://\*\*\*@a/clip\.mp4\?\*\*\*' cannot be opened"):
        stores.find_videos_at("toy://somebody:secret@a/clip.mp4?token=secret")


@pytest.mark.parametrize("address", ["memory://me:secret@a/b.mp4?token=secret", "zip://a::memory://me:secret@b.zip"])
def test_a_clients_error_that_repeats_an_address_does_not_show_its_account_or_query(address):
    with pytest.raises(VideoDecodeError, match=r"no such file '.*\*\*\*") as caught:
        probe_video(address, allow_urls=address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:9/v/a.mp4", "FTP://host/v", "zip://a.mp4::ftp://host/v.zip"])
def test_a_server_of_ftp_whose_listing_may_have_no_end_is_not_asked(address, monkeypatch):
    monkeypatch.setattr("fsspec.core.url_to_fs", None)
    with pytest.raises(VideoDecodeError, match="it lies on an FTP server"):
        probe_video(address, allow_urls=address)
