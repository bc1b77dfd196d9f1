"""Repeat the paper's experiment in miniature, on moving shapes.

examples:
  froster study short
  froster study long --output long_study --processes 8
  froster study my_plan.yaml 'test_worlds=[7]'
  froster study second --processes 2 --minutes 120

Needs no network: small CLIPs are pre-trained, videos are rendered, methods are fine-tuned and compared. The output
folder gets README.md with tables and sentences, study.json with every run, and plots. Run again after a kill, or after
its --minutes are over, it goes on where it was.
"""

import argparse
import functools
import shlex
from pathlib import Path

from ...settings import check_named
from ..loading import keep_to_free_memory
from ..options import add_overwrite_argument, print_shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster study`."""
    parser.add_argument("plan", nargs="?", metavar="PLAN", help="a shipped plan's name, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="such as test_worlds=[7]")
    parser.add_argument("--list", action="store_true", help="list the shipped plans")
    parser.add_argument("--output", metavar="FOLDER", help="folder of the report (default: runs/study-PLAN/report)")
    add_overwrite_argument(parser, "another report in the output folder")
    parser.add_argument("--work", metavar="FOLDER", help="folder of worlds and runs (default: runs/study-PLAN)")
    parser.add_argument("--minutes", type=float, help="begin nothing new after as many; the next call goes on")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """List, or run."""
    if arguments.list:
        print_shipped("plan")
        return 0
    if arguments.plan is None:
        raise ValueError("Which plan? Give a name of `froster study --list` or a .yaml file.")
    if arguments.processes < 1:
        raise ValueError(f"--processes is {arguments.processes}; give at least 1.")
    check_named(arguments.plan, arguments.overrides, kind="plan")

    from ...shapes.study.plan import load_plan

    plan = load_plan(arguments.plan, arguments.overrides)
    work = Path(arguments.work or Path("runs") / f"study-{plan.name}")
    output = Path(arguments.output or work / "report")

    from ...shapes.study.running import StudyPausedError, run_study

    places = [*(["--work", str(work)] if arguments.work else []), "--output", str(output)]
    named = [arguments.plan, *arguments.overrides]
    command = shlex.join(["froster", "study", *named, *places, "--processes", str(arguments.processes)])
    keep_to_free_memory()
    # Flushed: a study takes long, and is watched through files and pipes too.
    log = functools.partial(print, flush=True)
    try:
        report = run_study(
            plan,
            work=work,
            output=output,
            processes=arguments.processes,
            command=command,
            log=log,
            overwrite=arguments.overwrite,
            minutes=arguments.minutes,
        )
    except StudyPausedError as pause:
        log(f"Paused: {pause}. The same command goes on.")
        return 0
    print(report)
    return 0
