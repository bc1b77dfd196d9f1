"""Files that are no videos, no longer videos, or traps: one exception type, in time, and the process lives on."""

import contextlib
import gzip
import io
import os
import socket
import tarfile
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from froster_hf.video import client
from froster_hf.video.decoding import VideoDecodeError, decode_frames, probe_video, stream_frames
from froster_hf.video.types import NO_SUCH_FILE
from tests.fixtures.backends import VERIFIED, needs_backend
from tests.fixtures.videos import VIDEO_KINDS, VideoKind, draw_frame, read_index, render_video

BACKENDS = ["auto", *VERIFIED]


def truncated(data: bytes, percent: int) -> bytes:
    return data[: len(data) * percent // 100]


def flipped(data: bytes) -> bytes:
    """One bit in every 50 bytes of the middle half flipped."""
    damaged = bytearray(data)
    for place in range(len(data) // 4, 3 * len(data) // 4, 50):
        damaged[place] ^= 0x10
    return bytes(damaged)


def holed(data: bytes) -> bytes:
    """The middle third zeroed, as an interrupted download leaves it."""
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(draw_frame(0)).save(out, format="JPEG")
    return out.getvalue()


def audio_only() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def no_frames() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        container.start_encoding()
    return out.getvalue()


def enormous_gif() -> bytes:
    """65535 x 65535 pixels in 40 bytes."""
    out = io.BytesIO()
    Image.new("P", (1, 1)).save(out, format="GIF")
    data = bytearray(out.getvalue())
    data[6:10] = b"\xff\xff\xff\xff"
    return bytes(data)


MADE = {
    "empty.mp4": lambda h264: b"",
    "text.mp4": lambda h264: b"This is not a video.\n" * 100,
    "jpeg.mp4": lambda h264: jpeg(),
    "random.mp4": lambda h264: np.random.default_rng(0).bytes(20_000),
    "zeros.mp4": lambda h264: bytes(20_000),
    "truncated_5.mp4": lambda h264: truncated(h264, 5),
    "truncated_50.mp4": lambda h264: truncated(h264, 50),
    "truncated_95.mp4": lambda h264: truncated(h264, 95),
    "one_byte_short.mp4": lambda h264: h264[:-1],
    "flipped.mp4": flipped,
    "holed.mp4": holed,
    "audio_only.mp4": lambda h264: audio_only(),
    "no_frames.mp4": lambda h264: no_frames(),
    "enormous.gif": lambda h264: enormous_gif(),
}


@pytest.mark.parametrize(
    "format_and_codec",
    [("mxf", "mpeg2video"), ("yuv4mpegpipe", "wrapped_avframe"), ("ivf", "libvpx"), ("h264", "libx264")],
)
def test_formats_that_are_not_read_say_what_to_do(format_and_codec):
    container_format, codec = format_and_codec
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        picture = av.VideoFrame(96, 80, "yuv420p")
        container.mux([*stream.encode(picture), *stream.encode()])
    with pytest.raises(
        VideoDecodeError, match=r"or of a format that is not read; convert it, for example to MP4 \(read are mov,"
    ):
        decode_frames(file.getvalue(), [0])


def fails(source, backend="auto", indices=lambda info: range(info.num_frames)) -> VideoDecodeError:
    """The error of decoding every frame; it names the file and the backend, comes in time, and harms nobody."""
    started = time.perf_counter()
    with pytest.raises(VideoDecodeError) as caught:
        decode_frames(source, indices, backend=backend)
    assert time.perf_counter() - started < 60
    error = caught.value
    assert error.backend == ("pyav" if backend == "auto" else backend)
    # Where there is no file, no decoder is at fault, and none is named.
    assert error.backend in str(error) or str(error) == f"{error.file!r}: there is no such file"
    assert repr(error.file) in str(error)
    assert len(error.reason) > 4
    if isinstance(source, str | os.PathLike):
        assert error.file == str(source)
    return error


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MADE)
def test_a_file_that_is_no_whole_video_is_one_error(video_file, tmp_path, name, backend):
    needs_backend(backend)
    path = tmp_path / name
    path.write_bytes(MADE[name](video_file("h264_mp4").read_bytes()))
    fails(path, backend)


@pytest.mark.parametrize("name", ["h264_mkv", "vp9_webm", "mpeg4_avi", "gif", "h264_fragmented_mp4", "mpeg4_mp4"])
@pytest.mark.parametrize("percent", [10, 50, 90, 99])
def test_every_container_that_says_its_length_betrays_a_cut(video_file, name, percent):
    data = truncated(video_file(name).read_bytes(), percent)
    if name == "h264_fragmented_mp4" and percent == 99:
        # Only the random access index after the last frame is cut.
        assert decode_frames(data, [39])[1].num_frames == 40
    else:
        fails(data)


@pytest.mark.parametrize("name", ["h264_ts", "mpeg2_ts", "mpeg2_mpg", "h264_flv"])
@pytest.mark.parametrize("percent", [30, 60, 90])
def test_what_is_left_of_a_stream_is_an_error_or_its_first_frames(video_file, name, percent):
    data = truncated(video_file(name).read_bytes(), percent)
    try:
        frames, info = decode_frames(data, lambda info: range(info.num_frames))
    except VideoDecodeError:
        return
    assert 0 < info.num_frames < 40
    # A cut inside the last picture of MPEG-2 shows in its last rows only.
    assert [read_index(frame.numpy()) for frame in frames[:-1]] == list(range(info.num_frames - 1))


@pytest.mark.parametrize("task", [probe_video, lambda path: list(stream_frames(path))])
def test_probing_and_streaming_raise_the_same_error(tmp_path, task):
    path = tmp_path / "text.mp4"
    path.write_text("This is not a video.")
    with pytest.raises(VideoDecodeError, match=r"text\.mp4.*pyav.*not a readable video"):
        task(path)


def test_paths_that_are_no_files_are_named(tmp_path):
    os.mkfifo(tmp_path / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mp4"))
        assert fails(tmp_path / "fifo.mp4").reason == "it is a FIFO, not a regular file"
        assert fails(tmp_path / "socket.mp4").reason == "it is a socket, not a regular file"
    assert fails(tmp_path).reason == "it is a folder, not a regular file"
    assert fails("/dev/zero").reason == "it is a character device, not a regular file"
    assert fails(tmp_path / "missing.mp4").reason == NO_SUCH_FILE
    assert "null" in fails("a\0b.mp4").reason
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    assert "symbolic links" in fails(tmp_path / "loop.mp4").reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_named(video_file, tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(video_file("h264_mp4").read_bytes())
    path.chmod(0)
    assert fails(path).reason == "Permission denied"


def test_a_file_that_cannot_be_read_after_it_was_checked_is_named(video_file, tmp_path, monkeypatch):
    """As an unreadable file, also for root: the decoding process finds nothing at the path."""
    path = tmp_path / "gone.mp4"
    path.write_bytes(video_file("h264_mp4").read_bytes())
    real_stat = os.stat

    def stat_and_remove(target, *args, **options):
        status = real_stat(target, *args, **options)
        if str(target) == str(path):
            path.unlink()
        return status

    monkeypatch.setattr(os, "stat", stat_and_remove)
    assert fails(path).reason == NO_SUCH_FILE


def test_a_file_that_is_swapped_after_it_was_checked_is_not_read(video_file, tmp_path, monkeypatch):
    path, other = tmp_path / "clip.mp4", tmp_path / "other.mp4"
    for target in (path, other):
        target.write_bytes(video_file("h264_mp4").read_bytes())
    real_stat = os.stat

    def stat_and_swap(target, *args, **options):
        status = real_stat(target, *args, **options)
        if str(target) == str(path) and other.exists():
            os.replace(other, path)
        return status

    monkeypatch.setattr(os, "stat", stat_and_swap)
    assert "replaced by another file" in fails(path).reason


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["ffconcat", "hls", "hls_http", "concat_protocol", "sdp", "dash"])
def test_a_playlist_opens_no_other_file_and_no_socket(video_file, tmp_path, kind, backend):
    needs_backend(backend)
    target = video_file("h264_ts")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        web = f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts"
        text = {
            "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{target}\n#EXT-X-ENDLIST\n",
            "hls_http": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{web}\n#EXT-X-ENDLIST\n",
            "concat_protocol": f"concat:{target}|{target}",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n",
            "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            f"<AdaptationSet><Representation id='1'><BaseURL>{web}</BaseURL></Representation></AdaptationSet>"
            "</Period></MPD>",
        }[kind]
        path = tmp_path / "playlist.mp4"
        path.write_text(text)
        fails(path, backend)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_a_video_that_another_decoder_takes_for_a_playlist_opens_no_socket(video_file, tmp_path, kind, backend):
    """One FFmpeg takes whatever begins as a playlist for one, another finds the MPEG stream behind it."""
    needs_backend(backend)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        web = f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{web}\n#EXT-X-ENDLIST\n"
        path = tmp_path / "clip.mpg"
        path.write_bytes(playlist.encode() + video_file("mpeg2_mpg").read_bytes())
        with contextlib.suppress(VideoDecodeError):
            decode_frames(path if kind == "path" else path.read_bytes(), [0, 5], backend=backend)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("url", ["concat:a.mp4|b.mp4", "file:a.mp4", "pipe:0", "cache:a.mp4", "subfile,,start,0,,:a"])
def test_a_string_is_a_path_and_never_a_protocol(url):
    assert fails(url).reason == NO_SUCH_FILE


@pytest.mark.parametrize(
    "text",
    [
        "async:a.mp4",
        "crypto:a.mp4",
        "data:video/mp4;base64,AAAA",
        "fd:0",
        "ffrtmpcrypt:a",
        "lavfi:color",
        "concatf:a.txt",
        "tcp:127.0.0.1:80",
        "udp:127.0.0.1:80",
        "rtmp:127.0.0.1",
        "frame_%03d.png",
        "*.mp4",
        "/dev/null",
        "/dev/stdin",
        "/proc/self/mem",
        "/proc/self/environ",
        "/proc/kmsg",
        "-",
        "",
        " ",
        "a" * 5000,
        "a/" * 3000,
        "clip.mp4\n",
        "\udcff.mp4",
        "\u202egpm.4pm",
        "\0",
    ],
)
def test_a_string_that_is_no_video_s_path_is_one_error(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fails(text)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x.mp4", "https://example.com/x.mp4", "file:///etc/passwd", "rtsp://h/x"]
)
def test_urls_are_off_unless_asked_for(url):
    assert "URLs are not fetched unless" in fails(url).reason


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_frame_size_that_changes_is_an_error(tmp_path, backend):
    """Two program streams, one after the other."""
    needs_backend(backend)
    parts = []
    for width, height in ((96, 72), (128, 96)):
        kind = VideoKind(".mpg", "mpeg2video", {"g": "12"}, width=width, height=height, bit_rate=600_000)
        parts.append(render_video(tmp_path / f"{width}.mpg", kind, num_frames=12).read_bytes())
    path = tmp_path / "both.mpg"
    path.write_bytes(b"".join(parts))
    error = fails(path, backend)
    if backend == "auto":
        assert "frame size changes from (96, 72) to (128, 96)" in error.reason


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_frame_size_that_changes_in_an_indexed_file_is_an_error(tmp_path, backend):
    needs_backend(backend)
    path = tmp_path / "both.mkv"
    sources = []
    for width, height in ((96, 72), (128, 96)):
        kind = replace(VIDEO_KINDS["vp9_webm"], width=width, height=height)
        sources.append(render_video(tmp_path / f"{width}.webm", kind, num_frames=8))
    with av.open(str(path), "w") as target, av.open(str(sources[0])) as first, av.open(str(sources[1])) as second:
        stream = target.add_stream_from_template(first.streams.video[0])
        for place, source in enumerate((first, second)):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts = packet.dts = packet.pts + 320 * place
                    packet.stream = stream
                    target.mux(packet)
    fails(path, backend, indices=[2, 12])


def test_a_frame_of_8192_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8176, 4320, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(8176, 4320, "yuv420p")))
        container.mux(stream.encode(None))
    assert "max_pixels" in fails(path).reason


def test_bytes_and_file_objects_are_named_by_their_kind():
    assert fails(b"not a video").file == "<11 bytes>"
    assert fails(io.BytesIO(b"not a video")).file == "<BytesIO>"
    closed = io.BytesIO(b"x")
    closed.close()
    assert "reading the file object failed" in fails(closed).reason


def test_a_file_object_is_what_it_gives_and_what_was_written_to_it(tmp_path, video_file):
    content = video_file("h264_ts").read_bytes()
    with gzip.open(tmp_path / "clip.ts.gz", "wb") as packed:
        packed.write(content)
    with gzip.open(tmp_path / "clip.ts.gz") as unpacked:
        assert probe_video(unpacked) == probe_video(content)
    with tempfile.NamedTemporaryFile(dir=tmp_path) as unwritten:
        unwritten.write(content[:-1000])
        unwritten.write(content[-1000:])
        assert probe_video(unwritten) == probe_video(content)


def test_a_file_object_that_does_not_know_whether_it_can_be_read_again_is_read(video_file):
    """As members of tar streams before Python 3.12."""

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            raise AttributeError("'_Stream' object has no attribute 'seekable'")

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("seek")

    path = video_file("h264_ts")
    assert probe_video(Stream(path.read_bytes())) == probe_video(path)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(path, "clip.ts")
    with tarfile.open(fileobj=io.BytesIO(packed.getvalue()), mode="r|") as archive:
        assert probe_video(archive.extractfile(archive.next())) == probe_video(path)


def test_errors_leave_no_thread_and_no_open_file_behind(tmp_path, video_file):
    path = tmp_path / "damaged.mp4"
    path.write_bytes(flipped(video_file("h264_mp4").read_bytes()))
    fails(path)
    time.sleep(0.1)
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    for _ in range(20):
        fails(path)
    time.sleep(0.1)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.parametrize("name", sorted(set(VIDEO_KINDS) - {"alpha_mov"}))
def test_a_hole_in_any_kind_of_file_ends_in_frames_or_in_the_error(video_file, name):
    data = holed(video_file(name).read_bytes())
    with contextlib.suppress(VideoDecodeError):
        decode_frames(data, lambda info: range(info.num_frames))
    assert decode_frames(video_file("h264_mp4"), [3])[1].num_frames == 40


def test_damaged_files_leave_nothing_behind_in_either_process(video_file, no_warm_process):
    generator = np.random.default_rng(0)
    data = video_file("h264_mp4").read_bytes()
    decode_frames(data, [3])
    (decoder,) = (process._process.pid for process in client._idle)

    def held() -> dict[str, int]:
        return {
            f"{kind} of {pid}": len(os.listdir(f"/proc/{pid}/{kind}"))
            for pid in (os.getpid(), decoder)
            for kind in ("fd", "task")
        }

    before = held()
    for _ in range(80):
        damaged = bytearray(data)
        for place in generator.integers(0, len(data), 20):
            damaged[place] ^= 1 << int(generator.integers(8))
        with contextlib.suppress(VideoDecodeError):
            decode_frames(bytes(damaged), lambda info: range(info.num_frames))
    decode_frames(data, [3])
    assert [process._process.pid for process in client._idle] == [decoder]
    # The decoder tidies up after its answer; after the first one it may not have been done with that yet.
    deadline = time.monotonic() + 10
    while any(held()[name] > number for name, number in before.items()) and time.monotonic() < deadline:
        time.sleep(0.01)
    after = held()
    assert {name: max(number, before[name]) for name, number in after.items()} == before


def test_a_path_that_changes_all_the_time_gives_one_of_its_videos_or_the_error(video_file, tmp_path):
    """Two videos, a FIFO and an endless device take turns behind a link."""
    os.mkfifo(tmp_path / "fifo")
    targets = [video_file("h264_mp4"), video_file("mpeg4_mp4"), tmp_path / "fifo", Path("/dev/zero")]
    link, is_over = tmp_path / "clip.mp4", threading.Event()
    link.symlink_to(targets[0])

    def swap():
        while not is_over.is_set():
            for place, target in enumerate(targets):
                other = tmp_path / f"next{place}"
                other.symlink_to(target)
                other.replace(link)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        shown, reasons = [], set()
        while len(shown) < 5:
            try:
                shown.append(read_index(decode_frames(link, [7])[0][0].numpy()))
            except VideoDecodeError as error:
                reasons.add(error.reason)
    finally:
        is_over.set()
        swapper.join()
    assert shown == [7] * 5
    assert all("not a regular file" in reason or "replaced by another file" in reason for reason in reasons)
