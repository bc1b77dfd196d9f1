"""Renaming between the original layouts and `FrosterModel`: complete, strict, and bit-equal on the way back."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel

from froster_hf.conversion import (
    convert_state_dict,
    export_state_dict,
    recognize_layout,
)
from tests.conversion.original_layouts import (
    PARITY,
    SIZES,
    TRIOS,
    assert_bit_equal,
    clip_state_dict,
    froster_state_dict,
    load_trio,
    vificlip_state_dict,
)


@pytest.mark.parametrize(("trio", "module"), TRIOS.items())
def test_parity_trios_convert_completely_and_come_back_bit_equal(trio, module):
    original = load_trio(trio)
    converted = convert_state_dict(original)

    assert converted.layout == "froster"
    assert converted.temporal_module == module
    assert converted.dropped == {}
    assert converted.unused == []
    assert len(converted.projectors) == 4
    assert bool(converted.teacher) == (trio == "expand_temporal_view")
    assert {tensor.dtype for tensor in converted.model.values()} == {torch.float16}
    assert_bit_equal(export_state_dict(converted), original)


def test_every_tensor_is_contiguous_and_owns_its_storage():
    converted = convert_state_dict(load_trio("stadapt_zeroinit"))
    tensors = list(converted.model.values())
    assert all(tensor.is_contiguous() for tensor in tensors)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_stacked_projections_are_split_in_the_order_query_key_value():
    original = clip_state_dict()
    model = convert_state_dict(original).model
    stacked = original["visual.transformer.resblocks.1.attn.in_proj_weight"]
    for position, name in enumerate("qkv"):
        ours = model[f"vision_model.encoder.layers.1.self_attn.{name}_proj.weight"]
        assert torch.equal(ours, stacked[64 * position : 64 * (position + 1)])


def test_right_multiplied_projections_are_transposed():
    original = clip_state_dict()
    model = convert_state_dict(original).model
    assert model["visual_projection.weight"].shape == (32, 64)
    assert torch.equal(model["visual_projection.weight"], original["visual.proj"].T)
    assert torch.equal(model["text_projection.weight"], original["text_projection"].T)


def test_the_adapters_convolutions_become_linear_and_one_dimensional():
    original = load_trio("stadapt_zeroinit")
    model = convert_state_dict(original).model
    adapter = "vision_model.encoder.layers.0.st_adapter"
    assert model[f"{adapter}.down_proj.weight"].shape == (64, 128)
    assert model[f"{adapter}.conv.weight"].shape == (64, 1, 3)
    assert model[f"{adapter}.up_proj.weight"].shape == (128, 64)
    source = original["model.visual.transformer.resblocks.0.stadapt_conv3d_1.weight"]
    assert torch.equal(model[f"{adapter}.conv.weight"], source.squeeze(-1))


@pytest.mark.parametrize("size", [size for size in SIZES if size != "tiny"])
@pytest.mark.parametrize("layout", ["openai", "froster", "vificlip", "actionclip"])
def test_full_sizes_convert_to_the_names_and_shapes_of_transformers_clip(size, layout):
    clip = clip_state_dict(size, device="meta")
    original = {
        "openai": clip,
        "froster": froster_state_dict(clip, teacher=True),
        "vificlip": vificlip_state_dict(clip),
        "actionclip": clip,
    }[layout]
    width, text_width = SIZES[size]["width"], SIZES[size]["text_width"]
    config = CLIPConfig(
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_attention_heads": text_width // 64,
        },
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_attention_heads": width // 64,
            "num_hidden_layers": SIZES[size].get("layers", 12),
            "patch_size": SIZES[size]["patch"],
        },
        projection_dim=SIZES[size]["dim"],
    )
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in CLIPModel(config).state_dict().items()}
    if layout == "vificlip":
        del expected["text_model.embeddings.token_embedding.weight"]

    converted = convert_state_dict(original, layout=layout)

    assert {name: tensor.shape for name, tensor in converted.model.items()} == expected
    shapes = {name: tensor.shape for name, tensor in original.items() if name not in converted.dropped}
    assert {name: tensor.shape for name, tensor in export_state_dict(converted).items()} == shapes


def test_a_clip_of_transformers_keeps_its_names():
    ours = convert_state_dict(clip_state_dict()).model
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    converted = convert_state_dict(ours | positions)
    assert converted.layout == "transformers"
    assert list(converted.dropped) == list(positions)
    assert_bit_equal(converted.model, ours)
    assert_bit_equal(export_state_dict(converted), ours)


def test_a_model_of_one_layout_can_be_exported_to_another():
    clip = clip_state_dict()
    converted = convert_state_dict(clip)
    assert_bit_equal(export_state_dict(converted, layout="froster"), {f"model.{n}": t for n, t in clip.items()})


@pytest.mark.parametrize(
    ("head", "pooling"),
    [("LSTM", "lstm"), ("Conv_1D", "conv1d"), ("Transf", "transformer"), ("Transf_cls", "transformer_cls")],
)
def test_actionclip_with_a_temporal_head_comes_back_bit_equal(head, pooling):
    stored = load_file(PARITY / "actionclip" / f"head_{head}.safetensors")
    state = {name.removeprefix("state."): tensor for name, tensor in stored.items() if name.startswith("state.")}
    original = clip_state_dict() | {f"fusion_model.{name}": tensor for name, tensor in state.items()}

    converted = convert_state_dict(original)

    assert converted.layout == "actionclip"
    assert converted.temporal_pooling == pooling
    assert converted.temporal_module is None
    dropped = {"fusion_model.frame_position_embeddings.weight"} if head != "Transf" else set()
    assert set(converted.dropped) == dropped
    assert_bit_equal(export_state_dict(converted), {n: t for n, t in original.items() if n not in dropped})


def test_actionclips_joint_time_embedding_is_a_temporal_module():
    original = clip_state_dict() | {"visual.time_embedding": torch.randn(8, 64)}
    converted = convert_state_dict(original)
    assert (converted.layout, converted.temporal_module) == ("actionclip", "joint")
    assert converted.model["vision_model.embeddings.time_embedding"].shape == (8, 64)
    assert_bit_equal(export_state_dict(converted), original)


def test_vificlip_lacks_only_the_token_embedding():
    clip = clip_state_dict()
    original = vificlip_state_dict(clip)
    converted = convert_state_dict(original)
    assert converted.layout == "vificlip"
    assert list(converted.dropped) == ["prompt_learner.complete_text_embeddings"]
    missing = set(convert_state_dict(clip).model) - set(converted.model)
    assert missing == {"text_model.embeddings.token_embedding.weight"}
    del original["prompt_learner.complete_text_embeddings"]
    assert_bit_equal(export_state_dict(converted), original)


def test_a_missing_tensor_is_named():
    original = load_trio("aim")
    name = "model.visual.transformer.resblocks.1.s_adapter.adapter.2.bias"
    del original[name]
    with pytest.raises(ValueError, match=f"lacks 1 tensors.*{name}"):
        convert_state_dict(original)


def test_a_skipped_layer_is_missing_not_renumbered():
    original = {name: t for name, t in clip_state_dict().items() if "visual.transformer.resblocks.0." not in name}
    with pytest.raises(ValueError, match=r"visual\.transformer\.resblocks\.0\.attn\.in_proj_weight"):
        convert_state_dict(original)


def test_an_absurd_layer_number_ends_at_once():
    original = clip_state_dict() | {"visual.transformer.resblocks.99999999999.ln_1.weight": torch.zeros(64)}
    with pytest.raises(ValueError, match="lacks"):
        convert_state_dict(original)


def test_an_unknown_tensor_is_refused_or_listed():
    original = load_trio("frozen_none") | {"head": torch.zeros(5, 64), "model.extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"2 tensors that this package does not know: head, model\.extra"):
        convert_state_dict(original)
    converted = convert_state_dict(original, strict=False)
    assert converted.unused == ["head", "model.extra"]


def test_a_tensor_without_the_needed_axes_is_refused():
    original = load_trio("stadapt_zeroinit")
    name = "model.visual.transformer.resblocks.0.stadapt_conv3d_1.weight"
    original[name] = original[name].expand(-1, -1, -1, 2)
    with pytest.raises(ValueError, match=f"{name} has shape"):
        convert_state_dict(original)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("visual.layer1.0.conv1.weight", "ResNet"),
        ("visual.transformer.resblocks.0.net.ln_1.weight", "in-network shift"),
        ("image_encoder.VPT", "prompt tokens"),
        ("model.visual.transformer.resblocks.0.experts_head.0.c_fc.weight", "mixture-of-experts"),
        ("backbone.stem.weight", "layout of the checkpoint is unknown: 1 tensors.*backbone"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_its_reason(name, message):
    with pytest.raises(ValueError, match=message):
        recognize_layout([name])


def test_a_tensor_without_a_name_in_the_target_layout_is_refused():
    converted = convert_state_dict(load_trio("expand_temporal_view"))
    with pytest.raises(ValueError, match=r"82 tensors have no name in the openai layout: .*distillation_projectors"):
        export_state_dict(converted, layout="openai")
