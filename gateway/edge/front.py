"""Where every request comes in: tells SDK traffic from the MPP's own API, gives each request exactly one answer and one record.

The handlers behind it return an `Answer` or raise `GatewayError`; a failure that nobody foresaw becomes INTERNAL_ERROR.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway.edge.answer import Answer, failure_answer
from gateway.edge.body import ClientLeft, discard_body
from gateway.edge.exchange import ABORTED_STATUS, CLIENT_ABORT, Exchange, Recorder
from gateway.edge.server import Connection, client_address
from gateway.errors import GatewayError
from gateway.telemetry.metrics import Metrics

SDK_ROUTE: Final = "sdk"
PATH_LOGGED: Final = 1024  # characters

SdkHandler = Callable[[web.BaseRequest, Exchange], Awaitable[Answer]]


class Front:
    """Handles each request of the public listeners; `sdk` gets what lies below `prefix`."""

    def __init__(self, prefix: str, sdk: SdkHandler, recorder: Recorder, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._prefix = prefix
        self._sdk = sdk
        self._recorder = recorder
        self._metrics = metrics
        self._log = log
        self.in_flight = 0
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    async def handle(self, request: web.BaseRequest) -> Answer:
        """Answer one request; the answer has been written when this returns."""
        exchange = Exchange(method=request.method, client=client_address(request.protocol))
        exchange.route = self.route(request.raw_path)
        gauge = self._metrics.in_flight(exchange.route)
        gauge.inc()
        self._enter()
        try:
            answer = await self._answer(request, exchange)
            await self._send(request, exchange, answer)
        except asyncio.CancelledError:
            exchange.reason = exchange.reason or "shutdown"
            raise
        finally:
            gauge.dec()
            self._leave()
            exchange.bytes_in = request.content.total_bytes
            self._recorder.record(exchange)
        return answer

    def route(self, path: str) -> str:
        """Return the name of the route of a raw request target: `sdk`, or `none`."""
        prefix = self._prefix
        below = path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/", "?")
        return SDK_ROUTE if below else "none"

    def unknown_method(self, sdk: Callable[[str, Exchange], GatewayError]) -> Callable[[str, Exchange], GatewayError]:
        """Return how a method that the parser does not know is refused: as `sdk` says below its prefix, else as not found."""

        def refuse(path: str, exchange: Exchange) -> GatewayError:
            exchange.route = self.route(path)
            if exchange.route == SDK_ROUTE:
                return sdk(path, exchange)
            exchange.path = loggable_path(path)
            return GatewayError("NOT_FOUND", "no route")

        return refuse

    async def _answer(self, request: web.BaseRequest, exchange: Exchange) -> Answer:
        try:
            return await self._handler(exchange)(request, exchange)
        except GatewayError as error:
            exchange.reason = error.reason
            return failure_answer(error, exchange.request_id, close=error.failure.http_status in (408, 413))
        except ClientLeft:
            exchange.reason = CLIENT_ABORT
            return Answer(ABORTED_STATUS, b"", exchange.request_id, close=True)
        except Exception:  # noqa: BLE001  whatever it is, the client gets the one answer for a bug
            self._log.exception("a request failed for a reason of our own", request_id=exchange.request_id)
            exchange.reason = "internal error"
            return failure_answer(GatewayError("INTERNAL_ERROR", "internal error"), exchange.request_id, close=True)

    def _handler(self, exchange: Exchange) -> SdkHandler:
        return self._sdk if exchange.route == SDK_ROUTE else _not_found

    async def _send(self, request: web.BaseRequest, exchange: Exchange, answer: Answer) -> None:
        refused_unread = not request.content.is_eof()
        unasked = refused_unread and expects_continue(request)
        answer.close = answer.close or self.draining or unasked
        exchange.status = answer.status
        try:
            await answer.prepare(request)
        except ConnectionError:
            answer.sent = False
        exchange.bytes_out = answer.size
        if not answer.sent:
            exchange.reason = CLIENT_ABORT
        elif refused_unread and not unasked and not await discard_body(request):
            self._close(request)

    def _close(self, request: web.BaseRequest) -> None:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.close()

    def _enter(self) -> None:
        self.in_flight += 1
        self.idle.clear()

    def _leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()


async def _not_found(request: web.BaseRequest, exchange: Exchange) -> Answer:
    exchange.path = loggable_path(request.raw_path)
    raise GatewayError("NOT_FOUND", "no route")


def loggable_path(target: str) -> str:
    """Return the path of a raw request target without its query, bounded, with bytes that are no UTF-8 escaped."""
    return target.partition("?")[0][:PATH_LOGGED].encode("utf-8", "backslashreplace").decode()


def expects_continue(request: web.BaseRequest) -> bool:
    """Whether the client waits for `100 Continue` before it sends its body (RFC 9110, 10.1.1)."""
    return request.version >= (1, 1) and request.headers.get("Expect", "").strip().lower() == "100-continue"


def send_continue(request: web.BaseRequest) -> None:
    """Ask for the body of a request that waits for it. The server itself never does: the session is checked first."""
    transport = request.transport
    if transport is not None and not request.content.is_eof() and expects_continue(request):
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
