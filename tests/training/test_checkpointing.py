"""Checkpoints are whole or absent, damage is seen, and a resume takes nothing on trust."""

import json
import logging
import os
import re
import resource
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainerControl

from froster_hf.training import whole_folders
from froster_hf.training.checkpointing import (
    STATE_NUMBERS,
    ResumeError,
    RunExistsError,
    list_checkpoints,
    newest_sound_checkpoint,
)
from froster_hf.training.stored_states import check_scaler
from froster_hf.training.whole_folders import (
    DamagedFolderError,
    check_sound,
    is_sound,
    prepare_incomplete,
    publish,
    remove,
    replaced_folder,
    seal,
)
from tests.fixtures.pickles import Calls
from tests.training.tiny import tiny_trainer

TOKEN = "hf_thisIsASecretThatNoFileMayHold"
STATE_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


class Killed(BaseException):
    """In place of SIGKILL: nothing catches it but the test."""


def seal_again(checkpoint):
    """As if a checkpoint had been written as it is now."""
    (checkpoint / "manifest.json").unlink()
    seal(checkpoint)


def write_new(folder: Path, content: str) -> None:
    incomplete = prepare_incomplete(folder)
    (incomplete / "inner").mkdir()
    (incomplete / "weights").write_text(content)
    (incomplete / "inner" / "state").write_text(content)
    seal(incomplete)
    publish(incomplete, folder)


def kill_at(monkeypatch, moment: int) -> None:
    """Raise `Killed` in place of the `moment`-th operation on the file system, and of all that follow."""
    count = 0

    def counted(operation):
        def replacement(*args, **kwargs):
            nonlocal count
            count += 1
            if count >= moment:
                raise Killed
            return operation(*args, **kwargs)

        return replacement

    for owner, name in [(os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text"), (shutil, "rmtree")]:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("old", [None, "old"])
def test_a_folder_is_whole_or_absent_wherever_the_write_is_killed(tmp_path, monkeypatch, old):
    for moment in range(1, 40):
        folder = tmp_path / str(moment) / "checkpoint-2"
        if old:
            write_new(folder, old)
        with monkeypatch.context() as patched:
            kill_at(patched, moment)
            try:
                write_new(folder, "new")
            except Killed:
                finished = False
            else:
                finished = True
        if folder.exists():
            check_sound(folder)
            assert (folder / "weights").read_text() == (folder / "inner" / "state").read_text()
        if finished:
            assert (folder / "weights").read_text() == "new"
            break
        write_new(folder, "next")  # what is left behind does not stand in the way
        check_sound(folder)
        assert [path.name for path in folder.parent.iterdir()] == ["checkpoint-2"]
    assert finished
    assert moment > 8


def test_a_folder_is_whole_or_absent_wherever_its_removal_is_killed(tmp_path, monkeypatch):
    for moment in range(1, 10):
        folder = tmp_path / str(moment) / "checkpoint-2"
        write_new(folder, "old")
        with monkeypatch.context() as patched:
            kill_at(patched, moment)
            try:
                remove(folder)
            except Killed:
                assert not folder.exists() or is_sound(folder)
            else:
                assert not folder.exists()
                assert not any(folder.parent.iterdir())
                return
    pytest.fail("the removal never ended")


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    def write_half():
        with replaced_folder(tmp_path / "result") as folder:
            (folder / "weights").write_text("half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert not any(tmp_path.iterdir())


def test_all_files_and_folders_are_flushed_before_the_rename(tmp_path, monkeypatch):
    flushed, renamed = [], []
    monkeypatch.setattr(whole_folders, "_flush", lambda path: flushed.append(path.name))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: renamed.append(list(flushed)) or rename(path, to))
    write_new(tmp_path / "checkpoint-2", "new")
    assert set(renamed[0]) == {"weights", "state", "manifest.json", "inner", "checkpoint-2"}
    assert flushed[-1] == tmp_path.name


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A run with checkpoints at steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("run")
    tiny_trainer(folder, max_steps=6, save_strategy="steps", save_steps=2, hub_token=TOKEN).train()
    return folder


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "run")


def test_the_trainers_checkpoints_are_sound_and_nothing_else_is_left(finished_run):
    assert list(list_checkpoints(finished_run)) == [6, 4, 2]
    for folder in list_checkpoints(finished_run).values():
        check_sound(folder)
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        assert set(STATE_FILES) < set(listed)
    assert sorted(path.name for path in finished_run.iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "one bit": flip_one_bit,
    "half the file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "an empty file": lambda path: path.write_bytes(b""),
    "no file": Path.unlink,
}


@pytest.mark.parametrize("name", STATE_FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_is_recognized_and_the_file_named(run, name, damage):
    DAMAGES[damage](run / "checkpoint-6" / name)
    with pytest.raises(DamagedFolderError, match=f"checkpoint-6 is damaged.*{name}"):
        check_sound(run / "checkpoint-6")


@pytest.mark.parametrize(
    "manifest",
    [None, "", "{", "[]", '{"files": []}', '{"files": {}}', '{"files": {"../x": {"size": 1, "sha256": ""}}}'],
)
def test_a_torn_or_strange_manifest_is_damage(run, manifest):
    path = run / "checkpoint-6" / "manifest.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    with pytest.raises(DamagedFolderError, match=r"checkpoint-6.*manifest\.json"):
        check_sound(run / "checkpoint-6")


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "a" * 5000, "nul\0", "line\nbreak"])
def test_names_in_a_manifest_that_no_file_has_are_damage_in_one_printable_line(run, name):
    """The checkpoint is passed over with a warning, which a terminal shows."""
    path = run / "checkpoint-6" / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"files": {name: {"size": 1, "sha256": ""}, **content["files"]}}))
    with pytest.raises(DamagedFolderError, match=r"checkpoint-6 is damaged: .* is missing") as raised:
        check_sound(run / "checkpoint-6")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1500
    assert newest_sound_checkpoint(run) != str(run / "checkpoint-6")


@pytest.mark.parametrize("name", ["scaler.pt", "optimizer_1.pt", "inner/more.json"])
def test_a_file_that_the_manifest_does_not_list_is_damage(run, name):
    path = run / "checkpoint-6" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(DamagedFolderError, match=rf"checkpoint-6 is damaged: {name} is not in its manifest\.json"):
        check_sound(run / "checkpoint-6")


@pytest.mark.parametrize("name", ["config.json", "optimizer.pt", "manifest.json", "inner"])
def test_a_link_in_a_checkpoint_is_damage_whatever_it_leads_to(run, tmp_path, name):
    path, elsewhere = run / "checkpoint-6" / name, tmp_path / "elsewhere"
    path.rename(elsewhere) if path.exists() else elsewhere.mkdir()
    path.symlink_to(elsewhere)
    with pytest.raises(DamagedFolderError, match=rf"checkpoint-6 is damaged: {name} is a link"):
        check_sound(run / "checkpoint-6")
    assert newest_sound_checkpoint(run) == str(run / "checkpoint-4")


def test_hidden_files_do_not_count(run):
    (run / "checkpoint-6" / ".DS_Store").write_bytes(b"")
    (run / "checkpoint-6" / ".cache").mkdir()
    (run / "checkpoint-6" / ".cache" / "note").write_bytes(b"")
    check_sound(run / "checkpoint-6")


def test_a_scaler_of_half_precision_ends_no_resume_in_single_precision_without_a_word(run):
    checkpoint = run / "checkpoint-6"
    torch.save({}, checkpoint / "scaler.pt")
    seal_again(checkpoint)
    with pytest.raises(ResumeError, match=r"scaler\.pt.*half precision"):
        resumed(run)


def test_the_newest_sound_checkpoint_is_taken_and_damaged_ones_are_named(run, caplog):
    flip_one_bit(run / "checkpoint-6" / "optimizer.pt")
    (run / "checkpoint-4" / "manifest.json").unlink()
    (run / "checkpoint-10").mkdir()
    with caplog.at_level(logging.WARNING):
        assert newest_sound_checkpoint(run) == str(run / "checkpoint-2")
    for number, file in ((10, "manifest.json"), (6, "optimizer.pt"), (4, "manifest.json")):
        assert any(f"checkpoint-{number}" in text and file in text for text in caplog.messages)


def resumed(run: Path, resume=True, **fields):
    fields = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, **fields}
    trainer = tiny_trainer(run, **fields)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_run_resumed_past_a_damaged_checkpoint_ends_as_the_first_did(run):
    expected = json.loads((run / "checkpoint-6" / "manifest.json").read_text())["files"]
    flip_one_bit(run / "checkpoint-6" / "model.safetensors")
    resumed(run)
    check_sound(run / "checkpoint-6")
    files = json.loads((run / "checkpoint-6" / "manifest.json").read_text())["files"]
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert files[name] == expected[name], name


def test_a_configuration_in_a_checkpoint_is_not_read(run):
    """The Trainer makes entries of all labels that it claims, and prints its version as it is."""
    forged = {"num_labels": 10**9, "transformers_version": "\x1b[31m"}
    (run / "checkpoint-4" / "config.json").write_text(json.dumps(forged))
    seal_again(run / "checkpoint-4")
    resumed(run, str(run / "checkpoint-4"))


def write_fields(file: Path, **fields) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def alter(file: Path, change) -> None:
    state = torch.load(file, weights_only=False)
    change(state)
    torch.save(state, file)


def moments(**fields):
    """Change what an optimizer keeps of its first parameter."""
    return lambda state: next(iter(state["state"].values())).update(fields)


def group(**fields):
    return lambda state: state["param_groups"][0].update(fields)


def many_lists():
    """A list of lists of lists..., of 2**40 in all, in a few bytes."""
    value = [1.0]
    for _ in range(40):
        value = [value, value]
    return value


def deflate(file: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(members)).partition("/")[0]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, b"" if name.endswith("data/0") else content)
        with archive.open(f"{root}/data/more", "w") as member:
            for _ in range(64):
                member.write(bytes(1 << 24))


def lead_out(file: Path) -> None:
    """An index of shards that names a file beside the checkpoint."""
    outside = file.parents[1] / "outside.safetensors"
    os.replace(file, outside)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(outside), "../outside.safetensors")}
    (file.parent / "model.safetensors.index.json").write_text(json.dumps(index))


def poison(file: Path) -> None:
    weights = load_file(file)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})


def pickle_weights(file: Path) -> None:
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()


OPTIMIZER_FORGERIES = {
    "steps that were not counted": moments(step=torch.tensor(0.0)),
    "moments of another shape": moments(exp_avg=torch.zeros(1), exp_avg_sq=torch.zeros(1)),
    "moments that are a scalar": moments(exp_avg=torch.zeros(())),
    "one number as a billion": moments(exp_avg=torch.zeros(1).expand(3 * 10**9)),
    "one small number as a billion": moments(exp_avg=torch.zeros(1, dtype=torch.float16).expand(3 * 10**9)),
    "moments that are lists of lists": moments(exp_avg=many_lists()),
    "steps that are lists of lists": moments(step=many_lists()),
    "moments that are not numbers": lambda state: next(iter(state["state"].values()))["exp_avg"].fill_(torch.nan),
    "negative squares": lambda state: next(iter(state["state"].values()))["exp_avg_sq"].fill_(-1),
    "steps of the future": moments(step=torch.tensor(1e9)),
    "moments under another name": moments(more=torch.zeros(1)),
    "a state of no parameter": lambda state: state["state"].update({10**6: {"step": torch.tensor(1.0)}}),
    "no state at all": lambda state: state["state"].clear(),
    "a group that climbs": group(maximize=True),
    "another learning rate": group(lr=1e30),
    "a learning rate that is no number": group(lr=float("nan")),
    "another weight decay": group(weight_decay=-1e9),
    "a weight decay that is no number": group(weight_decay=float("nan")),
    "betas of another type": group(betas="0.9"),
    "betas that are lists of lists": group(betas=many_lists()),
    "a group without betas": lambda state: state["param_groups"][0].pop("betas"),
    "parameters in another order": lambda state: state["param_groups"][0]["params"].reverse(),
}
SCHEDULER_FORGERIES = {
    "base rates of another run": lambda state: state.update(base_lrs=[1e30] * len(state["base_lrs"])),
    "no base rates": lambda state: state.update(base_lrs=[]),
    "a method of the scheduler": lambda state: state.update(step=5, optimizer=None),
    "a schedule far on": lambda state: state.update(last_epoch=10**15),
    "a schedule that is no number": lambda state: state.update(last_epoch=float("nan")),
    "last rates that are lists of lists": lambda state: state.update(_last_lr=many_lists()),
}
RANDOM_FORGERIES = {
    "a position behind numpy's words": lambda state: state.update(numpy=(*state["numpy"][:2], 10**9, 0, 0.0)),
    "too few of numpy's words": lambda state: state.update(
        numpy=("MT19937", np.zeros(3, dtype=np.uint32), *state["numpy"][2:])
    ),
    "python's words as a text": lambda state: state.update(python=(3, "words", None)),
    "a position behind torch's words": lambda state: (
        state["cpu"][8:24].view(torch.int32).copy_(torch.tensor([624, 1, 624, 0]))
    ),
    "no words left, and never more": lambda state: state["cpu"][8:12].zero_(),
    "torch's words as numbers": lambda state: state.update(cpu=torch.zeros(5056)),
}
CONTROL = {"args": dict.fromkeys(vars(TrainerControl()), False), "attributes": {}}
CALLBACK_FORGERIES = {
    "a number": 5,
    "a list": [CONTROL],
    "null": None,
    "none of the Trainer's own": {},
    "a text": {"TrainerControl": "stop"},
    "other arguments": {"TrainerControl": {"args": {"evil": 1}, "attributes": {}}},
    "other attributes": {"TrainerControl": {**CONTROL, "attributes": {"_new_step": 1}}},
    "a number for a switch": {"TrainerControl": {**CONTROL, "args": {**CONTROL["args"], "should_save": 1}}},
    "one of several": {"TrainerControl": [CONTROL, 5]},
}
FORGERIES = {
    **{
        f"optimizer: {name}": ("optimizer.pt", lambda file, change=change: alter(file, change))
        for name, change in OPTIMIZER_FORGERIES.items()
    },
    **{
        f"scheduler: {name}": ("scheduler.pt", lambda file, change=change: alter(file, change))
        for name, change in SCHEDULER_FORGERIES.items()
    },
    **{
        f"random state: {name}": ("rng_state.pth", lambda file, change=change: alter(file, change))
        for name, change in RANDOM_FORGERIES.items()
    },
    "an optimizer that is a compressed gigabyte": ("optimizer.pt", deflate),
    "weights that are not numbers": ("model.safetensors", poison),
    "weights outside of the folder": ("model.safetensors", lead_out),
    "weights in a pickle": ("model.safetensors", pickle_weights),
    "a history of no steps": ("trainer_state.json", lambda file: write_fields(file, log_history=[1, "x"])),
    "a state nested deeply": ("trainer_state.json", lambda file: file.write_text("[" * 100_000)),
    "a history nested deeply": (
        "trainer_state.json",
        lambda file: write_fields(file, log_history=[{"step": 1, "x": [[[[[[[]]]]]]]}]),
    ),
    "a history of millions of values": (
        "trainer_state.json",
        lambda file: file.write_text('{"log_history": [{"step": 1, "x": [' + "[]," * 6_000_000 + "[]]}]}"),
    ),
    "an identity of millions of values": (
        "run_identity.json",
        lambda file: file.write_text('{"x": [' + "[]," * 6_000_000 + "[]]}"),
    ),
    "a state that is a list": ("trainer_state.json", lambda file: file.write_text("[]")),
    "a step that is no number": ("trainer_state.json", lambda file: file.write_text('{"global_step": NaN}')),
    "a step far beyond the run's end": (
        "trainer_state.json",
        lambda file: write_fields(file, global_step=10**400),
    ),
    "steps between logs that are text": ("trainer_state.json", lambda file: write_fields(file, logging_steps="2")),
    **{
        f"no number as {name}": ("trainer_state.json", lambda file, name=name: write_fields(file, **{name: None}))
        for name in STATE_NUMBERS
        if not name.startswith("best_")
    },
    "a metric that is text": ("trainer_state.json", lambda file: write_fields(file, best_metric="best")),
    "a history that is a number": ("trainer_state.json", lambda file: write_fields(file, log_history=3)),
    "a best checkpoint elsewhere": (
        "trainer_state.json",
        lambda file: write_fields(file, best_model_checkpoint="/tmp/best"),
    ),
    "a best checkpoint that is a list": (
        "trainer_state.json",
        lambda file: write_fields(file, best_model_checkpoint=["checkpoint-2"]),
    ),
    **{
        f"states of callbacks: {name}": (
            "trainer_state.json",
            lambda file, states=states: write_fields(file, stateful_callbacks=states),
        )
        for name, states in CALLBACK_FORGERIES.items()
    },
    "an identity nested deeply": ("run_identity.json", lambda file: file.write_text("[" * 100_000)),
    "an optimizer of nothing": ("optimizer.pt", lambda file: torch.save({}, file)),
    "a random state that is a list": ("rng_state.pth", lambda file: torch.save([], file)),
    **{
        f"{name} that calls a function": (name, lambda file: torch.save(Calls(os.mkdir, "called"), file))
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    },
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_checkpoint_with_a_manifest_to_match_is_an_error_that_names_it(run, forgery, monkeypatch):
    """Who alters a file can write the manifest again; nothing is called, and nobody is told to open it anyway."""
    monkeypatch.chdir(run.parent)
    name, forge = FORGERIES[forgery]
    forge(run / "checkpoint-4" / name)
    seal_again(run / "checkpoint-4")
    with pytest.raises(ResumeError, match="checkpoint-4 cannot be resumed") as raised:
        resumed(run, str(run / "checkpoint-4"))
    assert "weights_only" not in str(raised.value)
    assert not Path("called").exists()


def test_a_schedule_that_begins_again_is_an_error(run):
    """With an optimizer whose rates are those of its first step, and that seems to have done none."""
    scheduler = resumed(run).lr_scheduler
    rates = [base * factor(0) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas)]

    def begin(optimizer):
        optimizer["state"].clear()
        for of_group, rate in zip(optimizer["param_groups"], rates):
            of_group["lr"] = rate

    alter(run / "checkpoint-4" / "optimizer.pt", begin)
    alter(run / "checkpoint-4" / "scheduler.pt", lambda state: state.update(last_epoch=0, _last_lr=rates))
    seal_again(run / "checkpoint-4")
    with pytest.raises(
        ResumeError, match=r"`last_epoch` of scheduler\.pt is 0, after 4 steps, of which 0 were skipped"
    ):
        resumed(run, str(run / "checkpoint-4"))


@pytest.mark.parametrize("lost", [None, "state", "step"])
def test_parameters_whose_moments_are_not_of_every_step_are_named_in_a_warning(run, lost, caplog):
    def take_away(state):
        if lost == "state":
            del state["state"][0]
        elif lost == "step":
            state["state"][0]["step"] -= 1

    alter(run / "checkpoint-4" / "optimizer.pt", take_away)
    seal_again(run / "checkpoint-4")
    with caplog.at_level(logging.WARNING):
        trainer = resumed(run, str(run / "checkpoint-4"))
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    first = names[id(trainer.optimizer.param_groups[0]["params"][0])]
    warned = [text for text in caplog.messages if "moments of fewer steps than were done, or none" in text]
    assert len(warned) == (lost is not None)
    assert all(re.search(rf"checkpoint-4 .* for 1 of \d+ parameters \({re.escape(first)}\)", text) for text in warned)


@pytest.mark.parametrize("states", CALLBACK_FORGERIES.values(), ids=CALLBACK_FORGERIES)
def test_forged_states_of_callbacks_are_named(run, states):
    write_fields(run / "checkpoint-4" / "trainer_state.json", stateful_callbacks=states)
    seal_again(run / "checkpoint-4")
    with pytest.raises(ResumeError, match=r"`stateful_callbacks` of trainer_state\.json") as raised:
        resumed(run, str(run / "checkpoint-4"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batch", [5, 10**12, 1.5])
def test_a_batch_that_was_not_found_is_refused_before_a_clip_is_read(run, batch):
    """The Trainer goes on with the checkpoint's own, of any size."""
    write_fields(run / "checkpoint-4" / "trainer_state.json", train_batch_size=batch)
    seal_again(run / "checkpoint-4")
    with pytest.raises(
        ResumeError, match=r"checkpoint-4 cannot be resumed .*`train_batch_size` of trainer_state\.json"
    ):
        resumed(run, str(run / "checkpoint-4"), auto_find_batch_size=True)


def test_a_batch_that_was_found_is_gone_on_with(run):
    write_fields(run / "checkpoint-4" / "trainer_state.json", train_batch_size=3)
    write_fields(run / "checkpoint-4" / "run_identity.json", arguments={"auto_find_batch_size": True})
    seal_again(run / "checkpoint-4")
    assert resumed(run, str(run / "checkpoint-4"), auto_find_batch_size=True).state.train_batch_size == 3


def test_a_checkpoint_beyond_the_end_of_the_run_is_an_error_and_not_a_finished_run(run):
    write_fields(run / "checkpoint-4" / "trainer_state.json", global_step=7)
    seal_again(run / "checkpoint-4")
    with pytest.raises(ResumeError, match="at step 7, but this run has 6 steps"):
        resumed(run, str(run / "checkpoint-4"))


@pytest.mark.parametrize("step", [3, 6])
def test_a_checkpoint_of_another_step_than_its_name_says_is_an_error_and_not_a_finished_run(run, step):
    write_fields(run / "checkpoint-4" / "trainer_state.json", global_step=step)
    seal_again(run / "checkpoint-4")
    with pytest.raises(ResumeError, match=f"checkpoint-4 cannot be resumed .*`global_step` .* is {step}, and not 4"):
        resumed(run, str(run / "checkpoint-4"))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([], "cannot be resumed"),
        ({}, "cannot be resumed"),
        ({"scale": float("nan")}, "`scale` of scaler.pt is nan"),
        ({"scale": 0.0}, "`scale` of scaler.pt is 0.0"),
        ({"growth_factor": "2"}, "`growth_factor` of scaler.pt is '2'"),
        ({"growth_interval": 2000.0}, "`growth_interval` of scaler.pt is 2000.0"),
        (
            {"scale": 2.0**11},
            "`scale` of scaler.pt is 2048.0; 4 steps from this run's first scale, 65536, leave it between 4096",
        ),
        ({"scale": 2.0**17}, "`scale` of scaler.pt is 131072.0; 4 steps"),
        ({"scale": 1e-300}, "`scale` of scaler.pt is 1e-300; 4 steps"),
        ({"_growth_tracker": 2**40}, "`_growth_tracker` of scaler.pt is 1099511627776"),
        ({"_growth_tracker": 2000}, "`_growth_tracker` of scaler.pt is 2000"),
        ({"_growth_tracker": 1999.5}, "`_growth_tracker` of scaler.pt is 1999.5"),
    ],
)
def test_a_forged_scaler_is_an_error_that_names_it(run, state, expected, monkeypatch):
    """Half precision needs a GPU for a training, but not for reading the scaler's state."""
    trainer = tiny_trainer(run)
    scaler = torch.amp.GradScaler("cpu")
    if state:
        state = {**scaler.state_dict(), **state}
    torch.save(state, run / "checkpoint-4" / "scaler.pt")
    monkeypatch.setattr(trainer.accelerator, "scaler", scaler)
    with pytest.raises(ResumeError, match=r"checkpoint-4 cannot be resumed") as raised:
        trainer._load_scaler(str(run / "checkpoint-4"))
    assert expected in str(raised.value)


def test_a_scale_that_steps_lead_to_is_taken_up_and_one_at_which_gradients_are_0_is_not():
    first_scale = 2.0**16
    scaler, weight = torch.amp.GradScaler("cpu", growth_interval=3), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for step in range(1, 60):
        scaler.scale(weight.sum() * (1 if step < 8 else float("inf"))).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if scaler.get_scale() >= 2**-24:
            check_scaler(scaler.state_dict(), scaler.state_dict(), first_scale=first_scale, num_steps=step)
    with pytest.raises(ValueError, match="where gradients do not become 0"):
        check_scaler(scaler.state_dict(), scaler.state_dict(), first_scale=first_scale, num_steps=step)
    check_scaler({}, {}, first_scale=first_scale, num_steps=4)


def test_a_named_damaged_checkpoint_is_an_error(run):
    flip_one_bit(run / "checkpoint-4" / "model.safetensors")
    with pytest.raises(DamagedFolderError, match=r"checkpoint-4 is damaged.*model\.safetensors"):
        resumed(run, str(run / "checkpoint-4"))


def test_without_any_sound_checkpoint_nothing_is_resumed(run):
    for folder in list_checkpoints(run).values():
        flip_one_bit(folder / "scheduler.pt")
    with pytest.raises(ResumeError, match=r"no sound checkpoint.*checkpoint-6.*scheduler\.pt.*checkpoint-2"):
        resumed(run)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_checkpoint_without_a_state_is_an_error_not_a_silent_start(run, name):
    checkpoint = run / "checkpoint-6"
    (checkpoint / name).unlink()
    seal_again(checkpoint)
    with pytest.raises(ResumeError, match=rf"checkpoint-6 has no {name}"):
        resumed(run)


def test_weights_of_another_model_are_an_error(run):
    checkpoint = run / "checkpoint-6"
    weights = load_file(checkpoint / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "distillation_projectors" not in name}
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
    seal_again(checkpoint)
    with pytest.raises(ResumeError, match="distillation_projectors"):
        resumed(run)


def test_no_file_holds_the_token(finished_run):
    trainer = tiny_trainer(finished_run, hub_token=TOKEN)
    assert trainer.args.hub_token == TOKEN
    for path in finished_run.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    stored = torch.load(finished_run / "checkpoint-6" / "training_args.bin", weights_only=False)
    assert stored.hub_token is None
    assert stored.max_steps == 6


def test_rotation_keeps_the_newest(tmp_path):
    tiny_trainer(tmp_path, max_steps=5, save_strategy="steps", save_steps=1, save_total_limit=2).train()
    assert list(list_checkpoints(tmp_path)) == [5, 4]
    assert not (tmp_path / "_incomplete").exists()


def test_rotation_drops_damaged_checkpoints_before_sound_ones(run):
    # As if a longer run had left it: the newest of all.
    (run / "checkpoint-6").rename(run / "checkpoint-9")
    (run / "checkpoint-9" / "model.safetensors").unlink()
    resumed(run, save_total_limit=2)
    assert list(list_checkpoints(run)) == [6, 4]


def choosing_trainer(folder: Path, **fields):
    """A training that ends with the best of its models."""
    return tiny_trainer(
        folder,
        eval_dataset=tiny_trainer(folder).train_dataset,
        **{
            "max_steps": 4,
            "save_strategy": "steps",
            "save_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "load_best_model_at_end": True,
            "metric_for_best_model": "loss",
            **fields,
        },
    )


@pytest.mark.parametrize(
    "forged",
    [
        lambda best: {"best_metric": -1e30},
        lambda best: {"best_global_step": 3},
        lambda best: {"best_model_checkpoint": f"checkpoint-{6 - best}"},
        lambda best: {"best_model_checkpoint": f"checkpoint-{6 - best}", "best_metric": None},
        lambda best: {"best_model_checkpoint": f"checkpoint-{6 - best}", "best_global_step": float(best)},
    ],
    ids=["metric", "step", "checkpoint", "checkpoint without a metric", "checkpoint at no whole step"],
)
def test_a_best_model_that_no_evaluation_has_found_is_refused(tmp_path, forged):
    """It would be the run's result, whatever comes after."""
    choosing_trainer(tmp_path).train()
    state = tmp_path / "checkpoint-4" / "trainer_state.json"
    fields = forged(json.loads(state.read_text())["best_global_step"])
    if "best_model_checkpoint" in fields:
        fields["best_model_checkpoint"] = str(tmp_path / fields["best_model_checkpoint"])
    write_fields(state, **fields)
    seal_again(state.parent)
    with pytest.raises(ResumeError, match=r"`best_\w+` of trainer_state\.json is "):
        choosing_trainer(tmp_path).train(resume_from_checkpoint=True)


def written_elsewhere(folder: Path, weights: dict) -> Path:
    path = folder.parent / "elsewhere" / "other.safetensors"
    path.parent.mkdir()
    save_file(weights, path)
    return path


def link_weights(folder: Path, weights: dict) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(written_elsewhere(folder, weights))


def index_weights(folder: Path, weights: dict) -> None:
    (folder / "model.safetensors").unlink()
    written_elsewhere(folder, weights)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "../elsewhere/other.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickle_weights(folder: Path, weights: dict) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (link_weights, "model.safetensors"),
        (index_weights, "elsewhere"),
        (pickle_weights, "its weights are in pytorch_model.bin"),
        (lambda folder, weights: (folder / "model.safetensors").write_bytes(b"\xff" * 100), "header too large"),
        (
            lambda folder, weights: save_file(
                weights | {"froster.logit_scale": torch.tensor(float("nan"))}, folder / "model.safetensors"
            ),
            "logit_scale",
        ),
    ],
    ids=["link", "index", "pickle", "junk", "not a number"],
)
def test_the_best_model_is_read_as_the_one_that_is_gone_on_from_and_before_the_steps(tmp_path, alter, reason):
    """Whoever writes a run's folder writes its manifests, too."""
    run = tmp_path / "run"
    choosing_trainer(run).train()
    best = Path(json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())["best_model_checkpoint"])
    kept = load_file(best / "model.safetensors")
    if best.name == "checkpoint-4":
        shutil.copytree(best, run / "checkpoint-5")
        write_fields(run / "checkpoint-5" / "trainer_state.json", global_step=5)
        seal_again(run / "checkpoint-5")
    alter(best, kept)
    seal_again(best)
    trainer = choosing_trainer(run, max_steps=8)
    newest = max(list_checkpoints(run))
    with pytest.raises(ValueError, match=reason) as refused:
        trainer.train(resume_from_checkpoint=str(run / f"checkpoint-{newest}"))
    assert f"{best} is the best of the run" in str(refused.value)
    assert "weights_only" not in str(refused.value)
    assert trainer.state.global_step == 0, "nothing was trained"
    trainer.state.best_model_checkpoint = str(best)
    with pytest.raises(ValueError, match=reason):
        trainer._load_best_model()


def test_damage_beside_the_weights_of_the_best_model_is_found_before_the_steps(tmp_path):
    choosing_trainer(tmp_path).train()
    best = Path(json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())["best_model_checkpoint"])
    last = shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "checkpoint-5")
    write_fields(last / "trainer_state.json", global_step=5)
    seal_again(last)
    (best / "rng_state.pth").unlink()
    trainer = choosing_trainer(tmp_path, max_steps=8)
    with pytest.raises(ResumeError, match=r"is the best of the run.*rng_state\.pth is missing.*Resume without"):
        trainer.train(resume_from_checkpoint=str(last))
    assert trainer.state.global_step == 0, "nothing was trained"


def test_a_history_with_losses_that_are_no_numbers_and_tables_of_metrics_is_gone_on_with(run):
    file = run / "checkpoint-4" / "trainer_state.json"
    history = [{"step": 4, "loss": float("nan"), "grad_norm": float("inf"), "eval_confusion": [[1, 0], [0, 1]]}]
    write_fields(file, log_history=history)
    seal_again(file.parent)
    told = resumed(run, str(file.parent)).state.log_history[0]
    assert str(told["loss"]) == "nan"
    assert told["eval_confusion"] == [[1, 0], [0, 1]]


def test_a_manifest_of_megabytes_is_damage(run):
    file = run / "checkpoint-4" / "manifest.json"
    file.write_text(file.read_text() + " " * (5 << 20))
    with pytest.raises(DamagedFolderError, match=r"manifest\.json cannot be read \(.* has more than 4194304 bytes"):
        check_sound(file.parent, hashes=False)


@pytest.mark.parametrize("move", [os.rename, shutil.copytree], ids=["moved", "copied"])
def test_the_best_checkpoint_of_a_moved_run_is_that_in_its_own_folder(tmp_path, move):
    """The state has the path that it was written to, where something else may be by now."""
    old, new = tmp_path / "old", tmp_path / "new"
    fields = {"learning_rate": 0.0, "max_steps": 6}  # no later model is better
    choosing_trainer(old, **fields).train()
    assert json.loads((old / "checkpoint-4" / "trainer_state.json").read_text())["best_global_step"] == 2
    move(old, new)
    trainer = choosing_trainer(new, **fields)
    trainer.train(resume_from_checkpoint=str(new / "checkpoint-4"))
    assert trainer.state.best_model_checkpoint == str(new / "checkpoint-2")
    shutil.rmtree(new / "checkpoint-2")
    trainer = choosing_trainer(new, **fields)
    trainer.train(resume_from_checkpoint=str(new / "checkpoint-4"))
    # What was lost was the best of all; what is loaded is the best that was saved since.
    assert trainer.state.best_model_checkpoint == str(new / "checkpoint-6")


def test_a_best_step_without_a_checkpoint_is_gone_on_with(tmp_path):
    fields = {"eval_steps": 1, "max_steps": 6, "save_steps": 3}
    choosing_trainer(tmp_path, **fields).train()
    shutil.rmtree(tmp_path / "checkpoint-6")
    trainer = choosing_trainer(tmp_path, **fields)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6


def test_when_to_save_evaluate_and_log_is_said_by_the_run_and_not_by_its_checkpoint(tmp_path):
    choosing_trainer(tmp_path).train()
    shutil.rmtree(tmp_path / "checkpoint-4")
    state = tmp_path / "checkpoint-2" / "trainer_state.json"
    write_fields(state, save_steps=10**9, eval_steps=10**9, logging_steps=0)
    seal_again(state.parent)
    trainer = choosing_trainer(tmp_path)
    trainer.train(resume_from_checkpoint=True)
    assert list(list_checkpoints(tmp_path)) == [4, 2]
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [2, 4]


def test_the_best_checkpoint_is_named_by_its_place_and_loaded(tmp_path):
    trainer = choosing_trainer(tmp_path)
    trainer.train()
    best = tmp_path / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)
    check_sound(best)


def test_a_full_disk_leaves_the_earlier_checkpoints_and_no_torn_one(tmp_path, monkeypatch):
    trainer = tiny_trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
    save = torch.save

    def fail(item, path, *args, **kwargs):
        if "checkpoint-4" in str(path) and "optimizer" in str(path):
            raise OSError(28, "No space left on device")
        save(item, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"checkpoint-4 cannot be written \(No space left"):
        trainer.train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    check_sound(tmp_path / "checkpoint-2")


def resume_with_small_files(folder: Path, size: int) -> int:
    """Go on in a process whose files cannot grow beyond a size, as on a full disk; 7 where that was an error."""
    if (process := os.fork()) == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            resumed(folder)
            code = 0
        except OSError as error:
            code = 7 if re.search(r"(checkpoint-6|/tmp\w+) cannot be written", str(error)) else 8
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize("size", [100, 10_000])
def test_after_a_full_disk_a_run_goes_on_and_ends_as_the_first_did(run, size):
    expected = json.loads((run / "checkpoint-6" / "manifest.json").read_text())["files"]
    shutil.rmtree(run / "checkpoint-6")
    assert resume_with_small_files(run, size) == 7
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    resumed(run)
    files = json.loads((run / "checkpoint-6" / "manifest.json").read_text())["files"]
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert files[name] == expected[name], name


def test_only_whole_checkpoints_are_pushed(tmp_path, monkeypatch):
    pushed = []

    def push(trainer, folder):
        check_sound(folder)
        pushed.append(Path(folder).name)

    monkeypatch.setattr(Trainer, "_push_from_checkpoint", push)
    trainer = tiny_trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
    trainer.args.push_to_hub = True
    monkeypatch.setattr(trainer, "_finish_current_push", lambda: None)
    trainer.train()
    assert pushed == ["checkpoint-2", "checkpoint-4"]


# A folder that holds a run


def test_a_run_is_not_written_over_unless_that_is_asked_for(run, tmp_path):
    hashes = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(
        RunExistsError, match=r"holds a run already \(checkpoint-6, checkpoint-4, .*--resume.*--overwr"
    ):
        resumed(run, None)
    # Nor by one that goes on from where another was.
    other = shutil.copytree(run / "checkpoint-4", tmp_path / "other" / "checkpoint-4")
    with pytest.raises(RunExistsError, match="holds a run already"):
        resumed(run, str(other))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == hashes
    trainer = tiny_trainer(run, max_steps=2, save_strategy="steps", save_steps=2)
    with pytest.raises(ValueError, match="either resumed or overwritten"):
        trainer.train(resume_from_checkpoint=True, overwrite=True)
    (run / "decode_failures.0.jsonl").write_text("")
    (run / "notes.txt").write_text("mine")
    trainer.train(overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-2", "notes.txt"]


def test_the_mean_of_the_weights_alone_is_a_run_too(tmp_path):
    (tmp_path / "weight-average").mkdir()
    with pytest.raises(RunExistsError, match="weight-average"):
        tiny_trainer(tmp_path).train()


def test_an_output_folder_that_cannot_be_written_to_is_an_error_before_the_work(tmp_path):
    trainer = tiny_trainer(tmp_path / "run")
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OSError, match=r"Nothing can be written to .*run .*Give another output folder"):
        trainer.train()
    assert trainer.state.global_step == 0


# Links


def test_nothing_is_written_or_deleted_behind_a_link_in_the_place_of_unfinished_folders(tmp_path):
    victim = tmp_path / "victim"
    (victim / "checkpoint-2").mkdir(parents=True)
    (victim / "checkpoint-2" / "mine").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "_incomplete").symlink_to(victim)
    for operation in (lambda: write_new(run / "checkpoint-2", "new"), lambda: tiny_trainer(run).train()):
        with pytest.raises(ValueError, match="_incomplete is a link"):
            operation()
    assert (victim / "checkpoint-2" / "mine").read_text() == "mine"


def test_a_file_in_the_place_of_unfinished_folders_is_refused_before_the_first_step(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "_incomplete").write_text("mine")
    trainer = tiny_trainer(run)
    for operation in (lambda: write_new(run / "checkpoint-2", "new"), trainer.train):
        with pytest.raises(ValueError, match="_incomplete is not a folder"):
            operation()
    assert trainer.state.global_step == 0
    assert (run / "_incomplete").read_text() == "mine"


def test_no_file_in_the_place_of_an_unfinished_folder_ends_a_training(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=1, save_total_limit=1)
    (tmp_path / "_incomplete").mkdir()
    for name in ("checkpoint-1", "checkpoint-2", "removed-checkpoint-1", "replaced-checkpoint-2", "model"):
        (tmp_path / "_incomplete" / name).write_text("x")
    trainer.train()
    trainer.save_model_whole(tmp_path / "model")
    check_sound(tmp_path / "checkpoint-2")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"_incomplete", "checkpoint-2", "model"}
    # Kept for somebody by an earlier run.
    assert [path.name for path in (tmp_path / "_incomplete").iterdir()] == ["replaced-checkpoint-2"]


def test_a_file_in_the_place_of_a_checkpoint_is_kept_beside_it(tmp_path):
    (tmp_path / "checkpoint-2").write_text("mine")
    write_new(tmp_path / "checkpoint-2", "new")
    check_sound(tmp_path / "checkpoint-2")
    assert (tmp_path / "_incomplete" / "replaced-checkpoint-2").read_text() == "mine"


def test_what_a_checkpoint_says_of_earlier_steps_is_text_on_the_card(tmp_path):
    trainer = tiny_trainer(tmp_path)
    hostile = "![x](https://host.example/a.png) <img src=x>\n# Title"
    logged = [
        {"loss": 1.5, "step": 1},
        {"eval_loss": 0.5, f"eval_{hostile}": hostile, "eval_R@5": 50.0, "step": 1, "epoch": 1.0},
        {"train_runtime": 1.0, "step": 2},
    ]
    trainer.state.log_history = list(logged)
    trainer.create_model_card(model_name="mine")
    card = (tmp_path / "README.md").read_text()
    page = card[card.index("# mine") :]
    assert not any(part in page for part in ("![", "](https://host", "<img", "\n# Title", "\n# title"))
    assert "- R&#64;5: 50.0" in page
    assert "| 1.5 " in page
    assert trainer.state.log_history == logged


def test_files_in_the_place_of_a_model_are_kept_by_every_run_that_comes_after(tmp_path):
    for content in ("mine", "mine as well"):
        (tmp_path / "model").write_text(content)
        for new in ("first", "second"):
            write_new(tmp_path / "model", new)
        remove(tmp_path / "model")
    kept = {path.name: path.read_text() for path in (tmp_path / "_incomplete").iterdir()}
    assert kept == {"replaced-model": "mine", "replaced-model-2": "mine as well"}


@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_of_a_link_in_the_place_of_a_checkpoint_only_the_link_goes(tmp_path, target):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").write_text("mine")
    for operation in (lambda folder: write_new(folder, "new"), remove):
        folder = tmp_path / "run" / "checkpoint-2"
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        folder.parent.mkdir()
        folder.symlink_to(tmp_path / target)
        operation(folder)
        assert not folder.is_symlink()
        assert not (tmp_path / "run" / "_incomplete").exists()
    assert (tmp_path / "victim" / "mine").read_text() == "mine"


def test_rotation_takes_a_link_away_and_leaves_what_is_behind_it(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").write_text("mine")
    trainer = tiny_trainer(tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=1, save_total_limit=1)

    class Link(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            (tmp_path / "run" / "checkpoint-9").symlink_to(tmp_path / "victim")

    trainer.add_callback(Link())
    trainer.train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-2"]
    assert (tmp_path / "victim" / "mine").read_text() == "mine"


NAMES = st.one_of(
    st.integers(0, 10**30).map(lambda step: f"checkpoint-{step}"),
    st.text("checkpoint-0123456789٣²+_ ", min_size=1, max_size=40),
    st.text("0123456789٣²+_ ", max_size=10).map(lambda end: f"checkpoint-{end}"),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folders=st.sets(NAMES, max_size=8), files=st.sets(NAMES, max_size=3))
def test_checkpoints_are_the_folders_that_the_trainer_names_so(tmp_path_factory, folders, files):
    run = tmp_path_factory.mktemp("run")
    for name in folders:
        (run / name).mkdir()
    for name in files - folders:
        (run / name).touch()
    found = list_checkpoints(run)
    assert list(found) == sorted(found, reverse=True)
    assert all(folder == run / f"checkpoint-{step}" for step, folder in found.items())
    steps = {
        int(name[11:])
        for name in folders
        if name[11:].isascii() and name[11:].isdigit() and name[:11] == "checkpoint-"
    }
    assert set(found) == {step for step in steps if f"checkpoint-{step}" in folders}
