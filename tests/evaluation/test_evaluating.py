import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from froster_hf.evaluation import FrozenModel, PredictionMismatchError, evaluate_protocol, load_protocol
from froster_hf.evaluation.evaluating import prepare_folder, put_in_place
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification
from froster_hf.whole_files import LOCK_FILE, worked_in_alone
from tests.fixtures.subprocesses import environment
from tests.fixtures.tiny import save_tiny_checkpoint, tiny_model, tiny_processor

PROTOCOL = load_protocol("base_to_novel_hmdb51", ["num_views=2", "frame_stride=2"])


def evaluate(data, output_dir, **options):
    options = {"models": tiny_model(), "protocol": PROTOCOL, **options}
    protocol = options.pop("protocol")
    return evaluate_protocol(
        protocol, processor=tiny_processor(), data=data, output_dir=output_dir, batch_size=2, **options
    )


@pytest.fixture(scope="module")
def result(hmdb51_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    evaluate(
        hmdb51_data,
        folder,
        models=[tiny_model(0), tiny_model(1)],
        frozen=FrozenModel(tiny_model(2)),
        method="tiny | tuned",
    )
    return folder


def test_the_result_folder_says_what_the_numbers_rest_on(result):
    report = json.loads((result / "result.json").read_text())
    assert list(report["results"]) == [
        "tiny | tuned",
        "frozen model",
        "tiny | tuned + frozen (probabilities)",
        "tiny | tuned + frozen (logits)",
    ]
    ours = report["results"]["tiny | tuned"]
    base = [part["base"]["top1"] for part in ours["parts"]]
    assert ours["base"] == pytest.approx(np.mean(base), abs=0.01)
    assert ours["num_samples"] == 2
    assert set(ours["parts"][0]["base"]["class_accuracies"]) == {"kick ball", "wave"}
    assert len(set(report["checkpoints"])) == 2
    assert len(report["data"]) == len(report["frozen_checkpoint"]) == 64
    assert {"torch", "transformers", "froster-hf", "python"} <= set(report["versions"])
    assert report["protocol"]["protocol"] == "base_to_novel"
    assert report["count_differences"]["novel"]["classes"] == {"found": 2, "published": 25}


def test_the_table_stands_beside_the_published_rows_and_warns_of_other_counts(result):
    text = (result / "result.md").read_text()
    assert "| FROSTER (published) | 74.1 | 58.0 | 65.1 |" in text
    assert "| **tiny \\| tuned** |" in text, "a name cannot break the table"
    assert "**Not comparable with the published numbers**: base has 2 classes, published 26" in text
    assert "2 few-shot samples; the published number averages 1" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}


def test_the_plots_are_pictures(result):
    names = sorted(path.name for path in (result / "plots").iterdir())
    assert names == [
        "base_novel.png",
        "classes_base_to_novel_hmdb51_base.png",
        "classes_base_to_novel_hmdb51_novel.png",
        "confusion_base_to_novel_hmdb51_base.png",
        "confusion_base_to_novel_hmdb51_novel.png",
    ]
    for name in names:
        with Image.open(result / "plots" / name) as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_cross_dataset_reports_full_set_and_splits(hmdb51_data, tmp_path):
    protocol = load_protocol("cross_dataset_hmdb51", ["num_views=1", "frame_stride=2"])
    data = {"root": hmdb51_data.root, "annotations": hmdb51_data.annotations, "missing": "drop"}
    report = evaluate(data, tmp_path, protocol=protocol)
    ours = report["results"]["this checkpoint"]
    assert ours["splits_mean"] == pytest.approx(np.mean(ours["splits"]), abs=0.01)
    assert ours["full"] == ours["splits"][0], "the first fold of these lists tests every clip"
    text = (tmp_path / "result.md").read_text()
    assert f"| **{ours['full']:.1f}** | **{ours['splits_mean']:.1f} ± {ours['splits_std']:.1f}** |" in text


def test_every_model_is_measured_with_its_own_processor(hmdb51_data, tmp_path):
    processors = [tiny_processor(), tiny_processor(image_mean=[5.0, -5.0, 5.0]), tiny_processor("none")]
    pairs = [(tiny_model(number), processor) for number, processor in enumerate(processors)]

    def measure(name, own, **options):
        report = evaluate(hmdb51_data, tmp_path / name, models=own, **options)
        return report, [scores(path) for path in sorted((tmp_path / name / "predictions").glob("sample_*"))]

    def scores(folder):
        lines = [json.loads(line) for line in (folder / "predictions.0.jsonl").read_text().splitlines()[1:]]
        return sorted((line["row"], line["logits"]) for line in lines)

    alone = [measure(str(number), [pair])[1][0] for number, pair in enumerate(pairs)]
    frozen = FrozenModel(tiny_model(1), processor=processors[1])
    report, together = measure("together", pairs, frozen=frozen)
    assert together == alone
    assert scores(tmp_path / "together/predictions/frozen") == alone[1]
    assert [note for note in report["notes"] if "its own processor" in note] == [
        "The checkpoint 2 was measured by its own processor, with other video options than checkpoint 1.",
        "The checkpoint 3 was measured by its own processor, with other prompts than checkpoint 1.",
        "The frozen model was measured by its own processor, with other video options than checkpoint 1.",
    ]


def test_unknown_data_fields_no_models_and_a_name_of_two_rows_are_refused(hmdb51_data, tmp_path):
    with pytest.raises(ValueError, match="unknown fields folder"):
        evaluate({"folder": "/data"}, tmp_path)
    with pytest.raises(ValueError, match="No model was given"):
        evaluate(hmdb51_data, tmp_path, models=[])
    with pytest.raises(ValueError, match="`method` is 'frozen model', the name of the row of `frozen`"):
        evaluate(hmdb51_data, tmp_path, frozen=FrozenModel(tiny_model(2)), method="frozen model")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def load(checkpoint):
    return FrosterForVideoClassification.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def uninterrupted(checkpoint, hmdb51_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    evaluate(hmdb51_data, folder, models=load(checkpoint))
    return (folder / "result.json").read_bytes()


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_evaluations_are_not_at_work_in_one_folder(hmdb51_data, tmp_path, overwrite):
    evaluate(hmdb51_data, tmp_path)
    before = files_in(tmp_path)
    with worked_in_alone(tmp_path), pytest.raises(ValueError, match="Another run is at work in "):
        evaluate(hmdb51_data, tmp_path, overwrite=overwrite)
    assert files_in(tmp_path) == before
    evaluate(hmdb51_data, tmp_path, overwrite=overwrite)
    assert files_in(tmp_path).keys() == before.keys()


def test_after_a_kill_the_evaluation_goes_on_and_ends_with_the_same_result(
    checkpoint, hmdb51_data, tmp_path, uninterrupted
):
    file = tmp_path / "predictions" / "sample_0" / "predictions.0.jsonl"
    if (process := os.fork()) == 0:
        model = load(checkpoint)
        model.register_forward_hook(lambda *_: time.sleep(0.5))
        evaluate(hmdb51_data, tmp_path, models=model)
        os._exit(0)
    deadline = time.monotonic() + 120
    while (not file.exists() or file.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    before = file.read_bytes()
    assert 5 <= before.count(b"\n") < 13
    assert not (tmp_path / "result.json").exists()
    # A kill inside a write leaves a torn line.
    file.write_bytes(before[:-20])
    evaluate(hmdb51_data, tmp_path, models=load(checkpoint))
    assert file.read_bytes().startswith(before[: before[:-20].rfind(b"\n") + 1]), "what was done is kept"
    assert (tmp_path / "result.json").read_bytes() == uninterrupted


@pytest.fixture(scope="module")
def two_processes(checkpoint, hmdb51_data, tmp_path_factory) -> Path:
    """The folders of two evaluations by two processes: one as usual, one where the second reads late."""
    folder = tmp_path_factory.mktemp("two")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    script = Path(__file__).with_name("run_evaluation.py")
    data = (checkpoint, hmdb51_data.root, hmdb51_data.annotations)
    command = [*launcher, *map(str, (script, *data, folder / "usual", folder / "slowed"))]
    run = subprocess.run(command, env=environment(HF_HUB_OFFLINE="1"), capture_output=True, timeout=240)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    return folder


@pytest.mark.parametrize("reading", ["usual", "slowed"])
def test_two_processes_give_the_result_of_one_bit_for_bit(two_processes, uninterrupted, reading):
    folder = two_processes / reading
    assert sorted(path.name for path in folder.glob("was_process_*")) == ["was_process_0", "was_process_1"]
    counts = [path.read_text().count('"row"') for path in sorted((folder / "predictions" / "sample_0").iterdir())]
    assert counts == [6, 6]
    assert (folder / "result.json").read_bytes() == uninterrupted


def test_the_result_of_another_protocol_is_not_written_over_unless_that_is_asked_for(hmdb51_data, tmp_path):
    evaluate(hmdb51_data, tmp_path)
    before = (tmp_path / "result.json").read_bytes()
    other = dataclasses.replace(PROTOCOL, num_samples=3)
    with pytest.raises(PredictionMismatchError, match=r"base_to_novel_hmdb51, with settings of its own.*--overwrite"):
        evaluate(hmdb51_data, tmp_path, protocol=other)
    with pytest.raises(PredictionMismatchError, match="--overwrite"):
        evaluate(hmdb51_data, tmp_path, models=tiny_model(1))
    assert (tmp_path / "result.json").read_bytes() == before
    (tmp_path / "mine.txt").write_text("mine")
    report = evaluate(hmdb51_data, tmp_path, protocol=other, models=tiny_model(1), overwrite=True)
    assert report["protocol"]["num_samples"] == 3
    assert (tmp_path / "mine.txt").exists()


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopping_model(seed, *, after):
    """A model that is stopped by Ctrl-C after a number of batches."""
    model, batches = tiny_model(seed), []
    forward = model.forward

    def stop(*args, **kwargs):
        batches.append(1)
        if len(batches) > after:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    model.forward = stop
    return model


def test_an_earlier_result_stays_where_the_one_that_would_replace_it_fails(hmdb51_data, tmp_path):
    evaluate(hmdb51_data, tmp_path)
    before = files_in(tmp_path)
    elsewhere = dataclasses.replace(hmdb51_data, root=str(tmp_path / "nowhere"))
    with pytest.raises(NotADirectoryError, match="nowhere"):
        evaluate(elsewhere, tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="the descriptions"):
        evaluate(hmdb51_data, tmp_path, descriptions={"wave": "a hand goes up"}, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        evaluate(hmdb51_data, tmp_path, models=stopping_model(1, after=0), overwrite=True)
    assert files_in(tmp_path).items() >= before.items()
    # It is the result of its own evaluation as before.
    for hidden in tmp_path.glob(".unfinished-evaluation/predictions/*/*"):
        hidden.unlink()
    evaluate(hmdb51_data, tmp_path)
    assert files_in(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to other users")
def test_an_earlier_result_of_which_another_user_has_a_file_is_not_begun_to_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text(json.dumps({"protocol": {"name": "kitchen"}}))
    (tmp_path / "label_similarity.png").touch()
    for path, owner in ((tmp_path, 1000), (tmp_path / "result.json", 1001), (tmp_path / "label_similarity.png", 1000)):
        os.chown(path, owner, owner)
    tmp_path.chmod(0o1777)
    before = files_in(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    with pytest.raises(PermissionError, match=r"label_similarity\.png is another user's, and cannot be replaced"):
        prepare_folder(tmp_path, {"name": "kitchen"}, overwrite=True)
    assert files_in(tmp_path) == before


def test_an_evaluation_that_will_replace_another_one_is_gone_on_with(hmdb51_data, tmp_path):
    evaluate(hmdb51_data, tmp_path / "replaced", frozen=FrozenModel(tiny_model(2), training_labels=["wave"]))
    before = files_in(tmp_path / "replaced")
    with pytest.raises(KeyboardInterrupt):
        evaluate(hmdb51_data, tmp_path / "replaced", models=stopping_model(1, after=2), overwrite=True)
    found = files_in(tmp_path / "replaced")
    assert found.items() >= before.items()
    begun = ".unfinished-evaluation/predictions/sample_0/predictions.0.jsonl"
    assert found.keys() - before.keys() == {begun, ".unfinished-evaluation/evaluation.json"}
    model, batches = tiny_model(1), []
    forward = model.forward
    model.forward = lambda *args, **kwargs: batches.append(1) or forward(*args, **kwargs)
    evaluate(hmdb51_data, tmp_path / "replaced", models=model)
    evaluate(hmdb51_data, tmp_path / "fresh", models=tiny_model(1))
    assert len(batches) == found[begun].count(b'"row"') // 2 + 2
    assert files_in(tmp_path / "replaced") == files_in(tmp_path / "fresh"), "nothing of the replaced one is left"
    assert [path.name for path in (tmp_path / "replaced").glob(".*")] == [LOCK_FILE]


def test_an_interrupted_evaluation_lets_another_one_neither_replace_the_finished_one_nor_be_refused(tmp_path):
    kitchen, garage = ({"protocol": "own_list", "name": name} for name in ("kitchen", "garage"))
    templates = {"protocol": "template_choice", "name": "kitchen"}
    for name in ("plots", "predictions/model_0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "predictions/model_0/predictions.0.jsonl").touch()
    (tmp_path / "result.json").write_text(json.dumps({"protocol": kitchen}))
    work = prepare_folder(tmp_path, templates, overwrite=True)
    (work / "predictions/predictions.0.jsonl").touch()
    before = files_in(tmp_path)
    with pytest.raises(PredictionMismatchError, match=r"holds the result of another evaluation \(kitchen"):
        prepare_folder(tmp_path, garage, overwrite=False)
    assert prepare_folder(tmp_path, kitchen, overwrite=False) == tmp_path
    assert prepare_folder(tmp_path, templates, overwrite=False) == work
    assert files_in(tmp_path) == before
    # Before its first prediction, too.
    (work / "predictions/predictions.0.jsonl").unlink()
    assert prepare_folder(tmp_path, kitchen, overwrite=False) == tmp_path
    assert prepare_folder(tmp_path, templates, overwrite=False) == work


@pytest.mark.parametrize("event", range(12))
def test_a_kill_while_an_evaluation_takes_the_place_of_another_one_loses_neither(tmp_path, monkeypatch, event):
    """At whichever file or folder; the next call ends it."""
    subject = {"name": "own"}
    for name in ("result.json", "index.html", "plots/a.png", "predictions/model_0/predictions.0.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"protocol": {"name": "other"}}')
    work = prepare_folder(tmp_path, subject, overwrite=True)
    for name in ("result.json", "plots/b.png", "predictions/model_1/predictions.0.jsonl"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text('{"protocol": {"name": "own"}}')
    expected = files_in(work)
    expected.pop("evaluation.json")

    class KilledError(BaseException):
        pass

    events, is_at_work = [], [False]

    def count(name, _):
        if is_at_work[0] and name in ("os.rename", "os.remove", "os.rmdir"):
            events.append(name)
            if len(events) == event + 1:
                raise KilledError

    sys.addaudithook(count)
    is_at_work[0] = True
    try:
        put_in_place(work, tmp_path)
    except KilledError:
        assert any(name.endswith("result.json") for name in files_in(tmp_path))
    finally:
        is_at_work[0] = False
    assert len(events) > event or event > 8, "there are more events to be killed at"
    assert prepare_folder(tmp_path, subject, overwrite=False) == tmp_path
    assert files_in(tmp_path) == expected
    assert not list(tmp_path.glob(".*"))


def test_overwriting_takes_links_away_and_leaves_what_is_behind_them(hmdb51_data, tmp_path):
    for name in ("plots", "predictions"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).symlink_to(tmp_path / name)
    evaluate(hmdb51_data, tmp_path / "out", overwrite=True)
    for name in ("plots", "predictions"):
        assert [path.name for path in (tmp_path / name).iterdir()] == ["mine"]
        assert not (tmp_path / "out" / name).is_symlink()


def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_work(hmdb51_data, tmp_path):
    (tmp_path / "out").write_text("a file")
    model = tiny_model()
    model.forward = None  # is not reached
    with pytest.raises(OSError, match=r"Nothing can be written to .*out"):
        evaluate(hmdb51_data, tmp_path / "out", models=model)


def test_descriptions_belong_to_names_and_not_to_places(hmdb51_data, tmp_path):
    described = {"wave": "a hand goes up", "cartwheel": None, "kick ball": "a foot", "BrushHair": "a brush"}
    first = evaluate(hmdb51_data, tmp_path / "first", descriptions=described)
    turned = dict(reversed(described.items())) | {"juggling": "not tested here"}
    assert evaluate(hmdb51_data, tmp_path / "second", descriptions=turned)["prompts"] == first["prompts"]
    assert first["descriptions"] == "sentences about 3 of 4 labels"
    assert "names and sentences about 3 of 4 labels." in (tmp_path / "first" / "result.md").read_text()
    with pytest.raises(ValueError, match="without 1 of its names: wave"):
        evaluate(hmdb51_data, tmp_path / "third", descriptions={k: v for k, v in described.items() if k != "wave"})


def limited(size, work, *arguments, **options):
    """Do something in a process whose files cannot grow beyond a size, as on a full disk; whether it was an error."""
    if (process := os.fork()) == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work(*arguments, **options)
        except OSError as error:
            code = 7 if "cannot be written" in str(error) else 8
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7


def test_after_a_full_disk_the_evaluation_goes_on_and_ends_with_the_same_result(
    checkpoint, hmdb51_data, tmp_path, uninterrupted
):
    assert limited(1500, evaluate, hmdb51_data, tmp_path, models=load(checkpoint))
    assert not (tmp_path / "result.json").exists()
    evaluate(hmdb51_data, tmp_path, models=load(checkpoint))
    assert (tmp_path / "result.json").read_bytes() == uninterrupted


def test_a_full_disk_leaves_the_old_result(checkpoint, hmdb51_data, tmp_path, uninterrupted):
    evaluate(hmdb51_data, tmp_path, models=load(checkpoint))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert limited(1500, evaluate, hmdb51_data, tmp_path, models=load(checkpoint), method="another name")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
