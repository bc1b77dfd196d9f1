import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value, Video

from froster_hf.data import AnnotationError, UnsafePathError, as_video_table, read_video_folder, read_video_list
from froster_hf.data.readers import read_labels


def paths(dataset):
    return [row["path"] for row in dataset["video"]]


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


LISTS = {
    "original.csv": "ApplyEyeMakeup/a.mp4,1\njuggling/b.mp4,0\n",
    "spaces.txt": "ApplyEyeMakeup/a.mp4 1\r\njuggling/b.mp4 0\r\n",
    "header.csv": "label,video\nmakeup,ApplyEyeMakeup/a.mp4\n0,juggling/b.mp4\n",
    "rows.jsonl": '{"video": "ApplyEyeMakeup/a.mp4", "label": 1}\n\n{"video": "juggling/b.mp4", "label": "balls"}\n',
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("labels", [["balls", "makeup"], {"0": "balls", "1": "makeup"}])
def test_every_list_layout_gives_the_same_table(video_folder, tmp_path, name, labels):
    (tmp_path / name).write_text(LISTS[name])
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    dataset = read_video_list(tmp_path / name, root=video_folder, labels=tmp_path / "labels.json")
    assert paths(dataset) == [str(video_folder / "ApplyEyeMakeup/a.mp4"), str(video_folder / "juggling/b.mp4")]
    assert dataset["label"][:] == [1, 0]
    assert dataset.features["label"].names == ["balls", "makeup"]


def test_names_in_a_list_make_its_labels_when_none_are_given(video_folder, tmp_path):
    list_file = tmp_path / "list.csv"
    list_file.write_text('video,label\njuggling/a.mp4,"throwing, catching"\nbrush_hair/a.mp4,hair\n')
    dataset = read_video_list(list_file, root=video_folder)
    assert dataset.features["label"].names == ["hair", "throwing, catching"]
    assert dataset["label"][:] == [1, 0]


def test_a_path_may_hold_commas_in_the_original_layout(tmp_path):
    (tmp_path / "a, b.mp4").touch()
    (tmp_path / "list.csv").write_text("a, b.mp4,0\n")
    assert paths(read_video_list(tmp_path / "list.csv", root=tmp_path, labels=["x"])) == [str(tmp_path / "a, b.mp4")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("juggling/a.mp4,0\n../other.mp4,0\n", r"list\.csv, line 2.*outside the data root"),
        ("juggling/a.mp4,0\njuggling/b.mp4,2\n", r"list\.csv, line 2: the label '2'"),
        ("juggling/a.mp4,-1\n", r"line 1: the label '-1'"),
        ("path,category\njuggling/a.mp4,0\n", r"line 1: the label 'category'.*video_field="),
        ("juggling/a.mp4\n", r"line 1: expected `path,label`"),
        ("video,label\njuggling/a.mp4,0,1\n", r"line 2: 3 fields"),
        ('video,label\n"juggling/a.mp4,0\n', r"line 2: not a CSV line"),
        ("juggling/a.mp4,0\njuggling/gone.mp4,1\n", r"1 of 2 listed videos are not there.*line 2"),
        ("", "No video is left"),
    ],
)
def test_a_bad_csv_line_is_named(video_folder, tmp_path, content, message):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(AnnotationError, match=message):
        read_video_list(tmp_path / "list.csv", root=video_folder, labels=["x", "y"])


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"video": "a.mp4"}', '{"video": 3, "label": 0}', '{"video": "a", "label": null}', "[" * 100_000],
)
def test_a_bad_jsonl_line_is_named(video_folder, tmp_path, line):
    (tmp_path / "list.jsonl").write_text(line + "\n")
    with pytest.raises(AnnotationError, match=r"list\.jsonl, line 1"):
        read_video_list(tmp_path / "list.jsonl", root=video_folder, labels=["x"])


def test_indices_without_label_texts_are_refused(video_folder, tmp_path):
    (tmp_path / "list.csv").write_text("juggling/a.mp4,0\n")
    with pytest.raises(AnnotationError, match="Pass labels="):
        read_video_list(tmp_path / "list.csv", root=video_folder)


def test_bytes_that_are_no_text_are_refused(video_folder, tmp_path):
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00video")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_video_list(tmp_path / "list.csv", root=video_folder, labels=["x"])


def test_missing_files_are_dropped_or_kept_on_request(video_folder, tmp_path, caplog):
    (tmp_path / "list.csv").write_text("juggling/gone.mp4,0\njuggling/a.mp4,1\n")
    dropped = read_video_list(tmp_path / "list.csv", root=video_folder, labels=["x", "y"], missing="drop")
    assert dropped["label"][:] == [1]
    assert "gone.mp4" in caplog.text
    kept = read_video_list(tmp_path / "list.csv", root=video_folder, labels=["x", "y"], missing="keep")
    assert kept["label"][:] == [0, 1]


@pytest.mark.parametrize(
    "labels", [{"0": "a", "2": "b"}, {"a": 1}, ["a", "a"], [], ["a", ""], [1, 2], {"0": ["a"]}, {"0": "a", "1": "a"}]
)
def test_label_files_that_hold_no_label_list_are_refused(tmp_path, labels):
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(AnnotationError, match=r"labels\.json"):
        read_labels(tmp_path / "labels.json")


def test_any_data_set_with_a_video_column_becomes_a_table(video_folder):
    clip = video_folder / "juggling" / "a.mp4"
    features = Features({"clip": Video(), "action": Value("string"), "note": Value("int64")})
    source = Dataset.from_dict(
        {"clip": [str(clip), clip.read_bytes()], "action": ["y", "x"], "note": [1, 2]}, features=features
    )
    table = as_video_table(source, label_column="action", roots=[video_folder])
    assert table.column_names == ["video", "label"]
    assert table.features["label"] == ClassLabel(names=["x", "y"])
    assert table["label"][:] == [1, 0]
    assert table[0]["video"]["path"] == str(clip)
    assert table[1]["video"]["bytes"] == clip.read_bytes()


def test_a_downloaded_table_cannot_point_at_other_files(video_folder, tmp_path):
    source = Dataset.from_dict(
        {"video": ["/etc/passwd"], "label": [0]},
        features=Features({"video": Video(), "label": ClassLabel(names=["x"])}),
    )
    with pytest.raises(UnsafePathError, match=r"row 0.*outside the data root"):
        as_video_table(source, roots=[video_folder])
    with pytest.raises(AnnotationError, match="row 0"):
        as_video_table(source)


def test_a_data_set_without_one_video_column_or_label_names_is_refused(video_folder):
    clip = str(video_folder / "juggling" / "a.mp4")
    two = Dataset.from_dict(
        {"a": [clip], "b": [clip], "label": [0]},
        features=Features({"a": Video(), "b": Video(), "label": Value("int64")}),
    )
    with pytest.raises(ValueError, match=r"the Video columns are \['a', 'b'\]"):
        as_video_table(two)
    with pytest.raises(ValueError, match="must be a ClassLabel or strings"):
        as_video_table(two, video_column="a")
