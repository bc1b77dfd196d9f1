"""An index of made-up segments: how long it takes to write, and to search, and what the searching process needs.

    python benchmarks/search.py [--sizes 10000,100000,1000000] [--width 512]

Vectors are drawn, since a search does not see where they come from; what embedding costs is in `towers.md`. A row has
a picture of 4 KiB for the smallest size and none for the others, whose disk it would fill. Searching is measured in a
process of its own: the first search after opening the index, then the median of 20. Its memory is the peak above what
it had before (Linux).
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import command_line, describe_machine

from froster_hf import load_pipeline
from froster_hf.integrations import search

SEGMENTS_PER_VIDEO = 100
PICTURE_BYTES = 4096
SEARCHES = 20


def build(folder: Path, size: int, width: int, picture_bytes: int) -> float:
    """Write an index of so many segments; the seconds that it took, without drawing the vectors."""
    classify = load_pipeline("small", device="cpu")
    embed_probe = search.embed_probe
    # As wide as the vectors, whichever model is at hand.
    search.embed_probe = lambda *arguments: torch.nn.functional.pad(
        embed_probe(*arguments), (0, width - embed_probe(*arguments).numel())
    )
    wanted = dict.fromkeys(("window_seconds", "stride_seconds", "num_frames"))
    index = search._create_index(classify, folder, wanted)
    search.embed_probe = embed_probe
    writer = search._Writer(index.table, search.IndexReport(), lambda record: None)
    generator, pictures = torch.Generator().manual_seed(0), random.Random(0)
    seconds = 0.0
    for video in range(size // SEGMENTS_PER_VIDEO):
        embeds = torch.nn.functional.normalize(torch.randn(SEGMENTS_PER_VIDEO, width, generator=generator), dim=-1)
        rows = [
            ((2.0 * place, 2.0 * place + 4), pictures.randbytes(picture_bytes), embed)
            for place, embed in enumerate(embeds)
        ]
        start = time.perf_counter()
        writer.add(f"/videos/{video:06d}.mp4", "1 2", iter(rows), was_known=False)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    writer.commit()
    index.table.optimize(cleanup_older_than=search.KEPT_VERSIONS)
    return seconds + time.perf_counter() - start


def search_it(folder: str, width: int) -> None:
    """Print the seconds of the searches, the first one apart, and the memory."""
    before = memory("VmRSS")
    # The peak is counted from here on.
    Path("/proc/self/clear_refs").write_text("5")
    index = search.open_index(folder)
    seconds = []
    for number in range(SEARCHES + 1):
        query = torch.nn.functional.normalize(
            torch.randn(width, generator=torch.Generator().manual_seed(number)), dim=0
        )
        start = time.perf_counter()
        found = index.nearest(query, top_k=10)
        seconds.append(time.perf_counter() - start)
        assert len(found) == 10
    grown = memory("VmHWM") - before
    print(json.dumps({"first": seconds[0], "then": statistics.median(seconds[1:]), "mebibytes": grown}))


def memory(name: str) -> float:
    """A figure of this process's memory in MiB."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--search", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search is not None:
        search_it(arguments.search, arguments.width)
        return
    print(f"    {command_line()}\n\n{describe_machine()}; LanceDB {__import__('lancedb').__version__}\n")
    print("| segments | written in | on disk | first search | a search | memory |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for place, size in enumerate(map(int, arguments.sizes.split(","))):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            written = build(path, size, arguments.width, 0 if place else PICTURE_BYTES)
            disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20
            command = [sys.executable, __file__, "--search", str(path)]
            command += ["--width", str(arguments.width)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            took = json.loads(run.stdout)
        print(
            f"| {size:,} | {written:.1f} s | {disk:,.0f} MiB | {1000 * took['first']:,.0f} ms | "
            f"{1000 * took['then']:,.0f} ms | {took['mebibytes']:,.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
