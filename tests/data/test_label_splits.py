import json

import numpy as np
import pytest

from froster_hf.data import base_and_novel_labels, keep_labels, label_splits, sample_shots
from froster_hf.data.label_splits import hold_out
from froster_hf.data.video_table import ListedClip, label_array, video_table, with_labels


def table(counts: dict[str, int], order_seed: int = 0):
    clips = [
        ListedClip(f"/{label}/{n}.mp4", index, "") for index, label in enumerate(counts) for n in range(counts[label])
    ]
    np.random.default_rng(order_seed).shuffle(clips)
    return video_table(clips, labels=list(counts), missing="keep")


def chosen(dataset):
    return {row["path"] for row in dataset["video"]}


def test_the_frequent_half_is_base_and_an_odd_class_goes_to_it():
    dataset = table({"a": 2, "b": 5, "c": 3, "d": 1, "e": 4})
    assert base_and_novel_labels(dataset) == (["b", "c", "e"], ["a", "d"])


def test_of_equally_frequent_classes_the_earlier_are_novel_as_in_the_published_halves():
    assert base_and_novel_labels(table({"d": 3, "a": 3, "c": 3, "b": 3})) == (["c", "b"], ["d", "a"])


def test_a_listed_base_half_is_taken_as_it_is():
    dataset = table({"a": 1, "b": 1, "c": 1})
    assert base_and_novel_labels(dataset, base_labels=["c"]) == (["c"], ["a", "b"])
    with pytest.raises(ValueError, match="the data set came without 1 of its names: z"):
        base_and_novel_labels(dataset, base_labels=["z"])
    with pytest.raises(ValueError, match="3 base and 0 novel"):
        base_and_novel_labels(dataset, base_labels=["a", "b", "c"])


@pytest.mark.parametrize("spelling", ["ApplyEyeMakeup", "apply_eye_makeup", "apply eye-makeup"])
def test_a_listed_half_is_found_by_its_words_and_an_error_names_the_file(tmp_path, spelling):
    dataset, file = table({"apply eye makeup": 1, "row": 1}), tmp_path / "base.json"
    file.write_text(json.dumps([spelling]))
    assert base_and_novel_labels(dataset, base_labels=file) == (["apply eye makeup"], ["row"])
    file.write_text(json.dumps([spelling, "tai chi"]))
    with pytest.raises(ValueError, match=r"base\.json.* without 1 of its names: tai chi"):
        base_and_novel_labels(dataset, base_labels=str(file))


def test_keeping_labels_reindexes_rows_and_forgets_the_other_texts():
    dataset = table({"a": 2, "b": 3, "c": 1})
    kept = keep_labels(dataset, ["c", "a"])
    assert kept.features["label"].names == ["c", "a"]
    for row in kept:
        assert row["video"]["path"].split("/")[1] == kept.features["label"].names[row["label"]]
    assert len(kept) == 3
    with pytest.raises(ValueError, match="unknown"):
        keep_labels(dataset, ["z"])


def test_shots_are_drawn_per_class_by_the_seed():
    dataset = table({"a": 20, "b": 30, "c": 16})
    first = sample_shots(dataset, 16, seed=0)
    assert np.bincount(label_array(first)).tolist() == [16, 16, 16]
    assert chosen(first) == chosen(sample_shots(dataset, 16, seed=0))
    assert chosen(first) != chosen(sample_shots(dataset, 16, seed=1))


def test_a_class_draws_the_same_shots_whatever_the_other_classes():
    dataset = table({"a": 20, "b": 30, "c": 16})
    alone = chosen(sample_shots(keep_labels(dataset, ["b"]), 4, seed=3))
    together = {path for path in chosen(sample_shots(dataset, 4, seed=3)) if path.startswith("/b/")}
    assert alone == together


def test_videos_without_a_label_are_of_no_class():
    labeled = table({"a": 4, "b": 3})
    without = np.flatnonzero(label_array(labeled) == 0)[:1]
    indices = label_array(labeled).copy()
    indices[without] = -1
    dataset = with_labels(labeled, indices, ["a", "b"])
    assert base_and_novel_labels(dataset) == (["b"], ["a"])
    assert len(sample_shots(dataset, 3, seed=0)) == 6
    train, held = hold_out(dataset, 0.5)
    assert -1 in label_array(train)
    assert -1 not in label_array(held)


def test_labels_are_looked_at_once_and_not_once_for_each_class(monkeypatch):
    dataset = table({f"class {number}": 2 for number in range(300)})
    # The rows of each class are those that a search for it finds.
    found = label_splits._rows_of_labels(label_array(dataset), 300)
    assert [rows.tolist() for rows in found] == [
        np.flatnonzero(label_array(dataset) == n).tolist() for n in range(300)
    ]
    monkeypatch.setattr(np, "flatnonzero", None)
    assert len(sample_shots(dataset, 1, seed=0)) == 300
    assert list(map(len, hold_out(dataset, 0.5))) == [300, 300]


def test_a_class_with_too_few_clips_is_named():
    dataset = table({"a": 3, "b": 20})
    with pytest.raises(ValueError, match=r"1 classes have fewer than 16 clips: \{'a': 3\}"):
        sample_shots(dataset, 16, seed=0)
