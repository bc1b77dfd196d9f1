"""Scoring many clips: decoding runs ahead of the model, so that the two take little longer than the longer of them.

    python -m benchmarks.overlap [--clips 40] [--rounds 5] [--model CHECKPOINT]

Clips of 10 s, 340 x 256, H.264, are rendered first. A round reads them without a model (ahead, as the pipeline reads
them, and one after the other), computes the scores of pixels that were read before, and calls the pipeline; the ratios
are taken within a round. Processor time is that of this process and of the decoding processes together: what two cores
can do at best is half of it.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import pipeline

import froster_hf  # noqa: F401
from benchmarks.decoding import SCENES, render
from froster_hf.assets import SMALL_FROSTER
from froster_hf.pipeline.pipeline_froster import NUM_READING_THREADS, NumberedVideo, SequenceAhead, VideoSequence
from froster_hf.video import client

LABELS = ["a red square moves to the left", "a blue circle grows", "a green triangle turns"]


def processor_seconds() -> float:
    """Processor time so far of this process and of its decoding processes."""
    ticks = time.process_time()
    for process in client._all:
        fields = Path(f"/proc/{process._process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += (int(fields[11]) + int(fields[12])) / 100
    return ticks


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time of some work."""
    wall, processor = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - wall, processor_seconds() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=str(SMALL_FROSTER), help="a checkpoint (default: the small one)")
    parser.add_argument("--batch-size", type=int, default=1)
    options = parser.parse_args()
    classify = pipeline("zero-shot-video-classification", model=options.model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        render(path, SCENES[0])
        videos = [str(path)] * options.clips

        def read_ahead() -> list[object]:
            ahead = SequenceAhead(VideoSequence(videos), classify.preprocess, NUM_READING_THREADS)
            return [ahead[index].result() for index in range(len(videos))]

        def read_in_turn() -> None:
            for position, video in enumerate(videos):
                classify.preprocess(NumberedVideo(position, video))

        def compute() -> None:
            for start in range(0, len(entries), options.batch_size):
                batch = [entry["entries"] for entry in entries[start : start + options.batch_size]]
                classify.forward({"entries": batch}, candidate_labels=labels)

        def score() -> None:
            classify(videos, candidate_labels=LABELS, batch_size=options.batch_size)

        labels = classify.processor.read_labels(LABELS)
        entries = read_ahead()
        score()
        rounds = [[timed(work) for work in (read_ahead, read_in_turn, compute, score)] for _ in range(options.rounds)]

    def median(value: Callable[..., float]) -> float:
        return statistics.median(value(*(wall for wall, _ in times)) for times in rounds)

    busy = statistics.median(times[3][1] / times[3][0] for times in rounds)
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, medians of", end=" ")
    name = Path(options.model).name
    print(f"{options.rounds} rounds, {options.clips} clips, {name}, batches of {options.batch_size}\n")
    print("| decoding alone, ahead | decoding alone, in turn | computing alone | together | together over the larger "
          "alone | in turn over together | processors busy together |")  # fmt: skip
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    ahead, turn, alone = median(lambda a, t, c, s: a), median(lambda a, t, c, s: t), median(lambda a, t, c, s: c)
    ratio = median(lambda a, t, c, s: s / max(a, c))
    gain = median(lambda a, t, c, s: (t + c) / s)
    together = median(lambda a, t, c, s: s)
    print(
        f"| {ahead:.2f} s | {turn:.2f} s | {alone:.2f} s | {together:.2f} s | {ratio:.2f} | {gain:.2f} | {busy:.2f} |"
    )


if __name__ == "__main__":
    main()
