# /// script
# requires-python = ">=3.10"
# dependencies = ["froster-hf"]
# ///
"""Measure a checkpoint on UCF-101 and HMDB-51, neither of which it was trained on, beside the published numbers.

    uv run examples/reproduce/cross_dataset.py visual-ai/froster-b16
    uv run examples/reproduce/cross_dataset.py openai/clip-vit-base-patch16 --datasets hmdb51
    uv run examples/reproduce/cross_dataset.py froster.pth --processor-from openai/clip-vit-base-patch16
    hf jobs uv run --flavor l4x1 examples/reproduce/cross_dataset.py visual-ai/froster-b16 --push-to you/froster-b16

The data sets are fetched from public copies on the Hub, which other people made; the official lists, where a copy has
none, are given with `--ucf101-lists` and `--hmdb51-lists`. The output folder gets a table per data set (`result.md`),
and the checkpoint with a model card and `.eval_results` of what was measured. Run again after a kill, it goes on.
"""

import argparse
from pathlib import Path
from typing import Any

from froster_hf.checkpoint_loading import load_installed
from froster_hf.conversion import convert_checkpoint
from froster_hf.data import DATASETS, fetch_hub_copy
from froster_hf.evaluation import evaluate_protocol, load_protocol
from froster_hf.evaluation.report import markdown_report
from froster_hf.hub import CardFacts, export_checkpoint, push_folder

NAMES = ("ucf101", "hmdb51")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a name on the Hub, a folder, or a file of the original code")
    parser.add_argument("--processor-from", help="for an original file: the CLIP whose tokenizer and pixels it has")
    parser.add_argument("--datasets", nargs="+", choices=NAMES, default=NAMES, help="default: both")
    parser.add_argument("--output", default="reproduced", help="default: %(default)s")
    parser.add_argument("--push-to", metavar="USER/NAME", help="upload the checkpoint with its card")
    parser.add_argument("--protocol", nargs="*", default=[], metavar="FIELD=VALUE", help="such as num_views=1")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--precision", default="float32")
    for name in NAMES:
        parser.add_argument(f"--{name}-copy", metavar="REPOSITORY", help=f"default: {DATASETS[name].hub_copies[0]}")
        parser.add_argument(f"--{name}-lists", metavar="FOLDER", help="the official lists")
    options = parser.parse_args(arguments)

    output = Path(options.output)
    checkpoint = options.checkpoint
    if Path(checkpoint).is_file():
        converted = output / "converted"
        if not converted.exists():
            print(convert_checkpoint(checkpoint, converted, processor_from=options.processor_from))
        checkpoint = str(converted)
    classify = load_installed(checkpoint, device="cpu", dtype="float32")  # accelerate moves it to where it computes

    text = label_text(classify.processor)
    results, benchmarks = [], {}
    for name in options.datasets:
        copy = getattr(options, f"{name}_copy") or DATASETS[name].hub_copies[0]
        files = fetch_hub_copy(
            name, output / "data" / name, repo_id=copy, annotations=getattr(options, f"{name}_lists")
        )
        report = evaluate_protocol(
            load_protocol(f"cross_dataset_{name}", options.protocol),
            models=classify.model,
            processor=classify.processor,
            data={"root": str(files.root), "annotations": str(files.annotations)},
            output_dir=output / name,
            method=options.checkpoint,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            precision=options.precision,
        )
        print(markdown_report(report), text, "", sep="\n")
        results.append(output / name / "result.json")
        benchmarks[f"{name}/full/top1"] = {"dataset_id": copy, "task_id": "cross_dataset"}

    name = Path(options.checkpoint).stem
    card = CardFacts(name, datasets=tuple(options.datasets), benchmarks=benchmarks, evaluation_note=text)
    exported = output / "checkpoint"
    if not exported.exists():
        print(export_checkpoint(checkpoint, exported, facts=card, results=results))
    if options.push_to:
        print(push_folder(exported, options.push_to).commit_url)


def label_text(processor: Any) -> str:
    """How the labels were written, without which no two numbers can be compared."""
    names = "the data set's names" + (" with descriptions" if processor.label_descriptions else "")
    templates = processor.prompt_templates
    return f"Our labels: {names}, in {len(templates)} prompts each, the first of them `{templates[0]}`."


if __name__ == "__main__":
    main()
