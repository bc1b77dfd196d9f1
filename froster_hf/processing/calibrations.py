"""A calibration holds for the weights that it was fitted to: those that are made of them go without."""

from collections.abc import MutableMapping
from typing import Any

from ..printing import get_logger

logger = get_logger(__name__)


def forget_calibration(options: MutableMapping[str, Any], *, of: str) -> None:
    """Take the calibration out of a processor's options, and say so.

    Args:
        options: `vars` of a processor, or what its file holds.
        of: the weights that the processor is for from now on, in words.
    """
    if options.get("calibration") is not None:
        options["calibration"] = None
        logger.warning(
            "The calibration of the checkpoint does not hold for %s and is left out; fit it again with `froster "
            "evaluate --calibrate`.",
            of,
        )
