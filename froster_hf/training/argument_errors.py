"""Optimizer and schedule as a training's arguments describe them; values that describe none are named.

transformers hands the values on as they are, so that a misspelled or foreign one ends in Python's own words, with the
name of a function, and some only at a late step.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from ..printing import one_line, printable


@contextmanager
def naming_arguments(
    values: Mapping[str, Any],
    *,
    # Not errors of the machine.
    errors: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
) -> Iterator[None]:
    """Make whatever the values of arguments let their readers raise one line that names them.

    Args:
        values: by name; those that are `None` are left out.
        errors: kinds that are theirs.
    """
    try:
        yield
    except errors as error:
        given = {name: value for name, value in values.items() if value is not None}
        told = " and ".join(
            f"`{name}`, {printable(repr(getattr(value, 'value', value)), limit=200)}" for name, value in given.items()
        )
        reason = one_line(str(error), limit=500)
        if not isinstance(error, ValueError):
            reason = f"{type(error).__name__}: {reason}"
        raise ValueError(f"Nothing can be trained with {told or 'these arguments'}: {reason}") from error


def check_rates(scheduler: Any, args: TrainingArguments, *, num_steps: int) -> None:
    """Refuse a schedule whose rates are not numbers from 0 on.

    A value may be of use in the warm-up, and of none at the last step.

    Raises:
        ValueError: names the step, and what its rate would be.
    """
    if not isinstance(scheduler, LambdaLR):
        return
    warmed = args.get_warmup_steps(num_steps)
    for step in sorted({0, warmed - 1, warmed, (warmed + num_steps) // 2, num_steps - 1, num_steps}):
        for factor in scheduler.lr_lambdas if step >= 0 else ():
            rate = factor(step)
            if not (isinstance(rate, int | float) and math.isfinite(rate) and rate >= 0):
                raise ValueError(f"at step {step}, the learning rate would be {rate!r} times `learning_rate`")
