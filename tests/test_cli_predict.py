"""`froster predict` and `froster timeline` on real files, with the pipeline's own scores."""

import contextlib
import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from transformers import pipeline
from transformers.utils import logging

import froster_hf  # noqa: F401
from froster_hf.cli import main
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import run_forked
from tests.fixtures.tiny import save_tiny_checkpoint

FROSTER = str(Path(sys.executable).parent / "froster")
LABELS = ["riding a bike", "playing golf", "cooking"]
BIKES = str(REAL_VIDEOS["bikes"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), ["a video of {}.", "{}"]))


@pytest.fixture(scope="module")
def classify(checkpoint):
    return pipeline("zero-shot-video-classification", model=checkpoint)


def predict(checkpoint, capsys, *arguments) -> tuple[int, list[dict], str]:
    code = main(["predict", "--model", checkpoint, "--device", "cpu", "--json", *arguments])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def scores(answers) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in answers}


def test_a_frame_larger_than_usual_is_read_where_the_option_allows_it(checkpoint, capsys):
    arguments = [BIKES, "--labels", ",".join(LABELS), "--max-pixels"]
    code, lines, _ = predict(checkpoint, capsys, *arguments, str(640 * 272 - 1))
    assert code == 1
    assert "--max-pixels 174080" in lines[0]["error"]
    assert predict(checkpoint, capsys, *arguments, "174080")[0] == 0


def test_the_program_and_the_pipeline_give_the_same_scores_on_real_files(checkpoint, classify):
    paths = [str(path) for path in REAL_VIDEOS.values()]
    result = subprocess.run(
        [FROSTER, "predict", *paths, "--labels", ",".join(LABELS), "--model", checkpoint, "--device", "cpu", "--json"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["video"] for line in lines] == paths
    for line, answers in zip(lines, classify(paths, LABELS), strict=True):
        assert scores(line["answers"]) == pytest.approx(scores(answers), abs=1e-6)


def test_options_reach_the_pipeline(checkpoint, classify, capsys):
    code, lines, _ = predict(
        checkpoint,
        capsys,
        BIKES,
        *("--labels", "golf,tennis", "--background", "a street", "--template", "someone plays {}"),
        *("--num-views", "2", "--num-crops", "2", "--num-frames", "3", "--top-k", "1", "--backend", "decord"),
    )
    expected = classify(
        BIKES,
        ["golf", "tennis"],
        background_labels=["a street"],
        hypothesis_template="someone plays {}",
        num_views=2,
        num_crops=2,
        num_frames=3,
        top_k=1,
    )
    assert code == 0
    assert scores(lines[0]["answers"]) == pytest.approx(scores(expected), abs=1e-5)


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_scored(checkpoint, capsys, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for size in (30, 40):
        Image.new("RGB", (size, 40)).save(mixed / f"{size}.png")
    code, lines, _ = predict(checkpoint, capsys, "missing.mp4", str(broken), str(mixed), BIKES, "--labels", "a,b")
    assert code == 1
    assert [("error" in line, "answers" in line) for line in lines] == [(True, False)] * 3 + [(False, True)]
    for line, name in zip(lines, ("missing.mp4", "broken.mp4", "mixed")):
        assert name in line["error"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, an output that is always full")
def test_a_message_that_nothing_takes_costs_no_answers(checkpoint, tmp_path):
    output = tmp_path / "answers.jsonl"
    arguments = ["missing.mp4", BIKES, "--labels", "a,b", "--model", checkpoint, "--output", str(output)]

    def unheard() -> int:
        sys.stderr.flush()
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), sys.stderr.fileno())
        return main(["predict", *arguments])

    ended = run_forked(unheard)
    assert ended.returncode == 1
    assert "answers of 2 videos" in ended.stdout
    assert ["answers" in json.loads(line) for line in output.read_text().splitlines()] == [False, True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, an output that is always full")
def test_an_output_that_is_full_costs_no_file_of_a_timeline(checkpoint, tmp_path):
    output = tmp_path / "timeline.json"

    def unheard() -> int:
        sys.stdout.flush()
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), sys.stdout.fileno())
        return main(["timeline", BIKES, "--labels", "a,b", "--model", checkpoint, "--json", "--output", str(output)])

    ended = run_forked(unheard)
    assert ended.returncode != 0
    assert ended.stderr.count("froster: error: ") == 1
    assert json.loads(output.read_text())["segments"]


def test_people_get_a_table_and_errors_on_the_side(checkpoint, capsys):
    code = main(["predict", "--model", checkpoint, BIKES, "missing.mp4", "--labels", ",".join(LABELS), "--top-k", "2"])
    captured = capsys.readouterr()
    assert code == 1
    lines = captured.out.splitlines()
    assert lines[0] == BIKES
    assert len(lines) == 3
    assert float(lines[1].split()[-1]) >= float(lines[2].split()[-1])
    assert "missing.mp4" in captured.err
    assert "1 of 2 videos" in captured.err
    assert "Traceback" not in captured.err


def test_folders_are_searched(checkpoint, capsys, tmp_path):
    (tmp_path / "deep").mkdir()
    shutil.copy(BIKES, tmp_path / "deep" / "clip.mp4")
    code, lines, _ = predict(checkpoint, capsys, str(tmp_path), "--labels", "a,b")
    assert code == 0
    assert [Path(line["video"]).name for line in lines] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "riding a bike\n\nplaying golf\t a ball is hit \ncooking\n"),
        ("labels.json", '{"riding a bike": null, "playing golf": "a ball is hit", "cooking": null}'),
    ],
)
def test_label_files_may_describe_their_labels(checkpoint, classify, capsys, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    _, lines, _ = predict(checkpoint, capsys, BIKES, "--labels-file", str(tmp_path / name))
    expected = classify(BIKES, {"riding a bike": None, "playing golf": "a ball is hit", "cooking": None})
    assert scores(lines[0]["answers"]) == pytest.approx(scores(expected), abs=1e-5)


def test_labels_that_are_digits_are_not_taken_for_indices_of_their_descriptions(checkpoint, capsys, tmp_path):
    (tmp_path / "labels.csv").write_text("name,description\n0,a closed hand\n1,one raised finger\n")
    _, lines, _ = predict(checkpoint, capsys, BIKES, "--labels-file", str(tmp_path / "labels.csv"))
    assert set(scores(lines[0]["answers"])) == {"0", "1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a,,b"], "empty"),
        (["--labels", 'a,"b'], "quote a label as in CSV"),
        (["--labels", "a,a"], "repeated"),
        (["--labels-file", "missing.txt"], "missing.txt"),
        ([], "Give --labels"),
        (["--labels", "a", "--model", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--labels", "a", "--device", "toaster"], "The device toaster cannot be used"),
        (["--labels", "a", "--device", "meta"], "The device meta cannot be used"),
    ],
)
def test_wrong_arguments_are_one_line(checkpoint, capsys, arguments, message):
    assert main(["predict", BIKES, "--model", checkpoint, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("froster: error:")
    assert message in error


def test_one_label_and_several_at_once_say_what_they_are_compared_with(checkpoint, classify, capsys, tmp_path):
    code, _, error = predict(checkpoint, capsys, BIKES, "--labels", LABELS[0])
    assert code == 1
    assert "--background" in error
    listed = tmp_path / "background.txt"
    listed.write_text("an empty room\na landscape\n")
    for arguments, options in (
        ([LABELS[0], "--background", str(listed)], {"background_labels": ["an empty room", "a landscape"]}),
        ([",".join(LABELS), "--multi-label", "--background", "a street"], {"background_labels": ["a street"]}),
    ):
        code, [line], error = predict(checkpoint, capsys, BIKES, "--labels", *arguments)
        assert code == 0
        assert f"the background: {', '.join(options['background_labels'])}" in error
        labels = arguments[0].split(",")
        expected = classify(BIKES, labels, multi_label="--multi-label" in arguments, **options)
        assert scores(line["answers"]) == pytest.approx(scores(expected), abs=1e-5)


def test_timeline_prints_segments_and_writes_files(checkpoint, classify, capsys, tmp_path):
    outputs = [str(tmp_path / f"t{suffix}") for suffix in (".json", ".csv", ".srt", ".vtt", ".png")]
    arguments = ["timeline", BIKES, "--model", checkpoint, "--device", "cpu", "--labels", ",".join(LABELS)]
    assert main([*arguments, *(part for output in outputs for part in ("--output", output))]) == 0
    expected = classify.timeline(BIKES, LABELS)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(expected.segments)
    assert expected.segments[0].label in printed[0]
    stored = json.loads(Path(outputs[0]).read_text())
    assert stored["windows"][0]["scores"] == pytest.approx(expected.to_dict()["windows"][0]["scores"], abs=1e-5)
    with open(outputs[1], newline="") as file:
        assert len(list(csv.DictReader(file))) == len(expected.segments)
    assert all(Path(output).stat().st_size > 0 for output in outputs)

    assert main([*arguments, "--json", "--threshold", "1.0"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == []
    assert main([*arguments, "--output", "t.docx"]) == 1
    assert ".srt" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_progress_bar_is_on_a_terminal_and_nowhere_else(checkpoint, capsys, monkeypatch):
    import fcntl
    import pty
    import termios

    # Other verbs, run by other tests of this process, turn the bars of transformers off.
    logging.enable_progress_bar()
    arguments = ["timeline", BIKES, "--model", checkpoint, "--device", "cpu", "--labels", ",".join(LABELS)]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(terminal, "w") as stderr, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        assert main(arguments) == 0
    # What was written arrives in pieces, and after the write; once the terminal is closed, an error ends it.
    shown = ""
    with open(reader, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while piece := screen.read(1 << 16):
            shown += piece.decode()
    assert "Classifying" in shown
    assert "4/4" in shown


@pytest.mark.parametrize(("option", "value"), [("batch-size", "0"), ("num-frames", "0")])
def test_a_timeline_of_nothing_is_one_line(checkpoint, capsys, option, value):
    assert main(["timeline", BIKES, "--model", checkpoint, "--labels", "a,b", f"--{option}", value]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"froster: error: --{option} is 0")


@pytest.mark.parametrize(
    "arguments", [["predict", BIKES, "--dtype", "float33"], ["timeline", BIKES, "--backend", "decord"]]
)
def test_choices_that_there_are_not_are_explained(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--labels", "a"])
    assert stopped.value.code == 2
    assert arguments[2] in capsys.readouterr().err


def test_standard_input_is_a_file(tmp_path):
    save_tiny_checkpoint(tmp_path)
    options = ["--labels", "riding a bike,golf", "--model", str(tmp_path)]
    for verb, check in (("predict", lambda out: "golf" in out), ("timeline", bool)):
        with open(REAL_VIDEOS["bikes"], "rb") as video:
            done = run_forked(lambda verb=verb: main([verb, "-", *options]), stdin=video)
        assert done.returncode == 0, done.stderr[-2000:]
        assert check(done.stdout)
    # A pipe, which cannot be read twice.
    data = REAL_VIDEOS["bikes"].read_bytes()
    piped = run_forked(lambda: main(["predict", "-", *options]), stdin=data)
    assert piped.returncode == 0, piped.stderr[-2000:]
    assert "golf" in piped.stdout


def test_all_labels_that_reach_the_threshold_are_shown_where_several_may_occur(capsys):
    labels = ",".join(f"a red star number {number}" for number in range(7))
    call = ["predict", str(REAL_VIDEOS["bikes"]), "--labels", labels, "--multi-label", "--model", "small"]
    counts = []
    for options in ([], ["--threshold", "0"], ["--threshold", "0", "--top-k", "3"]):
        assert main([*call, *options, "--json"]) == 0
        counts.append(len(json.loads(capsys.readouterr().out)["answers"]))
    assert counts == [5, 7, 3]
