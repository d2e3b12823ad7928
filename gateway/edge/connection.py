"""One client's connection: aiohttp's parser, body streams and flow control, with the limits and the error answers that it lacks.

aiohttp's own request handler makes two tasks, a writer and a web request of each request, which costs a tenth of all that is done for
it. Here a connection is one task, and a request is what the parser has read.

What the parser refuses never reaches a handler; it is answered here, in the one shape of failures, logged in one line and counted
in `gateway_rejected_total`.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web import RequestPayloadError

from gateway.edge.answer import failure_answer
from gateway.edge.forwarded import unmapped
from gateway.edge.malformed import HeadRefused, failure_of, named_method
from gateway.edge.request import Request
from gateway.edge.stall import HOLD_NOTHING, StallWatch
from gateway.edge.strictness import TAIL, end_of_head, ends_plainly, is_proxy_header, is_request_line
from gateway.edge.tls import subject

if TYPE_CHECKING:
    from gateway.edge.server import EdgeServer

MAX_FIELDS: Final = 100
SLOW_READER: Final = "slow_reader"
UNIX: Final = "unix"
HELD_BODY: Final = 8 * 1024  # of a body that nobody reads; reading pauses above twice as much, and one read comes on top
PIPELINED: Final = 32
"""So many requests may wait on a connection; when half of them are done, more are read."""


class Connection(BaseProtocol):
    """One client's connection: bounds the head of each request in size and time, and renders what the parser refuses.

    `is_last`: the request in hand is the last one. `is_asked`: its client, which waited for that, was told to send its body.
    `is_slow`: the client did not take its answer and was cut off. `on_lost`, if it is set, is called when the connection ends: a handler
    is not told otherwise. `client` is the client's address, or UNIX, `subject` that of its certificate, if it has shown one, and
    `is_secure` says whether the connection has TLS. `heard_at` is when bytes came last, on the loop's clock, `waited` for how many
    seconds the request in hand has waited to begin.
    """

    __slots__ = (
        "_body_left", "_come", "_edge", "_ends", "_head", "_head_timer", "_idle_since", "_idle_timer", "_is_deaf", "_payload", "_queue",
        "_request", "_rest", "_stall", "_tail", "_task", "_upgrade_tail", "_waiter",
        "client", "heard_at", "is_asked", "is_last", "is_secure", "is_slow", "on_lost", "subject", "waited",
    )  # fmt: skip

    def __init__(self, edge: "EdgeServer", client: str | None = None) -> None:
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
        self._edge = edge
        self._queue: deque[Request | Exception] = deque()  # requests, and what was no request
        self._waiter: asyncio.Future[None] | None = None  # for the next of these
        self._request: Request | None = None  # in hand
        self._task: asyncio.Task[None] | None = None
        self._ends = False  # after the request in hand
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._head = b""  # what has come of the next head
        self._head_timer: asyncio.TimerHandle | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD  # the body of the newest message that the parser has seen
        self._body_left: int | None = None  # bytes of that body; None if that is not known, since it comes in chunks
        self._tail = b""  # its last bytes then
        self._rest = b""  # what came behind the newest message while that has to wait
        self._come = b""  # what has come for the next request and is put off
        self._upgrade_tail = b""  # what came behind a request for another protocol
        self._is_deaf = False  # nothing more is read
        self._stall = StallWatch(edge.limits.write_idle_timeout, self._stalled)
        self.is_last = False
        self.is_asked = False
        self.is_slow = False
        self.on_lost: Callable[[], None] | None = None
        self.client = unmapped(client) if client else UNIX
        self.subject: str | None = None
        self.is_secure = False
        self.heard_at = self.waited = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight on the connection, none has come in part, and nothing waits to be read."""
        return self._awaits_request() and not self._come and not self._has_come()

    def _awaits_request(self) -> bool:
        return self._waiter is not None and not self._queue and not self._head

    def _has_come(self) -> bool:
        if self.transport is None:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
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
                    return
                self._request = request
                reply = await self._edge.handler(request)
                if not reply.keep_alive or not request.content.is_eof():
                    return
                self._forget(request)
                del request, reply
        finally:
            self._ends = True
            self._request = self._task = None
            if self.transport is not None:
                self.transport.close()

    def _forget(self, request: Request) -> None:
        """Keep nothing of a request that is done while the next is awaited: with many connections the garbage collector looks at it all."""
        self._request = None
        self.is_asked = False
        self.waited = 0.0
        if self._payload is request.content:
            self._payload = EMPTY_PAYLOAD

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

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _make_room(self) -> None:
        """Read on, if that has stopped because too many requests waited."""
        if self._buffer_paused and len(self._queue) <= PIPELINED // 2 and len(self._upgrade_tail) < HELD_BODY:
            if not self._upgraded:
                self._read(b"")
            if len(self._queue) < PIPELINED:
                self._resume_reading_for_buffer()

    def _begin_idle(self) -> None:
        self._idle_since = self._loop.time()
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(self._edge.limits.idle_timeout, self._look_idle)

    def _look_idle(self) -> None:
        """Close the connection if it has been idle for long. The timer is not moved with each request: it looks, and waits for the rest."""
        self._idle_timer = None
        if self._waiter is None or self._queue:
            return  # the next wait begins another
        idle_until = max(self._idle_since, self.heard_at) + self._edge.limits.idle_timeout
        if self._loop.time() < idle_until:
            self._idle_timer = self._loop.call_at(idle_until, self._look_idle)
        else:
            self.force_close()

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

    def data_received(self, data: bytes) -> None:
        """Take what has come. While work is refused, what begins a request is put off, to be read together with that of others."""
        if data:  # else reading goes on after a pause
            self.heard_at = self._loop.time()
        if self._come:
            data, self._come = self._come + data, b""
        elif self._edge.is_shedding and self._awaits_request():
            self._come = data
            self._edge.put_off(self)
            return
        self._read(data)

    def go_on(self) -> None:
        """Read what was put off, if that has not been done. A failure of our own ends the connection, as it does where the loop calls."""
        data, self._come = self._come, b""
        if not data:
            return
        self.waited = self._loop.time() - self.heard_at
        try:
            self._read(data)
        except Exception as error:  # noqa: BLE001  the others go on
            self._loop.call_exception_handler({"message": "reading a request failed", "exception": error, "protocol": self})
            self.force_close()

    def _read(self, data: bytes) -> None:
        """Feed the parser one message after the other, so that each head is looked at, and what follows a message is known."""
        data, self._rest = self._rest + data, b""
        begun: list[Request | Exception] = []
        while not (self._is_deaf or self._ends):
            if self._upgraded:  # another protocol follows, if it is agreed upon
                self._hold(data)
                break
            data = self._read_head(data, begun) if self._payload.is_eof() else self._read_body(data)
            if not data:
                break
            has_to_wait = self._body_left == 0 and not self._payload.is_eof()  # the parser does, until more of the body has been read
            if has_to_wait or len(self._queue) + len(begun) >= PIPELINED:
                self._rest = data
                break
        if self._head:
            self._begin_head_timer()
        if begun:
            self._take(begun)
        self._note_last()

    def _note_last(self) -> None:
        """Know that the request in hand is the last one when nothing is to be read behind it."""
        self.is_last = self.is_last or (self._is_deaf and not self._queue)

    def _take(self, begun: list[Request | Exception]) -> None:
        is_first = not self._queue
        self._queue.extend(begun)
        if self._edge.is_shedding and self._refuse_at_once():
            return
        if is_first and self._waiter is not None:
            self._edge.turns.begin(self._begin)
        if len(self._queue) >= PIPELINED and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _refuse_at_once(self) -> bool:
        """Have the request that has come refused, if that can be done here: it is whole, nothing else is in hand, the client not slow."""
        request, transport = self._queue[-1], self.transport
        if len(self._queue) > 1 or self._waiter is None or isinstance(request, Exception) or not request.content.is_eof():
            return False
        if transport is None or self._paused or self._is_deaf or self._ends:
            return False
        refusal = self._edge.refuse(request)
        if refusal is None:
            return False
        answer, held = refusal
        self._edge.write_soon(transport, answer)
        self._queue.clear()
        self._payload = EMPTY_PAYLOAD
        self.waited = 0.0
        self._make_room()
        self._edge.hold(self, held)
        return True

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
        self._cancel_head_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._stall.close()
        if self._waiter is not None and self._queue and isinstance(self._queue[0], Request):
            self._edge.note_left(self._queue[0])
        self.close()
        super().connection_lost(exc)
        self._parser = None
        if self._request is not None:
            self._request.content.set_exception(exc or ConnectionResetError("Connection lost"))
        self._payload = EMPTY_PAYLOAD
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
            self.transport.write_eof()

    async def drain(self) -> None:
        """Wait until the client has taken what was written. Raises ConnectionError when it leaves meanwhile."""
        if self._paused:
            await self._drain_helper()

    def hand_over(self, protocol: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Give the transport, no longer read from, to `protocol`, with what the client sent behind its request.

        `protocol` passes `connection_lost` on. Raises ConnectionError when the client has left.
        """
        transport, tail = self.transport, self._upgrade_tail
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._upgrade_tail = b""
        transport.pause_reading()
        transport.set_protocol(protocol)
        return transport, tail

    # The parser.

    def _read_head(self, data: bytes, begun: list[Request | Exception]) -> bytes:
        """Read what `data` has of a head, and return what follows that. The request, or what is none, is added to `begun`."""
        if not data:
            return b""
        head = self._head + data
        end = end_of_head(head)
        refused = self._refused(head, end or len(head))
        if refused is None and not end:
            self._head = head
            return b""
        self._end_head()
        come = refused or self._parsed(head[:end])
        if isinstance(come, Exception):
            self._is_deaf = True
        begun.append(come)
        return head[end:]

    def _parsed(self, head: bytes) -> Request | Exception:
        """Feed the parser a head, and return the request that begins, or what is wrong with it."""
        try:
            messages = self._feed(head)
        except HttpProcessingError as error:
            return (named_method(head) if isinstance(error, BadHttpMethod) else None) or error
        if len(messages) != 1:  # the parser takes it for another one
            return HeadRefused("REQUEST_MALFORMED", "bad_request")
        message, self._payload = messages[0]
        request = Request.of(message, self._payload, self)
        if not self._payload.is_eof():
            self._body_left, self._tail = None if request.chunked else request.content_length, b""
        return request

    def _refused(self, head: bytes, size: int) -> Exception | None:
        """Tell why a head of this size, or what there is of it, is refused before the parser sees it."""
        if size > self._edge.limits.header_size:
            return HeadRefused("HEADERS_TOO_LARGE", "headers_too_large")
        if not is_request_line(head):
            return HeadRefused("REQUEST_MALFORMED", "proxy_protocol" if is_proxy_header(head) else "bad_request")
        return None

    def _end_head(self) -> None:
        self._head = b""
        if self._head_timer is not None:
            self._cancel_head_timer()

    def _read_body(self, data: bytes) -> bytes:
        """Read what `data` has of the newest body, and return what follows that.

        Nothing more is read behind a body in chunks if a trailer of it may have become a header of the next request.
        """
        piece = data if self._body_left is None else data[: self._body_left]
        try:
            following = self._feed(piece)
        except HttpProcessingError:  # aiohttp leaves the reader of this body waiting
            self._is_deaf = True
            self._payload.set_exception(RequestPayloadError())
            return b""
        if self._body_left is not None:
            self._body_left -= len(piece)
            return data[len(piece) :]
        self._tail = (self._tail + piece[-TAIL:])[-TAIL:]
        if following or (self._payload.is_eof() and not ends_plainly(self._tail)):
            self._is_deaf = True
        return b""

    def _feed(self, data: bytes) -> Sequence[tuple[Any, StreamReader]]:
        """Return the messages whose heads end in `data`. Raises HttpProcessingError."""
        assert self._parser is not None
        messages, self._upgraded, tail = self._parser.feed_data(data)
        if tail and self._upgraded:
            self._hold(tail)
        return messages

    def _hold(self, data: bytes) -> None:
        """Keep what came behind a request for another protocol."""
        self._upgrade_tail += data
        if len(self._upgrade_tail) >= HELD_BODY and not self._buffer_paused:
            self._pause_reading_for_buffer()

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

    def _begin_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._edge.limits.header_timeout, self._head_timed_out)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        self._is_deaf = True
        self._queue.append(HeadRefused("REQUEST_TIMEOUT", "header_timeout"))
        self._wake()


def _peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the peer, without its port; UNIX for a unix socket."""
    peer = transport.get_extra_info("peername")
    return unmapped(str(peer[0])) if isinstance(peer, tuple) else UNIX
