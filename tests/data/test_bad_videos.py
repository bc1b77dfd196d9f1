"""A whole epoch over videos of which some are corrupt, missing, or make the decoder die or hang."""

import os
import signal
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from froster_hf.data import DecodeFailureLog, EpochSampler, TrainingClips, collate_clips, read_video_list
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from tests.fixtures.subprocesses import decoding_processes
from tests.fixtures.videos import VIDEO_KINDS, render_video

KINDS_OF_BAD = ("corrupt", "missing", "fifo", "killed", "stopped")


class HarmedVideoProcessor(FrosterVideoProcessor):
    """Kills or stops the real decoding process in the midst of a video, if the video's name says so."""

    def preprocess(self, videos, **kwargs):
        self.harm = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}.get(Path(videos["path"]).stem.split("_")[0])
        return super().preprocess(videos, **kwargs)

    def _frame_indices(self, *arguments, **kwargs):
        if self.harm is not None:
            for process in decoding_processes():
                os.kill(process, self.harm)
        return super()._frame_indices(*arguments, **kwargs)


@pytest.mark.parametrize(
    ("num_videos", "num_bad"),
    [(60, 5), pytest.param(10_000, 100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)
def test_an_epoch_ends_and_the_report_lists_exactly_the_bad_videos(tmp_path, caplog, num_videos, num_bad):
    good = render_video(tmp_path / "good.mp4", VIDEO_KINDS["h264_mp4"], num_frames=12)
    bad_rows = {
        row: KINDS_OF_BAD[number % 5] for number, row in enumerate(range(7, num_videos, num_videos // num_bad))
    }
    lines = []
    for row in range(num_videos):
        kind = bad_rows.get(row, "good")
        path = tmp_path / "videos" / f"{kind}_{row}.mp4"
        path.parent.mkdir(exist_ok=True)
        if kind == "corrupt":
            path.write_bytes(good.read_bytes()[:500] + bytes(500))
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind != "missing":
            path.hardlink_to(good)
        lines.append(f"{path.name},{row % 3}\n")
    (tmp_path / "list.csv").write_text("".join(lines))
    table = read_video_list(tmp_path / "list.csv", root=tmp_path / "videos", labels=["a", "b", "c"], missing="keep")
    processor = HarmedVideoProcessor(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        num_frames=2,
        frame_stride=2,
        video_limits={"timeout_seconds": 5.0},
    )
    clips = TrainingClips(table, video_processor=processor, seed=0)
    loader = DataLoader(
        clips, sampler=EpochSampler(num_videos, seed=0), batch_size=4, num_workers=2, collate_fn=collate_clips
    )
    log = DecodeFailureLog(tmp_path / "run", num_videos=num_videos, max_share=0.1)
    sizes, names = [], []
    for batch in loader:
        log.record(batch["decode_failures"])
        sizes.append(len(batch["pixel_values_videos"]))
        names += batch["video_names"]
    assert sizes == [4] * (num_videos // 4)
    # The decoder of the killed ones was ended by somebody else: they are read once more.
    undecodable = {row: kind for row, kind in bad_rows.items() if kind != "killed"}
    assert set(log.failures) == set(undecodable)
    assert {Path(name).stem.split("_")[0] for name in names} == {"good", "killed"}
    for row, kind in undecodable.items():
        failure = log.failures[row]
        assert Path(failure.video).name == f"{kind}_{row}.mp4"
        assert failure.video in caplog.text
        if kind == "stopped":
            assert "timeout_seconds" in failure.reason
