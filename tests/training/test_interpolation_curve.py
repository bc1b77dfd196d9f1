"""The curve between two checkpoints: its ends are the checkpoints, on files rendered here, in one command."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from froster_hf import processes
from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.evaluation import evaluate_protocol
from froster_hf.evaluation.protocols import load_protocol
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.training import interpolation_curve as module
from froster_hf.training.interpolation_curve import interpolation_curve
from froster_hf.whole_files import ResultExistsError

PROTOCOL = """
about: two labels, two clips each
protocol: random_labels
dataset: moving_shapes
seeds: [5]
labels_per_split: 3
clips_per_label: 2
label_content: action
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The small CLIP with FROSTER's attention, which adds no parameters, and other weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = FrosterForVideoClassification.from_clip(SMALL_CLIP, temporal_module="local_attention")
    for parameter in model.froster.visual_projection.parameters():
        parameter.data.neg_()
    model.save_pretrained(folder / "tuned")
    FrosterProcessor.from_pretrained(SMALL_FROSTER).save_pretrained(folder / "tuned")
    (folder / "protocol.yaml").write_text(PROTOCOL)
    return folder


def test_the_curve_is_one_command_and_its_end_is_the_checkpoint(checkpoints, tmp_path, capsys):
    arguments = ["interpolate", str(SMALL_CLIP), str(checkpoints / "tuned"), "--output", str(tmp_path / "out")]
    arguments += ["--protocol", str(checkpoints / "protocol.yaml"), "--data", f"root={tmp_path / 'videos'}"]
    assert main([*arguments, "--ratios", "1,0"]) == 0
    printed = capsys.readouterr().out
    curve = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert curve["ratios"] == [0.0, 1.0]
    assert (tmp_path / "out" / "curve.png").stat().st_size > 1000
    assert "splits_mean" in printed
    report = evaluate_protocol(
        load_protocol(checkpoints / "protocol.yaml"),
        models=FrosterForVideoClassification.from_pretrained(checkpoints / "tuned"),
        processor=FrosterProcessor.from_pretrained(checkpoints / "tuned"),
        data={"root": str(tmp_path / "videos")},
        output_dir=tmp_path / "alone",
    )
    assert curve["splits_mean"][1] == report["results"]["this checkpoint"]["splits_mean"]
    assert curve["splits_mean"][0] > curve["splits_mean"][1]
    # No weights are left, and what is done is found again.
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.jsonl")}
    assert times
    assert main([*arguments, "--ratios", "0,1"]) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.jsonl")} == times


def test_one_ratio_is_one_checkpoint(checkpoints, tmp_path, capsys):
    arguments = ["interpolate", str(SMALL_CLIP), str(checkpoints / "tuned"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--ratio", "0.25"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    first, between = (
        FrosterForVideoClassification.from_pretrained(folder).froster.visual_projection.weight
        for folder in (checkpoints / "tuned", tmp_path / "out")
    )
    # w and -w, a quarter of the way.
    assert (between + 0.5 * first).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ratios", "0,x"], "--ratios is '0,x'"),
        (["--ratios", "0,2"], "The ratios are [0.0, 2.0]"),
        (["--data", "folder=x"], "unknown fields folder"),
    ],
)
def test_mistakes_are_one_line(checkpoints, tmp_path, capsys, options, message):
    arguments = ["interpolate", str(SMALL_CLIP), str(checkpoints / "tuned"), "--output", str(tmp_path / "out")]
    protocol = ["--protocol", str(checkpoints / "protocol.yaml"), "--data", f"root={tmp_path / 'videos'}"]
    assert main([*arguments, *protocol, *options]) == 1
    assert message in capsys.readouterr().err


def test_data_without_a_protocol_are_an_error(checkpoints, tmp_path, capsys):
    assert main(["interpolate", "a", "b", "--output", str(tmp_path), "--data", "root=x"]) == 1
    assert "give --protocol" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "ratios"),
    [
        ({"curve.json": "mine"}, [0, 1]),
        ({"curve.png": "mine"}, [0, 1]),
        ({"curve.json": '{"ratios": [0.0, 1.0]}'}, [0, 1]),
        ({"curve.json": '{"ratios": [0.0, 1.0]}', "ratio-0/result.md": ""}, [0.5]),
        ({"curve.json": f'{{"ratios": [1{"0" * 400}]}}'}, [0, 1]),
    ],
)
def test_what_no_such_curve_has_left_is_not_replaced(tmp_path, files, ratios):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(ResultExistsError, match=r"curve\.(json|png) exists already"):
        interpolation_curve("a", "b", protocol="x", data={}, output_dir=tmp_path, ratios=ratios)
    assert {name: (tmp_path / name).read_text() for name in files} == files


@pytest.mark.parametrize("name", ["curve.json", "curve.png"])
def test_what_something_else_has_written_meanwhile_is_not_replaced(checkpoints, tmp_path, monkeypatch, name):
    def evaluated(*args, **options):
        (tmp_path / name).write_text("mine")
        return {"results": {"between": {"full": 50.0}}}

    monkeypatch.setattr(module, "evaluate_protocol", evaluated)
    with pytest.raises(ResultExistsError, match=rf"{name} was written by something else meanwhile"):
        interpolation_curve(
            SMALL_CLIP, checkpoints / "tuned", protocol="x", data={}, output_dir=tmp_path, ratios=[0.5]
        )
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["curve.json", "curve.png"])
def test_a_pipe_in_the_place_of_a_result_is_refused_before_the_work(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is not a regular file"):
        interpolation_curve("a", "b", protocol="x", data={}, output_dir=tmp_path)


def test_several_processes_are_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ValueError, match="A curve between checkpoints runs in one process, but 2 were started"):
        interpolation_curve("a", "b", protocol="x", data={}, output_dir=tmp_path)


def test_a_curve_is_gone_on_with_between_its_ratios(tmp_path):
    (tmp_path / "ratio-0").mkdir()
    (tmp_path / "curve.json").write_text('{"ratios": [0.0]}')
    with pytest.raises(OSError, match="missing"):
        interpolation_curve(
            "a", str(tmp_path / "missing"), protocol="x", data={}, output_dir=tmp_path, ratios=[0, 0.5]
        )


def test_ratios_that_differ_have_folders_that_differ(tmp_path):
    ratios = {0: "ratio-0", 1.0: "ratio-1", 0.25: "ratio-0.25", 1e-7: "ratio-1e-07", 0.1234567: "ratio-0.1234567"}
    assert {ratio: module._ratio_folder(tmp_path, ratio).name for ratio in ratios} == ratios


def test_no_ratios_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"The ratios are \[\]"):
        interpolation_curve("a", "b", protocol="x", data={}, output_dir=tmp_path, ratios=[])


def test_weights_that_a_killed_run_has_left_are_deleted_by_the_next_one(checkpoints, tmp_path):
    """They are a whole model for each kill."""
    program = (
        "import os, signal; from froster_hf.cli import main; import froster_hf.training.interpolation_curve as curve; "
        "curve.FrosterForVideoClassification.from_pretrained = lambda folder: os.kill(os.getpid(), signal.SIGKILL); "
        "main({})"
    )
    arguments = ["interpolate", str(SMALL_CLIP), str(checkpoints / "tuned"), "--output", str(tmp_path / "out")]
    arguments += ["--protocol", str(checkpoints / "protocol.yaml"), "--data", f"root={tmp_path / 'videos'}"]
    arguments += ["--ratios", "0"]
    subprocess.run([sys.executable, "-c", program.format(arguments)], check=False)
    assert list((tmp_path / "out").rglob("*.safetensors"))
    assert main(arguments) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".at_work"} == {
        "curve.json",
        "curve.png",
        "ratio-0",
    }
