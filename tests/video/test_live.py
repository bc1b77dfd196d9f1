"""Live sources: frames as they come, windows over them, breaks joined, and nothing opened but what was named."""

import contextlib
import functools
import gc
import http.server
import io
import itertools
import logging
import socket
import struct
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from froster_hf.video import client, live, live_reader
from froster_hf.video.decoding import decode_frames
from froster_hf.video.live import LiveFrame, live_frames, rolling_windows
from froster_hf.video.types import VideoDecodeError, VideoLimits
from tests.fixtures.rtsp import rtp_packets, rtsp_camera
from tests.fixtures.videos import VIDEO_KINDS, VideoKind, draw_frame, read_index, render_video, with_packets

FRAME = torch.zeros(3, 4, 4, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _joined_soon(monkeypatch):
    monkeypatch.setattr(live, "FIRST_WAIT_SECONDS", 0.01)


@contextlib.contextmanager
def tcp_source(*connections):
    """The address of a server that sends each connection its bytes, and then refuses others."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                for data in connections:
                    with server.accept()[0] as connection:
                        connection.sendall(data)
            server.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def http_folder(folder):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_hls(folder, num_frames=50):
    """A playlist of one-second segments, with its end."""
    options = {"hls_time": "1", "hls_list_size": "0"}
    with av.open(str(folder / "live.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for index in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index), format="rgb24")))
        container.mux(stream.encode(None))


def indices(frames):
    return [read_index(frame.frame.numpy()) for frame in frames]


def test_an_hls_stream_is_read_until_its_end(tmp_path):
    write_hls(tmp_path)
    with http_folder(tmp_path) as address:
        frames = list(live_frames(f"{address}/live.m3u8", interval_seconds=0.2))
    assert indices(frames) == list(range(0, 50, 5))
    assert [frame.time_seconds for frame in frames] == pytest.approx([0.2 * step for step in range(10)], abs=0.01)


def test_pictures_of_motion_jpeg_have_the_times_at_which_they_come():
    file = io.BytesIO()
    Image.fromarray(draw_frame(0)).save(file, "JPEG")
    part = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(file.getvalue()) + file.getvalue()
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n"

    class Camera(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.wfile.write(head)
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(part + b"\r\n")
                    time.sleep(0.1)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        frames = live_frames(f"http://127.0.0.1:{server.server_port}/", interval_seconds=0.01, max_reconnects=0)
        came = [(frame.time_seconds, time.monotonic()) for frame in itertools.islice(frames, 40)]
        frames.close()
        server.shutdown()
    (first, first_came), (last, last_came) = came[-12], came[-1]
    assert last - first == pytest.approx(last_came - first_came, abs=0.4)


def test_a_recording_whose_pictures_have_no_times_is_counted_off(tmp_path):
    with av.open(str(tmp_path / "clip.mjpeg"), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuvj420p"
        for index in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index), format="rgb24")))
    with http_folder(tmp_path) as address:
        found = list(live_frames(f"{address}/clip.mjpeg", interval_seconds=0.4, max_reconnects=0))
    assert [frame.time_seconds for frame in found] == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6], abs=0.01)


def test_a_recording_of_known_size_is_played_once(video_file):
    path = video_file("h264_ts")
    with http_folder(path.parent) as address:
        frames = live_frames(f"{address}/{path.name}", interval_seconds=0.4, max_reconnects=1)
        assert indices(itertools.islice(frames, 10)) == [0, 10, 20, 30]


def test_pictures_that_are_taken_from_a_source_are_not_kept(video_file):
    """PyAV keeps a frame whose side data is read until it looks for garbage."""
    with av.open(str(video_file("h264_rotated_90_mp4"))) as container:
        gc.collect()
        gc.disable()
        try:
            num_pictures = sum(1 for _ in live_reader._sampled(container, 0.01, VideoLimits()))
            num_kept = sum(isinstance(item, av.VideoFrame) for item in gc.get_objects())
        finally:
            gc.enable()
    assert num_pictures == 40
    assert num_kept <= 2


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (VIDEO_KINDS["h264_rotated_90_mp4"], (72, 96)),
        (replace(VIDEO_KINDS["h264_ts"], pixel_aspect=Fraction(16, 11)), (72, 140)),
    ],
)
def test_pictures_are_turned_and_stretched_as_those_of_a_file(tmp_path, kind, size):
    path = render_video(tmp_path / f"clip{kind.suffix}", kind)
    expected, _ = decode_frames(path, [0])
    with http_folder(tmp_path) as url:
        frame = next(live_frames(f"{url}/{path.name}", max_reconnects=0)).frame
    assert frame.shape == (3, *size)
    assert torch.equal(frame, expected[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_track_of_a_source_is_the_one_that_a_file_is_read_by(tmp_path, suffix):
    with av.open(str(tmp_path / f"clip{suffix}"), "w") as container:
        tracks = [container.add_stream("libx264", rate=25, options={"preset": "ultrafast"}) for _ in range(2)]
        for number, track in enumerate(tracks):
            track.width, track.height, track.pix_fmt = 96, 72, "yuv420p"
            track.disposition = av.stream.Disposition.default if number else av.stream.Disposition(0)
        for number, track in enumerate(tracks):
            for index in range(4):
                frame = av.VideoFrame.from_ndarray(draw_frame(index + 8 * number), format="rgb24")
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    assert read_index(decode_frames(tmp_path / f"clip{suffix}", [0])[0][0].numpy()) == 8
    with http_folder(tmp_path) as url:
        assert indices(live_frames(f"{url}/clip{suffix}", max_reconnects=0, interval_seconds=0.04)) == [8, 9, 10, 11]


MPEG4_MKV = VideoKind(".mkv", "mpeg4", {"g": "12"}, bit_rate=400_000)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (MPEG4_MKV, replace(MPEG4_MKV, width=192, height=144)),
        (VIDEO_KINDS["mpeg2_ts"], VIDEO_KINDS["h264_ts"]),
    ],
    ids=["size", "codec"],
)
def test_pictures_that_are_marked_as_damaged_where_the_video_changes_are_passed_over(tmp_path, kind, other):
    """The decoder is set up for what came before, and draws remains of it."""
    parts = [render_video(tmp_path / f"{number}{each.suffix}", each) for number, each in enumerate((kind, other))]
    found = []
    with (
        tcp_source(b"".join(part.read_bytes() for part in parts)) as address,
        contextlib.suppress(VideoDecodeError),
    ):
        for frame in live_frames(address, interval_seconds=0.01, max_reconnects=0):
            found += indices([frame])
    assert found[:36] == list(range(36))
    assert found == sorted(set(found))


@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "mpeg4"), (".flv", "flv"), (".ts", "libx265")])
def test_what_is_joined_in_the_middle_begins_at_a_key_frame_whatever_its_decoder_draws(tmp_path, suffix, codec):
    options = {"x265-params": "keyint=12:bframes=3:open-gop=0:log-level=none"} if codec == "libx265" else {"g": "12"}
    whole = render_video(tmp_path / f"whole{suffix}", VideoKind(suffix, codec, options, bit_rate=400_000))
    joined = with_packets(whole, tmp_path / f"joined{suffix}", lambda packets: packets[5:])
    found = []
    for path in (whole, joined):
        with tcp_source(path.read_bytes()) as address, contextlib.suppress(VideoDecodeError):
            for frame in live_frames(address, interval_seconds=0.01, max_reconnects=0):
                found += indices([frame])
    assert found == [*range(40), *range(12, 40)]


# In frames, of 25 per second: those of the stream, and those that have passed.
@pytest.mark.parametrize(
    ("times", "passed"),
    [
        ([0, 1, 4, 5, 3, 7, 8], [0, 1, 4, 5, 5.5, 7, 8]),
        ([0, 1, 16, 2, 17, 3, 18], [0, 1, 16, 16.5, 17, 17.5, 18]),
        ([0, 1, None, 3, 4], [0, 1, 2, 3, 4]),
        ([None, 50, 51, 53], [0, 1, 2, 4]),
        ([100, 101, 0, 1, 3, 102, 103], [0, 1, 2, 3, 5, 104, 105]),
        ([0, 1, 1000, 1001, 0, 1], [0, 1, 2, 3, 4, 5]),
        ([20, 21, 10, 11, 12, 13], [0, 1, 1.5, 2.5, 3.5, 4.5]),
        ([7, 7, 7], [0, 1, 2]),
    ],
    ids=["late", "late in turns", "without a time", "first unknown", "again", "jumps", "set back", "one time"],
)
def test_frames_that_come_late_set_no_clock_back(monkeypatch, times, passed):
    frames = [SimpleNamespace(time=None if time is None else time / 25) for time in times]
    monkeypatch.setattr(live_reader, "_decoded", lambda container, stream: frames)
    container = SimpleNamespace(format=SimpleNamespace(name="mpegts"))
    found = [seconds for seconds, _ in live_reader._timed(container, SimpleNamespace(average_rate=25))]
    assert found == pytest.approx([time / 25 for time in passed])


def test_a_source_of_fields_of_h265_is_an_error(tmp_path):
    kind = replace(VIDEO_KINDS["hevc_mp4"], suffix=".ts", options={"x265-params": "interlace=tff:log-level=none"})
    render_video(tmp_path / "clip.ts", kind, num_frames=4)
    with http_folder(tmp_path) as url, pytest.raises(VideoDecodeError, match="stored as fields"):
        next(live_frames(f"{url}/clip.ts", max_reconnects=0))


def test_a_stream_that_breaks_off_is_joined_again_and_given_up_in_the_end(video_file, caplog):
    data = video_file("h264_ts").read_bytes()
    found = []
    with (
        caplog.at_level(logging.WARNING),
        tcp_source(data, data) as address,
        pytest.raises(VideoDecodeError, match="joined again 2 times in vain"),
    ):
        found.extend(live_frames(address, interval_seconds=0.4, max_reconnects=2))
    assert [frame.follows for frame in found] == [False, True, True, True] * 2
    assert indices(found) == [0, 10, 20, 30] * 2
    times = [frame.time_seconds for frame in found]
    assert times == sorted(times)
    assert "the stream broke off; joining it again" in caplog.text


@pytest.fixture(scope="module")
def packets():
    return rtp_packets(50)


@pytest.mark.parametrize("options", [{}, {"is_udp": True}], ids=["over the connection", "as datagrams"])
def test_a_camera_on_the_network_is_watched_and_joined_again(packets, options, caplog):
    found = []
    with (
        caplog.at_level(logging.WARNING),
        rtsp_camera(packets, packets, credentials="me:secret", **options) as address,
        pytest.raises(VideoDecodeError, match=r"'rtsp://\*\*\*@.*joined again 1 times in vain") as failure,
    ):
        found.extend(live_frames(address.replace("//", "//me:secret@"), interval_seconds=0.4, max_reconnects=1))
    assert indices(found) == [0, 10, 20, 30, 40] * 2
    assert [frame.follows for frame in found] == [False, True, True, True, True] * 2
    times = [frame.time_seconds for frame in found]
    assert times[:5] == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6], abs=0.01)
    assert times == sorted(times)
    assert "joining it again" in caplog.text
    assert "secret" not in caplog.text + str(failure.value)


@pytest.mark.parametrize("ticks", [-1800, 90, 1800, 20_000])
def test_the_clock_of_a_camera_may_begin_anywhere(packets, ticks):
    """Before its first frame a camera reports what its clock says: the first has no time, others count from there."""
    report = packets[0]
    assert report[1] == 200
    (clock,) = struct.unpack(">I", report[16:20])
    late = report[:16] + struct.pack(">I", (clock + ticks) % 2**32) + report[20:]
    with rtsp_camera([late, *packets[1:]], duration_seconds=2) as address:
        frames = list(live_frames(address, interval_seconds=0.4))
    assert indices(frames) == [0, 10, 20, 30, 40]
    times = [frame.time_seconds - frames[0].time_seconds for frame in frames]
    assert times == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6], abs=0.01)


def test_a_camera_is_joined_in_the_middle(packets):
    with rtsp_camera(packets[10:]) as address:
        frames = live_frames(address, interval_seconds=0.4)
        first, second = next(frames), next(frames)
        frames.close()
    # There is a key frame every 25 frames.
    assert indices([first, second]) == [25, 35]
    assert second.time_seconds - first.time_seconds == pytest.approx(0.4, abs=0.01)


def test_a_recording_over_rtsp_ends_where_it_ends(packets):
    with rtsp_camera(packets, duration_seconds=2) as address:
        assert indices(live_frames(address, interval_seconds=0.4)) == [0, 10, 20, 30, 40]


def test_a_wrong_password_is_an_error_at_once(packets):
    with (
        rtsp_camera(packets, credentials="me:secret") as address,
        pytest.raises(VideoDecodeError, match="401 Unauthorized"),
    ):
        next(live_frames(address))


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have other names elsewhere")
@pytest.mark.parametrize("source", [987, "987"])
def test_a_camera_that_is_not_there_is_an_error_that_says_so(source):
    with pytest.raises(VideoDecodeError, match=r"'camera 987'.* there is no /dev/video987; th"):
        next(live_frames(source))


@pytest.mark.parametrize(
    "address", ["camera", "/dev/video0", "clip.mp4", "", "-1", "file:///etc/passwd", Path("clip.mp4"), np.int64(-1)]
)
def test_what_is_no_live_source_is_told_from_one(address):
    with pytest.raises(VideoDecodeError, match="the index of a camera, such as 0, or an address that begins with rt"):
        next(live_frames(address))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "gopher://127.0.0.1/x", "file:///etc/passwd"])
def test_what_cannot_be_opened_at_first_is_an_error_at_once(address):
    with pytest.raises(VideoDecodeError, match="cannot be opened"):
        next(live_frames(address))


def test_a_playlist_opens_no_file(tmp_path, video_file):
    target = video_file("h264_ts")
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nfile://{target}\n#EXT-X-ENDLIST\n"
    (tmp_path / "live.m3u8").write_text(text)
    with http_folder(tmp_path) as address, pytest.raises(VideoDecodeError):
        list(live_frames(f"{address}/live.m3u8"))


def test_a_stream_that_says_nothing_is_late():
    with socket.create_server(("127.0.0.1", 0)) as server:
        limits = VideoLimits(timeout_seconds=0.5)
        with pytest.raises(VideoDecodeError):
            next(live_frames(f"tcp://127.0.0.1:{server.getsockname()[1]}", limits=limits))


def test_an_abandoned_stream_ends_its_process(video_file):
    before = set(client._all)
    with tcp_source(video_file("h264_ts").read_bytes()) as address:
        frames = live_frames(address, interval_seconds=0.04)
        next(frames)
        frames.close()
    assert {process for process in client._all if process.kind[0] == "live"} <= before


@pytest.mark.parametrize("kind", ["array", "tensor", "channels first", "image", "pairs"])
def test_a_programs_own_frames_are_a_source(kind):
    picture = np.zeros((6, 8, 3), np.uint8)
    item = {
        "array": picture,
        "tensor": torch.from_numpy(picture),
        "channels first": torch.from_numpy(picture).permute(2, 0, 1),
        "image": Image.fromarray(picture),
        "pairs": picture,
    }[kind]
    source = [(0.0, item), (0.5, item)] if kind == "pairs" else [item, item]
    frames = list(live_frames(source, fps=None if kind == "pairs" else 2.0))
    assert [frame.time_seconds for frame in frames] == [0.0, 0.5]
    assert all(frame.frame.shape == (3, 6, 8) for frame in frames)


def test_an_array_that_is_filled_again_changes_no_earlier_frame():
    def camera():
        picture = np.zeros((6, 8, 3), np.uint8)
        for value in (10, 20, 30):
            picture[:] = value
            yield picture

    assert [int(frame.frame.max()) for frame in list(live_frames(camera(), fps=2.0))] == [10, 20, 30]


def test_a_picture_is_turned_as_its_file_says():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = io.BytesIO()
    Image.new("RGB", (8, 6)).save(content, "JPEG", exif=exif)
    assert next(live_frames([Image.open(content)], fps=1.0)).frame.shape == (3, 8, 6)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_picture_of_more_than_8_bits_is_refused(mode):
    with pytest.raises(ValueError, match=f"got a picture of the mode {mode}"):
        next(live_frames([Image.new(mode, (8, 6))], fps=1.0))


def test_frames_without_times_and_what_is_no_frame_are_refused():
    with pytest.raises(ValueError, match="`fps` is None"):
        next(live_frames([np.zeros((6, 8, 3), np.uint8)]))
    for wrong in (np.zeros((6, 8), np.uint8), np.zeros((6, 8, 3), np.float32)):
        with pytest.raises(ValueError, match="A live frame is uint8"):
            next(live_frames([wrong], fps=1.0))
    for wrong in (1.7e12, -1e15, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"Frame 0, counted from 0, has the time .*; times are seconds, at most"):
            next(live_frames([(wrong, np.zeros((6, 8, 3), np.uint8))]))


def numbered(times, **options):
    return [LiveFrame(time, torch.full((3, 4, 4), index, dtype=torch.uint8), **options) for index, time in times]


def shown(window):
    return window.frames[:, 0, 0, 0].tolist()


def test_windows_overlap_and_show_the_frame_of_each_time():
    frames = numbered(enumerate([step / 2 for step in range(13)]))
    windows = list(rolling_windows(frames, window_seconds=2, stride_seconds=1, num_frames=4))
    assert [(window.start_seconds, window.end_seconds) for window in windows] == [(s, s + 2) for s in range(5)]
    assert [shown(window) for window in windows] == [[2 * s, 2 * s + 1, 2 * s + 2, 2 * s + 3] for s in range(5)]


def test_a_window_comes_with_its_last_frame_and_nothing_more_is_held():
    given = 0

    def frames():
        nonlocal given
        for given in range(10_000):
            yield LiveFrame(given / 2, FRAME)

    windows = rolling_windows(frames(), window_seconds=2, stride_seconds=1, num_frames=4)
    for number, window in enumerate(windows):
        assert given == 2 * number + 4
        assert window.frames.shape == (4, 3, 4, 4)
        assert len(windows.gi_frame.f_locals["held"]) <= 6


def test_no_window_reaches_across_a_gap_or_a_change_of_size():
    steady = [LiveFrame(step / 2, FRAME) for step in range(6)]
    gap = [LiveFrame(10 + step / 2, FRAME, follows=step > 0) for step in range(6)]
    jump = [LiveFrame(90 + step / 2, FRAME) for step in range(6)]
    larger = [LiveFrame(92.5 + step / 2, torch.zeros(3, 8, 8, dtype=torch.uint8)) for step in range(6)]
    windows = rolling_windows(steady + gap + jump + larger, window_seconds=2, stride_seconds=2, num_frames=2)
    assert [window.start_seconds for window in windows] == [0, 10, 90, 92.5]


@pytest.mark.parametrize("wrong", [{"stride_seconds": 3}, {"stride_seconds": 0}, {"num_frames": 0}])
def test_windows_that_leave_frames_out_are_refused(wrong):
    options = {"window_seconds": 2, "stride_seconds": 1, "num_frames": 4, **wrong}
    with pytest.raises(ValueError, match="the stride must be more than 0 and at most the window"):
        next(rolling_windows([], **options))


def test_a_window_of_more_bytes_than_the_limits_is_refused_at_its_first_frame():
    frames = iter(numbered(enumerate(range(9))))
    windows = rolling_windows(
        frames, window_seconds=2, stride_seconds=1, num_frames=4, limits=VideoLimits(max_decoded_bytes=4 * 48 - 1)
    )
    with pytest.raises(ValueError, match=r"4 frames of 4 x 4 pixels has 192 bytes; VideoLimits.max_decoded_bytes is"):
        next(windows)
    assert len(list(frames)) == 8
