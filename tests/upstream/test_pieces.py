"""While memory is short, each connection takes little at once, whichever way its bytes come."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config.model import Tls
from gateway.edge.receiver import Receiver
from gateway.upstream import Connection, Endpoint, request_head
from gateway.upstream.connection import BUFFER
from gateway.upstream.dial import Dialer
from gateway.upstream.pieces import LOOK, PIECE, PIECES, READ, Pieces
from gateway.upstream.tls import client_context
from gateway.upstream.wire import Wire
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import Call, StartPeer, until

GET = request_head("GET", b"/", [(b"Host", b"peer")])
BODY = bytes(1 << 20)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say whether memory is short."""

    def say(is_short: bool) -> None:  # noqa: FBT001
        monkeypatch.setattr(PIECES, "is_short", lambda: is_short)
        PIECES.count(LOOK)

    monkeypatch.setattr(PIECES, "are_small", False)
    return say


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What has come in pieces that count."""
    counted: list[int] = []
    count = PIECES.count

    def note(size: int) -> None:
        counted.append(size)
        count(size)

    monkeypatch.setattr(PIECES, "count", note)
    return counted


def test_whether_memory_is_short_is_asked_when_much_has_come() -> None:
    asked = 0

    def is_short() -> bool:
        nonlocal asked
        asked += 1
        return asked == 2

    pieces = Pieces()
    pieces.is_short = is_short
    told = []
    for size in (LOOK - PIECE, PIECE, LOOK - 1, 1, 3 * LOOK, LOOK - 1):
        pieces.count(size)
        told.append((asked, pieces.are_small))
    assert told == [(0, False), (1, False), (1, False), (2, True), (3, False), (3, False)]


async def test_clients_are_read_in_small_pieces(memory: Callable[[bool], None], counted: list[int]) -> None:
    came: list[int] = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            came.append(len(data))

    def receiver() -> Receiver:
        return Receiver(Protocol())  # type: ignore[arg-type]

    async def send(*, is_short: bool) -> int:
        memory(is_short)
        came.clear()
        counted.clear()
        server = await asyncio.get_running_loop().create_server(receiver, "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(BODY)
            await until(lambda: sum(came) == len(BODY))
            writer.close()
            await writer.wait_closed()
        assert counted == [size for size in came if size >= PIECE]
        return max(came)

    assert await send(is_short=True) == PIECE
    assert PIECE < await send(is_short=False) <= READ


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_upstream_whose_answer_nobody_takes_is_read_in_small_pieces(
    start_peer: StartPeer,
    server_pair: Pair,
    authority: Authority,
    memory: Callable[[bool], None],
    counted: list[int],
    *,
    scheme: str,
) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        await call.read_to_end()

    peer = await start_peer(script, tls=server_pair.server_context() if scheme == "https" else None)
    context: ssl.SSLContext = client_context(Tls(ca=Path(authority.ca)))

    async def held(*, is_short: bool) -> int:
        memory(is_short)
        lost = asyncio.Event()
        connection: Connection = await Dialer(Endpoint.parse(f"{scheme}://localhost:{peer.port}", tls=context)).connect(
            10, lambda _: lost.set()
        )
        counted.clear()
        connection.start("GET")
        connection.send(GET)
        connection.finish()
        await connection.read_head()
        taken = len(connection.take_body()) or len(await connection.read_body())
        connection.abort()
        await lost.wait()
        assert counted
        return taken

    assert await held(is_short=True) <= 2 * PIECE
    assert PIECE < await held(is_short=False) <= BUFFER


def test_tls_reads_small_pieces_from_its_socket(memory: Callable[[bool], None], counted: list[int]) -> None:
    class Loop:
        """What stands for the loop's TLS protocol, and for the transport of the socket."""

        protocol: object

        def is_closing(self) -> bool:
            return False

        def get_protocol(self) -> object:
            return self

        def set_protocol(self, protocol: object) -> None:
            self.protocol = protocol

        def get_buffer(self, _sizehint: int) -> memoryview:
            return memoryview(bytearray(256 * 1024))

        def buffer_updated(self, _nbytes: int) -> None:
            pass

    wire = Wire(Loop())  # type: ignore[arg-type]
    wire.begin(bytearray())
    assert len(wire.get_buffer(-1)) == READ
    memory(True)
    assert len(wire.get_buffer(-1)) == PIECE
    counted.clear()
    for size in (PIECE - 1, PIECE):
        wire.buffer_updated(size)
    assert counted == [PIECE]
