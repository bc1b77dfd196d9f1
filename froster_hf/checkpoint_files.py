"""The files of a checkpoint that somebody else made: regular ones of its own folder, before anything opens them.

transformers' loaders follow links and open whatever stands in a file's place. A link would bring another file's
content into what is saved of the checkpoint and published, and a pipe would be waited for.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .hub_cache import blobs_of_snapshot
from .printing import listing, printable

# Longer configurations of adapters are refused.
MAX_CONFIG_BYTES = 1 << 20
LONGEST_FILE_NAME = 255
"""In bytes, as file systems have it."""

# Of what is read as a whole; the largest vocabularies have some 40 MB, indexes of shards a few.
MAX_TEXT_BYTES = 128 << 20
# Of all such files of a folder, each link counted as what it leads to.
MAX_TEXTS_BYTES = 512 << 20
TEXTS = (".json", ".txt", ".jinja", ".model")
# Of settings, as `MAX_JSON_MARKS` counts; transformers copies each several times. A million labels have two million.
MAX_SETTINGS_MARKS = 4_000_000
# Of lists and objects within each other, which transformers and this package follow by recursion.
MOST_LEVELS = 64
CONFIG = "config.json"
HUB_KEYWORDS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
# Read once, by readers with limits of their own.
VOCABULARIES = ("tokenizer.json", "vocab.json")
MAX_HEADER_BYTES = 4 << 20
"""Of the names, shapes and metadata in safetensors files of one checkpoint; those of the largest CLIP have 200,000."""

MOST_AXES = 8
"""Of a tensor's shape; readers of parts take as long as its square."""

MOST_QUANTIZED = 2_000
"""Tensors of a checkpoint that torchao describes beside the weights; for each, it looks through all, and through all
again. Those of the largest CLIP are 1,300."""
# What torchao stores of a tensor, as `weight` in a layer is `_weight_qdata` and others.
QUANTIZED_PARTS = ("qdata", "scale", "zero_point", "scale_and_zero")
_PART = re.compile(rf"(.*\._\w+?_)({'|'.join(QUANTIZED_PARTS)})")
# Of what stands beside weights, too, that no library reads.
_TENSOR_NAME = re.compile(r"[^.]*|[\w.:/ -]{1,500}")

MOST_SHARDS = 2_000
"""Of an index, each of which is looked for several times; the largest models have some hundred."""

MOST_INDEXES = 16
"""Of shards in a folder: each names up to `MOST_SHARDS`. One for each variant is usual."""

MOST_TEMPLATES = 16
"""Chat templates of a folder, which nothing here reads; models of words have up to four."""

MAX_TEMPLATES_BYTES = 1 << 20
"""Of all of them, each link counted as what it leads to: transformers holds all at once, twice, and in four bytes a
character. The longest have 100,000."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Of safetensors, the types of weights."""

BUFFERS = (*FLOATS, "I64", "I32", "BOOL")
"""Those of the buffers that lie beside them, which old checkpoints of CLIP have; all else is computed with."""

WHOLE_NUMBERS = re.compile(r"(^|\.)position_ids$")

LONGEST_NAME = 512
"""Of a tensor. transformers reports names that it does not know in a table as wide as the longest, with a set for each
number in them."""

# Processors read every file in it.
TEMPLATES = "additional_chat_templates"
INDEX = re.compile(r".+\.(safetensors|bin)\.index(\..+)?\.json")
# A part of a tensor's name that follows itself, as in `vision_model.vision_model.`.
REPEATED = re.compile(r"(?<![^.])([^.]+\.)\1+")
# transformers would read these in place of the weights that were looked at.
SPLIT_WEIGHTS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or is not read because it would not be safe; names the file and the reason."""


def check_checkpoint_files(checkpoint: str | os.PathLike[str], *, subfolder: str | None = None) -> None:
    """Refuse a folder with files that are not its own, with indexes of shards that name such files, with weights of
    more or longer names than a model has, or with more texts than are held.

    Links may lead within the folder, or to the blobs of the same Hub cache entry. Folders in it are not looked at.

    Args:
        checkpoint: a folder; a name on the Hub, whose client writes the files, is passed over.
        subfolder: folder in it that the files are read from.

    Raises:
        CheckpointError: a file or the subfolder leads elsewhere; a file is not a regular one, is too large or has too
            many values; an index names other files; all texts are too many or too large together; or the checkpoint
            is a file itself.
        OSError: the folder cannot be read.
    """
    if os.path.lexists(checkpoint) and not os.path.isdir(checkpoint):
        raise CheckpointError(
            f"{printable(os.fspath(checkpoint))} is a file. Give the folder of a checkpoint in transformers' layout, "
            "or its name on the Hub; `froster convert` makes one of other layouts."
        )
    own = Path(checkpoint, subfolder or "")
    resolved = os.path.realpath(own)
    if not Path(resolved).is_relative_to(os.path.realpath(checkpoint)):
        raise CheckpointError(
            f"{printable(str(own))} leads to {printable(resolved)}, outside of the checkpoint's folder. Give that "
            "folder as the checkpoint."
        )
    for folder in {Path(checkpoint), own}:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        _check_together(folder, [path for path in paths if path.is_file()])
        for path in paths:
            # By the name alone, as transformers: of a folder, too, and whatever follows.
            if SPLIT_WEIGHTS.match(path.name):
                raise CheckpointError(
                    f"{printable(str(path))} is a part of weights as a distributed training splits them. Load them "
                    "where they were trained, and save the model as a whole."
                )
            if not path.is_dir():
                _check_file(path)
            elif path.name == TEMPLATES:
                _refuse_elsewhere(path)
                check_checkpoint_files(path)
        check_headers(path for path in paths if path.suffix == ".safetensors" and path.is_file())


def _check_together(folder: Path, files: Sequence[Path]) -> None:
    """Count what there may be many of, of files that need not be the folder's own; each alone may be small."""
    check_templates((path for path in files if path.suffix == ".jinja"), where=folder)
    if (size := sum(path.stat().st_size for path in files if path.suffix in TEXTS)) > MAX_TEXTS_BYTES:
        raise CheckpointError(
            f"{printable(str(folder))} has {size} bytes of {', '.join(TEXTS)}; at most {MAX_TEXTS_BYTES} are read. "
            "Take out what is not the model's."
        )
    if (count := sum(INDEX.fullmatch(path.name) is not None for path in files)) > MOST_INDEXES:
        raise CheckpointError(
            f"{printable(str(folder))} has {count} indexes of shards; at most {MOST_INDEXES} are read. Take out "
            "what is not the model's."
        )


def check_templates(templates: Iterable[str | os.PathLike[str]], *, where: str | os.PathLike[str]) -> None:
    """Refuse more or larger chat templates than any model's.

    Args:
        templates: the files.
        where: the folder, or the name on the Hub, for the error.

    Raises:
        CheckpointError: they are more than `MOST_TEMPLATES`, or larger than `MAX_TEMPLATES_BYTES` together.
        OSError: there is no such file.
    """
    sizes = [os.path.getsize(path) for path in templates]
    if len(sizes) > MOST_TEMPLATES or sum(sizes) > MAX_TEMPLATES_BYTES:
        raise CheckpointError(
            f"{printable(os.fspath(where))} has {len(sizes)} chat templates of {sum(sizes)} bytes together; at most "
            f"{MOST_TEMPLATES} of {MAX_TEMPLATES_BYTES} are read. Take them out: a video's model has none."
        )


def _check_file(path: Path) -> None:
    _own_file(path)
    if path.suffix in TEXTS and path.stat().st_size > MAX_TEXT_BYTES:
        raise CheckpointError(f"{printable(str(path))} has more than {MAX_TEXT_BYTES} bytes, the most that is read.")
    if path.suffix == ".json" and path.name not in VOCABULARIES:
        check_settings(path)
    if INDEX.fullmatch(path.name):
        shard_names(path)


def check_settings(path: str | os.PathLike[str]) -> None:
    """Refuse a JSON file of settings that has more values than any checkpoint's.

    Raises:
        CheckpointError: it has, or is too large.
        OSError: it cannot be read.
    """
    from .processing.text_files import count_json_marks

    with open(path, "rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise CheckpointError(
            f"{printable(os.fspath(path))} has more than {MAX_TEXT_BYTES} bytes, the most that is read."
        )
    if count_json_marks(data.decode(errors="replace")) > MAX_SETTINGS_MARKS:
        raise CheckpointError(f"{printable(os.fspath(path))} has more values than the settings of any checkpoint.")


def check_configuration(checkpoint: str | os.PathLike[str], **kwargs: Any) -> None:
    """Refuse a checkpoint whose config.json is not its own, has more values than any, holds no object, or names other
    files to read in its place; and a folder without one, of which transformers would make a default architecture.

    Args:
        checkpoint: a folder, or a name on the Hub.
        kwargs: keywords of the loader; those that say where the files are count.

    Raises:
        CheckpointError: it is or does, or see `check_checkpoint_files`.
        AnnotationError: it is not JSON.
        OSError: it cannot be read, or there is no such checkpoint.
    """
    is_folder = os.path.isdir(checkpoint)
    # Of the Hub, transformers tells why there is none.
    file = finder(checkpoint, kwargs)(CONFIG, _raise_exceptions_for_missing_entries=not is_folder)
    if file is None:
        raise CheckpointError(f"{printable(os.fspath(checkpoint))} has no {CONFIG}. Get the whole checkpoint.")
    read_configuration(file)


def finder(checkpoint: str | os.PathLike[str], kwargs: Mapping[str, Any]) -> Callable[..., str | None]:
    """What finds a file of a checkpoint by its name, as transformers' loaders do; `None` where there is none.

    Raises:
        CheckpointError: see `check_checkpoint_files`.
    """
    from transformers.utils import cached_file

    check_checkpoint_files(checkpoint, subfolder=kwargs.get("subfolder"))
    where = {key: kwargs[key] for key in HUB_KEYWORDS if kwargs.get(key) is not None}
    return partial(cached_file, os.fspath(checkpoint), **where, _raise_exceptions_for_missing_entries=False)


def read_settings(file: str | os.PathLike[str] | None) -> Mapping[str, Any]:
    """The content of a JSON file of settings; nothing where there is no such file.

    Raises:
        CheckpointError: it holds something else than an object, or see `check_settings`; vocabularies may have more.
        AnnotationError: it is not JSON, of more than `MOST_LEVELS` levels, or a key stands twice in an object.
        OSError: it cannot be read.
    """
    from .processing.text_files import read_json

    if file is not None and os.path.basename(file) not in VOCABULARIES:
        check_settings(file)
    # As transformers reads it.
    content = {} if file is None else read_json(file, max_depth=MOST_LEVELS, finite=False)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{printable(os.fspath(file or ''))} holds a JSON {type(content).__name__}, not an object."
        )
    return content


def read_configuration(file: str | os.PathLike[str] | None) -> Mapping[str, Any]:
    """The content of a config.json, which transformers' loaders would read another file in the place of where it names
    some; nothing where there is no such file.

    Raises:
        CheckpointError: it names other files, or holds something else than an object, or its model type, which
            transformers prints where another one is loaded, has control characters.
        AnnotationError: see `read_settings`.
        OSError: it cannot be read.
    """
    config = read_settings(file)
    # transformers goes through it, whatever it is.
    if config.get("configuration_files", []) != []:
        raise CheckpointError(
            f"{printable(os.fspath(file or ''))} names `configuration_files`; only {CONFIG} is read. Delete them."
        )
    if isinstance(kind := config.get("model_type"), str) and not kind.isprintable():
        raise CheckpointError(
            f"{printable(os.fspath(file or ''))} has the model type {printable(repr(kind), limit=100)}, which no "
            "model has. Get the checkpoint again."
        )
    return config


def check_headers(paths: Iterable[str | os.PathLike[str]], *, may_be_quantized: bool = True) -> dict[str, list[str]]:
    """Refuse safetensors files whose headers are together longer than `MAX_HEADER_BYTES`, or that give a tensor a name
    of more than `LONGEST_NAME` characters or a shape of more than `MOST_AXES`, or describe one in a form that no
    writer does, or have torchao describe more than `MOST_QUANTIZED` tensors in all. What is not one at all is left to
    the library's own error.

    Args:
        paths: the files.
        may_be_quantized: whether types may stand for other numbers, which transformers takes as they are where no
            configuration says so.

    Returns:
        The names of the tensors in each file that is one.

    Raises:
        CheckpointError: they are, or do; or a quantized tensor has parts that would multiply it.
        OSError: a file cannot be read.
    """
    found: dict[str, list[str]] = {}
    parts: dict[str, Any] = {}
    total = quantized = 0
    for path in paths:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > os.path.getsize(path):
                continue
            total += size
            if total > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{printable(os.fspath(path))} and what comes before it have {total} bytes of names, shapes and "
                    f"metadata; at most {MAX_HEADER_BYTES} are read. Save the weights without what is not the model's."
                )
            header = file.read(size)
        try:
            tensors = json.loads(header.decode())
        except (ValueError, RecursionError):
            continue
        if not isinstance(tensors, dict):
            continue
        longest = max(map(len, tensors), default=0)
        if longest > LONGEST_NAME:
            raise CheckpointError(
                f"{printable(os.fspath(path))} has a tensor whose name has {longest} characters; no model's has more "
                f"than {LONGEST_NAME}."
            )
        described = tensors.get("__metadata__")
        entries = {name: entry for name, entry in tensors.items() if name != "__metadata__"}
        if (other := next((name for name, entry in entries.items() if not _is_entry(entry)), None)) is not None:
            raise CheckpointError(
                f"{printable(os.fspath(path))} describes {printable(other)} as "
                f"{printable(repr(entries[other]), limit=100)}; an object with a text `dtype` and a list `shape` is "
                "read. Get the checkpoint again."
            )
        if (axes := max((len(entry["shape"]) for entry in entries.values()), default=0)) > MOST_AXES:
            raise CheckpointError(
                f"{printable(os.fspath(path))} has a tensor of {axes} axes; no model's has more than {MOST_AXES}."
            )
        if not may_be_quantized:
            refuse_quantized({name: entry["dtype"] for name, entry in entries.items()})
        else:
            if isinstance(described, dict):
                quantized += _count_quantized(described, path)
            parts |= {
                name: entry["shape"] for name, entry in entries.items() if name.rpartition(".")[2].startswith("_")
            }
        if quantized > MOST_QUANTIZED:
            raise CheckpointError(
                f"{printable(os.fspath(path))} and what comes before it describe {quantized} quantized tensors; at "
                f"most {MOST_QUANTIZED} are read."
            )
        found[os.fspath(path)] = list(entries)
    _refuse_other_parts(parts)
    return found


def _is_entry(value: Any) -> bool:
    """Whether a tensor is described as every writer does; the library takes lists of the same values as well, and an
    object of a type."""
    return isinstance(value, dict) and isinstance(value.get("dtype"), str) and isinstance(value.get("shape"), list)


def _refuse_other_parts(shapes: Mapping[str, Any]) -> None:
    """Raise where what torchao stores of a tensor beside its numbers would multiply it, or what it is multiplied with.

    Args:
        shapes: of the parts of quantized tensors, by their names.
    """
    for name, shape in shapes.items():
        found = _PART.fullmatch(name)
        numbers = shapes.get(f"{found[1]}qdata") if found else None
        if not (
            isinstance(numbers, list)
            and isinstance(shape, list)
            and all(type(side) is int for side in (*numbers, *shape))
            and math.prod(shape) <= math.prod(numbers)
            # Beside numbers that are packed, of four axes, one of scales and zeros in pairs.
            and (len(shape) <= 2 or shape[2:] == [2] or shape is numbers)
        ):
            raise CheckpointError(
                f"{printable(name)} is of the shape {printable(repr(shape), limit=100)}, beside numbers of the shape "
                f"{printable(repr(numbers), limit=100)}; of a quantized tensor, {', '.join(QUANTIZED_PARTS)} are "
                "read, none larger than its numbers. Get the checkpoint without quantization."
            )


def refuse_other_shards(names: Mapping[str, Iterable[str]], weight_map: Mapping[str, str]) -> None:
    """Raise where a shard holds other tensors than its index gives to it: of two copies, either could be taken.

    Args:
        names: of the tensors in each shard, by its path.
        weight_map: see `shard_names`.

    Raises:
        CheckpointError: names the first such shard.
    """
    listed: dict[str, set[str]] = {}
    for tensor, owner in weight_map.items():
        listed.setdefault(owner, set()).add(tensor)
    for path, stored in names.items():
        if differing := sorted(listed.get(os.path.basename(path), set()).symmetric_difference(stored)):
            raise CheckpointError(
                f"{printable(path)} and its index disagree about: {listing(differing)}. The download may be "
                "incomplete, or the files belong to different checkpoints."
            )


def own_names(stored: Iterable[str], *, prefix: str, where: str | os.PathLike[str]) -> dict[str, str]:
    """The name within the base model -> the stored name; transformers reads a base model's weights with and without
    its prefix.

    Args:
        stored: names of tensors in a checkpoint's files.
        prefix: that of the base model's weights within a model with a head.
        where: the file or folder, for the error.

    Raises:
        CheckpointError: two names are of one tensor, so that one reader would take the one, and another the other.
    """
    # transformers takes away the prefix that a name has once too often, with any character for its dot, and reads a
    # tower's name that stands there twice as once.
    in_front = re.compile(f"(?:{re.escape(prefix[:-1])}.)+")
    found: dict[str, str] = {}
    for name in stored:
        tensor = REPEATED.sub(r"\1", name[match.end() :] if (match := in_front.match(name)) else name)
        if tensor in found:
            first, second = (printable(each, limit=200) for each in (found[tensor], name))
            raise CheckpointError(
                f"{printable(os.fspath(where))} has {printable(tensor, limit=200)} twice, as {first} and as {second}. "
                "Get the whole checkpoint."
            )
        found[tensor] = name
    return {name.removeprefix(prefix): name for name in found.values()}


def refuse_quantized(types: Mapping[str, str]) -> None:
    """Raise for types in which no weights are stored as they are.

    Args:
        types: by the name of a tensor, its type in the words of safetensors.

    Raises:
        CheckpointError: names the first of another type.
    """
    for name, kind in types.items():
        allowed = BUFFERS if WHOLE_NUMBERS.search(name) else FLOATS
        if kind not in allowed:
            raise CheckpointError(
                f"{printable(name)} is stored as {printable(kind, limit=50)}, but its configuration names no "
                f"quantization; without it, {', '.join(allowed)} are read. Get the whole checkpoint."
            )


def _count_quantized(metadata: Mapping[str, Any], path: str | os.PathLike[str]) -> int:
    """How many tensors torchao may take the metadata of a safetensors file to describe; that of all shards is one.

    Raises:
        CheckpointError: a name of one is none; of their last parts, transformers makes regular expressions.
    """
    if (other := next((name for name in metadata if not _TENSOR_NAME.fullmatch(name)), None)) is not None:
        raise CheckpointError(
            f"{printable(os.fspath(path))} describes a quantized tensor {printable(repr(other), limit=100)}; names "
            "with dots have letters, digits, blanks and `_:/-`."
        )
    names: Any = None
    with contextlib.suppress(TypeError, ValueError, RecursionError):  # What it does not take either.
        names = json.loads(metadata.get("tensor_names", ""))
    return max(len(metadata) - 1, len(names) if isinstance(names, list) else 0)


def inside(folder: Path, name: str) -> Path:
    """A file of the folder itself, which need not exist; links may lead to blobs of the same Hub cache entry.

    Raises:
        CheckpointError: it is not a plain name, a link leads elsewhere, or what is there is not a regular file.
    """
    if not re.fullmatch(r"[\w][\w.\- ]*", name) or len(name.encode()) > LONGEST_FILE_NAME:
        raise CheckpointError(
            f"{printable(str(folder))} names {printable(repr(name), limit=200)} as one of its files; only plain "
            "file names are allowed."
        )
    return _own_file(folder / name)


def _own_file(path: Path) -> Path:
    _refuse_elsewhere(path)
    if os.path.lexists(path) and not path.is_file():
        raise CheckpointError(f"{printable(str(path))} is not a regular file.")
    return path


def _refuse_elsewhere(path: Path) -> None:
    folder = path.parent.resolve()
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # of links in a circle, until Python 3.13
        raise CheckpointError(f"{printable(str(path))} is a link that leads nowhere.") from error
    if resolved.parent not in (folder, blobs_of_snapshot(folder)):
        raise CheckpointError(
            f"{printable(str(path))} is a link to {printable(str(resolved))}, outside of the checkpoint's folder. Put "
            "what is there in its place."
        )


def shard_names(index: Path) -> Mapping[str, str]:
    """Tensor -> file, of an index of shards.

    Raises:
        CheckpointError: it is not such an index, or names a file that is not one of its folder, or more than
            `MOST_SHARDS`.
    """
    from .processing.text_files import AnnotationError, read_json

    try:
        content = read_json(index)
    except (AnnotationError, OSError) as error:
        raise CheckpointError(str(error)) from error
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(
            f"{printable(str(index))} is not an index of shards: its weight_map must give a file to each tensor."
        )
    shards = set(names.values())
    if len(shards) > MOST_SHARDS:
        raise CheckpointError(f"{printable(str(index))} names {len(shards)} files; at most {MOST_SHARDS} are read.")
    for name in shards:
        inside(index.parent, name)
    return names
