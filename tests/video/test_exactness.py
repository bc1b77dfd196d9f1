"""The exactness matrix: backend x kind of file x sampling pattern, every frame named by its own picture.

A backend may refuse a file; it may never return another frame. What each refuses is written down here, so that a
change shows. The oracle of the pixels is PyAV reading the file plainly, from the first frame to the last.
"""

import av
import numpy as np
import pytest

from froster_hf.video.backends import BACKENDS
from froster_hf.video.decoding import VideoDecodeError, decode_frames, probe_video, stream_frames
from froster_hf.video.packets import ONE_THREAD_PIXELS
from tests.fixtures.backends import needs_backend
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.videos import VIDEO_KINDS, frame_times, read_index

NUM_FRAMES = 40
PATTERNS = {
    "uniform": [2, 7, 12, 17, 22, 27, 32, 37],
    "dense window": list(range(17, 33, 2)),
    "random with repeats": [31, 4, 4, 39, 0, 25, 13, 31],
    "last": [39],
    "all": list(range(NUM_FRAMES)),
}
_AVI = {name for name in VIDEO_KINDS if name.endswith("_avi")}
_MPEG = {"h264_ts", "mpeg2_ts"}
REFUSED = {
    "auto": set(),
    "pyav": set(),
    "decord": _MPEG | {"av1_mp4", "gif"},
    "torchcodec": _AVI | _MPEG | {"mpeg2_mpg", "wmv_asf"},
}
# torchcodec fails with an error at key frames that do not stand alone, depending on the build of FFmpeg it finds.
MAY_BE_REFUSED = {"torchcodec": {"h264_intra_refresh_mp4", "h264_open_gop_mp4"}}


def upright_frames(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)) for frame in frames]


def as_shown(frame: av.VideoFrame) -> np.ndarray:
    """The pixels of a frame of the real videos; those of the carphone are 128:117, as its encoder wrote them."""
    if (frame.width, frame.height) != (176, 144):
        return frame.to_ndarray(format="rgb24")
    return frame.to_ndarray(format="rgb24", width=round(176 * 128 / 117), interpolation="BICUBIC")


def frames_around(path, indices, num_frames) -> dict[int, np.ndarray]:
    """The frames at `indices` and their two neighbors on both sides."""
    wanted = {index + step for index in indices for step in range(-2, 3)} & set(range(num_frames))
    with av.open(str(path)) as container:
        decoded = enumerate(container.decode(video=0))
        return {index: as_shown(frame).astype(np.int16) for index, frame in decoded if index in wanted}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VIDEO_KINDS)
def test_every_backend_returns_the_sampled_frames_or_refuses(video_file, backend, name):
    needs_backend(backend)
    path = video_file(name)
    oracle = upright_frames(path)
    assert [read_index(frame) for frame in oracle] == list(range(NUM_FRAMES))
    for pattern, indices in PATTERNS.items():
        if pattern == "all" and backend != "pyav":
            continue
        try:
            frames, info = decode_frames(path, indices, backend=backend)
        except VideoDecodeError:
            assert name in REFUSED[backend] | MAY_BE_REFUSED.get(backend, set()), (pattern, name)
            continue
        assert name not in REFUSED[backend]
        assert [read_index(frame.numpy()) for frame in frames] == indices, pattern
        assert info.num_frames == NUM_FRAMES
        assert (info.height, info.width) == oracle[0].shape[:2] == (VIDEO_KINDS[name].height, VIDEO_KINDS[name].width)
        expected = np.stack([oracle[index] for index in indices]).astype(np.int16)
        difference = np.abs(frames.permute(0, 2, 3, 1).numpy() - expected)
        assert difference.max() == 0 if backend == "pyav" else difference.mean() < 3, pattern


@pytest.mark.parametrize("name", VIDEO_KINDS)
def test_auto_reads_every_kind_of_file_and_its_times(video_file, name):
    path, kind = video_file(name), VIDEO_KINDS[name]
    times = [float(time) for time in frame_times(kind, NUM_FRAMES)]
    # GIF counts time in hundredths of a second, FLV and ASF in thousandths.
    tolerance = 0.011 if name == "gif" else 0.0011
    streamed = [
        (frame.frame_index, frame.time_seconds, read_index(frame.frame.numpy())) for frame in stream_frames(path)
    ]
    assert [index for index, _, _ in streamed] == [shown for _, _, shown in streamed] == list(range(NUM_FRAMES))
    assert [time for _, time, _ in streamed] == pytest.approx(times, abs=tolerance)
    info = probe_video(path)
    assert info == decode_frames(path, [3])[1]
    assert info.duration_seconds == pytest.approx(times[-1] + 1 / kind.fps, abs=0.05)
    assert info.fps == pytest.approx(NUM_FRAMES / info.duration_seconds)


def test_files_are_decoded_with_one_thread_and_with_several():
    assert {kind.width * kind.height > ONE_THREAD_PIXELS for kind in VIDEO_KINDS.values()} == {False, True}


def test_the_open_gop_file_has_pictures_that_need_the_previous_group(video_file):
    with av.open(str(video_file("h264_open_gop_mp4"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [place for place, packet in enumerate(packets) if packet.is_keyframe]
    assert any(packets[key + 1].pts < packets[key].pts for key in keys[1:-1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_before_the_edit_list_are_not_counted(video_file, tmp_path, backend):
    """A clip cut without encoding again: the frames from its key frame to the cut are in the file, but not shown."""
    needs_backend(backend)
    path = tmp_path / "cut.mp4"
    with av.open(str(video_file("h264_mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = int(7 / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    indices = [0, 3, 20, 32]
    try:
        frames, info = decode_frames(path, indices, backend=backend)
    except VideoDecodeError:
        assert backend != "pyav"
        return
    assert info.num_frames == 33
    assert [read_index(frame.numpy()) for frame in frames] == [index + 7 for index in indices]
    assert probe_video(path).num_frames == 33
    assert [frame.frame_index for frame in stream_frames(path)] == list(range(33))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos_are_read_exactly(backend, name):
    needs_backend(backend)
    path = REAL_VIDEOS[name]
    num_frames = {"bikes": 250, "bigbuckbunny": 132, "carphone_pristine": 120}[name]
    indices = [int((step + 0.5) * num_frames / 8) for step in range(8)]
    frames, info = decode_frames(path, indices, backend=backend)
    assert info.num_frames == num_frames
    oracle = frames_around(path, indices, num_frames)
    for frame, index in zip(frames.permute(0, 2, 3, 1).numpy(), indices):
        near = [other for other in range(index - 2, index + 3) if other in oracle]
        distances = {other: float(np.abs(frame - oracle[other]).mean()) for other in near}
        assert distances[index] == min(distances.values())
        assert distances[index] == 0 if backend == "pyav" else distances[index] < 3


@pytest.mark.parametrize("name", ["h264_open_gop_mp4", "mpeg4_avi"])
def test_repeated_reads_give_one_result(video_file, name):
    results = {decode_frames(video_file(name), [5, 21, 34])[0].numpy().tobytes() for _ in range(30)}
    assert len(results) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h264_open_gop_mp4", "hevc_mp4", "mpeg4_avi", "vp9_webm"])
def test_thousands_of_reads_give_one_result(video_file, name):
    results = {decode_frames(video_file(name), [5, 21, 34])[0].numpy().tobytes() for _ in range(2500)}
    assert len(results) == 1
