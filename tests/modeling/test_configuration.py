import json
import re

import pytest
import torch
from transformers import AlignConfig, AutoConfig, AutoModel, CLIPConfig, CLIPModel, Siglip2Config, SiglipConfig

from froster_hf import FrosterConfig, FrosterForVideoClassification, FrosterModel
from froster_hf.assets import SMALL_FROSTER
from froster_hf.modeling.configuration_froster import (
    SIZE_LIMITS,
    TOWER_SIZE_LIMITS,
    read_dual_encoder_config,
)
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS
from tests.modeling import table
from tests.modeling.tiny import TEXT, VISION, tiny_config


def test_defaults_are_frosters():
    config = FrosterConfig()
    assert (config.temporal_module, config.temporal_radius, config.temporal_pooling) == ("local_attention", 1, "mean")
    assert config.num_frames == 8


@pytest.mark.parametrize("name", [*TEMPORAL_MODULES, *TEMPORAL_POOLINGS])
def test_every_module_and_pooling_is_described(name):
    assert f"`{name}`" in FrosterConfig.__doc__
    entry = (TEMPORAL_MODULES | TEMPORAL_POOLINGS)[name]
    assert entry.description
    assert entry.source


def test_the_documents_tables_are_those_of_the_package():
    assert table.DOCUMENT.read_text() == table.render()


def test_no_labels_are_invented():
    assert FrosterConfig().num_labels == 0
    assert FrosterConfig(num_labels=3).num_labels == 3
    assert FrosterConfig(id2label={0: "waving"}, label2id={"waving": 0}).num_labels == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temporal_module": "timesformer"}, "`temporal_module` is 'timesformer'; it must be one of none, local"),
        ({"temporal_module": ["none"]}, "temporal_module.*list"),
        (
            {"temporal_module": "joint", "temporal_pooling": "transformer_cls"},
            "'joint' gives one embedding per clip, and `temporal_pooling` 'transformer_cls' has positions for one per",
        ),
        ({"temporal_pooling": "max"}, "`temporal_pooling` is 'max'; it must be one of mean, "),
        ({"num_frames": "8"}, "num_frames.*str"),
        ({"num_frames": 0}, "num_frames.* is 0; .* from 1 to 10000"),
        ({"temporal_radius": -1}, "temporal_radius.*-1.* from 0 to 256"),
        ({"temporal_radius": 10**9}, "temporal_radius.*1000000000"),
        ({"adapter_size": 0}, "adapter_size.*0"),
        ({"pooling_num_heads": 0}, "pooling_num_heads"),
        ({"text_config": [1]}, "text_config.*list"),
        ({"text_config": {"hidden_size": "512"}}, "text_config.hidden_size` is '512'"),
        ({"text_config": {"num_attention_heads": 0}}, "text_config.num_attention_heads` is 0"),
        ({"text_config": {"hidden_act": "cube"}}, "hidden_act` is 'cube'; known are .*quick_gelu"),
        ({"text_config": {"layer_norm_eps": "small"}}, "layer_norm_eps.*str"),
        ({"text_config": {"layer_norm_eps": float("inf")}}, "text_config.layer_norm_eps` is inf; it must be a number"),
        ({"vision_config": {"layer_norm_eps": float("nan")}}, "vision_config.layer_norm_eps` is nan; it must be"),
        ({"vision_config": {"layer_norm_eps": 0.0}}, "vision_config.layer_norm_eps` is 0.0; it must be"),
        (
            {"text_config": {"attention_dropout": 5.0}},
            "text_config.attention_dropout` is 5.0; it must be a number from",
        ),
        ({"vision_config": {"layer_norm_eps": 1e9}}, "vision_config.layer_norm_eps` is 1000000000.0; it must be"),
        ({"text_config": {"layer_norm_eps": None}}, "text_config.layer_norm_eps` is null; it must be a number"),
        ({"text_config": {"initializer_factor": None}}, "text_config.initializer_factor` is null; it must be"),
        ({"vision_config": {"patch_size": 0}}, "vision_config.patch_size` is 0"),
        ({"vision_config": {"patch_size": 300}}, "patch_size` is 300, more than the image_size 224"),
        ({"vision_config": {"image_size": [224, 224]}}, r"image_size` is \[224, 224\]"),
        ({"id2label": {"0": "a", "1": "a"}}, "id2label` has 'a' more than once"),
        ({"id2label": {"0": "a", "2": "b"}}, r"id2label` has the indices \['0', '2'\]; they must be 0 to 1"),
        ({"id2label": 5}, "id2label.* 5"),
        ({"id2label": {"0": "a" * 20_000}}, "id2label` has a label of 20000 characters; up to 2000"),
        ({"id2label": {"0": None}}, r"id2label.*\{'0': None\}"),
        ({"num_labels": "two"}, "num_labels` is 'two'"),
    ],
)
def test_impossible_values_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        FrosterConfig(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "number", [float("inf"), float("-inf"), float("nan"), 10**400], ids=["inf", "-inf", "nan", "whole"]
)
@pytest.mark.parametrize("model_type", ["froster", "clip", "siglip"])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (lambda number: {"logit_scale_init_value": number}, "logit_scale_init_value"),
        (lambda number: {"initializer_factor": number}, "initializer_factor"),
        (lambda number: {"text_config": {"initializer_range": number}}, "text_config.initializer_range"),
        (lambda number: {"vision_config": {"attention_dropout": number}}, "vision_config.attention_dropout"),
        (lambda number: {"note": {"of": [1.0, {"any": number}]}}, "note.of.any"),
    ],
    ids=["top", "of the dual encoder", "text", "vision", "any depth"],
)
def test_a_number_that_is_not_finite_is_refused_by_its_field(tmp_path, fields, named, model_type, number):
    """transformers writes it as an object, and loads no configuration that has one."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **fields(number)}))
    with pytest.raises(ValueError, match=f"`{named}` is {number!s:.100}; it must be a (finite )?number"):
        FrosterConfig.from_fields(json.loads((tmp_path / "config.json").read_text()))


def test_a_scale_that_is_a_whole_number_is_that_number():
    """As a file may write 3.0; transformers would make a parameter of whole numbers, which torch refuses."""
    config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)
    assert CLIPModel(read_dual_encoder_config(config.to_dict() | {"logit_scale_init_value": 3})).logit_scale == 3


@pytest.mark.parametrize("name", list(SIZE_LIMITS))
@pytest.mark.parametrize("value", [10**9, 2**63, -1])
def test_hostile_sizes_of_a_file_are_refused_before_anything_is_computed(tmp_path, name, value):
    tiny_config().save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stored | {name: value}))
    with pytest.raises(ValueError, match=rf"`{name}` is {value}; it must be"):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("tower", ["text_config", "vision_config"])
@pytest.mark.parametrize("value", [10**9, 2**63, -1])
def test_hostile_sizes_of_a_tower_are_refused(tower, value):
    known = [name for name in TOWER_SIZE_LIMITS if hasattr(getattr(FrosterConfig(), tower), name)]
    assert len(known) >= 7
    for name in known:
        with pytest.raises(ValueError, match=rf"`{tower}.{name}` is {value}"):
            FrosterConfig(**{tower: {name: value}})


@pytest.mark.parametrize("where", ["dtype", "torch_dtype", "text_config.dtype", "vision_config.torch_dtype"])
@pytest.mark.parametrize("value", [3, [], {"text_config": "float16"}, "int8", "float8_e4m3fn", "Tensor", "auto"])
def test_a_type_of_weights_that_no_model_is_built_in_is_refused_by_name(where, value):
    tower, _, name = where.rpartition(".")
    for model_type, load in (("froster", FrosterConfig.from_dict), ("clip", read_dual_encoder_config)):
        fields = {tower: {name: value}} if tower else {name: value}
        with pytest.raises(ValueError, match=rf"`{re.escape(where)}` is .*; it must be one of float16, half"):
            load({"model_type": model_type, **fields})


@pytest.mark.parametrize("value", [None, "bfloat16", "half", torch.float16])
def test_types_of_weights_are_taken_as_files_and_torch_name_them(value):
    config = FrosterConfig(dtype=value, text_config={"dtype": value})
    assert FrosterConfig.from_dict(config.to_dict()).dtype in (None, torch.bfloat16, torch.float16)


def test_kernels_are_chosen_by_the_caller_and_by_no_file(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    content |= {"attn_implementation": "owner/kernels@refs/pr/1", "_attn_implementation": "owner/kernels"}
    content |= {"_attn_implementation_internal": "owner/kernels", "_output_attentions": ["a"]}
    content["vision_config"] |= {"attn_implementation": "owner/kernels"}
    file.write_text(json.dumps(content))
    for config in (FrosterConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert config._attn_implementation is None
        assert config.vision_config._attn_implementation is None
        config.save_pretrained(tmp_path / "again")
    assert AutoConfig.from_pretrained(tmp_path, attn_implementation="eager")._attn_implementation == "eager"


def test_what_a_model_returns_is_chosen_by_the_caller_and_by_no_file(tmp_path):
    tiny_config(return_dict=False).save_pretrained(tmp_path)
    for load in (FrosterConfig.from_pretrained, AutoConfig.from_pretrained):
        assert load(tmp_path).return_dict
        assert not load(tmp_path, return_dict=False).return_dict


OTHER_NAMES = {
    "a map of names": {"hidden": "owner/kernels", "attribute_map": {"hidden": "_attn_implementation"}},
    "layers of their own": {"per_layer_config": {"0": {"hidden_size": 10**9}}},
    "a method": {"to_dict": 1},
    "another file of weights": {"transformers_weights": "w.safetensors"},
    "another library's reader of images": {"pretrained_cfg": {}},
    "what Python calls an object itself": {"self": 1},
    "what transformers prints as it is": {"rope_parameters": {"rope_type": "\x1b[2J"}},
}


@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
@pytest.mark.parametrize("case", OTHER_NAMES)
def test_no_field_of_a_file_takes_the_place_of_what_the_class_has_under_its_name(tmp_path, case, part):
    """A map would give any field another name, under which no check finds it."""
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (content if part is None else content[part]).update(OTHER_NAMES[case])
    (tmp_path / "config.json").write_text(json.dumps(content))
    clip = CLIPConfig().to_dict()
    (clip if part is None else clip[part]).update(OTHER_NAMES[case])
    for load in (
        lambda: FrosterConfig.from_pretrained(tmp_path),
        lambda: AutoConfig.from_pretrained(tmp_path),
        lambda: FrosterForVideoClassification.from_pretrained(tmp_path),
        lambda: read_dual_encoder_config(clip),
    ):
        with pytest.raises(ValueError, match="is not a field of a configuration"):
            load()


def test_a_note_in_a_configuration_and_a_label_of_any_name_stay(tmp_path):
    labels = {"attribute_map": 0, "to_dict": 1}
    config = tiny_config(id2label={index: name for name, index in labels.items()}, label2id=labels, my_note="kept")
    config.save_pretrained(tmp_path)
    again = FrosterConfig.from_pretrained(tmp_path)
    assert (again.label2id, again.my_note) == (labels, "kept")


def test_a_billion_labels_are_refused():
    with pytest.raises(ValueError, match="num_labels` is 1000000000"):
        FrosterConfig(num_labels=10**9)


@pytest.mark.parametrize("part", [None, "text_config", "vision_config", "text_config_dict"])
def test_a_dual_encoder_of_many_labels_is_refused_before_they_are_written(part):
    fields = CLIPConfig().to_dict()
    labels = {"num_labels": 2_000_000}
    fields |= labels if part is None else {part: fields.get(part, {}) | labels}
    with pytest.raises(ValueError, match="num_labels` is 2000000; it must be an integer from 0 to 100000"):
        FrosterConfig.from_fields(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "bert", "num_labels": 2_000_000},
        {"model_type": "gpt_neo", "attention_types": [[["global"], 2_000_000]], "num_layers": 2_000_000},
        {"model_type": "groupvit"},
        {"model_type": ["clip"]},
        {},
    ],
)
def test_of_other_types_no_configuration_is_built(fields):
    """Some write lists as long as a file says."""
    with pytest.raises(ValueError, match=r"is not that of a backbone: 'clip', "):
        FrosterConfig.from_fields(fields)


def test_two_labels_with_default_names_survive_saving(tmp_path):
    tiny_config(num_labels=2).save_pretrained(tmp_path)
    assert FrosterConfig.from_pretrained(tmp_path).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    tiny_config().save_pretrained(tmp_path)
    assert FrosterConfig.from_pretrained(tmp_path).id2label == {}


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
    config = FrosterConfig.from_dual_encoder_config(clip, temporal_module="aim", num_frames=16)
    assert (config.projection_dim, config.logit_scale_init_value, config.num_frames) == (24, 4.0, 16)
    assert config.text_config.to_dict() == clip.text_config.to_dict()
    assert config.vision_config.to_dict() == clip.vision_config.to_dict()


def test_towers_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="'align' is not that of a backbone: 'clip', 'metaclip_2', 'siglip'"):
        FrosterConfig.from_dual_encoder_config(AlignConfig())
    with pytest.raises(ValueError, match=r"NaFlex.*says 'siglip'"):
        FrosterConfig.from_dual_encoder_config(Siglip2Config())
    with pytest.raises(ValueError, match=r"`text_config` is of model type 'siglip_text_model', but"):
        FrosterConfig(text_config=SiglipConfig().text_config.to_dict())
    with pytest.raises(ValueError, match=r"backbone` is 'blip'; it must be one of clip, metaclip_2, siglip"):
        FrosterConfig(backbone="blip")


@pytest.mark.parametrize("tower", [None, "text_config"])
def test_a_library_of_quantization_calls_nothing_that_a_file_names(tmp_path, tower):
    config = json.loads((SMALL_FROSTER / "config.json").read_text())
    stated = {"quant_method": "torchao", "quant_type": {"default": {"_type": "torch.dtype", "_data": "compile"}}}
    (config if tower is None else config[tower])["quantization_config"] = stated
    (tmp_path / "config.json").write_text(json.dumps(config))
    for load in (FrosterConfig.from_pretrained, AutoConfig.from_pretrained, FrosterModel.from_pretrained):
        with pytest.raises(ValueError, match=r"'quant_type' of its quantization is .*, which torchao does not write"):
            load(tmp_path)
