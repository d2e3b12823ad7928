"""The spans of a request that has ended, made from its record: one for itself and one for each of its phases.

Names and attributes are OpenTelemetry's semantic conventions for HTTP where they say something, else `gateway.*` and `alipayplus.*`. They
hold what the access log may hold: no header, no query, no customer, neither of the two SDK strings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from os import urandom
from time import time_ns
from typing import Final

from gateway.edge.exchange import ABORTED_STATUS, Exchange
from gateway.edge.routing import SDK
from gateway.errors import FAILURES
from gateway.telemetry.metrics import method_label
from gateway.telemetry.spans import Attributes, Export, Kind, Sampler, Span, Trace

VERSION: Final = "1.1"
"""Of HTTP, towards all peers."""

_SERVER_ERROR: Final = 500
_ERROR: Final = 400
_FAILED_IN: Final = {
    "SESSION_UNAVAILABLE": ("session",),
    "OVERLOADED": ("queue",),
    "ALIPAYPLUS_UNREACHABLE": ("alipayplus",),
    "ALIPAYPLUS_TIMEOUT": ("alipayplus",),
    "ALIPAYPLUS_CONNECTION_LOST": ("alipayplus",),
    "ALIPAYPLUS_RESPONSE_INVALID": ("verify", "alipayplus"),
    "ALIPAYPLUS_SIGNATURE_INVALID": ("verify",),
    "UPSTREAM_UNREACHABLE": ("upstream",),
    "UPSTREAM_UNAVAILABLE": ("upstream",),
    "UPSTREAM_TIMEOUT": ("upstream",),
    "UPSTREAM_CONNECTION_LOST": ("upstream",),
    "UPSTREAM_RESPONSE_INVALID": ("upstream",),
}
"""In which phase a failure happened: the first of these that the request came to."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for all requests of a gateway.

    The scheme of its listeners, the target of the SDK's one resource, the attributes of a call to the auth service (without the URL's
    query), and the path of Alipay+'s resource.
    """

    scheme: str
    sdk_target: str
    session_call: Attributes
    alipayplus_uri: str


class Tracing:
    """Takes a share of the requests, and those whose caller wants them taken; gives their spans to `export` when they have ended."""

    def __init__(self, share: float, surroundings: Surroundings, export: Export) -> None:
        self.samples = Sampler(share)
        self._surroundings = surroundings
        self._export = export

    def take(self, exchange: Exchange, ended: float) -> None:
        """Make the spans of a request that ended at `ended` (monotonic seconds), just now."""
        spans = tuple(request_spans(exchange, self._surroundings, ended, time_ns()))
        self._export(Trace(exchange.trace_id, exchange.tracestate, spans))


def request_spans(exchange: Exchange, surroundings: Surroundings, ended: float, now: int) -> Iterator[Span]:
    """Yield the spans of a request that ended at `ended` (monotonic seconds), which was `now` (UNIX nanoseconds)."""

    def at(moment: float) -> int:
        return now - round((ended - moment) * 1e9)

    attributes = _server_attributes(exchange, surroundings)
    yield Span(
        _name(attributes),
        "server",
        exchange.span_id,
        exchange.parent_id,
        at(exchange.started),
        now,
        attributes,
        exchange.reason or "" if "error.type" in attributes else None,
    )
    failed = _failed_phase(exchange)
    for phase, (began, until) in exchange.phases.items():
        kind, span_id, attributes = _phase(phase, exchange, surroundings)
        error = "" if "error.type" in attributes else None
        if phase == failed:
            attributes["error.type"] = exchange.failure or ""
            error = exchange.reason or ""
        yield Span(phase, kind, span_id, exchange.span_id, at(began), at(until), attributes, error)


def _name(attributes: Attributes) -> str:
    method, route = str(attributes["http.request.method"]).replace("_OTHER", "HTTP"), attributes.get("http.route")
    return f"{method} {route}" if route else method


def _server_attributes(exchange: Exchange, surroundings: Surroundings) -> Attributes:
    attributes: Attributes = {
        "http.request.method": _method(exchange),
        "url.scheme": exchange.scheme or surroundings.scheme,
        "gateway.request_id": exchange.request_id,
    }
    path, route = _path_and_route(exchange, surroundings)
    optional: tuple[tuple[str, str | int | None], ...] = (
        ("url.path", path),
        ("http.route", route),
        ("http.response.status_code", exchange.status if exchange.status != ABORTED_STATUS else None),
        ("network.protocol.version", ".".join(map(str, exchange.version))),
        ("client.address", exchange.client if exchange.client != "unix" else None),
        ("gateway.reason", exchange.reason),
        ("error.type", _server_error(exchange)),
    )
    attributes.update((name, value) for name, value in optional if value)
    if exchange.sdk is not None:
        attributes.update(_sdk_attributes(exchange))
    return attributes


def _path_and_route(exchange: Exchange, surroundings: Surroundings) -> tuple[str | None, str | None]:
    """Return the path, where it may be shown, and the route. Of the SDK's there is one resource; what else is asked for is not shown."""
    if exchange.route != SDK.label:
        return exchange.path, exchange.route if exchange.route != "none" else None
    target = surroundings.sdk_target if exchange.failure != "NOT_FOUND" else None
    return target, target


def _sdk_attributes(exchange: Exchange) -> Iterator[tuple[str, str]]:
    sdk = exchange.sdk
    assert sdk is not None
    yield "alipayplus.scene", sdk.scene_label
    yield "alipayplus.result_status", sdk.result_status
    yield "alipayplus.result_code", sdk.result_code
    yield "alipayplus.result_source", sdk.source
    yield "alipayplus.sent", sdk.sent


def _server_error(exchange: Exchange) -> str | None:
    """Return why the request counts as failed, in few words of which there are few; None for what is the client's fault."""
    code = exchange.failure
    if code is not None:
        return code if FAILURES[code].http_status >= _SERVER_ERROR else None
    if not exchange.status:
        return exchange.reason or "unanswered"
    if exchange.status < _SERVER_ERROR:
        return None
    label = exchange.sdk.code_label if exchange.sdk is not None else "other"
    return label if label != "other" else str(exchange.status)


def _failed_phase(exchange: Exchange) -> str | None:
    candidates = _FAILED_IN.get(exchange.failure or "", ())
    return next((phase for phase in candidates if phase in exchange.phases), None)


def _phase(phase: str, exchange: Exchange, surroundings: Surroundings) -> tuple[Kind, str, Attributes]:
    """Return what kind of span a phase is, its id, and its attributes. Of one that calls nobody, nobody has been told the id."""
    if phase == "session":
        return _session(exchange, surroundings)
    if phase == "alipayplus" and exchange.endpoint is not None:
        url = f"https://{exchange.endpoint.removesuffix(':443')}{surroundings.alipayplus_uri}"
        return "client", urandom(8).hex(), _answered(call_attributes("POST", exchange.endpoint, url), exchange.peer_status)
    if phase == "upstream" and exchange.endpoint is not None:
        attributes = call_attributes(_method(exchange), exchange.endpoint, exchange.peer_url)
        if exchange.resends:
            attributes["http.request.resend_count"] = exchange.resends
        return "client", exchange.upstream_span_id, _answered(attributes, exchange.peer_status)
    return "internal", urandom(8).hex(), {}


def _session(exchange: Exchange, surroundings: Surroundings) -> tuple[Kind, str, Attributes]:
    """Return it as a call if this request made one: it may have shared another's."""
    shown: Attributes = {"gateway.session.outcome": exchange.session_outcome, "gateway.session.source": exchange.session_source}
    if exchange.session_source != "call":
        return "internal", exchange.session_span_id, shown
    if exchange.session_status is not None:
        shown["http.response.status_code"] = exchange.session_status  # none of them is an error in itself: the outcome says what it means
    return "client", exchange.session_span_id, {**surroundings.session_call, **shown}


def call_attributes(method: str, endpoint: str, url: str | None) -> Attributes:
    """Return what a call to an endpoint (`host:port` or `unix:PATH`) is described by."""
    host, _, port = endpoint.rpartition(":")
    attributes: Attributes = {"http.request.method": method, "network.protocol.version": VERSION}
    attributes |= {"server.address": port} if host == "unix" else {"server.address": host.strip("[]"), "server.port": int(port)}
    return {**attributes, "url.full": url} if url is not None else attributes


def _answered(attributes: Attributes, status: int | None) -> Attributes:
    if status is not None:
        attributes["http.response.status_code"] = status
        if status >= _ERROR:
            attributes["error.type"] = str(status)
    return attributes


def _method(exchange: Exchange) -> str:
    method = method_label(exchange.method)
    return "_OTHER" if method == "other" else method
