"""Templates chosen by labeled videos: the choice, its honest figure, and what is kept of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from froster_hf import FrosterProcessor, load_pipeline
from froster_hf.cli import main
from froster_hf.data import read_videos
from froster_hf.evaluation import choose_templates, predict, predicting, template_choice
from froster_hf.evaluation.metrics import average_views, true_ranks
from froster_hf.evaluation.predicting import embed_videos
from froster_hf.evaluation.template_choice import OWN_TEMPLATES, _choose_greedily, _choose_set, _deal_out
from froster_hf.processing.prompts_froster import TEMPLATE_SETS
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes

CLASSES = [
    MovingShape("red", "star", "sliding left"),
    MovingShape("blue", "square", "pulsing"),
    MovingShape("green", "circle", "blinking"),
]
# Templates that name another object mislead a text tower that knows these words.
CANDIDATES = {"misleading": ["{} and a pink moon growing", "a pink moon growing, {}"], "bare": ["{}"]}


@pytest.fixture
def classify():
    return load_pipeline("small", device="cpu")


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("videos")
    rows = write_moving_shapes(folder, CLASSES, clips_per_class=4, seed=1)
    lines = [f"{Path(row['video']).name},{CLASSES[row['label']]}" for row in rows]
    (folder / "list.csv").write_text("\n".join(["video,label", *lines]))
    return str(folder / "list.csv")


@pytest.fixture(scope="module")
def table(listed):
    return read_videos(listed, labels=[str(one) for one in CLASSES])


def test_videos_are_embedded_as_the_model_embeds_them(table, classify, tmp_path):
    options = {"processor": classify.processor, "num_views": 2, "batch_size": 4}
    embeds, header = embed_videos(classify.model, table, output_dir=tmp_path / "embeds", **options)
    logits, _ = predict(classify.model, table, output_dir=tmp_path / "logits", **options)
    assert embeds.shape == (len(table), 2, classify.model.config.projection_dim)
    bank = classify.processor.embed_labels([str(one) for one in CLASSES], model=classify.model)
    expected = classify.model.froster.similarity(torch.from_numpy(embeds).flatten(0, 1), bank)
    np.testing.assert_allclose(logits.reshape(-1, 3), expected.detach().numpy(), atol=1e-4)
    again, _ = embed_videos(classify.model, table, output_dir=tmp_path / "embeds", **options)
    assert np.array_equal(again, embeds)
    assert header["prompts"] == "coordinates"


@pytest.mark.parametrize("search", ["sets", "greedy"])
def test_the_choice_is_measured_and_kept(table, classify, tmp_path, search):
    classify.processor.prompt_templates = ["a video of {}."]
    classify.processor.calibration = {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "background_labels": []}
    labels = [str(one) for one in CLASSES]
    classify.model.set_labels(labels, text_embeds=classify.label_embeds(labels))
    report = choose_templates(
        table, classify=classify, output_dir=tmp_path, search=search, candidates=CANDIDATES, num_folds=3
    )
    # Each candidate's accuracy is the one that an evaluation with its templates would find.
    for number, (name, templates) in enumerate(CANDIDATES.items()):
        processor = FrosterProcessor(classify.processor.video_processor, classify.processor.tokenizer, templates)
        options = processor.video_processor
        logits, _ = predict(
            classify.model,
            table,
            processor=processor,
            output_dir=tmp_path / f"check{number}",
            num_views=options.num_views,
            num_crops=options.num_crops,
            video_options={"sampling": options.sampling},
        )
        right = true_ranks(average_views(logits), np.array(table["label"])) == 0
        assert report["candidates"][name]["top1"] == pytest.approx(100 * right.mean(), abs=0.01)
    assert len(report["folds"]) == 3
    assert report["chosen"]["top1"] >= report["candidates"]["bare"]["top1"]
    assert report["held_out"]["difference"] == pytest.approx(
        report["held_out"]["top1"] - report["candidates"]["misleading"]["top1"], abs=0.02
    )
    chosen = report["chosen"]["templates"]
    assert classify.processor.prompt_templates == chosen
    kept = FrosterProcessor.from_pretrained(tmp_path / "chosen_templates")
    assert kept.prompt_templates == chosen
    assert kept.calibration is None
    assert "calibration of the former prompts is left out" in report["note"]
    assert "stored in the checkpoint keep the embeddings" in report["note"]


def test_descriptions_that_templates_were_chosen_with_are_kept_with_them(table, classify, tmp_path):
    described = {str(one): ["a shape", f"{one} on gray"] for one in CLASSES}
    classify.processor.calibration = {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "background_labels": []}
    own = {OWN_TEMPLATES: classify.processor.prompt_templates}
    options = {"candidates": own, "num_folds": 3, "descriptions": described, "text_pooling": "max"}
    report = choose_templates(table, classify=classify, output_dir=tmp_path, **options)
    kept = FrosterProcessor.from_pretrained(tmp_path / "chosen_templates")
    assert {name: list(texts) for name, texts in kept.label_descriptions.items()} == described
    assert kept.text_pooling == "max"
    # The templates are the same, but the prompts are not.
    assert kept.calibration is None
    assert "calibration of the former prompts is left out" in report["note"]


class Scorer:
    """Says which videos each choice has right, from a table; of several templates, those that any has right."""

    def __init__(self, right):
        self.table = np.array(right, dtype=bool)

    def right(self, choice):
        return self.table[list(choice)].any(axis=0)


def test_the_first_of_equals_is_chosen_and_only_by_the_rows_given():
    scorer = Scorer([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]])
    choose = _choose_set([(0,), (1,), (2,)])
    assert choose(scorer, np.arange(4)) == (0,)
    assert choose(scorer, np.array([2, 3])) == (2,)


def test_greedy_search_adds_what_helps_and_stops():
    scorer = Scorer([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0]])
    choose = _choose_greedily(3)
    assert choose(scorer, np.arange(5)) == (1, 0)
    assert choose(scorer, np.array([2, 3])) == (1,)
    assert len(choose(scorer, np.array([4]))) == 1


def test_folds_have_their_share_of_every_label_and_hold_no_undecoded_video():
    labels = np.repeat([0, 1, 2], [10, 5, 5])
    decoded = np.ones(20, dtype=bool)
    folds = _deal_out(labels, decoded, 5, 0)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds, _deal_out(labels, decoded, 5, 1))
    decoded[[0, 11]] = False
    assert len(_deal_out(labels, decoded, 5, 0)) == 18
    for num_folds in (1, 19):
        with pytest.raises(ValueError, match=f"18 videos to choose by and {num_folds} folds"):
            _deal_out(labels, decoded, num_folds, 0)


def test_the_figure_of_a_choice_among_noise_is_no_better_than_chance():
    """What the winner has on the videos that chose it is too good; what is reported is not."""
    from froster_hf.evaluation import template_choice

    generator = np.random.default_rng(0)
    winners, figures = [], []
    for seed in range(20):
        scorer = Scorer(generator.random((40, 60)) < 0.5)
        scorer.decoded, scorer.templates = np.ones(60, dtype=bool), [str(index) for index in range(40)]
        named = {str(index): (index,) for index in range(40)}
        folds = _deal_out(np.zeros(60), scorer.decoded, 5, seed)
        subject = {"num_folds": 5}
        report = template_choice._report(subject, scorer, named, _choose_set(list(named.values())), folds)
        winners.append(report["chosen"]["top1"])
        figures.append(report["held_out"]["top1"])
    assert np.mean(winners) > 60
    assert abs(np.mean(figures) - 50) < 4


def test_the_shell_says_what_was_chosen_and_the_checkpoint_is_one(listed, tmp_path, capsys):
    arguments = ["evaluate", listed, "--model", "small", "--output", str(tmp_path)]
    assert main([*arguments, "--choose-templates"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "Held out: " in printed
    assert OWN_TEMPLATES in printed
    assert (tmp_path / "result.md").read_text(encoding="utf-8").strip() == printed.strip()
    report = json.loads((tmp_path / "result.json").read_text())
    assert set(report["candidates"]) <= {OWN_TEMPLATES, *TEMPLATE_SETS}
    again = load_pipeline(str(tmp_path / "chosen_templates"), device="cpu")
    assert again.processor.prompt_templates == report["chosen"]["templates"]
    # Another evaluation is not written over.
    assert main(arguments) == 1
    assert "another evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--calibrate"], "--choose-templates is for one --model"),
        (["--multi-label"], "one label each"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(listed, tmp_path, capsys, more, message):
    arguments = [
        "evaluate",
        listed,
        "--model",
        "small",
        "--output",
        str(tmp_path),
        "--choose-templates",
    ]
    assert main([*arguments, *more]) == 1
    assert message in capsys.readouterr().err


def test_with_few_videos_nothing_is_said_of_the_difference(table, classify, tmp_path):
    report = choose_templates(table.select(range(4)), classify=classify, output_dir=tmp_path, num_folds=2)
    assert report["held_out"]["difference_interval"] is None
    assert "(too few videos to say) against" in (tmp_path / "result.md").read_text()


def test_more_scores_than_are_held_at_once_are_refused(table, classify, tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "MOST_SCORES", len(table) * 3 - 1)
    with pytest.raises(ValueError, match=f"{len(table)} videos x 1 views x 3 labels"):
        choose_templates(table, classify=classify, output_dir=tmp_path)
    width = classify.model.config.projection_dim
    monkeypatch.setattr(predicting, "MOST_SCORES", len(table) * width - 1)
    with pytest.raises(ValueError, match=f"{len(table)} videos x 1 views x {width} numbers of an embedding"):
        choose_templates(table, classify=classify, output_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    candidates = {"a": ["{}", "a {}"], "b": ["the {}"]}
    monkeypatch.setattr(template_choice, "MOST_TEXT_NUMBERS", 9 * width - 1)
    with pytest.raises(ValueError, match=f"3 templates x 3 texts x {width} numbers of an embedding"):
        choose_templates(table, classify=classify, output_dir=tmp_path, candidates=candidates)


def test_a_text_tower_that_gives_no_numbers_chooses_nothing(table, classify, tmp_path):
    broken = load_pipeline("small", device="cpu")
    with torch.no_grad():
        broken.model.froster.text_model.final_layer_norm.bias[0] = torch.inf
    with pytest.raises(ValueError, match="embeddings that are infinite or NaN"):
        choose_templates(table, classify=broken, output_dir=tmp_path, candidates=CANDIDATES, num_folds=3)
    assert not (tmp_path / "chosen_templates").exists()


def test_candidates_and_searches_that_cannot_be_are_refused(table, classify, tmp_path):
    with pytest.raises(ValueError, match="`search` is 'all'; it must be 'sets' or 'greedy'"):
        choose_templates(table, classify=classify, output_dir=tmp_path, search="all")
    with pytest.raises(ValueError, match="no candidates"):
        choose_templates(table, classify=classify, output_dir=tmp_path, candidates={})
    with pytest.raises(ValueError, match="exactly one"):
        choose_templates(table, classify=classify, output_dir=tmp_path, candidates={"x": ["no place"]})
