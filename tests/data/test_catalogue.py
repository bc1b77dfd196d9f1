"""One entry per data set: everything that knows of data sets derives from it, and a new one needs nothing else."""

import json

import pytest

from froster_hf.data import catalogue, describe_table
from froster_hf.data.catalogue import (
    DATASETS,
    FORMATS,
    AnnotationFormat,
    DataFiles,
    DataSet,
    published_counts,
    read_split,
)
from froster_hf.data.video_table import ListedClip, video_table
from froster_hf.evaluation import EvaluationData, evaluate_protocol, load_protocol
from froster_hf.evaluation.protocols import PLANS, EvaluationProtocol
from froster_hf.hub.measured_results import MeasuredResult
from froster_hf.processing.text_files import read_lines
from froster_hf.settings import list_named
from froster_hf.training.recipe_run import train_recipe
from froster_hf.training.recipes import load_recipe
from tests.data.table import DOCUMENT, render
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.fixtures.videos import VIDEO_KINDS, render_video
from tests.training.test_recipes import clip_folder  # noqa: F401

NAMES = ["jumping", "rowing"]


def test_every_entry_has_what_the_rest_asks_it_for():
    for dataset in DATASETS.values():
        assert dataset.format in FORMATS
        assert set(dataset.plans.values()) <= set(PLANS)
    assert set(published_counts()) <= set(DATASETS)


def test_what_is_shipped_names_only_known_data_sets():
    for name in list_named("protocol"):
        assert load_protocol(name).dataset in DATASETS
    recipes = [load_recipe(name) for name in list_named("recipe")]
    for recipe in recipes:
        if recipe.kind == "fine_tuning":
            assert recipe.data.format in FORMATS


def test_the_documents_tables_are_the_catalogues():
    assert DOCUMENT.read_text(encoding="utf-8") == render(), "write it again: python -m tests.data.table"


def test_an_unknown_format_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="no format 'webdataset'; choose one of folder, list, ucf101"):
        read_split("webdataset", DataFiles(tmp_path))
    with pytest.raises(ValueError, match="'ssv2' needs annotations and labels: a JSON per split"):
        read_split("ssv2", DataFiles(tmp_path))
    with pytest.raises(ValueError, match="rendered, not read"):
        read_split("moving_shapes", DataFiles(tmp_path))


@pytest.mark.parametrize("name", ["annotations", "labels"])
def test_a_list_beside_class_folders_is_not_passed_over(tmp_path, name):
    with pytest.raises(ValueError, match=f"'folder' takes no {name}: the labels are the names of the folders"):
        read_split("folder", DataFiles(tmp_path, **{name: tmp_path / "train.csv"}))


def read_toy(files, split, fold):
    """`label: path` per line."""
    clips = []
    for line, where in read_lines(files.annotations):
        label, _, path = line.partition(": ")
        clips.append(ListedClip(f"{files.root}/{path}", NAMES.index(label), where))
    return video_table(clips, labels=NAMES, missing=files.missing)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A format and a data set that exist for one test, with a folder of two classes."""
    monkeypatch.setitem(catalogue.FORMATS, "toy", AnnotationFormat(read_toy, "lines of `label: path`"))
    monkeypatch.setitem(catalogue.DATASETS, "toy", DataSet("Toy actions", "toy", plans={"base_to_novel": "halves"}))
    video = render_video(tmp_path / "clip.mp4", VIDEO_KINDS["h264_mp4"], num_frames=20).read_bytes()
    lines = []
    for index, name in enumerate([*NAMES, *NAMES, "rowing"]):
        (tmp_path / f"{index}.mp4").write_bytes(video)
        lines.append(f"{name}: {index}.mp4")
    (tmp_path / "all.txt").write_text("\n".join(lines))
    return tmp_path


def test_a_new_data_set_trains_with_its_entry_alone(toy, clip_folder):  # noqa: F811
    overrides = [
        *(f"model.checkpoint={clip_folder}", "model.num_frames=2", "data.format=toy", f"data.root={toy}"),
        *(f"data.annotations={toy / 'all.txt'}", f"data.eval_annotations={toy / 'all.txt'}", "data.published=null"),
        *(f"output_dir={toy / 'run'}", "total_batch_size=2", "precision=fp32", "training.max_steps=2"),
        *("training.per_device_train_batch_size=2", "training.report_to=none", "training.use_cpu=true"),
        *("training.dataloader_num_workers=0", "training.disable_tqdm=true", "data.shots=null"),
    ]
    trainer = train_recipe(load_recipe("froster_k400", overrides))
    assert trainer.state.global_step == 2
    saved = json.loads((toy / "run" / "model" / "config.json").read_text())
    assert list(saved["id2label"].values()) == NAMES


def test_a_new_data_set_is_evaluated_with_its_entry_alone(toy):
    protocol = EvaluationProtocol("toy", protocol="base_to_novel", dataset="toy", num_views=1, frame_stride=1)
    data = EvaluationData(str(toy), annotations=str(toy / "all.txt"), train_annotations=str(toy / "all.txt"))
    report = evaluate_protocol(
        protocol, models=tiny_model(), processor=tiny_processor(), data=data, output_dir=toy / "result", batch_size=2
    )
    part = report["results"]["this checkpoint"]["parts"][0]
    assert set(part["base"]["class_accuracies"]) == {"rowing"}
    assert set(part["novel"]["class_accuracies"]) == {"jumping"}
    assert report["count_differences"] == {}, "nothing is published"


def test_protocols_that_a_data_set_has_no_plan_for_are_refused(toy):
    with pytest.raises(ValueError, match="dataset='toy'; cross_dataset is for"):
        EvaluationProtocol("toy", protocol="cross_dataset", dataset="toy")
    with pytest.raises(ValueError, match=r"published is 'toy'; it must be one of ucf101"):
        load_recipe("froster_k400", ["data.published=toy"])


def test_a_new_data_set_is_shown_on_cards_and_in_the_document(toy):
    result = MeasuredResult("toy", "base", "top1", 50.0, protocol_name="toy", protocol="base_to_novel")
    assert result.dataset_title == "Toy actions"
    assert "| `toy` | Toy actions | `toy` | base-to-novel |" in render()


def test_a_new_format_gives_a_table_like_any_other(toy):
    table = read_split("toy", DataFiles(toy, toy / "all.txt"))
    assert describe_table(table).splitlines()[0] == "5 videos of 2 classes:"
