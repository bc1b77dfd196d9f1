"""State dicts renamed and reshaped between the original layouts and `FrosterModel`, losslessly in both directions.

No file, no configuration and no model is touched here: names and tensors go in, names and tensors come out. A value is
never computed, only split, stacked, transposed or viewed, so the way there and back is bit-equal in every dtype.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..printing import listing, printable
from .layouts import LayoutEntry, dropped_names, find_layout, recognize_layout
from .layouts.entry import CLIP, MODULE_ROWS, Operation, Part, Row


@dataclass
class ConvertedStateDict:
    """Weights under the names of `FrosterModel`, and an account of every original tensor.

    Attributes:
        layout: the layout that was read.
        model: what the model needs at inference.
        projectors: FROSTER's distillation projectors, `distillation_projectors.*`; empty where the source has none.
        teacher: the frozen teacher (`raw_model.*`) under CLIP's names; empty where the source has none.
        temporal_module: the module whose weights were found. `None` where there are none, which is so for plain CLIP
            and for every parameter-free module alike: names cannot tell these apart.
        temporal_pooling: the pooling whose weights were found, or `None`.
        dropped: original names that carry no weight of the model, each with the reason.
        unused: original names that no table knows; always empty with `strict=True`.
    """

    layout: str
    model: dict[str, Tensor]
    projectors: dict[str, Tensor] = field(default_factory=dict)
    teacher: dict[str, Tensor] = field(default_factory=dict)
    temporal_module: str | None = None
    temporal_pooling: str | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def convert_state_dict(
    original: Mapping[str, Tensor], *, layout: str | None = None, strict: bool = True
) -> ConvertedStateDict:
    """Rename and reshape an original state dict to the names of `FrosterModel`.

    Args:
        original: tensors under their original names; ActionCLIP's temporal head under `fusion_model.`.
        layout: recognized from the names where it is `None`.
        strict: whether a name that no table knows is an error. If not, it is listed in `unused`.

    Returns:
        The weights in the dtypes of the source, and an account of every name. ViFi-CLIP's files hold no token
        embedding: `text_model.embeddings.token_embedding.weight` is absent there and has to come from its CLIP.

    Raises:
        ValueError: a tensor that the layout must have is missing, a layer number is skipped, a tensor does not have
            the axes that its row needs, or (`strict`) a name is unknown.
    """
    layout = layout or recognize_layout(original)
    entry = find_layout(layout)
    names = _by_part(original, entry)
    module = _first_present(MODULE_ROWS, names["model"])
    pooling = _first_present(entry.poolings, names["pooling"])
    rows: dict[Part, Sequence[Row]] = {
        "model": [row for row in entry.clip if row.ours not in entry.lacks] + list(MODULE_ROWS.get(module or "", ())),
        "pooling": entry.poolings.get(pooling or "", ()),
        "teacher": CLIP if names["teacher"] else (),
        "projectors": entry.projectors if names["projectors"] else (),
    }
    tensors: dict[Part, dict[str, Tensor]] = {}
    used: set[str] = set()
    missing: list[str] = []
    for part, part_names in names.items():
        tensors[part] = {}
        for pair in _expand(rows[part], [row.original for row in rows[part]], part_names):
            if pair.original not in part_names:
                missing.append(_full_name(pair.original, part, entry))
                continue
            source = part_names[pair.original]
            used.add(source)
            tensors[part].update(zip(pair.ours, _forward(original[source], pair.operation, source)))
    if missing:
        raise ValueError(
            f"The checkpoint ({layout} layout) lacks {len(missing)} tensors that the others call for: "
            f"{listing(missing)}."
        )
    dropped, unused = _account([name for name in original if name not in used])
    if strict and unused:
        raise ValueError(
            f"The checkpoint ({layout} layout) has {len(unused)} tensors that this package does not know: "
            f"{listing(unused)}. They may matter to the model's output. To leave them out: "
            "`--allow-unused`, `strict=False`."
        )
    return ConvertedStateDict(
        layout=layout,
        model=tensors["model"] | tensors["pooling"],
        projectors=tensors["projectors"],
        teacher=tensors["teacher"],
        temporal_module=module,
        temporal_pooling=pooling,
        dropped=dropped,
        unused=unused,
    )


def export_state_dict(converted: ConvertedStateDict, *, layout: str | None = None) -> dict[str, Tensor]:
    """The way back: tensors of `FrosterModel` under the names, and in the shapes, of an original layout.

    Args:
        converted: whose `model`, `projectors` and `teacher` are exported; its other fields are not read.
        layout: the layout to write; the one that `converted` came from where it is `None`.

    Returns:
        Every tensor of the original state dict, bit-equal, but for those that were dropped.

    Raises:
        ValueError: a tensor has no name in that layout (a temporal module, say, that its code base does not have).
    """
    layout = layout or converted.layout
    entry = find_layout(layout)
    # Our names say which module and which pooling it is, so the rows of all of them can stand side by side.
    modules = [row for rows in MODULE_ROWS.values() for row in rows]
    poolings = [row for rows in entry.poolings.values() for row in rows]
    is_pooling = {name: name.startswith("temporal_pooling.") for name in converted.model}
    parts: dict[Part, tuple[Mapping[str, Tensor], Sequence[Row]]] = {
        "model": ({n: t for n, t in converted.model.items() if not is_pooling[n]}, [*entry.clip, *modules]),
        "pooling": ({n: t for n, t in converted.model.items() if is_pooling[n]}, poolings),
        "teacher": (converted.teacher, CLIP),
        "projectors": (converted.projectors, entry.projectors),
    }
    exported: dict[str, Tensor] = {}
    unnamed: list[str] = []
    for part, (tensors, rows) in parts.items():
        left = set(tensors)
        for pair in _expand(rows, [row.ours for row in rows], tensors) if entry.has(part) else ():
            if all(name in tensors for name in pair.ours) and not left.isdisjoint(pair.ours):
                left.difference_update(pair.ours)
                exported[_full_name(pair.original, part, entry)] = (
                    _CHANGES[pair.operation].backward([tensors[name] for name in pair.ours]).contiguous()
                )
        unnamed += [name for name in tensors if name in left]
    if unnamed:
        raise ValueError(f"{len(unnamed)} tensors have no name in the {layout} layout: {listing(unnamed)}.")
    return exported


class _Pair(NamedTuple):
    """A row with its layer number and its three names filled in."""

    original: str
    ours: tuple[str, ...]
    operation: Operation


def _expand(rows: Sequence[Row], sided: Sequence[str], names: Iterable[str]) -> Iterable[_Pair]:
    """Fill the layer numbers in, counted on the side of `names` (original or ours), given by `sided`.

    Counting the distinct numbers, rather than believing the highest one, shows a skipped layer as missing tensors.
    """
    numbers: dict[str, set[int]] = {}
    stacks = {pattern.partition("{i}")[0] for pattern in sided if "{i}" in pattern}
    for name in names:
        for stack in stacks:
            digits = name.removeprefix(stack).partition(".")[0]
            if name.startswith(stack) and digits.isdecimal():
                numbers.setdefault(stack, set()).add(int(digits))
    for row, pattern in zip(rows, sided):
        stack, _, suffix = pattern.partition("{i}")
        for i in range(max(1, len(numbers.get(stack, ())))) if suffix else (0,):
            ours = row.ours.replace("{i}", str(i))
            triple = tuple(ours.replace("{qkv}", letter) for letter in "qkv")
            yield _Pair(row.original.replace("{i}", str(i)), triple if "{qkv}" in ours else (ours,), row.operation)


class _Change(NamedTuple):
    """An operation: which shapes it takes, the tensors of ours that an original one holds, and the way back."""

    fits: Callable[[tuple[int, ...]], bool]
    forward: Callable[[Tensor], Sequence[Tensor]]
    backward: Callable[[Sequence[Tensor]], Tensor]


_CHANGES: dict[Operation, _Change] = {
    "same": _Change(lambda shape: True, lambda t: [t], lambda ours: ours[0]),
    "transpose": _Change(lambda shape: len(shape) == 2, lambda t: [t.T], lambda ours: ours[0].T),
    "split_qkv": _Change(
        lambda shape: len(shape) > 0 and shape[0] % 3 == 0,
        # Clones: three views of one storage could not be saved as three tensors.
        lambda t: [third.clone() for third in t.chunk(3)],
        lambda ours: torch.cat(list(ours)),
    ),
    "drop_last_axis": _Change(
        lambda shape: len(shape) == 4 and shape[3] == 1, lambda t: [t[..., 0]], lambda ours: ours[0][..., None]
    ),
    "drop_last_two_axes": _Change(
        lambda shape: len(shape) == 4 and shape[2:] == (1, 1),
        lambda t: [t[..., 0, 0]],
        lambda ours: ours[0][..., None, None],
    ),
}


def _forward(tensor: Tensor, operation: Operation, name: str) -> list[Tensor]:
    """The tensors of ours that one original tensor holds."""
    change, shape = _CHANGES[operation], tuple(tensor.shape)
    if not change.fits(shape):
        raise ValueError(
            f"The tensor {printable(name)} has shape {shape}, which cannot be converted by {operation!r}."
        )
    return [part.contiguous() for part in change.forward(tensor)]


def _by_part(original: Iterable[str], entry: LayoutEntry) -> dict[Part, dict[str, str]]:
    """For each part, OpenAI's name of a tensor to its full original name; names under no known prefix are left out."""
    parts: dict[Part, dict[str, str]] = {"model": {}, "pooling": {}, "teacher": {}, "projectors": {}}
    for name in original:
        for prefix in entry.prefixes:
            if name.startswith(prefix.original):
                parts[prefix.part][prefix.common + name.removeprefix(prefix.original)] = name
                break
    return parts


def _full_name(common: str, part: Part, entry: LayoutEntry) -> str:
    """OpenAI's name to the layout's; the inverse of `_by_part`."""
    for prefix in entry.prefixes:
        if prefix.part == part and common.startswith(prefix.common):
            return prefix.original + common.removeprefix(prefix.common)
    raise ValueError(f"{entry.title} has no place for {common} ({part}).")


def _first_present(tables: Mapping[str, Sequence[Row]], names: Iterable[str]) -> str | None:
    """The first module or pooling of which the first row occurs among the names."""
    names = set(names)
    for kind, rows in tables.items():
        pattern = re.escape(rows[0].original).replace(r"\{i\}", r"\d+")
        if any(re.fullmatch(pattern, name) for name in names):
            return kind
    return None


def _account(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Names that were not converted: those with a reason, and the unknown ones."""
    dropped: dict[str, str] = {}
    unused: list[str] = []
    reasons = dropped_names()
    for name in names:
        reason = next((reason for pattern, reason in reasons.items() if re.fullmatch(pattern, name)), None)
        if reason:
            dropped[name] = reason
        else:
            unused.append(name)
    return dropped, unused
