"""A WebSocket after its handshake: the bytes of both sides go to the other untouched (architecture, decision 9).

What one side cannot take holds up the other. Frames are only counted, so that a Close frame can be placed between two of them.
"""

import asyncio
from contextlib import suppress
from typing import Final

from gateway.edge.connection import Connection as ClientConnection
from gateway.edge.exchange import CLIENT_CLOSED, SHUTDOWN, UPSTREAM_CLOSED
from gateway.edge.stall import HOLD_NOTHING, LOOK_SECONDS, has_left, untaken
from gateway.passthrough.frames import FrameCounter, close_frame
from gateway.upstream import Connection
from gateway.upstream.deadline import Deadline
from gateway.upstream.pieces import PIECE, PIECES

END_SECONDS: Final = 5.0  # for the rest, once one side has ended
GOING_AWAY: Final = 1001
_READ: Final = 64 * 1024
# Read into and copied out of within one call of the event loop, so one is enough for all tunnels of a process.
_ROOM: Final = memoryview(bytearray(_READ))
_LITTLE: Final = _ROOM[:PIECE]


class Tunnel:
    """One tunnel. `run` once; `bytes_in` came from the client, `bytes_out` from the upstream."""

    def __init__(self, client: ClientConnection, upstream: Connection, *, idle_timeout: float) -> None:
        """Take both connections: the client has been sent the 101, the upstream is at its own."""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle_timeout = idle_timeout
        self._client_protocol = client
        self._client = _Side(client)
        self._upstream = _Side(None)
        self._connection = upstream
        self._deadline = Deadline()
        self._look: asyncio.TimerHandle | None = None
        self._reason = ""

    @property
    def bytes_in(self) -> int:
        """How many bytes the client has sent."""
        return self._client.received

    @property
    def bytes_out(self) -> int:
        """How many bytes the upstream has sent."""
        return self._upstream.received

    async def run(self) -> str:
        """Tunnel until both sides have ended; return what ended it. Raises ConnectionError when the client has left before."""
        self._client.transport, tail = self._client_protocol.hand_over(self._client)
        self._upstream.transport, leftover = self._connection.detach()
        self._upstream.transport.set_protocol(self._upstream)
        self._client.join(self, self._upstream)
        self._upstream.join(self, self._client)
        self.active()
        try:
            self._client.begin(tail)
            self._upstream.begin(leftover)
            await self._ended
        except BaseException:
            self._reason = self._reason or SHUTDOWN
            self._abort()
            raise
        finally:
            self._deadline.end()
            if self._look is not None:
                self._look.cancel()
        return self._reason

    def go_away(self) -> None:
        """Tell the client, between two frames, that this gateway is going away, and end within END_SECONDS."""
        if self._reason:  # it ends already
            return
        self._upstream.closes_with = close_frame(GOING_AWAY)
        self._upstream.take(b"")
        self._end_soon("going away")

    # What the sides call.

    def active(self) -> None:
        """Take that bytes have come from either side."""
        if not self._reason:
            self._deadline.set(self._idle_timeout, self._idle)

    def held_up(self) -> None:
        """Take that the client is not read from, as long as the upstream is full: it is looked whether it has left."""
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_at_client)

    def _look_at_client(self) -> None:
        self._look = None
        if self._ended.done() or not self._upstream.is_full:
            return
        if not self._client.is_lost and has_left(self._client.transport):
            self._client.abort()
        else:
            self.held_up()

    def half_ended(self, side: "_Side") -> None:
        """Take that one side sends no more."""
        self._end_soon(CLIENT_CLOSED if side is self._client else UPSTREAM_CLOSED)
        if side.peer.has_ended:
            self._client.close()
            self._upstream.close()
        else:
            side.peer.end_writing()

    def lost(self, side: "_Side", exc: BaseException | None) -> None:
        """Take that one side's connection has ended."""
        if side is self._client:
            self._end_soon(CLIENT_CLOSED if exc is None else "client lost")
        else:
            self._end_soon(UPSTREAM_CLOSED if exc is None else "upstream lost")
        if not side.peer.is_lost:
            side.peer.close()
            return
        if not self._ended.done():
            self._ended.set_result(None)
        self._client.let_go()
        self._upstream.let_go()

    def _end_soon(self, reason: str) -> None:
        if not self._reason:
            self._reason = reason
            self._deadline.set(END_SECONDS, self._abort)

    def _abort(self) -> None:
        self._client.abort()
        self._upstream.abort()

    def _idle(self) -> None:
        """End, unless one side is still being sent something: a client that takes nothing is cut off by itself (faults A9)."""
        if self._client.is_full or self._upstream.has_taken():
            self.active()
            return
        self._end_soon("idle")
        self._client.close()
        self._upstream.close()


class _Side(asyncio.BufferedProtocol):
    """One side's connection. What it sends goes to `peer`. `former` had the transport before, and is told how it fares."""

    __slots__ = (
        "_former", "_frames", "_held", "_tunnel",
        "closes_with", "has_ended", "is_full", "is_lost", "peer", "received", "transport",
    )  # fmt: skip

    def __init__(self, former: ClientConnection | None) -> None:
        self._former = former
        self._frames = FrameCounter()
        self.is_full = False  # it is sent more than it takes
        self._held = 0  # bytes that it had not taken when it was looked last
        self.transport: asyncio.Transport
        self.peer: _Side
        self._tunnel: Tunnel
        self.received = 0
        self.has_ended = False
        self.is_lost = False
        self.closes_with: bytes | None = None  # put behind the frame under way; what comes later goes nowhere

    def join(self, tunnel: Tunnel, peer: "_Side") -> None:
        """Be a side of a tunnel that begins."""
        self._tunnel, self.peer = tunnel, peer

    def begin(self, came: bytes) -> None:
        """Take what came before, and read on."""
        if not self.transport.is_closing():  # uvloop's raises once it is closed
            self.transport.set_write_buffer_limits(high=HOLD_NOTHING)
        if came:
            self.take(came)
        if self.transport.is_closing():
            self.connection_lost(None)
        elif not self.peer.is_full:
            self.transport.resume_reading()

    def take(self, data: bytes) -> None:
        """Take what this side has sent."""
        self.received += len(data)
        if self.closes_with is None:
            self._frames.feed(data)
            self.peer.write(data)
        elif self.closes_with and (end := self._frames.end_of_frame(data)) is not None:
            self.peer.write(data[:end] + self.closes_with)
            self.closes_with = b""
        elif self.closes_with:
            self._frames.feed(data)
            self.peer.write(data)

    def write(self, data: bytes) -> None:
        """Write what the other side has sent."""
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def end_writing(self) -> None:
        """Pass on that the other side sends no more."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            with suppress(OSError):  # it has just left
                self.transport.write_eof()
        else:
            self.transport.close()

    def has_taken(self) -> bool:
        """Tell whether this side, if it is sent more than it takes, has taken something since it was looked last."""
        if not self.is_full:
            return False
        held, self._held = self._held, untaken(self.transport)
        return self._held < held

    def close(self) -> None:
        """Close when all has been written."""
        if not self.is_lost:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if not self.is_lost:
            self.transport.abort()

    def let_go(self) -> None:
        """Refer to nobody any more: no cycle is left for the garbage collector."""
        del self.peer, self.transport, self._tunnel

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the loop's signature
        """Give the loop the room to receive into."""
        return _LITTLE if PIECES.are_small else _ROOM

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has come."""
        self._tunnel.active()
        if nbytes >= PIECE:
            PIECES.count(nbytes)
        self.take(bytes(_ROOM[:nbytes]))

    def eof_received(self) -> bool:
        """Take that this side sends no more; it may still be sent to, but for TLS, which has no half-closed connections here."""
        self.has_ended = True
        self._tunnel.half_ended(self)
        return self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._former is not None:
            self._former.connection_lost(exc)
        self._tunnel.lost(self, exc)

    def pause_writing(self) -> None:
        """Hold the other side up."""
        self.is_full, self._held = True, untaken(self.transport)
        if self._former is not None:
            self._former.pause_writing()
        else:
            self._tunnel.held_up()
        if not self.peer.transport.is_closing():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side go on."""
        self.is_full = False
        if self._former is not None:
            self._former.resume_writing()
        if not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()
