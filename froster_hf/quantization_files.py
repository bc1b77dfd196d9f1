"""What a checkpoint may say of its quantization.

transformers hands `quantization_config` of a `config.json` to the library that it names. Some fetch kernels. torchao's
`config_from_dict` calls whatever a file names of its modules and of torch's, with the file's arguments, and names of
modules are compared as regular expressions: so only what the configurations themselves write is let through.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .printing import printable

QUANTIZERS = ("torchao",)
"""Methods of quantization that fetch nothing, and compute with stored numbers in code that looks at their shapes.

bitsandbytes asks the Hub for kernels where it finds `kernels` installed, and its own read beyond what is stored.
"""

# Methods that models' own `from_pretrained` reads as well, whose settings are checked at every door. Others compare
# expressions of the file with the names of all modules, or take what it says for sizes.
CHECKED = (*QUANTIZERS, "bitsandbytes")

# torchao's own, by the names that it stores.
TORCHAO_CONFIGS = (
    "Int8WeightOnlyConfig",
    "Int8DynamicActivationInt8WeightConfig",
    "Int4WeightOnlyConfig",
    "IntxWeightOnlyConfig",
    "Int8DynamicActivationIntxWeightConfig",
    "Float8WeightOnlyConfig",
    "Float8DynamicActivationFloat8WeightConfig",
)
# What those are made of.
TORCHAO_PARTS = (
    *("PerRow", "PerTensor", "PerGroup", "PerAxis", "MappingType", "KernelPreference", "Float8MMConfig"),
    *("Int4PackingFormat", "Int4ChooseQParamsAlgorithm", "Float8PackingFormat", "torch.dtype"),
    *("IntxPackingFormat", "IntxChooseQParamsAlgorithm"),
)
_DTYPE = re.compile(r"b?float\d+(_\w+)?|u?int\d+")
_MEMBER = re.compile(r"[A-Z][A-Z0-9_]*")
_WORD = re.compile(r"\w{1,64}")
_MODULE = re.compile(r"[\w.]{1,200}")
_MOST_MODULES = 1000


def refuse_other_quantizers(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse methods of quantization that may fetch code.

    Args:
        config: content of a `config.json`; its towers are looked into as well.
        where: the checkpoint, for messages.

    Raises:
        ValueError: the model is quantized by none of `QUANTIZERS`.
    """
    for stated in _quantizations_of(config):
        method = stated.get("quant_method") if isinstance(stated, dict) else stated
        if not isinstance(stated, dict) or method not in QUANTIZERS:
            if_trusted = ", or, if you trust its kernels, load it with `from_pretrained` yourself"
            raise ValueError(
                f"{printable(where)} is quantized by {printable(repr(method), limit=100)}, which may run code from "
                f"the Hub; {' and '.join(QUANTIZERS)}, with its settings, runs installed code only. Get the "
                f"checkpoint without quantization{if_trusted if method in CHECKED else ''}."
            )


def check_quantization(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse methods other than `CHECKED`, and what none of their configurations writes, before a library reads it.

    Args:
        config: content of a `config.json`; its towers are looked into as well.
        where: the checkpoint, for messages.

    Raises:
        ValueError: it is not an object, its method is another one, or a value is one that its method does not write.
    """
    for stated in _quantizations_of(config):
        if not isinstance(stated, dict):
            raise ValueError(
                f"{printable(where)}: its quantization is {printable(repr(stated), limit=200)}; it has to be an "
                "object. Get the checkpoint without quantization."
            )
        method = stated.get("quant_method")
        if method not in CHECKED:
            raise ValueError(
                f"{printable(where)} is quantized by {printable(repr(method), limit=100)}; models are read that "
                f"{' or '.join(CHECKED)} quantized. Get the checkpoint without quantization."
            )
        if method == "bitsandbytes" and not (stated.get("load_in_8bit") or stated.get("load_in_4bit")):
            # transformers passes it over, and would read stored integers as the weights themselves.
            raise ValueError(
                f"{printable(where)}: its quantization has neither load_in_8bit nor load_in_4bit, with which "
                "bitsandbytes quantizes nothing. Get the checkpoint without quantization."
            )
        for name, value in stated.items():
            if not _is_known(name, value):
                raise ValueError(
                    f"{printable(where)}: {printable(repr(name), limit=100)} of its quantization is "
                    f"{printable(repr(value), limit=200)}, which {method} does not write for the "
                    f"kinds that are read ({', '.join(TORCHAO_CONFIGS)}, and those of bitsandbytes). Get the "
                    "checkpoint without quantization."
                )


def _quantizations_of(config: Any) -> Iterator[Any]:
    """What a configuration states of quantization, of the model and of its towers."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            stated = value.get("quantization_config")
            if stated is not None:
                yield stated
            pending += value.values()


def _is_known(name: str, value: Any) -> bool:
    if name == "quant_type":
        return isinstance(value, dict) and list(value) == ["default"] and _is_config(value["default"])
    if name.endswith(("dtype", "storage")):
        return value is None or (isinstance(value, str) and _DTYPE.fullmatch(value) is not None)
    if isinstance(value, list):
        return len(value) <= _MOST_MODULES and all(
            isinstance(module, str) and _MODULE.fullmatch(module) for module in value
        )
    return _is_number(value) or (isinstance(value, str) and _WORD.fullmatch(value) is not None)


def _is_number(value: Any) -> bool:
    """Whether it is a number, a flag, or none."""
    return value is None or isinstance(value, (bool, int, float))


def _is_config(value: Any) -> bool:
    data = _data_of(value, TORCHAO_CONFIGS)
    return isinstance(data, dict) and all(
        all(map(_is_part, field)) if isinstance(field, list) else _is_part(field) for field in data.values()
    )


def _is_part(value: Any) -> bool:
    """Whether it is a number, a type of numbers, a member of an enumeration, or an object of numbers."""
    if _is_number(value):
        return True
    data = _data_of(value, TORCHAO_PARTS)
    if isinstance(data, str):
        return (_DTYPE if value["_type"] == "torch.dtype" else _MEMBER).fullmatch(data) is not None
    return isinstance(data, dict) and all(map(_is_number, data.values()))


def _data_of(value: Any, types: tuple[str, ...]) -> Any:
    """What an object of one of these types holds; None of any other."""
    if isinstance(value, dict) and value.keys() <= {"_type", "_version", "_data"} and value.get("_type") in types:
        return value.get("_data") if _is_number(value.get("_version")) else None
    return None
