import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from transformers import EvalPrediction

from froster_hf.evaluation import (
    METRICS,
    ActionAccuracy,
    BaseToNovel,
    MeanAndStd,
    Metric,
    compute_metrics,
    evaluate_protocol,
    load_protocol,
    metrics,
)
from froster_hf.evaluation.metrics import (
    Needs,
    accuracies,
    average_views,
    best_label_is_present,
    class_accuracies,
    confusion_counts,
    harmonic_mean,
    mean_and_std,
    top_k_accuracy,
)
from froster_hf.fingerprints import architecture_of, model_fingerprint
from froster_hf.hub.measured_results import read_measured_results
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.modeling.table import markdown_table, yes_or_no
from tests.training.tiny import Arrays, tiny_trainer

DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


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
    assert confusion_counts(scores, np.array([0, 1, 2, -100])).sum() == 2


def test_a_class_that_shares_the_best_score_is_not_right_in_the_confusions_either():
    scores, labels = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]), np.array([0, 1, 0])
    assert confusion_counts(scores, labels).toarray().tolist() == [[1, 1], [1, 0]]
    assert top_k_accuracy(scores, labels, k=1) == pytest.approx(1 / 3)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_of_labels_that_share_the_best_score_all_have_to_be_in_the_video(order):
    scores = np.array([[0.5, 0.5, 0.1]] * 3 + [[0.1, 0.7, 0.1]])[:, order]
    present = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0]], dtype=bool)[:, order]
    assert best_label_is_present(scores, present).tolist() == [1, 0, 0, 1]


def test_labels_out_of_range_are_refused(scores):
    with pytest.raises(ValueError, match=r"0\.\.6 or be -100"):
        top_k_accuracy(scores, np.full(200, 7), k=1)


def test_class_accuracies_and_confusions_fit_each_other(scores, labels):
    confusion = confusion_counts(scores, labels).toarray()
    assert confusion.sum() == 200
    expected = np.diag(confusion) / confusion.sum(axis=1)
    assert np.allclose(class_accuracies(scores, labels), expected)
    assert accuracies(scores, labels)["mean_class_accuracy"] == pytest.approx(expected.mean())


def test_a_class_without_clips_has_no_accuracy_and_does_not_enter_the_mean():
    scores, labels = np.eye(3)[[0, 1]], np.array([0, 1])
    assert np.isnan(class_accuracies(scores, labels)[2])
    assert accuracies(scores, labels)["mean_class_accuracy"] == 1.0


def test_views_are_averaged_after_the_softmax():
    logits = np.array([[[0.0, 10.0], [3.0, 0.0], [3.0, 0.0]]])
    by_hand = np.mean(
        [[np.exp(a) / (np.exp(a) + np.exp(b)), np.exp(b) / (np.exp(a) + np.exp(b))] for a, b in logits[0]], 0
    )
    assert np.allclose(average_views(logits)[0], by_hand)
    assert average_views(logits)[0].argmax() == 0, "the mean of the logits would say 1"
    assert np.allclose(average_views(logits + 1e4), average_views(logits)), "large logits do not overflow"


def test_views_are_averaged_some_clips_at_a_time_with_the_same_result(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(2, 50, 3, 7)).astype(np.float32)
    at_once = average_views(logits)
    monkeypatch.setattr(metrics, "_SCORES_AT_ONCE", 100)
    assert np.array_equal(average_views(logits), at_once)
    assert np.array_equal(average_views(logits[1, 7]), at_once[1, 7])
    assert average_views(logits[0, :0]).shape == (0, 7)


def test_harmonic_mean():
    assert harmonic_mean(77.8, 64.3) == pytest.approx(70.4, abs=0.05)
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert np.isnan(harmonic_mean(50.0, float("nan")))


def test_mean_and_std_over_splits_divide_by_the_count():
    assert mean_and_std([1.0, 3.0]) == {"mean": 2.0, "std": 1.0}
    with pytest.raises(ValueError, match="at least one"):
        mean_and_std([])


def test_the_trainer_gets_the_same_numbers_in_percent(scores, labels):
    prediction = EvalPrediction(predictions=(scores, None), label_ids=labels)
    shares = accuracies(scores, labels)
    expected = {name: 100 * shares[name] for name in ("top1", "top5")}
    assert compute_metrics(prediction) == expected
    # Without `eval_do_concat_batches`, the last batch is smaller.
    batches = EvalPrediction(predictions=[scores[:150], scores[150:]], label_ids=[labels[:150], labels[150:]])
    assert compute_metrics(batches) == expected


def test_the_evaluate_modules_take_batches_and_agree(scores, labels, tmp_path):
    accuracy = ActionAccuracy(cache_dir=str(tmp_path))
    results = accuracy.compute(predictions=scores, references=labels, per_class=True)
    expected = accuracies(scores, labels)
    assert {key: results[key] for key in expected} == expected
    assert results["confusion_matrix"] == confusion_counts(scores, labels).toarray().tolist()
    accuracy.add_batch(predictions=scores[:100], references=labels[:100])
    accuracy.add_batch(predictions=scores[100:], references=labels[100:])
    assert accuracy.compute()["top1"] == expected["top1"]

    base_to_novel = BaseToNovel(cache_dir=str(tmp_path)).compute(base=[76.0, 78.0], novel=[60.0, 64.0])
    assert base_to_novel["harmonic_mean"] == harmonic_mean(77.0, 62.0)
    assert base_to_novel["base_std"] == 1.0
    assert MeanAndStd(cache_dir=str(tmp_path)).compute(values=[74.0, 75.0]) == {"mean": 74.5, "std": 0.5}


def test_every_metric_has_a_number_of_scores_that_are_perfect_or_none(labels):
    perfect = np.eye(7)[labels]
    assert {METRICS[name].shown(value) for name, value in accuracies(perfect, labels).items()} == {100.0}
    # The best five of seven, however the rest is ranked: equal scores are ranked against the clip.
    assert accuracies(np.zeros_like(perfect), labels)["top1"] == 0.0
    assert METRICS["top1"].shown(float("nan")) is None


def test_a_new_metric_is_shown_where_its_entry_says(monkeypatch, hmdb51_data, tmp_path):
    def count(scores, labels):
        return float(len(labels))

    clips = Metric(count, "clips that were scored", unit="clips", shown_in=("training", "report", "card"))
    hidden = Metric(count, "only in the report", unit="clips", shown_in=("report",))
    monkeypatch.setitem(METRICS, "clips", clips)
    monkeypatch.setitem(METRICS, "hidden", hidden)
    labels = np.array([0, 1, 0, 1])
    module = ActionAccuracy(cache_dir=str(tmp_path))
    assert module.compute(predictions=np.eye(2)[labels], references=labels)["clips"] == 4

    trainer = tiny_trainer(tmp_path / "run", eval_dataset=Arrays(6))
    evaluated = trainer.evaluate()
    assert evaluated["eval_clips"] == 6
    assert "eval_hidden" not in evaluated
    assert {"eval_top1", "eval_top5"} <= evaluated.keys()

    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    protocol = load_protocol("base_to_novel_hmdb51", ["num_views=1", "frame_stride=2"])
    report = evaluate_protocol(
        protocol, models=model, processor=tiny_processor(), data=hmdb51_data, output_dir=tmp_path / "result"
    )
    part = report["results"]["this checkpoint"]["parts"][0]["base"]
    assert (part["clips"], part["hidden"]) == (6.0, 6.0)
    own = {"fingerprints": {model_fingerprint(model)}, "architecture": architecture_of(model)}
    measured = read_measured_results(tmp_path / "result", **own)
    shown = {result.metric: result for result in measured if result.part == "base"}
    assert set(shown) == {"top1", "top5", "clips"}
    assert shown["clips"].metric_title == "clips that were scored"


def test_the_document_has_the_table_of_the_code():
    predictions = {
        "one_label": "clips with one label",
        "labels": "clips with several labels, or none",
        "answers": "answers about clips with several labels",
        "segments": "segments found in long videos",
    }
    assert predictions.keys() == set(get_args(Needs))
    rows = [
        [
            metric.title,
            predictions[metric.needs],
            *(yes_or_no(place in metric.shown_in) for place in ("training", "card")),
        ]
        for metric in METRICS.values()
    ]
    table = markdown_table(["number", "of", "in the Trainer's evaluations", "on model cards"], rows)
    assert "\n".join(table) in DOCUMENT.read_text()


def test_accuracies_take_a_fraction_of_the_memory_of_the_scores():
    """An evaluation while training holds the scores of all videos already."""
    scores, labels = np.zeros((200, 20_000), np.float32), np.zeros(200, int)
    tracemalloc.start()
    try:
        assert compute_metrics(EvalPrediction(predictions=scores, label_ids=labels))["top1"] == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * scores.nbytes
