"""A tiny checkpoint as training and conversion leave it."""

from pathlib import Path

import pytest

from froster_hf.printing import without_progress_bars
from tests.evaluation.conftest import hmdb51_data  # noqa: F401
from tests.fixtures.tiny import save_tiny_checkpoint


@pytest.fixture(autouse=True)
def _quiet():
    with without_progress_bars():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), ["a video of {}.", "{}"])
