"""However the bytes of a connection come, they are the same requests."""

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.answer import Answer
from gateway.edge.body import BodyLimits, read_body
from gateway.edge.connection import PIPELINED, PIPELINED_SIZE, Connection
from gateway.edge.exchange import Exchange, Recorder
from gateway.edge.front import Front
from gateway.edge.request import Request
from gateway.edge.server import EdgeServer, ServerLimits
from gateway.edge.turns import Turns
from gateway.telemetry.metrics import Metrics
from tests.edge.conftest import unknown
from tests.lines import Lines

PATH = b"/alipayplus/v1/sdkProxy"


class Client(asyncio.Transport):
    """A client whose bytes come piece by piece, and as fast as they are read. Keeps what is written to it."""

    def __init__(self) -> None:
        self._socket, self._other = socket.socketpair()  # which nothing comes by
        super().__init__({"socket": self._socket})
        self.received = b""
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.received += bytes(data)

    def close(self) -> None:
        self.is_closed = True
        self.may_send.set()
        self._socket.close()
        self._other.close()

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.may_send.clear()

    def resume_reading(self) -> None:
        self.may_send.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


async def echo(request: Request, exchange: Exchange) -> Answer:
    body = await read_body(request, BodyLimits(1 << 20, 10, 10))
    return Answer(200, b"%d" % len(body), exchange.request_id)


async def answers(pieces: Sequence[tuple[bytes, bool]]) -> list[bytes]:
    """Give a connection these pieces, after some of them time to handle what has come; return the status of each answer, and its echo."""
    metrics, log = Metrics(), structlog.testing.CapturingLogger()
    recorder, loop = Recorder(metrics, Lines()), asyncio.get_running_loop()
    front = Front("/alipayplus", echo, recorder, metrics, log)
    edge = EdgeServer(front.handle, ServerLimits(2048, 10, 10), recorder, metrics, front.unknown_method(unknown), turns=Turns(loop))
    connection, client = Connection(edge), Client()
    connection.connection_made(client)
    for piece, rests in pieces:
        await client.may_send.wait()
        if client.is_closed:
            break
        connection.data_received(piece)
        for _ in range(5 if rests else 0):
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while not (client.is_closed or connection.is_idle):  # noqa: ASYNC110  neither has an event
            await asyncio.sleep(0)
    client.close()
    connection.connection_lost(None)
    return re.findall(rb"HTTP/1\.1 ([0-9]+) |\r\n\r\n([0-9]+)", client.received)


def post(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, len(body)) + body


WHOLE: list[tuple[bytes, Sequence[tuple[bytes, bytes]]]] = [
    (b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", [(b"404", b"")]),
    (b"\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", [(b"404", b"")]),
    (post(PATH, b"a\r\n\r\nGET / HTTP/1.1\r\n\r\n"), [(b"200", b""), (b"", b"23")]),
    (post(PATH, b"x" * 40_000), [(b"200", b""), (b"", b"40000")]),
    (post(b"/a", b"x" * 100), [(b"404", b"")]),
]
LAST: list[tuple[bytes, Sequence[tuple[bytes, bytes]]]] = [
    (b"", []),
    (b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" % PATH, [(b"200", b""), (b"", b"3")]),
    (b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" % PATH, [(b"400", b"")]),
    (b"GET /a  HTTP/1.1\r\nHost: a\r\n\r\n", [(b"400", b"")]),
    (b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", [(b"400", b"")]),
    (b"GET /a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2048, [(b"431", b"")]),
    (b"FOO /a HTTP/1.1\r\nHost: a\r\n\r\n", [(b"404", b"")]),
]


async def test_few_bytes_are_read_of_requests_that_wait_behind_another() -> None:
    metrics, log, may_go_on = Metrics(), structlog.testing.CapturingLogger(), asyncio.Event()

    async def wait(_request: Request, exchange: Exchange) -> Answer:
        await may_go_on.wait()
        return Answer(200, b"", exchange.request_id)

    recorder, loop = Recorder(metrics, Lines()), asyncio.get_running_loop()
    front = Front("/alipayplus", wait, recorder, metrics, log)
    edge = EdgeServer(front.handle, ServerLimits(16_384, 10, 10), recorder, metrics, front.unknown_method(unknown), turns=Turns(loop))
    connection, client = Connection(edge), Client()
    connection.connection_made(client)
    one, sent = b"GET %b HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (PATH, b"x" * 8000), 0
    while sent < PIPELINED:
        if not client.may_send.is_set():
            assert sent <= 1 + PIPELINED_SIZE // len(one) + 1
            may_go_on.set()
        await asyncio.wait_for(client.may_send.wait(), 10)
        connection.data_received(one)
        sent += 1
        for _ in range(5):
            await asyncio.sleep(0)
    assert may_go_on.is_set()
    async with asyncio.timeout(10):
        while not connection.is_idle:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0)
    assert client.received.count(b"HTTP/1.1 200 ") == PIPELINED
    client.close()
    connection.connection_lost(None)


@given(
    st.lists(st.sampled_from(WHOLE), max_size=PIPELINED * 2),
    st.sampled_from(LAST),
    st.lists(st.tuples(st.integers(1, 50_000), st.booleans())),
)
def test_requests_are_answered_alike_however_they_are_cut(
    whole: Sequence[tuple[bytes, Any]], last: tuple[bytes, Any], cuts: Sequence[tuple[int, bool]]
) -> None:
    parts = [*whole, last]
    data, pieces = b"".join(part for part, _ in parts), []
    for size, rests in cuts:
        if data:
            pieces.append((data[:size], rests))
            data = data[size:]
    if data:
        pieces.append((data, True))
    assert asyncio.run(answers(pieces)) == [answer for _, expected in parts for answer in expected]


@given(st.sampled_from(LAST), st.booleans())
def test_requests_are_answered_alike_when_they_come_byte_by_byte(last: tuple[bytes, Any], rests: bool) -> None:  # noqa: FBT001  hypothesis gives it
    parts = [WHOLE[0], WHOLE[2], WHOLE[1], last]
    pieces = [(data[at : at + 1], rests) for data, _ in parts for at in range(len(data))]
    assert asyncio.run(answers(pieces)) == [answer for _, expected in parts for answer in expected]


@pytest.mark.parametrize(
    ("path", "status", "reason"), [(PATH, 499, "client_abort"), (b"/elsewhere", 404, "no route")], ids=["read", "discarded"]
)
async def test_A11_a_connection_that_a_fault_of_TLS_ends_in_a_body_is_one_whose_client_left(path: bytes, status: int, reason: str) -> None:
    metrics, lines, log = Metrics(), Lines(), structlog.testing.CapturingLogger()
    recorder, loop = Recorder(metrics, lines), asyncio.get_running_loop()
    front = Front("/alipayplus", echo, recorder, metrics, log)
    edge = EdgeServer(front.handle, ServerLimits(2048, 10, 10), recorder, metrics, front.unknown_method(unknown), turns=Turns(loop))
    connection, client = Connection(edge), Client()
    connection.connection_made(client)
    serving = connection._task
    assert serving is not None
    connection.data_received(post(path, b"x" * 900)[:-800])
    for _ in range(5):
        await asyncio.sleep(0)
    assert connection._request is not None
    client.close()
    connection.connection_lost(ssl.SSLError(1, "wrong version number"))
    await asyncio.wait_for(serving, 10)
    assert [(line["status"], line["reason"]) for line in lines.lines] == [(status, reason)]
    assert log.calls == []
