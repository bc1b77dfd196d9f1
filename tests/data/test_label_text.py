import pytest

from froster_hf.data.video_table import distinct_label_texts, label_text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("TVShow", "TV show"),
        ("brush_hair", "brush hair"),
        ("playing trumpet", "playing trumpet"),
        ("passing American football (in game)", "passing American football (in game)"),
        ("Pushing [something] off of [something]", "Pushing something off of something"),
        ("making a DIY McFlurry", "making a DIY McFlurry"),
    ],
)
def test_class_names_become_words(name, words):
    assert label_text(name) == words


def test_names_that_become_the_same_words_are_refused():
    with pytest.raises(ValueError, match="both read 'brush hair'"):
        distinct_label_texts(["brush_hair", "brush hair"], where="classInd.txt")


def test_a_name_without_words_is_refused():
    with pytest.raises(ValueError, match="holds no words"):
        distinct_label_texts(["___"], where="classInd.txt")
