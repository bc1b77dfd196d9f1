"""What the training tests share."""

import pytest


@pytest.fixture(scope="session")
def video_table(tmp_path_factory):
    """Six short videos of two classes, as a table."""
    from froster_hf.data import read_video_folder
    from tests.fixtures.videos import render_classes

    return read_video_folder(render_classes(tmp_path_factory.mktemp("table"), {"juggling": 3, "rowing": 3}))
