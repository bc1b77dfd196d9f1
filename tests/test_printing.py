"""Text of unknown origin on its way to a terminal, a file or a JSON reader."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import froster_hf
from froster_hf.cli.verbs.train import _messages_of_the_training
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

# Sets a terminal's title, rings, begins a line, turns the reading direction, and is no character at all.
HOSTILE = "\x1b]0;title\x07\rtop\nnext\u202eback\udcff\x9b1m"
ANYTHING = st.text(st.characters(exclude_categories=[]))


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
