"""Every backbone is transformers' own dual encoder where there is one frame, and takes every module and pooling."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CONFIG_MAPPING, AutoConfig, AutoProcessor, Siglip2Config, SiglipModel

from froster_hf import FrosterConfig, FrosterForVideoClassification, FrosterModel
from froster_hf.modeling.tables_froster import BACKBONES, TEMPORAL_MODULES, TEMPORAL_POOLINGS
from froster_hf.processing.processing_froster import FrosterProcessor
from tests.fixtures.dual_encoders import LABELS, SIZE, TEXT_LENGTH, WIDTH, tiny_dual_encoder, tiny_pixels
from tests.modeling import backbones_table
from tests.modeling.test_loading import run_without_the_package


@pytest.fixture(scope="module")
def processor(dual_encoder):
    return FrosterProcessor.from_dual_encoder(dual_encoder, prompt_templates="none", video_options={"num_frames": 4})


@pytest.fixture(scope="module")
def texts(processor):
    return processor.encode_labels(LABELS)["input_ids"]


def build(folder, model_class=FrosterModel, **fields):
    return model_class.from_dual_encoder(folder, **{"num_frames": 4, **fields}).eval()


def move_off_the_start(model):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
@pytest.mark.parametrize("module", TEMPORAL_MODULES)
def test_one_frame_gives_the_original_logits_where_the_table_says_so(backbone, dual_encoder, texts, module):
    """Without neighbors, whose zero keys take their share of the softmax."""
    pixels = tiny_pixels(3, 1).double()
    original = tiny_dual_encoder(backbone).double()(input_ids=texts, pixel_values=pixels[:, 0])
    outputs = build(dual_encoder, temporal_module=module, num_frames=1, temporal_radius=0).double()(pixels, texts)
    torch.testing.assert_close(outputs.text_embeds, original.text_embeds, atol=1e-12, rtol=0)
    if TEMPORAL_MODULES[module].starts_as_backbone:
        torch.testing.assert_close(outputs.logits_per_video, original.logits_per_image, atol=1e-12, rtol=0)
        torch.testing.assert_close(outputs.video_embeds, original.image_embeds, atol=1e-12, rtol=0)
    else:
        assert (outputs.video_embeds - original.image_embeds).abs().max() > 1e-6


@torch.no_grad()
def test_without_a_temporal_module_the_logits_are_the_mean_of_the_frames(backbone, dual_encoder, texts):
    pixels = tiny_pixels().double()
    original = tiny_dual_encoder(backbone).double()(input_ids=texts, pixel_values=pixels.flatten(0, 1))
    outputs = build(dual_encoder, temporal_module="none").double()(pixels, texts)
    expected = original.logits_per_image.unflatten(0, (2, 4)).mean(dim=1)
    torch.testing.assert_close(outputs.logits_per_video, expected, atol=1e-12, rtol=0)


def test_the_loss_of_pairs_is_the_originals(backbone, dual_encoder, texts):
    pixels = tiny_pixels(3, 1)
    original = tiny_dual_encoder(backbone)(input_ids=texts, pixel_values=pixels[:, 0], return_loss=True)
    outputs = build(dual_encoder, temporal_module="none", num_frames=1)(pixels, texts, return_loss=True)
    torch.testing.assert_close(outputs.loss, original.loss, atol=1e-5, rtol=0)


def test_the_weights_are_loaded_as_they_are(backbone, dual_encoder):
    _, about = FrosterModel.from_dual_encoder(dual_encoder, temporal_module="none", output_loading_info=True)
    assert not any(about.values())
    model = build(dual_encoder, temporal_module="local_attention")
    assert set(model.state_dict()) == set(tiny_dual_encoder(backbone).state_dict())


@pytest.mark.parametrize("module", TEMPORAL_MODULES)
def test_every_module_looks_at_other_frames_and_is_trained(dual_encoder, texts, module):
    entry = TEMPORAL_MODULES[module]
    model = move_off_the_start(build(dual_encoder, temporal_module=module))
    pixels = tiny_pixels()
    outputs = model(pixels, texts, output_hidden_states=True)
    assert outputs.logits_per_video.shape == (2, 3)
    assert len(outputs.hidden_states) == 3
    outputs.logits_per_video.softmax(dim=-1)[:, 0].sum().backward()
    own = {name: p for name, p in model.named_parameters() if set(entry.own_parameters) & set(name.split("."))}
    assert bool(own) == bool(entry.own_parameters)
    # Zero but for rounding are the gradients of a bias of keys, which adds the same to all that a query compares, and
    # in the first layer those of what compares class tokens, which are all equal there.
    trained = {re.sub(r"layers\.\d+", "layers", name) for name, parameter in own.items() if parameter.grad.any()}
    assert {re.sub(r"layers\.\d+", "layers", name) for name in own if not name.endswith("k_proj.bias")} <= trained
    if entry.place != "embeddings":
        with torch.no_grad():
            pixels[:, 2] += 1
            changed = model.get_video_features(pixels).frame_embeds[:, 1]
        assert torch.equal(changed, outputs.frame_embeds[:, 1]) != entry.mixes_frames


@pytest.mark.parametrize("module", ["local_attention", "joint", "aim"])
def test_every_kernel_gives_the_same_and_eager_gives_attentions(dual_encoder, module):
    model = move_off_the_start(build(dual_encoder, temporal_module=module))
    pixels = tiny_pixels()
    with torch.no_grad():
        expected = model.get_video_features(pixels).video_embeds
        model.set_attn_implementation("eager")
        features = model.get_video_features(pixels, output_attentions=True)
    torch.testing.assert_close(features.video_embeds, expected, atol=1e-5, rtol=0)
    assert len(features.attentions) == 2


@torch.no_grad()
@pytest.mark.parametrize("pooling", TEMPORAL_POOLINGS)
def test_every_pooling_works_and_is_saved(dual_encoder, texts, pooling, tmp_path):
    fields = {"temporal_module": "channel_shift", "temporal_pooling": pooling, "pooling_num_layers": 1}
    model = build(dual_encoder, FrosterForVideoClassification, **fields)
    model.set_labels(LABELS, input_ids=texts)
    model.save_pretrained(tmp_path)
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path)
    expected = model(tiny_pixels()).logits
    assert expected.isfinite().all()
    assert torch.equal(loaded(tiny_pixels()).logits, expected)
    assert loaded.config.backbone == model.config.backbone
    assert loaded.config.vision_config.to_dict() == model.config.vision_config.to_dict()


@torch.no_grad()
@pytest.mark.parametrize("module", ["local_attention", "cross_frame", "joint"])
def test_copies_and_pickles_are_the_same_model(dual_encoder, module):
    model = move_off_the_start(build(dual_encoder, temporal_module=module))
    expected = model.get_video_features(tiny_pixels()).video_embeds
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied.get_video_features(tiny_pixels()).video_embeds, expected)
        assert type(copied.vision_model) is type(model.vision_model)


@torch.no_grad()
def test_texts_in_chunks_are_the_originals(backbone, dual_encoder, texts):
    expected = tiny_dual_encoder(backbone).get_text_features(texts, return_dict=True).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1)
    model = build(dual_encoder)
    for chunk_size in (None, 1, 2):
        torch.testing.assert_close(model.get_label_embeds(texts, chunk_size=chunk_size), expected, atol=1e-6, rtol=0)


def test_pixels_and_tokens_are_those_of_the_original_processor(backbone, dual_encoder, processor):
    frame = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    original = AutoProcessor.from_pretrained(dual_encoder)
    expected = original.image_processor(Image.fromarray(frame), return_tensors="pt")["pixel_values"]
    clip = processor(videos=[np.stack([frame] * 4)], return_tensors="pt")["pixel_values_videos"]
    assert clip.shape == (1, 4, 3, SIZE, SIZE)
    torch.testing.assert_close(clip[0, 0], expected[0], atol=0.02, rtol=0)
    padding = "max_length" if backbone == "siglip" else True
    tokens = original.tokenizer(LABELS, padding=padding, max_length=TEXT_LENGTH, return_tensors="pt")["input_ids"]
    assert torch.equal(processor.encode_labels(LABELS)["input_ids"], tokens)
    for habit in ({}, {"padding": True}, {"text_kwargs": {"padding": "longest"}}):
        assert torch.equal(processor(text=LABELS, return_tensors="pt", **habit)["input_ids"], tokens)


def test_a_saved_processor_pads_alike(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode_labels(LABELS)["input_ids"], processor.encode_labels(LABELS)["input_ids"])
    long = "golf" * TEXT_LENGTH
    # Beside a short one, with which it makes no tensor, too.
    for labels in ([long], ["golf", long]):
        with pytest.raises(ValueError, match=f"the text tower takes {TEXT_LENGTH}: '.*golfgolf"):
            loaded.encode_labels(labels)
        with pytest.raises(ValueError, match=f"the text tower takes {TEXT_LENGTH}: 'golfgolf"):
            loaded(text=labels, return_tensors="pt")
    assert loaded.encode_labels([long], truncation=True)["input_ids"].shape == (1, TEXT_LENGTH)


@pytest.mark.parametrize("text_length", [0, -1, 10**9, True, "64"])
def test_a_text_length_that_is_none_is_refused(text_length):
    from tests.fixtures.tiny import tiny_tokenizer, tiny_video_processor

    with pytest.raises(ValueError, match="`text_length` is"):
        FrosterProcessor(tiny_video_processor(), tiny_tokenizer(), text_length=text_length)


REMOTE = """
import torch
from transformers import AutoModelForVideoClassification, AutoProcessor

folder = sys.argv[1]
model = AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)
assert not type(model).__module__.startswith("froster_hf")
inputs = torch.load(f"{folder}/inputs.pt", weights_only=True)
with torch.no_grad():
    assert torch.equal(model(inputs["pixels"], input_ids=inputs["texts"]).logits, inputs["logits"])
print(model.config.backbone)
"""


def test_a_folder_works_as_remote_code_without_the_package(backbone, dual_encoder, texts, tmp_path, monkeypatch):
    model = move_off_the_start(build(dual_encoder, FrosterForVideoClassification, temporal_module="st_adapter"))
    model.save_pretrained(tmp_path)
    inputs = {"pixels": tiny_pixels(), "texts": texts}
    with torch.no_grad():
        inputs["logits"] = model(inputs["pixels"], input_ids=texts).logits
    torch.save(inputs, tmp_path / "inputs.pt")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert run_without_the_package(REMOTE, str(tmp_path)).split() == [backbone]


@pytest.fixture(scope="module")
def siglip(dual_encoder_of):
    return dual_encoder_of("siglip")


@pytest.mark.parametrize("module", ["none", "joint"])
@pytest.mark.parametrize("size", [(16, 16), (33, 33), (47, 47), (16, 64), (48, 48)])
def test_frames_of_another_size_are_refused_before_anything_is_computed(dual_encoder, monkeypatch, module, size):
    model = build(dual_encoder, temporal_module=module, num_frames=2)
    clips = torch.randn(1, 2, 3, *size)
    with torch.no_grad():
        assert model.get_video_features(clips, interpolate_pos_encoding=True).video_embeds.shape == (1, WIDTH)
    monkeypatch.setattr(model.vision_model, "forward", None)
    for embed in (model.get_video_features, lambda given: model(given, text_embeds=torch.ones(1, WIDTH))):
        with pytest.raises(ValueError, match=rf"has shape \(1, 2, 3, {size[0]}, {size[1]}\); expected .* 32, 32"):
            embed(clips)


def test_a_text_tower_that_is_said_not_to_be_causal_is_refused(backbone, dual_encoder):
    own = AutoConfig.from_pretrained(dual_encoder)
    fields = own.to_dict()
    for is_causal in (False, None, True):
        fields["text_config"]["is_causal"] = is_causal
        config = type(own).from_dict(fields)
        if is_causal or backbone == "siglip":
            FrosterConfig.from_dual_encoder_config(config)
            continue
        with pytest.raises(ValueError, match=f"`text_config.is_causal` is {is_causal}, but the text tower of"):
            FrosterConfig.from_dual_encoder_config(config)


def test_texts_that_siglip_would_misread_are_refused(siglip):
    model = build(siglip)
    with pytest.raises(ValueError, match=f"reads its padding: pad them to {TEXT_LENGTH}"):
        model.get_text_features(torch.ones(2, 5, dtype=torch.long))


def test_siglip_is_refused_by_the_name_for_clip_and_without_its_head(siglip, tmp_path):
    with pytest.raises(ValueError, match=r"type 'siglip', not 'clip'.*from_dual_encoder"):
        FrosterModel.from_clip(siglip)
    config = json.loads((siglip / "config.json").read_text())
    for changed in ({"vision_use_head": False}, {"hidden_size": 2 * WIDTH, "num_attention_heads": 8}):
        broken = config | {"vision_config": config["vision_config"] | changed}
        (tmp_path / "config.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match="towers of `siglip` end in the joint space"):
            FrosterModel.from_dual_encoder(tmp_path)


def test_images_of_any_shape_and_unknown_encoders_are_refused(tmp_path):
    Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'siglip2' is not that of a backbone: .*NaFlex.*'siglip'"):
        FrosterModel.from_dual_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ["clip"]}))
    with pytest.raises(ValueError, match=r"\['clip'\] is not that of a backbone"):
        FrosterModel.from_dual_encoder(tmp_path)


@pytest.mark.parametrize("model_type", backbones_table.NO_BACKBONES)
def test_what_the_guide_says_is_no_backbone_is_refused(model_type, tmp_path):
    assert model_type in CONFIG_MAPPING
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError, match=f"'{model_type}' is not that of a backbone"):
        FrosterModel.from_dual_encoder(tmp_path)


@torch.no_grad()
def test_only_siglips_sigmoid_is_calibrated_and_its_bias_is_in_the_logits(siglip):
    assert [name for name, entry in BACKBONES.items() if entry.has_calibrated_sigmoid] == ["siglip"]
    model = build(siglip)
    video, text = torch.randn(2, WIDTH), torch.randn(3, WIDTH)
    expected = model.logit_scale.exp() * video @ text.T + model.logit_bias
    torch.testing.assert_close(model.similarity(video, text), expected)
    fresh = FrosterModel(model.config)
    assert fresh.logit_bias.item() == -10
    assert fresh.logit_scale.exp().item() == pytest.approx(10, abs=1e-3)
    assert SiglipModel(tiny_dual_encoder("siglip").config).logit_bias.shape == fresh.logit_bias.shape


def test_a_multi_label_loss_of_siglip_is_its_binary_cross_entropy(siglip):
    model = build(siglip, FrosterForVideoClassification, problem_type="multi_label_classification")
    texts = torch.randint(5, 30, (3, TEXT_LENGTH))
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    outputs = model(tiny_pixels(), input_ids=texts, labels=labels)
    expected = torch.nn.functional.binary_cross_entropy(outputs.logits.sigmoid(), labels)
    torch.testing.assert_close(outputs.loss, expected)


def test_the_guides_table_is_the_codes():
    assert backbones_table.DOCUMENT.read_text() == backbones_table.render()
