import numpy as np
import pytest

from froster_hf.evaluation import published_results
from froster_hf.evaluation.evaluating import base_to_novel, cross_dataset, ensemble_scores
from froster_hf.evaluation.metrics import average_views, harmonic_mean
from froster_hf.evaluation.protocols import Part, evaluate_scores, part_of_labels

TEXTS = ["a", "b", "c", "d"]


def evaluate_part(part, logits, labels, texts):
    return evaluate_scores(part, average_views(logits[part.rows][:, :, part.columns]), labels, texts)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(60, 3, 4)).astype(np.float32)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 4, size=60)


def test_a_part_is_tested_over_its_own_labels_only(logits, labels):
    part = part_of_labels("novel", labels, TEXTS, ["d", "b"])
    result = evaluate_part(part, logits, labels, TEXTS)
    rows = np.flatnonzero((labels == 1) | (labels == 3))
    scores = average_views(logits[rows][:, :, [3, 1]])
    assert result.num_clips == len(rows)
    assert result.labels == ["d", "b"]
    assert result.metrics["top1"] == pytest.approx(np.mean(scores.argmax(1) == np.where(labels[rows] == 3, 0, 1)))
    assert (
        result.metrics["top1"] > evaluate_part(Part("all", rows, np.arange(4)), logits, labels, TEXTS).metrics["top1"]
    )


def test_undecodable_clips_count_as_wrong_and_are_told(logits, labels):
    part = Part("all", np.arange(60), np.arange(4))
    whole = evaluate_part(part, logits, labels, TEXTS)
    right = average_views(logits).argmax(1) == labels
    logits[np.flatnonzero(right)[:5]] = np.nan
    damaged = evaluate_part(part, logits, labels, TEXTS)
    assert damaged.num_undecodable == 5
    assert damaged.num_clips == 60
    assert damaged.metrics["top1"] == pytest.approx(whole.metrics["top1"] - 5 / 60)


def test_a_part_of_unknown_or_absent_labels_is_refused(labels):
    with pytest.raises(ValueError, match=r"not labels of the table, such as \['z'\]"):
        part_of_labels("base", labels, TEXTS, ["z"])
    with pytest.raises(ValueError, match="no clip of these 1 labels"):
        part_of_labels("base", labels, [*TEXTS, "e"], ["e"])


def test_base_to_novel_averages_samples_before_the_harmonic_mean(logits, labels):
    base = [
        evaluate_part(part_of_labels("base", labels, TEXTS, ["a", "b"]), x, labels, TEXTS) for x in (logits, -logits)
    ]
    novel = [
        evaluate_part(part_of_labels("novel", labels, TEXTS, ["c", "d"]), x, labels, TEXTS) for x in (logits, -logits)
    ]
    result = base_to_novel(base, novel)
    mean_base = np.mean([r.metrics["top1"] for r in base])
    mean_novel = np.mean([r.metrics["top1"] for r in novel])
    assert result["harmonic_mean"] == pytest.approx(harmonic_mean(mean_base, mean_novel))
    assert result["num_samples"] == 2
    with pytest.raises(ValueError, match="2 base and 1 novel"):
        base_to_novel(base, novel[:1])


def test_cross_dataset_gives_the_full_set_and_the_mean_of_the_splits(logits, labels):
    columns = np.arange(4)
    splits = [evaluate_part(Part(f"split {i}", np.arange(i, 60, 3), columns), logits, labels, TEXTS) for i in range(3)]
    full = evaluate_part(Part("full", np.arange(60), columns), logits, labels, TEXTS)
    result = cross_dataset(full, splits)
    assert result["full"] == full.metrics["top1"]
    assert result["splits_mean"] == pytest.approx(full.metrics["top1"]), "the three splits are equal parts of the set"
    assert result["splits_std"] == pytest.approx(np.std(result["splits"]))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_an_ensemble_of_a_model_with_itself_is_the_model(logits, average):
    columns = np.array([0, 2])
    together = ensemble_scores(logits, logits, columns=columns, weight=0.5, average=average)
    assert np.allclose(together, average_views(logits[:, :, columns]))


def test_an_ensemble_moves_from_one_model_to_the_other_with_the_weight(logits):
    columns = np.arange(4)
    for average in ("probabilities", "logits"):
        ends = [ensemble_scores(logits, -logits, columns=columns, weight=w, average=average) for w in (0.0, 1.0)]
        assert np.allclose(ends[0], average_views(logits))
        assert np.allclose(ends[1], average_views(-logits))


def test_ensembles_of_different_clips_or_views_are_refused(logits):
    columns = np.arange(4)
    with pytest.raises(ValueError, match="60 and 59 clips"):
        ensemble_scores(logits, logits[1:], columns=columns, weight=0.5)
    with pytest.raises(ValueError, match="view by view"):
        ensemble_scores(logits, logits[:, :1], columns=columns, weight=0.5, average="logits")
    assert ensemble_scores(logits, logits[:, :1], columns=columns, weight=0.5).shape == (60, 4)
    with pytest.raises(ValueError, match="average='max'"):
        ensemble_scores(logits, logits, columns=columns, weight=0.5, average="max")


def test_the_published_harmonic_means_follow_from_base_and_novel():
    for dataset, rows in published_results()["base_to_novel"].items():
        if dataset.startswith("_"):
            continue
        for method, (base, novel, published) in rows.items():
            # Rounded inputs; K-400 rows average three samples.
            assert harmonic_mean(base, novel) == pytest.approx(published, abs=0.16), (dataset, method)


def test_later_results_stand_beside_frosters_and_say_where_names_were_rephrased():
    published = published_results()
    rows = [
        {name: set(methods) for name, methods in published[protocol].items() if not name.startswith("_")}
        for protocol in ("base_to_novel", "cross_dataset")
    ]
    for later, datasets in zip(({"T2L (EZ-CLIP)", "GA2-CLIP (32 frames)"}, {"T2L (EZ-CLIP)", "MoTE", "TACO"}), rows):
        for methods in datasets.values():
            assert {"FROSTER", "ViFi-CLIP", "TC-CLIP", *later} <= methods
    rephrased = {
        method for datasets in rows for methods in datasets.values() for method in methods if "rephr" in method
    }
    assert set(published["label_text"]) == {"FROSTER", *rephrased}
