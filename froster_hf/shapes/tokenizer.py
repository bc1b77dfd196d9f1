"""A CLIP tokenizer learned from the captions of the moving-shapes world.

Byte-level byte-pair encoding (Sennrich et al., ACL 2016) in CLIP's layout: 256 bytes, the same 256 closing a word,
the learned merges, and the start and end tokens last. Every text can be encoded, and no word of it becomes the end
token, at whose place CLIP reads the text.
"""

import json
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import CLIPTokenizer

from .captions import draw_captions
from .scenes import draw_scenes

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
_WORD_END = "</w>"
_MIN_VOCAB_SIZE = 2 * 256 + 2
# Of a text, as in CLIP.
MAX_TOKENS = 77


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 1024) -> CLIPTokenizer:
    """Learn a tokenizer from texts; `save_pretrained` writes what `CLIPTokenizer` and `AutoTokenizer` load.

    Args:
        texts: the training texts.
        vocab_size: tokens at most; fewer when the texts have no more pairs to merge.

    Raises:
        ValueError: `vocab_size` is too small for all bytes and the two special tokens.
    """
    if vocab_size < _MIN_VOCAB_SIZE:
        raise ValueError(
            f"All bytes, inside and at the end of a word, and two special tokens need {_MIN_VOCAB_SIZE} entries; "
            f"received vocab_size={vocab_size}."
        )
    byte_alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _learn_merges(texts, vocab_size - _MIN_VOCAB_SIZE, byte_alphabet)
    tokens = [*byte_alphabet, *(byte + _WORD_END for byte in byte_alphabet), *("".join(pair) for pair in merges)]
    vocab = {token: index for index, token in enumerate([*tokens, START_TOKEN, END_TOKEN])}
    # Annotated as strings in transformers, taken as pairs by tokenizers.
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)  # type: ignore[arg-type]


def moving_shapes_texts(seed: int, num_texts: int = 20_000) -> Iterator[str]:
    """Captions of random scenes."""
    rng = np.random.default_rng(seed)
    scenes = draw_scenes(rng, num_texts, second_object_rate=0.3)
    yield from draw_captions(rng, scenes.attributes).texts


def _learn_merges(texts: Iterable[str], num_merges: int, byte_alphabet: list[str]) -> list[tuple[str, str]]:
    clip = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    # The learner counts only the word ends that it has met towards the size: cut the merges to the number wanted.
    trainer = trainers.BpeTrainer(
        vocab_size=_MIN_VOCAB_SIZE + num_merges,
        initial_alphabet=byte_alphabet,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    state = json.loads(learner.to_str())
    return [tuple(pair) for pair in state["model"]["merges"][:num_merges]]
