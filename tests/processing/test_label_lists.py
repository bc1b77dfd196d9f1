"""Labels in the forms that programs hold them in: each recognized for what it is, or refused."""

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from froster_hf.processing.prompts_froster import LabelList, composed, read_label_list

NAMES = ("growing", "shrinking", "sliding left")

FORMS = {
    "list": (list(NAMES), "list of names"),
    "tuple": (NAMES, "list of names"),
    "array": (np.array(NAMES), "list of names"),
    "keys of a dict": (dict.fromkeys(NAMES).keys(), "list of names"),
    "index to name": ({2: "sliding left", 0: "growing", 1: "shrinking"}, "index to name"),
    "index to name, keys as text": ({"0": "growing", "2": "sliding left", "1": "shrinking"}, "index to name"),
    "name to index": ({"shrinking": 1, "growing": 0, "sliding left": 2}, "name to index"),
    "name to index as text": ({"shrinking": "1", "growing": "0", "sliding left": "2"}, "name to index"),
    "name to index of NumPy": (dict(zip(NAMES, np.arange(3))), "name to index"),
    "name to nothing": (dict.fromkeys(NAMES), "name to description"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_names(form):
    labels, recognized = FORMS[form]
    assert read_label_list(labels) == LabelList(NAMES, None, recognized)


def test_a_generator_is_read_once():
    assert read_label_list(name for name in NAMES).names == NAMES


def test_a_series_of_pandas_is_a_list():
    pandas = pytest.importorskip("pandas")
    assert read_label_list(pandas.Series(NAMES)).names == NAMES


def test_strings_of_an_array_become_plain_strings():
    assert all(type(name) is str for name in read_label_list(np.array(NAMES)).names)


def test_descriptions_stay_with_their_names():
    labels = read_label_list({"growing": "it gets larger", "shrinking": None, "sliding left": " "})
    assert labels.descriptions == ("it gets larger", None, None)
    assert labels.labels == {"growing": "it gets larger", "shrinking": None, "sliding left": None}
    assert read_label_list(NAMES).labels == list(NAMES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("growing,shrinking", r"got the string 'growing,shrinking'. Write \['growing', 'shrinking'\]"),
        (b"growing", "of the type bytes"),
        (3, "got 3"),
        (None, "got None"),
        ([], "empty"),
        ({}, "empty"),
        ([""], "label 0 is ''"),
        (["a", ["b"]], "label 1 is of the type list"),
        (["a", "b", "a"], "repeated: 'a'"),
        (["a  b", "a b\u00a0", "c"], "repeated: 'a b'"),
        (["\u00fcbung", "u\u0308bung"], "repeated: '\u00fcbung'"),
        (np.array([["a", "b"]]), "of the type ndarray"),
        (np.array("a"), "of the type ndarray"),
        ([0, 1], "label 0 is 0"),
        ({0: 1, 1: 0}, "all numbers"),
        ({"0": "1", "1": "0"}, "all numbers"),
        ({"0": "a", "2": "b"}, "from 0 to 1 without gaps.*1 is missing"),
        ({1: "a", 2: "b"}, "they run from 1 to 2, and 0 is missing"),
        ({"a": 1, "b": 2}, "they run from 1 to 2, and 0 is missing"),
        ({"a": 0, "b": 0}, "stand twice: '0'"),
        ({"0": "a", 0: "b"}, "stand twice"),
        ({"0": ["a"]}, "of the type list"),
        ({"0": None}, "label 0 is None"),
        ({"labels": ["a", "b"]}, "the value of 'labels' is of the type list"),
        ({"a": {"b": 1}, "c": [1]}, "the value of 'a' is of the type dict"),
        ({"a": True, "b": False}, "the value of 'a' is True"),
        ({"a": 0.5}, "the value of 'a' is 0.5"),
        ({3.5: "a"}, "label 0 is 3.5"),
        (["a", "\ud800"], "half of a character"),
        ({"a": "\ud800"}, "half of a character"),
        (["a\0b"], "NUL"),
        (["a" * 200_000], "200000 characters"),
        (["a" + "\u0301" * 31], "more than 30 accents"),
        ([10**5000], "a very large number"),
    ],
)
def test_another_form_is_refused_in_one_short_line(labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_label_list(labels, source="labels.json")
    assert str(caught.value).startswith("labels.json: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_label_that_stands_twice_in_a_long_list_is_found_in_linear_time(monkeypatch):
    comparisons = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other):
            nonlocal comparisons
            comparisons += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Counted(number) for number in range(30_000)]
    with pytest.raises(ValueError, match="repeated: '0'"):
        read_label_list([*names, Counted(0)])
    assert comparisons < 10 * len(names)


@pytest.mark.parametrize(
    "name", ["\ufeffgolf", "go\u200blf", "golf\u00ad", "\u202agolf\u202c", "golf\u200c", "golf\ufe0f"]
)
def test_labels_that_look_alike_are_one(name):
    with pytest.raises(ValueError, match="repeated: 'golf'"):
        read_label_list(["golf", "yoga", name])
    with pytest.raises(ValueError, match="non-empty"):
        read_label_list(["golf", "\ufeff\u200b"])
    assert read_label_list(["golf", "\U0001f469\u200d\U0001f680", "\U0001f469\U0001f680"])


def test_every_character_that_is_a_mark_or_made_of_marks_counts_as_one():
    characters = list(map(chr, range(sys.maxunicode + 1)))
    marks = [one for one in characters if unicodedata.combining(unicodedata.normalize("NFD", one)[0])]
    assert len(marks) > 900
    for mark in marks:
        with pytest.raises(ValueError, match="marks in a row"):
            composed("a" + mark * 31, source="labels.json")


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73"])
def test_marks_that_would_take_hours_to_compose_are_refused_at_once(marks):
    with pytest.raises(ValueError, match="marks in a row"):
        composed("a" + marks * 2**20, source="labels.json")


@pytest.mark.parametrize(
    "name",
    [
        "Cafe\u0301" * 1000,
        "\u1100\u1161\u11a8" * 1000,
        "ส่งน้ำ" * 1000,
        "བོད་ཡིག" * 1000,
        "שָׁל֣וֹם" * 1000,
        "a" + "\u0301" * 30,
    ],
    ids=["French", "Korean", "Thai", "Tibetan", "Hebrew", "thirty marks"],
)
def test_writing_has_no_end_to_its_marks(name):
    assert composed(name, source="labels.json") == unicodedata.normalize("NFC", name)


def test_an_endless_generator_is_bounded(monkeypatch):
    monkeypatch.setattr("froster_hf.processing.prompts_froster.MAX_LABELS", 1000)
    with pytest.raises(ValueError, match="more than 1000 labels"):
        read_label_list(str(number) for number in iter(int, 1))


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cf"], exclude_characters="\0"), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(WORDS.filter(str.strip), min_size=1, max_size=12, unique=True))
def test_what_goes_in_comes_out_in_order_whatever_the_form(names):
    assert read_label_list(names).names == tuple(names)
    assert read_label_list(dict(enumerate(names))).names == tuple(names)
    assert read_label_list({name: index for index, name in enumerate(names)}).names == tuple(names)


@given(JSON)
def test_any_value_is_read_whole_or_refused(value):
    try:
        labels = read_label_list(value)
    except ValueError:
        return
    assert len(labels.names) == len(value)
    texts = [*value, *(value.values() if isinstance(value, dict) else ())]
    assert all(name in texts for name in labels.names)
    # What the pipeline hands on is read again as the same.
    assert read_label_list(labels.labels).pairs == labels.pairs
