"""Every block of README.md runs, in order and as written, beside small checkpoints under the names that it uses."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from froster_hf.cli import main
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor, tiny_tokenizer, tiny_tower_options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with the files and checkpoints that the README speaks of, as the current one."""
    tiny_model().save_pretrained(tmp_path / "visual-ai" / "froster-b16")
    tiny_processor().save_pretrained(tmp_path / "visual-ai" / "froster-b16")
    text, vision = tiny_tower_options()
    torch.manual_seed(0)
    clip = tmp_path / "openai" / "clip-vit-base-patch32"
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(clip)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tiny_tokenizer()).save_pretrained(clip)
    shutil.copy(REAL_VIDEOS["bikes"], tmp_path / "clip.mp4")
    shutil.copy(REAL_VIDEOS["carphone_pristine"], tmp_path / "match.mp4")
    (tmp_path / "videos").mkdir()
    shutil.copy(REAL_VIDEOS["bikes"], tmp_path / "videos")
    (tmp_path / "actions.txt").write_text("riding a bike\njuggling\n")
    for label, video in (("riding a bike", "bikes"), ("talking", "carphone_pristine")):
        for number in range(4):
            (tmp_path / "my_videos" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(REAL_VIDEOS[video], tmp_path / "my_videos" / label / f"{number}.mp4")
    monkeypatch.chdir(tmp_path)
    # The rule for eight videos is 20 epochs.
    monkeypatch.setattr("froster_hf.training.own_videos.MIN_EPOCHS", 1)
    monkeypatch.setattr("froster_hf.training.own_videos.MAX_EPOCHS", 1)
    return tmp_path


def test_every_block_runs(workplace, capsys):
    assert len(BLOCKS) >= 9
    namespace: dict = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), namespace)
        else:
            assert language == "bash", f"a block of language {language!r} is run by nothing"
            run_shell_block(block)
    answers = namespace["answers"]
    assert [len(answer) for answer in answers] == [3, 3]
    assert (workplace / "match.png").stat().st_size > 0
    assert (workplace / "match.csv").read_text().startswith("start_seconds")
    assert (workplace / "with-code" / "pipeline_froster.py").is_file()
    assert "none of these" in {answer["label"] for answer in answers[0]}


def run_shell_block(block: str) -> None:
    """The lines of `froster` in this process; what `pip install` installs is here already."""
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        if program == "froster":
            assert main(arguments) == 0, line
        else:
            assert line == "pip install '.[plots]'", line


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
