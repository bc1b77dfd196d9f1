"""PEFT adapters saved alone, loaded by the name of their folder, and refused where they ask for more than weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForVideoClassification,
    CLIPModel,
    CLIPProcessor,
    PreTrainedModel,
    pipeline,
)
from transformers.integrations import PeftAdapterMixin

from froster_hf import FrosterForVideoClassification, FrosterModel, checkpoint_loading
from froster_hf.adapters import check_adapter_config
from froster_hf.assets import SMALL_CLIP
from froster_hf.checkpoint_loading import SHIPPED_CHECKPOINTS, load_installed
from froster_hf.fingerprints import model_fingerprint
from froster_hf.hub import export_checkpoint
from froster_hf.training import save_adapter
from froster_hf.training.student import add_lora
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.hub.loopback_hub import LoopbackHub

peft = pytest.importorskip("peft", reason="needs the extra lora")

BIKES = str(REAL_VIDEOS["bikes"])
LABELS = ["riding a bike", "golf", "a rabbit"]
TASK = "zero-shot-video-classification"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A checkpoint with stored labels."""
    folder = tmp_path_factory.mktemp("base") / "model"
    model, processor = tiny_model(), tiny_processor()
    model.set_labels(LABELS, **processor.encode_labels(LABELS))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Updates that change what the model says."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name or ".ia3_" in name or ".hada_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def answers(classify) -> list[float]:
    found = classify(BIKES, candidate_labels=LABELS)
    return [next(answer["score"] for answer in found if answer["label"] == label) for label in LABELS]


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> tuple[Path, list[float]]:
    """An adapter as transformers saves it, and the answers that it has to give."""
    folder = tmp_path_factory.mktemp("adapter") / "own"
    model = AutoModelForVideoClassification.from_pretrained(base)
    model.add_adapter(peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    fill(model).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder, answers(pipeline(TASK, model=model.eval(), processor=tiny_processor(), device="cpu"))


def test_an_adapter_of_another_scale_is_another_model(adapter, tmp_path):
    """Its weights are the same; stored predictions of the one are none of the other."""
    folder = Path(shutil.copytree(adapter[0], tmp_path / "own"))
    first = model_fingerprint(load_installed(folder, device="cpu", dtype="auto").model)
    assert model_fingerprint(load_installed(folder, device="cpu", dtype="auto").model) == first
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] * 2}))
    assert model_fingerprint(load_installed(folder, device="cpu", dtype="auto").model) != first


def test_an_adapter_is_small_and_loads_by_the_name_of_its_folder(base, adapter):
    folder, expected = adapter
    assert not (folder / "model.safetensors").exists()
    assert answers(pipeline(TASK, model=str(folder), device="cpu")) == pytest.approx(expected, abs=1e-6)
    loaded = load_installed(folder, device="cpu", dtype="auto")
    assert answers(loaded) == pytest.approx(expected, abs=1e-6)
    # What remembers a pipeline's model, such as an index, loads the same one by this name.
    assert loaded.model.config.name_or_path == str(folder)
    assert answers(load_installed(base, device="cpu", dtype="auto")) != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["IA3Config", "LoHaConfig"])
def test_other_kinds_of_adapters_load_as_well(base, tmp_path, kind):
    options = {"feedforward_modules": []} if kind == "IA3Config" else {"r": 4}
    model = AutoModelForVideoClassification.from_pretrained(base)
    model.add_adapter(getattr(peft, kind)(target_modules=["q_proj", "v_proj"], **options))
    fill(model).save_pretrained(tmp_path / "own")
    tiny_processor().save_pretrained(tmp_path / "own")
    expected = answers(pipeline(TASK, model=model.eval(), processor=tiny_processor(), device="cpu"))
    assert answers(load_installed(tmp_path / "own", device="cpu", dtype="auto")) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("saved_by", ["peft", "transformers"])
def test_an_adapter_for_a_plain_clip_answers_as_the_merged_one(tmp_path, saved_by):
    clip, config = CLIPModel.from_pretrained(SMALL_CLIP), peft.LoraConfig(r=4, target_modules=["q_proj", "fc1"])
    torch.manual_seed(0)
    adapted = fill(peft.get_peft_model(clip, config))
    if saved_by == "peft":
        adapted.save_pretrained(tmp_path / "own")
    else:
        torch.manual_seed(0)
        again = CLIPModel.from_pretrained(SMALL_CLIP)
        again.add_adapter(config)
        fill(again).save_pretrained(tmp_path / "own")
    shutil.copytree(SMALL_CLIP, tmp_path / "merged")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    expected = answers(load_installed(tmp_path / "merged", device="cpu", dtype="auto"))
    assert answers(load_installed(tmp_path / "own", device="cpu", dtype="auto")) == pytest.approx(expected, abs=1e-5)
    assert answers(load_installed(SMALL_CLIP, device="cpu", dtype="auto")) != pytest.approx(expected, abs=1e-3)


def test_an_adapter_of_a_plain_clip_is_not_saved_as_a_model_that_nothing_loads(tmp_path):
    clip = CLIPModel.from_pretrained(SMALL_CLIP)
    clip.add_adapter(peft.LoraConfig(r=4, target_modules=["q_proj"]))
    clip.save_pretrained(tmp_path / "own")
    classify = load_installed(tmp_path / "own", device="cpu", dtype="auto")
    with pytest.raises(ValueError, match=r"cannot be saved with this model\. Merge it with PEFT"):
        classify.save_pretrained(tmp_path / "saved")
    assert not list(tmp_path.glob("saved/*.safetensors"))


def test_labels_of_the_checkpoint_below_are_names_without_embeddings(base, adapter):
    """The adapted text tower says something else of them."""
    model = AutoModelForVideoClassification.from_pretrained(base)
    model.load_adapter(str(adapter[0]))
    for classify in (
        load_installed(adapter[0], device="cpu", dtype="auto"),
        pipeline(TASK, model=str(adapter[0]), device="cpu"),
        pipeline(TASK, model=model, processor=tiny_processor(), device="cpu"),
    ):
        with pytest.raises(ValueError, match="label names without embeddings"):
            classify(BIKES)


def test_the_calibration_of_the_checkpoint_below_is_left_out(base, adapter, tmp_path, caplog):
    calibration = {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "background_labels": ["a landscape"]}
    below, folder = shutil.copytree(base, tmp_path / "below"), shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": str(below)}))
    processor = tiny_processor()
    processor.calibration = calibration
    processor.save_pretrained(below)
    # That of a processor beside the adapter was fitted to both together.
    for place, kept in ((folder, calibration), (below, None)):
        processor.save_pretrained(place)
        assert load_installed(folder, device="cpu", dtype="auto").processor.calibration == kept
        (folder / "processor_config.json").unlink(missing_ok=True)
    assert "calibration of the checkpoint does not hold for the weights with the adapter" in caplog.text
    assert load_installed(below, device="cpu", dtype="auto").processor.calibration == calibration


def test_the_processor_of_the_training_is_that_beside_the_adapter(adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    tiny_processor("none", num_frames=2).save_pretrained(folder)
    found = load_installed(folder, device="cpu", dtype="auto")
    assert found.processor.num_prompts == 1
    assert found.processor.video_processor.num_frames == 2
    assert answers(found) != pytest.approx(adapter[1], abs=1e-3)
    assert answers(pipeline(TASK, model=str(folder), processor=str(folder), device="cpu")) == answers(found)
    for file in ("processor_config.json", "video_preprocessor_config.json"):
        (folder / file).unlink(missing_ok=True)  # as a training that was given the tokenizer alone leaves it
    assert answers(load_installed(folder, device="cpu", dtype="auto")) == pytest.approx(adapter[1], abs=1e-6)


@pytest.fixture
def clip_adapter(tmp_path) -> Path:
    """An adapter for a plain CLIP, with the processor of its training in several files, as transformers 4 saved it."""
    model = CLIPModel.from_pretrained(SMALL_CLIP)
    model.add_adapter(peft.LoraConfig(r=4, target_modules=["q_proj"]))
    fill(model).save_pretrained(tmp_path / "own")
    processor = CLIPProcessor.from_pretrained(SMALL_CLIP)
    processor.tokenizer.save_pretrained(tmp_path / "own")
    processor.image_processor.image_mean = [0.1, 0.1, 0.1]
    processor.image_processor.save_pretrained(tmp_path / "own")
    file = tmp_path / "own/preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "processor_class": "CLIPProcessor"}))
    assert not (tmp_path / "own/processor_config.json").exists()
    return tmp_path / "own"


def test_a_processor_in_several_files_beside_an_adapter_is_that_of_the_training(clip_adapter):
    found = load_installed(clip_adapter, device="cpu", dtype="auto")
    assert list(found.processor.video_processor.image_mean) == [0.1, 0.1, 0.1]


def test_a_part_of_a_processor_beside_an_adapter_is_refused(clip_adapter, adapter, tmp_path):
    of_froster = Path(shutil.copytree(adapter[0], tmp_path / "froster"))
    (of_froster / "processor_config.json").unlink()
    shutil.copy(clip_adapter / "preprocessor_config.json", of_froster)
    for file in clip_adapter.glob("token*"):
        file.unlink()
    for folder in (clip_adapter, of_froster):
        with pytest.raises(ValueError, match=r"part of a processor \(preprocessor_config.json\)"):
            load_installed(folder, device="cpu", dtype="auto")


def test_a_processor_beside_an_adapter_is_checked_as_any(adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({**content, "processor_class": "WhisperProcessor"}))
    with pytest.raises(ValueError, match="has the processor_class"):
        load_installed(folder, device="cpu", dtype="auto")


def test_what_the_trainer_trains_is_saved_alone_and_answers_alike(base, tmp_path):
    model = AutoModelForVideoClassification.from_pretrained(base)
    add_lora(model, rank=4, alpha=8, dropout=0.1)
    fill(model).eval()
    save_adapter(model, tmp_path / "own", base=base)
    tiny_processor().save_pretrained(tmp_path / "own")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "own").glob("*.safetensors")}
    assert list(sizes) == ["adapter_model.safetensors"]
    assert sizes["adapter_model.safetensors"] < (base / "model.safetensors").stat().st_size / 3
    expected = answers(pipeline(TASK, model=model, processor=tiny_processor(), device="cpu"))
    assert answers(load_installed(tmp_path / "own", device="cpu", dtype="auto")) == pytest.approx(expected, abs=1e-6)


def test_a_model_that_differs_in_more_than_its_updates_is_not_saved_as_an_adapter(base, tmp_path):
    model = AutoModelForVideoClassification.from_pretrained(base)
    with pytest.raises(ValueError, match="no low-rank updates"):
        save_adapter(model, tmp_path / "own", base=base)
    add_lora(model, rank=4, alpha=8, dropout=0.0)
    with torch.no_grad():
        model.froster.logit_scale += 0.1
    with pytest.raises(ValueError, match=r"more than low-rank updates, such as froster\.logit_scale"):
        save_adapter(model, tmp_path / "own", base=base)
    assert not (tmp_path / "own").exists()


def test_an_adapter_on_a_checkpoint_of_the_hub(base, adapter, tmp_path, monkeypatch):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": "owner/froster"}))
    hub = LoopbackHub("owner/froster")
    hub.files |= {path.name: path.read_bytes() for path in base.iterdir() if path.suffix != ".py"}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    try:
        found = answers(load_installed(folder, device="cpu", dtype="auto"))
    finally:
        hub.close()
    assert found == pytest.approx(adapter[1], abs=1e-6)


def test_the_checkpoint_below_may_be_the_one_that_ships(adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    model = AutoModelForVideoClassification.from_pretrained(SHIPPED_CHECKPOINTS["small"])
    model.add_adapter(peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    model.save_pretrained(folder)
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": "small"}))
    (folder / "processor_config.json").unlink()
    loaded = load_installed(folder, device="cpu", dtype="auto")
    assert answers(loaded) == pytest.approx(answers(load_installed("small", device="cpu", dtype="auto")), abs=1e-6)


@pytest.mark.parametrize("revision", ["v2", "refs/pr/7", "b" * 40])
def test_the_checkpoint_below_is_of_the_revision_that_the_adapter_names(
    base, adapter, tmp_path, monkeypatch, revision
):
    cache = tmp_path / "hub" / "models--owner--froster"
    tiny_model(seed=5).save_pretrained(cache / "snapshots" / ("a" * 40))
    shutil.copytree(base, cache / "snapshots" / ("b" * 40))
    for name, commit in {"main": "a" * 40, "v2": "b" * 40, "refs/pr/7": "b" * 40}.items():
        (cache / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    named = {**content, "base_model_name_or_path": "owner/froster", "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(named))
    assert answers(load_installed(folder, device="cpu", dtype="auto")) == pytest.approx(adapter[1], abs=1e-6)
    (folder / "adapter_config.json").write_text(json.dumps({**named, "revision": None}))
    assert answers(load_installed(folder, device="cpu", dtype="auto")) != pytest.approx(adapter[1], abs=1e-3)


def test_an_adapter_that_moves_on_while_its_base_is_fetched_is_of_one_commit(base, adapter, tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--owner--adapter"
    first, second = (cache / "snapshots" / (letter * 40) for letter in "ab")
    for folder, more in ((first, {}), (second, {"target_modules": r"((\w|\.)+)+!", "lora_alpha": 800})):
        shutil.copytree(adapter[0], folder)
        content = json.loads((folder / "adapter_config.json").read_text())
        named = {**content, "base_model_name_or_path": str(base), **more}
        (folder / "adapter_config.json").write_text(json.dumps(named))
        # The Hub has said that it has none.
        (cache / ".no_exist" / folder.name).mkdir(parents=True)
        (cache / ".no_exist" / folder.name / "config.json").touch()
    (cache / "refs").mkdir()
    main = cache / "refs" / "main"
    main.write_text(first.name)
    check = checkpoint_loading.checked_config

    def check_and_move_on(*args, **kwargs):
        main.write_text(second.name)
        return check(*args, **kwargs)

    monkeypatch.setattr(checkpoint_loading, "checked_config", check_and_move_on)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = answers(load_installed("owner/adapter", device="cpu", dtype="auto"))
    assert main.read_text() == second.name
    assert found == pytest.approx(adapter[1], abs=1e-6)


def test_weights_that_the_checkpoint_below_lacks_are_an_error(base, adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    below = shutil.copytree(base, tmp_path / "below")
    tensors = load_file(below / "model.safetensors")
    del tensors["froster.visual_projection.weight"]
    save_file(tensors, below / "model.safetensors", metadata={"format": "pt"})
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": str(below)}))
    with pytest.raises(ValueError, match=r"not in its files: froster\.visual_projection\.weight"):
        load_installed(folder, device="cpu", dtype="auto")


PLAIN = {"peft_type": "LORA", "base_model_name_or_path": "owner/name", "r": 8, "target_modules": ["q_proj"]}


def test_what_peft_writes_by_itself_is_let_through(adapter):
    check_adapter_config(json.loads((adapter[0] / "adapter_config.json").read_text()), "own")
    check_adapter_config(
        {**PLAIN, "megatron_core": "megatron.core", "loftq_config": {}, "of_a_later_release": None}, "own"
    )
    nothing = ("revision", "task_type", "layers_to_transform", "modules_to_save", "fan_in_fan_out", "loftq_config")
    check_adapter_config({**PLAIN, **dict.fromkeys(nothing)}, "own")
    for layers in (0, 1, [0], [0, 1]):
        check_adapter_config({**PLAIN, "layers_to_transform": layers, "layers_pattern": ["layers"]}, "own")
    # Every linear module of the largest backbone by its full name.
    names = [f"froster.vision_model.encoder.layers.{number}" for number in range(216)]
    numbers = dict.fromkeys(names, 8)
    check_adapter_config({**PLAIN, "target_modules": names, "rank_pattern": numbers, "alpha_pattern": numbers}, "own")


@pytest.mark.parametrize(
    "fields",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "own"},
        {"megatron_core": "own"},
        {"peft_type": "BOFT"},
        {"peft_type": ["LORA"]},
        {"base_model_name_or_path": ""},
        {"base_model_name_or_path": ["a"]},
        {"revision": "../../../../else/where"},
        {"revision": "/else/where"},
        {"revision": ["v2"]},
        {"target_modules": "(a+)+$"},
        {"target_modules": ["(a+)+$"]},
        {"rank_pattern": {"(a+)+$": 4}},
        {"rank_pattern": {"q_proj": 10**6}},
        {"r": 10**9},
        {"r": True},
        {"r": None},
        {"r": False},
        {"lora_alpha": None},
        {"lora_alpha": []},
        {"lora_dropout": None},
        {"bias": None},
        {"rank_pattern": None},
        {"task_type": {}},
        {"peft_type": "LOHA", "alpha": None},
        {"lora_alpha": float("nan")},
        {"lora_alpha": 10**400},
        {"alpha_pattern": {"q_proj": 10**400}},
        {"init_lora_weights": "pissa"},
        {"use_dora": True},
        {"eva_config": {"a": 1}},
        {"layer_replication": [[0, 4000]]},
        {"bias": {"a": 1}},
        {"of_a_later_release": "own.module"},
        {"rank_pattern": {f"{'.' * 190}{number}": 8 for number in range(3000)}},
        {"rank_pattern": {f"a{n}": 8 for n in range(300)}, "alpha_pattern": {f"a{n}": 8 for n in range(300)}},
        {"modules_to_save": [f"a{number}" for number in range(500)]},
        {"layers_pattern": [f"a{number}" for number in range(500)]},
        {"target_modules": [f"a{number}" for number in range(600)], "exclude_modules": ["b"] * 600},
        {"layers_to_transform": list(range(2000))},
        {"layers_to_transform": False},
        {"layers_to_transform": -1},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_other_fields_are_refused_by_name(fields):
    with pytest.raises(ValueError, match=r"has an adapter_config\.json") as caught:
        check_adapter_config({**PLAIN, **fields}, "own")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "fields",
    [{"\x1b[2J\u202e": None}, {"rank_pattern": {"nothing": 3}}, {"exclude_modules": ["nothing"]}],
    ids=["a field of another release", "ranks of no module", "no module excluded"],
)
def test_peft_says_nothing_of_a_configuration_in_the_files_own_words(adapter, tmp_path, fields, recwarn, capfd):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, **fields}))
    load_installed(folder, device="cpu", dtype="auto")
    assert not [str(warning.message) for warning in recwarn]
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize("content", ["[]", "null", "{", "[" * 100_000, '{"r": 8}'], ids=lambda text: text[:10])
def test_a_file_that_is_no_configuration_is_refused(adapter, tmp_path, content):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"has an adapter_config\.json"):
        load_installed(folder, device="cpu", dtype="auto")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn], ids=str)
def test_an_adapter_whose_weights_are_quantized_and_do_not_say_how_is_refused(adapter, tmp_path, dtype):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(adapter[0], tmp_path / "own")
    stored = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: tensor.to(dtype) for name, tensor in stored.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match="but its configuration names no quantization"):
        load_installed(folder, device="cpu", dtype="auto")


def test_an_adapter_that_its_file_cannot_hold_is_refused_before_memory_is_taken(adapter, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, "r": 4096}))
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(AutoModelForVideoClassification, "from_pretrained", None)
    with pytest.raises(ValueError, match=r"describes [\d,]+ numbers, but adapter_model\.safetensors has \d+ bytes"):
        load_installed(folder, device="cpu", dtype="auto")


def test_an_adapter_of_an_adapter_and_an_adapter_beside_a_model_are_refused(adapter, base, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": str(adapter[0])}))
    with pytest.raises(ValueError, match="names another model"):
        load_installed(folder, device="cpu", dtype="auto")
    shutil.copy(base / "config.json", folder)
    with pytest.raises(ValueError, match=r"beside a config\.json"):
        load_installed(folder, device="cpu", dtype="auto")


LOADERS = {
    "own": FrosterForVideoClassification.from_pretrained,
    "auto": AutoModelForVideoClassification.from_pretrained,
    "auto of the base": AutoModel.from_pretrained,
    "pipeline": lambda folder: pipeline(TASK, model=str(folder), processor=tiny_processor()),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"r": 1_500_000}, "`r` 1500000"),
        ({"target_modules": r"(([a-z._0-9])*)*!$"}, "`target_modules`"),
        ({"corda_config": {"a": 1}}, "`corda_config`"),
        ({"r": 4096}, r"describes [\d,]+ numbers, but adapter_model\.safetensors has [\d,]+ bytes"),
        ({"base_model_name_or_path": "below"}, "outside of the checkpoint's folder"),
    ],
)
def test_models_read_no_adapter_that_is_refused(adapter, base, tmp_path, monkeypatch, changed, message, load):
    monkeypatch.chdir(tmp_path)
    folder, below = shutil.copytree(adapter[0], tmp_path / "own"), shutil.copytree(base, tmp_path / "below")
    (below / "merges.txt").symlink_to("/etc/hostname")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, **changed}))
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", None)
    with pytest.raises(ValueError, match=message):
        load(folder)


PLACES = LOADERS | {
    "load_pipeline": lambda folder: load_installed(folder, device="cpu", dtype="auto"),
    "load_adapter": lambda folder: tiny_model().load_adapter(folder),
    "load_adapter of the base": lambda folder: tiny_model().froster.load_adapter(folder),
}


@pytest.mark.parametrize("load", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("elsewhere", "does not fit the model that it names: 2 tensors"),
        ("not there", "does not fit the model that it names: 1 tensor"),
        ("both names", r"twice, as base_model\.model\."),
        ("a doubled name", "twice, as "),
    ],
)
def test_an_adapter_of_other_tensors_than_it_describes_is_refused(adapter, tmp_path, kind, message, load):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(adapter[0], tmp_path / "own")
    tensors = load_file(folder / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    if kind == "elsewhere":
        tensors[name.replace("layers.0", "layers.7")] = tensors.pop(name)
    elif kind == "not there":
        del tensors[name]
    elif kind == "both names":
        tensors[name.removeprefix("base_model.model.")] = tensors[name] * 2
    else:
        tensors[name.replace("froster.", "froster.froster.")] = tensors[name] * 2
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize("changed", [{"corda_config": {"a": 1}}, {"r": 4096}], ids=str)
def test_no_adapter_that_is_refused_is_put_into_a_model(adapter, base, tmp_path, monkeypatch, changed):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, **changed}))
    monkeypatch.setattr(PeftAdapterMixin, "load_adapter", None)
    for model in (FrosterForVideoClassification.from_pretrained(base), FrosterModel.from_pretrained(base)):
        with pytest.raises(ValueError, match=r"is not let through|do not belong together"):
            model.load_adapter(folder)


def test_a_pickled_adapter_is_not_put_into_a_model(adapter):
    with pytest.raises(ValueError, match="`use_safetensors` is False"):
        tiny_model().load_adapter(adapter[0], use_safetensors=False)


def test_models_do_not_take_an_adapter_beside_them(adapter, base, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "own")
    shutil.copytree(base, folder, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"beside a config\.json"):
        FrosterForVideoClassification.from_pretrained(folder)


@pytest.mark.parametrize("model_class", [FrosterForVideoClassification, AutoModelForVideoClassification])
@pytest.mark.parametrize("place", ["alone", "subfolder of its own", "folder of its base"])
def test_models_read_an_honest_adapter(adapter, base, tmp_path, place, model_class):
    folder, options = adapter[0], {}
    if place != "alone":
        options = {"adapter_kwargs": {"subfolder": "below"}}
        shutil.copytree(adapter[0], tmp_path / "own" / "below")
        folder = tmp_path / "own"
    if place == "folder of its base":
        shutil.copytree(base, folder, dirs_exist_ok=True)
        content = json.loads((folder / "below" / "adapter_config.json").read_text())
        content["base_model_name_or_path"] = "nobody/has-it"
        (folder / "below" / "adapter_config.json").write_text(json.dumps(content))
    model = model_class.from_pretrained(folder, **options)
    classify = pipeline(TASK, model=model.eval(), processor=tiny_processor(), device="cpu")
    assert answers(classify) == pytest.approx(adapter[1], abs=1e-6)


def test_an_adapter_is_merged_before_it_is_exported(adapter, tmp_path):
    with pytest.raises(ValueError, match="merge the adapter"):
        export_checkpoint(adapter[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
