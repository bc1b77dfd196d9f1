"""Hooks of the documentation site: pages that live elsewhere in the repository, and the links to them.

The documents are written for the repository, where `../benchmarks/towers.md` leads to a file. The site holds a copy of
every file that a page links to, and the link leads there.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages of the site that are files of the repository outside of docs/, in the order of the navigation.
PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(\))")
# Docstrings name classes as those of transformers do: [`FrosterConfig`], [`~transformers.Trainer`].
NAMED = re.compile(r"\[<code>(~?)([\w.]+)</code>\]")
CELL = re.compile(r"<td([^>]*)>(.*?)</td>", re.S)
ANCHOR = re.compile(r'id="(froster_hf\.[\w.]+)"')


def site_path(repository_path: str) -> str:
    """Where the site keeps a file of the repository; both relative, with forward slashes."""
    if repository_path.startswith("docs/"):
        return repository_path.removeprefix("docs/")
    return PAGES.get(repository_path, f"repository/{repository_path}")


def repository_path(site_path_of_page: str) -> str:
    """The file of the repository that a page of the site shows."""
    for outside, inside in PAGES.items():
        if inside == site_path_of_page:
            return outside
    if site_path_of_page.startswith("repository/"):
        return site_path_of_page.removeprefix("repository/")
    return f"docs/{site_path_of_page}"


def linked_files(text: str, source: str) -> list[str]:
    """The files of the repository that a document links to."""
    folder = posixpath.dirname(source)
    targets = [posixpath.normpath(posixpath.join(folder, match[2])) for match in LINK.finditer(text)]
    return [target for target in targets if (ROOT / target).is_file()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of docs/ and is linked from a page, directly or by way of another such file."""
    waiting = [repository_path(file.src_uri) for file in files.documentation_pages()] + list(PAGES)
    seen: set[str] = set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        if not source.startswith("docs/"):
            content = (ROOT / source).read_bytes()
            files.append(File.generated(config, site_path(source), content=content))
        if source.endswith(".md"):
            waiting += linked_files((ROOT / source).read_text(encoding="utf-8"), source)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between files of the site."""
    source = repository_path(page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri)

    def relink(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        if not (ROOT / target).is_file():
            return match[0]  # MkDocs says what is wrong with it.
        return f"{match[1]}{posixpath.relpath(site_path(target), here or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(relink, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mark the cells of tables that hold sentences; the style sheet gives them room."""

    def mark(match: re.Match[str]) -> str:
        attributes, content = match.groups()
        long = len(re.sub("<[^>]+>", "", content)) > 40
        return f"<td{attributes}{' data-sentence' * long}>{content}</td>"

    return CELL.sub(mark, html)


def on_env(env, config: MkDocsConfig, files: Files) -> None:
    """Turn the names in docstrings into links to where the reference has them; others are shown as code."""
    shown = [file.page for file in files.documentation_pages() if file.page is not None and file.page.content]
    place: dict[str, tuple[str, str]] = {}
    for page in shown:
        for anchor in ANCHOR.findall(page.content):
            place.setdefault(anchor.rpartition(".")[2], (page.file.url, anchor))

    for page in shown:

        def link(match: re.Match[str], here: str = page.file.url) -> str:
            name = match[2].rpartition(".")[2] if match[1] else match[2]
            if match[2] not in place:
                return f"<code>{name}</code>"
            url, anchor = place[match[2]]
            target = "" if url == here else posixpath.relpath(url, posixpath.dirname(here) or ".")
            return f'<a href="{target}#{anchor}"><code>{name}</code></a>'

        page.content = NAMED.sub(link, page.content)
