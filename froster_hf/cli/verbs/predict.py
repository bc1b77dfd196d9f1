"""Score videos by labels of your own.

examples:
  froster predict clip.mp4 --labels "chopping wood,juggling,playing the cello"
  froster predict videos/ --labels-file actions.txt --top-k 3 --json > answers.jsonl
  froster predict "holiday/**/*.mov" --labels surfing,sailing --background "an empty beach"
  froster predict clip.mp4 --labels golf,tennis --model openai/clip-vit-base-patch32

A video that cannot be read is reported, and the others are still scored; the exit code is then 1.
"""

import argparse
import json
import sys
from typing import Any

from ..options import add_label_arguments, add_model_arguments, add_video_arguments, label_options, load_pipeline
from ..videos import find_videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster predict`."""
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="files, folders, patterns, folders of frames")
    parser.add_argument("--top-k", type=int, default=5, help="answers a video (default: %(default)s)")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object a line: video and answers, or video and error"
    )
    parser.add_argument(
        "--function", choices=("softmax", "sigmoid", "none"), default="softmax", help="from logits to scores"
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

    from ...processing.video_decoding_froster import VideoDecodeError

    # Wrong labels are one error, not one a video.
    classify.label_embeds(
        options.get("candidate_labels"),
        background_labels=options.get("background_labels"),
        templates=[arguments.template] if arguments.template else arguments.templates,
    )
    videos = find_videos(arguments.videos)
    failures = 0
    progress = tqdm(videos, unit="video", disable=True if len(videos) == 1 else None)
    for video in progress:
        try:
            result: dict[str, Any] = {"video": video, "answers": classify(video, **options)}
        except VideoDecodeError as error:
            failures += 1
            result = {"video": video, "error": str(error)}
        progress.clear()
        report(result, as_json=arguments.json)
    if failures and not arguments.json:
        print(f"froster: {failures} of {len(videos)} videos could not be read", file=sys.stderr)
    return 1 if failures else 0


def report(result: dict[str, Any], *, as_json: bool) -> None:
    """Print one video's answers, or why there are none."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
    elif "error" in result:
        print(f"froster: {result['error']}", file=sys.stderr, flush=True)
    else:
        print(result["video"])
        width = max(len(answer["label"]) for answer in result["answers"])
        for answer in result["answers"]:
            print(f"  {answer['label']:<{width}}  {answer['score']:.3f}")
        sys.stdout.flush()
