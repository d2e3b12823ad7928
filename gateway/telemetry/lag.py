"""How late an event loop does what is due: measured by one timer, and observed in `gateway_event_loop_lag_seconds`."""

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Final, Self

from gateway.telemetry.metrics import Metrics

PERIOD: Final = 0.5
"""Seconds between two measurements. A load that lasts for a scrape's interval is seen many times; the timer costs nothing."""


class LoopLag:
    """Measures the running loop while the context is open."""

    def __init__(self, metrics: Metrics, *, period: float = PERIOD, now: Callable[[], float] = monotonic) -> None:
        self._observe = metrics.loop_lag.observe
        self._period = period
        self._now = now

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()

    def _wait(self) -> None:
        self._due = self._now() + self._period
        self._timer = self._loop.call_later(self._period, self._measure)

    def _measure(self) -> None:
        self._observe(max(0.0, self._now() - self._due))  # timers count whole milliseconds, and may come a little early
        self._wait()
