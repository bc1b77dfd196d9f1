import pytest
from datasets import Dataset

from froster_hf.data.video_table import video_features
from froster_hf.evaluation import find_leaks, warn_of_leaks


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


def test_a_folder_that_is_the_label_itself_cannot_be_told_from_it(caplog):
    named_alike = Dataset.from_dict(
        {"video": ["/data/brush_hair/1.avi"], "label": [0]}, features=video_features(["brush_hair"])
    )
    assert find_leaks(["a photo of brush_hair."], named_alike) == []
    warn_of_leaks(["a photo of brush_hair."], named_alike)
    assert not caplog.messages
