"""Code that a checkpoint's files name, and whose it is.

With `trust_remote_code=True`, transformers runs the code that `auto_map` and `custom_pipelines` name, also that of
another repository (`owner/name--module.Class`). A folder that this package writes therefore names only code that lies
in the folder and is this package's own, byte for byte; everything else is dropped, whoever put it there.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .checkpoint_files import finder
from .printing import listing, printable

PACKAGE = Path(__file__).parent
# Tables whose keys are labels or tokens, which may be called anything; transformers reads references in none of them.
KEYED_BY_TEXTS = frozenset(["id2label", "label2id", "label_descriptions", "vocab"])
# The files of a checkpoint of which something is loaded and saved again.
SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
)
# What transformers writes of a pipeline; older releases have `tf`. Of another, its loader asks for its defaults.
PIPELINE_FIELDS = {"impl", "pt", "tf", "type"}
CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
RELATIVE_IMPORT = re.compile(r"^\s*(?:from\s+\.(\w+)\s+import|import\s+\.(\w+))", re.MULTILINE)


def drop_foreign_code(folder: Path) -> list[str]:
    """Remove Python files that are not this package's, and references to code from every JSON file.

    References to this package's own files in the same folder stay. Files in which nothing is dropped are not touched.

    Args:
        folder: folder of a checkpoint that is being written.

    Returns:
        What was dropped, one line each, such as "tokenizer_config.json: AutoTokenizer: 'owner/name--module.Class'".

    Raises:
        ValueError: a JSON file of the folder cannot be read.
    """
    dropped = []
    files = [*sorted(folder.rglob("*.py")), *sorted(folder.rglob("*.json"))]
    for path, content, found in _with_foreign_code(folder, files):
        if path.suffix == ".py":
            path.unlink()
        else:
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        dropped += found
    return dropped


def refuse_foreign_code(folder: Path, files: Iterable[Path]) -> None:
    """Raise where `drop_foreign_code` would drop something from files of a folder that is published as it is.

    Args:
        folder: folder of a checkpoint.
        files: Python and JSON files in it.

    Raises:
        ValueError: names what, or a JSON file that cannot be read.
    """
    found = [line for _, _, lines in _with_foreign_code(folder, files) for line in lines]
    if found:
        raise ValueError(
            f"{printable(str(folder))} holds or names code that is not this package's: {listing(found, limit=3)}. "
            "`froster export` of this folder leaves it out."
        )


def foreign_code_of(checkpoint: str | os.PathLike[str], copy: Path) -> list[str]:
    """What the settings of a checkpoint name that loading left out, one line each as of `drop_foreign_code`.

    Args:
        checkpoint: a folder, or a name on the Hub, that has been loaded.
        copy: the folder that it was saved to, with this package's code.

    Raises:
        ValueError: a JSON file of the checkpoint cannot be read.
    """
    find, own = finder(checkpoint, {}), own_modules(copy)
    files = {name: find(name) for name in SETTINGS}
    return [
        f"{name}: {reference}"
        for name, file in files.items()
        if file is not None
        for reference in _drop_references(_read(Path(file)), own)
    ]


def _with_foreign_code(folder: Path, files: Iterable[Path]) -> Iterator[tuple[Path, Any, list[str]]]:
    """Files that are foreign code, or name some: each with what is left of its JSON, and what is not, a line each."""
    own = own_modules(folder)
    for path in files:
        name = printable(path.relative_to(folder).as_posix())
        if path.suffix == ".py":
            if path.parent != folder or path.stem not in own:
                yield path, None, [f"{name}: not code of this version of froster-hf"]
            continue
        # Code is looked for beside the file that names it.
        content = _read(path)
        if references := list(_drop_references(content, own if path.parent == folder else {})):
            yield path, content, [f"{name}: {reference}" for reference in references]


def own_modules(folder: Path) -> dict[str, set[str]]:
    """Modules in the folder that are copies of files of this package, and so is everything that they import; each with
    its classes."""
    originals: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        originals.setdefault(path.name, []).append(path)
    own = {
        path.stem
        for path in folder.glob("*.py")
        if path.is_file() and any(_is_copy(path, original) for original in originals.get(path.name, ()))
    }
    texts = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in own}
    needs = {
        name: {found for pair in RELATIVE_IMPORT.findall(text) for found in pair if found}
        for name, text in texts.items()
    }
    while broken := {name for name in own if not needs[name] <= own}:
        own -= broken
    return {name: set(CLASS.findall(texts[name])) for name in own}


def _is_copy(path: Path, original: Path) -> bool:
    return path.stat().st_size == original.stat().st_size and path.read_bytes() == original.read_bytes()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{printable(str(path))} cannot be read as JSON: {reason}.") from error


def _drop_references(content: Any, own: Mapping[str, set[str]]) -> Iterator[str]:
    """Delete references to code that is not in `own`, at any depth but below labels or tokens; yields what."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            for field in ("auto_map", "custom_pipelines"):
                # A number is the place of a token of this name, as in vocab.json.
                if field in value and not isinstance(value[field], int):
                    yield from _drop_entries(value, field, own)
            pending += [entry for name, entry in value.items() if name not in KEYED_BY_TEXTS]


def _drop_entries(holder: dict[str, Any], field: str, own: Mapping[str, set[str]]) -> Iterator[str]:
    entries = holder[field]
    if not isinstance(entries, dict):
        # Older releases of transformers wrote the tokenizer's classes without a name.
        del holder[field]
        yield f"{field}: {printable(repr(entries), limit=200)}"
        return
    for name, entry in list(entries.items()):
        is_pipeline = field == "custom_pipelines" and isinstance(entry, dict)
        named = entry.get("impl") if is_pipeline else entry
        if not _is_own(named, own) or (is_pipeline and not _loads_models(entry)):
            named = entry if _is_own(named, own) else named
            del entries[name]
            yield f"{printable(name, limit=200)}: {printable(repr(named), limit=200)}"
    if not entries:
        del holder[field]


def _is_own(named: Any, own: Mapping[str, set[str]]) -> bool:
    """Whether a reference, or each of a slow and a fast tokenizer's, is `module.Class` of a module in `own`."""
    classes = [entry for entry in named if entry is not None] if isinstance(named, list) else [named]
    return all(
        isinstance(entry, str) and entry.count(".") == 1 and entry.split(".")[1] in own.get(entry.split(".")[0], ())
        for entry in classes
    )


def _loads_models(pipeline: Mapping[str, Any]) -> bool:
    """Whether a pipeline is as transformers writes one: its loader uses whatever of its own is named as `pt`."""
    from transformers.models import auto

    models = pipeline.get("pt")
    return pipeline.keys() <= PIPELINE_FIELDS and all(
        isinstance(name, str) and name.startswith("AutoModel") and hasattr(auto, name)
        for name in (models if isinstance(models, list) else [models])
    )
