"""Checkpoint files as an attacker, or a broken disk, would make them."""

import io
import os
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn


class RunsCommand:
    """Unpickled without restriction, this creates a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def malicious_pickle(path: Path, marker: Path) -> Path:
    torch.save({"model_state": {"model.visual.proj": torch.ones(1)}, "cfg": RunsCommand(marker)}, path)
    return path


def scripted_archive(state: dict[str, Tensor], path: Path) -> Path:
    """A TorchScript archive whose `state_dict()` is `state`, as OpenAI distributes CLIP."""
    root = Holder()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module: nn.Module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, Holder())
            module = module.get_submodule(parent)
        if tensor.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(tensor))
        else:
            module.register_buffer(leaf, tensor)
    torch.jit.save(torch.jit.trace(root, torch.ones(1)), path)
    return path


class Holder(nn.Module):
    def forward(self, x):
        return x


def with_members(source: Path, path: Path, *, replaced=None, compression=zipfile.ZIP_STORED) -> Path:
    """A copy of a zip file in which members, given without their folder, have other contents or are compressed."""
    replaced = replaced or {}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            content = replaced.get(name.partition("/")[2], old.read(name))
            new.writestr(name, content)
    return path


def two_archives_in_one(first: Path, second: Path, path: Path) -> Path:
    """A zip file in which torch's reader sees the first archive and Python's the second, a TorchScript archive.

    One counts members' places from the beginning of the file, the other from its end. Both directories are written
    with the same number of entries and of bytes.
    """
    places, archives = [], []
    for source in (first, second):
        content = source.read_bytes()
        end = content.rindex(b"PK\5\6")
        size, start = struct.unpack_from("<II", content, end + 12)
        places.append((start, size))
        archives.append((content[:start], bytearray(content[start : start + size])))
    (first_data, first_entries), (second_data, second_entries) = archives
    count = first_entries.count(b"PK\1\2")
    assert second_entries.count(b"PK\1\2") == count
    size = max(len(first_entries), len(second_entries))
    for entries in (first_entries, second_entries):
        # A comment behind the last entry makes up for the difference.
        struct.pack_into("<H", entries, entries.rindex(b"PK\1\2") + 32, size - len(entries))
        entries += b" " * (size - len(entries))
    place = -1
    while (place := second_entries.find(b"PK\1\2", place + 1)) >= 0:
        (offset,) = struct.unpack_from("<I", second_entries, place + 42)
        # Python takes what lies before the second archive for something else's, and adds as much.
        struct.pack_into("<I", second_entries, place + 42, (offset + len(first_data) - len(second_data)) % 2**32)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, len(first_data), 0)
    path.write_bytes(first_data + first_entries + second_data + second_entries + end)
    return path


def pickle_of(value) -> bytes:
    return pickle.dumps(value, protocol=2)


def globals_of(content: bytes) -> set[str]:
    """The names that a pickle refers to."""
    return {argument for opcode, argument, _ in pickletools.genops(io.BytesIO(content)) if opcode.name == "GLOBAL"}
