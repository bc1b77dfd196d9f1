"""Mutated label files, lists and annotation files through every reader: nothing foreign, endless or lost.

    python benchmarks/fuzz_lists.py --cases 20000 --seed 0

Each case takes a sound file, mutates it (bytes, characters, lines, cells, JSON values) and reads it. Allowed outcomes
are a result, or a ValueError or OSError in one line that names the file. A result must hold each of the file's labels
or rows: where the count of what went in is known, the same count has to come out. Prints the outcomes per reader, the
longest case, and every failure; the exit code is 1 where there was one.
"""

import argparse
import json
import logging
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets

from froster_hf.data import (
    read_hmdb51,
    read_kinetics,
    read_something_something,
    read_ucf101,
    read_video_list,
)
from froster_hf.processing.label_files import read_label_file

SECONDS_ALLOWED = 10.0
MESSAGE_ALLOWED = 2000

LABEL_FILES = {
    "a.txt": "growing\nshrinking\nsliding left\n",
    "b.txt": "growing\tit gets larger\nshrinking\nsliding left\t\n",
    "a.json": '{"growing": 0, "shrinking": 1, "sliding left": 2}',
    "b.json": '["growing", "shrinking", "sliding left"]',
    "c.json": '{"0": "growing", "1": "shrinking", "2": "sliding left"}',
    "d.json": '{"growing": "it gets larger", "shrinking": null}',
    "a.csv": 'id,name\n0,growing\n1,"up, then down"\n2,sliding left\n',
    "a.tsv": "name\tdescription\ngrowing\tit gets larger\nshrinking\t\n",
}
LISTS = {
    "a.csv": "video,label\nx/a.mp4,growing\nx/b.mp4,shrinking\n",
    "b.csv": 'x/a.mp4,0\n"x/b, c.mp4",1\n',
    "a.lst": "x/frames 250 0\nx/frames 12 1\n",
    "a.jsonl": '{"video": "x/a.mp4", "label": 0}\n{"video": "x/b.mp4", "label": "growing"}\n',
    "a.json": '[{"video": "x/a.mp4", "label": 0}]',
}
UCF_CLASSES, UCF_TEST = "1 ApplyEyeMakeup\n2 BrushHair\n", "ApplyEyeMakeup/v_a.avi\nBrushHair/v_b.avi\n"
HMDB = "a.avi 1\nb c.avi 2\nd.avi 0\n"
KINETICS = (
    'label,youtube_id,time_start,time_end,split\n"air drumming",aaaaaaaaaaa,5,15,val\nyoga,bbbbbbbbbbb,0,10,val\n'
)
SSV2 = '[{"id": "1", "template": "Closing [something]"}, {"id": "2", "template": "Opening [something]"}]'
SSV2_LABELS = '{"Closing something": "0", "Opening something": "1"}'

TOKENS = [
    "\t",
    ",",
    ";",
    '"',
    "'",
    "\n",
    "\r\n",
    "\r",
    " ",
    "0",
    "1",
    "-1",
    "id",
    "name",
    "video",
    "label",
    "{",
    "}",
    "[",
    "]",
]
TOKENS += [
    "\0",
    "\ufeff",
    "\u2028",
    "\x1b[31m",
    "../",
    "/etc/passwd",
    "https://h/",
    "é",
    "９",
    "1e999",
    "NaN",
    "null",
    "\\ud800",
]


def mutated(text: str, chance: random.Random) -> bytes:
    """The text with one to six small changes, or its bytes in another encoding."""
    for _ in range(chance.randint(0, 5)):
        place = chance.randint(0, len(text))
        kind = chance.randrange(7)
        if kind == 0:
            text = text[:place] + chance.choice(TOKENS) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + chance.randint(1, 5) :]
        elif kind == 2:
            lines = text.splitlines(keepends=True)
            chance.shuffle(lines)
            text = "".join(lines)
        elif kind == 3:
            text += text[place:]
        elif kind == 4:
            text = text.replace(chance.choice(TOKENS), chance.choice(TOKENS))
        elif kind == 5:
            text = (
                text[:place]
                + chance.choice(["[", "{", '{"a":', "x", "9", '"']) * chance.choice([2, 5000, 200_000])
                + text[place:]
            )
        else:
            text = text[:place] + chr(chance.choice([*range(0xD800), *range(0xE000, 0x11000)])) + text[place:]
    data = text.encode(chance.choice(["utf-8"] * 8 + ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]), "replace")
    if chance.random() < 0.2 and data:
        place = chance.randrange(len(data))
        data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
    return data


def text_of(file: Path) -> str:
    """A file's text, without byte order marks, wherever they stand."""
    return file.read_bytes().decode().replace("\ufeff", "")


def num_lines(file: Path) -> int:
    """Lines that are not blank."""
    text = text_of(file).replace("\r\n", "\n").replace("\r", "\n")
    return sum(bool(line.strip()) for line in text.split("\n"))


def num_told(table: datasets.Dataset) -> int:
    """Rows of a table, and the lines that it says are of the same videos."""
    again = re.search(r"(\d+) of \d+ name a video again", table.info.description)
    return len(table) + (int(again[1]) if again else 0)


class Readers:
    """Each reader on one mutated file; a method returns what is wrong with the result, or nothing."""

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance, self.file = folder, chance, folder
        self.root = folder / "root"
        (self.root / "x" / "frames").mkdir(parents=True)
        (self.root / "x" / "a.mp4").touch()

    def _write(self, name: str, text: str) -> Path:
        self.file = self.folder / name
        self.file.write_bytes(mutated(text, self.chance))
        return self.file

    def label_file(self) -> str:
        name, text = self.chance.choice(list(LABEL_FILES.items()))
        labels = read_label_file(self._write(name, text))
        if not all(label.strip() for label in labels.names) or len(set(labels.names)) < len(labels.names):
            return "an empty or repeated label"
        if name.endswith(".json"):
            expected = len(json.loads(text_of(self.file)))
        elif name.endswith(".txt"):
            expected = num_lines(self.file) - ("header" in labels.form)
        else:
            return ""
        return "" if len(labels.names) == expected or labels.form.startswith("JSON") else "labels were lost"

    def video_list(self) -> str:
        name, text = self.chance.choice(list(LISTS.items()))
        labels = self.chance.choice([None, ["growing", "shrinking"]])
        file = self._write(name, text)
        table = read_video_list(file, root=self.root, labels=labels, missing="keep")
        if name.endswith(".json"):
            return ""
        return "" if num_lines(file) - num_told(table) in (0, 1) else "lines were lost"

    def ucf101(self) -> str:
        lists = {"classInd.txt": UCF_CLASSES, "trainlist01.txt": "", "testlist01.txt": UCF_TEST}
        target = self.chance.choice(["classInd.txt", "testlist01.txt"])
        for name, text in lists.items():
            (self.folder / name).write_text(text)
        self._write(target, lists[target])
        table = read_ucf101(self.root, annotations=self.folder, split="test", missing="keep")
        return "" if num_told(table) == num_lines(self.folder / "testlist01.txt") else "lines were lost"

    def hmdb51(self) -> str:
        folder = self.folder / "hmdb"
        folder.mkdir(exist_ok=True)
        (folder / "b_test_split1.txt").write_text(HMDB)
        self._write("hmdb/a_test_split1.txt", HMDB)
        table = read_hmdb51(self.root, annotations=folder, split="all", missing="keep")
        return "" if num_told(table) == 3 + num_lines(self.file) else "lines were lost"

    def kinetics(self) -> str:
        table = read_kinetics(self.root, annotations=self._write("k.csv", KINETICS), missing="keep")
        return "" if num_told(table) == num_lines(self.file) - 1 else "lines were lost"

    def something_something(self) -> str:
        (self.folder / "l.json").write_text(SSV2_LABELS)
        (self.folder / "s.json").write_text(SSV2)
        name, text = self.chance.choice([("l.json", SSV2_LABELS), ("s.json", SSV2)])
        self._write(name, text)
        table = read_something_something(
            self.root, annotations=self.folder / "s.json", labels=self.folder / "l.json", missing="keep"
        )
        return "" if num_told(table) == len(json.loads(text_of(self.folder / "s.json"))) else "entries were lost"


def run_case(read: Callable[[], str], readers: Readers) -> tuple[str, str]:
    """The outcome of one case, and what is wrong with it."""
    try:
        wrong = read()
    except (ValueError, OSError) as error:
        message = str(error)
        # An empty list is named by its folder.
        if readers.file.name not in message and "No video is left" not in message:
            return type(error).__name__, f"does not name {readers.file.name}: {type(error).__name__}: {message[:200]}"
        if "\n" in message or len(message) > MESSAGE_ALLOWED or not message.isprintable():
            return type(error).__name__, f"a message that is not a short line: {message[:200]!a}"
        return "refused", ""
    except Exception as error:
        return type(error).__name__, f"foreign error {type(error).__name__}: {error}"[:300]
    return "read", wrong


def main() -> int:
    """Run the cases and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    outcomes: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    longest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        readers = Readers(Path(folder), random.Random(arguments.seed))
        names = ["label_file", "video_list", "ucf101", "hmdb51", "kinetics", "something_something"]
        for case in range(arguments.cases):
            name = names[case % len(names)]
            start = time.perf_counter()
            outcome, wrong = run_case(getattr(readers, name), readers)
            seconds = time.perf_counter() - start
            longest = max(longest, (seconds, f"{name}, case {case}"))
            if seconds > SECONDS_ALLOWED:
                wrong = wrong or f"{seconds:.1f} s"
            outcomes[name, outcome] += 1
            if wrong:
                failures.append(f"case {case}, {name}: {wrong}\n    {readers.file.read_bytes()[:300]!r}")
    for (name, outcome), count in sorted(outcomes.items()):
        print(f"{name:<22}{outcome:<22}{count:>7}")
    print(f"longest: {longest[0]:.2f} s ({longest[1]})")
    print(f"{len(failures)} failures of {arguments.cases} cases, seed {arguments.seed}")
    print("\n".join(failures[:20]))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
