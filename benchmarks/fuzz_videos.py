"""Damaged videos of every kind, and what the reader makes of them.

    python -m benchmarks.fuzz_videos --count 100000 --state fuzz.jsonl > docs/fuzzing.md

Run from the root of the repository. Mutant i of a kind of file follows from the seed, the kind and i alone. The state
file gets a line for every chunk that is done, and a second run with the same file goes on behind them, so the work can
be cut into pieces (`--minutes`). Mutants that ended the decoding process, were late or raised something foreign are
kept in `--keep`.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np

from froster_hf.video.decoding import VideoLimits, decode_frames
from tests.fixtures.mutants import mutate, outcome
from tests.fixtures.videos import VIDEO_KINDS, render_video

NUM_FRAMES = 20
INDICES = [1, 6, 13, 18]
CHUNK = 100
LIMITS = VideoLimits(timeout_seconds=10, max_pixels=2_000_000)
COLUMNS = {
    "mutants": (),
    "refused": ("refused", "shorter", "late"),
    "read, unharmed": ("unharmed",),
    "read, pixels damaged": ("damaged picture",),
    "read, another moment": ("another moment",),
    "read, another size": ("another size",),
    "at the time limit": ("late",),
    "decoder died": ("death",),
    "hangs": ("hang",),
    "foreign errors": ("foreign",),
}
INTRODUCTION = """# Fuzzing the video reader

`{command}`

{total} mutants of {kinds} kinds of file (every container and codec of the tests' fixtures, {frames} frames each), seed
{seed}: flipped bytes, hostile numbers in the headers, cuts and holes. Each is handed over as bytes, and four of its
frames are asked for, with a limit of {limit:g} seconds. PyAV {av}, Python {python}.

"Refused" is a `VideoDecodeError` that names the file (an index beyond the end of a shortened file, and mutants at the
time limit twice, among them). "Decoder died" counts crashes of FFmpeg, contained in the decoding process: the caller
gets a `VideoDecodeError`. "Foreign errors" are exceptions that nobody foresaw, on either side. A flipped bit in the
pixels is a valid video, so some mutants are read with damaged pixels; a frame of another moment under the asked index
is what the reader exists to prevent, and cannot be excluded where a mutant is a consistent file of its own.
"""


def originals(names: list[str], folder: Path) -> dict[str, bytes]:
    """The sound files."""
    return {
        name: render_video(
            folder / f"{name}{VIDEO_KINDS[name].suffix}", VIDEO_KINDS[name], num_frames=NUM_FRAMES
        ).read_bytes()
        for name in names
    }


def fuzz_chunk(name: str, chunk: int, size: int, original: bytes, seed: int, keep: Path | None) -> Counter:
    """What became of `size` mutants of a kind."""
    expected: np.ndarray = decode_frames(original, INDICES)[0].numpy()
    counts: Counter = Counter()
    for index in range(chunk * CHUNK, chunk * CHUNK + size):
        mutant = mutate(original, random.Random(f"{seed} {name} {index}"))
        word, text = outcome(mutant, INDICES, expected, limits=LIMITS)
        if word in ("late", "hang"):
            # A busy machine makes late, too; a mutant that is at fault is late again.
            word, text = outcome(mutant, INDICES, expected, limits=LIMITS)
        counts[word] += 1
        if word in ("death", "late", "hang", "foreign"):
            print(f"{name} {index}: {word}: {text}", file=sys.stderr, flush=True)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{index}{VIDEO_KINDS[name].suffix}").write_bytes(mutant)
    return counts


def read_state(path: Path, seed: int) -> dict[tuple[str, int], Counter]:
    """Chunks that are done, by kind and number."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(line["kind"], line["chunk"]): Counter(line["counts"]) for line in lines if line["seed"] == seed}


def table(done: dict[tuple[str, int], Counter]) -> str:
    """A row for each kind, and their sum."""
    rows: dict[str, Counter] = {}
    for (name, _), counts in done.items():
        rows.setdefault(name, Counter()).update(counts)
    rows = {name: rows[name] for name in sorted(rows)}
    rows["all"] = sum(rows.values(), Counter())
    lines = [f"| kind | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, counts in rows.items():
        cells = [sum(counts[word] for word in words) if words else counts.total() for words in COLUMNS.values()]
        lines.append(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Fuzz what is not done yet, then print all that is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="mutants of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(VIDEO_KINDS), default=list(VIDEO_KINDS), metavar="KIND")
    parser.add_argument("--state", type=Path, required=True, help="file of what is done; a second run goes on from it")
    parser.add_argument("--keep", type=Path, help="folder for the mutants that are worth a look")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    done = read_state(arguments.state, arguments.seed)
    chunks = -(-arguments.count // (CHUNK * len(arguments.kinds)))
    todo = [(name, chunk) for chunk in range(chunks) for name in arguments.kinds if (name, chunk) not in done]
    with tempfile.TemporaryDirectory() as folder:
        files = originals(arguments.kinds, Path(folder)) if todo else {}
    with open(arguments.state, "a", encoding="utf-8") as state:
        for name, chunk in todo:
            if time.monotonic() > end:
                break
            counts = fuzz_chunk(name, chunk, CHUNK, files[name], arguments.seed, arguments.keep)
            done[name, chunk] = counts
            line = {"kind": name, "chunk": chunk, "seed": arguments.seed, "counts": counts}
            state.write(json.dumps(line) + "\n")
            state.flush()
    introduction = INTRODUCTION.format(
        command=f"python -m benchmarks.fuzz_videos --count {arguments.count} --seed {arguments.seed} --state STATE",
        total=f"{sum(counts.total() for counts in done.values()):,}",
        kinds=len({name for name, _ in done}),
        frames=NUM_FRAMES,
        seed=arguments.seed,
        limit=LIMITS.timeout_seconds,
        av=av.__version__,
        python=platform.python_version(),
    )
    print(introduction + "\n" + table(done))


if __name__ == "__main__":
    main()
