"""Top-1, top-5 and per-class accuracy of clips, as a local `evaluate` module."""

import datasets
import evaluate
import numpy as np

from froster_hf.evaluation import metrics

_DESCRIPTION = """\
Accuracy of action recognition from scores: top-1, top-5, mean over classes, and on request per class with confusions.
A reference of -100 marks a clip that could not be decoded; it counts as wrong.
"""

_INPUTS = """
Args:
    predictions: scores (n, K): logits, or probabilities averaged over views.
    references: class indices (n,).
    per_class: also return `class_accuracies` (K) and `confusion_matrix` (K, K; row = true class).
Examples:
    >>> accuracy = evaluate.load(metric_path("action_accuracy"))
    >>> accuracy.compute(predictions=[[0.9, 0.1], [0.8, 0.2]], references=[0, 1])["top1"]
    0.5
"""


class ActionAccuracy(evaluate.Metric):
    """See the module."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, per_class: bool = False):
        scores, labels = np.asarray(predictions), np.asarray(references)
        results = metrics.summary(scores, labels)
        if per_class:
            results["class_accuracies"] = metrics.class_accuracies(scores, labels).tolist()
            results["confusion_matrix"] = metrics.confusion_matrix(scores, labels).tolist()
        return results
