"""A request body on its way to the upstream: piece by piece, with 100 Continue, and where the answer comes before it has."""

import asyncio

import pytest

from gateway.edge.body import BodyTimeout
from gateway.passthrough.forward import Forward
from tests.passthrough.rig import IMPATIENT, StartRig, reading_all, reset_when_asked
from tests.upstream.peer import Call, StartPeer, until


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


@pytest.mark.parametrize(
    ("framing", "body"), [(b"Content-Length: 6", b"abcdef"), (b"Transfer-Encoding: chunked", b"6\r\nabcdef\r\n0\r\n\r\n")]
)
async def test_an_upstreams_connection_is_kept_after_a_body_that_came_slowly(
    start_rig: StartRig, start_peer: StartPeer, framing: bytes, body: bytes
) -> None:
    heads = asyncio.Queue[bytes]()

    async def script(call: Call) -> None:
        for _ in range(2):
            heads.put_nowait(await call.read_head())
            await call.read(len(body))
            call.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await call.read_to_end()

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect()
    for _ in range(2):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        await heads.get()
        client.send(body)
        assert b" 204 " in await client.head()
        await until(lambda: rig.pools["wallet"].idle == 1)
    assert len(peer.calls) == 1


async def test_an_upstream_that_is_gone_when_the_head_is_sent_is_502(start_rig: StartRig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await reset_when_asked(start_rig, monkeypatch)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    assert b" 502 " in await client.head()


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


async def test_an_answer_that_comes_instead_of_a_100_is_not_cut_because_no_body_follows(
    start_rig: StartRig, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_stopped = asyncio.Event()

    class Stopped(BodyTimeout):
        def __init__(self, reason: str) -> None:
            super().__init__(reason)
            has_stopped.set()

    monkeypatch.setattr("gateway.passthrough.upload._ASKED_WITHIN", 0.0)
    monkeypatch.setattr("gateway.passthrough.upload.BodyTimeout", Stopped)

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await has_stopped.wait()
        call.write(b"2\r\nok\r\n0\r\n\r\n")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, limits=IMPATIENT)
    raw = await rig.raw(EXPECT)
    assert raw.endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert b"Connection: close" in raw
    (line,) = await rig.ended()
    assert line.get("reason") is None


async def test_no_100_comes_behind_an_answer_that_came_instead(
    start_rig: StartRig, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over, ask = asyncio.Event(), Forward._continue

    def time_is_over(forward: Forward) -> None:
        ask(forward)
        is_over.set()

    monkeypatch.setattr(Forward, "_continue", time_is_over)

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await is_over.wait()
        call.write(b"llo")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(EXPECT)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert await client.read(5) == b"hello"


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
    assert rig.in_hand == [0, 1, 0, 1, 0], "begun, its body awaited, no more, its answer begun; not for its body once more"


@pytest.mark.parametrize("status", [b"200 OK", b"303 See Other"])
async def test_a_body_reaches_its_upstream_behind_the_whole_answer_too(start_rig: StartRig, start_peer: StartPeer, status: bytes) -> None:
    async def script(call: Call) -> None:
        while True:
            await call.read_head()
            call.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
            await call.read(100_000)

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect()
    for count in (1, 2):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        assert b"Connection: close\r\n" not in await client.head()
        assert await client.read(2) == b"ok"
        client.send(b"x" * 100_000)
        assert (await rig.ended(count))[-1]["bytes_in"] == 100_000
    [call] = peer.calls
    assert call.received.count(b"x" * 100_000) == 2


async def test_a_body_that_its_upstream_does_not_wait_for_is_read_away(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    assert b"Connection: close\r\n" in await client.head()
    assert await client.rest() == b"ok"


async def test_a_client_that_leaves_behind_the_whole_answer_ends_its_body(start_rig: StartRig, start_peer: StartPeer) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await call.read_to_end()
        ended.set()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    await client.head()
    assert await client.read(2) == b"ok"
    client.close()
    await asyncio.wait_for(ended.wait(), 5)
    (line,) = await rig.ended()
    assert (line["status"], line["reason"]) == (200, "client_abort")


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_an_early_refusal_reaches_a_client_that_is_still_sending(start_rig: StartRig, start_peer: StartPeer, expect: bytes) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 100 Continue\r\n\r\n" if expect else b"")
        await call.read(1000)
        call.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\n" + expect + b"Content-Length: 100000\r\n\r\n")
    if expect:
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"x" * 1000)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 413 Too Large\r\n")
    assert b"Connection: close\r\n" in head
    assert await client.read(3) == b"big"
    client.send(b"x" * 99000)
    assert await client.rest() == b"", "read away"
    (line,) = await rig.ended()
    assert (line["status"], line.get("reason"), line["bytes_in"]) == (413, None, 1000)


@pytest.mark.parametrize(("framing", "is_last"), [(b"Content-Length: 11", False), (b"Transfer-Encoding: chunked", True)])
async def test_behind_an_answer_that_comes_before_the_end_of_chunks_the_client_is_told_to_send_no_more(
    start_rig: StartRig, start_peer: StartPeer, framing: bytes, *, is_last: bool
) -> None:
    """What follows such an end may be taken for a part of it (`gateway.edge.incoming`)."""
    come = asyncio.Queue[bytes]()

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        come.put_nowait(await call.read(11))

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n1\r\na\r\n")
    assert (b"\r\nConnection: close\r\n" in await client.head()) == is_last
    client.send(b"0\r\n\r\n")
    assert await asyncio.wait_for(come.get(), 5) == b"1\r\na\r\n0\r\n\r\n", "all the same, the upstream may count on it"


async def test_a_body_that_is_refused_goes_no_further(start_rig: StartRig, start_peer: StartPeer) -> None:
    go_on, behind = asyncio.Event(), asyncio.Queue[bytes]()

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nb")
        await go_on.wait()
        call.write(b"ig")
        behind.put_nowait(await call.read_to_end())

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    await client.head()
    client.send(b"x" * 10)
    [connection] = rig.edge.connections
    await until(lambda: connection._request is not None and connection._request.content.total_bytes == 10)
    go_on.set()
    assert await client.read(3) == b"big"
    assert await asyncio.wait_for(behind.get(), 5) == b""
