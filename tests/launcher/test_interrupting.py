"""Ctrl-C while the launcher waits in an event loop."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from cango_portal.launcher.run import Interrupted, interruptible, run_interruptible, undisturbed


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def test_a_signal_cancels_the_work_lets_it_clean_up_and_is_heard_once() -> None:
    steps = []

    async def work() -> None:
        try:
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # the loop still turns
            steps.append("cleaned up")

    with interruptible(), pytest.raises(Interrupted):
        run_interruptible(work())
    assert steps == ["cleaned up"]
    os.kill(os.getpid(), signal.SIGTERM)  # what ends is not interrupted again


def test_work_that_ends_leaves_the_signals_as_they_were() -> None:
    async def work() -> int:
        return 7

    with interruptible():
        assert run_interruptible(work()) == 7
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_amid_a_look_at_the_processes_is_heard_after_it() -> None:
    steps = []

    def look() -> None:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("looked")
        steps.append("went on")

    with interruptible(), pytest.raises(Interrupted):
        look()
    assert steps == ["looked"]
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)  # what ends is not interrupted again


def test_a_signal_after_a_look_is_heard_at_once() -> None:
    with interruptible():
        with undisturbed():
            pass
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
