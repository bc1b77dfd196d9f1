"""Find out what happens when in a long video.

examples:
  froster timeline match.mp4 --labels "a goal,a foul" --background spectators --model openai/clip-vit-base-patch32
  froster timeline match.mp4 --labels-file actions.txt --output match.srt --model openai/clip-vit-base-patch32
  froster timeline match.mp4 --labels-file actions.txt --window-seconds 8 --json --model openai/clip-vit-base-patch32
  froster timeline match.mp4 --labels "a goal" --model openai/clip-vit-base-patch32  # when is it in there?
  froster timeline match.mp4 --labels-file actions.txt --multi-label --model openai/clip-vit-base-patch32  # several
  froster timeline --live rtsp://camera.local/1 --labels "a person falls" --model openai/clip-vit-base-patch32

The video is read once, as a stream, and segments are printed as soon as they are known; its length does not matter
for memory, nor does the number of labels: the best 32 of each window are kept. In .csv files, what a spreadsheet
would take for a formula, in a label or behind a semicolon in it, has an apostrophe before it.

--live watches a source that does not end: a stream's address (RTSP, RTMP, HLS, MPEG-TS over HTTP, TCP, UDP) or the
index of a camera. Segments come as JSON lines as soon as they are over; a stream that breaks off is joined again.
"""

import argparse
import contextlib
import os
import sys
from dataclasses import asdict
from typing import Any

from ...printing import json_text, printable
from ..loading import load_model
from ..options import (
    add_label_arguments,
    add_model_arguments,
    add_overwrite_argument,
    add_video_arguments,
    label_options,
    print_comparison,
)

WINDOW_LENGTHS = ("window_seconds", "stride_seconds", "smoothing_seconds", "min_segment_seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster timeline`."""
    parser.add_argument("video", metavar="VIDEO", nargs="?", help="a video file, or - for standard input")
    parser.add_argument("--live", metavar="SOURCE", help="watch a stream's address, or a camera by its index")
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write .json, .csv, .srt, .vtt or .png; may be repeated",
    )
    add_overwrite_argument(parser, "output files that are there")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    windows = parser.add_argument_group("windows")
    windows.add_argument("--window-seconds", type=float, default=4.0, help="length of a window (default: %(default)s)")
    windows.add_argument(
        "--stride-seconds", type=float, default=2.0, help="from start to start (default: %(default)s)"
    )
    windows.add_argument(
        "--smoothing-seconds", type=float, default=4.0, help="scores are averaged over it (default: %(default)s)"
    )
    windows.add_argument(
        "--min-segment-seconds", type=float, default=0.0, help="shorter segments go to a neighbor (default: keep all)"
    )
    windows.add_argument("--batch-size", type=int, default=8, help="windows at a time (default: %(default)s)")
    add_label_arguments(parser)
    add_video_arguments(parser, streams=True)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the segments and write the files that were asked for."""
    if (arguments.video is None) == (arguments.live is None):
        raise ValueError("Give a video file, or --live and a source; not both.")
    if arguments.live is not None:
        return _watch(arguments)

    if os.path.isdir(arguments.video):
        raise ValueError(
            f"{printable(arguments.video)} is a folder; a timeline is of one video file. `froster predict` and "
            "`froster index` take folders."
        )

    from ...pipeline.timeline_files import check_format, json_pieces, write_timeline
    from ...whole_files import prepare_file

    for path in arguments.output:
        check_format(path)
        prepare_file(path, overwrite=arguments.overwrite)
    options = label_options(arguments)
    classify = load_model(arguments)
    print_comparison(classify, options)
    timeline = classify.timeline(
        sys.stdin.buffer if arguments.video == "-" else arguments.video,
        **{name: getattr(arguments, name) for name in WINDOW_LENGTHS},
        batch_size=arguments.batch_size,
        on_segment=None if arguments.json else _print_segment,
        **options,
    )
    # An output or a file that cannot be written must not cost those behind it.
    with contextlib.ExitStack() as written:
        for path in reversed(arguments.output):
            written.callback(write_timeline, timeline, path, overwrite=arguments.overwrite)
        if arguments.json:
            sys.stdout.writelines(json_pieces(timeline, separator=" ", encoding=sys.stdout.encoding or "utf-8"))
            print(flush=True)
        elif not timeline.segments:
            print("none of these, from start to end", flush=True)
    return 0


def _watch(arguments: argparse.Namespace) -> int:
    """Print the segments of a live source as JSON lines, until it ends or the user does."""
    if arguments.output:
        raise ValueError("--output takes a timeline that ends; of a live source, keep the JSON lines.")
    if os.path.isfile(arguments.live) and not arguments.live.isdecimal():
        raise ValueError(
            f"--live {printable(arguments.live)} is a file, which has an end: give it as VIDEO, without --live."
        )
    options = label_options(arguments)
    classify = load_model(arguments)
    print_comparison(classify, options)

    from ...pipeline.live import live_timeline
    from ...video.types import VideoLimits

    events = live_timeline(
        classify,
        arguments.live,
        **{name: getattr(arguments, name) for name in WINDOW_LENGTHS},
        limits=VideoLimits.of(classify.processor.video_processor.video_limits),
        **options,
    )
    for event in events:
        line = {**asdict(event), "started_at": event.started_at.isoformat(timespec="milliseconds")}
        print(json_text(line, encoding=sys.stdout.encoding or "utf-8"), flush=True)
    return 0


def _print_segment(segment: Any) -> None:
    """A line as soon as a segment is known, above the progress bar."""
    from tqdm import tqdm

    from ...pipeline.timeline_files import short_clocks

    start, end = short_clocks(segment)
    tqdm.write(f"{start:>10} - {end:>10}  {segment.score:.3f}  {printable(segment.label)}", file=sys.stdout)
    sys.stdout.flush()
