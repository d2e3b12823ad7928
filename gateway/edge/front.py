"""Where every request comes in: tells SDK traffic from the MPP's own API, gives each request exactly one answer and one record.

What is ambiguous is refused before it is routed. The handlers behind it return a `Reply` or raise `GatewayError`; a failure that nobody
foresaw becomes INTERNAL_ERROR.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import Final

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from gateway.edge import forwarded, target
from gateway.edge.answer import Answer, Reply, failure_answer, overloaded_answer
from gateway.edge.body import DISCARD_BYTES, ClientLeft, discard_body
from gateway.edge.connection import SLOW_READER, UNIX, Sender
from gateway.edge.exchange import ABORTED_STATUS, CLIENT_ABORT, SHUTDOWN, Exchange, Recorder, SdkRecord
from gateway.edge.forwarded import Caller, Fields, Trace, TrustedProxies
from gateway.edge.malformed import UnknownMethod
from gateway.edge.plain import FIELDS_KEPT, PlainLine, plain_request
from gateway.edge.request import Request
from gateway.edge.routing import COMMON_METHODS, SDK, Match, RouteTable
from gateway.edge.server import Refusal
from gateway.edge.shedding import AT_ONCE, LATE, LATER, Shedder, Work
from gateway.edge.strictness import END_OF_HEAD, check_framing
from gateway.edge.target import Target
from gateway.errors import OVERLOADED, GatewayError
from gateway.telemetry.metrics import Metrics

PATH_LOGGED: Final = 1024  # characters
# For what there is not: such failures cost little, and would be answered however much there is to do.
_NO_WORK: Final = frozenset(("NOT_FOUND", "METHOD_NOT_ALLOWED", "UNSUPPORTED_MEDIA_TYPE", "REQUEST_MALFORMED"))
_REJECTED: Final = {"REQUEST_TOO_LARGE": "body_too_large", "REQUEST_TIMEOUT": "body_timeout"}

_REFUSED: Final = SdkRecord()
_REFUSED.note_failure(OVERLOADED)

Handler = Callable[[Request, Exchange], Awaitable[Reply]]


class Arrival(Struct, frozen=True, eq=False):
    """What is known of a request when it is handled: where it goes, and who is calling. `is_draining` tells it at any later moment."""

    target: Target
    match: Match
    caller: Caller
    trace: Trace
    is_draining: Callable[[], bool]


ApiHandler = Callable[[Arrival, Request, Exchange], Awaitable[Reply]]


class Front:
    """Handles each request of the public listeners: `sdk` gets what lies below `prefix`, `api` what one of the `routes` takes.

    `sdk_target` is the target of the SDK's one resource: most requests are for it, and they need no more of routing than that it is exactly
    this. `takes_sdk` tells of the type (in lower case) and the size of a body whether it may be one for that. With `shedder` requests may
    be refused before anything else is begun for them; those with heads of more than `header_size` bytes are not.
    """

    def __init__(
        self,
        prefix: str,
        sdk: Handler,
        recorder: Recorder,
        metrics: Metrics,
        log: FilteringBoundLogger,
        *,
        sdk_target: str | None = None,
        takes_sdk: Callable[[str, int], bool] = lambda _type, _size: True,
        header_size: int = 16 * 1024,
        shedder: Shedder | None = None,
        api: ApiHandler | None = None,
        routes: RouteTable | None = None,
        trusted: TrustedProxies | None = None,
    ) -> None:
        self._routes = routes or RouteTable((), prefix)
        self._sdk = sdk
        self._sdk_target = sdk_target
        self._sdk_line = f"POST {sdk_target or ''} ".encode()
        self._takes_sdk = takes_sdk
        self._header_size = header_size
        self._shedder = shedder
        self._api = api
        self._trusted = trusted or TrustedProxies()
        self._recorder = recorder
        self._metrics = metrics
        self._log = log
        self._in_flight: dict[str, int] = {}
        self.draining = False

    @property
    def in_flight(self) -> int:
        """How many requests are being handled."""
        return sum(self._in_flight.values())

    def refuse(self, sender: Sender, data: bytes) -> Refusal | None:
        """While work is refused, refuse at once what a client has sent, if it is one request and nothing else can be said of it.

        It is for SDK calls by their one target, and for requests of the API. A part of the body may be missing, if it is not much: it may
        come behind the answer. The connection goes on, unless the request is its last one or the sender `is_new`. One that a proxy shares
        among clients is always heard, since what comes on it next is somebody else's.

        This takes less than half of what a refusal takes on the usual way (AT_ONCE, LATER), where all is prepared for more.
        """
        shedder = self._shedder
        if shedder is None or not shedder.is_shedding or self.draining or END_OF_HEAD not in data:
            return None
        is_sdk = data.startswith(self._sdk_line)
        work: Work = "sdk" if is_sdk else "api"
        if shedder.passes(work, is_new=sender.is_new):
            return None
        request = plain_request(data, self._header_size, sender.last_fields)
        if request is None or (request.missing and (request.missing > DISCARD_BYTES or request.is_last or sender.is_new)):
            return None
        line, fields = request.line, request.fields
        exchange = self._recorder.begin(line.method, sender.client, subject=sender.subject, version=line.version)
        exchange.started = sender.heard_at
        if self._trusted:
            self._meet(fields.raw_headers, sender, exchange, fields.host)
        if is_sdk:
            if not self._takes_sdk(fields.content_type, fields.size):
                return None
            exchange.route, exchange.sdk = SDK.label, _REFUSED
        elif not self._is_of_api(line, fields.host, exchange):
            return None
        sender.last_fields = fields if len(fields.text) <= FIELDS_KEPT else None
        shedder.refuse()
        is_last = request.is_last or sender.is_new
        answer, exchange.bytes_out = overloaded_answer(exchange.request_id, close=is_last)
        exchange.bytes_in = fields.size - request.missing
        exchange.status, exchange.failure, exchange.reason = OVERLOADED.http_status, OVERLOADED.code, LATE
        held = shedder.hold(work) if is_last or not self._is_shared(sender) else 0.0
        return Refusal(answer, held, is_last, request.missing, exchange)

    async def handle(self, request: Request) -> Reply:
        """Answer one request; the answer has been written when this returns.

        That is the end of the request, but what is left of a body that was refused unread is still read away.
        """
        exchange = self._begin(request)
        handler = self._receive(request, exchange)
        self._enter(exchange.route)
        try:
            answer = await self._answer(handler, request, exchange)
            if exchange.failure in _REJECTED:
                self._metrics.rejected(_REJECTED[exchange.failure]).inc()
            is_unread = await self._send(request, exchange, answer)
        except asyncio.CancelledError:
            exchange.reason = exchange.reason or SHUTDOWN
            raise
        finally:
            self._in_flight[exchange.route] -= 1
            if exchange.room and self._shedder is not None:
                self._shedder.room.written(exchange.room)
            exchange.bytes_in += request.content.total_bytes
            self._recorder.record(exchange)
        if is_unread:
            await self._read_away(request, answer)
        if request.connection.is_last:
            request.connection.close()
        if exchange.reason == LATE or exchange.failure in _NO_WORK:
            self._rest(request, exchange)
        return answer

    def note_unbegun(self, request: Request, reason: str) -> None:
        """Record a request that has not begun and never will: before it was its turn its client has left, or all has ended."""
        exchange = self._begin(request)
        exchange.started = request.connection.heard_at
        self._receive(request, exchange)
        if exchange.route == SDK.label:
            exchange.sdk = SdkRecord()
            exchange.sdk.note_failure(OVERLOADED)
        exchange.status, exchange.reason = ABORTED_STATUS if reason == CLIENT_ABORT else 0, reason
        exchange.bytes_in = request.content.total_bytes
        self._recorder.record(exchange)

    def _begin(self, request: Request) -> Exchange:
        connection = request.connection
        exchange = self._recorder.begin(request.method, connection.client, subject=connection.subject, version=request.version)
        exchange.started -= connection.waited
        return exchange

    def _receive(self, request: Request, exchange: Exchange) -> Handler:
        """Return what handles a request, which is a refusal for one that is malformed (faults A1 to A4, G4)."""
        if request.upgrade:
            request.connection.is_last = True  # what follows may be meant for another protocol (faults A15)
        reason = "bad_request"
        try:
            check_framing(request)
            if request.raw_path == self._sdk_target and not request.upgrade:
                self._arrive_at_sdk(request, exchange)
                return self._sdk
            reason = "bad_target"
            arrival = self._arrive(request, exchange)
        except GatewayError as error:
            if error.failure.code == "REQUEST_MALFORMED":
                self._metrics.rejected(reason).inc()
                if reason == "bad_request":  # before it was asked who is calling
                    self._meet(request.raw_headers, request.connection, exchange, "")
                exchange.path = None
                request.connection.is_last = True
            return _refusal(error)
        if arrival.match.is_sdk:
            exchange.path = None
            return self._sdk
        if arrival.match.route is None or self._api is None:
            return _not_found
        return partial(self._api, arrival)

    def _arrive_at_sdk(self, request: Request, exchange: Exchange) -> None:
        exchange.route = SDK.label
        if self._trusted:
            self._meet(request.raw_headers, request.connection, exchange, request.headers.get("Host", ""))

    def _arrive(self, request: Request, exchange: Exchange) -> Arrival:
        host = request.headers.get("Host", "")
        caller, trace = self._meet(request.raw_headers, request.connection, exchange, host)
        asked, match = self._locate(request.raw_path, request.method, host, exchange)
        self._routes.demand(match, asked, host)
        return Arrival(asked, match, caller, trace, self._is_draining)

    def _is_of_api(self, line: PlainLine, host: str, exchange: Exchange) -> bool:
        """Tell whether a request has a route of the API, and learn of it what is logged and counted."""
        try:
            _, match = self._locate(line.raw_path, line.method, host, exchange)
        except GatewayError:
            return False
        return match.route is not None and self._api is not None

    def _locate(self, raw_path: str, method: str, host: str, exchange: Exchange) -> tuple[Target, Match]:
        asked, match = self._routes.locate(raw_path, method, host)
        exchange.path, exchange.route = loggable_path(asked.path), match.label
        return asked, match

    def _meet(self, fields: Fields, sender: Sender, exchange: Exchange, host: str) -> tuple[Caller, Trace]:
        """Learn who is calling."""
        headers = forwarded.claims(fields) if self._trusted else ()
        scheme = "https" if sender.is_secure else "http"
        peer = None if exchange.client == UNIX else exchange.client
        caller = forwarded.caller(headers, self._trusted, peer=peer, scheme=scheme, host=host)
        exchange.client = caller.address or UNIX
        exchange.request_id = forwarded.request_id(headers, is_trusted=caller.is_trusted, fresh=exchange.request_id)
        exchange.scheme = caller.proto
        trace = forwarded.trace(
            headers,
            is_trusted=caller.is_trusted,
            trace_id=exchange.trace_id,
            span_id=exchange.upstream_span_id,
            is_sampled=exchange.is_sampled,
        )
        exchange.trace_id, exchange.is_sampled = trace.trace_id, trace.is_sampled
        exchange.parent_id, exchange.tracestate = trace.parent_id, trace.tracestate
        return caller, trace

    def _rest(self, request: Request, exchange: Exchange) -> None:
        """While work is refused, do not hear a client for a while that has just been refused: no more of the time is to go into refusals.

        Nor is one heard that asked for what there is not: that is answered however much there is to do. These wait as calls do.
        """
        shedder, connection = self._shedder, request.connection
        if shedder is None:
            return
        is_late, cost = exchange.reason == LATE, LATER
        if not is_late:
            shedder.spend(cost := AT_ONCE)
        if shedder.is_shedding and not connection.is_last and not self._is_shared(connection):
            connection.rest(shedder.hold("api" if is_late and exchange.route != SDK.label else "sdk", cost))

    def _is_shared(self, sender: Sender) -> bool:
        """Tell whether a connection is a proxy's, which sends the requests of many on it."""
        return sender.client == UNIX or self._trusted.trusts(sender.client)

    def _is_draining(self) -> bool:
        return self.draining

    def unknown_method(self, sdk: Callable[[str, Exchange], GatewayError]) -> UnknownMethod:
        """Return how a method that the parser does not know is refused: as `sdk` says below its prefix, else as not routed."""

        def refuse(method: str, path: str, exchange: Exchange) -> GatewayError:
            try:
                asked = target.parse(path)
                match = self._routes.match(asked, method, "")
            except GatewayError as error:
                return error
            exchange.route = match.label
            if match.is_sdk:
                return sdk(path, exchange)
            exchange.path = loggable_path(asked.path)
            if match.route is None:
                return GatewayError("NOT_FOUND", "no route")
            return GatewayError("METHOD_NOT_ALLOWED", "method", headers=(("Allow", ", ".join(COMMON_METHODS)),))

        return refuse

    async def _answer(self, handler: Handler, request: Request, exchange: Exchange) -> Reply:
        try:
            return await handler(request, exchange)
        except GatewayError as error:
            error.__traceback__ = None  # it refers to the handler, which may hold this failure
            exchange.reason, exchange.failure = error.reason, error.failure.code
            return failure_answer(error, exchange.request_id, close=error.failure.http_status in (408, 413))
        except ClientLeft:
            exchange.reason = CLIENT_ABORT
            return Answer(ABORTED_STATUS, b"", exchange.request_id, close=True)
        except Exception:  # noqa: BLE001  whatever it is, the client gets the one answer for a bug
            self._log.exception("a request failed for a reason of our own", request_id=exchange.request_id, trace_id=exchange.trace_id)
            exchange.reason, exchange.failure = "internal error", "INTERNAL_ERROR"
            return failure_answer(GatewayError("INTERNAL_ERROR", "internal error"), exchange.request_id, close=True)

    async def _send(self, request: Request, exchange: Exchange, answer: Reply) -> bool:
        """Write the answer. Return whether the body was refused unread, and the client sends it all the same."""
        connection = request.connection
        refused_unread = not request.content.is_eof()
        unasked = refused_unread and expects_continue(request) and not (connection.is_asked or request.content.total_bytes)
        goes_on = not (unasked or connection.is_last or (refused_unread and request.chunked))  # behind such chunks nothing more is read
        answer.close = answer.close or (self.draining and not answer.has_begun) or not goes_on
        exchange.status = answer.status
        try:
            rest = answer.send(request)
            if rest is not None:
                await rest
            if connection.writing_paused:
                await connection.drain()
        except ConnectionError:
            answer.sent = False
        finally:
            exchange.bytes_out = answer.size
        if connection.is_slow:
            exchange.reason = SLOW_READER
        elif not answer.sent:
            exchange.reason = CLIENT_ABORT
        else:
            return refused_unread and not unasked
        return False

    async def _read_away(self, request: Request, answer: Reply) -> None:
        connection = request.connection
        if not answer.keep_alive:
            connection.end_writing()
        if not await discard_body(request, inf if self._is_shared(connection) else DISCARD_BYTES):
            connection.close()

    def _enter(self, route: str) -> None:
        if route not in self._in_flight:
            self._in_flight[route] = 0
            self._metrics.in_flight(route).set_function(lambda: self._in_flight[route])
        self._in_flight[route] += 1


async def _not_found(_request: Request, _exchange: Exchange) -> Answer:
    raise GatewayError("NOT_FOUND", "no route")


def _refusal(error: GatewayError) -> Handler:
    async def refuse(_request: Request, _exchange: Exchange) -> Answer:
        raise error

    return refuse


def loggable_path(path: str) -> str:
    """Return a raw path, bounded, as it is logged. It is visible ASCII: other targets are refused."""
    return path[:PATH_LOGGED]


def expects_continue(request: Request) -> bool:
    """Whether the client waits for `100 Continue` before it sends its body (RFC 9110, 10.1.1)."""
    return request.version >= (1, 1) and request.headers.get("Expect", "").strip().lower() == "100-continue"


def send_continue(request: Request) -> None:
    """Ask for the body of a request that waits for it. The server itself never does: the session is checked first."""
    if not request.content.is_eof() and expects_continue(request):
        request.connection.ask_for_body()
