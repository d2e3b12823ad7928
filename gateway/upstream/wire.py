"""What stands between a socket and the event loop's TLS, so that a connection holds little of what has come.

uvloop's TLS reads into a room of 256 KiB that each connection has for itself. The pages that were once used stay in use until the
connection ends, and so does as much that TLS has copied and not decrypted yet. Here no read takes more than READ (`pieces`).
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from gateway.upstream.pieces import PIECE, PIECES, READ

_SHORT: Final = 64  # bytes, of TLS: its end, or the whole of a very small request


class Early(asyncio.Protocol):
    """Keeps what comes before somebody takes it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.data += data


class Wire(asyncio.BufferedProtocol):
    """Passes on what the socket's transport says to the loop's TLS protocol, and tells `application` too when the socket is full.

    `on_lost` is told of the end of the connection before TLS is. Where `turns_away` says so while memory is short, what has come is thrown
    away and the connection closed: TLS would hold up to 32 KiB before a byte of it can be read.
    """

    def __init__(self, raw: asyncio.Transport, on_lost: Callable[[Exception | None], None] = lambda _error: None) -> None:
        self.raw = raw
        self._on_lost = on_lost
        self._tls: asyncio.BufferedProtocol
        self._is_full = False
        self._has_told = False
        self.application: asyncio.BaseProtocol | None = None
        self.turns_away = _takes_all

    def begin(self, first: bytearray) -> None:
        """Take the place of the TLS protocol, once it is that of the transport, and give it what came before.

        To be called in the loop's next turn after `start_tls`: behind what that does, and before anything is read.
        """
        tls = self.raw.get_protocol()
        if self.raw.is_closing() or isinstance(tls, Early):
            return
        self._tls = cast("asyncio.BufferedProtocol", tls)
        feed(self._tls, first)
        self.raw.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the loop a part of the room that TLS gives."""
        return cast("memoryview", self._tls.get_buffer(sizehint))[: PIECE if PIECES.are_small else READ]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what has come."""
        if nbytes >= PIECE:
            PIECES.count(nbytes)
        if nbytes > _SHORT and PIECES.are_small and self.turns_away():
            self.raw.close()
        else:
            self._tls.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        """Pass on that the peer sends no more."""
        return self._tls.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection."""
        self._on_lost(exc)
        self._tls.connection_lost(exc)
        self.application = None
        self.turns_away = _takes_all

    def pause_writing(self) -> None:
        """Pass on that the socket is full."""
        self._is_full = True
        self._tls.pause_writing()
        if self.application is not None and not self._has_told:
            self._has_told = True
            self.application.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the socket takes more."""
        self._is_full = False
        self._tls.resume_writing()  # writes what it holds, which may fill the socket again
        if self.application is not None and self._has_told and not self._is_full:
            self._has_told = False
            self.application.resume_writing()


def _takes_all() -> bool:
    return False


def feed(protocol: asyncio.BufferedProtocol, data: bytearray) -> None:
    """Give `protocol` these bytes as a transport would."""
    rest = memoryview(bytes(data))
    while rest:
        buffer = cast("memoryview", protocol.get_buffer(len(rest)))
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]
