"""One video that cannot be read costs one answer: in lists and streams, for every batch size, with workers."""

import errno
import gc
import io
import multiprocessing.synchronize
import os
import re
import weakref
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

import froster_hf  # noqa: F401
from froster_hf import DecodingUnavailableError, VideoDecodeError
from froster_hf.pipeline.pipeline_froster import VideoStream, several_videos
from froster_hf.processing import video_processing_froster
from froster_hf.video import decoding
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor

LABELS = ["riding a bike", "playing golf", "cooking"]
BIKES, CARPHONE = str(REAL_VIDEOS["bikes"]), str(REAL_VIDEOS["carphone_pristine"])


@pytest.fixture(scope="module")
def classify():
    return pipeline("zero-shot-video-classification", model=tiny_model(), processor=tiny_processor())


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    """Bad ones first, last, beside each other, and enough to fill a batch."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 100)
    cut = folder / "cut.mp4"
    cut.write_bytes(Path(BIKES).read_bytes()[:5000])
    missing = str(folder / "missing.mp4")
    return [missing, BIKES, str(folder / "noise.mp4"), str(cut), CARPHONE, BIKES, missing]


@pytest.fixture(scope="module")
def alone(classify, videos) -> dict[str, list | str]:
    """Each video's answers, or its error's message, when it is alone."""
    found = {}
    for video in videos:
        result = classify(video, LABELS, on_error="return")
        found[video] = str(result) if isinstance(result, Exception) else result
    return found


def check(results, videos, alone):
    assert len(results) == len(videos)
    for result, video in zip(results, videos):
        if isinstance(alone[video], str):
            assert isinstance(result, VideoDecodeError)
            assert str(result) == alone[video]
            assert video in str(result)
        else:
            assert [answer["label"] for answer in result] == [answer["label"] for answer in alone[video]]
            scores = [answer["score"] for answer in result]
            assert scores == pytest.approx([answer["score"] for answer in alone[video]], abs=1e-5)


def test_the_bad_and_the_good_are_told_apart(alone, videos):
    assert [isinstance(alone[video], str) for video in videos] == [True, False, True, True, False, False, True]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_a_list_has_each_error_in_its_place(classify, videos, alone, batch_size):
    check(classify(videos, LABELS, batch_size=batch_size, on_error="return"), videos, alone)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_generator_has_each_error_in_its_place(classify, videos, alone, batch_size):
    results = classify((video for video in videos), LABELS, batch_size=batch_size, on_error="return")
    check(list(results), videos, alone)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_errors_come_out_of_worker_processes(classify, videos, alone, batch_size):
    check(classify(videos, LABELS, batch_size=batch_size, num_workers=2, on_error="return"), videos, alone)


def test_a_dataset_has_each_error_in_its_place(classify, videos, alone):
    datasets = pytest.importorskip("datasets")
    column = datasets.Dataset.from_dict({"video": videos})["video"]
    check(list(classify(column, LABELS, batch_size=3, on_error="return")), videos, alone)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_an_iterator_that_raises_can_be_read_on(classify, videos, alone, batch_size):
    answers = iter(classify((video for video in videos), LABELS, batch_size=batch_size))
    for position, video in enumerate(videos):
        if isinstance(alone[video], str):
            with pytest.raises(VideoDecodeError, match=f"^Video {position} of the call"):
                next(answers)
        else:
            check([next(answers)], [video], alone)
    with pytest.raises(StopIteration):
        next(answers)


def test_by_default_the_first_error_is_raised_and_says_which_video_and_how_to_go_on(classify, videos):
    with pytest.raises(VideoDecodeError, match=r"Video 2 of the call.*noise\.mp4.*on_error='return'") as raised:
        classify([BIKES, BIKES, *videos[2:]], LABELS, batch_size=2)
    assert raised.value.file == videos[2]


def test_things_that_are_no_videos_cost_only_themselves(classify):
    frames = np.zeros((5, 40, 40, 3), np.uint8)
    odd = [None, frames, [], np.zeros((5, 40, 40, 3), np.int64), 3.5, BIKES]
    results = classify(odd, LABELS, batch_size=4, on_error="return")
    kinds = [type(result) for result in results]
    assert kinds == [TypeError, list, ValueError, ValueError, TypeError, list]
    with pytest.raises(ValueError, match=r"Video 1 of the call.*int64"):
        classify([BIKES, odd[3]], LABELS)


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, lambda frames: frames.to("meta")])
def test_tensors_without_pixels_at_hand_are_errors_in_their_places(classify, make):
    frames = torch.zeros(5, 3, 40, 40)
    odd = [make(frames), frames, [make(frame) for frame in frames]]
    assert [type(result) for result in classify(odd, LABELS, on_error="return")] == [TypeError, list, TypeError]


def broken_picture() -> Image.Image:
    """A PNG whose second chunk has no name, of which Pillow raises a SyntaxError when it is first looked at."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(out, format="PNG")
    content = out.getvalue()
    start = content.index(b"IDAT") - 4
    length = int.from_bytes(content[start : start + 4], "big") // 2
    first = b"IDAT" + content[start + 8 : start + 8 + length]
    chunk = length.to_bytes(4, "big") + first + zlib.crc32(first).to_bytes(4, "big")
    return Image.open(io.BytesIO(content[:start] + chunk + b"\0\0\0\0\1\2\3\4" + content[start:]))


class BrokenDecoder:
    """As torchcodec's is where a file is damaged further on."""

    metadata = SimpleNamespace(average_fps=25.0)

    def __len__(self) -> int:
        return 16

    def get_frames_at(self, indices):
        raise RuntimeError("Could not push packet to decoder")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: [broken_picture()] * 5, "Frame 0 cannot be read: broken PNG file"),
        (BrokenDecoder, "The decoder cannot be read: Could not push packet"),
        (lambda: torch.nested.nested_tensor([torch.zeros(3, 4, 4)] * 2), "a dense tensor .* got a nested one"),
    ],
    ids=["picture", "decoder", "nested"],
)
def test_what_pillow_torch_and_decoders_raise_is_an_error_in_its_place(classify, alone, make, reason):
    found = classify([BIKES, make(), CARPHONE], LABELS, on_error="return")
    assert re.search(reason, str(found[1]))
    check([found[0], found[2]], [BIKES, CARPHONE], alone)


def test_a_video_whose_frames_find_no_room_in_memory_is_an_error_in_its_place(classify, alone, monkeypatch):
    def allocate(size):
        raise MemoryError

    monkeypatch.setattr(decoding, "bytearray", allocate, raising=False)
    found = classify([BIKES], LABELS, on_error="return")[0]
    assert re.fullmatch("[0-9]+ bytes of frames find no room in memory; ask for fewer at once", str(found))
    with pytest.raises(MemoryError):
        classify(BIKES, LABELS)
    monkeypatch.undo()
    # The decoding process was in the midst of an answer.
    check(classify([BIKES, CARPHONE], LABELS, on_error="return"), [BIKES, CARPHONE], alone)


@pytest.mark.parametrize("make", [bytearray, memoryview])
def test_bytes_in_another_form_are_one_video_and_no_list_of_numbers(classify, alone, make):
    assert isinstance(classify(make(b"video"), LABELS, on_error="return"), VideoDecodeError)
    check([classify(make(Path(BIKES).read_bytes()), LABELS)], [BIKES], alone)


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
@pytest.mark.parametrize("as_given", [list, iter])
def test_an_array_of_several_videos_in_a_list_is_one_error_and_moves_no_answers(classify, alone, make, as_given):
    batch = make((2, 5, 40, 40, 3))
    found = list(classify(as_given([BIKES, batch, CARPHONE]), LABELS, batch_size=2, on_error="return"))
    assert "(2, 5, 40, 40, 3)" in str(found[1])
    check([found[0], found[2]], [BIKES, CARPHONE], alone)
    assert len(classify(batch, LABELS)) == 2


def test_an_error_can_be_set_once_for_all_calls(videos):
    classify = pipeline(
        "zero-shot-video-classification",
        model=tiny_model(),
        processor=tiny_processor(),
        candidate_labels=LABELS,
        on_error="return",
        batch_size=2,
    )
    assert isinstance(classify(videos[0]), VideoDecodeError)
    assert isinstance(classify(videos[:2])[1], list)


@pytest.mark.parametrize("as_given", [list, iter])
def test_an_error_that_is_an_answer_keeps_nothing_of_its_video(classify, monkeypatch, as_given):
    """Neither the frames nor a file in memory, also where nobody collects garbage."""
    taken = []

    def make(kind):
        videos = {
            "file": lambda: io.BytesIO(bytes(range(256)) * 100),
            "numbers": lambda: np.zeros((5, 40, 40, 3), np.int64),
            "long": lambda: np.zeros((5, 1, 20_000, 3), np.uint8),
        }
        taken.append(weakref.ref(video := videos[kind]()))
        return video

    monkeypatch.setattr(video_processing_froster, "MAX_LONG_VALUES", 1000)
    gc.collect()
    gc.disable()
    try:
        errors = list(
            classify(as_given([make(kind) for kind in ("file", "numbers", "long")]), LABELS, on_error="return")
        )
        assert [type(error) for error in errors] == [VideoDecodeError, ValueError, VideoDecodeError]
        assert [video() for video in taken] == [None] * 3
    finally:
        gc.enable()


def test_scores_that_are_no_numbers_are_an_error_of_their_video(classify):
    video = np.full((4, 40, 40, 3), 100, np.uint8)
    hook = classify.model.froster.visual_projection.register_forward_hook(
        # The second video's features.
        lambda module, inputs, output: output.index_fill(0, torch.arange(4, 8), float("nan"))
    )
    try:
        results = classify([video, video, video], LABELS, batch_size=3, on_error="return")
    finally:
        hook.remove()
    assert [isinstance(result, ValueError) for result in results] == [False, True, False]
    assert "infinite or NaN" in str(results[1])


@pytest.mark.parametrize("tower", ["visual_projection", "text_projection"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_an_embedding_without_a_direction_is_no_answer(classify, tower, scale):
    """Zeros, or what in single precision is as short or long as nothing: every label would have the same score."""
    video = np.full((4, 40, 40, 3), 100, np.uint8)
    labels = [f"{label} {scale}" for label in LABELS]  # not embedded yet
    hook = getattr(classify.model.froster, tower).register_forward_hook(lambda module, inputs, output: scale * output)
    try:
        with pytest.raises(ValueError, match="infinite or NaN"):
            classify(video, labels)
    finally:
        hook.remove()
        classify.label_banks = type(classify.label_banks)(classify.processor, classify.model.froster)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_the_machine_lacks_is_no_fault_of_a_video(classify, monkeypatch, num_workers):
    def fail(*args, **kwargs):
        raise DecodingUnavailableError("No process can be started. Free some memory.")

    monkeypatch.setattr(type(classify.processor.video_processor), "__call__", fail)
    with pytest.raises(DecodingUnavailableError, match="Free some memory"):
        classify([BIKES, BIKES], LABELS, on_error="return", num_workers=num_workers)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_worker_without_shared_memory_for_its_batch_is_not_waited_for(classify, monkeypatch, batch_size):
    def fail(tensor):
        raise RuntimeError("No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with pytest.raises(DecodingUnavailableError, match="A worker has no shared memory"):
        classify([BIKES, BIKES], LABELS, on_error="return", num_workers=1, batch_size=batch_size)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_workers_whose_queues_find_no_shared_memory_are_refused(classify, monkeypatch, number):
    """As with a /dev/shm that is full or read-only."""

    def make(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", make)
    with pytest.raises(DecodingUnavailableError, match=r"A worker has no shared memory for the queue .*--shm-size=8g"):
        classify([BIKES, BIKES], LABELS, num_workers=1)
    assert len(classify([BIKES, BIKES], LABELS)) == 2


@pytest.mark.parametrize("function", ["softmax", "evidence", "none"])
def test_a_timeline_of_no_numbers_is_an_error(function):
    classify = pipeline("zero-shot-video-classification", model=tiny_model(), processor=tiny_processor())
    with torch.no_grad():
        classify.model.froster.logit_scale.fill_(float("inf"))
    with pytest.raises(ValueError, match="infinite or NaN"):
        classify.timeline(BIKES, LABELS, function_to_apply=function)


def test_the_time_for_one_video_can_be_limited(classify):
    result = classify([BIKES], LABELS, timeout=1e-9, on_error="return")[0]
    assert isinstance(result, VideoDecodeError)
    assert "timeout_seconds" in str(result)
    with pytest.raises(ValueError, match="timeout_seconds"):
        classify(BIKES, LABELS, timeout=-1)


FRAME = np.zeros((40, 40, 3), np.uint8)


@pytest.mark.parametrize(
    ("inputs", "num_videos"),
    [
        (BIKES, None),
        (Path(BIKES), None),
        ({"path": BIKES, "bytes": None}, None),
        (Path(BIKES).read_bytes(), None),
        (io.BytesIO(), None),
        ([FRAME, FRAME], None),
        ((Image.fromarray(FRAME),), None),
        (np.stack([FRAME] * 4), None),
        (torch.zeros(4, 3, 40, 40), None),
        ([BIKES], 1),
        ([[FRAME], BIKES], 2),
        ([np.stack([FRAME] * 4)], 1),
        (np.zeros((3, 4, 40, 40, 3), np.uint8), 3),
        ([np.zeros((3, 4, 40, 40, 3), np.uint8), BIKES], 2),
        ([], 0),
        ([None], 1),
    ],
)
def test_one_video_and_several_are_told_apart(classify, inputs, num_videos):
    processor = classify.processor.video_processor
    videos = several_videos(inputs, processor)
    assert (None if videos is None else len(videos)) == num_videos
    assert processor.is_single_video(inputs) == (num_videos is None)


@pytest.mark.parametrize("make", [iter, lambda videos: (video for video in videos), VideoStream])
def test_what_is_read_once_is_a_stream(classify, make):
    stream = several_videos(make([BIKES, None]), classify.processor.video_processor)
    assert isinstance(stream, VideoStream)
    assert [position for position, _ in stream] == [0, 1]
