"""What counts as one video, what is known of its frames, and what reading them imports."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from froster_hf.processing import video_processing_froster
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor, read_video
from tests.fixtures.subprocesses import environment

FRAME = np.zeros((4, 4, 3), np.uint8)
PICTURE = Image.fromarray(FRAME)
ONE = {
    "path": "clip.mp4",
    "path object": Path("clip.mp4"),
    "bytes": b"video",
    "row": {"path": "clip.mp4", "bytes": None},
    "picture": PICTURE,
    "image as an array": FRAME,
    "array": np.stack([FRAME] * 3),
    "tensor": torch.zeros(3, 3, 4, 4),
    "list of pictures": [PICTURE] * 3,
    "tuple of arrays": (FRAME, FRAME),
}
MANY = {
    "list of paths": (["clip.mp4", "other.mp4"], 2),
    "list of one path": (["clip.mp4"], 1),
    "array of arrays": (np.zeros((2, 3, 4, 4, 3), np.uint8), 2),
    "lists of frames": ([[PICTURE] * 3, ["1.png", "2.png"]], 2),
    "arrays among others": (["clip.mp4", np.zeros((3, 4, 4, 3), np.uint8), FRAME], 3),
    "pictures among others": ([b"video", PICTURE, [FRAME]], 3),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_video_is_one(kind):
    assert FrosterVideoProcessor.is_single_video(ONE[kind])
    assert len(FrosterVideoProcessor.list_videos(ONE[kind])) == 1


@pytest.mark.parametrize("kind", MANY)
def test_several_videos_are_as_many(kind):
    videos, number = MANY[kind]
    assert not FrosterVideoProcessor.is_single_video(videos)
    single = FrosterVideoProcessor.list_videos(videos)
    assert len(single) == number
    assert all(len(FrosterVideoProcessor.list_videos([video])) == 1 for video in single)


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 3, 4, 4, 3), np.uint8), [[]], ["clip.mp4", ()]])
def test_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="empty"):
        FrosterVideoProcessor.list_videos(nothing)


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_an_array_of_several_videos_is_none_of_a_list(make):
    with pytest.raises(ValueError, match=r"got shape \(2, 3, 4, 4, 3\).*by itself"):
        FrosterVideoProcessor.list_videos(["clip.mp4", make((2, 3, 4, 4, 3))])


@pytest.mark.parametrize("form", ["array", "list", "folder", "file"])
def test_what_is_known_of_a_video_is_told_and_not_written_into_what_the_caller_knows(form, tmp_path, video_file):
    for index in range(5):
        PICTURE.save(tmp_path / f"{index}.png")
    forms = {"array": np.stack([FRAME] * 5), "list": [PICTURE] * 5, "folder": tmp_path, "file": video_file("h264_mp4")}
    given = VideoMetadata(total_num_frames=0, fps=12.0)
    seen = []

    def choose(metadata):
        seen.append((metadata.total_num_frames, metadata.frames_indices))
        return np.array([3, 1, 1])

    frames, metadata = read_video(forms[form], choose, metadata=given)
    number = 40 if form == "file" else 5
    assert len(frames) == 3
    assert seen == [(number, None)]
    assert (metadata.total_num_frames, metadata.frames_indices) == (number, [3, 1, 1])
    assert metadata.fps == (25.0 if form == "file" else 12.0)
    assert given == VideoMetadata(total_num_frames=0, fps=12.0)


@pytest.mark.parametrize("form", ["array", "arrays", "pictures"])
def test_frames_in_memory_are_not_repeated_until_they_fill_it(form, monkeypatch):
    frame = np.zeros((6, 8, 3), np.uint8)
    monkeypatch.setattr(video_processing_froster, "MOST_REPEATED_BYTES", 20 * frame.nbytes)
    one = Image.fromarray(frame) if form == "pictures" else frame
    video = np.stack([frame] * 30) if form == "array" else [one] * 30
    assert len(read_video(video, lambda metadata: range(30))[0]) == 30
    assert len(read_video(video[:5], lambda metadata: [0, 1, 2, 3, 4] * 4)[0]) == 20
    with pytest.raises(ValueError, match=r"repeated to be 21, take 3024 bytes; .*Ask for fewer with `num_frames`"):
        read_video(video[:5], lambda metadata: [0] * 21)


def test_the_caller_s_side_imports_neither_the_decoders_nor_the_process_that_uses_them():
    code = (
        "import sys, froster_hf.video.decoding as decoding; "
        "names = {name.rpartition('.')[2] for name in sys.modules}; "
        "print(sorted(names & {'av', 'decord', 'torchcodec', 'server', 'reader'}))"
    )
    finished = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert finished.stdout == "[]\n", finished.stderr[-2000:]
