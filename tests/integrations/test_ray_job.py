"""The Ray job on a real local Ray: a killed worker, a killed job, and the same answers as one process."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pyarrow.parquet
import pytest

from froster_hf.integrations import EmbedVideos
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import REPOSITORY, environment

pytest.importorskip("ray", reason="needs the extra ray (make test-integrations)")

JOB = REPOSITORY / "examples" / "ray_videos.py"
# A job whose workers wait at their second part for a file, so that the test knows when to kill.
WAITING = """
import pathlib, sys, time
import ray, ray_videos

folder = pathlib.Path(sys.argv.pop(1))
answer = ray_videos.WritePart.__call__

class WaitingPart(ray_videos.WritePart):
    def __call__(self, part):
        import os
        (folder / f"pid-{os.getpid()}").write_text(part["file"])
        while list(folder.glob("pid-*")) and not (folder / "go").exists() and list((folder / "out").glob("part-*")):
            time.sleep(0.05)
        return answer(self, part)

ray_videos.WritePart = WaitingPart
ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=200 << 20)
print(ray_videos.main(sys.argv[1:]))
"""


@pytest.fixture
def archive(tmp_path) -> Path:
    folder = tmp_path / "archive"
    (folder / "below").mkdir(parents=True)
    for number in range(4):
        for name in ("bikes", "carphone_pristine"):
            shutil.copy(REAL_VIDEOS[name], folder / "below" / f"{name}_{number}.mp4")
    (folder / "damaged.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("no video")
    return folder


def start(folder: Path, archive: Path, model: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", WAITING, str(folder), str(archive), str(folder / "out"), "--model", str(model)]
    command += ["--workers", "2", "--videos-per-file", "2"]
    # Workers import the job's module.
    paths = os.pathsep.join([str(REPOSITORY), str(JOB.parent)])
    variables = {**environment(), "PYTHONPATH": paths}
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_until(condition, job: subprocess.Popen) -> None:
    while not condition():
        assert job.poll() is None, job.communicate()[0][-3000:]
        time.sleep(0.05)


def read_parts(folder: Path) -> dict[str, tuple]:
    found = {}
    for file in sorted(folder.glob("part-*.parquet")):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            assert row["video"] not in found, "a video is in two parts"
            found[row["video"]] = (row["embedding"], row["error"])
    return found


def test_a_killed_worker_costs_nothing_and_a_killed_job_goes_on_with_the_missing_parts(archive, exported, tmp_path):
    out = tmp_path / "out"
    job = start(tmp_path, archive, exported)
    try:
        # Every worker now waits, with at least one part written before.
        wait_until(lambda: list(out.glob("part-*")) and len(list(tmp_path.glob("pid-*"))) == 2, job)
        first = sorted(tmp_path.glob("pid-*"))[0]
        os.kill(int(first.name.removeprefix("pid-")), signal.SIGKILL)
        first.unlink()
        # Ray starts another worker in its place.
        wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2, job)
        kept = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*")}
        assert 0 < len(kept) < 5
    finally:
        below = psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
        for process in (*below, job):
            process.kill()
        psutil.wait_procs(below)
        job.wait()
    assert not [file for file in out.iterdir() if not file.name.startswith(("part-", "job.json"))]

    for mark in tmp_path.glob("pid-*"):
        mark.unlink()
    (tmp_path / "go").touch()
    job = start(tmp_path, archive, exported)
    output = job.communicate()[0]
    assert job.returncode == 0, output[-3000:]
    assert f"9 videos in 5 parts, {len(kept)} of them answered before" in output
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept, "what was written is not written again"

    found = read_parts(out)
    videos = sorted(str(path) for path in archive.rglob("*.mp4"))
    assert sorted(found) == videos
    alone = EmbedVideos(exported)({"video": videos})
    for video, embedding, error in zip(videos, alone["embedding"], alone["error"]):
        if "damaged" in video:
            assert found[video] == (None, error)
            assert "damaged.mp4" in error
        else:
            np.testing.assert_allclose(found[video][0], embedding, rtol=0, atol=1e-6)
            assert found[video][1] == ""


def test_a_folder_of_another_job_is_refused(archive, exported, tmp_path):
    script = f"import sys; sys.path.insert(0, {str(JOB.parent)!r}); import ray_videos; ray_videos.check_same_job"
    script += "({'model': sys.argv[1], 'labels': None}, sys.argv[2])"
    for model, code in (("a", 0), ("a", 0), ("b", 1)):
        run = subprocess.run(
            [sys.executable, "-c", script, model, str(tmp_path / "out")],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert run.returncode == code, run.stderr
    assert "other model" in run.stderr


def test_a_name_that_is_not_text_costs_no_other_video(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(JOB.parent))
    job = importlib.import_module("ray_videos")
    for name in (b"a.mp4", b"caf\xe9.mp4", "café.mp4".encode()):
        (tmp_path / os.fsdecode(name)).touch()
    assert job.list_videos(str(tmp_path))[1] == [str(tmp_path / "a.mp4"), str(tmp_path / "café.mp4")]
    told = f"1 videos are left out, since their names are not UTF-8: {tmp_path}/caf\\udce9.mp4"
    assert capsys.readouterr().out.strip() == told


def test_a_folder_without_videos_is_refused(tmp_path):
    command = [sys.executable, str(JOB), str(tmp_path), str(tmp_path / "out")]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert run.returncode == 1
    assert "holds no videos" in run.stderr
    assert not (tmp_path / "out").exists()


def test_a_bucket_is_answered_as_a_folder_is_and_a_video_that_is_gone_costs_its_row(exported, monkeypatch):
    monkeypatch.syspath_prepend(str(JOB.parent))
    job = importlib.import_module("ray_videos")
    store = fsspec.filesystem("memory")
    for name in ("bikes", "carphone_pristine"):
        store.pipe_file(f"/archive/day one/{name}.mp4", REAL_VIDEOS[name].read_bytes())
    try:
        source, videos = job.list_videos("memory://archive")
        assert [video.rpartition("/")[2] for video in videos] == ["bikes.mp4", "carphone_pristine.mp4"]
        job.check_same_job({"videos": videos}, "memory://answers")
        write = job.WritePart(source, "memory://answers", str(exported), None)
        part = {"file": "part-0.parquet", "videos": [*videos, f"{source}/gone.mp4", "memory:///elsewhere/a.mp4"]}
        assert write(part) == {"file": "part-0.parquet", "videos": 4, "failed": 2}
        with store.open("/answers/part-0.parquet") as file:
            rows = pyarrow.parquet.read_table(file).to_pylist()
        assert sorted(store.ls("/answers", detail=False)) == ["/answers/job.json", "/answers/part-0.parquet"]
    finally:
        store.rm("/", recursive=True)
    assert [row["video"] for row in rows] == part["videos"]
    expected = EmbedVideos(exported)({"video": [str(REAL_VIDEOS[name]) for name in ("bikes", "carphone_pristine")]})
    for row, embedding in zip(rows, expected["embedding"]):
        np.testing.assert_allclose(row["embedding"], embedding, rtol=0, atol=1e-6)
    assert [row["embedding"] for row in rows[2:]] == [None, None]
    assert "no such file" in rows[2]["error"]
    assert "allow_urls" in rows[3]["error"]
