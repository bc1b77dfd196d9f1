"""Checkpoints in other layouts to and from this package's."""

from froster_hf.conversion.convert import convert_checkpoint
from froster_hf.conversion.export_original import ExportReport, export_checkpoint
from froster_hf.conversion.key_maps import Layout
from froster_hf.conversion.layouts import recognise_layout
from froster_hf.conversion.reading import CheckpointError, RawCheckpoint, read_checkpoint
from froster_hf.conversion.report import ConversionReport
from froster_hf.conversion.state_dicts import (
    ConvertedStateDict,
    convert_state_dict,
    convert_temporal_pooling,
    export_state_dict,
)

__all__ = [
    "CheckpointError",
    "ConversionReport",
    "ConvertedStateDict",
    "ExportReport",
    "Layout",
    "RawCheckpoint",
    "convert_checkpoint",
    "convert_state_dict",
    "convert_temporal_pooling",
    "export_checkpoint",
    "export_state_dict",
    "read_checkpoint",
    "recognise_layout",
]
