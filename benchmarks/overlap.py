"""Scoring many clips: decoding runs ahead of the model, so that the two take little longer than the longer of them.

    OMP_NUM_THREADS=1 python benchmarks/overlap.py --clips 100 --rounds 2 > benchmarks/overlap.md

Clips of 10 s, 340 x 256, H.264, are rendered first. A round reads them without a model (ahead, as the pipeline reads
them, and one after the other), computes the scores of pixels that were read before, and calls the pipeline; the ratios
are taken within a round. Processor time is that of this process and of the decoding processes together: what two cores
can do at best is half of it. The models are the shipped small one, for which decoding is the larger part, and one of
the shape of CLIP ViT-B/32 with random weights.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from decoding import SCENES, render
from machine import command_line, describe_machine
from transformers import AutoConfig, AutoProcessor, Pipeline, pipeline
from transformers.utils.logging import disable_progress_bar

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.assets import SMALL_FROSTER
from froster_hf.pipeline.pipeline_froster import NUM_READING_THREADS, NumberedVideo, SequenceAhead, VideoSequence
from froster_hf.video import client

INTRODUCTION = """# Decoding while the model computes

`{command}`

{machine}; {threads} compute thread, medians of {rounds} rounds, ratios taken within a round. {clips} clips of 10 s,
340 x 256, H.264, one at a time. "Together" is the pipeline on a list of clips; "in turn" is what it would take to read
each clip and then score it. {readers} threads, each with a decoding process, read ahead of the model. Where the two
together keep both cores busy, they take as long as their processor time asks for, and no order of work is shorter.

| model | decoding ahead, alone | decoding in turn, alone | computing alone | together | over the larger alone \
| in turn over together | processors busy together |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
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


def build_pipeline(name: str) -> Pipeline:
    """A pipeline with the shipped small model, or with one of the shape of CLIP ViT-B/32, whose texts do not count."""
    processor = AutoProcessor.from_pretrained(SMALL_FROSTER)
    if name == "ViT-B/32":
        config = FrosterConfig(
            text_config=AutoConfig.from_pretrained(SMALL_FROSTER).text_config, vision_config={"patch_size": 32}
        )
        side = config.vision_config.image_size
        processor.video_processor.size = {"shortest_edge": side}
        processor.video_processor.crop_size = {"height": side, "width": side}
        model = FrosterForVideoClassification(config).eval()
    else:
        model = FrosterForVideoClassification.from_pretrained(SMALL_FROSTER)
    return pipeline("zero-shot-video-classification", model=model, processor=processor)


def measure(classify: Pipeline, videos: list[str], rounds: int) -> str:
    """The cells of a model's row: medians over the rounds, ratios within a round."""

    def read_ahead() -> list[object]:
        ahead = SequenceAhead(VideoSequence(videos), classify.preprocess, NUM_READING_THREADS)
        return [ahead[index].result() for index in range(len(videos))]

    def read_in_turn() -> None:
        for position, video in enumerate(videos):
            classify.preprocess(NumberedVideo(position, video))

    def compute() -> None:
        for entry in entries:
            classify.forward({"entries": [entry["entries"]]}, candidate_labels=labels)

    def score() -> None:
        classify(videos, candidate_labels=LABELS)

    labels = classify.processor.read_labels(LABELS)
    entries = read_ahead()
    score()
    times = [[timed(work) for work in (read_ahead, read_in_turn, compute, score)] for _ in range(rounds)]
    ahead, turn, alone, together = ([wall for wall, _ in column] for column in zip(*times, strict=True))
    ratio = median(both / max(read, computed) for both, read, computed in zip(together, ahead, alone, strict=True))
    gain = median((read + computed) / both for both, read, computed in zip(together, turn, alone, strict=True))
    busy = median(processor / wall for *_, (wall, processor) in times)
    seconds = " | ".join(f"{median(walls):.2f} s" for walls in (ahead, turn, alone, together))
    return f"{seconds} | {ratio:.2f} | {gain:.2f} | {busy:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    disable_progress_bar()
    print(
        INTRODUCTION.format(
            command=command_line(),
            machine=describe_machine(),
            threads=torch.get_num_threads(),
            rounds=options.rounds,
            clips=options.clips,
            readers=NUM_READING_THREADS,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        render(path, SCENES[0])
        for name in ("shipped small", "ViT-B/32"):
            print(
                f"| {name} | {measure(build_pipeline(name), [str(path)] * options.clips, options.rounds)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
