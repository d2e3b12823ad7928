"""Exchanges whose parts are sent and read one by one: streams, early answers and tunnels."""

import asyncio
import select
import socket

import pytest

from gateway.upstream import (
    Answer,
    ConnectionLost,
    Endpoint,
    Pool,
    UpstreamError,
    request_head,
)
from tests.upstream.peer import Call, Connect, StartPeer, taken_slowly, until

HEAD = request_head("POST", b"/a?b", [(b"Host", b"peer"), (b"Content-Length", b"5")])
GET = request_head("GET", b"/a?b", [(b"Host", b"peer")])
OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"


async def test_D5_interim_heads_are_passed_on_before_the_body_is_sent(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        await call.read(5)
        call.write(HI)
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    connection.start("POST")
    connection.send(HEAD)
    first, second = await connection.read_head(), await connection.read_head()
    assert [(first.status, first.interim, first.fields), (second.status, second.interim)] == [(103, True, ((b"Link", b"x"),)), (100, True)]
    connection.send(b"12345")
    connection.finish()
    final = await connection.read_head()
    assert (final.status, final.interim, final.length, final.bodiless) == (200, False, 2, False)
    assert not connection.reusable  # as long as the body has not been read
    assert await connection.read_body() == b"hi"
    assert await connection.read_body() == b""
    assert connection.reusable


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("extra", [b"\r\n", b"x", HI], ids=["blank-line", "byte", "answer"])
async def test_C11_a_connection_with_bytes_after_an_answer_is_not_used_again(
    start_peer: StartPeer, connect: Connect, method: str, extra: bytes
) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write((OK + b"Content-Length: 2\r\n\r\n" if method == "HEAD" else HI) + extra)
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    connection.start(method)
    connection.send(request_head(method, b"/", [(b"Host", b"peer")]))
    connection.finish()
    await connection.read_head()
    while await connection.read_body():
        pass
    assert connection.complete
    assert not connection.reusable


async def test_D4_a_slow_reader_stops_the_peer(start_peer: StartPeer, connect: Connect) -> None:
    body = bytes(range(256)) * 4096 * 16

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: %d\r\n\r\n" % len(body))
        call.write(body)
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    assert await taken_slowly(connection) == body
    assert connection.reusable


async def test_D4_what_nobody_waits_for_stops_the_peer(start_peer: StartPeer, connect: Connect) -> None:
    more = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: 4\r\n\r\nab")
        await more.wait()
        call.write(b"cd")
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    connection.start("GET")
    connection.send(GET)
    connection.finish()
    await until(lambda: not connection.transport.is_reading())
    await connection.read_head()
    assert await connection.read_body() == b"ab"
    assert connection.transport.is_reading()
    more.set()
    assert await connection.read_body() == b"cd"
    assert connection.reusable


async def test_a_paused_connection_takes_nothing_until_it_is_resumed_or_used_again(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(HI)

    connection = await connect(await start_peer(script))
    connection.start("GET")
    connection.pause()
    assert not connection.transport.is_reading()
    assert connection.take_body() == b""
    connection.send(GET)
    connection.finish()
    connection.resume()
    await connection.read_head()
    await until(lambda: connection.complete)
    assert connection.take_body() == b"hi"
    connection.pause()
    assert connection.reusable
    assert (await connection.exchange(GET, limit=10, method="GET")).body == b"hi"


async def test_D4_a_slow_peer_stops_the_sender(start_peer: StartPeer, connect: Connect) -> None:
    go = asyncio.Event()
    chunk, end = b"10000\r\n%b\r\n" % (bytes(range(256)) * 256), b"0\r\n\r\n"
    total = 0

    async def script(call: Call) -> None:
        await call.read_head()
        await go.wait()
        count = 0
        while not call.reader.at_eof() and count < total:
            count += len(await call.reader.read(65536))
        call.write(HI)
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    connection.start("POST")
    connection.send(request_head("POST", b"/", [(b"Host", b"peer"), (b"Transfer-Encoding", b"chunked")]))
    stopped = False
    while not stopped:
        connection.send(chunk)
        total += len(chunk)
        draining = asyncio.ensure_future(connection.drain())
        await asyncio.sleep(0)
        stopped = not draining.done()
    assert connection.transport.get_write_buffer_size() < 4 * len(chunk)
    total += len(end)
    go.set()
    await draining
    connection.send(end)
    connection.finish()
    assert (await connection.read_head()).status == 200
    assert await connection.read_body() == b"hi"
    assert await connection.read_body() == b""
    assert connection.reusable


async def test_an_answer_before_the_request_is_whole_is_read_and_the_connection_is_not_used_again(
    start_peer: StartPeer, connect: Connect
) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    connection.start("POST")
    connection.send(HEAD + b"12")
    assert (await connection.read_head()).status == 413
    assert await connection.read_body() == b"no"
    assert await connection.read_body() == b""
    assert not connection.reusable


async def test_an_answer_before_the_peer_has_taken_the_request_leaves_no_connection_to_use_again() -> None:
    size = 32 << 20  # more than sockets hold
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = Pool(Endpoint.parse(f"http://127.0.0.1:{server.getsockname()[1]}"), idle=60, age=60, connect_timeout=10)
        connection = await pool.acquire()
        theirs, _ = server.accept()
    with theirs:
        connection.start("POST")
        connection.send(request_head("POST", b"/", [(b"Host", b"peer"), (b"Content-Length", b"%d" % size)]) + bytes(size))
        connection.finish()
        theirs.sendall(HI)
        await connection.read_head()
        assert await connection.read_body() == b"hi"
        assert connection.complete
        assert not connection.reusable
        await pool.close()


@pytest.mark.parametrize("is_whole", [False, True], ids=["streamed", "whole"])
async def test_an_answer_is_taken_though_its_peer_resets_the_connection_on_more_of_the_request(*, is_whole: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = Pool(Endpoint.parse(f"http://127.0.0.1:{server.getsockname()[1]}"), idle=60, age=60, connect_timeout=10)
        connection = await pool.acquire()
        theirs, _ = server.accept()
    outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
    if is_whole:
        connection.begin(HEAD, limit=10, done=outcome.set_result)
    else:
        connection.start("POST")
        connection.send(HEAD)
    await until(lambda: bool(select.select([theirs], [], [], 0)[0]))
    theirs.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    theirs.close()  # what it has not read makes that a reset
    connection.send(b"12345")
    if is_whole:
        answer = await outcome
        assert isinstance(answer, Answer)
        assert (answer.status, answer.body) == (413, b"no")
    else:
        assert (await connection.read_head()).status == 413
        assert await connection.read_body() == b"no"
        assert await connection.read_body() == b""
    assert not connection.reusable
    await pool.close()


async def test_a_body_that_ends_with_the_connection_is_streamed_to_its_end(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"\r\n")
        for _ in range(100):
            call.write(b"x" * 10_000)
            await call.writer.drain()

    connection = await connect(await start_peer(script))
    connection.start("GET")
    connection.send(GET)
    connection.finish()
    head = await connection.read_head()
    assert (head.length, head.bodiless) == (None, False)
    received = b""
    while data := await connection.read_body():
        received += data
    assert received == b"x" * 1_000_000
    assert not connection.reusable


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_D2_a_stream_that_breaks_off_is_an_error_after_what_has_come(start_peer: StartPeer, connect: Connect, end: str) -> None:
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await seen.wait()
        if end == "reset":
            call.reset()

    connection = await connect(await start_peer(script))
    connection.start("GET")
    connection.send(GET)
    connection.finish()
    assert (await connection.read_head()).status == 200
    assert await connection.read_body() == b"hi"
    seen.set()
    with pytest.raises(ConnectionLost):
        await connection.read_body()
    with pytest.raises(ConnectionLost):
        await connection.drain()


async def test_a_sender_who_waits_learns_that_the_connection_is_lost(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        await full.wait()
        call.reset()

    full = asyncio.Event()
    connection = await connect(await start_peer(script))
    connection.start("POST")
    connection.send(HEAD)
    while not connection._writing_paused:
        connection.send(b"x" * 65536)
        await asyncio.sleep(0)
    draining = asyncio.create_task(connection.drain())
    await asyncio.sleep(0)
    full.set()
    with pytest.raises(ConnectionLost):
        await draining
    with pytest.raises(ConnectionLost):
        await connection.read_head()


class Echo(asyncio.Protocol):
    """The gateway's end of a tunnel."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def test_D7_a_tunnel_takes_over_the_transport_and_loses_no_byte(start_peer: StartPeer, connect: Connect) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

    async def script(call: Call) -> None:
        await call.read_head()
        call.write(switch + b"first")
        call.write(b", second")
        assert await call.read(5) == b"hello"
        call.write(b", third")

    connection = await connect(await start_peer(script))
    connection.start("GET", upgrade=True)
    connection.send(GET)
    connection.finish()
    assert (await connection.read_head()).status == 101
    transport, leftover = connection.detach()
    assert not connection.reusable
    echo = Echo()
    transport.set_protocol(echo)
    transport.resume_reading()
    transport.write(b"hello")
    await echo.lost.wait()
    assert leftover + echo.received == b"first, second, third"


async def test_D8_a_refused_upgrade_can_not_be_detached(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    connection.start("GET", upgrade=True)
    connection.send(GET)
    connection.finish()
    assert (await connection.read_head()).status == 403
    with pytest.raises(RuntimeError):
        connection.detach()
    assert await connection.read_body() == b"no"
    assert await connection.read_body() == b""
    assert connection.reusable
