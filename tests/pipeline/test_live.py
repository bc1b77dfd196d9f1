"""Segments of live sources, in Python and in the shell."""

import datetime
import json
import re

import numpy as np
import pytest
import torch
from transformers import pipeline

import froster_hf  # noqa: F401
from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.pipeline.live import _stretches, live_timeline
from froster_hf.pipeline.timeline_froster import smooth_scores
from froster_hf.shapes import DEMO_LABELS, STORY, render_demo_videos
from froster_hf.video.decoding import stream_frames
from froster_hf.video.types import VideoLimits
from tests.fixtures.pages import runs
from tests.video.test_live import http_folder, write_hls


@pytest.fixture(scope="module")
def classify():
    return pipeline("zero-shot-video-classification", model=str(SMALL_FROSTER))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Pairs of seconds and frame of the demo's story."""
    *_, path = render_demo_videos(tmp_path_factory.mktemp("story"))
    assert path.name == STORY
    return path, [(frame.time_seconds, frame.frame) for frame in stream_frames(path)]


def test_live_segments_are_those_of_the_timeline_of_the_same_video(classify, story):
    path, frames = story
    options = {"window_seconds": 1.0, "stride_seconds": 0.5, "smoothing_seconds": 1.0}
    events = list(live_timeline(classify, frames, DEMO_LABELS, **options))
    timeline = classify.timeline(str(path), DEMO_LABELS, **options)
    assert [event.label for event in events] == [segment.label for segment in timeline.segments]
    for event, segment in zip(events, timeline.segments):
        assert event.start_seconds == pytest.approx(segment.start_seconds, abs=0.51)
    assert all(event.started_at.tzinfo is datetime.timezone.utc for event in events)


def test_a_segment_comes_while_the_source_goes_on_and_long_ones_in_pieces(classify):
    given = 0

    def frames():
        nonlocal given
        for given in range(100_000):
            yield given / 4, np.zeros((40, 40, 3), np.uint8)

    events = live_timeline(
        classify,
        frames(),
        ["a red square moves left", "a blue circle grows"],
        window_seconds=2.0,
        stride_seconds=2.0,
        max_segment_seconds=10.0,
    )
    first, second = next(events), next(events)
    assert given < 200
    assert first.end_seconds - first.start_seconds <= 12.0
    assert second.start_seconds >= first.start_seconds


def test_a_window_of_large_frames_is_held_to_the_limits(classify):
    frames = ((index / 4, np.zeros((400, 400, 3), np.uint8)) for index in range(100))
    limits = VideoLimits(max_decoded_bytes=10**6)
    with pytest.raises(ValueError, match=r"frames of 400 x 400 pixels has .*max_decoded_bytes is 1000000"):
        next(live_timeline(classify, frames, DEMO_LABELS, limits=limits))


def test_nothing_is_averaged_across_a_gap():
    before = [((0.0, 1.0), 0.0), ((1.0, 2.0), 0.5)]
    after = [((2.5, 3.5), 1.0), ((3.5, 4.5), 1.0)]
    scored = [(window, torch.tensor([score])) for window, score in before + after]
    stretches = [list(smooth_scores(stretch, 10.0)) for stretch in _stretches(scored)]
    assert stretches == [[(window, torch.tensor([0.25])) for window, _ in before], scored[2:]]


def test_the_shell_prints_json_lines(tmp_path, capsys):
    write_hls(tmp_path, num_frames=100)
    with http_folder(tmp_path) as address:
        command = ["timeline", "--live", f"{address}/live.m3u8", "--labels", "a red square grows,a blue circle grows"]
        windows = ["--window-seconds", "1", "--stride-seconds", "1"]
        assert main([*command, *windows, "--model", str(SMALL_FROSTER)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines
    for line in lines:
        assert set(line) == {"start_seconds", "end_seconds", "started_at", "label", "score"}
        assert datetime.datetime.fromisoformat(line["started_at"]).tzinfo is not None


@pytest.mark.parametrize("arguments", [[], ["clip.mp4", "--live", "tcp://127.0.0.1:1"]])
def test_a_file_or_a_live_source_is_given(arguments, capsys):
    assert main(["timeline", *arguments, "--labels", "a,b", "--model", str(SMALL_FROSTER)]) == 1
    assert "Give a video file, or --live and a source; not both." in capsys.readouterr().err


@runs("docs/guides/live.md")
def test_the_guide_prints_a_line_per_event(page, capsys):
    page.run()
    lines = capsys.readouterr().out.splitlines()
    assert lines
    for line in lines:
        started_at, label, score = re.fullmatch(
            r"(\S+ \S+) (a (?:red square|blue circle) \w+(?: left)?) (\S+)", line
        ).groups()
        assert datetime.datetime.fromisoformat(started_at).tzinfo is not None
        assert label in ("a red square moves left", "a blue circle grows")
        assert 0 <= float(score) <= 1
