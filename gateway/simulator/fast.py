"""The fast mode, for load generators: verifies nothing, keeps nothing, gives one answer, so that it is the gateway that is measured."""

import asyncio
import re
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

MAX_AGE: Final = 1.0
"""Seconds after which the answer is made anew, so that its time, which is signed, stays true."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)


class Prepared:
    """The bytes of one answer, made anew by `make` when they are older than `MAX_AGE`."""

    def __init__(self, make: Callable[[], bytes], now: Callable[[], float] = monotonic) -> None:
        self._make = make
        self._now = now
        self._made_at = now()
        self._answer = make()

    def get(self) -> bytes:
        """Give the answer."""
        if self._now() - self._made_at > MAX_AGE:
            self._answer, self._made_at = self._make(), self._now()
        return self._answer


class Fast(asyncio.Protocol):
    """One connection: answers each request as soon as its last byte has come."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not derived from it

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (size := complete(self._buffer)) is not None:
            self._buffer = self._buffer[size:]
            self._transport.write(self._prepared.get())


def complete(buffer: bytes) -> int | None:
    """Give the size of the first request in a buffer when all of it is there; by its Content-Length alone."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(buffer, 0, end + 2)
    size = end + 4 + (int(length[1]) if length else 0)
    return size if size <= len(buffer) else None
