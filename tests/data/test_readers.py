import json
import os

import pytest
from datasets import ClassLabel, Dataset, Features, Value, Video

from froster_hf.data import AnnotationError, UnsafePathError, as_video_table
from froster_hf.data.readers import read_labels
from froster_hf.data.video_table import table_fingerprint
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor, encoded_source
from froster_hf.video.decoding import VideoDecodeError


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


def test_a_table_is_the_same_from_whichever_folder_its_paths_are_written(video_folder, monkeypatch):
    monkeypatch.chdir(video_folder)
    paths = ["juggling/a.mp4", "juggling/b.mp4"]
    written = [[os.path.abspath(path) if path in full else path for path in paths] for full in (paths, paths[:1], [])]
    tables = [
        as_video_table(table_of(["x", "y"], Value("string"), row_paths), roots=[video_folder]) for row_paths in written
    ]
    assert len({table_fingerprint(table) for table in tables}) == 1


def test_a_table_is_another_where_a_folder_of_frames_has_others(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in ("1.png", "2.png", "3.png"):
        (frames / name).write_bytes(b"frame")
    table = as_video_table(table_of(["x"], Value("string"), [str(frames)]), roots=[tmp_path])
    first = table_fingerprint(table)
    (frames / "Thumbs.db").write_bytes(b"of a system")
    assert table_fingerprint(table) == first
    (frames / "2.png").write_bytes(b"another frame")
    second = table_fingerprint(table)
    (frames / "4.png").write_bytes(b"frame")
    assert len({first, second, table_fingerprint(table)}) == 3


def test_folders_that_cannot_be_read_or_lead_to_themselves_have_a_fingerprint(tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/1.png").symlink_to(tmp_path / "frames")
    table = as_video_table(table_of(["x"], Value("string"), [str(tmp_path / "frames")]), roots=[tmp_path])
    assert table_fingerprint(table)
    monkeypatch.setattr(os, "scandir", lambda path: os.listdir(tmp_path / "nowhere"))
    assert table_fingerprint(table)


def test_relative_paths_of_a_table_are_checked_as_they_are_opened(video_folder, tmp_path, monkeypatch):
    """From the current folder, not from each of the roots, where nothing need be."""
    monkeypatch.chdir(video_folder)
    source = Dataset.from_dict(
        {"video": ["juggling/a.mp4"], "label": [0]},
        features=Features({"video": Video(), "label": ClassLabel(names=["x"])}),
    )
    assert as_video_table(source, roots=["juggling"])[0]["video"]["path"] == "juggling/a.mp4"
    with pytest.raises(UnsafePathError, match=r"row 0.*outside the data root"):
        as_video_table(source, roots=[tmp_path])
    with pytest.raises(AnnotationError, match="row 0"):
        as_video_table(source)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 7, 1], "Row 1 of the data set has the label 7, of 2 names"),
        ([0, 1, -1], "Row 2 of the data set has the label -1, of 2 names"),
        ([0, None], "Row 1 of the data set has the label None, of 2 names"),
        (["a", None], "Row 1 .* no"),
    ],
)
def test_labels_of_a_downloaded_table_that_are_none_are_named_with_their_row(tmp_path, video_folder, labels, told):
    clips = {"video": [(video_folder / "juggling" / "a.mp4").read_bytes()] * len(labels)}
    if labels[0] == "a":
        features = Features({"video": Video(), "label": Value("string")})
        table = Dataset.from_dict({**clips, "label": labels}, features=features)
    else:
        # As a file brings them, which are not compared with the names.
        table = Dataset.from_dict(
            {**clips, "label": labels}, features=Features({"video": Video(), "label": Value("int64")})
        )
        table.info.features["label"] = ClassLabel(names=["a", "b"])
    with pytest.raises(AnnotationError, match=told):
        as_video_table(table, roots=[video_folder])


def table_of(labels: list, feature: Value | ClassLabel, clips: bytes | list[str]) -> Dataset:
    videos = [clips] * len(labels) if isinstance(clips, bytes) else clips
    return Dataset.from_dict(
        {"video": videos, "label": labels}, features=Features({"video": Video(), "label": feature})
    )


def test_blanks_around_labels_of_strings_and_spellings_of_accents_make_no_class(video_folder):
    clip = (video_folder / "juggling" / "a.mp4").read_bytes()
    table = as_video_table(table_of(["a dive", "Cafe\u0301", "a dive ", "Caf\xe9"], Value("string"), clip))
    assert table.features["label"].names == ["Caf\xe9", "a dive"]
    assert table["label"][:] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("names", "typed"),
    [
        (["a dive", "A dive"], True),
        (["a dive", "a\xa0dive"], True),
        (["a dive", "a dive "], False),
        (["a", " "], False),
        (["a" + 31 * "\u0301", "b"], True),
        (["a" + 31 * "\u0301", "b"], False),
    ],
)
def test_labels_that_read_alike_are_refused_as_in_a_list(video_folder, names, typed):
    clip = (video_folder / "juggling" / "a.mp4").read_bytes()
    table = table_of(names, Value("string"), clip) if typed else table_of([0, 1], ClassLabel(names=names), clip)
    with pytest.raises(AnnotationError, match=r"The label column: .*(both read|no words|marks in a row)"):
        as_video_table(table)


def test_an_empty_file_in_a_downloaded_table_is_no_way_to_another_file(video_folder):
    """What has bytes is not asked where its path leads, so that path is never opened."""
    row = {"bytes": b"", "path": str(video_folder / "juggling" / "a.mp4")}
    assert encoded_source(row) == b""
    with pytest.raises(VideoDecodeError):
        FrosterVideoProcessor()(row, return_tensors="pt")


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
