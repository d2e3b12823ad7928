"""How many connections the operators' listener has: idle and slow clients take no descriptors from the supervisor."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiohttp import web

from gateway.admin.site import MOST, Site

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def place() -> AsyncIterator[tuple[str, int]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"x")

    async def answer_for_ever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    app = web.Application()
    app.add_routes([web.get("/", answer), web.get("/endless", answer_for_ever)])
    site = Site(app)
    await site.start()
    sock = socket.create_server(("127.0.0.1", 0))
    await site.listen(sock)
    yield sock.getsockname()
    await site.close()


async def connect(place: tuple[str, int], first: bytes) -> Stream:
    reader, writer = await asyncio.open_connection(*place)
    writer.write(first)
    return reader, writer


async def has_ended(client: Stream) -> bool:
    reader, _ = client
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            await reader.read()
    return True


async def is_answered(place: tuple[str, int]) -> bool:
    reader, writer = await connect(place, GET)
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\nx")


@pytest.mark.parametrize(
    "first", [b"", b"GET / HTTP/1.1\r\n", b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["idle", "slow-head", "slow-reader"]
)
async def test_the_oldest_connection_ends_for_one_more(place: tuple[str, int], first: bytes) -> None:
    clients = [await connect(place, first) for _ in range(MOST)]
    assert await is_answered(place)
    assert await has_ended(clients[0])
    clients += [await connect(place, first) for _ in range(MOST)]
    assert all([await has_ended(client) for client in clients[:MOST]])
    assert await is_answered(place)
    for _, writer in clients:
        writer.close()


async def test_connections_that_have_ended_count_no_more(place: tuple[str, int]) -> None:
    reader, writer = await connect(place, b"")
    for _ in range(2 * MOST):
        assert await is_answered(place)
    writer.write(GET)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
