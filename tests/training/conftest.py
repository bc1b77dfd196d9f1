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
    from tests.fixtures.videos import render_classes

    return read_video_folder(render_classes(tmp_path_factory.mktemp("table"), {"juggling": 3, "rowing": 3}))
