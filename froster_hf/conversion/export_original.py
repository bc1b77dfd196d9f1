"""The way back: a checkpoint folder of this package as a file that an original code base loads.

Weights are renamed and reshaped, never computed with, so that converting a file and exporting it gives the same bits.
"""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint_files import own_names, refuse_quantized
from ..checkpoint_loading import refuse_other_weights
from ..modeling.configuration_froster import FrosterConfig
from ..modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS, find_entry
from ..printing import one_line, printable, printable_lines
from ..weights_license import REPORT_FILE
from ..whole_files import prepare_file, write_errors, written_whole
from .architecture import UNSHOWN, state_unshown
from .convert import read_report
from .layouts import LayoutEntry, OriginalLayout, find_layout, written_layouts
from .pickle_worker import STATEMENT, TYPES
from .reading import RawCheckpoint, read_checkpoint
from .state_dicts import ConvertedStateDict, convert_state_dict, export_state_dict

PROJECTORS_PREFIX = "distillation_projectors."


@dataclass
class ExportReport:
    """An account of an export; `print(report)` shows it.

    Attributes:
        source: the folder that was exported.
        output: the file that was written.
        layout: whose names it has.
        num_tensors: tensors written.
        left_out: tensors of the folder that the layout has no place for, each with the reason.
        notes: what the reader should know besides.
    """

    source: str
    output: str
    layout: str
    num_tensors: int
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"source      {printable(self.source)}",
            f"written     {printable(self.output)}: {self.num_tensors} tensors in the layout of "
            f"{find_layout(self.layout).title}",
            f"left out    {len(self.left_out)} tensors",
            *(f"  {printable(name)}: {reason}" for name, reason in self.left_out.items()),
            *(f"note        {note}" for note in self.notes),
        ]
        return printable_lines(lines)


def write_original_checkpoint(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    layout: OriginalLayout = "froster",
    teacher: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a checkpoint of this package in an original layout.

    Args:
        checkpoint: a folder as `save_pretrained` and `convert_checkpoint` write it.
        output: the file to write with `torch.save`.
        layout: the code base that shall load it.
        teacher: a CLIP folder of transformers that becomes FROSTER's `raw_model.*`.
        overwrite: replace what is at `output`.

    Returns:
        What was written and left out. What no weight shows (the activation, heads, ...) is in the notes, and
        stated in the file for `convert_checkpoint`.

    Raises:
        ResultExistsError: `output` is taken, or has been taken meanwhile.
        CheckpointError: a folder cannot be read.
        ValueError: the checkpoint is not of this package, has other weights than its configuration describes (so may
            the teacher) or weights that the layout has no names for, or a teacher is given to a layout that has none.
    """
    target = Path(output)
    entry = find_layout(layout)
    if entry.file_sections is None:
        raise ValueError(f"Files of the {layout} layout are not written; those of {', '.join(written_layouts())} are.")
    if teacher is not None and not entry.has("teacher"):
        raise ValueError(f"The {layout} layout has no teacher; leave `teacher` out, or export to 'froster'.")
    prepare_file(target, overwrite=overwrite)
    with written_whole(target, overwrite=overwrite) as part:
        raw = read_checkpoint(checkpoint)
        conversion = read_report(Path(checkpoint) / REPORT_FILE)
        report = ExportReport(str(checkpoint), str(output), layout, 0)
        kind = (raw.config or {}).get("model_type")
        if kind != "froster":
            raise ValueError(f"{raw.path} is a checkpoint of type {printable(repr(kind))}, not of this package.")
        names = own_names(raw.tensors, prefix=f"{kind}.", where=raw.path)
        weights = {own: raw.tensors[name] for own, name in names.items()}
        unshown = state_unshown(_checked_config(raw, weights))
        original = _original(weights, report, entry=entry, teacher=teacher)
        report.notes.append(_untold(unshown))
        with write_errors(target):
            torch.save(_file(original, entry.file_sections), part)
            _add_statement(part, {**unshown, "license": None if conversion is None else conversion.get("license")})
    return report


def _checked_config(raw: RawCheckpoint, weights: Mapping[str, Tensor]) -> Any:
    """The configuration of a folder whose weights are all those that it describes.

    Of a file without a layer nothing tells that there was one.

    Args:
        raw: the folder.
        weights: its tensors, by their names within FROSTER's base model.

    Raises:
        ValueError: they are not, or there is no such configuration.
    """
    try:
        config = FrosterConfig.from_fields(raw.config or {})
        refuse_other_weights(config, {name: tensor.shape for name, tensor in weights.items()})
    except Exception as error:  # what a configuration with values of any type makes transformers raise
        reason = one_line(str(error), limit=500)
        raise ValueError(f"{raw.path} cannot be written in another layout: {reason}") from error
    return config


def _teacher_weights(teacher: str | os.PathLike[str]) -> dict[str, Tensor]:
    raw = read_checkpoint(teacher)
    weights = convert_state_dict(raw.tensors).model
    if raw.config is not None:
        _checked_config(raw, weights)
    return weights


def _original(
    weights: dict[str, Tensor], report: ExportReport, *, entry: LayoutEntry, teacher: str | os.PathLike[str] | None
) -> dict[str, Tensor]:
    """The weights under the layout's names; what there is to say of them goes into the report."""
    projectors = {name: weights.pop(name) for name in list(weights) if name.startswith(PROJECTORS_PREFIX)}
    _leave_out(weights, "label_embeds", "a label bank; prompts are encoded again", report)
    for name, reason in entry.lacks.items():
        _leave_out(weights, name, reason, report)
    if not entry.has("projectors"):
        report.left_out |= dict.fromkeys(projectors, f"{entry.title} has no projectors")
        projectors = {}
    teacher_weights = {} if teacher is None else _teacher_weights(teacher)
    converted = ConvertedStateDict(report.layout, weights, projectors=projectors, teacher=teacher_weights)
    for part in (weights, projectors, teacher_weights):
        refuse_quantized({name: TYPES.get(tensor.dtype, str(tensor.dtype)) for name, tensor in part.items()})
    original = export_state_dict(converted)
    if entry.complete is not None:
        added, notes = entry.complete(original, weights)
        original |= added
        report.notes += notes
    report.num_tensors = len(original)
    return original


def _leave_out(weights: dict[str, Tensor], name: str, reason: str, report: ExportReport) -> None:
    if weights.pop(name, None) is not None:
        report.left_out[name] = reason


def _file(original: Mapping[str, Tensor], file_sections: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Put the weights into the sections of the layout's files."""
    if not file_sections:
        return dict(original)
    sections: dict[str, Any] = {section: {} for section, _, _ in file_sections}
    for name, tensor in original.items():
        section, prefix, wrapper = next(row for row in file_sections if name.startswith(row[1]))
        sections[section][wrapper + name.removeprefix(prefix)] = tensor
    return sections


def _add_statement(file: Path, stated: Mapping[str, object]) -> None:
    """Add what no weight shows, and the license, to a file of `torch.save`; code bases pass over the added member."""
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/{STATEMENT}", json.dumps(stated))


def _untold(unshown: Mapping[str, object]) -> str:
    """What the original's own configuration has to say, since its file format has no place for it."""
    fields_read = set()
    for table, name in ((TEMPORAL_MODULES, "temporal_module"), (TEMPORAL_POOLINGS, "temporal_pooling")):
        fields_read.update(find_entry(name, unshown[name], table).fields)
    told = []
    for option, fields in UNSHOWN.items():
        values = [unshown[field] for field in fields]
        is_read = option not in ("temporal_radius", "pooling_heads") or fields[0] in fields_read
        if is_read and values[0] is not None:
            told.append(f"{option} {' and '.join(dict.fromkeys(map(repr, values)))}")
    return (
        f"To the code that loads the file, its weights do not say: {', '.join(told)}. Set these in that code's own "
        "configuration; `froster convert` reads them from the file."
    )
