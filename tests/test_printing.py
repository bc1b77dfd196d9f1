"""Text of unknown origin on its way to a terminal, a file or a JSON reader."""

import json
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import froster_hf
from froster_hf import FrosterConfig, FrosterProcessor
from froster_hf.cli.verbs.train import _messages_of_the_training
from froster_hf.data.class_folders import read_video_folder
from froster_hf.evaluation.predicting import refuse_mismatch
from froster_hf.printing import (
    LONGEST_MESSAGE,
    LONGEST_NAME,
    PrintableFormatter,
    get_logger,
    json_text,
    listing,
    markdown_text,
    one_line,
    printable,
)
from froster_hf.settings import check_fields
from froster_hf.training.recipe_run import build_model, training_arguments
from froster_hf.training.recipes import RecipeModel, load_recipe
from froster_hf.training.run_identity import RunIdentity
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.tiny import save_tiny_checkpoint

# Sets a terminal's title, rings, begins a line, turns the reading direction, and is no character at all.
HOSTILE = "\x1b]0;title\x07\rtop\nnext\u202eback\udcff\x9b1m"
ANYTHING = st.text(st.characters(exclude_categories=[]))


def rewritten(file: Path, *keys: str, value: Any = HOSTILE) -> Path:
    """The JSON file with another value at this place."""
    content = json.loads(file.read_text()) if file.exists() else {}
    section = content
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    section[keys[-1]] = value
    file.write_text(json.dumps(content))
    return file


def load_processor(folder: Path, field: str, value: Any = HOSTILE) -> None:
    save_tiny_checkpoint(folder)
    rewritten(folder / "processor_config.json", "video_processor", field, value=value)
    FrosterProcessor.from_pretrained(folder)


def load_plain_processor(folder: Path, field: str) -> None:
    save_dual_encoder("clip", folder)
    rewritten(folder / "processor_config.json", "image_processor", field)
    FrosterProcessor.from_dual_encoder(folder)


def load_config(folder: Path, keys: tuple[str, ...], value: Any = HOSTILE) -> None:
    save_tiny_checkpoint(folder)
    rewritten(folder / "config.json", *keys, value=value)
    FrosterConfig.from_pretrained(folder)


def load_arguments(folder: Path, field: str) -> None:
    file = rewritten(folder / "mine.yaml", "training", value={"use_cpu": True, field: HOSTILE[:-1]})
    recipe = load_recipe(rewritten(file, "about", value="a"), [f"output_dir={folder}"])
    training_arguments(recipe, num_clips=8)


def load_checkpoint_of_a_recipe(folder: Path) -> None:
    build_model(RecipeModel(checkpoint=f"{folder}/{HOSTILE}"))


def check_identity(folder: Path, value: str) -> None:
    rewritten(folder / "run_identity.json", "teacher", value=value)
    RunIdentity(lambda: {"teacher": "none"}).check_state(folder)


def check_header(folder: Path) -> None:
    refuse_mismatch(folder / "predictions.0.jsonl", {HOSTILE: 1, "video_options": {HOSTILE: HOSTILE}}, {})


def read_settings(folder: Path) -> None:
    check_fields({"methods": {HOSTILE: 1}}, {"methods": dict[str, str]}, where="a plan")


def read_classes(folder: Path) -> None:
    (folder / "\x1b[2J\u202e").mkdir()
    (folder / "\x1b[2J\u202e" / "clip.mp4").symlink_to(__file__)
    read_video_folder(folder)


def test_ordinary_text_of_every_script_is_shown_as_it_is():
    for text in ("riding a bike", "骑自行车", "Fahrrad fahren für Anfänger", "C:\\videos\\a.mp4", "🚴", ""):
        assert printable(text) == text
        assert one_line(text) == text


def test_what_would_act_on_a_terminal_is_written_out():
    assert printable(HOSTILE) == r"\x1b]0;title\x07\rtop\nnext\u202eback\udcff\x9b1m"
    assert one_line("first\n\n  second\t\x1b[31mred") == r"first second \x1b[31mred"


def test_messages_of_other_libraries_keep_their_lines_and_lose_what_acts():
    record = logging.LogRecord("a", logging.WARNING, "", 0, "\x1b[1mReport\x1b[0m of %s\nnext", (HOSTILE,), None)
    lines = PrintableFormatter().format(record).split("\n")
    assert lines[0] == r"Report of \x1b]0;title\x07\rtop"
    assert lines[-1] == "next"
    assert all(line.isprintable() for line in lines)


def test_values_in_messages_of_this_package_are_printable_whoever_shows_them(caplog):
    get_logger("froster_hf.a_module").warning("%d of %s: %s", 2, Path(HOSTILE), ValueError(HOSTILE))
    (message,) = caplog.messages
    assert message.isprintable()
    assert message.startswith(r"2 of \x1b]0;title\x07")
    modules = Path(froster_hf.__file__).parent.rglob("*.py")
    others = [file for file in modules if "logging.getLogger(__name__)" in file.read_text(encoding="utf-8")]
    assert not others, "their messages are shown as they come"


@pytest.mark.parametrize(
    ("load", "named"),
    [
        (partial(load_processor, field="resample"), "No video can be processed"),
        (partial(load_processor, field="cropping"), "Validation error for field 'cropping'"),
        (partial(load_processor, field="crop_size"), "No video can be processed"),
        (partial(load_processor, field="size", value=[HOSTILE]), "No video can be processed"),
        (partial(load_plain_processor, field="resample"), "No video can be processed"),
        (partial(load_plain_processor, field="crop_size"), "The processor cannot be loaded"),
        (partial(load_config, keys=("dtype",)), "`dtype` is"),
        (partial(load_config, keys=("text_config", "dtype")), r"`text_config\.dtype` is"),
        (partial(load_config, keys=("temporal_module",)), "temporal_module"),
        (partial(load_config, keys=("vision_config", HOSTILE), value=math.inf), "must be a finite number"),
        (partial(load_arguments, field="fsdp"), "fsdp"),
        (partial(load_arguments, field="debug"), "is not a valid DebugOption"),
        (load_checkpoint_of_a_recipe, "There is no checkpoint in"),
        (partial(check_identity, value=HOSTILE), "teacher was"),
        (partial(check_identity, value=HOSTILE.ljust(64)), "teacher was"),
        (check_header, "made with other settings"),
        (read_settings, "methods"),
        (read_classes, "outside the data root"),
    ],
)
def test_an_error_of_python_that_repeats_a_file_is_one_printable_line(tmp_path, load: Callable, named: str):
    """What a verb shows is escaped once more; a traceback is shown as it is."""
    with pytest.raises(ValueError, match=named) as refused:
        load(tmp_path)
    assert str(refused.value).isprintable(), ascii(str(refused.value))


def test_what_is_logged_in_a_training_is_fit_for_a_terminal(capfd):
    handlers = [(handler, handler.formatter) for handler in logging.getLogger("transformers").handlers]
    with _messages_of_the_training():
        logging.getLogger("froster_hf.training").warning("of \x1b[2J")
        assert all(isinstance(handler.formatter, PrintableFormatter) for handler, _ in handlers)
    assert [(handler, handler.formatter) for handler, _ in handlers] == handlers
    assert capfd.readouterr().err == "of \\x1b[2J\n"


@given(ANYTHING)
def test_whatever_comes_in_one_printable_line_comes_out(text):
    for shown in (printable(text), one_line(text), listing([text, text])):
        assert shown.isprintable()
        shown.encode("utf-8")


def test_a_megabyte_is_cut_and_counted():
    for cut, longest in ((printable, LONGEST_NAME), (one_line, LONGEST_MESSAGE)):
        shown = cut("x" * 1_000_000)
        assert shown == "x" * longest + "... (1000000 characters)"
    assert len(listing(["\x1b" * 1_000_000] * 1000)) < 100 * 5 * LONGEST_NAME


@given(ANYTHING)
def test_json_can_be_encoded_and_is_read_back(text):
    for encoding in ("utf-8", "cp1252", "ascii"):
        stored = json_text({"label": text, "score": 0.5}, encoding=encoding).encode(encoding)
        assert json.loads(stored.decode(encoding)) == {"label": text, "score": 0.5}
        assert stored.decode(encoding).isprintable()


def test_json_is_readable_where_the_output_allows():
    assert "骑" in json_text(["骑"])
    assert json_text(["骑"], encoding="cp1252") == r'["\u9a91"]'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_holds_no_numbers_that_json_does_not_have(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"score": number})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a ~~b~~ &#42;c&#42;", r"a \~\~b\~\~ &amp;#42;c&amp;#42;"),
        ("see HTTPS://example.org", "see HTTPS&#58;//example.org"),
        ("(www.example.org)", "(www&#46;example.org)"),
        ("_http://example.org_", r"\_http&#58;//example.org\_"),
        ("me@example.org", "me&#64;example.org"),
        ("brush_hair a__b _a_", r"brush_hair a\_\_b \_a\_"),
        ("1. a", r"1\. a"),
        ("# a", r"\# a"),
        ("12:30, awww. httpsx", "12:30, awww. httpsx"),
    ],
)
def test_no_text_is_markup_a_link_or_an_entity_of_markdown(text, shown):
    assert markdown_text(text) == shown
