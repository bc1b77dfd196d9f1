"""A model has one fingerprint, wherever its weights lie."""

import json

import torch

from froster_hf import FrosterForVideoClassification
from froster_hf.fingerprints import architecture_of, model_fingerprint
from tests.fixtures.tiny import tiny_model


def test_it_is_that_of_the_weights(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    fingerprint = model_fingerprint(model)
    assert model_fingerprint(FrosterForVideoClassification.from_pretrained(tmp_path)) == fingerprint
    with torch.no_grad():
        model.froster.logit_scale.add_(1e-3)
    assert model_fingerprint(model) != fingerprint


def test_offloaded_weights_count_too(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    on_disk = ("vision_model", "text_model", "visual_projection", "text_projection")
    places = {"froster.logit_scale": "cpu", **{f"froster.{name}": "disk" for name in on_disk}}
    offloaded = FrosterForVideoClassification.from_pretrained(
        tmp_path, device_map=places, offload_folder=tmp_path / "offload"
    )
    assert model_fingerprint(offloaded) == model_fingerprint(model)


def test_what_answers_depend_on_beside_the_weights_is_named():
    architecture = architecture_of(tiny_model(temporal_module="local_attention", temporal_radius=2))
    assert architecture["model"]["temporal_radius"] == 2
    assert architecture["vision_config"]["hidden_act"] == tiny_model().config.vision_config.hidden_act
    assert architecture == json.loads(json.dumps(architecture))
    assert architecture_of(torch.nn.Linear(1, 1)) == {}
