# /// script
# requires-python = ">=3.10"
# dependencies = ["froster-hf"]
# ///
"""Train 16 shots of the frequent half of the classes, and test both halves, beside the published numbers.

    uv run examples/reproduce/base_to_novel.py hmdb51
    hf jobs uv run --flavor a10g-large examples/reproduce/base_to_novel.py ucf101 --set training.num_train_epochs=6

The data set is fetched from a public copy on the Hub, which other people made; the official lists, where the copy has
none, are given with `--lists`. The output folder gets the training's checkpoints, the mean of the weights, and the
table (`evaluation/result.md`). Run again after a kill, it goes on.
"""

import argparse
from pathlib import Path

from froster_hf.checkpoint_loading import load_installed
from froster_hf.data import DATASETS, fetch_hub_copy
from froster_hf.evaluation import evaluate_protocol, load_protocol
from froster_hf.evaluation.report import markdown_report
from froster_hf.training.checkpointing import AVERAGE_NAME, MODEL_NAME, parts_of_run
from froster_hf.training.recipe_run import train_recipe
from froster_hf.training.recipes import load_recipe

NAMES = ("ucf101", "hmdb51")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=NAMES)
    parser.add_argument("--output", help="default: reproduced/base_to_novel_DATASET")
    parser.add_argument("--copy", metavar="REPOSITORY", help="of the data set, another than the catalogue's")
    parser.add_argument("--lists", metavar="FOLDER", help="the official lists")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the recipe")
    parser.add_argument("--protocol", nargs="*", default=[], metavar="FIELD=VALUE", help="such as num_views=1")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=0)
    options = parser.parse_args(arguments)

    name = options.dataset
    output = Path(options.output or f"reproduced/base_to_novel_{name}")
    copy = options.copy or DATASETS[name].hub_copies[0]
    files = fetch_hub_copy(name, output / "data", repo_id=copy, annotations=options.lists)
    data = {"root": str(files.root), "annotations": str(files.annotations)}

    run = output / "run"
    if not (run / MODEL_NAME).exists():
        fields = [f"data.{field}={path}" for field, path in data.items()]
        recipe = load_recipe(f"froster_base_to_novel_{name}", [*fields, f"output_dir={run}", *options.set])
        train_recipe(recipe, resume=bool(parts_of_run(run)))

    # The published numbers are those of the mean of the weights.
    trained = run / (AVERAGE_NAME if (run / AVERAGE_NAME).exists() else MODEL_NAME)
    classify = load_installed(trained, device="cpu", dtype="float32")
    report = evaluate_protocol(
        load_protocol(f"base_to_novel_{name}", options.protocol),
        models=classify.model,
        processor=classify.processor,
        data=data,
        output_dir=output / "evaluation",
        method="this run",
        batch_size=options.batch_size,
        num_workers=options.num_workers,
    )
    print(markdown_report(report))


if __name__ == "__main__":
    main()
