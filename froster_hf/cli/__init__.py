"""The command line `froster`: thin, one file a verb, nothing heavy imported before a verb runs.

A verb is a module in `froster_hf/cli/verbs/`. Its docstring is its help (the first line in the list of verbs); it
defines `add_arguments(parser)` and `run(arguments) -> int`, the exit code, and imports torch and transformers inside
`run` only. Adding a file adds a verb.
"""

import argparse
import contextlib
import difflib
import importlib
import io
import os
import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

from .. import __version__
from ..printing import listing, one_line
from . import verbs

INTERRUPTED = 130

CLIP = "openai/clip-vit-base-patch32"
"""The model of examples with real actions: a baseline that anybody can have."""

QUESTIONS = f"""What do you want to know?

  Which of these happens in a video?
    froster predict clip.mp4 --labels "juggling,golf" --model {CLIP}
  Is it in there?
    froster predict clip.mp4 --labels juggling --model {CLIP}
  Which of these occur, if any?
    froster predict clip.mp4 --labels-file actions.txt --multi-label --model {CLIP}
  When does it happen?
    froster timeline match.mp4 --labels "goal,foul" --output match.png --model {CLIP}
  The same of many videos?
    froster predict videos/ --labels-file actions.txt --resume answers.jsonl --model {CLIP}
  Where is something like this?
    froster index videos/ --output my-index --model {CLIP}
    froster search my-index "a person opens a door" --html found.html
  How good is it on my videos?
    froster evaluate my_videos --model {CLIP}
  Can it learn my actions?
    froster train my_videos --model {CLIP}
  Where does it look?
    froster explain clip.mp4 --label juggling --output maps --model {CLIP}
  Can my colleagues try it?
    froster app --model small
  Does it work here? What is missing?
    froster demo
    froster info

`froster --help` lists all verbs, `froster VERB --help` explains one. {CLIP} is plain CLIP, 600 MB
that are downloaded once; --model small ships with the package and knows moving shapes only ("a red star growing").
"""

RULE = """Results that are there stay: a verb that would write over them stops before its work, and says so.
--overwrite replaces them, --resume (predict, train) goes on with them; evaluate, interpolate, study and index go on by
themselves. Folders of a checkpoint (export, convert, interpolate) must be new. `froster demo` makes its own again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `froster` with these arguments, by default those of the process; returns the exit code."""
    _open_closed_streams()
    _let_no_message_fail()
    with _output_that_takes_every_character():
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        except KeyboardInterrupt:
            return INTERRUPTED


def _ask(arguments: argparse.Namespace) -> int:
    """What is run without a verb."""
    print(QUESTIONS, end="")
    return 0


def _open_closed_streams() -> None:
    """A service may have closed them; the next file that is opened would be taken for one of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


class _WhatIsTaken(io.RawIOBase):
    """The file of an output, which loses what it does not take, and never fails."""

    def __init__(self, output: io.TextIOWrapper):
        # Which would else close its file.
        self._output = output
        self._file: Any = output.buffer.raw  # type: ignore[attr-defined]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            return self._file.write(data) or len(data)
        return len(data)


def _let_no_message_fail() -> None:
    """What standard error does not take, on a full disk or for a reader that has ended, costs no answers."""
    said = sys.stderr
    if isinstance(said, io.TextIOWrapper) and isinstance(said.buffer, io.BufferedWriter):
        taken = io.BufferedWriter(_WhatIsTaken(said))
        sys.stderr = io.TextIOWrapper(taken, encoding=said.encoding, errors=said.errors, line_buffering=True)


def _run(argv: Sequence[str]) -> int:
    """Run the verb of the arguments; an error is one line, and the exit code 1."""
    arguments = argparse.Namespace(run=_ask, traceback=False)
    try:
        if argv:
            arguments = build_parser().parse_args(argv)
        with _own_memory_limit():
            code = arguments.run(arguments)
        # What cannot be written is an error here, not one of the interpreter on its way out.
        sys.stdout.flush()
        return code
    except Exception as error:
        if arguments.traceback:
            raise
        if isinstance(error, BrokenPipeError):
            # The reader of our output has gone, as with `froster ... | head`.
            _lose_output()
            return 1
        message = name_options(describe_error(error), arguments)
        print(f"froster: error: {message}", *getattr(error, "advice", ()), sep="\n", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _lose_output()
        return 1


@contextlib.contextmanager
def _own_memory_limit() -> Iterator[None]:
    """What a verb allows itself (`loading.keep_to_free_memory`) is not for a program that calls it, as ours do."""
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _lose_output() -> None:
    """What standard output has not taken is not tried again on the way out, which would end in a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# A DataLoader gives the error of its worker with the worker's traceback before it, whose lines are indented, and that
# of the error's cause before both.
_WORKER_TRACEBACK = re.compile(
    r"\ACaught \w+ in DataLoader worker process \d+\.\nOriginal Traceback[\s\S]*\n .*\n[\w.]+: "
)


def describe_error(error: Exception) -> str:
    """An error as one line: its message, and where that was not written for a user, what kind of error it is."""
    message = one_line(_WORKER_TRACEBACK.sub("", str(error)))
    kind = type(error)
    # Errors of this package's own classes say what to do, whatever they are derived from.
    if message and (
        isinstance(error, ValueError | OSError | ImportError) or kind.__module__.startswith("froster_hf.")
    ):
        return message
    return one_line(f"{kind.__name__}: {message}").rstrip(": ") + " (--traceback shows where it came from)"


# Arguments of Python functions whose options have other names.
_OPTIONS = {
    "candidate_labels": "--labels",
    "background_labels": "--background",
    "function_to_apply": "--function",
    "quantize": "--int8",
}


def name_options(message: str, arguments: argparse.Namespace) -> str:
    """A message with the verb's options in place of Python's names for them: `top_k` is --top-k."""

    def option(match: re.Match[str]) -> str:
        name = match[1]
        if name in _OPTIONS and hasattr(arguments, _OPTIONS[name].lstrip("-")):
            return _OPTIONS[name]
        return f"--{name.replace('_', '-')}" if hasattr(arguments, name) else match[0]

    # Single words may be columns, fields or positional arguments.
    return re.sub(r"`([a-z]+(?:_[a-z]+)+|quantize|threshold)`", option, message)


@contextlib.contextmanager
def _output_that_takes_every_character() -> Iterator[None]:
    r"""Characters that the encoding of a terminal, pipe or file does not have are written as `\x..` or `\u....`."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before):
            stream.reconfigure(errors=errors)


class _Parser(argparse.ArgumentParser):
    """Says in one line, without control characters, what is wrong with arguments and what may be meant.

    Options are written out: what is short for one today may be short for two tomorrow. Verbs' parsers are of this
    class, too.
    """

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)
        self.verbs: dict[str, _Parser] = {}

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What is left over is compared with the options of its verb, not with those of all verbs."""
        given = list(sys.argv[1:] if args is None else args)
        if self.verbs and given[:1] and given[0].startswith("--") and given[0] not in self._option_string_actions:
            self.error(
                f"{given[0]} comes before the verb; options stand behind it, as in froster predict clip.mp4 ..."
            )
        arguments, left = self.parse_known_args(given, namespace)
        if left:
            self.verbs.get(given[0], self).refuse(left)
        return arguments

    def _print_message(self, message: str, file: Any = None) -> None:
        """What is asked for and cannot be written, such as --help, is an error, which argparse passes over."""
        print(message, end="", file=file or sys.stderr, flush=True)

    def refuse(self, left: Sequence[str]) -> NoReturn:
        """End with what is wrong with arguments that nothing takes."""
        if options := [word for word in left if word.startswith("-")]:
            self.error(f"unrecognized arguments: {' '.join(options)}")
        taken = " ".join(str(action.metavar) for action in self._get_positional_actions())
        self.error(f"too many arguments: {listing(left, limit=3)}; it takes {taken or 'options only'}")

    def error(self, message: str) -> NoReturn:
        """One line, without the usage, which hides it where a verb has many options."""
        guess = self._guess(message)
        self.exit(2, f"{self.prog}: error: {one_line(message)}{guess} ({self.prog} --help lists what there is)\n")

    def _guess(self, message: str) -> str:
        """What may be meant by an option or a verb that does not exist."""
        if (choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)) is not None:
            allowed = re.findall(r"[\w.-]+", choice[2])
            meant = difflib.get_close_matches(choice[1], allowed, n=1)
        elif message.startswith("unrecognized arguments: "):
            known = re.findall(r"--[\w-]+", self.format_usage())
            given = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            close = [difflib.get_close_matches(word, known, n=1) for word in given]
            meant = [option for options in close for option in options]
        else:
            meant = []
        return f"; did you mean {', '.join(meant)}?" if meant else ""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = _Parser(
        prog="froster",
        description="Open-vocabulary action recognition: what happens in a video, in words of your own.",
        epilog=f'example:\n  froster predict clip.mp4 --labels "juggling,playing the cello" --model {CLIP}\n\n{RULE}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"froster-hf {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, module in find_verbs().items():
        text = (module.__doc__ or "").strip()
        subparser = subparsers.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.add_argument("--traceback", action="store_true", help="show where an error came from")
        subparser.set_defaults(run=module.run)
        parser.verbs[name] = subparser
    return parser


def find_verbs() -> dict[str, ModuleType]:
    """The modules of `froster_hf.cli.verbs` by name; `my_verb.py` is the verb `my-verb`."""
    names = sorted(module.name for module in pkgutil.iter_modules(verbs.__path__))
    return {name.replace("_", "-"): importlib.import_module(f"{verbs.__name__}.{name}") for name in names}
