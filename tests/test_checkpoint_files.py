"""Files of a checkpoint that lead elsewhere are refused by every loader before they are opened; the Hub's are not."""

import inspect
import itertools
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import modeling_utils
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key
from transformers.utils import is_env_variable_true

from froster_hf import FrosterForVideoClassification, FrosterModel
from froster_hf.adapters import read_adapter
from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.checkpoint_files import CheckpointError, check_checkpoint_files, check_headers, own_names
from froster_hf.checkpoint_loading import NO_CONVERSION, checked_config, load_pipeline
from froster_hf.conversion import convert_checkpoint
from froster_hf.hub.export_folder import load_for_export
from froster_hf.modeling.configuration_froster import FrosterConfig
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.processing.tokenizer_files import load_processor
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.training import FrozenTeacher
from froster_hf.training.weights import WeightsFolder
from froster_hf.weights_license import stated_license
from tests.fixtures.dual_encoders import tiny_dual_encoder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    (tmp_path / "secret").write_text("{}")
    save_file({"a": torch.zeros(2)}, tmp_path / "secret.safetensors", metadata={"format": "pt"})
    return Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))


def link(name: str, target: str):
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(target)

    return make


def index_of(shard: str, name: str = "model.safetensors.index.json"):
    def make(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard}}))

    return make


def link_of_templates(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "additional_chat_templates").symlink_to(folder.parent / "elsewhere")


def named(*names: str, file: str = "model.safetensors"):
    """Weights with further tensors, which hold nothing."""

    def make(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors") | {name: torch.zeros(0) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return make


def described(number: int, *files: str, entries: bool):
    """Weights with what torchao writes beside those that it has quantized."""

    def make(folder: Path) -> None:
        tensors, names = load_file(folder / "model.safetensors"), [f"a.{i}" for i in range(number)]
        metadata = dict.fromkeys(names if entries else names[:1], '{"_type": "Tensor"}')
        for file in files:
            save_file(tensors, folder / file, metadata={**metadata, "tensor_names": json.dumps(names)})

    return make


def described_by(*names: str):
    """A second shard with something that torchao, which takes what all shards say for one, may take for a tensor."""

    def make(folder: Path) -> None:
        save_file({}, folder / "model-2.safetensors", metadata=dict.fromkeys(names, "{}"))

    return make


def written_as(form):
    """Weights whose header describes tensors in another form, which the library takes as well."""

    def make(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = {name: form(entry) for name, entry in json.loads(content[8:end]).items() if name != "__metadata__"}
        written = json.dumps(header).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + content[end:])
        load_file(path)

    return make


def in_parts(**shapes: tuple[int, ...]):
    """A tensor in a second shard as torchao stores it."""

    def make(folder: Path) -> None:
        tensors = {f"a._weight_{part}": torch.zeros(shape) for part, shape in shapes.items()}
        # Of several files, one describes them all.
        save_file(tensors, folder / "model-2.safetensors")

    return make


@pytest.mark.parametrize(
    "shapes",
    [
        {"qdata": (6, 4), "scale": (6, 1), "zero_point": (6, 1)},
        {"qdata": (6, 4), "scale": (1, 6)},
        {"qdata": (1, 2, 4, 4), "scale_and_zero": (2, 3, 2)},
        {"qdata": (6, 4), "scale": ()},
    ],
)
def test_parts_of_a_quantized_tensor_are_taken(checkpoint, shapes):
    in_parts(**shapes)(checkpoint)
    check_checkpoint_files(checkpoint)


def test_what_other_programs_write_beside_weights_is_taken(checkpoint):
    described_by("format", "modelspec.title", "ss_tag (frequency)", "a.b-c/d: e")(checkpoint)
    check_checkpoint_files(checkpoint)


def gigantic(folder: Path) -> None:
    os.truncate(folder / "tokenizer_config.json", 200 << 20)


def many_values(file: str):
    def make(folder: Path) -> None:
        (folder / file).write_text('{"x": [' + "[]," * 2_500_000 + "[]]}")

    return make


def links_to(name: str, size: int, number: int):
    """A sparse file and links to it, each of which a loader would read as a file of its own."""

    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.truncate(path, size)
        for i in range(1, number):
            (path.parent / f"{i}.{path.name}").symlink_to(path.name)

    return make


HOSTILE = {
    "a quantized tensor whose name is an expression": (
        described_by("a.(?:[^!]+)+!"),
        "describes a quantized tensor 'a",
    ),
    "a part that multiplies what its tensor is multiplied with": (
        in_parts(qdata=(6, 4), scale=(6, 1), act_pre_scale=(20, 1, 1, 1)),
        "_weight_act_pre_scale is of the shape",
    ),
    "a part of more axes than its tensor has": (in_parts(qdata=(6, 4), scale=(20, 1, 1)), "none larger than its num"),
    "a part that is larger than its tensor": (
        in_parts(qdata=(1, 4), scale=(5, 1)),
        r"beside numbers of the shape \[1",
    ),
    "a part of no tensor": (in_parts(scale=(5, 1)), "beside numbers of the shape None"),
    "entries without end in another shard": (described_by(*map(str, range(3000))), "describe 2999 quantized tensors"),
    "a configuration of millions of values": (many_values("config.json"), "has more values than the settings"),
    "another file of settings of millions of values": (
        many_values("generation_config.json"),
        "has more values than the settings",
    ),
    "a link to a file elsewhere": (link("chat_template.jinja", "../secret"), "outside of the checkpoint's folder"),
    "a link to what the process knows": (
        link("vocab.json", "/proc/self/environ"),
        "outside of the checkpoint's folder",
    ),
    "a link to nothing elsewhere": (link("merges.txt", "../nothing"), "outside of the checkpoint's folder"),
    "links in a circle": (link("merges.txt", "merges.txt"), "leads nowhere|not a regular file"),
    "a link among the templates": (
        link("additional_chat_templates/a.jinja", "../../secret"),
        "outside of the checkpoint's folder",
    ),
    "a link in the place of the templates": (link_of_templates, "outside of the checkpoint's folder"),
    "a pipe": (lambda folder: os.mkfifo(folder / "model-1.safetensors"), "is not a regular file"),
    "a shard elsewhere": (index_of("../secret.safetensors"), "only plain file names are allowed"),
    "a shard by its whole path": (index_of("/tmp/secret.safetensors"), "only plain file names are allowed"),
    "a shard elsewhere, pickled": (index_of("../a.bin", "pytorch_model.bin.index.json"), "only plain file names"),
    "a shard elsewhere of a variant": (index_of("../a", "model.safetensors.index.fp16.json"), "only plain file names"),
    "an index that is none": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("[]"),
        "is not an index of shards",
    ),
    "tensors described by lists": (written_as(lambda entry: list(entry.values())), r"with a text `dtype` and a list"),
    "a type that is an object": (
        written_as(lambda entry: {**entry, "dtype": {entry["dtype"]: None}}),
        "with a text `dtype` and a list `shape`",
    ),
    # transformers makes a set of each number, and a table as wide as the longest name.
    "a name without end": (named("froster." + "1." * 300), "whose name has 608 characters"),
    "a shape without end": (
        lambda folder: save_file({"a": torch.zeros([1] * 9)}, folder / "model.safetensors"),
        "has a tensor of 9 axes; no model's has more than 8",
    ),
    "names without end": (
        named(*(f"froster.{number}.{'1.' * 200}" for number in range(10_000))),
        "at most 4194304 are",
    ),
    "names without end of several files": (
        lambda folder: [
            named(*(f"froster.{number}.{'1.' * 200}" for number in range(5_000)), file=file)(folder)
            for file in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        ],
        "at most 4194304 are read",
    ),
    # torchao looks for each tensor through all names, and for each name through all entries.
    "quantized tensors without end": (
        described(3000, "model.safetensors", entries=True),
        "describe 3000 quantized tensors; at most 2000",
    ),
    "names of quantized tensors without end": (
        described(3000, "model.safetensors", entries=False),
        "describe 3000 quantized tensors; at most 2000",
    ),
    "quantized tensors without end of several files": (
        described(1500, "model.safetensors", "model-2.safetensors", entries=True),
        "describe 3000 quantized tensors; at most 2000",
    ),
    "templates that are links to one": (
        links_to("additional_chat_templates/a.jinja", 300_000, 4),
        "4 chat templates of 1200000 bytes together",
    ),
    "a large template": (links_to("chat_template.jinja", 2_000_000, 1), "1 chat templates of 2000000 bytes together"),
    "templates without end": (links_to("additional_chat_templates/a.jinja", 0, 17), "17 chat templates of 0 bytes"),
    "texts that are links to one": (links_to("a.txt", 100 << 20, 6), "bytes of .json, .txt, .jinja, .model; at most"),
    "indexes that are links to one": (
        links_to("model.safetensors.index.json", 0, 17),
        "has 17 indexes of shards; at most 16",
    ),
    "a file of settings without end": (gigantic, "the most that is read"),
    "weights of a distributed training": (
        lambda folder: (folder / "shard-00000-model-00001-of-00001.safetensors").write_bytes(b""),
        "a part of weights as a distributed training splits them",
    ),
    "such weights whose name ends a line": (
        lambda folder: (folder / "shard-00000-model-00001-of-00001.safetensors\n").write_bytes(b""),
        "a part of weights as a distributed training splits them",
    ),
    "a folder of their name": (
        lambda folder: (folder / "shard-00000-model-00001-of-00001.safetensors").mkdir(),
        "a part of weights as a distributed training splits them",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_files_that_are_not_the_checkpoints_own_are_refused(checkpoint, case):
    make, expected = HOSTILE[case]
    make(checkpoint)
    with pytest.raises(CheckpointError, match=expected):
        check_checkpoint_files(checkpoint)


LOADERS = {
    "the pipeline": (SMALL_FROSTER, load_pipeline),
    "the pipeline of a plain CLIP": (SMALL_CLIP, load_pipeline),
    "the export": (SMALL_FROSTER, load_for_export),
    "a model": (SMALL_FROSTER, FrosterForVideoClassification.from_pretrained),
    "a configuration": (SMALL_FROSTER, FrosterConfig.from_pretrained),
    "a processor of videos": (SMALL_FROSTER, FrosterVideoProcessor.from_pretrained),
    "a model of a plain CLIP": (SMALL_CLIP, FrosterModel.from_dual_encoder),
    "a processor": (SMALL_FROSTER, FrosterProcessor.from_pretrained),
    "a processor of a plain CLIP": (SMALL_CLIP, FrosterProcessor.from_dual_encoder),
    "transformers' processor": (SMALL_CLIP, load_processor),
    "the training": (SMALL_FROSTER, checked_config),
    "a teacher": (SMALL_CLIP, FrozenTeacher.from_dual_encoder),
    "an interpolation": (SMALL_FROSTER, WeightsFolder),
    "an adapter": (SMALL_FROSTER, read_adapter),
}


@pytest.mark.parametrize(
    "case",
    [
        "a link to a file elsewhere",
        "a shard elsewhere",
        "a pipe",
        "a name without end",
        "templates that are links to one",
        "a configuration of millions of values",
    ],
)
@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_refuses_them(tmp_path, loader, case):
    original, load = LOADERS[loader]
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    make, expected = HOSTILE[case]
    make(folder)
    with pytest.raises(ValueError, match=expected):
        load(folder)


NO_SETTINGS = ["null", "[]", "3", '{"a": 1, "a": 2}', "[" * 10_000, "{"]


@pytest.mark.parametrize("content", [*NO_SETTINGS, '{"configuration_files": ["config.4.0.0.json"]}', None])
@pytest.mark.parametrize(
    ("original", "load"),
    [
        (SMALL_FROSTER, FrosterConfig.from_pretrained),
        (SMALL_FROSTER, FrosterForVideoClassification.from_pretrained),
        (SMALL_CLIP, FrosterModel.from_dual_encoder),
        (SMALL_FROSTER, checked_config),
        (SMALL_FROSTER, load_pipeline),
    ],
)
def test_a_configuration_that_is_none_or_missing_is_one_line(tmp_path, original, load, content):
    """Of a folder without one, transformers makes a model of the default architecture, which answers otherwise."""
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "load",
    [FrosterConfig.from_pretrained, FrosterForVideoClassification.from_pretrained, FrosterProcessor.from_pretrained],
)
def test_settings_nested_deeper_than_any_are_one_line(checkpoint, load):
    stored = (checkpoint / "config.json").read_text().rstrip().removesuffix("}")
    nested = '{"a": ' * 900 + "1" + "}" * 900
    (checkpoint / "config.json").write_text(f'{stored}, "x": {nested}}}')
    with pytest.raises(ValueError, match=r"config\.json is JSON of more than 64 levels\.$"):
        load(checkpoint)


def convert_plain_clip(folder: Path) -> None:
    convert_checkpoint(folder, folder.parent / "out", processor_from=SMALL_CLIP)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"configuration_files": ["config.4.0.0.json"]}, "names `configuration_files`"),
        ({"configuration_files": 0}, "names `configuration_files`"),
        # transformers prints it as it is, where it is not the one that is asked for.
        ({"model_type": "\x1b[2J"}, r"has the model type '\\x1b\[2J'"),
    ],
)
@pytest.mark.parametrize(
    ("original", "load"),
    [*(LOADERS[name] for name in LOADERS if name != "an adapter"), (SMALL_CLIP, convert_plain_clip)],
)
def test_every_loader_refuses_a_configuration_that_misleads(tmp_path, capfd, original, load, fields, expected):
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | fields))
    with pytest.raises(ValueError, match=expected) as caught:
        load(folder)
    assert type(caught.value) in (CheckpointError, ValueError)
    assert "\x1b" not in "".join(capfd.readouterr())


def test_an_adapter_beside_a_model_is_not_left_out_of_a_conversion(tmp_path):
    folder = Path(shutil.copytree(SMALL_CLIP, tmp_path / "checkpoint"))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match=r"has an adapter_config\.json, which names another model"):
        convert_plain_clip(folder)


@pytest.mark.parametrize("content", [*NO_SETTINGS, '{"video_processor": []}'])
@pytest.mark.parametrize("load", [FrosterVideoProcessor.from_pretrained, FrosterProcessor.from_pretrained])
def test_a_processors_file_that_holds_no_settings_is_one_line(checkpoint, load, content):
    (checkpoint / "processor_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"processor_config\.json") as caught:
        load(checkpoint)
    assert "\n" not in str(caught.value)


def test_weights_whose_configuration_the_caller_gives_need_none_beside_them(checkpoint):
    config = FrosterConfig.from_pretrained(checkpoint)
    (checkpoint / "config.json").unlink()
    model = FrosterForVideoClassification.from_pretrained(checkpoint, config=config)
    assert model.config.temporal_module == config.temporal_module


def test_a_license_is_read_of_no_file_elsewhere(checkpoint):
    link("README.md", "../secret")(checkpoint)
    with pytest.raises(CheckpointError, match="outside of the checkpoint's folder"):
        stated_license(checkpoint)


def test_a_part_of_a_repository_is_held_to_the_same(checkpoint):
    folder = checkpoint.parent / "repository"
    folder.mkdir()
    link("chat_template.jinja", "../../secret")(checkpoint.rename(folder / "part"))
    check_checkpoint_files(folder)
    with pytest.raises(CheckpointError, match="outside of the checkpoint's folder"):
        FrosterForVideoClassification.from_pretrained(folder, subfolder="part")
    (folder / "part" / "chat_template.jinja").unlink()
    (folder / "latest").symlink_to("part")
    FrosterForVideoClassification.from_pretrained(folder, subfolder="latest")
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "link").symlink_to(folder / "part")
    with pytest.raises(CheckpointError, match="outside of the checkpoint's folder"):
        FrosterForVideoClassification.from_pretrained(folder.parent / "other", subfolder="link")


def test_links_within_the_folder_and_of_the_hubs_cache_are_followed(checkpoint):
    entry = checkpoint.parent / "models--a--b"
    snapshot = entry / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    checkpoint.rename(snapshot)
    (entry / "blobs").mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(entry / "blobs" / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    (snapshot / "latest.json").symlink_to("config.json")
    (snapshot / "videos").symlink_to("/")  # of no loader's
    assert load_pipeline(snapshot).model.config.model_type == "froster"
    # Nor does the way through the blobs lead out.
    (entry / "blobs" / "other").symlink_to(entry.parent / "secret")
    (snapshot / "merges.txt").symlink_to("../../blobs/other")
    with pytest.raises(ValueError, match="outside of the checkpoint's folder"):
        load_pipeline(snapshot)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    """transformers reads it as a configuration, of whatever size."""
    (tmp_path / "blob").write_text('{"model_type": "froster"}')
    with pytest.raises(CheckpointError, match="blob is a file"):
        check_checkpoint_files(tmp_path / "blob")
    with pytest.raises(ValueError, match=r"blob is a file\. Give the folder of a checkpoint"):
        load_pipeline(tmp_path / "blob")
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "blob"), "task_type": None}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(ValueError, match=r"blob is a file|needs PEFT"):
        load_pipeline(tmp_path / "adapter")


def test_a_configuration_on_the_hub_of_millions_of_values_is_refused(tmp_path, monkeypatch):
    many_values("config.json")(tmp_path)
    monkeypatch.setattr("transformers.utils.cached_file", lambda *_args, **_kwargs: str(tmp_path / "config.json"))
    monkeypatch.setattr("transformers.utils.find_adapter_config_file", lambda *_args, **_kwargs: None)
    with pytest.raises(CheckpointError, match="has more values than the settings"):
        checked_config("owner/name")


def test_no_service_is_asked_to_convert_pickled_weights_of_the_hub(monkeypatch):
    """transformers asks this variable, and otherwise names the repository to a service that publishes a copy."""
    assert NO_CONVERSION in inspect.getsource(modeling_utils)
    monkeypatch.setenv(NO_CONVERSION, "1")
    monkeypatch.delenv(NO_CONVERSION)
    checked_config(SMALL_FROSTER)
    assert is_env_variable_true(NO_CONVERSION)


def test_only_buffers_are_whole_numbers_beside_weights_of_any_precision(tmp_path):
    weights = {"a.weight": torch.zeros(2, dtype=torch.float64), "a.bias": torch.zeros(2, dtype=torch.bfloat16)}
    buffers = {"position_ids": torch.arange(3)[None], "text_model.embeddings.position_ids": torch.arange(3).int()}
    save_file({**buffers, **weights, "mask": torch.ones(2)}, tmp_path / "sound.safetensors")
    check_headers([tmp_path / "sound.safetensors"], may_be_quantized=False)
    parameters = ("class_embedding", "temporal_pooling.lstm.weight_ih_l0", "attn.in_proj_weight", "label_embeds")
    for name in ("a.weight", "a.bias", "position_ids.weight", *parameters):
        for kind in (torch.int8, torch.int32, torch.int64, torch.bool):
            save_file({name: torch.zeros(2, dtype=kind)}, tmp_path / "whole.safetensors")
            check_headers([tmp_path / "whole.safetensors"])
            with pytest.raises(
                CheckpointError, match=rf"{re.escape(name)} is stored as .*, but its configuration names"
            ):
                check_headers([tmp_path / "whole.safetensors"], may_be_quantized=False)


@pytest.mark.parametrize("with_head", [None, False, True])
@pytest.mark.parametrize("backbone", ["clip", "siglip", "metaclip_2"])
def test_whatever_transformers_takes_for_one_tensor_is_refused(backbone, with_head):
    """With any of the names that transformers itself would rename to those of the model."""
    model = tiny_dual_encoder(backbone)
    if with_head is not None:
        config = FrosterConfig.from_dual_encoder_config(model.config, temporal_module="local_attention")
        model = (FrosterForVideoClassification if with_head else FrosterModel)(config)
    prefix, own = model.base_model_prefix, model.state_dict()
    assert set(own_names(own, prefix=f"{prefix}.", where="file").values()) == set(own)
    renamings = [each for each in get_model_conversion_mapping(model) if isinstance(each, WeightRenaming)]
    parts = (f"{prefix}.", f"{prefix}_", "vision_model.", "text_model.", "model.")
    fronts = ["".join(taken) for count in range(4) for taken in itertools.product(parts, repeat=count)]
    ends = ("logit_scale", "post_layernorm.weight", "final_layer_norm.weight", "visual_projection.weight")
    names: dict[str, list[str]] = {}
    for name in map("".join, itertools.product(fronts, ends)):
        renamed, _ = rename_source_key(name, renamings, [], prefix, own)
        if renamed in own:
            names.setdefault(renamed, []).append(name)
    assert len(names) >= 3
    for first, *others in names.values():
        assert others
        for other in others:
            with pytest.raises(CheckpointError, match="twice"):
                own_names([first, other], prefix=f"{prefix}.", where="file")
