"""What has come of requests that cannot begin yet is refused where there is no memory for it, with both loops."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec

from gateway.edge.connection import Connection
from gateway.edge.turns import AT_ONCE, Turns
from tests.edge.conftest import Edge, StartEdge
from tests.edge.shedder import Rig
from tests.edge.test_reading import Client

HEAD = b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
REQUEST = HEAD + b"\r\n"
LAST = HEAD + b"Connection: close\r\n\r\n"


class Halted:
    """A loop for turns of which the first never ends."""

    def __init__(self) -> None:
        self.next: Callable[[], object] | None = None

    def time(self) -> float:
        return 1.0

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self.next = callback


@dataclass
class Opened:
    """A connection that waits for its first request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, edge: Edge) -> Self:
        already = edge.server.open
        opened = cls(*await asyncio.open_connection("127.0.0.1", edge.port))
        while edge.server.open == already:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return opened

    async def rest(self) -> bytes:
        try:
            return await asyncio.wait_for(self.reader.read(), 10)
        finally:
            self.writer.close()


async def edge_has_unbegun(edge: Edge, count: int) -> None:
    async with asyncio.timeout(10):
        while edge.server.turns.waiting()[0] != count:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0)


def is_refusal(answer: bytes) -> bool:
    """Tell whether an answer is OVERLOADED, and the last one on its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    code: str = msgspec.json.decode(body)["resultCode"]
    return code == "OVERLOADED" and all(part in head for part in (b" 503 ", b"\r\nRetry-After: 1", b"\r\nConnection: close"))


async def test_a_head_that_does_not_end_is_refused_without_memory_for_it(start_edge: StartEdge) -> None:
    rig = Rig()
    edge = await start_edge(header_timeout=10, shedder=rig.shedder)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(HEAD)
    await asyncio.sleep(0.05)  # nothing is to happen
    rig.room = 0
    writer.write(b"X: 1\r\n")
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
    assert is_refusal(answer)
    writer.close()
    assert edge.count("gateway_rejected_total", reason="overload") == 1
    assert rig.said() == ["memory is nearly used up: refusing new requests"]


async def test_behind_a_request_in_hand_it_is_refused_after_that(start_edge: StartEdge) -> None:
    rig = Rig()
    edge = await start_edge(header_timeout=10, shedder=rig.shedder)
    client = await Opened.to(edge)
    client.writer.write(HEAD.replace(b": 0", b": 2") + b"\r\n")
    while not edge.front.in_flight:  # noqa: ASYNC110  it has no event
        await asyncio.sleep(0)
    rig.room = 0
    client.writer.write(b"{}" + HEAD)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await client.rest()) == [b"200", b"503"]


async def test_whole_requests_that_wait_before_it_are_answered_and_recorded(start_edge: StartEdge) -> None:
    rig, loop = Rig(), Halted()
    edge = await start_edge(turns=Turns(loop), shedder=rig.shedder)
    clients = [await Opened.to(edge) for _ in range(AT_ONCE + 1)]
    for client in clients[:-1]:
        client.writer.write(LAST)
        assert b" 200 " in await client.rest()
    rig.room = 0
    waiting = clients[-1]
    waiting.writer.write(REQUEST + REQUEST + HEAD)
    await edge_has_unbegun(edge, 1)
    assert loop.next is not None
    loop.next()
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await waiting.rest()) == [b"200", b"200", b"503"]


async def test_few_requests_wait_to_begin_and_more_are_refused_without_memory_for_them(start_edge: StartEdge) -> None:
    rig, loop = Rig(), Halted()
    edge = await start_edge(turns=Turns(loop), shedder=rig.shedder)
    clients = [await Opened.to(edge) for _ in range(2 * AT_ONCE + 2)]
    begun, waiting, refused, last = clients[:AT_ONCE], clients[AT_ONCE:-2], *clients[-2:]
    rig.room = 0
    for client in begun:
        client.writer.write(LAST)
        assert b" 200 " in await client.rest()
    for client in waiting:
        client.writer.write(LAST)
    await edge_has_unbegun(edge, AT_ONCE)
    refused.writer.write(REQUEST)
    assert is_refusal(await refused.reader.readuntil(b"}"))
    refused.writer.close()
    rig.room = 1000
    last.writer.write(LAST)
    await edge_has_unbegun(edge, AT_ONCE + 1)
    for _ in range(2):
        assert loop.next is not None
        loop.next()
    for client in (*waiting, last):
        assert b" 200 " in await client.rest()
    assert edge.server.turns.waiting() == (0, 0.0)


async def test_so_it_is_with_those_that_are_put_off_while_work_is_refused(start_edge: StartEdge) -> None:
    rig = Rig()
    edge = await start_edge(shedder=rig.shedder)
    rig.shedder.is_shedding = True
    rig.room = 0
    pairs = [(Connection(edge.server), Client()) for _ in range(AT_ONCE + 2)]
    for connection, client in pairs:
        connection.connection_made(client)
    await asyncio.sleep(0)
    for connection, _ in pairs:
        connection.data_received(REQUEST)
    async with asyncio.timeout(10):
        while not all(client.received.endswith(b"}") for _, client in pairs):  # noqa: ASYNC110  they have no event
            await asyncio.sleep(0)
    assert [is_refusal(client.received) for _, client in pairs if b" 200 " not in client.received] == [True, True]
    for connection, client in pairs:
        client.close()
        connection.connection_lost(None)
