import asyncio
import time

import uvloop

from gateway.telemetry import snapshot
from gateway.telemetry.lag import LoopLag
from gateway.telemetry.metrics import Metrics


class Clock:
    """A clock that tells whoever waits that it has been read so often."""

    def __init__(self) -> None:
        self.time = 100.0
        self.readings = 0
        self.was_read = asyncio.Event()

    def __call__(self) -> float:
        self.readings += 1
        self.was_read.set()
        return self.time

    async def until_read(self, times: int) -> None:
        while self.readings < times:
            self.was_read.clear()
            await asyncio.wait_for(self.was_read.wait(), 10)


def counted(metrics: Metrics, name: str) -> float:
    return snapshot.value(snapshot.take(metrics.registry), f"gateway_event_loop_lag_seconds_{name}")


async def test_what_comes_late_is_observed() -> None:
    metrics, clock = Metrics(), Clock()
    with LoopLag(metrics, period=0.001, now=clock):
        clock.time += 0.001 + 0.25
        await clock.until_read(2)
        await asyncio.sleep(0)
        assert round(counted(metrics, "sum"), 6) == 0.25


async def test_what_comes_early_is_not_late() -> None:
    metrics, clock = Metrics(), Clock()
    with LoopLag(metrics, period=0.001, now=clock):
        await clock.until_read(2)
        await asyncio.sleep(0)
    assert counted(metrics, "count") >= 1
    assert counted(metrics, "sum") == 0


async def test_nothing_is_measured_after_the_end() -> None:
    metrics = Metrics()
    with LoopLag(metrics, period=0.001):
        pass
    await asyncio.sleep(0.02)
    assert counted(metrics, "count") == 0


def test_a_loop_that_is_held_up_is_seen_to_be_late() -> None:
    metrics = Metrics()

    async def hold() -> None:
        with LoopLag(metrics, period=0.01):
            time.sleep(0.2)  # noqa: ASYNC251  what is to be seen
            await asyncio.sleep(0.001)  # a timer that is due after the one that measures

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hold())
    assert 0.1 < counted(metrics, "sum") < 10
