"""Train by a recipe: a shipped one by name, or a YAML file of your own.

examples:
  froster train --list
  froster train froster_k400 --show
  froster train froster_base_to_novel_ucf101 data.root=UCF-101 data.annotations=ucfTrainTestlist
  froster train small_clip
  froster train froster_k400 data.root=videos data.annotations=train.csv training.per_device_train_batch_size=4
  torchrun --nproc_per_node 2 -m froster_hf train my_recipe.yaml --resume

Any field of a recipe can be given as field=value, with dots into sections; an unknown field is an error. Where the
output folder holds a run, --resume goes on with it and --overwrite begins again.
"""

import argparse
import contextlib
import dataclasses
import logging
import pkgutil
from collections.abc import Iterator

from ...settings import check_named
from ..options import print_shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster train`."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a shipped recipe or a .yaml file")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="such as training.learning_rate=1e-5")
    parser.add_argument("--output-dir", metavar="FOLDER", help="where the run is written (default: runs/RECIPE)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the newest sound checkpoint")
    again.add_argument("--overwrite", action="store_true", help="delete the run that is in the output folder")
    parser.add_argument("--list", action="store_true", help="list the shipped recipes")
    parser.add_argument("--show", action="store_true", help="print the recipe with all its fields, and stop")


def run(arguments: argparse.Namespace) -> int:
    """List, show, or train."""
    if arguments.list:
        print_shipped("recipe")
        return 0
    if arguments.recipe is None:
        raise ValueError("Which recipe? Give a name of `froster train --list` or a .yaml file.")
    check_named(arguments.recipe, arguments.overrides, kind="recipe")

    import yaml

    from ...training.recipes import RECIPE_KINDS, load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.output_dir is not None:
        recipe = dataclasses.replace(recipe, output_dir=arguments.output_dir)
    if arguments.show:
        print(yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True), end="")
        return 0

    train = pkgutil.resolve_name(RECIPE_KINDS[recipe.kind].train)
    with _messages_of_the_training():
        trainer = train(recipe, resume=arguments.resume, overwrite=arguments.overwrite)
    if trainer.is_world_process_zero():
        print(f"{trainer.args.output_dir}/model")
    return 0


@contextlib.contextmanager
def _messages_of_the_training() -> Iterator[None]:
    """Show what the training says of itself, such as the classes that it trains on and their counts."""
    logger, handler = logging.getLogger("froster_hf.training"), logging.StreamHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
