"""One list of suffixes and one rule for what is passed over, for data sets and the command line alike."""

import os

import pytest

from froster_hf.cli.videos import find_videos
from froster_hf.data import describe_table, read_video_folder
from froster_hf.video.files import is_hidden, is_video_name, search_folder

NAMES = ["b.mp4", "a.MTS", "below/c.webm", "._b.mp4", ".trash/old.mp4", "__MACOSX/b.mp4", "notes.txt", "README"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / "juggling" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "juggling" / name).touch()
    (tmp_path / "juggling" / "again").symlink_to(tmp_path)
    (tmp_path / "juggling" / "circle").symlink_to("circle")
    return tmp_path


def test_a_search_finds_videos_in_order_and_counts_the_rest(folder):
    content = search_folder(folder / "juggling")
    assert [str(path.relative_to(folder / "juggling")) for path in content.videos] == [
        "a.MTS",
        "b.mp4",
        "below/c.webm",
    ]
    assert content.passed_over == {"hidden": 3, ".txt": 1, "without a suffix": 2, "links to folders": 1}


def test_data_sets_and_the_command_line_see_the_same_videos(folder):
    table = read_video_folder(folder)
    assert [row["path"] for row in table["video"]] == find_videos([str(folder)])


def test_a_folder_that_may_not_be_read_is_said_and_the_rest_is_found(folder, monkeypatch, capsys):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # For root, no folder is closed.
    monkeypatch.setattr("froster_hf.video.files.os.scandir", refuse)
    assert len(find_videos([str(folder)])) == 2
    assert "passed over 1 folders that cannot be read" in capsys.readouterr().err
    assert "1 folders that cannot be read" in describe_table(read_video_folder(folder))


def test_a_link_to_itself_is_one_unreadable_video_and_the_rest_is_found(folder):
    (folder / "juggling" / "round.mp4").symlink_to("round.mp4")
    (folder / "juggling" / "round").symlink_to("round")
    assert [os.path.basename(path) for path in find_videos([str(folder)])] == ["a.MTS", "b.mp4", "c.webm", "round.mp4"]


def test_folders_whose_paths_are_too_long_are_said_and_the_rest_is_found(folder, capsys):
    name = "n" * 200
    start = os.open(folder / "juggling", os.O_RDONLY)
    for _ in range(30):
        os.mkdir(name, dir_fd=start)
        below = os.open(name, os.O_RDONLY, dir_fd=start)
        os.close(start)
        start = below
    os.close(start)
    assert len(find_videos([str(folder)])) == 3
    assert "passed over 1 folders that cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("name", [".DS_Store", "._a.mp4", "__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"])
def test_what_systems_leave_is_hidden(name):
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["a.mp4", "A.M2TS", "b.x.ogv", "c.3GP"])
def test_names_with_a_videos_suffix_are_videos(name):
    assert is_video_name(name)
    assert not is_hidden(name)


@pytest.mark.parametrize("name", ["mp4", "a.mp4.txt", "a.mp3", "a.jpg", ""])
def test_other_names_are_no_videos(name):
    assert not is_video_name(name)
