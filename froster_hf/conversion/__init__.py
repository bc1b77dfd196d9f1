"""Checkpoints in other layouts to and from this package's.

Public names are imported when they are first used, so that the names of layouts can be had without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC_NAMES = {
    "CheckpointError": "reading",
    "ConversionReport": "convert",
    "ConvertedStateDict": "state_dicts",
    "ExportReport": "export_original",
    "Layout": "layouts",
    "RawCheckpoint": "reading",
    "convert_checkpoint": "convert",
    "convert_state_dict": "state_dicts",
    "write_original_checkpoint": "export_original",
    "export_state_dict": "state_dicts",
    "read_checkpoint": "reading",
    "recognize_layout": "layouts",
}

__all__ = [
    "CheckpointError",
    "ConversionReport",
    "ConvertedStateDict",
    "ExportReport",
    "Layout",
    "RawCheckpoint",
    "convert_checkpoint",
    "convert_state_dict",
    "export_state_dict",
    "read_checkpoint",
    "recognize_layout",
    "write_original_checkpoint",
]

if TYPE_CHECKING:
    from .convert import ConversionReport, convert_checkpoint
    from .export_original import ExportReport, write_original_checkpoint
    from .layouts import Layout, recognize_layout
    from .reading import CheckpointError, RawCheckpoint, read_checkpoint
    from .state_dicts import (
        ConvertedStateDict,
        convert_state_dict,
        export_state_dict,
    )


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
