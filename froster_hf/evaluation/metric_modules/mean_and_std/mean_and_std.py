"""Mean and standard deviation over splits, as a local `evaluate` module."""

import datasets
import evaluate

from froster_hf.evaluation import metrics

_DESCRIPTION = "Mean and population standard deviation of a number over splits or samples."

_INPUTS = """
Args:
    values: one a split.
Examples:
    >>> evaluate.load(metric_path("mean_and_std")).compute(values=[74.0, 75.0])
    {'mean': 74.5, 'std': 0.5}
"""


class MeanAndStd(evaluate.Metric):
    """See the module."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"values": datasets.Value("float64")}),
        )

    def _compute(self, values):
        return metrics.mean_and_std(values)
