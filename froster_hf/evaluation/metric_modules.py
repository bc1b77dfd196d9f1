"""The metrics as modules of the `evaluate` library; the Trainer and `froster evaluate` compute with them.

```python
>>> from froster_hf.evaluation import ActionAccuracy
>>> ActionAccuracy().compute(predictions=[[0.9, 0.1], [0.8, 0.2]], references=[0, 1])["top1"]  # doctest: +SKIP
0.5
```

They can be fed batch by batch (`add_batch`), combined (`evaluate.combine`), and given to an `evaluate.evaluator`.
"""

import tempfile
from typing import Any

import datasets
import evaluate
import numpy as np

from .metrics import METRICS, class_accuracies, confusion_matrix, harmonic_mean, mean_and_std


class ActionAccuracy(evaluate.Metric):
    """Every metric of `METRICS`, from scores and labels.

    `compute(predictions=..., references=..., per_class=False)`: scores (n, K), logits or probabilities averaged over
    views; class indices (n,), -100 for a clip that could not be decoded, which counts as wrong. `per_class` adds
    `class_accuracies` (K) and `confusion_matrix` (K, K; row = true class).
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info_of(
            self,
            {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")},
        )

    def _compute(self, predictions: Any, references: Any, per_class: bool = False) -> dict[str, Any]:
        scores, labels = np.asarray(predictions), np.asarray(references)
        results: dict[str, Any] = {name: metric.function(scores, labels) for name, metric in METRICS.items()}
        if per_class:
            results["class_accuracies"] = class_accuracies(scores, labels).tolist()
            results["confusion_matrix"] = confusion_matrix(scores, labels).tolist()
        return results


class BaseToNovel(evaluate.Metric):
    """The base-to-novel protocol's numbers from accuracies on base and novel classes, one of each per few-shot sample.

    `compute(base=[...], novel=[...])`: `base` and `novel`, the means over the samples; `harmonic_mean` of the two
    means; `base_std` and `novel_std`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info_of(self, {"base": datasets.Value("float64"), "novel": datasets.Value("float64")})

    def _compute(self, base: Any, novel: Any) -> dict[str, float]:
        base_stats, novel_stats = mean_and_std(base), mean_and_std(novel)
        return {
            "base": base_stats["mean"],
            "novel": novel_stats["mean"],
            "harmonic_mean": harmonic_mean(base_stats["mean"], novel_stats["mean"]),
            "base_std": base_stats["std"],
            "novel_std": novel_stats["std"],
        }


class MeanAndStd(evaluate.Metric):
    """Mean and population standard deviation of a number over splits or samples: `compute(values=[...])`."""

    def _info(self) -> evaluate.MetricInfo:
        return _info_of(self, {"values": datasets.Value("float64")})

    def _compute(self, values: Any) -> dict[str, float]:
        return mean_and_std(values)


def _info_of(module: evaluate.Metric, features: dict[str, Any]) -> evaluate.MetricInfo:
    text = type(module).__doc__ or ""
    return evaluate.MetricInfo(
        description=text, citation="", inputs_description=text, features=datasets.Features(features)
    )


def compute(module: type[evaluate.Metric], **inputs: Any) -> dict[str, Any]:
    """What a module makes of inputs that are in memory as a whole.

    Without the module's store of batches, whose files a user's cache may not take, and which is fifty times as slow as
    the metrics are.
    """
    with tempfile.TemporaryDirectory() as folder:
        return module(keep_in_memory=True, cache_dir=folder)._compute(**inputs)


def accuracies(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every metric of `METRICS` of scores (n, K) and labels (n,)."""
    return compute(ActionAccuracy, predictions=scores, references=labels)


def compute_metrics(prediction: Any) -> dict[str, float]:
    """`accuracies` for transformers' Trainer: `Trainer(compute_metrics=compute_metrics)`.

    Args:
        prediction: `EvalPrediction`; its predictions are logits (n, K), or a tuple that begins with them.
    """
    logits = prediction.predictions
    return accuracies(logits[0] if isinstance(logits, tuple) else logits, prediction.label_ids)
