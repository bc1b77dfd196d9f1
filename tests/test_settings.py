"""Settings files: what they say is read as it stands, and nothing else is read, in no time."""

import dataclasses
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from froster_hf.cli import main
from froster_hf.evaluation import load_protocol
from froster_hf.hub.card_facts import load_card_facts
from froster_hf.settings import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    SHIPPED_FOLDERS,
    override_fields,
    read_fields,
    read_named,
    read_yaml,
    read_yaml_file,
    yaml_text,
)
from froster_hf.shapes.study import load_plan
from froster_hf.training.recipes import load_recipe

NESTED_ALIASES = "\n".join(
    ["a: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)


@dataclass(frozen=True)
class Inner:
    width: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    flag: bool = False
    mode: Literal["slow", "fast"] = "slow"
    fold: Literal[1, 2, 3] = 1
    note: str | None = None
    seeds: tuple[int, ...] = ()
    words: list[str] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)
    many: dict[str, Inner] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NESTED_ALIASES, "aliases"),
        ("a: &a {b: 1}\nc: {<<: *a}", "aliases"),
        ("{<<: [&a {<<: [&b {k: 1}, *b, *b]}, *a, *a]}", "aliases"),
        ("{<<: [" * 20, f"nested more than {MAX_DEPTH} deep"),
        ("[" * 5000, f"nested more than {MAX_DEPTH} deep"),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(1, 100)), f"nested more than {MAX_DEPTH} deep"),
        ("{a: " * 3000, f"nested more than {MAX_DEPTH} deep"),
        ("a" * (MAX_CHARACTERS + 1), "characters"),
        ("a: &a 1", "anchors"),
        ("a: !!python/object/apply:os.system ['true']", "tags"),
        ("a: !!int ''", "tags"),
        ("a: 1\nb: 2\na: 3", "twice (line 1, column 1)"),
        ("[a", "line 1"),
        ("a: \x07", "special characters"),
        ("a: " + "9" * 5000, "more than 1000 digits"),
        ("a: 0x" + "f" * 20_000, "more than 1000 digits"),
        ("? [a]\n: b", "unhashable"),
    ],
)
def test_what_is_not_plain_yaml_is_one_line_at_once(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_yaml(text, where="mine.yaml")
    assert str(caught.value).startswith("mine.yaml ")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("key", ["<<", "'<<'"])
def test_a_merge_key_merges_nothing(key):
    text = f"{{{key}: [{{{key}: [{{a: 1}}, {{b: 2}}]}}, {{c: 3}}], d: 4}}"
    assert read_yaml(text, where="mine.yaml") == {"<<": [{"<<": [{"a": 1}, {"b": 2}]}, {"c": 3}], "d": 4}


@pytest.mark.parametrize("load", [load_recipe, load_protocol, load_plan, load_card_facts])
@pytest.mark.parametrize("text", [NESTED_ALIASES, "name: " + "[" * 5000])
def test_every_settings_file_is_read_within_the_bounds(tmp_path, load, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="is not valid YAML") as caught:
        load(file)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("load", [load_recipe, load_protocol, load_plan])
@pytest.mark.parametrize(
    "text",
    [
        "data: {annotations: 's3://bucket/list.csv'}",
        "methods: {a: {overrides: ['data.labels=zip://a::http://127.0.0.1/x']}}",
    ],
)
def test_an_address_is_for_the_command_to_name_and_not_for_a_file(tmp_path, load, text):
    (tmp_path / "mine.yaml").write_text(f"about: see https://example.org\n{text}")
    with pytest.raises(ValueError, match=r"mine\.yaml names the address '[^']*'. What lies in a store"):
        load(tmp_path / "mine.yaml")


@pytest.mark.parametrize("verb", [["train", "--overwrite"], ["evaluate", "--overwrite"], ["study"]])
def test_a_file_is_called_after_itself_and_so_are_its_results(tmp_path, capsys, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yaml").write_text("name: mine\nabout: a\n")
    assert main([verb[0], "theirs.yaml", *verb[1:]]) == 1
    assert "theirs.yaml: name is 'mine'. Results are written under a file's own name" in capsys.readouterr().err
    (tmp_path / "base.yaml").write_text("name: base\nabout: a\n")
    (tmp_path / "theirs.yaml").write_text("name: theirs\nextends: base.yaml\n")
    assert load_recipe("theirs.yaml").name == "theirs"
    assert load_recipe("theirs.yaml", ["name=another"]).name == "another"


@pytest.mark.parametrize(
    "override",
    [
        "data.labels= s3://bucket/list.csv",
        "data.labels='s3://bucket/list.csv'",
        "data={labels: s3://bucket/list.csv}",
        "data.labels=|\n  s3://bucket/list.csv",
        "model.prompt_templates=[s3://bucket/list.csv]",
    ],
)
def test_an_address_is_found_in_a_plans_overrides_however_it_is_written(override):
    with pytest.raises(ValueError, match=r"moving_shapes_base_to_novel names the address 's3://bucket/list"):
        load_recipe("moving_shapes_base_to_novel", overrides_of_file=[override])
    load_recipe("moving_shapes_base_to_novel", [override])


@pytest.mark.parametrize("verb", [["train"], ["evaluate"], ["study"]])
def test_a_verb_says_it_in_one_line(tmp_path, capsys, verb):
    file = tmp_path / "mine.yaml"
    file.write_text(NESTED_ALIASES)
    assert main([*verb, str(file)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_numbers_are_those_of_yaml_1_2():
    """What YAML 1.1 takes for minutes, octal numbers or numbers with gaps is text, or the number it looks like."""
    text = "{a: 12:30, b: 010, c: 1_000, d: 0b11, e: 0o17, f: 0x1F, g: -.inf, h: +5, i: 190:20:30.15, j: 0x_, k: 08}"
    assert read_yaml(text, where="x") == {
        **{"a": "12:30", "b": 10, "c": "1_000", "d": "0b11", "e": 15, "f": 31, "g": float("-inf"), "h": 5},
        **{"i": "190:20:30.15", "j": "0x_", "k": 8},
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in this system's folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "facts.yaml"
    os.mkfifo(pipe)
    for load in (load_recipe, load_card_facts):
        with pytest.raises(ValueError, match=r"facts\.yaml"):
            load(pipe)


def test_a_long_file_that_many_methods_share_is_parsed_once(tmp_path, monkeypatch):
    file, parsed, load = tmp_path / "recipe.yaml", [], yaml.load
    monkeypatch.setattr(yaml, "load", lambda *arguments: parsed.append(arguments) or load(*arguments))
    file.write_text("values: [1, 2]")
    read_yaml_file(file)["values"].append(3)
    assert read_yaml_file(file) == {"values": [1, 2]}
    assert len(parsed) == 1
    file.write_text("values: [1, 2, 3]")
    assert read_yaml_file(file) == {"values": [1, 2, 3]}


def test_numbers_dates_and_quoted_text_are_what_they_look_like():
    text = "{a: 1e-5, b: 2E+3, c: '1e-5', d: '10', e: 2024-01-01, f: -1.5e3, g: 3, h: 1e, i: ~, j: .5, k: =, l: no}"
    assert read_yaml(text, where="x") == {
        **{"a": 1e-5, "b": 2000.0, "c": "1e-5", "d": "10", "e": "2024-01-01", "f": -1500.0, "g": 3},
        **{"h": "1e", "i": None, "j": 0.5, "k": "=", "l": "no"},
    }


def test_a_byte_order_mark_is_passed_over_and_other_encodings_are_named(tmp_path):
    (tmp_path / "a.yaml").write_bytes("name: ö".encode("utf-8-sig"))
    assert read_yaml_file(tmp_path / "a.yaml") == {"name": "ö"}
    (tmp_path / "b.yaml").write_bytes("name: ö".encode("utf-16"))
    with pytest.raises(ValueError, match=r"b\.yaml is not text in UTF-8"):
        read_yaml_file(tmp_path / "b.yaml")


def test_fields_become_the_dataclass_with_its_types():
    read = read_fields(
        Outer,
        {
            "name": "a",
            "rate": 1,
            "seeds": [1, 2],
            "inner": {"width": 3},
            "many": {"b": {"width": 4}},
            "rest": {"c": 1},
        },
        where="mine",
    )
    assert read == Outer("a", rate=1, seeds=(1, 2), inner=Inner(3), many={"b": Inner(4)}, rest={"c": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 5}, "mine: name is 5; it must be text"),
        ({"name": "a", "rate": "fast"}, "rate is 'fast'; it must be a number"),
        ({"name": "a", "rate": True}, "rate is True; it must be a number"),
        ({"name": "a", "rate": float("inf")}, "rate is inf; it must be a number that is finite"),
        ({"name": "a", "rate": 10**400}, "; it must be a number that is finite"),
        ({"name": "a", "flag": 1}, "flag is 1; it must be true or false"),
        ({"name": "a", "mode": "fsat"}, "mode is 'fsat'; it must be one of slow, fast"),
        ({"name": "a", "mode": ["slow"]}, "mode is ['slow']; it must be one of"),
        ({"name": "a", "fold": True}, "fold is True; it must be one of 1, 2, 3"),
        ({"name": "a", "note": {"b": 1}}, "it must be text (numbers and true or false in quotes) or null"),
        ({"name": "a", "seeds": 3}, "seeds is 3; it must be a list, each of a whole number"),
        ({"name": "a", "seeds": [1.5]}, "seeds is [1.5]"),
        ({"name": "a", "words": "bc"}, "words is 'bc'; it must be a list"),
        ({"name": "a", "inner": 3}, "mine, inner: expected `field: value` lines, got 3"),
        ({"name": "a", "inner": {"width": "x"}}, "mine, inner: width is 'x'"),
        ({"name": "a", "inner": {"hight": 1}}, "mine, inner: unknown fields hight. Known are width"),
        ({"name": "a", "many": {"b": {"hight": 1}}}, "unknown fields hight"),
        ({"name": "a", 5: 1, "x": 2}, "unknown fields 5, x"),
        ({"rate": 0.5}, "the fields name are missing"),
        ([1], "expected `field: value` lines"),
        ({"name": "x" * 10000, "rate": "y" * 10000}, "rate is 'yyy"),
    ],
)
def test_what_a_field_does_not_take_is_named(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_fields(Outer, fields, where="mine")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("override", ["rate", "=1", "a..b=1", ".a=1", "a." * 40 + "a=1", "rate=[1", "rate=*x"])
def test_what_is_no_override_is_refused(override):
    with pytest.raises(ValueError, match=r"not (of the form field=value|valid YAML)"):
        override_fields({}, [override])


@pytest.mark.parametrize("value", ["clips #2", "#2", "&x y", "2024 # the year"])
def test_an_override_of_which_yaml_would_leave_something_out_is_refused(value):
    with pytest.raises(ValueError, match=r"comment|anchors"):
        override_fields({}, [f"data.root={value}"])
    assert override_fields({}, [f'data.root="{value}"']) == {"data": {"root": value}}
    assert override_fields({}, ["data.root=clips#2&x"]) == {"data": {"root": "clips#2&x"}}


@pytest.mark.parametrize(
    "name", ["../../x", "/tmp/x", "a/b", "..", "", "a\\b", "C:x", "x\n", "x" * 70_000, "\u8dd1" * 100]
)
@pytest.mark.parametrize("load", [load_recipe, load_protocol, load_plan])
def test_a_name_under_which_results_are_written_leads_nowhere_else(tmp_path, load, name):
    shipped = {load_recipe: "froster_k400", load_protocol: "base_to_novel_ucf101", load_plan: "short"}[load]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"extends": shipped}))
    with pytest.raises(ValueError, match=r"mine\.yaml.*: name is .*; it becomes part of paths") as refused:
        load(file, [f"name={json.dumps(name)}"])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000
    assert load(file).name == "mine"
    assert load(file, ["name=another"]).name == "another"


def test_overrides_come_one_after_the_other():
    fields = {"a": {"b": 1, "c": 2}}
    assert override_fields(fields, ["a.b=3", "a.b=4", "d.e=x=y"]) == {"a": {"b": 4, "c": 2}, "d": {"e": "x=y"}}
    assert fields == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("extends: [a]", "extends is"),
        ("extends: a", "extends itself"),
        ("extends: " + "b" * 999, "There is no recipe"),
        ("extends: " + "ü" * 200, "There is no recipe"),
        ("extends: " + "b/" * 9999 + "c.yaml", "There is no recipe"),
    ],
)
def test_what_a_file_extends_is_one_other_file(tmp_path, monkeypatch, content, message):
    monkeypatch.setitem(SHIPPED_FOLDERS, "recipe", tmp_path)
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_named("a", kind="recipe")


# Text of any kind, and what a reader may take for a number, for nothing, or for yes and no.
TEXTS = st.text() | st.text(alphabet="0189eE.+-_oxb:~", max_size=6) | st.sampled_from(["08", "1e5", "no", "=", "<<"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(TEXTS, parts, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200)
@given(VALUES)
def test_what_is_written_is_read_as_it_was(value):
    assert read_yaml(yaml_text([value, value]), where="x") == [value, value]


def message_of(read) -> str:
    """What a `ValueError` says; nothing where there is none."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return ""


@settings(max_examples=200)
@given(st.text(alphabet="ab1 \n\t[]{}:,-&*!|>'\"#%@?~.=<e+", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    assert len(message_of(lambda: read_yaml(text, where="x")).splitlines()) <= 1


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([entry.name for entry in dataclasses.fields(Outer)]), VALUES))
def test_any_fields_are_taken_or_refused_in_one_line(fields):
    assert len(message_of(lambda: read_fields(Outer, fields, where="mine")).splitlines()) <= 1
