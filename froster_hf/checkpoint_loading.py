"""The pipeline of a checkpoint that somebody else made: by installed code only, with a reason where it fails."""

import os
import pickle
import re
from collections.abc import Iterator
from typing import Any

from .adapters import check_adapter_loaded, read_adapter
from .printing import one_line, printable

QUANTIZERS = ("bitsandbytes", "torchao")
"""Methods of quantization whose code in transformers fetches nothing: it calls the installed library of that name."""


def load_installed(checkpoint: str | os.PathLike[str], *, device: str | None, dtype: str) -> Any:
    """The zero-shot pipeline of a FROSTER or plain CLIP checkpoint, or of a PEFT adapter and the checkpoint it names.

    No code that the checkpoint's files bring or name is run, and nobody is asked whether it may.

    Args:
        checkpoint: a folder, or a name on the Hub.
        device: such as `cpu` or `cuda:0`; by default the first accelerator.
        dtype: of the weights; `auto` is the checkpoint's.

    Raises:
        Exception: of any kind that transformers raises; `loading_reason` says it in one line.
    """
    from transformers import pipeline

    adapter = read_adapter(checkpoint)
    refuse_foreign_parts(checkpoint if adapter is None else adapter["base_model_name_or_path"])
    task: Any = "zero-shot-video-classification"
    classify = pipeline(
        task,
        model=os.fspath(checkpoint),
        device=device,
        dtype=dtype,
        # Given explicitly: transformers would otherwise ask on standard input.
        trust_remote_code=False,
        # Given, if only as the default: a file could name a repository of kernels, whose machine code would run.
        model_kwargs={"attn_implementation": None, "experts_implementation": None},
    )
    if adapter is not None:
        check_adapter_loaded(classify.model, checkpoint)
    return classify


def refuse_foreign_parts(checkpoint: str | os.PathLike[str]) -> None:
    """Raise where transformers would load more for a checkpoint than its weights into an installed class.

    The configuration of a PEFT adapter names another model to load.
    Most methods of quantization fetch their kernels, machine code, from the Hub.

    Args:
        checkpoint: a folder, or a name on the Hub.

    Raises:
        ValueError: the checkpoint has the configuration of an adapter, or names another quantizer than `QUANTIZERS`.
        OSError: there is no such checkpoint.
    """
    from transformers import PreTrainedConfig
    from transformers.utils import find_adapter_config_file

    name = os.fspath(checkpoint)
    if find_adapter_config_file(name) is not None:
        raise ValueError(
            f"{printable(name)} has an adapter_config.json, which names another model. A model is needed here: merge "
            "the adapter into its model where it was trained, and save that."
        )
    config, _ = PreTrainedConfig.get_config_dict(name)
    for method in _quantizers_of(config):
        if method not in QUANTIZERS:
            raise ValueError(
                f"{printable(name)} is quantized by {printable(repr(method), limit=100)}, which may run code from the "
                f"Hub; {' and '.join(QUANTIZERS)} run installed code only. Get the checkpoint without quantization, "
                "or, if you trust its kernels, load it with `from_pretrained` yourself."
            )


def _quantizers_of(config: Any) -> Iterator[Any]:
    """The methods of quantization that a configuration names, of the model and of its towers."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            stated = value.get("quantization_config")
            if stated is not None:
                yield stated.get("quant_method") if isinstance(stated, dict) else stated
            pending += value.values()


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
