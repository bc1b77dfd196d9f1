"""FSDP2 on two CPU processes, by `accelerate launch` and the configuration in examples/: equal to one process, ended
by SIGTERM with a whole checkpoint, and gone on from there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from froster_hf import FrosterForVideoClassification
from froster_hf.training.checkpointing import list_checkpoints
from froster_hf.training.whole_folders import check_sound
from tests.fixtures.subprocesses import REPOSITORY, environment
from tests.integrations.fsdp_run import four_steps

pytestmark = pytest.mark.slow
CONFIG = REPOSITORY / "examples" / "accelerate" / "fsdp2_cpu.yaml"


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    # As `accelerate launch` sets it up; that itself chooses a free port and binds it seconds later.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    command += ["--main_process_port", "0", str(Path(__file__).with_name("fsdp_run.py")), str(folder), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """The folders of one process's run, and of the one of two processes that was ended and gone on with."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    four_steps(one)
    ended = launch(two, "end")
    assert ended.returncode != 0
    assert f"exitcode  : {128 + signal.SIGTERM}" in ended.stderr, ended.stderr[-3000:]
    [checkpoint] = list_checkpoints(two).values()
    check_sound(checkpoint)
    assert checkpoint.name == "checkpoint-2"
    assert not (two / "log.json").exists()
    resumed = launch(two, "resume")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    return one, two


def test_weights_and_losses_are_those_of_one_process(runs):
    one, two = runs
    expected, found = load_file(one / "weights.safetensors"), load_file(two / "weights.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)
    losses = [
        {line["step"]: line["loss"] for line in json.loads((folder / "log.json").read_text()) if "loss" in line}
        for folder in (one, two)
    ]
    assert losses[1].keys() == {1, 2, 3, 4}
    for step, loss in losses[0].items():
        assert losses[1][step] == pytest.approx(loss, abs=1e-5), step


def test_the_checkpoint_and_the_saved_model_are_whole_and_load_in_one_process(runs):
    _, two = runs
    for folder in (two / "checkpoint-2", two / "saved"):
        weights = load_file(folder / "model.safetensors")
        model, report = FrosterForVideoClassification.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        for name, tensor in model.state_dict().items():
            assert torch.equal(weights[name], tensor), name


def test_the_configuration_is_one_of_accelerate():
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(CONFIG))
    assert str(loaded.distributed_type.value) == "FSDP"
    assert loaded.fsdp_config["fsdp_version"] == 2
    assert set(yaml.safe_load(CONFIG.read_text())) <= {*vars(loaded), "compute_environment"}
    assert os.environ.get("WORLD_SIZE") is None
