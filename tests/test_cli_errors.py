"""Errors as a user of the shell has them: one line, whatever their kind; tracebacks only on request."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from froster_hf import VideoDecodeError
from froster_hf.cli import build_parser, main, name_options
from froster_hf.cli.verbs import info
from froster_hf.data.decode_failures import TooManyDecodeFailures
from froster_hf.training.losses import NonFiniteError

FROSTER = str(Path(sys.executable).parent / "froster")


def fail_with(monkeypatch, error: BaseException):
    def run(arguments):
        raise error

    monkeypatch.setattr(info, "run", run)


@pytest.mark.parametrize(
    "error",
    [
        NonFiniteError("The loss is NaN. Lower the learning rate."),
        TooManyDecodeFailures("3 of 4 videos cannot be decoded. Mend them."),
        VideoDecodeError("a.mp4", "pyav", "no frames"),
        ValueError("wrong"),
        FileNotFoundError(2, "No such file", "a.mp4"),
    ],
)
def test_errors_that_are_meant_for_a_user_are_their_message(monkeypatch, capsys, error):
    fail_with(monkeypatch, error)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == f"froster: error: {error}\n"


class FailingRows(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise TooManyDecodeFailures("21 videos drawn in place of each other cannot be decoded:\n  a.mp4: no frames")


def test_the_error_of_a_worker_is_its_message_without_the_workers_traceback(monkeypatch, capsys):
    with pytest.raises(TooManyDecodeFailures, match="Original Traceback") as raised:
        next(iter(torch.utils.data.DataLoader(FailingRows(), num_workers=1)))
    fail_with(monkeypatch, raised.value)
    assert main(["info"]) == 1
    message = "21 videos drawn in place of each other cannot be decoded: a.mp4: no frames"
    assert capsys.readouterr().err == f"froster: error: {message}\n"


@pytest.mark.parametrize(
    "error",
    [
        KeyError("tokenizer"),
        AttributeError("'list' object has no attribute 'items'\n  in a second line"),
        RecursionError("maximum recursion depth exceeded"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_any_other_error_is_one_line_with_its_kind(monkeypatch, capsys, error):
    fail_with(monkeypatch, error)
    assert main(["info"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"froster: error: {type(error).__name__}")
    assert "--traceback" in message
    assert message.count("\n") == 1
    with pytest.raises(type(error)):
        main(["info", "--traceback"])


def test_an_error_that_repeats_something_hostile_is_one_printable_line(monkeypatch, capsys):
    fail_with(monkeypatch, ValueError("no such tensor: \x1b]0;title\x07\nfroster: all is well" + "x" * 1_000_000))
    main(["info"])
    message = capsys.readouterr().err
    assert message.rstrip("\n").isprintable()
    assert len(message) < 6000


def test_wrong_options_are_repeated_without_their_control_characters(capsys):
    with pytest.raises(SystemExit):
        main(["info", "--no-such\x1b[31m"])
    error = capsys.readouterr().err
    assert r"--no-such\x1b[31m" in error
    assert "\x1b" not in error


def test_the_output_is_put_back_as_it_was():
    script = (
        "import sys; from froster_hf.cli import main\n"
        "before = (sys.stdout.errors, sys.stderr.errors)\n"
        "main(['evaluate', '--list']); main(['train'])\n"
        "assert (sys.stdout.errors, sys.stderr.errors) == before\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, an output that is always full")
@pytest.mark.parametrize("arguments", [[], ["evaluate", "--list"], ["--help"], ["predict", "--help"], ["--version"]])
def test_an_output_that_is_full_is_an_error(arguments):
    with open("/dev/full", "w") as full:
        ended = subprocess.run([FROSTER, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert ended.returncode != 0
    assert ended.stderr.startswith(b"froster: error: ")
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("`top_k` is 0; it must be at least 1.", "--top-k is 0; it must be at least 1."),
        ("Give `candidate_labels`, the list of actions.", "Give --labels, the list of actions."),
        ("the column `video`", "the column `video`"),
    ],
)
def test_messages_name_the_options_of_the_shell(message, told):
    arguments = build_parser().parse_args(["predict", "clip.mp4"])
    assert name_options(message, arguments) == told


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["predict", "a.mp4", "--labels", "a", "--modle", "small"], "--model"),
        (["tmeline", "a.mp4"], "timeline"),
        (["predict", "a.mp4", "--backend", "pyva"], "pyav"),
    ],
)
def test_a_misspelled_word_is_one_line_that_says_what_may_be_meant(capsys, arguments, meant):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"did you mean {meant}?" in told
    assert told.count("\n") == 1


def test_files_that_are_not_there_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "nothere.mp4", "--labels", "a,b", "--model", "small"]) == 1
    assert "froster: 'nothere.mp4': there is no such file\n" in capsys.readouterr().err
    assert main(["predict", "nothere.mp4", "--labels-file", "nothere.txt", "--model", "small"]) == 1
    assert capsys.readouterr().err == "froster: error: --labels-file nothere.txt: there is no such file\n"


def test_a_misspelled_name_of_the_shipped_model_is_guessed(capsys):
    assert main(["predict", "a.mp4", "--labels", "a,b", "--model", "smal"]) == 1
    assert "Did you mean small?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["timeline", "a.mp4", "b.mp4", "--labels", "a"],
            "froster timeline: error: too many arguments: b.mp4; it takes VIDEO ",
        ),
        (["--model", "small"], "froster: error: --model comes before the verb; options stand behind it, "),
        (["info", "twice"], "froster info: error: too many arguments: twice; it takes options only "),
        # `explain` has a --label; this verb has none.
        (
            ["predict", "a.mp4", "--label", "a"],
            "froster predict: error: unrecognized arguments: --label; did you mean --labels?",
        ),
    ],
)
def test_arguments_that_a_verb_does_not_take_are_compared_with_its_own(capsys, arguments, told):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize(("verb", "kind"), [("evaluate", "protocol"), ("train", "recipe")])
def test_what_is_neither_videos_nor_a_shipped_name_is_named_as_both(tmp_path, monkeypatch, capsys, verb, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_videos").mkdir()
    assert main([verb, "my_vidoes", "--model", "small"]) == 1
    assert capsys.readouterr().err == (
        f"froster: error: There is no {kind} 'my_vidoes', and no folder or list of this name. Did you mean my_videos? "
        f"Give a folder with one folder per class, a list of videos and labels, or a name of "
        f"`froster {verb} --list`.\n"
    )
    assert main([verb, "below/list.csv", "--model", "small"]) == 1
    assert capsys.readouterr().err.startswith("froster: error: below/list.csv is not there. Give a folder")
    shipped = {"protocol": "cross_dataset_k600", "recipe": "froster_k400"}[kind]
    assert main([verb, shipped.replace("k", "K")]) == 1
    assert f"Did you mean {shipped}" in capsys.readouterr().err


def test_a_path_without_a_model_is_no_matter_for_the_hub(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for arguments in (["predict", "a.mp4", "--labels", "a,b"], ["train", "."]):
        assert main([*arguments, "--model", "./modle"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == (
        "froster: error: The model './modle' cannot be loaded: there is no such folder. Did you mean ./model? Name a "
        "folder, a name on the Hub, or small with --model."
    )


def test_a_file_is_no_live_source(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    assert main(["timeline", "--live", str(tmp_path / "a.mp4"), "--labels", "a", "--model", "/nowhere"]) == 1
    assert "is a file, which has an end: give it as VIDEO, without --live." in capsys.readouterr().err


def test_a_misspelled_field_of_a_recipe_is_guessed(capsys):
    assert main(["train", "froster_k400", "training.lerning_rate=1", "data.root=x", "--show"]) == 1
    told = capsys.readouterr().err
    assert "froster_k400, training: unknown fields lerning_rate. Known are" in told
    assert told.endswith("Did you mean learning_rate?\n")


def test_a_folder_where_a_file_is_needed_is_said_before_the_model_is_loaded(tmp_path, capsys):
    assert main(["timeline", str(tmp_path), "--labels", "a", "--model", "/nowhere"]) == 1
    assert "is a folder; a timeline is of one video file." in capsys.readouterr().err
    assert main(["predict", "a.mp4", "--labels", "a,b", "--model", "small", "--output", str(tmp_path)]) == 1
    assert "Answers are written to .jsonl or .csv files" in capsys.readouterr().err
