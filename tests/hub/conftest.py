"""A tiny checkpoint as training and conversion leave it."""

from pathlib import Path

import pytest

from froster_hf.printing import without_progress_bars
from tests.evaluation.conftest import hmdb51_data  # noqa: F401
from tests.fixtures.tiny import tiny_model, tiny_processor


@pytest.fixture(autouse=True)
def _quiet():
    with without_progress_bars():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor(["a video of {}.", "{}"]).save_pretrained(folder)
    return folder
