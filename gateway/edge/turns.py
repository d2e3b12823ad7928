"""Requests begin a few in each turn of the event loop; more than that wait for the turns to come.

What begins together goes on together, step by step. With hundreds of requests that do, nothing of one is left in the processor's caches
when its next step comes: of 512 requests of the API at a time, each takes half as long again. A worker that a stall has left with so many
could not catch up any more. Only what begins is counted, not what is in hand: nobody waits for a slow upstream of others.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

AT_ONCE: Final = 32
"""So many requests begin in one turn; those of the API take 3 ms. With fewer, more of the time goes into what every turn costs."""


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the next turn."""


class Turns:
    """Lets requests begin in the order in which they come. For one event loop."""

    def __init__(self, loop: Loop, *, now: Callable[[], float] = monotonic) -> None:
        self._loop = loop
        self._now = now
        self._waiting: deque[tuple[float, Callable[[float], None]]] = deque()
        self._begun = 0  # in this turn; while it is not 0, the next one is waited for

    @property
    def queue_length(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def waiting(self) -> tuple[int, float]:
        """Return how many requests wait, and for how many seconds the first of them has."""
        return (len(self._waiting), self._now() - self._waiting[0][0]) if self._waiting else (0, 0.0)

    def begin(self, start: Callable[[float], None]) -> None:
        """Call `start`, at once or when it is its turn, with the seconds for which it has waited."""
        if self._begun < AT_ONCE and not self._waiting:
            self._count(1)
            start(0.0)
        else:
            self._waiting.append((self._now(), start))

    def _count(self, begun: int) -> None:
        if not self._begun:
            self._loop.call_soon(self._next)
        self._begun += begun

    def _next(self) -> None:
        """Have those begin for whom a turn of the loop has come."""
        self._begun = 0
        if not self._waiting:
            return
        now, begun = self._now(), min(AT_ONCE, len(self._waiting))
        self._count(begun)
        for _ in range(begun):
            since, start = self._waiting.popleft()
            start(now - since)
