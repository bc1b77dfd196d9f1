"""The pipeline of a checkpoint that somebody else made: by installed code only, with a reason where it fails."""

import os
import pickle
import re
from typing import Any

from .printing import one_line, printable


def load_installed(checkpoint: str | os.PathLike[str], *, device: str | None, dtype: str) -> Any:
    """The zero-shot pipeline of a FROSTER or plain CLIP checkpoint.

    No code that the checkpoint's files bring or name is run, and nobody is asked whether it may.

    Args:
        checkpoint: a folder, or a name on the Hub.
        device: such as `cpu` or `cuda:0`; by default the first accelerator.
        dtype: of the weights; `auto` is the checkpoint's.

    Raises:
        Exception: of any kind that transformers raises; `loading_reason` says it in one line.
    """
    from transformers import pipeline

    refuse_adapter(checkpoint)
    task: Any = "zero-shot-video-classification"
    return pipeline(
        task,
        model=os.fspath(checkpoint),
        device=device,
        dtype=dtype,
        # Given explicitly: transformers would otherwise ask on standard input.
        trust_remote_code=False,
        # Given, if only as the default: a file could name a repository of kernels, whose machine code would run.
        model_kwargs={"attn_implementation": None, "experts_implementation": None},
    )


def refuse_adapter(checkpoint: str | os.PathLike[str]) -> None:
    """Raise where transformers would load an adapter of PEFT.

    Its configuration names the model to load, on any disk or the Hub, and modules that PEFT imports.

    Args:
        checkpoint: a folder, or a name on the Hub.

    Raises:
        ValueError: the checkpoint has the configuration of an adapter.
    """
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(os.fspath(checkpoint)) is not None:
        raise ValueError(
            f"{printable(os.fspath(checkpoint))} has an adapter_config.json, which names another model and modules to "
            "import. Merge the adapter into its model where it was trained, and save that."
        )


def loading_reason(error: Exception) -> str:
    """What is wrong with a checkpoint, in one line, without the advice to trust it."""
    # Where no class could load the weights, transformers hands on the tracebacks as text; the last error counts.
    message = re.split(r"^\w[\w.]*(?:Error|Exception): ", str(error), flags=re.MULTILINE)[-1]
    if isinstance(error, pickle.UnpicklingError):
        return (
            "a file of weights is a pickle that holds more than tensors, and is refused. Get the checkpoint in the "
            "safetensors format."
        )
    if "trust_remote_code" in message:
        return "it asks to run code of its own, which is never done. Use a checkpoint of an installed model class."
    if isinstance(error, RecursionError):
        return "one of its JSON files is nested too deeply."
    if isinstance(error, ValueError | OSError | ImportError) and message:
        return one_line(message)
    return one_line(f"it is damaged, or not a FROSTER or CLIP checkpoint ({type(error).__name__}: {message})")
