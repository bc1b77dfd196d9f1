"""American spelling and plain idiom wherever people read: the package, its documents, its tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BRITISH = (
    r"licence|colour|neighbour|behaviour|favour|honour|\bcentre|\bgrey|labelled|labelling|modelling|cancelled|\banew\b"
    r"|\bwhilst\b|\blearnt\b|\bspelt\b|artefact|judgement|analyse|programme\b|defence"
    r"|(recogn|normal|initial|serial|optim|organ|summar|minim|maxim|general|special|parametr|standard|token|vector"
    r"|synchron|memor|util|emphas|categor|character|custom|visual|random|material|final|local|stabil|quant)is(e|ing|ation)"
)
# "is no regular file", where "is not a regular file" is meant; "there is no file" and "is no more than" are idiom.
IS_NO = (
    r"(?<!there )(?<!There )\b(is|are) no (?!longer\b|more\b|less\b|fewer\b|higher\b|problem\b|other place\b)[a-z]+"
)
# Text that is data: a caption that the shipped model learned from; the old name of a function in the changelog.
DATA = ("in front of a grey wall", "`recognise_layout`")


def files() -> list[Path]:
    found = [path for suffix in ("py", "md", "yaml") for path in (ROOT / "froster_hf").rglob(f"*.{suffix}")]
    found += [path for folder in ("docs", "model_cards") for path in (ROOT / folder).rglob("*.md")]
    return [*found, *ROOT.glob("*.md")]


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [(BRITISH, "the American spelling"), (IS_NO, '"is not a ..." or "is not ..."')],
    ids=["spelling", "idiom"],
)
def test_words_are_those_of_american_english(pattern, instead):
    assert len(files()) > 150
    found = []
    for path in files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for text in DATA:
                line = line.replace(text, "")
            if match := re.search(pattern, line, re.I if pattern == BRITISH else 0):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]!r}")
    assert not found, f"Write {instead}:\n" + "\n".join(found)
