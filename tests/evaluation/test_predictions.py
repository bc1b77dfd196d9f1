import base64
import json
import tracemalloc

import numpy as np
import pytest

from froster_hf.evaluation import PredictionMismatchError
from froster_hf.evaluation.predicting import ClipPrediction, PredictionStore, stack_view_logits, with_checksum
from froster_hf.processing import text_files
from tests.fixtures.forks import run_python

HEADER = {"model": "abc", "video_options": {"num_views": 3, "size": (224, 224)}}
TEXTS = ["juggling", "bowling", "golf"]


def prediction(row, scale=1.0):
    generator = np.random.default_rng(row)
    return ClipPrediction(row, f"/videos/{row}.mp4", (scale * generator.normal(size=(2, 3))).astype(np.float32))


def open_store(folder, header=HEADER, process_index=0):
    return PredictionStore(
        folder, header=header, label_texts=TEXTS, num_clips=10, num_views=2, process_index=process_index
    )


def read_all(store):
    """The predictions by row."""
    return {prediction.row: prediction for prediction in sorted(store.read(), key=lambda found: found.row)}


def write(folder, predictions, **options):
    with open_store(folder, **options) as store:
        store.append(predictions)
    return store


def test_logits_come_back_bit_for_bit(tmp_path):
    written = [prediction(0), prediction(1, scale=1e-30), prediction(2, scale=1e30)]
    read = read_all(write(tmp_path, written))
    assert list(read) == [0, 1, 2]
    for before, after in zip(written, read.values()):
        assert np.array_equal(before.view_logits, after.view_logits)
        assert after.view_logits.dtype == np.float32


def test_a_line_says_in_words_what_was_predicted(tmp_path):
    logits = np.array([[0.0, 9.0, 0.0]], dtype=np.float32)
    write(tmp_path, [ClipPrediction(0, "a.mp4", logits)])
    line = (tmp_path / "predictions.0.jsonl").read_text().splitlines()[1]
    assert '"top": [["bowling", 0.9998]' in line


def test_several_processes_write_side_by_side_and_read_everything(tmp_path):
    write(tmp_path, [prediction(0), prediction(2)], process_index=0)
    write(tmp_path, [prediction(1)], process_index=1)
    assert list(read_all(open_store(tmp_path, process_index=2))) == [0, 1, 2]


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path, cut):
    write(tmp_path, [prediction(0), prediction(1)])
    file = tmp_path / "predictions.0.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    assert list(read_all(open_store(tmp_path))) == [0]
    read = read_all(write(tmp_path, [prediction(1), prediction(2)]))
    assert list(read) == [0, 1, 2]
    assert np.array_equal(read[1].view_logits, prediction(1).view_logits)


def test_a_torn_header_means_that_nothing_was_predicted_yet(tmp_path):
    (tmp_path / "predictions.0.jsonl").write_text('{"header": {"mod')
    assert list(read_all(write(tmp_path, [prediction(0)]))) == [0]


@pytest.mark.parametrize("theirs", ['{"header": {"title": "my notes"}}', '{"header": "mine", "rows": [1, 2]}'])
def test_one_line_of_something_else_is_no_torn_header(tmp_path, theirs):
    (tmp_path / "predictions.0.jsonl").write_text(theirs)
    with pytest.raises(PredictionMismatchError, match=r"predictions\.0\.jsonl"):
        write(tmp_path, [prediction(0)])
    assert (tmp_path / "predictions.0.jsonl").read_text() == theirs


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("theirs", ['{"my": "own predictions"}', "x" * 100_000, '{"header": {}}\r{"row": 0}\r'])
def test_a_last_line_of_something_else_is_not_cut_off(tmp_path, rows, theirs):
    file = tmp_path / "predictions.0.jsonl"
    if rows:
        write(tmp_path, [prediction(row) for row in range(rows)])
    with file.open("a", newline="") as handle:
        handle.write(theirs)
    before = file.read_bytes()
    with pytest.raises(PredictionMismatchError, match=r"predictions\.0\.jsonl (does not begin|ends in a line)"):
        write(tmp_path, [prediction(5)])
    assert file.read_bytes() == before


def test_other_settings_are_refused_and_named(tmp_path):
    write(tmp_path, [prediction(0)])
    other = {"model": "abc", "video_options": {"num_views": 1, "size": (224, 224)}}
    with pytest.raises(PredictionMismatchError, match=r"\(video_options\.num_views: stored 3, now 1\)"):
        open_store(tmp_path, other)
    with pytest.raises(PredictionMismatchError, match="model: stored 'abc', now 'xyz'"):
        open_store(tmp_path, {**HEADER, "model": "xyz"}, process_index=5)


def test_of_two_evaluations_that_begin_in_one_folder_the_later_one_is_refused(tmp_path):
    first, second = (open_store(tmp_path, header={**HEADER, "model": model}) for model in ("abc", "xyz"))
    with second:
        second.append([prediction(0)])
    before = (tmp_path / "predictions.0.jsonl").read_bytes()
    with pytest.raises(PredictionMismatchError, match="model: stored 'xyz', now 'abc'"), first:
        pass
    assert (tmp_path / "predictions.0.jsonl").read_bytes() == before


def test_what_another_evaluation_has_put_in_the_place_of_this_one_is_not_read(tmp_path):
    first = open_store(tmp_path)
    with first:
        first.append([prediction(0)])
        (tmp_path / "predictions.0.jsonl").unlink()
        with open_store(tmp_path, header={**HEADER, "model": "xyz"}) as second:
            second.append([prediction(0)])
        first.append([prediction(1)])
    with pytest.raises(PredictionMismatchError, match="model: stored 'xyz', now 'abc'"):
        list(first.read())


def test_a_file_that_is_no_predictions_file_is_refused(tmp_path):
    (tmp_path / "predictions.0.jsonl").write_text("hello\n")
    with pytest.raises(PredictionMismatchError, match="does not begin with a header"):
        open_store(tmp_path)


def test_stacking_needs_every_row_and_marks_undecodable_ones(tmp_path):
    failed = ClipPrediction(1, "b.mp4", None, "no frames")
    read = read_all(write(tmp_path, [prediction(0), failed]))
    assert read[1].error == "no frames"
    stacked = stack_view_logits(read.values(), num_rows=2)
    assert stacked.shape == (2, 2, 3)
    assert np.isnan(stacked[1]).all()
    with pytest.raises(ValueError, match=r"1 of 3 clips have no prediction yet, such as row 2"):
        stack_view_logits(read.values(), num_rows=3)
    with pytest.raises(ValueError, match="None of the videos"):
        stack_view_logits([ClipPrediction(0, "a.mp4", None, "no frames")], num_rows=1)
    with pytest.raises(ValueError, match="has no videos"):
        stack_view_logits([], num_rows=0)
    with pytest.raises(ValueError, match="row 1, but the table has 1 rows"):
        stack_view_logits(read.values(), num_rows=1)
    more_views = ClipPrediction(1, "b.mp4", np.zeros((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="rows 0 and 1 have different numbers of views"):
        stack_view_logits([read[0], more_views], num_rows=2)


TOP = [["juggling", 0.3333], ["bowling", 0.3333], ["golf", 0.3333]]
ENTRY = {"row": 1, "video": "b.mp4", "error": None, "top": TOP, "logits": base64.b64encode(bytes(24)).decode()}
ALTERED = {
    "a list": [1],
    "a number": 3,
    "another object": {"a": 1},
    "a row that is text": {**ENTRY, "row": "1"},
    "a row before the first": {**ENTRY, "row": -1},
    "a row behind the last": {**ENTRY, "row": 10},
    "logits of more views than there are": {**ENTRY, "logits": base64.b64encode(bytes(36)).decode()},
    "a video that is a number": {**ENTRY, "video": 7},
    "logits that are not base64": {**ENTRY, "logits": "?" * 32},
    "logits that are a list": {**ENTRY, "logits": [0.5]},
    "logits of another number of labels": {**ENTRY, "logits": base64.b64encode(bytes(16)).decode()},
    "logits of no view": {**ENTRY, "logits": ""},
    "logits that are NaN": {**ENTRY, "logits": base64.b64encode(np.full(3, np.nan, dtype="<f4").tobytes()).decode()},
    "neither logits nor an error": {**ENTRY, "logits": None},
    "logits and an error": {**ENTRY, "error": "no frames"},
    "a top of other labels": {**ENTRY, "top": [["swimming", 0.3333], *TOP[1:]]},
    "a top of other scores": {**ENTRY, "top": [["juggling", 0.9], *TOP[1:]]},
    "a top of fewer labels": {**ENTRY, "top": TOP[:1]},
    "a top that is text": {**ENTRY, "top": "juggling"},
    "no top": {name: value for name, value in ENTRY.items() if name != "top"},
}


@pytest.mark.parametrize("entry", [*ALTERED.values(), None], ids=[*ALTERED, "nested deeply"])
def test_an_altered_line_is_an_error_that_names_file_and_line(tmp_path, entry):
    write(tmp_path, [prediction(0)])
    with (tmp_path / "predictions.0.jsonl").open("a") as file:
        # With a hash to match: what a line says is checked, too.
        whole = with_checksum(entry) if isinstance(entry, dict) else entry
        file.write((json.dumps(whole) if entry else "[" * 100_000) + "\n")
    with pytest.raises(PredictionMismatchError, match=r"predictions\.0\.jsonl, line 3, is not a prediction"):
        read_all(open_store(tmp_path))


def test_a_line_with_a_field_twice_or_more_values_than_are_held_is_an_error(tmp_path, monkeypatch):
    write(tmp_path, [prediction(0)])
    file = tmp_path / "predictions.0.jsonl"
    header, line = file.read_text().splitlines()
    twice = line.replace("{", '{"row": 1, ', 1)
    file.write_text(f"{header}\n{twice}\n")
    with pytest.raises(PredictionMismatchError, match=r"line 2, is not a prediction .*'row' stands twice"):
        read_all(open_store(tmp_path))
    file.write_text(f"{header}\n{line}\n")
    monkeypatch.setattr(text_files, "MAX_JSON_MARKS", text_files.count_json_marks(line) - 1)
    with pytest.raises(PredictionMismatchError, match=r"line 2, is not a prediction .*more values"):
        read_all(open_store(tmp_path))


def test_an_entry_with_its_hash_is_a_prediction(tmp_path):
    write(tmp_path, [prediction(0)])
    with (tmp_path / "predictions.0.jsonl").open("a") as file:
        file.write(json.dumps(with_checksum(ENTRY)) + "\n")
    assert list(read_all(open_store(tmp_path))) == [0, 1]


def negated(line):
    logits = -np.frombuffer(base64.b64decode(line["logits"]), dtype="<f4")
    return {**line, "logits": base64.b64encode(logits.tobytes()).decode()}


@pytest.mark.parametrize("rehash", [False, True])
def test_scores_that_were_altered_are_an_error_that_names_file_and_line(tmp_path, rehash):
    write(tmp_path, [prediction(0), prediction(1)])
    file = tmp_path / "predictions.0.jsonl"
    header, first, second = file.read_text().splitlines()
    altered = negated(json.loads(second))
    altered = with_checksum(altered) if rehash else altered
    file.write_text("\n".join([header, first, json.dumps(altered)]) + "\n")
    with pytest.raises(PredictionMismatchError, match=r"predictions\.0\.jsonl, line 3, is not a prediction"):
        read_all(open_store(tmp_path))


@pytest.mark.parametrize("change", [{"video": "other.mp4"}, {"row": 5}], ids=str)
def test_names_and_rows_that_were_altered_are_an_error(tmp_path, change):
    write(tmp_path, [prediction(0)])
    file = tmp_path / "predictions.0.jsonl"
    header, line = file.read_text().splitlines()
    file.write_text(f"{header}\n{json.dumps({**json.loads(line), **change})}\n")
    with pytest.raises(PredictionMismatchError, match=r"line 2, is not a prediction .*altered or damaged"):
        read_all(open_store(tmp_path))


@pytest.mark.parametrize("name", ["predictions.0.jsonl", "predictions.1.jsonl"])
def test_a_line_that_is_longer_than_any_prediction_is_refused_without_reading_all_of_it(tmp_path, name):
    """Such as a file with a hole, which takes no room on a disk and gigabytes in memory."""
    write(tmp_path, [prediction(0)])
    with (tmp_path / name).open("ab") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(PredictionMismatchError, match=rf"{name}(, line 3, is not a p| does not begin)"):
            read_all(open_store(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_predictions_are_not_appended_to_a_file_with_a_second_name(tmp_path):
    write(tmp_path / "out", [prediction(0)])
    (tmp_path / "kept.jsonl").hardlink_to(tmp_path / "out/predictions.0.jsonl")
    before = (tmp_path / "kept.jsonl").read_bytes()
    with pytest.raises(ValueError, match="has a second name"), open_store(tmp_path / "out"):
        pass
    assert (tmp_path / "kept.jsonl").read_bytes() == before


@pytest.mark.parametrize("header", ["3", "null", "[1]", "[" * 100_000])
def test_an_altered_header_is_an_error_that_names_the_file(tmp_path, header):
    (tmp_path / "predictions.0.jsonl").write_text(f'{{"header": {header}}}\n')
    with pytest.raises(PredictionMismatchError, match=r"predictions\.0\.jsonl does not begin with a header"):
        open_store(tmp_path)


def test_scores_that_are_not_finite_are_never_stored(tmp_path):
    bad = ClipPrediction(1, "b\x1b.mp4", np.array([[0.0, np.inf, 0.0]], dtype=np.float32))
    with open_store(tmp_path) as store, pytest.raises(ValueError, match=r"row 1 \(b\\x1b\.mp4\) are not finite"):
        store.append([prediction(0), bad])
    assert read_all(open_store(tmp_path)) == {}


def test_a_header_for_which_there_is_no_room_is_an_error_that_names_the_file(tmp_path):
    script = (
        "import resource; from froster_hf.evaluation.predicting import PredictionStore\n"
        f"store = PredictionStore({str(tmp_path)!r}, header={{'model': 'a' * 9000}}, label_texts=['a'], num_clips=1, "
        "num_views=1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    store.__enter__()\nexcept OSError as error:\n    print(error)\n"
    )
    ended = run_python("-c", script)
    assert f"{tmp_path / 'predictions.0.jsonl'} cannot be written (File too large)" in ended.stdout
    assert not ended.stderr
