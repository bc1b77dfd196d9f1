"""Make an index of videos, in which `froster search` finds segments.

examples:
  froster index videos/ --output my-index --model openai/clip-vit-base-patch32
  froster index videos/ --output my-index          # again: only new and changed files are read
  froster index "holiday/**/*.mov" list.txt --output my-index --window-seconds 8 --stride-seconds 8
  froster index s3://bucket/videos/ --output s3://bucket/my-index --model my-model

Videos are cut into overlapping segments. A file that is no longer there leaves the index. After a kill, the same
command goes on. A video that cannot be read is reported, costs nothing else, and is tried again the next time; the
exit code is then 1. The index remembers its model, which is the default the next time, and refuses another.

Needs LanceDB: pip install 'froster-hf[search]' (in a checkout: pip install -e '.[search]')
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...checkpoint_loading import DEFAULT_MODEL
from ...printing import counted, json_text, one_line, printable
from ...video.source import source_name
from ...video.stores import is_address, named_folder
from ..loading import index_model, load_model
from ..options import add_model_arguments, add_video_arguments
from ..videos import find_videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster index`."""
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="files, folders, patterns, lists of them (.txt, .csv or .jsonl), addresses in stores",
    )
    parser.add_argument(
        "--output", required=True, metavar="INDEX", help="the index: a folder, or an address such as s3://bucket/index"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object per video, and one at the end")
    windows = parser.add_argument_group("segments")
    windows.add_argument("--window-seconds", type=float, help="length of a segment (default: the index's, or 4)")
    windows.add_argument("--stride-seconds", type=float, help="from start to start (default: the index's, or 2)")
    windows.add_argument("--batch-size", type=int, default=8, help="segments at a time (default: %(default)s)")
    add_video_arguments(parser, streams=True)
    add_model_arguments(parser, default=None)


def run(arguments: argparse.Namespace) -> int:
    """Bring the index up to date; 1 if a video could not be read."""
    from ...integrations.search import find_index, index_videos

    index = find_index(arguments.output)
    if arguments.model is None:
        arguments.model = DEFAULT_MODEL if index is None else index_model(index)
    videos = list(_named(arguments.videos))
    classify = load_model(arguments)

    def show(record: Mapping[str, Any]) -> None:
        from tqdm import tqdm

        if arguments.json:
            tqdm.write(json_text(record, encoding=sys.stdout.encoding or "utf-8"), file=sys.stdout)
            sys.stdout.flush()
        elif "error" in record:
            name = printable(source_name(record["video"]))
            tqdm.write(f"froster: {name}: {one_line(record['error'])}", file=sys.stderr)

    report = index_videos(
        classify,
        videos,
        output=arguments.output,
        window_seconds=arguments.window_seconds,
        stride_seconds=arguments.stride_seconds,
        num_frames=arguments.num_frames,
        batch_size=arguments.batch_size,
        on_video=show,
    )
    counts = {name: len(getattr(report, name)) for name in ("new", "changed", "gone", "unchanged")}
    failed = len(report.errors)
    if arguments.json:
        print(json_text({"videos": report.num_videos, "segments": report.num_segments, **counts, "failed": failed}))
    else:
        counts["could not be read"] = failed
        said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        segments = counted(report.num_segments, "segment")
        print(f"{printable(arguments.output)}: {segments} of {counted(report.num_videos, 'video')} ({said})")
    return 1 if failed else 0


def _named(arguments: Sequence[str]) -> Iterator[str]:
    """What the arguments name; folders stay folders, since what is no longer in them leaves the index."""
    for argument in arguments:
        if os.path.isdir(argument) or (is_address(argument) and named_folder(argument) == argument):
            yield argument
        else:
            yield from find_videos([argument])
