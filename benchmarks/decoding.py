"""Eight frames of a video, decoded alone, against decoding the whole file as the original code does.

    python benchmarks/decoding.py > benchmarks/decoding.md

Three files are rendered first: 10 s of 340 x 256 and twice 12 s of 1280 x 720, H.264. Each method reads the same clips
in the workers of a `DataLoader`, one after the other within each round, and is compared with the whole file of its own
round.
"""

import argparse
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import torch
from machine import command_line, describe_machine
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from froster_hf.video.backends import BACKENDS
from froster_hf.video.decoding import VideoLimits, decode_frames
from froster_hf.video.reader import StrictReader


@dataclass(frozen=True)
class Scene:
    """A file to decode, and how many clips of it make a round of each method."""

    name: str
    width: int
    height: int
    seconds: int
    key_frame_interval: int
    clips: int
    whole_clips: int


SCENES = [
    Scene("10 s, 340 x 256, one key frame in 8 s", 340, 256, 10, 250, clips=8, whole_clips=4),
    Scene("12 s, 1280 x 720, one key frame per second", 1280, 720, 12, 30, clips=6, whole_clips=1),
    Scene("12 s, 1280 x 720, one key frame in 2 s", 1280, 720, 12, 60, clips=6, whole_clips=1),
]
INTRODUCTION = """# Decoding eight frames

`{command}`

Machine: {machine}.
Medians of {rounds} rounds; every ratio is taken within a round, against decoding and converting the whole file with
PyAV in as many worker processes, as the original code does. One decoding thread per worker. Uniform: frames spread
over the file; dense: every 16th frame of a random window of 128. "auto" is the strict PyAV reader. The times of decord
and torchcodec include the strict reader's, which their frames are compared with; decord, exact only in order from the
first frame, was measured in one round on the larger files. A key frame is where decoding can start: the further apart
they are, the more frames each sampled one needs.
"""
COMPARED = ["auto", *(name for name, backend in BACKENDS.items() if backend.containers is not None)]
FPS = 30


def is_installed(backend: str) -> bool:
    return backend == "auto" or any(find_spec(name) for name in BACKENDS[backend].distributions)


def render(path: Path, scene: Scene) -> None:
    """A textured background that sways and a block that crosses it: motion for every frame, detail for the encoder."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (scene.height // 8 + 64, scene.width // 8 + 64, 3), dtype=np.uint8)
    texture = np.asarray(
        Image.fromarray(small).resize((scene.width + 512, scene.height + 512), Image.Resampling.BICUBIC)
    )
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "preset": "veryfast", "g": str(scene.key_frame_interval)}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        for index in range(scene.seconds * FPS):
            left, top = int(200 + 180 * np.sin(index / 40)), int(200 + 180 * np.cos(index / 55))
            image = texture[top : top + scene.height, left : left + scene.width].copy()
            start = index * 3 % (scene.width - 60)
            image[scene.height // 4 : scene.height // 2, start : start + 50] = (index * 7 % 255, 128, 200)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


class Clips(Dataset):
    """Clips of one file, each with its own window where the sampling is dense."""

    def __init__(self, path: Path, method: str, sampling: str, num_clips: int, seed: int):
        self.path, self.method, self.sampling, self.num_clips, self.seed = path, method, sampling, num_clips, seed

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, item: int) -> torch.Tensor:
        choose = partial(choose_frames, self.sampling, self.seed * 1000 + item)
        if self.method == "whole file":
            return whole_file(self.path, choose)
        return decode_frames(self.path, choose, backend=self.method)[0]


def choose_frames(sampling: str, seed: int, info) -> list[int]:
    if sampling == "uniform":
        return [int((step + 0.5) * info.num_frames / 8) for step in range(8)]
    start = random.Random(seed).randrange(info.num_frames - 127)
    return list(range(start, start + 128, 16))


def whole_file(path: Path, choose) -> torch.Tensor:
    """Every frame decoded and converted to RGB, eight kept: in favor of the original, which holds them all."""
    kept = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = set(choose(SimpleNamespace(num_frames=stream.frames)))
        for index, frame in enumerate(container.decode(stream)):
            image = frame.to_ndarray(format="rgb24")
            if index in wanted:
                kept.append(torch.from_numpy(image).permute(2, 0, 1))
    return torch.stack(kept)


def clips_per_second(path: Path, method: str, sampling: str, num_clips: int, workers: int, seed: int) -> float:
    """Of a loader that is warm, unless a clip takes so long that starting does not count."""
    warm = workers if num_clips > 4 else 0
    clips = Clips(path, method, sampling, num_clips + warm, seed)
    loader = iter(DataLoader(clips, batch_size=None, num_workers=workers, prefetch_factor=1))
    for _ in range(warm):
        next(loader)
    started = time.perf_counter()
    for _ in range(num_clips):
        next(loader)
    return num_clips / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(INTRODUCTION.format(command=command_line(), machine=describe_machine(), rounds=arguments.rounds))
    print("| file | sampling | backend | workers | clips/s | times the whole file |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{scene.width}_{scene.key_frame_interval}.mp4" for scene in SCENES]
        for path, scene in zip(paths, SCENES):
            render(path, scene)
            for workers in (1, 2):
                measure(path, scene, workers, arguments.rounds)
        print("\nProcessor time of the strict reader alone, which other work on the machine does not lengthen:\n")
        print("| file | sampling | ms | times the whole file |")
        print("| --- | --- | ---: | ---: |")
        for path, scene in zip(paths, SCENES):
            measure_processor_time(path, scene, arguments.rounds)


def measure_processor_time(path: Path, scene: Scene, rounds: int) -> None:
    def read_strictly(choose) -> None:
        with open(path, "rb") as file, StrictReader(file, limits=VideoLimits()) as reader:
            reader.read(choose(reader.info))

    def milliseconds(read, sampling: str, seed: int) -> float:
        started = time.process_time()
        read(partial(choose_frames, sampling, seed))
        return (time.process_time() - started) * 1000

    whole = [milliseconds(partial(whole_file, path), "uniform", seed) for seed in range(rounds)]
    for sampling in ("uniform", "dense"):
        own = [milliseconds(read_strictly, sampling, seed) for seed in range(rounds)]
        ratio = statistics.median(theirs / ours for theirs, ours in zip(whole, own))
        print(f"| {scene.name} | {sampling} | {statistics.median(own):.0f} | {ratio:.1f} |", flush=True)


def measure(path: Path, scene: Scene, workers: int, rounds: int) -> None:
    rates: dict[tuple[str, str], list[float]] = {}
    ratios: dict[tuple[str, str], list[float]] = {}
    for seed in range(rounds):
        whole = clips_per_second(path, "whole file", "uniform", scene.whole_clips, workers, seed)
        rates.setdefault(("all frames", "whole file"), []).append(whole)
        ratios.setdefault(("all frames", "whole file"), []).append(1.0)
        for sampling in ("uniform", "dense"):
            for backend in filter(is_installed, COMPARED):
                is_slow = backend == "decord" and scene.width > 340
                if is_slow and seed > 0:
                    continue
                clips = scene.whole_clips if is_slow else scene.clips
                rate = clips_per_second(path, backend, sampling, clips, workers, seed)
                rates.setdefault((sampling, backend), []).append(rate)
                ratios.setdefault((sampling, backend), []).append(rate / whole)
    for key, values in rates.items():
        rate, ratio = statistics.median(values), statistics.median(ratios[key])
        print(f"| {scene.name} | {key[0]} | {key[1]} | {workers} | {rate:.2f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
