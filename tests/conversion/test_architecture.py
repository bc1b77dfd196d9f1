"""The configuration that weights show, and what has to be told besides."""

import re

import pytest
import torch

from froster_hf.conversion import convert_state_dict
from froster_hf.conversion.architecture import infer_config, read_run_configuration
from tests.conversion.original_layouts import SIZES, clip_state_dict, froster_state_dict, load_trio


def origins(settings):
    return {setting.name: (setting.value, setting.origin) for setting in settings}


def test_shapes_alone_give_the_towers_of_a_parity_trio():
    config, settings = infer_config(convert_state_dict(load_trio("aim")), num_frames=4)
    vision, text = config.vision_config, config.text_config
    assert (vision.image_size, vision.patch_size, vision.hidden_size) == (24, 8, 128)
    assert (vision.num_hidden_layers, vision.num_attention_heads, vision.intermediate_size) == (2, 2, 512)
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.vocab_size) == (64, 2, 1, 600)
    assert (text.max_position_embeddings, text.eos_token_id, text.bos_token_id) == (77, 599, 598)
    assert config.projection_dim == 64
    told = origins(settings)
    assert told["temporal_module"] == ("aim", "weights")
    assert told["adapter_size"] == (32, "weights")
    assert told["num_frames"] == (4, "option")
    assert told["temporal_pooling"] == ("mean", "published default")
    assert "temporal_radius" not in told


@pytest.mark.parametrize(
    ("size", "patch", "layers", "heads", "text_heads"),
    [("ViT-B/32", 32, 12, 12, 8), ("ViT-B/16", 16, 12, 12, 8), ("ViT-L/14", 14, 24, 16, 12)],
)
def test_the_published_sizes_are_recognized(size, patch, layers, heads, text_heads):
    state = froster_state_dict(clip_state_dict(size, device="meta"))
    config, settings = infer_config(convert_state_dict(state))
    vision, text = config.vision_config, config.text_config
    assert (vision.image_size, vision.patch_size) == (224, patch)
    assert (vision.num_hidden_layers, vision.num_attention_heads) == (layers, heads)
    assert (text.num_hidden_layers, text.num_attention_heads, text.eos_token_id) == (12, text_heads, 49407)
    assert config.projection_dim == SIZES[size]["dim"]
    told = origins(settings)
    assert told["temporal_module"] == ("local_attention", "published default")
    assert told["temporal_radius"] == (1, "published default")
    assert told["num_frames"] == (8, "published default")


@pytest.mark.parametrize(
    ("layout", "module", "pooling"),
    [("openai", "none", "mean"), ("actionclip", "none", "mean_unnormalized")],
)
def test_defaults_follow_the_layout(layout, module, pooling):
    config, _ = infer_config(convert_state_dict(clip_state_dict(), layout=layout))
    assert (config.temporal_module, config.temporal_pooling) == (module, pooling)


def test_options_stand_above_the_run_configuration_and_that_above_the_default():
    converted = convert_state_dict(load_trio("expand_temporal_view"))
    run = "DATA: {NUM_FRAMES: 16}\nMODEL: {TEMPORAL_MODELING_TYPE: expand_temporal_view_step2}\n"
    told = origins(infer_config(converted, texts={"cfg": run})[1])
    assert told["temporal_module"] == ("local_attention", "run configuration")
    assert told["temporal_radius"] == (2, "run configuration")
    assert told["num_frames"] == (16, "run configuration")
    told = origins(infer_config(converted, texts={"cfg": run}, num_frames=4, temporal_radius=3)[1])
    assert (told["num_frames"], told["temporal_radius"]) == ((4, "option"), (3, "option"))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "(text of the run configuration)",
        "a: [",
        "- 1",
        "DATA: {}",
        "[" * 2000,
        "MODEL: 3\nDATA: 4",
        "!!timestamp x",
    ],
)
def test_a_text_that_is_no_run_configuration_states_nothing(text):
    assert read_run_configuration(text) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {TEMPORAL_MODELING_TYPE: expand_temporal_view_step4}", "TYPE as 'expand_temporal_view_step4', which"),
        (
            "MODEL: {TEMPORAL_MODELING_TYPE: [a]}",
            "TYPE as a value (list) that none of its runs has, which is not known here.",
        ),
        (
            "MODEL: {TEMPORAL_MODELING_TYPE: null}\n---\nMODEL: {}",
            "names TEMPORAL_MODELING_TYPE, but not as YAML with",
        ),
        (
            "DATA: {NUM_FRAMES: 16.0}",
            "gives DATA.NUM_FRAMES as 16.0, which is not known here. State what the model was",
        ),
        (f"DATA: {{NUM_FRAMES: 0x{'f' * 20000}}}", "gives DATA.NUM_FRAMES as a value (int) that none of its runs has"),
        (f"DATA: {{NUM_FRAMES: {'9' * 20000}}}", "names NUM_FRAMES, but not as YAML with the section DATA. State"),
    ],
)
def test_no_default_is_taken_where_the_file_says_something_that_is_not_known(text, message):
    converted = convert_state_dict(load_trio("expand_temporal_view"))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        infer_config(converted, texts={"cfg": text})
    assert re.search(r": `--(\w+-\w+)` \(`(\w+_\w+)` in Python\)\.$", str(refused.value))
    told = origins(infer_config(converted, texts={"cfg": text}, temporal_module="none", num_frames=4)[1])
    assert (told["temporal_module"], told["num_frames"]) == (("none", "option"), (4, "option"))


def test_a_name_that_is_not_known_may_stand_for_a_radius_as_well():
    converted = convert_state_dict(load_trio("expand_temporal_view"))
    run = {"cfg": "MODEL: {TEMPORAL_MODELING_TYPE: expand_temporal_view_step4}"}
    with pytest.raises(ValueError, match=r"--temporal-radius. \(`temporal_radius` in Python\)"):
        infer_config(converted, texts=run, temporal_module="local_attention")


def test_what_a_run_says_of_one_field_is_read_without_the_other():
    assert read_run_configuration("DATA: {NUM_FRAMES: 16}") == {"num_frames": 16}
    assert read_run_configuration("DATA: {NUM_FRAMES: null}") == {}


@pytest.mark.parametrize("text", ['{"num_frames": [16]}', '{"num_frames": 16', f'{{"num_frames": {"9" * 20000}}}'])
def test_a_statement_without_a_value_is_no_default(text):
    converted = convert_state_dict(load_trio("expand_temporal_view"))
    with pytest.raises(ValueError, match=r"in the file names num_frames, but gives .*`--num-frames`"):
        infer_config(converted, stated=text)
    assert origins(infer_config(converted, stated='{"num_frames": null}')[1])["num_frames"] == (8, "published default")


def test_a_text_of_merges_within_merges_is_not_multiplied_out():
    levels = [f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}" for i in range(60)]
    assert read_run_configuration("\n".join(["a0: &a0 {x: 1}", *levels])) == {}


def test_a_run_without_temporal_modeling_is_plain_clip():
    text = "DATA: {NUM_FRAMES: 8}\nMODEL: {TEMPORAL_MODELING_TYPE: null}"
    assert read_run_configuration(text) == {"temporal_module": "none", "num_frames": 8}


def test_frame_counts_that_weights_are_tied_to_are_read_off_them():
    state = clip_state_dict() | {"visual.time_embedding": torch.zeros(6, 64)}
    config, settings = infer_config(convert_state_dict(state))
    assert config.num_frames == 6
    assert origins(settings)["num_frames"] == (6, "weights")
    with pytest.raises(ValueError, match="`num_frames` is given as 8, but the weights are those of 6"):
        infer_config(convert_state_dict(state), num_frames=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temporal_module": "aim"}, "`temporal_module` is 'aim' .*no weights of it"),
        ({"temporal_module": "directional_attention"}, "is 'directional_attention' .*no weights of it"),
        ({"temporal_pooling": "lstm"}, "`temporal_pooling` is 'lstm', but the checkpoint has no weights"),
        (
            {"temporal_module": "none", "temporal_radius": 1},
            "`temporal_radius` is given, but .*'none', which has none",
        ),
    ],
)
def test_options_that_contradict_the_weights_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        infer_config(convert_state_dict(load_trio("frozen_none")), **options)
    with pytest.raises(ValueError, match="is given as 'none', but the weights are those of 'aim'"):
        infer_config(convert_state_dict(load_trio("aim")), temporal_module="none")


@pytest.mark.parametrize("shape", [(), (0,), (64,)], ids=str)
def test_embeddings_of_times_without_axes_are_named(shape):
    state = clip_state_dict() | {"visual.time_embedding": torch.zeros(shape)}
    with pytest.raises(ValueError, match=r"embeddings\.time_embedding has shape .*; expected 2 axes"):
        infer_config(convert_state_dict(state))


def test_shapes_of_no_vision_transformer_are_refused():
    state = clip_state_dict()
    with pytest.raises(ValueError, match="6 positions, which are not a class token and a square"):
        infer_config(convert_state_dict(state | {"visual.positional_embedding": torch.zeros(6, 64)}))
    with pytest.raises(ValueError, match=r"width 60; .* multiples of 64"):
        infer_config(convert_state_dict(state | {"visual.conv1.weight": torch.zeros(60, 3, 8, 8)}))
