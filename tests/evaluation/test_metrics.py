import evaluate
import numpy as np
import pytest
from transformers import EvalPrediction

from froster_hf.evaluation import compute_metrics, metric_path
from froster_hf.evaluation.metrics import (
    average_views,
    class_accuracies,
    confusion_matrix,
    harmonic_mean,
    mean_and_std,
    summary,
    top_k_accuracy,
)


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(size=(200, 7))


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 7, size=200)


@pytest.mark.parametrize("k", [1, 3, 5, 7, 9])
def test_top_k_agrees_with_sorting(scores, labels, k):
    hits = [label in np.argsort(-row)[:k] for row, label in zip(scores, labels)]
    assert top_k_accuracy(scores, labels, k=k) == pytest.approx(np.mean(hits))


def test_a_model_that_says_the_same_of_every_class_is_right_about_nothing():
    assert top_k_accuracy(np.zeros((4, 7)), np.arange(4), k=5) == 0


def test_undecodable_clips_and_scores_that_are_no_numbers_count_as_wrong():
    scores = np.eye(4)
    assert top_k_accuracy(scores, np.array([0, 1, -100, 3]), k=1) == 0.75
    scores[1] = np.nan
    assert top_k_accuracy(scores, np.array([0, 1, 2, 3]), k=5) == 0.75
    assert confusion_matrix(scores, np.array([0, 1, 2, -100])).sum() == 2


def test_labels_out_of_range_are_refused(scores):
    with pytest.raises(ValueError, match=r"0\.\.6 or be -100"):
        top_k_accuracy(scores, np.full(200, 7), k=1)


def test_class_accuracies_and_confusions_fit_each_other(scores, labels):
    confusion = confusion_matrix(scores, labels)
    assert confusion.sum() == 200
    expected = np.diag(confusion) / confusion.sum(axis=1)
    assert np.allclose(class_accuracies(scores, labels), expected)
    assert summary(scores, labels)["mean_class_accuracy"] == pytest.approx(expected.mean())


def test_a_class_without_clips_has_no_accuracy_and_does_not_enter_the_mean():
    scores, labels = np.eye(3)[[0, 1]], np.array([0, 1])
    assert np.isnan(class_accuracies(scores, labels)[2])
    assert summary(scores, labels)["mean_class_accuracy"] == 1.0


def test_views_are_averaged_after_the_softmax():
    logits = np.array([[[0.0, 10.0], [3.0, 0.0], [3.0, 0.0]]])
    by_hand = np.mean(
        [[np.exp(a) / (np.exp(a) + np.exp(b)), np.exp(b) / (np.exp(a) + np.exp(b))] for a, b in logits[0]], 0
    )
    assert np.allclose(average_views(logits)[0], by_hand)
    assert average_views(logits)[0].argmax() == 0, "the mean of the logits would say 1"
    assert np.allclose(average_views(logits + 1e4), average_views(logits)), "large logits do not overflow"


def test_harmonic_mean():
    assert harmonic_mean(77.8, 64.3) == pytest.approx(70.4, abs=0.05)
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_mean_and_std_over_splits_divide_by_the_count():
    assert mean_and_std([1.0, 3.0]) == {"mean": 2.0, "std": 1.0}
    with pytest.raises(ValueError, match="at least one"):
        mean_and_std([])


def test_the_trainer_gets_the_same_numbers(scores, labels):
    assert compute_metrics(EvalPrediction(predictions=(scores, None), label_ids=labels)) == summary(scores, labels)


def test_the_local_evaluate_modules_load_offline_and_agree(scores, labels):
    accuracy = evaluate.load(metric_path("action_accuracy"))
    results = accuracy.compute(predictions=scores, references=labels, per_class=True)
    expected = summary(scores.astype(np.float32), labels)
    assert {key: results[key] for key in expected} == expected
    assert results["confusion_matrix"] == confusion_matrix(scores, labels).tolist()
    accuracy.add_batch(predictions=scores[:100], references=labels[:100])
    accuracy.add_batch(predictions=scores[100:], references=labels[100:])
    assert accuracy.compute()["top1"] == expected["top1"]

    base_to_novel = evaluate.load(metric_path("base_to_novel")).compute(base=[76.0, 78.0], novel=[60.0, 64.0])
    assert base_to_novel["harmonic_mean"] == harmonic_mean(77.0, 62.0)
    assert base_to_novel["base_std"] == 1.0
    assert evaluate.load(metric_path("mean_and_std")).compute(values=[74.0, 75.0]) == {"mean": 74.5, "std": 0.5}


def test_an_unknown_metric_module_is_named():
    with pytest.raises(ValueError, match="action_accuracy"):
        metric_path("accuracy")
