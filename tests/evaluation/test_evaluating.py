import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from froster_hf.evaluation import evaluate_protocol, load_protocol
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification
from tests.fixtures.subprocesses import environment
from tests.fixtures.tiny import tiny_model, tiny_processor

PROTOCOL = load_protocol("base_to_novel_hmdb51", ["num_views=2", "frame_stride=2"])


def evaluate(data, output_dir, **options):
    options = {"models": tiny_model(), "protocol": PROTOCOL, **options}
    protocol = options.pop("protocol")
    return evaluate_protocol(
        protocol, processor=tiny_processor(), data=data, output_dir=output_dir, batch_size=2, **options
    )


@pytest.fixture(scope="module")
def result(hmdb51_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    evaluate(
        hmdb51_data, folder, models=[tiny_model(0), tiny_model(1)], frozen_model=tiny_model(2), method="tiny | tuned"
    )
    return folder


def test_the_result_folder_says_what_the_numbers_rest_on(result):
    report = json.loads((result / "result.json").read_text())
    assert list(report["results"]) == [
        "tiny | tuned",
        "frozen model",
        "tiny | tuned + frozen (probabilities)",
        "tiny | tuned + frozen (logits)",
    ]
    ours = report["results"]["tiny | tuned"]
    base = [part["base"]["top1"] for part in ours["parts"]]
    assert ours["base"] == pytest.approx(np.mean(base), abs=0.01)
    assert ours["num_samples"] == 2
    assert set(ours["parts"][0]["base"]["class_accuracies"]) == {"kick ball", "wave"}
    assert len(set(report["checkpoints"])) == 2
    assert len(report["data"]) == len(report["frozen_checkpoint"]) == 64
    assert {"torch", "transformers", "froster-hf", "python"} <= set(report["versions"])
    assert report["protocol"]["protocol"] == "base_to_novel"
    assert report["count_differences"]["novel"]["classes"] == {"found": 2, "published": 25}


def test_the_table_stands_beside_the_published_rows_and_warns_of_other_counts(result):
    text = (result / "result.md").read_text()
    assert "| FROSTER (published) | 74.1 | 58.0 | 65.1 |" in text
    assert "| **tiny \\| tuned** |" in text, "a name cannot break the table"
    assert "**Not comparable with the published numbers**: base has 2 classes, published 26" in text
    assert "2 few-shot samples; the published number averages 1" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}


def test_the_plots_are_pictures(result):
    names = sorted(path.name for path in (result / "plots").iterdir())
    assert names == [
        "base_novel.png",
        "classes_base_to_novel_hmdb51_base.png",
        "classes_base_to_novel_hmdb51_novel.png",
        "confusion_base_to_novel_hmdb51_base.png",
        "confusion_base_to_novel_hmdb51_novel.png",
    ]
    for name in names:
        with Image.open(result / "plots" / name) as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_cross_dataset_reports_full_set_and_splits(hmdb51_data, tmp_path):
    protocol = load_protocol("cross_dataset_hmdb51", ["num_views=1", "frame_stride=2"])
    data = {"root": hmdb51_data.root, "annotations": hmdb51_data.annotations, "missing": "drop"}
    report = evaluate(data, tmp_path, protocol=protocol)
    ours = report["results"]["this checkpoint"]
    assert ours["splits_mean"] == pytest.approx(np.mean(ours["splits"]), abs=0.01)
    assert ours["full"] == ours["splits"][0], "the first fold of these lists tests every clip"
    text = (tmp_path / "result.md").read_text()
    assert f"| **{ours['full']:.1f}** | **{ours['splits_mean']:.1f} ± {ours['splits_std']:.1f}** |" in text


def test_unknown_data_fields_and_no_models_are_refused(hmdb51_data, tmp_path):
    with pytest.raises(ValueError, match="unknown fields folder"):
        evaluate({"folder": "/data"}, tmp_path)
    with pytest.raises(ValueError, match="No model was given"):
        evaluate(hmdb51_data, tmp_path, models=[])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def load(checkpoint):
    return FrosterForVideoClassification.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def uninterrupted(checkpoint, hmdb51_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    evaluate(hmdb51_data, folder, models=load(checkpoint))
    return (folder / "result.json").read_bytes()


def test_after_a_kill_the_evaluation_goes_on_and_ends_with_the_same_result(
    checkpoint, hmdb51_data, tmp_path, uninterrupted
):
    file = tmp_path / "predictions" / "sample_0" / "predictions.0.jsonl"
    if (process := os.fork()) == 0:
        model = load(checkpoint)
        model.register_forward_hook(lambda *_: time.sleep(0.5))
        evaluate(hmdb51_data, tmp_path, models=model)
        os._exit(0)
    deadline = time.monotonic() + 120
    while (not file.exists() or file.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    before = file.read_bytes()
    assert 5 <= before.count(b"\n") < 13
    assert not (tmp_path / "result.json").exists()
    # A kill inside a write leaves a torn line.
    file.write_bytes(before[:-20])
    evaluate(hmdb51_data, tmp_path, models=load(checkpoint))
    assert file.read_bytes().startswith(before[: before[:-20].rfind(b"\n") + 1]), "what was done is kept"
    assert (tmp_path / "result.json").read_bytes() == uninterrupted


def test_two_processes_give_the_result_of_one_bit_for_bit(checkpoint, hmdb51_data, tmp_path, uninterrupted):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    script = Path(__file__).with_name("run_evaluation.py")
    paths = (script, checkpoint, hmdb51_data.root, hmdb51_data.annotations, tmp_path)
    run = subprocess.run(
        [*launcher, *map(str, paths)], env=environment(HF_HUB_OFFLINE="1"), capture_output=True, timeout=240
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    assert sorted(path.name for path in tmp_path.glob("was_process_*")) == ["was_process_0", "was_process_1"]
    counts = [path.read_text().count('"row"') for path in sorted((tmp_path / "predictions" / "sample_0").iterdir())]
    assert counts == [6, 6]
    assert (tmp_path / "result.json").read_bytes() == uninterrupted
