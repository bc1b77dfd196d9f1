"""Seeded damage: byte flips, cuts and holes over several containers, and what became of each mutant.

Deaths of this process, hangs, and errors of another type than `VideoDecodeError` must not happen, whichever backend
reads. Silently wrong frames cannot be excluded (a flipped bit in the pixels is a valid video), but a mutant may show
damage, not another moment: they are counted and bounded.
"""

import random
from collections import Counter

import pytest

from froster_hf.video.backends import BACKENDS
from froster_hf.video.decoding import VideoDecodeError, VideoLimits, decode_frames
from tests.fixtures.backends import VERIFIED, needs_backend
from tests.fixtures.mutants import mutate, outcome

KINDS = ("h264_mp4", "h264_fragmented_mp4", "h264_mkv", "mpeg4_avi", "vp9_webm", "mpeg2_ts", "gif")
INDICES = [2, 13, 27, 38]
LIMITS = VideoLimits(timeout_seconds=30, max_pixels=2_000_000)


WRONG = ("another moment", "another size")


def survey(video_file, backend: str, *, per_container: int, seed: int) -> Counter:
    """Decode mutants and count what became of them.

    A backend that is verified can only be as exact as the strict reader: where that takes a mutant for a sound file of
    its own, too, the mutant counts as "another file".
    """
    generator = random.Random(seed)
    outcomes: Counter = Counter()
    for name in KINDS:
        original = video_file(name).read_bytes()
        try:
            expected = decode_frames(original, INDICES, backend=backend)[0].numpy()
        except VideoDecodeError:
            # Not one of the containers that it reads.
            assert backend in VERIFIED
            continue
        for _ in range(per_container):
            mutant = mutate(original, generator)
            found = outcome(mutant, INDICES, expected, limits=LIMITS, backend=backend)[0]
            if backend in VERIFIED and found in WRONG:
                strict = decode_frames(original, INDICES, backend="pyav")[0].numpy()
                if outcome(mutant, INDICES, strict, limits=LIMITS, backend="pyav")[0] in WRONG:
                    found = "another file"
            outcomes[found] += 1
    return outcomes


@pytest.mark.parametrize(("backend", "per_container"), [("pyav", 30), *((backend, 12) for backend in VERIFIED)])
def test_no_mutant_kills_hangs_or_raises_anything_else(video_file, backend, per_container):
    needs_backend(backend)
    outcomes = survey(video_file, backend, per_container=per_container, seed=1)
    assert outcomes["hang"] == outcomes["late"] == outcomes["foreign"] == 0, outcomes
    assert outcomes["refused"] > 0.2 * outcomes.total(), outcomes
    assert outcomes["another moment"] + outcomes["another size"] <= 0.03 * outcomes.total(), outcomes


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", BACKENDS)
def test_thousands_of_mutants(video_file, backend):
    needs_backend(backend)
    outcomes = survey(video_file, backend, per_container=1000, seed=2)
    assert outcomes["hang"] == outcomes["late"] == outcomes["foreign"] == 0, outcomes
    assert outcomes["another moment"] + outcomes["another size"] <= 0.03 * outcomes.total(), outcomes
