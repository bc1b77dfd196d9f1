import json
import os
import tracemalloc

import pytest

from froster_hf.data import (
    DecodeFailure,
    DecodeFailureLog,
    TooManyDecodeFailures,
    decode_failures,
    read_decode_failures,
)
from froster_hf.data.decode_failures import video_state


def failure(row):
    return DecodeFailure(row, f"/videos/{row}.mp4", "no frames")


def test_a_video_is_counted_and_logged_once(tmp_path, caplog):
    log = DecodeFailureLog(tmp_path, num_videos=100)
    log.record([failure(3), failure(3)])
    log.record([failure(3), failure(7)])
    assert len(log) == 2
    assert caplog.text.count("/videos/3.mp4") == 1


def test_above_the_share_the_run_stops_with_the_list(tmp_path):
    log = DecodeFailureLog(tmp_path, num_videos=100, max_share=0.02)
    log.record([failure(1), failure(2)])
    with pytest.raises(TooManyDecodeFailures, match=r"(?s)3 of 100 videos.*1\.mp4.*2\.mp4.*5\.mp4: no frames"):
        log.record([failure(5)])


def test_a_restart_and_another_rank_go_on_counting(tmp_path):
    DecodeFailureLog(tmp_path, num_videos=100, rank=0).record([failure(1)])
    other = DecodeFailureLog(tmp_path, num_videos=100, rank=1)
    assert len(other) == 1
    DecodeFailureLog(tmp_path, num_videos=100, rank=0).record([failure(2)])
    other.record([failure(1), failure(3)])
    assert sorted(other.failures) == [1, 2, 3]


def test_a_failure_is_read_once_and_not_again_with_every_one_that_follows(tmp_path, monkeypatch):
    logs = [DecodeFailureLog(tmp_path, num_videos=1000, rank=rank, max_share=1) for rank in range(2)]
    read = []
    monkeypatch.setattr(decode_failures.json, "loads", lambda line, real=json.loads: read.append(line) or real(line))
    for row in range(100):
        logs[row % 2].record([failure(row)])
    # An end of a line of its own stands before each.
    assert len(read) <= 2 * 2 * 100
    # What another process has not written whole is read when it is.
    with (tmp_path / "decode_failures.2.jsonl").open("a") as file:
        file.write(json.dumps(failure(500)._asdict())[:-9])
        file.flush()
        logs[0].record([failure(101)])
        file.write(json.dumps(failure(500)._asdict())[-9:] + "\n")
        file.flush()
        logs[0].record([failure(102)])
    assert sorted(logs[0].failures) == [*range(100), 101, 102, 500]


def test_a_torn_line_loses_only_itself(tmp_path):
    log = DecodeFailureLog(tmp_path, num_videos=100)
    log.record([failure(1)])
    with (tmp_path / "decode_failures.0.jsonl").open("a") as file:
        file.write('{"row": 2, "vid')
    restarted = DecodeFailureLog(tmp_path, num_videos=100)
    restarted.record([failure(3)])
    assert sorted(read_decode_failures(tmp_path)) == [1, 3]


def test_what_an_earlier_start_left_counts_only_while_it_holds(tmp_path):
    """Videos 1 and 2 have been mended since, or the folder was used for another data set."""
    DecodeFailureLog(tmp_path, num_videos=100, rank=0).record([failure(1), failure(5)])
    DecodeFailureLog(tmp_path, num_videos=100, rank=1).record([failure(2)])
    log = DecodeFailureLog(tmp_path, num_videos=100, max_share=0.02, is_current=lambda known: known.row == 5)
    assert sorted(log.failures) == [5]
    log.record([failure(7)])
    assert sorted(log.failures) == [5, 7]
    # Mended in vain: met again, it counts, whichever process had left the outdated entry.
    with pytest.raises(TooManyDecodeFailures, match="3 of 100 videos"):
        log.record([DecodeFailure(2, "/videos/2.mp4", "no frames", "another state")])


def test_a_long_list_is_cut_and_the_message_says_where_the_rest_is(tmp_path):
    log = DecodeFailureLog(tmp_path, num_videos=100, max_share=0.5)
    with pytest.raises(TooManyDecodeFailures, match=r"60 of 100.*max_undecodable_share.*decode_failures\.") as caught:
        log.record([failure(row) for row in range(60)])
    assert str(caught.value).count("no frames") == 20


def test_the_state_of_a_video_changes_when_it_is_mended(tmp_path):
    path, folder = tmp_path / "a.mp4", tmp_path / "frames"
    states = [video_state({"path": str(path), "bytes": None})]
    path.write_bytes(b"one")
    states.append(video_state(str(path)))
    path.write_bytes(b"other")
    states.append(video_state({"path": str(path)}))
    os.utime(path, ns=(1, 1))
    states.append(video_state({"path": str(path)}))
    folder.mkdir()
    states.append(video_state(str(folder)))
    (folder / "1.png").write_bytes(b"one")
    states.append(video_state(str(folder)))
    os.utime(folder / "1.png", ns=(1, 1))
    states += [video_state(str(folder)), video_state({"bytes": b"one"}), video_state({"bytes": b"two"})]
    assert len(set(states)) == len(states)
    assert video_state({"path": str(path)}) == states[3]
    assert video_state({"path": None, "bytes": None}) == video_state("a\0b")


def test_names_and_reasons_of_hostile_files_are_shown_as_text(tmp_path, caplog):
    log = DecodeFailureLog(tmp_path, num_videos=1, max_share=0.0)
    with pytest.raises(TooManyDecodeFailures) as caught:
        log.record([DecodeFailure(0, "\x1b]0;title\x07\udcff.mp4", "no\nfroster: all is well\x1b[2J")])
    for text in (str(caught.value).partition(":\n")[2], caplog.messages[0]):
        assert text.isprintable()
        assert "title" in text
    assert log.failures[0].video == "\x1b]0;title\x07\udcff.mp4"


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_no_file_or_too_large_in_the_place_of_one_is_refused_and_not_waited_for(tmp_path, monkeypatch, rank):
    log = tmp_path / f"decode_failures.{rank}.jsonl"
    os.mkfifo(log)
    with pytest.raises(ValueError, match=rf"decode_failures\.{rank}\.jsonl is not a regular file"):
        DecodeFailureLog(tmp_path, num_videos=9)
    log.unlink()
    log.write_text("x" * 100)
    monkeypatch.setattr(decode_failures, "MAX_BYTES", 99)
    with pytest.raises(ValueError, match=rf"decode_failures\.{rank}\.jsonl and .* have more than 99 bytes"):
        DecodeFailureLog(tmp_path, num_videos=9)


def test_files_of_failures_are_read_line_by_line_and_bounded_together(tmp_path, monkeypatch):
    for rank in range(2):
        (tmp_path / f"decode_failures.{rank}.jsonl").write_text(f'"{"a" * 997}"\n' * 10_000 + "[" * 300_000)
    DecodeFailureLog(tmp_path, num_videos=100, rank=2).record([failure(3)])
    tracemalloc.start()
    try:
        assert list(read_decode_failures(tmp_path)) == [3]
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    for name, most in {"MAX_LINES": 19_999, "MAX_BYTES": 20_000_000}.items():
        with monkeypatch.context() as patched:
            patched.setattr(decode_failures, name, most)
            with pytest.raises(ValueError, match=rf"decode_failures\.1\.jsonl and .* more than .*{most:,} "):
                DecodeFailureLog(tmp_path, num_videos=9)


def test_a_line_of_other_types_is_no_failure(tmp_path):
    own = {"row": 1, "video": "a.mp4", "reason": "no frames", "state": ""}
    lines = [own | changes for changes in ({"row": "1"}, {"row": 1e999}, {"video": {}}, {"reason": [1e15]}, {"x": 1})]
    text = "\n".join(map(json.dumps, [*lines, {"row": 1}, 5, own | {"row": 2}]))
    (tmp_path / "decode_failures.0.jsonl").write_text(text)
    assert list(read_decode_failures(tmp_path)) == [2]
