"""Files of labels: every usual form read as what it is, everything else refused by name and in one line."""

import codecs
import csv
import io
import json
import re
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from froster_hf.data.catalogue import DATASETS, published_counts
from froster_hf.data.official_lists import _FOLDER_NAMES
from froster_hf.processing.label_files import (
    DESCRIPTIONS_FOLDER,
    SHIPPED_DESCRIPTIONS,
    read_descriptions,
    read_label_file,
    split_labels,
)
from froster_hf.processing.label_matching import label_words, match_labels
from froster_hf.processing.prompts_froster import TEMPLATE_SETS, fill_templates, readable_label
from froster_hf.processing.text_files import AnnotationError, parse_json

NAMES = ("growing", "up, then down", "sliding left")

READ_ALIKE = {
    "lines.txt": "growing\nup, then down\n\n  sliding left \n",
    "windows.txt": "\ufeffgrowing\r\nup, then down\r\n\r\nsliding left\r\n",
    "old mac.txt": "growing\rup, then down\rsliding left",
    "quoted.txt": '"growing"\n"up, then down"\n"sliding left"\n',
    "indices.txt": "2\tsliding left\n0\tgrowing\n1\tup, then down\n",
    "indices behind.lst": "growing\t0\nup, then down\t1\nsliding left\t2\n",
    "no suffix": '["growing", "up, then down", "sliding left"]',
    "list.json": '["growing", " up, then down", "sliding left"]',
    "put together.txt": "growing\n\ufeffup, then down\n\ufeff\ufeffsliding left",
    "put together.csv": 'id,name\n0,\ufeffgrowing\n\ufeff1,"\ufeffup, then down"\n2,\ufeffsliding left',
    "bom.json": '\ufeff["growing", "up, then down", "sliding left"]',
    "index to name.json": '{"0": "growing", "2": "sliding left", "1": "up, then down"}',
    "name to index.json": '{"growing": 0, "sliding left": 2, "up, then down": 1}',
    "name to index as text.json": '{"growing": "0", "sliding left": "2", "up, then down": "1"}',
    "names alone.csv": 'growing\n"up, then down"\nsliding left\n',
    "names below a header.csv": 'name\ngrowing\n"up, then down"\nsliding left\n',
    "names below a header of several.csv": 'Labels\ngrowing\n"up, then down"\nsliding left\n',
    "id, name.csv": 'id,name\n0,growing\n1,"up, then down"\n2,sliding left\n',
    "name, id.csv": 'name,id\r\ngrowing,0\r\nsliding left,2\r\n"up, then down",1\r\n',
    "no header.csv": '0, growing\n2, sliding left\n1, "up, then down"\n',
    "no header, id behind.csv": 'growing,0\nsliding left,2\n"up, then down",1\n',
    "semicolons.csv": "Class ID;Class Name\n0;growing\n1;up, then down\n2;sliding left\n",
    "tabs.csv": "0\tgrowing\n1\tup, then down\n2\tsliding left\n",
    "tabs of a spreadsheet.txt": 'growing\t0\n"up, then down"\t1\nsliding left\t2\n',
    "lines of a spreadsheet.txt": 'growing\n"up, then down"\nsliding left\n',
    "pandas.csv": ',label\n0,growing\n1,"up, then down"\n2,sliding left\n',
    "tabs.tsv": "name\ngrowing\nup, then down\nsliding left\n",
}
DESCRIBED = {
    "lines.txt": "growing\tit gets larger\nshrinking\t\nsliding left\n",
    "header.txt": "label\tdescription\ngrowing\tit gets larger\nshrinking\nsliding left\n",
    "spreadsheet.txt": 'label\tdescription\ngrowing\t"it gets larger"\nshrinking\t\nsliding left\t\n',
    "object.json": '{"growing": "it gets larger", "shrinking": null, "sliding left": ""}',
    "table.csv": "name,description\ngrowing,it gets larger\nshrinking,\nsliding left,\n",
    "three columns.csv": "id,description,name\n1,,shrinking\n0,it gets larger,growing\n2,,sliding left\n",
}


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", READ_ALIKE)
def test_every_usual_file_gives_the_same_names(tmp_path, name):
    labels = read_label_file(written(tmp_path, name, READ_ALIKE[name]))
    assert labels.names == NAMES
    assert labels.descriptions is None
    assert labels.labels == list(NAMES)


@pytest.mark.parametrize(
    "lines",
    [
        ["catching, then throwing", "throwing, then catching"],
        ["catching; throwing", "nothing"],
        ["phase 1", "phase 2", "phase 3"],
        ["phase_1", "phase_2"],
        ["1-handed catch", "2-handed throw", "1-handed throw"],
        ["backflip-360", "backflip-720"],
        ["step 0: cutting", "step 1: cutting"],
        ["dancing 80s", "running 100", "running 200"],
        ["a class", "labels", "name"],
        ["playing 'the last' song", "massaging person's head"],
        ["[something] falling", "dropping [something]"],
        ["juggling"],
        ["growing 1"],
    ],
)
def test_lines_of_labels_are_taken_as_they_are(tmp_path, lines):
    assert read_label_file(written(tmp_path, "a.txt", "\n".join(lines))).names == tuple(lines)


def test_one_label_with_a_comma_stands_in_quotes(tmp_path):
    assert read_label_file(written(tmp_path, "a.txt", '"up, then down"\n')).names == ("up, then down",)
    assert read_label_file(written(tmp_path, "a.json", '{"labels": "what is stuck on"}')).names == ("labels",)


@pytest.mark.parametrize("name", DESCRIBED)
def test_descriptions_stay_with_their_names(tmp_path, name):
    labels = read_label_file(written(tmp_path, name, DESCRIBED[name]))
    assert labels.labels == {"growing": "it gets larger", "shrinking": None, "sliding left": None}


def test_descriptions_are_read_by_name_and_their_absence_is_said(tmp_path):
    described = written(tmp_path, "described.json", DESCRIBED["object.json"])
    assert read_descriptions(described) == {"growing": "it gets larger", "shrinking": None, "sliding left": None}
    with pytest.raises(AnnotationError, match=r"list\.json holds no descriptions \(JSON, list of names\)"):
        read_descriptions(written(tmp_path, "list.json", READ_ALIKE["list.json"]))


# A class of each, as converted lists and folders write it.
SPELLED = {
    "ucf101": "apply eye makeup",
    "hmdb51": "brush hair",
    "k400": '"massaging person\'s head"',
    "k600": "passing_american_football_not_in_game",
    "ssv2": "Pulling [something] from left to right",
}

# What is easily taken for one another, and the word that one sentence of each group has alone.
LOOK_ALIKES = [
    ("k400", {"high jump": "mat", "long jump": "once", "triple jump": "hops", "pole vault": "pole"}),
    (
        "k400",
        {
            "catching or throwing baseball": "overhand",
            "catching or throwing frisbee": "disc",
            "catching or throwing softball": "underhand",
            "throwing ball": "hand",
            "hitting baseball": "batter",
        },
    ),
    (
        "k400",
        {
            "playing guitar": "tune",
            "playing bass guitar": "electric",
            "strumming guitar": "chords",
            "tapping guitar": "tap",
            "playing ukulele": "tiny",
            "playing harp": "upright",
            "playing cello": "bows",
            "playing violin": "chin",
        },
    ),
    (
        "k400",
        {
            "playing flute": "across",
            "playing clarinet": "black",
            "playing recorder": "simple",
            "playing saxophone": "curved",
            "playing trumpet": "valves",
            "playing trombone": "slide",
            "playing didgeridoo": "wooden",
            "playing harmonica": "lips",
        },
    ),
    ("k400", {"golf chipping": "lofts", "golf driving": "tee", "golf putting": "rolls"}),
    ("k400", {"clean and jerk": "pauses", "snatch weight lifting": "single", "deadlifting": "hanging"}),
    ("k400", {"skiing slalom": "course", "skiing crosscountry": "strides", "ski jumping": "ramp"}),
    ("k400", {"playing basketball": "teams", "shooting basketball": "stands", "dunking basketball": "slams"}),
    ("k400", {"waxing back": "back", "waxing chest": "chest", "waxing eyebrows": "eyebrow", "waxing legs": "leg"}),
    ("k600", {"hugging baby": "baby", "hugging (not baby)": "grown"}),
    ("k600", {"putting on eyeliner": "line", "putting on mascara": "eyelashes", "putting on lipstick": "lips"}),
    ("k600", {"cutting apple": "apple", "cutting orange": "orange", "cutting pineapple": "pineapple"}),
    ("k600", {"tying necktie": "long", "tying bow tie": "short", "tying shoe laces": "laces"}),
    (
        "ssv2",
        {
            "Pulling something from left to right": "drag an object over the table from the left side",
            "Pulling something from right to left": "drag an object over the table from the right side",
            "Pushing something from left to right": "shoves it over the table from the left side",
            "Pushing something from right to left": "shoves it over the table from the right side",
        },
    ),
    (
        "ssv2",
        {
            "Turning the camera left while filming something": "to the left,",
            "Turning the camera right while filming something": "to the right,",
            "Turning the camera upwards while filming something": "tilts up",
            "Turning the camera downwards while filming something": "tilts down",
            "Approaching something with your camera": "forward",
            "Moving away from something with your camera": "backward",
        },
    ),
    (
        "ssv2",
        {
            "Putting something behind something": "far side",
            "Putting something in front of something": "near side",
            "Putting something next to something": "at the side",
            "Putting something onto something": "on top",
            "Putting something underneath something": "below",
            "Putting something into something": "inside",
        },
    ),
]


@pytest.mark.parametrize("name", SHIPPED_DESCRIPTIONS)
def test_every_class_of_a_published_data_set_has_a_sentence_of_its_own(tmp_path, monkeypatch, name):
    descriptions = read_descriptions(name)
    assert len(descriptions) == published_counts()[name]["all"]["classes"]
    sentences = list(descriptions.values())
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert 6 <= len(sentence.split()) <= 20, sentence
        assert re.fullmatch(r"[a-z][a-z ,'-]*[a-z]", sentence, re.ASCII | re.IGNORECASE), sentence
        assert not re.search(r"\b(videos?|clip|footage)\b", sentence), sentence
    spelled = SPELLED[name]
    assert match_labels(descriptions, [spelled], allow_more=True).described[spelled] in sentences
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine\tmy own")
    assert read_descriptions(name) == descriptions
    assert read_descriptions(f"./{name}") == {"mine": "my own"}


def test_each_file_of_sentences_serves_a_data_set_and_no_class_stands_twice():
    files = {file for names in SHIPPED_DESCRIPTIONS.values() for file in names}
    assert files == {path.name for path in DESCRIPTIONS_FOLDER.iterdir()}
    assert set(SHIPPED_DESCRIPTIONS) <= set(DATASETS)
    for names in SHIPPED_DESCRIPTIONS.values():
        labels = [label for name in names for label in read_label_file(DESCRIPTIONS_FOLDER / name).names]
        assert len({label_words(label) for label in labels}) == len(labels)


@pytest.mark.parametrize("name", SHIPPED_DESCRIPTIONS)
def test_a_sentence_fits_the_text_tower_under_the_longest_template(name):
    (template,) = sorted(TEMPLATE_SETS["froster"].templates, key=len)[-1:]
    for label, sentence in read_descriptions(name).items():
        (prompt,) = fill_templates([template], label, sentence)
        words = re.findall(r"[a-z]+|[^\sa-z]", readable_label(prompt).lower())
        # An estimate: a long word may be two tokens. With CLIP's own vocabulary, no prompt has more than 61.
        assert 2 + len(words) + sum(len(word) > 6 for word in words) <= 77, prompt


@pytest.mark.parametrize(("name", "alike"), LOOK_ALIKES, ids=[next(iter(alike)) for _, alike in LOOK_ALIKES])
def test_sentences_tell_classes_apart_that_look_alike(name, alike):
    descriptions = read_descriptions(name)
    for label, said in alike.items():
        having = [other for other in alike if re.search(rf"\b{said}(?!\w)", descriptions[other])]
        assert having == [label], (said, having)


@pytest.mark.parametrize("spell", _FOLDER_NAMES[:4])
@pytest.mark.parametrize("name", ["k400", "k600"])
def test_names_as_folders_of_videos_are_called_find_their_sentences(name, spell):
    descriptions = read_descriptions(name)
    folders = [spell(label) for label in descriptions]
    assert match_labels(descriptions, folders).described == dict(zip(folders, descriptions.values()))


def test_descriptions_that_do_not_ship_are_an_error_that_names_those_that_do():
    with pytest.raises(AnnotationError, match=r"no file k700 of descriptions.*ucf101, hmdb51, k400, k600, ssv2"):
        read_descriptions("k700")


def test_the_form_says_what_was_recognized(tmp_path):
    forms = {name: read_label_file(written(tmp_path, name, text)).form for name, text in READ_ALIKE.items()}
    assert forms["lines.txt"] == "text, one label per line"
    assert forms["name to index.json"] == "JSON, name to index"
    assert forms["name, id.csv"] == "CSV, columns name,index below a header"
    assert forms["indices.txt"] == "text, columns index,name"


REFUSED = [
    ("a.txt", "", "holds no labels"),
    ("a.csv", " \n\n", "holds no labels"),
    ("a.csv", "id,name\n", "no labels below its header"),
    ("a.txt", codecs.BOM_UTF16_LE + "growing".encode("utf-16-le"), "UTF-16 text"),
    ("a.txt", codecs.BOM_UTF16_BE + "growing".encode("utf-16-be"), "UTF-16 text"),
    ("a.txt", "growing\n".encode("utf-16-le"), "UTF-16 text"),
    ("a.txt", codecs.BOM_UTF32_LE + "growing".encode("utf-32-le"), "UTF-32 text"),
    ("a.txt", "wächst".encode("latin-1"), "not UTF-8"),
    ("a.txt", "growing\ngrowing\n", "repeated: 'growing'"),
    ("a.txt", "0 growing\n1 shrinking\n", "every line begins with its number"),
    ("a.txt", "1. growing\n2. shrinking\n", "every line begins with its number"),
    ("a.txt", "0,growing\n1,shrinking\n", "every line begins with its number.*id,name"),
    *(
        ("a.txt", f"{first}growing\n{second}shrinking\n", "every line begins with its number")
        for first, second in zip(
            ("1_", "001-", "0|", "(1) ", "[0] ", "#1 "), ("2_", "002-", "1|", "(2) ", "[1] ", "#2 ")
        )
    ),
    ("a.txt", '1,"growing"\n0,"shrinking"\n', "every line begins with its number"),
    ("a.txt", '"id";"name"\n0;"growing"\n', "first line names columns"),
    ("a.txt", "growing\tit gets larger\n\tit gets smaller\n", "label 1 is ''"),
    ("a.txt", 'growing\tit "gets" larger\n"shrinking" now\tit\n', "line 2: not a CSV line"),
    ("a.csv", "0\ngrowing\n2\n", "as pandas heads a column without a name"),
    ("a.txt", "growing_0\nshrinking_1\n", "every line ends with its number"),
    ("a.txt", "growing [1]\nshrinking [2]\n", "every line ends with its number"),
    ("a.txt", "growing 0\nshrinking 1\n", "every line ends with its number"),
    ("a.txt", "growing,1\nshrinking,2\n", "every line ends with its number.*id,name"),
    ("a.txt", "growing (0)\nshrinking (1)\n", "every line ends with its number"),
    ("a.csv", "growing 0\nshrinking 1\n", "every line ends with its number"),
    ("a.csv", "0 growing\n1 shrinking\n", "every line begins with its number"),
    ("a.txt", "id,name\n0,growing\n1,shrinking\n", "first line names columns.*ends in .csv"),
    ("a.txt", "name;id\ngrowing;0\nshrinking;1\n", "first line names columns.*ends in .csv"),
    ("a.txt", "growing, shrinking, sliding left\n", "the only line, .* has commas"),
    ("a.txt", "growing; shrinking\n", "the only line, .* has commas or semicolons"),
    ("a.txt", "growing,\nshrinking,\nsliding left\n", "ends in a comma"),
    ("a.txt", '"growing",\n"shrinking",\n', "ends in a comma"),
    ("a.txt", "['growing', 'shrinking']\n", "the only line, .* has commas"),
    ("a.txt", "['growing']\n", "the lines are a list as programs write it"),
    ("a.txt", "('growing',\n'shrinking')\n", "the lines are a list"),
    ("a.txt", "'growing'\n'shrinking'\n", "stands in single quotes"),
    ("a.txt", "- growing\n- shrinking\n", "begins with a bullet"),
    ("a.txt", "a\tb\tc\n", "known as a header"),
    ("a.txt", "1\tgrowing\n2\tshrinking\n", "0 is missing"),
    ("a.txt", '"a","b"\n"c","d"\n', "several quoted labels"),
    ("a.txt", '{"label": "growing"}\n{"label": "shrinking"}\n', "not JSON"),
    ("a.jsonl", '"growing"\n"shrinking"\n', "not read from .jsonl files"),
    ("a.yaml", "names:\n- growing\n", "not read from .yaml files"),
    ("a.json", "growing\n", "not JSON"),
    ("a.json", "3", "got 3"),
    ("a.json", '"growing"', "got the string"),
    ("a.json", "null", "got None"),
    ("a.json", "NaN", "NaN is not a number of JSON"),
    ("a.json", '{"0": "a", "0": "b"}', "key '0' stands twice"),
    ("a.json", '{"labels": ["a", "b"]}', "'labels' is of the type list"),
    ("a.json", '{"labels": ["a", "b"], "version": "1"}', "'labels' is of the type list.*write that list alone"),
    ("a.json", '{"name": "my set", "class_names": ["a", "b"]}', "'class_names' is of the type list"),
    ("a.json", '{"labels": ["a", "b"], "descriptions": ["c", "d"]}', "'labels' is of the type list"),
    ("a.json", '[["a"], ["b"]]', "label 0 is of the type list"),
    ("a.json", '{"a": {"b": 1}, "c": [1]}', "'a' is of the type dict"),
    ("a.json", '["a", "\\ud800"]', "half of a character"),
    ("a.json", '["a", " a"]', "repeated: 'a'"),
    ("a.json", "[" * 100_000, "nested too deeply"),
    ("a.json", '{"a":' * 100_000, "nested too deeply"),
    ("a.json", "[" + "9" * 5000 + "]", "not JSON"),
    ("a.csv", "growing,shrinking\nup,down\n", "known as a header.*name,description"),
    ("a.csv", "0,1\n1,0\n", "both columns are numbers"),
    ("a.csv", "0,growing\n2,shrinking\n", "1 is missing"),
    ("a.csv", "nr,titre\n0,growing\n1,shrinking\n", "'nr, titre'.*known as a header"),
    ("a.csv", "0,growing\n1,up, then down\n", "row 2: 3 columns where the first row has 2"),
    ("a.csv", 'id,name\n0,"growing\n1,shrinking\n', "not CSV"),
    ("a.tsv", 'name\tdescription\n"a"b\tc\n', "line 2: not CSV"),
    ("a.csv", 'id,name\n0,"growing\n1,shrinking"\n', "line break"),
    ("a.csv", "id,name,color\n0,growing,red\n", "known as a header"),
    ("a.csv", "x" * 200_000, "not CSV|characters"),
    ("a.csv", "name,description\na,0\nb,7\n", "every description is a number"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED)
def test_another_file_is_refused_by_name_in_one_short_line(tmp_path, name, content, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        read_label_file(written(tmp_path, name, content))
    assert name in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_line_break_in_a_cell_does_not_cost_the_square_of_its_length(tmp_path):
    """A cell of 131,000 characters took half a minute, and a file can have a hundred."""
    rows = "".join(f'"{number}{")" * 131_000}x\ny"\n' for number in range(1, 9))
    start = time.process_time()
    with pytest.raises(AnnotationError, match=r"names\.csv: a label holds a line break; a quote may not be closed"):
        read_label_file(written(tmp_path, "names.csv", f"juggling\n{rows}"))
    assert time.process_time() - start < 5


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("froster_hf.processing.label_files.MAX_LABEL_FILE_BYTES", 10)
    with pytest.raises(AnnotationError, match="more than 10 bytes"):
        read_label_file(written(tmp_path, "a.txt", "one\ntwo\nthree\n"))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv"])
def test_more_lines_than_labels_are_allowed_are_refused_before_they_are_divided(tmp_path, monkeypatch, name):
    monkeypatch.setattr("froster_hf.processing.label_files.MAX_LABELS", 2)
    with pytest.raises(AnnotationError, match="more than 2 labels"):
        read_label_file(written(tmp_path, name, "one\ttwo\r\n" * 3))


def test_one_long_line_does_not_make_all_others_as_long(tmp_path):
    lines = "".join(f"label {index}\n" for index in range(100_000))
    with pytest.raises(AnnotationError, match="a line has 9001 columns"):
        read_label_file(written(tmp_path, "a.txt", f"{lines}a{chr(9) * 9_000}b\n"))


def test_json_of_more_values_than_memory_should_hold_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr("froster_hf.processing.text_files.MAX_JSON_MARKS", 6)
    assert parse_json('[{}, "a", 1]', source="a.json") == [{}, "a", 1]
    with pytest.raises(AnnotationError, match=r"a\.json has more values"):
        parse_json("[{},{},{}]", source="a.json")


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(AnnotationError, match="is not a file"):
        read_label_file(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        read_label_file(tmp_path / "absent.txt")


def test_a_hostile_name_of_a_file_does_not_control_a_terminal(tmp_path):
    with pytest.raises(AnnotationError) as caught:
        read_label_file(written(tmp_path, "a\x1b[31m\nfroster: done.txt", "a\na\n"))
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ('"Lifting up, then down", growing', ["Lifting up, then down", "growing"]),
        ('growing,"a ""quoted"" word"', ["growing", 'a "quoted" word']),
        ('a 12" wheel,b', ['a 12" wheel', "b"]),
    ],
)
def test_labels_of_a_line_are_separated_as_in_csv(text, labels):
    assert split_labels(text) == labels


@pytest.mark.parametrize("text", ["", "a,,b", "a,", '"a,b', '"a" b,c', "a\nb"])
def test_a_line_that_cannot_be_told_apart_is_refused(text):
    with pytest.raises(ValueError, match=r"empty|told apart"):
        split_labels(text)


# One line of text: no line ends, and nothing that strips away.
LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=15)
LABEL_LISTS = st.lists(LABELS.map(str.strip).filter(bool), min_size=1, max_size=8, unique=True)


def read_or_named(path):
    """The labels of a file, or `None` where it is refused by its name."""
    try:
        return read_label_file(path)
    except AnnotationError as error:
        refusal = str(error)
    assert path.name in refusal
    return None


several_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@several_files
@given(LABEL_LISTS)
@example(["0", "1"])
def test_what_is_written_as_csv_or_json_comes_out(tmp_path, names):
    table = io.StringIO()
    csv.writer(table).writerows([["id", "name"], *enumerate(names)])
    assert read_label_file(written(tmp_path, "a.csv", table.getvalue())).names == tuple(names)
    assert read_label_file(written(tmp_path, "a.json", json.dumps(names))).names == tuple(names)
    by_name = {name: index for index, name in enumerate(names)}
    assert read_label_file(written(tmp_path, "b.json", json.dumps(by_name))).names == tuple(names)


@several_files
@given(LABEL_LISTS, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_what_is_written_as_lines_comes_out_or_is_refused(tmp_path, names, end, bom):
    path = written(tmp_path, "a.txt", "\ufeff" * bom + end.join(names))
    labels = read_or_named(path)
    assert labels is None or labels.names == tuple(names)


@several_files
@given(st.sampled_from(["txt", "json", "csv", "tsv", "lst"]), st.binary(max_size=60) | st.text(max_size=60))
def test_any_file_is_read_or_refused_by_name(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    labels = read_or_named(path)
    assert labels is None or all(name.strip() for name in labels.names)


@pytest.mark.parametrize("content", [";", ",", ";;\n;;\n", '""'])
def test_a_table_of_empty_cells_holds_no_labels(tmp_path, content):
    with pytest.raises(AnnotationError, match=r"a\.csv: the (table|file) holds no labels"):
        read_label_file(written(tmp_path, "a.csv", content))


TABLES = st.lists(st.lists(st.sampled_from(["0", "1", "2", "id", "name", "a", "b, c", '"', "d", ""]), max_size=3))


@several_files
@given(TABLES, st.sampled_from([",", "\t", ";", " "]), st.sampled_from(["txt", "csv", "tsv"]))
def test_no_cell_of_a_table_is_lost_in_silence(tmp_path, rows, delimiter, suffix):
    path = written(tmp_path, f"a.{suffix}", "\n".join(delimiter.join(row) for row in rows))
    labels = read_or_named(path)
    if labels is None:
        return
    kept = " ".join([*labels.names, *(text or "" for text in labels.descriptions or ())])
    header = "header" in labels.form
    for row in [row for row in rows if any(cell.strip() for cell in row)][header:]:
        for cell in row:
            assert cell.strip().strip('"') in kept or cell.strip().isdigit(), (cell, labels)
