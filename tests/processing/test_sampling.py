"""The index arithmetic, against lists worked out by hand."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from froster_hf.processing.sampling_froster import SAMPLINGS, crop_offsets, sample_frame_indices


def test_uniform_takes_the_center_of_equal_segments():
    assert sample_frame_indices(80, 8) == [[5, 15, 25, 35, 45, 55, 65, 75]]
    assert sample_frame_indices(250, 8) == [[15, 46, 78, 109, 140, 171, 203, 234]]
    assert sample_frame_indices(10, 4) == [[1, 3, 6, 8]]


def test_uniform_views_take_different_points_of_the_segments():
    assert sample_frame_indices(80, 4, num_views=3) == [[5, 25, 45, 65], [10, 30, 50, 70], [15, 35, 55, 75]]


def test_uniform_on_short_clips_repeats_frames_in_order():
    assert sample_frame_indices(1, 8) == [[0] * 8]
    assert sample_frame_indices(2, 8) == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert sample_frame_indices(5, 8) == [[0, 0, 1, 2, 2, 3, 4, 4]]


def test_dense_spans_a_window_of_frames_times_stride_at_30_fps():
    # window 128, start floor((300 - 128) / 2) = 86, steps of 127 / 7
    assert sample_frame_indices(300, 8, sampling="dense", fps=30.0) == [[86, 104, 122, 140, 158, 176, 194, 213]]


def test_dense_views_start_at_multiples_of_the_floored_spacing():
    # floor((301 - 128) / 2) = 86; the third window starts at 172, not at 173
    views = sample_frame_indices(301, 8, sampling="dense", fps=30.0, num_views=3)
    assert [view[0] for view in views] == [0, 86, 172]
    assert views[0] == [0, 18, 36, 54, 72, 90, 108, 127]
    assert views[2][-1] == 172 + 127


def test_dense_window_scales_with_the_frame_rate():
    at_15_fps = sample_frame_indices(300, 8, sampling="dense", fps=15.0)[0]
    assert (at_15_fps[0], at_15_fps[-1]) == (118, 118 + 63)
    # 25 fps: window 106.67, start floor(193.33 / 2) = 96, end 96 + 105.67
    at_25_fps = sample_frame_indices(300, 8, sampling="dense", fps=25.0)[0]
    assert (at_25_fps[0], at_25_fps[-1]) == (96, 201)


def test_dense_of_an_unknown_frame_rate_counts_as_30_fps():
    known = sample_frame_indices(300, 8, sampling="dense", fps=30.0)
    assert sample_frame_indices(300, 8, sampling="dense", fps=None) == known


def test_dense_repeats_the_last_frame_of_a_clip_shorter_than_the_window():
    # 22 frames, as HMDB-51 has them: steps of 127 / 7 leave the clip after the second frame
    assert sample_frame_indices(22, 8, sampling="dense", fps=30.0) == [[0, 18, 21, 21, 21, 21, 21, 21]]
    assert sample_frame_indices(1, 8, sampling="dense", fps=30.0, num_views=3) == [[0] * 8] * 3


def test_dense_hits_whole_numbers_exactly():
    # 16 frames over a window of 61: steps of exactly 4
    fps = 30.0 * 61 / (16 * 4)
    assert sample_frame_indices(61, 16, sampling="dense", fps=fps, frame_stride=4) == [list(range(0, 61, 4))]


def test_one_frame_of_a_dense_window_is_its_first():
    assert sample_frame_indices(100, 1, sampling="dense", fps=30.0) == [[42]]


@pytest.mark.parametrize("num_video_frames", [1, 3, 8, 22, 300])
def test_random_segments_stay_in_their_segments_and_follow_the_seed(num_video_frames):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return sample_frame_indices(num_video_frames, 8, sampling="random_segment", num_views=50, generator=generator)

    for view in draw(0):
        for segment, index in enumerate(view):
            assert segment * num_video_frames // 8 <= index <= (segment + 1) * num_video_frames / 8
            assert 0 <= index < num_video_frames
    assert draw(0) == draw(0)
    if num_video_frames == 300:
        assert draw(0) != draw(1)


def test_random_dense_windows_cover_the_whole_video_and_stay_inside():
    generator = torch.Generator().manual_seed(0)
    views = sample_frame_indices(200, 8, sampling="random_dense", fps=30.0, num_views=400, generator=generator)
    assert min(view[0] for view in views) == 0
    assert max(view[-1] for view in views) == 198
    assert all(126 <= view[-1] - view[0] <= 128 for view in views)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_video_frames": 0, "num_frames": 8}, "num_video_frames"),
        ({"num_video_frames": 9, "num_frames": 0}, "num_frames"),
        ({"num_video_frames": 9, "num_frames": 8, "num_views": 0}, "num_views"),
        ({"num_video_frames": 9, "num_frames": 8, "fps": 0.0}, "fps"),
        ({"num_video_frames": 9, "num_frames": 8, "fps": float("nan")}, "fps"),
        ({"num_video_frames": 9, "num_frames": 8, "sampling": "middle"}, "'uniform', 'dense'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    num_video_frames, num_frames = arguments.pop("num_video_frames"), arguments.pop("num_frames")
    with pytest.raises(ValueError, match=message):
        sample_frame_indices(num_video_frames, num_frames, **arguments)


def test_crops_are_spread_along_the_longer_side():
    assert crop_offsets(224, 299, 224) == [(0, 37)]
    assert crop_offsets(224, 300, 224, num_crops=3) == [(0, 0), (0, 38), (0, 76)]
    assert crop_offsets(300, 230, 224, num_crops=3) == [(0, 3), (38, 3), (76, 3)]
    with pytest.raises(ValueError, match="does not fit"):
        crop_offsets(200, 300, 224)


COUNTS = {
    "num_video_frames": st.integers(1, 100_000),
    "num_frames": st.integers(1, 64),
    "num_views": st.integers(1, 10),
}
OPTIONS = {
    **COUNTS,
    "sampling": st.sampled_from(sorted(SAMPLINGS)),
    "frame_stride": st.integers(1, 64),
    "fps": st.none() | st.floats(1e-3, 1e4),
    "seed": st.integers(0, 2**32),
}


@given(options=st.fixed_dictionaries(OPTIONS))
def test_sampled_indices_are_views_of_ascending_frames_of_the_video_and_no_matter_of_chance(options):
    def sample() -> list[list[int]]:
        rest = {name: value for name, value in options.items() if name not in ("num_video_frames", "seed")}
        generator = torch.Generator().manual_seed(options["seed"])
        return sample_frame_indices(options["num_video_frames"], generator=generator, **rest)

    views = sample()
    assert len(views) == options["num_views"]
    for view in views:
        assert len(view) == options["num_frames"]
        assert view == sorted(view)
        assert all(isinstance(index, int) and 0 <= index < options["num_video_frames"] for index in view)
    assert sample() == views


@given(**COUNTS)
def test_uniform_samples_one_frame_in_every_segment_symmetrically(num_video_frames, num_frames, num_views):
    views = sample_frame_indices(num_video_frames, num_frames, num_views=num_views)
    for view in views:
        for segment, index in enumerate(view):
            assert segment * num_video_frames // num_frames <= index <= (segment + 1) * num_video_frames / num_frames
    # Every view starts no earlier than the one before it.
    assert all(a <= b for first, second in itertools.pairwise(views) for a, b in zip(first, second))


@given(**COUNTS, stride=st.integers(1, 64))
def test_a_dense_view_spans_its_window_and_no_more(num_video_frames, num_frames, num_views, stride):
    views = sample_frame_indices(
        num_video_frames, num_frames, sampling="dense", frame_stride=stride, fps=30.0, num_views=num_views
    )
    for view in views:
        assert view[-1] - view[0] <= num_frames * stride - 1
        assert max(b - a for a, b in itertools.pairwise([*view, view[-1]])) <= 2 * stride
    assert [view[0] for view in views] == sorted(view[0] for view in views)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 512), st.integers(1, 12))
def test_crops_lie_inside_the_frame_evenly_along_its_longer_side(height, width, side, num_crops):
    if side > min(height, width):
        with pytest.raises(ValueError, match="does not fit"):
            crop_offsets(height, width, side, num_crops=num_crops)
        return
    offsets = crop_offsets(height, width, side, num_crops=num_crops)
    assert len(offsets) == num_crops
    for top, left in offsets:
        assert 0 <= top <= height - side
        assert 0 <= left <= width - side
    assert offsets == sorted(offsets)
    if num_crops > 1:
        along = [top if height > width else left for top, left in offsets]
        assert (along[0], along[-1]) == (0, max(height, width) - side)
        steps = [b - a for a, b in itertools.pairwise(along)]
        assert max(steps) - min(steps) <= 1


@given(
    st.dictionaries(
        st.sampled_from(["num_video_frames", "num_frames", "frame_stride", "num_views"]),
        st.integers(-5, 0),
        min_size=1,
    )
)
def test_counts_below_one_are_refused_by_name(wrong):
    options = {"num_video_frames": 10, "num_frames": 2, **wrong}
    with pytest.raises(ValueError, match=r"must be at least 1") as caught:
        sample_frame_indices(options.pop("num_video_frames"), **options)
    assert any(f"`{name}`" in str(caught.value) for name in wrong)
