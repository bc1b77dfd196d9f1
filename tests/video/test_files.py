"""One list of suffixes and one rule for what is passed over, for data sets and the command line alike."""

import glob
import inspect
import os
import sys
from collections import Counter

import pytest
from PIL import Image

from froster_hf.cli.videos import find_videos
from froster_hf.data import describe_table, read_video_folder, read_video_list
from froster_hf.video.files import is_hidden, is_video_name, match_pattern, path_state, search_folder
from froster_hf.video.images import image_files
from froster_hf.video.types import UnreadableVideoError, VideoLimits

# Frames that a search may take, and folders within each other, of which a search by recursion takes one frame each.
FRAMES, DEPTH = 200, 300
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


def close_folder(monkeypatch, name: str) -> None:
    """Make folders of this name ones that may not be read; for root, none is closed."""
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)


def test_a_folder_that_may_not_be_read_is_said_and_the_rest_is_found(folder, monkeypatch, capsys):
    close_folder(monkeypatch, "below")
    assert len(find_videos([str(folder)])) == 2
    assert "passed over 1 folders that cannot be read" in capsys.readouterr().err
    assert "1 folders that cannot be read" in describe_table(read_video_folder(folder))


def test_a_folder_of_frames_that_may_not_be_read_is_one_unreadable_video(tmp_path, monkeypatch):
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "1.png")
    (tmp_path / "list.txt").write_text("closed\nopen\n")
    (tmp_path / "list.csv").write_text("closed,0\nopen,1\ngone,1\n")
    close_folder(monkeypatch, "closed")
    videos = [str(tmp_path / name) for name in ("closed", "open")]
    assert find_videos([str(tmp_path / "list.txt")]) == videos
    assert find_videos([videos[0]]) == videos[:1]
    table = read_video_list(tmp_path / "list.csv", root=tmp_path, labels=["x", "y"], missing="drop")
    assert [row["path"] for row in table["video"]] == videos
    with pytest.raises(UnreadableVideoError, match="Permission denied"):
        image_files(videos[0], VideoLimits())


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


def test_a_folder_of_frames_is_another_one_when_any_frame_is(tmp_path):
    frames, aside = tmp_path / "frames", tmp_path / "aside"
    frames.mkdir()
    for number in range(1, 5):
        (frames / f"{number}.png").write_bytes(b"." * number)
        os.utime(frames / f"{number}.png", ns=(number, number))
    states = [path_state(frames)]

    def has_changed() -> bool:
        states.append(path_state(frames))
        return states[-1] not in states[:-1]

    (frames / ".DS_Store").touch()
    (frames / "below").mkdir()
    assert not has_changed()
    # Neither their number nor the newest time is another one.
    os.utime(frames / "2.png", ns=(1, 1))
    assert has_changed()
    (frames / "2.png").write_bytes(b"other")
    os.utime(frames / "2.png", ns=(1, 1))
    assert has_changed()
    (frames / "1.png").rename(aside)
    assert has_changed()
    aside.rename(frames / "5.png")
    assert has_changed()
    # What leads nowhere hides no others.
    (frames / "6.png").symlink_to("nowhere")
    assert has_changed()
    (frames / "3.png").unlink()
    assert has_changed()
    if sys.platform == "linux":
        with open(os.fsencode(frames) + b"/\xff.png", "wb"):
            pass
        assert has_changed()
    assert path_state(os.fsencode(frames)) == path_state(str(frames)) == states[-1]


@pytest.fixture
def deep_folder(folder):
    """With fewer frames than usual, since what deletes the folders of tests would not delete deeper ones."""
    os.makedirs(folder / "a" / os.path.join(*["a"] * DEPTH))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + FRAMES)
    yield folder
    sys.setrecursionlimit(limit)


def test_folders_of_any_depth_are_searched_by_name_pattern_and_address(deep_folder):
    folder = deep_folder
    (folder / "juggling" / "__MACOSX" / "b.mp4").unlink()
    names = [str(folder / "juggling" / name) for name in ("b.mp4", "below/c.webm")]
    assert find_videos([f"{folder}/**/[bc].*", "other.mp4"]) == [*names, "other.mp4"]
    assert find_videos([str(folder)])[1:] == names
    at_addresses = [*(f"file://{name}" for name in names), "other.mp4"]
    assert find_videos([f"file://{folder}/", "other.mp4"])[1:] == at_addresses
    assert find_videos([f"file://{folder}/**/[bc].*", "other.mp4"]) == at_addresses


def test_an_address_with_a_second_slash_is_that_of_the_same_folder(folder):
    start, name = os.path.split(folder)
    for found in find_videos([f"file://{start}//{name}"]):
        assert os.path.isfile(found.removeprefix("file://"))


def test_a_pattern_leads_through_no_link_to_a_folder_and_says_so(folder, capsys):
    for name in ("dot", "other"):
        (folder / "juggling" / name).symlink_to(".")
    (folder / "juggling" / "link.mp4").symlink_to("b.mp4")
    names = [str(folder / "juggling" / name) for name in ("b.mp4", "link.mp4")]
    (folder / "juggling" / "__MACOSX" / "b.mp4").unlink()
    for pattern in ("**/*.mp4", "**/juggling/**/*.mp4"):
        assert find_videos([f"{folder}/{pattern}"]) == names
    assert capsys.readouterr().err.count("passed over 3 links to folders, which `**` does not follow") == 2
    # A link that `*` or a name stands for is followed, as in shells.
    assert find_videos([f"{folder}/juggling/dot/*.mp4"]) == [name.replace("ling/", "ling/dot/") for name in names]
    assert len(find_videos([f"{folder}/juggling/[do]*/*.mp4"])) == 4


@pytest.mark.parametrize("start", ["", "./", "{folder}/"])
@pytest.mark.parametrize(
    "pattern",
    [
        *("**/*.mp4", "**/**/c.webm", "**/juggling/**/?.*", "jug*/**", "**", "**/", "**/below/", "**/__MACOSX/*"),
        *(
            "juggling/.*/**/*.mp4",
            "**/.?b.mp4",
            "**/._*",
            "j**/b.mp4",
            "*/*.mp4",
            "**/[!a].*",
            "**/circle",
            "nothing/*",
        ),
    ],
)
def test_a_pattern_means_what_it_means_to_glob(folder, monkeypatch, start, pattern):
    monkeypatch.chdir(folder)
    (folder / "juggling" / "again").unlink()
    (folder / "juggling" / "again").symlink_to("b.mp4")
    pattern = start.format(folder=folder) + pattern
    assert match_pattern(pattern, Counter()) == sorted(set(glob.glob(pattern, recursive=True)))


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
