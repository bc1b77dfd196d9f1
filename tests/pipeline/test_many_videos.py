"""Many videos: batches, shards, and files of answers that a kill does not cost."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sys
import tracemalloc

import pytest
import torch
from PIL import Image
from transformers import pipeline

from froster_hf import FrosterForVideoClassification, load_pipeline, predict_videos
from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.pipeline.many_videos import OtherAnswersError
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from froster_hf.whole_files import ResultExistsError

CLASSES = [MovingShape("red", "star", "sliding left"), MovingShape("blue", "square", "pulsing")]
LABELS = [str(shape) for shape in CLASSES]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six rendered videos, and one file that is none."""
    folder = tmp_path_factory.mktemp("many")
    for number, row in enumerate(write_moving_shapes(folder / "rendered", CLASSES, clips_per_class=3, seed=4)):
        (folder / "videos").mkdir(exist_ok=True)
        shutil.copy(row["video"], folder / "videos" / f"{number}.mp4")
    (folder / "videos" / "broken.mp4").write_bytes(b"nothing")
    return folder / "videos"


@pytest.fixture(scope="module")
def classify():
    return load_pipeline("small", device="cpu")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(videos, *options):
    return main(["predict", str(videos), "--labels", ",".join(LABELS), "--model", "small", "--top-k", "1", *options])


def test_a_file_of_answers_is_gone_on_with_after_a_kill(videos, tmp_path, capsys):
    answers = tmp_path / "answers.jsonl"
    assert command(videos, "--output", str(answers), "--batch-size", "3") == 1
    whole = answers.read_text()
    assert len(read(answers)) == 7
    assert [record["video"].endswith("broken.mp4") for record in read(answers) if "error" in record] == [True]
    capsys.readouterr()
    # Killed within the fourth line.
    lines = whole.splitlines(keepends=True)
    answers.write_text("".join(lines[:3]) + lines[3][:20])
    command(videos, "--resume", str(answers), "--batch-size", "3")
    assert "answers of 4 videos, beside 3 that were there" in capsys.readouterr().out
    assert [record["video"] for record in read(answers)] == [record["video"] for record in map(json.loads, lines)]
    scores = [
        [r["answers"][0]["score"] for r in records if "answers" in r]
        for records in (read(answers), map(json.loads, lines))
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.fixture
def full_disk():
    """Files that grow beyond a size fail, as on a full disk, after a part of what is written."""
    resource = pytest.importorskip("resource", reason="limits are of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_file_and_no_empty_one(videos, classify, tmp_path, full_disk):
    (tmp_path / "old.jsonl").write_text("old")
    for name in ("old.jsonl", "new.jsonl"):
        records = predict_videos(
            classify, [str(videos / "0.mp4")], output=tmp_path / name, overwrite=True, candidate_labels=LABELS
        )
        full_disk(40)
        with pytest.raises(OSError, match=rf"{name} cannot be written"):
            list(records)
        full_disk(10**9)
    assert [path.name for path in tmp_path.iterdir()] == ["old.jsonl"]
    assert (tmp_path / "old.jsonl").read_text() == "old"


def test_a_full_disk_leaves_whole_records(videos, classify, tmp_path, full_disk):
    paths = [str(videos / f"{number}.mp4") for number in range(2)]
    answers = tmp_path / "answers.jsonl"
    records = predict_videos(classify, paths, output=answers, candidate_labels=LABELS)
    first = next(records)
    whole = answers.read_text()
    full_disk(len(whole) + 40)
    with pytest.raises(OSError, match=r"answers\.jsonl cannot be written"):
        next(records)
    assert answers.read_text() == whole
    assert read(answers)[0].items() >= json.loads(json.dumps(first)).items()


def test_answers_are_replaced_only_where_this_is_asked_for(videos, classify, tmp_path):
    answers, paths = tmp_path / "answers.jsonl", [str(videos / "0.mp4"), str(videos / "1.mp4")]
    call = {"output": answers, "candidate_labels": LABELS}
    list(predict_videos(classify, paths, **call))
    before = answers.read_bytes()
    with pytest.raises(ResultExistsError, match=r"answers\.jsonl exists already\. Write elsewhere, go on with it"):
        predict_videos(classify, paths, **call)
    with pytest.raises(ValueError, match="either gone on with or overwritten"):
        predict_videos(classify, paths, resume=True, overwrite=True, **call)
    assert answers.read_bytes() == before
    replacing = predict_videos(classify, paths, overwrite=True, **call)
    next(replacing)
    assert len(read(answers)) == 1
    replacing.close()


def test_a_file_that_another_process_has_begun_meanwhile_is_kept(videos, classify, tmp_path):
    records = predict_videos(
        classify, [str(videos / "0.mp4")], output=tmp_path / "answers.jsonl", candidate_labels=LABELS
    )
    (tmp_path / "answers.jsonl").write_text("of another")
    with pytest.raises(ResultExistsError):
        next(records)
    assert (tmp_path / "answers.jsonl").read_text() == "of another"


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is held there")
def test_two_runs_at_once_do_not_go_on_with_one_file(videos, classify, tmp_path):
    """Each would write all that the other writes, too."""
    call = {"output": tmp_path / "answers.jsonl", "candidate_labels": LABELS}
    paths = [str(videos / f"{number}.mp4") for number in range(3)]
    told = r"Another run is at work in .*answers\.jsonl\. Wait until it ends, or give another file"
    for options, seen in (({}, paths[:2]), ({"resume": True}, paths)):
        records = predict_videos(classify, seen, **call, **options)
        first = next(records)
        with pytest.raises(ValueError, match=told):
            predict_videos(classify, paths, resume=True, **call)
        with pytest.raises(ValueError, match=told):
            list(predict_videos(classify, paths, overwrite=True, **call))
        assert [first, *records]
    # From the reading of the file on, also where nothing was scored yet.
    records = predict_videos(classify, paths, resume=True, **call)
    with pytest.raises(ValueError, match=told):
        predict_videos(classify, paths, resume=True, **call)
    assert list(records) == []
    assert [record["video"] for record in read(call["output"])] == paths
    # A call that is refused holds nothing.
    with pytest.raises(OtherAnswersError) as refused:
        predict_videos(classify, paths, resume=True, **call, threshold=0.9)
    assert list(predict_videos(classify, paths, resume=True, **call)) == [], refused


def test_a_file_of_no_answers_is_empty(classify, tmp_path):
    assert list(predict_videos(classify, [], output=tmp_path / "a.jsonl", candidate_labels=LABELS)) == []
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_other_labels_are_not_mixed_into_a_file(videos, classify, tmp_path):
    paths = [str(videos / "0.mp4")]
    answers = tmp_path / "answers.jsonl"
    list(predict_videos(classify, paths, output=answers, candidate_labels=LABELS))
    with pytest.raises(OtherAnswersError, match="other labels or options"):
        predict_videos(classify, paths, output=answers, resume=True, candidate_labels=[*LABELS, "juggling"])
    # How they are computed is no other setting.
    assert (
        list(predict_videos(classify, paths, output=answers, resume=True, candidate_labels=LABELS, batch_size=2)) == []
    )
    answers.write_text("not a record\n")
    with pytest.raises(OtherAnswersError, match="line 1"):
        predict_videos(classify, paths, output=answers, resume=True, candidate_labels=LABELS)


def test_another_model_in_the_same_folder_is_another_model(videos, tmp_path):
    folder, answers, paths = tmp_path / "model", tmp_path / "answers.jsonl", [str(videos / "0.mp4")]
    shutil.copytree(SMALL_FROSTER, folder)
    call = {"output": answers, "candidate_labels": LABELS}
    list(predict_videos(load_pipeline(folder), paths, **call))
    assert list(predict_videos(load_pipeline(folder), paths, resume=True, **call)) == []
    other_prompts = load_pipeline(folder)
    other_prompts.processor.prompt_templates = ["{}"]
    with pytest.raises(OtherAnswersError):
        predict_videos(other_prompts, paths, resume=True, **call)
    other_limits = load_pipeline(folder)
    other_limits.processor.video_processor.video_backend = "pyav"
    other_limits.processor.video_processor.video_limits = {"max_pixels": 12_000_000}
    assert list(predict_videos(other_limits, paths, resume=True, **call)) == []
    # The same weights, of which another configuration makes another model.
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "temporal_radius": 3}))
    with pytest.raises(OtherAnswersError):
        predict_videos(load_pipeline(folder), paths, resume=True, **call)
    (folder / "config.json").write_text(json.dumps(config))
    trained = FrosterForVideoClassification.from_pretrained(folder)
    torch.nn.init.ones_(trained.froster.text_projection.weight)
    trained.save_pretrained(folder)
    with pytest.raises(OtherAnswersError):
        predict_videos(load_pipeline(folder), paths, resume=True, **call)


def test_other_labels_stored_in_the_checkpoint_are_other_labels(videos, tmp_path):
    """They are none of the weights, and a record of fewer labels could be one of more."""
    answers, paths = tmp_path / "answers.jsonl", [str(videos / "0.mp4")]

    def storing(labels, **prompts):
        classify = load_pipeline("small", device="cpu")
        embeds = classify.processor.embed_labels(labels, model=classify.model, **prompts)
        classify.model.set_labels(labels, text_embeds=embeds)
        return classify

    list(predict_videos(storing(LABELS), paths, output=answers))
    assert list(predict_videos(storing(LABELS), paths, output=answers, resume=True)) == []
    for other in (storing([*LABELS, "juggling"]), storing(LABELS, templates=["not {}"])):
        with pytest.raises(OtherAnswersError, match="other labels or options"):
            predict_videos(other, paths, output=answers, resume=True)


@pytest.mark.parametrize("stored", [[], ["juggling", "rowing"]])
def test_labels_that_a_pipeline_was_built_with_are_those_of_its_answers(videos, tmp_path, stored):
    found = load_pipeline("small", device="cpu")
    if stored:
        found.model.set_labels(stored, text_embeds=found.processor.embed_labels(stored, model=found.model))
    built = {"model": found.model, "processor": found.processor, "candidate_labels": LABELS, "top_k": 1}
    classify = pipeline("zero-shot-video-classification", **built)
    answers, paths = tmp_path / "answers.jsonl", [str(videos / f"{number}.mp4") for number in range(2)]
    (record,) = predict_videos(classify, paths[:1], output=answers)
    assert record["answers"][0]["label"] in LABELS
    assert len(list(predict_videos(classify, paths, output=answers, resume=True))) == 1


def test_one_path_is_one_video_and_not_its_letters(videos, classify, tmp_path):
    video = videos / "0.mp4"
    for given in (str(video), video, [video]):
        options = {"output": tmp_path / "answers.jsonl", "resume": True, "candidate_labels": LABELS}
        records = list(predict_videos(classify, given, **options))
        assert [record["video"] for record in records] == [str(video)] * (given == str(video))
    with pytest.raises(TypeError, match="int"):
        next(predict_videos(classify, b"0.mp4", candidate_labels=LABELS))


def test_shards_are_all_videos_each_once(videos, classify):
    paths = [str(videos / f"{number}.mp4") for number in range(6)]
    parts = [
        [record["video"] for record in predict_videos(classify, paths, shard=(k, 4), candidate_labels=LABELS)]
        for k in range(1, 5)
    ]
    assert sorted(path for part in parts for path in part) == sorted(paths)
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    with pytest.raises(ValueError, match="one of 1/4 to 4/4"):
        predict_videos(classify, paths, shard=(5, 4), candidate_labels=LABELS)


def test_csv_has_a_line_per_answer_and_no_formulas(videos, classify, tmp_path):
    labels = ["=HYPERLINK(1)", *LABELS]
    records = predict_videos(
        classify,
        [str(videos / "0.mp4"), str(videos / "broken.mp4")],
        output=tmp_path / "a.csv",
        candidate_labels=labels,
    )
    assert not (tmp_path / "a.csv").exists(), "it appears when it is whole"
    assert len(list(records)) == 2
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert {row["label"] for row in rows[:3]} == {"'=HYPERLINK(1)", *LABELS}
    assert float(rows[0]["score"]) == max(float(row["score"]) for row in rows[:3])
    assert rows[3]["error"]


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--output", "a.xlsx", r"Answers are written to \.jsonl or \.csv files"),
        ("--resume", "a.csv", r"Only \.jsonl files can be gone on with"),
    ],
)
def test_a_file_of_another_format_is_refused_before_the_model_is_loaded(
    videos, tmp_path, capsys, monkeypatch, option, file, message
):
    monkeypatch.setattr("froster_hf.cli.verbs.predict.load_model", None)
    assert command(videos / "0.mp4", option, str(tmp_path / file)) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_number_of_answers_of_another_type_is_named_where_a_file_is_gone_on_with(classify, tmp_path):
    with pytest.raises(TypeError, match="`top_k` is '3'; it must be a whole number"):
        predict_videos(
            classify, ["0.mp4"], output=tmp_path / "a.jsonl", resume=True, candidate_labels=LABELS, top_k="3"
        )


def test_lists_of_videos_are_read(videos, tmp_path, capsys):
    for name, text in (
        ("list.txt", "videos/0.mp4\nvideos/1.mp4\n"),
        ("list.csv", "id,video\n1,videos/0.mp4\n2,videos/1.mp4\n"),
        ("list.jsonl", '{"video": "videos/0.mp4"}\n{"video": "videos/1.mp4"}\n'),
    ):
        (videos.parent / name).write_text(text)
        assert command(videos.parent / name, "--json") == 0
        found = [json.loads(line)["video"] for line in capsys.readouterr().out.splitlines()]
        assert found == [str(videos / "0.mp4"), str(videos / "1.mp4")]
    (tmp_path / "bad.csv").write_text("path\n1.mp4\n")
    assert command(tmp_path / "bad.csv") == 1
    assert "names no column `video`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        *("my notes", '{"answers": 1}', '{"video": 1}\nmy notes'),
        *('{"video": "z.mp4", "note": "checked by hand"}', '{"video": "a.mp4"}{"video": "b.mp4"}'),
        *(f'{{"video": {"1" * 5000}}}', f'{{"video": {"[" * 100_000}', '{"video": {"camera": 3}, "annotations": [1]}'),
    ],
    ids=lambda text: text[:40],
)
def test_a_file_of_something_else_is_not_gone_on_with(videos, tmp_path, capsys, text):
    (tmp_path / "notes.jsonl").write_text(text)
    assert command(videos, "--resume", str(tmp_path / "notes.jsonl")) == 1
    assert "not " in capsys.readouterr().err
    assert (tmp_path / "notes.jsonl").read_text() == text


ANSWERS = [{"score": 0.9, "label": LABELS[0]}]
FORGED = {
    "a list as the video": {"video": ["x"], "answers": ANSWERS},
    "a number as the video": {"video": 1, "answers": ANSWERS},
    "neither answers nor an error": {"video": "0.mp4"},
    "no answers": {"video": "0.mp4", "answers": []},
    "answers that are text": {"video": "0.mp4", "answers": "none"},
    "answers that are numbers": {"video": "0.mp4", "answers": [1]},
    "an answer of another label": {"video": "0.mp4", "answers": [{"score": 0.9, "label": "\x1b[31m"}]},
    "a label that is a list": {"video": "0.mp4", "answers": [{"score": 0.9, "label": ["a"]}]},
    "a score above 1": {"video": "0.mp4", "answers": [{**ANSWERS[0], "score": 9}]},
    "a score that is not a number": {"video": "0.mp4", "answers": [{**ANSWERS[0], "score": float("nan")}]},
    "a score that is text": {"video": "0.mp4", "answers": [{**ANSWERS[0], "score": "1"}]},
    "an answer without a score": {"video": "0.mp4", "answers": [{"label": LABELS[0]}]},
    "answers and an error": {"video": "0.mp4", "answers": ANSWERS, "error": "no frames"},
    "an error that is a list": {"video": "0.mp4", "error": []},
    "a field of its own": {"video": "0.mp4", "answers": ANSWERS, "more": 1},
    "a field of its own in an answer": {"video": "0.mp4", "answers": [{**ANSWERS[0], "more": "\x1b"}]},
    "another background": {"video": "0.mp4", "answers": [{**ANSWERS[0], "background": ["\x1b"]}]},
    "a label twice": {"video": "0.mp4", "answers": ANSWERS * 2},
    "a score that is a whole number": {"video": "0.mp4", "answers": [{**ANSWERS[0], "score": 1}]},
    "a score of many digits": {"video": "0.mp4", "answers": [{**ANSWERS[0], "score": 10**400}]},
    "a list": [1],
    "nesting": None,
}


@pytest.mark.parametrize("record", FORGED.values(), ids=FORGED)
def test_a_line_that_was_not_written_by_a_run_is_one_error_that_names_it(videos, classify, tmp_path, record):
    answers = tmp_path / "answers.jsonl"
    list(predict_videos(classify, [str(videos / "1.mp4")], output=answers, candidate_labels=LABELS))
    if isinstance(record, dict):
        record = {**record, "state": "", "settings": read(answers)[0]["settings"]}
    with answers.open("a") as file:
        file.write(("[" * 100_000 if record is None else json.dumps(record)) + "\n")
    before = answers.read_bytes()
    with pytest.raises(OtherAnswersError, match=r"answers\.jsonl, line 2, is not a record of answers"):
        predict_videos(classify, [str(videos / "0.mp4")], output=answers, resume=True, candidate_labels=LABELS)
    assert answers.read_bytes() == before


def test_scores_of_many_digits_and_more_answers_than_asked_for_are_refused_too(videos, classify, tmp_path):
    answers, options = (
        tmp_path / "answers.jsonl",
        {"candidate_labels": LABELS, "function_to_apply": "none", "top_k": 1},
    )
    list(predict_videos(classify, [str(videos / "1.mp4")], output=answers, **options))
    (record,) = read(answers)
    many = [{"score": 0.5, "label": label} for label in LABELS]
    for forged in ([{**record["answers"][0], "score": 10**400}], many + many):
        answers.write_text(json.dumps({**record, "answers": forged}) + "\n")
        with pytest.raises(OtherAnswersError, match="line 1, is not a record of answers"):
            predict_videos(classify, [], output=answers, resume=True, **options)


def test_a_line_that_is_longer_than_any_record_is_refused_without_reading_all_of_it(videos, classify, tmp_path):
    """Nor parsed: two bytes of a line may be a list, which takes dozens in memory."""
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(b'{"video": "a.mp4", "answers": [' + b"[]," * 2_000_000 + b'[]], "settings": ""}\n')
    size = answers.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(OtherAnswersError, match="line 1, is not a record of answers"):
            predict_videos(classify, [str(videos / "0.mp4")], output=answers, resume=True, candidate_labels=LABELS)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert answers.stat().st_size == size


@pytest.mark.parametrize(
    "options",
    [{"threshold": 0.99999}, {"background_labels": ["a wall"]}, {"top_k": 1}, {"function_to_apply": "none"}],
    ids=str,
)
def test_answers_of_every_kind_are_gone_on_with(videos, classify, tmp_path, options):
    call = {"output": tmp_path / "answers.jsonl", "candidate_labels": LABELS, **options}
    paths = [str(videos / "0.mp4"), str(videos / "broken.mp4")]
    assert len(list(predict_videos(classify, paths, **call))) == 2
    assert list(predict_videos(classify, paths, resume=True, **call)) == []


def test_another_video_under_the_same_name_is_not_taken_for_the_one_that_was_scored(
    videos, classify, tmp_path, monkeypatch
):
    for place, number in (("day 1", 0), ("day 2", 5)):
        (tmp_path / place).mkdir()
        shutil.copy(videos / f"{number}.mp4", tmp_path / place / "clip.mp4")
    call = {"output": tmp_path / "answers.jsonl", "candidate_labels": LABELS}
    monkeypatch.chdir(tmp_path / "day 1")
    (record,) = predict_videos(classify, "clip.mp4", **call)
    assert set(record) == {"video", "answers"}
    assert re.fullmatch(r"\d+ bytes, \d+", read(call["output"])[0]["state"])
    before = call["output"].read_bytes()
    assert list(predict_videos(classify, "clip.mp4", resume=True, **call)) == []
    monkeypatch.chdir(tmp_path / "day 2")
    with pytest.raises(
        OtherAnswersError, match=r"has answers about clip\.mp4, of a file that has changed since, or of"
    ):
        predict_videos(classify, ["clip.mp4", str(videos / "1.mp4")], resume=True, **call)
    # Others are gone on with, and those whose lines were deleted are scored again.
    assert len(list(predict_videos(classify, str(videos / "1.mp4"), resume=True, **call))) == 1
    call["output"].write_bytes(call["output"].read_bytes().removeprefix(before))
    assert len(list(predict_videos(classify, ["clip.mp4", str(videos / "1.mp4")], resume=True, **call))) == 1
    # Replaced in its place.
    shutil.copy(videos / "0.mp4", "clip.mp4")
    with pytest.raises(OtherAnswersError, match=r"clip\.mp4"):
        predict_videos(classify, "clip.mp4", resume=True, **call)


def test_a_folder_of_frames_that_has_changed_is_not_taken_for_the_one_that_was_scored(classify, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(8):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(frames / f"{number}.png")
    call = {"output": tmp_path / "answers.jsonl", "candidate_labels": LABELS, "resume": True}
    assert len(list(predict_videos(classify, str(frames), **call))) == 1
    assert list(predict_videos(classify, str(frames), **call)) == []
    (record,) = read(call["output"])
    newest = max(path.stat().st_mtime_ns for path in frames.iterdir())
    # As former versions wrote it.
    call["output"].write_text(json.dumps(record | {"state": f"8 files, {newest}"}) + "\n")
    with pytest.raises(OtherAnswersError, match=r"has answers about .*frames, of a file that has changed since"):
        predict_videos(classify, str(frames), **call)
    call["output"].write_text(json.dumps(record) + "\n")
    Image.new("RGB", (32, 32), "white").save(frames / "3.png")
    os.utime(frames / "3.png", ns=(newest - 1, newest - 1))
    with pytest.raises(OtherAnswersError, match=r"has answers about .*frames, of a file that has changed since"):
        predict_videos(classify, str(frames), **call)


def test_standard_input_is_never_passed_over(videos, classify, tmp_path, monkeypatch):
    call = {"output": tmp_path / "answers.jsonl", "candidate_labels": LABELS}
    with (videos / "0.mp4").open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        assert len(list(predict_videos(classify, "-", resume=True, **call))) == 1
    with pytest.raises(OtherAnswersError, match="has answers about -, "):
        predict_videos(classify, "-", resume=True, **call)


def test_standard_input_is_not_read_by_workers(videos, classify):
    with pytest.raises(ValueError, match=r"cannot be read by worker processes\. Leave out `num_workers`, or"):
        predict_videos(classify, [str(videos / "0.mp4"), "-"], candidate_labels=LABELS, num_workers=1)


def test_an_address_is_known_by_itself(classify, tmp_path):
    """Each store would be asked for each video."""
    call = {"output": tmp_path / "answers.jsonl", "candidate_labels": LABELS}
    assert len(list(predict_videos(classify, "https://localhost/clip.mp4", **call))) == 1
    assert read(call["output"])[0]["state"] == ""
    assert list(predict_videos(classify, "https://localhost/clip.mp4", resume=True, **call)) == []


def test_line_ends_of_another_program_cost_no_answers(videos, classify, tmp_path):
    answers, call = tmp_path / "answers.jsonl", {"candidate_labels": LABELS, "output": tmp_path / "answers.jsonl"}
    paths = [str(videos / "0.mp4"), str(videos / "1.mp4")]
    list(predict_videos(classify, paths, **call))
    whole = answers.read_bytes()
    answers.write_bytes(whole.replace(b"\n", b"\r"))
    with pytest.raises(OtherAnswersError, match="line 1, is not a record of answers"):
        predict_videos(classify, paths, resume=True, **call)
    answers.write_bytes(whole[:40] + b"\r")
    with pytest.raises(OtherAnswersError, match="it would be lost"):
        predict_videos(classify, paths, resume=True, **call)
    answers.write_bytes(whole.replace(b"\n", b"\r"))
    assert answers.read_bytes() == whole.replace(b"\n", b"\r")
    answers.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert list(predict_videos(classify, paths, resume=True, **call)) == []


def test_a_whole_record_without_a_line_end_is_kept_and_gets_it(videos, classify, tmp_path):
    answers, call = tmp_path / "answers.jsonl", {"candidate_labels": LABELS, "output": tmp_path / "answers.jsonl"}
    list(predict_videos(classify, [str(videos / "0.mp4"), str(videos / "1.mp4")], **call))
    whole = answers.read_bytes()
    answers.write_bytes(whole.removesuffix(b"\n"))
    assert len(list(predict_videos(classify, [str(videos / f"{n}.mp4") for n in (1, 2)], resume=True, **call))) == 1
    assert answers.read_bytes().startswith(whole)
    assert [record["video"] for record in read(answers)] == [str(videos / f"{number}.mp4") for number in range(3)]


def test_answers_are_not_written_to_a_file_with_a_second_name(videos, classify, tmp_path):
    answers, paths = tmp_path / "answers.jsonl", [str(videos / "0.mp4"), str(videos / "1.mp4")]
    list(predict_videos(classify, paths[:1], output=answers, candidate_labels=LABELS))
    (tmp_path / "kept.jsonl").hardlink_to(answers)
    before = answers.read_bytes()
    with pytest.raises(ValueError, match="has a second name"):
        predict_videos(classify, paths, output=answers, resume=True, candidate_labels=LABELS)
    # A new file takes the place of its own name only.
    list(predict_videos(classify, paths, output=answers, overwrite=True, candidate_labels=LABELS))
    assert len(read(answers)) == 2
    assert (tmp_path / "kept.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3"], "give the part and how many there are"),
        (["--shard", "9/8"], "one of 1/8 to 8/8"),
        (["--output", "answers.xlsx"], ".jsonl or .csv files"),
        (["--resume", "answers.csv"], "Only .jsonl files can be gone on with"),
        (["--overwrite"], "--overwrite replaces the answers of --output"),
        (["--resume", "answers.jsonl", "--overwrite"], "--overwrite replaces the answers of --output"),
    ],
)
def test_wrong_options_are_one_line(videos, capsys, options, message):
    assert command(videos / "0.mp4", *options) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
