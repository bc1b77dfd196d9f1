"""Open-vocabulary action recognition with CLIP towers that know time (FROSTER, ICLR 2024).

Importing this package registers its classes with transformers' Auto classes and `pipeline`, and imports nothing heavy:
public names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .registration import register

__version__ = "0.2.0.dev0"

_PUBLIC_NAMES = {
    "DecodingUnavailableError": "video.decoding",
    "FrosterConfig": "modeling.configuration_froster",
    "FrosterForVideoClassification": "modeling.modeling_froster",
    "FrosterModel": "modeling.modeling_froster",
    "FrosterProcessor": "processing.processing_froster",
    "FrosterTrainer": "training.trainer",
    "FrosterTrainingArguments": "training.arguments",
    "FrosterVideoProcessor": "processing.video_processing_froster",
    "VideoDecodeError": "video.decoding",
    "ZeroShotVideoClassificationPipeline": "pipeline.pipeline_froster",
    "index_videos": "integrations.search",
    "load_pipeline": "checkpoint_loading",
    "predict_videos": "pipeline.many_videos",
    "search_videos": "integrations.search",
}

__all__ = [
    "DecodingUnavailableError",
    "FrosterConfig",
    "FrosterForVideoClassification",
    "FrosterModel",
    "FrosterProcessor",
    "FrosterTrainer",
    "FrosterTrainingArguments",
    "FrosterVideoProcessor",
    "VideoDecodeError",
    "ZeroShotVideoClassificationPipeline",
    "index_videos",
    "load_pipeline",
    "predict_videos",
    "search_videos",
]

if TYPE_CHECKING:
    from .checkpoint_loading import load_pipeline
    from .integrations.search import index_videos, search_videos
    from .modeling.configuration_froster import FrosterConfig
    from .modeling.modeling_froster import FrosterForVideoClassification, FrosterModel
    from .pipeline.many_videos import predict_videos
    from .pipeline.pipeline_froster import ZeroShotVideoClassificationPipeline
    from .processing.processing_froster import FrosterProcessor
    from .processing.video_processing_froster import FrosterVideoProcessor
    from .training.arguments import FrosterTrainingArguments
    from .training.trainer import FrosterTrainer
    from .video.decoding import DecodingUnavailableError, VideoDecodeError


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__


register()
