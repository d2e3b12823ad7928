"""What a client has sent in time counts, though the event loop comes to its timers before it reads that, or we do not read it yet."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.edge.answer import Answer
from gateway.edge.exchange import Exchange
from gateway.edge.request import Request
from gateway.upstream.pieces import READ
from tests.edge.conftest import Edge
from tests.upstream.peer import hold_up, until

POST = b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\n"
LENGTH = POST + b"Content-Length: 6\r\n\r\nabc", b"def"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"


def has_begun_a_head(edge: Edge) -> bool:
    return any(connection._incoming.head for connection in edge.server.connections)


def waits(edge: Edge) -> bool:
    return any(connection.is_idle for connection in edge.server.connections)


def reads_a_body(edge: Edge) -> bool:
    return edge.front.in_flight == 1


@pytest.fixture
async def client(start_edge: Any) -> AsyncIterator[Callable[..., Any]]:
    writers = []

    async def late(before: bytes, after: bytes, is_ready: Callable[[Edge], bool], seconds: float, **limits: float) -> bytes:
        """Send these bytes, and those while the loop is held up; return the status of the answer."""
        edge = await start_edge(**limits)
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writers.append(writer)
        writer.write(before)
        await until(lambda: is_ready(edge))
        await hold_up(seconds, lambda: os.write(writer.get_extra_info("socket").fileno(), after))
        return (await asyncio.wait_for(reader.read(100), 10))[9:12]

    yield late
    for writer in writers:
        writer.close()


async def test_A7_a_head(client: Any) -> None:
    assert await client(POST, b"Content-Length: 0\r\n\r\n", has_begun_a_head, 0.5, header_timeout=0.5) == b"200"


async def test_A7_a_head_that_goes_on_and_does_not_end_is_late(client: Any) -> None:
    assert await client(POST, b"Content-Le", has_begun_a_head, 0.5, header_timeout=0.5) == b"408"


@pytest.mark.parametrize(("behind", "last"), [(b"\r\n\r\n", b"200"), (b"", b"408")])
async def test_A7_a_head_that_is_not_read_while_much_waits_before_it(start_edge: Any, behind: bytes, last: bytes) -> None:
    """Its time begins when it is read again."""

    async def slow_at_first(_request: Request, exchange: Exchange) -> Answer:
        if not edge.lines.lines:
            await asyncio.sleep(0.6)
        return Answer(200, b"{}", exchange.request_id)

    edge = await start_edge(slow_at_first, header_size=READ, header_timeout=0.3, idle_timeout=1)
    head = POST + b"X: " + b"x" * 7000
    got = await edge.raw((head + b"\r\n\r\n") * 5 + head + behind)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", got) == [b"200"] * 5 + [last]


async def test_a_request_on_an_idle_connection(client: Any) -> None:
    assert await client(b"", POST + b"Content-Length: 0\r\n\r\n", waits, 0.5, idle_timeout=0.5) == b"200"


@pytest.mark.parametrize(("before", "after"), [pytest.param(*LENGTH, id="length"), pytest.param(*CHUNKED, id="chunked")])
@pytest.mark.parametrize("seconds", [pytest.param(0.2, id="idle_timeout"), pytest.param(0.5, id="timeout")])
async def test_A8_a_body(client: Any, before: bytes, after: bytes, seconds: float) -> None:
    assert await client(before, after, reads_a_body, seconds) == b"200"


async def test_A8_a_body_that_goes_on_and_does_not_end_is_late(client: Any) -> None:
    assert await client(LENGTH[0], b"d", reads_a_body, 0.5) == b"408"
