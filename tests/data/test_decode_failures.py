import pytest

from froster_hf.data import DecodeFailure, DecodeFailureLog, TooManyDecodeFailures, read_decode_failures


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


def test_a_torn_line_loses_only_itself(tmp_path):
    log = DecodeFailureLog(tmp_path, num_videos=100)
    log.record([failure(1)])
    with (tmp_path / "decode_failures.0.jsonl").open("a") as file:
        file.write('{"row": 2, "vid')
    restarted = DecodeFailureLog(tmp_path, num_videos=100)
    restarted.record([failure(3)])
    assert sorted(read_decode_failures(tmp_path)) == [1, 3]
