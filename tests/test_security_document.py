"""SECURITY.md promises nothing that no test holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^- .*?(?=^- |^\*\*|^## |\Z)", DOCUMENT.partition("## What is promised")[2], re.M | re.S)
PROMISES = [promise for promise in PROMISES if promise in DOCUMENT.partition("## What is not promised")[0]]
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)


def test_every_promise_names_a_test():
    assert len(PROMISES) > 15
    assert [promise for promise in PROMISES if "::test_" not in promise] == []


@pytest.mark.parametrize(("file", "name"), TESTS, ids=[name for _, name in TESTS])
def test_the_named_tests_are_there(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
