"""What is to be converted: found, read, unwrapped and recognised.

Code bases wrap their weights differently: in sections of a training file, behind names of PyTorch's wrappers, in a
folder with a `config.json`. Behind this module a source is a flat state dict in a known layout.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor

from ..printing import printable
from .layouts import find_layout, recognise_layout, told_by_section, weight_sections
from .reading import RawCheckpoint, read_checkpoint
from .state_dicts import convert_state_dict

TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"
REPOSITORY = re.compile(r"[\w.\-]+/[\w.\-]+")
WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Parts of names that `torch.compile`, activation checkpointing and FSDP put before those of the wrapped module."""

OUTSIDE_WRAPPERS = ("n_averaged",)
"""What wrappers add beside the wrapped model: the count of `torch.optim.swa_utils.AveragedModel`."""

CLIP_FILES = ["*.json", "*.txt", "*.safetensors"]


@dataclass
class Source:
    """A checkpoint that is ready to be converted.

    Attributes:
        raw: the file or folder as it was read.
        weights: tensors under the names of `layout`.
        layout: recognised, or as the caller says.
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
    """Find, read, unwrap and recognise a checkpoint.

    Args:
        source: a file, a folder, or the name of a Hub repository.
        layout: whose names the weights have; recognised where it is `None`.

    Raises:
        CheckpointError: it cannot be read, or is not read because it would not be safe.
        ValueError: the layout is not known, or the folder is that of another model.
    """
    raw = read_checkpoint(resolve(source))
    clip_config = _clip_config(raw)
    weights, wrapping, unused = _unwrap(raw)
    layout = layout or _recognise(raw, weights)
    if find_layout(layout).needs_config and clip_config is None:
        raise ValueError(
            f"{raw.path} has the names of transformers, but weights do not show heads and activation. Give the folder "
            "with its config.json."
        )
    return Source(raw, weights, layout, wrapping, unused, clip_config)


def resolve(source: str | os.PathLike[str]) -> Path:
    """A path as it is; the name of a Hub repository as its snapshot on this machine."""
    path = Path(source)
    if path.exists() or not REPOSITORY.fullmatch(str(source)):
        return path
    folder = Path(snapshot_download(str(source), allow_patterns=CLIP_FILES))
    if not any(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(str(source), allow_patterns=[*CLIP_FILES, "pytorch_model*.bin"]))
    return folder


def _unwrap(raw: RawCheckpoint) -> tuple[dict[str, Tensor], str, list[str]]:
    """Take the weights out of a file's sections and of PyTorch's wrappers, which show in names.

    Returns:
        The weights; where they were; tensors of sections that are not known.
    """
    sections: dict[str, dict[str, Tensor]] = {}
    for name, tensor in raw.tensors.items():
        section, slash, rest = name.partition("/")
        sections.setdefault(section if slash else "", {})[rest if slash else name] = tensor
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
        weights |= {prefixes.get(section, "") + name: tensor for name, tensor in tensors.items()}
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
        if plain in unwrapped:
            raise ValueError(f"Without the names of wrappers, there are two tensors named {printable(plain)}.")
        unwrapped[plain] = tensors[name]
    found = [f"prefix {'.'.join(common)}."] if common else []
    return unwrapped, found + [f"wrappers {', '.join(sorted(inside))} inside names"] * bool(inside)


def _recognise(raw: RawCheckpoint, tensors: Mapping[str, Tensor]) -> str:
    """The layout; an ActionCLIP file with the head that has no weights is told by its empty section."""
    return told_by_section(recognise_layout(tensors), raw.other)


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
        start, expected = tensors[name][:, 0].float(), embedding[-2].float()
        if start.shape[-1] != expected.shape[0] or not torch.allclose(start, expected.expand_as(start), atol=1e-4):
            raise ValueError(
                f"{base} (`token_embedding_from`) is not the CLIP that the file was trained from: the start token of "
                f"{name} is embedded differently there."
            )
    return embedding
