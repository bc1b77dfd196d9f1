"""Average precision of found segments by hand, and the protocol from rendered videos to a result folder."""

import hashlib
import json
import re
import tracemalloc
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import pipeline
from transformers.utils import logging

from froster_hf import processes, whole_files
from froster_hf.cli import main
from froster_hf.data.segment_lists import AnnotatedSegment, SegmentTable
from froster_hf.evaluation import (
    DetectionProtocol,
    TemporalDetection,
    evaluate_detection,
    load_protocol,
    segments,
    temporal_detection,
)
from froster_hf.evaluation.metrics import METRICS, Metric
from froster_hf.evaluation.predicting import PredictionMismatchError, with_checksum
from froster_hf.evaluation.segments import (
    DetectedSegment,
    class_average_precisions,
    interpolated_average_precision,
    match_segments,
    suppress_overlapping,
    temporal_iou,
)
from froster_hf.evaluation.temporal_detection import _detect, _most_bytes, _predictions, _stored_detection
from froster_hf.fingerprints import architecture_of, model_fingerprint
from froster_hf.hub import read_measured_results
from froster_hf.video.decoding import VideoDecodeError
from tests.fixtures.tiny import save_tiny_checkpoint, tiny_model, tiny_processor
from tests.fixtures.videos import VIDEO_KINDS, render_video


def found(start, end, score, video="v", label="a"):
    return DetectedSegment(video, label, start, end, score)


def true(start, end, video="v", label="a"):
    return AnnotatedSegment(video, label, start, end)


def precision(detections, truths, iou=0.5, label="a"):
    return class_average_precisions(match_segments(detections, truths, iou_thresholds=[iou]))[label][0]


def test_overlap_is_intersection_over_union():
    others = np.array([[0.0, 10.0], [5.0, 15.0], [10.0, 20.0], [12.0, 13.0], [2.0, 4.0]])
    np.testing.assert_allclose(temporal_iou(np.array([0.0, 10.0]), others), [1, 5 / 15, 0, 0, 0.2])
    assert temporal_iou(np.array([3.0, 3.0]), np.array([[3.0, 3.0]])).tolist() == [0]


def test_the_curve_is_interpolated():
    # Right, wrong, right, of two: precision 1 at recall 1/2, then 2/3 at recall 1.
    assert interpolated_average_precision(np.array([True, False, True]), 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # Wrong, right, right, of four: the precision 2/3 at recall 1/2 holds for recall 1/4 too; the rest is never found.
    assert interpolated_average_precision(np.array([False, True, True]), 4) == pytest.approx(0.5 * 2 / 3)
    assert interpolated_average_precision(np.array([], dtype=bool), 3) == 0


def test_a_true_segment_is_found_once_by_the_best_score():
    truths = [true(0, 10), true(20, 30)]
    twice = [found(0, 10, 0.9), found(1, 10, 0.8), found(20, 30, 0.7)]
    # Right, wrong (taken), right.
    assert precision(twice, truths) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert precision(list(reversed(twice)), truths) == precision(twice, truths)


def test_a_found_segment_takes_the_free_one_that_it_overlaps_most():
    truths = [true(0, 10), true(4, 14)]
    # The first lies on the second true segment more; the other is left for what comes after.
    assert precision([found(3, 13, 0.9), found(0, 9, 0.8)], truths) == 1.0
    # The better one is taken, the next best overlaps enough.
    assert precision([found(4, 14, 0.9), found(2, 12, 0.8)], truths, iou=0.6) == 1.0


def test_many_true_segments_of_a_video_are_not_walked_through_one_by_one(monkeypatch):
    """A million lines of an annotation file may be of one video."""
    looked_at = 0

    class Overlaps(np.ndarray):
        def __getitem__(self, key):
            nonlocal looked_at
            looked_at += isinstance(key, int | np.integer)
            return super().__getitem__(key)

    monkeypatch.setattr(segments, "temporal_iou", lambda *spans: temporal_iou(*spans).view(Overlaps))
    detections = [found(0.0, 600.0 / (1 + row % 2), float(row)) for row in range(20)]
    matches = match_segments(detections, [true(0.0, 600.0)] * 1000, iou_thresholds=(0.3, 0.7))
    assert matches["a"].hits.sum(axis=1).tolist() == [20, 10]
    assert looked_at < 1000


def test_classes_videos_and_thresholds_are_told_apart():
    truths = [true(0, 10), true(0, 10, label="b"), true(0, 10, video="w")]
    detections = [
        found(0, 10, 0.5),
        found(0, 8, 0.9, label="b"),
        found(0, 10, 0.4, label="c"),
        found(50, 60, 0.1, "x"),
    ]
    by_class = class_average_precisions(match_segments(detections, truths, iou_thresholds=[0.5, 0.8, 0.9]))
    assert set(by_class) == {"a", "b"}
    np.testing.assert_allclose(by_class["a"], [0.5, 0.5, 0.5])
    np.testing.assert_allclose(by_class["b"], [1, 1, 0])
    with pytest.raises(ValueError, match="infinite or NaN"):
        match_segments([found(0, 1, float("nan"))], truths, iou_thresholds=[0.5])


def test_of_overlapping_candidates_the_best_stays():
    candidates = [found(0, 10, 0.5), found(1, 10, 0.9), found(1, 10, 0.4, label="b"), found(8, 20, 0.3)]
    kept = suppress_overlapping(candidates, max_iou=0.5)
    assert sorted((s.label, s.score) for s in kept) == [("a", 0.3), ("a", 0.9), ("b", 0.4)]


def test_the_module_computes_from_rows_and_from_batches():
    rows = [{k: v for k, v in asdict(s).items() if k != "video"} for s in (found(0, 10, 0.9), found(50, 60, 0.8))]
    truths = [{k: v for k, v in asdict(s).items() if k != "video"} for s in (true(0, 10), true(20, 30, label="b"))]
    module = TemporalDetection()
    for predictions, references in (([rows], [truths]), ([rows, []], [truths[:1], truths[1:]])):
        module.add_batch(predictions=predictions, references=references)
        result = module.compute(iou_thresholds=[0.5, 0.95])
        assert result["map"] == [0.5, 0.5]
        assert result["average_precisions"] == {"a": [1.0, 1.0], "b": [0.0, 0.0]}
    assert np.isnan(module._compute([[]], [[]])["average_map"])


def tiny_pipeline(seed):
    processor = tiny_processor()
    processor.background_labels = ["an empty room", "a landscape"]
    return pipeline("zero-shot-video-classification", model=tiny_model(seed), processor=processor)


@pytest.fixture(scope="module")
def classify():
    return tiny_pipeline(0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection")
    database = {}
    for name, frames in (("a", 60), ("b", 80)):
        render_video(folder / f"v_{name}.mp4", VIDEO_KINDS["h264_mp4"], num_frames=frames)
        annotations = [{"label": "Archery", "segment": [0, 1]}, {"label": "Zumba", "segment": [1, 2]}]
        database[name] = {"subset": "validation", "annotations": annotations}
    (folder / "v_c.mp4").write_text("not a video")
    database["c"] = {"subset": "validation", "annotations": [{"label": "Zumba", "segment": [0, 1]}]}
    (folder / "list.json").write_text(json.dumps({"database": database}))
    return {"root": str(folder), "annotations": str(folder / "list.json")}


PROTOCOL = DetectionProtocol(
    "mine", "temporal_detection", "activitynet", subset="validation", window_seconds=1.0, stride_seconds=0.5
)


def test_detection_gives_a_report_and_goes_on_where_it_was(classify, data, tmp_path, monkeypatch):
    done, models = [], {"tiny": classify}
    report = evaluate_detection(
        PROTOCOL, models=models, data=data, output_dir=tmp_path, on_video=lambda *counts: done.append(counts)
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert set(report["results"]["tiny"]["map"]) == {"0.3", "0.4", "0.5", "0.6", "0.7"}
    assert report["results"]["tiny"]["num_segments"] == 5
    assert list(report["results"]["tiny"]["unreadable"]) == ["v_c.mp4"]
    assert report["videos"] == ["v_a.mp4", "v_b.mp4", "v_c.mp4"]
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(report))
    assert "| 0.3 | 0.4 | 0.5 | 0.6 | 0.7 | average |" in (tmp_path / "result.md").read_text()

    (tmp_path / "predictions" / "model_0" / "000001.json").unlink()
    seen = []
    timeline = classify.timeline
    monkeypatch.setattr(classify, "timeline", lambda video, *a, **k: seen.append(video) or timeline(video, *a, **k))
    assert evaluate_detection(PROTOCOL, models=models, data=data, output_dir=tmp_path) == report
    assert [video.rpartition("/")[2] for video in seen] == ["v_b.mp4"]

    other = replace(PROTOCOL, ranking="contrast")
    with pytest.raises(PredictionMismatchError, match="holds the result of another evaluation"):
        evaluate_detection(other, models=models, data=data, output_dir=tmp_path)
    (tmp_path / "result.json").unlink()
    with pytest.raises(PredictionMismatchError, match=r"protocol\.ranking: stored 'score', now 'contrast'"):
        evaluate_detection(other, models=models, data=data, output_dir=tmp_path)
    evaluate_detection(other, models=models, data=data, output_dir=tmp_path, overwrite=True)
    assert len(seen) == 4


def test_segments_that_no_video_has_and_those_that_stand_twice_are_said(classify, data, tmp_path):
    times = [{"label": "Archery", "segment": segment} for segment in ([0, 1], [0, 1], [1000, 2000])]
    database = {"a": {"subset": "validation", "annotations": times}, "c": {"subset": "validation", "annotations": []}}
    (tmp_path / "list.json").write_text(json.dumps({"database": database}))
    changed = {**data, "annotations": str(tmp_path / "list.json")}
    report = evaluate_detection(PROTOCOL, models={"tiny": classify}, data=changed, output_dir=tmp_path / "out")
    read, late = report["notes"]
    assert read.endswith("3 segments. 1 segments stand more than once, and count as often.")
    assert late.startswith("1 of 3 segments begin behind the end of their videos")


def test_a_detection_that_another_one_has_replaced_while_it_ran_ends_in_words(classify, data, tmp_path, monkeypatch):
    """Whichever of the two reads what the other has written, where files cannot be locked."""
    monkeypatch.setattr(whole_files, "fcntl", None)
    other = tiny_pipeline(5)

    def replace_it(num_done, _):
        if num_done == 1:
            evaluate_detection(PROTOCOL, models={"tiny": other}, data=data, output_dir=tmp_path, overwrite=True)

    with pytest.raises(PredictionMismatchError, match="it is of an evaluation of another model"):
        evaluate_detection(PROTOCOL, models={"tiny": classify}, data=data, output_dir=tmp_path, on_video=replace_it)


CALIBRATION = {
    **{"scale": 2.0, "bias": 1.0, "threshold": 0.5},
    "background_labels": ["an empty room", "a landscape"],
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prompt_templates": ["nothing but {}"]}, "prompts: stored"),
        ({"label_descriptions": {"zumba": "a dance"}}, "prompts: stored"),
        ({"calibration": CALIBRATION}, "settings: stored"),
        ({"background_labels": ["an empty room", "a street"]}, "settings: stored"),
        ({"num_frames": 2}, "settings: stored"),
        ({"image_mean": [0.1, 0.2, 0.3]}, "settings: stored"),
    ],
)
def test_detections_by_another_processor_are_not_gone_on_with(data, tmp_path, change, expected):
    evaluate_detection(PROTOCOL, models={"tiny": tiny_pipeline(0)}, data=data, output_dir=tmp_path)
    (tmp_path / "result.json").unlink()
    other = tiny_pipeline(0)
    for name, value in change.items():
        setattr(other.processor if hasattr(other.processor, name) else other.processor.video_processor, name, value)
    with pytest.raises(PredictionMismatchError, match=expected):
        evaluate_detection(PROTOCOL, models={"tiny": other}, data=data, output_dir=tmp_path)


def test_a_model_without_a_background_of_its_own_takes_the_one_of_the_call(data, tmp_path, capsys):
    """As its refusal says, by the verb as well; detections with another one are not gone on with."""
    save_tiny_checkpoint(tmp_path / "model", ["a video of {}."])
    fields = {name: value for name, value in asdict(PROTOCOL).items() if name != "name" and value is not None}
    (tmp_path / "mine.yaml").write_text(json.dumps({"about": "two videos", **fields}))
    command = ["evaluate", str(tmp_path / "mine.yaml"), "--model", str(tmp_path / "model")]
    command += ["--root", data["root"], "--annotations", data["annotations"], "--output", str(tmp_path / "out")]
    assert main(command) == 1
    assert re.search("no background of its own.*--background", capsys.readouterr().err)
    assert main([*command, "--background", "an empty room,a street"]) == 0
    (result,) = json.loads((tmp_path / "out" / "result.json").read_text())["results"].values()
    assert "an empty room" in result["compared_with"]
    assert "a street" in result["compared_with"]
    assert main([*command, "--background", "an empty room"]) == 1
    assert "settings: stored" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--model", "small", "--background", "a street"]) == 1
    assert "--background has no effect on own videos" in capsys.readouterr().err


def later(entry):
    return {**entry, "segments": [{**entry["segments"][0], "end_seconds": 1e9}]}


ALTERED = {
    "later, under the old hash": later,
    "an error, under the old hash": lambda entry: {**entry, "error": "no frames"},
    "another label": lambda entry: with_checksum({**entry, "segments": [{**entry["segments"][0], "label": "Golf"}]}),
    "text as a score": lambda entry: with_checksum({**entry, "segments": [{**entry["segments"][0], "score": "x"}]}),
    "a segment that is a list": lambda entry: with_checksum({**entry, "segments": [[1]]}),
    "no segments": lambda entry: with_checksum({name: value for name, value in entry.items() if name != "segments"}),
    "an error that is a list": lambda entry: with_checksum({**entry, "error": []}),
    "another evaluation": lambda entry: with_checksum({**entry, "evaluation": "b2"}),
    "another video": lambda entry: with_checksum({**entry, "video": "w.mp4"}),
    "no video": lambda entry: with_checksum({name: value for name, value in entry.items() if name != "video"}),
    "more than are kept of a video": lambda entry: with_checksum({**entry, "segments": entry["segments"] * 2}),
    "a long error": lambda entry: with_checksum({**entry, "error": "x" * 10_000}),
    "a large file": lambda entry: with_checksum({**entry, "more": "x" * 2**18}),
    "a list": lambda entry: [entry],
    "no hash": lambda entry: {name: value for name, value in entry.items() if name != "sha256"},
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_altered_detections_are_an_error_that_names_the_file(tmp_path, change):
    segment = {"label": "Zumba", "start_seconds": 0.0, "end_seconds": 1.0, "score": 0.5}
    sound = with_checksum({"video": "v.mp4", "evaluation": "a1", "duration_seconds": 2.0, "segments": [segment]})
    file = tmp_path / "000000.json"
    file.write_text(json.dumps(sound))
    most = (1, _most_bytes(["Zumba"], 1))
    assert _stored_detection(file, "v.mp4", ["Zumba"], "a1", *most)["segments"] == [segment]
    file.write_text(json.dumps(change(sound)))
    with pytest.raises(PredictionMismatchError, match=r"000000\.json is not a stored prediction"):
        _stored_detection(file, "v.mp4", ["Zumba"], "a1", *most)


def test_what_is_kept_of_a_video_is_read_again_however_it_is_called(tmp_path):
    label, name = "\U0001f3a5" * 300, "\x1b" * 4000
    score = -1.2345678901234567e-05
    segments = [{"label": label, "start_seconds": score, "end_seconds": -score, "score": score}] * 100
    stored = with_checksum({"video": name, "evaluation": "a" * 64, "duration_seconds": 2.0, "segments": segments})
    file = tmp_path / "000000.json"
    file.write_text(json.dumps(stored))
    assert _stored_detection(file, name, [label], "a" * 64, 100, _most_bytes([label], 100))["segments"] == segments


def test_a_long_reason_why_a_video_cannot_be_read_is_cut(tmp_path):
    def fail(*_, **__):
        raise VideoDecodeError("\x1b[2J\n" * 10_000)

    found = _detect(SimpleNamespace(timeline=fail), "v.mp4", ["Zumba"], PROTOCOL, 1, {})
    assert found["error"].isprintable()
    stored = with_checksum({"video": "v.mp4", "evaluation": "a1", **found})
    (tmp_path / "000000.json").write_text(json.dumps(stored))
    most = (1, _most_bytes(["Zumba"], 1))
    assert _stored_detection(tmp_path / "000000.json", "v.mp4", ["Zumba"], "a1", *most) == stored


@pytest.mark.parametrize(
    ("most", "told"),
    [
        ("MOST_CANDIDATES", r"more than 0 segments of '\w+' are"),
        ("MOST_CANDIDATES_OF_ALL", "more than 0 .* all labels"),
        ("MOST_COMPARED", r"\d+ windows of 2 labels and \d thresholds are \d+ comparisons, more than 0\."),
    ],
)
def test_a_video_with_more_candidates_than_are_compared_is_named_and_ends_no_evaluation(
    classify, data, tmp_path, monkeypatch, most, told
):
    monkeypatch.setattr(temporal_detection, most, 0)
    report = evaluate_detection(PROTOCOL, models={"tiny": classify}, data=data, output_dir=tmp_path)
    unreadable = report["results"]["tiny"]["unreadable"]
    assert list(unreadable) == ["v_a.mp4", "v_b.mp4", "v_c.mp4"]
    assert re.match(told, unreadable["v_a.mp4"])


def test_of_all_videos_together_no_more_segments_are_kept_than_memory_has_room_for(
    classify, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(temporal_detection, "MOST_KEPT", 3)
    monkeypatch.setattr(temporal_detection, "LEAST_KEPT_OF_A_VIDEO", 0)
    report = evaluate_detection(PROTOCOL, models={"tiny": classify}, data=data, output_dir=tmp_path)
    unreadable = report["results"]["tiny"]["unreadable"]
    assert "of so many videos, at most 1 of each are kept" in unreadable["v_a.mp4"]
    tracemalloc.start()
    try:
        held = segments.FoundSegments(found(number, number + 1.0, 0.5) for number in range(100_000))
        assert tracemalloc.get_traced_memory()[1] < 64 * len(held)
    finally:
        tracemalloc.stop()
    assert len(held) == 100_000


def test_more_average_precisions_than_a_report_has_are_refused_before_a_video_is_read(
    classify, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(temporal_detection, "MOST_PRECISIONS", 3)
    with pytest.raises(ValueError, match=r"classes at \d+ `iou_thresholds` have .* at most 3. Take fewer thresholds"):
        evaluate_detection(PROTOCOL, models={"tiny": classify}, data=data, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_segment_takes_the_best_free_truth_at_each_threshold():
    true = [AnnotatedSegment("v", "a", *span) for span in ((0, 10), (0, 8))]
    found = [DetectedSegment("v", "a", 0, end, score) for end, score in ((9, 0.9), (10, 0.8), (9, 0.7), (50, 0.6))]
    hits = match_segments(found, true, iou_thresholds=[0.5, 0.89, 0.95])["a"].hits
    assert hits.tolist() == [[True, True, False, False], [True, False, False, False], [False, True, False, False]]


def test_videos_of_the_same_name_in_two_folders_are_told_apart(classify, tmp_path):
    def data_of(*names):
        entry = {"subset": "validation", "annotations": [{"label": "Archery", "segment": [0, 1]}]}
        (tmp_path / "list.json").write_text(json.dumps({"database": dict.fromkeys(names, entry)}))
        return {"root": str(tmp_path), "annotations": str(tmp_path / "list.json")}

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.mp4").write_text("not a video")
    report = evaluate_detection(
        PROTOCOL, models={"t": classify}, data=data_of("a/1", "b/1"), output_dir=tmp_path / "o"
    )
    assert report["videos"] == list(report["results"]["t"]["unreadable"]) == ["a/1.mp4", "b/1.mp4"]
    assert "2 videos could not be read." in (tmp_path / "o" / "result.md").read_text()
    evaluate_detection(PROTOCOL, models={"t": classify}, data=data_of("a/1"), output_dir=tmp_path / "other")
    with pytest.raises(PredictionMismatchError, match="data: stored"):
        evaluate_detection(PROTOCOL, models={"t": classify}, data=data_of("b/1"), output_dir=tmp_path / "other")
    data = data_of("a/1")
    (tmp_path / "a" / "1.mp4").write_text("another file")
    with pytest.raises(PredictionMismatchError, match="data: stored"):
        evaluate_detection(PROTOCOL, models={"t": classify}, data=data, output_dir=tmp_path / "other")


def test_several_processes_are_refused_before_anything_is_written(classify, data, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ValueError, match="runs in one process, but 2 were started"):
        evaluate_detection(PROTOCOL, models={"tiny": classify}, data=data, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_models_and_a_new_metric_are_rows_and_a_table_and_reach_the_card(
    classify, data, tmp_path, monkeypatch
):
    def recall(matches):
        return sum(match.hits.sum(axis=1) for match in matches.values()) / sum(m.num_true for m in matches.values())

    entry = Metric(recall, "share of the segments that are found", needs="segments", card_type="recall")
    monkeypatch.setitem(METRICS, "recall", entry)
    models = {"first": classify, "second": tiny_pipeline(1)}
    report = evaluate_detection(PROTOCOL, models=models, data=data, output_dir=tmp_path)
    alone = evaluate_detection(PROTOCOL, models={"s": models["second"]}, data=data, output_dir=tmp_path / "alone")
    assert list(report["results"]) == ["first", "second"]
    assert report["results"]["second"] == alone["results"]["s"]
    table = (tmp_path / "result.md").read_text()
    assert table.count("| first |") == table.count("| second |") == 2
    assert "Share of the segments that are found in percent" in table

    model = models["second"].model
    second = {"fingerprints": {model_fingerprint(model)}, "architecture": architecture_of(model)}
    found = {(r.part, r.metric): r for r in read_measured_results(tmp_path, **second)}
    numbers = report["results"]["second"]
    assert found["IoU 0.5", "map"].value == numbers["map"]["0.5"]
    assert found["all", "recall"].value == numbers["average_recall"]
    assert found["all", "map"].remarks[0] == "mean over IoU 0.3, 0.4, 0.5, 0.6, 0.7"
    assert found["all", "map"].to_eval_result().metric_type == "mean_average_precision"
    assert len(found) == 2 * 6


def test_a_model_without_a_background_is_named_before_any_video_is_read(classify, data, tmp_path, monkeypatch):
    other = tiny_pipeline(1)
    other.processor.background_labels = None
    monkeypatch.setattr(classify, "timeline", lambda *args, **kwargs: pytest.fail("a video was read"))
    with pytest.raises(ValueError, match=r"^second: Each label for itself has nothing to be compared with"):
        evaluate_detection(
            PROTOCOL, models={"first": classify, "second": other}, data=data, output_dir=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_protocols_of_the_other_kind_are_refused(classify, data, tmp_path):
    with pytest.raises(ValueError, match="`evaluate_protocol` runs it"):
        evaluate_detection("base_to_novel_ucf101", models={"tiny": classify}, data=data, output_dir=tmp_path)
    for changes in ({"iou_thresholds": ()}, {"thresholds": (2.0,)}, {"dataset": "ucf101"}, {"seeds": (1,)}):
        with pytest.raises(ValueError, match="Protocol mine"):
            replace(PROTOCOL, **changes)


def test_rendered_long_videos_are_the_same_again_and_are_evaluated_from_the_shell(classify, tmp_path, capsys):
    from froster_hf.shapes.tables import long_videos

    protocol = load_protocol("moving_shapes_detection", ["seeds=[7]", "labels_per_video=2"])
    table = long_videos(protocol, root=tmp_path / "videos")
    assert long_videos(protocol, root=tmp_path / "videos") == table
    assert len(table.labels) == 2
    assert len(table.segments) == 4
    assert all(a.end_seconds < b.start_seconds for a, b in zip(table.segments, table.segments[1:]))
    classify.model.save_pretrained(tmp_path / "model")
    classify.processor.save_pretrained(tmp_path / "model")
    arguments = ["evaluate", "moving_shapes_detection", "seeds=[7]", "labels_per_video=2", "stride_seconds=4"]
    where = [
        "--model",
        str(tmp_path / "model"),
        "--root",
        str(tmp_path / "videos"),
        "--output",
        str(tmp_path / "out"),
    ]
    # Where bars are turned off, transformers' stand-in counts nothing.
    logging.disable_progress_bar()
    try:
        assert main([*arguments, *where]) == 0
    finally:
        logging.enable_progress_bar()
    assert "on 1 videos with 4 segments" in capsys.readouterr().out


def test_stored_segments_are_not_compared_with_every_label(tmp_path):
    compared = []

    class Label(str):
        def __eq__(self, other):
            compared.append(other)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [f"label {number}" for number in range(300)]
    segments = [{"label": name, "start_seconds": 0.0, "end_seconds": 1.0, "score": 0.5} for name in names]
    evaluation = hashlib.sha256(b"{}").hexdigest()
    stored = with_checksum({"video": "a.mp4", "evaluation": evaluation, "duration_seconds": 1.0, "segments": segments})
    (tmp_path / "000000.json").write_text(json.dumps(stored))
    table = SegmentTable([Label(name) for name in names], ["/videos/a.mp4"], [], "")
    (found,) = _predictions(None, None, table, ["a.mp4"], {}, tmp_path, batch_size=1)
    assert len(found["segments"]) == 300
    assert len(compared) < 3000


def test_what_a_report_repeats_of_files_is_text_in_its_markdown():
    told = "![x](https://evil.example/p.png) <img src=x>"
    row = {"map": {"0.5": 1.0}, "average_map": 1.0, "num_videos": 1, "num_segments": 1, "unreadable": {}}
    report = {
        "protocol": {"name": told},
        "results": {told: row | {"compared_with": told}, "b": row | {"compared_with": told, "unreadable": {"v": "e"}}},
        "checkpoints": ["ab"],
        "notes": [told],
    }
    text = temporal_detection.detection_markdown(report)
    assert text.count(r"!\[x\](https&#58;//evil.example/p.png) &lt;img src=x&gt;") == 5
    assert not re.search(r"(?<!\\)\[x|<img|https:", text)
