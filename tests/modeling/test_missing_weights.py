"""Weights that a checkpoint should have and has not: an error, unless the caller adds what they belong to."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForVideoClassification, pipeline

from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification, FrosterModel
from tests.fixtures.tiny import tiny_model

TOWER = "vision_model.encoder.layers.0.mlp.fc1.weight"


def without(folder: Path, part: str) -> Path:
    """The checkpoint in a folder, without the tensors whose names have this part."""
    file = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if part not in name}
    save_file(kept, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    "load",
    [
        FrosterForVideoClassification.from_pretrained,
        FrosterModel.from_pretrained,
        AutoModel.from_pretrained,
        AutoModelForVideoClassification.from_pretrained,
        lambda folder: pipeline("zero-shot-video-classification", model=str(folder)),
    ],
)
def test_weights_that_the_files_lack_are_an_error(checkpoint, load):
    with pytest.raises(ValueError, match=TOWER):
        load(without(checkpoint, TOWER))


def test_the_account_is_given_on_request(checkpoint):
    folder = without(checkpoint, TOWER)
    _, report = FrosterForVideoClassification.from_pretrained(folder, output_loading_info=True)
    assert report["missing_keys"] == {f"froster.{TOWER}"}


def test_a_temporal_module_that_the_configuration_says_must_be_there(tmp_path):
    tiny_model(temporal_module="st_adapter").save_pretrained(tmp_path)
    without(tmp_path, "st_adapter")
    for load in (FrosterForVideoClassification.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match="st_adapter"):
            load(tmp_path)


@pytest.mark.parametrize("field", [{"num_frames": 16}, {"id2label": {0: "a"}}, {"temporal_radius": 2}], ids=str)
def test_another_field_of_the_configuration_makes_no_weights_new(tmp_path, field):
    tiny_model(temporal_module="st_adapter").save_pretrained(tmp_path)
    without(tmp_path, "st_adapter")
    with pytest.raises(ValueError, match="st_adapter"):
        FrosterForVideoClassification.from_pretrained(tmp_path, **field)


def test_a_temporal_module_or_pooling_that_the_caller_adds_is_new(tmp_path, checkpoint):
    tiny_model(temporal_module="local_attention").save_pretrained(tmp_path)
    added = FrosterForVideoClassification.from_pretrained(
        tmp_path, temporal_module="directional_attention", temporal_pooling="conv1d"
    )
    assert added.config.temporal_module == "directional_attention"
    from_clip = FrosterForVideoClassification.from_clip(SMALL_CLIP, temporal_module="st_adapter")
    assert all(parameter.isfinite().all() for parameter in from_clip.parameters())


def test_a_tower_must_be_there_whatever_the_caller_adds(tmp_path):
    shutil.copytree(SMALL_CLIP, tmp_path / "clip")
    without(tmp_path / "clip", TOWER)
    with pytest.raises(ValueError, match=TOWER):
        FrosterForVideoClassification.from_clip(tmp_path / "clip", temporal_module="st_adapter")


def test_names_without_embeddings_are_no_missing_weights(checkpoint):
    model = FrosterForVideoClassification.from_pretrained(checkpoint, id2label={0: "a", 1: "b"})
    assert torch.isnan(model.label_embeds).all()
