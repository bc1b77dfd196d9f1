"""The code bases whose checkpoints are converted: a file and an entry each, here in one table.

A new one is a file with a [`LayoutEntry`], a line in `LAYOUTS`, and its name in the two `Literal`s that editors and
type checkers need. Nothing heavy is imported, so that `froster --help` knows the names without waiting for torch.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from ...printing import listing, printable
from .actionclip import ACTIONCLIP
from .entry import LayoutEntry
from .froster import FROSTER
from .openai import OPENAI
from .transformers import TRANSFORMERS
from .vificlip import VIFICLIP

Layout = Literal["froster", "openai", "actionclip", "vificlip", "transformers"]
"""Whose names a state dict has."""

OriginalLayout = Literal["froster", "openai", "actionclip", "vificlip"]
"""Those that are written, too."""

LAYOUTS: dict[str, LayoutEntry] = {
    "froster": FROSTER,
    "openai": OPENAI,
    "actionclip": ACTIONCLIP,
    "vificlip": VIFICLIP,
    "transformers": TRANSFORMERS,
}

ANY_DROPPED = {r"n_averaged": "the number of checkpoints that were averaged"}
ANY_UNSUPPORTED = {
    r"(model\.|image_encoder\.)?(visual\.)?layer1\.0\.conv1\.weight": (
        "has a ResNet image tower; only CLIP's vision transformers can be converted"
    ),
    r".*\.(experts_head|experts_tail|routing\d)\..*": "has mixture-of-experts layers, which this package lacks",
}
"""Names that may be found in files of every code base."""


def written_layouts() -> tuple[str, ...]:
    """Names of the layouts that files are written in."""
    return tuple(name for name, entry in LAYOUTS.items() if entry.file_sections is not None)


if get_args(Layout) != tuple(LAYOUTS) or get_args(OriginalLayout) != written_layouts():
    raise TypeError("The names in `Layout` and `OriginalLayout` are not those of `LAYOUTS`.")


def find_layout(name: str) -> LayoutEntry:
    """An entry of the table.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in LAYOUTS:
        raise ValueError(f"The layout {printable(repr(name))} is unknown; known are {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]


def recognize_layout(names: Iterable[str]) -> str:
    """The layout that the names of a state dict belong to.

    Args:
        names: without an enclosing section of the file, and without what PyTorch's wrappers put before names.

    Raises:
        ValueError: the names belong to no layout that can be converted; the message says what was found.
    """
    names = set(names)
    patterns = {**ANY_UNSUPPORTED}
    for entry in LAYOUTS.values():
        patterns |= entry.unsupported
    for pattern, reason in patterns.items():
        match = next((name for name in sorted(names) if re.fullmatch(pattern, name)), None)
        if match:
            raise ValueError(f"The checkpoint cannot be converted: it {reason} (told by the name {printable(match)}).")
    # Those that are recognized by more than the patch embedding come first.
    found = [name for name, entry in LAYOUTS.items() if entry.patch_embedding in names and entry.is_it(names)]
    if found:
        return max(found, key=lambda name: LAYOUTS[name].told_by is not None)
    prefixes = sorted({name.split(".")[0] for name in names})[:8]
    embeddings = list(dict.fromkeys(entry.patch_embedding for entry in LAYOUTS.values()))
    raise ValueError(
        f"The layout of the checkpoint is unknown: {len(names)} tensors, with names beginning with "
        f"{listing(prefixes) or 'nothing'}. The known layouts ({', '.join(LAYOUTS)}) have a patch embedding named "
        f"{', '.join(embeddings[:-1])} or {embeddings[-1]}."
    )


def told_by_section(layout: str, sections: Iterable[str]) -> str:
    """The layout of a file whose names are those of `layout`, by its empty sections."""
    same = LAYOUTS[layout].patch_embedding
    sections = set(sections)
    for name, entry in LAYOUTS.items():
        if entry.patch_embedding == same and entry.told_by in sections:
            return name
    return layout


def refuse_unread_sections(other: Mapping[str, str]) -> None:
    """Refuse a section that tells a layout and holds something else than tensors by their names: the model would be
    taken for the one whose section is empty.

    Args:
        other: what is found in a file besides tensors, in words.

    Raises:
        ValueError: names the first.
    """
    telling = {entry.told_by for entry in LAYOUTS.values()} - {None}
    for name, found in other.items():
        is_whole = "/" not in name
        if name.split("/")[0] in telling and not (is_whole and found in ("dict of 0", "OrderedDict of 0")):
            raise ValueError(
                f"The checkpoint cannot be converted: {printable(name, limit=200)} is {printable(found)}; this "
                "section has to hold tensors by their names, or nothing."
            )


def dropped_names() -> dict[str, str]:
    """Regular expressions of original names that carry no weight of the model, and why each may be left out."""
    found = dict(ANY_DROPPED)
    for entry in LAYOUTS.values():
        found |= entry.dropped
    return found


def weight_sections() -> dict[str, str]:
    """Sections of a file that hold weights, and the prefix that their names get here."""
    found: dict[str, str] = {}
    for entry in LAYOUTS.values():
        found |= entry.sections
    return found
