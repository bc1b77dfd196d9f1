"""Fine-tuning with a frozen teacher: arguments, losses, the Trainer."""

from .arguments import FrosterTrainingArguments
from .prompt_sampling import LabelPrompts, PromptSampler
from .teacher import FrozenTeacher
from .trainer import FrosterTrainer

__all__ = [
    "FrosterTrainer",
    "FrosterTrainingArguments",
    "FrozenTeacher",
    "LabelPrompts",
    "PromptSampler",
]
