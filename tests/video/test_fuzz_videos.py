"""The fuzz script: what a second run adds to the first, and mutants that depend on nothing but their number."""

import json
import sys

import pytest

from benchmarks import fuzz_videos


@pytest.fixture
def fuzz(tmp_path, monkeypatch, capsys):
    """Runs the script on GIF files in chunks of four; returns the rows that it prints and the state that it keeps."""
    monkeypatch.setattr(fuzz_videos, "CHUNK", 4)
    state = tmp_path / "state.jsonl"

    def fuzz(*arguments: str) -> tuple[list[str], list[dict]]:
        monkeypatch.setattr(sys, "argv", ["fuzz_videos", "--kinds", "gif", "--state", str(state), *arguments])
        fuzz_videos.main()
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| gif", "| all"))]
        return rows, [json.loads(line) for line in state.read_text().splitlines()]

    return fuzz


def test_a_second_run_goes_on_where_the_first_ended(fuzz):
    rows, first = fuzz("--count", "4")
    assert rows[0].startswith("| gif | 4 |")
    assert fuzz("--count", "4") == (rows, first)
    rows, both = fuzz("--count", "8")
    assert rows[1].startswith("| all | 8 |")
    assert both[:1] == first
    assert [line["chunk"] for line in both] == [0, 1]


def test_no_time_leaves_nothing_done_and_another_seed_counts_for_itself(fuzz):
    assert fuzz("--count", "4", "--minutes", "0")[1] == []
    fuzz("--count", "4", "--seed", "1")
    rows, state = fuzz("--count", "4", "--seed", "2")
    assert rows[0].startswith("| gif | 4 |")
    assert [line["seed"] for line in state] == [1, 2]
