"""Find segments of videos by words, or by a clip that they are like.

examples:
  froster search my-index "a person opens a door"
  froster search my-index --like clip.mp4 --top-k 20 --html found.html
  froster search my-index "at night" --like clip.mp4      # both count alike
  froster search my-index "juggling" --json > found.jsonl

The index comes from `froster index`, which explains itself. The score is the cosine of two embeddings, best first: it
says which of the segments fit better, not whether they fit. Of segments that overlap, only the best is given. The
model is the index's own by default.
"""

import argparse
import sys
from dataclasses import asdict

from ...printing import json_text, printable
from ...processing.prompts_froster import TEMPLATE_SETS
from ..loading import index_model, load_model
from ..options import add_model_arguments, add_overwrite_argument, set_video_defaults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster search`."""
    parser.add_argument("index", metavar="INDEX", help="a folder, or an address such as s3://bucket/index")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to look for")
    parser.add_argument("--like", dest="video", metavar="VIDEO", help="a clip that the segments should be like")
    parser.add_argument("--top-k", type=int, default=10, help="segments (default: %(default)s)")
    parser.add_argument("--html", metavar="FILE", help="write a page with pictures")
    add_overwrite_argument(parser, "a page that is there")
    parser.add_argument("--json", action="store_true", help="a JSON object per segment")
    parser.add_argument(
        "--templates", choices=tuple(TEMPLATE_SETS), help="prompts for the text (default: the checkpoint's)"
    )
    set_video_defaults(parser)
    add_model_arguments(parser, default=None)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found, and write the page."""
    if not (arguments.text or "").strip() and arguments.video is None:
        raise ValueError("What is to be found? Give a text, or --like and a clip.")

    from ...integrations.search import open_index, search_videos
    from ...integrations.search_page import write_search_page
    from ...pipeline.timeline_files import short_clocks
    from ...whole_files import prepare_file

    if arguments.html is not None:
        prepare_file(arguments.html, overwrite=arguments.overwrite)
    index = open_index(arguments.index)
    if arguments.model is None:
        arguments.model = index_model(index)
    found = search_videos(
        index,
        arguments.text,
        like=arguments.video,
        top_k=arguments.top_k,
        classify=load_model(arguments),
        templates=arguments.templates,
    )
    for segment in found:
        if arguments.json:
            record = {name: value for name, value in asdict(segment).items() if name != "picture"}
            print(json_text(record, encoding=sys.stdout.encoding or "utf-8"))
        else:
            start, end = short_clocks(segment)
            print(f"{segment.score:6.3f}  {start:>10} - {end:>10}  {printable(segment.video)}")
    if not found:
        print(f"froster: {printable(arguments.index)} is empty", file=sys.stderr)
    if arguments.html is not None:
        looked_for = [arguments.text] if arguments.text else []
        looked_for += [f"like {arguments.video}"] if arguments.video is not None else []
        write_search_page(found, arguments.html, title=", ".join(looked_for), overwrite=arguments.overwrite)
    return 0
