"""Between two checkpoints, tensor by tensor: the ends are the ends, and what does not fit is refused."""

import inspect
import json
import os
import resource
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification, CLIPModel

from froster_hf import FrosterForVideoClassification, FrosterModel, checkpoint_loading
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.training.weights import CheckpointMismatchError, WeightsFolder, interpolate
from froster_hf.weights_license import stated_license
from tests.fixtures.subprocesses import run_forked
from tests.fixtures.tiny import save_tiny_checkpoint, save_tiny_clip, tiny_processor
from tests.modeling.tiny import tiny_clip, tiny_clips, tiny_model, tiny_texts


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip().save_pretrained(folder)
    # As in the checkpoints of older releases.
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(20)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def tuned_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    tiny_model().save_pretrained(folder)
    return folder


def froster_weights(folder):
    return FrosterModel.from_pretrained(folder).state_dict()


def test_a_full_disk_is_one_error_that_names_the_folder_and_leaves_nothing(clip_folder, tuned_folder, tmp_path):
    """A limit on the size of files fails a write as a full disk does, after a part of it."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            interpolate(clip_folder, tuned_folder, 0.5, output_dir=tmp_path / "out")
        except OSError as error:
            sys.stderr.write(f"refused: {error}\n")

    done = run_forked(limited)
    assert done.stderr.splitlines()[-1].startswith(f"refused: {tmp_path / 'out'} cannot be written")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_beside_a_checkpoint_is_found_before_weights_are_blended(
    clip_folder, tuned_folder, tmp_path, monkeypatch
):
    folder = shutil.copytree(tuned_folder, tmp_path / "theirs" / "model")
    (tmp_path / "theirs" / "run_record.json").write_text("{}")
    monkeypatch.setattr("froster_hf.training.weights._blend", lambda *_: pytest.fail("weights are blended"))
    with pytest.raises(ValueError, match=r"theirs/run_record\.json: "):
        interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")


def test_a_tokenizer_of_sentencepiece_is_kept(tuned_folder, tmp_path):
    folder = shutil.copytree(tuned_folder, tmp_path / "tuned")
    (folder / "spiece.model").write_bytes(b"pieces")
    interpolate(folder, folder, 0.5, output_dir=tmp_path / "out")
    assert (tmp_path / "out" / "spiece.model").read_bytes() == b"pieces"


def test_weights_that_the_model_has_no_place_for_are_refused(tuned_folder, tmp_path):
    folder = shutil.copytree(tuned_folder, tmp_path / "updated")
    weights = load_file(folder / "model.safetensors") | {"froster.logit_scale.lora_A": torch.ones(2)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"updated cannot be used: 1 tensors of its files have no place .*lora_A"):
        interpolate(folder, folder, 0.5, output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config, weights: config["vision_config"].update(patch_size=4),
            r"2 tensors .* other shapes .*patch_em",
        ),
        (lambda config, weights: weights.update({"froster.logit_scale": torch.ones(1)}), r"logit_scale: \(1,\), and"),
        (lambda config, weights: weights.pop("froster.logit_scale"), r"1 tensors of the model .* are not in .*scale"),
    ],
    ids=["patches", "scale", "missing"],
)
def test_weights_other_than_the_configuration_says_are_refused(tuned_folder, tmp_path, change, message):
    """Nothing would load what lies between two such checkpoints."""
    folder = shutil.copytree(tuned_folder, tmp_path / "tuned")
    weights = load_file(folder / "model.safetensors")
    edit_config(folder, lambda config: change(config, weights))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"tuned cannot be used: .*{message}"):
        interpolate(folder, folder, 0.5, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_between_clip_and_froster_lies_a_froster_checkpoint(clip_folder, tuned_folder, tmp_path, ratio):
    result = interpolate(clip_folder, tuned_folder, ratio, output_dir=tmp_path / "out")
    model = AutoModelForVideoClassification.from_pretrained(result)
    assert model.config.temporal_module == "local_attention"
    clip, tuned = CLIPModel.from_pretrained(clip_folder).state_dict(), froster_weights(tuned_folder)
    weights = model.froster.state_dict()
    assert weights.keys() == tuned.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, torch.lerp(clip[name], tuned[name], ratio), atol=1e-6, rtol=0)


def test_the_ends_are_exact_and_the_order_may_be_turned(clip_folder, tuned_folder, tmp_path):
    ends = [
        interpolate(clip_folder, tuned_folder, 1, output_dir=tmp_path / "one"),
        interpolate(tuned_folder, clip_folder, 0, output_dir=tmp_path / "zero"),
    ]
    tuned = load_file(tuned_folder / "model.safetensors")
    for end in ends:
        weights = load_file(end / "model.safetensors")
        assert weights.keys() == tuned.keys()
        assert all(torch.equal(weights[name], tuned[name]) for name in tuned)
    middles = [
        load_file(interpolate(a, b, 0.5, output_dir=tmp_path / f"half-{a.name}") / "model.safetensors")
        for a, b in ((clip_folder, tuned_folder), (tuned_folder, clip_folder))
    ]
    for name in middles[0]:
        torch.testing.assert_close(middles[0][name], middles[1][name], atol=1e-6, rtol=0)


def test_the_result_runs_and_the_end_with_clip_is_clip(clip_folder, tuned_folder, tmp_path):
    video, texts = tiny_clips(2, 1), tiny_texts()
    result = interpolate(clip_folder, tuned_folder, 0, output_dir=tmp_path / "out")
    outputs = FrosterForVideoClassification.from_pretrained(result).froster(video, texts)
    clip = CLIPModel.from_pretrained(clip_folder)(input_ids=texts, pixel_values=video[:, 0])
    torch.testing.assert_close(outputs.text_embeds, clip.text_embeds)


def test_shards_are_read(clip_folder, tmp_path):
    sharded = tmp_path / "sharded"
    tiny_model().save_pretrained(sharded, max_shard_size="40KB")
    assert not (sharded / "model.safetensors").exists()
    result = interpolate(clip_folder, sharded, 1.0, output_dir=tmp_path / "out")
    weights, expected = froster_weights(result), froster_weights(sharded)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_hidden_files_stay_where_they_are(clip_folder, tuned_folder, tmp_path):
    folder = shutil.copytree(tuned_folder, tmp_path / "hidden")
    (folder / ".env.json").write_text('{"HF_TOKEN": "hf_secret"}')
    out = interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")
    assert not (out / ".env.json").exists()


def test_processor_code_and_config_come_along_and_labels_and_calibration_do_not(tmp_path, caplog):
    tuned, processor = save_tiny_checkpoint(tmp_path / "tuned"), tiny_processor()
    labels = {"labels": ["a", "b"], "input_ids": processor.encode_labels(["a", "b"])["input_ids"]}
    model = FrosterForVideoClassification.from_pretrained(tuned)
    model.set_labels(**labels)
    model.save_pretrained(tuned)
    processor.calibration = {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "background_labels": ["a landscape"]}
    processor.save_pretrained(tuned)
    for name in ("trainer_state.json", "training_args.bin", "optimizer.pt"):
        (tuned / name).write_text("{}")
    result = interpolate(save_tiny_clip(tmp_path / "clip"), tuned, 0.5, output_dir=tmp_path / "out")
    names = {path.name for path in result.iterdir()}
    expected = {path.name for path in tuned.iterdir()} - {"trainer_state.json", "training_args.bin", "optimizer.pt"}
    assert names == expected
    loaded = FrosterForVideoClassification.from_pretrained(result)
    assert loaded.config.num_labels == 0
    assert "label list" in caplog.text
    assert "calibration of the checkpoint does not hold for the weights between the two" in caplog.text
    kept = FrosterProcessor.from_pretrained(result).to_dict()
    assert kept == {**FrosterProcessor.from_pretrained(tuned).to_dict(), "calibration": None}
    loaded.set_labels(**labels)
    assert loaded(torch.zeros(1, 4, 3, 32, 32)).logits.isfinite().all()


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (("mit", "mit"), "mit"),
        (("mit", "apache-2.0"), None),
        (("mit", None), None),
        (("cc-by-nc-sa-4.0", None), "cc-by-nc-sa-4.0"),
        (("mit", "cc-by-nc-sa-4.0"), "cc-by-nc-sa-4.0"),
    ],
)
def test_a_license_of_both_comes_along_and_the_report_of_a_conversion_does_not(
    clip_folder, tuned_folder, tmp_path, licenses, expected
):
    """A report says what was made of one of the two, and FROSTER's license is kept by all that is made of it."""
    sources = [shutil.copytree(folder, tmp_path / folder.name) for folder in (clip_folder, tuned_folder)]
    for folder, license in zip(sources, licenses):
        report = {"layout": "froster", "left_out": []} | ({"license": license} if license else {})
        (folder / "conversion.json").write_text(json.dumps(report))
    result = interpolate(*sources, 0.5, output_dir=tmp_path / "out")
    assert not (result / "conversion.json").exists()
    assert stated_license(result) == expected
    assert (result / "README.md").exists() == (expected is not None)


def test_a_training_checkpoint_leaves_its_projectors_behind(clip_folder, tmp_path):
    model = tiny_model()
    model.add_distillation_projectors("residual")
    model.save_pretrained(tmp_path / "tuned", state_dict=model.state_dict())
    result = interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")
    assert not any("projectors" in name for name in load_file(result / "model.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_precision_is_that_of_the_froster_checkpoint(clip_folder, tmp_path, dtype):
    tiny_model().to(dtype).save_pretrained(tmp_path / "tuned")
    result = interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")
    tuned, clip = froster_weights(tmp_path / "tuned"), CLIPModel.from_pretrained(clip_folder).state_dict()
    with safe_open(result / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            tensor, plain = file.get_tensor(name), name.removeprefix("froster.")
            assert tensor.dtype == dtype
            assert torch.equal(tensor, torch.lerp(clip[plain], tuned[plain].float(), 0.5).to(dtype))


def test_parameters_of_one_side_are_refused(clip_folder, tmp_path):
    tiny_model(temporal_module="st_adapter").save_pretrained(tmp_path / "tuned")
    with pytest.raises(CheckpointMismatchError, match=r"has 12 tensors that .*clip.* lacks: .*st_adapter.* 9 more"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_result_is_written_as_other_checkpoints_are(clip_folder, tuned_folder, tmp_path):
    """Whoever may read one of its files may read them all; and it takes no link's place."""
    folder = interpolate(clip_folder, tuned_folder, 0.5, output_dir=tmp_path / "new" / "out")
    (tmp_path / "probe").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(tmp_path / "probe").stat().st_mode}
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="link"):
        interpolate(clip_folder, tuned_folder, 0.5, output_dir=tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def edit_config(folder, edit):
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_a_tensor_under_both_of_its_names_is_refused(tuned_folder, tmp_path):
    folder = shutil.copytree(tuned_folder, tmp_path / "both")
    weights = load_file(folder / "model.safetensors")
    weights |= {"logit_scale": weights["froster.logit_scale"] * 2}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has logit_scale twice, as froster\.logit_scale and as logit_scale"):
        interpolate(folder, tuned_folder, 0.5, output_dir=tmp_path / "out")


def test_towers_that_compute_otherwise_are_refused(clip_folder, tmp_path):
    tiny_model().save_pretrained(tmp_path / "tuned")
    edit_config(tmp_path / "tuned", lambda config: config["vision_config"].update(num_attention_heads=2))
    with pytest.raises(CheckpointMismatchError, match=r"vision_config\.num_attention_heads: 4 and 2"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")


def test_texts_that_end_otherwise_are_refused(clip_folder, tmp_path):
    """Older configurations say 2 for the highest token, which is the same as its number."""
    folder = shutil.copytree(clip_folder, tmp_path / "older")
    edit_config(folder, lambda config: config["text_config"].update(eos_token_id=2))
    interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "same")
    edit_config(folder, lambda config: config["text_config"].update(eos_token_id=98))
    with pytest.raises(CheckpointMismatchError, match="texts end with token 99 and 98"):
        interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"image_mean": [0.5, 0.5, 0.5]}, "`image_mean` is"), ({"num_frames": 8, "sampling": "dense"}, None)],
    ids=["other pixels", "other frames"],
)
@pytest.mark.parametrize("first", ["CLIP", "FROSTER"])
def test_checkpoints_with_other_pixels_are_refused(tmp_path, first, options, message):
    a = save_tiny_clip(tmp_path / "a") if first == "CLIP" else save_tiny_checkpoint(tmp_path / "a")
    b = save_tiny_checkpoint(tmp_path / "b")
    tiny_processor(**options).save_pretrained(b)
    expected = nullcontext() if message is None else pytest.raises(ValueError, match=rf"a and .*b would.*{message}")
    with expected:
        interpolate(a, b, 0.5, output_dir=tmp_path / "out")
    assert (tmp_path / "out").exists() == (message is None)
    # A processor of which there is a part only is none to compare with.
    (a / "tokenizer_config.json").unlink()
    interpolate(a, b, 0.5, output_dir=tmp_path / "again")


def test_checkpoints_with_other_tokens_and_damaged_processors_are_refused(tmp_path):
    a, b = save_tiny_checkpoint(tmp_path / "a"), save_tiny_checkpoint(tmp_path / "b")
    described = json.loads((b / "tokenizer.json").read_text())
    vocabulary = described["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (b / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="their tokenizers have other vocabularies"):
        interpolate(a, b, 0.5, output_dir=tmp_path / "out")
    (b / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"The processor of .*b cannot be loaded: ") as caught:
        interpolate(a, b, 0.5, output_dir=tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_different_temporal_modules_are_refused(tuned_folder, tmp_path):
    tiny_model(temporal_module="channel_shift").save_pretrained(tmp_path / "shift")
    with pytest.raises(CheckpointMismatchError, match="temporal_module: 'local_attention' and 'channel_shift'"):
        interpolate(tuned_folder, tmp_path / "shift", 0.5, output_dir=tmp_path / "out")


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_other_shapes_and_values_that_are_not_finite_are_refused(clip_folder, tmp_path):
    tiny_model().save_pretrained(tmp_path / "tuned")
    name = "froster.visual_projection.weight"
    rewrite(tmp_path / "tuned", lambda weights: weights[name].fill_(float("nan")))
    with pytest.raises(ValueError, match=r"visual_projection\.weight in .*tuned has values that are not finite"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tiny_model(projection_dim=16).save_pretrained(tmp_path / "tuned")
    with pytest.raises(CheckpointMismatchError, match=r"visual_projection\.weight \[32, 32\] and \[16, 32\]"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")


def test_values_that_the_type_of_the_result_does_not_hold_are_refused(clip_folder, tmp_path):
    large = shutil.copytree(clip_folder, tmp_path / "large")
    rewrite(large, lambda weights: weights["visual_projection.weight"].fill_(1e6))
    tiny_model().half().save_pretrained(tmp_path / "tuned")
    with pytest.raises(
        ValueError, match=r"visual_projection\.weight has values .* that torch\.float16, its type, does"
    ):
        interpolate(large, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")


def test_what_is_no_checkpoint_is_refused(clip_folder, tuned_folder, tmp_path):
    with pytest.raises(ValueError, match=r"`ratio` is 1\.5"):
        interpolate(clip_folder, tuned_folder, 1.5, output_dir=tmp_path / "out")
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        interpolate(clip_folder, tuned_folder, 0.5, output_dir=clip_folder)
    with pytest.raises(ValueError, match=r"has no config\.json"):
        interpolate(clip_folder, tmp_path, 0.5, output_dir=tmp_path / "out")
    tiny_model().save_pretrained(tmp_path / "tuned")
    (tmp_path / "tuned" / "model.safetensors").rename(tmp_path / "tuned" / "model.bin")
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")
    (tmp_path / "tuned" / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")
    edit_config(tmp_path / "tuned", lambda config: config.update(model_type="bert"))
    with pytest.raises(ValueError, match="'bert'"):
        interpolate(clip_folder, tmp_path / "tuned", 0.5, output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[]", "holds a JSON list, not an object"),
        ("config.json", "null", "holds a JSON NoneType, not an object"),
        ("config.json", "[" * 100_000, "nested too deeply"),
        ("config.json", '{"model_type": ["clip"]}', r"of type \['clip'\]"),
        ("config.json", '{"model_type": "clip", "text_config": 7}', "cannot be used"),
        ("config.json", '{"model_type": "froster", "vision_config": {"hidden_size": "wide"}}', "cannot be used"),
        (
            "config.json",
            '{"model_type": "clip", "text_config": {"vocab_size": 1000000}, "vision_config": {"hidden_size": 12288}}',
            r"config\.json cannot be used: .* describes a model of [\d,]+ numbers, but the weights take",
        ),
        ("model.safetensors.index.json", "[]", "is not an index of shards"),
        ("model.safetensors.index.json", "{}", "is not an index of shards"),
        ("model.safetensors.index.json", '{"weight_map": [1]}', "is not an index of shards"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 1}}', "is not an index of shards"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["b"]}}', "is not an index of shards"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "\\u0000b"}}', r"names '\\x00b' as"),
        ("model.safetensors.index.json", "[" * 100_000, "nested too deeply"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "' + "b" * 100_000 + '"}}', "names 'bbb"),
    ],
)
def test_files_of_another_shape_are_refused_in_one_line(clip_folder, tmp_path, name, content, message):
    folder = tmp_path / "tuned"
    tiny_model().save_pretrained(folder)
    if name != "config.json":
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 5000
    assert not (tmp_path / "out").exists()


def test_an_adapter_and_a_model_with_one_beside_it_are_refused(clip_folder, tuned_folder, tmp_path):
    beside = shutil.copytree(tuned_folder, tmp_path / "beside")
    (tmp_path / "alone").mkdir()
    for folder in (beside, tmp_path / "alone"):
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
        with pytest.raises(ValueError, match=r"has an adapter_config.json.* merge the adapter into its model"):
            interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")


def test_foreign_code_and_what_names_it_stay_behind(clip_folder, tmp_path, caplog):
    folder = tmp_path / "tuned"
    tiny_model().save_pretrained(folder)
    edit_config(folder, lambda config: config.update(auto_map={"AutoModel": "somebody/else--evil.Model"}))
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["somebody/else--evil.T", null]}}')
    result = interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")
    assert not (result / "evil.py").exists()
    for name in ("config.json", "tokenizer_config.json"):
        assert "evil" not in (result / name).read_text()
    assert sum("evil" in message for message in caplog.messages) == 3


def test_what_other_programs_would_read_stays_behind(tmp_path):
    """Sentence Transformers runs the code that its modules name."""
    folder = save_tiny_checkpoint(tmp_path / "tuned")
    own = {path.name for path in folder.iterdir()}
    (folder / "modules.json").write_text('[{"type": "somebody/else--evil.E"}]')
    for name in ("config_sentence_transformers.json", "sentence_bert_config.json", "other.json", "notes.txt"):
        (folder / name).write_text("{}")
    result = interpolate(folder, folder, 0.5, output_dir=tmp_path / "out")
    assert {path.name for path in result.iterdir()} == own


def test_kernels_and_chat_templates_that_a_checkpoint_names_stay_behind(tmp_path):
    clip_folder, folder = save_tiny_clip(tmp_path / "clip"), save_tiny_checkpoint(tmp_path / "tuned")
    kernels = {"attn_implementation": "hostile/kernels", "_experts_implementation": "hostile/kernels"}
    edit_config(folder, lambda config: config.update(kernels))
    edit_config(folder, lambda config: config["vision_config"].update(kernels))
    for name in ("processor_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"chat_template": "hostile words"}))
    for name in ("chat_template.json", "chat_template.jinja"):
        (folder / name).write_text('{"chat_template": "hostile words"}')
    (folder / "vocab.json").write_text('{"chat_template": 7}')
    result = interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")
    texts = {path.name: path.read_text() for path in result.iterdir() if path.suffix in (".json", ".jinja")}
    assert not [name for name, text in texts.items() if "hostile" in text]
    assert texts["vocab.json"] == '{"chat_template": 7}'
    assert FrosterProcessor.from_pretrained(result).to_dict() == FrosterProcessor.from_pretrained(folder).to_dict()


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"quant_method": "mxfp4"}, "is quantized by 'mxfp4', which may run code from the Hub"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "os.system"}}}, "'quant_type' of its quant"),
    ],
)
@pytest.mark.parametrize("place", ["model", "tower"])
def test_a_quantization_that_is_not_loaded_is_not_copied(clip_folder, tuned_folder, tmp_path, stated, message, place):
    folder = shutil.copytree(clip_folder, tmp_path / "quantized")
    edit_config(
        folder,
        lambda config: (config if place == "model" else config["text_config"]).update(quantization_config=stated),
    )
    for other in (tuned_folder, folder):
        with pytest.raises(ValueError, match=rf"quantized.config\.json cannot be used: the checkpoint.*{message}"):
            interpolate(other, folder, 0.5, output_dir=tmp_path / "out")


def test_code_that_is_not_the_packages_own_is_not_even_copied_for_a_while(clip_folder, tmp_path, monkeypatch):
    """Links to one large file would fill the disk before they are dropped."""
    folder = tmp_path / "tuned"
    tiny_model().save_pretrained(folder)
    (folder / "code.py").touch()
    os.truncate(folder / "code.py", 1 << 34)
    (folder / "link.py").symlink_to("code.py")
    shutil.copyfile(Path(inspect.getfile(FrosterProcessor)).with_name("text_files.py"), folder / "text_files.py")
    copied, copy = [], shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda path, to: (copied.append(path.name), copy(path, to)))
    interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")
    assert "text_files.py" in copied
    assert {"code.py", "link.py"}.isdisjoint(copied)


def test_what_lies_behind_a_link_out_of_the_checkpoint_is_not_copied(clip_folder, tmp_path):
    folder = tmp_path / "tuned"
    tiny_model().save_pretrained(folder)
    (tmp_path / "secret").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"notes\.txt is a link to .*secret, outside of the checkpoint's folder"):
        interpolate(clip_folder, folder, 0.5, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_download_of_the_hub_is_a_folder_of_links(clip_folder, tmp_path):
    entry = tmp_path / "models--a--b"
    snapshot = entry / "snapshots" / "abc"
    tiny_model().save_pretrained(snapshot)
    (snapshot / "merges.txt").write_text("a b")
    (entry / "blobs").mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(entry / "blobs" / str(number))
        path.symlink_to(entry / "blobs" / str(number))
    result = interpolate(clip_folder, snapshot, 0.5, output_dir=tmp_path / "out")
    assert (result / "merges.txt").read_text() == "a b"
    assert not (result / "merges.txt").is_symlink()


def test_a_shard_outside_of_the_folder_is_refused(clip_folder, tmp_path):
    sharded = tmp_path / "sharded"
    tiny_model().save_pretrained(sharded, max_shard_size="40KB")
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../clip/model.safetensors")
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="as one of its files; only plain file names are allowed"):
        interpolate(clip_folder, sharded, 0.5, output_dir=tmp_path / "out")


def test_described_model_is_built_once(tuned_folder, monkeypatch):
    built, build = [], checkpoint_loading.described_weights
    monkeypatch.setattr(checkpoint_loading, "described_weights", lambda config: built.append(config) or build(config))
    folder_of_weights = WeightsFolder(tuned_folder)
    assert built == [folder_of_weights.config]
