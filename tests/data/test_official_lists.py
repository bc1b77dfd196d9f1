import json
import logging
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from froster_hf.data import (
    AnnotationError,
    UnsafePathError,
    official_lists,
    read_hmdb51,
    read_kinetics,
    read_something_something,
    read_ucf101,
)
from froster_hf.data.safe_paths import VideoRoot
from froster_hf.processing import text_files


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names_and_labels(dataset):
    texts = dataset.features["label"].names
    return [(Path(row["video"]["path"]).name, texts[row["label"]]) for row in dataset]


@pytest.fixture
def ucf101(tmp_path):
    root = touch(
        tmp_path / "videos", *(f"{c}/v_{c}_g0{g}_c01.avi" for c in ("ApplyEyeMakeup", "YoYo") for g in (1, 2))
    )
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 YoYo\r\n\r\n")
    (lists / "trainlist01.txt").write_text(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi 1\nYoYo/v_YoYo_g02_c01.avi 2\n"
    )
    (lists / "testlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi\n")
    return root, lists


def test_ucf101_lists_are_read_by_split(ucf101):
    root, lists = ucf101
    train = read_ucf101(root, annotations=lists, split="train")
    test = read_ucf101(root, annotations=lists, split="test")
    assert names_and_labels(train) == [
        ("v_ApplyEyeMakeup_g02_c01.avi", "apply eye makeup"),
        ("v_YoYo_g02_c01.avi", "yo yo"),
    ]
    assert names_and_labels(test)[1] == ("v_YoYo_g01_c01.avi", "yo yo")
    assert len(read_ucf101(root, annotations=lists, split="all")) == 4


def test_ucf101_refuses_a_number_that_contradicts_the_folder(ucf101):
    root, lists = ucf101
    listed = lists / "trainlist01.txt"
    listed.write_text("YoYo/v_YoYo_g02_c01.avi 02\nApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi\n")
    assert [label for _, label in names_and_labels(read_ucf101(root, annotations=lists, split="train"))] == [
        "yo yo",
        "apply eye makeup",
    ]
    for number in ("1", "3", "20", "two"):
        listed.write_text(f"ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi 1\nYoYo/v_YoYo_g02_c01.avi {number}\n")
        for split in ("train", "all"):
            with pytest.raises(
                AnnotationError, match=rf"trainlist01\.txt, line 2: the class is '{number}', .* 'YoYo', is 2 in classI"
            ):
                read_ucf101(root, annotations=lists, split=split)
    assert len(read_ucf101(root, annotations=lists, split="test")) == 2


def test_ucf101_refuses_unknown_classes_and_paths_that_leave_the_root(ucf101):
    root, lists = ucf101
    (lists / "testlist01.txt").write_text("Juggling/v.avi\n")
    with pytest.raises(AnnotationError, match=r"testlist01\.txt, line 1: 'Juggling' is not a class"):
        read_ucf101(root, annotations=lists, split="test")
    (lists / "testlist01.txt").write_text("YoYo/../../secret.avi\n")
    with pytest.raises(UnsafePathError, match=r"testlist01\.txt, line 1"):
        read_ucf101(root, annotations=lists, split="test")
    with pytest.raises(ValueError, match="folds are 1, 2 and 3"):
        read_ucf101(root, annotations=lists, split="test", fold=4)


@pytest.fixture
def hmdb51(tmp_path):
    root = touch(tmp_path / "videos", "brush_hair/a b.avi", "brush_hair/c.avi", "cartwheel/d.avi", "cartwheel/e.avi")
    lists = tmp_path / "splits"
    lists.mkdir()
    (lists / "brush_hair_test_split1.txt").write_text("a b.avi 1 \nc.avi 2 \n")
    (lists / "cartwheel_test_split1.txt").write_text("d.avi 0 \ne.avi 2 \n")
    # macOS's, of what a file system has no room for.
    (lists / "._cartwheel_test_split1.txt").write_bytes(bytes(8))
    return root, lists


def test_hmdb51_marks_decide_the_split(hmdb51):
    root, lists = hmdb51
    assert names_and_labels(read_hmdb51(root, annotations=lists, split="train")) == [("a b.avi", "brush hair")]
    assert names_and_labels(read_hmdb51(root, annotations=lists, split="test")) == [
        ("c.avi", "brush hair"),
        ("e.avi", "cartwheel"),
    ]
    assert len(read_hmdb51(root, annotations=lists, split="all")) == 4
    assert read_hmdb51(root, annotations=lists, split="train").features["label"].names == ["brush hair", "cartwheel"]


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_hmdb51_refuses_a_clip_that_is_trained_and_tested_on(hmdb51, split):
    root, lists = hmdb51
    (lists / "cartwheel_test_split1.txt").write_text("d.avi 0\ne.avi 2\n./e.avi 1\n")
    with pytest.raises(
        AnnotationError, match=r"cartwheel_test_split1\.txt, line 3: '\./e\.avi' has the mark 1, and 2 in .*line 2\."
    ):
        read_hmdb51(root, annotations=lists, split=split)


def test_hmdb51_refuses_a_line_without_mark_and_a_fold_without_files(hmdb51):
    root, lists = hmdb51
    with pytest.raises(AnnotationError, match="_test_split2"):
        read_hmdb51(root, annotations=lists, split="test", fold=2)
    (lists / "cartwheel_test_split1.txt").write_text("d.avi\n")
    with pytest.raises(AnnotationError, match=r"cartwheel_test_split1\.txt, line 1"):
        read_hmdb51(root, annotations=lists, split="test")


def test_lines_of_all_classes_of_hmdb51_are_counted_together(hmdb51, monkeypatch):
    root, lists = hmdb51
    monkeypatch.setattr(text_files, "MAX_LINES", 3)
    with pytest.raises(AnnotationError, match=r"cartwheel_test_split1\.txt, line 2: up to here are more than 3 lines"):
        read_hmdb51(root, annotations=lists, split="test")


def test_kinetics_rows_find_their_files_in_each_usual_place(tmp_path):
    root = touch(
        tmp_path / "videos",
        "air drumming/aaaaaaaaaaa_000005_000015.mp4",
        "val/bowling/-bbbbbbbbbb_000000_000010.mp4",
        "val/ccccccccccc_000100_000110.mp4",
    )
    csv_file = tmp_path / "val.csv"
    csv_file.write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        '"air drumming",aaaaaaaaaaa,5,15,val,0\nbowling,-bbbbbbbbbb,0,10,val,0\nbowling,ccccccccccc,100,110,val,1\n'
        "yoga,gonegonegon,7,17,val,0\n"
    )
    with pytest.raises(AnnotationError, match=r"1 of 4 listed videos are not there.*yoga.*line 5"):
        read_kinetics(root, annotations=csv_file)
    dataset = read_kinetics(root, annotations=csv_file, missing="drop")
    assert names_and_labels(dataset) == [
        ("aaaaaaaaaaa_000005_000015.mp4", "air drumming"),
        ("-bbbbbbbbbb_000000_000010.mp4", "bowling"),
        ("ccccccccccc_000100_000110.mp4", "bowling"),
    ]
    assert dataset.features["label"].names == ["air drumming", "bowling", "yoga"], "a class stays without its videos"


def test_clips_of_kinetics_that_are_nowhere_are_resolved_once_each(tmp_path, monkeypatch):
    resolved, resolve = [], VideoRoot.resolve
    monkeypatch.setattr(
        VideoRoot, "resolve", lambda *args, **where: resolved.append(args[1]) or resolve(*args, **where)
    )
    lines = "".join(f"tying a knot,gone{number},0,10,val\n" for number in range(50))
    (tmp_path / "val.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{lines}")
    read_kinetics(tmp_path, annotations=tmp_path / "val.csv", missing="keep")
    assert len(resolved) == 50


def test_more_columns_of_kinetics_than_are_held_are_refused(tmp_path, monkeypatch):
    (tmp_path / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,split,x\n" + "tying a knot,gone,0,10,val,y\n" * 3
    )
    monkeypatch.setattr(official_lists, "MAX_HELD_FIELDS", 24)
    read_kinetics(tmp_path, annotations=tmp_path / "val.csv", missing="keep")
    monkeypatch.setattr(official_lists, "MAX_HELD_FIELDS", 23)
    with pytest.raises(AnnotationError, match=r"val.csv: 4 lines of 6 fields are more than 23. Leave out columns"):
        read_kinetics(tmp_path, annotations=tmp_path / "val.csv", missing="keep")


@pytest.mark.parametrize(
    "folder",
    [
        *("tying knot (not on a tie)", "tying_knot_(not_on_a_tie)", "tying-knot-(not-on-a-tie)"),
        *("tying_knot_not_on_a_tie", "TyingKnot(notOnATie)", "Tying Knot (not On A Tie)"),
    ],
)
@pytest.mark.parametrize("clip", ["aaaaaaaaaaa_000005_000015.mp4", "aaaaaaaaaaa.mp4"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_kinetics_class_folders_may_be_spelled_in_each_usual_way(tmp_path, folder, clip, split):
    root = touch(tmp_path / "videos", f"{split}{folder}/{clip}")
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\ntying knot (not on a tie),aaaaaaaaaaa,5,15,train\n"
    )
    dataset = read_kinetics(root, annotations=tmp_path / "train.csv")
    assert names_and_labels(dataset) == [(clip, "tying knot (not on a tie)")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("yoga,../../secret,1,2,val", "outside the data root"),
        ("yoga,aaa,one,2,val", "must be seconds"),
        ("yoga,aaa,inf,2,val", "must be seconds"),
        ("yoga,aaa,1,val", "4 fields"),
    ],
)
def test_kinetics_names_a_bad_row(tmp_path, row, message):
    (tmp_path / "videos").mkdir()
    (tmp_path / "val.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{row}\n")
    with pytest.raises(AnnotationError, match=rf"val\.csv, line 2: .*{message}"):
        read_kinetics(tmp_path / "videos", annotations=tmp_path / "val.csv")


def test_kinetics_needs_labels(tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\naaa,1,2,test\n")
    with pytest.raises(AnnotationError, match="needed are"):
        read_kinetics(tmp_path, annotations=tmp_path / "test.csv")


def test_kinetics_names_a_clip_whose_path_is_longer_than_any(tmp_path):
    (tmp_path / "val.csv").write_text(f"label,youtube_id,time_start,time_end,split\nyoga,aaa,1,2,{'v' * 5000}\n")
    with pytest.raises(AnnotationError, match=r"val\.csv, line 2: the path of the clip would have 5,\d+ characters"):
        read_kinetics(tmp_path, annotations=tmp_path / "val.csv", missing="keep")


def test_kinetics_names_a_column_that_stands_twice(tmp_path):
    (tmp_path / "val.csv").write_text("label,youtube_id,time_start,time_end,split,label\nyoga,aaa,1,2,val,golf\n")
    with pytest.raises(AnnotationError, match=r"val\.csv, line 1: the column 'label' stands twice"):
        read_kinetics(tmp_path, annotations=tmp_path / "val.csv", missing="keep")


@pytest.fixture
def something(tmp_path):
    root = touch(tmp_path / "videos", "78687.webm", "42326.webm")
    (tmp_path / "labels.json").write_text(
        json.dumps({"Holding something next to something": "1", "Closing something": "0"})
    )
    (tmp_path / "train.json").write_text(
        json.dumps(
            [
                {"id": "78687", "label": "holding a potato", "template": "Holding [something] next to [something]"},
                {"id": "42326", "label": "closing a box", "template": "Closing [something]", "placeholders": ["box"]},
            ]
        )
    )
    return root, tmp_path


def test_something_something_templates_become_labels(something):
    root, folder = something
    dataset = read_something_something(root, annotations=folder / "train.json", labels=folder / "labels.json")
    assert names_and_labels(dataset) == [
        ("78687.webm", "Holding something next to something"),
        ("42326.webm", "Closing something"),
    ]
    assert dataset.features["label"].names == ["Closing something", "Holding something next to something"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "1"}, "needs `id` and `template`"),
        ({"id": "1", "template": "Opening [something]"}, "is not in"),
        ({"id": "../x", "template": "Closing [something]"}, "outside the data root"),
        ("1", "needs `id` and `template`"),
        ({"id": True, "template": "Closing [something]"}, "`id` must be a number or a text"),
    ],
)
def test_something_something_names_a_bad_entry(something, entry, message):
    root, folder = something
    (folder / "train.json").write_text(json.dumps([entry]))
    with pytest.raises(AnnotationError, match=rf"train\.json, entry 0: .*{message}"):
        read_something_something(root, annotations=folder / "train.json", labels=folder / "labels.json")


def kinetics_rows(*rows):
    return "\n".join(["label,youtube_id,time_start,time_end,split", *rows])


def read_again(name, folder, *, other):
    """A list of a data set that names a video twice, with the same label or with another one."""
    root = touch(folder, "A/x.mp4", "B/y.mp4", "k1.mp4", "1.webm")
    if name == "ucf101":
        written(folder / "lists" / "classInd.txt", "1 A\n2 B\n")
        written(
            folder / "lists" / "trainlist01.txt", f"B/y.mp4 2\nA/x.mp4 1\n{'A/../B/y.mp4' if other else 'A/x.mp4'} 1\n"
        )
        return read_ucf101(root, annotations=folder / "lists", split="train")
    if name == "hmdb51":
        written(folder / "lists" / "A_test_split1.txt", "x.mp4 1\n./x.mp4 1\n" * (not other) + "x.mp4 1\n")
        written(folder / "lists" / "B_test_split1.txt", "../A/x.mp4 1\n" * other + "y.mp4 1\n")
        return read_hmdb51(root, annotations=folder / "lists", split="train")
    if name == "kinetics":
        label = "walk" if other else "run"
        written(folder / "k.csv", kinetics_rows("run,k1,1,2,train", f"{label},k1,5,9,train"))
        return read_kinetics(root, annotations=folder / "k.csv")
    written(folder / "labels.json", json.dumps({"Holding something": "0", "Pushing something": "1"}))
    template = "Pushing [something]" if other else "Holding [something]"
    entries = [{"id": "1", "template": "Holding [something]"}, {"id": 1, "template": template}]
    written(folder / "s.json", json.dumps(entries))
    return read_something_something(root, annotations=folder / "s.json", labels=folder / "labels.json")


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "kinetics", "something_something"])
def test_a_video_that_an_official_list_names_again_counts_once(name, tmp_path, caplog):
    """Of several rows, one could be held out and the others trained on; and no answer has two labels."""
    table = read_again(name, tmp_path, other=False)
    videos = [video["path"] for video in table["video"]]
    assert len(videos) == len(set(videos))
    assert "name a video again, with the same label; each video counts once." in caplog.text
    with pytest.raises(
        AnnotationError, match=r"(line|entry) \d: .* has the label '.*', and '.*' in .*(line|entry) \d\."
    ):
        read_again(name, tmp_path, other=True)


def test_clips_of_one_video_of_kinetics_that_have_files_of_their_own_are_told_apart(tmp_path, caplog):
    root = touch(tmp_path, "k1_000001_000002.mp4", "k1_000005_000009.mp4")
    written(tmp_path / "k.csv", kinetics_rows("run,k1,1,2,train", "walk,k1,5,9,train", "run,gone,1,2,train"))
    table = read_kinetics(root, annotations=tmp_path / "k.csv", missing="drop")
    assert names_and_labels(table) == [("k1_000001_000002.mp4", "run"), ("k1_000005_000009.mp4", "walk")]
    assert "again" not in caplog.text


LINES = st.lists(
    st.sampled_from(
        ["1 ApplyEyeMakeup", "2 BrushHair", "ApplyEyeMakeup/a.avi", "BrushHair/b.avi 2", "a.avi 1", "b c.avi 2"]
    )
    | st.text(max_size=12),
    max_size=5,
)
FIELDS = st.sampled_from(
    ["label", "youtube_id", "time_start", "time_end", "split", "yoga", "aaa", "5", "1e999", "../x", '"']
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "template", "Closing something", "0"]) | st.text(max_size=3), inner)
    ),
    max_leaves=12,
)
any_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def rows_or_refusal(read, names):
    """The number of rows, with those said to be there again, or `None` where a one-line error names a file."""
    logging.disable(logging.WARNING)
    try:
        table = read()
        again = re.search("([0-9]+) of [0-9]+ name a video again", table.info.description)
        return len(table) + int(again[1] if again else 0)
    except (AnnotationError, FileNotFoundError) as error:
        message = str(error)
    finally:
        logging.disable(logging.NOTSET)
    assert any(name in message for name in names), message
    assert "\n" not in message
    return None


def num_lines(text):
    return sum(bool(line.strip()) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def written(path, text):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    return path


@any_files
@given(LINES, LINES)
def test_any_ucf101_list_gives_a_row_per_line_or_names_the_file(tmp_path, classes, lines):
    written(tmp_path / "lists" / "classInd.txt", "\n".join(classes))
    written(tmp_path / "lists" / "testlist01.txt", "\n".join(lines))
    count = rows_or_refusal(
        lambda: read_ucf101(tmp_path, annotations=tmp_path / "lists", split="test", missing="keep"),
        ["classInd.txt", "testlist01.txt", "lists"],
    )
    assert count in (None, num_lines("\n".join(lines)))


@any_files
@given(LINES)
def test_any_hmdb51_list_gives_a_row_per_line_or_names_the_file(tmp_path, lines):
    written(tmp_path / "lists" / "brush_hair_test_split1.txt", "\n".join(lines))
    count = rows_or_refusal(
        lambda: read_hmdb51(tmp_path, annotations=tmp_path / "lists", split="all", missing="keep"), ["lists"]
    )
    assert count in (None, num_lines("\n".join(lines)))


@any_files
@given(st.lists(st.lists(FIELDS | st.text(max_size=5), min_size=4, max_size=6), max_size=4))
def test_any_kinetics_list_gives_a_row_per_line_or_names_the_file(tmp_path, lines):
    text = "label,youtube_id,time_start,time_end,split\n" + "\n".join(map(",".join, lines))
    written(tmp_path / "val.csv", text)
    count = rows_or_refusal(
        lambda: read_kinetics(tmp_path, annotations=tmp_path / "val.csv", missing="keep"), ["val.csv"]
    )
    assert count in (None, num_lines(text) - 1)


@any_files
@given(JSON, JSON)
def test_any_json_of_something_something_gives_a_row_per_entry_or_names_the_file(tmp_path, labels, entries):
    written(tmp_path / "labels.json", json.dumps(labels))
    written(tmp_path / "train.json", json.dumps(entries))
    count = rows_or_refusal(
        lambda: read_something_something(
            tmp_path, annotations=tmp_path / "train.json", labels=tmp_path / "labels.json", missing="keep"
        ),
        ["labels.json", "train.json"],
    )
    assert count is None or count == len(entries)
