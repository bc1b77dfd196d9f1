"""`froster convert`: every parity trio from its file to the stored logits, through the command line."""

import argparse
import inspect
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from froster_hf import FrosterForVideoClassification
from froster_hf.cli import main
from froster_hf.cli.verbs import convert as verb
from froster_hf.conversion import convert_checkpoint
from froster_hf.conversion.architecture import UNSHOWN, UnshownOptions
from froster_hf.conversion.layouts import LAYOUTS
from tests.conversion.hostile_files import malicious_pickle, scripted_archive
from tests.conversion.original_layouts import (
    PARITY,
    TRIOS,
    clip_state_dict,
    load_trio,
    vificlip_state_dict,
    with_prefix,
)


@pytest.mark.parity
@pytest.mark.parametrize("trio", TRIOS)
def test_a_trio_reproduces_its_logits_through_the_command_line(trio, tmp_path, capsys):
    options = ["--temporal-module", "none"] if trio == "frozen_none" else []
    source = PARITY / f"{trio}.pth"
    if trio != "expand_temporal_view":  # The process that opens pickles takes seconds to start; once is enough.
        source = tmp_path / f"{trio}.safetensors"
        save_file({f"model_state/{name}": tensor for name, tensor in load_trio(trio).items()}, source)
    code = main(["convert", str(source), str(tmp_path / "out"), "--num-frames", "4", *options])

    printed = capsys.readouterr().out
    assert code == 0
    assert "recognized  FROSTER or Open-VCLIP, section model_state" in printed
    assert "num_frames        4  [option]" in printed
    assert "unused      0 tensors" in printed
    stored = load_file(PARITY / f"{trio}.safetensors")
    model = FrosterForVideoClassification.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    input_ids = stored["input_ids"].transpose(0, 1).flatten(0, 1)  # (P, K, L) to (K*P, L)
    with torch.no_grad():
        logits = model(stored["pixel_values_videos"], input_ids=input_ids, num_prompts=2).logits
    torch.testing.assert_close(logits, stored["logits_eval"], atol=1e-5, rtol=0)


def test_there_in_a_process_of_its_own_and_back_gives_the_same_bits(tmp_path, capsys):
    froster = [sys.executable, "-c", "import sys; from froster_hf.cli import main; sys.exit(main())"]
    there = ["convert", PARITY / "aim.pth", tmp_path / "out", "--keep-projectors", "--json"]
    done = subprocess.run([*froster, *there], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layout"] == "froster"
    assert "Warning" not in done.stderr

    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "again.pth"), "--to", "froster"]) == 0
    assert "in the layout of FROSTER or Open-VCLIP" in capsys.readouterr().out
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model_state"]
    original = load_trio("aim")
    assert set(again) == set(original)
    assert all(torch.equal(again[name], tensor) for name, tensor in original.items())


def test_a_malicious_file_is_one_line_on_the_error_stream(tmp_path, capsys):
    marker = tmp_path / "marker"
    code = main(["convert", str(malicious_pickle(tmp_path / "evil.pth", marker)), str(tmp_path / "out")])
    assert code == 1
    assert "evil.pth is refused: its pickle calls for" in capsys.readouterr().err
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "froster", "--num-frames", "4"], "--num-frames: only without --to"),
        (["--to", "openai", "--keep-projectors"], "--keep-projectors: only without --to"),
        (["--teacher", "x"], "--teacher: only with --to"),
        (["--to", "froster", "--max-shard-size", "5GB"], "--max-shard-size: only without --to"),
        (["--to", "froster", "--hidden-act", "gelu"], "--hidden-act: only without --to"),
    ],
)
def test_options_without_effect_are_refused(options, message, tmp_path, capsys):
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), *options]) == 1
    assert message in capsys.readouterr().err


def test_every_option_of_the_function_is_one_of_the_verb():
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    options = {*inspect.signature(convert_checkpoint).parameters, *UnshownOptions.__annotations__}
    named = {action.dest for action in parser._actions} - {
        *verb.OF_BOTH_WAYS,
        *verb.OF_THE_WAY_BACK,
        "help",
        "allow_unused",
    }
    assert named == options - {"source", "output", "strict", "unshown"}
    assert set(UNSHOWN) == set(UnshownOptions.__annotations__)


def test_the_activation_goes_through_the_command_line(tmp_path, capsys):
    save_file(clip_state_dict(), tmp_path / "a.safetensors")
    command = ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "out")]
    assert main([*command, "--hidden-act", "gelu", "--layer-norm-eps", "1e-6", "--vision-heads", "2"]) == 0
    printed = capsys.readouterr().out
    assert "hidden_act        gelu  [option]" in printed
    assert "layer_norm_eps    1e-06  [option]" in printed
    assert "vision_heads      2  [option]" in printed
    assert "text_heads        1  [published default]" in printed


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("layout", ["openai", "actionclip", "vificlip", "transformers"])
def test_plain_clip_in_every_layout_reproduces_the_stored_logits(layout, tmp_path, capsys):
    prefixed = load_trio("frozen_none")
    clip = {name.removeprefix("model."): t for name, t in prefixed.items() if name.startswith("model.")}
    stored = load_file(PARITY / "frozen_none.safetensors")
    # ActionCLIP and ViFi-CLIP pool before they normalize; the stored logits are FROSTER's, which pool afterwards.
    options = ["--temporal-pooling", "mean"] if layout in ("actionclip", "vificlip") else []
    source = tmp_path / "source.safetensors"
    if layout == "openai":
        source = scripted_archive(clip, tmp_path / "ViT.pt")
    elif layout == "actionclip":
        save_file(with_prefix("model_state_dict/module.", clip), source)
        options += ["--layout", "actionclip"]
    elif layout == "vificlip":
        state = vificlip_state_dict(clip)
        state["prompt_learner.complete_text_embeddings"] = clip["token_embedding.weight"][stored["input_ids"][0]]
        save_file(with_prefix("model/module.", state), source)
        save_file(clip, tmp_path / "clip.safetensors")
        options += ["--token-embedding-from", str(tmp_path / "clip.safetensors")]
    else:
        state = with_prefix("raw_model.", {name: t.clone() for name, t in clip.items()}) | prefixed
        save_file(state, tmp_path / "teacher.safetensors")
        source = tmp_path / "clip"
        convert_checkpoint(tmp_path / "teacher.safetensors", tmp_path / "unused", teacher_output=source)

    assert main(["convert", str(source), str(tmp_path / "out"), *options]) == 0

    assert f"recognized  {LAYOUTS[layout].title}" in capsys.readouterr().out
    model = FrosterForVideoClassification.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    input_ids = stored["input_ids"].transpose(0, 1).flatten(0, 1)
    with torch.no_grad():
        logits = model(stored["pixel_values_videos"], input_ids=input_ids, num_prompts=2).logits
    torch.testing.assert_close(logits, stored["logits_eval"], atol=1e-5, rtol=0)
