"""Gets transformers' own tests, of exactly the installed version, from its source distribution on the package index.

They are kept in a cache folder outside of the repository (`$XDG_CACHE_HOME/froster-hf`, else `~/.cache/froster-hf`)
and imported from there as the package `transformers_tests`. What they import from folders that the distribution
leaves out is replaced by the few stand-ins below; no line of transformers is copied into the repository.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

import transformers

PACKAGE = "transformers_tests"
# Of transformers' tests alone; this package needs them for nothing.
REQUIREMENTS = ("parameterized",)


def cache_folder() -> Path:
    """Where the tests of the installed version are, or will be."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "froster-hf" / f"transformers-{transformers.__version__}"


def fetch() -> Path:
    """Download the tests and what they need unless they are there; return their folder.

    Raises:
        subprocess.CalledProcessError: pip cannot get them, for example without a network.
    """
    folder = cache_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        name = f"transformers=={transformers.__version__}"
        subprocess.run([*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", work, name], check=True)
        (archive,) = Path(work).glob("transformers-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
        made = Path(work) / "made"
        shutil.copytree(Path(work) / archive.name.removesuffix(".tar.gz") / "tests", made / "tests")
        # The distribution has no package file; the tests load the folder as if it had.
        (made / "tests" / "__init__.py").touch()
        subprocess.run([*pip, "install", "--no-deps", "--target", str(made / "packages"), *REQUIREMENTS], check=True)
        made.rename(folder)
    return folder


def module(name: str, **attributes: object) -> ModuleType:
    """A stand-in for a module that the distribution leaves out."""
    made = ModuleType(name)
    vars(made).update(attributes)
    sys.modules[name] = made
    return made


def load(name: str) -> ModuleType:
    """A module of transformers' tests, such as `test_modeling_common`.

    Raises:
        FileNotFoundError: they have not been fetched.
    """
    if PACKAGE not in sys.modules:
        folder = cache_folder()
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing; `make test-transformers` fetches it.")
        sys.path.append(str(folder / "packages"))
        module(PACKAGE).__path__ = [str(folder / "tests")]
        # Exporters have tests of their own here (tests/hub/test_serving.py), and nothing generates.
        module(f"{PACKAGE}.exporters").__path__ = []
        module(f"{PACKAGE}.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
        module(f"{PACKAGE}.generation").__path__ = []
        module(f"{PACKAGE}.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
        # Keywords that configurations share; not used for those that are made of others.
        module(f"{PACKAGE}.utils").__path__ = []
        module(f"{PACKAGE}.utils.test_configuration_utils", config_common_kwargs={})
        # Finds a cached copy of a file on the Hub: there is none.
        module("fetch_hub_objects_for_ci", url_to_local_path=lambda url: url)
    return importlib.import_module(f"{PACKAGE}.{name}")


if __name__ == "__main__":
    fetch()
