"""Which action an index stands for: all that names the labels of a training has to agree, by name."""

import json

import pytest
import torch
from datasets import ClassLabel, Dataset

from froster_hf import FrosterProcessor
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments, LabelPrompts
from tests.fixtures.tiny import tiny_model, tiny_processor

NAMES = ["juggling", "mixing", "rowing"]


def ready_table(names=NAMES) -> Dataset:
    """Tensors, not videos, under a label column with names."""
    clips = torch.randn(6, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    columns = {"pixel_values_videos": list(clips.numpy()), "label": [index % len(names) for index in range(6)]}
    return Dataset.from_dict(columns).cast_column("label", ClassLabel(names=list(names)))


def trainer(folder, train_dataset, model=None, processor=None, **fields) -> FrosterTrainer:
    args = FrosterTrainingArguments(
        output_dir=str(folder), max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True, save_strategy="no"
    )
    return FrosterTrainer(
        model or tiny_model(),
        args,
        train_dataset=train_dataset,
        processing_class=processor or tiny_processor(),
        **fields,
    )


def saved_labels(trained: FrosterTrainer, folder) -> dict[str, str]:
    trained.train()
    trained.save_model(str(folder))
    return json.loads((folder / "config.json").read_text())["id2label"]


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0]])
def test_a_list_in_another_order_than_the_data_set_stands_in_the_order_of_the_data_set(tmp_path, order):
    trained = trainer(tmp_path, ready_table(), labels=[NAMES[index] for index in order])
    assert trained.texts_of(None).prompts.labels == tuple(NAMES)
    assert list(saved_labels(trained, tmp_path / "saved").values()) == NAMES


def test_descriptions_go_to_the_names_that_they_describe_and_are_saved(tmp_path):
    described = {"rowing": "they pull at oars", "juggling": None, "mixing": "a spoon goes round"}
    trained = trainer(tmp_path, ready_table(), labels=described, processor=tiny_processor("none"))
    expected = tiny_processor("none").encode_labels({name: described[name] for name in NAMES})["input_ids"]
    assert torch.equal(trained.texts_of(None).prompts.input_ids.flatten(0, 1), expected)
    assert list(saved_labels(trained, tmp_path / "saved").values()) == NAMES
    processor = FrosterProcessor.from_pretrained(tmp_path / "saved")
    assert torch.equal(processor.encode_labels(NAMES)["input_ids"], expected)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "juggling", "1": "mixing", "2": "rowing"},
        {2: "rowing", 0: "juggling", 1: "mixing"},
        {"rowing": 2, "juggling": 0, "mixing": 1},
    ],
)
def test_labels_of_every_form_stand_in_the_order_of_their_indices(tmp_path, labels):
    assert trainer(tmp_path, [], labels=labels).texts_of(None).prompts.labels == tuple(NAMES)


def test_names_are_compared_as_words_and_written_as_in_the_data_set(tmp_path):
    trained = trainer(tmp_path, ready_table(["BrushHair", "ride_bike"]), labels={"ride bike": "x", "brush hair": "y"})
    assert trained.texts_of(None).prompts.labels == ("BrushHair", "ride_bike")
    assert trained.processing_class.label_descriptions == {"BrushHair": "y", "ride_bike": "x"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (NAMES[:2], "without 1 of its names: rowing"),
        ([*NAMES, "diving"], "with 1 that it does not have: diving"),
        (
            ["a", "b", "c"],
            "without 3 of its names: juggling, mixing, rowing; and with 3 that it does not have: a, b, c",
        ),
        ({"juggling": "x", "mixing": None}, "without 1 of its names: rowing"),
    ],
)
def test_labels_that_are_not_those_of_the_data_set_are_refused(tmp_path, labels, message):
    with pytest.raises(ValueError, match="do not name the same classes") as error:
        trainer(tmp_path, ready_table(), labels=labels)
    assert message in str(error.value)


def tokens_of(names) -> LabelPrompts:
    encoded = tiny_processor().encode_labels(names)["input_ids"]
    return LabelPrompts.from_tokens(names, ["{}"], encoded, end_token=tiny_processor().tokenizer.eos_token_id)


def test_prompts_are_matched_by_name_too(tmp_path):
    turned = NAMES[::-1]
    trained = trainer(tmp_path, ready_table(), prompts=tokens_of(turned))
    assert trained.texts_of(None).prompts.labels == tuple(NAMES)
    expected = tokens_of(turned).input_ids[[2, 1, 0]]
    assert torch.equal(trained.texts_of(None).prompts.input_ids, expected)
    with pytest.raises(ValueError, match="`prompts` and the training set do not name the same classes"):
        trainer(tmp_path, ready_table(), prompts=tokens_of(["juggling", "mixing", "diving"]))
    with pytest.raises(ValueError, match="`labels` and `prompts` do not name the same classes"):
        trainer(tmp_path, [], prompts=tokens_of(NAMES), labels=["juggling", "mixing"])


def test_stored_labels_give_way_to_those_of_the_data_set(tmp_path):
    model = tiny_model()
    model.set_labels(NAMES[::-1], text_embeds=torch.nn.functional.normalize(torch.randn(3, 16), dim=-1))
    trained = trainer(tmp_path, ready_table(), model=model)
    assert list(saved_labels(trained, tmp_path / "saved").values()) == NAMES


def test_an_index_beyond_the_labels_is_refused_before_it_is_looked_up(tmp_path):
    clips = [{"pixel_values_videos": torch.zeros(4, 3, 32, 32), "labels": 3}]
    with pytest.raises(ValueError, match="indices go from 0 to 2"):
        trainer(tmp_path, clips, labels=NAMES).train()


def test_labels_of_an_evaluation_keep_the_prompts_of_the_training(tmp_path):
    """In another order, or only some of them; a table sorts its names, whatever the training's order."""
    trained = trainer(tmp_path, ready_table(), prompts=tokens_of(NAMES))
    some = trained.texts_of(["rowing", "juggling"]).prompts
    assert some.labels == ("rowing", "juggling")
    assert torch.equal(some.input_ids, tokens_of(NAMES).input_ids[[2, 0]])
