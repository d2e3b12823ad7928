"""The HTTP server towards clients: aiohttp's low-level server with the limits and the error answers that it lacks.

What the parser refuses never reaches a handler; it is answered here, in the one shape of failures, logged in one line and counted
in `gateway_rejected_total`. The parser must be aiohttp's C parser (faults E8).
"""

import asyncio
import re
import select
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import http_parser, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.edge.answer import Reply, failure_answer
from gateway.edge.exchange import Exchange, Recorder
from gateway.edge.receiver import Receiver
from gateway.edge.stall import HOLD_NOTHING, StallWatch
from gateway.edge.strictness import TAIL, ends_plainly, is_proxy_header, is_request_line
from gateway.edge.tls import subject
from gateway.errors import GatewayError
from gateway.telemetry.metrics import Metrics

MAX_FIELDS: Final = 100
SLOW_READER: Final = "slow_reader"
UNIX: Final = "unix"
HELD_BODY: Final = 8 * 1024  # of a body that nobody reads; reading pauses above twice as much, and one read comes on top
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) (/[!-~]*) HTTP/1\.[01]\r\n")

Handler = Callable[[web.BaseRequest], Awaitable[Reply]]
UnknownMethod = Callable[[str, str, Exchange], GatewayError]  # method, target


class ParserMissing(RuntimeError):
    """aiohttp runs on its pure Python parser, which the smuggling advisories concern."""


def require_c_parser() -> None:
    """Raise ParserMissing unless aiohttp parses requests in C."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ParserMissing("aiohttp runs without its C parser: install a build of aiohttp with extensions for this platform")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of one connection: bytes of a request's head, seconds to send it, between requests, and without taking of an answer."""

    header_size: int
    header_timeout: float
    idle_timeout: float
    write_idle_timeout: float = 30.0


class HeadRefused(Exception):
    """A request head was refused before the parser had it whole. `reason` is a value of gateway_rejected_total."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class EdgeServer(web.Server):
    """Makes a `Connection` for each client. `unknown_method` says how a method outside the parser's list is answered on a path.

    `open` is the number of connections, and `on_closed` is called when one has closed.
    """

    def __init__(self, handler: Handler, limits: ServerLimits, recorder: Recorder, metrics: Metrics, unknown_method: UnknownMethod) -> None:
        super().__init__(
            cast("Any", handler),
            handler_cancellation=False,
            keepalive_timeout=limits.idle_timeout,
            lingering_time=0,  # the handler itself discards what is left of a body
            auto_decompress=False,
            access_log=None,
            max_line_size=limits.header_size,
            max_field_size=limits.header_size,
            max_headers=MAX_FIELDS,
            read_bufsize=HELD_BODY,
        )
        self.limits = limits
        self.recorder = recorder
        self.metrics = metrics
        self.unknown_method = unknown_method
        self.draining = False
        self.open = 0
        self.on_closed: Callable[[], None] = lambda: None

    def __call__(self) -> Receiver:  # type: ignore[override]  # the same to the event loop
        """Return the protocol of a new connection."""
        return self.receiver(None)

    def receiver(self, client: str | None) -> Receiver:
        """Return the protocol of a new connection; `client` is the client's address if it is not the peer's (PROXY protocol)."""
        return Receiver(Connection(self, client, loop=self._loop, **self._kwargs))

    def close_idle(self) -> None:
        """Close the connections on which no request has begun, as far as that can be known here."""
        for connection in tuple(self.connections):
            if isinstance(connection, Connection) and connection.is_idle:
                connection.force_close()

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection that opens."""
        self.open += 1
        self.metrics.connections.inc()
        super().connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Count a connection that closes."""
        self.open -= 1
        self.metrics.connections.dec()
        super().connection_lost(handler, exc)
        self.on_closed()


class Connection(RequestHandler):
    """One client's connection: bounds the head of each request in size and time, and renders what the parser refuses.

    `is_last`: the request in hand is the last one. `is_slow`: the client did not take its answer and was cut off. `on_lost`, if it is
    set, is called when the connection ends: a handler is not told otherwise. `client` is the client's address, or UNIX, and `subject`
    that of its certificate, if it has shown one. `heard_at` is when bytes came last, on the loop's clock.
    """

    __slots__ = (
        "_at_start", "_edge", "_head_bytes", "_head_timer", "_is_chunked", "_payload", "_refused", "_stall", "_tail",
        "client", "heard_at", "is_last", "is_slow", "on_lost", "subject",
    )  # fmt: skip

    def __init__(self, edge: EdgeServer, client: str | None = None, **kwargs: Any) -> None:
        super().__init__(edge, **kwargs)
        self._edge = edge
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._payload: Any = EMPTY_PAYLOAD  # the body of the newest message that the parser has seen
        self._is_chunked = False  # that body
        self._tail = b""  # its last bytes
        self._at_start = True  # what comes next surely begins a message
        self._refused = False
        self._stall = StallWatch(edge.limits.write_idle_timeout, self._stalled)
        self.is_last = False
        self.is_slow = False
        self.on_lost: Callable[[], None] | None = None
        self.client = client or UNIX
        self.subject: str | None = None
        self.heard_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight on the connection, none has come in part, and nothing waits to be read."""
        return self._waiter is not None and not self._messages and not self._head_bytes and not self._has_come()

    def _has_come(self) -> bool:
        if self.transport is None:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hold nothing that is written unless the client is slow."""
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=HOLD_NOTHING)
        if self.client == UNIX:
            self.client = _peer_address(transport)
        self.subject = subject(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head that `data` belongs to is over its limit."""
        if self._refused:
            return
        self.heard_at = self._loop.time()
        if self._upgraded:  # another protocol follows, if it is agreed upon
            super().data_received(data)
            return
        in_head = self._payload.is_eof()
        if in_head:
            refused = self._refuse_head(data)
            if refused is not None:
                self._refuse(refused)
                return
        seen = self._request_count
        super().data_received(data)
        if self._is_chunked:
            self._watch_end(data, self._request_count - seen)
        if self._request_count != seen:
            self._head_complete(data, self._request_count - seen)
        elif in_head and data:
            self._at_start = False
            self._head_bytes += len(data)
            self._begin_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the timers, and tell who wants to know."""
        self._cancel_head_timer()
        self._stall.end()
        super().connection_lost(exc)
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

    def hand_over(self, protocol: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Give the transport, no longer read from, to `protocol`, with what the client sent behind its request.

        `protocol` passes `connection_lost` on. Raises ConnectionError when the client has left.
        """
        transport, tail = self.transport, self._message_tail
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._message_tail = b""
        transport.pause_reading()
        transport.set_protocol(protocol)
        return transport, tail

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser refused. The parser's words, which quote the client, go nowhere."""
        _ = status, message, request
        exchange = self._edge.recorder.begin("other", self.client)
        error, reason = self._failure(exc, exchange)
        exchange.status, exchange.reason, exchange.failure = error.failure.http_status, error.reason, error.failure.code
        self._edge.metrics.rejected(reason).inc()
        answer = failure_answer(error, exchange.request_id, close=True)
        exchange.bytes_out = len(answer.body)
        self._edge.recorder.record(exchange)
        return cast("web.StreamResponse", answer)

    def _failure(self, exc: BaseException | None, exchange: Exchange) -> tuple[GatewayError, str]:
        if isinstance(exc, _UnknownMethod):
            return self._edge.unknown_method(exc.method, exc.target, exchange), "bad_request"
        if isinstance(exc, HeadRefused):
            return GatewayError(exc.code, exc.reason), exc.reason
        if isinstance(exc, LineTooLong) or (exc is not None and "Too many headers" in str(exc)):
            return GatewayError("HEADERS_TOO_LARGE", "headers_too_large"), "headers_too_large"
        return GatewayError("REQUEST_MALFORMED", "bad_request"), "bad_request"

    def _refuse_head(self, data: bytes) -> HeadRefused | None:
        if self._head_bytes + len(data) > self._edge.limits.header_size and not self._head_fits(data):
            return HeadRefused("HEADERS_TOO_LARGE", "headers_too_large")
        if self._at_start and not is_request_line(data):
            return HeadRefused("REQUEST_MALFORMED", "proxy_protocol" if is_proxy_header(data) else "bad_request")
        return None

    def _head_fits(self, data: bytes) -> bool:
        """Whether the head ends within its limit in `data`: what follows is body, or the next request."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._head_bytes + end + 4 <= self._edge.limits.header_size

    def _head_complete(self, data: bytes, count: int) -> None:
        """Take that `data` has brought so many heads to their end."""
        self._cancel_head_timer()
        self._head_bytes = 0
        if len(self._messages) < count:
            self._payload = EMPTY_PAYLOAD
            return
        interrupted = None if self._payload.is_eof() else self._payload
        for position in range(-count, 0):
            message, self._payload = self._messages[position]
            if not isinstance(message, _ErrInfo):
                self._begin_body(data, is_chunked=message.chunked, following=-position - 1)
            elif isinstance(message.exc, BadHttpMethod):
                self._name_unknown_method(data, message)
            elif interrupted is not None:  # aiohttp leaves the reader of this body waiting
                self.is_last = True
                interrupted.set_exception(web.RequestPayloadError())
        self._at_start = self._payload is EMPTY_PAYLOAD and data.endswith(b"\r\n\r\n")

    def _begin_body(self, data: bytes, *, is_chunked: bool, following: int) -> None:
        self._is_chunked = is_chunked
        if is_chunked:
            self._tail = b""
            self._watch_end(data, following)

    def _watch_end(self, data: bytes, following: int) -> None:
        """Make a request the last one if a trailer of its body may have become a header of the next."""
        self._tail = (self._tail + data[-TAIL:])[-TAIL:]
        if self._payload.is_eof():
            self._is_chunked = False
            self.is_last = self.is_last or bool(following) or not ends_plainly(self._tail)

    def _name_unknown_method(self, data: bytes, message: _ErrInfo) -> None:
        """Tell a request whose only fault is a method that the parser does not know from one that is no HTTP."""
        line = _REQUEST_LINE.match(data)
        if line:
            self._messages[-1] = (
                _ErrInfo(message.status, _UnknownMethod(line[1].decode("ascii"), line[2].decode("ascii")), ""),
                EMPTY_PAYLOAD,
            )

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
        self._refuse(HeadRefused("REQUEST_TIMEOUT", "header_timeout"))

    def _refuse(self, refused: HeadRefused) -> None:
        self._refused = True
        self._cancel_head_timer()
        self._request_count += 1
        self._messages.append((_ErrInfo(400, refused, refused.reason), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _UnknownMethod(Exception):
    def __init__(self, method: str, target: str) -> None:
        super().__init__(method, target)
        self.method = method
        self.target = target


def _peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the peer, without its port; UNIX for a unix socket."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else UNIX
