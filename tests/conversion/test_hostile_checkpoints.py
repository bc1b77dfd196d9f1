"""Checkpoints of attackers and of broken disks, through the functions and the verbs: one line, the promised type."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from froster_hf.assets import SMALL_CLIP
from froster_hf.cli import main
from froster_hf.conversion import CheckpointError, convert_checkpoint, read_checkpoint, write_original_checkpoint
from tests.conversion.hostile_files import malicious_pickle
from tests.conversion.original_layouts import clip_state_dict
from tests.fixtures.forks import run_python

LIMITED = """
import resource, sys
from froster_hf.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
sys.exit(main(sys.argv[1:]))
"""
DEEP = "[" * 100_000


def header(entries: dict, data: bytes = b"") -> bytes:
    """A safetensors file with a header of our own."""
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS = {
    "overlap": header({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "same place": header({"a": entry(), "b": entry()}, bytes(8)),
    "hole": header({"a": entry(), "b": entry(offsets=(16, 24))}, bytes(24)),
    "negative": header({"a": entry(offsets=(-8, 0))}, bytes(8)),
    "negative shape": header({"a": entry(shape=(-2,))}, bytes(8)),
    "overflow": header({"a": entry(shape=(2**62, 4))}, bytes(8)),
    "beyond the end": header({"a": entry(offsets=(0, 800), shape=(200,))}, bytes(8)),
    "header of a terabyte": (2**40).to_bytes(8, "little") + b"{}",
    "deep header": len(DEEP).to_bytes(8, "little") + b"{" + DEEP.encode(),
    "unknown type": header({"a": entry(dtype="F7")}, bytes(8)),
    "four bits": header({"a": entry(dtype="F4", shape=(16,))}, bytes(8)),
    "eight bits": header({"a": entry(dtype="F8_E4M3", shape=(8,))}, bytes(8)),
    "as many dimensions as bytes": header({"a": entry(shape=(1,) * 50_000, offsets=(0, 4))}, bytes(4)),
    "complex": header({"a": entry(dtype="C64", shape=(1,))}, bytes(8)),
    "not a number": header({"a": entry()}, b"\xff" * 8),
    "wrong utf-8": (9).to_bytes(8, "little") + b'{"\xff": {}}',
    "a list": header([1, 2]),  # type: ignore[arg-type]
    "types of entries": header({"a": {"dtype": 1, "shape": "x", "data_offsets": None}}),
    "a header of megabytes": header({"a": entry(), "__metadata__": {"a": "x" * (5 << 20)}}, bytes(8)),
    "a long name": header({"a" * 513: entry()}, bytes(8)),
    "no tensors": header({}),
}


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_safetensors_files_that_lie_are_refused(kind, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(SAFETENSORS[kind])
    with pytest.raises(ValueError, match=r"safetensors|types that no CLIP has|no numbers|unknown") as error:
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out")
    assert isinstance(error.value, CheckpointError) or kind == "no tensors"
    assert not (tmp_path / "out").exists()


def test_long_and_many_names_make_a_short_line(tmp_path, capsys):
    names = ["\x1b[31m" + "x" * 500, *(f"visual.{i}" for i in range(10_000))]
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "a.safetensors")
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < 5000
    assert "\x1b" not in error


def clip_folder(folder, **changes):
    """A copy of a CLIP of transformers; a file is replaced where a text is given, and else its entries are."""
    shutil.copytree(SMALL_CLIP, folder)
    for name, change in changes.items():
        file = folder / f"{name}.json"
        if not isinstance(change, str):
            change = json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **change})
        file.write_text(change)
    return folder


CONFIGURATIONS = {
    "a list": "[]",
    "null": "null",
    "deep": '{"model_type": "clip", "a": ' + DEEP,
    "not json": "{",
    "repeated keys": '{"model_type": "clip", "model_type": "clip"}',
    "towers of wrong types": {"text_config": [1], "vision_config": "x"},
    "towers are missing": {"text_config": None, "vision_config": None},
    "sizes are texts": {"text_config": {"hidden_size": "128"}},
    "heads do not divide": {"vision_config": {"num_attention_heads": 3}},
    "no heads": {"vision_config": {"num_attention_heads": 0}},
    "no patches": {"vision_config": {"patch_size": 0}},
    "negative": {"vision_config": {"image_size": -32}},
    "unknown activation": {"vision_config": {"hidden_act": "os.system"}},
    "epsilon": {"text_config": {"layer_norm_eps": -1.0}},
    "projection": {"projection_dim": 10**9},
    "unexpected field": {"self": 1},
    "a type": {"dtype": "manual_seed"},
    **{
        f"{field} of a billion": {tower: {field: 10**9}}
        for tower, fields in {
            "vision_config": ("num_hidden_layers", "hidden_size", "intermediate_size", "image_size", "num_channels"),
            "text_config": ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"),
        }.items()
        for field in fields
    },
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configurations_of_other_types_and_sizes_are_refused_before_a_model_is_built(kind, tmp_path, capsys):
    change = CONFIGURATIONS[kind]
    if isinstance(change, dict):
        original = json.loads((SMALL_CLIP / "config.json").read_text())
        for tower in ("text_config", "vision_config"):
            if isinstance(change.get(tower), dict):
                change = {**change, tower: {**original[tower], **change[tower]}}
    folder = clip_folder(tmp_path / "clip", config=change)
    code = main(["convert", str(folder), str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("froster: error: ")
    assert error.count("\n") == 1
    assert "--traceback" not in error, "an unforeseen kind of error"
    assert len(error) < 1500
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "{}",
        DEEP,
        {"weight_map": []},
        {"weight_map": {"a": 7}},
        {"weight_map": {"a": ["model.safetensors"]}},
        {"weight_map": {"a": None}},
        {"weight_map": {"a": "../model.safetensors"}},
        {"weight_map": {"a": "x" * 10**6}},
        {"weight_map": {"a": "folder"}},
        {"weight_map": {}},
    ],
    ids=lambda index: repr(index)[:40],
)
def test_an_index_of_shards_that_is_none_is_refused(index, tmp_path):
    folder = clip_folder(tmp_path / "clip", **{"model.safetensors.index": index})
    (folder / "model.safetensors").rename(folder / "renamed.safetensors")
    (folder / "folder").mkdir()
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(folder)
    assert len(str(error.value)) < 2000


def test_an_index_of_more_shards_than_any_model_has_is_refused(tmp_path):
    index = {"weight_map": {str(i): f"{i}.safetensors" for i in range(2_001)}}
    folder = clip_folder(tmp_path / "clip", **{"model.safetensors.index": index})
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors\.index\.json names 2001 files; at most 2000 are read"
    ):
        read_checkpoint(folder)


def test_a_folder_with_a_hostile_pickle_is_refused_without_advice_to_open_it(tmp_path, capsys):
    marker = tmp_path / "marker"
    folder = clip_folder(tmp_path / "clip")
    (folder / "model.safetensors").unlink()
    malicious_pickle(folder / "pytorch_model.bin", marker)
    for verb in ("convert", "export"):
        assert main([verb, str(folder), str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "weights_only" not in error
        assert not marker.exists()
        assert not (tmp_path / "out").exists()


def test_the_processor_of_a_hostile_clip_brings_no_code(tmp_path):
    foreign = {"auto_map": {"AutoTokenizer": ["attacker/repo--evil.E", None]}}
    folder = clip_folder(tmp_path / "clip", tokenizer_config=foreign)
    report = convert_checkpoint(folder, tmp_path / "out")
    assert any("Foreign code dropped: tokenizer_config.json: AutoTokenizer" in note for note in report.notes)
    naming = [path.name for path in (tmp_path / "out").iterdir() if b"attacker" in path.read_bytes()]
    assert naming == ["conversion.json"], "what was dropped is reported there"


def test_convert_never_asks_whether_to_run_code(tmp_path):
    foreign = {"tokenizer_class": "Unheard", "auto_map": {"AutoTokenizer": ["evil.E", "evil.E"]}}
    folder = clip_folder(tmp_path / "clip", tokenizer_config=foreign)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\nclass E: ...\n")
    done = run_python("-m", "froster_hf", "convert", folder, tmp_path / "out", input="y\n" * 100)
    assert "[y/N]" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "marker").exists()


# Where results go


@pytest.fixture
def small(tmp_path):
    source = tmp_path / "source"
    convert_checkpoint(SMALL_CLIP, source)
    return source


@pytest.mark.parametrize("verb", ["convert", "convert --to", "export"])
def test_a_full_disk_leaves_nothing_half_and_is_one_line(verb, small, tmp_path):
    """A limit on the size of files fails a write as a full disk does, after a part of it."""
    out = tmp_path / "result" / "out"
    source, *options = {"convert": [SMALL_CLIP], "convert --to": [small, "--to", "openai"], "export": [small]}[verb]
    done = run_python("-c", LIMITED, verb.split()[0], source, out, *options)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("froster: error: ")]
    assert len(lines) == 1
    assert "cannot be written" in lines[0]
    assert "Traceback" not in done.stderr
    assert os.listdir(out.parent) == []


def test_permissions_are_those_of_new_files(small, tmp_path):
    (tmp_path / "new").write_text("")
    mode = (tmp_path / "new").stat().st_mode
    write_original_checkpoint(small, tmp_path / "openai.pt", layout="openai")
    assert {path.stat().st_mode for path in [*small.iterdir(), tmp_path / "openai.pt"]} == {mode}


def test_links_at_outputs_are_not_followed(small, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "file").symlink_to(tmp_path / "not there yet")
    with pytest.raises(ValueError, match="is a link"):
        convert_checkpoint(SMALL_CLIP, tmp_path / "link")
    with pytest.raises(ValueError, match="exists"):
        write_original_checkpoint(small, tmp_path / "file", layout="openai")
    assert os.listdir(victim) == []
    assert not (tmp_path / "not there yet").exists()


def test_a_half_written_teacher_is_not_left(tmp_path):
    save_file(clip_state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="holds no teacher"):
        convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", teacher_output=tmp_path / "teacher")
    assert os.listdir(tmp_path) == ["a.safetensors"]
