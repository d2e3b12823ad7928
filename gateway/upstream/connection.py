"""One client connection that speaks HTTP/1.1: exchanges one after another, whole or streamed.

Knows exactly whether a byte of a request was given to the transport, and whether another exchange may follow. Connecting, keeping
and choosing connections are others' work. An exchange that is cancelled closes the connection.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, cast

from gateway.upstream.deadline import Deadline
from gateway.upstream.errors import AnswerInvalid, AnswerLate, ConnectionLost, Unreachable, UpstreamError
from gateway.upstream.message import Answer, Head
from gateway.upstream.parser import AnswerParser
from gateway.upstream.pieces import PIECE, PIECES

BUFFER = 127 * 1024  # as much as there is room for in a core's cache
SMALL: Final = 64 * 1024
"""Bytes of a whole answer for which nobody is asked for room, and of a request that are written at once."""
_UNREAD_TLS: Final = 16 * 1024  # bytes
_ROOM_AGAIN: Final = 0.02  # seconds until there may be room
_ENOUGH = BUFFER // 2  # unread; what a full read brings is passed on before the next one

_NOBODY: Final = asyncio.BufferedProtocol()

Done = Callable[[Answer | UpstreamError], None]
"""Is told how an exchange has ended."""

HasRoom = Callable[[int], bool]
"""Says whether so many bytes more of an answer may be held."""


class Connection(asyncio.BufferedProtocol):
    """A connection, made by a `Dialer`.

    Whole: `await exchange(...)`, or `begin`. Streamed: `start`, then `send` and `drain` until `finish`, and meanwhile `read_head`
    (repeatedly while it is interim) and `read_body` until it returns nothing. Whoever leaves an exchange before its end calls `abort`.
    `sent` tells of the latest exchange whether a byte of it was given to the transport; `reused` is set by the pool. `deadline` is for
    whoever uses the connection, and cleared when an exchange ends.
    """

    opened_at = 0.0
    reused = False

    def __init__(self, sock: socket.socket, on_lost: Callable[["Connection"], None], buffer: memoryview) -> None:
        """`buffer` may be shared by all connections of one loop: what was received into it is taken out at once."""
        self.sent = False
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLOUT)
        self._quiet = [(sock.fileno(), select.POLLOUT)]
        self._buffer = buffer
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.deadline = Deadline()
        self._parser: AnswerParser
        self._finished = True
        self._done: Done | None = None  # of an exchange
        self._has_room: HasRoom | None = None
        self._limit = self._room = 0  # bytes of the body: at most, and for which there is room
        self._room_timer: asyncio.TimerHandle | None = None
        self._error: UpstreamError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._reading_paused = False
        self._writing_paused = False
        self._transport: asyncio.Transport

    @property
    def transport(self) -> asyncio.Transport:
        """The transport beneath, to bound what it holds and to ask how it is; not to be written to."""
        return self._transport

    @property
    def reusable(self) -> bool:
        """May another exchange follow? Whole request written, whole answer read, the peer keeps alive, nothing came after it."""
        parser = self._parser
        return (
            parser.complete
            and parser.keep_alive
            and not parser.extra
            and not parser.chunks
            and self._finished
            and self._error is None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )

    def is_still_reusable(self) -> bool:
        """Tell whether nothing has come from the peer, not even its end, since the connection was reusable. To be asked while idle.

        The socket is asked, for the loop may not have told of it yet; and under TLS, nothing else tells whether the peer takes the request.
        """
        return self._error is None and not self._transport.is_closing() and self._poll.poll(0) == self._quiet

    async def exchange(self, head: bytes, body: bytes = b"", *, limit: int, method: str = "POST") -> Answer:
        """Send one request and return its whole answer, whose body may have at most `limit` bytes. Interim answers are skipped.

        `head` is the whole head with its empty line; the method is told again for the framing of the answer. Raises Unreachable
        when the connection was gone before a byte was sent, ConnectionLost and AnswerInvalid; after these, and when it is cancelled,
        the connection is closed.
        """
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self.begin(head, body, limit=limit, method=method, done=partial(settle, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            del waiter  # it holds what is raised, and would be held by it

    def begin(
        self,
        head: bytes,
        body: bytes = b"",
        *,
        limit: int,
        method: str = "POST",
        timeout: float | None = None,
        done: Done,
        has_room: HasRoom | None = None,
    ) -> None:
        """Do what `exchange` does, and call `done` with what that would return or raise; at once if the connection was gone.

        `done` gets AnswerLate after `timeout` seconds; then, too, the connection is closed.
        Of an answer of more than SMALL bytes no more is taken while `has_room`, asked again and again, says that there is no room for it.
        """
        try:
            self.start(method, limit=limit)
        except Unreachable as error:
            done(error)
            return
        self._finished = True
        self._done = done
        self._has_room, self._limit, self._room = has_room, limit, SMALL
        self.send(head + body)
        if timeout is not None:
            self.deadline.set(timeout, self._expire)

    def _expire(self) -> None:
        self._fail(AnswerLate("no whole answer in time"))

    def start(self, method: str, *, limit: int | None = None, upgrade: bool = False) -> None:
        """Begin an exchange. `upgrade`: 101 may be answered. Raises Unreachable when the connection is gone."""
        self.sent = False
        if self._error is not None or self._transport.is_closing():
            raise Unreachable("connection closed before the request" + (f": {self._error.reason}" if self._error is not None else ""))
        self.resume()
        self._parser.start(method, limit=limit, upgrade=upgrade)
        self._finished = False

    def send(self, data: bytes) -> None:
        """Send bytes of the request as they are: the caller frames. What comes after the connection's end is dropped.

        TLS keeps as much memory for a connection as it was ever given at once, until the connection ends.
        """
        if self._transport.is_closing():
            return
        self.sent = True
        if len(data) <= SMALL:
            self._transport.write(data)
        else:
            for begin in range(0, len(data), SMALL):
                self._transport.write(data[begin : begin + SMALL])

    async def drain(self) -> None:
        """Wait until the peer has taken so much that more may be sent. Raises ConnectionLost."""
        if self._writing_paused and self._error is None:
            waiter = self._loop.create_future()
            self._drainers.append(waiter)
            try:
                await waiter
            finally:
                self._drainers.remove(waiter)
        if self._error is not None or self._transport.is_closing():
            raise ConnectionLost("closed while the request was sent")

    def finish(self) -> None:
        """Say that the whole request has been sent."""
        self._finished = True

    async def read_head(self) -> Head:
        """Return the next head: interim ones, then the final one (or 101, after which `detach` is called)."""
        heads = self._parser.heads
        while not heads:
            if self._error is not None:
                raise _anew(self._error)
            self._reader = self._loop.create_future()
            await self._reader
        return heads.popleft()

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come; some of its body may still be there to be taken."""
        return self._parser.complete

    @property
    def keeps_alive(self) -> bool:
        """Whether the peer has said, with the head of its answer, that another request may follow."""
        return self._parser.keep_alive

    def take_body(self) -> bytes:
        """Return what has come of the body and was not read, without waiting: nothing if there is nothing."""
        body = self._parser.take_body()
        self.resume()
        return body

    def pause(self) -> None:
        """Take nothing more from the peer until `resume`."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take from the peer again."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    async def read_body(self) -> bytes:
        """Return what has come of the body, nothing at its end. Raises ConnectionLost and AnswerInvalid."""
        parser = self._parser
        while not parser.chunks:
            if parser.complete:
                return b""
            if self._error is not None:
                raise _anew(self._error)
            self._reader = self._loop.create_future()
            await self._reader
        return self.take_body()

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the transport after a 101, and what the peer has sent since. Reading is paused: set a protocol, then resume it."""
        leftover = self._parser.leftover
        if leftover is None:
            raise RuntimeError("there was no 101")
        self.pause()
        self._let_go()
        self._error = ConnectionLost("handed over")
        self._on_lost(self)
        return self._transport, leftover

    def abort(self) -> None:
        """Close at once; what is still to be sent is dropped."""
        self.deadline.clear()
        self._fail(ConnectionLost("closed by this side"))

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = _anew(error)
            self._transport.abort()
        self._wake()

    def _end_exchange(self, done: Done) -> None:
        """Tell how an exchange has ended, if it has."""
        parser = self._parser
        if not parser.complete and self._error is None:
            return
        self._done = self._has_room = None
        if self._room_timer is not None:
            self._room_timer.cancel()
            self._room_timer = None
        self.deadline.clear()
        if not parser.complete:
            done(_anew(cast("UpstreamError", self._error)))
        elif parser.extra:
            self.abort()
            done(AnswerInvalid("bytes after the answer"))
        else:
            done(Answer(parser.heads[-1], parser.take_body()))

    def _wake(self) -> None:
        if self._done is not None:
            self._end_exchange(self._done)
            return
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)
        if self._drainers and (self._error is not None or not self._writing_paused):
            for waiter in self._drainers:
                if not waiter.done():
                    waiter.set_result(None)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._parser = AnswerParser()  # not before, or a handshake that fails would leave its cycle behind
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=BUFFER)
        limit_read = getattr(transport, "set_read_buffer_limits", None)
        if limit_read is not None:  # TLS reads on for itself while it is paused, 256 KiB by default
            limit_read(high=_UNREAD_TLS)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        """Give the loop the room to receive into."""
        return self._buffer[:PIECE] if PIECES.are_small else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the peer has sent; while nobody reads, at most BUFFER of it."""
        parser = self._parser
        if nbytes >= PIECE:
            PIECES.count(nbytes)
        try:
            parser.feed(self._buffer[:nbytes])
        except UpstreamError as error:
            self._fail(error)
            return
        if parser.complete:
            pass
        elif self._done is None:
            if parser.leftover is not None or self._is_unread():
                self.pause()
        elif self._has_room is not None and self._room_timer is None and (parser.length or parser.received) > self._room:
            self._make_room(self._has_room)
        self._wake()

    def _make_room(self, has_room: HasRoom) -> None:
        """Take more of an answer when there is room for all of it, or for as much as it may have where nobody has said how long it is."""
        size = self._parser.length or self._limit
        if has_room(size - self._room):
            self._room, self._room_timer = size, None
            self.resume()
        else:
            self.pause()
            self._room_timer = self._loop.call_later(_ROOM_AGAIN, self._make_room, has_room)

    def _is_unread(self) -> bool:
        """Tell whether some of the body is there that nobody waits for, or so much that it is to be taken before more comes."""
        chunks = self._parser.chunks
        return bool(chunks) and (self._reader is None or bool(self._parser.heads) or sum(map(len, chunks)) >= _ENOUGH)

    def eof_received(self) -> None:
        """Take the peer's end: it may be the end of a body; the connection is closed in any case."""
        try:
            self._parser.eof(clean=self._is_clean_end())
        except ConnectionLost as error:
            self._fail(error)
        self._parser.keep_alive = False
        self._wake()

    def _is_clean_end(self) -> bool:
        """Tell whether the peer has ended TLS too: else somebody on the way may have cut the connection (RFC 9112 section 9.8)."""
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        if exc is not None and self._error is None and not self._parser.complete:
            self._take_last()
        self._let_go()
        self._transport.set_protocol(_NOBODY)  # TLS still refers to its protocol
        if self._error is None:
            self._error = ConnectionLost(_end(exc))
        self._on_lost(self)
        self._wake()

    def _let_go(self) -> None:
        """Have nothing called any more: no cycle is left for the garbage collector."""
        self.deadline.end()
        self._parser.close()

    def _take_last(self) -> None:
        """Take what had come before more of the request met a connection that the peer had closed: its answer, most often.

        One more read at most, for there is no pausing any more. Under TLS it is lost.
        """
        if self._transport.get_extra_info("ssl_object") is None:
            with suppress(OSError):  # nothing has come, or the socket is closed
                if size := self._sock.recv_into(self._buffer):
                    self.buffer_updated(size)

    def pause_writing(self) -> None:
        """Take that the peer is slower than we."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Take that more may be sent."""
        self._writing_paused = False
        self._wake()


def _end(error: Exception | None) -> str:
    """Say what ended a connection: of TLS, OpenSSL's name for it, or for the peer's alert."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason}"
    return "closed by the peer" if error is None else "connection reset"


def _anew(error: UpstreamError) -> UpstreamError:
    """Return the same fault without its traceback. What is kept is never raised: it would refer to the connection by that."""
    return type(error)(error.reason)


def settle(waiter: "asyncio.Future[Answer]", outcome: Answer | UpstreamError) -> None:
    """Give an outcome to whoever still waits for it."""
    if waiter.done():
        return
    if isinstance(outcome, Answer):
        waiter.set_result(outcome)
    else:
        waiter.set_exception(outcome)
