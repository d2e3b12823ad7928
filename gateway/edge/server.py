"""The HTTP server towards clients: aiohttp's low-level server with the limits and the error answers that it lacks.

What the parser refuses never reaches a handler; it is answered here, in the one shape of failures, logged in one line and counted
in `gateway_rejected_total`. The parser must be aiohttp's C parser (faults E8).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import http_parser, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.edge.answer import Answer, failure_answer
from gateway.edge.exchange import Exchange, Recorder
from gateway.errors import GatewayError
from gateway.telemetry.metrics import Metrics

MAX_FIELDS: Final = 100
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} (/[!-~]*) HTTP/1\.[01]\r\n")

Handler = Callable[[web.BaseRequest], Awaitable[Answer]]
UnknownMethod = Callable[[str, Exchange], GatewayError]


class ParserMissing(RuntimeError):
    """aiohttp runs on its pure Python parser, which the smuggling advisories concern."""


def require_c_parser() -> None:
    """Raise ParserMissing unless aiohttp parses requests in C."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ParserMissing("aiohttp runs without its C parser: install a build of aiohttp with extensions for this platform")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of one connection: bytes of a request's head, seconds to send it, seconds between requests."""

    header_size: int
    header_timeout: float
    idle_timeout: float


class HeadRefused(Exception):
    """A request head was refused before the parser had it whole. `reason` is a value of gateway_rejected_total."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class EdgeServer(web.Server):
    """Makes a `Connection` for each client. `unknown_method` says how a method outside the parser's list is answered on a path."""

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
        )
        self.limits = limits
        self.recorder = recorder
        self.metrics = metrics
        self.unknown_method = unknown_method
        self.draining = False

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection that opens."""
        self.metrics.connections.inc()
        super().connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Count a connection that closes."""
        self.metrics.connections.dec()
        super().connection_lost(handler, exc)


class Connection(RequestHandler):
    """One client's connection: bounds the head of each request in size and time, and renders what the parser refuses."""

    __slots__ = ("_edge", "_head_bytes", "_head_timer", "_payload", "_refused")

    def __init__(self, edge: EdgeServer, **kwargs: Any) -> None:
        super().__init__(edge, **kwargs)
        self._edge = edge
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._payload: Any = EMPTY_PAYLOAD  # the body of the newest message that the parser has seen
        self._refused = False

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head that `data` belongs to is over its limit."""
        if self._refused:
            return
        in_head = self._payload.is_eof()
        if in_head and self._head_bytes + len(data) > self._edge.limits.header_size and not self._head_fits(data):
            self._refuse(HeadRefused("HEADERS_TOO_LARGE", "headers_too_large"))
            return
        seen = self._request_count
        super().data_received(data)
        if self._request_count != seen:
            self._head_complete(data)
        elif in_head:
            self._head_bytes += len(data)
            self._begin_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the timer."""
        self._cancel_head_timer()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser refused. The parser's words, which quote the client, go nowhere."""
        _ = status, message, request
        exchange = Exchange(method="other", client=client_address(self))
        error, reason = self._failure(exc, exchange)
        exchange.status, exchange.reason = error.failure.http_status, error.reason
        self._edge.metrics.rejected(reason).inc()
        answer = failure_answer(error, exchange.request_id, close=True)
        exchange.bytes_out = len(answer.body)
        self._edge.recorder.record(exchange)
        return cast("web.StreamResponse", answer)

    def _failure(self, exc: BaseException | None, exchange: Exchange) -> tuple[GatewayError, str]:
        if isinstance(exc, _UnknownMethod):
            return self._edge.unknown_method(exc.path, exchange), "bad_request"
        if isinstance(exc, HeadRefused):
            return GatewayError(exc.code, exc.reason), exc.reason
        if isinstance(exc, LineTooLong) or (exc is not None and "Too many headers" in str(exc)):
            return GatewayError("HEADERS_TOO_LARGE", "headers_too_large"), "headers_too_large"
        return GatewayError("REQUEST_MALFORMED", "bad_request"), "bad_request"

    def _head_fits(self, data: bytes) -> bool:
        """Whether the head ends within its limit in `data`: what follows is body, or the next request."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._head_bytes + end + 4 <= self._edge.limits.header_size

    def _head_complete(self, data: bytes) -> None:
        self._cancel_head_timer()
        self._head_bytes = 0
        if self._messages:
            message, self._payload = self._messages[-1]
            if isinstance(message, _ErrInfo) and isinstance(message.exc, BadHttpMethod):
                self._name_unknown_method(data, message)
        else:
            self._payload = EMPTY_PAYLOAD

    def _name_unknown_method(self, data: bytes, message: _ErrInfo) -> None:
        """Tell a request whose only fault is a method that the parser does not know from one that is no HTTP."""
        line = _REQUEST_LINE.match(data)
        if line:
            self._messages[-1] = (_ErrInfo(message.status, _UnknownMethod(line[1].decode("ascii")), ""), EMPTY_PAYLOAD)

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
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def client_address(connection: BaseProtocol) -> str:
    """Return the address of the peer, without its port; `unix` for a unix socket."""
    transport = connection.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else "unix"
