"""The process that opens pickled checkpoints, so that a hostile one meets nothing worth having.

`reading.py` starts this file as a script of its own: `python pickle_worker.py FOLDER MAX_BYTES SOURCE`. It leaves
`tensors.safetensors` and `0.json`, the summary, in FOLDER, or a summary with an `error`. A file that crashes, fills
the memory or never ends takes only this process with it. With `--check` before SOURCE, which may then be several
files with a summary each, no tensors are written, all that is read of them may take little more memory than their own
sizes, and only what `torch.load` has read is taken.

Two kinds of zip archive are read, neither by running code of theirs. `torch.save` files go through
`torch.load(weights_only=True)`. TorchScript archives (OpenAI's CLIP) are not loaded as programs at all: their
`data.pkl` names the parameters, and an unpickler that can build only tensors and bare attribute holders reads it.
"""

import contextlib
import json
import math
import os
import pickle
import re
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first in `sys.path`; nothing is to be imported from there.
    sys.path.pop(0)

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

TRAINING_STATE = re.compile(r"(optimizer|optim|lr_scheduler|scheduler|scaler)(_state)?(_dict)?")
"""Sections of a file that only a resumed training needs."""

STATEMENT = "froster_hf.json"
"""A member that this package adds to the archives it writes: what no weight shows. `torch.load` passes over it."""

NO_ROOM_STATUS = 74
"""With which the process ends where its results cannot be written."""

MAX_MEMBERS = 200_000
MAX_DEPTH = 64
MAX_REPEATED = 1_000_000
"""Numbers of a tensor that has more than its storage: every access would walk over all of them."""

MAX_SHARED = 4
"""Times the size of the file that its tensors may have together: a storage can be that of many, each of which is then
written on its own. Sections of a file (a student, its average, its teacher) may share theirs."""

METADATA = "__metadata__"
"""What safetensors files say of themselves, in the place of a tensor's name."""

MAX_TEXT = 65_536
MAX_NAME = 512
"""Characters of a tensor's name, as in safetensors files (`checkpoint_files.LONGEST_NAME`)."""

MAX_RANK = 8
"""Dimensions of a tensor; CLIPs have up to five. Work on more grows with their square."""

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bool: "BOOL",
}
"""Of what is stored as it is, as safetensors calls them (`checkpoint_files.BUFFERS`)."""

MAX_CHARACTERS = 4 << 20
"""Of all names and texts together; CLIP's names have some 100,000."""

NEGATED = (
    "is stored as the negative or conjugate of its numbers, as no release of a checkpoint is; save it with "
    "`tensor.resolve_conj().resolve_neg()`"
)
"""A bit of torch beside the numbers, which is lost where their bytes are copied."""

CHUNK_BYTES = 4 << 20
MEMORY_SLACK_BYTES = 2 << 30
CHECK_SLACK_BYTES = 256 << 20
SLACK_SECONDS = 20
BYTES_PER_SECOND = 50_000_000
"""Of a slow processor; whoever reads the files after this process takes as long again."""

OUT_OF_MEMORY = re.compile("bad_alloc|can't allocate memory")
"""In the words of torch's errors, which are of no type of their own."""


def read_archive(
    source: Path, max_bytes: int, kept: list[object] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read every tensor of a zip checkpoint.

    Args:
        source: a file written by `torch.save` or `torch.jit.save`.
        max_bytes: the largest total size of the tensors.
        kept: what `torch.load` has read is added to it, and so takes memory as long as it.

    Returns:
        Tensors by name, behind `section/` where the file has sections; and a summary: `format`, `other` (entries that
        are not tensors, described), `texts` (those that are texts), `statement` (of this package's own exports),
        `types` (of the tensors) and `characters` (of all names).

    Raises:
        ValueError: the archive is not plainly what it says; the message tells the reason.
    """
    stored: set[int] = set()

    def on_cpu(storage: Any, _location: str) -> Any:
        stored.add(storage.data_ptr())
        return storage

    with zipfile.ZipFile(source) as archive:
        root, is_torchscript = check_members(archive, source.stat().st_size)
        statement = read_member(archive, f"{root}/{STATEMENT}")
        if is_torchscript:
            tensors, other = read_torchscript(archive, root, stored)
            texts: dict[str, str] = {}
        else:
            # torch reads the file by itself; what it read is checked against its storages below.
            # ViFi-CLIP stores its configuration object; it becomes a mapping that is thrown away.
            allowed = [(OrderedDict, "yacs.config.CfgNode")]
            try:
                with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
                    payload = torch.load(source, map_location=on_cpu, weights_only=True, mmap=True)
            except pickle.UnpicklingError as error:
                raise ValueError(reason_of(error)) from error
            if kept is not None:
                kept.append(payload)
            tensors, other, texts = flatten_payload(payload)
    for name, tensor in tensors.items():
        check_tensor(name, tensor, stored)
    total, size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), source.stat().st_size
    if total > max_bytes:
        raise ValueError(f"the tensors take more than the allowed {max_bytes} bytes")
    if total > MAX_SHARED * size:
        raise ValueError(
            f"its tensors take {total} bytes, more than {MAX_SHARED} times the {size} of the file, in which they "
            "share what is stored; save each with its own (`tensor.clone()`)"
        )
    kind = "torchscript" if is_torchscript else "pickle"
    characters = sum(map(len, (*tensors, *other)))
    return tensors, {
        "format": kind,
        "other": other,
        "texts": texts,
        "statement": statement,
        "types": {name: TYPES.get(tensor.dtype, str(tensor.dtype)) for name, tensor in tensors.items()},
        "characters": characters,
    }


def read_member(archive: zipfile.ZipFile, name: str) -> str | None:
    """The text of a member, or `None` where there is none, or it is too long or packed: a few bytes may unpack to all
    memory, whatever size is claimed."""
    member = archive.getinfo(name) if name in archive.namelist() else None
    if member is None or member.file_size > MAX_TEXT or member.compress_type != zipfile.ZIP_STORED:
        return None
    return archive.read(name).decode(errors="replace")


def check_members(archive: zipfile.ZipFile, file_bytes: int) -> tuple[str, bool]:
    """Refuse archives that are damaged, or larger inside than outside.

    Returns:
        The folder that all members lie in, and whether it is a TorchScript archive.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"the archive has {len(members)} members, more than the allowed {MAX_MEMBERS}")
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise ValueError("two members of the archive have the same name")
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError(
            "the zip archive holds no data.pkl, so it was written neither by torch.save nor torch.jit.save"
        )
    root = pickles[0].removesuffix("/data.pkl")
    is_torchscript = f"{root}/constants.pkl" in names
    total, checked = 0, []
    for member in members:
        # TorchScript deflates its source code, which is never read here.
        if is_torchscript and not (member.filename == pickles[0] or member.filename.startswith(f"{root}/data/")):
            continue
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
            raise ValueError(
                f"the member {member.filename} is compressed or encrypted; torch stores members as they are"
            )
        total += member.file_size
        checked.append(member)
    order = f"{root}/byteorder"
    if order in names and ((told := read_member(archive, order)) is None or told.strip() not in ("little", "")):
        raise ValueError("the tensors are not said to be stored in little-endian order")
    if total > file_bytes:
        raise ValueError(f"the members claim {total} bytes, but the whole file has {file_bytes}")
    for member in checked:
        # torch.load compares no checksums; reading to the end does.
        with archive.open(member) as stream:
            while stream.read(CHUNK_BYTES):
                pass
    return root, is_torchscript


class Account:
    """Counts what is found in a file: it can name one text, or one module, many times over, and so describe far more
    than it holds."""

    def __init__(self) -> None:
        self.entries = self.characters = 0

    def add(self, name: str, text: str = "") -> None:
        """Count an entry with its name, and a text if it is one.

        Raises:
            ValueError: there have been more entries or characters than any checkpoint has, or a longer name.
        """
        self.entries += 1
        self.characters += len(name) + len(text)
        if len(name) > MAX_NAME:
            raise ValueError(f"it has a name of {len(name)} characters, more than the allowed {MAX_NAME}")
        if self.entries > MAX_MEMBERS:
            raise ValueError(f"it describes more than the allowed {MAX_MEMBERS} entries")
        if self.characters > MAX_CHARACTERS:
            raise ValueError(f"its names and texts have more than the allowed {MAX_CHARACTERS} characters")


def add_tensor(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    """Add a tensor under a name that is not taken: of two, either could be meant.

    Raises:
        ValueError: there is one already.
    """
    if name in tensors:
        raise ValueError(f"there are two tensors named {name!r:.200}")
    tensors[name] = tensor


def flatten_payload(payload: object) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """The tensors of a pickled object, one level of sections deep, and an account of everything else."""
    if not isinstance(payload, Mapping):
        raise ValueError(f"the file holds a {type(payload).__name__}, not a state dict")
    refuse_attributes(payload, "its state dict")
    tensors: dict[str, Tensor] = {}
    other: dict[str, str] = {}
    texts: dict[str, str] = {}
    account = Account()

    def sort(name: str, value: object) -> None:
        account.add(name, value if isinstance(value, str) else "")
        if isinstance(value, Tensor):
            add_tensor(tensors, name, value)
        elif isinstance(value, str) and len(value) <= MAX_TEXT:
            texts[name] = value
            other[name] = f"a text of {len(value)} characters"
        else:
            other[name] = describe(value)

    for key, value in payload.items():
        if not isinstance(key, str):
            raise ValueError(f"the file holds a mapping with a key of type {type(key).__name__}, not a state dict")
        refuse_attributes(value, key)
        is_section = isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())
        if "/" in key and (is_section or isinstance(value, Tensor)):
            raise ValueError(f"{key!r:.200} has a slash, which stands between a section and a name within it")
        if TRAINING_STATE.fullmatch(key):
            other[key] = "the state of the training"
        elif is_section:
            for name, entry in value.items():
                sort(f"{key}/{name}", entry)
        else:
            sort(key, value)
    return tensors, other, texts


def describe(value: object) -> str:
    """A few words for a report; never the text form of an unknown object."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:60]
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def reason_of(error: pickle.UnpicklingError) -> str:
    """What torch found, without its advice to load such a file all the same."""
    message = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", message):
        return f"its pickle calls for {found[1]}, which is neither a tensor nor a plain container"
    return (
        " ".join(message.partition("WeightsUnpickler error:")[2].split("Check the documentation")[0].split())
        or message
    )


def refuse_attributes(value: object, name: str) -> None:
    """Refuse what a pickle has given an attribute that its type has: a method would be what the file says."""
    if taken := [attribute for attribute in getattr(value, "__dict__", ()) if hasattr(type(value), attribute)]:
        raise ValueError(f"{name} sets {taken[0]!r:.40}, which the type {type(value).__name__} has already")


def check_tensor(name: str, tensor: Tensor, stored: set[int]) -> None:
    """Refuse tensors that are larger than what is stored of them, that are not plain arrays, whose numbers are others
    than those stored, or that a pickle has made from nothing: they would be whatever the memory held before.

    Args:
        name: for the message.
        tensor: as it was read.
        stored: where the storages of the file begin in memory.
    """
    refuse_attributes(tensor, name)
    if name == METADATA:
        raise ValueError(f"it has a tensor called {METADATA}, which safetensors files cannot hold")
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    if not plain or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} is not a plain tensor ({type(tensor).__name__}, {tensor.layout}, on {tensor.device})"
        )
    if tensor.ndim > MAX_RANK:
        raise ValueError(f"{name} has {tensor.ndim} dimensions, of up to {MAX_RANK}")
    if tensor.is_neg() or tensor.is_conj():
        raise ValueError(f"{name} {NEGATED}")
    claimed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > held:
        raise ValueError(f"{name} claims {claimed} bytes, but only {held} are stored")
    if claimed and tensor.untyped_storage().data_ptr() not in stored:
        raise ValueError(f"{name} is made by its pickle, and its numbers are not stored in the file")


def read_torchscript(
    archive: zipfile.ZipFile, root: str, stored: set[int]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The parameters and buffers of a TorchScript archive, by the names of its `state_dict()`; adds to `stored` where
    its storages begin in memory."""
    with archive.open(f"{root}/data.pkl") as stream:
        module = TensorUnpickler(stream, archive, root, stored).load()
    if not isinstance(module, AttributeHolder):
        raise ValueError(f"the TorchScript archive holds a {type(module).__name__}, not a module")
    tensors: dict[str, Tensor] = {}
    other: dict[str, str] = {}
    for name, value in walk(module, "", Account()):
        if isinstance(value, Tensor):
            add_tensor(tensors, name, value)
        elif name.rpartition(".")[2] not in ("training", "_is_full_backward_hook"):
            other[name] = describe(value)
    return tensors, other


class AttributeHolder:
    """Stands for every class of a TorchScript program: it has attributes and does nothing."""


def walk(holder: AttributeHolder, prefix: str, account: Account, depth: int = 0) -> Iterator[tuple[str, object]]:
    """Every attribute of nested holders, by its dotted name; of a holder in several places, in each of them."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the modules are nested more than {MAX_DEPTH} deep")
    for name, value in vars(holder).items():
        account.add(f"{prefix}{name}")
        if set("./") & set(str(name)):
            raise ValueError(f"an attribute is named {name!r:.200}, which reads as several names")
        if isinstance(value, AttributeHolder):
            yield from walk(value, f"{prefix}{name}.", account, depth + 1)
        else:
            yield f"{prefix}{name}", value


class TensorUnpickler(pickle.Unpickler):
    """Builds tensors, plain containers and `AttributeHolder`s; every other name is refused before it is looked up."""

    storages = {
        f"{name}Storage": dtype
        for name, dtype in {
            "Double": torch.float64,
            "Float": torch.float32,
            "Half": torch.float16,
            "BFloat16": torch.bfloat16,
            "Long": torch.int64,
            "Int": torch.int32,
            "Short": torch.int16,
            "Char": torch.int8,
            "Byte": torch.uint8,
            "Bool": torch.bool,
        }.items()
    }
    list_builders = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")

    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str, stored: set[int]) -> None:
        super().__init__(stream)
        self.archive = archive
        self.root = root
        self.stored = stored
        self.loaded: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for the few names that TorchScript's pickles use."""
        if module == "__torch__" or module.startswith("__torch__."):
            return AttributeHolder
        if module == "torch" and name in self.storages:
            return self.storages[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if module == "torch.jit._pickle" and (name in self.list_builders or name == "restore_type_tag"):
            return first_argument
        raise ValueError(
            f"its pickle calls for {module}.{name}, which is neither a tensor nor a module of the archive"
        )

    def persistent_load(self, pid: Any) -> Tensor:
        """One storage, as a flat tensor."""
        kind, dtype, key, _device, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError(f"the archive refers to {kind!r} instead of a storage")
        if key not in self.loaded:
            content = self.archive.read(f"{self.root}/data/{key}")
            if len(content) != numel * dtype.itemsize:
                raise ValueError(
                    f"the storage {key} has {len(content)} bytes, but {numel} elements of {dtype} are claimed"
                )
            flat = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self.stored.add(flat.data_ptr())
            self.loaded[key] = flat
        return self.loaded[key]


def rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _requires_grad: Any = False,
    _hooks: Any = None,
    negated: Any = None,
) -> Tensor:
    """A view of a storage; the arguments that torch and TorchScript write, checked before they are used."""
    if negated is not None:
        raise ValueError(f"a tensor of its pickle {NEGATED}")
    is_view = isinstance(storage, Tensor) and all(isinstance(sizes, tuple | list) for sizes in (size, stride))
    if not is_view or not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)):
        raise ValueError("the archive describes a tensor by something else than a storage and sizes")
    if len(size) != len(stride):
        raise ValueError(f"the archive describes a tensor of size {size} with strides {stride}")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride))
    if 0 not in size and last >= storage.numel():
        raise ValueError(f"a tensor of size {size} reaches beyond its storage of {storage.numel()} elements")
    if math.prod(size) > max(storage.numel(), MAX_REPEATED):
        raise ValueError(f"a tensor of size {size} repeats the {storage.numel()} elements of its storage")
    return torch.as_strided(storage, size, stride, offset)


def first_argument(value: Any, *_ignored: Any) -> Any:
    """What TorchScript's list builders and type tags come to."""
    return value


def write(tensors: Mapping[str, Tensor], target: Path) -> None:
    """Save as safetensors, which takes neither shared nor strided storages."""
    seen: set[int] = set()
    owned: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
        shared = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        owned[name] = (
            tensor.detach() if whole and not shared else tensor.detach().clone(memory_format=torch.contiguous_format)
        )
    save_file(owned, target)


def limit_memory(extra_bytes: int) -> None:
    """Cap what this process may allocate beyond what it holds now, where the system has such a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return
    statistics = Path("/proc/self/statm")
    held = int(statistics.read_text().split()[5]) * resource.getpagesize() if statistics.exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + extra_bytes
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def limit_time(extra_bytes: int) -> None:
    """End this process once reading so many bytes has taken far more of the processor than bytes do, where the system
    has such a limit: a few bytes may describe a key that is hashed for years, in one step."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(time.process_time()) + SLACK_SECONDS + extra_bytes // BYTES_PER_SECOND
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        resource.setrlimit(resource.RLIMIT_CPU, (wanted, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


@contextlib.contextmanager
def exiting_without_room() -> Iterator[None]:
    """A result that cannot be written is the machine's fault, not the file's: the process says so by its status."""
    try:
        yield
    except (OSError, SafetensorError):
        raise SystemExit(NO_ROOM_STATUS) from None


def main(source: Path, folder: Path, max_bytes: int, *, number: int = 0, kept: list[object] | None = None) -> None:
    """Read `source` and leave the result, or the reason why there is none, in `folder`, under its number.

    Args:
        source: a file.
        folder: of the results.
        max_bytes: see `read_archive`.
        number: of the file among those of this process.
        kept: where files are only checked, what has been read of them; no tensors are written then.
    """
    try:
        tensors, summary = read_archive(source, max_bytes, kept)
        if kept is not None and summary["format"] != "pickle":
            # A file can be two archives, of which torch would read the other one.
            raise ValueError("it is a TorchScript archive, which `froster convert` reads")
        if kept is None:
            with exiting_without_room():
                write(tensors, folder / "tensors.safetensors")
    except zipfile.BadZipFile as error:
        summary = {"error": f"it is damaged, or was saved by torch before 1.6: {error}"}
    except Exception as error:  # Whatever a broken file provokes becomes a reason; nothing is retried another way.
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            reason = "reading it takes far more memory than its size"
        else:
            reason = (str(error) if isinstance(error, ValueError) else repr(error))[:2000]
        summary = {"error": reason}
    with exiting_without_room():
        (folder / f"{number}.json").write_text(json.dumps(summary), encoding="utf-8")


if __name__ == "__main__":
    target, limit, *given = sys.argv[1:]
    checks = given[0] == "--check"
    sources = [Path(name) for name in given[checks:]]
    # Shards may be links to one file, which has its bytes once.
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in map(os.stat, sources)}
    total_bytes = sum(sizes.values())
    limit_time(total_bytes)
    limit_memory(total_bytes + CHECK_SLACK_BYTES if checks else 3 * total_bytes + MEMORY_SLACK_BYTES)
    # Whoever reads the files after this process holds all of them at once, and so does it.
    everything: list[object] | None = [] if checks else None
    for position, file in enumerate(sources):
        main(file, Path(target), int(limit), number=position, kept=everything)
