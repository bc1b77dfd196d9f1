"""What a protocol tests: one table, and its parts."""

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from .parts import Part


@dataclass(frozen=True)
class EvaluationPlan:
    """A protocol with its data read.

    Args:
        table: every clip that some part tests, with every label that some part has.
        parts: `base` and `novel`, or `full` (not for K-600 and moving shapes) and `split i`.
        count_differences: by part, what differs from the published counts.
        notes: what else a reader of the numbers must know.
    """

    table: Dataset
    parts: dict[str, Part]
    count_differences: dict[str, Any]
    notes: list[str] = field(default_factory=list)
