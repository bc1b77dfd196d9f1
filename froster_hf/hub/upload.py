"""An exported folder onto the Hub, through huggingface_hub's own client."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCardData
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..checkpoint_files import CONFIG, VOCABULARIES, check_checkpoint_files, read_configuration
from ..conversion.convert import read_report
from ..conversion.reading import weight_files
from ..foreign_code import refuse_foreign_code
from ..modeling.configuration_froster import CALLERS_FIELDS, FrosterConfig
from ..printing import listing, one_line, printable
from ..processing.text_files import read_json
from ..processing.tokenizer_files import KEPT_FILES, check_processor_files
from ..quantization_files import refuse_other_quantizers
from ..settings import MAX_CHARACTERS, read_yaml_file
from ..weights_license import CARD_FILE, REPORT_FILE, card_metadata
from ..whole_files import refuse_link
from .export_folder import SENTENCE_TRANSFORMERS_FILES, load_for_export
from .serving import TOWERS_FILE

# What an export writes. Training leaves other files behind, and `training_args.bin` may hold an access token.
UPLOADED = [
    *(CARD_FILE, REPORT_FILE, ".eval_results/*.yaml", "*_froster.py", *SENTENCE_TRANSFORMERS_FILES),
    *(SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, "model-*-of-*.safetensors", *KEPT_FILES),
    *("towers/*.onnx", "towers/*.onnx.data", f"towers/{TOWERS_FILE}"),
]
# `torch.export.load` runs what such a file holds, and nothing tells a stranger's from one's own.
PROGRAMS = "towers/*.pt2"
# Too large to be held from the check to the commit: the client reads them as it sends them.
LARGE = (".safetensors", ".onnx", ".data")
# In a repository, it has transformers load what it names in place of the model beside it.
ADAPTER = "adapter_config.json"


def push_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload FROSTER checkpoint",
    api: HfApi | None = None,
) -> CommitInfo:
    """Upload what `export_checkpoint` wrote, in one commit; other files in the folder stay where they are.

    So do towers as programs of torch.export, with a warning: they are code, and would be published unseen. What an
    export before this one has uploaded and this one lacks, such as weights that are read before its shards, is deleted
    in the same commit, and so is the configuration of an adapter, which would answer in the model's place; the
    repository's other files stay.

    Args:
        folder: folder of the export.
        repo_id: `user/name`; made if it does not exist.
        private: for a repository that is made; by default the owner's setting.
        revision: branch.
        create_pr: open a pull request rather than commit.
        commit_message: message of the commit.
        api: the client, with its token and endpoint; by default the environment's.

    Raises:
        ValueError: the folder is not an export, or has files that are not its own (see `check_checkpoint_files`), or
            a link in the place of a folder; or it holds or names code that is not this version of the package's, or
            something else to load, such as kernels (see `check_processor_files`); or the metadata of its card, its
            weights, its measurements or the report of its conversion cannot be read; or it does not load, or a file
            changes or vanishes meanwhile.
        huggingface_hub.errors.HfHubHTTPError: the Hub refuses, also where somebody else commits meanwhile.
    """
    # The client would read a `~` or `..` in it another way.
    folder, api = Path(folder).resolve(), api or HfApi()
    uploaded = sorted({path for pattern in UPLOADED for path in folder.glob(pattern)})
    checked = {path: _state(path) for path in uploaded}
    _refuse_unsound(folder, uploaded)
    _refuse_changed(checked)  # what has become a pipe would be waited for
    added = {path: path if path.suffix in LARGE else path.read_bytes() for path in uploaded}
    _refuse_changed(checked)
    if programs := sorted(path.name for path in folder.glob(PROGRAMS)):
        warnings.warn(
            f"{listing(programs)} of {printable(str(folder / 'towers'))} are not uploaded: `torch.export.load` runs "
            "what they hold. Upload those that you have exported yourself with `huggingface_hub`.",
            stacklevel=2,
        )
    created = api.create_repo(repo_id, private=private, exist_ok=True)
    names = {path.relative_to(folder).as_posix(): content for path, content in added.items()}
    before = api.model_info(created.repo_id, revision=revision)
    former = [
        file.rfilename
        for file in before.siblings or ()
        if any(PurePosixPath("/", file.rfilename).match(f"/{pattern}") for pattern in (*UPLOADED, ADAPTER))
    ]
    read_later = {path: state for path, state in checked.items() if added[path] is path}
    _refuse_changed(read_later)
    commit = api.create_commit(
        created.repo_id,
        [
            *(CommitOperationDelete(name) for name in former if name not in names),
            *(CommitOperationAdd(name, content) for name, content in names.items()),
        ],
        commit_message=commit_message,
        revision=revision,
        create_pr=create_pr,
        # The Hub refuses it where somebody has committed meanwhile, whose files would be mixed with these.
        parent_commit=before.sha,
    )
    _refuse_changed(read_later)
    return commit


def _state(path: Path) -> tuple[int, ...]:
    """What differs once a file, or what a link leads to, is another or is written to; nothing of one that is gone."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _refuse_changed(checked: Mapping[Path, tuple[int, ...]]) -> None:
    """Raise where files are not as they were before they were checked.

    Raises:
        ValueError: names them.
    """
    if changed := [str(path) for path, state in checked.items() if _state(path) != state]:
        raise ValueError(
            f"{listing(changed, limit=5)} changed since the check of the folder, and may have been uploaded as that. "
            "Upload the folder again when nothing else writes to it."
        )


def _refuse_unsound(folder: Path, uploaded: Sequence[Path]) -> None:
    """Refuse a folder that is not an export as a whole.

    Args:
        folder: resolved.
        uploaded: the files in it that an export writes.

    Raises:
        ValueError: see `push_folder`.
    """
    needed = (CONFIG, CARD_FILE, "pipeline_froster.py")
    missing = [name for name in needed if folder / name not in uploaded]
    missing = missing or [printable(name) for name in weight_files(folder)[0] if folder / name not in uploaded]
    if missing:
        raise ValueError(f"{folder} lacks {listing(missing)}: upload the folder that `froster export` writes.")
    # The client would follow links.
    for part in {path.parent for path in uploaded}:
        if part != folder:
            refuse_link(part)
        check_checkpoint_files(part)
    # Of vocabularies, transformers reads nothing that would name code, and towers are read by other programs.
    read = [path for path in uploaded if path.parent == folder and path.suffix in (".py", ".json")]
    refuse_foreign_code(folder, [path for path in read if path.name not in VOCABULARIES])
    check_processor_files(folder)
    _refuse_other_kernels(folder / CONFIG)
    for name in SENTENCE_TRANSFORMERS_FILES:
        _refuse_other_settings(folder / name)
    _refuse_bad_metadata(folder / CARD_FILE)
    _refuse_other_formats(folder, uploaded)
    # What does not load would take the place of what does.
    load_for_export(folder)


def _refuse_other_kernels(file: Path) -> None:
    """Refuse a configuration that chooses what only its reader does, such as kernels of any repository, or a method of
    quantization that may fetch some.

    Raises:
        ValueError: it does.
    """
    config = read_configuration(file)
    refuse_other_quantizers(config, where=os.fspath(file))
    parts = [config, *(config.get(tower) for tower in FrosterConfig.sub_configs)]
    default = PreTrainedConfig()  # of which transformers writes every field
    chosen = {
        name
        for part in parts
        if isinstance(part, Mapping)
        for name in CALLERS_FIELDS
        if part.get(name) and part[name] != getattr(default, name, None)
    }
    if chosen:
        raise ValueError(
            f"{printable(str(file))} has {', '.join(sorted(chosen))}, which whoever loads a model chooses. "
            "`froster export` of this folder leaves it out."
        )


def _refuse_other_settings(file: Path) -> None:
    """Refuse settings of Sentence Transformers that no export has: modules and arguments for their loaders may be code
    of any repository, and prompts would go before every text.

    Raises:
        ValueError: there are some.
    """
    if file.exists() and read_json(file) != SENTENCE_TRANSFORMERS_FILES[file.name]:
        raise ValueError(f"{printable(str(file))} has other modules or settings than an export has. Delete the file.")


def _refuse_other_formats(folder: Path, files: Sequence[Path]) -> None:
    """Refuse weights, measurements and a report that are not in the format of their names, whatever else they are, and
    more measurements than are read: each may be a link to one file.

    Raises:
        ValueError: one is not.
    """
    read_report(folder / REPORT_FILE)
    if (size := sum(path.stat().st_size for path in files if path.suffix == ".yaml")) > MAX_CHARACTERS:
        raise ValueError(
            f"{printable(str(folder))} has {size} bytes of measurements in .eval_results; at most {MAX_CHARACTERS} "
            "are read. Export the model again."
        )
    for path in files:
        if path.suffix == ".yaml":
            read_yaml_file(path)
        elif path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt"):
                    pass
            except SafetensorError as error:
                raise ValueError(
                    f"{printable(str(path))} is damaged, or not a safetensors file: {one_line(str(error))}. Export "
                    "the model again."
                ) from error


def _refuse_bad_metadata(card: Path) -> None:
    """Refuse metadata that is not a card's, before anything is made; `ModelCard` would multiply out what it copies.

    Raises:
        ValueError: it is not.
    """
    results: dict[str, Any] = {"model-index": card_metadata(card).get("model-index")}
    try:
        ModelCardData(**results)
    except Exception as error:  # whatever the client raises for values of any type
        raise ValueError(f"The results in {printable(str(card))} cannot be read: {one_line(str(error))}") from error
