"""Prompt templates: the published sets, descriptions, readable labels."""

import json
import re
from pathlib import Path

import pytest

from froster_hf.cli import build_parser
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.processing.prompts_froster import (
    MAX_TEMPLATES,
    TEMPLATE_SETS,
    TemplateSet,
    fill_templates,
    pair_with_descriptions,
    readable_label,
    resolve_templates,
)
from tests.fixtures.tiny import tiny_processor


def test_froster_has_28_sentences_and_the_bare_label():
    templates = TEMPLATE_SETS["froster"].templates
    assert len(templates) == len(set(templates)) == 29
    assert templates[-1] == "{}"
    assert templates[0] == "a photo of {}."
    for sentence in ("a video of a person {}.", "a demonstration of a person practicing {}.", "a example of {}."):
        assert sentence in templates


def test_actionclip_has_16_prompts():
    templates = TEMPLATE_SETS["actionclip"].templates
    assert len(templates) == len(set(templates)) == 16
    assert fill_templates(templates, "juggling")[3] == "juggling, an action"


def test_the_readme_shows_every_set():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| `"(\w+)"` \| (.*) \|$', readme, flags=re.MULTILINE)
    assert dict(rows) == {name: f"{entry.about}" for name, entry in TEMPLATE_SETS.items()}


def test_a_new_set_is_one_entry(monkeypatch, tmp_path):
    new = TemplateSet(templates=("someone begins to {}", "someone ends to {}"), about="two", source="this test")
    monkeypatch.setitem(TEMPLATE_SETS, "toy", new)
    assert build_parser().parse_args(["predict", "clip.mp4", "--templates", "toy"]).templates == "toy"
    processor = tiny_processor()
    assert processor.encode_labels(["golf", "run"], templates="toy")["num_prompts"] == 2
    processor = FrosterProcessor(processor.video_processor, processor.tokenizer, prompt_templates="toy")
    processor.save_pretrained(tmp_path)
    assert FrosterProcessor.from_pretrained(tmp_path).prompt_templates == list(new.templates)


def test_templates_come_from_a_name_one_template_or_a_list():
    assert resolve_templates("single") == ["a video of a person {}."]
    assert resolve_templates("none") == ["{}"]
    assert resolve_templates("someone is {}") == ["someone is {}"]
    assert resolve_templates(["{} here", "{} there"]) == ["{} here", "{} there"]


@pytest.mark.parametrize("templates", ["forster", ["a {} b {}"], [], [""], [3]])
def test_templates_without_one_place_for_the_label_are_refused(templates):
    with pytest.raises(ValueError, match=r"template"):
        resolve_templates(templates)


def test_more_templates_than_anybody_computes_are_refused(tmp_path):
    """A processor file of a stranger can hold any number; each costs a pass of every label through the text tower."""
    assert len(resolve_templates(["{}"] * MAX_TEMPLATES)) == MAX_TEMPLATES
    tiny_processor().save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    options = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**options, "prompt_templates": ["{}"] * (MAX_TEMPLATES + 1)}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"There are {MAX_TEMPLATES + 1} prompt templates; at most {MAX_TEMPLATES}"):
        FrosterProcessor.from_pretrained(tmp_path)


def test_descriptions_are_appended_as_froster_writes_them():
    templates = ["a photo of a person doing {}.", "{}"]
    assert fill_templates(templates, "abseiling", "going down a rock face on a rope") == [
        "a photo of a person doing abseiling. abseiling: going down a rock face on a rope",
        "abseiling: going down a rock face on a rope",
    ]
    assert fill_templates(templates, "abseiling") == ["a photo of a person doing abseiling.", "abseiling"]


def test_braces_in_labels_are_only_text():
    assert fill_templates(["a video of {}."], "{0.__class__} {}") == ["a video of {0.__class__} {}."]


def test_labels_and_descriptions_are_paired_from_every_form():
    assert pair_with_descriptions(["a", "b"]) == [("a", None), ("b", None)]
    assert pair_with_descriptions({"a": "first", "b": None}) == [("a", "first"), ("b", None)]
    assert pair_with_descriptions(["a", "b"], {"b": "second"}) == [("a", None), ("b", "second")]
    assert pair_with_descriptions(["a", "b"], ["first", None]) == [("a", "first"), ("b", None)]


@pytest.mark.parametrize(
    ("labels", "descriptions", "message"),
    [
        ([], None, "empty"),
        ("juggling", None, "list of class names"),
        (["a", " "], None, "non-empty"),
        (["a", 3], None, "non-empty"),
        (["a", "b", "a"], None, "repeated: 'a'"),
        (["a", "b"], ["only one"], "2 labels and 1 descriptions"),
        ({"a": "first"}, {"a": "first"}, "twice"),
    ],
)
def test_wrong_labels_are_named(labels, descriptions, message):
    with pytest.raises(ValueError, match=message):
        pair_with_descriptions(labels, descriptions)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("brushHair", "brush hair"),
        ("brush_hair", "brush hair"),
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("playing TV games", "playing TV games"),
        ("TVGames", "TV games"),
        ("t-shirt", "t-shirt"),
        ("  two   words ", "two words"),
        ("\ufefftwo\u200b wo\u00adrds\u2060", "two words"),
        # Persian, Hindi and an emoji, which need their joiners.
        ("\u0645\u06cc\u200c\u062f\u0648\u062f", "\u0645\u06cc\u200c\u062f\u0648\u062f"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
    ],
)
def test_readable_label_writes_words(name, words):
    assert readable_label(name) == words
