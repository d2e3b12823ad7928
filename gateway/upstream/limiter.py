"""A bound on how many calls are in flight at once; who comes too late waits in order, for a bounded time."""

import asyncio
from collections import deque


class Limiter:
    """Lets `limit` holders in at once, the others in the order in which they came. For one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def in_flight(self) -> int:
        """How many hold a place now."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """How many wait for a place now."""
        return len(self._queue)

    def take(self) -> bool:
        """Take a place if one is free, and tell whether it was. Each place is given back by `release`."""
        if self._in_flight >= self._limit:
            return False
        self._in_flight += 1
        return True

    async def acquire(self, timeout: float) -> None:
        """Take a place; wait for one for at most `timeout` seconds, else TimeoutError. Each place is given back by `release`."""
        if self.take():
            return
        if timeout <= 0:
            raise TimeoutError
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except BaseException:
            self._leave(waiter)
            raise

    def release(self) -> None:
        """Give a place back: it goes to the first who waits."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._in_flight -= 1

    def _leave(self, waiter: "asyncio.Future[None]") -> None:
        """Forget one who waits no longer; a place that was given to them in the same moment is passed on."""
        if waiter.done() and not waiter.cancelled():
            self.release()
        elif waiter in self._queue:
            self._queue.remove(waiter)
