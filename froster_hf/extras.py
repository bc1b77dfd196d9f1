"""What optional packages bring, and what to do where one is missing."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extra:
    """An optional part of the installation.

    Args:
        module: that shows whether it is there.
        brings: what it is for, in words.
    """

    module: str
    brings: str


EXTRAS: dict[str, Extra] = {
    "plots": Extra("matplotlib", "pictures: plots of evaluations, timelines as .png, maps of `froster explain`"),
    "export": Extra("onnxruntime", "ONNX towers of `froster export --towers onnx`"),
    "lora": Extra("peft", "training low-rank updates (`trained_parameters=lora`), adapters"),
    "app": Extra("gradio", "the web page of `froster app`"),
    "torchcodec": Extra("torchcodec", "another decoder, which needs FFmpeg's shared libraries"),
    "search": Extra("lancedb", "an index of videos to search in: `froster index`, `froster search`"),
    "notebooks": Extra("ipykernel", "running the notebooks of the repository"),
    "docs": Extra("mkdocs", "the documentation site (`make docs`)"),
}


def is_installed(extra: str) -> bool:
    """Whether the package of an extra is there; nothing is imported."""
    try:
        return importlib.util.find_spec(EXTRAS[extra].module) is not None
    except (ImportError, ValueError):
        return False


def how_to_install(extra: str) -> str:
    """The command that installs an extra, from the package index and from a checkout."""
    return f"pip install 'froster-hf[{extra}]' (in a checkout: pip install -e '.[{extra}]')"


def import_extra(extra: str, module: str | None = None) -> Any:
    """A module of an optional package.

    Args:
        extra: a key of `EXTRAS`.
        module: module of its package; by default the one that the table names.

    Raises:
        ImportError: it is not installed; says how to get it.
    """
    try:
        return importlib.import_module(module or EXTRAS[extra].module)
    except ImportError as error:
        raise ImportError(
            f"{EXTRAS[extra].module} is not installed, which brings {EXTRAS[extra].brings}: {how_to_install(extra)}"
        ) from error
