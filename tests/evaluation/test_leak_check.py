import re

import pytest
from datasets import Dataset

from froster_hf.data.video_table import video_features
from froster_hf.evaluation import find_leaks, leak_check, warn_of_leaks


@pytest.fixture
def table():
    paths = [
        "/data/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "/data/UCF-101/juggling/v_juggling_g02_c03.avi",
        "/data/videos/test/brush_hair/April_09_brush_hair_u.avi",
    ]
    features = video_features(["apply eye makeup", "juggling", "brush hair"])
    return Dataset.from_dict({"video": paths, "label": [0, 1, 2]}, features=features)


def test_prompts_of_label_texts_pass(table, caplog):
    prompts = ["a photo of apply eye makeup.", "juggling", "a video of a test of brush hair: hair and data in videos"]
    assert find_leaks(prompts, table) == []
    warn_of_leaks(prompts, table)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("a photo of ApplyEyeMakeup.", "ApplyEyeMakeup"),
        ("brush_hair", "brush_hair"),
        ("a video: v_juggling_g02_c03", "v_juggling_g02_c03"),
        ("the file v_juggling_g02_c03.avi shows juggling", "v_juggling_g02_c03.avi"),
        ("from UCF-101", "UCF-101"),
    ],
)
def test_a_part_of_a_path_in_a_prompt_is_found_and_told(table, caplog, prompt, part):
    assert part in {found for found, _ in find_leaks([prompt], table)}
    warn_of_leaks(["a photo of juggling.", prompt], table)
    (message,) = caplog.messages
    assert prompt in message
    assert "says nothing" in message


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("a video q1.mp4", "of a video q1.mp4: golf"),
        ("a video q1.mp4", "a video q1"),
        ("(take 2) golf.mp4", "see ((take 2) golf) here"),
        ("a-b_c.mp4", "the a-b_c-d"),
        ("take_2", "take take_2 take_2"),
    ],
)
def test_names_of_several_words_are_found(name, prompt):
    table = Dataset.from_dict({"video": [f"/data/{name}"], "label": [0]}, features=video_features(["golf"]))
    expected = [
        part for part in {name, name.removesuffix(".mp4")} if re.search(rf"(?<!\w){re.escape(part)}(?!\w)", prompt)
    ]
    # A name that begins within a word of the prompt, behind a hyphen, is none of its words.
    expected = [] if name.startswith("a-b") else expected
    assert sorted(find_leaks([prompt], table)) == sorted((part, prompt) for part in expected)


def test_a_name_within_a_longer_one_is_none():
    table = Dataset.from_dict({"video": ["/data/take_2.mp4"], "label": [0]}, features=video_features(["golf"]))
    assert find_leaks(["take_22", "untake_2", "take_2_3", "a take_2nd"], table) == []


def test_no_name_is_searched_for_in_every_prompt(monkeypatch):
    """Names that begin as the prompts do were compared with each of them."""
    names = [f"/data/a video q{number:05d}.mp4" for number in range(3000)]
    table = Dataset.from_dict({"video": names, "label": [0] * 3000}, features=video_features(["golf"]))
    looked_at = []
    monkeypatch.setattr(leak_check, "_continues_word", lambda character: looked_at.append(character) or False)
    prompts = [f"a video of golf {number}" for number in range(300)]
    assert find_leaks(prompts, table) == []
    assert len(looked_at) < 10 * len(prompts)


def test_a_folder_that_is_the_label_itself_cannot_be_told_from_it(caplog):
    named_alike = Dataset.from_dict(
        {"video": ["/data/brush_hair/1.avi"], "label": [0]}, features=video_features(["brush_hair"])
    )
    assert find_leaks(["a photo of brush_hair."], named_alike) == []
    warn_of_leaks(["a photo of brush_hair."], named_alike)
    assert not caplog.messages


@pytest.mark.parametrize("behind", ["(", "z"])
def test_paths_and_labels_that_begin_alike_by_the_thousand_take_bounded_time(monkeypatch, caplog, behind):
    """Also where the pieces end within a word, of which none is a part."""
    paths = ["/r/" + "(" * before + "aB12 " + behind * number for before in range(30) for number in range(30)]
    labels = [("(" * 30 + f"aB12 {behind * 33}") * 20 + str(index) for index in range(50)]
    table = Dataset.from_dict({"video": paths, "label": [0] * len(paths)}, features=video_features(labels))
    seen = iter(labels)
    monkeypatch.setattr(leak_check, "MOST_COMPARED", 60_000)
    looked_at = []
    continues = leak_check._continues_word
    monkeypatch.setattr(leak_check, "_continues_word", lambda text: looked_at.append(text) or continues(text))
    warn_of_leaks(seen, table)
    assert 1 < len(list(seen)) < 49
    # Once for each beginning and each end.
    assert len(looked_at) < 3 * 60_000
    assert "prompts are searched for parts of videos' paths: both are too many" in caplog.text
