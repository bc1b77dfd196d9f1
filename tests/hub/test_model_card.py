"""Cards: hostile text stays text, committed cards are what their facts give, published numbers are the papers'."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import TrainingArguments

from froster_hf import FrosterConfig
from froster_hf.evaluation import published_results
from froster_hf.hub import CardFacts, MeasuredResult, build_model_card, load_card_facts
from froster_hf.hub.markdown import escape, link, plain
from froster_hf.hub.model_card import architecture_rows, recipe_rows
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from froster_hf.shapes.pretraining.recipe import PretrainingRecipe, RecipeArchitecture, RecipeStills
from froster_hf.training.arguments import FrosterTrainingArguments
from froster_hf.training.recipes import Recipe, RecipeData, RecipeModel, RecipeWorld
from tests.fixtures.tiny import tiny_model

CARDS = Path(__file__).parents[2] / "model_cards"
HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "two\nlines\r\n# heading",
    "[click](javascript:x) ![i](http://x)",
    "```\n---\nlicense: mit\n---",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt; \u202e\x00",
]


def tiny_config(labels=()) -> FrosterConfig:
    config = tiny_model().config
    config.id2label = dict(enumerate(labels))
    return config


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_wherever_it_stands(text):
    """The card with the hostile text has the lines, table cells and metadata of one with a harmless text."""

    def card(value):
        facts = CardFacts(
            value, summary=value, license="mit", license_note=value, training=value, limitations=(value,)
        )
        result = MeasuredResult(value, value, "top1", 50.0, protocol_name=value, protocol=value, remarks=(value,))
        return build_model_card(
            facts,
            config=tiny_config([value]),
            results=[result],
            recipe={"about": value, "model": {"prompt_templates": [value]}, "output_dir": "/home/me"},
            conversion={"source": f"/home/me/{value}", "layout": "froster", "sha256": "ab"},
        )

    harmless, hostile = card("harmless"), card(text)
    assert hostile.text.count("\n") == harmless.text.count("\n")
    shapes = [
        [line.replace("\\|", "").count("|") for line in found.text.splitlines()] for found in (harmless, hostile)
    ]
    assert shapes[0] == shapes[1]
    assert "<script" not in hostile.text
    assert "](" not in hostile.text.replace("\\](", "").replace("\\]\\(", "")
    assert "49" not in hostile.text
    assert "/home/me" not in hostile.text
    again = ModelCard(str(hostile))
    assert again.data.to_dict() == hostile.data.to_dict()
    assert again.data.license == "mit"
    assert again.data.eval_results[0].dataset_split == text


def test_no_text_of_the_facts_acts_on_a_terminal_or_hides_in_code():
    acts = "\x1b]0;title\x07\u202e\u009b2J\u2028\U000e0041\\"
    facts = CardFacts(
        f"a{acts}b",
        license=f"mit{acts}",
        citation=f"@misc{{a,\n\ttitle={{é{acts}}}}}",
        example_labels=(f"é{acts}", "plain"),
        summary=acts,
    )
    card = build_model_card(facts, config=tiny_config())
    assert all(line.isprintable() for line in str(card).split("\n"))
    assert ModelCard(str(card)).data.license == facts.license
    assert r"    title={é\x1b]0;title\x07\u202e\x9b2J\u2028\U000e0041\}" in str(card).replace(" " * 8, " " * 4)
    (code,) = re.findall(r"candidate_labels=(\[.*\])", str(card))
    assert ast.literal_eval(code) == list(facts.example_labels)
    # Without any, letters of all languages are as they are.
    assert '["é"]' in str(build_model_card(CardFacts("ü", example_labels=("é",)), config=tiny_config()))


def test_what_only_code_and_links_may_hold_is_checked():
    assert escape("a_b <c> | #1") == "a_b &lt;c&gt; \\| #1"
    assert escape("# 1. x") == "\\# 1. x"
    assert escape("1. x") == "1\\. x"
    with pytest.raises(ValueError, match="names and numbers"):
        plain('x", trust="y')
    with pytest.raises(ValueError, match="https"):
        link("http://x.org")


def fields_of_recipes() -> dict[str, list[str]]:
    """Section -> all of its fields, of both kinds of recipes and of transformers' arguments."""
    kinds = [Recipe, PretrainingRecipe]
    fields = {"": [*kinds], "model": [RecipeModel, RecipeArchitecture], "data": [RecipeData], "world": [RecipeWorld]}
    fields |= {"training": [FrosterTrainingArguments, TrainingArguments], "stills": [RecipeStills]}
    return {
        section: [*{entry.name: None for kind in kinds for entry in dataclasses.fields(kind)}, "push_to_hub_token"]
        for section, kinds in fields.items()
    }


@pytest.mark.parametrize(
    "secret", ["/home/me/secret/a.json", "secret", "hf_secret", ["a/secret"], {"b": ["~/secret"]}]
)
def test_no_text_of_a_recipe_is_told_that_may_be_a_path_a_name_or_a_token(secret):
    fields = fields_of_recipes()
    recipe = {section: dict.fromkeys(names, secret) for section, names in fields.items() if section}
    recipe |= {name: secret for name in fields[""] if name not in recipe}
    # Words for others to read, and checkpoints without their paths; the folder of a model holds its templates.
    del recipe["about"], recipe["model"]["checkpoint"], recipe["model"]["prompt_templates"]
    del recipe["training"]["teacher"]
    assert recipe_rows(recipe) == []
    assert len(fields["training"]) > 100


def test_checkpoints_of_a_recipe_are_told_without_their_paths():
    recipe = {"model": {"checkpoint": "/home/me/clip"}, "training": {"teacher": "/home/me/runs/teacher/model"}}
    assert recipe_rows(recipe) == [("model.checkpoint", "clip"), ("training.teacher", "teacher")]


def test_a_recipe_is_told_by_numbers_choices_and_words():
    training = {"learning_rate": 1e-4, "optim": "adamw_torch", "lr_scheduler_type": "cosine", "bf16": True, "seed": 0}
    training |= {"distillation": "residual", "train_video_options": {"sampling": "uniform", "scale": [0.5, 1]}}
    training |= {"num_train_epochs": 2, "optim_target_modules": ["attn", "mlp"], "lr_scheduler_kwargs": {"power": 2}}
    machine = {"dataloader_num_workers": 3, "save_steps": 5, "text_chunk_size": 8, "per_device_train_batch_size": 2}
    told = dict(recipe_rows({"training": training | machine, "data": {"format": "ucf101", "held_out": 0.2}}))
    assert set(told) == {*(f"training.{name}" for name in training), "data.format", "data.held_out"}
    assert told["training.optim"] == "adamw_torch"
    assert told["training.train_video_options"] == '{"sampling": "uniform", "scale": [0.5, 1]}'


def test_a_card_without_measurements_claims_none():
    card = build_model_card(CardFacts("tiny"), config=tiny_config())
    assert "No measured results were given" in card.text
    assert card.data.eval_results is None
    assert "model-index" not in card.data.to_dict()
    assert "metrics" not in card.data.to_dict()
    assert "license of the weights was not stated" in card.text


def test_time_symmetry_is_told_where_it_holds():
    config = tiny_config()
    assert "played backwards" in build_model_card(CardFacts("tiny"), config=config).text
    for module, entry in TEMPORAL_MODULES.items():
        config.temporal_module = module
        told = "played backwards" in build_model_card(CardFacts("tiny"), config=config).text
        assert told == entry.time_symmetric, module


@pytest.mark.parametrize("module", ["local_attention", "directional_attention"])
def test_the_card_says_how_far_attention_reaches(module):
    config = tiny_config()
    config.temporal_module = module
    rows = dict(architecture_rows(config, num_parameters=None, num_templates=0))
    assert rows["temporal module"] == f"{module}, 1 frame to each side"


def froster_b16() -> ModelCard:
    """What `froster export --facts model_cards/froster-b16.yaml --push-to-hub visual-ai/froster-b16` would write."""
    config = FrosterConfig(vision_config={"patch_size": 16}, text_config={})
    return build_model_card(
        load_card_facts(CARDS / "froster-b16.yaml"), config=config, repo_id="visual-ai/froster-b16"
    )


def test_the_committed_card_is_what_its_facts_and_the_template_give():
    assert (CARDS / "froster-b16.md").read_text(encoding="utf-8") == str(froster_b16())


def test_the_card_of_the_converted_weights_states_their_license_and_claims_nothing_as_ours():
    card = ModelCard.load(CARDS / "froster-b16.md")
    assert card.data.license == "cc-by-nc-sa-4.0"
    assert card.data.base_model == "openai/clip-vit-base-patch16"
    assert card.data.eval_results is None
    assert "Published by the authors, not measured here" in card.text
    published = published_results()["cross_dataset"]
    numbers = [*published["ucf101"]["FROSTER"], *published["hmdb51"]["FROSTER"], published["k600"]["FROSTER"][1]]
    assert [number.value for number in load_card_facts(CARDS / "froster-b16.yaml").published] == numbers
