"""The protocol over rendered clips: splits are drawn by seeds, and only a split's own labels compete."""

import json

import pytest

from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.data.video_table import label_array, label_names
from froster_hf.evaluation.protocols import EvaluationData, load_protocol, plan_evaluation
from froster_hf.shapes import MOTIONS, MovingShape, draw_classes


def small(name, **changes):
    fields = {"seeds": [3, 4], "labels_per_split": 2, "clips_per_label": 1, **changes}
    return load_protocol(name, [f"{field}={value}" for field, value in fields.items()])


def test_a_split_has_the_labels_that_its_seed_draws(tmp_path):
    plan = plan_evaluation(small("moving_shapes_actions"), EvaluationData(root=str(tmp_path)))
    texts, labels = label_names(plan.table), label_array(plan.table)
    for seed in (3, 4):
        part = plan.parts[f"split {seed}"]
        drawn = [str(drawn) for drawn in draw_classes(seed, 2)]
        assert [texts[column] for column in part.columns] == drawn
        assert [texts[label] for label in labels[part.rows]] == drawn


def test_appearances_are_every_color_of_every_shape(tmp_path):
    protocol = load_protocol("moving_shapes_appearance", ["seeds=[3]", "clips_per_label=1"])
    plan = plan_evaluation(protocol, EvaluationData(root=str(tmp_path)))
    assert len(plan.table) == len(set(label_names(plan.table))) == len(plan.parts["split 3"].columns) == 120
    assert "an orange hourglass" in label_names(plan.table)


def test_motions_are_all_of_one_object(tmp_path):
    protocol = load_protocol("moving_shapes_motions", ["seeds=[3, 4]", "clips_per_label=1"])
    plan = plan_evaluation(protocol, EvaluationData(root=str(tmp_path)))
    texts = label_names(plan.table)
    for seed in (3, 4):
        shapes = [MovingShape.from_label(texts[column]) for column in plan.parts[f"split {seed}"].columns]
        assert {shape.motion for shape in shapes} == set(MOTIONS)
        assert len({shape.appearance for shape in shapes}) == 1


@pytest.mark.parametrize(
    ("change", "message"), [({"seeds": 7}, "seeds is 7"), ({"label_content": "color"}, "'color'")]
)
def test_wrong_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        small("moving_shapes_actions", **change)


def test_seeds_belong_to_this_protocol_alone():
    with pytest.raises(ValueError, match="random_labels, and no other, needs some"):
        small("moving_shapes_actions", seeds=[])
    with pytest.raises(ValueError, match="random_labels, and no other, needs some"):
        load_protocol("cross_dataset_ucf101", ["seeds=[1]"])


def test_the_verb_renders_and_evaluates_without_annotations(tmp_path, capsys):
    arguments = ["evaluate", "moving_shapes_actions", "seeds=[5]", "labels_per_split=2", "clips_per_label=1"]
    arguments += [
        "--model",
        str(SMALL_FROSTER),
        "--root",
        str(tmp_path / "videos"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert "mean of the splits" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["results"]["this checkpoint"]["splits_mean"] in (0.0, 50.0, 100.0)
    assert result["protocol"]["seeds"] == [5]
