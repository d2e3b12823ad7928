"""One client's connection: aiohttp's parser, body streams and flow control, with the limits and the error answers that it lacks.

aiohttp's own request handler makes two tasks, a writer and a web request of each request, which costs a tenth of all that is done for
it. Here a connection is one task, and a request is what the parser has read.

What the parser refuses never reaches a handler; it is answered here, in the one shape of failures, logged in one line and counted
in `gateway_rejected_total`.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web import RequestPayloadError

from gateway.edge.answer import failure_answer
from gateway.edge.body import DISCARD_BYTES, DISCARD_SECONDS
from gateway.edge.exchange import CLIENT_ABORT, SHUTDOWN
from gateway.edge.forwarded import unmapped
from gateway.edge.incoming import Incoming, Message
from gateway.edge.malformed import HeadRefused, failure_of
from gateway.edge.plain import PlainFields
from gateway.edge.request import Request
from gateway.edge.stall import HOLD_NOTHING, StallWatch
from gateway.edge.tls import subject
from gateway.upstream.deadline import Deadline

if TYPE_CHECKING:
    from gateway.edge.server import EdgeServer

MAX_FIELDS: Final = 100
SLOW_READER: Final = "slow_reader"
UNIX: Final = "unix"
HELD_BODY: Final = 8 * 1024  # of a body that nobody reads; reading pauses above twice as much, and one read comes on top
PIPELINED: Final = 32
"""So many requests may wait on a connection; when half of them are done, more are read."""
PIPELINED_SIZE: Final = 16 * 1024
"""When so many bytes have come with requests that wait behind another, nothing more is read until none of them waits."""


class Sender(Protocol):
    """Where a request has come from: a connection, or one that `is_new`, and ends with a refusal."""

    client: str
    subject: str | None
    is_secure: bool
    heard_at: float
    last_fields: PlainFields | None
    """Those of its last request, if that was refused at once and they are not many."""

    @property
    def is_new(self) -> bool:
        """Whether its connection is not opened yet."""


class Connection(BaseProtocol):
    """One client's connection: bounds the head of each request in size and time, and renders what the parser refuses.

    `is_last`: the request in hand is the last one. `is_asked`: its client, which waited for that, was told to send its body.
    `is_slow`: the client did not take its answer and was cut off. `on_lost`, if it is set, is called when the connection ends: a handler
    is not told otherwise. `client` is the client's address, or UNIX, `subject` that of its certificate, if it has shown one, and
    `is_secure` says whether the connection has TLS. `heard_at` is when bytes came last, on the loop's clock, `waited` for how many
    seconds the request in hand has waited to begin, and `requests` how many there have been.
    """

    __slots__ = (
        "_ahead", "_come", "_deadline", "_edge", "_ends", "_first", "_idle_since", "_incoming", "_missing", "_queue", "_request", "_stall",
        "_task", "_thrown_away", "_waiter",
        "client", "heard_at", "is_asked", "is_last", "is_secure", "is_slow", "last_fields", "on_lost", "requests", "subject", "waited",
    )  # fmt: skip
    is_new: Final = False

    def __init__(self, edge: "EdgeServer", client: str | None = None, first: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        limit = edge.limits.header_size
        parser = HttpRequestParser(
            self,
            loop,
            HELD_BODY,
            max_line_size=limit,
            max_headers=MAX_FIELDS,
            max_field_size=limit,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
        )
        super().__init__(loop, parser)
        self._incoming = Incoming(parser, limit)
        self._edge = edge
        self._queue: deque[Request | Exception] = deque()  # requests, and what was no request
        self._ahead = 0  # bytes that came with those that wait behind another
        self._waiter: asyncio.Future[None] | None = None  # for the next of these
        self._request: Request | None = None  # in hand
        self._task: asyncio.Task[None] | None = None
        self._ends = False  # after the request in hand
        self._thrown_away = 0  # bytes, behind the last answer
        self._idle_since = 0.0
        self._deadline = Deadline()  # for the next request to begin, or for the rest of its head
        self._come = b""  # what has come for the next request and is put off
        self._missing = 0  # bytes, of the body of a request that was refused at once
        self._first = first  # what had come before the connection was made
        self._stall = StallWatch(edge.limits.write_idle_timeout, self._stalled)
        self.is_last = False
        self.is_asked = False
        self.is_slow = False
        self.on_lost: Callable[[], None] | None = None
        self.client = unmapped(client) if client else UNIX
        self.subject: str | None = None
        self.is_secure = False
        self.heard_at = self.waited = 0.0
        self.requests = 0
        self.last_fields: PlainFields | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight on the connection, none has come in part or is still sent, and nothing waits to be read."""
        return self._awaits_request() and not (self._come or self._still_sends()) and not self._has_come()

    @property
    def idle_seconds(self) -> float:
        """For how long no request has been in flight, if that is so."""
        return self._loop.time() - self._idle_since

    def _still_sends(self) -> bool:
        return bool(self._missing) and self._loop.time() < self.heard_at + DISCARD_SECONDS

    def _awaits_request(self) -> bool:
        return self._request is None and not self._queue and not self._incoming.head

    def _has_come(self) -> bool:
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if sock is None:  # under TLS there is none any more when the end of the connection is about to be told
            return False
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection after the request in hand."""
        self._ends = True
        self._wake()

    def force_close(self) -> None:
        """Close the connection when what has been written is sent."""
        self.close()
        if self.transport is not None:
            self.transport.close()
            self.transport = None

    async def shutdown(self, timeout: float) -> None:
        """Close the connection; a request in hand has so many seconds to end by itself, and as many to see that it does not."""
        self._note_unbegun(SHUTDOWN)
        self.close()
        if self._task is not None:
            _, running = await asyncio.wait((self._task,), timeout=timeout)
            for task in running:
                task.cancel()
                await asyncio.wait(running, timeout=timeout)
        self.force_close()

    # Requests, one after the other.

    async def _serve(self) -> None:
        try:
            while await self._has_next():
                request = self._queue.popleft()
                self._make_room()
                self._note_last()
                if isinstance(request, Exception):
                    self._answer_refused(request)
                    await self._read_away()
                    return
                self._request = request
                self.requests += 1
                try:
                    reply = await self._edge.handler(request)
                finally:
                    _unwind(request)
                if not reply.keep_alive or not request.content.is_eof():
                    return
                self._forget(request)
                del request, reply
        finally:
            self._ends = True
            self._request = self._task = None
            self._queue.clear()  # its requests refer to this connection
            if self.transport is not None:
                self.transport.close()

    async def _read_away(self) -> None:
        """Throw away what still comes behind the last answer, so that the client sees that and not a reset: at most 2 s or 256 KiB."""
        self._ends = True
        if self.transport is None or self.transport.is_closing():
            return
        self.end_writing()
        self.hear()
        self._waiter = self._loop.create_future()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._waiter, DISCARD_SECONDS)
        self._waiter = None

    def _throw_away(self, size: int) -> None:
        self._thrown_away += size
        if self._thrown_away > DISCARD_BYTES:
            self._wake()

    def _forget(self, request: Request) -> None:
        """Keep nothing of a request that is done while the next is awaited: with many connections the garbage collector looks at it all."""
        self._request = self.last_fields = None
        self.is_asked = False
        self.waited = 0.0
        self._incoming.forget(request.content)

    async def _has_next(self) -> bool:
        """Wait for the next request; False when none is to be handled any more."""
        if not self._queue and not self._ends:
            self._begin_idle()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return not self._ends

    def _begin(self, waited: float) -> None:
        """Begin the request that has come."""
        self.waited += waited
        self._wake()

    def _note_unbegun(self, reason: str) -> None:
        """Take that the request that waits for its turn never begins. What is no request is answered nevertheless."""
        if self._waiter is not None and self._queue:
            request = self._queue[0]
            if isinstance(request, Exception):
                self._answer_refused(request)
            else:
                self._edge.note_unbegun(request, reason)
            self._queue.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _make_room(self) -> None:
        """Read on, if that has stopped because too many requests waited."""
        if self._ahead and not self._queue:
            self._ahead = 0
        if not self._buffer_paused:
            return
        if len(self._queue) <= PIPELINED // 2 and self._ahead < PIPELINED_SIZE and len(self._incoming.tail) < HELD_BODY:
            if not self._upgraded:
                self._read(b"")
            if len(self._queue) < PIPELINED:
                self._resume_reading_for_buffer()
                if self._incoming.head:
                    self._await_head()

    def _begin_idle(self) -> None:
        self._idle_since = self._loop.time()
        if not self._incoming.head:
            self._deadline.set(self._edge.limits.idle_timeout, self._idle_too_long)

    def _idle_too_long(self) -> None:
        """Close the connection, unless something has come: it was refused at once, is put off, or waits since the client is not heard."""
        idle_timeout = self._edge.limits.idle_timeout
        left = self.heard_at + idle_timeout - self._loop.time()
        if left > 0 or self._has_come():
            self._deadline.set(left if left > 0 else idle_timeout, self._idle_too_long)
        else:
            self.force_close()

    def _await_head(self) -> None:
        self._deadline.set(self._edge.limits.header_timeout, self._head_too_slow)

    def _head_too_slow(self) -> None:
        if self._buffer_paused:  # by us, since much waits before it: its time begins when it is read on
            return
        self._incoming.is_over = True
        self._queue.append(HeadRefused("REQUEST_TIMEOUT", "header_timeout", lasted=self._edge.limits.header_timeout))
        self._wake()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hold nothing that is written unless the client is slow."""
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=HOLD_NOTHING)
        tcp_keepalive(self.transport)
        if self.client == UNIX:
            self.client = _peer_address(transport)
        self.subject = subject(transport)
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        self._edge.opened(self)
        self._task = self._loop.create_task(self._serve())
        if self._first:
            self.heard_at, first, self._first = self._loop.time(), self._first, b""
            self._read(first)

    def data_received(self, data: bytes) -> None:
        """Take what has come. While work is refused, what begins a request is put off, to be read together with that of others."""
        if data:  # else reading goes on after a pause
            self.heard_at = self._loop.time()
        if self._missing:
            data = self._without_missing(data)
            if not data:
                return
        if self._come:
            self._come += data
            self.go_on()
        elif self._edge.is_shedding and self._awaits_request() and self._edge.puts_off(self):
            self._come = data
        else:
            self._read(data)

    def _without_missing(self, data: bytes) -> bytes:
        """Throw away what was missing of a request that was refused, and return what follows."""
        size = min(self._missing, len(data))
        self._missing -= size
        return data[size:]

    def go_on(self) -> None:
        """Read what was put off, if that has not been done, or have it refused unread.

        A failure of our own ends the connection, as it does where the loop calls.
        """
        data, self._come = self._come, b""
        if not data:
            return
        try:
            if self._refuse_at_once(data):
                return
            self.waited = self._loop.time() - self.heard_at
            self._read(data)
        except Exception as error:  # noqa: BLE001  the others go on
            self._loop.call_exception_handler({"message": "reading a request failed", "exception": error, "protocol": self})
            self.force_close()

    def _read(self, data: bytes) -> None:
        """Take the requests that begin in `data`."""
        if self._ends:
            self._throw_away(len(data))
            return
        if data and self._request is None and not self._edge.may_wait():
            self._refuse_unbegun()
            return
        incoming = self._incoming
        had_begun = bool(incoming.head)
        begun = incoming.read(data, PIPELINED - len(self._queue))
        if incoming.is_upgraded:
            self._upgraded = True
            if len(incoming.tail) >= HELD_BODY and not self._buffer_paused:
                self._pause_reading_for_buffer()
        if begun:
            self._deadline.clear()
            self._take(begun, len(data))
        if incoming.head and (begun or not had_begun):
            self._await_head()
        if incoming.head and not self._edge.has_memory():
            self._refuse_unbegun()
        if incoming.is_over:
            self._note_last()

    def _refuse_unbegun(self) -> None:
        """Let go of what has come behind the last whole request: there is no memory for it until it can begin."""
        self._deadline.clear()
        self._incoming.give_up()
        queue = self._queue
        if queue and isinstance(queue[-1], Request) and not queue[-1].content.is_eof():
            queue.pop()
        queue.append(HeadRefused("OVERLOADED", "overload"))
        if len(queue) == 1:  # else those before it begin when it is their turn
            self._wake()

    def _note_last(self) -> None:
        """Know that the request in hand is the last one when nothing is to be read behind it."""
        self.is_last = self.is_last or (self._incoming.is_over and not self._queue)

    def _take(self, begun: list[Message | Exception], size: int) -> None:
        is_first = not self._queue
        for one in begun:
            self._queue.append(one if isinstance(one, Exception) else Request.of(*one, self))
        if is_first and self._waiter is not None:
            self._edge.turns.begin(self._begin)
        if self._request is not None or len(self._queue) > 1:
            self._ahead += size
        if (len(self._queue) >= PIPELINED or self._ahead >= PIPELINED_SIZE) and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _refuse_at_once(self, data: bytes) -> bool:
        """Have what has come refused, if that can be told without the parser: it is waited for, and the client is not slow."""
        transport = self.transport
        if transport is None or self._paused or self._ends or self._waiter is None or self._queue or not self._incoming.is_between:
            return False
        refusal = self._edge.refuse(self, data)
        if refusal is None:
            return False
        self.requests += 1
        self._missing = refusal.missing
        self._edge.write_soon(transport, refusal)
        if refusal.is_last:
            self._ends = True
        elif refusal.held:
            self._edge.hold(self, refusal.held)
        return True

    def turns_away(self) -> bool:
        """Tell whether there is no memory for what comes: it begins a request, or belongs to one that was refused.

        Then the client has been answered, and is to go.
        """
        if not self._awaits_request() or self._come or self._edge.has_memory():
            return False
        if not (self._ends or self._missing):
            self._ends = True
            self._answer_refused(HeadRefused("OVERLOADED", "overload"))
        return True

    def ask_for_body(self) -> None:
        """Have the client, which waits for that, send the body of the request in hand (RFC 9110, 10.1.1)."""
        if self.transport is not None:
            self.is_asked = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def rest(self, seconds: float) -> None:
        """Do not hear the client for so many seconds, if any, after the request in hand, unless it has sent more already."""
        if not self._queue and self._incoming.is_between:
            self._edge.hold(self, seconds)

    def hold(self) -> None:
        """Do not hear the client for now: what it sends waits where it costs nothing."""
        self._pause_reading_for_buffer()

    def hear(self) -> None:
        """Hear the client again."""
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def eof_received(self) -> None:
        """Take that the client sends no more: it counts as gone."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release what waits for the client, and tell who wants to know."""
        self.go_on()
        self._deadline.end()
        self._stall.close()
        self._note_unbegun(CLIENT_ABORT)
        self.close()
        super().connection_lost(exc)
        self._parser = None
        if self._request is not None:
            self._request.content.set_exception(ConnectionResetError("Connection lost"))  # whatever `exc` is, as a fault of TLS
        self._incoming.close()
        self._edge.closed(self)
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Take that the client is slow."""
        super().pause_writing()
        if self.transport is not None:
            self._stall.begin(self.transport)

    def resume_writing(self) -> None:
        """Take that the client has caught up."""
        self._stall.end()
        super().resume_writing()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  aiohttp's signature
        """Read on, where reading was paused; the end of each body asks for that."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def end_writing(self) -> None:
        """Say that no more is written, where the transport can say that (RFC 9112 section 9.6): a client that still sends learns it."""
        if self.transport is not None and not self.transport.is_closing() and self.transport.can_write_eof():
            with suppress(OSError):  # it has just left
                self.transport.write_eof()

    async def drain(self) -> None:
        """Wait until the client has taken what was written. Raises ConnectionError when it leaves meanwhile."""
        if self._paused:
            try:
                await self._drain_helper()
            except ConnectionError as error:
                raise error.with_traceback(None) from None  # else it refers, by what was waited for, to itself

    def hand_over(self, protocol: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Give the transport, no longer read from, to `protocol`, with what the client sent behind its request.

        `protocol` passes `connection_lost` on. Raises ConnectionError when the client has left.
        """
        transport, tail = self.transport, self._incoming.tail
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._incoming.tail = b""
        transport.pause_reading()
        transport.set_protocol(protocol)
        return transport, tail

    # What is no request.

    def _answer_refused(self, error: Exception) -> None:
        """Answer what the parser refused."""
        exchange = self._edge.recorder.begin("other", self.client)
        failure, reason = failure_of(error, exchange, self._edge.unknown_method)
        exchange.status, exchange.reason, exchange.failure = failure.failure.http_status, failure.reason, failure.failure.code
        self._edge.metrics.rejected(reason).inc()
        answer = failure_answer(failure, exchange.request_id, close=True)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer.whole())
            exchange.bytes_out = len(answer.body)
        self._edge.recorder.record(exchange)

    def _stalled(self) -> None:
        self.is_slow = True
        self._edge.metrics.rejected(SLOW_READER).inc()


def _unwind(request: Request) -> None:
    """Let go of where a fault of the body was raised, which refers to the request: no cycle is left for the garbage collector."""
    if (fault := request.content.exception()) is not None:
        fault.__traceback__ = None


def _peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the peer, without its port; UNIX for a unix socket."""
    peer = transport.get_extra_info("peername")
    return unmapped(str(peer[0])) if isinstance(peer, tuple) else UNIX
