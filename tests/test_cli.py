"""`froster` as a user has it: help at once, errors in words, the verbs found by themselves."""

import contextlib
import gc
import subprocess
import sys
from pathlib import Path

import pytest

import froster_hf
from froster_hf.cli import find_verbs, main
from froster_hf.cli.loading import without_garbage_collection
from froster_hf.cli.videos import find_videos
from froster_hf.processing.video_backends_froster import BACKENDS

FROSTER = str(Path(sys.executable).parent / "froster")


def test_help_imports_nothing_heavy():
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", FROSTER, "--help"], check=True, capture_output=True, text=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in finished.stderr.splitlines()}
    assert "froster_hf" in imported
    assert not imported & {"torch", "transformers", "numpy", "av", "PIL", "matplotlib", "datasets"}
    assert "predict" in finished.stdout


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


def test_garbage_collection_goes_on_after_loading_that_failed():
    with contextlib.suppress(OSError), without_garbage_collection():
        assert not gc.isenabled()
        raise OSError
    assert gc.isenabled()
