"""The connections to one endpoint that are kept between exchanges."""

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from gateway.upstream.addresses import TTL, Address
from gateway.upstream.connection import Connection
from gateway.upstream.dial import Dialer
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.errors import Unreachable
from gateway.upstream.wants import Wants

MOMENT: Final = 1.0
"""Seconds. What is used at once comes and goes: to close what is not needed just now, and connect again, costs more than an exchange."""


class Pool:
    """Gives out connections, newest first, and takes them back. For one event loop. Where none is kept, a few at a time are made (`Wants`).

    A connection that was `idle` seconds unused, or that is `age` seconds old, is not used again (so keep `idle` below the peer's own
    limit), nor is one to an address that the name does not have any more. `limit` is how many are kept unused for longer than a MOMENT
    (None: all; 0: none, and not for a moment); how many are used at once is the caller's matter.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        idle: float,
        age: float,
        connect_timeout: float,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self._idle_limit = idle
        self._age_limit = age
        self._connect_timeout = connect_timeout
        self._keep = limit
        self._clock = clock
        self._dialer = Dialer(endpoint, clock=clock)
        self._wants = Wants(self.release)
        self._idle: dict[Connection, float] = {}
        self._open: set[Connection] = set()
        self._closed = False
        self._sweep: asyncio.TimerHandle | None = None
        self._trim: asyncio.TimerHandle | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._all_lost: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The endpoint's label."""
        return self.endpoint.name

    @property
    def idle(self) -> int:
        """How many connections are kept unused now."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """How many connections there are now, used and unused."""
        return len(self._open)

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """Return a connection for one exchange, to be given to `release` in any case; a new one if `fresh`. Raises Unreachable."""
        if fresh:
            return await self._connect()
        return self.take() or await self._wants.wait() or await self._connect()

    def take(self) -> Connection | None:
        """Return a kept connection that may be used, to be given to `release` in any case; None where there is none."""
        idle = self._idle
        now = self._clock() if idle else 0.0
        while idle:
            connection, since = idle.popitem()
            if not self._is_worn(connection, since, now) and connection.is_still_reusable():
                connection.reused = True
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        if self._closed:
            raise Unreachable("pool closed")
        connection = await self._dialer.connect(self._connect_timeout, self._forget)
        self._open.add(connection)
        if self._closed:
            connection.abort()
            raise Unreachable("pool closed")
        connection.opened_at = self._clock()
        if self._renewal is None and self.endpoint.path is None:
            self._renewal = asyncio.get_running_loop().call_later(TTL, self._dialer.renew, self._retire)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back: it is kept if another exchange may follow, else closed."""
        if not connection.reusable or self._keep == 0:  # nothing is reusable once all is closed
            connection.abort()
            self._wants.give(None)
            return
        now = self._clock()
        if self._wants.any and not self._is_worn(connection, now, now) and connection.is_still_reusable() and self._wants.give(connection):
            connection.reused = True
            return
        self._idle[connection] = now
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._idle_limit, self._close_worn)
        if self._trim is None and self._surplus() > 0:
            self._trim = asyncio.get_running_loop().call_later(MOMENT, self._close_surplus)

    async def close(self) -> None:
        """Close all connections, used ones too, and wait until they are gone."""
        self._closed = True
        self._dialer.close()
        self._wants.end()
        for timer in (self._sweep, self._trim, self._renewal):
            if timer is not None:
                timer.cancel()
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_lost = asyncio.get_running_loop().create_future()
            await self._all_lost

    def _retire(self, addresses: Sequence[Address]) -> None:
        """Have no connection used again that leads to none of the addresses (faults F7); look again later while there is any."""
        places = [place for _, place in addresses]
        for connection in self._open:
            transport = connection.transport
            if not transport.is_closing() and transport.get_extra_info("peername") not in places:
                connection.opened_at = -inf
        self._renewal = None
        if self._open and not self._closed:
            self._renewal = asyncio.get_running_loop().call_later(TTL, self._dialer.renew, self._retire)

    def _is_worn(self, connection: Connection, since: float, now: float) -> bool:
        return now - since >= self._idle_limit or now - connection.opened_at >= self._age_limit

    def _close_worn(self) -> None:
        """Close what has been unused too long; the oldest stand first."""
        self._sweep = None
        now = self._clock()
        for connection, since in tuple(self._idle.items()):
            if self._is_worn(connection, since, now):
                del self._idle[connection]
                connection.abort()
        if self._idle:
            wait = min(self._idle.values()) + self._idle_limit - now
            self._sweep = asyncio.get_running_loop().call_later(max(wait, 0.001), self._close_worn)

    def _surplus(self) -> int:
        return 0 if self._keep is None else len(self._idle) - self._keep

    def _close_surplus(self) -> None:
        """Close what is more than is to be kept, if it has been unused for a moment; the oldest stand first."""
        self._trim = None
        now = self._clock()
        for connection, since in tuple(self._idle.items())[: max(0, self._surplus())]:
            if now - since < MOMENT:
                self._trim = asyncio.get_running_loop().call_later(since + MOMENT - now, self._close_surplus)
                return
            del self._idle[connection]
            connection.abort()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._open.discard(connection)
        if self._all_lost is not None and not self._open and not self._all_lost.done():
            self._all_lost.set_result(None)
