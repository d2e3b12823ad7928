"""TLS on both sides of the gateway: the same streams, the same WebSockets, the same ends."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.config import Tls
from tests.passthrough.rig import GET, IMPATIENT, Client, StartRig
from tests.passthrough.test_garbage import STREAM, found, then_silent
from tests.passthrough.test_tunnel import ASK, SWITCH, switch
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import Call, StartPeer, until

SIZE = 8 << 20


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.ca))


@pytest.fixture
def encrypted(authority: Authority, server_pair: Pair) -> tuple[Pair, ssl.SSLContext, Tls]:
    """What servers show, what clients trust, and what the gateway is told to trust."""
    return server_pair, trusting(authority), Tls(ca=Path(authority.ca))


async def test_bodies_stream_both_ways_over_TLS(
    start_rig: StartRig, start_peer: StartPeer, authority: Authority, server_pair: Pair
) -> None:
    data = bytes(range(256)) * (SIZE // 256)

    async def script(call: Call) -> None:
        await call.read_head()
        assert await call.reader.readexactly(SIZE) == data
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + data)
        await call.read_to_end()

    peer = await start_peer(script, tls=server_pair.server_context())
    settings = {"tls": Tls(ca=Path(authority.ca))}
    rig = await start_rig(f"https://127.0.0.1:{peer.port}", settings=settings, tls=server_pair.server_context())
    client = Client(*await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusting(authority), limit=1 << 24))
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + data)
    await client.head()
    await asyncio.sleep(0.2)  # a slow reader
    assert await client.read(SIZE) == data
    client.close()
    assert b"\r\nX-Forwarded-Proto: https\r\n" in peer.calls[0].received


async def test_a_websocket_over_TLS_goes_through(start_rig: StartRig, authority: Authority, server_pair: Pair) -> None:
    closed = asyncio.Event()

    async def echo(connection: ServerConnection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        closed.set()

    server = await serve(echo, "127.0.0.1", 0, ssl=server_pair.server_context(), max_size=SIZE)
    port = next(iter(server.sockets)).getsockname()[1]
    settings = {"tls": Tls(ca=Path(authority.ca))}
    rig = await start_rig(f"https://127.0.0.1:{port}", settings=settings, tls=server_pair.server_context())
    async with connect(f"wss://127.0.0.1:{rig.port}/", ssl=trusting(authority), max_size=SIZE) as websocket:
        for message in ("text", b"x" * SIZE):
            await websocket.send(message)
            assert await websocket.recv() == message
    await asyncio.wait_for(closed.wait(), 5)
    websocket = await connect(f"wss://127.0.0.1:{rig.port}/", ssl=trusting(authority))
    websocket.transport.abort()
    await rig.ended(2)
    server.close()
    await server.wait_closed()


async def test_D7_the_end_of_a_websocket_over_TLS_is_no_warning(
    start_rig: StartRig, start_peer: StartPeer, authority: Authority, server_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        if await call.read(3) == b"bye":
            await call.read_to_end()

    peer = await start_peer(script, tls=server_pair.server_context())
    settings = {"tls": Tls(ca=Path(authority.ca))}
    rig = await start_rig(f"https://127.0.0.1:{peer.port}", settings=settings, tls=server_pair.server_context())
    for sent, reason in ((b"bye", "client closed"), (b"end", "upstream closed")):
        client = Client(*await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusting(authority)))
        client.send(ASK)
        await client.head()
        client.send(sent)
        if sent == b"end":
            assert await client.rest() == b""
        client.close()
        assert (await rig.ended(len(peer.calls)))[-1]["reason"] == reason
    assert caplog.messages == []


async def test_D2_an_answer_that_breaks_off_is_cut_off_over_TLS(
    start_rig: StartRig, start_peer: StartPeer, authority: Authority, server_pair: Pair
) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await call.writer.drain()
        call.cut()  # without TLS's own end: somebody on the way may have cut it

    peer = await start_peer(script, tls=server_pair.server_context())
    settings = {"tls": Tls(ca=Path(authority.ca))}
    rig = await start_rig(f"https://127.0.0.1:{peer.port}", settings=settings, tls=server_pair.server_context())
    client = Client(*await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusting(authority)))
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    with suppress(ConnectionResetError, ssl.SSLError):
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
    client.close()
    (line,) = await rig.ended()
    assert line["reason"].startswith("upstream: ")


async def test_A9_a_reader_over_TLS_that_takes_nothing_is_cut_off(
    start_rig: StartRig, start_peer: StartPeer, authority: Authority, server_pair: Pair
) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            call.write(b"x" * 100_000)
            await call.writer.drain()

    peer = await start_peer(script)
    rig = await start_rig(peer.url, limits=IMPATIENT, tls=server_pair.server_context())
    client = Client(*await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusting(authority), limit=1024))
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (line,) = await rig.ended()
    assert line["reason"] == "slow_reader"
    client.reset()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", STREAM, SWITCH], ids=["whole", "stream", "websocket"]
)
async def test_nothing_is_left_to_the_garbage_collector_over_TLS(
    start_rig: StartRig, start_peer: StartPeer, encrypted: tuple[Pair, ssl.SSLContext, Tls], garbage: list[Any], answer: bytes
) -> None:
    server_pair, trusted, tls = encrypted
    peer = await start_peer(then_silent(answer), tls=server_pair.server_context())
    rig = await start_rig(f"https://127.0.0.1:{peer.port}", settings={"tls": tls}, tls=server_pair.server_context())
    client = Client(*await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusted))
    client.send(ASK if answer == SWITCH else GET)
    await client.head()
    client.reset()
    await rig.ended()
    await until(lambda: not rig.edge.open)
    await rig.pools["wallet"].close()
    assert found(garbage) == set()


async def test_D7_an_upstream_that_has_ended_before_the_client_took_the_101(
    start_rig: StartRig, start_peer: StartPeer, encrypted: tuple[Pair, ssl.SSLContext, Tls]
) -> None:
    is_slow = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        await is_slow.wait()
        call.write(SWITCH + b"last")

    server_pair, _, tls = encrypted
    peer = await start_peer(script, tls=server_pair.server_context())
    rig = await start_rig(f"https://127.0.0.1:{peer.port}", settings={"tls": tls})
    client = await rig.connect(ASK)
    await until(lambda: any(call.received for call in peer.calls))
    (connection,) = rig.edge.connections
    connection.pause_writing()
    is_slow.set()
    await until(lambda: not rig.pools["wallet"].open)
    connection.resume_writing()
    assert (await client.rest()).endswith(b"\r\n\r\nlast")
    (line,) = await rig.ended()
    assert (line["status"], line["reason"]) == (101, "upstream closed")
