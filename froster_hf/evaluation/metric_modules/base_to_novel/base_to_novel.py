"""Base accuracy, novel accuracy and their harmonic mean, as a local `evaluate` module."""

import datasets
import evaluate

from froster_hf.evaluation import metrics

_DESCRIPTION = """\
The base-to-novel protocol's three numbers from the accuracies of one or more few-shot samples: the means over the
samples, and the harmonic mean of the two means.
"""

_INPUTS = """
Args:
    base: accuracy on the base classes, one a sample.
    novel: accuracy on the novel classes, one a sample.
Examples:
    >>> evaluate.load(metric_path("base_to_novel")).compute(base=[77.8], novel=[64.3])["harmonic_mean"]
    70.40...
"""


class BaseToNovel(evaluate.Metric):
    """See the module."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"base": datasets.Value("float64"), "novel": datasets.Value("float64")}),
        )

    def _compute(self, base, novel):
        base_stats, novel_stats = metrics.mean_and_std(base), metrics.mean_and_std(novel)
        return {
            "base": base_stats["mean"],
            "novel": novel_stats["mean"],
            "harmonic_mean": metrics.harmonic_mean(base_stats["mean"], novel_stats["mean"]),
            "base_std": base_stats["std"],
            "novel_std": novel_stats["std"],
        }
