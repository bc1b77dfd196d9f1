"""Tokenizers that somebody else made: what their files may ask the tokenizers library to do with a text.

A tokenizer's file is a small program: it replaces text by other text, and cuts it by regular expressions. One that
multiplies text ends the process (Rust's allocator cannot be caught), and one expression can take hours over a word. So
everything that such files say is compared with the forms that the backbones' tokenizers have, before a text is
tokenized, and the text that replaces another is never longer than it.

`load_processor` and `FrosterProcessor.from_pretrained` pass here. A tokenizer that a program has made itself, and
gives to `FrosterProcessor(...)` as an object, does not.
"""

import base64
import binascii
import contextlib
import importlib.metadata
import itertools
import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeGuard

import numpy as np

from ..checkpoint_files import MOST_TEMPLATES, TEMPLATES, check_templates, finder, read_configuration, read_settings
from ..printing import listing, one_line, printable

# transformers' classes for CLIP, MetaCLIP 2, SigLIP and SigLIP 2, and the one that takes tokenizer.json as it is.
TOKENIZER_CLASSES = (
    "CLIPTokenizer",
    "XLMRobertaTokenizer",
    "SiglipTokenizer",
    "Siglip2Tokenizer",
    "GemmaTokenizer",
    "TokenizersBackend",
    "PreTrainedTokenizer",
)
PROCESSOR_CLASSES = ("FrosterProcessor", "CLIPProcessor", "SiglipProcessor", "Siglip2Processor")
IMAGE_PROCESSORS = ("CLIPImageProcessor", "SiglipImageProcessor")
# By the field that names them, the classes of its parts, whose other names end in "Fast" or "Pil". transformers has
# some that read files and repositories which a file names, and others that decode videos in this process.
PART_CLASSES = {
    "feature_extractor_type": ("CLIPFeatureExtractor", *IMAGE_PROCESSORS),
    "image_processor_type": IMAGE_PROCESSORS,
    "video_processor_type": ("FrosterVideoProcessor",),
}
# Files in which transformers looks for the class of a processor, or of a part.
PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "config.json",
)
MODEL_TYPES = ("BPE", "Unigram")
# Beyond every text tower.
LONGEST_TEXT = 4096
# Of every token, and of what a model puts around words; Gemma has tokens of 31 line breaks. The tokenizers library
# looks for a token at each character of a text, as far as its longest token reaches.
LONGEST_TOKEN = 256
# Prefixes of a vocabulary's tokens, in bytes, for each of which the library keeps a table of some 350 bytes: so many,
# and a few for each token of the text tower; XLM-R has three for each of 250,000, MetaCLIP 2 has 900,000 tokens.
MOST_PREFIXES = 2**20
PREFIXES_PER_TOKEN = 4
MOST_EMBEDDINGS = 2**20
# Characters of the pairs of tokens that make another, of which transformers makes a list; Gemma has 600,000 pairs of
# some eight characters each.
MOST_MERGED = 2**24
# Such pairs in a file of them, or in tokenizer.json, each of which takes some hundred bytes.
MOST_PAIRS = 2**20
# Words of a vocabulary that no such pair makes: tokens for ends and padding, and words added by hand.
MOST_UNMADE = 32
# XLM-V's, which MetaCLIP 2 has, has 18 million.
MAX_SENTENCEPIECE_BYTES = 32 * 2**20
# The first release of its library that neither runs tests of a file's own nor reads beyond its own memory.
SENTENCEPIECE_RELEASE = "0.2.3"
TOKEN_FIELDS = {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "__type"}
# Of added tokens in a file; Gemma has some 250. transformers compares each of all files with each.
MOST_TOKENS = 2_500
# Parts of a normalizer, a pre-tokenizer, a decoder or a post-processor; the backbones' have up to five.
MAX_PARTS = 16
# Parts that write characters of their own before or after each piece of a text, or for each of its bytes; several
# would double a text again and again.
WRITING_PARTS = ("ByteLevel", "Metaspace", "TemplateProcessing")
# Bytes that a table of a sentencepiece model may write for others; Unicode's longest (U+FDFA) is 18 characters of 33.
LONGEST_WRITTEN = 33
# Bytes that it may replace at once.
LONGEST_REPLACED = 256
LETTERS = np.arange(1, 256)
# Places of such a table that are followed at once, to all letters.
PLACES_AT_ONCE = 1 << 14

# How CLIP's words are cut, as OpenAI published it and as transformers writes it.
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
KNOWN_PATTERNS = (CLIP_WORDS, rf"<\|startoftext\|>|<\|endoftext\|>|{CLIP_WORDS}")
# One character or one class of them, once or at least once: matched in time that grows with the text, and no further.
SIMPLE_PATTERN = re.compile(
    r"(?:[^\\\[\](){}?*+|^$.]|\\[^\d\w]|\\[sSdDwW]|\[(?:\\.|[^\[\]\\])+\])(?:\+|\{[1-9]\d?(?:,\d{0,2})?\})?"
)

# Fields of tokenizer_config.json that are names or choices, and those of which nothing comes to a tokenizer here.
CHOICES = (
    "backend",
    "errors",
    "model_max_length",
    "name_or_path",
    "padding",
    "padding_side",
    "processor_class",
    "special_tokens_map_file",
    "tokenizer_class",
    "truncation",
    "truncation_side",
    "truncation_strategy",
)
UNUSED = ("auto_map", "chat_template", "custom_pipelines")
SPECIAL_TOKENS = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")

# Files that transformers makes a tokenizer of.
SENTENCEPIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
# Without a tokenizer.json, it looks within the names of all files, and reads the file of the part that matches.
OTHER_FORMATS = re.compile(r"tekken\.json|tiktoken\.model|tokenizer\.model.")
OWN_TOKENIZER = " One that you made yourself can be given as an object: FrosterProcessor(video_processor, tokenizer)."


class ProcessorError(ValueError):
    """A processor whose files name something else than those of the backbones; says what, and what is allowed."""


class TokenizerError(ProcessorError):
    """A tokenizer that asks for more than those of the backbones do; says what, and what is allowed."""


def load_processor(name: str | os.PathLike[str], *, trust_remote_code: bool | None = None, **kwargs: Any) -> Any:
    """`AutoProcessor.from_pretrained`, whose tokenizer is checked before it is built and after.

    Args:
        name: name of the checkpoint, a folder or a name on the Hub.
        trust_remote_code: whether code of the checkpoint may run; where transformers would ask, it may not.
        kwargs: passed on.

    Raises:
        ProcessorError: see `check_processor_files`.
        TokenizerError: see `check_tokenizer_files`.
        Exception: of any kind that transformers raises.
    """
    from transformers import AutoProcessor

    check_processor_files(name, **kwargs)
    load = partial(AutoProcessor.from_pretrained, name, trust_remote_code=bool(trust_remote_code), **kwargs)
    return checked(load, name, **kwargs)


def checked(load: Callable[[], Any], name: str | os.PathLike[str], **kwargs: Any) -> Any:
    """What `load` makes of a checkpoint, a tokenizer or a processor with one, if its tokenizer is one to be used.

    Its texts are padded and cut at their ends, as every backbone was trained, whatever the files say.

    Args:
        load: builds it.
        name: name of the checkpoint, a folder or a name on the Hub.
        kwargs: keywords of the loader; those that say where the files are count.

    Raises:
        TokenizerError: see `check_tokenizer_files`.
        ProcessorError: another value of the files is of a kind that transformers does not take.
    """
    from .processing_froster import errors_of_tokenizers

    embeddings = check_tokenizer_files(name, **kwargs)
    try:
        with errors_of_tokenizers(TokenizerError, "the tokenizer's files"):
            loaded = load()
    except (ValueError, LookupError, AttributeError, TypeError, RuntimeError) as error:
        if isinstance(error, ValueError) and str(error).isprintable():
            raise
        # transformers repeats values of the files as they are.
        raise ProcessorError(one_line(f"The processor cannot be loaded: {type(error).__name__}: {error}")) from error
    tokenizer = getattr(loaded, "tokenizer", loaded)
    check_tokenizer(tokenizer)
    _check_ends(tokenizer, embeddings)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    # Texts of a stranger's that nothing here reads, and that would be saved with the tokenizer.
    loaded.chat_template = tokenizer.chat_template = None
    _check_kept(tokenizer)
    # Nor what names code: of a processor's that is the package's own, saving says so by itself.
    for field in ("auto_map", "custom_pipelines"):
        tokenizer.init_kwargs.pop(field, None)
    return loaded


def _check_ends(tokenizer: Any, embeddings: int) -> None:
    """Refuse a tokenizer that puts around every text, or behind it, a token that the text tower does not have."""
    from .processing_froster import errors_of_tokenizers

    with errors_of_tokenizers(TokenizerError, "a text without a word"):
        tokens = [*tokenizer("")["input_ids"], tokenizer.pad_token_id]
    for token in tokens:
        if token is not None and token >= embeddings:
            told = f"its files give texts the token {tokenizer.convert_ids_to_tokens(token)!r:.100}, whose index is"
            raise _refused(told, token, f"from 0 to {embeddings - 1}, which the model has")


def _check_kept(tokenizer: Any) -> None:
    """Refuse a field that names something of the tokenizer's own, which transformers would write in its place."""
    for field, said in tokenizer.init_kwargs.items():
        has = getattr(tokenizer, field, said)
        is_named = field in (*CHOICES, *UNUSED, *SPECIAL_TOKENS, "added_tokens_decoder") or field.endswith("_token")
        if not is_named and has != said and not isinstance(has, bool | int | float | None):
            raise _refused("tokenizer_config.json has the field", field, "plain settings and tokens")


def check_tokenizer_files(name: str | os.PathLike[str], **kwargs: Any) -> int:
    """Refuse a checkpoint whose tokenizer does other things with texts than those of the backbones.

    Args:
        name: name of the checkpoint, a folder or a name on the Hub.
        kwargs: keywords of the loader; those that say where the files are count.

    Returns:
        How many tokens the text tower has, or `MOST_EMBEDDINGS` where no configuration says it.

    Raises:
        TokenizerError: a class, a part, an expression or a size that none of the backbones' tokenizers has.
        AnnotationError: a file that is not JSON.
        OSError: a file cannot be read, there is no vocabulary, or the Hub cannot be reached.
    """
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES
    from transformers.utils import is_sentencepiece_available

    find = finder(name, kwargs)
    settings = read_settings(find("tokenizer_config.json"))
    config, described = _model_settings(find)
    text_tower = getattr(described, "text_config", None)
    embeddings = getattr(text_tower, "vocab_size", MOST_EMBEDDINGS)
    by_model = TOKENIZER_MAPPING_NAMES.get(str(config.get("model_type")))
    for stated in (settings.get("tokenizer_class"), config.get("tokenizer_class"), by_model):
        _check_class(stated, has_code="auto_map" in settings)
    for name_of_file, check in ARGUMENTS.items():
        _check_arguments(read_settings(find(name_of_file)), check, name_of_file)
    if (description := find("tokenizer.json")) is not None:
        check_description(read_settings(description), embeddings=embeddings)
    else:
        if other := next(filter(OTHER_FORMATS.search, sorted(_names_of_files(name, kwargs))), None):
            raise _refused("its format is that of a language model,", other, "tokenizer.json and sentencepiece's")
        vocabulary = find("vocab.json")
        if vocabulary is None and not any(map(find, SENTENCEPIECE_FILES)):
            # transformers would make one that knows no word, and give all labels the same tokens.
            raise OSError(
                f"{printable(os.fspath(name))} has no tokenizer: neither tokenizer.json nor vocab.json nor a model of "
                f"sentencepiece. Get the whole checkpoint.{OWN_TOKENIZER}"
            )
        tokens = read_settings(vocabulary)
        _check_vocabulary(tokens, embeddings)
        _check_pairs(find("merges.txt"), tokens)
    # SigLIP's first tokenizer reads its model beside tokenizer.json, too, with the library.
    for model in SENTENCEPIECE_FILES if description is None or is_sentencepiece_available() else ():
        if (file := find(model)) is not None:
            _check_sentencepiece(file, embeddings)
    return embeddings


def check_processor_files(name: str | os.PathLike[str], **kwargs: Any) -> None:
    """Refuse a checkpoint whose processor names something else to load: transformers would run that one's code.

    Args:
        name: name of the checkpoint, a folder or a name on the Hub.
        kwargs: keywords of the loader; those that say where the files are count.

    Raises:
        ProcessorError: a file names a tokenizer of sounds, or a processor of other models or a part of one, or the
            model is one that has others.
        CheckpointError: see `finder` and `read_settings`; chat templates on the Hub are bounded as those of a folder.
        AnnotationError: a file that is not JSON.
        OSError: a file cannot be read, or the Hub cannot be reached.
    """
    find = finder(name, kwargs)
    _model_settings(find)
    if not os.path.isdir(name):
        # One more than there may be is enough to refuse them.
        names = itertools.islice(_names_of_templates(os.fspath(name), kwargs), MOST_TEMPLATES + 1)
        found = map(find, ("chat_template.jinja", *names))
        check_templates((file for file in found if file is not None), where=name)
    template = find("chat_template.json")  # of older releases
    if template is not None and "chat_template" not in read_settings(template):
        raise ProcessorError(
            f"{printable(template)} has no chat_template, for which transformers reads it. Remove the file: it is not "
            "used here."
        )
    _check_classes(find)


def check_readers(name: str | os.PathLike[str], **kwargs: Any) -> None:
    """Hold a FROSTER checkpoint to what a pipeline of transformers, which loads what reads videos and texts behind the
    model, of any class that a file names, could not bear.

    Where what reads videos cannot be loaded, it takes an image processor in its place, and decodes videos by itself:
    in this process, without limits, and of any address.

    Args:
        name: name of the checkpoint, a folder or a name on the Hub.
        kwargs: keywords of the loader; those that say where the files are count.

    Raises:
        ProcessorError: a file names a processor, or a part of one, of other classes than the backbones', or a
            tokenizer of sounds; or there is an image processor, but nothing that reads videos can be loaded.
        TokenizerError: a backbone's own processor is named, whose tokenizer is refused (see `check_tokenizer_files`).
        CheckpointError: see `read_settings`.
        AnnotationError: a file that is not JSON.
    """
    from transformers import AutoVideoProcessor

    find = finder(name, kwargs)
    settings = _check_classes(find)
    if any(stated.get("processor_class") not in (None, "FrosterProcessor") for stated in settings.values()):
        with contextlib.suppress(OSError):  # where there is none
            check_tokenizer_files(name, **kwargs)
    if find("preprocessor_config.json") is not None or "image_processor" in settings["processor_config.json"]:
        try:
            AutoVideoProcessor.from_pretrained(name, trust_remote_code=False, **kwargs)
        except Exception as error:  # of any kind that values of any type make transformers raise
            raise ProcessorError(
                one_line(f"The video processor is refused: it cannot be loaded ({type(error).__name__}: {error}).")
            ) from error


def _check_classes(find: Callable[[str], str | None]) -> dict[str, Mapping[str, Any]]:
    """The settings of each of `PROCESSOR_FILES`, which name nothing else to load than the backbones do."""
    if (audio := find("audio_tokenizer_config.json")) is not None:
        raise _refused("it has a tokenizer of sounds,", audio, "none", part="processor")
    found = {file: read_settings(find(file)) for file in PROCESSOR_FILES}
    for file, settings in found.items():
        if (stated := settings.get("audio_tokenizer")) is not None:
            raise _refused(f"{file} has the audio_tokenizer", stated, "none", part="processor")
        stated = settings.get("processor_class")
        if stated is not None and stated not in PROCESSOR_CLASSES:
            raise _refused(f"{file} has the processor_class", stated, listing(PROCESSOR_CLASSES), part="processor")
        for field, allowed in PART_CLASSES.items():
            part = field.removesuffix("_type")
            shown = part.replace("_", " ")
            if not isinstance(stated := settings.get(part), Mapping | None):
                raise _refused(f"{file} has the {part}", stated, "an object or null", part=shown)
            for section in (settings, *(value for value in settings.values() if isinstance(value, Mapping))):
                if (stated := section.get(field)) is not None and not _is_class(stated, allowed):
                    raise _refused(f"{file} has the {field}", stated, listing(allowed), part=shown)
    return found


def _is_class(stated: Any, allowed: Collection[str]) -> bool:
    return isinstance(stated, str) and stated.removesuffix("Fast").removesuffix("Pil") in allowed


def _names_of_files(name: str | os.PathLike[str], kwargs: Mapping[str, Any]) -> list[str]:
    """All files of a checkpoint, among which transformers looks for a tokenizer; none where the Hub does not tell."""
    if os.path.isdir(name):
        return [
            file for folder in {"", kwargs.get("subfolder") or ""} for file in os.listdir(os.path.join(name, folder))
        ]
    from huggingface_hub import list_repo_files

    with contextlib.suppress(Exception):  # As transformers, which then finds none either.
        return list_repo_files(os.fspath(name), revision=kwargs.get("revision"), token=kwargs.get("token"))
    return []


def _names_of_templates(name: str, kwargs: Mapping[str, Any]) -> Iterator[str]:
    """The chat templates of a repository on the Hub, as transformers finds them."""
    from huggingface_hub.errors import EntryNotFoundError
    from transformers.utils import list_repo_templates

    where = {key: kwargs.get(key) for key in ("cache_dir", "revision", "token")}
    with contextlib.suppress(EntryNotFoundError):
        for template in list_repo_templates(name, local_files_only=bool(kwargs.get("local_files_only")), **where):
            yield f"{TEMPLATES}/{template.removesuffix('.jinja')}.jinja"


def _model_settings(find: Callable[[str], str | None]) -> tuple[Mapping[str, Any], Any]:
    """What config.json says, and the configuration that transformers builds of it to find the classes that no file
    names; `None` where it says nothing.

    Raises:
        ProcessorError: it is of another kind of model, or one of its fields is refused.
        CheckpointError: see `read_configuration`.
    """
    from transformers import CONFIG_MAPPING

    config = read_configuration(find("config.json"))
    described = None
    if config:
        froster: Any = CONFIG_MAPPING["froster"]
        try:
            described = froster.from_fields(config)
        except Exception as error:  # what a configuration with values of any type makes transformers raise
            raise ProcessorError(
                f"The processor is refused: the config.json beside it cannot be used. {one_line(str(error))}"
            ) from error
    return config, described


def _check_arguments(fields: Mapping[str, Any], check: Callable[[str, Any], bool], file: str) -> None:
    for field, value in fields.items():
        if not _is_text(field) or not check(field, value):
            shown = printable(field, limit=100)
            raise _refused(f"{file} has the field {shown} with", value, "plain settings and tokens")
    tokens = [value for value in fields.values() if isinstance(value, list | Mapping)]
    _check_count([*fields, *itertools.chain.from_iterable(tokens)])


def _check_count(tokens: Collection[Any]) -> None:
    if len(tokens) > MOST_TOKENS:
        raise _refused("the number of its added tokens is", len(tokens), f"up to {MOST_TOKENS}")


def _is_setting(field: str, value: Any) -> bool:
    """Whether a field of tokenizer_config.json is nothing, a number, a token, or a text that names no file."""
    if field == "auto_map" and not isinstance(value, list | Mapping | None):
        return False
    if not value or isinstance(value, bool | int | float):
        return True
    if field in UNUSED:
        return _is_text(json.dumps(value, ensure_ascii=False))
    if field in CHOICES:
        return _is_text(value)
    if field == "model_input_names":
        # The first is what transformers pads.
        return isinstance(value, list) and all(map(_is_text, value)) and value[0] == "input_ids"
    if field == "added_tokens_decoder":
        return isinstance(value, Mapping) and all(map(_is_index, value)) and all(map(_is_token, value.values()))
    return _is_special(field, value)


def _is_special(field: str, value: Any) -> bool:
    """Whether a field of special_tokens_map.json is tokens; transformers takes any for an argument of its class."""
    if field.endswith("_token"):
        return value is None or _is_token(value)
    tokens = value.values() if isinstance(value, Mapping) else value
    return field in SPECIAL_TOKENS and isinstance(tokens, Iterable) and all(map(_is_token, tokens))


def _is_added(text: str, index: Any) -> bool:
    """Whether an entry of added_tokens.json is one of a token's index."""
    return type(index) is int and _is_index(str(index)) and _is_token(text)


def _is_index(text: str) -> bool:
    """Whether a text is the index of a token; some of transformers' readers make a token for each number up to it."""
    return re.fullmatch(r"[0-9]{1,7}", text) is not None and int(text) < MOST_EMBEDDINGS


def _is_token(token: Any) -> bool:
    text = token.get("content") if isinstance(token, Mapping) else token
    others = {key: value for key, value in token.items() if key != "content"} if isinstance(token, Mapping) else {}
    # Of other keys, the tokenizers library prints each on the standard output, as it is.
    known = others.keys() <= TOKEN_FIELDS and others.pop("__type", "AddedToken") == "AddedToken"
    flags = all(isinstance(value, int | None) for value in others.values())
    return known and flags and _is_text(text) and 1 <= len(text) <= LONGEST_TOKEN


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether a value is a text that can be written: no file has half of a character (a lone surrogate)."""
    return isinstance(value, str) and re.search("[\ud800-\udfff]", value) is None


def _check_class(stated: Any, *, has_code: bool = False) -> None:
    if stated is not None and (not isinstance(stated, str) or stated.removesuffix("Fast") not in TOKENIZER_CLASSES):
        kind = "code of its own, which runs with `trust_remote_code` only" if has_code else "its class"
        raise _refused(f"{kind} is", stated, listing(TOKENIZER_CLASSES))


def check_description(content: Mapping[str, Any], *, embeddings: int = MOST_EMBEDDINGS) -> None:
    """Refuse a tokenizer.json that does other things with texts than the backbones' tokenizers.

    Args:
        content: content of the file.
        embeddings: tokens of the text tower, as many as are allowed where that is not known.

    Raises:
        TokenizerError: see `check_tokenizer_files`.
    """
    for section, allowed in PARTS.items():
        _check_parts(content.get(section), section, allowed)
    model = content.get("model")
    if not isinstance(model, Mapping):
        raise _refused("its model is", model, listing(MODEL_TYPES))
    _check_model(model.get, model.get("type") or ("BPE" if "merges" in model else "Unigram"))
    # Of another type, they are none to transformers.
    pairs = merges if isinstance(merges := model.get("merges"), list) else []
    _check_number_of_pairs(len(pairs))
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, list | Mapping):
        raise _refused("its vocabulary is", vocabulary, "a list or an object")
    if isinstance(vocabulary, Mapping):
        _check_vocabulary(vocabulary, embeddings)
    else:
        # Pairs of a token and its score.
        tokens = [entry[0] if isinstance(entry, list) and entry else entry for entry in vocabulary]
        _check_vocabulary(tokens, embeddings)
        unknown = model.get("unk_id")
        if unknown is not None and (type(unknown) is not int or not 0 <= unknown < len(vocabulary)):
            raise _refused("its unk_id is", unknown, f"from 0 to {len(vocabulary) - 1}")
    added = content.get("added_tokens") or []
    if not isinstance(added, list):
        raise _refused("its added tokens are", added, "a list")
    _check_count(added)
    for token in added:
        if not isinstance(token, Mapping) or not _is_token(token):
            raise _refused("an added token is", token, f"texts of 1 to {LONGEST_TOKEN} characters, with flags")
    # Where the library ignores them, a word is its token as a whole.
    if isinstance(vocabulary, Mapping) and not model.get("ignore_merges"):
        words = vocabulary.keys() - {token["content"] for token in added}
        texts = (" ".join(map(str, pair)) if isinstance(pair, list) else str(pair) for pair in pairs)
        _check_made(words, texts, suffix=model.get("end_of_word_suffix") or "")
    for section, lengths in (("truncation", ("max_length", "stride")), ("padding", ("pad_to_multiple_of",))):
        _check_lengths(content.get(section), section, lengths)


def _check_indices(vocabulary: Mapping[str, Any]) -> None:
    """Refuse an index far behind those of the others: the tokenizers library writes a vocabulary in the order of its
    indices, and keeps each that no token has."""
    for token, index in vocabulary.items():
        if type(index) is not int or not 0 <= index < MOST_EMBEDDINGS:
            raise _refused(f"the index of its token {token!r:.50} is", index, f"from 0 to {MOST_EMBEDDINGS - 1}")


def _check_vocabulary(tokens: Collection[Any], embeddings: int) -> None:
    """Refuse tokens of which the tokenizers library would make more than it makes of the backbones' vocabularies."""
    if isinstance(tokens, Mapping):
        _check_indices(tokens)
    for token in tokens:
        if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
            raise _refused("a token of its vocabulary is", token, f"texts of up to {LONGEST_TOKEN} characters")
    most = MOST_PREFIXES + PREFIXES_PER_TOKEN * min(embeddings, MOST_EMBEDDINGS)
    # There are at most as many as bytes, which are counted faster.
    encoded = [token.encode(errors="replace") for token in tokens]
    if sum(map(len, encoded)) > most and (prefixes := count_prefixes(encoded)) > most:
        raise _refused("the prefixes of its vocabulary's tokens are", prefixes, f"up to {most} for this text tower")


def _check_pairs(file: str | None, tokens: Iterable[str]) -> None:
    """Refuse a list of pairs of tokens that make another, a line each, that is longer than any backbone's, or that is
    not the whole one of these tokens."""
    if file is None:
        return
    with open(file, "rb") as stream:
        data = stream.read(MOST_MERGED + 1)
    if len(data) > MOST_MERGED:
        raise _refused("the pairs of its tokens take more bytes,", file, f"up to {MOST_MERGED}")
    _check_number_of_pairs(data.count(b"\n") + data.count(b"\r"))
    # Lines as the library reads them, to which a "\r" alone ends none.
    lines = data.decode(errors="replace").split("\n")
    _check_made(tokens, (line.removesuffix("\r") for line in lines), suffix="</w>")


def _check_made(tokens: Iterable[str], pairs: Iterable[str], *, suffix: str) -> None:
    """Refuse a vocabulary whose words no pairs of tokens make: each would be cut into letters, no error said.

    Args:
        tokens: the vocabulary, without tokens that are found as a whole.
        pairs: two tokens each, with a space between them.
        suffix: of tokens that end a word.
    """
    words = {token for token in tokens if len(word := token.removesuffix(suffix)) > 1 and word.isalpha()}
    words.difference_update(pair.replace(" ", "") for pair in pairs)
    if len(words) > MOST_UNMADE:
        what = f"the words of its vocabulary that none of its merges makes, such as {min(words)!r:.50}, are"
        raise _refused(what, len(words), f"up to {MOST_UNMADE}; the list of merges may be cut off")


def _check_number_of_pairs(pairs: int) -> None:
    if pairs > MOST_PAIRS:
        raise _refused("the pairs of its tokens are", pairs, f"up to {MOST_PAIRS}")


def count_prefixes(tokens: Collection[bytes]) -> int:
    """How many different beginnings of one or more bytes the tokens have, themselves included."""
    ordered = sorted(tokens)
    lengths = np.fromiter(map(len, ordered), np.int64, len(ordered))
    letters = np.frombuffer(b"".join(ordered), np.uint8)
    starts = np.cumsum(lengths) - lengths
    # What a token has in common with the one before it is there already.
    sharing = np.flatnonzero(np.minimum(lengths[1:], lengths[:-1])) + 1
    shared = depth = 0
    while len(sharing):
        sharing = sharing[letters[starts[sharing] + depth] == letters[starts[sharing - 1] + depth]]
        shared += len(sharing)
        depth += 1
        sharing = sharing[np.minimum(lengths[sharing], lengths[sharing - 1]) > depth]
    return len(letters) - shared


def _check_lengths(section: Any, name: str, fields: tuple[str, ...]) -> None:
    if section is None:
        return
    if not isinstance(section, Mapping):
        raise _refused(f"its {name} is", section, "an object or null")
    values = [section.get(field) for field in fields]
    if isinstance(strategy := section.get("strategy"), Mapping):
        values += strategy.values()
    for value in values:
        if value is not None and (type(value) is not int or not 0 <= value <= LONGEST_TEXT):
            raise _refused(f"a length of its {name} is", value, f"from 0 to {LONGEST_TEXT}")


def _check_model(get: Callable[[str], Any], kind: str) -> None:
    if kind not in MODEL_TYPES:
        raise _refused("its model is", kind, listing(MODEL_TYPES))
    if get("dropout"):
        raise _refused("its model leaves out merges at random, with the dropout", get("dropout"), "null")
    # The library cuts as many bytes off a token, wherever its characters begin.
    if prefix := get("continuing_subword_prefix"):
        raise _refused("its continuing_subword_prefix is", prefix, 'null or ""')
    suffix = get("end_of_word_suffix")
    if suffix is not None and (not isinstance(suffix, str) or len(suffix) > LONGEST_TOKEN):
        raise _refused("its end_of_word_suffix is", suffix, f"texts of up to {LONGEST_TOKEN} characters")


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse a tokenizer object that does other things with texts than those of the backbones, whatever made it.

    Args:
        tokenizer: one of transformers.

    Raises:
        TokenizerError: see `check_tokenizer_files`.
    """
    from transformers.tokenization_utils_base import LARGE_INTEGER

    _check_class(type(tokenizer).__name__)
    length = tokenizer.model_max_length
    # Texts may be padded to it, but where none is stated: then transformers has 10^30, and pads to none.
    if type(length) is not int or not (1 <= length <= LONGEST_TEXT or length > LARGE_INTEGER):
        raise _refused("its `model_max_length`", length, f"whole numbers from 1 to {LONGEST_TEXT}, or none")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    for section, allowed in PARTS.items():
        part = getattr(backend, section)
        _check_parts(None if part is None else json.loads(part.__getstate__()), section, allowed)
    model = backend.model
    _check_model(lambda field: getattr(model, field, None), type(model).__name__)


def _check_parts(value: Any, section: str, allowed: Mapping[str, Callable[[Mapping[str, Any]], bool]]) -> None:
    counts: Counter[str] = Counter()
    expanding = 0
    for part in _flat(value):
        kind = part.get("type") if isinstance(part, Mapping) else None
        counts[str(kind)] += 1
        if not isinstance(kind, str) or kind not in allowed:
            raise _refused(f"a part of its {section} is", kind or part, listing(allowed))
        if not allowed[kind](part):
            raise _refused(f"a part of its {section} is", part, f"{kind} as the backbones' tokenizers have it")
        if counts.total() > MAX_PARTS or sum(counts[name] for name in WRITING_PARTS) > 1:
            allowed_parts = f"up to {MAX_PARTS}, and one of {listing(WRITING_PARTS)}"
            raise _refused(f"the parts of its {section} are", dict(counts), allowed_parts)
        # Each is bounded by itself; one after the other, they multiply.
        expanding += _expands(part)
        if expanding > 1:
            raise _refused(f"several parts of its {section} lengthen a text,", dict(counts), "one of them")


def _expands(part: Mapping[str, Any]) -> bool:
    """Whether a part writes several characters for one, or one that such a part would write so."""
    if part["type"] == "Precompiled":
        return bool(part.get("precompiled_charsmap"))
    if part["type"] == "Replace":
        return not part["content"].replace("\u2581", "").isascii()  # The block that stands for a space.
    return part["type"] in ("NFKC", "NFKD")


def _flat(value: Any, depth: int = 0) -> Iterator[Any]:
    """The parts of a section, those of sequences one after the other."""
    if value is None:
        return
    if isinstance(value, Mapping) and value.get("type") == "Sequence":
        parts = next((v for k, v in value.items() if k != "type"), None)
        if not isinstance(parts, list) or len(value) != 2 or depth > 2:
            raise _refused("a sequence of parts is", value, "lists of parts")
        for part in parts:
            yield from _flat(part, depth + 1)
    else:
        yield value


def _is_plain(part: Mapping[str, Any]) -> bool:
    """Whether all that a part says besides its kind is short."""
    return len(json.dumps(part)) <= LONGEST_TOKEN


def _strips_safely(part: Mapping[str, Any]) -> bool:
    """Whether a decoder takes at most one character off a token's beginning, as Gemma's; the tokenizers library panics
    where it takes more off an end than there are."""
    numbers = [part.get("start"), part.get("stop")]
    return _is_plain(part) and all(type(number) is int for number in numbers) and numbers in ([0, 0], [1, 0])


def _replaces_safely(part: Mapping[str, Any]) -> bool:
    """Whether a replacement never makes a text longer, and is found in time that grows with the text only."""
    pattern, content = part.get("pattern"), part.get("content")
    if not isinstance(pattern, Mapping) or len(pattern) != 1 or not isinstance(content, str):
        return False
    text = pattern.get("String")
    if isinstance(text, str):
        return 1 <= len(text) <= LONGEST_TOKEN and len(content) <= len(text)
    return len(content) <= 1 and _is_known(pattern.get("Regex"), simple_only=True)


def _splits_safely(part: Mapping[str, Any]) -> bool:
    pattern = part.get("pattern")
    if not isinstance(pattern, Mapping) or len(pattern) != 1:
        return False
    text = pattern.get("String")
    return (isinstance(text, str) and 1 <= len(text) <= LONGEST_TOKEN) or _is_known(pattern.get("Regex"))


def _is_known(expression: Any, *, simple_only: bool = False) -> bool:
    if not isinstance(expression, str) or len(expression) > LONGEST_TOKEN:
        return False
    return SIMPLE_PATTERN.fullmatch(expression) is not None or (not simple_only and expression in KNOWN_PATTERNS)


def _is_bounded_template(part: Mapping[str, Any]) -> bool:
    """Whether a template puts a few tokens around a text; the tokenizers library panics over others, at a text."""
    special = part.get("special_tokens")
    return (
        isinstance(special, Mapping)
        and len(special) <= MAX_PARTS
        and all(isinstance(token, Mapping) and len(token.get("ids") or ()) == 1 for token in special.values())
        and _is_template(part.get("single"), special, texts=["A"])
        and (not part.get("pair") or _is_template(part["pair"], special, texts=["A", "B"]))
    )


def _is_template(pieces: Any, special: Mapping[str, Any], *, texts: list[str]) -> bool:
    """Whether a template has every text once, in order, and else only special tokens that are described."""
    if not isinstance(pieces, list) or len(pieces) > MAX_PARTS:
        return False
    found = []
    for piece in pieces:
        if not isinstance(piece, Mapping) or len(piece) != 1:
            return False
        ((kind, named),) = piece.items()
        if not isinstance(named, Mapping) or type(named.get("type_id")) is not int:
            return False
        name = named.get("id")
        if kind == "Sequence":
            found.append(name)
        elif kind != "SpecialToken" or not isinstance(name, str) or name not in special:
            return False
    return found == texts


def _is_bounded_table(part: Mapping[str, Any]) -> bool:
    table = part.get("precompiled_charsmap")
    if not isinstance(table, str):
        return table is None
    try:
        return is_bounded_table(base64.b64decode(table, validate=True))
    except binascii.Error:
        return False


def is_bounded_table(table: bytes) -> bool:
    """Whether every way through a sentencepiece model's table of characters is short and ends inside of it, with a
    short text.

    The table is a double array (Yata et al.) of byte sequences, 32-bit units after their count in bytes, and behind it
    the texts that are written for them, each up to a NUL. Its readers follow it without looking.

    Args:
        table: table of the model; empty for one that replaces nothing.
    """
    if not table:
        return True
    size = struct.unpack_from("<I", table)[0] if len(table) >= 4 else 0
    texts = table[4 + size :]
    if size == 0 or size % 4 or len(table) < 4 + size or not texts.endswith(b"\0"):
        return False
    units = np.frombuffer(table, "<u4", count=size // 4, offset=4).astype(np.int64)
    offsets = (units >> 10) << ((units & 512) >> 6)
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if max(map(len, texts.split(b"\0"))) > LONGEST_WRITTEN:
        return False
    seen = np.zeros(len(units) + 256, dtype=bool)
    places = offsets[:1]
    # A round for each byte of the longest way.
    for _ in range(LONGEST_REPLACED):
        if ((places | 255) >= len(units)).any():
            return False
        seen[places] = True
        found = []
        for start in range(0, len(places), PLACES_AT_ONCE):
            children = places[start : start + PLACES_AT_ONCE, None] ^ LETTERS
            found.append(children[units[children] & 0x800000FF == LETTERS])
        children = np.unique(np.concatenate(found))
        places = children ^ offsets[children]
        leaves = places[(units[children] >> 8) & 1 == 1]
        if (leaves >= len(units)).any() or not _begin_texts(units[leaves] & 0x7FFFFFFF, texts):
            return False
        places = np.unique(places)
        if (places >= len(units)).any():
            return False
        places = places[~seen[places]]
        if not len(places):
            return True
    return False


def _begin_texts(values: np.ndarray, texts: bytes) -> bool:
    """Whether each of the values is where a character of the texts begins."""
    if (values >= len(texts)).any():
        return False
    first = np.frombuffer(texts, np.uint8)[values]
    return not ((first & 0xC0) == 0x80).any()


def _check_sentencepiece(file: str, embeddings: int) -> None:
    """Refuse a sentencepiece model whose tables of characters lead out of them, or whose tokens are too many."""
    from google.protobuf.message import DecodeError
    from packaging import version
    from transformers.convert_slow_tokenizer import import_protobuf
    from transformers.utils import is_sentencepiece_available

    if is_sentencepiece_available():
        installed = importlib.metadata.version("sentencepiece")
        if version.parse(installed) < version.parse(SENTENCEPIECE_RELEASE):
            raise TokenizerError(
                f"{printable(file)} is not read with sentencepiece {installed}, which a hostile one makes end the "
                f"process: `pip install 'sentencepiece>={SENTENCEPIECE_RELEASE}'`."
            )
    # Of the module that transformers takes, too: a process has room for one of that name.
    content = import_protobuf().ModelProto()
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_SENTENCEPIECE_BYTES + 1)
        if len(data) > MAX_SENTENCEPIECE_BYTES:
            raise _refused("it has a sentencepiece model of more bytes,", file, f"up to {MAX_SENTENCEPIECE_BYTES}")
        # What transformers cannot convert, it reads as such a list, in the square of a token's length.
        if all(len(line.split()) == 2 for line in data.splitlines() if line):
            raise _refused("its format is that of a language model, tiktoken,", file, "sentencepiece's")
        content.ParseFromString(data)
    except DecodeError as error:
        raise TokenizerError(f"{printable(file)} is not a model of sentencepiece ({error}).") from error
    if not all(math.isfinite(piece.score) for piece in content.pieces):
        raise _refused("its sentencepiece model has a score that is not finite,", file, "numbers")
    tokens = [piece.piece for piece in content.pieces]
    _check_vocabulary(tokens, embeddings)
    # Those of transformers' types for control and for what a user has defined are added tokens.
    _check_count([piece.piece for piece in content.pieces if piece.type in (3, 4)])
    most = sum(len(token) ** 2 for token in tokens)
    if most > MOST_MERGED and (merged := _count_merged(tokens)) > MOST_MERGED:
        raise _refused("the characters of its tokens' pairs that make another are", merged, f"up to {MOST_MERGED}")
    for spec in (content.normalizer_spec, content.denormalizer_spec):
        if not is_bounded_table(spec.precompiled_charsmap):
            raise _refused(
                "its sentencepiece model has a table of characters that leads out of it,", file, "sound tables"
            )


def _count_merged(tokens: Collection[str]) -> int:
    """Characters of all ways in which tokens consist of two."""
    known = set(tokens)
    return sum(
        len(token) * sum(token[:i] in known and token[i:] in known for i in range(1, len(token))) for token in known
    )


# File -> whether one of its fields, and what it has there, is passed on to a tokenizer. transformers makes each an
# argument of its class, of special_tokens_map.json even in place of a file that it has found.
ARGUMENTS: dict[str, Callable[[str, Any], bool]] = {
    "tokenizer_config.json": _is_setting,
    "special_tokens_map.json": _is_special,
    "added_tokens.json": _is_added,
}

# Of a processor and its tokenizer, all files that are copied and published.
KEPT_FILES = (
    *PROCESSOR_FILES,
    *ARGUMENTS,
    *("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt"),
    *SENTENCEPIECE_FILES,
)

# Section of tokenizer.json -> type of a part -> whether it is as those of the backbones. None of the parts makes a
# text longer by more than what Unicode and UTF-8 do.
PARTS: dict[str, dict[str, Callable[[Mapping[str, Any]], bool]]] = {
    "normalizer": {
        **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Nmt"), _is_plain),
        "Replace": _replaces_safely,
        "Precompiled": _is_bounded_table,
    },
    "pre_tokenizer": {
        **dict.fromkeys(("ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit"), _is_plain),
        "Split": _splits_safely,
    },
    "post_processor": {
        **dict.fromkeys(("ByteLevel", "BertProcessing", "RobertaProcessing"), _is_plain),
        "TemplateProcessing": _is_bounded_template,
    },
    "decoder": {
        **dict.fromkeys(("BPEDecoder", "ByteFallback", "ByteLevel", "Fuse", "Metaspace"), _is_plain),
        "Strip": _strips_safely,
        "Replace": _replaces_safely,
    },
}


def _refused(what: str, received: Any, allowed: str, *, part: str = "tokenizer") -> ProcessorError:
    """The error of a processor, of its tokenizer or of another part, by its name."""
    message = (
        f"The {part} is refused: {what} {printable(repr(received), limit=100)}; allowed: {allowed}. Take the {part} "
        "of the CLIP, MetaCLIP 2, SigLIP or SigLIP 2 that the checkpoint was made from."
    )
    return TokenizerError(message + OWN_TOKENIZER) if part == "tokenizer" else ProcessorError(message)
