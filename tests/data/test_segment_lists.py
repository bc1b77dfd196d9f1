"""ActivityNet's and THUMOS14's annotations of long videos."""

import json

import pytest

from froster_hf.data import segment_lists
from froster_hf.data.safe_paths import VideoRoot
from froster_hf.data.segment_lists import AnnotatedSegment, read_activitynet, read_thumos14, segment_table
from froster_hf.processing import text_files
from froster_hf.processing.text_files import AnnotationError


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("v_abc.mp4", "def.mkv", "video_test_0000001.mp4", "video_test_0000002.mp4"):
        (folder / name).write_bytes(b"")
    return folder


def activitynet(tmp_path, **changes):
    database = {
        "abc": {
            "duration": 60.0,
            "subset": "validation",
            "annotations": [
                {"label": "Playing_guitar", "segment": [1.5, 20]},
                {"label": "Archery", "segment": [3.0, 3.0]},
            ],
        },
        "def": {"duration": 9.0, "subset": "validation", "annotations": []},
        "ghi": {"subset": "training", "annotations": [{"label": "Zumba", "segment": [0, 1]}]},
    }
    database["abc"].update(changes)
    file = tmp_path / "activity_net.json"
    file.write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    return file


def test_activitynets_segments_of_a_subset_are_read(tmp_path, videos):
    table = read_activitynet(activitynet(tmp_path), videos)
    assert table.labels == ["archery", "Playing guitar", "zumba"]
    assert table.videos == [str(videos / "v_abc.mp4"), str(videos / "def.mkv")]
    assert table.segments == [AnnotatedSegment(str(videos / "v_abc.mp4"), "Playing guitar", 1.5, 20.0)]
    assert "1 segments without length were left out" in table.source


def test_one_file_by_two_names_is_refused(tmp_path, videos):
    file = activitynet(tmp_path)
    database = json.loads(file.read_text())["database"]
    file.write_text(json.dumps({"database": {**database, "v_abc.mp4": database["abc"]}}))
    with pytest.raises(AnnotationError, match=r"'abc' and 'v_abc\.mp4' are the same file"):
        read_activitynet(file, videos)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": None}, r"video 'abc': expected an object with `subset` and a list"),
        ({"annotations": [{"segment": [0, 1]}]}, "with `label` and `segment`"),
        ({"annotations": [{"label": "a", "segment": [1]}]}, "two numbers"),
        ({"annotations": [{"label": "a", "segment": ["x", 1]}]}, "must be numbers"),
        ({"annotations": [{"label": "a", "segment": [0, 10**400]}]}, "must be numbers, got .0, 1000"),
        ({"annotations": [{"label": "a", "segment": [False, True]}]}, "must be numbers, got .False, True"),
        ({"annotations": [{"label": "a", "segment": ["0", "1"]}]}, "must be numbers, got"),
        ({"annotations": [{"label": "a", "segment": [5, 1]}]}, "from 5.0 to 1.0 s"),
    ],
)
def test_entries_that_do_not_fit_are_named(tmp_path, videos, changes, message):
    with pytest.raises(AnnotationError, match=message):
        read_activitynet(activitynet(tmp_path, **changes), videos)


def test_a_subset_without_videos_and_another_file_are_named(tmp_path, videos):
    with pytest.raises(AnnotationError, match=r"subset 'val'; there are \['training', 'validation'\]"):
        read_activitynet(activitynet(tmp_path), videos, subset="val")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(AnnotationError, match="no object `database`"):
        read_activitynet(tmp_path / "other.json", videos)


def test_missing_videos_are_refused_dropped_or_kept(tmp_path, videos):
    file = activitynet(tmp_path)
    (videos / "v_abc.mp4").unlink()
    with pytest.raises(AnnotationError, match=r"1 of 2 listed videos are not in .* such as abc"):
        read_activitynet(file, videos)
    dropped = read_activitynet(file, videos, missing="drop")
    assert (dropped.videos, dropped.segments) == ([str(videos / "def.mkv")], [])
    kept = read_activitynet(file, videos, missing="keep")
    assert kept.videos == [str(videos / "v_abc.mp4"), str(videos / "def.mkv")]


def test_videos_that_are_nowhere_are_resolved_once_each(tmp_path, monkeypatch):
    resolved, resolve = [], VideoRoot.resolve
    monkeypatch.setattr(
        VideoRoot, "resolve", lambda *args, **where: resolved.append(args[1]) or resolve(*args, **where)
    )
    entry = {"subset": "validation", "annotations": [{"label": "a", "segment": [0, 1]}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {f"gone{number}": entry for number in range(50)}}))
    read_activitynet(tmp_path / "a.json", tmp_path, missing="keep")
    assert len(resolved) == 50


def test_a_video_outside_of_the_folder_is_refused(tmp_path, videos):
    file = tmp_path / "a.json"
    entry = {"subset": "validation", "annotations": [{"label": "a", "segment": [0, 1]}]}
    file.write_text(json.dumps({"database": {"/../../etc/passwd": entry}}))
    with pytest.raises(AnnotationError, match="outside the data root"):
        read_activitynet(file, videos)


@pytest.fixture
def thumos(tmp_path):
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "BaseballPitch_test.txt").write_text(
        "video_test_0000001 0.2 1.1\nvideo_test_0000001  5.0  6.5\nvideo_test_0000002 1 2\n"
    )
    (folder / "Diving_test.txt").write_text("video_test_0000002 7.0 9.0\n")
    (folder / "Ambiguous_test.txt").write_text("video_test_0000001 3.0 4.0\n")
    (folder / "Diving_val.txt").write_text("video_validation_0000001 0 1\n")
    return folder


def test_thumos14s_files_are_read_class_by_class_without_ambiguous_stretches(thumos, videos):
    table = read_thumos14(thumos, videos)
    assert table.labels == ["baseball pitch", "diving"]
    first, second = (str(videos / f"video_test_000000{number}.mp4") for number in (1, 2))
    assert table.videos == [first, second]
    assert table.segments == [
        AnnotatedSegment(first, "baseball pitch", 0.2, 1.1),
        AnnotatedSegment(first, "baseball pitch", 5.0, 6.5),
        AnnotatedSegment(second, "baseball pitch", 1.0, 2.0),
        AnnotatedSegment(second, "diving", 7.0, 9.0),
    ]


def test_classes_of_any_name_are_read_and_other_text_files_are_said(thumos, videos):
    for name in ("Golf_Swing", "HighJump2", "long-jump", "Kürlauf", "pole vault"):
        (thumos / f"{name}_test.txt").write_text("video_test_0000002 7.0 9.0\n")
    # As a Mac leaves it beside each file on another's disk.
    (thumos / "._Diving_test.txt").write_bytes(b"\x00\x05\x16\x07")
    (thumos / "Rowing-test.txt").write_text("video_test_0000002 7.0 9.0\n")
    table = read_thumos14(thumos, videos)
    own = ["golf swing", "high jump2", "kürlauf", "long-jump", "pole vault"]
    assert [label.lower() for label in table.labels] == ["baseball pitch", "diving", *own]
    assert len(table.segments) == 9
    assert "2 text files not named CLASS_test.txt were passed over: Diving_val.txt, Rowing-test.txt." in table.source


def test_a_subset_may_have_several_words(thumos, videos):
    (thumos / "Golf_Swing_my_test.txt").write_text("video_test_0000002 7.0 9.0\n")
    assert read_thumos14(thumos, videos, subset="my_test").labels == ["Golf Swing"]


def test_lines_and_folders_that_do_not_fit_are_named(thumos, videos, tmp_path):
    (thumos / "Diving_test.txt").write_text("video_test_0000002 7.0\n")
    with pytest.raises(AnnotationError, match=r"Diving_test\.txt, line 1: expected `video start end`"):
        read_thumos14(thumos, videos)
    with pytest.raises(AnnotationError, match=r"no segments in files named CLASS_test\.txt"):
        read_thumos14(tmp_path, videos)


def test_lines_of_all_classes_of_thumos14_are_counted_together(thumos, videos, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINES", 3)
    with pytest.raises(AnnotationError, match=r"Diving_test\.txt, line 1: up to here are more than 3 lines"):
        read_thumos14(thumos, videos)


@pytest.mark.parametrize("subset", ["../secret", "/../../**/x", "**", "t*t", "[a-z]est"])
def test_a_subset_is_a_name_and_no_pattern(thumos, videos, subset):
    (thumos / "a_").mkdir()
    (thumos / "secret.txt").write_text("password is hunter2\n")
    with pytest.raises(AnnotationError, match="no segments in files named CLASS_"):
        read_thumos14(thumos, videos, subset=subset)


def test_more_segments_of_a_class_than_a_video_has_are_refused(tmp_path, videos, monkeypatch):
    found = {"v_a": [("run", 0.0, 1.0)] * 2 + [("walk", 0.0, 1.0)] * 2}
    options = {"names": ["run", "walk"], "root": VideoRoot(tmp_path), "missing": "keep", "where": "list.json"}
    assert len(segment_table(found, **options).segments) == 4
    monkeypatch.setattr(segment_lists, "MOST_SEGMENTS", 1)
    with pytest.raises(AnnotationError, match=r"^list\.json: 'v_a' has 2 segments of 'run'; at most 1 of one class"):
        segment_table(found, **options)
