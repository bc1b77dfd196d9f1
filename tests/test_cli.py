"""`froster` as a user has it: help at once, errors in words, the verbs found by themselves."""

import contextlib
import gc
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import froster_hf
from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli import QUESTIONS, build_parser, find_verbs, main
from froster_hf.cli.loading import without_garbage_collection
from froster_hf.cli.videos import find_videos
from froster_hf.data import AnnotationError
from froster_hf.shapes.tokenizer import moving_shapes_texts
from froster_hf.video.backends import BACKENDS
from tests.fixtures.pages import blocks_of, documents
from tests.fixtures.real_videos import REAL_VIDEOS

FROSTER = str(Path(sys.executable).parent / "froster")


# What stands behind them is labels.
LABEL_OPTIONS = ("--labels", "--label", "--against", "--background")
HEAVY = {"torch", "transformers", "numpy", "av", "PIL", "matplotlib", "datasets"}


def imported_by(*arguments: str, code: int = 0) -> tuple[set[str], str]:
    """The names of all modules that `froster` imports with these arguments, and what it prints."""
    command = [sys.executable, "-X", "importtime", FROSTER, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == code, finished.stderr[-3000:]
    timed = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    said = [line for line in finished.stderr.splitlines() if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in timed}
    assert "froster_hf" in imported
    return imported, finished.stdout + "\n".join(said)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--help"], "predict"),
        (["train", "--list"], "froster_k400"),
        (["evaluate", "--list"], "cross_dataset_k600"),
        (["study", "--list"], "short"),
        *(([verb, "--help"], "--traceback") for verb in ("predict", "train", "evaluate")),
    ],
    ids=" ".join,
)
def test_help_and_lists_import_nothing_heavy(arguments, printed):
    imported, said = imported_by(*arguments)
    assert not imported & HEAVY
    assert printed in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "clip.mp4", "--no-such-option"], 2, "unrecognized arguments"),
        (["train", "no_such_recipe"], 1, "There is no recipe 'no_such_recipe'"),
        (["train", "froster_k400", "epochs"], 1, "is not of the form field=value"),
        (["evaluate", "cross_dataset_k600", "--model", "model"], 1, "Missing: --root"),
        (["study", "no_such_plan"], 1, "There is no plan"),
    ],
)
def test_wrong_options_are_refused_before_anything_heavy_is_imported(arguments, code, message):
    imported, said = imported_by(*arguments, code=code)
    assert not imported & HEAVY
    assert message in said


@pytest.mark.slow
def test_an_answer_needs_nothing_of_training_and_evaluation():
    video = str(REAL_VIDEOS["bikes"])
    imported, _ = imported_by("predict", video, "--labels", "a,b", "--model", str(SMALL_FROSTER))
    assert not imported & {"datasets", "matplotlib", "pandas", "sklearn", "peft", "evaluate", "pyarrow"}
    parts = {name.split(".")[1] for name in imported if name.startswith("froster_hf.")}
    assert not parts & {"training", "evaluation", "data", "hub", "study"}


def examples_of_the_shipped_model() -> list[str]:
    """All commands in help texts and pages that name `small` as their model."""
    blocks = [block.code for page in documents() for block in blocks_of(page) if block.language == "bash"]
    texts = [QUESTIONS, build_parser().format_help(), *(verb.__doc__ for verb in find_verbs().values()), *blocks]
    lines = [line.strip() for text in texts for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("froster ") and "--model small" in line]


def test_examples_with_the_shipped_model_ask_for_what_it_knows():
    known = {word for text in moving_shapes_texts(0) for word in text.split()} | {"something"}
    examples, asked = examples_of_the_shipped_model(), []
    for example in examples:
        words = shlex.split(example, comments=True)
        options = [words[place + 1] for place, word in enumerate(words) if word in LABEL_OPTIONS]
        for label in (label for option in options for label in option.split(",")):
            asked.append(label)
            assert set(label.split()) <= known, example
    assert len(examples) > 10
    assert len(asked) > 10


@pytest.mark.parametrize("verb", find_verbs())
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"froster {verb} " in text.partition("example")[2]


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert froster_hf.__version__ in capsys.readouterr().out


def test_info_tries_every_decoder(capsys):
    assert main(["info", "--json"]) == 0
    import json

    information = json.loads(capsys.readouterr().out)
    assert information["decoders"]["pyav"] == "works"
    assert information["versions"]["froster-hf"] == froster_hf.__version__
    assert set(information["decoders"]) == set(BACKENDS)


def test_folders_patterns_and_names_become_videos(tmp_path):
    hidden = ("._b.mp4", ".trash/old.mp4", "__MACOSX/b.mp4")
    for name in ("b.mp4", "a.AVI", "below/c.webm", "notes.txt", "frames/1.png", *hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [str(Path(path).relative_to(tmp_path)) for path in find_videos([str(tmp_path)])]
    assert names == ["a.AVI", "b.mp4", "below/c.webm"]
    assert find_videos([str(tmp_path / "frames")]) == [str(tmp_path / "frames")]
    assert find_videos([str(tmp_path / "**" / "*.webm")]) == [str(tmp_path / "below" / "c.webm")]
    # what does not exist stands for itself, and is reported when it is read
    assert find_videos(["missing-*.mp4", "missing.mp4", "missing.mp4"]) == ["missing-*.mp4", "missing.mp4"]
    assert find_videos(["https://host/a?b=*"]) == ["https://host/a?b=*"]
    (tmp_path / "urls.txt").write_text("https://host/a.mp4\nb.mp4\n")
    assert find_videos([str(tmp_path / "urls.txt")]) == ["https://host/a.mp4", str(tmp_path / "b.mp4")]


def test_standard_input_is_an_argument_and_no_line_of_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("-\na.mp4\n")
    (tmp_path / "list.csv").write_text("video\n-\n")
    (tmp_path / "list.jsonl").write_text('{"video": "-"}')
    (tmp_path / "-").write_bytes(b"")
    assert find_videos(["list.txt"]) == ["./-", "a.mp4"]
    assert find_videos(["list.csv"]) == find_videos(["list.jsonl"]) == find_videos(["?"]) == ["./-"]
    assert find_videos(["list.txt", "-"]) == ["./-", "a.mp4", "-"]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("video\na.mp4\na.mp4, take 2.mp4\n", r"list\.csv, line 3: 2 fields, but the header names 1"),
        ("label;video\nrun;a.mp4;take 2.mp4\n", r"list\.csv, line 2: 3 fields, but the header names 2"),
        ("video,label,start\na.mp4, take 2.mp4\n", r"list\.csv, line 2: 2 fields, but the header names 3"),
        ('video\na.mp4\n"a.mp4, take 2.mp4"\n', ["a.mp4", "a.mp4, take 2.mp4"]),
        ("label,video,start\nrun,a.mp4,\nwalk,b c.mp4,1.5\n", ["a.mp4", "b c.mp4"]),
        ("video,label\na.mp4,run,,\n", ["a.mp4"]),
        ("video\tlabel\na, b.mp4\trun\nc.mp4\t\n", ["a, b.mp4", "c.mp4"]),
    ],
)
def test_a_line_of_a_table_with_other_fields_than_its_header_is_refused_and_not_cut(tmp_path, table, found):
    """Where the shorter path is there as well, a video would have no answer, and nothing would say so."""
    (tmp_path / "list.csv").write_text(table)
    if isinstance(found, list):
        assert find_videos([str(tmp_path / "list.csv")]) == [str(tmp_path / name) for name in found]
        return
    with pytest.raises(AnnotationError, match=found):
        find_videos([str(tmp_path / "list.csv")])


def test_a_path_that_none_can_have_is_refused_with_its_line(tmp_path):
    """Its answer would be a record that is longer than those that are gone on with."""
    (tmp_path / "list.txt").write_text(f"a.mp4\n{'x' * 20_000}\n")
    with pytest.raises(AnnotationError, match=r"list\.txt, line 2: the path of the video has 20,000 characters"):
        find_videos([str(tmp_path / "list.txt")])


def test_streams_that_a_service_has_closed_end_no_run(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["train", "--list"]) == 0
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_a_folder_without_videos_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_bytes(b"")
    (tmp_path / "list.txt").write_bytes(b"")
    assert main(["predict", str(tmp_path / "empty"), "--labels", "a,b", "--model", "small"]) == 1
    assert capsys.readouterr().err == (
        f"froster: error: There is no video in {tmp_path / 'empty'}. Give videos, folders of them, or folders of "
        "frames.\n"
    )
    with pytest.raises(ValueError, match=r"There is no video in .*list\.txt\."):
        find_videos([str(tmp_path / "list.txt")])
    # Beside others it is reported as what cannot be read.
    assert find_videos([str(tmp_path / "empty"), "a.mp4"]) == [str(tmp_path / "empty"), "a.mp4"]
    for verb in ("evaluate", "train"):
        assert main([verb, str(tmp_path / "empty"), "--model", "small"]) == 1
        error = capsys.readouterr().err
        assert "has no class folders with videos" in error
        assert error.count("\n") == 1


def test_the_shipped_checkpoint_is_a_name_for_verbs_about_weights_too(tmp_path, capsys):
    assert main(["interpolate", "small", "small", "--ratio", "0.25", "--output", str(tmp_path / "between")]) == 0
    assert (tmp_path / "between" / "model.safetensors").is_file()
    assert main(["convert", "small", str(tmp_path / "converted")]) == 1
    assert "is a checkpoint of this package already" in capsys.readouterr().err


def test_ratios_of_a_curve_without_its_protocol_are_refused(tmp_path, capsys):
    assert main(["interpolate", "small", "small", "--ratios", "0,1", "--output", str(tmp_path / "curve")]) == 1
    assert "give --protocol, too" in capsys.readouterr().err
    assert not (tmp_path / "curve").exists()


def test_garbage_collection_goes_on_after_loading_that_failed():
    with contextlib.suppress(OSError), without_garbage_collection():
        assert not gc.isenabled()
        raise OSError
    assert gc.isenabled()
