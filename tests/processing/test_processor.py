"""The processor: labels to tokens, templates that travel with the checkpoint, no silent changes."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, AutoVideoProcessor, CLIPImageProcessor, CLIPProcessor

from froster_hf.modeling.modeling_froster import FrosterModel
from froster_hf.processing import processing_froster
from froster_hf.processing.processing_froster import FrosterProcessor
from tests.fixtures.backends import VERIFIED
from tests.fixtures.forks import run_python
from tests.fixtures.hidden import hiding
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor, tiny_tokenizer, tiny_video_processor
from tests.modeling.test_loading import populate_hub_cache


def decode(processor, input_ids) -> list[str]:
    return processor.tokenizer.batch_decode(input_ids, skip_special_tokens=True)


def test_labels_become_prompts_label_by_label():
    processor = tiny_processor(["a video of {}.", "{}"])
    encoded = processor.encode_labels(["golf", "archery"])
    assert encoded["num_prompts"] == processor.num_prompts == 2
    prompts = ["a video of golf.", "golf", "a video of archery.", "archery"]
    assert processor.write_prompts(["golf", "archery"]) == prompts
    assert encoded["input_ids"].shape[0] == 4
    assert [text.replace(" ", "") for text in decode(processor, encoded["input_ids"])] == [
        "avideoofgolf.",
        "golf",
        "avideoofarchery.",
        "archery",
    ]


def test_prompts_are_padded_to_the_longest_and_no_further():
    processor = tiny_processor("none")
    # start, letters, end
    assert processor.encode_labels(["golf", "archery"])["input_ids"].shape == (2, 9)
    assert processor(text=["golf", "archery"], return_tensors="pt")["input_ids"].shape == (2, 9)


@pytest.mark.parametrize(
    "options", [{"padding": "max_length"}, {"text_kwargs": {"padding": "max_length"}}, {"padding": True}]
)
def test_a_call_says_otherwise_than_the_defaults_of_the_class(options):
    assert FrosterProcessor.text_kwargs == {"padding": True}
    length = 9 if options == {"padding": True} else 77
    processor = tiny_processor("none")
    assert processor(text=["golf", "archery"], return_tensors="pt", **options)["input_ids"].shape == (2, length)
    assert "text_kwargs" not in processor.to_dict()


def test_a_class_below_has_defaults_of_its_own():
    class ToTheEnd(FrosterProcessor):
        text_kwargs = {"padding": "max_length"}

    processor = ToTheEnd(tiny_video_processor(), tiny_tokenizer(), "none")
    assert processor(text=["golf", "archery"], return_tensors="pt")["input_ids"].shape == (2, 77)
    assert processor(text=["golf", "archery"], padding=True, return_tensors="pt")["input_ids"].shape == (2, 9)
    assert FrosterProcessor.text_kwargs == {"padding": True}


def test_the_default_is_frosters_set_of_29():
    processor = FrosterProcessor(tiny_video_processor(), tiny_tokenizer())
    assert processor.num_prompts == 29
    assert processor.encode_labels(["golf"])["input_ids"].shape[0] == 29


def test_descriptions_come_from_the_call_the_mapping_or_the_processor():
    processor = tiny_processor("none")
    assert processor.write_prompts(["golf"], {"golf": "a ball"}) == ["golf: a ball"]
    assert processor.write_prompts({"golf": "a ball", "tennis": None}) == ["golf: a ball", "tennis"]
    stored = FrosterProcessor(processor.video_processor, processor.tokenizer, "none", {"golf": "stored"})
    assert stored.write_prompts(["golf", "tennis"]) == ["golf: stored", "tennis"]
    assert stored.write_prompts(["golf"], {"golf": "given"}) == ["golf: given"]
    assert stored.write_prompts(["golf"], {}) == ["golf"]


def test_characters_that_nobody_sees_change_no_prompt():
    assert tiny_processor("none").write_prompts(["go\u00adlf\u200b"]) == ["golf"]


def test_labels_are_made_readable_only_on_request():
    as_given = tiny_processor("none")
    assert as_given.write_prompts(["brushHair"]) == ["brushHair"]
    words = FrosterProcessor(as_given.video_processor, as_given.tokenizer, "none", label_style="words")
    assert words.write_prompts(["brushHair", "ApplyEyeMakeup"]) == ["brush hair", "apply eye makeup"]
    with pytest.raises(ValueError, match="label_style"):
        FrosterProcessor(as_given.video_processor, as_given.tokenizer, label_style="pretty")


def test_templates_can_be_changed_for_one_call():
    processor = tiny_processor("none")
    encoded = processor.encode_labels(["golf"], templates="actionclip")
    assert encoded["num_prompts"] == encoded["input_ids"].shape[0] == 16
    assert processor.num_prompts == 1


def test_texts_that_are_too_long_are_refused_or_cut_on_request():
    processor = tiny_processor("none", max_tokens=10)
    with pytest.raises(ValueError, match=r"12 tokens and the text tower takes 10: 'swordfight'"):
        processor.encode_labels(["golf", "swordfight"])
    with pytest.raises(ValueError, match="'swordfight'"):
        processor(text=["golf", "swordfight"])
    cut = processor.encode_labels(["golf", "swordfight"], truncation=True)["input_ids"]
    assert cut.shape == (2, 10)
    # the end token, at which the tower reads, is still there
    assert (cut == processor.tokenizer.eos_token_id).any(dim=1).all()


@pytest.mark.parametrize("encode", ["encode_labels", "embed_labels", "__call__"])
def test_one_long_label_does_not_make_all_others_as_long(encode):
    processor, labels = tiny_processor("froster"), ["a" * 1_900, *(f"label {number}" for number in range(500))]
    arguments = {"text": labels} if encode == "__call__" else {"labels": labels}
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"A text has 19\d\d tokens and the text tower takes 77: '.*aaa'"):
            getattr(processor, encode)(**arguments, **({"model": tiny_model()} if encode == "embed_labels" else {}))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_texts_tokenized_a_few_at_a_time_are_the_same(monkeypatch):
    processor, labels = tiny_processor(["a video of {}.", "{}"]), ["golf", "archery", "b"]
    expected = processor.encode_labels(labels)
    longest = max(map(len, processor.write_prompts(labels)))
    monkeypatch.setattr(processing_froster, "MOST_CHARACTERS", longest)
    assert processor.encode_labels(labels)["input_ids"].tolist() == expected["input_ids"].tolist()


def test_more_tokens_than_are_held_together_are_refused(monkeypatch):
    processor, labels = tiny_processor(["a video of {}.", "{}"]), ["golf", "archery", "b"]
    num_tokens = processor.encode_labels(labels)["input_ids"].numel()
    monkeypatch.setattr(processing_froster, "MOST_TOKENS", num_tokens)
    assert processor.encode_labels(labels)["input_ids"].numel() == num_tokens
    monkeypatch.setattr(processing_froster, "MOST_TOKENS", num_tokens - 1)
    with pytest.raises(ValueError, match=rf"6 texts of up to {num_tokens // 6} tokens are more than the"):
        processor.encode_labels(labels)


@pytest.mark.parametrize("truncation", [False, True])
def test_a_text_of_more_characters_than_a_tokenizer_gets_is_refused_before_it(monkeypatch, truncation):
    """A tokenizer of a stranger may make a hundred tokens of each."""
    processor = tiny_processor(["{}" + "x" * 1500])
    monkeypatch.setattr(processing_froster, "MOST_CHARACTERS", 2000)
    monkeypatch.setattr(type(processor.tokenizer), "__call__", lambda *_, **__: pytest.fail("tokenized"))
    with pytest.raises(ValueError, match=r"A text has 30\d\d characters; up to 2000 are read: '.*Shorten its label"):
        processor.encode_labels({"golf": "y" * 1500}, truncation=truncation)


def test_videos_and_texts_go_together_into_the_model():
    processor, model = tiny_processor(), tiny_model()
    videos = [np.zeros((5, 40, 50, 3), np.uint8), REAL_VIDEOS["bikes"]]
    inputs = processor(videos=videos, text=["golf", "tennis", "a dog"], return_tensors="pt")
    assert set(inputs) == {"pixel_values_videos", "input_ids", "attention_mask"}
    with torch.no_grad():
        assert model.froster(**inputs).logits_per_video.shape == (2, 3)
    first = processor(videos[1], return_tensors="pt")
    labels = processor.encode_labels(["golf", "tennis"], templates="froster")
    with torch.no_grad():
        assert model(**first, **labels).logits.shape == (1, 2)


@pytest.mark.parametrize("label", ["{0.__class__}", "{:>999999999}", "%s%n", "{label}", "{}"])
def test_labels_are_never_formatted(label):
    assert tiny_processor().write_prompts([label], templates=["a video of {}."]) == [f"a video of {label}."]
    described = tiny_processor().write_prompts({"golf": label}, templates=["{}"])
    assert described == [f"golf: {label}"]


def test_a_template_is_no_longer_than_a_label_may_be():
    with pytest.raises(ValueError, match="a text has 2002 characters, more than 2000"):
        tiny_processor().write_prompts(["golf"], templates=["{}" + "x" * 2000])


def test_texts_have_an_end_whatever_a_tokenizer_states():
    processor = tiny_processor()
    processor.tokenizer.model_max_length = 10**30
    with pytest.raises(ValueError, match="and the text tower takes 4096"):
        processor(text=["a " * 5000])


@pytest.mark.parametrize("template", ["{0.__class__}", "{:>999999999}", "{} and {}", "no place", "{label}"])
def test_templates_with_another_place_than_one_are_refused(template):
    with pytest.raises(ValueError, match="must hold exactly one"):
        tiny_processor().write_prompts(["golf"], templates=[template])


@pytest.mark.parametrize("label", ["x" * 90_000, "golf \u202e" * 100, "a\0b"])
def test_hostile_labels_are_refused_in_a_short_message(label):
    with pytest.raises(ValueError, match=r"tokens|characters|NUL") as caught:
        tiny_processor().encode_labels([label])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "labels",
    [{"0": "golf", "1": "tennis"}, {"golf": 0, "tennis": 1}, iter(["golf", "tennis"])],
    ids=["index to name", "name to index", "iterator"],
)
def test_every_form_of_a_label_list_gives_the_same_prompts(labels):
    assert tiny_processor().encode_labels(labels)["input_ids"].tolist() == (
        tiny_processor().encode_labels(["golf", "tennis"])["input_ids"].tolist()
    )


def test_calling_without_anything_is_refused():
    with pytest.raises(ValueError, match="at least one input"):
        tiny_processor()()


def test_everything_is_saved_and_loaded_by_the_auto_classes(tmp_path):
    processor = FrosterProcessor(
        tiny_video_processor(sampling="dense", num_views=3),
        tiny_tokenizer(),
        ["{} now", "{}"],
        {"golf": "a ball"},
        "words",
    )
    tiny_model().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "processor_config.json").read_text())
    assert stored["prompt_templates"] == ["{} now", "{}"]
    assert stored["label_descriptions"] == {"golf": "a ball"}
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is FrosterProcessor
    # the reference to the code in the folder is written when saving, not kept
    assert {**loaded.to_dict(), "auto_map": None} == {**processor.to_dict(), "auto_map": None}
    assert loaded.video_processor.num_views == 3
    labels = ["golf", "brushHair"]
    expected = processor.encode_labels(labels)["input_ids"]
    assert torch.equal(loaded.encode_labels(labels)["input_ids"], expected)
    assert AutoVideoProcessor.from_pretrained(tmp_path).sampling == "dense"
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 77
    assert AutoProcessor.from_pretrained(tmp_path, prompt_templates="none").prompt_templates == ["{}"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [70.0, 60.0, 50.0]},
        {"do_rescale": False, "do_normalize": False},
        {"do_normalize": False},
        {"do_resize": False},
        {"do_resize": False, "crop_size": {"height": 56, "width": 56}},
    ],
    ids=str,
)
def test_a_plain_clip_checkpoint_gives_a_processor(tmp_path, options):
    square = {"height": 32, "width": 32}
    image_processor = CLIPImageProcessor(
        **{"size": {"shortest_edge": 40}, "crop_size": square, "image_mean": [0.1, 0.2, 0.3], **options}
    )
    CLIPProcessor(image_processor, tiny_tokenizer()).save_pretrained(tmp_path)
    processor = FrosterProcessor.from_clip(tmp_path, prompt_templates="single", video_options={"num_frames": 3})
    video = np.random.default_rng(0).integers(0, 256, (3, 50, 60, 3), dtype=np.uint8)
    ours = processor(video, return_tensors="pt")["pixel_values_videos"][0]
    theirs = image_processor(list(video), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert processor.prompt_templates == ["a video of a person {}."]
    assert processor.encode_labels(["golf"])["input_ids"][0, 0] == processor.tokenizer.bos_token_id


AS_REMOTE_CODE = (
    hiding("froster_hf", *VERIFIED)
    + """
import torch
from transformers import AutoProcessor

processor = AutoProcessor.from_pretrained("visual-ai/froster-b16", trust_remote_code=True)
assert not type(processor).__module__.startswith("froster_hf"), type(processor).__module__
inputs = processor(sys.argv[1], text=["golf"], return_tensors="pt")
torch.save({name: inputs[name] for name in ("pixel_values_videos", "input_ids")}, sys.argv[2])
"""
)


def test_a_hub_repository_needs_neither_the_package_nor_the_optional_decoders(tmp_path, monkeypatch):
    """transformers demands every package that a file of remote code imports outside of a `try`."""
    processor = tiny_processor()

    def save(folder):
        tiny_model().save_pretrained(folder)
        processor.save_pretrained(folder)

    populate_hub_cache(tmp_path / "hub", "visual-ai/froster-b16", save)
    for name, value in {"HF_HOME": tmp_path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, str(value))
    video, result = str(REAL_VIDEOS["bikes"]), tmp_path / "inputs.pt"
    finished = run_python("-I", "-c", AS_REMOTE_CODE, video, result)
    assert finished.returncode == 0, finished.stderr[-3000:]
    expected = processor(video, text=["golf"], return_tensors="pt")
    for name, value in torch.load(result, weights_only=True).items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    "labels", [["riding a bike", "golf", "cooking"], {"riding a bike": "two wheels", "golf": None}]
)
@pytest.mark.parametrize("templates", [None, "none", ["a video of {}.", "{}"]])
def test_labels_are_embedded_as_the_model_embeds_their_prompts(labels, templates):
    model, processor = tiny_model(), tiny_processor()
    processor.label_descriptions = {"golf": "a ball is hit"}
    expected = model.froster.get_label_embeds(**processor.encode_labels(labels, templates=templates))
    for given in (model, model.froster):
        embeds = processor.embed_labels(labels, model=given, templates=templates)
        assert not embeds.requires_grad
        torch.testing.assert_close(embeds, expected)


@pytest.mark.parametrize("descriptions", [None, {"b": "second"}, [None, "second", None, None, None]])
def test_labels_embedded_in_chunks_are_the_same(monkeypatch, descriptions):
    model, processor = tiny_model(), tiny_processor(["a video of {}.", "{}"])
    processor.label_descriptions = {"a": "first"}
    labels = list("abcde")
    expected = processor.embed_labels(labels, descriptions, model=model)
    encoded = processor.encode_labels(labels, descriptions)
    torch.testing.assert_close(expected, model.froster.get_label_embeds(**encoded))
    monkeypatch.setattr(processing_froster, "PROMPTS_PER_CHUNK", 4)
    torch.testing.assert_close(processor.embed_labels(labels, descriptions, model=model), expected)


@pytest.mark.parametrize(
    ("backbone", "labels", "message"),
    [
        ("metaclip_2", ["golf", "жук", "мяч"], "The labels 'жук' and 'мяч' become the same tokens"),
        ("metaclip_2", ["go</s>lf", "run"], "go</s> lf.* goes on behind the token 2"),
        ("clip", ["go<|endoftext|>lf", "run"], "goes on behind the token 513"),
    ],
)
def test_labels_that_the_model_cannot_tell_apart_are_an_error(dual_encoder_of, monkeypatch, backbone, labels, message):
    monkeypatch.setattr(processing_froster, "PROMPTS_PER_CHUNK", 2)
    model = FrosterModel.from_dual_encoder(dual_encoder_of(backbone))
    processor = FrosterProcessor.from_dual_encoder(dual_encoder_of(backbone), prompt_templates=["a {}.", "{}"])
    with pytest.raises(ValueError, match=message):
        processor.embed_labels(labels, model=model)
    with pytest.raises(ValueError, match=message):
        processor.encode_labels(labels, config=model.config)


@pytest.mark.parametrize(
    "labels",
    [["golf", "Golf", "ＧＯＬＦ"], {"golf": ["a ball", "a  ball"], "run": ["a ball"]}, ["golf", "go lf"], ["golf"]],
)
def test_what_is_the_same_words_is_no_error(dual_encoder_of, labels):
    model = FrosterModel.from_dual_encoder(dual_encoder_of("siglip"))
    processor = FrosterProcessor.from_dual_encoder(dual_encoder_of("siglip"), prompt_templates="none")
    assert torch.isfinite(processor.embed_labels(labels, model=model)).all()


def test_letters_that_the_tokenizer_does_not_know_are_said(dual_encoder_of, caplog):
    model = FrosterModel.from_dual_encoder(dual_encoder_of("metaclip_2"))
    processor = FrosterProcessor.from_dual_encoder(dual_encoder_of("metaclip_2"), prompt_templates="none")
    caplog.clear()  # of what making the checkpoint has said
    processor.embed_labels(["golf", "spülen"], model=model)
    assert not caplog.records
    processor.embed_labels(["golf", "жук"], model=model)
    (record,) = caplog.records
    assert record.getMessage().startswith("The tokenizer does not know all letters of 1 label(s), such as 'жук'; ")


def test_labels_that_are_repeated_in_different_chunks_are_refused(monkeypatch):
    monkeypatch.setattr(processing_froster, "PROMPTS_PER_CHUNK", 1)
    with pytest.raises(ValueError, match="repeated"):
        tiny_processor().embed_labels(["a", "b", "a"], model=tiny_model())
