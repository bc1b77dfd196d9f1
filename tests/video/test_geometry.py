"""How a stored picture is held, mirrored and stretched, against the definition of each, point by point."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from PIL import Image

from froster_hf.video.backends import BACKENDS
from froster_hf.video.decoding import VideoDecodeError, VideoLimits, decode_frames, stream_frames
from froster_hf.video.geometry import square_size
from froster_hf.video.types import UnreadableVideoError
from froster_hf.video.verification import SAME_FRAME_TOLERANCE
from tests.fixtures.backends import VERIFIED, needs_backend
from tests.fixtures.videos import (
    VIDEO_KINDS,
    VideoKind,
    draw_frame,
    read_index,
    render_video,
    with_display_matrix,
    with_packets,
)

# a, b, c, d of a display matrix: the stored point (x, y) is shown at (a x + c y, b x + d y).
POSITIONS = {
    (1, 0, 0, 1): (0, False),
    (0, -1, 1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, 1, -1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),
    (0, -1, -1, 0): (90, True),
    (1, 0, 0, -1): (180, True),
    (0, 1, 1, 0): (270, True),
}


def placed(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """(3, h, w) with every point where the matrix puts it."""
    a, b, c, d = matrix
    y, x = np.mgrid[: picture.shape[1], : picture.shape[2]]
    right, down = a * x + c * y, b * x + d * y
    right, down = right - right.min(), down - down.min()
    out = np.zeros((3, down.max() + 1, right.max() + 1), dtype=picture.dtype)
    out[:, down, right] = picture
    return out


@pytest.mark.parametrize("matrix", POSITIONS)
def test_all_eight_positions_of_a_display_matrix_are_obeyed(video_file, matrix):
    data = video_file("h264_mp4").read_bytes()
    stored, _ = decode_frames(data, [21])
    frames, info = decode_frames(with_display_matrix(data, matrix), [21])
    expected = placed(stored[0].numpy(), matrix)
    assert np.array_equal(frames[0].numpy(), expected)
    assert (info.height, info.width) == expected.shape[1:]
    assert (info.rotation, info.is_mirrored) == POSITIONS[matrix]
    assert [
        np.array_equal(f.frame.numpy(), expected) for f in stream_frames(with_display_matrix(data, matrix), [0.85])
    ]


@pytest.mark.parametrize("scale", [-2, 3, 0])
def test_a_matrix_that_also_scales_turns_no_more_than_it_says(video_file, scale):
    data = video_file("h264_mp4").read_bytes()
    _, info = decode_frames(with_display_matrix(data, (scale, 0, 0, scale)), [0])
    assert (info.rotation, info.is_mirrored, info.width) == (180 if scale < 0 else 0, False, 96)


@pytest.mark.parametrize("backend", VERIFIED)
def test_a_backend_that_turns_a_mirrored_video_around_is_refused(video_file, backend):
    needs_backend(backend)
    data = with_display_matrix(video_file("h264_mp4").read_bytes(), (-1, 0, 0, 1))
    try:
        frames, _ = decode_frames(data, [21], backend=backend)
    except VideoDecodeError:
        return
    assert read_index(frames[0].numpy()[:, :, ::-1]) == 21


@pytest.mark.parametrize(
    ("name", "aspect", "size"),
    [
        ("h264_mp4", Fraction(4, 3), (128, 72)),
        ("h264_mp4", Fraction(1, 2), (96, 144)),
        ("h264_mkv", Fraction(4, 3), (128, 72)),
        # 16:9, one of the few shapes of picture that MPEG-2 knows.
        ("mpeg2_ts", Fraction(4, 3), (128, 72)),
        # Stored 72 wide and 96 high.
        ("h264_rotated_90_mp4", Fraction(2, 1), (96, 144)),
        ("h264_rotated_90_mp4", Fraction(1, 2), (192, 72)),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_that_are_not_square_are_stretched(tmp_path, backend, name, aspect, size):
    needs_backend(backend)
    kind = replace(VIDEO_KINDS[name], pixel_aspect=aspect)
    path = render_video(tmp_path / f"clip{kind.suffix}", kind, num_frames=16)
    try:
        frames, info = decode_frames(path, [3, 12], backend=backend)
    except VideoDecodeError:
        assert (backend, name) in {("decord", "mpeg2_ts"), ("torchcodec", "mpeg2_ts")}
        return
    assert (info.width, info.height) == frames.shape[:1:-1] == size
    assert [read_index(frame.numpy()) for frame in frames] == [3, 12]


def followed_by(second: Path, packets: list[av.Packet]) -> list[av.Packet]:
    """A video's packets, and those of a second one behind them."""
    with av.open(str(second)) as container:
        following = [packet for packet in container.demux(video=0) if packet.size]
    length = packets[-1].dts + packets[-1].dts - packets[-2].dts - following[0].dts
    for packet in following:
        packet.pts, packet.dts = packet.pts + length, packet.dts + length
    return [*packets, *following]


@pytest.mark.parametrize(
    ("other", "changes"), [(Fraction(64, 45), True), (Fraction(16, 15), False), (Fraction(12, 11), False)]
)
def test_pixels_whose_shape_changes_are_an_error(tmp_path, other, changes):
    """As in recordings of broadcasts in which 4:3 follows 16:9; broadcasters count each in two ways."""
    parts = []
    for number, aspect in enumerate((Fraction(16, 15), other)):
        kind = VideoKind(
            ".mpg", "mpeg2video", {"g": "12"}, width=720, height=576, bit_rate=600_000, pixel_aspect=aspect
        )
        parts.append(render_video(tmp_path / f"{number}.mpg", kind, num_frames=6))
    first, second = parts

    path = with_packets(first, tmp_path / "both.ts", partial(followed_by, second))
    if changes:
        with pytest.raises(VideoDecodeError, match=r"shape of its pixels changes from 16/15 to 64/45 near frame \d"):
            decode_frames(path, [0])
    else:
        assert decode_frames(path, [0, 11])[0].shape[2:] == (576, 768)


@pytest.mark.parametrize("states", [False, True])
def test_a_shape_that_changes_within_a_stream_is_an_error_where_mp4_states_none(tmp_path, states):
    encoded = []
    for aspect in (1, 2):
        options = {"x264-params": f"bframes=0:repeat-headers=1:annexb=0:sar={aspect}/1"}
        kind = VideoKind(".mp4", "libx264", options)
        encoded.append(render_video(tmp_path / f"{aspect}.mp4", kind, num_frames=6))
    first, second = encoded

    path = with_packets(first, tmp_path / "both.mp4", partial(followed_by, second))
    data = path.read_bytes()
    # Players go by the stream where the container says nothing.
    path.write_bytes(data if states else data.replace(b"pasp", b"free"))
    if states:
        assert decode_frames(path, [0, 11])[0].shape[2:] == (72, 96)
        return
    for indices in ([0, 11], [11], [0]):
        with pytest.raises(VideoDecodeError, match=r"shape of its pixels changes from 1 to 2 near frame \d"):
            decode_frames(path, indices)


def motion_jpeg(path: Path, orientations: Sequence[int | None]) -> Path:
    """A video of JPEGs as cameras write them, each with EXIF that names the camera, most with an orientation."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuvj420p"
        for index, orientation in enumerate(orientations):
            exif = Image.Exif()
            exif[0x010F] = "camera"
            if orientation is not None:
                exif[0x0112] = orientation
            picture = io.BytesIO()
            Image.fromarray(draw_frame(index)).save(picture, "JPEG", quality=95, exif=exif)
            packet = av.Packet(picture.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream = Fraction(1, 25), stream
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mov", ".avi", ".mkv"])
@pytest.mark.parametrize(("orientation", "rotation"), [(None, 0), (1, 0), (3, 180), (6, 270)])
def test_pictures_of_motion_jpeg_are_turned_as_their_exif_says(tmp_path, suffix, orientation, rotation):
    frames, info = decode_frames(motion_jpeg(tmp_path / f"clip{suffix}", [orientation] * 4), [0, 3])
    assert info.rotation == rotation
    stored = np.rot90(frames.numpy(), -(rotation // 90), axes=(2, 3))
    assert [read_index(frame) for frame in stored] == [0, 3]


def test_the_callers_pyav_is_left_as_it_is(tmp_path):
    decode_frames(motion_jpeg(tmp_path / "clip.mov", [None]), [0])
    with pytest.raises(ValueError, match="not a valid"):
        Type(9999)


@pytest.mark.parametrize("suffix", [".mov", ".avi", ".mkv"])
@pytest.mark.parametrize(("first", "second"), [(None, 3), (6, 1), (6, None), (3, 6)])
def test_pictures_that_are_turned_another_way_than_the_first_are_an_error(tmp_path, suffix, first, second):
    path = motion_jpeg(tmp_path / f"clip{suffix}", [first] * 3 + [second] * 3)
    with pytest.raises(VideoDecodeError, match="frame 3 is turned another way than the first"):
        decode_frames(path, [0, 5])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("name", "header", "end"), [("h264_mp4", b"\x06", "010" + "0" + "1"), ("hevc_mp4", b"\x4e\x01", "1")]
)
@pytest.mark.parametrize("turned", [{20}, {0}, {0, 20}])
def test_pictures_that_a_message_turns_are_held_as_the_first_whatever_is_asked_for(
    video_file, tmp_path, suffix, name, header, end, turned
):
    """Whether or not the picture with the message is decoded; FFmpeg gives no angle to those behind it."""
    # Not canceled, no flips, a quarter turn; in H.264 until it is canceled; no extension or so.
    bits = "0" + "00" + f"{0x4000:016b}" + end
    message = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    unit = header + bytes([47, len(message)]) + message + b"\x80"

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        changed = []
        for index, packet in enumerate(packets):
            inserted = len(unit).to_bytes(4, "big") + unit if index in turned else b""
            changed.append(av.Packet(inserted + bytes(packet)))
            changed[-1].pts, changed[-1].dts, changed[-1].time_base = packet.pts, packet.dts, packet.time_base
            changed[-1].is_keyframe = packet.is_keyframe
        return changed

    path = with_packets(video_file(name), tmp_path / f"clip{suffix}", change)
    for wanted in (list(range(40)), [0, 39], [39], [20]):
        if 0 in turned:
            assert decode_frames(path, wanted)[0].shape == (len(wanted), 3, 96, 72)
        else:
            with pytest.raises(VideoDecodeError, match=r"frame \d+ is turned another way than the first"):
                decode_frames(path, wanted)


@pytest.mark.parametrize("backend", VERIFIED)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_fields_of_h265_are_an_error(tmp_path, suffix, backend):
    needs_backend(backend)
    options = {"x265-params": "interlace=tff:log-level=none"}
    path = render_video(tmp_path / f"clip{suffix}", VideoKind(suffix, "libx265", options), num_frames=4)
    with pytest.raises(VideoDecodeError, match=r"stored as fields, .*convert it to progressive video"):
        decode_frames(path, [1], backend=backend)


def cropped(source: Path, target: Path, name: str, **sides: int) -> Path:
    """A video whose stream asks for a cropping, as lossless tools write it; its pictures are not encoded again."""
    words = ":".join(f"crop_{side}={pixels}" for side, pixels in sides.items())
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        metadata = av.bitstream.BitStreamFilterContext(f"{name}_metadata={words}", stream, copy)
        for packet in read.demux(stream):
            for changed in metadata.filter(packet if packet.size else None):
                changed.stream = copy
                written.mux(changed)
    return target


@pytest.mark.parametrize(("kind", "name"), [("h264_mp4", "h264"), ("h264_ts", "h264"), ("hevc_mp4", "hevc")])
def test_what_a_stream_hides_at_any_side_is_not_shown(video_file, tmp_path, kind, name):
    source = video_file(kind)
    path = cropped(source, tmp_path / f"clip{source.suffix}", name, left=34, right=4, top=6)
    frames, info = decode_frames(path, [0, 21])
    assert (info.height, info.width) == (66, 58)
    assert frames.equal(decode_frames(source, [0, 21])[0][..., 6:, 34:92])


@pytest.mark.parametrize("backend", VERIFIED)
def test_no_backend_shows_what_a_stream_hides(video_file, tmp_path, backend):
    needs_backend(backend)
    path = cropped(video_file("h264_mp4"), tmp_path / "clip.mp4", "h264", left=34)
    expected, _ = decode_frames(path, [21])
    frames = expected
    with contextlib.suppress(VideoDecodeError):
        frames, _ = decode_frames(path, [21], backend=backend)
    assert frames.shape == expected.shape
    assert (frames.int() - expected.int()).abs().float().mean() <= SAME_FRAME_TOLERANCE


def test_the_square_size_stretches_the_short_side_and_leaves_rounding_alone():
    limits = VideoLimits()
    assert square_size((720, 576), Fraction(64, 45), limits) == (1024, 576)
    assert square_size((720, 480), Fraction(8, 9), limits) == (720, 540)
    for unknown in (None, Fraction(0), Fraction(1), Fraction(-4, 3), Fraction(1279, 1280)):
        assert square_size((720, 576), unknown, limits) == (720, 576)


@pytest.mark.parametrize("aspect", [Fraction(2**31 - 1), Fraction(1, 2**31 - 1)])
def test_a_stretch_beyond_the_limit_is_refused(aspect):
    with pytest.raises(UnreadableVideoError, match="max_pixels"):
        square_size((720, 576), aspect, VideoLimits())


def test_a_frame_beyond_the_limit_is_refused_with_what_to_do(video_file):
    path = video_file("h264_mp4")
    with pytest.raises(VideoDecodeError) as caught:
        decode_frames(path, [0], limits=VideoLimits(max_pixels=96 * 72 - 1))
    for part in ("96 x 72 pixels", "VideoLimits.max_pixels", "6911", "'max_pixels': 6912", "--max-pixels 6912"):
        assert part in str(caught.value)
    assert decode_frames(path, [0], limits=VideoLimits(max_pixels=6912))[0].shape == (1, 3, 72, 96)


def test_bytes_and_files_are_held_alike(video_file):
    data = with_display_matrix(video_file("h264_mp4").read_bytes(), (0, 1, 1, 0))
    assert decode_frames(io.BytesIO(data), [4])[0].equal(decode_frames(data, [4])[0])


@pytest.mark.parametrize("pixel_aspect", [None, Fraction(2, 1)])
def test_colors_that_cannot_be_converted_are_said_by_their_matrix(tmp_path, pixel_aspect):
    path = tmp_path / "ycgco.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.codec_context.colorspace = 8
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(draw_frame(index)).reformat(format="yuv420p")
            frame.colorspace = 8
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    message = r"colors cannot be converted: yuv420p by the matrix 8 of ITU-T H\.273; read are .* encode it again"
    with pytest.raises(VideoDecodeError, match=message):
        decode_frames(path, [0, 2])
    with pytest.raises(VideoDecodeError, match=message):
        next(stream_frames(path))
