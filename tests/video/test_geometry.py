"""How a stored picture is held, mirrored and stretched, against the definition of each, point by point."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from froster_hf.video.backends import BACKENDS
from froster_hf.video.decoding import VideoDecodeError, VideoLimits, decode_frames, stream_frames
from froster_hf.video.geometry import square_size
from froster_hf.video.types import UnreadableVideoError
from tests.fixtures.backends import VERIFIED, needs_backend
from tests.fixtures.videos import VIDEO_KINDS, read_index, render_video, with_display_matrix

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
