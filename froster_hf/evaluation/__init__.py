"""Protocols, metrics, reports and explanations; the model is always an argument."""

from .attention_maps import attention_rollout, gradient_map
from .evaluating import evaluate_protocol
from .explaining import Explanation, explain_video
from .label_similarity import mean_best_cosine, similarity_table, write_similarity_report
from .leak_check import find_leaks, warn_of_leaks
from .metric_modules import ActionAccuracy, BaseToNovel, MeanAndStd, compute_metrics
from .metrics import METRICS, Metric
from .predicting import predict
from .predictions import PredictionMismatchError
from .protocols import EvaluationData, EvaluationProtocol, list_protocols, load_protocol
from .report import published_results

__all__ = [
    "METRICS",
    "ActionAccuracy",
    "BaseToNovel",
    "EvaluationData",
    "EvaluationProtocol",
    "Explanation",
    "MeanAndStd",
    "Metric",
    "PredictionMismatchError",
    "attention_rollout",
    "compute_metrics",
    "evaluate_protocol",
    "explain_video",
    "find_leaks",
    "gradient_map",
    "list_protocols",
    "load_protocol",
    "mean_best_cosine",
    "predict",
    "published_results",
    "similarity_table",
    "warn_of_leaks",
    "write_similarity_report",
]
