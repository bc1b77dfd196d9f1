"""Options that several verbs share: which model, which labels, which prompts."""

import argparse
import atexit
import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..printing import printable
from ..processing.label_files import read_label_file, split_labels

DEFAULT_MODEL = "visual-ai/froster-b16"


def add_model_arguments(parser: argparse.ArgumentParser, *, default: str | None = DEFAULT_MODEL) -> None:
    """`--model`, `--device`, `--dtype`; the verb has to find a model itself where the default is `None`."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=default,
        help=f"a FROSTER or CLIP checkpoint: a folder or a name on the Hub (default: {default or 'see above'})",
    )
    group.add_argument("--device", help="such as cpu, cuda:0 or mps (default: the first accelerator, else the CPU)")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16", "float64"),
        default="auto",
        help="of the weights (default: the checkpoint's)",
    )


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """`--labels`, `--labels-file`, prompts, and what "none of these" means."""
    group = parser.add_argument_group("labels")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--labels", metavar="A,B,C", help="actions to choose from; quote one that holds a comma")
    source.add_argument(
        "--labels-file",
        metavar="FILE",
        help="one label per line, after a tab its description if you like; JSON: a list, {label: description} or "
        "{index: label}; or CSV with the columns id,name",
    )
    prompts = group.add_mutually_exclusive_group()
    prompts.add_argument(
        "--templates",
        choices=("froster", "actionclip", "single", "none"),
        help="a named set of prompts (default: the checkpoint's)",
    )
    prompts.add_argument("--template", metavar="TEXT", help="one prompt with {} for the label")
    group.add_argument(
        "--background", metavar="A,B,C", help='things that are no answer; what they win is "none of these"'
    )
    group.add_argument("--threshold", type=float, help="least score of an answer, from 0 to 1")


def add_video_arguments(parser: argparse.ArgumentParser, *, streams: bool = False) -> None:
    """`--num-frames`, `--allow-urls`, and `--backend`, of which a verb that streams has no choice."""
    group = parser.add_argument_group("video")
    group.add_argument("--num-frames", type=int, help="frames a window (default: the checkpoint's)")
    if streams:
        parser.set_defaults(backend=None)
    else:
        group.add_argument(
            "--backend", choices=("auto", "pyav", "decord", "torchcodec"), help="what decodes (default: auto)"
        )
    group.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="width times height of the largest frame that is read (default: 9437184, which is 4096 x 2304)",
    )
    group.add_argument(
        "--allow-urls",
        choices=("none", "https", "http"),
        default="none",
        help="fetch videos from the network (default: %(default)s)",
    )


def label_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the pipeline is called with, of the options of `add_label_arguments`.

    Raises:
        ValueError: a file of labels that holds none, or cannot be understood.
        OSError: a file that cannot be read.
    """
    options = {
        "candidate_labels": read_labels(arguments),
        "templates": arguments.templates,
        "hypothesis_template": arguments.template,
        "background_labels": split_labels(arguments.background) if arguments.background else None,
        "threshold": arguments.threshold,
        "num_frames": arguments.num_frames,
    }
    return {name: value for name, value in options.items() if value is not None}


def read_labels(arguments: argparse.Namespace) -> list[str] | dict[str, str | None] | None:
    """The labels of `--labels` or `--labels-file`; `None` where neither is given.

    What a file was read as is said on standard error, since a wrong reading would show in nothing but the scores.
    """
    if arguments.labels is not None:
        return split_labels(arguments.labels)
    if arguments.labels_file is None:
        return None
    labels = read_label_file(arguments.labels_file)
    name = printable(arguments.labels_file)
    print(f"froster: {name}: {len(labels.names)} labels ({labels.form})", file=sys.stderr)
    return labels.labels


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


@without_garbage_collection()
def load_pipeline(arguments: argparse.Namespace) -> Any:
    """The zero-shot pipeline of the options of `add_model_arguments` and `add_video_arguments`.

    Raises:
        ValueError: there is no such device or checkpoint, or the checkpoint is of another kind.
    """
    if arguments.device is not None:
        _check_device(arguments.device)
    from transformers import pipeline
    from transformers.utils import logging

    import froster_hf  # noqa: F401

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    task: Any = "zero-shot-video-classification"
    try:
        classify: Any = pipeline(task, model=arguments.model, device=arguments.device, dtype=arguments.dtype)
    except OSError as error:
        raise ValueError(
            f"The model {arguments.model!r} cannot be loaded: it is no folder on this disk, and the Hub did not give "
            f"it. Name another one with --model. ({error})"
            if not Path(arguments.model).exists()
            else f"The model in {arguments.model} cannot be loaded: {error}"
        ) from error
    finally:
        logging.enable_progress_bar()
    video_processor = classify.processor.video_processor
    video_processor.allow_urls = arguments.allow_urls
    if arguments.backend is not None:
        video_processor.video_backend = arguments.backend
    if arguments.max_pixels is not None:
        video_processor.video_limits = {"max_pixels": arguments.max_pixels}
    return classify


def _check_device(name: str) -> None:
    import torch

    try:
        # Computed with, since a name may be known while its hardware is missing, or holds no values.
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--device {name}: {reason}. Give cpu, cuda, cuda:0, mps or the like.") from error
