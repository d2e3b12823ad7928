import asyncio
import socket
from typing import Any

import pytest

from gateway.edge.answer import Answer
from gateway.edge.exchange import Exchange
from gateway.edge.stall import StallWatch
from tests.upstream.peer import hold_up, until


class Held(asyncio.Transport):
    """A transport that holds what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 100
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted.set()


async def test_a_transport_that_sends_nothing_is_aborted() -> None:
    held, stalls = Held(), list[str]()
    StallWatch(0.05, lambda: stalls.append("stalled")).begin(held)
    await asyncio.wait_for(held.aborted.wait(), 5)
    assert stalls == ["stalled"]


async def test_what_is_sent_at_first_does_not_count_for_a_whole_timeout_more() -> None:
    """The kernel's own room, which is filled a moment after the transport has begun to hold bytes."""
    held, loop = Held(), asyncio.get_running_loop()
    began = loop.time()
    StallWatch(1.0, lambda: None).begin(held)
    await asyncio.sleep(0.05)
    held.size -= 1
    await asyncio.wait_for(held.aborted.wait(), 10)
    assert 1.0 <= loop.time() - began < 1.8


async def test_a_transport_that_sends_a_little_is_not() -> None:
    held, stalls = Held(), list[str]()
    watch = StallWatch(0.2, lambda: stalls.append("stalled"))
    watch.begin(held)
    for _ in range(10):
        held.size -= 1
        await asyncio.sleep(0.05)
    assert not stalls
    watch.end()
    await asyncio.sleep(0.3)
    assert not held.aborted.is_set()


async def test_a_transport_that_could_send_while_the_loop_was_late_is_not() -> None:
    held, loop = Held(), asyncio.get_running_loop()
    watch = StallWatch(0.2, lambda: None)
    ours, theirs = socket.socketpair()

    def send_a_little() -> None:
        loop.remove_reader(ours)
        held.size -= 1

    with ours, theirs:
        loop.add_reader(ours, send_a_little)
        watch.begin(held)
        await hold_up(0.2, lambda: theirs.send(b"x"))
        await until(lambda: held.size < 100)
    assert not held.aborted.is_set()
    await asyncio.wait_for(held.aborted.wait(), 5)


async def test_A9_a_client_that_takes_its_answer_slowly_is_not_cut_off(start_edge: Any) -> None:
    """The kernel, which holds megabytes of it, takes nothing more meanwhile. That of the client takes more whenever some of it is read.

    With a larger buffer than that it would not: it waits until a sixteenth of it is free.
    """

    async def large(_request: Any, exchange: Exchange) -> Answer:
        return Answer(200, b"x" * 20_000_000, exchange.request_id)

    edge = await start_edge(large)
    edge.server.limits = edge.server.limits.__class__(2048, 5, 5, 1)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    sock.connect(("127.0.0.1", edge.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.write(b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    for _ in range(25):
        await asyncio.wait_for(reader.readexactly(50_000), 10)
        await asyncio.sleep(0.1)
    assert not edge.lines.lines
    writer.transport.abort()


@pytest.mark.parametrize("size", [10, 20_000_000])
async def test_A9_an_answer_of_ours_that_is_not_taken_is_cut_off(start_edge: Any, size: int) -> None:
    async def large(_request: Any, exchange: Exchange) -> Answer:
        return Answer(200, b"x" * size, exchange.request_id)

    edge = await start_edge(large)
    edge.server.limits = edge.server.limits.__class__(2048, 5, 5, 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(10):
        while not edge.lines.lines:  # noqa: ASYNC110  a line has no event
            await asyncio.sleep(0.01)
    assert edge.lines.lines[0].get("reason") == ("slow_reader" if size > 10 else None)
    assert edge.count("gateway_rejected_total", reason="slow_reader") == int(size > 10)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    if size > 10:
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
    writer.transport.abort()


async def test_F1_of_an_answer_of_ours_that_a_shutdown_cuts_counts_what_was_written(start_edge: Any) -> None:
    async def large(_request: Any, exchange: Exchange) -> Answer:
        return Answer(200, b"x" * 20_000_000, exchange.request_id)

    edge = await start_edge(large)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await until(lambda: any(connection.writing_paused for connection in edge.server.connections))
    await edge.server.shutdown(0)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    _, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.transport.abort()
    (line,) = edge.lines.lines
    assert (line["status"], line["reason"], line["bytes_out"]) == (200, "shutdown", len(body))
    assert 0 < len(body) < 20_000_000
