"""The tokenizer of the small shipped CLIP."""

import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from froster_hf.shapes.tokenizer import moving_shapes_texts, train_tokenizer

STRANGE_TEXTS = ["juggling chainsaws", "Zürich, 東京 and 🙂!", "naïve  Qx\tż", "a\x00b", "<tag> & 'quote' 3.14"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(moving_shapes_texts(0, num_texts=3000))


def test_words_of_the_world_are_single_tokens(tokenizer):
    text = "a small purple hourglass circling counterclockwise"
    assert tokenizer.tokenize(text) == [f"{word}</w>" for word in text.split()]
    assert len(tokenizer) <= 1024


@pytest.mark.parametrize("text", STRANGE_TEXTS)
def test_unknown_words_are_spelled_in_bytes(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    as_clip_sees_it = " ".join(text.lower().split())
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert decoded.replace(" ", "") == as_clip_sees_it.replace(" ", "")


def test_text_ends_with_the_one_highest_id(tokenizer):
    # CLIP reads a text at its first end token, or at its highest id.
    for text in STRANGE_TEXTS:
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id == len(tokenizer) - 1 == max(ids)
        assert ids.count(tokenizer.eos_token_id) == 1


def test_saved_folder_loads_as_clip_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for loader in (AutoTokenizer, CLIPTokenizer):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, CLIPTokenizer)
        assert loaded.model_max_length == 77
        assert loaded(STRANGE_TEXTS).input_ids == tokenizer(STRANGE_TEXTS).input_ids
        assert loaded(["red"] * 2, padding="max_length", max_length=5)["attention_mask"] == [[1, 1, 1, 0, 0]] * 2


def test_training_is_decided_by_its_texts():
    texts = list(moving_shapes_texts(0, num_texts=500))
    assert texts == list(moving_shapes_texts(0, num_texts=500))
    assert train_tokenizer(texts).get_vocab() == train_tokenizer(texts).get_vocab()
    small = train_tokenizer(texts, vocab_size=600)
    assert len(small) == 600
    assert small.unk_token_id not in small("counterclockwise 東").input_ids[1:-1]


def test_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ValueError, match="need 514 entries; received vocab_size=500"):
        train_tokenizer(["a"], vocab_size=500)
