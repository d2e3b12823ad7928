"""A deadline that is moved often and reached seldom: neither moving nor clearing it costs a timer."""

import asyncio
from collections.abc import Callable
from typing import Final

_TURN: Final = 0.001
"""Seconds, the least that a timer can have: the loop reads before it comes."""


class Deadline:
    """Calls what was set last, when its time has come, unless it was cleared before. `end` in any case.

    A loop that is late may come to its timers before it reads what has come in time: it does that first.
    """

    __slots__ = ("_at", "_loop", "_reached", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reached: Callable[[], None]
        self._at = 0.0  # of the loop's clock; 0: none
        self._timer: asyncio.TimerHandle | None = None  # comes at `_at` or before, and then looks

    def set(self, seconds: float, reached: Callable[[], None]) -> None:
        """Have `reached` called when so many seconds have passed from now on."""
        at = self._at = self._loop.time() + seconds
        self._reached = reached
        timer = self._timer
        if timer is None:
            self._look_in(seconds)
        elif timer.when() > at:
            timer.cancel()
            self._look_in(seconds)

    def clear(self) -> None:
        """Have no deadline."""
        self._at = 0.0

    def end(self) -> None:
        """Have no deadline any more."""
        self._at = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        """Look after so many seconds. For less than half a _TURN uvloop makes no timer that could be asked when it comes."""
        self._timer = self._loop.call_later(max(seconds, _TURN), self._look)

    def _look(self, reached: float = 0.0) -> None:
        """See whether it is time; what was `reached` when the last timer came has been waited for."""
        self._timer = None
        if not self._at:
            return
        left = self._at - self._loop.time()
        if left > 0:
            self._look_in(left)
        elif reached != self._at:
            self._timer = self._loop.call_later(_TURN, self._look, self._at)
        else:
            self._at = 0.0
            self._reached()
