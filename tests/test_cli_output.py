"""What the shell prints and writes: hostile names and labels, every encoding, full disks, missing folders."""

import contextlib
import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import pipeline

import froster_hf  # noqa: F401
from froster_hf.cli import build_parser, find_verbs, main
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import environment, run_forked
from tests.fixtures.tiny import save_tiny_checkpoint, tiny_model, tiny_processor

BIKES = str(REAL_VIDEOS["bikes"])
# A terminal's title, a line that looks like ours, a change of the reading direction.
HOSTILE = "\x1b]0;title\x07\nfroster: all is well\u202e"
HOSTILE_LABELS = [HOSTILE, "=HYPERLINK(1)", "plain"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), ["{}"]))


@pytest.fixture(scope="module")
def hostile_checkpoint(tmp_path_factory) -> str:
    """Its stored labels are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    model, processor = tiny_model(), tiny_processor(["{}"])
    model.set_labels(HOSTILE_LABELS, text_embeds=torch.nn.functional.normalize(torch.randn(3, 16), dim=-1))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def hostile_video(tmp_path) -> str:
    path = tmp_path / f"{HOSTILE}.mp4".replace("/", "")
    shutil.copy(BIKES, path)
    return str(path)


def check_is_shown_safely(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n")), ascii(text)
    assert not any(line.startswith("froster: all is well") for line in text.split("\n"))


ARGUMENTS = {
    "predict": ["{video}", HOSTILE + ".mov", "--model", "{checkpoint}", "--labels", "a,b"],
    "timeline": ["{video}", "--model", "{checkpoint}", "--labels", "a,b"],
    "explain": [
        "{video}",
        "--model",
        "{checkpoint}",
        "--label",
        HOSTILE + "a",
        "--against",
        "b",
        "--output",
        "{folder}",
    ],
    "convert": [HOSTILE, "{folder}"],
    "export": [HOSTILE, "{folder}"],
    "evaluate": [HOSTILE, "--model", HOSTILE, "--root", HOSTILE, "--output", "{folder}"],
    "train": [HOSTILE, f"{HOSTILE}=1"],
    "study": [HOSTILE],
    "info": [HOSTILE],
    "interpolate": [HOSTILE, HOSTILE, "--output", "{folder}"],
    "index": [HOSTILE, "--model", HOSTILE, "--output", "{folder}"],
    "search": [HOSTILE, HOSTILE],
    "app": ["--model", HOSTILE, "--index", HOSTILE],
    "demo": ["--output", "{folder}", "--labels", HOSTILE, "--model", HOSTILE],
}


def test_every_verb_is_given_something_hostile():
    assert set(ARGUMENTS) == set(find_verbs())


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_no_verb_prints_a_hostile_name_as_it_is(checkpoint, hostile_video, tmp_path, capsys, verb):
    places = {"{video}": hostile_video, "{checkpoint}": checkpoint, "{folder}": str(tmp_path / f"out{HOSTILE}")}
    arguments = [places.get(argument, argument) for argument in ARGUMENTS[verb]]
    with contextlib.suppress(SystemExit):  # of argparse
        main([verb, *arguments])
    printed = capsys.readouterr()
    assert printed.out or printed.err
    check_is_shown_safely(printed.out)
    check_is_shown_safely(printed.err)


@pytest.mark.parametrize("verb", ["predict", "timeline"])
def test_hostile_labels_of_a_checkpoint_are_shown_safely(hostile_checkpoint, capsys, tmp_path, verb):
    outputs = [str(tmp_path / f"t{suffix}") for suffix in (".json", ".csv", ".srt", ".vtt", ".png")]
    options = [part for output in outputs for part in ("--output", output)] if verb == "timeline" else []
    assert main([verb, BIKES, "--model", hostile_checkpoint, *options]) == 0
    check_is_shown_safely(capsys.readouterr().out)
    for output in outputs if verb == "timeline" else []:
        if not output.endswith(".png"):
            check_is_shown_safely(Path(output).read_text(encoding="utf-8"))
    assert main([verb, BIKES, "--model", hostile_checkpoint, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    labels = [answer["label"] for answer in printed["answers"]] if verb == "predict" else printed["labels"]
    assert sorted(labels) == sorted(HOSTILE_LABELS)


def test_labels_that_are_formulas_are_text_in_a_spreadsheet(tmp_path):
    from froster_hf.pipeline.timeline_files import write_timeline
    from froster_hf.pipeline.timeline_froster import Timeline, TimelineSegment, keep_best

    labels = ["=1+1", "+1", "-1", "@SUM(1)", " =1", "plain", "a=b"]
    segments = [TimelineSegment(i, i + 1.0, label, 0.5) for i, label in enumerate(labels)]
    windows = [(float(i), i + 1.0) for i in range(len(labels))]
    timeline = Timeline(labels, float(len(labels)), windows, keep_best(torch.full((7, 7), 0.5)), segments)
    write_timeline(timeline, tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        stored = [row["label"] for row in csv.DictReader(file)]
    assert stored == ["'=1+1", "'+1", "'-1", "'@SUM(1)", "' =1", "plain", "a=b"]


@pytest.mark.parametrize("label", ["a;=1+1", "a; -1", 'a;"=1+1"', 'a, b;""@SUM(1)', "a;b;＝1", ";+1", "=1;=1"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_no_part_of_a_label_is_a_formula_however_a_spreadsheet_splits_lines(label, delimiter):
    from froster_hf.pipeline.timeline_files import spreadsheet_cell

    file = io.StringIO()
    csv.writer(file).writerows([["0.0", spreadsheet_cell(label), "0.5"], [spreadsheet_cell(label), "0.5"]])
    for row in csv.reader(io.StringIO(file.getvalue()), delimiter=delimiter):
        # Of what a cell has behind its closing quotes, spreadsheets keep some and drop some.
        assert not [cell for cell in row if cell.lstrip(' "').startswith(tuple("=+-@＝＋－＠"))], row


@pytest.mark.parametrize("label", ["plain", "a=b", "left; right", "a;b", 'the "best"; of all', "x - y; z", "骑自行车"])
def test_other_labels_are_read_back_from_a_table_as_they_are(label):
    from froster_hf.pipeline.timeline_files import spreadsheet_cell

    assert spreadsheet_cell(label) == label


def print_both(*arguments: str) -> int:
    """A table, a line `--json`, and lines of JSON, of one process: its start is most of the time."""
    code = main(arguments)
    sys.stdout.write("--json\n")
    return code or main([*arguments, "--json"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not text, which Linux allows")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "C locale"])
def test_names_and_labels_that_the_output_cannot_hold_end_no_run(checkpoint, tmp_path, encoding):
    names = [b"a.mp4", b"caf\xe9.mp4", "骑.mp4".encode(), b"z.mp4"]
    for name in names:
        shutil.copy(BIKES, os.path.join(os.fsencode(tmp_path), name))
    (tmp_path / "labels.txt").write_text("骑自行车\ngrowing\n", encoding="utf-8")
    arguments = ["predict", str(tmp_path), "--labels-file", str(tmp_path / "labels.txt"), "--model", checkpoint]
    if encoding == "C locale":
        # That of file names, too, which a process has from its start.
        script = f"import sys; from {__name__} import print_both; sys.exit(print_both(*sys.argv[1:]))"
        command = [sys.executable, "-c", script, *arguments]
        c_locale = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", HF_HUB_OFFLINE="1")
        ended = subprocess.run(command, env=c_locale, capture_output=True, encoding="ascii", timeout=250)
    else:
        ended = run_forked(lambda: print_both(*arguments), encoding=encoding)
    assert ended.returncode == 0, ended.stderr
    table, lines = ended.stdout.split("--json\n")
    assert table.count("growing") == len(names)
    # ASCII and UTF-8 alike are what JSON may be, and both characters are there or written out.
    results = [json.loads(line) for line in lines.splitlines()]
    assert sorted(os.path.basename(os.fsencode(result["video"])) for result in results) == sorted(names)
    assert all({answer["label"] for answer in result["answers"]} == {"骑自行车", "growing"} for result in results)


def test_what_has_no_score_is_shown_without_one(checkpoint, capsys):
    arguments = ["predict", BIKES, "--model", checkpoint, "--labels", "a,b", "--threshold", "1"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["none", "of", "these", "-"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == [{"score": None, "label": "none of these"}]


def test_names_without_embeddings_are_an_error_not_a_score(capsys, tmp_path):
    model = tiny_model()
    model.config.id2label = {0: "a", 1: "b"}
    model.save_pretrained(tmp_path)
    tiny_processor(["{}"]).save_pretrained(tmp_path)
    for verb in ("predict", "timeline"):
        assert main([verb, BIKES, "--model", str(tmp_path), "--json"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "without embeddings" in printed.err


def test_scores_that_are_no_numbers_are_errors_of_their_videos(checkpoint, capsys, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.froster.visual_projection.weight.fill_(3e38)
    model.save_pretrained(tmp_path)
    tiny_processor(["{}"]).save_pretrained(tmp_path)
    assert main(["predict", BIKES, "--model", str(tmp_path), "--labels", "a,b", "--json"]) == 1
    assert "infinite or NaN" in json.loads(capsys.readouterr().out)["error"]


def test_outputs_are_written_into_folders_that_are_made(checkpoint, capsys, tmp_path):
    output = tmp_path / "not" / "there" / "t.json"
    assert main(["timeline", BIKES, "--model", checkpoint, "--labels", "a,b", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["labels"] == ["a", "b"]


@pytest.mark.parametrize("verb", ["timeline", "explain", "demo"])
def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path, capsys, verb):
    (tmp_path / "file").write_text("")
    output = str(tmp_path / "file" / "t.json")
    options = {"timeline": [BIKES, "--labels", "a"], "explain": [BIKES, "--label", "a"], "demo": []}[verb]
    # A model that is not there would be found out first, if the model were loaded first.
    assert main([verb, *options, "--output", output, "--model", "/nowhere/at/all"]) == 1
    error = capsys.readouterr().err
    assert "/nowhere/at/all" not in error
    assert str(tmp_path / "file") in error


def timeline_arguments(checkpoint: str, folder: Path) -> list[str]:
    outputs = [str(folder / f"t{suffix}") for suffix in (".json", ".csv", ".srt", ".vtt", ".png")]
    windows = ["--window-seconds", "0.4", "--stride-seconds", "0.1", "--smoothing-seconds", "0"]
    options = [*windows, "--labels", "a,b", "--model", checkpoint, "--device", "cpu", "--overwrite"]
    return ["timeline", BIKES, *options, *(part for output in outputs for part in ("--output", output))]


def test_a_full_disk_leaves_the_old_timeline_and_the_printed_answer(checkpoint, tmp_path):
    """A limit on the size of files fails a write as a full disk does, after a part of it."""
    (tmp_path / "t.json").write_text("old")

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
        return main(timeline_arguments(checkpoint, tmp_path))

    ended = run_forked(limited)
    assert ended.returncode == 1
    assert ended.stderr.startswith("froster: error: ")
    assert " - " in ended.stdout
    assert (tmp_path / "t.json").read_text() == "old"
    # Those behind it that fit are written.
    assert sorted(os.listdir(tmp_path)) == ["t.csv", "t.json", "t.srt", "t.vtt"]


def test_a_full_file_system_leaves_the_old_pictures(checkpoint, tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        (tmp_path / "rollout.png").write_text("old")
        arguments = ["explain", BIKES, "--label", "a", "--output", str(tmp_path), "--model", checkpoint]
        ended = run_forked(lambda: main([*arguments, "--overwrite"]))
        assert ended.returncode == 1
        assert ended.stderr.startswith("froster: error: ")
        assert "Traceback" not in ended.stderr
        left = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
        assert set(left) <= {"rollout.png", "rollout.gif", "gradient.png", "gradient.gif"}
        assert all(content == b"old" or content.startswith((b"\x89PNG", b"GIF8")) for content in left.values())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


RESULTS = {
    "predict": (["predict", BIKES, "--labels", "a,b"], "answers.jsonl"),
    "predict, a table": (["predict", BIKES, "--labels", "a,b"], "answers.csv"),
    "timeline": (["timeline", BIKES, "--labels", "a,b"], "timeline.srt"),
    "explain": (["explain", BIKES, "--label", "a", "--method", "rollout"], "rollout.gif"),
}


@pytest.mark.parametrize("verb", RESULTS)
def test_a_result_that_is_there_stays_unless_it_may_be_replaced(checkpoint, tmp_path, capsys, verb):
    arguments, name = RESULTS[verb]
    output = str(tmp_path if verb == "explain" else tmp_path / name)
    (tmp_path / name).write_text("old")
    # A model that is not there would be found out first, if the model were loaded first.
    assert main([*arguments, "--output", output, "--model", "/nowhere/at/all"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"froster: error: {tmp_path / name} exists already. Write elsewhere, ")
    assert told.endswith("or replace it (`--overwrite`, `overwrite=True`).\n")
    assert ("--resume" in told) == name.endswith(".jsonl")
    assert (tmp_path / name).read_text() == "old"
    assert main([*arguments, "--output", output, "--model", checkpoint, "--overwrite"]) == 0
    assert b"old" not in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("verb", ["predict, a table", "timeline", "explain"])
def test_a_result_that_comes_while_another_one_is_computed_stays(checkpoint, tmp_path, capsys, verb):
    arguments, name = RESULTS[verb]
    output = str(tmp_path if verb == "explain" else tmp_path / name)
    # A model computes after everything is checked, and before anything is written.
    computing = register_module_forward_pre_hook(lambda *_: (tmp_path / name).write_text("another run's") and None)
    try:
        assert main([*arguments, "--output", output, "--model", checkpoint]) == 1
    finally:
        computing.remove()
    told = capsys.readouterr().err
    assert f"{tmp_path / name} was written by something else meanwhile, and is left as that" in told
    assert (tmp_path / name).read_text() == "another run's"
    assert Path(re.search(r"is in (.*)\.$", told, re.M)[1]).stat().st_size > 0


def test_every_verb_that_writes_results_says_how_they_are_replaced():
    # One brings up to date what is there, the other makes its own files again.
    kept = {"index", "demo"}
    for name, verb in build_parser().verbs.items():
        text = verb.format_help()
        writes = any(f"  {option} " in text for option in ("--output", "--output-dir", "--html"))
        assert ("  --overwrite " in text) == (name not in kept) or not writes, name


@pytest.mark.parametrize("label", ["{0.__class__}", "{:>999999999}", "%s%n", "{label}", "100%", "a\u200fb"])
def test_labels_are_text_and_never_formats(checkpoint, label, capsys):
    assert main(["predict", BIKES, "--model", checkpoint, "--labels", f"{label},plain", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert {answer["label"] for answer in answers} == {label, "plain"}
    classify = pipeline("zero-shot-video-classification", model=checkpoint)
    torch.testing.assert_close(classify.label_embeds([label])[0], classify.label_embeds([label], templates="none")[0])


def test_a_label_of_a_hundred_thousand_characters_is_refused_in_a_few_words(checkpoint, capsys):
    assert main(["predict", BIKES, "--model", checkpoint, "--labels", "x" * 100_000 + ",y"]) == 1
    error = capsys.readouterr().err
    assert "a text has 100000 characters, more than 2000: 'xxx" in error
    assert len(error) < 6000


def test_a_template_without_a_single_place_for_the_label_is_refused(checkpoint, capsys):
    for template in ("{0.__class__}", "no place", "{} and {}", "{:>999999999}"):
        assert main(["predict", BIKES, "--model", checkpoint, "--labels", "a,b", "--template", template]) == 1
        assert capsys.readouterr().err.startswith("froster: error: ")
