"""Reading checkpoints that nobody has vouched for, and finding the weights in them.

safetensors files are read directly; everything pickled is opened in a process of its own (`pickle_worker.py`). What
leaves this module comes from regular files inside their folder, is bounded in size, and holds finite values only.

Code bases wrap their weights differently: in sections of a training file, behind names of PyTorch's wrappers, in a
folder with a `config.json`. `load_source` gives a flat state dict in a known layout.
"""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from packaging.version import Version
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..checkpoint_files import (
    CheckpointError,
    check_headers,
    inside,
    read_configuration,
    refuse_other_shards,
    refuse_quantized,
    shard_names,
)
from ..checkpoint_loading import refuse_adapter
from ..child_environment import child_environment
from ..fingerprints import file_fingerprint
from ..printing import listing, one_line, printable
from ..processing.text_files import AnnotationError, read_json
from .layouts import find_layout, recognize_layout, refuse_unread_sections, told_by_section, weight_sections
from .pickle_worker import MAX_CHARACTERS, MAX_RANK, NO_ROOM_STATUS, TensorUnpickler, add_tensor
from .state_dicts import convert_state_dict

CheckpointFormat = Literal["pickle", "torchscript", "safetensors", "transformers"]

MAX_BYTES = 32 << 30
TIMEOUT_SECONDS = 900.0
MINIMUM_TORCH = "2.10"
DTYPES = tuple(TensorUnpickler.storages.values())
"""Types of weights and of the buffers beside them; of others, not all can be searched for infinite values."""

TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"
REPOSITORY = re.compile(r"[\w.\-]+/[\w.\-]+")
WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Parts of names that `torch.compile`, activation checkpointing and FSDP put before those of the wrapped module."""

OUTSIDE_WRAPPERS = ("n_averaged",)
"""What wrappers add beside the wrapped model: the count of `torch.optim.swa_utils.AveragedModel`."""

PROCESSOR_PATTERNS = ["*.json", "*.txt"]
CLIP_PATTERNS = [*PROCESSOR_PATTERNS, "*.safetensors"]

WORKER = Path(__file__).with_name("pickle_worker.py")


@dataclass
class RawCheckpoint:
    """What a file holds, under its own names.

    Attributes:
        path: the file, or the folder for `transformers`.
        format: how it is stored.
        tensors: by name, below `section/` where the file has sections.
        other: entries that are not tensors, and what they are.
        texts: those of them that are texts, such as a configuration.
        statement: what this package's export states beside the weights, as JSON.
        config: the parsed `config.json` of a folder.
        sha256: SHA-256 of the file, or of the weight files of a folder in order of their names.
    """

    path: Path
    format: CheckpointFormat
    tensors: dict[str, Tensor]
    other: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    statement: str | None = None
    config: dict[str, Any] | None = None
    sha256: str = ""


def read_checkpoint(
    source: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS
) -> RawCheckpoint:
    """Read a checkpoint without running anything that it contains.

    Args:
        source: a file of `torch.save` or `torch.jit.save`, a safetensors file, or a folder with `config.json` and
            weights as transformers saves them.
        max_bytes: the largest file, and the largest total size of its tensors.
        timeout_seconds: how long the process that opens a pickle may take.

    Raises:
        CheckpointError: the file is missing, damaged, too large, of an unknown kind, holds values that are not finite,
            or asks for anything else than tensors.
    """
    path = Path(source)
    if path.is_dir():
        raw = _read_folder(path, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
    else:
        raw = _read_file(path, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
        raw.sha256 = file_fingerprint(path)
    unknown = [name for name, tensor in raw.tensors.items() if tensor.dtype not in DTYPES]
    if unknown:
        raise CheckpointError(
            f"{path} holds tensors of types that no CLIP has, such as {raw.tensors[unknown[0]].dtype}, in: "
            f"{listing(unknown)}."
        )
    not_finite = [name for name, t in raw.tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if not_finite:
        raise CheckpointError(f"{path} holds values that are infinite or not numbers, in: {listing(not_finite)}.")
    return raw


def _read_file(path: Path, *, max_bytes: int, timeout_seconds: float) -> RawCheckpoint:
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a checkpoint file or a folder of transformers.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file.")
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{path} has {size} bytes, more than the allowed {max_bytes}; raise `max_bytes`.")
    with path.open("rb") as stream:
        start = stream.read(9)
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(path, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
    if len(start) == 9 and start[8:] == b"{":
        return RawCheckpoint(path, "safetensors", _read_safetensors(path))
    raise CheckpointError(
        f"{path} is neither a zip file of torch.save or torch.jit.save nor a safetensors file (it starts with "
        f"{start!r}). Files of PyTorch before 1.6 are not read: load such a file where you trust it and save it again."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    check_headers([path])
    try:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping)
                if (rank := len(tensors.get_slice(name).get_shape())) > MAX_RANK:
                    raise ValueError(f"tensor {name} has {rank} dimensions")
        return load_file(path)
    except Exception as error:  # Whatever a broken file provokes becomes a reason, as in the process for pickles.
        reason = one_line(str(error), limit=500) if isinstance(error, SafetensorError | ValueError) else repr(error)
        raise CheckpointError(f"{path} is not a sound safetensors file: {printable(reason)}.") from error


def _read_zip(path: Path, *, max_bytes: int, timeout_seconds: float) -> RawCheckpoint:
    with tempfile.TemporaryDirectory(prefix="froster-", ignore_cleanup_errors=True) as folder:
        (summary,) = _open_pickles([path], folder, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
        tensors = load_file(Path(folder, "tensors.safetensors"))
    return RawCheckpoint(
        path,
        summary["format"],
        tensors,
        other=summary["other"],
        texts=summary["texts"],
        statement=summary["statement"],
    )


def check_pickles(paths: Iterable[str | os.PathLike[str]], *, may_be_quantized: bool = True) -> dict[str, list[str]]:
    """Refuse pickled files of weights that transformers, which reads them in the caller's process, could not bear.

    Args:
        paths: `pytorch_model.bin`, or its shards.
        may_be_quantized: see `check_headers`.

    Returns:
        The names of the tensors in each file.

    Raises:
        CheckpointError: one holds more than tensors, is damaged, or takes more memory or time than its size; or their
            names are longer than any model's, or types stand for other numbers and may not.
    """
    files = [Path(path) for path in paths]
    with tempfile.TemporaryDirectory(prefix="froster-", ignore_cleanup_errors=True) as folder:
        try:
            summaries = _open_pickles(files, folder, "--check", max_bytes=MAX_BYTES, timeout_seconds=TIMEOUT_SECONDS)
        except CheckpointError as error:
            raise CheckpointError(f"{error} Get the checkpoint in the safetensors format.") from error
    characters = 0
    for path, summary in zip(files, summaries):
        characters += summary["characters"]
        _refuse_many_characters(characters, path)
        if not may_be_quantized:
            refuse_quantized(summary["types"])
    return {str(path): list(summary["types"]) for path, summary in zip(files, summaries)}


def _refuse_many_characters(characters: int, path: str | os.PathLike[str]) -> None:
    if characters > MAX_CHARACTERS:
        raise CheckpointError(
            f"With {printable(os.fspath(path))}, the names of tensors have {characters} characters; at most "
            f"{MAX_CHARACTERS} are read."
        )


def _open_pickles(
    paths: Sequence[Path], folder: str, *options: str, max_bytes: int, timeout_seconds: float
) -> list[dict[str, Any]]:
    """What the process for pickles finds in files; it leaves the tensors of a single one in `folder`."""
    if Version(torch.__version__).release < Version(MINIMUM_TORCH).release:
        raise CheckpointError(
            f"{paths[0]} is a pickle, and torch {torch.__version__} has known ways around weights_only=True. "
            f"Update torch to {MINIMUM_TORCH} or newer, or give a safetensors file."
        )
    results = [Path(folder, f"{number}.json") for number in range(len(paths))]

    def unread() -> Path:
        """The file at which the process ended."""
        return next((path for path, result in zip(paths, results) if not result.exists()), paths[-1])

    try:
        worker = subprocess.run(
            [sys.executable, str(WORKER), folder, str(max_bytes), *options, *(str(path.resolve()) for path in paths)],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"{unread()} was not read within {timeout_seconds:.0f} seconds.") from error
    if worker.returncode == NO_ROOM_STATUS:
        raise OSError(
            errno.ENOSPC,
            f"The tensors of {unread()} cannot be copied to the temporary folder {tempfile.gettempdir()}. Free some "
            "room, or set TMPDIR to a folder with more",
        )
    if worker.returncode != 0 or not results[-1].exists():
        last_words = worker.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        # Of a process that the system has ended, for its time or its faults.
        killed_for = signal.strsignal(-worker.returncode) if worker.returncode < 0 else None
        raise CheckpointError(
            f"{unread()} ended the process that read it (exit status {worker.returncode}): "
            f"{killed_for or printable(last_words)}"
        )
    summaries = [json.loads(result.read_text(encoding="utf-8")) for result in results]
    for path, summary in zip(paths, summaries):
        if "error" in summary:
            raise CheckpointError(f"{path} is refused: {printable(summary['error'])}.")
    return summaries


def _read_folder(folder: Path, *, max_bytes: int, timeout_seconds: float) -> RawCheckpoint:
    config_file = inside(folder, "config.json")
    if not config_file.is_file():
        raise CheckpointError(f"{folder} holds no config.json; give the checkpoint file itself.")
    refuse_adapter(str(folder))
    try:
        config = dict(read_configuration(config_file))
    except (AnnotationError, OSError) as error:
        raise CheckpointError(str(error)) from error
    names, weight_map = weight_files(folder)
    tensors: dict[str, Tensor] = {}
    files = [inside(folder, name) for name in names]
    total = sum(file.stat().st_size for file in files if file.exists())
    if total > max_bytes:
        raise CheckpointError(f"The weights in {folder} have {total} bytes, more than the allowed {max_bytes}.")
    stored: dict[str, list[str]] = {}
    characters = 0
    for file in files:
        shard = _read_file(file, max_bytes=max_bytes, timeout_seconds=timeout_seconds).tensors
        stored[str(file)] = list(shard)
        tensors |= shard
        characters += sum(map(len, shard))
        _refuse_many_characters(characters, file)
    if weight_map is not None:
        refuse_other_shards(stored, weight_map)
    return RawCheckpoint(folder, "transformers", tensors, config=config, sha256=file_fingerprint(*files))


def weight_files(folder: Path) -> tuple[list[str], Mapping[str, str] | None]:
    """The weight files of a folder and, where they are shards, the index; safetensors before pickles."""
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        if inside(folder, stem + suffix).exists():
            return [stem + suffix], None
        index = inside(folder, f"{stem}{suffix}.index.json")
        if index.exists():
            weight_map = shard_names(index)
            return sorted(set(weight_map.values())), weight_map
    raise CheckpointError(
        f"{folder} holds no weights: expected model.safetensors or pytorch_model.bin, in one file or in shards."
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, bounded in size.

    Raises:
        CheckpointError: it cannot be read, or is not an object.
    """
    try:
        content = read_json(path)
    except (AnnotationError, OSError) as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__}; an object is needed.")
    return content


@dataclass
class Source:
    """A checkpoint that is ready to be converted.

    Attributes:
        raw: the file or folder as it was read.
        weights: tensors under the names of `layout`.
        layout: recognized, or as the caller says.
        wrapping: the section and the prefix that the weights were found under, in words; empty for none.
        unused: names in sections that are not known.
        clip_config: the `config.json` of a CLIP folder.
    """

    raw: RawCheckpoint
    weights: dict[str, Tensor]
    layout: str
    wrapping: str
    unused: list[str]
    clip_config: dict[str, Any] | None


def load_source(source: str | os.PathLike[str], *, layout: str | None = None) -> Source:
    """Find, read, unwrap and recognize a checkpoint.

    Args:
        source: a file, a folder, or the name of a Hub repository.
        layout: whose names the weights have; recognized where it is `None`.

    Raises:
        CheckpointError: it cannot be read, or is not read because it would not be safe.
        ValueError: the layout is not known, or the folder is that of another model.
    """
    raw = read_checkpoint(resolve(source))
    clip_config = _clip_config(raw)
    try:
        weights, wrapping, unused = _unwrap(raw)
    except ValueError as error:
        raise ValueError(f"{raw.path}, without its sections and the names of wrappers: {error}.") from error
    refuse_unread_sections(raw.other)
    # An ActionCLIP file with the head that has no weights is recognized by its empty section.
    layout = layout or told_by_section(recognize_layout(weights), raw.other)
    if find_layout(layout).needs_config and clip_config is None:
        raise ValueError(
            f"{raw.path} has the names of transformers, but weights do not show heads and activation. Give the folder "
            "with its config.json."
        )
    return Source(raw, weights, layout, wrapping, unused, clip_config)


def resolve(source: str | os.PathLike[str], *, weights: bool = True) -> Path:
    """A path as it is; the name of a Hub repository as its snapshot on this machine, with or without weights."""
    path = Path(source)
    if path.exists() or not REPOSITORY.fullmatch(str(source)):
        return path
    if not weights:
        return Path(snapshot_download(str(source), allow_patterns=PROCESSOR_PATTERNS))
    folder = Path(snapshot_download(str(source), allow_patterns=CLIP_PATTERNS))
    # By name: another program's may lie beside pickled weights.
    if not any((folder / f"model.safetensors{suffix}").exists() for suffix in ("", ".index.json")):
        folder = Path(snapshot_download(str(source), allow_patterns=[*CLIP_PATTERNS, "pytorch_model*.bin"]))
    return folder


def _unwrap(raw: RawCheckpoint) -> tuple[dict[str, Tensor], str, list[str]]:
    """Take the weights out of a file's sections and of PyTorch's wrappers, which show in names.

    Returns:
        The weights; where they were; tensors of sections that are not known.

    Raises:
        ValueError: two tensors have the same name, once they are taken out.
    """
    sections: dict[str, dict[str, Tensor]] = {}
    for name, tensor in raw.tensors.items():
        section, slash, rest = name.partition("/")
        add_tensor(sections.setdefault(section if slash else "", {}), rest if slash else name, tensor)
    prefixes = weight_sections()
    known = [section for section in prefixes if section in sections] or [""]
    # ActionCLIP's files have two sections that belong together; of all others only the first one counts.
    taken = known[:1] + [section for section in known[1:] if prefixes[section]]
    weights: dict[str, Tensor] = {}
    found = []
    for section in taken:
        tensors = sections.pop(section, {})
        if section:
            found.append(f"section {section}")
        tensors, wrappers = _without_wrappers(tensors)
        found += wrappers
        for name, tensor in tensors.items():
            add_tensor(weights, prefixes.get(section, "") + name, tensor)
    unknown = [f"{section}/{name}" for section, tensors in sections.items() for name in tensors]
    return weights, ", ".join(found), unknown


def _without_wrappers(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names that they have in the wrapped model, and the wrappers in words.

    Raises:
        ValueError: two tensors then have the same name.
    """
    paths = {name: name.split(".") for name in tensors}
    common = []
    # `module` is a wrapper's where every name begins with it; elsewhere it may be an attribute.
    for parts in zip(*(path for name, path in paths.items() if name not in OUTSIDE_WRAPPERS)):
        if len(set(parts)) > 1 or parts[0] not in ("module", *WRAPPERS):
            break
        common.append(parts[0])
    inside: set[str] = set()
    unwrapped: dict[str, Tensor] = {}
    for name, path in paths.items():
        rest = path if name in OUTSIDE_WRAPPERS else path[len(common) :]
        inside.update(part for part in rest if part in WRAPPERS)
        plain = ".".join(part for part in rest if part not in WRAPPERS)
        add_tensor(unwrapped, plain, tensors[name])
    found = [f"prefix {'.'.join(common)}."] if common else []
    return unwrapped, found + [f"wrappers {', '.join(sorted(inside))} inside names"] * bool(inside)


def _clip_config(raw: RawCheckpoint) -> dict | None:
    """The `config.json` of a folder, if it is one of CLIP."""
    if raw.config is None:
        return None
    kind = raw.config.get("model_type")
    if kind == "froster":
        raise ValueError(f"{raw.path} is a checkpoint of this package already; load it with from_pretrained.")
    if kind != "clip":
        raise ValueError(
            f"{raw.path} is a checkpoint of type {printable(repr(kind))}; of transformers' models only 'clip' is "
            "converted."
        )
    return raw.config


def token_embedding_of(base: str | os.PathLike[str] | None, tensors: Mapping[str, Tensor], *, layout: str) -> Tensor:
    """The token embedding of the CLIP that a file without one was trained from.

    Where the file holds embedded prompts, each begins with the start token, so a wrong CLIP can be told.
    """
    entry = find_layout(layout)
    if base is None:
        raise ValueError(
            f"A {entry.title} file holds no token embedding: its code never trains it. Give the CLIP that the file "
            "was trained from as `token_embedding_from`, for example openai/clip-vit-base-patch16."
        )
    other = convert_state_dict(load_source(base).weights, strict=False).model
    if TOKEN_EMBEDDING not in other:
        raise ValueError(f"{base} (`token_embedding_from`) holds no token embedding either.")
    embedding = other[TOKEN_EMBEDDING]
    for name in entry.starts_with_start_token:
        if name not in tensors:
            continue
        prompts = tensors[name]
        if prompts.ndim != 3 or 0 in prompts.shape or embedding.ndim != 2 or len(embedding) < 2:
            raise ValueError(
                f"{name} has the shape {tuple(prompts.shape)}, and the token embedding of {base} "
                f"(`token_embedding_from`) {tuple(embedding.shape)}; of {entry.title} they are (labels, tokens, "
                "width) and (vocabulary, width)."
            )
        start, expected = prompts[:, 0].float(), embedding[-2].float()
        if start.shape[-1] != expected.shape[0] or not torch.allclose(start, expected.expand_as(start), atol=1e-4):
            raise ValueError(
                f"{base} (`token_embedding_from`) is not the CLIP that the file was trained from: the start token of "
                f"{name} is embedded differently there."
            )
    return embedding
