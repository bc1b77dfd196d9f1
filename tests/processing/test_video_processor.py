"""The video processor on arrays and files: every kind of input, CLIP's own pixels, seeds, saving."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoVideoProcessor, CLIPImageProcessor

import froster_hf  # noqa: F401
from froster_hf.processing import video_processing_froster
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.video.decoding import VideoDecodeError
from tests.fixtures.backends import VERIFIED, needs_backend
from tests.fixtures.real_videos import REAL_VIDEOS

BIKES = REAL_VIDEOS["bikes"]


def small_processor(**options) -> FrosterVideoProcessor:
    return FrosterVideoProcessor(
        **{"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 4, **options}
    )


def random_video(num_frames=6, height=40, width=56, seed=0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def numbered_video(num_frames, height=32, width=32) -> np.ndarray:
    """Frame i is gray of value i."""
    return np.repeat(np.arange(num_frames, dtype=np.uint8), height * width * 3).reshape(num_frames, height, width, 3)


def pixels(processor, videos, **options) -> torch.Tensor:
    return processor(videos, return_tensors="pt", **options)["pixel_values_videos"]


@pytest.mark.parametrize(("height", "width"), [(40, 56), (90, 33), (32, 32), (20, 25), (240, 320)])
def test_pixels_equal_clips_own_image_processor(height, width):
    video = random_video(5, height, width)
    ours = pixels(small_processor(num_frames=5), video)[0]
    clip = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs = clip([Image.fromarray(frame) for frame in video], return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape == (5, 3, 32, 32)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_the_published_defaults_are_clips():
    processor = FrosterVideoProcessor()
    assert pixels(processor, random_video(3, 240, 320)).shape == (1, 8, 3, 224, 224)
    assert processor.image_mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert processor.image_std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


def test_arrays_of_every_form_give_the_same_pixels(tmp_path):
    # within 60 to 190 the resampling does not leave 0 to 255, where bytes are clipped and floats are not
    video = 60 + random_video() // 2
    processor = small_processor()
    expected = pixels(processor, video)
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(video):
        # without leading zeros: 10 must not come before 9
        Image.fromarray(frame).save(folder / f"frame_{index + 7}.png")
    (folder / "notes.txt").write_text("not a frame")
    channels_first = torch.from_numpy(video).permute(0, 3, 1, 2)
    forms = {
        "list of PIL images": [Image.fromarray(frame) for frame in video],
        "list of arrays": list(video),
        "list of tensors": list(channels_first),
        "torch, channels last": torch.from_numpy(video),
        "torch, channels first": channels_first,
        "NumPy, channels first": channels_first.numpy(),
        "float, 0 to 255": video.astype(np.float32),
        "double, 0 to 255": channels_first.double(),
        "batch of one": video[None],
        "tuple": (video,),
        "folder": folder,
        "folder as a string": str(folder),
        "image files": [[str(folder / f"frame_{index + 7}.png") for index in range(len(video))]],
        "RGBA": np.concatenate([video, np.full_like(video[..., :1], 255)], axis=-1),
    }
    for name, form in forms.items():
        result = pixels(processor, form)
        assert result.shape == expected.shape, name
        # bytes are rounded after resizing each way, floats are not: one level of 255, normalized
        tolerance = 0.02 if name.startswith(("float", "double")) else 0
        torch.testing.assert_close(result, expected, atol=tolerance, rtol=0, msg=name)
    scaled = pixels(processor, video.astype(np.float32) / 255, do_rescale=False)
    torch.testing.assert_close(scaled, expected, atol=0.02, rtol=0)


def test_files_bytes_and_open_files_give_the_same_pixels():
    processor = small_processor()
    expected = pixels(processor, str(BIKES))
    data = BIKES.read_bytes()
    row = {"path": "elsewhere.mp4", "bytes": data}
    with open(BIKES, "rb") as opened:
        for form in (
            BIKES,
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
            opened,
            row,
            {"path": str(BIKES)},
        ):
            assert torch.equal(pixels(processor, form), expected)


@pytest.mark.parametrize("stored", ["path", "bytes"])
def test_rows_of_a_datasets_video_column_are_read(stored):
    """Without torchcodec, which decodes such a column by default."""
    video = str(BIKES) if stored == "path" else BIKES.read_bytes()
    column = datasets.Dataset.from_dict(
        {"video": [video]}, features=datasets.Features({"video": datasets.Video(decode=False)})
    )
    assert column[0]["video"][stored] == video
    processor = small_processor()
    assert torch.equal(pixels(processor, column[0]["video"]), pixels(processor, BIKES))


def test_rows_that_datasets_has_opened_with_torchcodec_are_read():
    needs_backend("torchcodec")
    column = datasets.Dataset.from_dict({"video": [str(BIKES)]}).cast_column("video", datasets.Video())
    processor = small_processor()
    assert torch.equal(pixels(processor, column[0]["video"]), pixels(processor, BIKES))


def test_a_decoder_that_somebody_else_opened_by_torchcodec_is_read():
    needs_backend("torchcodec")
    from torchcodec import decoders

    processor = small_processor()
    assert torch.equal(pixels(processor, decoders.VideoDecoder(str(BIKES))), pixels(processor, BIKES))


def test_a_batch_may_mix_kinds_sizes_and_lengths():
    batch = [
        BIKES,
        random_video(1, 50, 40),
        [Image.new("L", (37, 61))] * 3,
        torch.zeros(20, 3, 33, 32, dtype=torch.uint8),
    ]
    processor = small_processor()
    together = pixels(processor, batch)
    assert together.shape == (4, 4, 3, 32, 32)
    for video, result in zip(batch, together):
        assert torch.equal(pixels(processor, video)[0], result)


def test_the_sampled_frames_are_those_of_the_index_arithmetic():
    processor = small_processor(do_normalize=False, do_rescale=False)
    result = processor(numbered_video(100), return_tensors="pt", return_metadata=True)
    indices = [12, 37, 62, 87]
    assert result["video_metadata"][0].frames_indices == indices
    assert result["pixel_values_videos"][0, :, 0, 0, 0].tolist() == indices


def test_the_frame_rate_of_an_array_scales_the_dense_window():
    processor = small_processor(sampling="dense", do_normalize=False, do_rescale=False)
    metadata = {"fps": 15.0}
    values = pixels(processor, numbered_video(100), video_metadata=metadata)[0, :, 0, 0, 0]
    assert values.tolist() == [34, 44, 54, 65]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 22])
@pytest.mark.parametrize("sampling", ["uniform", "dense", "random_segment", "random_dense"])
def test_clips_shorter_than_the_window_work(num_frames, sampling):
    result = pixels(small_processor(num_frames=8, sampling=sampling), numbered_video(num_frames))
    assert result.shape == (1, 8, 3, 32, 32)


def test_views_and_crops_follow_each_other_within_a_video():
    processor = small_processor(num_views=2, num_crops=3, do_normalize=False, do_rescale=False)
    videos = [numbered_video(40, 32, 64), 100 + numbered_video(40, 32, 64)]
    videos[0][:, :, 63] = 255
    result = pixels(processor, videos)
    assert result.shape == (2 * 2 * 3, 4, 3, 32, 32)
    first_values = result[:, 0, 0, 0, 0].tolist()
    assert first_values == [3, 3, 3, 6, 6, 6, 103, 103, 103, 106, 106, 106]
    at_right_edge = [bool((clip == 255).any()) for clip in result]
    assert at_right_edge == [False, False, True, False, False, True] + [False] * 6


def test_random_crops_follow_the_seed_and_keep_frames_in_register():
    processor = small_processor(cropping="random", sampling="random_dense")
    video = np.repeat(random_video(1, 60, 80), 50, axis=0)
    first, again, other = (pixels(processor, video, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # a still video stays still: all frames of a clip are cropped and mirrored alike
    assert torch.equal(first[0, 0], first[0, -1])


def test_a_seed_for_each_video_makes_it_independent_of_its_batch():
    processor = small_processor(cropping="random", sampling="random_segment")
    videos = [random_video(30, 60, 80, seed) for seed in range(3)]
    together = pixels(processor, videos, seed=[5, 6, 7])
    assert torch.equal(together[1:2], pixels(processor, videos[1], seed=[6]))
    assert torch.equal(together[1:2], pixels(processor, videos[1], seed=6))


def test_mirroring_can_be_switched_off():
    video = np.zeros((1, 32, 32, 3), np.uint8)
    video[:, :, :16] = 255
    processor = small_processor(cropping="random", short_side_range=[32, 32], do_normalize=False)
    seeds = list(range(20))
    left = pixels(processor, [video] * 20, seed=seeds)[:, 0, 0, 0, 0]
    assert 0 < left.mean() < 1
    never = pixels(processor, [video] * 20, seed=seeds, flip_probability=0.0)[:, 0, 0, 0, 0]
    assert never.min() == 1


def test_frames_are_all_kept_without_sampling():
    assert pixels(small_processor(do_sample_frames=False), numbered_video(7)).shape == (1, 7, 3, 32, 32)
    clips = small_processor(do_sample_frames=False)([numbered_video(7), numbered_video(5)])["pixel_values_videos"]
    assert [clip.shape[0] for clip in clips] == [7, 5]


@pytest.mark.parametrize(
    ("videos", "options", "message"),
    [
        ([], {}, "list is empty"),
        (np.zeros((4, 32, 32, 5), np.uint8), {}, "1, 3 or 4 channels"),
        (np.zeros((4, 32), np.uint8), {}, "dimensions"),
        (np.zeros((0, 3, 32, 32), np.uint8), {}, "no frames"),
        (np.zeros((8, 3, 0, 32), np.uint8), {}, "no pixels"),
        (np.zeros((8, 0, 0, 3), np.float32), {}, "no pixels"),
        ([np.zeros((3, 32, 0), np.uint8)], {}, "no pixels"),
        ([Image.new("RGB", (0, 32))], {}, "no pixels"),
        (np.zeros((4, 32, 32, 3), np.int64), {}, "uint8 or floating point"),
        (np.full((4, 32, 32, 3), 0.5, np.float32), {}, "do_rescale=False"),
        (np.full((4, 32, 32, 3), np.nan, np.float32), {}, "12288 of 12288 values .* NaN or infinite"),
        (np.full((4, 32, 32, 3), 1e300), {}, "NaN or infinite"),
        (torch.full((4, 3, 32, 32), float("-inf"), dtype=torch.bfloat16), {}, "NaN or infinite"),
        ([np.full((32, 32, 3), np.inf, np.float16)] * 4, {}, "NaN or infinite"),
        ([Image.fromarray(np.full((32, 32), np.nan, np.float32))], {}, "NaN or infinite"),
        ([Image.new("RGB", (40, 40)), Image.new("RGB", (50, 40))], {"num_frames": 2}, "differ in size: 40x40, 50x40"),
        (numbered_video(4), {"fps": 2}, "num_frames"),
        (numbered_video(4), {"seed": [1, 2]}, "1 videos and 2 seeds"),
        (numbered_video(4), {"video_metadata": [{}, {}]}, "1 videos and 2 entries"),
        (numbered_video(4), {"cropping": "random", "short_side_range": [16, 20]}, "short_side_range"),
        ([numbered_video(4), numbered_video(5)], {"do_sample_frames": False}, "different shapes"),
    ],
)
def test_wrong_input_is_named(videos, options, message):
    with pytest.raises(ValueError, match=message):
        pixels(small_processor(), videos, **options)


def test_a_video_that_is_nearly_black_is_taken_as_uint8_and_named_as_floats():
    dark = np.ones((4, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="from 0 to 255 and this dark, pass them as uint8"):
        pixels(small_processor(), dark.astype(np.float32))
    assert torch.equal(pixels(small_processor(do_normalize=False), dark), torch.full((1, 4, 3, 32, 32), 1 / 255))


@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1 / 57, -2.1), (1 / 127.499, -1), (257, 0), (3, -300)],
    ids=["normalized", "signed", "16", "low"],
)
def test_floats_that_are_no_pixels_of_0_to_255_are_refused(scale, shift):
    video = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    wrong = video * scale + shift
    for frames in (wrong, torch.from_numpy(wrong), list(wrong)):
        with pytest.raises(ValueError, match="not within 0 to 255"):
            pixels(small_processor(), frames)
    assert pixels(small_processor(do_rescale=False, do_normalize=False), wrong).shape == (1, 4, 3, 32, 32)


def test_floats_that_were_resized_a_little_beyond_0_and_255_are_pixels():
    video = torch.from_numpy(np.random.default_rng(0).choice([0, 255], (4, 3, 24, 24)).astype(np.float32))
    resized = torch.nn.functional.interpolate(video, (32, 32), mode="bicubic")
    assert resized.min() < -20
    assert resized.max() > 275
    assert pixels(small_processor(), resized).shape == (1, 4, 3, 32, 32)


def test_floats_that_reach_a_little_beyond_1_are_not_taken_for_a_dark_video():
    scaled = np.random.default_rng(0).random((4, 32, 32, 3), np.float32) * 2
    with pytest.raises(ValueError, match=r"floats of at most 1\.99999: they seem to be scaled .* pass them as uint8"):
        pixels(small_processor(), scaled)
    dark = np.random.default_rng(0).integers(0, 9, (4, 32, 32, 3), np.uint8)
    assert torch.allclose(
        pixels(small_processor(), dark.astype(np.float64)), pixels(small_processor(), dark), atol=0.02
    )


def test_frames_of_two_types_in_one_list_are_refused():
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8))
    frames[1] = (frames[1] / 255).astype(np.float32)
    with pytest.raises(ValueError, match=r"differ in type: torch\.float32, torch\.uint8"):
        pixels(small_processor(), frames)


def test_frames_whose_colors_were_turned_by_a_negative_stride_are_read():
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8))
    turned = [frame[:, :, ::-1] for frame in frames]
    assert torch.equal(
        pixels(small_processor(), turned), pixels(small_processor(), [frame.copy() for frame in turned])
    )


@pytest.mark.parametrize("options", [{"num_views": 2, "num_frames": 3}, {"cropping": "random", "num_frames": 6}])
def test_frames_that_are_resized_in_parts_are_those_resized_at_once(monkeypatch, options):
    video = random_video(7, 90, 60)
    whole = pixels(small_processor(**options), video, seed=0)
    monkeypatch.setattr(video_processing_froster, "RESIZED_BYTES", 2 * video[0].nbytes)
    assert torch.equal(pixels(small_processor(**options), video, seed=0), whole)


@pytest.mark.parametrize("options", [{"sampling": "middle"}, {"cropping": "left"}, {"nonsense": 1}])
def test_unknown_options_are_refused(options):
    with pytest.raises(Exception, match=next(iter(options))):
        pixels(small_processor(), numbered_video(4), **options)


def test_things_that_are_no_videos_are_refused():
    with pytest.raises(TypeError, match="Not a video: int"):
        pixels(small_processor(), 3)
    with pytest.raises(TypeError, match="Not a frame: int"):
        pixels(small_processor(), [[3]])


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.png").write_bytes(b"not an image")
    for path in (tmp_path / "missing.mp4", tmp_path / "empty", text, broken):
        with pytest.raises(VideoDecodeError, match=path.name):
            pixels(small_processor(), path)


def test_saved_and_loaded_by_the_auto_class_it_gives_the_same_pixels(tmp_path):
    processor = small_processor(
        sampling="dense", num_views=2, short_side_range=[32, 40], video_limits={"max_frames": 999}
    )
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is FrosterVideoProcessor
    assert loaded.to_dict() == processor.to_dict()
    assert torch.equal(pixels(loaded, BIKES), pixels(processor, BIKES))
    assert AutoVideoProcessor.from_pretrained(tmp_path, num_frames=3).num_frames == 3


def test_limits_of_the_processor_reach_the_decoder():
    with pytest.raises(VideoDecodeError, match="frames"):
        pixels(small_processor(video_limits={"max_frames": 10}), BIKES)


@pytest.mark.parametrize("limit", [{"max_frames": 2}, {"max_file_bytes": 50}, {"max_pixels": 40 * 50 - 1}])
def test_limits_hold_for_folders_of_images_before_these_are_decoded(tmp_path, monkeypatch, limit):
    for index in range(3):
        Image.new("RGB", (50, 40)).save(tmp_path / f"{index}.png")
    enough = {"max_frames": 3, "max_file_bytes": 1000, "max_pixels": 40 * 50}
    assert pixels(small_processor(video_limits=enough), tmp_path).shape[0] == 1
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("the image was decoded"))
    with pytest.raises(VideoDecodeError, match=rf"VideoLimits.{next(iter(limit))} .*{next(iter(limit.values()))}"):
        pixels(small_processor(video_limits=limit), tmp_path)


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"max_pixel": 1}, "max_pixel. They are: max_pixels, max_frames"), ({"max_frames": "10"}, "positive number")],
)
def test_limits_that_do_not_exist_are_named(limits, message):
    processor = small_processor(video_limits=limits)
    with pytest.raises(ValueError, match=message):
        pixels(processor, BIKES)
    with pytest.raises(ValueError, match=message):
        processor.stream_frames(BIKES, [0.0])


def test_urls_are_not_fetched_unless_asked():
    with pytest.raises(VideoDecodeError, match="allow_urls"):
        pixels(small_processor(), "https://localhost/video.mp4")


@pytest.mark.parametrize("fetch", ["fetch_videos", "fetch_images"])
def test_what_transformers_fetches_by_itself_is_refused(fetch):
    with pytest.raises(ValueError, match="allow_urls"):
        getattr(small_processor(allow_urls="http"), fetch)("http://localhost:9/video.mp4")


def test_streamed_frames_are_those_at_the_times():
    frames = list(small_processor().stream_frames(BIKES, [0.0, 1.0, 1.0, 99.0]))
    assert [frame.frame_index for frame in frames] == [0, 25, 25, 249]


@pytest.mark.parametrize("backend", VERIFIED)
def test_a_backend_that_reads_no_streams_is_refused(backend):
    with pytest.raises(ValueError, match=f"'{backend}', but a stream is read by PyAV alone"):
        small_processor(video_backend=backend).stream_frames(BIKES, [0.0])
    assert len(list(small_processor(video_backend="pyav").stream_frames(BIKES, [0.0]))) == 1


def test_transformers_calling_convention_for_video_classification_works():
    result = small_processor()(str(BIKES), num_frames=6, do_sample_frames=True, return_tensors="pt").to(torch.float16)
    assert result["pixel_values_videos"].shape == (1, 6, 3, 32, 32)
    assert result["pixel_values_videos"].dtype == torch.float16


def test_sample_frames_follows_transformers_hook():
    from transformers.video_utils import VideoMetadata

    indices = small_processor().sample_frames(VideoMetadata(total_num_frames=100), num_frames=2)
    assert indices.tolist() == [25, 75]


def test_real_videos_are_there():
    assert all(isinstance(path, Path) and path.is_file() for path in REAL_VIDEOS.values())
