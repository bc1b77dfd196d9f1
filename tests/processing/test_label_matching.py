import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from froster_hf.processing.label_matching import match_labels

NAMES = ["growing", "shrinking", "sliding left"]


def test_a_list_in_another_order_is_brought_into_that_of_the_names():
    match = match_labels(["sliding left", "growing", "shrinking"], NAMES)
    assert match.names == match.given == tuple(NAMES)
    assert match.positions == (1, 2, 0)
    assert match.descriptions is None


def test_descriptions_go_to_the_names_that_they_describe():
    match = match_labels({"sliding left": "to the left", "growing": None, "shrinking": "smaller"}, NAMES)
    assert match.descriptions == (None, "smaller", "to the left")


def test_the_same_words_in_another_spelling_match():
    match = match_labels({"ApplyEyeMakeup": "a brush", "brush_hair": None}, ["brush hair", "apply eye makeup"])
    assert match.given == ("brush_hair", "ApplyEyeMakeup")
    assert match.names == ("brush hair", "apply eye makeup")
    assert match.descriptions == (None, "a brush")


@pytest.mark.parametrize(
    ("published", "written"),
    [
        ("hurling (sport)", "hurling_sport"),
        ("massaging person's head", "massaging persons head"),
        ("massaging person's head", "massaging person\u2019s head"),
        ("cross-country skiing", "cross country skiing"),
        ("sharpening knives", '"sharpening knives"'),
        (
            "Lifting something up completely, then letting it drop down",
            "lifting something up completely then letting it drop down",
        ),
        ("Holding something", "Holding [something]"),
        ("\u00fcbung", "u\u0308bung"),
    ],
)
def test_marks_that_lists_and_folders_leave_out_or_add_do_not_count(published, written):
    assert match_labels([published, "other"], ["other", written]).positions == (1, 0)
    assert match_labels([written, "other"], ["other", published]).positions == (1, 0)


@pytest.mark.parametrize(("one", "other"), [("(", ")"), ("turn -1", "turn 1"), ("C++", "C"), ("5' wide", '5" wide')])
def test_marks_that_mean_something_count(one, other):
    with pytest.raises(ValueError, match="do not name the same classes"):
        match_labels([one], [other])


def test_an_equal_name_is_preferred_to_equal_words():
    match = match_labels(["brush_hair", "brush hair"], ["brush hair", "brush_hair"])
    assert match.positions == (1, 0)


@pytest.mark.parametrize("names", [["Brush hair"], ["Brush hair", "BRUSH_HAIR"]])
def test_a_spelling_that_fits_several_labels_matches_none(names):
    with pytest.raises(ValueError, match=r"without .* of its names: Brush hair"):
        match_labels(["brush_hair", "brush hair"], names)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (NAMES[:2], "`labels` came without 1 of its names: sliding left"),
        ([*NAMES, "jumping"], "with 1 that it does not have: jumping"),
        (["a", "b", "c"], r"without 3 of its names: growing, shrinking, sliding left; and with 3 .*: a, b, c"),
        (["growing", "growing", "shrinking"], "repeated: 'growing'"),
        ([], "empty"),
        ("growing", "got the string"),
    ],
)
def test_what_does_not_match_is_listed(labels, message):
    with pytest.raises(ValueError, match=message):
        match_labels(labels, NAMES)


def test_more_labels_are_allowed_on_request_and_both_sides_are_named():
    assert match_labels(["x", *NAMES[::-1]], NAMES, allow_more=True).positions == (3, 2, 1)
    with pytest.raises(ValueError, match=r"the model's labels and test\.csv do not name the same classes"):
        match_labels(NAMES, ["x"], labels_from="the model's labels", names_from="test.csv", allow_more=True)


def test_hostile_names_do_not_flood_or_control_a_terminal():
    with pytest.raises(ValueError, match=r"and 990 more") as caught:
        match_labels([f"\x1b[31m{number}" for number in range(1000)], NAMES)
    assert "\x1b" not in str(caught.value)


def test_long_lists_are_not_searched_for_each_of_their_names():
    names = [f"label {number}" for number in range(50_000)]
    begun = time.process_time()
    assert match_labels(names, names).given == tuple(names)
    assert time.process_time() - begun < 4  # of ten, where each is compared with those before it


def test_classes_that_are_called_by_digits_can_be_described():
    assert match_labels({"1": "one finger", "0": "a fist"}, ["0", "1"]).descriptions == ("a fist", "one finger")


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cf"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(WORDS, min_size=1, max_size=20, unique=True), st.randoms())
def test_every_order_of_the_same_names_matches_name_by_name(names, random):
    shuffled = random.sample(names, len(names))
    match = match_labels({name: f"about {name}" for name in shuffled}, names)
    assert [shuffled[position] for position in match.positions] == names
    assert match.descriptions == tuple(f"about {name}" for name in names)
