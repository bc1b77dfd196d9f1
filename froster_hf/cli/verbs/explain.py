"""Show which regions of a video a label's score looks at.

examples:
  froster explain clip.mp4 --label juggling --output maps --model openai/clip-vit-base-patch32
  froster explain clip.mp4 --label juggling --against golf,yoga --output maps --model openai/clip-vit-base-patch32
  froster explain demo_output/a_red_star_sliding_left.mp4 --label "a red star" --output maps --model small

Writes a strip of all frames (PNG) and an animation (GIF) for each method: `rollout` follows the attention, whatever
the label; `gradient` asks what speaks for this label.
"""

import argparse
from typing import Any

from ...printing import printable
from ...whole_files import folder_for_results
from ..loading import load_model
from ..options import add_model_arguments, add_overwrite_argument, add_video_arguments, split_labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster explain`."""
    parser.add_argument("video", metavar="VIDEO", help="a video file, or a folder of frames")
    parser.add_argument("--label", required=True, help="the action whose score is explained")
    parser.add_argument("--against", metavar="A,B,C", default="", help="other labels, for the label's probability")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="folder of the pictures")
    parser.add_argument(
        "--method", nargs="+", choices=("rollout", "gradient"), default=("rollout", "gradient"), help="default: both"
    )
    add_overwrite_argument(parser, "pictures of these methods that are in the folder")
    add_video_arguments(parser)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explain the video, and print what was written."""
    from ...evaluation.explaining import refuse_pictures

    refuse_pictures(arguments.output, arguments.method, overwrite=arguments.overwrite)
    with folder_for_results(arguments.output):
        explanation = _explain(arguments)
    if arguments.against:
        print(f"{printable(explanation.label)}: {explanation.probability:.3f}, its probability among all labels given")
    for method, strip in explanation.strips.items():
        for picture in (strip, explanation.animations[method]):
            print(printable(str(picture)))
    return 0


def _explain(arguments: argparse.Namespace) -> Any:
    others = split_labels(arguments.against) if arguments.against else []
    classify = load_model(arguments)

    from ...evaluation import explain_video

    if arguments.num_frames is not None:
        classify.processor.video_processor.num_frames = arguments.num_frames
    return explain_video(
        classify.model,
        classify.processor,
        arguments.video,
        label=arguments.label,
        candidate_labels=others,
        output_dir=arguments.output,
        methods=arguments.method,
        overwrite=arguments.overwrite,
    )
