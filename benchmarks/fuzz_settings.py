"""Mutated settings files through every reader of YAML: nothing foreign, endless or of many lines.

    python benchmarks/fuzz_settings.py --cases 20000 --seed 0

Each case takes a shipped recipe, protocol, study plan or model card, mutates it (bytes, tokens of YAML, lines, depth,
aliases) and loads it. Allowed outcomes are a result, or a ValueError or OSError in one line. Prints the outcomes per
reader, the longest case, and every failure; the exit code is 1 where there was one.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from froster_hf.evaluation import protocols
from froster_hf.hub.card_facts import load_card_facts
from froster_hf.settings import SHIPPED_FOLDERS
from froster_hf.shapes.study import plan
from froster_hf.training import recipes

SECONDS_ALLOWED = 10.0
MESSAGE_ALLOWED = 5000
TOKENS = (
    *("&a ", "*a", "<<: *a", "!!python/object/apply:os.system ['true']", "!!int ''", "!!binary x", "? [a]\n: b"),
    *("[" * 3000, "{a: " * 500, "- " * 2000, "a:\n" + " " * 300 + "- b\n", "9" * 5000, "0x_", "1e999", ".nan"),
    *("null", "~", "true", "yes", "'", '"', "|\n", ">\n  ", "\t", "\x00", "\x07", "\ufeff", "\ud7ff", "\u2028"),
    *("extends: froster_k400\n", "extends: [a]\n", "extends: mine\n", "name: [1]\n", "training: 5\n", "1: 2\n"),
    *("2001-99-99", "1:30:00", "0b2", "%YAML 9.9\n", "---\n", "@", "`", "#", ":", ",", "- ", "}", "]", "x" * 10000),
    *("0", "3", "-1", "0.5", "text", "[1, 2]", "[a, b]", "{a: 1}", "é" * 99),
)
READERS: dict[str, tuple[Callable[[Path], object], list[Path]]] = {
    "recipes": (recipes.load_recipe, sorted(SHIPPED_FOLDERS["recipe"].glob("*.yaml"))),
    "protocols": (protocols.load_protocol, sorted(SHIPPED_FOLDERS["protocol"].glob("*.yaml"))),
    "study plans": (plan.load_plan, sorted(SHIPPED_FOLDERS["plan"].glob("*.yaml"))),
    "model cards": (load_card_facts, sorted((Path(__file__).parents[1] / "model_cards").glob("*.yaml"))),
}


def mutated(text: str, draw: random.Random) -> bytes:
    """One to three changes of a file."""
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(text) + 1)
        kind = draw.randrange(6)
        lines = text.splitlines(keepends=True) or [""]
        line = draw.randrange(len(lines))
        if kind == 0:
            text = text[:place] + draw.choice(TOKENS) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + draw.randint(1, 30) :]
        elif kind == 2:
            # The value of a field.
            lines[line] = lines[line].partition(":")[0] + ": " + draw.choice(TOKENS) + "\n"
            text = "".join(lines)
        elif kind == 3:
            lines.insert(draw.randrange(len(lines) + 1), lines[line])
            text = "".join(lines)
        elif kind == 4:
            lines[line] = " " * draw.randint(0, 9) + lines[line]
            text = "".join(lines)
        else:
            text = text[:place] + chr(draw.choice((draw.randrange(128), draw.randrange(0x10000)))) + text[place:]
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    if draw.random() < 0.2 and content:
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def outcome(load: Callable[[Path], object], file: Path) -> tuple[str, str]:
    """`read`, `refused`, or what is wrong and its message."""
    try:
        load(file)
    except (ValueError, OSError) as error:
        message = str(error)
        if len(message.splitlines()) > 1 or len(message) > MESSAGE_ALLOWED:
            return "long message", message
        return "refused", message
    except BaseException as error:
        return "foreign error", f"{type(error).__name__}: {error}"
    return "read", ""


def main() -> int:
    """Run the cases, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    counts: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    failures, longest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mine.yaml"
        for case in range(arguments.cases):
            name = draw.choice(list(READERS))
            load, files = READERS[name]
            content = mutated(draw.choice(files).read_text(encoding="utf-8"), draw)
            file.write_bytes(content)
            begin = time.perf_counter()
            result, message = outcome(load, file)
            seconds = time.perf_counter() - begin
            longest = max(longest, seconds)
            if seconds > SECONDS_ALLOWED:
                result, message = "hang", f"{seconds:.1f} s"
            counts[name][result] += 1
            if result not in ("read", "refused"):
                failures.append(f"case {case}, {name}: {result}: {message[:300]!r} of {content[:200]!r}")
    for name, found in counts.items():
        print(f"{name}: {', '.join(f'{count} {result}' for result, count in sorted(found.items()))}")
    print(
        f"{arguments.cases} cases, seed {arguments.seed}; the longest took {longest:.2f} s; {len(failures)} failures"
    )
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
