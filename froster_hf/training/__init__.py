"""Fine-tuning with a frozen teacher: arguments, objectives, distillation, the Trainer."""

from .arguments import FrosterTrainingArguments
from .own_videos import TrainingPlan, plan_training, train_on_videos
from .prompts import LabelPrompts, PromptSampler
from .student import save_adapter
from .teacher import FrozenTeacher
from .trainer import FrosterTrainer
from .weights import WeightAveraging, average_models, interpolate

__all__ = [
    "FrosterTrainer",
    "FrosterTrainingArguments",
    "FrozenTeacher",
    "LabelPrompts",
    "PromptSampler",
    "TrainingPlan",
    "WeightAveraging",
    "average_models",
    "interpolate",
    "plan_training",
    "save_adapter",
    "train_on_videos",
]
