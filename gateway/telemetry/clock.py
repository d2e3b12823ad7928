"""The offset of Alipay+'s clock from ours: shown, and warned of. Nothing is ever rejected for it."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.telemetry.metrics import Metrics

LARGE: Final = 30.0
"""Seconds. A greater offset is warned of."""
AGAIN: Final = 60.0
"""Seconds between two warnings."""


class ClockWatch:
    """Keeps the measured offset in its metric, and warns each minute while it is large."""

    def __init__(self, metrics: Metrics, log: FilteringBoundLogger, *, now: Callable[[], float] = monotonic) -> None:
        self._gauge = metrics.clock_offset
        self._log = log
        self._now = now
        self._warned_at = -AGAIN

    def observe(self, offset: float) -> None:
        """Take one measurement (seconds; positive when Alipay+ is ahead)."""
        self._gauge.set(offset)
        if abs(offset) > LARGE and self._now() - self._warned_at >= AGAIN:
            self._warned_at = self._now()
            self._log.warning("our clock and that of Alipay+ differ", offset_seconds=round(offset, 1))
