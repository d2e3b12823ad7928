"""What goes to the upstream, and what comes back, to the byte."""

import asyncio
import re

import pytest

from tests.passthrough.rig import GET, StartRig, answering, reading_all, route
from tests.upstream.peer import Call, StartPeer, until

OURS = re.compile(rb"(?:X-Forwarded-[A-Za-z]+|X-Real-IP|X-Request-Id|traceparent): [^\r]*\r\n")


def without_ours(data: bytes) -> bytes:
    """Leave out what the gateway adds of its own."""
    return OURS.sub(b"", data)


# The request, as the upstream gets it.


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        pytest.param(GET, GET, id="plain"),
        pytest.param(b"GET /a%2Fb//c;d?x=%zz&&= HTTP/1.1\r\nHost: a\r\n\r\n", None, id="G4-target-byte-for-byte"),
        pytest.param(b"GET /? HTTP/1.1\r\nHost: a\r\n\r\n", None, id="empty-query"),
        pytest.param(
            b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n", id="A4-absolute-form-of-our-own"
        ),
        pytest.param(b"DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", None, id="delete"),
        pytest.param(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", None, id="options"),
        pytest.param(b"PROPFIND /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None, id="other-methods"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", None, id="length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None, id="length-0"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            id="A2-length-computed",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", None, id="no-length"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", None, id="get-with-a-body"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTRANSFER-encoding: Chunked\r\nHost: a\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            id="chunked-anew",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None, id="chunked-and-empty"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x00\xff", None, id="coded-body"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\nAccept: x\r\naccept: y\r\n\r\n", None, id="repeated"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: M\xc3\xbcller \xff\r\n\r\n", None, id="bytes-beyond-ASCII"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-Empty: \r\n\r\n", id="empty-value"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nTE: trailers\r\nX-End: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-End: 1\r\n\r\n",
            id="G3-hop-by-hop",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: DELETE\r\nX-Original-URL: /alipayplus\r\nX-Rewrite-URL: /x\r\n\r\n",
            GET,
            id="G5-overrides",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Customer-Id: 1\r\nx_customer_id: 1\r\nX-CUSTOMER_ID : 1\r\n\r\n".replace(b" :", b":"),
            GET,
            id="G2-claimed-identity",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Auth-Id: 1\r\nX.Customer.Tier: gold\r\nX-Customer-Tier: gold\r\n\r\n", GET, id="G2-all-names"
        ),
        pytest.param(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", GET, id="HTTP-1.0"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", GET, id="the-client's-close-is-the-client's"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
            GET,
            id="A15-h2c-is-ignored",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-maybe\r\n\r\n", GET, id="another-expectation"),
    ],
)
async def test_the_request_on_the_wire(start_rig: StartRig, start_peer: StartPeer, sent: bytes, received: bytes | None) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url)
    client = await rig.connect(sent)
    await client.head()
    assert without_ours(peer.calls[0].received) == (received or sent)


async def test_a_client_without_host_gets_the_upstreams(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url)
    await (await rig.connect(b"GET / HTTP/1.0\r\n\r\n")).head()
    assert b"Host: 127.0.0.1:%d\r\n" % peer.port in peer.calls[0].received


async def test_host_is_the_upstreams_by_configuration(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url, settings={"host_header": "upstream"})
    await (await rig.connect(GET)).head()
    assert b"\r\nHost: 127.0.0.1:%d\r\n" % peer.port in peer.calls[0].received
    assert b"\r\nX-Forwarded-Host: a\r\n" in peer.calls[0].received


async def test_strip_prefix_cuts_the_prefix_only(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url, routes=[route("/wallet", strip_prefix=True)])
    await (await rig.connect(b"GET /wallet/a%2Fb?wallet HTTP/1.1\r\nHost: a\r\n\r\n")).head()
    assert peer.calls[0].received.startswith(b"GET /a%2Fb?wallet HTTP/1.1\r\n")


# The answer, as the client gets it.

NO_ID = b"X-Request-Id: theirs\r\n"  # so that ours is not added


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Content-Length: 5\r\n\r\nhello", None, id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="length-0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            id="chunked",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None, id="chunked-and-empty"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            id="trailers-are-left-out",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n" + NO_ID + b"\r\n", None, id="D5-204"),
        pytest.param(
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n" + NO_ID + b"\r\n",
            b"HTTP/1.1 204 No Content\r\n" + NO_ID + b"\r\n",
            id="D5-204-with-a-length",
        ),
        pytest.param(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n' + NO_ID + b"Content-Length: 9\r\n\r\n", None, id="D5-304"),
        pytest.param(
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\n" + NO_ID + b"Content-Length: 2\r\n\r\nab", None, id="range"
        ),
        pytest.param(b"HTTP/1.1 200 \r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="no-reason"),
        pytest.param(b"HTTP/1.1 299 Odd \xe9\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="odd-reason"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="D9-redirect"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="cookies"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" + NO_ID + b"Content-Length: 4\r\n\r\n\x1f\x8b\x00\xff", None, id="coded-body"
        ),
        pytest.param(b"HTTP/1.1 500 Oops\r\n" + NO_ID + b"Content-Length: 1\r\n\r\nx", None, id="error-of-the-upstream"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n"
            + NO_ID
            + b"Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n",
            id="hop-by-hop",
        ),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="D5-103"
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n",
            id="D5-100-that-nobody-asked-for",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\nVia: z\r\n" + NO_ID + b"Content-Length: 0\r\n\r\n", None, id="nothing-is-added"
        ),
    ],
)
async def test_the_answer_on_the_wire(start_rig: StartRig, start_peer: StartPeer, answer: bytes, received: bytes | None) -> None:
    peer = await start_peer(answering(answer))
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    expected = received or answer
    assert await client.read(len(expected)) == expected
    client.send(GET)
    assert await client.read(len(expected)) == expected
    await until(lambda: rig.pools["wallet"].idle == 1)
    assert len(peer.calls) == 1


async def test_a_head_is_answered_without_its_body(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))
    rig = await start_rig(peer.url)
    client = await rig.connect(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"\r\nContent-Length: 500\r\n" in await client.head()
    client.send(b"HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_the_request_id_is_in_the_answer_where_the_upstream_gives_none(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(answering(b"HTTP/1.1 204 No Content\r\n\r\n"))
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    head = await client.head()
    (line,) = await rig.ended()
    assert b"X-Request-Id: " + line["request_id"].encode() in head
    assert b"X-Request-Id: " + line["request_id"].encode() in peer.calls[0].received


async def test_an_answer_that_ends_with_its_connection_is_chunked(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(answering(b"HTTP/1.0 200 OK\r\n\r\nhello", keeps=False))
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    assert b"Transfer-Encoding: chunked" in await client.head()
    assert await client.until(b"0\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("asks", [False, True])
async def test_a_client_of_HTTP_1_0_gets_a_body_that_ends_with_the_connection(
    start_rig: StartRig, start_peer: StartPeer, *, asks: bool
) -> None:
    peer = await start_peer(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"))
    rig = await start_rig(peer.url)
    raw = await rig.raw(b"GET / HTTP/1.0\r\nHost: a\r\n" + (b"Connection: keep-alive\r\n\r\n" if asks else b"\r\n"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b"hello"
    assert b"Connection: close" in head
    assert b"Transfer-Encoding" not in head


async def test_a_client_of_HTTP_1_0_may_keep_its_connection(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(answering(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    rig = await start_rig(peer.url)
    client = await rig.connect(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), "interim answers are for HTTP/1.1"
    assert b"Connection: keep-alive\r\n" in head
    assert await client.read(2) == b"ok"
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert (await client.rest()).endswith(b"\r\n\r\nok")


async def test_each_piece_of_an_answer_is_passed_on_at_once(start_rig: StartRig, start_peer: StartPeer) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await pieces.get():
            call.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        call.write(b"0\r\n\r\n")

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(GET)
    await client.head()
    for piece in (b"data: 1\n\n", b"data: 2\n\n", b"\n"):
        pieces.put_nowait(piece)
        assert await client.until(piece + b"\r\n") == b"%x\r\n%b\r\n" % (len(piece), piece)
    pieces.put_nowait(b"")
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_D4_nothing_more_is_taken_from_the_upstream_while_the_client_is_slow(start_rig: StartRig, start_peer: StartPeer) -> None:
    size = 20_000_000

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(GET)
    await client.head()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    [upstream] = rig.pools["wallet"]._open
    await until(lambda: not upstream.transport.is_reading() and not upstream._parser.chunks)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await client.read(size)) == size


async def test_a_connection_that_waits_keeps_nothing_of_its_last_request(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(answering(b"HTTP/1.1 204 No Content\r\n\r\n"))).url)
    client = await rig.connect(GET)
    await client.head()
    await rig.ended()
    assert [connection.on_lost for connection in rig.edge.connections] == [None]


# During a drain.


async def test_F1_an_answer_during_a_drain_says_that_the_connection_ends(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(answering(b"HTTP/1.1 204 No Content\r\n\r\n"))).url)
    rig.front.draining = True
    client = await rig.connect(GET)
    assert b"\r\nConnection: close\r\n" in await client.head()
    assert await client.rest() == b""


async def test_F1_an_answer_that_a_drain_finds_under_way_leaves_its_connection_one_more_request(
    start_rig: StartRig, start_peer: StartPeer
) -> None:
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        for _ in range(2):
            await call.read_request()
            call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
            await go_on.wait()
            call.write(b"i")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(GET)
    assert b"\r\nConnection: close\r\n" not in await client.head()  # so the client may send another one at any time
    rig.front.draining = True
    go_on.set()
    assert await client.read(2) == b"hi"
    await rig.ended()
    client.send(GET)
    assert b"\r\nConnection: close\r\n" in await client.head()
    assert await client.rest() == b"hi"
