"""The templates of a step depend on seed and step alone, and their tokens are those of the full list."""

from collections import Counter

import pytest
import torch

from froster_hf.modeling.modeling_froster import text_lengths
from froster_hf.processing.prompts_froster import TEMPLATE_SETS
from froster_hf.training import LabelPrompts, PromptSampler
from tests.modeling.tiny import END, tiny_texts
from tests.training.tiny import LABELS, TEMPLATES, label_prompts

FROSTER = TEMPLATE_SETS["froster"].templates


def test_froster_draws_one_of_28_sentences_and_adds_the_bare_label():
    sampler = PromptSampler(FROSTER, seed=0)
    drawn = [sampler.draw(step) for step in range(2000)]
    assert {len(templates) for templates in drawn} == {2}
    assert {FROSTER[bare] for _, bare in drawn} == {"{}"}
    counts = Counter(sentence for sentence, _ in drawn)
    assert sorted(counts) == list(range(28))
    # 2000 / 28 = 71 expected each, with a standard deviation of 8.
    assert min(counts.values()) > 35
    assert max(counts.values()) < 110


def test_the_same_step_of_the_same_seed_gives_the_same_templates_in_any_order():
    forward = [PromptSampler(FROSTER, seed=5).draw(step) for step in range(50)]
    sampler = PromptSampler(FROSTER, seed=5)
    assert [sampler.draw(step) for step in reversed(range(50))] == forward[::-1]
    assert [PromptSampler(FROSTER, seed=6).draw(step) for step in range(50)] != forward


@pytest.mark.parametrize(
    ("templates", "prompts", "expected"),
    [
        (("{}",), "random_and_bare", {(0,)}),
        (("a {}.",), "random_and_bare", {(0,)}),
        (("a {}.", "{}", "the {}."), "random_and_bare", {(0, 1), (2, 1)}),
        (("a {}.", "{}", "the {}."), "random", {(0,), (1,), (2,)}),
        (("a {}.", "{}", "the {}."), "all", {(0, 1, 2)}),
    ],
)
def test_what_can_be_drawn(templates, prompts, expected):
    sampler = PromptSampler(templates, prompts=prompts, seed=0)
    assert {sampler.draw(step) for step in range(100)} == expected


def test_actionclip_draws_a_template_a_clip():
    drawn = PromptSampler(TEMPLATE_SETS["actionclip"].templates, prompts="random", seed=0).draw_for_clips(7, 64)
    assert len(drawn) == 64
    assert len(set(drawn)) > 8
    assert max(drawn) < 16


def test_prompts_of_some_templates_are_rows_of_the_full_list_cut_to_the_longest():
    texts = tiny_texts(len(LABELS) * len(TEMPLATES))
    prompts = label_prompts()
    some = prompts.of_all_labels([3, 1])
    rows = [label * len(TEMPLATES) + template for label in range(len(LABELS)) for template in (3, 1)]
    assert some.shape[1] == text_lengths(texts[rows], END).max() < texts.shape[1]
    assert torch.equal(some, texts[rows, : some.shape[1]])


def test_prompts_of_clips_are_those_of_their_labels():
    texts, prompts = tiny_texts(len(LABELS) * len(TEMPLATES)), label_prompts()
    some = prompts.of_clips(torch.tensor([2, 0, 2]), [1, 3, 0])
    rows = [2 * len(TEMPLATES) + 1, 3, 2 * len(TEMPLATES)]
    assert torch.equal(some, texts[rows, : some.shape[1]])


def test_a_wrong_number_of_texts_is_refused():
    with pytest.raises(ValueError, match="make 12 prompts, but `input_ids` holds 11"):
        LabelPrompts.from_tokens(LABELS, TEMPLATES, tiny_texts(11), end_token=END)
