"""Processors that make other pixels or tokens of the same videos and texts are told apart; others are alike."""

import pytest
from transformers import CLIPTokenizer

from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.processing.same_inputs import refuse_other_inputs
from tests.fixtures.tiny import tiny_processor, tiny_tokenizer, tiny_video_processor

NAMES = ("The student", "the teacher")


def swapped_tokenizer() -> CLIPTokenizer:
    """As many tokens, two of them the other way round."""
    vocab = tiny_tokenizer().get_vocab()
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    return CLIPTokenizer(vocab=vocab, merges=[])


def joining_tokenizer() -> CLIPTokenizer:
    """The same tokens, of which it joins letters otherwise."""
    vocab = tiny_tokenizer().get_vocab()
    del vocab["\u0143"]
    vocab["an"] = tiny_tokenizer().get_vocab()["\u0143"]
    return CLIPTokenizer(vocab=vocab, merges=[("a", "n")])


@pytest.mark.parametrize(
    "alike",
    [
        tiny_processor("none", num_frames=8, sampling="dense", num_views=3),
        tiny_processor(size={"shortest_edge": 40}),
        tiny_processor(image_mean=(0.48145466, 0.4578275, 0.40821073)),
    ],
    ids=["frames and prompts", "how much is seen", "a tuple"],
)
def test_which_frames_are_seen_and_which_prompts_are_read_may_differ(alike, tmp_path):
    refuse_other_inputs(tiny_processor(), alike, names=NAMES)
    alike.save_pretrained(tmp_path)
    refuse_other_inputs(tiny_processor(), FrosterProcessor.from_pretrained(tmp_path), names=NAMES)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (tiny_processor(image_mean=[0.5, 0.5, 0.5]), r"`image_mean` is \[0\.48145466.* and \[0\.5, 0\.5, 0\.5\]"),
        (tiny_processor(image_std=[0.5, 0.5, 0.5]), "`image_std` is"),
        (tiny_processor(rescale_factor=1 / 127.5), "`rescale_factor` is"),
        (tiny_processor(do_normalize=False), r"`image_mean` is .* and \[0\.0.*`image_std` is"),
        (FrosterProcessor(tiny_video_processor(), swapped_tokenizer()), "tokenizers have other vocabularies"),
    ],
    ids=["mean", "deviation", "scale", "not normalized", "vocabulary"],
)
def test_other_pixels_and_tokens_are_refused_by_name(other, message):
    with pytest.raises(ValueError, match=f"^The student and the teacher would be given the same.*{message}"):
        refuse_other_inputs(tiny_processor(), other, names=NAMES)


def test_tokenizers_of_the_same_words_that_cut_texts_otherwise_are_refused():
    joins = joining_tokenizer()
    keeps = CLIPTokenizer(vocab=joins.get_vocab(), merges=[])
    processors = [FrosterProcessor(tiny_video_processor(), tokenizer) for tokenizer in (joins, keeps)]
    with pytest.raises(ValueError, match="make other tokens of the same text"):
        refuse_other_inputs(*processors, names=NAMES)
