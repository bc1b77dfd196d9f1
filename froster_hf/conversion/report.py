"""What a conversion did, for people and for machines."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..printing import json_text, listing, printable, printable_lines
from ..processing.text_files import read_json
from .architecture import Setting
from .layouts import find_layout

REPORT_FILE = "conversion.json"
SHOWN = 4
MAX_REPORT_BYTES = 64 << 20


@dataclass
class ConversionReport:
    """An account of a conversion; `print(report)` shows it, `conversion.json` has all of it.

    Attributes:
        source: what was converted, as it was given.
        output: the folder that was written.
        format: how the source is stored: `pickle`, `torchscript`, `safetensors`, `transformers`.
        layout: whose names it has.
        sha256: of the source's bytes.
        wrapping: the section of the file and the prefix that the weights were found under; empty for none.
        num_tensors: tensors written.
        num_parameters: numbers in them.
        dtypes: tensors written by dtype.
        settings: every field of the configuration with its origin.
        license: of the weights, where the source shows it: FROSTER's own files do, by their projectors or teacher.
        left_out: tensors of the source that are not in the output, each with the reason.
        other: entries of the source that are no tensors, and what they are.
        unused: names that nobody knows; always empty with `strict=True`.
        notes: what the reader should know besides.
    """

    source: str
    output: str
    format: str
    layout: str
    sha256: str
    wrapping: str
    num_tensors: int
    num_parameters: int
    dtypes: dict[str, int]
    settings: list[Setting]
    license: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        dtypes = ", ".join(f"{count} in {dtype}" for dtype, count in self.dtypes.items())
        where = f", {self.wrapping}" if self.wrapping else ""
        lines = [
            f"source      {printable(self.source)} ({self.format}, sha256 {self.sha256[:16]})",
            f"recognised  {find_layout(self.layout).title}{where}",
            f"written     {printable(self.output)}: {self.num_tensors} tensors ({dtypes}), "
            f"{self.num_parameters:,} numbers",
            "settings",
        ]
        lines += [f"  {s.name:17} {printable(str(s.value))}  [{s.origin}]" for s in self.settings]
        if self.license is not None:
            lines.append(f"licence     {printable(self.license)}")
        lines.append(f"left out    {len(self.left_out)} tensors")
        for reason in dict.fromkeys(self.left_out.values()):
            names = [name for name, why in self.left_out.items() if why == reason]
            rest = f", ... (all in {REPORT_FILE})" if len(names) > SHOWN else ""
            lines.append(f"  {len(names):3} {listing(names[:SHOWN])}{rest}: {reason}")
        lines.append(f"no tensors  {listing(f'{name} ({what})' for name, what in self.other.items()) or 'none'}")
        lines.append(f"unused      {len(self.unused)} tensors")
        lines += [f"    {printable(name)}" for name in self.unused]
        lines += [f"note        {note}" for note in self.notes]
        return printable_lines(lines)

    def save(self, folder: Path) -> None:
        """Write `conversion.json` beside the weights."""
        text = json_text(asdict(self), indent=2, default=str)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")


def read_report(path: Path) -> Mapping[str, Any] | None:
    """The report that `froster convert` left beside the weights; `None` where there is none.

    Args:
        path: of the file.

    Raises:
        ValueError: the file is there, but is no such report.
    """
    if not path.is_file():
        return None
    report = read_json(path, max_bytes=MAX_REPORT_BYTES)
    kinds = {"source": str, "layout": str, "sha256": str, "left_out": dict, "license": str | None}
    if not isinstance(report, dict) or not all(
        isinstance(report.get(name), kind) and (name in report or name == "license") for name, kind in kinds.items()
    ):
        raise ValueError(f"{path} is not a report of `froster convert`.")
    return report
