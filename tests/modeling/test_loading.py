"""Auto classes, `from_clip`, the Hub's cache, and remote code in a process that cannot import the package."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForVideoClassification, PreTrainedConfig, SiglipConfig

from froster_hf import FrosterConfig, FrosterForVideoClassification, FrosterModel
from tests.fixtures.forks import run_python
from tests.fixtures.hidden import hiding
from tests.modeling.tiny import ARCHITECTURES, architecture_id, tiny_clip, tiny_clips, tiny_model, tiny_texts

# Runs with the package hidden: an installed class would win over the code in the folder.
WITHOUT_THE_PACKAGE = hiding("froster_hf")


def run_without_the_package(script: str, *arguments: str) -> str:
    """Standard output of a script in an isolated interpreter from which `froster_hf` cannot be imported."""
    finished = run_python("-I", "-c", WITHOUT_THE_PACKAGE + script, *arguments)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def test_auto_classes_load_what_was_saved(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    classifier = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert (type(base), type(classifier)) == (FrosterModel, FrosterForVideoClassification)
    with torch.no_grad():
        expected = model(tiny_clips(), input_ids=tiny_texts()).logits
        assert torch.equal(classifier(tiny_clips(), input_ids=tiny_texts()).logits, expected)
        assert torch.equal(base(tiny_clips(), tiny_texts()).logits_per_video, expected)


@pytest.mark.parametrize("model_class", [FrosterModel, FrosterForVideoClassification])
@torch.no_grad()
def test_any_clip_checkpoint_becomes_a_model_with_the_same_weights(tmp_path, model_class):
    clip = tiny_clip()
    clip.save_pretrained(tmp_path)
    model = model_class.from_clip(tmp_path, temporal_module="local_attention", temporal_radius=2, num_frames=16)
    assert (model.config.temporal_radius, model.config.num_frames) == (2, 16)
    froster = model if model_class is FrosterModel else model.froster
    assert froster.state_dict().keys() == clip.state_dict().keys()
    for name, value in clip.state_dict().items():
        assert torch.equal(froster.state_dict()[name], value)


def test_from_clip_takes_every_field_of_the_configuration(tmp_path):
    tiny_clip().save_pretrained(tmp_path)
    given = {
        "num_frames": 5,
        "temporal_radius": 2,
        "adapter_size": 3,
        "temporal_pooling": "transformer",
        "pooling_num_layers": 1,
        "pooling_num_heads": 2,
        "initializer_range": 0.5,
        "logit_scale_init_value": 1.5,
        "projection_dim": 32,
        "problem_type": "multi_label_classification",
    }
    own = {field.name for field in dataclasses.fields(FrosterConfig)}
    own -= {field.name for field in dataclasses.fields(PreTrainedConfig)}
    own -= {"backbone", "text_config", "vision_config", "temporal_module", "label_weights"}
    assert own == given.keys() - {"problem_type"}
    config = FrosterForVideoClassification.from_clip(tmp_path, temporal_module="st_adapter", **given).config
    assert {name: getattr(config, name) for name in given} == given
    assert FrosterForVideoClassification.from_clip(tmp_path, num_labels=3).config.num_labels == 3


def test_from_clip_takes_what_from_pretrained_takes(tmp_path):
    tiny_clip().save_pretrained(tmp_path)
    model = FrosterModel.from_clip(tmp_path, dtype=torch.bfloat16, attn_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.vision_model.config._attn_implementation == "eager"


def test_from_clip_refuses_another_kind_of_checkpoint(tmp_path):
    SiglipConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'siglip', not 'clip'"):
        FrosterModel.from_clip(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision_config": {"num_hidden_layers": 10**9}}, "vision_config.num_hidden_layers` is 1000000000"),
        ({"text_config": {"num_attention_heads": 0}}, "text_config.num_attention_heads` is 0"),
        ({"text_config_dict": {"num_attention_heads": 0}}, "text_config_dict.num_attention_heads` is 0"),
        ({"text_config": [7]}, r"text_config` is \[7\]"),
        ({"vision_config": {"layer_norm_eps": "small"}}, "layer_norm_eps.*str"),
        ({"projection_dim": "wide"}, "projection_dim` is 'wide'"),
    ],
)
def test_from_clip_refuses_hostile_configurations(tmp_path, fields, message):
    tiny_clip().save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stored | fields))
    with pytest.raises(ValueError, match=message) as caught:
        FrosterModel.from_clip(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["projection_dim"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match=r"(?i)mismatch"):
        FrosterModel.from_pretrained(tmp_path)


def test_the_saved_folder_holds_safetensors_and_its_own_code(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "configuration_froster.py",
        "layers_froster.py",
        "modeling_froster.py",
        "tables_froster.py",
        "temporal_froster.py",
    }
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_froster.FrosterConfig",
        "AutoModel": "modeling_froster.FrosterModel",
        "AutoModelForVideoClassification": "modeling_froster.FrosterForVideoClassification",
    }


REMOTE = """
import torch
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification

root = sys.argv[1]
inputs = torch.load(f"{root}/inputs.pt", weights_only=True)
for folder in sys.argv[2:]:
    classifier = AutoModelForVideoClassification.from_pretrained(f"{root}/{folder}", trust_remote_code=True)
    base = AutoModel.from_pretrained(f"{root}/{folder}", trust_remote_code=True)
    assert not type(classifier).__module__.startswith("froster_hf"), type(classifier).__module__
    with torch.no_grad():
        logits = classifier(inputs["clips"], input_ids=inputs["texts"]).logits
        assert torch.equal(base(inputs["clips"], inputs["texts"]).logits_per_video, logits)
    assert torch.equal(logits, inputs[folder]), (folder, (logits - inputs[folder]).abs().max())
    classifier.save_pretrained(f"{root}/{folder}-again")
    print(folder)
"""


def test_the_folder_works_as_remote_code_without_the_package(tmp_path, monkeypatch):
    """Bit-equal outputs for every architecture, and the folder that remote code saves again loads here."""
    inputs = {"clips": tiny_clips(), "texts": tiny_texts()}
    folders = [architecture_id(fields) for fields in ARCHITECTURES]
    for folder, fields in zip(folders, ARCHITECTURES):
        model = tiny_model(**fields)
        model.save_pretrained(tmp_path / folder)
        with torch.no_grad():
            inputs[folder] = model(inputs["clips"], input_ids=inputs["texts"]).logits
    torch.save(inputs, tmp_path / "inputs.pt")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run_without_the_package(REMOTE, str(tmp_path), *folders).split() == folders
    again = AutoModelForVideoClassification.from_pretrained(tmp_path / f"{folders[1]}-again")
    with torch.no_grad():
        assert torch.equal(again(inputs["clips"], input_ids=inputs["texts"]).logits, inputs[folders[1]])


FROM_THE_HUB = """
import sys
import torch
import froster_hf
from transformers import AutoModel

model = AutoModel.from_pretrained("visual-ai/froster-b16")
inputs = torch.load(sys.argv[1], weights_only=True)
with torch.no_grad():
    assert torch.equal(model(inputs["clips"], inputs["texts"]).logits_per_video, inputs["logits"])
print(type(model).__module__)
"""


def populate_hub_cache(cache: Path, repo_id: str, save) -> None:
    """The layout that huggingface_hub leaves: blobs, a snapshot of links to them, and a ref."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = repo / "snapshots" / revision
    for folder in (snapshot, repo / "blobs", repo / "refs"):
        folder.mkdir(parents=True)
    save(snapshot)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        blob = repo / "blobs" / f"{number:040x}"
        file.rename(blob)
        file.symlink_to(Path("../../blobs") / blob.name)
    (repo / "refs" / "main").write_text(revision)


def test_the_published_line_loads_from_the_hubs_cache_offline(tmp_path, monkeypatch):
    model = tiny_model()
    populate_hub_cache(tmp_path / "hub", "visual-ai/froster-b16", model.save_pretrained)
    with torch.no_grad():
        logits = model(tiny_clips(), input_ids=tiny_texts()).logits
    torch.save({"clips": tiny_clips(), "texts": tiny_texts(), "logits": logits}, tmp_path / "inputs.pt")
    for name, value in {"HF_HOME": tmp_path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, str(value))
    finished = run_python("-c", FROM_THE_HUB, tmp_path / "inputs.pt")
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.strip() == "froster_hf.modeling.modeling_froster"
