"""What every test shares: no network, one thread, a fixed seed."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded_single_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)
