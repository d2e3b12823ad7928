"""What goes to the upstream, and what comes back, to the byte."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.config import Duration, Size
from tests.passthrough.rig import IMPATIENT, Client, StartRig, route, upstream
from tests.upstream.peer import Call, Script, StartPeer, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OURS = re.compile(rb"(?:X-Forwarded-[A-Za-z]+|X-Real-IP|X-Request-Id|traceparent): [^\r]*\r\n")


def answering(answer: bytes, *, keeps: bool = True) -> Script:
    """Answer each request with these bytes; close afterwards unless `keeps`."""

    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(answer)
            if not keeps:
                return

    return script


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


async def reading_all(call: Call) -> None:
    """Read one request, chunked or not, and answer."""
    head = await call.read_head()
    if b"chunked" in head.lower():
        while not call.received.endswith(b"0\r\n\r\n"):
            await call.read(1)
    else:
        lengths = re.findall(rb"Content-Length: ([0-9]+)", head)
        await call.read(int(lengths[0]) if lengths else 0)
    call.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await call.read_to_end()


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


@pytest.mark.parametrize("framing", [b"Content-Length: 6", b"Transfer-Encoding: chunked"])
async def test_each_piece_of_a_request_is_passed_on_at_once(start_rig: StartRig, start_peer: StartPeer, framing: bytes) -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(call: Call) -> None:
        await call.read_head()
        while not call.received.endswith((b"abcdef", b"0\r\n\r\n")):
            data = await call.reader.read(100)
            call.received += data
            seen.put_nowait(data)
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    is_chunked = framing.startswith(b"T")
    for piece in (b"ab", b"cdef"):
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        assert await asyncio.wait_for(seen.get(), 5) == (b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
    if is_chunked:
        client.send(b"0\r\n\r\n")
    assert b" 204 " in await client.head()


# Expect: 100-continue.

EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


async def test_the_upstreams_100_is_passed_on(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        assert b"Expect: 100-continue\r\n" in await call.read_head()
        call.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await call.read(3) == b"abc"
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(EXPECT)
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert b" 204 " in await client.head()


async def test_our_own_100_comes_where_the_upstream_gives_none(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(EXPECT)
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert b" 204 " in await client.head(), "and the upstream's late one is not passed on too"


async def test_A16_a_refusal_of_the_upstream_comes_without_a_100(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
        await call.read_to_end()

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    raw = await rig.raw(EXPECT)
    assert raw.startswith(b"HTTP/1.1 417 ")
    assert raw.endswith(b"\r\n\r\nno")
    assert b"Connection: close" in raw
    assert peer.calls[0].received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"Content-Length: 3", b"401", id="A16-no-login"),
        pytest.param(b"Content-Length: 9999", b"413", id="A16-too-large"),
        pytest.param(b"Content-Length: 3\r\nAuthorization: down", b"503", id="A16-login-unknown"),
    ],
)
async def test_A16_our_own_refusal_comes_without_a_100(start_rig: StartRig, start_peer: StartPeer, head: bytes, status: bytes) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url, session="required", max_body=100)
    raw = await rig.raw(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + head + b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 " + status)
    assert not peer.calls


# Answers while the request is still coming.


async def test_an_answer_may_come_while_the_request_is_still_coming(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not call.received.endswith(b"0\r\n\r\n"):
            data = await call.reader.readuntil(b"\r\n")
            piece = await call.reader.readexactly(int(data, 16) + 2)
            call.received += data + piece
            call.write(data + piece)

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.head()
    for piece in (b"1\r\na\r\n", b"2\r\nbc\r\n", b"0\r\n\r\n"):
        client.send(piece)
        assert await client.until(piece) == piece


async def test_an_early_refusal_reaches_a_client_that_is_still_sending(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 413 Too Large\r\n")
    assert b"Connection: close\r\n" in head
    assert await client.read(3) == b"big"
    client.send(b"x" * 99000)
    assert await client.rest() == b""
    (line,) = await rig.ended()
    assert (line["status"], line.get("reason")) == (413, None)


# What fails.


async def test_D2_an_upstream_that_dies_in_the_request_is_502(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        if (await call.read_head()).startswith(b"POST "):
            await call.read(1000)
        call.reset()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + b"x" * 1000)
    raw = await client.until(b"}")
    assert failure(raw) == (502, b"UPSTREAM_CONNECTION_LOST")
    client.send(b"x" * 8000 + GET)
    assert failure(await client.until(b"}")) == (502, b"UPSTREAM_CONNECTION_LOST"), "the rest is read away and the connection kept"


async def test_an_upstream_that_takes_no_request_body_is_504(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.3)}, max_body=Size(1 << 30))
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n")
    sending = asyncio.create_task(fill(client))
    raw = await client.until(b"}")
    assert failure(raw) == (504, b"UPSTREAM_TIMEOUT")
    sending.cancel()
    (line,) = await rig.ended()
    assert line["reason"] == "upstream: takes no request body"


async def fill(client: Client) -> None:
    with suppress(ConnectionError):
        while True:
            client.send(b"x" * 100_000)
            await client.writer.drain()


def failure(raw: bytes) -> tuple[int, bytes]:
    code = re.search(rb'"resultCode":"([A-Z_]+)"', raw)
    assert code
    assert b"Cache-Control: no-store\r\n" in raw
    return int(raw.split(b" ")[1]), code[1]


async def test_D1_a_refused_connection_is_502_and_nothing_was_sent(start_rig: StartRig) -> None:
    rig = await start_rig("http://127.0.0.1:1")
    client = await rig.connect(GET)
    raw = await client.until(b"}")
    assert failure(raw) == (502, b"UPSTREAM_UNREACHABLE")
    assert b'"resultStatus":"F"' in raw
    client.send(GET)
    assert failure(await client.until(b"}")) == (502, b"UPSTREAM_UNREACHABLE")
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="unreachable") == 2


async def test_D1_no_headers_in_time_is_504_and_the_upstream_is_released(start_rig: StartRig, start_peer: StartPeer) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
        await call.read_to_end()
        ended.set()

    rig = await start_rig((await start_peer(script)).url, settings={"response_timeout": Duration(0.2)})
    client = await rig.connect(GET)
    assert await client.head() == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    raw = await client.until(b"}")
    assert failure(raw) == (504, b"UPSTREAM_TIMEOUT")
    assert b'"resultStatus":"U"' in raw
    await asyncio.wait_for(ended.wait(), 5)
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="timeout") == 1


async def test_D1_the_time_for_headers_begins_when_the_request_is_sent(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, settings={"response_timeout": Duration(0.3)})
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    for byte in (b"a", b"b", b"c", b"d"):
        await asyncio.sleep(0.15)
        client.send(byte)
    assert b" 204 " in await client.head()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(b"", b"UPSTREAM_CONNECTION_LOST", id="D2-no-answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", b"UPSTREAM_CONNECTION_LOST", id="D2-within-the-head"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-bare-LF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-NUL"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x0bb\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-control-character"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-bare-CR"),
        pytest.param(b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-name-with-space"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", b"UPSTREAM_RESPONSE_INVALID", id="D3-two-lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"UPSTREAM_RESPONSE_INVALID",
            id="D3-length-and-chunked",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-coding"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-version"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"UPSTREAM_RESPONSE_INVALID",
            id="D3-101-that-nobody-asked-for",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-large-head"),
        pytest.param(b"<html>", b"UPSTREAM_RESPONSE_INVALID", id="D3-no-HTTP"),
    ],
)
async def test_what_is_no_answer_is_502(start_rig: StartRig, start_peer: StartPeer, answer: bytes, code: bytes) -> None:
    peer = await start_peer(answering(answer, keeps=False))
    rig = await start_rig(peer.url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    raw = await client.until(b"}")
    assert failure(raw) == (502, code)
    assert b'"resultStatus":"U"' in raw
    assert len(peer.calls) == 1, "a POST is sent once"


@pytest.mark.parametrize(
    ("answer", "request_line"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", b"GET / HTTP/1.1", id="D2-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"GET / HTTP/1.1", id="D2-chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", b"GET / HTTP/1.1", id="D2-bad-chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"GET / HTTP/1.0", id="D2-until-the-end"),
    ],
)
async def test_D2_an_answer_that_breaks_off_is_cut_off(
    start_rig: StartRig, start_peer: StartPeer, answer: bytes, request_line: bytes
) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        head, _, body = answer.partition(b"\r\n\r\n")
        call.write(head + b"\r\n\r\n" + body[:8])
        await go.wait()
        call.write(body[8:])

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(request_line + b"\r\nHost: a\r\n\r\n")
    await client.head()
    go.set()
    try:
        rest = await client.rest()
    except ConnectionResetError:
        rest = b""
    else:
        assert request_line.endswith(b"1.1"), "an end would look like the end of the body"
    assert not rest.endswith(b"0\r\n\r\n")
    (line,) = await rig.ended()
    assert line["status"] == 200
    assert line["reason"].startswith("upstream: ")
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="ok") == 0


async def test_D6_a_body_that_stops_is_cut_off_at_the_idle_timeout(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.15)
            call.write(b"x")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.3)})
    client = await rig.connect(GET)
    await client.head()
    assert await client.rest() == b"xxx"
    (line,) = await rig.ended()
    assert line["reason"] == "upstream: body stopped"
    assert line["bytes_out"] == 3


def leave(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    client.reset()


@pytest.mark.parametrize("how", [leave, reset])
@pytest.mark.parametrize("when", ["before-the-answer", "in-the-answer", "in-the-request"])
async def test_D6_a_client_that_leaves_releases_the_upstream(
    start_rig: StartRig, start_peer: StartPeer, how: Callable[[Client], object], when: str
) -> None:
    released, asked = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        if when == "in-the-answer":
            call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        asked.set()
        await call.read_to_end()
        released.set()

    rig = await start_rig((await start_peer(script)).url)
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
    client = await rig.connect(body if when == "in-the-request" else GET)
    await asked.wait()
    if when == "in-the-answer":
        await client.head()
    how(client)
    await asyncio.wait_for(released.wait(), 1)
    (line,) = await rig.ended()
    assert line["reason"] == "client_abort"
    assert line["status"] == (200 if when == "in-the-answer" else 499)
    assert sum(rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome=o) for o in OUTCOMES) == 0


OUTCOMES = ("ok", "error", "timeout", "unreachable", "invalid")


@pytest.mark.parametrize("limit", [3, 4])
@pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
async def test_A6_a_body_over_the_routes_limit_is_413(start_rig: StartRig, start_peer: StartPeer, limit: int, framing: bytes) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, max_body=limit, session="required")
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n" + framing + b"\r\n\r\n")
    await asyncio.sleep(0.05)
    client.send(b"abcd" if framing.startswith(b"C") else b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 413 " if limit < 4 else b"HTTP/1.1 204 ")
    assert len(rig.sessions.checked) == int(limit == 4 or framing.startswith(b"T"))
    if limit < 4:
        assert b"Connection: close" in head
        assert rig.count("gateway_rejected_total", reason="body_too_large") == 1


async def test_A8_a_body_that_stops_is_408(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, limits=IMPATIENT)
    raw = await rig.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    assert failure(raw) == (408, b"REQUEST_TIMEOUT")
    assert rig.count("gateway_rejected_total", reason="body_timeout") == 1


# Sent again.


async def test_a_get_on_a_connection_that_has_just_ended_is_sent_again(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.read_request()  # and is gone

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    await client.head()
    client.send(GET)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert [call.received.count(b"GET /") for call in peer.calls] == [2, 1]
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="error") == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", id="method"),
        pytest.param(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", id="body"),
    ],
)
async def test_what_might_be_executed_twice_is_sent_once(start_rig: StartRig, start_peer: StartPeer, request_bytes: bytes) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.read_request()

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    await client.head()
    client.send(request_bytes)
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    assert len(peer.calls) == 1


async def test_a_get_is_not_sent_for_ever(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(answering(b"", keeps=False))
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    assert failure(await client.until(b"}")) == (502, b"UPSTREAM_CONNECTION_LOST")
    assert len(peer.calls) == 2


# Routing.


async def test_routes_lead_to_their_upstreams_and_the_rest_nowhere(start_rig: StartRig, start_peer: StartPeer) -> None:
    one, other = await start_peer(reading_all), await start_peer(reading_all)
    rig = await start_rig(
        routes=[route("/one", "one"), route("/one/other", "other", methods=("GET",))],
        upstreams={"one": upstream(one.url), "other": upstream(other.url)},
    )
    for path, status in ((b"/one", 204), (b"/one/other/x", 204), (b"/onetwo", 404), (b"/", 404), (b"/alipayplus/x", 200)):
        client = await rig.connect(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" %d " % status in await client.head()
    assert len(one.calls) == len(other.calls) == 1
    assert rig.sdk_requests == ["/alipayplus/x"]
    lines = await rig.ended(5)
    assert [line["route"] for line in lines] == ["/one", "/one/other", "none", "none", "sdk"]
    assert [line.get("path") for line in lines] == ["/one", "/one/other/x", "/onetwo", "/", None]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param(b"/api/../alipayplus/v1", 400, id="G4-dot-dot"),
        pytest.param(b"/api/%2e%2e/alipayplus/v1", 400, id="G4-encoded-dots"),
        pytest.param(b"/auth/..%2fadmin", 400, id="G4-encoded-slash"),
        pytest.param(b"/auth/%252e%252e/admin", 400, id="G4-twice"),
        pytest.param(b"/auth/..;/admin", 400, id="G4-parameter"),
        pytest.param(b"/auth\\admin", 400, id="G4-backslash"),
        pytest.param(b"/auth%5cadmin", 400, id="G4-encoded-backslash"),
        pytest.param(b"/auth/%00", 400, id="G4-NUL"),
        pytest.param(b"/auth/%c0%ae%c0%ae/admin", 400, id="G4-overlong"),
        pytest.param(b"//alipayplus/v1", 400, id="G4-slashes"),
        pytest.param(b"/%61lipayplus/v1", 400, id="G4-encoded-letter"),
        pytest.param(b"/ALIPAYPLUS/v1", 204, id="G4-case"),
        pytest.param(b"/a\xff", 400, id="G4-raw-bytes"),
        pytest.param(b"http://b/", 400, id="A4-another-authority"),
        pytest.param(b"http://u:p@a/", 400, id="A4-userinfo"),
        pytest.param(b"a:80", 400, id="A4-authority-form"),
        pytest.param(b"*", 400, id="A4-asterisk"),
    ],
)
async def test_targets_that_are_refused_before_routing(start_rig: StartRig, start_peer: StartPeer, target: bytes, status: int) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url, routes=[route("/"), route("/auth"), route("/auth/admin", session="required")])
    client = await rig.connect(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" %d " % status in await client.head()
    assert len(peer.calls) == int(status == 204)
    assert rig.sdk_requests == []
    if status == 400:
        (line,) = await rig.ended()
        assert line.get("path") is None
        assert rig.count("gateway_rejected_total", reason="bad_target") + rig.count("gateway_rejected_total", reason="bad_request") == 1


@pytest.mark.parametrize(("method", "status"), [(b"GET", 204), (b"POST", 405), (b"TRACE", 405), (b"FOO", 405), (b"CONNECT", 400)])
async def test_A18_methods_go_by_the_routes_rule(start_rig: StartRig, start_peer: StartPeer, method: bytes, status: int) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, methods=("GET",))
    target = b"a:80" if method == b"CONNECT" else b"/x"
    client = await rig.connect(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await client.head()
    assert b" %d " % status in head
    if status == 405:
        assert b"\r\nAllow: " in head
