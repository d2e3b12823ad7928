"""What is done with a body that is refused unread: it is read away behind the answer, with which the request has ended."""

import asyncio
from typing import Any

import pytest

from tests.upstream.peer import until

PATH = b"/alipayplus/v1/sdkProxy"


async def test_a_refused_body_is_read_away_and_the_connection_kept(start_edge: Any) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 100)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"x" * 59900 + b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % PATH)
    assert b'{"length":0}' in await reader.read()
    writer.close()


async def test_the_request_ends_with_its_answer(start_edge: Any) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
    await reader.readuntil(b"}")
    await until(lambda: edge.lines.lines)
    assert (edge.front.in_flight, edge.lines.lines[0]["bytes_in"], edge.server.open) == (0, 100, 1)
    writer.write(b"x" * 900 + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b" 404 " in await reader.read()
    writer.close()


async def test_behind_a_refused_body_in_chunks_nothing_is_read_and_the_client_is_told(start_edge: Any) -> None:
    """Where the end of one comes with the next request, it is not told what that is (`gateway.edge.incoming`)."""
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
    assert b"\r\nConnection: close\r\n" in await reader.readuntil(b"}")
    writer.write(b"llo\r\n0\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


async def test_a_refused_body_without_end_is_cut_off(start_edge: Any) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
    assert b" 404 " in await reader.readuntil(b"\r\n\r\n")
    with pytest.raises(ConnectionError):
        await write_on(writer)
    writer.close()


async def test_A16_a_body_that_was_asked_for_is_read_away_after_a_refusal(start_edge: Any) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n" % PATH)
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"2000\r\n" + b"x" * 8192 + b"\r\n")
    assert b" 413 " in await reader.readuntil(b"}")
    assert edge.server.open == 1, "a client that still sends sees the end, and no reset"
    writer.write((b"2000\r\n" + b"x" * 8192 + b"\r\n") * 8 + b"0\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


async def test_A16_a_body_that_comes_without_being_asked_for_is_read_away_after_a_refusal(start_edge: Any) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\nExpect: 100-continue\r\n\r\n" + b"x" * 100)
    assert b" 404 " in await reader.readuntil(b"}")
    writer.write(b"x" * 59_900 + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
    assert [line["bytes_in"] for line in edge.lines.lines] == [100, 0], "until the answer"
    writer.close()


async def write_on(writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"x" * 10000)
        await writer.drain()
