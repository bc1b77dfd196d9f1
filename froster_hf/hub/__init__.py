"""Checkpoints that travel: the export folder with its model card, its upload, and split towers for serving."""

from .card_facts import CardFacts, load_card_facts
from .export_folder import ExportedFolder, export_checkpoint
from .measured_results import MeasuredResult, read_measured_results
from .model_card import build_model_card
from .serving import TowerReport, export_towers
from .upload import push_folder

__all__ = [
    "CardFacts",
    "ExportedFolder",
    "MeasuredResult",
    "TowerReport",
    "build_model_card",
    "export_checkpoint",
    "export_towers",
    "load_card_facts",
    "push_folder",
    "read_measured_results",
]
