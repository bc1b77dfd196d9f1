"""A handful of small real videos, in class folders, for the readers and the clips."""

from pathlib import Path

import pytest

from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from tests.fixtures.videos import VIDEO_KINDS, render_video

CLASSES = ("ApplyEyeMakeup", "brush_hair", "juggling")


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory) -> Path:
    """Three classes of two H.264 videos of 40 frames."""
    root = tmp_path_factory.mktemp("videos")
    first = render_video(root / "first.mp4", VIDEO_KINDS["h264_mp4"])
    second = render_video(root / "second.mp4", VIDEO_KINDS["h264_mp4"], num_frames=30)
    folder = root / "classes"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        (folder / name / "a.mp4").write_bytes(first.read_bytes())
        (folder / name / "b.mp4").write_bytes(second.read_bytes())
    return folder


@pytest.fixture(scope="session")
def video_processor() -> FrosterVideoProcessor:
    return FrosterVideoProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, num_frames=4, frame_stride=2
    )
