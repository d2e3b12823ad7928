"""Requests and connections leave nothing behind that only the garbage collector would find."""

import asyncio
import gc
from typing import Any

import pytest
from aiohttp.streams import StreamReader

from gateway.edge.answer import Answer
from gateway.edge.connection import Connection
from gateway.edge.exchange import Exchange
from gateway.edge.request import Request
from gateway.errors import GatewayError
from tests.edge.conftest import echo
from tests.upstream.peer import until

ONE = b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
LAST = ONE.replace(b"Host", b"Connection: close\r\nHost")
CHUNKED = b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = b"GET / HTTP/9\r\n\r\n"
NO_HOST = b"GET / HTTP/1.1\r\n\r\n"
FOLDED = b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"
MANY = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 101 + b"\r\n"
CODED = CHUNKED.replace(b"chunked", b"gzip, chunked")
DOTS = ONE.replace(b"/v1", b"/../v1")


def bodies() -> list[Any]:
    """The bodies of requests that something refers to, but the client's own streams."""
    return [one for one in gc.get_objects() if type(one) is StreamReader]


@pytest.mark.parametrize(
    "requests",
    [[], [ONE], [ONE * 3], [ONE, ONE, LAST], [BAD], [NO_HOST], [FOLDED], [MANY], [ONE, CODED], [ONE, DOTS], [ONE[:30]], [ONE[:-1]]],
)
async def test_a_connection_that_has_ended_is_no_cycle(start_edge: Any, garbage: list[Any], requests: list[bytes]) -> None:
    edge = await start_edge()
    closed = asyncio.Event()
    edge.server.on_closed = lambda _: closed.set()
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    for request in requests:
        writer.write(request)
        await asyncio.sleep(0.01)
    writer.transport.abort()
    async with asyncio.timeout(10):
        await closed.wait()
    await asyncio.sleep(0.01)
    gc.collect()
    assert [one for one in garbage if isinstance(one, Connection | StreamReader)] == []


@pytest.mark.parametrize(
    "line", [b"GET /a/..%2f HTTP/1.1", b"GET http://b/ HTTP/1.1", b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked"]
)
async def test_G12_a_request_that_is_refused_for_its_head_is_no_cycle(start_edge: Any, garbage: list[Any], line: bytes) -> None:
    edge = await start_edge()
    assert (await edge.raw(line + b"\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    await until(lambda: not edge.server.connections)
    gc.collect()
    assert [one for one in garbage if isinstance(one, Connection | Exchange | GatewayError | Request)] == []


async def test_a_client_that_leaves_while_it_is_waited_for_is_let_go(start_edge: Any, garbage: list[Any]) -> None:
    async def answer_much(_request: Request, exchange: Exchange) -> Answer:
        return Answer(200, bytes(16 * 1024 * 1024), exchange.request_id)

    edge = await start_edge(answer_much)
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(ONE)
    await until(lambda: any(connection.writing_paused for connection in edge.server.connections))
    writer.transport.abort()
    await until(lambda: not edge.server.connections and not edge.front.in_flight)
    await asyncio.sleep(0.01)
    gc.collect()
    assert [one for one in garbage if isinstance(one, Connection | StreamReader)] == []


async def refuse(_request: Request, _exchange: Exchange) -> Answer:
    """Refuse a request, whose body is thrown away then."""
    raise GatewayError("NOT_FOUND", "no route")


@pytest.mark.parametrize(
    ("handler", "request_"),
    [
        pytest.param(None, ONE[:-1], id="A11-left"),
        pytest.param(None, CHUNKED + b"1\r\na\r\n", id="A11-left-between-chunks"),
        pytest.param(None, CHUNKED + b"1\r\na\r\nz", id="A3-bad-chunk"),
        pytest.param(refuse, ONE[:-1], id="A11-left-after-a-refusal"),
    ],
)
async def test_a_body_that_never_ends_is_let_go(start_edge: Any, handler: Any, request_: bytes) -> None:
    edge = await start_edge(handler) if handler else await start_edge()
    before = len(bodies())
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request_)
    await until(lambda: len(bodies()) > before)
    writer.transport.abort()
    await until(lambda: not edge.server.connections and len(bodies()) == before)


@pytest.mark.parametrize("requests", [pytest.param(1, id="A11"), pytest.param(3, id="A10")])
async def test_bodies_are_let_go_whose_client_leaves_before_they_are_read(start_edge: Any, requests: int) -> None:
    lost = asyncio.Event()

    async def read_late(request: Request, exchange: Exchange) -> Answer:
        await lost.wait()
        return await echo(request, exchange)

    edge = await start_edge(read_late)
    edge.server.on_closed = lambda _: lost.set()
    before = len(bodies())
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(ONE * requests)
    await until(lambda: len(bodies()) == before + requests)
    writer.transport.abort()
    await lost.wait()
    await until(lambda: len(bodies()) == before)


async def test_a_connection_that_waits_keeps_nothing_of_its_last_request(start_edge: Any) -> None:
    edge = await start_edge()
    before = len(bodies())
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    for _ in range(2):
        writer.write(ONE)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        await until(lambda: len(bodies()) == before)
    writer.close()
