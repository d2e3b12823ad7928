"""Waiting until a place among those in use may have come free."""

import asyncio
from collections import deque


class Room:
    """Those who wait, in the order in which they came. For one event loop.

    It holds no places: who is woken looks for one and, where another was faster, waits again.
    """

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiters)

    async def wait(self, timeout: float) -> None:
        """Return when woken. Raises TimeoutError after `timeout` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.wake()  # it was for this one, who goes away
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Wake the first."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Wake all who wait now."""
        for _ in range(len(self._waiters)):
            self.wake()
