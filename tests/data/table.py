"""The tables of docs/data_sets.md: `python -m tests.data.table` writes them again."""

from pathlib import Path

from froster_hf.data.catalogue import DATASETS, FORMATS, published_counts
from froster_hf.processing.label_files import SHIPPED_DESCRIPTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "data_sets.md"

INTRODUCTION = """\
# Data sets

What training (`data.format`, `data.published`) and evaluation (`dataset` of a protocol) read. The tables are those of
`froster_hf/data/catalogue.py`, written by `python -m tests.data.table`. The files are the user's own; none is shipped.
"""

FORMAT_NOTES = """\
## Formats

Lists and label files are UTF-8. What a list is (delimiter, header, quotes) is decided once for the file, a line that
does not fit is an error that names it, and listed files that are not there are refused, dropped or kept (`missing`).
Paths stay under the folder of the videos; links may lead out of it with `allow_links`, and those of the Hub's cache
may lead to its blobs.
"""

DATASET_NOTES = """\
## Data sets

Counts are compared with the published ones wherever there are any. Where sentences ship, one per class, their name is
for `froster evaluate --descriptions` and for `data.descriptions` of a recipe; [more](guides/descriptions.md). Copies
on the Hub are other people's; whether they are whole has not been checked here.
"""


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def render() -> str:
    """The document."""
    formats = [
        [f"`{name}`", known.files, ", ".join(f"`{field}`" for field in ("root", *known.needs))]
        for name, known in FORMATS.items()
    ]
    rows = [
        [
            f"`{name}`",
            dataset.title,
            f"`{dataset.format}`",
            ", ".join(protocol.replace("_", "-") for protocol in dataset.plans),
            ", ".join(f"`{part}`" for part in published_counts().get(name, {})) or "none",
            f"`{name}`" if name in SHIPPED_DESCRIPTIONS else "none",
            ", ".join(f"`{copy}`" for copy in dataset.hub_copies) or "none known",
        ]
        for name, dataset in DATASETS.items()
    ]
    header = ["name", "data set", "format", "protocols", "published counts", "sentences", "copies on the Hub"]
    return "\n".join(
        [
            INTRODUCTION,
            FORMAT_NOTES,
            *_table(["format", "what the user gives", "fields"], formats),
            "",
            DATASET_NOTES,
            *_table(header, rows),
            "",
        ]
    )


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
