"""Every block of the guides to one label, many labels and timelines runs as written, with the shipped checkpoint."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli import main

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    # `small` is the shipped checkpoint; a folder of this name is what `pipeline` takes for it.
    shutil.copytree(SMALL_FROSTER, tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(guide: str) -> dict:
    namespace: dict = {}
    text = (GUIDES / guide).read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(block, guide, "exec"), namespace)
        for line in block.replace("\\\n", " ").splitlines() if language == "bash" else ():
            program, *arguments = shlex.split(line)
            assert program == "froster"
            assert main(arguments) == 0, line
    return namespace


def test_one_label(workplace, capsys):
    run_blocks("one_label.md")
    captured = capsys.readouterr()
    assert "compared with the checkpoint's background: a shape, an object, nothing" in captured.err
    assert "compared with the background: a blue square spinning, a green ring growing" in captured.err
    lines = [line.split() for line in captured.out.splitlines()]
    shown = [float(words[-1]) for words in lines if words[:4] == ["a", "red", "star", "sliding"] and len(words) == 6]
    # After those of the demo: shown, not shown, and shown against a background of its own.
    assert [score > 0.5 for score in shown[-3:]] == [True, False, True]


def test_many_labels(workplace, capsys):
    namespace = run_blocks("many_labels.md")
    scores = {answer["label"]: answer["score"] for answer in namespace["answers"]}
    assert scores["a blue square"] > 0.5 > scores["a red star"]
    assert (workplace / "calibrated" / "processor_config.json").is_file()


def test_timeline(workplace, capsys):
    namespace = run_blocks("timeline.md")
    assert {segment.label for segment in namespace["timeline"].segments} == {
        "a red star sliding left",
        "a blue square spinning",
    }
    assert all((workplace / name).stat().st_size for name in ("timeline.png", "timeline.srt", "several.png"))
    assert "Mean average precision" in capsys.readouterr().out
