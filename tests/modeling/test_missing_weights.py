"""Weights that a checkpoint lacks, or that its model has no place for: an error, unless the caller changes that."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForVideoClassification, pipeline

from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.checkpoint_loading import load_installed
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification, FrosterModel
from froster_hf.processing.processing_froster import FrosterProcessor
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.tiny import tiny_model

BACKBONES = ("clip", "metaclip_2", "siglip")
TOWER = "vision_model.encoder.layers.0.mlp.fc1.weight"


def without(folder: Path, part: str) -> Path:
    """The checkpoint in a folder, without the tensors whose names have this part."""
    file = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if part not in name}
    save_file(kept, file, metadata={"format": "pt"})
    return folder


def with_tensors(folder: Path, **tensors: torch.Tensor) -> Path:
    """The checkpoint in a folder, with these tensors besides."""
    file = folder / "model.safetensors"
    save_file(load_file(file) | tensors, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))


LOADERS = (
    FrosterForVideoClassification.from_pretrained,
    FrosterModel.from_pretrained,
    AutoModel.from_pretrained,
    AutoModelForVideoClassification.from_pretrained,
    lambda folder: pipeline("zero-shot-video-classification", model=str(folder)),
)


@pytest.mark.parametrize("load", LOADERS)
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


@pytest.mark.parametrize("load", LOADERS)
def test_weights_that_the_model_has_no_place_for_are_an_error(checkpoint, load):
    with_tensors(checkpoint, **{"froster.vision_model.encoder.layers.0.mlp.fc1.lora_A": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"no place in the model that its configuration describes, such as .*lora_A"):
        load(checkpoint)


def test_a_clip_with_weights_that_it_has_no_place_for_is_no_start(tmp_path):
    with_tensors(Path(shutil.copytree(SMALL_CLIP, tmp_path / "clip")), **{f"\x1b[2J{'a' * 500}": torch.ones(2)})
    with pytest.raises(ValueError, match="have no place") as error:
        FrosterModel.from_dual_encoder(tmp_path / "clip")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_a_temporal_module_that_the_configuration_does_not_say_is_an_error(tmp_path):
    tiny_model(temporal_module="st_adapter").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "temporal_module": "none"}))
    with pytest.raises(ValueError, match="st_adapter"):
        FrosterForVideoClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("has", "asked", "said"),
    [
        (
            {"temporal_module": "st_adapter"},
            {"temporal_module": "none"},
            r"12 .*`temporal_module` 'st_adapter'.*'none'",
        ),
        (
            {"temporal_module": "st_adapter"},
            {"temporal_module": "cross_frame"},
            r"'st_adapter' .*'cross_frame' was asked",
        ),
        (
            {"temporal_pooling": "conv1d"},
            {"temporal_pooling": "mean"},
            r"`temporal_pooling` 'conv1d' .*'mean' was asked",
        ),
    ],
)
def test_what_the_caller_replaces_of_temporal_weights_is_left_out_and_said(tmp_path, caplog, has, asked, said):
    tiny_model(**has).save_pretrained(tmp_path)
    caplog.set_level("WARNING", logger="transformers")
    model = FrosterForVideoClassification.from_pretrained(tmp_path, **asked)
    assert asked.items() <= model.config.to_dict().items()
    (message,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert re.search(said, message)
    assert re.search(r"^\d+ tensors of ", message)


@pytest.mark.parametrize("asked", [{"temporal_pooling": "mean_unnormalized"}, {"temporal_module": "none"}], ids=str)
def test_temporal_weights_that_nobody_asked_to_replace_are_an_error(tmp_path, asked):
    tiny_model(temporal_module="aim").save_pretrained(tmp_path)
    with_tensors(tmp_path, **{"froster.vision_model.encoder.layers.0.st_adapter.up_proj.bias": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"1 tensors .*no place .*st_adapter"):
        FrosterForVideoClassification.from_pretrained(tmp_path, **asked)


@pytest.mark.parametrize("load", [FrosterModel.from_clip, FrosterForVideoClassification.from_dual_encoder])
@pytest.mark.parametrize("asked", [{}, {"temporal_module": "none"}], ids=str)
def test_a_dual_encoder_with_temporal_weights_is_not_loaded_without_them(tmp_path, load, asked):
    model = FrosterModel.from_clip(SMALL_CLIP, temporal_module="st_adapter")
    folder = Path(shutil.copytree(SMALL_CLIP, tmp_path / "clip"))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no place .*st_adapter"):
        load(folder, **asked)
    assert load(folder, temporal_module="st_adapter").config.temporal_module == "st_adapter"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_known_to_be_left_out_is_no_error(tmp_path, backbone):
    save_dual_encoder(backbone, tmp_path / "encoder")
    names = ("text_model", "vision_model")
    positions = {f"{name}.embeddings.position_ids": torch.arange(4)[None] for name in names}
    with_tensors(tmp_path / "encoder", **positions)
    load_installed(tmp_path / "encoder", device="cpu", dtype="auto")
    model = FrosterForVideoClassification.from_dual_encoder(tmp_path / "encoder", temporal_module="none")
    model.set_labels(["a", "b"], text_embeds=torch.eye(2, model.config.projection_dim))
    model.add_distillation_projectors("residual")
    model.save_pretrained(tmp_path / "froster", state_dict=model.state_dict())
    with_tensors(tmp_path / "froster", **{f"froster.{name}": ids for name, ids in positions.items()})
    FrosterProcessor.from_dual_encoder(tmp_path / "encoder").save_pretrained(tmp_path / "froster")
    for load in (FrosterForVideoClassification.from_pretrained, FrosterModel.from_pretrained):
        load(tmp_path / "froster")
    classify = load_installed(tmp_path / "froster", device="cpu", dtype="auto")
    assert torch.equal(classify.model.stored_label_embeds(), model.label_embeds)
