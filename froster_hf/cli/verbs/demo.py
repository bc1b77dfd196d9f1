"""Render a few videos and try everything on them; needs no network.

examples:
  froster demo
  froster demo --labels "a red star sliding left,a blue square spinning"
  froster demo --model openai/clip-vit-base-patch32

The videos and the picture of a timeline are left in the output folder. Without --model, the model is the small one
that ships with the package: it knows the colors, shapes and motions of these rendered videos, and no real actions.
"""

import argparse
from pathlib import Path

from ...extras import how_to_install, is_installed
from ...printing import one_line
from ...whole_files import make_folder
from ..loading import load_model
from ..options import add_model_arguments, add_video_arguments, split_labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster demo`."""
    parser.add_argument("--output", default="demo_output", metavar="FOLDER", help="(default: %(default)s)")
    parser.add_argument("--labels", metavar="A,B,C", help="labels to choose from (default: those of the videos)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos (default: %(default)s)")
    add_video_arguments(parser)
    add_model_arguments(parser, default=None)


def run(arguments: argparse.Namespace) -> int:
    """Render, score, draw."""
    from .predict import report

    output = Path(arguments.output)
    make_folder(output)
    labels = split_labels(arguments.labels) if arguments.labels is not None else None
    if arguments.model is None:
        arguments.model = "small"
        print(
            "The model is the small FROSTER that ships with the package: 1.4 million parameters, trained on rendered\n"
            "shapes like these, for trying things out. With a real CLIP: froster demo --model "
            "openai/clip-vit-base-patch32\n"
        )
    classify = load_model(arguments)

    # After the model: the garbage collection of these imports does not look at its own again.
    from ...pipeline.timeline_files import write_timeline
    from ...shapes import DEMO_LABELS, STORY_WINDOWS, render_demo_videos

    labels = labels or list(DEMO_LABELS)
    picture = output / "timeline.png" if is_installed("plots") else None
    beside = [picture.name] if picture is not None else []
    *videos, story = render_demo_videos(output, seed=arguments.seed, beside=beside)
    for video in videos:
        answers = classify(str(video), candidate_labels=labels, num_frames=arguments.num_frames)
        report({"video": str(video), "answers": answers}, as_json=False)
    # A timeline is a stream, which PyAV alone reads.
    classify.processor.video_processor.video_backend = "auto"
    timeline = classify.timeline(str(story), labels, num_frames=arguments.num_frames, **STORY_WINDOWS)
    if picture is not None:
        write_timeline(timeline, picture)
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in STORY_WINDOWS.items())
    quoted, folder, model = (one_line(text) for text in (",".join(labels), str(output), arguments.model))
    print(
        f"\n{len(videos)} videos, {story.name} of all of them"
        + (
            " and its timeline.png are"
            if picture is not None
            else f" (no picture of it: {how_to_install('plots')}) are"
        )
        + f" in {folder}/.\n"
        "A score says which of the given labels fits best; one always wins. Labels of this world read like "
        '"a red star sliding left".\n'
        "The same by hand:\n"
        f'  froster predict {folder}/{videos[0].name} --labels "{quoted}" --model {model}\n'
        f'  froster timeline {folder}/{story.name} --labels "{quoted}" --model {model} {options}'
    )
    return 0
