"""Checkpoint files as an attacker, or a broken disk, would make them."""

import io
import os
import pickle
import pickletools
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


def pickle_of(value) -> bytes:
    return pickle.dumps(value, protocol=2)


def globals_of(content: bytes) -> set[str]:
    """The names that a pickle refers to."""
    return {argument for opcode, argument, _ in pickletools.genops(io.BytesIO(content)) if opcode.name == "GLOBAL"}
