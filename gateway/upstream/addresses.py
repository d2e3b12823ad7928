"""The addresses behind a name, looked up again every half minute; when the name service is slow or down, the old ones serve on."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

TTL: Final = 30.0
"""Seconds for which the addresses of a name are good."""

# Seconds that a new lookup is waited for while old addresses are known.
_PATIENCE: Final = 0.5


async def system_resolve(host: str, port: int) -> Sequence[Address]:
    """Ask the system for the addresses of a host. Raises OSError (socket.gaierror is one).

    Each lookup has a thread of its own: two that hang are enough to fill uvloop's, and keep the process from ending.
    """
    with suppress(socket.gaierror):  # it is a name
        return _ask(host, port, socket.AI_NUMERICHOST)
    found: asyncio.Future[Sequence[Address]] = asyncio.get_running_loop().create_future()
    try:
        Thread(target=_look_up, args=(found, host, port), daemon=True).start()
    except RuntimeError as error:
        raise OSError("no thread for a lookup") from error
    return await found


def _look_up(found: asyncio.Future[Sequence[Address]], host: str, port: int) -> None:
    addresses: Sequence[Address] = ()
    failure: Exception | None = None
    try:
        addresses = _ask(host, port)
    except Exception as error:  # noqa: BLE001  raised by whoever waits
        failure = error
    with suppress(RuntimeError):  # the loop has been closed
        found.get_loop().call_soon_threadsafe(_settle, found, addresses, failure)


def _settle(found: asyncio.Future[Sequence[Address]], addresses: Sequence[Address], failure: Exception | None) -> None:
    if found.cancelled():
        return
    if failure is not None:
        found.set_exception(failure)
    else:
        found.set_result(addresses)


def _ask(host: str, port: int, flags: int = 0) -> Sequence[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(socket.AddressFamily(family), address) for family, _, _, _, address in found]  # type: ignore[misc]  # two or four members


class Addresses:
    """The addresses of one host and port, good for `ttl` seconds. For one event loop; one lookup at a time."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ttl: float = TTL,
        resolve: Resolve = system_resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._ttl = ttl
        self._resolve = resolve
        self._clock = clock
        self._known: Sequence[Address] = ()
        self._until = clock()
        self._lookup: asyncio.Task[None] | None = None

    async def get(self) -> Sequence[Address]:
        """Return the addresses in order of preference, at least one. Raises OSError when there has never been one."""
        if self._known and self._clock() < self._until:
            return self._known
        lookup = self._start_lookup()
        await asyncio.wait((lookup,), timeout=_PATIENCE if self._known else None)
        if not self._known:
            self._raise_for(lookup)
        return self._known

    def renew(self, done: Callable[[Sequence[Address]], None]) -> None:
        """Look the name up now; `done` is told what is known then, which are the old addresses where that failed."""
        self._start_lookup().add_done_callback(lambda _: done(self._known))

    @staticmethod
    def _raise_for(lookup: asyncio.Task[None]) -> None:
        if lookup.cancelled():
            raise OSError("given up")
        lookup.result()

    def close(self) -> None:
        """Give up a lookup that is still going on."""
        if self._lookup is not None:
            self._lookup.cancel()

    def _start_lookup(self) -> asyncio.Task[None]:
        if self._lookup is None:
            self._lookup = asyncio.create_task(self._look_up())
            self._lookup.add_done_callback(self._end_lookup)
        return self._lookup

    def _end_lookup(self, lookup: asyncio.Task[None]) -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # those who waited have it; nobody may have waited

    async def _look_up(self) -> None:
        try:
            self._known = await self._resolve(self._host, self._port)
        except OSError:
            if not self._known:
                raise
        self._until = self._clock() + self._ttl
