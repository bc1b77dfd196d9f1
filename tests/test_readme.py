"""Every block of README.md and of the pages beside the guides runs as written, beside small checkpoints and videos."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from froster_hf.assets import SMALL_FROSTER
from froster_hf.conversion import write_original_checkpoint
from froster_hf.data.catalogue import DATASETS, FORMATS
from froster_hf.evaluation import published_results
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from froster_hf.shapes.study.report import SUMMARY
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.pages import ROOT, runs
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import save_tiny_checkpoint, save_tiny_clip, tiny_model, tiny_tower_options


def save_original_checkpoint(path: Path) -> None:
    """What the authors offer for download, with random weights; their file does not say how wide a head is, but 64."""
    text, vision = tiny_tower_options()
    wide = {"hidden_size": 64, "num_attention_heads": 1}
    model = tiny_model(text_config={**text, **wide}, vision_config={**vision, **wide}, projection_dim=16)
    model.save_pretrained(path.parent / "wide")
    write_original_checkpoint(path.parent / "wide", path, layout="froster")


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with the files and checkpoints that the pages speak of, as the current one."""
    save_tiny_checkpoint(tmp_path / "visual-ai" / "froster-b16")
    clip = save_tiny_clip(tmp_path / "openai" / "clip-vit-base-patch32")
    save_dual_encoder("siglip", tmp_path / "google" / "siglip2-base-patch16-224")
    shutil.copytree(clip, tmp_path / "openai" / "clip-vit-base-patch16")
    save_original_checkpoint(tmp_path / "swa_2_22.pth")
    shutil.copytree(SMALL_FROSTER, tmp_path / "path" / "to" / "this" / "folder")
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


@pytest.fixture(autouse=True)
def tables():
    """Takes what a page enters in the tables out again."""
    before = [(table, set(table)) for table in (TEMPORAL_MODULES, FORMATS, DATASETS)]
    yield
    for table, names in before:
        for name in set(table) - names:
            del table[name]


@runs("README.md")
def test_every_block_of_the_readme_runs(page, workplace):
    assert len(page.left) >= 7
    namespace = page.run()
    assert [len(answer) for answer in namespace["answers"]] == [3, 3]
    assert "none of these" in {answer["label"] for answer in namespace["answers"][0]}
    assert (workplace / "match.png").stat().st_size > 0
    assert len((workplace / "answers.jsonl").read_text().splitlines()) == 1
    assert (workplace / "runs" / "my_videos" / "evaluation" / "index.html").is_file()
    assert (workplace / "with-code" / "pipeline_froster.py").is_file()


# Other guides, and the pages of integrations, have tests of their own, with the files that they speak of.
@runs(
    "docs/index.md",
    "docs/fine_tuning.md",
    "docs/sharing.md",
    "docs/guides/score.md",
    "docs/guides/backbones.md",
    "docs/serving.md",
    "docs/evaluation.md",
    "docs/adding.md",
    "CONTRIBUTING.md",
    "model_cards/froster-b16.md",
    "model_cards/small-froster.md",
    slow=("docs/serving.md", "docs/evaluation.md"),  # one exports graphs, the other renders videos
)
def test_every_block_of_a_page_runs(page, workplace):
    page.run()


def test_the_results_of_the_readme_are_those_of_the_study_and_of_the_card():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    report = (ROOT / "docs" / "study" / "clear" / "README.md").read_text(encoding="utf-8")
    (table,) = readme.split("| trained with |")[1:]
    rows = [line.split("|")[1:] for line in table.partition("\n\n")[0].splitlines()[2:]]
    assert len(rows) > 4
    for name, *cells in rows:
        method = next(method for method, text in SUMMARY.items() if text == name.strip())
        results, answers = re.findall(rf"^\| {re.escape(method)} \|(.*)$", report, flags=re.M)[:2]
        shown = [cell.strip() for cell in cells]
        assert shown[:3] == re.findall(r"([\d.]+) ±", results), method
        assert shown[3] == re.findall(r"([\d.]+) ±", answers)[3], method
    plain = re.search(
        r"plain CLIP ViT-B/16 without training has ([\d.]+) on UCF-101, ([\d.]+) on HMDB-51 and ([\d.]+) on", readme
    )
    assert plain is not None
    cross = published_results()["cross_dataset"]
    assert [float(value) for value in plain.groups()] == [
        cross[name]["frozen CLIP"][1] for name in ("ucf101", "hmdb51", "k600")
    ]
    facts = yaml.safe_load((ROOT / "model_cards" / "froster-b16.yaml").read_text(encoding="utf-8"))
    published = {entry["setting"]: entry["value"] for entry in facts["published"]}
    row = readme.partition("FROSTER, ViT-B/16")[2].partition("\n")[0]
    claimed = re.findall(r"(UCF-101|HMDB-51|Kinetics-600)[^\d|,]* ([\d.]+)", row)
    assert len(claimed) == 3
    for name, value in claimed:
        assert float(value) in [number for setting, number in published.items() if setting.startswith(name)]
