"""The documents as a site and as files: every page can be found, links lead to files, and blocks are run by a test."""

import pkgutil
import re
from pathlib import Path

import pytest
import yaml

import froster_hf
from tests.test_readme import BLOCK, PAGES, ROOT

DOCS = ROOT / "docs"
DOCUMENTS = sorted(
    [
        *DOCS.rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "model_cards").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name functions of Python; none is imported."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def pages(entry) -> list[str]:
    """The files of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]


def test_every_document_is_in_the_navigation_once():
    with open(ROOT / "mkdocs.yml", encoding="utf-8") as file:
        listed = pages(yaml.load(file, Loader)["nav"])
    assert len(listed) == len(set(listed))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written <= set(listed), f"not in the navigation: {written - set(listed)}"
    assert set(listed) - written == {"contributing.md", "security.md", "changelog.md"}


def anchors(path: Path) -> set[str]:
    """The headings of a document as GitHub and the site write them into addresses."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target, anchor in LINK.findall(text):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_pictures_are_small():
    assert all(path.stat().st_size < 100_000 for path in (DOCS / "images").iterdir())


def test_every_page_with_commands_is_run_by_a_test():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for path in DOCUMENTS:
        name = path.relative_to(ROOT).as_posix()
        found = [match for match in BLOCK.finditer(path.read_text(encoding="utf-8")) if not match["reason"]]
        if not any(match["language"] in ("bash", "python") for match in found) or name in PAGES:
            continue
        if path.parent == DOCS / "integrations":  # tests/integrations/test_pages.py runs Python blocks.
            assert all(match["language"] == "python" for match in found), f"{name}: say why the other is not run"
            continue
        assert path.name in tests or f'"{path.stem}"' in tests, f"{name} has blocks that no test names"


def test_messages_of_the_troubleshooting_page_are_those_of_the_program():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "froster_hf").rglob("*.py"))
    joined = re.sub(r"[\"']\s*\n\s*f?[\"']", "", source)  # one text from the pieces of a message
    messages = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.M)
    assert len(messages) > 10
    theirs = ["Unknown task zero-shot-video-classification"]  # transformers' own
    assert [message for message in messages if message not in joined] == theirs


def test_every_public_name_is_in_the_reference():
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    assert set(froster_hf.__all__) <= set(re.findall(r"^::: froster_hf\.(\w+)$", pages, flags=re.M))
    documented = re.findall(r"^::: ([\w.]+)$", pages, flags=re.M)
    assert len(documented) == len(set(documented))
    for name in documented:  # A module need not be importable: it may be of a tool that is not installed.
        folder = ROOT / name.replace(".", "/")
        if not folder.is_dir() and not folder.with_suffix(".py").is_file():
            pkgutil.resolve_name(name)
