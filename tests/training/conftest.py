"""What the training tests share."""

import gc

import pytest

import froster_hf.training  # noqa: F401  (imported before the freeze)


@pytest.fixture(scope="session", autouse=True)
def _imported_objects_are_not_collected():
    """Accelerate collects garbage before every training: seconds, over the half a million objects of the imports."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def video_table(tmp_path_factory):
    """Six short videos of two classes, as a table."""
    from froster_hf.data import read_video_folder
    from tests.fixtures.videos import VIDEO_KINDS, render_video

    root = tmp_path_factory.mktemp("table")
    video = render_video(root / "clip.mp4", VIDEO_KINDS["h264_mp4"], num_frames=30).read_bytes()
    for name in ("juggling", "rowing"):
        (root / "classes" / name).mkdir(parents=True)
        for index in range(3):
            (root / "classes" / name / f"{index}.mp4").write_bytes(video)
    return read_video_folder(root / "classes")
