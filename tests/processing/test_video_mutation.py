"""Seeded damage: byte flips, cuts and holes over several containers, and what became of each mutant.

Deaths of this process, hangs, and errors of another type than `VideoDecodeError` must not happen, whichever backend
reads. Silently wrong frames cannot be excluded (a flipped bit in the pixels is a valid video), but a mutant may show
damage, not another moment: they are counted and bounded.
"""

import random
import time
from collections import Counter

import numpy as np
import pytest

from froster_hf.processing.video_decoding_froster import VideoDecodeError, VideoLimits, decode_frames
from tests.fixtures.backends import needs_backend
from tests.fixtures.videos import read_index

CONTAINERS = {
    "pyav": ("h264_mp4", "h264_fragmented_mp4", "h264_mkv", "mpeg4_avi", "vp9_webm", "mpeg2_ts", "gif"),
    "decord": ("h264_mp4", "h264_mkv", "mpeg4_avi", "vp9_webm"),
    "torchcodec": ("h264_mp4", "h264_mkv", "vp9_webm", "gif"),
}
INDICES = [2, 13, 27, 38]
LIMITS = VideoLimits(timeout_seconds=30, max_pixels=2_000_000)


def mutate(data: bytes, generator: random.Random) -> bytes:
    damaged = bytearray(data)
    kind = generator.choice(("flip", "flip", "header", "cut", "hole"))
    if kind == "flip":
        for _ in range(generator.choice((1, 1, 10, 100))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
    elif kind == "header":
        # The index of an MP4 or AVI lies at either end.
        for _ in range(generator.choice((1, 4))):
            place = generator.choice((generator.randrange(1200), len(damaged) - 1 - generator.randrange(1800)))
            damaged[place] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
    elif kind == "cut":
        del damaged[generator.randrange(len(damaged)) :]
    else:
        start = generator.randrange(len(damaged))
        length = min(generator.choice((16, 512, 4096)), len(damaged) - start)
        damaged[start : start + length] = bytes(length)
    return bytes(damaged)


def survey(video_file, backend: str, *, per_container: int, seed: int) -> Counter:
    """Decode mutants and count what became of them; anything but frames or `VideoDecodeError` ends the test."""
    generator = random.Random(seed)
    outcomes: Counter = Counter()
    for name in CONTAINERS[backend]:
        original = video_file(name).read_bytes()
        expected, _ = decode_frames(original, INDICES, backend=backend)
        for _ in range(per_container):
            started = time.perf_counter()
            try:
                frames, _ = decode_frames(mutate(original, generator), INDICES, backend=backend, limits=LIMITS)
            except VideoDecodeError as error:
                is_death = "the decoding process ended" in error.reason
                outcomes["late" if "timeout_seconds" in error.reason else "worker died" if is_death else "error"] += 1
            except IndexError:
                # A mutant whose remaining index is shorter and consistent.
                outcomes["shorter"] += 1
            else:
                outcomes[_verdict(frames.numpy(), expected.numpy())] += 1
            if time.perf_counter() - started > 60:
                outcomes["hang"] += 1
    return outcomes


def _verdict(frames: np.ndarray, expected: np.ndarray) -> str:
    if frames.shape != expected.shape:
        return "another size"
    if (frames == expected).all():
        return "unharmed"
    shown = [read_index(frame) for frame in frames]
    if all(index in (wanted, None) for index, wanted in zip(shown, INDICES)):
        return "damaged picture"
    return "another moment"


@pytest.mark.parametrize(("backend", "per_container"), [("pyav", 30), ("decord", 12), ("torchcodec", 12)])
def test_no_mutant_kills_hangs_or_raises_anything_else(video_file, backend, per_container):
    needs_backend(backend)
    outcomes = survey(video_file, backend, per_container=per_container, seed=1)
    assert outcomes["hang"] == outcomes["late"] == 0, outcomes
    assert outcomes["error"] > 0.2 * outcomes.total(), outcomes
    assert outcomes["another moment"] + outcomes["another size"] <= 0.03 * outcomes.total(), outcomes


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", CONTAINERS)
def test_thousands_of_mutants(video_file, backend):
    needs_backend(backend)
    outcomes = survey(video_file, backend, per_container=1000, seed=2)
    assert outcomes["hang"] == outcomes["late"] == 0, outcomes
    assert outcomes["another moment"] + outcomes["another size"] <= 0.03 * outcomes.total(), outcomes
