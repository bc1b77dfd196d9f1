"""Which part of the package may import which, what importing costs, and that registration never comes too early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.forks import run_python

PACKAGE = Path(__file__).parents[1] / "froster_hf"
# Third parties of the flat files that are copied into Hub repositories; all come with transformers and torchvision,
# or are guarded where they are imported.
FLAT = {
    "torch",
    "torchvision",
    "transformers",
    "huggingface_hub",
    "numpy",
    "PIL",
    "av",
    "tqdm",
}
# Small modules of the standard library (and PyYAML), which every part may import, but not what is copied into
# repositories.
FOUNDATION = {
    "extras",
    "checkpoint_files",
    "checkpoint_loading",
    "child_environment",
    "fingerprints",
    "foreign_code",
    "hub_cache",
    "machine_memory",
    "printing",
    "processes",
    "quantization_files",
    "settings",
    "weights_license",
    "whole_files",
}
# Part of the package -> the parts that it may import.
ALLOWED = {
    "modeling": set(),
    "video": set(),
    "processing": {"video"},
    # Models and processors reach it through transformers' Auto classes.
    "pipeline": {"video"},
    # Of the evaluation, its metrics: there is one accuracy under each name. Of the conversion, how files of torch.save
    # and of weights are read that nobody has vouched for.
    "training": {"modeling", "processing", "video", "data", "evaluation", "conversion"},
    # Of the pipeline, how logits become evidence, and the calibration that is fitted to it.
    "evaluation": {"processing", "video", "data", "pipeline"},
    "data": {"processing", "video"},
    "conversion": {"modeling", "processing"},
    # Of the training, the record that a run leaves for the card of its model.
    "hub": {"modeling", "processing", "data", "conversion", "evaluation", "training"},
    "integrations": {"processing", "pipeline", "data", "hub", "video", "evaluation"},
    "assets": set(),
    # The catalogue and the kinds of recipes name this part as text; nothing of the library imports it.
    "shapes": {"assets", "modeling", "processing", "data", "training", "evaluation"},
}


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imported_modules(file: Path) -> set[str]:
    """Absolute names of everything that a file imports, at any depth of its code."""
    package = ["froster_hf", *file.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            found.add(".".join([*base, node.module or ""]).rstrip("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def own_parts(modules: set[str]) -> set[str]:
    """The parts of the package among imported modules."""
    return {name.split(".")[1] for name in modules if name.startswith("froster_hf.")}


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_only_what_the_design_allows(part):
    files = python_files(PACKAGE / part) or [PACKAGE / f"{part}.py"]
    wrong = {
        str(file.relative_to(PACKAGE)): forbidden
        for file in files
        if file.exists() and (forbidden := own_parts(imported_modules(file)) - ALLOWED[part] - {part} - FOUNDATION)
    }
    assert not wrong


def test_decoding_needs_nothing_of_transformers():
    allowed = {"av", "decord", "froster_hf", "fsspec", "numpy", "torch", "torchcodec", *sys.stdlib_module_names}
    for file in python_files(PACKAGE / "video"):
        third_parties = {name.split(".")[0] for name in imported_modules(file)} - allowed
        assert not third_parties, f"{file}: {third_parties}"


def test_nothing_imports_the_command_line():
    entry = {PACKAGE / "__main__.py"}
    files = [
        file for file in python_files(PACKAGE) if file.relative_to(PACKAGE).parts[0] != "cli" and file not in entry
    ]
    assert len(files) > 20
    assert not [file for file in files if "cli" in own_parts(imported_modules(file))]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*_froster.py")), ids=lambda file: file.name)
def test_flat_files_import_only_their_folder_and_what_transformers_needs(file):
    """They are copied into Hub repositories, where neither this package nor a folder structure exists."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"line {node.lineno}: the dynamic loader cannot follow `from ..`"
            assert node.module, f"line {node.lineno}: the dynamic loader cannot follow `from . import`"
            assert (file.parent / f"{node.module}.py").exists(), f"line {node.lineno}: {node.module}"
    third_parties = {name.split(".")[0] for name in imported_modules(file)} - set(sys.stdlib_module_names)
    assert third_parties <= FLAT | {"froster_hf"}, third_parties - FLAT
    assert own_parts(imported_modules(file)) <= {file.parent.name}


def run(script: str) -> str:
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = run(
        "import sys, froster_hf\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'av', 'datasets', 'matplotlib') if m in sys.modules])"
    )
    assert heavy == "[]"


@pytest.mark.parametrize(
    "order",
    [
        "import froster_hf; from transformers import AutoModel, AutoConfig",
        "import froster_hf; from transformers import AutoConfig, AutoModel",
        "from transformers import AutoConfig, AutoModel; import froster_hf",
        "import froster_hf; from transformers import CLIPModel, AutoConfig, AutoModel",
        "import froster_hf; from transformers import pipeline, AutoConfig, AutoModel",
        "from froster_hf import FrosterModel; from transformers import AutoConfig, AutoModel",
        "import froster_hf.modeling.modeling_froster; from transformers import AutoConfig, AutoModel",
    ],
)
def test_auto_classes_know_the_package_in_every_order_of_imports(order):
    script = f"{order}\nprint(AutoModel._model_mapping[type(AutoConfig.for_model('froster'))].__name__)"
    finished = run_python("-c", script)
    assert finished.stdout == "FrosterModel\n", finished.stderr[-3000:]


IN_THREADS = """
import threading, time
import froster_hf

def later(seconds, statement):
    time.sleep(seconds)
    exec(statement)

threads = [
    threading.Thread(target=later, args=(0, "from transformers import AutoModel"), daemon=True),
    threading.Thread(target=later, args=(1, "from transformers import CLIPModel"), daemon=True),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(timeout=120)
assert not any(thread.is_alive() for thread in threads), "deadlock"
from transformers import AutoConfig, AutoModel
print(AutoModel._model_mapping[type(AutoConfig.for_model("froster"))].__name__)
"""


def test_imports_in_several_threads_do_not_wait_for_each_other():
    assert run(IN_THREADS) == "FrosterModel"
