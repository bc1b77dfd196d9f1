"""Every block of the pages of docs/integrations runs, in order and as written, where the page's library is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.pages import runs
from tests.fixtures.subprocesses import environment

FOLDER = Path(__file__).parents[2] / "docs" / "integrations"


@runs(
    "docs/integrations/adapters.md",
    "docs/integrations/batches.md",
    "docs/integrations/fiftyone.md",
    "docs/integrations/label_studio.md",
    "docs/integrations/mteb.md",
    "docs/integrations/quantization.md",
    "docs/integrations/sentence_transformers.md",
)
def test_every_block_of_a_page_runs(page, workplace):
    code = page.take("python")
    for library in re.findall(r"^import (\w+)|^from (\w+)", code, flags=re.MULTILINE):
        name = "".join(library)
        pytest.importorskip(name, reason=f"{page.name} uses {name}, which is not installed", exc_type=ImportError)
    script = workplace / "page.py"
    script.write_text(code)
    run = subprocess.run([sys.executable, script.name], env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_links_of_pages_lead_to_files():
    for page in FOLDER.glob("*.md"):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert os.path.exists(page.parent / target), f"{page.name}: {target}"
