import pytest

from froster_hf.data import count_differences, published_counts
from froster_hf.data.video_table import ListedClip, video_table


def table(num_classes: int, num_clips: int, listed_classes: int | None = None):
    clips = [ListedClip(f"/{n}.mp4", n % num_classes, "") for n in range(num_clips)]
    labels = [f"class {n}" for n in range(listed_classes or num_classes)]
    return video_table(clips, labels=labels, missing="keep")


def test_published_halves_add_up_to_the_test_splits():
    for name in ("ucf101", "hmdb51", "ssv2"):
        parts = published_counts()[name]
        for key in ("classes", "clips"):
            assert parts["base_test"][key] + parts["novel_test"][key] == parts["test_split"][key]
        assert parts["base_train"]["clips"] == 16 * parts["base_train"]["classes"]


def test_matching_counts_pass():
    assert count_differences(table(26, 416), name="hmdb51", part="base_train") == {}


def test_differing_counts_are_told_with_the_published_ones():
    differences = count_differences(table(26, 415), name="hmdb51", part="base_train")
    assert differences == {"clips": {"found": 415, "published": 416}}


def test_a_class_without_clips_does_not_count():
    differences = count_differences(table(25, 416, listed_classes=26), name="hmdb51", part="base_train")
    assert differences == {"classes": {"found": 25, "published": 26}}


def test_what_is_not_published_is_refused():
    with pytest.raises(ValueError, match=r"No published counts for name='k400', part='test_split'"):
        count_differences(table(2, 2), name="k400", part="test_split")
