"""Lists as people write them: what a list is is decided once, and no line is lost or misread in silence."""

import csv
import io
import json
import logging
import tracemalloc
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from froster_hf.cli.videos import find_videos
from froster_hf.data import AnnotationError, describe_table, read_video_list, video_lists
from froster_hf.data.video_table import label_names
from froster_hf.processing import text_files


def paths(dataset):
    return [row["path"] for row in dataset["video"]]


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
        ("video,labels\njuggling/a.mp4,0\n", r"the columns 'video' and 'labels' .*not with both 'video' and 'label'"),
        ("path,category\njuggling/a.mp4,0\n", r"line 1 looks like a header.*'path' and 'category'.*video_field="),
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


def test_a_list_with_a_label_of_its_own_for_every_line_is_described_without_a_cell_for_every_pair(tmp_path):
    (tmp_path / "list.csv").write_text("video,label\n" + "".join(f"{n}.mp4,label {n}\n" for n in range(10_000)))
    table = read_video_list(tmp_path / "list.csv", root=tmp_path, missing="keep")
    tracemalloc.start()
    try:
        assert "and 9960 more classes with 1 to 1 videos each" in describe_table(table)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


READERS = (
    lambda path: read_video_list(path, root=path.parent, missing="keep"),
    lambda path: find_videos([str(path)]),
)


@pytest.mark.parametrize("read", READERS, ids=["evaluate", "predict"])
def test_of_a_line_of_json_what_is_no_path_and_no_label_is_not_kept(tmp_path, read):
    more = ",".join(["{}"] * 10_000)
    (tmp_path / "list.jsonl").write_text(f'{{"video": "a.mp4", "label": "a", "more": [{more}]}}\n' * 60)
    tracemalloc.start()
    try:
        assert len(read(tmp_path / "list.jsonl")) in (1, 60)
        # Reading takes the room of the largest file for a moment; each line has 0.7 MB of objects.
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", READERS, ids=["evaluate", "predict"])
def test_values_of_all_lines_of_json_are_counted_together(tmp_path, read, monkeypatch):
    (tmp_path / "list.jsonl").write_text('{"video": "a.mp4", "label": "a"}\n' * 20)
    monkeypatch.setattr(text_files, "MAX_JSON_MARKS", 80)
    assert read(tmp_path / "list.jsonl")
    monkeypatch.setattr(text_files, "MAX_JSON_MARKS", 79)
    with pytest.raises(AnnotationError, match=r"list\.jsonl has more values than any annotation file\. Divide it\."):
        read(tmp_path / "list.jsonl")


def test_a_long_name_of_a_list_is_not_kept_whole_for_each_of_its_lines(tmp_path):
    folder = tmp_path / ("long \U0001f600 name " * 10)
    folder.mkdir()
    (folder / "list.jsonl").write_text("{}\n{")
    with pytest.raises(AnnotationError, match=r"^\.\.\..{80,110}list\.jsonl, line 1: expected a JSON object"):
        read_video_list(folder / "list.jsonl", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("list.csv", "video,label\nx.mp4,a\ny.mp4,{}\n".format("|".join("ab" * 5))),
        ("list.txt", "x.mp4 a\ny.mp4 {}\n".format("|".join("ab" * 5))),
        ("list.jsonl", '{"video": "x.mp4", "label": "a"}\n' + json.dumps({"video": "y.mp4", "label": ["a", "b"] * 5})),
    ],
)
def test_labels_of_all_lines_are_counted_before_fields_are_divided(tmp_path, monkeypatch, name, lines):
    (tmp_path / name).write_text(lines)
    monkeypatch.setattr(video_lists, "MOST_LABELS", 11)
    assert len(read_video_list(tmp_path / name, root=tmp_path, missing="keep", multi_label=True)) == 2
    monkeypatch.setattr(video_lists, "MOST_LABELS", 10)
    with pytest.raises(AnnotationError, match=rf"{name}, line [23]: up to here are more than 10 labels"):
        read_video_list(tmp_path / name, root=tmp_path, missing="keep", multi_label=True)


def test_many_lines_of_one_video_are_put_together_in_one_go(tmp_path, monkeypatch):
    number = 3000
    (tmp_path / "list.csv").write_text("video,label\n" + "".join(f"a.mp4,label {n}\n" for n in range(number)))
    sizes = []

    def noted(labels):
        sizes.append(len(labels))
        return sorted(labels)

    monkeypatch.setattr(video_lists, "sorted", noted, raising=False)
    table = read_video_list(tmp_path / "list.csv", root=tmp_path, missing="keep", multi_label=True)
    assert table["labels"][0] == list(range(number))
    assert sum(sizes) <= 3 * number


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "video,label,start,split\njuggling/a.mp4,a,1,test\n"),
        ("list.jsonl", '{"video": "juggling/a.mp4", "label": "a", "start": 1, "split": "test"}\n'),
        ("list.json", '[{"video": "juggling/a.mp4", "label": "a", "start": 1, "split": "test"}]'),
    ],
)
def test_what_is_not_read_of_a_list_is_said(video_folder, tmp_path, caplog, name, content):
    (tmp_path / name).write_text(content)
    with caplog.at_level(logging.WARNING, logger="froster_hf"):
        read_video_list(tmp_path / name, root=video_folder)
    assert "not read: start, split. Every row counts, with its whole video." in caplog.text


def test_a_video_that_several_lines_name_counts_once(video_folder, tmp_path, caplog):
    """Of several rows, one could be held out and the others trained on."""
    lines = [f"{name},x" for name in ("juggling/a.mp4", "juggling/b.mp4", "brush_hair/a.mp4")]
    lines += ["./juggling/a.mp4,x", "brush_hair/../juggling/a.mp4,x"]
    (tmp_path / "list.csv").write_text("video,label\n" + "\n".join(lines))
    table = read_video_list(tmp_path / "list.csv", root=video_folder)
    assert len(table) == len(set(paths(table))) == 3
    assert "2 of 5 name a video again, with the same label; each video counts once." in describe_table(table)
    assert "list.csv. 2 of 5 name a video again" in caplog.text
    (tmp_path / "other.csv").write_text("video,label\n" + "\n".join([*lines, "juggling/a.mp4,y"]))
    with pytest.raises(
        AnnotationError, match=r"other\.csv, line 7: .*a\.mp4 has the label 'y', and 'x' in .*line 2\."
    ):
        read_video_list(tmp_path / "other.csv", root=video_folder)
    several = read_video_list(tmp_path / "other.csv", root=video_folder, multi_label=True)
    assert (len(several), several["labels"][0]) == (3, [0, 1])


def test_more_lines_than_a_list_has_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINES", 3)
    (tmp_path / "list.csv").write_text("video,label\r\na.mp4,x\r\nb.mp4,y\r\n")
    assert len(read_video_list(tmp_path / "list.csv", root=tmp_path, missing="keep")) == 2
    (tmp_path / "list.csv").write_text("video,label\r\na.mp4,x\r\nb.mp4,y\r\nc.mp4,z\r\n")
    with pytest.raises(AnnotationError, match=r"list.csv has more than 3 lines"):
        read_video_list(tmp_path / "list.csv", root=tmp_path, missing="keep")


def test_a_line_of_more_columns_than_a_table_has_is_refused_before_it_is_divided(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_COLUMNS", 3)
    path = tmp_path / "list.csv"
    path.write_text("video,label,start\na.mp4,x,1\n")
    assert len(read_video_list(path, root=tmp_path, missing="keep")) == 1
    path.write_text("video,label,start\na.mp4,x,1,\n")
    with pytest.raises(AnnotationError, match=r"list.csv, line 2: there are more than 3 fields"):
        read_video_list(path, root=tmp_path, missing="keep")
    path.write_text("video,label,start,end\na.mp4,x,1,2\n")
    with pytest.raises(AnnotationError, match=r"list.csv"):
        find_videos([str(path)])


@pytest.mark.parametrize(
    ("written", "labels", "expected"),
    [
        ("012", ["1", "2", "3"], [0, 1, 2]),
        ("120", ["2", "1", "9"], [1, 2, 0]),
        ("121", ["2", "1", "9"], [1, 0, 1]),
        ("a0b", ["a", "0", "b"], [0, 1, 2]),
    ],
    ids=["indices", "indices in another order", "names", "names and digits"],
)
def test_whether_digits_are_names_or_indices_is_decided_once(tmp_path, written, labels, expected):
    (tmp_path / "list.csv").write_text("".join(f"{place}.mp4,{label}\n" for place, label in enumerate(written)))
    table = read_video_list(tmp_path / "list.csv", root=tmp_path, labels=labels, missing="keep")
    assert table["label"][:] == expected


def test_digits_that_may_be_a_name_and_an_index_beside_others_are_refused(tmp_path):
    (tmp_path / "list.csv").write_text("a.mp4,run\nb.mp4,1\nc.mp4,0\n")
    with pytest.raises(
        AnnotationError, match=r"line 2: the label '1' is one of the label names, and the index of ano"
    ):
        read_video_list(tmp_path / "list.csv", root=tmp_path, labels=["1", "run"], missing="keep")


def test_numbers_and_names_in_a_list_without_labels_are_refused(tmp_path):
    """A number would be the place of a name: 1, 2 and 3 beside "thumb up" were the second to the fourth of them."""
    lines = [{"video": f"{name}.mp4", "label": label} for name, label in (("a", 1), ("b", 2), ("c", "thumb up"))]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(
        AnnotationError, match=r"list\.jsonl, line 1: the label is a number, and that of .*, line 3 is text"
    ):
        read_video_list(tmp_path / "list.jsonl", root=tmp_path, missing="keep")


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


@pytest.fixture
def root(tmp_path):
    """Videos with the names that people give them, and a folder of frames."""
    root = tmp_path / "root"
    (root / "t" / "frames_1").mkdir(parents=True)
    for name in ("drinking (31).mp4", "lecture (31).mp4", "a, b.mp4"):
        (root / "t" / name).touch()
    Image.new("RGB", (4, 4)).save(root / "t" / "frames_1" / "img_00001.png")
    return root


def read(root, text, name="list.csv", **options):
    (root.parent / name).write_text(text)
    return read_video_list(root.parent / name, root=root, **options)


def rows(root, table):
    names = table.features["label"].names
    return [(path.removeprefix(f"{root}/"), names[label]) for path, label in zip(paths(table), table["label"])]


ALIKE = {
    "commas": "t/drinking (31).mp4,drinking\nt/lecture (31).mp4,lecturing\n",
    "tabs": "t/drinking (31).mp4\tdrinking\nt/lecture (31).mp4\tlecturing\n",
    "semicolons": "t/drinking (31).mp4;drinking\nt/lecture (31).mp4;lecturing\n",
    "blanks": "t/drinking (31).mp4 drinking\nt/lecture (31).mp4 lecturing\n",
    "aligned": "t/drinking (31).mp4    drinking \nt/lecture (31).mp4     lecturing\n",
    "blanks around commas": " t/drinking (31).mp4 , drinking\nt/lecture (31).mp4,  lecturing  \n",
    "quoted": '"t/drinking (31).mp4","drinking"\n"t/lecture (31).mp4","lecturing"\n',
    "quoted with blanks": '"t/drinking (31).mp4"  "drinking"\n"t/lecture (31).mp4" "lecturing"\n',
    "header": "video,label\nt/drinking (31).mp4,drinking\nt/lecture (31).mp4,lecturing\n",
    "header with tabs": "video\tlabel\nt/drinking (31).mp4\tdrinking\nt/lecture (31).mp4\tlecturing\n",
    "header with more": 'label;n; video\ndrinking;1;"t/drinking (31).mp4"\nlecturing;2;t/lecture (31).mp4\n',
    "numbered rows and an empty column": "\tvideo\tlabel\tnote\n0\tt/drinking (31).mp4\tdrinking\t\n"
    "\tt/lecture (31).mp4\tlecturing\tlate\n",
    "tabs behind lines": "video\tlabel\nt/drinking (31).mp4\tdrinking\t\nt/lecture (31).mp4\tlecturing\n",
    "windows": "\ufeffvideo,label\r\nt/drinking (31).mp4,drinking\r\nt/lecture (31).mp4,lecturing\r\n",
}


@pytest.mark.parametrize("form", ALIKE)
def test_every_way_to_write_a_list_gives_the_same_table(root, form):
    table = read(root, ALIKE[form])
    assert rows(root, table) == [("t/drinking (31).mp4", "drinking"), ("t/lecture (31).mp4", "lecturing")]


def test_a_json_list_of_objects_is_read_as_json_lines_are(root):
    entries = [{"file": "t/drinking (31).mp4", "class": "drinking"}]
    table = read(root, json.dumps(entries), "list.json", video_field="file", label_field="class")
    assert rows(root, table) == [("t/drinking (31).mp4", "drinking")]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["['a', 'b']", "['a']"], r"line 2: the label .* is a list as programs write it"),
        (['["a"]', '["b"]'], r"line 2: the label .* is a list as programs write it"),
        (["a|b", "[]"], r"line 3: the label '\[\]' is a list as programs write it"),
        (["a,b|b", "a"], r"list\.csv: the label 'a,b' is made of other labels"),
        (["a; b", "b|a"], r"list\.csv: the label 'a; b' is made of other labels"),
    ],
)
def test_several_labels_that_are_divided_in_another_way_are_not_one(root, labels, message):
    table = io.StringIO()
    videos = ("t/drinking (31).mp4", "t/lecture (31).mp4")
    csv.writer(table).writerows([("video", "label"), *zip(videos, labels)])
    with pytest.raises(AnnotationError, match=message):
        read(root, table.getvalue(), multi_label=True)


def test_labels_with_commas_and_brackets_are_labels(root):
    text = 'video,label\nt/drinking (31).mp4,"up, then down|[something] falling"\nt/lecture (31).mp4,down\n'
    assert label_names(read(root, text, multi_label=True)) == ["[something] falling", "down", "up, then down"]
    joined = 'video,label\nt/drinking (31).mp4,"a,b"\nt/lecture (31).mp4,a|b\n'
    assert read(root, joined, multi_label=True, labels=["a,b", "a", "b"])["labels"][:] == [[0], [1, 2]]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_video_without_a_label_is_one_whatever_divides_the_columns(root, delimiter):
    text = "video,label\nt/drinking (31).mp4,a|b\nt/lecture (31).mp4,\n".replace(",", delimiter)
    assert read(root, text, multi_label=True)["labels"][:] == [[0, 1], []]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_the_same_tables_are_read_for_answers(root, delimiter):
    (root / "list.csv").write_text("label,video\nx,t/a.mp4\n,t/b.mp4\n".replace(",", delimiter))
    assert find_videos([str(root / "list.csv")]) == [str(root / "t/a.mp4"), str(root / "t/b.mp4")]


def test_accents_are_the_same_however_they_are_written(root):
    text = "t/drinking (31).mp4,\u00fcbung\nt/lecture (31).mp4,u\u0308bung\n"
    assert [label for _, label in rows(root, read(root, text))] == ["\u00fcbung"] * 2
    table = read(root, text, labels=["other", "u\u0308bung"])
    assert table["label"][:] == [1, 1]


@pytest.mark.parametrize(
    "label", ["\ufeffgolf", "golf\u200b", "go\u00adlf", "golf\u2060", "\u200egolf", "golf\u200d "]
)
def test_characters_that_nobody_sees_make_no_class(root, label):
    table = read(root, f"\ufefft/drinking (31).mp4,golf\n\ufefft/lecture (31).mp4,{label}\n")
    assert [name for _, name in rows(root, table)] == ["golf", "golf"]
    assert read(root, f"t/lecture (31).mp4,{label}\n", labels=["other", "g\u200bolf"])["label"][:] == [1]


def test_a_path_may_hold_characters_that_nobody_sees(root):
    (root / "t" / "a\ufeff\u200bb.mp4").write_bytes(b"x")
    ((path, _),) = rows(root, read(root, "t/a\ufeff\u200bb.mp4,golf\n"))
    assert path.endswith("a\ufeff\u200bb.mp4")


@pytest.mark.parametrize("text", ["t/a, b.mp4,0\n", '"t/a, b.mp4",0\n', "t/a, b.mp4 0\n", "t/a, b.mp4\t0\n"])
def test_a_path_may_hold_other_delimiters(root, text):
    assert rows(root, read(root, text, labels=["x"])) == [("t/a, b.mp4", "x")]


def test_a_label_with_commas_is_quoted(root):
    table = read(root, '"t/a, b.mp4","drinking, slowly"\n')
    assert rows(root, table) == [("t/a, b.mp4", "drinking, slowly")]


@pytest.mark.parametrize("delimiter", [" ", ",", "\t"])
def test_a_folder_of_frames_is_a_video_and_the_number_of_frames_is_no_part_of_its_name(root, delimiter):
    table = read(root, f"t/frames_1{delimiter}1{delimiter}0\n", labels=["x", "y"])
    assert rows(root, table) == [("t/frames_1", "x")]


def test_a_folder_without_frames_is_missing(root):
    with pytest.raises(AnnotationError, match="1 of 1 listed videos are not there"):
        read(root, "t 0\n", labels=["x"])


def test_a_number_in_a_name_is_not_taken_for_a_count(root):
    (root / "clip 12").mkdir()
    Image.new("RGB", (4, 4)).save(root / "clip 12" / "1.png")
    assert rows(root, read(root, "clip 12 0\n", labels=["x"])) == [("clip 12", "x")]


@pytest.mark.parametrize("missing", ["error", "drop", "keep"])
@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("path,class\nt/drinking (31).mp4,drinking\n", None),
        ("path\tclass\nt/drinking (31).mp4\tdrinking\n", None),
        ("file_name,action_id\nt/drinking (31).mp4,0\n", ["drinking"]),
        ("Clip Label\nt/drinking (31).mp4 drinking\n", None),
        ("path,class\nt/gone/frames,drinking\n", None),
        ("Datei,Klasse\nt/gone/frames,0\nt/gone/more,1\n", ["x", "y"]),
    ],
)
def test_a_header_with_other_names_never_becomes_a_class(root, text, labels, missing):
    with pytest.raises(
        AnnotationError, match=r"list\.csv, line 1 looks like a header, with the columns .*video_field="
    ):
        read(root, text, labels=labels, missing=missing)


@pytest.mark.parametrize("header", ["Video,Label,Notes", "VIDEO,label,video_id", "video,label,Label"])
def test_columns_may_be_named_in_capitals(root, header):
    text = f"{header}\nt/drinking (31).mp4,drinking,x\n"
    assert rows(root, read(root, text)) == [("t/drinking (31).mp4", "drinking")]
    (root / "list.csv").write_text(text)
    assert find_videos([str(root / "list.csv")]) == [str(root / "t/drinking (31).mp4")]


def test_named_columns_are_read(root):
    table = read(root, "class,path\ndrinking,t/drinking (31).mp4\n", video_field="path", label_field="class")
    assert rows(root, table) == [("t/drinking (31).mp4", "drinking")]


def test_a_first_line_that_is_missing_is_not_taken_for_a_header(root):
    table = read(root, "t/gone,drinking\nt/lecture (31).mp4,lecturing\n", missing="drop")
    assert rows(root, table) == [("t/lecture (31).mp4", "lecturing")]
    assert "1 listed videos were not there" in describe_table(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t/lecture (31).mp4,a\nt/drinking (31).mp4\n", "line 2: expected `path,label`"),
        ("t/lecture (31).mp4,\n", "line 1: the label is empty"),
        ("t/lecture (31).mp4,Talk\nt/drinking (31).mp4,talk\n", "'Talk' and 'talk' both read 'talk'"),
        ("video,label\nt/lecture (31).mp4\n", "line 2: 1 fields"),
        ("video,label,label\nt/lecture (31).mp4,a,b\n", "line 1: the column 'label' stands twice"),
        ('"t/lecture (31).mp4,0\n', "line 1"),
        ("t/lecture (31).mp4," + "x" * 10_000_000 + "\n", "10000000 characters"),
    ],
)
def test_a_line_that_does_not_fit_is_named(root, text, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        read(root, text)
    assert len(str(caught.value)) < 1000


def test_a_list_of_links_in_a_download_of_the_hub_is_read(tmp_path):
    entry = tmp_path / "datasets--someone--videos"
    folder = entry / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    (entry / "blobs").mkdir()
    (entry / "blobs" / "cafe").touch()
    (folder / "a.mp4").symlink_to("../../blobs/cafe")
    (folder / "list.csv").write_text("video,label\na.mp4,juggling\n")
    table = read_video_list(folder / "list.csv", root=folder)
    assert paths(table) == [str(entry / "blobs" / "cafe")]


HOSTILE_PATHS = [
    *("../secret.mp4", "t/../../secret.mp4", "/etc/passwd", "/proc/self/environ", "t/./../../secret.mp4", "..", "."),
    *("http://host/a.mp4", "file:t/a.mp4", "concat:a|b", "subfile,,start,0,end,9,,:a", "hf://datasets/a/b.mp4"),
    *("out.mp4", "outside/secret.mp4", "circle", "a" * 5000, "t/" * 2000 + "a.mp4"),
]


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=lambda path: path[:30])
@pytest.mark.parametrize("missing", ["error", "drop", "keep"])
def test_no_listed_path_leads_out_of_the_root(root, path, missing):
    (root.parent / "secret.mp4").touch()
    (root / "out.mp4").symlink_to(root.parent / "secret.mp4")
    (root / "outside").symlink_to(root.parent)
    (root / "circle").symlink_to(root / "circle")
    entry = json.dumps({"video": path, "label": 0})
    try:
        table = read(root, f"{entry}\n", "list.jsonl", labels=["x"], missing=missing)
    except AnnotationError as error:
        refusal = str(error)
    else:
        # An absolute path, whose first part is no protocol, of a file that is not there.
        assert missing == "keep"
        assert all(kept == str(root) or kept.startswith(f"{root}/") for kept in paths(table))
        return
    assert len(refusal) < 1000


def test_an_encoded_path_is_a_name_like_any_other(root):
    table = read(root, "%2e%2e/secret.mp4,0\n", labels=["x"], missing="keep")
    assert paths(table) == [str(root / "%2e%2e" / "secret.mp4")]


def test_links_lead_out_of_the_root_on_request_but_paths_never(root):
    (root.parent / "other.mp4").touch()
    (root / "link.mp4").symlink_to(root.parent / "other.mp4")
    assert len(read(root, "link.mp4,0\n", labels=["x"], allow_links=True)) == 1
    with pytest.raises(AnnotationError, match=r"line 1.*outside the data root"):
        read(root, "../other.mp4,0\n", labels=["x"], allow_links=True)


@pytest.mark.parametrize(
    "line",
    [
        '{"video": "t/a, b.mp4", "label": 0, "label": 1}',
        '{"video": "t/a, b.mp4", "label": NaN}',
        '{"video": "t/a, b.mp4", "label": ' + "9" * 5000 + "}",
        '{"video": "t/a, b.mp4", "label": "\\ud800"}',
        '{"video": "\\ud800.mp4", "label": 0}',
        '{"video": "t/a\\u0000.mp4", "label": 0}',
        '{"video": "t/a, b.mp4", "label": "٣"}',
        '{"video": "t/a, b.mp4", "label": "²"}',
        '{"video": "t/a, b.mp4", "label": "a%s"}' % (31 * "\u0301"),
        '{"video": "t/a, b.mp4", "label": true}',
        '{"video": "t/a, b.mp4", "label": ' + "[" * 50_000,
    ],
    ids=lambda line: line[:45],
)
def test_a_hostile_line_is_refused_by_its_number(root, line):
    with pytest.raises(AnnotationError, match=r"list\.jsonl, line 1") as caught:
        read(root, f"{line}\n", "list.jsonl", labels=["x", "y"])
    assert len(str(caught.value)) < 1000


several_lists = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
CELLS = st.sampled_from(
    ["t/drinking (31).mp4", "t/a, b.mp4", "drinking", "talk, slowly", "0", "1", "video", "label", '"']
)
LINES = st.lists(st.lists(CELLS | st.text(max_size=4), max_size=4), max_size=5)


@several_lists
@given(LINES, st.sampled_from([",", "\t", ";", " "]), st.sampled_from(["csv", "jsonl", "txt"]))
def test_every_line_becomes_a_row_or_is_an_error_that_names_the_file(root, lines, delimiter, suffix):
    logging.disable(logging.WARNING)
    text = "\n".join(delimiter.join(line) for line in lines)
    path = root.parent / f"any.{suffix}"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        table = read_video_list(path, root=root, missing="keep")
    except AnnotationError as error:
        table, message = None, str(error)
    finally:
        logging.disable(logging.NOTSET)
    if table is None:
        assert f"any.{suffix}" in message
        return
    written = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
    assert len(table) in (len(written), len(written) - 1)
    assert len(table) == len(written) or {"video", "label"} <= set(lines[0])


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=8)
    .map(str.strip)
    .filter(bool),
    min_size=1,
    max_size=5,
    unique_by=lambda name: unicodedata.normalize("NFC", name).casefold(),
)


@several_lists
@given(NAMES)
def test_any_labels_survive_a_list_with_quotes(root, names):
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    text = "video,label\n" + "".join(f'"t/a, b {number}.mp4",{name}\n' for number, name in enumerate(quoted))
    table = read(root, text, labels=names, missing="keep")
    assert [label for _, label in rows(root, table)] == names
