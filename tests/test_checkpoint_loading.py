"""Asking the Hub for a checkpoint: once, and never where the name is a path or the Hub does not answer."""

import http.server
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, is_offline_mode
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification

from froster_hf import FrosterForVideoClassification, FrosterModel, checkpoint_loading
from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.checkpoint_files import CheckpointError
from froster_hf.checkpoint_loading import ModelNotFoundError, hub_asked_once, is_path, load_pipeline
from froster_hf.conversion import write_original_checkpoint
from froster_hf.hub.export_folder import load_for_export
from froster_hf.training import FrozenTeacher, plan_training
from froster_hf.weights_license import stated_license
from tests.fixtures.pickles import Calls
from tests.fixtures.tiny import save_tiny_checkpoint, tiny_model, tiny_processor
from tests.hub.loopback_hub import LoopbackHub


class Silent(http.server.BaseHTTPRequestHandler):
    """A Hub that is down."""

    asked: list[tuple[str, str]]
    status = 503

    def do_HEAD(self):
        # Not what the client asks of itself, once in a while.
        if self.path.startswith("/owner/"):
            self.asked.append((self.command, self.path))
        self.send_error(self.status)

    do_GET = do_HEAD

    def log_message(self, *args):
        pass


@pytest.fixture
def go_online(monkeypatch, tmp_path):
    """Makes an address the Hub's, with an empty cache."""

    def go(endpoint: str) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        # The client that transformers shares keeps the address that was the Hub's when it was made.
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)

    return go


@pytest.fixture
def silent(go_online):
    """The requests that a Hub was made that is down."""
    asked: list[tuple[str, str]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Silent,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    go_online(f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


def test_a_hub_that_answers_no_more_for_now_is_asked_once(silent, monkeypatch):
    monkeypatch.setattr(Silent, "status", 429)
    with pytest.raises(ModelNotFoundError, match="'owner/froster' cannot be loaded"):
        load_pipeline("owner/froster", device="cpu")
    assert silent == [("HEAD", "/owner/froster/resolve/main/config.json")]


def test_a_hub_that_is_down_is_asked_once(silent, tmp_path):
    once = [("HEAD", "/owner/froster/resolve/main/config.json")]
    with pytest.raises(ModelNotFoundError, match="'owner/froster' cannot be loaded: it is not a folder") as refused:
        load_pipeline("owner/froster", device="cpu")
    assert "couldn't connect to" in str(refused.value)
    assert silent == once
    assert not is_offline_mode(), "as it was before"
    for label in ("a", "b"):
        (tmp_path / "videos" / label).mkdir(parents=True)
        (tmp_path / "videos" / label / "0.mp4").touch()
    with pytest.raises(ModelNotFoundError):
        plan_training(tmp_path / "videos", model="owner/froster")
    assert stated_license("owner/froster") is None
    # One for the plan, and one for each of the two files that may state a license.
    assert silent == 4 * once


def test_a_checkpoint_in_the_cache_is_loaded_where_the_hub_is_down(go_online, silent, tmp_path):
    hub = LoopbackHub("owner/froster")
    hub.files |= {path.name: path.read_bytes() for path in SMALL_FROSTER.iterdir()}
    down = constants.ENDPOINT
    go_online(hub.endpoint)
    load_pipeline("owner/froster", device="cpu")
    hub.close()
    go_online(down)
    assert load_pipeline("owner/froster", device="cpu").model.config.model_type == "froster"
    assert len(silent) == 1
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    os.truncate(weights, 100_000)
    with pytest.raises(
        ValueError, match=r"The model in owner/froster cannot be loaded: .*model\.safetensors is damaged"
    ) as refused:
        load_pipeline("owner/froster", device="cpu")
    assert not isinstance(refused.value, ModelNotFoundError)


def test_an_adapter_of_a_checkpoint_in_the_cache_is_loaded_where_the_hub_is_down(go_online, silent, tmp_path):
    peft = pytest.importorskip("peft", reason="needs the extra lora")
    snapshot = tmp_path / "cache" / "models--owner--froster" / "snapshots" / ("a" * 40)
    shutil.copytree(SMALL_FROSTER, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    model = AutoModelForVideoClassification.from_pretrained(snapshot)
    model.add_adapter(peft.LoraConfig(r=4, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "own")
    config = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "owner/froster"
    (tmp_path / "own" / "adapter_config.json").write_text(json.dumps(config))
    assert load_pipeline(tmp_path / "own", device="cpu").model.config.name_or_path == str(tmp_path / "own")
    assert silent == [("HEAD", "/owner/froster/resolve/main/config.json")]


@pytest.mark.parametrize("device", ["toaster", "meta", 99])
def test_a_device_that_is_not_there_is_named_and_not_the_checkpoint(device):
    with pytest.raises(ValueError, match=rf"^The device {device} cannot be used: .*Give cpu, cuda, cuda:0"):
        load_pipeline("small", device=device)


def test_of_a_folder_or_a_path_nobody_is_asked(silent, tmp_path):
    load_pipeline("small", device="cpu")
    with hub_asked_once(tmp_path):
        assert not is_offline_mode()
    with pytest.raises(ModelNotFoundError, match="there is no such folder"):
        load_pipeline(tmp_path / "nowhere", device="cpu")
    assert silent == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small", False),
        ("owner/name", False),
        ("./a", True),
        ("/a", True),
        ("~/a", True),
        ("a/b/c", True),
        ("a/", True),
    ],
)
def test_paths_are_told_from_names_on_the_hub(name, expected):
    assert is_path(name) == expected


def test_a_repository_that_moves_on_while_it_is_loaded_is_of_one_commit(tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--owner--froster"
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        tiny_model(seed=number).save_pretrained(cache / "snapshots" / commit)
        tiny_processor([["{}"], ["no {}"]][number]).save_pretrained(cache / "snapshots" / commit)
    main = cache / "refs" / "main"
    main.parent.mkdir()
    main.write_text("a" * 40)
    check = checkpoint_loading.refuse_oversized

    def check_and_move_on(*args):
        main.write_text("b" * 40)
        check(*args)

    monkeypatch.setattr(checkpoint_loading, "refuse_oversized", check_and_move_on)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    loaded = load_pipeline("owner/froster", device="cpu")
    assert main.read_text() == "b" * 40
    assert loaded.processor.prompt_templates == ["{}"]
    first, loaded = tiny_model(seed=0).state_dict(), loaded.model.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in first.items())


@pytest.mark.parametrize("stem", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("owner", [0, 1])
@pytest.mark.parametrize("load", [load_pipeline, FrosterForVideoClassification.from_pretrained])
def test_a_tensor_in_two_shards_is_refused(tmp_path, stem, owner, load):
    folder = save_tiny_checkpoint(tmp_path / "checkpoint")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    twice = "froster.visual_projection.weight"
    others = [name for name in weights if name != twice]
    shards = [{name: weights[name] for name in part} for part in (others[:20], others[20:])]
    names = [f"{number}-{stem}" for number in range(2)]
    weight_map = {name: names[number] for number, shard in enumerate(shards) for name in shard}
    shards[owner][twice] = weights[twice]
    write_shards(folder, stem, shards, weight_map | {twice: names[owner]})
    load(folder)
    shards[1 - owner][twice] = weights[twice] * 2
    write_shards(folder, stem, shards, weight_map | {twice: names[owner]})
    with pytest.raises(ValueError, match=r"index disagree about: froster\.visual_projection\.weight"):
        load(folder)


def write_shards(folder, stem, shards, weight_map):
    for number, shard in enumerate(shards):
        file = folder / f"{number}-{stem}"
        save_file(shard, file, {"format": "pt"}) if stem.endswith(".safetensors") else torch.save(shard, file)
    (folder / f"{stem}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize(
    "read",
    [
        load_pipeline,
        FrosterForVideoClassification.from_pretrained,
        FrosterModel.from_pretrained,
        lambda folder: write_original_checkpoint(folder, folder / "out.pt"),
    ],
)
@pytest.mark.parametrize("second", ["", "froster.froster.", "froster_"])
def test_a_tensor_under_two_of_its_names_is_refused(tmp_path, read, second):
    folder = save_tiny_checkpoint(tmp_path / "checkpoint")
    weights = load_file(folder / "model.safetensors")
    weights[f"{second}visual_projection.weight"] = weights["froster.visual_projection.weight"] * 2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"has visual_projection\.weight twice, as froster\..* and as "):
        read(folder)


def test_of_a_checkpoint_in_the_midst_of_a_lora_training_it_is_said_where_the_model_is(tmp_path):
    folder = save_tiny_checkpoint(tmp_path / "checkpoint-2")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    weights[name.replace(".weight", ".base_layer.weight")] = weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"1 tensors .* not in its files: .*LoRA training, whose folder `model` has the"
    ):
        load_pipeline(folder)


MODELS = [
    (SMALL_FROSTER, FrosterForVideoClassification.from_pretrained),
    (SMALL_CLIP, FrosterModel.from_clip),
    (SMALL_CLIP, FrosterModel.from_dual_encoder),
]


def test_a_tensor_of_a_dual_encoder_under_the_name_of_a_model_with_it_is_refused(tmp_path):
    folder = Path(shutil.copytree(SMALL_CLIP, tmp_path / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    weights["froster.visual_projection.weight"] = weights["visual_projection.weight"] * 2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for load in (FrosterModel.from_dual_encoder, FrozenTeacher.from_dual_encoder):
        with pytest.raises(ValueError, match=r"has visual_projection\.weight twice, as "):
            load(folder)


def without_metadata(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write_shards(folder, "model.safetensors", [weights], dict.fromkeys(weights, "0-model.safetensors"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index["weight_map"]}))


@pytest.mark.parametrize(("original", "load"), [*MODELS, (SMALL_CLIP, FrozenTeacher.from_dual_encoder)])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: os.truncate(folder / "model.safetensors", 100_000), r"model\.safetensors is damaged"),
        (lambda folder: (folder / "model.safetensors").write_text("not weights"), r"model\.safetensors is damaged"),
        (without_metadata, r"index\.json has no object `metadata`"),
    ],
)
def test_weights_that_are_damaged_are_an_error_of_the_checkpoint(tmp_path, original, load, damage, expected):
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    damage(folder)
    with pytest.raises(CheckpointError, match=expected):
        load(folder)


def test_a_type_of_weights_that_only_an_index_names_is_one_of_a_models(tmp_path):
    """transformers looks there where a configuration names none."""
    folder = Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))
    without_metadata(folder)
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"metadata": {"dtype": 3}}))
    with pytest.raises(ValueError, match=r"index\.json: metadata\.dtype` is 3; it must be one of float16"):
        FrosterForVideoClassification.from_pretrained(folder)


def in_cache(folder: Path, cache: Path) -> str:
    """The name under which a folder is in the Hub's cache."""
    snapshot = cache / "models--owner--name" / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    return "owner/name"


@pytest.mark.parametrize(
    ("original", "load"), [*MODELS, (SMALL_FROSTER, AutoModelForVideoClassification.from_pretrained)]
)
@pytest.mark.parametrize("is_cached", [False, True])
def test_models_take_no_memory_for_weights_that_their_files_cannot_hold(
    tmp_path, monkeypatch, original, load, is_cached
):
    """transformers would draw them, and find out then."""
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6}
    (folder / "config.json").write_text(json.dumps(config))
    prefix = "froster." if original == SMALL_FROSTER else ""
    save_file({f"{prefix}logit_scale": torch.tensor(2.6)}, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    name = in_cache(folder, tmp_path / "cache") if is_cached else folder
    with pytest.raises(ValueError, match=r"config\.json describes a model of [\d,]+ numbers, but the weights take"):
        load(name)


@pytest.mark.parametrize(("original", "load"), MODELS)
def test_models_of_the_hub_have_no_longer_names_than_those_of_a_folder(tmp_path, monkeypatch, original, load):
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"x" * 600: torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in (folder, in_cache(folder, tmp_path / "cache")):
        with pytest.raises(ValueError, match="has a tensor whose name has 600 characters"):
            load(name)


@pytest.mark.parametrize("load", [load_pipeline, load_for_export])
def test_what_is_wrong_with_a_checkpoint_in_the_cache_is_its_fault(tmp_path, monkeypatch, load):
    folder = Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))
    os.truncate(folder / "model.safetensors", 100_000)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"^The model in owner/name cannot be loaded: "):
        load(in_cache(folder, tmp_path / "cache"))


def test_new_weights_that_the_caller_asks_for_need_not_be_in_the_files(tmp_path):
    model = FrosterModel.from_dual_encoder(
        SMALL_CLIP, temporal_module="st_adapter", adapter_size=2048, temporal_pooling="transformer"
    )
    assert model.num_parameters() > (SMALL_CLIP / "model.safetensors").stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit on allocated memory")
@pytest.mark.parametrize(
    ("original", "load", "name", "options"),
    [
        *((original, load, "pytorch_model.bin", {}) for original, load in MODELS),
        (*MODELS[0], "pytorch_model.half.bin", {"variant": "half"}),
        # Beside sound weights.
        (*MODELS[0], "pytorch_model.bin", {"use_safetensors": False}),
    ],
)
def test_models_read_no_pickle_that_takes_far_more_memory_than_its_size(tmp_path, original, load, name, options):
    folder = shutil.copytree(original, tmp_path / "checkpoint")
    if not options:
        (folder / "model.safetensors").unlink()
    torch.save({"w": torch.ones(2), "unknown": Calls(bytearray, 1 << 30)}, folder / name)
    with pytest.raises(ValueError, match=r"is refused: reading it takes far more memory than its size"):
        load(folder, **options)


@pytest.mark.parametrize("options", [{}, {"variant": "half"}, {"use_safetensors": False}, {"subfolder": "below"}])
def test_models_read_honest_pickles(tmp_path, options):
    folder = shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint" / options.get("subfolder", ""))
    weights = load_file(folder / "model.safetensors")
    if "use_safetensors" not in options:
        (folder / "model.safetensors").unlink()
    torch.save(weights, folder / ("pytorch_model.half.bin" if "variant" in options else "pytorch_model.bin"))
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path / "checkpoint", **options)
    assert all(loaded.state_dict()[name].equal(tensor) for name, tensor in weights.items())
