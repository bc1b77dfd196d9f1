"""What the tests of decoding share."""

import pytest

from froster_hf.video import client


@pytest.fixture
def no_warm_process(monkeypatch):
    """The next call starts a decoding process; what the test leaves is ended."""
    monkeypatch.setattr(client, "_idle", [])
    yield
    for process in client._idle:
        process.kill()
