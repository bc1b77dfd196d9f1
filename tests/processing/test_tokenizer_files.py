"""Tokenizers of attackers: refused before they see a text, in a process that lives on; those of the backbones load."""

import base64
import json
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, TokenizersBackend

from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.checkpoint_files import CheckpointError
from froster_hf.checkpoint_loading import load_pipeline
from froster_hf.modeling.configuration_froster import FrosterConfig
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.processing.tokenizer_files import (
    CLIP_WORDS,
    ProcessorError,
    TokenizerError,
    check_description,
    check_tokenizer,
    check_tokenizer_files,
    count_prefixes,
    is_bounded_table,
    load_processor,
)
from tests.fixtures.dual_encoders import metaclip_2_tokenizer, save_dual_encoder, siglip_tokenizer
from tests.fixtures.forks import run_python

# What decides in these files: the class that takes tokenizer.json as it stands.
AS_IT_STANDS = "TokenizersBackend"
MULTIPLY = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
BACKTRACK = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Removed", "invert": True}


def change_json(file: Path, **fields) -> None:
    existing = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**existing, **fields}))


def copy_of(original: Path, folder: Path, *, tokenizer: dict | None = None, **config) -> Path:
    """A checkpoint whose tokenizer says other things."""
    shutil.copytree(original, folder)
    change_json(folder / "tokenizer.json", **(tokenizer or {}))
    change_json(folder / "tokenizer_config.json", **{"tokenizer_class": AS_IT_STANDS, **config})
    return folder


def sequence_of(*parts: dict) -> dict:
    return {"type": "Sequence", "normalizers": list(parts)}


def replacing(expression: str, content: str = " ") -> dict:
    return {"normalizer": {"type": "Replace", "pattern": {"Regex": expression}, "content": content}}


def with_model(**fields) -> dict:
    model = json.loads((SMALL_FROSTER / "tokenizer.json").read_text())["model"]
    return {"model": {**model, **fields}}


def table(*units: int, texts: bytes = b"\0") -> dict:
    packed = struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + texts
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(packed).decode()}}


TEMPLATE_OF_THOUSANDS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}}] * 100_000,
    "pair": [],
    "special_tokens": {"<|startoftext|>": {"id": "<|startoftext|>", "ids": [871], "tokens": ["<|startoftext|>"]}},
}


def template(*pieces: dict, special: dict | None = None) -> dict:
    described = TEMPLATE_OF_THOUSANDS["special_tokens"] if special is None else special
    return {"type": "TemplateProcessing", "single": list(pieces), "pair": [], "special_tokens": described}


def text_of(name: str) -> dict:
    return {"Sequence": {"id": name, "type_id": 0}}


def lengthening_table(letters: int) -> dict:
    """A sound table that writes letters for an "a"."""
    units = [0] * 1024
    units[0], units[353], units[865] = 256 << 10, 97 | 256 | (512 << 10), 0x80000000
    return table(*units, texts=b"a" * letters + b"\0")["normalizer"]


START = {"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}}
EACH_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
# One character that is 18 letters in Unicode's compatible form.
LIGATURE = {"type": "Replace", "pattern": {"Regex": "[^x]"}, "content": "\ufdfa"}
HOSTILE: dict[str, dict] = {
    "tables that multiply": {"normalizer": sequence_of(*[lengthening_table(33)] * 6)},
    "a table that writes more than any of Unicode's": {"normalizer": lengthening_table(34)},
    "forms of characters that multiply": {"normalizer": sequence_of(*[LIGATURE, {"type": "NFKC"}] * 8)},
    "a template of a token without a description": {"post_processor": template(START, text_of("A"), special={})},
    "a template that writes a text several times": {"post_processor": template(*[text_of("A")] * 3)},
    "a template of a text that is not there": {"post_processor": template(text_of("B"))},
    "a template of nothing": {"post_processor": template()},
    "templates of templates": {
        "post_processor": {"type": "Sequence", "processors": [template(START, text_of("A"))] * 2}
    },
    "a text multiplied": {"normalizer": sequence_of(*[MULTIPLY] * 4)},
    "a text multiplied in one step": {"normalizer": MULTIPLY},
    "a text multiplied by few characters at a time": {"normalizer": {**MULTIPLY, "content": "aa"}},
    "text in every gap": replacing("x*", "a"),
    "text in place of nothing": {"normalizer": {**MULTIPLY, "pattern": {"String": ""}, "content": "a"}},
    "text before every text": {"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}},
    "bytes as characters, again and again": {"normalizer": sequence_of(*[{"type": "ByteLevel"}] * 30)},
    "a space before each character, again and again": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [EACH_CHARACTER, METASPACE] * 8}
    },
    "many parts": {"normalizer": sequence_of(*[{"type": "NFC"}] * 1000)},
    "sequences within sequences": {"normalizer": sequence_of(sequence_of(sequence_of(sequence_of(MULTIPLY))))},
    "an expression that backtracks": {"pre_tokenizer": BACKTRACK},
    "an expression that backtracks over what it replaces": replacing("(x+x+)+y"),
    "an expression that looks ahead": replacing(r"\s+(?!\S)"),
    "an expression of alternatives": replacing("(a|aa)+$"),
    "an expression with a huge count": replacing("a{1000000}"),
    "a part of another kind": {"normalizer": {"type": "BertNormalizer"}},
    "a part without a kind": {"normalizer": {"content": "a"}},
    "a part that is text": {"normalizer": "NFC"},
    "a decoder that multiplies": {"decoder": MULTIPLY},
    "a template of thousands of tokens": {"post_processor": TEMPLATE_OF_THOUSANDS},
    "a table of characters that leads out of it": table(0xFFFFFC00),
    "a table of characters without texts": table(0, texts=b""),
    "a table of characters with a text without end": table(0, texts=b"a" * 10**6 + b"\0"),
    "a table of characters that is none": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}},
    "merges left out at random": with_model(dropout=0.5),
    "a word's end of a megabyte": with_model(end_of_word_suffix="a" * 10**6),
    "a prefix that cuts a character": with_model(
        vocab={"a": 0, "xé": 1}, merges=[["a", "xé"]], continuing_subword_prefix="##"
    ),
    "another model": with_model(type="WordPiece", merges=None),
    "an added token of a megabyte": {"added_tokens": [{"id": 0, "content": "a" * 10**6}]},
    "an added token with keys that the library prints": {"added_tokens": [{"id": 0, "content": "a", "x\ny": 1}]},
    "tens of thousands of added tokens": {"added_tokens": [{"id": i, "content": f"t{i}"} for i in range(20_000)]},
    "an added token of nothing": {"added_tokens": [{"id": 0, "content": ""}]},
    "added tokens that are a number": {"added_tokens": 1e308},
    "an added token that is a text": {"added_tokens": ["a"]},
    "a gigantic padding": {"padding": {"strategy": {"Fixed": 10**9}}},
    "a padding to gigantic multiples": {"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 10**9}},
    "a token of its vocabulary of a thousand letters": with_model(vocab={"a" * 1000: 0}),
    "tokens of many letters": with_model(type="Unigram", merges=None, vocab=[["a" * 1000, -1.0]]),
    "tokens of many beginnings": with_model(
        type="Unigram", merges=None, vocab=[[f"{i:06}" + "a" * 200, -1.0] for i in range(6000)]
    ),
    "a token that is no text": with_model(type="Unigram", merges=None, vocab=[[1, -1.0]]),
    "a vocabulary that is a number": with_model(vocab=3),
    "a token with an index far behind the others": with_model(vocab={"a": 0, "b": 2**32 - 2}),
    "a token with an index that is text": with_model(vocab={"a": "0"}),
    "a gigantic truncation": {"truncation": {"max_length": 10**9, "stride": 0}},
}


@pytest.mark.parametrize("says", HOSTILE)
def test_what_no_tokenizer_of_a_backbone_does_is_refused_before_a_text_is_read(tmp_path, says):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster", tokenizer=HOSTILE[says])
    with pytest.raises(TokenizerError, match="allowed: "):
        FrosterProcessor.from_pretrained(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"tokenizer_class": "BertTokenizer"},
        {"tokenizer_class": "MistralCommonBackend"},
        {"tokenizer_class": ["CLIPTokenizer"]},
        {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]},
        {"sp_model_kwargs": {"enable_sampling": True}},
        {"init_inputs": ["a"]},
        {"model_input_names": ["attention_mask", "input_ids"]},
        {"model_max_length": -5},
        {"model_max_length": 77.5},
        {"model_max_length": 10**12},
    ],
    ids=str,
)
def test_other_classes_and_files_are_refused(tmp_path, fields):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster", **fields)
    with pytest.raises(TokenizerError, match="Take the tokenizer of"):
        FrosterProcessor.from_pretrained(folder)


@pytest.mark.parametrize("field", ["bos_token", "eos_token", "pad_token"])
def test_a_token_of_every_text_that_the_model_does_not_have_is_refused_by_its_name(tmp_path, field):
    for base, load in ((SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, FrosterProcessor.from_clip)):
        folder = copy_of(base, tmp_path / base.name, **{field: "runs", "tokenizer_class": "CLIPTokenizer"})
        with pytest.raises(TokenizerError, match="texts the token 'runs', whose index is 873; allowed: from 0 to 872"):
            load(folder)


def test_further_tokens_that_the_model_does_not_have_are_no_error_until_a_text_has_them(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster", extra_special_tokens=["<mask>"])
    processor, config = FrosterProcessor.from_pretrained(folder), FrosterConfig.from_pretrained(folder)
    processor.encode_labels(["a circle"], config=config)
    with pytest.raises(ValueError, match="gives '<mask>', the token 873, but the model has 873"):
        processor.encode_labels(["a <mask>"], config=config)


def test_a_field_that_is_called_as_a_method_is_refused(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster", add_special_tokens=False)
    with pytest.raises(ProcessorError, match="cannot be loaded: AttributeError: add_special_tokens conflicts"):
        FrosterProcessor.from_pretrained(folder)


REPLACING = {
    "another tokenizer": ("special_tokens_map.json", {"tokenizer_file": "evil.json"}),
    "none": ("special_tokens_map.json", {"tokenizer_file": None}),
    "options of sentencepiece": ("special_tokens_map.json", {"sp_model_kwargs": {"enable_sampling": True}}),
    "a special token of a megabyte": ("special_tokens_map.json", {"unk_token": {"content": "a" * 10**6}}),
    "special tokens of a megabyte": ("special_tokens_map.json", {"extra_special_tokens": ["a" * 10**6]}),
    "a vocabulary": ("tokenizer_config.json", {"vocab": {"a": 0}}),
    "a file of a vocabulary": ("tokenizer_config.json", {"vocab_file": "../vocab.model"}),
    "a processor of words": ("tokenizer_config.json", {"tokenizer_object": {"a": 0}}),
    "named tokens of a megabyte": ("tokenizer_config.json", {"model_specific_special_tokens": {"x": "a" * 10**6}}),
    "decoded tokens of a megabyte": (
        "tokenizer_config.json",
        {"added_tokens_decoder": {"0": {"content": "a" * 10**6}}},
    ),
    "added tokens of a megabyte": ("added_tokens.json", {"a" * 10**6: 0}),
    "an added token without a number": ("added_tokens.json", {"a": "b"}),
    "an added token beyond all others": ("added_tokens.json", {"a": 4_000_000_000}),
    "a token of a number beyond all others": (
        "tokenizer_config.json",
        {"added_tokens_decoder": {"4000000000": {"content": "a"}}},
    ),
    "keys that the library prints": (
        "tokenizer_config.json",
        {"added_tokens_decoder": {"871": {"content": "<|startoftext|>", '\x1b]0;x\x07\n{"forged": 1}': 1}}},
    ),
    "keys of a special token that the library prints": (
        "special_tokens_map.json",
        {"bos_token": {"content": "<|startoftext|>", "x\ny": 1}},
    ),
}


@pytest.mark.parametrize("case", REPLACING)
def test_no_other_file_takes_the_place_of_what_was_checked(tmp_path, monkeypatch, case):
    """transformers makes every field of these files an argument of the tokenizer, paths of other files too."""
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    monkeypatch.chdir(folder)
    evil = {**json.loads((folder / "tokenizer.json").read_text()), **HOSTILE["a text multiplied"]}
    (folder / "evil.json").write_text(json.dumps(evil))
    file, fields = REPLACING[case]
    change_json(folder / file, **fields)
    with pytest.raises(TokenizerError, match=f"{file} has the field .*; allowed: plain settings and tokens"):
        FrosterProcessor.from_pretrained(folder)


MANY = [f"t{i}" for i in range(20_000)]


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer_config.json", {"extra_special_tokens": MANY}),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {str(i): {"content": token} for i, token in enumerate(MANY)}},
        ),
        ("tokenizer_config.json", {f"{token}_token": token for token in MANY}),
        ("special_tokens_map.json", {"additional_special_tokens": MANY}),
        ("added_tokens.json", {token: i for i, token in enumerate(MANY)}),
    ],
    ids=["a list", "a table", "fields", "special tokens", "added tokens"],
)
def test_more_tokens_than_any_tokenizer_adds_are_refused(tmp_path, file, fields):
    """transformers compares each with each, for hours."""
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    change_json(folder / file, **fields)
    with pytest.raises(TokenizerError, match=r"the number of its added tokens is 2\d{4}; allowed: up to 2500"):
        FrosterProcessor.from_pretrained(folder)


# What the files of openai/clip-vit-base-patch32, google/siglip-base-patch16-224 and their likes say.
PUBLISHED_SETTINGS = {
    "unk_token": {"content": "<|endoftext|>", "single_word": False, "normalized": True, "__type": "AddedToken"},
    "pad_token": "<|endoftext|>",
    "add_prefix_space": False,
    "errors": "replace",
    "do_lower_case": True,
    "name_or_path": "openai/clip-vit-base-patch32",
    "model_max_length": 77,
    "special_tokens_map_file": "./special_tokens_map.json",
    "tokenizer_class": "CLIPTokenizer",
    "sp_model_kwargs": {},
    "additional_special_tokens": [],
    "model_input_names": ["input_ids"],
    "clean_up_tokenization_spaces": True,
    "processor_class": "CLIPProcessor",
    "tokenizer_file": None,
}


def test_a_checkpoint_without_a_vocabulary_gives_no_tokenizer_that_knows_no_word(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(OSError, match=r"froster has no tokenizer: neither tokenizer.json nor vocab.json"):
        FrosterProcessor.from_pretrained(folder)


def test_settings_as_they_are_published_are_taken(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster", **PUBLISHED_SETTINGS)
    special = {"bos_token": {"content": "<|startoftext|>", "normalized": True}, "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "added_tokens.json").write_text(json.dumps({"<|endoftext|>": 872}))
    expected = FrosterProcessor.from_pretrained(SMALL_FROSTER).encode_labels(["a circle"])["input_ids"]
    assert FrosterProcessor.from_pretrained(folder).encode_labels(["a circle"])["input_ids"].equal(expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"pad_to_multiple_of": 10**12},
        {"truncation": True, "max_length": 3},
        {"is_split_into_words": True},
        {"do_resize": False},
        {"num_frames": 2, "do_sample_frames": True},
    ],
    ids=str,
)
def test_what_a_tokenizer_says_is_no_option_of_a_call(tmp_path, fields):
    """transformers takes each for an option of texts, of videos, or of both."""
    videos, texts = [np.arange(8 * 40 * 40 * 3, dtype=np.uint8).reshape(8, 40, 40, 3)], ["a circle", "a square grows"]
    for base in (SMALL_FROSTER, SMALL_CLIP):
        load = FrosterProcessor.from_pretrained if base is SMALL_FROSTER else FrosterProcessor.from_clip
        expected = load(base)(videos=videos, text=texts, return_tensors="pt")
        inputs = load(copy_of(base, tmp_path / base.name, **fields))(videos=videos, text=texts, return_tensors="pt")
        assert all(torch.equal(inputs[name], expected[name]) for name in (*expected, *inputs))


@pytest.mark.parametrize(
    ("original", "load"),
    [(SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, load_processor)],
    ids=["a FROSTER processor", "a CLIP processor"],
)
def test_a_tokenizer_whose_code_is_a_list_can_be_saved(tmp_path, original, load):
    """A training of many hours would be lost at its first save."""
    load(copy_of(original, tmp_path / "checkpoint", auto_map=["a.B", None])).save_pretrained(tmp_path / "saved")
    load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        *(("tokenizer_config.json", {name: "\ud800"}) for name in ("errors", "padding", "truncation_strategy")),
        *(("tokenizer_config.json", {"auto_map": value}) for value in ("a.B", 3, {"x": "\ud800"}, ["\ud800"])),
        *(("tokenizer_config.json", {"custom_pipelines": value}) for value in ("\ud800", {"x": ["\ud800"]})),
        *(("tokenizer_config.json", {"backend": value}) for value in ("\ud800", {"\ud800": 1}, ["\udfff"])),
        *(("tokenizer_config.json", {name: 0}) for name in ("\ud800", "backend_tokenizer", "_tokenizer", "__doc__")),
        ("tokenizer_config.json", {"model_input_names": ["input_ids", "\ud800"]}),
        ("tokenizer_config.json", {"extra_special_tokens": [{"content": "x", "__type": "\ud800"}]}),
        ("tokenizer_config.json", {"extra_special_tokens": ["\ud800"]}),
        ("special_tokens_map.json", {"\ud800_token": "x"}),
        ("added_tokens.json", {"\ud800": 3}),
    ],
    ids=lambda value: repr(value).replace("\\", ""),
)
def test_a_tokenizer_that_cannot_be_saved_is_refused_by_name(tmp_path, file, fields):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    change_json(folder / file, **fields)
    with pytest.raises(TokenizerError, match=rf"{file} has the field .*; allowed: plain settings and tokens"):
        FrosterProcessor.from_pretrained(folder)


@pytest.mark.parametrize(
    ("original", "load"),
    [(SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, load_processor)],
    ids=["a FROSTER processor", "a CLIP processor"],
)
def test_chat_templates_of_a_checkpoint_are_not_saved_again(tmp_path, original, load):
    folder = copy_of(original, tmp_path / "checkpoint", chat_template="of the tokenizer")
    (folder / "chat_template.jinja").write_text("of a file")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "other.jinja").write_text("of another file")
    load(folder).save_pretrained(tmp_path / "saved")
    saved = {file.name: file.read_text() for file in (tmp_path / "saved").rglob("*") if file.is_file()}
    assert not [name for name, text in saved.items() if "chat" in name or "of the tokenizer" in text]


@pytest.mark.parametrize(
    ("original", "load"),
    [(SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, load_processor)],
    ids=["a FROSTER processor", "a CLIP processor"],
)
@pytest.mark.parametrize(("size", "number"), [(300_000, 4), (0, 17), (100, 3)])
def test_chat_templates_of_the_hub_are_counted_together(tmp_path, monkeypatch, original, load, size, number):
    """Same ones are one file in the cache, and transformers holds each."""
    entry = tmp_path / "models--owner--name"
    snapshot = Path(shutil.copytree(original, entry / "snapshots" / ("a" * 40)))
    for folder in ("refs", "blobs", f"snapshots/{snapshot.name}/additional_chat_templates"):
        (entry / folder).mkdir()
    (entry / "refs" / "main").write_text(snapshot.name)
    (entry / "blobs" / "b").write_text("a" * size)
    for i in range(number):
        (snapshot / "additional_chat_templates" / f"{i}.jinja").symlink_to("../../../blobs/b")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    if size == 100:
        assert load("owner/name").chat_template is None
    else:
        with pytest.raises(CheckpointError, match=f"owner/name has {number} chat templates of {size * number} bytes"):
            load("owner/name")


@pytest.mark.parametrize(
    ("original", "load"),
    [(SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, load_processor)],
    ids=["a FROSTER processor", "a CLIP processor"],
)
@pytest.mark.parametrize("file", ["chat_template.json", "processor_config.json", "tokenizer_config.json"])
def test_settings_on_the_hub_have_as_few_values_as_in_a_folder(tmp_path, monkeypatch, original, load, file):
    entry = tmp_path / "models--owner--name"
    snapshot = Path(shutil.copytree(original, entry / "snapshots" / ("a" * 40)))
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(snapshot.name)
    stored = json.loads((snapshot / file).read_text()) if (snapshot / file).exists() else {}
    (snapshot / file).write_text(json.dumps({**stored, "chat_template": [{}] * 1_000_000}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=rf"{file} has more values than the settings"):
        load("owner/name")


@pytest.mark.parametrize(
    ("original", "load"),
    [(SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, load_processor)],
    ids=["a FROSTER processor", "a CLIP processor"],
)
def test_a_file_of_a_chat_template_without_one_is_refused_by_name(tmp_path, original, load):
    folder = shutil.copytree(original, tmp_path / "own")
    (folder / "chat_template.json").write_text("{}")
    with pytest.raises(ProcessorError, match=r"own.chat_template\.json has no chat_template"):
        load(folder)
    (folder / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    assert load(folder).chat_template is None


@pytest.mark.parametrize(
    "case",
    [
        "in the processor's file",
        "in a file of its own",
        "a processor of other models",
        "images of other models",
        "images of other models, in the model's file",
        "videos of other models",
        "videos of other models, in an old file",
        "the model type of others",
        "the model type of others without one",
        "another name for a class",
    ],
)
@pytest.mark.parametrize(
    ("original", "load"),
    [(SMALL_FROSTER, FrosterProcessor.from_pretrained), (SMALL_CLIP, load_processor)],
    ids=["a FROSTER processor", "a CLIP processor"],
)
def test_a_processor_that_names_something_else_to_load_is_refused_and_nobody_is_asked(
    tmp_path, monkeypatch, original, load, case
):
    """Else transformers loads any class from anywhere, and asks on standard input whether to run its code."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {"AutoConfig": "code.Config"}}))
    (other / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    sounds = {"audio_tokenizer_class": "AutoModel", "audio_tokenizer_name_or_path": str(other)}
    part = "image processor" if "image" in case else "video processor" if "video" in case else "processor"
    file, says = {
        "in the processor's file": ("processor_config.json", {"audio_tokenizer": sounds}),
        "in a file of its own": ("audio_tokenizer_config.json", sounds),
        "a processor of other models": ("processor_config.json", {"processor_class": "DiaProcessor"}),
        # It reads a file that the checkpoint names, of this disk or of anybody's repository.
        "images of other models": (
            "processor_config.json",
            {
                "image_processor": {
                    "image_processor_type": "OneFormerImageProcessorFast",
                    "repo_path": str(other),
                    "class_info_file": "config.json",
                }
            },
        ),
        # It decodes videos in this process, and fetches whatever address it is given.
        "videos of other models": (
            "processor_config.json",
            {"video_processor": {"video_processor_type": "LlavaNextVideoVideoProcessor"}},
        ),
        "videos of other models, in an old file": (
            "video_preprocessor_config.json",
            {"video_processor_type": "LlavaNextVideoVideoProcessor"},
        ),
        "images of other models, in the model's file": (
            "config.json",
            {"image_processor_type": "OneFormerImageProcessor"},
        ),
        "the model type of others": ("config.json", {"model_type": "oneformer"}),
        "the model type of others without one": ("config.json", {"model_type": None, "architecture": "resnet18"}),
        "another name for a class": (
            "config.json",
            {"attribute_map": {"image_processor_type": "x"}, "x": "OneFormerImageProcessor"},
        ),
    }[case]
    folder = shutil.copytree(original, tmp_path / "checkpoint")
    existing = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**existing, **says}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(ProcessorError, match=rf"^The {part} is refused: "):
        load(folder)
    # Which finds some of it by the model's configuration.
    with pytest.raises(ValueError, match="cannot be loaded: "):
        load_pipeline(folder)
    assert not (tmp_path / "ran").exists()


def test_nobody_is_asked_whether_the_code_of_a_tokenizer_may_run(tmp_path, monkeypatch):
    """Which transformers does where neither the tokenizer's file nor the model's names an installed class."""
    folder = copy_of(
        SMALL_FROSTER, tmp_path / "froster", tokenizer_class=None, auto_map={"AutoTokenizer": [None, "code.Tokenizer"]}
    )
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    for load in (FrosterProcessor.from_pretrained, AutoProcessor.from_pretrained, load_processor, load_pipeline):
        with pytest.raises(ValueError, match=r"trust_remote_code|asks to run code of its own"):
            load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_another_kind_brings_no_tokenizer(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster", tokenizer_class=None)
    change_json(folder / "config.json", model_type="bert-japanese")
    with pytest.raises(ProcessorError, match="'bert-japanese'"):
        FrosterProcessor.from_pretrained(folder)


def test_vocabularies_of_other_formats_are_refused(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").rename(folder / "tekken.json")
    with pytest.raises(TokenizerError, match=r"'tekken\.json'; allowed"):
        FrosterProcessor.from_pretrained(folder)


@pytest.mark.parametrize("file", ["tokenizer.model..", "tokenizer.model.v3", "my-tiktoken.model"])
def test_a_part_of_a_name_that_transformers_would_look_for_is_refused(tmp_path, file):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / file).touch()
    FrosterProcessor.from_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=f"that of a language model, '{file}'; allowed"):
        FrosterProcessor.from_pretrained(folder)


def test_models_of_sentencepiece_that_nothing_reads_are_not_read_however_many_names_one_has(tmp_path, monkeypatch):
    pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"\xff")
    for number in range(100):
        (folder / f"spiece.model.{number}").symlink_to("spiece.model")
    read = []
    monkeypatch.setattr(
        "froster_hf.processing.tokenizer_files._check_sentencepiece", lambda file, _: read.append(file)
    )
    check_tokenizer_files(folder)
    assert read == [str(folder / "spiece.model")]


@pytest.mark.parametrize("file", ["spiece.model", "tokenizer.model"])
def test_a_sentencepiece_model_whose_table_leads_out_of_it_is_refused(tmp_path, file):
    protocol = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()
    model = protocol.ModelProto()
    model.normalizer_spec.precompiled_charsmap = struct.pack("<II", 4, 0xFFFFFC00) + b"\0"
    (folder / file).write_bytes(model.SerializeToString())
    with pytest.raises(TokenizerError, match="leads out of it"):
        FrosterProcessor.from_pretrained(folder)
    (folder / file).write_bytes(b"\xff")
    with pytest.raises(TokenizerError, match="is not a model of sentencepiece"):
        FrosterProcessor.from_pretrained(folder)


def test_a_sentencepiece_model_that_is_read_as_a_list_of_tiktokens_too_is_refused(tmp_path):
    """transformers reads it as one where it cannot convert it, in the square of a token's length."""
    protocol = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()
    # One field of the protocol, unknown to it, whose tag and size are characters of base64.
    content = b"bA" + b"A" * 63 + b" 0"
    protocol.ModelProto().ParseFromString(content)
    (folder / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"its format is that of a language model, tiktoken, '.*tokenizer.model'"):
        FrosterProcessor.from_pretrained(folder)


def test_releases_of_sentencepiece_that_a_file_can_end_are_not_used(tmp_path, monkeypatch):
    protocol = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "spiece.model").write_bytes(protocol.ModelProto(pieces=[{"piece": "a"}]).SerializeToString())
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: True)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.3")
    FrosterProcessor.from_pretrained(folder)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.1")
    with pytest.raises(
        TokenizerError, match=r"not read with sentencepiece 0\.2\.1, .*: `pip install 'sentencepiece>="
    ):
        FrosterProcessor.from_pretrained(folder)


def test_a_score_of_a_sentencepiece_model_that_is_not_finite_is_refused(tmp_path):
    protocol = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()
    model = protocol.ModelProto(pieces=[{"piece": "a", "score": float("nan")}])
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    with pytest.raises(TokenizerError, match="has a score that is not finite"):
        FrosterProcessor.from_pretrained(folder)


def test_tokens_of_a_sentencepiece_model_are_bounded_as_others(tmp_path, monkeypatch):
    """transformers makes added tokens of some, and a list of all that consist of two others."""
    protocol = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()

    def refused(pieces: list[str], *, kind: int = 1) -> str:
        model = protocol.ModelProto(pieces=[{"piece": piece, "type": kind} for piece in pieces])
        (folder / "spiece.model").write_bytes(model.SerializeToString())
        with pytest.raises(TokenizerError, match="allowed: ") as error:
            FrosterProcessor.from_pretrained(folder)
        return str(error.value)

    assert "a token of its vocabulary is" in refused(["a" * 1000])
    assert "the prefixes of its vocabulary's tokens are" in refused([f"{i:06}" + "a" * 200 for i in range(6000)])
    assert "the number of its added tokens" in refused(MANY, kind=4)
    monkeypatch.setattr("froster_hf.processing.tokenizer_files.MOST_MERGED", 19)
    # a+a, a+aa, aa+a, a+aaa, aa+aa, aaa+a
    assert "the characters of its tokens' pairs that make another are 20;" in refused(["a", "aa", "aaa", "aaaa"])
    monkeypatch.setattr("froster_hf.processing.tokenizer_files.MAX_SENTENCEPIECE_BYTES", 5)
    assert "of more bytes" in refused(["a"])


@pytest.mark.parametrize(
    ("vocabulary", "told"),
    [({"a" * 1000: 0}, "a token of its vocabulary is"), ({"a": 2**32 - 2}, "the index of its token 'a' is")],
)
def test_a_vocabulary_of_its_own_file_is_bounded_as_others(tmp_path, vocabulary, told):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(TokenizerError, match=told):
        FrosterProcessor.from_pretrained(folder)


def copy_in_two_files(folder: Path) -> tuple[Path, str]:
    """A checkpoint with CLIP's first files of a tokenizer, and the content of its merges.txt."""
    copy_of(SMALL_FROSTER, folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    change_json(folder / "tokenizer_config.json", tokenizer_class="CLIPTokenizer")
    return folder, "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"])


@pytest.mark.parametrize(("line", "told"), [("i n\n", "the pairs of its tokens are 30"), ("i " * 10, "more bytes")])
def test_pairs_of_tokens_in_their_own_file_are_counted_before_they_are_read(tmp_path, monkeypatch, line, told):
    folder, _ = copy_in_two_files(tmp_path / "froster")
    monkeypatch.setattr("froster_hf.processing.tokenizer_files.MOST_PAIRS", 29)
    monkeypatch.setattr("froster_hf.processing.tokenizer_files.MOST_MERGED", 200)
    (folder / "merges.txt").write_text(line * 30)
    with pytest.raises(TokenizerError, match=told):
        FrosterProcessor.from_pretrained(folder)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pairs_of_tokens_in_their_own_file_are_taken_with_lines_of_any_system(tmp_path, end):
    folder, pairs = copy_in_two_files(tmp_path / "froster")
    (folder / "merges.txt").write_bytes(pairs.replace("\n", end).encode())
    own, same = (FrosterProcessor.from_pretrained(place).tokenizer for place in (SMALL_FROSTER, folder))
    assert same("a circle moving right")["input_ids"] == own("a circle moving right")["input_ids"]


@pytest.mark.parametrize(
    "change",
    [lambda pairs: "", lambda pairs: pairs.replace("\n", "\r"), lambda pairs: pairs[: pairs.index("\n", 2000) + 1]],
    ids=["empty", "lines that the library takes for one", "cut off behind a line"],
)
def test_a_vocabulary_whose_words_no_pairs_make_is_refused(tmp_path, change):
    folder, pairs = copy_in_two_files(tmp_path / "froster")
    (folder / "merges.txt").write_bytes(change(pairs).encode())
    with pytest.raises(TokenizerError, match=r"the words of its vocabulary that none of its merges makes, such as '"):
        FrosterProcessor.from_pretrained(folder)


def test_words_that_no_pairs_make_are_taken_where_they_are_found_as_a_whole():
    content = json.loads((SMALL_FROSTER / "tokenizer.json").read_text())
    words = [token for token in content["model"]["vocab"] if len(token.removesuffix("</w>")) > 1]
    # Of another type, they are none to transformers.
    for merges in (None, {}, "", []):
        content["model"]["merges"] = merges
        with pytest.raises(TokenizerError, match="that none of its merges makes"):
            check_description(content)
    check_description(content | {"model": content["model"] | {"ignore_merges": True}})
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    check_description(content | {"added_tokens": [{"id": 0, "content": word, **flags} for word in words]})
    few = dict.fromkeys(["<pad>", "pad", "ucf", *"abc", *(f"<0x{byte:02X}>" for byte in range(256))], 0)
    check_description(content | {"model": content["model"] | {"vocab": few}})


def test_pairs_of_tokens_in_a_description_are_counted(monkeypatch):
    content = json.loads((SMALL_FROSTER / "tokenizer.json").read_text())
    monkeypatch.setattr("froster_hf.processing.tokenizer_files.MOST_PAIRS", len(content["model"]["merges"]))
    check_description(content)
    content["model"]["merges"] *= 2
    with pytest.raises(TokenizerError, match="the pairs of its tokens are"):
        check_description(content)


def test_beginnings_are_counted_once_each():
    tokens = [b"", b"a", b"ab", b"abc", b"abd", b"b", b"b", b"\xff", b"a\x00"]
    assert count_prefixes(tokens) == len({token[:i] for token in tokens for i in range(1, len(token) + 1)}) == 7
    assert count_prefixes([]) == count_prefixes([b""]) == 0


def test_a_larger_vocabulary_is_taken_for_a_text_tower_of_as_many_tokens():
    vocabulary = [[f"{i:06}" + "a" * 200, -1.0] for i in range(6000)]
    content = {"model": {"type": "Unigram", "unk_id": 0, "vocab": vocabulary}}
    check_description(content)
    with pytest.raises(TokenizerError, match="the prefixes of its vocabulary's tokens are"):
        check_description(content, embeddings=6000)


def test_a_sentencepiece_model_beside_a_description_is_refused_where_the_library_reads_it(tmp_path, monkeypatch):
    """SigLIP's first tokenizer reads spiece.model whatever else is there."""
    pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "spiece.model").write_bytes(b"\xff")
    monkeypatch.setattr("transformers.utils.is_sentencepiece_available", lambda: True)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.3")
    with pytest.raises(TokenizerError, match="is not a model of sentencepiece"):
        FrosterProcessor.from_pretrained(folder)


def test_a_description_that_cannot_be_used_is_an_error_of_the_same_kind(tmp_path):
    folder = copy_of(SMALL_FROSTER, tmp_path / "froster")
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(CheckpointError, match="JSON list"):
        FrosterProcessor.from_pretrained(folder)


@pytest.mark.parametrize("part", ["image_processor", "video_processor", "feature_extractor"])
@pytest.mark.parametrize("value", [[], ["x"], 3, "text", False])
def test_a_part_of_a_processor_that_is_no_object_is_refused_by_name(tmp_path, part, value):
    folder = copy_of(SMALL_CLIP, tmp_path / "clip")
    change_json(folder / "processor_config.json", **{part: value})
    with pytest.raises(ProcessorError, match=f"^The {part.replace('_', ' ')} is refused: processor_config.json has"):
        FrosterProcessor.from_clip(folder)


@pytest.mark.parametrize(
    "file", ["processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"]
)
@pytest.mark.parametrize("content", ["[]", "3", "[" * 10_000, "{"])
def test_a_processors_file_that_holds_no_object_is_refused_by_name(tmp_path, file, content):
    folder = copy_of(SMALL_CLIP, tmp_path / "clip")
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=f"/{file} (holds a|is) JSON|/{file} is not JSON"):
        FrosterProcessor.from_clip(folder)


LOADERS = {
    "the pipeline": (SMALL_FROSTER, load_pipeline),
    "the pipeline of a plain CLIP": (SMALL_CLIP, load_pipeline),
    "a processor": (SMALL_FROSTER, FrosterProcessor.from_pretrained),
    "a CLIP's processor": (SMALL_CLIP, FrosterProcessor.from_clip),
    "a dual encoder's processor": (SMALL_CLIP, FrosterProcessor.from_dual_encoder),
    "transformers' processor": (SMALL_CLIP, load_processor),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_refuses_it(tmp_path, loader):
    original, load = LOADERS[loader]
    folder = copy_of(original, tmp_path / "checkpoint", tokenizer=HOSTILE["a text multiplied"])
    with pytest.raises(ValueError, match="a part of its normalizer"):
        load(folder)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
def test_every_loader_refuses_a_configuration_of_more_labels_than_any_model_has(tmp_path, loader, part):
    """transformers writes a name for each, also where a processor or a tokenizer alone is loaded."""
    original, load = LOADERS[loader]
    folder = copy_of(original, tmp_path / "checkpoint")
    content = json.loads((folder / "config.json").read_text())
    for field in ("id2label", "label2id"):
        content.pop(field, None)
    (content if part is None else content[part])["num_labels"] = 2_000_000
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="num_labels` is 2000000"):
        load(folder)


SCRIPT = """
import sys
from transformers import pipeline
import froster_hf
from froster_hf.cli import main
for folder in sys.argv[1:]:
    assert main(["predict", "clip.mp4", "--model", folder, "--labels", "aaaa,xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]) == 1
    try:
        pipeline("zero-shot-video-classification", model=folder)("clip.mp4", candidate_labels=["aaaa", "x" * 34])
    except Exception as error:
        assert "tokenizer is refused" in str(error), error
    else:
        raise AssertionError
print("lives on")
"""


def test_the_process_lives_on(tmp_path):
    names = ("a text multiplied", "an expression that backtracks")
    folders = [copy_of(SMALL_FROSTER, tmp_path / name, tokenizer=HOSTILE[name]) for name in names]
    ran = run_python("-c", SCRIPT, *folders)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "lives on"
    assert ran.stderr.count("froster: error: The model in ") == len(folders)


class PanicException(BaseException):
    """As pyo3's: no `Exception`."""


def test_a_panic_of_the_library_is_an_error(monkeypatch):
    def panic(*_args, **_kwargs):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(TokenizersBackend, "from_pretrained", panic)
    with pytest.raises(TokenizerError, match="index out of bounds"):
        FrosterProcessor.from_pretrained(SMALL_FROSTER)


def test_a_text_over_which_the_library_fails_is_an_error(tmp_path, monkeypatch):
    tokenizer = {"pre_tokenizer": None, "added_tokens": [], **with_model(unk_token="golf")}
    processor = FrosterProcessor.from_pretrained(copy_of(SMALL_FROSTER, tmp_path / "model", tokenizer=tokenizer))
    with pytest.raises(ValueError, match=r"fails over a text .*Unk token"):
        processor.encode_labels(["打"], templates="none")

    def panic(*_args, **_kwargs):
        raise PanicException("end byte index 1 is not a char boundary; it is inside '\x1b打'")

    monkeypatch.setattr(TokenizersBackend, "__call__", panic)
    with pytest.raises(ValueError, match=r"fails over a text .*\\x1b打"):
        processor.encode_labels(["打"], templates="none")


def test_tokens_over_which_the_library_fails_in_an_errors_words_are_an_error(tmp_path, monkeypatch):
    end = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    described = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [872], "tokens": ["<|endoftext|>"]}}
    folder = copy_of(
        SMALL_FROSTER,
        tmp_path / "model",
        tokenizer={"post_processor": template(end, text_of("A"), end, special=described)},
    )
    processor = FrosterProcessor.from_pretrained(folder)
    config = FrosterConfig.from_pretrained(folder)
    with pytest.raises(ValueError, match="goes on behind the token"):
        processor.encode_labels(["a circle"], config=config)

    def panic(*_args, **_kwargs):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(TokenizersBackend, "decode", panic)
    with pytest.raises(ValueError, match=r"fails over the tokens of a text .*index out of bounds"):
        processor.encode_labels(["a circle"], config=config)


@pytest.mark.parametrize(
    ("start", "stop", "is_taken"),
    [(0, 0, True), (1, 0, True), (0, 1, False), (0, 5, False), (2**63, 0, False), (-1, 0, False), (True, 0, False)],
)
def test_a_decoder_takes_one_character_off_a_tokens_beginning_at_most(start, stop, is_taken):
    description = json.loads((SMALL_FROSTER / "tokenizer.json").read_text())
    description["decoder"] = {"type": "Strip", "content": "g", "start": start, "stop": stop}
    if is_taken:
        return check_description(description)
    with pytest.raises(TokenizerError, match=r"a part of its decoder is .* allowed: Strip as the backbones'"):
        check_description(description)


PUBLISHED: dict[str, dict] = {
    "CLIP's": {
        "normalizer": sequence_of({"type": "NFC"}, replacing(r"\s+")["normalizer"], {"type": "Lowercase"}),
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
            ],
        },
    },
    "SigLIP's": {
        "normalizer": sequence_of(
            {"type": "Lowercase"},
            replacing(r"[!\"\#\$%\&'\(\)\*\+,\-\./:;<=>\?@\[\\\]\^_`\{\|\}\~]", "")["normalizer"],
            replacing(r"\s+")["normalizer"],
            {"type": "Strip", "strip_left": True, "strip_right": True},
            replacing(" {2,}", "▁")["normalizer"],
        ),
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    },
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_descriptions_as_they_are_published_are_taken(published):
    check_description({**json.loads((SMALL_FROSTER / "tokenizer.json").read_text()), **PUBLISHED[published]})


@pytest.mark.parametrize("backbone", ["clip", "metaclip_2", "siglip"])
def test_the_backbones_tokenizers_are_taken_and_pad_at_the_end(tmp_path, backbone):
    save_dual_encoder(backbone, tmp_path)
    change_json(tmp_path / "tokenizer_config.json", padding_side="left", truncation_side="left")
    processor = FrosterProcessor.from_dual_encoder(tmp_path, prompt_templates="none")
    assert (processor.tokenizer.padding_side, processor.tokenizer.truncation_side) == ("right", "right")
    processor.save_pretrained(tmp_path / "froster")
    again = FrosterProcessor.from_pretrained(tmp_path / "froster")
    assert again.encode_labels(["a", "bcd"])["input_ids"].equal(processor.encode_labels(["a", "bcd"])["input_ids"])


@pytest.mark.parametrize("make", [metaclip_2_tokenizer, siglip_tokenizer])
def test_a_description_that_a_tokenizer_writes_of_itself_is_taken(make):
    tokenizer = make()
    check_tokenizer(tokenizer)
    check_description(json.loads(tokenizer.backend_tokenizer.to_str()))


def sound_table(text: bytes = b"b\0") -> bytes:
    """One that writes "b" for "a": unit 0 leads to the block at 256, the leaf "a" in it to its value at 512."""
    units = [0] * 1024
    units[0] = 256 << 10
    # "a" is 0x61: its unit says so, has a leaf, and leads to the block at 512.
    child = 256 ^ 0x61
    units[child] = 0x61 | 1 << 8 | ((child ^ 512) << 10)
    units[512] = 0
    return struct.pack("<I1024I", 4096, *units) + text


def test_a_sound_table_of_characters_is_taken_and_one_that_leads_out_of_it_refused():
    assert is_bounded_table(b"")
    assert is_bounded_table(sound_table())
    sound = bytearray(sound_table())
    for place, value in {0: 2000 << 10, 256 ^ 0x61: 0x61 | 1 << 8 | (5000 << 10), 512: 3}.items():
        broken = sound.copy()
        struct.pack_into("<I", broken, 4 + 4 * place, value)
        assert not is_bounded_table(bytes(broken)), place
    assert not is_bounded_table(sound_table(b"b" * 1000 + b"\0"))
    assert not is_bounded_table(sound_table(b"\xff\0"))


def test_a_table_of_characters_with_a_way_longer_than_any_is_refused_soon():
    """Each unit has the letter 1 and leads to the next one: one byte of text after another."""

    def way(length: int) -> bytes:
        units = [(unit ^ min((unit ^ 1) + 1, length - 1)) << 10 | 1 for unit in range(length)]
        return struct.pack(f"<I{length}I", 4 * length, *units) + b"\0"

    assert is_bounded_table(way(256))
    started = time.process_time()
    assert not is_bounded_table(way(200_192))
    assert time.process_time() - started < 2
