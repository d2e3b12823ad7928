"""How a worker ends: it accepts no more, finishes what is in flight, lets idle connections be used once more, and cuts what is left."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.runtime import Runtime
from gateway.server.acceptor import Acceptor

IDLE_GRACE: Final = 1.0
"""Seconds for which a kept connection that is idle stays open during a drain."""

GOODBYE: Final = 1.0
"""Seconds for WebSockets to end once they have been told to, at the end of a drain."""

_LOOK: Final = 0.05  # seconds


class Draining:
    """The drain of one worker, which accepts no more. From `begin` on, each answer is the last one on its connection."""

    def __init__(self, parts: Runtime, acceptor: Acceptor) -> None:
        self._parts = parts
        self._acceptor = acceptor
        self._loop = asyncio.get_running_loop()
        self._grace_ends = 0.0

    def begin(self, *, is_final: bool) -> None:
        """Begin. WebSockets are told to go (1001) now if the drain is final: nobody serves here afterwards; else when its time is over."""
        self._parts.front.draining = True
        self._grace_ends = self._loop.time() + IDLE_GRACE
        if is_final:
            self.say_goodbye()

    async def end(self) -> None:
        """Wait until all connections have ended and nothing is in flight, at most `drain_timeout`."""
        if not await self._within(self._parts.config.server.drain_timeout, self._is_over):
            self.say_goodbye()
            await self._within(GOODBYE, lambda: not self._parts.tunnels)

    def say_goodbye(self) -> None:
        """Tell all WebSockets to go."""
        for tunnel in tuple(self._parts.tunnels):
            tunnel.go_away()

    def _is_over(self) -> bool:
        if self._loop.time() >= self._grace_ends:
            self._parts.edge.close_idle(IDLE_GRACE)
        return not (self._parts.front.in_flight or self._acceptor.open)

    async def _within(self, seconds: float, is_over: Callable[[], bool]) -> bool:
        """Wait until it is over; return whether that came within `seconds`."""
        deadline = self._loop.time() + seconds
        while not is_over():
            left = deadline - self._loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, _LOOK))
        return True
