import dataclasses
import json
import shutil
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import numpy as np
import pytest

from froster_hf.data import AnnotationError
from froster_hf.data.catalogue import DATASETS
from froster_hf.data.video_table import label_array, label_names
from froster_hf.evaluation import EvaluationData, EvaluationProtocol, load_protocol, protocols, published_results
from froster_hf.evaluation.protocols import DetectionProtocol, plan_evaluation
from froster_hf.settings import list_named


def test_every_published_setting_has_a_recipe_that_parses():
    assert list_named("protocol") == [
        "base_to_novel_hmdb51",
        "base_to_novel_k400",
        "base_to_novel_ssv2",
        "base_to_novel_ucf101",
        "cross_dataset_hmdb51",
        "cross_dataset_k600",
        "cross_dataset_ucf101",
        "moving_shapes_actions",
        "moving_shapes_appearance",
        "moving_shapes_detection",
        "moving_shapes_motions",
        "temporal_detection_activitynet",
        "temporal_detection_thumos14",
    ]
    published = [
        protocol
        for protocol in map(load_protocol, list_named("protocol"))
        if protocol.dataset != "moving_shapes" and isinstance(protocol, EvaluationProtocol)
    ]
    assert len(published) == 7
    for protocol in published:
        assert (protocol.num_views, protocol.num_crops, protocol.frame_stride) == (3, 1, 16)
        assert published_results()[protocol.protocol][protocol.dataset]["FROSTER"]


@pytest.mark.parametrize("name", list_named("protocol"))
def test_what_the_list_says_of_a_protocol_is_what_it_does(name):
    protocol = load_protocol(name)
    kind, title = protocol.protocol, DATASETS[protocol.dataset].title
    title = "rendered moving shapes" if protocol.dataset == "moving_shapes" else title
    said = f"{kind.replace('_', ' ' if kind in ('random_labels', 'temporal_detection') else '-')} on {title}"
    if isinstance(protocol, EvaluationProtocol):
        said += f", {protocol.num_views} view{'s' * (protocol.num_views > 1)}: "
    assert protocol.about.lower().startswith(said.lower())
    assert "about" not in protocol.to_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("protocol: base_to_novel\ndataset: ucf101\nviews: 3\n", "unknown fields views. Known are"),
        ("protocol: base_to_novel\n", "the fields dataset are missing"),
        ("protocol: zero_shot\ndataset: ucf101\n", "protocol is 'zero_shot'; it must be one of"),
        ("protocol: base_to_novel\ndataset: k600\n", "dataset='k600'"),
        ("- a\n- b\n", "field: value"),
        ("a: [\n", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_a_recipe_that_cannot_be_read_says_why(tmp_path, content, message):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_protocol(tmp_path / "mine.yaml")


def test_overrides_replace_fields_and_unknown_recipes_are_named():
    assert load_protocol("base_to_novel_ucf101", ["num_views=1"]).num_views == 1
    with pytest.raises(ValueError, match="unknown fields"):
        load_protocol("base_to_novel_ucf101", ["view=1"])
    with pytest.raises(ValueError, match="Shipped are"):
        load_protocol("base_to_novel_ucf")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "moving_shapes_actions",
            ["clips_per_label=1000000000000"],
            "clips_per_label is 10+; it goes from 1 to 1000000",
        ),
        ("moving_shapes_actions", ["clips_per_label=100000"], "6,000,000 clips of all seeds and labels"),
        ("moving_shapes_actions", ["labels_per_split=-5", "clips_per_label=100000"], "labels_per_split is -5"),
        ("moving_shapes_motions", ["labels_per_split=1", "clips_per_label=100000"], "36,000,000 clips"),
        ("moving_shapes_actions", ["seeds=[-1]"], "seeds is -1; it goes from 0"),
        ("moving_shapes_actions", ["seeds=[7, 7]"], "seeds has 2 numbers; give at most 1000, each once"),
        ("moving_shapes_actions", [f"seeds={list(range(5000))}"], "seeds has 5000 numbers"),
        ("cross_dataset_k600", ["num_label_splits=1000000000"], "num_label_splits is 1000000000"),
        ("cross_dataset_ucf101", ["folds=[1, 1]"], "folds has 2 numbers"),
        ("cross_dataset_ucf101", ["folds=[0]"], "folds is 0; it goes from 1"),
        ("cross_dataset_ucf101", ["folds=[]"], r"folds is \[\]; give at least one"),
        ("base_to_novel_ucf101", ["num_samples=-1"], "num_samples is -1; it goes from 1 to 1000"),
        ("base_to_novel_ucf101", ["num_views=0"], "num_views is 0; it goes from 1"),
        ("base_to_novel_ucf101", ["num_crops=-3"], "num_crops is -3; it goes from 1"),
        ("base_to_novel_ucf101", ["num_frames=0"], "num_frames is 0; it goes from 1"),
        ("base_to_novel_ucf101", ["frame_stride=0"], "frame_stride is 0; it goes from 1"),
        ("moving_shapes_detection", ["num_frames=-8"], "num_frames is -8; it goes from 1"),
        ("moving_shapes_detection", ["max_overlap=2"], "max_overlap is 2; it goes from 0 to 1"),
        ("moving_shapes_detection", ["max_overlap=-0.1"], r"max_overlap is -0\.1; it goes from 0 to 1"),
        ("moving_shapes_detection", ["labels_per_video=1000"], "labels_per_video is 1000; it goes from 1 to 50"),
        ("moving_shapes_detection", [f"thresholds={[n / 200 for n in range(1, 102)]}"], "thresholds has 101 numbers"),
        ("moving_shapes_detection", [f"iou_thresholds={[n / 200 for n in range(1, 102)]}"], "give at most 100"),
        ("moving_shapes_detection", ["stride_seconds=1e-9"], "stride_seconds is 1e-09; it goes from 0.01"),
    ],
)
def test_sizes_that_no_evaluation_has_are_refused_at_once(name, overrides, message):
    with pytest.raises(ValueError, match=f"^Protocol {name}: .*{message}") as refused:
        load_protocol(name, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [EvaluationProtocol, DetectionProtocol])
def test_every_number_of_a_protocol_has_bounds(kind):
    for name, hint in get_type_hints(kind).items():
        if not {int, float} & {hint, *get_args(hint)}:
            continue
        number = -1e-3 if float in (hint, *get_args(hint)) else -1
        fields = {"name": "own", "protocol": get_args(get_type_hints(kind)["protocol"])[0], "dataset": "hmdb51"}
        if kind is DetectionProtocol:
            fields["dataset"] = "activitynet"
        kind(**fields)
        with pytest.raises(ValueError, match=f"^Protocol own: {name} is {number}; it goes from"):
            kind(**fields, **{name: (number,) if get_origin(hint) is tuple else number})


def test_base_and_novel_are_the_frequent_and_the_rare_classes(hmdb51_data):
    plan = plan_evaluation(load_protocol("base_to_novel_hmdb51"), hmdb51_data)
    texts, labels = label_names(plan.table), label_array(plan.table)
    assert [texts[column] for column in plan.parts["base"].columns] == ["kick ball", "wave"]
    assert [texts[column] for column in plan.parts["novel"].columns] == ["brush hair", "cartwheel"]
    assert set(labels[plan.parts["novel"].rows]) == {0, 1}
    assert plan.count_differences["base"]["clips"] == {"found": 6, "published": 780}


def test_a_listed_base_half_is_used(hmdb51_data, tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(["cartwheel", "wave"]))
    data = dataclasses.replace(hmdb51_data, base_labels=str(tmp_path / "base.json"))
    plan = plan_evaluation(load_protocol("base_to_novel_hmdb51"), data)
    assert [label_names(plan.table)[column] for column in plan.parts["base"].columns] == ["cartwheel", "wave"]


def test_cross_dataset_has_the_full_set_and_the_test_clips_of_each_fold(hmdb51_data):
    plan = plan_evaluation(load_protocol("cross_dataset_hmdb51"), hmdb51_data_without_training(hmdb51_data))
    assert list(plan.parts) == ["full", "split 1", "split 2", "split 3"]
    assert len(plan.parts["full"].rows) == 12
    assert len(plan.parts["split 1"].rows) == 12
    assert len(plan.parts["split 2"].rows) == 8
    left_out = set(plan.parts["full"].rows) - set(plan.parts["split 2"].rows)
    assert {Path(plan.table[int(row)]["video"]["path"]).stem[-1] for row in left_out} == {"1"}


def test_a_clip_of_a_later_fold_that_the_first_does_not_have_is_named(hmdb51_data, tmp_path):
    lists = tmp_path / "splits"
    shutil.copytree(hmdb51_data.annotations, lists)
    list_file = lists / "wave_test_split1.txt"
    list_file.write_text(list_file.read_text().replace("wave_clip_0.avi 2 \n", ""))
    data = dataclasses.replace(hmdb51_data_without_training(hmdb51_data), annotations=str(lists))
    with pytest.raises(AnnotationError, match=r"splits: the lists of fold 2 test 1 clips that .*wave_clip_0\.avi"):
        plan_evaluation(load_protocol("cross_dataset_hmdb51"), data)


def hmdb51_data_without_training(data: EvaluationData) -> EvaluationData:
    """The full set holds every listed clip; the training clips of these lists do not exist."""
    return dataclasses.replace(data, missing="drop")


def write_kinetics(folder: Path, name: str, counts: dict[str, int]) -> Path:
    rows = ["label,youtube_id,time_start,time_end,split"]
    for number, (label, count) in enumerate(counts.items()):
        for clip in range(count):
            identity = f"{number:05d}{clip:06d}"
            (folder / "videos" / label).mkdir(parents=True, exist_ok=True)
            (folder / "videos" / label / f"{identity}_000001_000011.mp4").touch()
            rows.append(f"{label},{identity},1,11,{name}")
    (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder / f"{name}.csv"


def test_kinetics_400_is_split_by_its_training_list(tmp_path):
    tested = write_kinetics(tmp_path, "val", {"yoga": 2, "bowling": 2, "archery": 2, "golf": 2})
    train = write_kinetics(tmp_path, "train", {"yoga": 9, "bowling": 5, "archery": 7, "golf": 6})
    protocol = load_protocol("base_to_novel_k400")
    data = EvaluationData(root=str(tmp_path / "videos"), annotations=str(tested), train_annotations=str(train))
    plan = plan_evaluation(protocol, data)
    assert [label_names(plan.table)[column] for column in plan.parts["base"].columns] == ["archery", "yoga"]
    with pytest.raises(ValueError, match="needs train_annotations="):
        plan_evaluation(protocol, dataclasses.replace(data, train_annotations=None))


def test_kinetics_600_tests_labels_that_are_not_in_kinetics_400(tmp_path):
    tested = write_kinetics(tmp_path, "test", dict.fromkeys(["a b", "c", "d", "e", "f", "known"], 2))
    (tmp_path / "k400.json").write_text(json.dumps({"0": "Known", "1": "other"}))
    (tmp_path / "one.json").write_text(json.dumps(["c", "d"]))
    (tmp_path / "two.json").write_text(json.dumps(["d", "E"]))
    data = EvaluationData(
        root=str(tmp_path / "videos"), annotations=str(tested), known_labels=str(tmp_path / "k400.json")
    )
    protocol = dataclasses.replace(load_protocol("cross_dataset_k600"), labels_per_split=3)
    drawn = plan_evaluation(protocol, data)
    assert label_names(drawn.table) == ["a b", "c", "d", "e", "f"]
    assert [len(part.columns) for part in drawn.parts.values()] == [3, 3, 3]
    assert "seeded draws of 3 of the 5" in drawn.notes[0]

    listed = dataclasses.replace(data, label_splits=(str(tmp_path / "one.json"), str(tmp_path / "two.json")))
    plan = plan_evaluation(protocol, listed)
    texts = label_names(plan.table)
    assert [[texts[c] for c in part.columns] for part in plan.parts.values()] == [["c", "d"], ["d", "e"]]
    assert plan.notes == []
    assert all(np.isin(label_array(plan.table)[part.rows], part.columns).all() for part in plan.parts.values())

    (tmp_path / "two.json").write_text(json.dumps(["D", "c"]))
    with pytest.raises(ValueError, match=r"Two of .*one\.json.*two\.json.* list the same labels"):
        plan_evaluation(protocol, listed)

    (tmp_path / "two.json").write_text(json.dumps(["d", "known"]))
    with pytest.raises(ValueError, match=r"new labels and .*two\.json do not name .* without 1 .*: known"):
        plan_evaluation(protocol, listed)

    (tmp_path / "k400.json").write_text(json.dumps(["other"]))
    with pytest.raises(ValueError, match=r"None of the 6 tested labels are in .*k400\.json"):
        plan_evaluation(protocol, data)


def test_label_splits_that_together_would_fill_memory_are_refused(tmp_path, monkeypatch):
    tested = write_kinetics(tmp_path, "test", dict.fromkeys(["a b", "c", "d", "e", "f", "known"], 2))
    (tmp_path / "k400.json").write_text(json.dumps(["known"]))
    data = EvaluationData(
        root=str(tmp_path / "videos"), annotations=str(tested), known_labels=str(tmp_path / "k400.json")
    )
    protocol = dataclasses.replace(load_protocol("cross_dataset_k600"), labels_per_split=3)
    characters = 3 * 3 * (len('"a b"') + 50)
    monkeypatch.setattr(protocols, "MOST_SPLIT_VALUES", characters)
    assert len(plan_evaluation(protocol, data).parts) == 3
    monkeypatch.setattr(protocols, "MOST_SPLIT_VALUES", characters - 1)
    with pytest.raises(ValueError, match=r"3 splits of 3 of 5 labels, .* more than a report has room for"):
        plan_evaluation(protocol, data)


def test_something_something_needs_its_labels_file(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps({"Closing something": "0", "Opening something": "1"}))
    for name, templates in (("train", "CCO"), ("validation", "CO")):
        full = {"C": "Closing [something]", "O": "Opening [something]"}
        entries = [{"id": f"{name}{n}", "template": full[letter]} for n, letter in enumerate(templates)]
        (tmp_path / f"{name}.json").write_text(json.dumps(entries))
        for entry in entries:
            (tmp_path / f"{entry['id']}.webm").touch()
    data = EvaluationData(
        root=str(tmp_path),
        annotations=str(tmp_path / "validation.json"),
        train_annotations=str(tmp_path / "train.json"),
        labels=str(tmp_path / "labels.json"),
    )
    protocol: EvaluationProtocol = load_protocol("base_to_novel_ssv2")
    plan = plan_evaluation(protocol, data)
    assert [label_names(plan.table)[column] for column in plan.parts["base"].columns] == ["Closing something"]
    with pytest.raises(ValueError, match="needs labels="):
        plan_evaluation(protocol, dataclasses.replace(data, labels=None))
