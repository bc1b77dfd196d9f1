"""Protocols, metrics, reports and explanations; the model is always an argument."""

from .evaluating import FrozenModel, evaluate_protocol
from .explaining import Explanation, attention_rollout, explain_video, gradient_map
from .label_similarity import mean_best_cosine, similarity_table, write_similarity_report
from .leak_check import find_leaks, warn_of_leaks
from .metrics import (
    METRICS,
    ActionAccuracy,
    BaseToNovel,
    MeanAndStd,
    Metric,
    MultiLabelPrecision,
    TemporalDetection,
    compute_metrics,
)
from .own_list import evaluate_videos
from .predicting import PredictionMismatchError, predict
from .protocols import DetectionProtocol, EvaluationData, EvaluationProtocol, load_protocol
from .report import published_results
from .template_choice import choose_templates
from .temporal_detection import evaluate_detection

__all__ = [
    "METRICS",
    "ActionAccuracy",
    "BaseToNovel",
    "DetectionProtocol",
    "EvaluationData",
    "EvaluationProtocol",
    "Explanation",
    "FrozenModel",
    "MeanAndStd",
    "Metric",
    "MultiLabelPrecision",
    "PredictionMismatchError",
    "TemporalDetection",
    "attention_rollout",
    "choose_templates",
    "compute_metrics",
    "evaluate_detection",
    "evaluate_protocol",
    "evaluate_videos",
    "explain_video",
    "find_leaks",
    "gradient_map",
    "load_protocol",
    "mean_best_cosine",
    "predict",
    "published_results",
    "similarity_table",
    "warn_of_leaks",
    "write_similarity_report",
]
