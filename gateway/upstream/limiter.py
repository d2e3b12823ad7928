"""A bound on how many calls are in flight at once; who comes too late waits in order, for a bounded time."""

import time
from collections import deque
from collections.abc import Callable, Iterable

from gateway.upstream.queue import Queue


class Limiter:
    """Lets `limit` holders in at once, the others in the order in which they came. For one event loop.

    Those of different `kinds` who wait are let in by turns, so that each kind has its share however many of another come.
    """

    def __init__(self, limit: int, kinds: Iterable[str] = ("",), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._in_flight = 0
        self._queues = {kind: Queue(self.release, clock=clock) for kind in kinds}
        self._turns = deque(self._queues.values())

    @property
    def in_flight(self) -> int:
        """How many hold a place now."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """How many wait for a place now."""
        return sum([queue.waiting for queue in self._turns])

    def take(self) -> bool:
        """Take a place if one is free, and tell whether it was. Each place is given back by `release`."""
        if self._in_flight >= self._limit:
            return False
        self._in_flight += 1
        return True

    async def acquire(self, timeout: float, kind: str = "") -> None:
        """Take a place; wait for one for at most `timeout` seconds, or not at all if that is in vain, else TimeoutError.

        Each place is given back by `release`.
        """
        if not self.take():
            await self._queues[kind].wait(timeout, self._limit)

    def release(self) -> None:
        """Give a place back: it goes to the first who waits, of the kind whose turn it is. Nobody does while there are free ones."""
        for _ in self._queues if self._in_flight == self._limit else ():
            queue = self._turns.popleft()
            self._turns.append(queue)
            if queue.wake():
                return
        self._in_flight -= 1
