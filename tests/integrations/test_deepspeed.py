"""DeepSpeed's ZeRO 2 on two CPU processes, by `accelerate launch` and the configuration in examples/: equal to one
process. DeepSpeed is part of no extra, since installing it takes torch's headers and a compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.fixtures.subprocesses import REPOSITORY, environment
from tests.integrations.fsdp_run import four_steps

pytestmark = pytest.mark.slow
CONFIG = REPOSITORY / "examples" / "accelerate" / "deepspeed_zero2.yaml"


def test_four_steps_are_those_of_one_process(tmp_path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (docs/guides/distributed.md)")
    # The example is for GPUs.
    config = {**yaml.safe_load(CONFIG.read_text()), "mixed_precision": "no", "use_cpu": True}
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(config))
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    four_steps(one)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "cpu.yaml")]
    command += [str(Path(__file__).with_name("fsdp_run.py")), str(two)]
    variables = {**environment(), "DS_ACCELERATOR": "cpu"}
    run = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    expected, found = load_file(one / "weights.safetensors"), load_file(two / "weights.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_the_configuration_is_one_of_accelerate():
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(CONFIG))
    assert str(loaded.distributed_type.value) == "DEEPSPEED"
    assert loaded.deepspeed_config["zero_stage"] == 2
