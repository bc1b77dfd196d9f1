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
