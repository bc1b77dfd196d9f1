"""Train on a folder of your own videos, or by a recipe.

examples:
  froster train my_videos --model openai/clip-vit-base-patch32          # a folder with one folder per class
  froster train my_videos training.num_train_epochs=5 --model small --eval other_videos
  froster train list.csv --root videos --model openai/clip-vit-base-patch32 --show
  froster train --list
  froster train froster_base_to_novel_ucf101 data.root=UCF-101 data.annotations=ucfTrainTestlist
  froster train small_clip
  torchrun --nproc_per_node 2 -m froster_hf train my_recipe.yaml --resume

On your own videos, the settings are chosen for the size of the data, and said with their reasons; a fifth of every
class is held out, and measured before and after. Any field of a recipe can be given as field=value with dots into
sections, right after WHAT; an unknown field is an error. Where the output folder holds a run, --resume goes on with it
and --overwrite begins again.
"""

import argparse
import contextlib
import dataclasses
import logging
import pkgutil
import shlex
import sys
from collections.abc import Iterator

from ...printing import PrintableFormatter, printable, without_progress_bars, without_warnings
from ...settings import check_named, yaml_text
from ..loading import end_process_group, keep_to_free_memory
from ..options import DEFAULT_MODEL, add_overwrite_argument, names_videos, print_shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster train`."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help="a folder of class folders, a list of videos and labels, or a recipe: a shipped name, or a .yaml file",
    )
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="such as training.learning_rate=1e-5")
    parser.add_argument("--output-dir", metavar="FOLDER", help="where the run is written (default: runs/WHAT)")
    own = parser.add_argument_group("own videos")
    own.add_argument(
        "--model",
        metavar="MODEL",
        help="a CLIP or FROSTER checkpoint to begin from: a folder, a name on the Hub, or small, the shipped one "
        f"(default: {DEFAULT_MODEL}, not published yet)",
    )
    own.add_argument("--eval", metavar="VIDEOS", help="measure on these (default: hold out a fifth of every class)")
    own.add_argument("--root", metavar="FOLDER", help="folder of a list's videos (default: the list's own folder)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the newest sound checkpoint")
    add_overwrite_argument(again, "the run in the output folder")
    parser.add_argument("--list", action="store_true", help="list the shipped recipes")
    parser.add_argument("--show", action="store_true", help="print the recipe with all its fields, and stop")


def run(arguments: argparse.Namespace) -> int:
    """List, show, or train."""
    if arguments.list:
        print_shipped("recipe")
        return 0
    if arguments.what is None:
        raise ValueError(
            "What is to be trained on? Give a folder with one folder per class, a list of videos and labels, or a "
            "name of `froster train --list`."
        )
    train = _train_own if names_videos(arguments.what, kind="recipe", verb="train") else _train_recipe
    code = train(arguments)
    end_process_group()
    return code


def _train_own(arguments: argparse.Namespace) -> int:
    from accelerate import PartialState

    from ...training.own_videos import plan_training, train_on_videos
    from ...training.recipes import as_file

    keep_to_free_memory()
    plan = plan_training(
        arguments.what,
        model=arguments.model or DEFAULT_MODEL,
        eval_videos=arguments.eval,
        root=arguments.root,
        output_dir=arguments.output_dir,
        overrides=arguments.overrides,
    )
    if arguments.show:
        print(yaml_text(as_file(plan.recipe)), end="")
        return 0
    is_main = PartialState().is_main_process
    if is_main:
        print(plan, flush=True)
    # What transformers says of every file that it loads and saves.
    with without_warnings(), contextlib.nullcontext() if sys.stderr.isatty() else without_progress_bars():
        result = train_on_videos(plan, resume=arguments.resume, overwrite=arguments.overwrite)
    if not is_main:
        return 0
    if result["trained"] is not None:
        print(
            f"\nHeld-out top-1: {result['trained']:.1f} % trained, {result['before']:.1f} % before "
            f"({result['difference']:+.1f}{_certainty(result['difference_interval'], result['num_held_out'])}"
            f"What went wrong, with pictures: {printable(result['evaluation'])}/index.html"
        )
    model = printable(result["model"])
    print(f"The model is in {model}. Next:\n  froster predict VIDEO --model {shlex.quote(model)}")
    return 0


def _certainty(interval: list[float] | None, num_videos: int) -> str:
    """What the held-out videos say of the difference; it ends the brackets that the difference stands in."""
    if interval is None:
        return f"; {num_videos} videos are too few to say whether it is chance).\n"
    low, high = interval
    doubt = f"Zero lies in it: these {num_videos} videos do not tell the two apart.\n" if low <= 0 <= high else ""
    return f"; 95 % interval {low:+.1f} to {high:+.1f}).\n{doubt}"


def _train_recipe(arguments: argparse.Namespace) -> int:
    if given := [name for name in ("model", "eval", "root") if getattr(arguments, name) is not None]:
        raise ValueError(f"--{given[0]}: only of own videos; a recipe has fields, such as model.checkpoint=FOLDER.")
    check_named(arguments.what, arguments.overrides, kind="recipe")

    from ...training.recipes import RECIPE_KINDS, as_file, load_recipe

    recipe = load_recipe(arguments.what, arguments.overrides)
    if arguments.output_dir is not None:
        recipe = dataclasses.replace(recipe, output_dir=arguments.output_dir)
    if arguments.show:
        print(yaml_text(as_file(recipe)), end="")
        return 0

    keep_to_free_memory()
    train = pkgutil.resolve_name(RECIPE_KINDS[recipe.kind].train)
    with _messages_of_the_training():
        trainer = train(recipe, resume=arguments.resume, overwrite=arguments.overwrite)
    if trainer.is_world_process_zero():
        print(f"{trainer.args.output_dir}/model")
    return 0


@contextlib.contextmanager
def _messages_of_the_training() -> Iterator[None]:
    """Show what the training says of itself, such as the classes that it trains on and their counts, and transformers
    of checkpoints, by the names in their files."""
    logger, handler = logging.getLogger("froster_hf.training"), logging.StreamHandler()
    before = logger.level
    formatters = {other: other.formatter for other in logging.getLogger("transformers").handlers}
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for each in (handler, *formatters):
        each.setFormatter(PrintableFormatter())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        for each, formatter in formatters.items():
            each.setFormatter(formatter)
