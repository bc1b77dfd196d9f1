import json

import pytest

from froster_hf import evaluation
from froster_hf.cli import main
from froster_hf.settings import list_named
from tests.fixtures.tiny import tiny_model, tiny_processor

from .conftest import write_clip


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed in (0, 1):
        tiny_model(seed).save_pretrained(folder / str(seed))
        tiny_processor().save_pretrained(folder / str(seed))
    return str(folder / "0"), str(folder / "1")


def test_the_recipes_are_listed(capsys):
    assert main(["evaluate", "--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list_named("protocol")


def evaluate(data, output_dir, *options, overrides=()):
    return main(
        [
            *("evaluate", "base_to_novel_hmdb51", "num_views=1", "frame_stride=2", *overrides),
            *("--root", data.root, "--annotations", data.annotations),
            *("--output", str(output_dir), "--batch-size", "4", *options),
        ]
    )


def test_a_checkpoint_is_evaluated_beside_a_frozen_model(checkpoints, hmdb51_data, tmp_path, capsys):
    tuned, frozen = checkpoints
    (tmp_path / "k400.json").write_text(json.dumps({"0": "combing hair", "1": "playing football"}))
    options = ["--frozen", frozen, "--method", "tiny", "--training-labels", str(tmp_path / "k400.json")]
    assert evaluate(hmdb51_data, tmp_path, "--model", tuned, *options) == 0
    printed = capsys.readouterr().out
    assert "| **tiny + frozen (logits)** |" in printed
    assert printed.strip() == (tmp_path / "result.md").read_text().strip()
    report = json.loads((tmp_path / "result.json").read_text())
    assert report["protocol"]["num_views"] == 1
    points = {row["name"]: row for row in json.loads((tmp_path / "label_similarity.json").read_text())}
    assert set(points) == {"base", "novel"}
    gain = report["results"]["tiny"]["base"] - report["results"]["frozen model"]["base"]
    assert points["base"]["gain"] == pytest.approx(gain, abs=0.02)
    assert 0 < points["base"]["similarity"] <= 1
    assert (tmp_path / "label_similarity.png").is_file()


def test_the_mean_of_checkpoints_is_one_model(checkpoints, hmdb51_data, tmp_path):
    assert evaluate(hmdb51_data, tmp_path, "--model", *checkpoints, "--average") == 0
    report = json.loads((tmp_path / "result.json").read_text())
    assert report["results"]["this checkpoint"]["num_samples"] == 1


def test_models_with_other_processors_are_measured_as_they_are_used_and_have_no_mean(
    checkpoints, hmdb51_data, tmp_path, capsys
):
    other = str(tmp_path / "other")
    tiny_model(1).save_pretrained(other)
    tiny_processor(image_mean=[5.0, -5.0, 5.0]).save_pretrained(other)
    assert evaluate(hmdb51_data, tmp_path / "alone", "--model", other) == 0
    models = ["--model", checkpoints[0], other]
    assert evaluate(hmdb51_data, tmp_path / "both", *models, "--frozen", other) == 0
    alone, both = (json.loads((tmp_path / name / "result.json").read_text())["results"] for name in ("alone", "both"))
    assert both["this checkpoint"]["parts"][1] == both["frozen model"]["parts"][0]
    assert both["frozen model"] == alone["this checkpoint"]
    capsys.readouterr()
    assert evaluate(hmdb51_data, tmp_path / "mean", *models, "--average") == 1
    assert "their processors differ: `image_mean` is [0.48145466" in capsys.readouterr().err
    tiny_model(1, temporal_radius=3).save_pretrained(other)
    tiny_processor().save_pretrained(other)
    assert evaluate(hmdb51_data, tmp_path / "mean", *models, "--average") == 1
    assert "other) are of different architectures: temporal_radius: 1 and 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["views=1"], "unknown fields views"),
        (["views"], "'views' is not of the form field=value"),
        (["protocol=zero_shot"], "protocol is 'zero_shot'; it must be one of base_to_novel"),
        (["sampling=denze"], "`sampling` is 'denze'; it must be one of"),
    ],
)
def test_a_wrong_option_is_one_line(hmdb51_data, tmp_path, capsys, overrides, message):
    assert evaluate(hmdb51_data, tmp_path, overrides=overrides) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_a_video_is_explained(checkpoints, tmp_path, capsys):
    video = write_clip(tmp_path / "clip.avi", seed=1)
    output = tmp_path / "maps"
    arguments = ["--label", "juggling", "--against", "golf, yoga", "--model", checkpoints[0], "--output", str(output)]
    assert main(["explain", str(video), *arguments]) == 0
    printed = capsys.readouterr().out.split("\n")
    assert printed[0].startswith("juggling: 0.")
    assert {line for line in printed[1:] if line} == {str(path) for path in output.iterdir()}


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ('golf, "up, then down"', "['golf', 'up, then down']"),
        ("golf,,yoga", "One of the labels in 'golf,,yoga' is empty"),
    ],
)
def test_other_labels_of_an_explanation_are_read_as_labels_are(
    checkpoints, tmp_path, capsys, monkeypatch, against, message
):
    def explain(*_, candidate_labels, **__):
        raise ValueError(str(candidate_labels))

    monkeypatch.setattr(evaluation, "explain_video", explain)
    options = ["--against", against, "--model", checkpoints[0], "--output", str(tmp_path / "maps")]
    assert main(["explain", "clip.avi", "--label", "juggling", *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("link", ["", "plots", "predictions"])
def test_no_result_is_written_behind_a_link(checkpoints, hmdb51_data, tmp_path, capsys, link):
    (tmp_path / "victim").mkdir()
    output = tmp_path / "output"
    if link:
        output.mkdir()
    (output / link).symlink_to(tmp_path / "victim")
    assert evaluate(hmdb51_data, output, "--model", checkpoints[0]) == 1
    errors = capsys.readouterr().err
    assert "is a link, which is not followed" in errors
    assert errors.count("\n") == 1
    assert list((tmp_path / "victim").iterdir()) == []


def test_no_explanation_is_drawn_behind_a_link(checkpoints, tmp_path, capsys):
    (tmp_path / "victim").mkdir()
    (tmp_path / "maps").symlink_to(tmp_path / "victim")
    arguments = ["--label", "juggling", "--model", checkpoints[0], "--output", str(tmp_path / "maps")]
    assert main(["explain", str(write_clip(tmp_path / "clip.avi", seed=1)), *arguments]) == 1
    assert "is a link, which is not followed" in capsys.readouterr().err
    assert list((tmp_path / "victim").iterdir()) == []
