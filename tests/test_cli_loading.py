"""Checkpoints that are damaged, hostile or of another kind: one line, no code of theirs, no question to anyone."""

import json
import os
import pickle
import re
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.cli.loading import load_checkpoint
from froster_hf.modeling.configuration_froster import RECORDED_OUTPUTS
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from tests.fixtures.forks import run_python
from tests.fixtures.pickles import Calls
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import run_forked
from tests.fixtures.tiny import save_tiny_checkpoint, tiny_model, tiny_processor

BIKES = str(REAL_VIDEOS["bikes"])


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("sound"), ["{}"])


@pytest.fixture
def checkpoint(sound, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "checkpoint"))


def change_json(file: Path, **fields) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def change_processor(folder: Path, **options) -> None:
    stored = json.loads((folder / "processor_config.json").read_text())
    change_json(folder / "processor_config.json", video_processor={**stored["video_processor"], **options})


def refused_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Calls(os.getcwd)}, folder / "pytorch_model.bin")


class RepeatsANumber:
    """A tensor of one stored number and a hundred million elements, which a set makes objects of."""

    def __reduce__(self):
        return set, (torch.zeros(1).expand(100_000_000),)


def pickle_beyond_its_size(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": RepeatsANumber()}, folder / "pytorch_model.bin")
    assert (folder / "pytorch_model.bin").stat().st_size < 2000


def change_weights(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        changed = {name: change(name, tensor) for name, tensor in tensors.items()}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})

    return make


def add_weights(folder: Path, *names: str) -> None:
    tensors = load_file(folder / "model.safetensors") | {name: torch.ones(2) for name in names}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_tower(folder: Path, **fields) -> None:
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    change_json(folder / "config.json", vision_config=vision | fields)


def code_of_its_own(folder: Path, **fields) -> None:
    (folder / "own.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    change_json(folder / "config.json", **fields)


def shards_of_links(folder: Path) -> None:
    """Twenty names of a file of a megabyte, beside a configuration of some 16 million numbers."""
    save_file({"zeros": torch.zeros(2**18)}, folder / "shard-0.safetensors")
    shards = {f"shard-{number}": f"shard-{number}.safetensors" for number in range(1, 20)}
    for number, name in enumerate(shards.values()):
        make = os.symlink if number % 2 else os.link
        make(folder / "shard-0.safetensors", folder / name)
    model = (folder / "model.safetensors").rename(folder / "shard-model.safetensors")
    with safe_open(model, "pt") as weights:
        stored = dict.fromkeys(weights.keys(), model.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": stored | shards}))
    config = json.loads((folder / "config.json").read_text())
    width = config["text_config"]["hidden_size"]
    change_json(folder / "config.json", text_config=config["text_config"] | {"vocab_size": 2**24 // width})


def adapter_of(folder: Path) -> None:
    """PEFT imports the module that stands as `megatron_core`, and transformers loads the base model that is named."""
    (folder / "own.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    names = {"megatron_config": {"a": 1}, "megatron_core": "own", "base_model_name_or_path": str(SMALL_FROSTER)}
    adapter = {"peft_type": "LORA", "target_modules": ["q_proj"], **names}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    save_file({"base_model.model.x": torch.zeros(2)}, folder / "adapter_model.safetensors", metadata={"format": "pt"})


DAMAGES = {
    "a configuration that is a list": (lambda folder: (folder / "config.json").write_text("[]"), ""),
    "a configuration that is null": (lambda folder: (folder / "config.json").write_text("null"), ""),
    "a configuration nested deeply": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "deep"),
    "a configuration that is not JSON": (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
    "another model type": (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "'bert'"),
    "a tower of another width": (
        lambda folder: change_json(folder / "config.json", projection_dim=24),
        "tensors of its files have other shapes than its configuration describes, such as froster.text_projection.",
    ),
    "updates beside the weights": (
        lambda folder: add_weights(folder, "froster.text_model.encoder.layers.0.self_attn.q_proj.lora_A"),
        "tensors of its files have no place in the model that its configuration describes: froster.text_model.",
    ),
    "names that act on terminals": (
        lambda folder: add_weights(folder, *(f"{number}\x1b[2J{'a' * 500}" for number in range(50))),
        "50 tensors of its files have no place in the model",
    ),
    "fewer layers than the weights": (
        lambda folder: change_tower(folder, num_hidden_layers=1),
        "16 tensors of its files have no place in the model",
    ),
    "no tokenizer": (lambda folder: [file.unlink() for file in folder.glob("token*")], "tokenizer"),
    "no processor": (lambda folder: (folder / "processor_config.json").unlink(), "processor"),
    "a processor nested deeply": (lambda folder: (folder / "processor_config.json").write_text("[" * 100_000), "deep"),
    "a processor that is a list": (lambda folder: (folder / "processor_config.json").write_text("[]"), ""),
    "weights cut short": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" * 100), ""),
    "weights of something else": (
        lambda folder: save_file({"x": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"}),
        "of the model that its configuration describes are not in its files: froster.logit_scale",
    ),
    "weights that are quantized by nothing": (
        change_weights(lambda name, tensor: (tensor * 100).to(torch.int8)),
        "is stored as I8, but its configuration names no quantization",
    ),
    "weights that are whole numbers": (
        change_weights(lambda name, tensor: tensor.int() if name.endswith(".weight") else tensor),
        "is stored as I32, but its configuration names no quantization; without it, F64, F32, F16, BF16 are read",
    ),
    "parameters of other names that are whole numbers": (
        change_weights(lambda name, tensor: tensor.long() if name.endswith("class_embedding") else tensor),
        "class_embedding is stored as I64, but its configuration names no quantization",
    ),
    "biases that are true or false": (
        change_weights(lambda name, tensor: tensor > 0 if name.endswith(".bias") else tensor),
        "is stored as BOOL, but its configuration names no quantization",
    ),
    "a scale of nothing": (
        change_weights(lambda name, tensor: tensor - torch.inf if name.endswith("logit_scale") else tensor),
        "`froster.logit_scale` is -inf, so that logits would be multiplied by 0.0",
    ),
    "a scale that is no number": (
        change_weights(lambda name, tensor: tensor * torch.nan if name.endswith("logit_scale") else tensor),
        "`froster.logit_scale` is nan, so that logits would be multiplied by nan",
    ),
    "a layer more than the weights": (
        lambda folder: change_json(
            folder / "config.json",
            vision_config={
                **json.loads((folder / "config.json").read_text())["vision_config"],
                "num_hidden_layers": 9,
            },
        ),
        "of the model that its configuration describes are not in its files: froster.vision_model.encoder.layers.",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "a pickle that calls functions": (refused_pickle, "safetensors"),
    "a pickle that takes all memory": (pickle_beyond_its_size, "reading it takes far more memory than its size"),
    "an unknown model type with code": (
        lambda folder: code_of_its_own(folder, model_type="own", auto_map={"AutoConfig": "own.Config"}),
        "'own' is not that of a backbone",
    ),
    "an option that no video survives": (
        lambda folder: change_processor(folder, resample=99),
        "No video can be processed with this checkpoint's options: KeyError: 99",
    ),
    "a way of resizing that torch does not have": (
        lambda folder: change_processor(folder, resample=4),
        "No video can be processed with this checkpoint's options: NotImplementedError",
    ),
    "an option that belongs to another one": (
        lambda folder: change_processor(folder, resample=None),
        "No video can be processed with this checkpoint's options: ValueError: `size` and `resample` must be",
    ),
    "a tokenizer with the end token elsewhere": (
        lambda folder: change_json(folder / "tokenizer_config.json", eos_token="another"),
        "its files give texts the token 'another', whose index is",
    ),
    "a tokenizer without padding": (
        lambda folder: change_json(folder / "tokenizer_config.json", pad_token=None),
        "`pad_token` None",
    ),
    "a tokenizer whose length is text": (
        lambda folder: change_json(folder / "tokenizer_config.json", model_max_length="long"),
        "`model_max_length` 'long'",
    ),
    "a vocabulary larger than the files": (
        lambda folder: change_json(
            folder / "config.json",
            text_config={
                **json.loads((folder / "config.json").read_text())["text_config"],
                "vocab_size": 2 * 10**6,
            },
        ),
        "config.json describes a model of",
    ),
    "a vocabulary larger than its shards, which are links to one": (
        shards_of_links,
        "config.json describes a model of",
    ),
    "weights under another name": (
        lambda folder: [
            (folder / "model.safetensors").rename(folder / "w.safetensors"),
            change_json(folder / "config.json", transformers_weights="w.safetensors"),
        ],
        "`transformers_weights` is not a field of a configuration",
    ),
    "a mean beyond all numbers": (
        lambda folder: change_processor(folder, image_mean=[1e39] * 3),
        "its pixels are not numbers",
    ),
    "a mean that is text": (lambda folder: change_processor(folder, image_mean=["x"] * 3), "image_mean"),
    "a length below zero": (
        lambda folder: change_json(folder / "tokenizer_config.json", model_max_length=-5),
        "`model_max_length` -5",
    ),
    "an adapter that imports a module": (adapter_of, "has an adapter_config.json"),
    "an adapter of a model elsewhere": (
        lambda folder: [adapter_of(folder), (folder / "config.json").unlink()],
        "has an adapter_config.json",
    ),
    "a quantizer with kernels from the Hub": (
        lambda folder: change_json(folder / "config.json", quantization_config={"quant_method": "mxfp4"}),
        "is quantized by 'mxfp4', which may run code from the Hub; torchao, with its",
    ),
    "a quantizer that calls what a file names": (
        lambda folder: change_json(
            folder / "config.json",
            quantization_config={
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "torch.dtype", "_data": "_import_dotted_name"}},
            },
        ),
        "'quant_type' of its quantization is",
    ),
    "a quantizer without a name": (
        lambda folder: change_json(folder / "config.json", quantization_config={"load_in_8bit": True}),
        "is quantized by None",
    ),
    "a quantizer of one tower": (
        lambda folder: change_json(
            folder / "config.json", text_config={"quantization_config": {"quant_method": "fp8"}}
        ),
        "is quantized by 'fp8'",
    ),
    "a quantizer that is no object": (
        lambda folder: change_json(folder / "config.json", quantization_config=["mxfp4"]),
        "is quantized by ['mxfp4']",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_cannot_be_used_is_one_line(checkpoint, capfd, damage):
    make, expected = DAMAGES[damage]
    make(checkpoint)
    assert main(["predict", BIKES, "--labels", "a,b", "--model", str(checkpoint), "--device", "cpu"]) == 1
    printed = capfd.readouterr()
    message = printed.err.splitlines()[-1]
    assert message.startswith(f"froster: error: The model in {checkpoint} cannot be loaded: ")
    assert expected in message
    assert len(message) < 1500
    assert printed.out == ""
    for advice in ("weights_only", "trust_remote_code", "Traceback"):
        assert advice not in printed.err
    assert not (checkpoint / "ran").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda stored: stored["model"]["vocab"].update({"a</w>": 10**6}), "the token 1000000, but the model has"),
        (lambda stored: stored.update(post_processor=None), "texts without the token"),
    ],
    ids=["beyond the vocabulary", "without an end"],
)
def test_tokens_that_the_model_cannot_read_are_one_error_and_no_scores(checkpoint, capfd, change, expected):
    stored = json.loads((checkpoint / "tokenizer.json").read_text())
    change(stored)
    (checkpoint / "tokenizer.json").write_text(json.dumps(stored))
    change_json(checkpoint / "tokenizer_config.json", tokenizer_class="TokenizersBackend")
    assert main(["predict", BIKES, "--labels", "a,b", "--model", str(checkpoint), "--device", "cpu"]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "fields", "expected"),
    [
        (
            "tokenizer_config.json",
            {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}},
            "code of its own",
        ),
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, "is not that of a backbone"),
    ],
)
def test_nobody_is_asked_whether_a_checkpoints_code_may_run(checkpoint, file, fields, expected):
    (checkpoint / "own.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    change_json(checkpoint / file, **fields)
    arguments = ["predict", BIKES, "--labels", "a,b", "--model", str(checkpoint)]
    ended = run_forked(lambda: main(arguments), stdin=b"y\n" * 10)
    assert ended.returncode == 1
    assert expected in ended.stderr
    assert "[y/N]" not in ended.stdout + ended.stderr
    assert not list(checkpoint.glob("**/ran"))


@pytest.mark.parametrize("source", [SMALL_CLIP, SMALL_FROSTER])
@pytest.mark.parametrize(
    "fields",
    [
        {"attn_implementation": "owner/kernels@refs/pr/1"},
        {"_attn_implementation": "owner/kernels:Class"},
        {"attn_implementation": {"vision_config": "owner/kernels"}},
        {"experts_implementation": "owner/kernels"},
    ],
)
def test_no_repository_of_kernels_is_taken_from_a_checkpoint(source, fields, tmp_path):
    """transformers would fetch it and run its machine code."""
    folder = Path(shutil.copytree(source, tmp_path / "checkpoint"))
    change_json(folder / "config.json", **fields)
    config = load_checkpoint(str(folder), device="cpu").model.config
    for part in (config, config.vision_config, config.text_config):
        assert part._attn_implementation == "sdpa"


@pytest.mark.parametrize("source", [SMALL_CLIP, SMALL_FROSTER])
def test_what_a_checkpoint_says_of_processes_does_not_keep_it_from_being_saved(source, tmp_path):
    """As it would after all steps of a training."""
    folder = Path(shutil.copytree(source, tmp_path / "checkpoint"))
    change_json(folder / "config.json", distributed_config={"tp_size": 2}, fusion_config={"a": 1})
    load_checkpoint(str(folder), device="cpu").model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    assert (
        not {"distributed_config", "fusion_config"}
        & json.loads((tmp_path / "saved" / "config.json").read_text()).keys()
    )


def test_a_configuration_whose_code_is_no_object_is_refused_before_it_has_to_be_saved(tmp_path):
    folder = Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))
    change_json(folder / "config.json", auto_map="x")
    with pytest.raises(ValueError, match=r"`auto_map` of config\.json is 'x'; it has to be an object"):
        load_checkpoint(str(folder), device="cpu")
    with pytest.raises(ValueError, match="`auto_map` of the video processor is 'x'; it has to be an object"):
        FrosterVideoProcessor.from_dict({"auto_map": "x"})


@pytest.mark.parametrize("source", [SMALL_CLIP, SMALL_FROSTER])
def test_no_checkpoint_has_all_layers_recorded(source, tmp_path):
    """They would be held at once, of all clips of a video."""
    folder = Path(shutil.copytree(source, tmp_path / "checkpoint"))
    towers = json.loads((folder / "config.json").read_text())
    recorded = dict.fromkeys(RECORDED_OUTPUTS, True)
    towers = {name: towers[name] | recorded for name in ("text_config", "vision_config")}
    change_json(folder / "config.json", **recorded, **towers)
    config = load_checkpoint(str(folder), device="cpu").model.config
    for part in (config, config.vision_config, config.text_config):
        assert not any(getattr(part, name) for name in RECORDED_OUTPUTS)


def test_transformers_is_as_talkative_afterwards_as_before(sound, tmp_path):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    try:
        load_checkpoint(str(sound), device="cpu")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, before[1])
        with pytest.raises(ValueError, match="there is no such folder"):
            load_checkpoint(str(tmp_path / "nowhere"), device="cpu")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, before[1])
    finally:
        logging.set_verbosity(before[0])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ValueError(
                "Could not load it.\nTraceback (most recent call last):\n  File x\nOSError: first\n\nDuring handling\n"
                "Traceback (most recent call last):\n  File y\nmodule.OwnError: the reason,\nin two lines\n"
            ),
            r"cannot be loaded: the reason, in two lines$",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has\nmany processes."),
            r"no room for the model \(CUDA out of memory\). Give another one",
        ),
    ],
    ids=["the last error of a traceback that is handed on as text", "a full device, not the checkpoint"],
)
def test_the_reason_is_one_line_of_what_transformers_raised(monkeypatch, sound, error, reason):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("transformers.pipeline", fail)
    with pytest.raises(ValueError, match=reason):
        load_checkpoint(str(sound))


def test_pickled_weights_are_read_as_they_are(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    torch.save(weights, checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    loaded = load_checkpoint(str(checkpoint), device="cpu").model.state_dict()
    assert {name: loaded[name].equal(tensor) for name, tensor in weights.items()} == dict.fromkeys(weights, True)


def test_a_checkpoint_pickled_by_hand_is_refused_as_well(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(types.SimpleNamespace(weight=1), protocol=2))
    with pytest.raises(ValueError, match="cannot be loaded") as refused:
        load_checkpoint(str(checkpoint), device="cpu")
    assert "weights_only" not in str(refused.value)


REPORTING = """
import sys
from transformers import AutoModelForVideoClassification
import froster_hf
from froster_hf.cli import main
print("predict", file=sys.stderr, flush=True)
main(["predict", sys.argv[1], "--labels", "a,b", "--model", sys.argv[2], "--device", "cpu"])
print("transformers", file=sys.stderr, flush=True)
AutoModelForVideoClassification.from_pretrained(sys.argv[2], output_loading_info=True)
"""


def test_names_of_tensors_in_transformers_report_reach_no_terminal(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    weights["\x1b]0;title\x07"] = torch.zeros(2)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    ended = run_python("-c", REPORTING, BIKES, checkpoint)
    assert ended.returncode == 0, ended.stderr
    told = ended.stderr
    ours, theirs = told.partition("predict\n")[2].split("transformers\n")
    assert "\x1b" not in ours
    # The report has bold letters of its own.
    assert "LOAD REPORT" in theirs
    assert "\x1b]" not in theirs
    assert r"\x1b]0;title\x07" in theirs


def test_hostile_names_of_tensors_are_shown_safely(tmp_path, capsys):
    names = {f"\x1b]0;title\x07\nfroster: all is well {'x' * 100_000}": torch.zeros(2)}
    save_file(names, tmp_path / "a.safetensors")
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.rstrip("\n").isprintable()
    assert len(error) < 6000


def test_that_half_precision_runs_in_float32_is_said_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    tiny_model().to(torch.float16).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    assert load_checkpoint(str(tmp_path), device="cpu").model.dtype == torch.float32
    assert capsys.readouterr().err.count("computing in float32") == 1
    assert load_checkpoint(str(tmp_path), device="cpu", dtype="float32").model.dtype == torch.float32
    assert "computing in float32" not in capsys.readouterr().err


def take_three_gigabytes(*args, **kwargs) -> None:
    torch.empty(3 << 30, dtype=torch.uint8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not limit a process's memory so")
@pytest.mark.skipif(torch.accelerator.is_available(), reason="libraries of accelerators reserve more than there is")
@pytest.mark.parametrize(
    ("computes", "arguments"),
    [
        (
            "froster_hf.modeling.modeling_froster.FrosterForVideoClassification.forward",
            ["predict", BIKES, "--labels", "a,b", "--model", "small"],
        ),
        ("froster_hf.training.own_videos.plan_training", ["train", os.path.dirname(BIKES), "--model", "small"]),
        ("froster_hf.shapes.pretraining.pretrain", ["train", "small_clip"]),
        ("froster_hf.shapes.study.running.run_study", ["study", "short"]),
    ],
    ids=["predict", "train", "train a recipe", "study"],
)
def test_what_a_verb_takes_beyond_the_memory_that_is_left_is_its_error(
    monkeypatch, tmp_path, capsys, computes, arguments
):
    import resource

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("froster_hf.machine_memory.free_bytes", lambda: 0.0)
    monkeypatch.setattr(computes, take_three_gigabytes)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert main(arguments) == 1
    # And a program that called the verb has all of its memory again.
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert re.search(r"^froster: error: .*can't allocate memory.*", capsys.readouterr().err, flags=re.MULTILINE)
