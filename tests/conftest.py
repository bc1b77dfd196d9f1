"""What every test shares: no network, one thread, a fixed seed."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings

from froster_hf.modeling.tables_froster import BACKBONES
from tests.fixtures.forks import forked_subprocess
from tests.fixtures.videos import VIDEO_KINDS, render_video

# Collecting garbage goes over the half a million objects of torch and transformers, which takes seconds and happens in
# every training: it is not done while tests are imported, and what is there when they begin is left out for good.
gc.disable()


def pytest_collection_finish():
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


# The same examples in every run, and none that fails on a busy machine.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")


@pytest.fixture(autouse=True)
def _seeded_single_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _forked_readers(request, monkeypatch):
    """Pickles are read in a real process that need not import torch, unless a test is of how the package starts it."""
    reading = sys.modules.get("froster_hf.conversion.reading")
    if reading is not None and not request.node.get_closest_marker("starts_reader"):
        monkeypatch.setattr(reading, "subprocess", forked_subprocess)


@pytest.fixture(scope="session")
def video_file(tmp_path_factory) -> Callable[[str], Path]:
    """Returns the path of a 40-frame video of a kind in `VIDEO_KINDS`."""
    folder = tmp_path_factory.mktemp("videos")

    def path_of(name: str) -> Path:
        kind = VIDEO_KINDS[name]
        path = folder / f"{name}{kind.suffix}"
        return path if path.exists() else render_video(path, kind)

    return path_of


@pytest.fixture(scope="session")
def dual_encoder_of(tmp_path_factory) -> Callable[[str], Path]:
    """Returns the folder of a tiny dual encoder of a backbone, with its processor; not to be written to."""
    from tests.fixtures.dual_encoders import save_dual_encoder  # waits for transformers

    root = tmp_path_factory.mktemp("dual_encoders")

    def folder_of(backbone: str) -> Path:
        folder = root / backbone
        if not folder.exists():
            save_dual_encoder(backbone, folder)
        return folder

    return folder_of


@pytest.fixture(scope="session", params=list(BACKBONES))
def backbone(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def dual_encoder(backbone, dual_encoder_of) -> Path:
    """The folder of a tiny dual encoder of every backbone in turn."""
    return dual_encoder_of(backbone)
