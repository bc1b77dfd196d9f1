"""Fine-tuning with a frozen teacher: arguments, objectives, distillation, the Trainer."""

from .arguments import FrosterTrainingArguments
from .interpolation import interpolate
from .prompts import LabelPrompts, PromptSampler
from .teacher import FrozenTeacher
from .trainer import FrosterTrainer
from .weight_averaging import WeightAveraging

__all__ = [
    "FrosterTrainer",
    "FrosterTrainingArguments",
    "FrozenTeacher",
    "LabelPrompts",
    "PromptSampler",
    "WeightAveraging",
    "interpolate",
]
