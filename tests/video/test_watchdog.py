"""The watchdog: it acts on what is late, and sleeps through what is not."""

import threading
import time

import pytest

from froster_hf.video.watchdog import Watchdog


@pytest.fixture
def late():
    return threading.Event()


@pytest.fixture
def watchdog(late):
    watchdog = Watchdog(late.set)
    yield watchdog
    watchdog.stop()


def test_what_takes_too_long_is_noticed_while_it_goes_on(watchdog, late):
    with watchdog.limit(0.05):
        assert late.wait(10)


def test_what_ends_in_time_is_left_alone(watchdog, late):
    for _ in range(100):
        with watchdog.limit(0.2):
            pass
    # The deadlines of all of them pass.
    assert not late.wait(0.5)


def test_a_short_limit_holds_while_it_sleeps_until_a_distant_one(watchdog, late):
    with watchdog.limit(3600):
        time.sleep(0.05)
    with watchdog.limit(0.05):
        assert late.wait(10)


def test_any_number_of_seconds_will_do(watchdog, late):
    with watchdog.limit(1e12):
        assert not late.wait(0.05)


def test_its_thread_ends_when_it_is_stopped(late):
    before = set(threading.enumerate())
    watchdogs = [Watchdog(late.set) for _ in range(3)]
    started = [thread for thread in threading.enumerate() if thread not in before]
    assert len(started) == 3
    for watchdog in watchdogs:
        watchdog.stop()
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)
    assert not late.is_set()
