"""A pipeline of a tiny model."""

import pytest
from transformers import pipeline

import froster_hf  # noqa: F401
from tests.fixtures.tiny import tiny_model, tiny_processor


@pytest.fixture
def classify():
    return pipeline("zero-shot-video-classification", model=tiny_model(), processor=tiny_processor())
