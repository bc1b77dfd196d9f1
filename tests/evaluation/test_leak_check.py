import pytest
from datasets import Dataset

from froster_hf.data.video_table import video_features
from froster_hf.evaluation import PromptLeakError, check_prompts, find_leaks


@pytest.fixture
def table():
    paths = [
        "/data/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "/data/UCF-101/juggling/v_juggling_g02_c03.avi",
        "/data/videos/test/brush_hair/April_09_brush_hair_u.avi",
    ]
    features = video_features(["apply eye makeup", "juggling", "brush hair"])
    return Dataset.from_dict({"video": paths, "label": [0, 1, 2]}, features=features)


def test_prompts_of_label_texts_pass(table):
    prompts = ["a photo of apply eye makeup.", "juggling", "a video of a test of brush hair: hair and data in videos"]
    assert find_leaks(prompts, table) == []
    check_prompts(prompts, table)


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
def test_a_part_of_a_path_in_a_prompt_is_found(table, prompt, part):
    assert part in {found for found, _ in find_leaks([prompt], table)}
    with pytest.raises(PromptLeakError, match="nothing"):
        check_prompts(["a photo of juggling.", prompt], table)


def test_a_folder_that_is_the_label_itself_cannot_be_told_from_it(table):
    named_alike = Dataset.from_dict(
        {"video": ["/data/brush_hair/1.avi"], "label": [0]}, features=video_features(["brush_hair"])
    )
    check_prompts(["a photo of brush_hair."], named_alike)
