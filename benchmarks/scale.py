"""How time and memory grow: with frames, pixels, labels, videos, windows and processes.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --plots docs/images > benchmarks/scale.md

Every measurement is a process of its own, forked from this one, so that peaks of memory are its own. Time is processor
time of one thread, the best of as many repetitions as fit into half a second: what other programs do counts less. An
exponent is the slope between the two largest inputs in double logarithmic scale: 1 is in proportion to the input, 0 is
not at all. The fit over all inputs stands beside; it is lower where a constant cost is the larger part of small ones.
"""

import argparse
import gc
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoding import SCENES, choose_frames, render
from machine import command_line, describe_machine
from transformers.utils.logging import disable_progress_bar

from froster_hf import FrosterConfig, FrosterModel, load_pipeline
from froster_hf.assets import SMALL_FROSTER
from froster_hf.cli.videos import find_videos
from froster_hf.data.video_lists import read_video_list
from froster_hf.pipeline.many_videos import predict_videos
from froster_hf.pipeline.scoring_froster import Scoring, rank
from froster_hf.pipeline.timeline_froster import SegmentFinder, collect_segments
from froster_hf.video.decoding import VideoLimits
from froster_hf.video.reader import StrictReader

ENOUGH_SECONDS = 0.5
# Beyond it, a step grows faster than its input.
LARGEST_EXPONENT = 1.15
INTRODUCTION = """# How time and memory grow

`{command}`

{machine}.
One thread, processor time; memory is what a process holds at its peak above what it began with, with the model already
loaded. The exponent of growth is that between the two largest inputs, and, in brackets, of a fit over all; 1 is in
proportion to the input. Rows are measured down to 0.1 MiB: no exponent is given where memory stays below 1 MiB.
"""


@dataclass(frozen=True)
class Step:
    """A part of the work, and what it is measured with.

    Args:
        name: what is done.
        unit: what there is more and more of.
        sizes: numbers of it.
        prepare: makes the work for a size, which is not measured.
        per: what the size means, in units of the input; by default as it is.
        memory_is_measured: not where processes of its own do the work.
        note: why it grows faster than its input, where it does.
    """

    name: str
    unit: str
    sizes: Sequence[int]
    prepare: Callable[[int], Callable[[], Any]]
    per: Callable[[int], int] = int
    memory_is_measured: bool = True
    note: str = ""


def measure(step: Step, size: int) -> dict[str, float]:
    """Seconds and MiB of a step, measured in a forked process."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work = step.prepare(size)
            gc.collect()
            # The peak so far is forgotten.
            Path("/proc/self/clear_refs").write_text("5")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            found = timed(work)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(send, json.dumps({"seconds": found, "mib": (peak - before) / 1024}).encode())
            code = 0
        except BaseException as error:
            print(f"{step.name}, {size}: {error!r}", file=sys.stderr)
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        raise RuntimeError(f"{step.name} with {size} failed.")
    return json.loads(text)


def timed(work: Callable[[], Any]) -> float:
    """The best of a few repetitions; work that measures itself gives its seconds."""
    best, spent = math.inf, 0.0
    while spent < ENOUGH_SECONDS:
        start = time.process_time()
        own = work()
        taken = time.process_time() - start
        spent += max(taken, 1e-3)
        best = min(best, own if isinstance(own, float) else taken)
    return best


# The steps


class Works:
    """Makes the work of each step for a size of its input; models are loaded here, once.

    Args:
        folder: for files.
    """

    def __init__(self, folder: Path):
        texts = {"text_config": {"num_hidden_layers": 1}}
        self.folder = folder
        self.vit_b32 = FrosterModel(FrosterConfig(vision_config={"patch_size": 32}, **texts)).eval()
        few_blocks = {"patch_size": 16, "num_hidden_layers": 4}
        self.vit_b16 = FrosterModel(FrosterConfig(vision_config=few_blocks, **texts)).eval()
        self.classify = load_pipeline(str(SMALL_FROSTER))
        self.model, self.width = self.classify.label_banks.model, self.classify.model.config.projection_dim
        self.generator = torch.Generator().manual_seed(0)
        self.clip = folder / "clip.mp4"
        render(self.clip, SCENES[0])

    def look(self, model: FrosterModel, num_frames: int, side: int) -> Callable[[], Any]:
        clips = torch.randn(1, num_frames, 3, side, side, generator=self.generator)

        @torch.inference_mode()
        def work() -> None:
            model.get_video_features(clips, only_embeds=True, interpolate_pos_encoding=side != 224)

        return work

    def encode(self, count: int) -> Callable[[], Any]:
        labels = names(count)

        @torch.inference_mode()
        def work() -> None:
            self.classify.processor.embed_labels(labels, model=self.model, templates="single")

        return work

    def score(self, count: int) -> Callable[[], Any]:
        labels, embeds = names(count), torch.randn(count, self.width, generator=self.generator)
        video, scoring = torch.randn(1, self.width, generator=self.generator), Scoring(count)

        @torch.inference_mode()
        def work() -> None:
            rank(scoring.score_views(100 * video @ embeds.T), labels, top_k=5)

        return work

    def read_lists(self, count: int) -> Callable[[], Any]:
        rows = [f"videos/clip_{number}.mp4,action {number % 100}" for number in range(count)]
        file = self.folder / f"list_{count}.csv"
        file.write_text("video,label\n" + "\n".join(rows) + "\n")
        return lambda: (find_videos([str(file)]), read_video_list(file, root=self.folder, missing="keep"))

    def keep_answers(self, count: int) -> Callable[[], Any]:
        """All of `froster predict` but decoding and the model: reading ahead, records, the file, and going on."""
        pixels = torch.zeros(1, 1)

        def preprocess(input_: Any, **options: Any) -> dict[str, Any]:
            return input_.result() if isinstance(input_, Future) else {"entries": (input_.position, pixels[None])}

        self.classify.preprocess = preprocess

        class Tower:
            video_embeds = torch.randn(1, self.width, generator=self.generator)

        self.model.get_video_features = lambda clips, **options: Tower
        videos, output = [f"clip_{number}.mp4" for number in range(count)], self.folder / f"answers_{count}.jsonl"
        options = {"candidate_labels": names(20), "top_k": 5, "output": output}

        def work() -> None:
            for _ in predict_videos(self.classify, videos, **options):
                pass
            assert not list(predict_videos(self.classify, videos, resume=True, **options))

        return work

    def find_segments(self, count: int) -> Callable[[], Any]:
        scores = torch.rand(count, 20, generator=self.generator).softmax(-1)
        labels = names(20)

        def work() -> None:
            windows = ((float(start), start + 2.0) for start in range(count))
            collect_segments(zip(windows, scores), SegmentFinder(labels, min_segment_seconds=3.0))

        return work

    def decode(self, count: int) -> Callable[[], Any]:
        """Processor seconds of decoding six clips in each of so many processes, side by side."""

        def work() -> float:
            before = children_seconds()
            start_process = multiprocessing.get_context("fork").Process
            processes = [start_process(target=decode_clips, args=(self.clip,)) for _ in range(count)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            return children_seconds() - before

        return work


def names(count: int) -> list[str]:
    words = ("square", "circle", "triangle", "star", "red", "blue", "green", "grows", "turns", "left")
    return [" ".join(words[int(digit)] for digit in f"{number:05d}") for number in range(count)]


def decode_clips(clip: Path) -> None:
    for _ in range(6):
        with open(clip, "rb") as file, StrictReader(file, limits=VideoLimits()) as reader:
            reader.read(choose_frames("uniform", 0, reader.info))


def squared(side: int) -> int:
    return side * side


def build_steps(works: Works) -> list[Step]:
    """All of them."""
    return [
        Step(
            "video tower, ViT-B/32 of 224 px",
            "frames",
            (8, 16, 32, 64),
            lambda count: works.look(works.vit_b32, count, 224),
        ),
        Step(
            "4 blocks of ViT-B/16, 2 frames",
            "pixels of a frame",
            (112, 224, 336, 448),
            lambda side: works.look(works.vit_b16, 2, side),
            per=squared,
            note="attention compares every pair of patches of a frame",
        ),
        Step("labels encoded, one template, small", "labels", (10, 100, 1_000, 10_000, 100_000), works.encode),
        Step(
            "a video scored by labels, small",
            "labels",
            (10, 100, 1_000, 10_000, 100_000),
            works.score,
            note="the embeddings of 100,000 labels do not fit into the processor's caches any more",
        ),
        Step("lists read, no video opened", "videos", (10, 100, 1_000, 10_000), works.read_lists),
        Step("`predict` without decoding and model", "videos", (10, 100, 1_000, 10_000), works.keep_answers),
        Step("segments of a timeline, 20 labels", "windows", (10, 100, 1_000, 10_000), works.find_segments),
        Step("clips decoded, six per process", "processes", (1, 2, 4), works.decode, memory_is_measured=False),
    ]


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# The tables


def exponents(sizes: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Slope between the two largest inputs, and of a fit over all, in double logarithmic scale."""
    x, y = np.log(sizes), np.log(values)
    return float((y[-1] - y[-2]) / (x[-1] - x[-2])), float(np.polyfit(x, y, 1)[0])


def print_step(step: Step, found: list[dict[str, float]]) -> float:
    """A row; gives the larger exponent."""
    inputs = [step.per(size) for size in step.sizes]
    seconds, mib = [row["seconds"] for row in found], [row["mib"] for row in found]
    times = exponents(inputs, seconds)
    memory = exponents(inputs, mib) if step.memory_is_measured and min(mib) >= 1 else None
    if step.memory_is_measured and memory is None and mib[-1] >= 1 and mib[-2] >= 1:
        memory = (exponents(inputs[-2:], mib[-2:])[0], math.nan)

    def growth(pair: tuple[float, float] | None) -> str:
        if pair is None:
            return "-"
        return f"{pair[0]:.2f}" + ("" if math.isnan(pair[1]) else f" ({pair[1]:.2f})")

    cells = [
        f"{step.name}",
        step.unit,
        ", ".join(f"{size:,}" if step.per is int else f"{size}²" for size in step.sizes),
        ", ".join(f"{value:.3g}" for value in seconds),
        growth(times),
        ", ".join(f"{value:.1f}" for value in mib) if step.memory_is_measured else "-",
        growth(memory),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)
    return max(times[0], memory[0] if memory else 0.0)


def draw(steps: Sequence[Step], found: Sequence[list[dict[str, float]]], folder: Path) -> None:
    """`scale_time.png` and `scale_memory.png`, each step a line in proportion to its smallest input."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for key, title in (("seconds", "processor time"), ("mib", "memory above the model")):
        shown = [
            (step, rows)
            for step, rows in zip(steps, found)
            if key == "seconds" or (step.memory_is_measured and rows[-1]["mib"] >= 1)
        ]
        columns = 4
        lines = math.ceil(len(shown) / columns)
        figure, axes = pyplot.subplots(lines, columns, figsize=(11, 2.5 * lines), squeeze=False)
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        for axis, (step, rows) in zip(axes.flat, shown):
            inputs, values = (
                [step.per(size) for size in step.sizes],
                [max(row[key], 0.1 if key == "mib" else 0) for row in rows],
            )
            axis.loglog(inputs, values, "o-", color="#00695c")
            # In proportion to the input, through the largest.
            axis.loglog(inputs, [values[-1] * size / inputs[-1] for size in inputs], ":", color="gray")
            axis.set_title(step.name.replace("`", ""), fontsize=8)
            axis.set_xlabel(step.unit, fontsize=8)
            axis.set_ylabel("s" if key == "seconds" else "MiB", fontsize=8)
            axis.tick_params(labelsize=7)
            names = [f"{size:,}" if step.per is int else f"{size}²" for size in step.sizes]
            axis.set_xticks(inputs, [name.replace(",000", "k") for name in names])
            axis.minorticks_off()
        figure.suptitle(f"{title}; dotted: in proportion to the input", fontsize=9)
        figure.tight_layout()
        figure.savefig(folder / f"scale_{'time' if key == 'seconds' else 'memory'}.png", dpi=80)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots", metavar="FOLDER", help="draw them into it")
    parser.add_argument("--largest", type=int, metavar="N", help="leave larger inputs out, to see that it runs")
    parser.add_argument("--steps", nargs="+", metavar="WORD", help="only the steps whose names have one of these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        steps = [
            step
            for step in build_steps(Works(Path(folder)))
            if not arguments.steps or any(word in step.name for word in arguments.steps)
        ]
        print(INTRODUCTION.format(command=command_line(), machine=describe_machine()))
        print("| step | with | from, to | seconds | exponent | MiB | exponent |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        found, faster = [], []
        for step in steps:
            sizes = [size for size in step.sizes if not arguments.largest or size <= arguments.largest]
            step = Step(**{**vars(step), "sizes": sizes})
            started = time.perf_counter()
            found.append([measure(step, size) for size in sizes])
            if print_step(step, found[-1]) > LARGEST_EXPONENT:
                faster.append(step)
            print(f"{step.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        print(f"\nGrows faster than its input, with an exponent above {LARGEST_EXPONENT}: ", end="")
        print(
            "; ".join(f"{step.name}: {step.note}" if step.note else step.name for step in faster) or "no step",
            end=".\n",
        )
        if arguments.plots:
            draw(steps, found, Path(arguments.plots))


if __name__ == "__main__":
    main()
