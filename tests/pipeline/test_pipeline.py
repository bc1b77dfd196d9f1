"""The zero-shot pipeline on real files: every form of call, plain CLIP, ten thousand labels, saving."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounter
from transformers import (
    AutoModel,
    CLIPModel,
    CLIPProcessor,
    VideoClassificationPipeline,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

import froster_hf  # noqa: F401
from froster_hf import FrosterForVideoClassification
from froster_hf.modeling import modeling_froster
from froster_hf.pipeline.pipeline_froster import ZeroShotVideoClassificationPipeline
from froster_hf.pipeline.scoring_froster import NONE_OF_THESE, Scoring, rank
from froster_hf.processing import processing_froster
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.video.decoding import VideoDecodeError
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.forks import run_python
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import save_tiny_clip, tiny_model, tiny_processor, tiny_tower_options

TASK = "zero-shot-video-classification"
LABELS = ["riding a bike", "playing golf", "cooking"]
BIKES = str(REAL_VIDEOS["bikes"])


@pytest.fixture(scope="module")
def classify() -> ZeroShotVideoClassificationPipeline:
    return pipeline(TASK, model=tiny_model(), processor=tiny_processor(["a video of {}.", "{}"]))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"), seed=3)


@pytest.fixture(scope="module", params=["clip", "metaclip_2", "siglip"])
def encoder_folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    save_dual_encoder(request.param, folder)
    return folder


def scores(answers) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in answers}


def test_answers_are_scored_labels_best_first(classify):
    answers = classify(BIKES, candidate_labels=LABELS)
    assert {answer["label"] for answer in answers} == set(LABELS)
    assert [set(answer) for answer in answers] == [{"score", "label"}] * 3
    assert answers == sorted(answers, key=lambda answer: -answer["score"])
    assert sum(scores(answers).values()) == pytest.approx(1, abs=1e-5)


def test_the_model_that_is_put_in_its_place_answers():
    classify = pipeline(TASK, model=tiny_model(), processor=tiny_processor())
    before = scores(classify(BIKES, candidate_labels=LABELS))
    other, calls = tiny_model(seed=5), []
    other.register_forward_hook(lambda *call: calls.append(call))
    classify.model = other
    after = scores(classify(BIKES, candidate_labels=LABELS))
    expected = pipeline(TASK, model=other, processor=tiny_processor())
    assert after == pytest.approx(scores(expected(BIKES, candidate_labels=LABELS)), abs=1e-6)
    assert after != pytest.approx(before, abs=1e-4)
    assert len(calls) == 2
    torch._dynamo.reset()
    counter = CompileCounter()
    classify.model = torch.compile(other, backend=counter)
    assert scores(classify(BIKES, candidate_labels=LABELS)) == pytest.approx(after, abs=1e-6)
    assert counter.frame_count > 0


def test_scores_are_those_of_model_and_processor(classify):
    inputs = classify.processor(BIKES, return_tensors="pt")
    with torch.no_grad():
        logits = classify.model(**inputs, **classify.processor.encode_labels(LABELS)).logits[0]
    expected = dict(zip(LABELS, logits.softmax(-1).tolist()))
    assert scores(classify(BIKES, LABELS)) == pytest.approx(expected, abs=1e-5)
    expected = dict(zip(LABELS, logits.tolist()))
    assert scores(classify(BIKES, LABELS, function_to_apply="none")) == pytest.approx(expected, abs=1e-4)


def test_lists_generators_iterators_and_datasets_give_the_same_answers(classify):
    datasets = pytest.importorskip("datasets")
    paths = [BIKES, str(REAL_VIDEOS["carphone_pristine"]), BIKES]
    expected = [classify(path, LABELS) for path in paths]
    column = datasets.Dataset.from_dict({"video": paths})
    forms = {
        "list": paths,
        "tuple": tuple(paths),
        "generator": (path for path in paths),
        "iterator": iter(paths),
        "column": column["video"],
        "column of a stream": column.to_iterable_dataset()["video"],
        "KeyDataset": KeyDataset(column, "video"),
        "list of paths": [Path(path) for path in paths],
        "list of open files": [io.BytesIO(Path(path).read_bytes()) for path in paths],
    }
    for name, form in forms.items():
        answers = classify(form, candidate_labels=LABELS, batch_size=2)
        assert isinstance(answers, list) == (name.startswith("list") or name == "tuple"), name
        for answer, reference in zip(answers, expected, strict=True):
            assert scores(answer) == pytest.approx(scores(reference), abs=1e-5), name


def test_frames_in_a_list_are_one_video(classify):
    video = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    expected = scores(classify(video, LABELS))
    assert scores(classify([Image.fromarray(frame) for frame in video], LABELS)) == expected
    assert scores(classify(torch.from_numpy(video), LABELS)) == expected
    batch = classify(video[None].repeat(2, axis=0), LABELS)
    assert [scores(answers) for answers in batch] == [expected, expected]
    assert classify([], LABELS) == []


def test_views_are_averaged_after_the_softmax(classify):
    views = classify.processor.video_processor(BIKES, num_views=3, num_crops=2, return_tensors="pt")
    with torch.no_grad():
        logits = classify.model(**views, **classify.processor.encode_labels(LABELS)).logits
    expected = dict(zip(LABELS, logits.softmax(-1).mean(0).tolist()))
    answers = classify([BIKES, BIKES], LABELS, num_views=3, num_crops=2, batch_size=2)
    for answer in answers:
        assert scores(answer) == pytest.approx(expected, abs=1e-5)


def test_options_can_be_given_once_for_all_calls():
    classify = pipeline(
        TASK, model=tiny_model(), processor=tiny_processor(), candidate_labels=LABELS, top_k=1, num_frames=2
    )
    assert len(classify(BIKES)) == 1
    assert len(classify(BIKES, top_k=2)) == 2
    assert len(classify(BIKES, candidate_labels=["a", "b"], top_k=9)) == 2


def test_templates_and_descriptions_change_the_prompts(classify):
    bare = classify.processor.encode_labels(LABELS, templates="none")
    inputs = classify.processor(BIKES, return_tensors="pt")
    with torch.no_grad():
        expected = dict(zip(LABELS, classify.model(**inputs, **bare).logits[0].softmax(-1).tolist()))
    assert scores(classify(BIKES, LABELS, templates="none")) == pytest.approx(expected, abs=1e-5)
    assert scores(classify(BIKES, LABELS, hypothesis_template="{}")) == pytest.approx(expected, abs=1e-5)
    described = classify(
        BIKES, {"riding a bike": "two wheels", "playing golf": None, "cooking": None}, templates="none"
    )
    assert scores(described) != pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="not both"):
        classify(BIKES, LABELS, templates="none", hypothesis_template="{}")


def test_ten_thousand_labels_are_encoded_in_chunks(classify, monkeypatch):
    longest = 0
    embed_shared_texts = modeling_froster.embed_shared_texts

    def watched(tower, texts):
        nonlocal longest
        longest = max(longest, len(texts.ends))
        return embed_shared_texts(tower, texts)

    monkeypatch.setattr(modeling_froster, "embed_shared_texts", watched)
    labels = [f"action {number}" for number in range(10_000)]
    answers = classify(BIKES, labels, templates="none", top_k=5)
    assert len(answers) == 5
    assert longest == processing_froster.TEXTS_PER_BATCH
    expected = classify(BIKES, [answer["label"] for answer in answers], templates="none", function_to_apply="none")
    assert [answer["label"] for answer in expected] == [answer["label"] for answer in answers]


@pytest.mark.parametrize("nothing", [[], {}, None])
def test_no_background_is_none_at_all(classify, nothing):
    assert classify(BIKES, LABELS, background_labels=nothing) == classify(BIKES, LABELS)


def test_what_the_background_wins_is_none_of_these(classify):
    background = ["an empty street", "a landscape"]
    everything = scores(classify(BIKES, [*LABELS, *background]))
    answers = scores(classify(BIKES, LABELS, background_labels=background))
    assert answers[NONE_OF_THESE] == pytest.approx(sum(everything[label] for label in background), abs=1e-5)
    assert answers["cooking"] == pytest.approx(everything["cooking"], abs=1e-5)
    assert set(answers) == {*LABELS, NONE_OF_THESE}


def test_below_the_threshold_nothing_is_claimed(classify):
    all_scores = scores(classify(BIKES, LABELS))
    second = sorted(all_scores.values())[1]
    kept = classify(BIKES, LABELS, threshold=second)
    assert len(kept) == 2
    nothing = classify(BIKES, LABELS, threshold=0.999)
    assert [answer["label"] for answer in nothing] == [NONE_OF_THESE]
    # Nothing was measured that "none of these" could score.
    assert nothing[0]["score"] is None


def test_a_threshold_needs_scores_from_0_to_1(classify):
    with pytest.raises(ValueError, match="softmax"):
        classify(BIKES, LABELS, threshold=0.5, function_to_apply="none")
    with pytest.raises(ValueError, match="softmax"):
        classify.timeline(BIKES, LABELS, threshold=0.5, function_to_apply="none")
    with pytest.raises(ValueError, match="from 0 to 1"):
        classify(BIKES, LABELS, threshold=50)


def test_workers_may_decode_ahead(classify):
    answers = classify([BIKES, BIKES], LABELS, num_workers=1, batch_size=2)
    assert answers == classify([BIKES, BIKES], LABELS, batch_size=2)


def test_ranking_on_given_scores():
    values = torch.tensor([0.1, 0.6, 0.3])
    assert [answer["label"] for answer in rank(values, ["a", "b", "c"], top_k=2)] == ["b", "c"]
    with_background = rank(values, ["a", "b"])
    assert [answer["label"] for answer in with_background] == ["b", NONE_OF_THESE, "a"]
    assert with_background[1]["score"] == pytest.approx(0.3)


def test_views_of_one_video_are_scored_before_they_are_averaged():
    logits = torch.tensor([[0.0, 2.0], [4.0, 0.0]])
    expected = (logits[0].softmax(-1) + logits[1].softmax(-1)) / 2
    torch.testing.assert_close(Scoring(2).score_views(logits), expected)
    torch.testing.assert_close(Scoring(2, "none").score_views(logits), torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize(
    "form",
    {
        "generator": lambda: (label for label in LABELS),
        "array": lambda: np.array(LABELS),
        "index to name": lambda: {str(index): label for index, label in enumerate(LABELS)},
        "name to index": lambda: {label: index for index, label in enumerate(LABELS)},
    }.items(),
    ids=lambda form: form[0],
)
def test_labels_are_recognized_in_every_form_that_programs_hold_them_in(classify, form):
    expected = classify(BIKES, LABELS, background_labels=["nothing", "an empty floor"])
    assert classify(BIKES, form[1](), background_labels=np.array(["nothing", "an empty floor"])) == expected
    assert classify.label_names(form[1]()) == LABELS
    assert torch.equal(classify.label_embeds(form[1]()), classify.label_embeds(LABELS))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (None, {}, "candidate_labels"),
        ("riding,golf", {}, r"Write \['riding', 'golf'\]"),
        ([], {}, "empty"),
        (["a", "a"], {}, "repeated: 'a'"),
        (LABELS, {"function_to_apply": "relu"}, "'softmax', 'sigmoid', 'evidence', 'none'"),
        *((LABELS, {name: 0}, f"`{name}` is 0") for name in ("top_k", "num_views", "num_crops", "num_frames")),
        (LABELS, {"on_error": "ignore"}, "'raise' or 'return'"),
        (LABELS, {"templates": 3}, "The prompt templates are 3; give a list of them"),
        (LABELS, {"tokenizer_kwargs": {"truncation": True}}, "tokenizer_kwargs"),
        (["x" * 100, "y"], {}, "77"),
    ],
)
def test_wrong_calls_are_named(classify, labels, options, message):
    with pytest.raises(ValueError, match=message):
        classify(BIKES, candidate_labels=labels, **options)


@pytest.mark.parametrize("value", ["3", 2.0, 2.5, True, float("nan"), [1]], ids=repr)
@pytest.mark.parametrize("name", ["top_k", "num_views", "num_crops", "num_frames", "batch_size", "num_workers"])
def test_counts_of_another_type_are_named(classify, name, value):
    with pytest.raises(TypeError, match=rf"^`{name}` is .*; it must be a whole number of at least [01]\.$"):
        classify([BIKES, BIKES], LABELS, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("top_k", -1), ("batch_size", 0), ("batch_size", -2), ("num_workers", -1)]
)
def test_counts_below_the_least_are_named(classify, name, value):
    with pytest.raises(ValueError, match=rf"^`{name}` is {value}; it must be a whole number of at least [01]\.$"):
        classify([BIKES, BIKES], LABELS, **{name: value})


def test_counts_of_numpy_are_taken(classify):
    options = {name: np.int64(1) for name in ("top_k", "num_views", "num_crops", "num_frames", "batch_size")}
    assert [len(answers) for answers in classify([BIKES, BIKES], LABELS, num_workers=np.int32(0), **options)] == [1, 1]


@pytest.mark.parametrize("threshold", ["0.5", True, [0.5], float("nan"), 2])
def test_a_threshold_that_is_no_share_is_named(classify, threshold):
    with pytest.raises(ValueError, match=r"^`threshold` is .*; it is one of scores from 0 to 1"):
        classify(BIKES, LABELS, threshold=threshold)


def test_text_is_not_taken_for_true(classify):
    with pytest.raises(TypeError, match="`multi_label` is 'no'; it must be True or False"):
        classify(BIKES, LABELS, multi_label="no")


def test_a_file_that_cannot_be_read_is_named(classify, tmp_path):
    with pytest.raises(VideoDecodeError, match=r"missing\.mp4"):
        classify(tmp_path / "missing.mp4", LABELS)


def test_models_of_other_kinds_are_refused():
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    text, _ = tiny_tower_options()
    with pytest.raises(ValueError, match="'clip_text_model' is not that of a backbone"):
        pipeline(TASK, model=CLIPTextModelWithProjection(CLIPTextConfig(**text)), processor=tiny_processor())
    with pytest.raises(ValueError, match="processor"):
        ZeroShotVideoClassificationPipeline(tiny_model())


def test_a_base_model_classifies_as_well(classify):
    base = pipeline(TASK, model=tiny_model().froster, processor=classify.processor)
    assert base(BIKES, LABELS) == classify(BIKES, LABELS)


@pytest.mark.parametrize(
    ("capabilities", "dtype", "computed"),
    [
        ({}, torch.float16, torch.float32),
        ({"avx512_bf16": True}, torch.float16, torch.float32),
        ({"avx512_fp16": True}, torch.float16, torch.float16),
        ({"avx512_bf16": True, "avx512_fp16": False}, torch.bfloat16, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16, torch.bfloat16),
        ({}, torch.float64, torch.float64),
    ],
)
def test_a_processor_without_arithmetic_in_the_weights_type_computes_in_float32(
    monkeypatch, capabilities, dtype, computed
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    model = tiny_model().to(dtype)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    classify = pipeline(TASK, model=model, processor=tiny_processor(), device="cpu")
    assert (classify.model.dtype, classify.stored_dtype) == (computed, dtype)
    assert all(torch.equal(weights[name], value.to(dtype)) for name, value in classify.model.state_dict().items())


def test_half_precision_models_take_the_processors_float32(monkeypatch, classify):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    half = pipeline(TASK, model=tiny_model().to(torch.bfloat16), processor=classify.processor)
    assert scores(half(BIKES, LABELS)) == pytest.approx(scores(classify(BIKES, LABELS)), abs=0.05)


def test_a_plain_clip_checkpoint_is_the_baseline_in_the_same_call(clip_folder):
    classify = pipeline(TASK, model=str(clip_folder))
    assert classify.model.config.temporal_module == "none"
    answers = scores(classify(BIKES, LABELS, templates="single"))

    clip, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    pixels = classify.processor(BIKES, return_tensors="pt")["pixel_values_videos"][0]
    texts = processor(text=[f"a video of a person {label}." for label in LABELS], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = clip(pixel_values=pixels, **texts).logits_per_image.mean(0)
    assert answers == pytest.approx(dict(zip(LABELS, logits.softmax(-1).tolist())), abs=1e-5)


def test_stored_labels_need_no_candidates_and_work_in_transformers_own_pipeline(tmp_path):
    model, processor = tiny_model(), tiny_processor("single")
    model.set_labels(LABELS, **processor.encode_labels(LABELS))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    stored = scores(pipeline(TASK, model=str(tmp_path))(BIKES))
    stock = pipeline("video-classification", model=str(tmp_path))
    assert type(stock).__module__.startswith("transformers.")
    assert scores(stock(BIKES)) == pytest.approx(stored, abs=1e-5)
    assert [scores(answers) for answers in stock([BIKES, BIKES], top_k=3)][1] == pytest.approx(stored, abs=1e-5)


OTHER_READERS = {
    "in the processor's file": ("processor_config.json", {"video_processor": {"video_processor_type": "X"}}),
    "in a file of its own": ("video_preprocessor_config.json", {"video_processor_type": "VideoMAEVideoProcessor"}),
    "by its images": ("preprocessor_config.json", {"image_processor_type": "VideoMAEImageProcessor"}),
    "in the model's file": ("config.json", {"video_processor_type": "VideoMAEVideoProcessor"}),
    "by a processor that the tokenizer's file names": ("tokenizer_config.json", {"processor_class": "BarkProcessor"}),
    "with sounds": (
        "audio_tokenizer_config.json",
        {"audio_tokenizer_class": "AutoModel", "audio_tokenizer_name_or_path": "owner/name"},
    ),
}
IMAGE_READER = {"image_processor_type": "CLIPImageProcessor", "crop_size": 32, "size": 32}


def save_with_labels(folder: Path) -> None:
    model, processor = tiny_model(), tiny_processor("single")
    model.set_labels(LABELS, **processor.encode_labels(LABELS))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def add_to(file: Path, fields: dict) -> None:
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | fields))


@pytest.mark.parametrize("task", [TASK, "video-classification"])
@pytest.mark.parametrize("case", OTHER_READERS)
def test_transformers_own_pipeline_reads_videos_by_this_packages_class_only(tmp_path, case, task):
    """Others decode in this process, without limits, and fetch whatever address they are given."""
    save_with_labels(tmp_path)
    file, says = OTHER_READERS[case]
    add_to(tmp_path / file, says)
    with pytest.raises(ValueError, match=r"The (video |image |)processor is refused: .*; allowed: "):
        pipeline(task, model=str(tmp_path))


@pytest.mark.parametrize("place", ["processor_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    "options", [{"num_views": -5}, {"num_views": "\x1b[2J"}, {"auto_map": {"AutoVideoProcessor": 5}}]
)
def test_transformers_own_pipeline_reads_no_videos_by_an_image_processor(tmp_path, place, options):
    """Which it takes where the video processor cannot be loaded, and decodes videos and fetches addresses itself."""
    save_with_labels(tmp_path)
    nested = place == "processor_config.json"
    add_to(tmp_path / place, {"image_processor": IMAGE_READER} if nested else IMAGE_READER)
    assert pipeline("video-classification", model=str(tmp_path)).video_processor is not None
    video_processor = json.loads((tmp_path / "processor_config.json").read_text())["video_processor"]
    add_to(tmp_path / "processor_config.json", {"video_processor": video_processor | options})
    with pytest.raises(ValueError, match="The video processor is refused: ") as caught:
        pipeline("video-classification", model=str(tmp_path))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("task", [TASK, "video-classification"])
def test_the_tokenizer_of_a_backbones_own_processor_is_checked_beside_a_froster_model(tmp_path, task):
    save_with_labels(tmp_path)
    add_to(tmp_path / "processor_config.json", {"processor_class": "CLIPProcessor"})
    FrosterForVideoClassification.from_pretrained(tmp_path)
    add_to(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    with pytest.raises(ValueError, match=r"The tokenizer is refused: .* 'BertTokenizer'"):
        pipeline(task, model=str(tmp_path))


@pytest.mark.parametrize("named", ["CLIPModel", "AutoTokenizer", "pipeline", ["CLIPModel"]])
@pytest.mark.parametrize("task", [TASK, "video-classification"])
def test_what_is_refused_is_not_loaded_by_a_class_that_its_file_names(tmp_path, task, named):
    """Which transformers tries next, by rules of its own, and with weights drawn at random."""
    folder = tmp_path / "checkpoint"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"architectures": [named]}))
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="outside of the checkpoint's folder"):
        pipeline(task, model=str(folder))


def test_transformers_own_pipeline_takes_more_videos_at_once_than_there_are_labels():
    model, processor = tiny_model(), tiny_processor("single")
    model.set_labels(LABELS, **processor.encode_labels(LABELS))
    stock = VideoClassificationPipeline(
        model=model, processor=processor, video_processor=processor.video_processor, tokenizer=processor.tokenizer
    )
    videos = [np.full((8, 32, 32, 3), 40 * number, np.uint8) for number in range(5)]
    together = stock(videos, batch_size=5, top_k=3)
    assert [scores(answers) for answers in together] == [
        pytest.approx(scores(stock([video], top_k=3)[0]), abs=1e-5) for video in videos
    ]


def test_names_without_embeddings_are_the_same_error_in_both_pipelines_also_after_saving(tmp_path):
    tiny_model().save_pretrained(tmp_path / "first")
    model = FrosterForVideoClassification.from_pretrained(tmp_path / "first", id2label={0: "a", 1: "b"})
    for folder in ("second", "third"):
        model.save_pretrained(tmp_path / folder)
        tiny_processor().save_pretrained(tmp_path / folder)
        for task in (TASK, "video-classification"):
            classify = pipeline(task, model=str(tmp_path / folder))
            with pytest.raises(ValueError, match=r"2 label names without embeddings.*set_labels"):
                classify(BIKES)
        model = FrosterForVideoClassification.from_pretrained(tmp_path / folder)


@pytest.mark.parametrize("options", [{"templates": "none"}, {"hypothesis_template": "someone {}"}])
def test_templates_are_refused_where_stored_labels_have_theirs(options):
    model, processor = tiny_model(), tiny_processor("single")
    model.set_labels(LABELS, **processor.encode_labels(LABELS))
    classify = pipeline(TASK, model=model, processor=processor)
    for call in (classify, classify.timeline):
        with pytest.raises(ValueError, match="stored in the checkpoint"):
            call(BIKES, **options)


def test_names_in_the_configuration_of_a_base_model_are_no_labels():
    base = tiny_model().froster
    base.config.id2label = dict(enumerate(LABELS))
    with pytest.raises(ValueError, match="candidate_labels"):
        pipeline(TASK, model=base, processor=tiny_processor())(BIKES)


def test_stored_labels_are_named_by_index_whatever_order_the_file_lists_them_in(tmp_path):
    model, processor = tiny_model(), tiny_processor("single")
    model.set_labels(LABELS, **processor.encode_labels(LABELS))
    expected = scores(pipeline(TASK, model=model, processor=processor)(BIKES))
    model.config.id2label = {index: LABELS[index] for index in (2, 0, 1)}
    assert scores(pipeline(TASK, model=model, processor=processor)(BIKES)) == pytest.approx(expected)


def test_a_model_that_returns_tuples_by_default_classifies_as_well(classify):
    model = tiny_model()
    model.config.return_dict = model.froster.config.return_dict = False
    answers = pipeline(TASK, model=model, processor=classify.processor)(BIKES, LABELS)
    assert scores(answers) == pytest.approx(scores(classify(BIKES, LABELS)), abs=1e-6)


def test_saved_with_processor_and_code_it_loads_with_and_without_the_package(classify, tmp_path):
    folder = tmp_path / "checkpoint"
    classify.save_pretrained(folder)
    expected = scores(classify(BIKES, LABELS))
    config = json.loads((folder / "config.json").read_text())
    assert config["custom_pipelines"][TASK]["impl"] == "pipeline_froster.ZeroShotVideoClassificationPipeline"

    # installed: the registered classes, without `trust_remote_code`
    installed = pipeline(TASK, model=str(folder))
    assert type(installed) is ZeroShotVideoClassificationPipeline
    assert scores(installed(BIKES, LABELS)) == pytest.approx(expected, abs=1e-6)
    installed.save_pretrained(tmp_path / "again")
    assert (
        json.loads((tmp_path / "again" / "config.json").read_text())["custom_pipelines"] == config["custom_pipelines"]
    )

    script = (
        "import sys, json; sys.modules['froster_hf'] = None\n"
        "from transformers import pipeline\n"
        f"classify = pipeline({TASK!r}, model={str(folder)!r}, trust_remote_code=True)\n"
        "assert 'transformers_modules' in type(classify.model).__module__, type(classify.model)\n"
        "assert 'transformers_modules' in type(classify.processor.video_processor).__module__\n"
        f"print(json.dumps(classify({BIKES!r}, candidate_labels={LABELS!r})))\n"
    )
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    result = run_python("-c", script, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert scores(json.loads(result.stdout.splitlines()[-1])) == pytest.approx(expected, abs=1e-6)


def test_a_processor_that_crops_to_another_size_than_the_model_sees_is_refused_at_once():
    processor = tiny_processor()
    side = tiny_model().config.vision_config.image_size
    processor.video_processor.crop_size = {"height": side + 8, "width": side + 8}
    with pytest.raises(ValueError, match=f"frames of {side + 8} x {side + 8} pixels, and the model sees {side}"):
        pipeline("zero-shot-video-classification", model=tiny_model(), processor=processor)


def test_a_processor_that_takes_all_frames_of_a_video_is_refused():
    processor = tiny_processor()
    processor.video_processor.do_sample_frames = False
    with pytest.raises(
        ValueError, match=r"takes all frames of each video .*Set `do_sample_frames` to true in its file"
    ):
        pipeline("zero-shot-video-classification", model=tiny_model(), processor=processor)


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"do_center_crop": False, "size": {"height": 512, "width": 512}}, "512 x 512 pixels"),
        ({"do_center_crop": False, "size": {"height": 47, "width": 47}}, "47 x 47 pixels"),
        ({"do_center_crop": False, "size": {"height": 16, "width": 64}}, "16 x 64 pixels"),
        ({"do_center_crop": False, "size": {"shortest_edge": 32}}, "the shape of each video"),
        ({"do_center_crop": False, "size": {"max_height": 32, "max_width": 32}}, "the shape of each video"),
        ({"do_center_crop": False, "do_resize": False}, "the shape of each video"),
        ({"do_center_crop": True, "size": {"height": 32, "width": 32}, "crop_size": 16}, "16 x 16 pixels"),
        ({"cropping": "random", "do_center_crop": False, "crop_size": 48}, "48 x 48 pixels"),
    ],
    ids=str,
)
def test_a_processor_that_makes_frames_of_another_size_is_refused_for_every_backbone(encoder_folder, options, made):
    processor = FrosterProcessor.from_dual_encoder(encoder_folder, video_options=options)
    with pytest.raises(ValueError, match=f"makes frames of {made}, and the model sees 32 x 32"):
        pipeline(
            "zero-shot-video-classification", model=AutoModel.from_pretrained(encoder_folder), processor=processor
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_center_crop": False, "size": {"height": 32, "width": 32}, "crop_size": {"height": 224, "width": 224}},
        {"do_center_crop": True, "do_resize": False, "crop_size": {"height": 32, "width": 32}},
        {"do_center_crop": True, "size": {"shortest_edge": 40, "longest_edge": 90}, "crop_size": 32},
        {"cropping": "random", "crop_size": 32, "seed": 0},
    ],
    ids=str,
)
def test_every_way_to_the_size_that_the_model_sees_is_taken(encoder_folder, options):
    processor = FrosterProcessor.from_dual_encoder(encoder_folder, video_options={"num_frames": 2, **options})
    classify = pipeline(
        "zero-shot-video-classification", model=AutoModel.from_pretrained(encoder_folder), processor=processor
    )
    assert len(classify(np.zeros((3, 40, 56, 3), np.uint8), ["a", "b"], templates="{}")) == 2


def test_the_processor_decides_how_many_frames_are_read():
    processor = tiny_processor()
    assert processor.video_processor.num_frames == tiny_model().config.num_frames != 7
    classify = pipeline("zero-shot-video-classification", model=tiny_model(), processor=processor)
    expected = scores(classify(BIKES, LABELS, num_frames=7))
    processor.video_processor.num_frames = 7
    assert scores(classify(BIKES, LABELS)) == pytest.approx(expected)
