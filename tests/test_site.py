"""The documents as a site and as files: every page can be found, links lead to files, and blocks are run by a test."""

import pkgutil
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import froster_hf
from froster_hf.cli import build_parser
from tests.fixtures.pages import ROOT, RUNNERS, blocks_of, documents, running_tests, runs

DOCS = ROOT / "docs"
DOCUMENTS = documents()
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


@pytest.mark.parametrize("page", DOCUMENTS)
def test_links_lead_to_files_and_headings(page):
    path = ROOT / page
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target, anchor in LINK.findall(text):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_pictures_are_small():
    assert all(path.stat().st_size < 100_000 for path in (DOCS / "images").iterdir())


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_block_is_run_by_a_test_or_says_why_not(page):
    """What `runs` gives to a test is run by it as a whole, or the test fails."""
    blocks = blocks_of(page)
    fences = re.findall(r"^\s*(?:```|~~~).*$", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
    assert len(fences) == 2 * len(blocks), "a block is indented, not closed, or within another"
    assert {block.language for block in blocks} <= set(RUNNERS), "say what language a block is in"
    tests, left = running_tests().get(page, []), [block for block in blocks if block.reason is None]
    assert bool(tests) == bool(left), (
        f"{page}: {len(left)} blocks are to be run, from line {left[0].line if left else 0}, by {tests}; decorate a "
        "test with `runs`, or write `<!-- not run: REASON -->` in the line before a block that cannot be run"
    )


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, block, id=f"{page}:{block.line}")
        for page in DOCUMENTS
        for block in blocks_of(page)
        if block.reason is not None
    ],
)
def test_a_block_that_is_not_run_can_be_typed(page, block):
    """Python compiles, the shell takes the options, extras, files and the stated test are there."""
    for file in re.findall(r"tests/[\w/]+\.py", block.reason):
        assert (ROOT / file).is_file(), file
    if block.language == "python":
        compile(block.code, page, "exec")
        return
    extras = metadata.metadata("froster-hf").get_all("Provides-Extra")
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if words[:1] == ["froster"]:
            build_parser().parse_args(words[1:])
        assert all((ROOT / word).is_file() for word in words if word.startswith(("examples/", "benchmarks/"))), line
        assert set(re.findall(r"froster-hf\[([\w-]+)\]", line)) <= set(extras), line


# What a command printed begins with the command; tests/test_benchmarks.py and tests/shapes/study hold these.
PRINTED = ("benchmarks/", "docs/study/")


@pytest.mark.parametrize("page", [page for page in DOCUMENTS if not page.startswith(PRINTED)])
def test_code_stands_in_fenced_blocks(page):
    """An indented block has no language, and nothing runs it."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    paragraphs = re.split(r"\n\s*\n", text)
    indented = [part for part in paragraphs if part.startswith("    ")]
    assert not indented, indented[0]


def test_a_test_that_leaves_blocks_out_fails():
    @runs("docs/guides/score.md")
    def leaves_the_python_out(page):
        page.take("bash")

    with pytest.raises(AssertionError, match=r"docs/guides/score\.md: \d blocks were not run, from line"):
        leaves_the_python_out(page="docs/guides/score.md")


def test_all_pages_that_tests_run_are_there():
    assert set(running_tests()) <= set(DOCUMENTS)
    assert [page for page, tests in running_tests().items() if len(tests) > 1] == []


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
