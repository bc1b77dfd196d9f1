"""The tables of `benchmarks/`: each has a command that is there, options that it takes, and a line in the list."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.fixtures.pages import ROOT
from tests.fixtures.subprocesses import run_forked

BENCHMARKS = ROOT / "benchmarks"
LIST = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
TABLES = sorted(path for path in BENCHMARKS.glob("*.md") if path.name != "README.md")
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*python (?:-m benchmarks\.|benchmarks/)\w+[^`\n#>]*")


def commands(text: str) -> list[str]:
    """Those that run a benchmark, but for where they write."""
    return [command.strip() for command in COMMAND.findall(text.replace("\\\n", " "))]


def script_of(command: str) -> Path:
    """The file that a command runs."""
    words = shlex.split(command)
    target = words[words.index("python") + 1 :]
    name = target[1] if target[0] == "-m" else target[0].removesuffix(".py")
    return ROOT / f"{name.replace('.', '/')}.py"


DOCUMENTS = [*TABLES, BENCHMARKS / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "fuzzing.md"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_run_files_that_are_there_with_options_that_they_take(path):
    found = commands(path.read_text(encoding="utf-8"))
    assert found
    for command in found:
        source = script_of(command).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", command):
            assert f'"{option}"' in source, command


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_every_table_is_listed_with_the_command_that_it_names(path):
    (line,) = [line for line in LIST.splitlines() if f"[{path.name}]({path.name})" in line]
    (listed,) = {script_of(command) for command in commands(line)}
    assert listed in {script_of(command) for command in commands(path.read_text(encoding="utf-8"))}


def test_every_benchmark_is_in_the_list():
    measuring = {path for path in BENCHMARKS.glob("*.py") if not path.name.startswith(("fuzz_", "machine"))}
    assert measuring <= {script_of(command) for command in commands(LIST)}


# Each as `python` would start it, in one process that has torch already: importing it takes longer than the rest.
START_ALL = """
import contextlib, io, runpy, sys
from pathlib import Path
for target in sys.argv[1:]:
    is_file = target.endswith(".py")
    sys.path[0] = str(Path(target).parent) if is_file else ""
    sys.argv = [target, "--help"]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            (runpy.run_path if is_file else runpy.run_module)(target, run_name="__main__")
    except SystemExit as ended:
        assert ended.code == 0, target
    assert "usage:" in printed.getvalue(), target
    for name, module in list(sys.modules.items()):  # the next one finds its neighbors itself
        if "benchmarks" in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]
    print(target)
"""


def test_every_benchmark_starts_by_its_command():
    words = [shlex.split(command) for page in DOCUMENTS for command in commands(page.read_text(encoding="utf-8"))]
    after = [line[line.index("python") + 1 :] for line in words]
    targets = {line[1] if line[0] == "-m" else line[0] for line in after}

    def start_all() -> None:
        os.chdir(ROOT)
        sys.argv = ["-c", *sorted(targets)]
        exec(START_ALL, {"__name__": "__main__"})

    finished = run_forked(start_all)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == sorted(targets)


def test_the_page_on_performance_takes_its_figures_from_tables():
    """Whatever part of it states a measured figure links to the table that it is from."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(\.\./benchmarks/(\w+\.md)\)", text))
    assert linked - {"README.md"} <= {path.name for path in TABLES}
    for section in re.split(r"^## ", text, flags=re.M):
        figures = re.findall(r"\d[\d.,]* (?:%|ms|s|seconds|hours|times|MiB|GiB|dollars|videos)\b", section)
        assert not figures or "](../benchmarks/" in section, f"{section.splitlines()[0]}: {figures}"
