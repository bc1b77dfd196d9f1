import shlex

import pytest

from froster_hf.cli import main
from froster_hf.modeling.modeling_froster import FrosterModel
from froster_hf.shapes import DEMO_LABELS, STORY, render_demo_videos
from froster_hf.video.decoding import probe_video
from tests.fixtures.forks import run_python


def test_the_demo_renders_scores_and_draws_and_says_what_its_model_is(tmp_path):
    finished = run_python("-m", "froster_hf", "demo", "--output", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "the small FROSTER that ships with the package" in finished.stdout
    assert "--model openai/clip-vit-base-patch32" in finished.stdout
    for label in DEMO_LABELS:
        assert finished.stdout.count(label.replace(" ", "_") + ".mp4\n") == 1
        assert finished.stdout.count(f"  {label} ") == len(DEMO_LABELS)
    # The first answer to each video is the label that it was rendered from.
    lines = finished.stdout.splitlines()
    for label in DEMO_LABELS:
        place = next(number for number, line in enumerate(lines) if label.replace(" ", "_") in line)
        assert label in lines[place + 1]
    # What it says can be done by hand can be.
    by_hand = [shlex.split(line)[1:] for line in lines if line.startswith("  froster ")]
    assert [words[0] for words in by_hand] == ["predict", "timeline"]
    for words in by_hand:
        assert main(words) == 0
    assert (tmp_path / "out" / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_takes_labels_frames_and_backend_as_the_other_verbs_do(tmp_path, monkeypatch, capsys):
    lengths = []
    read = FrosterModel.get_video_features

    def spy(self, pixel_values_videos, **options):
        lengths.append(pixel_values_videos.shape[1])
        return read(self, pixel_values_videos, **options)

    monkeypatch.setattr(FrosterModel, "get_video_features", spy)
    options = ["--output", str(tmp_path), "--num-frames", "4", "--backend", "decord"]
    assert main(["demo", "--labels", "a red star , a blue square", *options]) == 0
    assert set(lengths) == {4}
    assert "  a red star   " in capsys.readouterr().out
    assert main(["demo", "--labels", "a,,b", *options]) == 1
    assert "is empty" in capsys.readouterr().err


def test_demo_videos_are_real_files_of_their_labels(tmp_path):
    videos = render_demo_videos(tmp_path, ["a red star sliding left"], num_frames=12)
    assert [video.name for video in videos] == ["a_red_star_sliding_left.mp4", STORY]
    for video in videos:
        info = probe_video(video)
        assert (info.num_frames, info.height, info.width) == (12, 192, 192)


@pytest.mark.parametrize("name", [f"{DEMO_LABELS[0].replace(' ', '_')}.mp4", STORY, "timeline.png"])
def test_the_demo_writes_over_no_file_that_no_demo_has_written(tmp_path, capsys, name):
    (tmp_path / name).write_text("of the user")
    assert main(["demo", "--output", str(tmp_path), "--num-frames", "2"]) == 1
    assert f"holds {name}, which no demo has written; give another folder" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "of the user")]


def test_a_demo_makes_its_own_files_again_and_no_others(tmp_path):
    (tmp_path / "mine.mp4").write_text("of the user")
    first = [path.read_bytes() for path in render_demo_videos(tmp_path, seed=0, num_frames=2)]
    assert [path.read_bytes() for path in render_demo_videos(tmp_path, seed=1, num_frames=2)] != first
    other = tmp_path / "a_red_bar_growing.mp4"
    other.write_text("of the user")
    with pytest.raises(ValueError, match=r"a_red_bar_growing\.mp4, which no demo has written"):
        render_demo_videos(tmp_path, ["a red bar growing"], num_frames=2)
    assert other.read_text() == (tmp_path / "mine.mp4").read_text() == "of the user"


def test_labels_of_another_world_are_refused(tmp_path):
    with pytest.raises(ValueError, match="juggling"):
        render_demo_videos(tmp_path, ["juggling"])
