import pytest
import torch
from transformers import CLIPModel

from froster_hf.training import average_models
from tests.fixtures.tiny import save_tiny_clip, tiny_model


def test_the_weights_are_the_mean_of_the_weights():
    models = [tiny_model(seed) for seed in range(3)]
    expected = {
        name: torch.stack([model.state_dict()[name].double() for model in models]).mean(0).float()
        for name, _ in models[0].named_parameters()
    }
    averaged = average_models(model for model in models)
    for name, parameter in averaged.named_parameters():
        torch.testing.assert_close(parameter.data, expected[name], rtol=0, atol=1e-7)


def test_one_model_stays_as_it_is_bit_for_bit():
    before = {name: tensor.clone() for name, tensor in tiny_model().state_dict().items()}
    after = average_models([tiny_model()]).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_embeddings_of_labels_are_not_averaged():
    """Those of two lists would answer under the names of the first."""
    models = [tiny_model(seed) for seed in range(2)]
    for model, labels in zip(models, (["a", "b"], ["b", "a"])):
        model.set_labels(labels, text_embeds=torch.eye(2, model.config.projection_dim))
    assert average_models(models).config.id2label == {}
    assert len(models[0].label_embeds) == 0


def test_factors_of_adapters_are_not_averaged():
    """The mean of A and the mean of B are not the mean of B A."""
    peft = pytest.importorskip("peft")
    models = [tiny_model(seed) for seed in range(2)]
    for model in models:
        model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    with pytest.raises(ValueError, match=r"carry adapters of PEFT.* merge each adapter into its model"):
        average_models(models)
    assert average_models(models[:1]) is models[0]


def test_weights_that_are_not_finite_have_no_mean():
    models = [tiny_model(0), tiny_model(1)]
    models[1].froster.logit_scale.data.fill_(torch.nan)
    before = models[0].froster.logit_scale.clone()
    with pytest.raises(ValueError, match=r"1 weights of the models are not finite \(froster\.logit_scale\)"):
        average_models(models)
    assert torch.equal(models[0].froster.logit_scale, before)


def test_a_mean_that_its_models_do_not_hold_is_refused_and_changes_none():
    models = [tiny_model(0).half(), tiny_model(1)]
    models[1].froster.visual_projection.weight.data.fill_(3e5)
    with pytest.raises(ValueError, match="1 weights of the models are not finite"):
        average_models(models)
    doubles = [tiny_model(seed).double() for seed in (0, 1)]
    before = {name: tensor.clone() for name, tensor in doubles[0].state_dict().items()}
    with pytest.raises(ValueError):
        average_models([*doubles, tiny_model(temporal_module="joint")])
    assert all(torch.equal(before[name], tensor) for name, tensor in doubles[0].state_dict().items())


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="other weights than the first"):
        average_models([tiny_model(), tiny_model(temporal_module="st_adapter")])
    with pytest.raises(ValueError, match="in model 2"):
        average_models([tiny_model(), tiny_model(projection_dim=8)])
    with pytest.raises(ValueError, match="no models"):
        average_models([])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision_config": {"num_attention_heads": 4}}, "vision_config.num_attention_heads: 2 and 4"),
        ({"text_config": {"hidden_act": "relu"}}, "text_config.hidden_act: 'quick_gelu' and 'relu'"),
        ({"text_config": {"eos_token_id": 7}}, "texts end with token 513 and 7"),
        ({"temporal_radius": 3}, "temporal_radius: 1 and 3"),
        ({"temporal_module": "channel_shift"}, "temporal_module: 'local_attention' and 'channel_shift'"),
        ({"temporal_module": "none"}, "temporal_module: 'local_attention' and 'none'"),
        ({"temporal_pooling": "mean_unnormalized"}, "temporal_pooling: 'mean' and 'mean_unnormalized'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_models_of_other_architectures_have_no_mean(fields, message):
    """Their weights have the same names and shapes, and mean something else."""
    models = [tiny_model(0), tiny_model(1)]
    for name, value in fields.items():
        if isinstance(value, dict):
            getattr(models[1].config, name).update(value)
        else:
            setattr(models[1].config, name, value)
    models[1].config._name_or_path = "run/b"
    with pytest.raises(ValueError, match=rf"Model 1 and Model 2 \(run/b\) are of different .*{message}"):
        average_models(models)


def test_backbones_of_other_architectures_have_no_mean(tmp_path):
    models = [CLIPModel.from_pretrained(save_tiny_clip(tmp_path / name)) for name in ("a", "b")]
    models[1].config.vision_config.num_attention_heads = 4
    with pytest.raises(ValueError, match=r"Model 1 \(.*a\) and Model 2 .*num_attention_heads: 2 and 4"):
        average_models(models)
    models[1].config.vision_config.num_attention_heads = 2
    assert average_models(models) is models[0]
