"""Checkpoints in other layouts to and from this package's."""

from froster_hf.conversion.key_maps import Layout
from froster_hf.conversion.layouts import recognise_layout
from froster_hf.conversion.state_dicts import (
    ConvertedStateDict,
    convert_state_dict,
    convert_temporal_pooling,
    export_state_dict,
)

__all__ = [
    "ConvertedStateDict",
    "Layout",
    "convert_state_dict",
    "convert_temporal_pooling",
    "export_state_dict",
    "recognise_layout",
]
