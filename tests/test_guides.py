"""Every block of the guides to the everyday verbs runs as written, on rendered videos and shipped checkpoints."""

import json
import shutil

import pytest

from froster_hf.assets import SMALL_CLIP
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from tests.fixtures.pages import runs

CLASSES = [MovingShape("red", "star", "sliding left"), MovingShape("blue", "square", "pulsing")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The files that the guides speak of, in the current folder."""
    rows, single, several = write_moving_shapes(tmp_path / "rendered", CLASSES, clips_per_class=3, seed=6), [], []
    for number, row in enumerate(rows):
        label = str(CLASSES[row["label"]])
        for folder in ("videos", f"my_videos/{label}"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(row["video"], tmp_path / folder / f"{number}.mp4")
        single.append(f"videos/{number}.mp4,{label}")
        several.append(json.dumps({"video": f"videos/{number}.mp4", "label": [label] if number % 3 else []}))
    (tmp_path / "list.csv").write_text("\n".join(["video,label", *single]))
    (tmp_path / "list.txt").write_text("videos/0.mp4\nvideos/1.mp4\n")
    (tmp_path / "scenes.jsonl").write_text("\n".join(several))
    (tmp_path / "actions.txt").write_text("\n".join(map(str, CLASSES)))
    shutil.copytree(SMALL_CLIP, tmp_path / "openai" / "clip-vit-base-patch32")
    monkeypatch.chdir(tmp_path)
    # As many epochs as the rule says teach nothing more here.
    monkeypatch.setattr("froster_hf.training.own_videos.MIN_EPOCHS", 1)
    monkeypatch.setattr("froster_hf.training.own_videos.MAX_EPOCHS", 1)
    return tmp_path


@runs(
    "docs/guides/my_list.md",
    "docs/guides/descriptions.md",
    "docs/guides/train_my_folder.md",
    "docs/guides/many_videos.md",
)
def test_every_block_of_a_guide_runs(page, workplace):
    page.run()
