"""One class in `datasets`, Ray Data and Daft: the same answers, and a damaged video costs its own row alone."""

import json
import pickle
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets.fingerprint import Hasher
from huggingface_hub import constants

import froster_hf
from froster_hf.integrations import ClassifyVideos, EmbedVideos
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model

LABELS = ["riding a bike", "talking", "a rabbit"]
NAMES = ["bikes.mp4", "bigbuckbunny.mp4", "damaged.mp4", "carphone_pristine.mp4"]


@pytest.fixture(scope="module")
def rows(videos) -> dict:
    return {"video": [str(videos / name) for name in NAMES], "id": [3, 1, 4, 1]}


@pytest.fixture(scope="module")
def expected(rows, exported) -> np.ndarray:
    """Embeddings of the three readable videos, one at a time, by the model and the processor."""
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(exported).eval(), AutoProcessor.from_pretrained(exported)
    readable = [video for video in rows["video"] if "damaged" not in video]
    with torch.no_grad():
        pixels = [processor(videos=[video], return_tensors="pt")["pixel_values_videos"] for video in readable]
        return torch.cat([model.get_video_features(clip).pooler_output for clip in pixels]).numpy()


def check(found: dict, rows: dict, expected: np.ndarray) -> None:
    """Rows in the order of `rows`, with a null and a reason for the damaged one."""
    assert list(found["id"]) == rows["id"]
    assert [embedding is None for embedding in found["embedding"]] == [False, False, True, False]
    assert [error == "" for error in found["error"]] == [True, True, False, True]
    assert "damaged.mp4" in found["error"][2]
    embeddings = [embedding for embedding in found["embedding"] if embedding is not None]
    np.testing.assert_allclose(np.array(embeddings, dtype=np.float32), expected, rtol=0, atol=1e-6)


def test_a_dict_of_columns_gives_a_dict_of_columns(rows, exported, expected):
    found = EmbedVideos(exported, batch_size=3)(rows)
    check(found, rows, expected)
    assert found["video"] == rows["video"]


def test_datasets_maps_it_and_keeps_its_answers_for_the_same_checkpoint_only(rows, exported, expected, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    (tmp_path / "table.jsonl").write_text("")
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "table")
    table = datasets.load_from_disk(tmp_path / "table")
    first = table.map(EmbedVideos(copy), batched=True, batch_size=2)
    check(first.to_dict(), rows, expected)
    assert table.map(EmbedVideos(copy), batched=True, batch_size=2).cache_files == first.cache_files
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    assert table.map(EmbedVideos(copy), batched=True, batch_size=2).cache_files != first.cache_files


@pytest.fixture
def adapter(exported, tmp_path) -> tuple[Path, Path]:
    """The folder of an adapter, and that of the checkpoint which it is for."""
    base, folder = tmp_path / "base", tmp_path / "own"
    shutil.copytree(exported, base)
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    return folder, base


def test_of_an_adapter_the_checkpoint_below_counts_as_well(adapter):
    folder, base = adapter
    before = Hasher.hash(EmbedVideos(folder))
    assert Hasher.hash(EmbedVideos(folder)) == before
    tiny_model(seed=7).save_pretrained(base)
    assert Hasher.hash(EmbedVideos(folder)) != before


@pytest.mark.parametrize("moved", ["own", "base"])
def test_of_an_adapter_on_the_hub_its_commit_counts_and_that_of_the_checkpoint_below(tmp_path, monkeypatch, moved):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    described = json.dumps({"base_model_name_or_path": "owner/base", "revision": "v1"})
    for name, ref, file in (("own", "main", "adapter_config.json"), ("base", "v1", "config.json")):
        repository = tmp_path / f"models--owner--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / ref).write_text("a" * 40)
        for commit in ("a" * 40, "b" * 40):
            (repository / "snapshots" / commit).mkdir(parents=True)
            (repository / "snapshots" / commit / file).write_text(described)
    # As the Hub's cache remembers that a repository has no such file.
    for commit in ("a" * 40, "b" * 40):
        (tmp_path / "models--owner--own" / ".no_exist" / commit).mkdir(parents=True)
        (tmp_path / "models--owner--own" / ".no_exist" / commit / "config.json").touch()
    before = Hasher.hash(EmbedVideos("owner/own"))
    assert Hasher.hash(EmbedVideos("owner/own")) == before
    (tmp_path / f"models--owner--{moved}" / "refs" / {"own": "main", "base": "v1"}[moved]).write_text("b" * 40)
    assert Hasher.hash(EmbedVideos("owner/own")) != before


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"base_model_name_or_path": 7}', '{"base_model_name_or_path": "/a/b/c"}']
)
def test_an_adapter_that_cannot_be_loaded_has_a_hash(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    assert Hasher.hash(EmbedVideos(tmp_path)) == Hasher.hash(EmbedVideos(tmp_path))


def test_types_are_known_where_a_first_batch_holds_no_readable_video(rows, exported):
    embed = EmbedVideos(exported)
    table = datasets.Dataset.from_dict({"video": [rows["video"][place] for place in (2, 2, 0)]})
    found = table.map(embed, batched=True, batch_size=2, features=embed.features(table))
    assert found.features["embedding"] == datasets.List(datasets.Value("float32"))
    assert [row["embedding"] is None for row in found] == [True, True, False]


def test_rows_of_an_undecoded_video_column_and_bytes_are_videos(rows, exported, expected):
    table = datasets.Dataset.from_dict(rows).cast_column("video", datasets.Video(decode=False))
    check(table.map(EmbedVideos(exported), batched=True, remove_columns="video").to_dict(), rows, expected)
    held = EmbedVideos(exported)({"video": [REAL_VIDEOS["bikes"].read_bytes()]})
    np.testing.assert_allclose(held["embedding"][0], expected[0], rtol=0, atol=1e-6)


def test_labels_and_scores_are_those_of_the_pipeline(rows, exported):
    from transformers import pipeline

    assert froster_hf
    answers = pipeline("zero-shot-video-classification", model=str(exported), device="cpu")(
        rows["video"], candidate_labels=LABELS, on_error="return"
    )
    found = ClassifyVideos(exported, LABELS, top_k=2, device="cpu")(rows)
    assert found["labels"][2] is None
    assert found["scores"][2] is None
    assert "damaged.mp4" in found["error"][2]
    for place in (0, 1, 3):
        assert found["labels"][place] == [answer["label"] for answer in answers[place][:2]]
        assert found["scores"][place] == pytest.approx([answer["score"] for answer in answers[place][:2]], abs=1e-6)
        assert found["error"][place] == ""


def test_columns_of_the_same_names_are_not_replaced_but_for_errors(rows, exported, expected):
    with pytest.raises(ValueError, match="the columns 'labels' already"):
        ClassifyVideos(exported, LABELS)({**rows, "labels": [["talking"]] * 4})
    classified = ClassifyVideos(exported, LABELS)(rows)
    check(EmbedVideos(exported)(classified), rows, expected)


def test_an_array_of_several_videos_costs_its_own_row_alone(rows, exported, expected):
    odd = {**rows, "video": [*rows["video"][:2], np.zeros((2, 4, 40, 40, 3), np.uint8), rows["video"][3]]}
    embedded, classified = EmbedVideos(exported)(odd), ClassifyVideos(exported, LABELS)(odd)
    assert [len(found["error"]) for found in (embedded, classified)] == [4, 4]
    assert all("(2, 4, 40, 40, 3)" in found["error"][2] for found in (embedded, classified))
    np.testing.assert_allclose(embedded["embedding"][3], expected[2], rtol=0, atol=1e-6)


def test_labels_of_an_iterator_serve_every_batch(rows, exported):
    classify, readable = ClassifyVideos(exported, iter(LABELS)), {"video": rows["video"][:1]}
    assert classify(readable) == classify(readable) == ClassifyVideos(exported, LABELS)(readable)


def test_what_the_machine_lacks_stops_the_work(rows, exported, monkeypatch):
    embed = EmbedVideos(exported)

    def lacks(*arguments, **options):
        raise froster_hf.DecodingUnavailableError("no process can be started")

    monkeypatch.setattr(type(embed.pipeline.processor.video_processor), "__call__", lacks)
    with pytest.raises(froster_hf.DecodingUnavailableError):
        embed(rows)


def test_it_travels_without_its_weights(rows, exported, expected):
    embed = EmbedVideos(exported)
    embed(rows)
    copy = pickle.dumps(embed)
    assert len(copy) < 5000
    check(pickle.loads(copy)(rows), rows, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: EmbedVideos(folder)({"clip": []}), "no column 'video'"),
        (lambda folder: EmbedVideos(folder, batch_size=0), "`batch_size` is 0"),
        (lambda folder: ClassifyVideos(folder, LABELS, on_error="raise"), "`on_error`"),
    ],
)
def test_wrong_options_are_errors(make, message, exported):
    with pytest.raises((KeyError, ValueError), match=message):
        make(exported)


def test_an_empty_batch_has_no_answers(exported):
    assert EmbedVideos(exported)({"video": []}) == {"video": [], "embedding": [], "error": []}
    assert ClassifyVideos(exported, LABELS)({"video": []})["labels"] == []


def test_ray_data_maps_it_in_two_workers(rows, exported, expected, local_ray):
    rows_in = [dict(zip(rows, row)) for row in zip(*rows.values())]
    found = local_ray.data.from_items(rows_in, override_num_blocks=2).map_batches(
        EmbedVideos, fn_constructor_args=[str(exported)], concurrency=2, batch_size=2
    )
    by_video = {row["video"]: row for row in found.take_all()}
    columns = {name: [by_video[video][name] for video in rows["video"]] for name in ("id", "embedding", "error")}
    check(columns, rows, expected)


def test_daft_calls_it_from_a_batch_method(rows, exported, expected):
    daft = pytest.importorskip("daft", reason="needs the extra daft (make test-integrations)")
    # It would take the Ray that another test has started.
    daft.set_runner_native()
    row = daft.DataType.struct(
        {"embedding": daft.DataType.list(daft.DataType.float32()), "error": daft.DataType.string()}
    )

    @daft.cls
    class Embed:
        def __init__(self, checkpoint: str):
            self.embed = EmbedVideos(checkpoint)

        @daft.method.batch(return_dtype=row, unnest=True)
        def __call__(self, video: daft.Series):
            found = self.embed({"video": video.to_pylist()})
            return [dict(zip(("embedding", "error"), answer)) for answer in zip(found["embedding"], found["error"])]

    embed = Embed(str(exported))
    frame = daft.from_pydict(rows)
    found = frame.select(frame["id"], embed(frame["video"])).to_pydict()
    check(found, rows, expected)
