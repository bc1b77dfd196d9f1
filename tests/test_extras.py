"""What an optional package that is not installed stops, and what is said of it."""

import re

import pytest

from froster_hf import extras
from froster_hf.cli import QUESTIONS, build_parser, main
from tests.fixtures.forks import run_python
from tests.fixtures.subprocesses import REPOSITORY

WITHOUT_MATPLOTLIB = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'")

sys.meta_path.insert(0, Missing())
from froster_hf.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_matplotlib(*arguments):
    return run_python("-c", WITHOUT_MATPLOTLIB, *arguments)


def test_every_extra_of_the_table_is_one_of_the_package():
    required, _, optional = (REPOSITORY / "pyproject.toml").read_text().partition("optional-dependencies")
    assert all(f"\n{name} = [" in optional for name in extras.EXTRAS)
    assert "matplotlib" not in required


def test_every_extra_is_installed_by_a_target_of_the_makefile():
    """What no target installs, no test runs."""
    _, _, section = (REPOSITORY / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")
    _, *parts = re.split(r"^([a-z-]+) = ", section.partition("\n[")[0], flags=re.MULTILINE)
    packages = dict(zip(parts[::2], parts[1::2]))
    named = ",".join(re.findall(r'-e "\.\[(.*?)\]"', (REPOSITORY / "Makefile").read_text())).split(",")
    brought = ",".join(names for name in named for names in re.findall(r"froster-hf\[(.*?)\]", packages[name])).split(
        ","
    )
    assert {*named, *brought} == set(packages)


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "toys", extras.Extra("no_such_module", "toys"))
    assert not extras.is_installed("toys")
    with pytest.raises(ImportError, match=r"brings toys: pip install 'froster-hf\[toys\]'"):
        extras.import_extra("toys")


def test_a_picture_without_matplotlib_is_refused_before_the_work(tmp_path):
    ended = without_matplotlib("timeline", "nowhere.mp4", "--labels", "a,b", "--output", str(tmp_path / "a.png"))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "pip install 'froster-hf[plots]'" in ended.stderr


def test_the_app_without_gradio_is_refused_before_the_work(monkeypatch, capsys):
    monkeypatch.setitem(extras.EXTRAS, "app", extras.Extra("no_such_module", "the web page"))
    assert main(["app", "--model", "nowhere"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "pip install 'froster-hf[app]'" in told


def test_info_says_what_is_missing_and_how_to_get_it():
    ended = without_matplotlib("info")
    assert ended.returncode == 0
    assert "plots         not installed; brings pictures" in ended.stdout
    assert "small         ships with the package" in ended.stdout


def test_froster_alone_shows_the_everyday_questions_with_commands_that_exist(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == QUESTIONS
    import shlex

    commands = [line for line in QUESTIONS.splitlines() if line.startswith("    froster ")]
    assert len(commands) == 13
    for command in commands:
        build_parser().parse_args(shlex.split(command)[1:])
