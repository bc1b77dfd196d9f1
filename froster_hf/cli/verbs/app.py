"""Show a model to colleagues: a page for their own videos, and an HTTP API.

examples:
  froster app --model small                               # with examples at hand
  froster app --model openai/clip-vit-base-patch32
  froster app --model small --index my-index              # with a search in what `froster index` made
  froster app --model my-froster --host 0.0.0.0 --port 80 # for all who reach this machine

Needs the extra `app` (Gradio). The page asks nothing of other machines, and neither does the server; uploads are
deleted after an hour, and when the app ends. Whoever reaches the address may use it: there is no password.
"""

import argparse
import signal
import tempfile

from ...extras import import_extra
from ..loading import load_model
from ..options import add_model_arguments, set_video_defaults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster app`."""
    parser.add_argument("--index", metavar="IDX", help="of `froster index`, of the same model, to search in")
    parser.add_argument(
        "--host", default="127.0.0.1", help="where it listens; 0.0.0.0 is every network (default: this machine alone)"
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="under which a reverse proxy on this machine gives it out (repeat for several); while it listens on this "
        "machine alone, it answers to no name but localhost and these",
    )
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860 on)")
    parser.add_argument(
        "--max-megabytes",
        type=int,
        default=512,
        metavar="N",
        help="size of an upload; 16 such are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="also give it a public address for a week; everything then passes through a server of Gradio's, whose "
        "program for it is downloaded",
    )
    set_video_defaults(parser)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted or terminated; uploads are deleted then."""
    signal.signal(signal.SIGTERM, _end)
    for extra in ("app", "plots", *(["search"] if arguments.index else [])):
        import_extra(extra)
    classify = load_model(arguments)

    from ...integrations.app import AppExample, launch_app
    from ...shapes import DEMO_LABELS, STORY_WINDOWS, render_demo_videos

    with tempfile.TemporaryDirectory(prefix="froster-examples-") as folder:
        examples = []
        # The shipped model knows the rendered world alone; other models know it badly.
        if arguments.model == "small":
            *videos, story = render_demo_videos(folder)
            examples = [AppExample(video, DEMO_LABELS) for video in videos]
            examples.insert(0, AppExample(story, DEMO_LABELS, STORY_WINDOWS))
        launch_app(
            classify,
            index=arguments.index,
            examples=examples,
            host=arguments.host,
            port=arguments.port,
            max_megabytes=arguments.max_megabytes,
            share=arguments.share,
            names=arguments.name,
        )
    return 0


def _end(number: int, _frame: object) -> None:
    """As Ctrl-C does, so that what has to be tidied up is: services are ended by this signal."""
    raise SystemExit(128 + number)
