"""Rendered videos, each made once a session, when first asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from froster_hf.processing import video_process_froster
from tests.fixtures.videos import VIDEO_KINDS, render_video


@pytest.fixture(scope="session")
def video_file(tmp_path_factory) -> Callable[[str], Path]:
    """Returns the path of a 40-frame video of a kind in `VIDEO_KINDS`."""
    folder = tmp_path_factory.mktemp("videos")

    def path_of(name: str) -> Path:
        kind = VIDEO_KINDS[name]
        path = folder / f"{name}{kind.suffix}"
        return path if path.exists() else render_video(path, kind)

    return path_of


@pytest.fixture
def no_warm_process(monkeypatch):
    """The next call starts a decoding process; what the test leaves is ended."""
    monkeypatch.setattr(video_process_froster, "_idle", [])
    yield
    for process in video_process_froster._idle:
        process.kill()
