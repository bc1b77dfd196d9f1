"""Every block of the guides to one label, many labels, timelines and maps runs, with the shipped checkpoint."""

import shutil

import numpy as np
import pytest
from PIL import Image

from froster_hf.assets import SMALL_FROSTER
from tests.fixtures.pages import ROOT, runs


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    # `small` is the shipped checkpoint; a folder of this name is what `pipeline` takes for it.
    shutil.copytree(SMALL_FROSTER, tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@runs("docs/guides/one_label.md")
def test_one_label(page, workplace, capsys):
    page.run()
    captured = capsys.readouterr()
    assert "compared with the checkpoint's background: a shape, an object, nothing" in captured.err
    assert "compared with the background: a blue square spinning, a green ring growing" in captured.err
    lines = [line.split() for line in captured.out.splitlines()]
    shown = [float(words[-1]) for words in lines if words[:4] == ["a", "red", "star", "sliding"] and len(words) == 6]
    # After those of the demo: shown, not shown, and shown against a background of its own.
    assert [score > 0.5 for score in shown[-3:]] == [True, False, True]


@runs("docs/guides/many_labels.md")
def test_many_labels(page, workplace, capsys):
    namespace = page.run()
    scores = {answer["label"]: answer["score"] for answer in namespace["answers"]}
    assert scores["a blue square"] > 0.5 > scores["a red star"]
    assert (workplace / "calibrated" / "processor_config.json").is_file()


@runs("docs/guides/timeline.md")
def test_timeline(page, workplace, capsys):
    namespace = page.run()
    assert {segment.label for segment in namespace["timeline"].segments} == {
        "a red star sliding left",
        "a blue square spinning",
    }
    assert all((workplace / name).stat().st_size for name in ("timeline.png", "timeline.srt", "several.png"))
    assert "Mean average precision" in capsys.readouterr().out


@runs("docs/guides/explain.md")
def test_explain(page, workplace, capsys):
    namespace = page.run()
    said = capsys.readouterr().out.splitlines()
    assert "a red star sliding left: 1.000, its probability among all labels given" in said
    assert [line for line in said if line.startswith("maps/")] == [
        f"maps/{method}.{suffix}" for method in ("rollout", "gradient") for suffix in ("png", "gif")
    ]
    maps = namespace["explanation"].maps
    assert {name: shown.sum().item() for name, shown in maps.items()} == pytest.approx({"rollout": 1, "gradient": 1})
    # The pictures of the page are what the command writes, in fewer colors.
    for method in ("rollout", "gradient"):
        drawn, shown = (
            np.asarray(Image.open(file).convert("RGB"), dtype=float)
            for file in (workplace / "maps" / f"{method}.png", ROOT / "docs" / "images" / f"explain_{method}.png")
        )
        assert np.abs(drawn - shown).mean() < 2
