"""What happens when: windows and segments against literal values, streams against whole videos, every file format."""

import csv
import json
import math
import tracemalloc
import weakref
from dataclasses import replace
from fractions import Fraction
from itertools import groupby, pairwise

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.texmanager import TexManager
from PIL import Image
from transformers import pipeline

import froster_hf  # noqa: F401
from froster_hf.modeling import configuration_froster
from froster_hf.pipeline import timeline_files, timeline_froster
from froster_hf.pipeline.live import live_timeline
from froster_hf.pipeline.timeline_files import COLORS, _color_labels, json_pieces, write_timeline
from froster_hf.pipeline.timeline_froster import (
    KEPT_LABELS,
    WINDOW_OPTIONS,
    SegmentFinder,
    Timeline,
    TimelineSegment,
    WindowScores,
    WindowStream,
    collect_segments,
    contrast_segments,
    iterate_windows,
    keep_best,
    plan_windows,
    smooth_scores,
    window_times,
)
from froster_hf.video.decoding import VideoDecodeError, VideoFrame, VideoInfo, decode_frames
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.fixtures.videos import VIDEO_KINDS, render_video

BIKES = REAL_VIDEOS["bikes"]
LABELS = ["riding a bike", "playing golf", "cooking"]


def in_order_of_labels(scores: WindowScores) -> torch.Tensor:
    """(n, K) of windows of which all scores are kept."""
    return torch.stack([scores.of(index) for index in range(scores.values.shape[1])], 1)


def smooth(scores: torch.Tensor, windows, seconds: float) -> torch.Tensor:
    found = list(smooth_scores(zip(windows, scores), seconds))
    assert [window for window, _ in found] == list(windows)
    return torch.stack([row for _, row in found])


def find_segments(scores, labels, windows, **options) -> list[TimelineSegment]:
    """Segments of scores (n, K), the last of them those of "none of these" where the last label is `None`."""
    names = [label for label in labels if label is not None]
    finder = SegmentFinder(names, **options)
    segments = []
    for window, row in zip(windows, scores):
        values, indices = row[: len(names)].sort(descending=True, stable=True)
        none_score = float(row[-1]) if labels[-1] is None else None
        segments += finder.add(window, values, indices, none_score)
    return segments + finder.finish()


def test_windows_cover_the_video_and_the_last_one_ends_with_it():
    assert plan_windows(10, 4, 2) == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert plan_windows(9, 4, 2) == [(0, 4), (2, 6), (4, 8), (5, 9)]
    assert plan_windows(3, 4, 2) == [(0, 3)]
    # 0.3 - 0.1 is a little more than two strides of 0.1: rounding is not another window
    assert [start for start, _ in plan_windows(0.3, 0.1, 0.1)] == pytest.approx([0, 0.1, 0.2])
    for window, stride in ((0, 1), (1, 0), (-1, 1), (float("nan"), 1), ("4", 1), (4, None)):
        with pytest.raises(ValueError, match="must be positive"):
            plan_windows(10, window, stride)


@pytest.mark.parametrize("name", ["smoothing_seconds", "min_segment_seconds"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "4", None, True])
def test_lengths_that_are_none_are_refused_before_the_video_is_read(classify, name, value):
    with pytest.raises(ValueError, match=f"`{name}` is .*; it must be 0 or more, in seconds"):
        classify.timeline("nowhere.mp4", ["a"], **{name: value})
    with pytest.raises(ValueError, match=f"`{name}` is "):
        next(live_timeline(classify, "nowhere.mp4", ["a"], **{name: value}))


def test_more_scores_than_are_held_for_an_average_are_refused_before_the_video_is_read(classify):
    options = {"window_seconds": 0.5, "stride_seconds": 0.5}
    for smoothing_seconds, is_read in ((500.0, True), (500.5, False)):
        options["smoothing_seconds"] = smoothing_seconds
        error, message = (
            (VideoDecodeError, "nowhere.mp4")
            if is_read
            else (ValueError, "`smoothing_seconds` is 500.5 and `stride_seconds` is 0.5; an average has at most 1000")
        )
        with pytest.raises(error, match=message):
            classify.timeline("nowhere.mp4", LABELS, **options)
        with pytest.raises(error, match=message):
            next(live_timeline(classify, "nowhere.mp4", LABELS, **options))


@pytest.mark.parametrize("name", ["batch_size", "num_thumbnails", "max_frames"])
@pytest.mark.parametrize("value", [-1, 0.5, float("nan"), "2", None, []])
def test_numbers_that_count_nothing_are_refused_by_name(classify, name, value):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` is .*; it must be a whole number of at least"):
        classify.timeline(BIKES, LABELS, **{name: value})


def test_numbers_of_numpy_are_written_as_those_of_python(classify):
    options = {"window_seconds": 2, "stride_seconds": 1, "batch_size": 2, "num_frames": 2}
    timeline = classify.timeline(BIKES, LABELS, **options).to_dict()
    options = {name: np.float32(value) if "seconds" in name else np.int64(value) for name, value in options.items()}
    assert json.loads(json.dumps(classify.timeline(BIKES, LABELS, **options).to_dict())) == timeline


def test_more_windows_than_a_day_has_are_refused_before_lists_of_them_are_made(tmp_path):
    assert len(plan_windows(86_400, 4, 0.5, num_frames=24)) == 172_793
    assert len(plan_windows(1000, 4, 0.004)) == 249_001
    for duration, window, stride in ((86_400, 4, 0.01), (1e9, 4, 2), (1e9, 1e-320, 1e-320)):
        with pytest.raises(ValueError, match=r"`stride_seconds`\), which are more than 262144; take a longer stride"):
            plan_windows(duration, window, stride)
    with pytest.raises(ValueError, match=r"`stride_seconds`\), and they have more than 4194304 frames in all"):
        plan_windows(86_400, 4, 0.5, num_frames=32)
    with pytest.raises(ValueError, match="a window has at most 1000 strides"):
        plan_windows(10, 5000, 0.05)
    # It is one video's fault, and names it.
    options = {"window_seconds": 4, "stride_seconds": 2, "num_frames": 8, "max_frames": 32}
    assert list(WindowStream(tiny_processor().video_processor, BIKES, **options).batches(8))
    with pytest.raises(
        VideoDecodeError, match=r"bikes\.mp4' with the times asked for: in 10 s there is one window of"
    ):
        list(WindowStream(tiny_processor().video_processor, BIKES, **options | {"stride_seconds": 1}).batches(8))


def test_a_windows_times_are_the_centers_of_its_segments():
    assert window_times((2, 6), 4) == [2.5, 3.5, 4.5, 5.5]


def test_windows_whose_frames_no_memory_holds_are_refused(classify):
    """Such as those that a protocol or a checkpoint asks for."""
    with pytest.raises(ValueError, match="`num_frames` is 100000; a window of this checkpoint has at most"):
        classify.timeline(BIKES, LABELS, num_frames=100_000)


def test_windows_that_no_model_of_its_size_computes_are_refused(classify, monkeypatch):
    monkeypatch.setattr(configuration_froster, "MAX_TOKENS", 200)
    monkeypatch.setattr(configuration_froster, "MAX_WORK", 0)
    with pytest.raises(ValueError, match=r"A clip of 64 frames of .* tokens; a model of this size has at most"):
        classify.timeline(BIKES, LABELS, num_frames=64)


def test_of_large_windows_fewer_are_in_memory_together(monkeypatch):
    processor = tiny_processor().video_processor
    stream = WindowStream(processor, BIKES, window_seconds=1, stride_seconds=1, num_frames=2)
    sizes = [len(clips) for clips, _ in stream.batches(4)]
    monkeypatch.setattr(timeline_froster, "MOST_BATCH_VALUES", 2 * 2 * 3 * processor.crop_size["height"] ** 2)
    halves = [len(clips) for clips, _ in stream.batches(4)]
    assert max(sizes) == 4
    assert max(halves) == 2
    assert sum(halves) == sum(sizes)


def test_smoothing_averages_neighboring_windows():
    windows = plan_windows(10, 4, 2)
    scores = torch.tensor([[0.0], [3.0], [6.0], [9.0]])
    assert smooth(scores, windows, 4.0).flatten().tolist() == [1.5, 3.0, 6.0, 7.5]
    assert torch.equal(smooth(scores, windows, 0.0), scores)


def test_neighboring_windows_with_one_label_are_merged():
    windows = plan_windows(10, 4, 2)
    scores = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
    segments = find_segments(scores, ["a", "b"], windows)
    assert [(s.start_seconds, s.end_seconds, s.label) for s in segments] == [(0, 5, "a"), (5, 10, "b")]
    assert [s.score for s in segments] == pytest.approx([0.8, 0.7])


def test_windows_of_none_of_the_labels_leave_a_gap():
    windows = plan_windows(10, 4, 2)
    scores = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.2, 0.8]])
    below = find_segments(scores, ["a", "b"], windows, threshold=0.6)
    assert [(s.start_seconds, s.end_seconds, s.label) for s in below] == [(0, 3, "a"), (5, 10, "b")]
    background = find_segments(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.7, 0.3]]), ["a", None], windows)
    assert [(s.start_seconds, s.end_seconds, s.label) for s in background] == [(0, 3, "a"), (7, 10, "a")]


def test_short_segments_go_to_the_neighbor_that_scores_higher():
    windows = plan_windows(12, 4, 2)
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.3, 0.6], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    segments = find_segments(scores, ["a", "b", "c"], windows, min_segment_seconds=3)
    assert [(s.start_seconds, s.end_seconds, s.label) for s in segments] == [(0, 5, "a"), (5, 12, "b")]


def test_one_window_over_the_whole_video_scores_as_the_pipeline_does(classify):
    timeline = classify.timeline(BIKES, LABELS, window_seconds=100)
    assert timeline.windows == [(0, pytest.approx(10.0))]
    expected = {answer["label"]: answer["score"] for answer in classify(BIKES, LABELS)}
    assert dict(zip(LABELS, in_order_of_labels(timeline.scores)[0].tolist())) == pytest.approx(expected, abs=1e-5)


def test_windows_score_as_if_each_were_a_video_of_its_own(classify):
    timeline = classify.timeline(
        BIKES, LABELS, window_seconds=4, stride_seconds=2.5, smoothing_seconds=0, batch_size=2
    )
    assert timeline.windows == [(0, 4), (2.5, 6.5), (5, 9), (6, 10)]
    for (start, end), scores in zip(timeline.windows, in_order_of_labels(timeline.scores).tolist()):
        indices = [int(25 * (start + (i + 0.5) * (end - start) / 4) + 1e-6) for i in range(4)]
        frames, _ = decode_frames(BIKES, indices)
        expected = {answer["label"]: answer["score"] for answer in classify(frames, LABELS)}
        assert dict(zip(LABELS, scores)) == pytest.approx(expected, abs=1e-5)


def test_times_are_those_of_a_players_clock(classify, tmp_path):
    """The sound starts five seconds before the picture; subtitles, tables and plots go by the file's clock."""
    kind = replace(VIDEO_KINDS["h264_audio_mp4"], picture_delay=5)
    late = render_video(tmp_path / "late.mp4", kind, num_frames=100)
    at_once = render_video(tmp_path / "at_once.mp4", VIDEO_KINDS["h264_audio_mp4"], num_frames=100)
    options = {"window_seconds": 2, "stride_seconds": 1, "num_thumbnails": 2}
    timeline, plain = (classify.timeline(path, LABELS, **options) for path in (late, at_once))
    torch.testing.assert_close(*(in_order_of_labels(t.scores) for t in (timeline, plain)), atol=1e-3, rtol=0)
    assert (timeline.start_seconds, timeline.duration_seconds) == pytest.approx((5, 4))
    assert timeline.windows == [(pytest.approx(start + 5), pytest.approx(end + 5)) for start, end in plain.windows]
    assert [time for time, _ in timeline.thumbnails] == [pytest.approx(time + 5) for time, _ in plain.thumbnails]
    assert (timeline.segments[0].start_seconds, timeline.segments[-1].end_seconds) == pytest.approx((5, 9))
    assert timeline.to_dict()["start_seconds"] == pytest.approx(5)
    for suffix, start in ((".srt", "00:00:05,000 -->"), (".vtt", "00:00:05.000 -->"), (".csv", "5.000,")):
        write_timeline(timeline, tmp_path / f"t{suffix}")
        assert start in (tmp_path / f"t{suffix}").read_text()
    write_timeline(timeline, tmp_path / "t.png")


def test_background_labels_stand_for_none_of_the_labels(classify):
    timeline = classify.timeline(BIKES, LABELS[:1], background_labels=LABELS[1:], smoothing_seconds=0)
    everything = classify.timeline(BIKES, LABELS, smoothing_seconds=0)
    torch.testing.assert_close(timeline.scores.of(0), everything.scores.of(0))
    assert {segment.label for segment in timeline.segments} <= {LABELS[0]}


def test_a_video_that_cannot_be_read_is_named(classify, tmp_path):
    with pytest.raises(VideoDecodeError, match=r"missing\.mp4"):
        classify.timeline(tmp_path / "missing.mp4", LABELS)


def test_a_two_hour_stream_is_never_held():
    """Frames are counted while they are alive: a window's worth of them, whatever the length of the video."""
    duration_seconds, num_frames = 7200.0, 4
    alive, most_alive = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    class LongVideo:
        def stream_frames(self, video, times_seconds):
            nonlocal alive, most_alive
            info = VideoInfo(7200 * 25, 25.0, duration_seconds, 0.0, 6, 8, 0, False, "mov", "h264", "pyav")
            for time in times_seconds(info):
                frame = torch.full((3, 6, 8), int(time) % 256, dtype=torch.uint8)
                weakref.finalize(frame, gone)
                alive += 1
                most_alive = max(most_alive, alive)
                yield VideoFrame(int(time * 25), time, frame)
                del frame

        def __call__(self, videos, **options):
            return {"pixel_values_videos": torch.stack([video.float() for video in videos])}

    stream = WindowStream(
        LongVideo(), "long.mp4", window_seconds=4, stride_seconds=2, num_frames=num_frames, num_thumbnails=8
    )
    clips = sum(batch.shape[0] for batch, _ in stream.batches(16))
    assert clips == len(stream.windows) == 3599
    assert most_alive <= num_frames + 1
    assert len(stream.thumbnails) == 8


def prepared_together(windows):
    """The times of the frames of each batch that is prepared for windows, each of which shows its own times."""
    times = sorted({time for window in windows for time in window})
    batches = []

    def prepare(frames):
        batches.append(frames[:, 0, 0, 0].tolist())
        return frames.float()

    frames = ((time, torch.full((3, 1, 1), time)) for time in times)
    clips = list(iterate_windows(frames, windows, prepare))
    assert [clip[:, 0, 0, 0].tolist() for clip in clips] == torch.tensor(windows).tolist()
    assert [time for batch in batches for time in batch] == torch.tensor(times).tolist()
    return batches


def test_each_frame_of_overlapping_windows_is_prepared_once():
    assert prepared_together([window_times(window, 4) for window in plan_windows(10, 4, 2)])


def test_no_more_raw_frames_than_a_window_has_are_held_however_windows_overlap():
    batches = prepared_together([window_times(window, 4) for window in plan_windows(20, 4, 0.05)])
    assert max(map(len, batches)) == 4


def test_of_large_frames_few_are_held_raw_however_many_a_window_has(monkeypatch):
    monkeypatch.setattr(timeline_froster, "MOST_RAW_BYTES", 3 * 4 * 8)
    batches = prepared_together([window_times(window, 100) for window in plan_windows(10, 4, 2)])
    assert max(map(len, batches)) == 8


@pytest.mark.parametrize("kind", ["h264_mkv", "mpeg4_avi"])
def test_frames_that_are_shown_for_an_hour_cost_what_they_are_and_not_what_an_hour_has(kind, tmp_path):
    slow = replace(VIDEO_KINDS[kind], fps=Fraction(1, 1800))
    video = render_video(tmp_path / f"slow{slow.suffix}", slow, num_frames=2)
    processor, prepared, asked = tiny_processor().video_processor, [], []

    class Counting:
        def __call__(self, videos, **options):
            prepared.extend(videos)
            return processor(videos, **options)

        def stream_frames(self, *arguments):
            return processor.stream_frames(*arguments)

    def on_frame(seconds, frame):
        asked.append(seconds)

    stream = WindowStream(Counting(), video, window_seconds=4, stride_seconds=2, num_frames=8, on_frame=on_frame)
    batches = list(stream.batches(8))
    # All of the first frame, half and half, all of the second one.
    assert [len(clips) for clips, _ in batches] == [3]
    assert [count for _, counts in batches for count in counts] == [899, 1, 899]
    assert len(stream.windows) == 1799
    assert len(asked) == 8 * 900
    assert sum(map(len, prepared)) == 2
    # As if each window were a video of its own.
    indices = [[0] * 8, [0] * 4 + [1] * 4, [1] * 8]
    alone = [decode_frames(video, chosen)[0] for chosen in indices]
    torch.testing.assert_close(
        batches[0][0], processor(alone, return_tensors="pt", **WINDOW_OPTIONS)["pixel_values_videos"], rtol=0, atol=0
    )


def test_a_timeline_of_frames_that_are_shown_for_an_hour_has_scores_for_all_windows(tmp_path):
    slow = replace(VIDEO_KINDS["h264_mkv"], fps=Fraction(1, 1800))
    video = render_video(tmp_path / "slow.mkv", slow, num_frames=2)
    classify = pipeline("zero-shot-video-classification", model=tiny_model(), processor=tiny_processor())
    found = classify.timeline(video, LABELS, smoothing_seconds=0)
    assert len(found.windows) == len(found.scores.values) == 1799
    assert [len(set(map(tuple, part.tolist()))) for part in found.scores.values.split([899, 1, 899])] == [1, 1, 1]


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(
        labels=["juggling, & $more$", "_rest\n---> now"],
        duration_seconds=3725.5,
        windows=[(0.0, 4.0), (3721.5, 3725.5)],
        scores=WindowScores(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([[0, 1], [1, 0]])),
        segments=[
            TimelineSegment(0.0, 2.0, "juggling, & $more$", 0.75, 0.5),
            TimelineSegment(3600.0, 3725.5, "_rest\n---> now", 0.75),
        ],
        thumbnails=[(1.0, torch.zeros(3, 12, 16, dtype=torch.uint8))],
    )


def test_json_holds_segments_and_scores(timeline, tmp_path):
    write_timeline(timeline, tmp_path / "t.json")
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["segments"][0] == {
        "start_seconds": 0.0,
        "end_seconds": 2.0,
        "label": "juggling, & $more$",
        "score": 0.75,
        "contrast": 0.5,
    }
    scores = {"_rest\n---> now": 0.75, "juggling, & $more$": 0.25}
    assert stored["windows"][1] == {"start_seconds": 3721.5, "end_seconds": 3725.5, "scores": scores}


def test_csv_is_read_back_by_a_csv_reader(timeline, tmp_path):
    write_timeline(timeline, tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # A line break in a label is written as an escape: a row is a line.
    assert [row["label"] for row in rows] == ["juggling, & $more$", r"_rest\n---> now"]
    assert rows[1]["end_seconds"] == "3725.500"


def test_subtitles_have_clock_times_and_safe_labels(timeline, tmp_path):
    write_timeline(timeline, tmp_path / "t.srt")
    write_timeline(timeline, tmp_path / "t.vtt")
    assert (tmp_path / "t.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:02,000\njuggling, & $more$\n\n2\n01:00:00,000 --> 01:02:05,500\n_rest -> now\n"
    )
    assert (tmp_path / "t.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\njuggling, &amp; $more$\n\n"
        "01:00:00.000 --> 01:02:05.500\n_rest -&gt; now\n"
    )


def test_labels_with_markup_are_text_in_players(timeline, tmp_path):
    hostile = "<b>bold</b> {\\an8}\n00:00:01,000 --> 00:00:02,000"
    segments = [replace(timeline.segments[0], label=hostile)]
    marked = replace(timeline, segments=segments)
    write_timeline(marked, tmp_path / "t.srt")
    write_timeline(marked, tmp_path / "t.vtt")
    shown = [(tmp_path / f"t{suffix}").read_text().splitlines() for suffix in (".srt", ".vtt")]
    assert shown[0][2:] == ["‹b>bold‹/b> (\\an8) 00:00:01,000 -> 00:00:02,000"]
    assert shown[1][3:] == ["&lt;b&gt;bold&lt;/b&gt; {\\an8} 00:00:01,000 -&gt; 00:00:02,000"]


def test_the_plot_shows_frames_scores_and_segments(timeline, tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # LaTeX would do what a label says.
    monkeypatch.setattr(TexManager, "make_dvi", None)
    write_timeline(timeline, tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert image.size == (1200, 500)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_a_label_that_names_a_color_is_drawn_in_it():
    labels = ["juggling", "a Red star", "a blue, red-edged ball", "reddish", "another red star"]
    colors = _color_labels(labels)
    assert list(colors) == labels
    assert [colors[label] for label in labels[1:3]] == [COLORS["red"], COLORS["blue"]]
    assert len(set(colors.values())) == len(labels)
    assert list(_color_labels(["golf", "tennis"]).values()) == list(COLORS.values())[:2]


def test_other_formats_are_refused(timeline, tmp_path):
    with pytest.raises(ValueError, match=r"\.json, \.csv, \.srt, \.vtt, \.png"):
        write_timeline(timeline, tmp_path / "t.docx")


@st.composite
def scored_windows(draw):
    """Windows of one length, scores of each label in them, and how they are made segments."""
    stride = draw(st.floats(0.1, 5))
    number = draw(st.integers(1, 12))
    names = draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=4, unique=True))
    names = names if names != [None] else ["a", None]
    names.sort(key=lambda name: name is None)
    row = st.lists(st.floats(0, 1, width=32), min_size=len(names), max_size=len(names))
    scores = torch.tensor(draw(st.lists(row, min_size=number, max_size=number)))
    return scores, names, [(index * stride, index * stride + 2 * stride) for index in range(number)]


@settings(max_examples=200)
@given(scored=scored_windows(), threshold=st.none() | st.floats(0, 1), shortest=st.floats(0, 20))
def test_segments_lie_in_order_within_the_video_and_lose_no_window(scored, threshold, shortest):
    scores, names, windows = scored
    segments = find_segments(scores, names, windows, threshold=threshold, min_segment_seconds=shortest)
    begin, end = windows[0][0], windows[-1][1]
    assert all(begin <= segment.start_seconds < segment.end_seconds <= end for segment in segments)
    for first, second in pairwise(segments):
        assert first.end_seconds <= second.start_seconds
        assert first.end_seconds < second.start_seconds or first.label != second.label
    assert all(segment.label in names for segment in segments)
    alone = len(segments) == 1 and segments[0].end_seconds - segments[0].start_seconds == end - begin
    assert alone or all(s.end_seconds - s.start_seconds >= shortest - 1e-9 for s in segments)
    if shortest == 0:
        for window_scores, window in zip(scores, windows):
            best = names[int(window_scores.argmax())]
            middle = (window[0] + window[1]) / 2
            if best is not None and (threshold is None or float(window_scores.max()) >= threshold):
                assert best in [s.label for s in segments if s.start_seconds <= middle <= s.end_seconds]


def merge_one_by_one(picks, borders, scores, min_seconds):
    """The rule as it is written: look at all runs, give the shortest away, look again."""
    while len(runs := [(i, list(group)) for i, group in groupby(range(len(picks)), key=picks.__getitem__)]) > 1:
        spans = [(group[0], group[-1] + 1) for _, group in runs]
        start, end = min(spans, key=lambda span: borders[span[1]] - borders[span[0]])
        if borders[end] - borders[start] >= min_seconds:
            break
        neighbors = [picks[at] for at in (start - 1, end) if 0 <= at < len(picks)]
        means = [*scores[start:end].mean(0).tolist(), -math.inf]
        picks[start:end] = [max(neighbors, key=means.__getitem__)] * (end - start)
    return picks


@settings(max_examples=200)
@given(scored=scored_windows(), threshold=st.none() | st.floats(0, 1), shortest=st.floats(0, 20))
def test_short_segments_are_merged_as_if_one_after_the_other(scored, threshold, shortest):
    scores, names, windows = scored
    scores = (scores * 8).round() / 8  # means that are equal are so to the last digit
    segments = find_segments(scores, names, windows, threshold=threshold, min_segment_seconds=shortest)
    best = scores.max(1)
    none = len(names)
    picks = [
        none if names[winner] is None or (threshold is not None and score < threshold) else winner
        for score, winner in zip(best.values.tolist(), best.indices.tolist())
    ]
    middles = [(start + end) / 2 for start, end in windows]
    borders = [windows[0][0], *((a + b) / 2 for a, b in pairwise(middles)), windows[-1][1]]
    picks = merge_one_by_one(picks, borders, scores, shortest)
    expected = [None if pick == none else names[pick] for pick in picks]
    found = [next((s.label for s in segments if s.start_seconds < m < s.end_seconds), None) for m in middles]
    assert found == expected


def test_many_short_segments_are_merged_without_looking_at_all_of_them_each_time(monkeypatch):
    windows = plan_windows(8000.0, 4.0, 2.0)
    scores = torch.rand(len(windows), 5, generator=torch.Generator().manual_seed(0))
    looked_at = []
    monkeypatch.setattr(
        timeline_froster,
        "_runs",
        lambda picks, real=timeline_froster._runs: looked_at.append(len(picks)) or real(picks),
    )
    segments = find_segments(scores, list("abcde"), windows, min_segment_seconds=20)
    assert sum(looked_at) == len(windows)
    assert min(s.end_seconds - s.start_seconds for s in segments) >= 20


def test_smoothing_holds_only_the_windows_that_it_averages():
    alive = set()

    def scored():
        for number, window in enumerate(plan_windows(200.0, 4.0, 2.0)):
            row = torch.full((3,), float(number))
            alive.add(number)
            weakref.finalize(row, alive.discard, number)
            yield window, row
            del row
            assert len(alive) <= 5

    smoothed = [float(row[0]) for _, row in smooth_scores(scored(), 6.0)]
    assert smoothed[:2] == [0.5, 1.0]
    assert smoothed[50] == 50


def test_smoothing_adds_each_window_twice_however_many_an_average_has(monkeypatch):
    torch.manual_seed(0)
    windows = plan_windows(3000.0, 4.0, 2.0)
    scores = torch.rand(len(windows), 3) ** 8
    added = []
    monkeypatch.setattr(
        torch.Tensor, "double", lambda row, real=torch.Tensor.double: added.append(row.numel()) or real(row)
    )
    smoothed = smooth(scores, windows, 400.0)
    monkeypatch.undo()
    assert sum(added) <= 2 * scores.numel()
    expected = [scores[max(place - 100, 0) : place + 101].double().mean(0).float() for place in range(len(windows))]
    torch.testing.assert_close(smoothed, torch.stack(expected), rtol=1e-7, atol=0)


def test_a_segment_is_given_out_as_soon_as_nothing_can_change_it():
    windows = plan_windows(20, 4, 2)
    finder = SegmentFinder(["a", "b"], min_segment_seconds=3)
    best = ["a", "a", "b", "a", "a", "b", "b", "b", "b"]
    found = []
    for window, label in zip(windows, best):
        indices = torch.tensor([0, 1] if label == "a" else [1, 0])
        found.append([(s.end_seconds, s.label) for s in finder.add(window, torch.tensor([0.9, 0.1]), indices)])
    # The stretch of "b" in the third window is too short, and is known to be so when "a" goes on; the last one is
    # long enough after its second window.
    assert found == [[], [], [], [], [], [], [(11, "a")], [], []]
    assert [(s.start_seconds, s.end_seconds, s.label) for s in finder.finish()] == [(11, 20, "b")]


def test_each_label_for_itself_has_segments_that_may_overlap():
    windows = plan_windows(12, 4, 2)
    scores = torch.tensor([[0.9, 0.1, 0.6], [0.8, 0.7, 0.1], [0.2, 0.9, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    options = {"threshold": 0.5, "multi_label": True}
    segments = sorted(find_segments(scores, ["a", "b", "c"], windows, **options), key=lambda s: s.label)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in segments] == [
        ("a", 0, 5),
        ("b", 3, 9),
        ("c", 0, 3),
        ("c", 9, 12),
    ]
    assert [s.score for s in segments] == pytest.approx([0.85, 0.8, 0.6, 0.7])
    longer = find_segments(scores, ["a", "b", "c"], windows, min_segment_seconds=4, **options)
    assert sorted(s.label for s in longer) == ["a", "b"]


def test_contrast_is_inside_against_close_outside():
    windows = [(float(i), i + 1.0) for i in range(10)]
    values = torch.tensor([0.0, 0.1, 0.3, 0.9, 0.8, 0.7, 0.8, 0.2, 0.0, 0.0])
    scores = keep_best(torch.stack([values, 1 - values], 1))
    inside, short, all_of_it = contrast_segments(
        [TimelineSegment(3, 7, "a", 0.8), TimelineSegment(1, 2, "b", 0.9), TimelineSegment(0, 10, "a", 0.38)],
        ["a", "b"],
        windows,
        scores,
    )
    assert inside.contrast == pytest.approx(0.8 - (0.3 + 0.2) / 2)
    assert short.contrast == pytest.approx(0.9 - (1.0 + 0.7) / 2)
    assert all_of_it.contrast is None


def test_of_many_labels_only_the_best_scores_of_each_window_are_kept(classify):
    labels = [f"action {number}" for number in range(3 * KEPT_LABELS)]
    timeline = classify.timeline(BIKES, labels, templates="none")
    assert timeline.scores.values.shape == timeline.scores.indices.shape == (len(timeline.windows), KEPT_LABELS)
    assert all(len(window["scores"]) == KEPT_LABELS for window in timeline.to_dict()["windows"])
    # What was not kept scored no more than what was.
    missing = set(range(len(labels))) - set(timeline.scores.indices[0].tolist())
    assert float(timeline.scores.of(min(missing))[0]) == float(timeline.scores.values[0, -1])


def test_of_many_labels_every_one_that_reaches_the_threshold_has_its_segments():
    labels = [f"action {number}" for number in range(3 * KEPT_LABELS)]
    finder = SegmentFinder(labels, threshold=0.5, multi_label=True)
    windows = [((float(start), start + 1.0), torch.full((len(labels),), 0.9)) for start in range(3)]
    scores, segments = collect_segments(windows, finder)
    assert {segment.label for segment in segments} == set(labels)
    timeline = Timeline(labels, 3.0, [window for window, _ in windows], scores, segments, multi_label=True)
    assert {segment.label for segment in timeline.segments_at(0.8)} == set(labels)
    assert timeline.segments_at(0.95) == []


def test_more_segments_of_many_labels_than_are_held_are_refused(monkeypatch):
    labels = [f"action {number}" for number in range(40)]
    windows = [((float(at), at + 1.0), torch.full((40,), float(at % 2 == 0))) for at in range(9)]
    scores, segments = collect_segments(windows, SegmentFinder(labels, threshold=0.5, multi_label=True))
    assert len(segments) == 5 * 40
    timeline = Timeline(labels, 9.0, [window for window, _ in windows], scores, segments, multi_label=True)
    monkeypatch.setattr(timeline_froster, "MOST_SEGMENTS", 199)
    came = []
    with pytest.raises(ValueError, match=r"There are more than 199 segments, .*; raise the threshold"):
        collect_segments(windows, SegmentFinder(labels, threshold=0.5, multi_label=True), on_segment=came.append)
    assert len(came) == 199
    with pytest.raises(ValueError, match=r"There are more than 199 segments"):
        timeline.segments_at(0.5)
    # Of each segment, results repeat the label.
    long = [f"{'very ' * 40}long action {number}" for number in range(40)]
    with pytest.raises(ValueError, match=r"or as much text in fewer"):
        collect_segments(windows[:4], SegmentFinder(long, threshold=0.5, multi_label=True))


def test_long_labels_that_each_window_would_repeat_are_not_written(timeline, monkeypatch, tmp_path):
    # Labels in quotes are written with escapes.
    repeated = sum(len(json.dumps(label)) - 2 for window in timeline.window_scores() for label in window["scores"])
    monkeypatch.setattr(timeline_files, "MOST_CHARACTERS", repeated - 1)
    with pytest.raises(ValueError, match=rf"are up to {repeated} characters; up to {repeated - 1} are written"):
        write_timeline(timeline, tmp_path / "timeline.json")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(timeline_files, "MOST_CHARACTERS", repeated)
    write_timeline(timeline, tmp_path / "timeline.json")


def test_what_the_windows_of_a_short_video_repeat_is_bounded_as_it_is_written():
    def begin(letters, *, num_windows):
        labels = [f"{letters}{number}" for number in range(256)]
        scores = WindowScores(torch.zeros(num_windows, 256), torch.arange(256).expand(num_windows, 256))
        return next(json_pieces(Timeline(labels, 1.0, [(0.0, 1.0)] * num_windows, scores, []), separator=""))

    # Short labels in any script, and a few windows of long ones, are written.
    begin("跑步" * 10, num_windows=3600)
    begin("a" * 1900, num_windows=60)
    with pytest.raises(ValueError, match=r"3,600 windows, are up to [\d,]+ characters; up to 303,038,464"):
        begin("a" * 1150, num_windows=3600)
    # Of six characters each.
    with pytest.raises(ValueError, match=r"up to [\d,]+ characters; up to 303,038,464"):
        begin("\u0301b" * 150, num_windows=3600)


def test_the_labels_of_a_picture_are_found_without_a_list_of_all_scores():
    torch.manual_seed(0)
    values, indices = torch.rand(20_000, 32).sort(descending=True)
    labels = [f"label {number}" for number in range(32)]
    windows = [(0.0, 1.0)] * len(values)
    timeline = Timeline(labels, 1.0, windows, WindowScores(values * indices / 32, indices), [])
    tracemalloc.start()
    try:
        assert set(timeline_files._leading_labels(timeline)) == set(labels[-timeline_files.LABELS_IN_PLOT :])
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_segments_come_one_by_one_and_know_their_background(classify):
    came = []
    options = {"multi_label": True, "background_labels": ["an empty room"], "smoothing_seconds": 0}
    timeline = classify.timeline(BIKES, LABELS, threshold=0.0, on_segment=came.append, **options)
    # A threshold that everything passes: each label holds from start to end.
    assert [(s.label, s.start_seconds, s.end_seconds, s.contrast) for s in timeline.segments] == [
        (label, 0.0, pytest.approx(10.0), None) for label in LABELS
    ]
    assert [s.label for s in came] == LABELS
    assert timeline.compared_with == "each label for itself against the background: an empty room"
    assert timeline.name == BIKES.name
    del options["smoothing_seconds"]
    expected = {answer["label"]: answer["score"] for answer in classify(BIKES, LABELS, **options)}
    whole = classify.timeline(BIKES, LABELS, window_seconds=100, **options)
    assert dict(zip(LABELS, in_order_of_labels(whole.scores)[0].tolist())) == pytest.approx(expected, abs=1e-5)
    assert whole.threshold == 0.5


def test_the_threshold_of_a_calibration_is_that_of_its_segments():
    processor = tiny_processor()
    processor.calibration = {"scale": 0.01, "bias": 0.0, "threshold": 0.125, "background_labels": ["an empty room"]}
    calibrated = pipeline("zero-shot-video-classification", model=tiny_model(), processor=processor)
    assert calibrated.timeline(BIKES, LABELS, multi_label=True).threshold == 0.125
    assert calibrated.timeline(BIKES, LABELS).threshold is None


def test_the_json_of_many_windows_is_written_a_window_at_a_time(timeline):
    pieces = list(json_pieces(timeline, separator=" "))
    assert len(pieces) == len(timeline.windows) + 2
    assert "\n" not in "".join(pieces)
    assert json.loads("".join(pieces)) == timeline.to_dict()
