"""Both scripts of examples/reproduce, as they are, against a stand-in of the Hub with tiny rendered data sets."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from froster_hf import FrosterForVideoClassification
from froster_hf.conversion import write_original_checkpoint
from froster_hf.data import DATASETS, fetch_hub_copy
from tests.evaluation.conftest import write_clip
from tests.fixtures.forks import run_python
from tests.fixtures.subprocesses import REPOSITORY, environment
from tests.fixtures.tiny import save_tiny_clip, tiny_model, tiny_processor
from tests.hub.loopback_hub import LoopbackHub

FOLDER = REPOSITORY / "examples" / "reproduce"
CLASSES = ("brush_hair", "cartwheel", "kick_ball", "wave")
UCF_CLASSES = ("ApplyEyeMakeup", "YoYo")


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Files of the copies: HMDB-51's as they are, UCF-101's videos in a zip archive."""
    folder = tmp_path_factory.mktemp("copies")
    hmdb: dict[str, bytes] = {}
    for number, name in enumerate(CLASSES):
        # Two clips train and one is tested; of the frequent classes, three.
        names = [f"{name}_{clip}.avi" for clip in range(3 + number // 2)]
        marks = [*[1] * (len(names) - 1), 2]
        for clip, file in enumerate(names):
            video = write_clip(folder / file, seed=10 * number + clip)
            hmdb[f"hmdb51/videos/{name}/{file}"] = video.read_bytes()
        for fold in (1, 2, 3):
            lines = "".join(f"{file} {mark} \n" for file, mark in zip(names, marks))
            hmdb[f"hmdb51/testTrainMulti_7030_splits/{name}_test_split{fold}.txt"] = lines.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, name in enumerate(UCF_CLASSES):
            for clip in (1, 2):
                video = write_clip(folder / f"{name}_{clip}.avi", seed=100 + 10 * number + clip)
                archive.write(video, f"UCF-101/{name}/v_{name}_g0{clip}_c01.avi")
    lists = {"classInd.txt": "".join(f"{number} {name}\n" for number, name in enumerate(UCF_CLASSES, start=1))}
    for fold in (1, 2, 3):
        lists[f"trainlist0{fold}.txt"] = "".join(f"{n}/v_{n}_g02_c01.avi {i + 1}\n" for i, n in enumerate(UCF_CLASSES))
        lists[f"testlist0{fold}.txt"] = "".join(f"{n}/v_{n}_g01_c01.avi\n" for n in UCF_CLASSES)
    ucf = {f"ucfTrainTestlist/{name}": text.encode() for name, text in lists.items()}
    return {
        DATASETS["hmdb51"].hub_copies[0]: hmdb,
        DATASETS["ucf101"].hub_copies[0]: {"UCF101.zip": packed.getvalue(), **ucf},
    }


@pytest.fixture
def hub(copies):
    hub = LoopbackHub("somebody/tiny-froster")
    hub.datasets = copies
    yield hub
    hub.close()


def run(script: str, *arguments: str, hub: LoopbackHub, folder: Path) -> str:
    online = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_no"}
    variables = environment(**online, ACCELERATE_USE_CPU="true", HF_HUB_DISABLE_PROGRESS_BARS="1")
    ended = run_python(FOLDER / script, *arguments, env=variables, cwd=folder, timeout=280)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def test_a_checkpoint_of_the_hub_is_measured_on_both_and_gets_a_card(hub, tmp_path):
    model, processor = tmp_path / "model", tiny_processor(["a video of {}.", "{}"])
    tiny_model().save_pretrained(model)
    processor.save_pretrained(model)
    hub.files = {path.name: path.read_bytes() for path in model.iterdir() if path.suffix != ".py"}
    arguments = ["somebody/tiny-froster", "--protocol", "num_views=1"]
    printed = run("cross_dataset.py", *arguments, hub=hub, folder=tmp_path)
    assert "| FROSTER (published) | 85.0 | 84.8 |" in printed
    assert "Published with labels other than the data set's names: FROSTER (rephrased by a language model)" in printed
    assert "Our labels: the data set's names, in 2 prompts each, the first of them `a video of" in printed
    out = tmp_path / "reproduced"
    for name, clips in (("ucf101", 4), ("hmdb51", 14)):
        result = json.loads((out / name / "result.json").read_text())
        assert result["results"]["somebody/tiny-froster"]["parts"][0]["full"]["num_clips"] == clips
    card = ModelCard.load(out / "checkpoint" / "README.md")
    assert {entry.dataset_type for entry in card.data.eval_results} == {"ucf101", "hmdb51"}
    entries = sorted(path.name for path in (out / "checkpoint" / ".eval_results").iterdir())
    assert entries == [copy.replace("/", "--") + ".yaml" for copy in sorted(hub.datasets)]

    # Again: nothing is fetched or computed again.
    before = sum("/resolve/" in path and method == "GET" for method, path in hub.requests)
    run("cross_dataset.py", *arguments, hub=hub, folder=tmp_path)
    assert sum("/resolve/" in path and method == "GET" for method, path in hub.requests) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a file of FROSTER's code", "a CLIP"])
def test_other_checkpoints_are_measured_as_well(hub, tmp_path, kind):
    clip = save_tiny_clip(tmp_path / "clip", width=32)
    arguments = [str(clip)]
    if kind != "a CLIP":
        model = FrosterForVideoClassification.from_clip(clip, temporal_module="local_attention")
        model.save_pretrained(tmp_path / "model")
        write_original_checkpoint(tmp_path / "model", tmp_path / "swa.pth", layout="froster")
        arguments = [str(tmp_path / "swa.pth"), "--processor-from", str(clip)]
    arguments += ["--datasets", "ucf101", "--protocol", "num_views=1"]
    printed = run("cross_dataset.py", *arguments, hub=hub, folder=tmp_path)
    assert f"| **{arguments[0]}** | **" in printed.replace("\\", "")
    assert (tmp_path / "reproduced" / "checkpoint" / "README.md").is_file()


@pytest.mark.slow
def test_a_clip_is_trained_on_one_half_and_tested_on_both(hub, tmp_path):
    clip = save_tiny_clip(tmp_path / "clip", width=32)
    small = ["data.shots=2", f"model.checkpoint={clip}", "model.num_frames=4", "training.num_train_epochs=2"]
    small += ["total_batch_size=2", "training.per_device_train_batch_size=2", "data.published=null", "precision=fp32"]
    arguments = ["hmdb51", "--protocol", "num_views=1", "--set", *small]
    printed = run("base_to_novel.py", *arguments, hub=hub, folder=tmp_path)
    assert "| FROSTER (published) | 74.1 | 58.0 | 65.1 |" in printed
    out = tmp_path / "reproduced" / "base_to_novel_hmdb51"
    result = json.loads((out / "evaluation" / "result.json").read_text())
    assert set(result["results"]) == {"this run"}
    written = {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in (out / "run").rglob("*.safetensors")
    }
    run("base_to_novel.py", *arguments, hub=hub, folder=tmp_path)
    assert written == {name: (out / name).stat().st_mtime_ns for name in written}, (
        "a run that is over is not run again"
    )


@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.py")))
def test_a_script_names_what_uv_installs_for_it(script):
    text = (FOLDER / script).read_text()
    header = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", text)
    assert header, "the block that `uv run` reads"
    assert 'dependencies = ["froster-hf"]' in header[1]


def test_a_copy_without_videos_or_lists_says_so(hub, tmp_path, monkeypatch):
    copy = DATASETS["hmdb51"].hub_copies[0]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    files = dict(hub.datasets[copy])
    hub.datasets = {copy: {"hmdb51.rar": b"Rar!"}}
    with pytest.raises(ValueError, match=r"has no videos .* but files of \.rar"):
        fetch_hub_copy("hmdb51", tmp_path / "a")
    hub.datasets = {copy: {name: content for name, content in files.items() if name.endswith(".avi")}}
    with pytest.raises(ValueError, match="has no official lists"):
        fetch_hub_copy("hmdb51", tmp_path / "b")
    with pytest.raises(ValueError, match="No copy of Kinetics-400"):
        fetch_hub_copy("k400", tmp_path / "c")
