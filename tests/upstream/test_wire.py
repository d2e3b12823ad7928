"""TLS towards a peer: little of what has come is held, what comes early is not lost, nothing is left behind."""

import asyncio
import contextlib
import gc
import random
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.config.model import Tls
from gateway.upstream import Connection, Endpoint, Unreachable, request_head
from gateway.upstream.connection import SMALL
from gateway.upstream.dial import Dialer
from gateway.upstream.tls import client_context
from gateway.upstream.wire import Wire
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import Call, StartPeer, cancel_connecting, until

GET = request_head("GET", b"/", [(b"Host", b"peer")])
PIECE = bytes(16 * 1024)
LARGE = 32 * len(PIECE)
ALERT = bytes((21, 3, 3, 0, 2, 2, 80))


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return client_context(Tls(ca=authority.ca))


async def answer_large(call: Call) -> None:
    await call.read_request()
    call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    for _ in range(32):  # all are in the socket before anything is read, and this side's TLS holds no more than one
        call.write(PIECE)
    await call.read_to_end()


def resident() -> int:
    """Return the bytes of memory that this process has for itself."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


async def test_a_connection_keeps_little_of_the_memory_that_a_large_answer_took(
    start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext
) -> None:
    peer = await start_peer(answer_large, tls=server_pair.server_context())
    dialer = Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting))
    ended = asyncio.Semaphore(0)
    connections = [await dialer.connect(10, lambda _: ended.release()) for _ in range(60)]
    for connection in connections[:10]:  # what is taken once, whoever asks
        await connection.exchange(GET, limit=LARGE, method="GET")
    before = resident()
    for connection in connections[10:]:
        await connection.exchange(GET, limit=LARGE, method="GET")
    each = (resident() - before) / 50
    for connection in connections:
        connection.abort()
        await ended.acquire()
    assert each < 160 * 1024  # with all of uvloop's room in use it is 400 KiB and more; the peer's part is in it, too


async def test_tls_is_never_given_a_large_request_at_once(start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext) -> None:
    body = random.Random(1).randbytes(LARGE + 1)
    received: list[bytes] = []

    async def script(call: Call) -> None:
        received.append((await call.read_request())[-len(body) :])
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.read_to_end()

    class Transport:
        """The connection's own, which notes what it is given."""

        def __init__(self, transport: asyncio.Transport) -> None:
            self.write, self.given = self._note, list[int]()
            self._transport = transport

        def _note(self, data: bytes) -> None:
            self.given.append(len(data))
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    peer = await start_peer(script, tls=server_pair.server_context())
    lost = asyncio.Event()
    connection: Any = await Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)).connect(10, lambda _: lost.set())
    transport = connection._transport = Transport(connection._transport)
    head = request_head("POST", b"/", [(b"Host", b"peer"), (b"Content-Length", b"%d" % len(body))])
    await connection.exchange(head, body, limit=0)
    connection.abort()
    await lost.wait()
    assert received == [body]
    assert (max(transport.given), sum(transport.given)) == (SMALL, len(head) + len(body))


async def test_a_peer_that_speaks_first_has_no_connection(start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext) -> None:
    async def script(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.read_to_end()

    peer = await start_peer(script, tls=server_pair.server_context())
    lost = asyncio.Event()
    connection = await Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)).connect(10, lambda _: lost.set())
    await lost.wait()
    with pytest.raises(Unreachable, match="closed before the request"):
        await connection.exchange(GET, limit=0, method="GET")


async def test_a_peer_that_leaves_after_the_handshake_has_no_connection(
    start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext
) -> None:
    async def script(call: Call) -> None:
        pass

    peer = await start_peer(script, tls=server_pair.server_context())
    lost = asyncio.Event()

    async def use() -> None:
        connection = await Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)).connect(10, lambda _: lost.set())
        await lost.wait()
        await connection.exchange(GET, limit=0, method="GET")

    with pytest.raises(Unreachable):
        await use()


@pytest.mark.parametrize(("first", "reason"), [(b"", "closed while connecting"), (ALERT, "TLS handshake failed")])
async def test_C1_a_peer_that_leaves_before_the_handshake(trusting: ssl.SSLContext, first: bytes, reason: str) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        dialer = Dialer(Endpoint.parse(f"https://127.0.0.1:{port}", tls=trusting, server_name="localhost"))
        connecting = asyncio.create_task(dialer.connect(10, lambda _: None))
        taken = None
        while taken is None:
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                taken = server.accept()[0]
        taken.send(first)
        taken.close()
        with pytest.raises(Unreachable, match=reason):
            await connecting
    assert not faults


async def test_cancelling_at_any_turn_leaves_no_socket_behind(start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext) -> None:
    peer = await start_peer(answer_large, tls=server_pair.server_context())

    endpoint = Endpoint.parse(f"https://127.0.0.1:{peer.port}", tls=trusting, server_name="localhost")
    for turns in range(30):
        await cancel_connecting(Dialer(endpoint), turns)
    gc.collect()  # a socket that is left open is a ResourceWarning now, and so an error


@pytest.mark.usefixtures("garbage")
async def test_a_connection_that_has_ended_leaves_nothing_to_the_garbage_collector(
    start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext
) -> None:
    peer = await start_peer(answer_large, tls=server_pair.server_context())
    lost = asyncio.Event()
    connection = await Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)).connect(10, lambda _: lost.set())
    await connection.exchange(GET, limit=LARGE, method="GET")
    connection.abort()
    await lost.wait()
    del connection
    await until(lambda: not any(isinstance(one, Connection | Wire) for one in gc.get_objects()))
