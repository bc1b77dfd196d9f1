"""The tables of docs/temporal.md: `python -m tests.modeling.table` writes them again."""

from pathlib import Path

from froster_hf.modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS

DOCUMENT = Path(__file__).parents[2] / "docs" / "temporal.md"

INTRODUCTION = """\
# Temporal modules and poolings

What lets the frames of a clip see each other inside the vision tower of CLIP or another
[backbone](guides/backbones.md) (`temporal_module=`), and how the frame embeddings become one video embedding
(`temporal_pooling=`); both are arguments of `from_clip` and `from_dual_encoder`, and fields of `FrosterConfig`. The
tables are those of `froster_hf/modeling/tables_froster.py`, written by `python -m tests.modeling.table`; tests hold
every cell against what the models do.

A module or pooling that is symmetric in time gives a clip and the same clip played backwards the same frame embeddings
or video embedding. Where both are symmetric, the scores are the same too, and the model card says so.
"""

MODULES = """\
## Modules
"""

POOLINGS = """\
## Poolings
"""

NOTES = """\
"Tied" modules and poolings have parameters for `num_frames` frames and take no other number. Adapters are as wide as
the papers have them unless `adapter_size` says otherwise. Which of these are equal to their original implementations,
and which differ and why, is in [parity.md](parity.md).
"""


def yes_or_no(value: bool) -> str:
    """A cell."""
    return "yes" if value else "no"


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def render() -> str:
    """The document."""
    modules = [
        [
            f"`{name}`",
            entry.description,
            entry.source,
            yes_or_no(entry.mixes_frames),
            yes_or_no(entry.time_symmetric),
            ", ".join(f"`{part}`" for part in entry.own_parameters) or "none",
            yes_or_no(entry.fixed_frames),
        ]
        for name, entry in TEMPORAL_MODULES.items()
    ]
    poolings = [
        [
            f"`{name}`",
            entry.description,
            entry.source,
            yes_or_no(entry.time_symmetric),
            yes_or_no(entry.has_parameters),
            yes_or_no(entry.fixed_frames),
        ]
        for name, entry in TEMPORAL_POOLINGS.items()
    ]
    first = ["what it does", "source"]
    return "\n".join(
        [
            INTRODUCTION,
            MODULES,
            *markdown_table(
                ["module", *first, "frames see each other", "symmetric in time", "adds to CLIP", "tied"], modules
            ),
            "",
            POOLINGS,
            *markdown_table(["pooling", *first, "symmetric in time", "has parameters", "tied"], poolings),
            "",
            NOTES,
        ]
    )


if __name__ == "__main__":
    DOCUMENT.write_text(render())
