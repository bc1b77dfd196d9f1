"""Score videos by labels of your own.

examples:
  froster predict clip.mp4 --labels "chopping wood,juggling" --model openai/clip-vit-base-patch32
  froster predict videos/ --labels-file actions.txt --top-k 3 --json --model openai/clip-vit-base-patch32
  froster predict "holiday/**/*.mov" --labels surfing,sailing --background beach --model openai/clip-vit-base-patch32
  froster predict clip.mp4 --labels juggling --model openai/clip-vit-base-patch32  # one alone: is it in there?
  froster predict videos/ --labels-file actions.txt --multi-label --threshold 0.5 --model openai/clip-vit-base-patch32
  froster predict list.txt --labels-file actions.txt --resume a.jsonl --shard 3/8 --model openai/clip-vit-base-patch32
  froster predict demo_output/ --labels "a red star sliding left,a blue square spinning" --model small  # after a demo

A video that cannot be read is reported, and the others are still scored; the exit code is then 1. Where no label
reaches --threshold and there is no --background, the answer is "none of these" without a score (null in JSON).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ...printing import counted, json_text, one_line, printable
from ...whole_files import refuse_results
from ..loading import load_model
from ..options import (
    add_label_arguments,
    add_model_arguments,
    add_overwrite_argument,
    add_video_arguments,
    label_options,
    print_comparison,
)
from ..videos import find_videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster predict`."""
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="files, folders, patterns, folders of frames, lists of them (.txt, .csv or .jsonl), - for standard input",
    )
    parser.add_argument(
        "--top-k",
        type=int,
        help="answers per video (default: 5; with --multi-label and --threshold, all that reach it)",
    )
    parser.add_argument(
        "--json", action="store_true", help="a JSON object per line: video and answers, or video and error"
    )
    many = parser.add_argument_group("many videos")
    written = many.add_mutually_exclusive_group()
    written.add_argument(
        "--output", metavar="FILE", help="write .jsonl (a record per video, as it is there) or .csv (at the end)"
    )
    written.add_argument(
        "--resume", metavar="FILE", help="go on with this .jsonl file: videos that it has are not scored again"
    )
    add_overwrite_argument(many, "the answers in the --output file")
    many.add_argument("--shard", default="1/1", metavar="K/N", help="only the K-th of N parts of the videos")
    many.add_argument("--batch-size", type=int, default=1, help="videos computed together (default: %(default)s)")
    many.add_argument(
        "--num-workers", type=int, default=0, help="processes that read ahead (default: threads of this one)"
    )
    parser.add_argument(
        "--function", choices=("softmax", "sigmoid", "none"), help="from logits to scores (default: softmax)"
    )
    add_label_arguments(parser)
    add_video_arguments(parser)
    parser.add_argument("--num-views", type=int, help="windows per video, whose scores are averaged")
    parser.add_argument("--num-crops", type=int, help="crops per window; their scores are averaged, too")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score the videos one after the other; 1 if one of them could not be read."""
    # A label that reaches the threshold occurs, however many others do.
    all_that_occur = arguments.multi_label and arguments.threshold is not None
    top_k = 5 if arguments.top_k is None and not all_that_occur else arguments.top_k
    options = {
        **label_options(arguments),
        "top_k": top_k,
        "function_to_apply": arguments.function,
        "num_views": arguments.num_views,
        "num_crops": arguments.num_crops,
        "batch_size": arguments.batch_size,
        "num_workers": arguments.num_workers,
    }
    options = {name: value for name, value in options.items() if value is not None}
    shard = _read_shard(arguments.shard)
    if arguments.overwrite and arguments.output is None:
        raise ValueError("--overwrite replaces the answers of --output: give both, or --resume alone.")
    if arguments.output is not None:
        # Before the model is loaded.
        refuse_results(arguments.output, overwrite=arguments.overwrite, resumable=arguments.output.endswith(".jsonl"))
    videos = find_videos(arguments.videos)
    output = arguments.resume or arguments.output
    if output is not None:
        from ...pipeline.many_videos import check_format

        check_format(Path(output), resume=arguments.resume is not None)
    classify = load_model(arguments)

    from transformers.utils.logging import tqdm

    from ...pipeline.many_videos import predict_videos

    print_comparison(classify, options)
    records = predict_videos(
        classify,
        videos,
        output=output,
        resume=arguments.resume is not None,
        overwrite=arguments.overwrite,
        shard=shard,
        **options,
    )
    failures = count = 0
    part, parts = shard
    total = len(videos[part - 1 :: parts])
    progress = tqdm(total=total, unit="video", disable=True if total == 1 else None)
    for record in records:
        count += 1
        failures += "error" in record
        if output is None or "error" in record:
            progress.clear()
            report(record, as_json=arguments.json and output is None)
        progress.update()
    progress.close()
    if output is not None:
        before = f", beside {total - count} that were there" if arguments.resume and count < total else ""
        print(f"{printable(output)}: answers of {counted(count, 'video')}{before}")
    if failures and not arguments.json:
        print(f"froster: {failures} of {count} videos could not be read", file=sys.stderr)
    return 1 if failures else 0


def _read_shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise ValueError(f"--shard is {printable(text)!r}; give the part and how many there are, such as 3/8.")
    return int(part), int(parts)


def report(result: dict[str, Any], *, as_json: bool) -> None:
    """Print one video's answers, or why there are none."""
    if as_json:
        print(json_text(result, encoding=sys.stdout.encoding or "utf-8"), flush=True)
    elif "error" in result:
        print(f"froster: {one_line(result['error'])}", file=sys.stderr, flush=True)
    else:
        print(printable(result["video"]))
        labels = [printable(answer["label"]) for answer in result["answers"]]
        width = max(map(len, labels))
        for label, answer in zip(labels, result["answers"]):
            score = "-" if answer["score"] is None else f"{answer['score']:.3f}"
            print(f"  {label:<{width}}  {score}")
        sys.stdout.flush()
