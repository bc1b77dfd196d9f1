"""Scores of labels: contests, backgrounds, each label for itself, and calibrations."""

import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoModel, AutoProcessor, pipeline

import froster_hf  # noqa: F401
from froster_hf.pipeline import scoring_froster
from froster_hf.pipeline.pipeline_froster import ClipScorer
from froster_hf.pipeline.scoring_froster import (
    NONE_OF_THESE,
    Calibration,
    Scoring,
    best_f1_threshold,
    choose_scoring,
    fit_platt,
    rank,
)
from froster_hf.processing.processing_froster import EVERYDAY_BACKGROUND, FrosterProcessor
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor

BIKES = str(REAL_VIDEOS["bikes"])
LABELS = ["riding a bike", "playing golf", "cooking"]
BACKGROUND = ["an empty room", "a landscape"]


@pytest.fixture
def with_background(classify):
    classify.processor.background_labels = BACKGROUND
    return classify


def scores(answers):
    return {answer["label"]: answer["score"] for answer in answers}


def evidence_of(classify, labels, background):
    logits = scores(classify(BIKES, [*labels, *background], function_to_apply="none"))
    beaten = math.log(sum(math.exp(logits[name]) for name in background))
    return {label: logits[label] - beaten for label in labels}


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("options", [{}, {"multi_label": True}, {"function_to_apply": "softmax"}])
def test_one_label_with_nothing_to_be_compared_with_is_refused_with_advice(classify, options):
    for call in (classify, classify.timeline):
        with pytest.raises(ValueError, match=r"nothing to be compared with.*`background_labels` \(`--background`\)"):
            call(BIKES, LABELS[:1], **options)


def test_one_label_is_compared_with_the_checkpoints_background_and_says_so(with_background):
    answers = with_background(BIKES, LABELS[:1])
    contest = scores(with_background(BIKES, [LABELS[0], *BACKGROUND]))
    assert scores(answers)[LABELS[0]] == pytest.approx(contest[LABELS[0]], abs=1e-5)
    assert scores(answers)[NONE_OF_THESE] == pytest.approx(1 - contest[LABELS[0]], abs=1e-5)
    [none] = [answer for answer in answers if answer["label"] == NONE_OF_THESE]
    assert none["background"] == BACKGROUND
    description = with_background.scoring(LABELS[:1]).description
    assert description == "compared with the checkpoint's background: an empty room, a landscape"


def test_the_callers_background_goes_before_the_checkpoints(with_background):
    answers = with_background(BIKES, LABELS[:1], background_labels=LABELS[1:])
    assert scores(answers)[LABELS[0]] == pytest.approx(scores(with_background(BIKES, LABELS))[LABELS[0]], abs=1e-5)
    assert all("background" not in answer for answer in answers)


def test_a_label_of_the_background_is_not_compared_with_itself(with_background):
    alone = scores(with_background(BIKES, BACKGROUND[:1]))
    contest = scores(with_background(BIKES, BACKGROUND))
    assert alone[BACKGROUND[0]] == pytest.approx(contest[BACKGROUND[0]], abs=1e-5)
    assert list(scores(with_background(BIKES, [f"{BACKGROUND[0]}  "])).values()) == pytest.approx(list(alone.values()))
    for written in (LABELS[1], LABELS[1].title(), f" {LABELS[1]}\u00a0".replace(" ", "  ")):
        with pytest.raises(ValueError, match="stands in the background as well"):
            with_background(BIKES, LABELS, background_labels=[written, "nothing"])
    with pytest.raises(ValueError, match="'none of these' is the answer where the background wins"):
        with_background(BIKES, [*LABELS, NONE_OF_THESE], background_labels=["nothing"])
    with pytest.raises(ValueError, match="is the answer where the background wins"):
        with_background(BIKES, [NONE_OF_THESE])
    assert len(with_background(BIKES, [*LABELS, NONE_OF_THESE])) == len(LABELS) + 1


def test_several_labels_need_no_background(with_background):
    assert sum(scores(with_background(BIKES, LABELS)).values()) == pytest.approx(1, abs=1e-5)
    assert NONE_OF_THESE not in scores(with_background(BIKES, LABELS))


def test_with_multi_label_each_label_is_a_contest_with_the_background(with_background):
    answers = with_background(BIKES, LABELS, multi_label=True)
    expected = {label: sigmoid(value) for label, value in evidence_of(with_background, LABELS, BACKGROUND).items()}
    assert scores(answers) == pytest.approx(expected, abs=1e-5)
    # What else is asked for plays no part.
    assert scores(with_background(BIKES, LABELS[:2], multi_label=True)) == pytest.approx(
        {label: expected[label] for label in LABELS[:2]}, abs=1e-5
    )
    nothing = with_background(BIKES, LABELS, multi_label=True, threshold=1.0)
    assert nothing == [{"score": None, "label": NONE_OF_THESE, "background": BACKGROUND}]


def test_the_evidence_of_several_views_is_averaged_before_the_sigmoid(with_background):
    options = {"num_views": 3, "num_crops": 2}
    evidence = scores(with_background(BIKES, LABELS, function_to_apply="evidence", **options))
    with_background.processor.calibration = Calibration(0.5, -1.0, 0.4, tuple(BACKGROUND)).to_dict()
    expected = {label: sigmoid(0.5 * value - 1) for label, value in evidence.items()}
    assert scores(with_background(BIKES, LABELS, multi_label=True, **options)) == pytest.approx(expected, abs=1e-5)


def test_the_evidence_is_the_log_odds_against_the_background(with_background):
    answers = scores(with_background(BIKES, LABELS, function_to_apply="evidence"))
    assert answers == pytest.approx(evidence_of(with_background, LABELS, BACKGROUND), abs=1e-3)


def test_the_sigmoid_of_logits_needs_a_calibration(with_background):
    with pytest.raises(ValueError, match=r"near 1 for whatever is asked.*--calibrate"):
        with_background(BIKES, LABELS, function_to_apply="sigmoid")
    with pytest.raises(ValueError, match="leave out `function_to_apply`"):
        with_background(BIKES, LABELS, function_to_apply="sigmoid", multi_label=True)
    with_background.processor.calibration = Calibration(0.5, -1.0, 0.4, tuple(BACKGROUND)).to_dict()
    answers = with_background(BIKES, LABELS, function_to_apply="sigmoid")
    assert answers == with_background(BIKES, LABELS, multi_label=True)


def test_a_calibration_is_used_with_its_own_background_and_prompts_only(with_background):
    with_background.processor.calibration = Calibration(0.5, -1.0, 0.4, tuple(BACKGROUND)).to_dict()
    expected = {
        label: sigmoid(0.5 * value - 1) for label, value in evidence_of(with_background, LABELS, BACKGROUND).items()
    }
    assert scores(with_background(BIKES, LABELS, multi_label=True)) == pytest.approx(expected, abs=1e-5)
    own = with_background(BIKES, LABELS, multi_label=True, background_labels=BACKGROUND)
    assert scores(own) == pytest.approx(expected, abs=1e-5)
    other = with_background(BIKES, LABELS, multi_label=True, background_labels=["nothing"])
    plain = {label: sigmoid(value) for label, value in evidence_of(with_background, LABELS, ["nothing"]).items()}
    assert scores(other) == pytest.approx(plain, abs=1e-5)
    assert with_background.scoring(LABELS, multi_label=True).description.endswith("a landscape; calibrated")
    # Nor with prompts that it was not fitted to.
    for prompts in ({"templates": ["no {} here"]}, {"hypothesis_template": "no {} here"}, {"text_pooling": "max"}):
        written = with_background(BIKES, LABELS, multi_label=True, **prompts)
        logits = scores(with_background(BIKES, LABELS, function_to_apply="evidence", **prompts))
        assert scores(written) == pytest.approx({name: sigmoid(logit) for name, logit in logits.items()}, abs=1e-5)
        assert "calibrated" not in with_background.scoring(LABELS, multi_label=True, **prompts).description
        scorer = ClipScorer(with_background, LABELS, multi_label=True, **prompts)
        assert scorer.scoring.calibration is None
    # One label alone, too, and "none of these" is that it is not there.
    alone = scores(with_background(BIKES, LABELS[:1]))
    assert alone[LABELS[0]] == pytest.approx(expected[LABELS[0]], abs=1e-5)
    assert sum(alone.values()) == pytest.approx(1, abs=1e-6)


def test_a_calibration_is_left_aside_where_a_label_of_its_background_is_asked_for():
    """What is left of its background is another one, of which it knows nothing."""
    fitted = Calibration(0.5, -1.0, 0.4, tuple(BACKGROUND))
    asked = [BACKGROUND[0], "juggling"]
    scoring = choose_scoring(asked, multi_label=True, calibration=fitted)
    assert (scoring.background, scoring.calibration) == (tuple(BACKGROUND[1:]), None)
    with pytest.raises(ValueError, match="compare"):
        choose_scoring(BACKGROUND, multi_label=True, calibration=fitted)
    own = choose_scoring(asked, multi_label=True, calibration=fitted, has_own_sigmoid=True)
    assert (own.background, own.calibration) == ((), None)


def test_a_model_with_a_sigmoid_of_its_own_needs_neither_background_nor_calibration():
    scoring = choose_scoring(LABELS, multi_label=True, has_own_sigmoid=True, own_background=BACKGROUND)
    logits = torch.tensor([[-3.0, 0.0, 2.0]])
    torch.testing.assert_close(scoring.scores(logits), logits.sigmoid())
    assert choose_scoring(LABELS[:1], has_own_sigmoid=True).scores(logits[:, :1]).shape == (1, 1)


def test_platt_scaling_finds_scale_and_bias_back():
    generator = torch.Generator().manual_seed(0)
    evidence = 20 * torch.randn(4000, 5, generator=generator, dtype=torch.float64) - 30
    targets = torch.rand(4000, 5, generator=generator, dtype=torch.float64) < (0.2 * evidence + 3).sigmoid()
    calibration = fit_platt(evidence, targets, background_labels=BACKGROUND)
    assert (calibration.scale, calibration.bias) == pytest.approx((0.2, 3.0), rel=0.05)
    assert calibration.background_labels == tuple(BACKGROUND)
    # Maximum likelihood with an intercept: on average as many labels are expected as there are.
    probabilities = (calibration.scale * evidence + calibration.bias).sigmoid()
    assert float(probabilities.mean()) == pytest.approx(float(targets.double().mean()), abs=1e-3)


def test_more_evidence_than_is_fitted_together_is_refused(monkeypatch):
    monkeypatch.setattr(scoring_froster, "MOST_PAIRS", 3)
    with pytest.raises(ValueError, match=r"2 videos x 2 labels, each for itself, are 4 pairs; at most 3"):
        fit_platt(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1, 0], [0, 1]]))


def test_platt_scaling_of_separable_evidence_stays_finite():
    calibration = fit_platt(torch.tensor([[-50.0], [-40.0], [30.0]]), torch.tensor([[0], [0], [1]]))
    assert 0 < calibration.scale < 10
    assert math.isfinite(calibration.bias)


@pytest.mark.parametrize(
    ("scale", "bias"), [(1e-9, 1e9), (1e-300, 0), (1.0, -1e9), (1e-9, 0.0), (1e9, 0.0), (1e-3, 40.0)]
)
def test_a_calibration_that_makes_one_score_of_all_evidence_is_refused(scale, bias):
    stored = {"scale": scale, "bias": bias, "threshold": 0.5, "background_labels": BACKGROUND}
    with pytest.raises(ValueError, match="would give every video and label one score"):
        Calibration.from_dict(stored)


@pytest.mark.parametrize("spread", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("gap", [0.5, 1.0, 100.0])
def test_a_calibration_that_is_fitted_is_within_the_bounds(spread, gap):
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(2000, 5, generator=generator) < 0.002
    evidence = spread * (torch.randn(2000, 5, generator=generator) + gap * targets) - 90
    calibration = fit_platt(evidence.double(), targets)
    assert Calibration.from_dict(calibration.to_dict()) == calibration


@pytest.mark.parametrize(
    ("evidence", "targets", "message"),
    [
        ([[1.0, 2.0]], [[1, 1]], "2 of the first and 0 of the second"),
        ([[1.0], [2.0], [3.0], [4.0]], [[1], [1], [0], [0]], "no higher for labels that are in the videos"),
        ([[1.0, 2.0]], [[1]], "must have one shape"),
        ([[1.0, math.nan]], [[1, 0]], "infinite or NaN"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(evidence, targets, message):
    with pytest.raises(ValueError, match=message):
        fit_platt(torch.tensor(evidence), torch.tensor(targets))


def test_the_threshold_is_where_f1_is_highest():
    values, targets = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.2]), torch.tensor([1, 0, 1, 0, 0])
    # Two answers: precision 1/2, recall 1/2; three: 2/3 and 1.
    assert best_f1_threshold(values, targets) == pytest.approx(0.65)
    assert best_f1_threshold(torch.tensor([0.5, 0.5]), torch.tensor([1, 0])) == 0.5


def test_calibrate_fits_stores_and_saves(with_background, tmp_path):
    videos = [BIKES, str(REAL_VIDEOS["carphone_pristine"])]
    higher = scores(with_background(videos[0], LABELS, function_to_apply="evidence"))
    best, rest = max(higher, key=higher.get), min(higher, key=higher.get)
    calibration = with_background.calibrate(videos, [[best], []], LABELS)
    assert calibration.background_labels == tuple(BACKGROUND)
    with_background.processor.save_pretrained(tmp_path)
    stored = AutoProcessor.from_pretrained(tmp_path)
    assert Calibration.from_dict(stored.calibration) == calibration
    assert stored.background_labels == BACKGROUND
    loaded = pipeline("zero-shot-video-classification", model=with_background.model, processor=stored)
    assert loaded(BIKES, LABELS, multi_label=True) == with_background(BIKES, LABELS, multi_label=True)
    for targets, message in (
        ([[rest], ["swimming"]], "'swimming', which is none"),
        ([[best]], "2 videos and targets"),
    ):
        with pytest.raises(ValueError, match=message):
            with_background.calibrate(videos, targets, LABELS)


def test_a_calibration_is_fitted_with_the_prompts_of_its_processor(with_background):
    built = {"model": with_background.model, "processor": with_background.processor}
    of_its_own = pipeline("zero-shot-video-classification", **built, templates="single")
    for classify, options in (
        (with_background, {"templates": "single"}),
        (with_background, {"hypothesis_template": "a video of {}."}),
        (with_background, {"text_pooling": "max"}),
        (of_its_own, {}),
    ):
        with pytest.raises(ValueError, match="holds for its prompts"):
            classify.calibrate([BIKES], [[LABELS[0]]], LABELS, **options)
    assert with_background.processor.calibration is None


def test_one_video_calibrates_as_a_list_of_it(with_background):
    evidence = scores(with_background(BIKES, LABELS, function_to_apply="evidence"))
    best = max(evidence, key=evidence.get)
    assert with_background.calibrate(BIKES, [[best]], LABELS) == with_background.calibrate([BIKES], [[best]], LABELS)
    with pytest.raises(ValueError, match="1 videos and targets for 2 of them"):
        with_background.calibrate(BIKES, [[best], []], LABELS)


def test_what_a_pipeline_was_built_with_does_not_stand_in_the_way_of_logits(with_background):
    model, processor = with_background.model, with_background.processor
    defaults = {"threshold": 0.6, "multi_label": True, "candidate_labels": LABELS, "background_labels": ["nothing"]}
    built = pipeline("zero-shot-video-classification", model=model, processor=processor, **defaults)
    evidence = scores(built(BIKES, function_to_apply="evidence", multi_label=False))
    assert set(evidence) == set(LABELS)
    best = max(evidence, key=evidence.get)
    assert built.calibrate(BIKES, [[best]]).background_labels == ("nothing",)
    plain = pipeline("zero-shot-video-classification", model=model, processor=processor, threshold=0.6)
    answers = plain(BIKES, LABELS, function_to_apply="none")
    assert answers == with_background(BIKES, LABELS, function_to_apply="none")
    with pytest.raises(ValueError, match=r"`threshold` is 0\.5 with the function 'none'"):
        plain(BIKES, LABELS, function_to_apply="none", threshold=0.5)
    assert plain(BIKES, LABELS, threshold=None) == with_background(BIKES, LABELS, threshold=0.6)


@pytest.mark.parametrize(
    "stored",
    [
        {"scale": 1.0},
        *(
            {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "background_labels": [], **wrong}
            for wrong in ({"scale": -1.0}, {"bias": float("nan")}, {"threshold": "0.5"}, {"background_labels": 3})
        ),
    ],
)
def test_a_damaged_calibration_is_refused(classify, stored):
    classify.processor.calibration = stored
    with pytest.raises(ValueError, match=r"scale"):
        classify(BIKES, LABELS, multi_label=True)


def test_siglip_scores_each_label_by_its_own_sigmoid(tmp_path):
    save_dual_encoder("siglip", tmp_path)
    classify = pipeline("zero-shot-video-classification", model=str(tmp_path), templates="none")
    logits = scores(classify(BIKES, LABELS, function_to_apply="none"))
    for options in ({"multi_label": True}, {"function_to_apply": "sigmoid"}):
        answers = classify(BIKES, LABELS, **options)
        assert scores(answers) == pytest.approx({label: sigmoid(value) for label, value in logits.items()}, abs=1e-5)
    # One label needs no background either, and nothing is made up for "none of these".
    alone = classify(BIKES, LABELS[:1])
    assert alone == [{"score": pytest.approx(sigmoid(logits[LABELS[0]]), abs=1e-5), "label": LABELS[0]}]
    assert classify.timeline(BIKES, LABELS, multi_label=True).threshold == 0.5


def test_a_padding_that_siglips_tower_does_not_read_is_refused(tmp_path):
    save_dual_encoder("siglip", tmp_path)
    processor = FrosterProcessor.from_dual_encoder(tmp_path, prompt_templates="none")
    model = AutoModel.from_pretrained(tmp_path)
    processor.tokenizer.pad_token = "<mask>"
    with pytest.raises(ValueError, match="fills texts up with '<mask>', and the text tower reads its padding"):
        pipeline("zero-shot-video-classification", model=model, processor=processor)


def test_clips_beyond_what_a_model_of_this_size_computes_are_refused():
    processor = tiny_processor()
    processor.video_processor.num_frames = 20_000
    with pytest.raises(ValueError, match=r"A clip of 20000 frames of .* far too large"):
        pipeline("zero-shot-video-classification", model=tiny_model(temporal_module="joint"), processor=processor)


def test_answers_below_a_threshold_leave_none_with_its_score():
    answers = rank(torch.tensor([0.2, 0.8]), ["a"], threshold=0.5, background=["b"])
    assert answers == [{"score": pytest.approx(0.8), "label": NONE_OF_THESE, "background": ["b"]}]


def test_long_backgrounds_are_described_in_short():
    scoring = Scoring(2, "sigmoid", tuple("abcdefg"), is_own=True)
    assert scoring.description.endswith("a, b, c, d, e and 2 more")
    assert replace(scoring, function="softmax", is_own=False).description.startswith("compared with the background: a")
    assert Scoring(3).description is None


class CharacterTokenizer:
    def __init__(self, tokens_per_character):
        self.rate = tokens_per_character

    def __call__(self, texts, **options):
        return {"input_ids": [[0] * int(self.rate * len(text)) for text in texts]}


def test_clip_checkpoints_have_an_everyday_background_unless_their_words_are_others(monkeypatch):
    from froster_hf.processing import processing_froster

    assert processing_froster._everyday_background(CharacterTokenizer(0.2)) == list(EVERYDAY_BACKGROUND)
    assert processing_froster._everyday_background(CharacterTokenizer(1.0)) is None


def test_a_background_of_the_processor_is_a_label_list():
    processor, fitted = tiny_processor(), Calibration(0.5, -1.0, 0.4, ("a street",)).to_dict()
    for options, message in (
        ({"background_labels": ["a", "a"]}, "repeated: 'a'"),
        ({"background_labels": "a street"}, "expected a list of class names"),
        ({"background_labels": [f"thing {number}" for number in range(1001)]}, "1001 names; at most 1000"),
        ({"calibration": ["scale"]}, "`calibration` is of the type list"),
        (
            {"calibration": {**fitted, "background_labels": ["", "x"]}},
            "`calibration`, `background_labels`: labels must",
        ),
        ({"calibration": {**fitted, "background_labels": ["x", "x"]}}, "`calibration`, `background_labels`.*'x'"),
        ({"calibration": {**fitted, "background_labels": ["\ud800"]}}, "`calibration`, `background_labels`"),
        (
            {"calibration": {**fitted, "background_labels": [f"thing {number}" for number in range(1001)]}},
            "`calibration`, `background_labels` has 1001 names; at most 1000",
        ),
        (
            {"calibration": {**fitted, "scale": 10**400}},
            "`calibration`, `scale` is 1000.*; it must be a finite number",
        ),
        ({"calibration": {**fitted, "bias": "1"}}, "`calibration`, `bias` is '1'; it must be a finite number"),
        ({"calibration": {**fitted, "threshold": math.nan}}, "`calibration`, `threshold` is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            FrosterProcessor(processor.video_processor, processor.tokenizer, **options)
