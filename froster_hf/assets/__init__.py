"""Checkpoints that ship with the package: for trying, testing and teaching. They know moving shapes, not real videos.

Both are made by commands of this package, which stand in `model_cards/small-froster.md`.
"""

from pathlib import Path

SMALL_FROSTER = Path(__file__).parent / "small_froster"
SMALL_CLIP = Path(__file__).parent / "small_clip"

__all__ = ["SMALL_CLIP", "SMALL_FROSTER"]
