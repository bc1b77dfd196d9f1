"""Annotation readers, splits, clips for training and evaluation."""

from ..processing.text_files import AnnotationError
from .catalogue import DATASETS, count_differences, published_counts, read_videos
from .class_folders import read_video_folder
from .clips import EpochSampler, EvaluationClips, TrainingClips, collate_clips
from .decode_failures import DecodeFailure, DecodeFailureLog, TooManyDecodeFailures, read_decode_failures
from .hub_copies import fetch_hub_copy
from .label_splits import base_and_novel_labels, keep_labels, sample_shots
from .official_lists import read_hmdb51, read_kinetics, read_something_something, read_ucf101
from .readers import as_video_table, read_labels
from .safe_paths import UnsafePathError
from .video_lists import read_video_list
from .video_table import describe_table

__all__ = [
    "DATASETS",
    "AnnotationError",
    "DecodeFailure",
    "DecodeFailureLog",
    "EpochSampler",
    "EvaluationClips",
    "TooManyDecodeFailures",
    "TrainingClips",
    "UnsafePathError",
    "as_video_table",
    "base_and_novel_labels",
    "collate_clips",
    "count_differences",
    "describe_table",
    "fetch_hub_copy",
    "keep_labels",
    "published_counts",
    "read_decode_failures",
    "read_hmdb51",
    "read_kinetics",
    "read_labels",
    "read_something_something",
    "read_ucf101",
    "read_video_folder",
    "read_video_list",
    "read_videos",
    "sample_shots",
]
