"""Damaged and hostile checkpoints of every kind, and what `froster convert` makes of them.

    python -m benchmarks.fuzz_checkpoints --count 20000 --seed 1 --state fuzz.jsonl

Run from the root of the repository. Mutant i of a kind follows from the seed, the kind and i alone. Mutants are
converted in a process of their own, a chunk at a time, so that a crash or a hang is counted and costs one mutant. The
state file gets a line for every chunk that is done, and a second run with the same file goes on behind them. Numbers
and errors of mutants that crashed, hung or raised something foreign are kept in `--keep`.

Pickles and TorchScript archives are read by the code of the process that opens them, without starting one for each.
"""

import argparse
import contextlib
import copy
import io
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import traceback
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from froster_hf.conversion import CheckpointError, RawCheckpoint, convert_checkpoint, pickle_worker, reading
from froster_hf.conversion.reading import read_checkpoint
from tests.conversion.hostile_files import scripted_archive
from tests.conversion.original_layouts import clip_state_dict, froster_state_dict

KINDS = ("safetensors", "pickle", "torchscript", "shard index", "configuration")
CHUNK = 250
HANG_SECONDS = 120
MEMORY_BYTES = 6 << 30
OUTCOMES = ("read", "refused", "deaths", "hangs", "foreign errors")
HOSTILE_VALUES = (
    *(0, -1, 1, 7, 2**31, 2**63, 10**9, 10**30, -0.5, 1e308, True, None),
    *("", "x", "x" * 10_000, "../a", "/etc/hostname", "\0", "\ud800", "\x1b[31m", "gelu", "evil--a.B", "F4", "BF16"),
    *([], [0], {}, {"a": {}}, [[[[]]]]),
)


def originals(folder: Path) -> None:
    """One sound checkpoint of each kind, of a tiny CLIP."""
    state = clip_state_dict(layers=1, text_layers=1)
    save_file(state, folder / "safetensors")
    torch.save(
        {"model_state": froster_state_dict(state), "epoch": 3, "cfg": "DATA: {NUM_FRAMES: 4}"}, folder / "pickle"
    )
    scripted_archive(state, folder / "torchscript")
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8}))
    model.save_pretrained(folder / "configuration")
    model.save_pretrained(folder / "shard index", max_shard_size="60KB")


def mutate_bytes(content: bytes, generator: random.Random, start: int, stop: int) -> bytes:
    """Flipped bytes, hostile numbers, holes, doubled pieces and cuts between two places."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        at = generator.randrange(start, max(start + 1, min(stop, len(data))))
        kind = generator.randrange(6)
        if kind <= 2:
            data[at : at + 1] = bytes([generator.randrange(256)])
        elif kind == 3:
            data[at : at + 8] = generator.choice((0, 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little")
        elif kind == 4:
            del data[at : at + generator.choice((1, 8, 100))]
        else:
            data[at:at] = data[at : at + generator.choice((1, 8, 100))]
    if generator.random() < 0.05:
        del data[generator.randrange(len(data) + 1) :]
    return bytes(data)


def hostile_value(generator: random.Random) -> Any:
    """A copy, since a later change may go into it."""
    return copy.deepcopy(generator.choice(HOSTILE_VALUES))


def mutate_json(content: object, generator: random.Random) -> object:
    """A JSON value in which one to three entries, at any depth, are hostile ones, renamed, gone or doubled."""
    content = json.loads(json.dumps(content))
    for _ in range(generator.choice((1, 1, 2, 3))):
        places = [(content, key) for key in content] if isinstance(content, dict) else []
        for holder, key in places:
            value = holder[key]
            if isinstance(value, dict):
                places += [(value, inner) for inner in value]
            elif isinstance(value, list):
                places += [(value, inner) for inner in range(len(value))]
        if not places:
            return hostile_value(generator)
        holder, key = generator.choice(places)
        kind = generator.randrange(8)
        if kind == 0 and isinstance(holder, dict):
            holder[str(generator.choice(HOSTILE_VALUES))[:20_000]] = holder.pop(key)
        elif kind == 1:
            del holder[key]
        elif kind == 2:
            other, name = generator.choice(places)
            holder[key] = json.loads(json.dumps(other[name] if isinstance(other, list) or name in other else None))
        else:
            holder[key] = hostile_value(generator)
    return content


def write_json(content: object, path: Path, generator: random.Random) -> None:
    """As text, sometimes deep or damaged."""
    text = json.dumps(content).encode()
    chance = generator.random()
    if chance < 0.02:
        text = b"[" * 100_000
    elif chance < 0.3:
        text = mutate_bytes(text, generator, 0, len(text))
    path.write_bytes(text)


def mutant(kind: str, number: int, seed: int, sound: Path, place: Path) -> Path:
    """Write mutant `number` of a kind to `place`."""
    generator = random.Random(f"{seed} {kind} {number}")
    if kind in ("shard index", "configuration"):
        shutil.copytree(sound / kind, place)
        file = place / ("config.json" if kind == "configuration" else "model.safetensors.index.json")
        write_json(mutate_json(json.loads(file.read_text()), generator), file, generator)
        return place
    content = (sound / kind).read_bytes()
    if kind == "safetensors":
        size = int.from_bytes(content[:8], "little")
        if generator.random() < 0.5:
            header = json.dumps(mutate_json(json.loads(content[8 : 8 + size]), generator)).encode()
            content = len(header).to_bytes(8, "little") + header + content[8 + size :]
        else:
            start, stop = generator.choice(((0, 8), (8, 8 + size), (0, len(content))))
            content = mutate_bytes(content, generator, start, stop)
    elif generator.random() < 0.6:
        # The members are changed and the archive is sound, so that what reads the pickle gets to see it.
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_STORED) as new:
            for name in old.namelist():
                member = old.read(name)
                if name.endswith("data.pkl") or generator.random() < 0.02:
                    member = mutate_bytes(member, generator, 0, len(member))
                new.writestr(name, member)
        content = changed.getvalue()
    else:
        start, stop = generator.choice(((0, 1000), (len(content) - 6000, len(content)), (0, len(content))))
        content = mutate_bytes(content, generator, max(0, start), stop)
    place.write_bytes(content)
    return place


def read_in_this_process(source: Path) -> RawCheckpoint:
    """`read_checkpoint`, with the code that opens pickles run here; each mutant would otherwise start a process."""
    if not source.is_file() or not source.read_bytes().startswith(b"PK\x03\x04"):
        return read_checkpoint(source)
    with tempfile.TemporaryDirectory() as folder:
        pickle_worker.main(source, Path(folder), 1 << 30)
        summary = json.loads(Path(folder, "0.json").read_text(encoding="utf-8"))
        if "error" in summary:
            raise CheckpointError(summary["error"])
        tensors = load_file(Path(folder, "tensors.safetensors"))
    told = {name: summary[name] for name in ("format", "other", "texts", "statement")}
    return RawCheckpoint(source, tensors=tensors, **told)


def convert_chunk(kind: str, start: int, stop: int, seed: int, sound: Path, keep: Path) -> None:
    """Convert mutants and print what became of each, one line each, as it is known."""
    pickle_worker.limit_memory(MEMORY_BYTES)
    reading.read_checkpoint = read_in_this_process  # type: ignore[assignment]
    for number in range(start, stop):
        with tempfile.TemporaryDirectory() as scratch:
            print(number, end=" ", flush=True)
            place = mutant(kind, number, seed, sound, Path(scratch) / "mutant")
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    convert_checkpoint(place, Path(scratch) / "out")
                outcome = "read"
            except (ValueError, OSError):
                outcome = "refused"
            except BaseException:  # A panic of a Rust library is not an Exception.
                outcome = "foreign errors"
                saved = keep / f"{kind}-{number}"
                saved.with_suffix(".txt").write_text(traceback.format_exc())
            print(outcome, flush=True)


def run_chunk(kind: str, start: int, stop: int, seed: int, sound: Path, keep: Path) -> Counter:
    """Outcomes of a chunk; after a crash or a hang it goes on behind the mutant that caused it."""
    counts: Counter = Counter()
    while start < stop:
        command = [sys.executable, "-m", "benchmarks.fuzz_checkpoints", "--chunk", kind, str(start), str(stop)]
        command += ["--seed", str(seed), "--sound", str(sound), "--keep", str(keep)]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
            done, end = -1, "deaths"
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=HANG_SECONDS)
                output.seek(0)
                lines = output.read().splitlines()
                if process.returncode is not None:
                    break
                if len(lines) == done:
                    end = "hangs"
                    process.kill()
                done = len(lines)
        outcomes = [line.partition(" ")[2] for line in lines if line.partition(" ")[2]]
        counts.update(outcomes)
        start += len(outcomes)
        if start < stop:
            counts[end] += 1
            (keep / f"{kind}-{start}.txt").write_text(f"{end}: exit code {process.returncode}\n")
            start += 1
    return counts


def report(done: dict[str, Counter], command: str, seed: int) -> str:
    """The table of the documentation."""
    total = sum(sum(counts.values()) for counts in done.values())
    about = (
        f"{total:,} mutants, seed {seed}: bytes flipped, cut, doubled and overwritten with hostile numbers; values of "
        "JSON (headers, configurations, indexes) replaced, renamed and removed. torch "
        f"{torch.__version__}, safetensors {safetensors.__version__}, transformers {transformers.__version__}, Python "
        f"{platform.python_version()}."
    )
    lines = [
        f"`{command}`",
        "",
        *textwrap.wrap(about, 119),
        "",
        f"| kind | mutants | {' | '.join(OUTCOMES)} |",
        f"| --- |{' ---: |' * (len(OUTCOMES) + 1)}",
    ]
    for kind, counts in done.items():
        numbers = " | ".join(f"{counts[outcome]:,}" for outcome in OUTCOMES)
        lines.append(f"| {kind} | {sum(counts.values()):,} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="mutants, shared among the kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, default=Path("fuzz_checkpoints.jsonl"))
    parser.add_argument("--keep", type=Path, default=Path("fuzz_checkpoints_kept"))
    parser.add_argument("--sound", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--chunk", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    if arguments.chunk:
        kind, start, stop = arguments.chunk
        convert_chunk(kind, int(start), int(stop), arguments.seed, arguments.sound, arguments.keep)
        return
    state = arguments.state.read_text().splitlines() if arguments.state.exists() else []
    finished = {(line["kind"], line["start"]): Counter(line["counts"]) for line in map(json.loads, state)}
    each = -(-arguments.count // len(KINDS))
    with tempfile.TemporaryDirectory() as folder:
        originals(Path(folder))
        # Round by round, so that whatever time there is goes to all kinds alike.
        for start in range(0, each, CHUNK):
            for kind in KINDS:
                if (kind, start) in finished:
                    continue
                stop = min(start + CHUNK, each)
                counts = run_chunk(kind, start, stop, arguments.seed, Path(folder), arguments.keep)
                finished[kind, start] = counts
                line = {"kind": kind, "start": start, "counts": counts}
                with arguments.state.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), file=sys.stderr)
    done = {kind: sum((c for (k, _), c in finished.items() if k == kind), Counter()) for kind in KINDS}
    command = f"python -m benchmarks.fuzz_checkpoints --count {arguments.count} --seed {arguments.seed}"
    print(report(done, command, arguments.seed))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
