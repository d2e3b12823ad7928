"""A request for the MPP's own API: bounded, its session checked as its route says, then forwarded.

The order of refusals: declared length, handshake, overload, credentials, session; the upstream is dialled after that.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final, Protocol

from gateway.edge.exchange import Exchange
from gateway.edge.front import Arrival
from gateway.edge.request import Request
from gateway.edge.routes import Route
from gateway.edge.shedding import Share
from gateway.passthrough.forward import Forward
from gateway.passthrough.handshake import asks_for_websocket
from gateway.passthrough.headers import block_of
from gateway.passthrough.reply import Streamed
from gateway.passthrough.upload import announced_body
from gateway.passthrough.ways import Way
from gateway.session import Check, Identity, RawHeaders, Work, identity_or_refusal
from gateway.telemetry.metrics import Metrics

ANONYMOUS: Final = ("missing", "denied")


class SessionCheck(Protocol):
    """Tells whether a caller is logged in (`gateway.session.Sessions`)."""

    async def check(self, headers: RawHeaders, work: Work, *, request_id: str, traceparent: Callable[[], str]) -> Check:
        """Check the login of a request with these headers."""


class Passthrough:
    """Handles every request that a route takes; `ways` has each route.

    `subject_header` is where the upstream gets the subject of a client certificate, if it is to get that. `share` refuses requests that
    may not begin now, and is told of those that need nothing for long: an answer that has begun, a request body that comes piece by piece.
    """

    def __init__(
        self,
        ways: Mapping[Route, Way],
        sessions: SessionCheck,
        metrics: Metrics,
        *,
        identity_header: str,
        subject_header: str | None = None,
        share: Share,
    ) -> None:
        self._ways = dict(ways)
        self._sessions = sessions
        self._metrics = metrics
        self._identity_header = identity_header.encode()
        self._share = share
        self._subject_header = subject_header.encode() if subject_header is not None else None

    async def handle(self, arrival: Arrival, request: Request, exchange: Exchange) -> Streamed:
        """Return the answer, which has been written. Raises GatewayError and ClientLeft where none has been begun."""
        route = arrival.match.route
        assert route is not None
        way = self._ways[route]
        body = announced_body(request, way.max_body)
        is_upgrade = asks_for_websocket(request)
        self._share.begin(0)
        try:
            identity = await self._identity(route, request, exchange) if route.session != "none" else b""
        except BaseException:
            self._share.end(0)
            raise
        if self._subject_header is not None and exchange.subject is not None:
            identity += block_of([(self._subject_header, exchange.subject.encode("ascii"))])
        forward = Forward(request, exchange, arrival, way, body=body, identity=identity, is_upgrade=is_upgrade, share=self._share)
        return await forward.run()

    async def _identity(self, route: Route, request: Request, exchange: Exchange) -> bytes:
        """Return the block that tells the upstream who is calling: none where nobody is and need not be."""
        begun = monotonic()
        headers, traceparent = request.raw_headers, exchange.session_traceparent
        check = await self._sessions.check(headers, "api", request_id=exchange.request_id, traceparent=traceparent)
        exchange.note_session(begun, monotonic(), check.outcome, check.source, check.status)
        self._metrics.session_checks(check.outcome, check.source).inc()
        if route.session == "optional" and check.outcome in ANONYMOUS:
            return b""
        return identity_block(self._identity_header, identity_or_refusal(check))


def identity_block(header: bytes, identity: Identity) -> bytes:
    """Return the identity as a block of fields: the customer id, and what else the auth service gave."""
    fields = [(header, identity.customer_id.encode("ascii"))]
    if identity.headers:
        fields += [(name.encode("ascii"), value.encode("latin-1")) for name, value in identity.headers]
    return block_of(fields)
