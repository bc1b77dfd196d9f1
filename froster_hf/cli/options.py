"""Options that several verbs share: which model, which labels, which prompts."""

import argparse
import difflib
import os
import sys
from pathlib import Path
from typing import Any

from ..checkpoint_loading import DEFAULT_MODEL
from ..printing import did_you_mean, printable
from ..processing.label_files import read_label_file, split_labels
from ..processing.prompts_froster import TEMPLATE_SETS, TEXT_POOLINGS, LabelList
from ..settings import describe_shipped, list_named
from ..video.backends import backend_choices
from ..video.files import find_alike


def add_model_arguments(parser: argparse.ArgumentParser, *, default: str | None = DEFAULT_MODEL) -> None:
    """`--model`, `--device`, `--dtype`; the verb has to find a model itself where the default is `None`."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=default,
        help="a FROSTER, CLIP, SigLIP or MetaCLIP 2 checkpoint: a folder, a name on the Hub, or small, the "
        f"one that ships with the package (default: {f'{default}, not published yet' if default else 'see above'})",
    )
    group.add_argument("--device", help="such as cpu, cuda:0 or mps (default: the first accelerator, else the CPU)")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16", "float64"),
        default="auto",
        help="type of the weights (default: the checkpoint's)",
    )


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """`--labels`, `--labels-file`, prompts, and what "none of these" means."""
    group = parser.add_argument_group("labels")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--labels", metavar="A,B,C", help="actions to choose from; quote one that holds a comma")
    source.add_argument(
        "--labels-file",
        metavar="FILE",
        help="one label per line, after a tab its description if you like; JSON: a list, {label: description}, "
        "{label: [description, ...]} or {index: label}; or CSV with the columns id,name",
    )
    prompts = group.add_mutually_exclusive_group()
    prompts.add_argument(
        "--templates",
        choices=tuple(TEMPLATE_SETS),
        help="a named set of prompts (default: the checkpoint's)",
    )
    prompts.add_argument("--template", metavar="TEXT", help="one prompt with {} for the label")
    add_text_pooling(group)
    group.add_argument(
        "--background",
        metavar="A,B,C",
        help='things that are not an answer, what they win is "none of these"; or a file of them (default for one '
        "label, and with --multi-label: the checkpoint's)",
    )
    group.add_argument(
        "--multi-label",
        action="store_true",
        help="score each label for itself against the background: several may occur together",
    )
    group.add_argument("--threshold", type=float, help="least score of an answer, from 0 to 1")


def add_text_pooling(parser: Any) -> None:
    """`--text-pooling`, for labels with several sentences."""
    parser.add_argument(
        "--text-pooling",
        choices=tuple(TEXT_POOLINGS),
        help="how several descriptions of a label are combined: the mean of their embeddings, or the highest of their "
        "scores (default: the checkpoint's, mean)",
    )


def add_video_arguments(parser: argparse.ArgumentParser, *, streams: bool = False) -> None:
    """`--num-frames`, `--allow-urls`, and `--backend`, of which a verb that streams has no choice."""
    group = parser.add_argument_group("video")
    group.add_argument("--num-frames", type=int, help="frames per window (default: the checkpoint's)")
    if streams:
        parser.set_defaults(backend=None)
    else:
        group.add_argument("--backend", choices=backend_choices(), help="what decodes (default: auto)")
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


def add_overwrite_argument(group: Any, what: str) -> None:
    """`--overwrite`, of every verb that writes results: without it, those that are there stay (`refuse_results`)."""
    group.add_argument("--overwrite", action="store_true", help=f"replace {what}; without it, what is there stays")


def set_video_defaults(parser: argparse.ArgumentParser) -> None:
    """What `load_model` asks of a verb without these options: the usual decoder and limits, no addresses."""
    parser.set_defaults(backend=None, max_pixels=None, allow_urls="none")


def label_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the pipeline is called with, of the options of `add_label_arguments`.

    Raises:
        ValueError: a file of labels that holds none, or cannot be understood.
        OSError: a file that cannot be read.
    """
    options = {
        "candidate_labels": given_labels(arguments),
        "templates": arguments.templates,
        "hypothesis_template": arguments.template,
        "text_pooling": arguments.text_pooling,
        "background_labels": given_background(arguments),
        "multi_label": arguments.multi_label or None,
        "threshold": arguments.threshold,
        "num_frames": arguments.num_frames,
    }
    return {name: value for name, value in options.items() if value is not None}


def given_background(arguments: argparse.Namespace) -> LabelList | list[str] | None:
    """The labels of `--background`: those listed, or those of a file of this name."""
    if not arguments.background:
        return None
    if Path(arguments.background).is_file():
        return read_label_file(arguments.background)
    return split_labels(arguments.background)


def print_comparison(classify: Any, options: dict[str, Any]) -> None:
    """Say on standard error what labels are compared with, where it is not just each other.

    Raises:
        ValueError: labels or options are wrong.
    """
    from ..pipeline.pipeline_froster import SCORING_OPTIONS

    description = classify.scoring(**{name: options[name] for name in SCORING_OPTIONS if name in options}).description
    if description is not None:
        print(f"froster: {printable(description)}", file=sys.stderr)


def given_labels(arguments: argparse.Namespace) -> LabelList | list[str] | None:
    """The labels of `--labels` or `--labels-file`; `None` where neither is given.

    What a file was read as is said on standard error, since a wrong reading would show in nothing but the scores.
    """
    if arguments.labels is not None:
        return split_labels(arguments.labels)
    if arguments.labels_file is None:
        return None
    try:
        labels = read_label_file(arguments.labels_file)
    except FileNotFoundError as error:
        raise ValueError(f"--labels-file {printable(arguments.labels_file)}: there is no such file") from error
    name = printable(arguments.labels_file)
    print(f"froster: {name}: {len(labels.names)} labels ({labels.form})", file=sys.stderr)
    return labels


def print_shipped(kind: str) -> None:
    """Names of the settings files of a kind that ship, each with what it is about."""
    shipped = describe_shipped(kind)
    width = max(map(len, shipped)) + 2
    for name, about in shipped.items():
        print(f"{name:<{width}}{about}")


def names_videos(what: str, *, kind: str, verb: str) -> bool:
    """Whether an argument names own videos, a folder or a list, and not a settings file of a kind.

    A shipped name comes first; a folder of that name is given with a slash (`./name`).

    Raises:
        ValueError: it is none of the three; with what may be meant.
    """
    shipped = list_named(kind)
    if what in shipped or what.lower().endswith((".yaml", ".yml")):
        return False
    # Unlike `Path.exists`, false for names that are too long for the file system.
    if os.path.exists(what):
        return True
    if Path(what).suffix or "/" in what:
        missing = f"{printable(what)} is not there"
    else:
        missing = f"There is no {kind} {printable(repr(what))}, and no folder or list of this name"
    meant = [*difflib.get_close_matches(what, shipped, n=2), *find_alike(what)]
    raise ValueError(
        f"{missing}. {did_you_mean(meant)}Give a folder with one folder per class, a list of videos and labels, or a "
        f"name of `froster {verb} --list`."
    )
