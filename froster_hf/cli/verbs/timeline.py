"""Find out what happens when in a long video.

examples:
  froster timeline match.mp4 --labels "a goal,a corner kick,a foul" --background "people standing"
  froster timeline match.mp4 --labels-file actions.txt --output match.srt --output match.png
  froster timeline match.mp4 --labels-file actions.txt --window-seconds 8 --threshold 0.4 --json
  froster timeline match.mp4 --labels "a goal"                          # when is it in there?
  froster timeline match.mp4 --labels-file actions.txt --multi-label    # several at a time

The video is read once, as a stream, and segments are printed as soon as they are known; its length does not matter
for memory, nor does the number of labels: the best 32 of each window are kept. In .csv files, a label that a
spreadsheet would take for a formula has an apostrophe before it.
"""

import argparse
import sys
from typing import Any

from ...printing import printable
from ..loading import load_pipeline
from ..options import add_label_arguments, add_model_arguments, add_video_arguments, label_options, print_comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster timeline`."""
    parser.add_argument("video", metavar="VIDEO", help="a video file")
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write .json, .csv, .srt, .vtt or .png; may be repeated",
    )
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
        "--min-segment-seconds", type=float, default=0.0, help="shorter segments go to a neighbour (default: keep all)"
    )
    windows.add_argument("--batch-size", type=int, default=8, help="windows at a time (default: %(default)s)")
    add_label_arguments(parser)
    add_video_arguments(parser, streams=True)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the segments and write the files that were asked for."""
    from ...pipeline.timeline_files import check_format, json_pieces, write_timeline
    from ...whole_files import prepare_file

    for path in arguments.output:
        check_format(path)
        prepare_file(path)
    options = label_options(arguments)
    classify = load_pipeline(arguments)
    print_comparison(classify, options)
    timeline = classify.timeline(
        arguments.video,
        window_seconds=arguments.window_seconds,
        stride_seconds=arguments.stride_seconds,
        smoothing_seconds=arguments.smoothing_seconds,
        min_segment_seconds=arguments.min_segment_seconds,
        batch_size=arguments.batch_size,
        on_segment=None if arguments.json else _print_segment,
        **options,
    )
    # Printed first: a file that cannot be written must not cost the answer.
    if arguments.json:
        sys.stdout.writelines(json_pieces(timeline, separator=" ", encoding=sys.stdout.encoding or "utf-8"))
        print(flush=True)
    elif not timeline.segments:
        print("none of these, from start to end", flush=True)
    for path in arguments.output:
        write_timeline(timeline, path)
    return 0


def _print_segment(segment: Any) -> None:
    """A line as soon as a segment is known, above the progress bar."""
    from tqdm import tqdm

    from ...pipeline.timeline_files import short_clock

    start, end = (short_clock(time, with_tenths=True) for time in (segment.start_seconds, segment.end_seconds))
    tqdm.write(f"{start:>10} - {end:>10}  {segment.score:.3f}  {printable(segment.label)}", file=sys.stdout)
    sys.stdout.flush()
