"""Who is calling, by the login and by the way the request came, as the upstream is told."""

import re

import pytest

from gateway.config import HeaderChanges
from tests.passthrough.rig import StartRig, route
from tests.upstream.peer import Call, StartPeer

NAMES = (b"x-customer-id", b"x-customer-tier", b"x-auth-id")


async def noting(call: Call) -> None:
    while True:
        await call.read_request()
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def fields(request: bytes, *names: bytes) -> list[tuple[bytes, bytes]]:
    """Give the header fields of these names, however they are spelled."""
    lines = [line.partition(b": ")[::2] for line in request.split(b"\r\n")[1:] if line]
    return [(name, value) for name, value in lines if re.sub(rb"[^a-z0-9]", b"-", name.lower()) in names]


# Sessions on routes.


@pytest.mark.parametrize(
    ("session", "login", "status", "identity"),
    [
        ("required", b"good", 204, True),
        ("required", b"", 401, None),
        ("required", b"bad", 401, None),
        ("required", b"mad", 403, None),
        ("required", b"down", 503, None),
        ("optional", b"good", 204, True),
        ("optional", b"", 204, False),
        ("optional", b"bad", 204, False),
        ("optional", b"mad", 403, None),
        ("optional", b"down", 503, None),
        ("none", b"good", 204, False),
        ("none", b"bad", 204, False),
        ("none", b"", 204, False),
    ],
)
async def test_the_rule_of_the_route_decides(
    start_rig: StartRig, start_peer: StartPeer, session: str, login: bytes, status: int, *, identity: bool | None
) -> None:
    peer = await start_peer(noting)
    rig = await start_rig(peer.url, session=session)
    authorization = b"Authorization: " + login + b"\r\n" if login else b""
    client = await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\n" + authorization + b"\r\n")
    assert b" %d " % status in await client.head()
    assert len(rig.sessions.checked) == int(session != "none")
    if identity is None:
        assert not peer.calls
        return
    told = fields(peer.calls[0].received, *NAMES)
    assert told == ([(b"X-Customer-Id", b"customer-7"), (b"X-Customer-Tier", b"gold")] if identity else [])
    assert fields(peer.calls[0].received, b"authorization") == ([(b"Authorization", login)] if login else []), "goes on as it came"


async def test_B2_a_refusal_says_how_to_log_in_and_503_when_to_come_again(start_rig: StartRig) -> None:
    rig = await start_rig(session="required")
    client = await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: bad\r\n\r\n")
    raw = await client.until(b"}")
    assert b'\r\nWWW-Authenticate: Bearer realm="wallet"\r\n' in raw
    assert b'"resultCode":"SESSION_REQUIRED"' in raw
    client = await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: down\r\n\r\n")
    raw = await client.until(b"}")
    assert b"\r\nRetry-After: 1\r\n" in raw
    assert b'"resultCode":"SESSION_UNAVAILABLE"' in raw
    assert rig.count("gateway_session_checks_total", outcome="denied", source="call") == 1
    assert rig.count("gateway_session_checks_total", outcome="unavailable", source="call") == 1


CLAIMS = (
    b"X-Customer-Id: 1",
    b"x-customer-id: 1",
    b"X_Customer_Id: 1",
    b"X-CUSTOMER_ID: 1",
    b"X.Customer.Id: 1",
    b"X-Customer-Tier: platinum",
    b"X_Customer-Tier: platinum",
    b"X-Auth-Id: 1",
    b"X_AUTH_ID: 1",
)


@pytest.mark.parametrize("session", ["required", "optional", "none"])
async def test_G2_what_a_client_claims_is_removed_on_every_route(start_rig: StartRig, start_peer: StartPeer, session: str) -> None:
    peer = await start_peer(noting)
    rig = await start_rig(peer.url, session=session)
    claims = b"\r\n".join(CLAIMS + CLAIMS)
    client = await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n" + claims + b"\r\n\r\n")
    await client.head()
    ours = [(b"X-Customer-Id", b"customer-7"), (b"X-Customer-Tier", b"gold")]
    assert fields(peer.calls[0].received, *NAMES) == ([] if session == "none" else ours)


async def test_G3_connection_cannot_take_the_identity_away(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(noting)
    rig = await start_rig(peer.url, session="required")
    head = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\nConnection: X-Customer-Id, X-Forwarded-For, X-Request-Id\r\n\r\n"
    await (await rig.connect(head)).head()
    assert fields(peer.calls[0].received, *NAMES)[0] == (b"X-Customer-Id", b"customer-7")
    assert fields(peer.calls[0].received, b"x-forwarded-for") == [(b"X-Forwarded-For", b"127.0.0.1")]


async def test_a_route_cannot_be_had_by_another_spelling_of_its_rule(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(noting)
    rig = await start_rig(peer.url, routes=[route("/", session="none"), route("/account", session="required", methods=("GET",))])
    for line in (b"GET /account", b"GET /account?x", b"GET /account/", b"GET /account/x"):
        client = await rig.connect(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 401 " in await client.head()
    for line in (b"GET /account;x", b"GET //account", b"GET /%61ccount", b"GET /account%2fx", b"GET /x/..%2faccount"):
        client = await rig.connect(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 400 " in await client.head()
    client = await rig.connect(b"POST /account HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    assert b" 405 " in await client.head(), "a method that the route does not have falls to no weaker rule"
    assert not peer.calls


# By which way it came.

FORWARDED = (
    b"X-Forwarded-For: 6.6.6.6, 10.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\nX-Forwarded-Port: 443\r\n"
    b"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: theirs-1\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1\r\n"
)


async def test_G1_nobody_is_trusted_by_default(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(noting)
    rig = await start_rig(peer.url)
    head = await (await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"\r\n")).head()
    received = peer.calls[0].received
    assert b"6.6.6.6" not in received
    assert fields(received, b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded") == [
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a"),
    ]
    assert fields(received, b"x-real-ip") == [(b"X-Real-IP", b"127.0.0.1")]
    assert b"theirs-1" not in received + head
    (line,) = await rig.ended()
    assert line["client"] == "127.0.0.1"
    assert fields(received, b"traceparent") == [(b"traceparent", b"00-%b-%b-00" % (line["trace_id"].encode(), _span(received)))]
    assert line["trace_id"] != "0af7651916cd43dd8448eb211c80319c"
    assert not fields(received, b"tracestate")


async def test_G1_a_trusted_proxy_says_who_is_calling(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(noting)
    rig = await start_rig(peer.url, trusted=["127.0.0.0/8", "10.0.0.0/8"])
    head = await (await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\n" + FORWARDED + b"\r\n")).head()
    received = peer.calls[0].received
    assert fields(received, b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host") == [
        (b"X-Forwarded-For", b"6.6.6.6, 10.9.9.9, 127.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"public.example"),
    ]
    assert fields(received, b"x-request-id") == [(b"X-Request-Id", b"theirs-1")]
    assert b"\r\nX-Request-Id: theirs-1\r\n" in head
    assert fields(received, b"host") == [(b"Host", b"a")]
    (line,) = await rig.ended()
    assert (line["client"], line["request_id"]) == ("6.6.6.6", "theirs-1")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert fields(received, b"traceparent") == [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-%b-01" % _span(received))]
    assert _span(received) != b"b7ad6b7169203331"
    assert fields(received, b"tracestate") == [(b"tracestate", b"a=1")]


@pytest.mark.parametrize(
    "refused",
    [
        b"GET /a/../b HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a/b\r\nContent-Length: 0\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
    ],
    ids=["target", "host", "host-sdk", "coding"],
)
async def test_of_what_is_refused_too_a_trusted_proxy_says_whose_it_is(start_rig: StartRig, start_peer: StartPeer, refused: bytes) -> None:
    rig = await start_rig((await start_peer(noting)).url, trusted=["127.0.0.0/8", "10.0.0.0/8"])
    head = await (await rig.connect(refused + FORWARDED + b"\r\n")).head()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nX-Request-Id: theirs-1\r\n" in head
    (line,) = await rig.ended()
    assert (line["client"], line["request_id"]) == ("6.6.6.6", "theirs-1")


def _span(received: bytes) -> bytes:
    match = re.search(rb"traceparent: 00-[0-9a-f]{32}-([0-9a-f]{16})-", received)
    assert match
    return match[1]


@pytest.mark.parametrize("target", [b"http://evil.example/", b"//evil.example/", b"http://evil.example:80@a/"])
async def test_G6_the_upstream_never_comes_from_what_a_client_sends(start_rig: StartRig, start_peer: StartPeer, target: bytes) -> None:
    async def redirect(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await call.read_to_end()

    peer = await start_peer(redirect)
    rig = await start_rig(peer.url)
    client = await rig.connect(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 400 " in (head := await client.head()) or b" 302 " in head
    assert all(call.received.startswith(b"GET //evil.example/ ") for call in peer.calls)


# Header rules.


async def test_header_rules_hold_both_ways(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nServer: x\r\nCache-Control: public\r\nVary: A\r\nContent-Length: 0\r\n\r\n")
        await call.read_to_end()

    peer = await start_peer(script)
    rig = await start_rig(
        peer.url,
        request_headers=HeaderChanges(set={"X-Gateway": "alipayplus"}, add={"Accept": "b"}, remove=("X-Debug",)),
        response_headers=HeaderChanges(set={"Cache-Control": "private"}, add={"Vary": "B"}, remove=("Server",)),
    )
    client = await rig.connect(b"GET / HTTP/1.1\r\nHost: a\r\nx_gateway: mine\r\nAccept: a\r\nX-DEBUG: 1\r\n\r\n")
    head = await client.head()
    received = peer.calls[0].received
    assert fields(received, b"x-gateway") == [(b"X-Gateway", b"alipayplus")]
    assert fields(received, b"accept") == [(b"Accept", b"a"), (b"Accept", b"b")]
    assert not fields(received, b"x-debug")
    assert fields(head, b"cache-control") == [(b"Cache-Control", b"private")]
    assert fields(head, b"vary") == [(b"Vary", b"A"), (b"Vary", b"B")]
    assert not fields(head, b"server")
