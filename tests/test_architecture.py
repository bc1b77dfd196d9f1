"""docs/architecture.md names only what is there, and CONTRIBUTING.md too."""

import importlib
import re
from pathlib import Path

import pytest

from tests.test_imports import ALLOWED, PACKAGE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FLOWS = {
    title: re.findall(r"^\d\. `([\w/.]+)`", text, re.M)
    for title, text in re.findall(r"^### (.*?)\n(.*?)(?=^##)", PAGE, re.M | re.S)
}
TABLES = re.findall(r"^\| `([A-Z_]+)` \| `([\w/.]+)\.py` \|", PAGE, re.M)


def test_every_file_that_is_named_is_there():
    named = re.findall(r"`([\w/]+/[\w.]+\.\w+)`", PAGE + CONTRIBUTING.partition("## How to add")[2])
    assert len(named) > 40
    missing = [
        name
        for name in set(named)
        if not (PACKAGE / name).is_file() and not (ROOT / name).is_file() and "*" not in name
    ]
    assert not missing


def test_every_flow_is_read_in_six_files():
    assert len(FLOWS) == 5
    for title, files in FLOWS.items():
        assert 3 <= len(set(files)) == len(files) <= 6, title


@pytest.mark.parametrize(("table", "file"), TABLES)
def test_every_table_is_in_its_file_and_has_members(table, file):
    module = importlib.import_module(f"froster_hf.{file.replace('/', '.').removesuffix('.__init__')}")
    assert len(getattr(module, table)) > 1


def test_the_directions_of_imports_are_those_that_are_tested():
    stated = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("## Who imports whom")[2], re.M))
    assert {part: set(re.findall(r"`(\w+)`", text)) for part, text in stated.items()} == ALLOWED
