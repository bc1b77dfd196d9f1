"""What the pre-training tests share."""

from functools import cache

import pytest

from froster_hf.shapes.pretraining import run
from froster_hf.shapes.tokenizer import moving_shapes_texts, train_tokenizer


@cache
def _small_tokenizer(vocab_size: int = 600):
    return train_tokenizer(moving_shapes_texts(0, 500), vocab_size=vocab_size)


@pytest.fixture
def tokenizer():
    return _small_tokenizer()


@pytest.fixture(scope="package", autouse=True)
def _tokenizer_is_learned_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "train_tokenizer", lambda texts, vocab_size: _small_tokenizer(vocab_size))
        yield
