"""Reading files that nobody has vouched for: everything sound is read exactly, everything else is refused by name."""

import json
import os
import random
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from froster_hf.checkpoint_files import BUFFERS
from froster_hf.conversion import CheckpointError, read_checkpoint, reading
from froster_hf.conversion.pickle_worker import TYPES, main, read_archive, rebuild_tensor, write
from tests.conversion.hostile_files import (
    RunsCommand,
    malicious_pickle,
    pickle_of,
    scripted_archive,
    two_archives_in_one,
    with_members,
)
from tests.conversion.original_layouts import PARITY, clip_state_dict
from tests.fixtures.pickles import Calls

ENOUGH = 1 << 30
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning"),
]


def assert_same_tensors(ours, expected):
    assert set(ours) == set(expected)
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name


# Pickles


@pytest.mark.starts_reader
def test_a_training_file_is_read_exactly_and_without_its_optimizer(tmp_path):
    state = clip_state_dict()
    momentum = {"state": {0: {"exp_avg": torch.ones(3)}}}
    torch.save({"epoch": 3, "model_state": state, "optimizer_state": momentum, "cfg": "DATA: {}"}, tmp_path / "a.pth")

    raw = read_checkpoint(tmp_path / "a.pth")

    assert raw.format == "pickle"
    assert_same_tensors(raw.tensors, {f"model_state/{name}": tensor for name, tensor in state.items()})
    assert raw.other == {"epoch": "3", "optimizer_state": "the state of the training", "cfg": "a text of 8 characters"}
    assert raw.texts == {"cfg": "DATA: {}"}
    assert len(raw.sha256) == 64


@pytest.mark.starts_reader
def test_a_full_temporary_folder_is_not_the_files_fault(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    torch.save({"model_state": clip_state_dict()}, tmp_path / "a.pth")
    run = subprocess.run

    def limited(*arguments, **options):
        return run(*arguments, **options, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))

    monkeypatch.setattr(subprocess, "run", limited)
    with pytest.raises(
        OSError, match=r"The tensors of .*a\.pth cannot be copied to the temporary folder .* set TMPDIR"
    ):
        read_checkpoint(tmp_path / "a.pth")


def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path):
    marker = tmp_path / "marker"
    path = malicious_pickle(tmp_path / "evil.pth", marker)
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is not malicious, so the test shows nothing"
    marker.unlink()
    with pytest.raises(CheckpointError, match=r"refused: its pickle calls for (posix|nt)\.system"):
        read_checkpoint(path)
    assert not marker.exists()


def test_a_configuration_object_of_yacs_becomes_an_inert_mapping(tmp_path, monkeypatch):
    # ViFi-CLIP stores one. Its class is not installed here; the pickle only names it.
    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module = type(sys)("yacs.config")
    module.CfgNode = CfgNode
    node = CfgNode(MODEL=CfgNode(ARCH="ViT-B/16"))
    node.__dict__["_immutable"] = True
    monkeypatch.setitem(sys.modules, "yacs", type(sys)("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    torch.save({"model": {"module.logit_scale": torch.ones(())}, "config": node}, tmp_path / "vifi.pth")
    monkeypatch.undo()
    tensors, summary = read_archive(tmp_path / "vifi.pth", ENOUGH)
    assert list(tensors) == ["model/module.logit_scale"]
    assert summary["other"] == {"config": "OrderedDict of 1"}


def test_tensors_that_share_a_storage_are_read_as_separate_ones(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"whole": base, "same": base, "part": base[1:], "turned": base.T}
    torch.save(state, tmp_path / "a.pth")
    tensors, _ = read_archive(tmp_path / "a.pth", ENOUGH)
    write(tensors, tmp_path / "a.safetensors")
    assert_same_tensors(load_file(tmp_path / "a.safetensors"), state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1).expand(10**12)}, "a claims 4000000000000 bytes, but only 4 are stored"),
        ([torch.zeros(1)], "holds a list, not a state dict"),
        ({0: torch.zeros(1)}, "a key of type int"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a is not a plain tensor"),
        ({"a": torch.empty(3, device="meta")}, "a is not a plain tensor"),
        # One text, many times: a file of some kilobytes that describes a gigabyte.
        (dict.fromkeys(map(str, range(8000)), "x" * 60_000), "names and texts have more than the allowed"),
        ({"s" * 500: {str(i): torch.zeros(1) for i in range(9000)}}, "names and texts have more than the allowed"),
        ({"s": {"w": torch.zeros(1)}, "s/w": torch.ones(1)}, "'s/w' has a slash"),
        ({"s": {"t/w": torch.zeros(1)}, "s/t": {"w": torch.ones(1)}}, "'s/t' has a slash"),
        ({"s": {5: torch.zeros(1), "5": torch.ones(1)}}, "two tensors named 's/5'"),
        ({"s" * 60_000: {"w": torch.zeros(1)}}, "a name of 60002 characters, more than the allowed 512"),
        ({"__metadata__": torch.zeros(1)}, "a tensor called __metadata__, which safetensors files cannot hold"),
    ],
)
def test_what_is_no_plain_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        read_archive(tmp_path / "a.pth", ENOUGH)


def test_a_tensor_with_a_name_that_safetensors_files_cannot_hold_is_one_error_of_the_checkpoint(tmp_path):
    named = {"__metadata__": torch.zeros(1)}
    torch.save(named, tmp_path / "a.pth")
    for file in (tmp_path / "a.pth", scripted_archive(named, tmp_path / "a.pt")):
        with pytest.raises(CheckpointError, match="is refused: it has a tensor called __metadata__"):
            read_checkpoint(file)


def test_compressed_members_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    bomb = with_members(tmp_path / "a.pth", tmp_path / "bomb.pth", compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 50_000
    with pytest.raises(ValueError, match="is compressed"):
        read_archive(bomb, ENOUGH)


def test_tensors_beyond_the_size_limit_are_refused(tmp_path):
    torch.save({"a": torch.zeros(100), "b": torch.zeros(100)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="more than the allowed 700 bytes"):
        read_archive(tmp_path / "a.pth", 700)
    with pytest.raises(CheckpointError, match="more than the allowed 700; raise `max_bytes`"):
        read_checkpoint(tmp_path / "a.pth", max_bytes=700)


def test_tensors_that_share_far_more_than_is_stored_are_refused(tmp_path):
    """A file of few megabytes would become a checkpoint of gigabytes."""
    stored = torch.zeros(1 << 14)
    torch.save({section: {"w": stored} for section in ("student", "average", "teacher")}, tmp_path / "a.pth")
    assert set(read_archive(tmp_path / "a.pth", ENOUGH)[0]) == {"student/w", "average/w", "teacher/w"}
    torch.save({str(number): stored for number in range(6)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"its tensors take 393216 bytes, more than 4 times the .* of the file"):
        read_archive(tmp_path / "a.pth", ENOUGH)


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        read_archive(tmp_path / "a.zip", ENOUGH)


def test_truncated_files_are_refused(tmp_path):
    content = (PARITY / "aim.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: len(content) // 2])
    main(tmp_path / "a.pth", tmp_path, ENOUGH)
    assert json.loads((tmp_path / "0.json").read_text())["error"].startswith("it is damaged")


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    content = bytearray((PARITY / "aim.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):
        read_archive(tmp_path / "a.pth", ENOUGH)


def test_pickles_of_old_torch_are_refused_with_advice(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6.*save it again"):
        read_checkpoint(tmp_path / "old.pth")


def test_a_torch_with_known_holes_opens_no_pickle(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(CheckpointError, match=r"torch 2\.9\.1.*Update torch to 2\.10"):
        read_checkpoint(PARITY / "aim.pth")


# The process that opens pickles


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ("import os; os.abort()", "ended the process that read it .exit status -6"),
        ("raise RuntimeError('broken')", "exit status 1.: RuntimeError: broken"),
        ("import time; time.sleep(60)", "not read within 2 seconds"),
    ],
)
def test_a_file_takes_only_the_reading_process_with_it(tmp_path, monkeypatch, worker, message):
    (tmp_path / "worker.py").write_text(worker)
    monkeypatch.setattr(reading, "WORKER", tmp_path / "worker.py")
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(PARITY / "aim.pth", timeout_seconds=2)
    assert time.monotonic() - start < 20


@pytest.mark.starts_reader
def test_the_reading_process_gets_no_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    script = "import os, sys, json, pathlib; print('secret' in os.environ.values(), file=sys.stderr); sys.exit(3)"
    (tmp_path / "worker.py").write_text(script)
    monkeypatch.setattr(reading, "WORKER", tmp_path / "worker.py")
    with pytest.raises(CheckpointError, match=r"exit status 3.: False"):
        read_checkpoint(PARITY / "aim.pth")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit on allocated memory")
@pytest.mark.starts_reader
def test_memory_of_the_reading_process_is_limited():
    script = (
        "import runpy, sys; worker = runpy.run_path(sys.argv[1])\n"
        "worker['limit_memory'](256 << 20)\n"
        "small = bytearray(64 << 20)\n"
        "try: bytearray(1 << 30)\n"
        "except MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", script, reading.WORKER], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "refused", done.stderr


# TorchScript archives


def test_a_torchscript_archive_is_read_without_being_loaded(tmp_path):
    state = clip_state_dict() | {"input_resolution": torch.tensor(16)}
    state["visual.ln_pre.weight"] = state["visual.ln_pre.weight"].float()
    path = scripted_archive(state, tmp_path / "ViT-tiny.pt")
    # Code that is not even text shows that nothing of it is run.
    with zipfile.ZipFile(path) as archive:
        code = {name.partition("/")[2]: b"\xff" for name in archive.namelist() if name.endswith(".py")}
    assert code
    path = with_members(path, tmp_path / "broken_code.pt", replaced=code)

    tensors, summary = read_archive(path, ENOUGH)

    characters = sum(map(len, tensors))
    assert summary == {
        "format": "torchscript",
        "other": {},
        "texts": {},
        "statement": None,
        "types": {name: TYPES[tensor.dtype] for name, tensor in state.items()},
        "characters": characters,
    }
    assert_same_tensors(tensors, state)


def test_the_attributes_of_a_torchscript_module_are_accounted_for(tmp_path):
    module = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Conv2d(1, 1, 3)))
    torch.jit.save(module, tmp_path / "a.pt")
    tensors, summary = read_archive(tmp_path / "a.pt", ENOUGH)
    assert_same_tensors(tensors, module.state_dict())
    assert summary["format"] == "torchscript"


def test_a_torchscript_archive_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path):
    marker = tmp_path / "marker"
    path = scripted_archive({"w": torch.ones(2)}, tmp_path / "a.pt")
    evil = with_members(path, tmp_path / "evil.pt", replaced={"data.pkl": pickle_of({"w": RunsCommand(marker)})})
    with pytest.raises(ValueError, match=r"its pickle calls for (posix|nt)\.system"):
        read_archive(evil, ENOUGH)
    assert not marker.exists()


def test_a_file_that_is_two_archives_is_refused_where_torch_is_to_read_it(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "pytorch_model.bin")
    reading.check_pickles([tmp_path / "pytorch_model.bin"])
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin") as archive:
        names = [
            "b/data.pkl",
            "b/constants.pkl",
            *(f"b/data/{number}" for number in range(len(archive.namelist()) - 2)),
        ]
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02c__torch__\nM\n)\x81." if name.endswith(".pkl") else b"x")
    both = two_archives_in_one(tmp_path / "pytorch_model.bin", tmp_path / "b.pt", tmp_path / "both.bin")
    assert zipfile.ZipFile(both).namelist() == names
    assert torch.load(both, weights_only=True)["w"].tolist() == [1, 1, 1]
    with pytest.raises(CheckpointError, match="it is a TorchScript archive, which `froster convert` reads"):
        reading.check_pickles([both])


def test_pickled_weights_that_stand_for_other_numbers_are_refused_where_nothing_says_so(tmp_path):
    honest = {"a.weight": torch.ones(2).bfloat16(), "position_ids": torch.arange(2)}
    torch.save(honest, tmp_path / "honest.bin")
    reading.check_pickles([tmp_path / "honest.bin"], may_be_quantized=False)
    assert tuple(TYPES.values()) == BUFFERS
    paths = []
    for kind in (torch.int8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn):
        paths.append(tmp_path / f"{kind}.bin")
        torch.save({**honest, "b.weight": torch.ones(2).to(kind)}, paths[-1])
    refusal = r"b\.weight is stored as .*, but its configuration names no quantization"
    with pytest.raises(CheckpointError, match=refusal):
        reading.check_pickles(paths, may_be_quantized=False)
    # What the process finds in each; they pass where a quantization is named.
    found = reading._open_pickles(paths, str(tmp_path), "--check", max_bytes=ENOUGH, timeout_seconds=60)
    assert len(found) == len(paths)
    for summary in found:
        with pytest.raises(CheckpointError, match=refusal):
            reading.refuse_quantized(summary["types"])


class PickledAs:
    """Pickled as this type of mapping, with attributes that are set after it was made."""

    def __init__(self, kind, attributes, entries):
        self.kind, self.attributes, self.entries = kind, attributes, entries

    def __reduce__(self):
        return self.kind, (), self.attributes, None, iter(self.entries)


def test_a_pickle_whose_attributes_hide_what_it_holds_is_refused(tmp_path):
    """`torch.load` sets those of an `OrderedDict`; transformers asks for its keys, and not for its items."""
    state = torch.nn.Linear(2, 3).state_dict()
    assert vars(state).keys() == {"_metadata"}
    torch.save(state, tmp_path / "honest.bin")
    assert_same_tensors(read_archive(tmp_path / "honest.bin", ENOUGH)[0], state)
    hidden = PickledAs(OrderedDict, {"items": OrderedDict}, state.items())
    for payload, name in ((hidden, "its state dict"), ({"model": hidden}, "model")):
        torch.save(payload, tmp_path / "hidden.bin")
        with pytest.raises(ValueError, match=f"{name} sets 'items', which the type OrderedDict has already"):
            read_archive(tmp_path / "hidden.bin", ENOUGH)
    parameter = torch.nn.Parameter(torch.ones(1).expand(1 << 30))
    parameter.numel = OrderedDict
    torch.save({"w": parameter}, tmp_path / "parameter.bin")
    with pytest.raises(ValueError, match="w sets 'numel', which the type Parameter has already"):
        read_archive(tmp_path / "parameter.bin", ENOUGH)


@pytest.mark.parametrize(
    "made", [Calls(torch.Tensor, 3), Calls(torch.HalfTensor, 3), Calls(torch.FloatTensor, [1.0, 2.0])]
)
def test_a_tensor_that_its_pickle_makes_from_nothing_is_refused(tmp_path, made):
    """It would hold what the memory held before, such as a token."""
    torch.save({"w": made, "v": torch.ones(2)}, tmp_path / "made.bin")
    with pytest.raises(ValueError, match="w is made by its pickle, and its numbers are not stored in the file"):
        read_archive(tmp_path / "made.bin", ENOUGH)


def test_a_tensor_that_is_the_negative_of_its_numbers_is_refused(tmp_path):
    """Its bytes are written as safetensors: the weights would be of the other sign, or other numbers."""
    one = torch.tensor([1.0, -2.0])
    lazy = {
        "negative": torch._neg_view(-one),
        "a parameter": torch.nn.Parameter(torch._neg_view(-one)),
        "a part": torch._neg_view(-torch.ones(2, 4))[:, 1:3],
        "conjugate": torch.complex(one, one).conj(),
    }
    for tensor in lazy.values():
        assert tensor.is_neg() or tensor.is_conj()
        torch.save({"v": torch.ones(2), "w": tensor}, tmp_path / "lazy.bin")
        with pytest.raises(ValueError, match="w is stored as the negative or conjugate of its numbers"):
            read_archive(tmp_path / "lazy.bin", ENOUGH)
        with pytest.raises(CheckpointError, match="w is stored as the negative or conjugate of its numbers"):
            reading.check_pickles([tmp_path / "lazy.bin"])
        torch.save({"w": tensor.resolve_conj().resolve_neg()}, tmp_path / "resolved.bin")
        assert torch.equal(read_archive(tmp_path / "resolved.bin", ENOUGH)[0]["w"], tensor)
    # TorchScript's own pickles have no such bit, and one that is put there is not passed over.
    with pytest.raises(ValueError, match="is stored as the negative or conjugate of its numbers"):
        rebuild_tensor(one, 0, (2,), (1,), False, OrderedDict(), {"neg": True})


def test_tensors_with_attributes_of_any_type_and_without_numbers_are_those_of_the_file(tmp_path):
    base = torch.arange(6.0)
    parameter, named = torch.nn.Parameter(base.clone()), torch.ones(2)
    parameter._is_hf_initialized = named._is_hf_initialized = True  # as transformers marks what it has loaded
    state = {
        "parameter": parameter,
        "named": named,
        "bytes": torch.ones(2).to(torch.float8_e4m3fn),
        "empty": torch.zeros(0, 3),
        "end": base[6:],
        "part": base[2:].view(2, 2).T,
        "scalar": torch.tensor(2.0),
    }
    torch.save(state, tmp_path / "a.bin")
    tensors, _ = read_archive(tmp_path / "a.bin", ENOUGH)
    assert_same_tensors(tensors, state)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit on allocated memory")
def test_shards_are_held_together_as_transformers_holds_them(tmp_path):
    paths = [tmp_path / f"{number}.bin" for number in range(2)]
    for path in paths:
        torch.save({"w": torch.ones(2), "unknown": Calls(bytearray, 160 << 20)}, path)
    reading.check_pickles(paths[:1])
    with pytest.raises(CheckpointError, match=r"1\.bin is refused: reading it takes far more memory than its size"):
        reading.check_pickles(paths)


def test_pickles_of_more_or_longer_names_than_a_models_are_refused(tmp_path):
    """transformers makes a set of each number in a name, and a table as wide as the longest."""
    tensor = torch.zeros(1)
    torch.save({"1." * 300: tensor}, tmp_path / "long.bin")
    with pytest.raises(CheckpointError, match="a name of 600 characters, more than the allowed 512"):
        reading.check_pickles([tmp_path / "long.bin"])
    torch.save({f"{number}.{'1.' * 200}": tensor for number in range(6_000)}, tmp_path / "many.bin")
    reading.check_pickles([tmp_path / "many.bin"])
    with pytest.raises(CheckpointError, match=r"the names of tensors have .* at most 4194304 are read"):
        reading.check_pickles([tmp_path / "many.bin"] * 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the time of a processor")
def test_a_pickle_of_few_bytes_that_takes_long_is_refused(tmp_path, monkeypatch):
    # A tuple of twice a tuple, and so on: the hash of the outermost one walks over 2^60 of them.
    nested = b"K\x01" + b"q\x01h\x01\x86" * 60
    torch.save({"w": torch.ones(2), "optimizer": 0}, tmp_path / "a.bin")
    with zipfile.ZipFile(tmp_path / "a.bin") as archive:
        content = archive.read("a/data.pkl")
    (entry,) = re.findall(rb"X\t\0\0\0optimizer(?:q.)?K\0", content, flags=re.DOTALL)
    content = content.replace(entry, entry[:-2] + b"}" + nested + b"K\x02s")
    with_members(tmp_path / "a.bin", tmp_path / "nested.bin", replaced={"data.pkl": content})
    source = Path(reading.WORKER).read_text(encoding="utf-8")
    (tmp_path / "worker.py").write_text(source.replace("SLACK_SECONDS = 20", "SLACK_SECONDS = 1"), encoding="utf-8")
    monkeypatch.setattr(reading, "WORKER", tmp_path / "worker.py")
    with pytest.raises(
        CheckpointError, match=r"nested\.bin ended the process .* Get the checkpoint in the safetensors"
    ):
        reading.check_pickles([tmp_path / "a.bin", tmp_path / "nested.bin"])


def test_a_torchscript_attribute_whose_name_reads_as_several_is_refused(tmp_path):
    """It would take the place of a tensor of a module, which `torch.jit.load` shows."""
    path = scripted_archive({"visual.proj": torch.ones(2), "visual_proj": torch.zeros(2)}, tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        content = archive.read(name)
    assert content.count(b"visual_proj") == 1
    for other in (b"visual.proj", b"visual/proj"):
        dotted = with_members(path, tmp_path / "b.pt", replaced={"data.pkl": content.replace(b"visual_proj", other)})
        with pytest.raises(ValueError, match="which reads as several names"):
            read_archive(dotted, ENOUGH)


def test_torchscript_modules_that_are_in_many_places_at_once_are_refused(tmp_path):
    # 2^40 paths lead to the innermost one.
    holder = b"c__torch__\nM\n)\x81}"
    pickled = b"\x80\x02" + holder + b"bq\x000"
    for level in range(1, 40):
        inner = b"h" + bytes([level - 1])
        pickled += holder + b"(X\x01\0\0\0a" + inner + b"X\x01\0\0\0b" + inner + b"ubq" + bytes([level]) + b"0"
    path = scripted_archive({"w": torch.ones(2)}, tmp_path / "a.pt")
    many = with_members(path, tmp_path / "many.pt", replaced={"data.pkl": pickled + b"h'."})
    with pytest.raises(ValueError, match="names and texts have more than the allowed"):
        read_archive(many, ENOUGH)


def test_a_torchscript_tensor_beyond_its_storage_is_refused(tmp_path):
    path = scripted_archive({"w": torch.ones(2)}, tmp_path / "a.pt")
    short = with_members(path, tmp_path / "short.pt", replaced={"data/0": b"1234"})
    with pytest.raises(ValueError, match="has 4 bytes, but 2 elements"):
        read_archive(short, ENOUGH)
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        content = archive.read(name)
    # BININT1 2, TUPLE, MARK: the size (2,) becomes (200,).
    assert content.count(b"K\x02t(") == 1
    longer = content.replace(b"K\x02t(", b"K\xc8t(")
    with pytest.raises(ValueError, match="reaches beyond its storage of 2 elements"):
        read_archive(with_members(path, tmp_path / "long.pt", replaced={"data.pkl": longer}), ENOUGH)


def test_a_torchscript_tensor_that_is_set_to_another_size_is_refused(tmp_path):
    """An empty storage grows when a tensor is set to more than it, by what the memory held before."""
    path = scripted_archive({"w": torch.ones(2), "empty": torch.zeros(0)}, tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        content = archive.read(name)
    # `empty` is a tuple called, and the 13th thing kept; its state becomes (itself, 0, (9,), (1,)).
    made = content.index(b"Rq\x0d", content.index(b"empty")) + 3
    grown = content[:made] + b"(h\x0dK\x00K\x09\x85K\x01\x85tb" + content[made:]
    with pytest.raises(ValueError, match="empty is made by its pickle, and its numbers are not stored in the file"):
        read_archive(with_members(path, tmp_path / "grown.pt", replaced={"data.pkl": grown}), ENOUGH)


@pytest.mark.parametrize("make", [torch.save, scripted_archive])
def test_a_tensor_of_more_dimensions_than_any_model_has_is_refused(tmp_path, make):
    path = tmp_path / "a.pt"
    make({"w": torch.ones([1] * 70)}, path)
    with pytest.raises(ValueError, match="w has 70 dimensions, of up to 8"):
        read_archive(path, ENOUGH)


# Files and folders


def test_values_that_are_not_finite_are_refused(tmp_path):
    save_file({"fine": torch.ones(2), "broken": torch.tensor([1.0, float("nan")])}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="infinite or not numbers, in: broken"):
        read_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_damaged_safetensors_are_refused(tmp_path, cut):
    save_file({"a": torch.ones(8)}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[:cut])
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "a.safetensors")


def test_missing_and_special_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "nothing.pth")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_checkpoint(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_checkpoint(tmp_path)


def shards(folder: Path, weight_map: dict[str, str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    save_file({"a": torch.ones(2)}, folder / "model-1.safetensors")
    save_file({"b": torch.ones(2)}, folder / "model-2.safetensors")
    weight_map = weight_map or {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards_are_read_together(tmp_path):
    raw = read_checkpoint(shards(tmp_path))
    assert raw.format == "transformers"
    assert set(raw.tensors) == {"a", "b"}
    assert raw.config == {"model_type": "clip"}


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/hostname", "folder/a.safetensors", "..", "", "a\0b", 7]
)
def test_shards_outside_of_the_folder_are_refused(tmp_path, name):
    save_file({"b": torch.ones(2)}, tmp_path / "outside.safetensors")
    folder = shards(tmp_path / "checkpoint", {"a": "model-1.safetensors", "b": name})
    with pytest.raises(CheckpointError, match=r"only plain file names|not an index of shards"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "weight_map", [{"a": "model-1.safetensors"}, {"a": "model-1.safetensors", "c": "model-2.safetensors"}]
)
def test_shards_that_disagree_with_their_index_are_refused(tmp_path, weight_map):
    folder = shards(tmp_path, weight_map | {"b": "model-1.safetensors"})
    with pytest.raises(CheckpointError, match="index disagree about"):
        read_checkpoint(folder)


def test_an_index_is_gone_through_once_however_many_shards_it_has(tmp_path, monkeypatch):
    calls: list[dict] = []
    monkeypatch.setattr("froster_hf.conversion.reading.refuse_other_shards", lambda names, _: calls.append(names))
    read_checkpoint(shards(tmp_path))
    assert calls == [{str(tmp_path / "model-1.safetensors"): ["a"], str(tmp_path / "model-2.safetensors"): ["b"]}]


@pytest.mark.parametrize("name", ["model-2.safetensors", "model.safetensors.index.json", "config.json"])
def test_links_out_of_the_folder_are_refused(tmp_path, name):
    folder = shards(tmp_path / "checkpoint")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="outside of the checkpoint's folder"):
        read_checkpoint(folder)


def test_the_links_of_the_hub_cache_are_followed(tmp_path):
    repository = tmp_path / "models--openai--clip"
    snapshot = shards(repository / "snapshots" / "0123456789abcdef")
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(repository / "blobs" / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    assert set(read_checkpoint(snapshot).tensors) == {"a", "b"}


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_files_are_refused_or_read_exactly(tmp_path, count):
    state = clip_state_dict()
    torch.save({"model_state": state, "cfg": "DATA: {}"}, tmp_path / "pickle")
    scripted_archive(state, tmp_path / "torchscript")
    generator = random.Random(0)
    outcomes = Counter()
    for _ in range(count):
        kind = generator.choice(["pickle", "torchscript"])
        content = bytearray((tmp_path / kind).read_bytes())
        header = content.index(b"data.pkl") + 8
        for _ in range(generator.choice([1, 1, 2, 5])):
            # The pickle, the directory at the end, or anywhere.
            start, stop = generator.choice(
                [(header, header + 20_000), (len(content) - 6000, len(content)), (0, len(content))]
            )
            content[generator.randrange(start, stop)] = generator.randrange(256)
        (tmp_path / "mutant").write_bytes(content)
        main(tmp_path / "mutant", tmp_path, ENOUGH)
        if "error" in json.loads((tmp_path / "0.json").read_text()):
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            prefix = "model_state/" if kind == "pickle" else ""
            assert_same_tensors(
                load_file(tmp_path / "tensors.safetensors"), {prefix + name: tensor for name, tensor in state.items()}
            )
    assert outcomes["refused"] > outcomes["read"] > 0
