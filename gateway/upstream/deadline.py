"""Deadlines for what peers and clients send and take.

A loop that is late may come to its timers before it reads what has come in time: here it has one more turn for that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

TURN: Final = 0.001
"""Seconds, the least that a timer can have: the loop reads and writes before it comes."""


async def within(seconds: float, wait: Callable[[], Awaitable[T]]) -> T:
    """Return what `wait` gives, which is called again if it was interrupted. Raises TimeoutError."""
    for left in (seconds, 0, 0):  # what comes in the second turn may be interrupted in the same moment
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                return await wait()
    raise TimeoutError


class Deadline:
    """Calls what was set last, when its time has come, unless it was cleared before. `end` in any case.

    It is moved often and reached seldom: neither moving nor clearing it costs a timer.
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
        """Have no deadline, and let go of whom to call."""
        self._at = 0.0
        self._reached = _nobody

    def end(self) -> None:
        """Have no deadline any more: no cycle is left for the garbage collector."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        """Look after so many seconds. For less than half a TURN uvloop makes no timer that could be asked when it comes."""
        self._timer = self._loop.call_later(max(seconds, TURN), self._look)

    def _look(self, reached: float = 0.0) -> None:
        """See whether it is time; what was `reached` when the last timer came has been waited for."""
        self._timer = None
        if not self._at:
            return
        left = self._at - self._loop.time()
        if left > 0:
            self._look_in(left)
        elif reached != self._at:
            self._timer = self._loop.call_later(TURN, self._look, self._at)
        else:
            self._at = 0.0
            self._reached()


def _nobody() -> None:
    """Be told of nothing."""
