"""Adapters of PEFT that somebody else made: their configuration is checked field by field before PEFT reads it.

An adapter is a folder or a repository with `adapter_config.json` and `adapter_model.safetensors`, a few megabytes
beside the checkpoint that it names. Some fields of the configuration name modules to import, start long computations
or are patterns that a matcher can be made to hang on; none of these is let through.
"""

import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .checkpoint_files import MAX_CONFIG_BYTES, check_checkpoint_files, check_headers, own_names
from .printing import counted, printable

PEFT_TYPES = ("IA3", "LOHA", "LOKR", "LORA")
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
# A branch, tag or commit. The Hub's client keeps it as the name of a file.
REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
# PEFT compares each name with each module of a model. A backbone of 24 and 12 layers has 216 linear modules.
MOST_NAMES = 1000
# These names PEFT compiles as expressions. Python keeps 512 of them; beyond, each is compiled again for each module,
# which takes minutes.
MOST_EXPRESSIONS = 450
EXPRESSIONS = ("rank_pattern", "alpha_pattern", "layers_pattern", "modules_to_save")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000


def _is_names(value: Any) -> bool:
    """Names of modules as a list, not as a pattern."""
    return isinstance(value, list) and all(_is_name(name) for name in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_revision(value: Any) -> bool:
    return isinstance(value, str) and REVISION.fullmatch(value) is not None


def _is_table(value: Any) -> bool:
    """Numbers of modules, which stand there by name, not by pattern."""
    return isinstance(value, dict) and all(_is_name(name) and _is_number(number) for name, number in value.items())


def _is_ranks(value: Any) -> bool:
    return _is_table(value) and all(map(_is_rank, value.values()))


def _is_layer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 4096


def _is_layers(value: Any) -> bool:
    return _is_layer(value) or (isinstance(value, list) and len(value) <= MOST_NAMES and all(map(_is_layer, value)))


# Field -> what its value has to be; null, too, where PEFT has nothing by itself. A field that does not stand here has
# to be nothing, or the value that PEFT gives it by itself. `use_dora` is not here: transformers does not find DoRA's
# magnitudes in the file, and goes on with those before the training.
FIELDS: dict[str, Callable[[Any], bool]] = {
    "base_model_name_or_path": _is_text,
    "revision": _is_revision,
    "peft_type": PEFT_TYPES.__contains__,
    "peft_version": _is_text,
    "task_type": _is_name,
    "auto_mapping": lambda value: isinstance(value, dict),  # read by PEFT's own Auto classes alone
    "inference_mode": _is_flag,
    "target_modules": lambda value: value == "all-linear" or _is_names(value),
    "exclude_modules": _is_names,
    "feedforward_modules": _is_names,
    "modules_to_save": _is_names,
    "layers_to_transform": _is_layers,
    "layers_pattern": lambda value: _is_name(value) or _is_names(value),
    "r": _is_rank,
    "alpha": _is_number,
    "lora_alpha": _is_number,
    "lora_dropout": _is_number,
    "rank_dropout": _is_number,
    "module_dropout": _is_number,
    "rank_pattern": _is_ranks,
    "alpha_pattern": _is_table,
    "bias": ("none", "all", "lora_only").__contains__,
    "fan_in_fan_out": _is_flag,
    "lora_bias": _is_flag,
    "use_rslora": _is_flag,
    "init_lora_weights": lambda value: _is_flag(value) or value == "gaussian",
    "init_ia3_weights": _is_flag,
    "init_weights": _is_flag,
    "decompose_both": _is_flag,
    "decompose_factor": _is_number,
    "use_effective_conv2d": _is_flag,
}


@dataclass(frozen=True)
class Adapter:
    """An adapter whose configuration has been checked.

    Args:
        name: its folder, or its name on the Hub.
        commit: of its repository, of which all of its files are taken; `None` for a folder.
        base: the checkpoint that it is for.
        base_revision: of the repository of the base; `None` is its main one.
        where: keywords of the loader that say where its files are, but the revision.
    """

    name: str
    commit: str | None
    base: str
    base_revision: str | None
    where: dict[str, Any]

    def file(self, name: str) -> str | None:
        """The path of one of its files; `None` where it has none of this name."""
        from transformers.utils import cached_file

        return cached_file(
            self.name,
            name,
            revision=self.commit,
            **self.where,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )

    def weights(self) -> str:
        """The file of its weights.

        Raises:
            ValueError: there is none, or it is refused by `check_headers`.
        """
        from transformers.utils import cached_file

        file = cached_file(
            self.name,
            "adapter_model.safetensors",
            revision=self.commit,
            **self.where,
            _raise_exceptions_for_missing_entries=False,
        )
        if file is None:
            raise ValueError(f"{printable(self.name)} is an adapter without an adapter_model.safetensors.")
        check_headers([file], may_be_quantized=False)
        return file


def read_adapter(checkpoint: str | os.PathLike[str], *, revision: str | None = None, **where: Any) -> Adapter | None:
    """The adapter in a folder or a repository, its configuration checked; `None` where there is none.

    Args:
        checkpoint: a folder, or a name on the Hub.
        revision: of the repository on the Hub, by default its main one.
        where: further keywords of the loader that say where the files are.

    Raises:
        ValueError: a field is not one that is let through, the folder holds a model as well, or files that are not its
            own (see `check_checkpoint_files`).
        ImportError: PEFT is not installed.
    """
    from transformers.utils import CONFIG_NAME, find_adapter_config_file, is_peft_available
    from transformers.utils.hub import extract_commit_hash

    name = os.fspath(checkpoint)
    check_checkpoint_files(name, subfolder=where.get("subfolder"))
    file = find_adapter_config_file(name, revision=revision, **where)
    if file is None:
        return None
    if os.path.getsize(file) > MAX_CONFIG_BYTES:
        raise ValueError(f"{printable(name)} has an adapter_config.json of more than {MAX_CONFIG_BYTES} bytes.")
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{printable(name)} has an adapter_config.json that cannot be read as JSON.") from error
    check_adapter_config(content, name)
    # What has been checked is what is loaded, also where the repository moves on meanwhile.
    commit = None if os.path.isdir(name) else extract_commit_hash(file, None)
    adapter = Adapter(name, commit, content["base_model_name_or_path"], content.get("revision") or None, where)
    if adapter.file(CONFIG_NAME) is not None:
        raise ValueError(
            f"{printable(name)} has an adapter_config.json beside a {CONFIG_NAME}: an adapter or a model? Keep "
            "the two in folders of their own."
        )
    if not is_peft_available():
        raise ImportError(f"{printable(name)} is an adapter; loading it needs PEFT: pip install froster-hf[lora]")
    return adapter


def check_adapter_config(content: Any, name: str) -> None:
    """Refuse a configuration with anything but plain settings of the kinds of adapters in `PEFT_TYPES`.

    Raises:
        ValueError: names the field, its value and what to do.
    """
    if not isinstance(content, dict) or not isinstance(content.get("peft_type"), str):
        raise ValueError(f"{printable(name)} has an adapter_config.json that names no `peft_type`.")
    if content["peft_type"] not in PEFT_TYPES or not content.get("base_model_name_or_path"):
        wrong = "base_model_name_or_path" if content["peft_type"] in PEFT_TYPES else "peft_type"
        _refuse(name, wrong, content.get(wrong))
    defaults = _defaults(content["peft_type"])
    for field, value in content.items():
        if field in FIELDS:
            try:
                accepted = FIELDS[field](value)
            except (TypeError, OverflowError):  # no hash, no comparison, no number that a float can be
                accepted = False
            # In the place of a number or a table, PEFT would compute with null.
            accepted |= value is None and any(defaults.get(field) is off for off in (None, False))
        else:
            is_default = field in defaults and type(value) is type(defaults[field]) and value == defaults[field]
            accepted = is_default or value is None or value is False or value in ({}, [])
        if not accepted:
            _refuse(name, field, value)
    _refuse_many_names(content, name)


def _refuse_many_names(content: dict[str, Any], name: str) -> None:
    """Refuse so many names of modules that PEFT would compare them with a model's modules for minutes."""
    counts = {field: len(value) for field, value in content.items() if isinstance(value, list | dict)}
    counts.pop("auto_mapping", None)
    for fields, most in ((EXPRESSIONS, MOST_EXPRESSIONS), (tuple(counts), MOST_NAMES)):
        named = {field: counts[field] for field in fields if counts.get(field)}
        if sum(named.values()) > most:
            raise ValueError(
                f"{printable(name)} has an adapter_config.json with {sum(named.values())} names of modules in "
                f"{', '.join(f'`{field}`' for field in named)}; at most {most} are let through. Merge the adapter "
                "into its model where it was trained, and save that."
            )


def check_adapter_weights(config: Any, adapter: Adapter) -> None:
    """Refuse an adapter whose file holds other tensors than its configuration describes, before memory is taken.

    transformers goes on without what is missing, which gives answers of something else than what was trained, and
    takes one of two tensors that are called as one.

    Args:
        config: of the model that the adapter is for.
        adapter: as it was read.

    Raises:
        ValueError: names the first of the tensors, or one that the file has twice; or the adapter has more numbers
            than its file has room for.
    """
    import torch
    from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model
    from safetensors import safe_open
    from transformers import AutoModel, AutoModelForVideoClassification
    from transformers.initialization import no_init_weights

    file = adapter.weights()
    with safe_open(file, "pt") as tensors:
        stored = _own_names(tensors.keys(), where=adapter.name)
    model_class: Any = AutoModelForVideoClassification if config.model_type == "froster" else AutoModel
    with torch.device("meta"), no_init_weights():
        model = model_class.from_config(config, attn_implementation="eager")
        peft_config = PeftConfig.from_pretrained(adapter.name, revision=adapter.commit, **adapter.where)
        inject_adapter_in_model(peft_config, model, low_cpu_mem_usage=True)
    described = get_peft_model_state_dict(model)
    count, size = sum(tensor.numel() for tensor in described.values()), os.path.getsize(file)
    if count > size:
        raise ValueError(
            f"{printable(adapter.name)}: adapter_config.json describes {count:,} numbers, but "
            f"adapter_model.safetensors has {size:,} bytes: the two do not belong together."
        )
    if differing := sorted(stored ^ _own_names(described, where=adapter.name)):
        first = printable(differing[0], limit=200)
        raise ValueError(
            f"{printable(adapter.name)} is an adapter that does not fit the model that it names: "
            f"{counted(len(differing), 'tensor')} of one of the two only, such as {first}."
        )


def _own_names(names: Iterable[str], *, where: str) -> set[str]:
    """Names of an adapter's tensors within a model without a head, whatever model they were saved from."""
    for prefix in ("base_model.model.", "froster."):
        names = own_names(names, prefix=prefix, where=where)
    return set(names)


@contextmanager
def without_peft_warnings() -> Iterator[None]:
    """Without what PEFT says of a configuration as it loads it, in that file's own words.

    It warns of settings that it ignores; whether the adapter is there as a whole, `check_adapter_weights` says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _defaults(peft_type: str) -> dict[str, Any]:
    """The values that PEFT's installed class for this type gives its fields."""
    try:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING as CLASSES
        from peft import PeftType
    except ImportError:  # read_adapter says so
        return {}
    return {field: entry.default for field, entry in CLASSES[PeftType(peft_type)].__dataclass_fields__.items()}


def _refuse(name: str, field: str, value: Any) -> None:
    raise ValueError(
        f"{printable(name)} has an adapter_config.json with `{printable(field, limit=100)}` "
        f"{printable(repr(value), limit=100)}, which is not let through: {', '.join(PEFT_TYPES)} with plain settings, "
        "and modules by name, are. Merge the adapter into its model where it was trained, and save that."
    )
