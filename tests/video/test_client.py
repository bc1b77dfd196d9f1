"""What the machine lacks is not the video's fault, and what the decoding process may do, and knows, is little."""

import contextlib
import errno
import gc
import io
import json
import math
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import froster_hf
from froster_hf.child_environment import PASSED_ON
from froster_hf.video import client, server
from froster_hf.video.decoding import (
    Conversation,
    DecodingUnavailableError,
    VideoDecodeError,
    VideoLimits,
    decode_frames,
    decode_images,
    decode_video,
    stream_frames,
)
from froster_hf.video.images import image_files, read_images
from froster_hf.video.packets import ffmpeg_failure
from froster_hf.video.protocol import read_message
from froster_hf.video.types import BackendUnavailableError, SystemLacksError, UnreadableVideoError, system_lack
from froster_hf.video.watchdog import TimeBudget, Watchdog
from tests.fixtures.subprocesses import decoding_processes, run_as_ordinary_user
from tests.fixtures.videos import VIDEO_KINDS, VideoKind, read_index, render_video

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def shown(frames: torch.Tensor) -> list[int | None]:
    return [read_index(frame.numpy()) for frame in frames]


ORDINARY = """
import os, sys, resource
from froster_hf.video.decoding import *
assert os.geteuid() != 0
"""

NO_PIPE_ALLOWANCE = """
import fcntl
held = []
for _ in range(4096):
    held.append(os.pipe())
    try:
        fcntl.fcntl(held[-1][0], fcntl.F_SETPIPE_SZ, 2**20)
    except OSError:
        break
else:
    print("no limit here")
frames, info = decode_frames(sys.argv[1], [3])
print(tuple(frames.shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux bounds the pipes of a user")
def test_a_user_who_holds_many_large_pipes_decodes_all_the_same(video_file):
    printed = run_as_ordinary_user(ORDINARY + NO_PIPE_ALLOWANCE, str(video_file("h264_mp4")))
    assert printed == "(1, 3, 72, 96)\n"


LIMITED = """
kind = getattr(resource, sys.argv[2])
resource.setrlimit(kind, (int(sys.argv[3]), resource.getrlimit(kind)[1]))
try:
    decode_frames(sys.argv[1], [3])
except DecodingUnavailableError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(
    ("limit", "value", "cause"),
    [("RLIMIT_NPROC", "1", "ulimit -u"), ("RLIMIT_NOFILE", "5", "Too many open files.*ulimit -n")],
)
def test_without_processes_or_descriptors_the_machine_is_named(video_file, limit, value, cause):
    printed = run_as_ordinary_user(ORDINARY + LIMITED, str(video_file("h264_mp4")), limit, value)
    assert printed.startswith("DecodingUnavailableError Videos cannot be decoded on this machine now: ")
    assert re.search(cause, printed)
    assert printed.count("\n") == 1


WITHOUT_THREADS = """
from froster_hf.video.reader import StrictReader
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
for path in sys.argv[1:]:
    with open(path, "rb") as handle, StrictReader(handle, limits=VideoLimits(), threads=2) as reader:
        print(reader.info.codec, *reader.read([3]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_limit_of_threads_that_is_reached_within_the_decoding_process_costs_no_video(video_file, tmp_path):
    """FFmpeg's own decoders say that there may be no more; that of AV1 says that there is no memory."""
    av1 = replace(VIDEO_KINDS["av1_mp4"], width=400, height=384)
    paths = [video_file("h264_large_mp4"), render_video(tmp_path / "av1.mp4", av1, num_frames=4)]
    assert run_as_ordinary_user(ORDINARY + WITHOUT_THREADS, *map(str, paths)) == "h264 3\nav1 3\n"


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENFILE, "Too many open files in system"), errno.ENFILE),
        (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
        (OSError(errno.EIO, "Input/output error"), None),
        (OSError("broken data stream"), None),
        (RuntimeError("another"), None),
        (av.BlockingIOError(errno.EAGAIN, "what a file may have FFmpeg say"), None),
    ],
)
def test_only_what_a_file_cannot_bring_about_is_lacking(tmp_path, monkeypatch, error, number):
    Image.new("RGB", (32, 24)).save(tmp_path / "1.png")
    lack = system_lack(error)
    assert (lack and lack.errno) == number
    files = [("1.png", partial((tmp_path / "1.png").open, "rb"))]
    kind = UnreadableVideoError if number is None else SystemLacksError
    monkeypatch.setattr("PIL.Image.open", refusing(error))
    with pytest.raises(kind):
        read_images(files, VideoLimits())
    if isinstance(error, OSError):
        monkeypatch.setattr("os.scandir", refusing(error))
        with pytest.raises(kind):
            image_files(str(tmp_path), VideoLimits())


def refusing(error):
    def refuse(*arguments, **options):
        raise error

    return refuse


@pytest.mark.parametrize(
    ("name", "error", "remedy"),
    [
        ("subprocess.Popen", OSError(errno.ENOMEM, "Cannot allocate memory"), "Memory has run out: use fewer workers"),
        ("subprocess.Popen", MemoryError(), "Memory has run out: use fewer workers"),
        ("subprocess.Popen", OSError(errno.ENFILE, "Too many open files in system"), "All programs together"),
        ("subprocess.Popen", PermissionError(errno.EACCES, "Permission denied"), "Set sys.executable"),
        ("Watchdog", RuntimeError("can't start new thread"), "can't start new thread.*No further process.*ulimit -u"),
    ],
)
def test_what_a_process_takes_and_is_not_to_be_had_is_named(
    video_file, monkeypatch, no_warm_process, name, error, remedy
):
    monkeypatch.setattr(f"froster_hf.video.client.{name}", refusing(error))
    with pytest.raises(DecodingUnavailableError, match=f"Videos cannot be decoded on this machine now.*{remedy}"):
        decode_frames(video_file("h264_mp4"), [3])


def test_descriptors_that_a_warm_process_lacks_are_not_the_video_s_fault(video_file, monkeypatch, no_warm_process):
    with monkeypatch.context() as patch:
        patch.setattr(server.os, "open", refusing(OSError(errno.ENFILE, "Too many open files")))
        with pytest.raises(SystemLacksError):
            server._open_regular(__file__)
    path = video_file("h264_mp4")
    decode_frames(path, [3])
    reply = {"unavailable": [errno.ENFILE, "Too many open files"]}
    monkeypatch.setattr(client, "read_message", lambda stream, **_: reply)
    with pytest.raises(DecodingUnavailableError, match=r"Too many open files\. All programs together"):
        decode_frames(path, [3])


@pytest.mark.parametrize(
    ("reply", "reason"), [([1], "is a list"), ({"a": 1}, "without a state"), ("[" * 100_000, "nested too deeply")]
)
def test_a_process_that_answers_nonsense_is_ended(video_file, monkeypatch, reply, reason):
    """As one would that a hostile file has taken over."""
    body = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
    path = video_file("h264_mp4")
    decode_frames(path, [3])
    stream = io.BytesIO(len(body).to_bytes(4, "big") + body)
    with monkeypatch.context() as patch:
        patch.setattr(client, "read_message", lambda real, **_: read_message(stream))
        with pytest.raises(VideoDecodeError, match=f"the decoding process sent a message.*{reason}"):
            decode_frames(path, [3])
    assert shown(decode_frames(path, [9])[0]) == [9]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([{"again": True, "state": "working"}], "sent frames that nobody asked for"),
        ([None, *[{"again": True, "state": "working"}] * 2], "sent frames that nobody asked for"),
        ([None, {"state": "idle"}], "frames at 1 of 2 times came back"),
    ],
    ids=["nothing again", "more than asked for", "fewer"],
)
def test_a_stream_is_of_as_many_frames_as_were_asked_for(video_file, monkeypatch, replies, reason):
    path = video_file("h264_mp4")
    receive, left = Conversation.receive, [None, *replies]

    def lying(conversation):
        return (left.pop(0) if left else None) or receive(conversation)

    with monkeypatch.context() as patch:
        patch.setattr(Conversation, "receive", lying)
        with pytest.raises(VideoDecodeError, match=reason):
            list(stream_frames(path, [0.0, 1.0]))
    first, second, third = stream_frames(path, [0.0, 0.01, 1.0])
    assert first.frame is second.frame is not third.frame
    assert shown(torch.stack([second.frame, third.frame])) == [0, 25]


def test_no_temporary_folder_is_needed(video_file, tmp_path):
    script = ORDINARY + "print(tuple(decode_frames(sys.argv[1], [3])[0].shape))"
    printed = run_as_ordinary_user(script, str(video_file("h264_mp4")), TMPDIR=str(tmp_path / "missing"))
    assert printed == "(1, 3, 72, 96)\n"


@pytest.mark.parametrize(
    ("executable", "reason"),
    [
        ("", "sys.executable is empty"),
        ("/nowhere/python", "No such file or directory"),
        ("/bin/false", "exit code 1"),
        ("/bin/cat", "ended|an answer that no decoding process gives"),
        ("/bin/sleep", "exit code 1, .*sleep"),
    ],
)
def test_an_interpreter_that_is_no_python_is_named(video_file, monkeypatch, no_warm_process, executable, reason):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(DecodingUnavailableError, match=f"(?s){reason}.*Set sys.executable to the path of a Python"):
        decode_frames(video_file("h264_mp4"), [3])


@pytest.mark.parametrize("answer", ["cat", "echo Usage: program FILE", "head -c 4 /dev/zero; cat"])
def test_a_program_that_answers_in_another_way_is_no_interpreter(
    video_file, tmp_path, monkeypatch, no_warm_process, answer
):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DecodingUnavailableError, match=r"program'.*Set sys.executable"):
        decode_frames(video_file("h264_mp4"), [3])


@pytest.mark.parametrize("name", ["KILL", "TERM"])
def test_a_process_that_is_ended_while_it_starts_is_no_wrong_interpreter(
    video_file, tmp_path, monkeypatch, no_warm_process, name
):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nkill -{name} $$\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(program))
        with pytest.raises(DecodingUnavailableError, match=f"while it started \\(SIG{name}\\).*try again") as caught:
            decode_frames(video_file("h264_mp4"), [3])
    assert "sys.executable" not in str(caught.value)
    assert shown(decode_frames(video_file("h264_mp4"), [3])[0]) == [3]


def test_an_interpreter_without_what_decoding_needs_says_what(video_file, tmp_path, monkeypatch, no_warm_process):
    """As the Python of another environment."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'numpy'\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DecodingUnavailableError, match=r"exit code 1, .*No module named 'numpy'"):
        decode_frames(video_file("h264_mp4"), [3])


def test_a_program_that_starts_itself_in_place_of_python_does_so_once(video_file, monkeypatch, no_warm_process):
    """A frozen program: what it starts is the program again."""
    monkeypatch.setenv("FROSTER_DECODING_PROCESS", "1")
    with pytest.raises(DecodingUnavailableError, match="started this program again"):
        decode_frames(video_file("h264_mp4"), [3])


def test_a_backend_that_does_not_load_is_the_machine_s_fault_and_tells_the_cause(
    video_file, tmp_path, monkeypatch, no_warm_process
):
    message = (
        "Could not load it. Likely causes:\\n\\n  1. ...\\nOSError: libmissing.so.3: cannot open shared object file"
    )
    (tmp_path / "decord.py").write_text(f"raise RuntimeError({message!r})".replace("\\\\", "\\"))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendUnavailableError, match=r"'decord'.*Could not load it.*libmissing\.so\.3") as caught:
        decode_frames(video_file("h264_mp4"), [0], backend="decord")
    assert isinstance(caught.value, DecodingUnavailableError)
    assert isinstance(caught.value, ImportError)
    assert "\n" not in str(caught.value)


def test_a_backend_that_fails_only_when_it_is_first_used_does_not_load(
    video_file, tmp_path, monkeypatch, no_warm_process
):
    """torchcodec is imported without FFmpeg's libraries, and raises for every video."""
    package = tmp_path / "torchcodec"
    package.mkdir()
    (package / "__init__.py").write_text("ffmpeg_major_version = None\n")
    (package / "decoders.py").write_text(
        "def VideoDecoder(source):\n"
        "    raise RuntimeError('Could not load libtorchcodec.\\nOSError: libavutil.so.60')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendUnavailableError, match=r"Could not load libtorchcodec.*libavutil\.so\.60"):
        decode_frames(video_file("h264_mp4"), [0], backend="torchcodec")


@pytest.mark.parametrize("error", [DecodingUnavailableError("no process"), BackendUnavailableError("no decord")])
def test_the_machine_s_error_passes_processes_and_is_no_video_s(error):
    assert not isinstance(error, VideoDecodeError | ValueError | OSError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    assert froster_hf.DecodingUnavailableError is DecodingUnavailableError


class _Unavailable(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise BackendUnavailableError("no decord")


def test_workers_of_a_data_loader_hand_on_the_machine_s_error():
    with pytest.raises(BackendUnavailableError, match="no decord"):
        list(DataLoader(_Unavailable(), num_workers=1))


@linux_only
def test_the_decoding_process_knows_no_tokens_and_can_gain_nothing(video_file, monkeypatch, no_warm_process):
    monkeypatch.setenv("HF_TOKEN", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    decode_frames(video_file("h264_mp4"), [3], limits=VideoLimits(max_worker_bytes=3 * 2**30))
    (pid,) = (process._process.pid for process in client._idle)
    variables = [entry.partition(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    assert set(variables) <= {*PASSED_ON, "OMP_NUM_THREADS", "FROSTER_DECODING_PROCESS", ""}
    assert not {name for name in PASSED_ON if "TOKEN" in name or "KEY" in name}
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    limits = {
        line[:25].strip(): line[25:].split()[:2] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
    }
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max data size"] == [str(3 * 2**30)] * 2
    soft, hard = map(int, limits["Max open files"])
    # Three standard streams, two pipes, the file, and one for decord and late imports; Python 3.14 holds one more.
    assert soft == hard
    assert hard in (7, 8)


@linux_only
def test_processes_of_other_limits_are_not_kept_without_end(video_file, no_warm_process):
    for megabytes in range(1000, 1006):
        decode_frames(video_file("h264_mp4"), [3], limits=VideoLimits(max_worker_bytes=megabytes * 2**20))
    assert len(client._idle) == 4


@linux_only
def test_killed_and_stopped_decoders_leave_nothing_behind(video_file, no_warm_process):
    path = video_file("h264_mp4")

    def harm(sig, *, seconds=30.0):
        (pid,) = decoding_processes(zombies=True)
        with pytest.raises(VideoDecodeError) as caught:
            decode_frames(path, lambda info: os.kill(pid, sig) or [0], limits=VideoLimits(timeout_seconds=seconds))
        return caught.value.reason

    def kill():
        (pid,) = decoding_processes(zombies=True)
        return shown(decode_frames(path, lambda info: os.kill(pid, signal.SIGKILL) or [7])[0])

    for process in list(client._all):
        process.kill()
    decode_frames(path, [3])
    gc.collect()  # What earlier tests have left for later.
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        assert kill() == [7]
        assert harm(signal.SIGSEGV) == "the decoding process ended (SIGSEGV)"
        assert shown(decode_frames(path, [9])[0]) == [9]
    assert "timeout_seconds" in harm(signal.SIGSTOP, seconds=1.0)
    assert shown(decode_frames(path, [9])[0]) == [9]
    assert len(decoding_processes(zombies=True)) == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors


def long_video(path: Path) -> Path:
    """It takes far longer to decode than to write: a picture, and again and again the packet that it stays."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((2160, 3840, 3), 128, np.uint8), format="rgb24")
        for number in range(4000):
            if number < 2:
                frame.pts = None
                (encoded,) = stream.encode(frame)
            packet = av.Packet(bytes(encoded))
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, number == 0
            container.mux(packet)
    return path


@linux_only
@pytest.mark.parametrize("ends", ["killed", "as a worker", "with a reading thread"])
def test_a_decoder_at_work_ends_with_its_caller(tmp_path, no_warm_process, ends):
    path = long_video(tmp_path / "long.avi")
    receive, send = os.pipe()

    def choose(info):
        (decoder,) = decoding_processes()
        os.write(send, str(decoder).encode())
        return [info.num_frames - 1]

    if (caller := os.fork()) == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if ends == "with a reading thread":
                threading.Thread(target=decode_frames, args=(path, choose), daemon=True).start()
                threading.Event().wait(60)
            decode_frames(path, choose)
        finally:
            os._exit(1)  # and never on to pytest's next test
    os.close(send)
    try:
        decoder = int(os.read(receive, 100))
        stat = Path(f"/proc/{decoder}/stat")

        def seconds_of_work() -> float:
            return int(stat.read_text().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")

        begun = seconds_of_work()
        while seconds_of_work() < begun + 0.2:
            threading.Event().wait(0.05)
        os.kill(caller, signal.SIGKILL if ends == "killed" else signal.SIGTERM)
    finally:
        os.waitpid(caller, 0)
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


class Ending:
    """Ends decoding processes by a signal as soon as they are told what the caller chooses.

    Args:
        sig: the signal.
        times: how often it is sent.
        after_seconds: how long the process answers nothing before.
    """

    def __init__(self, monkeypatch, sig, *, times, after_seconds=0.0):
        self.num_conversations = 0
        send = Conversation.send

        def ended(conversation, message, *payload):
            if "task" in message:
                self.num_conversations += 1
            elif self.num_conversations <= times:
                process = conversation.process._process
                if after_seconds:
                    process.send_signal(signal.SIGSTOP)
                    threading.Timer(after_seconds, process.send_signal, [sig]).start()
                else:
                    process.send_signal(sig)
            send(conversation, message, *payload)

        monkeypatch.setattr(Conversation, "send", ended)


def drawn(known) -> list[int]:
    """As random sampling does: each time others."""
    return sorted(torch.randperm(10)[:4].tolist())


@linux_only
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_decoder_that_is_ended_from_outside_is_not_the_fault_of_the_video(video_file, tmp_path, monkeypatch, sig):
    path = video_file("h264_mp4")
    for value in range(10):
        Image.fromarray(np.full((24, 32, 3), 20 * value, np.uint8)).save(tmp_path / f"{value}.png")
    reads = {
        "video": lambda: decode_video(path, drawn),
        "folder": lambda: decode_images(tmp_path, indices=drawn),
        "stream": lambda: list(stream_frames(path, lambda info: [index / info.fps for index in drawn(info)])),
    }
    for read in reads.values():
        torch.manual_seed(0)
        expected = read()
        with monkeypatch.context() as patch:
            ending = Ending(patch, sig, times=1)
            torch.manual_seed(0)
            found = read()
        assert ending.num_conversations == 2
        for one, other in zip(found, expected, strict=True):
            assert str(one) == str(other)


@linux_only
def test_a_stream_goes_on_behind_the_frames_that_it_has_given(tmp_path, no_warm_process):
    # Whose frames do not fit into a pipe.
    path = render_video(tmp_path / "large.mp4", VideoKind(".mp4", "mpeg4", {}, width=1920, height=1080), num_frames=6)
    expected = list(stream_frames(path))
    others = client._all - {*client._idle}
    stream = stream_frames(path)
    found = [next(stream), next(stream)]
    (busy,) = client._all - others
    os.kill(busy._process.pid, signal.SIGKILL)
    found += stream
    assert [frame[:2] for frame in found] == [frame[:2] for frame in expected]
    assert all(torch.equal(one.frame, other.frame) for one, other in zip(found, expected, strict=True))


@linux_only
@pytest.mark.parametrize(
    ("sig", "seconds", "num_conversations"),
    [(signal.SIGKILL, 30.0, 2), (signal.SIGSEGV, 30.0, 1), (signal.SIGABRT, 30.0, 1), (signal.SIGSTOP, 1.0, 1)],
)
def test_what_ends_decoders_again_or_by_itself_is_the_fault_of_the_video(
    video_file, monkeypatch, sig, seconds, num_conversations
):
    path = video_file("h264_mp4")
    with monkeypatch.context() as patch:
        ending = Ending(patch, sig, times=100)
        with pytest.raises(VideoDecodeError, match="timeout_seconds" if sig == signal.SIGSTOP else sig.name):
            decode_frames(path, [3], limits=VideoLimits(timeout_seconds=seconds))
    assert ending.num_conversations == num_conversations
    assert shown(decode_frames(path, [3])[0]) == [3]


@linux_only
def test_a_second_decoder_has_what_is_left_of_the_time(video_file, monkeypatch):
    allowed = []
    limit = Watchdog.limit

    def recorded(watchdog, seconds):
        allowed.append(seconds)
        return limit(watchdog, seconds)

    path = video_file("h264_mp4")
    Ending(monkeypatch, signal.SIGKILL, times=1, after_seconds=1.0)
    monkeypatch.setattr(Watchdog, "limit", recorded)
    assert shown(decode_frames(path, [3], limits=VideoLimits(timeout_seconds=40.0))[0]) == [3]
    of_the_call = [seconds for seconds in allowed if seconds <= 40]
    assert of_the_call == sorted(of_the_call, reverse=True)
    assert of_the_call[-1] < 39.5


def test_a_stream_that_the_garbage_collector_ends_at_any_moment_holds_up_nothing(video_file):
    stream = stream_frames(video_file("h264_mp4"))
    next(stream)

    def end():
        # As where the collector runs while the thread chooses among the processes.
        with client._lock:
            stream.close()

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_an_interrupt_while_a_process_is_started_leaves_no_thread(video_file, no_warm_process, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    threads = threading.active_count()
    monkeypatch.setattr(client.subprocess, "Popen", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode_frames(video_file("h264_mp4"), [0])
    for thread in threading.enumerate():
        if thread.name == "video-watchdog":
            thread.join(timeout=5)
    assert threading.active_count() <= threads


@linux_only
def test_a_forked_child_holds_no_pipe_of_a_decoder_in_use(video_file):
    """Neither of an idle one, nor of one that is in the midst of a conversation."""
    path = video_file("h264_mp4")
    stream = stream_frames(path)
    next(stream)
    decode_frames(path, [3])

    def pipes() -> set[str]:
        links = set()
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        return {link for link in links if link.startswith("pipe:")}

    ends = set()
    for process in client._all:
        for pipe in (process._process.stdin, process._process.stdout):
            ends.add(os.readlink(f"/proc/self/fd/{pipe.fileno()}"))
    assert len(ends) >= 4
    receiver, sender = socket.socketpair()
    if (child := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            held = pipes() & ends
            broken_off = "no error"
            try:
                next(stream)
            except VideoDecodeError as error:
                broken_off = error.reason
            own = shown(decode_frames(path, [7])[0])
            sender.sendall(f"{len(held)} {own} {broken_off}".encode())
        os._exit(0)
    sender.close()
    os.waitpid(child, 0)
    assert receiver.recv(1000).decode() == (
        "0 [7] the decoding process belongs to the process that this one was forked from"
    )
    assert [frame.frame_index for frame in stream] == list(range(1, 40))


def test_a_call_is_bounded_in_time_as_a_whole(video_file, monkeypatch):
    """Each of its messages takes less than the limit."""
    path = video_file("h264_mp4")
    decode_frames(path, [3])
    seconds = iter(np.arange(0.0, 1000.0, 0.4))
    monkeypatch.setattr("froster_hf.video.watchdog.time.monotonic", lambda: float(next(seconds)))
    with pytest.raises(VideoDecodeError, match="longer than 1 seconds"):
        decode_frames(path, [3], limits=VideoLimits(timeout_seconds=1.0))


def test_what_the_caller_takes_is_not_counted(video_file):
    path, waited = video_file("h264_mp4"), threading.Event()
    decode_frames(path, [3])

    def choose(info):
        waited.wait(1.5)
        return [5]

    assert shown(decode_frames(path, choose, limits=VideoLimits(timeout_seconds=1.0))[0]) == [5]


class SlowFile(io.BytesIO):
    """Takes its time to be read."""

    def read(self, size=-1):
        threading.Event().wait(0.6)
        return super().read(size)


def test_reading_a_file_object_counts_as_part_of_the_call(video_file):
    file = SlowFile(video_file("h264_mp4").read_bytes())
    with pytest.raises(VideoDecodeError, match=r"longer than 0\.5 seconds"):
        decode_frames(file, [3], limits=VideoLimits(timeout_seconds=0.5))


class DrippingFile:
    """Gives a byte at a time, without an end, as a connection may."""

    num_reads = 0

    def read(self, size):
        self.num_reads += 1
        threading.Event().wait(0.1)
        return b"x"


def test_a_file_object_that_drips_is_not_waited_for():
    file = DrippingFile()
    with pytest.raises(VideoDecodeError, match=r"reading it took longer than 0\.3 seconds"):
        decode_frames(file, [3], limits=VideoLimits(timeout_seconds=0.3))
    assert file.num_reads < 10


def test_a_buffered_file_that_drips_is_not_waited_for():
    class Dripping(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, room):
            room[:1] = DrippingFile().read(1)
            return 1

    with pytest.raises(VideoDecodeError, match=r"reading it took longer than 0\.3 seconds"):
        decode_frames(io.BufferedReader(Dripping()), [3], limits=VideoLimits(timeout_seconds=0.3))


class WithoutRead1(io.BufferedIOBase):
    """Has `read1` of its base, which raises."""

    def __init__(self, content):
        self._file = io.BytesIO(content)

    def read(self, size=-1):
        return self._file.read(size)


def test_a_file_object_whose_buffer_gives_no_parts_is_read_whole(video_file):
    file = WithoutRead1(video_file("h264_mp4").read_bytes())
    assert shown(decode_frames(file, [9])[0]) == [9]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_picture_stays_in_the_decoding_process_when_the_next_video_comes(tmp_path, no_warm_process):
    path = render_video(tmp_path / "large.mp4", VideoKind(".mp4", "mpeg4", {}, width=1920, height=1080), num_frames=2)
    sizes = []
    for _ in range(24):
        decode_frames(path, [0])
        (process,) = client._idle
        statm = Path(f"/proc/{process._process.pid}/statm").read_text()
        sizes.append(int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    # A picture has 3 MB: one of each of the last twenty videos would be 60.
    assert sizes[-1] - sizes[3] < 30 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="Linux bounds a process's memory")
def test_a_decoding_process_that_ran_out_of_memory_takes_no_other_video(video_file, tmp_path, no_warm_process):
    path = render_video(tmp_path / "large.mp4", VideoKind(".mp4", "mpeg4", {}, width=1920, height=1080), num_frames=60)
    limits = VideoLimits(max_worker_bytes=2**28)
    with pytest.raises(VideoDecodeError, match=r"more memory than VideoLimits\.max_worker_bytes"):
        decode_frames(path, list(range(60)), limits=limits)
    assert not client._idle
    assert shown(decode_frames(video_file("h264_mp4"), [9], limits=limits)[0]) == [9]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says how much a process has had")
def test_memory_of_the_calling_process_is_not_the_decoding_processs():
    held = b"x" * 2**29
    code = "from froster_hf.video.server import _has_taken; print(_has_taken(2**29), _has_taken(2**20))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (asked.stdout.split(), len(held)) == (["False", "True"], 2**29)


def test_memory_that_ffmpeg_lacks_is_not_said_to_be_damage():
    assert isinstance(ffmpeg_failure("damaged", OSError(errno.ENOMEM, "Cannot allocate memory")), MemoryError)
    assert str(ffmpeg_failure("damaged", OSError(errno.EIO, "failed"))) == "damaged: failed"


def test_frames_without_number_are_refused_before_they_take_memory(video_file):
    for indices in (range(10**9), lambda info: range(10**9), [5] * 200_000):
        with pytest.raises(VideoDecodeError, match=r"the frames take .*max_decoded_bytes"):
            decode_frames(video_file("h264_mp4"), indices)


def test_modules_of_the_current_folder_are_not_imported(video_file, tmp_path, monkeypatch, no_warm_process):
    """An interactive Python looks for modules in the folder in which it is."""
    (tmp_path / "numpy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    path = video_file("h264_mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    assert shown(decode_frames(path, [9])[0]) == [9]
    assert not (tmp_path / "ran").exists()


INFO = {"num_frames": 10, "fps": 10.0, "duration_seconds": 1.0, "start_seconds": 0.0, "height": 4, "width": 4}
INFO |= {"rotation": 0, "is_mirrored": False, "container": "x", "codec": "y", "backend": "pyav"}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({}, "something else"),
        ({"info": 7}, "something else"),
        ({"info": INFO | {"more": 1}}, "something else"),
        ({"info": INFO | {"height": "4"}}, "something else"),
        ({"info": INFO | {"height": -4}}, "something else"),
        ({"info": INFO | {"duration_seconds": math.nan}}, "something else"),
        ({"info": INFO | {"duration_seconds": 1e12}}, "max_duration_seconds"),
        ({"info": INFO | {"num_frames": 10**15}}, "max_frames"),
    ],
)
def test_properties_that_no_video_has_are_refused_whoever_states_them(reply, reason):
    """The decoding process holds files to the limits; one that a file has taken over does not."""
    conversation = Conversation(None, "pyav", TimeBudget(1.0), VideoLimits())
    assert conversation.info_of({"info": INFO}).num_frames == 10
    with pytest.raises(UnreadableVideoError, match=reason):
        conversation.info_of(reply)
