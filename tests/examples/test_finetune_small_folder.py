"""The worked example runs from raw files to answers of the zero-shot pipeline."""

import importlib.util
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from tests.fixtures.tiny import tiny_tokenizer, tiny_tower_options

EXAMPLE = Path(__file__).parents[2] / "examples" / "finetune_small_folder.py"


def load_example():
    spec = importlib.util.spec_from_file_location("finetune_small_folder", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_clip(folder: Path) -> Path:
    text, vision = tiny_tower_options()
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_the_example_learns_what_it_renders(tmp_path, capsys):
    arguments = ["--model", str(tiny_clip(tmp_path / "clip")), "--output-dir", str(tmp_path), "--num-frames", "4"]
    example = load_example()
    answers = example.main([*arguments, "--learning-rate", "3e-3"])
    assert set(answers) == set(example.CLASSES)
    # Three of the four candidates were trained, from random weights: most of them are found.
    assert sum(answers[name] == name for name in answers) >= 2
    assert "held-out accuracy" in capsys.readouterr().out
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert (tmp_path / "model" / "processor_config.json").is_file()
