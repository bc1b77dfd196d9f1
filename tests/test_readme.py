"""Every block of README.md and of the pages beside the guides runs as written, beside small checkpoints and videos."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from froster_hf.cli import main
from froster_hf.data.catalogue import FORMATS
from froster_hf.extras import is_installed
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor, tiny_tokenizer, tiny_tower_options

ROOT = Path(__file__).parent.parent
# Other guides, and the pages of integrations, have tests of their own, with the files that they speak of.
PAGES = (
    "README.md",
    "docs/index.md",
    "docs/fine_tuning.md",
    "docs/sharing.md",
    "docs/guides/score.md",
    "docs/guides/backbones.md",
    "docs/serving.md",
    "docs/evaluation.md",
    "docs/adding.md",
)
SLOW = ("docs/serving.md", "docs/evaluation.md")  # one exports graphs, the other renders videos
# A comment before a block says why it cannot be run.
BLOCK = re.compile(r"(?P<reason><!-- not run: .+? -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
# Verbs that need an extra, which the environment of the fast tests does not have.
EXTRA_OF = {"index": "search", "search": "search"}
# What these install or enter is here already.
INSTALLING = ("make install", ". .venv/bin/activate", "pip install")


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and code of the blocks of a page that can be run."""
    found = [match for match in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")) if not match["reason"]]
    return [(match["language"], match["code"]) for match in found]


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with the files and checkpoints that the pages speak of, as the current one."""
    tiny_model().save_pretrained(tmp_path / "visual-ai" / "froster-b16")
    tiny_processor().save_pretrained(tmp_path / "visual-ai" / "froster-b16")
    text, vision = tiny_tower_options()
    torch.manual_seed(0)
    clip = tmp_path / "openai" / "clip-vit-base-patch32"
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(clip)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tiny_tokenizer()).save_pretrained(clip)
    save_dual_encoder("siglip", tmp_path / "google" / "siglip2-base-patch16-224")
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
    # The tiny tokenizer spells English, and would be given no everyday background as CLIP's is.
    monkeypatch.setattr("froster_hf.processing.processing_froster.MAX_TOKENS_PER_CHARACTER", 2)
    # The rule for eight videos is 20 epochs.
    monkeypatch.setattr("froster_hf.training.own_videos.MIN_EPOCHS", 1)
    monkeypatch.setattr("froster_hf.training.own_videos.MAX_EPOCHS", 1)
    return tmp_path


def run_page(page: str) -> dict:
    """Run the blocks in order; the names that the Python blocks define."""
    namespace: dict = {}
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, page, "exec"), namespace)
        elif language in ("bash", ""):
            run_shell_block(block)
        else:
            assert language in ("bibtex", "text", "yaml"), f"a block of language {language!r} is run by nothing"
    return namespace


def run_shell_block(block: str) -> None:
    """The lines of `froster`, in this process."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["froster"]:
            if words[1] in EXTRA_OF and not is_installed(EXTRA_OF[words[1]]):
                continue
            assert main(words[1:]) == 0, line
        else:
            assert not words or line.startswith(INSTALLING), line


def test_every_block_of_the_readme_runs(workplace):
    assert len(blocks("README.md")) >= 7
    namespace = run_page("README.md")
    assert [len(answer) for answer in namespace["answers"]] == [3, 3]
    assert "none of these" in {answer["label"] for answer in namespace["answers"][0]}
    assert (workplace / "match.png").stat().st_size > 0
    assert len((workplace / "answers.jsonl").read_text().splitlines()) == 1
    assert (workplace / "runs" / "my_videos" / "evaluation" / "index.html").is_file()
    assert (workplace / "with-code" / "pipeline_froster.py").is_file()


@pytest.fixture(autouse=True)
def tables():
    """Takes what a page enters in the tables out again."""
    before = [(table, set(table)) for table in (TEMPORAL_MODULES, FORMATS)]
    yield
    for table, names in before:
        for name in set(table) - names:
            del table[name]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in PAGES[1:]]
)
def test_every_block_of_a_page_runs(page, workplace):
    run_page(page)


def test_the_results_of_the_readme_are_those_of_the_study_and_of_the_card():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    study = (ROOT / "docs" / "study" / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| trained with |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[2:6]] for line in table.splitlines()[2:]]
    methods = ("frozen", "plain", "residual", "directional residual", "ST-Adapter residual")
    assert len(rows) == len(methods)
    for row, method in zip(rows, methods):
        results, answers = re.findall(rf"^\| {method} \|(.*)$", study, flags=re.M)[:2]
        assert row[:3] == re.findall(r"([\d.]+) ±", results), method
        assert row[3] == re.findall(r"([\d.]+) ±", answers)[3], method
    facts = yaml.safe_load((ROOT / "model_cards" / "froster-b16.yaml").read_text(encoding="utf-8"))
    published = {entry["setting"]: entry["value"] for entry in facts["published"]}
    row = readme.partition("FROSTER, ViT-B/16")[2].partition("\n")[0]
    claimed = re.findall(r"(UCF-101|HMDB-51|Kinetics-600)[^\d|,]* ([\d.]+)", row)
    assert len(claimed) == 3
    for name, value in claimed:
        assert float(value) in [number for setting, number in published.items() if setting.startswith(name)]
