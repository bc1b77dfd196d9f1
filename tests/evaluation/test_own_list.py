"""Own labeled videos: folders and lists, several models, several labels per video, and the page of what went wrong."""

import json
import os
import re
import shutil
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from froster_hf import load_pipeline
from froster_hf.assets import SMALL_CLIP
from froster_hf.cli import main
from froster_hf.data import AnnotationError, read_videos
from froster_hf.data.video_table import label_matrix, label_names, video_features
from froster_hf.evaluation import MultiLabelPrecision, evaluate_videos, own_list
from froster_hf.evaluation.evaluating import prepare_folder, put_in_place
from froster_hf.evaluation.metrics import METRICS, Metric, average_precisions, compute, f1_score, paired_intervals
from froster_hf.evaluation.own_list import confusions, keep_descriptions, save_variant
from froster_hf.evaluation.plots import plot_confusion
from froster_hf.evaluation.protocols import Part, evaluate_scores
from froster_hf.evaluation.report import cell, write_result
from froster_hf.pipeline import scoring_froster
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from froster_hf.whole_files import ResultExistsError

CLASSES = [
    MovingShape("red", "star", "sliding left"),
    MovingShape("blue", "square", "pulsing"),
    MovingShape("green", "circle", "blinking"),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three class folders of three rendered videos, a list of them, and a list with several labels or none."""
    folder = tmp_path_factory.mktemp("videos")
    rendered = write_moving_shapes(folder / "rendered", CLASSES, clips_per_class=3, seed=1)
    single, several = ["video,label"], []
    for number, row in enumerate(rendered):
        label = str(CLASSES[row["label"]])
        name = f"{number}.mp4"
        (folder / "classes" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(row["video"], folder / "classes" / label / name)
        single.append(f"classes/{label}/{name},{label}")
        labels = [label, "a person juggling"] if number % 3 == 0 else [label] if number % 3 == 1 else []
        several.append(json.dumps({"video": f"classes/{label}/{name}", "label": labels}))
    (folder / "list.csv").write_text("\n".join(single))
    (folder / "several.jsonl").write_text("\n".join(several))
    return folder


@pytest.fixture(scope="module")
def result(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    models = ["--model", str(SMALL_CLIP), "small"]
    assert main(["evaluate", str(videos / "classes"), *models, "--output", str(folder), "--calibrate"]) == 0
    return folder


def test_a_folder_is_measured_and_models_are_compared_on_the_same_videos(result):
    report = json.loads((result / "result.json").read_text())
    first, second = report["models"].values()
    assert second["top1"] == 100.0
    assert first["num_clips"] == 9
    assert second["difference"] == pytest.approx(second["top1"] - first["top1"], abs=0.02)
    low, high = second["difference_interval"]
    assert low <= second["difference"] <= high
    assert len(report["mistakes"]) == round(9 * (1 - first["top1"] / 100))
    assert sum(entry["count"] for entry in report["confusions"]) == len(report["mistakes"])


def test_the_page_shows_what_went_wrong_with_pictures(result):
    page = (result / "index.html").read_text()
    report = json.loads((result / "result.json").read_text())
    assert page.count("data:image/jpeg;base64,") == len(report["mistakes"])
    for entry in report["confusions"]:
        assert f"of {entry['of']} videos of &quot;{entry['true']}&quot;" in page
    for picture in ("plots/confusion_model_0.png", "plots/classes_model_1.png"):
        assert f'src="{picture}"' in page
        assert (result / picture).is_file()
    assert "<script" not in page


def test_a_list_gives_the_numbers_of_its_folder(videos, result, tmp_path):
    report = evaluate_videos(
        videos / "list.csv", models={"small": load_pipeline("small", device="cpu")}, output_dir=tmp_path
    )
    folder = json.loads((result / "result.json").read_text())
    assert report["models"]["small"]["class_accuracies"] == folder["models"]["small"]["class_accuracies"]


def test_one_label_to_choose_from_is_refused(videos, tmp_path, capsys):
    """Whatever the model answers would be right."""
    rows = (videos / "list.csv").read_text().splitlines()[:4]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    command = ["evaluate", str(tmp_path / "list.csv"), "--root", str(videos), "--model", "small"]
    for choosing in ([], ["--choose-templates"]):
        assert main([*command, *choosing, "--output", str(tmp_path / "result")]) == 1
        assert re.search("one label to choose from, .*Name the others: .*--labels FILE", capsys.readouterr().err)
    # One that may be there or not, and one of several that could be taken for it, are measured.
    (tmp_path / "labels.txt").write_text("\n".join(map(str, CLASSES)))
    assert main([*command, "--multi-label", "--output", str(tmp_path / "present")]) == 0
    named = ["--labels", str(tmp_path / "labels.txt"), "--output", str(tmp_path / "result")]
    assert main([*command, *named]) == 0
    assert "3 videos, 3 labels (2 of them of no video)" in capsys.readouterr().out


def test_labels_that_no_video_has_take_no_memory_for_each_of_their_pairs(tmp_path):
    """A label file of a hundred kilobytes would take gigabytes."""
    names, rows = [f"label {number}" for number in range(20_000)], np.arange(3)
    scores = np.zeros((3, len(names)))
    scores[rows, [5, 9, 9]] = 1.0
    tracemalloc.start()
    try:
        part = evaluate_scores(Part("all", rows, np.arange(len(names))), scores, np.array([5, 5, 7]), names)
        assert [(entry["true"], entry["predicted"], entry["count"], entry["of"]) for entry in confusions(part)] == [
            ("label 5", "label 9", 1, 2),
            ("label 7", "label 9", 1, 1),
        ]
        plot_confusion(part.confusion, part.labels, tmp_path / "confusion.png", title="many labels")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 7], "Row 1 of the data set has the label 7, of 2 names"),
        ([-1, 0], "Row 0 of the data set has the label -1"),
        ([[0], [1, None]], "Row 1 of the data set has the label None"),
        ([[], None], "Row 1 of the data set has the label None"),
    ],
)
def test_a_table_with_other_labels_than_its_names_is_refused_before_a_video_is_read(tmp_path, labels, told):
    columns = {"video": ["a.mp4"] * 2, "labels" if isinstance(labels[0], list) else "label": labels}
    table = Dataset.from_dict(columns)
    # As a file brings them, which are not compared with the names.
    table.info.features = video_features(["a", "b"], multi_label="labels" in columns)
    with pytest.raises(AnnotationError, match=told):
        evaluate_videos(table, models={"m": None}, output_dir=tmp_path / "result")
    with pytest.raises(TypeError, match="`videos` is of the type IterableDataset"):
        evaluate_videos(table.to_iterable_dataset(), models={"m": None}, output_dir=tmp_path / "result")
    assert not (tmp_path / "result").exists()


def test_labels_in_a_result_act_on_no_terminal(tmp_path):
    write_result({"labels": ["é", "a\u202e\u009b2J"]}, "", tmp_path)
    text = (tmp_path / "result.json").read_text()
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text)["labels"] == ["é", "a\u202e\u009b2J"]


def test_labels_in_a_table_are_neither_pictures_nor_links():
    """A viewer of Markdown would fetch a picture, and so tell that somebody reads."""
    assert cell("![a](http://example.org/a.png) `b` c|d *e* <f>\nh") == (
        r"!\[a\](http&#58;//example.org/a.png) \`b\` c\|d \*e\* &lt;f&gt;\\nh"
    )


def test_the_calibrated_checkpoint_is_a_checkpoint(result):
    classify = load_pipeline(result / "calibrated", device="cpu")
    report = json.loads((result / "result.json").read_text())
    assert classify.processor.calibration == report["calibration"]
    assert classify.scoring(["a red star", "a blue square"], multi_label=True).calibration is not None


@pytest.mark.parametrize("is_link", [False, True])
def test_an_earlier_checkpoint_stays_where_a_new_one_cannot_be_written(tmp_path, is_link):
    earlier = tmp_path / ("elsewhere" if is_link else "calibrated")
    earlier.mkdir()
    (earlier / "model.safetensors").write_text("earlier")
    if is_link:
        (tmp_path / "calibrated").symlink_to(earlier)

    class Pipeline:
        """Fails as safetensors does on a full disk, and then does not."""

        is_full = True

        def save_pretrained(self, folder):
            (folder / "model.safetensors").write_text("new")
            if self.is_full:
                raise RuntimeError("Error while serializing: I/O error: File too large (os error 27)")

    classify = Pipeline()
    with pytest.raises(OSError, match=r"calibrated cannot be written \(Error while serializing.*Is the disk full\?"):
        save_variant(classify, tmp_path / "calibrated")
    assert (tmp_path / "calibrated/model.safetensors").read_text() == "earlier"
    classify.is_full = False
    save_variant(classify, tmp_path / "calibrated")
    assert (tmp_path / "calibrated/model.safetensors").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"calibrated", earlier.name}
    # Nothing is written behind a link.
    assert (earlier / "model.safetensors").read_text() == ("earlier" if is_link else "new")


def test_a_calibration_is_saved_with_the_descriptions_that_it_was_fitted_with(videos, tmp_path, caplog):
    classify = load_pipeline("small", device="cpu")
    labels = sorted({*map(str, CLASSES), "a person juggling"})
    described = {label: [f"{label} on gray", "a shape"] for label in labels} | {labels[0]: None}
    classify.processor.label_descriptions = {labels[0]: "a person", "golf": "a ball is hit"}
    classify.model.set_labels(["golf"], text_embeds=classify.label_embeds(["golf"]))
    options = {"multi_label": True, "calibrate": True, "descriptions": described, "text_pooling": "max"}
    fitted = evaluate_videos(
        videos / "several.jsonl", models={"small": classify}, output_dir=tmp_path / "first", **options
    )
    assert "keep the embeddings of the former prompts" in caplog.text
    saved = load_pipeline(tmp_path / "first/calibrated", device="cpu")
    assert saved.processor.text_pooling == "max"
    assert saved.processor.label_descriptions["golf"] == "a ball is hit"
    again = evaluate_videos(
        videos / "several.jsonl", models={"small": saved}, output_dir=tmp_path / "second", multi_label=True
    )
    numbers = [report["models"]["small"] for report in (fitted, again)]
    assert numbers[0] == numbers[1]


def test_the_report_that_names_a_calibrated_checkpoint_comes_after_it(videos, tmp_path, monkeypatch):
    def fail(classify, folder):
        raise OSError("full")

    monkeypatch.setattr("froster_hf.evaluation.own_list.save_variant", fail)
    small = {"small": load_pipeline("small", device="cpu")}
    with pytest.raises(OSError, match="full"):
        evaluate_videos(videos / "classes", models=small, output_dir=tmp_path, calibrate=True)
    assert not (tmp_path / "result.json").exists()


def test_several_labels_per_video_are_measured_by_every_metric_of_theirs(videos, tmp_path, capsys, monkeypatch):
    counts = {"labels": "labels of the videos", "answers": "answers that are right"}
    for needs, title in counts.items():
        toy = Metric(lambda first, present: float(present.sum()), title, needs=needs, unit="labels")
        monkeypatch.setitem(METRICS, f"num_{needs}_there", toy)
    command = ["evaluate", str(videos / "several.jsonl"), "--multi-label", "--model", "small", "--calibrate"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "result.json").read_text())
    numbers = report["models"]["small"]
    assert report["labels"] == sorted({*map(str, CLASSES), "a person juggling"})
    known = [value for value in numbers["average_precisions"].values() if value is not None]
    assert numbers["mean_average_precision"] == pytest.approx(np.mean(known), abs=0.01)
    assert 0 < numbers["f1_at_threshold"] <= 100
    assert numbers["num_labels_there"] == numbers["num_answers_there"] == 9
    printed = capsys.readouterr().out
    assert all(f"| {heading} |" in printed for heading in ("mAP", *counts.values()))
    assert all(entry["true"] for entry in report["mistakes"]), "a video without labels cannot be taken for another"


def test_labels_of_a_video_may_stand_in_one_field_or_in_several_lines(videos, tmp_path):
    folder = next((videos / "classes").iterdir())
    names = sorted(path.name for path in folder.iterdir())
    (tmp_path / "list.csv").write_text(
        f"video,label\n{names[0]},run|jump\n{names[1]},run\n{names[1]},sit\n{names[2]},\n"
    )
    table = read_videos(tmp_path / "list.csv", root=folder, multi_label=True)
    assert label_names(table) == ["jump", "run", "sit"]
    assert label_matrix(table).astype(int).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("place", ["result.md", "index.html", "calibrated/thesis.txt", "chosen_templates/thesis.txt"])
def test_what_no_evaluation_has_left_is_not_written_over(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("of the user")
    # A folder that is called so makes it no evaluation's.
    (tmp_path / "predictions").mkdir()
    with pytest.raises(ResultExistsError, match=r"exists already.*--overwrite"):
        prepare_folder(tmp_path, {"name": "own"}, overwrite=False)
    assert (tmp_path / place).read_text() == "of the user"
    # An evaluation that was interrupted is gone on with.
    (tmp_path / "predictions/model_0").mkdir()
    (tmp_path / "predictions/model_0/predictions.0.jsonl").touch()
    prepare_folder(tmp_path, {"name": "own"}, overwrite=False)


@pytest.mark.parametrize("place", ["plots/mine.png", "predictions/mine.csv", "calibrated/thesis.txt"])
def test_folders_that_no_evaluation_has_left_are_not_deleted(tmp_path, place):
    (tmp_path / place).parent.mkdir()
    (tmp_path / place).write_text("of the user")
    (tmp_path / "result.json").write_text('{"of": "the user"}')
    with pytest.raises(ResultExistsError, match="was left by no evaluation, so it is neither written to nor deleted"):
        prepare_folder(tmp_path, {"name": "own"}, overwrite=True)
    assert (tmp_path / place).read_text() == "of the user"
    # Of one that was ended before its first prediction, nothing would be lost.
    (tmp_path / "elsewhere/predictions/model_0").mkdir(parents=True)
    prepare_folder(tmp_path / "elsewhere", {"name": "own"}, overwrite=True)
    # With a result that says what was evaluated, it is one's.
    (tmp_path / "result.json").write_text('{"protocol": {"name": "own"}}')
    work = prepare_folder(tmp_path, {"name": "own"}, overwrite=True)
    assert (tmp_path / place).exists(), "until the new one is whole"
    (work / "result.json").write_text('{"protocol": {"name": "own"}}')
    put_in_place(work, tmp_path)
    assert not (tmp_path / place).exists()


@pytest.mark.parametrize("place", ["plots/classes_model_0.png", "predictions/mine.csv"])
def test_nothing_is_put_into_folders_that_no_evaluation_has_left(tmp_path, place):
    """A picture of the same name would be replaced, and all of them be deleted by a later `overwrite`."""
    (tmp_path / place).parent.mkdir()
    (tmp_path / place).write_text("of the user")
    with pytest.raises(ResultExistsError, match="was left by no evaluation, so it is neither written to nor deleted"):
        prepare_folder(tmp_path, {"name": "own"}, overwrite=False)
    assert (tmp_path / place).read_text() == "of the user"
    # Empty ones are those of an evaluation that was ended before its first prediction.
    (tmp_path / place).unlink()
    prepare_folder(tmp_path, {"name": "own"}, overwrite=False)


def test_long_labels_that_a_report_would_repeat_for_each_video_are_refused(videos, tmp_path, monkeypatch):
    table = read_videos(str(videos / "list.csv"))
    # As it is written, in escapes, with quotes.
    longest, mentions = max(len(json.dumps(name)) for name in label_names(table)), 2 * len(table)
    monkeypatch.setattr(own_list, "MOST_LABEL_CHARACTERS", mentions * longest - 1)
    with pytest.raises(
        ValueError, match=f"videos have .* labels of up to {longest} characters as JSON, .* Shorten the labels"
    ):
        evaluate_videos(table, models={"small": None}, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_pairs_than_are_measured_together_are_refused_before_a_video_is_read(videos, tmp_path, monkeypatch):
    table = read_videos(str(videos / "list.csv"))
    monkeypatch.setattr(scoring_froster, "MOST_PAIRS", len(table) * len(label_names(table)) - 1)
    with pytest.raises(ValueError, match=r"each for itself, are .* pairs"):
        evaluate_videos(table, models={"small": None}, output_dir=tmp_path / "out", calibrate=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (["{0},run", "{1},a person who is running " + "very " * 80 + "fast"], [], "the text tower takes 77"),
        (["{2},run", "{3},jump"], [], "None of the videos could be decoded"),
        (["{0},run", "{1},jump"], ["--choose-templates"], "2 videos to choose by and 5 folds"),
        (["{0},run", "{1},jump"], ["--descriptions", "run.json"], "jump"),
    ],
    ids=["long label", "no video", "few videos", "descriptions"],
)
def test_an_earlier_result_stays_where_a_list_that_would_replace_it_cannot_be_measured(
    videos, result, tmp_path, monkeypatch, capsys, rows, options, told
):
    shutil.copytree(result, tmp_path / "result")
    names = sorted(str(path) for path in (videos / "classes").rglob("*.mp4"))[:2]
    for broken in (tmp_path / "a.mp4", tmp_path / "b.mp4"):
        broken.write_text("not a video")
        names.append(str(broken))
    (tmp_path / "list.csv").write_text("\n".join(["video,label", *(row.format(*names) for row in rows)]))
    (tmp_path / "run.json").write_text('{"run": "a person who is running"}')
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "list.csv", "--root", os.path.commonpath([names[0], tmp_path]), "--model", "small"]
    assert main([*command, *options, "--output", "result", "--overwrite"]) == 1
    assert told in capsys.readouterr().err
    if "--choose-templates" in options:
        assert not (tmp_path / "result/.unfinished-evaluation").exists(), "said before anything is scored"
    for file in result.rglob("*"):
        if file.is_file():
            assert (tmp_path / "result" / file.relative_to(result)).read_bytes() == file.read_bytes()


def test_another_evaluation_is_not_written_over(videos, result, capsys):
    command = ["evaluate", str(videos / "list.csv"), "--model", "small", "--output", str(result)]
    assert main(command) == 1
    assert "holds the result of another evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/videos"], "nowhere/videos is not there"),
        (["{videos}", "num_views=1"], "fields are for protocols"),
        (["{videos}", "--annotations", "x"], "--annotations has no effect on own videos"),
        (
            ["base_to_novel_hmdb51", "--root", "{videos}", "--calibrate"],
            "--calibrate has no effect on a protocol of clips",
        ),
    ],
)
def test_options_that_would_have_no_effect_are_refused(videos, capsys, arguments, message):
    filled = [argument.format(videos=videos / "classes") for argument in arguments]
    assert main(["evaluate", *filled, "--model", "small"]) == 1
    assert message in capsys.readouterr().err


def test_models_have_names_before_anything_is_computed(videos, tmp_path):
    with pytest.raises(TypeError, match="`models` has one under the name 5"):
        evaluate_videos(videos, models={5: None}, output_dir=tmp_path / "result")
    assert not any(tmp_path.iterdir())


def test_a_folder_takes_no_root_and_what_is_not_there_is_said(videos, tmp_path):
    with pytest.raises(ValueError, match="class folders are the labels; `root`"):
        read_videos(videos / "classes", root=tmp_path)
    with pytest.raises(AnnotationError, match="neither a folder nor a file"):
        read_videos(tmp_path / "nothing")


def test_average_precision_by_hand():
    # Ranked: there, not there, there -> (1/1 + 2/3) / 2.
    scores = np.array([[0.9], [0.8], [0.7]])
    assert average_precisions(scores, np.array([[1], [0], [1]])) == pytest.approx([(1 + 2 / 3) / 2])
    # Equal scores are one rank: 1 of 2 is there, whatever the order.
    assert average_precisions(np.zeros((2, 1)), np.array([[1], [0]])) == pytest.approx([0.5])
    # What could not be decoded ranks last; a label of no video has none.
    scores = np.array([[np.nan, np.nan], [0.1, 0.2]])
    found = average_precisions(scores, np.array([[1, 0], [0, 0]]))
    assert found[0] == pytest.approx(0.5)
    assert np.isnan(found[1])
    # Several of them are one rank: the order of the list does not matter.
    scores = np.array([[0.9], [np.nan], [np.nan]])
    for present in ([[0], [1], [0]], [[0], [0], [1]]):
        assert average_precisions(scores, np.array(present)) == pytest.approx([1 / 3])
    module = compute(MultiLabelPrecision, predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[0], [1]])
    assert module["mean_average_precision"] == 1.0
    for references in ([[0], [-1]], [[0], [2]]):
        with pytest.raises(ValueError, match=r"references of video 1, .* indices from 0 to 1"):
            compute(MultiLabelPrecision, predictions=[[0.9, 0.1], [0.2, 0.8]], references=references)


def test_f1_by_hand():
    assert f1_score(np.array([[True, True]]), np.array([[True, False]])) == pytest.approx(2 / 3)
    assert f1_score(np.zeros((1, 2), bool), np.zeros((1, 2), bool)) == 0.0


def test_what_is_hard_for_both_models_does_not_widen_the_interval_of_their_difference():
    generator = np.random.default_rng(0)
    first = (generator.random(400) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:20]] = 1.0
    own, differences = paired_intervals(np.stack([first, second]))
    assert differences[0].tolist() == [0.0, 0.0]
    assert differences[1][0] > 0, "20 of 400 more, and none less, is a difference"
    assert own[0][1] > own[1][0], "while the intervals of the two overlap"


def test_few_videos_that_agree_are_not_taken_for_certainty():
    own, differences = paired_intervals(np.ones((2, 3)))
    np.testing.assert_allclose(own, [[0.4385, 1.0]] * 2, atol=1e-4)  # Wilson's, of 3 of 3
    assert np.isnan(differences[1]).all()
    _, differences = paired_intervals(np.ones((2, 12)))
    np.testing.assert_allclose(differences[1], [-0.1980, 0.1980], atol=1e-4)  # Bonett and Price's, of no disagreement
    assert np.isnan(paired_intervals(np.ones((2, 0)))).all()


@pytest.mark.parametrize("num_videos", [6, 12, 20])
def test_intervals_hold_what_was_measured_and_stay_within_what_is_possible(num_videos):
    for gained in range(num_videos + 1):
        for lost in range(num_videos + 1 - gained):
            first, second = np.zeros((2, num_videos))
            second[:gained] = 1
            first[gained : gained + lost] = 1
            for found, least in zip(paired_intervals(np.stack([first, second])), (0.0, -1.0)):
                low, high = found[1]
                measured = second.mean() if least == 0 else second.mean() - first.mean()
                assert least <= low <= measured + 1e-12
                assert measured - 1e-12 <= high <= 1.0


def test_processes_that_would_each_measure_alone_are_refused(videos, tmp_path, monkeypatch, capsys):
    # As torchrun starts them on a machine without a GPU.
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", str(videos / "classes"), "--model", "small", "--output", str(tmp_path / "out")]) == 1
    assert "each would work alone" in (told := capsys.readouterr().err)
    assert "ACCELERATE_USE_CPU=true" in told


def test_a_model_that_is_named_twice_is_refused(capsys):
    assert main(["evaluate", "list.csv", "--model", "small", "other", "small"]) == 1
    assert "--model names small more than once" in capsys.readouterr().err


def test_the_folder_at_work_has_a_name(videos, tmp_path, monkeypatch):
    for clip in sorted((videos / "classes").glob("*/*"))[::4]:
        target = tmp_path / "mine" / clip.parent.name / clip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    monkeypatch.chdir(tmp_path / "mine")
    assert main(["evaluate", ".", "--model", "small"]) == 0
    assert (tmp_path / "mine/runs/evaluate-mine/result.json").exists()


def test_descriptions_of_a_checkpoint_are_not_looked_for_one_by_one():
    processor = SimpleNamespace(
        label_descriptions={f"other {number}": "text" for number in range(50_000)}, text_pooling="mean"
    )
    begun = time.process_time()
    assert not keep_descriptions(processor, [f"label {number}" for number in range(50_000)], {}, None)
    assert time.process_time() - begun < 4  # of fifteen, where each is compared with all labels
