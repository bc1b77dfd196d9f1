"""Whose decision each option is, and options that would compute without bound."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import AutoVideoProcessor, CLIPImageProcessor, CLIPProcessor
from transformers.video_utils import VideoMetadata

import froster_hf  # noqa: F401
from froster_hf.checkpoint_loading import load_pipeline
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.processing.sampling_froster import CALLERS_OPTIONS, SAMPLINGS, Sampling
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.video.decoding import VideoDecodeError, VideoLimits
from tests.fixtures.dual_encoders import save_dual_encoder
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_processor, tiny_tokenizer
from tests.processing.test_video_processor import numbered_video, pixels, random_video, small_processor

HOSTILE = {
    "allow_urls": "http",
    "video_backend": "decord",
    "video_limits": {"max_memory_bytes": 1e15, "timeout_seconds": math.inf, "max_pixels": 10**30, "max_frames": 30},
}


def stored(folder, **changes) -> dict:
    """Change what a folder's processor file says about videos."""
    (path,) = folder.glob("*processor_config.json")
    config = json.loads(path.read_text())
    config.get("video_processor", config).update(changes)
    path.write_text(json.dumps(config))
    return config


@pytest.mark.parametrize("load", [FrosterVideoProcessor.from_pretrained, AutoVideoProcessor.from_pretrained])
def test_a_checkpoint_sets_no_policy_and_only_lowers_limits(tmp_path, load):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, **HOSTILE)
    processor = load(tmp_path)
    assert (processor.allow_urls, processor.video_backend) == ("none", "auto")
    defaults = VideoLimits()
    assert VideoLimits.of(processor.video_limits) == VideoLimits(max_frames=30)
    assert processor.video_limits["timeout_seconds"] == defaults.timeout_seconds
    with pytest.raises(VideoDecodeError, match="max_frames"):
        pixels(processor, REAL_VIDEOS["bikes"])
    with pytest.raises(VideoDecodeError, match="URLs are not fetched"):
        pixels(processor, "http://127.0.0.1:1/clip.mp4")


def test_the_processor_of_a_whole_checkpoint_neither(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    stored(tmp_path, **HOSTILE)
    processor = FrosterProcessor.from_pretrained(tmp_path).video_processor
    assert (processor.allow_urls, processor.video_backend) == ("none", "auto")
    assert VideoLimits.of(processor.video_limits) == VideoLimits(max_frames=30)


def test_what_the_caller_says_at_loading_counts(tmp_path):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, **HOSTILE)
    mine = {"allow_urls": "https", "video_backend": "pyav", "video_limits": {"max_frames": 3_000_000}}
    processor = FrosterVideoProcessor.from_pretrained(tmp_path, **mine)
    assert {name: getattr(processor, name) for name in mine} == mine


def test_the_callers_options_are_written_into_no_checkpoint(tmp_path):
    processor = tiny_processor()
    for name, value in HOSTILE.items():
        setattr(processor.video_processor, name, value)
    processor.save_pretrained(tmp_path / "whole")
    processor.video_processor.save_pretrained(tmp_path / "alone")
    for file in tmp_path.rglob("*.json"):
        assert not [name for name in CALLERS_OPTIONS if f'"{name}"' in file.read_text()], file


@pytest.mark.parametrize("limits", [{"max_frames": "many"}, {"nonsense": 1}, [1], {"timeout_seconds": -1}])
def test_limits_of_a_checkpoint_that_are_none_are_refused(tmp_path, limits):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, video_limits=limits)
    with pytest.raises(ValueError, match=r"(?i)limits") as caught:
        FrosterVideoProcessor.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"resample": 99},
        {"resample": None},
        {"size": {"longest_edge": 32}},
        {"image_mean": [0.5, 0.5, 0.5, 0.5]},
        {"image_mean": None},
        {"num_frames": None},
        {"seed": [1, 2]},
        {"fps": 3},
        # With which every video would get the same answer, or fail in the model.
        {"image_std": [1e300] * 3},
        {"image_std": [0.3, 1e30, 0.3]},
        {"image_std": [1e-30] * 3},
        {"image_mean": [1e7] * 3},
        {"image_mean": [1e30] * 3},
        {"rescale_factor": 1e-30},
        {"rescale_factor": 1e-30, "size": {"shortest_edge": 3000}},
    ],
)
def test_options_of_a_checkpoint_with_which_nothing_can_be_processed_are_refused_at_loading(tmp_path, options):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, **options)
    with pytest.raises(
        ValueError, match=r"No video can be processed with this checkpoint's options|`fps` is 3"
    ) as caught:
        FrosterVideoProcessor.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"resample": 99},
        {"size": {"longest_edge": 32}},
        {"image_mean": [0.5] * 5},
        {"image_std": [0.5] * 2},
        {"image_std": [1e-45] * 3},
        {"rescale_factor": 1e308},
        {"rescale_factor": 1e-30},
        {"image_mean": [1e7] * 3},
    ],
    ids=str,
)
def test_options_of_a_plain_clip_with_which_nothing_can_be_processed_are_refused_at_loading(tmp_path, options):
    save_dual_encoder("clip", tmp_path)
    path = tmp_path / "processor_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "image_processor": {**config["image_processor"], **options}}))
    for load in (FrosterProcessor.from_clip, FrosterProcessor.from_dual_encoder, load_pipeline):
        with pytest.raises(ValueError, match="No video can be processed with this checkpoint's options") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"do_rescale": False},
        {"do_rescale": False, "image_mean": [123.7] * 3, "image_std": [58.4] * 3},
        {"do_normalize": False},
        {"do_normalize": False, "do_rescale": False},
        {"image_mean": [0.0] * 3, "image_std": [1.0] * 3},
        {"rescale_factor": -1},
    ],
    ids=str,
)
def test_statistics_that_processors_have_are_taken(tmp_path, options):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, **options)
    FrosterVideoProcessor.from_pretrained(tmp_path)


def test_options_of_one_call_are_not_taken_from_a_checkpoint(tmp_path):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, device="nonsense", data_format="channels_last", return_tensors="np", return_metadata=True)
    processor = FrosterVideoProcessor.from_pretrained(tmp_path)
    assert pixels(processor, random_video()).shape == (1, 4, 3, 32, 32)
    assert FrosterVideoProcessor.from_pretrained(tmp_path, device="cpu").device == "cpu"


def test_a_checkpoint_sets_no_other_attribute(tmp_path):
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, preprocess="nothing", resize=1, valid_kwargs={}, model_input_names=[])
    processor = FrosterVideoProcessor.from_pretrained(tmp_path)
    assert pixels(processor, random_video()).shape == (1, 4, 3, 32, 32)


WRONG = [
    {"num_views": 1_000_000},
    {"num_crops": 100_000},
    {"num_frames": 10**9},
    {"num_frames": 0},
    {"num_frames": -3},
    {"num_frames": 8.5},
    {"num_frames": True},
    {"num_views": "3"},
    {"frame_stride": 0},
    {"size": {"shortest_edge": 10**9}},
    {"size": {"shortest_edge": -5}},
    {"crop_size": {"height": 10**6, "width": 10**6}},
    {"crop_size": {"height": 0, "width": 32}},
    {"short_side_range": [10**6, 10**6], "cropping": "random"},
    {"num_frames": 40_000, "num_views": 2, "size": {"shortest_edge": 1}, "crop_size": {"height": 1, "width": 1}},
    {"image_std": [0.0, 0.0, 0.0]},
    {"image_std": [math.nan, 1.0, 1.0]},
    {"image_std": [-1.0, 1.0, 1.0]},
    {"image_mean": [math.inf, 0.0, 0.0]},
    {"rescale_factor": 0.0},
    {"rescale_factor": math.nan},
    {"sampling": "middle"},
    {"cropping": "left"},
    {"num_crops": 3, "cropping": "random"},
]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_options_that_make_no_clips_or_too_many_are_refused_at_once(tmp_path, options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=name) as caught:
        small_processor(**options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=name):
        pixels(small_processor(), random_video(), **options)
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, **options)
    with pytest.raises(ValueError, match=name):
        AutoVideoProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["sampling", "cropping", "num_frames", "image_mean"])
def test_a_wrong_choice_or_number_of_any_length_is_a_short_error(name):
    with pytest.raises(ValueError, match=name) as caught:
        small_processor(**{name: "a" * 100_000})
    assert len(str(caught.value)) <= 500


def test_published_settings_are_far_below_the_bounds():
    processor = FrosterVideoProcessor(num_frames=64, num_views=10, num_crops=3)
    assert processor.num_views == 10


@pytest.mark.parametrize(("height", "width"), [(2, 500_000), (2, 4000)])
def test_a_frame_that_would_be_enlarged_without_bound_is_refused(height, width):
    video = np.zeros((4, height, width, 3), dtype=np.uint8)
    with pytest.raises(VideoDecodeError, match=rf"{width} x {height} pixels, resized to a short side of 224"):
        pixels(FrosterVideoProcessor(num_frames=4), video)


def test_a_frame_of_which_nothing_would_be_left_is_refused():
    size = {"shortest_edge": 32, "longest_edge": 32}
    video = np.zeros((4, 16, 4096, 3), dtype=np.uint8)
    with pytest.raises(VideoDecodeError, match="nothing is left of 4096 x 16 pixels, resized to 32 at most"):
        pixels(FrosterVideoProcessor(num_frames=4, size=size), video)
    assert pixels(FrosterVideoProcessor(num_frames=4, size=size, crop_size=32), video[..., :500, :]).shape[-1] == 32


def test_short_sides_of_random_crops_count():
    processor = small_processor(num_frames=4, cropping="random", short_side_range=[600, 600])
    with pytest.raises(VideoDecodeError, match="4096 x 16 pixels, resized to a short side of 600"):
        pixels(processor, np.zeros((4, 16, 4096, 3), dtype=np.uint8), seed=1)


def test_many_frames_that_a_crop_would_fill_up_are_refused():
    """A video of 100 kB may have thousands that are a few pixels wide."""
    video, options = np.zeros((4000, 16, 16, 3), dtype=np.uint8), {"do_sample_frames": False, "do_resize": False}
    with pytest.raises(
        VideoDecodeError, match="4000 frames of 16 x 16 pixels, filled up to 224, have 602112000 values"
    ):
        pixels(FrosterVideoProcessor(), video, **options)
    assert pixels(FrosterVideoProcessor(), video[:4], **options).shape == (1, 4, 3, 224, 224)


def test_a_panorama_is_taken():
    assert pixels(FrosterVideoProcessor(num_frames=4), np.zeros((4, 20, 600, 3), dtype=np.uint8)).shape[-1] == 224


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_no_numbers_are_refused(value):
    video = random_video().astype(np.float32)
    video[2, 3, 4, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        pixels(small_processor(num_frames=6), video)


def test_whole_numbers_are_the_floats_that_they_are(tmp_path):
    whole = {"image_mean": [0, 0, 0], "image_std": [1, 1, 2], "rescale_factor": 1, "flip_probability": 0}
    small_processor().save_pretrained(tmp_path)
    stored(tmp_path, **whole)
    found = FrosterVideoProcessor.from_pretrained(tmp_path)(random_video(), return_tensors="pt").pixel_values_videos
    same = {"image_mean": [0.0] * 3, "image_std": (1.0, 1.0, 2.0), "rescale_factor": 1.0, "flip_probability": 0.0}
    for options in (whole, same):
        assert torch.equal(
            small_processor()(random_video(), return_tensors="pt", **options).pixel_values_videos, found
        )
    images = CLIPImageProcessor(image_mean=[0, 0, 0], image_std=[1, 1, 1], size={"shortest_edge": 32})
    clip = CLIPProcessor(images, tiny_tokenizer())
    assert FrosterProcessor.from_dual_encoder_processor(clip).video_processor._options({})["image_mean"] == [0.0] * 3


def test_metadata_may_be_nested_as_transformers_processors_pass_it():
    video = numbered_video(40)
    options = {"sampling": "dense", "frame_stride": 4, "num_frames": 4}
    flat = pixels(small_processor(**options), video, video_metadata=[{"fps": 15.0}])
    for nested in ([[{"fps": 15.0}]], [[VideoMetadata(total_num_frames=40, fps=15.0)]], {"fps": 15.0}):
        assert torch.equal(pixels(small_processor(**options), video, video_metadata=nested), flat)
    assert not torch.equal(pixels(small_processor(**options), video), flat)


def test_sample_frames_takes_transformers_arguments_by_position():
    processor = small_processor()
    metadata = VideoMetadata(total_num_frames=100)
    assert processor.sample_frames(metadata).tolist() == [12, 37, 62, 87]
    assert processor.sample_frames(metadata, 2).tolist() == [25, 75]
    with pytest.raises(ValueError, match="`fps` is 3"):
        processor.sample_frames(metadata, None, 3)


def test_a_new_way_of_sampling_is_one_entry(tmp_path, monkeypatch):
    """Registered in the table alone, it is taken by the processor, its files and the evaluation."""
    from froster_hf.evaluation.protocols import EvaluationProtocol

    def first(num_video_frames, num_frames, *, num_views, **_):
        return [list(range(num_frames))] * num_views

    monkeypatch.setitem(SAMPLINGS, "first", Sampling(first, is_random=False))
    processor = small_processor(sampling="first")
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert loaded.sample_frames(VideoMetadata(total_num_frames=9)).tolist() == [0, 1, 2, 3]
    assert torch.equal(pixels(loaded, numbered_video(9)), pixels(loaded, numbered_video(4)))
    protocol = EvaluationProtocol("new", "cross_dataset", "ucf101", sampling="first")
    assert protocol.video_options["sampling"] == "first"


@pytest.mark.parametrize("sampling", ["random_dense", "middle"])
def test_an_evaluation_samples_without_chance(sampling):
    from froster_hf.evaluation.protocols import EvaluationProtocol

    with pytest.raises(ValueError, match=r"Protocol new: `sampling` is .* must be one of 'uniform', 'dense'\."):
        EvaluationProtocol("new", "cross_dataset", "ucf101", sampling=sampling)
