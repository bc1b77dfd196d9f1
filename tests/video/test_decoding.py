"""What a caller of the decoder sees: inputs, indices, sizes, colors, limits, streams, processes."""

import io
import itertools
import os
import pickle
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from froster_hf.video import client
from froster_hf.video.backends import BACKENDS
from froster_hf.video.decoding import (
    VideoDecodeError,
    VideoLimits,
    _naming,
    decode_frames,
    probe_video,
    stream_frames,
)
from tests.fixtures.backends import needs_backend
from tests.fixtures.fields import render_fields
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import decoding_processes
from tests.fixtures.videos import (
    VIDEO_KINDS,
    VideoKind,
    draw_frame,
    read_index,
    render_video,
    with_packets,
    with_times,
    without_first_packet,
)


def shown(frames: torch.Tensor) -> list[int | None]:
    return [read_index(frame.numpy()) for frame in frames]


def test_path_bytes_and_file_objects_give_the_same_frames(video_file):
    path = video_file("h264_mp4")
    data = path.read_bytes()
    expected, info = decode_frames(path, [3, 30])
    assert expected.shape == (2, 3, 72, 96)
    assert expected.dtype == torch.uint8
    with open(path, "rb") as file:
        file.seek(100)
        sources = [str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        for source in sources:
            frames, other = decode_frames(source, [3, 30])
            assert torch.equal(frames, expected)
            assert other == info


def test_a_file_object_whose_name_leads_elsewhere_is_read_itself(video_file, tmp_path):
    path = tmp_path / "moved.mp4"
    path.write_bytes(video_file("h264_mp4").read_bytes())
    with open(path, "rb") as file:
        path.unlink()
        path.write_text("another file")
        assert shown(decode_frames(file, [7])[0]) == [7]


def test_a_text_file_object_and_other_types_are_type_errors(video_file):
    with open(video_file("h264_mp4"), encoding="latin-1") as file, pytest.raises(TypeError, match="binary"):
        decode_frames(file, [0])
    with pytest.raises(TypeError, match="not int"):
        decode_frames(3, [0])


class LyingFile(io.RawIOBase):
    """Answers as the caller of `LyingFile(read=...)` says."""

    def __init__(self, **answers):
        for name, answer in answers.items():
            setattr(self, name, answer)

    def readable(self):
        return True


def raising(error):
    def raise_error(*arguments):
        raise error

    return raise_error


@pytest.mark.parametrize(
    "answers",
    [
        {"read": lambda size: "text"},
        {"read": lambda size: 7},
        {"read": raising(RuntimeError("no"))},
        {"read": lambda size: b"x" * 2**20},
        {"read": lambda size: b""},
        {"read": lambda size: None},
        {"read": lambda size: b"x", "seekable": raising(AttributeError("no"))},
        {"read": lambda size: b"x", "seekable": lambda: True, "seek": raising(OSError("no"))},
    ],
)
def test_a_file_object_that_lies_is_the_video_s_error(answers):
    with pytest.raises(VideoDecodeError):
        decode_frames(LyingFile(**answers), [0], limits=VideoLimits(max_memory_bytes=2**24))


def test_a_file_object_that_does_not_wait_for_what_is_to_come_is_not_cut_short(video_file):
    content = video_file("h264_mp4").read_bytes()
    parts = iter([content[:1000], None, content[1000:], b""])
    with pytest.raises(VideoDecodeError, match="it had nothing to read yet"):
        decode_frames(LyingFile(read=lambda size: next(parts), seekable=lambda: False), [0])


@pytest.mark.skipif(sys.platform != "linux", reason="these are names of Linux")
def test_a_file_that_a_descriptor_of_this_process_leads_to_is_read(video_file):
    with open(video_file("h264_mp4"), "rb") as file:
        for folder in ("/dev/fd", "/proc/self/fd"):
            assert shown(decode_frames(f"{folder}/{file.fileno()}", [7])[0]) == [7]


def test_a_file_object_that_lies_about_its_name_or_gives_little_at_a_time_is_read(video_file):
    file = io.BytesIO(video_file("h264_mp4").read_bytes())
    little = LyingFile(
        read=lambda size: file.read(min(size, 1000)), name="/etc/passwd", fileno=lambda: "none", seekable=lambda: False
    )
    assert shown(decode_frames(little, [7])[0]) == [7]

    class OnlyReads:
        read = io.BytesIO(file.getvalue()).read

    assert shown(decode_frames(OnlyReads(), [7])[0]) == [7]


def test_indices_come_back_in_the_order_and_number_asked_for(video_file):
    frames, _ = decode_frames(video_file("h264_mp4"), [31, 4, 4, 0])
    assert shown(frames) == [31, 4, 4, 0]


def test_no_index_gives_no_frame(video_file):
    frames, info = decode_frames(video_file("h264_mp4"), [])
    assert frames.shape == (0, 3, 72, 96)
    assert info.num_frames == 40


def test_indices_can_be_chosen_knowing_the_video(video_file):
    seen = []

    def choose(info):
        seen.append(info)
        return [0, info.num_frames - 1]

    frames, info = decode_frames(video_file("mpeg4_avi"), choose)
    assert shown(frames) == [0, 39]
    assert seen == [info]


def _without_picture(packet: bytes) -> bytes:
    """A packet of MPEG-4 at 25 frames per second whose picture says that the one before it stays (not coded)."""
    place = packet.index(b"\0\0\1\xb6") + 4
    bits = "".join(f"{byte:08b}" for byte in packet[place : place + 4])
    # Behind its kind are ones for whole seconds and a zero, and its time within the second between two ones.
    coded = bits.index("0", 2) + 8
    assert bits[coded] == "1"
    head = int(bits[:coded] + "0" + bits[coded + 1 :], 2).to_bytes(4, "big")
    return packet[:place] + head + packet[place + 4 :]


@pytest.mark.parametrize(("options", "missing"), [({"g": "1"}, range(8, 14)), ({"g": "12", "bf": "2"}, (7, 8, 10))])
def test_pictures_of_avi_that_stay_move_none_behind_them(tmp_path, options, missing):
    kind = replace(VIDEO_KINDS["mpeg4_avi"], options=options)
    path = render_video(tmp_path / "a.avi", kind)
    with av.open(path) as container:
        places = np.argsort([packet.pts for packet in container.demux(video=0) if packet.size]).tolist()
    without = {places[index] for index in missing}
    data = path.read_bytes()
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for place in without:
            data = data.replace(bytes(packets[place]), _without_picture(bytes(packets[place])))
    path.write_bytes(data)
    kept = [index for index in range(40) if index not in missing]
    frames = [(round(seconds * 25, 3), read_index(frame)) for _, seconds, frame in stream_frames(path)]
    assert frames == [(index, index) for index in kept]
    times = np.arange(40) / 25
    expected = [max(index for index in kept if index <= time) for time in range(40)]
    assert [read_index(frame) for _, _, frame in stream_frames(path, times)] == expected
    assert shown(decode_frames(path, lambda info: range(info.num_frames))[0]) == kept


@pytest.mark.parametrize(("name", "bf"), [("mpeg4_no_b_avi", 0), ("h264_avi", 0), ("h264_avi", 2)])
def test_the_picture_before_a_gap_of_avi_is_not_shown_at_its_end(tmp_path, name, bf):
    """Where recorders write empty chunks for what they have dropped, FFmpeg's time of H.264 is the next chunk's."""
    kind = replace(VIDEO_KINDS[name], options={**VIDEO_KINDS[name].options, "g": "12", "bf": str(bf)})
    path = render_video(tmp_path / "a.avi", kind, num_frames=9)
    data = bytearray(path.read_bytes())
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    second = [place for place in range(index + 8, len(data), 16) if data.startswith(b"00dc", place)][2]
    empty = 5
    # Their entries lead to the chunk that follows, where an empty one lies.
    place = movi + struct.unpack_from("<I", data, second + 8)[0]
    chunks = struct.pack("<4sI", b"00dc", 0) * empty
    entries = [struct.pack("<4sIII", b"00dc", 0, place - movi + 8 * number, 0) for number in range(empty)]
    for entry in range(second, len(data) - 15, 16):
        struct.pack_into("<I", data, entry + 8, struct.unpack_from("<I", data, entry + 8)[0] + len(chunks))
    data[second:second] = b"".join(entries)
    struct.pack_into("<I", data, index + 4, int.from_bytes(data[index + 4 : index + 8], "little") + 16 * empty)
    data[place:place] = chunks
    struct.pack_into("<I", data, movi - 4, int.from_bytes(data[movi - 4 : movi], "little") + len(chunks))
    struct.pack_into("<I", data, 4, len(data) - 8)
    path.write_bytes(data)
    shown_at = [(round(seconds * 25, 3), read_index(frame)) for _, seconds, frame in stream_frames(path)]
    assert shown_at == [(0, 0), (1, 1), *((index + empty, index) for index in range(2, 9))]


def _without_first_pictures(avi: bytes, count: int) -> bytes:
    """An AVI file whose first chunks of pictures are empty, as capture programs write what they have dropped."""
    data = bytearray(avi)
    place, entry, left = data.index(b"movi") + 4, data.rindex(b"idx1") + 8, count
    while left:
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind == b"00dc" and length:
            struct.pack_into("<I4sI", data, place + 4, 0, b"JUNK", length - 8)
            struct.pack_into("<I", data, entry + 12, 0)
            left -= 1
        place, entry = place + 8 + length + length % 2, entry + 16
    return bytes(data)


@pytest.mark.parametrize("name", ["mjpeg_avi", "mpeg4_no_b_avi", "mpeg4_avi", "h264_avi"])
def test_pictures_that_are_missing_where_an_avi_begins_count(tmp_path, name):
    path = render_video(tmp_path / "a.avi", replace(VIDEO_KINDS[name], audio=True))
    assert probe_video(path).start_seconds == 0
    if name == "mjpeg_avi":
        path.write_bytes(_without_first_pictures(path.read_bytes(), 10))
        frames, info = decode_frames(path, [0, 29])
        assert shown(frames) == [10, 39]
        # The writer has left out two more, since its sound begins a little before zero.
        assert (info.num_frames, info.start_seconds, info.duration_seconds) == (30, 12 / 25, 30 / 25)


@pytest.mark.parametrize("index", [-1, 40])
def test_an_index_outside_the_video_is_an_index_error(video_file, index):
    with pytest.raises(IndexError, match=f"Frame {index} of a video with 40 frames"):
        decode_frames(video_file("h264_mp4"), [0, index])
    assert shown(decode_frames(video_file("h264_mp4"), [1])[0]) == [1]


def test_an_unknown_backend_is_a_value_error_that_lists_them(video_file):
    with pytest.raises(ValueError, match="'opencv', but must be one of 'auto', 'pyav'"):
        decode_frames(video_file("h264_mp4"), [0], backend="opencv")


def test_a_backend_that_is_not_installed_is_an_import_error(video_file, tmp_path, monkeypatch):
    (tmp_path / "decord.py").write_text("raise ImportError('no decord here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(client, "_idle", [])
    with pytest.raises(ImportError, match=r"'decord' cannot be used here.*no decord here"):
        decode_frames(video_file("h264_mp4"), [0], backend="decord")


@pytest.mark.parametrize("color_range", ["MPEG", "JPEG"])
@pytest.mark.parametrize("color_space", ["ITU709", "ITU601"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_colors_are_right(tmp_path, backend, color_space, color_range):
    needs_backend(backend)
    colors = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [128, 128, 128]]], dtype=np.uint8)
    image = colors.repeat(32, axis=0).repeat(32, axis=1)
    path = tmp_path / "colors.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = 1 if color_space == "ITU709" else 5
        stream.codec_context.color_range = 1 if color_range == "MPEG" else 2
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            options = {"dst_colorspace": color_space, "dst_color_range": color_range}
            container.mux(stream.encode(frame.reformat(format="yuv420p", **options)))
        container.mux(stream.encode(None))
    frames, _ = decode_frames(path, [1], backend=backend)
    # Away from the edges, where color is subsampled.
    centers = frames[0, :, 16::32, 16::32].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(centers - colors).max() <= 6


def test_transparent_frames_keep_their_colors(tmp_path):
    path = tmp_path / "alpha.mov"
    image = np.zeros((32, 32, 4), dtype=np.uint8)
    image[..., 0], image[..., 1] = 128, 200  # A, R
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "argb"
        frame = av.VideoFrame(32, 32, "argb")
        frame.planes[0].update(image.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = decode_frames(path, [0])
    assert frames[0, :, 5, 5].tolist() == [200, 0, 0]


def test_frames_that_are_called_key_frames_and_are_none_are_read_from_the_first(tmp_path):
    """QuickTime's animations store what has changed; their decoder does not tell which frame stands for itself."""
    path = tmp_path / "animation.mov"
    images = [np.full((32, 32, 3), 90, dtype=np.uint8) for _ in range(8)]
    for index, image in enumerate(images):
        for line in range(index + 1):
            image[4 * line : 4 * line + 4] = 20 * line
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=25, options={"g": "100"})
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    # Without the table of key frames, all are said to be.
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    for index, image in enumerate(images):
        assert np.array_equal(decode_frames(path, [index])[0][0].permute(1, 2, 0), image)


# A unit that FFmpeg passes over, since its first bit is 1, and would be an entry; and one that it does not.
PASSED_OVER, OF_AN_ENTRY = b"\0\0\0\1\xe5\x88\x84\0\x33", b"\0\0\0\1\x65\x88\x84\0\x33"


@pytest.mark.parametrize("more", [b"", PASSED_OVER, OF_AN_ENTRY], ids=["alone", "passed over", "of an entry"])
def test_frames_that_refer_to_what_lies_before_a_recovery_point_are_read_from_there(tmp_path, more):
    """A picture of its own that is called an entry, behind which others show again what was shown before it."""
    before, behind = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), dtype=np.uint8).repeat(3, axis=-1)
    images = [before] * 12 + [behind] + [np.concatenate([behind[:, :48], before[:, 48:]], axis=1)] * 3
    path = tmp_path / "recovery.mp4"
    with av.open(str(path), "w") as container:
        # A cut so soon is encoded as a picture of its own, and no entry.
        options = {"x264-params": "keyint=400:min-keyint=200:scenecut=40:bframes=0:ref=4:threads=1", "qp": "10"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        packets = []
        for image in images:
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        packets += stream.encode(None)
        for index, packet in enumerate(packets):
            if index == 12:
                # Recovery point: exact from here on.
                content = bytes(packet)
                changed = av.Packet(more + b"\0\0\0\1\x06\x06\x01\x84\x80" + content)
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream, packet = True, stream, changed
            container.mux(packet)
    try:
        whole = decode_frames(path, list(range(16)))[0]
    except VideoDecodeError:
        assert more == OF_AN_ENTRY
        with pytest.raises(VideoDecodeError):
            decode_frames(path, [13])
        return
    for index in range(16):
        assert torch.equal(decode_frames(path, [index])[0][0], whole[index]), index


def test_a_title_that_is_not_utf8_does_no_harm(video_file, tmp_path):
    path = tmp_path / "title.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE_HERE"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(0), format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"TITLE_HERE", b"\xff\xfe\xe9TLE_\xf0\xff\xff"))
    assert shown(decode_frames(path, [0])[0]) == [0]


def test_one_frame_is_a_video(tmp_path):
    path = render_video(tmp_path / "one.mp4", VideoKind(".mp4", "libx264"), num_frames=1)
    frames, info = decode_frames(path, [0, 0])
    assert shown(frames) == [0, 0]
    assert (info.num_frames, info.fps) == (1, 25)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(max_pixels=96 * 72 - 1), "max_pixels"),
        (VideoLimits(max_frames=39), "max_frames"),
        (VideoLimits(max_duration_seconds=1.5), "max_duration_seconds"),
        (VideoLimits(max_file_bytes=1000), "max_file_bytes"),
        (VideoLimits(max_decoded_bytes=96 * 72 * 3 * 4 - 1), "max_decoded_bytes"),
    ],
)
def test_a_video_beyond_a_limit_is_refused(video_file, limits, message):
    path = video_file("h264_mp4")
    with pytest.raises(VideoDecodeError, match=message):
        decode_frames(path, [1, 2, 3, 4], limits=limits)
    assert shown(decode_frames(path, [1, 2, 3, 4])[0]) == [1, 2, 3, 4]


def test_bytes_beyond_the_limit_are_refused(video_file):
    with pytest.raises(VideoDecodeError, match="max_memory_bytes"):
        decode_frames(video_file("h264_mp4").read_bytes(), [0], limits=VideoLimits(max_memory_bytes=1000))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux bounds a process's memory")
def test_memory_beyond_the_limit_is_not_to_be_had():
    with pytest.raises(VideoDecodeError):
        decode_frames(REAL_VIDEOS["bigbuckbunny"], list(range(40)), limits=VideoLimits(max_worker_bytes=2**25))
    assert decode_frames(REAL_VIDEOS["bigbuckbunny"], [7])[0].shape == (1, 3, 720, 1280)


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="max_frames is 0"):
        VideoLimits(max_frames=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_worker_bytes", 4.5e9),
        ("max_frames", True),
        ("max_pixels", 2**63),
        ("max_file_bytes", 10**400),
        ("timeout_seconds", float("inf")),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", -1),
        ("timeout_seconds", 1e300),
        ("max_duration_seconds", "60"),
        ("max_duration_seconds", None),
    ],
)
def test_limits_are_checked_when_they_are_made(name, value):
    with pytest.raises(
        ValueError, match=rf"VideoLimits\.{name} is .*, but must be a (whole )?positive number of at most"
    ):
        VideoLimits(**{name: value})


def test_the_largest_limits_hold_for_a_video(video_file):
    limits = VideoLimits(
        **{name: 2**62 if isinstance(value, int) else 10**9 for name, value in vars(VideoLimits()).items()}
    )
    assert shown(decode_frames(video_file("h264_mp4").read_bytes(), [7], limits=limits)[0]) == [7]
    assert shown(decode_frames(io.BytesIO(video_file("h264_mp4").read_bytes()), [7], limits=limits)[0]) == [7]


def test_numbers_of_numpy_are_limits(video_file):
    limits = VideoLimits(max_frames=np.int64(40), timeout_seconds=np.float32(30))
    assert shown(decode_frames(video_file("h264_mp4"), [7], limits=limits)[0]) == [7]


def test_a_late_decoder_is_ended_and_replaced(video_file):
    path = video_file("h264_mp4")
    started = time.perf_counter()
    with pytest.raises(VideoDecodeError, match=r"timeout_seconds"):
        decode_frames(path, list(range(40)), limits=VideoLimits(timeout_seconds=1e-6))
    assert time.perf_counter() - started < 20
    assert shown(decode_frames(path, [9])[0]) == [9]


def test_a_decoder_that_dies_is_reported_and_replaced(video_file):
    path = video_file("h264_mp4")
    with pytest.raises(VideoDecodeError, match="SIGABRT"):
        decode_frames(path, lambda info: _kill_decoders(signal.SIGABRT) or [0])
    assert shown(decode_frames(path, [9])[0]) == [9]


def _kill_decoders(sig) -> None:
    for process in decoding_processes():
        os.kill(process, sig)
    time.sleep(0.2)


def test_a_caller_that_fails_in_between_leaves_no_answer_behind(video_file):
    path = video_file("h264_mp4")
    with pytest.raises(ZeroDivisionError):
        decode_frames(path, lambda info: [1 // 0])
    assert shown(decode_frames(path, [9])[0]) == [9]


def test_the_error_passes_processes_unchanged():
    error = VideoDecodeError("clip.mp4", "pyav", "it is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "Cannot decode 'clip.mp4' with pyav: it is empty"
    assert (copy.file, copy.backend, copy.reason) == ("clip.mp4", "pyav", "it is empty")


class _Clips(torch.utils.data.Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        frames, _ = decode_frames(self.paths[index], [index, index + 1])
        return shown(frames)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_data_loader_workers_decode(video_file, context):
    # The parent's own decoding process must not be shared by forked workers.
    assert shown(decode_frames(video_file("h264_mp4"), [5])[0]) == [5]
    clips = _Clips([video_file("h264_mp4"), video_file("mpeg4_avi")] * 4)
    loader = DataLoader(clips, num_workers=2, batch_size=None, multiprocessing_context=context)
    assert list(loader) == [[index, index + 1] for index in range(8)]
    assert shown(decode_frames(video_file("h264_mp4"), [5])[0]) == [5]


def test_data_loader_workers_hand_on_the_error(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoDecodeError, match=r"empty\.mp4.*it is empty"):
        list(DataLoader(_Clips([tmp_path / "empty.mp4"]), num_workers=1))


def test_threads_decode_side_by_side(video_file):
    results: dict[int, list] = {}

    def decode(index):
        results[index] = shown(decode_frames(video_file("h264_mp4"), [index, index + 20])[0])

    threads = [threading.Thread(target=decode, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {index: [index, index + 20] for index in range(6)}


def test_no_decoding_process_outlives_its_parent(video_file):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        decode_frames(video_file("h264_mp4"), [0])
        os.write(writer, " ".join(map(str, decoding_processes())).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    decoders = [int(pid) for pid in os.read(reader, 1000).split()]
    assert len(decoders) == 1
    deadline = time.monotonic() + 10
    while Path(f"/proc/{decoders[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    state = Path(f"/proc/{decoders[0]}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("name", ["h264_mp4", "h264_open_gop_mp4", "mpeg4_avi", "h264_vfr_mp4"])
def test_a_stream_yields_the_frames_shown_at_given_times(video_file, name):
    path = video_file(name)
    every = list(stream_frames(path))
    assert [read_index(frame.frame.numpy()) for frame in every] == list(range(40))
    wanted = [0.0, 0.1, 0.1, 0.5, 1.23, every[39].time_seconds, 99.0]
    expected = [max(frame.frame_index for frame in every if frame.time_seconds <= time + 1e-4) for time in wanted]
    streamed = list(stream_frames(path, wanted))
    assert [frame.frame_index for frame in streamed] == expected
    assert [read_index(frame.frame.numpy()) for frame in streamed] == expected


@pytest.mark.parametrize("name", ["h264_mkv", "h264_ts", "h264_mp4", "mpeg2_ts", "h264_flv"])
def test_a_stream_with_fewer_frames_than_packets_yields_what_is_shown_then(video_file, tmp_path, name):
    """Without the first key frame, the packets up to the second show nothing; what follows keeps its time."""
    source = video_file(name)
    path = without_first_packet(source, tmp_path / f"cut{source.suffix}")
    every = list(stream_frames(path))
    assert [read_index(frame.frame.numpy()) for frame in every] == list(range(12, 40))
    assert [frame.frame_index for frame in every] == list(range(28))
    times = [frame.time_seconds for frame in every]
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([0.04] * 27, abs=0.0011)
    wanted = [0.0, times[0], times[9] + 0.01, times[9] + 0.01, times[20] + 0.03, 99.0]
    streamed = list(stream_frames(path, wanted))
    assert [read_index(frame.frame.numpy()) for frame in streamed] == [12, 12, 21, 21, 32, 39]
    assert [frame.time_seconds for frame in streamed] == [times[index] for index in (0, 0, 9, 9, 20, 27)]
    assert shown(decode_frames(path, [0, 9, 27])[0]) == [12, 21, 39]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    "changed",
    [
        {4: 35},
        {4: 39},
        {index: index + 12 if index < 24 else index - 12 for index in range(12, 36)},
        # None by much, but three of four.
        {index: index + 3 for index in range(4, 40, 4)},
    ],
)
def test_frames_that_come_out_in_another_order_than_they_say_hide_none(video_file, tmp_path, suffix, changed):
    """By counting, every frame is there, however it is asked for; what is shown when cannot be told, which is said."""
    path = with_times(video_file("h264_no_b_mp4"), tmp_path / f"late{suffix}", changed)
    assert shown(decode_frames(path, list(range(40)))[0]) == list(range(40))
    for index in (3, 5, 13, 25, 36):
        assert shown(decode_frames(path, [index])[0]) == [index]
    for times in (None, [0.0, 0.5, 1.0], [index / 25 for index in range(40)]):
        with pytest.raises(VideoDecodeError, match="is uncertain"):
            list(stream_frames(path, times))


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
@pytest.mark.parametrize("num_first", [1, 4, 12, 36])
@pytest.mark.parametrize("position", [0, 12])
def test_frames_that_come_first_and_are_shown_late_hide_none_behind_them(
    video_file, tmp_path, suffix, num_first, position
):
    changed = {index: (index - num_first) % 40 for index in range(40)}
    path = with_times(video_file("h264_no_b_mp4"), tmp_path / f"late{suffix}", changed)
    assert shown(decode_frames(path, list(range(40)))[0]) == list(range(40))
    with pytest.raises(VideoDecodeError, match="is uncertain"):
        list(stream_frames(path, [position / 25]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_few_frames_that_come_out_a_little_late_are_left_out_as_players_do(video_file, tmp_path, suffix):
    path = with_times(video_file("h264_no_b_mp4"), tmp_path / f"cut{suffix}", {12: 15})
    assert shown(decode_frames(path, list(range(40)))[0]) == list(range(40))
    streamed = [frame.frame_index for frame in stream_frames(path)]
    assert streamed == [index for index in range(40) if index not in (13, 14, 15)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_up_to_a_key_frame_come_out_late_where_videos_were_cut_and_joined(video_file, tmp_path, suffix):
    """What a cut refers to before its own beginning is crammed into the last moments before the border."""

    def cram(packets: list[av.Packet]) -> list[av.Packet]:
        times = [packet.pts for packet in packets]
        half = (times[1] - times[0]) // 2
        changed = {19: times[29]} | {20 + step: times[20] + step * half for step in range(18)}
        for index, packet in enumerate(packets):
            packet.pts, packet.dts = changed.get(index, times[index]) + times[-1], times[index]
        return packets

    path = with_packets(video_file("h264_no_b_mp4"), tmp_path / f"joined{suffix}", cram)
    assert shown(decode_frames(path, list(range(40)))[0]) == list(range(40))
    streamed = [frame.frame_index for frame in stream_frames(path)]
    assert streamed == [*range(20), 38, 39]


@pytest.mark.parametrize("name", ["h264_mp4", "h264_ts", "h264_mkv"])
def test_the_start_of_the_picture_is_counted_from_the_start_of_the_file(video_file, tmp_path, name):
    assert decode_frames(video_file(name), [0])[1].start_seconds == 0
    kind = replace(VIDEO_KINDS[name], audio=True, picture_delay=3)
    path = render_video(tmp_path / f"late{kind.suffix}", kind)
    frames, info = decode_frames(path, [0, 39])
    assert shown(frames) == [0, 39]
    # The encoder of the sound begins a little before zero.
    assert info.start_seconds == pytest.approx(3, abs=0.1)
    assert info.duration_seconds == pytest.approx(1.6, abs=0.05)
    assert next(stream_frames(path)).time_seconds == 0
    with pytest.raises(VideoDecodeError, match=r"5 seconds long; VideoLimits.max_duration_seconds"):
        decode_frames(path, [0], limits=VideoLimits(max_duration_seconds=4))


@pytest.mark.parametrize("name", ["mpeg2_mpg", "mpeg2_ts", "h264_ts", "h264_mp4"])
def test_a_single_picture_begins_with_its_file(tmp_path, name):
    """Of one in MPEG streams, whose clock begins anywhere, FFmpeg does not know the start."""
    kind = VIDEO_KINDS[name]
    info = decode_frames(render_video(tmp_path / f"single{kind.suffix}", kind, num_frames=1), [0])[1]
    assert (info.num_frames, info.start_seconds) == (1, 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"pix_fmt": "yuv422p"}),
        ({}, {"options": {"flags": "+cgop+ilme+ildct"}}),
        ({"options": {"flags": "+cgop+ilme+ildct"}}, {"codec": "mpeg1video"}),
        ({"options": {"bf": "0"}}, {"options": {"bf": "0", "flags": "+cgop+low_delay"}}),
    ],
)
@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".mkv"])
@pytest.mark.parametrize("group_size", [1, 12])
def test_no_picture_is_lost_where_another_sequence_of_mpeg2_begins(tmp_path, suffix, first, second, group_size):
    """FFmpeg's decoder, set up again there, drops the picture that it holds back."""
    sources = []
    for number, changed in enumerate((first, second)):
        # Groups that are closed, for which the encoder asks for the threshold.
        options = {"g": str(group_size), "bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"}
        kind = replace(VIDEO_KINDS["mpeg2_ts"], bit_rate=3_000_000, **changed)
        kind = replace(kind, options=options | changed.get("options", {}))
        sources.append(render_video(tmp_path / f"{number}.ts", kind, num_frames=36))
    with av.open(str(sources[1])) as container:
        others = [packet for packet in container.demux(video=0) if packet.size]

    def mixed(packets: list[av.Packet]) -> Iterator[av.Packet]:
        groups = itertools.accumulate(packet.is_keyframe for packet in packets)
        for packet, other, group in zip(packets, others, groups, strict=True):
            other.pts, other.dts = packet.pts, packet.dts
            yield (packet, other)[group % 2]

    path = with_packets(sources[0], tmp_path / f"mixed{suffix}", mixed)
    frames, info = decode_frames(path, lambda info: range(info.num_frames))
    assert shown(frames) == list(range(36))
    assert info == probe_video(path)
    assert shown(decode_frames(path, [11, 12, 35])[0]) == [11, 12, 35]
    assert [read_index(frame.frame.numpy()) for frame in stream_frames(path)] == list(range(36))


def test_a_broadcast_whose_picture_begins_long_after_its_sound_is_read(tmp_path):
    """FFmpeg does not know the size of its pictures, nor the shape of their pixels, before one is decoded."""
    whole = render_video(tmp_path / "whole.ts", replace(VIDEO_KINDS["h264_ts"], pixel_aspect=Fraction(2, 1)))
    path = tmp_path / "late.ts"
    with av.open(str(whole)) as read, av.open(str(path), "w") as written:
        picture = written.add_stream_from_template(read.streams.video[0])
        sound = written.add_stream("aac", rate=16_000, layout="mono")
        for _ in range(12 * 16_000 // 1024):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16_000
            written.mux(sound.encode(silence))
        for packet in read.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + 12 * 90_000, packet.dts + 12 * 90_000, picture
                written.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.width == 0
    frames, info = decode_frames(path, lambda info: range(info.num_frames))
    assert shown(frames) == list(range(40))
    assert (info.width, info.height) == (192, 72)
    assert info.start_seconds == pytest.approx(12, abs=0.2)
    for max_pixels in (2 * 96 * 72 - 1, 50):
        with pytest.raises(VideoDecodeError, match=r"VideoLimits\.max_pixels"):
            decode_frames(path, [0], limits=VideoLimits(max_pixels=max_pixels))


@pytest.mark.parametrize("name", ["h264_ts", "hevc_ts"])
def test_a_broadcast_that_was_joined_in_the_middle_begins_at_its_first_key_frame(tmp_path, name):
    options = {"x265-params": "keyint=12:bframes=3:open-gop=0:log-level=none"}
    kind = VIDEO_KINDS.get(name, VideoKind(".ts", "libx265", options))
    tables = {"pat_period": "0.04"}
    data = render_video(tmp_path / "whole.ts", replace(kind, container_options=tables)).read_bytes()
    num_packets = len(data) // 188
    for cut in (num_packets // 6, num_packets // 3):
        frames, info = decode_frames(data[188 * cut :], lambda info: range(info.num_frames))
        first = 40 - info.num_frames
        assert first in (12, 23, 24)
        assert shown(frames) == list(range(first, 40))


def test_h265_in_flv_that_was_joined_in_the_middle_begins_at_its_first_key_frame(tmp_path):
    options = {"x265-params": "keyint=12:bframes=3:open-gop=0:log-level=none"}
    whole = render_video(tmp_path / "whole.flv", VideoKind(".flv", "libx265", options))
    path = with_packets(whole, tmp_path / "joined.flv", lambda packets: packets[5:])
    frames, info = decode_frames(path, lambda info: range(info.num_frames))
    assert shown(frames) == list(range(12, 40))
    assert (info.num_frames, info.duration_seconds) == (28, pytest.approx(1.12, abs=0.01))


OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=12:bframes=2:b-adapt=0:ref=3:threads=1", "preset": "fast"}


@pytest.fixture(scope="module")
def open_groups(tmp_path_factory):
    return render_video(tmp_path_factory.mktemp("open") / "whole.mp4", VideoKind(".mp4", "libx264", OPEN_GROUPS))


def cut_at_key_frame(path: Path, target: Path, number: int, hidden: int = 0) -> Path:
    """The packets from a key frame on, not encoded again; so many frames from it on are not to be shown."""

    def cut(packets: list[av.Packet]) -> list[av.Packet]:
        packets = packets[[place for place, packet in enumerate(packets) if packet.is_keyframe][number] :]
        start = packets[0].pts + hidden * packets[0].duration if hidden else packets[0].dts
        for packet in packets:
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
        return packets

    return with_packets(path, target, cut)


def is_refused_strictly(path: Path) -> bool:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.options = {"err_detect": "explode"}
        try:
            return not list(container.decode(video=0))
        except av.FFmpegError:
            return True


@pytest.mark.parametrize(("suffix", "hidden"), [(".mp4", 0), (".mkv", 0), (".mp4", 2)])
def test_h264_that_was_cut_within_an_open_group_begins_at_its_key_frame(open_groups, tmp_path, suffix, hidden):
    paths = [cut_at_key_frame(open_groups, tmp_path / f"{number}{suffix}", number, hidden) for number in (1, 2, 3)]
    assert any(map(is_refused_strictly, paths))
    for path in paths:
        every = list(stream_frames(path))
        indices = shown(frame.frame for frame in every)
        assert indices == list(range(40 - len(indices), 40))
        frames, info = decode_frames(path, lambda info: range(info.num_frames))
        assert shown(frames) == indices
        assert probe_video(path).num_frames == info.num_frames == len(indices)
        times = [frame.time_seconds for frame in every]
        assert [frame.frame_index for frame in stream_frames(path, times)] == list(range(len(indices)))
        assert shown(decode_frames(path, lambda info: [info.num_frames - 1, 0])[0]) == [39, indices[0]]


def test_a_broadcast_of_open_groups_that_was_joined_in_the_middle_begins_at_its_first_key_frame(tmp_path):
    kind = VideoKind(".ts", "libx264", OPEN_GROUPS, container_options={"pat_period": "0.04"})
    data = render_video(tmp_path / "whole.ts", kind).read_bytes()
    for part in range(1, 16):
        frames, info = decode_frames(data[len(data) // 188 * part // 24 * 188 :], lambda info: range(info.num_frames))
        assert shown(frames) == list(range(40 - info.num_frames, 40))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_is_cut_within_an_open_group_is_read_no_further_than_to_what_is_asked_for(
    open_groups, video_file, tmp_path, codec
):
    whole = open_groups if codec == "h264" else video_file("hevc_mp4")
    path = cut_at_key_frame(whole, tmp_path / "cut.mkv", 1)
    times = [frame.time_seconds for frame in itertools.islice(stream_frames(path), 3)]
    assert times[0] > 0
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        content = bytes([packet for packet in container.demux(video=0) if packet.size][-1])
    place = data.rindex(content[-40:])
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)
    assert [frame.frame_index for frame in stream_frames(path, [0.0, *times])] == [0, 0, 1, 2]
    with pytest.raises(VideoDecodeError):
        list(stream_frames(path))


@pytest.mark.parametrize("hidden", [0, 2])
def test_damage_is_an_error_where_h264_was_cut_within_an_open_group(open_groups, tmp_path, hidden):
    """In each picture that is shown or that one of these refers to; those before the key frame matter to none."""
    for number in (1, 2, 3):
        path = cut_at_key_frame(open_groups, tmp_path / "cut.mp4", number, hidden)
        data = path.read_bytes()
        with av.open(io.BytesIO(data)) as container:
            packets = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        for shown_at, place, size in packets:
            damaged = data[: place + size // 3] + bytes(size - size // 3) + data[place + size :]
            if shown_at >= packets[0][0]:
                with pytest.raises(VideoDecodeError):
                    decode_frames(damaged, lambda info: range(info.num_frames))


def joined_at_key_frames(path: Path, target: Path, *missing: int) -> Path:
    """Without the packets from the second key frame up to the third, and others by their places behind there."""

    def join(packets: list[av.Packet]) -> list[av.Packet]:
        _, start, end, *_ = (place for place, packet in enumerate(packets) if packet.is_keyframe)
        gap = packets[end].pts - packets[start].pts
        for packet in packets[end:]:
            packet.pts, packet.dts = packet.pts - gap, packet.dts - gap
        return packets[:start] + [packet for place, packet in enumerate(packets[end:]) if place not in missing]

    return with_packets(path, target, join)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_h265_of_open_groups_from_which_a_piece_was_cut_out_is_read_around_it(video_file, tmp_path, suffix):
    """Pictures before a key frame that need what was cut away are passed over, and no others."""
    path = joined_at_key_frames(video_file("hevc_mp4"), tmp_path / f"joined{suffix}")
    assert is_refused_strictly(path)
    every = list(stream_frames(path))
    indices = shown(frame.frame for frame in every)
    start = indices.index(24)
    assert indices == [*range(start), *range(24, 40)]
    frames, info = decode_frames(path, lambda info: range(info.num_frames))
    assert shown(frames) == indices
    assert probe_video(path).num_frames == info.num_frames == len(indices)
    times = [frame.time_seconds for frame in every]
    assert [frame.frame_index for frame in stream_frames(path, times)] == list(range(len(indices)))
    assert shown(decode_frames(path, lambda info: [info.num_frames - 1, start])[0]) == [39, 24]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_h265_that_lacks_pictures_before_an_open_group_has_the_same_ones_by_index_and_in_order(
    video_file, tmp_path, suffix
):
    """Those at the group's beginning refer to what is missing further before, behind which there are others."""

    def lose(packets: list[av.Packet]) -> list[av.Packet]:
        key = [place for place, packet in enumerate(packets) if packet.is_keyframe][2]
        last = max(range(key), key=lambda place: packets[place].pts)
        assert last + 1 < key
        return packets[: last + 1] + packets[key:]

    path = with_packets(video_file("hevc_mp4"), tmp_path / f"lost{suffix}", lose)
    with av.open(str(path)) as container:
        indices = [read_index(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert shown(decode_frames(path, lambda info: range(info.num_frames))[0]) == indices
    for index in (len(indices) // 2, len(indices) - 3):
        assert shown(decode_frames(path, [index])[0]) == indices[index : index + 1]


def test_h265_that_lacks_a_piece_begins_at_its_first_picture_whatever_the_file_calls_it(video_file, tmp_path):
    def call_other(packets: list[av.Packet]) -> list[av.Packet]:
        packets[0].is_keyframe = False
        return packets

    joined = joined_at_key_frames(video_file("hevc_mp4"), tmp_path / "joined.mp4")
    indices, others = (
        [(frame.frame_index, read_index(frame.frame.numpy())) for frame in stream_frames(path)]
        for path in (joined, with_packets(joined, tmp_path / "other.mp4", call_other))
    )
    assert others == indices


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_h265_of_which_pieces_that_overlap_were_joined_is_read_by_index(video_file, tmp_path, suffix):
    """A piece that ends before the pictures between its last two has the time of one that is passed over."""

    def join(packets: list[av.Packet]) -> list[av.Packet]:
        _, start, end, *_ = (place for place, packet in enumerate(packets) if packet.is_keyframe)
        last = next(place for place in range(start + 1, end) if packets[place].pts > packets[start].pts)
        gap = packets[end].pts - packets[last].pts - packets[last].duration
        for packet in packets[end:]:
            packet.pts, packet.dts = packet.pts - gap, packet.dts - gap
        return packets[: last + 1] + packets[end:]

    path = with_packets(video_file("hevc_mp4"), tmp_path / f"joined{suffix}", join)
    assert is_refused_strictly(path)
    indices = shown(decode_frames(path, lambda info: range(info.num_frames))[0])
    assert indices == [*range(13), 16, *range(24, 40)]
    assert shown(decode_frames(path, [13, 14])[0]) == [16, 24]


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_pictures_that_are_missing_are_an_error_where_a_piece_of_h265_was_cut_out(video_file, tmp_path, suffix):
    path = video_file("hevc_mp4")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    key = [packet for packet in packets if packet.is_keyframe][2]
    behind = [packet.pts > key.pts for packet in packets[packets.index(key) :]].index(True)
    joined = joined_at_key_frames(path, tmp_path / f"joined{suffix}", behind)
    with pytest.raises(VideoDecodeError, match="damaged near frame"):
        decode_frames(joined, lambda info: range(info.num_frames))


def test_a_recording_whose_times_are_lost_at_a_pause_is_read_by_index_only(video_file, tmp_path):
    """FFmpeg takes times of FLV that lie a quarter of an hour apart for damage, and gives none."""

    def pause(packets: list[av.Packet]) -> list[av.Packet]:
        middle = packets[20].pts
        for packet in packets:
            packet.pts += 1_300_000 * (packet.pts > middle)
            packet.dts += 1_300_000 * (packet.dts > middle)
        return packets

    path = with_packets(video_file("h264_flv"), tmp_path / "paused.flv", pause)
    frames, info = decode_frames(path, range(40))
    assert shown(frames) == list(range(40))
    assert info.duration_seconds == pytest.approx(1301.6, abs=0.1)
    for times in (None, [0.0, 1300.5]):
        with pytest.raises(VideoDecodeError, match="of its frames have no time"):
            list(stream_frames(path, times))


def test_h264_in_fields_is_shown_at_its_own_times(tmp_path):
    """Both fields of a frame come in one piece of MPEG-TS, of which FFmpeg gives the first alone a time."""
    times = [*range(20), *range(270, 290)]
    path = render_fields(tmp_path / "fields.ts", times)
    frames, info = decode_frames(path, range(40))
    assert shown(frames) == list(range(40))
    assert (info.num_frames, info.duration_seconds) == (40, pytest.approx(11.6))
    streamed = [(frame.time_seconds, read_index(frame.frame.numpy())) for frame in stream_frames(path)]
    assert streamed == [(pytest.approx(time / 25), index) for index, time in enumerate(times)]
    at_times = [read_index(frame.frame.numpy()) for frame in stream_frames(path, [0.5, 5.0, 10.9, 20.0])]
    assert at_times == [12, 19, 22, 39]


@pytest.mark.parametrize(("suffix", "pause_seconds"), [(".ts", 10), (".mpg", 0)])
def test_pictures_that_share_a_piece_leave_the_others_their_times(video_file, tmp_path, suffix, pause_seconds):
    """The second one of two has no time, and follows the one before it at the file's rate."""

    def join(packets: list[av.Packet]) -> Iterator[av.Packet]:
        joined = {8, 24, 30}
        for index, packet in enumerate(packets):
            if index - 1 in joined:
                continue
            copy = av.Packet(bytes(packet) + (bytes(packets[index + 1]) if index in joined else b""))
            pause = 90_000 * pause_seconds * (index >= 24)
            copy.pts, copy.dts, copy.time_base = packet.pts + pause, packet.dts + pause, packet.time_base
            copy.is_keyframe = packet.is_keyframe
            yield copy

    path = with_packets(video_file("h264_ts"), tmp_path / f"joined{suffix}", join)
    streamed = [(frame.time_seconds, read_index(frame.frame.numpy())) for frame in stream_frames(path)]
    expected = [index / 25 + pause_seconds * (index >= 24) for index in range(40)]
    assert streamed == [(pytest.approx(time, abs=1e-3), index) for index, time in enumerate(expected)]
    assert probe_video(path).duration_seconds == pytest.approx(1.6 + pause_seconds, abs=1e-3)


def test_pictures_of_gif_that_an_edit_list_hides_are_refused(tmp_path):
    """FFmpeg's decoder would show them."""

    def begin_before_zero(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.pts = packet.dts = packet.pts - packets[15].pts
        return packets

    path = render_video(tmp_path / "whole.mov", VideoKind(".mov", "gif", pix_fmt="rgb8"))
    assert probe_video(path).num_frames == 40
    with pytest.raises(VideoDecodeError, match="its edit list hides pictures of GIF"):
        probe_video(with_packets(path, tmp_path / "cut.mov", begin_before_zero))


@pytest.mark.parametrize("b_frames", [0, 3])
def test_few_times_have_to_fit_the_rate_by_which_frames_are_counted_off(tmp_path, b_frames):
    """Several small pictures lie in one piece of MPEG-PS, which has one time."""
    kind = VideoKind(".mpg", "libx264", {"g": "12", "bf": str(b_frames), "crf": "40"})
    even = render_video(tmp_path / "even.mpg", kind, num_frames=80).read_bytes()
    assert probe_video(even).duration_seconds == pytest.approx(3.2)
    assert probe_video(even * 2).duration_seconds == pytest.approx(6.4)

    def pause(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets[36:]:
            packet.pts += 900_000
            packet.dts += 900_000
        return packets

    whole = render_video(tmp_path / "whole.ts", kind, num_frames=80)
    uneven = render_video(tmp_path / "uneven.mpg", replace(kind, variable_rate=True), num_frames=80)
    for file in (uneven, with_packets(whole, tmp_path / "pause.mpg", pause)):
        with pytest.raises(VideoDecodeError, match=r"the times of the others do not fit its 25 frames per second"):
            probe_video(file)


def program(path: Path, number: int, *, clock: int, kind: VideoKind) -> list[bytes]:
    """A program of a broadcast, in packets that bear no other program's numbers."""
    numbers = {
        "mpegts_service_id": str(number),
        "mpegts_start_pid": str(0x100 * number),
        "mpegts_pmt_start_pid": str(0x1000 + number),
    }
    options = {**numbers, "output_ts_offset": str(clock)}
    data = render_video(path, replace(kind, container_options=options)).read_bytes()
    return [data[start : start + 188] for start in range(0, len(data), 188)]


def with_checksum(section: bytes) -> bytes:
    """A table of MPEG-TS with its CRC-32, which is not zlib's."""
    remainder = 0xFFFFFFFF
    for bit in (byte >> place & 1 for byte in section for place in range(7, -1, -1)):
        remainder = (remainder << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if remainder >> 31 ^ bit else 0)
    return section + remainder.to_bytes(4, "big")


@pytest.mark.parametrize("sounds", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("clocks", [(50_000, 1_000), (10, 90_000)])
def test_each_program_of_a_broadcast_has_a_clock_of_its_own(tmp_path, sounds, clocks):
    programs = [
        program(tmp_path / f"{number}.ts", number, clock=clock, kind=replace(VIDEO_KINDS["h264_ts"], audio=audio))
        for number, clock, audio in zip((1, 2), clocks, sounds)
    ]
    table = with_checksum(bytes.fromhex("00b011 0001 c1 00 00 0001 f001 0002 f002"))
    listed = bytes.fromhex("47 4000 10 00") + table
    mixed = [listed.ljust(188, b"\xff")]
    for packet in itertools.chain.from_iterable(itertools.zip_longest(*programs)):
        if packet is not None and packet[1:3] not in (b"\x40\x00", b"\x40\x11"):
            mixed.append(packet)
    frames, info = decode_frames(b"".join(mixed), [0, 39])
    assert shown(frames) == [0, 39]
    assert info.start_seconds == pytest.approx(0, abs=0.2)


def test_the_times_of_a_stream_can_be_chosen_knowing_the_video(video_file):
    frames = stream_frames(video_file("h264_mp4"), lambda info: [info.duration_seconds / 2])
    assert [frame.frame_index for frame in frames] == [20]


@pytest.mark.parametrize("kind", ["h264_no_b_mp4", "vp9_webm"])
def test_packets_that_share_a_time_leave_the_others_theirs(video_file, tmp_path, kind):
    """As where a recorder counts in milliseconds, and two frames come within one."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for index, packet in enumerate(packets):
            # No rate that a header states.
            packet.dts = index * 500 + index % 3 * 100
            packet.pts = packet.dts + 1000
        packets[20].pts = packets[19].pts
        return packets

    path = with_packets(video_file(kind), tmp_path / f"video{video_file(kind).suffix}", change)
    with av.open(str(path)) as container:
        expected = [frame.time for frame in container.decode(video=0)]
    frames = list(stream_frames(path))
    assert [frame.time_seconds for frame in frames] == pytest.approx([time - expected[0] for time in expected])
    assert shown(torch.stack([frame.frame for frame in frames])) == list(range(len(expected)))
    # Of the two, a player shows the second one.
    at = [frames[index].time_seconds for index in (18, 19, 21)]
    assert shown(torch.stack([frame.frame for frame in stream_frames(path, at)])) == [18, 20, 21]


@pytest.mark.parametrize("times", [[1.0, 0.5], [-1.0], [float("nan")]])
def test_times_that_cannot_be_streamed_are_refused(video_file, times):
    with pytest.raises(ValueError, match="sorted"):
        list(stream_frames(video_file("h264_mp4"), times))


def test_an_abandoned_stream_does_no_harm(video_file):
    stream = stream_frames(video_file("h264_mp4"))
    assert next(stream).frame_index == 0
    stream.close()
    assert shown(decode_frames(video_file("h264_mp4"), [9])[0]) == [9]


@pytest.mark.slow
def test_a_reader_may_take_longer_between_frames_than_a_frame_may_take(video_file):
    count = 0
    for _ in stream_frames(video_file("h264_mp4"), [0, 0.4], limits=VideoLimits(timeout_seconds=2)):
        time.sleep(8)
        count += 1
    assert count == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_stream_holds_one_frame(tmp_path):
    kind = VideoKind(".mp4", "libx264", {"preset": "ultrafast", "g": "50"}, width=320, height=240)
    path = render_video(tmp_path / "long.mp4", kind, num_frames=400)
    peaks = []
    for frame in stream_frames(path):
        if frame.frame_index in (50, 390):
            peaks.append(sum(_resident_bytes(pid) for pid in [os.getpid(), *decoding_processes()]))
    # 340 frames of 230 KB each lie between the two.
    assert peaks[1] - peaks[0] < 30 * 320 * 240 * 3


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_video_for_which_memory_is_lacking_is_named():
    """Python's own error says nothing."""
    with pytest.raises(MemoryError, match=r"'clip\.mp4' finds no room in memory"), _naming("clip.mp4", "pyav"):
        raise MemoryError
