"""Several sentences about a label: their mean or their maximum, from files, programs and stored processors."""

import copy
import json

import pytest
import torch
from transformers import pipeline

from froster_hf import FrosterProcessor
from froster_hf.cli import build_parser, main
from froster_hf.cli.options import label_options
from froster_hf.data import read_videos
from froster_hf.evaluation.predicting import predict
from froster_hf.pipeline import scoring_froster
from froster_hf.processing import processing_froster, prompts_froster
from froster_hf.processing.label_files import read_descriptions
from froster_hf.processing.label_matching import match_labels
from froster_hf.processing.prompts_froster import MAX_SENTENCES, TEXT_POOLINGS, TextPooling, read_label_list
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor

TASK = "zero-shot-video-classification"
BIKES = str(REAL_VIDEOS["bikes"])
POOLINGS = list(TEXT_POOLINGS)
SEVERAL = {"golf": ["a ball is hit", "someone swings"], "riding": "on a bike", "cooking": None}
SENTENCES = {"golf": ["a ball is hit", "someone swings", "on grass"], "riding": ["on a bike"], "cooking": None}


@pytest.fixture(scope="module")
def classify():
    return pipeline(TASK, model=tiny_model(), processor=tiny_processor(["a video of {}.", "{}"]))


def logits(classify, labels, **options) -> dict[str, float]:
    return {
        answer["label"]: answer["score"] for answer in classify(BIKES, labels, function_to_apply="none", **options)
    }


@pytest.mark.parametrize("pooling", POOLINGS)
def test_one_sentence_is_what_it_was_without_a_list(classify, pooling):
    alone = classify.label_embeds({"golf": "a ball is hit", "riding": "on a bike"})
    listed = classify.label_embeds({"golf": ["a ball is hit"], "riding": ["on a bike"]}, text_pooling=pooling)
    assert torch.equal(alone, listed)
    assert torch.equal(
        classify.label_embeds(["golf", "riding"], text_pooling=pooling), classify.label_embeds(["golf", "riding"])
    )


def test_the_mean_is_that_of_the_sentences_and_leaves_other_labels_alone(classify):
    each = classify.label_embeds({"golf": "a ball is hit"}), classify.label_embeds({"golf": "someone swings"})
    bank = classify.label_embeds(SEVERAL, text_pooling="mean")
    assert bank.shape == (3, 16)
    torch.testing.assert_close(bank[:1], torch.nn.functional.normalize(each[0] + each[1], dim=-1))
    alone = classify.label_embeds({"riding": "on a bike", "cooking": None})
    torch.testing.assert_close(bank[1:], alone, rtol=0, atol=1e-6)
    twice = classify.label_embeds({"golf": ["a ball is hit", "a ball is hit"]}, text_pooling="mean")
    torch.testing.assert_close(twice, each[0], rtol=0, atol=1e-6)


def test_the_maximum_is_the_highest_of_the_scores_and_at_least_each(classify):
    sentences = SENTENCES["golf"]
    found = logits(classify, SENTENCES, text_pooling="max")
    each = [logits(classify, {**SENTENCES, "golf": sentence})["golf"] for sentence in sentences]
    assert found["golf"] == pytest.approx(max(each), abs=1e-6)
    assert all(found["golf"] >= one - 1e-6 for one in each)
    single = logits(classify, {"riding": "on a bike", "cooking": None})
    assert {name: found[name] for name in single} == pytest.approx(single, abs=1e-6)
    assert found == pytest.approx(
        logits(classify, {**SENTENCES, "golf": sentences[::-1]}, text_pooling="max"), abs=1e-6
    )


def test_one_label_of_many_sentences_does_not_multiply_those_of_all_labels(monkeypatch):
    monkeypatch.setattr(prompts_froster, "MAX_PADDED_NUMBERS", 2000)
    pool = prompts_froster.find_text_pooling("max").pool
    with pytest.raises(ValueError, match=r"101 labels x 10 are 1010, of 110 sentences. Give that label fewer"):
        pool(torch.zeros(110, 2), [10] + [1] * 100)
    assert pool(torch.zeros(109, 2), [10] + [1] * 99).shape == (100, 10, 2)
    assert pool(torch.zeros(1010, 2), [10] * 101).shape == (101, 10, 2)


def test_a_background_of_many_sentences_does_not_multiply_the_labels(monkeypatch):
    monkeypatch.setattr(scoring_froster, "MOST_REPEATED_NUMBERS", 2000)
    labels, background = torch.zeros(101, 2), torch.zeros(1, 20, 2)
    with pytest.raises(ValueError, match="102, one of them with 20 sentences, and the maximum over"):
        scoring_froster.join_banks(labels, background)
    assert scoring_froster.join_banks(labels[:40], background).shape == (41, 20, 2)


def test_labels_and_descriptions_whose_embeddings_fill_memory_are_refused(classify, monkeypatch):
    model, processor = classify.model, copy.deepcopy(classify.processor)
    processor.label_descriptions = {"golf": ["a swing", "a green", "a hole"]}
    width = model.config.projection_dim
    monkeypatch.setattr(processing_froster, "MAX_PADDED_NUMBERS", 3 * width)
    with pytest.raises(ValueError, match=r"These labels, .*, are 4 texts"):
        processor.embed_labels(["golf", "tennis"], model=model)
    with pytest.raises(ValueError, match=r"These labels, .*, are 4 texts"):
        processor.embed_labels(["golf a", "golf b", "golf c", "golf d"], model=model)
    assert processor.embed_labels(["golf"], model=model).shape[0] == 1
    assert processor.embed_labels({"golf": ["a", "b"], "tennis": "d"}, model=model).shape[0] == 2


def test_a_model_takes_both_forms_of_the_bank(classify):
    model, processor = classify.model, classify.processor
    pixels = processor(videos=BIKES, return_tensors="pt")["pixel_values_videos"]
    for pooling, shape in (("mean", (3, 16)), ("max", (3, 3, 16))):
        bank = processor.embed_labels(SENTENCES, model=model, text_pooling=pooling)
        assert bank.shape == shape
        with torch.no_grad():
            found = model(pixel_values_videos=pixels, text_embeds=bank, labels=torch.tensor([0]))
        assert found.logits.shape == (1, 3)
        assert found.loss.isfinite()
        asked = logits(classify, SENTENCES, text_pooling=pooling)
        assert dict(zip(SENTENCES, found.logits[0].tolist())) == pytest.approx(asked, abs=1e-5)
    with pytest.raises(ValueError, match="One embedding per label is stored"):
        model.set_labels(list(SENTENCES), text_embeds=bank)
    with pytest.raises(ValueError, match=r"expected .labels, 16., or .labels, sentences, 16."):
        model(pixel_values_videos=pixels, text_embeds=torch.zeros(1, 2, 3, 16))


@pytest.mark.parametrize("background", [["standing"], {"standing": ["at rest", "not moving"]}])
def test_the_background_competes_in_either_form(classify, background):
    found = classify(BIKES, SENTENCES, background_labels=background, text_pooling="max")
    assert sum(answer["score"] for answer in found) == pytest.approx(1)
    assert len(found) == 4
    described = read_label_list(background).labels
    if isinstance(described, dict):
        described = {"standing": "at rest"}
    less = classify(BIKES, ["golf"], background_labels=background, text_pooling="max", function_to_apply="none")
    more = classify(BIKES, ["golf"], background_labels=described, function_to_apply="none")
    assert min(answer["score"] for answer in less) >= min(answer["score"] for answer in more) - 1e-6


def test_chunks_change_nothing(classify, monkeypatch):
    expected = {p: classify.processor.embed_labels(SENTENCES, model=classify.model, text_pooling=p) for p in POOLINGS}
    monkeypatch.setattr(processing_froster, "PROMPTS_PER_CHUNK", 1)
    for pooling, bank in expected.items():
        found = classify.processor.embed_labels(SENTENCES, model=classify.model, text_pooling=pooling)
        torch.testing.assert_close(found, bank)


def test_they_are_saved_with_the_processor(classify, tmp_path):
    processor = classify.processor
    stored = FrosterProcessor(processor.video_processor, processor.tokenizer, ["{}"], SENTENCES, text_pooling="max")
    stored.save_pretrained(tmp_path)
    loaded = FrosterProcessor.from_pretrained(tmp_path)
    assert loaded.text_pooling == "max"
    assert loaded.write_prompts(["golf", "tennis"]) == [*(f"golf: {text}" for text in SENTENCES["golf"]), "tennis"]
    bank = loaded.embed_labels(list(SENTENCES), model=classify.model)
    assert torch.equal(bank, stored.embed_labels(SENTENCES, model=classify.model))
    assert bank.ndim == 3
    kept = json.loads((tmp_path / "processor_config.json").read_text())["label_descriptions"]
    assert kept == {"golf": SENTENCES["golf"], "riding": "on a bike"}
    loaded.text_pooling = "mean"
    assert pipeline(TASK, model=classify.model, processor=loaded).label_embeds(list(SENTENCES)).shape == (3, 16)


def test_a_change_of_pooling_makes_another_bank(classify):
    before = classify.label_embeds(SENTENCES)
    classify.processor.text_pooling = "max"
    try:
        assert classify.label_embeds(SENTENCES).ndim == 3
    finally:
        classify.processor.text_pooling = "mean"
    assert classify.label_embeds(SENTENCES) is before


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"golf": []}, "a list of 0 sentences"),
        ({"golf": ["x"] * (MAX_SENTENCES + 1)}, f"it must have 1 to {MAX_SENTENCES}"),
        ({"golf": ["a ball", " "]}, "non-empty texts"),
        ({"golf": ["a ball", 5]}, "non-empty texts; one is 5"),
        ({"golf": [["nested"]]}, "non-empty texts; one is of the type list"),
        ({"golf": ["half \ud800"]}, "lone surrogate"),
    ],
)
def test_lists_that_are_none_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        read_label_list(labels)
    with pytest.raises(ValueError, match=message):
        FrosterProcessor(tiny_processor().video_processor, tiny_processor().tokenizer, label_descriptions=labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "golf", "1": ["a", "b"]}, "label 1 is of the type list"),
        # As some data sets name their classes: the first of each list is no sentence.
        ({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}, "label 0 is of the type list"),
        ({"golf": 0, "tennis": ["a"]}, "expected a mapping"),
        ({"class_names": ["golf", "tennis"]}, "the value of 'class_names' is of the type list"),
    ],
)
def test_lists_of_other_things_are_not_taken_for_sentences(labels, message):
    with pytest.raises(ValueError, match=message):
        read_label_list(labels)


def test_classes_called_by_digits_may_have_sentences():
    described = {"1": ["one finger", "a finger"], "0": "a fist"}
    assert match_labels(described, ["0", "1"]).descriptions == ("a fist", ("one finger", "a finger"))


def test_an_unknown_pooling_and_prompts_that_nothing_combines_are_refused(classify):
    with pytest.raises(ValueError, match="`text_pooling` is 'median'; it must be 'mean' or 'max'"):
        classify(BIKES, SENTENCES, text_pooling="median")
    with pytest.raises(ValueError, match=r"'golf' has 3 sentences.*embed_labels"):
        classify.processor.encode_labels(SENTENCES)
    with pytest.raises(ValueError, match="text_pooling"):
        classify.processor.__class__(classify.processor.video_processor, classify.processor.tokenizer, text_pooling=1)


def test_a_new_pooling_is_one_entry(classify, monkeypatch):
    first = TextPooling(
        pool=lambda embeds, counts: torch.stack([group[0] for group in embeds.split(counts)]), about="", source=""
    )
    monkeypatch.setitem(TEXT_POOLINGS, "first", first)
    arguments = build_parser().parse_args(["timeline", "clip.mp4", "--text-pooling", "first", "--labels", "a"])
    assert label_options(arguments)["text_pooling"] == "first"
    found = classify.label_embeds(SENTENCES, text_pooling="first")
    torch.testing.assert_close(found, classify.label_embeds({**SENTENCES, "golf": SENTENCES["golf"][0]}))


@pytest.fixture(scope="module")
def checkpoint(classify, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    classify.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def labels_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(SENTENCES))
    return str(path)


def test_the_shell_reads_them_from_a_labels_file(classify, checkpoint, labels_file, capsys):
    assert read_descriptions(labels_file) == {"golf": tuple(SENTENCES["golf"]), "riding": "on a bike", "cooking": None}
    answers = {}
    for pooling in POOLINGS:
        arguments = ["--labels-file", labels_file, "--model", checkpoint, "--device", "cpu", "--text-pooling", pooling]
        assert main(["predict", BIKES, *arguments, "--json", "--function", "none"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        answers[pooling] = {answer["label"]: answer["score"] for answer in json.loads(line)["answers"]}
        assert answers[pooling] == pytest.approx(logits(classify, SENTENCES, text_pooling=pooling), abs=1e-4)
    assert answers["max"]["golf"] > answers["mean"]["golf"]
    assert main(["timeline", BIKES, *arguments, "--json", "--window-seconds", "1", "--stride-seconds", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == list(SENTENCES)


def test_evaluation_takes_them_and_tells_the_poolings_apart(classify, checkpoint, tmp_path, capsys):
    (tmp_path / "list.csv").write_text(f"video,label\n{REAL_VIDEOS['bikes'].name},riding\n")
    (tmp_path / "labels.json").write_text(json.dumps(SENTENCES))
    listed = [str(tmp_path / "list.csv"), "--root", str(REAL_VIDEOS["bikes"].parent), "--labels"]
    reports = []
    for number, more in enumerate((["--text-pooling", "max"], ["--text-pooling", "mean"])):
        output = tmp_path / f"result{number}"
        command = ["evaluate", *listed, str(tmp_path / "labels.json"), "--model", checkpoint, "--output", str(output)]
        assert main([*command, *more]) == 0, capsys.readouterr().err
        reports.append(json.loads((output / "result.json").read_text())["models"][checkpoint])
    assert reports[0]["prompts"] != reports[1]["prompts"]
    said = [report["descriptions"].partition(", ")[2] for report in reports]
    assert said == [f"up to {len(SENTENCES['golf'])} each, combined by {pooling}" for pooling in ("max", "mean")]
    assert said[1] in (tmp_path / "result1" / "result.md").read_text()
    table = read_videos(tmp_path / "list.csv", root=REAL_VIDEOS["bikes"].parent, labels=list(SENTENCES))
    found, _ = predict(
        classify.model,
        table,
        processor=classify.processor,
        output_dir=tmp_path / "predictions",
        descriptions=SENTENCES,
        text_pooling="max",
        num_views=1,
        video_options={"sampling": classify.processor.video_processor.sampling},
    )
    asked = logits(classify, SENTENCES, text_pooling="max")
    assert dict(zip(SENTENCES, found[0, 0].tolist())) == pytest.approx(asked, abs=1e-4)
