"""Does rendering the moving-shapes world ever bound training?

    OMP_NUM_THREADS=1 python benchmarks/rendering.py

Each row times making a batch and the least that a model does with it: one forward and backward pass of a very small
CLIP vision tower (32x32 pixels, patch 8, width 128, 4 layers; no text, no temporal module, no optimizer). The two
alternate, and processor seconds of one thread are counted, so that a busy machine changes the rates more than the
ratio.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from froster_hf.shapes import draw_captions, draw_scenes, matches, render_clips, render_stills, write_mp4

REPEATS = 15


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def tiny_vision_tower() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8
    )
    return CLIPVisionModelWithProjection(config)


def compare(name: str, num: int, unit: str, make: Callable[[], torch.Tensor], tower: CLIPVisionModelWithProjection):
    """Time making `num` items and training on them, in turns, and print one row."""

    def train(images: torch.Tensor):
        tower(images.reshape(-1, 3, 32, 32).float().div(255)).image_embeds.square().sum().backward()

    train(make())
    making, training = [], []
    for _ in range(REPEATS):
        images = make()
        making.append(seconds(make))
        training.append(seconds(lambda images=images: train(images)))
    ratio = statistics.median(t / m for m, t in zip(making, training))
    print(f"| {name} | {num / statistics.median(making):,.0f} {unit}/s | {ratio:.1f} |")


def stills(num: int, **rates: float) -> torch.Tensor:
    return render_stills(draw_scenes(0, num, **rates), resolution=32)


def clips(num: int, **rates: float) -> torch.Tensor:
    return render_clips(draw_scenes(0, num, **rates), num_frames=8, resolution=32)


def mp4_files(num: int, num_frames: int):
    """Time rendering and encoding of 192x192 files, apart."""
    scenes = draw_scenes(0, num)
    rendering, encoding = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS // 3):
            rendering.append(seconds(lambda: render_clips(scenes, num_frames=num_frames, resolution=192)))
            rendered = render_clips(scenes, num_frames=num_frames, resolution=192)
            encoding.append(seconds(lambda r=rendered: [write_mp4(clip, Path(folder) / "clip.mp4") for clip in r]))
    both, share = zip(*((r + e, e / (r + e)) for r, e in zip(rendering, encoding)))
    print(f"| {num_frames} frames | {num / statistics.median(both):,.1f} files/s | {statistics.median(share):.0%} |")


def captions(num: int):
    attributes = draw_scenes(0, num, second_object_rate=0.3).attributes
    return matches(draw_captions(0, attributes).claims, attributes)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower = tiny_vision_tower()
    both = {"second_object_rate": 0.3, "trail_rate": 0.3}
    print("| 32x32, one thread | drawn and rendered | a training pass takes ... times as long |\n| --- | --- | --- |")
    compare("stills", 256, "stills", lambda: stills(256), tower)
    compare("stills, 30% with a trail, 30% with two objects", 256, "stills", lambda: stills(256, **both), tower)
    compare("clips of 8 frames", 32, "clips", lambda: clips(32), tower)
    compare("clips, 30% with a trail, 30% with two objects", 32, "clips", lambda: clips(32, **both), tower)
    compare("clips, all with trails", 32, "clips", lambda: clips(32, trail_rate=1.0), tower)
    print("\n| 192x192 H.264 mp4 | rendered and written | of which encoding |\n| --- | --- | --- |")
    for num_frames in (16, 24):
        mp4_files(8, num_frames)
    rate = 256 / statistics.median(seconds(lambda: captions(256)) for _ in range(REPEATS))
    print(f"\nCaptions, with the matrix of which are true of which of 256 scenes: {rate:,.0f} per second.")


if __name__ == "__main__":
    main()
