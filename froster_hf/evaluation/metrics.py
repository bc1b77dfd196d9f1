"""The numbers of action recognition, as pure functions on NumPy arrays.

`METRICS` is the one list of what is measured of predictions; the Trainer, `froster evaluate` and the model cards show
it. Letters: n clips, V views, K classes, I thresholds of IoU. Accuracies are shares in [0, 1], shown in percent.

A label of -100 marks a clip that could not be decoded: it counts as wrong and belongs to no class.

At the end they are modules of the `evaluate` library, with which the Trainer and `froster evaluate` compute:

```python
>>> from froster_hf.evaluation import ActionAccuracy
>>> ActionAccuracy().compute(predictions=[[0.9, 0.1], [0.8, 0.2]], references=[0, 1])["top1"]  # doctest: +SKIP
0.5
```

They can be fed batch by batch (`add_batch`), combined (`evaluate.combine`), and given to an `evaluate.evaluator`.
"""

import functools
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import evaluate
import numpy as np

from ..data.segment_lists import AnnotatedSegment
from .segments import (
    DetectedSegment,
    FoundSegments,
    class_average_precisions,
    match_segments,
    mean_class_average_precision,
)

_SCORES_AT_ONCE = 2**20


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def average_views(view_logits: np.ndarray) -> np.ndarray:
    """Scores of clips from logits of their views: softmax of each view, then the mean.

    Args:
        view_logits: (n, V, K).

    Returns:
        (n, K) probabilities.
    """
    logits = np.asarray(view_logits)
    scores = np.empty((*logits.shape[:-2], logits.shape[-1]))
    # Some clips at a time: in double precision, the views take several times their memory.
    num_clips = math.prod(logits.shape[:-2])
    flat = logits.reshape(num_clips, *logits.shape[-2:])
    flat_scores = scores.reshape(num_clips, logits.shape[-1])
    step = max(_SCORES_AT_ONCE // max(math.prod(flat.shape[1:]), 1), 1)
    for start in range(0, len(flat), step):
        flat_scores[start : start + step] = softmax(flat[start : start + step]).mean(axis=-2)
    return scores


def true_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes score above each clip's own, (n,); K where the clip has no label or a score is not finite.

    Equal scores are ranked against the clip, so that a model that says the same of every class is right about nothing.

    Raises:
        ValueError: shapes that do not fit, or a label outside 0..K-1 other than -100.
    """
    # Compared as they are: in double precision, all scores would be there once more, and twice as large.
    scores, labels = np.asarray(scores), np.asarray(labels)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"Expected scores (n, K) and labels (n,), got {scores.shape} and {labels.shape}.")
    num_classes = scores.shape[1]
    labeled = labels != -100
    if not np.isin(labels[labeled], np.arange(num_classes)).all():
        raise ValueError(f"Labels must lie in 0..{num_classes - 1} or be -100, got {np.unique(labels)}.")
    valid = labeled & np.isfinite(scores).all(axis=1)
    own = scores[np.arange(len(labels)), np.where(valid, labels, 0)]
    ranks = (scores >= own[:, None]).sum(axis=1) - 1
    return np.where(valid, ranks, num_classes)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, *, k: int) -> float:
    """Share of the clips whose class is among the k best of (n, K) scores; NaN without clips."""
    ranks = true_ranks(scores, labels)
    return float((ranks < min(k, scores.shape[1])).mean()) if len(ranks) else float("nan")


def class_accuracies(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Top-1 accuracy of each class, (K,); NaN for a class without clips."""
    labels = np.asarray(labels)
    correct = true_ranks(scores, labels) == 0
    known = labels >= 0
    totals = np.bincount(labels[known], minlength=scores.shape[1])
    hits = np.bincount(labels[known], weights=correct[known], minlength=scores.shape[1])
    return np.divide(hits, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def confusion_counts(scores: np.ndarray, labels: np.ndarray) -> Any:
    """How often which class was taken for which: scipy's sparse array (K, K), row = true class, column = predicted.

    Clips without label or finite scores are left out. A class that only shares the best score is not predicted, as
    top-1 counts it. Sparse, since thousands of labels make a million cells for each, and each clip fills one.
    """
    from scipy.sparse import coo_array  # few calls need it

    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    num_classes = scores.shape[1]
    ranks, counted = true_ranks(scores, labels), np.flatnonzero((labels >= 0) & np.isfinite(scores).all(axis=1))
    true = labels[counted]
    predicted = true.copy()
    for place in np.flatnonzero(ranks[counted]):
        rivals = scores[counted[place]].copy()
        rivals[true[place]] = -np.inf
        predicted[place] = rivals.argmax()
    ones = np.ones(len(true), dtype=np.int64)
    counts = coo_array((ones, (true, predicted)), shape=(num_classes, num_classes))
    counts.sum_duplicates()
    return counts


def harmonic_mean(base: float, novel: float) -> float:
    """HM = 2bn / (b + n) of base and novel accuracy; 0 when either is 0, NaN when either is not known."""
    return 0.0 if base + novel == 0 else 2 * base * novel / (base + novel)


def mean_and_std(values: Sequence[float]) -> dict[str, float]:
    """Mean and population standard deviation (divided by the count) over samples or splits.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("The mean of no values was asked for; give at least one.")
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def mean_of_known(values: np.ndarray) -> float:
    """The mean of the values that are numbers; NaN without any."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def average_precisions(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Average precision of each label over the videos, (K,): mean of the precisions at the ranks of its videos.

    Videos of equal score are one rank, so that the order of a list does not matter. NaN for a label in no video.

    Args:
        scores: (n, K); a video with scores that are not finite ranks last.
        present: (n, K), true where the label is in the video.

    Raises:
        ValueError: shapes that differ.
    """
    scores, present = np.asarray(scores, dtype=np.float64), np.asarray(present, dtype=bool)
    if scores.shape != present.shape or scores.ndim != 2:
        raise ValueError(f"Expected scores and labels of one shape (n, K), got {scores.shape} and {present.shape}.")
    scores = np.where(np.isfinite(scores).all(axis=1, keepdims=True), scores, -np.inf)
    found = np.full(scores.shape[1], np.nan)
    for label in range(scores.shape[1]):
        if not present[:, label].any():
            continue
        order = np.argsort(-scores[:, label], kind="stable")
        hits = np.cumsum(present[order, label])
        # The last video of each run of equal scores.
        ranked = scores[order, label]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        gains = np.diff(hits[ends], prepend=0)
        found[label] = (gains * hits[ends] / (ends + 1)).sum() / hits[-1]
    return found


def best_label_is_present(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Whether the label with the best score is in the video, (n,): 1 or 0, NaN for a video without labels.

    Of several with the best score all have to be, so that the order of a list does not matter.

    Args:
        scores: (n, K); where they are not finite, as for a video that could not be decoded, the answer is wrong.
        present: (n, K), true where the label is in the video.
    """
    decoded = np.isfinite(scores).all(axis=1)
    known = np.where(decoded[:, None], scores, 0)
    is_best = known == known.max(axis=1, keepdims=True)
    right = (decoded & (present | ~is_best).all(axis=1)).astype(np.float64)
    return np.where(present.any(axis=1), right, np.nan)


def best_label_accuracy(scores: np.ndarray, present: np.ndarray) -> float:
    """The mean of `best_label_is_present` over the videos with labels; NaN without any."""
    return mean_of_known(best_label_is_present(scores, present))


def f1_score(answered: np.ndarray, present: np.ndarray) -> float:
    """F1 of all answers together (micro average): (n, K) bool each; 0 where nothing is answered or there."""
    hits = int((answered & present).sum())
    total = int(answered.sum()) + int(present.sum())
    return 2 * hits / total if total else 0.0


# With five, one model right on all and the other on none is not unlikely enough to be told from chance: a fair coin
# falls on one side five times in a row in one of sixteen tries, and 95 % asks for one in twenty.
FEWEST_COMPARED = 6


def paired_intervals(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals for accuracies over the same videos, and for their differences from the first.

    Wilson's interval for an accuracy; for a difference that of Bonett and Price (Journal of Educational and Behavioral
    Statistics, 2012), of the videos on which two models disagree: what makes a video hard for both does not widen it.
    Neither shrinks to a point where few videos are all right, or two models agree on all of them, as resampling does.

    Args:
        right: (M, n), whether each model is right for each video; 0 or 1.

    Returns:
        (M, 2) and (M, 2): low and high ends; the first row of the differences is zero. NaN where nothing can be said:
        without videos, and of differences with fewer than `FEWEST_COMPARED`.
    """
    from scipy.stats import binomtest, norm  # waits a second; few calls need it

    right = np.asarray(right, dtype=bool)
    num_models, num_videos = right.shape
    if num_videos == 0:
        return np.full((num_models, 2), np.nan), np.full((num_models, 2), np.nan)
    own = [tuple(binomtest(int(row.sum()), num_videos).proportion_ci(0.95, method="wilson")) for row in right]
    differences = np.zeros((num_models, 2))
    if num_videos < FEWEST_COMPARED:
        differences[1:] = np.nan
        return np.array(own), differences
    for model in range(1, num_models):
        # One video more in each direction of disagreement.
        gained = (int((right[model] & ~right[0]).sum()) + 1) / (num_videos + 2)
        lost = (int((right[0] & ~right[model]).sum()) + 1) / (num_videos + 2)
        center = gained - lost
        half = norm.ppf(0.975) * math.sqrt((gained + lost - center**2) / (num_videos + 2))
        differences[model] = max(center - half, -1.0), min(center + half, 1.0)
    return np.array(own), differences


Needs = Literal["one_label", "labels", "answers", "segments"]
Place = Literal["training", "report", "card"]


@dataclass(frozen=True)
class Metric:
    """A number that is measured of predictions.

    Args:
        function: takes what the metric needs, and gives a share or number; of segments, one per threshold (I,); with
            `by_class`, one per class (K,), NaN where it is not known.
        title: in words.
        heading: stands in the head of a table; by default the title.
        needs: what `function` takes. `one_label`: scores (n, K) and the label of each clip (n,). `labels`: scores
            (n, K) and which of several labels or none each clip has (n, K). `answers`: which labels each clip is said
            to have (n, K), and which it has. `segments`: the matches of each class (`match_segments`).
        unit: `%` for a share that is shown in percent, else what stands behind the number.
        shown_in: `training` (the Trainer's evaluations), `report` (`froster evaluate`), `card` (model cards, which
            take it from the report).
        card_type: its type in the metadata of a model card.
        by_class: name of the numbers of the classes, of which the metric is the mean.
    """

    function: Callable[..., Any]
    title: str
    heading: str = ""
    needs: Needs = "one_label"
    unit: str = "%"
    shown_in: Collection[Place] = ("training", "report", "card")
    card_type: str = "accuracy"
    by_class: str = ""

    def __post_init__(self) -> None:
        if not self.heading:
            object.__setattr__(self, "heading", self.title)

    def shown(self, value: float, *, digits: int | None = None) -> float | None:
        """The value in its unit; None for a value that is not known.

        Args:
            value: as `function` gives it.
            digits: decimals that it is rounded to.
        """
        if math.isnan(value):
            return None
        value = 100 * float(value) if self.unit == "%" else float(value)
        return value if digits is None else round(value, digits)


METRICS: dict[str, Metric] = {
    "top1": Metric(functools.partial(top_k_accuracy, k=1), "top-1 accuracy", "top-1"),
    "top5": Metric(functools.partial(top_k_accuracy, k=5), "top-5 accuracy", "top-5"),
    "mean_class_accuracy": Metric(
        class_accuracies,
        "mean accuracy over classes",
        "mean over classes",
        shown_in=["report"],
        by_class="class_accuracies",
    ),
    "mean_average_precision": Metric(
        average_precisions,
        "mean average precision over labels",
        "mAP",
        needs="labels",
        shown_in=["report"],
        by_class="average_precisions",
    ),
    "best_label_is_there": Metric(
        best_label_accuracy,
        "share of the videos with labels whose best label is one of them",
        "best label is in the video",
        needs="labels",
        shown_in=["report"],
    ),
    "f1_at_threshold": Metric(
        f1_score,
        "F1 of all answers at the calibrated threshold",
        "F1 at the calibrated threshold",
        needs="answers",
        shown_in=["report"],
    ),
    "map": Metric(
        mean_class_average_precision,
        "mean average precision",
        "mAP",
        needs="segments",
        shown_in=["report", "card"],
        card_type="mean_average_precision",
    ),
}


def metrics_of(needs: Needs, *, shown_in: Place | None = None) -> dict[str, Metric]:
    """The metrics that need this, by default wherever they are shown."""
    return {
        name: metric
        for name, metric in METRICS.items()
        if metric.needs == needs and (shown_in is None or shown_in in metric.shown_in)
    }


def measure(needs: Needs, *inputs: Any, per_class: bool = False) -> dict[str, Any]:
    """Every metric of `METRICS` that needs these inputs, by name; `per_class` adds the numbers of the classes."""
    results = {}
    for name, metric in metrics_of(needs).items():
        value = metric.function(*inputs)
        results[name] = mean_of_known(value) if metric.by_class else value
        if metric.by_class and per_class:
            results[metric.by_class] = value.tolist()
    return results


def measure_segments(
    found: Iterable[DetectedSegment] | FoundSegments,
    true: Sequence[AnnotatedSegment],
    *,
    iou_thresholds: Sequence[float],
) -> dict[str, Any]:
    """What `TemporalDetection` gives, of found and true segments; see `match_segments`."""
    matches = match_segments(found, true, iou_thresholds=iou_thresholds)
    unknown = dict.fromkeys(metrics_of("segments"), np.full(len(iou_thresholds), np.nan))
    measured = measure("segments", matches) if matches else unknown
    results: dict[str, Any] = {name: values.tolist() for name, values in measured.items()}
    results |= {f"average_{name}": float(values.mean()) for name, values in measured.items()}
    precisions = {label: values.tolist() for label, values in class_average_precisions(matches).items()}
    return {**results, "average_precisions": precisions}


class ActionAccuracy(evaluate.Metric):
    """Every metric of `METRICS` for clips with one label.

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
        results = measure("one_label", scores, labels, per_class=per_class)
        if per_class:
            results["confusion_matrix"] = confusion_counts(scores, labels).toarray().tolist()
        return results


class MultiLabelPrecision(evaluate.Metric):
    """Every metric of `METRICS` for clips that may show several actions, or none.

    `compute(predictions=..., references=...)`: scores (n, K), and for each video the indices of its labels. Gives
    `mean_average_precision` over the labels that are in some video, `best_label_is_there`, and `average_precisions`
    (K,).
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info_of(
            self,
            {
                "predictions": datasets.Sequence(datasets.Value("float64")),
                "references": datasets.Sequence(datasets.Value("int64")),
            },
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        scores = np.asarray(predictions)
        present = np.zeros(scores.shape, dtype=bool)
        for row, labels in enumerate(references):
            if not all(0 <= label < scores.shape[1] for label in labels):
                raise ValueError(
                    f"The references of video {row}, counted from 0, are {labels!r:.100}; they must be indices from 0 "
                    f"to {scores.shape[1] - 1}, and none for a video without labels."
                )
            present[row, list(labels)] = True
        return measure("labels", scores, present, per_class=True)


class TemporalDetection(evaluate.Metric):
    """Every metric of `METRICS` for found segments, at each threshold of overlap and on average.

    `compute(predictions=..., references=..., iou_thresholds=[0.3, 0.4, 0.5, 0.6, 0.7])`: for each video a list of
    segments, `{"label", "start_seconds", "end_seconds"}`, with a `score` in the predictions. Gives `map`, one number
    per threshold, `average_map`, and `average_precisions` by class.
    """

    def _info(self) -> evaluate.MetricInfo:
        segment = {
            "label": datasets.Value("string"),
            "start_seconds": datasets.Value("float64"),
            "end_seconds": datasets.Value("float64"),
        }
        scored = datasets.List({**segment, "score": datasets.Value("float64")})
        return _info_of(self, {"predictions": scored, "references": datasets.List(segment)})

    def _compute(
        self, predictions: Any, references: Any, iou_thresholds: Sequence[float] = (0.3, 0.4, 0.5, 0.6, 0.7)
    ) -> dict[str, Any]:
        found = [DetectedSegment(str(video), **row) for video, rows in enumerate(predictions) for row in rows]
        true = [AnnotatedSegment(str(video), **row) for video, rows in enumerate(references) for row in rows]
        return measure_segments(found, true, iou_thresholds=iou_thresholds)


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
    """Compute a module's numbers from inputs that are in memory as a whole.

    Without the module's store of batches, whose files a user's cache may not take, and which is fifty times as slow as
    the metrics are.
    """
    with tempfile.TemporaryDirectory() as folder:
        return module(keep_in_memory=True, cache_dir=folder)._compute(**inputs)


def accuracies(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every metric of `METRICS` for clips with one label, from scores (n, K) and labels (n,)."""
    return compute(ActionAccuracy, predictions=scores, references=labels)


def compute_metrics(prediction: Any) -> dict[str, float]:
    """The metrics that training shows (top-1 and top-5 accuracy in percent), as `froster evaluate` counts: videos that
    could not be decoded (label -100) and scores that are not finite or equal for several labels are wrong.

    What [`FrosterTrainer`] computes; for transformers' own, `Trainer(compute_metrics=compute_metrics)`.

    Args:
        prediction: `EvalPrediction`; its predictions are logits (n, K), or a tuple that begins with them; or lists
            of those of each batch (`eval_do_concat_batches=False`).
    """
    batches, labels = (
        part if isinstance(part, list) else [part] for part in (prediction.predictions, prediction.label_ids)
    )
    parts = [batch[0] if isinstance(batch, tuple) else batch for batch in batches]
    logits = parts[0] if len(parts) == 1 else np.concatenate(parts)
    found = accuracies(logits, np.concatenate(labels))
    shown = {name: metric.shown(found[name]) for name, metric in metrics_of("one_label", shown_in="training").items()}
    return {name: value for name, value in shown.items() if value is not None}
