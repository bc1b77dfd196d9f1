"""The worked example runs from raw files to answers of the zero-shot pipeline."""

import importlib.util
from pathlib import Path

from tests.fixtures.tiny import save_tiny_clip

EXAMPLE = Path(__file__).parents[2] / "examples" / "finetune_small_folder.py"


def load_example():
    spec = importlib.util.spec_from_file_location("finetune_small_folder", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_learns_what_it_renders(tmp_path, capsys):
    clip = save_tiny_clip(tmp_path / "clip", width=32)
    arguments = ["--model", str(clip), "--output-dir", str(tmp_path), "--num-frames", "4"]
    example = load_example()
    answers = example.main([*arguments, "--learning-rate", "3e-3"])
    assert set(answers) == set(example.CLASSES)
    # Three of the four candidates were trained, from random weights: most of them are found.
    assert sum(answers[name] == name for name in answers) >= 2
    assert "held-out accuracy" in capsys.readouterr().out
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert (tmp_path / "model" / "processor_config.json").is_file()
