"""What the rest of the conversion needs to know of a code base."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .rows import CLIP, Part, Prefix, Row

if TYPE_CHECKING:
    from torch import Tensor

    from ...modeling.tables_froster import TemporalModule, TemporalPooling

Completion = Callable[[Mapping[str, "Tensor"], Mapping[str, "Tensor"]], tuple[dict[str, "Tensor"], list[str]]]


@dataclass(frozen=True, kw_only=True)
class LayoutEntry:
    """A code base whose checkpoints are converted.

    Args:
        title: its name for people.
        patch_embedding: the name of the vision tower's patch embedding, by which its checkpoints are told.
        is_it: what tells it from a layout with the same patch embedding, of the names of a state dict; where several
            say yes, the first one in the table counts.
        told_by: a section of its files, also an empty one, that tells it from such a layout.
        prefixes: of its names; the first that fits decides, in both directions.
        clip: the rows of the two towers.
        poolings: the rows of temporal poolings that have weights, each known by its first row.
        projectors: the rows of distillation projectors.
        lacks: our names that its files do not hold, and where they come from instead.
        starts_with_start_token: tensors of embedded prompts in its files, each of which begins with the start token;
            they tell whether a token embedding is the right one.
        needs_config: whether only a folder with a `config.json` is converted.
        dropped: regular expressions of names that carry no weight of the model, and why each may be left out.
        unsupported: regular expressions of names that tell an architecture of this code base that this package does
            not have, and what it is.
        sections: sections of its files that hold weights, and the prefix that their names get here. Of those without
            a prefix in one file, the first counts.
        file_sections: for files that are written: section, prefix of the names that go there and lose it, prefix that
            they get. Without any, a file holds the names alone; `None` where such files are not written.
        complete: tensors that its code wants in a file besides, and what to say of them; takes the tensors under its
            names and under ours.
        temporal_module: what its published checkpoints have where their weights show no module.
        temporal_pooling: likewise.
        templates: the prompts that its published checkpoints were evaluated with.
        license: of its authors' weights, which are told by projectors or a teacher.
        notes: what to say of it, by the temporal module or pooling, or the empty text for always.
    """

    title: str
    patch_embedding: str
    is_it: Callable[[Set[str]], bool] = lambda names: True
    told_by: str | None = None
    prefixes: tuple[Prefix, ...]
    clip: tuple[Row, ...] = CLIP
    poolings: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    projectors: tuple[Row, ...] = ()
    lacks: Mapping[str, str] = field(default_factory=dict)
    starts_with_start_token: tuple[str, ...] = ()
    needs_config: bool = False
    dropped: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    file_sections: tuple[tuple[str, str, str], ...] | None = ()
    complete: Completion | None = None
    temporal_module: "TemporalModule" = "none"
    temporal_pooling: "TemporalPooling" = "mean"
    templates: Literal["froster", "actionclip", "none"] = "froster"
    license: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def has(self, part: Part) -> bool:
        """Whether its files have a place for tensors of this kind."""
        return any(prefix.part == part for prefix in self.prefixes)

    def names_of(self, part: Part) -> tuple[str, ...]:
        """The beginnings of its names of this kind."""
        return tuple(prefix.original for prefix in self.prefixes if prefix.part == part)
