"""A deadline that is moved often and reached seldom: moving it later costs no timer."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `reached` when the time that was set last has come, unless it was cleared. `end` in any case."""

    __slots__ = ("_at", "_loop", "_reached", "_timer")

    def __init__(self, reached: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reached = reached
        self._at = 0.0  # of the loop's clock; 0: none
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Have so many seconds from now on."""
        self._at = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._at, self._look)
        elif self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._at, self._look)

    def clear(self) -> None:
        """Have no deadline."""
        self._at = 0.0

    def end(self) -> None:
        """Have no deadline any more."""
        self._at = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._at:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._look)
            return
        self._at = 0.0
        self._reached()
