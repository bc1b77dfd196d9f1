"""The card of a model that was trained here is filled from the folder of its run, and from no other model's."""

import json
import shutil
import types
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.hub import CardFacts, export_checkpoint
from froster_hf.hub.run_facts import repository, shown_checkpoint
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from froster_hf.training import train_on_videos
from froster_hf.training.checkpointing import remove_run
from froster_hf.training.recipes import load_recipe
from froster_hf.training.run_record import license_of_base, record_run
from froster_hf.weights_license import stated_license

CLASSES = [MovingShape("red", "star", "sliding left"), MovingShape("blue", "square", "pulsing")]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a real, short training on two class folders of rendered videos."""
    folder = tmp_path_factory.mktemp("trained")
    for number, row in enumerate(write_moving_shapes(folder / "rendered", CLASSES, clips_per_class=5, seed=3)):
        target = folder / "my_videos" / str(CLASSES[row["label"]])
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(row["video"], target / f"{number}.mp4")
    train_on_videos(
        folder / "my_videos",
        model="small",
        output_dir=folder / "run",
        overrides=["training.num_train_epochs=1", "training.learning_rate=1e-4", "training.dataloader_num_workers=0"],
    )
    return folder / "run"


@pytest.fixture
def copied(run, tmp_path) -> Path:
    """A copy of the run, to be changed."""
    return shutil.copytree(run, tmp_path / "run")


def change_recipe(run: Path, section: str, **fields) -> None:
    record = json.loads((run / "run_record.json").read_text())
    record["recipe"][section] |= fields
    (run / "run_record.json").write_text(json.dumps(record))


def card_of(run: Path, out: Path, **options) -> ModelCard:
    export_checkpoint(run / "model", out, **options)
    return ModelCard.load(out / "README.md")


def test_the_card_tells_data_settings_accuracy_base_and_labels(run, tmp_path, capsys):
    assert main(["export", str(run / "model"), str(tmp_path / "my-actions")]) == 0
    assert "measured  1 results" in capsys.readouterr().out
    card = ModelCard.load(tmp_path / "my-actions" / "README.md")
    assert "Not stated" not in card.text
    assert "small (ships with froster-hf), fine-tuned on my_videos" in card.text
    assert "on my_videos, 8 clips of 2 labels: 1 step of 8 clips (1 epoch)" in card.text
    assert "| training.learning_rate | 0.0001 |" in card.text
    assert "| data.held_out | 0.2 |" in card.text
    for label in map(str, CLASSES):
        assert f'"{label}"' in card.text.partition("candidate_labels=")[2].partition("\n")[0]
    (result,) = card.data.eval_results
    measured = json.loads((run / "evaluation" / "result.json").read_text())["models"]
    assert (result.dataset_type, result.metric_value) == ("my_videos", measured["trained"]["top1"])
    assert "| my_videos | held-out videos | all | top-1 accuracy |" in card.text
    assert f"{measured['before (small)']['top1']} % before the training" in card.text
    # Nothing of this machine.
    assert str(run.parent) not in card.content
    assert not any(word in card.text for word in ("dataloader", "disable_tqdm", "save_", "| null |"))


def test_a_folder_that_looks_like_a_name_on_the_hub_is_none_from_any_other_place(tmp_path, monkeypatch):
    shutil.copytree(SMALL_FROSTER, tmp_path / "clients" / "acme")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("froster_k400", ["model.checkpoint=clients/acme", "training.teacher=clients/acme"])
    trainer = types.SimpleNamespace(
        train_dataset=[], state=types.SimpleNamespace(global_step=1, log_history=[]), args=None
    )
    record = record_run(recipe, trainer, model=SMALL_FROSTER, base_license=None)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for checkpoint in (record.recipe["model"]["checkpoint"], record.recipe["training"]["teacher"]):
        assert (repository(checkpoint), shown_checkpoint(checkpoint)) == (None, "acme")


def test_stated_facts_come_first(run, tmp_path):
    facts = CardFacts("mine", summary="What I say.", example_labels=("juggling",), base_model="me/other")
    card = card_of(run, tmp_path / "out", facts=facts)
    assert "What I say." in card.text
    assert 'candidate_labels=["juggling"]' in card.text
    assert card.data.base_model == "me/other"
    assert "Fine-tuned from small" in card.text


def test_a_base_model_of_the_hub_is_named_and_one_on_this_disk_only_by_its_folder(copied, tmp_path):
    change_recipe(copied, "model", checkpoint="openai/clip-vit-base-patch32")
    card = card_of(copied, tmp_path / "hub")
    assert card.data.base_model == "openai/clip-vit-base-patch32"
    assert "training data, with their biases, came from the web" in card.text
    change_recipe(copied, "model", checkpoint=str(tmp_path / "secret" / "earlier" / "model"))
    card = card_of(copied, tmp_path / "disk")
    assert card.data.base_model is None
    assert "| model.checkpoint | earlier |" in card.text
    assert "secret" not in card.content
    assert repository("small") is None
    assert shown_checkpoint("/home/me/clip") == "clip"


def test_other_weights_in_the_place_of_the_trained_ones_get_none_of_their_training(copied, checkpoint, tmp_path):
    shutil.rmtree(copied / "model")
    shutil.copytree(checkpoint, copied / "model")
    card = card_of(copied, tmp_path / "out")
    assert "Not stated at export" in card.text
    assert "my_videos" not in card.content
    assert card.data.eval_results is None


def test_the_trained_weights_with_another_architecture_get_none_of_their_training(copied, tmp_path):
    config = json.loads((copied / "model" / "config.json").read_text())
    (copied / "model" / "config.json").write_text(json.dumps({**config, "temporal_radius": 3}))
    assert card_of(copied, tmp_path / "out").data.eval_results is None


def test_weights_trained_from_frosters_keep_its_license(copied, checkpoint, tmp_path):
    base = shutil.copytree(checkpoint, tmp_path / "base")
    report = {
        "source": "swa.pth",
        "layout": "froster",
        "sha256": "ab" * 32,
        "left_out": {"projector_v": "a projector"},
    }
    (base / "conversion.json").write_text(json.dumps(report))
    first = shutil.copytree(copied, tmp_path / "first")
    change_record(first, base_license=license_of_base(str(base)))
    (first / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    change_record(copied, base_license=license_of_base(str(first / "model")))
    assert card_of(copied, tmp_path / "out").data.license == "cc-by-nc-sa-4.0"
    with pytest.raises(ValueError, match="stay so"):
        card_of(copied, tmp_path / "other", license="mit")


def test_of_a_base_that_ships_the_license_is_known(run, tmp_path):
    for folder in (SMALL_CLIP, SMALL_FROSTER):
        assert stated_license(folder) == "apache-2.0"
    assert json.loads((run / "run_record.json").read_text())["base_license"] == "apache-2.0"
    assert card_of(run, tmp_path / "out").data.license == "apache-2.0"


def change_record(run: Path, **fields) -> None:
    record = json.loads((run / "run_record.json").read_text())
    (run / "run_record.json").write_text(json.dumps(record | fields))


def test_a_run_remembers_the_license_of_a_base_that_is_gone(copied, tmp_path, capsys):
    change_recipe(copied, "model", checkpoint=str(tmp_path / "deleted" / "base"))
    change_record(copied, base_license="cc-by-nc-sa-4.0")
    assert card_of(copied, tmp_path / "out").data.license == "cc-by-nc-sa-4.0"
    with pytest.raises(ValueError, match="stay so"):
        card_of(copied, tmp_path / "other", license="mit")
    change_record(copied, base_license="apache-2.0")
    assert card_of(copied, tmp_path / "inherited").data.license == "apache-2.0"
    assert card_of(copied, tmp_path / "given", license="mit").data.license == "mit"
    change_record(copied, base_license=None)
    assert main(["export", str(copied / "model"), str(tmp_path / "unknown")]) == 0
    said = capsys.readouterr().out
    assert "license   not stated; give it with --license" in said
    assert "the weights were trained from base: its license holds for them, too" in said


def test_a_license_of_any_text_in_a_record_is_refused(copied, tmp_path):
    change_record(copied, base_license="mit\n---\n# Ours")
    with pytest.raises(ValueError, match=r"base_license is .*must be a license as the Hub writes it"):
        card_of(copied, tmp_path / "out")


def test_the_base_that_a_record_names_is_neither_read_nor_asked_for(copied, tmp_path, monkeypatch):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: gpl-3.0\n---\n")
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *names, **options: asked.append(names))
    change_record(copied, base_license=None)
    for number, named in enumerate([str(base), "someone/base"]):
        change_recipe(copied, "model", checkpoint=named)
        assert card_of(copied, tmp_path / str(number)).data.license is None
    change_record(copied, base_license="mit")
    assert card_of(copied, tmp_path / "noted").data.license == "mit"
    assert not asked


@pytest.mark.parametrize(
    ("card", "report", "license"),
    [
        ("---\nlicense: mit\n---\n", None, "mit"),
        ("---\nlicense: mit\n---\n", {"layout": "froster", "left_out": {"projector_v": ""}}, "cc-by-nc-sa-4.0"),
        ("---\nlicense: '](javascript:x)'\n---\n", [1], None),
        (None, {"layout": "openai", "left_out": {}, "license": "apache-2.0"}, "apache-2.0"),
        (None, None, None),
    ],
)
def test_the_record_has_what_the_base_states_or_its_own_run_knew(copied, card, report, license, tmp_path):
    base = copied / "model"
    if card is not None:
        (base / "README.md").write_text(card)
    if report is not None:
        (base / "conversion.json").write_text(json.dumps(report))
    change_record(copied, base_license=None)
    assert license_of_base(str(base)) == license
    change_record(copied, base_license="bsd-3-clause")
    assert license_of_base(str(base)) == (license or "bsd-3-clause")


@pytest.mark.parametrize("damage", ["{", '{"weights": 3}', {"top1": "high", "num_labels": 2}, {"top1": 10**11}])
def test_a_damaged_record_is_an_error_that_names_it(copied, damage, tmp_path):
    path = copied / "run_record.json"
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(path.read_text()) | {"evaluation": {"all": damage}})
    path.write_text(damage)
    with pytest.raises(ValueError, match=r"run_record\.json|run's record"):
        card_of(copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_a_link_is_not_read(copied, tmp_path):
    elsewhere = tmp_path / "secret.json"
    elsewhere.write_text('{"a_name_of_a_field": 1}')
    (copied / "run_record.json").unlink()
    (copied / "run_record.json").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"run_record\.json is a link to .*, outside of") as refused:
        card_of(copied, tmp_path / "export")
    assert "a_name_of_a_field" not in str(refused.value)


def test_a_run_that_is_begun_again_has_no_record_of_the_old_one(copied):
    remove_run(copied, of_recipe=True)
    assert not (copied / "run_record.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {str(part): {"top1": 5.0} for part in range(8000)}}, "8000 parts; at most 16"),
        ({"evaluation": {"all": {"top1": 10**400, "num_clips": 1, "num_labels": 2}}}, "top1 is 1000"),
        ({"num_steps": 10**400}, "num_steps is 1000"),
        ({"num_clips": -5}, "num_clips is -5"),
    ],
    ids=["parts", "accuracy", "steps", "clips"],
)
def test_numbers_that_no_run_has_are_one_error_with_the_files_name(copied, tmp_path, changes, message):
    record = json.loads((copied / "run_record.json").read_text())
    (copied / "run_record.json").write_text(json.dumps(record | changes))
    with pytest.raises(ValueError, match=f"run_record.json: .*{message}"):
        export_checkpoint(copied / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()
