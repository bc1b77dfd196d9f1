import pytest
from transformers import AutoConfig, CLIPConfig, SiglipConfig

from froster_hf import FrosterConfig
from tests.modeling.tiny import TEXT, VISION, tiny_config


def test_defaults_are_frosters():
    config = FrosterConfig()
    assert (config.temporal_module, config.temporal_radius, config.temporal_pooling) == ("local_attention", 1, "mean")
    assert config.num_frames == 8


def test_no_labels_are_invented():
    assert FrosterConfig().num_labels == 0
    assert FrosterConfig(num_labels=3).num_labels == 3
    assert FrosterConfig(id2label={0: "waving"}, label2id={"waving": 0}).num_labels == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temporal_module": "timesformer"}, "temporal_module"),
        ({"temporal_pooling": "max"}, "temporal_pooling"),
        ({"temporal_radius": -1}, "temporal_radius.*-1.*at least 0"),
        ({"num_frames": 0}, "num_frames.*0.*at least 1"),
        ({"num_frames": "8"}, "num_frames"),
        ({"pooling_num_layers": 0}, "pooling_num_layers"),
        ({"adapter_size": 0}, "adapter_size.*0"),
    ],
)
def test_impossible_values_are_refused_by_name(fields, message):
    with pytest.raises(Exception, match=message):
        tiny_config(**fields)


def test_a_saved_configuration_is_known_to_auto_config(tmp_path):
    config = tiny_config(temporal_module="aim")
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is FrosterConfig
    assert loaded.to_json_string() == config.to_json_string()
    assert loaded.vision_config.hidden_size == 32


def test_the_towers_of_a_clip_configuration_are_kept():
    clip = CLIPConfig(
        text_config=dict(TEXT), vision_config=dict(VISION), projection_dim=24, logit_scale_init_value=4.0
    )
    config = FrosterConfig.from_clip_config(clip, temporal_module="aim", num_frames=16)
    assert (config.projection_dim, config.logit_scale_init_value, config.num_frames) == (24, 4.0, 16)
    assert config.text_config.to_dict() == clip.text_config.to_dict()
    assert config.vision_config.to_dict() == clip.vision_config.to_dict()


def test_towers_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="siglip"):
        FrosterConfig.from_clip_config(SiglipConfig())
