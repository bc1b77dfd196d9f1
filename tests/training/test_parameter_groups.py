"""What is trained, and what decays."""

import pytest
import torch

from froster_hf.modeling import configuration_froster
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from froster_hf.training.student import (
    add_lora,
    choose_trained_parameters,
    decay_parameter_names,
    has_lora,
    merged_state_dict,
)
from tests.modeling.tiny import tiny_clips, tiny_model, tiny_texts
from tests.training.tiny import tiny_trainer


def trained_names(temporal_module: str, trained: str) -> set[str]:
    model = tiny_model(temporal_module=temporal_module)
    choose_trained_parameters(model, trained)
    return {name.removeprefix("froster.") for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_all_is_every_parameter():
    names = {name.removeprefix("froster.") for name, _ in tiny_model().named_parameters()}
    assert trained_names("local_attention", "all") == names
    assert "logit_scale" in names


@pytest.mark.parametrize("temporal_module", ["local_attention", "aim"])
def test_towers_are_trained_with_their_projections(temporal_module):
    vision, text = trained_names(temporal_module, "vision"), trained_names(temporal_module, "text")
    assert {name.split(".")[0] for name in vision} == {"vision_model", "visual_projection"}
    assert {name.split(".")[0] for name in text} == {"text_model", "text_projection"}
    assert vision | text | {"logit_scale"} == trained_names(temporal_module, "all")


@pytest.mark.parametrize(
    "temporal_module", [name for name, entry in TEMPORAL_MODULES.items() if entry.adapter_divisor]
)
def test_adapters_are_what_clip_does_not_have(temporal_module):
    added = trained_names(temporal_module, "all") - trained_names("none", "all")
    assert trained_names(temporal_module, "adapters") == added
    assert trained_names(temporal_module, "temporal") == added


@pytest.mark.parametrize("temporal_module", [name for name, entry in TEMPORAL_MODULES.items() if entry.own_parameters])
def test_temporal_is_what_clip_does_not_have(temporal_module):
    added = trained_names(temporal_module, "all") - trained_names("none", "all")
    assert trained_names(temporal_module, "temporal") == added


def test_gates_do_not_decay():
    decaying = decay_parameter_names(tiny_model(temporal_module="directional_attention"))
    assert not [name for name in decaying if "motion_gate" in name]


@pytest.mark.parametrize("trained", ["adapters", "temporal"])
def test_choosing_what_the_model_does_not_have_is_refused(trained):
    with pytest.raises(ValueError, match="the model has no such parameters"):
        trained_names("local_attention", trained)


@pytest.mark.parametrize("trained", ["all", "vision", "adapters", "lora"])
def test_a_training_changes_what_is_trained_and_nothing_else(tmp_path, trained):
    model = tiny_model(temporal_module="st_adapter")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # The frozen text tower's constants would hide a text that is trained by mistake.
    trainer = tiny_trainer(tmp_path, model=model, trained_parameters=trained, warmup_steps=0)
    trainer.train()
    expected = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name in expected if "distillation" not in name and "lora" not in name}
    after = {name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items()}
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    # A key's bias moves all scores of a query alike, and has no gradient.
    assert {name for name in expected ^ changed if not name.endswith("k_proj.bias")} == set()


@pytest.mark.parametrize(
    ("fields", "positions"),
    [
        ({"temporal_module": "joint"}, "froster.vision_model.embeddings.time_embedding"),
        ({"temporal_pooling": "transformer_cls"}, "froster.temporal_pooling.position_embedding"),
    ],
)
def test_what_has_one_axis_and_positions_do_not_decay(fields, positions):
    model = tiny_model(**fields)
    model.add_distillation_projectors("residual")
    decaying = set(decay_parameter_names(model))
    for name, parameter in model.named_parameters():
        assert (name in decaying) == (
            parameter.ndim >= 2 and "position_embedding" not in name and "time_embedding" not in name
        )
    assert "froster.text_model.embeddings.token_embedding.weight" in decaying
    assert "froster.vision_model.embeddings.position_embedding.weight" not in decaying
    assert positions in dict(model.named_parameters())
    assert positions not in decaying


def test_the_optimizer_has_these_groups(tmp_path):
    trainer = tiny_trainer(tmp_path, weight_decay=0.1)
    decaying, rest = trainer.create_optimizer().param_groups
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.ndim >= 2 for parameter in decaying["params"])
    assert len(decaying["params"]) + len(rest["params"]) == len(list(trainer.model.parameters()))


def test_low_rank_updates_of_more_weights_than_models_of_this_size_are_given_are_refused(monkeypatch):
    model = tiny_model()
    width = model.config.vision_config.hidden_size + model.config.text_config.hidden_size
    num_layers = model.config.vision_config.num_hidden_layers
    assert num_layers == model.config.text_config.num_hidden_layers
    # Queries, keys, values and outputs, with two matrices each.
    of_rank_one = 2 * 4 * num_layers * width
    monkeypatch.setattr(configuration_froster, "MAX_ADDED", 1000 * of_rank_one)
    with pytest.raises(ValueError, match=r"About .* new parameters would be put into the model; .* `lora_rank`"):
        add_lora(model, rank=1001, alpha=8, dropout=0.0)
    assert not has_lora(model)
    add_lora(model, rank=1000, alpha=8, dropout=0.0)
    assert has_lora(model)


def test_low_rank_updates_start_at_zero_and_merge_into_the_weights():
    model, plain = tiny_model(), tiny_model()
    add_lora(model, rank=4, alpha=8, dropout=0.0)
    assert has_lora(model)
    assert not has_lora(plain)
    inputs = {"pixel_values_videos": tiny_clips(), "input_ids": tiny_texts()}
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, rtol=0, atol=1e-6)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        moved = model(**inputs).logits
        plain.load_state_dict(merged_state_dict(model), strict=True)
        torch.testing.assert_close(plain(**inputs).logits, moved, rtol=0, atol=1e-4)


def test_what_clip_does_not_have_takes_its_own_learning_rate(tmp_path):
    fields = {"temporal_module": "none", "temporal_pooling": "specialization"}
    trainer = tiny_trainer(tmp_path, model_fields=fields, learning_rate=1e-4, temporal_learning_rate=1e-2)
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.student.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rate for name, rate in rates.items() if "temporal_pooling" in name} == {1e-2}
    assert {rate for name, rate in rates.items() if "temporal_pooling" not in name} == {1e-4}
    trained = [name for name, parameter in trainer.student.named_parameters() if parameter.requires_grad]
    assert sorted(rates) == sorted(trained)
    # Biases do not decay there either.
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays["froster.temporal_pooling.reduce.bias"] == 0
    trainer.train()
