"""The notebooks run from top to bottom without network, and are stored with pictures and nothing of a machine."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES = 300_000
# Of people, machines and temporary folders.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(home|Users|root|tmp|work|mnt|opt|usr)/|[A-Z]:\\\\|file://")


def ids(path: Path) -> str:
    return path.stem


def test_both_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["fine_tuning", "zero_shot"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_a_notebook_is_small_complete_and_free_of_its_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_BYTES
    assert not MACHINE_PATH.search(text)
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run once, from top to bottom"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_a_notebook_runs_as_it_is_written(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stdout"
    )
    if path.stem == "zero_shot":
        assert "a blue square spinning" in printed
        assert "none of these" in printed
    else:
        ((before, trained),) = re.findall(r"frozen CLIP ([\d.]+) %, trained ([\d.]+) %", printed)
        assert float(trained) > float(before)
        assert "## Training" in printed
