"""The spans of a request, made from its record alone."""

from typing import Any

import pytest

from gateway.edge.exchange import Exchange
from gateway.edge.tracing import Surroundings, call_attributes, request_spans
from gateway.telemetry.spans import Span

NOW = 1_800_000_000_000_000_000
PLACE = Surroundings(
    "https", "/alipayplus/v1/sdkProxy", call_attributes("GET", "auth.internal:443", "https://auth.internal/session"), "/uri"
)


def exchange(**fields: Any) -> Exchange:
    found = Exchange("GET", "10.0.0.1", version=(1, 1), started=100.0, route="/api", path="/api/x", status=200)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def spans(record: Exchange) -> dict[str, Span]:
    found = list(request_spans(record, PLACE, 102.5, NOW))
    return {"server": found[0]} | {span.name: span for span in found[1:]}


def test_times_count_back_from_the_end() -> None:
    found = spans(exchange(phases={"session": (100.25, 100.5), "upstream": (100.5, 102.0)}, endpoint="a:80"))
    times = {name: ((span.began - NOW) / 1e9, (span.ended - NOW) / 1e9) for name, span in found.items()}
    assert times == {"server": (-2.5, 0), "session": (-2.25, -2.0), "upstream": (-2.0, -0.5)}


@pytest.mark.parametrize(
    ("fields", "name", "error"),
    [
        pytest.param({}, "GET /api", None, id="fine"),
        pytest.param({"method": "BREW"}, "HTTP /api", None, id="unknown-method"),
        pytest.param({"route": "none", "status": 404, "failure": "NOT_FOUND"}, "GET", None, id="no-route"),
        pytest.param({"status": 503}, "GET /api", "503", id="the-upstreams-own-failure"),
        pytest.param({"status": 404}, "GET /api", None, id="the-upstreams-own-refusal"),
        pytest.param({"status": 502, "failure": "UPSTREAM_UNREACHABLE"}, "GET /api", "UPSTREAM_UNREACHABLE", id="ours"),
        pytest.param({"failure": "UPSTREAM_CONNECTION_LOST"}, "GET /api", "UPSTREAM_CONNECTION_LOST", id="D2-cut-off"),
        pytest.param({"status": 499, "reason": "client_abort"}, "GET /api", None, id="A11-client-left"),
        pytest.param({"status": 0, "reason": "shutdown"}, "GET /api", "shutdown", id="F1-cut"),
    ],
)
def test_what_counts_as_an_error(fields: dict[str, Any], name: str, error: str | None) -> None:
    server = spans(exchange(**fields))["server"]
    assert (server.name, server.attributes.get("error.type")) == (name, error)
    assert (server.error is not None) == (error is not None)
    assert server.attributes.get("http.response.status_code") == (
        fields.get("status", 200) if fields.get("status") not in (0, 499) else None
    )
    assert server.attributes.get("gateway.reason") == fields.get("reason")


@pytest.mark.parametrize(
    ("endpoint", "address", "port"),
    [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:8080", "::1", 8080), ("unix:/run/a.sock", "/run/a.sock", None)],
)
def test_where_an_upstream_is(endpoint: str, address: str, port: int | None) -> None:
    upstream = spans(exchange(phases={"upstream": (101.0, 102.0)}, endpoint=endpoint, peer_status=404))["upstream"]
    assert (upstream.attributes["server.address"], upstream.attributes.get("server.port")) == (address, port)
    assert (upstream.kind, upstream.attributes["http.response.status_code"], upstream.attributes["error.type"]) == ("client", 404, "404")


def test_a_phase_that_called_nobody_is_no_call() -> None:
    found = spans(exchange(phases={"upstream": (101.0, 101.0)}, status=503, failure="UPSTREAM_UNAVAILABLE", reason="no endpoint available"))
    assert (found["upstream"].kind, found["upstream"].error) == ("internal", "no endpoint available")


def test_a_unix_client_has_no_address_and_a_proxys_scheme_counts() -> None:
    attributes = spans(exchange(client="unix", scheme="http"))["server"].attributes
    assert ("client.address" in attributes, attributes["url.scheme"]) == (False, "http")
    assert spans(exchange())["server"].attributes["url.scheme"] == "https"
