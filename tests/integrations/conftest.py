"""An exported checkpoint and a few videos, under the names that the pages use."""

import importlib
import os
import shutil
from pathlib import Path

import pytest

from froster_hf.hub import export_checkpoint
from froster_hf.printing import without_progress_bars
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import REPOSITORY
from tests.fixtures.tiny import save_tiny_checkpoint


@pytest.fixture(autouse=True)
def _quiet():
    with without_progress_bars():
        yield


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """What `froster export` writes for a tiny checkpoint."""
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), ["a video of {}.", "{}"])
    return export_checkpoint(folder, tmp_path_factory.mktemp("exported") / "froster").folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """A folder of three readable videos and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for name, path in REAL_VIDEOS.items():
        shutil.copy(path, folder / f"{name}.mp4")
    (folder / "damaged.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture
def workplace(exported, videos, tmp_path, monkeypatch) -> Path:
    """The current folder of somebody who follows a page: a checkpoint, `clip.mp4`, `match.mp4` and `videos/`."""
    shutil.copytree(exported, tmp_path / "visual-ai" / "froster-b16")
    shutil.copytree(videos, tmp_path / "videos")
    shutil.copy(REAL_VIDEOS["bikes"], tmp_path / "clip.mp4")
    shutil.copy(REAL_VIDEOS["carphone_pristine"], tmp_path / "match.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Ray gives its workers a niceness of 15: on a busy machine they hardly run, and a test waits for them.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (its name)


@pytest.fixture(scope="session")
def local_ray():
    """Ray on this machine, with two processors to give away; it listens on the loopback address alone."""
    ray = pytest.importorskip("ray", reason="needs the extra ray (make test-integrations)")
    importlib.import_module("ray.data")
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": environment},
        object_store_memory=200 << 20,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()
