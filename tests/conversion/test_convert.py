"""From a file of another code base to a folder that `from_pretrained` loads, and back to the same bits."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoVideoProcessor, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from froster_hf import FrosterForVideoClassification, FrosterModel
from froster_hf.conversion import (
    CheckpointError,
    convert_checkpoint,
    convert_state_dict,
    write_original_checkpoint,
)
from froster_hf.conversion.open_clip import _written
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.whole_files import ResultExistsError
from tests.conversion.hostile_files import scripted_archive
from tests.conversion.original_layouts import (
    PARITY,
    assert_bit_equal,
    clip_state_dict,
    froster_state_dict,
    load_trio,
    vificlip_state_dict,
    with_prefix,
)
from tests.fixtures.tiny import save_tiny_checkpoint, save_tiny_clip, tiny_tokenizer
from tests.hub.loopback_hub import LoopbackHub
from tests.modeling.tiny import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")


def saved_tensors(folder):
    return load_file(folder / "model.safetensors")


def trio_as_safetensors(trio, folder):
    """Without the pickle, whose reading process is tested elsewhere."""
    save_file(load_trio(trio), folder / "original.safetensors")
    return folder / "original.safetensors"


# What users do with it


def test_a_training_file_becomes_a_folder_and_the_same_file_again(tmp_path):
    source = PARITY / "expand_temporal_view.pth"
    report = convert_checkpoint(
        source, tmp_path / "out", num_frames=4, keep_projectors=True, teacher_output=tmp_path / "teacher"
    )
    assert report.format == "pickle"
    assert report.wrapping == "section model_state"
    assert report.left_out == {}
    assert report.other == {"epoch": "3", "cfg": "a text of 31 characters"}

    exported = write_original_checkpoint(tmp_path / "out", tmp_path / "again.pth", teacher=tmp_path / "teacher")

    original = load_trio("expand_temporal_view")
    assert_bit_equal(torch.load(tmp_path / "again.pth", weights_only=True)["model_state"], original)
    assert exported.left_out == {}
    assert "temporal_radius 1" in str(exported)


def test_the_teacher_is_a_plain_clip_of_transformers(tmp_path):
    source = trio_as_safetensors("expand_temporal_view", tmp_path)
    convert_checkpoint(source, tmp_path / "out", num_frames=4, teacher_output=tmp_path / "teacher")
    teacher = CLIPModel.from_pretrained(tmp_path / "teacher", dtype=torch.float32).eval()
    stored = load_file(PARITY / "expand_temporal_view.safetensors")
    with torch.no_grad():
        features = teacher.get_image_features(stored["pixel_values_videos"].flatten(0, 1)).pooler_output
    embeds = torch.nn.functional.normalize(features, dim=-1)
    torch.testing.assert_close(embeds, stored["teacher_frame_embeds"], atol=1e-5, rtol=0)


def test_projectors_are_left_out_unless_asked_for(tmp_path):
    source = trio_as_safetensors("expand_temporal_view", tmp_path)
    report = convert_checkpoint(source, tmp_path / "out", num_frames=4)
    assert not any("projector" in name for name in saved_tensors(tmp_path / "out"))
    assert {name for name in report.left_out if "projector" in name} == {
        f"projector_{tower}.{layer}.weight" for tower in "vt" for layer in (0, 2)
    }
    assert sum(name.startswith("raw_model.") for name in report.left_out) == 62

    convert_checkpoint(source, tmp_path / "kept", num_frames=4, keep_projectors=True)
    assert sum("projector" in name for name in saved_tensors(tmp_path / "kept")) == 4
    model = FrosterModel.from_pretrained(tmp_path / "kept")
    assert model.distillation_projectors is None


# Layouts


def test_an_openai_archive_keeps_every_dtype(tmp_path):
    state = clip_state_dict() | {"input_resolution": torch.tensor(16), "context_length": torch.tensor(77)}
    for name in ("visual.ln_pre.weight", "ln_final.bias"):
        state[name] = state[name].float()
    report = convert_checkpoint(scripted_archive(state, tmp_path / "ViT.pt"), tmp_path / "out")
    assert (report.layout, report.format) == ("openai", "torchscript")
    assert set(report.left_out) == {"input_resolution", "context_length"}
    assert report.dtypes["float32"] == 2

    saved = saved_tensors(tmp_path / "out")
    assert saved["froster.vision_model.pre_layrnorm.weight"].dtype == torch.float32
    assert saved["froster.visual_projection.weight"].dtype == torch.float16
    # Loaded in the widest dtype, so that no value is rounded.
    model = FrosterModel.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.float32
    assert torch.equal(model.visual_projection.weight, state["visual.proj"].T.float())

    write_original_checkpoint(tmp_path / "out", tmp_path / "again.pt", layout="openai")
    kept = {name: tensor for name, tensor in state.items() if name not in report.left_out}
    assert_bit_equal(torch.load(tmp_path / "again.pt", weights_only=True), kept)


@pytest.mark.parametrize("layout", [None, "actionclip"])
@pytest.mark.parametrize(
    "section",
    [{"state_dict": {"a": torch.ones(1)}}, {"a": [1.0]}, {"a": torch.ones(1), "b": {"c": torch.ones(1)}}, None, [], 3],
    ids=["one level deeper", "as lists", "partly deeper", "null", "a list", "a number"],
)
def test_a_head_of_actionclip_that_is_not_read_is_refused(tmp_path, section, layout):
    """Else the model would be converted as the one without a head."""
    torch.save({"model_state_dict": clip_state_dict(), "fusion_model_state_dict": section}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"fusion_model_state_dict.* has to hold tensors by their names, or nothing"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "out", layout=layout)


@pytest.mark.parametrize(
    ("head", "wrapper"),
    [("meanP", ""), ("LSTM", ""), ("Conv_1D", "module."), ("Transf", "module."), ("Transf_cls", "")],
)
def test_actionclip_is_converted_with_its_head(tmp_path, head, wrapper):
    stored = load_file(PARITY / "actionclip" / f"head_{head}.safetensors")
    fusion = {n.removeprefix("state."): t for n, t in stored.items() if n.startswith("state.")}
    clip = clip_state_dict(dim=64)
    sections = {
        "model_state_dict": with_prefix(wrapper, clip),
        "fusion_model_state_dict": with_prefix("module.", fusion),
    }
    source = tmp_path / "model_best.pt"
    if head == "meanP":  # Only a pickle can hold an empty section.
        torch.save({"epoch": 1, **sections}, source)
    else:
        save_file({f"{section}/{n}": t for section, state in sections.items() for n, t in state.items()}, source)

    report = convert_checkpoint(source, tmp_path / "out")

    assert report.layout == "actionclip"
    model = FrosterModel.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    if head == "Conv_1D":
        assert any("transposes" in note for note in report.notes)
    else:
        with torch.no_grad():
            pooled = model.temporal_pooling(stored["frame_embeds"])
        torch.testing.assert_close(pooled, stored["video_embeds"], atol=1e-5, rtol=0)
    assert set(report.left_out) == (
        set() if head in ("meanP", "Transf") else {"fusion_model.frame_position_embeddings.weight"}
    )

    exported = write_original_checkpoint(tmp_path / "out", tmp_path / "again.pt", layout="actionclip")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert_bit_equal(again["model_state_dict"], clip)
    if head not in ("meanP", "Transf"):
        assert any("is zero" in note for note in exported.notes)
        fusion["frame_position_embeddings.weight"] = torch.zeros(77, 64, dtype=torch.float16)
    assert_bit_equal(again["fusion_model_state_dict"], with_prefix("module.", fusion))


def vificlip_file(clip, path):
    """As the reading process hands it over: DistributedDataParallel's prefix, in a section named model."""
    save_file(with_prefix("model/module.", vificlip_state_dict(clip)), path)
    return path


def with_start_token(clip):
    """ViFi-CLIP's stored prompts begin with the start token."""
    clip["positional_embedding"][0] = clip["token_embedding.weight"][-2]
    return clip


def test_vificlip_gets_its_token_embedding_from_its_clip(tmp_path):
    clip = with_start_token(clip_state_dict())
    save_file(clip, tmp_path / "clip.safetensors")
    source = vificlip_file(clip, tmp_path / "vifi.safetensors")

    with pytest.raises(ValueError, match="Give the CLIP that the file was trained from as `token_embedding_from`"):
        convert_checkpoint(source, tmp_path / "out")
    report = convert_checkpoint(source, tmp_path / "out", token_embedding_from=tmp_path / "clip.safetensors")

    assert report.layout == "vificlip"
    assert report.wrapping == "section model, prefix module."
    assert json.loads((tmp_path / "out" / "config.json").read_text())["temporal_pooling"] == "mean_unnormalized"
    expected = {f"froster.{name}": tensor for name, tensor in convert_state_dict(clip).model.items()}
    assert_bit_equal(saved_tensors(tmp_path / "out"), expected)
    exported = write_original_checkpoint(tmp_path / "out", tmp_path / "again.pth", layout="vificlip")
    assert list(exported.left_out) == ["text_model.embeddings.token_embedding.weight"]
    state = with_prefix("module.", vificlip_state_dict(clip))
    del state["module.prompt_learner.complete_text_embeddings"]
    assert_bit_equal(torch.load(tmp_path / "again.pth", weights_only=True)["model"], state)


def test_a_clip_that_vificlip_was_not_trained_from_is_told(tmp_path):
    clip = with_start_token(clip_state_dict())
    source = vificlip_file(clip, tmp_path / "vifi.safetensors")
    save_file(clip | {"token_embedding.weight": clip["token_embedding.weight"].flip(0)}, tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match="is not the CLIP that the file was trained from"):
        convert_checkpoint(source, tmp_path / "out", token_embedding_from=tmp_path / "clip.safetensors")


def test_prompts_and_embeddings_of_other_shapes_are_named(tmp_path):
    clip = with_start_token(clip_state_dict())
    source = vificlip_file(clip, tmp_path / "vifi.safetensors")
    embedding = clip["token_embedding.weight"]
    save_file(clip | {"token_embedding.weight": embedding[:1].clone()}, tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match=r"token_embedding_from.* \(1, 64\); of ViFi-CLIP they are"):
        convert_checkpoint(source, tmp_path / "out", token_embedding_from=tmp_path / "clip.safetensors")
    save_file(clip, tmp_path / "clip.safetensors")
    for shape in ((64,), (3, 0, 64)):
        tensors = load_file(source) | {"model/module.prompt_learner.token_prefix": torch.zeros(shape)}
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=r"prompt_learner\.token_prefix has the shape"):
            convert_checkpoint(
                tmp_path / "other.safetensors", tmp_path / "out", token_embedding_from=tmp_path / "clip.safetensors"
            )


def tiny_clip(hidden_act="gelu", **options):
    tower = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3, **options}
    text = {**tower, "vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98, "hidden_act": hidden_act}
    vision = {**tower, "image_size": 16, "patch_size": 8, "hidden_act": hidden_act}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()


def test_a_clip_of_transformers_keeps_what_its_configuration_says(tmp_path):
    # Heads of another width and another activation: no weight shows either.
    clip = tiny_clip()
    clip.save_pretrained(tmp_path / "clip", max_shard_size="100KB")
    assert (tmp_path / "clip" / "model.safetensors.index.json").exists()

    report = convert_checkpoint(tmp_path / "clip", tmp_path / "out", temporal_module="none", num_frames=3)

    assert (report.layout, report.format) == ("transformers", "transformers")
    model = FrosterModel.from_pretrained(tmp_path / "out").eval()
    assert model.config.vision_config.hidden_act == "gelu"
    assert model.config.vision_config.num_attention_heads == 3
    video = torch.randn(1, 3, 3, 16, 16)
    with torch.no_grad():
        ours = model.get_video_features(video).frame_embeds[0]
        features = clip.get_image_features(video[0]).pooler_output
    torch.testing.assert_close(ours, torch.nn.functional.normalize(features, dim=-1), atol=1e-6, rtol=0)


def clip_processor(folder, **options):
    """The files that a CLIP repository has besides its weights; 514 tokens."""
    CLIPProcessor(CLIPImageProcessor(**options), tiny_tokenizer()).save_pretrained(folder)
    return folder


def test_the_processor_comes_from_a_clip_with_the_same_vocabulary(tmp_path):
    save_file(froster_state_dict(clip_state_dict(vocab=514), projectors=False), tmp_path / "a.safetensors")
    clip = clip_processor(tmp_path / "clip")
    report = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", processor_from=clip, num_frames=3)
    assert ("prompt_templates", "froster") in {(setting.name, setting.value) for setting in report.settings}

    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    model = FrosterForVideoClassification.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    video = np.random.default_rng(0).integers(0, 255, (9, 40, 30, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = model(**processor(video, return_tensors="pt"), **processor.encode_labels(["run", "jump"])).logits
    assert logits.shape == (1, 2)
    assert processor.video_processor.num_frames == 3
    assert processor.num_prompts == 29

    save_file(froster_state_dict(clip_state_dict(vocab=99), projectors=False), tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"has 514 tokens .* but the model has 99"):
        convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "other", processor_from=clip)


def test_of_the_clip_whose_processor_is_taken_no_weights_are_fetched(tmp_path, monkeypatch):
    save_file(froster_state_dict(clip_state_dict(vocab=514), projectors=False), tmp_path / "a.safetensors")
    clip = clip_processor(tmp_path / "clip")
    asked = []
    monkeypatch.setattr(
        "froster_hf.conversion.reading.snapshot_download",
        lambda name, *, allow_patterns: asked.append((name, allow_patterns)) or clip,
    )
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", processor_from="acme/clip")
    assert asked == [("acme/clip", ["*.json", "*.txt"])]
    assert (tmp_path / "out/tokenizer.json").exists()


def test_without_a_tokenizer_the_video_processor_is_written_and_the_report_says_so(tmp_path):
    report = convert_checkpoint(trio_as_safetensors("aim", tmp_path), tmp_path / "out", num_frames=4)
    assert any("No tokenizer is written" in note for note in report.notes)
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    clip = processor(np.zeros((9, 40, 30, 3), dtype=np.uint8), return_tensors="pt").pixel_values_videos
    assert clip.shape == (1, 4, 3, 24, 24)


def clip_of_16_pixels(folder, **options):
    """A CLIP repository, with these options of its image processor."""
    tower = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    return clip_processor(folder, **options)


SQUARE = {"height": 16, "width": 16}


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 16}, "crop_size": SQUARE},
        {"size": {"shortest_edge": 24}, "crop_size": SQUARE},
        {"size": SQUARE, "do_center_crop": False},
    ],
    ids=["crop", "crop of a larger picture", "squash"],
)
def test_a_clip_repository_brings_its_own_processor(tmp_path, options):
    convert_checkpoint(clip_of_16_pixels(tmp_path / "clip", **options), tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.num_prompts == 29
    pictures = np.random.default_rng(0).integers(0, 255, (1, 40, 30, 3), dtype=np.uint8)
    expected = CLIPImageProcessor(**options)(list(pictures), return_tensors="pt").pixel_values
    found = processor(pictures, return_tensors="pt").pixel_values_videos[0, :1]
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 16}},
        {"size": {"shortest_edge": 12}, "crop_size": SQUARE},
        {"size": {"shortest_edge": 16}, "do_center_crop": False},
        {"size": {"height": 16, "width": 24}, "do_center_crop": False},
    ],
    ids=str,
)
def test_a_clip_whose_own_pictures_do_not_fit_it_is_refused(tmp_path, options):
    clip = clip_of_16_pixels(tmp_path / "clip", **options)
    with pytest.raises(ValueError, match="does not make the pictures that the model takes, 16 pixels to each side"):
        convert_checkpoint(clip, tmp_path / "out")


def test_the_resize_is_the_models_where_the_processor_is_that_of_another_clip(tmp_path):
    save_file(froster_state_dict(clip_state_dict(vocab=514), projectors=False), tmp_path / "a.safetensors")
    clip = clip_processor(tmp_path / "clip", size=SQUARE, do_center_crop=False, image_mean=[0.1] * 3)
    convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", processor_from=clip, num_frames=3)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert list(processor.video_processor.image_mean) == [0.1] * 3
    clip = processor(np.zeros((9, 40, 30, 3), dtype=np.uint8), return_tensors="pt").pixel_values_videos
    assert clip.shape[-2:] == (16, 16)


OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": [16, 16], "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 514, "width": 64, "heads": 1, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.4815, 0.4578, 0.4082], "std": [0.26862954, 0.26130258, 0.27577711]},
}


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        ("model_cfg", {"quick_gelu": False}, "quick_gelu: False and True"),
        ("model_cfg", {"embed_dim": "\x1b[2J"}, r"embed_dim: \\x1b\[2J and 32"),
        ("vision_cfg", {"image_size": 999}, "vision_cfg.image_size: 999 and 16"),
        ("vision_cfg", {"patch_size": 4}, "vision_cfg.patch_size: 4 and 8"),
        ("vision_cfg", {"width": 128, "head_width": 32}, "vision_cfg.width: 128 and 64; .*head_width: 32 and 64"),
        ("preprocess_cfg", {"mean": [0.5, 0.5, 0.5]}, r"preprocess_cfg.mean: \[0.5, 0.5, 0.5\] and"),
        ("preprocess_cfg", {"std": 7}, "preprocess_cfg.std: 7 and"),
        ("preprocess_cfg", {"mean": [10**400] * 3}, r"preprocess_cfg.mean: \[1000.* and"),
        ("vision_cfg", {"norm_kwargs": {"eps": 10**400}}, "vision_cfg.norm_kwargs.eps: 1000.* and 1e-05"),
        ("preprocess_cfg", {"size": 24}, "preprocess_cfg.size: 24 and 16"),
        ("preprocess_cfg", {"resize_mode": "squash"}, "preprocess_cfg.resize_mode: squash and shortest"),
        ("preprocess_cfg", {"interpolation": "bilinear"}, "preprocess_cfg.interpolation: bilinear and bicubic"),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg.pool_type: avg and tok"),
        ("vision_cfg", {"norm_kwargs": {"eps": 1e-3}}, "vision_cfg.norm_kwargs.eps: 0.001 and 1e-05"),
        ("vision_cfg", {"global_average_pool": True}, "global_average_pool: True, which is not converted"),
        ("text_cfg", {"pool_type": "last"}, "text_cfg.pool_type: last and argmax"),
        ("text_cfg", {"no_causal_mask": True}, "text_cfg.no_causal_mask: True, which is not converted"),
        ("text_cfg", {"act_kwargs": {"approximate": "tanh"}}, "text_cfg.act_kwargs.approximate: tanh and none"),
        ("text_cfg", {"hf_tokenizer_name": "\x1b[2J"}, r"hf_tokenizer_name: \\x1b\[2J, which is not converted"),
        ("model_cfg", {"init_logit_bias": -10}, "init_logit_bias: -10, which is not converted"),
        ("model_cfg", {"of_tomorrow": [[{"a": 1}]]}, "of_tomorrow: .* which is not converted"),
    ],
)
def test_what_open_clip_says_of_its_weights_is_held_against_the_files_beside_them(tmp_path, part, fields, said):
    clip = clip_processor(tmp_path / "processor")
    folder = tmp_path / "clip"
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    text = {**tower, "vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    CLIPConfig(text_config=text, vision_config=vision, projection_dim=32).save_pretrained(folder)
    save_file(clip_state_dict(vocab=514), folder / "model.safetensors")
    stated = json.loads(json.dumps(OPEN_CLIP))
    (folder / "open_clip_config.json").write_text(json.dumps(stated))
    convert_checkpoint(folder, tmp_path / "out", processor_from=clip)

    (stated["model_cfg"] if part in stated["model_cfg"] else stated)[part].update(fields)
    (folder / "open_clip_config.json").write_text(json.dumps(stated))
    for source in (folder, folder / "model.safetensors"):
        with pytest.raises(ValueError, match=f"open_clip_config.json describes another model .*{said}"):
            convert_checkpoint(source, tmp_path / "other", processor_from=clip)
    assert not (tmp_path / "other").exists()


def test_statistics_of_open_clip_are_compared_with_those_of_pixels_from_0_to_1():
    wide = {"do_rescale": False, "image_mean": [51.0, 102.0, 0.0], "image_std": [255.0] * 3}
    fields = _written(tiny_model().config, FrosterVideoProcessor(**wide))
    assert fields["preprocess_cfg.mean"] == pytest.approx([0.2, 0.4, 0.0])
    assert fields["preprocess_cfg.std"] == pytest.approx([1.0] * 3)
    fields = _written(tiny_model().config, FrosterVideoProcessor(do_normalize=False))
    assert (fields["preprocess_cfg.mean"], fields["preprocess_cfg.std"]) == ([0.0] * 3, pytest.approx([1.0] * 3))


def test_fields_of_open_clip_without_effect_are_none_of_another_model(tmp_path):
    save_file(clip_state_dict(vocab=514), tmp_path / "open_clip_model.safetensors")
    stated = json.loads(json.dumps(OPEN_CLIP))
    stated["model_cfg"] |= {"custom_text": True, "init_logit_scale": 4.6, "init_logit_bias": None}
    stated["model_cfg"]["vision_cfg"] |= {
        "mlp_ratio": 4.0,
        "patch_dropout": 0.5,
        "pool_type": "tok",
        "no_ln_pre": False,
    }
    stated["model_cfg"]["text_cfg"] |= {"no_causal_mask": False, "pool_type": "argmax", "norm_kwargs": {"eps": 1e-5}}
    stated["preprocess_cfg"] |= {
        "size": [16, 16],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "mode": "RGB",
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(stated))
    convert_checkpoint(tmp_path / "open_clip_model.safetensors", tmp_path / "out")


@pytest.mark.parametrize("says", [{}, {"quick_gelu": None}], ids=["nothing", "null"])
def test_the_activation_of_open_clip_is_not_assumed_to_be_openais(tmp_path, says):
    save_file(clip_state_dict(vocab=514), tmp_path / "open_clip_model.safetensors")
    model = {**OPEN_CLIP["model_cfg"]}
    del model["quick_gelu"]
    model |= says
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    with pytest.raises(ValueError, match="quick_gelu: False and True"):
        convert_checkpoint(tmp_path / "open_clip_model.safetensors", tmp_path / "out")
    convert_checkpoint(tmp_path / "open_clip_model.safetensors", tmp_path / "out", hidden_act="gelu")


@pytest.mark.parametrize("stated", [{}, {"model_cfg": None}, {"model_cfg": [OPEN_CLIP["model_cfg"]]}])
def test_a_file_of_open_clip_that_describes_no_model_is_refused(tmp_path, stated):
    save_file(clip_state_dict(vocab=514), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(stated))
    with pytest.raises(CheckpointError, match=r"open_clip_config.json has .* as its `model_cfg`, where an object"):
        convert_checkpoint(tmp_path / "open_clip_model.safetensors", tmp_path / "out")


def test_pickled_weights_of_the_hub_are_found_beside_another_programs(tmp_path, monkeypatch):
    hub = LoopbackHub("acme/clip")
    tiny_clip().save_pretrained(tmp_path / "clip")
    weights = load_file(tmp_path / "clip/model.safetensors")
    (tmp_path / "clip/model.safetensors").unlink()
    torch.save(weights, tmp_path / "clip/pytorch_model.bin")
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "clip/open_clip_model.safetensors")
    hub.files |= {path.name: path.read_bytes() for path in (tmp_path / "clip").iterdir()}
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    places = {"ENDPOINT": hub.endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(tmp_path / "hub")}
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, **places}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    download = partial(snapshot_download, endpoint=hub.endpoint)
    monkeypatch.setattr("froster_hf.conversion.reading.snapshot_download", download)
    try:
        convert_checkpoint("acme/clip", tmp_path / "out")
    finally:
        hub.close()
    assert saved_tensors(tmp_path / "out")["froster.logit_scale"].equal(weights["logit_scale"])


def test_a_repository_of_the_hub_is_found_in_the_cache(tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models--acme--clip"
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / commit
    tiny_clip().save_pretrained(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    for file in list(snapshot.iterdir()):
        file.rename(repository / "blobs" / file.name)
        file.symlink_to(Path("../../blobs") / file.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    report = convert_checkpoint("acme/clip", tmp_path / "out")

    assert (report.source, report.layout) == ("acme/clip", "transformers")
    assert FrosterModel.from_pretrained(tmp_path / "out").config.temporal_module == "none"


@pytest.mark.parametrize(("kind", "message"), [("froster", "of this package already"), ("siglip", "of type 'siglip'")])
def test_folders_of_other_models_are_refused(tmp_path, kind, message):
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(tmp_path, tmp_path / "out")


# Strictness


def test_unknown_tensors_are_refused_or_reported(tmp_path):
    save_file(load_trio("frozen_none") | {"head": torch.zeros(5, 64)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"does not know: head.*`--allow-unused`"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    report = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", strict=False)
    assert report.unused == ["head"]
    assert "\n    head\n" in str(report)


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path):
    save_file(load_trio("frozen_none") | {"\x1b[2Jhead": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"does not know: \\x1b\[2Jhead"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    report = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", strict=False)
    assert "\x1b" not in str(report)
    assert "\\x1b[2Jhead" in str(report)


def test_unknown_sections_are_refused_or_reported(tmp_path):
    state = with_prefix("model_state/", load_trio("frozen_none")) | {"ema_state/a": torch.zeros(1)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"does not know: ema_state/a.*`--allow-unused`"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    assert convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", strict=False).unused == ["ema_state/a"]


def test_a_tensor_of_a_wrong_shape_is_named_and_nothing_is_written(tmp_path):
    state = load_trio("frozen_none")
    state["model.visual.ln_post.bias"] = torch.zeros(127)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"size mismatch for froster\.vision_model\.post_layernorm\.bias"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out" / "model")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_taken_output_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        convert_checkpoint(PARITY / "aim.pth", tmp_path / "out")
    with pytest.raises(IsADirectoryError):
        write_original_checkpoint(tmp_path, tmp_path / "out", overwrite=True)
    with pytest.raises(ResultExistsError, match="exists already"):
        write_original_checkpoint(tmp_path, tmp_path / "out" / "mine.txt")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_what_is_not_there_cannot_be_asked_for(tmp_path):
    save_file(froster_state_dict(clip_state_dict(), projectors=False), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="keep_projectors=True, but"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", keep_projectors=True)
    with pytest.raises(ValueError, match="holds no teacher"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", teacher_output=tmp_path / "teacher")


def test_weights_without_a_place_in_the_layout_are_not_exported(tmp_path):
    convert_checkpoint(trio_as_safetensors("aim", tmp_path), tmp_path / "out", num_frames=4)
    with pytest.raises(ValueError, match="layout has no teacher"):
        write_original_checkpoint(tmp_path / "out", tmp_path / "a.pth", layout="openai", teacher=tmp_path)
    report = write_original_checkpoint(tmp_path / "out", tmp_path / "a.pth", layout="froster")
    assert report.num_tensors == 86
    tiny_model(temporal_module="directional_attention").save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match=r"2 tensors have no name in the froster layout: .*motion_gate"):
        write_original_checkpoint(tmp_path / "ours", tmp_path / "b.pth", layout="froster")
    tiny_clip().save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match="is a checkpoint of type 'clip', not of this package"):
        write_original_checkpoint(tmp_path / "clip", tmp_path / "b.pth")


LAYER = "vision_model.encoder.layers.1."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, tensor: None if name.endswith(f"{LAYER}mlp.fc1.weight") else tensor, "1 tensors .* not in its"),
        (lambda name, tensor: None if LAYER in name else tensor, "16 tensors of the model .* are not in its files"),
        (lambda name, tensor: None if "text_model" in name else tensor, "36 tensors of the model .* are not in its"),
        (
            lambda name, tensor: torch.ones(3, 5) if name.endswith(f"{LAYER}mlp.fc1.weight") else tensor,
            r"other shapes than its configuration describes, such as .*: \(3, 5\), and not \(64, 32\)",
        ),
    ],
    ids=["a tensor", "a layer", "a tower", "a shape"],
)
@pytest.mark.parametrize("of", ["checkpoint", "teacher"])
def test_weights_other_than_the_configuration_says_are_not_written(tmp_path, of, change, said):
    folders = {"checkpoint": tmp_path / "checkpoint", "teacher": tmp_path / "teacher"}
    save_tiny_checkpoint(folders["checkpoint"])
    save_tiny_clip(folders["teacher"])
    write_original_checkpoint(folders["checkpoint"], tmp_path / "whole.pth", teacher=folders["teacher"])
    weights = {name: change(name, tensor) for name, tensor in saved_tensors(folders[of]).items()}
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, folders[of] / "model.safetensors", {"format": "pt"})
    # Of a teacher without a single tensor or a tower, the names alone tell.
    said = rf"{said}|lacks \d+ tensors that the others call for" if of == "teacher" else said
    with pytest.raises(ValueError, match=said):
        write_original_checkpoint(folders["checkpoint"], tmp_path / "part.pth", teacher=folders["teacher"])
    assert not (tmp_path / "part.pth").exists()


@pytest.mark.parametrize("name", [f"{LAYER}mlp.fc1.weight", f"{LAYER}self_attn.q_proj.weight", "class_embedding"])
@pytest.mark.parametrize("of", ["checkpoint", "teacher"])
def test_weights_that_are_whole_numbers_are_not_written(tmp_path, of, name):
    folders = {"checkpoint": tmp_path / "checkpoint", "teacher": tmp_path / "teacher"}
    save_tiny_checkpoint(folders["checkpoint"])
    save_tiny_clip(folders["teacher"])
    weights = saved_tensors(folders[of])
    for kind in (torch.int8, torch.int64, torch.bool):
        changed = {own: tensor.to(kind) if own.endswith(name) else tensor for own, tensor in weights.items()}
        save_file(changed, folders[of] / "model.safetensors", {"format": "pt"})
        with pytest.raises(
            ValueError, match=rf"{name} is stored as .*, but its configuration names|types that no CLIP"
        ):
            write_original_checkpoint(folders["checkpoint"], tmp_path / "out.pth", teacher=folders["teacher"])
        assert not (tmp_path / "out.pth").exists()
    if of == "teacher":
        with pytest.raises(ValueError, match="do not fit the architecture"):
            convert_checkpoint(folders[of], tmp_path / "converted")


@pytest.mark.parametrize("layers", [1, 5])
def test_a_configuration_of_another_size_than_the_weights_is_refused(tmp_path, layers):
    folder = save_tiny_checkpoint(tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"tensors of the model|have no place in the model"):
        write_original_checkpoint(folder, tmp_path / "part.pth")
    assert not (tmp_path / "part.pth").exists()


def test_the_report_is_saved_beside_the_weights(tmp_path):
    report = convert_checkpoint(trio_as_safetensors("aim", tmp_path), tmp_path / "out", num_frames=4)
    saved = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert saved["sha256"] == report.sha256
    assert {"name": "temporal_module", "value": "aim", "origin": "weights"} in saved["settings"]
    assert saved["left_out"] == report.left_out
    assert "CC BY-NC-SA 4.0" in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["ViT-B/32", "ViT-B/16", "ViT-L/14"])
@pytest.mark.parametrize("layout", ["openai", "froster", "vificlip"])
def test_full_sizes_go_through_files_and_come_back_bit_equal(size, layout, tmp_path):
    clip = with_start_token(clip_state_dict(size))
    options = {}
    if layout == "froster":
        state = froster_state_dict(clip)
        torch.save({"model_state": state}, tmp_path / "source.pth")
        options["keep_projectors"] = True
    elif layout == "openai":
        state = clip
        scripted_archive(state, tmp_path / "source.pth")
    else:
        state = with_prefix("module.", vificlip_state_dict(clip))
        torch.save({"model": state}, tmp_path / "source.pth")
        del state["module.prompt_learner.complete_text_embeddings"]
        save_file(clip, tmp_path / "clip.safetensors")
        options["token_embedding_from"] = tmp_path / "clip.safetensors"

    convert_checkpoint(tmp_path / "source.pth", tmp_path / "out", max_shard_size="200MB", **options)
    FrosterModel.from_pretrained(tmp_path / "out")
    write_original_checkpoint(tmp_path / "out", tmp_path / "again.pth", layout=layout)

    again = torch.load(tmp_path / "again.pth", weights_only=True)
    section = {"froster": "model_state", "vificlip": "model"}.get(layout)
    assert_bit_equal(again[section] if section else again, state)
    shards = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(shards) > 1
    with safe_open(shards[0], "pt") as shard:
        assert all(shard.get_slice(name).get_dtype() == "F16" for name in shard.keys())  # noqa: SIM118


# What no weight shows


def test_what_no_weight_shows_survives_the_way_through_openai_names(tmp_path):
    """A CLIP with GELU, heads of another width and another epsilon comes back equal, and both reports speak of it."""
    clip = tiny_clip(layer_norm_eps=1e-3)
    clip.save_pretrained(tmp_path / "clip")
    convert_checkpoint(tmp_path / "clip", tmp_path / "a", num_frames=3)
    exported = write_original_checkpoint(tmp_path / "a", tmp_path / "openai.pt", layout="openai")
    back = convert_checkpoint(tmp_path / "openai.pt", tmp_path / "b")

    assert "hidden_act 'gelu', layer_norm_eps 0.001, vision_heads 3, text_heads 3" in str(exported)
    assert "hidden_act        gelu  [stated in the file]" in str(back)
    models = [FrosterModel.from_pretrained(tmp_path / name).eval() for name in "ab"]
    video, tokens = torch.randn(2, 3, 3, 16, 16), torch.tensor([[97, 5, 98], [97, 7, 98]])
    with torch.no_grad():
        logits = [model(pixel_values_videos=video, input_ids=tokens).logits_per_video for model in models]
    assert torch.equal(*logits)
    assert models[1].config.num_frames == 3


def test_a_written_file_is_the_original_code_bases_own(tmp_path):
    """The statement is no entry of the state dict, also where `torch.load` maps the file."""
    tiny_clip().save_pretrained(tmp_path / "clip")
    convert_checkpoint(tmp_path / "clip", tmp_path / "a")
    write_original_checkpoint(tmp_path / "a", tmp_path / "openai.pt", layout="openai")
    for options in ({}, {"mmap": True}):
        state = torch.load(tmp_path / "openai.pt", weights_only=True, **options)
        assert state
        assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def test_options_tell_what_no_weight_shows(tmp_path):
    save_file(clip_state_dict(width=96, text_width=128), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"vision tower has width 96.*Give `vision_heads`"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    told = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "vision_heads": 3, "text_heads": 4}
    report = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", **told)
    config = FrosterModel.from_pretrained(tmp_path / "out").config
    for tower, heads in ((config.vision_config, 3), (config.text_config, 4)):
        assert (tower.hidden_act, tower.layer_norm_eps, tower.num_attention_heads) == ("gelu", 1e-6, heads)
    assert {(s.name, s.value) for s in report.settings if s.origin == "option"} == set(told.items())


def test_published_defaults_are_named_in_the_report(tmp_path):
    save_file(clip_state_dict(), tmp_path / "a.safetensors")
    report = str(convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out"))
    for line in ("hidden_act        quick_gelu", "layer_norm_eps    1e-05", "vision_heads      1"):
        assert f"{line}  [published default]" in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_act": "quick_gelu"}, "`hidden_act` is given as 'quick_gelu', but config.json says 'gelu'"),
        ({"vision_heads": 4}, "`vision_heads` is given as 4, but config.json says 3"),
    ],
)
def test_options_against_a_configuration_are_refused(tmp_path, options, message):
    tiny_clip().save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(tmp_path / "clip", tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_act": "gellu"}, "`hidden_act` is 'gellu'; transformers knows "),
        ({"layer_norm_eps": float("nan")}, "`layer_norm_eps` is nan"),
        ({"vision_heads": 7}, "`vision_heads` is 7; it must divide the width, 64"),
        ({"text_heads": 0}, "`text_heads` is 0"),
        ({"pooling_heads": 2}, "`pooling_heads` is given, but the pooling is 'mean'"),
    ],
)
def test_values_that_no_clip_has_are_refused(tmp_path, options, message):
    save_file(clip_state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", **options)


# Wrappers


@pytest.mark.parametrize(
    ("wrap", "wrapping"),
    [
        (lambda clip: with_prefix("_orig_mod.", clip), "prefix _orig_mod."),
        (lambda clip: with_prefix("module._orig_mod.", clip), "prefix module._orig_mod."),
        (lambda clip: with_prefix("_orig_mod.module.", clip), "prefix _orig_mod.module."),
        (lambda clip: with_prefix("module.", clip) | {"n_averaged": torch.tensor(5)}, "prefix module."),
        (lambda clip: with_prefix("module.module.", clip) | {"n_averaged": torch.tensor(5)}, "prefix module.module."),
        (
            lambda clip: {name.replace("visual.", "visual._orig_mod."): tensor for name, tensor in clip.items()},
            "wrappers _orig_mod inside names",
        ),
        (
            lambda clip: {
                name.replace(".attn.", "._checkpoint_wrapped_module.attn."): tensor for name, tensor in clip.items()
            },
            "wrappers _checkpoint_wrapped_module inside names",
        ),
    ],
)
def test_wrappers_of_compiled_and_averaged_models_are_taken_off(tmp_path, wrap, wrapping):
    clip = clip_state_dict()
    save_file(wrap(clip), tmp_path / "a.safetensors")
    report = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    assert report.wrapping == wrapping
    expected = {f"froster.{name}": tensor for name, tensor in convert_state_dict(clip).model.items()}
    assert_bit_equal(saved_tensors(tmp_path / "out"), expected)
    assert set(report.left_out) <= {"n_averaged"}


def test_real_wrappers_of_torch_give_names_that_are_read(tmp_path):
    froster = tiny_model(temporal_module="none")
    averaged = torch.optim.swa_utils.AveragedModel(
        torch.compile(froster.froster if hasattr(froster, "froster") else froster)
    )
    tensors = {name: tensor.contiguous() for name, tensor in averaged.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    towers = {name: froster.config.to_dict()[name] for name in ("text_config", "vision_config", "projection_dim")}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", **towers}))
    report = convert_checkpoint(tmp_path, tmp_path / "out")
    assert report.wrapping == "prefix module._orig_mod."
    assert set(report.left_out) == {"n_averaged"}


def test_two_wrapped_names_of_one_tensor_are_refused(tmp_path):
    clip = clip_state_dict()
    clip["visual._orig_mod.proj"] = clip["visual.proj"].clone()
    save_file(clip, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"two tensors named 'visual\.proj'"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("visual.proj", "/visual.proj"),
        ("model_state_dict/fusion_model.lstm.bias", "fusion_model_state_dict/module.lstm.bias"),
    ],
)
def test_one_tensor_in_two_sections_is_refused(tmp_path, first, second):
    save_file({name: torch.ones(1) for name in (first, second)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"there are two tensors named '(visual\.proj|fusion_model\.lstm\.bias)'"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
