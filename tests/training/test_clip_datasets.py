"""Data sets of every kind that the Trainer takes, or refuses with a word on what to do."""

import logging
import re

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, Video, load_dataset

from froster_hf.data.decode_failures import read_decode_failures
from froster_hf.data.video_table import label_array
from froster_hf.processing.text_files import AnnotationError
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from froster_hf.training.clip_datasets import collate_videos
from tests.fixtures.pages import ROOT
from tests.fixtures.tiny import tiny_model, tiny_processor


def trainer(folder, train_dataset=None, eval_dataset=None, processor=None, **fields) -> FrosterTrainer:
    defaults = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no", "report_to": "none"}
    defaults |= {"disable_tqdm": True, "use_cpu": True}
    return FrosterTrainer(
        tiny_model(),
        FrosterTrainingArguments(output_dir=str(folder), **defaults | fields),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processor or tiny_processor(),
    )


def to_tensors(rows: dict) -> dict:
    """A transform of a user's, as in transformers' examples of video classification."""
    clips = torch.randn(len(rows["label"]), 4, 3, 32, 32)
    return {"pixel_values_videos": list(clips), "labels": rows["label"]}


def test_a_column_that_decodes_is_read_by_this_packages_reader(tmp_path, video_table):
    decoding = video_table.cast_column("video", Video())
    trained = trainer(tmp_path, decoding, decoding)
    trained.train()
    assert trained.evaluate()["eval_top1"] >= 0
    assert trained.predict(decoding).predictions.shape == (6, 2)


@pytest.mark.parametrize("label", [0.9, [1, 0], torch.tensor([0.0, 1.0]), float("nan"), None])
def test_a_label_that_is_not_the_index_of_one_class_is_refused(label):
    clip = torch.zeros(4, 3, 2, 2)
    with pytest.raises(ValueError, match="it has to be the index of one class"):
        collate_videos([{"pixel_values_videos": clip, "labels": label}])
    given = [1, 1.0, "1", torch.tensor(1), torch.tensor([1])]
    batch = collate_videos([{"pixel_values_videos": clip, "labels": label} for label in given])
    assert batch["labels"].tolist() == [1] * 5


@pytest.mark.parametrize("column", ["video", "more", "pixel_values_videos"])
def test_a_table_that_is_not_one_of_videos_is_not_decoded_either(tmp_path, column, monkeypatch):
    def decode_example(*arguments, **options):
        raise AssertionError("a picture is decoded in the caller's process")

    monkeypatch.setattr(Image, "decode_example", decode_example)
    picture = {"path": None, "bytes": b"%!PS"}
    rows = {"video": ["1.mp4"] * 2, "label": [0, 1], column: [[picture]] * 2}
    label = ClassLabel(names=["juggling", "rowing"])
    features = Features({"video": Value("string"), "label": label, column: List(Image())})
    table = Dataset.from_dict(rows, features=features)
    trained = trainer(tmp_path, table, table)
    for read in (trained.train, trained.evaluate, lambda: trained.predict(table)):
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            read()


def test_rows_without_a_video_end_neither_a_training_nor_an_evaluation(tmp_path, video_table):
    rows = {name: video_table.with_format(None)[name][:] for name in ("video", "label")}
    rows["video"][1] = None
    table = Dataset.from_dict(rows, features=video_table.features)
    trained = trainer(tmp_path, table, table, max_steps=6, max_undecodable_share=0.5)
    trained.train()
    assert set(read_decode_failures(tmp_path)) == {1}
    assert trained.evaluate()["eval_top1"] >= 0
    rows["label"][2] = None
    unlabeled = Dataset.from_dict(rows, features=video_table.features)
    with pytest.raises(AnnotationError, match="Row 2 of the data set has no label"):
        trained.evaluate(unlabeled)


def test_the_guide_to_fine_tuning_explains_names_that_are_logged(tmp_path, video_table):
    decoding = video_table.cast_column("video", Video())
    trained = trainer(tmp_path, decoding, decoding, logging_steps=1)
    trained.train()
    logged = {name for entry in [*trained.state.log_history, trained.evaluate()] for name in entry}
    table = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8").partition("## Reading the logs")[2]
    explained = [
        name for line in re.findall(r"^\| (`.*?) \|", table, flags=re.M) for name in re.findall(r"`(\w+)`", line)
    ]
    assert len(explained) >= 6
    assert set(explained) - logged == {"loss_kl"}, "of another objective"


def test_a_folder_as_load_dataset_gives_it(tmp_path, video_table):
    folder = video_table[0]["video"]["path"].rsplit("/", 2)[0]
    table = load_dataset("videofolder", data_dir=folder, split="train", cache_dir=str(tmp_path / "cache"))
    assert table.features["video"].decode
    trainer(tmp_path / "run", table).train()


def test_a_format_of_the_table_changes_nothing(tmp_path, video_table):
    trained = trainer(tmp_path, video_table.with_format("torch"))
    trained.train()
    assert trained.train_dataset.label_names == ["juggling", "rowing"]


def test_a_transform_of_the_users_gives_the_samples(tmp_path, video_table):
    made = video_table.with_transform(to_tensors)
    trained = trainer(tmp_path, made, made)
    trained.train()
    # The column's names are known all the same.
    assert trained.texts_of(None).prompts.labels == ("juggling", "rowing")
    assert trained.evaluate()["eval_top1"] >= 0


def test_a_stream_of_tensors_trains_under_the_names_of_its_column(tmp_path, video_table):
    features = video_table.remove_columns("video").features
    stream = video_table.remove_columns("video").to_iterable_dataset()
    assert trainer(tmp_path, stream).texts_of(None).prompts.labels == ("juggling", "rowing")
    ready = stream.map(lambda row: {"pixel_values_videos": torch.zeros(4, 3, 32, 32).tolist(), **row}, features=None)
    assert features["label"].names == ["juggling", "rowing"]
    FrosterTrainer(
        tiny_model(),
        trainer(tmp_path, stream).args,
        train_dataset=ready,
        processing_class=tiny_processor(),
        labels=["juggling", "rowing"],
    ).train()


@pytest.mark.parametrize("place", ["train_dataset", "eval_dataset"])
def test_a_stream_of_videos_is_refused_with_what_to_do(tmp_path, video_table, place):
    stream = video_table.to_iterable_dataset()
    with pytest.raises(ValueError, match=r"stream of videos is not decoded here.*map the stream to `pixel_values"):
        trainer(tmp_path, **{place: stream})


def test_a_dict_of_splits_is_no_training_set_but_several_evaluation_sets(tmp_path, video_table):
    splits = DatasetDict(train=video_table, test=video_table)
    with pytest.raises(ValueError, match="has the splits train, test; give one of them"):
        trainer(tmp_path, splits)
    assert "eval_test_top1" in trainer(tmp_path, video_table, splits).evaluate()


def test_sequential_clips_come_in_the_order_of_the_table(tmp_path, video_table):
    def labels_of_an_epoch(**fields) -> list[int]:
        trained = trainer(tmp_path, video_table, **fields)
        return [int(label) for batch in trained.get_train_dataloader() for label in batch["labels"]]

    in_order = label_array(video_table).tolist()
    assert labels_of_an_epoch(train_sampling_strategy="sequential") == in_order
    assert labels_of_an_epoch(seed=1) != in_order


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_an_order_by_length_is_refused(tmp_path, strategy):
    with pytest.raises(
        ValueError, match=f"`train_sampling_strategy` is '{strategy}'.*Choose 'random' or 'sequential'"
    ):
        trainer(tmp_path, train_sampling_strategy=strategy)


@pytest.mark.parametrize("field", ["train_video_options", "eval_video_options"])
def test_options_that_the_video_processor_does_not_know_are_refused(tmp_path, video_table, field):
    with pytest.raises(ValueError, match=f"`{field}` has 'frames', which the video processor does not know"):
        trainer(tmp_path, video_table, **{field: {"frames": 8}})


def test_a_training_clip_is_one_view_whatever_the_processor_says(tmp_path, video_table):
    trainer(tmp_path, video_table, processor=tiny_processor(num_views=2, num_crops=2)).train()
    with pytest.raises(ValueError, match="`train_video_options` has 'num_views', but a training clip is one view"):
        trainer(tmp_path, video_table, train_video_options={"num_views": 2})


def test_classes_and_their_counts_are_told_before_the_training(tmp_path, video_table, caplog):
    with caplog.at_level(logging.INFO, logger="froster_hf.training"):
        trainer(tmp_path, video_table.select(range(4)), max_steps=1).train()
    (told,) = [i for i, line in enumerate(caplog.messages) if line.startswith("Training on 4 videos of 2 classes")]
    counts = [line.split() for line in caplog.messages[told + 1 : told + 3]]
    assert counts == [["0", "juggling", "3"], ["1", "rowing", "1"]]
