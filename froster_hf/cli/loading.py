"""Loading a checkpoint for a verb: quietly, by installed code only, with one line for whatever is wrong with it."""

import argparse
import atexit
import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any

from ..checkpoint_loading import load_pipeline
from ..printing import printable, without_progress_bars, without_warnings
from ..video.stores import is_address, named_folder

# What libraries reserve and do not take: pyarrow a gigabyte, torch half of one.
RESERVED_BYTES = 2 << 30


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For imports and loading: torch and transformers are a million objects that stay until the end of the process.

    Looking for garbage among them again and again, while they come and ever after, takes two seconds of a short run.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # Extension modules count at the end what they have left behind.
        atexit.register(gc.unfreeze)
        gc.enable()


def load_model(arguments: argparse.Namespace) -> Any:
    """The zero-shot pipeline of the options of `add_model_arguments` and `add_video_arguments`.

    Raises:
        ValueError: there is no such device or checkpoint, or the checkpoint is of another kind.
    """
    classify = load_checkpoint(arguments.model, device=arguments.device, dtype=arguments.dtype)
    video_processor = classify.processor.video_processor
    # What the user names may be opened wherever it is.
    given = getattr(arguments, "videos", None) or [getattr(arguments, "video", None) or ""]
    video_processor.allow_urls = [arguments.allow_urls, *(named_folder(text) for text in given if is_address(text))]
    if arguments.backend is not None:
        video_processor.video_backend = arguments.backend
    if arguments.max_pixels is not None:
        video_processor.video_limits = {**(video_processor.video_limits or {}), "max_pixels": arguments.max_pixels}
    return classify


def keep_to_free_memory() -> None:
    """From here on, make what a verb takes beyond the memory that is left an error of it; the system would end it.

    Only on Linux and without an accelerator, whose libraries reserve more than a machine has.
    """
    import torch

    from ..conversion.pickle_worker import limit_memory
    from ..machine_memory import free_bytes

    if not torch.accelerator.is_available() and (free := free_bytes()) < float("inf"):
        limit_memory(int(free) + RESERVED_BYTES)


def index_model(index: Any) -> str:
    """The checkpoint of an index, which its author chose; said before anything is read or fetched under this name.

    Raises:
        ValueError: the index does not name any.
    """
    from ..integrations.search import model_of

    name = model_of(index)
    print(f"froster: the model of the index is {printable(name)}", file=sys.stderr)
    return name


@without_garbage_collection()
def load_checkpoint(name: str, *, device: str | None = None, dtype: str = "auto") -> Any:
    """The zero-shot pipeline of a FROSTER or plain CLIP checkpoint.

    Code that lies in a checkpoint is never run, whatever its files ask for, and nobody is asked whether it may.

    Args:
        name: a folder, a name on the Hub, or `small`, the shipped checkpoint.
        device: such as `cpu` or `cuda:0`; by default the first accelerator.
        dtype: type of the weights; `auto` is the checkpoint's.

    Raises:
        ValueError: there is no such device or checkpoint, the checkpoint is damaged or of another kind, or the device
            has no room for it.
    """
    import froster_hf  # noqa: F401

    with without_warnings(), without_progress_bars():
        classify = load_pipeline(name, device=device, dtype=dtype)
    if classify.stored_dtype != classify.model.dtype:
        half = str(classify.stored_dtype).removeprefix("torch.")
        print(f"froster: computing in float32, since this processor has no arithmetic in {half}", file=sys.stderr)
    keep_to_free_memory()
    return classify


def end_process_group() -> None:
    """End the processes' work together, where `torchrun` began it.

    At the end of a verb, since the group's threads may else end a process that is done with an abort; not after an
    error, when others may still wait for this one.
    """
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
