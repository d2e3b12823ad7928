"""Those who want a connection while none is kept: a few make one in each turn of the event loop, the others wait.

What a stall has kept back asks all at once, and connections come free soon. To make one for each took longer than the stall, since it costs
more than a request: the loop came late, and work was refused that there was time for. So who waits gets what comes free first.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.upstream.connection import Connection

AT_ONCE: Final = 2
"""So many begin to make one in one turn, and besides one for each that has ended. With fewer, a burst takes longer where the peer
is slow."""


class Wants:
    """Those who want a connection to one endpoint, in the order in which they came. For one event loop.

    A connection that comes to one who just leaves is given to `release`.
    """

    def __init__(self, release: Callable[[Connection], object]) -> None:
        self._release = release
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._begun = 0  # in this turn
        self._turns = False  # whether the next one is waited for

    @property
    def any(self) -> bool:
        """Whether somebody may be waiting."""
        return bool(self._waiting)

    async def wait(self) -> Connection | None:
        """Return a connection that has come free, or None when it is time to make one."""
        if not self._waiting and self._begun < AT_ONCE:
            self._begin()
            return None
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and (connection := waiter.result()) is not None:
                self._release(connection)
            raise

    def give(self, connection: Connection | None) -> bool:
        """Give a connection that has come free to the first who waits, or the place of one that has ended; tell whether there is one."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def end(self) -> None:
        """Let nobody wait any longer."""
        while self.give(None):
            pass

    def _begin(self) -> None:
        self._begun += 1
        if not self._turns:
            self._turns = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Have the next few make a connection, as long as there are any."""
        self._begun, self._turns = 0, False
        while self._begun < AT_ONCE and self.give(None):
            self._begin()
