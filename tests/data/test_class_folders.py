"""Folders as people have them: only classes become classes, and what is passed over is counted."""

import os
from pathlib import Path

import pytest

from froster_hf.data import AnnotationError, UnsafePathError, describe_table, read_video_folder, read_videos


def paths(dataset):
    return [row["path"] for row in dataset["video"]]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_of_class_folders_becomes_paths_and_label_texts(video_folder):
    dataset = read_video_folder(video_folder)
    assert dataset.features["label"].names == ["apply eye makeup", "brush hair", "juggling"]
    assert dataset["label"][:] == [0, 0, 1, 1, 2, 2]
    assert [Path(path).name for path in paths(dataset)] == ["a.mp4", "b.mp4"] * 3
    assert dataset[0]["video"]["bytes"] is None, "nothing is decoded or embedded"


def test_a_folder_passes_over_hidden_files_and_files_that_are_no_videos(tmp_path):
    (tmp_path / "juggling").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("juggling/._a.mp4", "juggling/notes.txt", ".cache/b.mp4", "juggling/c.AVI"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in paths(read_video_folder(tmp_path))] == ["c.AVI"]


def test_a_folder_without_classes_or_with_an_escaping_link_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="no class folders"):
        read_video_folder(tmp_path)
    (tmp_path / "root" / "juggling").mkdir(parents=True)
    (tmp_path / "secret.mp4").touch()
    (tmp_path / "root" / "juggling" / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(UnsafePathError, match="outside the data root"):
        read_video_folder(tmp_path / "root")


def test_every_suffix_of_a_video_is_seen_in_both_cases(tmp_path):
    touch(tmp_path, *(f"x/a{suffix}" for suffix in (".mp4", ".MTS", ".m2ts", ".ogv", ".vob", ".asf", ".WEBM", ".3gp")))
    assert len(read_video_folder(tmp_path)) == 8


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "val", "test"],
        ["Training", "validation"],
        ["train"],
        ["test", "train", "juggling"],
    ],
)
def test_parts_of_a_data_set_are_not_taken_for_classes(tmp_path, folders):
    touch(tmp_path, *(f"{folder}/drinking/x.mp4" for folder in folders), "annotations/list.txt")
    with pytest.raises(AnnotationError, match=r"are parts of a data set, not classes. Read one of them, such as .*"):
        read_video_folder(tmp_path)
    assert read_video_folder(tmp_path / folders[0]).features["label"].names == ["drinking"]


def test_one_class_may_be_called_like_a_part_of_a_data_set(tmp_path):
    touch(tmp_path, "train/a.mp4", "bus/a.mp4", "car/a.mp4")
    assert read_video_folder(tmp_path).features["label"].names == ["bus", "car", "train"]


@pytest.mark.parametrize(
    "names",
    [
        ("Brush Hair", "brush_hair"),
        ("push-up", "push up"),
        ("Juggling", "juggling"),
        ("BrushHair", "brush hair"),
        ("\u00fcbung", "u\u0308bung"),
    ],
)
def test_two_spellings_of_a_class_are_refused(tmp_path, names):
    touch(tmp_path, *(f"{name}/a.mp4" for name in names))
    with pytest.raises(AnnotationError, match=r"both read .*Rename one of them"):
        read_video_folder(tmp_path)


def test_what_is_passed_over_is_counted_and_never_a_class(tmp_path, caplog):
    touch(
        tmp_path,
        *("juggling/a.mp4", "juggling/._a.mp4", "juggling/notes.txt", "juggling/more/b.mkv", "juggling/.trash/c.mp4"),
        *("__MACOSX/juggling/._a.mp4", ".cache/a.mp4", "README.md", "drafts/plan.docx", "bowling/Thumbs.db"),
        "bowling/a.mp4",
    )
    (tmp_path / "empty").mkdir()
    table = read_video_folder(tmp_path)
    assert table.features["label"].names == ["bowling", "juggling"]
    assert len(table) == 3
    description = describe_table(table)
    for said in ("5 hidden", "1 .txt", "folder without a video: empty", "folder without a video: drafts", "1 .docx"):
        assert said in description
        assert said in caplog.text


def test_a_folder_without_any_video_says_what_it_holds(tmp_path):
    touch(tmp_path, "frames/1.png", "frames/2.png", "video.mp4")
    with pytest.raises(AnnotationError, match=r"no class folders with videos.*2 \.png.*1 beside the class folders"):
        read_video_folder(tmp_path)


def snapshot(tmp_path):
    """A download of the Hub: files are links into `blobs`."""
    entry = tmp_path / "hub" / "datasets--someone--videos"
    folder = entry / "snapshots" / "0123abc" / "data"
    (folder / "juggling").mkdir(parents=True)
    touch(entry, "blobs/cafe")
    (folder / "juggling" / "a.mp4").symlink_to(os.path.relpath(entry / "blobs" / "cafe", folder / "juggling"))
    return folder


def test_a_download_of_the_hub_is_read_through_its_links(tmp_path):
    folder = snapshot(tmp_path)
    for root in (folder, folder.parent / "data"):
        assert paths(read_video_folder(root)) == [str(folder.parents[2] / "blobs" / "cafe")]


def test_links_out_of_the_cache_entry_are_refused(tmp_path):
    folder = snapshot(tmp_path)
    touch(tmp_path, "hub/datasets--other--videos/blobs/beef")
    (folder / "juggling" / "b.mp4").symlink_to(tmp_path / "hub/datasets--other--videos/blobs/beef")
    with pytest.raises(UnsafePathError, match="allow_links=True"):
        read_video_folder(folder)


def test_links_to_a_video_of_another_class_are_refused(tmp_path):
    root = touch(tmp_path, "bowling/b.mp4", "juggling/a.mp4")
    (root / "juggling" / "again.mp4").symlink_to("a.mp4")
    table = read_video_folder(root)
    assert [Path(path).name for path in paths(table)] == ["b.mp4", "a.mp4"]
    assert "1 of 3 name a video again, with the same label; each video counts once." in describe_table(table)
    (root / "juggling" / "b.mp4").symlink_to("../bowling/b.mp4")
    with pytest.raises(
        AnnotationError, match=r"juggling.b\.mp4: .* has the label 'juggling', and 'bowling' in .*b\.mp4\."
    ):
        read_video_folder(root)


def test_a_folder_of_links_is_read_on_request(tmp_path):
    full = touch(tmp_path, "full/juggling/a.mp4") / "full"
    (tmp_path / "few" / "juggling").mkdir(parents=True)
    (tmp_path / "few" / "juggling" / "a.mp4").symlink_to(full / "juggling" / "a.mp4")
    (tmp_path / "few" / "bowling").symlink_to(full / "juggling")
    with pytest.raises(UnsafePathError, match="allow_links=True"):
        read_video_folder(tmp_path / "few")
    table = read_video_folder(tmp_path / "few", allow_links=True)
    assert table["label"][:] == [0, 1]
    assert paths(table) == [str(tmp_path / "few" / name / "a.mp4") for name in ("bowling", "juggling")]


def test_a_folder_that_is_a_link_itself_is_the_users_own_choice(tmp_path):
    touch(tmp_path, "full/juggling/a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    assert paths(read_video_folder(tmp_path / "link")) == [str(tmp_path / "full" / "juggling" / "a.mp4")]


def test_what_to_do_with_links_that_lead_nowhere_is_the_callers_choice(tmp_path):
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / "a.mp4").touch()
    (tmp_path / "running" / "b.mp4").symlink_to("gone.mp4")
    for missing, number in (("drop", 1), ("keep", 2)):
        assert len(read_video_folder(tmp_path, missing=missing)) == number
        assert len(read_videos(tmp_path, missing=missing)) == number
    with pytest.raises(AnnotationError, match=r"1 of 2 listed videos are not there, such as .*gone\.mp4"):
        read_video_folder(tmp_path)


def test_folders_that_are_linked_in_a_circle_end(tmp_path):
    touch(tmp_path, "juggling/a.mp4")
    (tmp_path / "juggling" / "again").symlink_to(tmp_path / "juggling")
    table = read_video_folder(tmp_path, allow_links=True)
    assert len(table) == 1
    assert "1 links to folders" in describe_table(table)


def test_the_table_of_classes_counts_them_and_names_empty_ones(tmp_path):
    touch(tmp_path, "juggling/a.mp4", "juggling/b.mp4", "bowling/a.mp4")
    lines = describe_table(read_video_folder(tmp_path).select([1, 2])).splitlines()
    assert lines[0] == "2 videos of 2 classes:"
    assert [line.split() for line in lines[1:3]] == [["0", "bowling", "0"], ["1", "juggling", "2"]]
    assert "Classes without a video: bowling." in lines


def test_the_table_of_many_classes_is_short_and_shows_no_control_characters(tmp_path):
    touch(tmp_path, *(f"class {number}\x1b[31m/a.mp4" for number in range(60)))
    described = describe_table(read_video_folder(tmp_path))
    assert "and 20 more classes with 1 to 1 videos each" in described
    assert "\x1b" not in described
