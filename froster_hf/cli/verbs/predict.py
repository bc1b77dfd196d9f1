"""Score videos by labels of your own.

examples:
  froster predict clip.mp4 --labels "chopping wood,juggling,playing the cello"
  froster predict videos/ --labels-file actions.txt --top-k 3 --json > answers.jsonl
  froster predict "holiday/**/*.mov" --labels surfing,sailing --background "an empty beach"
  froster predict clip.mp4 --labels golf,tennis --model openai/clip-vit-base-patch32
  froster predict clip.mp4 --labels juggling          # one label alone: is it in there?
  froster predict videos/ --labels-file actions.txt --multi-label --threshold 0.5

A video that cannot be read is reported, and the others are still scored; the exit code is then 1. Where no label
reaches --threshold and there is no --background, the answer is "none of these" without a score (null in JSON).
"""

import argparse
import sys
from typing import Any

from ...printing import json_text, one_line, printable
from ..loading import load_pipeline
from ..options import add_label_arguments, add_model_arguments, add_video_arguments, label_options, print_comparison
from ..videos import find_videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster predict`."""
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="files, folders, patterns, folders of frames")
    parser.add_argument("--top-k", type=int, default=5, help="answers a video (default: %(default)s)")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object a line: video and answers, or video and error"
    )
    parser.add_argument(
        "--function", choices=("softmax", "sigmoid", "none"), help="from logits to scores (default: softmax)"
    )
    add_label_arguments(parser)
    add_video_arguments(parser)
    parser.add_argument("--num-views", type=int, help="windows a video, whose scores are averaged")
    parser.add_argument("--num-crops", type=int, help="crops a window, likewise")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score the videos one after the other; 1 if one of them could not be read."""
    options = {
        **label_options(arguments),
        "top_k": arguments.top_k,
        "function_to_apply": arguments.function,
        "num_views": arguments.num_views,
        "num_crops": arguments.num_crops,
    }
    classify = load_pipeline(arguments)

    from transformers.utils.logging import tqdm

    # Wrong labels are one error, not one a video.
    print_comparison(classify, options)
    classify.label_embeds(
        options.get("candidate_labels"),
        background_labels=options.get("background_labels"),
        templates=[arguments.template] if arguments.template else arguments.templates,
    )
    videos = find_videos(arguments.videos)
    failures = 0
    # A generator is read as the answers are asked for: each is printed before the next video is opened.
    answers = classify((video for video in videos), on_error="return", **options)
    progress = tqdm(total=len(videos), unit="video", disable=True if len(videos) == 1 else None)
    for video, found in zip(videos, answers):
        failed = isinstance(found, Exception)
        failures += failed
        result: dict[str, Any] = (
            {"video": video, "error": str(found)} if failed else {"video": video, "answers": found}
        )
        progress.clear()
        report(result, as_json=arguments.json)
        progress.update()
    progress.close()
    if failures and not arguments.json:
        print(f"froster: {failures} of {len(videos)} videos could not be read", file=sys.stderr)
    return 1 if failures else 0


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
