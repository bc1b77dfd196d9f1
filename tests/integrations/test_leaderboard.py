"""`mteb.evaluate` runs a checkpoint on a task of three videos, and its figures are those of our own embeddings."""

import functools
import importlib
import re
import runpy
import shutil
import sys

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor

from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import REPOSITORY

mteb = pytest.importorskip("mteb", reason="needs the extra mteb (make test-integrations)")

from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification  # noqa: E402

from froster_hf.integrations.leaderboard import KINETICS_400_TASKS, FrosterEncoder  # noqa: E402

LABELS = ["riding a bike", "a rabbit", "talking on the phone"]
VIDEOS = [str(REAL_VIDEOS[name]) for name in ("bikes", "bigbuckbunny", "carphone_pristine")]


class ThreeVideos(AbsTaskZeroShotClassification):
    """In the layout of MTEB's own HMDB51ZeroShot: a video column, class labels, one text per label."""

    metadata = TaskMetadata(
        name="ThreeVideosZeroShot",
        description="Three short videos, one per label.",
        reference=None,
        dataset={"path": "nobody/three-videos", "revision": "0"},
        type="VideoZeroshotClassification",
        category="v2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="accuracy",
        modalities=["video", "text"],
    )
    input_column_name = "video"
    label_column_name = "label"
    videos: list = VIDEOS

    def load_data(self, **options):
        features = datasets.Features({"video": datasets.Video(), "label": datasets.ClassLabel(names=LABELS)})
        rows = {"video": self.videos, "label": [0, 1, 2]}
        self.dataset = datasets.DatasetDict(test=datasets.Dataset.from_dict(rows, features=features))
        self.data_loaded = True

    def get_candidate_labels(self):
        return [f"a video of {label}" for label in LABELS]


@pytest.fixture(scope="module")
def encoder(exported):
    return FrosterEncoder(
        exported, name="somebody/tiny", revision="1", training_datasets=KINETICS_400_TASKS, license="mit", device="cpu"
    )


def test_a_task_has_the_accuracy_of_our_own_embeddings(encoder, exported):
    [result] = mteb.evaluate(encoder, ThreeVideos(), cache=None, show_progress_bar=False).task_results
    model, processor = AutoModel.from_pretrained(exported).eval(), AutoProcessor.from_pretrained(exported)
    inputs = processor(
        videos=VIDEOS, text=[f"a video of {label}" for label in LABELS], sampling="uniform", return_tensors="pt"
    )
    with torch.no_grad():
        outputs = model(**inputs)
    cosines = torch.nn.functional.normalize(outputs.video_embeds, dim=1) @ outputs.text_embeds.T
    expected = (cosines.argmax(dim=1) == torch.arange(3)).float().mean().item()
    assert result.scores["test"][0]["accuracy"] == pytest.approx(expected)
    assert result.task_name == "ThreeVideosZeroShot"


def test_embeddings_are_those_of_the_model_with_frames_over_the_whole_clip(encoder, exported):
    model, processor = AutoModel.from_pretrained(exported).eval(), AutoProcessor.from_pretrained(exported)
    with torch.no_grad():
        pixels = processor(videos=VIDEOS, sampling="uniform", return_tensors="pt")["pixel_values_videos"]
        expected = model.get_video_features(pixels).pooler_output.numpy()
    task = ThreeVideos()
    task.load_data()
    loader = torch.utils.data.DataLoader(task.dataset["test"])
    found = encoder.encode(loader, task_metadata=task.metadata)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_metadata_says_what_the_checkpoint_is_and_saw(encoder):
    meta = encoder.mteb_model_meta
    assert meta.modalities == ["video", "text"]
    assert meta.training_datasets == set(KINETICS_400_TASKS)
    assert (meta.n_parameters, meta.embed_dim, meta.max_tokens) == (encoder.model.num_parameters(), 16, 77)
    assert meta.experiment_kwargs["sampling"] == "uniform"
    assert meta.license == "mit"
    # MTEB reads from it which tasks are not zero-shot for the model.
    assert meta.is_zero_shot_on([mteb.get_task("Kinetics400ZeroShot")]) is False
    assert meta.is_zero_shot_on([mteb.get_task("HMDB51ZeroShot")]) is True


def test_names_of_kinetics_400_are_tasks_of_the_library():
    assert {task.metadata.name for task in mteb.get_tasks(tasks=sorted(KINETICS_400_TASKS))} == KINETICS_400_TASKS


def test_a_video_that_cannot_be_read_is_named(encoder, videos):
    task = ThreeVideos()
    task.videos = [VIDEOS[0], str(videos / "damaged.mp4"), VIDEOS[2]]
    with pytest.raises(ValueError, match=r"Video 1 of the task: .*damaged\.mp4"):
        mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)


def test_a_folder_needs_a_name(exported):
    with pytest.raises(ValueError, match="organization/name"):
        FrosterEncoder(exported, training_datasets=None)


def test_results_are_filed_under_the_revision_that_is_measured(exported, tmp_path, monkeypatch):
    cache = tmp_path / "models--owner--froster"
    for name, letter in {"main": "a", "v2": "b"}.items():
        shutil.copytree(exported, cache / "snapshots" / (letter * 40))
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / name).write_text(letter * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = FrosterEncoder("owner/froster", revision="a" * 40, training_datasets=None, device="cpu")
    assert encoder.mteb_model_meta.revision == "a" * 40
    with pytest.raises(ValueError, match="but the main revision of 'owner/froster' would be measured"):
        FrosterEncoder("owner/froster", revision="v2", training_datasets=None, device="cpu")


def test_the_example_measures_on_tasks_that_the_library_has(exported, tmp_path, monkeypatch, capsys):
    example = runpy.run_path(str(REPOSITORY / "examples" / "mteb_video_zero_shot.py"))
    assert {task.metadata.name for task in mteb.get_tasks(tasks=example["TASKS"])} == set(example["TASKS"])
    monkeypatch.setattr(mteb, "get_tasks", lambda tasks: [ThreeVideos()])
    cache = importlib.import_module("mteb.cache").ResultCache(tmp_path)
    monkeypatch.setattr(mteb, "evaluate", functools.partial(mteb.evaluate, cache=cache))
    monkeypatch.setattr(sys, "argv", ["", str(exported), "--name", "somebody/tiny", "--revision", "1"])
    example["main"]()
    assert re.search(r"^ThreeVideosZeroShot: [01]\.\d{3}$", capsys.readouterr().out, flags=re.MULTILINE)
    assert list(tmp_path.rglob("ThreeVideosZeroShot.json")), "results that the leaderboard takes"
