"""The table of code bases: a member that is entered at run time works everywhere, and nothing else lists them."""

import json

import pytest
import torch
from safetensors.torch import save_file

from froster_hf.cli import main
from froster_hf.conversion import convert_checkpoint, recognize_layout, write_original_checkpoint
from froster_hf.conversion.layouts import LAYOUTS, LayoutEntry, find_layout, written_layouts
from froster_hf.conversion.layouts.entry import Prefix
from tests.conversion.original_layouts import clip_state_dict, with_prefix

TOY = LayoutEntry(
    title="Toy code base",
    patch_embedding="net.visual.conv1.weight",
    prefixes=(Prefix("net.", "model", ""),),
    dropped={r"net\.epoch": "a number of its training"},
    unsupported={r"net\.mixer\..*": "has mixers, which this package lacks"},
    sections={"toy_state": ""},
    file_sections=(("toy_state", "", "module."),),
    temporal_module="local_attention",
    temporal_pooling="mean_unnormalized",
    templates="none",
    notes={"": "A toy.", "local_attention": "A toy that sees its neighbors."},
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(LAYOUTS, "toy", TOY)


def test_a_new_code_base_is_one_entry(toy, tmp_path, capsys):
    clip = clip_state_dict(layers=2, text_layers=2)
    names = with_prefix("net.", clip) | {"net.epoch": torch.tensor(3)}
    save_file(with_prefix("toy_state/module.", names), tmp_path / "toy.safetensors")

    assert main(["convert", str(tmp_path / "toy.safetensors"), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "recognized  Toy code base, section toy_state, prefix module." in printed
    assert "a number of its training" in printed
    assert "note        A toy that sees its neighbors." in printed
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["temporal_module"], config["temporal_pooling"]) == ("local_attention", "mean_unnormalized")

    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "again.pth"), "--to", "toy"]) == 0
    assert "in the layout of Toy code base" in capsys.readouterr().out
    again = torch.load(tmp_path / "again.pth", weights_only=True)["toy_state"]
    del names["net.epoch"]
    assert set(again) == set(with_prefix("module.", names))
    assert all(torch.equal(again[f"module.{name}"], tensor) for name, tensor in names.items())
    assert convert_checkpoint(tmp_path / "again.pth", tmp_path / "back").layout == "toy"


def test_what_it_does_not_have_is_refused(toy, tmp_path):
    with pytest.raises(ValueError, match="has mixers, which this package lacks"):
        recognize_layout(["net.mixer.0.weight"])
    save_file(clip_state_dict(), tmp_path / "a.safetensors")
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    with pytest.raises(ValueError, match="The toy layout has no teacher"):
        write_original_checkpoint(tmp_path / "out", tmp_path / "a.pth", layout="toy", teacher=tmp_path)


def test_unknown_and_unwritten_layouts_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"layout 'toy' is unknown; known are froster, openai"):
        find_layout("toy")
    with pytest.raises(ValueError, match=r"Files of the transformers layout are not written; those of froster"):
        write_original_checkpoint(tmp_path, tmp_path / "a.pth", layout="transformers")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_entry_is_told_by_its_own_names(name):
    entry = LAYOUTS[name]
    names = {entry.patch_embedding} | ({"fusion_model.a"} if entry.poolings else set())
    assert recognize_layout(names) == name
    assert (name in written_layouts()) == (entry.file_sections is not None)
    assert entry.has("model")
