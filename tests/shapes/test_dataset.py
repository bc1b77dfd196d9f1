"""mp4 files and datasets of the moving-shapes world."""

import resource
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from datasets import load_dataset

from froster_hf.shapes import (
    MovingShape,
    draw_scenes,
    render_clips,
    write_moving_shapes,
    write_mp4,
)
from tests.fixtures.subprocesses import run_forked

CLASSES = [MovingShape("red", "star", "sliding left"), MovingShape("blue", "ring", "growing")]


def _scene(motion):
    return draw_scenes(0, classes=[MovingShape("blue", "ring", motion)])


def _decode(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), container.streams.video[0]


def test_mp4_holds_the_frames_that_were_written(tmp_path):
    frames = render_clips(draw_scenes(0, 1), num_frames=11, resolution=(96, 128))[0]
    decoded, stream = _decode(write_mp4(frames, tmp_path / "clip.mp4", fps=12))
    assert decoded.shape == frames.shape
    assert stream.codec_context.name == "h264"
    assert stream.average_rate == 12
    error = (decoded.float() - frames.float()).square().mean((1, 2, 3)).sqrt()
    assert error.max() < 8
    # Each frame is nearer to its own original than to the next one.
    assert (error[:-1] < (decoded[:-1].float() - frames[1:].float()).square().mean((1, 2, 3)).sqrt()).all()


def test_same_frames_make_the_same_file(tmp_path):
    frames = render_clips(_scene("growing"), num_frames=4, resolution=64)[0]
    assert len({write_mp4(frames, tmp_path / "clip.mp4").read_bytes() for _ in range(30)}) == 1


def test_a_video_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    file = tmp_path / "clip.mp4"
    old = write_mp4(np.zeros((4, 3, 32, 32), np.uint8), file).read_bytes()

    def limited() -> None:
        noise = np.random.default_rng(0).integers(0, 256, (16, 3, 64, 64), dtype=np.uint8)
        # A limit on the size of files fails a write as a full disk does, after a part of it.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        write_mp4(noise, file)

    assert run_forked(limited).returncode == 1
    assert file.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(4, 3, 33, 32, dtype=torch.uint8), "even height and width; received 33x32"),
        (torch.zeros(4, 32, 32, 3, dtype=torch.uint8), r"\(T, 3, H, W\)"),
        (torch.zeros(4, 3, 32, 32), "uint8.*received torch.float32"),
        (torch.zeros(0, 3, 32, 32, dtype=torch.uint8), "T >= 1"),
    ],
)
def test_frames_that_are_no_clip_are_refused(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        write_mp4(frames, tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


def test_written_dataset_has_files_labels_and_captions(tmp_path):
    dataset = write_moving_shapes(tmp_path / "clips", CLASSES, clips_per_class=3, seed=0, resolution=64, num_frames=10)
    assert dataset.features["label"].names == ["a red star sliding left", "a blue ring growing"]
    assert dataset["label"][:] == [0, 0, 0, 1, 1, 1]
    assert len(set(dataset["video"])) == 6
    assert all(isinstance(caption, str) and caption for caption in dataset["caption"])
    for row in dataset:
        frames, _ = _decode(row["video"])
        assert frames.shape == (10, 3, 64, 64)


def test_folder_of_the_same_arguments_is_used_again_and_of_others_refused(tmp_path):
    arguments = {"clips_per_class": 2, "resolution": 64, "num_frames": 4}
    first = write_moving_shapes(tmp_path, CLASSES, seed=0, **arguments)
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.mp4"))]
    again = write_moving_shapes(tmp_path, CLASSES, seed=0, **arguments)
    assert again.to_dict() == first.to_dict()
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.mp4"))] == times
    with pytest.raises(ValueError, match="other arguments"):
        write_moving_shapes(tmp_path, CLASSES, seed=1, **arguments)


def test_interrupted_folder_is_completed(tmp_path):
    arguments = {"clips_per_class": 2, "seed": 0, "resolution": 64, "num_frames": 4}
    write_moving_shapes(tmp_path, CLASSES, **arguments)
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.mp4")}
    (tmp_path / "moving_shapes.json").rename(tmp_path / "moving_shapes.unfinished")
    (tmp_path / "000002.mp4").write_bytes(b"half a file")
    write_moving_shapes(tmp_path, CLASSES, **arguments)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.mp4")} == whole
    assert not (tmp_path / "moving_shapes.unfinished").exists()


def test_a_folder_that_is_being_rendered_with_other_arguments_is_refused(tmp_path, monkeypatch):
    arguments = {"clips_per_class": 1, "resolution": 64, "num_frames": 4}

    def render_another(*scenes, **options):
        with pytest.raises(ValueError, match=r"Clips are being made in .* with other arguments, or were"):
            write_moving_shapes(tmp_path, CLASSES, seed=1, **arguments)
        return render_clips(*scenes, **options)

    monkeypatch.setattr("froster_hf.shapes.dataset.render_clips", render_another)
    table = write_moving_shapes(tmp_path, CLASSES, seed=0, **arguments)
    monkeypatch.undo()
    alone = write_moving_shapes(tmp_path / "alone", CLASSES, seed=0, **arguments)
    for one, other in zip(table["video"], alone["video"]):
        assert Path(one).read_bytes() == Path(other).read_bytes()


@pytest.mark.parametrize("name", ["metadata.csv", "000001.mp4"])
def test_files_that_were_not_rendered_stay(tmp_path, name):
    (tmp_path / name).write_bytes(b"somebody's")
    with pytest.raises(ValueError, match=rf"holds {name}, which was not rendered into it; give another folder"):
        write_moving_shapes(tmp_path, CLASSES, clips_per_class=1, seed=0, resolution=64, num_frames=4)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"somebody's"


def test_a_disk_that_is_full_at_the_first_file_leaves_nothing(tmp_path, monkeypatch):
    def open_on_full_disk(file, mode, **options):
        Path(file).touch()
        return open("/dev/full", "w", **options)

    arguments = {"clips_per_class": 1, "seed": 0, "resolution": 64, "num_frames": 4}
    with monkeypatch.context() as patched:
        patched.setattr("froster_hf.shapes.dataset.open", open_on_full_disk, raising=False)
        with pytest.raises(OSError, match=r"moving_shapes\.unfinished cannot be written"):
            write_moving_shapes(tmp_path, CLASSES, **arguments)
    assert not list(tmp_path.iterdir())
    write_moving_shapes(tmp_path, CLASSES, **arguments)


def test_a_rendered_folder_is_used_as_it_was_made_whatever_its_list_says(tmp_path):
    arguments = {"clips_per_class": 1, "seed": 0, "resolution": 64, "num_frames": 4}
    made = write_moving_shapes(tmp_path, CLASSES, **arguments)
    (tmp_path / "metadata.csv").write_text("file_name,label,caption\n/etc/hostname,x,y\n")
    assert write_moving_shapes(tmp_path, CLASSES, **arguments).to_list() == made.to_list()
    (tmp_path / "moving_shapes.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"moving_shapes\.json"):
        write_moving_shapes(tmp_path, CLASSES, **arguments)


def test_folder_is_a_videofolder(tmp_path):
    write_moving_shapes(tmp_path / "clips", CLASSES, clips_per_class=1, seed=0, resolution=64, num_frames=4)
    dataset = load_dataset(
        "videofolder", data_dir=str(tmp_path / "clips"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(dataset["label"]) == sorted(str(c) for c in CLASSES)
