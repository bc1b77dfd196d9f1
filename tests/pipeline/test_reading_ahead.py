"""Videos are read while the model computes: a bounded number ahead, in order, each failure in its place."""

import gc
import threading

import pytest
import torch
from PIL import Image

import froster_hf  # noqa: F401
from froster_hf.pipeline import pipeline_froster
from froster_hf.pipeline.pipeline_froster import CallsUnderWay, ReadingThreads, VideoSequence, take_ahead
from tests.fixtures.tiny import tiny_model, tiny_processor

LABELS = ["riding a bike", "golf"]
SECONDS = 30.0


def clips(number):
    return [torch.full((4, 3, 40, 40), value, dtype=torch.uint8) for value in range(number)]


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name in ("video-reading", "video-taking")]


@pytest.mark.parametrize("num_ahead", [1, 2, 5])
def test_at_most_so_many_items_are_taken_ahead_and_in_order(num_ahead):
    used, most_ahead = 0, 0

    def items():
        nonlocal most_ahead
        for item in range(20):
            most_ahead = max(most_ahead, item - used)
            yield item

    found = []
    for item in take_ahead(items(), num_ahead):
        found.append(item)
        used = item
    assert found == list(range(20))
    assert 1 <= most_ahead <= num_ahead


def test_an_error_of_the_items_comes_in_its_place():
    def items():
        yield 1
        raise OSError("the list ends here")

    taken = take_ahead(items(), 3)
    assert next(taken) == 1
    with pytest.raises(OSError, match="the list ends here"):
        next(taken)


def test_what_is_abandoned_is_let_go():
    let_go = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            let_go.set()

    taken = take_ahead(items(), 2)
    next(taken)
    taken.close()
    assert let_go.wait(SECONDS)


def test_threads_read_side_by_side_and_end_with_their_owner():
    both = threading.Barrier(2)
    before = len(reading_threads())
    threads = ReadingThreads(2)
    futures = [threads.submit(both.wait, SECONDS) for _ in range(2)]
    assert sorted(future.result(SECONDS) for future in futures) == [0, 1]
    started = reading_threads()[before:]
    del threads
    gc.collect()
    for thread in started:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_the_next_video_is_read_while_the_model_computes(classify, monkeypatch, kind):
    read = [threading.Event() for _ in range(3)]
    preprocess, forward = classify.preprocess, classify._forward

    def reading(video, **options):
        result = preprocess(video, **options)
        if isinstance(video, pipeline_froster.NumberedVideo):
            read[video.position].set()
        return result

    computed = []

    def computing(inputs, **options):
        following = min(len(computed) + 1, 2)
        computed.append(read[following].wait(SECONDS))
        return forward(inputs, **options)

    monkeypatch.setattr(classify, "preprocess", reading)
    monkeypatch.setattr(classify, "_forward", computing)
    videos = clips(3)
    answers = list(classify(videos if kind == "list" else iter(videos), candidate_labels=LABELS))
    assert len(answers) == 3
    assert computed == [True] * 3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answers_are_those_of_reading_one_after_the_other(classify, batch_size):
    videos = [*clips(4), "nothing.mp4", *clips(2)]
    options = {"candidate_labels": LABELS, "on_error": "return"}
    alone = [classify(video, **options) for video in videos]
    for given in (videos, iter(videos)):
        together = list(classify(given, batch_size=batch_size, **options))
        for one, found in zip(alone, together, strict=True):
            if isinstance(one, Exception):
                assert str(found) == str(one)
            else:
                assert [answer["label"] for answer in found] == [answer["label"] for answer in one]
                assert [answer["score"] for answer in found] == pytest.approx(
                    [answer["score"] for answer in one], abs=1e-6
                )


@pytest.mark.parametrize("kind", ["one array", "one file", "open files"])
def test_a_generator_may_use_again_what_it_has_given(classify, tmp_path, kind):
    """Where it were asked for the next video too early, that one's pixels would be answered for this one."""
    videos, path = [video.numpy() for video in clips(8)], tmp_path / "pictures.npy"

    def given():
        array = videos[0].copy()
        for video in videos:
            array[:] = video
            if kind == "one array":
                yield array
                continue
            Image.fromarray(video[0].transpose(1, 2, 0)).save(path.with_suffix(".gif"))
            if kind == "one file":
                yield path.with_suffix(".gif")
                path.with_suffix(".gif").unlink()
            else:
                with path.with_suffix(".gif").open("rb") as file:
                    yield file

    def best(answer):
        return sorted((found["label"], found["score"]) for found in answer)

    stills = [video if kind == "one array" else video[:1] for video in videos]
    alone = [best(classify(still, candidate_labels=LABELS)) for still in stills]
    together = [best(answer) for answer in classify(given(), candidate_labels=LABELS)]
    for one, found in zip(alone, together, strict=True):
        assert [label for label, _ in found] == [label for label, _ in one]
        assert [score for _, score in found] == pytest.approx([score for _, score in one], abs=1e-6)
    assert len({tuple(one) for one in alone}) == len(alone)


def test_videos_of_which_random_frames_are_drawn_are_read_in_turn(classify, monkeypatch):
    names = set()
    video_processor = classify.processor.video_processor
    preprocess = classify.preprocess

    def reading(video, **options):
        names.add(threading.current_thread().name)
        return preprocess(video, **options)

    monkeypatch.setattr(classify, "preprocess", reading)
    assert not video_processor.is_random
    video_processor.sampling = "random_segment"
    assert video_processor.is_random
    classify(clips(3), candidate_labels=LABELS)
    assert names == {threading.current_thread().name}


@pytest.mark.parametrize(
    ("options", "times"),
    [({"sampling": "random_dense"}, 1), ({"cropping": "random"}, 1), ({"cropping": "random", "seed": 1}, 0), ({}, 0)],
)
def test_a_processor_that_draws_random_numbers_is_said(monkeypatch, options, times):
    said = []
    monkeypatch.setattr(pipeline_froster.logger, "warning_once", said.append)
    pipeline_froster.ZeroShotVideoClassificationPipeline(tiny_model(), tiny_processor(**options))
    assert sum("draws random numbers" in message for message in said) == times


def test_one_data_set_is_not_read_by_two_threads_at_once():
    class Videos:
        def __init__(self):
            self.lock = threading.Lock()

        def __len__(self):
            return 8

        def __getitem__(self, index):
            assert self.lock.acquire(blocking=False)
            self.lock.release()
            return index

    ahead = pipeline_froster.SequenceAhead(VideoSequence(Videos()), lambda video: video.video, 3)
    assert [ahead[index].result(SECONDS) for index in range(8)] == list(range(8))


def test_the_end_of_a_program_waits_for_calls_that_are_under_way_and_none_begins():
    """A thread that comes back from torch behind the end of Python aborts the process."""
    calls, is_called, may_end, done = CallsUnderWay(), threading.Event(), threading.Event(), []

    def call():
        with calls:
            is_called.set()
            may_end.wait(10)
            done.append("first")
        with calls:
            done.append("second")

    thread = threading.Thread(target=call)
    thread.start()
    is_called.wait(10)
    threading.Timer(0.1, may_end.set).start()
    calls.end()
    assert done == ["first"]
    thread.join()
    assert done == ["first"]
