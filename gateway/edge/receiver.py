"""What stands between a client's transport and its `Connection`: takes bytes from the socket in bounded pieces.

aiohttp's protocol takes whatever the event loop has read, up to 250 KB at once with uvloop; so much would then be held for a connection
whose upstream is slow (faults D4).
"""

import asyncio
from typing import Final

from gateway.edge.connection import Connection
from gateway.upstream.pieces import PIECE, PIECES, READ

# Read into and copied out of within one call of the event loop, so one is enough for all connections of a process.
_ROOM: Final = memoryview(bytearray(READ))
_LITTLE: Final = _ROOM[:PIECE]


class Receiver(asyncio.BufferedProtocol):
    """Passes on what the transport says to a connection."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Connection) -> None:
        self._protocol = protocol

    def turns_away(self) -> bool:
        """Tell whether what comes is not to be taken, and the connection to be closed, as the connection says."""
        return self._protocol.turns_away()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the loop's signature
        """Give the loop the room to receive into."""
        return _LITTLE if PIECES.are_small else _ROOM

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what has come."""
        if nbytes >= PIECE:
            PIECES.count(nbytes)
        self._protocol.data_received(bytes(_ROOM[:nbytes]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on the transport."""
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection."""
        self._protocol.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass on that the peer sends no more."""
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the peer is slow."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the peer has caught up."""
        self._protocol.resume_writing()
