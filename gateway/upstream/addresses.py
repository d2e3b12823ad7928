"""The addresses behind a name, looked up again every half minute; when the name service is slow or down, the old ones serve on.

What a process has found is told to those that follow it (`NAMES`).
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final

from msgspec import Struct

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

TTL: Final = 30.0
"""Seconds for which the addresses of a name are good."""


class Found(Struct, frozen=True):
    """What was found for one name: the family, address and scope of each (RFC 4007)."""

    host: str
    port: int
    addresses: tuple[tuple[int, str, int], ...]


class NameBook:
    """What was found for names, by this process or by others that have told it: a new one serves though no name can be looked up.

    `found` is all of it.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], Found] = {}

    @property
    def found(self) -> tuple[Found, ...]:
        """All that was found."""
        return tuple(self._found.values())

    def take(self, found: Found) -> None:
        """Keep what was found."""
        self._found[found.host, found.port] = found

    def note(self, host: str, port: int, addresses: Sequence[Address]) -> None:
        """Keep what has been found for a host, if that is a name."""
        if all(address[0] != host for _, address in addresses):
            self.take(Found(host, port, tuple((family, address[0], _scope(address)) for family, address in addresses)))

    def addresses(self, host: str, port: int) -> Sequence[Address]:
        """Return what was found for a host; nothing if nothing was."""
        found = self._found.get((host, port))
        return [_address(port, *each) for each in found.addresses] if found is not None else ()


def _scope(address: tuple[str, int] | tuple[str, int, int, int]) -> int:
    _, _, *of_version_6 = address
    return of_version_6[1] if of_version_6 else 0


def _address(port: int, family: int, address: str, scope: int) -> Address:
    if family == socket.AF_INET6:
        return socket.AF_INET6, (address, port, 0, scope)
    return socket.AddressFamily(family), (address, port)


NAMES: Final = NameBook()
"""That of this process."""

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
        Thread(target=_look_up, args=(found, host, port), name="lookup", daemon=True).start()
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
        names: NameBook = NAMES,
    ) -> None:
        self._host = host
        self._port = port
        self._ttl = ttl
        self._resolve = resolve
        self._clock = clock
        self._names = names
        self._known = names.addresses(host, port)
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
            self._names.note(self._host, self._port, self._known)
        except OSError:
            if not self._known:
                raise
        self._until = self._clock() + self._ttl
